//! What is true of a row against what the model says: right or wrong for classes, how far off for numbers.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_core::{DType, Dim, ModelType, TensorSpec};
use tidegate_delivery::Score;

use super::rows::Truth;
use super::{Interface, push_all};
use crate::operations::fault::Fault;
use crate::operations::feedback::same;
use crate::operations::prediction::Prediction;

/// How the truths of a sample are read, the same for every version that it is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Each row is right or wrong: the score is the share of the right ones, the accuracy.
    Classes,
    /// The score is the coefficient of determination, R²: 1 is exact, 0 no better than the mean.
    Numbers,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Class,
    Number,
    /// A whole number: either.
    Whole,
}

/// Decides by the truths, and where they are whole numbers by the outputs that they are about.
pub(super) fn comparison<'a>(
    truths: impl Iterator<Item = (String, &'a Truth)>,
    interface: &Interface<'_>,
) -> Result<Comparison, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut decided: BTreeMap<&str, Column> = BTreeMap::new();
    for (place, truth) in truths {
        match targets(truth, &interface.signature.outputs) {
            Ok(targets) => {
                for (field, spec, value) in targets {
                    let added =
                        decided.entry(spec.name.as_str()).or_insert_with(|| Column::of(spec)).add(value);
                    let fault = added.err().map(|message| Fault::new(&field, message).within(&place));
                    push_all(&mut faults, fault);
                }
            }
            Err(fault) => push_all(&mut faults, [fault.within(&place)]),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let comparisons: Vec<_> =
        decided.values().map(|column| column.comparison(interface.model_type)).collect();
    let first = comparisons.first().copied().unwrap_or(Comparison::Classes);
    if comparisons.iter().any(|comparison| *comparison != first) {
        let message = "some outputs are classes and some are numbers; give those of one kind";
        return Err(vec![Fault::new("outputs", message).within(super::FIELD)]);
    }
    if first == Comparison::Numbers && decided.values().all(|column| column.is_constant()) {
        let message =
            "all labels are equal, so they cannot show how good a prediction is; give rows that differ";
        return Err(vec![Fault::new(super::FIELD, message)]);
    }
    Ok(first)
}

/// Which outputs a truth is about: the field, the output, the value.
fn targets<'a, 's>(
    truth: &'a Truth,
    outputs: &'s [TensorSpec],
) -> Result<Vec<(String, &'s TensorSpec, &'a Value)>, Fault> {
    let names = || outputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    match truth {
        Truth::Label(value) => {
            let spec = label_of(outputs).ok_or_else(|| {
                let message = format!(
                    "the model has several outputs and none is called `label`; give `outputs` by name ({})",
                    names()
                );
                Fault::new("label", message)
            })?;
            Ok(vec![("label".to_owned(), spec, value)])
        }
        Truth::Outputs(values) => {
            let target = |(name, value): (&'a String, &'a Value)| {
                let spec = outputs.iter().find(|spec| spec.name == *name).ok_or_else(|| {
                    Fault::new(
                        format!("outputs.{name}"),
                        format!("the model has no such output; it gives {}", names()),
                    )
                })?;
                Ok((format!("outputs.{name}"), spec, value))
            };
            values.iter().map(target).collect()
        }
    }
}

/// The output that a bare label is about.
fn label_of(outputs: &[TensorSpec]) -> Option<&TensorSpec> {
    match outputs {
        [only] => Some(only),
        several => several.iter().find(|spec| spec.name == "label"),
    }
}

/// What all rows say of one output.
struct Column<'a> {
    spec: &'a TensorSpec,
    kind: Kind,
    /// Whether every value is one of 0 and 1.
    is_binary: bool,
    is_scalar: bool,
    first: Option<&'a Value>,
    is_constant: bool,
}

impl<'a> Column<'a> {
    fn of(spec: &'a TensorSpec) -> Self {
        Self { spec, kind: Kind::Whole, is_binary: true, is_scalar: true, first: None, is_constant: true }
    }

    fn add(&mut self, value: &'a Value) -> Result<(), String> {
        let kind = kind_of(value)?;
        let spec = self.spec;
        if has_text(value) != (spec.datatype == DType::Bytes) {
            return Err(format!("output `{}` is {}; a label is one of its values", spec.name, spec.datatype));
        }
        self.kind = match (self.kind, kind) {
            (Kind::Whole, kind) | (kind, Kind::Whole) => kind,
            (before, kind) if before == kind => kind,
            _ => return Err("a class where other rows have numbers, or the other way round".to_owned()),
        };
        self.is_scalar &= !value.is_array();
        self.is_binary &= value.as_f64().is_some_and(|value| value == 0.0 || value == 1.0);
        self.is_constant &= *self.first.get_or_insert(value) == value;
        Ok(())
    }

    fn comparison(&self, model_type: ModelType) -> Comparison {
        let is_float = matches!(self.spec.datatype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64);
        // The first axis is the batch.
        let one_value = self.spec.shape.iter().skip(1).all(|dim| *dim == Dim::Fixed(1));
        match self.kind {
            Kind::Class => Comparison::Classes,
            Kind::Number => Comparison::Numbers,
            Kind::Whole if model_type == ModelType::Regression => Comparison::Numbers,
            Kind::Whole if !is_float => Comparison::Classes,
            // The index of the largest value, or one probability of yes.
            Kind::Whole if self.is_scalar && (!one_value || self.is_binary) => Comparison::Classes,
            Kind::Whole => Comparison::Numbers,
        }
    }

