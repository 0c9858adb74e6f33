//! Retention on the real ledger, archive and store, time in hand.

use portcullis_player::entry::{Entry, Kind};
use portcullis_recording::{spool, statement};

use super::*;
use crate::archive::files::Files;
use crate::ledger::testing::{Bench, recording};
use crate::search::{Query, Recorded, Standing};
use crate::store::sqlite::SqliteStore;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

struct House {
    bench: Bench,
    retention: Retention,
}

impl House {
    /// Recordings of sessions 1 and 2; the second has a key beside it.
    async fn new(keep_days: Option<u64>) -> House {
        let bench = Bench::new();
        let path = |name: &str| bench.dir.path().join(name);
        let archive = Arc::new(Files::create(&path("archive")).unwrap());
        let store = Arc::new(SqliteStore::create(&path("store.db")).await.unwrap());
        let ledger = Arc::new(bench.open().await.unwrap());
        for session in [1, 2] {
            let made = recording(&bench.keeper(), [session; 16]).await;
            let name = name(session);
            std::fs::write(path("local"), &made.bytes).unwrap();
            archive.put(&name, &path("local")).await.unwrap();
            ledger.append_open(made.open, made.salt).await.unwrap();
            let leaf = ledger.append_seal(&made.sealed).await.unwrap().entry().index;
            let proof = ledger.prove(leaf).await.unwrap();
            archive
                .put_sidecar(&name, Sidecar::Proof, proof.as_bytes())
                .await
                .unwrap();
            let row = RecordingRow {
                session: SessionId([session; 16]),
                file: name.to_string(),
                bytes: made.bytes.len() as u64,
                kind: "sealed".into(),
                end_code: "closed".into(),
                sealed_ms: bench.clock.now().wall_ms,
                leaf,
                hold: None,
                expired_ms: None,
                shredded_ms: None,
            };
            store.add_recording(&row).await.unwrap();
        }
        archive.put_sidecar(&name(2), Sidecar::Key, b"age").await.unwrap();
        let keep = keep_days.map(|days| Duration::from_millis(days * DAY_MS));
        let clock = bench.clock.clone();
        let index = Index::open(&path("search.db"), clock.clone()).await.unwrap();
        House {
            retention: Retention::new(store, ledger, archive, Arc::new(index), clock, keep),
            bench,
        }
    }

    fn later(&self, days: u64) {
        self.bench.clock.advance(days * DAY_MS);
    }

    /// Puts a recording with these words into the index.
    async fn found(&self, session: u8, words: &str) {
        let of = Recorded {
            session: id(session),
            identity: "alice".to_owned(),
            login: "root".to_owned(),
            target: "db1".to_owned(),
            opened_ms: 0,
            closed_ms: 1,
            standing: Standing::Whole,
            why: String::new(),
        };
        let entry = Entry::new(Kind::Command, 0, 1, words);
        self.retention.index.put(&of, vec![entry]).await.unwrap();
        assert_eq!(self.hits(words).await, 1);
    }

    async fn hits(&self, words: &str) -> usize {
        let index = &self.retention.index;
        let query = Query::parse(words, 0).unwrap();
        index.page(&query, None, 10, u64::MAX).await.unwrap().hits.len()
    }

    async fn is_there(&self, session: u8) -> bool {
        self.retention.archive.exists(&name(session)).await.unwrap().is_some()
    }

    async fn tombstone(&self, session: u8) -> statement::Statement {
        let bytes = self.retention.archive.sidecar(&name(session), Sidecar::Tombstone).await;
        let text = String::from_utf8(bytes.unwrap().unwrap()).unwrap();
        statement::verify(&text, &self.bench.trust()).unwrap()
    }
}

fn name(session: u8) -> ArchiveName {
    spool::recording_file(&[session; 16]).parse().unwrap()
}

fn id(session: u8) -> SessionId {
    SessionId([session; 16])
}

