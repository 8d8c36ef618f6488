//! The validation sample, run on the new version and on the one that serves, in turns.
//!
//! The running version is the standard: measured on the same inputs in the same minutes. Requests go one at a time behind
//! those of callers, so that validation is not what slows them down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_api::{Sample, SampleError, Subject, Trial, TrialError};
use tidegate_core::{
    Artifact, DeploymentId, ModelType, NamedTensor, Route, ValidationSample, Version, VersionId,
};
use tidegate_delivery::{
    Check, GateLimits, LatencyRace, Standard, Standing, ValidationReport, judge_accuracy,
};
use tidegate_geo::ImageLimits;
use tidegate_serve::Slot;
use tidegate_store::StoreError;

use super::Performer;

/// Runs of each version that are timed at most; far more than decide between versions that differ.
const MAX_PAIRS: usize = 2048;

/// The version that serves in the deployment's place.
struct Running {
    version: Version,
    slot: Arc<Slot>,
}

/// What the two versions do on the sample.
struct Contest {
    candidate: Trial,
    /// The running version, or why it is not measured.
    running: Result<(String, Trial), String>,
    /// What the reader of the report should know.
    notes: Vec<String>,
}

/// Nothing to report: there is no sample, or it does not fit.
enum NoContest {
    Quietly,
    /// A check that says why, passed or not.
    Because(Result<String, String>),
}

impl Performer {
    /// Adds the checks `sample`, `accuracy` and `latency`, where there is a sample. Gives inputs of it that the version has
    /// answered.
    pub(super) async fn check_sample(
        &self,
        deployment: &DeploymentId,
        version: &Version,
        slot: Arc<Slot>,
        report: &mut ValidationReport,
    ) -> Vec<Vec<NamedTensor>> {
        let deadline = Instant::now() + self.limits.max_duration;
        let mut contest = match self.contest(deployment, version, slot).await {
            Ok(contest) => contest,
            Err(NoContest::Quietly) => return Vec::new(),
            Err(NoContest::Because(reason)) => {
                report.check("sample", reason);
                return Vec::new();
            }
        };
        match contest.run_cases(deadline).await {
            Ok(detail) => report.check("sample", Ok(detail)),
            Err(error) => {
                report.check("sample", Err(format!("the version fails on its sample: {error}")));
                return Vec::new();
            }
        };
        let limits = self.limits.gates;
        report.add(contest.judge_accuracy(version, limits));
        let latency = contest.judge_latency(version, limits, deadline).await;
        report.add(latency.unwrap_or_else(|error| Check::new("latency", Err(error.to_string()))));
        contest.candidate.inputs().to_vec()
    }

    /// Loads what the contest needs. A version without a sample of its own is tested on the newest of its model, so that one
    /// registration with a sample guards all that follow.
    async fn contest(
        &self,
        deployment: &DeploymentId,
        version: &Version,
        slot: Arc<Slot>,
    ) -> Result<Contest, NoContest> {
        let failed = |error: StoreError| NoContest::Because(Err(error.to_string()));
        let others = match version.validation_sample {
            Some(_) => Vec::new(),
            None => self.store.versions.list(&version.model_id).await.map_err(failed)?,
        };
        let mut owners = std::iter::once(version).chain(&others);
        let sampled = owners.find_map(|owner| Some((owner, owner.validation_sample.as_ref()?)));
        let Some((owner, sample)) = sampled else { return Err(NoContest::Quietly) };
        let (is_own, number) = (owner.id == version.id, owner.version.clone());
        let unusable = |fault: String| {
            let reason = format!("the sample of {number}: {fault}");
            // Somebody else's sample says nothing against this version.
            NoContest::Because(if is_own { Err(reason) } else { Ok(format!("{reason}; not judged")) })
        };
        let sample = self.open_sample(owner, sample).await.map_err(|error| unusable(error.to_string()))?;
        let model_type = self.model_type(version).await.map_err(|error| unusable(error.to_string()))?;
        let sample = Arc::new(sample);
        let subject = Subject::new(Arc::clone(&self.server), slot, version, model_type);
        let begun = blocking(move || Trial::begin(sample, subject)).await;
        let candidate =
            begun.and_then(|begun| begun.map_err(|misfit| misfit.to_string())).map_err(unusable)?;
        let mut notes = Vec::new();
        if !is_own {
            notes.push(format!("the sample is that of {number}"));
        }
        let (candidate, running) = match self.running(deployment, version).await {
            Ok(Some(running)) => self.beside(candidate, running, model_type).await.map_err(unusable)?,
            Ok(None) => (candidate, Err("no version serves here".to_owned())),
            Err(fault) => (candidate, Err(fault)),
        };
        Ok(Contest { candidate, running, notes })
    }

    async fn beside(
        &self,
        candidate: Trial,
        running: Running,
        model_type: ModelType,
    ) -> Result<(Trial, Result<(String, Trial), String>), String> {
        let number = running.version.version.to_string();
        let subject = Subject::new(Arc::clone(&self.server), running.slot, &running.version, model_type);
        let (candidate, begun) = blocking(move || {
            let begun = candidate.beside(subject);
            (candidate, begun)
        })
        .await?;
        let running = match begun {
            Ok(trial) => Ok((number, trial)),
            Err(misfit) => Err(format!("{number}, which serves, does not take the sample: {misfit}")),
        };
        Ok((candidate, running))
    }

