//! A closed tail on its way to becoming a chunk (FORMAT.md sections 3.3 and 6.3).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::batch::{COLUMNS_BYTES, HEADER_BYTES_MAX};
use crate::chunk::{FLAG_KEYFRAME, FLAG_LINE_KEYS};
use crate::columns::encode_columns;
use crate::event::{Event, PayloadError, Timed, kind, since};
use crate::fault::Why;
use crate::frame::{Skip, compress};
use crate::head::Version;
use crate::keys::{EpochKey, sha256};
use crate::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX, KEYFRAMES_BYTES_MAX};
use crate::line::LineCipher;
use crate::main_file::{ChunkFacts, Main};
use crate::ratchet::ChunkKeys;
use crate::rows::RawEvent;
use crate::tail;
use crate::writer::WriteError;

/// A closed tail with the key of its epoch. Encoding it consumes the key; dropping it wipes the key as well, and then
/// no chunk can follow.
pub struct Segment {
    pub(crate) h0: [u8; 32],
    pub(crate) version: Version,
    pub(crate) index: u64,
    pub(crate) key: EpochKey,
    /// Of an encrypted recording.
    pub(crate) keys: Option<ChunkKeys>,
    pub(crate) next_key: [u8; 32],
    pub(crate) sha256: [u8; 32],
    pub(crate) len: u64,
}

/// What a chunk has besides the events of its tail.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'e> {
    /// The screens at the start of this segment, put before the events; those over `KEYFRAMES_BYTES_MAX` in sum are left out.
    pub keyframes: &'e [(u32, Event<'e>)],
    /// What was read off the events and is put behind them, at the time of the last; those for which the chunk has no room
    /// are left out.
    pub behind: &'e [(u32, Event<'e>)],
}

impl Segment {
    /// Index of the chunk it becomes; names its tail file.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Bytes of its tail file.
    pub fn tail_len(&self) -> u64 {
        self.len
    }

