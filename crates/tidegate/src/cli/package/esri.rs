//! `tidegate package esri`: from an item to a package, with everything refused that would only show in ArcGIS.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tidegate_geo::esri::{Definition, DefinitionOptions, ModelFormat, PackageParts, write_package};
use tidegate_geo::{Activation, Ending, ModelItem};
use tidegate_serve::{OnnxDescription, describe_onnx};

use super::source::Source;
use super::write_whole;
use crate::cli::activation::ActivationArg;
use crate::cli::{ServerFlag, say};

#[derive(Args)]
pub struct EsriArgs {
    /// A STAC-MLM item with its files beside it
    #[arg(value_name = "ITEM.json", required_unless_present = "model", conflicts_with = "model")]
    item: Option<PathBuf>,
    /// A registered model of a server instead
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Which version of it [default: the one that serves, or the highest]
    #[arg(long, requires = "model")]
    version: Option<String>,
    /// The package [default: NAME-VERSION.dlpk]
    #[arg(long, short, value_name = "FILE.dlpk")]
    output: Option<PathBuf>,
    /// Which of the model's files to pack [default: ONNX, where there is one]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// What makes probabilities of the model's output, where neither the item nor the file tells
    #[arg(long, value_enum)]
    activation: Option<ActivationArg>,
    /// Pixels around each tile that hide its edges [default: an eighth of the tile]
    #[arg(long, value_name = "PIXELS")]
    padding: Option<usize>,
    /// Tiles for each run
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Which bands of your imagery are the model's, counted from 0 [default: by name]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    extract_bands: Vec<usize>,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Runs on what comes with ArcGIS Pro
    Onnx,
    /// Needs PyTorch: the deep learning libraries for ArcGIS
    Torchscript,
}

/// What ArcGIS Pro's ONNX Runtime reads in all releases since 3.3.
const MAX_OPSET: u64 = 17;
const MAX_IR_VERSION: u64 = 8;

pub(super) async fn run(args: &EsriArgs) -> anyhow::Result<()> {
    let source = match (&args.item, &args.model) {
        (Some(item), _) => Source::of_file(item)?,
        (None, Some(model)) => {
            Source::of_server(args.server.client()?, model, args.version.as_deref()).await?
        }
        (None, None) => bail!("name a STAC item, or a registered model with --model"),
    };
    let format = args.format.map(|format| match format {
        FormatArg::Onnx => ModelFormat::Onnx,
        FormatArg::Torchscript => ModelFormat::TorchScript,
    });
    let mut json = source.json.clone();
    let parsed = ModelItem::parse(&json)?;
    let (format, files) = source.model_files(&parsed, format).await?;
    let ending = check_model(format, &files[0], &parsed)?;
    if let Some(activation) = settle_activation(&parsed, ending, args.activation)? {
        json["properties"]["mlm:output"][0]["post_processing_function"] = activation;
    }
    let item = ModelItem::parse(&json)?;

    let output = args.output.clone().unwrap_or_else(|| default_output(&item));
    let stem = output.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let model_file =
        files[0].file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let options = DefinitionOptions {
        padding: args.padding,
        batch_size: args.batch_size,
        extract_bands: (!args.extract_bands.is_empty()).then(|| args.extract_bands.clone()),
    };
    let definition = Definition::new(&item, format, &model_file, &options)?;
    let parts = PackageParts { stem: &stem, definition: &definition, item: &json, model_files: &files };
    if output.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("dlpk")) {
        bail!("`{}` does not end in .dlpk, by which ArcGIS knows a package", output.display());
    }
    write_whole(&output, |file| Ok(write_package(BufWriter::new(file), &parts).map(drop)?))?;
    tell(&output, &definition);
    Ok(())
}

/// How the model ends, once it is found to be one that ArcGIS can load.
fn check_model(format: ModelFormat, path: &Path, item: &ModelItem) -> anyhow::Result<Ending> {
    let final_operator = match format {
        ModelFormat::Onnx => {
            let described = describe_onnx(path)?;
            check_onnx(&described, path)?;
            described.final_operator
        }
        ModelFormat::TorchScript => final_operator_of_torchscript(path, item)?,
    };
    Ok(final_operator.as_deref().map_or(Ending::Unknown, Ending::of_operator))
}

pub(super) fn check_onnx(described: &OnnxDescription, path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(opset) = described.opset.filter(|opset| *opset > MAX_OPSET) {
        bail!(
            "`{name}` uses operator set {opset}, newer than the {MAX_OPSET} that ArcGIS Pro's ONNX Runtime reads in every \
             release since 3.3: export it with opset_version={MAX_OPSET}, or pack the TorchScript archive"
        );
    }
    if described.ir_version > MAX_IR_VERSION {
        bail!(
            "`{name}` is of IR version {}, newer than the {MAX_IR_VERSION} that ArcGIS Pro's ONNX Runtime reads in every \
             release since 3.3: `model.ir_version = {MAX_IR_VERSION}` before `onnx.save` lowers it",
            described.ir_version
        );
    }
    Ok(())
}

