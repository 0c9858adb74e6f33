//! Relational state, trusted for which grants are live.
//!
//! An attacker who can modify it can admit himself; one who can only delete
//! it can stop admission. Recordings and the ledger do not depend on it.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::kernel::access::{AnswerRefused, Approval, RequestRow, RequestState};
use crate::kernel::grant::{Cidr, Grant, WallMs};
use crate::kernel::id::{Destination, GrantId, IdentityName, NodeName, RequestId, ReviewId, SessionId, TargetName};
use crate::kernel::inventory::{Identity, Role, Target};
use crate::kernel::policy::facts::Facts;

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
    /// The request does not take that any more: what it is now.
    #[error("the request is {0}")]
    NotOpen(&'static str),
    /// An answer to a request does not count.
    #[error(transparent)]
    Answer(#[from] AnswerRefused),
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
    Source(Cidr),
    Purpose(String),
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

/// One page of a listing, newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The last id of the page before; none: from the newest on.
    pub after: Option<String>,
    /// Most rows, at most [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

impl Page {
    /// The newest rows, as many as there may be.
    pub fn first() -> Page {
        Page {
            after: None,
            limit: PAGE_ROWS_MAX,
        }
    }
}

/// Most rows of one page.
pub const PAGE_ROWS_MAX: u32 = 1000;
/// Rows of one page when nothing is said.
pub const PAGE_ROWS_DEFAULT: u32 = 100;

/// Which requests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestFilter {
    pub state: Option<RequestState>,
    pub identity: Option<IdentityName>,
    /// Made by this one, for whomever.
    pub requested_by: Option<String>,
}

/// A token that speaks for an identity towards the API. Only its hash is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRow {
    pub sha256: [u8; 32],
    pub identity: IdentityName,
    /// What it may do, at most what the identity may.
    pub roles: Vec<Role>,
    /// How the identity proved itself, see `kernel::policy::facts::Proof`.
    pub method: String,
    pub strength: u8,
    pub made_ms: WallMs,
    pub expires_ms: WallMs,
}

/// A look back at a session by somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReviewRow {
    pub id: ReviewId,
    pub session: Option<SessionId>,
    pub identity: IdentityName,
    pub destination: Destination,
    /// `policy` or `break-glass`.
    pub kind: String,
    pub why: String,
    pub opened_ms: WallMs,
    pub closed_ms: Option<WallMs>,
    pub closed_by: Option<String>,
    pub note: Option<String>,
}

/// What an identity has done before, by facet: `source`, `target`, `hour`,
/// `label`, `capability`, `volume`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UseRow {
    pub identity: IdentityName,
    pub facet: String,
    pub value: String,
    pub first_ms: WallMs,
    pub last_ms: WallMs,
    pub count: u64,
    /// Sum and greatest of the amounts noted (bytes, for `volume`).
    pub sum: u64,
    pub most: u64,
}

/// Something unusual, as it was seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AnomalyRow {
    pub at_ms: WallMs,
    pub identity: IdentityName,
    pub session: Option<SessionId>,
    /// Such as `first-source`.
    pub kind: String,
    /// One sentence.
    pub detail: String,
    /// What it adds to the risk, 0 to 100.
    pub risk: u8,
}

/// A decision outside sessions, or one that opened a session.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DecisionRow {
    pub at_ms: WallMs,
    pub facts: Facts,
    pub allowed: bool,
    pub rules: Vec<String>,
    pub policy_digest: String,
}

