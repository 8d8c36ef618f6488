//! `tidegate stac init`: what a file tells of itself and its author in a few words, as an item.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tidegate_core::{ArtifactFormat, Clock, Dim, SemVer, Sha256Digest, TensorSpec};
use tidegate_geo::{
    Activation, Band, Class, DimOrder, Ending, Envelope, InputSpec, ModelAsset, ModelItem, OutputSpec,
    Scaling,
};
use tidegate_serve::{OnnxDescription, describe_onnx};

use super::{findings, item_folder, tell};
use crate::cli::activation::ActivationArg;
use crate::cli::say;
use crate::clock::SystemClock;

#[derive(Args)]
pub struct InitArgs {
    /// The model's ONNX file
    model: PathBuf,
    /// Where the item goes: beside the model or above [default: stac_item.json beside the model]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// [default: the file's name]
    #[arg(long)]
    name: Option<String>,
    /// A semantic version
    #[arg(long, default_value = "1.0.0")]
    version: SemVer,
    /// Such as U-Net
    #[arg(long, default_value = "unknown")]
    architecture: String,
    /// Names of the bands, in the order in which the model takes them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    bands: Vec<String>,
    /// Metres on the ground per pixel of the training imagery
    #[arg(long, value_name = "METRES")]
    gsd: Option<f64>,
    /// Names of the classes: in the order of the output's channels, or of "no" and "yes" where there is one
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    classes: Vec<String>,
    /// What pixels are divided by first, such as 255
    #[arg(long, value_name = "NUMBER")]
    divide_by: Option<f64>,
    /// What is subtracted then, one number for each band or one for all
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', requires = "std")]
    mean: Vec<f64>,
    /// What is divided by last
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', requires = "mean")]
    std: Vec<f64>,
    /// What makes probabilities of the model's output; needed where the file does not show it
    #[arg(long, value_enum)]
    activation: Option<ActivationArg>,
    /// A pixel is positive from this probability on, for a model of one channel
    #[arg(long)]
    threshold: Option<f64>,
    /// Where it was trained: west,south,east,north in degrees
    #[arg(long, value_name = "W,S,E,N", value_delimiter = ',', allow_hyphen_values = true, num_args = 1)]
    bbox: Vec<f64>,
    /// Replace the item that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn init(args: &InitArgs) -> anyhow::Result<()> {
    let folder =
        args.model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let output = args.output.clone().unwrap_or_else(|| folder.join("stac_item.json"));
    if output.exists() && !args.force {
        bail!(
            "`{}` is there already; name another with --output, or replace it with --force",
            output.display()
        );
    }
    let bbox = match args.bbox.as_slice() {
        [] => None,
        [west, south, east, north] => Some([*west, *south, *east, *north]),
        _ => bail!("--bbox takes west,south,east,north"),
    };
    let item = draft(args, &output)?;
    let datetime = SystemClock.now().round(jiff::Unit::Second)?;
    let envelope = Envelope { datetime, bbox, license: None };
    let json = item.to_json(&envelope);
    std::fs::write(&output, format!("{json:#}\n"))
        .with_context(|| format!("failed to write `{}`", output.display()))?;
    say(format!("wrote {}", output.display()));
    tell(&output, &findings(&json, &output));
    say("look at: title, description, license, mlm:architecture, and the descriptions of the classes");
    Ok(())
}

fn draft(args: &InitArgs, item: &Path) -> anyhow::Result<ModelItem> {
    if ArtifactFormat::of_file_name(&args.model.to_string_lossy()) != ArtifactFormat::Onnx {
        bail!("`{}` is not an .onnx file; export the model with torch.onnx.export", args.model.display());
    }
    let described = describe_onnx(&args.model)?;
    let stem = args.model.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let name = args.name.clone().unwrap_or(stem);
    let input = input(args, &described)?;
    let bands = input.bands.iter().map(|name| Band { name: name.clone(), common_name: None }).collect();
    let output = output(args, &described, &name, &input)?;
    let hyperparameters = args.threshold.map(|threshold| serde_json::json!({"threshold": threshold}));
    Ok(ModelItem {
        id: format!("{name}-{}", args.version),
        name,
        version: Some(args.version.clone()),
        title: None,
        description: None,
        architecture: args.architecture.clone(),
        framework: Some("ONNX".to_owned()),
        tasks: vec!["semantic-segmentation".to_owned()],
        gsd: args.gsd,
        bands,
        input,
        output,
        assets: assets(&args.model, item)?,
        hyperparameters,
    })
}

