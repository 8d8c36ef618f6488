//! A story: what a seed makes of versions, deployments, traffic and misfortune; and how it is told from begin to end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tidegate_api::{CreateDeploymentError, DeploymentCommand, DeploymentControl, NewDeployment};
use tidegate_core::{
    Artifact, ArtifactFormat, DeploymentId, DeploymentStatus, Framework, IdSource, Model, ModelName,
    ModelType, Precision, SemVer, Sha256Digest, StrategyKind, Timestamp, Version, VersionId, VersionStatus,
};
use tidegate_delivery::{Phase, StrategyConfig};
use tidegate_store::DeploymentRecord;
use tokio_util::sync::CancellationToken;

use super::hands::SimHands;
use super::ledger::SimLedger;
use super::world::{ENVIRONMENT, Process, SimClock, World, model_id};
use crate::controller::apply::rollout_of;
use crate::controller::{Controller, ControllerSettings};

/// Longer than any story may take, once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

const P_KILL_PER_SECOND: f64 = 0.008;
const P_CLOCK_JUMP_PER_SECOND: f64 = 0.01;
const MAX_CLOCK_JUMP_MS: i64 = 20_000;

#[derive(Clone, Debug)]
pub struct Story {
    pub seed: u64,
    /// How long things go wrong.
    pub storm: Duration,
    pub n_processes: usize,
    pub requests_per_second: u32,
    pub has_people: bool,
    pub needs_approval: bool,
    /// By number: version 1 is the first that is deployed.
    pub versions: Vec<Quality>,
    pub strategies: Vec<(StrategyKind, Value)>,
}

/// What a version is like.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub validates: bool,
    pub loads: bool,
    pub answers_probes: bool,
    pub error_rate: f64,
    pub accuracy: f64,
}

impl Quality {
    const GOOD: Self =
        Self { validates: true, loads: true, answers_probes: true, error_rate: 0.01, accuracy: 0.9 };

    fn is_bad(&self) -> bool {
        self.error_rate > 0.3 || self.accuracy < 0.5
    }

    fn is_good(&self) -> bool {
        self.validates && self.loads && self.answers_probes && !self.is_bad()
    }

    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0 => Self { validates: false, ..Self::GOOD },
            1 => Self { loads: false, ..Self::GOOD },
            2 => Self { answers_probes: false, ..Self::GOOD },
            3 | 4 => Self { error_rate: 0.6, ..Self::GOOD },
            5 => Self { accuracy: 0.2, ..Self::GOOD },
            _ => Self::GOOD,
        }
    }
}

impl Story {
    pub fn of_seed(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let n_versions = rng.random_range(2..5);
        let mut versions = vec![Quality::GOOD];
        versions.extend((1..n_versions).map(|_| Quality::draw(rng)));
        let mut strategies = vec![strategy(StrategyKind::BlueGreen)];
        strategies.extend(
            (1..n_versions)
                .map(|_| strategy(StrategyKind::ALL[rng.random_range(0..StrategyKind::ALL.len())])),
        );
        Self {
            seed,
            storm: Duration::from_secs([0, 60, 200][rng.random_range(0..3)]),
            n_processes: rng.random_range(1..4),
            requests_per_second: [0, 3, 60][rng.random_range(0..3)],
            has_people: rng.random_bool(0.4),
            needs_approval: rng.random_bool(0.2),
            versions,
            strategies,
        }
    }

    pub fn version(&self, id: &VersionId) -> Quality {
        let number: Option<usize> = id.as_str().strip_prefix("version-").and_then(|text| text.parse().ok());
        self.versions[number.expect("the story's own id") - 1]
    }
}

