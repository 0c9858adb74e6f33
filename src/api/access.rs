//! Requests for access: made, answered, taken back.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde_json::json;

use super::asking::Yes;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Asked, Body, Id, Json, page};
use super::wire::access::{AccessRequestNew, AnswerRequest, ChallengeFor, OneRequest, RequestView, Requests};
use super::{Api, rules};
use crate::kernel::access::{
    ANSWER_MS_DEFAULT, AccessRequest, AnswerRefused, Approval, BEGIN_MS_MAX, RequestRow, RequestState, Verdict,
};
use crate::kernel::grant::{Capability, WallMs, hex32};
use crate::kernel::id::{GrantId, IdentityName, RequestId};
use crate::kernel::inventory::{Identity, IdentityKind, Role, Target};
use crate::kernel::policy::facts::{Action, Facts, Who};
use crate::store::{Page, RequestFilter};

/// What a request gets when it does not say.
const ALLOW_DEFAULT: [Capability; 3] = [Capability::Shell, Capability::Exec, Capability::Sftp];
/// Requests of one identity that may be pending at once.
const PENDING_MAX: u32 = 20;

/// `GET /v1/requests`' query.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct RequestsQuery {
    #[serde(default)]
    state: Option<RequestState>,
    #[serde(default)]
    identity: Option<IdentityName>,
    #[serde(default)]
    mine: bool,
    #[serde(default)]
    after: Option<RequestId>,
    #[serde(default)]
    limit: Option<u32>,
}

impl Api {
    /// One request that the caller may see.
    pub(super) async fn seen(&self, caller: &Caller, prefix: &str) -> Result<RequestRow, Problem> {
        let missing = || Problem::new(Code::NotFound, format!("there is no request {prefix}"));
        let id = match prefix.parse() {
            Ok(id) => id,
            Err(_) => {
                let all = self.visible(caller, RequestFilter::default(), &Page::first()).await?;
                rules::by_prefix("request", prefix, all.iter().map(|row| row.request.id))?
            }
        };
        let row = self.store.request(id).await?.ok_or_else(missing)?;
        match caller.oversees() || is_party(caller, &row.request) {
            true => Ok(row),
            false => Err(missing()),
        }
    }

    /// Requests that the caller may see: all of them, or those that it is part of.
    async fn visible(&self, caller: &Caller, filter: RequestFilter, page: &Page) -> Result<Vec<RequestRow>, Problem> {
        if caller.oversees() {
            return Ok(self.store.requests(&filter, page).await?);
        }
        let asked = RequestFilter {
            requested_by: Some(caller.name().to_owned()),
            ..filter.clone()
        };
        let mut rows = self.store.requests(&asked, page).await?;
        if let Some(identity) = caller.identity() {
            let held = RequestFilter {
                identity: Some(identity.name.clone()),
                ..filter
            };
            rows.extend(self.store.requests(&held, page).await?);
        }
        rows.sort_by_key(|row| std::cmp::Reverse((row.request.made_ms, row.request.id)));
        rows.dedup_by_key(|row| row.request.id);
        rows.truncate(page.limit as usize);
        Ok(rows)
    }

    /// Nobody asks again for what still has to be looked back at.
    pub(super) async fn no_open_review(&self, identity: &IdentityName, target: &Target) -> Result<(), Problem> {
        let open = self.store.reviews(true).await?;
        let blocks = open.iter().find(|review| {
            review.identity == *identity && (review.kind == "break-glass" || review.destination.target == target.name)
        });
        match blocks {
            None => Ok(()),
            Some(review) => Err(Problem::new(
                Code::ReviewOpen,
                format!(
                    "the review of what {identity} did at {} is still open ({})",
                    review.destination, review.kind
                ),
            )
            .hint(format!(
                "somebody else closes it: portcullis review close {} --note TEXT",
                review.id
            ))),
        }
    }

    pub(super) async fn holder(&self, caller: &Caller, named: Option<&IdentityName>) -> Result<Identity, Problem> {
        let name = match named {
            Some(name) => name.clone(),
            None => caller.name().parse().map_err(|_| {
                Problem::invalid(format!("`{}` is no identity: name one with --identity", caller.name()))
            })?,
        };
        let own = name.as_str() == caller.name();
        let admin = caller.has(Role::Admin);
        if !own && !caller.has(Role::Sponsor) && !admin {
            return Err(Problem::denied(format!(
                "{} asks for nobody else: that takes the role sponsor",
                caller.name()
            )));
        }
        let identity = self.store.identity(&name).await?;
        let vendor = identity
            .as_ref()
            .is_some_and(|found| found.kind == IdentityKind::Vendor);
        if !own && !admin && !vendor {
            // Who could name anybody here would come in as anybody, with a key of its own.
            return Err(Problem::denied(format!(
                "a sponsor asks for vendors, and `{name}` is not known as one"
            )));
        }
        let identity = identity.ok_or_else(|| {
            Problem::new(Code::NotFound, format!("there is no identity `{name}`"))
                .hint(format!("an admin adds it: portcullis identity add {name}"))
        })?;
        identity
            .may_hold(self.clock.now().wall_ms)
            .map_err(|why| Problem::denied(why.to_string()))?;
        Ok(identity)
    }

