//! `target`: hosts and local commands that can be reached.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::exit::{CliError, Exit};
use super::{Common, Session, output, read_text};
use crate::api::rules;
use crate::api::wire::{TargetAdded, Targets};
use crate::kernel::credential::Credential;
use crate::kernel::id::{Login, TargetName};
use crate::kernel::inventory::{HostProof, Reach, Target};
use crate::ssh::scan;

/// Longest wait for a host's key with --scan, in seconds.
const SCAN_SECS_MAX: u64 = 10;
/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// `target …`
#[derive(Subcommand, Debug)]
pub enum TargetCommand {
    /// Add a host (--addr) or a command on this machine (--local)
    Add(Box<AddArgs>),
    /// List targets
    List,
}

/// `target add`'s arguments.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Its name here
    name: TargetName,
    /// Where its SSH server listens
    #[arg(
        long,
        value_name = "HOST:PORT",
        required_unless_present = "local",
        conflicts_with = "local"
    )]
    addr: Option<String>,
    /// An account that may be asked for; may be given several times
    #[arg(long = "login", value_name = "LOGIN", required = true)]
    logins: Vec<Login>,
    /// Pin this host key: its .pub file, as /etc/ssh/ssh_host_ed25519_key.pub
    #[arg(long, value_name = "FILE", group = "proof", conflicts_with = "local")]
    host_key: Option<PathBuf>,
    /// Take host certificates of this authority: its .pub file
    #[arg(long, value_name = "FILE", group = "proof", conflicts_with = "local")]
    host_ca: Option<PathBuf>,
    /// Connect, show the host key's fingerprint and ask whether to pin it
    #[arg(long, group = "proof", conflicts_with = "local")]
    scan: bool,
    /// With --scan: the fingerprint that it must have
    #[arg(long, value_name = "SHA256:…", requires = "scan")]
    fingerprint: Option<String>,
    /// With --fingerprint: pin a key that has it without asking
    #[arg(long, requires = "fingerprint")]
    yes: bool,
    /// What it takes from us: `certificate` (of the target CA; unless said
    /// otherwise), or SOURCE:KIND with a [[credential]] of the server's
    /// configuration and key, password or keyboard-interactive
    #[arg(long, value_name = "SOURCE:KIND", conflicts_with = "local")]
    credential: Option<Credential>,
    /// The target that it is dialled from, a bastion of somebody else's
    #[arg(long, value_name = "NAME", conflicts_with = "local")]
    via: Option<TargetName>,
    /// A command on this machine instead of a host
    #[arg(long, requires = "run_as")]
    local: bool,
    /// With --local: the account that it runs as, never the server's own
    #[arg(long, value_name = "USER", requires = "local")]
    run_as: Option<String>,
    /// A label for policy; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// With --local, after --: the command; none: the account's shell
    #[arg(last = true, value_name = "CMD", requires = "local")]
    command: Vec<String>,
}

pub async fn run(common: &Common, command: TargetCommand) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    match command {
        TargetCommand::Add(args) => add(&session, *args).await,
        TargetCommand::List => list(&session).await,
    }
}

async fn add(session: &Session, args: AddArgs) -> Result<Exit, CliError> {
    let reach = match (&args.addr, args.run_as.clone()) {
        (Some(addr), _) => {
            rules::address(addr)?;
            Reach::Ssh {
                addr: addr.clone(),
                proof: proof(session, &args, addr).await?,
                credential: args.credential.unwrap_or_default(),
                via: args.via,
            }
        }
        (None, Some(run_as)) => Reach::Local {
            command: args.command,
            run_as,
        },
        (None, None) => return Err(CliError::usage("neither --addr nor --local was given")),
    };
    let target = Target {
        name: args.name,
        logins: args.logins,
        reach,
        labels: args.labels,
        disabled: false,
    };
    let added: TargetAdded = session.client.post("/v1/targets", &target).await?;
    session.output.data(&added, || format!("{}\n", added.target.name))?;
    let login = added.target.logins.first().map_or("LOGIN", |login| login.as_str());
    session.output.say(format!(
        "Next: portcullis grant issue --identity NAME --for 30m --reason TEXT --public-key FILE.pub {login}@{}",
        added.target.name
    ));
    Ok(Exit::Ok)
}

async fn proof(session: &Session, args: &AddArgs, addr: &str) -> Result<HostProof, CliError> {
    match (&args.host_key, &args.host_ca, args.scan) {
        (Some(path), _, _) => Ok(HostProof::HostKey(key_line(path)?)),
        (_, Some(path), _) => Ok(HostProof::HostCa(key_line(path)?)),
        (None, None, true) => scanned(session, args, addr).await.map(HostProof::HostKey),
        (None, None, false) => Err(CliError::usage("how the host proves that it is itself was not said")
            .hint("add --host-key FILE, --host-ca FILE, or --scan to look at it now")),
    }
}

