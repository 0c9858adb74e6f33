//! A recording's events one after the other, from a chunk on, with little of it in memory.

use std::collections::VecDeque;
use std::io::BufReader;
use std::sync::Arc;

use portcullis_recording::event::{Event, Timed};
use portcullis_recording::{Chunk, ChunkInfo, Fault, Unverified, Verified};

use crate::failure::Failure;
use crate::import::Imported;
use crate::section::Section;

/// Events unpacked at a time: a chunk may hold a million small ones.
const BATCH_EVENTS_MAX: usize = 1 << 16;

/// Where a recording's bytes come from.
pub type Bytes = BufReader<Section>;

/// What may be shown: verified, or under a name that says it is not.
pub enum Source {
    /// Every byte was verified against trusted keys.
    Verified(Box<Verified<Bytes>>),
    /// Nobody trusted vouches for any of it.
    Unverified(Box<Unverified<Bytes>>),
    /// Another tool's file, which nobody has signed.
    UnverifiedImport(Arc<Imported>),
}

/// Unpacked, and ready to be gone through.
enum Open {
    Recorded(Chunk),
    Imported(Arc<Imported>, usize),
}

impl Source {
    /// Whether trusted keys vouch for it.
    pub fn is_verified(&self) -> bool {
        matches!(self, Source::Verified(_))
    }

    /// The same once more, to read at two places at once.
    pub fn again(&self) -> Result<Source, Failure> {
        let handle = |bytes: &Bytes| {
            let file = bytes.get_ref().try_clone();
            file.map(|file| BufReader::with_capacity(bytes.capacity(), file))
                .map_err(|e| Failure::io("the recording cannot be opened once more", &e))
        };
        Ok(match self {
            Source::Verified(verified) => Source::Verified(Box::new(verified.with_reader(handle(verified.reader())?))),
            Source::Unverified(unverified) => Source::Unverified(Box::new(
                unverified.unverified_with_reader(handle(unverified.unverified_reader())?),
            )),
            Source::UnverifiedImport(imported) => Source::UnverifiedImport(Arc::clone(imported)),
        })
    }

    /// How many chunks it has.
    pub fn chunk_count(&self) -> usize {
        match self {
            Source::Verified(verified) => verified.chunks().len(),
            Source::Unverified(unverified) => unverified.unverified_chunks().len(),
            Source::UnverifiedImport(imported) => imported.chunks.len(),
        }
    }

    fn infos(&self) -> &[ChunkInfo] {
        match self {
            Source::Verified(verified) => verified.chunks(),
            Source::Unverified(unverified) => unverified.unverified_chunks(),
            Source::UnverifiedImport(_) => &[],
        }
    }

    /// Time of a chunk's first event.
    pub fn first_ms(&self, chunk: usize) -> Option<u64> {
        match self {
            Source::UnverifiedImport(imported) => Some(imported.chunks.get(chunk)?.first()?.at_ms),
            Source::Verified(_) | Source::Unverified(_) => Some(self.infos().get(chunk)?.first_ms),
        }
    }

    /// Whether drawing can start at a chunk: it begins with the screens, or is the first.
    pub fn is_start(&self, chunk: usize) -> bool {
        chunk == 0 || self.infos().get(chunk).is_some_and(|info| info.keyframe)
    }

    fn open(&mut self, at: usize) -> Result<Open, Fault> {
        Ok(Open::Recorded(match self {
            Source::Verified(verified) => verified.chunk(at)?,
            Source::Unverified(unverified) => unverified.unverified_chunk(at)?,
            Source::UnverifiedImport(imported) => return Ok(Open::Imported(Arc::clone(imported), at)),
        }))
    }

    /// Time of the last event.
    pub fn last_ms(&self) -> u64 {
        match self {
            Source::UnverifiedImport(imported) => imported.chunks.last().and_then(|c| c.last()).map_or(0, |t| t.at_ms),
            Source::Verified(_) | Source::Unverified(_) => {
                self.infos().iter().map(|info| info.last_ms).max().unwrap_or(0)
            }
        }
    }

