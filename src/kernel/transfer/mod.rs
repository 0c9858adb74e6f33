//! Files that move through a session: read off the protocol, in both
//! directions, from bytes cut anywhere.
//!
//! Exact where the protocol says so: SFTP version 3 with OpenSSH's extensions
//! ([`sftp`]), and the old scp protocol ([`scp`]). Of rsync and git the exec
//! line says which way and where ([`exec`]); their stream is not parsed.
//!
//! What is told is an index, not evidence: the bytes themselves are recorded
//! beside it. A hash is told only for what crossed from the first byte to the
//! last ([`Content::whole`]); everything else says why it is unknown. All that
//! is kept here is bounded, so that a file of any size costs the same.

mod changes;
pub mod exec;
mod flow;
pub mod limit;
mod open_file;
mod packet;
mod pool;
mod refused;
pub mod scp;
pub mod sftp;
pub mod sieve;
mod waiting;
pub mod weave;
mod wire;

pub use flow::Range;
pub use pool::{Piece, Pool};

/// Longest path that is told, in bytes (Linux PATH_MAX); a longer one is cut.
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes that may wait for what comes before them, in one channel.
pub const WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ranges told at once; more of one file come in several deeds.
pub const RANGES_MAX: usize = 64;
/// Longest words of the other side that are told, in bytes.
const WORDS_BYTES_MAX: usize = 256;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the client to the target.
    Up,
    /// From the target's standard output to the client.
    Down,
}

impl Way {
    /// A file that goes this way.
    fn what(self) -> What {
        match self {
            Way::Up => What::Upload,
            Way::Down => What::Download,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    /// A file's bytes from the target.
    Download,
    /// A file's bytes to the target.
    Upload,
    /// A folder's names from the target.
    List,
    /// `other` is the new name.
    Rename,
    Remove,
    MakeDir,
    RemoveDir,
    /// `other` is what the link says.
    Symlink,
    /// `other` is the new name.
    Hardlink,
    /// `other` says in words what was set.
    SetAttributes,
    /// Within the target; `other` is where to.
    Copy,
}

impl What {
    /// Each of them.
    pub const ALL: [What; 11] = [
        What::Download,
        What::Upload,
        What::List,
        What::Rename,
        What::Remove,
        What::MakeDir,
        What::RemoveDir,
        What::Symlink,
        What::Hardlink,
        What::SetAttributes,
        What::Copy,
    ];

    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            What::Download => "download",
            What::Upload => "upload",
            What::List => "list",
            What::Rename => "rename",
            What::Remove => "remove",
            What::MakeDir => "mkdir",
            What::RemoveDir => "rmdir",
            What::Symlink => "symlink",
            What::Hardlink => "hardlink",
            What::SetAttributes => "setstat",
            What::Copy => "copy",
        }
    }
}

impl What {
    /// Which way a file's bytes go by it, as policies name it: `upload`,
    /// `download`, or `change` where none cross.
    pub fn direction(self) -> &'static str {
        match self {
            What::Download => "download",
            What::Upload => "upload",
            What::List
            | What::Rename
            | What::Remove
            | What::MakeDir
            | What::RemoveDir
            | What::Symlink
            | What::Hardlink
            | What::SetAttributes
            | What::Copy => "change",
        }
    }
}

/// What is to be done to a file, before it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    pub what: What,
    pub path: Vec<u8>,
    /// As in a [`Deed`].
    pub other: Vec<u8>,
}

impl Wish {
    /// Whether both paths are text that starts at the root, has no `.` and `..`
    /// in it, and nothing that some target takes for a path's end or for
    /// another separator, so that it can be held against a rule.
    pub fn is_plain(&self) -> bool {
        let down = |path: &[u8]| {
            let text = std::str::from_utf8(path);
            text.is_ok_and(|text| {
                text.starts_with('/')
                    && text.len() < PATH_BYTES_MAX
                    && !text.contains(|c: char| c == '\\' || c.is_control())
                    && !text.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."))
            })
        };
        let names_other = matches!(self.what, What::Rename | What::Hardlink | What::Symlink | What::Copy);
        down(&self.path) && (!names_other || down(&self.other))
    }
}

