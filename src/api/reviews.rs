//! Looks back at sessions by somebody else, and what was unusual.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde_json::json;

use super::caller::Caller;
use super::problem::Problem;
use super::request::{Asked, Body, Id, Json};
use super::wire::access::{Anomalies, AnomalyView, CloseReview, OneReview, ReviewView, Reviews};
use super::{Api, rules};
use crate::kernel::id::ReviewId;

/// Most anomalies in one answer.
const ANOMALIES_MAX: u32 = 1000;
/// How far back they go when nothing is said, in ms (30 days).
const ANOMALIES_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// `?open=true`: only open ones.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct OpenQuery {
    #[serde(default)]
    open: bool,
}

/// `GET /v1/reviews`. Who does not oversee sees those of itself.
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(query): Asked<OpenQuery>,
) -> Result<Json<Reviews>, Problem> {
    let rows = api.store.reviews(query.open).await?;
    let seen = rows
        .into_iter()
        .filter(|row| caller.oversees() || row.identity.as_str() == caller.name());
    Ok(Json(Reviews::new(seen.map(ReviewView::from).collect())))
}

/// `POST /v1/reviews/{id}/close`.
pub async fn close(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Body(given): Body<CloseReview>,
) -> Result<Json<OneReview>, Problem> {
    rules::words("note", &given.note)?;
    let id: ReviewId = match id.parse() {
        Ok(id) => id,
        Err(_) => {
            let open = api.store.reviews(true).await?;
            rules::by_prefix("review", &id, open.iter().map(|row| row.id))?
        }
    };
    let now = api.clock.now().wall_ms;
    let open = api.store.reviews(true).await?;
    if open
        .iter()
        .any(|row| row.id == id && row.identity.as_str() == caller.name())
    {
        return Err(Problem::denied("nobody closes the review of what he did himself"));
    }
    api.note(
        "review",
        &json!({ "review": id, "closed_by": caller.name(), "note": given.note }),
    )
    .await?;
    let row = api.store.close_review(id, caller.name(), &given.note, now).await?;
    Ok(Json(OneReview::new(row.into())))
}

/// `GET /v1/anomalies`.
pub async fn anomalies(State(api): State<Arc<Api>>) -> Result<Json<Anomalies>, Problem> {
    let since = api.clock.now().wall_ms.saturating_sub(ANOMALIES_MS);
    let rows = api.store.anomalies(since, None, ANOMALIES_MAX).await?;
    Ok(Json(Anomalies::new(rows.into_iter().map(AnomalyView::from).collect())))
}
