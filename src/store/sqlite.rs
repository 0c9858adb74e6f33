//! The store in one SQLite file: trusted, local, one server at a time.
//!
//! One connection writes, so that writers queue in our process, where waiting
//! is bounded, and not in the file's lock. Every write is one IMMEDIATE
//! transaction with `synchronous = FULL`: what was answered is on the disk.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{SqlSafeStr, Sqlite, Transaction};

use super::{
    Answer, Grant, GrantId, Identity, IdentityName, NodeName, RecordingRow, Revocation,
    RevocationScope, SessionId, SessionRow, Store, StoreError, Target, TargetName, WallMs,
};
use crate::kernel::grant::NotLive;

mod rows;

use rows::{int, uint};

/// Read connections; reads never wait for the writer (WAL).
const READERS: u32 = 4;
/// Most rows of history that one listing answers with; live ones are never cut off.
pub const HISTORY_ROWS_MAX: i64 = 10_000;

/// How long the store may keep somebody waiting.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a lock that another process holds on the file, in ms.
    pub busy_ms: u64,
    /// For our one writing connection, in ms.
    pub queue_ms: u64,
    /// For a whole answer, in ms: after it the answer is `Unavailable`.
    pub answer_ms: u64,
}

impl Default for Waits {
    fn default() -> Self {
        // Shorter together than a node's lease (10 s), which a stuck store
        // must not outlive.
        Waits {
            busy_ms: 2_000,
            queue_ms: 4_000,
            answer_ms: 6_000,
        }
    }
}

/// Which file is open, whatever its path says later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileId {
    dev: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> std::io::Result<FileId> {
        let meta = std::fs::metadata(path)?;
        Ok(FileId {
            dev: meta.dev(),
            inode: meta.ino(),
        })
    }
}

/// Relational state in one SQLite file.
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
    path: PathBuf,
    file: FileId,
    waits: Waits,
}

impl SqliteStore {
    /// Makes a new database at `path`, mode 0600.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if anything is there already.
    pub async fn create(path: &Path) -> Result<SqliteStore, StoreError> {
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(_) => SqliteStore::open(path).await,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(StoreError::Exists(
                format!("the database {}", path.display()),
            )),
            Err(error) => Err(StoreError::Unavailable(format!(
                "cannot make {}: {error}",
                path.display()
            ))),
        }
    }

    /// Opens the database at `path` and brings its tables up to date. Never
    /// makes one: an empty store in place of a missing one would look like a
    /// bastion that nobody was ever granted anything on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no file.
    pub async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(path, Waits::default()).await
    }

    /// [`SqliteStore::open`] with other waits.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`].
    pub async fn open_with(path: &Path, waits: Waits) -> Result<SqliteStore, StoreError> {
        let file = FileId::of(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::NotFound(format!(
                "the database {} (`portcullis init` makes one)",
                path.display()
            )),
            _ => StoreError::Unavailable(format!("cannot open {}: {error}", path.display())),
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_millis(waits.busy_ms))
            .pragma("trusted_schema", "OFF");
        let writer = pool(options.clone(), 1, waits).await?;
        migrations().run(&writer).await.map_err(migration_failed)?;
        let reader = pool(options, READERS, waits).await?;
        let store = SqliteStore {
            writer,
            reader,
            path: path.to_owned(),
            file,
            waits,
        };
        store.same_file()?;
        Ok(store)
    }

    /// Ends every connection, so that the WAL is folded into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Whether `path` still names the file that is open. If it was replaced
    /// we would go on with a state that nobody else sees, revocations included.
    fn same_file(&self) -> Result<(), StoreError> {
        let gone = |why: String| {
            Err(StoreError::Corrupt(format!(
                "{} {why}; restore it and restart the server",
                self.path.display()
            )))
        };
        match FileId::of(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => gone("is no longer the file that was opened".to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => gone("is gone".to_owned()),
            Err(error) => Err(StoreError::Unavailable(format!(
                "cannot look at {}: {error}",
                self.path.display()
            ))),
        }
    }

    /// A transaction that holds the write lock from its first moment, so that
    /// what it reads cannot change before it commits.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.same_file()?;
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)
    }

    /// Boxes an answer and bounds it in time.
    fn bounded<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Answer<'a, T> {
        let most = Duration::from_millis(self.waits.answer_ms);
        Box::pin(async move {
            tokio::time::timeout(most, work).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!(
                    "no answer within {} ms",
                    most.as_millis()
                )))
            })
        })
    }
}

async fn pool(
    options: SqliteConnectOptions,
    size: u32,
    waits: Waits,
) -> Result<SqlitePool, StoreError> {
    // No connection is ever retired for age: a later one could find another
    // file behind the path.
    SqlitePoolOptions::new()
        .min_connections(size)
        .max_connections(size)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_millis(waits.queue_ms))
        .connect_with(options)
        .await
        .map_err(failed)
}

fn migrations() -> Migrator {
    let one = |version, name: &'static str, sql: &'static str| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(vec![one(
        1,
        "first",
        include_str!("migrations/sqlite/0001_first.sql"),
    )])
}

