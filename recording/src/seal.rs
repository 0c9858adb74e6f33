//! The SEAL: the last word about a recording (FORMAT.md section 3.6).

use crate::cbor::{self, Malformed};
use crate::frame::Skip;
use crate::head::Head;
use crate::leaf::{LeafKind, LedgerLeaf};
use crate::limits::HEAD_TEXT_BYTES_MAX;

/// What the SEAL frame states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// SHA-256 of the HEAD frame.
    pub h0: [u8; 32],
    /// Finished chunks.
    pub chunks: u64,
    /// Raw bytes of all of them.
    pub raw_bytes: u64,
    /// Events of all of them, keyframes included.
    pub events: u64,
    /// RFC 6962 root over the chunk leaves.
    pub root: [u8; 32],
    /// When the session closed.
    pub closed_ms: u64,
    /// Stable reason code.
    pub code: String,
    /// The reason in words.
    pub text: String,
    /// SHA-256 of the INDEX frame's content.
    pub index_sha256: [u8; 32],
    /// SHA-256 of the last Accounts payload, or zeros.
    pub accounts_sha256: [u8; 32],
    /// Sealed by the session, or recovered by a node.
    pub kind: SealKind,
}

/// Who sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealKind {
    /// The session's last key: nothing is missing.
    Sealed,
    /// A node after a crash, stating how far the session's own keys vouch.
    Recovered {
        /// Chunks the session signed: all of them.
        vouched_chunks: u64,
        /// Bytes of the tails that the session signed, counted from the first tail's start without a gap.
        vouched_tail_bytes: u64,
        /// Time up to which it vouches.
        vouched_ms: u64,
        /// SHA-256 of all TAIL frames, one after the other.
        tails_sha256: [u8; 32],
        /// The node key that sealed.
        node_key: [u8; 32],
    },
}

impl Seal {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = cbor::Writer::default();
        w.map(if self.kind == SealKind::Sealed { 11 } else { 16 });
        w.key(0).uint(u64::from(self.kind != SealKind::Sealed));
        w.key(1).bytes(&self.h0);
        w.key(2).uint(self.chunks);
        w.key(3).uint(self.raw_bytes);
        w.key(4).uint(self.events);
        w.key(5).bytes(&self.root);
        w.key(6).uint(self.closed_ms);
        w.key(7).text(&self.code);
        w.key(8).text(&self.text);
        w.key(9).bytes(&self.index_sha256);
        w.key(10).bytes(&self.accounts_sha256);
        if let SealKind::Recovered {
            vouched_chunks,
            vouched_tail_bytes,
            vouched_ms,
            tails_sha256,
            node_key,
        } = &self.kind
        {
            w.key(11).uint(*vouched_chunks);
            w.key(12).uint(*vouched_tail_bytes);
            w.key(13).uint(*vouched_ms);
            w.key(14).bytes(tails_sha256);
            w.key(15).bytes(node_key);
        }
        w.into_bytes()
    }

    pub(crate) fn decode(statement: &[u8]) -> Result<Seal, Malformed> {
        // The first byte tells how many fields there are, and the kind must agree with it.
        let recovered = statement.first() == Some(&0xB0);
        let mut r = cbor::Reader::new(statement);
        r.map(if recovered { 16 } else { 11 })?;
        if r.key(0)?.uint()? != u64::from(recovered) {
            return Err(Malformed("seal of an unknown kind"));
        }
        let mut seal = Seal {
            h0: r.key(1)?.array_of()?,
            chunks: r.key(2)?.uint()?,
            raw_bytes: r.key(3)?.uint()?,
            events: r.key(4)?.uint()?,
            root: r.key(5)?.array_of()?,
            closed_ms: r.key(6)?.time()?,
            code: r.key(7)?.text(HEAD_TEXT_BYTES_MAX)?.to_owned(),
            text: r.key(8)?.text(HEAD_TEXT_BYTES_MAX)?.to_owned(),
            index_sha256: r.key(9)?.array_of()?,
            accounts_sha256: r.key(10)?.array_of()?,
            kind: SealKind::Sealed,
        };
        if recovered {
            seal.kind = SealKind::Recovered {
                vouched_chunks: r.key(11)?.uint()?,
                vouched_tail_bytes: r.key(12)?.uint()?,
                vouched_ms: r.key(13)?.time()?,
                tails_sha256: r.key(14)?.array_of()?,
                node_key: r.key(15)?.array_of()?,
            };
        }
        r.end()?;
        Ok(seal)
    }
}

/// Proof that a recording was sealed or recovered, or was verified to be: what the ledger takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    head: Head,
    seal: Seal,
    file_bytes: u64,
}

impl Sealed {
    pub(crate) fn new(head: Head, seal: Seal, file_bytes: u64) -> Sealed {
        Sealed { head, seal, file_bytes }
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its seal.
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The ledger leaf of the seal.
    pub fn leaf(&self) -> LedgerLeaf {
        LedgerLeaf {
            kind: LeafKind::Seal,
            session_id: self.head.session_id,
            h0: self.seal.h0,
            root: self.seal.root,
            size: self.file_bytes,
            reason: self.seal.code.clone(),
            at_wall_ms: self.head.opened_wall_ms.saturating_add(self.seal.closed_ms),
        }
    }

    /// The ledger leaf of its opening, as [`crate::Writer::open_leaf`] gave it.
    pub fn open_leaf(&self) -> LedgerLeaf {
        // The HEAD frame holds the statement and a signature, nothing else.
        let frame = Skip::Head.frame(&[self.head.encode(), vec![0; 64]].concat());
        open_leaf(&self.head, self.seal.h0, frame.len() as u64)
    }

    /// The entry the log stores for that leaf.
    pub fn entry(&self) -> [u8; 32] {
        self.leaf().entry(&self.head.salt)
    }
}

/// The ledger leaf of an opening.
pub(crate) fn open_leaf(head: &Head, h0: [u8; 32], head_frame_bytes: u64) -> LedgerLeaf {
    LedgerLeaf {
        kind: LeafKind::Open,
        session_id: head.session_id,
        h0,
        root: crate::merkle::empty_root(),
        size: head_frame_bytes,
        reason: String::new(),
        at_wall_ms: head.opened_wall_ms,
    }
}
