//! A version that computes in other numbers, beside the one whose answers it should give.
//!
//! bf16 is held against the same file in f32, loaded for this alone and freed afterwards; int8, whose file is another, against
//! the version that its registration names, or the one that serves. They run on the inputs of the validation sample, and on
//! made-up ones where those are too few.

use std::sync::Arc;
use std::time::Instant;

use tidegate_api::infer_behind_callers;
use tidegate_core::prediction::{Deviation, Reading};
use tidegate_core::{DeploymentId, ModelType, NamedTensor, Precision, Version};
use tidegate_delivery::{CHECK_PRECISION, Check, Original, SideBySide, ValidationReport, judge_precision};
use tidegate_serve::{Inference, Server, Slot, probe};

use super::Performer;

/// Inputs that show something of numbers, which every one of them has many of.
const MIN_ANSWERS: u64 = 8;

/// Decisions that show whether one in a hundred has changed. An image has thousands, a row of a table one.
const ENOUGH_DECISIONS: u64 = 256;

/// Seeds of made-up inputs; those of smoke tests begin at 1 too, and nobody minds.
const MAX_PROBES: u64 = 256;

/// What the version is compared with.
struct Counterpart {
    original: Original,
    slot: Arc<Slot>,
}

/// There is no comparison.
enum Unjudged {
    /// Nothing to compare with is known.
    Quietly(String),
    /// What it has to be compared with cannot be.
    Failed(String),
}

impl Performer {
    /// Adds the check `precision`, where the version does not compute in f32. `inputs` are those of its sample.
    pub(super) async fn check_precision(
        &self,
        deployment: &DeploymentId,
        version: &Version,
        slot: &Arc<Slot>,
        inputs: &[Vec<NamedTensor>],
        report: &mut ValidationReport,
    ) {
        let precision = version.precision;
        if precision == Precision::F32 {
            return;
        }
        report.add(match self.compare_precision(deployment, version, slot, inputs).await {
            Ok(check) => check,
            Err(Unjudged::Quietly(why)) => {
                Check::new(CHECK_PRECISION, Ok(format!("{precision}; {why}, so it is not judged")))
            }
            Err(Unjudged::Failed(why)) => {
                Check::new(CHECK_PRECISION, Err(format!("{precision} was not compared: {why}")))
            }
        });
    }

    async fn compare_precision(
        &self,
        deployment: &DeploymentId,
        version: &Version,
        slot: &Arc<Slot>,
        inputs: &[Vec<NamedTensor>],
    ) -> Result<Check, Unjudged> {
        let counterpart = match version.precision {
            Precision::F32 | Precision::Bf16 => self.same_file_in_f32(version, slot).await?,
            Precision::Int8 => self.original_of(deployment, version).await?,
        };
        let model_type = self.model_type(version).await;
        let model_type = model_type.map_err(|error| Unjudged::Failed(error.to_string()))?;
        let comparison = Comparison {
            server: &self.server,
            candidate: slot,
            reference: &counterpart.slot,
            reading: Reading { has_classes: model_type == ModelType::Classification },
            deadline: Instant::now() + self.limits.max_duration,
        };
        let pair = comparison.run(inputs, counterpart.original).await.map_err(Unjudged::Failed)?;
        Ok(judge_precision(version.precision, &pair, self.limits.gates))
    }

    async fn same_file_in_f32(&self, version: &Version, slot: &Slot) -> Result<Counterpart, Unjudged> {
        self.has_room("the same file in f32", version.primary.size_bytes).map_err(Unjudged::Failed)?;
        let spec = self.placement.slot_spec(version, slot.model_name(), Precision::F32).await;
        let spec = spec.map_err(|error| Unjudged::Failed(error.to_string()))?;
        let slot = self.server.load_apart(spec).await;
        let slot = slot.map_err(|error| Unjudged::Failed(format!("in f32, {error}")))?;
        Ok(Counterpart { original: Original::SameFile, slot })
    }

    async fn original_of(
        &self,
        deployment: &DeploymentId,
        version: &Version,
    ) -> Result<Counterpart, Unjudged> {
        match &version.reference {
            Some(number) => {
                let named = self.store.versions.by_number(&version.model_id, number).await;
                let named = named.map_err(|error| Unjudged::Failed(error.to_string()))?;
                let missing = || Unjudged::Failed(format!("its reference {number} is not in the registry"));
                let named = named.ok_or_else(missing)?;
                self.beside_version(&named).await.map_err(Unjudged::Failed)
            }
            None => self.beside_running(deployment, version).await.map_err(Unjudged::Quietly),
        }
    }

