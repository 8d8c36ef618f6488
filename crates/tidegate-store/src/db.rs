//! The seam between the two databases: a handle, a statement, a row, a transaction. Repositories are written once, on
//! top of it, and know neither pool nor driver.
//!
//! Knows no table. Start at [`Db`]; how a database is opened is in [`connect`].

pub(crate) mod connect;
mod row;
mod value;

use sqlx::postgres::{PgArguments, PgPool};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{Postgres, Sqlite, Transaction};

use self::row::Inner;
pub(crate) use self::row::Row;
pub(crate) use self::value::{Value, fixed_width, storable};
use crate::error::StoreError;

/// Which database is behind a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// A database. Cloning shares the connections.
#[derive(Clone)]
pub(crate) enum Db {
    /// SQLite has one writer at a time, so writers queue on a pool of one connection instead of meeting each other's
    /// lock; readers do not wait for them (WAL).
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
    },
    Postgres(PgPool),
}

/// Several statements that happen together or not at all. Dropped without [`Tx::commit`], it is rolled back.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// One SQL statement with its values bound: `$1` is the first. The same text serves both databases unless
/// [`on_postgres`](Self::on_postgres) gives another.
pub(crate) struct Statement {
    doing: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

/// `doing` completes "failed to ...".
pub(crate) fn sql(doing: &'static str, text: &'static str) -> Statement {
    Statement { doing, sqlite: text, postgres: text, values: Vec::new() }
}

impl Statement {
    pub fn on_postgres(mut self, text: &'static str) -> Self {
        self.postgres = text;
        self
    }

    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    fn for_sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(self.sqlite), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
            Value::Real(number) => query.bind(number),
            Value::Bool(truth) => query.bind(truth),
            Value::Time(time) => query.bind(time.map(fixed_width)),
        })
    }

    fn for_postgres(self) -> Query<'static, Postgres, PgArguments> {
        self.values.into_iter().fold(sqlx::query(self.postgres), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Int(number) => query.bind(number),
            Value::Real(number) => query.bind(number),
            Value::Bool(truth) => query.bind(truth),
            Value::Time(time) => query.bind(time.map(jiff_sqlx::Timestamp::from)),
        })
    }
}

impl Db {
    pub fn backend(&self) -> Backend {
        match self {
            Self::Sqlite { .. } => Backend::Sqlite,
            Self::Postgres(_) => Backend::Postgres,
        }
    }

    pub async fn all(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let doing = statement.doing;
        match self {
            Self::Sqlite { read, .. } => {
                rows(doing, statement.for_sqlite().fetch_all(read).await, Inner::Sqlite)
            }
            Self::Postgres(pool) => {
                rows(doing, statement.for_postgres().fetch_all(pool).await, Inner::Postgres)
            }
        }
    }

    /// The first row.
    pub async fn first(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.all(statement).await?.into_iter().next())
    }

    /// A statement that writes and returns rows.
    pub async fn write_all(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let doing = statement.doing;
        match self {
            Self::Sqlite { write, .. } => {
                rows(doing, statement.for_sqlite().fetch_all(write).await, Inner::Sqlite)
            }
            Self::Postgres(pool) => {
                rows(doing, statement.for_postgres().fetch_all(pool).await, Inner::Postgres)
            }
        }
    }

    /// The first row of a statement that writes.
    pub async fn write_first(&self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.write_all(statement).await?.into_iter().next())
    }

    /// Returns how many rows were changed.
    pub async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        let doing = statement.doing;
        match self {
            Self::Sqlite { write, .. } => {
                statement.for_sqlite().execute(write).await.map(|done| done.rows_affected())
            }
            Self::Postgres(pool) => {
                statement.for_postgres().execute(pool).await.map(|done| done.rows_affected())
            }
        }
        .map_err(|source| StoreError::of_query(doing, source))
    }

    /// Begins a transaction that writes. On SQLite it takes the write lock at once, so it never has to upgrade and
    /// fail; on PostgreSQL each statement sees what others have committed (READ COMMITTED).
    pub async fn begin(&self, doing: &'static str) -> Result<Tx, StoreError> {
        match self {
            Self::Sqlite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite),
            Self::Postgres(pool) => pool.begin().await.map(Tx::Postgres),
        }
        .map_err(|source| StoreError::of_query(doing, source))
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub async fn all(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        let doing = statement.doing;
        match self {
            Self::Sqlite(tx) => rows(doing, statement.for_sqlite().fetch_all(&mut **tx).await, Inner::Sqlite),
            Self::Postgres(tx) => {
                rows(doing, statement.for_postgres().fetch_all(&mut **tx).await, Inner::Postgres)
            }
        }
    }

    pub async fn first(&mut self, statement: Statement) -> Result<Option<Row>, StoreError> {
        Ok(self.all(statement).await?.into_iter().next())
    }

    /// Returns how many rows were changed.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        let doing = statement.doing;
        match self {
            Self::Sqlite(tx) => {
                statement.for_sqlite().execute(&mut **tx).await.map(|done| done.rows_affected())
            }
            Self::Postgres(tx) => {
                statement.for_postgres().execute(&mut **tx).await.map(|done| done.rows_affected())
            }
        }
        .map_err(|source| StoreError::of_query(doing, source))
    }

    pub async fn commit(self, doing: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(|source| StoreError::of_query(doing, source))
    }
}

fn rows<R>(
    doing: &'static str,
    fetched: Result<Vec<R>, sqlx::Error>,
    wrap: fn(R) -> Inner,
) -> Result<Vec<Row>, StoreError> {
    let fetched = fetched.map_err(|source| StoreError::of_query(doing, source))?;
    Ok(fetched.into_iter().map(|row| Row { doing, inner: wrap(row) }).collect())
}
