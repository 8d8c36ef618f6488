//! Walking a JSON value while remembering where we are, and collecting what is wrong on the way.

use serde_json::Value;

use super::ItemFault;

/// A value and the JSON pointer to it.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub value: &'a Value,
    pub pointer: String,
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { value, pointer: String::new() }
    }

    /// The member `key`; null counts as absent, as the extension writes it so.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Node { value, pointer: self.pointer_to(key) })
    }

    /// Where the member `key` is, or would be.
    pub fn pointer_to(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }

    pub fn at(&self, index: usize, value: &'a Value) -> Node<'a> {
        Node { value, pointer: format!("{}/{index}", self.pointer) }
    }

    /// The value's JSON type, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// Faults found so far. The typed getters add one and give `None` when the value has another type.
#[derive(Default)]
pub(super) struct Faults(Vec<ItemFault>);

impl Faults {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_vec(self) -> Vec<ItemFault> {
        self.0
    }

    pub fn add(&mut self, node: &Node<'_>, message: String) {
        self.add_at(node.pointer.clone(), message);
    }

    pub fn add_at(&mut self, pointer: String, message: String) {
        self.0.push(ItemFault { pointer, message });
    }

    fn expected<T>(&mut self, node: &Node<'_>, what: &str) -> Option<T> {
        self.add(node, format!("expected {what}, got {}", node.kind()));
        None
    }

    /// The member `key`, which must be there; `hint` says what belongs in it.
    pub fn required<'a>(&mut self, node: &Node<'a>, key: &str, hint: &str) -> Option<Node<'a>> {
        let found = node.get(key);
        if found.is_none() {
            self.add_at(node.pointer_to(key), format!("missing: give {hint}"));
        }
        found
    }

    pub fn required_text(&mut self, node: &Node<'_>, key: &str, hint: &str) -> Option<String> {
        let found = self.required(node, key, hint)?;
        let text = self.text(&found)?;
        if text.trim().is_empty() {
            self.add(&found, format!("empty: give {hint}"));
            return None;
        }
        Some(text)
    }

    pub fn optional_text(&mut self, node: &Node<'_>, key: &str) -> Option<String> {
        let found = node.get(key)?;
        self.text(&found)
    }

    pub fn text(&mut self, node: &Node<'_>) -> Option<String> {
        match node.value.as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.expected(node, "a string"),
        }
    }

    pub fn number(&mut self, node: &Node<'_>) -> Option<f64> {
        match node.value.as_f64() {
            Some(number) if number.is_finite() => Some(number),
            _ => self.expected(node, "a number"),
        }
    }

    pub fn positive(&mut self, node: &Node<'_>, unit: &str) -> Option<f64> {
        let number = self.number(node)?;
        if number <= 0.0 {
            self.add(node, format!("{number} is not above 0: give {unit}"));
            return None;
        }
        Some(number)
    }

    pub fn integer(&mut self, node: &Node<'_>) -> Option<i64> {
        match node.value.as_i64() {
            Some(number) => Some(number),
            None => self.expected(node, "a whole number"),
        }
    }

    /// The entries of a list; none, with a fault, when it is something else.
    pub fn list<'a>(&mut self, node: &Node<'a>) -> Vec<Node<'a>> {
        match node.value.as_array() {
            Some(values) => values.iter().enumerate().map(|(index, value)| node.at(index, value)).collect(),
            None => self.expected(node, "a list").unwrap_or_default(),
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, node: &Node<'_>) -> Vec<String> {
        self.list(node).iter().filter_map(|entry| self.text(entry)).collect()
    }
}
