//! The LEAF: what the key of one epoch signs about its chunk (FORMAT.md section 3.4).

use crate::cbor::{Malformed, Reader, Writer};
use crate::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX, CHUNKS_MAX};

/// Flag: the chunk begins with at least one keyframe.
pub(crate) const FLAG_KEYFRAME: u64 = 1;
/// Flag: the chunk is stored in raw blocks.
pub(crate) const FLAG_STORED: u64 = 2;
/// Flag: the chunk holds keys of lines that other chunks hold.
pub(crate) const FLAG_LINE_KEYS: u64 = 4;
const FLAGS_KNOWN: u64 = FLAG_KEYFRAME | FLAG_STORED | FLAG_LINE_KEYS;

/// A LEAF's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkLeaf {
    pub(crate) index: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) raw_len: u64,
    pub(crate) stored_len: u64,
    pub(crate) event_count: u64,
    pub(crate) flags: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) previous: [u8; 32],
    pub(crate) next_key: [u8; 32],
}

impl ChunkLeaf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.map(10);
        w.key(0).uint(self.index);
        w.key(1).uint(self.first_ms);
        w.key(2).uint(self.last_ms);
        w.key(3).uint(self.raw_len);
        w.key(4).uint(self.stored_len);
        w.key(5).uint(self.event_count);
        w.key(6).uint(self.flags);
        w.key(7).bytes(&self.sha256);
        w.key(8).bytes(&self.previous);
        w.key(9).bytes(&self.next_key);
        w.into_bytes()
    }

    pub(crate) fn decode(statement: &[u8]) -> Result<ChunkLeaf, Malformed> {
        let mut r = Reader::new(statement);
        r.map(10)?;
        let leaf = ChunkLeaf {
            index: r.key(0)?.uint()?,
            first_ms: r.key(1)?.time()?,
            last_ms: r.key(2)?.time()?,
            raw_len: r.key(3)?.uint()?,
            stored_len: r.key(4)?.uint()?,
            event_count: r.key(5)?.uint()?,
            flags: r.key(6)?.uint()?,
            sha256: r.key(7)?.array_of()?,
            previous: r.key(8)?.array_of()?,
            next_key: r.key(9)?.array_of()?,
        };
        r.end()?;
        if leaf.index >= CHUNKS_MAX {
            return Err(Malformed("more chunks than the format holds"));
        }
        if leaf.raw_len > CHUNK_RAW_BYTES_MAX as u64 || leaf.stored_len > CHUNK_STORED_BYTES_MAX as u64 {
            return Err(Malformed("chunk over its bound"));
        }
        if leaf.event_count == 0 || leaf.event_count > leaf.raw_len {
            return Err(Malformed("impossible number of events"));
        }
        if leaf.flags & !FLAGS_KNOWN != 0 {
            return Err(Malformed("unknown flags"));
        }
        Ok(leaf)
    }
}
