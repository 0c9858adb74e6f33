//! What goes over the API, both ways, and what `--json` prints: stable,
//! versioned by [`SCHEMA`]. Times are RFC 3339 in UTC with ms.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kernel::grant::{Capability, Cidr, Grant, NotLive, WallMs, hex32};
use crate::kernel::id::{Destination, GrantId, GroupName, IdentityName, NodeName, SessionId};
use crate::kernel::inventory::{Identity, Role, Target};
use crate::store::{RecordingRow, SessionRow};

/// Version of these shapes; fields may be added within one, never changed.
pub const SCHEMA: u32 = 1;

/// A wall-clock time as RFC 3339.
pub fn rfc3339(ms: WallMs) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    match Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => "out of range".to_owned(),
    }
}

/// `{"schema":1, NAME: …}`: an answer with one thing in it.
macro_rules! envelope {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
        pub struct $name {
            pub schema: u32,
            $(pub $field: $kind,)*
        }

        impl $name {
            /// With the current schema.
            pub fn new($($field: $kind),*) -> $name {
                $name { schema: SCHEMA, $($field),* }
            }
        }
    };
}

pub mod access;
pub mod break_glass;
pub mod inventory;
pub mod search;

envelope! { /// `GET /v1/targets`.
Targets { targets: Vec<Target> } }
envelope! { /// `POST /v1/targets`.
TargetAdded { target: Target } }
envelope! { /// `GET /v1/identities`.
Identities { identities: Vec<IdentityView> } }
envelope! { /// `POST /v1/identities`.
IdentityAdded { identity: IdentityView } }
envelope! { /// `GET /v1/grants`.
Grants { grants: Vec<GrantView> } }
envelope! { /// `POST /v1/grants`. `certificate` is one OpenSSH line.
Issued { grant: GrantView, certificate: String } }
envelope! { /// `GET /v1/sessions`.
Sessions { sessions: Vec<SessionView> } }
envelope! { /// `GET /v1/sessions/{id}`.
OneSession { session: SessionView, grant: Option<GrantView>, recording: Option<RecordingView> } }
envelope! { /// `GET /v1/recordings`.
Recordings { recordings: Vec<RecordingView> } }
envelope! { /// `GET /v1/health`.
Health { status: String, node: NodeName, version: String } }
envelope! { /// `POST /v1/revoke`. Sessions in `lease_bound` had not fallen when
/// this was answered: they end with their node's lease at the latest.
Revoked { seq: u64, at: String, cut: Vec<SessionId>, lease_bound: Vec<SessionView>, warnings: Vec<String> } }

/// Done, and nothing to say about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Nothing {
    pub schema: u32,
}

impl Default for Nothing {
    fn default() -> Nothing {
        Nothing { schema: SCHEMA }
    }
}

envelope! { /// `POST /v1/recordings/{id}/hold`, `…/release`, `…/shred`.
Noted { session: SessionId } }
envelope! { /// `POST /v1/recordings/expire`. With `dry_run`, `deleted` are those that would be.
Expired { deleted: Vec<SessionId>, failed: Vec<String> } }
envelope! { /// `GET /v1/sessions/{id}/statements`, `POST /v1/recordings/{id}/read`:
/// leaves of the ledger with their proofs (recording/FORMAT.md section 9.6).
Statements { statements: Vec<String> } }

/// `POST /v1/recordings/expire`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpireRequest {
    #[serde(default)]
    pub dry_run: bool,
}

/// Why somebody reads a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To look at it here.
    Replay,
    /// To take it away.
    Export,
}

impl Purpose {
    /// As the ledger names it.
    pub fn event(self) -> &'static str {
        match self {
            Purpose::Replay => "replay",
            Purpose::Export => "export",
        }
    }
}

/// `POST /v1/recordings/{id}/read`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    pub purpose: Purpose,
    pub reason: String,
    /// Of an evidence package: SHA-256 of its manifest, in hexadecimal.
    #[serde(default)]
    pub manifest_sha256: Option<String>,
}

/// `POST /v1/identities`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    pub name: IdentityName,
    pub kind: crate::kernel::inventory::IdentityKind,
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
    #[serde(default)]
    pub review_by_ms: Option<WallMs>,
    #[serde(default)]
    pub keys: Vec<String>,
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
}

/// `POST /v1/grants`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueRequest {
    pub identity: IdentityName,
    pub destination: Destination,
    pub for_secs: u64,
    pub reason: String,
    /// One OpenSSH public key line.
    pub public_key: String,
    pub allow: Vec<Capability>,
    #[serde(default)]
    pub sources: Vec<Cidr>,
    #[serde(default)]
    pub single_use: bool,
}

/// What kind of thing a revocation names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Grant,
    Session,
    Identity,
    Target,
    /// Addresses, `ADDR/PREFIX`.
    Source,
    /// A ticket, or a reason word for word.
    Purpose,
    All,
}

/// `POST /v1/revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    pub what: What,
    /// A name, an id, or a unique prefix of one; none for `all`.
    #[serde(default)]
    pub id: Option<String>,
    pub reason: String,
}

/// `POST /v1/grants/{id}/revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    pub reason: String,
}

/// An identity as shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct IdentityView {
    pub name: IdentityName,
    pub kind: crate::kernel::inventory::IdentityKind,
    pub owner: Option<String>,
    pub purpose: Option<String>,
    pub review_by: Option<String>,
    pub keys: Vec<String>,
    pub roles: BTreeSet<Role>,
    pub groups: BTreeSet<GroupName>,
    pub disabled: bool,
}

