//! Shapes of logins, requests, answers, reviews and explanations.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{SCHEMA, rfc3339};
use crate::kernel::access::{Missing, RequestRow, RequestState, Verdict};
use crate::kernel::grant::{Capability, Cidr, WallMs, hex32};
use crate::kernel::id::{Destination, GrantId, IdentityName, NodeName, RequestId, ReviewId, SessionId};
use crate::kernel::inventory::{IdentityKind, Role};
use crate::kernel::policy::facts::{Action, Facts, ForwardTo};
use crate::kernel::policy::obligations::Obligations;
use crate::store::{AnomalyRow, DecisionRow, ReviewRow};

envelope! { /// `POST /v1/login/challenge`: text to be signed as it is (SSHSIG, namespace
/// [`CHALLENGE_NAMESPACE`]), and when it ends.
Challenge { challenge: String, expires: String } }
envelope! { /// `POST /v1/login`.
LoggedIn { token: String, identity: IdentityName, roles: Vec<Role>, method: String, expires: String } }
envelope! { /// `GET /v1/whoami`.
WhoAmI {
    identity: String, kind: Option<IdentityKind>, roles: Vec<Role>, method: String, expires: Option<String>,
    server: ServerView,
} }
envelope! { /// `POST /v1/requests`, `GET /v1/requests/{id}`, and each answer to one.
OneRequest { request: RequestView } }
envelope! { /// `GET /v1/requests`. `next` is the cursor of the next page.
Requests { requests: Vec<RequestView>, next: Option<String> } }
envelope! { /// `GET /v1/reviews`.
Reviews { reviews: Vec<ReviewView> } }
envelope! { /// `POST /v1/reviews/{id}/close`.
OneReview { review: ReviewView } }
envelope! { /// `GET /v1/anomalies`.
Anomalies { anomalies: Vec<AnomalyView> } }
envelope! { /// `POST /v1/explain`. `warnings` are what would fail all the same; they are for those who oversee.
Explained {
    allowed: bool, action: Action, sentence: String, rules: Vec<RuleView>, obligations: Obligations, policy_digest: String,
    warnings: Vec<String>,
} }

envelope! { /// `GET /v1/policies`.
PoliciesInForce { policy_digest: String, rules: Vec<RuleView> } }
envelope! { /// `GET /v1/decisions`.
Decisions { decisions: Vec<DecisionView> } }

/// SSHSIG namespace of challenges (PROTOCOL.sshsig): a signature for this is none for files or git.
pub const CHALLENGE_NAMESPACE: &str = "challenge@portcullis";

/// What a challenge is good for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "action", content = "about")]
pub enum ChallengeFor {
    /// A token for the API.
    Login,
    /// Making the request with this hash of its body.
    Request(String),
    /// Collecting the certificate of this request.
    Collect(RequestId),
    /// Answering this request.
    Answer(RequestId),
    /// Running the command that waits by this request.
    Confirm(RequestId),
}

/// `POST /v1/login/challenge`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeRequest {
    pub identity: IdentityName,
    #[serde(rename = "for")]
    pub purpose: ChallengeFor,
}

/// A challenge and its signature by an enrolled key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedChallenge {
    pub challenge: String,
    /// PEM-like SSHSIG, as `ssh-keygen -Y sign` writes it.
    pub signature: String,
}

/// `POST /v1/login`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    pub proof: SignedChallenge,
    /// Only these of the identity's roles; empty: all.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// How long the token is good for, at most what the server allows; 0: that.
    #[serde(default)]
    pub for_secs: u64,
}

/// What a client needs to know of the gate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    pub node: NodeName,
    /// Names and addresses of the SSH listener, the first one preferred.
    pub ssh_hosts: Vec<String>,
    pub ssh_port: u16,
    /// `@cert-authority …` lines for known_hosts.
    pub known_hosts: Vec<String>,
}

