//! The keys folder: private, whole, never overwritten.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::clock::Clock;
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::places::{Place, Places};

/// Every key, as a start reads them.
fn all(dir: &Path, places: &Places) -> Result<FileKeeper, KeysError> {
    FileKeeper::load_from(dir, places, Rules::default(), Clock::system())
}

/// The same from files alone.
fn files(dir: &Path) -> Result<FileKeeper, KeysError> {
    all(dir, &Places::default())
}

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
    let keys = load(&dir).unwrap();
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
    files(&dir).unwrap();
    assert!(!dir.with_extension("new").exists());
}

#[test]
fn what_others_can_read_is_refused_with_the_fix() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    for bits in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(dir.join("target_ca"), Permissions::from_mode(bits)).unwrap();
        let said = files(&dir).unwrap_err().to_string();
        assert!(said.contains("chmod 600") && said.contains("target_ca"), "{said}");
    }
    std::fs::set_permissions(dir.join("target_ca"), Permissions::from_mode(0o400)).unwrap();
    files(&dir).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
    let said = files(&dir).unwrap_err().to_string();
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
    assert!(matches!(files(&dir), Err(KeysError::Missing(_))));
    symlink(dir.join("ledger_key"), &node).unwrap();
    assert!(matches!(files(&dir), Err(KeysError::NotAFile(_))));
    std::fs::remove_file(&node).unwrap();
    std::fs::copy(dir.join("ledger_key"), &node).unwrap();
    assert!(matches!(files(&dir), Err(KeysError::SameKey { .. })));
    std::fs::write(&node, &keep[..keep.len() / 2]).unwrap();
    assert!(matches!(files(&dir), Err(KeysError::Unreadable { .. })));
    std::fs::write(&node, vec![b'x'; 1 << 20]).unwrap();
    assert!(matches!(files(&dir), Err(KeysError::Unreadable { .. })));
}

#[test]
fn a_passphrase_opens_what_ssh_keygen_or_we_encrypted() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    create(&dir, CaHome::Files).unwrap();
    let keygen = |args: &[&str], key: &str| {
        let mut command = std::process::Command::new("ssh-keygen");
        command.args(args).arg("-f").arg(dir.join(key)).output().unwrap()
    };
    let done = keygen(&["-q", "-p", "-N", "secret"], "host_ca");
    assert!(done.status.success(), "{done:?}");
    assert!(matches!(files(&dir), Err(KeysError::Passphrase(_))));

    let secret = state.path().join("passphrase");
    durable::write_new(&secret, b"secret\n", 0o600).unwrap();
    let places = Places {
        passphrase_file: Some(secret.clone()),
        ..Places::default()
    };
    all(&dir, &places).unwrap();
    let passphrase = Secret::read(&secret).unwrap();
    let encrypt = |name| super::super::generations::encrypt(&dir, name, &passphrase);
    assert_eq!(encrypt(KeyName::AdmissionCa).unwrap(), 1);
    assert_eq!(encrypt(KeyName::AdmissionCa).unwrap(), 0, "it is already");
    assert_eq!(encrypt(KeyName::HostCa).unwrap(), 0);
    all(&dir, &places).unwrap();
    assert_eq!(mode(&dir.join("admission_ca")), 0o600);

    // Stock OpenSSH opens it, changes its passphrase and takes it off.
    let done = keygen(&["-y", "-P", "secret"], "admission_ca");
    let line = String::from_utf8(done.stdout).unwrap();
    let public = PublicKey::from_openssh(line.trim()).unwrap();
    assert_eq!(
        public.key_data(),
        read_public(&dir, KeyName::AdmissionCa).unwrap().key_data()
    );
    assert!(!keygen(&["-y", "-P", "wrong"], "admission_ca").status.success());
    let done = keygen(&["-q", "-p", "-P", "secret", "-N", "other"], "admission_ca");
    assert!(done.status.success(), "{done:?}");
    let said = all(&dir, &places).unwrap_err();
    assert!(matches!(said, KeysError::WrongPassphrase(_)), "{said}");
    assert!(encrypt(KeyName::AdmissionCa).is_err(), "under another one");
    assert!(!said.to_string().contains("secret"), "{said}");
    let done = keygen(&["-q", "-p", "-P", "other", "-N", ""], "admission_ca");
    assert!(done.status.success(), "{done:?}");
    all(&dir, &places).unwrap();
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
    let agent = Places {
        admission_ca: Place::Agent,
        target_ca: Place::Agent,
        host_ca: Place::Agent,
        agent: Some(state.path().join("agent")),
        ..Places::default()
    };
    all(&dir, &agent).unwrap();
    assert!(matches!(files(&dir), Err(KeysError::Missing(_))));
}
