//! The contract on PostgreSQL, and what only a shared database can get wrong.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::super::postgres::{PostgresDatabase, PostgresStore, WRITE_LOCK};
use super::super::sql::SqlStore;
use super::super::{Store, StoreError, StoreUrl, Waits};
use super::faults::{Faults, Faulty};
use super::migrations::{dump, is_as_if_made_now};
use super::{Bench, NOW, stocked};

/// Keeps a server for as long as its standard input is open.
const SCRIPT: &str = include_str!("../../../tests/support/postgres.sh");

/// One server for all tests of this process, however the process ends.
struct Server {
    /// The folder of its socket.
    socket: String,
    _child: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("PORTCULLIS_POSTGRES", SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut socket = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut socket)
            .unwrap();
        let socket = socket.trim().to_owned();
        assert!(!socket.is_empty(), "no PostgreSQL server; what is missing stands above");
        Server { socket, _child: child }
    })
}

/// An address of the server, as `user`.
fn url(user: &str, database: &str) -> String {
    let socket = server().socket.replace('/', "%2F");
    format!("postgres://{user}@{socket}/{database}")
}

async fn admin(database: &str) -> PgConnection {
    PgConnection::connect(&url("postgres", database)).await.unwrap()
}

/// A database of its own, which the store enters as an ordinary role.
struct Postgres {
    name: String,
    store: Arc<PostgresStore>,
    other: Arc<PostgresStore>,
    waits: Waits,
}

async fn empty_database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut admin = admin("postgres").await;
    let role = format!("CREATE ROLE {name} LOGIN");
    admin.execute(AssertSqlSafe(role)).await.unwrap();
    let database = format!("CREATE DATABASE {name} OWNER {name}");
    admin.execute(AssertSqlSafe(database)).await.unwrap();
    name
}

impl Postgres {
    async fn new() -> Postgres {
        let name = empty_database().await;
        let url = StoreUrl::new(url(&name, &name));
        PostgresStore::create(&url).await.unwrap().close().await;
        Postgres::at(name).await
    }

    /// What a state of an earlier version becomes.
    async fn from_dump(number: u32) -> Postgres {
        let name = empty_database().await;
        let mut role = PgConnection::connect(&url(&name, &name)).await.unwrap();
        role.execute(AssertSqlSafe(dump("postgres", number))).await.unwrap();
        Postgres::at(name).await
    }

    async fn at(name: String) -> Postgres {
        let waits = Waits {
            busy_ms: 1_000,
            queue_ms: 4_000,
            answer_ms: 6_000,
        };
        let url = StoreUrl::new(url(&name, &name));
        let open = async || Arc::new(PostgresStore::open_with(&url, waits).await.unwrap());
        let (store, other) = (open().await, open().await);
        Postgres {
            name,
            store,
            other,
            waits,
        }
    }

    fn url(&self) -> StoreUrl {
        StoreUrl::new(url(&self.name, &self.name))
    }
}

impl Bench for Postgres {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn other(&self) -> Arc<dyn Store> {
        self.other.clone()
    }

    async fn faulty(&self) -> (Arc<dyn Store>, Faults) {
        let faults = Faults::default();
        let engine = PostgresDatabase::open(&self.url(), self.waits).await.unwrap();
        let store = SqlStore::new(Faulty {
            engine,
            faults: faults.clone(),
        });
        (Arc::new(store), faults)
    }

