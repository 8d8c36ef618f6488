//! The work of a raster job: the pipeline of `tidegate predict`, with tiles run by the server's workers behind everybody
//! who waits for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;
use tidegate_api::{RasterJob, RasterOutput, RasterProgress, RasterResult, choose_version, output_key};
use tidegate_core::Version;
use tidegate_geo::ModelItem;
use tidegate_geo::scene::media_type;
use tidegate_store::{Hold, JobRecord, NewEvent};
use tokio::sync::watch;
use tokio_util::io::ReaderStream;

use super::Runner;
use super::fault::JobFault;
use super::prediction::{Predicted, Prediction, show};
use super::work::{Finished, Work};

pub struct Raster<'a> {
    pub runner: &'a Arc<Runner>,
    pub job: &'a JobRecord,
    pub hold: &'a Hold,
    /// Raised when the work has to stop.
    pub stop: &'a Arc<AtomicBool>,
    pub progress: &'a watch::Sender<Option<RasterProgress>>,
}

impl Raster<'_> {
    pub async fn run(&self) -> Result<RasterResult, JobFault> {
        self.show("Opening");
        let raster_job: RasterJob = serde_json::from_value(self.job.request.clone())
            .map_err(|error| JobFault::last(format!("the job cannot be read by this release: {error}")))?;
        let (version, mut item) = self.version(&raster_job).await?;
        if let Some(threshold) = raster_job.options.threshold {
            item.output.threshold = threshold as f32;
        }
        let root = self.runner.settings.folder.clone();
        let (id, stop) = (self.hold.job_id.clone(), Arc::clone(self.stop));
        let work = blocking(move || Work::enter(&root, &id, &stop)).await?;
        let work = work.map_err(|error| JobFault::of_disk(&error))?.ok_or(JobFault::Stopped)?;
        let finished = match work.finished().filter(|finished| finished.version_id == version.id) {
            Some(finished) => finished,
            None => self.predict(&raster_job, version, item, &work).await?,
        };
        self.store(finished, &work).await
    }

    /// The version that was pinned when the job began, or else the one that serves now.
    async fn version(&self, raster_job: &RasterJob) -> Result<(Version, ModelItem), JobFault> {
        let store = &self.runner.store;
        if let Some(id) = &self.job.version_id {
            let version = store.versions.get(id).await?;
            let version = version.ok_or_else(|| JobFault::last("the version that began it is gone"))?;
            let item = version.stac_item.as_ref().and_then(|item| ModelItem::parse(item).ok());
            let item = item.ok_or_else(|| JobFault::last("the version's STAC item cannot be read"))?;
            self.note("resumed", "taken up again".to_owned()).await?;
            return Ok((version, item));
        }
        let model = store.models.get(&self.job.model_id).await?;
        let model = model.ok_or_else(|| JobFault::last("the model is gone"))?;
        let chosen = choose_version(store, &model, self.job.environment, raster_job.version.as_ref()).await;
        let (version, item) = chosen.map_err(|error| match error {
            tidegate_api::ChooseError::Store(error) => error.into(),
            error => JobFault::last(error),
        })?;
        let (number, digest) = (&version.version, &version.primary.sha256);
        let event = NewEvent {
            at: self.runner.clock.now(),
            kind: "started".to_owned(),
            message: format!("begun with version {number} of {}", model.name),
            evidence: json!({"version": number.to_string(), "artifactSha256": digest,
                "replica": self.hold.holder}),
        };
        match store.jobs.pin(self.hold, &version.id, &event).await? {
            true => Ok((version, item)),
            false => Err(JobFault::Stopped),
        }
    }

    async fn predict(
        &self,
        raster_job: &RasterJob,
        version: Version,
        item: ModelItem,
        work: &Work,
    ) -> Result<Finished, JobFault> {
        // Held to the end, so that what happens to the version's traffic meanwhile changes nothing here.
        let slot = self.runner.placement.load(&version.id).await.map_err(JobFault::of_place)?;
        let prediction = Prediction {
            runner: Arc::clone(self.runner),
            raster_job: raster_job.clone(),
            artifact_sha256: version.primary.sha256.clone(),
            item,
            slot,
            output: work.output(),
            created_at: self.job.started_at.unwrap_or(self.job.created_at),
            stop: Arc::clone(self.stop),
            progress: self.progress.clone(),
        };
        let (begun_anew, predicted) = blocking(move || prediction.run()).await?;
        if let Some(why) = begun_anew {
            self.note("restarted", why).await?;
        }
        let Predicted { result, files } = predicted?;
        let finished = Finished { version_id: version.id, result, files };
        work.finish(&finished).map_err(|error| JobFault::of_disk(&error))?;
        Ok(finished)
    }

    /// Brings the files into the artifact store.
    async fn store(&self, finished: Finished, work: &Work) -> Result<RasterResult, JobFault> {
        self.show("Storing");
        let started = Instant::now();
        let Finished { mut result, files, .. } = finished;
        for name in files {
            if self.stop.load(Ordering::Relaxed) {
                return Err(JobFault::Stopped);
            }
            let file = tokio::fs::File::open(work.output().join(&name)).await;
            let file = file.map_err(|error| JobFault::of_disk(&error))?;
            let stream = ReaderStream::with_capacity(file, READ_BYTES);
            let key = output_key(&self.hold.job_id, &name);
            let stored = self.runner.artifacts.put(&key, stream, u64::MAX).await.map_err(JobFault::of_put)?;
            let media_type = media_type(&name).to_owned();
            result.outputs.push(RasterOutput {
                name,
                media_type,
                size_bytes: stored.size_bytes,
                sha256: stored.sha256,
            });
        }
        result.timings.storing_seconds = started.elapsed().as_secs_f64();
        Ok(result)
    }

    async fn note(&self, kind: &str, message: String) -> Result<(), JobFault> {
        let evidence = json!({"replica": self.hold.holder});
        let event = NewEvent { at: self.runner.clock.now(), kind: kind.to_owned(), message, evidence };
        match self.runner.store.jobs.note(self.hold, &event).await? {
            true => Ok(()),
            false => Err(JobFault::Stopped),
        }
    }

    fn show(&self, phase: &str) {
        show(self.progress, |progress| progress.phase = phase.to_owned());
    }
}

/// Large enough that hashing, not system calls, sets the pace.
const READ_BYTES: usize = 256 << 10;

/// The work is long and never waits for async code of its own: it has a thread to itself.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JobFault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| JobFault::last(format!("the job's thread ended: {error}")))
}
