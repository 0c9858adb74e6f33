//! Who may ask and what can be reached: identities and targets as values.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::{GroupName, IdentityName, Login, TargetName};

/// What kind of holder an identity is. A machine or an agent always has an
/// owner, a purpose and a review date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityKind {
    Person,
    Vendor,
    Machine,
    Agent,
}

impl IdentityKind {
    /// As in JSON, policy and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            IdentityKind::Person => "person",
            IdentityKind::Vendor => "vendor",
            IdentityKind::Machine => "machine",
            IdentityKind::Agent => "agent",
        }
    }

    /// Whether somebody reads what it is told while it connects.
    pub fn reads(self) -> bool {
        match self {
            IdentityKind::Person | IdentityKind::Vendor => true,
            IdentityKind::Machine | IdentityKind::Agent => false,
        }
    }

    /// Whether it acts by itself, so that somebody must answer for it.
    pub fn is_accountable(self) -> bool {
        matches!(self, IdentityKind::Machine | IdentityKind::Agent)
    }
}

/// What an identity may do to the bastion itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything about inventory, policy and grants.
    Admin,
    /// Answers requests.
    Approver,
    /// Reads recordings.
    Investigator,
    /// Reads everything but recordings, changes nothing.
    Auditor,
    /// Asks for vendors, and ends what it asked for.
    Sponsor,
    /// Asks for itself. Every person and vendor is one.
    User,
    /// Asks for itself. Every machine and agent is one.
    Machine,
}

impl Role {
    /// Each of them.
    pub const ALL: [Role; 7] = [
        Role::Admin,
        Role::Approver,
        Role::Investigator,
        Role::Auditor,
        Role::Sponsor,
        Role::User,
        Role::Machine,
    ];

    /// As in JSON, policy and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Approver => "approver",
            Role::Investigator => "investigator",
            Role::Auditor => "auditor",
            Role::Sponsor => "sponsor",
            Role::User => "user",
            Role::Machine => "machine",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("no role is called `{text}`: admin, approver, investigator, auditor, sponsor"))
    }
}

/// One identity of the inventory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    pub name: IdentityName,
    pub kind: IdentityKind,
    /// Who answers for it: another identity's name. Required for machines and agents.
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
    /// Wall clock, ms since the epoch, after which it gets nothing until reviewed.
    #[serde(default)]
    pub review_by_ms: Option<u64>,
    /// Enrolled OpenSSH public keys, one line each.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Beyond those that its kind has by itself, see [`Identity::all_roles`].
    #[serde(default)]
    pub roles: BTreeSet<Role>,
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
    /// Gets nothing any more. Nobody is deleted: history names them.
    #[serde(default)]
    pub disabled: bool,
}

/// Why an identity may hold nothing now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoHolder {
    #[error("{0} is disabled")]
    Disabled(IdentityName),
    #[error("{0} has no owner, purpose or review date, which a machine or agent needs")]
    Unaccountable(IdentityName),
    #[error("the review of {name} is overdue; its owner {owner} has to review it first")]
    ReviewOverdue { name: IdentityName, owner: String },
}

impl Identity {
    /// Its roles, with those of its kind.
    pub fn all_roles(&self) -> BTreeSet<Role> {
        let own = match self.kind {
            IdentityKind::Person | IdentityKind::Vendor => Role::User,
            IdentityKind::Machine | IdentityKind::Agent => Role::Machine,
        };
        self.roles.iter().copied().chain([own]).collect()
    }

    /// Whether it may hold a grant at `now_ms`.
    ///
    /// # Errors
    /// Why not.
    pub fn may_hold(&self, now_ms: u64) -> Result<(), NoHolder> {
        if self.disabled {
            return Err(NoHolder::Disabled(self.name.clone()));
        }
        let complete = self.owner.is_some() && self.purpose.is_some() && self.review_by_ms.is_some();
        if self.kind.is_accountable() && !complete {
            return Err(NoHolder::Unaccountable(self.name.clone()));
        }
        match self.review_by_ms {
            Some(review) if review <= now_ms => Err(NoHolder::ReviewOverdue {
                name: self.name.clone(),
                owner: self.owner.clone().unwrap_or_else(|| "(none)".to_owned()),
            }),
            _ => Ok(()),
        }
    }
}

/// How a target proves that it is itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "by", content = "key")]
pub enum HostProof {
    /// The one pinned host key, as an OpenSSH public key line.
    HostKey(String),
    /// A host CA's public key line; the certificate must name the dialled host.
    HostCa(String),
}

/// Where a target is and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reach {
    /// An SSH server at `host:port`, which trusts our target CA.
    Ssh { addr: String, proof: HostProof },
    /// A command on this machine, run as `run_as`, never as the server's user.
    Local {
        /// Program and its arguments; an empty list means the account's shell.
        command: Vec<String>,
        /// Unix account that it runs as.
        run_as: String,
    },
}

/// One target of the inventory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Target {
    pub name: TargetName,
    pub logins: Vec<Login>,
    pub reach: Reach,
    /// Labels for policy, `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Nobody reaches it any more. Nothing is deleted: history names it.
    #[serde(default)]
    pub disabled: bool,
}
