//! Every route, once: who may call it, what it takes and gives. The router,
//! the guard before each handler and the OpenAPI description come from here.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

use super::caller::Remote;
use super::openapi::Shape;
use super::peer::Peer;
use super::problem::{Code, Problem};
use super::{Api, idempotency};
use crate::kernel::inventory::Role;

/// Who may call a route at all. What a caller sees or changes through it is
/// the handler's and policy's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum May {
    /// No proof is asked for.
    Anybody,
    /// Anybody who has proved an identity.
    Anyone,
    /// Who has one of these roles.
    Roles(&'static [Role]),
}

impl May {
    /// Whether a caller with `roles` may.
    pub fn admits(self, roles: &std::collections::BTreeSet<Role>) -> bool {
        match self {
            May::Anybody | May::Anyone => true,
            May::Roles(some) => some.iter().any(|role| roles.contains(role)),
        }
    }
}

/// One method of one path.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub may: May,
    /// One line for the description.
    pub summary: &'static str,
    /// Parameters of the query string, with their meaning.
    pub query: &'static [(&'static str, &'static str)],
    pub takes: Option<Shape>,
    pub gives: Option<Shape>,
    pub(super) handler: MethodRouter<Arc<Api>>,
}

impl Route {
    pub(super) fn new(method: Method, path: &'static str, may: May, handler: MethodRouter<Arc<Api>>) -> Route {
        Route {
            method,
            path,
            may,
            summary: "",
            query: &[],
            takes: None,
            gives: None,
            handler,
        }
    }

    pub(super) fn says(self, summary: &'static str) -> Route {
        Route { summary, ..self }
    }

    pub(super) fn query(self, query: &'static [(&'static str, &'static str)]) -> Route {
        Route { query, ..self }
    }

    pub(super) fn takes<T: utoipa::ToSchema>(self) -> Route {
        Route {
            takes: Some(Shape::of::<T>()),
            ..self
        }
    }

    pub(super) fn gives<T: utoipa::ToSchema>(self) -> Route {
        Route {
            gives: Some(Shape::of::<T>()),
            ..self
        }
    }
}

/// The router over `routes`: each handler behind its guard.
pub fn router(api: Arc<Api>, routes: Vec<Route>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let guard = Guard {
            api: api.clone(),
            may: route.may,
        };
        let guarded = route.handler.layer(middleware::from_fn_with_state(guard, check));
        router = router.route(route.path, guarded);
    }
    router
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed, "that route has other methods"))
        .fallback(async || Problem::new(Code::NotFound, "there is no such route"))
        .with_state(api)
}

#[derive(Clone)]
struct Guard {
    api: Arc<Api>,
    may: May,
}

/// Before every handler: how often, who, whether it may.
///
/// In a task of its own: a caller that hangs up must not stop a call between
/// an effect and its entry in the ledger, nor leave its idempotency key taken.
async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let answering = tokio::spawn(async move {
        match admitted(&guard, request).await {
            Ok((request, Some(key))) => idempotency::run(&guard.api, key, request, next).await,
            Ok((request, None)) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    });
    match answering.await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a call broke off");
            Problem::new(Code::Broken, "the call broke off inside the server").into_response()
        }
    }
}

async fn admitted(
    guard: &Guard,
    mut request: Request<Body>,
) -> Result<(Request<Body>, Option<idempotency::Key>), Problem> {
    let peer = request.extensions().get::<Peer>().cloned();
    let remote = request.extensions().get::<Remote>().copied();
    if guard.may == May::Anybody {
        if let Some(remote) = remote {
            guard.api.limits.stranger(remote.0)?;
        }
        return Ok((request, None));
    }
    let caller = guard.api.caller(peer.as_ref(), remote, request.headers()).await;
    let caller = match (caller, remote) {
        // Guessing tokens costs as much as knocking does.
        (Err(problem), Some(remote)) if problem.code == Code::Unauthenticated => {
            guard.api.limits.stranger(remote.0)?;
            return Err(problem);
        }
        (caller, _) => caller?,
    };
    if remote.is_some() {
        guard.api.limits.caller(caller.name())?;
    }
    if !guard.may.admits(caller.roles()) {
        let May::Roles(roles) = guard.may else {
            return Err(Problem::denied("this route is closed"));
        };
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        return Err(Problem::denied(format!(
            "{} has none of the roles that may do this: {}",
            caller.name(),
            names.join(", ")
        )));
    }
    let key = idempotency::Key::of(&request, caller.name())?;
    request.extensions_mut().insert(caller);
    Ok((request, key))
}
