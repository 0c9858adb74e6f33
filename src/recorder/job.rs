//! A closed segment on its way into the main file.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_recording::{Main, Segment, Timed};

use super::commands::Commands;
use super::screens::Screens;

/// The file that becomes the recording, and what was read off its chunks.
pub struct MainFile {
    pub file: Arc<File>,
    pub main: Main,
    pub screens: Screens,
    pub commands: Commands,
}

/// A closed segment.
pub struct Job {
    pub segment: Segment,
    pub path: PathBuf,
    pub main: Arc<Mutex<MainFile>>,
    pub level: i32,
    /// Channels with a terminal at its end.
    pub terminals: Vec<u32>,
    /// Lines whose Enter is typed and whose echo is not decided at its end.
    pub entered: BTreeSet<u64>,
    /// What happened in bulk chunks before it.
    pub before: Vec<Timed<'static>>,
    /// Nothing comes behind it.
    pub last: bool,
}

pub fn lock(main: &Mutex<MainFile>) -> MutexGuard<'_, MainFile> {
    main.lock().unwrap_or_else(PoisonError::into_inner)
}