    async fn open_sample(&self, owner: &Version, sample: &ValidationSample) -> Result<Sample, SampleError> {
        let is_sample = |artifact: &&Artifact| sample.files.contains(&artifact.name);
        let files: Vec<Artifact> = owner.artifacts.iter().filter(is_sample).cloned().collect();
        for file in &files {
            self.artifacts.verify(&file.path, &file.sha256).await?;
        }
        let limits = ImageLimits::with_max_pixels(self.limits.max_image_pixels);
        Sample::open(&self.artifacts, self.placement.cache_dir(), &files, limits).await
    }

    pub(super) async fn model_type(&self, version: &Version) -> Result<ModelType, StoreError> {
        let model = self.store.models.get(&version.model_id).await?;
        Ok(model.map_or(ModelType::Other, |model| model.model_type))
    }

    /// The version with the most traffic in the place of the deployment; the error says why it cannot be measured.
    async fn running(&self, deployment: &DeploymentId, version: &Version) -> Result<Option<Running>, String> {
        let leader = self.leader_of(deployment).await.map_err(|error| error.to_string())?;
        let Some(leader) = leader.filter(|leader| *leader != version.id) else { return Ok(None) };
        let served = self.store.versions.get(&leader).await.map_err(|error| error.to_string())?;
        let Some(served) = served else { return Ok(None) };
        match self.placement.load(&leader).await {
            Ok(slot) => Ok(Some(Running { version: served, slot })),
            Err(error) => {
                Err(format!("{}, which serves, could not be measured here: {error}", served.version))
            }
        }
    }

    pub(super) async fn leader_of(&self, deployment: &DeploymentId) -> Result<Option<VersionId>, StoreError> {
        let Some(record) = self.store.deployments.get(deployment).await? else { return Ok(None) };
        let route = self.store.routes.get(record.environment, &record.model_id).await?;
        Ok(route.as_ref().and_then(Route::leader).map(|arm| arm.version_id.clone()))
    }
}

impl Contest {
    /// Every case on both versions, in turns, until the deadline. The running version's failure is no fault of the new
    /// one: it is then not the standard.
    async fn run_cases(&mut self, deadline: Instant) -> Result<String, TrialError> {
        let n_cases = self.candidate.n_cases();
        for case in 0..n_cases {
            if case > 0 && Instant::now() >= deadline {
                self.notes.push(format!(
                    "the first {case} of {n_cases}, in the time allowed (deployments.validation.max_duration_s)"
                ));
                break;
            }
            if let Ok((number, trial)) = &mut self.running
                && let Err(error) = trial.run(case).await
            {
                self.running = Err(format!("{number}, which serves, fails on the sample: {error}"));
            }
            self.candidate.run(case).await?;
        }
        Ok(format!("{}{}", self.candidate.score().of, self.note()))
    }

    fn judge_accuracy(&self, version: &Version, limits: GateLimits) -> Check {
        let declared = version.baseline.and_then(|baseline| baseline.accuracy);
        let score = self.candidate.score();
        match (&self.running, declared) {
            (Ok((number, trial)), _) => {
                let standard = Standard::Running { version: number.clone() };
                judge_accuracy(&score, Some((&standard, trial.score().value)), limits, None)
            }
            (Err(why), Some(declared)) => {
                judge_accuracy(&score, Some((&Standard::Declared, declared)), limits, Some(why))
            }
            (Err(why), None) => judge_accuracy(&score, None, limits, Some(why)),
        }
    }

    /// Times both versions in turns until it is shown which is faster, the runs are spent, or the time is.
    async fn judge_latency(
        &self,
        version: &Version,
        limits: GateLimits,
        deadline: Instant,
    ) -> Result<Check, TrialError> {
        let declared = version.baseline.and_then(|baseline| baseline.latency_ms);
        let (standard, why) = match (&self.running, declared) {
            (Ok((number, _)), _) => (Some(Standard::Running { version: number.clone() }), None),
            (Err(why), Some(_)) => (Some(Standard::Declared), Some(why.as_str())),
            (Err(why), None) => (None, Some(why.as_str())),
        };
        let max_pairs = if standard.is_some() { MAX_PAIRS } else { LatencyRace::MIN_PAIRS };
        let mut race = LatencyRace::default();
        let mut next_look = LatencyRace::MIN_PAIRS;
        for turn in 0..max_pairs {
            let (baseline, candidate) = self.pair(turn, declared.unwrap_or_default()).await?;
            race.push(baseline, candidate);
            if race.n_pairs() < LatencyRace::MIN_PAIRS {
                continue;
            }
            if Instant::now() >= deadline {
                break;
            }
            if race.n_pairs() == next_look && standard.is_some() {
                if race.standing(limits) != Standing::Open {
                    break;
                }
                next_look *= 2;
            }
        }
        Ok(race.judge(standard.as_ref(), limits, why))
    }

    /// Milliseconds of the standard and of the new version on one input; who goes first alternates.
    async fn pair(&self, turn: usize, declared_ms: f64) -> Result<(f64, f64), TrialError> {
        let Ok((_, running)) = &self.running else {
            return Ok((declared_ms, time(&self.candidate, turn).await?));
        };
        if turn.is_multiple_of(2) {
            let baseline = time(running, turn).await?;
            Ok((baseline, time(&self.candidate, turn).await?))
        } else {
            let candidate = time(&self.candidate, turn).await?;
            Ok((time(running, turn).await?, candidate))
        }
    }

    fn note(&self) -> String {
        self.notes.iter().map(|note| format!("; {note}")).collect()
    }
}

async fn time(trial: &Trial, turn: usize) -> Result<f64, TrialError> {
    let run: Duration = trial.time(turn).await?;
    Ok(run.as_secs_f64() * 1e3)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
