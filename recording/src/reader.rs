//! From a verified recording to its events, chunk by chunk (FORMAT.md section 8.3).

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use crate::columns::Content;
use crate::event::{Event, Timed, kind};
use crate::fault::{Fault, Why};
use crate::frame::{SKIP_HEADER_BYTES, decompress, torn_stored_content, walk_decrypted};
use crate::head::{Head, Version};
use crate::keys::sha256;
use crate::limits::{CHUNK_RAW_BYTES_MAX, LINE_KEYS_MAX};
use crate::line::LineCipher;
use crate::ratchet::{ChunkKeys, ContentKey, Ratchet};
use crate::redaction::{MARK, Redaction};
use crate::rows::RawEvent;
use crate::scan::{Layout, Scan};
use crate::tail;

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Finished, compressed.
    Compressed,
    /// Finished, compressed and encrypted.
    Encrypted,
    /// Finished, stored as it came.
    Stored,
    /// The tail of a chunk that was never finished.
    Tail,
    /// The whole blocks of a stored chunk that was never finished.
    TornStored,
}

impl ChunkKind {
    /// Whether the session signed its leaf.
    pub fn is_finished(self) -> bool {
        matches!(self, ChunkKind::Compressed | ChunkKind::Encrypted | ChunkKind::Stored)
    }
}

/// What is known of a chunk without reading its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkInfo {
    /// What it is.
    pub kind: ChunkKind,
    /// Its number in the session.
    pub index: u64,
    /// Time of its first event.
    pub first_ms: u64,
    /// Time of its last event.
    pub last_ms: u64,
    /// Bytes of its content.
    pub raw_len: u64,
    /// Bytes as stored.
    pub stored_len: u64,
    /// Events in it, keyframes included.
    pub events: u64,
    /// Whether it begins with a keyframe, so that drawing can start here.
    pub keyframe: bool,
    /// Whether the session's own keys vouch for all of it.
    pub vouched: bool,
    /// Where its bytes begin in the file.
    pub offset: u64,
    pub(crate) leaf_frame_len: u64,
    pub(crate) line_keys: bool,
    pub(crate) sha256: [u8; 32],
    pub(crate) place: Place,
    /// Marks that a redactor left in it; 0 if it is as the session signed it (FORMAT.md section 3.8).
    pub marks: u64,
}

/// Where the bytes of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    SpooledTail(usize),
}

impl ChunkInfo {
    /// Whether a redactor has put it in the place of what the session signed.
    pub fn is_redacted(&self) -> bool {
        self.marks > 0
    }

    pub(crate) fn at_offset(mut self, offset: u64) -> ChunkInfo {
        self.offset = offset;
        self
    }

    pub(crate) fn with_source(mut self, tail: usize) -> ChunkInfo {
        self.place = Place::SpooledTail(tail);
        self
    }

    pub(crate) fn fault(&self, why: Why) -> Fault {
        Fault::at(self.offset, why)
            .in_chunk(self.index)
            .spanning(self.first_ms, Some(self.last_ms))
    }
}

type LineKeys = Arc<HashMap<u64, [u8; 32]>>;

/// Reading without a claim about trust; [`crate::Verified`] and [`crate::Unverified`] wrap it.
pub(crate) struct Reading<R> {
    reader: R,
    pub(crate) head: Head,
    pub(crate) h0: [u8; 32],
    pub(crate) head_frame_len: u64,
    pub(crate) chunks: Vec<ChunkInfo>,
    tails: Arc<[Vec<u8>]>,
    pub(crate) redaction: Option<Arc<Redaction>>,
    pub(crate) layout: Option<Arc<Layout>>,
    keys: Option<LineKeys>,
    content_key: Option<ContentKey>,
    /// Where the last read left it, as the next one mostly goes on from there.
    ratchet: Option<Ratchet>,
}

