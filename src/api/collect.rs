//! What becomes of an approved request: a certificate under a grant.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use sha2::{Digest, Sha256};

use super::access::is_party;
use super::asking::Yes;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Body, Id, Json};
use super::wire::access::{ChallengeFor, CollectRequest};
use super::wire::{GrantView, Issued};
use super::{Api, rules};
use crate::keeper::AdmissionCertificate;
use crate::kernel::access::{Missing, RequestRow, RequestState, Verdict};
use crate::kernel::grant::{Capability, Grant, WallMs};
use crate::kernel::id::GrantId;
use crate::kernel::policy::facts::{Action, Facts, Who};

/// `POST /v1/requests/{id}/collect`: the certificate of an approved request.
pub async fn collect(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(given): Body<CollectRequest>,
) -> Result<Json<Issued>, Problem> {
    let row = api.seen(&caller, &id).await?;
    let request = &row.request;
    let now = api.clock.now().wall_ms;
    let key = match (&request.public_key, &given.public_key) {
        // The key was part of what was approved: whoever is party to it may
        // fetch what is good for that key alone.
        (Some(fixed), None) if is_party(&caller, request) => fixed,
        (Some(fixed), Some(same)) if is_party(&caller, request) && fixed.trim() == same.trim() => fixed,
        (None, Some(fresh)) if request.identity.as_str() == caller.name() => fresh,
        (Some(_), Some(_)) => return Err(Problem::denied("the request was approved for another key")),
        (None, None) => return Err(Problem::invalid("no key was named").hint("send public_key")),
        (_, _) => {
            return Err(Problem::denied(format!(
                "only {} collects this certificate",
                request.identity
            )));
        }
    };
    let public_key = rules::public_key(key)?;
    let Some((from, until)) = row.collectable(now) else {
        return Err(not_collectable(&row, now));
    };
    let identity = api.holder(&caller, Some(&request.identity)).await?;
    let target = api.target_for(&caller, &request.destination).await?;
    api.no_open_review(&identity.name, &target).await?;
    // Asked again with what is true now: an approval is no way around a rule
    // that came after it.
    let facts = api
        .facts_of(&caller, Action::Request, Who::from(&identity), Some(&target))
        .await?;
    let facts = Facts {
        login: request.destination.login.to_string(),
        reason: request.reason.clone(),
        ticket: request.ticket.clone(),
        device: row.facts.device.clone(),
        location: row.facts.location.clone(),
        capabilities: request.capabilities.clone(),
        for_ms: request.for_ms,
        begins_in_ms: from.saturating_sub(now),
        single_use: request.single_use,
        requested_by: Some(request.requested_by.clone()),
        ..facts
    };
    // Two actions, two rules: one may still ask, and yet get nothing now.
    let asked = api.ask(facts.clone()).await?;
    let issued = api
        .ask(Facts {
            action: Action::Issue,
            ..facts
        })
        .await?;
    let yes = asked.and(issued);
    let again = row.request.obligations.meet(yes.obligations());
    if again.max_ms.is_some_and(|max| request.for_ms > max) {
        return Err(Problem::denied(format!(
            "the policies changed since it was approved: at most {} min now",
            again.max_ms.unwrap_or_default() / 60_000
        ))
        .hint("ask again, for less"));
    }
    if let Some(Missing { people, groups, .. }) = missing_under(&row, &again) {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        return Err(Problem::denied(format!(
            "the policies changed since it was approved: {people} more must say yes{}",
            if groups.is_empty() {
                String::new()
            } else {
                format!(" (of {})", groups.join(", "))
            }
        ))
        .hint("ask again"));
    }
    // Who collects proves itself, a sponsor for the vendor too.
    let prover = caller.identity().unwrap_or(&identity);
    let purpose = ChallengeFor::Collect(request.id);
    api.step_up(&yes, prover, &purpose, given.proof.as_ref()).await?;
    // A rule that came later may give less, never more.
    let until = match again.max_ms {
        Some(max) => until.min(seconds(from.saturating_add(max))),
        None => until,
    };
    if until <= from {
        return Err(Problem::denied("what the policies give now is over already").hint("ask again"));
    }
    let issued = api.certify(&row, public_key, (from, until), &yes, now).await?;
    Ok(Json(issued))
}

