//! Targets and identities.

use std::sync::Arc;

use axum::extract::State;

use super::problem::{Code, Problem};
use super::request::{Body, Json};
use super::wire::{Identities, IdentityAdded, IdentityRequest, IdentityView, TargetAdded, Targets};
use super::{Api, rules};
use crate::kernel::inventory::{Reach, Target};

pub async fn targets(State(api): State<Arc<Api>>) -> Result<Json<Targets>, Problem> {
    Ok(Json(Targets::new(api.store.targets().await?)))
}

pub async fn add_target(State(api): State<Arc<Api>>, Body(target): Body<Target>) -> Result<Json<TargetAdded>, Problem> {
    rules::target(&target)?;
    if let Reach::Local { run_as, .. } = &target.reach {
        let uid = uid_of(run_as.clone()).await?;
        if uid == super::peer::own().uid && !api.local_as_self {
            return Err(Problem::denied(format!(
                "`{run_as}` is the server's own user: a command run as it could read the keys"
            ))
            .hint("name another account with --run-as"));
        }
    }
    if api.store.target(&target.name).await?.is_some() {
        return Err(Problem::new(
            Code::Exists,
            format!("target {} exists already", target.name),
        ));
    }
    // Entry before effect: an entry without effect misleads nobody, an
    // effect without an entry would.
    api.note("target", &target).await?;
    api.store.add_target(&target).await?;
    Ok(Json(TargetAdded::new(target)))
}

/// The uid of a Unix account that exists.
async fn uid_of(name: String) -> Result<u32, Problem> {
    let asked = name.clone();
    let found = tokio::task::spawn_blocking(move || nix::unistd::User::from_name(&asked)).await;
    match found {
        Ok(Ok(Some(user))) => Ok(user.uid.as_raw()),
        Ok(Ok(None)) => Err(
            Problem::invalid(format!("there is no account `{name}` on this machine"))
                .hint(format!("make it with `useradd --system {name}`")),
        ),
        Ok(Err(error)) => Err(Problem::new(
            Code::Unavailable,
            format!("cannot look up the account `{name}`: {error}"),
        )),
        Err(error) => Err(Problem::new(Code::Broken, error.to_string())),
    }
}

pub async fn identities(State(api): State<Arc<Api>>) -> Result<Json<Identities>, Problem> {
    let identities = api.store.identities().await?;
    Ok(Json(Identities::new(
        identities.into_iter().map(IdentityView::from).collect(),
    )))
}

pub async fn add_identity(
    State(api): State<Arc<Api>>,
    Body(request): Body<IdentityRequest>,
) -> Result<Json<IdentityAdded>, Problem> {
    let identity = rules::identity(request, api.clock.now().wall_ms)?;
    if let Some(owner) = &identity.owner {
        let name = owner
            .parse()
            .map_err(|error| Problem::invalid(format!("owner: {error}")))?;
        if api.store.identity(&name).await?.is_none() {
            return Err(
                Problem::new(Code::NotFound, format!("the owner `{owner}` is not an identity"))
                    .hint(format!("add the owner first: portcullis identity add {owner}")),
            );
        }
    }
    if api.store.identity(&identity.name).await?.is_some() {
        return Err(Problem::new(
            Code::Exists,
            format!("identity {} exists already", identity.name),
        ));
    }
    api.note("identity", &identity).await?;
    api.store.add_identity(&identity).await?;
    Ok(Json(IdentityAdded::new(identity.into())))
}
