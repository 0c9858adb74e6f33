//! Grants issued and revoked.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::peer::Peer;
use super::problem::{Code, Problem};
use super::request::{Asked, Body, Id, Json, LiveQuery};
use super::rules::{self, Issuing};
use super::wire::{
    GrantView, Grants, IssueRequest, Issued, ReasonRequest, RevokeRequest, Revoked, SessionView, What, rfc3339,
};
use super::{Api, CUT_MS_MAX};
use crate::keeper::AdmissionCertificate;
use crate::kernel::grant::{Cidr, Grant};
use crate::kernel::id::GrantId;
use crate::store::RevocationScope;

impl Api {
    /// Writes one event to the ledger.
    pub(super) async fn note<T: Serialize>(&self, kind: &'static str, body: &T) -> Result<u64, Problem> {
        let body = serde_json::to_value(body).map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
        self.journal
            .append(kind, body)
            .await
            .map_err(|error| Problem::new(Code::Unavailable, error.to_string()))
    }
}

pub async fn list(State(api): State<Arc<Api>>, Asked(query): Asked<LiveQuery>) -> Result<Json<Grants>, Problem> {
    let now = api.clock.now().wall_ms;
    let grants = api.store.grants(query.live.then_some(now)).await?;
    Ok(Json(Grants::new(
        grants.iter().map(|grant| GrantView::at(grant, now)).collect(),
    )))
}

pub async fn issue(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
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
        issuer: &peer.name,
        now,
        grant_ms_max: api.grant_ms_max,
    })?;
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
        issued_by: peer.name,
        policy_digest: api.policies.now().digest(),
        certificate_sha256: Sha256::digest(&blob).into(),
        certificate_serial: serial,
        single_use: request.single_use,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    };
    // Entry before effect. A crash between the two leaves an entry for a
    // grant that admits nobody, and a certificate that nobody was given.
    let mut entry = serde_json::to_value(GrantView::at(&grant, now))
        .map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
    if let Some(entry) = entry.as_object_mut() {
        // For evidence: what the session's head names by its hash.
        entry.insert("certificate".to_owned(), line.clone().into());
    }
    api.note("grant", &entry).await?;
    api.store.add_grant(&grant).await?;
    api.metrics.certificates_issued.inc();
    tracing::info!(grant = %grant.id, identity = %grant.identity, destination = %grant.destination,
        until = %rfc3339(grant.until_ms), by = %grant.issued_by, "grant issued");
    Ok(Json(Issued::new(GrantView::at(&grant, now), line)))
}

/// As `source-address` wants it.
fn source_address(sources: &[Cidr]) -> Option<String> {
    let blocks: Vec<String> = sources.iter().map(Cidr::to_string).collect();
    (!blocks.is_empty()).then(|| blocks.join(","))
}

pub async fn revoke_one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Id(id): Id,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Revoked>, Problem> {
    let request = RevokeRequest {
        what: What::Grant,
        id: Some(id),
        reason: request.reason,
    };
    api.revoke(&peer, request).await.map(Json)
}

pub async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Body(request): Body<RevokeRequest>,
) -> Result<Json<Revoked>, Problem> {
    api.revoke(&peer, request).await.map(Json)
}

impl Api {
    async fn scope(&self, request: &RevokeRequest) -> Result<RevocationScope, Problem> {
        let id = match (request.what, request.id.as_deref()) {
            (What::All, None) => return Ok(RevocationScope::All),
            (What::All, Some(id)) => {
                return Err(Problem::invalid(format!(
                    "everything has no name, but `{id}` was given"
                )));
            }
            (_, Some(id)) => id,
            (_, None) => return Err(Problem::invalid("what to revoke was not named")),
        };
        let bad = |error: crate::kernel::id::IdError| Problem::invalid(error.to_string());
        Ok(match request.what {
            What::Grant => RevocationScope::Grant(self.grant_id(id).await?),
            What::Session => RevocationScope::Session(self.session_id(id).await?),
            What::Identity => RevocationScope::Identity(id.parse().map_err(bad)?),
            What::Target => RevocationScope::Target(id.parse().map_err(bad)?),
            What::All => RevocationScope::All,
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

    async fn revoke(&self, peer: &Peer, request: RevokeRequest) -> Result<Revoked, Problem> {
        rules::reason(&request.reason)?;
        let scope = self.scope(&request).await?;
        let now = self.clock.now().wall_ms;
        // Effect before entry, the other way round than for a grant: a
        // ledger in trouble must not keep the gate open.
        let (revocation, hit) = self.store.revoke(&scope, &peer.name, &request.reason, now).await?;
        tracing::info!(seq = revocation.seq, ?scope, by = %peer.name, sessions = hit.len(), "revoked");
        let ids: Vec<_> = hit.iter().map(|session| session.id).collect();
        let cutting = async {
            match ids.is_empty() {
                true => Vec::new(),
                false => self.cutter.wait_cut(&ids, Duration::from_millis(CUT_MS_MAX)).await,
            }
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
