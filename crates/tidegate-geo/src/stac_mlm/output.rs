//! What the model gives: classes, and how its numbers become probabilities.

use serde_json::Value;

use super::input::{DimOrder, dim_order, expression_text};
use super::reader::{Faults, Node};

/// The one output of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpec {
    pub name: String,
    pub activation: Activation,
    /// Whether the item says so. The extension lets null be left out, and then nobody can tell whether its author thought
    /// of it.
    pub activation_is_said: bool,
    /// May be empty.
    pub classes: Vec<Class>,
    /// A binary model's pixel is positive from this probability on.
    pub threshold: f32,
    /// Channels of the result where the item fixes them.
    pub channels: Option<usize>,
    /// The order of the result's axes where it is an image.
    pub dim_order: Option<DimOrder>,
}

/// What turns the model's output into probabilities. Known from the item, never guessed from the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The model ends in its own activation.
    AlreadyProbability,
    Sigmoid,
    Softmax,
}

impl Activation {
    /// As it is written into items, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlreadyProbability => "none",
            Self::Sigmoid => "sigmoid",
            Self::Softmax => "softmax",
        }
    }
}

/// One entry of `classification:classes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The channel index (or, for a binary model, 0 or 1) that means this class.
    pub value: i64,
    pub name: String,
    pub description: Option<String>,
    /// Red, green, blue.
    pub color: Option<[u8; 3]>,
}

/// For items that name none.
const DEFAULT_THRESHOLD: f32 = 0.5;

/// `None` only with a fault recorded.
pub(super) fn read(properties: &Node<'_>, faults: &mut Faults) -> Option<OutputSpec> {
    let list = faults.required(properties, "mlm:output", "a list with the model's one output")?;
    let outputs = faults.list(&list);
    let [output] = outputs.as_slice() else {
        if list.value.is_array() {
            faults.add(
                &list,
                format!(
                    "expected one output, got {}: models of several outputs are not supported",
                    outputs.len()
                ),
            );
        }
        return None;
    };
    let name = faults.required_text(output, "name", "the output's name");
    if let Some(tasks) = faults.required(output, "tasks", "such as [\"semantic-segmentation\"]") {
        faults.texts(&tasks);
    }
    let activation = read_activation(output, faults);
    let classes = read_classes(output, faults);
    let (channels, dim_order) =
        match faults.required(output, "result", "an object with shape, dim_order and data_type") {
            Some(result) => read_result(&result, faults),
            None => (None, None),
        };
    Some(OutputSpec {
        name: name?,
        activation: activation?,
        activation_is_said: output.value.get("post_processing_function").is_some(),
        classes,
        threshold: threshold(properties),
        channels,
        dim_order,
    })
}

fn read_result(result: &Node<'_>, faults: &mut Faults) -> (Option<usize>, Option<DimOrder>) {
    let dims =
        faults.required(result, "dim_order", "such as [\"batch\", \"channel\", \"height\", \"width\"]");
    let shape = faults.required(result, "shape", "such as [-1, 1, 256, 256]");
    faults.required_text(result, "data_type", "such as `float32`");
    let (Some(dims), Some(shape)) = (dims, shape) else { return (None, None) };
    let names = faults.texts(&dims);
    let sizes = faults.list(&shape).iter().filter_map(|size| faults.integer(size)).collect::<Vec<_>>();
    if names.len() != sizes.len() {
        faults.add(
            &shape,
            format!("has {} axes, but dim_order has {}: make them agree", sizes.len(), names.len()),
        );
        return (None, None);
    }
    let is_channel =
        |name: &String| ["channel", "channels", "class", "classes", "band", "bands"].contains(&name.as_str());
    let channels = names.iter().position(is_channel).and_then(|axis| usize::try_from(sizes[axis]).ok());
    (channels, dim_order(&names))
}

fn threshold(properties: &Node<'_>) -> f32 {
    let declared =
        properties.get("mlm:hyperparameters").and_then(|node| node.value.get("threshold")?.as_f64());
    match declared {
        Some(value) if value > 0.0 && value < 1.0 => value as f32,
        _ => DEFAULT_THRESHOLD,
    }
}

fn read_activation(output: &Node<'_>, faults: &mut Faults) -> Option<Activation> {
    let Some(node) = output.get("post_processing_function") else {
        return Some(Activation::AlreadyProbability);
    };
    let Some(text) = expression_text(&node) else { return Some(Activation::AlreadyProbability) };
    let activation = recognise_activation(&text);
    if activation.is_none() {
        let shown = text.chars().take(80).collect::<String>();
        let message = format!(
            "`{shown}` is not supported: give `sigmoid` or `softmax` alone, or null where the model gives probabilities already"
        );
        faults.add(&node, message);
    }
    activation
}

