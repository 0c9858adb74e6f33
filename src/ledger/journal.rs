//! The journal: the one file of the ledger that cannot be made again.
//!
//! ```text
//! journal = "portcullis-ledger/v1 journal\n" origin "\n\n" frame*
//! frame   = u32 body length | u64 index | salt[32] | body | entry[32]      (big-endian)
//! ```
//!
//! The entry is the salted hash of the body: it checks salt and body, and a
//! wrong length or index fails it or its place. Trust: who can modify it
//! cannot change what a checkpoint covers unnoticed, but who deletes it
//! destroys what the leaves say; the tiles keep only that they were.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use portcullis_recording::leaf;
use portcullis_recording::merkle::Hash;
use rustix::fs::{FlockOperation, flock};

use crate::durable::{self, DurableError};

use super::body::BODY_BYTES_MAX;

/// Name within the ledger's folder.
pub const JOURNAL_FILE: &str = "journal";
/// Longest origin, in bytes.
pub const ORIGIN_BYTES_MAX: usize = 200;
const MAGIC: &str = "portcullis-ledger/v1 journal\n";
/// It names people: only the server reads it.
const JOURNAL_MODE: u32 = 0o600;
/// Bytes of a frame before the body.
const FRAME_HEAD_BYTES: usize = 4 + 8 + 32;
/// Bytes of a frame besides the body.
const FRAME_EXTRA_BYTES: usize = FRAME_HEAD_BYTES + 32;
/// Buffer for reading it through, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// One leaf as the journal keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub index: u64,
    pub salt: [u8; 32],
    pub body: Vec<u8>,
    /// Salted hash of the body: what the log holds.
    pub entry: Hash,
}

impl Frame {
    /// The frame of a leaf.
    pub fn new(index: u64, salt: [u8; 32], body: Vec<u8>) -> Frame {
        let entry = leaf::entry(&salt, &body);
        Frame {
            index,
            salt,
            body,
            entry,
        }
    }

    /// Appends its bytes to `to`.
    pub fn write(&self, to: &mut Vec<u8>) {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(&self.index.to_be_bytes());
        to.extend_from_slice(&self.salt);
        to.extend_from_slice(&self.body);
        to.extend_from_slice(&self.entry);
    }
}

/// Why there is no frame where one should begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Index of the leaf that should be there.
    pub index: u64,
    pub why: &'static str,
}

/// Why the journal cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error(
        "{} is not a ledger's journal: its first line is another; restore the ledger folder from the backup",
        .0.display()
    )]
    NotAJournal(PathBuf),
    #[error("{} is the journal of `{found}`, not of `{wanted}`: `ledger.origin` in the config, or the folder, is wrong", path.display())]
    OtherOrigin {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("{} is in use by another process: stop the other server first", .0.display())]
    InUse(PathBuf),
    #[error("`{0}` cannot name a ledger: 1 to 200 visible ASCII characters, such as `bastion.example/portcullis`")]
    BadOrigin(String),
}

/// Parses an origin: the schema-less URL that names the log for ever.
///
/// # Errors
/// When it is empty, too long, or holds blanks, `+` or anything but visible
/// ASCII: it stands in checkpoints as a line and as a key name.
pub fn check_origin(origin: &str) -> Result<(), JournalError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
    match !origin.is_empty() && origin.len() <= ORIGIN_BYTES_MAX && origin.bytes().all(plain) {
        true => Ok(()),
        false => Err(JournalError::BadOrigin(origin.chars().take(64).collect())),
    }
}

/// Makes an empty journal, durably.
///
/// # Errors
/// When one is there, or it cannot be written.
pub fn create(dir: &Path, origin: &str) -> Result<(), JournalError> {
    check_origin(origin)?;
    // Staged, so that a crash leaves no half of a first line.
    let staging = dir.join(".journal.new");
    let path = dir.join(JOURNAL_FILE);
    if staging.exists() {
        std::fs::remove_file(&staging).map_err(DurableError::at("remove", &staging))?;
    }
    durable::write_new(&staging, format!("{MAGIC}{origin}\n\n").as_bytes(), JOURNAL_MODE)?;
    durable::rename_new(&staging, &path)?;
    durable::sync_dir(dir)?;
    Ok(())
}

/// Reads a journal from its first frame to the last whole one.
pub struct Reader {
    from: BufReader<File>,
    path: PathBuf,
    origin: String,
    offset: u64,
    next: u64,
}

