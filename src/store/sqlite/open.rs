//! Opening the file, holding on to it, and what its errors mean.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr, Sqlite, Transaction};

use super::super::{Answer, StoreError};

/// Read connections; reads never wait for the writer (WAL).
const READERS: u32 = 4;

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
    /// For everything that only reads.
    pub(super) reader: SqlitePool,
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
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(StoreError::Exists(format!("the database {}", path.display())))
            }
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
        let file = found(path)?;
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

    /// Opens the database at `path` beside a running server: reads only, and
    /// leaves its tables as they are. What writes is `Unavailable`.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`].
    pub async fn look(path: &Path) -> Result<SqliteStore, StoreError> {
        let waits = Waits::default();
        let file = found(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_millis(waits.busy_ms))
            .pragma("trusted_schema", "OFF");
        let reader = pool(options, 1, waits).await?;
        let store = SqliteStore {
            writer: reader.clone(),
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
    pub(super) fn same_file(&self) -> Result<(), StoreError> {
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
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.same_file()?;
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }

    /// Boxes an answer and bounds it in time.
    pub(super) fn bounded<'a, T: Send + 'a>(
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

fn found(path: &Path) -> Result<FileId, StoreError> {
    FileId::of(path).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            return StoreError::NotFound(format!("the database {} (`portcullis init` makes one)", path.display()));
        }
        StoreError::Unavailable(format!("cannot open {}: {error}", path.display()))
    })
}

async fn pool(options: SqliteConnectOptions, size: u32, waits: Waits) -> Result<SqlitePool, StoreError> {
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
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        one(1, "first", include_str!("../migrations/sqlite/0001_first.sql")),
        one(2, "anchor", include_str!("../migrations/sqlite/0002_anchor.sql")),
        one(3, "retention", include_str!("../migrations/sqlite/0003_retention.sql")),
    ])
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
pub(super) fn failed(error: sqlx::Error) -> StoreError {
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
    let code: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
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
pub(super) fn insert_failed(what: impl FnOnce() -> String) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match error.as_database_error() {
        Some(database) if database.is_unique_violation() => StoreError::Exists(what()),
        Some(database) if database.is_foreign_key_violation() => {
            StoreError::NotFound(format!("something that {} refers to", what()))
        }
        _ => failed(error),
    }
}
