//! Approval while somebody waits: a rule over `connect` wants another's yes to
//! this one connection, or one over `exec` or `command` to this one command, or
//! its user's own fresh proof.
//!
//! The request is the connection's own: only the one that made it goes in, or
//! runs its command, by its answer, and one that leaves takes it back.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Gate;
use super::consider::Considered;
use super::opening::{NotOpened, bounded};
use crate::kernel::access::{AccessRequest, Approval, Missing, RequestRow, RequestState, Verdict};
use crate::kernel::admit::Admitted;
use crate::kernel::grant::{NotLive, WallMs};
use crate::kernel::id::{GroupName, RequestId};
use crate::kernel::policy::engine::Policies;
use crate::kernel::policy::facts::Facts;
use crate::kernel::policy::obligations::Obligations;
use crate::store::{Page, RequestFilter};

/// How long connections and commands wait for their answer at most, in ms.
pub const WAIT_MS_MAX: u64 = 10 * 60 * 1000;
/// How often the store is asked for the answer.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// Connections and commands of one identity that may wait at once, or have asked within
/// [`ASKED_WITHIN_MS`].
const ASKED_MAX: usize = 8;
/// Answered or not, a request counts for this long, in ms.
const ASKED_WITHIN_MS: u64 = 60 * 1000;
/// Certificates whose client was seen not to take words, remembered at most.
const WORDLESS_MAX: usize = 1024;
/// Longest command that somebody is asked about, in bytes: a person reads it, and the ledger takes it.
const RUNS_BYTES_MAX: usize = 16 * 1024;
/// How long that is remembered, in ms.
const WORDLESS_MS: u64 = 60 * 60 * 1000;

/// Somebody's yes to one connection, or to one command. Only a [`Waiting`] one gets it.
pub struct Approved {
    request: RequestId,
    by: Vec<String>,
    /// How the user of a command proved who it is.
    proof: Option<String>,
    approvals: u32,
    approvers: BTreeSet<GroupName>,
    step_up_ms: Option<u64>,
}

impl Approved {
    /// Whether it is the yes that is asked for: rules may have become
    /// stricter meanwhile.
    pub fn covers(&self, wanted: &Obligations) -> bool {
        let proven = |within_ms| self.step_up_ms.is_some_and(|given| given <= within_ms);
        self.approvals >= wanted.approvals
            && wanted.approvers.is_subset(&self.approvers)
            && wanted.step_up_ms.is_none_or(proven)
    }

    /// For the recording; `what` it is a yes to.
    pub fn sentence(&self, what: &str) -> String {
        let approved = (!self.by.is_empty()).then(|| format!("approved by {}", self.by.join(", ")));
        let proven = self.proof.as_ref().map(|how| format!("confirmed by its user ({how})"));
        let words: Vec<String> = approved.into_iter().chain(proven).collect();
        format!("{what} {} (request {})", words.join(" and "), self.request)
    }
}

/// What somebody's yes is asked for.
pub struct Wanted<'a> {
    pub facts: &'a Facts,
    /// Who asked for the grant, if somebody did.
    pub sponsor: Option<&'a str>,
    pub policies: &'a Policies,
    pub obligations: &'a Obligations,
    /// One command of a session; none: a connection.
    pub command: Option<Asked>,
}

/// The command that somebody is asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    pub text: String,
    /// It could not be read for certain.
    pub undecided: bool,
}

impl<'a> From<&'a Considered> for Wanted<'a> {
    fn from(considered: &'a Considered) -> Wanted<'a> {
        Wanted {
            facts: considered.facts(),
            sponsor: considered.sponsor(),
            policies: &considered.policies,
            obligations: considered.permit.obligations(),
            command: None,
        }
    }
}

/// A connection, or a command, that waits for its answer.
pub struct Waiting {
    gate: Arc<Gate>,
    request: AccessRequest,
    missing: Missing,
    settled: AtomicBool,
}

fn refused(code: &'static str, sentence: impl Into<String>) -> NotOpened {
    NotOpened {
        code,
        sentence: sentence.into(),
    }
}