    async fn extended(&self, new: &AccessRequestNew, identity: &IdentityName) -> Result<Option<GrantId>, Problem> {
        let Some(prefix) = &new.extends else { return Ok(None) };
        let own = self.store.grants_of(identity, 0).await?;
        let id = rules::by_prefix("grant", prefix, own.iter().map(|grant| grant.id))?;
        match own.iter().find(|grant| grant.id == id) {
            Some(grant) if grant.destination == new.destination => Ok(Some(id)),
            Some(_) | None => Err(Problem::invalid(format!("grant {id} is for another destination"))),
        }
    }
}

/// Whether the caller made the request or would hold its grant.
pub(super) fn is_party(caller: &Caller, request: &AccessRequest) -> bool {
    request.requested_by == caller.name() || request.identity.as_str() == caller.name()
}

/// What of a request can be wrong by itself; fills in what it left open.
fn checked(mut new: AccessRequestNew, now: WallMs, grant_ms_max: u64) -> Result<AccessRequestNew, Problem> {
    rules::reason(&new.reason)?;
    for (what, text) in [
        ("ticket", &new.ticket),
        ("device", &new.device),
        ("location", &new.location),
    ] {
        if let Some(text) = text {
            rules::words(what, text)?;
        }
    }
    rules::sources(&new.sources)?;
    if let Some(key) = &new.public_key {
        rules::public_key(key)?;
    }
    if new.allow.is_empty() {
        new.allow = ALLOW_DEFAULT.to_vec();
    }
    let for_ms = new.for_secs.saturating_mul(1000);
    if for_ms == 0 || for_ms > grant_ms_max {
        return Err(Problem::denied(format!(
            "a grant lasts from 1 s to {} min here, not {} s",
            grant_ms_max / 60_000,
            new.for_secs
        ))
        .hint("ask for less with --for"));
    }
    if let Some(begins) = new.begins_ms {
        if begins < now {
            return Err(Problem::invalid("it would begin in the past"));
        }
        if begins > now.saturating_add(BEGIN_MS_MAX) {
            return Err(Problem::invalid("it would begin more than 30 days from now"));
        }
    }
    Ok(new)
}

/// `POST /v1/requests`.
pub async fn make(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<AccessRequestNew>,
) -> Result<Json<OneRequest>, Problem> {
    let now = api.clock.now().wall_ms;
    let new = checked(new, now, api.grant_ms_max)?;
    let identity = api.holder(&caller, new.identity.as_ref()).await?;
    let target = api.target_for(&caller, &new.destination).await?;
    if !target.logins.contains(&new.destination.login) {
        return Err(Problem::denied(format!(
            "no rule lets {} ask for {}",
            caller.name(),
            new.destination
        )));
    }
    api.no_open_review(&identity.name, &target).await?;
    let extends = api.extended(&new, &identity.name).await?;
    let pending = RequestFilter {
        state: Some(RequestState::Pending),
        identity: Some(identity.name.clone()),
        requested_by: None,
    };
    let page = Page {
        after: None,
        limit: PENDING_MAX,
    };
    let waiting = api.store.requests(&pending, &page).await?;
    let waiting = waiting.iter().filter(|row| row.state_at(now) == RequestState::Pending);
    if waiting.count() >= PENDING_MAX as usize {
        return Err(Problem::denied(format!(
            "{PENDING_MAX} requests of {} wait for an answer already",
            identity.name
        ))
        .hint("withdraw one: portcullis withdraw ID"));
    }

    let facts = api
        .facts_of(&caller, Action::Request, Who::from(&identity), Some(&target))
        .await?;
    let yes = api.ask(asked_for(facts, &new, &caller, now)).await?;
    let obligations = yes.obligations();
    if obligations
        .max_ms
        .is_some_and(|max| new.for_secs.saturating_mul(1000) > max)
    {
        let most = obligations.max_ms.unwrap_or_default() / 60_000;
        let mut problem = Problem::denied(format!("rule {} gives at most {most} min", yes.rules().join(", ")))
            .hint(format!("ask for less: --for {most}m"));
        problem.rules = yes.rules().to_vec().into();
        return Err(problem);
    }
    // Who asks proves itself, a sponsor for the vendor too.
    let prover = caller.identity().unwrap_or(&identity);
    let purpose = ChallengeFor::Request(hex32::encode(&new.sha256()));
    api.step_up(&yes, prover, &purpose, new.proof.as_ref()).await?;

    let row = RequestRow::new(
        request_of(&new, &identity, &caller, extends, &yes, now),
        yes.facts().clone(),
    );
    let view = RequestView::at(&row, now);
    api.note("request", &view).await?;
    api.store.add_request(&row).await?;
    tracing::info!(request = %view.id, identity = %view.identity, destination = %view.destination,
        by = view.requested_by, state = view.state.as_str(), "access requested");
    api.tell(&row, now);
    Ok(Json(OneRequest::new(view)))
}