/// `POST /v1/requests`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRequestNew {
    /// Who will hold the grant; none: who asks. Somebody else: by a sponsor or an admin.
    #[serde(default)]
    pub identity: Option<IdentityName>,
    pub destination: Destination,
    pub for_secs: u64,
    pub reason: String,
    #[serde(default)]
    pub ticket: Option<String>,
    /// Empty: shell, exec, sftp.
    #[serde(default)]
    pub allow: Vec<Capability>,
    #[serde(default)]
    pub sources: Vec<Cidr>,
    /// Start of the window, ms since the epoch; none: when it is approved.
    #[serde(default)]
    pub begins_ms: Option<WallMs>,
    /// The one key to certify; none: any key, named when the certificate is collected.
    #[serde(default)]
    pub public_key: Option<String>,
    #[serde(default)]
    pub single_use: bool,
    /// The grant that this one prolongs; a unique prefix of its id.
    #[serde(default)]
    pub extends: Option<String>,
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub location: Option<String>,
    /// For a rule that asks for a fresh proof.
    #[serde(default)]
    pub proof: Option<SignedChallenge>,
}

impl AccessRequestNew {
    /// What a step-up for it names: SHA-256 over its JSON without the proof.
    pub fn sha256(&self) -> [u8; 32] {
        let bare = AccessRequestNew {
            proof: None,
            ..self.clone()
        };
        let json = serde_json::to_vec(&bare).unwrap_or_default();
        Sha256::new()
            .chain_update(b"portcullis request\n")
            .chain_update(json)
            .finalize()
            .into()
    }
}

/// `POST /v1/requests/{id}/approve`, `…/deny` and `…/confirm`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// Hash of the request as it was shown.
    pub request_sha256: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub proof: Option<SignedChallenge>,
}

/// `POST /v1/requests/{id}/collect`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectRequest {
    /// The key to certify; none if the request names one.
    #[serde(default)]
    pub public_key: Option<String>,
    #[serde(default)]
    pub proof: Option<SignedChallenge>,
}

/// `POST /v1/reviews/{id}/close`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseReview {
    pub note: String,
}

/// `POST /v1/explain`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub identity: IdentityName,
    pub action: Action,
    pub destination: Destination,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub source: Option<std::net::IpAddr>,
    /// ms since the epoch; none: now.
    #[serde(default)]
    pub at_ms: Option<WallMs>,
    #[serde(default)]
    pub for_secs: u64,
    #[serde(default)]
    pub allow: Vec<Capability>,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub ticket: Option<String>,
    #[serde(default)]
    pub command: Option<String>,
    #[serde(default)]
    pub subsystem: Option<String>,
    /// What would be done to a file; wanted where that is asked about.
    #[serde(default)]
    pub transfer: Option<ExplainTransfer>,
    /// Where a forwarding would lead; wanted where that is asked about.
    #[serde(default)]
    pub forward: Option<ForwardTo>,
    /// Who would read the line (command); none: `shell`.
    #[serde(default)]
    pub place: Option<String>,
    /// The line would not be read for certain (command).
    #[serde(default)]
    pub undecided: bool,
    /// On a terminal.
    #[serde(default)]
    pub terminal: bool,
    #[serde(default)]
    pub risk: u8,
}

/// Something done to a file, as [`ExplainRequest`] asks about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainTransfer {
    /// `upload`, `download`, `rename`, `remove`, `mkdir`, `rmdir`, `symlink`, `hardlink`, `setstat` or `copy`.
    pub what: String,
    /// As a client would write it.
    pub path: String,
    /// The new name, what a link says, where to.
    #[serde(default)]
    pub other: String,
}

/// One rule that took part in a decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    pub id: String,
    /// `permit`, `forbid` or `gate` (the gate's own rules).
    pub effect: String,
    pub file: String,
    /// What its `@note` says.
    pub note: Option<String>,
}

/// A decision as kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    pub at: String,
    pub facts: Facts,
    pub allowed: bool,
    pub rules: Vec<String>,
    pub policy_digest: String,
}

impl From<DecisionRow> for DecisionView {
    fn from(row: DecisionRow) -> DecisionView {
        DecisionView {
            at: rfc3339(row.at_ms),
            facts: row.facts,
            allowed: row.allowed,
            rules: row.rules,
            policy_digest: row.policy_digest,
        }
    }
}

/// One answer as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    pub by: String,
    pub verdict: Verdict,
    pub reason: String,
    pub method: String,
    pub at: String,
}

