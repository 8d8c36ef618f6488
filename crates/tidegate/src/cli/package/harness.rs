//! The user's Python, playing ArcGIS.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tidegate_geo::Image;
use tidegate_geo::esri::{HARNESS, ModelFormat};

use super::layout::Layout;

/// One conversation with the function: over the whole image, or its first blocks.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Scalars that differ from the defaults.
    pub parameters: Vec<(&'static str, String)>,
    /// Rows and columns of a block, other than the function asks for.
    pub block: Option<(usize, usize)>,
    pub max_blocks: Option<usize>,
    /// The definition as text instead of as a path: ArcGIS does both.
    pub model_as_text: bool,
}

/// What a run gave.
pub struct RunResult {
    pub padding: usize,
    pub rows: usize,
    pub columns: usize,
    pub n_blocks: usize,
    /// `height x width`; 0 where no block was.
    pub classes: Vec<u16>,
}

pub struct Report {
    /// `Python 3.11.7, numpy 2.2.6, onnxruntime 1.22.1`
    pub versions: String,
    pub runs: Vec<RunResult>,
}

/// Lets `python` drive the package's function over the image.
pub fn drive(
    python: &Path,
    folder: &Path,
    layout: &Layout,
    image: &Image,
    runs: &[Run],
) -> anyhow::Result<Report> {
    let work = tempfile::tempdir().context("failed to make a temporary folder")?;
    let write = |name: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
        let path = work.path().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("failed to write `{}`", path.display()))?;
        Ok(path)
    };
    let n_pixels = image.width * image.height;
    let valid = image
        .valid
        .as_ref()
        .map_or_else(|| vec![1; n_pixels], |valid| valid.iter().map(|valid| u8::from(*valid)).collect());
    let module = match layout.definition.framework {
        ModelFormat::Onnx => "onnxruntime",
        ModelFormat::TorchScript => "torch",
    };
    let job = json!({
        "folder": folder,
        "emd": layout.emd,
        "requires": [module],
        "pixels": write("pixels.bin", &image.pixels)?,
        "valid": write("valid.bin", &valid)?,
        "shape": [image.height, image.width, image.n_bands],
        "output": work.path(),
        "runs": runs.iter().map(|run| json!({
            "parameters": run.parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
            "block": run.block.map(|(rows, columns)| [rows, columns]),
            "maxBlocks": run.max_blocks,
            "modelAsText": run.model_as_text,
        })).collect::<Vec<_>>(),
    });
    let job = write("job.json", job.to_string().as_bytes())?;
    let harness = write("harness.py", HARNESS.as_bytes())?;
    let answer = ask(python, &harness, &job)?;
    refuse(&answer, python)?;
    let results = answer["runs"].as_array().into_iter().flatten().enumerate();
    let runs = results.map(|(index, result)| {
        let bytes = std::fs::read(work.path().join(format!("classes-{index}.bin")))?;
        let (pairs, _) = bytes.as_chunks::<2>();
        let classes = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect::<Vec<_>>();
        let number = |key: &str| result[key].as_u64().and_then(|n| usize::try_from(n).ok());
        let numbers = (number("padding"), number("rows"), number("columns"), number("blocks"));
        let (Some(padding), Some(rows), Some(columns), Some(n_blocks)) = numbers else {
            bail!("the harness answered {result}");
        };
        Ok(RunResult { padding, rows, columns, n_blocks, classes })
    });
    let runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
    let versions = answer["versions"].as_object().into_iter().flatten();
    let versions = versions.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")));
    Ok(Report { versions: versions.collect::<Vec<_>>().join(", "), runs })
}

fn ask(python: &Path, harness: &Path, job: &Path) -> anyhow::Result<Value> {
    let output = Command::new(python)
        .arg(harness)
        .arg(job)
        // A package folder may be read-only, and what Python caches is nobody's business here.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let output = output.with_context(|| {
        format!(
            "`{}` does not run; install Python, or name one with --python (--no-run does without)",
            python.display()
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    answer.with_context(|| {
        // What a function prints while it dies is worth seeing.
        let _ = std::io::stderr().write_all(&output.stderr);
        format!("`{}` ended without an answer ({})", python.display(), output.status)
    })
}

fn refuse(answer: &Value, python: &Path) -> anyhow::Result<()> {
    if let Some(module) = answer["missing"].as_str() {
        bail!(
            "`{}` has no {module}: `{} -m pip install {module}` adds it, --python names another Python, --no-run does \
             without",
            python.display(),
            python.display()
        );
    }
    if let Some(wrong) = answer["wrong"].as_str() {
        let traceback =
            answer["traceback"].as_str().map_or_else(String::new, |text| format!("\n{}", text.trim_end()));
        bail!("the function fails as ArcGIS would call it: {wrong}{traceback}");
    }
    let written = answer["written"].as_array().map_or(&[][..], Vec::as_slice);
    if !written.is_empty() {
        bail!("the function writes into the package's folder, which may be read-only: {}", json!(written));
    }
    Ok(())
}
