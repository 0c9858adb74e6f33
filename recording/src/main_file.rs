//! What there is to know about a main file without its bytes: kept by the writer, recomputed by the verifier.

use crate::bytes::put_varint;
use crate::chunk::{ChunkLeaf, FLAG_STORED};
use crate::fault::Why;
use crate::frame::{SKIP_HEADER_BYTES, Skip, seek_table};
use crate::head::{Head, Version};
use crate::keys::{Domain, EpochKey, sha256};
use crate::leaf::{LeafKind, LedgerLeaf};
use crate::limits::CHUNKS_MAX;
use crate::merkle::{self, Range};
use crate::seal::{Seal, SealKind};

/// The state of a recording's main file: what is in it, where it ends, what must come next.
///
/// Chunks are appended in order; the bytes each call returns go to the end of the file before the next call.
#[derive(Debug, Clone)]
pub struct Main {
    h0: [u8; 32],
    session_id: [u8; 16],
    opened_wall_ms: u64,
    version: Version,
    encrypted: bool,
    offset: u64,
    frames: Vec<(u32, u32)>,
    tree: Range,
    index: Vec<u8>,
    indexed_offset: u64,
    indexed_ms: u64,
    previous: [u8; 32],
    raw_bytes: u64,
    events: u64,
    last_ms: u64,
}

/// What is known of a chunk's content before its leaf is made.
pub(crate) struct ChunkFacts {
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) raw_len: u64,
    pub(crate) stored_len: u64,
    pub(crate) event_count: u64,
    pub(crate) flags: u64,
    pub(crate) sha256: [u8; 32],
}

impl Main {
    /// A main file that holds its HEAD frame only.
    pub(crate) fn new(head: &Head, head_frame: &[u8]) -> Main {
        let h0 = sha256(head_frame);
        let mut main = Main {
            h0,
            session_id: head.session_id,
            opened_wall_ms: head.opened_wall_ms,
            version: head.version,
            encrypted: head.is_encrypted(),
            offset: 0,
            frames: Vec::new(),
            tree: Range::default(),
            index: Vec::new(),
            indexed_offset: 0,
            indexed_ms: 0,
            previous: h0,
            raw_bytes: 0,
            events: 0,
            last_ms: 0,
        };
        main.took_frame(head_frame.len() as u64, 0);
        main
    }

    /// Bytes of the file so far, which is where the next ones go.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Finished chunks so far; the index of the next one.
    pub fn chunks(&self) -> u64 {
        self.tree.size()
    }

    /// Time of the last event in a finished chunk.
    pub fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// RFC 6962 root over the finished chunks.
    pub fn root(&self) -> merkle::Hash {
        self.tree.root()
    }

    /// The ledger's checkpoint leaf of the recording as it is now (FORMAT.md section 9.1).
    pub fn check_leaf(&self) -> LedgerLeaf {
        LedgerLeaf {
            kind: LeafKind::Check,
            session_id: self.session_id,
            h0: self.h0,
            root: self.root(),
            size: self.offset,
            reason: String::new(),
            at_wall_ms: self.opened_wall_ms.saturating_add(self.last_ms),
        }
    }

