//! `recordings summary` and `recordings report`: sessions on one page, made
//! of their verified recordings, with what only the server knows beside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use portcullis_player::keyring::Keyring;
use portcullis_player::source::{Cursor, Source};
use portcullis_player::summary::{Known, Summary, text};
use portcullis_player::verdict::{Ask, examine};
use portcullis_player::{Failure, sheet};
use serde::Serialize;

use super::exit::{CliError, Exit};
use super::recordings::{find, tell};
use super::sessions::path_piece;
use super::{Session, evidence, output};
use crate::api::wire::search::Background;
use crate::api::wire::{Purpose, SCHEMA, SessionView, Sessions};
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

/// Several sessions, as `--json` prints them.
#[derive(Serialize)]
struct Report<'r> {
    schema: u32,
    /// What is said of all of them, name and value.
    facts: &'r [(String, String)],
    summaries: &'r [Summary],
}

pub async fn one(session: &Session, args: &SummaryArgs) -> Result<Exit, CliError> {
    let (summary, _) = read(session, &args.id, &args.page).await?;
    let title = title(&summary);
    if let Some(path) = &args.page.html {
        write(path, &title, &[], &[summary])?;
        return Ok(Exit::Ok);
    }
    session.output.data(&summary, || text(&summary))?;
    Ok(Exit::Ok)
}

pub async fn report(session: &Session, args: &ReportArgs) -> Result<Exit, CliError> {
    let prefix = path_piece(&args.grant)?;
    let all: Sessions = session.client.get("/v1/sessions").await?;
    let mut under: Vec<SessionView> = all.sessions;
    under.retain(|row| row.grant.to_string().starts_with(prefix));
    // Oldest first: as the visit went.
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
    let (mut summaries, mut missing) = (Vec::new(), Vec::new());
    let mut facts = Vec::new();
    for row in &under {
        match read(session, &row.id.to_string(), &args.page).await {
            Ok((summary, known)) => {
                if facts.is_empty() {
                    facts = known;
                }
                summaries.push(summary);
            }
            // A session that runs, or whose recording was deleted, is named.
            Err(error) => missing.push(format!("{} from {}: {}", row.id, row.started, error.message)),
        }
    }
    facts.splice(0..0, totals(&summaries));
    let count = format!("{}, of {} under the grant", summaries.len(), under.len());
    facts.insert(0, ("sessions".to_owned(), count));
    facts.extend(missing.iter().map(|why| ("not here".to_owned(), why.clone())));
    if let Some(path) = &args.page.html {
        write(path, &heading, &facts, &summaries)?;
    } else {
        let whole = Report {
            schema: SCHEMA,
            facts: &facts,
            summaries: &summaries,
        };
        session.output.data(&whole, || {
            let mut said = format!("{heading}\n\n");
            for (name, value) in &facts {
                said += &format!("{name:<13} {}\n", output::clean(value, VALUE_CHARS_MAX));
            }
            for summary in &summaries {
                said += &format!("\n== {}\n{}", title(summary), text(summary));
            }
            said
        })?;
    }
    Ok(match missing.is_empty() {
        true => Exit::Ok,
        false => Exit::Failed,
    })
}

/// Sums over all sessions.
fn totals(summaries: &[Summary]) -> Vec<(String, String)> {
    let sum = |of: &dyn Fn(&Summary) -> u64| summaries.iter().map(of).fold(0u64, u64::saturating_add);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut labels = std::collections::BTreeMap::new();
    for (label, n) in summaries.iter().flat_map(|summary| &summary.commands.labels) {
        let total: &mut u64 = labels.entry(label.as_str()).or_default();
        *total = total.saturating_add(*n);
    }
    let labels: Vec<String> = labels.iter().map(|(label, n)| format!("{label} {n}")).collect();
    let files = format!(
        "{} up ({} bytes), {} down ({} bytes), {} changed, {} refused",
        sum(&|one| one.files.uploads),
        sum(&|one| one.files.upload_bytes),
        sum(&|one| one.files.downloads),
        sum(&|one| one.files.download_bytes),
        sum(&|one| one.files.changes),
        sum(&|one| one.files.refused)
    );
    let hidden = format!(
        "{} lines not shown, {} times run unseen",
        sum(&|one| one.hidden.lines),
        sum(&|one| one.hidden.commands)
    );
    let named = [
        ("commands", sum(&|one| one.commands.total).to_string()),
        ("labels", labels.join(", ")),
        ("files", files),
        (
            "denials",
            sum(&|one| count(one.denials.len()).saturating_add(one.denials_more)).to_string(),
        ),
        ("hidden input", hidden),
    ];
    named
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn title(summary: &Summary) -> String {
    match &summary.session {
        Some(session) => format!("{} at {}@{}", session.identity, session.login, session.target),
        None => "a session".to_owned(),
    }
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

/// Reads one, when the ledger knows of it. The facts are those of its grant.
async fn read(session: &Session, id: &str, page: &PageArgs) -> Result<(Summary, Vec<(String, String)>), CliError> {
    // The file is on the server's machine: asked before the ledger says that it was read.
    let trust = session.config()?.layout.trust();
    let row = find(session, id).await?;
    tell(session, &row, Purpose::Replay, &page.reason, None).await?;
    let path = format!("/v1/sessions/{}/background", row.session);
    let background: Background = session.client.get(&path).await?;
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
    let known = known(background);
    let facts = known.facts.clone();
    Ok((summary.with(known), facts))
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
