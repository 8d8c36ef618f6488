//! The Esri model definition (`.emd`): what ArcGIS and the raster function must know of a model, read from its item.
//!
//! Keys as in Esri's documentation of the format; what our function needs beside them stands in `ModelParameters`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::DType;

use super::function::class_name;
use crate::outputs::palette::class_colors;
use crate::stac_mlm::{DimOrder, ModelItem};

/// Which kind of file the package holds, and with it what ArcGIS needs to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelFormat {
    /// Runs on numpy and ONNX Runtime, which come with ArcGIS Pro.
    #[serde(rename = "ONNX")]
    Onnx,
    /// Needs PyTorch: ArcGIS's deep learning libraries.
    #[serde(rename = "PyTorch")]
    TorchScript,
}

/// What the item leaves open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefinitionOptions {
    /// Pixels that each tile shares with its neighbours and does not decide; an eighth of the tile where not given.
    pub padding: Option<usize>,
    /// Tiles for each run; 4 where not given.
    pub batch_size: Option<usize>,
    /// Which bands of the imagery are the model's, counted from 0. By name where not given.
    pub extract_bands: Option<Vec<usize>>,
}

/// An Esri model definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Definition {
    pub framework: ModelFormat,
    /// Always `ImageClassification`: what ArcGIS calls the classification of pixels.
    pub model_type: String,
    pub model_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub model_file: String,
    pub inference_function: String,
    pub image_height: usize,
    pub image_width: usize,
    /// Counted from 0, in the order of the model.
    pub extract_bands: Vec<usize>,
    pub padding: usize,
    pub batch_size: usize,
    /// For a model of one channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// Metres on the ground per pixel: the cell size to run the model at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground_resolution: Option<f64>,
    pub classes: Vec<ClassEntry>,
    pub model_parameters: ModelParameters,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClassEntry {
    pub value: usize,
    pub name: String,
    pub color: [u8; 3],
}

/// What only our function reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModelParameters {
    pub dim_order: AxisOrder,
    pub data_type: String,
    /// The fixed batch size; null where any will do.
    pub batch: Option<usize>,
    /// One entry for each band, as the STAC item has it, in units of the pixels.
    pub value_scaling: Vec<Value>,
    pub output_dim_order: AxisOrder,
    /// `none`, `sigmoid` or `softmax`.
    pub activation: String,
    /// The value of the output raster for each channel, or for below and above the threshold.
    pub output_values: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AxisOrder {
    Bchw,
    Bhwc,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("a package for ArcGIS cannot hold {what}: {fix}")]
    Unsupported { what: String, fix: &'static str },
    #[error("{name} is {value}: {fix}")]
    InvalidOption { name: &'static str, value: String, fix: String },
}

/// ArcGIS hands over a rectangle of tiles at once: 2 x 2 is quick and takes little memory.
const DEFAULT_BATCH: usize = 4;

impl Definition {
    /// For a model file of the given name.
    pub fn new(
        item: &ModelItem,
        format: ModelFormat,
        model_file: &str,
        options: &DefinitionOptions,
    ) -> Result<Definition, DefinitionError> {
        let input = &item.input;
        if let Some(expression) = &input.pre_processing {
            let what = format!("the pre-processing function `{expression}`");
            return Err(unsupported(what, "it is foreign code; say it as value_scaling"));
        }
        if !matches!(input.data_type, DType::Fp32 | DType::Fp64 | DType::Fp16 | DType::Uint8) {
            return Err(unsupported(
                format!("input of data type {}", input.data_type),
                "export the model with float32",
            ));
        }
        let (Some(channels), Some(output_order)) = (item.output.channels, item.output.dim_order) else {
            let what = "a model whose output is no image".to_owned();
            return Err(unsupported(
                what,
                "it classifies pixels: give result with batch, channel, height and width",
            ));
        };
        let (height, width) = (input.height, input.width);
        let largest = (height.min(width) - 1) / 2;
        let padding = options.padding.unwrap_or((height.min(width) / 8).min(largest));
        if padding > largest {
            let fix = format!("give 0 to {largest} for tiles of {height} x {width}");
            return Err(DefinitionError::InvalidOption { name: "padding", value: padding.to_string(), fix });
        }
        let batch_size = options.batch_size.or(input.batch).unwrap_or(DEFAULT_BATCH);
        if batch_size == 0 {
            let fix = "give 1 or more".to_owned();
            return Err(DefinitionError::InvalidOption { name: "batch size", value: "0".to_owned(), fix });
        }
        Ok(Definition {
            framework: format,
            model_type: "ImageClassification".to_owned(),
            model_name: item.name.clone(),
            version: item.version.as_ref().map(ToString::to_string),
            description: item.description.clone().or_else(|| item.title.clone()),
            model_file: model_file.to_owned(),
            inference_function: format!("{}.py", class_name(&item.name)),
            image_height: height,
            image_width: width,
            extract_bands: extract_bands(item, options)?,
            padding,
            batch_size,
            threshold: (channels == 1).then_some(item.output.threshold),
            ground_resolution: item.gsd,
            classes: classes(item, channels),
            model_parameters: ModelParameters {
                dim_order: input.dim_order.into(),
                data_type: data_type(input.data_type),
                batch: input.batch,
                value_scaling: input.scaling.iter().map(|scaling| scaling.to_json()).collect(),
                output_dim_order: output_order.into(),
                activation: item.output.activation.name().to_owned(),
                output_values: (0..channels.max(2)).collect(),
            },
        })
    }

    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a definition is strings and numbers");
        format!("{json}\n")
    }
}

