//! Opening a database: create what is missing, run the migrations once even when many processes start together.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::Db;

/// One story for both databases. An applied migration that this binary does not know is left alone: during an upgrade
/// the old binary may restart on a database that the new one has already migrated.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.set_ignore_missing(true);
    migrator
}

/// How long a statement waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection before it is told that the database is overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads are short; four keep both cores of a small machine busy.
const SQLITE_READERS: u32 = 4;
/// Twelve replicas stay below PostgreSQL's default of 100 connections.
const POSTGRES_CONNECTIONS: u32 = 8;

/// Why a database could not be opened. Never shows a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "database URL starts with `{scheme}`, which is no database we know: use `sqlite://path` or `postgres://...`"
    )]
    UnknownScheme { scheme: String },
    #[error("database URL cannot be read")]
    InvalidUrl {
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to create the database's folder or lock file `{}`", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to open the database {database}")]
    Open {
        database: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to migrate the database {database}")]
    Migrate {
        database: String,
        #[source]
        source: MigrateError,
    },
}

pub(crate) async fn connect(url: &str) -> Result<Db, ConnectError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => connect_sqlite(url).await,
        "postgres" | "postgresql" => connect_postgres(url).await,
        _ => Err(ConnectError::UnknownScheme { scheme: scheme.chars().take(20).collect() }),
    }
}

async fn connect_sqlite(url: &str) -> Result<Db, ConnectError> {
    let options =
        SqliteConnectOptions::from_str(url).map_err(|source| ConnectError::InvalidUrl { source })?;
    let in_memory = url.contains(":memory:") || url.contains("mode=memory");
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: a commit is on the disk before it is answered, so a deployment's transition outlives a power cut. NORMAL
        // would survive a killed process only. Commits are few (requests are logged in batches), so the price is small.
        .synchronous(SqliteSynchronous::Full);
    if in_memory {
        return connect_memory(options).await;
    }
    let path = options.get_filename().to_path_buf();
    let database = format!("`{}`", path.display());
    // Held until the migrations are done. Switching to WAL and running DDL cannot wait for each other inside SQLite.
    let _lock = lock_beside(&path).await?;
    let open = |source| ConnectError::Open { database: database.clone(), source };
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.clone())
        .await
        .map_err(open)?;
    migrator()
        .run(&write)
        .await
        .map_err(|source| ConnectError::Migrate { database: database.clone(), source })?;
    let read = SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options.pragma("query_only", "on"))
        .await
        .map_err(open)?;
    Ok(Db::Sqlite { read, write })
}

/// One connection for everything, kept for good: the database lives in it.
async fn connect_memory(options: SqliteConnectOptions) -> Result<Db, ConnectError> {
    let database = "in memory".to_owned();
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|source| ConnectError::Open { database: database.clone(), source })?;
    migrator().run(&pool).await.map_err(|source| ConnectError::Migrate { database, source })?;
    Ok(Db::Sqlite { read: pool.clone(), write: pool })
}

/// Creates the folder of `path` and takes an exclusive lock on `path` + `.lock`, released when the file is dropped or the
/// process dies.
async fn lock_beside(path: &Path) -> Result<File, ConnectError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let folder = path.parent().map(Path::to_path_buf);
    let path = lock_path.clone();
    let locked = tokio::task::spawn_blocking(move || {
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).truncate(false).write(true).open(&lock_path)?;
        file.lock()?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    locked.map_err(|source| ConnectError::File { path, source })
}

/// sqlx takes an advisory lock while it migrates, so several processes wait for each other.
async fn connect_postgres(url: &str) -> Result<Db, ConnectError> {
    let options = PgConnectOptions::from_str(url).map_err(|source| ConnectError::InvalidUrl { source })?;
    let database =
        format!("`{}` on {}", options.get_database().unwrap_or(options.get_username()), options.get_host());
    let options = options.application_name("tidegate");
    // Tried once outside the pool, which would hide behind its time limit why there is no connection.
    let tried = PgConnection::connect_with(&options).await;
    let tried = tried.map_err(|source| ConnectError::Open { database: database.clone(), source })?;
    // An error while saying goodbye changes nothing.
    let _ = tried.close().await;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options);
    migrator().run(&pool).await.map_err(|source| ConnectError::Migrate { database, source })?;
    Ok(Db::Postgres(pool))
}
