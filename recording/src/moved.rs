//! What was done to a file (FORMAT.md section 5.6), as it was read off the protocol that moved it.

use std::borrow::Cow;

use crate::cbor::{Malformed, Reader, Writer};
use crate::limits::{FILE_BYTES_MAX, FILE_CODE_BYTES_MAX, FILE_PATH_BYTES_MAX, FILE_RANGES_MAX, FILE_WORDS_BYTES_MAX};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// A file's bytes from the target.
    Download,
    /// A file's bytes to the target.
    Upload,
    /// A folder's names from the target.
    List,
    /// A new name.
    Rename,
    /// A file taken away.
    Remove,
    /// A folder made.
    MakeDir,
    /// A folder taken away.
    RemoveDir,
    /// A symbolic link made.
    Symlink,
    /// A second name for a file.
    Hardlink,
    /// Attributes set.
    SetAttributes,
    /// A file copied within the target.
    Copy,
    /// From here on nothing more is told about files of this channel.
    Lost,
}

impl Act {
    /// Each of them, in the order of their codes.
    pub const ALL: [Act; 12] = [
        Act::Download,
        Act::Upload,
        Act::List,
        Act::Rename,
        Act::Remove,
        Act::MakeDir,
        Act::RemoveDir,
        Act::Symlink,
        Act::Hardlink,
        Act::SetAttributes,
        Act::Copy,
        Act::Lost,
    ];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Download => "download",
            Act::Upload => "upload",
            Act::List => "list",
            Act::Rename => "rename",
            Act::Remove => "remove",
            Act::MakeDir => "mkdir",
            Act::RemoveDir => "rmdir",
            Act::Symlink => "symlink",
            Act::Hardlink => "hardlink",
            Act::SetAttributes => "setstat",
            Act::Copy => "copy",
            Act::Lost => "lost",
        }
    }

    /// Whether it moves a file's bytes.
    pub fn is_transfer(self) -> bool {
        matches!(self, Act::Download | Act::Upload)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The other side says it was done.
    Done,
    /// It says it was not; its words are with it.
    Failed,
    /// The session ended first, or the rest is told in another event.
    Unfinished,
    /// Portcullis refused it; the rule is with it.
    Refused,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Done, Outcome::Failed, Outcome::Unfinished, Outcome::Refused];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Unfinished => "unfinished",
            Outcome::Refused => "refused",
        }
    }
}

/// Bytes `[offset, offset + length)` of a file, as they crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many: at least 1.
    pub length: u64,
    /// SHA-256 of exactly these.
    pub sha256: [u8; 32],
}

/// One thing done to a file. Paths and words are the client's or the target's, and hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved<'a> {
    /// What was done.
    pub act: Act,
    /// To which file, as it was asked for.
    pub path: Cow<'a, [u8]>,
    /// The new name, what a link says, the attributes in words; of an scp the name below `path`.
    pub other: Cow<'a, [u8]>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not, or the rule that refused it.
    pub words: Cow<'a, str>,
    /// When it was asked for, in milliseconds since the session opened.
    pub began_ms: u64,
    /// Bytes of the file that crossed, those that came twice counted twice.
    pub bytes: u64,
    /// SHA-256 of the whole file; of a transfer there is either this or `unknown`.
    pub whole: Option<[u8; 32]>,
    /// Stable code of why the whole is not known.
    pub unknown: Cow<'a, str>,
    /// What crossed in runs, where `whole` does not say it all.
    pub ranges: Vec<Range>,
}

impl<'a> Moved<'a> {
    /// Any act of which there is nothing to say but its path.
    pub fn plain(act: Act, path: Cow<'a, [u8]>) -> Moved<'a> {
        Moved {
            act,
            path,
            other: Cow::default(),
            outcome: Outcome::Done,
            words: Cow::default(),
            began_ms: 0,
            bytes: 0,
            whole: None,
            unknown: Cow::default(),
            ranges: Vec::new(),
        }
    }

    /// The same, owning its bytes.
    pub fn into_owned(self) -> Moved<'static> {
        Moved {
            act: self.act,
            path: Cow::Owned(self.path.into_owned()),
            other: Cow::Owned(self.other.into_owned()),
            outcome: self.outcome,
            words: Cow::Owned(self.words.into_owned()),
            began_ms: self.began_ms,
            bytes: self.bytes,
            whole: self.whole,
            unknown: Cow::Owned(self.unknown.into_owned()),
            ranges: self.ranges,
        }
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        let code = |at: Option<usize>| at.unwrap_or_default() as u64;
        w.array(10);
        w.uint(code(Act::ALL.iter().position(|act| *act == self.act)));
        w.bytes(&self.path).bytes(&self.other);
        w.uint(code(Outcome::ALL.iter().position(|outcome| *outcome == self.outcome)));
        w.text(&self.words).uint(self.began_ms).uint(self.bytes);
        w.bytes(self.whole.as_ref().map_or(&[][..], |hash| hash))
            .text(&self.unknown);
        w.array(self.ranges.len() as u64);
        for range in &self.ranges {
            w.array(3).uint(range.offset).uint(range.length).bytes(&range.sha256);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'a>) -> Result<Moved<'a>, Malformed> {
        r.array(10)?;
        let moved = Moved {
            act: r.one_of(&Act::ALL)?,
            path: r.bytes(FILE_PATH_BYTES_MAX)?.into(),
            other: r.bytes(FILE_PATH_BYTES_MAX)?.into(),
            outcome: r.one_of(&Outcome::ALL)?,
            words: r.text(FILE_WORDS_BYTES_MAX)?.into(),
            began_ms: r.time()?,
            bytes: r.uint()?,
            whole: match r.bytes(32)? {
                [] => None,
                hash => Some(<[u8; 32]>::try_from(hash).map_err(|_| Malformed("byte string of another length"))?),
            },
            unknown: r.text(FILE_CODE_BYTES_MAX)?.into(),
            ranges: ranges(r)?,
        };
        match (moved.act.is_transfer(), moved.whole, moved.unknown.is_empty()) {
            (true, Some(_), true) | (true, None, false) => Ok(moved),
            (false, None, true) if moved.bytes == 0 && moved.ranges.is_empty() => Ok(moved),
            (true | false, ..) => Err(Malformed("file of which is said what cannot be, or not what must")),
        }
    }
}

fn ranges(r: &mut Reader<'_>) -> Result<Vec<Range>, Malformed> {
    let mut ranges = Vec::new();
    for _ in 0..r.array_up_to(FILE_RANGES_MAX)? {
        r.array(3)?;
        let range = Range {
            offset: r.uint()?,
            length: r.uint()?,
            sha256: r.array_of()?,
        };
        let ends = range.offset.checked_add(range.length);
        if range.length == 0 || ends.is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(Malformed("range of no bytes, or past the end of any file"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}
