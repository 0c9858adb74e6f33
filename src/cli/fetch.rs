//! `fetch`: what ssh runs before a login (`Match exec`). Silent and quick if
//! a certificate is at hand or may be had at once; never asks anybody.

use std::fs::{File, TryLockError};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::Common;
use super::exit::{CliError, Exit};
use super::request::{ask, take};
use super::session::Session;
use crate::api::wire::access::{AccessRequestNew, ExplainRequest, Explained, RequestView, Requests, WhoAmI};
use crate::client::agent::Agent;
use crate::client::config::Places;
use crate::client::issued::InHand;
use crate::durable;
use crate::kernel::access::RequestState;
use crate::kernel::grant::{Capability, WallMs};
use crate::kernel::id::{Destination, IdentityName};
use crate::kernel::policy::facts::Action;

/// How long ssh is kept waiting at most.
const WITHIN: Duration = Duration::from_secs(20);
/// How often a fetch that waits for another one looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Mode of the folder of certificates.
const FOLDER_MODE: u32 = 0o700;
/// What is asked for where nobody has to say yes, in seconds, if policy gives as much.
const FOR_SECS: u64 = 30 * 60;
/// Why, in such a request.
const REASON: &str = "ssh";
const ALLOW: [Capability; 3] = [Capability::Shell, Capability::Exec, Capability::Sftp];

/// `fetch`'s arguments.
#[derive(Args, Debug)]
pub struct FetchArgs {
    /// Say nothing, whatever comes of it
    #[arg(long)]
    check: bool,
    /// What it has to lead to
    #[arg(value_name = "LOGIN@TARGET")]
    destination: Destination,
}

pub async fn run(common: &Common, args: &FetchArgs) -> Result<Exit, CliError> {
    let fetching = tokio::time::timeout(WITHIN, fetch(common, &args.destination));
    let failed = match fetching.await {
        Ok(Ok(true)) => return Ok(Exit::Ok),
        Ok(Ok(false)) => CliError::new(Exit::Failed, format!("you have no access to {} now", args.destination)).hint(
            format!("portcullis request {} --for 30m --reason TEXT", args.destination),
        ),
        Ok(Err(error)) => CliError {
            exit: Exit::Failed,
            ..error
        },
        Err(_) => CliError::failed("the server took too long to say whether you have access"),
    };
    match args.check {
        true => Ok(Exit::Failed),
        false => Err(failed),
    }
}

/// Whether a certificate is at hand afterwards.
async fn fetch(common: &Common, destination: &Destination) -> Result<bool, CliError> {
    let agent = Agent::from_env()?;
    let now = common.output().now;
    let places = Places::from_env()?;
    if at_hand(&places, destination, &agent, now).await? {
        return Ok(true);
    }
    let _alone = alone(&places, destination).await?;
    // Somebody else may have fetched it in the meantime.
    if at_hand(&places, destination, &agent, now).await? {
        return Ok(true);
    }
    let session = Session::logged_in(common).await?;
    let who: WhoAmI = session.client.get("/v1/whoami").await?;
    let Ok(me) = who.identity.parse::<IdentityName>() else {
        return Ok(false);
    };
    let path = format!("/v1/requests?state=approved&identity={me}");
    let approved: Requests = session.client.get(&path).await?;
    let mut of_use: Vec<&RequestView> = approved
        .requests
        .iter()
        .filter(|request| request.identity == me && request.destination == *destination && is_of_use(request, now))
        .collect();
    of_use.sort_by_key(|request| request.until.clone());
    let request = match of_use.pop() {
        Some(request) => request.clone(),
        None => match without_asking(&session, me, destination).await? {
            Some(request) => request,
            None => return Ok(false),
        },
    };
    take(&session, &request, &agent, false).await?;
    Ok(true)
}

/// Whether ssh can log in with what is there already.
async fn at_hand(places: &Places, destination: &Destination, agent: &Agent, now: WallMs) -> Result<bool, CliError> {
    match InHand::load(places, destination) {
        Some(pair) => Ok(pair.is_usable(agent, now).await?),
        None => Ok(false),
    }
}

/// Waits until nobody else fetches for this destination: a second certificate
/// of a grant ends the first one, which a login beside us may be using.
async fn alone(places: &Places, destination: &Destination) -> Result<File, CliError> {
    let path = places.certificates().join(format!("{destination}.lock"));
    let failed = |error: &dyn std::fmt::Display| CliError::failed(format!("cannot lock {}: {error}", path.display()));
    durable::create_dir_all(&places.certificates(), FOLDER_MODE).map_err(|error| failed(&error))?;
    let file = File::create(&path).map_err(|error| failed(&error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
}

/// Its window is open at `now`, it names no key, and its one session, if it
/// has but one, was not had.
fn is_of_use(request: &RequestView, now: WallMs) -> bool {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let ms = |time: &Option<String>| {
        let time = time.as_ref()?.parse::<Timestamp>().ok()?;
        Some(time.as_millisecond())
    };
    let open =
        matches!((ms(&request.from), ms(&request.until)), (Some(from), Some(until)) if from <= now && now < until);
    let used = request.single_use && request.grant.is_some();
    open && !used && request.public_key.is_none()
}

/// A request where the rules ask for nobody's yes and no fresh proof; else nothing.
async fn without_asking(
    session: &Session,
    me: IdentityName,
    destination: &Destination,
) -> Result<Option<RequestView>, CliError> {
    let asked = ExplainRequest {
        identity: me,
        action: Action::Request,
        destination: destination.clone(),
        source: None,
        at_ms: None,
        for_secs: FOR_SECS,
        allow: ALLOW.to_vec(),
        reason: REASON.to_owned(),
        ticket: None,
        command: None,
        subsystem: None,
        transfer: None,
        forward: None,
        place: None,
        undecided: false,
        terminal: false,
        risk: 0,
    };
    let said: Explained = session.client.post("/v1/explain", &asked).await?;
    let wants = &said.obligations;
    if !said.allowed || wants.approvals > 0 || !wants.approvers.is_empty() || wants.step_up_ms.is_some() {
        return Ok(None);
    }
    let new = AccessRequestNew {
        identity: None,
        destination: destination.clone(),
        for_secs: wants.max_ms.map_or(FOR_SECS, |ms| FOR_SECS.min(ms / 1000)),
        reason: REASON.to_owned(),
        ticket: None,
        allow: ALLOW.to_vec(),
        sources: Vec::new(),
        begins_ms: None,
        public_key: None,
        single_use: false,
        extends: None,
        device: None,
        location: None,
        proof: None,
    };
    let request = ask(session, &new).await?;
    Ok((request.state == RequestState::Approved).then_some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_fetch_at_a_time_for_a_destination() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let [db1, db2] = ["root@db1", "root@db2"].map(|name| name.parse().unwrap());
        let first = alone(&places, &db1).await.unwrap();
        let _other = alone(&places, &db2).await.unwrap();
        let second = alone(&places, &db1);
        tokio::pin!(second);
        let early = tokio::time::timeout(LOOK_AGAIN, &mut second).await;
        assert!(early.is_err(), "the first one still fetches");
        drop(first);
        second.await.unwrap();
    }
}
