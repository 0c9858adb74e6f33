//! One row for each thing that a hand can do to a ledger or an archive.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::archive::files::Files;
use crate::ledger::erasure::Erasure;
use crate::ledger::report::Finding;
use crate::ledger::testing::{Bench, copy_tree, recording, recording_ended};
use crate::ledger::{Anchor, Ledger};

struct House {
    bench: Bench,
    archive: Files,
}

impl House {
    /// Two sealed recordings in the archive, with proofs, and 300 events.
    async fn new() -> House {
        let bench = Bench::new();
        let archive = Files::create(&bench.dir.path().join("archive")).unwrap();
        let house = House { bench, archive };
        let ledger = house.bench.open().await.unwrap();
        let all = (0..300).map(|number| {
            let body = serde_json::json!({"number": number});
            ledger.append_event("test", body)
        });
        for done in futures_util::future::join_all(all).await {
            done.unwrap();
        }
        for session in [1, 2] {
            house.store(&ledger, session, true).await;
        }
        ledger.close().await.unwrap();
        house
    }

    async fn store(&self, ledger: &Ledger, session: u8, logged: bool) {
        let made = recording(&self.bench.keeper(), [session; 16]).await;
        let name: ArchiveName = spool::recording_file(&[session; 16]).parse().unwrap();
        let local = self.bench.dir.path().join("local");
        std::fs::write(&local, &made.bytes).unwrap();
        self.archive.put(&name, &local).await.unwrap();
        if logged {
            ledger.append_open(made.open, made.salt).await.unwrap();
            let receipt = ledger.append_seal(&made.sealed).await.unwrap();
            let proof = ledger.prove(receipt.entry().index).await.unwrap();
            self.archive
                .put_sidecar(&name, Sidecar::Proof, proof.as_bytes())
                .await
                .unwrap();
        }
    }

    fn file(&self, session: u8) -> PathBuf {
        let name = spool::recording_file(&[session; 16]);
        self.bench.dir.path().join("archive").join(name)
    }

    /// A spool folder of that session with these bytes as its main file.
    fn spooled(&self, session: u8, main: &[u8]) -> PathBuf {
        let folder = self
            .bench
            .dir
            .path()
            .join("spool")
            .join(SessionId([session; 16]).to_string());
        std::fs::create_dir_all(&folder).unwrap();
        if !main.is_empty() {
            std::fs::write(folder.join(spool::MAIN_FILE), main).unwrap();
        }
        folder
    }

    async fn fsck(&self) -> Report {
        self.fsck_with(&self.bench.ledger, &BTreeSet::new(), &[]).await
    }

    async fn fsck_with(&self, ledger: &Path, live: &BTreeSet<SessionId>, anchors: &[Anchor]) -> Report {
        let trust = self.bench.trust();
        let input = Input {
            ledger,
            archive: &self.archive,
            trust: &trust,
            spool: Some(&self.bench.dir.path().join("spool")),
            live,
            anchors,
        };
        fsck(input).await.unwrap()
    }
}

