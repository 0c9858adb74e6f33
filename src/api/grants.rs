//! Grants issued and revoked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Asked, Body, Id, Json, page};
use super::rules::{self, Issuing};
use super::wire::{
    GrantView, Grants, IssueRequest, Issued, ReasonRequest, RevokeRequest, Revoked, SessionView, What, rfc3339,
};
use super::{Api, CUT_MS_MAX};
use crate::keeper::AdmissionCertificate;
use crate::kernel::grant::{Cidr, Grant, WallMs};
use crate::kernel::id::{GrantId, SessionId};
use crate::kernel::inventory::Role;
use crate::kernel::policy::facts::{Action, Facts};
use crate::store::{Page, RequestFilter, RevocationScope, SessionRow};

/// How often a look is taken at whether sessions of other nodes have ended.
const ELSEWHERE_LOOK: Duration = Duration::from_millis(100);

impl Api {
    /// Writes one event to the ledger.
    pub(super) async fn note<T: Serialize>(&self, kind: &'static str, body: &T) -> Result<u64, Problem> {
        let body = serde_json::to_value(body).map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
        self.journal
            .append(kind, body)
            .await
            .map_err(|error| Problem::new(Code::Unavailable, error.to_string()))
    }

    /// The same for what `by` has declared.
    pub(super) async fn note_by<T: Serialize>(
        &self,
        kind: &'static str,
        body: &T,
        by: &Caller,
    ) -> Result<u64, Problem> {
        let mut entry = serde_json::to_value(body).map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("by".to_owned(), by.name().into());
        }
        self.note(kind, &entry).await
    }
}

/// `GET /v1/grants`' query.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct GrantsQuery {
    #[serde(default)]
    live: bool,
    /// Only those that the caller holds.
    #[serde(default)]
    mine: bool,
    #[serde(default)]
    after: Option<GrantId>,
    #[serde(default)]
    limit: Option<u32>,
}

/// `GET /v1/grants`. Who does not oversee sees those that it holds or asked for.
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<GrantsQuery>,
) -> Result<Json<Grants>, Problem> {
    let now = api.clock.now().wall_ms;
    let live = |grant: &Grant| !query.live || grant.live(now).is_ok();
    if caller.oversees() && !query.mine {
        let grants = match (query.after, query.limit) {
            // Everything: what the command line shows.
            (None, None) => api.store.grants(query.live.then_some(now)).await?,
            (after, limit) => {
                let page = page(after.map(|id| id.to_string()), limit)?;
                api.store.grants_page(query.live.then_some(now), &page).await?
            }
        };
        return Ok(Json(Grants::new(
            grants.iter().map(|grant| GrantView::at(grant, now)).collect(),
        )));
    }
    let mut own = api.held(&caller).await?;
    if !query.mine {
        for id in api.sponsored(&caller).await? {
            own.extend(api.store.grant(id).await?);
        }
    }
    own.retain(live);
    own.sort_by_key(|grant| std::cmp::Reverse(grant.certificate_serial));
    own.dedup_by_key(|grant| grant.id);
    Ok(Json(Grants::new(
        own.iter().map(|grant| GrantView::at(grant, now)).collect(),
    )))
}

