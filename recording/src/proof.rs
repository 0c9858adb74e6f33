//! The `.proof` sidecar: that a recording's seal is in a ledger others have seen (C2SP tlog-proof; FORMAT.md section 9.3).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::limits::{NOTE_BYTES_MAX, PROOF_HASHES_MAX};
use crate::merkle::{Hash, verify_inclusion};
use crate::note::{Checkpoint, Note, NoteError, parse_decimal};
use crate::trust::Trust;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// A proof as read: nothing in it is believed before [`Proof::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Opaque data beside the proof; not authenticated, and not needed for a recording, whose salt is in its head.
    pub extra: Option<Vec<u8>>,
    /// Index of the leaf.
    pub index: u64,
    /// Inclusion proof, leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// Checkpoint with its signatures.
    pub checkpoint: Note,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a proof.
    #[error("not a proof file: {0}")]
    Malformed(&'static str),
    /// The checkpoint is not one, or a known key's signature on it is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The checkpoint is of another ledger than the recording names, or of one that is not trusted.
    #[error("the ledger is not trusted for this recording")]
    UnknownLedger,
    /// The ledger has not signed the checkpoint.
    #[error("the ledger's key has not signed the checkpoint")]
    NotSigned,
    /// Too few witnesses.
    #[error("{found} of {wanted} witnesses have cosigned")]
    Quorum {
        /// How many did.
        found: u64,
        /// How many must.
        wanted: u64,
    },
    /// The seal is not in that tree.
    #[error("the seal is not in the ledger's tree")]
    NotIncluded,
}

/// What a proof has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The ledger.
    pub origin: String,
    /// Index of the leaf.
    pub index: u64,
    /// Size of the tree it was shown in.
    pub size: u64,
    /// Witnesses that have cosigned, with their time in seconds since the epoch.
    pub witnesses: Vec<(String, u64)>,
}

impl Proof {
    /// Reads a proof file.
    pub fn parse(text: &str) -> Result<Proof, ProofError> {
        let malformed = ProofError::Malformed;
        if text.len() > NOTE_BYTES_MAX {
            return Err(malformed("over its bound"));
        }
        let (front, note) = text.split_once("\n\n").ok_or(malformed("no blank line"))?;
        let mut lines = front.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("first line"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(blob) => {
                let blob = BASE64.decode(blob).map_err(|_| malformed("extra"))?;
                lines.next();
                Some(blob)
            }
            None => None,
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(parse_decimal);
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == PROOF_HASHES_MAX {
                return Err(malformed("too many hashes"));
            }
            let hash = BASE64.decode(line).ok().and_then(|h| Hash::try_from(h).ok());
            hashes.push(hash.ok_or(malformed("hash"))?);
        }
        Ok(Proof {
            extra,
            index: index.ok_or(malformed("index"))?,
            hashes,
            checkpoint: Note::parse(note)?,
        })
    }

    /// Whether the ledger named `origin` holds a leaf of this hash and enough witnesses have seen it.
    pub fn verify(&self, leaf: &Hash, origin: &str, trust: &Trust) -> Result<Proven, ProofError> {
        let checkpoint = Checkpoint::of(&self.checkpoint)?;
        if checkpoint.origin != origin {
            return Err(ProofError::UnknownLedger);
        }
        let mut ledgers = trust.ledgers.iter().filter(|l| l.origin == origin).peekable();
        if ledgers.peek().is_none() {
            return Err(ProofError::UnknownLedger);
        }
        let mut signed = false;
        for ledger in ledgers {
            signed |= self.checkpoint.verify(&ledger.key)?.is_some();
        }
        if !signed {
            return Err(ProofError::NotSigned);
        }
        let mut witnesses: Vec<(String, u64)> = Vec::new();
        let mut keys: Vec<&[u8; 32]> = Vec::new();
        for witness in &trust.witnesses {
            let Some(at) = self.checkpoint.verify(witness)? else {
                continue;
            };
            let secs = at.unix_secs.unwrap_or(0);
            // One key under two names is one witness; what it has seen first counts.
            match keys.iter().zip(&mut witnesses).find(|(key, _)| **key == witness.key()) {
                Some((_, (_, first))) => *first = secs.min(*first),
                None => {
                    keys.push(witness.key());
                    witnesses.push((witness.name().to_owned(), secs));
                }
            }
        }
        let found = witnesses.len() as u64;
        if found < trust.quorum {
            return Err(ProofError::Quorum {
                found,
                wanted: trust.quorum,
            });
        }
        if !verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes) {
            return Err(ProofError::NotIncluded);
        }
        Ok(Proven {
            origin: origin.to_owned(),
            index: self.index,
            size: checkpoint.size,
            witnesses,
        })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

/// What is known of a recording's place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ledger {
    /// No proof was given: nothing is known.
    NoProof,
    /// The seal is in the ledger.
    Proven(Proven),
    /// A proof was given and proves nothing.
    Refused(ProofError),
}
