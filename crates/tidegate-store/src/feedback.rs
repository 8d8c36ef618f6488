//! Ground truth: whether a prediction turned out to be right.

use std::collections::HashMap;

use serde_json::Value;
use tidegate_core::{DeploymentId, RequestId, SemVer, Timestamp};

use crate::db::{Db, sql};
use crate::error::StoreError;

/// Labels of inference requests.
pub struct Feedback {
    db: Db,
}

/// A label, with what it is grouped by.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedbackRecord {
    pub request_id: RequestId,
    /// The deployment whose route the request met, and the version that answered.
    pub deployment_id: Option<DeploymentId>,
    pub version: Option<SemVer>,
    pub requested_at: Timestamp,
    pub is_correct: bool,
    pub ground_truth: Option<Value>,
    pub given_by: String,
    pub given_at: Timestamp,
}

/// How many predictions have a label, and how many of them were right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub labelled: u64,
    pub correct: u64,
}

impl Feedback {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Stores a label; a later one for the same request replaces it.
    pub async fn record(&self, feedback: &FeedbackRecord) -> Result<(), StoreError> {
        const RECORD: &str = "INSERT INTO feedback
                (request_id, deployment_id, version, requested_at, is_correct, ground_truth, given_by, given_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (request_id) DO UPDATE SET is_correct = excluded.is_correct,
                ground_truth = excluded.ground_truth, given_by = excluded.given_by, given_at = excluded.given_at";
        let version = feedback.version.as_ref().map(SemVer::to_string);
        let record = sql("store feedback", RECORD)
            .bind(feedback.request_id.as_str())
            .bind(feedback.deployment_id.as_ref().map(DeploymentId::as_str))
            .bind(version.as_deref())
            .bind(feedback.requested_at)
            .bind(feedback.is_correct)
            .bind(feedback.ground_truth.as_ref())
            .bind(feedback.given_by.as_str())
            .bind(feedback.given_at);
        self.db.execute(record).await.map(drop)
    }

    /// The labels of requests that met a deployment's route at `since` or later, by the version that answered.
    pub async fn labels(
        &self,
        deployment: &DeploymentId,
        since: Timestamp,
    ) -> Result<HashMap<SemVer, Labels>, StoreError> {
        const LABELS: &str = "SELECT version, COUNT(*) AS labelled,
                COUNT(CASE WHEN is_correct THEN 1 END) AS correct
            FROM feedback WHERE deployment_id = $1 AND requested_at >= $2 AND version IS NOT NULL GROUP BY version";
        let rows = self.db.all(sql("count labels", LABELS).bind(deployment.as_str()).bind(since)).await?;
        rows.iter()
            .map(|row| {
                let labels = Labels { labelled: row.count("labelled")?, correct: row.count("correct")? };
                Ok((row.parsed("version")?, labels))
            })
            .collect()
    }
}
