//! Jobs that are over are deleted after a while, and work folders that nobody will come back to at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_api::job_prefix;
use tidegate_core::{Clock, Timestamp};
use tidegate_store::{ArtifactStore, Store};
use tokio_util::sync::CancellationToken;

use super::work;

const INTERVAL: Duration = Duration::from_secs(600);

/// Deleted in one go; the rest has its turn the next time.
const MAX_EXPIRED: u32 = 100;

pub struct Upkeep {
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub clock: Arc<dyn Clock>,
    /// Where each job has a folder of its own while it is at work.
    pub folder: PathBuf,
    /// After which a job that is over is deleted.
    pub retention: SignedDuration,
}

impl Upkeep {
    pub async fn run(self, stop: CancellationToken) {
        loop {
            self.tidy().await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn tidy(&self) {
        self.expire().await;
        self.sweep().await;
    }

    async fn expire(&self) {
        let cutoff = self.clock.now().saturating_sub(self.retention).unwrap_or(Timestamp::MIN);
        let expired = match self.store.jobs.over_before(cutoff, MAX_EXPIRED).await {
            Ok(expired) => expired,
            Err(error) => {
                tracing::warn!(%error, "failed to look for expired jobs");
                return;
            }
        };
        for id in expired {
            if let Err(error) = self.store.jobs.delete(&id).await {
                tracing::warn!(job = %id, %error, "failed to delete an expired job");
                continue;
            }
            // What a failure leaves has no row, and the sweep of the artifact store finds it.
            if let Err(error) = self.artifacts.delete_prefix(&job_prefix(&id)).await {
                tracing::warn!(job = %id, %error, "left the files of an expired job to the sweep");
            }
        }
    }

    /// Folders of jobs that are over, left by a process that was killed in between.
    async fn sweep(&self) {
        let root = self.folder.clone();
        let folders = tokio::task::spawn_blocking({
            let root = root.clone();
            move || work::ids(&root)
        });
        let ids = match folders.await {
            Ok(Ok(ids)) => ids,
            Ok(Err(error)) => {
                tracing::warn!(%error, folder = %root.display(), "failed to look for left folders of jobs");
                return;
            }
            Err(_) => return,
        };
        for id in ids {
            let is_over = match self.store.jobs.get(&id).await {
                Ok(job) => job.is_none_or(|job| job.status.is_over()),
                Err(_) => continue,
            };
            let (root, over) = (root.clone(), id.clone());
            if is_over
                && let Ok(Err(error)) = tokio::task::spawn_blocking(move || work::remove(&root, &over)).await
            {
                tracing::warn!(job = %id, %error, "failed to remove the folder of a job");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use bytes::Bytes;
    use futures::stream;
    use serde_json::{Value, json};
    use tidegate_core::{
        Artifact, ArtifactFormat, Environment, Framework, JobId, Model, ModelId, ModelName, ModelType,
        Sha256Digest, Version, VersionId, VersionStatus,
    };
    use tidegate_store::{ArtifactLocation, JobEnd, NewEvent, NewJob};

    use super::*;

    const LEASE: SignedDuration = SignedDuration::from_secs(10);

    /// Seconds since 1970, set by the test.
    struct SetClock(AtomicI64);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
        }
    }

    /// A store with a model, whose jobs are made to any time.
    struct Bench {
        home: tempfile::TempDir,
        model_id: ModelId,
        clock: Arc<SetClock>,
        upkeep: Upkeep,
    }

    impl Bench {
        async fn new(retention: SignedDuration) -> Self {
            let home = tempfile::tempdir().unwrap();
            let store = Store::connect("sqlite::memory:").await.unwrap();
            let model_id = register_model(&store).await;
            let location = ArtifactLocation::Folder(home.path().join("artifacts"));
            let clock = Arc::new(SetClock(AtomicI64::new(0)));
            let upkeep = Upkeep {
                store: Arc::new(store),
                artifacts: Arc::new(ArtifactStore::open(&location).unwrap()),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                folder: home.path().join("work"),
                retention,
            };
            Self { home, model_id, clock, upkeep }
        }

        /// A job with a file in the artifact store and one in its folder, that began now.
        async fn begin(&self, id: &str) -> tidegate_store::Hold {
            let now = self.clock.now();
            let id = JobId::new(id);
            let job = NewJob {
                id: id.clone(),
                kind: "raster",
                model_id: self.model_id.clone(),
                environment: Environment::Production,
                request: Value::Null,
                requested_by: "ana".to_owned(),
                created_at: now,
            };
            let jobs = &self.upkeep.store.jobs;
            assert!(jobs.create(&job, &event(now), 10).await.unwrap());
            let (_, hold) = jobs.take("here", now, LEASE).await.unwrap().unwrap();
            assert_eq!(hold.job_id, id);
            let key = format!("{}/outputs/mask.tif", job_prefix(&id));
            let content = stream::iter([Ok(Bytes::from_static(b"mask"))]);
            self.upkeep.artifacts.put(&key, content, 10).await.unwrap();
            let folder = self.upkeep.folder.join(id.as_str());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("spool"), "rows").unwrap();
            hold
        }

        async fn end(&self, hold: &tidegate_store::Hold, end: &JobEnd) {
            let now = self.clock.now();
            assert!(self.upkeep.store.jobs.end(hold, end, now, &event(now)).await.unwrap());
        }

        /// Jobs that have a row, files in the artifact store, and a folder.
        async fn left(&self) -> [Vec<String>; 3] {
            let names = |folder: &str| {
                let entries = std::fs::read_dir(self.home.path().join(folder)).into_iter().flatten();
                let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                sorted(names.collect())
            };
            let rows = self.upkeep.store.jobs.ids().await.unwrap();
            let rows = rows.iter().map(|id| id.as_str().to_owned()).collect();
            [sorted(rows), names("artifacts/jobs"), names("work")]
        }
    }

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    fn event(at: Timestamp) -> NewEvent {
        NewEvent { at, kind: "told".to_owned(), message: String::new(), evidence: Value::Null }
    }

    async fn register_model(store: &Store) -> ModelId {
        let at = Timestamp::UNIX_EPOCH;
        let model = Model {
            id: ModelId::new("model"),
            name: ModelName::parse("detector").unwrap(),
            description: None,
            framework: Framework::PyTorch,
            model_type: ModelType::ComputerVision,
            owner: "ana".to_owned(),
            tags: vec![],
            active_version: None,
            is_archived: false,
            created_at: at,
            updated_at: at,
        };
        let primary = Artifact {
            name: "net.onnx".to_owned(),
            path: "models/net.onnx".to_owned(),
            format: ArtifactFormat::Onnx,
            sha256: Sha256Digest::of(b"net"),
            size_bytes: 3,
        };
        let version = Version {
            id: VersionId::new("version"),
            model_id: model.id.clone(),
            version: "1.0.0".parse().unwrap(),
            artifacts: vec![primary.clone()],
            primary,
            precision: tidegate_core::Precision::F32,
            reference: None,
            signature: None,
            input_schema: json!(true),
            output_schema: json!(true),
            stac_item: None,
            training_metadata: None,
            baseline: None,
            validation_sample: None,
            status: VersionStatus::Registered,
            created_at: at,
        };
        store.versions.register(&model, &version).await.unwrap();
        model.id
    }

    #[tokio::test]
    async fn a_job_is_deleted_with_its_files_so_long_after_it_was_over() {
        const DAY: i64 = 24 * 3600;
        let bench = Bench::new(SignedDuration::from_hours(7 * 24)).await;
        let day = |day: i64| bench.clock.0.store(day * DAY, Ordering::Relaxed);
        day(100);
        let first = bench.begin("a-succeeded").await;
        bench.end(&first, &JobEnd::Succeeded { result: json!({"outputs": []}) }).await;
        let second = bench.begin("b-failed-later").await;
        bench.begin("c-at-work").await;
        day(103);
        bench.end(&second, &JobEnd::Failed { reason: "no".to_owned() }).await;

        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = names(&["a-succeeded", "b-failed-later", "c-at-work"]);
        let (two, one) = (names(&["b-failed-later", "c-at-work"]), names(&["c-at-work"]));
        assert_eq!(bench.left().await, [all.clone(), all.clone(), all.clone()]);
        day(107);
        bench.upkeep.tidy().await;
        assert_eq!(
            bench.left().await,
            [all.clone(), all, one.clone()],
            "seven days are not over; folders are no use"
        );
        bench.clock.0.fetch_add(1, Ordering::Relaxed);
        bench.upkeep.tidy().await;
        assert_eq!(bench.left().await, [two.clone(), two, one.clone()]);
        assert_eq!(bench.upkeep.store.jobs.events(&first.job_id, 0, 10).await.unwrap().len(), 0);
        day(1000);
        bench.upkeep.tidy().await;
        assert_eq!(bench.left().await, [one.clone(), one.clone(), one], "what is not over has no age");
    }
}
