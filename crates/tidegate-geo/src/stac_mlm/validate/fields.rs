//! The `mlm:` fields beside inputs and outputs: each allowed where it stands, each of its kind.

use serde_json::Value;
use tidegate_core::SemVer;

use super::Report;
use crate::stac_mlm::reader::{Faults, Node};

/// The values of `mlm:accelerator`.
const ACCELERATORS: [&str; 7] =
    ["amd64", "cuda", "xla", "amd-rocm", "intel-ipex-cpu", "intel-ipex-gpu", "macos-arm"];

/// The values of `mlm:tasks`.
const TASKS: [&str; 14] = [
    "regression",
    "classification",
    "scene-classification",
    "detection",
    "object-detection",
    "segmentation",
    "semantic-segmentation",
    "instance-segmentation",
    "panoptic-segmentation",
    "similarity-search",
    "generative",
    "image-captioning",
    "super-resolution",
    "downscaling",
];

/// Fields of a file, not of the model.
const OF_ASSETS: [&str; 3] = ["mlm:artifact_type", "mlm:compile_method", "mlm:entrypoint"];

/// Fields of the model, not of a file.
const OF_PROPERTIES: [&str; 4] = ["mlm:name", "mlm:input", "mlm:output", "mlm:hyperparameters"];

pub(super) fn check_properties(properties: &Node<'_>, report: &mut Report) {
    check_members(properties, report);
    for key in OF_ASSETS {
        if properties.value.get(key).is_some() {
            report.error(
                &properties.pointer_to(key),
                "belongs to the asset with the role `mlm:model`: move it there",
            );
        }
    }
    for (key, why) in [
        ("version", "a registration needs one, such as \"1.0.0\""),
        ("gsd", "imagery cannot be resampled to what the model was trained at; give metres per pixel"),
    ] {
        if properties.get(key).is_none() {
            report.warn(&properties.pointer_to(key), format!("missing: {why}"));
        }
    }
}

pub(super) fn check_asset(asset: &Node<'_>, report: &mut Report) {
    check_members(asset, report);
    for key in OF_PROPERTIES {
        if asset.value.get(key).is_some() {
            report.error(&asset.pointer_to(key), "describes the model as a whole: move it to the properties");
        }
    }
}

fn check_members(node: &Node<'_>, report: &mut Report) {
    for (key, value) in node.value.as_object().into_iter().flatten() {
        if key.starts_with("mlm:") {
            check_field(key, &Node { value, pointer: node.pointer_to(key) }, report);
        }
    }
}

fn check_field(key: &str, node: &Node<'_>, report: &mut Report) {
    if node.value.is_null() {
        if !matches!(key, "mlm:accelerator" | "mlm:pretrained_source") {
            report.error(&node.pointer, "null is not allowed here: leave the field out");
        }
        return;
    }
    let mut faults = Faults::default();
    match key {
        "mlm:architecture" | "mlm:accelerator_summary" | "mlm:pretrained_source" => {
            faults.text(node);
        }
        "mlm:artifact_type" | "mlm:compile_method" | "mlm:entrypoint" => {
            if faults.text(node).is_some_and(|text| text.is_empty()) {
                faults.add(node, "empty: give it, or leave the field out".to_owned());
            }
        }
        "mlm:name" => check_name(node, &mut faults),
        "mlm:framework" => check_framework(node, &mut faults),
        "mlm:framework_version" => check_version(node, &mut faults),
        "mlm:tasks" => check_tasks(node, &mut faults),
        "mlm:memory_size" | "mlm:total_parameters" | "mlm:batch_size_suggestion" => {
            check_count(node, 0, &mut faults)
        }
        "mlm:accelerator_count" => check_count(node, 1, &mut faults),
        "mlm:pretrained" | "mlm:accelerator_constrained" => {
            if !node.value.is_boolean() {
                faults.add(node, format!("expected true or false, got {}", node.kind()));
            }
        }
        "mlm:accelerator" => check_accelerator(node, &mut faults),
        "mlm:hyperparameters" => check_hyperparameters(node, &mut faults),
        "mlm:input" | "mlm:output" => {}
        _ => faults
            .add(node, format!("`{key}` is not a field of the extension: rename it, or take another prefix")),
    }
    report.take(faults);
}

/// `^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$`
fn check_name(node: &Node<'_>, faults: &mut Faults) {
    let Some(name) = faults.text(node) else { return };
    let inner = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c) || c.is_whitespace();
    let fits = name.chars().count() >= 3
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inner);
    if !fits {
        let message = format!(
            "`{name}` is not a name: give 3 letters, digits, `-`, `_`, `.` or spaces at least, a letter first and a \
             letter or digit last"
        );
        faults.add(node, message);
    }
}

fn check_framework(node: &Node<'_>, faults: &mut Faults) {
    let Some(name) = faults.text(node) else { return };
    let is_edge = |c: char| c.is_whitespace() || "._-".contains(c);
    if name.is_empty() || name.starts_with(is_edge) || name.ends_with(is_edge) {
        faults.add(node, format!("`{name}` is not a name: give one such as `ONNX` or `PyTorch`"));
    }
}

fn check_version(node: &Node<'_>, faults: &mut Faults) {
    let Some(text) = faults.text(node) else { return };
    if SemVer::parse(&text).is_err() {
        faults.add(node, format!("`{text}` is not a semantic version: write it like 2.1.0"));
    }
}

pub(super) fn check_tasks(node: &Node<'_>, faults: &mut Faults) {
    let mut seen = Vec::new();
    for entry in faults.list(node) {
        let Some(task) = faults.text(&entry) else { continue };
        if !TASKS.contains(&task.as_str()) {
            faults.add(&entry, format!("`{task}` is not a task: use one of {}", TASKS.join(", ")));
        }
        if seen.contains(&task) {
            faults.add(&entry, format!("`{task}` stands twice: leave one out"));
        }
        seen.push(task);
    }
}

fn check_count(node: &Node<'_>, least: i64, faults: &mut Faults) {
    if let Some(number) = faults.integer(node).filter(|number| *number < least) {
        faults.add(node, format!("{number} is below {least}: give the number, or leave the field out"));
    }
}

fn check_accelerator(node: &Node<'_>, faults: &mut Faults) {
    let Some(name) = faults.text(node) else { return };
    if ACCELERATORS.contains(&name.as_str()) {
        return;
    }
    let message = match name.to_ascii_lowercase().as_str() {
        "cpu" => "`cpu` is refused by the extension's schema: give null, or `amd64` where the model never uses another".to_owned(),
        "gpu" | "nvidia" => format!("`{name}` is not an accelerator: give `cuda`"),
        _ => format!("`{name}` is not an accelerator: give null or one of {}", ACCELERATORS.join(", ")),
    };
    faults.add(node, message);
}

fn check_hyperparameters(node: &Node<'_>, faults: &mut Faults) {
    let Some(members) = node.value.as_object() else {
        faults.add(node, format!("expected an object, got {}", node.kind()));
        return;
    };
    if members.is_empty() {
        faults.add(node, "empty: leave it out".to_owned());
    }
    for (key, value) in members {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if !plain {
            faults.add_at(
                node.pointer_to(key),
                "a key has letters, digits, `_`, `.` and `-` only: rename it".to_owned(),
            );
        }
        let is_threshold = |number: f64| number > 0.0 && number < 1.0;
        if key == "threshold" && !value.as_f64().is_some_and(is_threshold) {
            let message = format!("{} is not a probability: give one between 0 and 1", shown(value));
            faults.add_at(node.pointer_to(key), message);
        }
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}
