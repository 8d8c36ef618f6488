//! Whether the ONNX file beside an item is what the item says.

use std::path::Path;

use tidegate_api::contradictions;
use tidegate_core::ArtifactFormat;
use tidegate_geo::{Finding, ItemFault, ModelItem, Severity, resolve_href};
use tidegate_serve::describe_onnx;

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
            Ok(described) => found.extend(contradictions(item, &described, &pointer).into_iter().map(error)),
            Err(fault) => found.push(error(ItemFault { pointer, message: fault.to_string() })),
        }
    }
    found.dedup();
    found
}

fn error(fault: ItemFault) -> Finding {
    Finding { severity: Severity::Error, pointer: fault.pointer, message: fault.message }
}
