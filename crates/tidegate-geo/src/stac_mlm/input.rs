//! What the model takes: bands, shape and data type.

use tidegate_core::DType;

use super::Band;
use super::reader::{Faults, Node};
use super::scaling::{self, Scaling};

/// The one input of a model: a batch of image tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    pub name: String,
    /// Names of the bands in the order the model takes them; empty where the item names none.
    pub bands: Vec<String>,
    /// How many bands the shape asks for; equals `bands.len()` where bands are named.
    pub n_bands: usize,
    /// Pixels; [`ANY_SIZE_TILE`] where the model takes any size.
    pub height: usize,
    /// Pixels; [`ANY_SIZE_TILE`] where the model takes any size.
    pub width: usize,
    /// The fixed batch size, or `None` where any will do.
    pub batch: Option<usize>,
    pub dim_order: DimOrder,
    pub data_type: DType,
    /// From the raw pixel value to the model's: one per band.
    pub scaling: Vec<Scaling>,
    /// What a `pre_processing_function` asks for beyond scaling, as text. It is foreign code, so a model that needs it
    /// can be registered but not run on images.
    pub pre_processing: Option<String>,
}

impl InputSpec {
    /// The axes in their order, -1 for a batch of any size.
    pub fn shape(&self) -> Vec<i64> {
        let size = |size: usize| i64::try_from(size).unwrap_or(-1);
        let (batch, bands) = (self.batch.map_or(-1, size), size(self.n_bands));
        let (height, width) = (size(self.height), size(self.width));
        match self.dim_order {
            DimOrder::Bchw => vec![batch, bands, height, width],
            DimOrder::Bhwc => vec![batch, height, width, bands],
        }
    }
}

/// The order of a four-dimensional tensor's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DimOrder {
    /// batch, bands, height, width
    Bchw,
    /// batch, height, width, bands
    Bhwc,
}

/// The tile's side, in pixels, for a model that takes any size: wide enough for context, small enough to batch.
pub const ANY_SIZE_TILE: usize = 512;

/// No tile is wider; beyond it a model is not fed by tiles, and a lying item would make us allocate gigabytes.
const MAX_TILE: usize = 8192;

const MAX_BANDS: usize = 1024;

/// `None` only with a fault recorded.
pub(super) fn read(properties: &Node<'_>, bands: &[Band], faults: &mut Faults) -> Option<InputSpec> {
    let list = faults.required(properties, "mlm:input", "a list with the model's one input")?;
    let inputs = faults.list(&list);
    let [input] = inputs.as_slice() else {
        if list.value.is_array() {
            faults.add(
                &list,
                format!(
                    "expected one input, got {}: models of several inputs are not supported",
                    inputs.len()
                ),
            );
        }
        return None;
    };
    let name = faults.required_text(input, "name", "the input's name");
    let band_names = read_band_names(input, bands, faults);
    let structure = faults.required(input, "input", "an object with shape, dim_order and data_type")?;
    let data_type = read_data_type(&structure, faults);
    let shape = read_shape(&structure, faults)?;
    if !band_names.is_empty() && band_names.len() != shape.n_bands {
        let message = format!(
            "{} bands are named, but the shape has {}: make them agree",
            band_names.len(),
            shape.n_bands
        );
        faults.add_at(input.pointer_to("bands"), message);
    }
    let scaling = scaling::read(input, shape.n_bands, faults);
    Some(InputSpec {
        name: name?,
        bands: band_names,
        n_bands: shape.n_bands,
        height: shape.height,
        width: shape.width,
        batch: shape.batch,
        dim_order: shape.dim_order,
        data_type: data_type?,
        scaling: scaling?,
        pre_processing: input.get("pre_processing_function").and_then(|node| expression_text(&node)),
    })
}

/// Band names, each checked against the item's definitions.
fn read_band_names(input: &Node<'_>, defined: &[Band], faults: &mut Faults) -> Vec<String> {
    let Some(list) = input.get("bands") else { return Vec::new() };
    let mut names = Vec::new();
    for entry in faults.list(&list) {
        if entry.get("expression").is_some() {
            faults.add(
                &entry,
                "a band computed by an expression is not supported: name a band of the image".to_owned(),
            );
            continue;
        }
        let name = match entry.value.is_object() {
            true => faults.required_text(&entry, "name", "the band's name"),
            false => faults.text(&entry),
        };
        let Some(name) = name else { continue };
        if !defined.iter().any(|band| band.name == name) {
            let known = defined.iter().map(|band| band.name.as_str()).collect::<Vec<_>>().join(", ");
            let fix = match known.is_empty() {
                true => "define it in `bands` of the properties".to_owned(),
                false => format!("define it in `bands` of the properties, or use one of {known}"),
            };
            faults.add(&entry, format!("band `{name}` is not defined: {fix}"));
        }
        names.push(name);
    }
    names
}

