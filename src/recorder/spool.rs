//! One session's files: the main file, which only grows into its final form,
//! and the tail of the current segment.
//!
//! What a crash leaves behind after each step: a torn record at the end of a
//! tail, which its length tells; a tail whose chunk is in the main file
//! already, which its index tells; a torn chunk at the end of the main file,
//! which its missing leaf tells. Recovery reads exactly that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_recording::limits::SEGMENT_BYTES_TARGET;
use portcullis_recording::spool::{MAIN_FILE, session_name, tail_file};
use portcullis_recording::{Event, Flood, Main, Piece, Segment, Writer};

use super::lines::Lines;
use super::reserve::Reserve;
use super::screens::Screens;
use super::{Finished, Part, RecorderError, SEGMENT_MS_MAX};

/// Data taken at once from which on it goes straight into the main file, in bytes.
const BULK_BYTES_MIN: usize = 16 * 1024;
/// A tail up to this size is re-encoded in place when bulk begins, in bytes.
const SMALL_TAIL_BYTES: u64 = 64 * 1024;
/// Raw bytes of one bulk chunk: what may be unsigned at once.
const BULK_CHUNK_BYTES: u64 = 1024 * 1024 - 256 * 1024;
/// Slices given to one writev (IOV_MAX is 1024).
const SLICES_MAX: usize = 512;
/// Sessions with more output than this are re-encoded at the faster level, in bytes.
const VOLUME_BYTES: u64 = 8 * 1024 * 1024;
/// zstd levels for small and for large sessions.
const LEVEL_SMALL: i32 = 9;
const LEVEL_LARGE: i32 = 3;
/// Bytes of a bulk sample that tell whether it compresses.
const SAMPLE_BYTES: usize = 4096;
/// Capacity of the write buffer that is kept between writes, in bytes.
const BUFFER_BYTES_KEPT: usize = 4096;

/// The file that becomes the recording.
pub struct MainFile {
    pub file: Arc<File>,
    pub main: Main,
    pub screens: Screens,
}

/// A closed segment on its way into the main file.
pub struct Job {
    pub segment: Segment,
    pub path: PathBuf,
    pub main: Arc<Mutex<MainFile>>,
    pub level: i32,
    pub terminals: Vec<u32>,
}

enum Mode {
    Tail(Writer),
    Bulk(Box<Flood>),
    /// Only while one turns into the other, or after the end.
    Gone,
}

