//! What a yes is bound to: annotations of the policies that said it. Where
//! several say yes, the strictest of each counts, so that a further policy
//! never loosens what another one demands.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kernel::id::GroupName;

/// How a session is recorded, from least to most demanding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordMode {
    /// Everything, as the server's configuration says.
    #[default]
    Full,
    /// Everything, and an Enter waits for the disk.
    Durable,
    /// Everything, readable by investigators only; refused where none is configured.
    Encrypted,
}

/// What a recording keeps of what crosses a channel, from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// How many bytes, and their hashes.
    Digest,
    /// The same, and the content of files in the vault, once each.
    Vault,
    /// Every byte.
    #[default]
    Full,
}

/// What becomes of a session in which lines are run that the terminal does not show, from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnHidden {
    /// It is told: to the user, and as an alarm.
    Notice,
    /// It ends.
    End,
}

/// What the determining policies demand. Fields that are skipped where nothing is said stay so: requests are approved by
/// the hash of the JSON.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Obligations {
    /// `@approvals("2")`: so many other people must say yes.
    #[serde(default)]
    pub approvals: u32,
    /// `@approvers("dba")`: at least one of them is of each of these groups.
    #[serde(default)]
    pub approvers: BTreeSet<GroupName>,
    /// `@max("1h")`: longest window, in ms.
    #[serde(default)]
    pub max_ms: Option<u64>,
    /// `@answer_within("30m")`: an unanswered request ends, in ms.
    #[serde(default)]
    pub answer_ms: Option<u64>,
    /// `@step_up("5m")`: a proof over a challenge that names the action, not older than this when it is given, in ms.
    #[serde(default)]
    pub step_up_ms: Option<u64>,
    /// `@review`: somebody else looks back at the session.
    #[serde(default)]
    pub review: bool,
    /// `@single_use`: one session.
    #[serde(default)]
    pub single_use: bool,
    /// `@record("full"|"durable"|"encrypted")`.
    #[serde(default)]
    pub record: RecordMode,
    /// `@record("digest"|"vault"|"full")` of a forward, or of a program that moves files; nothing said: in full. Its name in
    /// JSON is `forward`.
    #[serde(default, rename = "forward", skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// `@warn("5m,1m")`: warnings before the end, in ms, beside the configured ones.
    #[serde(default)]
    pub warn_ms: BTreeSet<u64>,
    /// `@end_on_change`: a policy change that no longer admits ends the session.
    #[serde(default)]
    pub end_on_change: bool,
    /// `@grace("2m")`: how long such a session still has, told at once, in ms.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    /// `@notify`: written out loud: log, metric and ledger, as an alarm.
    #[serde(default)]
    pub notify: bool,
    /// `@hook`: the shell is started so that it says what it runs (`kernel::hook`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hook: bool,
    /// `@max_file("100MiB")` of a transfer: of one file no more may cross each way, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<u64>,
    /// `@hidden_command("notice"|"end")` of what runs on a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_command: Option<OnHidden>,
    /// `@notice("…")` of a command: lines that its user is shown before it runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub notice: BTreeSet<String>,
    /// `@reason("…")` of a command: what its user is asked before it runs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reason: BTreeSet<String>,
    /// `@end`: a command that is refused ends its session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

impl Obligations {
    /// Whether they demand anything at an Enter in a terminal.
    pub fn at_enter(&self) -> bool {
        self.waits() || !self.notice.is_empty() || !self.reason.is_empty()
    }

    /// Whether a command waits: for somebody else's yes, or for its user's proof.
    pub fn waits(&self) -> bool {
        self.asks() || self.step_up_ms.is_some()
    }

    /// Whether somebody else has to say yes.
    pub fn asks(&self) -> bool {
        self.approvals > 0 || !self.approvers.is_empty()
    }

    /// Both: commutative, associative, idempotent, never looser than either.
    #[must_use]
    pub fn meet(&self, other: &Obligations) -> Obligations {
        let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        };
        Obligations {
            approvals: self.approvals.max(other.approvals),
            approvers: self.approvers.union(&other.approvers).cloned().collect(),
            max_ms: least(self.max_ms, other.max_ms),
            answer_ms: least(self.answer_ms, other.answer_ms),
            step_up_ms: least(self.step_up_ms, other.step_up_ms),
            review: self.review || other.review,
            single_use: self.single_use || other.single_use,
            record: self.record.max(other.record),
            kept: self.kept.max(other.kept),
            warn_ms: self.warn_ms.union(&other.warn_ms).copied().collect(),
            end_on_change: self.end_on_change || other.end_on_change,
            grace_ms: least(self.grace_ms, other.grace_ms),
            notify: self.notify || other.notify,
            hook: self.hook || other.hook,
            max_file_bytes: least(self.max_file_bytes, other.max_file_bytes),
            hidden_command: self.hidden_command.max(other.hidden_command),
            notice: self.notice.union(&other.notice).cloned().collect(),
            reason: self.reason.union(&other.reason).cloned().collect(),
            end: self.end || other.end,
        }
    }
}
