//! Follows SFTP version 3 (draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL
//! section 4): requests go up, each with a number, and answers come down with
//! the same numbers, in any order.

use std::collections::BTreeMap;

use super::changes::Changes;
use super::limit::Limit;
use super::open_file::OpenFile;
use super::packet::{self, Answer, Request, flag, kind, status, status_words};
use super::pool::Pool;
use super::waiting::{Asked, Waiting, not_open, plain, within};
use super::wire::{Frames, HANDLE_BYTES_MAX, Step};
use super::{Content, Deed, Outcome, Told, Unknown, Way, What, clipped};

/// Reads, writes and questions without an answer at once.
const WAITING_MAX: usize = 4096;
/// Requests with a path in them without an answer at once.
const WAITING_NAMED_MAX: usize = 256;
/// Files and folders open at once.
const OPEN_MAX: usize = 512;
/// The version that is followed.
const VERSION: u32 = 3;

/// What a handle stands for.
#[derive(Debug)]
enum Held {
    File(u32),
    Folder { path: Vec<u8>, at_ms: u64 },
}

/// Where the bytes that pass by belong.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    file: u32,
    offset: u64,
    got: u32,
    /// Of a read: how much was asked for.
    asked: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Talk {
    #[default]
    Nothing,
    Begun,
    Agreed,
    Lost,
}

/// One SFTP channel.
#[derive(Debug, Default)]
pub struct Sftp {
    up: Frames,
    down: Frames,
    talk: Talk,
    pub(super) waiting: BTreeMap<u32, Waiting>,
    pub(super) waiting_named: usize,
    handles: BTreeMap<Vec<u8>, Held>,
    pub(super) files: BTreeMap<u32, OpenFile>,
    next: u32,
    writing: Option<Stretch>,
    reading: Option<Stretch>,
    pub(super) pool: Pool,
    /// The longest read that was answered in full, in bytes.
    full: u32,
    pub(super) changes: Changes,
    /// Bytes crossed that belong to no file that is known.
    strays: bool,
    /// Of requests to open a file, by their number: as many as wait at most.
    pub(super) limits: BTreeMap<u32, Limit>,
}

/// Why the protocol is not followed any more.
type Lost = &'static str;
const OTHER_VERSION: Lost = "a version of the protocol that is not followed";

/// A deed with the answer to it.
fn answered_by(deed: Deed, code: u32) -> Told {
    Told::Deed(Deed {
        outcome: match code {
            status::OK => Outcome::Done,
            code => Outcome::Failed(status_words(code)),
        },
        ..deed
    })
}

