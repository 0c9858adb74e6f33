//! Reading requests: bounded, typed, and refused as problems.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::{Code, Problem};
use super::{BODY_BYTES_MAX, REQUEST_MS_MAX};
use crate::store::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, Page};

/// A request's whole body, bounded in size and in time.
///
/// # Errors
/// It is larger than [`BODY_BYTES_MAX`], breaks off, or takes too long.
pub async fn whole(body: axum::body::Body) -> Result<Bytes, Problem> {
    let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
    tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), reading)
        .await
        .map_err(|_| Problem::invalid(format!("the body took longer than {REQUEST_MS_MAX} ms")))?
        .map_err(|_| {
            Problem::new(
                Code::TooLarge,
                format!("the body broke off or is larger than {BODY_BYTES_MAX} bytes"),
            )
        })
}

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = whole(request.into_body()).await?;
        serde_json::from_slice(&bytes)
            .map(Body)
            .map_err(|error| Problem::invalid(format!("the body is not what this route takes: {error}")))
    }
}

/// One page of a listing.
///
/// # Errors
/// A limit of nothing, or above [`PAGE_ROWS_MAX`].
pub fn page(after: Option<String>, limit: Option<u32>) -> Result<Page, Problem> {
    match limit {
        None => Ok(Page {
            after,
            limit: PAGE_ROWS_DEFAULT,
        }),
        Some(limit) if (1..=PAGE_ROWS_MAX).contains(&limit) => Ok(Page { after, limit }),
        Some(limit) => Err(Problem::invalid(format!("limit is 1 to {PAGE_ROWS_MAX}, not {limit}"))),
    }
}

/// The last piece of the path.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Id(id))
    }
}

/// `?live=true`: only what is live.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct LiveQuery {
    #[serde(default)]
    pub live: bool,
}

/// The query string.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Asked(query))
    }
}

/// A JSON answer.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
