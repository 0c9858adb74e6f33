//! The contract on SQLite, and what only a file can get wrong.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::sql::SqlStore;
use super::super::sqlite::{SqliteFile, SqliteStore};
use super::super::{Store, StoreError, Waits};
use super::faults::{Faults, Faulty};
use super::migrations::{dump, is_as_if_made_now};
use super::{Bench, stocked};

struct Sqlite {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    waits: Waits,
}

impl Sqlite {
    async fn new() -> Sqlite {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        SqliteStore::create(&path).await.unwrap().close().await;
        Sqlite::at(dir).await
    }

    /// What a state of an earlier version becomes.
    async fn from_dump(number: u32) -> Sqlite {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(dir.path().join("store.db"))
            .create_if_missing(true)
            // A dump's rows refer to rows that come after them.
            .foreign_keys(false);
        let mut file = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(dump("sqlite", number)))
            .execute(&mut file)
            .await
            .unwrap();
        file.close().await.unwrap();
        Sqlite::at(dir).await
    }

    async fn at(dir: tempfile::TempDir) -> Sqlite {
        let path = dir.path().join("store.db");
        let waits = Waits {
            busy_ms: 100,
            queue_ms: 4_000,
            answer_ms: 6_000,
        };
        let store = Arc::new(SqliteStore::open_with(&path, waits).await.unwrap());
        Sqlite { dir, store, waits }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    /// Beside the store.
    async fn connect(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.path());
        SqlitePool::connect_with(options).await.unwrap()
    }
}

impl Bench for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn other(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn faulty(&self) -> (Arc<dyn Store>, Faults) {
        let faults = Faults::default();
        let engine = SqliteFile::open(&self.path(), self.waits).await.unwrap();
        let store = SqlStore::new(Faulty {
            engine,
            faults: faults.clone(),
        });
        (Arc::new(store), faults)
    }

    async fn picture(&self) -> String {
        let pool = self.connect().await;
        let tables =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&pool).await.unwrap();
        let mut picture = String::new();
        for table in tables {
            let columns = format!(
                "SELECT group_concat('quote(' || name || ')', ' || '' '' || ') FROM pragma_table_info('{table}')"
            );
            let columns: String = sqlx::query_scalar(AssertSqlSafe(columns))
                .fetch_one(&pool)
                .await
                .unwrap();
            let rows = format!("SELECT {columns} FROM {table} ORDER BY 1");
            for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&pool).await.unwrap() {
                picture += &format!("{table}: {}\n", row.get::<String, _>(0));
            }
        }
        picture
    }

    async fn replace(&self) {
        let other = self.dir.path().join("other.db");
        SqliteStore::create(&other).await.unwrap().close().await;
        std::fs::rename(other, self.path()).unwrap();
    }

    async fn remove(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }

    async fn lock(&self) -> Box<dyn std::any::Any + Send> {
        let tx = self.connect().await.begin_with("BEGIN IMMEDIATE").await.unwrap();
        Box::new(tx)
    }

    fn answer_max(&self) -> Duration {
        Duration::from_millis(self.waits.answer_ms)
    }
}

contract!(Sqlite);

#[tokio::test]
async fn is_never_made_by_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::NotFound(_))));
    assert!(!path.exists());
    SqliteStore::create(&path).await.unwrap().close().await;
    assert!(matches!(SqliteStore::create(&path).await, Err(StoreError::Exists(_))));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn refuses_a_file_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    std::fs::write(
        &path,
        "not a database at all, but long enough to be read as one".repeat(20),
    )
    .unwrap();
    assert!(matches!(SqliteStore::open(&path).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn refuses_a_row_that_does_not_parse() {
    let bench = Sqlite::new().await;
    stocked(&bench.store()).await;
    let pool = bench.connect().await;
    sqlx::query("UPDATE target SET body = '{}' WHERE name = 'db1'")
        .execute(&pool)
        .await
        .unwrap();
    assert!(matches!(bench.store.targets().await, Err(StoreError::Corrupt(_))));
    assert!(bench.store.target(&"db2".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn looking_reads_beside_a_server_and_after_it_and_writes_nothing() {
    let bench = Sqlite::new().await;
    stocked(&bench.store()).await;
    let path = bench.path();
    let names = async || {
        let looking = SqliteStore::look(&path).await.unwrap();
        let told = looking.targets().await.unwrap().len();
        let wrote = looking.next_serial().await;
        assert!(matches!(wrote, Err(StoreError::Unavailable(_))), "{wrote:?}");
        looking.close().await;
        told
    };
    assert_eq!(names().await, 2);
    bench.store.close().await;
    assert_eq!(names().await, 2);
    let gone = SqliteStore::look(&path.with_extension("gone")).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn brings_every_earlier_state_forward() {
    for number in 1..=4 {
        let old = Sqlite::from_dump(number).await;
        is_as_if_made_now(&old, &Sqlite::new().await, number).await;
    }
}

#[tokio::test]
async fn refuses_tables_of_another_version() {
    let bench = Sqlite::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (99, 'newer', 1, x'00', 0)";
    sqlx::query(newer).execute(&bench.connect().await).await.unwrap();
    let opened = SqliteStore::open(&bench.path()).await.map(drop);
    assert!(
        matches!(opened, Err(StoreError::Corrupt(ref why)) if why.contains("version")),
        "{opened:?}"
    );
}
