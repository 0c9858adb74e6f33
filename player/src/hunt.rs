//! The next and the one before: a search through a recording in steps short enough to look at the keyboard between them.

use std::collections::BTreeMap;

use portcullis_recording::Fault;

use crate::channels::Channels;
use crate::find::{Finder, Hit, Wanted};
use crate::source::{Cursor, weight};

/// Hits kept of one stretch; of a stretch with more the rest is not gone to.
const HITS_MAX: usize = 10_000;
/// Stretches whose hits are kept.
const STRETCHES_KEPT_MAX: usize = 4096;
/// Events looked at in one step.
const STEP_EVENTS: usize = 4096;
/// Bytes looked at in one step: some hundredths of a second.
const STEP_BYTES: usize = 256 << 10;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Later.
    On,
    /// Earlier.
    Back,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This is it.
    Found(Hit),
    /// There is none that way.
    Nothing,
    /// Not known yet; the search is at this time.
    Searching(u64),
}

/// A stretch from one place that drawing can start at to the next, while it is searched.
struct Stretch {
    start: usize,
    finder: Finder,
    hits: Vec<Hit>,
}

/// A search.
pub struct Hunt {
    cursor: Cursor,
    channels: Channels,
    wanted: Wanted,
    /// Hits of stretches that were searched, by their first chunk.
    known: BTreeMap<usize, Vec<Hit>>,
    open: Option<Stretch>,
    /// Nothing at this time; `None` is before the first event.
    from_ms: Option<u64>,
    way: Way,
    /// First chunk of the stretch that is to be looked at.
    at: usize,
}

impl Hunt {
    /// For something. `channels` is what is known of the channels already.
    pub fn new(cursor: Cursor, channels: Channels, wanted: Wanted) -> Hunt {
        Hunt {
            cursor,
            channels,
            wanted,
            known: BTreeMap::new(),
            open: None,
            from_ms: None,
            way: Way::On,
            at: 0,
        }
    }

    /// What it looks for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Begins to look for the next one after a time, or before it; without one, from the start.
    pub fn begin(&mut self, from_ms: Option<u64>, way: Way) {
        self.from_ms = from_ms;
        self.way = way;
        self.at = self.cursor.source().start_before(from_ms.unwrap_or(0));
        self.open = None;
    }

    /// Looks on, for a short while.
    pub fn step(&mut self) -> Result<Step, Fault> {
        let Some(first_ms) = self.cursor.source().first_ms(self.at) else {
            return Ok(Step::Nothing);
        };
        if !self.known.contains_key(&self.at) {
            self.search()?;
        }
        let Some(hits) = self.known.get(&self.at) else {
            return Ok(Step::Searching(first_ms));
        };
        let hit = match self.way {
            Way::On => hits.iter().find(|hit| Some(hit.at_ms) > self.from_ms),
            Way::Back => hits.iter().rfind(|hit| Some(hit.at_ms) < self.from_ms),
        };
        if let Some(hit) = hit {
            return Ok(Step::Found(hit.clone()));
        }
        let source = self.cursor.source();
        let next = match self.way {
            Way::On => (self.at + 1..source.chunk_count()).find(|chunk| source.is_start(*chunk)),
            Way::Back => (0..self.at).rev().find(|chunk| source.is_start(*chunk)),
        };
        match next {
            Some(next) => {
                self.at = next;
                Ok(Step::Searching(first_ms))
            }
            None => Ok(Step::Nothing),
        }
    }

    /// Searches some of the stretch at hand.
    fn search(&mut self) -> Result<(), Fault> {
        let mut stretch = match self.open.take().filter(|open| open.start == self.at) {
            Some(open) => open,
            None => {
                self.cursor.rewind_to(self.at);
                Stretch {
                    start: self.at,
                    finder: Finder::new(self.wanted.clone(), self.channels.clone()),
                    hits: Vec::new(),
                }
            }
        };
        let mut bytes = 0;
        for _ in 0..STEP_EVENTS {
            // Peeking opens the next chunk, if the one before is through.
            let next = self.cursor.peek()?.is_some();
            let chunk = self.cursor.chunk();
            if !next || (chunk > stretch.start && self.cursor.source().is_start(chunk)) {
                self.close(stretch);
                return Ok(());
            }
            let Some(timed) = self.cursor.next_event()? else {
                break;
            };
            bytes += weight(&timed.event);
            let hits = &mut stretch.hits;
            stretch.finder.take(&timed, &mut |hit| keep(hits, hit));
            if bytes > STEP_BYTES {
                break;
            }
        }
        self.open = Some(stretch);
        Ok(())
    }

    fn close(&mut self, mut stretch: Stretch) {
        let hits = &mut stretch.hits;
        stretch.finder.finish(&mut |hit| keep(hits, hit));
        // What was typed over a while is told under the time when it began.
        hits.sort_by_key(|hit| hit.at_ms);
        if self.known.len() >= STRETCHES_KEPT_MAX {
            self.known.clear();
        }
        self.known.insert(stretch.start, stretch.hits);
    }
}

fn keep(hits: &mut Vec<Hit>, hit: Hit) {
    if hits.len() < HITS_MAX {
        hits.push(hit);
    }
}