fn unsupported(what: String, fix: &'static str) -> DefinitionError {
    DefinitionError::Unsupported { what, fix }
}

/// numpy's name.
fn data_type(data_type: DType) -> String {
    crate::stac_mlm::data_type_name(data_type).to_owned()
}

/// As given; else red, green and blue where imagery has them, at 0, 1 and 2; else where the item defines the bands.
fn extract_bands(item: &ModelItem, options: &DefinitionOptions) -> Result<Vec<usize>, DefinitionError> {
    let n_bands = item.input.n_bands;
    if let Some(given) = &options.extract_bands {
        if given.len() == n_bands {
            return Ok(given.clone());
        }
        let value = given.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let fix = format!("the model takes {n_bands} bands: give as many");
        return Err(DefinitionError::InvalidOption { name: "extract bands", value, fix });
    }
    let names = &item.input.bands;
    let colors = names.iter().map(|name| item.color_of_band(name)).collect::<Option<Vec<_>>>();
    if let Some(colors) = colors.filter(|colors| n_bands == 3 && (0..3).all(|color| colors.contains(&color)))
    {
        return Ok(colors);
    }
    let position = |name: &String| item.bands.iter().position(|band| band.name == *name);
    let defined = names.iter().map(position).collect::<Option<Vec<_>>>();
    Ok(defined.filter(|defined| defined.len() == n_bands).unwrap_or_else(|| (0..n_bands).collect()))
}

fn classes(item: &ModelItem, channels: usize) -> Vec<ClassEntry> {
    let palette = class_colors(item, channels);
    let name = |value: usize| {
        let class = item.output.classes.iter().find(|class| usize::try_from(class.value) == Ok(value));
        match (class, value, channels) {
            (Some(class), ..) => class.name.clone(),
            (None, 0, 1) => "background".to_owned(),
            (None, _, 1) => item.name.clone(),
            _ => format!("class {value}"),
        }
    };
    let entries = palette.colors.iter().enumerate();
    entries.map(|(value, color)| ClassEntry { value, name: name(value), color: *color }).collect()
}

impl From<DimOrder> for AxisOrder {
    fn from(order: DimOrder) -> Self {
        match order {
            DimOrder::Bchw => Self::Bchw,
            DimOrder::Bhwc => Self::Bhwc,
        }
    }
}
