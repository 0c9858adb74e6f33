//! Targets and identities: what is declared, and what of it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde_json::json;

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Body, Json};
use super::wire::inventory::{Applied, Apply, Change, Inventory, InventoryRow, What};
use super::wire::{Identities, IdentityAdded, IdentityRequest, IdentityView, TargetAdded, Targets, rfc3339};
use super::{Api, rules};
use crate::kernel::grant::Capability;
use crate::kernel::id::{IdentityName, TargetName};
use crate::kernel::inventory::{Identity, Reach, Target};
use crate::kernel::policy::facts::{Action, Facts, Whereto, Who};
use crate::kernel::route::Route;
use crate::store::RevocationScope;

/// Uses that count as recent, in ms (90 days).
pub const RECENT_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// `GET /v1/targets`. Who does not oversee sees what it may ask for.
pub async fn targets(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Targets>, Problem> {
    let mut targets = api.store.targets().await?;
    if !caller.oversees() {
        let who = caller.who()?;
        let policies = api.policies.now();
        targets.retain(|target| {
            let facts = may_ask(&api, who.clone(), target, caller.source());
            !target.disabled && policies.decide(&facts).allowed
        });
    }
    Ok(Json(Targets::new(targets)))
}

/// Whether somebody may ask for a target at all: for a shell, with everything
/// else in its favour that only the asking itself would tell.
fn may_ask(api: &Api, who: Who, target: &Target, source: Option<std::net::IpAddr>) -> Facts {
    let capabilities = match who.kind.is_accountable() {
        true => [Capability::Exec].into(),
        false => [Capability::Shell, Capability::Exec, Capability::Sftp].into(),
    };
    Facts {
        login: target.logins.first().map(ToString::to_string).unwrap_or_default(),
        for_ms: 60_000,
        capabilities,
        requested_by: Some(who.name.to_string()),
        ..api
            .policies
            .facts(Action::Request, who, Some(Whereto::from(target)), source)
    }
}

/// `POST /v1/targets`.
pub async fn add_target(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(target): Body<Target>,
) -> Result<Json<TargetAdded>, Problem> {
    api.check_target(&target).await?;
    let mut all = api.store.targets().await?;
    all.retain(|known| known.name != target.name);
    all.push(target.clone());
    routes(&all)?;
    if api.store.target(&target.name).await?.is_some() {
        return Err(
            Problem::new(Code::Exists, format!("target {} exists already", target.name))
                .hint("to change it: portcullis apply -f FILE"),
        );
    }
    // Entry before effect: an entry without effect misleads nobody, an
    // effect without an entry would.
    api.note_by("target", &target, &caller).await?;
    api.store.add_target(&target).await?;
    Ok(Json(TargetAdded::new(target)))
}

/// Whether a way leads to each target, whoever on it is disabled.
fn routes(all: &[Target]) -> Result<(), Problem> {
    let known: BTreeMap<&TargetName, &Target> = all.iter().map(|target| (&target.name, target)).collect();
    for target in all {
        Route::find(target.clone(), |name| known.get(name).copied().cloned())
            .map_err(|why| Problem::invalid(why.to_string()).hint("see `portcullis target list` for what is there"))?;
    }
    Ok(())
}

impl Api {
    /// The way to `target` by the inventory as it is.
    pub(super) async fn route(&self, target: Target) -> Result<Route, Problem> {
        let mut route = Route::to(target);
        while let Some(name) = route.wants().cloned() {
            let found = self.store.target(&name).await?;
            route.put(found).map_err(|why| Problem::denied(why.to_string()))?;
        }
        route.open().map_err(|why| Problem::denied(why.to_string()))?;
        Ok(route)
    }

    async fn check_target(&self, target: &Target) -> Result<(), Problem> {
        rules::target(target)?;
        if let Reach::Ssh { credential, .. } = &target.reach
            && let Some(source) = credential.source().filter(|source| !self.credentials.has(source))
        {
            return Err(
                Problem::invalid(format!("there is no credential source `{source}` here"))
                    .hint("whoever runs the server names it in the configuration as [[credential]], then reloads"),
            );
        }
        if let Reach::Local { run_as, .. } = &target.reach {
            let uid = uid_of(run_as.clone()).await?;
            if uid == super::peer::own().uid && !self.local_as_self {
                return Err(Problem::denied(format!(
                    "`{run_as}` is the server's own user: a command run as it could read the keys"
                ))
                .hint("name another account with --run-as"));
            }
        }
        Ok(())
    }
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

/// `GET /v1/identities`.
pub async fn identities(State(api): State<Arc<Api>>) -> Result<Json<Identities>, Problem> {
    let identities = api.store.identities().await?;
    Ok(Json(Identities::new(
        identities.into_iter().map(IdentityView::from).collect(),
    )))
}

/// `POST /v1/identities`.
pub async fn add_identity(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
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
        return Err(
            Problem::new(Code::Exists, format!("identity {} exists already", identity.name))
                .hint("to change it: portcullis apply -f FILE"),
        );
    }
    api.note_by("identity", &identity, &caller).await?;
    api.store.add_identity(&identity).await?;
    Ok(Json(IdentityAdded::new(identity.into())))
}

/// `POST /v1/inventory`: makes the inventory say what the file says. What the
/// file does not name stays as it is; nothing is deleted, only disabled.
pub async fn apply(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(file): Body<Apply>,
) -> Result<Json<Applied>, Problem> {
    let now = api.clock.now().wall_ms;
    let known_targets = by_name(api.store.targets().await?, |target| target.name.clone());
    let known = by_name(api.store.identities().await?, |identity| identity.name.clone());
    let mut changes = Vec::new();
    let mut over: Vec<RevocationScope> = Vec::new();
    let mut targets = Vec::new();
    let mut all = known_targets.clone();
    for target in file.targets {
        api.check_target(&target).await?;
        all.insert(target.name.clone(), target.clone());
        if target.disabled {
            over.push(RevocationScope::Target(target.name.clone()));
        }
        let before = known_targets.get(&target.name);
        if before != Some(&target) {
            changes.push(change(What::Target, target.name.as_str(), before, &target)?);
            targets.push(target);
        }
    }
    // Together: what is declared may lead over what is declared below it.
    routes(&all.into_values().collect::<Vec<_>>())?;
    let mut identities: Vec<Identity> = Vec::new();
    for request in file.identities {
        let disabled = request.disabled;
        let before = known.get(&request.identity.name);
        let mut identity = rules::identity(request.identity, now)?;
        identity.disabled = disabled;
        if disabled {
            over.push(RevocationScope::Identity(identity.name.clone()));
        }
        if let Some(before) = before
            && identity.review_by_ms.is_some()
            && identity.kind.is_accountable()
            && !request.review_given
        {
            // A default of "90 days from now" is not a change each time.
            identity.review_by_ms = before.review_by_ms;
        }
        if before != Some(&identity) {
            changes.push(change(What::Identity, identity.name.as_str(), before, &identity)?);
            identities.push(identity);
        }
    }
    let declared: BTreeSet<IdentityName> = identities.iter().map(|identity| identity.name.clone()).collect();
    for identity in &identities {
        let Some(owner) = &identity.owner else { continue };
        let name: IdentityName = owner
            .parse()
            .map_err(|error| Problem::invalid(format!("owner: {error}")))?;
        if !known.contains_key(&name) && !declared.contains(&name) {
            return Err(Problem::new(
                Code::NotFound,
                format!("the owner `{owner}` of {} is not an identity", identity.name),
            ));
        }
    }
    if !file.dry_run && !changes.is_empty() {
        api.note("inventory", &json!({ "by": caller.name(), "changes": changes }))
            .await?;
        api.store.put_inventory(&targets, &identities).await?;
        for identity in &identities {
            // A login does not outlive the key that proved it.
            let before = known.get(&identity.name);
            if before.is_some_and(|before| before.keys != identity.keys) {
                api.store.drop_tokens_of(&identity.name).await?;
            }
        }
    }
    if !file.dry_run {
        // Whatever is disabled has nothing, also where an earlier try broke off
        // between the two.
        for scope in over {
            api.end(&scope, caller.name(), "disabled in the inventory").await?;
        }
    }
    Ok(Json(Applied::new(file.dry_run, changes)))
}

fn by_name<T, N: Ord>(all: Vec<T>, name: impl Fn(&T) -> N) -> BTreeMap<N, T> {
    all.into_iter().map(|one| (name(&one), one)).collect()
}

/// What becomes different, key by key.
fn change<T: serde::Serialize>(what: What, name: &str, before: Option<&T>, after: &T) -> Result<Change, Problem> {
    let broken = |error: serde_json::Error| Problem::new(Code::Broken, error.to_string());
    let after = serde_json::to_value(after).map_err(broken)?;
    let before = before.map(serde_json::to_value).transpose().map_err(broken)?;
    let mut keys = BTreeMap::new();
    if let Some(fields) = after.as_object() {
        for (key, now) in fields {
            let was = before.as_ref().and_then(|before| before.get(key));
            if was != Some(now) {
                keys.insert(key.clone(), [was.cloned().unwrap_or_default(), now.clone()]);
            }
        }
    }
    Ok(Change {
        what,
        name: name.to_owned(),
        new: before.is_none(),
        keys,
    })
}

/// `GET /v1/inventory`: each identity with what it may reach and what it used;
/// those that need somebody's attention first.
pub async fn inventory(State(api): State<Arc<Api>>) -> Result<Json<Inventory>, Problem> {
    let now = api.clock.now().wall_ms;
    let identities = api.store.identities().await?;
    let targets = api.store.targets().await?;
    let mut used: BTreeMap<IdentityName, Vec<crate::store::UseRow>> = BTreeMap::new();
    for row in api.store.uses(None).await? {
        if row.last_ms.saturating_add(RECENT_MS) > now {
            used.entry(row.identity.clone()).or_default().push(row);
        }
    }
    // Identities times targets decisions: not on the threads that serve.
    let rows = tokio::task::spawn_blocking(move || {
        let policies = api.policies.now();
        let mut rows: Vec<(bool, InventoryRow)> = identities
            .into_iter()
            .map(|identity| {
                let reach: BTreeSet<TargetName> = targets
                    .iter()
                    .filter(|target| {
                        !target.disabled
                            && policies
                                .decide(&may_ask(&api, Who::from(&identity), target, None))
                                .allowed
                    })
                    .map(|target| target.name.clone())
                    .collect();
                let uses = used.get(&identity.name).map(Vec::as_slice).unwrap_or_default();
                (identity.may_hold(now).is_ok(), row(identity, reach, uses, now))
            })
            .collect();
        // Who may hold nothing, then who uses nothing, then the rest.
        rows.sort_by_key(|(may_hold, row)| (*may_hold, row.attention.is_empty(), row.identity.name.clone()));
        rows.into_iter().map(|(_, row)| row).collect::<Vec<InventoryRow>>()
    });
    let rows = rows
        .await
        .map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
    Ok(Json(Inventory::new(rows)))
}

fn row(identity: Identity, may_reach: BTreeSet<TargetName>, uses: &[crate::store::UseRow], now: u64) -> InventoryRow {
    let facet = |facet: &str| -> BTreeSet<String> {
        uses.iter()
            .filter(|row| row.facet == facet)
            .map(|row| row.value.clone())
            .collect()
    };
    let used_targets = facet("target");
    let used_capabilities = facet("capability");
    let mut attention = Vec::new();
    if let Err(why) = identity.may_hold(now) {
        attention.push(why.to_string());
    }
    if identity.kind.is_accountable() && identity.owner.is_none() {
        attention.push("nobody owns it".to_owned());
    }
    let last_ms = uses.iter().map(|row| row.last_ms).max();
    if last_ms.is_none() && !may_reach.is_empty() {
        attention.push("not used for 90 days".to_owned());
    }
    InventoryRow {
        never_targets: may_reach
            .iter()
            .filter(|name| !used_targets.contains(name.as_str()))
            .cloned()
            .collect(),
        never_capabilities: ["shell", "write", "forward"]
            .into_iter()
            .filter(|name| !used_capabilities.contains(*name))
            .map(str::to_owned)
            .collect(),
        may_reach: may_reach.into_iter().collect(),
        used_targets: used_targets.into_iter().collect(),
        used_capabilities: used_capabilities.into_iter().collect(),
        last_used: last_ms.map(rfc3339),
        attention,
        identity: identity.into(),
    }
}
