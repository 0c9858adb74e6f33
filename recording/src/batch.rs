//! Events gathered in memory for one compressed chunk without a tail (FORMAT.md section 3.3).

use crate::chunk::{FLAG_KEYFRAME, FLAG_LINE_KEYS};
use crate::columns::encode_columns;
use crate::event::{Event, kind};
use crate::keys::sha256;
use crate::limits::{CHUNK_RAW_BYTES_MAX, SALT_BYTES, SALT_EVENT_BYTES, TIME_MS_MAX};
use crate::main_file::ChunkFacts;
use crate::ratchet::ChunkKeys;
use crate::rows::RawEvent;
use crate::segment::compressed;
use crate::writer::WriteError;

/// Bytes kept back for the columns' headers and the salt.
pub(crate) const COLUMNS_BYTES: usize = (1 << 6) + SALT_EVENT_BYTES;
/// Most bytes of one event's header in columns: dt, kind, channel, length.
pub(crate) const HEADER_BYTES_MAX: usize = 7 + 1 + 5 + 4;

/// Events waiting to become one chunk. None of them is *taken* before the chunk's bytes are in the main file.
#[derive(Debug, Default)]
pub struct Batch {
    payloads: Vec<u8>,
    events: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    at_ms: u64,
    channel: u32,
    kind: u8,
    len: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// About how many raw bytes the chunk will have.
    pub fn raw_len(&self) -> usize {
        COLUMNS_BYTES + self.payloads.len() + self.events.len() * HEADER_BYTES_MAX
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = u8> {
        self.events.iter().map(|event| event.kind)
    }

    /// Adds an event.
    pub fn push(&mut self, at_ms: u64, channel: u32, event: &Event<'_>) -> Result<(), WriteError> {
        if at_ms > TIME_MS_MAX {
            return Err(WriteError::Time);
        }
        let payload = event.payload()?;
        if self.raw_len() + HEADER_BYTES_MAX + payload.len() > CHUNK_RAW_BYTES_MAX {
            return Err(WriteError::ChunkFull);
        }
        let at_ms = self.events.last().map_or(at_ms, |last| last.at_ms.max(at_ms));
        self.payloads.extend_from_slice(&payload);
        self.events.push(Entry {
            at_ms,
            channel,
            kind: event.kind(),
            len: payload.len(),
        });
        Ok(())
    }

    /// The chunk's frame with `salt` at its end, what its leaf says, and the hash of the last Accounts payload if there is one.
    #[expect(clippy::type_complexity, reason = "one caller; a struct would only repeat its names")]
    pub(crate) fn encode(
        self,
        last_ms: u64,
        level: i32,
        keys: Option<&ChunkKeys>,
        salt: &[u8; SALT_BYTES],
    ) -> Result<(Vec<u8>, ChunkFacts, Option<[u8; 32]>), WriteError> {
        let mut events = Vec::with_capacity(self.events.len() + 1);
        let mut rest = self.payloads.as_slice();
        let mut accounts = None;
        let mut flags = 0;
        for e in &self.events {
            let (payload, after) = rest.split_at_checked(e.len).unwrap_or_default();
            rest = after;
            match e.kind {
                kind::KEYFRAME if events.is_empty() => flags |= FLAG_KEYFRAME,
                kind::LINE_KEY => flags |= FLAG_LINE_KEYS,
                kind::ACCOUNTS => accounts = Some(sha256(payload)),
                _ => {}
            }
            events.push(RawEvent {
                at_ms: e.at_ms.max(last_ms),
                channel: e.channel,
                kind: e.kind,
                payload,
            });
        }
        let first_ms = events.first().ok_or(WriteError::Empty)?.at_ms;
        let last_ms = events.last().map_or(first_ms, |e| e.at_ms);
        events.push(RawEvent::salt(last_ms, salt));
        let raw = encode_columns(&events);
        let (frame, facts) = compressed(&raw, level, (first_ms, last_ms), events.len() as u64, flags, keys)?;
        Ok((frame, facts, accounts))
    }
}