impl Reader {
    /// Opens the journal of the ledger in `dir`.
    ///
    /// # Errors
    /// When it is missing or begins with another line.
    pub fn open(dir: &Path) -> Result<Reader, JournalError> {
        let path = dir.join(JOURNAL_FILE);
        let file = File::open(&path).map_err(DurableError::at("open", &path))?;
        let mut from = BufReader::with_capacity(READ_BYTES, file);
        let mut head = Vec::new();
        let room = MAGIC.len().saturating_add(ORIGIN_BYTES_MAX + 2);
        for byte in (&mut from).bytes().take(room) {
            head.push(byte.map_err(DurableError::at("read", &path))?);
            if head.ends_with(b"\n\n") {
                break;
            }
        }
        let origin = std::str::from_utf8(&head)
            .ok()
            .and_then(|head| head.strip_prefix(MAGIC)?.strip_suffix("\n\n"))
            .filter(|origin| check_origin(origin).is_ok())
            .map(str::to_owned);
        match origin {
            Some(origin) => Ok(Reader {
                from,
                path,
                origin,
                offset: u64::try_from(head.len()).unwrap_or(u64::MAX),
                next: 0,
            }),
            None => Err(JournalError::NotAJournal(path)),
        }
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where the next frame begins, in bytes from the start.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `Ok(Ok(None))` at a clean end.
    ///
    /// # Errors
    /// The outer one when the file cannot be read; the inner one when what is
    /// there is no frame: then nothing behind it can be read either.
    pub fn frame(&mut self) -> Result<Result<Option<Frame>, Broken>, DurableError> {
        let mut head = [0u8; FRAME_HEAD_BYTES];
        match self.fill(&mut head)? {
            0 => return Ok(Ok(None)),
            FRAME_HEAD_BYTES => {}
            _ => return Ok(Err(self.broken("the file ends within a frame"))),
        }
        let (length, rest) = head.split_at(4);
        let (index, salt) = rest.split_at(8);
        let length = usize::try_from(be(length)).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX {
            return Ok(Err(self.broken("a length beyond the bound")));
        }
        if be(index) != self.next {
            return Ok(Err(self.broken("another index")));
        }
        let mut rest = vec![0u8; length.saturating_add(32)];
        if self.fill(&mut rest)? != rest.len() {
            return Ok(Err(self.broken("the file ends within a frame")));
        }
        let (body, entry) = rest.split_at(length);
        let salt = <[u8; 32]>::try_from(salt).unwrap_or([0; 32]);
        let frame = Frame::new(self.next, salt, body.to_vec());
        if frame.entry.as_slice() != entry {
            return Ok(Err(self.broken("the body does not have its hash")));
        }
        self.next = self.next.saturating_add(1);
        let bytes = length.saturating_add(FRAME_EXTRA_BYTES);
        self.offset = self.offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        Ok(Ok(Some(frame)))
    }

    fn broken(&self, why: &'static str) -> Broken {
        Broken {
            offset: self.offset,
            index: self.next,
            why,
        }
    }

    /// Reads until `to` is full or the file ends; gives how much came.
    fn fill(&mut self, to: &mut [u8]) -> Result<usize, DurableError> {
        let mut got = 0;
        while let Some(room) = to.get_mut(got..).filter(|room| !room.is_empty()) {
            match self.from.read(room) {
                Ok(0) => break,
                Ok(more) => got = got.saturating_add(more),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(DurableError::at("read", &self.path)(why)),
            }
        }
        Ok(got)
    }

    /// Goes on at a frame known to begin at `offset`.
    pub(super) fn seek(&mut self, offset: u64, index: u64) -> Result<(), DurableError> {
        self.from
            .seek(SeekFrom::Start(offset))
            .map_err(DurableError::at("seek in", &self.path))?;
        self.offset = offset;
        self.next = index;
        Ok(())
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte))
}

/// The journal open for appending; holds the lock that keeps a second server out.
pub struct Appender {
    file: File,
    path: PathBuf,
}

impl Appender {
    /// Opens and locks it.
    ///
    /// # Errors
    /// [`JournalError::InUse`] when another process has it.
    pub fn open(dir: &Path) -> Result<Appender, JournalError> {
        let path = dir.join(JOURNAL_FILE);
        let file = OpenOptions::new()
            .append(true)
            .mode(JOURNAL_MODE)
            .open(&path)
            .map_err(DurableError::at("open", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|why| {
            match why == rustix::io::Errno::WOULDBLOCK {
                true => JournalError::InUse(path.clone()),
                false => DurableError::at("lock", &path)(why.into()).into(),
            }
        })?;
        Ok(Appender { file, path })
    }

    /// Appends bytes; they are not durable before [`Appender::sync`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), DurableError> {
        self.file
            .write_all(bytes)
            .map_err(DurableError::at("append to", &self.path))
    }

