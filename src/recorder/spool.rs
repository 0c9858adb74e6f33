//! One session's files: the main file, which only grows into its final form,
//! and the tail of the current segment.
//!
//! What a crash leaves behind after each step: a torn record at the end of a
//! tail, which its length tells; a tail whose chunk is in the main file
//! already, which its index tells; a torn chunk at the end of the main file,
//! which its missing leaf tells. Recovery reads exactly that.

mod flood;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use portcullis_recording::event::ChannelAccount;
use portcullis_recording::limits::SEGMENT_BYTES_TARGET;
use portcullis_recording::spool::{ENVELOPE_FILE, MAIN_FILE, session_name, tail_file};
use portcullis_recording::{Event, Flood, Main, Timed, Writer};

use super::append::{append_synced, append_taken};
use super::blobs::Blobs;
use super::bulk::{borrow, data_len, incompressible};
use super::commands::Commands;
use super::dirty::{Dirty, Unsynced};
use super::job::{Job, MainFile, lock};
use super::lines::Lines;
use super::reserve::Share;
use super::screens::Screens;
use super::tally::Tally;
use super::{Finished, Part, Recipients, RecorderError, SEGMENT_MS_MAX, pace};
use crate::kernel::labels::Labels;

/// Data taken at once from which on it goes straight into the main file, in bytes.
const BULK_BYTES_MIN: usize = 16 * 1024;
/// Capacity of the write buffer that is kept between writes, in bytes.
const BUFFER_BYTES_KEPT: usize = 4096;

#[expect(clippy::large_enum_variant, reason = "few at a time, and moved once")]
enum Mode {
    Tail(Writer),
    Bulk(Box<Flood>),
    /// Only while one turns into the other, or after the end.
    Gone,
}

/// One session's spool.
pub struct Spool {
    folder: PathBuf,
    share: Arc<Share>,
    mode: Mode,
    main: Arc<Mutex<MainFile>>,
    /// The main file again: taking it needs no lock that the sealer holds.
    main_file: Arc<File>,
    tail: Option<Arc<File>>,
    /// Tails that were closed since the last sync.
    closed: Vec<Arc<File>>,
    pub(super) blobs: Blobs,
    /// Tails whose chunk is in the main file but not synced there.
    encoded: Vec<PathBuf>,
    /// Folders with entries that are not synced.
    entries: Vec<PathBuf>,
    tail_since_ms: u64,
    terminals: BTreeMap<u32, Lines>,
    /// How often a channel's terminal has ended: line numbers are never used twice.
    ended_terminals: BTreeMap<u32, u32>,
    hidden: Hidden,
    wrap_to: Arc<Recipients>,
    /// The accounts and the end are in: nothing more is taken.
    ended: bool,
    jobs: VecDeque<Job>,
    /// What happened in bulk chunks since the last tail, as far as it is about commands.
    aside: Vec<Timed<'static>>,
    /// The open tail has something of a terminal.
    shows: bool,
    tally: Tally,
    waiting: usize,
    volume: u64,
    buffer: Vec<u8>,
    unsigned_since: Option<u64>,
    /// The clerk has been told.
    watched: bool,
    /// When the clerk was asked to look for lines that wait too long, in session ms.
    echo_watched: Option<u64>,
    unsynced: bool,
    /// The syncer has been told.
    sync_watched: bool,
}

/// Bytes of unechoed input per channel. Beside the spool's lock, so that the
/// accounts can ask for them while it is held.
pub type Hidden = Arc<Mutex<BTreeMap<u32, u64>>>;

pub(super) fn failed(what: &'static str) -> impl Fn(std::io::Error) -> RecorderError {
    move |error| RecorderError::io(what, &error)
}

impl Spool {
    /// The file that becomes the recording.
    pub fn main(&self) -> Arc<Mutex<MainFile>> {
        self.main.clone()
    }

