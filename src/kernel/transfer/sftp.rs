//! Follows SFTP version 3 (draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL
//! section 4): requests go up, each with a number, and answers come down with
//! the same numbers, in any order.

use std::collections::{BTreeMap, VecDeque};

use super::limit::Limit;
use super::open_file::OpenFile;
use super::packet::{self, Answer, Attributes, Request, kind, status, status_words};
use super::waiting::{Waiting, may_be_one, not_open, plain, within};
use super::wire::{Frames, HANDLE_BYTES_MAX, Step};
use super::{Content, Deed, Outcome, Told, Unknown, WINDOW_BYTES_MAX, Way, What, clipped};

/// Reads, writes and questions without an answer at once.
const WAITING_MAX: usize = 4096;
/// Requests with a path in them without an answer at once.
const WAITING_NAMED_MAX: usize = 256;
/// Files and folders open at once.
const OPEN_MAX: usize = 512;
/// Lengths of files that were asked for by path and are remembered.
const LENGTHS_MAX: usize = 64;
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
#[derive(Debug)]
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
    /// Bytes of memory for what comes out of order.
    spare: usize,
    /// The longest read that was answered in full, in bytes.
    full: u32,
    lengths: VecDeque<(Vec<u8>, u64)>,
    /// Of requests to open a file, by their number: as many as wait at most.
    pub(super) limits: BTreeMap<u32, Limit>,
}

impl Default for Sftp {
    fn default() -> Sftp {
        Sftp {
            up: Frames::default(),
            down: Frames::default(),
            talk: Talk::default(),
            waiting: BTreeMap::new(),
            waiting_named: 0,
            handles: BTreeMap::new(),
            files: BTreeMap::new(),
            next: 0,
            writing: None,
            reading: None,
            spare: WINDOW_BYTES_MAX,
            full: 0,
            lengths: VecDeque::new(),
            limits: BTreeMap::new(),
        }
    }
}

