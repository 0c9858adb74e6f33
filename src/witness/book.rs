//! What a witness has cosigned last, of each log: durable before it answers.
//!
//! One file a log: the checkpoint as a note with the log's signature and our
//! own. Trust: who can put an older copy of a file in its place makes the
//! witness cosign another history from there on; who deletes one, from the
//! beginning.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use portcullis_recording::note::{Checkpoint, Note, NoteError, VerifierKey};
use sha2::{Digest, Sha256};

use crate::durable::{self, DurableError};
use crate::kernel::grant::hex32;

use super::judge::{Refusal, Seen, judge};
use super::key::WitnessKey;
use super::wire::{self, BODY_BYTES_MAX, Submission};

/// Folder of the logs' files, within the witness's.
const LOGS_FOLDER: &str = "logs";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why the book cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error(
        "{} is not a checkpoint of `{origin}` that this witness has cosigned: {why}; restore it from the backup. Without it the log could take back what was witnessed",
        path.display()
    )]
    Spoiled {
        path: PathBuf,
        origin: String,
        why: NoteError,
    },
}

/// What was submitted is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    #[error("refused")]
    Refused(Refusal),
    /// The disk failed; if it is not known what is on it, nothing more is said
    /// about this log before a restart.
    #[error("the witness cannot write: {0}")]
    Broken(String),
}

impl From<Refusal> for Unsigned {
    fn from(refusal: Refusal) -> Unsigned {
        Unsigned::Refused(refusal)
    }
}

/// Every log that is watched over.
pub struct Book {
    logs: BTreeMap<String, Log>,
}

struct Log {
    keys: Vec<VerifierKey>,
    path: PathBuf,
    /// Held from judging to having written: two submissions never cross.
    page: Mutex<Page>,
}

struct Page {
    seen: Seen,
    broken: Option<String>,
}

impl Book {
    /// Opens the book in `dir` for these logs; several keys of one origin are
    /// one log. What it knows of others stays as it is.
    ///
    /// # Errors
    /// When a file of it is not what this witness wrote.
    pub fn open(dir: &Path, logs: Vec<VerifierKey>, key: &VerifierKey) -> Result<Book, BookError> {
        let folder = dir.join(LOGS_FOLDER);
        durable::create_dir_all(&folder, FOLDER_MODE)?;
        let mut by_origin: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for log in logs {
            by_origin.entry(log.name().to_owned()).or_default().push(log);
        }
        let mut logs = BTreeMap::new();
        for (origin, keys) in by_origin {
            let path = folder.join(file_name(&origin));
            let page = Mutex::new(Page {
                seen: read(&path, &origin, key)?,
                broken: None,
            });
            logs.insert(origin, Log { keys, path, page });
        }
        Ok(Book { logs })
    }

    /// Judges a submission and, if nothing speaks against it, writes it down
    /// durably; then it may be cosigned. Blocks on the disk.
    ///
    /// A crash after the write leaves a checkpoint whose cosignature nobody
    /// was given: the log learns its size from the next conflict.
    ///
    /// # Errors
    /// Why it is not cosigned.
    pub fn cosign(&self, submission: &Submission, key: &WitnessKey, unix_secs: u64) -> Result<Note, Unsigned> {
        let malformed = |_| Refusal::Malformed("the note is not a checkpoint");
        let checkpoint = Checkpoint::of(&submission.note).map_err(malformed)?;
        let log = self.logs.get(&checkpoint.origin).ok_or(Refusal::UnknownLog)?;
        let mut page = log.page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &page.broken {
            return Err(Unsigned::Broken(why.clone()));
        }
        let signer = judge(&page.seen, &log.keys, submission, &checkpoint).inspect_err(|refusal| {
            if matches!(refusal, Refusal::Forked(_) | Refusal::Inconsistent) {
                // Signed by the log: together with what is in the book, proof of fraud.
                tracing::error!(origin = %checkpoint.origin, known = page.seen.size, note = %submission.note,
                    "a log has signed another history than it showed before");
            }
        })?;
        let mut kept = wire::only(&submission.note, signer).ok_or(Refusal::NotSigned)?;
        key.cosign(&mut kept, unix_secs);
        let staging = log.path.with_extension("new");
        if let Err(why) = durable::replace(&log.path, kept.to_string().as_bytes(), FILE_MODE, &staging) {
            if why.path == staging {
                // What is in the book still is: a full disk may have room again.
                tracing::error!(%why, origin = %checkpoint.origin, "the book cannot be written");
                return Err(Unsigned::Broken(why.to_string()));
            }
            // Which of the two is there is not known, and a second sync would not tell.
            tracing::error!(%why, origin = %checkpoint.origin, "nothing more is cosigned for this log before a restart");
            page.broken = Some(why.to_string());
            return Err(Unsigned::Broken(why.to_string()));
        }
        page.seen = Seen {
            size: checkpoint.size,
            root: checkpoint.root,
        };
        Ok(kept)
    }
}

/// An origin may hold slashes: its digest does not.
fn file_name(origin: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(origin).into();
    format!("{}.checkpoint", hex32::encode(&digest))
}

fn read(path: &Path, origin: &str, key: &VerifierKey) -> Result<Seen, BookError> {
    let most = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = match durable::read_bounded(path, most) {
        Ok(bytes) => bytes,
        Err(why) if why.is_missing() => return Ok(Seen::default()),
        Err(why) => return Err(why.into()),
    };
    let spoiled = |why| BookError::Spoiled {
        path: path.to_owned(),
        origin: origin.to_owned(),
        why,
    };
    let note = Note::parse(&String::from_utf8_lossy(&bytes)).map_err(spoiled)?;
    let checkpoint = Checkpoint::of(&note).map_err(spoiled)?;
    if checkpoint.origin != origin {
        return Err(spoiled(NoteError::Checkpoint("it is another log's")));
    }
    match note.verify(key).map_err(spoiled)? {
        Some(_) => Ok(Seen {
            size: checkpoint.size,
            root: checkpoint.root,
        }),
        None => Err(spoiled(NoteError::Checkpoint("its key has not cosigned it"))),
    }
}
