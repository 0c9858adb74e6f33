//! What is done with recordings: each is told to the ledger first.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Body, Id, Json};
use super::wire::{ExpireRequest, Expired, Noted, ReadRequest, ReasonRequest, Statements};
use super::{Api, rules};
use crate::kernel::grant::hex32;
use crate::kernel::id::SessionId;
use crate::retention::RetentionError;
use crate::store::RecordingRow;

impl From<RetentionError> for Problem {
    fn from(error: RetentionError) -> Problem {
        let text = error.to_string();
        match error {
            RetentionError::Store(error) => error.into(),
            RetentionError::Ledger(_) | RetentionError::Archive(_) | RetentionError::Search(_) => {
                Problem::new(Code::Unavailable, text)
            }
            RetentionError::NotFound(_) => Problem::new(Code::NotFound, text),
            RetentionError::NotEncrypted(_)
            | RetentionError::Gone(_)
            | RetentionError::NotHeld(_)
            | RetentionError::NotDue(_) => Problem::invalid(text),
        }
    }
}

impl Api {
    async fn recorded(&self, prefix: &str) -> Result<RecordingRow, Problem> {
        let id = match prefix.parse() {
            Ok(id) => id,
            Err(_) => {
                let all = self.store.recordings().await?;
                rules::by_prefix("recording", prefix, all.iter().map(|row| row.session))?
            }
        };
        let row = self.store.recording(id).await?;
        row.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no recording of session {id}")))
    }
}

/// What is done with one recording for a reason.
#[derive(Clone, Copy)]
enum Mark {
    Hold,
    Release,
    Shred,
}

impl Api {
    async fn mark(
        &self,
        caller: &Caller,
        id: &str,
        request: ReasonRequest,
        mark: Mark,
    ) -> Result<Json<Noted>, Problem> {
        rules::reason(&request.reason)?;
        let session = self.recorded(id).await?.session;
        let (by, why) = (caller.name(), request.reason.as_str());
        match mark {
            Mark::Hold => self.retention.hold(session, by, why).await?,
            Mark::Release => self.retention.release(session, by, why).await?,
            Mark::Shred => self.retention.shred(session, by, why).await?,
        }
        Ok(Json(Noted::new(session)))
    }
}

/// `POST /v1/recordings/{id}/hold`
pub async fn hold(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Noted>, Problem> {
    api.mark(&caller, &id, request, Mark::Hold).await
}

/// `POST /v1/recordings/{id}/release`
pub async fn release(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Noted>, Problem> {
    api.mark(&caller, &id, request, Mark::Release).await
}

/// `POST /v1/recordings/{id}/shred`
pub async fn shred(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(request): Body<ReasonRequest>,
) -> Result<Json<Noted>, Problem> {
    api.mark(&caller, &id, request, Mark::Shred).await
}

/// `POST /v1/recordings/expire`: those whose time is over; with `dry_run` only
/// told.
pub async fn expire(State(api): State<Arc<Api>>, Body(request): Body<ExpireRequest>) -> Result<Json<Expired>, Problem> {
    if request.dry_run {
        let due = api.retention.due().await?;
        let due: Vec<SessionId> = due.into_iter().map(|row| row.session).collect();
        return Ok(Json(Expired::new(due, Vec::new())));
    }
    let round = api.retention.round().await?;
    let failed = round.failed.into_iter().map(|(id, why)| format!("{id}: {why}"));
    Ok(Json(Expired::new(round.deleted, failed.collect())))
}

/// `POST /v1/recordings/{id}/read`: somebody is about to look at it, or to
/// give it away. The answer is the leaf that says so, with its proof.
pub async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(request): Body<ReadRequest>,
) -> Result<Json<Statements>, Problem> {
    rules::reason(&request.reason)?;
    if request
        .manifest_sha256
        .as_ref()
        .is_some_and(|hex| hex32::decode(hex).is_none())
    {
        return Err(Problem::invalid("manifest_sha256 is not 64 hexadecimal digits"));
    }
    let row = api.recorded(&id).await?;
    let session = api.store.session(row.session).await?;
    let facts = api.replay_facts(&caller, session.as_ref(), &request.reason).await?;
    let yes = api.ask(facts).await?;
    Api::fresh_login(&yes, &caller)?;
    let body = serde_json::json!({
        "session": row.session,
        "by": caller.name(),
        "rules": yes.rules(),
        "reason": request.reason,
        "manifest_sha256": request.manifest_sha256,
    });
    let leaf = api.note(request.purpose.event(), &body).await?;
    let stated = api.retention.ledger.state(leaf).await.map_err(RetentionError::from)?;
    Ok(Json(Statements::new(vec![stated])))
}

/// `GET /v1/sessions/{id}/statements`: every leaf that names the session or
/// its grant, each with its proof, oldest first.
pub async fn statements(State(api): State<Arc<Api>>, Id(id): Id) -> Result<Json<Statements>, Problem> {
    let id = api.session_id(&id).await?;
    let session = api.store.session(id).await?;
    let mut ids = vec![id.to_string()];
    ids.extend(session.map(|session| session.grant.to_string()));
    let ledger = &api.retention.ledger;
    let found = ledger.events_about(ids).await.map_err(RetentionError::from)?;
    let mut statements = Vec::with_capacity(found.len());
    for leaf in found {
        statements.push(ledger.state(leaf).await.map_err(RetentionError::from)?);
    }
    Ok(Json(Statements::new(statements)))
}
