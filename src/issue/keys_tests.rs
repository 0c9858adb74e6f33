//! The keys folder: private, whole, never overwritten.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn the_folder_is_private_and_comes_back() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for name in KeyName::ALL {
        assert_eq!(mode(&dir.join(name.file())), 0o600, "{name}");
    }
    let keys = load(&dir, CaSource::Files).unwrap();
    let public = read_public(&dir, KeyName::Node).unwrap();
    assert_eq!(public.key_data(), keys.node.public_key().key_data());
    assert!(!format!("{keys:?}").contains("PRIVATE"));
}

#[test]
fn keys_are_never_overwritten() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    let before = std::fs::read(dir.join("node_key")).unwrap();
    assert!(matches!(create(&dir, CaHome::Files), Err(KeysError::Exists(_))));
    assert_eq!(std::fs::read(dir.join("node_key")).unwrap(), before);
}

#[test]
fn a_crash_during_init_is_cleared_by_the_next_one() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    std::fs::create_dir(dir.with_extension("new")).unwrap();
    std::fs::write(dir.with_extension("new").join("admission_ca"), "torn").unwrap();
    create(&dir, CaHome::Files).unwrap();
    load(&dir, CaSource::Files).unwrap();
    assert!(!dir.with_extension("new").exists());
}

#[test]
fn what_others_can_read_is_refused_with_the_fix() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    for bits in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(dir.join("target_ca"), Permissions::from_mode(bits)).unwrap();
        let said = load(&dir, CaSource::Files).unwrap_err().to_string();
        assert!(said.contains("chmod 600") && said.contains("target_ca"), "{said}");
    }
    std::fs::set_permissions(dir.join("target_ca"), Permissions::from_mode(0o400)).unwrap();
    load(&dir, CaSource::Files).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
    let said = load(&dir, CaSource::Files).unwrap_err().to_string();
    assert!(said.contains("chmod 700"), "{said}");
}

#[test]
fn what_is_no_plain_key_file_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    let node = dir.join("node_key");
    let keep = std::fs::read(&node).unwrap();

    std::fs::remove_file(&node).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::Missing(_))));
    symlink(dir.join("ledger_key"), &node).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::NotAFile(_))));
    std::fs::remove_file(&node).unwrap();
    std::fs::copy(dir.join("ledger_key"), &node).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::SameKey { .. })));
    std::fs::write(&node, &keep[..keep.len() / 2]).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::Unreadable { .. })));
    std::fs::write(&node, vec![b'x'; 1 << 20]).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::Unreadable { .. })));
}

#[test]
fn a_passphrase_is_told_apart_from_damage() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    let done = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "secret", "-f"])
        .arg(dir.join("host_ca"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::Passphrase(_))));
}

#[test]
fn authorities_held_elsewhere_leave_no_private_half() {
    let state = tempfile::tempdir().unwrap();
    let other = state.path().join("other");
    create(&other, CaHome::Files).unwrap();
    let public = |name| read_public(&other, name).unwrap();
    let dir = state.path().join("keys");
    create(
        &dir,
        CaHome::Elsewhere {
            admission: &public(KeyName::AdmissionCa),
            target: &public(KeyName::TargetCa),
            host: &public(KeyName::HostCa),
        },
    )
    .unwrap();
    for name in KeyName::ALL {
        assert_eq!(dir.join(name.file()).exists(), !name.is_ca(), "{name}");
    }
    load(&dir, CaSource::Elsewhere).unwrap();
    assert!(matches!(load(&dir, CaSource::Files), Err(KeysError::Missing(_))));
}
