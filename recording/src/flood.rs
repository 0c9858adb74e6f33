//! Bulk data straight into the main file: one hash, one write, no copy (FORMAT.md section 3.2, stored chunks).

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::bytes::put_varint;
use crate::chunk::{FLAG_KEYFRAME, FLAG_LINE_KEYS, FLAG_STORED};
use crate::event::{Event, kind};
use crate::frame::{STORED_END, STORED_HEADER, raw_block};
use crate::limits::{
    BLOCK_BYTES_MAX, CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX, FLOOD_RAW_BYTES_TARGET, SALT_EVENT_BYTES,
};
use crate::main_file::{ChunkFacts, Main};
use crate::rows::{LAYOUT_ROWS, put_row, put_row_header};
use crate::writer::{WriteError, Writer};

/// Bytes before the payload of a piece: at most frame header, block header, layout, time and row header.
const LEAD_BYTES_MAX: usize = 48;

/// What ends a chunk: a block with the salt, and the empty one.
const END_BYTES_MAX: usize = 3 + SALT_EVENT_BYTES + STORED_END.len();

/// Two runs of bytes to write one after the other, such as with `writev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'p> {
    lead: [u8; LEAD_BYTES_MAX],
    lead_len: usize,
    payload: Cow<'p, [u8]>,
    range: (usize, usize),
}

impl Piece<'_> {
    /// Headers; written first.
    pub fn lead(&self) -> &[u8] {
        self.lead.get(..self.lead_len).unwrap_or_default()
    }

    /// A part of the event's payload; written next.
    pub fn payload(&self) -> &[u8] {
        self.payload.get(self.range.0..self.range.1).unwrap_or_default()
    }
}

/// A stored chunk being written. It owns the writer until it is finished, so no tail can come between.
pub struct Flood {
    writer: Writer,
    hash: Sha256,
    first_ms: Option<u64>,
    raw_len: u64,
    stored_len: u64,
    events: u64,
    flags: u64,
}

impl Flood {
    pub(crate) fn new(writer: Writer) -> Flood {
        Flood {
            writer,
            hash: Sha256::new(),
            first_ms: None,
            raw_len: 0,
            stored_len: 0,
            events: 0,
            flags: FLAG_STORED,
        }
    }

    /// Raw bytes in the chunk so far.
    pub fn raw_len(&self) -> u64 {
        self.raw_len
    }

    /// Whether the chunk has its size and should be finished.
    pub fn is_full(&self) -> bool {
        self.raw_len >= FLOOD_RAW_BYTES_TARGET as u64
    }

    /// The writer's view of the head and so on.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Appends an event. `pieces` gets what to append to the main file, in order; the payload of a data event is
    /// borrowed from `event`.
    pub fn push<'p>(
        &mut self,
        at_ms: u64,
        channel: u32,
        event: &'p Event<'_>,
        pieces: &mut Vec<Piece<'p>>,
    ) -> Result<(), WriteError> {
        self.writer.may_say(event.kind())?;
        let at_ms = self.writer.time(at_ms)?;
        let payload = event.payload()?;
        let mut header = Vec::with_capacity(LEAD_BYTES_MAX);
        let mut frame_header: &[u8] = &[];
        let last_ms = if self.first_ms.is_some() {
            self.writer.last_ms()
        } else {
            frame_header = &STORED_HEADER;
            header.push(LAYOUT_ROWS);
            put_varint(&mut header, at_ms);
            at_ms
        };
        put_row_header(&mut header, at_ms - last_ms, event.kind(), channel, payload.len());
        let raw_len = header.len() + payload.len();
        let stored_len = frame_header.len() + raw_len + 3 * (raw_len / BLOCK_BYTES_MAX + 1);
        if self.raw_len as usize + raw_len + SALT_EVENT_BYTES > CHUNK_RAW_BYTES_MAX
            || self.stored_len as usize + stored_len + END_BYTES_MAX > CHUNK_STORED_BYTES_MAX
        {
            return Err(WriteError::ChunkFull);
        }
        self.note(at_ms, event, &payload);

        let mut lead = frame_header.to_vec();
        let mut start = 0;
        loop {
            let end = payload.len().min(start + BLOCK_BYTES_MAX - header.len());
            lead.extend_from_slice(&raw_block(header.len() + end - start));
            lead.append(&mut header);
            pieces.push(self.piece(&lead, payload.clone(), (start, end)));
            lead.clear();
            start = end;
            if start == payload.len() {
                break;
            }
        }
        self.raw_len += raw_len as u64;
        Ok(())
    }

    fn note(&mut self, at_ms: u64, event: &Event<'_>, payload: &[u8]) {
        match event.kind() {
            kind::KEYFRAME if self.events == 0 => self.flags |= FLAG_KEYFRAME,
            kind::LINE_KEY => self.flags |= FLAG_LINE_KEYS,
            _ => {}
        }
        self.first_ms.get_or_insert(at_ms);
        self.writer.set_last_ms(at_ms);
        self.writer.note_accounts(event, payload);
        self.events += 1;
    }

    fn piece<'p>(&mut self, lead: &[u8], payload: Cow<'p, [u8]>, range: (usize, usize)) -> Piece<'p> {
        let mut piece = Piece {
            lead: [0; LEAD_BYTES_MAX],
            lead_len: lead.len(),
            payload,
            range,
        };
        for (to, from) in piece.lead.iter_mut().zip(lead) {
            *to = *from;
        }
        self.hash.update(piece.lead());
        self.hash.update(piece.payload());
        self.stored_len += (piece.lead().len() + piece.payload().len()) as u64;
        piece
    }

    /// Ends the chunk: its last bytes and its leaf, to append to the main file, and the writer back. Without events
    /// there is nothing to append.
    pub fn finish(mut self, main: &mut Main) -> Result<(Writer, Vec<u8>), WriteError> {
        self.writer.may_write(main)?;
        let Some(first_ms) = self.first_ms else {
            return Ok((self.writer, Vec::new()));
        };
        let salt = self.writer.key().salt();
        let mut row = Vec::with_capacity(SALT_EVENT_BYTES);
        put_row(&mut row, 0, kind::SALT, 0, &salt);
        let end = [&raw_block(row.len()), row.as_slice(), &STORED_END].concat();
        self.hash.update(&end);
        let facts = ChunkFacts {
            first_ms,
            last_ms: self.writer.last_ms(),
            raw_len: self.raw_len + row.len() as u64,
            stored_len: self.stored_len + end.len() as u64,
            event_count: self.events + 1,
            flags: self.flags,
            sha256: self.hash.finalize().into(),
        };
        let next = self.writer.next_key();
        let (leaf, hash) = main
            .append(&facts, self.writer.key(), next.public())
            .ok_or(WriteError::TooManyChunks)?;
        drop(self.writer.turn(next, hash));
        Ok((self.writer, [end, leaf].concat()))
    }
}
