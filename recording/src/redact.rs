//! Makes redacted copies (FORMAT.md section 3.8): everything of the original verbatim but the chunks that are replaced.
//! The original is never written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom, Write};

use crate::chunk::{FLAG_KEYFRAME, FLAG_LINE_KEYS};
use crate::columns::encode_columns;
use crate::event::{Event, PayloadError, Timed, kind, since};
use crate::fault::{Fault, Why};
use crate::frame::{Skip, seek_table};
use crate::keys::{Domain, SIGNATURE_BYTES, sha256};
use crate::limits::{HEAD_TEXT_BYTES_MAX, SALT_BYTES, TIME_MS_MAX};
use crate::reader::ChunkInfo;
use crate::redaction::{MARK, Redaction, Replaced, frame};
use crate::rows::RawEvent;
use crate::segment::compressed;
use crate::verified::Verified;
use crate::writer::WriteError;

/// Bytes copied at a time.
const RANGE_BYTES_MAX: u64 = 1 << 20;

/// Why no copy was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    /// Nothing is to be replaced.
    #[error("nothing to redact")]
    Nothing,
    /// A spool: it has no seal that a copy could name.
    #[error("not a finished recording")]
    NotFinished,
    /// An encrypted recording (FORMAT.md section 3.8).
    #[error("an encrypted recording cannot be redacted")]
    Encrypted,
    /// A tail of a recovered recording, whose node signed all of its bytes; or no chunk at all.
    #[error("chunk {0} is no finished chunk and cannot be replaced")]
    NotAChunk(u64),
    /// The events do not begin and end where the chunk's do.
    #[error("the events are not from {first_ms} ms to {last_ms} ms")]
    Times {
        /// When the chunk begins.
        first_ms: u64,
        /// When it ends.
        last_ms: u64,
    },
    /// No marker says that something was there.
    #[error("no marker that begins with `{MARK}`")]
    Unmarked,
    /// An event the format cannot hold.
    #[error(transparent)]
    Event(#[from] PayloadError),
    /// The events do not fit one chunk.
    #[error(transparent)]
    Chunk(#[from] WriteError),
    /// Name or reason too long, or a time over its bound.
    #[error("name, reason or time do not fit the format")]
    Words,
    /// The signature does not verify under the redactor's key.
    #[error("the redactor's signature does not verify")]
    Signature,
    /// The original could not be read, or is no longer what was verified.
    #[error(transparent)]
    Original(#[from] Fault),
    /// The copy could not be written.
    #[error("the copy cannot be written: {0}")]
    Write(String),
}

/// Who redacts, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redactor {
    /// Ed25519 key that will sign.
    pub key: [u8; 32],
    /// What the redactor is called.
    pub name: String,
    /// When, in wall ms.
    pub at_wall_ms: u64,
    /// Why, in words.
    pub reason: String,
}

/// A chunk that was made anew.
pub struct Replacement {
    replaced: Replaced,
    frame: Vec<u8>,
    kinds: BTreeSet<u8>,
}

impl Replacement {
    /// Puts `events` in the place of a chunk's. The first must be at its first time and none after its last one; `salt`,
    /// 16 bytes nobody can guess, ends it. At least one event must be a marker that begins with [`MARK`].
    pub fn new(
        info: &ChunkInfo,
        events: &[Timed<'_>],
        salt: &[u8; SALT_BYTES],
        level: i32,
    ) -> Result<Replacement, RedactError> {
        if !info.kind.is_finished() {
            return Err(RedactError::NotAChunk(info.index));
        }
        let times = RedactError::Times {
            first_ms: info.first_ms,
            last_ms: info.last_ms,
        };
        let within = events.iter().all(|timed| timed.at_ms <= info.last_ms);
        let forward = events.is_sorted_by_key(|timed| timed.at_ms);
        if !within || !forward || events.first().is_none_or(|timed| timed.at_ms != info.first_ms) {
            return Err(times);
        }
        let marks = events.iter().filter(|timed| is_mark(&timed.event)).count() as u64;
        if marks == 0 {
            return Err(RedactError::Unmarked);
        }
        let payloads = events.iter().map(|timed| timed.event.payload());
        let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
        let mut rows: Vec<RawEvent<'_>> = (events.iter().zip(&payloads))
            .map(|(timed, payload)| RawEvent {
                at_ms: timed.at_ms,
                channel: timed.channel,
                kind: timed.event.kind(),
                payload,
            })
            .collect();
        rows.push(RawEvent::salt(info.last_ms, salt));
        let mut flags = 0;
        if rows.first().is_some_and(|row| row.kind == kind::KEYFRAME) {
            flags |= FLAG_KEYFRAME;
        }
        if rows.iter().any(|row| row.kind == kind::LINE_KEY) {
            flags |= FLAG_LINE_KEYS;
        }
        let raw = encode_columns(&rows);
        let (frame, facts) = compressed(
            &raw,
            level,
            (info.first_ms, info.last_ms),
            rows.len() as u64,
            flags,
            None,
        )?;
        Ok(Replacement {
            replaced: Replaced {
                index: info.index,
                sha256: facts.sha256,
                raw_len: facts.raw_len,
                stored_len: facts.stored_len,
                events: facts.event_count,
                flags,
                marks,
            },
            frame,
            kinds: rows.iter().map(|row| row.kind).collect(),
        })
    }

    /// Index of the chunk it stands for.
    pub fn index(&self) -> u64 {
        self.replaced.index
    }

    /// Bytes as stored.
    pub fn stored_len(&self) -> u64 {
        self.replaced.stored_len
    }
}

/// Whether an event tells that something was redacted.
pub fn is_mark(event: &Event<'_>) -> bool {
    matches!(event, Event::Marker { text } if text.starts_with(MARK))
}

/// A copy that the redactor has not signed yet.
pub struct Unsigned<'v, R> {
    original: &'v mut Verified<R>,
    redaction: Redaction,
    frames: BTreeMap<u64, Vec<u8>>,
}

impl<R: Read + Seek> Verified<R> {
    /// Begins a copy in which these chunks are replaced. What an earlier redactor has replaced and this one does not stays
    /// replaced, and is marked as such.
    pub fn redact(&mut self, by: Redactor, replacements: Vec<Replacement>) -> Result<Unsigned<'_, R>, RedactError> {
        if by.name.len() > HEAD_TEXT_BYTES_MAX || by.reason.len() > HEAD_TEXT_BYTES_MAX || by.at_wall_ms > TIME_MS_MAX {
            return Err(RedactError::Words);
        }
        if self.head().is_encrypted() {
            return Err(RedactError::Encrypted);
        }
        if replacements.is_empty() {
            return Err(RedactError::Nothing);
        }
        let former = self.redaction().map_or(Vec::new(), |former| former.replaced.clone());
        let mut replaced: BTreeMap<u64, Replaced> = former.into_iter().map(|r| (r.index, r)).collect();
        let mut frames = BTreeMap::new();
        for replacement in replacements {
            let index = replacement.index();
            let known = self.chunks().iter().find(|info| info.index == index);
            if known.is_none_or(|info| !info.kind.is_finished()) {
                return Err(RedactError::NotAChunk(index));
            }
            let version = self.head().version;
            if let Some(kind) = replacement.kinds.into_iter().find(|kind| since(*kind) > version) {
                return Err(PayloadError::UnknownKind(kind).into());
            }
            replaced.insert(index, replacement.replaced);
            frames.insert(index, replacement.frame);
        }
        let reading = self.reading_mut();
        let layout = reading.layout.as_ref().ok_or(RedactError::NotFinished)?;
        let redaction = Redaction {
            h0: reading.h0,
            seal_sha256: layout.seal_sha256,
            key: by.key,
            name: by.name,
            at_wall_ms: by.at_wall_ms,
            reason: by.reason,
            replaced: replaced.into_values().collect(),
        };
        Ok(Unsigned {
            original: self,
            redaction,
            frames,
        })
    }
}

