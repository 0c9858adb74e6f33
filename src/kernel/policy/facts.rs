//! What a decision looks at, in plain fields: gathered by the rim, read by the
//! policies, kept with each request so that other policies can be asked again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kernel::grant::{Capability, WallMs};
use crate::kernel::id::{GroupName, IdentityName, TargetName};
use crate::kernel::inventory::{Identity, IdentityKind, Role, Target};

/// What is asked for. The names are those of the policies' actions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To ask for access.
    Request,
    /// To make a grant or its certificate.
    Issue,
    /// To reach the target at all.
    Connect,
    Shell,
    Exec,
    Subsystem,
    /// One thing done to a file.
    Transfer,
    Forward,
    /// One command in a terminal.
    Command,
    /// To read a recording.
    Replay,
    /// To answer somebody's request.
    Approve,
    /// To end somebody's access.
    Revoke,
}

impl Action {
    /// Each of them.
    pub const ALL: [Action; 12] = [
        Action::Request,
        Action::Issue,
        Action::Connect,
        Action::Shell,
        Action::Exec,
        Action::Subsystem,
        Action::Transfer,
        Action::Forward,
        Action::Command,
        Action::Replay,
        Action::Approve,
        Action::Revoke,
    ];

    /// As policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Request => "request",
            Action::Issue => "issue",
            Action::Connect => "connect",
            Action::Shell => "shell",
            Action::Exec => "exec",
            Action::Subsystem => "subsystem",
            Action::Transfer => "transfer",
            Action::Forward => "forward",
            Action::Command => "command",
            Action::Replay => "replay",
            Action::Approve => "approve",
            Action::Revoke => "revoke",
        }
    }
}

impl std::str::FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Action::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Action::ALL.into_iter().map(Action::as_str).collect();
                format!("no action is called `{text}`: {}", names.join(", "))
            })
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Who {
    pub name: IdentityName,
    pub kind: IdentityKind,
    pub roles: BTreeSet<Role>,
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
    #[serde(default)]
    pub owner: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
}

impl From<&Identity> for Who {
    fn from(identity: &Identity) -> Who {
        Who {
            name: identity.name.clone(),
            kind: identity.kind,
            roles: identity.all_roles(),
            groups: identity.groups.clone(),
            owner: identity.owner.clone(),
            purpose: identity.purpose.clone(),
        }
    }
}

/// Where to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Whereto {
    pub name: TargetName,
    /// `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
}

impl From<&Target> for Whereto {
    fn from(target: &Target) -> Whereto {
        Whereto {
            name: target.name.clone(),
            labels: target.labels.clone(),
        }
    }
}

/// How, and how long ago, who asks has proved who it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// `ssh-key`, `hardware-key`, `socket`, `certificate`.
    pub method: String,
    /// 1: a bearer token; 2: a key; 3: a key in hardware.
    pub strength: u8,
    /// Since the proof, in ms.
    pub age_ms: u64,
}

impl Default for Proof {
    fn default() -> Proof {
        Proof {
            method: "none".to_owned(),
            strength: 0,
            age_ms: 0,
        }
    }
}

/// The time of day where the policies live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LocalTime {
    /// 1 Monday to 7 Sunday (ISO 8601).
    pub weekday: u8,
    /// Minutes since local midnight, in `[0, 1440)`.
    pub minute: u16,
}

/// The port or socket of a forwarding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ForwardTo {
    /// `local` (`-L`, `-D`), `remote` (`-R`), `agent` or `x11`.
    pub direction: String,
    /// Host or socket path as the client wrote it.
    pub host: String,
    pub port: u32,
}

/// What is done to a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransferOf {
    /// `upload`, `download` or `change`.
    pub direction: String,
    /// Such as `rename`.
    pub what: String,
    /// As the client wrote it.
    pub path: String,
    /// The new name of a rename, what a link says, attributes in words.
    #[serde(default)]
    pub other: String,
    /// The paths start at the root and go nowhere but down.
    #[serde(default)]
    pub plain: bool,
}

/// Everything a policy may look at. What does not apply to the action is empty.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Facts {
    pub action: Action,
    pub who: Who,
    /// None: the action is about no target (a recording of one that is gone).
    pub target: Option<Whereto>,
    #[serde(default)]
    pub login: String,
    pub now_ms: WallMs,
    #[serde(default)]
    pub local: LocalTime,
    /// Where the connection or the call came from; none at the server's own socket.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub source: Option<IpAddr>,
    /// Names of the configured zones that hold the source.
    #[serde(default)]
    pub zones: BTreeSet<String>,
    /// What the caller says of its device and place, where known. Hints, not proof.
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub location: Option<String>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub ticket: Option<String>,
    #[serde(default)]
    pub proof: Proof,
    /// 0 (nothing unusual) to 100.
    #[serde(default)]
    pub risk: u8,
    /// Why, such as `first-source`.
    #[serde(default)]
    pub anomalies: BTreeSet<String>,
    /// What the grant would allow (request, issue), or allows.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// Length of the window that is asked for, in ms.
    #[serde(default)]
    pub for_ms: u64,
    /// How far ahead it begins, in ms.
    #[serde(default)]
    pub begins_in_ms: u64,
    #[serde(default)]
    pub single_use: bool,
    /// Who asks for somebody else; who asked, where somebody answers.
    #[serde(default)]
    pub requested_by: Option<String>,
    /// Who holds the grant or made the recording, where that is not who asks.
    #[serde(default)]
    pub holder: Option<String>,
    /// The command's text (exec, command).
    #[serde(default)]
    pub command: Option<String>,
    /// The command's labels, such as `destructive`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// Who reads the line (command): `shell`, `repl`, `program`, … Not written where there is none: decisions are
    /// compared by what is written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The line could not be read off the terminal for certain (command).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    #[serde(default)]
    pub subsystem: Option<String>,
    #[serde(default)]
    pub forward: Option<ForwardTo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferOf>,
    /// Whether the channel has a terminal.
    #[serde(default)]
    pub terminal: bool,
}

impl Facts {
    /// From there.
    #[must_use]
    pub fn from(self, source: Option<IpAddr>) -> Facts {
        Facts { source, ..self }
    }

    /// The least that is ever known; everything else is empty.
    pub fn new(action: Action, who: Who, target: Option<Whereto>, now_ms: WallMs) -> Facts {
        Facts {
            action,
            who,
            target,
            login: String::new(),
            now_ms,
            local: LocalTime::default(),
            source: None,
            zones: BTreeSet::new(),
            device: None,
            location: None,
            reason: String::new(),
            ticket: None,
            proof: Proof::default(),
            risk: 0,
            anomalies: BTreeSet::new(),
            capabilities: BTreeSet::new(),
            for_ms: 0,
            begins_in_ms: 0,
            single_use: false,
            requested_by: None,
            holder: None,
            command: None,
            labels: BTreeSet::new(),
            place: String::new(),
            undecided: false,
            subsystem: None,
            forward: None,
            transfer: None,
            terminal: false,
        }
    }
}
