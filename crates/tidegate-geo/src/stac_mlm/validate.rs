//! Everything that can be said of an item without running its model: what the extension's schema demands, what Tidegate
//! demands, and what people trip over although it is valid.
//!
//! The schemas themselves are not here: a fault by schema says "is not valid under any of the given schemas", and an
//! author needs to know which line to change to what. That everything the schemas refuse is refused here, too, is a test.

mod assets;
mod envelope;
mod fields;
mod tensors;

use std::path::Path;

use serde_json::Value;

use super::reader::{Faults, Node};
use super::{ItemFault, ModelItem};

/// What to think of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The item is not valid, or cannot be used here.
    Error,
    /// Valid, and probably not what was meant.
    Warning,
}

/// One thing to change: where, what is wrong, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// JSON pointer (RFC 6901) to the value, or to where a missing one belongs.
    pub pointer: String,
    pub message: String,
}

/// Everything to say of an item's text and, where its folder is given, of the files that its assets name. Errors first.
pub fn validate(item: &Value, folder: Option<&Path>) -> Vec<Finding> {
    let mut report = Report::default();
    let parsed = match ModelItem::parse(item) {
        Ok(parsed) => Some(parsed),
        Err(invalid) => {
            report.errors.extend(invalid.faults);
            None
        }
    };
    let root = Node::root(item);
    if item.is_object() {
        envelope::check(&root, &mut report);
        if let Some(properties) = root.get("properties").filter(|node| node.value.is_object()) {
            fields::check_properties(&properties, &mut report);
            tensors::check(&properties, parsed.as_ref(), &mut report);
        }
        assets::check(&root, &mut report);
    }
    if let (Some(parsed), Some(folder)) = (&parsed, folder) {
        assets::check_files(parsed, folder, &mut report);
    }
    report.into_findings()
}

/// Collects; what is said once of a place is not said again.
#[derive(Default)]
struct Report {
    errors: Vec<ItemFault>,
    warnings: Vec<ItemFault>,
}

impl Report {
    fn error(&mut self, pointer: &str, message: impl Into<String>) {
        if !self.errors.iter().any(|fault| fault.pointer == pointer) {
            self.errors.push(ItemFault { pointer: pointer.to_owned(), message: message.into() });
        }
    }

    fn warn(&mut self, pointer: &str, message: impl Into<String>) {
        self.warnings.push(ItemFault { pointer: pointer.to_owned(), message: message.into() });
    }

    /// Errors by the reader's own getters.
    fn take(&mut self, faults: Faults) {
        for fault in faults.into_vec() {
            self.error(&fault.pointer, fault.message);
        }
    }

    fn into_findings(self) -> Vec<Finding> {
        let with = |severity| {
            move |fault: ItemFault| Finding { severity, pointer: fault.pointer, message: fault.message }
        };
        let errors = self.errors.into_iter().map(with(Severity::Error));
        errors.chain(self.warnings.into_iter().map(with(Severity::Warning))).collect()
    }
}