pub async fn issue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<IssueRequest>,
) -> Result<Json<Issued>, Problem> {
    let public_key = rules::public_key(&request.public_key)?;
    let identity = api.store.identity(&request.identity).await?;
    let target = api.store.target(&request.destination.target).await?;
    let now = api.clock.now().wall_ms;
    let (from_ms, until_ms) = rules::issue(&Issuing {
        request: &request,
        identity: identity.as_ref(),
        target: target.as_ref(),
        now,
        grant_ms_max: api.grant_ms_max,
    })?;
    let facts = Facts {
        login: request.destination.login.to_string(),
        reason: request.reason.clone(),
        capabilities: request.allow.iter().copied().collect(),
        for_ms: request.for_secs.saturating_mul(1000),
        single_use: request.single_use,
        holder: Some(request.identity.to_string()),
        ..api.facts(&caller, Action::Issue, target.as_ref()).await?
    };
    let yes = api.ask(facts).await?;
    Api::fresh_login(&yes, &caller)?;
    if request.identity.as_str() == caller.name() {
        // Even where a rule forgot about it.
        return Err(
            Problem::denied(format!("{} cannot issue a grant to itself", caller.name()))
                .hint("let somebody else issue it, or ask for it: portcullis request"),
        );
    }
    if yes
        .obligations()
        .max_ms
        .is_some_and(|max| until_ms.saturating_sub(from_ms) > max.saturating_add(999))
    {
        return Err(Problem::denied(format!(
            "rule {} gives at most {} min",
            yes.rules().join(", "),
            yes.obligations().max_ms.unwrap_or_default() / 60_000
        )));
    }
    let id = GrantId(rand::random());
    let serial = api.store.next_serial().await?;
    let certificate = api
        .keeper
        .issue_admission(AdmissionCertificate {
            public_key,
            serial,
            key_id: format!("{} grant={id}", request.identity),
            principal: request.destination.to_string(),
            valid_after_ms: from_ms.saturating_sub(rules::BACKDATE_MS),
            valid_before_ms: until_ms,
            source_address: source_address(&request.sources),
            extensions: rules::extensions(&request.allow),
        })
        .await?;
    let broken = |error: russh::keys::ssh_key::Error| Problem::new(Code::Broken, error.to_string());
    let blob = certificate.to_bytes().map_err(broken)?;
    let line = certificate.to_openssh().map_err(broken)?;
    let grant = Grant {
        id,
        identity: request.identity,
        destination: request.destination,
        from_ms,
        until_ms,
        sources: request.sources,
        capabilities: request.allow.into_iter().collect(),
        reason: request.reason,
        ticket: None,
        request: None,
        issued_by: caller.name().to_owned(),
        policy_digest: yes.policy_digest(),
        certificate_sha256: Sha256::digest(&blob).into(),
        certificate_serial: serial,
        single_use: request.single_use || yes.obligations().single_use,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    };
    api.note_grant(&grant, &line, now).await?;
    api.store.add_grant(&grant).await?;
    api.metrics.certificates_issued.inc();
    tracing::info!(grant = %grant.id, identity = %grant.identity, destination = %grant.destination,
        until = %rfc3339(grant.until_ms), by = %grant.issued_by, "grant issued");
    Ok(Json(Issued::new(GrantView::at(&grant, now), line)))
}

/// As `source-address` wants it.
pub(super) fn source_address(sources: &[Cidr]) -> Option<String> {
    let blocks: Vec<String> = sources.iter().map(Cidr::to_string).collect();
    (!blocks.is_empty()).then(|| blocks.join(","))
}

pub async fn revoke_one(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Revoked>, Problem> {
    let request = RevokeRequest {
        what: What::Grant,
        id: Some(id),
        reason: request.reason,
    };
    api.revoke(&caller, request).await.map(Json)
}

pub async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<RevokeRequest>,
) -> Result<Json<Revoked>, Problem> {
    api.revoke(&caller, request).await.map(Json)
}

impl Api {
    /// What a revocation names. A caller who does not oversee learns nothing
    /// of what it is no part of; a hook (no caller) may name everything.
    pub(super) async fn scope(
        &self,
        caller: Option<&Caller>,
        request: &RevokeRequest,
    ) -> Result<RevocationScope, Problem> {
        let id = match (request.what, request.id.as_deref()) {
            (What::All, None) => return Ok(RevocationScope::All),
            (What::All, Some(id)) => {
                return Err(Problem::invalid(format!(
                    "everything has no name, but `{}` was given",
                    id.escape_debug()
                )));
            }
            (_, Some(id)) => id,
            (_, None) => return Err(Problem::invalid("what to revoke was not named")),
        };
        let part_of = caller.filter(|caller| !caller.oversees());
        let bad = |error: crate::kernel::id::IdError| Problem::invalid(error.to_string());
        Ok(match (request.what, part_of) {
            (What::Grant, None) => RevocationScope::Grant(self.grant_id(id).await?),
            (What::Session, None) => RevocationScope::Session(self.session_id(id).await?),
            (What::Grant, Some(caller)) => {
                let known = self.part_of(caller).await?;
                RevocationScope::Grant(rules::by_prefix("grant", id, known.into_iter())?)
            }
            (What::Session, Some(caller)) => {
                let known = self.part_of(caller).await?;
                let sessions = self.store.sessions(false).await?;
                let known = sessions.iter().filter(|row| known.contains(&row.grant));
                RevocationScope::Session(rules::by_prefix("session", id, known.map(|row| row.id))?)
            }
            (What::Identity, _) => RevocationScope::Identity(id.parse().map_err(bad)?),
            (What::Target, _) => RevocationScope::Target(id.parse().map_err(bad)?),
            (What::Source, _) => RevocationScope::Source(id.parse().map_err(Problem::invalid)?),
            (What::Purpose, _) => {
                rules::words("purpose", id)?;
                RevocationScope::Purpose(id.to_owned())
            }
            (What::All, _) => RevocationScope::All,
        })
    }

