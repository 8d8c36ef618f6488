//! Whether a model is what its STAC-MLM item says: shapes, data type, and how it ends. A contradiction would show as a wrong
//! map, and late.

use tidegate_core::Dim;
use tidegate_geo::{DimOrder, Ending, ItemFault, ModelItem};
use tidegate_serve::OnnxDescription;

/// Where item and model contradict each other; pointers are into the item, or `asset` where it is the file's fault.
pub fn contradictions(item: &ModelItem, described: &OnnxDescription, asset: &str) -> Vec<ItemFault> {
    let mut faults = Vec::new();
    match described.inputs.as_slice() {
        [input] => {
            let (expected, spec) = (item.input.shape(), &item.input);
            if !agree(&expected, &input.shape) {
                let message =
                    format!("the model takes {}, the item says {expected:?}: correct it", input.shape_text());
                faults.push(fault("/properties/mlm:input/0/input/shape", message));
            }
            if input.datatype != spec.data_type {
                let message = format!(
                    "the model takes {}, the item says {}: correct it",
                    input.datatype, spec.data_type
                );
                faults.push(fault("/properties/mlm:input/0/input/data_type", message));
            }
        }
        inputs => {
            let message = format!("the model takes {} inputs; an image is one", inputs.len());
            faults.push(fault(asset, message));
        }
    }
    faults.extend(of_output(item, described));
    let ending = described.final_operator.as_deref().map(Ending::of_operator);
    faults.extend(ending.and_then(|ending| ending.contradiction(item)));
    faults
}

fn of_output(item: &ModelItem, described: &OnnxDescription) -> Option<ItemFault> {
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
    (!fits).then(|| fault("/properties/mlm:output/0/result/shape", message))
}

/// A size that varies on either side agrees with any.
fn agree(expected: &[i64], actual: &[Dim]) -> bool {
    let pair_agrees = |(expected, actual): (&i64, &Dim)| {
        let actual = i64::from(*actual);
        *expected == -1 || actual == -1 || *expected == actual
    };
    expected.len() == actual.len() && expected.iter().zip(actual).all(pair_agrees)
}

fn fault(pointer: &str, message: String) -> ItemFault {
    ItemFault { pointer: pointer.to_owned(), message }
}