    fn is_constant(&self) -> bool {
        self.is_constant
    }
}

fn kind_of(value: &Value) -> Result<Kind, String> {
    match value {
        Value::String(_) | Value::Bool(_) => Ok(Kind::Class),
        Value::Number(number) => match number.as_f64() {
            Some(number) if number.fract() == 0.0 => Ok(Kind::Whole),
            _ => Ok(Kind::Number),
        },
        Value::Array(values) => {
            let kinds = values.iter().map(kind_of).collect::<Result<Vec<_>, _>>()?;
            let has = |kind| kinds.contains(&kind);
            match (has(Kind::Class), has(Kind::Number)) {
                (true, true) => Err("classes and numbers in one array".to_owned()),
                (true, false) => Ok(Kind::Class),
                (false, true) => Ok(Kind::Number),
                (false, false) => Ok(Kind::Whole),
            }
        }
        Value::Null => Err("null; give what is true".to_owned()),
        Value::Object(_) => Err("an object; give a value or an array".to_owned()),
    }
}

fn has_text(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(has_text),
        value => value.is_string(),
    }
}

/// How a version does, row by row.
#[derive(Clone, Debug)]
pub(super) enum Tally {
    Classes {
        right: usize,
        rows: usize,
    },
    /// By output and place in it.
    Numbers {
        places: BTreeMap<(String, usize), Residuals>,
        rows: usize,
    },
}

/// Welford's sums of what is true at one place, and the squared errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Residuals {
    n: f64,
    mean: f64,
    spread: f64,
    error: f64,
}

impl Tally {
    pub(super) fn new(comparison: Comparison) -> Self {
        match comparison {
            Comparison::Classes => Self::Classes { right: 0, rows: 0 },
            Comparison::Numbers => Self::Numbers { places: BTreeMap::new(), rows: 0 },
        }
    }

    pub(super) fn comparison(&self) -> Comparison {
        match self {
            Self::Classes { .. } => Comparison::Classes,
            Self::Numbers { .. } => Comparison::Numbers,
        }
    }

    /// The error says why the two do not compare.
    pub(super) fn add(
        &mut self,
        truth: &Truth,
        prediction: &Prediction,
        outputs: &[TensorSpec],
    ) -> Result<(), String> {
        let prediction = serde_json::to_value(prediction).map_err(|error| error.to_string())?;
        let targets = targets(truth, outputs).map_err(|fault| fault.to_string())?;
        let said = |spec: &TensorSpec| &prediction[spec.name.as_str()];
        match self {
            Self::Classes { right, rows } => {
                *rows += 1;
                *right += usize::from(targets.iter().all(|(_, spec, truth)| is_right(truth, said(spec))));
            }
            Self::Numbers { places, rows } => {
                *rows += 1;
                for (field, spec, truth) in targets {
                    let (truth, said) = (numbers(truth), numbers(said(spec)));
                    if truth.len() != said.len() {
                        return Err(format!(
                            "`{field}` has {} numbers, the prediction has {}",
                            truth.len(),
                            said.len()
                        ));
                    }
                    for (index, (truth, said)) in truth.into_iter().zip(said).enumerate() {
                        places.entry((spec.name.clone(), index)).or_default().add(truth, said);
                    }
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "ten thousand rows at most")]
    pub(super) fn score(&self, describe: impl Fn(usize) -> String) -> Score {
        match self {
            Self::Classes { right, rows } => Score {
                value: *right as f64 / (*rows).max(1) as f64,
                metric: "accuracy",
                of: describe(*rows),
            },
            Self::Numbers { places, rows } => {
                let spread: f64 = places.values().map(|residuals| residuals.spread).sum();
                let error: f64 = places.values().map(|residuals| residuals.error).sum();
                // Rows that are all alike show only whether they are met.
                let value =
                    if spread > 0.0 { 1.0 - error / spread } else { f64::from(u8::from(error == 0.0)) };
                Score { value: value.max(f64::MIN), metric: "R²", of: describe(*rows) }
            }
        }
    }
}

impl Residuals {
    fn add(&mut self, truth: f64, said: f64) {
        self.n += 1.0;
        let before = truth - self.mean;
        self.mean += before / self.n;
        self.spread += before * (truth - self.mean);
        self.error += (truth - said) * (truth - said);
    }
}

/// A class is met as it is, as the index of the largest of several values, or as one probability of yes.
fn is_right(truth: &Value, said: &Value) -> bool {
    match (number(truth), said) {
        (Some(truth), Value::Array(values)) if values.len() > 1 && values.iter().all(Value::is_number) => {
            argmax(values).is_some_and(|index| index as f64 == truth)
        }
        (Some(truth), Value::Number(said)) if is_probability(said) && (truth == 0.0 || truth == 1.0) => {
            said.as_f64().is_some_and(|said| (said >= 0.5) == (truth == 1.0))
        }
        (Some(truth), said) if number(said).is_some() => number(said) == Some(truth),
        _ => same(truth, said),
    }
}

fn is_probability(said: &serde_json::Number) -> bool {
    said.is_f64() && said.as_f64().is_some_and(|said| (0.0..=1.0).contains(&said))
}

fn argmax(values: &[Value]) -> Option<usize> {
    let numbers = values.iter().map(|value| value.as_f64().unwrap_or(f64::NEG_INFINITY));
    // The first of equals, as numpy has it.
    let best = numbers.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(index, _)| index)
}

/// Yes and no are 1 and 0.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        value => value.as_f64(),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => number(value).into_iter().collect(),
    }
}
