//! A house of the real store and the real registry: SQLite in a file, the
//! journal of revocations, the lease, the gate's tick.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis::clock::Clock;
use portcullis::kernel::access::{Approval, RequestRow};
use portcullis::kernel::grant::{Grant, WallMs};
use portcullis::kernel::id::{NodeName, RequestId, SessionId};
use portcullis::kernel::inventory::{Identity, IdentityKind, Reach, Target};
use portcullis::kernel::policy::obligations::Obligations;
use portcullis::kernel::session::EndReason;
use portcullis::registry::{Entry, Held, Registry, Ticket};
use portcullis::store::sqlite::SqliteStore;
use portcullis::store::{RevocationScope, SessionRow, Store};
use tokio::runtime::{Builder, Runtime};

use crate::house::{Guest, House};

/// A session that only knows whether it was ordered out.
#[derive(Default)]
pub struct Seat {
    pub ended: AtomicBool,
}

impl Held for Seat {
    fn end(&self, _: EndReason) {
        self.ended.store(true, Ordering::SeqCst);
    }
    fn warn(&self, _: u64) {}
    fn policy_ends(&self, _: &str, _: u64) {}
    fn clock_stepped(&self, _: WallMs, _: WallMs) {}
    fn last_activity_boot_ms(&self) -> u64 {
        0
    }
}

/// A folder for databases: in memory where the machine has such a place, since
/// what a power cut leaves is not asked here.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub fn person(name: &str) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        kind: IdentityKind::Person,
        owner: None,
        purpose: None,
        review_by_ms: None,
        keys: Vec::new(),
        roles: BTreeSet::new(),
        groups: BTreeSet::new(),
        disabled: false,
    }
}

pub fn host(name: &str) -> Target {
    Target {
        name: name.parse().unwrap(),
        logins: vec!["root".parse().unwrap()],
        reach: Reach::Local {
            command: Vec::new(),
            run_as: "nobody".to_owned(),
        },
        labels: Vec::new(),
        disabled: false,
    }
}

/// An empty database with an inventory, made once and copied for each seed.
pub struct Template {
    dir: tempfile::TempDir,
}

impl Template {
    pub fn new(people: &[String], targets: &[String]) -> Template {
        let dir = folder();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::create(&dir.path().join("store.db")).await.unwrap();
            let identities: Vec<Identity> = people.iter().map(|name| person(name)).collect();
            let targets: Vec<Target> = targets.iter().map(|name| host(name)).collect();
            store.put_inventory(&targets, &identities).await.unwrap();
            store.close().await;
        });
        Template { dir }
    }

    fn copy(&self, to: &Path) {
        std::fs::copy(self.dir.path().join("store.db"), to).unwrap();
    }
}

pub struct Sqlite {
    runtime: Runtime,
    path: PathBuf,
    store: Option<SqliteStore>,
    registry: Arc<Registry>,
    clock: Clock,
    node: NodeName,
    seats: BTreeMap<SessionId, (Ticket, Arc<Seat>)>,
    // Dropped last.
    _dir: tempfile::TempDir,
}

impl Sqlite {
    pub fn new(clock: Clock, template: &Template) -> Sqlite {
        let dir = folder();
        let path = dir.path().join("store.db");
        template.copy(&path);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(SqliteStore::open(&path)).unwrap();
        Sqlite {
            runtime,
            path,
            store: Some(store),
            registry: Registry::new(clock.clone(), None, Vec::new()),
            clock,
            node: "node1".parse().unwrap(),
            seats: BTreeMap::new(),
            _dir: dir,
        }
    }

    fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.runtime.block_on(store.close());
        }
    }
}

impl House for Sqlite {
    fn add_request(&mut self, row: &RequestRow) -> Result<(), String> {
        let answer = self.runtime.block_on(self.store().add_request(row));
        answer.map_err(|why| why.to_string())
    }

    fn request(&mut self, id: RequestId) -> RequestRow {
        self.runtime.block_on(self.store().request(id)).unwrap().unwrap()
    }

    fn answer(&mut self, id: RequestId, answer: &Approval) -> Result<(), String> {
        let answer = self.runtime.block_on(self.store().answer_request(id, answer));
        answer.map(drop).map_err(|why| why.to_string())
    }

    fn withdraw(&mut self, id: RequestId, now: WallMs) -> Result<(), String> {
        let answer = self.runtime.block_on(self.store().withdraw_request(id, now));
        answer.map(drop).map_err(|why| why.to_string())
    }

    fn collect(&mut self, id: RequestId, grant: &Grant, now: WallMs) -> Result<(), String> {
        let answer = self.runtime.block_on(self.store().collect(id, grant, now));
        answer.map(drop).map_err(|why| why.to_string())
    }

    fn grant_by_certificate(&mut self, sha256: [u8; 32]) -> Option<Grant> {
        self.runtime
            .block_on(self.store().grant_by_certificate(sha256))
            .unwrap()
    }

    fn revoke(&mut self, scope: &RevocationScope, now: WallMs) -> Result<BTreeSet<SessionId>, String> {
        let answer = self.runtime.block_on(self.store().revoke(scope, "sim", "sim", now));
        let (_, hit) = answer.map_err(|why| why.to_string())?;
        Ok(hit.into_iter().map(|row| row.id).collect())
    }

    fn open_session(&mut self, row: &SessionRow, certificate: [u8; 32], now: WallMs) -> Result<(), String> {
        let answer = self.runtime.block_on(self.store().open_session(row, certificate, now));
        answer.map_err(|why| why.to_string())
    }

    fn close_session(&mut self, id: SessionId, now: WallMs) {
        let answer = self.runtime.block_on(self.store().close_session(id, now, "exit"));
        answer.unwrap();
    }

    fn enter(&mut self, guest: Guest) -> bool {
        let seat = Arc::new(Seat::default());
        let id = guest.row.id;
        let entry = Entry {
            leased: true,
            id,
            grant: guest.row.grant,
            identity: guest.row.identity,
            destination: guest.row.destination,
            hops: Vec::new(),
            until: guest.until,
            oldest_boot_ms: u64::MAX,
            facts: guest.facts,
            held_to: Obligations::default(),
            held: seat.clone(),
        };
        match self.registry.enter(entry, usize::MAX) {
            Ok(ticket) => self.seats.insert(id, (ticket, seat)).is_none(),
            Err(_) => false,
        }
    }

    fn leave(&mut self, id: SessionId) {
        self.seats.remove(&id);
    }

    fn pull(&mut self) {
        self.runtime.block_on(self.registry.pull(self.store())).unwrap();
    }

    fn renew(&mut self) {
        let heard = self.runtime.block_on(self.registry.renew(self.store(), &self.node));
        heard.unwrap();
    }

    fn word_holds(&self) -> bool {
        self.registry.store_alive()
    }

    fn look(&mut self) {
        self.registry.tick();
    }

    fn inside(&self) -> BTreeSet<SessionId> {
        let seated = self.seats.iter();
        let seated = seated.filter(|(_, (_, seat))| !seat.ended.load(Ordering::SeqCst));
        seated.map(|(id, _)| *id).collect()
    }

    fn restart(&mut self, now: WallMs) {
        self.seats.clear();
        let store = self.store.take().unwrap();
        let store = self.runtime.block_on(async {
            store.close().await;
            let store = SqliteStore::open(&self.path).await.unwrap();
            for row in store.sessions(true).await.unwrap() {
                store.close_session(row.id, now, "recovered").await.unwrap();
            }
            store
        });
        self.store = Some(store);
        self.registry = Registry::new(self.clock.clone(), None, Vec::new());
    }
}
