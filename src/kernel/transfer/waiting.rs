//! What the requests of an SFTP session are about, while they wait for their
//! answers.

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
    /// A read or a write of a handle that is not followed.
    Stranger,
    Close {
        file: u32,
    },
    FStat {
        file: u32,
    },
    Resize {
        file: u32,
        length: u64,
        number: u32,
    },
    Stat {
        path: Vec<u8>,
    },
    Open {
        path: Vec<u8>,
        flags: u32,
        at_ms: u64,
    },
    OpenDir {
        path: Vec<u8>,
        at_ms: u64,
    },
    /// All is known but how it went.
    Deed(Deed),
    Nothing,
}

impl Waiting {
    /// Whether it holds a path.
    pub fn is_named(&self) -> bool {
        match self {
            Waiting::Stat { .. } | Waiting::Open { .. } | Waiting::OpenDir { .. } | Waiting::Deed(_) => true,
            Waiting::Read { .. }
            | Waiting::Write { .. }
            | Waiting::Close { .. }
            | Waiting::FStat { .. }
            | Waiting::Resize { .. }
            | Waiting::Stranger
            | Waiting::Nothing => false,
        }
    }
}

/// Whether two paths may name one file, as far as their text shows.
pub fn may_be_one(a: &[u8], b: &[u8]) -> bool {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        parts
            .filter(|part| !part.is_empty() && *part != b".")
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (at_root, parts_a, parts_b) = (|path: &[u8]| path.first() == Some(&b'/'), parts(a), parts(b));
    // Where a path starts, or goes up, its end alone can be compared.
    let winding = |parts: &[Vec<u8>]| parts.iter().any(|part| part == b"..");
    match at_root(a) == at_root(b) && !winding(&parts_a) && !winding(&parts_b) {
        true => parts_a == parts_b,
        false => parts_a.last() == parts_b.last(),
    }
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
pub fn not_open(path: Vec<u8>, flags: u32, began_ms: u64, outcome: Outcome) -> Deed {
    let writes = flags & (flag::WRITE | flag::APPEND | flag::CREATE | flag::TRUNCATE) != 0;
    Deed {
        what: if writes { What::Upload } else { What::Download },
        path,
        other: Vec::new(),
        outcome,
        began_ms,
        content: Some(Content::none(Unknown::NotOpened)),
    }
}