/// Short enough for a story, long enough for a crash in the middle.
fn strategy(kind: StrategyKind) -> (StrategyKind, Value) {
    // Limits that a good version is shown to be within after some hundred requests.
    let limits = json!({"errorRateIncrease": 0.2, "accuracyDrop": 0.4});
    let mut config = json!({
        "smokeTestSamples": 3, "monitoringDuration": "PT10S", "warmupDuration": "PT40S", "rollbackThresholds": limits,
    });
    let own = match kind {
        StrategyKind::Canary => json!({"steps": [20, 60], "minimumSamples": 50, "progressDeadline": "PT90S"}),
        StrategyKind::BlueGreen => json!({}),
        StrategyKind::ABTesting => json!({"minimumSamples": 200, "duration": "PT60S"}),
        StrategyKind::Shadow => {
            json!({"comparisonSamples": 100, "predictionDifferenceThreshold": 0.3, "autoPromote": true,
                "progressDeadline": "PT90S"})
        }
        StrategyKind::Rolling => {
            json!({"waitDuration": "PT5S", "maxFailures": 2, "progressDeadline": "PT90S"})
        }
    };
    let keep = if kind == StrategyKind::BlueGreen { "keepBlueDuration" } else { "keepPreviousDuration" };
    config[keep] = json!("PT15S");
    config.as_object_mut().expect("made above").extend(own.as_object().expect("made above").clone());
    (kind, config)
}

/// Tells a story and gives its trace; panics where an invariant does not hold.
pub fn tell(story: &Story) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let teller = Arc::new(Teller::new(story));
        let _shown = TraceOnPanic(Arc::clone(&teller.world));
        teller.tell().await;
        std::mem::take(&mut teller.world.state().trace)
    })
}

/// What led to a violated invariant.
struct TraceOnPanic(Arc<World>);

impl Drop for TraceOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}\n{}", self.0.story, self.0.state().trace.join("\n"));
        }
    }
}

/// A process that lives, and the controller in it.
#[derive(Clone)]
struct Living {
    process: Arc<Process>,
    controller: Arc<Controller>,
}

struct Teller {
    world: Arc<World>,
    ids: Arc<IdSource>,
    living: Mutex<Vec<Living>>,
    n_lives: Mutex<usize>,
    /// Deployments that a person moved forward: evidence has no say in their end.
    promoted: Mutex<BTreeSet<DeploymentId>>,
}

impl Teller {
    fn new(story: &Story) -> Self {
        let ids = Arc::new(IdSource::seeded(story.seed));
        let world = World::new(story.clone());
        Self { world, ids, living: Mutex::default(), n_lives: Mutex::default(), promoted: Mutex::default() }
    }

