//! The watch after the switch: the candidate has all traffic, the previous version is warm and answers nobody.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Stepper, evidence_of};
use crate::analysis::{Analysis, ArmSummary, MOST_DRIFT, Thresholds, Verdict, analyse};
use crate::rollout::Phase;

/// Where the previous version has answered nobody, the candidate is measured against one that has never failed.
const NEVER_FAILED: u64 = 1_000_000_000;

impl Stepper {
    /// A watch that nobody kept is none: it begins again. (A step counts afresh by itself and waits for its verdict.)
    pub(super) fn taken_up(&mut self) {
        let watch = self.stages().monitoring_duration;
        let until = self.at + watch;
        if let Phase::Watching { until: before } = &mut self.rollout.phase
            && *before < until
        {
            *before = until;
            self.record(
                "takenUp",
                &format!("taken up anew; it is watched for {watch} from now"),
                Value::Null,
            );
        }
    }

    /// Rolls back on evidence.
    pub(super) fn observed(&mut self, candidate: &ArmSummary, previous: &ArmSummary) {
        let analysis = since_switch(previous, candidate, &self.stages().thresholds);
        if analysis.verdict == Verdict::Fail {
            let cause = format!("the new version is worse than the one before: {}", analysis.summary);
            self.roll_back(cause, evidence_of(&analysis));
        }
    }
}

/// There is no other version in the same minutes any more, so only what holds still over minutes is compared with what the
/// previous one did before: failures and right answers.
pub(in crate::rollout) fn since_switch(
    previous: &ArmSummary,
    candidate: &ArmSummary,
    thresholds: &Thresholds,
) -> Analysis {
    let mut previous = previous.clone();
    if previous.requests == 0 {
        previous.requests = NEVER_FAILED;
    }
    analyse(&previous, candidate, &lasting(thresholds))
}

/// Without what moves with the hour: load makes latency, and the world makes predictions and whatever users measure.
fn lasting(thresholds: &Thresholds) -> Thresholds {
    Thresholds {
        latency_increase: f64::INFINITY,
        drift_score: MOST_DRIFT,
        custom: BTreeMap::new(),
        ..thresholds.clone()
    }
}