impl Waiting {
    /// Asks for the yes.
    ///
    /// # Errors
    /// Why it cannot be asked for.
    pub async fn ask(gate: &Arc<Gate>, admitted: &Admitted, wanted: Wanted<'_>) -> Result<Waiting, NotOpened> {
        let away = |error: crate::store::StoreError| refused("store_unavailable", error.to_string());
        let now = gate.clock.now().wall_ms;
        let filter = RequestFilter {
            state: None,
            identity: Some(admitted.identity().clone()),
            requested_by: None,
        };
        let page = Page::first();
        // Newest first.
        let asked = bounded(gate.store.requests(&filter, &page)).await.map_err(away)?;
        let counts = |row: &&RequestRow| {
            let fresh = now.saturating_sub(row.request.made_ms) < ASKED_WITHIN_MS;
            row.request.connects.is_some() && (fresh || row.state_at(now) == RequestState::Pending)
        };
        if asked.iter().filter(counts).count() >= ASKED_MAX {
            return Err(refused(
                "approval_too_many",
                format!("{ASKED_MAX} requests of yours wait for an approval, or asked for one this minute: try later"),
            ));
        }
        let command = wanted.command.as_ref();
        if command.is_some_and(|command| command.text.len() > RUNS_BYTES_MAX) {
            return Err(refused(
                "approval_too_long",
                format!("nobody is asked about a command of more than {RUNS_BYTES_MAX} bytes: put it into a script"),
            ));
        }
        if command.is_some_and(|command| command.text.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(refused(
                "approval_not_text",
                "nobody is asked about a command that is not UTF-8, as it cannot be shown as it is: put it into a script",
            ));
        }
        let obligations = wanted.obligations.clone();
        let source = wanted.facts.source.and_then(|peer| peer.to_string().parse().ok());
        let wait_ms = obligations.answer_ms.unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        let request = AccessRequest {
            id: RequestId(crate::entropy::id()),
            identity: admitted.identity().clone(),
            // Who asked for the grant does not answer either.
            requested_by: wanted.sponsor.unwrap_or(admitted.identity().as_str()).to_owned(),
            destination: admitted.destination().clone(),
            capabilities: admitted.capabilities().clone(),
            // Where it comes from is part of what is answered.
            sources: source.into_iter().collect(),
            begins_ms: None,
            for_ms: admitted.until_ms().saturating_sub(now),
            reason: admitted.reason().to_owned(),
            ticket: admitted.ticket().map(str::to_owned),
            public_key: None,
            single_use: true,
            extends: None,
            connects: Some(admitted.grant()),
            undecided: command.is_some_and(|command| command.undecided),
            runs: wanted.command.map(|command| command.text),
            made_ms: now,
            answer_by_ms: now.saturating_add(wait_ms).min(admitted.until_ms()),
            policy_digest: wanted.policies.digest(),
            obligations,
        };
        let row = RequestRow::new(request, wanted.facts.clone());
        let told = serde_json::to_value(&row.request).unwrap_or_default();
        let noted = gate.ledger.append_event("request", told.clone()).await;
        noted.map_err(|error| refused("ledger_unavailable", format!("the ledger does not answer: {error}")))?;
        // Before it is there: who leaves meanwhile takes it back.
        let waiting = Waiting {
            gate: gate.clone(),
            missing: row.missing().unwrap_or_default(),
            request: row.request.clone(),
            settled: AtomicBool::new(false),
        };
        bounded(gate.store.add_request(&row)).await.map_err(away)?;
        let id = row.request.id;
        tracing::info!(request = %id, identity = %admitted.identity(), destination = %admitted.destination(),
            "somebody waits for approval");
        let confirm = waiting.missing.proof.then(|| format!("portcullis confirm {id}"));
        let approve = others(&waiting.missing).map(|_| format!("portcullis approve {id}"));
        let data = serde_json::json!({ "approve": approve, "confirm": confirm, "request": told });
        gate.teller.tell("request.pending", &data);
        Ok(waiting)
    }

    /// What the user is told meanwhile.
    pub fn sentence(&self) -> String {
        let minutes = self
            .request
            .answer_by_ms
            .saturating_sub(self.request.made_ms)
            .div_ceil(60_000);
        let id = self.request.id;
        match (others(&self.missing), self.missing.proof) {
            (Some(others), false) => {
                format!("waiting for approval by {others}, at most {minutes} min; they say: portcullis approve {id}")
            }
            (Some(others), true) => format!(
                "waiting for approval by {others} and for a fresh proof of yours, at most {minutes} min; \
                 they say: portcullis approve {id}; you say elsewhere: portcullis confirm {id}"
            ),
            (None, _) => format!(
                "waiting for a fresh proof of yours, at most {minutes} min; say elsewhere: portcullis confirm {id}"
            ),
        }
    }

    /// The answer, if there is one within a moment.
    pub async fn look(&self) -> Option<Result<Approved, NotOpened>> {
        tokio::time::sleep(LOOK_EACH).await;
        let now = self.gate.clock.now().wall_ms;
        let row = match bounded(self.gate.store.request(self.request.id)).await {
            Ok(Some(row)) => row,
            Ok(None) => {
                return Some(Err(refused(
                    "request_unknown",
                    "the request is not in the store any more",
                )));
            }
            // It is asked again; whether it lasts is for the lease to say.
            Err(_) if self.gate.registry.store_alive() => return None,
            Err(error) => return Some(Err(refused("store_unavailable", error.to_string()))),
        };
        let proof = said(&row, Verdict::Confirm, |given| given.method.clone()).next();
        let answer = match row.state_at(now) {
            // Dropped, it takes its request back.
            RequestState::Pending => return self.over(now).await.map(Err),
            RequestState::Approved => Ok(Approved {
                request: row.request.id,
                by: said(&row, Verdict::Approve, |given| given.by.clone()).collect(),
                step_up_ms: proof.as_ref().and(row.request.proof_within_ms()),
                proof,
                approvals: row.request.obligations.approvals,
                approvers: row.request.obligations.approvers.clone(),
            }),
            RequestState::Denied => Err(denied(&row)),
            RequestState::Expired => Err(expired(&row)),
            RequestState::Withdrawn => Err(refused("approval_withdrawn", "the request for approval was withdrawn")),
            RequestState::Revoked => Err(refused("revoked", "the approval was revoked")),
        };
        self.settled.store(true, Ordering::SeqCst);
        Some(answer)
    }

