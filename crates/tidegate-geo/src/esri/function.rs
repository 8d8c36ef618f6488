//! The Python raster function: one for all models, in two kinds, named for the model that it is packed with.
//!
//! ArcGIS wants a class that is called like its file, and keeps modules by that name in its process: two packages with one
//! name would run with whichever was loaded first.

use super::ModelFormat;

const ONNX: &str = include_str!("python/onnx_model.py");
const TORCHSCRIPT: &str = include_str!("python/torchscript_model.py");
const FUNCTION: &str = include_str!("python/raster_function.py");

/// How the class is called in the file above.
const PLACEHOLDER: &str = "class RasterFunction:";

/// The file's text, with the class `class_name` in it.
pub(super) fn source(format: ModelFormat, class_name: &str) -> String {
    let head = match format {
        ModelFormat::Onnx => ONNX,
        ModelFormat::TorchScript => TORCHSCRIPT,
    };
    debug_assert!(FUNCTION.contains(PLACEHOLDER));
    format!("{head}{}", FUNCTION.replace(PLACEHOLDER, &format!("class {class_name}:")))
}

/// `refugee-camp-detector` becomes `RefugeeCampDetector`.
pub fn class_name(model_name: &str) -> String {
    let words = model_name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capitalised = words.map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    });
    let name = capitalised.collect::<String>();
    // A class begins with a letter, and must not be one of Python's capitalised keywords.
    let is_class = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !["None", "True", "False"].contains(&name.as_str());
    if is_class { name } else { format!("Model{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gives_a_python_class() {
        let cases = [
            ("refugee-camp-detector", "RefugeeCampDetector"),
            ("unet", "Unet"),
            ("3d.roofs", "Model3dRoofs"),
            ("none", "ModelNone"),
            ("U-Net v2", "UNetV2"),
            ("--", "Model"),
            ("дома", "Model"),
        ];
        for (name, expected) in cases {
            assert_eq!(class_name(name), expected);
        }
    }

    #[test]
    fn both_kinds_hold_the_class_and_no_other_kind_of_runtime() {
        for (format, runtime, other) in
            [(ModelFormat::Onnx, "onnxruntime", "torch"), (ModelFormat::TorchScript, "torch", "onnxruntime")]
        {
            let source = source(format, "Roofs");
            assert!(source.contains("\nclass Roofs:\n") && source.contains(&format!("import {runtime}")));
            assert!(!source.contains(PLACEHOLDER) && !source.contains(other), "{other}");
        }
    }
}