impl Sftp {
    /// Takes bytes of one direction.
    pub fn saw(&mut self, at_ms: u64, way: Way, mut bytes: &[u8], told: &mut Vec<Told>) {
        while self.talk != Talk::Lost {
            let done = match way {
                Way::Up => self.step_up(at_ms, &mut bytes, told),
                Way::Down => self.step_down(&mut bytes, told),
            };
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => self.lose(why, told),
            }
        }
    }

    /// Whether it is not followed any more.
    pub fn is_lost(&self) -> bool {
        self.talk == Talk::Lost
    }

    /// Whether bytes crossed that belong to no file that is known.
    pub fn has_strays(&self) -> bool {
        self.strays
    }

    /// The channel's end.
    pub fn end(&mut self, told: &mut Vec<Told>) {
        self.leave(None, told);
    }

    /// Tells what is not answered or not closed, of files with the reason if it is not theirs.
    fn leave(&mut self, why_not: Option<Unknown>, told: &mut Vec<Told>) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            match waiting {
                Waiting::Deed(deed) => told.push(Told::Deed(Deed {
                    outcome: Outcome::Unfinished,
                    ..deed
                })),
                Waiting::Open(open) => told.push(Told::Deed(not_open(open, Outcome::Unfinished))),
                Waiting::Resize { deed, .. } | Waiting::Stranger { deed } => told.extend(deed.map(Told::Deed)),
                Waiting::Read { .. }
                | Waiting::Write { .. }
                | Waiting::Close { .. }
                | Waiting::FStat { .. }
                | Waiting::OpenDir { .. }
                | Waiting::Version
                | Waiting::Nothing => {}
            }
        }
        for held in std::mem::take(&mut self.handles).into_values() {
            match held {
                Held::File(_) => {}
                Held::Folder { path, at_ms } => {
                    told.push(Told::Deed(plain(What::List, &path, b"", at_ms, Outcome::Unfinished)));
                }
            }
        }
        for file in std::mem::take(&mut self.files).into_values() {
            let told_of = file.finish(&mut self.pool, why_not, self.changes.contents);
            told.extend(told_of.into_iter().map(Told::Deed));
        }
    }

    /// It is not followed from here on.
    pub fn lose(&mut self, why: Lost, told: &mut Vec<Told>) {
        self.talk = Talk::Lost;
        self.leave(Some(Unknown::Lost), told);
        *self = Sftp {
            talk: Talk::Lost,
            // What is to be kept of the last files is in it.
            pool: std::mem::take(&mut self.pool),
            ..Sftp::default()
        };
        told.push(Told::Lost(why));
    }

    fn step_up(&mut self, at_ms: u64, bytes: &mut &[u8], told: &mut Vec<Told>) -> Result<bool, Lost> {
        match self.up.step(bytes)? {
            Step::Hungry => return Ok(false),
            Step::Packet => {
                // Taken out and put back: its packet is read while all else may change.
                let up = std::mem::take(&mut self.up);
                let asked = self.ask(at_ms, up.packet(), told);
                self.up = up;
                asked?;
            }
            Step::Data(data) => {
                if let Some(stretch) = &mut self.writing
                    && let Some(file) = self.files.get_mut(&stretch.file)
                {
                    file.write(stretch.offset, data, &mut self.pool);
                    stretch.offset = stretch.offset.saturating_add(data.len() as u64);
                    told.extend(file.overfull(What::Upload).into_iter().map(Told::Deed));
                } else {
                    self.strays = true;
                }
            }
            Step::DataEnd => self.writing = None,
            Step::Passed(_) => {}
        }
        Ok(true)
    }

    fn step_down(&mut self, bytes: &mut &[u8], told: &mut Vec<Told>) -> Result<bool, Lost> {
        match self.down.step(bytes)? {
            Step::Hungry => return Ok(false),
            Step::Packet => {
                let down = std::mem::take(&mut self.down);
                let heard = self.hear(down.packet(), told);
                self.down = down;
                heard?;
            }
            Step::Data(data) => {
                if let Some(stretch) = &mut self.reading
                    && let Some(file) = self.files.get_mut(&stretch.file)
                {
                    file.read(stretch.offset, data, &mut self.pool);
                    stretch.offset = stretch.offset.saturating_add(data.len() as u64);
                    stretch.got = stretch
                        .got
                        .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
                    told.extend(file.overfull(What::Download).into_iter().map(Told::Deed));
                } else {
                    self.strays = true;
                }
            }
            Step::DataEnd => {
                if let Some(stretch) = self.reading.take() {
                    if stretch.got == stretch.asked {
                        self.full = self.full.max(stretch.asked);
                    }
                    if let Some(file) = self.files.get_mut(&stretch.file) {
                        let began = stretch.offset.saturating_sub(stretch.got.into());
                        file.got(began, stretch.asked, stretch.got, self.full);
                    }
                    self.answered(stretch.file, told);
                }
            }
            Step::Passed(_) => {}
        }
        Ok(true)
    }

    fn ask(&mut self, at_ms: u64, packet: &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        if self.talk == Talk::Nothing {
            packet::version(packet, kind::INIT).ok_or("a first packet that is no INIT")?;
            self.talk = Talk::Begun;
            return Ok(());
        }
        let (id, request) = packet::request(packet).ok_or("a request that cannot be read")?;
        let waiting = self.begin(at_ms, request, told)?;
        if waiting.is_named() {
            self.waiting_named = self.waiting_named.saturating_add(1);
        }
        if self.waiting.len() >= WAITING_MAX || self.waiting_named > WAITING_NAMED_MAX {
            return Err("more requests at once than are followed");
        }
        match self.waiting.insert(id, waiting) {
            Some(_) => Err("two requests of one number at once"),
            None => Ok(()),
        }
    }

    /// What a request begins, and what its answer is waited for with.
    fn begin(&mut self, at_ms: u64, request: Request<'_>, told: &mut Vec<Told>) -> Result<Waiting, Lost> {
        let changes =
            |what, path: &[u8], other: &[u8]| Waiting::Deed(plain(what, path, other, at_ms, Outcome::Unfinished));
        Ok(match request {
            Request::Open { path, flags, size } => {
                if flags & !flag::READ != 0 {
                    self.changes.contents();
                }
                Waiting::Open(Asked {
                    path: clipped(path),
                    flags,
                    size,
                    at_ms,
                    since: self.changes,
                })
            }
            Request::OpenDir { path } => Waiting::OpenDir {
                path: clipped(path),
                at_ms,
            },
            Request::Close { handle } => match self.handles.remove(handle) {
                Some(Held::File(file)) => Waiting::Close { file },
                Some(Held::Folder { path, at_ms }) => {
                    told.push(Told::Deed(plain(What::List, &path, b"", at_ms, Outcome::Done)));
                    Waiting::Nothing
                }
                None => {
                    self.changes.guess();
                    Waiting::Nothing
                }
            },
            Request::Read { handle, offset, length } => match self.file(handle) {
                Some((number, file)) => {
                    within(offset, length)?;
                    file.asked();
                    Waiting::Read {
                        file: number,
                        offset,
                        length,
                        over: file.reads_over(offset, length),
                    }
                }
                None => self.stranger(None),
            },
            Request::Write { handle, offset, length } => match self.file(handle) {
                Some((number, file)) => {
                    within(offset, length)?;
                    file.asked();
                    let over = file.writes_over(offset, length);
                    self.writing = Some(Stretch {
                        file: number,
                        offset,
                        got: 0,
                        asked: length,
                    });
                    self.changes.contents();
                    Waiting::Write { file: number, over }
                }
                None => self.stranger(None),
            },
            Request::FStat { handle } => match self.file(handle) {
                Some((number, file)) => {
                    file.asked();
                    Waiting::FStat {
                        file: number,
                        since: self.changes.contents,
                    }
                }
                None => Waiting::Nothing,
            },
            Request::SetStat { path, attributes } => {
                if attributes.size.is_some() {
                    self.changes.resize();
                    self.spoil_writers(path);
                }
                changes(What::SetAttributes, path, attributes.in_words().as_bytes())
            }
            Request::FSetStat { handle, attributes } => self.set_by_handle(at_ms, handle, attributes),
            Request::Remove { path } => changes(What::Remove, path, b""),
            Request::MakeDir { path } => changes(What::MakeDir, path, b""),
            Request::RemoveDir { path } => changes(What::RemoveDir, path, b""),
            Request::Rename { from, to } => changes(What::Rename, from, to),
            Request::Symlink { link, says } => changes(What::Symlink, link, says),
            Request::Hardlink { from, to } => changes(What::Hardlink, from, to),
            Request::Copy { from, to } => self.copy(at_ms, from, to),
            Request::Unknown => {
                self.spoil_all();
                Waiting::Nothing
            }
            Request::Version => Waiting::Version,
            Request::Stat { .. } | Request::Other => Waiting::Nothing,
        })
    }

    pub(super) fn file(&mut self, handle: &[u8]) -> Option<(u32, &mut OpenFile)> {
        match self.handles.get(handle)? {
            Held::File(number) => Some((*number, self.files.get_mut(number)?)),
            Held::Folder { .. } => None,
        }
    }

    fn hear(&mut self, packet: &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        if self.talk != Talk::Agreed {
            let version = packet::version(packet, kind::VERSION).ok_or("a first answer that is no VERSION")?;
            if self.talk == Talk::Nothing || version > VERSION {
                return Err(OTHER_VERSION);
            }
            self.talk = Talk::Agreed;
            return Ok(());
        }
        let (id, answer) = packet::answer(packet).ok_or("an answer that cannot be read")?;
        let waiting = self.waiting.remove(&id).ok_or("an answer that nobody waits for")?;
        let limit = self.limits.remove(&id);
        if waiting.is_named() {
            self.waiting_named = self.waiting_named.saturating_sub(1);
        }
        self.settle(waiting, answer, limit, told)
    }

    /// What an answer means for what was asked.
    fn settle(
        &mut self,
        waiting: Waiting,
        answer: Answer<'_>,
        limit: Option<Limit>,
        told: &mut Vec<Told>,
    ) -> Result<(), Lost> {
        const OTHERWISE: Lost = "an answer to another question";
        match (waiting, answer) {
            (
                Waiting::Read {
                    file, offset, length, ..
                },
                Answer::Data { length: got },
            ) => {
                if got > length {
                    return Err("more bytes than were asked for");
                }
                if let Some(open) = self.files.get_mut(&file) {
                    open.read_over(length);
                }
                self.reading = Some(Stretch {
                    file,
                    offset,
                    got: 0,
                    asked: length,
                });
            }
            (
                Waiting::Read {
                    file, offset, length, ..
                },
                Answer::Status(code),
            ) => {
                if let Some(open) = self.files.get_mut(&file) {
                    open.read_over(length);
                    match code {
                        status::EOF => open.ended(offset),
                        code => open.read_failed(code),
                    }
                }
                self.answered(file, told);
            }
            (Waiting::Write { file, .. }, Answer::Status(code)) => {
                if let Some(open) = self.files.get_mut(&file).filter(|_| code != status::OK) {
                    open.write_failed(code);
                }
                self.answered(file, told);
            }
            (Waiting::Close { file }, Answer::Status(code)) => {
                if let Some(open) = self.files.get_mut(&file) {
                    open.closed(code);
                }
                self.close_if_over(file, told);
            }
            (Waiting::FStat { file, since }, Answer::Attributes(attributes)) => {
                if let (Some(open), Some(length)) = (self.files.get_mut(&file), attributes.size) {
                    open.measured(length, since);
                }
                self.answered(file, told);
            }
            (
                Waiting::Resize {
                    file,
                    length,
                    number,
                    deed,
                },
                Answer::Status(code),
            ) => {
                match self.files.get_mut(&file) {
                    Some(open) if code == status::OK => open.resized(length, number),
                    // It may have been cut, and only what was asked beside that failed.
                    Some(open) => open.spoil(Unknown::ChangedMeanwhile),
                    None => {}
                }
                told.extend(deed.map(|deed| answered_by(deed, code)));
                self.answered(file, told);
            }
            (Waiting::Stranger { deed }, Answer::Status(code)) => {
                told.extend(deed.map(|deed| answered_by(deed, code)));
            }
            (Waiting::Version, Answer::Status(status::OK)) => return Err(OTHER_VERSION),
            (Waiting::FStat { file, .. }, Answer::Status(_)) => self.answered(file, told),
            (Waiting::Open(open), Answer::Handle(handle)) => {
                let number = self.opened(open, handle, told)?;
                if let (Some(limit), Some(open)) = (limit, number.and_then(|number| self.files.get_mut(&number))) {
                    open.limit(limit);
                }
            }
            (Waiting::OpenDir { path, at_ms }, Answer::Handle(handle)) => {
                self.hold(handle, Held::Folder { path, at_ms })?;
            }
            (Waiting::Open(open), Answer::Status(code)) => {
                let failed = Outcome::Failed(status_words(code));
                told.push(Told::Deed(not_open(open, failed)));
            }
            (Waiting::OpenDir { path, at_ms }, Answer::Status(code)) => {
                let failed = Outcome::Failed(status_words(code));
                told.push(Told::Deed(plain(What::List, &path, b"", at_ms, failed)));
            }
            (Waiting::Deed(deed), Answer::Status(code)) => told.push(answered_by(deed, code)),
            // A no to what changes nothing.
            (Waiting::Version | Waiting::Nothing, Answer::Status(_))
            | (
                Waiting::Stranger { .. } | Waiting::Nothing,
                Answer::Handle(_) | Answer::Data { .. } | Answer::Attributes(_) | Answer::Other,
            ) => {}
            (
                Waiting::Read { .. }
                | Waiting::Write { .. }
                | Waiting::Close { .. }
                | Waiting::FStat { .. }
                | Waiting::Resize { .. }
                | Waiting::Open(_)
                | Waiting::OpenDir { .. }
                | Waiting::Version
                | Waiting::Deed(_),
                Answer::Handle(_) | Answer::Data { .. } | Answer::Attributes(_) | Answer::Other,
            ) => return Err(OTHERWISE),
        }
        Ok(())
    }

    fn opened(&mut self, asked: Asked, handle: &[u8], told: &mut Vec<Told>) -> Result<Option<u32>, Lost> {
        // Also by one that is too many to be followed.
        let shared = asked.writes() && self.spoil_writers(&asked.path);
        if self.handles.len() >= OPEN_MAX || self.files.len() >= OPEN_MAX {
            let content = Content::none(Unknown::TooManyOpen);
            told.push(Told::Deed(Deed {
                content: Some(content),
                ..not_open(asked, Outcome::Unfinished)
            }));
            return Ok(None);
        }
        let since = asked.since;
        let mut file = OpenFile::new(asked);
        if shared || since.resizes != self.changes.resizes {
            file.spoil(Unknown::ChangedMeanwhile);
        }
        if since.guesses != self.changes.guesses {
            file.guessed();
        }
        let number = self.next;
        self.next = self.next.checked_add(1).ok_or("more files than are numbered")?;
        self.files.insert(number, file);
        self.hold(handle, Held::File(number))?;
        Ok(Some(number))
    }

    fn hold(&mut self, handle: &[u8], held: Held) -> Result<(), Lost> {
        if handle.len() > HANDLE_BYTES_MAX {
            return Err("a handle longer than any");
        }
        let folder = matches!(held, Held::Folder { .. });
        if folder && self.handles.len() >= OPEN_MAX {
            // Its names cross all the same; only that it was listed is not told.
            return Ok(());
        }
        match self.handles.insert(handle.to_vec(), held) {
            Some(_) => Err("one handle for two files"),
            None => Ok(()),
        }
    }

    /// A request about an open file was answered.
    pub(super) fn answered(&mut self, number: u32, told: &mut Vec<Told>) {
        if let Some(file) = self.files.get_mut(&number) {
            file.answered();
        }
        self.close_if_over(number, told);
    }

    fn close_if_over(&mut self, number: u32, told: &mut Vec<Told>) {
        let over = self.files.get(&number).is_some_and(OpenFile::is_over);
        if let Some(file) = over.then(|| self.files.remove(&number)).flatten() {
            let told_of = file.finish(&mut self.pool, None, self.changes.contents);
            told.extend(told_of.into_iter().map(Told::Deed));
        }
    }
}