    async fn picture(&self) -> String {
        let mut admin = admin(&self.name).await;
        let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_%' ORDER BY 1";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut admin).await.unwrap();
        let mut picture = String::new();
        for table in tables {
            let rows = format!("SELECT t::text FROM {table} t ORDER BY 1");
            for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut admin).await.unwrap() {
                picture += &format!("{table}: {}\n", row.get::<String, _>(0));
            }
        }
        picture
    }

    async fn replace(&self) {
        let mut admin = admin("postgres").await;
        let name = &self.name;
        for sql in [
            format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
            format!("ALTER DATABASE {name} RENAME TO {name}_moved"),
            format!("CREATE DATABASE {name} OWNER {name}"),
        ] {
            admin.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        PostgresStore::create(&self.url()).await.unwrap().close().await;
    }

    async fn remove(&self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin("postgres").await.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    async fn lock(&self) -> Box<dyn std::any::Any + Send> {
        let mut admin = admin(&self.name).await;
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(WRITE_LOCK)
            .execute(&mut admin)
            .await
            .unwrap();
        Box::new(admin)
    }

    fn answer_max(&self) -> Duration {
        Duration::from_millis(self.waits.answer_ms)
    }
}

contract!(Postgres);

#[tokio::test]
async fn is_never_made_by_opening_it() {
    let name = empty_database().await;
    let url = StoreUrl::new(url(&name, &name));
    assert!(matches!(PostgresStore::open(&url).await, Err(StoreError::NotFound(_))));
    assert!(matches!(PostgresStore::look(&url).await, Err(StoreError::NotFound(_))));
    PostgresStore::create(&url).await.unwrap().close().await;
    assert!(matches!(PostgresStore::create(&url).await, Err(StoreError::Exists(_))));
    PostgresStore::open(&url).await.unwrap().close().await;
}

#[tokio::test]
async fn says_what_is_not_there() {
    let nowhere = StoreUrl::new(url("postgres", "nowhere"));
    assert!(matches!(
        PostgresStore::open(&nowhere).await,
        Err(StoreError::Corrupt(_))
    ));
    let nobody = StoreUrl::new(url("nobody_of_that_name", "postgres"));
    let refused = PostgresStore::open(&nobody).await.map(drop);
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn refuses_a_row_that_does_not_parse() {
    let bench = Postgres::new().await;
    stocked(&bench.store()).await;
    let mut admin = admin(&bench.name).await;
    admin
        .execute("UPDATE target SET body = '{}' WHERE name = 'db1'")
        .await
        .unwrap();
    assert!(matches!(bench.store.targets().await, Err(StoreError::Corrupt(_))));
    assert!(bench.store.target(&"db2".parse().unwrap()).await.unwrap().is_some());
    // Tables that are gone are no reason to try again.
    admin.execute("DROP TABLE lease").await.unwrap();
    let lease = bench.store.renew_lease(&"node1".parse().unwrap(), NOW, NOW + 1).await;
    assert!(matches!(lease, Err(StoreError::Corrupt(_))), "{lease:?}");
}

#[tokio::test]
async fn looking_reads_beside_a_server_and_writes_nothing() {
    let bench = Postgres::new().await;
    stocked(&bench.store()).await;
    let looking = PostgresStore::look(&bench.url()).await.unwrap();
    assert_eq!(looking.targets().await.unwrap().len(), 2);
    let wrote = looking.next_serial().await;
    assert!(matches!(wrote, Err(StoreError::Unavailable(_))), "{wrote:?}");
    assert_eq!(bench.store.next_serial().await.unwrap(), 1);
}

/// A connection that broke is replaced, and nobody takes it for another database.
#[tokio::test]
async fn goes_on_after_its_connections_were_cut() {
    let bench = Postgres::new().await;
    stocked(&bench.store()).await;
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        bench.name
    );
    admin("postgres").await.execute(AssertSqlSafe(cut)).await.unwrap();
    assert_eq!(bench.store.next_serial().await.unwrap(), 1);
    assert_eq!(bench.store.targets().await.unwrap().len(), 2);
}

#[tokio::test]
async fn brings_every_earlier_state_forward() {
    let old = Postgres::from_dump(1).await;
    // Its first has what SQLite has since its fourth.
    is_as_if_made_now(&old, &Postgres::new().await, 4).await;
}

#[tokio::test]
async fn refuses_tables_of_another_version() {
    let bench = Postgres::new().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (99, 'newer', true, '', 0)";
    admin(&bench.name).await.execute(newer).await.unwrap();
    let opened = PostgresStore::open(&bench.url()).await.map(drop);
    assert!(
        matches!(opened, Err(StoreError::Corrupt(ref why)) if why.contains("version")),
        "{opened:?}"
    );
}
