//! A witness's own key: made once in its folder, never leaves it.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::note::{KeyKind, Note, NoteError, VerifierKey};
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::durable::{self, DurableError};

/// Name within the witness's folder.
pub const KEY_FILE: &str = "witness_key";
/// Longest key file, in bytes.
const KEY_BYTES_MAX: u64 = 1024;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// What the file begins with, as in golang.org/x/mod/sumdb/note; then name,
/// id and the base64 of the type and the seed, as in a verifier key.
const PREFIX: &str = "PRIVATE+KEY+";
/// Type of timestamped cosignatures (c2sp.org/tlog-cosignature).
const TYPE: u8 = 4;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("{} may be read by others (mode {mode:04o}): run `chmod 600 {}`, and begin with a new folder if others had access", path.display(), path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error("{} is not the key of a witness: restore it from the backup; without it the witness is another one", .0.display())]
    Unreadable(PathBuf),
    #[error("{} is in use by another process: stop the other witness first", .0.display())]
    InUse(PathBuf),
    #[error(
        "the witness in this folder is called `{found}`, not `{wanted}`: a name belongs to a key for ever; leave --name away, or use a folder of its own"
    )]
    OtherName { found: String, wanted: String },
    #[error("`{name}` cannot name a witness: {why}; at most 128 bytes without blanks and plus signs")]
    Name { name: String, why: NoteError },
}

/// The key, and the lock that keeps a second witness out of its folder.
pub struct WitnessKey {
    public: VerifierKey,
    private: SigningKey,
    _held: File,
}

impl WitnessKey {
    /// The key in `dir`; made under `name` if there is none.
    ///
    /// # Errors
    /// When it is unusable, in use, open to others or called otherwise.
    pub fn open(dir: &Path, name: Option<&str>, default: &str) -> Result<WitnessKey, KeyError> {
        let path = dir.join(KEY_FILE);
        if !path.exists() {
            create(&path, name.unwrap_or(default))?;
        }
        let held = File::open(&path).map_err(DurableError::at("open", &path))?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|_| KeyError::InUse(path.clone()))?;
        let meta = held.metadata().map_err(DurableError::at("look at", &path))?;
        let mode = meta.permissions().mode() & 0o7777;
        let me = rustix::process::geteuid().as_raw();
        if mode & 0o077 != 0 || (meta.uid() != me && me != 0) {
            return Err(KeyError::OpenToOthers { path, mode });
        }
        let text = Zeroizing::new(durable::read_bounded(&path, KEY_BYTES_MAX)?);
        let (found, seed) = parse(&text).ok_or_else(|| KeyError::Unreadable(path.clone()))?;
        if let Some(wanted) = name.filter(|wanted| *wanted != found) {
            let wanted = wanted.to_owned();
            return Err(KeyError::OtherName { found, wanted });
        }
        let private = SigningKey::from_bytes(&seed);
        Ok(WitnessKey {
            public: public(&found, &private)?,
            private,
            _held: held,
        })
    }

    /// What verifiers are given.
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Adds its cosignature of this moment to a note.
    pub fn cosign(&self, note: &mut Note, unix_secs: u64) {
        let signature = self.private.sign(&note.cosigned_message(unix_secs)).to_bytes();
        note.add_cosignature(&self.public, unix_secs, &signature);
    }
}

fn public(name: &str, private: &SigningKey) -> Result<VerifierKey, KeyError> {
    let key = private.verifying_key().to_bytes();
    let bad = |why| KeyError::Name {
        name: name.chars().take(NAME_BYTES_MAX).collect(),
        why,
    };
    match name.len() > NAME_BYTES_MAX {
        true => Err(bad(NoteError::Key("length"))),
        false => VerifierKey::new(name, KeyKind::Cosignature, key).map_err(bad),
    }
}

/// Staged, so that a crash leaves no half of a key under its name.
fn create(path: &Path, name: &str) -> Result<(), KeyError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    crate::entropy::fill(&mut *seed);
    let private = SigningKey::from_bytes(&seed);
    let public = public(name, &private)?;
    let blob = Zeroizing::new([&[TYPE], seed.as_slice()].concat());
    let blob = Zeroizing::new(BASE64.encode(&*blob));
    let text = Zeroizing::new(format!("{PREFIX}{name}+{:08x}+{}\n", public.id(), *blob));
    let staging = path.with_extension("new");
    durable::replace(path, text.as_bytes(), 0o600, &staging)?;
    Ok(())
}

/// Name and seed.
fn parse(text: &[u8]) -> Option<(String, Zeroizing<[u8; 32]>)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.strip_suffix('\n')?.strip_prefix(PREFIX)?.splitn(3, '+');
    let (name, id, blob) = (parts.next()?, parts.next()?, parts.next()?);
    let blob = Zeroizing::new(BASE64.decode(blob).ok()?);
    let seed = Zeroizing::new(<[u8; 32]>::try_from(blob.strip_prefix(&[TYPE])?).ok()?);
    let public = public(name, &SigningKey::from_bytes(&seed)).ok()?;
    (format!("{:08x}", public.id()) == id).then(|| (name.to_owned(), seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let first = WitnessKey::open(dir.path(), None, "w.example/1").unwrap();
        let public = first.public().clone();
        assert_eq!((public.name(), public.kind()), ("w.example/1", KeyKind::Cosignature));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = WitnessKey::open(dir.path(), None, "other");
        assert!(matches!(second, Err(KeyError::InUse(_))));
        let mut note = Note::new("l.example/log\n0\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n").unwrap();
        first.cosign(&mut note, 77);
        assert_eq!(note.verify(&public).unwrap().unwrap().unix_secs, Some(77));
        drop(first);
        let again = WitnessKey::open(dir.path(), Some("w.example/1"), "x").unwrap();
        assert_eq!(again.public(), &public);
        drop(again);
        let other = WitnessKey::open(dir.path(), Some("w.example/2"), "x");
        assert!(matches!(other, Err(KeyError::OtherName { .. })));
    }

    #[test]
    fn what_is_open_to_others_or_spoiled_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        for bad in ["a b", "a+b", "", &"x".repeat(129)] {
            let made = WitnessKey::open(dir.path(), Some(bad), "x");
            assert!(matches!(made, Err(KeyError::Name { .. })), "{bad}");
            assert!(!path.exists());
        }
        drop(WitnessKey::open(dir.path(), None, "w").unwrap());
        let whole = std::fs::read_to_string(&path).unwrap();
        for (at, _) in whole.char_indices() {
            let mut bad = whole.clone();
            bad.insert(at, 'A');
            std::fs::write(&path, &bad).unwrap();
            let opened = WitnessKey::open(dir.path(), None, "x");
            assert!(matches!(opened, Err(KeyError::Unreadable(_))), "at {at}");
        }
        std::fs::write(&path, whole).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let opened = WitnessKey::open(dir.path(), None, "x");
        assert!(matches!(opened, Err(KeyError::OpenToOthers { mode: 0o640, .. })));
    }
}
