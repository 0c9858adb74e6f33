//! Shapes of break-glass grants.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SCHEMA, rfc3339};
use crate::break_glass::{self, Prepared};
use crate::kernel::break_glass::{Condition, Door};
use crate::kernel::grant::{Capability, Cidr, WallMs};
use crate::kernel::id::{Destination, GrantId, IdentityName, SessionId};

envelope! { /// `POST /v1/break-glass/prepare`: to be signed, then installed.
MadeReady { prepared: Prepared } }
envelope! { /// `POST /v1/break-glass`.
Installed { grant: BreakGlassView } }
envelope! { /// `GET /v1/break-glass`. Files in `refused` count for nothing.
BreakGlassGrants { grants: Vec<BreakGlassView>, refused: Vec<RefusedFile> } }

/// `POST /v1/break-glass/prepare`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrepareRequest {
    pub identity: IdentityName,
    pub destinations: Vec<Destination>,
    pub public_key: String,
    /// Start of the window in which it may be used, ms since the epoch; none: now.
    #[serde(default)]
    pub from_ms: Option<WallMs>,
    pub until_ms: WallMs,
    /// How long the session lasts once it is used.
    pub session_secs: u64,
    pub condition: Condition,
    pub reason: String,
    pub allow: Vec<Capability>,
    #[serde(default)]
    pub sources: Vec<Cidr>,
}

/// How an installed grant stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakGlassState {
    /// Its window is to come.
    NotYet,
    /// It may be used once, if its condition holds.
    Ready,
    Used,
    Revoked,
    /// Its window is over.
    Over,
}

impl BreakGlassState {
    /// As in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakGlassState::NotYet => "not-yet",
            BreakGlassState::Ready => "ready",
            BreakGlassState::Used => "used",
            BreakGlassState::Revoked => "revoked",
            BreakGlassState::Over => "over",
        }
    }
}

/// A use as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct UseView {
    pub session: SessionId,
    pub at: String,
    pub destination: Destination,
    pub source: String,
}

/// An installed grant as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassView {
    pub id: GrantId,
    pub state: BreakGlassState,
    pub identity: IdentityName,
    pub destinations: Vec<Destination>,
    pub capabilities: Vec<Capability>,
    pub sources: Vec<Cidr>,
    pub from: String,
    pub until: String,
    pub session_secs: u64,
    pub condition: Condition,
    pub reason: String,
    /// Who signed it and counts.
    pub signers: Vec<IdentityName>,
    pub used: Option<UseView>,
}

impl BreakGlassView {
    /// Of an installed grant at `now`.
    pub fn at(installed: &break_glass::Installed, now: WallMs) -> BreakGlassView {
        let statement = installed.signed.statement();
        let used = installed.used.as_ref().map(|used| UseView {
            session: used.session,
            at: rfc3339(used.at_ms),
            destination: used.grant.destination.clone(),
            source: used.source.clone(),
        });
        BreakGlassView {
            id: statement.id,
            state: match (&used, installed.revoked) {
                (Some(_), _) => BreakGlassState::Used,
                (None, true) => BreakGlassState::Revoked,
                (None, false) if now >= statement.until_ms => BreakGlassState::Over,
                (None, false) if now < statement.from_ms => BreakGlassState::NotYet,
                (None, false) => BreakGlassState::Ready,
            },
            identity: statement.who.name.clone(),
            destinations: statement.doors.iter().map(Door::destination).collect(),
            capabilities: statement.capabilities.iter().copied().collect(),
            sources: statement.sources.clone(),
            from: rfc3339(statement.from_ms),
            until: rfc3339(statement.until_ms),
            session_secs: statement.session_ms / 1000,
            condition: statement.condition,
            reason: statement.reason.clone(),
            signers: installed.signed.signers().iter().cloned().collect(),
            used,
        }
    }
}

/// A file in the folder that counts for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedFile {
    pub file: String,
    pub why: String,
}
