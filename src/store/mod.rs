//! Relational state, trusted for which grants are live.
//!
//! An attacker who can modify it can admit himself; one who can only delete
//! it can stop admission. Recordings and the ledger do not depend on it.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::kernel::grant::{Grant, WallMs};
use crate::kernel::id::{GrantId, IdentityName, NodeName, SessionId, TargetName};
use crate::kernel::inventory::{Identity, Target};

pub mod sqlite;

#[cfg(test)]
mod contract;

/// What a store method answers with; boxed so that `dyn Store` works.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What went wrong with the store, by what the caller should conclude.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Busy, locked, out of reach: nothing is known to have happened; try again.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The file is not the one that was opened, or a row cannot be read.
    #[error("the store cannot be trusted: {0}")]
    Corrupt(String),
    /// A name or id is already taken.
    #[error("{0} exists already")]
    Exists(String),
    /// A recording may not be deleted: why.
    #[error("the recording is held: {0}")]
    Held(String),
    /// Nothing has that name or id.
    #[error("{0} not found")]
    NotFound(String),
    /// The grant stopped being live before the transaction: the reason code.
    #[error("the grant is not live: {0}")]
    GrantNotLive(&'static str),
}

/// How a session stands in the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    pub id: SessionId,
    pub node: NodeName,
    pub grant: GrantId,
    pub identity: IdentityName,
    /// `login@target`.
    pub destination: crate::kernel::id::Destination,
    pub source: String,
    pub started_ms: WallMs,
    /// When it will be cut at the latest.
    pub until_ms: WallMs,
    pub ended_ms: Option<WallMs>,
    /// Stable end code, see `kernel::session::EndReason::code`.
    pub end_code: Option<String>,
}

/// What a revocation names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "what", content = "id")]
pub enum RevocationScope {
    Grant(GrantId),
    Session(SessionId),
    Identity(IdentityName),
    Target(TargetName),
    All,
}

/// One row of the revocation journal, the one mechanism that ends sessions,
/// also across nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Position in the journal, from 1, gap-free.
    pub seq: u64,
    pub scope: RevocationScope,
    pub by: String,
    pub why: String,
    pub at_ms: WallMs,
}

/// A finished (or recovered) recording as the store knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordingRow {
    pub session: SessionId,
    /// File name inside the archive.
    pub file: String,
    pub bytes: u64,
    /// `sealed` or `recovered`.
    pub kind: String,
    pub end_code: String,
    pub sealed_ms: WallMs,
    /// Index of the seal leaf in this node's ledger.
    pub leaf: u64,
    /// Why it may not be deleted, if so.
    #[serde(default)]
    pub hold: Option<String>,
    /// When it was deleted because its time was over.
    #[serde(default)]
    pub expired_ms: Option<WallMs>,
    /// When the key to its content was destroyed.
    #[serde(default)]
    pub shredded_ms: Option<WallMs>,
}

/// What becomes of a recording later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It may not be deleted, for this reason; or it may again.
    Hold(Option<String>),
    Expired(WallMs),
    Shredded(WallMs),
}

/// The newest checkpoint of a ledger, kept where its folder is not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorRow {
    /// The ledger's name.
    pub origin: String,
    /// Leaves that it covers.
    pub size: u64,
    /// Root over them.
    pub root: [u8; 32],
    /// The signed note.
    pub note: String,
    pub kept_ms: WallMs,
}

/// Relational state. One contract test runs on every implementation.
pub trait Store: Send + Sync + 'static {
    fn add_target<'a>(&'a self, target: &'a Target) -> Answer<'a, ()>;
    fn targets(&self) -> Answer<'_, Vec<Target>>;
    fn target<'a>(&'a self, name: &'a TargetName) -> Answer<'a, Option<Target>>;

    fn add_identity<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()>;
    fn identities(&self) -> Answer<'_, Vec<Identity>>;
    fn identity<'a>(&'a self, name: &'a IdentityName) -> Answer<'a, Option<Identity>>;

    /// The next certificate serial, never given twice.
    fn next_serial(&self) -> Answer<'_, u64>;
    fn add_grant<'a>(&'a self, grant: &'a Grant) -> Answer<'a, ()>;
    fn grant(&self, id: GrantId) -> Answer<'_, Option<Grant>>;
    fn grant_by_certificate(&self, sha256: [u8; 32]) -> Answer<'_, Option<Grant>>;
    /// Newest first; live ones only if `live_at` is given.
    fn grants(&self, live_at: Option<WallMs>) -> Answer<'_, Vec<Grant>>;

    /// In one transaction: the grant is live at `now` (else
    /// [`StoreError::GrantNotLive`]), a single-use grant is consumed, the
    /// session row is written.
    fn open_session<'a>(&'a self, session: &'a SessionRow, now: WallMs) -> Answer<'a, ()>;
    fn close_session<'a>(&'a self, id: SessionId, ended: WallMs, end_code: &'a str) -> Answer<'a, ()>;
    /// Newest first; live ones only if asked.
    fn sessions(&self, live_only: bool) -> Answer<'_, Vec<SessionRow>>;
    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRow>>;

    fn add_recording<'a>(&'a self, recording: &'a RecordingRow) -> Answer<'a, ()>;
    fn recordings(&self) -> Answer<'_, Vec<RecordingRow>>;
    fn recording(&self, session: SessionId) -> Answer<'_, Option<RecordingRow>>;
    /// Those that are neither held nor deleted and were sealed before `sealed_ms`, oldest first.
    fn recordings_before(&self, sealed_ms: WallMs) -> Answer<'_, Vec<RecordingRow>>;
    /// Notes what became of a recording. One that is held takes no other mark
    /// ([`StoreError::Held`]), whoever asks.
    fn mark_recording<'a>(&'a self, session: SessionId, mark: &'a Mark) -> Answer<'a, ()>;

    /// Writes the revocation and, for scopes other than a session, marks the
    /// grants it hits, in one transaction. Answers with its row and the live
    /// sessions that it ends.
    fn revoke<'a>(
        &'a self,
        scope: &'a RevocationScope,
        by: &'a str,
        why: &'a str,
        now: WallMs,
    ) -> Answer<'a, (Revocation, Vec<SessionRow>)>;
    /// Every revocation with a greater `seq`, oldest first, at most `limit`.
    fn revocations_after(&self, seq: u64, limit: u32) -> Answer<'_, Vec<Revocation>>;

    /// Renews this node's liveness lease to `until`: writes a row and checks
    /// that the database is still the file that was opened (path and inode).
    fn renew_lease<'a>(&'a self, node: &'a NodeName, now: WallMs, until: WallMs) -> Answer<'a, ()>;

    /// Keeps a checkpoint in the place of the ledger's last one. It never
    /// goes back: a smaller one, and another root of the same size, are
    /// [`StoreError::Exists`].
    fn keep_anchor<'a>(&'a self, anchor: &'a AnchorRow) -> Answer<'a, ()>;
    fn anchor<'a>(&'a self, origin: &'a str) -> Answer<'a, Option<AnchorRow>>;
}
