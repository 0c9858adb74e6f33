//! Break-glass as values: a grant that was made ready beforehand, the statement
//! that several people sign, and what has to hold on the day it is used.
//!
//! A statement says everything itself (who, which targets, until when), so
//! that nobody has to be asked when nobody answers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::grant::{Capabilities, Cidr, GRANT_MS_MAX, Grant, WallMs, hex32};
use super::id::{Destination, GrantId, IdentityName, Login, NodeName, TargetName};
use super::inventory::Target;
use super::policy::facts::Who;
use super::route::{NoRoute, Route};

/// SSHSIG namespace of the signatures (PROTOCOL.sshsig).
pub const NAMESPACE: &str = "break-glass@portcullis";
/// The one version of statements that there is.
pub const VERSION: u32 = 1;
/// Longest window in which a grant may be used, in ms (366 days).
pub const WINDOW_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;
/// Longest session under such a grant, in ms (12 h).
pub const SESSION_MS_MAX: u64 = GRANT_MS_MAX;
/// Most destinations of one grant.
pub const DOORS_MAX: usize = 16;
/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 32 * 1024;
/// Most people who may sign.
pub const SIGNERS_MAX: usize = 16;

/// When a grant may be used at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Only while the store is not heard from: the node's lease has run out.
    StoreDown,
    /// At any time in its window.
    Always,
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "store-down" => Ok(Condition::StoreDown),
            "always" => Ok(Condition::Always),
            _ => Err(format!("no condition is called `{text}`: store-down or always")),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Condition::StoreDown => "store-down",
            Condition::Always => "always",
        })
    }
}

/// One destination and the certificate for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Door {
    pub login: Login,
    /// As the inventory had it.
    pub target: Target,
    /// The bastions before it, as the inventory had them, in the order in which
    /// they are dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Target>,
    /// SHA-256 of the certificate (the decoded blob).
    #[serde(with = "hex32")]
    pub certificate_sha256: [u8; 32],
    pub certificate_serial: u64,
}

impl Door {
    /// The bastion of this name before it.
    pub fn hop(&self, name: &TargetName) -> Option<&Target> {
        self.hops.iter().find(|hop| hop.name == *name)
    }

    /// `login@target`.
    pub fn destination(&self) -> Destination {
        Destination {
            login: self.login.clone(),
            target: self.target.name.clone(),
        }
    }
}

/// What is signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`VERSION`].
    pub version: u32,
    pub id: GrantId,
    /// The one server at which it counts.
    pub node: NodeName,
    pub made_ms: WallMs,
    pub made_by: String,
    /// Who holds it, as the inventory had it.
    pub who: Who,
    pub doors: Vec<Door>,
    pub capabilities: Capabilities,
    /// Addresses that it may be used from; empty means any.
    pub sources: Vec<Cidr>,
    /// Start of `[from, until)`, in which it may be used.
    pub from_ms: WallMs,
    pub until_ms: WallMs,
    /// How long the session lasts once it is used, in ms; never past `until`.
    pub session_ms: u64,
    pub condition: Condition,
    pub reason: String,
    /// SHA-256 of the policies that let it be made.
    #[serde(with = "hex32")]
    pub policy_digest: [u8; 32],
}

/// Why a prepared grant counts for nothing. Codes are stable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    #[error("the statement is longer than {STATEMENT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the statement cannot be read: {0}")]
    Unreadable(String),
    #[error("the statement is of version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("it is for the node {0}, not for this one")]
    OtherNode(NodeName),
    #[error("its window is empty or longer than 366 days")]
    Window,
    #[error("a session under it would last no time, or longer than 12 h")]
    Session,
    #[error("it names no destination, more than {DOORS_MAX}, or one of them twice")]
    Doors,
    #[error("{0} is not a login of its target")]
    Login(Destination),
    #[error("there is no way to one of its destinations: {0}")]
    Route(#[from] NoRoute),
    #[error("it allows nothing")]
    AllowsNothing,
    #[error("its certificates are not those that the statement names: {0}")]
    Certificates(String),
    #[error("break-glass is not set up here: break_glass.signers names nobody")]
    NoSigners,
    #[error("{have} of the {need} signers that it takes have signed it; the holder does not count")]
    NotEnough { have: usize, need: usize },
}

impl Unfit {
    /// Stable, for logs and answers.
    pub fn code(&self) -> &'static str {
        match self {
            Unfit::TooLong => "statement_too_long",
            Unfit::Unreadable(_) => "statement_unreadable",
            Unfit::Version(_) => "statement_version",
            Unfit::OtherNode(_) => "statement_other_node",
            Unfit::Window => "statement_window",
            Unfit::Session => "statement_session",
            Unfit::Doors => "statement_destinations",
            Unfit::Login(_) => "statement_login",
            Unfit::Route(_) => "statement_route",
            Unfit::AllowsNothing => "statement_allows_nothing",
            Unfit::Certificates(_) => "statement_certificates",
            Unfit::NoSigners => "break_glass_not_set_up",
            Unfit::NotEnough { .. } => "statement_not_signed",
        }
    }
}