    /// The tail's bytes, read back as they lie in its file, in clear.
    pub fn read<'t>(&self, tail_bytes: &'t [u8]) -> Result<TailText<'t>, WriteError> {
        if tail_bytes.len() as u64 != self.len || sha256(tail_bytes) != self.sha256 {
            return Err(WriteError::TailDiffers);
        }
        let clear = match &self.keys {
            None => Cow::Borrowed(tail_bytes),
            Some(keys) => match tail::in_clear(tail_bytes, keys) {
                Ok((clear, None)) => Cow::Owned(clear),
                Ok((_, Some(_))) | Err(_) => return Err(WriteError::TailDiffers),
            },
        };
        Ok(TailText {
            clear,
            sha256: self.sha256,
        })
    }

    /// Re-encodes the tail as its final chunk: released lines in clear, hidden lines as one blob, columns, one zstd
    /// frame at `level`, with what is `around` them; encrypted if the recording is. Gives the chunk and its leaf, to be
    /// appended to the main file; once they are durable there, the tail file can go.
    pub fn encode(
        self,
        tail_bytes: &[u8],
        around: Around<'_>,
        level: i32,
        main: &mut Main,
    ) -> Result<Vec<u8>, WriteError> {
        let text = self.read(tail_bytes)?;
        self.encode_read(&text, around, level, main)
    }

    /// [`Segment::encode`] of what [`Segment::read`] gave of this segment's tail.
    pub fn encode_read(
        self,
        text: &TailText<'_>,
        around: Around<'_>,
        level: i32,
        main: &mut Main,
    ) -> Result<Vec<u8>, WriteError> {
        if text.sha256 != self.sha256 {
            return Err(WriteError::TailDiffers);
        }
        if main.h0() != self.h0 {
            return Err(WriteError::OtherSession);
        }
        if main.chunks() != self.index {
            return Err(WriteError::OutOfOrder {
                index: main.chunks(),
                wanted: self.index,
            });
        }
        let rows = rows(&text.clear)?;
        let lines = Lines::of(&rows);
        let kept = lines.settle(&rows);
        let first_ms = kept.first().ok_or(WriteError::Empty)?.at_ms;
        let last_ms = kept.last().map_or(first_ms, |e| e.at_ms);
        let screens = encode_keyframes(around.keyframes)?;
        let behind = self.encode_behind(around.behind, &screens, &kept)?;

        let mut events = Vec::with_capacity(screens.len() + kept.len());
        for (channel, payload) in &screens {
            events.push(RawEvent {
                at_ms: first_ms,
                channel: *channel,
                kind: kind::KEYFRAME,
                payload,
            });
        }
        events.extend(kept.iter().map(Settled::raw));
        events.extend(behind.iter().map(|(channel, kind, payload)| RawEvent {
            at_ms: last_ms,
            channel: *channel,
            kind: *kind,
            payload,
        }));
        let salt = self.key.salt();
        events.push(RawEvent::salt(last_ms, &salt));
        let raw = encode_columns(&events);
        let line_keys = events.iter().any(|e| e.kind == kind::LINE_KEY);
        let begins_with_keyframe = events.first().is_some_and(|e| e.kind == kind::KEYFRAME);
        let mut flags = if begins_with_keyframe { FLAG_KEYFRAME } else { 0 };
        if line_keys {
            flags |= FLAG_LINE_KEYS;
        }
        let (frame, facts) = compressed(
            &raw,
            level,
            (first_ms, last_ms),
            events.len() as u64,
            flags,
            self.keys.as_ref(),
        )?;
        let (leaf, _) = main
            .append(&facts, &self.key, self.next_key)
            .ok_or(WriteError::TooManyChunks)?;
        Ok([frame, leaf].concat())
    }

    /// As many of them as the chunk has room for.
    fn encode_behind(
        &self,
        events: &[(u32, Event<'_>)],
        screens: &[(u32, Vec<u8>)],
        kept: &[Settled<'_>],
    ) -> Result<Vec<(u32, u8, Vec<u8>)>, WriteError> {
        let before = screens.iter().map(|(_, payload)| payload.len());
        let before = before.chain(kept.iter().map(|event| event.payload.len()));
        let full: usize = COLUMNS_BYTES + before.map(|bytes| bytes + HEADER_BYTES_MAX).sum::<usize>();
        let mut room = CHUNK_RAW_BYTES_MAX.saturating_sub(full);
        let mut behind = Vec::new();
        for (channel, event) in events {
            let kind = event.kind();
            if since(kind) > self.version {
                return Err(PayloadError::UnknownKind(kind).into());
            }
            let payload = event.payload()?;
            let Some(left) = room.checked_sub(payload.len() + HEADER_BYTES_MAX) else {
                break;
            };
            room = left;
            behind.push((*channel, kind, payload.into_owned()));
        }
        Ok(behind)
    }
}

/// The bytes of a closed tail in clear, checked to be those that were written.
pub struct TailText<'t> {
    clear: Cow<'t, [u8]>,
    /// Of the tail as it lies in its file.
    sha256: [u8; 32],
}

impl TailText<'_> {
    /// The events of this segment, in order and as they lie in the tail: lines of input under their keys. What is read off
    /// them gives the keyframes of the chunk after this one and what stands behind the events of this one.
    pub fn events(&self) -> Result<impl Iterator<Item = Timed<'_>>, WriteError> {
        Ok(rows(&self.clear)?.into_iter().filter_map(|row| {
            let event = decode(row.kind, row.payload).ok()??;
            Some(Timed {
                at_ms: row.at_ms,
                channel: row.channel,
                event,
            })
        }))
    }
}

/// A payload that this crate has written just now.
fn decode(kind: u8, payload: &[u8]) -> Result<Option<Event<'_>>, PayloadError> {
    Event::decode(Version::LATEST, kind, payload)
}

fn rows(clear: &[u8]) -> Result<Vec<RawEvent<'_>>, WriteError> {
    let rows = tail::rows(clear).map_err(|_: Why| WriteError::TailDiffers)?;
    rows.collect::<Result<Vec<_>, _>>().map_err(|_| WriteError::TailDiffers)
}