/// A request as shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    pub id: RequestId,
    /// What an answer has to name.
    pub sha256: String,
    pub state: RequestState,
    pub identity: IdentityName,
    pub requested_by: String,
    pub destination: Destination,
    pub allow: Vec<Capability>,
    pub sources: Vec<Cidr>,
    pub begins: Option<String>,
    pub for_secs: u64,
    pub reason: String,
    pub ticket: Option<String>,
    pub public_key: Option<String>,
    pub single_use: bool,
    pub extends: Option<GrantId>,
    /// A connection under this grant waits for the answer.
    pub connects: Option<GrantId>,
    /// What waits for it is this one command in a session.
    pub runs: Option<String>,
    /// It could not be read for certain: what runs may be another.
    pub undecided: bool,
    pub made: String,
    pub answer_by: String,
    pub obligations: Obligations,
    pub policy_digest: String,
    pub answers: Vec<AnswerView>,
    /// How many more must say yes.
    pub missing: u32,
    /// Its holder has to confirm it, with a fresh proof.
    pub unconfirmed: bool,
    /// `[from, until)` once approved.
    pub from: Option<String>,
    pub until: Option<String>,
    pub grant: Option<GrantId>,
}

impl RequestView {
    /// Of `row` at `now`.
    pub fn at(row: &RequestRow, now: WallMs) -> RequestView {
        let request = &row.request;
        let state = row.state_at(now);
        let missing = match state {
            RequestState::Pending => row.missing().unwrap_or_default(),
            RequestState::Approved
            | RequestState::Denied
            | RequestState::Expired
            | RequestState::Withdrawn
            | RequestState::Revoked => Missing::default(),
        };
        RequestView {
            id: request.id,
            sha256: hex32::encode(&request.sha256()),
            state,
            identity: request.identity.clone(),
            requested_by: request.requested_by.clone(),
            destination: request.destination.clone(),
            allow: request.capabilities.iter().copied().collect(),
            sources: request.sources.clone(),
            begins: request.begins_ms.map(rfc3339),
            for_secs: request.for_ms / 1000,
            reason: request.reason.clone(),
            ticket: request.ticket.clone(),
            public_key: request.public_key.clone(),
            single_use: request.single_use,
            extends: request.extends,
            connects: request.connects,
            runs: request.runs.clone(),
            undecided: request.undecided,
            made: rfc3339(request.made_ms),
            answer_by: rfc3339(request.answer_by_ms),
            obligations: request.obligations.clone(),
            policy_digest: hex32::encode(&request.policy_digest),
            answers: row
                .answers
                .iter()
                .map(|given| AnswerView {
                    by: given.by.clone(),
                    verdict: given.verdict,
                    reason: given.why.clone(),
                    method: given.method.clone(),
                    at: rfc3339(given.at_ms),
                })
                .collect(),
            missing: missing.others(),
            unconfirmed: missing.proof,
            from: row.window.map(|(from, _)| rfc3339(from)),
            until: row.window.map(|(_, until)| rfc3339(until)),
            grant: row.grant,
        }
    }
}

/// A review as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReviewView {
    pub id: ReviewId,
    pub session: Option<SessionId>,
    pub identity: IdentityName,
    pub destination: Destination,
    pub kind: String,
    pub why: String,
    pub opened: String,
    pub closed: Option<String>,
    pub closed_by: Option<String>,
    pub note: Option<String>,
}

impl From<ReviewRow> for ReviewView {
    fn from(row: ReviewRow) -> ReviewView {
        ReviewView {
            id: row.id,
            session: row.session,
            identity: row.identity,
            destination: row.destination,
            kind: row.kind,
            why: row.why,
            opened: rfc3339(row.opened_ms),
            closed: row.closed_ms.map(rfc3339),
            closed_by: row.closed_by,
            note: row.note,
        }
    }
}

/// An anomaly as shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnomalyView {
    pub at: String,
    pub identity: IdentityName,
    pub session: Option<SessionId>,
    pub kind: String,
    pub detail: String,
    pub risk: u8,
}

impl From<AnomalyRow> for AnomalyView {
    fn from(row: AnomalyRow) -> AnomalyView {
        AnomalyView {
            at: rfc3339(row.at_ms),
            identity: row.identity,
            session: row.session,
            kind: row.kind,
            detail: row.detail,
            risk: row.risk,
        }
    }
}
