//! What `ledger fsck` answers with.

use serde::Serialize;

/// Most findings that a report lists; the rest are counted.
pub const FINDINGS_MAX: usize = 10_000;

/// One thing that does not fit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Stable code, see [`Code`].
    pub code: Code,
    /// The leaf, tile, file or session it is about.
    pub about: String,
    /// One sentence for people.
    pub text: String,
}

/// Kinds of findings, for programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The journal cannot be read from some leaf on.
    JournalDamaged,
    /// A leaf that a checkpoint covers is not in the journal.
    LeafMissing,
    /// A leaf whose body means nothing.
    LeafUnreadable,
    /// A leaf that contradicts one before it.
    LeafContradicts,
    /// The checkpoint is missing, unreadable or signed by nobody known.
    CheckpointBad,
    /// A checkpoint has another root than the journal at its size.
    CheckpointMismatch,
    /// A tile is missing or differs.
    TileBroken,
    /// A recording is in the ledger and not in the archive.
    RecordingDeleted,
    /// A recording is in the archive and not in the ledger.
    RecordingUnlogged,
    /// A recording's file is damaged, or not signed by anybody known.
    RecordingInvalid,
    /// A recording is not the one that the ledger says was sealed.
    RecordingMismatch,
    /// An encrypted recording's key is gone and no leaf says why, or it is another's.
    EnvelopeMissing,
    /// A recording has no proof beside it, or one that proves nothing.
    ProofBad,
    /// A session was opened, and neither runs nor was sealed.
    NeverSealed,
    /// A recording was deleted, or its key destroyed, while it was held.
    HoldBroken,
}

/// What was found.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Leaves that were read.
    pub leaves: u64,
    /// Recordings that were verified.
    pub recordings: u64,
    /// Recordings that were deleted because their time was over.
    pub expired: u64,
    /// Size of the checkpoint that stands.
    pub checkpoint: Option<u64>,
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub more: u64,
    /// What is worth a line and no alarm.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, code: Code, about: impl ToString, text: impl Into<String>) {
        if self.findings.len() >= FINDINGS_MAX {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.findings.push(Finding {
            code,
            about: about.to_string(),
            text: text.into(),
        });
    }
}