    /// Makes the session's folder with the head in it.
    ///
    /// The envelope is durable before the head that names it: a recording
    /// without it could never be read.
    pub fn create(
        spools: &Path,
        writer: Writer,
        main: Main,
        head: &[u8],
        envelope: Option<&[u8]>,
        share: Arc<Share>,
        labels: Arc<Labels>,
    ) -> Result<Spool, RecorderError> {
        let folder = spools.join(session_name(&writer.head().session_id));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed("folder cannot be made"))?;
        if let Some(envelope) = envelope {
            crate::durable::write_new(&folder.join(ENVELOPE_FILE), envelope, 0o600)
                .map_err(|error| RecorderError::io("envelope cannot be written", &error.why))?;
        }
        let mut file = File::options()
            .append(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(MAIN_FILE))
            .map_err(failed("main file cannot be made"))?;
        file.write_all(head).map_err(failed("main file cannot be written"))?;
        let file = Arc::new(file);
        Ok(Spool {
            main_file: file.clone(),
            closed: Vec::new(),
            blobs: Blobs::new(folder.clone()),
            encoded: Vec::new(),
            entries: vec![folder.clone(), spools.to_owned()],
            folder,
            share,
            mode: Mode::Tail(writer),
            main: Arc::new(Mutex::new(MainFile {
                file,
                main,
                screens: Screens::default(),
                commands: Commands::new(labels),
            })),
            tail: None,
            tail_since_ms: 0,
            terminals: BTreeMap::new(),
            ended_terminals: BTreeMap::new(),
            hidden: Hidden::default(),
            wrap_to: Arc::default(),
            ended: false,
            jobs: VecDeque::new(),
            aside: Vec::new(),
            shows: false,
            tally: Tally::default(),
            waiting: 0,
            volume: 0,
            buffer: Vec::new(),
            unsigned_since: None,
            watched: false,
            echo_watched: None,
            unsynced: true,
            sync_watched: false,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn segments_waiting(&self) -> usize {
        self.waiting
    }

    pub fn segment_done(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Nothing can be appended behind what failed: the keys go, and with them
    /// what was buffered. Segments not handed over stay tails.
    pub fn poison(&mut self) {
        self.mode = Mode::Gone;
        self.buffer = Vec::new();
        self.waiting = self.waiting.saturating_sub(self.jobs.len());
        self.jobs.clear();
        self.terminals.clear();
        self.blobs.forget();
        self.unsigned_since = None;
    }

    /// The first of the segments that were closed and must be handed to the sealing worker.
    pub fn take_segment(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// What workers must be told; they count as told from here on.
    pub fn take_dirty(&mut self) -> Dirty {
        let sign = self.unsigned_since.is_some() && !self.watched;
        self.watched |= sign;
        let sync = self.unsynced && !self.sync_watched;
        self.sync_watched |= sync;
        let echo_at = match self.echo_watched {
            Some(_) => None,
            None => self.terminals.values().filter_map(Lines::due_ms).min(),
        };
        self.echo_watched = self.echo_watched.or(echo_at);
        Dirty { sign, sync, echo_at }
    }

    pub fn terminal(&mut self, channel: u32, cols: u32, rows: u32) {
        self.lines(channel).sized(cols, rows);
    }

    fn lines(&mut self, channel: u32) -> &mut Lines {
        let earlier = self.ended_terminals.get(&channel).copied().unwrap_or(0);
        self.terminals
            .entry(channel)
            .or_insert_with(|| Lines::new(channel, earlier, self.hidden.clone(), self.wrap_to.clone()))
    }

    /// Wraps the keys of hidden lines to these, before any is typed.
    pub fn wrap_hidden_to(&mut self, recipients: Arc<Recipients>) {
        self.wrap_to = recipients;
    }

    pub fn hidden(&self) -> Hidden {
        self.hidden.clone()
    }

    /// Takes a batch in one write.
    pub fn take(&mut self, at_ms: u64, channel: u32, parts: &[Part<'_>]) -> Result<(), RecorderError> {
        if self.ended {
            return Err(RecorderError::Ended);
        }
        if self.waiting >= pace::HELD_MAX {
            return Err(RecorderError::Failed("the sealer is too far behind".into()));
        }
        let mut events: Vec<Event<'_>> = Vec::with_capacity(parts.len());
        let mut data = 0;
        // Late output releases nothing: what waited too long is hidden first.
        if let Some(lines) = self.terminals.get_mut(&channel) {
            lines.expire(at_ms, false, &mut events);
        }
        for part in parts {
            match part {
                Part::Event(event) => {
                    if matches!(event, Event::ChannelClose { .. })
                        && let Some(mut lines) = self.terminals.remove(&channel)
                    {
                        lines.expire(at_ms, true, &mut events);
                        *self.ended_terminals.entry(channel).or_default() += 1;
                    }
                    if let (Event::Resize { cols, rows, .. }, Some(lines)) = (event, self.terminals.get_mut(&channel)) {
                        lines.sized(*cols, *rows);
                    }
                    data += data_len(event);
                    events.push(borrow(event));
                }
                Part::Content(piece) => {
                    self.unsynced = true;
                    self.blobs.take(channel, piece, &self.share)?;
                }
                // Terminal input is never clear, whoever forgot to announce the terminal.
                Part::Typed(bytes) => self.lines(channel).typed(at_ms, bytes, &mut events)?,
                Part::Shown(bytes) => {
                    data += bytes.len();
                    events.push(Event::Output((*bytes).into()));
                    if let Some(lines) = self.terminals.get_mut(&channel) {
                        lines.shown(bytes, &mut events);
                    }
                }
            }
        }
        self.volume = self.volume.saturating_add(data as u64);
        self.write(at_ms, channel, &events, data)
    }

    /// Hides what waits too long for its echo.
    fn expire(&mut self, at_ms: u64, all: bool) -> Result<(), RecorderError> {
        let mut expired = Vec::new();
        for (channel, lines) in &mut self.terminals {
            let mut events = Vec::new();
            lines.expire(at_ms, all, &mut events);
            if !events.is_empty() {
                expired.push((*channel, events));
            }
        }
        for (channel, events) in expired {
            self.write(at_ms, channel, &events, 0)?;
        }
        Ok(())
    }

    /// The last lines' verdicts, the accounts and the reason; nothing is taken
    /// afterwards. One step under the lock: no late event comes between.
    pub fn end(
        &mut self,
        at_ms: u64,
        accounts: impl FnOnce() -> Vec<ChannelAccount>,
        code: &str,
        text: &str,
    ) -> Result<(), RecorderError> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(RecorderError::Ended);
        }
        self.expire(at_ms, true)?;
        self.terminals.clear();
        self.blobs.forget();
        // By a tail, whatever came before: what is read off the session goes behind its last events.
        self.end_bulk()?;
        let events = [
            Event::Accounts(accounts()),
            Event::End {
                code: code.into(),
                text: text.into(),
            },
        ];
        self.write(at_ms, 0, &events, 0)?;
        self.close_tail(at_ms)?;
        if let Some(job) = self.jobs.back_mut() {
            job.last = true;
        }
        Ok(())
    }

    fn write(&mut self, at_ms: u64, channel: u32, events: &[Event<'_>], data: usize) -> Result<(), RecorderError> {
        self.unsynced = true;
        events.iter().for_each(|event| self.tally.note(event));
        if !self.terminals.is_empty() {
            self.end_bulk()?;
            self.shows = true;
        }
        if data >= BULK_BYTES_MIN && self.terminals.is_empty() && incompressible(events) {
            self.begin_bulk(at_ms)?;
        }
        match &self.mode {
            Mode::Bulk(_) => self.write_bulk(at_ms, channel, events, data),
            Mode::Tail(_) => self.write_tail(at_ms, channel, events),
            Mode::Gone => Err(RecorderError::Failed("the recording has ended".into())),
        }
    }

    fn write_tail(&mut self, at_ms: u64, channel: u32, events: &[Event<'_>]) -> Result<(), RecorderError> {
        for event in events {
            let Mode::Tail(writer) = &mut self.mode else {
                return Err(RecorderError::Failed("the recording has ended".into()));
            };
            if !writer.tail_is_open() {
                self.buffer.clear();
                let path = self.folder.join(tail_file(writer.index()));
                writer.open_tail(&mut self.buffer)?;
                let mut new = File::options();
                new.append(true).read(true).create_new(true).mode(0o600);
                let made = self.share.taking().make(|| new.open(&path));
                let file = made.map_err(failed("tail cannot be made"))?;
                self.tail = Some(Arc::new(file));
                if !self.entries.contains(&self.folder) {
                    self.entries.push(self.folder.clone());
                }
                self.tail_since_ms = at_ms;
            }
            writer.push(at_ms, channel, event, &mut self.buffer)?;
            if writer.dirty() >= SEGMENT_BYTES_TARGET as u64 {
                writer.check(at_ms, &mut self.buffer)?;
            }
            if writer.tail_len() >= pace::tail_bytes(self.waiting) {
                self.flush_tail()?;
                self.close_tail(at_ms)?;
            }
        }
        self.flush_tail()?;
        if let Mode::Tail(writer) = &self.mode
            && writer.dirty() > 0
        {
            self.unsigned_since.get_or_insert(at_ms);
        }
        Ok(())
    }

    fn flush_tail(&mut self) -> Result<(), RecorderError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let tail = self
            .tail
            .as_ref()
            .ok_or(RecorderError::Failed("no tail is open".into()))?;
        append_taken(tail, &self.buffer, self.share.taking()).map_err(failed("cannot be appended to"))?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Signs the tail's end, closes it and queues its re-encoding.
    fn close_tail(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        let Mode::Tail(writer) = &mut self.mode else {
            return Ok(());
        };
        if !writer.tail_is_open() {
            return Ok(());
        }
        if self.waiting >= pace::HELD_HARD_MAX {
            return Err(RecorderError::Failed("the sealer is too far behind".into()));
        }
        writer.check(at_ms, &mut self.buffer)?;
        self.flush_tail()?;
        let Mode::Tail(writer) = &mut self.mode else {
            return Ok(());
        };
        let segment = writer.close_tail()?;
        let path = self.folder.join(tail_file(segment.index()));
        self.closed.extend(self.tail.take());
        self.unsigned_since = None;
        self.waiting += 1;
        self.jobs.push_back(Job {
            segment,
            path,
            main: self.main.clone(),
            level: pace::level(self.waiting, self.volume),
            terminals: self.terminals.keys().copied().collect(),
            entered: self.terminals.values().flat_map(Lines::entered).collect(),
            before: std::mem::take(&mut self.aside),
            last: false,
        });
        self.shows = false;
        Ok(())
    }

    /// Hides lines that wait too long, signs what is unsigned and closes a
    /// segment that is old.
    pub fn tick(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        self.watched = false;
        if self.echo_watched.is_some_and(|due| at_ms >= due) {
            self.echo_watched = None;
        }
        if !self.ended {
            self.expire(at_ms, false)?;
        }
        match &mut self.mode {
            Mode::Bulk(_) => self.end_bulk()?,
            Mode::Tail(writer) if writer.tail_is_open() => {
                writer.check(at_ms, &mut self.buffer)?;
                self.flush_tail()?;
                self.unsigned_since = None;
                if at_ms.saturating_sub(self.tail_since_ms) >= SEGMENT_MS_MAX {
                    self.close_tail(at_ms)?;
                }
            }
            Mode::Tail(_) | Mode::Gone => {}
        }
        Ok(())
    }

    /// What has unsynced bytes; it counts as synced from here on.
    pub fn take_unsynced(&mut self) -> Unsynced {
        self.sync_watched = false;
        if !std::mem::take(&mut self.unsynced) {
            return Unsynced::default();
        }
        let mut files = std::mem::take(&mut self.closed);
        files.extend(self.tail.clone());
        files.push(self.main_file.clone());
        let mut unsynced = Unsynced {
            files,
            system: None,
            folders: std::mem::take(&mut self.entries),
            tails: std::mem::take(&mut self.encoded),
        };
        self.blobs.take_unsynced(&mut unsynced);
        unsynced
    }

    /// Seals: INDEX, SEAL, seek table, synced.
    pub fn finish(&mut self, at_ms: u64, code: &str, text: &str) -> Result<Finished, RecorderError> {
        let Mode::Tail(writer) = std::mem::replace(&mut self.mode, Mode::Gone) else {
            return Err(RecorderError::Failed("the recording has ended".into()));
        };
        let mut main = lock(&self.main);
        let (bytes, sealed) = writer.finish(&mut main.main, at_ms, code, text)?;
        append_synced(&main.file, &bytes, self.share.sealing(), File::sync_all)?;
        let bytes = sealed.file_bytes();
        let mut tally = std::mem::take(&mut self.tally);
        tally.add_commands(main.commands.tally());
        Ok(Finished {
            tally: Some(tally),
            path: self.folder.join(MAIN_FILE),
            folder: self.folder.clone(),
            sealed,
            bytes,
        })
    }
}

#[cfg(test)]
impl Spool {
    /// As if the sealer were this far behind.
    pub fn behind(&mut self, waiting: usize) {
        self.waiting = waiting;
    }

    pub fn terminals(&self) -> usize {
        self.terminals.len()
    }

    pub fn is_gone(&self) -> bool {
        matches!(self.mode, Mode::Gone) && self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_that_was_not_synced_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main");
        let mut file = File::options().create_new(true).append(true).open(&path).unwrap();
        file.write_all(b"chunks").unwrap();
        let share = Share::new(Arc::new(super::super::Reserve::left(folder.path())), false);
        let failing = |_: &File| Err(std::io::Error::other("injected"));
        let error = append_synced(&file, b"seal", share.sealing(), failing).unwrap_err();
        assert!(error.to_string().contains("durability is unknown"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"chunks");
        append_synced(&file, b"seal", share.sealing(), File::sync_all).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"chunksseal");
    }
}
