//! Tails after the finished chunks, in order, and how far the session's keys vouch for them (FORMAT.md section 7.3).

use std::io::{Read, Seek, SeekFrom};

use crate::bytes::{CUT_OFF, Cursor};
use crate::event::{Event, kind};
use crate::fault::Why;
use crate::frame::torn_stored_content;
use crate::head::Version;
use crate::keys::sha256;
use crate::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX};
use crate::main_file::Main;
use crate::reader::{ChunkInfo, ChunkKind, Place};
use crate::rows::{FIRST_DT, LAYOUT_ROWS, add_ms, take_row};
use crate::tail::inspect;

/// What the next tail must be like.
pub(crate) struct TailChain {
    h0: [u8; 32],
    version: Version,
    /// Rows are sealed, and stored chunks are not.
    encrypted: bool,
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
    /// After the finished chunks of `main`: `signer` has signed the last leaf, which handed over to `key`.
    pub(crate) fn new(main: &Main, signer: [u8; 32], key: [u8; 32]) -> TailChain {
        let last_ms = main.last_ms();
        TailChain {
            h0: main.h0(),
            version: main.version(),
            encrypted: main.is_encrypted(),
            index: main.chunks(),
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

    /// Index of the tail that comes next.
    pub(crate) fn index(&self) -> u64 {
        self.index
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
        let seen = inspect(bytes, &self.signer, (self.version, self.encrypted))?;
        if seen.open.index != self.index || self.key.is_some_and(|key| key != seen.open.key) {
            return Err(Why::TailOrder);
        }
        if self.index == 0 {
            if seen.open.previous != self.h0 {
                return Err(Why::TailOrder);
            }
        } else if seen.open.key == self.signer {
            return Err(Why::TailKeyReused);
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
            marks: 0,
        };
        self.previous = Some(seen.sha256);
        self.signer = seen.open.key;
        self.took(seen.kept as u64, seen.last_ms);
        self.key = None;
        Ok(info)
    }

    /// Takes the whole blocks of a stored chunk whose leaf was never written. No key of the session vouches for it.
    pub(crate) fn take_torn(&mut self, bytes: &[u8]) -> Result<ChunkInfo, Why> {
        if self.encrypted {
            return Err(Why::Malformed("a stored chunk in an encrypted recording"));
        }
        let key = self.key.filter(|_| self.taken == 0).ok_or(Why::TailOrder)?;
        let mut torn = Torn::read(self.version, bytes, CHUNK_RAW_BYTES_MAX)?;
        if let Some(end) = torn.bad {
            // Only the whole blocks before it count, as with the records of a tail.
            torn = Torn::read(self.version, bytes, end)?;
        }
        if torn.first_ms < self.last_ms {
            return Err(Why::TimesBackwards);
        }
        let info = ChunkInfo {
            kind: ChunkKind::TornStored,
            index: self.index,
            first_ms: torn.first_ms,
            last_ms: torn.last_ms,
            raw_len: torn.raw_len as u64,
            stored_len: torn.stored_len as u64,
            events: torn.events,
            keyframe: false,
            vouched: false,
            offset: 0,
            leaf_frame_len: 0,
            line_keys: true,
            sha256: sha256(bytes.get(..torn.stored_len).unwrap_or_default()),
            place: Place::File,
            marks: 0,
        };
        self.gap = true;
        self.previous = None;
        self.signer = key;
        self.took(torn.stored_len as u64, torn.last_ms);
        self.key = None;
        Ok(info)
    }

    /// Takes what a main file holds behind its finished chunks, from `offset` on, if that is a torn stored chunk: those
    /// have no tail (FORMAT.md section 7.5). Gives its whole blocks as well.
    pub(crate) fn take_main_end<R: Read + Seek>(
        &mut self,
        main: &mut R,
        offset: u64,
    ) -> std::io::Result<Option<(ChunkInfo, Vec<u8>)>> {
        let mut end = Vec::new();
        main.seek(SeekFrom::Start(offset))?;
        main.take(CHUNK_STORED_BYTES_MAX as u64).read_to_end(&mut end)?;
        Ok(self.take_torn(&end).ok().map(|info| {
            end.truncate(info.stored_len as usize);
            (info.at_offset(offset), end)
        }))
    }

    fn took(&mut self, bytes: u64, last_ms: u64) {
        self.index += 1;
        self.taken += 1;
        self.bytes += bytes;
        self.last_ms = last_ms;
    }
}

/// The whole blocks of a stored chunk whose leaf was never written (FORMAT.md section 3.5).
struct Torn {
    first_ms: u64,
    last_ms: u64,
    raw_len: usize,
    stored_len: usize,
    events: u64,
    /// Where in the content an event begins that no writer has written; the last one may merely be cut off.
    bad: Option<usize>,
}

impl Torn {
    /// Reads as many whole blocks as hold at most `raw_max` bytes.
    fn read(version: Version, bytes: &[u8], raw_max: usize) -> Result<Torn, Why> {
        let (content, stored_len) =
            torn_stored_content(bytes, raw_max).ok_or(Why::Malformed("not a torn stored chunk"))?;
        let mut c = Cursor::new(&content);
        if c.u8()? != LAYOUT_ROWS {
            return Err(Why::Malformed("a torn stored chunk of another layout"));
        }
        let first_ms = add_ms(0, c.varint()?)?;
        let mut torn = Torn {
            first_ms,
            last_ms: first_ms,
            raw_len: content.len(),
            stored_len,
            events: 0,
            bad: None,
        };
        while !c.is_empty() {
            let start = content.len() - c.remaining();
            let row = take_row(&mut c, torn.last_ms).and_then(|row| match torn.events {
                0 if row.at_ms != first_ms => Err(FIRST_DT),
                _ => Ok(row),
            });
            match row {
                Ok(row) if row.kind != kind::CHECK && Event::decode(version, row.kind, row.payload).is_ok() => {
                    torn.last_ms = row.at_ms;
                    torn.events += 1;
                }
                Err(CUT_OFF) => break,
                Ok(_) | Err(_) => {
                    torn.bad = Some(start);
                    break;
                }
            }
        }
        Ok(torn)
    }
}
