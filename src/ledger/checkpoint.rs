//! Checkpoints of this log: which key signs them, and reading one back
//! (c2sp.org/tlog-checkpoint; recording/FORMAT.md section 9.2).

use portcullis_recording::note::{Checkpoint, KeyKind, Note, NoteError, VerifierKey};

/// Longest signed checkpoint that is read, witnesses' lines included, in bytes.
pub const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// The ledger's key under its name: a log signs by its origin.
///
/// # Errors
/// When the origin cannot be a key's name.
pub fn ledger_key(origin: &str, key: [u8; 32]) -> Result<VerifierKey, NoteError> {
    VerifierKey::new(origin, KeyKind::Note, key)
}

/// The note of a checkpoint, signed by the ledger.
///
/// # Errors
/// When the signature is not `key`'s: what cannot be verified must not take
/// the place of what can.
pub fn signed(mut note: Note, key: &VerifierKey, signature: &[u8; 64]) -> Result<Note, NoteError> {
    note.add_signature(key, signature);
    open(&note.to_string(), key).map(|_| note)
}

/// Reads a note that `key` has signed for its own log.
///
/// # Errors
/// When it is no checkpoint, of another log, or not signed by `key`.
pub fn open(text: &str, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
    let note = Note::parse(text)?;
    let checkpoint = Checkpoint::of(&note)?;
    if checkpoint.origin != key.name() {
        return Err(NoteError::Checkpoint("it is another log's"));
    }
    match note.verify(key)? {
        Some(_) => Ok(checkpoint),
        None => Err(NoteError::Checkpoint("the ledger's key has not signed it")),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    #[test]
    fn a_note_comes_back_and_every_change_is_seen() {
        let private = SigningKey::from_bytes(&[5; 32]);
        let public = private.verifying_key().to_bytes();
        let key = ledger_key("bastion.example/log", public).unwrap();
        let checkpoint = Checkpoint {
            origin: "bastion.example/log".into(),
            size: 70,
            root: [3; 32],
        };
        let body = checkpoint.to_note().unwrap();
        let signature = private.sign(body.text().as_bytes()).to_bytes();
        let note = signed(body.clone(), &key, &signature).unwrap().to_string();
        assert_eq!(open(&note, &key).unwrap(), checkpoint);
        assert!(signed(body, &key, &[1; 64]).is_err());
        let other = ledger_key("other.example/log", public).unwrap();
        assert!(open(&note, &other).is_err());
        for (at, _) in note.char_indices() {
            let mut bad = note.clone();
            bad.insert(at, '0');
            assert!(open(&bad, &key).is_err(), "at {at}");
        }
    }
}
