//! Signed notes, verifier keys, checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature;
//! FORMAT.md section 9.2). Signing is done outside: this file says which bytes, and where the signature goes.

use std::fmt::{self, Write as _};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::keys::{sha256, verify_strict};
use crate::limits::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX};
use crate::merkle::Hash;

/// What is wrong with a note, a key or a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not a verifier key.
    #[error("not a verifier key: {0}")]
    Key(&'static str),
    /// Not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Checkpoint(&'static str),
    /// A signature of a known key does not verify: the whole note is refused.
    #[error("a known key's signature does not verify")]
    Signature,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Notes, such as a ledger's checkpoints (type 0x01).
    Note,
    /// Timestamped cosignatures of a witness (type 0x04).
    Cosignature,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            KeyKind::Note => 1,
            KeyKind::Cosignature => 4,
        }
    }
}

/// A public key with its name, as `name+id+base64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    key: [u8; 32],
}

impl VerifierKey {
    /// A key under a name without spaces, plus signs or control characters.
    pub fn new(name: &str, kind: KeyKind, key: [u8; 32]) -> Result<VerifierKey, NoteError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(NoteError::Key("name"));
        }
        Ok(VerifierKey {
            name: name.to_owned(),
            kind,
            key,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// `SHA-256(name || 0x0A || type || key)`, first four bytes.
    pub fn id(&self) -> u32 {
        let digest = sha256(&[self.name.as_bytes(), &[b'\n', self.kind.byte()], &self.key].concat());
        let [a, b, c, d, ..] = digest;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Reads `name+id+base64`.
    pub fn parse(text: &str) -> Result<VerifierKey, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(blob)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("parts"));
        };
        let blob = BASE64.decode(blob).map_err(|_| NoteError::Key("base64"))?;
        let (kind, key) = match blob.split_first() {
            Some((1, key)) => (KeyKind::Note, key),
            Some((4, key)) => (KeyKind::Cosignature, key),
            _ => return Err(NoteError::Key("unknown type")),
        };
        let key = VerifierKey::new(name, kind, key.try_into().map_err(|_| NoteError::Key("length"))?)?;
        if id == format!("{:08x}", key.id()) {
            Ok(key)
        } else {
            Err(NoteError::Key("id"))
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&[self.kind.byte()], self.key.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id(), BASE64.encode(blob))
    }
}

/// A text with signature lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    id: u32,
    signature: Vec<u8>,
}

/// A signature that verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedAt {
    /// Seconds since the epoch as a witness states them; `None` for a plain note signature.
    pub unix_secs: Option<u64>,
}

