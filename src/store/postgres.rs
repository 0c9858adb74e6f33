//! The store in a PostgreSQL database: shared by several nodes.
//!
//! One advisory lock per database makes one transaction write at a time, as in
//! SQLite: what holds there (a revocation without gaps, a serial given once, a
//! grant used once) holds here for the same reason, across nodes too. The
//! transactions are short, and the server ends one whose node has gone.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Row, SqlSafeStr};

use super::sql::{Engine, Link, SqlStore, failed, migration_failed};
use super::{StoreError, StoreUrl, Waits};

/// Read connections; reads never wait for the writer.
const READERS: u32 = 4;
/// The advisory lock of who writes: "portcull" in ASCII.
pub(super) const WRITE_LOCK: i64 = 0x706f_7274_6375_6c6c;

/// Which database is open, wherever its address leads later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DatabaseId {
    /// Given to a cluster by `initdb`.
    system: i64,
    /// Given to a database by `CREATE DATABASE`.
    oid: i64,
}

/// Asks for both, and with `$1` waits for the lock; with NULL it waits for nothing.
const IDENTIFY: &str = "SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS oid,
    pg_advisory_xact_lock($1)::text AS locked";

impl DatabaseId {
    async fn of(connection: &mut PgConnection, lock: Option<i64>) -> Result<DatabaseId, StoreError> {
        let row = sqlx::query(IDENTIFY)
            .bind(lock)
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        Ok(DatabaseId {
            system: row.try_get("system").map_err(failed)?,
            oid: row.try_get("oid").map_err(failed)?,
        })
    }
}

/// Relational state in a PostgreSQL database.
pub type PostgresStore = SqlStore<PostgresDatabase>;

/// One open PostgreSQL database.
pub struct PostgresDatabase {
    writer: PgPool,
    /// For everything that only reads.
    reader: PgPool,
    opened: DatabaseId,
    waits: Waits,
}

impl PostgresStore {
    /// Makes the tables in the database at `url`.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there are any already.
    pub async fn create(url: &StoreUrl) -> Result<PostgresStore, StoreError> {
        let opened = PostgresDatabase::connect(url, Waits::default()).await?;
        if opened.has_tables().await? {
            return Err(StoreError::Exists("a store in this PostgreSQL database".to_owned()));
        }
        opened.migrated().await.map(SqlStore::new)
    }

    /// Opens the database at `url` and brings its tables up to date. Never
    /// makes them where there are none, as for SQLite.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there are no tables.
    pub async fn open(url: &StoreUrl) -> Result<PostgresStore, StoreError> {
        PostgresStore::open_with(url, Waits::default()).await
    }

    /// [`PostgresStore::open`] with other waits.
    ///
    /// # Errors
    /// As for [`PostgresStore::open`].
    pub async fn open_with(url: &StoreUrl, waits: Waits) -> Result<PostgresStore, StoreError> {
        PostgresDatabase::open(url, waits).await.map(SqlStore::new)
    }

    /// Opens the database at `url` beside a running server: reads only, and
    /// leaves its tables as they are. What writes is `Unavailable`.
    ///
    /// # Errors
    /// As for [`PostgresStore::open`].
    pub async fn look(url: &StoreUrl) -> Result<PostgresStore, StoreError> {
        let waits = Waits::default();
        let options = options(url, waits)?.options([("default_transaction_read_only", "on")]);
        let reader = pool(options, 1, waits).await?;
        let opened = PostgresDatabase::of(reader.clone(), reader, waits).await?;
        opened.needs_tables().await?;
        Ok(SqlStore::new(opened))
    }
}

impl PostgresDatabase {
    /// What [`PostgresStore::open`] stands on.
    ///
    /// # Errors
    /// As for [`PostgresStore::open`].
    pub(super) async fn open(url: &StoreUrl, waits: Waits) -> Result<PostgresDatabase, StoreError> {
        let opened = PostgresDatabase::connect(url, waits).await?;
        opened.needs_tables().await?;
        opened.migrated().await
    }

    async fn connect(url: &StoreUrl, waits: Waits) -> Result<PostgresDatabase, StoreError> {
        let options = options(url, waits)?;
        let writer = pool(options.clone(), 1, waits).await?;
        let reader = pool(options, READERS, waits).await?;
        PostgresDatabase::of(writer, reader, waits).await
    }

    async fn of(writer: PgPool, reader: PgPool, waits: Waits) -> Result<PostgresDatabase, StoreError> {
        let mut connection = reader.acquire().await.map_err(failed)?;
        let opened = DatabaseId::of(&mut connection, None).await?;
        drop(connection);
        Ok(PostgresDatabase {
            writer,
            reader,
            opened,
            waits,
        })
    }

