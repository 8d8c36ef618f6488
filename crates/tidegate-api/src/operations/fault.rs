//! A fault of what the caller sent, by field.

/// One fault: the field (a key, a path such as `inputs[0].shape`, or a JSON pointer), and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}")]
pub(crate) struct Fault {
    pub field: String,
    pub message: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The same fault of something that lies inside `parent`.
    pub(crate) fn within(self, parent: &str) -> Self {
        let separator = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        Self { field: format!("{parent}{separator}{}", self.field), message: self.message }
    }
}

/// All faults in one line, for the `Display` of errors that carry several.
pub(crate) fn listed(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}