impl From<Identity> for IdentityView {
    fn from(identity: Identity) -> IdentityView {
        let roles = identity.all_roles();
        IdentityView {
            name: identity.name,
            kind: identity.kind,
            owner: identity.owner,
            purpose: identity.purpose,
            review_by: identity.review_by_ms.map(rfc3339),
            roles,
            keys: identity.keys,
            groups: identity.groups,
            disabled: identity.disabled,
        }
    }
}

/// How a grant stands at the moment of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GrantState {
    Live,
    NotYet,
    Expired,
    Revoked,
    Used,
}

impl GrantState {
    /// Of `grant` at `now`.
    pub fn at(grant: &Grant, now: WallMs) -> GrantState {
        match grant.live(now) {
            Ok(()) => GrantState::Live,
            Err(NotLive::NotYet) => GrantState::NotYet,
            Err(NotLive::Expired) => GrantState::Expired,
            Err(NotLive::Revoked) => GrantState::Revoked,
            Err(NotLive::Used) => GrantState::Used,
        }
    }

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            GrantState::Live => "live",
            GrantState::NotYet => "not-yet",
            GrantState::Expired => "expired",
            GrantState::Revoked => "revoked",
            GrantState::Used => "used",
        }
    }
}

/// A grant as shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    pub id: GrantId,
    pub state: GrantState,
    pub identity: IdentityName,
    pub destination: Destination,
    pub from: String,
    pub until: String,
    pub sources: Vec<Cidr>,
    pub capabilities: Vec<Capability>,
    pub single_use: bool,
    pub reason: String,
    pub issued_by: String,
    pub certificate_serial: u64,
    pub certificate_sha256: String,
    pub policy_digest: String,
    pub used_at: Option<String>,
    pub revoked_at: Option<String>,
    pub revoked_why: Option<String>,
}

impl GrantView {
    /// Of `grant` at `now`.
    pub fn at(grant: &Grant, now: WallMs) -> GrantView {
        GrantView {
            id: grant.id,
            state: GrantState::at(grant, now),
            identity: grant.identity.clone(),
            destination: grant.destination.clone(),
            from: rfc3339(grant.from_ms),
            until: rfc3339(grant.until_ms),
            sources: grant.sources.clone(),
            capabilities: grant.capabilities.iter().copied().collect(),
            single_use: grant.single_use,
            reason: grant.reason.clone(),
            issued_by: grant.issued_by.clone(),
            certificate_serial: grant.certificate_serial,
            certificate_sha256: hex32::encode(&grant.certificate_sha256),
            policy_digest: hex32::encode(&grant.policy_digest),
            used_at: grant.used_at_ms.map(rfc3339),
            revoked_at: grant.revoked_at_ms.map(rfc3339),
            revoked_why: grant.revoked_why.clone(),
        }
    }
}

/// A session as shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    pub id: SessionId,
    /// Whether it is running, as far as the store knows.
    pub live: bool,
    pub node: NodeName,
    pub grant: GrantId,
    pub identity: IdentityName,
    pub destination: Destination,
    pub source: String,
    pub started: String,
    pub until: String,
    pub ended: Option<String>,
    pub end_code: Option<String>,
}

impl From<SessionRow> for SessionView {
    fn from(row: SessionRow) -> SessionView {
        SessionView {
            id: row.id,
            live: row.ended_ms.is_none(),
            node: row.node,
            grant: row.grant,
            identity: row.identity,
            destination: row.destination,
            source: row.source,
            started: rfc3339(row.started_ms),
            until: rfc3339(row.until_ms),
            ended: row.ended_ms.map(rfc3339),
            end_code: row.end_code,
        }
    }
}

/// A recording as shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RecordingView {
    pub session: SessionId,
    /// Where the file lies on the server.
    pub path: String,
    pub bytes: u64,
    /// `sealed` or `recovered`, as the server says; only a verifier can tell.
    pub kind: String,
    pub end_code: String,
    pub sealed: String,
    /// Index of the seal leaf in the ledger.
    pub leaf: u64,
    /// Why it may not be deleted, if so.
    pub hold: Option<String>,
    /// When it was deleted because its time was over.
    pub expired: Option<String>,
    /// When the key to its content was destroyed.
    pub shredded: Option<String>,
    /// Who it was and where, if the store has the session.
    pub identity: Option<IdentityName>,
    pub destination: Option<Destination>,
}

impl RecordingView {
    /// Of `row`, whose file lies in the folder `archive`.
    pub fn of(row: RecordingRow, archive: &std::path::Path, session: Option<&SessionRow>) -> RecordingView {
        RecordingView {
            session: row.session,
            path: archive.join(&row.file).display().to_string(),
            bytes: row.bytes,
            kind: row.kind,
            end_code: row.end_code,
            sealed: rfc3339(row.sealed_ms),
            leaf: row.leaf,
            hold: row.hold,
            expired: row.expired_ms.map(rfc3339),
            shredded: row.shredded_ms.map(rfc3339),
            identity: session.map(|session| session.identity.clone()),
            destination: session.map(|session| session.destination.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_ms() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_800_000_000_123), "2027-01-15T08:00:00.123Z");
        assert_eq!(rfc3339(u64::MAX), "out of range");
    }

    #[test]
    fn requests_refuse_what_they_do_not_know() {
        let text = r#"{"what":"grant","id":"ab","reason":"x","extra":1}"#;
        assert!(serde_json::from_str::<RevokeRequest>(text).is_err());
        let text = r#"{"what":"everything","reason":"x"}"#;
        assert!(serde_json::from_str::<RevokeRequest>(text).is_err());
    }
}
