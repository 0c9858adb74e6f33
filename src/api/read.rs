//! Sessions and their recordings.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Asked, Id, Json, LiveQuery};
use super::wire::{GrantView, OneSession, RecordingView, Recordings, SessionView, Sessions};
use super::{Api, rules};
use crate::kernel::id::SessionId;

impl Api {
    pub(super) async fn session_id(&self, prefix: &str) -> Result<SessionId, Problem> {
        match prefix.parse() {
            Ok(id) => Ok(id),
            Err(_) => {
                let sessions = self.store.sessions(false).await?;
                rules::by_prefix("session", prefix, sessions.iter().map(|session| session.id))
            }
        }
    }
}

/// `GET /v1/sessions`. Who does not oversee sees its own, and those of whom it
/// asked for.
pub async fn sessions(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<LiveQuery>,
) -> Result<Json<Sessions>, Problem> {
    let mut sessions = api.store.sessions(query.live).await?;
    if !caller.oversees() {
        let sponsored = api.sponsored(&caller).await?;
        sessions.retain(|row| row.identity.as_str() == caller.name() || sponsored.contains(&row.grant));
    }
    Ok(Json(Sessions::new(
        sessions.into_iter().map(SessionView::from).collect(),
    )))
}

/// `GET /v1/sessions/{id}`.
pub async fn session(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<OneSession>, Problem> {
    let missing = || Problem::new(Code::NotFound, format!("there is no session {id}"));
    let whole = match id.parse() {
        Ok(whole) => whole,
        // What a prefix fits is told to nobody who would not see it.
        Err(_) if !caller.oversees() => return Err(missing()),
        Err(_) => api.session_id(&id).await?,
    };
    let row = api.store.session(whole).await?.ok_or_else(missing)?;
    let id = whole;
    if !caller.oversees()
        && row.identity.as_str() != caller.name()
        && !api.sponsored(&caller).await?.contains(&row.grant)
    {
        return Err(Problem::new(Code::NotFound, format!("there is no session {id}")));
    }
    let now = api.clock.now().wall_ms;
    let grant = api
        .store
        .grant(row.grant)
        .await?
        .map(|grant| GrantView::at(&grant, now));
    let recording = api
        .store
        .recording(id)
        .await?
        .map(|recording| RecordingView::of(recording, &api.layout.archive(), Some(&row)));
    Ok(Json(OneSession::new(row.into(), grant, recording)))
}

pub async fn recordings(State(api): State<Arc<Api>>) -> Result<Json<Recordings>, Problem> {
    let rows = api.store.recordings().await?;
    let sessions: BTreeMap<SessionId, _> = api
        .store
        .sessions(false)
        .await?
        .into_iter()
        .map(|session| (session.id, session))
        .collect();
    let archive = api.layout.archive();
    let views = rows
        .into_iter()
        .map(|row| {
            let session = sessions.get(&row.session);
            RecordingView::of(row, &archive, session)
        })
        .collect();
    Ok(Json(Recordings::new(views)))
}