    pub(crate) fn h0(&self) -> [u8; 32] {
        self.h0
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Whether its chunks are encrypted, as its head says.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(crate) fn head_frame_len(&self) -> u64 {
        self.frames.first().map_or(0, |(stored, _)| u64::from(*stored))
    }

    pub(crate) fn index_content(&self) -> &[u8] {
        &self.index
    }

    pub(crate) fn seek_table_content(&self) -> Vec<u8> {
        seek_table(&self.frames)
    }

    /// Stored and raw bytes of every frame so far.
    pub(crate) fn frames(&self) -> &[(u32, u32)] {
        &self.frames
    }

    /// A frame was appended or read.
    pub(crate) fn took_frame(&mut self, stored: u64, raw: u64) {
        self.frames.push((stored as u32, raw as u32));
        self.offset += stored;
    }

    /// Forgets frames behind the last finished chunk; where that ends.
    pub(crate) fn rewind(&mut self) -> u64 {
        let finished = 1 + 2 * self.chunks() as usize;
        for (stored, _) in self.frames.drain(finished.min(self.frames.len())..) {
            self.offset -= u64::from(stored);
        }
        self.offset
    }

    /// Checks that a leaf is the one that must come now for a chunk of these stored bytes (FORMAT.md section 3.4).
    pub(crate) fn expect(&self, leaf: &ChunkLeaf, stored_len: u64, sha256: &[u8; 32]) -> Result<(), Why> {
        if leaf.index != self.chunks() {
            return Err(Why::LeafIndex {
                expected: self.chunks(),
                found: leaf.index,
            });
        }
        if leaf.previous != self.previous {
            return Err(Why::LeafPrevious);
        }
        if leaf.stored_len != stored_len {
            return Err(Why::ChunkLength);
        }
        if leaf.sha256 != *sha256 {
            return Err(Why::ChunkHash);
        }
        if leaf.first_ms < self.last_ms || leaf.last_ms < leaf.first_ms {
            return Err(Why::TimesBackwards);
        }
        Ok(())
    }

    /// A chunk and its leaf were appended or read.
    pub(crate) fn took_chunk(&mut self, leaf: &ChunkLeaf, statement: &[u8], leaf_frame_len: u64) {
        put_varint(&mut self.index, self.offset - self.indexed_offset);
        put_varint(&mut self.index, leaf.first_ms - self.indexed_ms);
        self.index.push(leaf.flags as u8);
        (self.indexed_offset, self.indexed_ms) = (self.offset, leaf.first_ms);
        self.previous = merkle::leaf_hash(statement);
        self.tree.append(self.previous, |_, _, _| {});
        self.raw_bytes += leaf.raw_len;
        self.events += leaf.event_count;
        self.last_ms = leaf.last_ms;
        // A skippable frame decompresses to nothing.
        self.took_frame(leaf.stored_len, if self.encrypted { 0 } else { leaf.raw_len });
        self.took_frame(leaf_frame_len, 0);
    }

    /// Signs the leaf of the next chunk, whose bytes go right before it. Gives the leaf frame and the leaf's hash, or
    /// `None` if the format holds no more chunks.
    pub(crate) fn append(
        &mut self,
        facts: &ChunkFacts,
        key: &EpochKey,
        next_key: [u8; 32],
    ) -> Option<(Vec<u8>, [u8; 32])> {
        if self.chunks() >= CHUNKS_MAX {
            return None;
        }
        let leaf = ChunkLeaf {
            index: self.chunks(),
            first_ms: facts.first_ms,
            last_ms: facts.last_ms,
            raw_len: facts.raw_len,
            stored_len: facts.stored_len,
            event_count: facts.event_count,
            flags: facts.flags,
            sha256: facts.sha256,
            previous: self.previous,
            next_key,
        };
        debug_assert!(
            self.expect(&leaf, facts.stored_len, &facts.sha256).is_ok(),
            "the writer keeps its own rules"
        );
        debug_assert!(leaf.flags & FLAG_STORED != 0 || leaf.raw_len > 0, "a chunk has content");
        let statement = leaf.encode();
        let frame = Skip::Leaf.frame(&key.signed(Domain::Leaf, statement.clone()));
        self.took_chunk(&leaf, &statement, frame.len() as u64);
        Some((frame, self.previous))
    }

    /// The seal's statement for the file as it is.
    pub(crate) fn seal(&self, closed_ms: u64, (code, text): (&str, &str), accounts: [u8; 32], kind: SealKind) -> Seal {
        Seal {
            h0: self.h0,
            chunks: self.chunks(),
            raw_bytes: self.raw_bytes,
            events: self.events,
            root: self.root(),
            closed_ms,
            code: code.to_owned(),
            text: text.to_owned(),
            index_sha256: sha256(&self.index),
            accounts_sha256: accounts,
            kind,
        }
    }

    /// The INDEX frame.
    pub(crate) fn index_frame(&mut self) -> Vec<u8> {
        let frame = Skip::Index.frame(&self.index);
        self.took_frame(frame.len() as u64, 0);
        frame
    }

    /// The SEAL frame around a signed statement, and the seek table.
    pub(crate) fn end_frames(&mut self, signed_seal: &[u8]) -> Vec<u8> {
        let mut out = Skip::Seal.frame(signed_seal);
        self.took_frame(out.len() as u64, 0);
        let table = Skip::SeekTable.frame(&self.seek_table_content());
        self.offset += table.len() as u64;
        debug_assert!(table.len() >= SKIP_HEADER_BYTES, "a frame has a header");
        out.extend_from_slice(&table);
        out
    }
}
