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

pub use crate::kernel::habit::UseRow;

mod place;
pub mod postgres;
mod sql;
pub mod sqlite;

pub use place::{Place, STORE_URL_VARIABLE, StoreUrl, create, look, open};

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
    /// Sessions from these addresses, and grants that are good from none but them.
    Source(Cidr),
    /// Whatever was granted for exactly this ticket or this reason.
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
/// Most rows of history that one listing answers with; live ones are never cut off.
pub const HISTORY_ROWS_MAX: u32 = 10_000;

/// How long the store may keep somebody waiting.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a lock that another process holds on the state, in ms.
    pub busy_ms: u64,
    /// For our one writing connection, in ms.
    pub queue_ms: u64,
    /// For a whole answer, in ms: after it the answer is `Unavailable`.
    pub answer_ms: u64,
}

impl Default for Waits {
    fn default() -> Self {
        // Shorter together than a node's lease (10 s), which a stuck store
        // must not outlive.
        Waits {
            busy_ms: 2_000,
            queue_ms: 4_000,
            answer_ms: 6_000,
        }
    }
}

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

/// One use of something, to be counted in its [`UseRow`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Use {
    pub identity: IdentityName,
    pub facet: &'static str,
    pub value: String,
    /// What there is of it: bytes, for `volume`.
    pub amount: u64,
    pub at_ms: WallMs,
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
///
/// A method that writes is one transaction: it happened whole, or not at all.
/// [`StoreError::Unavailable`] leaves open whether it did; each says below what
/// asking again finds then, unless that is [`StoreError::Exists`].
pub trait Store: Send + Sync + 'static {
    /// Enters a target; its name must be new.
    fn add_target<'a>(&'a self, target: &'a Target) -> Answer<'a, ()>;
    /// By name.
    fn targets(&self) -> Answer<'_, Vec<Target>>;
    fn target<'a>(&'a self, name: &'a TargetName) -> Answer<'a, Option<Target>>;

    /// Enters an identity; its name must be new.
    fn add_identity<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()>;
    /// By name.
    fn identities(&self) -> Answer<'_, Vec<Identity>>;
    fn identity<'a>(&'a self, name: &'a IdentityName) -> Answer<'a, Option<Identity>>;
    /// Writes targets and identities in one transaction, over those of the
    /// same name. The same again changes nothing.
    fn put_inventory<'a>(&'a self, targets: &'a [Target], identities: &'a [Identity]) -> Answer<'a, ()>;

    /// The next certificate serial, never given twice.
    fn next_serial(&self) -> Answer<'_, u64>;
    /// Enters a grant. Its identity and target are in the inventory (else
    /// [`StoreError::NotFound`]); its id, certificate and serial are new.
    fn add_grant<'a>(&'a self, grant: &'a Grant) -> Answer<'a, ()>;
    fn grant(&self, id: GrantId) -> Answer<'_, Option<Grant>>;
    /// The grant that carries this certificate now: what admits.
    fn grant_by_certificate(&self, sha256: [u8; 32]) -> Answer<'_, Option<Grant>>;
    /// Newest first; live ones only if `live_at` is given.
    fn grants(&self, live_at: Option<WallMs>) -> Answer<'_, Vec<Grant>>;
    /// One page of [`Store::grants`]; `after` is a grant's id, which must be
    /// known ([`StoreError::NotFound`]).
    fn grants_page<'a>(&'a self, live_at: Option<WallMs>, page: &'a Page) -> Answer<'a, Vec<Grant>>;
    /// Grants of one identity whose end lies after `since`, newest first, at
    /// most [`HISTORY_ROWS_MAX`].
    fn grants_of<'a>(&'a self, identity: &'a IdentityName, since: WallMs) -> Answer<'a, Vec<Grant>>;

    /// Enters a request as it stands, answered or not.
    fn add_request<'a>(&'a self, request: &'a RequestRow) -> Answer<'a, ()>;
    fn request(&self, id: RequestId) -> Answer<'_, Option<RequestRow>>;
    /// Newest first; `after` is a request's id. A pending one past its time is
    /// still `pending` here.
    fn requests<'a>(&'a self, filter: &'a RequestFilter, page: &'a Page) -> Answer<'a, Vec<RequestRow>>;
    /// Takes one answer by `RequestRow::answer`. The same person's again is
    /// [`StoreError::Answer`].
    fn answer_request<'a>(&'a self, id: RequestId, answer: &'a Approval) -> Answer<'a, RequestRow>;
    /// Takes a pending one back; again is [`StoreError::Answer`].
    fn withdraw_request(&self, id: RequestId, now: WallMs) -> Answer<'_, RequestRow>;
    /// Gives an approved request its certificate: the request is collectable
    /// at `now` (else [`StoreError::NotOpen`]), and `grant` asks for no more
    /// than was approved (else [`StoreError::GrantNotLive`]). The first time
    /// the grant's row is written and linked. Later `grant` has the id of that
    /// row and a newer serial (else [`StoreError::Exists`]), and the row takes
    /// its certificate and what it allows, if it is live or not begun and was
    /// not used: the certificate before admits nobody any more. Answers with
    /// the row. The same grant again changes nothing.
    fn collect<'a>(&'a self, id: RequestId, grant: &'a Grant, now: WallMs) -> Answer<'a, Grant>;

    /// In one transaction: the grant is live at `now` and `certificate` is
    /// still its own (else [`StoreError::GrantNotLive`]), a single-use grant is
    /// consumed, the session row is written.
    fn open_session<'a>(&'a self, session: &'a SessionRow, certificate: [u8; 32], now: WallMs) -> Answer<'a, ()>;
    /// The first end counts; another changes nothing.
    fn close_session<'a>(&'a self, id: SessionId, ended: WallMs, end_code: &'a str) -> Answer<'a, ()>;
    /// Newest first; live ones only if asked.
    fn sessions(&self, live_only: bool) -> Answer<'_, Vec<SessionRow>>;
    /// One page of [`Store::sessions`]; `after` is a session's id.
    fn sessions_page<'a>(&'a self, live_only: bool, page: &'a Page) -> Answer<'a, Vec<SessionRow>>;
    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRow>>;

    /// Enters a sealed recording.
    fn add_recording<'a>(&'a self, recording: &'a RecordingRow) -> Answer<'a, ()>;
    /// Newest first, at most [`HISTORY_ROWS_MAX`].
    fn recordings(&self) -> Answer<'_, Vec<RecordingRow>>;
    /// One page of [`Store::recordings`]; `after` is a session's id.
    fn recordings_page<'a>(&'a self, page: &'a Page) -> Answer<'a, Vec<RecordingRow>>;
    fn recording(&self, session: SessionId) -> Answer<'_, Option<RecordingRow>>;
    /// Those that are neither held nor deleted and were sealed before `sealed_ms`, oldest first.
    fn recordings_before(&self, sealed_ms: WallMs) -> Answer<'_, Vec<RecordingRow>>;
    /// Notes what became of a recording. One that is held takes no other mark
    /// ([`StoreError::Held`]), whoever asks. The same again changes nothing.
    fn mark_recording<'a>(&'a self, session: SessionId, mark: &'a Mark) -> Answer<'a, ()>;

    /// Writes the revocation and, for scopes other than a session, marks the
    /// grants it hits and the requests from which others could be collected,
    /// in one transaction. Answers with its row and the live sessions that it
    /// ends. Again is a second row in the journal and ends no more.
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
    /// that the database is still the one that was opened (SQLite: path and
    /// inode; PostgreSQL: the server's system identifier and the database's oid).
    fn renew_lease<'a>(&'a self, node: &'a NodeName, now: WallMs, until: WallMs) -> Answer<'a, ()>;

    /// Keeps a checkpoint in the place of the ledger's last one. It never
    /// goes back: a smaller one, and another root of the same size, are
    /// [`StoreError::Exists`]. The same again changes nothing.
    fn keep_anchor<'a>(&'a self, anchor: &'a AnchorRow) -> Answer<'a, ()>;
    fn anchor<'a>(&'a self, origin: &'a str) -> Answer<'a, Option<AnchorRow>>;

    /// Enters a token and forgets those that have ended by `made_ms`.
    fn add_token<'a>(&'a self, token: &'a TokenRow) -> Answer<'a, ()>;
    /// The token, if it was added and not dropped; who asks looks at its end.
    fn token(&self, sha256: [u8; 32]) -> Answer<'_, Option<TokenRow>>;
    /// Forgets a token, if it is there.
    fn drop_token(&self, sha256: [u8; 32]) -> Answer<'_, ()>;
    /// Forgets every token of an identity; answers with how many there were.
    fn drop_tokens_of<'a>(&'a self, identity: &'a IdentityName) -> Answer<'a, u64>;

    /// Takes `id` of `kind` for good: true for exactly one caller, who must
    /// count it as taken also when no answer came. It may be forgotten once
    /// `until` has passed; `u64::MAX` is never.
    fn claim<'a>(&'a self, kind: &'a str, id: &'a str, now: WallMs, until: WallMs) -> Answer<'a, bool>;
    /// Takes an idempotency key for the call with this hash, or tells what is
    /// known of it. Forgotten once `until` has passed.
    fn remember(&self, key: [u8; 32], call: [u8; 32], now: WallMs, until: WallMs) -> Answer<'_, Remembered>;
    /// Keeps the answer of a running call; none: the call failed and may be
    /// made again. An answer that is kept stays.
    fn keep_answer<'a>(&'a self, key: [u8; 32], answer: Option<(u16, &'a [u8])>) -> Answer<'a, ()>;

    /// Enters a review that somebody has to make.
    fn open_review<'a>(&'a self, review: &'a ReviewRow) -> Answer<'a, ()>;
    /// Newest first; open ones only if asked.
    fn reviews(&self, open_only: bool) -> Answer<'_, Vec<ReviewRow>>;
    /// Closes an open one, by somebody who is not the one reviewed (else
    /// [`StoreError::Answer`]). One that is closed is [`StoreError::Exists`].
    fn close_review<'a>(&'a self, id: ReviewId, by: &'a str, note: &'a str, now: WallMs) -> Answer<'a, ReviewRow>;

    /// Notes uses, all in one write. Again counts again.
    fn note_uses<'a>(&'a self, uses: &'a [Use]) -> Answer<'a, ()>;
    /// Of one identity, or of all; latest first, at most [`HISTORY_ROWS_MAX`].
    fn uses<'a>(&'a self, identity: Option<&'a IdentityName>) -> Answer<'a, Vec<UseRow>>;
    /// Enters an anomaly. Again is a second one.
    fn add_anomaly<'a>(&'a self, anomaly: &'a AnomalyRow) -> Answer<'a, ()>;
    /// Newest first, since a time, of one session or of all, at most `limit`.
    fn anomalies(&self, since: WallMs, session: Option<SessionId>, limit: u32) -> Answer<'_, Vec<AnomalyRow>>;

    /// Enters a decision. Again is a second one.
    fn note_decision<'a>(&'a self, decision: &'a DecisionRow) -> Answer<'a, ()>;
    /// Newest first, since a time, at most `limit`.
    fn decisions(&self, since: WallMs, limit: u32) -> Answer<'_, Vec<DecisionRow>>;
}
