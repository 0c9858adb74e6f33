//! Requests for access and the answers to them, as values: who asked for what,
//! who said yes, and what became of it.
//!
//! The rules of the design stand in [`RequestRow::answer`]: the requester is
//! never an approver, an approval is bound to the hash of what was asked, a
//! quorum counts people, an unanswered request ends by itself. A proof is its
//! holder's alone, and nobody's yes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::grant::{Capabilities, Cidr, WallMs, hex32};
use super::id::{Destination, GrantId, GroupName, IdentityName, RequestId};
use super::policy::facts::Facts;
use super::policy::obligations::Obligations;

/// How long a request waits for its answer when policy says nothing else, in ms (1 h).
pub const ANSWER_MS_DEFAULT: u64 = 60 * 60 * 1000;
/// How far ahead a grant may begin, in ms (30 days).
pub const BEGIN_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;
/// Most answers that one request takes, beside the proof of its holder.
pub const ANSWERS_MAX: usize = 32;
/// What the hash of a request begins with, so that it is no other hash.
const HASH_DOMAIN: &[u8] = b"portcullis access request v1\n";

/// What somebody asks for. Nothing in it changes after it was made: an
/// approval is bound to its hash.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AccessRequest {
    pub id: RequestId,
    /// Who will hold the grant.
    pub identity: IdentityName,
    /// Who asked: the holder, or a sponsor. An identity's name, or a Unix
    /// account at the server's own socket.
    pub requested_by: String,
    pub destination: Destination,
    pub capabilities: Capabilities,
    /// Addresses that it may be used from; empty means any.
    pub sources: Vec<Cidr>,
    /// Start of the window, if it is not the moment of the last approval.
    pub begins_ms: Option<WallMs>,
    /// Length of the window.
    pub for_ms: u64,
    pub reason: String,
    pub ticket: Option<String>,
    /// The one key that is certified, as an OpenSSH line; none: a fresh key,
    /// shown when the certificate is collected.
    pub public_key: Option<String>,
    /// For one session only.
    pub single_use: bool,
    /// The grant that this one prolongs.
    pub extends: Option<GrantId>,
    /// It asks for a yes to one connection under this grant: nothing is
    /// collected by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects: Option<GrantId>,
    /// It asks for a yes to this one command in a session under that grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// That command could not be read for certain: what runs may be another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    pub made_ms: WallMs,
    /// From this ms on it takes no answer.
    pub answer_by_ms: WallMs,
    /// SHA-256 of the policies that let it be asked.
    #[serde(with = "hex32")]
    pub policy_digest: [u8; 32],
    /// What these policies demand.
    pub obligations: Obligations,
}

impl AccessRequest {
    /// What an approval is bound to: SHA-256 over its JSON with a domain.
    pub fn sha256(&self) -> [u8; 32] {
        // A value of these types always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::new()
            .chain_update(HASH_DOMAIN)
            .chain_update(json)
            .finalize()
            .into()
    }

    /// Within how many ms its holder has to prove anew who it is, once it is
    /// made: of a command that waits. Other requests come with their proof.
    pub fn proof_within_ms(&self) -> Option<u64> {
        self.runs.as_ref().and(self.obligations.step_up_ms)
    }

    /// `[from, until)` if the last approval comes at `now`. Certificates speak
    /// whole seconds, so the end is one.
    pub fn window(&self, now: WallMs) -> (WallMs, WallMs) {
        let from = self.begins_ms.map_or(now, |begins| begins.max(now));
        // A late approval of a window does not move its end.
        let start = self.begins_ms.unwrap_or(from);
        let until = start.saturating_add(self.for_ms);
        (from, until - until % 1000)
    }
}

/// Yes or no of somebody else, or the holder's own proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Approve,
    Deny,
    /// Who would run the command proved anew who it is. It counts as nobody's yes.
    Confirm,
}