/// One zstd frame around a chunk's content, encrypted if there are `keys`, with what its leaf will say.
pub(crate) fn compressed(
    raw: &[u8],
    level: i32,
    (first_ms, last_ms): (u64, u64),
    event_count: u64,
    flags: u64,
    keys: Option<&ChunkKeys>,
) -> Result<(Vec<u8>, ChunkFacts), WriteError> {
    if raw.len() > CHUNK_RAW_BYTES_MAX {
        return Err(WriteError::ChunkFull);
    }
    let mut frame = compress(raw, level).map_err(|e| WriteError::Compress(e.to_string()))?;
    if let Some(keys) = keys {
        frame = Skip::Encrypted.frame(&keys.seal_chunk(&frame).ok_or(WriteError::ChunkFull)?);
    }
    if frame.len() > CHUNK_STORED_BYTES_MAX {
        return Err(WriteError::ChunkFull);
    }
    let facts = ChunkFacts {
        first_ms,
        last_ms,
        raw_len: raw.len() as u64,
        stored_len: frame.len() as u64,
        event_count,
        flags,
        sha256: sha256(&frame),
    };
    Ok((frame, facts))
}

fn encode_keyframes(keyframes: &[(u32, Event<'_>)]) -> Result<Vec<(u32, Vec<u8>)>, WriteError> {
    let mut room = KEYFRAMES_BYTES_MAX;
    let mut screens = Vec::new();
    for (channel, event) in keyframes {
        let Event::Keyframe { .. } = event else {
            continue;
        };
        let payload = event.payload()?;
        if let Some(left) = room.checked_sub(payload.len()) {
            room = left;
            screens.push((*channel, payload.into_owned()));
        }
    }
    Ok(screens)
}

/// An event of the final chunk: borrowed from the tail, or a line in clear.
struct Settled<'a> {
    at_ms: u64,
    channel: u32,
    kind: u8,
    payload: Cow<'a, [u8]>,
}

impl Settled<'_> {
    fn raw(&self) -> RawEvent<'_> {
        RawEvent {
            at_ms: self.at_ms,
            channel: self.channel,
            kind: self.kind,
            payload: &self.payload,
        }
    }
}

/// What this segment knows about the lines in it (FORMAT.md section 6.3).
#[derive(Default)]
struct Lines {
    keys: HashMap<u64, [u8; 32]>,
    hidden: HashSet<u64>,
    /// Lines whose first piece is here, so that no earlier chunk needs their key.
    begun: HashSet<u64>,
    /// Lines with a piece here that their key does not open: evidence, kept as it is.
    stubborn: HashSet<u64>,
}

impl Lines {
    fn of(rows: &[RawEvent<'_>]) -> Lines {
        let mut lines = Lines::default();
        for row in rows {
            match decode(row.kind, row.payload) {
                Ok(Some(Event::LineKey { line, key })) => {
                    lines.keys.entry(line).or_insert(key);
                }
                Ok(Some(Event::HiddenInput { line, .. })) => {
                    lines.hidden.insert(line);
                }
                Ok(Some(Event::SealedInput { line, counter: 0, .. })) => {
                    lines.begun.insert(line);
                }
                _ => {}
            }
        }
        for row in rows {
            if let Ok(Some(Event::SealedInput {
                line,
                counter,
                ciphertext,
            })) = decode(row.kind, row.payload)
                && let Some(key) = lines.keys.get(&line)
                && LineCipher::open(key, line, counter, &ciphertext).is_none()
            {
                lines.stubborn.insert(line);
            }
        }
        lines
    }

    fn settle<'a>(&self, rows: &[RawEvent<'a>]) -> Vec<Settled<'a>> {
        rows.iter().filter_map(|row| self.settle_one(row)).collect()
    }

    fn settle_one<'a>(&self, row: &RawEvent<'a>) -> Option<Settled<'a>> {
        let mut settled = Settled {
            at_ms: row.at_ms,
            channel: row.channel,
            kind: row.kind,
            payload: Cow::Borrowed(row.payload),
        };
        match decode(row.kind, row.payload) {
            Ok(Some(Event::SealedInput {
                line,
                counter,
                ciphertext,
            })) => match self.keys.get(&line) {
                Some(key) => {
                    if let Some(clear) = LineCipher::open(key, line, counter, &ciphertext) {
                        (settled.kind, settled.payload) = (kind::INPUT, Cow::Owned(clear));
                    }
                }
                // The blob of the HiddenInput holds all of the line again.
                None if self.hidden.contains(&line) => return None,
                None => {}
            },
            Ok(Some(Event::LineKey { line, .. })) if self.begun.contains(&line) && !self.stubborn.contains(&line) => {
                return None;
            }
            _ => {}
        }
        Some(settled)
    }
}
