//! Break-glass grants: made ready, put in force, listed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Api;
use super::caller::Caller;
use super::grants::source_address;
use super::problem::{Code, Problem};
use super::request::{Body, Json};
use super::rules;
use super::wire::break_glass::{BreakGlassGrants, BreakGlassView, Installed, MadeReady, PrepareRequest, RefusedFile};
use crate::break_glass::{BreakGlassError, Prepared};
use crate::keeper::AdmissionCertificate;
use crate::kernel::break_glass::{DOORS_MAX, Door, SESSION_MS_MAX, Statement, VERSION, WINDOW_MS_MAX};
use crate::kernel::grant::{WallMs, hex32};
use crate::kernel::id::GrantId;
use crate::kernel::inventory::{Identity, Target};
use crate::kernel::policy::facts::{Action, Facts, Who};

/// Kind of the leaves.
const EVENT_KIND: &str = "break-glass";

impl From<BreakGlassError> for Problem {
    fn from(error: BreakGlassError) -> Problem {
        let why = error.to_string();
        match error {
            BreakGlassError::Unfit(_) => Problem::denied(why)
                .hint("see `portcullis break-glass verify FILE`; another sign it with `break-glass sign`"),
            BreakGlassError::Used(_) => Problem::new(Code::Conflict, why).hint("prepare another one"),
            BreakGlassError::Installed(_) => Problem::new(Code::Exists, why),
            BreakGlassError::TooMany | BreakGlassError::TooManyRevocations => Problem::denied(why),
            BreakGlassError::File(_)
            | BreakGlassError::NotOne { .. }
            | BreakGlassError::Journal { .. }
            | BreakGlassError::Broken => Problem::new(Code::Broken, why),
        }
    }
}

/// `[from, until)` of what is asked for. Certificates speak whole seconds, so
/// both are some.
fn window(asked: &PrepareRequest, now: WallMs) -> Result<(WallMs, WallMs), Problem> {
    let second = |ms: u64| ms - ms % 1000;
    let from = second(asked.from_ms.unwrap_or(now).max(now));
    let until = second(asked.until_ms);
    if until <= now {
        return Err(Problem::invalid("its window is over already").hint("give a later --until"));
    }
    if until <= from {
        return Err(Problem::invalid("its window is empty: it ends before it begins"));
    }
    if until > now.saturating_add(WINDOW_MS_MAX) {
        return Err(Problem::denied("a break-glass grant ends within 366 days")
            .hint("prepare another one in time; that is also when somebody looks whether it is still right"));
    }
    Ok((from, until))
}

/// `POST /v1/break-glass/prepare`.
pub async fn prepare(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<PrepareRequest>,
) -> Result<Json<MadeReady>, Problem> {
    rules::reason(&asked.reason)?;
    let public_key = rules::public_key(&asked.public_key)?;
    let now = api.clock.now().wall_ms;
    let (from_ms, until_ms) = window(&asked, now)?;
    let session_ms = asked.session_secs.saturating_mul(1000);
    if session_ms == 0 || session_ms > SESSION_MS_MAX {
        return Err(Problem::invalid("a session under it lasts from 1 s to 12 h"));
    }
    if asked.allow.is_empty() {
        return Err(Problem::invalid("a grant that allows nothing is of no use").hint("add --allow shell,exec,sftp"));
    }
    rules::sources(&asked.sources)?;
    if !(1..=DOORS_MAX).contains(&asked.destinations.len()) {
        return Err(Problem::invalid(format!("name 1 to {DOORS_MAX} destinations")));
    }
    let identity = api.store.identity(&asked.identity).await?;
    let identity =
        identity.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no identity `{}`", asked.identity)))?;
    identity.may_hold(now).map_err(|why| Problem::denied(why.to_string()))?;

    let id = GrantId(rand::random());
    let (mut doors, mut certificates) = (Vec::new(), Vec::new());
    for destination in &asked.destinations {
        let target = api.target_for(&caller, destination).await?;
        if !target.logins.contains(&destination.login) {
            let why = format!("`{}` is not a login of {}", destination.login, target.name);
            return Err(Problem::denied(why));
        }
        api.may_prepare(&caller, &asked, &identity, &target, session_ms).await?;
        let serial = api.store.next_serial().await?;
        let certificate = api
            .keeper
            .issue_break_glass(AdmissionCertificate {
                public_key: public_key.clone(),
                serial,
                key_id: format!("{} break-glass={id}", identity.name),
                principal: destination.to_string(),
                valid_after_ms: from_ms.saturating_sub(rules::BACKDATE_MS),
                valid_before_ms: until_ms,
                source_address: source_address(&asked.sources),
                extensions: rules::extensions(&asked.allow),
            })
            .await?;
        let broken = |error: russh::keys::ssh_key::Error| Problem::new(Code::Broken, error.to_string());
        let blob = certificate.to_bytes().map_err(broken)?;
        certificates.push(certificate.to_openssh().map_err(broken)?);
        let route = api.route(target).await?;
        doors.push(Door {
            login: destination.login.clone(),
            hops: route.hops().cloned().collect(),
            target: route.target().clone(),
            certificate_sha256: Sha256::digest(&blob).into(),
            certificate_serial: serial,
        });
    }
    let statement = Statement {
        version: VERSION,
        id,
        node: api.node.clone(),
        made_ms: now,
        made_by: caller.name().to_owned(),
        who: Who::from(&identity),
        doors,
        capabilities: asked.allow.iter().copied().collect(),
        sources: asked.sources,
        from_ms,
        until_ms,
        session_ms,
        condition: asked.condition,
        reason: asked.reason,
        policy_digest: api.policies.now().digest(),
    };
    let text = serde_json::to_string(&statement).map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
    // What everybody else would refuse later is refused here.
    Statement::read(&text).map_err(|why| Problem::invalid(why.to_string()))?;
    api.note_break_glass("prepared", &caller, &statement, &text).await?;
    tracing::info!(grant = %id, identity = %statement.who.name, by = caller.name(), "a break-glass grant was made ready");
    Ok(Json(MadeReady::new(Prepared {
        statement: text,
        certificates,
        signatures: Vec::new(),
    })))
}

