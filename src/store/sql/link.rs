//! A connection of either kind, the values that go in and the rows that come
//! out: the only place that knows both databases' types.
//!
//! A row that does not parse is [`StoreError::Corrupt`], never a guess: what
//! stands in the database may have been written by somebody else.

use std::str::FromStr;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Decode, Postgres, Row as _, Sqlite, Transaction, Type};

use super::super::{HISTORY_ROWS_MAX, PAGE_ROWS_MAX, StoreError};
use super::error::{failed, insert_failed};
use crate::kernel::id::Destination;

/// One connection. A writer's work lasts once it is committed.
pub enum Link {
    SqliteReader(PoolConnection<Sqlite>),
    SqliteWriter(Transaction<'static, Sqlite>),
    PostgresReader(PoolConnection<Postgres>),
    PostgresWriter(Transaction<'static, Postgres>),
}

enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// What goes into a statement.
pub(super) enum Value {
    Number(Option<u64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// The values of a statement, in the order of `$1`, `$2` and so on.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::sql::link::Value::from($value)),*] };
}
pub(super) use values;

macro_rules! value_from {
    ($($kind:ident: $from:ty, $value:ident => $made:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Value {
                Value::$kind($made)
            }
        })*
    };
}
value_from! {
    Number: u64, value => Some(value);
    Number: u32, value => Some(u64::from(value));
    Number: u16, value => Some(u64::from(value));
    Number: u8, value => Some(u64::from(value));
    Number: bool, value => Some(u64::from(value));
    Number: Option<u64>, value => value;
    Text: &str, value => Some(value.to_owned());
    Text: &String, value => Some(value.clone());
    Text: String, value => Some(value);
    Text: Option<&str>, value => value.map(str::to_owned);
    Text: Option<String>, value => value;
    Bytes: [u8; 32], value => Some(value.to_vec());
    Bytes: &[u8], value => Some(value.to_vec());
}

/// Most rows of a history, as a statement's limit.
pub(super) fn history() -> u64 {
    u64::from(HISTORY_ROWS_MAX)
}

/// As many as are asked for, and never more than a page holds.
pub(super) fn page_rows(limit: u32) -> u64 {
    u64::from(limit.min(PAGE_ROWS_MAX))
}

/// The databases' integers are signed.
fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} does not fit the store's integers")))
}

/// PostgreSQL's texts hold no NUL, so nobody's do.
fn plain(value: String) -> Result<String, StoreError> {
    match value.contains('\0') {
        true => Err(StoreError::Corrupt("a text with a NUL does not fit the store".into())),
        false => Ok(value),
    }
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                Value::Number(value) => query.bind(value.map(int).transpose()?),
                Value::Text(value) => query.bind(value.map(plain).transpose()?),
                Value::Bytes(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Link {
    fn connection(&mut self) -> Connection<'_> {
        match self {
            Link::SqliteReader(reader) => Connection::Sqlite(reader),
            Link::SqliteWriter(writer) => Connection::Sqlite(writer),
            Link::PostgresReader(reader) => Connection::Postgres(reader),
            Link::PostgresWriter(writer) => Connection::Postgres(writer),
        }
    }

    async fn execute(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Result<u64, sqlx::Error>, StoreError> {
        Ok(match self.connection() {
            Connection::Sqlite(on) => bound!(sql, values).execute(on).await.map(|done| done.rows_affected()),
            Connection::Postgres(on) => bound!(sql, values).execute(on).await.map(|done| done.rows_affected()),
        })
    }

    /// Runs one statement; answers with how many rows it touched.
    pub(super) async fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, StoreError> {
        self.execute(sql, values).await?.map_err(failed)
    }

    /// Inserts one row: `what`, if its key is taken.
    pub(super) async fn insert(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
        what: impl FnOnce() -> String,
    ) -> Result<(), StoreError> {
        self.execute(sql, values).await?.map(drop).map_err(insert_failed(what))
    }

    /// Every row of a query.
    pub(super) async fn rows(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match self.connection() {
            Connection::Sqlite(on) => {
                let rows = bound!(sql, values).fetch_all(on).await.map_err(failed)?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Connection::Postgres(on) => {
                let rows = bound!(sql, values).fetch_all(on).await.map_err(failed)?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first row of a query that has one at most.
    pub(super) async fn row(&mut self, sql: &'static str, values: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Makes a writer's work last.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Link::SqliteWriter(writer) => writer.commit().await.map_err(failed),
            Link::PostgresWriter(writer) => writer.commit().await.map_err(failed),
            Link::SqliteReader(_) | Link::PostgresReader(_) => Ok(()),
        }
    }
}

/// One row of a query.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
        .map_err(failed)
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(super) fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(super) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        parsed(column, &self.text(column)?)
    }

    pub(super) fn maybe_parsed<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.maybe_text(column)?;
        text.map(|text| parsed(column, &text)).transpose()
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        uint(column, self.get(column)?)
    }

    pub(super) fn maybe_number(&self, column: &'static str) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.get(column)?;
        value.map(|value| uint(column, value)).transpose()
    }

    /// A number that fits a smaller type.
    pub(super) fn small<T: TryFrom<u64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let value = self.number(column)?;
        T::try_from(value).map_err(|_| StoreError::Corrupt(format!("column {column}: {value} is too large")))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        Ok(self.number(column)? != 0)
    }

    pub(super) fn maybe_bytes(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column)
    }

    pub(super) fn bytes32(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes
            .try_into()
            .map_err(|_| StoreError::Corrupt(format!("column {column}: 32 bytes expected")))
    }

    /// The columns `login` and `target`.
    pub(super) fn destination(&self) -> Result<Destination, StoreError> {
        Ok(Destination {
            login: self.parsed("login")?,
            target: self.parsed("target")?,
        })
    }
}

fn parsed<T>(column: &'static str, text: &str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

fn uint(column: &'static str, value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("column {column}: {value} where a count belongs")))
}

/// A value as a text column.
pub(super) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
