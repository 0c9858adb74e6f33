//! What the server says of itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Api;
use super::problem::{Code, Problem};
use super::request::Json;
use super::wire::Health;

/// Largest trust file that is handed out, in bytes.
const TRUST_BYTES_MAX: u64 = 1024 * 1024;

/// The trust file as it lies in the state folder.
pub async fn trust(State(api): State<Arc<Api>>) -> Result<impl IntoResponse, Problem> {
    let path = api.layout.trust();
    let unread = |error: std::io::Error| Problem::new(Code::Broken, format!("cannot read {}: {error}", path.display()));
    if tokio::fs::metadata(&path).await.map_err(unread)?.len() > TRUST_BYTES_MAX {
        return Err(Problem::new(Code::Broken, format!("{} is too large", path.display())));
    }
    let text = tokio::fs::read_to_string(&path).await.map_err(unread)?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], text))
}

/// Whether it can do its work: the store answers.
pub async fn health(State(api): State<Arc<Api>>) -> Result<Json<Health>, Problem> {
    api.store.revocations_after(0, 1).await?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Json(Health::new("ok".to_owned(), api.node.clone(), version)))
}

/// Whether it is alive; asks nothing else.
pub async fn healthz() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "ok\n")
}

/// Counters and gauges in the OpenMetrics text format.
pub async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.text())
}

/// The API's description (OpenAPI 3.1).
pub async fn openapi() -> impl IntoResponse {
    axum::Json(super::openapi::document(&super::table()))
}
