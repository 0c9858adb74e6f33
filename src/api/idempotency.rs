//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a call that
//! is made again because its answer got lost has its effect once.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::Api;
use super::problem::{Code, Problem};
use super::request::whole;
use crate::store::Remembered;

/// The header's name.
pub const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// How long an answer is kept, in ms (24 h).
pub const KEEP_MS: u64 = 24 * 60 * 60 * 1000;
/// Largest answer that is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A key, bound to who calls and to the route.
pub struct Key([u8; 32]);

impl Key {
    /// The key of a call, if it has one.
    ///
    /// # Errors
    /// One that is empty, too long or given twice.
    pub fn of(request: &Request<Body>, caller: &str) -> Result<Option<Key>, Problem> {
        let mut values = request.headers().get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let good = (1..=KEY_BYTES_MAX).contains(&value.len()) && values.next().is_none();
        if !good || value.to_str().is_err() {
            return Err(Problem::invalid(format!(
                "Idempotency-Key is not one text of 1 to {KEY_BYTES_MAX} printable characters"
            )));
        }
        if request.method() != Method::POST {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        for part in [
            caller.as_bytes(),
            request.method().as_str().as_bytes(),
            request.uri().path().as_bytes(),
            value.as_bytes(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Some(Key(hash.finalize().into())))
    }
}

/// Runs the call, or answers as it was answered before.
pub async fn run(api: &Api, key: Key, request: Request, next: Next) -> Response {
    match once(api, key, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn once(api: &Api, key: Key, request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = whole(body).await?;
    let now = api.clock.now().wall_ms;
    let call = Sha256::digest(&body).into();
    match api
        .store
        .remember(key.0, call, now, now.saturating_add(KEEP_MS))
        .await?
    {
        Remembered::New => {}
        Remembered::Running => {
            return Err(Problem::new(Code::Conflict, "the same call is still running").hint("ask again in a moment"));
        }
        Remembered::Other => {
            return Err(
                Problem::new(Code::Conflict, "this Idempotency-Key was used for another call")
                    .hint("take a new key for each call"),
            );
        }
        Remembered::Answered(status, body) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let kind = HeaderValue::from_static("application/json");
            return Ok((status, [(header::CONTENT_TYPE, kind)], body).into_response());
        }
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_BYTES_MAX)
        .await
        .map_err(|error| Problem::new(Code::Broken, error.to_string()));
    // What failed had no effect, or says itself what it left: it may be tried again.
    let kept = match &bytes {
        Ok(bytes) if parts.status.is_success() => Some((parts.status.as_u16(), bytes.as_ref())),
        Ok(_) | Err(_) => None,
    };
    api.store.keep_answer(key.0, kept).await?;
    Ok(Response::from_parts(parts, Body::from(bytes?)))
}