/// What the other side made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// Not done, in a few words; those of an scp come from the other side.
    Failed(String),
    /// The session ended before the answer, or before the file was closed.
    Unfinished,
    /// Not passed on, by this rule.
    Refused(String),
}

/// Why there is no hash of a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// It was never opened.
    NotOpened,
    /// Not one byte was asked for.
    NotMoved,
    /// What crossed begins behind its first byte.
    NotFromStart,
    /// Its bytes came in several runs, or some came twice.
    InPieces,
    /// Whether it ends where the transfer did was not seen.
    EndNotSeen,
    /// Older bytes may stand behind those written.
    OlderBytes,
    /// Written at its end, wherever that was.
    Appended,
    /// It was cut shorter than what was written.
    CutOff,
    /// Another handle or request changed it meanwhile.
    ChangedMeanwhile,
    /// Bytes came into it that did not cross.
    CopiedInto,
    /// Its handle was used before it was given: more may have crossed.
    Guessed,
    /// A part of it was not read or not written, as the other side says.
    PartFailed,
    /// It was not closed, or not all was answered.
    LeftOpen,
    /// More files were open at once than are followed.
    TooManyOpen,
    /// The protocol could not be followed any more.
    Lost,
    /// The rest of it is told in another deed.
    Continued,
    /// Only its command line was read.
    NotParsed,
}

impl Unknown {
    /// A stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Unknown::NotOpened => "not_opened",
            Unknown::NotMoved => "not_moved",
            Unknown::NotFromStart => "not_from_start",
            Unknown::InPieces => "in_pieces",
            Unknown::EndNotSeen => "end_not_seen",
            Unknown::OlderBytes => "older_bytes",
            Unknown::Appended => "appended",
            Unknown::CutOff => "cut_off",
            Unknown::ChangedMeanwhile => "changed_meanwhile",
            Unknown::CopiedInto => "copied_into",
            Unknown::Guessed => "guessed_handle",
            Unknown::PartFailed => "part_failed",
            Unknown::LeftOpen => "left_open",
            Unknown::TooManyOpen => "too_many_open",
            Unknown::Lost => "lost",
            Unknown::Continued => "continued",
            Unknown::NotParsed => "not_parsed",
        }
    }
}

/// What crossed of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// Bytes that crossed, those that came twice counted twice.
    pub bytes: u64,
    /// SHA-256 of the whole file, or why it is unknown.
    pub whole: Result<[u8; 32], Unknown>,
    /// What crossed in runs, in the order in which they ended. Empty where
    /// `whole` says it all.
    pub ranges: Vec<Range>,
}

impl Content {
    /// Nothing crossed.
    fn none(why: Unknown) -> Content {
        Content {
            bytes: 0,
            whole: Err(why),
            ranges: Vec::new(),
        }
    }
}

/// One thing done to a file. Paths are bytes of the client or the target, and
/// hostile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    pub what: What,
    /// As it was asked for; of an scp the operand of its command line.
    pub path: Vec<u8>,
    /// What it says depends on `what`; of an scp the name below `path`.
    pub other: Vec<u8>,
    pub outcome: Outcome,
    /// When it was asked for, in session ms.
    pub began_ms: u64,
    /// Of a download or an upload.
    pub content: Option<Content>,
}

/// What an observer tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    Deed(Deed),
    /// From here on nothing is told, and why.
    Lost(&'static str),
}

/// Follows one channel.
#[derive(Debug)]
pub enum Observer {
    Sftp(Box<sftp::Sftp>),
    Scp(Box<scp::Scp>),
    Stream(exec::Stream),
}

impl Observer {
    /// For a subsystem, if it moves files.
    pub fn of_subsystem(name: &str) -> Option<Observer> {
        (name == "sftp").then(|| Observer::Sftp(Box::default()))
    }