    /// Why nobody's yes would help any more.
    async fn over(&self, now: WallMs) -> Option<NotOpened> {
        let grant = bounded(self.gate.store.grant(self.request.connects?)).await.ok()??;
        let why = match grant.live(now).err()? {
            NotLive::NotYet => return None,
            NotLive::Expired => "the grant has ended",
            NotLive::Revoked => "the grant was revoked",
            // By the connection that the command waits on.
            NotLive::Used if self.request.runs.is_some() => return None,
            NotLive::Used => "the grant was for one connection and has been used",
        };
        Some(refused("grant_not_live", why))
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// Nobody said yes.
    pub async fn wait(self) -> Result<Approved, NotOpened> {
        loop {
            if let Some(answer) = self.look().await {
                return answer;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Who left does not want an answer any more.
        if self.settled.swap(true, Ordering::SeqCst) {
            return;
        }
        let (gate, id) = (self.gate.clone(), self.request.id);
        tokio::spawn(async move {
            let now = gate.clock.now().wall_ms;
            if let Err(error) = bounded(gate.store.withdraw_request(id, now)).await {
                tracing::debug!(request = %id, %error, "not withdrawn; it ends by itself");
            }
        });
    }
}

/// Something of each answer that said so.
fn said<'a, T>(
    row: &'a RequestRow,
    what: Verdict,
    of: impl Fn(&'a Approval) -> T + 'a,
) -> impl Iterator<Item = T> + 'a {
    row.answers.iter().filter(move |given| given.verdict == what).map(of)
}

/// Whose yes is missing, if anybody's.
fn others(missing: &Missing) -> Option<String> {
    let groups: Vec<&str> = missing.groups.iter().map(GroupName::as_str).collect();
    Some(match (missing.people, groups.is_empty()) {
        (0, true) => return None,
        (1, true) => "somebody else".to_owned(),
        (people, true) => format!("{people} other people"),
        (0 | 1, false) => format!("somebody of {}", groups.join(" and ")),
        (people, false) => format!("{people} other people, among them {}", groups.join(" and ")),
    })
}

fn expired(row: &RequestRow) -> NotOpened {
    match row.missing().as_ref().and_then(others) {
        Some(_) => refused("approval_expired", "nobody approved it in time"),
        None => refused("proof_expired", "you did not confirm it in time"),
    }
}

fn denied(row: &RequestRow) -> NotOpened {
    let said = row
        .answers
        .last()
        .map_or_else(String::new, |given| format!(" by {}: {}", given.by, given.why));
    refused("approval_denied", format!("it was denied{said}"))
}

/// Certificates whose clients were offered words and took none (OpenSSH's
/// `BatchMode`): the next time they wait at the opening of a channel.
#[derive(Default)]
pub struct Wordless(Mutex<HashMap<[u8; 32], WallMs>>);

impl Wordless {
    /// Remembers one.
    pub fn remember(&self, certificate_sha256: [u8; 32], now: WallMs) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= WORDLESS_MAX {
            held.retain(|_, until| now < *until);
        }
        if held.len() < WORDLESS_MAX {
            held.insert(certificate_sha256, now.saturating_add(WORDLESS_MS));
        }
    }

    /// Whether it is remembered.
    pub fn knows(&self, certificate_sha256: [u8; 32], now: WallMs) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&certificate_sha256).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_words_is_remembered_for_an_hour() {
        let wordless = Wordless::default();
        wordless.remember([1; 32], 0);
        assert!(wordless.knows([1; 32], WORDLESS_MS - 1));
        assert!(!wordless.knows([1; 32], WORDLESS_MS));
        assert!(!wordless.knows([2; 32], 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_old_makes_room() {
        let wordless = Wordless::default();
        let name = |n: usize| {
            let mut sha256 = [0; 32];
            sha256[..8].copy_from_slice(&n.to_be_bytes());
            sha256
        };
        (0..WORDLESS_MAX).for_each(|n| wordless.remember(name(n), 0));
        wordless.remember(name(WORDLESS_MAX), 1);
        assert!(!wordless.knows(name(WORDLESS_MAX), 1));
        wordless.remember(name(WORDLESS_MAX), WORDLESS_MS);
        assert!(wordless.knows(name(WORDLESS_MAX), WORDLESS_MS));
    }
}
