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
    ImageError, ImageLimits, ModelItem, OutputFile, Progress, Provenance, RunFault, SegmentOptions,
    Segmentation,
};
use tidegate_serve::{ServerOptions, Slot, SlotSpec, describe_onnx};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::scenes::{self, Mark, Marking};
use crate::soon::Soon;

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
    let model = LocalModel::begin(config, (item_path, item), precision)?;
    let Loaded { runtime: (runtime, version), .. } = tokio::task::block_in_place(|| model.loaded.get())?;
    let mut run = |tensor| model.run(tensor);
    let segmentation = tidegate_geo::segment(&image, item, options, &mut run, &mut progress)?;
    let runtime = format!("{runtime} {version}");
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
    let info = scene.raster.info();
    let area = request.area.map(|text| AreaOfInterest::of_geojson(text, info)).transpose()?;
    let model = LocalModel::begin(config, (request.item_path, item), request.precision)?;
    let (loaded, origin) = (model.loaded.clone(), scene.origin.clone());
    let mark = Marking::begin(move || {
        // Not beside the model's loading, which the first tile waits for.
        drop(loaded.get());
        origin.mark()
    });
    let identity = || {
        // Without a model there is no outcome, and this is not what is told of it.
        let unknown = |fault: LoadFault| ImageError::Unreadable { what: fault.to_string() };
        let Loaded { runtime: (runtime, version), .. } = model.loaded.get().map_err(unknown)?;
        let Mark { identity, .. } = mark.get()?;
        Ok(format!("{identity}; {}; {runtime} {version}", model.artifact_sha256))
    };
    let created_at = clock.now();
    let job = SceneJob {
        raster: &*scene.raster,
        item,
        options,
        area: area.as_ref(),
        identity: &identity,
        ready: &|| model.loaded.get().map(drop).map_err(RunFault::new),
        created_at,
        folder,
        begin: request.begin,
    };
    let run = |tensor| model.run(tensor);
    let (outcome, loaded) = tokio::task::block_in_place(|| {
        let outcome = scene::predict_scene(&job, &run, stop, &mut listen);
        // Whatever came of it: the process must not end while a runtime loads.
        (outcome, model.loaded.get())
    });
    let Loaded { runtime, .. } = loaded?;
    let mut report = outcome?;
    let provenance = SceneProvenance {
        scene: scene.name.clone(),
        scene_sha256: mark.get()?.sha256,
        artifact_sha256: model.artifact_sha256,
        runtime,
        created_at,
    };
    report.files.push(scene::write_item(folder, info, item, &report, &provenance)?);
    Ok((report, provenance.runtime.0 + " " + &provenance.runtime.1))
}

/// A model that runs in this process, once it is loaded.
struct LocalModel {
    loaded: Soon<Result<Loaded, LoadFault>>,
    input_name: String,
    artifact_sha256: Sha256Digest,
}

#[derive(Clone)]
struct Loaded {
    slot: Arc<Slot>,
    /// Name and version.
    runtime: (String, String),
}

/// Shared by all who wait for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:#}")]
struct LoadFault(Arc<anyhow::Error>);

impl LocalModel {
    /// Begins to load it.
    fn begin(
        config: &Config,
        (item_path, item): (&Path, &ModelItem),
        precision: Option<Precision>,
    ) -> anyhow::Result<Self> {
        let (artifact, artifact_sha256) = runnable_asset(item, item_path)?;
        let description = describe_onnx(&artifact)?;
        let input_name = match description.inputs.as_slice() {
            [input] => input.name.clone(),
            inputs => bail!("the model takes {} inputs; an image model takes one", inputs.len()),
        };
        let precision = description.precision(precision);
        let precision =
            precision.map_err(|fault| anyhow!("--precision: `{}`: {fault}", artifact.display()))?;
        let spec = SlotSpec {
            version_id: VersionId::new("local"),
            model_name: ModelName::parse(&item.name).unwrap_or_else(|_| local_name()),
            number: item.version.clone().unwrap_or(SemVer::new(0, 0, 0)),
            path: artifact,
            precision,
        };
        let (config, handle) = (config.clone(), Handle::current());
        let load = move || handle.block_on(load(&config, spec)).map_err(|error| LoadFault(Arc::new(error)));
        Ok(Self { loaded: Soon::begin(load), input_name, artifact_sha256 })
    }

    fn run(&self, tensor: Tensor) -> Result<Tensor, RunFault> {
        let Loaded { slot, .. } = self.loaded.get().map_err(RunFault::new)?;
        let inputs = [NamedTensor { name: self.input_name.clone(), tensor }];
        let outputs = slot.run_blocking(&inputs).map_err(RunFault::new)?;
        let first = outputs.into_iter().next();
        first.map(|output| output.tensor).ok_or_else(|| RunFault::new("the model gave no output"))
    }
}

async fn load(config: &Config, spec: SlotSpec) -> anyhow::Result<Loaded> {
    let precision = spec.precision;
    let server = crate::app::open_server(config, server_options(config))?;
    let slot = server.load(spec).await?;
    let mut version = server.runtime().version.to_string();
    if precision == Precision::Bf16 {
        version.push_str(", bf16");
    }
    Ok(Loaded { slot, runtime: (server.runtime().name.to_string(), version) })
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

fn local_name() -> ModelName {
    ModelName::parse("local").expect("a plain lowercase word")
}
