//! The change feed: who waits for a deployment, a route or a replica is told in milliseconds, also by another process.
//!
//! PostgreSQL carries it (`NOTIFY` in the transaction that makes the change, heard by all when it commits). On SQLite a
//! commit of this process is told in it, and another process's is noticed by looking (`PRAGMA data_version`).
//!
//! A change says *that* there is something to read, never what: the listener reads the store. Telling twice is harmless, and
//! whatever may have been missed is told as [`Change::Everything`].

mod listen;

use std::future::Future;
use std::str::FromStr;

use tidegate_core::{DeploymentId, Environment, JobId, ModelId, ReplicaId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::db::{Db, Tx, sql};
use crate::error::StoreError;

/// Changes that may wait for a subscriber. One that falls further behind is told to look at everything, so more would only
/// keep it busier.
const BUFFER: usize = 256;

/// The channel of PostgreSQL's `NOTIFY`.
const CHANNEL: &str = "tidegate_changes";

/// What is different in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Route {
        environment: Environment,
        model_id: ModelId,
    },
    /// Created, or changed by a transition.
    Deployment {
        id: DeploymentId,
    },
    /// Asked for, or changed by who does it; not by its mere progress.
    Job {
        id: JobId,
    },
    /// Applied or loaded something, or went away.
    Replica {
        id: ReplicaId,
    },
    /// Changes may have been missed: read everything again.
    Everything,
}

/// Where changes are told and heard. Cloning shares the feed.
#[derive(Clone)]
pub struct Changes {
    db: Db,
    sender: broadcast::Sender<Change>,
}

/// A subscription.
pub struct ChangeStream {
    receiver: broadcast::Receiver<Change>,
}

/// Changes of a transaction that has yet to commit.
pub(crate) struct Announced<'a> {
    feed: &'a Changes,
    /// Told by us; PostgreSQL tells by itself.
    ours: Vec<Change>,
}

impl Changes {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, sender: broadcast::Sender::new(BUFFER) }
    }

    /// Every change from now on.
    pub fn subscribe(&self) -> ChangeStream {
        ChangeStream { receiver: self.sender.subscribe() }
    }

    /// Hears what other processes change, for as long as the future is polled; it never ends. [`Change::Everything`] comes
    /// first, when it begins to hear. Without it, SQLite tells only what this process does, and PostgreSQL nothing.
    pub fn listen(&self) -> impl Future<Output = ()> + Send + use<> {
        listen::run(self.db.clone(), self.sender.clone())
    }

    /// To be called within the transaction that makes the changes; [`Announced::committed`] after it.
    pub(crate) async fn announce(
        &self,
        tx: &mut Tx,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Announced<'_>, StoreError> {
        const NOTIFY: &str = "SELECT pg_notify($1, $2)";
        let ours: Vec<Change> = changes.into_iter().collect();
        if !matches!(tx, Tx::Postgres(_)) {
            return Ok(Announced { feed: self, ours });
        }
        for change in ours {
            let payload = change.to_string();
            tx.all(sql("tell a change", NOTIFY).bind(CHANNEL).bind(payload.as_str())).await?;
        }
        Ok(Announced { feed: self, ours: Vec::new() })
    }
}

impl Announced<'_> {
    pub(crate) fn committed(self) {
        for change in self.ours {
            // Nobody listening is fine.
            let _ = self.feed.sender.send(change);
        }
    }
}

impl ChangeStream {
    /// The next change. `None` when the store is gone.
    pub async fn next(&mut self) -> Option<Change> {
        match self.receiver.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => {
                // What is still in the buffer is older than what is read now.
                self.receiver = self.receiver.resubscribe();
                Some(Change::Everything)
            }
            Err(RecvError::Closed) => None,
        }
    }
}

/// The payload of a notification: a few words with slashes between them.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route { environment, model_id } => write!(f, "route/{environment}/{model_id}"),
            Self::Deployment { id } => write!(f, "deployment/{id}"),
            Self::Job { id } => write!(f, "job/{id}"),
            Self::Replica { id } => write!(f, "replica/{id}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

impl FromStr for Change {
    type Err = std::convert::Infallible;

    /// What is unknown (a newer release tells it) may be anything.
    fn from_str(payload: &str) -> Result<Self, Self::Err> {
        let mut words = payload.splitn(3, '/');
        Ok(match (words.next(), words.next(), words.next()) {
            (Some("route"), Some(environment), Some(model)) => match environment.parse() {
                Ok(environment) => Self::Route { environment, model_id: ModelId::new(model) },
                Err(_) => Self::Everything,
            },
            (Some("deployment"), Some(id), None) => Self::Deployment { id: DeploymentId::new(id) },
            (Some("job"), Some(id), None) => Self::Job { id: JobId::new(id) },
            (Some("replica"), Some(id), None) => Self::Replica { id: ReplicaId::new(id) },
            _ => Self::Everything,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_back_and_an_unknown_one_means_everything() {
        let changes = [
            Change::Route { environment: Environment::Staging, model_id: ModelId::new("model-1") },
            Change::Deployment { id: DeploymentId::new("deploy-1") },
            Change::Job { id: JobId::new("job-1") },
            Change::Replica { id: ReplicaId::new("replica-1") },
            Change::Everything,
        ];
        for change in changes {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        for payload in ["", "route/Mars/m", "route/Staging", "secret/1", "deployment"] {
            assert_eq!(payload.parse(), Ok(Change::Everything), "{payload}");
        }
    }
}