fn input(args: &InitArgs, described: &OnnxDescription) -> anyhow::Result<InputSpec> {
    let [spec] = described.inputs.as_slice() else {
        bail!("the model takes {} inputs; an image model takes one", described.inputs.len());
    };
    let (dim_order, n_bands, height, width) = image_axes(spec)?;
    if !args.bands.is_empty() && args.bands.len() != n_bands {
        bail!("--bands names {}, but the model takes {n_bands}", args.bands.len());
    }
    let size = |dim: Dim| match dim {
        Dim::Fixed(size) => size,
        Dim::Dynamic => tidegate_geo::stac_mlm::ANY_SIZE_TILE,
    };
    let batch = match spec.shape[0] {
        Dim::Fixed(size) => Some(size),
        Dim::Dynamic => None,
    };
    Ok(InputSpec {
        name: spec.name.clone(),
        bands: args.bands.clone(),
        n_bands,
        height: size(height),
        width: size(width),
        batch,
        dim_order,
        data_type: spec.datatype,
        scaling: scaling(args, n_bands)?,
        pre_processing: None,
    })
}

/// The order of four axes, by which of them is a fixed, small number of bands.
fn image_axes(spec: &TensorSpec) -> anyhow::Result<(DimOrder, usize, Dim, Dim)> {
    let is_bands = |dim: Dim, beside: Dim| match (dim, beside) {
        (Dim::Fixed(bands), Dim::Fixed(side)) => bands < side,
        (Dim::Fixed(_), Dim::Dynamic) => true,
        (Dim::Dynamic, _) => false,
    };
    match spec.shape[..] {
        [_, Dim::Fixed(bands), height, width] if is_bands(Dim::Fixed(bands), width) => {
            Ok((DimOrder::Bchw, bands, height, width))
        }
        [_, height, width, Dim::Fixed(bands)] if is_bands(Dim::Fixed(bands), height) => {
            Ok((DimOrder::Bhwc, bands, height, width))
        }
        _ => bail!(
            "the model takes {}, which is no batch of image tiles of a fixed number of bands",
            spec.shape_text()
        ),
    }
}

/// What the training pipeline did one after the other, as the extension's one step: `(v / d - m) / s` is
/// `(v - m d) / (s d)`.
fn scaling(args: &InitArgs, n_bands: usize) -> anyhow::Result<Vec<Scaling>> {
    let divisor = args.divide_by.unwrap_or(1.0);
    if args.mean.is_empty() {
        let scaling = args.divide_by.map_or(Scaling::None, |value| Scaling::Scale { value });
        return Ok(vec![scaling; n_bands]);
    }
    let of_band = |numbers: &[f64], band: usize| match numbers {
        [one] => Some(*one),
        many => many.get(band).copied().filter(|_| many.len() == n_bands),
    };
    let bands = (0..n_bands).map(|band| {
        let (mean, std) = (of_band(&args.mean, band)?, of_band(&args.std, band)?);
        Some(Scaling::ZScore { mean: rounded(mean * divisor), stddev: rounded(std * divisor) })
    });
    let scaling = bands.collect::<Option<Vec<_>>>();
    scaling.with_context(|| format!("--mean and --std take one number, or {n_bands}: one for each band"))
}

/// 0.485 x 255 is 123.675 and not 123.67499999999999.
fn rounded(number: f64) -> f64 {
    format!("{number:.9}").parse().unwrap_or(number)
}