    async fn has_tables(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT to_regclass('_sqlx_migrations') IS NOT NULL OR to_regclass('access_grant') IS NOT NULL",
        )
        .fetch_one(&self.reader)
        .await
        .map_err(failed)
    }

    async fn needs_tables(&self) -> Result<(), StoreError> {
        match self.has_tables().await? {
            true => Ok(()),
            false => Err(StoreError::NotFound(
                "a store in this PostgreSQL database (`portcullis init --store-url-file FILE` makes one)".to_owned(),
            )),
        }
    }

    async fn migrated(self) -> Result<PostgresDatabase, StoreError> {
        migrations().run(&self.writer).await.map_err(migration_failed)?;
        Ok(self)
    }

    /// Whether this connection leads to the database that was opened. Another
    /// one behind the same address knows none of our revocations.
    fn same(&self, found: DatabaseId) -> Result<(), StoreError> {
        match found == self.opened {
            true => Ok(()),
            false => Err(StoreError::Corrupt(
                "the address leads to another database than the one that was opened; restore it and restart the server"
                    .to_owned(),
            )),
        }
    }
}

impl Engine for PostgresDatabase {
    async fn reader(&self) -> Result<Link, StoreError> {
        let mut reader = self.reader.acquire().await.map_err(failed)?;
        self.same(DatabaseId::of(&mut reader, None).await?)?;
        Ok(Link::PostgresReader(reader))
    }

    /// Waits for the lock in its first statement. At this level each statement
    /// after it sees whatever was committed before the lock was given.
    async fn writer(&self) -> Result<Link, StoreError> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut writer = self.writer.begin_with(begin).await.map_err(failed)?;
        self.same(DatabaseId::of(&mut writer, Some(WRITE_LOCK)).await?)?;
        Ok(Link::PostgresWriter(writer))
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    fn waits(&self) -> Waits {
        self.waits
    }
}

/// What `url` says, bounded in time, and never in clear over a network.
fn options(url: &StoreUrl, waits: Waits) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.as_str())
        .map_err(|error| StoreError::Corrupt(format!("its address is no postgres:// URL: {error}")))?;
    let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    if !is_local(&options) && !verified {
        return Err(StoreError::Corrupt(format!(
            "{} is another machine and could be anybody: end its URL with ?sslmode=verify-full (and &sslrootcert=FILE for a CA of your own)",
            options.get_host()
        )));
    }
    let ms = |ms: u64| ms.to_string();
    Ok(options.application_name("portcullis").options([
        ("lock_timeout", ms(waits.busy_ms)),
        ("statement_timeout", ms(waits.answer_ms)),
        // A node that is gone gives the lock back.
        ("idle_in_transaction_session_timeout", ms(waits.answer_ms)),
        // What was answered is on the disk.
        ("synchronous_commit", "on".to_owned()),
        // Such as that a table is there already.
        ("client_min_messages", "warning".to_owned()),
    ]))
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse().is_ok_and(|addr: IpAddr| addr.is_loopback())
}

async fn pool(options: PgConnectOptions, size: u32, waits: Waits) -> Result<PgPool, StoreError> {
    PgPoolOptions::new()
        .min_connections(size)
        .max_connections(size)
        .acquire_timeout(Duration::from_millis(waits.queue_ms))
        .connect_with(options)
        .await
        .map_err(failed)
}

fn migrations() -> Migrator {
    let one = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![one(
        1,
        "first",
        include_str!("migrations/postgres/0001_first.sql"),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_over_a_network_in_clear() {
        let cases = [
            ("postgres://gate@db.example/p", false),
            ("postgres://gate@db.example/p?sslmode=require", false),
            ("postgres://gate@192.0.2.7/p?sslmode=disable", false),
            ("postgres://gate@db.example/p?sslmode=verify-full", true),
            ("postgres://gate@localhost/p", true),
            ("postgres://gate@127.0.0.1:5433/p", true),
            ("postgres://gate@[::1]/p", true),
            ("postgres:///p?host=/run/postgresql", true),
            ("postgres://%2Frun%2Fpostgresql/p", true),
        ];
        for (url, taken) in cases {
            let answer = options(&StoreUrl::new(url.to_owned()), Waits::default());
            assert_eq!(answer.is_ok(), taken, "{url}");
        }
    }

    #[test]
    fn an_address_is_not_told() {
        let url = StoreUrl::new("postgres://gate:hunter2@db.example:x/p".to_owned());
        assert!(!format!("{url:?}").contains("hunter2"));
        let error = options(&url, Waits::default()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
