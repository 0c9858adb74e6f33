//! What all files of one channel share: memory for what comes out of order,
//! and what is kept of their contents.

use super::WINDOW_BYTES_MAX;

/// Of the content of a run, for who keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// What comes next in it.
    Bytes { run: u64, bytes: Vec<u8> },
    /// It has ended; SHA-256 of all of it.
    End { run: u64, sha256: [u8; 32] },
}

/// One channel's.
#[derive(Debug)]
pub struct Pool {
    /// Bytes of memory for what comes out of order.
    pub spare: usize,
    /// Contents are kept.
    keeps: bool,
    /// Runs that may still begin.
    left: u64,
    /// The number of the next run.
    next: u64,
    /// More runs began than may.
    overran: bool,
    /// Bytes were put aside since [`Pool::waited`] was asked.
    waited: bool,
    pieces: Vec<Piece>,
}

impl Default for Pool {
    fn default() -> Pool {
        Pool {
            spare: WINDOW_BYTES_MAX,
            keeps: false,
            left: 0,
            next: 0,
            overran: false,
            waited: false,
            pieces: Vec::new(),
        }
    }
}

impl Pool {
    /// From here on contents are kept.
    pub fn keep(&mut self) {
        self.keeps = true;
    }

    /// So many runs may begin from here on.
    pub fn allow(&mut self, runs: u64) {
        self.left = runs;
    }

    /// How many of these are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether contents are kept.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// From here on no more are kept.
    pub fn stop(&mut self) {
        self.keeps = false;
    }

    /// Whether more runs began than may: of these, and of all behind them, nothing is kept.
    pub fn overran(&self) -> bool {
        self.overran
    }

    /// Bytes are put aside until what is before them comes.
    pub fn wait(&mut self) {
        self.waited = true;
    }

    /// Whether any were since this was last asked.
    pub fn waited(&mut self) -> bool {
        std::mem::take(&mut self.waited)
    }

    /// What is to be kept; it is not given twice.
    pub fn pieces(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    /// A run's first byte comes. Its number, if it is kept.
    pub fn begin(&mut self) -> Option<u64> {
        if !self.keeps {
            return None;
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                (self.keeps, self.overran) = (false, true);
                return None;
            }
        }
        let run = self.next;
        self.next = self.next.checked_add(1)?;
        Some(run)
    }

    /// More of a run.
    pub fn bytes(&mut self, of: u64, more: &[u8]) {
        if !self.keeps {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Bytes { run, bytes }) if *run == of => bytes.extend_from_slice(more),
            _ => self.pieces.push(Piece::Bytes {
                run: of,
                bytes: more.to_vec(),
            }),
        }
    }

    /// All of a run has come.
    pub fn end(&mut self, run: u64, sha256: [u8; 32]) {
        if self.keeps {
            self.pieces.push(Piece::End { run, sha256 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sha2::{Digest, Sha256};

    use super::super::flow::Flow;
    use super::*;

    /// What is kept of each run, if its hash is right.
    fn runs(pieces: Vec<Piece>) -> BTreeMap<u64, Vec<u8>> {
        let (mut open, mut ended): (BTreeMap<u64, Vec<u8>>, _) = (BTreeMap::new(), BTreeMap::new());
        for piece in pieces {
            match piece {
                Piece::Bytes { run, bytes } => open.entry(run).or_default().extend(bytes),
                Piece::End { run, sha256 } => {
                    let all = open.remove(&run).unwrap();
                    assert_eq!(<[u8; 32]>::from(Sha256::digest(&all)), sha256);
                    ended.insert(run, all);
                }
            }
        }
        assert!(open.is_empty());
        ended
    }

    fn keeping(runs: u64) -> Pool {
        let mut pool = Pool::default();
        pool.keep();
        pool.allow(runs);
        pool
    }

    #[test]
    fn every_run_is_kept_in_order_and_what_waits_is_said() {
        let (mut pool, mut flow) = (keeping(9), Flow::default());
        flow.take(0, b"zero", &mut pool);
        assert!(!pool.waited());
        flow.take(8, b"late", &mut pool);
        assert!(pool.waited());
        flow.take(4, b"four", &mut pool);
        assert!(!pool.waited(), "it is told once");
        // Once more what was there, and what never is reached.
        flow.take(2, b"ro", &mut pool);
        flow.take(100, b"far", &mut pool);
        assert!(pool.waited());
        flow.finish(&mut pool);
        let kept = runs(pool.pieces());
        let kept: Vec<&[u8]> = kept.values().map(Vec::as_slice).collect();
        assert_eq!(kept, [b"zerofourlate".as_slice(), b"ro", b"far"]);
        assert_eq!(pool.left(), 6);
        assert_eq!(pool.pieces(), []);
    }

    #[test]
    fn no_more_runs_begin_than_may_and_nothing_is_kept_unasked() {
        let (mut pool, mut flow) = (keeping(1), Flow::default());
        flow.take(0, b"one", &mut pool);
        flow.take(0, b"two", &mut pool);
        assert!(pool.overran());
        flow.take(3, b"three", &mut pool);
        assert_eq!(runs(pool.pieces()).into_values().collect::<Vec<_>>(), [b"one"]);
        let (mut pool, mut flow) = (Pool::default(), Flow::default());
        flow.take(0, b"one", &mut pool);
        flow.finish(&mut pool);
        assert_eq!((pool.pieces(), pool.overran()), (Vec::new(), false));
    }
}
