//! `explain`: who may do what, and which rule says so, without doing it.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::Common;
use super::duration::duration;
use super::exit::{CliError, Exit};
use super::session::Session;
use crate::api::wire::access::{ExplainRequest, ExplainTransfer, Explained};
use crate::kernel::grant::Capability;
use crate::kernel::id::{Destination, IdentityName, Login, TargetName};
use crate::kernel::policy::facts::{Action, ForwardTo};
use crate::kernel::policy::obligations::{Kept, Obligations, OnHidden, RecordMode};

/// `explain`'s arguments.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Who
    #[arg(long, value_name = "NAME")]
    identity: IdentityName,
    /// What: request, issue, connect, shell, exec, subsystem, transfer, forward, command, replay, approve, revoke
    #[arg(long = "request", value_name = "ACTION", default_value = "request")]
    action: Action,
    /// Where: LOGIN@TARGET, or a target alone
    #[arg(long, value_name = "TARGET")]
    target: String,
    /// From this address
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// At this time instead of now, such as 2027-01-31T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<u64>,
    /// For so long
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
    /// What it would allow
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    allow: Vec<Capability>,
    /// The reason that would be given
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The ticket that would be given
    #[arg(long, value_name = "TEXT")]
    ticket: Option<String>,
    /// The command that would be run (exec, command)
    #[arg(long, value_name = "TEXT")]
    command: Option<String>,
    /// The subsystem that would be asked for
    #[arg(long, value_name = "NAME")]
    subsystem: Option<String>,
    /// What would be done to a file (transfer): upload, download, rename, remove, mkdir, rmdir, symlink, hardlink, setstat, copy
    #[arg(long, value_name = "WHAT", default_value = "upload", requires = "path")]
    what: String,
    /// The file, as a client would write it (transfer)
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Its new name, what the link says, or where to (transfer)
    #[arg(long, value_name = "PATH", default_value = "", requires = "path")]
    other: String,
    /// Where a forwarding would lead: local:HOST:PORT, remote:HOST:PORT, agent or x11
    #[arg(long, value_name = "WHERE", value_parser = forward)]
    forward: Option<ForwardTo>,
    /// Who would read the line (command): shell, nested, elevated, repl, pane, program
    #[arg(long, value_name = "PLACE", value_parser = ["shell", "nested", "elevated", "repl", "pane", "program"])]
    place: Option<String>,
    /// The line could not be read off the terminal for certain (command)
    #[arg(long)]
    undecided: bool,
    /// On a terminal
    #[arg(long)]
    terminal: bool,
    /// With this risk, 0 to 100
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    risk: u8,
}

/// A time in RFC 3339, in ms since the epoch.
fn time(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a time such as 2027-01-31T09:00:00Z");
    let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    u64::try_from(time.as_millisecond()).map_err(|_| bad())
}

/// `local:HOST:PORT`, `remote:HOST:PORT`, `agent`, `x11`.
fn forward(text: &str) -> Result<ForwardTo, String> {
    let to = |direction: &str, host: &str, port| ForwardTo {
        direction: direction.to_owned(),
        host: host.to_owned(),
        port,
    };
    if matches!(text, "agent" | "x11") {
        return Ok(to(text, "", 0));
    }
    let bad = || format!("`{text}` is not local:HOST:PORT, remote:HOST:PORT, agent or x11");
    let (direction, place) = text.split_once(':').ok_or_else(bad)?;
    let (host, port) = place.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    match direction {
        "local" | "remote" => Ok(to(direction, host, port.into())),
        _ => Err(bad()),
    }
}

/// `LOGIN@TARGET`, or a target with the login that nobody has asked about.
fn destination(text: &str) -> Result<Destination, CliError> {
    let bad = |error: crate::kernel::id::IdError| CliError::usage(error.to_string());
    if text.contains('@') {
        return text.parse().map_err(bad);
    }
    let target: TargetName = text.parse().map_err(bad)?;
    let login: Login = "root".parse().map_err(bad)?;
    Ok(Destination { login, target })
}