/// One person's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Approval {
    pub by: String,
    /// Groups of who answers, for [`Obligations::approvers`].
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
    pub verdict: Verdict,
    /// Hash of the request that the approver saw.
    #[serde(with = "hex32")]
    pub request_sha256: [u8; 32],
    pub why: String,
    /// How the approver proved who it is, such as `ssh-key` or `socket`.
    pub method: String,
    pub at_ms: WallMs,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Waits for answers.
    Pending,
    /// Its window is fixed; a certificate may be collected in it.
    Approved,
    Denied,
    /// Nobody answered in time.
    Expired,
    /// Taken back by who made it.
    Withdrawn,
    /// Approved, then revoked.
    Revoked,
}

impl RequestState {
    /// As in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            RequestState::Pending => "pending",
            RequestState::Approved => "approved",
            RequestState::Denied => "denied",
            RequestState::Expired => "expired",
            RequestState::Withdrawn => "withdrawn",
            RequestState::Revoked => "revoked",
        }
    }
}

impl std::str::FromStr for RequestState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "pending" => RequestState::Pending,
            "approved" => RequestState::Approved,
            "denied" => RequestState::Denied,
            "expired" => RequestState::Expired,
            "withdrawn" => RequestState::Withdrawn,
            "revoked" => RequestState::Revoked,
            _ => return Err(format!("no request is `{text}`")),
        })
    }
}

/// A request with everything that happened to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RequestRow {
    pub request: AccessRequest,
    /// What policy looked at, for `policy backtest`.
    pub facts: Facts,
    pub state: RequestState,
    pub answers: Vec<Approval>,
    /// `[from, until)` once approved.
    pub window: Option<(WallMs, WallMs)>,
    /// The grant, once a certificate was collected.
    pub grant: Option<GrantId>,
    /// When it left `pending`.
    pub closed_ms: Option<WallMs>,
}

/// Why an answer does not count. Codes are stable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerRefused {
    #[error("the request is not pending any more")]
    NotPending,
    #[error("the request was not answered in time")]
    TooLate,
    #[error("who asked cannot answer")]
    OwnRequest,
    #[error("only who would run the command proves it")]
    NotTheHolder,
    #[error("no proof is asked for")]
    NoProofWanted,
    #[error("you have answered already")]
    Again,
    #[error("the request is not the one that you saw: look at it again")]
    OtherRequest,
    #[error("the window of the request is over")]
    WindowOver,
    #[error("the request has too many answers")]
    TooMany,
}

impl AnswerRefused {
    pub fn code(self) -> &'static str {
        match self {
            AnswerRefused::NotPending => "request_not_pending",
            AnswerRefused::TooLate => "request_expired",
            AnswerRefused::OwnRequest => "own_request",
            AnswerRefused::NotTheHolder => "not_the_holder",
            AnswerRefused::NoProofWanted => "no_proof_wanted",
            AnswerRefused::Again => "answered_already",
            AnswerRefused::OtherRequest => "request_changed",
            AnswerRefused::WindowOver => "window_over",
            AnswerRefused::TooMany => "too_many_answers",
        }
    }
}

/// What a request still waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// The yes of so many other people.
    pub people: u32,
    /// One of them of each of these groups.
    pub groups: BTreeSet<GroupName>,
    /// Its holder's own fresh proof.
    pub proof: bool,
}

impl Missing {
    /// At least so many others have to say yes.
    pub fn others(&self) -> u32 {
        self.people.max(u32::try_from(self.groups.len()).unwrap_or(u32::MAX))
    }
}

impl RequestRow {
    /// A new request; approved at once if its policies ask for nobody's yes.
    pub fn new(request: AccessRequest, facts: Facts) -> RequestRow {
        let mut row = RequestRow {
            request,
            facts,
            state: RequestState::Pending,
            answers: Vec::new(),
            window: None,
            grant: None,
            closed_ms: None,
        };
        if row.missing().is_none() {
            row.approve(row.request.made_ms);
        }
        row
    }

    fn approve(&mut self, now: WallMs) {
        self.state = RequestState::Approved;
        self.window = Some(self.request.window(now));
        self.closed_ms = Some(now);
    }