/// By way of ONNX, where the archive can be converted; `None` where it cannot, which does not keep it from being packed.
fn final_operator_of_torchscript(path: &Path, item: &ModelItem) -> anyhow::Result<Option<String>> {
    use tidegate_torchscript::ConvertError;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let converted = match convert(path, item) {
        Ok(converted) => converted,
        Err(error @ (ConvertError::NotTorchScript { .. } | ConvertError::TrainingMode { .. })) => {
            return Err(error).with_context(|| format!("`{}` cannot be packed", path.display()));
        }
        Err(_) => return Ok(None),
    };
    let onnx = folder.path().join("model.onnx");
    std::fs::write(&onnx, converted.onnx).context("failed to write a temporary file")?;
    Ok(describe_onnx(&onnx)?.final_operator)
}

pub(super) fn convert(
    path: &Path,
    item: &ModelItem,
) -> Result<tidegate_torchscript::Converted, tidegate_torchscript::ConvertError> {
    let file = File::open(path).map_err(tidegate_torchscript::ConvertError::Io)?;
    let mut shape = item.input.shape();
    shape[0] = -1;
    let options = tidegate_torchscript::Options { input_shapes: Some(vec![shape]), ..Default::default() };
    tidegate_torchscript::convert(std::io::BufReader::new(file), &options)
}

/// What has to be written into the item: nothing where it says, and the model does not contradict it.
fn settle_activation(
    item: &ModelItem,
    ending: Ending,
    asked: Option<ActivationArg>,
) -> anyhow::Result<Option<Value>> {
    let said = item.output.activation_is_said;
    if let Some(asked) = asked {
        let asked = Activation::from(asked);
        if said && asked != item.output.activation {
            bail!(
                "the item says `{}` at /properties/mlm:output/0/post_processing_function: correct it there",
                item.output.activation.name()
            );
        }
        let mut item = item.clone();
        item.output.activation = asked;
        item.output.activation_is_said = true;
        refuse_contradiction(&item, ending)?;
        return Ok((!said).then(|| match asked {
            Activation::AlreadyProbability => Value::Null,
            activation => json!({"format": "python", "expression": activation.name()}),
        }));
    }
    refuse_contradiction(item, ending)?;
    if !said && ending == Ending::Unknown {
        bail!(
            "neither the item nor the model's file tells whether the output is a probability: say --activation none, sigmoid or \
             softmax, or write post_processing_function into the item"
        );
    }
    Ok((!said).then_some(Value::Null))
}

fn refuse_contradiction(item: &ModelItem, ending: Ending) -> anyhow::Result<()> {
    match ending.contradiction(item) {
        Some(fault) => bail!("{}: {}", fault.pointer, fault.message),
        None => Ok(()),
    }
}

fn default_output(item: &ModelItem) -> PathBuf {
    let version = item.version.as_ref().map_or_else(String::new, |version| format!("-{version}"));
    PathBuf::from(format!("{}{version}.dlpk", item.name.replace(char::is_whitespace, "-")))
}

fn tell(output: &Path, definition: &Definition) {
    let size_mb = output.metadata().map_or(0.0, |metadata| metadata.len() as f64 / 1e6);
    say(format!("wrote {} ({size_mb:.1} MB)", output.display()));
    let needs = match definition.framework {
        ModelFormat::Onnx => "ONNX Runtime, which comes with ArcGIS Pro",
        ModelFormat::TorchScript => "PyTorch: the deep learning libraries for ArcGIS",
    };
    say(format!("  {} in {}, on {needs}", definition.inference_function, definition.model_file));
    let classes = definition.classes.iter().map(|class| format!("{} {}", class.value, class.name));
    say(format!("  classes: {}", classes.collect::<Vec<_>>().join(", ")));
    let bands = definition.extract_bands.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    say(format!(
        "  tiles of {} x {}, padding {}, bands {bands} (counted from 0)",
        definition.image_height, definition.image_width, definition.padding
    ));
    match definition.ground_resolution {
        Some(metres) => say(format!(
            "  set the tool's Cell Size environment to {metres} m, which the model was trained at"
        )),
        None => say("  the item gives no gsd: set the tool's Cell Size to what the model was trained at"),
    }
    say(format!("next: tidegate package verify {}", output.display()));
}
