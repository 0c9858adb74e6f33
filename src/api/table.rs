//! The table of routes: the one place where a route is made, with who may
//! call it.

use axum::http::Method;
use axum::routing::{get, post};

use super::routes::{May, Route};
use super::wire::access::*;
use super::wire::break_glass::{BreakGlassGrants, Installed, MadeReady, PrepareRequest};
use super::wire::inventory::{Applied, Apply, Inventory};
use super::wire::search::{Background, Found, IndexRequest, IndexView, SearchRequest};
use super::wire::*;
use super::{
    access, break_glass, collect, explain, grants, hooks, inventory, login, read, recordings, reviews, search, state,
};
use crate::break_glass::Prepared;
use crate::kernel::inventory::{Role, Target};

const ADMIN: May = May::Roles(&[Role::Admin]);
/// Who answers requests.
const ANSWERS: May = May::Roles(&[Role::Approver, Role::Admin]);
/// Who sees everything but what is in recordings.
const OVERSEES: May = May::Roles(&[Role::Admin, Role::Approver, Role::Auditor, Role::Investigator]);
/// Who reads recordings. Policy is asked besides.
const READS: May = May::Roles(&[Role::Investigator, Role::Admin]);
/// Who asks for access.
const ASKS: May = May::Roles(&[Role::User, Role::Machine, Role::Sponsor, Role::Admin]);

const LIVE: &[(&str, &str)] = &[("live", "Only those that are live")];

/// Every route.
pub fn table() -> Vec<Route> {
    let mut routes = Vec::new();
    routes.extend(people());
    routes.extend(requests());
    routes.extend(house());
    routes.extend(evidence());
    routes
}

/// Who calls.
fn people() -> Vec<Route> {
    vec![
        Route::new(
            Method::POST,
            "/v1/login/challenge",
            May::Anybody,
            post(login::challenge),
        )
        .says("A challenge to sign")
        .takes::<ChallengeRequest>()
        .gives::<Challenge>(),
        Route::new(Method::POST, "/v1/login", May::Anybody, post(login::login))
            .says("A token for a signed challenge")
            .takes::<LoginRequest>()
            .gives::<LoggedIn>(),
        Route::new(Method::POST, "/v1/logout", May::Anyone, post(login::logout))
            .says("End the token that was sent")
            .gives::<Nothing>(),
        Route::new(Method::GET, "/v1/whoami", May::Anyone, get(login::whoami))
            .says("Who the token speaks for, and where SSH is")
            .gives::<WhoAmI>(),
    ]
}