/// The facts of a request, from what was asked for.
fn asked_for(facts: Facts, new: &AccessRequestNew, caller: &Caller, now: WallMs) -> Facts {
    Facts {
        login: new.destination.login.to_string(),
        reason: new.reason.clone(),
        ticket: new.ticket.clone(),
        device: new.device.clone(),
        location: new.location.clone(),
        capabilities: new.allow.iter().copied().collect(),
        for_ms: new.for_secs.saturating_mul(1000),
        begins_in_ms: new.begins_ms.map_or(0, |begins| begins.saturating_sub(now)),
        single_use: new.single_use,
        requested_by: Some(caller.name().to_owned()),
        ..facts
    }
}

fn request_of(
    new: &AccessRequestNew,
    identity: &Identity,
    caller: &Caller,
    extends: Option<GrantId>,
    yes: &Yes,
    now: WallMs,
) -> AccessRequest {
    let obligations = yes.obligations().clone();
    let answer_ms = obligations.answer_ms.unwrap_or(ANSWER_MS_DEFAULT);
    AccessRequest {
        id: RequestId(rand::random()),
        identity: identity.name.clone(),
        requested_by: caller.name().to_owned(),
        destination: new.destination.clone(),
        capabilities: new.allow.iter().copied().collect(),
        sources: new.sources.clone(),
        begins_ms: new.begins_ms,
        for_ms: new.for_secs.saturating_mul(1000),
        reason: new.reason.clone(),
        ticket: new.ticket.clone(),
        public_key: new.public_key.clone(),
        single_use: new.single_use || obligations.single_use,
        extends,
        connects: None,
        runs: None,
        undecided: false,
        made_ms: now,
        answer_by_ms: now.saturating_add(answer_ms),
        policy_digest: yes.policy_digest(),
        obligations,
    }
}

/// `GET /v1/requests`.
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<RequestsQuery>,
) -> Result<Json<Requests>, Problem> {
    let page = page(query.after.map(|id| id.to_string()), query.limit)?;
    let filter = RequestFilter {
        state: query.state,
        identity: query.identity,
        requested_by: query.mine.then(|| caller.name().to_owned()),
    };
    let now = api.clock.now().wall_ms;
    let rows = api.visible(&caller, filter, &page).await?;
    let next = match rows.len() >= page.limit as usize {
        true => rows.last().map(|row| row.request.id.to_string()),
        false => None,
    };
    let views = rows.iter().map(|row| RequestView::at(row, now)).collect();
    Ok(Json(Requests::new(views, next)))
}

