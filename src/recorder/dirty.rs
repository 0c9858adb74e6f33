//! What a spool wants its workers to do.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// What the workers must be told.
#[derive(Default)]
pub struct Dirty {
    pub sign: bool,
    pub sync: bool,
    /// Lines to be looked at, in session ms.
    pub echo_at: Option<u64>,
}

/// What a sync has to see to.
#[derive(Default)]
pub struct Unsynced {
    pub files: Vec<Arc<File>>,
    pub folders: Vec<PathBuf>,
    /// A file system that is synced whole.
    pub system: Option<PathBuf>,
    /// Tails that may go once the files are synced.
    pub tails: Vec<PathBuf>,
}
