//! What whoever drives a rollout saw when it last looked, whether or not that decided anything: for people who watch. A
//! decision carries its own evidence in the event log and never rests on this.

use serde::Serialize;
use tidegate_core::{ArmSummary, ReplicaId, ShadowSummary, Timestamp};

use super::step::since_switch;
use super::{Outcome, Phase, ReplicaHealth, Rollout};
use crate::analysis::ab::AbComparison;
use crate::analysis::{Analysis, analyse, compare_ab, compare_shadow};
use crate::config::StrategyConfig;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    pub at: Timestamp,
    /// The phase in which it was seen.
    pub phase: &'static str,
    /// What the running version has answered since the comparison began; after a switch, what it had answered before.
    pub baseline: Counts,
    pub candidate: Counts,
    /// How both compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// The contest of an A/B test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<AbComparison>,
    /// How the replicas are, while a rollout goes over them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaLook>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub requests: u64,
    pub failures: u64,
    /// Predictions of which somebody said what was true.
    pub labelled: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaLook {
    pub replica_id: ReplicaId,
    pub has_moved: bool,
    pub serves_candidate: bool,
    pub fault: Option<String>,
}

impl Look {
    /// `None` for outcomes that are no comparison, and for those that come too late.
    pub fn of(rollout: &Rollout, outcome: &Outcome, at: Timestamp) -> Option<Self> {
        let thresholds = &rollout.plan.strategy.stages().thresholds;
        let looked = |(baseline, candidate): (Counts, Counts)| Self {
            at,
            phase: rollout.phase.name(),
            baseline,
            candidate,
            analysis: None,
            comparison: None,
            replicas: Vec::new(),
        };
        match (&rollout.phase, outcome, &rollout.plan.strategy) {
            (Phase::Shifting { .. }, Outcome::Compared { baseline, candidate }, _) => Some(Self {
                analysis: Some(analyse(baseline, candidate, thresholds)),
                ..looked(counts(baseline, candidate))
            }),
            (
                Phase::Testing { .. },
                Outcome::Compared { baseline, candidate },
                StrategyConfig::ABTesting(test),
            ) => Some(Self {
                analysis: Some(analyse(baseline, candidate, thresholds)),
                comparison: Some(compare_ab(baseline, candidate, &test.comparison)),
                ..looked(counts(baseline, candidate))
            }),
            (Phase::Shadowing { .. }, Outcome::Mirrored(summary), StrategyConfig::Shadow(shadow)) => {
                Some(Self {
                    analysis: Some(compare_shadow(summary, &shadow.limits())),
                    ..looked(counts_of_copies(summary))
                })
            }
            (Phase::Rolling { moved, .. }, Outcome::Inspected { replicas, baseline, candidate }, _) => {
                Some(Self {
                    analysis: Some(analyse(baseline, candidate, thresholds)),
                    replicas: replicas.iter().map(|replica| ReplicaLook::of(replica, moved)).collect(),
                    ..looked(counts(baseline, candidate))
                })
            }
            (Phase::Watching { .. }, Outcome::Observed { candidate, previous }, _) => Some(Self {
                analysis: Some(since_switch(previous, candidate, thresholds)),
                ..looked(counts(previous, candidate))
            }),
            _ => None,
        }
    }
}

impl ReplicaLook {
    fn of(replica: &ReplicaHealth, moved: &[ReplicaId]) -> Self {
        Self {
            replica_id: replica.id.clone(),
            has_moved: moved.contains(&replica.id),
            serves_candidate: replica.serves_candidate,
            fault: replica.fault.clone(),
        }
    }
}

fn counts(baseline: &ArmSummary, candidate: &ArmSummary) -> (Counts, Counts) {
    let of =
        |arm: &ArmSummary| Counts { requests: arm.requests, failures: arm.failures, labelled: arm.labelled };
    (of(baseline), of(candidate))
}

/// Only what the running version answered is copied.
fn counts_of_copies(summary: &ShadowSummary) -> (Counts, Counts) {
    let answered = Counts { requests: summary.mirrored, ..Counts::default() };
    (answered, Counts { failures: summary.failures, ..answered })
}