    async fn grant_id(&self, prefix: &str) -> Result<GrantId, Problem> {
        // A whole id needs no listing, and works however long the history is.
        match prefix.parse() {
            Ok(id) => Ok(id),
            Err(_) => {
                let grants = self.store.grants(None).await?;
                rules::by_prefix("grant", prefix, grants.iter().map(|grant| grant.id))
            }
        }
    }

    /// Grants that the caller holds, ended ones too.
    async fn held(&self, caller: &Caller) -> Result<Vec<Grant>, Problem> {
        match caller.identity() {
            Some(identity) => Ok(self.store.grants_of(&identity.name, 0).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Grants that the caller holds or has asked for.
    async fn part_of(&self, caller: &Caller) -> Result<BTreeSet<GrantId>, Problem> {
        let held = self.held(caller).await?;
        let sponsored = self.sponsored(caller).await?;
        Ok(held.iter().map(|grant| grant.id).chain(sponsored).collect())
    }

    /// Writes one grant with its certificate to the ledger: entry before
    /// effect. A crash between the two leaves an entry for a grant that admits
    /// nobody, and a certificate that nobody was given.
    pub(super) async fn note_grant(&self, grant: &Grant, certificate: &str, now: WallMs) -> Result<(), Problem> {
        let mut entry = serde_json::to_value(GrantView::at(grant, now))
            .map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
        if let Some(entry) = entry.as_object_mut() {
            // For evidence: what the session's head names by its hash.
            entry.insert("certificate".to_owned(), certificate.into());
        }
        self.note("grant", &entry).await?;
        Ok(())
    }

    /// Grants under requests that the caller made for somebody else.
    pub(super) async fn sponsored(&self, caller: &Caller) -> Result<Vec<GrantId>, Problem> {
        let made = RequestFilter {
            requested_by: Some(caller.name().to_owned()),
            ..RequestFilter::default()
        };
        let rows = self.store.requests(&made, &Page::first()).await?;
        Ok(rows.into_iter().filter_map(|row| row.grant).collect())
    }

    /// Whether a caller who keeps nobody's access may end this: what it holds
    /// or asked for. An admin is never asked for a rule: ending access is what
    /// must work when policies do not.
    async fn may_revoke(&self, caller: &Caller, scope: &RevocationScope, why: &str) -> Result<(), Problem> {
        if caller.has(Role::Admin) {
            return Ok(());
        }
        let grant = match scope {
            RevocationScope::Grant(id) => self.store.grant(*id).await?,
            RevocationScope::Session(id) => match self.store.session(*id).await? {
                Some(session) => self.store.grant(session.grant).await?,
                None => None,
            },
            RevocationScope::Identity(_)
            | RevocationScope::Target(_)
            | RevocationScope::Source(_)
            | RevocationScope::Purpose(_)
            | RevocationScope::All => None,
        };
        let requested_by = match grant.as_ref().and_then(|grant| grant.request) {
            Some(id) => self.store.request(id).await?.map(|row| row.request.requested_by),
            None => None,
        };
        let target = match (&grant, scope) {
            (Some(grant), _) => self.store.target(&grant.destination.target).await?,
            (None, RevocationScope::Target(name)) => self.store.target(name).await?,
            (None, _) => None,
        };
        let holder = match (&grant, scope) {
            (Some(grant), _) => Some(grant.identity.to_string()),
            (None, RevocationScope::Identity(name)) => Some(name.to_string()),
            (None, _) => None,
        };
        let facts = Facts {
            reason: why.to_owned(),
            holder,
            requested_by,
            ..self.facts(caller, Action::Revoke, target.as_ref()).await?
        };
        let yes = self.ask(facts).await.map_err(|problem| {
            match problem.code == Code::Denied && grant.is_none() && !caller.oversees() {
                // In other words it would tell what there is to end.
                true => Problem::denied(format!("no rule lets {} end that", caller.name())),
                false => problem,
            }
        })?;
        Api::fresh_login(&yes, caller)
    }

    /// Sessions of other nodes that the store still calls live once `within` is
    /// over: those nodes hear of it with their next lease.
    async fn ended_elsewhere(&self, sessions: &[SessionId], within: Duration) -> Vec<SessionId> {
        let mut alive = sessions.to_vec();
        let waiting = async {
            while !alive.is_empty() {
                let mut still = Vec::new();
                for id in &alive {
                    let row = self.store.session(*id).await;
                    if !row.is_ok_and(|row| row.is_some_and(|row| row.ended_ms.is_some())) {
                        still.push(*id);
                    }
                }
                alive = still;
                if !alive.is_empty() {
                    tokio::time::sleep(ELSEWHERE_LOOK).await;
                }
            }
        };
        // What was found by then is what is told.
        tokio::time::timeout(within, waiting).await.ok();
        alive
    }

    pub(super) async fn revoke(&self, caller: &Caller, request: RevokeRequest) -> Result<Revoked, Problem> {
        rules::reason(&request.reason)?;
        let scope = self.scope(Some(caller), &request).await?;
        self.may_revoke(caller, &scope, &request.reason).await?;
        self.end(&scope, caller.name(), &request.reason).await
    }

    /// Ends access: the store first, then the sessions, then the ledger.
    pub(super) async fn end(&self, scope: &RevocationScope, by: &str, why: &str) -> Result<Revoked, Problem> {
        let now = self.clock.now().wall_ms;
        // Effect before entry, the other way round than for a grant: a
        // ledger in trouble must not keep the gate open.
        let (revocation, hit) = self.store.revoke(scope, by, why, now).await?;
        tracing::info!(seq = revocation.seq, ?scope, by, sessions = hit.len(), "revoked");
        let ids: Vec<_> = hit.iter().map(|session| session.id).collect();
        let (here, elsewhere): (Vec<&SessionRow>, Vec<&SessionRow>) = hit.iter().partition(|row| row.node == self.node);
        let here: Vec<SessionId> = here.iter().map(|row| row.id).collect();
        let elsewhere: Vec<SessionId> = elsewhere.iter().map(|row| row.id).collect();
        let within = Duration::from_millis(CUT_MS_MAX);
        let cutting = async {
            let cut_here = async {
                match here.is_empty() {
                    true => Vec::new(),
                    false => self.cutter.wait_cut(&here, within).await,
                }
            };
            let (mut alive, others) = tokio::join!(cut_here, self.ended_elsewhere(&elsewhere, within));
            alive.extend(others);
            alive
        };
        let entry = serde_json::to_value(&revocation).map(|mut entry| {
            if let Some(entry) = entry.as_object_mut() {
                // Whom it hit: for those who ask about one session.
                let grants: Vec<String> = hit.iter().map(|session| session.grant.to_string()).collect();
                entry.insert("sessions".to_owned(), serde_json::json!(ids));
                entry.insert("grants".to_owned(), serde_json::json!(grants));
            }
            entry
        });
        let entry = entry.map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
        let (alive, noted) = tokio::join!(cutting, self.note("revocation", &entry));
        let mut warnings = Vec::new();
        if let RevocationScope::Identity(name) = scope
            && let Err(error) = self.store.drop_tokens_of(name).await
        {
            // Who is cut off asks for nothing either, until the next login.
            warnings.push(format!("the logins of {name} stay until they end: {error}"));
        }
        if let Err(problem) = noted {
            tracing::error!(seq = revocation.seq, error = %problem.detail, "a revocation is in force but not in the ledger");
            warnings.push(format!("the revocation is in force, but {}", problem.detail));
        }
        let (bound, cut): (Vec<_>, Vec<_>) = hit.into_iter().partition(|session| alive.contains(&session.id));
        Ok(Revoked::new(
            revocation.seq,
            rfc3339(revocation.at_ms),
            cut.into_iter().map(|session| session.id).collect(),
            bound.into_iter().map(SessionView::from).collect(),
            warnings,
        ))
    }
}
