//! The index over recordings: what was run, which files crossed, what screens
//! showed, and whose session it was, so that it is found in all of them at once.
//!
//! It is made of the recordings and of nothing else, and it is never trusted:
//! a hit names a recording and a moment, and what is shown is read from that
//! recording again ([`confirm`]) where time allows. Who deletes `search.db`
//! loses no evidence; the next start makes it anew. Of an encrypted recording
//! it holds what stands in its open head, its labels and what was counted.
//!
//! ```text
//!  archived --Keeper--> read (verified) --Entries--> Index --page--> hits --confirm--> shown
//! ```

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_player::entry::{Entry, Kind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqliteConnection};

use crate::clock::Clock;
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;

mod ask;
mod confirm;
mod facets;
mod firsts;
mod keep;
mod read;

pub use ask::{Hit, Page};
pub use confirm::{Checked, confirm};
pub use firsts::Firsts;
pub use keep::Keeper;
pub use portcullis_player::query::Query;
pub use read::Places;

#[cfg(test)]
mod tests;

/// The form of the file; another one is thrown away and made anew.
const VERSION: i64 = 2;
/// Searches at once.
const READERS: u32 = 4;
/// How long a search waits for a connection.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// How long a write waits for another one.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Entries that go in with one statement.
const ENTRIES_AT_ONCE: usize = 2_000;
/// Longest reason that is kept, in bytes.
const WHY_BYTES_MAX: usize = 512;

/// What is wrong with the index. It never costs a recording.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The file cannot be used now.
    #[error("the search index: {0}")]
    Database(#[from] sqlx::Error),
    /// What was taken out still stands in the log beside the file.
    #[error("the search index: what was deleted is still in its log while a search reads it; delete it once more")]
    Busy,
    /// It cannot be made or removed.
    #[error("the search index {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// A row of it says what cannot be.
    #[error("the search index holds what it cannot: {0}; make it anew: portcullis recordings index --rebuild")]
    Broken(String),
}

/// How much of a recording is in the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// All that can be found in it.
    Whole,
    /// Some of it: there was more than is kept of one.
    Part,
    /// It is encrypted: what its head says.
    Locked,
    /// It could not be read, or does not verify.
    Unread,
    /// It was deleted, or its key was: nothing of it comes back.
    Gone,
}

impl Standing {
    const ALL: [Standing; 5] = [
        Standing::Whole,
        Standing::Part,
        Standing::Locked,
        Standing::Unread,
        Standing::Gone,
    ];

    /// As it is kept and told.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Whole => "whole",
            Standing::Part => "part",
            Standing::Locked => "locked",
            Standing::Unread => "unread",
            Standing::Gone => "gone",
        }
    }
}

/// A recording as the index knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    pub session: SessionId,
    pub identity: String,
    pub login: String,
    pub target: String,
    pub opened_ms: WallMs,
    pub closed_ms: WallMs,
    pub standing: Standing,
    /// Why not all of it is there.
    pub why: String,
}

/// How many recordings stand how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub whole: u64,
    pub part: u64,
    pub locked: u64,
    pub unread: u64,
    pub gone: u64,
    pub entries: u64,
}

/// The index in its file.
pub struct Index {
    writer: SqlitePool,
    reader: SqlitePool,
    clock: Clock,
}

impl Index {
    /// Opens the file, or makes it. One that cannot be used is thrown away:
    /// there is nothing in it that is not in the recordings.
    ///
    /// # Errors
    /// When none can be made there.
    pub async fn open(path: &Path, clock: Clock) -> Result<Index, SearchError> {
        match Index::at(path, &clock).await {
            Ok(index) => Ok(index),
            Err(error) => {
                if path.exists() {
                    tracing::warn!(%error, "the search index is made anew");
                }
                remove(path)?;
                Index::at(path, &clock).await
            }
        }
    }