impl Statement {
    /// Reads the text that was signed.
    ///
    /// # Errors
    /// What is wrong with it by itself.
    pub fn read(text: &str) -> Result<Statement, Unfit> {
        if text.len() > STATEMENT_BYTES_MAX {
            return Err(Unfit::TooLong);
        }
        let statement: Statement = serde_json::from_str(text).map_err(|error| Unfit::Unreadable(error.to_string()))?;
        statement.check()?;
        Ok(statement)
    }

    /// Whether its parts fit together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Unfit> {
        if self.version != VERSION {
            return Err(Unfit::Version(self.version));
        }
        let window = self.until_ms.saturating_sub(self.from_ms);
        if window == 0 || window > WINDOW_MS_MAX {
            return Err(Unfit::Window);
        }
        if self.session_ms == 0 || self.session_ms > SESSION_MS_MAX {
            return Err(Unfit::Session);
        }
        let names: BTreeSet<Destination> = self.doors.iter().map(Door::destination).collect();
        let sha256: BTreeSet<[u8; 32]> = self.doors.iter().map(|door| door.certificate_sha256).collect();
        let count = self.doors.len();
        if count == 0 || count > DOORS_MAX || names.len() != count || sha256.len() != count {
            return Err(Unfit::Doors);
        }
        if let Some(door) = self.doors.iter().find(|door| !door.target.logins.contains(&door.login)) {
            return Err(Unfit::Login(door.destination()));
        }
        for door in &self.doors {
            Route::find(door.target.clone(), |name| door.hop(name).cloned())?;
        }
        match self.capabilities.is_empty() {
            true => Err(Unfit::AllowsNothing),
            false => Ok(()),
        }
    }

    /// Whether it may be used from `peer`.
    pub fn admits_from(&self, peer: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|block| block.contains(peer))
    }

    /// End of a session that begins at `now`.
    pub fn session_until(&self, now: WallMs) -> WallMs {
        now.saturating_add(self.session_ms).min(self.until_ms)
    }

    /// The door that this certificate opens.
    pub fn door(&self, certificate_sha256: [u8; 32]) -> Option<&Door> {
        self.doors
            .iter()
            .find(|door| door.certificate_sha256 == certificate_sha256)
    }
}

/// A statement that enough people signed. Only [`Signed::new`] makes one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    statement: Statement,
    signers: BTreeSet<IdentityName>,
}

impl Signed {
    /// `by` are those configured signers whose signature over this very
    /// statement was verified.
    ///
    /// # Errors
    /// It is for another node, or fewer than `need` of them count.
    pub fn new(
        statement: Statement,
        node: &NodeName,
        by: BTreeSet<IdentityName>,
        need: usize,
    ) -> Result<Signed, Unfit> {
        statement.check()?;
        if statement.node != *node {
            return Err(Unfit::OtherNode(statement.node));
        }
        let signers: BTreeSet<IdentityName> = by.into_iter().filter(|name| *name != statement.who.name).collect();
        let (have, need) = (signers.len(), need.max(1));
        if have < need {
            return Err(Unfit::NotEnough { have, need });
        }
        Ok(Signed { statement, signers })
    }

    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Who signed it and counts.
    pub fn signers(&self) -> &BTreeSet<IdentityName> {
        &self.signers
    }

    /// As the grant of one of its doors, not used yet.
    pub fn grant(&self, door: &Door) -> Grant {
        let statement = &self.statement;
        let signers: Vec<&str> = self.signers.iter().map(IdentityName::as_str).collect();
        Grant {
            id: statement.id,
            identity: statement.who.name.clone(),
            destination: door.destination(),
            from_ms: statement.from_ms,
            until_ms: statement.until_ms,
            sources: statement.sources.clone(),
            capabilities: statement.capabilities.clone(),
            reason: statement.reason.clone(),
            ticket: None,
            request: None,
            issued_by: format!("break-glass, signed by {}", signers.join(", ")),
            policy_digest: statement.policy_digest,
            certificate_sha256: door.certificate_sha256,
            certificate_serial: door.certificate_serial,
            single_use: true,
            used_at_ms: None,
            revoked_at_ms: None,
            revoked_why: None,
        }
    }
}

/// How things stand at the moment of an admission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The journal has a use of it.
    pub used: bool,
    /// A revocation named it since it was made.
    pub revoked: bool,
    /// The node's lease holds: the store was heard from.
    pub store_alive: bool,
}

#[cfg(test)]
#[path = "break_glass_tests.rs"]
mod tests;
