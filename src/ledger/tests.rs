//! The ledger under crashes, faults and hands.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_recording::limits::PROOF_HASHES_MAX;
use portcullis_recording::merkle;

use super::*;
use crate::archive::files::Files;
use crate::ledger::testing::{Bench, ORIGIN, copy_tree, leaf, recording};

async fn seal(ledger: &Ledger, session: u8) -> Result<SealReceipt, LedgerError> {
    ledger
        .append_seal_leaf(leaf(LeafKind::Seal, session), [session; 32])
        .await
}

async fn opened(ledger: &Ledger, session: u8) -> Result<OpenReceipt, LedgerError> {
    ledger.append_open(leaf(LeafKind::Open, session), [session; 32]).await
}

async fn event(ledger: &Ledger, number: u64) -> Result<Entry, LedgerError> {
    ledger.append_event("test", serde_json::json!({"number": number})).await
}

/// Every leaf can be proven, with the public parts alone.
async fn prove_all(bench: &Bench, ledger: &Ledger) {
    for index in 0..ledger.size() {
        let (salt, body) = ledger.leaf(index).await.unwrap();
        let entry = portcullis_recording::leaf::entry(&salt, &body.encode().unwrap());
        let proof = Proof::parse(&ledger.prove(index).await.unwrap()).unwrap();
        let proven = proof
            .verify(&merkle::leaf_hash(&entry), ORIGIN, &bench.trust())
            .unwrap();
        assert_eq!(proven.index, index);
        assert!(proof.hashes.len() <= PROOF_HASHES_MAX);
    }
}