#[track_caller]
fn assert_only(report: &Report, code: Code, about: &str) {
    let codes: BTreeSet<Code> = report.findings.iter().map(|it| it.code).collect();
    assert_eq!(codes, [code].into(), "{:#?}", report.findings);
    assert!(
        report.findings.iter().any(|it| it.about.contains(about)),
        "{about}: {:#?}",
        report.findings
    );
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_whole_house_is_clean_also_while_it_runs() {
    let house = House::new().await;
    let report = house.fsck().await;
    assert_eq!(report.findings, []);
    assert_eq!((report.leaves, report.recordings), (304, 2));
    assert_eq!(report.checkpoint, Some(304));
    let ledger = house.bench.open().await.unwrap();
    assert_eq!(house.fsck().await.findings, []);
    ledger.close().await.unwrap();
    // What the server would cut off at its next start is a note, no alarm.
    let path = house.bench.ledger.join("journal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; 17]);
    std::fs::write(&path, bytes).unwrap();
    let report = house.fsck().await;
    assert_eq!((report.findings.len(), report.notes.len()), (0, 1));
}

#[tokio::test]
async fn a_deleted_recording_is_named_with_size_and_time() {
    let house = House::new().await;
    let bytes = house.file(1).metadata().unwrap().len();
    std::fs::remove_file(house.file(1)).unwrap();
    let report = house.fsck().await;
    assert_only(&report, Code::RecordingDeleted, &SessionId([1; 16]).to_string());
    let text = &report.findings[0].text;
    assert!(text.contains(&format!("{bytes} bytes")), "{text}");
    assert!(text.contains("2027-01-15T08:00:06Z"), "{text}");
    // Neither a folder of that name, nor a server that calls it live, nor
    // another recording in its place silences that.
    let folder = house.spooled(1, &[]);
    let live = [SessionId([1; 16])].into();
    let other = recording(&house.bench.keeper(), [3; 16]).await.bytes;
    for bytes in [None, Some(&[][..]), Some(&other[..]), Some(&made(&house).await[..40])] {
        if let Some(bytes) = bytes {
            std::fs::write(folder.join(spool::MAIN_FILE), bytes).unwrap();
        }
        let report = house.fsck_with(&house.bench.ledger, &live, &[]).await;
        assert_only(&report, Code::RecordingDeleted, &SessionId([1; 16]).to_string());
    }
    // Itself in the spool: on its way.
    std::fs::write(folder.join(spool::MAIN_FILE), made(&house).await).unwrap();
    let report = house.fsck().await;
    assert_eq!((report.findings.len(), report.notes.len()), (0, 1));
}

async fn made(house: &House) -> Vec<u8> {
    recording(&house.bench.keeper(), [1; 16]).await.bytes
}

#[tokio::test]
async fn a_deletion_by_rule_is_no_finding_unless_a_hold_stood() {
    let house = House::new().await;
    let ledger = house.bench.open().await.unwrap();
    let erased = |session: u8| {
        let body = Erasure {
            session: SessionId([session; 16]),
            by: "retention".into(),
            reason: "older than 30 days".into(),
        };
        serde_json::to_value(body).unwrap()
    };
    ledger.append_event("hold", erased(1)).await.unwrap();
    ledger.append_event("release", erased(1)).await.unwrap();
    let index = ledger.append_event("expired", erased(1)).await.unwrap().index;
    // Not deleted yet, by a crash in between.
    let report = house.fsck().await;
    assert_eq!((report.findings.len(), report.notes.len()), (0, 1));
    assert!(report.notes[0].contains(&format!("leaf {index}")), "{:?}", report.notes);
    std::fs::remove_file(house.file(1)).unwrap();
    let report = house.fsck().await;
    assert_eq!((report.findings.len(), report.expired), (0, 1));

    ledger.append_event("hold", erased(2)).await.unwrap();
    let index = ledger.append_event("expired", erased(2)).await.unwrap().index;
    std::fs::remove_file(house.file(2)).unwrap();
    assert_only(&house.fsck().await, Code::HoldBroken, &format!("leaf {index}"));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_recording_that_was_never_logged_is_named() {
    let house = House::new().await;
    let ledger = house.bench.open().await.unwrap();
    house.store(&ledger, 3, false).await;
    ledger.close().await.unwrap();
    let report = house.fsck().await;
    let codes: Vec<Code> = report.findings.iter().map(|it| it.code).collect();
    assert_eq!(codes, [Code::ProofBad, Code::RecordingUnlogged]);
}

#[tokio::test]
async fn a_damaged_recording_is_invalid_and_not_called_deleted() {
    let house = House::new().await;
    flip(&house.file(2), |length| length / 2);
    let report = house.fsck().await;
    assert_only(&report, Code::RecordingInvalid, &spool::recording_file(&[2; 16]));
    assert!(report.findings[0].text.starts_with("INVALID at byte"));
}

#[tokio::test]
async fn another_recording_of_the_same_session_is_a_mismatch() {
    let house = House::new().await;
    // Validly signed by the node, sealed with another reason.
    let keeper = house.bench.keeper();
    let head = portcullis_recording::Head {
        session_id: [1; 16],
        node: "bastion-1".into(),
        opened_wall_ms: 1_800_000_001_000,
        ledger_origin: crate::ledger::testing::ORIGIN.into(),
        node_key: crate::keeper::Keeper::node_key(&keeper),
        ..Default::default()
    };
    let unopened = portcullis_recording::Writer::prepare(head, Box::new(|bytes| *bytes = [77; 32])).unwrap();
    let signature = crate::keeper::Keeper::sign_recording(&keeper, &unopened.statement())
        .await
        .unwrap();
    let (writer, mut main, mut bytes) = unopened.open(&signature).unwrap();
    let (end, _) = writer.finish(&mut main, 5_000, "other", "x").unwrap();
    bytes.extend(end);
    std::fs::remove_file(house.file(1)).unwrap();
    std::fs::write(house.file(1), bytes).unwrap();
    let report = house.fsck().await;
    let codes: BTreeSet<Code> = report.findings.iter().map(|it| it.code).collect();
    assert_eq!(
        codes,
        [Code::RecordingMismatch, Code::ProofBad].into(),
        "{:#?}",
        report.findings
    );
}

#[tokio::test]
async fn another_end_of_the_same_recording_is_a_mismatch() {
    let house = House::new().await;
    let made = recording_ended(&house.bench.keeper(), [2; 16], "revoked").await;
    std::fs::remove_file(house.file(2)).unwrap();
    std::fs::write(house.file(2), made.bytes).unwrap();
    let report = house.fsck().await;
    let mismatch: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|it| it.code == Code::RecordingMismatch)
        .collect();
    assert_eq!(mismatch.len(), 1, "{:#?}", report.findings);
    let text = &mismatch[0].text;
    assert!(text.ends_with("leaf 303: length, reason differ"), "{text}");
}

#[tokio::test]
async fn a_recording_that_lost_its_end_is_a_mismatch() {
    let house = House::new().await;
    let ledger = house.bench.open().await.unwrap();
    let made = recording(&house.bench.keeper(), [3; 16]).await;
    let bytes = made.bytes.len() as u64;
    ledger.append_open(made.open.clone(), made.salt).await.unwrap();
    for size in [bytes, bytes + 1] {
        let check = LedgerLeaf {
            kind: LeafKind::Check,
            size,
            ..made.open.clone()
        };
        ledger.append_check(check, made.salt).await.unwrap();
    }
    house.store(&ledger, 3, true).await;
    ledger.close().await.unwrap();
    let report = house.fsck().await;
    assert_only(&report, Code::RecordingMismatch, &spool::recording_file(&[3; 16]));
    let text = &report.findings[0].text;
    assert!(text.contains(&format!("had {} bytes already", bytes + 1)), "{text}");
}

#[tokio::test]
async fn a_proof_that_is_gone_or_wrong_is_named() {
    let house = House::new().await;
    let proof = |session| house.file(session).with_extension("pcr.proof");
    std::fs::remove_file(proof(1)).unwrap();
    let text = std::fs::read_to_string(proof(2)).unwrap();
    std::fs::write(proof(2), text.replace("index 303", "index 301")).unwrap();
    let report = house.fsck().await;
    assert_only(&report, Code::ProofBad, &spool::recording_file(&[1; 16]));
    assert_eq!(report.findings.len(), 2);
}

#[tokio::test]
async fn a_session_that_was_opened_and_forgotten_is_an_alarm_unless_it_runs() {
    let house = House::new().await;
    let ledger = house.bench.open().await.unwrap();
    let made = recording(&house.bench.keeper(), [9; 16]).await;
    ledger.append_open(made.open, made.salt).await.unwrap();
    ledger.close().await.unwrap();
    let report = house.fsck().await;
    assert_only(&report, Code::NeverSealed, &SessionId([9; 16]).to_string());
    // Nobody's word for it is enough, nor is a folder of its name.
    let live = [SessionId([9; 16])].into();
    let folder = house.spooled(9, b"not its head");
    let report = house.fsck_with(&house.bench.ledger, &live, &[]).await;
    assert_only(&report, Code::NeverSealed, &SessionId([9; 16]).to_string());
    let bytes = recording(&house.bench.keeper(), [9; 16]).await.bytes;
    std::fs::write(folder.join(spool::MAIN_FILE), &bytes[..bytes.len() - 10]).unwrap();
    let report = house.fsck_with(&house.bench.ledger, &live, &[]).await;
    assert_eq!((report.findings.len(), report.notes.len()), (0, 0));
    assert_eq!(house.fsck().await.notes.len(), 1, "it does not run");
}

#[tokio::test]
async fn a_flipped_byte_of_the_journal_names_the_leaf() {
    let house = House::new().await;
    flip(&house.bench.ledger.join("journal"), |length| length / 2);
    let report = house.fsck().await;
    let damaged = report
        .findings
        .iter()
        .find(|it| it.code == Code::JournalDamaged)
        .unwrap();
    assert_eq!(damaged.about, format!("leaf {}", report.leaves));
    let missing = report.findings.iter().find(|it| it.code == Code::LeafMissing).unwrap();
    assert_eq!(
        missing.about,
        format!("leaves {} to 303", report.leaves),
        "every number that cannot be read"
    );
}

#[tokio::test]
async fn broken_tiles_and_checkpoints_are_named() {
    let house = House::new().await;
    flip(&house.bench.ledger.join("tile/0/000"), |length| length / 2);
    std::fs::remove_file(house.bench.ledger.join("tile/entries/001.p/48")).unwrap();
    let report = house.fsck().await;
    assert_only(&report, Code::TileBroken, "tile/0/000");
    assert_only(&report, Code::TileBroken, "tile/entries/001.p/48");
    assert_eq!(report.findings.len(), 2);
    house.bench.open().await.unwrap().close().await.unwrap();
    assert_eq!(house.fsck().await.findings, [], "a restart makes them again");

    let path = house.bench.ledger.join(CHECKPOINT_FILE);
    let note = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, note.replace("\n304\n", "\n303\n")).unwrap();
    assert_only(&house.fsck().await, Code::CheckpointBad, CHECKPOINT_FILE);
    std::fs::remove_file(&path).unwrap();
    assert_only(&house.fsck().await, Code::CheckpointBad, CHECKPOINT_FILE);
}

#[tokio::test]
async fn a_folder_that_was_rolled_back_is_seen_by_the_proofs_beside_recordings() {
    let house = House::new().await;
    let older = house.bench.dir.path().join("older");
    copy_tree(&house.bench.ledger, &older);
    let ledger = house.bench.open().await.unwrap();
    house.store(&ledger, 3, true).await;
    let anchor = Anchor {
        source: "the store".into(),
        note: ledger.checkpoint(),
    };
    ledger.close().await.unwrap();

    let report = house.fsck_with(&older, &BTreeSet::new(), &[]).await;
    let codes: BTreeSet<Code> = report.findings.iter().map(|it| it.code).collect();
    assert_eq!(
        codes,
        [Code::LeafMissing, Code::RecordingUnlogged].into(),
        "{:#?}",
        report.findings
    );
    // Grown again to the same length: another history.
    let ledger = house.bench.open_at(&older, None, vec![]).await.unwrap();
    for number in 0..4 {
        let body = serde_json::json!({"forged": number});
        ledger.append_event("test", body).await.unwrap();
    }
    ledger.close().await.unwrap();
    let report = house.fsck_with(&older, &BTreeSet::new(), &[anchor]).await;
    let mismatches: Vec<&str> = report
        .findings
        .iter()
        .filter(|it| it.code == Code::CheckpointMismatch)
        .map(|it| it.about.as_str())
        .collect();
    assert_eq!(mismatches.len(), 2, "{:#?}", report.findings);
    assert!(mismatches.contains(&"the store"));
}