impl<R: Read + Seek> Reading<R> {
    pub(crate) fn new(reader: R, scan: Scan, tails: Vec<Vec<u8>>) -> Reading<R> {
        Reading {
            reader,
            h0: scan.main.h0(),
            head_frame_len: scan.main.head_frame_len(),
            head: scan.head,
            chunks: scan.chunks,
            tails: tails.into(),
            redaction: scan.redaction.map(Arc::new),
            layout: scan.layout.map(Arc::new),
            keys: None,
            content_key: None,
            ratchet: None,
        }
    }

    /// The same recording through another reader of its bytes; every chunk's hash is checked when it is read.
    pub(crate) fn with_reader<S: Read + Seek>(&self, reader: S) -> Reading<S> {
        Reading {
            reader,
            head: self.head.clone(),
            h0: self.h0,
            head_frame_len: self.head_frame_len,
            chunks: self.chunks.clone(),
            tails: Arc::clone(&self.tails),
            redaction: self.redaction.clone(),
            layout: self.layout.clone(),
            keys: self.keys.clone(),
            content_key: self.content_key.clone(),
            ratchet: None,
        }
    }

    /// Where its bytes come from.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    pub(crate) fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.head.is_encrypted() && self.content_key.is_none()
    }

    pub(crate) fn unlock(&mut self, key: ContentKey) {
        self.content_key = Some(key);
        (self.ratchet, self.keys) = (None, None);
    }

    fn chunk_keys(&mut self, index: u64) -> Result<ChunkKeys, Why> {
        let key = self.content_key.as_ref().ok_or(Why::Locked)?;
        let mut ratchet = match self.ratchet.take() {
            Some(ratchet) if ratchet.index() <= index => ratchet,
            Some(_) | None => Ratchet::new(key.clone(), self.h0),
        };
        while ratchet.index() < index {
            ratchet.skip();
        }
        let keys = ratchet.turn();
        self.ratchet = Some(ratchet);
        Ok(keys)
    }

    pub(crate) fn chunk(&mut self, at: usize) -> Result<Chunk, Fault> {
        let keys = self.line_keys()?;
        self.load(at, keys)
    }

    /// Reads a chunk's bytes again, checks that they are still those that were verified, and unpacks them.
    fn load(&mut self, at: usize, keys: LineKeys) -> Result<Chunk, Fault> {
        let info = self.chunks.get(at).cloned().ok_or(Fault::at(0, Why::NoSuchChunk))?;
        let stored = match info.place {
            Place::SpooledTail(tail) => self.tails.get(tail).cloned().unwrap_or_default(),
            Place::File => self.stored(&info).map_err(|why| info.fault(why))?,
        };
        if stored.len() as u64 != info.stored_len || sha256(&stored) != info.sha256 {
            return Err(info.fault(Why::ChunkHash));
        }
        let mut ends = None;
        let content = match info.kind {
            ChunkKind::Encrypted => self.decrypt(&info, &stored).map_err(|why| info.fault(why))?,
            ChunkKind::Tail if self.head.is_encrypted() => {
                let keys = self.chunk_keys(info.index).map_err(|why| info.fault(why))?;
                let (clear, why) = tail::in_clear(&stored, &keys).map_err(|why| info.fault(why))?;
                ends = why;
                clear
            }
            ChunkKind::Compressed | ChunkKind::Stored => {
                decompress(&stored, info.raw_len as usize).map_err(|why| info.fault(why))?
            }
            ChunkKind::Tail => stored,
            ChunkKind::TornStored => torn_stored_content(&stored, CHUNK_RAW_BYTES_MAX)
                .map(|(content, _)| content)
                .unwrap_or_default(),
        };
        Ok(Chunk {
            version: self.head.version,
            info,
            content,
            ends,
            keys,
        })
    }

    fn decrypt(&mut self, info: &ChunkInfo, stored: &[u8]) -> Result<Vec<u8>, Why> {
        let keys = self.chunk_keys(info.index)?;
        let sealed = stored.get(SKIP_HEADER_BYTES..).unwrap_or_default();
        let frame = keys.open_chunk(sealed).ok_or(Why::DoesNotOpen)?;
        walk_decrypted(&frame, info.raw_len)?;
        decompress(&frame, info.raw_len as usize)
    }

    fn stored(&mut self, info: &ChunkInfo) -> Result<Vec<u8>, Why> {
        self.reader.seek(SeekFrom::Start(info.offset))?;
        let mut stored = Vec::new();
        (&mut self.reader).take(info.stored_len).read_to_end(&mut stored)?;
        Ok(stored)
    }

    /// Keys released in another chunk than their line is in. Only chunks that say they hold such are read.
    fn line_keys(&mut self) -> Result<LineKeys, Fault> {
        if let Some(keys) = &self.keys {
            return Ok(Arc::clone(keys));
        }
        let mut keys = HashMap::new();
        let flagged: Vec<usize> = self
            .chunks
            .iter()
            .enumerate()
            .filter(|(_, info)| info.line_keys)
            .map(|(at, _)| at)
            .collect();
        for at in flagged {
            let chunk = self.load(at, LineKeys::default())?;
            // What ends it early is told when that chunk is read itself.
            for timed in chunk.events()?.map_while(Result::ok) {
                if let Event::LineKey { line, key } = timed.event
                    && keys.len() < LINE_KEYS_MAX
                {
                    keys.entry(line).or_insert(key);
                }
            }
        }
        let keys = Arc::new(keys);
        self.keys = Some(Arc::clone(&keys));
        Ok(keys)
    }

    pub(crate) fn events(&mut self, from_chunk: usize) -> Events<'_, R> {
        Events {
            reading: self,
            next_chunk: from_chunk,
            ready: Vec::new().into_iter(),
            failed: false,
        }
    }
}

