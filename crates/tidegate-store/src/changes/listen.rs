//! Hearing what other processes change.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::sqlite::SqlitePool;
use tokio::sync::broadcast::Sender;
use tokio::time::{sleep, timeout};

use super::{CHANNEL, Change};
use crate::db::Db;

/// How often SQLite is asked whether another process has written: one pragma, no disk access.
const SQLITE_POLL: Duration = Duration::from_millis(250);

/// While PostgreSQL cannot be listened to, everything is looked at this often instead, if it can be read at all.
const FALLBACK_POLL: Duration = Duration::from_secs(1);

/// A server that accepts and hangs up at once is not asked in a tight loop.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that was silent for so long is asked whether it still is one: a host that vanished says nothing.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(db: Db, sender: Sender<Change>) {
    match db {
        Db::Sqlite { write, .. } => watch_file(&write, &sender).await,
        Db::Postgres(pool) => listen_for_ever(&pool, &sender).await,
    }
}

/// `data_version` changes when another connection has committed. All writes of this process go over the one connection that
/// is asked, so what changes it is another process.
async fn watch_file(write: &SqlitePool, sender: &Sender<Change>) {
    let mut seen = None;
    loop {
        let version = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(write).await;
        // A busy database is asked again soon enough. What changed before the first look was told to nobody.
        if let Ok(version) = version
            && seen.replace(version) != Some(version)
        {
            let _ = sender.send(Change::Everything);
        }
        sleep(SQLITE_POLL).await;
    }
}

async fn listen_for_ever(pool: &PgPool, sender: &Sender<Change>) {
    let mut is_known_to_fail = false;
    loop {
        match listener(pool).await {
            Ok(mut listener) => {
                if std::mem::replace(&mut is_known_to_fail, false) {
                    tracing::info!("listening to changes in PostgreSQL again");
                }
                // What changed before this moment was told to nobody.
                let _ = sender.send(Change::Everything);
                let lost = hear(&mut listener, sender).await;
                tracing::info!(%lost, "the connection that listens to changes was lost; listening anew");
                sleep(RECONNECT_PAUSE).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_known_to_fail, true) {
                    tracing::warn!(%error, "cannot listen to changes in PostgreSQL; looking every second instead");
                }
                sleep(FALLBACK_POLL).await;
                let _ = sender.send(Change::Everything);
            }
        }
    }
}

/// On a connection of its own, not one that queries wait for.
async fn listener(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(PING_TIMEOUT)
        .connect_lazy_with((*pool.connect_options()).clone());
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Until the connection is lost; says how.
async fn hear(listener: &mut PgListener, sender: &Sender<Change>) -> sqlx::Error {
    loop {
        match timeout(PING_AFTER, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                let Ok(change) = notification.payload().parse();
                let _ = sender.send(change);
            }
            Ok(Ok(None)) => return sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()),
            Ok(Err(error)) => return error,
            Err(_silent) => {
                match timeout(PING_TIMEOUT, sqlx::query("SELECT 1").execute(&mut *listener)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
                }
            }
        }
    }
}