    /// For a command, if it moves files and says so.
    pub fn of_exec(at_ms: u64, command: &[u8]) -> Option<Observer> {
        Some(match exec::read(command)? {
            exec::Program::Sftp => Observer::Sftp(Box::default()),
            exec::Program::Scp { way, paths } => Observer::Scp(Box::new(scp::Scp::new(way, exec::joined(&paths)))),
            exec::Program::Stream { way, paths } => {
                Observer::Stream(exec::Stream::new(at_ms, way, exec::joined(&paths)))
            }
        })
    }

    /// Takes bytes that cross, each before it reaches the other side.
    pub fn saw(&mut self, at_ms: u64, way: Way, bytes: &[u8], told: &mut Vec<Told>) {
        match self {
            Observer::Sftp(sftp) => sftp.saw(at_ms, way, bytes, told),
            Observer::Scp(scp) => scp.saw(at_ms, way, bytes, told),
            Observer::Stream(stream) => stream.saw(way, bytes),
        }
    }

    /// Whether its protocol is one whose requests can be refused one by one.
    pub fn is_sftp(&self) -> bool {
        matches!(self, Observer::Sftp(_))
    }

    /// It is not followed from here on, for this reason.
    pub fn lose(&mut self, why: &'static str, told: &mut Vec<Told>) {
        match self {
            Observer::Sftp(sftp) => sftp.lose(why, told),
            Observer::Scp(scp) => scp.lose(why, told),
            Observer::Stream(_) => {}
        }
    }

    /// Whether nothing more is told.
    pub fn is_lost(&self) -> bool {
        match self {
            Observer::Sftp(sftp) => sftp.is_lost(),
            Observer::Scp(scp) => scp.is_lost(),
            Observer::Stream(_) => false,
        }
    }

    /// Whether all bytes of files that crossed so far were told of, each with its file.
    pub fn tells_all(&self) -> bool {
        match self {
            Observer::Sftp(sftp) => !sftp.is_lost() && !sftp.has_strays() && !sftp.pool.overran(),
            Observer::Scp(scp) => !scp.is_lost() && !scp.pool.overran(),
            Observer::Stream(_) => false,
        }
    }

    /// Where contents are kept, of what has any.
    pub fn pool(&mut self) -> Option<&mut Pool> {
        match self {
            Observer::Sftp(sftp) => Some(&mut sftp.pool),
            Observer::Scp(scp) => Some(&mut scp.pool),
            Observer::Stream(_) => None,
        }
    }

    /// A request of SFTP that did not go on to the target.
    pub fn refused(&mut self, id: u32, rule: &str, told: &mut Vec<Told>) {
        match self {
            Observer::Sftp(sftp) => sftp.refused(id, rule, told),
            Observer::Scp(_) | Observer::Stream(_) => {}
        }
    }

    /// Of the file that this request of SFTP opens no more may cross than this.
    /// Whether that can be held.
    pub fn limit(&mut self, id: u32, limit: limit::Limit) -> bool {
        match self {
            Observer::Sftp(sftp) => sftp.limit(id, limit),
            Observer::Scp(_) | Observer::Stream(_) => false,
        }
    }

    /// Why a read or a write over SFTP may not go on, if it may not.
    pub fn over(&self, id: u32) -> Option<limit::Over> {
        match self {
            Observer::Sftp(sftp) => sftp.over(id),
            Observer::Scp(_) | Observer::Stream(_) => None,
        }
    }

    /// The program ended with this status.
    pub fn exited(&mut self, status: u32) {
        match self {
            Observer::Stream(stream) => stream.exited(status),
            Observer::Sftp(_) | Observer::Scp(_) => {}
        }
    }

    /// The channel's end: what is left open is told.
    pub fn end(&mut self, told: &mut Vec<Told>) {
        match self {
            Observer::Sftp(sftp) => sftp.end(told),
            Observer::Scp(scp) => scp.end(told),
            Observer::Stream(stream) => stream.end(told),
        }
    }
}

/// A path as it is told.
fn clipped(path: &[u8]) -> Vec<u8> {
    path.get(..PATH_BYTES_MAX).unwrap_or(path).to_vec()
}

/// Words of the other side as they are told.
fn words(bytes: &[u8]) -> String {
    let most = bytes.get(..WORDS_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(most).trim_end().to_owned()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod spoiled_tests;
#[cfg(test)]
mod tests;