#[tokio::test]
async fn a_recording_is_opened_sealed_and_proven_by_its_file_alone() {
    let bench = Bench::new();
    let ledger = bench.open().await.unwrap();
    let made = recording(&bench.keeper(), [7; 16]).await;
    let receipt = ledger.append_open(made.open.clone(), made.salt).await.unwrap();
    assert_eq!((receipt.entry().index, receipt.entry().fresh), (0, true));
    assert_eq!(ledger.unsealed().await.unwrap(), [SessionId([7; 16])]);
    let sealed = ledger.append_seal(&made.sealed).await.unwrap();
    assert!(ledger.unsealed().await.unwrap().is_empty());
    let proof = ledger.prove(sealed.entry().index).await.unwrap();
    let file = io::Cursor::new(made.bytes);
    let verified = portcullis_recording::verify(file, &bench.trust(), Some(&proof)).unwrap();
    let portcullis_recording::Ledger::Proven(proven) = verified.ledger() else {
        panic!("{:?}", verified.ledger());
    };
    assert_eq!((proven.index, proven.size), (1, 2));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_seal_happens_exactly_once_also_across_a_restart() {
    let bench = Bench::new();
    let ledger = bench.open().await.unwrap();
    assert!(matches!(seal(&ledger, 1).await, Err(LedgerError::Contradiction { .. })));
    opened(&ledger, 1).await.unwrap();
    opened(&ledger, 2).await.unwrap();
    assert!(!opened(&ledger, 1).await.unwrap().entry().fresh);
    let first = seal(&ledger, 1).await.unwrap().entry();
    let (again, other) = tokio::join!(seal(&ledger, 1), seal(&ledger, 2));
    assert_eq!(again.unwrap().entry().index, first.index);
    assert_eq!(other.unwrap().entry().index, first.index + 1);
    ledger.close().await.unwrap();
    let ledger = bench.open().await.unwrap();
    let entry = seal(&ledger, 1).await.unwrap().entry();
    assert_eq!((entry.index, entry.fresh), (first.index, false));
    let mut wrong = leaf(LeafKind::Seal, 1);
    wrong.size += 1;
    assert!(matches!(
        ledger.append_seal_leaf(wrong, [1; 32]).await,
        Err(LedgerError::Contradiction { .. })
    ));
    assert_eq!(ledger.size(), 4);
    ledger.close().await.unwrap();
    assert!(matches!(event(&ledger, 0).await, Err(LedgerError::Stopped(_))));
}

#[tokio::test]
async fn events_come_back_sorted_and_bounded() {
    let bench = Bench::new();
    let ledger = bench.open().await.unwrap();
    let body = serde_json::json!({"target": "db1", "identity": "alice"});
    let entry = ledger.append_event("grant", body).await.unwrap();
    let (_, read) = ledger.leaf(entry.index).await.unwrap();
    assert_eq!(
        read,
        Body::Event {
            kind: "grant".into(),
            at_ms: bench.clock.now().wall_ms,
            json: r#"{"identity":"alice","target":"db1"}"#.into(),
        }
    );
    let huge = serde_json::json!("x".repeat(body::BODY_BYTES_MAX));
    assert!(matches!(
        ledger.append_event("grant", huge).await,
        Err(LedgerError::TooLong { .. })
    ));
    assert!(matches!(ledger.leaf(1).await, Err(LedgerError::NoLeaf(1))));
    assert!(matches!(ledger.prove(1).await, Err(LedgerError::NoLeaf(1))));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_state_is_logged_when_it_changes_also_across_a_restart() {
    let bench = Bench::new();
    let body = |number: u64| serde_json::json!({"sha256": number});
    let ledger = bench.open().await.unwrap();
    assert!(ledger.append_change("config", body(1)).await.unwrap().is_some());
    assert!(ledger.append_change("config", body(1)).await.unwrap().is_none());
    assert!(ledger.append_change("keys", body(1)).await.unwrap().is_some());
    event(&ledger, 0).await.unwrap();
    ledger.close().await.unwrap();
    let ledger = bench.open().await.unwrap();
    assert!(ledger.append_change("config", body(1)).await.unwrap().is_none());
    assert!(ledger.append_change("config", body(2)).await.unwrap().is_some());
    assert!(ledger.append_change("config", body(1)).await.unwrap().is_some());
    assert_eq!(ledger.size(), 5);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn whoever_looks_on_is_told_of_the_last_checkpoint() {
    let bench = Bench::new();
    let ledger = bench.open().await.unwrap();
    let mut looking = ledger.checkpoints();
    assert_eq!(looking.next().await.unwrap().size, 0);
    events(&ledger, 3).await;
    ledger.close().await.unwrap();
    drop(ledger);
    let mut last = None;
    while let Some(standing) = looking.next().await {
        last = Some(standing);
    }
    let last = last.unwrap();
    assert_eq!(last.size, 3);
    let published = std::fs::read_to_string(bench.ledger.join("checkpoint")).unwrap();
    assert_eq!(last.note, published);
}

#[tokio::test]
async fn many_waiting_leaves_share_one_sync() {
    let bench = Bench::new();
    let syncs = Arc::new(AtomicU64::new(0));
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (counted, gate) = (syncs.clone(), Mutex::new(gate));
    let hook: Hook = Arc::new(move |step| {
        if step == Step::Append {
            // The first batch waits until the others queue behind it.
            gate.lock().unwrap().recv().ok();
        }
        if step == Step::Synced {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let ledger = Arc::new(bench.open_with(Some(hook), vec![]).await.unwrap());
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..100 {
        let ledger = ledger.clone();
        waiting.spawn(async move { event(&ledger, number).await.unwrap().index });
    }
    // Each yield lets every task of this one-threaded runtime run once.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(go);
    let indexes: BTreeSet<u64> = waiting.join_all().await.into_iter().collect();
    assert_eq!(indexes, (0..100).collect());
    assert!(syncs.load(Ordering::SeqCst) <= 2, "{syncs:?}");
    prove_all(&bench, &ledger).await;
    ledger.close().await.unwrap();
}

/// What was on disk, and how many leaves somebody had been told of, at one
/// moment.
struct Crash {
    step: Step,
    dir: PathBuf,
    told: u64,
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_that_anybody_was_told() {
    let bench = Bench::new();
    let told = Arc::new(AtomicU64::new(0));
    let crashes: Arc<Mutex<Vec<Crash>>> = Arc::default();
    let place = tempfile::tempdir().unwrap();
    let (seen, kept) = (told.clone(), crashes.clone());
    let (from, to) = (bench.ledger.clone(), place.path().to_owned());
    let hook: Hook = Arc::new(move |step| {
        let told = seen.load(Ordering::SeqCst);
        let mut kept = kept.lock().unwrap();
        // The long way to the first full tile is not looked at.
        if (2..254).contains(&told) {
            return Ok(());
        }
        let dir = to.join(format!("{:05}", kept.len()));
        copy_tree(&from, &dir);
        kept.push(Crash { step, dir, told });
        Ok(())
    });
    let ledger = bench.open_with(Some(hook), vec![]).await.unwrap();
    for number in (0..2).chain(254..258) {
        if number == 254 {
            events(&ledger, 252).await;
            ledger.checkpoint_covering(253).await.unwrap();
            told.store(254, Ordering::SeqCst);
        }
        let entry = event(&ledger, number).await.unwrap();
        assert_eq!(entry.index, number);
        told.store(entry.index + 1, Ordering::SeqCst);
        // No racing publication: each leaf has its checkpoint.
        ledger.checkpoint_covering(entry.index).await.unwrap();
    }
    ledger.close().await.unwrap();
    drop(ledger);
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    let steps: BTreeSet<Step> = crashes.iter().map(|it| it.step).collect();
    assert_eq!(steps.len(), 7, "every step was seen: {steps:?}");
    let archive = Files::create(&place.path().join("archive")).unwrap();
    for crash in crashes {
        let shown = format!("{:?} with {} told", crash.step, crash.told);
        // The checkpoint that stands has all that it needs, before any repair.
        if crash.dir.join(tiles::CHECKPOINT_FILE).exists() {
            let input = fsck::Input {
                ledger: &crash.dir,
                archive: &archive,
                trust: &bench.trust(),
                spool: None,
                live: &BTreeSet::new(),
                anchors: &[],
            };
            let report = fsck::fsck(input).await.unwrap();
            assert_eq!(report.findings, [], "{shown}");
        }
        let revived = bench
            .open_at(&crash.dir, None, vec![])
            .await
            .unwrap_or_else(|why| panic!("{shown}: {why}"));
        assert!(revived.size() >= crash.told, "{shown}");
        let at = event(&revived, 9_999).await.unwrap().index;
        for index in [0, at.saturating_sub(1), at] {
            revived
                .prove(index)
                .await
                .unwrap_or_else(|why| panic!("{shown}: {why}"));
        }
        revived.close().await.unwrap();
    }
}

#[tokio::test]
async fn every_failure_stops_the_ledger_and_a_restart_finds_the_truth() {
    // At `Append` nothing is written; at the next two it is, though the
    // caller is told otherwise: failed, and failed but happened.
    for (step, happened) in [(Step::Append, false), (Step::Appended, true), (Step::Synced, true)] {
        let bench = Bench::new();
        let ledger = bench.open().await.unwrap();
        opened(&ledger, 1).await.unwrap();
        ledger.close().await.unwrap();
        // Once: what comes after would go well.
        let failed = AtomicU64::new(0);
        let hook: Hook = Arc::new(
            move |at| match at == step && failed.fetch_add(1, Ordering::SeqCst) == 0 {
                true => Err(io::Error::other("injected")),
                false => Ok(()),
            },
        );
        let ledger = bench.open_with(Some(hook), vec![]).await.unwrap();
        let said = seal(&ledger, 1).await.unwrap_err();
        assert!(matches!(said, LedgerError::Stopped(_)), "{said}");
        let said = opened(&ledger, 2).await.err();
        assert!(
            matches!(said, Some(LedgerError::Stopped(_))),
            "nothing more is taken: {said:?}"
        );
        drop(ledger.close().await);
        drop(ledger);
        let ledger = bench.open().await.unwrap();
        let entry = seal(&ledger, 1).await.unwrap().entry();
        assert_eq!(entry.fresh, !happened, "{step:?}");
        assert_eq!(entry.index, 1);
        prove_all(&bench, &ledger).await;
        ledger.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_publication_is_told_and_tried_again() {
    for step in [Step::Signed, Step::Tile, Step::Tiles, Step::Swapped] {
        let bench = Bench::new();
        let broken = Arc::new(AtomicU64::new(0));
        let seen = broken.clone();
        let hook: Hook = Arc::new(move |at| match at == step && seen.load(Ordering::SeqCst) == 1 {
            true => Err(io::Error::other("no space left")),
            false => Ok(()),
        });
        let ledger = bench.open_with(Some(hook), vec![]).await.unwrap();
        broken.store(1, Ordering::SeqCst);
        let entry = event(&ledger, 1).await.unwrap();
        let said = ledger.prove(entry.index).await.unwrap_err().to_string();
        assert!(said.contains("no space left"), "{step:?}: {said}");
        assert!(ledger.unpublished().is_some());
        event(&ledger, 2).await.unwrap();
        broken.store(0, Ordering::SeqCst);
        // The first demand may still see the last failure.
        while ledger.checkpoint_covering(1).await.is_err() {}
        prove_all(&bench, &ledger).await;
        assert_eq!(ledger.unpublished(), None);
        ledger.close().await.unwrap();
    }
}

async fn filled(bench: &Bench, leaves: u64) {
    let ledger = bench.open().await.unwrap();
    events(&ledger, leaves).await;
    ledger.close().await.unwrap();
}

/// Appends so many at once: they share their syncs.
async fn events(ledger: &Ledger, leaves: u64) {
    let all = (0..leaves).map(|number| event(ledger, number));
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn damage_under_a_checkpoint_is_refused_and_named() {
    let bench = Bench::new();
    filled(&bench, 5).await;
    let path = bench.ledger.join(journal::JOURNAL_FILE);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let said = bench.open().await.err().unwrap();
    assert!(
        matches!(
            said,
            LedgerError::Damaged {
                index: 2,
                covered: 5,
                ..
            }
        ),
        "{said}"
    );
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(
        bench.open().await.err().unwrap(),
        LedgerError::Damaged { index: 4, .. }
    ));
    // A clean cut between two frames, as `truncate` in a careful hand.
    let frame = (whole.len() - journal_head()) / 5;
    std::fs::write(&path, &whole[..whole.len() - frame]).unwrap();
    assert!(matches!(
        bench.open().await.err().unwrap(),
        LedgerError::RolledBack { found: 4, known: 5, .. }
    ));
    std::fs::write(&path, &whole).unwrap();
    bench.open().await.unwrap().close().await.unwrap();
}

fn journal_head() -> usize {
    format!("portcullis-ledger/v1 journal\n{ORIGIN}\n\n").len()
}

#[tokio::test]
async fn a_torn_tail_that_no_checkpoint_covers_is_cut_and_told() {
    let bench = Bench::new();
    filled(&bench, 3).await;
    let whole = std::fs::read(bench.ledger.join(journal::JOURNAL_FILE)).unwrap();
    let frame = journal::Frame::new(3, [1; 32], b"never synced".to_vec());
    let mut bytes = Vec::new();
    frame.write(&mut bytes);
    for cut in [1, 4, 43, 44, bytes.len() - 1] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("ledger");
        copy_tree(&bench.ledger, &dir);
        let torn = [&whole, &bytes[..cut]].concat();
        std::fs::write(dir.join(journal::JOURNAL_FILE), torn).unwrap();
        let ledger = bench.open_at(&dir, None, vec![]).await.unwrap();
        let (_, body) = ledger.leaf(3).await.unwrap();
        let Body::Event { kind, json, .. } = body else {
            panic!("{body:?}");
        };
        assert_eq!(kind, "journal-cut");
        assert!(json.contains(&format!("\"bytes\":{cut}")), "{json}");
        prove_all(&bench, &ledger).await;
        ledger.close().await.unwrap();
        let aside = dir.join(format!("journal.torn-{}", whole.len()));
        assert_eq!(std::fs::read(aside).unwrap(), &bytes[..cut]);
    }
}

#[tokio::test]
async fn an_older_copy_of_the_folder_is_known_by_a_checkpoint_kept_elsewhere() {
    let bench = Bench::new();
    filled(&bench, 3).await;
    let place = tempfile::tempdir().unwrap();
    let older = place.path().join("older");
    copy_tree(&bench.ledger, &older);
    filled(&bench, 2).await;
    let ledger = bench.open().await.unwrap();
    let kept = Anchor {
        source: "the store".into(),
        note: ledger.checkpoint(),
    };
    ledger.close().await.unwrap();

    let said = bench.open_at(&older, None, vec![kept.clone()]).await.err().unwrap();
    assert!(
        matches!(&said, LedgerError::RolledBack { found: 3, known: 5, source_name } if source_name == "the store"),
        "{said}"
    );
    // Grown again from the older copy, it is another history.
    let ledger = bench.open_at(&older, None, vec![]).await.unwrap();
    for number in 100..104 {
        event(&ledger, number).await.unwrap();
    }
    ledger.close().await.unwrap();
    let said = bench.open_at(&older, None, vec![kept.clone()]).await.err().unwrap();
    assert!(matches!(said, LedgerError::Forked { size: 5, .. }), "{said}");
    // The right one passes with the same anchor.
    let right = bench.open_with(None, vec![kept.clone()]).await.unwrap();
    right.close().await.unwrap();
    let forged = Anchor {
        note: kept.note.replace(ORIGIN, "other.example/log"),
        ..kept
    };
    assert!(matches!(
        bench.open_with(None, vec![forged]).await.err().unwrap(),
        LedgerError::BadCheckpoint { .. }
    ));
}

#[tokio::test]
async fn a_checkpoint_that_is_gone_or_altered_stops_the_start() {
    let bench = Bench::new();
    filled(&bench, 3).await;
    let path = bench.ledger.join(tiles::CHECKPOINT_FILE);
    let note = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        bench.open().await.err().unwrap(),
        LedgerError::NoCheckpoint { leaves: 3, .. }
    ));
    std::fs::write(&path, note.replace("\n3\n", "\n2\n")).unwrap();
    assert!(matches!(
        bench.open().await.err().unwrap(),
        LedgerError::BadCheckpoint { .. }
    ));
    std::fs::write(&path, &note).unwrap();
    bench.open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn derived_files_are_made_again() {
    let bench = Bench::new();
    filled(&bench, 300).await;
    std::fs::remove_file(bench.ledger.join("tile/entries/000")).unwrap();
    std::fs::write(bench.ledger.join("tile/0/000"), [1; 8192]).unwrap();
    std::fs::remove_dir_all(bench.ledger.join("tile/1")).unwrap();
    let ledger = bench.open().await.unwrap();
    prove_all(&bench, &ledger).await;
    for path in ["tile/entries/000", "tile/1/000.p/1", "tile/0/001.p/44"] {
        assert!(bench.ledger.join(path).is_file(), "{path}");
    }
    assert!(!bench.ledger.join("tile/0/000.p").exists(), "no longer needed");
    // Damaged while it runs: no false proof is given out.
    std::fs::write(bench.ledger.join("tile/0/000"), [1; 8192]).unwrap();
    assert!(matches!(ledger.prove(7).await, Err(LedgerError::BadTiles { index: 7 })));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn one_server_and_one_name_a_folder() {
    let bench = Bench::new();
    let ledger = bench.open().await.unwrap();
    assert!(matches!(
        bench.open().await.err().unwrap(),
        LedgerError::Journal(journal::JournalError::InUse(_))
    ));
    ledger.close().await.unwrap();
    let other = Options {
        origin: "other.example/log".into(),
        ..Options::default()
    };
    let opened = Ledger::open(&bench.ledger, other, Arc::new(bench.keeper()), bench.clock.clone());
    assert!(matches!(
        opened.await.err().unwrap(),
        LedgerError::Journal(journal::JournalError::OtherOrigin { .. })
    ));
    assert!(Ledger::create(&bench.ledger, ORIGIN).is_err());
    let nowhere = tempfile::tempdir().unwrap();
    assert!(bench.open_at(nowhere.path(), None, vec![]).await.is_err());
}
