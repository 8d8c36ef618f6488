//! Verdicts: the traps, the promised error rates by simulation, and how soon a decision comes.

mod bounds;
mod custom;
mod error_rates;
mod shadow;
mod table;
mod traps;
mod world;

use tidegate_delivery::Analysis;

/// Everything that a person is told: the summary, and each metric in full.
fn said(analysis: &Analysis) -> String {
    let metrics = analysis.metrics.iter().map(|metric| metric.message.as_str());
    std::iter::once(analysis.summary.as_str()).chain(metrics).collect::<Vec<_>>().join("\n")
}
