//! The ledger is held against what others keep of it: the store's copy of its
//! checkpoint, the archive, and itself.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bastion, Running, Setup, World, run, secs, wait_for, wait_until};

/// Bodies of the leaves of one kind of event, oldest first.
pub fn events(bastion: &Bastion, kind: &str) -> Vec<Value> {
    use portcullis::ledger::body::Body;
    use portcullis::ledger::journal::Reader;
    let mut from = Reader::open(&bastion.state().join("ledger")).unwrap();
    let mut found = Vec::new();
    while let Ok(Some(frame)) = from.frame().unwrap() {
        if let Ok(Body::Event { kind: named, json, .. }) = Body::decode(&frame.body)
            && named == kind
        {
            found.push(serde_json::from_str(&json).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), secs(20)).ok();
}

/// Puts `older` in the place of the ledger's folder.
fn roll_back(bastion: &Bastion, older: &Path) {
    std::fs::remove_dir_all(bastion.state().join("ledger")).unwrap();
    copy(older, &bastion.state().join("ledger"));
}

#[test]
fn an_older_ledger_is_refused_at_start_and_named_by_fsck() {
    let mut bastion = Setup::new().start();
    assert_eq!(bastion.stop(secs(20)), Some(0));
    let older = bastion.dir().join("older");
    copy(&bastion.state().join("ledger"), &older);
    bastion.serve();
    bastion.add_local("here", &[]);
    bastion.assert_ledger_clean();
    assert_eq!(bastion.stop(secs(20)), Some(0));
    bastion.assert_ledger_clean();

    roll_back(&bastion, &older);
    let done = bastion.admin(&["ledger", "fsck"]);
    assert_eq!(done.code(), 5, "{}{}", done.out(), done.err());
    assert!(done.out().contains("leaf-missing"), "{}", done.out());
    assert!(
        done.out().contains("the store's copy of its checkpoint"),
        "{}",
        done.out()
    );
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    let log = bastion.log();
    assert!(log.contains("the ledger was rolled back: its journal holds"), "{log}");
    assert!(
        log.contains("the store's copy of its checkpoint says there were"),
        "{log}"
    );
}

#[test]
fn a_recording_deleted_by_hand_is_named() {
    let world = World::new();
    let done = run(&mut world.client().exec("echo evidence"), secs(20)).ok();
    assert_eq!(done.out(), "evidence\n");
    let record = world.bastion.only_record();
    world.bastion.assert_ledger_clean();
    std::fs::remove_file(&record.file).unwrap();
    let done = world.bastion.admin(&["ledger", "fsck"]);
    assert_eq!(done.code(), 5);
    let id = record.file.file_stem().unwrap().to_str().unwrap();
    let named = format!("recording-deleted session {id}: sealed by leaf");
    assert!(done.out().contains(&named), "{}", done.out());
}

/// A minute of a live session that finished chunks is a leaf, whose size is
/// where its main file stood.
#[test]
fn a_live_sessions_progress_becomes_leaves() {
    use portcullis::ledger::body::Body;
    use portcullis::ledger::journal::Reader;
    use portcullis_recording::leaf::LeafKind;
    let world = World::new();
    let command = "head -c 6000000 /dev/urandom; exec cat";
    let ssh = Running::with_input(&mut world.client().exec(command));
    ssh.await_bytes(6_000_000, secs(30));
    let check = wait_for("a check leaf", secs(90), || {
        let mut from = Reader::open(&world.bastion.state().join("ledger")).unwrap();
        std::iter::from_fn(|| from.frame().unwrap().ok()?).find_map(|frame| match Body::decode(&frame.body) {
            Ok(Body::Recording(leaf)) if leaf.kind == LeafKind::Check => Some(leaf),
            _ => None,
        })
    });
    ssh.finish(secs(20)).ok();
    let record = world.bastion.only_record();
    assert_eq!(check.session_id, record.head.session_id);
    assert!((1_000_000..record.bytes).contains(&check.size), "{check:?}");
    world.bastion.assert_ledger_clean();
}

#[test]
fn what_the_server_is_and_does_becomes_leaves() {
    let mut world = World::new();
    let pass = world.pass();
    let bastion = &mut world.bastion;
    let keys = events(bastion, "keys");
    assert_eq!(keys.len(), 1);
    let public = std::fs::read_to_string(bastion.state().join("keys/target_ca.pub")).unwrap();
    let public = russh::keys::PublicKey::from_openssh(&public).unwrap();
    let print = public.fingerprint(russh::keys::HashAlg::Sha256).to_string();
    assert_eq!(keys[0]["target_ca"], print.as_str());
    assert_eq!(keys[0].as_object().unwrap().len(), 6);

    let granted = events(bastion, "grant");
    assert_eq!(granted[0]["id"], pass.grant.as_str());
    bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "done"])
        .ok();
    assert_eq!(events(bastion, "revocation")[0]["why"], "done");

    // A reload logs the digest of the file that is in force from then on.
    let config = bastion.state().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}# changed\n")).unwrap();
    assert_eq!(events(bastion, "config").len(), 1);
    bastion.signal(Signal::SIGHUP);
    wait_until("the second configuration's leaf", secs(10), || {
        events(bastion, "config").len() == 2
    });
    let sha256 = run(Command::new("sha256sum").arg(&config), secs(10)).ok();
    assert_eq!(events(bastion, "config")[1]["sha256"], sha256.out()[..64]);

    // Nothing changed: a start logs itself alone.
    assert_eq!(bastion.stop(secs(20)), Some(0));
    bastion.serve();
    assert_eq!((events(bastion, "keys").len(), events(bastion, "config").len()), (1, 2));
    assert_eq!(events(bastion, "start").len(), 2);
    bastion.assert_ledger_clean();
}

#[test]
fn another_name_in_the_configuration_is_in_the_host_certificate_after_a_reload() {
    let mut world = World::new();
    let bastion = &mut world.bastion;
    let path = bastion.state().join("keys/ssh_host_ed25519_key-cert.pub");
    let names = |path: &std::path::Path| {
        let line = std::fs::read_to_string(path).unwrap();
        let held = russh::keys::Certificate::from_openssh(line.trim()).unwrap();
        held.valid_principals().to_vec()
    };
    let before = names(&path);
    let config = bastion.state().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let quoted: Vec<String> = before.iter().map(|name| format!("{name:?}")).collect();
    let held = format!("host_names = [{}]", quoted.join(", "));
    assert!(text.contains(&held), "{held} in {text}");
    let more = format!("host_names = [{}, \"jump.example\"]", quoted.join(", "));
    std::fs::write(&config, text.replace(&held, &more)).unwrap();
    bastion.signal(Signal::SIGHUP);
    wait_until("the new name", secs(10), || {
        names(&path).contains(&"jump.example".to_owned())
    });
    assert_eq!(names(&path).len(), before.len() + 1);
    // And what is shown at the door is that one.
    let port = bastion.addr().port().to_string();
    let mut scan = Command::new("ssh-keyscan");
    scan.args(["-c", "-T", "5", "-p", &port, "127.0.0.1"]);
    let shown = run(&mut scan, secs(20)).ok();
    let on_disk = std::fs::read_to_string(&path).unwrap();
    let blob = on_disk.split(' ').nth(1).unwrap();
    assert!(shown.out().contains(blob), "{}", shown.out());
}
