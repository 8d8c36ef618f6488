//! One opaque error for every query: what was being done, why it failed, and whether trying again may help.

use std::error::Error;

/// A query failed, or a row could not be read. The cause is the [`source`](Error::source).
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct StoreError {
    doing: &'static str,
    retryable: bool,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// Whether the same call may succeed a moment later: the database was busy, restarting, or out of reach.
    pub fn retryable(&self) -> bool {
        self.retryable
    }

    pub(crate) fn of_query(doing: &'static str, source: sqlx::Error) -> Self {
        Self { doing, retryable: is_transient(&source), source: Box::new(source) }
    }

    /// For a row that holds what no version of this crate writes.
    pub(crate) fn of_content(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, retryable: false, source: source.into() }
    }

    /// For what passes by itself, such as a race lost too often to go on; the caller may try again.
    pub fn of_race(doing: &'static str, what: &'static str) -> Self {
        Self { doing, retryable: true, source: what.into() }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// SQLSTATE codes have five characters (PostgreSQL 15, appendix A); SQLite's extended result codes are decimal numbers
/// whose low byte is the primary code (<https://sqlite.org/rescode.html>).
fn is_transient_code(code: &str) -> bool {
    const SQLITE_BUSY: u32 = 5;
    const SQLITE_LOCKED: u32 = 6;
    if code.len() == 5 {
        // Connection lost, transaction rolled back by the server (40: serialization, deadlock), out of connections,
        // lock not available, shutting down or starting up.
        return code.starts_with("08")
            || ["40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03"].contains(&code);
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, SQLITE_BUSY | SQLITE_LOCKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_retryable() {
        for (code, expected) in
            [("40P01", true), ("08006", true), ("23505", false), ("5", true), ("517", true), ("2067", false)]
        {
            assert_eq!(is_transient_code(code), expected, "{code}");
        }
        assert!(StoreError::of_query("list models", sqlx::Error::PoolTimedOut).retryable());
        assert!(!StoreError::of_query("list models", sqlx::Error::RowNotFound).retryable());
    }
}
