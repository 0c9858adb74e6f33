//! Ledger leaves about a recording (FORMAT.md section 9.1): a body, and its salted hash that goes into the log.

use sha2::{Digest, Sha256};

use crate::cbor::Writer;
use crate::limits::HEAD_TEXT_BYTES_MAX;
use crate::merkle::{self, Hash};

/// What a leaf says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafKind {
    /// A session opened; appended before its target is dialled.
    Open,
    /// A live session's chunks so far.
    Check,
    /// A recording was sealed or recovered.
    Seal,
}

impl LeafKind {
    /// `open`, `check` or `seal`.
    pub fn as_str(self) -> &'static str {
        match self {
            LeafKind::Open => "open",
            LeafKind::Check => "check",
            LeafKind::Seal => "seal",
        }
    }
}

/// The body of a ledger leaf about one recording. A verifier rebuilds it from the file alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLeaf {
    /// What happened.
    pub kind: LeafKind,
    /// The session.
    pub session_id: [u8; 16],
    /// SHA-256 of the HEAD frame.
    pub h0: Hash,
    /// RFC 6962 root over the chunks so far.
    pub root: Hash,
    /// Bytes of the main file so far.
    pub size: u64,
    /// Reason code of the end; empty for others.
    pub reason: String,
    /// Wall ms: the opening plus the time inside the session.
    pub at_wall_ms: u64,
}

impl LedgerLeaf {
    /// Deterministic CBOR of the body (FORMAT.md section 9.1).
    pub fn body(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.map(7);
        w.key(0).text(self.kind.as_str());
        w.key(1).bytes(&self.session_id);
        w.key(2).bytes(&self.h0);
        w.key(3).bytes(&self.root);
        w.key(4).uint(self.size);
        w.key(5).text(
            self.reason
                .get(..HEAD_TEXT_BYTES_MAX.min(self.reason.len()))
                .unwrap_or_default(),
        );
        w.key(6).uint(self.at_wall_ms);
        w.into_bytes()
    }

    /// The entry the log stores for it.
    pub fn entry(&self, salt: &[u8; 32]) -> Hash {
        entry(salt, &self.body())
    }

    /// The Merkle leaf hash of that entry.
    pub fn leaf_hash(&self, salt: &[u8; 32]) -> Hash {
        merkle::leaf_hash(&self.entry(salt))
    }
}

/// The salted hash of any body, which is all the log stores of it (FORMAT.md section 9.1).
pub fn entry(salt: &[u8; 32], body: &[u8]) -> Hash {
    let mut h = Sha256::new();
    h.update(b"portcullis-ledger/v1 entry\0");
    h.update(salt);
    h.update(body);
    h.finalize().into()
}