/// From a request to the end of its grant.
fn requests() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/requests", ASKS, post(access::make))
            .says("Ask for access")
            .takes::<AccessRequestNew>()
            .gives::<OneRequest>(),
        Route::new(Method::GET, "/v1/requests", May::Anyone, get(access::list))
            .says("Requests, newest first: all, or those that the caller is part of")
            .query(&[
                ("state", "pending, approved, denied, expired, withdrawn or revoked"),
                ("identity", "Who would hold the grant"),
                ("mine", "Only those that the caller made"),
                ("after", "The last id of the page before"),
                ("limit", "Most rows of a page"),
            ])
            .gives::<Requests>(),
        Route::new(Method::GET, "/v1/requests/{id}", May::Anyone, get(access::one))
            .says("One request")
            .gives::<OneRequest>(),
        Route::new(
            Method::POST,
            "/v1/requests/{id}/approve",
            ANSWERS,
            post(access::approve),
        )
        .says("Say yes to it, as it was seen")
        .takes::<AnswerRequest>()
        .gives::<OneRequest>(),
        Route::new(Method::POST, "/v1/requests/{id}/deny", ANSWERS, post(access::deny))
            .says("Say no to it, as it was seen")
            .takes::<AnswerRequest>()
            .gives::<OneRequest>(),
        Route::new(
            Method::POST,
            "/v1/requests/{id}/confirm",
            May::Anyone,
            post(access::confirm),
        )
        .says("Prove anew who runs the command that waits, as it was seen")
        .takes::<AnswerRequest>()
        .gives::<OneRequest>(),
        Route::new(
            Method::POST,
            "/v1/requests/{id}/withdraw",
            May::Anyone,
            post(access::withdraw),
        )
        .says("Take it back")
        .gives::<OneRequest>(),
        Route::new(
            Method::POST,
            "/v1/requests/{id}/collect",
            May::Anyone,
            post(collect::collect),
        )
        .says("The certificate of an approved one")
        .takes::<CollectRequest>()
        .gives::<Issued>(),
        Route::new(Method::GET, "/v1/grants", May::Anyone, get(grants::list))
            .says("Grants, newest first: all, or those that the caller is part of")
            .query(&[
                ("live", "Only those that admit now"),
                ("mine", "Only those that the caller holds"),
                ("after", "The last id of the page before"),
                ("limit", "Most rows of a page"),
            ])
            .gives::<Grants>(),
        Route::new(Method::POST, "/v1/grants", ADMIN, post(grants::issue))
            .says("Issue a grant and its certificate without a request")
            .takes::<IssueRequest>()
            .gives::<Issued>(),
        Route::new(
            Method::POST,
            "/v1/grants/{id}/revoke",
            May::Anyone,
            post(grants::revoke_one),
        )
        .says("End a grant and its sessions, at once")
        .takes::<ReasonRequest>()
        .gives::<Revoked>(),
        Route::new(Method::POST, "/v1/revoke", May::Anyone, post(grants::revoke))
            .says("End grants and sessions, at once")
            .takes::<RevokeRequest>()
            .gives::<Revoked>(),
        Route::new(Method::GET, "/v1/reviews", May::Anyone, get(reviews::list))
            .says("Looks back at sessions")
            .query(&[("open", "Only open ones")])
            .gives::<Reviews>(),
        Route::new(Method::POST, "/v1/reviews/{id}/close", ANSWERS, post(reviews::close))
            .says("Close one, by somebody else than who is reviewed")
            .takes::<CloseReview>()
            .gives::<OneReview>(),
        Route::new(
            Method::POST,
            "/v1/break-glass/prepare",
            ADMIN,
            post(break_glass::prepare),
        )
        .says("Make a break-glass grant ready, for others to sign")
        .takes::<PrepareRequest>()
        .gives::<MadeReady>(),
        Route::new(Method::POST, "/v1/break-glass", ADMIN, post(break_glass::install))
            .says("Put a signed break-glass grant in force")
            .takes::<Prepared>()
            .gives::<Installed>(),
        Route::new(Method::GET, "/v1/break-glass", OVERSEES, get(break_glass::list))
            .says("Break-glass grants, and what became of them")
            .gives::<BreakGlassGrants>(),
        Route::new(Method::POST, "/v1/hooks/{name}", May::Anybody, post(hooks::call))
            .says("A signed webhook: ends access, or carries an answer")
            .takes::<hooks::Called>()
            .gives::<Nothing>(),
    ]
}

