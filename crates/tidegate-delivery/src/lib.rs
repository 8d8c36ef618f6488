//! The decisions of a deployment: what happens next, and why.
//!
//! Pure: no I/O, no async runtime, no database, no clock. Time arrives inside events; whoever drives a [`Rollout`] (the
//! controller in the binary) commits each step and performs the effects it asks for. That is what lets a rollout be
//! killed at any instruction and taken up again, and what lets a simulation replay it.
//!
//! Start reading at [`rollout::step`]. Strategies differ in the phases they pass through, not in the mechanism: each has a
//! case of [`StrategyConfig`] and, where it does not switch at once, a phase and a file under `rollout/step`.

pub mod analysis;
pub mod config;
pub mod gates;
pub mod report;
pub mod rollout;

pub use analysis::{
    Analysis, ArmSummary, CustomThreshold, LatencyHistogram, MetricVerdict, ShadowConfig, Thresholds,
    Verdict, analyse, compare_ab, compare_shadow,
};
pub use config::{ConfigFault, StrategyConfig};
pub use gates::{
    CHECK_PRECISION, GateLimits, LatencyRace, Original, Score, SideBySide, Standard, Standing,
    judge_accuracy, judge_precision,
};
pub use report::{Check, Measured, Override, ValidationReport};
pub use rollout::{
    Command, EVENT_KINDS, Effect, Event, EventKind, Look, Outcome, Outlook, Phase, Plan, ReplicaHealth,
    Rollout, RouteChange, Work, step,
};
