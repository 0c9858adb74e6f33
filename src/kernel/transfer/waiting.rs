//! What the requests of an SFTP session are about, while they wait for their
//! answers.

use super::changes::Changes;
use super::packet::flag;
use super::{Content, Deed, Outcome, Unknown, What, clipped};

/// What a request that waits for its answer is about.
#[derive(Debug)]
pub enum Waiting {
    Read {
        file: u32,
        offset: u64,
        length: u32,
        /// More of the file would cross by it than may.
        over: bool,
    },
    Write {
        file: u32,
        over: bool,
    },
    /// Something by a handle that is not followed, and what it does beside reading or writing.
    Stranger {
        deed: Option<Deed>,
    },
    Close {
        file: u32,
    },
    FStat {
        file: u32,
        /// Changes that were asked for before it.
        since: u64,
    },
    Resize {
        file: u32,
        length: u64,
        number: u32,
        /// It sets more than the length.
        deed: Option<Deed>,
    },
    Open(Asked),
    OpenDir {
        path: Vec<u8>,
        at_ms: u64,
    },
    /// All is known but how it went.
    Deed(Deed),
    /// The client wants to speak another version.
    Version,
    Nothing,
}

/// A file that a client wants opened.
#[derive(Debug)]
pub struct Asked {
    pub path: Vec<u8>,
    pub flags: u32,
    /// A length is set with it, which some servers do and some pass over.
    pub size: Option<u64>,
    pub at_ms: u64,
    /// What was asked for before.
    pub since: Changes,
}

impl Asked {
    /// Whether it may change the file: some flags do without WRITE.
    pub fn writes(&self) -> bool {
        self.flags & !flag::READ != 0
    }
}

impl Waiting {
    /// Whether it holds a path.
    pub fn is_named(&self) -> bool {
        match self {
            Waiting::Open(_) | Waiting::OpenDir { .. } | Waiting::Deed(_) => true,
            Waiting::Resize { deed, .. } | Waiting::Stranger { deed } => deed.is_some(),
            Waiting::Read { .. }
            | Waiting::Write { .. }
            | Waiting::Close { .. }
            | Waiting::FStat { .. }
            | Waiting::Version
            | Waiting::Nothing => false,
        }
    }
}

/// Whether two paths may name one file, as far as their text shows.
pub fn may_be_one(a: &[u8], b: &[u8]) -> bool {
    let at_root = |path: &[u8]| path.first() == Some(&b'/');
    let winding = |path| parts(path).any(|part| part == b"..");
    // Most differ there, and there are many to compare.
    if parts(a).next_back() != parts(b).next_back() {
        return false;
    }
    // Where a path starts elsewhere, or goes up, its end alone can be compared.
    at_root(a) != at_root(b) || winding(a) || winding(b) || parts(a).eq(parts(b))
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".")
}

/// No file has bytes past what 63 bits count.
pub fn within(offset: u64, length: u32) -> Result<(), &'static str> {
    match offset.checked_add(length.into()) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        Some(_) | None => Err("an offset past the end of any file"),
    }
}

pub fn plain(what: What, path: &[u8], other: &[u8], began_ms: u64, outcome: Outcome) -> Deed {
    Deed {
        what,
        path: clipped(path),
        other: clipped(other),
        outcome,
        began_ms,
        content: None,
    }
}

/// A file that was asked for and is not followed.
pub fn not_open(asked: Asked, outcome: Outcome) -> Deed {
    Deed {
        what: if asked.writes() { What::Upload } else { What::Download },
        path: asked.path,
        other: Vec::new(),
        outcome,
        began_ms: asked.at_ms,
        content: Some(Content::none(Unknown::NotOpened)),
    }
}
