//! `recordings summary`, `report` and `background`: sessions on one page, made
//! of their verified recordings, with what only the server knows beside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use portcullis_player::keyring::Keyring;
use portcullis_player::source::{Cursor, Source};
use portcullis_player::summary::{Known, Summary, text};
use portcullis_player::verdict::{Ask, examine};
use portcullis_player::visit::{self, Whole};
use portcullis_player::{Failure, sheet};

use super::exit::{CliError, Exit};
use super::recordings::{find, tell};
use super::sessions::path_piece;
use super::{Session, evidence, output};
use crate::api::wire::search::Background;
use crate::api::wire::{Purpose, RecordingView, SessionView, Sessions};
use crate::kernel::access::Verdict;

/// Sessions of one report.
const SESSIONS_MAX: usize = 200;
/// Characters of a value that comes from the server.
const VALUE_CHARS_MAX: usize = 1024;

/// What both take.
#[derive(Args, Debug)]
pub struct PageArgs {
    /// Write it as a page of its own; refuses to overwrite
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT", default_value = "summary")]
    reason: String,
    /// An age identity file that opens encrypted content; may be repeated
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
}

/// `recordings summary …`
#[derive(Args, Debug)]
pub struct SummaryArgs {
    /// Its session's id, or enough of its start
    #[arg(value_name = "SESSION")]
    id: String,
    #[command(flatten)]
    page: PageArgs,
}

/// `recordings report …`
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The grant's id, or enough of its start
    #[arg(long, value_name = "ID")]
    grant: String,
    #[command(flatten)]
    page: PageArgs,
}

/// `recordings background …`
#[derive(Args, Debug)]
pub struct BackgroundArgs {
    /// Its session's id, or enough of its start
    #[arg(value_name = "SESSION", required_unless_present = "grant", conflicts_with = "grant")]
    id: Option<String>,
    /// Of all recorded sessions under a grant: its id, or enough of its start
    #[arg(long, value_name = "ID")]
    grant: Option<String>,
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT", default_value = "background")]
    reason: String,
}

pub async fn one(session: &Session, args: &SummaryArgs) -> Result<Exit, CliError> {
    let summary = read(session, &args.id, &args.page).await?;
    let title = summary.title();
    if let Some(path) = &args.page.html {
        write(path, &title, &[], &[summary])?;
        return Ok(Exit::Ok);
    }
    session.output.data(&summary, || text(&summary))?;
    Ok(Exit::Ok)
}

/// What the sessions under one grant are called, and they; oldest first: as the visit went.
async fn under(session: &Session, grant: &str) -> Result<(String, Vec<SessionView>), CliError> {
    let prefix = path_piece(grant)?;
    let all: Sessions = session.client.get("/v1/sessions").await?;
    let mut under: Vec<SessionView> = all.sessions;
    under.retain(|row| row.grant.to_string().starts_with(prefix));
    under.reverse();
    let Some(first) = under.first() else {
        return Err(CliError::new(
            Exit::NotFound,
            format!("there is no session under a grant that starts with {prefix}"),
        )
        .hint("`portcullis grants` lists grants"));
    };
    if under.iter().any(|row| row.grant != first.grant) {
        return Err(CliError::usage(format!(
            "several grants start with {prefix}: give more digits"
        )));
    }
    if under.len() > SESSIONS_MAX {
        return Err(CliError::failed(format!(
            "{} sessions under that grant, a report holds {SESSIONS_MAX}",
            under.len()
        )));
    }
    let heading = format!(
        "{} at {} under grant {}",
        first.identity, first.destination, first.grant
    );
    Ok((heading, under))
}

pub async fn report(session: &Session, args: &ReportArgs) -> Result<Exit, CliError> {
    let (heading, under) = under(session, &args.grant).await?;
    let (mut summaries, mut missing) = (Vec::new(), Vec::new());
    for row in &under {
        match read(session, &row.id.to_string(), &args.page).await {
            Ok(summary) => summaries.push(summary),
            // A session that runs, or whose recording was deleted, is named.
            Err(error) => missing.push(format!("{} from {}: {}", row.id, row.started, error.message)),
        }
    }
    let whole = Whole::of(&summaries, under.len(), &missing);
    match &args.page.html {
        Some(path) => write(path, &heading, &whole.facts, &summaries)?,
        None => session.output.data(&whole, || visit::words(&heading, &whole))?,
    }
    Ok(match missing.is_empty() {
        true => Exit::Ok,
        false => Exit::Failed,
    })
}

/// What only the server knows of sessions, for whoever reads their recordings elsewhere.
pub async fn background(session: &Session, args: &BackgroundArgs) -> Result<Exit, CliError> {
    let ids: Vec<String> = match (&args.id, &args.grant) {
        (Some(id), _) => vec![id.clone()],
        (None, Some(grant)) => {
            let (_, under) = under(session, grant).await?;
            under.iter().map(|row| row.id.to_string()).collect()
        }
        (None, None) => return Err(CliError::usage("give a session, or --grant ID".to_owned())),
    };
    let mut sessions = std::collections::BTreeMap::new();
    for id in &ids {
        let row = match find(session, id).await {
            // One that runs has no recording yet.
            Err(error) if args.grant.is_some() => {
                session.output.say(format!("{id}: {}", error.message));
                continue;
            }
            found => found?,
        };
        tell(session, &row, Purpose::Replay, &args.reason, None).await?;
        sessions.insert(row.session.to_string(), known(ask(session, &row).await?));
    }
    let told = portcullis_player::background::Background::new(sessions);
    let text = serde_json::to_string(&told).map_err(|error| CliError::failed(error.to_string()))?;
    session.output.data(&told, || text + "\n")?;
    Ok(Exit::Ok)
}