/// One chunk's content, checked and unpacked.
pub struct Chunk {
    version: Version,
    info: ChunkInfo,
    content: Vec<u8>,
    /// Why a tail's content ends early.
    ends: Option<Why>,
    keys: LineKeys,
}

impl Chunk {
    /// What it is.
    pub fn info(&self) -> &ChunkInfo {
        &self.info
    }

    /// Whether it ends with a salt, so that its hash does not tell whether a guess of its content is right (FORMAT.md
    /// section 5.4).
    pub fn is_salted(&self) -> bool {
        let rows = match self.info.kind {
            ChunkKind::Compressed | ChunkKind::Encrypted | ChunkKind::Stored => Content::new(&self.content),
            ChunkKind::Tail | ChunkKind::TornStored => return false,
        };
        let last = rows.ok().and_then(|rows| rows.filter_map(Result::ok).last());
        last.is_some_and(|row| row.is_salt())
    }

    /// Its events in order, borrowed from it. Released input lines come as `Input`; ignorable kinds are left out.
    /// Whatever in a finished chunk is not as its leaf says is a fault, and the last item.
    pub fn events(&self) -> Result<ChunkEvents<'_>, Fault> {
        let fault = |why: Why| self.info.fault(why);
        let rows: Box<dyn Iterator<Item = Result<RawEvent<'_>, crate::cbor::Malformed>> + '_> = match self.info.kind {
            ChunkKind::Compressed | ChunkKind::Encrypted | ChunkKind::Stored => {
                Box::new(Content::new(&self.content).map_err(|e| fault(e.into()))?)
            }
            // A torn last row ends it; it was never taken.
            ChunkKind::TornStored => Box::new(
                Content::new(&self.content)
                    .map_err(|e| fault(e.into()))?
                    .filter(Result::is_ok),
            ),
            ChunkKind::Tail => Box::new(tail::rows(&self.content).map_err(fault)?),
        };
        Ok(ChunkEvents {
            chunk: self,
            rows,
            count: 0,
            first_ms: None,
            last_ms: 0,
            keyframe: false,
            line_keys: false,
            marks: 0,
            ended: false,
        })
    }
}