/// What is declared, and what policy says of it.
fn house() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/targets", May::Anyone, get(inventory::targets))
            .says("Targets: all, or those that the caller may ask for")
            .gives::<Targets>(),
        Route::new(Method::POST, "/v1/targets", ADMIN, post(inventory::add_target))
            .says("Add a target")
            .takes::<Target>()
            .gives::<TargetAdded>(),
        Route::new(Method::GET, "/v1/identities", OVERSEES, get(inventory::identities))
            .says("Identities")
            .gives::<Identities>(),
        Route::new(Method::POST, "/v1/identities", ADMIN, post(inventory::add_identity))
            .says("Add an identity")
            .takes::<IdentityRequest>()
            .gives::<IdentityAdded>(),
        Route::new(Method::GET, "/v1/inventory", OVERSEES, get(inventory::inventory))
            .says("Each identity with what it may reach and what it used")
            .gives::<Inventory>(),
        Route::new(Method::POST, "/v1/inventory", ADMIN, post(inventory::apply))
            .says("Make the inventory say what a file says")
            .takes::<Apply>()
            .gives::<Applied>(),
        Route::new(Method::POST, "/v1/explain", May::Anyone, post(explain::explain))
            .says("Who may do what, and which rule says so, without doing it")
            .takes::<ExplainRequest>()
            .gives::<Explained>(),
        Route::new(Method::GET, "/v1/policies", OVERSEES, get(explain::policies))
            .says("The policies in force")
            .gives::<PoliciesInForce>(),
        Route::new(Method::GET, "/v1/decisions", OVERSEES, get(explain::decisions))
            .says("What was asked and how it was decided, newest first")
            .query(&[("since", "Milliseconds since the epoch")])
            .gives::<Decisions>(),
        Route::new(Method::GET, "/v1/anomalies", OVERSEES, get(reviews::anomalies))
            .says("What was unusual, newest first")
            .gives::<Anomalies>(),
        Route::new(Method::GET, "/v1/trust", May::Anyone, get(state::trust)).says("What a verifier needs"),
        Route::new(Method::GET, "/v1/health", May::Anyone, get(state::health))
            .says("Whether it can do its work")
            .gives::<Health>(),
        Route::new(Method::GET, "/healthz", May::Anybody, get(state::healthz)).says("Whether it is alive"),
        Route::new(Method::GET, "/metrics", OVERSEES, get(state::metrics)).says("Counters, as OpenMetrics"),
        Route::new(Method::GET, "/openapi.json", May::Anybody, get(state::openapi)).says("This description"),
    ]
}

/// What happened.
fn evidence() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/sessions", May::Anyone, get(read::sessions))
            .says("Sessions, newest first: all, or those that the caller is part of")
            .query(LIVE)
            .gives::<Sessions>(),
        Route::new(Method::GET, "/v1/sessions/{id}", May::Anyone, get(read::session))
            .says("One session")
            .gives::<OneSession>(),
        Route::new(
            Method::GET,
            "/v1/sessions/{id}/statements",
            OVERSEES,
            get(recordings::statements),
        )
        .says("Every leaf about it, each with its proof")
        .gives::<Statements>(),
        Route::new(Method::GET, "/v1/recordings", OVERSEES, get(read::recordings))
            .says("Recordings, newest first")
            .gives::<Recordings>(),
        Route::new(
            Method::GET,
            "/v1/sessions/{id}/background",
            READS,
            get(search::background),
        )
        .says("What the server knows around it: grant, request, what was unusual, what was done for the first time")
        .gives::<Background>(),
        Route::new(Method::POST, "/v1/recordings/search", READS, post(search::search))
            .says("Search commands, files, screens and sessions of all recordings that the caller may read")
            .takes::<SearchRequest>()
            .gives::<Found>(),
        Route::new(Method::GET, "/v1/recordings/index", OVERSEES, get(search::index))
            .says("How the index over recordings stands")
            .gives::<IndexView>(),
        Route::new(Method::POST, "/v1/recordings/index", ADMIN, post(search::rebuild))
            .says("Make the index over recordings anew, from them")
            .takes::<IndexRequest>()
            .gives::<IndexView>(),
        Route::new(Method::POST, "/v1/recordings/expire", ADMIN, post(recordings::expire))
            .says("Delete those whose time is over")
            .takes::<ExpireRequest>()
            .gives::<Expired>(),
        Route::new(Method::POST, "/v1/recordings/{id}/hold", READS, post(recordings::hold))
            .says("Keep it from deletion")
            .takes::<ReasonRequest>()
            .gives::<Noted>(),
        Route::new(
            Method::POST,
            "/v1/recordings/{id}/release",
            READS,
            post(recordings::release),
        )
        .says("No longer keep it from deletion")
        .takes::<ReasonRequest>()
        .gives::<Noted>(),
        Route::new(
            Method::POST,
            "/v1/recordings/{id}/shred",
            ADMIN,
            post(recordings::shred),
        )
        .says("Destroy the key to its content")
        .takes::<ReasonRequest>()
        .gives::<Noted>(),
        Route::new(Method::POST, "/v1/recordings/{id}/read", READS, post(recordings::read))
            .says("Say that somebody reads it, before he does")
            .takes::<ReadRequest>()
            .gives::<Statements>(),
    ]
}
