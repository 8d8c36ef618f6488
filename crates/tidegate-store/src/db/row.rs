//! Reading a row, whichever database it came from.

use std::str::FromStr;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use tidegate_core::Timestamp;

use crate::error::StoreError;

/// A row and what it was fetched for, so that an unreadable column says both.
pub(crate) struct Row {
    pub(super) doing: &'static str,
    pub(super) inner: Inner,
}

pub(super) enum Inner {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! read {
    ($row:expr, $column:expr, $type:ty) => {
        match &$row.inner {
            Inner::Sqlite(row) => row.try_get::<$type, _>($column),
            Inner::Postgres(row) => row.try_get::<$type, _>($column),
        }
        .map_err(|source| StoreError::of_query($row.doing, source))
    };
}

impl Row {
    pub fn text(&self, column: &str) -> Result<String, StoreError> {
        read!(self, column, String)
    }

    pub fn text_opt(&self, column: &str) -> Result<Option<String>, StoreError> {
        read!(self, column, Option<String>)
    }

    /// Text that is the written form of some type: an enum's word, a version number, a digest.
    pub fn parsed<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        self.parse(column, &self.text(column)?)
    }

    pub fn parsed_opt<T>(&self, column: &str) -> Result<Option<T>, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        self.text_opt(column)?.map(|text| self.parse(column, &text)).transpose()
    }

    fn parse<T>(&self, column: &str, text: &str) -> Result<T, StoreError>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        text.parse().map_err(|error| self.unreadable(column, error))
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.unreadable(column, error))
    }

    pub fn json_opt<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text = self.text_opt(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.unreadable(column, error)))
            .transpose()
    }

    /// A number that is never negative.
    pub fn count(&self, column: &str) -> Result<u64, StoreError> {
        let number = read!(self, column, i64)?;
        u64::try_from(number).map_err(|error| self.unreadable(column, error))
    }

    pub fn count_opt(&self, column: &str) -> Result<Option<u64>, StoreError> {
        let number = read!(self, column, Option<i64>)?;
        number.map(|number| u64::try_from(number).map_err(|error| self.unreadable(column, error))).transpose()
    }

    pub fn percentage(&self, column: &str) -> Result<u8, StoreError> {
        u8::try_from(self.count(column)?).map_err(|error| self.unreadable(column, error))
    }

    pub fn real_opt(&self, column: &str) -> Result<Option<f64>, StoreError> {
        read!(self, column, Option<f64>)
    }

    pub fn truth(&self, column: &str) -> Result<bool, StoreError> {
        read!(self, column, bool)
    }

    pub fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Ok(read!(self, column, jiff_sqlx::Timestamp)?.to_jiff())
    }

    pub fn time_opt(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(read!(self, column, Option<jiff_sqlx::Timestamp>)?.map(jiff_sqlx::Timestamp::to_jiff))
    }

    /// The error of a column whose text is not what it should be.
    pub fn unreadable(&self, column: &str, error: impl std::fmt::Display) -> StoreError {
        StoreError::of_content(self.doing, format!("column `{column}` is unreadable: {error}"))
    }
}