/// The events of one chunk.
pub struct ChunkEvents<'c> {
    chunk: &'c Chunk,
    rows: Box<dyn Iterator<Item = Result<RawEvent<'c>, crate::cbor::Malformed>> + 'c>,
    count: u64,
    first_ms: Option<u64>,
    last_ms: u64,
    keyframe: bool,
    line_keys: bool,
    marks: u64,
    ended: bool,
}

impl<'c> ChunkEvents<'c> {
    fn step(&mut self) -> Result<Option<Timed<'c>>, Why> {
        loop {
            let Some(row) = self.rows.next() else {
                return self.end().map(|()| None);
            };
            let row = row?;
            if row.kind == kind::CHECK {
                return Err(Why::Content("a check outside a tail"));
            }
            self.count += 1;
            if self.first_ms.is_none() {
                (self.first_ms, self.keyframe) = (Some(row.at_ms), row.kind == kind::KEYFRAME);
            }
            self.line_keys |= row.kind == kind::LINE_KEY;
            self.last_ms = row.at_ms;
            let Some(event) = Event::decode(self.chunk.version, row.kind, row.payload)? else {
                continue;
            };
            if let Event::Marker { text } = &event
                && text.starts_with(MARK)
            {
                self.marks += 1;
            }
            return Ok(Some(Timed {
                at_ms: row.at_ms,
                channel: row.channel,
                event: self.in_clear(event),
            }));
        }
    }

    fn in_clear(&self, event: Event<'c>) -> Event<'c> {
        if let Event::SealedInput {
            line,
            counter,
            ciphertext,
        } = &event
            && let Some(key) = self.chunk.keys.get(line)
            && let Some(clear) = LineCipher::open(key, *line, *counter, ciphertext)
        {
            return Event::Input(clear.into());
        }
        event
    }

    fn end(&self) -> Result<(), Why> {
        let info = &self.chunk.info;
        if let Some(why) = &self.chunk.ends {
            return Err(why.clone());
        }
        if !info.kind.is_finished() {
            return Ok(());
        }
        if self.count != info.events {
            return Err(Why::Content("another number of events"));
        }
        if self.first_ms != Some(info.first_ms) || self.last_ms != info.last_ms {
            return Err(Why::Content("other times"));
        }
        if self.keyframe != info.keyframe {
            return Err(Why::Content("the keyframe flag is wrong"));
        }
        if self.line_keys != info.line_keys {
            return Err(Why::Content("the line key flag is wrong"));
        }
        if info.is_redacted() && self.marks != info.marks {
            return Err(Why::Content("another number of marks"));
        }
        Ok(())
    }
}

impl<'c> Iterator for ChunkEvents<'c> {
    type Item = Result<Timed<'c>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step().map_err(|why| self.chunk.info.fault(why));
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

/// The events of a recording from some chunk on, owned, one chunk in memory at a time.
pub struct Events<'r, R> {
    reading: &'r mut Reading<R>,
    next_chunk: usize,
    ready: std::vec::IntoIter<Result<Timed<'static>, Fault>>,
    failed: bool,
}

impl<R: Read + Seek> Iterator for Events<'_, R> {
    type Item = Result<Timed<'static>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            if let Some(item) = self.ready.next() {
                self.failed = item.is_err();
                return Some(item);
            }
            if self.next_chunk >= self.reading.chunks.len() {
                return None;
            }
            let loaded = self.reading.chunk(self.next_chunk);
            self.next_chunk += 1;
            let items = loaded.and_then(|chunk| {
                Ok(chunk
                    .events()?
                    .map(|item| item.map(Timed::into_owned))
                    .collect::<Vec<_>>())
            });
            match items {
                Ok(items) => self.ready = items.into_iter(),
                Err(fault) => {
                    self.failed = true;
                    return Some(Err(fault));
                }
            }
        }
        None
    }
}