    /// Makes what was appended durable (fdatasync, which covers the length).
    pub(super) fn sync(&self) -> Result<(), DurableError> {
        self.file.sync_data().map_err(DurableError::at("sync", &self.path))
    }

    /// Cuts the torn tail behind `offset` off, after saving it beside the
    /// journal: nothing that was ever written is destroyed.
    pub(super) fn cut(&self, offset: u64) -> Result<(PathBuf, u64), DurableError> {
        let aside = self.path.with_file_name(format!("journal.torn-{offset}"));
        let mut from = File::open(&self.path).map_err(DurableError::at("open", &self.path))?;
        from.seek(SeekFrom::Start(offset))
            .map_err(DurableError::at("seek in", &self.path))?;
        let mut to = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(JOURNAL_MODE)
            .open(&aside)
            .map_err(DurableError::at("create", &aside))?;
        let bytes = io::copy(&mut from, &mut to).map_err(DurableError::at("write", &aside))?;
        to.sync_all().map_err(DurableError::at("sync", &aside))?;
        durable::sync_dir(durable::parent(&aside))?;
        self.file
            .set_len(offset)
            .and_then(|()| self.file.sync_all())
            .map_err(DurableError::at("cut", &self.path))?;
        Ok((aside, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bodies: &[&[u8]]) -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "bastion.example/log").unwrap();
        let mut bytes = Vec::new();
        for (index, body) in (0u64..).zip(bodies) {
            Frame::new(index, [9; 32], body.to_vec()).write(&mut bytes);
        }
        let mut to = Appender::open(dir.path()).unwrap();
        to.write(&bytes).unwrap();
        to.sync().unwrap();
        let length = dir.path().join(JOURNAL_FILE).metadata().unwrap().len();
        (dir, length)
    }

    fn read(dir: &Path) -> (Vec<Frame>, Option<Broken>) {
        let mut from = Reader::open(dir).unwrap();
        let mut frames = Vec::new();
        loop {
            match from.frame().unwrap() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(broken) => return (frames, Some(broken)),
            }
        }
    }

    #[test]
    fn frames_come_back() {
        let (dir, _) = filled(&[b"one", b"", &[7; BODY_BYTES_MAX]]);
        let (frames, broken) = read(dir.path());
        assert_eq!(broken, None);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0].body, b"one");
        assert_eq!(frames[2].index, 2);
        assert_eq!(Reader::open(dir.path()).unwrap().origin(), "bastion.example/log");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_ends_the_reading_there() {
        let (dir, length) = filled(&[b"one", b"two", b"three"]);
        let path = dir.path().join(JOURNAL_FILE);
        let whole = std::fs::read(&path).unwrap();
        let first = MAGIC.len() + "bastion.example/log\n\n".len();
        let frame = |body: usize| FRAME_EXTRA_BYTES + body;
        let starts = [first, first + frame(3), first + 2 * frame(3)];
        assert_eq!(length as usize, starts[2] + frame(5));
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (frames, broken) = read(dir.path());
            let expected = starts.iter().filter(|start| **start <= cut).count() - 1;
            assert_eq!(frames.len(), expected, "cut at {cut}");
            assert_eq!(broken.is_none(), starts.contains(&cut), "cut at {cut}");
        }
        for at in first..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let (frames, broken) = read(dir.path());
            let hit = starts.iter().filter(|start| **start <= at).count() - 1;
            assert_eq!(broken.unwrap().index as usize, hit, "flipped at {at}");
            assert_eq!(frames.len(), hit);
        }
        for at in 0..first - 1 {
            let mut bad = whole.clone();
            bad[at] ^= 0x80;
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(Reader::open(dir.path()), Err(JournalError::NotAJournal(_))));
        }
    }

    #[test]
    fn one_server_at_a_time_and_no_second_journal() {
        let (dir, _) = filled(&[]);
        let _held = Appender::open(dir.path()).unwrap();
        assert!(matches!(Appender::open(dir.path()), Err(JournalError::InUse(_))));
        assert!(create(dir.path(), "bastion.example/log").is_err());
        for bad in ["", "two words", "a\nb", "a+b", &"x".repeat(201)] {
            assert!(create(tempfile::tempdir().unwrap().path(), bad).is_err());
        }
    }

    #[test]
    fn a_torn_tail_is_kept_aside() {
        let (dir, length) = filled(&[b"one"]);
        let mut to = Appender::open(dir.path()).unwrap();
        to.write(b"half a fra").unwrap();
        let (aside, bytes) = to.cut(length).unwrap();
        assert_eq!(bytes, 10);
        assert_eq!(std::fs::read(aside).unwrap(), b"half a fra");
        let (frames, broken) = read(dir.path());
        assert_eq!((frames.len(), broken), (1, None));
    }
}
