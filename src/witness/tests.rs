//! A witness and its client, over real sockets.

use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::merkle::{Hash, Range, consistency_proof, leaf_hash};
use portcullis_recording::note::{Checkpoint, KeyKind, Note};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::client::{Answer, AskError, ask};
use super::*;
use crate::clock::Now;
use crate::witness::address::Address;

const ORIGIN: &str = "l.example/log";
const NOW: u64 = 1_800_000_000_000;

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn log_key() -> VerifierKey {
    VerifierKey::new(ORIGIN, KeyKind::Note, signer().verifying_key().to_bytes()).unwrap()
}

/// What a log with `mark` in its leaves submits.
fn submission(origin: &str, mark: u8, old: u64, new: u64) -> Submission {
    let (mut range, mut nodes) = (Range::default(), std::collections::HashMap::new());
    for number in 0..new {
        range.append(leaf_hash(&[mark, number as u8]), |level, index, hash| {
            nodes.insert((level, index), hash);
        });
    }
    let read = |level, index| Ok::<Hash, ()>(nodes[&(level, index)]);
    let checkpoint = Checkpoint {
        origin: origin.into(),
        size: new,
        root: range.root(),
    };
    let mut note = checkpoint.to_note().unwrap();
    let signature = signer().sign(note.text().as_bytes()).to_bytes();
    note.add_signature(&log_key(), &signature);
    Submission {
        old,
        proof: consistency_proof(old, new, read).unwrap().unwrap_or_default(),
        note,
    }
}

fn open(dir: &Path) -> Result<Witness, WitnessError> {
    let settings = Settings {
        dir: dir.to_owned(),
        name: None,
        name_default: "w.example".into(),
        logs: vec![log_key()],
    };
    let now = Now {
        wall_ms: NOW,
        boot_ms: 1,
    };
    Witness::open(settings, Clock::manual(now))
}

/// Runs `with` while the witness in `dir` serves.
async fn served<T>(dir: &Path, with: impl AsyncFnOnce(Address, VerifierKey) -> T) -> T {
    let witness = Arc::new(open(dir).unwrap());
    let key = witness.key().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(witness, listener, async {
        stopped.await.ok();
    }));
    let done = with(at, key).await;
    stop.send(()).unwrap();
    serving.await.unwrap();
    done
}

#[tokio::test]
async fn a_log_is_followed_and_never_taken_back_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    served(dir.path(), async |at, key| {
        for (old, new) in [(0, 0), (0, 3), (3, 3), (3, 7)] {
            let asked = submission(ORIGIN, 0, old, new);
            let Answer::Cosigned(lines) = ask(&at, &asked).await.unwrap() else {
                panic!("{old} {new}");
            };
            let cosigned = wire::signed_by(asked.note.text(), &lines, &key).unwrap();
            assert_eq!(cosigned.verify(&key).unwrap().unwrap().unix_secs, Some(NOW / 1000));
            assert_eq!(lines.lines().count(), 1);
        }
    })
    .await;
    served(dir.path(), async |at, _| {
        let answer = async |mark, old, new| ask(&at, &submission(ORIGIN, mark, old, new)).await.unwrap();
        assert_eq!(answer(0, 0, 5).await, Answer::Known(7));
        assert_eq!(answer(0, 3, 9).await, Answer::Known(7));
        assert_eq!(answer(1, 7, 7).await, Answer::Known(7), "another root of the same size");
        assert_eq!(answer(1, 7, 9).await, Answer::Inconsistent);
        assert!(matches!(answer(0, 7, 9).await, Answer::Cosigned(_)));
    })
    .await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    served(dir.path(), async |at, _| {
        let other = submission("other.example/log", 0, 0, 3);
        assert!(matches!(ask(&at, &other).await, Err(AskError::UnknownLog)));
        let mut unsigned = submission(ORIGIN, 0, 0, 3);
        unsigned.note = Note::new(unsigned.note.text()).unwrap();
        unsigned.note.add_signature(&log_key(), &[1; 64]);
        assert!(matches!(ask(&at, &unsigned).await, Err(AskError::OtherKey)));
        let mut odd = submission(ORIGIN, 0, 0, 3);
        odd.old = 4;
        assert!(matches!(ask(&at, &odd).await, Err(AskError::Odd(status)) if status == 400));
        let mut long = submission(ORIGIN, 0, 0, 3);
        let line = "x".repeat(wire::BODY_BYTES_MAX);
        long.note = Note::new(&format!("{}{line}\n", long.note.text())).unwrap();
        assert!(matches!(ask(&at, &long).await, Err(AskError::Odd(status)) if status == 413));
        // None of it was written down.
        let good = ask(&at, &submission(ORIGIN, 0, 0, 3)).await.unwrap();
        assert!(matches!(good, Answer::Cosigned(_)));
    })
    .await;
    let gone: Address = "http://127.0.0.1:1".parse().unwrap();
    let answer = ask(&gone, &submission(ORIGIN, 0, 0, 3)).await;
    assert!(matches!(answer, Err(AskError::Unreachable(_))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_witness_that_hangs_is_late_also_behind_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.sock");
    let _deaf = tokio::net::UnixListener::bind(&path).unwrap();
    let at = Address::Unix(path);
    assert!(matches!(
        ask(&at, &submission(ORIGIN, 0, 0, 3)).await,
        Err(AskError::Late)
    ));
}

#[test]
fn what_is_spoiled_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path()).unwrap();
    witness
        .add_checkpoint(&submission(ORIGIN, 0, 0, 3).to_string())
        .unwrap();
    drop(witness);
    let file = std::fs::read_dir(dir.path().join("logs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let whole = std::fs::read_to_string(file.path()).unwrap();
    for bad in [
        String::new(),
        whole.replacen("\n3\n", "\n2\n", 1),
        whole[..whole.len() - 1].to_owned(),
    ] {
        std::fs::write(file.path(), bad).unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(WitnessError::Book(BookError::Spoiled { .. }))
        ));
    }
    std::fs::write(file.path(), whole).unwrap();
    drop(open(dir.path()).unwrap());
    // Another key would be another witness.
    std::fs::remove_file(dir.path().join(key::KEY_FILE)).unwrap();
    assert!(matches!(open(dir.path()), Err(WitnessError::Book(_))));
}

#[test]
fn a_disk_that_fails_ends_the_cosigning_only_if_it_is_not_known_what_is_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let witness = open(dir.path()).unwrap();
    let logs = dir.path().join("logs");
    std::fs::rename(&logs, dir.path().join("away")).unwrap();
    let first = submission(ORIGIN, 0, 0, 3).to_string();
    assert!(matches!(witness.add_checkpoint(&first), Err(Unsigned::Broken(_))));
    std::fs::rename(dir.path().join("away"), &logs).unwrap();
    witness.add_checkpoint(&first).unwrap();

    // The last step fails: a folder has the page's name.
    let page = std::fs::read_dir(&logs).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    std::fs::create_dir_all(page.join("in the way")).unwrap();
    let next = submission(ORIGIN, 0, 3, 4).to_string();
    assert!(matches!(witness.add_checkpoint(&next), Err(Unsigned::Broken(_))));
    std::fs::remove_dir_all(&page).unwrap();
    std::fs::write(&page, whole).unwrap();
    assert!(matches!(witness.add_checkpoint(&next), Err(Unsigned::Broken(_))));
    drop(witness);
    assert!(open(dir.path()).unwrap().add_checkpoint(&next).is_ok());
}
