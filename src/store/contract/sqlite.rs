//! The contract on SQLite, and what only a file can get wrong.

use std::sync::Arc;
use std::time::Duration;

use super::super::sqlite::{SqliteStore, Waits};
use super::super::{Store, StoreError};
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
        let waits = Waits {
            busy_ms: 100,
            queue_ms: 4_000,
            answer_ms: 6_000,
        };
        let store = Arc::new(SqliteStore::open_with(&path, waits).await.unwrap());
        Sqlite { dir, store, waits }
    }
}

impl Bench for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn replace(&self) {
        let other = self.dir.path().join("other.db");
        SqliteStore::create(&other).await.unwrap().close().await;
        std::fs::rename(other, self.dir.path().join("store.db")).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(self.dir.path().join("store.db")).unwrap();
    }

    async fn lock(&self) -> Box<dyn std::any::Any + Send> {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.dir.path().join("store.db"));
        let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
        let tx = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
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
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bench.dir.path().join("store.db"));
    let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
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
    let path = bench.dir.path().join("store.db");
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
