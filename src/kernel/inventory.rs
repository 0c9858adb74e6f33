//! Who may ask and what can be reached: identities and targets as values.

use serde::{Deserialize, Serialize};

use super::id::{IdentityName, Login, TargetName};

/// What kind of holder an identity is. A machine or an agent always has an
/// owner, a purpose and a review date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityKind {
    Person,
    Vendor,
    Machine,
    Agent,
}

/// One identity of the inventory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
}

/// How a target proves that it is itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "key")]
pub enum HostProof {
    /// The one pinned host key, as an OpenSSH public key line.
    HostKey(String),
    /// A host CA's public key line; the certificate must name the dialled host.
    HostCa(String),
}

/// Where a target is and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    pub name: TargetName,
    pub logins: Vec<Login>,
    pub reach: Reach,
    /// Labels for policy, `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
}
