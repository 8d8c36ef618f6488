//! Rows of a table, or any other inputs that JSON can write, with what is true of each.
//!
//! JSON Lines, or one JSON array, of `{"features": {...}, "label": ...}`. Instead of `features` there may be `inputs`
//! (tensors of the Open Inference Protocol), instead of `label` there may be `outputs` by name.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tidegate_core::{DType, NamedTensor};

use super::compare::{self, Comparison};
use super::{FIELD, Interface, push_all};
use crate::operations::fault::Fault;
use crate::operations::features::{Features, from_features};
use crate::operations::tensor_json::tensor_from_json;

/// More decide no better, and each is run at least twice.
const MAX_ROWS: usize = 10_000;

pub(super) struct Rows {
    file: String,
    pub rows: Vec<Row>,
}

pub(super) struct Row {
    /// Where it stands: a line, or an index of the array.
    place: Place,
    query: Query,
    pub truth: Truth,
}

#[derive(Clone, Copy)]
enum Place {
    Line(usize),
    Index(usize),
}

enum Query {
    Features(Features),
    Tensors(Vec<NamedTensor>),
}

/// What is true of a row.
pub(super) enum Truth {
    /// Of the model's only output, or of its output `label`.
    Label(Value),
    Outputs(Map<String, Value>),
}

/// A row as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    features: Option<Features>,
    inputs: Option<Vec<TensorLine>>,
    label: Option<Value>,
    outputs: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorLine {
    name: String,
    shape: Vec<usize>,
    datatype: DType,
    data: Box<RawValue>,
}

impl Rows {
    /// All faults of the file, up to some number.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        let (mut rows, mut faults) = (Vec::new(), Vec::new());
        for (place, text) in split(file, bytes)? {
            match parse_row(place, text) {
                Ok(row) => rows.push(row),
                Err(fault) => push_all(&mut faults, [fault.within(&place.of(file))]),
            }
        }
        if rows.len() > MAX_ROWS {
            let message = format!("`{file}` has {} rows; a sample has at most {MAX_ROWS}", rows.len());
            push_all(&mut faults, [Fault::new(FIELD, message)]);
        }
        if rows.is_empty() && faults.is_empty() {
            faults.push(Fault::new(FIELD, format!("`{file}` has no row")));
        }
        if faults.is_empty() { Ok(Self { file: file.to_owned(), rows }) } else { Err(faults) }
    }

    pub(super) fn check(&self, interface: &Interface<'_>) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for index in 0..self.rows.len() {
            push_all(&mut faults, self.tensors(index, interface).err().into_iter().flatten());
        }
        if faults.is_empty() { self.comparison(interface).map(drop) } else { Err(faults) }
    }

    /// How what is true compares with what the model says.
    pub(super) fn comparison(&self, interface: &Interface<'_>) -> Result<Comparison, Vec<Fault>> {
        let truths = self.rows.iter().map(|row| (row.place.of(&self.file), &row.truth));
        compare::comparison(truths, interface)
    }

    /// The tensors of a row, as a request with these features would give them.
    pub(super) fn tensors(
        &self,
        index: usize,
        interface: &Interface<'_>,
    ) -> Result<Vec<NamedTensor>, Vec<Fault>> {
        let row = &self.rows[index];
        let (name, tensors) = match &row.query {
            Query::Features(features) => {
                ("features", from_features(features, interface.signature, interface.input_schema))
            }
            Query::Tensors(tensors) => ("inputs", Ok(tensors.clone())),
        };
        let within = |fault: Fault| fault.within(name).within(&self.place(index));
        let tensors = tensors.map_err(|faults| faults.into_iter().map(within).collect::<Vec<_>>())?;
        let fitting = interface.signature.check_inputs(&tensors);
        fitting.map_err(|mismatch| vec![within(Fault::new(mismatch.tensor, mismatch.reason))])?;
        Ok(tensors)
    }

    /// `rows.jsonl:12`.
    pub(super) fn place(&self, index: usize) -> String {
        self.rows[index].place.of(&self.file)
    }
}

impl Place {
    fn of(self, file: &str) -> String {
        match self {
            Self::Line(line) => format!("{file}:{line}"),
            Self::Index(index) => format!("{file}[{index}]"),
        }
    }
}

/// The text of each row: the elements of an array, or the lines that are not empty.
fn split<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<(Place, &'a str)>, Vec<Fault>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        vec![Fault::new(Place::Line(line).of(file), "not UTF-8 text; write the file as UTF-8")]
    })?;
    if text.trim_start().starts_with('[') {
        let rows: Vec<&RawValue> = serde_json::from_str(text)
            .map_err(|error| vec![Fault::new(Place::Line(error.line()).of(file), error.to_string())])?;
        return Ok(rows
            .into_iter()
            .enumerate()
            .map(|(index, row)| (Place::Index(index), row.get()))
            .collect());
    }
    let lines = text.lines().enumerate().map(|(index, line)| (Place::Line(index + 1), line.trim()));
    Ok(lines.filter(|(_, line)| !line.is_empty()).collect())
}

fn parse_row(place: Place, text: &str) -> Result<Row, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let line: Line = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Where the text is no JSON, the path is a guess.
        let field = if path == "." || !error.is_data() { String::new() } else { path };
        Fault::new(field, without_position(&error))
    })?;
    deserializer.end().map_err(|_| Fault::new("", "more than one JSON value; give one row a line"))?;
    let query = match (line.features, line.inputs) {
        (Some(features), None) => Query::Features(features),
        (None, Some(inputs)) => Query::Tensors(tensors(inputs)?),
        (Some(_), Some(_)) => return Err(Fault::new("inputs", "give `features` or `inputs`, not both")),
        (None, None) => return Err(Fault::new("features", "missing; give the model's features by name")),
    };
    let truth = match (line.label, line.outputs) {
        (Some(label), None) => Truth::Label(label),
        (None, Some(outputs)) if !outputs.is_empty() => Truth::Outputs(outputs),
        (Some(_), Some(_)) => return Err(Fault::new("outputs", "give `label` or `outputs`, not both")),
        (None, _) => return Err(Fault::new("label", "missing; give what is true of this row")),
    };
    Ok(Row { place, query, truth })
}

fn tensors(inputs: Vec<TensorLine>) -> Result<Vec<NamedTensor>, Fault> {
    let read = |(index, input): (usize, TensorLine)| {
        let tensor = tensor_from_json(input.datatype, &input.shape, &input.data)
            .map_err(|fault| fault.within(&format!("inputs[{index}]")))?;
        Ok(NamedTensor { name: input.name, tensor })
    };
    inputs.into_iter().enumerate().map(read).collect()
}

/// The position is of the row's text; the row has its own place.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    let column = if error.is_data() { String::new() } else { format!(" at column {}", error.column()) };
    format!("{}{column}", &text[..cut])
}
