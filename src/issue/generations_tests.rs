//! A new key comes, takes over, and the old one goes; each step cut short
//! anywhere is finished by asking again.

use russh::keys::ssh_key::Algorithm;

use super::*;
use crate::clock::Clock;
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::keys::CaHome;

const NOW: WallMs = 1_800_000_000_000;
const CA: KeyName = KeyName::TargetCa;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    keys::create(&dir, CaHome::Files).unwrap();
    (state, dir)
}

/// Stages with whether each key is `first`, of the one authority.
fn stages(dir: &Path, first: &PublicKey) -> Vec<(&'static str, bool)> {
    let is_first = |it: &Generation| it.public.key_data() == first.key_data();
    let found = of(dir, CA).unwrap();
    found.iter().map(|it| (it.stage.as_str(), is_first(it))).collect()
}

fn load(dir: &Path) -> FileKeeper {
    FileKeeper::load(dir, Rules::default(), Clock::system()).unwrap()
}

#[test]
fn a_key_goes_through_its_stages() {
    let (_state, dir) = folder();
    let first = keys::read_public(&dir, CA).unwrap();
    assert!(matches!(activate(&dir, CA, NOW), Err(KeysError::NotAnnounced(_))));
    assert!(matches!(retire(&dir, CA, NOW), Err(KeysError::NothingToRetire(_))));

    let second = announce_new(&dir, CA, None, NOW).unwrap();
    assert!(matches!(
        announce_new(&dir, CA, None, NOW),
        Err(KeysError::Announced(_))
    ));
    assert_eq!(stages(&dir, &first), [("announced", false), ("active", true)]);
    assert_eq!(load(&dir).authorities().target_ca.public.key_data(), first.key_data());

    activate(&dir, CA, NOW + 5_000).unwrap();
    assert_eq!(stages(&dir, &first), [("active", false), ("retiring", true)]);
    assert_eq!(load(&dir).authorities().target_ca.public.key_data(), second.key_data());
    assert_eq!(of(&dir, CA).unwrap()[0].since_ms, Some(NOW + 5_000));
    let line = std::fs::read_to_string(dir.join("target_ca.pub")).unwrap();
    assert!(line.contains("since 2027-01-15T08:00:05Z"), "{line}");

    // A third may be announced, and not put in use before the first is gone.
    announce_new(&dir, CA, None, NOW).unwrap();
    assert!(matches!(activate(&dir, CA, NOW), Err(KeysError::Retiring(_))));
    withdraw(&dir, CA).unwrap();
    assert!(!dir.join("target_ca.next").exists());

    retire(&dir, CA, NOW).unwrap();
    assert_eq!(stages(&dir, &first), [("active", false), ("retired", true)]);
    // No private half of it is left anywhere.
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(!holds(&path, &first).unwrap_or(false), "{}", path.display());
    }
}

#[test]
fn each_step_cut_short_is_finished_by_asking_again() {
    let (_state, dir) = folder();
    let first = keys::read_public(&dir, CA).unwrap();
    // Announced: the private half is written first.
    std::fs::copy(dir.join("target_ca"), dir.join("target_ca.next")).unwrap();
    assert_eq!(stages(&dir, &first), [("active", true)]);
    let second = announce_new(&dir, CA, None, NOW).unwrap();

    // Activated: after the first step, then after the second.
    std::fs::copy(dir.join("target_ca.pub"), dir.join("target_ca.old.pub")).unwrap();
    assert_eq!(stages(&dir, &first), [("announced", false), ("active", true)]);
    load(&dir);
    std::fs::rename(dir.join("target_ca.next"), dir.join("target_ca")).unwrap();
    assert_eq!(load(&dir).authorities().target_ca.public.key_data(), second.key_data());
    activate(&dir, CA, NOW).unwrap();
    assert_eq!(stages(&dir, &first), [("active", false), ("retiring", true)]);
    assert_eq!(load(&dir).authorities().target_ca.public.key_data(), second.key_data());

    // After the third: what was announced is what is active.
    std::fs::copy(dir.join("target_ca.pub"), dir.join("target_ca.next.pub")).unwrap();
    activate(&dir, CA, NOW).unwrap();
    assert_eq!(stages(&dir, &first), [("active", false), ("retiring", true)]);

    // Retired: named already, and still there.
    std::fs::copy(dir.join("target_ca.old.pub"), dir.join("target_ca.retired.pub")).unwrap();
    retire(&dir, CA, NOW).unwrap();
    assert_eq!(stages(&dir, &first), [("active", false), ("retired", true)]);
}

#[test]
fn a_key_that_somebody_else_holds_leaves_no_file() {
    let (_state, dir) = folder();
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let active = keys::read_public(&dir, CA).unwrap();
    assert!(matches!(announce_held(&dir, CA, &active, NOW), Err(KeysError::Same(_))));
    announce_held(&dir, CA, key.public_key(), NOW).unwrap();
    assert!(!dir.join("target_ca.next").exists());
    activate(&dir, CA, NOW).unwrap();
    assert!(!dir.join("target_ca").exists(), "the old one's private half");
    assert_eq!(
        keys::read_public(&dir, CA).unwrap().key_data(),
        key.public_key().key_data()
    );
}

#[test]
fn two_keys_admit_while_one_is_retiring() {
    let (_state, dir) = folder();
    let first = keys::read_public(&dir, KeyName::AdmissionCa).unwrap();
    let second = announce_new(&dir, KeyName::AdmissionCa, None, NOW).unwrap();
    let admit = || {
        let cas = load(&dir).authorities().admission_cas();
        cas.iter().map(|it| it.key_data().clone()).collect::<Vec<_>>()
    };
    assert_eq!(admit(), [first.key_data().clone()], "announced is not in use");
    activate(&dir, KeyName::AdmissionCa, NOW).unwrap();
    assert_eq!(admit(), [second.key_data().clone(), first.key_data().clone()]);
    retire(&dir, KeyName::AdmissionCa, NOW).unwrap();
    assert_eq!(admit(), [second.key_data().clone()]);
    // Never certified, whatever its stage.
    assert!(load(&dir).authorities().has(first.key_data()));
}

#[test]
fn one_command_at_a_time_and_never_one_key_under_two_names() {
    let (_state, dir) = folder();
    let held = keys::lock(&dir).unwrap();
    assert!(matches!(announce_new(&dir, CA, None, NOW), Err(KeysError::Busy)));
    drop(held);
    let host = keys::read_public(&dir, KeyName::HostCa).unwrap();
    announce_held(&dir, CA, &host, NOW).unwrap();
    let said = FileKeeper::load(&dir, Rules::default(), Clock::system()).unwrap_err();
    assert!(matches!(said, KeysError::SameKey { .. }), "{said}");
}