fn output(
    args: &InitArgs,
    described: &OnnxDescription,
    name: &str,
    input: &InputSpec,
) -> anyhow::Result<OutputSpec> {
    let shape = described.outputs.first().and_then(|(_, shape)| shape.as_deref());
    let (dim_order, channels) = match shape {
        Some([_, Dim::Fixed(channels), _, _]) if input.dim_order == DimOrder::Bchw => {
            (DimOrder::Bchw, *channels)
        }
        Some([_, _, _, Dim::Fixed(channels)]) => (DimOrder::Bhwc, *channels),
        Some([_, Dim::Fixed(channels), _, _]) => (DimOrder::Bchw, *channels),
        Some([_, _, _]) => (DimOrder::Bchw, 1),
        _ => bail!("the model's output has no shape of an image with a fixed number of channels"),
    };
    let ending = described.final_operator.as_deref().map_or(Ending::Unknown, Ending::of_operator);
    let activation = match (args.activation, ending) {
        (Some(said), _) => said.into(),
        (None, Ending::Activated(_)) => Activation::AlreadyProbability,
        (None, Ending::Unbounded) => bail!(
            "the model ends in an unbounded operator, so its output is no probability yet: say --activation sigmoid or softmax"
        ),
        (None, Ending::Unknown) => bail!(
            "the file does not show whether the output is a probability: say --activation none, sigmoid or softmax"
        ),
    };
    Ok(OutputSpec {
        name: "probability".to_owned(),
        activation,
        activation_is_said: true,
        classes: classes(args, name, channels)?,
        threshold: args.threshold.map_or(0.5, |threshold| threshold as f32),
        channels: Some(channels),
        dim_order: Some(dim_order),
    })
}

fn classes(args: &InitArgs, name: &str, channels: usize) -> anyhow::Result<Vec<Class>> {
    let n_classes = channels.max(2);
    let names = match (args.classes.len(), channels) {
        (0, 1) => vec!["background".to_owned(), name.to_owned()],
        (0, n) => (0..n).map(|index| format!("class {index}")).collect(),
        (n, _) if n == n_classes => args.classes.clone(),
        (n, _) => bail!("--classes names {n}, but an output of {channels} channels has {n_classes}"),
    };
    let class = |(value, name)| Class { value, name, description: None, color: None };
    Ok((0..).zip(names).map(class).collect())
}

/// The model, and the TorchScript archive of the same name where there is one.
fn assets(model: &Path, output: &Path) -> anyhow::Result<Vec<ModelAsset>> {
    let kinds = [
        (model.to_owned(), "onnx", "application/octet-stream; application=onnx", "onnx"),
        (
            model.with_extension("pt"),
            "torchscript",
            "application/octet-stream; application=pytorch",
            "torch.jit.save",
        ),
    ];
    let mut assets = Vec::new();
    for (path, key, media_type, artifact_type) in kinds.into_iter().filter(|(path, ..)| path.is_file()) {
        let bytes = std::fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        assets.push(ModelAsset {
            key: key.to_owned(),
            href: href(&path, output)?,
            title: None,
            media_type: Some(media_type.to_owned()),
            roles: vec!["mlm:model".to_owned(), "data".to_owned()],
            artifact_type: Some(artifact_type.to_owned()),
            size_bytes: Some(bytes.len() as u64),
            sha256: Some(Sha256Digest::of(&bytes)),
        });
    }
    Ok(assets)
}

/// The file's path from the item, which lies beside it or above.
fn href(file: &Path, item: &Path) -> anyhow::Result<String> {
    let folder = item_folder(item)
        .canonicalize()
        .with_context(|| format!("failed to find the folder of `{}`", item.display()))?;
    let file = file.canonicalize().with_context(|| format!("failed to find `{}`", file.display()))?;
    let below = file.strip_prefix(&folder).ok().with_context(|| {
        format!("`{}` does not lie below the item: write the item beside its files", file.display())
    })?;
    let parts = below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>();
    Ok(format!("./{}", parts.join("/")))
}
