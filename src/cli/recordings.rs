//! `recordings`: what is in the archive, and what is done with it. Looking at
//! one or taking one away is told to the ledger first.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::exit::{CliError, Exit};
use super::search::{self, SearchArgs};
use super::sessions::path_piece;
use super::summary::{self, BackgroundArgs, ReportArgs, SummaryArgs};
use super::{Common, Session, evidence, output, player};
use crate::api::wire::{
    ExpireRequest, Expired, Noted, Purpose, ReadRequest, ReasonRequest, RecordingView, Recordings, Statements,
};
use crate::archive::Sidecar;

/// `recordings …`; alone it lists.
#[derive(Subcommand, Debug)]
pub enum RecordingsCommand {
    /// List recordings, newest first
    List,
    /// Search commands, files, screens and sessions of all of them; stays in the ledger
    Search(SearchArgs),
    /// How the index that searches go by stands, or make it anew
    Index {
        /// Read every recording again, and wait for it
        #[arg(long)]
        rebuild: bool,
    },
    /// One session on one page: who, where, why, what was run, moved, refused and hidden; stays in the ledger
    Summary(SummaryArgs),
    /// All sessions under one grant on one page, as a vendor's visit; stays in the ledger
    Report(ReportArgs),
    /// Write what only the server knows of sessions, for `portcullis-player summary` and `report` where the keys are; stays in the ledger
    Background(BackgroundArgs),
    /// Replay one in this terminal; stays in the ledger
    Play {
        /// Its session's id, or enough of its start
        #[arg(value_name = "SESSION")]
        id: String,
        /// Why; stays in the ledger
        #[arg(long, value_name = "TEXT", default_value = "replay")]
        reason: String,
        /// What `portcullis-player play` takes as well
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<std::ffi::OsString>,
    },
    /// Copy one with its proof, signature and key to a folder; stays in the ledger
    Export {
        #[arg(value_name = "SESSION")]
        id: String,
        /// Folder to copy it to
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// Why; stays in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Forbid deleting one, whatever its age
    Hold {
        #[arg(value_name = "SESSION")]
        id: String,
        /// Why; stays in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Take a hold back
    Release {
        #[arg(value_name = "SESSION")]
        id: String,
        /// Why; stays in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Destroy the key to an encrypted one's content; it still verifies
    Shred {
        #[arg(value_name = "SESSION")]
        id: String,
        /// Why; stays in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Delete those that are older than retention.keep_days, as the server does daily
    Expire {
        /// Only tell which
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(common: &Common, command: Option<&RecordingsCommand>) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    match command {
        None | Some(RecordingsCommand::List) => list(&session).await,
        Some(RecordingsCommand::Search(args)) => search::run(&session, args).await,
        Some(RecordingsCommand::Index { rebuild }) => search::index(&session, *rebuild).await,
        Some(RecordingsCommand::Summary(args)) => summary::one(&session, args).await,
        Some(RecordingsCommand::Report(args)) => summary::report(&session, args).await,
        Some(RecordingsCommand::Background(args)) => summary::background(&session, args).await,
        // The player takes the terminal over, see `play`.
        Some(RecordingsCommand::Play { .. }) => Ok(Exit::Ok),
        Some(RecordingsCommand::Export { id, out, reason }) => export(&session, id, out, reason).await,
        Some(RecordingsCommand::Hold { id, reason }) => change(&session, id, "hold", "held", reason).await,
        Some(RecordingsCommand::Release { id, reason }) => change(&session, id, "release", "released", reason).await,
        Some(RecordingsCommand::Shred { id, reason }) => change(&session, id, "shred", "shredded", reason).await,
        Some(RecordingsCommand::Expire { dry_run }) => expire(&session, *dry_run).await,
    }
}

async fn list(session: &Session) -> Result<Exit, CliError> {
    let answer: Recordings = session.client.get("/v1/recordings").await?;
    session.output.data(&answer, || {
        let row = |row: &RecordingView| {
            let dash = || "-".to_owned();
            vec![
                row.session.to_string().chars().take(8).collect(),
                row.identity.as_ref().map_or_else(dash, ToString::to_string),
                row.destination.as_ref().map_or_else(dash, ToString::to_string),
                state(row).to_owned(),
                session.output.ago(&row.sealed),
                output::bytes(row.bytes),
                row.path.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.recordings.iter().map(row).collect();
        output::table(
            &["SESSION", "IDENTITY", "DESTINATION", "KIND", "SEALED", "SIZE", "FILE"],
            &rows,
        )
    })?;
    match answer.recordings.iter().find(|row| row.expired.is_none()) {
        None => session.output.say("No recordings."),
        Some(row) => {
            // The files are on the server's machine.
            if let Ok(config) = session.config() {
                session.output.say(format!(
                    "Next: portcullis verify {} --trust {}",
                    row.path,
                    config.layout.trust().display()
                ));
            }
        }
    }
    Ok(Exit::Ok)
}

/// The one thing about a recording that its reader must know.
fn state(row: &RecordingView) -> &str {
    match (&row.expired, &row.hold, &row.shredded) {
        (Some(_), _, _) => "deleted",
        (None, Some(_), _) => "held",
        (None, None, Some(_)) => "shredded",
        (None, None, None) => &row.kind,
    }
}

/// The recording of a session that is named by the start of its id.
pub async fn find(session: &Session, id: &str) -> Result<RecordingView, CliError> {
    let prefix = path_piece(id)?;
    let answer: Recordings = session.client.get("/v1/recordings").await?;
    let mut fitting = answer
        .recordings
        .into_iter()
        .filter(|row| row.session.to_string().starts_with(prefix));
    let found = fitting.next().ok_or_else(|| {
        CliError::new(Exit::NotFound, format!("there is no recording of session {prefix}"))
            .hint("`portcullis recordings` lists them; one that runs has none yet")
    })?;
    if fitting.next().is_some() {
        return Err(CliError::usage(format!(
            "several recordings start with {prefix}: give more digits"
        )));
    }
    match found.expired {
        Some(_) => Err(CliError::new(
            Exit::NotFound,
            format!(
                "the recording of session {} was deleted: its time was over",
                found.session
            ),
        )
        .hint(format!("its tombstone is {}.tombstone", found.path))),
        None => Ok(found),
    }
}

/// Tells the ledger that somebody reads a recording; the leaf, proven.
pub async fn tell(
    session: &Session,
    row: &RecordingView,
    purpose: Purpose,
    reason: &str,
    manifest_sha256: Option<String>,
) -> Result<String, CliError> {
    let request = ReadRequest {
        purpose,
        reason: reason.to_owned(),
        manifest_sha256,
    };
    let path = format!("/v1/recordings/{}/read", row.session);
    let noted: Statements = session.client.post(&path, &request).await?;
    let stated = noted.statements.into_iter().next();
    stated.ok_or_else(|| CliError::failed("the server did not say where it noted that"))
}

/// Replays one, when the ledger knows of it.
pub fn play(common: &Common, id: &str, reason: &str, args: &[std::ffi::OsString]) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let (file, trust) = runtime.block_on(async {
        let session = Session::new(common)?;
        // The file is on the server's machine: asked before the ledger says that it was played.
        let trust = session.config()?.layout.trust();
        let row = find(&session, id).await?;
        tell(&session, &row, Purpose::Replay, reason, None).await?;
        Ok::<_, CliError>((row.path, trust))
    })?;
    drop(runtime);
    let mut all = vec![file.into(), "--trust".into(), trust.into_os_string()];
    all.extend(args.iter().cloned());
    Ok(player::play(all))
}

async fn export(session: &Session, id: &str, out: &Path, reason: &str) -> Result<Exit, CliError> {
    let row = find(session, id).await?;
    let stated = tell(session, &row, Purpose::Export, reason, None).await?;
    std::fs::create_dir_all(out).map_err(|error| CliError::failed(format!("{}: {error}", out.display())))?;
    let from = Path::new(&row.path);
    let name = from.file_name().unwrap_or_default();
    let mut copied = Vec::new();
    for extension in [
        None,
        Some(Sidecar::Proof.extension()),
        Some(Sidecar::Signature.extension()),
        Some(Sidecar::Key.extension()),
        Some(Sidecar::Contents.extension()),
    ] {
        let (from, to) = (beside(from, extension), beside(&out.join(name), extension));
        match evidence::copy_new(&from, &to) {
            Ok(()) => copied.push(to),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && extension.is_some() => {}
            Err(error) => {
                return Err(CliError::failed(format!(
                    "{} to {}: {error}",
                    from.display(),
                    to.display()
                )));
            }
        }
    }
    let leaf = beside(&out.join(name), Some("export"));
    evidence::write_new(&leaf, stated.as_bytes())
        .map_err(|error| CliError::failed(format!("{}: {error}", leaf.display())))?;
    copied.push(leaf);
    let shown: Vec<String> = copied.iter().map(|path| path.display().to_string()).collect();
    let answer = serde_json::json!({ "schema": crate::api::wire::SCHEMA, "files": shown });
    session.output.data(&answer, || shown.join("\n") + "\n")?;
    Ok(Exit::Ok)
}

/// `FILE` or `FILE.EXTENSION`.
pub fn beside(file: &Path, extension: Option<&str>) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    name.into()
}

async fn change(session: &Session, id: &str, verb: &str, done: &str, reason: &str) -> Result<Exit, CliError> {
    let path = format!("/v1/recordings/{}/{verb}", path_piece(id)?);
    let request = ReasonRequest {
        reason: reason.to_owned(),
    };
    let noted: Noted = session.client.post(&path, &request).await?;
    session.output.data(&noted, || format!("{} {done}\n", noted.session))?;
    Ok(Exit::Ok)
}

async fn expire(session: &Session, dry_run: bool) -> Result<Exit, CliError> {
    let answer: Expired = session
        .client
        .post("/v1/recordings/expire", &ExpireRequest { dry_run })
        .await?;
    let word = if dry_run { "would be deleted" } else { "deleted" };
    session.output.data(&answer, || {
        let lines = answer.deleted.iter().map(|id| format!("{id} {word}\n"));
        lines.collect()
    })?;
    for why in &answer.failed {
        session.output.say(format!("not deleted: {why}"));
    }
    session.output.say(format!("{} {word}.", answer.deleted.len()));
    Ok(match answer.failed.is_empty() {
        true => Exit::Ok,
        false => Exit::Failed,
    })
}