/// `POST /v1/break-glass`.
pub async fn install(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(prepared): Body<Prepared>,
) -> Result<Json<Installed>, Problem> {
    let signed = api.break_glass.check(&prepared)?;
    let now = api.clock.now().wall_ms;
    if now >= signed.statement().until_ms {
        return Err(Problem::denied("its window is over"));
    }
    // Entry before effect, as for a grant.
    api.note_break_glass("installed", &caller, signed.statement(), &prepared.statement)
        .await?;
    let glass = api.break_glass.clone();
    let installed = tokio::task::spawn_blocking(move || glass.install(&prepared)).await;
    let installed = installed.map_err(|error| Problem::new(Code::Broken, error.to_string()))??;
    tracing::warn!(grant = %signed.statement().id, identity = %signed.statement().who.name, by = caller.name(),
        "a break-glass grant is in force");
    Ok(Json(Installed::new(BreakGlassView::at(&installed, now))))
}

/// `GET /v1/break-glass`.
pub async fn list(State(api): State<Arc<Api>>) -> Result<Json<BreakGlassGrants>, Problem> {
    let now = api.clock.now().wall_ms;
    let (installed, refused) = api.break_glass.list();
    Ok(Json(BreakGlassGrants::new(
        installed.iter().map(|one| BreakGlassView::at(one, now)).collect(),
        refused
            .into_iter()
            .map(|(file, why)| RefusedFile { file, why })
            .collect(),
    )))
}

impl Api {
    /// Policy has the last word on who may make what ready, as on any grant.
    /// Whether it asks for a review does not matter: these are always looked
    /// back at, and who holds one never signs for it.
    async fn may_prepare(
        &self,
        caller: &Caller,
        asked: &PrepareRequest,
        identity: &Identity,
        target: &Target,
        session_ms: u64,
    ) -> Result<(), Problem> {
        let facts = Facts {
            reason: asked.reason.clone(),
            capabilities: asked.allow.iter().copied().collect(),
            for_ms: session_ms,
            single_use: true,
            holder: Some(identity.name.to_string()),
            ..self.facts(caller, Action::Issue, Some(target)).await?
        };
        let yes = self.ask(facts).await?;
        match yes.obligations().max_ms {
            Some(max) if session_ms > max => Err(Problem::denied(format!(
                "rule {} gives at most {} min",
                yes.rules().join(", "),
                max / 60_000
            ))
            .hint("ask for less with --session")),
            Some(_) | None => Ok(()),
        }
    }

    async fn note_break_glass(
        &self,
        state: &str,
        caller: &Caller,
        statement: &Statement,
        text: &str,
    ) -> Result<(), Problem> {
        let doors: Vec<_> = statement
            .doors
            .iter()
            .map(|door| {
                json!({
                    "destination": door.destination(), "serial": door.certificate_serial,
                    "certificate_sha256": hex32::encode(&door.certificate_sha256),
                })
            })
            .collect();
        let entry = json!({
            "state": state, "by": caller.name(), "grant": statement.id, "node": statement.node,
            "identity": statement.who.name, "destinations": doors, "from_ms": statement.from_ms,
            "until_ms": statement.until_ms, "session_ms": statement.session_ms,
            "condition": statement.condition, "reason": statement.reason,
            "statement_sha256": hex32::encode(&Sha256::digest(text).into()),
        });
        self.note(EVENT_KIND, &entry).await.map(drop)
    }
}