    /// How it stands at `now`: an unanswered one ends by itself.
    pub fn state_at(&self, now: WallMs) -> RequestState {
        match self.state {
            RequestState::Pending if now >= self.request.answer_by_ms => RequestState::Expired,
            RequestState::Pending
            | RequestState::Approved
            | RequestState::Denied
            | RequestState::Expired
            | RequestState::Withdrawn
            | RequestState::Revoked => self.state,
        }
    }

    /// Takes one answer. One `deny` ends it; the last `approve` or `confirm`
    /// that its obligations ask for fixes the window. That a proof is there and
    /// young enough is for the caller to have seen.
    ///
    /// # Errors
    /// Why the answer does not count; nothing changed then.
    pub fn answer(&mut self, answer: Approval) -> Result<(), AnswerRefused> {
        let now = answer.at_ms;
        match self.state_at(now) {
            RequestState::Pending => {}
            RequestState::Expired => return Err(AnswerRefused::TooLate),
            RequestState::Approved | RequestState::Denied | RequestState::Withdrawn | RequestState::Revoked => {
                return Err(AnswerRefused::NotPending);
            }
        }
        let holds = answer.by == self.request.identity.as_str();
        match answer.verdict {
            Verdict::Confirm if !holds => return Err(AnswerRefused::NotTheHolder),
            Verdict::Confirm if self.request.proof_within_ms().is_none() => return Err(AnswerRefused::NoProofWanted),
            Verdict::Approve | Verdict::Deny if holds || answer.by == self.request.requested_by => {
                return Err(AnswerRefused::OwnRequest);
            }
            Verdict::Approve | Verdict::Deny | Verdict::Confirm => {}
        }
        if answer.request_sha256 != self.request.sha256() {
            return Err(AnswerRefused::OtherRequest);
        }
        if self.answers.iter().any(|given| given.by == answer.by) {
            return Err(AnswerRefused::Again);
        }
        // Others cannot crowd its holder out.
        let full = self
            .answers
            .iter()
            .filter(|given| given.verdict != Verdict::Confirm)
            .count()
            >= ANSWERS_MAX;
        if full && answer.verdict != Verdict::Confirm {
            return Err(AnswerRefused::TooMany);
        }
        let (from, until) = self.request.window(now);
        match answer.verdict {
            Verdict::Approve | Verdict::Confirm if until <= from => return Err(AnswerRefused::WindowOver),
            Verdict::Approve | Verdict::Confirm => {
                self.answers.push(answer);
                if self.missing().is_none() {
                    self.approve(now);
                }
            }
            Verdict::Deny => {
                self.answers.push(answer);
                self.state = RequestState::Denied;
                self.closed_ms = Some(now);
            }
        }
        Ok(())
    }

    /// What it still waits for.
    pub fn missing(&self) -> Option<Missing> {
        let yes = || self.answers.iter().filter(|given| given.verdict == Verdict::Approve);
        let count = u32::try_from(yes().count()).unwrap_or(u32::MAX);
        let people = self.request.obligations.approvals.saturating_sub(count);
        let given: BTreeSet<&GroupName> = yes().flat_map(|given| &given.groups).collect();
        let wanted = self.request.obligations.approvers.iter();
        let groups: BTreeSet<GroupName> = wanted.filter(|group| !given.contains(group)).cloned().collect();
        let confirmed = self.answers.iter().any(|given| given.verdict == Verdict::Confirm);
        let proof = self.request.proof_within_ms().is_some() && !confirmed;
        (people > 0 || !groups.is_empty() || proof).then_some(Missing { people, groups, proof })
    }

    /// Takes it back.
    ///
    /// # Errors
    /// It is not pending.
    pub fn withdraw(&mut self, now: WallMs) -> Result<(), AnswerRefused> {
        if self.state_at(now) != RequestState::Pending {
            return Err(AnswerRefused::NotPending);
        }
        self.state = RequestState::Withdrawn;
        self.closed_ms = Some(now);
        Ok(())
    }