pub async fn run(common: &Common, args: ExplainArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let asked = ExplainRequest {
        identity: args.identity,
        action: args.action,
        destination: destination(&args.target)?,
        source: args.source,
        at_ms: args.at,
        for_secs: args.length.map_or(1800, |length| length.as_secs()),
        allow: match args.allow.is_empty() {
            true => vec![Capability::Shell, Capability::Exec, Capability::Sftp],
            false => args.allow,
        },
        reason: args.reason,
        ticket: args.ticket,
        command: args.command,
        subsystem: args.subsystem,
        transfer: args.path.map(|path| ExplainTransfer {
            what: args.what,
            path,
            other: args.other,
        }),
        forward: args.forward,
        place: args.place,
        undecided: args.undecided,
        terminal: args.terminal,
        risk: args.risk,
    };
    let told: Explained = session.client.post("/v1/explain", &asked).await?;
    session.output.data(&told, || text(&told))?;
    Ok(match told.allowed {
        true => Exit::Ok,
        false => Exit::Denied,
    })
}

fn text(told: &Explained) -> String {
    let mut text = format!("{}: {}\n", if told.allowed { "yes" } else { "no" }, told.sentence);
    for rule in &told.rules {
        let note = rule.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        text.push_str(&format!("  {} {} ({}){note}\n", rule.effect, rule.id, rule.file));
    }
    for warning in &told.warnings {
        text.push_str(&format!("  but {}\n", super::output::clean(warning, 512)));
    }
    if told.allowed {
        let wants = wants(&told.obligations);
        if !wants.is_empty() {
            text.push_str(&format!("  demands: {}\n", wants.join(", ")));
        }
    }
    text
}

/// Obligations in words.
pub fn wants(obligations: &Obligations) -> Vec<String> {
    let mut wants = Vec::new();
    let minutes = |ms: u64| format!("{} min", ms / 60_000);
    match obligations.approvals {
        0 => {}
        1 => wants.push("1 approval".to_owned()),
        n => wants.push(format!("{n} approvals")),
    }
    for group in &obligations.approvers {
        wants.push(format!("one of {group}"));
    }
    wants.extend(obligations.max_ms.map(|ms| format!("at most {}", minutes(ms))));
    wants.extend(
        obligations
            .answer_ms
            .map(|ms| format!("an answer within {}", minutes(ms))),
    );
    if obligations.step_up_ms.is_some() {
        wants.push("a fresh proof".to_owned());
    }
    wants.extend(
        obligations
            .reason
            .iter()
            .map(|asked| format!("an answer to \"{asked}\"")),
    );
    wants.extend(
        obligations
            .notice
            .iter()
            .map(|notice| format!("to be told \"{notice}\"")),
    );
    let bytes = obligations.max_file_bytes;
    wants.extend(bytes.map(|bytes| format!("at most {bytes} bytes of a file each way")));
    for (on, word) in [
        (obligations.hook, "a shell that says what it runs"),
        (
            obligations.hidden_command == Some(OnHidden::Notice),
            "that hidden commands are told",
        ),
        (
            obligations.hidden_command == Some(OnHidden::End),
            "an end where a command is hidden",
        ),
        (obligations.review, "a review afterwards"),
        (obligations.single_use, "one session only"),
        (obligations.notify, "an alarm"),
        (
            obligations.kept == Some(Kept::Digest),
            "of forwards and files digests only",
        ),
        (
            obligations.kept == Some(Kept::Vault),
            "files in the vault, and digests only",
        ),
        (obligations.record == RecordMode::Durable, "a durable recording"),
        (obligations.record == RecordMode::Encrypted, "an encrypted recording"),
    ] {
        if on {
            wants.push(word.to_owned());
        }
    }
    wants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_alone_is_enough() {
        assert_eq!(destination("db1").unwrap().to_string(), "root@db1");
        assert_eq!(destination("web@db1").unwrap().to_string(), "web@db1");
        assert!(destination("a b").is_err());
        assert!(time("2027-01-31T09:00:00Z").is_ok());
        assert!(time("tomorrow").is_err());
        let to = forward("local:db.internal:5432").unwrap();
        assert_eq!(
            (to.direction.as_str(), to.host.as_str(), to.port),
            ("local", "db.internal", 5432)
        );
        assert!(forward("agent").is_ok());
        assert!(forward("local:db").is_err() && forward("up:a:1").is_err());
    }
}
