//! The part of a raster job that has a thread to itself: opening the scene, running the pipeline over it, and telling how far
//! that is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tidegate_api::{
    RasterJob, RasterProgress, RasterResult, RasterTimings, SceneAddress, SceneSource, TileRunner,
};
use tidegate_core::{Sha256Digest, Tensor, Timestamp};
use tidegate_geo::scene::{
    self, AreaOfInterest, Begin, SceneError, SceneJob, SceneProvenance, SceneReport, SceneStep,
};
use tidegate_geo::{ModelItem, RunFault};
use tidegate_serve::{Slot, Standing};
use tidegate_store::{Redirects, RemoteError, RemoteFile};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Runner;
use super::fault::JobFault;
use crate::scenes::{self, Mark, Marking, Origin, Scene};

/// What the blocking thread needs.
pub struct Prediction {
    pub runner: Arc<Runner>,
    pub raster_job: RasterJob,
    pub artifact_sha256: Sha256Digest,
    pub item: ModelItem,
    pub slot: Arc<Slot>,
    pub output: PathBuf,
    pub created_at: Timestamp,
    pub stop: Arc<AtomicBool>,
    pub progress: watch::Sender<Option<RasterProgress>>,
}

/// What is to be stored.
pub struct Predicted {
    /// Without outputs yet.
    pub result: RasterResult,
    pub files: Vec<String>,
}

