//! The store in one SQLite file: trusted, local, one server at a time.
//!
//! Every write is one IMMEDIATE transaction with `synchronous = FULL`: what
//! was answered is on the disk.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::sql::{Engine, Link, SqlStore, failed, migration_failed};
use super::{StoreError, Waits};

/// Read connections; reads never wait for the writer (WAL).
const READERS: u32 = 4;

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
pub type SqliteStore = SqlStore<SqliteFile>;

/// One open SQLite file.
pub struct SqliteFile {
    writer: SqlitePool,
    /// For everything that only reads.
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
        SqliteFile::open(path, waits).await.map(SqlStore::new)
    }

    /// Opens the database at `path` beside a running server: reads only, and
    /// leaves its tables as they are. What writes is `Unavailable`.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`].
    pub async fn look(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteFile::look(path, Waits::default()).await.map(SqlStore::new)
    }
}

impl SqliteFile {
    /// What [`SqliteStore::open`] stands on.
    ///
    /// # Errors
    /// As for [`SqliteStore::open`].
    pub(super) async fn open(path: &Path, waits: Waits) -> Result<SqliteFile, StoreError> {
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
        let opened = SqliteFile {
            writer,
            reader,
            path: path.to_owned(),
            file,
            waits,
        };
        opened.same_file()?;
        Ok(opened)
    }

    async fn look(path: &Path, waits: Waits) -> Result<SqliteFile, StoreError> {
        let file = found(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_millis(waits.busy_ms))
            .pragma("trusted_schema", "OFF");
        let reader = pool(options, 1, waits).await?;
        let opened = SqliteFile {
            writer: reader.clone(),
            reader,
            path: path.to_owned(),
            file,
            waits,
        };
        opened.same_file()?;
        Ok(opened)
    }

    /// Whether the path still names the file that is open. If it was replaced
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
}

impl Engine for SqliteFile {
    async fn reader(&self) -> Result<Link, StoreError> {
        self.same_file()?;
        self.reader.acquire().await.map(Link::SqliteReader).map_err(failed)
    }

    /// Holds the write lock from its first moment.
    async fn writer(&self) -> Result<Link, StoreError> {
        self.same_file()?;
        let writer = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        Ok(Link::SqliteWriter(writer))
    }

    /// The WAL is folded into the file.
    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    fn waits(&self) -> Waits {
        self.waits
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
        // A connection to a file does not die, and asking it costs a turn on its thread.
        .test_before_acquire(false)
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
        one(1, "first", include_str!("migrations/sqlite/0001_first.sql")),
        one(2, "anchor", include_str!("migrations/sqlite/0002_anchor.sql")),
        one(3, "retention", include_str!("migrations/sqlite/0003_retention.sql")),
        one(4, "access", include_str!("migrations/sqlite/0004_access.sql")),
    ])
}