    async fn at(path: &Path, clock: &Clock) -> Result<Index, SearchError> {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        made.map_err(|error| SearchError::File(path.to_owned(), error))?;
        // Lost with the power it is made anew, so it waits for no disk.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_WAIT)
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF");
        let writer = pool(options.clone(), 1).await?;
        let version: i64 = sqlx::query("PRAGMA user_version")
            .fetch_one(&writer)
            .await?
            .try_get(0)?;
        let tables = sqlx::query("SELECT count(*) FROM sqlite_schema")
            .fetch_one(&writer)
            .await?;
        match (version, tables.try_get::<i64, _>(0)?) {
            (0, 0) => {
                let mut tx = writer.begin().await?;
                sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *tx).await?;
                sqlx::raw_sql("PRAGMA user_version = 2").execute(&mut *tx).await?;
                tx.commit().await?;
            }
            (VERSION, _) => {}
            (other, _) => return Err(SearchError::Broken(format!("it is of form {other}"))),
        }
        let reader = pool(options, READERS).await?;
        Ok(Index {
            writer,
            reader,
            clock: clock.clone(),
        })
    }

    /// Puts a recording in, in the place of what it held of it. One that was
    /// deleted meanwhile does not come back.
    ///
    /// # Errors
    /// The file's; nothing changed then.
    pub async fn put(&self, of: &Recorded, mut entries: Vec<Entry>) -> Result<(), SearchError> {
        entries.sort_by_key(|entry| entry.at_ms);
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        match take_out(&mut tx, of.session).await? {
            Some(Standing::Gone) => return Ok(()),
            Some(Standing::Whole | Standing::Part | Standing::Locked | Standing::Unread) | None => {}
        }
        let first: i64 = sqlx::query("SELECT coalesce(max(id), 0) + 1 FROM entry")
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
        let last = first.saturating_add(i64::try_from(entries.len()).unwrap_or(i64::MAX));
        let recording = row(&mut tx, of, first, last).await?;
        let mut id = first;
        for some in entries.chunks(ENTRIES_AT_ONCE) {
            let rows: Vec<serde_json::Value> = some
                .iter()
                .zip(id..)
                .map(|(entry, id)| {
                    serde_json::json!([
                        id,
                        recording,
                        entry.at_ms,
                        entry.channel,
                        entry.kind.word(),
                        entry.status,
                        entry.labels.join(" "),
                        facets::of(of, entry),
                        entry.text,
                    ])
                })
                .collect();
            id = id.saturating_add(i64::try_from(some.len()).unwrap_or(i64::MAX));
            sqlx::query(
                "INSERT INTO entry (id, recording, at_ms, channel, kind, status, labels, facets, text)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                        value ->> 7, value ->> 8
                 FROM json_each($1)",
            )
            .bind(serde_json::Value::Array(rows).to_string())
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "INSERT INTO words (rowid, text, facets) SELECT id, text, facets FROM entry WHERE id >= $1 AND id < $2",
        )
        .bind(first)
        .bind(last)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes a recording out for good, from the file as well.
    ///
    /// # Errors
    /// The file's: then it may still be found, or its text still stands in the log.
    pub async fn forget(&self, session: SessionId) -> Result<(), SearchError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        take_out(&mut tx, session).await?;
        let gone = Recorded {
            session,
            identity: String::new(),
            login: String::new(),
            target: String::new(),
            opened_ms: 0,
            closed_ms: 0,
            standing: Standing::Gone,
            why: String::new(),
        };
        row(&mut tx, &gone, 0, 0).await?;
        tx.commit().await?;
        // What was deleted stands in the log beside the file until that is folded in.
        let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await?;
        // It tells in its row that it could not (SQLite, PRAGMA wal_checkpoint).
        match folded.try_get::<i64, _>(0)? {
            0 => Ok(()),
            _ => Err(SearchError::Busy),
        }
    }

    /// Takes everything out but what was deleted: that stays away.
    ///
    /// # Errors
    /// The file's; nothing changed then.
    pub async fn clear(&self) -> Result<(), SearchError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for sql in [
            "INSERT INTO words (words) VALUES ('delete-all')",
            "DELETE FROM entry",
            "DELETE FROM recording WHERE standing <> 'gone'",
        ] {
            sqlx::query(sql).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Whether a recording is in it, or was taken out for good.
    ///
    /// # Errors
    /// The file's.
    pub async fn knows(&self, session: SessionId) -> Result<bool, SearchError> {
        let found = sqlx::query("SELECT 1 FROM recording WHERE session = $1")
            .bind(session.to_string())
            .fetch_optional(&self.reader)
            .await?;
        Ok(found.is_some())
    }

    /// How many recordings stand how.
    ///
    /// # Errors
    /// The file's.
    pub async fn counts(&self) -> Result<Counts, SearchError> {
        let rows = sqlx::query("SELECT standing, count(*), sum(last - first) FROM recording GROUP BY standing")
            .fetch_all(&self.reader)
            .await?;
        let mut counts = Counts::default();
        for row in rows {
            let (standing, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let entries: i64 = row.try_get(2)?;
            let count = u64::try_from(count).unwrap_or(0);
            counts.entries = counts.entries.saturating_add(u64::try_from(entries).unwrap_or(0));
            let place = match parsed(&standing)? {
                Standing::Whole => &mut counts.whole,
                Standing::Part => &mut counts.part,
                Standing::Locked => &mut counts.locked,
                Standing::Unread => &mut counts.unread,
                Standing::Gone => &mut counts.gone,
            };
            *place = count;
        }
        Ok(counts)
    }

    /// Folds the log into the file and closes it.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn parsed(standing: &str) -> Result<Standing, SearchError> {
    let all = Standing::ALL.into_iter();
    let found = all.into_iter().find(|one| one.as_str() == standing);
    found.ok_or_else(|| SearchError::Broken(format!("a recording that is {standing}")))
}

fn kind(word: &str) -> Result<Kind, SearchError> {
    let found = Kind::ALL.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| SearchError::Broken(format!("an entry of kind {word}")))
}