fn migration_failed(error: MigrateError) -> StoreError {
    // MigrateError is non-exhaustive: what is not about reaching the file is
    // about what stands in it.
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = error {
        return failed(error);
    }
    StoreError::Corrupt(format!(
        "its tables are not those of this version of portcullis: {error}; run the version that wrote it, or restore a backup"
    ))
}

/// Maps a database error to what the caller should conclude from it.
fn failed(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    let Some(database) = error.as_database_error() else {
        let unreadable = matches!(
            error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::TypeNotFound { .. }
        );
        return if unreadable {
            StoreError::Corrupt(text)
        } else {
            StoreError::Unavailable(text)
        };
    };
    let code: i32 = database
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    // Primary result codes, https://sqlite.org/rescode.html.
    const CORRUPT: i32 = 11;
    const CONSTRAINT: i32 = 19;
    const NOT_A_DATABASE: i32 = 26;
    const ERROR: i32 = 1;
    match code & 0xff {
        CORRUPT | NOT_A_DATABASE | CONSTRAINT | ERROR => StoreError::Corrupt(text),
        // Busy, locked, I/O, full, read-only, cannot open, out of memory: the
        // state itself is not in doubt.
        _ => StoreError::Unavailable(text),
    }
}

/// [`failed`], but a taken key is `what` that exists and a missing one it needs is not found.
fn insert_failed(what: impl FnOnce() -> String) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error() {
        Some(database) if database.is_unique_violation() => StoreError::Exists(what()),
        Some(database) if database.is_foreign_key_violation() => {
            StoreError::NotFound(format!("something that {} refers to", what()))
        }
        _ => failed(error),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn not_live(why: NotLive) -> &'static str {
    match why {
        NotLive::NotYet => "not-yet",
        NotLive::Expired => "expired",
        NotLive::Revoked => "revoked",
        NotLive::Used => "used",
    }
}

