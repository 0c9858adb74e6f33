//! Tails after the finished chunks, in order, and how far the session's keys vouch for them (FORMAT.md section 7.3).

use crate::columns::Content;
use crate::event::{Event, kind};
use crate::fault::Why;
use crate::frame::torn_stored_content;
use crate::keys::sha256;
use crate::reader::{ChunkInfo, ChunkKind, Place};
use crate::tail::inspect;

/// What the next tail must be like.
pub(crate) struct TailChain {
    index: u64,
    signer: [u8; 32],
    /// The key the next tail must have, where a leaf has named it.
    key: Option<[u8; 32]>,
    last_ms: u64,
    taken: usize,
    /// SHA-256 of the tail before, if a tail was before.
    previous: Option<[u8; 32]>,
    /// Something is missing or unsigned before this place: nothing behind it is vouched for.
    gap: bool,
    bytes: u64,
    vouched_bytes: u64,
    vouched_ms: u64,
}

impl TailChain {
    pub(crate) fn new(index: u64, signer: [u8; 32], key: [u8; 32], last_ms: u64) -> TailChain {
        TailChain {
            index,
            signer,
            key: Some(key),
            last_ms,
            taken: 0,
            previous: None,
            gap: false,
            bytes: 0,
            vouched_bytes: 0,
            vouched_ms: last_ms,
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn vouched_bytes(&self) -> u64 {
        self.vouched_bytes
    }

    pub(crate) fn vouched_ms(&self) -> u64 {
        self.vouched_ms
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Takes the next tail file's bytes. `stored_len` of the result says how many of them are good.
    pub(crate) fn take_tail(&mut self, bytes: &[u8]) -> Result<ChunkInfo, Why> {
        let seen = inspect(bytes, &self.signer)?;
        if seen.open.index != self.index || self.key.is_some_and(|key| key != seen.open.key) {
            return Err(Why::TailOrder);
        }
        if seen.open.base_ms < self.last_ms {
            return Err(Why::TimesBackwards);
        }
        if let Some(previous) = self.previous {
            if previous == seen.open.previous {
                // The key before has signed all of the tail before.
                if !self.gap {
                    (self.vouched_bytes, self.vouched_ms) = (self.bytes, self.last_ms);
                }
            } else {
                self.gap = true;
            }
        }
        if !self.gap && seen.vouched > 0 {
            (self.vouched_bytes, self.vouched_ms) = (self.bytes + seen.vouched as u64, seen.vouched_ms);
        }
        let info = ChunkInfo {
            kind: ChunkKind::Tail,
            index: self.index,
            first_ms: seen.first_ms,
            last_ms: seen.last_ms,
            raw_len: seen.kept as u64,
            stored_len: seen.kept as u64,
            events: seen.events,
            keyframe: false,
            vouched: !self.gap && seen.vouched == seen.kept,
            offset: 0,
            leaf_frame_len: 0,
            line_keys: true,
            sha256: seen.sha256,
            place: Place::File,
        };
        self.previous = Some(seen.sha256);
        self.signer = seen.open.key;
        self.took(seen.kept as u64, seen.last_ms);
        self.key = None;
        Ok(info)
    }

    /// Takes the whole blocks of a stored chunk whose leaf was never written. No key of the session vouches for it.
    pub(crate) fn take_torn(&mut self, bytes: &[u8]) -> Result<ChunkInfo, Why> {
        let key = self.key.filter(|_| self.taken == 0).ok_or(Why::TailOrder)?;
        let (content, stored_len) = torn_stored_content(bytes).ok_or(Why::Malformed("not a torn stored chunk"))?;
        let events = Content::new(&content)?;
        let first_ms = events.first_ms();
        if first_ms < self.last_ms {
            return Err(Why::TimesBackwards);
        }
        let (mut last_ms, mut count) = (first_ms, 0);
        for row in events.map_while(Result::ok) {
            if row.kind == kind::CHECK || Event::decode(row.kind, row.payload).is_err() {
                return Err(Why::Malformed("not a torn stored chunk"));
            }
            last_ms = row.at_ms;
            count += 1;
        }
        let info = ChunkInfo {
            kind: ChunkKind::TornStored,
            index: self.index,
            first_ms,
            last_ms,
            raw_len: content.len() as u64,
            stored_len: stored_len as u64,
            events: count,
            keyframe: false,
            vouched: false,
            offset: 0,
            leaf_frame_len: 0,
            line_keys: true,
            sha256: sha256(bytes.get(..stored_len).unwrap_or_default()),
            place: Place::File,
        };
        self.gap = true;
        self.previous = None;
        self.signer = key;
        self.took(stored_len as u64, last_ms);
        self.key = None;
        Ok(info)
    }

    fn took(&mut self, bytes: u64, last_ms: u64) {
        self.index += 1;
        self.taken += 1;
        self.bytes += bytes;
        self.last_ms = last_ms;
    }
}
