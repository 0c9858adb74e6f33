//! Shapes of searches over recordings, and of what is known around a session.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{AnomalyView, RequestView};
use super::{GrantView, SCHEMA, SessionView};
use crate::kernel::id::SessionId;

envelope! { /// `POST /v1/recordings/search`: newest first. `next` is the cursor of the
/// next page. Not `complete`: there was no time for all of it, or recordings wait for the index. Beside that, of all
/// recordings: how many are in the index in `part`, by their labels alone as they are encrypted (`locked`), or not, as
/// they do not verify (`unread`).
Found { hits: Vec<HitView>, next: Option<String>, complete: bool, part: u64, locked: u64, unread: u64 } }
envelope! { /// `GET` and `POST /v1/recordings/index`: how many recordings stand how in it.
IndexView { whole: u64, part: u64, locked: u64, unread: u64, gone: u64, entries: u64, waiting: u64 } }
envelope! { /// `GET /v1/sessions/{id}/background`.
Background {
    session: SessionView, grant: Option<GrantView>, request: Option<RequestView>, anomalies: Vec<AnomalyView>,
    firsts: FirstsView,
} }

/// `POST /v1/recordings/search`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRequest {
    /// Words, "phrases", /patterns/, `user:`, `target:`, `label:`, `kind:`, `status:`, `after:`, `before:`.
    pub query: String,
    /// Stays in the ledger, with the query.
    pub reason: String,
    /// Most hits, 1 to 200; none: 50.
    #[serde(default)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default)]
    pub after: Option<String>,
}

/// `POST /v1/recordings/index`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexRequest {
    /// Everything is read anew; otherwise what is there is told.
    pub rebuild: bool,
}

/// What stands behind a hit's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckedView {
    /// The verified recording says the same.
    Recording,
    /// Only the index says so: it can be wrong.
    Index,
    /// The recording does not verify, or does not say that.
    Differs,
}

/// One thing that was found. Its words are the target's or a person's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HitView {
    pub session: SessionId,
    pub identity: String,
    pub destination: String,
    pub at: String,
    /// The same in ms since the session opened: where to play from.
    pub at_ms: u64,
    pub channel: u32,
    /// `command`, `file`, `screen` or `session`.
    pub kind: String,
    pub text: String,
    pub status: Option<u32>,
    pub labels: Vec<String>,
    pub checked: CheckedView,
}

/// What an identity had never done before, as far as the index remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct FirstsView {
    /// How many earlier recordings of it there are.
    pub earlier: u64,
    /// Of these, those that the index does not hold as a whole, such as encrypted ones: what was done in them may
    /// seem new.
    #[serde(default)]
    pub unread: u64,
    /// Whether all of this session was looked at.
    #[serde(default)]
    pub complete: bool,
    pub labels: Vec<String>,
    pub programs: Vec<String>,
}