    /// The version that serves is no standard for one that was not made from it: another quantised one was not.
    async fn beside_running(
        &self,
        deployment: &DeploymentId,
        version: &Version,
    ) -> Result<Counterpart, String> {
        let leader = self.leader_of(deployment).await.map_err(|error| error.to_string())?;
        let running = match leader.filter(|leader| *leader != version.id) {
            Some(leader) => self.store.versions.get(&leader).await.map_err(|error| error.to_string())?,
            None => None,
        };
        match running {
            None => Err("no version serves here and its registration names no `reference`".to_owned()),
            Some(running) if running.precision == Precision::Int8 => Err(format!(
                "{}, which serves, is quantised too, and its registration names no `reference`",
                running.version
            )),
            Some(running) if !has_same_interface(&running, version) => {
                Err(format!("{}, which serves, has other inputs or outputs", running.version))
            }
            Some(running) => self.beside_version(&running).await,
        }
    }

    async fn beside_version(&self, original: &Version) -> Result<Counterpart, String> {
        let number = original.version.to_string();
        if self.server.slot(&original.id).is_none() {
            self.has_room(&number, original.primary.size_bytes)?;
        }
        let slot = self.placement.load(&original.id).await.map_err(|error| format!("{number}: {error}"))?;
        Ok(Counterpart { original: Original::Version { number }, slot })
    }
}

fn has_same_interface(a: &Version, b: &Version) -> bool {
    let interface = |version: &Version| {
        let signature = version.signature.clone()?;
        let named = |specs: Vec<tidegate_core::TensorSpec>| {
            specs.into_iter().map(|spec| (spec.name, spec.datatype, spec.shape.len())).collect::<Vec<_>>()
        };
        Some((named(signature.inputs), named(signature.outputs)))
    };
    interface(a) == interface(b)
}

/// Two slots that answer the same inputs.
struct Comparison<'a> {
    server: &'a Server,
    candidate: &'a Arc<Slot>,
    reference: &'a Arc<Slot>,
    reading: Reading,
    deadline: Instant,
}

impl Comparison<'_> {
    async fn run(&self, sample: &[Vec<NamedTensor>], original: Original) -> Result<SideBySide, String> {
        let mut deviation = Deviation::default();
        let mut time_ratios = vec![];
        let is_late = |deviation: &Deviation| deviation.n_answers > 0 && Instant::now() >= self.deadline;
        for inputs in sample {
            if is_late(&deviation) {
                break;
            }
            time_ratios.push(self.add(&mut deviation, inputs).await?);
        }
        let n_of_sample = deviation.n_answers;
        for seed in 1..=MAX_PROBES {
            if is_enough(&deviation) || is_late(&deviation) {
                break;
            }
            let inputs = probe::probe_inputs(self.candidate.signature(), seed);
            time_ratios.push(self.add(&mut deviation, &inputs).await?);
        }
        let counted = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let parts = [(n_of_sample, "input"), (deviation.n_answers - n_of_sample, "probe")];
        let parts = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| match what {
            "input" => format!("{} of the sample", counted(n, what)),
            _ => counted(n, what),
        });
        let on = parts.collect::<Vec<_>>().join(" and ");
        Ok(SideBySide { original, deviation, time_ratios, on })
    }

    /// Gives how long the candidate took, in runs of the reference.
    async fn add(&self, deviation: &mut Deviation, inputs: &[NamedTensor]) -> Result<f64, String> {
        let reference = self.answer(self.reference, inputs).await;
        let reference = reference
            .map_err(|error| format!("what it is compared with fails on the same input: {error}"))?;
        let candidate = self.answer(self.candidate, inputs).await?;
        deviation.add(&reference.outputs, &candidate.outputs, self.reading);
        Ok(candidate.run.as_secs_f64() / reference.run.as_secs_f64().max(f64::MIN_POSITIVE))
    }

    async fn answer(&self, slot: &Arc<Slot>, inputs: &[NamedTensor]) -> Result<Inference, String> {
        infer_behind_callers(self.server, slot, inputs).await.map_err(|error| error.to_string())
    }
}

fn is_enough(deviation: &Deviation) -> bool {
    let n_decisions = deviation.n_decisions();
    deviation.n_answers >= MIN_ANSWERS && (n_decisions == 0 || n_decisions >= ENOUGH_DECISIONS)
}

#[cfg(test)]
mod tests;