    async fn tell(self: &Arc<Self>) {
        for _ in 0..self.world.story.n_processes {
            let life = self.bring_to_life();
            self.living.lock().expect("no panic").push(life);
        }
        let scenario = tokio::spawn(Arc::clone(self).deploy_everything());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.world.serve_a_second();
            self.let_things_happen();
            let is_over = scenario.is_finished()
                && !self.world.is_stormy()
                && self.world.state().deployments.values().all(|record| record.is_settled);
            if is_over {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "it does not end:\n{}", self.tail());
        }
        // What was let go of is let go of everywhere.
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.world.serve_a_second();
        self.check_the_end();
    }

    fn bring_to_life(&self) -> Living {
        let number = {
            let mut n_lives = self.n_lives.lock().expect("no panic");
            *n_lives += 1;
            *n_lives
        };
        let process = Process::new(format!("process-{number}"));
        let world = &self.world;
        world.start_replica(&process);
        world.note(format!("{} starts", process.name));
        let settings = ControllerSettings {
            holder: process.name.clone(),
            max_concurrent: 5,
            lease: Duration::from_secs(5),
            require_approval: if world.story.needs_approval { vec![ENVIRONMENT] } else { vec![] },
            admins: vec![],
        };
        let controller = Arc::new(Controller::new(
            Arc::new(SimLedger { world: Arc::clone(world), process: Arc::clone(&process) }),
            Arc::new(SimHands { world: Arc::clone(world), process: Arc::clone(&process) }),
            Arc::new(SimClock { began: world.began, process: Arc::clone(&process) }),
            Arc::clone(&self.ids),
            settings,
        ));
        tokio::spawn(Arc::clone(&controller).run(CancellationToken::new()));
        let (follower, followed) = (Arc::clone(world), Arc::clone(&process));
        tokio::spawn(async move {
            while !followed.is_dead() {
                tokio::time::sleep(follower.draw_ms(100..900)).await;
                follower.follow(&followed.replica);
            }
        });
        Living { process, controller }
    }

    /// What nobody planned, once a second.
    fn let_things_happen(self: &Arc<Self>) {
        let mut living = self.living.lock().expect("no panic");
        for life in living.iter_mut() {
            if life.process.is_dead() && (!self.world.is_stormy() || self.world.strikes(0.3)) {
                *life = self.bring_to_life();
            }
            if self.world.strikes(P_KILL_PER_SECOND) {
                life.process.kill();
                self.world.note(format!("{} is killed", life.process.name));
            }
            if self.world.strikes(P_CLOCK_JUMP_PER_SECOND) {
                let offset = self.world.state().rng.random_range(-MAX_CLOCK_JUMP_MS..MAX_CLOCK_JUMP_MS);
                life.process.jump_clock(offset);
                self.world.note(format!("the clock of {} is off by {offset} ms", life.process.name));
            }
            if !self.world.is_stormy() {
                life.process.jump_clock(0);
            }
        }
        drop(living);
        let interferes = self.world.story.has_people && self.world.strikes(0.08);
        if interferes {
            let what = self.world.state().rng.random_range(0..6);
            self.give_a_command(what);
        }
        // Somebody comes back from lunch in the end.
        if !self.world.is_stormy() {
            self.wake_what_waits();
        }
    }

    fn wake_what_waits(self: &Arc<Self>) {
        let waiting: Vec<usize> = {
            let state = self.world.state();
            let unsettled = state.deployments.values().filter(|record| !record.is_settled);
            unsettled
                .filter_map(|record| rollout_of(record).ok())
                .filter_map(|rollout| match rollout.phase {
                    _ if rollout.paused_at.is_some() => Some(5),
                    Phase::AwaitingApproval => Some(2),
                    _ => None,
                })
                .collect()
        };
        for what in waiting {
            self.give_a_command(what);
        }
    }

    fn give_a_command(self: &Arc<Self>, what: usize) {
        let teller = Arc::clone(self);
        let Some(id) = newest(&self.world) else { return };
        let controller = self.somebody();
        tokio::spawn(async move {
            let reason = "because".to_owned();
            let (name, result) = match what {
                0 => ("rollback", controller.rollback(&id, "ada", &reason, false).await),
                1 => ("cancel", controller.command(&id, "ada", DeploymentCommand::Cancel { reason }).await),
                2 => ("approve", controller.command(&id, "grace", DeploymentCommand::Approve).await),
                3 => ("promote", controller.command(&id, "ada", DeploymentCommand::Promote).await),
                4 => ("pause", controller.command(&id, "ada", DeploymentCommand::Pause).await),
                _ => ("resume", controller.command(&id, "ada", DeploymentCommand::Resume).await),
            };
            // A lost answer may have been a promotion.
            if what == 3 {
                teller.promoted.lock().expect("no panic").insert(id.clone());
            }
            let outcome = result.map_or_else(|error| error.to_string(), |record| record.status.to_string());
            teller.world.note(format!("{id}: {name} was asked for: {outcome}"));
        });
    }

    /// The controller of any process.
    fn somebody(&self) -> Arc<Controller> {
        let living = self.living.lock().expect("no panic");
        let index = self.world.state().rng.random_range(0..living.len());
        Arc::clone(&living[index].controller)
    }

    async fn deploy_everything(self: Arc<Self>) {
        for number in 1..=self.world.story.versions.len() {
            tokio::time::sleep(self.world.draw_ms(0..20_000)).await;
            let before = self.world.state().deployments.len();
            while self.world.state().deployments.len() == before {
                let asked = tokio::spawn(ask_for(self.somebody(), self.new_deployment(number)));
                // A process may die with the request.
                let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
                if matches!(&asked, Ok(Ok(true))) {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }

    fn new_deployment(&self, number: usize) -> NewDeployment {
        let (kind, config) = &self.world.story.strategies[number - 1];
        let config = config.as_object().expect("made as one");
        NewDeployment {
            model: model(),
            version: version(number),
            environment: ENVIRONMENT,
            strategy: StrategyConfig::parse(*kind, config).expect("a valid configuration"),
            initiated_by: "ada".to_owned(),
            override_reason: None,
        }
    }

    fn check_the_end(&self) {
        let state = self.world.state();
        let story = &self.world.story;
        let mut in_order: Vec<&DeploymentRecord> = state.deployments.values().collect();
        in_order.sort_by_key(|record| record.started_at);
        let mut serving = None;
        for record in in_order {
            let events = &state.events[&record.id];
            let last = events.last().expect("created with one");
            assert!(!last.message.is_empty(), "{}: the log does not explain the end", record.id);
            let is_active = record.status == DeploymentStatus::Active;
            assert!(
                is_active || record.error_message.is_some(),
                "{} ended as {} without a word",
                record.id,
                record.status
            );
            let quality = story.version(&record.version_id);
            let previous = record.previous_version_id.as_ref().map(|previous| story.version(previous));
            let left_alone = !self.promoted.lock().expect("no panic").contains(&record.id);
            let was_good = previous.is_some_and(|previous| !previous.is_bad());
            if is_active && left_alone && was_good && story.requests_per_second >= 60 {
                assert!(
                    !quality.is_bad(),
                    "{} brought a bad version in:\n{}",
                    record.id,
                    self.log_of(&state, record)
                );
            }
            let in_peace = story.storm.is_zero() && !story.has_people && story.requests_per_second >= 60;
            let is_judged_on_its_own = record.strategy != StrategyKind::ABTesting;
            if in_peace && quality.is_good() && (previous.is_none() || was_good) && is_judged_on_its_own {
                assert!(is_active, "{} kept a good version out:\n{}", record.id, self.log_of(&state, record));
            }
            if is_active {
                serving = Some(record.version_id.clone());
            }
        }
        let route = state.route.as_ref();
        assert!(route.is_none_or(|route| route.shadow.is_none() && route.moved.is_none()), "{route:?}");
        let leader = route.and_then(|route| route.leader()).map(|arm| arm.version_id.clone());
        assert_eq!(leader, serving, "traffic is on a version that nobody decided on");
    }

    fn log_of(&self, state: &super::world::State, record: &DeploymentRecord) -> String {
        let events = state.events[&record.id].iter();
        let lines: Vec<String> = events.map(|event| format!("{}: {}", event.kind, event.message)).collect();
        format!("{:?}\n{}", self.world.story, lines.join("\n"))
    }

    fn tail(&self) -> String {
        let trace = &self.world.state().trace;
        trace[trace.len().saturating_sub(20)..].join("\n")
    }
}

/// Whether there is no point in asking again.
async fn ask_for(controller: Arc<Controller>, new: NewDeployment) -> bool {
    matches!(
        controller.create(new).await,
        Ok(_)
            | Err(
                CreateDeploymentError::AlreadyServing { .. } | CreateDeploymentError::NothingToCompare { .. }
            )
    )
}

fn newest(world: &World) -> Option<DeploymentId> {
    let state = world.state();
    state.deployments.values().max_by_key(|record| record.started_at).map(|record| record.id.clone())
}

fn model() -> Model {
    Model {
        id: model_id(),
        name: ModelName::parse("m").expect("a name"),
        description: None,
        framework: Framework::ONNX,
        model_type: ModelType::Other,
        owner: "ada".to_owned(),
        tags: vec![],
        active_version: None,
        is_archived: false,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn version(number: usize) -> Version {
    let artifact = Artifact {
        name: "model.onnx".to_owned(),
        path: "model.onnx".to_owned(),
        format: ArtifactFormat::Onnx,
        sha256: Sha256Digest::of(b""),
        size_bytes: 0,
    };
    Version {
        id: VersionId::new(format!("version-{number}")),
        model_id: model_id(),
        version: SemVer::new(number as u64, 0, 0),
        primary: artifact.clone(),
        artifacts: vec![artifact],
        precision: Precision::F32,
        reference: None,
        signature: None,
        input_schema: Value::Null,
        output_schema: Value::Null,
        stac_item: None,
        training_metadata: None,
        baseline: None,
        validation_sample: None,
        status: VersionStatus::Registered,
        created_at: Timestamp::UNIX_EPOCH,
    }
}
