//! Leaves that say why a recording, or the key to its content, may be gone:
//! without one, what is missing was taken.

use serde::{Deserialize, Serialize};

use crate::kernel::id::SessionId;

/// What such a leaf tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErasureKind {
    /// A recording may not be deleted until it is released.
    Hold,
    /// It may again.
    Release,
    /// A recording's time was over: file and key are deleted.
    Expired,
    /// The key to a recording's content is destroyed; the recording stays.
    Shredded,
}

impl ErasureKind {
    /// As the ledger names events.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErasureKind::Hold => "hold",
            ErasureKind::Release => "release",
            ErasureKind::Expired => "expired",
            ErasureKind::Shredded => "shredded",
        }
    }

    /// Of an event's name; `None` for all others.
    pub fn of(name: &str) -> Option<ErasureKind> {
        let all = [
            ErasureKind::Hold,
            ErasureKind::Release,
            ErasureKind::Expired,
            ErasureKind::Shredded,
        ];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The body of such a leaf.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erasure {
    pub session: SessionId,
    /// The Unix account that asked, or the rule.
    pub by: String,
    pub reason: String,
}

impl Erasure {
    /// Reads a body; `None` when it is none.
    pub fn parse(json: &str) -> Option<Erasure> {
        serde_json::from_str(json).ok()
    }
}
