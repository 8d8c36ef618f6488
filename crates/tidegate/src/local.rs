//! Predictions with no server at all: a STAC item, its artifact, a runtime, one image.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tidegate_core::{ArtifactFormat, Clock, ModelName, NamedTensor, SemVer, Sha256Digest, VersionId};
use tidegate_geo::{
    ImageLimits, ModelItem, OutputFile, Progress, Provenance, RunFault, SegmentOptions, Segmentation,
};
use tidegate_serve::{Slot, SlotSpec};

use crate::config::Config;

/// What one local prediction gave.
pub struct LocalPrediction {
    pub files: Vec<OutputFile>,
    pub segmentation: Segmentation,
    pub runtime: String,
}

/// Reads the item, verifies and loads its ONNX asset, and segments the image.
pub async fn predict(
    config: &Config,
    item_path: &Path,
    image_path: &Path,
    options: &SegmentOptions,
    clock: &dyn Clock,
    mut progress: impl FnMut(Progress) + Send,
) -> anyhow::Result<LocalPrediction> {
    let item = read_item(item_path)?;
    let (artifact, digest) = runnable_asset(&item, item_path)?;
    let bytes =
        std::fs::read(image_path).with_context(|| format!("failed to read `{}`", image_path.display()))?;
    let limits =
        ImageLimits { max_pixels: config.server.max_image_megapixels * 1_000_000, ..ImageLimits::default() };
    let image = tidegate_geo::decode(&bytes, &limits)?;

    let server = crate::app::open_server(config)?;
    let spec = SlotSpec {
        version_id: VersionId::new("local"),
        model_name: ModelName::parse(&item.name).unwrap_or_else(|_| local_name()),
        number: item.version.clone().unwrap_or(SemVer::new(0, 0, 0)),
        path: artifact,
    };
    let slot = server.load(spec).await?;
    let input_name = single_input(&slot)?;
    let mut run = |tensor| {
        let inputs = [NamedTensor { name: input_name.clone(), tensor }];
        let outputs = slot.run_blocking(&inputs).map_err(RunFault::new)?;
        let first = outputs.into_iter().next();
        first.map(|output| output.tensor).ok_or_else(|| RunFault::new("the model gave no output"))
    };
    let segmentation = tidegate_geo::segment(&image, &item, options, &mut run, &mut progress)?;
    let runtime = format!("{} {}", server.runtime().name, server.runtime().version);
    let provenance = Provenance {
        input_name: image_path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        input_sha256: Sha256Digest::of(&bytes),
        model_name: item.name.clone(),
        version: item.version.clone(),
        artifact_sha256: digest,
        runtime: runtime.clone(),
        created_at: clock.now(),
    };
    let files = tidegate_geo::render(&image, &item, &segmentation, &provenance)?;
    Ok(LocalPrediction { files, segmentation, runtime })
}

/// A STAC-MLM item from a file.
pub fn read_item(path: &Path) -> anyhow::Result<ModelItem> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the STAC item `{}`", path.display()))?;
    let json = serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))?;
    Ok(ModelItem::parse(&json)?)
}

/// The item's ONNX asset on disk, with its digest verified against the item.
fn runnable_asset(item: &ModelItem, item_path: &Path) -> anyhow::Result<(std::path::PathBuf, Sha256Digest)> {
    let runnable = item.assets.iter().find(|asset| ArtifactFormat::of_file_name(&asset.href).is_runnable());
    let asset = runnable
        .ok_or_else(|| anyhow!("the STAC item has no .onnx asset; export one with torch.onnx.export"))?;
    let folder = item_path.parent().unwrap_or(Path::new("."));
    let path = tidegate_geo::resolve_href(folder, &asset.href)?;
    let bytes =
        std::fs::read(&path).with_context(|| format!("failed to read the model `{}`", path.display()))?;
    let digest = Sha256Digest::of(&bytes);
    match &asset.sha256 {
        Some(declared) if *declared != digest => bail!(
            "`{}` is not the file that the STAC item describes: its SHA-256 is {digest}, the item says {declared}",
            path.display()
        ),
        _ => Ok((path, digest)),
    }
}

fn single_input(slot: &Arc<Slot>) -> anyhow::Result<String> {
    match slot.signature().inputs.as_slice() {
        [input] => Ok(input.name.clone()),
        inputs => bail!("the model takes {} inputs; an image model takes one", inputs.len()),
    }
}

fn local_name() -> ModelName {
    ModelName::parse("local").expect("a plain lowercase word")
}
