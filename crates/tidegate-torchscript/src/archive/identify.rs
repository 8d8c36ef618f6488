//! Says what a file is that is not a TorchScript archive, because the owner has the right one somewhere.

use std::io::{Read, Seek, SeekFrom};

use crate::error::ConvertError;

const STATE_DICT: &str = "weights only (a state dict, `torch.save(model.state_dict(), ...)`), without the network: load them into \
     the module in Python and save `torch.jit.trace(module.eval(), example)`, or `torch.onnx.export(module.eval(), example, \
     \"model.onnx\", dynamo=False)` (docs/torchscript.md)";
const PICKLED_MODULE: &str = "a pickled Python module (`torch.save(model, ...)`), which needs its own Python code: load it there and \
     save `torch.jit.trace(module.eval(), example)`, or `torch.onnx.export(module.eval(), example, \"model.onnx\", \
     dynamo=False)` (docs/torchscript.md)";

/// The formats that begin with a mark of their own: (offset, mark, what it is).
const MARKS: [(usize, &[u8], &str); 6] = [
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file (Keras); convert it with `python -m tf2onnx.convert --keras model.h5 --output model.onnx`",
    ),
    (
        4,
        b"TFL3",
        "a TensorFlow Lite model; convert it with `python -m tf2onnx.convert --tflite model.tflite --output model.onnx`",
    ),
    (0, b"\x1f\x8b", "a gzip file; unpack it first"),
    (0, b"ustar", "a tar file; unpack it first"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"II*\0", "a TIFF image"),
];

/// Passes anything that starts like a zip, and leaves the reader at its start.
pub(super) fn refuse_other_formats<R: Read + Seek>(reader: &mut R) -> Result<(), ConvertError> {
    let mut head = vec![];
    reader.by_ref().take(64).read_to_end(&mut head).map_err(ConvertError::Io)?;
    reader.seek(SeekFrom::Start(0)).map_err(ConvertError::Io)?;
    if head.starts_with(b"PK") {
        return Ok(());
    }
    let mark =
        MARKS.iter().find(|(offset, mark, _)| head.get(*offset..).is_some_and(|rest| rest.starts_with(mark)));
    let what = match mark {
        Some((_, _, what)) => what,
        None if head.is_empty() => "an empty file",
        None if head.starts_with(b"\x80") => {
            "a plain pickle, as torch before 1.6 or scikit-learn write: it needs the Python that made it; save a \
             TorchScript archive or an ONNX file there (docs/torchscript.md)"
        }
        None if head.get(8) == Some(&b'{') && head.get(4..8) == Some(&[0; 4]) => {
            "safetensors: weights only, without the network; export the module with `torch.onnx.export` \
             (docs/torchscript.md)"
        }
        None if head.starts_with(&[8]) => "an ONNX file already; register it as it is",
        None => "nothing that is known",
    };
    Err(ConvertError::NotTorchScript { what_it_looks_like: what.to_owned() })
}

/// The folder of `data.pkl`, with its slash.
pub(super) fn root_of(names: &[String]) -> Result<String, ConvertError> {
    let roots = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = roots.filter(|root| root.is_empty() || root.ends_with('/')).min_by_key(|root| root.len());
    if let Some(root) = root {
        return Ok(root.to_owned());
    }
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    let what = if has("serialized_exported_program.json") || has("archive_format") || has("models/model.json")
    {
        "a torch.export package (.pt2); run `torch.onnx.export(torch.export.load(\"model.pt2\"), f=\"model.onnx\")` \
         (docs/torchscript.md)"
    } else if has("model.weights.h5") {
        "a Keras archive; convert it with `python -m tf2onnx.convert --keras model.keras --output model.onnx`"
    } else if has("model.json") {
        "a TorchScript archive of torch before 1.0; load and save it with a newer torch"
    } else {
        "a zip of something else"
    };
    Err(ConvertError::NotTorchScript { what_it_looks_like: what.to_owned() })
}

/// What `torch.save` wrote: a dictionary of tensors names torch and collections only, a module names its class.
pub(super) fn pickle_without_code(pickle: &[u8]) -> String {
    let known = ["torch", "collections", "numpy", "argparse", "pathlib", "builtins", "__builtin__"];
    let starts_module = |line: &[u8]| {
        let package = line.split(|byte| *byte == b'.' || *byte == b'\n').next().unwrap_or_default();
        !known.iter().any(|known| known.as_bytes() == package)
    };
    // GLOBAL is `c`, the module, a line end, the name, a line end; the first of a module is its class.
    let first = pickle.iter().position(|byte| *byte == b'c').and_then(|at| pickle.get(at + 1..));
    let is_name = |line: &[u8]| {
        let module = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        !module.is_empty() && module.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte))
    };
    match first {
        Some(line) if line.starts_with(b"torch.nn.modules") || (is_name(line) && starts_module(line)) => {
            PICKLED_MODULE.to_owned()
        }
        _ => STATE_DICT.to_owned(),
    }
}