#[tokio::test]
async fn what_is_old_goes_with_a_tombstone_that_anybody_can_check() {
    let house = House::new(Some(30)).await;
    house.later(30);
    assert!(house.retention.round().await.unwrap().deleted.is_empty());
    house.found(1, "secret-words").await;
    house.found(2, "other-words").await;
    // The seal itself is a few seconds younger than the row says.
    house.bench.clock.advance(1);
    let round = house.retention.round().await.unwrap();
    assert_eq!((round.deleted.len(), round.failed.len()), (0, 2));
    house.bench.clock.advance(10_000);
    let deleted = house.retention.round().await.unwrap().deleted;
    assert_eq!(deleted, [id(1), id(2)]);
    for session in [1, 2] {
        assert!(!house.is_there(session).await);
        assert_eq!(house.hits("words").await, 0, "what is deleted is found no more");
        let archive = &house.retention.archive;
        assert_eq!(archive.sidecar(&name(session), Sidecar::Key).await.unwrap(), None);
        assert!(archive.sidecar(&name(session), Sidecar::Proof).await.unwrap().is_some());
        let stated = house.tombstone(session).await;
        assert_eq!(stated.kind, "expired");
        let said = Erasure::parse(&stated.json).unwrap();
        assert_eq!(
            (said.session, said.reason.as_str()),
            (id(session), "older than 30 days")
        );
    }
    assert!(house.retention.round().await.unwrap().deleted.is_empty());
    assert!(matches!(
        house.retention.hold(id(1), "root", "too late").await,
        Err(RetentionError::Gone(_))
    ));
}

#[tokio::test]
async fn a_hold_wins_over_time_and_shredding() {
    let house = House::new(Some(1)).await;
    house.retention.hold(id(2), "root", "case 7").await.unwrap();
    house.later(9);
    let round = house.retention.round().await.unwrap();
    assert_eq!((round.deleted, round.failed.len()), (vec![id(1)], 0));
    let shredded = house.retention.shred(id(2), "root", "now").await;
    assert!(
        matches!(shredded, Err(RetentionError::Store(StoreError::Held(ref why))) if why == "case 7"),
        "{shredded:?}"
    );
    assert!(house.is_there(2).await);
    house.retention.release(id(2), "root", "closed").await.unwrap();
    assert!(matches!(
        house.retention.release(id(2), "root", "again").await,
        Err(RetentionError::NotHeld(_))
    ));
    assert_eq!(house.retention.round().await.unwrap().deleted, [id(2)]);
}

#[tokio::test]
async fn shredding_takes_the_key_and_leaves_the_recording() {
    let house = House::new(None).await;
    assert!(matches!(
        house.retention.shred(id(1), "root", "x").await,
        Err(RetentionError::NotEncrypted(_))
    ));
    house
        .retention
        .shred(id(2), "root", "asked by its subject")
        .await
        .unwrap();
    assert!(house.is_there(2).await);
    assert_eq!(
        house.retention.archive.sidecar(&name(2), Sidecar::Key).await.unwrap(),
        None
    );
    assert_eq!(house.tombstone(2).await.kind, "shredded");
    // Asked again nothing happens twice.
    let leaves = house.retention.ledger.size();
    house.retention.shred(id(2), "root", "again").await.unwrap();
    assert_eq!(house.retention.ledger.size(), leaves);
    house.later(10_000);
    assert!(house.retention.due().await.unwrap().is_empty(), "kept for ever");
}

#[tokio::test]
async fn a_round_that_was_cut_short_is_completed_without_a_second_leaf() {
    let house = House::new(Some(1)).await;
    house.later(2);
    // The archive does not let go of the first one.
    let file = house.bench.dir.path().join("archive").join(name(1).as_str());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let round = house.retention.round().await.unwrap();
    assert_eq!((round.deleted, round.failed.len()), (vec![id(2)], 1));
    let leaves = house.retention.ledger.size();
    std::fs::remove_dir_all(&file).unwrap();
    assert_eq!(house.retention.round().await.unwrap().deleted, [id(1)]);
    assert_eq!(house.retention.ledger.size(), leaves);
}

#[tokio::test]
async fn the_store_alone_deletes_nothing() {
    let house = House::new(Some(30)).await;
    house.later(10);
    // A row that says that it is older than it is, and one that names another's file.
    let mut row = house.retention.store.recording(id(1)).await.unwrap().unwrap();
    row.sealed_ms = 1;
    assert!(matches!(
        house.retention.expire(&row).await,
        Err(RetentionError::NotDue(_))
    ));
    house.later(30);
    row.file = name(2).to_string();
    house.retention.expire(&row).await.unwrap();
    assert!(!house.is_there(1).await && house.is_there(2).await);
    // A tombstone that somebody put there is none.
    let archive = &house.retention.archive;
    archive
        .put_sidecar(&name(2), Sidecar::Tombstone, b"forged")
        .await
        .unwrap();
    let row = house.retention.store.recording(id(2)).await.unwrap().unwrap();
    house.retention.expire(&row).await.unwrap();
    assert_eq!(house.tombstone(2).await.kind, "expired");
}
