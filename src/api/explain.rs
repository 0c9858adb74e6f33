//! Who may do what, and which rule says so, without doing it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;

use super::Api;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Asked, Body, Json};
use super::wire::access::{Decisions, ExplainRequest, Explained, PoliciesInForce, RuleView};
use crate::kernel::grant::hex32;
use crate::kernel::inventory::{Reach, Target};
use crate::kernel::policy::engine::Told;
use crate::kernel::policy::facts::{Action, Facts, ForwardTo, TransferOf, Whereto, Who};
use crate::kernel::transfer::{What, Wish};

/// Most decisions in one answer.
const DECISIONS_MAX: u32 = 10_000;
/// How far back they go when nothing is said, in ms (30 days).
const DECISIONS_MS: u64 = 30 * 24 * 60 * 60 * 1000;

impl From<Told> for RuleView {
    fn from(told: Told) -> RuleView {
        RuleView {
            id: told.id,
            effect: if told.permits { "permit" } else { "forbid" }.to_owned(),
            file: told.file,
            note: told.note,
        }
    }
}

/// `POST /v1/explain`. Who does not oversee asks about itself.
pub async fn explain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<ExplainRequest>,
) -> Result<Json<Explained>, Problem> {
    if !caller.oversees() && asked.identity.as_str() != caller.name() {
        return Err(Problem::denied(format!("{} asks only about itself", caller.name())));
    }
    let identity = api.store.identity(&asked.identity).await?;
    let identity =
        identity.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no identity `{}`", asked.identity)))?;
    let target = api.target_for(&caller, &asked.destination).await?;
    let source = asked.source.or(caller.source());
    let warnings = match caller.oversees() {
        true => api.warnings(&target).await,
        false => Vec::new(),
    };
    let policies = api.policies.now();
    let transfer = transfer(&asked)?;
    fits(&asked)?;
    let typed = asked.action == Action::Command;
    let mut facts = Facts {
        login: asked.destination.login.to_string(),
        for_ms: asked.for_secs.saturating_mul(1000),
        capabilities: asked.allow.into_iter().collect(),
        reason: asked.reason,
        ticket: asked.ticket,
        labels: asked
            .command
            .as_deref()
            .map(|command| policies.labels().of(command))
            .unwrap_or_default(),
        command: asked.command,
        place: match typed {
            true => asked.place.unwrap_or_else(|| "shell".to_owned()),
            false => String::new(),
        },
        undecided: typed && asked.undecided,
        terminal: typed || asked.terminal,
        subsystem: asked.subsystem,
        forward: asked.forward,
        transfer,
        risk: asked.risk,
        requested_by: Some(identity.name.to_string()),
        ..api
            .policies
            .facts(asked.action, Who::from(&identity), Some(Whereto::from(&target)), source)
    };
    if let Some(at_ms) = asked.at_ms {
        facts = api.policies.at(at_ms, facts);
    }
    let explained = policies.explain(&facts);
    let rules = match explained.verdict.allowed || !explained.rules.is_empty() {
        true => explained.rules,
        false => explained.nearest,
    };
    Ok(Json(Explained::new(
        explained.verdict.allowed,
        facts.action,
        explained.sentence,
        rules.into_iter().map(RuleView::from).collect(),
        explained.verdict.obligations,
        hex32::encode(&policies.digest()),
        warnings,
    )))
}

/// Whether what is said belongs to what is asked about: nothing of it is left out in silence.
fn fits(asked: &ExplainRequest) -> Result<(), Problem> {
    let about = |action| asked.action == action;
    let forward = asked.forward.as_ref();
    let known = |to: &ForwardTo| matches!(to.direction.as_str(), "local" | "remote" | "agent" | "x11");
    if about(Action::Forward) && !forward.is_some_and(known) {
        return Err(Problem::invalid("a forwarding is asked about with where it leads")
            .hint("--forward local:HOST:PORT, remote:HOST:PORT, agent or x11"));
    }
    let others = [
        (asked.transfer.is_some(), Action::Transfer, "a file"),
        (forward.is_some(), Action::Forward, "where a forwarding leads"),
        (
            asked.place.is_some() || asked.undecided,
            Action::Command,
            "how a line was read",
        ),
    ];
    match others.into_iter().find(|(said, action, _)| *said && !about(*action)) {
        Some((_, action, what)) => Err(Problem::invalid(format!(
            "{what} belongs to {}, and {} is asked about",
            action.as_str(),
            asked.action.as_str()
        ))),
        None => Ok(()),
    }
}

/// What would be done to a file, as policy is told it of a session.
fn transfer(asked: &ExplainRequest) -> Result<Option<TransferOf>, Problem> {
    let Some(transfer) = &asked.transfer else {
        return match asked.action == Action::Transfer {
            true => Err(
                Problem::invalid("a transfer is asked about with what is done to which file")
                    .hint("--what upload --path /srv/file"),
            ),
            false => Ok(None),
        };
    };
    let known = What::ALL.into_iter().filter(|what| *what != What::List);
    let what = known
        .clone()
        .find(|what| what.as_str() == transfer.what)
        .ok_or_else(|| {
            let words: Vec<&str> = known.map(What::as_str).collect();
            Problem::invalid(format!(
                "`{}` is nothing that is done to a file: {}",
                transfer.what,
                words.join(", ")
            ))
        })?;
    let wish = Wish {
        what,
        path: transfer.path.clone().into_bytes(),
        other: transfer.other.clone().into_bytes(),
    };
    Ok(Some(TransferOf {
        direction: what.direction().to_owned(),
        what: what.as_str().to_owned(),
        path: transfer.path.clone(),
        other: transfer.other.clone(),
        plain: wish.is_plain(),
    }))
}

impl Api {
    /// What keeps everybody from a target, whatever the policies say: a bastion
    /// before it, or a source of credentials.
    async fn warnings(&self, target: &Target) -> Vec<String> {
        let mut warnings = Vec::new();
        let hops: Vec<Target> = match self.route(target.clone()).await {
            Ok(route) => route.hops().cloned().collect(),
            Err(why) => {
                warnings.push(why.detail);
                Vec::new()
            }
        };
        for host in hops.iter().chain([target]) {
            let Reach::Ssh { credential, .. } = &host.reach else {
                continue;
            };
            if let Some(source) = credential.source()
                && let Err(why) = self.credentials.look(source)
            {
                warnings.push(format!("the credential source {source} of {}: {why}", host.name));
            }
        }
        warnings
    }
}

/// `GET /v1/policies`: what is in force.
pub async fn policies(State(api): State<Arc<Api>>) -> Json<PoliciesInForce> {
    let policies = api.policies.now();
    let rules = policies.rules().into_iter().map(RuleView::from).collect();
    Json(PoliciesInForce::new(hex32::encode(&policies.digest()), rules))
}

/// `?since=MS`: milliseconds since the epoch.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct SinceQuery {
    #[serde(default)]
    since: Option<u64>,
}

/// `GET /v1/decisions`: what was asked and how it was decided, newest first.
pub async fn decisions(
    State(api): State<Arc<Api>>,
    Asked(query): Asked<SinceQuery>,
) -> Result<Json<Decisions>, Problem> {
    let now = api.clock.now().wall_ms;
    let month = now.saturating_sub(DECISIONS_MS);
    let rows = api
        .store
        .decisions(query.since.map_or(month, |since| since.min(now)), DECISIONS_MAX)
        .await?;
    Ok(Json(Decisions::new(rows.into_iter().map(Into::into).collect())))
}