impl Prediction {
    /// What came of it, and why an earlier attempt's work was thrown away, where it was.
    pub fn run(&self) -> (Option<String>, Result<Predicted, JobFault>) {
        let opened = Handle::current().block_on(self.open());
        let prepared = opened.and_then(|scene| self.area(&scene).map(|area| (scene, area)));
        let (scene, area) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => return (None, Err(fault)),
        };
        let origin = scene.origin.clone();
        let mark = Marking::begin(move || origin.mark());
        let predict = |begin| self.predict((&scene, &mark), area.as_ref(), begin);
        let (why, outcome) = match predict(Begin::Resume) {
            Err(SceneError::Changed { what, .. }) => {
                let why = format!("what was done was done with {what}, so it was begun anew");
                (Some(why), predict(Begin::Afresh))
            }
            outcome => (None, outcome),
        };
        let outcome = outcome.map_err(|error| self.fault(error));
        (why, outcome.and_then(|report| self.finish((&scene, &mark), report)))
    }

    fn area(&self, scene: &Scene) -> Result<Option<AreaOfInterest>, JobFault> {
        let Some(aoi) = self.raster_job.options.aoi.as_ref() else { return Ok(None) };
        AreaOfInterest::of_json(aoi, scene.raster.info()).map(Some).map_err(JobFault::of_pipeline)
    }

    async fn open(&self) -> Result<Scene, JobFault> {
        let assumed = self.raster_job.options.assumed_crs();
        let failed = |error: anyhow::Error| JobFault::of_source(&error);
        let remote = |error: RemoteError| failed(anyhow::Error::from(error));
        let file = |path: &Path, name: Option<&str>| {
            let scene = scenes::open_file(path, assumed, &self.runner.settings.limits).map_err(failed)?;
            let plain = "the scene is neither a GeoTIFF nor an image with a world file beside it; \
                         POST /api/v1/inference/{model} takes plain images";
            let mut scene = scene.ok_or_else(|| JobFault::last(plain))?;
            scene.name = name.map_or(scene.name, str::to_owned);
            Ok(scene)
        };
        match &self.raster_job.scene {
            SceneSource::Upload { name, key, sha256, .. } => match self.runner.artifacts.file(key) {
                Some(path) => file(&path, Some(name.as_str())),
                None => {
                    let opened = RemoteFile::open_artifact(&self.runner.artifacts, key).await;
                    let opened = opened.map_err(remote)?;
                    let scene = scenes::open_remote(opened, name.clone(), assumed).map_err(failed)?;
                    Ok(Scene { origin: Origin::Known(sha256.clone()), ..scene })
                }
            },
            SceneSource::Address { address } => {
                let shown = self.raster_job.scene.shown().to_owned();
                let resolved = self.runner.settings.sources.resolve(address).map_err(JobFault::last)?;
                let opened = match resolved {
                    SceneAddress::File(path) => return file(&path, None),
                    SceneAddress::Object { store, key } => RemoteFile::open_artifact(&store, &key).await,
                    SceneAddress::Web(url) => RemoteFile::open_http(&url, Redirects::Refuse).await,
                };
                scenes::open_remote(opened.map_err(remote)?, shown, assumed).map_err(failed)
            }
        }
    }

    fn predict(
        &self,
        (scene, mark): (&Scene, &Marking),
        area: Option<&AreaOfInterest>,
        begin: Begin,
    ) -> Result<SceneReport, SceneError> {
        let settings = &self.runner.settings;
        let options = self.raster_job.options.scene_options(settings.threads, settings.max_memory_bytes);
        let (runtime, version) = self.runtime();
        let identity = || {
            let Mark { identity, .. } = mark.get()?;
            Ok(format!("{identity}; {}; {runtime} {version}", self.artifact_sha256))
        };
        let job = SceneJob {
            raster: &*scene.raster,
            item: &self.item,
            options: &options,
            area,
            identity: &identity,
            // The slot is loaded.
            ready: &|| Ok(()),
            created_at: self.created_at,
            folder: &self.output,
            begin,
        };
        let (tiles, _guard) =
            TileRunner::new(Arc::clone(&self.runner.server), Arc::clone(&self.slot), Standing::Apart);
        let run = |tile: Tensor| -> Result<Tensor, RunFault> {
            match self.stop.load(Ordering::Relaxed) {
                true => Err(RunFault::new("stopped")),
                false => tiles.run_behind_callers(&tiles.inputs(tile)?),
            }
        };
        let mut pace = Pace::default();
        let mut listen = |step| match step {
            SceneStep::Tiles(done) => show(&self.progress, |progress| pace.show(done, progress)),
            SceneStep::Writing(_) => show(&self.progress, |progress| {
                progress.phase = "Writing".to_owned();
                progress.eta_seconds = None;
            }),
        };
        scene::predict_scene(&job, &run, &self.stop, &mut listen)
    }

    fn fault(&self, error: SceneError) -> JobFault {
        if self.stop.load(Ordering::Relaxed) { JobFault::Stopped } else { JobFault::of_scene(error) }
    }

    fn finish(
        &self,
        (scene, mark): (&Scene, &Marking),
        mut report: SceneReport,
    ) -> Result<Predicted, JobFault> {
        let mark = mark.get().map_err(|error| JobFault::of_source(&error.into()))?;
        let (runtime, version) = self.runtime();
        let provenance = SceneProvenance {
            scene: scene.name.clone(),
            scene_sha256: mark.sha256,
            artifact_sha256: self.artifact_sha256.clone(),
            runtime: (runtime.clone(), version.clone()),
            created_at: self.created_at,
        };
        let item = scene::write_item(&self.output, scene.raster.info(), &self.item, &report, &provenance);
        report.files.push(item.map_err(|error| JobFault::of_disk(&error))?);
        let seconds = report.seconds;
        let result = RasterResult {
            width: report.width as u64,
            height: report.height as u64,
            tiles: report.n_tiles as u64,
            empty_tiles: report.n_empty_tiles as u64,
            resumed_tiles: report.n_resumed_tiles as u64,
            polygons: report.n_polygons,
            artifact_sha256: self.artifact_sha256.clone(),
            runtime: format!("{runtime} {version}"),
            outputs: Vec::new(),
            timings: RasterTimings {
                runtime_seconds: seconds.runtime,
                inference_seconds: seconds.inference,
                mask_seconds: seconds.mask,
                probability_seconds: seconds.probability,
                polygons_seconds: seconds.polygons,
                overlay_seconds: seconds.overlay,
                storing_seconds: 0.0,
            },
            notes: report.notes,
        };
        let files = report.files.iter().map(|file| file.name.to_owned()).collect();
        Ok(Predicted { result, files })
    }

    fn runtime(&self) -> (String, String) {
        let runtime = self.runner.server.runtime();
        (runtime.name.to_string(), runtime.version.to_string())
    }
}

/// From how fast it went to how long it takes.
#[derive(Default)]
struct Pace {
    /// When the work began or was taken up, and what was done by then.
    began: Option<(Instant, usize)>,
}

impl Pace {
    fn show(&mut self, tiles: tidegate_geo::Progress, progress: &mut RasterProgress) {
        let (began, first) = *self.began.get_or_insert((Instant::now(), tiles.done));
        let n_done = tiles.done.saturating_sub(first);
        let per_tile = began.elapsed().as_secs_f64() / n_done as f64;
        let n_left = tiles.total.saturating_sub(tiles.done);
        *progress = RasterProgress {
            phase: "Predicting".to_owned(),
            tiles_done: tiles.done as u64,
            tiles_total: tiles.total as u64,
            share_done: tiles.done as f64 / tiles.total.max(1) as f64,
            eta_seconds: (n_done > 0).then_some(per_tile * n_left as f64),
        };
    }
}

/// Changes what is shown of the progress.
pub fn show(progress: &watch::Sender<Option<RasterProgress>>, change: impl FnOnce(&mut RasterProgress)) {
    progress.send_modify(|shown| change(shown.get_or_insert_default()));
}