fn read_data_type(structure: &Node<'_>, faults: &mut Faults) -> Option<DType> {
    let text = faults.required_text(structure, "data_type", "such as `float32`")?;
    let known = DATA_TYPES.iter().find(|(name, _)| *name == text);
    if known.is_none() {
        let message = format!(
            "`{text}` is not supported: use `float32`, `float64`, `float16`, `uint8` or another integer type"
        );
        faults.add_at(structure.pointer_to("data_type"), message);
    }
    known.map(|(_, data_type)| *data_type)
}

/// The data types of the raster extension that a tensor can have.
const DATA_TYPES: [(&str, DType); 11] = [
    ("uint8", DType::Uint8),
    ("uint16", DType::Uint16),
    ("uint32", DType::Uint32),
    ("uint64", DType::Uint64),
    ("int8", DType::Int8),
    ("int16", DType::Int16),
    ("int32", DType::Int32),
    ("int64", DType::Int64),
    ("float16", DType::Fp16),
    ("float32", DType::Fp32),
    ("float64", DType::Fp64),
];

/// As the extension writes it; `other` where it has no word.
pub(crate) fn data_type_name(data_type: DType) -> &'static str {
    DATA_TYPES.iter().find(|(_, known)| *known == data_type).map_or("other", |(name, _)| name)
}

struct Shape {
    batch: Option<usize>,
    n_bands: usize,
    height: usize,
    width: usize,
    dim_order: DimOrder,
}

fn read_shape(structure: &Node<'_>, faults: &mut Faults) -> Option<Shape> {
    let dims = faults.required(structure, "dim_order", "[\"batch\", \"bands\", \"height\", \"width\"]");
    let shape = faults.required(structure, "shape", "such as [-1, 3, 256, 256]")?;
    let dims = dims?;
    let names = faults.texts(&dims);
    let Some(dim_order) = dim_order(&names) else {
        let message = format!(
            "[{}] is not supported: order the axes as batch, bands, height, width or batch, height, width, bands",
            names.join(", ")
        );
        faults.add(&dims, message);
        return None;
    };
    let axes = faults.list(&shape);
    let [batch, second, third, fourth] = axes.as_slice() else {
        if shape.value.is_array() {
            faults
                .add(&shape, format!("has {} axes, but dim_order has 4: give one size per axis", axes.len()));
        }
        return None;
    };
    let (channel, height, width) = match dim_order {
        DimOrder::Bchw => (second, third, fourth),
        DimOrder::Bhwc => (fourth, second, third),
    };
    let batch = size(batch, usize::MAX, faults)?;
    let height = size(height, MAX_TILE, faults);
    let width = size(width, MAX_TILE, faults);
    let n_bands = size(channel, MAX_BANDS, faults)?;
    if n_bands.is_none() {
        faults.add(channel, "the number of bands may not vary: give it".to_owned());
    }
    Some(Shape {
        batch,
        n_bands: n_bands?,
        height: height?.unwrap_or(ANY_SIZE_TILE),
        width: width?.unwrap_or(ANY_SIZE_TILE),
        dim_order,
    })
}

/// The order that these axis names give, where it is one of ours.
pub(super) fn dim_order(names: &[String]) -> Option<DimOrder> {
    let axes = names
        .iter()
        .map(|name| match name.as_str() {
            "batch" => 'b',
            "band" | "bands" | "channel" | "channels" | "class" | "classes" => 'c',
            "height" | "y" => 'h',
            "width" | "x" => 'w',
            _ => '?',
        })
        .collect::<String>();
    match axes.as_str() {
        "bchw" => Some(DimOrder::Bchw),
        "bhwc" => Some(DimOrder::Bhwc),
        _ => None,
    }
}

/// A size of 1 to `max`; the inner `None` is -1, an axis that may vary.
fn size(node: &Node<'_>, max: usize, faults: &mut Faults) -> Option<Option<usize>> {
    let number = faults.integer(node)?;
    match usize::try_from(number) {
        Ok(0) => {}
        Ok(size) if size <= max => return Some(Some(size)),
        Ok(_) => {}
        Err(_) if number == -1 => return Some(None),
        Err(_) => {}
    }
    let bound = if max == usize::MAX { String::new() } else { format!(" up to {max}") };
    faults
        .add(node, format!("{number} is not a size: give a number above 0{bound}, or -1 where any will do"));
    None
}

/// The text of one processing expression or of several; `None` where all are null.
pub(super) fn expression_text(node: &Node<'_>) -> Option<String> {
    let one = |value: &serde_json::Value| {
        let expression = value.get("expression").unwrap_or(value);
        match expression.as_str() {
            Some(text) => text.to_owned(),
            None => expression.to_string(),
        }
    };
    match node.value.as_array() {
        None => Some(one(node.value)),
        Some(values) => {
            let texts = values.iter().filter(|value| !value.is_null()).map(one).collect::<Vec<_>>();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
    }
}
