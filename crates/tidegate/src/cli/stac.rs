//! `tidegate stac`: items by people who prepare a model. Offline; no server is asked.

mod draft;
mod onnx;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate_geo::{Finding, ModelItem, Severity};

use super::say;
pub use draft::InitArgs;

#[derive(Subcommand)]
pub enum StacCommand {
    /// Say everything that is wrong with a STAC-MLM item and the files beside it
    #[command(after_help = "\
Errors are what the extension's schema refuses and what Tidegate cannot use; warnings are what is valid and probably not
meant. Each has its JSON pointer and the fix. The exit status is 1 where there is an error.")]
    Validate(ValidateArgs),
    /// Write a first item for an ONNX model, to be completed
    #[command(after_help = "\
Examples:
  tidegate stac init roofs.onnx --bands red,green,blue --gsd 0.3 --classes background,roof --divide-by 255
  tidegate stac init crops.onnx --bands nir,red,green --mean 2100,980,1010 --std 640,420,400 --activation softmax

Shapes, data type and checksum come from the file, and whether it ends in a sigmoid or softmax.")]
    Init(Box<InitArgs>),
}

#[derive(Args)]
pub struct ValidateArgs {
    /// STAC items (JSON)
    #[arg(required = true)]
    items: Vec<PathBuf>,
    /// Write the findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: &StacCommand) -> anyhow::Result<()> {
    match command {
        StacCommand::Validate(args) => validate(args),
        StacCommand::Init(args) => draft::init(args),
    }
}

fn validate(args: &ValidateArgs) -> anyhow::Result<()> {
    let mut reports = Vec::new();
    let mut n_errors = 0;
    for path in &args.items {
        let found = findings(&read_json(path)?, path);
        n_errors += count(&found, Severity::Error);
        match args.json {
            true => reports.push(json!({
                "item": path.display().to_string(),
                "valid": count(&found, Severity::Error) == 0,
                "findings": found,
            })),
            false => tell(path, &found),
        }
    }
    if args.json {
        say(serde_json::to_string_pretty(&reports)?);
    }
    match n_errors {
        0 => Ok(()),
        1 => bail!("1 error"),
        n => bail!("{n} errors"),
    }
}

/// Of the item's text, its files, and the ONNX model among them. Errors first.
fn findings(item: &Value, path: &Path) -> Vec<Finding> {
    let folder = item_folder(path);
    let mut found = tidegate_geo::validate(item, Some(folder));
    if let Ok(parsed) = ModelItem::parse(item) {
        found.extend(onnx::findings(&parsed, folder));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Where an item's files lie.
fn item_folder(item: &Path) -> &Path {
    item.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn tell(path: &Path, found: &[Finding]) {
    let (n_errors, n_warnings) = (count(found, Severity::Error), count(found, Severity::Warning));
    let verdict = match (n_errors, n_warnings) {
        (0, 0) => "valid".to_owned(),
        (0, n) => format!("valid, {n} to look at"),
        (n, _) => format!("not valid, {n} to correct"),
    };
    say(format!("{}: {verdict}", path.display()));
    for finding in found {
        let word = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let pointer = if finding.pointer.is_empty() { "/" } else { &finding.pointer };
        say(format!("  {word} {pointer}\n    {}", finding.message));
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the STAC item `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))
}