    /// `[from, until)` if a certificate may be collected at `now`: once it is
    /// approved, until its window is over. One that begins later may be
    /// collected before: the certificate is not good before either.
    pub fn collectable(&self, now: WallMs) -> Option<(WallMs, WallMs)> {
        match (self.state, self.window) {
            (RequestState::Approved, Some((from, until))) if now < until && self.request.connects.is_none() => {
                Some((from, until))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::inventory::IdentityKind;
    use crate::kernel::policy::facts::{Action, Who};

    const NOW: u64 = 1_800_000_000_000;

    fn row(obligations: Obligations) -> RequestRow {
        let who = Who {
            name: "alice".parse().unwrap(),
            kind: IdentityKind::Person,
            roles: BTreeSet::new(),
            groups: BTreeSet::new(),
            owner: None,
            purpose: None,
        };
        let request = AccessRequest {
            id: RequestId([1; 16]),
            identity: "alice".parse().unwrap(),
            requested_by: "sam".to_owned(),
            destination: "root@db1".parse().unwrap(),
            capabilities: Capabilities::new(),
            sources: Vec::new(),
            begins_ms: None,
            for_ms: 1_800_000,
            reason: "INC-42".to_owned(),
            ticket: None,
            public_key: None,
            single_use: false,
            extends: None,
            connects: None,
            runs: None,
            undecided: false,
            made_ms: NOW,
            answer_by_ms: NOW + 1000,
            policy_digest: [0; 32],
            obligations,
        };
        RequestRow::new(request, Facts::new(Action::Request, who, None, NOW))
    }

    fn yes(row: &RequestRow, by: &str, at_ms: u64) -> Approval {
        Approval {
            by: by.to_owned(),
            groups: BTreeSet::new(),
            verdict: Verdict::Approve,
            request_sha256: row.request.sha256(),
            why: String::new(),
            method: "ssh-key".to_owned(),
            at_ms,
        }
    }

    fn two() -> Obligations {
        Obligations {
            approvals: 2,
            ..Obligations::default()
        }
    }

    #[test]
    fn nobody_who_asked_answers_and_a_quorum_counts_people() {
        let mut row = row(two());
        for own in ["alice", "sam"] {
            assert_eq!(row.answer(yes(&row, own, NOW)), Err(AnswerRefused::OwnRequest));
        }
        row.answer(yes(&row, "bob", NOW)).unwrap();
        assert_eq!(row.answer(yes(&row, "bob", NOW)), Err(AnswerRefused::Again));
        assert_eq!((row.state, row.collectable(NOW)), (RequestState::Pending, None));
        row.answer(yes(&row, "carol", NOW + 7)).unwrap();
        let until = NOW + 1_800_000;
        assert_eq!(
            row.collectable(NOW + 7),
            Some((NOW + 7, until)),
            "ends at a full second"
        );
        assert_eq!(row.collectable(until), None, "half-open");
        assert_eq!(row.answer(yes(&row, "dan", NOW)), Err(AnswerRefused::NotPending));
    }

    #[test]
    fn an_answer_is_bound_to_what_was_seen_and_to_the_time() {
        let mut row = row(two());
        let seen = yes(&row, "bob", NOW);
        row.request.destination = "root@db2".parse().unwrap();
        assert_eq!(row.answer(seen), Err(AnswerRefused::OtherRequest));
        assert_eq!(row.answer(yes(&row, "bob", NOW + 1000)), Err(AnswerRefused::TooLate));
        assert_eq!(row.state_at(NOW + 1000), RequestState::Expired);
    }

    #[test]
    fn a_yes_to_a_connection_gives_no_certificate() {
        let mut row = row(two());
        row.request.connects = Some(GrantId([7; 16]));
        row.answer(yes(&row, "bob", NOW)).unwrap();
        row.answer(yes(&row, "carol", NOW)).unwrap();
        assert_eq!((row.state, row.collectable(NOW)), (RequestState::Approved, None));
    }

    fn proven(step_up_ms: Option<u64>, approvals: u32) -> RequestRow {
        let mut row = row(two());
        row.request.obligations = Obligations {
            approvals,
            step_up_ms,
            ..Obligations::default()
        };
        row.request.connects = Some(GrantId([7; 16]));
        row.request.runs = Some("true".to_owned());
        RequestRow::new(row.request, row.facts)
    }

    fn proof(row: &RequestRow, by: &str) -> Approval {
        Approval {
            verdict: Verdict::Confirm,
            ..yes(row, by, NOW)
        }
    }

    #[test]
    fn a_proof_is_the_holders_and_nobodys_yes() {
        let mut row = proven(Some(60_000), 1);
        let all = Missing {
            people: 1,
            proof: true,
            ..Missing::default()
        };
        assert_eq!((row.state, row.missing()), (RequestState::Pending, Some(all)));
        // Who asked for the grant proves nothing for its holder.
        for other in ["bob", "sam"] {
            assert_eq!(row.answer(proof(&row, other)), Err(AnswerRefused::NotTheHolder));
        }
        row.answer(proof(&row, "alice")).unwrap();
        assert_eq!(row.answer(proof(&row, "alice")), Err(AnswerRefused::Again));
        assert_eq!(row.answer(yes(&row, "alice", NOW)), Err(AnswerRefused::OwnRequest));
        assert_eq!(row.state, RequestState::Pending, "nobody else has said yes");
        row.answer(yes(&row, "bob", NOW)).unwrap();
        assert_eq!(row.state, RequestState::Approved);
    }

    #[test]
    fn others_cannot_stand_in_for_a_proof() {
        let mut row = proven(Some(60_000), 0);
        row.answer(yes(&row, "bob", NOW)).unwrap();
        assert_eq!(row.state, RequestState::Pending);
        row.answer(proof(&row, "alice")).unwrap();
        assert_eq!(row.state, RequestState::Approved);
    }

    #[test]
    fn others_do_not_crowd_a_proof_out() {
        let most = u32::try_from(ANSWERS_MAX).unwrap();
        let mut row = proven(Some(60_000), most);
        for number in 0..most {
            row.answer(yes(&row, &format!("other{number}"), NOW)).unwrap();
        }
        assert_eq!(row.answer(yes(&row, "one-more", NOW)), Err(AnswerRefused::TooMany));
        row.answer(proof(&row, "alice")).unwrap();
        assert_eq!(row.state, RequestState::Approved);
    }

    #[test]
    fn no_proof_is_taken_where_none_is_asked_for() {
        let mut row = proven(None, 1);
        assert_eq!(row.answer(proof(&row, "alice")), Err(AnswerRefused::NoProofWanted));
        // What is asked for beforehand came with its proof.
        let mut row = proven(Some(60_000), 1);
        row.request.runs = None;
        assert_eq!(row.answer(proof(&row, "alice")), Err(AnswerRefused::NoProofWanted));
        assert!(row.missing().is_some_and(|missing| !missing.proof));
    }

    #[test]
    fn one_no_ends_it() {
        let mut row = row(two());
        let no = Approval {
            verdict: Verdict::Deny,
            ..yes(&row, "bob", NOW)
        };
        row.answer(no).unwrap();
        assert_eq!(row.state, RequestState::Denied);
        assert_eq!(row.answer(yes(&row, "carol", NOW)), Err(AnswerRefused::NotPending));
    }

    #[test]
    fn each_group_that_is_asked_for_has_one() {
        let dba = || -> BTreeSet<GroupName> { ["dba".parse().unwrap()].into() };
        let mut row = row(Obligations {
            approvals: 1,
            approvers: dba(),
            ..Obligations::default()
        });
        row.answer(yes(&row, "bob", NOW)).unwrap();
        let groups = Missing {
            groups: dba(),
            ..Missing::default()
        };
        assert_eq!((groups.others(), row.missing()), (1, Some(groups)));
        let mut carol = yes(&row, "carol", NOW);
        carol.groups = dba();
        row.answer(carol).unwrap();
        assert_eq!(row.state, RequestState::Approved);
    }

    #[test]
    fn a_window_does_not_move_with_a_late_yes() {
        let mut row = row(two());
        row.request.begins_ms = Some(NOW + 500);
        assert_eq!(row.request.window(NOW), (NOW + 500, NOW + 1_800_000));
        assert_eq!(row.request.window(NOW + 900), (NOW + 900, NOW + 1_800_000));
    }
}
