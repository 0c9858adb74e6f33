//! A recording's events one after the other, from a chunk on, with little of it in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;

use portcullis_recording::event::Timed;
use portcullis_recording::{Chunk, ChunkInfo, Fault, Head, Unverified, Verified};

/// Events unpacked at a time: a chunk may hold a million small ones.
const BATCH_EVENTS_MAX: usize = 1 << 16;

/// Where a recording's bytes come from.
pub type Bytes = BufReader<File>;

/// What may be shown: verified, or under a name that says it is not.
pub enum Source {
    /// Every byte was verified against trusted keys.
    Verified(Box<Verified<Bytes>>),
    /// Nobody trusted vouches for any of it.
    Unverified(Box<Unverified<Bytes>>),
}

impl Source {
    /// Whether trusted keys vouch for it.
    pub fn is_verified(&self) -> bool {
        matches!(self, Source::Verified(_))
    }

    /// Who, where, under which grant: as far as [`Source::is_verified`] says, anybody's words.
    pub fn head(&self) -> &Head {
        match self {
            Source::Verified(verified) => verified.head(),
            Source::Unverified(unverified) => unverified.unverified_head(),
        }
    }

    /// Its chunks.
    pub fn chunks(&self) -> &[ChunkInfo] {
        match self {
            Source::Verified(verified) => verified.chunks(),
            Source::Unverified(unverified) => unverified.unverified_chunks(),
        }
    }

    fn chunk(&mut self, at: usize) -> Result<Chunk, Fault> {
        match self {
            Source::Verified(verified) => verified.chunk(at),
            Source::Unverified(unverified) => unverified.unverified_chunk(at),
        }
    }

    /// Time of the last event.
    pub fn last_ms(&self) -> u64 {
        self.chunks().iter().map(|info| info.last_ms).max().unwrap_or(0)
    }

    /// The last chunk at or before a time that drawing can start from: one that begins with the screens, or the first.
    pub fn keyframe_at(&self, at_ms: u64) -> usize {
        let begun = self.chunks().partition_point(|info| info.first_ms <= at_ms);
        self.chunks()
            .iter()
            .take(begun)
            .rposition(|info| info.keyframe)
            .unwrap_or(0)
    }
}

/// Goes through a source's events.
pub struct Cursor {
    source: Source,
    /// The chunk read from, or the next one to read.
    at: usize,
    open: Option<Chunk>,
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
                None if self.at < self.source.chunks().len() => self.source.chunk(self.at)?,
                None => return Ok(()),
            };
            // The fault of a chunk that is not what its leaf says comes last: what is before it was sound and is shown.
            let mut fault = None;
            for item in chunk.events()?.skip(self.taken).take(BATCH_EVENTS_MAX) {
                match item {
                    Ok(timed) => self.ready.push_back(timed.into_owned()),
                    Err(e) => fault = Some(e),
                }
            }
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
