//! What the ledger's two tasks share: the tree so far, and what waits to be
//! published.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_recording::merkle::Hash;
use tokio::sync::Notify;

use super::tiles::{Edge, Tile};

/// One offset is kept for this many frames; the others are found by reading on.
pub(super) const OFFSET_EVERY: u64 = 64;

/// A point in the order of durability; see the module docs of `ledger`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// Before the journal is written to.
    Append,
    /// Written, not synced.
    Appended,
    /// The leaves are durable; nobody was told.
    Synced,
    /// A checkpoint is signed; nothing of it is on disk.
    Signed,
    /// One tile is in place.
    Tile,
    /// Every tile is in place; the old checkpoint still stands.
    Tiles,
    /// The new checkpoint stands.
    Swapped,
}

/// Looks on, or fails, at every step: how tests cut the power.
pub type Hook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The durable log in memory.
pub(super) struct Log {
    pub edge: Edge,
    /// Full tiles that are not on disk yet.
    pub pending: Vec<Tile>,
    /// Where frames 0, 64, 128, … begin in the journal.
    pub offsets: Vec<u64>,
    /// Why nothing is taken any more.
    pub stopped: Option<String>,
    /// Why the last publication failed.
    pub unpublished: Option<String>,
}

impl Log {
    pub fn new() -> Log {
        Log {
            edge: Edge::default(),
            pending: Vec::new(),
            offsets: Vec::new(),
            stopped: None,
            unpublished: None,
        }
    }

    /// Takes in a durable entry whose frame begins at `offset`.
    pub fn push(&mut self, entry: &Hash, offset: u64, full: impl FnMut(Tile)) {
        if self.edge.size().is_multiple_of(OFFSET_EVERY) {
            self.offsets.push(offset);
        }
        self.edge.append(entry, full);
    }
}

pub(super) struct Shared {
    pub dir: PathBuf,
    pub origin: String,
    log: Mutex<Log>,
    /// Something is durable that is not published.
    pub dirty: Notify,
    /// Somebody waits for a checkpoint.
    pub demand: Notify,
    hook: Option<Hook>,
}

impl Shared {
    pub fn new(dir: PathBuf, origin: String, log: Log, hook: Option<Hook>) -> Shared {
        Shared {
            dir,
            origin,
            log: Mutex::new(log),
            dirty: Notify::new(),
            demand: Notify::new(),
            hook,
        }
    }

    /// Never held across a wait or a system call.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn at(&self, step: Step) -> io::Result<()> {
        match &self.hook {
            Some(hook) => hook(step),
            None => Ok(()),
        }
    }
}