impl Note {
    /// A note nobody has signed yet. The text ends in a newline and holds no other control character.
    pub fn new(text: &str) -> Result<Note, NoteError> {
        if !text.ends_with('\n') || text.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("text"));
        }
        if text.contains(|c: char| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("control character"));
        }
        Ok(Note {
            text: text.to_owned(),
            signatures: Vec::new(),
        })
    }

    /// The text, to be believed only after a signature has verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds a plain signature over [`Note::text`].
    pub fn add_signature(&mut self, key: &VerifierKey, signature: &[u8; 64]) {
        self.signatures.push(SignatureLine {
            name: key.name.clone(),
            id: key.id(),
            signature: signature.to_vec(),
        });
    }

    /// What a witness signs at a time (C2SP tlog-cosignature).
    pub fn cosigned_message(&self, unix_secs: u64) -> Vec<u8> {
        format!("cosignature/v1\ntime {unix_secs}\n{}", self.text).into_bytes()
    }

    /// Adds a witness's signature over [`Note::cosigned_message`].
    pub fn add_cosignature(&mut self, key: &VerifierKey, unix_secs: u64, signature: &[u8; 64]) {
        let signature = [&unix_secs.to_be_bytes(), signature.as_slice()].concat();
        self.signatures.push(SignatureLine {
            name: key.name.clone(),
            id: key.id(),
            signature,
        });
    }

    /// Adds the signature lines of another copy of the same note that this one lacks. `false` if the texts differ.
    pub fn merge(&mut self, other: &Note) -> bool {
        for line in &other.signatures {
            if !self.signatures.contains(line) && self.signatures.len() < NOTE_SIGNATURES_MAX {
                self.signatures.push(line.clone());
            }
        }
        self.text == other.text
    }

    /// Reads a note.
    pub fn parse(note: &str) -> Result<Note, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("over its bound"));
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed("no blank line"))?;
        let mut parsed = Note::new(&format!("{text}\n"))?;
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Malformed("no newline at the end"))?;
        for line in lines.split('\n') {
            if parsed.signatures.len() == NOTE_SIGNATURES_MAX {
                return Err(NoteError::Malformed("too many signatures"));
            }
            parsed.signatures.push(SignatureLine::parse(line)?);
        }
        Ok(parsed)
    }

    /// Whether `key` has signed, and when first. `Ok(None)` if there is no signature of it, an error if one is wrong.
    pub fn verify(&self, key: &VerifierKey) -> Result<Option<SignedAt>, NoteError> {
        let id = key.id();
        let mut found: Option<SignedAt> = None;
        for line in self
            .signatures
            .iter()
            .filter(|line| line.id == id && line.name == key.name)
        {
            let at = self.verify_line(key, line).ok_or(NoteError::Signature)?;
            found = Some(found.map_or(at, |earlier| earlier.min(at)));
        }
        Ok(found)
    }

    fn verify_line(&self, key: &VerifierKey, line: &SignatureLine) -> Option<SignedAt> {
        let (message, signature, unix_secs) = match key.kind {
            KeyKind::Note => (self.text.clone().into_bytes(), line.signature.as_slice(), None),
            KeyKind::Cosignature => {
                let (time, signature) = line.signature.split_first_chunk::<8>()?;
                let secs = u64::from_be_bytes(*time);
                // C2SP tlog-cosignature: MUST NOT exceed 2^63-1.
                i64::try_from(secs).ok()?;
                (self.cosigned_message(secs), signature, Some(secs))
            }
        };
        verify_strict(&key.key, &message, signature.try_into().ok()?).then_some(SignedAt { unix_secs })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for line in &self.signatures {
            let blob = [&line.id.to_be_bytes(), line.signature.as_slice()].concat();
            writeln!(f, "\u{2014} {} {}", line.name, BASE64.encode(blob))?;
        }
        Ok(())
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Result<SignatureLine, NoteError> {
        let rest = line
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Malformed("signature line"))?;
        let (name, blob) = rest.split_once(' ').ok_or(NoteError::Malformed("signature line"))?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(NoteError::Malformed("key name"));
        }
        let blob = BASE64.decode(blob).map_err(|_| NoteError::Malformed("base64"))?;
        let (id, signature) = blob
            .split_first_chunk::<4>()
            .ok_or(NoteError::Malformed("signature length"))?;
        if signature.is_empty() {
            return Err(NoteError::Malformed("signature length"));
        }
        Ok(SignatureLine {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            signature: signature.to_vec(),
        })
    }
}

/// The head of a ledger's tree: the text of a checkpoint note (C2SP tlog-checkpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Unique name of the ledger.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