/// The first line of a .pub file that is a key.
fn key_line(path: &Path) -> Result<String, CliError> {
    let text = read_text(path, KEY_FILE_BYTES_MAX)?;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let line = line.ok_or_else(|| CliError::failed(format!("{} holds no key", path.display())))?;
    rules::public_key(line).map_err(|problem| CliError::failed(format!("{}: {}", path.display(), problem.detail)))?;
    Ok(line.to_owned())
}

async fn scanned(session: &Session, args: &AddArgs, addr: &str) -> Result<String, CliError> {
    session.output.say(format!("Looking at {addr} …"));
    let key = scan::host_key(addr, Duration::from_secs(SCAN_SECS_MAX))
        .await
        .map_err(|error| CliError::new(Exit::Unreachable, error.to_string()))?;
    let seen = key.fingerprint(HashAlg::Sha256).to_string();
    session.output.say(format!("{} {seen}", key.algorithm()));
    matches(args.fingerprint.as_deref(), &seen)?;
    if !args.yes {
        let question = format!(
            "Is that the key of {}? Compare it with `ssh-keygen -lf` on the host itself. [yes/no] ",
            args.name
        );
        // The question goes to the terminal itself: an answer from a pipe
        // would be nobody's.
        let answer = tokio::task::spawn_blocking(move || ask(&question, SCAN_OTHERWISE)).await;
        if !answer.map_err(|error| CliError::failed(error.to_string()))?? {
            return Err(CliError::failed("the key was not accepted: nothing was added"));
        }
    }
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .map(|line| line.trim_end().to_owned())
        .map_err(|error| CliError::failed(error.to_string()))
}

/// Whether the fingerprint is the expected one, if one was.
fn matches(expected: Option<&str>, seen: &str) -> Result<(), CliError> {
    match expected {
        Some(expected) if expected != seen => Err(CliError::failed(format!(
            "the host shows another key: {seen}, not {expected}"
        ))
        .hint("find out why before adding it: it may not be the host you mean")),
        _ => Ok(()),
    }
}

/// What to do without a terminal.
const SCAN_OTHERWISE: &str = "give the expected fingerprint: --scan --fingerprint SHA256:… --yes";

/// Asks at the terminal; only `yes` is yes. `otherwise` says what to do without one.
pub(super) fn ask(question: &str, otherwise: &str) -> Result<bool, CliError> {
    let nobody =
        |error: std::io::Error| CliError::usage(format!("there is no terminal to ask at: {error}")).hint(otherwise);
    let mut terminal = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(nobody)?;
    terminal.write_all(question.as_bytes()).map_err(nobody)?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer).map_err(nobody)?;
    Ok(answer.trim() == "yes")
}

async fn list(session: &Session) -> Result<Exit, CliError> {
    let answer: Targets = session.client.get("/v1/targets").await?;
    session.output.data(&answer, || {
        let rows: Vec<Vec<String>> = answer.targets.iter().map(row).collect();
        output::table(
            &["NAME", "LOGINS", "REACHED AT", "PROOF", "CREDENTIAL", "LABELS"],
            &rows,
        )
    })?;
    if answer.targets.is_empty() {
        session
            .output
            .say("No targets yet: portcullis target add NAME --addr HOST:PORT --login LOGIN --scan");
    }
    Ok(Exit::Ok)
}

fn row(target: &Target) -> Vec<String> {
    let logins: Vec<&str> = target.logins.iter().map(Login::as_str).collect();
    let (place, proof, credential) = match &target.reach {
        Reach::Ssh {
            addr,
            proof,
            credential,
            via,
        } => (
            via.as_ref()
                .map_or_else(|| addr.clone(), |via| format!("{addr} via {via}")),
            match proof {
                HostProof::HostKey(line) => format!("key {}", print_of(line)),
                HostProof::HostCa(line) => format!("CA {}", print_of(line)),
            },
            credential.to_string(),
        ),
        Reach::Local { command, run_as } => (
            match command.is_empty() {
                true => format!("shell as {run_as}"),
                false => format!("{} as {run_as}", command.join(" ")),
            },
            "local".to_owned(),
            "-".to_owned(),
        ),
    };
    vec![
        target.name.to_string(),
        logins.join(","),
        place,
        proof,
        credential,
        target.labels.join(","),
    ]
}

fn print_of(line: &str) -> String {
    match PublicKey::from_openssh(line) {
        Ok(key) => key.fingerprint(HashAlg::Sha256).to_string(),
        Err(_) => "unreadable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_fingerprint_passes() {
        assert!(matches(None, "SHA256:a").is_ok());
        assert!(matches(Some("SHA256:a"), "SHA256:a").is_ok());
        for other in ["SHA256:b", "a", "SHA256:", ""] {
            assert_eq!(
                matches(Some(other), "SHA256:a").unwrap_err().exit,
                Exit::Failed,
                "{other}"
            );
        }
    }
}