    /// The last chunk at or before a time that drawing can start from.
    pub fn start_before(&self, at_ms: u64) -> usize {
        // Times of chunks never go back: the format refuses it, an import sees to it.
        let (mut low, mut high) = (0, self.chunk_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_ms(middle).is_some_and(|first| first <= at_ms) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (0..low).rev().find(|chunk| self.is_start(*chunk)).unwrap_or(0)
    }
}

impl Open {
    /// Takes the events from `skip` on, some at a time; the fault of a chunk comes after what was sound in it.
    fn unpack(&self, skip: usize, into: &mut VecDeque<Timed<'static>>) -> Result<Option<Fault>, Fault> {
        match self {
            Open::Recorded(chunk) => {
                let mut fault = None;
                for item in chunk.events()?.skip(skip).take(BATCH_EVENTS_MAX) {
                    match item {
                        Ok(timed) => into.push_back(timed.into_owned()),
                        Err(e) => fault = Some(e),
                    }
                }
                Ok(fault)
            }
            Open::Imported(imported, at) => {
                let events = imported.chunks.get(*at).map_or(&[][..], Vec::as_slice);
                into.extend(events.iter().skip(skip).take(BATCH_EVENTS_MAX).cloned());
                Ok(None)
            }
        }
    }
}

/// Bytes that an event carries for a screen or a search; what the rest weighs is no matter.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other events are small")]
pub fn weight(event: &Event<'_>) -> usize {
    match event {
        Event::Output(bytes) | Event::Stderr(bytes) | Event::Input(bytes) => bytes.len(),
        Event::Keyframe { dump, .. } => dump.len(),
        _ => 0,
    }
}

/// Goes through a source's events.
pub struct Cursor {
    source: Source,
    /// The chunk read from, or the next one to read.
    at: usize,
    open: Option<Open>,
    /// Events of the open chunk that were unpacked already.
    taken: usize,
    ready: VecDeque<Timed<'static>>,
}

impl Cursor {
    /// At the first event.
    pub fn new(source: Source) -> Cursor {
        Cursor {
            source,
            at: 0,
            open: None,
            taken: 0,
            ready: VecDeque::new(),
        }
    }

    /// What it reads from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The chunk the next event is in, or one before it.
    pub fn chunk(&self) -> usize {
        self.at
    }

    /// The chunk and the number in it of the event that comes next, once that was peeked at.
    pub fn place(&self) -> (usize, usize) {
        (self.at, self.taken.saturating_sub(self.ready.len()))
    }

    /// Goes to the first event of a chunk.
    pub fn rewind_to(&mut self, chunk: usize) {
        self.at = chunk;
        self.open = None;
        self.taken = 0;
        self.ready.clear();
    }

    /// The next event, without taking it.
    pub fn peek(&mut self) -> Result<Option<&Timed<'static>>, Fault> {
        self.fill()?;
        Ok(self.ready.front())
    }

    /// The next event.
    pub fn next_event(&mut self) -> Result<Option<Timed<'static>>, Fault> {
        self.fill()?;
        Ok(self.ready.pop_front())
    }

    fn fill(&mut self) -> Result<(), Fault> {
        while self.ready.is_empty() {
            let chunk = match self.open.take() {
                Some(chunk) => chunk,
                None if self.at < self.source.chunk_count() => self.source.open(self.at)?,
                None => return Ok(()),
            };
            // The fault of a chunk that is not what its leaf says comes last: what is before it was sound and is shown.
            let fault = chunk.unpack(self.taken, &mut self.ready)?;
            self.taken += self.ready.len();
            match fault {
                Some(fault) if self.ready.is_empty() => {
                    self.open = Some(chunk);
                    return Err(fault);
                }
                Some(_) => self.open = Some(chunk),
                None if self.ready.is_empty() => {
                    self.at += 1;
                    self.taken = 0;
                }
                None => self.open = Some(chunk),
            }
        }
        Ok(())
    }
}
