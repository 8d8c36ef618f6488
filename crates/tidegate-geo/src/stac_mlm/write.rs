//! Writes an item of MLM 1.5.1, as [`super::ModelItem::parse`] reads it and the extension's schema allows it.

use serde_json::{Map, Value, json};
use tidegate_core::Timestamp;

use super::input::data_type_name;
use super::{Activation, DimOrder, InputSpec, ModelAsset, ModelItem, OutputSpec, Scaling};

/// What an item has of STAC beside its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// When the model was made.
    pub datetime: Timestamp,
    /// West, south, east, north in degrees: where it was trained. `None` writes a null geometry.
    pub bbox: Option<[f64; 4]>,
    /// An SPDX identifier or `other`.
    pub license: Option<String>,
}

const MLM: &str = "https://stac-extensions.github.io/mlm/v1.5.1/schema.json";
const FILE: &str = "https://stac-extensions.github.io/file/v2.1.0/schema.json";

impl ModelItem {
    pub fn to_json(&self, envelope: &Envelope) -> Value {
        let mut extensions = vec![MLM];
        if self.assets.iter().any(|asset| asset.sha256.is_some() || asset.size_bytes.is_some()) {
            extensions.push(FILE);
        }
        let mut item = json!({
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": extensions,
            "id": self.id,
            "geometry": envelope.bbox.map(polygon),
        });
        if let Some(bbox) = envelope.bbox {
            item["bbox"] = json!(bbox);
        }
        item["properties"] = self.properties(envelope);
        item["links"] = json!([]);
        let assets = self.assets.iter().map(|asset| (asset.key.clone(), asset_json(asset)));
        item["assets"] = Value::Object(assets.collect());
        item
    }

    fn properties(&self, envelope: &Envelope) -> Value {
        let mut properties = Map::new();
        let mut put = |key: &str, value: Value| properties.insert(key.to_owned(), value);
        put("datetime", json!(envelope.datetime));
        let texts = [
            ("title", &self.title),
            ("description", &self.description),
            ("version", &self.version.as_ref().map(ToString::to_string)),
            ("license", &envelope.license),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                put(key, json!(text));
            }
        }
        if let Some(gsd) = self.gsd {
            put("gsd", json!(gsd));
        }
        if !self.bands.is_empty() {
            let bands = self.bands.iter().map(|band| match &band.common_name {
                Some(common_name) => json!({"name": band.name, "eo:common_name": common_name}),
                None => json!({"name": band.name}),
            });
            put("bands", bands.collect());
        }
        put("mlm:name", json!(self.name));
        put("mlm:architecture", json!(self.architecture));
        put("mlm:tasks", json!(self.tasks));
        if let Some(framework) = &self.framework {
            put("mlm:framework", json!(framework));
        }
        put("mlm:input", json!([input_json(&self.input)]));
        put("mlm:output", json!([output_json(self)]));
        if let Some(hyperparameters) = &self.hyperparameters {
            put("mlm:hyperparameters", hyperparameters.clone());
        }
        Value::Object(properties)
    }
}

fn polygon([west, south, east, north]: [f64; 4]) -> Value {
    json!({
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    })
}

fn asset_json(asset: &ModelAsset) -> Value {
    let mut json = json!({"href": asset.href});
    let texts =
        [("title", &asset.title), ("type", &asset.media_type), ("mlm:artifact_type", &asset.artifact_type)];
    for (key, text) in texts {
        if let Some(text) = text {
            json[key] = json!(text);
        }
    }
    json["roles"] = json!(asset.roles);
    if let Some(size_bytes) = asset.size_bytes {
        json["file:size"] = json!(size_bytes);
    }
    if let Some(sha256) = &asset.sha256 {
        json["file:checksum"] = json!(sha256.to_multihash());
    }
    json
}

fn input_json(input: &InputSpec) -> Value {
    // The name "bands" is kept for axes whose bands are named.
    let channel = if input.bands.is_empty() { "channel" } else { "bands" };
    let (shape, dim_order) = tensor(input.batch, input.n_bands, input, input.dim_order, channel);
    json!({
        "name": input.name,
        "bands": input.bands,
        "input": {"shape": shape, "dim_order": dim_order, "data_type": data_type_name(input.data_type)},
        "value_scaling": scaling_json(&input.scaling),
        "resize_type": null,
        "pre_processing_function": input.pre_processing.as_ref().map(|text| expression(text)),
    })
}

fn output_json(item: &ModelItem) -> Value {
    let OutputSpec { name, activation, classes, channels, dim_order, .. } = &item.output;
    let input = &item.input;
    let (shape, dim_order) = match dim_order {
        Some(order) => tensor(input.batch, channels.unwrap_or(1), input, *order, "channel"),
        None => {
            (json!([batch(input.batch), channels.map_or(json!(-1), |n| json!(n))]), json!(["batch", "class"]))
        }
    };
    let classes = classes.iter().map(|class| {
        let description = class.description.as_ref().unwrap_or(&class.name);
        let mut json = json!({"value": class.value, "name": class.name, "description": description});
        if let Some([red, green, blue]) = class.color {
            json["color_hint"] = json!(format!("{red:02X}{green:02X}{blue:02X}"));
        }
        json
    });
    let post_processing = match activation {
        Activation::AlreadyProbability => Value::Null,
        Activation::Sigmoid => expression("sigmoid"),
        Activation::Softmax => expression("softmax"),
    };
    json!({
        "name": name,
        "tasks": item.tasks,
        "result": {"shape": shape, "dim_order": dim_order, "data_type": "float32"},
        "classification:classes": classes.collect::<Vec<_>>(),
        "post_processing_function": post_processing,
    })
}

/// Shape and order of a four-dimensional tensor.
fn tensor(
    batch_size: Option<usize>,
    channels: usize,
    input: &InputSpec,
    order: DimOrder,
    channel: &str,
) -> (Value, Value) {
    let (batch, height, width) = (batch(batch_size), input.height, input.width);
    match order {
        DimOrder::Bchw => {
            (json!([batch, channels, height, width]), json!(["batch", channel, "height", "width"]))
        }
        DimOrder::Bhwc => {
            (json!([batch, height, width, channels]), json!(["batch", "height", "width", channel]))
        }
    }
}

fn batch(size: Option<usize>) -> Value {
    size.map_or(json!(-1), |size| json!(size))
}

fn expression(text: &str) -> Value {
    json!({"format": "python", "expression": text})
}

/// One entry where all bands have the same, null where none has any.
fn scaling_json(scaling: &[Scaling]) -> Value {
    if scaling.iter().all(|entry| *entry == Scaling::None) {
        return Value::Null;
    }
    let all_the_same = scaling.windows(2).all(|pair| pair[0] == pair[1]);
    let entries = if all_the_same { &scaling[..1] } else { scaling };
    entries.iter().map(|entry| entry.to_json()).collect()
}
