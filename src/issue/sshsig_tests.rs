//! Signatures against the real `ssh-keygen`, both ways, and broken ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::public::{Ed25519PublicKey, SkEd25519};
use sha2::{Digest, Sha256};

use super::*;

const NAMESPACE: &str = "challenge@portcullis";
const TEXT: &[u8] = b"portcullis challenge 1\nnonce 00ff\n";
const KINDS: [(&str, &str); 5] = [
    ("ed25519", "256"),
    ("ecdsa", "256"),
    ("ecdsa", "384"),
    ("ecdsa", "521"),
    ("rsa", "3072"),
];

fn keygen(arguments: &[&str], input: &[u8]) -> std::process::Output {
    use std::io::Write;
    let mut child = Command::new("ssh-keygen")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// A key pair in files, made by ssh-keygen.
fn made(dir: &Path, kind: &str, bits: &str) -> PathBuf {
    let path = dir.join(format!("{kind}{bits}"));
    let file = path.to_str().unwrap();
    let done = keygen(&["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f", file], b"");
    assert!(done.status.success(), "{done:?}");
    path
}

fn signed_by(key: &PrivateKey) -> String {
    let signature = key.try_sign(&to_be_signed(NAMESPACE, TEXT).unwrap()).unwrap();
    armored(key.public_key(), NAMESPACE, signature).unwrap()
}

#[test]
fn both_ways_with_the_stock_program() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, bits) in KINDS {
        let path = made(dir.path(), kind, bits);
        let file = path.to_str().unwrap();
        let key = PrivateKey::read_openssh_file(&path).unwrap();

        let theirs = keygen(&["-Y", "sign", "-q", "-n", NAMESPACE, "-f", file], TEXT);
        assert!(theirs.status.success(), "{kind}: {theirs:?}");
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        let signer = verify(&theirs, NAMESPACE, TEXT).unwrap();
        assert_eq!(signer.key.key_data(), key.public_key().key_data(), "{kind} {bits}");
        assert_eq!(signer.presence, Presence::Unknown);

        let ours = signed_by(&key);
        let (allowed, signature) = (dir.path().join("allowed"), dir.path().join("sig"));
        let line = format!("alice {}\n", key.public_key().to_openssh().unwrap());
        std::fs::write(&allowed, line).unwrap();
        std::fs::write(&signature, &ours).unwrap();
        let checked = keygen(
            &[
                "-Y",
                "verify",
                "-n",
                NAMESPACE,
                "-I",
                "alice",
                "-f",
                allowed.to_str().unwrap(),
                "-s",
                signature.to_str().unwrap(),
            ],
            TEXT,
        );
        assert!(checked.status.success(), "{kind} {bits}: {checked:?}");
    }
}

#[test]
fn small_rsa_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "rsa", "2048");
    let signed = signed_by(&PrivateKey::read_openssh_file(&path).unwrap());
    let refused = verify(&signed, NAMESPACE, TEXT).unwrap_err();
    assert_eq!(refused.code(), "signature_key_weak", "{refused}");
}

#[test]
fn sha1_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "rsa", "3072");
    let key = PrivateKey::read_openssh_file(&path).unwrap();
    let signed = to_be_signed(NAMESPACE, TEXT).unwrap();
    let signature = (key.key_data().rsa().unwrap(), None).try_sign(&signed).unwrap();
    let signed = armored(key.public_key(), NAMESPACE, signature).unwrap();
    let refused = verify(&signed, NAMESPACE, TEXT).unwrap_err();
    assert_eq!(refused.code(), "signature_key_weak", "{refused}");
}

/// A hardware key's signature, as PROTOCOL.u2f has it.
fn by_hardware(flags: u8) -> String {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let public: Ed25519PublicKey = key.public_key().key_data().ed25519().copied().unwrap();
    let public = PublicKey::new(KeyData::SkEd25519(SkEd25519::from(public)), "");
    let trailer = [flags, 0, 0, 0, 9];
    let mut covered = Sha256::digest(b"ssh:").to_vec();
    covered.extend(trailer);
    covered.extend(Sha256::digest(to_be_signed(NAMESPACE, TEXT).unwrap()));
    let mut bytes = key.try_sign(&covered).unwrap().as_bytes().to_vec();
    bytes.extend(trailer);
    let signature = Signature::new(Algorithm::SkEd25519, bytes).unwrap();
    armored(&public, NAMESPACE, signature).unwrap()
}

#[test]
fn hardware_keys_say_who_was_there() {
    for (flags, want) in [(0x01, Presence::Touched), (0x05, Presence::Verified)] {
        assert_eq!(verify(&by_hardware(flags), NAMESPACE, TEXT).unwrap().presence, want);
    }
    for flags in [0x00, 0x04] {
        assert_eq!(
            verify(&by_hardware(flags), NAMESPACE, TEXT),
            Err(SshSigError::NotTouched)
        );
    }
}

#[test]
fn what_is_changed_is_refused() {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let good = signed_by(&key);
    verify(&good, NAMESPACE, TEXT).unwrap();
    verify(&good.replace('\n', "\r\n"), NAMESPACE, TEXT).unwrap();
    assert_eq!(verify(&good, NAMESPACE, b"another text"), Err(SshSigError::Wrong));
    assert_eq!(verify(&good, "git", TEXT).unwrap_err().code(), "signature_namespace");

    let bytes = STANDARD
        .decode(good.lines().filter(|line| !line.starts_with('-')).collect::<String>())
        .unwrap();
    let rewrapped = |bytes: &[u8]| format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes));
    verify(&rewrapped(&bytes), NAMESPACE, TEXT).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(verify(&rewrapped(&changed), NAMESPACE, TEXT).is_err(), "byte {at}");
        assert!(
            verify(&rewrapped(&bytes[..at]), NAMESPACE, TEXT).is_err(),
            "cut at {at}"
        );
    }
    let mut longer = bytes.clone();
    longer.push(0);
    for bad in [rewrapped(&longer), String::new(), "x".repeat(ARMORED_BYTES_MAX + 1)] {
        assert_eq!(
            verify(&bad, NAMESPACE, TEXT).unwrap_err().code(),
            "signature_unreadable"
        );
    }
}

#[test]
fn nested_certificates_are_not_read() {
    // As deep as fits: each level names itself a certificate of the next.
    let name = b"ssh-ed25519-cert-v01@openssh.com";
    let mut blob = b"SSHSIG\0\0\0\x01\0\0\x10\0".to_vec();
    for _ in 0..60 {
        blob.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        blob.extend(name);
    }
    let nested = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(blob));
    assert_eq!(
        verify(&nested, NAMESPACE, TEXT),
        Err(SshSigError::Unreadable("it names a certificate, not a key"))
    );
}
