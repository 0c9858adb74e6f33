//! Signed webhooks in (Standard Webhooks): another system ends access, or
//! carries somebody's answer from a chat.

use std::sync::Arc;

use axum::body::Body as AxumBody;
use axum::extract::{Path, Request, State};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::Api;
use super::caller::Remote;
use super::problem::{Code, Problem};
use super::request::{Json, whole};
use super::wire::access::AnswerRequest;
use super::wire::{Nothing, RevokeRequest, What};
use crate::kernel::access::Verdict;
use crate::kernel::id::{IdentityName, RequestId};
use crate::notify::{SKEW_SECS_MAX, Secret};
use crate::store::Remembered;

/// A system that may call.
#[derive(Clone, PartialEq, Debug)]
pub struct Hook {
    pub name: String,
    pub secret: Secret,
    /// Ends access.
    pub may_revoke: bool,
    /// Carries answers of approvers, whom it vouches for.
    pub may_answer: bool,
}

/// `POST /v1/hooks/{name}`.
#[derive(Clone, PartialEq, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "action")]
pub enum Called {
    /// A job ended, an incident, an anomaly.
    Revoke {
        what: What,
        #[serde(default)]
        id: Option<String>,
        reason: String,
    },
    /// An approver's yes or no.
    Answer {
        request: RequestId,
        request_sha256: String,
        by: IdentityName,
        approve: bool,
        #[serde(default)]
        reason: String,
    },
}

/// `POST /v1/hooks/{name}`.
pub async fn call(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    request: Request<AxumBody>,
) -> Result<Json<Nothing>, Problem> {
    let refused = |why: &str| {
        tracing::info!(hook = name, why, "a webhook was not accepted");
        Problem::new(Code::Unauthenticated, "the webhook was not accepted")
    };
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(secs), Some(signature)) = (
        header("webhook-id"),
        header("webhook-timestamp").and_then(|text| text.parse::<u64>().ok()),
        header("webhook-signature"),
    ) else {
        return Err(refused("its headers are not those of a signed webhook"));
    };
    if id.len() > 128 || signature.len() > 1024 {
        return Err(refused("too large"));
    }
    let bytes = whole(body).await?;
    let hook = api.hooks.iter().find(|hook| hook.name == name);
    let hook = hook.ok_or_else(|| refused("no hook of that name"))?;
    if !hook.secret.verifies(id, secs, &bytes, signature) {
        return Err(refused("another signature"));
    }
    let now = api.clock.now().wall_ms;
    if (now / 1000).abs_diff(secs) > SKEW_SECS_MAX {
        return Err(refused("too old, or from the future"));
    }
    let called: Called = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::invalid(format!("the body is not what a hook takes: {error}")))?;
    let until = secs.saturating_add(2 * SKEW_SECS_MAX).saturating_mul(1000);
    // A message that is sent again because our answer got lost had its effect.
    let key = Sha256::digest(format!("hook {name} {id}")).into();
    match api
        .store
        .remember(key, Sha256::digest(&bytes).into(), now, until)
        .await?
    {
        Remembered::New => {}
        Remembered::Answered(_, _) => return Ok(Json(Nothing::default())),
        Remembered::Running => return Err(Problem::new(Code::Conflict, "the same message is still being seen to")),
        Remembered::Other => return Err(refused("its id was another message's")),
    }
    let remote = parts.extensions.get::<Remote>().copied();
    let done = api.called(hook, called, remote).await;
    api.store.keep_answer(key, done.is_ok().then_some((200, &[]))).await?;
    done?;
    Ok(Json(Nothing::default()))
}

impl Api {
    async fn called(&self, hook: &Hook, called: Called, remote: Option<Remote>) -> Result<(), Problem> {
        let may_not = |what: &str| Err(Problem::denied(format!("the hook {} may not {what}", hook.name)));
        match called {
            Called::Revoke { .. } if !hook.may_revoke => may_not("end access"),
            Called::Revoke { what, id, reason } => {
                super::rules::reason(&reason)?;
                let request = RevokeRequest { what, id, reason };
                let scope = self.scope(None, &request).await?;
                self.end(&scope, &format!("hook:{}", hook.name), &request.reason)
                    .await?;
                Ok(())
            }
            Called::Answer { .. } if !hook.may_answer => may_not("answer requests"),
            Called::Answer {
                request,
                request_sha256,
                by,
                approve,
                reason,
            } => {
                let caller = self.vouched(&by, &hook.name, remote).await?;
                let verdict = if approve { Verdict::Approve } else { Verdict::Deny };
                let given = AnswerRequest {
                    request_sha256,
                    reason,
                    proof: None,
                };
                self.answer(&caller, &request.to_string(), given, verdict).await?;
                Ok(())
            }
        }
    }
}
