//! What Tidegate remembers: metadata on SQLite or PostgreSQL, artifacts in a folder or a bucket.
//!
//! The only crate that knows SQL or buckets. Knows no HTTP, no clock (whoever calls says what time it is), no runtime and
//! no rule of delivery: it keeps a deployment's state as opaque JSON and only sees to it that transitions are committed
//! whole, in order, and by the controller that holds the lease.
//!
//! Times are kept in whole microseconds, on both databases.
//!
//! Start reading at [`Store`] for metadata and [`ArtifactStore`] for files; [`Deployments::commit`] is where the
//! invariants live.

mod artifacts;
mod async_requests;
mod changes;
mod db;
mod deployments;
mod error;
mod event_log;
mod feedback;
mod inferences;
mod jobs;
mod leases;
mod models;
mod page;
mod remote;
mod replicas;
mod routes;
mod versions;
mod webhooks;

pub use artifacts::{
    ArtifactError, ArtifactLocation, ArtifactStore, ArtifactStream, PutError, Stored, StoredKey,
};
pub use async_requests::{
    AsyncOutcome, AsyncRequest, AsyncRequests, AsyncResult, AsyncState, Claim, Claimed, HandedIn,
    NewAsyncRequest,
};
pub use changes::{Change, ChangeStream, Changes};
pub use db::Backend;
pub use db::connect::ConnectError;
pub use deployments::{
    CommitError, CreateError, DeploymentFilter, DeploymentRecord, Deployments, Fence, Transition,
};
pub use error::StoreError;
pub use event_log::{EventRecord, NewEvent};
pub use feedback::{Feedback, FeedbackRecord, FeedbackSummary, Label};
pub use inferences::{InferenceRecord, Inferences, JsonText};
pub use jobs::{Hold, JobEnd, JobFilter, JobRecord, Jobs, NewJob, Postponed};
pub use leases::Leases;
pub use models::{ModelFilter, Models};
pub use page::{Listing, Page};
pub use remote::{Redirects, RemoteError, RemoteFile};
pub use replicas::{
    AppliedRoute, LoadState, NewTally, ReplicaRecord, ReplicaReport, Replicas, ReportKind, TallyRecord,
    VersionReport,
};
pub use routes::Routes;
pub use versions::{RegisterError, Versions};
pub use webhooks::{Untold, Webhooks};

use db::{Db, sql};

/// The metadata repositories over one database. Share it behind an `Arc`.
pub struct Store {
    pub models: Models,
    pub versions: Versions,
    pub deployments: Deployments,
    pub routes: Routes,
    pub leases: Leases,
    pub inferences: Inferences,
    pub async_requests: AsyncRequests,
    pub feedback: Feedback,
    pub replicas: Replicas,
    pub webhooks: Webhooks,
    pub jobs: Jobs,
    pub changes: Changes,
    db: Db,
}

impl Store {
    /// Opens `sqlite://path`, `sqlite::memory:` or `postgres://user:password@host/database`, creates the SQLite file and
    /// its folder where they are missing, and brings the tables up to date. Safe when several processes start at once.
    pub async fn connect(database_url: &str) -> Result<Store, ConnectError> {
        let db = db::connect::connect(database_url).await?;
        let changes = Changes::new(db.clone());
        Ok(Store {
            models: Models::new(db.clone()),
            versions: Versions::new(db.clone()),
            deployments: Deployments::new(db.clone(), changes.clone()),
            routes: Routes::new(db.clone()),
            leases: Leases::new(db.clone()),
            inferences: Inferences::new(db.clone()),
            async_requests: AsyncRequests::new(db.clone()),
            feedback: Feedback::new(db.clone()),
            replicas: Replicas::new(db.clone(), changes.clone()),
            webhooks: Webhooks::new(db.clone()),
            jobs: Jobs::new(db.clone(), changes.clone()),
            changes,
            db,
        })
    }

    pub fn backend(&self) -> Backend {
        self.db.backend()
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.all(sql("reach the database", "SELECT 1")).await.map(drop)
    }

    /// Waits for running statements and closes every connection.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