/// An expression that is `sigmoid` or `softmax` and nothing else, however qualified and applied: `torch.sigmoid`,
/// `torch.nn.functional.softmax(x, dim=1)`. Arithmetic or comparisons around it would change the meaning.
fn recognise_activation(text: &str) -> Option<Activation> {
    let compact = text.to_ascii_lowercase().replace(char::is_whitespace, "");
    let compact = compact.replace("dim=-1", "dim").replace("axis=-1", "axis");
    if compact.contains(|c: char| "+*/%^<>!&|-".contains(c)) {
        return None;
    }
    let mut found = Vec::new();
    for word in compact.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        match word {
            "sigmoid" | "expit" => found.push(Activation::Sigmoid),
            "softmax" => found.push(Activation::Softmax),
            word if HARMLESS_WORDS.contains(&word) || word.bytes().all(|b| b.is_ascii_digit()) => {}
            _ => return None,
        }
    }
    match found.as_slice() {
        [activation] => Some(*activation),
        _ => None,
    }
}

/// Module names and arguments that leave an activation what it is.
const HARMLESS_WORDS: [&str; 24] = [
    "torch",
    "nn",
    "functional",
    "f",
    "special",
    "scipy",
    "tensorflow",
    "tf",
    "keras",
    "activations",
    "jax",
    "flax",
    "numpy",
    "np",
    "x",
    "y",
    "input",
    "output",
    "outputs",
    "logits",
    "dim",
    "axis",
    "lambda",
    "result",
];

fn read_classes(output: &Node<'_>, faults: &mut Faults) -> Vec<Class> {
    // The extension's own examples still carry the older spelling.
    let list = output.get("classification:classes").or_else(|| output.get("classification_classes"));
    let Some(list) = list else { return Vec::new() };
    faults.list(&list).iter().filter_map(|entry| read_class(entry, faults)).collect()
}

fn read_class(node: &Node<'_>, faults: &mut Faults) -> Option<Class> {
    let value = faults.required(node, "value", "the class's number")?;
    let value = faults.integer(&value)?;
    let name = faults.optional_text(node, "name").or_else(|| faults.optional_text(node, "title"));
    Some(Class {
        value,
        name: name.unwrap_or_else(|| format!("class {value}")),
        description: faults.optional_text(node, "description"),
        color: node.get("color_hint").and_then(|hint| read_color(&hint, faults)),
    })
}

/// `RRGGBB` as the classification extension has it, or `[r, g, b]` as the MLM examples do.
fn read_color(node: &Node<'_>, faults: &mut Faults) -> Option<[u8; 3]> {
    let color = match node.value {
        Value::String(text) => parse_hex(text.trim_start_matches('#')),
        Value::Array(values) => {
            let bytes = values.iter().filter_map(|v| u8::try_from(v.as_u64()?).ok()).collect::<Vec<_>>();
            <[u8; 3]>::try_from(bytes).ok().filter(|_| values.len() == 3)
        }
        _ => None,
    };
    if color.is_none() {
        faults.add(node, "not a colour: give six hexadecimal digits, such as `E4572E`".to_owned());
    }
    color
}

fn parse_hex(text: &str) -> Option<[u8; 3]> {
    if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    Some([byte(0)?, byte(2)?, byte(4)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_is_recognised_only_when_nothing_else_happens() {
        let cases = [
            ("sigmoid", Some(Activation::Sigmoid)),
            ("torch.sigmoid", Some(Activation::Sigmoid)),
            ("scipy.special.expit", Some(Activation::Sigmoid)),
            ("torch.nn.functional.softmax(x, dim=1)", Some(Activation::Softmax)),
            ("Softmax(axis=-1)", Some(Activation::Softmax)),
            ("sigmoid(x) > 0.5", None),
            ("1 - sigmoid(x)", None),
            ("sigmoid(sigmoid(x))", None),
            ("softmax(sigmoid(x))", None),
            ("my_model.sigmoid_and_threshold", None),
            ("postprocess.sigmoid", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(recognise_activation(text), expected, "{text}");
        }
    }

    #[test]
    fn colours_have_six_hexadecimal_digits() {
        assert_eq!(parse_hex("E4572e"), Some([0xE4, 0x57, 0x2E]));
        for bad in ["", "fff", "+12345", "12é45"] {
            assert_eq!(parse_hex(bad), None, "{bad}");
        }
    }
}