/// What is known of an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// Nothing: it is taken now, and the answer is to be kept with it.
    New,
    /// The same call is running.
    Running,
    /// The same call was answered: status and body.
    Answered(u16, Vec<u8>),
    /// The key was used for another call.
    Other,
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

    /// Writes targets and identities in one transaction, over those of the same name.
    #[allow(unused_variables)]
    fn put_inventory<'a>(&'a self, targets: &'a [Target], identities: &'a [Identity]) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    #[allow(unused_variables)]
    fn add_request<'a>(&'a self, request: &'a RequestRow) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn request(&self, id: RequestId) -> Answer<'_, Option<RequestRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Newest first. A pending one past its time is still `pending` here.
    #[allow(unused_variables)]
    fn requests<'a>(&'a self, filter: &'a RequestFilter, page: &'a Page) -> Answer<'a, Vec<RequestRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Takes one answer by `RequestRow::answer`, in one transaction.
    #[allow(unused_variables)]
    fn answer_request<'a>(&'a self, id: RequestId, answer: &'a Approval) -> Answer<'a, RequestRow> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn withdraw_request(&self, id: RequestId, now: WallMs) -> Answer<'_, RequestRow> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Gives an approved request its certificate, in one transaction: the
    /// request is collectable at `now`, `grant` fits it (identity,
    /// destination, window). The first time the grant's row is written and
    /// linked; later the row takes the new certificate's hash and serial, if
    /// the grant is live or not begun and was not used, so that the
    /// certificate before admits nobody any more. Answers with the row.
    #[allow(unused_variables)]
    fn collect<'a>(&'a self, id: RequestId, grant: &'a Grant, now: WallMs) -> Answer<'a, Grant> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    #[allow(unused_variables)]
    fn grants_page<'a>(&'a self, live_at: Option<WallMs>, page: &'a Page) -> Answer<'a, Vec<Grant>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn sessions_page<'a>(&'a self, live_only: bool, page: &'a Page) -> Answer<'a, Vec<SessionRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn recordings_page<'a>(&'a self, page: &'a Page) -> Answer<'a, Vec<RecordingRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Grants of one identity whose end lies after `since`.
    #[allow(unused_variables)]
    fn grants_of<'a>(&'a self, identity: &'a IdentityName, since: WallMs) -> Answer<'a, Vec<Grant>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    #[allow(unused_variables)]
    fn add_token<'a>(&'a self, token: &'a TokenRow) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// The token, if it was added and not dropped; who asks looks at its end.
    #[allow(unused_variables)]
    fn token(&self, sha256: [u8; 32]) -> Answer<'_, Option<TokenRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn drop_token(&self, sha256: [u8; 32]) -> Answer<'_, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Every token of an identity; answers with how many there were.
    #[allow(unused_variables)]
    fn drop_tokens_of<'a>(&'a self, identity: &'a IdentityName) -> Answer<'a, u64> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    /// Takes `id` of `kind` for good: true for exactly one caller. It may be
    /// forgotten once `until` has passed.
    #[allow(unused_variables)]
    fn claim<'a>(&'a self, kind: &'a str, id: &'a str, now: WallMs, until: WallMs) -> Answer<'a, bool> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Takes an idempotency key for the call with this hash, or tells what is known of it.
    #[allow(unused_variables)]
    fn remember(&self, key: [u8; 32], call: [u8; 32], now: WallMs, until: WallMs) -> Answer<'_, Remembered> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Keeps the answer of a call; none: the call failed and may be made again.
    #[allow(unused_variables)]
    fn keep_answer<'a>(&'a self, key: [u8; 32], answer: Option<(u16, &'a [u8])>) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    #[allow(unused_variables)]
    fn open_review<'a>(&'a self, review: &'a ReviewRow) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Newest first; open ones only if asked.
    #[allow(unused_variables)]
    fn reviews(&self, open_only: bool) -> Answer<'_, Vec<ReviewRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Closes an open one, by somebody who is not the one reviewed.
    #[allow(unused_variables)]
    fn close_review<'a>(&'a self, id: ReviewId, by: &'a str, note: &'a str, now: WallMs) -> Answer<'a, ReviewRow> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    /// Notes one use; answers with the row as it was before, if there was one.
    #[allow(unused_variables)]
    fn note_use<'a>(
        &'a self,
        identity: &'a IdentityName,
        facet: &'a str,
        value: &'a str,
        amount: u64,
        now: WallMs,
    ) -> Answer<'a, Option<UseRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Of one identity, or of all.
    #[allow(unused_variables)]
    fn uses<'a>(&'a self, identity: Option<&'a IdentityName>) -> Answer<'a, Vec<UseRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    #[allow(unused_variables)]
    fn add_anomaly<'a>(&'a self, anomaly: &'a AnomalyRow) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Newest first, since a time, at most `limit`.
    #[allow(unused_variables)]
    fn anomalies(&self, since: WallMs, limit: u32) -> Answer<'_, Vec<AnomalyRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }

    #[allow(unused_variables)]
    fn note_decision<'a>(&'a self, decision: &'a DecisionRow) -> Answer<'a, ()> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
    /// Newest first, since a time, at most `limit`.
    #[allow(unused_variables)]
    fn decisions(&self, since: WallMs, limit: u32) -> Answer<'_, Vec<DecisionRow>> {
        Box::pin(async { Err(StoreError::Unavailable("not made yet".into())) })
    }
}