/// Takes a recording's rows out; how it stood.
async fn take_out(on: &mut SqliteConnection, session: SessionId) -> Result<Option<Standing>, SearchError> {
    let found = sqlx::query("SELECT id, first, last, standing FROM recording WHERE session = $1")
        .bind(session.to_string())
        .fetch_optional(&mut *on)
        .await?;
    let Some(found) = found else { return Ok(None) };
    let (id, first, last): (i64, i64, i64) = (found.try_get(0)?, found.try_get(1)?, found.try_get(2)?);
    let standing = parsed(found.try_get(3)?)?;
    if standing == Standing::Gone {
        return Ok(Some(standing));
    }
    sqlx::query(
        "INSERT INTO words (words, rowid, text, facets)
         SELECT 'delete', id, text, facets FROM entry WHERE id >= $1 AND id < $2",
    )
    .bind(first)
    .bind(last)
    .execute(&mut *on)
    .await?;
    sqlx::query("DELETE FROM entry WHERE id >= $1 AND id < $2")
        .bind(first)
        .bind(last)
        .execute(&mut *on)
        .await?;
    sqlx::query("DELETE FROM recording WHERE id = $1")
        .bind(id)
        .execute(&mut *on)
        .await?;
    Ok(Some(standing))
}

/// Writes a recording's own row; its id.
async fn row(on: &mut SqliteConnection, of: &Recorded, first: i64, last: i64) -> Result<i64, SearchError> {
    let ms = |ms: WallMs| i64::try_from(ms).unwrap_or(i64::MAX);
    let most = of.why.floor_char_boundary(WHY_BYTES_MAX);
    let row = sqlx::query(
        "INSERT INTO recording (session, identity, login, target, opened_ms, closed_ms, first, last, standing, why)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (session) DO UPDATE SET standing = excluded.standing
         RETURNING id",
    )
    .bind(of.session.to_string())
    .bind(&of.identity)
    .bind(&of.login)
    .bind(&of.target)
    .bind(ms(of.opened_ms))
    .bind(ms(of.closed_ms))
    .bind(first)
    .bind(last)
    .bind(of.standing.as_str())
    .bind(of.why.get(..most).unwrap_or_default())
    .fetch_one(on)
    .await?;
    Ok(row.try_get(0)?)
}

async fn pool(options: SqliteConnectOptions, size: u32) -> Result<SqlitePool, SearchError> {
    Ok(SqlitePoolOptions::new()
        .test_before_acquire(false)
        .max_connections(size)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(QUEUE_WAIT)
        .connect_with(options)
        .await?)
}

/// Removes the file with its log; not there is as good.
fn remove(path: &Path) -> Result<(), SearchError> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(SearchError::File(name.into(), error)),
        }
    }
    Ok(())
}
