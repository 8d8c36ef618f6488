//! How raw pixel values become the model's: `value_scaling`.

use serde_json::{Value, json};

use super::reader::{Faults, Node};

/// A kind of value scaling, by the table "Value Scaling Object" of the MLM extension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    None,
    /// `(v - min) / (max - min)`
    MinMax {
        min: f64,
        max: f64,
    },
    /// `(v - mean) / stddev`
    ZScore {
        mean: f64,
        stddev: f64,
    },
    /// `min(max(v, min), max)`
    Clip {
        min: f64,
        max: f64,
    },
    /// `max(v, min)`
    ClipMin {
        min: f64,
    },
    /// `min(v, max)`
    ClipMax {
        max: f64,
    },
    /// `v - value`
    Offset {
        value: f64,
    },
    /// `v / value`
    Scale {
        value: f64,
    },
}

impl Scaling {
    /// From a raw pixel value to what the model was trained on.
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Self::None => value,
            Self::MinMax { min, max } => (value - min) / (max - min),
            Self::ZScore { mean, stddev } => (value - mean) / stddev,
            Self::Clip { min, max } => value.max(min).min(max),
            Self::ClipMin { min } => value.max(min),
            Self::ClipMax { max } => value.min(max),
            Self::Offset { value: offset } => value - offset,
            Self::Scale { value: divisor } => value / divisor,
        }
    }

    /// As the extension writes it. Nothing is an offset of nothing: the schema has no word for a band left as it is.
    pub fn to_json(self) -> Value {
        match self {
            Self::None => json!({"type": "offset", "value": 0}),
            Self::MinMax { min, max } => json!({"type": "min-max", "minimum": min, "maximum": max}),
            Self::ZScore { mean, stddev } => json!({"type": "z-score", "mean": mean, "stddev": stddev}),
            Self::Clip { min, max } => json!({"type": "clip", "minimum": min, "maximum": max}),
            Self::ClipMin { min } => json!({"type": "clip-min", "minimum": min}),
            Self::ClipMax { max } => json!({"type": "clip-max", "maximum": max}),
            Self::Offset { value } => json!({"type": "offset", "value": value}),
            Self::Scale { value } => json!({"type": "scale", "value": value}),
        }
    }
}

/// One scaling per band: absent means none, one entry stands for all.
pub(super) fn read(input: &Node<'_>, n_bands: usize, faults: &mut Faults) -> Option<Vec<Scaling>> {
    let Some(node) = input.get("value_scaling") else { return Some(vec![Scaling::None; n_bands]) };
    let entries = if node.value.is_object() { vec![node.clone()] } else { faults.list(&node) };
    let scaling = entries.iter().map(|entry| read_entry(entry, faults)).collect::<Option<Vec<_>>>()?;
    match scaling.len() {
        1 => Some(vec![scaling[0]; n_bands]),
        n if n == n_bands => Some(scaling),
        n => {
            faults.add(
                &node,
                format!("has {n} entries for {n_bands} bands: give one per band, or one for all"),
            );
            None
        }
    }
}

fn read_entry(node: &Node<'_>, faults: &mut Faults) -> Option<Scaling> {
    // The extension writes `type: null` for a band that needs none.
    if node.value.is_null() || node.value.get("type").is_some_and(Value::is_null) {
        return Some(Scaling::None);
    }
    let kind = faults.required_text(
        node,
        "type",
        "`min-max`, `z-score`, `clip`, `clip-min`, `clip-max`, `offset` or `scale`",
    )?;
    let mut number = |key: &str| {
        let found = faults.required(node, key, "a number")?;
        faults.number(&found)
    };
    let (scaling, divisor_key) = match kind.as_str() {
        "min-max" => {
            let (min, max) = (number("minimum"), number("maximum"));
            (Scaling::MinMax { min: min?, max: max? }, "maximum")
        }
        "z-score" => {
            let (mean, stddev) = (number("mean"), number("stddev"));
            (Scaling::ZScore { mean: mean?, stddev: stddev? }, "stddev")
        }
        "clip" => {
            let (min, max) = (number("minimum"), number("maximum"));
            (Scaling::Clip { min: min?, max: max? }, "maximum")
        }
        "clip-min" => (Scaling::ClipMin { min: number("minimum")? }, "minimum"),
        "clip-max" => (Scaling::ClipMax { max: number("maximum")? }, "maximum"),
        "offset" => (Scaling::Offset { value: number("value")? }, "value"),
        "scale" => (Scaling::Scale { value: number("value")? }, "value"),
        "processing" => {
            let message = "a `processing` expression is foreign code and is not run: write the scaling as `z-score`, `min-max`, `scale` or `offset`";
            faults.add(node, message.to_owned());
            return None;
        }
        other => {
            let message = format!(
                "`{other}` is not a scaling: use `min-max`, `z-score`, `clip`, `clip-min`, `clip-max`, `offset` or `scale`"
            );
            faults.add_at(node.pointer_to("type"), message);
            return None;
        }
    };
    let fault = match scaling {
        Scaling::MinMax { min, max } if min >= max => Some("is not above `minimum`"),
        Scaling::Clip { min, max } if min > max => Some("is below `minimum`"),
        Scaling::ZScore { stddev, .. } if stddev <= 0.0 => Some("is not above 0"),
        Scaling::Scale { value: 0.0 } => Some("is 0, and values are divided by it"),
        _ => None,
    };
    if let Some(fault) = fault {
        faults.add_at(node.pointer_to(divisor_key), format!("{fault}: give the value of the training"));
        return None;
    }
    Some(scaling)
}
