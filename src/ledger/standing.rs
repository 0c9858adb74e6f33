//! The checkpoint that stands, for those who look on: who keeps it elsewhere,
//! and who counts.

use portcullis_recording::merkle::Hash;
use tokio::sync::watch;

use super::cosign::Cosigned;
use super::publish::Status;

/// A checkpoint that was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Leaves that it covers.
    pub size: u64,
    pub root: Hash,
    /// The signed note.
    pub note: String,
    pub cosigned: Cosigned,
    /// Checkpoints so far that too few witnesses had cosigned.
    pub short: u64,
}

/// Each checkpoint as it is published; of several at once, the newest.
pub struct Checkpoints(watch::Receiver<Status>);

impl Checkpoints {
    pub(super) fn new(mut status: watch::Receiver<Status>) -> Checkpoints {
        // The one that stands already is the first.
        status.mark_changed();
        Checkpoints(status)
    }

    /// The next one; `None` once the ledger is closed and its last one was told.
    pub async fn next(&mut self) -> Option<Standing> {
        self.0.changed().await.ok()?;
        let status = self.0.borrow_and_update().clone();
        Some(Standing {
            size: status.now.size,
            root: status.now.root,
            note: status.now.note.as_ref()?.to_string(),
            cosigned: status.cosigned,
            short: status.short,
        })
    }
}
