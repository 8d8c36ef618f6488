//! Whether the ONNX file beside an item is what the item says: shapes, data type, and how it ends.

use std::path::Path;

use tidegate_core::{ArtifactFormat, Dim};
use tidegate_geo::{DimOrder, Ending, Finding, ModelItem, Severity, resolve_href};
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
            let (expected, spec) = (item.input.shape(), &item.input);
            if !agree(&expected, &input.shape) {
                let message =
                    format!("the model takes {}, the item says {expected:?}: correct it", input.shape_text());
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

/// A size that varies on either side agrees with any.
fn agree(expected: &[i64], actual: &[Dim]) -> bool {
    let pair_agrees = |(expected, actual): (&i64, &Dim)| {
        let actual = i64::from(*actual);
        *expected == -1 || actual == -1 || *expected == actual
    };
    expected.len() == actual.len() && expected.iter().zip(actual).all(pair_agrees)
}

fn error_at(pointer: &str, message: String) -> Finding {
    Finding { severity: Severity::Error, pointer: pointer.to_owned(), message }
}