/// Certificates speak whole seconds.
fn seconds(ms: WallMs) -> WallMs {
    ms - ms % 1000
}

/// Whose yes is missing if these were the obligations.
fn missing_under(row: &RequestRow, obligations: &crate::kernel::policy::obligations::Obligations) -> Option<Missing> {
    let mut row = row.clone();
    row.request.obligations = obligations.clone();
    row.missing()
}

fn not_collectable(row: &RequestRow, now: WallMs) -> Problem {
    let state = row.state_at(now);
    match state {
        RequestState::Approved => Problem::denied("the window of the request is over").hint("ask again"),
        RequestState::Pending => Problem::new(Code::Conflict, "the request is still pending"),
        RequestState::Denied | RequestState::Expired | RequestState::Withdrawn | RequestState::Revoked => {
            Problem::denied(format!("the request is {}", state.as_str())).hint("ask again")
        }
    }
}

impl Api {
    /// Certifies a key under an approved request: entry, row, answer.
    async fn certify(
        &self,
        row: &RequestRow,
        public_key: russh::keys::ssh_key::PublicKey,
        (from_ms, until_ms): (WallMs, WallMs),
        yes: &Yes,
        now: WallMs,
    ) -> Result<Issued, Problem> {
        let request = &row.request;
        let id = row.grant.unwrap_or_else(|| GrantId(rand::random()));
        let serial = self.store.next_serial().await?;
        let allow: Vec<Capability> = request.capabilities.iter().copied().collect();
        let certificate = self
            .keeper
            .issue_admission(AdmissionCertificate {
                public_key,
                serial,
                key_id: format!("{} grant={id} request={}", request.identity, request.id),
                principal: request.destination.to_string(),
                valid_after_ms: from_ms.saturating_sub(rules::BACKDATE_MS),
                valid_before_ms: until_ms,
                source_address: super::grants::source_address(&request.sources),
                extensions: rules::extensions(&allow),
            })
            .await?;
        let broken = |error: russh::keys::ssh_key::Error| Problem::new(Code::Broken, error.to_string());
        let blob = certificate.to_bytes().map_err(broken)?;
        let line = certificate.to_openssh().map_err(broken)?;
        let approvers: Vec<&str> = row
            .answers
            .iter()
            .filter(|given| given.verdict == Verdict::Approve)
            .map(|given| given.by.as_str())
            .collect();
        let grant = Grant {
            id,
            identity: request.identity.clone(),
            destination: request.destination.clone(),
            from_ms,
            until_ms,
            sources: request.sources.clone(),
            capabilities: request.capabilities.clone(),
            reason: request.reason.clone(),
            issued_by: match approvers.is_empty() {
                true => format!("rule {}", yes.rules().join(", ")),
                false => approvers.join(", "),
            },
            policy_digest: yes.policy_digest(),
            certificate_sha256: Sha256::digest(&blob).into(),
            certificate_serial: serial,
            single_use: request.single_use || yes.obligations().single_use,
            used_at_ms: None,
            revoked_at_ms: None,
            revoked_why: None,
            ticket: request.ticket.clone(),
            request: Some(request.id),
        };
        self.note_grant(&grant, &line, now).await?;
        let grant = self.store.collect(request.id, &grant, now).await?;
        self.metrics.certificates_issued.inc();
        tracing::info!(grant = %grant.id, identity = %grant.identity, destination = %grant.destination,
            request = %request.id, serial, "certificate issued");
        Ok(Issued::new(GrantView::at(&grant, now), line))
    }
}