impl Checkpoint {
    /// The note text. Fails if the origin cannot be a line.
    pub fn to_note(&self) -> Result<Note, NoteError> {
        if self.origin.is_empty() {
            return Err(NoteError::Checkpoint("origin"));
        }
        let mut text = String::new();
        write!(text, "{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
            .map_err(|_| NoteError::Checkpoint("text"))?;
        let note = Note::new(&text)?;
        if Checkpoint::of(&note)? == *self {
            Ok(note)
        } else {
            Err(NoteError::Checkpoint("origin"))
        }
    }

    /// Reads the text of a note. Extension lines are signed but not looked at.
    pub fn of(note: &Note) -> Result<Checkpoint, NoteError> {
        let text = note.text.strip_suffix('\n').ok_or(NoteError::Checkpoint("text"))?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Checkpoint("lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(NoteError::Checkpoint("empty line"));
        }
        let root = BASE64.decode(root).map_err(|_| NoteError::Checkpoint("root"))?;
        Ok(Checkpoint {
            origin: origin.to_owned(),
            size: parse_decimal(size).ok_or(NoteError::Checkpoint("size"))?,
            root: root.try_into().map_err(|_| NoteError::Checkpoint("root"))?,
        })
    }
}

/// A decimal number without sign or leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let n: u64 = text.parse().ok()?;
    (n.to_string() == text).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn the_example_of_the_specification_verifies() {
        // C2SP signed-note: the note and the key of its example (also in golang.org/x/mod/sumdb/note).
        let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let parsed = Note::parse(note).unwrap();
        assert_eq!(parsed.verify(&key), Ok(Some(SignedAt { unix_secs: None })));
        assert_eq!(parsed.to_string(), note);
        assert_eq!(
            key.to_string(),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        let altered = Note::parse(&note.replace("answer", "Answer")).unwrap();
        assert_eq!(altered.verify(&key), Err(NoteError::Signature));
    }

    #[test]
    fn checkpoints_and_cosignatures_round_trip() {
        let (log, witness) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let log_key = VerifierKey::new("l.example/log", KeyKind::Note, log.verifying_key().to_bytes()).unwrap();
        let w_key = VerifierKey::new("w.example", KeyKind::Cosignature, witness.verifying_key().to_bytes()).unwrap();
        let checkpoint = Checkpoint {
            origin: "l.example/log".into(),
            size: 7,
            root: [9; 32],
        };
        let mut note = checkpoint.to_note().unwrap();
        note.add_signature(&log_key, &log.sign(note.text().as_bytes()).to_bytes());
        let signature = witness.sign(&note.cosigned_message(1000)).to_bytes();
        note.add_cosignature(&w_key, 1000, &signature);
        let back = Note::parse(&note.to_string()).unwrap();
        assert_eq!(Checkpoint::of(&back), Ok(checkpoint));
        assert_eq!(back.verify(&log_key), Ok(Some(SignedAt { unix_secs: None })));
        assert_eq!(back.verify(&w_key), Ok(Some(SignedAt { unix_secs: Some(1000) })));
        let other = VerifierKey::new("w.example", KeyKind::Note, witness.verifying_key().to_bytes()).unwrap();
        assert_eq!(back.verify(&other), Ok(None));
        let mut wrong = checkpoint_note();
        wrong.add_cosignature(&w_key, 1001, &signature);
        assert_eq!(wrong.verify(&w_key), Err(NoteError::Signature));
    }

    fn checkpoint_note() -> Note {
        Checkpoint {
            origin: "l.example/log".into(),
            size: 7,
            root: [9; 32],
        }
        .to_note()
        .unwrap()
    }

    #[test]
    fn malformed_notes_are_refused() {
        for bad in [
            "",
            "a\n",
            "a\n\n",
            "a\n\n- n AAAAAAA=\n",
            "a\n\n\u{2014} n !\n",
            "a\tb\n\n\u{2014} n AAAAAAA=\n",
            "a\n\n\u{2014} n AAAAAAA=",
        ] {
            assert!(Note::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "o\n01\nAAAA\n",
            "o\n1\n",
            "o\n1\nAAAA\n",
            "\n1\nAAAA\n",
            "o\n+1\nAAAA\n",
        ] {
            assert!(Checkpoint::of(&Note::new(bad).unwrap()).is_err(), "{bad:?}");
        }
        for bad in [
            "x",
            "x+00000000+AQ==",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(VerifierKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