impl Store for SqliteStore {
    fn add_target<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query("INSERT INTO target (name, body) VALUES (?, ?)")
                .bind(target.name.as_str())
                .bind(json(target)?)
                .execute(&mut *tx)
                .await
                .map_err(insert_failed(|| format!("target {}", target.name)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn targets(&self) -> Answer<'_, Vec<Target>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT body FROM target ORDER BY name")
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::body).collect()
        })
    }

    fn target<'a>(&'a self, name: &'a TargetName) -> Answer<'a, Option<Target>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT body FROM target WHERE name = ?")
                .bind(name.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::body).transpose()
        })
    }

    fn add_identity<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query("INSERT INTO identity (name, body) VALUES (?, ?)")
                .bind(identity.name.as_str())
                .bind(json(identity)?)
                .execute(&mut *tx)
                .await
                .map_err(insert_failed(|| format!("identity {}", identity.name)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn identities(&self) -> Answer<'_, Vec<Identity>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT body FROM identity ORDER BY name")
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::body).collect()
        })
    }

    fn identity<'a>(&'a self, name: &'a IdentityName) -> Answer<'a, Option<Identity>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT body FROM identity WHERE name = ?")
                .bind(name.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::body).transpose()
        })
    }

    fn next_serial(&self) -> Answer<'_, u64> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let value: i64 = sqlx::query_scalar(
                "UPDATE counter SET value = value + 1 WHERE name = 'certificate_serial' RETURNING value",
            )
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
            // Committed before it is told: a crash loses a number, never gives it twice.
            tx.commit().await.map_err(failed)?;
            uint(value)
        })
    }

    fn add_grant<'a>(&'a self, grant: &'a Grant) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::insert_grant(&mut tx, grant)
                .await?
                .map_err(insert_failed(|| format!("grant {}", grant.id)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn grant(&self, id: GrantId) -> Answer<'_, Option<Grant>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM access_grant WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::grant).transpose()
        })
    }

    fn grant_by_certificate(&self, sha256: [u8; 32]) -> Answer<'_, Option<Grant>> {
        self.bounded(async move {
            // This answer admits people: not from a file that was moved away.
            self.same_file()?;
            let row = sqlx::query("SELECT * FROM access_grant WHERE certificate_sha256 = ?")
                .bind(sha256.to_vec())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::grant).transpose()
        })
    }

    fn grants(&self, live_at: Option<WallMs>) -> Answer<'_, Vec<Grant>> {
        self.bounded(async move {
            let rows = match live_at {
                Some(now) => {
                    self.same_file()?;
                    sqlx::query(
                        "SELECT * FROM access_grant
                         WHERE revoked_at_ms IS NULL AND until_ms > ?1 AND from_ms <= ?1
                           AND (single_use = 0 OR used_at_ms IS NULL)
                         ORDER BY certificate_serial DESC",
                    )
                    .bind(int(now)?)
                }
                None => sqlx::query(
                    "SELECT * FROM access_grant ORDER BY certificate_serial DESC LIMIT ?",
                )
                .bind(HISTORY_ROWS_MAX),
            }
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
            rows.iter().map(rows::grant).collect()
        })
    }

    fn open_session<'a>(&'a self, session: &'a SessionRow, now: WallMs) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let grant = rows::grant_in(&mut tx, session.grant)
                .await?
                .ok_or_else(|| StoreError::NotFound(format!("grant {}", session.grant)))?;
            grant
                .live(now)
                .map_err(|why| StoreError::GrantNotLive(not_live(why)))?;
            if grant.identity != session.identity || grant.destination != session.destination {
                return Err(StoreError::GrantNotLive("other-purpose"));
            }
            if grant.single_use {
                sqlx::query("UPDATE access_grant SET used_at_ms = ? WHERE id = ?")
                    .bind(int(now)?)
                    .bind(grant.id.to_string())
                    .execute(&mut *tx)
                    .await
                    .map_err(failed)?;
            }
            rows::insert_session(&mut tx, session)
                .await?
                .map_err(insert_failed(|| format!("session {}", session.id)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn close_session<'a>(
        &'a self,
        id: SessionId,
        ended: WallMs,
        end_code: &'a str,
    ) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            // The first end is the true one; closing again changes nothing.
            let known: Option<i64> = sqlx::query_scalar(
                "UPDATE session SET ended_ms = coalesce(ended_ms, ?), end_code = coalesce(end_code, ?)
                 WHERE id = ? RETURNING ended_ms",
            )
            .bind(int(ended)?)
            .bind(end_code)
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            match known {
                Some(_) => Ok(()),
                None => Err(StoreError::NotFound(format!("session {id}"))),
            }
        })
    }

    fn sessions(&self, live_only: bool) -> Answer<'_, Vec<SessionRow>> {
        self.bounded(async move {
            let rows = if live_only {
                sqlx::query(
                    "SELECT * FROM session WHERE ended_ms IS NULL ORDER BY started_ms DESC, id",
                )
            } else {
                sqlx::query("SELECT * FROM session ORDER BY started_ms DESC, id LIMIT ?")
                    .bind(HISTORY_ROWS_MAX)
            }
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
            rows.iter().map(rows::session).collect()
        })
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRow>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM session WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::session).transpose()
        })
    }

    fn add_recording<'a>(&'a self, recording: &'a RecordingRow) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::insert_recording(&mut tx, recording)
                .await?
                .map_err(insert_failed(|| {
                    format!("recording of session {}", recording.session)
                }))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn recordings(&self) -> Answer<'_, Vec<RecordingRow>> {
        self.bounded(async move {
            let rows =
                sqlx::query("SELECT * FROM recording ORDER BY sealed_ms DESC, session LIMIT ?")
                    .bind(HISTORY_ROWS_MAX)
                    .fetch_all(&self.reader)
                    .await
                    .map_err(failed)?;
            rows.iter().map(rows::recording).collect()
        })
    }

    fn recording(&self, session: SessionId) -> Answer<'_, Option<RecordingRow>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM recording WHERE session = ?")
                .bind(session.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::recording).transpose()
        })
    }

    fn revoke<'a>(
        &'a self,
        scope: &'a RevocationScope,
        by: &'a str,
        why: &'a str,
        now: WallMs,
    ) -> Answer<'a, (Revocation, Vec<SessionRow>)> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::known(&mut tx, scope).await?;
            let ended = rows::revoke(&mut tx, scope, why, now).await?;
            let seq = rows::insert_revocation(&mut tx, scope, by, why, now).await?;
            tx.commit().await.map_err(failed)?;
            let revocation = Revocation {
                seq,
                scope: scope.clone(),
                by: by.to_owned(),
                why: why.to_owned(),
                at_ms: now,
            };
            Ok((revocation, ended))
        })
    }

    fn revocations_after(&self, seq: u64, limit: u32) -> Answer<'_, Vec<Revocation>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT * FROM revocation WHERE seq > ? ORDER BY seq LIMIT ?")
                .bind(int(seq)?)
                .bind(i64::from(limit))
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::revocation).collect()
        })
    }

    fn renew_lease<'a>(&'a self, node: &'a NodeName, now: WallMs, until: WallMs) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query(
                "INSERT INTO lease (node, renewed_ms, until_ms) VALUES (?, ?, ?)
                 ON CONFLICT (node) DO UPDATE SET renewed_ms = excluded.renewed_ms, until_ms = excluded.until_ms",
            )
            .bind(node.as_str())
            .bind(int(now)?)
            .bind(int(until)?)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            // Again after the commit: what we just wrote must be where others look.
            self.same_file()
        })
    }

    fn add_leaf<'a>(&'a self, index: u64, salt: [u8; 32], body: &'a [u8]) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query("INSERT INTO leaf (idx, salt, body) VALUES (?, ?, ?)")
                .bind(int(index)?)
                .bind(salt.to_vec())
                .bind(body.to_vec())
                .execute(&mut *tx)
                .await
                .map_err(insert_failed(|| format!("leaf {index}")))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn leaf(&self, index: u64) -> Answer<'_, Option<([u8; 32], Vec<u8>)>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT salt, body FROM leaf WHERE idx = ?")
                .bind(int(index)?)
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::leaf).transpose()
        })
    }
}
