//! Where recordings are kept: untrusted, write-once, deleted by rule alone.
//!
//! Trust: who can modify it can destroy recordings, and is seen doing so
//! (`ledger fsck`); he can neither alter one unnoticed nor read an encrypted
//! one. A name is given once and its bytes never change.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;

use crate::durable::DurableError;

pub mod files;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Longest part of a name between slashes, in bytes.
const PART_BYTES_MAX: usize = 200;
/// Most parts of a name.
const PARTS_MAX: usize = 6;
/// Most names that one listing answers with.
pub const LIST_NAMES_MAX: usize = 1_000;
/// Largest sidecar, in bytes.
pub const SIDECAR_BYTES_MAX: u64 = 1024 * 1024;

/// What an archive method answers with; boxed so that `dyn Archive` works.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ArchiveError>> + Send + 'a>>;

/// Why the archive does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error(
        "{0} is in the archive already with other bytes: nothing was overwritten; look at both before you remove one"
    )]
    Taken(ArchiveName),
    #[error("{0} is not in the archive")]
    NotFound(ArchiveName),
    #[error("`{name}` cannot name a file of the archive: {why}")]
    BadName { name: String, why: &'static str },
    #[error("{name} is {bytes} bytes long, a sidecar at most 1 MiB")]
    TooLong { name: ArchiveName, bytes: u64 },
    #[error("the archive's worker ended early: {0}")]
    Worker(String),
}

/// A name within the archive: parts of letters, digits and `._-`, between
/// slashes, none beginning with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArchiveName(String);

impl ArchiveName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a sidecar of this file: `FILE.proof`.
    ///
    /// # Errors
    /// When it would be too long.
    pub fn sidecar(&self, kind: Sidecar) -> Result<ArchiveName, ArchiveError> {
        format!("{}.{}", self.0, kind.extension()).parse()
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ArchiveName {
    type Err = ArchiveError;

    fn from_str(text: &str) -> Result<ArchiveName, ArchiveError> {
        let bad = |why| ArchiveError::BadName {
            name: text.chars().take(64).collect(),
            why,
        };
        if text.len() > NAME_BYTES_MAX || text.split('/').count() > PARTS_MAX {
            return Err(bad("it is too long"));
        }
        for part in text.split('/') {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if part.is_empty() || part.len() > PART_BYTES_MAX {
                return Err(bad("a part of it is empty or too long"));
            }
            if part.starts_with('.') || !part.bytes().all(plain) {
                return Err(bad("letters, digits and `._-` only, no leading dot"));
            }
        }
        Ok(ArchiveName(text.to_owned()))
    }
}

/// What may lie beside a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sidecar {
    /// Its place in the ledger (c2sp.org/tlog-proof).
    Proof,
    /// An SSHSIG over the file.
    Signature,
    /// The content key, encrypted (an age file).
    Key,
    /// What the server counted of an encrypted one: labels and numbers (JSON).
    Tally,
    /// The ledger's leaf by which the recording or its key was deleted, proven
    /// (recording/FORMAT.md section 9.6).
    Tombstone,
}

impl Sidecar {
    /// What its name ends in.
    pub const fn extension(self) -> &'static str {
        match self {
            Sidecar::Proof => "proof",
            Sidecar::Signature => "sig",
            Sidecar::Key => "age",
            Sidecar::Tally => "tally",
            Sidecar::Tombstone => "tombstone",
        }
    }
}

/// How a file came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Moved or copied now.
    New,
    /// The same bytes were there: an earlier try had come through.
    Already,
}

/// One file of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: ArchiveName,
    pub bytes: u64,
}

/// Write-once storage. One contract test runs on every implementation.
pub trait Archive: Send + Sync + 'static {
    /// Takes a local file over; it is gone from `local` when this answers,
    /// and durable here. Never overwrites. After an error, or a crash, the
    /// local file is still there, and trying again ends well.
    fn put<'a>(&'a self, name: &'a ArchiveName, local: &'a Path) -> Answer<'a, Put>;
    /// Writes a sidecar. One that is there with other bytes is replaced: a
    /// proof gains cosignatures over time.
    fn put_sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar, bytes: &'a [u8]) -> Answer<'a, ()>;
    /// A file's bytes, seekable.
    fn open<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, File>;
    /// A sidecar's bytes, if there is one.
    fn sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar) -> Answer<'a, Option<Vec<u8>>>;
    /// Deletes a recording with its key, signature and tally, durably; what is gone
    /// already is no error. Proof and tombstone stay: they tell of it.
    fn remove<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, ()>;
    /// Deletes one sidecar, durably; gone already is no error.
    fn remove_sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar) -> Answer<'a, ()>;
    /// A file's length, if it is there.
    fn exists<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, Option<u64>>;
    /// Names in order, behind `after`, at most [`LIST_NAMES_MAX`]; an empty
    /// answer is the end. Sidecars are among them.
    fn list<'a>(&'a self, after: Option<&'a ArchiveName>) -> Answer<'a, Vec<Listed>>;
}
