//! Why the ledger does not do what it was asked.

use std::path::PathBuf;

use portcullis_recording::note::NoteError;

use crate::durable::DurableError;
use crate::keeper::KeeperError;
use crate::kernel::id::SessionId;

use super::journal::JournalError;

/// What went wrong, by what the operator should conclude.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("the checkpoint cannot be signed: {0}")]
    Keeper(#[from] KeeperError),
    #[error(
        "the journal is damaged at leaf {index} (byte {offset}): {why}. The signed checkpoint covers {covered} leaves: restore `journal` from the backup"
    )]
    Damaged {
        index: u64,
        offset: u64,
        why: &'static str,
        covered: u64,
    },
    #[error(
        "the ledger was rolled back: its journal holds {found} leaves, {source_name} says there were {known}. Restore the newest copy of the ledger folder; do not start with this one"
    )]
    RolledBack {
        found: u64,
        known: u64,
        source_name: String,
    },
    #[error(
        "the ledger holds another history than {source_name} says (they differ within the first {size} leaves): keep the folder as evidence and restore the right one from the backup"
    )]
    Forked { size: u64, source_name: String },
    #[error("{source_name} is not a checkpoint of this ledger: {why}")]
    BadCheckpoint { source_name: String, why: NoteError },
    #[error(
        "{} is missing, though the journal holds {leaves} leaves: restore it from the backup", path.display()
    )]
    NoCheckpoint { path: PathBuf, leaves: u64 },
    #[error("session {session} cannot be logged so: {why}")]
    Contradiction { session: SessionId, why: &'static str },
    #[error("the body of the leaf is {bytes} bytes long, 65536 are the most")]
    TooLong { bytes: usize },
    #[error("there is no leaf {0} in the ledger")]
    NoLeaf(u64),
    #[error("the journal cannot be read at leaf {0}: see `portcullis ledger fsck`")]
    Unreadable(u64),
    #[error("more than {0} leaves are about it: an answer with some of them would pass for all")]
    TooMany(usize),
    #[error(
        "the tiles do not lead from leaf {index} to the signed root: restart the server, which makes them again from the journal"
    )]
    BadTiles { index: u64 },
    #[error("the ledger has stopped, and takes nothing before a restart: {0}")]
    Stopped(String),
    #[error("checkpoints cannot be published, so nothing more is taken: {0}")]
    Behind(String),
    #[error(
        "the ledger did not answer within {ms} ms: the disk is slow or stuck. The leaf may still be written; the next start tells"
    )]
    Slow { ms: u64 },
}