impl<R: Read + Seek> Unsigned<'_, R> {
    /// What the redactor's key must sign.
    pub fn statement(&self) -> Vec<u8> {
        Domain::Redaction.message(&self.redaction.encode())
    }

    /// Writes the copy: HEAD and REDACTION, the chunks as they now are with their leaves, and the end.
    pub fn write(self, signature: &[u8; SIGNATURE_BYTES], out: &mut impl Write) -> Result<(), RedactError> {
        if !self.redaction.signed(signature) {
            return Err(RedactError::Signature);
        }
        let reading = self.original.reading_mut();
        let layout = reading.layout.clone().ok_or(RedactError::NotFinished)?;
        let redaction_frame = frame(self.redaction.encode(), signature);
        let table = seek_table(&self.redaction.frames(&layout.frames, redaction_frame.len() as u64));
        let chunks = reading.chunks.clone();
        let finished = || chunks.iter().filter(|info| info.kind.is_finished());
        let head_len = reading.head_frame_len;
        let rest_at = finished()
            .next_back()
            .map_or(head_len, |info| info.offset + info.stored_len + info.leaf_frame_len);

        let mut copy = Copying {
            from: reading.reader_mut(),
            out,
        };
        copy.range(0, head_len)?;
        copy.bytes(&redaction_frame)?;
        for info in finished() {
            match self.frames.get(&info.index) {
                Some(frame) => copy.bytes(frame)?,
                None => copy.chunk(info)?,
            }
            copy.range(info.offset + info.stored_len, info.leaf_frame_len)?;
        }
        let rest_len = layout.seek_table_at.saturating_sub(rest_at);
        copy.range(rest_at, rest_len)?;
        copy.bytes(&Skip::SeekTable.frame(&table))
    }
}

/// From the original to the copy.
struct Copying<'c, R, W> {
    from: &'c mut R,
    out: &'c mut W,
}

impl<R: Read + Seek, W: Write> Copying<'_, R, W> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), RedactError> {
        self.out.write_all(bytes).map_err(|e| RedactError::Write(e.to_string()))
    }

    fn range(&mut self, mut at: u64, mut len: u64) -> Result<(), RedactError> {
        while len > 0 {
            let bytes = self.read(at, len.min(RANGE_BYTES_MAX))?;
            self.bytes(&bytes)?;
            at += bytes.len() as u64;
            len -= bytes.len() as u64;
        }
        Ok(())
    }

    /// A chunk that stays, whose bytes must still be those that were verified.
    fn chunk(&mut self, info: &ChunkInfo) -> Result<(), RedactError> {
        let bytes = self.read(info.offset, info.stored_len)?;
        if sha256(&bytes) != info.sha256 {
            return Err(info.fault(Why::ChunkHash).into());
        }
        self.bytes(&bytes)
    }

    fn read(&mut self, at: u64, len: u64) -> Result<Vec<u8>, RedactError> {
        let fault = |why: Why| Fault::at(at, why);
        let mut bytes = Vec::new();
        self.from.seek(SeekFrom::Start(at)).map_err(|e| fault(e.into()))?;
        let read = (&mut *self.from)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|e| fault(e.into()))?;
        if read as u64 == len {
            Ok(bytes)
        } else {
            Err(fault(Why::Truncated).into())
        }
    }
}
