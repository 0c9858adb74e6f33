//! The bytes of one file in one direction, hashed in runs.
//!
//! Pipelined transfers ask for several pieces at once and may get them in
//! another order: what comes early waits for what is before it. What fits
//! nowhere begins a run of its own, and the file is told in ranges.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::RANGES_MAX;
use super::pool::Pool;

/// How far ahead of its run a piece may be and still wait for it, in bytes.
const AHEAD_BYTES_MAX: u64 = super::WINDOW_BYTES_MAX as u64;
/// What a waiting piece costs beside its bytes.
const PIECE_BYTES: usize = 128;
/// Up to this length a waiting piece takes up what follows it, in bytes: what
/// a stream is cut into costs nothing.
const PIECE_GROWS_BYTES: usize = 256 * 1024;

/// Bytes `[offset, offset + length)` of a file, as they crossed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub offset: u64,
    pub length: u64,
    pub sha256: [u8; 32],
}

impl Range {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

#[derive(Debug)]
struct Run {
    offset: u64,
    next: u64,
    hash: Sha256,
    /// Its number, if its content is kept.
    number: Option<u64>,
}

impl Run {
    fn at(offset: u64) -> Run {
        Run {
            offset,
            next: offset,
            hash: Sha256::new(),
            number: None,
        }
    }

    fn take(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.next == self.offset {
            self.number = pool.begin();
        }
        if let Some(number) = self.number {
            pool.bytes(number, bytes);
        }
        self.hash.update(bytes);
        self.next = self.next.saturating_add(bytes.len() as u64);
    }
}

/// One file in one direction.
#[derive(Debug, Default)]
pub struct Flow {
    run: Option<Run>,
    /// Behind the run, by offset; none overlaps another.
    waiting: BTreeMap<u64, Vec<u8>>,
    done: Vec<Range>,
    /// The longest run from the first byte on.
    from_start: Option<Range>,
    runs: u64,
    bytes: u64,
    end: u64,
}

impl Flow {
    /// Bytes that came, twice where they came twice.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the furthest byte ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes bytes at an offset. What must wait waits in memory that all files
    /// of the channel share.
    pub fn take(&mut self, offset: u64, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        let after = offset.saturating_add(bytes.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.end = self.end.max(after);
        // A file most often begins at its beginning, whichever piece is first.
        let run = self
            .run
            .get_or_insert_with(|| Run::at(if offset <= AHEAD_BYTES_MAX { 0 } else { offset }));
        let next = run.next;
        let mut before = self.waiting.range_mut(..after).next_back();
        let ends = |(at, piece): &(&u64, &mut Vec<u8>)| at.saturating_add(piece.len() as u64);
        let overlaps = before.as_ref().is_some_and(|before| ends(before) > offset);
        if offset == next && !overlaps {
            run.take(bytes, pool);
            self.catch_up(pool);
            return;
        }
        let cost = bytes.len().saturating_add(PIECE_BYTES);
        if !overlaps && offset > next && offset - next <= AHEAD_BYTES_MAX && cost <= pool.spare {
            pool.wait();
            match before.take_if(|before| ends(before) == offset && before.1.len() < PIECE_GROWS_BYTES) {
                Some((_, piece)) => {
                    pool.spare -= bytes.len();
                    piece.extend_from_slice(bytes);
                }
                None => {
                    pool.spare -= cost;
                    self.waiting.insert(offset, bytes.to_vec());
                }
            }
            return;
        }
        self.flush(pool);
        match &mut self.run {
            Some(run) if run.next == offset => run.take(bytes, pool),
            Some(_) | None => {
                self.close(pool);
                self.run.insert(Run::at(offset)).take(bytes, pool);
            }
        }
    }

    /// Takes up what waited for the byte the run has come to.
    fn catch_up(&mut self, pool: &mut Pool) {
        let Some(run) = &mut self.run else {
            return;
        };
        while let Some(piece) = self.waiting.remove(&run.next) {
            pool.spare = pool.spare.saturating_add(piece.len().saturating_add(PIECE_BYTES));
            run.take(&piece, pool);
        }
    }

    /// Ends the wait: what waits becomes runs, the last of which stays open.
    fn flush(&mut self, pool: &mut Pool) {
        while let Some((&offset, _)) = self.waiting.first_key_value() {
            self.close(pool);
            self.run = Some(Run::at(offset));
            self.catch_up(pool);
        }
    }

    /// Ends the run.
    fn close(&mut self, pool: &mut Pool) {
        let Some(run) = self.run.take().filter(|run| run.next > run.offset) else {
            return;
        };
        let range = Range {
            offset: run.offset,
            length: run.next - run.offset,
            sha256: run.hash.finalize().into(),
        };
        if let Some(number) = run.number {
            pool.end(number, range.sha256);
        }
        self.runs = self.runs.saturating_add(1);
        let longest = |first: &Range| first.length <= range.length;
        if range.offset == 0 && self.from_start.as_ref().is_none_or(longest) {
            self.from_start = Some(range);
        }
        self.done.push(range);
    }

    /// Ranges that are to be told before more come.
    pub fn overfull(&mut self) -> Vec<Range> {
        match self.done.len() >= RANGES_MAX {
            true => std::mem::take(&mut self.done),
            false => Vec::new(),
        }
    }

    /// The end of the transfer: all that is left is runs now.
    pub fn finish(&mut self, pool: &mut Pool) -> Finished {
        self.flush(pool);
        self.close(pool);
        Finished {
            ranges: std::mem::take(&mut self.done),
            from_start: self.from_start,
            runs: self.runs,
            end: self.end,
        }
    }
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Those that were not told before.
    pub ranges: Vec<Range>,
    from_start: Option<Range>,
    /// All, also those that were told before.
    pub runs: u64,
    pub end: u64,
}

impl Finished {
    /// SHA-256 of the first `size` bytes, if one run is just those.
    pub fn of_first(&self, size: u64) -> Option<[u8; 32]> {
        match self.from_start {
            Some(range) => (range.end() == size).then_some(range.sha256),
            None => (size == 0).then(|| Sha256::new().finalize().into()),
        }
    }

    /// Whether anything begins at the first byte.
    pub fn starts(&self) -> bool {
        self.from_start.is_some()
    }
}
