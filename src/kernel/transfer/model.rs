//! A client and a server of SFTP in memory, for tests: what crosses between
//! them, and what the files are in truth.

use std::collections::{BTreeMap, VecDeque};

use super::packet::{flag, kind};
use super::{Told, Way, sftp::Sftp};

/// Puts packets together.
#[derive(Default)]
pub struct Packet(Vec<u8>);

impl Packet {
    pub fn of(kind: u8, id: u32) -> Packet {
        Packet(vec![kind]).u32(id)
    }
    pub fn u32(mut self, value: u32) -> Packet {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn u64(mut self, value: u64) -> Packet {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn string(self, value: &[u8]) -> Packet {
        let mut this = self.u32(value.len() as u32);
        this.0.extend(value);
        this
    }
    pub fn bytes(self) -> Vec<u8> {
        let mut all = (self.0.len() as u32).to_be_bytes().to_vec();
        all.extend(self.0);
        all
    }
}

/// An answer that is on its way.
pub type Reply = Vec<u8>;

/// A server that does what it is asked, in order; its answers wait to be sent.
#[derive(Default)]
pub struct Server {
    pub files: BTreeMap<Vec<u8>, Vec<u8>>,
    handles: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    next: u32,
    pub replies: VecDeque<Reply>,
    /// Longest read that it answers, in bytes.
    pub read_most: usize,
    /// Writes from this one on fail.
    pub fail_writes: Option<u32>,
    writes: u32,
}

impl Server {
    pub fn new() -> Server {
        Server {
            read_most: 64 * 1024,
            ..Server::default()
        }
    }

    pub fn status(&mut self, id: u32, code: u32) {
        let reply = Packet::of(kind::STATUS, id).u32(code).string(b"").string(b"");
        self.replies.push_back(reply.bytes());
    }

    pub fn open(&mut self, id: u32, path: &[u8], flags: u32) -> Option<Vec<u8>> {
        let exists = self.files.contains_key(path);
        let wants_new = flags & flag::CREATE != 0;
        if (!exists && !wants_new) || (exists && flags & flag::EXCLUSIVE != 0 && wants_new) {
            self.status(id, if exists { 4 } else { 2 });
            return None;
        }
        let file = self.files.entry(path.to_vec()).or_default();
        if flags & flag::TRUNCATE != 0 {
            file.clear();
        }
        // The lowest that is free, as OpenSSH has it.
        let handle = (0..)
            .map(|n: u32| n.to_be_bytes().to_vec())
            .find(|h| !self.handles.contains_key(h))?;
        self.next += 1;
        self.handles.insert(handle.clone(), (path.to_vec(), flags));
        self.replies
            .push_back(Packet::of(kind::HANDLE, id).string(&handle).bytes());
        Some(handle)
    }

    pub fn read(&mut self, id: u32, handle: &[u8], offset: u64, length: u32) {
        let path = self.handles[handle].0.clone();
        let file = &self.files[&path];
        let from = usize::try_from(offset).unwrap().min(file.len());
        let to = (from + length as usize).min(file.len()).min(from + self.read_most);
        match file[from..to].to_vec() {
            none if none.is_empty() => self.status(id, 1),
            some => self.replies.push_back(Packet::of(kind::DATA, id).string(&some).bytes()),
        }
    }

    pub fn write(&mut self, id: u32, handle: &[u8], offset: u64, bytes: &[u8]) {
        self.writes += 1;
        if self.fail_writes.is_some_and(|from| self.writes >= from) {
            return self.status(id, 4);
        }
        let (path, flags) = self.handles[handle].clone();
        let file = self.files.entry(path).or_default();
        let at = match flags & flag::APPEND != 0 {
            true => file.len(),
            false => usize::try_from(offset).unwrap(),
        };
        file.resize(file.len().max(at + bytes.len()), 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        self.status(id, 0);
    }

    pub fn resize(&mut self, id: u32, handle: &[u8], length: u64) {
        let path = self.handles[handle].0.clone();
        self.files
            .entry(path)
            .or_default()
            .resize(usize::try_from(length).unwrap(), 0);
        self.status(id, 0);
    }

    pub fn stat(&mut self, id: u32, path: &[u8]) {
        match self.files.get(path).map(|file| file.len() as u64) {
            Some(length) => {
                let reply = Packet::of(kind::ATTRS, id).u32(1 | 4).u64(length).u32(0o100_644);
                self.replies.push_back(reply.bytes());
            }
            None => self.status(id, 2),
        }
    }

    pub fn fstat(&mut self, id: u32, handle: &[u8]) {
        let path = self.handles[handle].0.clone();
        self.stat(id, &path);
    }

    pub fn close(&mut self, id: u32, handle: &[u8]) {
        self.handles.remove(handle);
        self.status(id, 0);
    }
}

/// A client and a server with an observer between them.
pub struct Talk {
    pub server: Server,
    pub seen: Sftp,
    pub told: Vec<Told>,
    id: u32,
    /// What the bytes are cut into.
    pub cuts: VecDeque<usize>,
}

impl Talk {
    pub fn new() -> Talk {
        let mut talk = Talk {
            server: Server::new(),
            seen: Sftp::default(),
            told: Vec::new(),
            id: 0,
            cuts: VecDeque::new(),
        };
        talk.cross(Way::Up, &[0, 0, 0, 5, kind::INIT, 0, 0, 0, 3]);
        talk.cross(Way::Down, &[0, 0, 0, 5, kind::VERSION, 0, 0, 0, 3]);
        talk
    }

    /// Shows the observer bytes in pieces.
    pub fn cross(&mut self, way: Way, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let cut = self.cuts.pop_front().unwrap_or(bytes.len()).clamp(1, bytes.len());
            self.cuts.push_back(cut);
            self.seen.saw(0, way, &bytes[..cut], &mut self.told);
            bytes = &bytes[cut..];
        }
    }

    /// Lets the answer at this place among those that wait come.
    pub fn answer(&mut self, place: usize) {
        let place = place % self.server.replies.len().max(1);
        if let Some(reply) = self.server.replies.remove(place) {
            self.cross(Way::Down, &reply);
        }
    }

    pub fn answer_all(&mut self) {
        while !self.server.replies.is_empty() {
            self.answer(0);
        }
    }

    pub fn ask(&mut self, kind: u8, fill: impl FnOnce(Packet) -> Packet) -> u32 {
        self.id += 1;
        let packet = fill(Packet::of(kind, self.id)).bytes();
        self.cross(Way::Up, &packet);
        self.id
    }

    /// Opens a file; the answer waits.
    pub fn asks_to_open(&mut self, path: &[u8], flags: u32) -> u32 {
        let id = self.ask(kind::OPEN, |packet| packet.string(path).u32(flags).u32(0));
        self.server.open(id, path, flags);
        id
    }

    /// Opens a file and waits for the answer.
    pub fn open(&mut self, path: &[u8], flags: u32) -> Option<Vec<u8>> {
        let id = self.ask(kind::OPEN, |packet| packet.string(path).u32(flags).u32(0));
        let handle = self.server.open(id, path, flags);
        let last = self.server.replies.len() - 1;
        self.answer(last);
        handle
    }

    pub fn read(&mut self, handle: &[u8], offset: u64, length: u32) {
        let id = self.ask(kind::READ, |packet| packet.string(handle).u64(offset).u32(length));
        self.server.read(id, handle, offset, length);
    }

    pub fn write(&mut self, handle: &[u8], offset: u64, bytes: &[u8]) {
        let id = self.ask(kind::WRITE, |packet| packet.string(handle).u64(offset).string(bytes));
        self.server.write(id, handle, offset, bytes);
    }

    pub fn resize(&mut self, handle: &[u8], length: u64) {
        let id = self.ask(kind::FSETSTAT, |packet| packet.string(handle).u32(1).u64(length));
        self.server.resize(id, handle, length);
    }

    pub fn fstat(&mut self, handle: &[u8]) {
        let id = self.ask(kind::FSTAT, |packet| packet.string(handle));
        self.server.fstat(id, handle);
    }

    pub fn stat(&mut self, path: &[u8]) {
        let id = self.ask(kind::STAT, |packet| packet.string(path));
        self.server.stat(id, path);
    }

    pub fn close(&mut self, handle: &[u8]) {
        let id = self.ask(kind::CLOSE, |packet| packet.string(handle));
        self.server.close(id, handle);
    }

    /// Any request that the server answers with a status.
    pub fn other(&mut self, kind: u8, code: u32, fill: impl FnOnce(Packet) -> Packet) {
        let id = self.ask(kind, fill);
        self.server.status(id, code);
        self.answer_all();
    }

    pub fn end(mut self) -> Vec<Told> {
        self.seen.end(&mut self.told);
        self.told
    }
}