/// `GET /v1/requests/{id}`.
pub async fn one(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<OneRequest>, Problem> {
    let row = api.seen(&caller, &id).await?;
    Ok(Json(OneRequest::new(RequestView::at(&row, api.clock.now().wall_ms))))
}

/// `POST /v1/requests/{id}/approve`.
pub async fn approve(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(given): Body<AnswerRequest>,
) -> Result<Json<OneRequest>, Problem> {
    api.answer(&caller, &id, given, Verdict::Approve).await.map(Json)
}

/// `POST /v1/requests/{id}/deny`.
pub async fn deny(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(given): Body<AnswerRequest>,
) -> Result<Json<OneRequest>, Problem> {
    rules::reason(&given.reason)?;
    api.answer(&caller, &id, given, Verdict::Deny).await.map(Json)
}

impl Api {
    /// Takes an answer: policy says who may answer what, the request's own
    /// rules whether it counts.
    pub(super) async fn answer(
        &self,
        caller: &Caller,
        id: &str,
        given: AnswerRequest,
        verdict: Verdict,
    ) -> Result<OneRequest, Problem> {
        if !given.reason.is_empty() {
            rules::reason(&given.reason)?;
        }
        let request_sha256 = hex32::decode(&given.request_sha256)
            .ok_or_else(|| Problem::invalid("request_sha256 is not 64 hexadecimal digits"))?;
        let row = self.seen(caller, id).await?;
        let request = &row.request;
        let target = self.store.target(&request.destination.target).await?;
        let facts = Facts {
            login: request.destination.login.to_string(),
            reason: request.reason.clone(),
            ticket: request.ticket.clone(),
            capabilities: request.capabilities.clone(),
            for_ms: request.for_ms,
            single_use: request.single_use,
            requested_by: Some(request.requested_by.clone()),
            holder: Some(request.identity.to_string()),
            ..self.facts(caller, Action::Approve, target.as_ref()).await?
        };
        let yes = self.ask(facts).await?;
        if let Some(identity) = caller.identity() {
            let purpose = ChallengeFor::Answer(request.id);
            self.step_up(&yes, identity, &purpose, given.proof.as_ref()).await?;
        }
        let approval = Approval {
            by: caller.name().to_owned(),
            groups: caller
                .identity()
                .map(|identity| identity.groups.clone())
                .unwrap_or_default(),
            verdict,
            request_sha256,
            why: given.reason,
            method: caller.proof().method.clone(),
            at_ms: self.clock.now().wall_ms,
        };
        self.take(&row, approval, yes.rules()).await
    }

    /// The same for the proof of who would run a command. Nobody is asked
    /// whether it may: policy is, once more, before the command goes on.
    async fn confirmed(&self, caller: &Caller, id: &str, given: AnswerRequest) -> Result<OneRequest, Problem> {
        if !given.reason.is_empty() {
            rules::reason(&given.reason)?;
        }
        let request_sha256 = hex32::decode(&given.request_sha256)
            .ok_or_else(|| Problem::invalid("request_sha256 is not 64 hexadecimal digits"))?;
        let row = self.seen(caller, id).await?;
        let request = &row.request;
        let holder = caller.identity().filter(|identity| identity.name == request.identity);
        let holder = holder.ok_or_else(|| crate::store::StoreError::from(AnswerRefused::NotTheHolder))?;
        let within_ms = request.proof_within_ms();
        let within_ms = within_ms.ok_or_else(|| crate::store::StoreError::from(AnswerRefused::NoProofWanted))?;
        let purpose = ChallengeFor::Confirm(request.id);
        let signed = given.proof.as_ref();
        let proof = self
            .proven("this command", within_ms, (holder, &purpose, signed))
            .await?;
        let proof = Approval {
            by: holder.name.to_string(),
            groups: BTreeSet::new(),
            verdict: Verdict::Confirm,
            request_sha256,
            why: given.reason,
            method: proof.method,
            at_ms: self.clock.now().wall_ms,
        };
        self.take(&row, proof, &[]).await
    }

    /// Keeps an answer: in the ledger, then in the store.
    async fn take(&self, row: &RequestRow, approval: Approval, rules: &[String]) -> Result<OneRequest, Problem> {
        let (request, now) = (&row.request, approval.at_ms);
        // Tried first, so that the ledger has no answer that never counted;
        // the store decides again, in its transaction.
        let mut tried = row.clone();
        tried.answer(approval.clone()).map_err(crate::store::StoreError::from)?;
        self.note(
            "answer",
            &json!({ "request": request.id, "answer": approval, "rules": rules }),
        )
        .await?;
        let row = self.store.answer_request(request.id, &approval).await?;
        tracing::info!(request = %row.request.id, by = approval.by, verdict = ?approval.verdict, state = row.state.as_str(), "request answered");
        self.tell(&row, now);
        Ok(OneRequest::new(RequestView::at(&row, now)))
    }
}

/// `POST /v1/requests/{id}/confirm`.
pub async fn confirm(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(given): Body<AnswerRequest>,
) -> Result<Json<OneRequest>, Problem> {
    api.confirmed(&caller, &id, given).await.map(Json)
}

/// `POST /v1/requests/{id}/withdraw`.
pub async fn withdraw(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<OneRequest>, Problem> {
    let row = api.seen(&caller, &id).await?;
    if !is_party(&caller, &row.request) && !caller.has(Role::Admin) {
        return Err(Problem::denied(
            "only who asked, who would hold it, or an admin takes a request back",
        ));
    }
    let now = api.clock.now().wall_ms;
    api.note("withdraw", &json!({ "request": row.request.id, "by": caller.name() }))
        .await?;
    let row = api.store.withdraw_request(row.request.id, now).await?;
    Ok(Json(OneRequest::new(RequestView::at(&row, now))))
}

impl Api {
    /// Tells whoever was configured what became of a request.
    pub(super) fn tell(&self, row: &RequestRow, now: WallMs) {
        let view = RequestView::at(row, now);
        let confirm = view.unconfirmed.then(|| format!("portcullis confirm {}", view.id));
        let data = json!({
            "link": self.url.as_ref().map(|url| format!("{url}/v1/requests/{}", view.id)),
            "approve": format!("portcullis approve {}", view.id),
            "confirm": confirm,
            "request": view,
        });
        self.teller.tell(&format!("request.{}", view.state.as_str()), &data);
    }
}
