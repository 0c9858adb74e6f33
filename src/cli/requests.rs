//! `requests`, `approve`, `deny`, `confirm`, `withdraw`: what was asked for.

use clap::Args;

use super::exit::{CliError, Exit};
use super::session::{Session, fingerprint};
use super::{Common, output, target};
use crate::api::wire::access::{AnswerRequest, AnswerView, ChallengeFor, OneRequest, RequestView, Requests};
use crate::kernel::access::{RequestState, Verdict};
use crate::kernel::policy::obligations::Obligations;

/// `requests`' arguments.
#[derive(Args, Debug)]
pub struct RequestsArgs {
    /// Only those that are pending, approved, denied, expired, withdrawn or revoked
    #[arg(long, value_name = "STATE", conflicts_with = "id")]
    only: Option<RequestState>,
    /// Only those that you made
    #[arg(long, conflicts_with = "id")]
    mine: bool,
    /// This one, with everything that is known of it
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// `approve`'s arguments.
#[derive(Args, Debug)]
pub struct ApproveArgs {
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    /// The request
    #[arg(value_name = "ID")]
    id: String,
}

/// `deny`'s arguments.
#[derive(Args, Debug)]
pub struct DenyArgs {
    /// Why; who asked reads it, and it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The request
    #[arg(value_name = "ID")]
    id: String,
}

/// `confirm`'s arguments.
#[derive(Args, Debug)]
pub struct ConfirmArgs {
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    /// The request that your terminal names
    #[arg(value_name = "ID")]
    id: String,
}

/// `withdraw`'s arguments.
#[derive(Args, Debug)]
pub struct WithdrawArgs {
    /// The request
    #[arg(value_name = "ID")]
    id: String,
}

pub async fn run(common: &Common, args: &RequestsArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    if let Some(id) = &args.id {
        let one: OneRequest = session.client.get(&format!("/v1/requests/{id}")).await?;
        session.output.data(&one, || text(&session.output, &one.request))?;
        return Ok(Exit::Ok);
    }
    let mut query: Vec<String> = Vec::new();
    query.extend(args.only.map(|state| format!("state={}", state.as_str())));
    query.extend(args.mine.then(|| "mine=true".to_owned()));
    let path = match query.is_empty() {
        true => "/v1/requests".to_owned(),
        false => format!("/v1/requests?{}", query.join("&")),
    };
    let answer: Requests = session.client.get(&path).await?;
    session.output.data(&answer, || {
        let rows: Vec<Vec<String>> = answer
            .requests
            .iter()
            .map(|request| row(&session.output, request))
            .collect();
        let heads = [
            "REQUEST",
            "STATE",
            "IDENTITY",
            "DESTINATION",
            "FOR",
            "MADE",
            "BY",
            "REASON",
        ];
        output::table(&heads, &rows)
    })?;
    if answer.requests.is_empty() {
        session.output.say("No requests.");
    }
    if answer.next.is_some() {
        session
            .output
            .say("There are more, older ones: narrow it down with --only or --mine.");
    }
    Ok(Exit::Ok)
}

fn row(output: &output::Output, request: &RequestView) -> Vec<String> {
    vec![
        request.id.to_string().chars().take(8).collect(),
        request.state.as_str().to_owned(),
        request.identity.to_string(),
        request.destination.to_string(),
        length(request.for_secs),
        output.ago(&request.made),
        request.requested_by.clone(),
        request.reason.clone(),
    ]
}

/// Seconds as people type them.
fn length(secs: u64) -> String {
    let parts = [(secs / 3600, 'h'), (secs / 60 % 60, 'm'), (secs % 60, 's')];
    let text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    match text.is_empty() {
        true => "0s".to_owned(),
        false => text,
    }
}

/// Everything that somebody who answers has to know, one line each.
fn text(output: &output::Output, request: &RequestView) -> String {
    let list = |items: Vec<String>| match items.is_empty() {
        true => "any".to_owned(),
        false => items.join(", "),
    };
    let mut lines: Vec<(&str, String)> = vec![
        ("request", request.id.to_string()),
        ("state", request.state.as_str().to_owned()),
        ("who", request.identity.to_string()),
        ("asked by", request.requested_by.clone()),
        ("what", request.destination.to_string()),
        ("how long", length(request.for_secs)),
        ("why", request.reason.clone()),
    ];
    lines.extend(request.ticket.iter().map(|ticket| ("ticket", ticket.clone())));
    lines.push(("allows", list(request.allow.iter().map(ToString::to_string).collect())));
    lines.push(("from", list(request.sources.iter().map(ToString::to_string).collect())));
    lines.extend(request.begins.iter().map(|begins| ("begins", output.time(begins))));
    lines.extend(request.public_key.iter().map(|key| ("key", fingerprint(key))));
    lines.extend(request.connects.iter().map(|grant| match request.runs {
        Some(_) => ("a command waits, under", grant.to_string()),
        None => ("a connection waits, under", grant.to_string()),
    }));
    lines.extend(
        request
            .runs
            .iter()
            .map(|command| ("command", command.escape_debug().to_string())),
    );
    if request.undecided {
        let doubt = "the command could not be read for certain: what runs may be another";
        lines.push(("doubt", doubt.to_owned()));
    }
    lines.extend(request.extends.iter().map(|grant| ("prolongs", grant.to_string())));
    if request.single_use {
        lines.push(("sessions", "one".to_owned()));
    }
    lines.push(("policy", demands(&request.obligations)));
    match request.state {
        RequestState::Pending => {
            lines.extend(missing(request).map(|missing| ("missing", missing)));
            lines.push(("until", output.time(&request.answer_by)));
        }
        RequestState::Approved | RequestState::Revoked => {
            let window = [&request.from, &request.until].map(|time| output.time(time.as_deref().unwrap_or("?")));
            lines.push(("window", window.join(" to ")));
        }
        RequestState::Denied | RequestState::Expired | RequestState::Withdrawn => {}
    }
    lines.extend(request.answers.iter().map(|answer| ("answer", said(answer))));
    lines.extend(request.grant.iter().map(|grant| ("grant", grant.to_string())));
    lines
        .iter()
        // A text of somebody else does not make lines of its own.
        .map(|(name, value)| format!("{name:<9} {}\n", output::clean(&value.replace('\n', " "), usize::MAX)))
        .collect()
}

/// What a pending one waits for, if anything.
fn missing(request: &RequestView) -> Option<String> {
    let yes = (request.missing > 0).then(|| format!("{} more yes", request.missing));
    let proof = request
        .unconfirmed
        .then(|| format!("a fresh proof of {}", request.identity));
    let words: Vec<String> = yes.into_iter().chain(proof).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn said(answer: &AnswerView) -> String {
    let verdict = match answer.verdict {
        Verdict::Approve => "yes",
        Verdict::Deny => "no",
        Verdict::Confirm => "confirmed",
    };
    let why = match answer.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", answer.reason),
    };
    format!("{verdict} by {} ({}){why}", answer.by, answer.method)
}

/// What the rules that allow it demand, in words.
fn demands(obligations: &Obligations) -> String {
    let mut words: Vec<String> = Vec::new();
    match obligations.approvals {
        0 => words.push("nobody's yes".to_owned()),
        1 => words.push("one person's yes".to_owned()),
        more => words.push(format!("the yes of {more} people")),
    }
    words.extend(obligations.approvers.iter().map(|group| format!("one of {group}")));
    words.extend(obligations.max_ms.map(|ms| format!("at most {}", length(ms / 1000))));
    words.extend(obligations.step_up_ms.map(|_| "a fresh proof".to_owned()));
    words.extend(obligations.review.then(|| "a review afterwards".to_owned()));
    words.extend(obligations.single_use.then(|| "one session".to_owned()));
    words.join(", ")
}

pub async fn approve(common: &Common, args: &ApproveArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let seen: OneRequest = session.client.get(&format!("/v1/requests/{}", args.id)).await?;
    session.output.say(text(&session.output, &seen.request).trim_end());
    if !args.yes {
        let question = format!(
            "Approve {} for {}? (yes/no) ",
            seen.request.destination, seen.request.identity
        );
        if !target::ask(
            &question,
            "look at it with `portcullis requests ID`, then approve with --yes",
        )? {
            return Err(CliError::failed("nothing was done"));
        }
    }
    answer(&session, &seen.request, "approve", &args.reason).await
}

pub async fn deny(common: &Common, args: &DenyArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let seen: OneRequest = session.client.get(&format!("/v1/requests/{}", args.id)).await?;
    answer(&session, &seen.request, "deny", &args.reason).await
}

/// Answers what was seen, and nothing that changed since.
async fn answer(session: &Session, seen: &RequestView, verb: &str, reason: &str) -> Result<Exit, CliError> {
    let path = format!("/v1/requests/{}/{verb}", seen.id);
    let purpose = match verb {
        "confirm" => ChallengeFor::Confirm(seen.id),
        _ => ChallengeFor::Answer(seen.id),
    };
    let one: OneRequest = session
        .proving(purpose, async |proof| {
            let answer = AnswerRequest {
                request_sha256: seen.sha256.clone(),
                reason: reason.to_owned(),
                proof,
            };
            session.client.post(&path, &answer).await
        })
        .await?;
    tell(session, &one)
}

pub async fn confirm(common: &Common, args: &ConfirmArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let seen: OneRequest = session.client.get(&format!("/v1/requests/{}", args.id)).await?;
    session.output.say(text(&session.output, &seen.request).trim_end());
    if !args.yes {
        let question = format!("Did you give this command, at {}? (yes/no) ", seen.request.destination);
        if !target::ask(
            &question,
            "look at it with `portcullis requests ID`, then confirm with --yes",
        )? {
            return Err(CliError::failed(
                "nothing was done; if it is not yours, end it: portcullis withdraw ID",
            ));
        }
    }
    answer(&session, &seen.request, "confirm", "").await
}

pub async fn withdraw(common: &Common, args: &WithdrawArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let path = format!("/v1/requests/{}/withdraw", args.id);
    let one: OneRequest = session.client.post(&path, &serde_json::json!({})).await?;
    tell(&session, &one)
}

fn tell(session: &Session, one: &OneRequest) -> Result<Exit, CliError> {
    let request = &one.request;
    session
        .output
        .data(one, || format!("{} {}\n", request.id, request.state.as_str()))?;
    if let Some(missing) = missing(request) {
        session.output.say(format!("Still missing: {missing}."));
    }
    Ok(Exit::Ok)
}
