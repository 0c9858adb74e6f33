//! What investigators are given: encrypted recordings, holds and deletions,
//! evidence packages, and a ledger that tells of each reading.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bytes::find;
use crate::support::{Bastion, Done, Running, Setup, Variant, World, run, secs};

/// What must stand nowhere in clear.
const CANARY: &str = "canary-7Yq2";

/// Two identities, and their public halves.
pub fn investigators() -> (tempfile::TempDir, [PathBuf; 2], String) {
    let dir = tempfile::tempdir().unwrap();
    let files = ["one", "two"].map(|name| dir.path().join(name));
    let recipients: Vec<String> = files
        .iter()
        .map(|file| {
            let identity = age::x25519::Identity::generate();
            let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
            std::fs::write(file, format!("{secret}\n")).unwrap();
            identity.to_public().to_string()
        })
        .collect();
    let said = format!("[\"{}\", \"{}\"]", recipients[0], recipients[1]);
    (dir, files, said)
}

fn encrypting(recipients: &str) -> World {
    let setup = Setup::new().set("recording.recipients", recipients);
    World::with(setup, Variant::default())
}

fn verify(bastion: &Bastion, more: &[&str]) -> Done {
    let trust = bastion.state().join("trust.toml");
    let mut args = vec!["verify", "--trust", trust.to_str().unwrap()];
    args.extend(more);
    bastion.admin(&args)
}

/// The player's `text`, which this program has no verb for.
fn text(bastion: &Bastion, more: &[&str]) -> Done {
    let trust = bastion.state().join("trust.toml");
    let mut command = Command::new(player());
    command.args(["text", "--trust", trust.to_str().unwrap()]).args(more);
    run(&mut command, secs(30))
}

/// The player of this workspace, built with it.
pub fn player() -> PathBuf {
    let file = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    assert!(file.is_file(), "{} is missing: build the workspace", file.display());
    file
}

