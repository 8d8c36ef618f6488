//! Values that are made while others go on.

use std::sync::{Arc, LazyLock};

type Make<T> = Box<dyn FnOnce() -> T + Send>;

/// A value that is made on a thread of its own.
#[derive(Clone)]
pub struct Soon<T>(Arc<LazyLock<T, Make<T>>>);

impl<T: Clone + Send + Sync + 'static> Soon<T> {
    pub fn begin(make: impl FnOnce() -> T + Send + 'static) -> Self {
        let soon = Self(Arc::new(LazyLock::new(Box::new(make))));
        let begun = soon.clone();
        std::thread::spawn(move || drop(begun.get()));
        soon
    }

    /// Waits until it is there.
    pub fn get(&self) -> T {
        LazyLock::force(&self.0).clone()
    }
}
