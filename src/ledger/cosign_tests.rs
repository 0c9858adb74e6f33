//! The ledger and its witnesses, over real sockets, time in hand.

use std::path::Path;

use portcullis_recording::proof::Proof;
use tokio::net::TcpListener;

use super::super::testing::Bench;
use super::super::{Ledger, LedgerError};
use super::*;
use crate::witness::{Settings, Witness, server};

/// A witness that runs until it is dropped.
struct Served {
    at: WitnessAt,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start(bench: &Bench, dir: &Path) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Served::on(bench, dir, listener).await
    }

    async fn on(bench: &Bench, dir: &Path, listener: TcpListener) -> Served {
        let settings = Settings {
            dir: dir.to_owned(),
            name: None,
            name_default: format!("{}.example", dir.file_name().unwrap().to_str().unwrap()),
            logs: bench.trust().ledgers.into_iter().map(|it| it.key).collect(),
        };
        let witness = Witness::open(settings, bench.clock.clone()).unwrap();
        let at = WitnessAt {
            address: format!("http://{}", listener.local_addr().unwrap()).parse().unwrap(),
            key: witness.key().clone(),
        };
        let serving = server::serve(Arc::new(witness), listener, std::future::pending());
        let task = tokio::spawn(serving);
        Served { at, task }
    }

    /// Its key's file is free again afterwards.
    async fn stop(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

fn asked(served: &[&Served], quorum: usize) -> Witnesses {
    Witnesses {
        all: served.iter().map(|it| it.at.clone()).collect(),
        quorum,
    }
}

async fn grow(ledger: &Ledger, leaves: u64) {
    for number in 0..leaves {
        ledger
            .append_event("test", serde_json::json!({ "number": number }))
            .await
            .unwrap();
    }
}

/// Witnesses whose cosignature a proof of leaf `index` carries.
async fn cosigners(bench: &Bench, ledger: &Ledger, index: u64, all: &Witnesses) -> usize {
    let proof = Proof::parse(&ledger.prove(index).await.unwrap()).unwrap();
    let (salt, body) = ledger.leaf(index).await.unwrap();
    let entry = portcullis_recording::leaf::entry(&salt, &body.encode().unwrap());
    let mut trust = bench.trust();
    trust.witnesses = all.all.iter().map(|it| it.key.clone()).collect();
    let origin = trust.ledgers[0].origin.clone();
    let proven = proof.verify(&merkle::leaf_hash(&entry), &origin, &trust).unwrap();
    proven.witnesses.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_carry_every_cosignature_across_full_tiles_and_restarts() {
    let bench = Bench::new();
    let one = Served::start(&bench, &bench.dir.path().join("w1")).await;
    let two = Served::start(&bench, &bench.dir.path().join("w2")).await;
    let all = asked(&[&one, &two], 2);
    let ledger = bench.watched(&all).await.unwrap();
    for size in [1, 255, 256, 257, 520] {
        grow(&ledger, size - ledger.size()).await;
        assert_eq!(cosigners(&bench, &ledger, size - 1, &all).await, 2, "{size}");
        assert_eq!(cosigners(&bench, &ledger, 0, &all).await, 2, "{size}");
    }
    ledger.close().await.unwrap();
    // A start knows nothing of what the witnesses know, and finds out.
    let ledger = bench.watched(&all).await.unwrap();
    grow(&ledger, 10).await;
    assert_eq!(cosigners(&bench, &ledger, 529, &all).await, 2);
    let standing = ledger.checkpoints().next().await.unwrap();
    assert_eq!((standing.cosigned.count, standing.short), (2, 0));
    assert_eq!(standing.note.lines().count(), 3 + 1 + 3, "no signature twice");
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_knows_more_or_other_keeps_the_ledger_shut() {
    let bench = Bench::new();
    let one = Served::start(&bench, &bench.dir.path().join("w1")).await;
    let all = asked(&[&one], 1);
    let ledger = bench.watched(&all).await.unwrap();
    ledger.close().await.unwrap();
    let older = bench.dir.path().join("older");
    super::super::testing::copy_tree(&bench.ledger, &older);
    let ledger = bench.watched(&all).await.unwrap();
    grow(&ledger, 3).await;
    ledger.close().await.unwrap();
    let opened = bench.watched_at(&older, &all).await.map(drop);
    assert!(
        matches!(opened, Err(LedgerError::RolledBack { found: 0, known: 3, .. })),
        "{opened:?}"
    );
    for leaves in [3, 2] {
        // As many, and then more: other ones than the witness saw.
        let alone = bench.watched_at(&older, &Witnesses::default()).await.unwrap();
        grow(&alone, leaves).await;
        alone.close().await.unwrap();
        let opened = bench.watched_at(&older, &all).await.map(drop);
        assert!(matches!(opened, Err(LedgerError::Forked { size: 3, .. })), "{opened:?}");
    }
    // The right one opens still.
    bench.watched(&all).await.unwrap().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_hangs_is_waited_for_once_in_a_while() {
    let bench = Bench::new();
    let one = Served::start(&bench, &bench.dir.path().join("w1")).await;
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut all = asked(&[&one], 1);
    all.all.push(WitnessAt {
        address: format!("http://{}", deaf.local_addr().unwrap()).parse().unwrap(),
        key: VerifierKey::new(
            "deaf.example",
            portcullis_recording::note::KeyKind::Cosignature,
            [9; 32],
        )
        .unwrap(),
    });
    let ledger = bench.watched(&all).await.unwrap();
    let began = std::time::Instant::now();
    for number in 0..10 {
        grow(&ledger, 1).await;
        assert_eq!(cosigners(&bench, &ledger, number, &all).await, 1);
    }
    let each_waiting = Duration::from_millis(10 * REST_MS_MAX);
    assert!(began.elapsed() < each_waiting / 2, "{:?}", began.elapsed());
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_by_another_key_counts_for_nothing() {
    let bench = Bench::new();
    let one = Served::start(&bench, &bench.dir.path().join("w1")).await;
    let two = Served::start(&bench, &bench.dir.path().join("w2")).await;
    let crossed = Witnesses {
        all: vec![WitnessAt {
            address: one.at.address.clone(),
            key: two.at.key.clone(),
        }],
        quorum: 1,
    };
    let ledger = bench.watched(&crossed).await.unwrap();
    let standing = ledger.checkpoints().next().await.unwrap();
    assert_eq!((standing.cosigned.count, standing.cosigned.enough), (0, false));
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_minutes_without_enough_cosignatures_are_an_alarm() {
    let bench = Bench::new();
    let dir = bench.dir.path().join("w1");
    let one = Served::start(&bench, &dir).await;
    let (all, at) = (asked(&[&one], 1), one.at.clone());
    let Address::Http { port, .. } = at.address else {
        panic!()
    };
    let ledger = bench.watched(&all).await.unwrap();
    let mut signed = None;
    let mut cosigners = Cosigners::new(&all, None, bench.clock.clone());
    let mut round = async |cosigners: &mut Cosigners| {
        let standing = ledger.checkpoints().next().await.unwrap();
        let key = &bench.trust().ledgers[0].key;
        let note = wire::only(&Note::parse(&standing.note).unwrap(), key).unwrap();
        let tree = Tree {
            dir: bench.ledger.clone(),
            edge: Edge::default(),
        };
        cosigners.ask(&note, tree).await.unwrap();
        let (_, cosigned) = cosigners.cosigned(&note);
        signed = Some(note);
        cosigned
    };
    let well = Cosigned {
        count: 1,
        enough: true,
        alarm: false,
        disputed: 0,
    };
    assert_eq!(round(&mut cosigners).await, well);
    one.stop().await;
    bench.clock.advance(SILENCE_MS_MAX);
    // It carries the old one still: enough for a proof, and no alarm yet.
    assert_eq!(round(&mut cosigners).await, well);
    bench.clock.advance(RETRY_MS);
    assert!(round(&mut cosigners).await.alarm);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let _again = Served::on(&bench, &dir, listener).await;
    bench.clock.advance(RETRY_MS);
    assert_eq!(round(&mut cosigners).await, well);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn without_witnesses_nothing_is_missed() {
    let bench = Bench::new();
    let mut cosigners = Cosigners::new(&Witnesses::default(), None, bench.clock.clone());
    bench.clock.advance(2 * SILENCE_MS_MAX);
    let note = Note::new("l.example/log\n0\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n").unwrap();
    let tree = Tree {
        dir: bench.ledger.clone(),
        edge: Edge::default(),
    };
    cosigners.ask(&note, tree).await.unwrap();
    let (_, cosigned) = cosigners.cosigned(&note);
    assert_eq!((cosigned.enough, cosigned.alarm), (true, false));
    assert_eq!(cosigners.again(cosigned), None);
}
