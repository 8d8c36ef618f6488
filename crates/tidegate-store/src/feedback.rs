//! Ground truth: whether a prediction turned out to be right, and what users measured of it.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tidegate_core::{DeploymentId, Moments, RequestId, SemVer, Timestamp};

use crate::db::{Db, Row, Statement, sql};
use crate::error::StoreError;

/// What is known of inference requests afterwards.
pub struct Feedback {
    db: Db,
}

/// What somebody says of one request, with what it is grouped by.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRecord {
    pub request_id: RequestId,
    /// The deployment whose route the request met, and the version that answered.
    pub deployment_id: Option<DeploymentId>,
    pub version: Option<SemVer>,
    pub requested_at: Timestamp,
    pub label: Option<Label>,
    /// By name; each such that [`Moments::accepts`] it.
    pub metrics: BTreeMap<String, f64>,
    pub given_by: String,
    pub given_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub is_correct: bool,
    pub ground_truth: Option<Value>,
}

/// What is known of the predictions of one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedbackSummary {
    /// Predictions that have a label, and those of them that were right.
    pub labelled: u64,
    pub correct: u64,
    /// Of the values of each metric.
    pub metrics: BTreeMap<String, Moments>,
}

impl FeedbackSummary {
    pub fn merge(&mut self, other: &Self) {
        self.labelled += other.labelled;
        self.correct += other.correct;
        for (name, moments) in &other.metrics {
            self.metrics.entry(name.clone()).or_default().merge(moments);
        }
    }
}

impl Feedback {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Stores the label and the metrics, each in place of an earlier one for the same request; what is not given stays.
    pub async fn record(&self, feedback: &FeedbackRecord) -> Result<(), StoreError> {
        const DOING: &str = "store feedback";
        let label = feedback.label.iter().map(|label| upsert_label(feedback, label));
        let metrics = feedback.metrics.iter().map(|(name, value)| upsert_metric(feedback, name, *value));
        let mut tx = self.db.begin(DOING).await?;
        for statement in label.chain(metrics) {
            tx.execute(statement).await?;
        }
        tx.commit(DOING).await
    }

    /// What is known of the requests that met a deployment's route at `since` or later, by the version that answered.
    pub async fn summaries(
        &self,
        deployment: &DeploymentId,
        since: Timestamp,
    ) -> Result<HashMap<SemVer, FeedbackSummary>, StoreError> {
        const LABELS: &str = "SELECT version, COUNT(*) AS labelled,
                COUNT(CASE WHEN is_correct THEN 1 END) AS correct
            FROM feedback WHERE deployment_id = $1 AND requested_at >= $2 AND version IS NOT NULL GROUP BY version";
        /// Deviations from the mean, in a second pass: a difference of two large sums would have lost every digit.
        const METRICS: &str = "WITH given AS
                (SELECT version, name, value, AVG(value) OVER (PARTITION BY version, name) AS mean
                FROM feedback_metrics
                WHERE deployment_id = $1 AND requested_at >= $2 AND version IS NOT NULL)
            SELECT version, name, COUNT(*) AS n_values, MIN(mean) AS mean,
                SUM((value - mean) * (value - mean)) AS squares
            FROM given GROUP BY version, name";
        let mut summaries = HashMap::<SemVer, FeedbackSummary>::new();
        let labels = sql("count labels", LABELS).bind(deployment.as_str()).bind(since);
        for row in self.db.all(labels).await? {
            let summary = summaries.entry(row.parsed("version")?).or_default();
            (summary.labelled, summary.correct) = (row.count("labelled")?, row.count("correct")?);
        }
        let metrics = sql("sum up metrics", METRICS).bind(deployment.as_str()).bind(since);
        for row in self.db.all(metrics).await? {
            let summary = summaries.entry(row.parsed("version")?).or_default();
            summary.metrics.insert(row.text("name")?, moments_of(&row)?);
        }
        Ok(summaries)
    }
}

fn upsert_label(feedback: &FeedbackRecord, label: &Label) -> Statement {
    const UPSERT: &str = "INSERT INTO feedback
            (request_id, deployment_id, version, requested_at, is_correct, ground_truth, given_by, given_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (request_id) DO UPDATE SET is_correct = excluded.is_correct,
            ground_truth = excluded.ground_truth, given_by = excluded.given_by, given_at = excluded.given_at";
    let version = feedback.version.as_ref().map(SemVer::to_string);
    sql("store a label", UPSERT)
        .bind(feedback.request_id.as_str())
        .bind(feedback.deployment_id.as_ref().map(DeploymentId::as_str))
        .bind(version.as_deref())
        .bind(feedback.requested_at)
        .bind(label.is_correct)
        .bind(label.ground_truth.as_ref())
        .bind(feedback.given_by.as_str())
        .bind(feedback.given_at)
}

fn upsert_metric(feedback: &FeedbackRecord, name: &str, value: f64) -> Statement {
    const UPSERT: &str = "INSERT INTO feedback_metrics
            (request_id, name, value, deployment_id, version, requested_at, given_by, given_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (request_id, name) DO UPDATE SET value = excluded.value, given_by = excluded.given_by,
            given_at = excluded.given_at";
    let version = feedback.version.as_ref().map(SemVer::to_string);
    sql("store a metric", UPSERT)
        .bind(feedback.request_id.as_str())
        .bind(name)
        .bind(value)
        .bind(feedback.deployment_id.as_ref().map(DeploymentId::as_str))
        .bind(version.as_deref())
        .bind(feedback.requested_at)
        .bind(feedback.given_by.as_str())
        .bind(feedback.given_at)
}

fn moments_of(row: &Row) -> Result<Moments, StoreError> {
    let (count, mean, squares) = (row.count("n_values")?, row.real_opt("mean")?, row.real_opt("squares")?);
    let moments = mean.zip(squares).and_then(|(mean, squares)| Moments::of(count, mean, squares));
    moments.ok_or_else(|| row.unreadable("squares", format!("{count} values, mean {mean:?}, {squares:?}")))
}