/// One session's spool.
pub struct Spool {
    folder: PathBuf,
    mode: Mode,
    main: Arc<Mutex<MainFile>>,
    tail: Option<Arc<File>>,
    tail_since_ms: u64,
    terminals: BTreeMap<u32, Lines>,
    jobs: Vec<Job>,
    waiting: usize,
    volume: u64,
    buffer: Vec<u8>,
    unsigned_since: Option<u64>,
    watched: bool,
    unsynced: bool,
    bulk_since: Option<u64>,
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> RecorderError {
    move |error| RecorderError::Spool { what, why: error.to_string() }
}

fn lock(main: &Mutex<MainFile>) -> MutexGuard<'_, MainFile> {
    main.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Makes the session's folder with the head in it.
    pub fn create(spools: &Path, writer: Writer, main: Main, head: &[u8]) -> Result<Spool, RecorderError> {
        let folder = spools.join(session_name(&writer.head().session_id));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed("folder cannot be made"))?;
        let mut file = File::options()
            .append(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join(MAIN_FILE))
            .map_err(failed("main file cannot be made"))?;
        file.write_all(head).map_err(failed("main file cannot be written"))?;
        Ok(Spool {
            folder,
            mode: Mode::Tail(writer),
            main: Arc::new(Mutex::new(MainFile {
                file: Arc::new(file),
                main,
                screens: Screens::default(),
            })),
            tail: None,
            tail_since_ms: 0,
            terminals: BTreeMap::new(),
            jobs: Vec::new(),
            waiting: 0,
            volume: 0,
            buffer: Vec::new(),
            unsigned_since: None,
            watched: false,
            unsynced: true,
            bulk_since: None,
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
        self.unsynced = true;
    }

    /// Segments that were closed and must be handed to the sealing worker.
    pub fn take_segment(&mut self) -> Option<Vec<Job>> {
        (!self.jobs.is_empty()).then(|| std::mem::take(&mut self.jobs))
    }

    /// Whether a worker must be told that there is something to sign or sync.
    pub fn take_dirty(&mut self) -> bool {
        let dirty = self.unsigned_since.is_some() && !self.watched;
        self.watched |= dirty;
        dirty
    }

    pub fn terminal(&mut self, channel: u32, _cols: u32, _rows: u32) {
        self.terminals.entry(channel).or_insert_with(|| Lines::new(channel));
    }

    pub fn hidden_bytes(&self, channel: u32) -> u64 {
        self.terminals.get(&channel).map_or(0, Lines::hidden_bytes)
    }

    /// Takes a batch in one write.
    pub fn take(&mut self, at_ms: u64, channel: u32, parts: &[Part<'_>]) -> Result<(), RecorderError> {
        let mut events: Vec<Event<'_>> = Vec::with_capacity(parts.len());
        let mut lines = self.terminals.get_mut(&channel);
        let mut data = 0;
        for part in parts {
            match (part, &mut lines) {
                (Part::Event(event), _) => {
                    data += data_len(event);
                    events.push(borrow(event));
                }
                (Part::Typed(bytes), Some(lines)) => {
                    let mut sealed = Vec::new();
                    lines.typed(at_ms, bytes, &mut sealed)?;
                    events.extend(sealed);
                }
                (Part::Typed(bytes), None) => events.push(Event::Input((*bytes).into())),
                (Part::Shown(bytes), lines) => {
                    data += bytes.len();
                    events.push(Event::Output((*bytes).into()));
                    if let Some(lines) = lines {
                        let mut released = Vec::new();
                        lines.shown(bytes, &mut released);
                        events.extend(released);
                    }
                }
            }
        }
        if let Some(lines) = lines {
            let mut expired = Vec::new();
            lines.expire(at_ms, false, &mut expired);
            events.extend(expired);
        }
        self.volume = self.volume.saturating_add(data as u64);
        self.write(at_ms, channel, &events, data)
    }

    /// Hides every line that is still undecided.
    pub fn hide_rest(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        let channels: Vec<u32> = self.terminals.keys().copied().collect();
        for channel in channels {
            let mut events = Vec::new();
            if let Some(lines) = self.terminals.get_mut(&channel) {
                lines.expire(at_ms, true, &mut events);
            }
            if !events.is_empty() {
                self.write(at_ms, channel, &events, 0)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, at_ms: u64, channel: u32, events: &[Event<'_>], data: usize) -> Result<(), RecorderError> {
        self.unsynced = true;
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
                let file = File::options()
                    .append(true)
                    .read(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)
                    .map_err(failed("tail cannot be made"))?;
                self.tail = Some(Arc::new(file));
                self.tail_since_ms = at_ms;
            }
            writer.push(at_ms, channel, event, &mut self.buffer)?;
            if writer.dirty() >= SEGMENT_BYTES_TARGET as u64 {
                writer.check(at_ms, &mut self.buffer)?;
            }
            let full = writer.tail_len() >= SEGMENT_BYTES_TARGET as u64;
            if full {
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
        let tail = self.tail.as_ref().ok_or(RecorderError::Failed("no tail is open".into()))?;
        let mut file: &File = tail;
        file.write_all(&self.buffer).map_err(failed("cannot be appended to"))?;
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
        writer.check(at_ms, &mut self.buffer)?;
        self.flush_tail()?;
        let Mode::Tail(writer) = &mut self.mode else {
            return Ok(());
        };
        let segment = writer.close_tail()?;
        let path = self.folder.join(tail_file(segment.index()));
        self.tail = None;
        self.unsigned_since = None;
        self.waiting += 1;
        self.jobs.push(Job {
            segment,
            path,
            main: self.main.clone(),
            level: if self.volume > VOLUME_BYTES { LEVEL_LARGE } else { LEVEL_SMALL },
            terminals: self.terminals.keys().copied().collect(),
        });
        Ok(())
    }

    /// Ends the open segment, whatever its size.
    pub fn close_segment(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        self.end_bulk(at_ms)?;
        self.close_tail(at_ms)
    }

    /// Turns to writing straight into the main file, if nothing must come before.
    fn begin_bulk(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        let Mode::Tail(writer) = &self.mode else {
            return Ok(());
        };
        if self.waiting > 0 {
            return Ok(());
        }
        if writer.tail_is_open() {
            let small = writer.tail_len() <= SMALL_TAIL_BYTES;
            self.close_tail(at_ms)?;
            if !small {
                return Ok(());
            }
            // A few kilobytes are re-encoded faster than handed over.
            for job in std::mem::take(&mut self.jobs) {
                encode(job, None)?;
                self.waiting = self.waiting.saturating_sub(1);
            }
        }
        if let Mode::Tail(writer) = std::mem::replace(&mut self.mode, Mode::Gone) {
            let flood = writer.into_flood(&lock(&self.main).main)?;
            self.mode = Mode::Bulk(Box::new(flood));
            self.bulk_since = None;
        }
        Ok(())
    }

    fn write_bulk(&mut self, at_ms: u64, channel: u32, events: &[Event<'_>], data: usize) -> Result<(), RecorderError> {
        let full = match &self.mode {
            Mode::Bulk(flood) => flood.raw_len() >= BULK_CHUNK_BYTES,
            Mode::Tail(_) | Mode::Gone => false,
        };
        if full {
            self.end_bulk(at_ms)?;
            if data < BULK_BYTES_MIN {
                return self.write_tail(at_ms, channel, events);
            }
            self.begin_bulk(at_ms)?;
        }
        let Mode::Bulk(flood) = &mut self.mode else {
            return self.write_tail(at_ms, channel, events);
        };
        let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(events.len() * 2);
        for event in events {
            flood.push(at_ms, channel, event, &mut pieces)?;
        }
        let file = lock(&self.main).file.clone();
        write_pieces(&file, &pieces).map_err(failed("cannot be appended to"))?;
        self.unsigned_since.get_or_insert(at_ms);
        Ok(())
    }

    /// Finishes the bulk chunk and signs it.
    fn end_bulk(&mut self, _at_ms: u64) -> Result<(), RecorderError> {
        match std::mem::replace(&mut self.mode, Mode::Gone) {
            Mode::Bulk(flood) => {
                let mut main = lock(&self.main);
                let (writer, bytes) = flood.finish(&mut main.main)?;
                let mut file: &File = &main.file;
                file.write_all(&bytes).map_err(failed("cannot be appended to"))?;
                drop(main);
                self.mode = Mode::Tail(writer);
                self.unsigned_since = None;
            }
            other @ (Mode::Tail(_) | Mode::Gone) => self.mode = other,
        }
        Ok(())
    }

    /// Signs what is unsigned and closes a segment that is old; answers with
    /// the ms after which to look again, if anything waits.
    pub fn tick(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        self.watched = false;
        match &mut self.mode {
            Mode::Bulk(_) => self.end_bulk(at_ms)?,
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

    /// The files that have unsynced bytes; they count as synced from here on.
    pub fn take_unsynced(&mut self) -> Vec<Arc<File>> {
        if !std::mem::take(&mut self.unsynced) {
            return Vec::new();
        }
        let mut files: Vec<Arc<File>> = self.tail.iter().cloned().collect();
        // The sealing worker syncs what it appends; only bulk is unsynced here.
        if let Ok(main) = self.main.try_lock() {
            files.push(main.file.clone());
        }
        files
    }

    /// Seals: INDEX, SEAL, seek table, synced.
    pub fn finish(&mut self, at_ms: u64, code: &str, text: &str, reserve: &Reserve) -> Result<Finished, RecorderError> {
        let Mode::Tail(writer) = std::mem::replace(&mut self.mode, Mode::Gone) else {
            return Err(RecorderError::Failed("the recording has ended".into()));
        };
        let mut main = lock(&self.main);
        let (bytes, sealed) = writer.finish(&mut main.main, at_ms, code, text)?;
        append(&main.file, &bytes, Some(reserve)).map_err(failed("found no room for the seal"))?;
        main.file.sync_all().map_err(failed("cannot be synced"))?;
        let bytes = sealed.file_bytes();
        Ok(Finished {
            path: self.folder.join(MAIN_FILE),
            folder: self.folder.clone(),
            sealed,
            bytes,
        })
    }
}

/// Re-encodes one segment into the main file and drops its tail.
///
/// Order: chunk and leaf appended, synced, and only then the tail removed.
pub fn encode(job: Job, reserve: Option<&Reserve>) -> Result<(), RecorderError> {
    let bytes = std::fs::read(&job.path).map_err(failed("cannot be read back"))?;
    let mut guard = lock(&job.main);
    let main = &mut *guard;
    let keyframes = main.screens.keyframes();
    if !job.terminals.is_empty() {
        main.screens.follow(job.segment.outputs(&bytes)?, &job.terminals);
    }
    let chunk = job.segment.encode(&bytes, &keyframes, job.level, &mut main.main)?;
    append(&main.file, &chunk, reserve).map_err(failed("cannot be appended to"))?;
    main.file.sync_data().map_err(failed("cannot be synced"))?;
    drop(guard);
    std::fs::remove_file(&job.path).map_err(failed("tail cannot be removed"))?;
    Ok(())
}

/// Appends all or nothing; gives the reserve up if there is no room.
fn append(file: &File, bytes: &[u8], reserve: Option<&Reserve>) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    let mut writing: &File = file;
    match (writing.write_all(bytes), reserve) {
        (Ok(()), _) => Ok(()),
        (Err(error), Some(reserve)) if error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) => {
            file.set_len(before)?;
            reserve.release();
            writing.write_all(bytes)
        }
        (Err(error), _) => Err(error),
    }
}

fn write_pieces(file: &File, pieces: &[Piece<'_>]) -> std::io::Result<()> {
    let slices: Vec<IoSlice<'_>> = pieces
        .iter()
        .flat_map(|piece| [piece.lead(), piece.payload()])
        .filter(|bytes| !bytes.is_empty())
        .map(IoSlice::new)
        .collect();
    let mut writing: &File = file;
    for slices in slices.chunks(SLICES_MAX) {
        let mut slices = slices.to_vec();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match writing.write_vectored(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn data_len(event: &Event<'_>) -> usize {
    match event {
        Event::Output(bytes) | Event::Input(bytes) | Event::Stderr(bytes) => bytes.len(),
        _ => 0,
    }
}

/// The same event without copying its bytes.
fn borrow<'a>(event: &'a Event<'_>) -> Event<'a> {
    match event {
        Event::Output(bytes) => Event::Output(bytes.as_ref().into()),
        Event::Input(bytes) => Event::Input(bytes.as_ref().into()),
        Event::Stderr(bytes) => Event::Stderr(bytes.as_ref().into()),
        other => other.clone().into_owned(),
    }
}

/// Whether the largest data event looks like it will not shrink: close to all
/// byte values appear in a sample. Text that compresses goes by the tail and
/// is re-encoded off the session's path.
fn incompressible(events: &[Event<'_>]) -> bool {
    let largest = events
        .iter()
        .filter_map(|event| match event {
            Event::Output(bytes) | Event::Input(bytes) | Event::Stderr(bytes) => Some(bytes.as_ref()),
            _ => None,
        })
        .max_by_key(|bytes| bytes.len())
        .unwrap_or_default();
    let sample = largest.get(..SAMPLE_BYTES.min(largest.len())).unwrap_or_default();
    let mut counts = [0u32; 256];
    for byte in sample {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    // Sum of squares (the collision count): 1/256 for noise, several times
    // that for anything zstd can win much on.
    let squares: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(*count)).sum();
    let length = sample.len() as u64;
    length >= 1024 && squares.saturating_mul(256) < length.saturating_mul(length).saturating_mul(3) / 2
}