/// Whether a file below `folder` holds these bytes.
fn holds(folder: &Path, word: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap();
        let found = if kind.is_dir() {
            holds(&path, word)
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            find(&bytes, word).map(|_| path)
        } else {
            None
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn an_encrypted_session_is_readable_to_its_investigators_alone() {
    let (_dir, files, recipients) = investigators();
    let world = encrypting(&recipients);
    let bastion = &world.bastion;
    // While it runs, with everything on the disk.
    let running = Running::with_input(&mut world.client().exec(&format!(
        "echo {CANARY}-out; echo {CANARY}-err >&2; head -c 3000000 /dev/urandom | base64 -w 99; cat"
    )));
    running.await_bytes(4_000_000, secs(60));
    assert_eq!(holds(&bastion.spool(), CANARY.as_bytes()), None);
    drop(running);
    bastion.await_records(1, secs(30));
    assert_eq!(holds(&bastion.archive(), CANARY.as_bytes()), None);
    bastion.assert_ledger_clean();
    assert!(!bastion.log().contains(CANARY), "the log tells");

    let file = bastion.archived().remove(0);
    let name = file.to_str().unwrap();
    // Verified by who cannot read it.
    let said = verify(bastion, &[name]).ok();
    assert!(said.out().starts_with("SEALED, in the ledger"), "{}", said.out());
    assert!(said.out().contains("encrypted to 2 recipients"), "{}", said.out());
    let refused = text(bastion, &[name]);
    assert_ne!(refused.code(), 0);
    assert!(refused.err().contains("--identity"), "{}", refused.err());
    for identity in &files {
        let read = text(bastion, &["--identity", identity.to_str().unwrap(), name]).ok();
        assert!(read.out().contains(&format!("{CANARY}-out")), "{}", read.out().len());
    }
}

#[test]
fn a_crash_leaves_an_encrypted_session_that_is_sealed_without_its_key() {
    let (_dir, files, recipients) = investigators();
    let mut world = encrypting(&recipients);
    let running = Running::with_input(&mut world.client().exec(&format!("echo {CANARY}; cat")));
    running.await_out(CANARY, secs(20));
    world.bastion.sigkill();
    assert_eq!(holds(&world.bastion.spool(), CANARY.as_bytes()), None);
    drop(running);
    world.bastion.serve();
    world.bastion.await_records(1, secs(30));
    let file = world.bastion.archived().remove(0);
    let name = file.to_str().unwrap();
    assert_eq!(verify(&world.bastion, &[name]).code(), 10, "RECOVERED");
    assert_eq!(holds(&world.bastion.archive(), CANARY.as_bytes()), None);
    let identity = files[0].to_str().unwrap();
    let read = text(&world.bastion, &["--identity", identity, name]).ok();
    assert!(read.out().contains(CANARY), "{}", read.out());
    world.bastion.assert_ledger_clean();
}

#[test]
fn shredding_takes_the_content_and_leaves_the_proof() {
    let (_dir, files, recipients) = investigators();
    let world = encrypting(&recipients);
    let bastion = &world.bastion;
    for word in ["one", "two"] {
        run(&mut world.client().exec(&format!("echo {CANARY}-{word}")), secs(20)).ok();
    }
    bastion.await_records(2, secs(30));
    let recordings = bastion.json(&["recordings"]);
    let row = |at: usize| {
        let row = &recordings["recordings"][at];
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("session"), text("path"))
    };
    let ((session, file), (other, other_file)) = (row(0), row(1));
    // Held, it stays.
    bastion
        .admin(&["recordings", "hold", &session, "--reason", "case 7"])
        .ok();
    let refused = bastion.admin(&["recordings", "shred", &session, "--reason", "asked"]);
    assert_eq!(refused.code(), 3, "{}", refused.err());
    assert!(refused.err().contains("case 7"), "{}", refused.err());
    bastion
        .admin(&["recordings", "release", &session, "--reason", "closed"])
        .ok();
    bastion
        .admin(&["recordings", "shred", &session, "--reason", "asked"])
        .ok();
    bastion.assert_ledger_clean();
    let said = verify(bastion, &[&file]).ok();
    assert!(said.out().starts_with("SEALED"), "{}", said.out());
    let identity = files[0].to_str().unwrap();
    let gone = text(bastion, &["--identity", identity, &file]);
    assert!(gone.err().contains("is missing"), "{}", gone.err());
    // By hand it is a finding.
    std::fs::remove_file(format!("{other_file}.age")).unwrap();
    let found = bastion.admin(&["ledger", "fsck"]);
    assert_eq!(found.code(), 5);
    assert!(found.out().contains("envelope-missing"), "{}", found.out());
    assert!(found.out().contains(&other), "{}", found.out());
}

#[test]
fn an_evidence_package_is_checked_alone_and_nothing_in_it_can_be_changed() {
    let world = World::new();
    let bastion = &world.bastion;
    run(&mut world.client().exec("echo in evidence"), secs(20)).ok();
    bastion.await_records(1, secs(30));
    let session = bastion.json(&["sessions"])["sessions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // An empty folder with the trust file and the package, and nothing else.
    let alone = tempfile::tempdir().unwrap();
    let package = alone.path().join("case.evidence");
    let name = package.to_str().unwrap();
    bastion
        .admin(&["evidence", &session[..8], "-o", name, "--reason", "case 7"])
        .ok();
    let taken = bastion.admin(&["evidence", &session, "-o", name, "--reason", "again"]);
    assert_ne!(taken.code(), 0, "never over another file");
    let trust = alone.path().join("trust.toml");
    std::fs::write(&trust, bastion.admin(&["trust", "export"]).ok().stdout).unwrap();
    let check = |file: &Path| {
        let mut command = Command::new(player());
        command
            .current_dir(alone.path())
            .arg("verify")
            .arg(file)
            .args(["--trust", "trust.toml"]);
        run(&mut command, secs(30))
    };
    let said = check(&package).ok().out();
    for part in [
        "SEALED, in the ledger",
        "as exported by root",
        "because: case 7",
        "grant: {",
        "the certificate is the one",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(text(bastion, &[name]).ok().out().contains("in evidence"));

    // One flipped bit anywhere in what a tar file holds.
    let bytes = std::fs::read(&package).unwrap();
    let forged = alone.path().join("forged");
    let mut tried = 0;
    for at in (0..bytes.len()).step_by(197) {
        let mut copy = bytes.clone();
        copy[at] ^= 1;
        std::fs::write(&forged, copy).unwrap();
        let done = check(&forged);
        if done.code() == 0 {
            // Padding between files, and fields of a header that name nobody.
            let entries = read_tar(&forged);
            assert_eq!(entries, read_tar(&package), "byte {at} was changed unnoticed");
        }
        tried += 1;
    }
    assert!(tried > 50, "{tried}");
    // A file put in, one left out, one exchanged.
    for change in ["add", "leave out", "exchange"] {
        let mut entries = read_tar(&package);
        match change {
            "add" => entries.push(("leaves/9999-grant.leaf".into(), b"forged".to_vec())),
            "leave out" => entries.retain(|(name, _)| !name.starts_with("leaves/0000")),
            _ => entries
                .iter_mut()
                .filter(|(name, _)| name == "session.json")
                .for_each(|it| it.1 = b"{}".to_vec()),
        }
        write_tar(&forged, &entries);
        let done = check(&forged);
        assert_eq!(done.code(), 5, "{change}: {}", done.out());
    }
    // It is on record that it was given out.
    let exported = bastion.admin(&[
        "evidence",
        &session,
        "-o",
        alone.path().join("2").to_str().unwrap(),
        "--reason",
        "b",
    ]);
    exported.ok();
    let again = check(&alone.path().join("2")).ok().out();
    assert!(again.contains("export: {") && again.contains("case 7"), "{again}");
    bastion.assert_ledger_clean();
}

type Entries = Vec<(String, Vec<u8>)>;

fn read_tar(path: &Path) -> Entries {
    let mut tar = tar::Archive::new(std::fs::File::open(path).unwrap());
    let entries = tar.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

fn write_tar(path: &Path, entries: &Entries) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().sync_all().unwrap();
}

#[test]
fn recordings_are_exported_and_deleted_on_record() {
    let world = World::with(Setup::new().set("retention.keep_days", "1"), Variant::default());
    let bastion = &world.bastion;
    run(&mut world.client().exec("echo kept"), secs(20)).ok();
    bastion.await_records(1, secs(30));
    let session = bastion.json(&["sessions"])["sessions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("to");
    let args = [
        "recordings",
        "export",
        &session,
        "-o",
        to.to_str().unwrap(),
        "--reason",
        "a copy",
    ];
    let listed = bastion.admin(&args).ok().out();
    assert_eq!(listed.lines().count(), 4, "recording, proof, signature, leaf: {listed}");
    let copy = to.join(format!("{session}.pcr"));
    verify(bastion, &[copy.to_str().unwrap()]).ok();
    // Nothing is a day old.
    let told = bastion.json(&["recordings", "expire", "--dry-run"]);
    assert_eq!(told["deleted"].as_array().unwrap().len(), 0);
    bastion.admin(&["recordings", "expire"]).ok();
    assert_eq!(bastion.archived().len(), 1);
    bastion.assert_ledger_clean();
}

/// The procedure of SECURITY.md: a new node key, and the old one in somebody
/// else's hands.
#[test]
fn a_node_key_is_replaced_and_what_a_thief_signs_proves_nothing() {
    let mut world = World::new();
    run(&mut world.client().exec("echo before"), secs(20)).ok();
    world.bastion.await_records(1, secs(30));
    let before = world.bastion.archived().remove(0);
    let old = node_keys(&world.bastion);
    assert_eq!(old.len(), 1);
    let refused = world.bastion.admin(&["keys", "rotate", "node"]);
    assert!(refused.err().contains("stop it first"), "{}", refused.err());
    assert_eq!(world.bastion.stop(secs(20)), Some(0));
    world.bastion.admin(&["keys", "rotate", "node"]).ok();
    world.bastion.serve();
    run(&mut world.client().exec("echo after"), secs(20)).ok();
    world.bastion.await_records(2, secs(30));
    let after = world
        .bastion
        .archived()
        .into_iter()
        .find(|file| *file != before)
        .unwrap();
    let bastion = &world.bastion;
    // Both prove what they proved; the ledger tells of the change.
    for file in [&before, &after] {
        let said = verify(bastion, &[file.to_str().unwrap()]).ok();
        assert!(said.out().starts_with("SEALED, in the ledger"), "{}", said.out());
    }
    bastion.assert_ledger_clean();
    let keys = node_keys(bastion);
    assert_eq!((keys.len(), &keys[0]), (2, &old[0]));
    // Stolen: without a witness's word from before, nothing of it counts any more.
    let revoke = [
        "trust",
        "revoke",
        "--node-key",
        &old[0],
        "--since",
        "2020-01-01T00:00:00Z",
    ];
    bastion.admin(&revoke).ok();
    let later = [
        "trust",
        "revoke",
        "--node-key",
        &old[0],
        "--since",
        "2099-01-01T00:00:00Z",
    ];
    bastion.admin(&later).ok();
    let said = verify(bastion, &[before.to_str().unwrap()]);
    assert_eq!(said.code(), 5, "moved back only: {}", said.out());
    verify(bastion, &[after.to_str().unwrap()]).ok();
    let unknown = bastion.admin(&[
        "trust",
        "revoke",
        "--node-key",
        "AAAA",
        "--since",
        "2020-01-01T00:00:00Z",
    ]);
    assert_eq!(unknown.code(), 6);
}

/// Of the trust file, oldest first.
fn node_keys(bastion: &Bastion) -> Vec<String> {
    let text = std::fs::read_to_string(bastion.state().join("trust.toml")).unwrap();
    let trust = portcullis_recording::Trust::parse(&text).unwrap();
    let encode = |key: &[u8; 32]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    trust.nodes.iter().map(|node| encode(&node.key)).collect()
}
