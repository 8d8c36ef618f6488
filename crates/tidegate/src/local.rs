//! Predictions with no server at all: a STAC item, its artifact, a runtime, one image or one scene.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow, bail};
use tidegate_core::{
    ArtifactFormat, Clock, ModelName, NamedTensor, Precision, SemVer, Sha256Digest, Tensor, VersionId,
};
use tidegate_geo::scene::{
    self, AreaOfInterest, Begin, SceneJob, SceneOptions, SceneProvenance, SceneReport, SceneStep,
};
use tidegate_geo::{
    ImageLimits, ModelItem, OutputFile, Progress, Provenance, RunFault, SegmentOptions, Segmentation,
};
use tidegate_serve::{ServerOptions, Slot, SlotSpec, describe_onnx};

use crate::config::Config;
use crate::scenes;

/// What one local prediction gave.
pub struct LocalPrediction {
    pub files: Vec<OutputFile>,
    pub segmentation: Segmentation,
    pub runtime: String,
}

/// Verifies and loads the ONNX asset of the item at `item_path`, and segments the image.
pub async fn predict(
    config: &Config,
    (item_path, item): (&Path, &ModelItem),
    precision: Option<Precision>,
    image_path: &Path,
    options: &SegmentOptions,
    clock: &dyn Clock,
    mut progress: impl FnMut(Progress) + Send,
) -> anyhow::Result<LocalPrediction> {
    let bytes =
        std::fs::read(image_path).with_context(|| format!("failed to read `{}`", image_path.display()))?;
    let limits =
        ImageLimits { max_pixels: config.server.max_image_megapixels * 1_000_000, ..ImageLimits::default() };
    let image = tidegate_geo::decode(&bytes, &limits)?;
    let model = LocalModel::load(config, (item_path, item), precision).await?;
    let mut run = |tensor| model.run(tensor);
    let segmentation = tidegate_geo::segment(&image, item, options, &mut run, &mut progress)?;
    let runtime = format!("{} {}", model.runtime.0, model.runtime.1);
    let provenance = Provenance {
        input_name: image_path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        input_sha256: Sha256Digest::of(&bytes),
        model_name: item.name.clone(),
        version: item.version.clone(),
        artifact_sha256: model.artifact_sha256,
        runtime: runtime.clone(),
        created_at: clock.now(),
    };
    let files = tidegate_geo::render(&image, item, &segmentation, &provenance)?;
    Ok(LocalPrediction { files, segmentation, runtime })
}

/// What a scene's prediction is asked for.
pub struct SceneRequest<'a> {
    pub item_path: &'a Path,
    pub item: &'a ModelItem,
    pub scene: &'a scenes::Scene,
    pub options: &'a SceneOptions,
    /// GeoJSON.
    pub area: Option<&'a str>,
    pub folder: &'a Path,
    pub begin: Begin,
    /// As the file says where missing.
    pub precision: Option<Precision>,
}

/// Verifies and loads the item's ONNX asset, runs it over the scene and writes the files. `stop` ends it early.
pub async fn predict_scene(
    config: &Config,
    request: &SceneRequest<'_>,
    clock: &dyn Clock,
    stop: &AtomicBool,
    mut listen: impl FnMut(SceneStep) + Send,
) -> anyhow::Result<(SceneReport, String)> {
    let SceneRequest { item, scene, options, folder, .. } = *request;
    let origin = scene.origin.clone();
    // Beside the model's loading: a scene is large, and nothing is written without its digest.
    let mark = tokio::task::spawn_blocking(move || origin.mark());
    let model = LocalModel::load(config, (request.item_path, item), request.precision).await?;
    let mark = mark.await??;
    let info = scene.raster.info();
    let area = request.area.map(|text| AreaOfInterest::of_geojson(text, info)).transpose()?;
    let runtime = format!("{} {}", model.runtime.0, model.runtime.1);
    let identity = format!("{}; {}; {runtime}", mark.identity, model.artifact_sha256);
    let created_at = clock.now();
    let job = SceneJob {
        raster: &*scene.raster,
        item,
        options,
        area: area.as_ref(),
        identity: &identity,
        created_at,
        folder,
        begin: request.begin,
    };
    let run = |tensor| model.run(tensor);
    let mut report = tokio::task::block_in_place(|| scene::predict_scene(&job, &run, stop, &mut listen))?;
    let provenance = SceneProvenance {
        scene: scene.name.clone(),
        scene_sha256: mark.sha256,
        artifact_sha256: model.artifact_sha256.clone(),
        runtime: model.runtime.clone(),
        created_at,
    };
    report.files.push(scene::write_item(folder, info, item, &report, &provenance)?);
    Ok((report, runtime))
}

/// A model that runs in this process.
struct LocalModel {
    slot: Arc<Slot>,
    input_name: String,
    artifact_sha256: Sha256Digest,
    /// Name and version.
    runtime: (String, String),
}

impl LocalModel {
    async fn load(
        config: &Config,
        (item_path, item): (&Path, &ModelItem),
        precision: Option<Precision>,
    ) -> anyhow::Result<Self> {
        let (artifact, artifact_sha256) = runnable_asset(item, item_path)?;
        let precision = describe_onnx(&artifact)?.precision(precision);
        let precision =
            precision.map_err(|fault| anyhow!("--precision: `{}`: {fault}", artifact.display()))?;
        let server = crate::app::open_server(config, server_options(config))?;
        let spec = SlotSpec {
            version_id: VersionId::new("local"),
            model_name: ModelName::parse(&item.name).unwrap_or_else(|_| local_name()),
            number: item.version.clone().unwrap_or(SemVer::new(0, 0, 0)),
            path: artifact,
            precision,
        };
        let slot = server.load(spec).await?;
        let mut version = server.runtime().version.to_string();
        if precision == Precision::Bf16 {
            version.push_str(", bf16");
        }
        let runtime = (server.runtime().name.to_string(), version);
        Ok(Self { input_name: single_input(&slot)?, slot, artifact_sha256, runtime })
    }

    fn run(&self, tensor: Tensor) -> Result<Tensor, RunFault> {
        let inputs = [NamedTensor { name: self.input_name.clone(), tensor }];
        let outputs = self.slot.run_blocking(&inputs).map_err(RunFault::new)?;
        let first = outputs.into_iter().next();
        first.map(|output| output.tensor).ok_or_else(|| RunFault::new("the model gave no output"))
    }
}

/// What is run together is decided by the pipeline, and its first tiles are trial enough.
fn server_options(config: &Config) -> ServerOptions {
    let mut options = config.runtime.server_options();
    for slot in options.models.values_mut().chain([&mut options.slot]) {
        slot.warmup_runs = 1;
        slot.batch.max_rows = Some(1);
    }
    options
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