async fn ask(session: &Session, row: &RecordingView) -> Result<Background, CliError> {
    let path = format!("/v1/sessions/{}/background", row.session);
    Ok(session.client.get(&path).await?)
}

fn write(path: &Path, title: &str, facts: &[(String, String)], summaries: &[Summary]) -> Result<(), CliError> {
    let mut page = Vec::new();
    sheet::write(title, facts, summaries, &mut page).map_err(failed)?;
    evidence::write_new(path, &page).map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
}

fn failed(failure: Failure) -> CliError {
    let exit = match failure.exit {
        portcullis_player::Exit::Invalid => Exit::Invalid,
        portcullis_player::Exit::Unproved => Exit::Unknown,
        portcullis_player::Exit::NotFound => Exit::NotFound,
        portcullis_player::Exit::Ok
        | portcullis_player::Exit::Failed
        | portcullis_player::Exit::Usage
        | portcullis_player::Exit::Recovered
        | portcullis_player::Exit::Prefix
        | portcullis_player::Exit::Redacted => Exit::Failed,
    };
    let error = CliError::new(exit, failure.message);
    match failure.hint.is_empty() {
        true => error,
        false => error.hint(failure.hint),
    }
}

/// Reads one, when the ledger knows of it.
async fn read(session: &Session, id: &str, page: &PageArgs) -> Result<Summary, CliError> {
    // The file is on the server's machine: asked before the ledger says that it was read.
    let trust = session.config()?.layout.trust();
    let row = find(session, id).await?;
    tell(session, &row, Purpose::Replay, &page.reason, None).await?;
    let background = ask(session, &row).await?;
    let keyring = Keyring::read(&page.identities, &[]).map_err(failed)?;
    let asked = Ask {
        file: row.path.into(),
        trust: Some(trust),
        keyring: Arc::new(keyring),
        ..Ask::default()
    };
    let summary = tokio::task::spawn_blocking(move || summary(&asked))
        .await
        .map_err(|error| CliError::failed(error.to_string()))??;
    Ok(summary.with(known(background)))
}

fn summary(asked: &Ask) -> Result<Summary, CliError> {
    let examined = examine(asked).map_err(failed)?;
    let report = examined.report;
    if let Some(encryption) = report.encryption.as_ref().filter(|encryption| !encryption.opened) {
        let locked = format!("its content is {}", encryption.words());
        return Err(CliError::new(Exit::Unknown, locked).hint("give --identity FILE, where the key is"));
    }
    let Some(source @ Source::Verified(_)) = examined.source else {
        return Err(CliError::new(Exit::Invalid, report.verdict)
            .hint("`portcullis verify` says more; nothing of it is shown as if it were true"));
    };
    let standing = report.verdict.clone();
    Summary::read(&report, &standing, &mut Cursor::new(source)).map_err(|fault| failed(fault.into()))
}

fn known(background: Background) -> Known {
    let mut facts = Vec::new();
    let mut say = |name: &str, value: String| facts.push((name.to_owned(), output::clean(&value, VALUE_CHARS_MAX)));
    if let Some(grant) = &background.grant {
        say("why", grant.reason.clone());
        let capabilities: Vec<String> = grant.capabilities.iter().map(ToString::to_string).collect();
        say("allowed", capabilities.join(", "));
        say(
            "granted",
            format!("{} to {} by {}", grant.from, grant.until, grant.issued_by),
        );
        if let Some(why) = &grant.revoked_why {
            say(
                "revoked",
                format!("{}: {why}", grant.revoked_at.as_deref().unwrap_or("-")),
            );
        }
    }
    if let Some(request) = &background.request {
        if let Some(ticket) = &request.ticket {
            say("ticket", ticket.clone());
        }
        say("asked by", format!("{}, {}", request.requested_by, request.made));
        for answer in &request.answers {
            let word = match answer.verdict {
                Verdict::Approve => "approved by",
                Verdict::Deny => "denied by",
                Verdict::Confirm => "confirmed by",
            };
            say(word, format!("{}, {}: {}", answer.by, answer.at, answer.reason));
        }
    }
    let unusual: Vec<String> = background
        .anomalies
        .iter()
        .map(|one| output::clean(&format!("{} ({})", one.detail, one.kind), VALUE_CHARS_MAX))
        .collect();
    let risk = background.anomalies.iter().map(|one| u64::from(one.risk)).sum::<u64>();
    Known {
        facts,
        risk: risk.min(100),
        unusual,
        earlier: background.firsts.earlier,
        earlier_unread: background.firsts.unread,
        firsts_complete: background.firsts.complete,
        first_labels: background.firsts.labels,
        first_programs: background.firsts.programs,
    }
}