/// Why the protocol is not followed any more.
type Lost = &'static str;

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
                Waiting::Open { path, flags, at_ms } => {
                    told.push(Told::Deed(not_open(path, flags, at_ms, Outcome::Unfinished)));
                }
                Waiting::Read { .. }
                | Waiting::Write { .. }
                | Waiting::Close { .. }
                | Waiting::FStat { .. }
                | Waiting::Resize { .. }
                | Waiting::Stat { .. }
                | Waiting::OpenDir { .. }
                | Waiting::Stranger
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
            told.extend(file.finish(&mut self.spare, why_not).into_iter().map(Told::Deed));
        }
    }

    fn lose(&mut self, why: Lost, told: &mut Vec<Told>) {
        self.talk = Talk::Lost;
        self.leave(Some(Unknown::Lost), told);
        *self = Sftp {
            talk: Talk::Lost,
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
                    file.write(stretch.offset, data, &mut self.spare);
                    stretch.offset = stretch.offset.saturating_add(data.len() as u64);
                    told.extend(file.overfull(What::Upload).into_iter().map(Told::Deed));
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
                    file.read(stretch.offset, data, &mut self.spare);
                    stretch.offset = stretch.offset.saturating_add(data.len() as u64);
                    stretch.got = stretch
                        .got
                        .saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
                    told.extend(file.overfull(What::Download).into_iter().map(Told::Deed));
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
            Request::Open { path, flags } => Waiting::Open {
                path: clipped(path),
                flags,
                at_ms,
            },
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
                None => Waiting::Nothing,
            },
            Request::Read { handle, offset, length } => match self.file(handle) {
                Some((number, file)) => {
                    within(offset, length)?;
                    file.asked();
                    Waiting::Read {
                        file: number,
                        offset,
                        length,
                        over: file.reads_over(length),
                    }
                }
                None => Waiting::Stranger,
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
                    Waiting::Write { file: number, over }
                }
                None => Waiting::Stranger,
            },
            Request::Stat { path } => Waiting::Stat { path: clipped(path) },
            Request::FStat { handle } => match self.file(handle) {
                Some((number, file)) => {
                    file.asked();
                    Waiting::FStat { file: number }
                }
                None => Waiting::Nothing,
            },
            Request::SetStat { path, attributes } => {
                if attributes.size.is_some() {
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
            Request::Copy { from, to } => {
                let path_of = |found: Option<(u32, &mut OpenFile)>| found.map(|(_, file)| file.path().to_vec());
                let from = path_of(self.file(from)).unwrap_or_default();
                let to = self.file(to).map(|(_, file)| {
                    file.spoil(Unknown::CopiedInto);
                    file.path().to_vec()
                });
                changes(What::Copy, &from, &to.unwrap_or_default())
            }
            Request::Other | Request::Unknown => Waiting::Nothing,
        })
    }

    fn set_by_handle(&mut self, at_ms: u64, handle: &[u8], attributes: Attributes) -> Waiting {
        let Some((number, file)) = self.file(handle) else {
            return Waiting::Nothing;
        };
        match attributes.size {
            // scp ends an upload so; what else it sets is no secret of the bytes.
            Some(length) => {
                file.asked();
                Waiting::Resize {
                    file: number,
                    length,
                    number: file.resizing(length),
                }
            }
            None => {
                let path = file.path().to_vec();
                Waiting::Deed(plain(
                    What::SetAttributes,
                    &path,
                    attributes.in_words().as_bytes(),
                    at_ms,
                    Outcome::Unfinished,
                ))
            }
        }
    }

    fn file(&mut self, handle: &[u8]) -> Option<(u32, &mut OpenFile)> {
        match self.handles.get(handle)? {
            Held::File(number) => Some((*number, self.files.get_mut(number)?)),
            Held::Folder { .. } => None,
        }
    }

    /// Somebody changes a file by its path that is being written by its handle.
    fn spoil_writers(&mut self, path: &[u8]) -> bool {
        let mut any = false;
        for file in self.files.values_mut() {
            if file.writes() && may_be_one(file.path(), path) {
                file.spoil(Unknown::ChangedMeanwhile);
                any = true;
            }
        }
        any
    }

    fn hear(&mut self, packet: &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        if self.talk != Talk::Agreed {
            let version = packet::version(packet, kind::VERSION).ok_or("a first answer that is no VERSION")?;
            if self.talk == Talk::Nothing || version > VERSION {
                return Err("a version of the protocol that is not followed");
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
            (Waiting::FStat { file }, Answer::Attributes(attributes)) => {
                if let (Some(open), Some(length)) = (self.files.get_mut(&file), attributes.size) {
                    open.measured(length);
                }
                self.answered(file, told);
            }
            (Waiting::Resize { file, length, number }, Answer::Status(code)) => {
                if let Some(open) = self.files.get_mut(&file).filter(|_| code == status::OK) {
                    open.resized(length, number);
                }
                self.answered(file, told);
            }
            (Waiting::FStat { file }, Answer::Status(_)) => self.answered(file, told),
            (Waiting::Stat { path }, Answer::Attributes(attributes)) => self.remember(path, attributes),
            (Waiting::Open { path, flags, at_ms }, Answer::Handle(handle)) => {
                let number = self.opened(path, flags, at_ms, handle, told)?;
                if let (Some(limit), Some(open)) = (limit, number.and_then(|number| self.files.get_mut(&number))) {
                    open.limit(limit);
                }
            }
            (Waiting::OpenDir { path, at_ms }, Answer::Handle(handle)) => {
                self.hold(handle, Held::Folder { path, at_ms })?;
            }
            (Waiting::Open { path, flags, at_ms }, Answer::Status(code)) => {
                let failed = Outcome::Failed(status_words(code));
                told.push(Told::Deed(not_open(path, flags, at_ms, failed)));
            }
            (Waiting::OpenDir { path, at_ms }, Answer::Status(code)) => {
                let failed = Outcome::Failed(status_words(code));
                told.push(Told::Deed(plain(What::List, &path, b"", at_ms, failed)));
            }
            (Waiting::Deed(deed), Answer::Status(code)) => told.push(Told::Deed(Deed {
                outcome: match code {
                    status::OK => Outcome::Done,
                    code => Outcome::Failed(status_words(code)),
                },
                ..deed
            })),
            // A no to what changes nothing.
            (Waiting::Stat { .. } | Waiting::Stranger | Waiting::Nothing, Answer::Status(_))
            | (
                Waiting::Stranger | Waiting::Nothing,
                Answer::Handle(_) | Answer::Data { .. } | Answer::Attributes(_) | Answer::Other,
            ) => {}
            (
                Waiting::Read { .. }
                | Waiting::Write { .. }
                | Waiting::Close { .. }
                | Waiting::FStat { .. }
                | Waiting::Resize { .. }
                | Waiting::Stat { .. }
                | Waiting::Open { .. }
                | Waiting::OpenDir { .. }
                | Waiting::Deed(_),
                Answer::Handle(_) | Answer::Data { .. } | Answer::Attributes(_) | Answer::Other,
            ) => return Err(OTHERWISE),
        }
        Ok(())
    }

    fn opened(
        &mut self,
        path: Vec<u8>,
        flags: u32,
        at_ms: u64,
        handle: &[u8],
        told: &mut Vec<Told>,
    ) -> Result<Option<u32>, Lost> {
        if self.handles.len() >= OPEN_MAX || self.files.len() >= OPEN_MAX {
            let content = Content::none(Unknown::TooManyOpen);
            told.push(Told::Deed(Deed {
                content: Some(content),
                ..not_open(path, flags, at_ms, Outcome::Unfinished)
            }));
            return Ok(None);
        }
        let stated = self
            .lengths
            .iter()
            .find(|(of, _)| *of == path)
            .map(|(_, length)| *length);
        let mut file = OpenFile::new(path, flags, at_ms, stated);
        if file.writes() && self.spoil_writers(file.path()) {
            file.spoil(Unknown::ChangedMeanwhile);
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

    /// The length of a plain file by its path: for one that is open, or opened next.
    fn remember(&mut self, path: Vec<u8>, attributes: Attributes) {
        let Some(length) = attributes.size.filter(|_| attributes.is_regular()) else {
            return;
        };
        for file in self.files.values_mut().filter(|file| file.path() == path) {
            file.stated(length);
        }
        self.lengths.retain(|(of, _)| *of != path);
        self.lengths.push_front((path, length));
        self.lengths.truncate(LENGTHS_MAX);
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
            told.extend(file.finish(&mut self.spare, None).into_iter().map(Told::Deed));
        }
    }
}
