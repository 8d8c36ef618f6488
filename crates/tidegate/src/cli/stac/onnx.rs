//! Whether the ONNX file beside an item is what the item says: shapes, data type, and how it ends.

use std::path::Path;

use tidegate_core::{ArtifactFormat, Dim};
use tidegate_geo::{DimOrder, Ending, Finding, InputSpec, ModelItem, Severity, resolve_href};
use tidegate_serve::{OnnxDescription, describe_onnx};

/// Of every ONNX file that is there; that one is missing is said elsewhere.
pub(super) fn findings(item: &ModelItem, folder: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for asset in item.assets.iter().filter(|asset| asset.is_model()) {
        if ArtifactFormat::of_file_name(&asset.href) != ArtifactFormat::Onnx {
            continue;
        }
        let Ok(path) = resolve_href(folder, &asset.href) else { continue };
        let pointer = format!("/assets/{}/href", asset.key.replace('~', "~0").replace('/', "~1"));
        match describe_onnx(&path) {
            Ok(described) => found.extend(compare(item, &described, &pointer)),
            Err(error) => found.push(error_at(&pointer, error.to_string())),
        }
    }
    found.dedup();
    found
}

fn compare(item: &ModelItem, described: &OnnxDescription, asset: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    match described.inputs.as_slice() {
        [input] => {
            let (expected, spec) = (shape(&item.input), &item.input);
            if !agree(&expected, &input.shape) {
                let message = format!(
                    "the model takes {}, the item says {}: correct it",
                    input.shape_text(),
                    shape_text(&expected)
                );
                found.push(error_at("/properties/mlm:input/0/input/shape", message));
            }
            if input.datatype != spec.data_type {
                let message = format!(
                    "the model takes {}, the item says {}: correct it",
                    input.datatype, spec.data_type
                );
                found.push(error_at("/properties/mlm:input/0/input/data_type", message));
            }
        }
        inputs => {
            let message = format!("the model takes {} inputs; an image is one", inputs.len());
            found.push(error_at(asset, message));
        }
    }
    found.extend(compare_output(item, described));
    let ending = described.final_operator.as_deref().map(Ending::of_operator);
    let contradiction = ending.and_then(|ending| ending.contradiction(item));
    found.extend(contradiction.map(|fault| error_at(&fault.pointer, fault.message)));
    found
}

fn compare_output(item: &ModelItem, described: &OnnxDescription) -> Option<Finding> {
    let (order, channels) = (item.output.dim_order?, item.output.channels?);
    let (_, actual) = described.outputs.first()?;
    let actual = actual.as_ref()?;
    let axis = match order {
        DimOrder::Bchw => 1,
        DimOrder::Bhwc => 3,
    };
    let fits = match actual.len() {
        3 => channels == 1,
        4 => actual[axis].accepts(channels),
        _ => false,
    };
    let sizes = actual.iter().map(|dim| i64::from(*dim).to_string()).collect::<Vec<_>>().join(", ");
    let message = format!("the model gives [{sizes}], the item says {channels} channels: correct it");
    (!fits).then(|| error_at("/properties/mlm:output/0/result/shape", message))
}

fn shape(input: &InputSpec) -> Vec<Dim> {
    let batch = input.batch.map_or(Dim::Dynamic, Dim::Fixed);
    let [bands, height, width] = [input.n_bands, input.height, input.width].map(Dim::Fixed);
    match input.dim_order {
        DimOrder::Bchw => vec![batch, bands, height, width],
        DimOrder::Bhwc => vec![batch, height, width, bands],
    }
}

/// A size that varies on either side agrees with any.
fn agree(expected: &[Dim], actual: &[Dim]) -> bool {
    let pair_agrees = |(a, b): (&Dim, &Dim)| *a == Dim::Dynamic || *b == Dim::Dynamic || a == b;
    expected.len() == actual.len() && expected.iter().zip(actual).all(pair_agrees)
}

fn shape_text(shape: &[Dim]) -> String {
    let sizes = shape.iter().map(|dim| i64::from(*dim).to_string()).collect::<Vec<_>>();
    format!("[{}]", sizes.join(", "))
}

fn error_at(pointer: &str, message: String) -> Finding {
    Finding { severity: Severity::Error, pointer: pointer.to_owned(), message }
}
