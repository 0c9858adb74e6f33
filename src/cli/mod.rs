//! The command line: one file per noun. Parses, asks the server or the state
//! folder, prints. Data goes to standard output, talk to standard error.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only the two commands that run without a server runtime are named"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::api::client::ApiClient;
use crate::clock::Clock;
use crate::config::Config;

pub mod evidence;
mod exit;
pub mod init;
pub mod output;

mod check;
mod demo;
mod duration;
mod grant;
mod identity;
mod keys;
mod krl;
mod ledger;
mod player;
mod policy;
mod recordings;
mod revoke;
mod serve;
mod sessions;
mod target;
mod trust;
mod witness;

use exit::{CliError, Exit};
use output::Output;

/// Where a server's configuration lies when nobody says otherwise.
pub const CONFIG_DEFAULT: &str = "/etc/portcullis/config.toml";

/// Privileged session recorder and SSH jump host.
#[derive(Parser, Debug)]
#[command(name = "portcullis", version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failed, 2 usage, 3 denied by policy, 4 approval pending, 5 INVALID, 6 not found,
7 unreachable, 10 RECOVERED, 11 PREFIX, 12 not in the ledger or key unknown, 13 REDACTED, 75 try again.";

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// State folder, with config.toml in it (or PORTCULLIS_STATE)
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    /// Configuration file (or PORTCULLIS_CONFIG)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print data as JSON, one object with `"schema": 1`
    #[arg(long, global = true)]
    pub json: bool,
}

/// The nouns.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the whole loop on this machine: server, target, session, verification
    Demo(demo::DemoArgs),
    /// Make a state folder: configuration, keys, store, trust file
    Init(init::InitArgs),
    /// Run the server
    Serve(serve::ServeArgs),
    /// Check the configuration and the state folder, and change nothing
    Check,
    /// Hosts and local commands that can be reached
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// People, vendors, machines and agents
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// Issue grants
    #[command(subcommand)]
    Grant(grant::GrantCommand),
    /// List grants, newest first
    Grants(grant::GrantsArgs),
    /// End grants and their sessions, at once
    Revoke(revoke::RevokeArgs),
    /// List sessions, newest first, or show one
    Sessions(sessions::SessionsArgs),
    /// List recordings, or play, export, hold, shred or delete them
    Recordings {
        #[command(subcommand)]
        command: Option<recordings::RecordingsCommand>,
    },
    /// Everything about one session in one file that anybody can verify
    Evidence(evidence::EvidenceArgs),
    /// Policies: check, try on cases, list, hold the past against new ones
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// What a verifier needs
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// See, replace and encrypt the server's own keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// The transparency log
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Cosign the checkpoints of other machines' ledgers (c2sp.org/tlog-witness)
    Witness(witness::WitnessArgs),
    /// Replay a recording in this terminal (as portcullis-player does)
    #[command(disable_help_flag = true)]
    Play(player::PlayerArgs),
    /// Verify a recording (as portcullis-player does)
    #[command(disable_help_flag = true)]
    Verify(player::PlayerArgs),
}

impl Common {
    /// The state folder, if one was named: by argument, else by environment.
    fn state(&self) -> Option<PathBuf> {
        let from_env = || std::env::var_os("PORTCULLIS_STATE").filter(|dir| !dir.is_empty());
        self.state.clone().or_else(|| from_env().map(PathBuf::from))
    }

    /// The configuration file that is meant. What was typed wins over the environment.
    fn config_path(&self) -> Result<PathBuf, CliError> {
        if let Some(config) = &self.config {
            return Ok(config.clone());
        }
        if let Some(state) = &self.state {
            return Ok(state.join("config.toml"));
        }
        if let Some(config) = std::env::var_os("PORTCULLIS_CONFIG").filter(|file| !file.is_empty()) {
            return Ok(config.into());
        }
        if let Some(state) = self.state() {
            return Ok(state.join("config.toml"));
        }
        if Path::new(CONFIG_DEFAULT).exists() {
            return Ok(CONFIG_DEFAULT.into());
        }
        Err(CliError::usage("which state folder is meant was not said")
            .hint("add --state DIR (or set PORTCULLIS_STATE); `portcullis init --state DIR` makes one"))
    }

    fn load(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config_path()?)?)
    }

    fn output(&self) -> Output {
        Output {
            json: self.json,
            now: Clock::system().now().wall_ms,
        }
    }
}

/// What a command that talks to the server works with.
struct Session {
    config: Config,
    client: ApiClient,
    output: Output,
}

impl Session {
    fn new(common: &Common) -> Result<Session, CliError> {
        let config = common.load()?;
        let client = ApiClient::new(config.layout.api_socket());
        Ok(Session {
            config,
            client,
            output: common.output(),
        })
    }
}

/// Runs one command to its end.
///
/// # Errors
/// Why it did not do what it was told.
pub fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match &cli.command {
        // The player owns terminal, output and exit code.
        Command::Play(args) => return Ok(player::run("play", args)),
        Command::Verify(args) => return Ok(player::run("verify", args)),
        Command::Recordings {
            command: Some(recordings::RecordingsCommand::Play { id, reason, args }),
        } => return recordings::play(&cli.common, id, reason, args),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let exit = runtime.block_on(dispatch(&cli.common, cli.command))?;
    Ok(ExitCode::from(exit.code()))
}

async fn dispatch(common: &Common, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Demo(args) => demo::run(common, &args).await,
        Command::Init(args) => init::run(common, &args).await,
        Command::Serve(args) => serve::run(common, &args).await,
        Command::Check => check::run(common).await,
        Command::Target(command) => target::run(common, command).await,
        Command::Identity(command) => identity::run(common, command).await,
        Command::Grant(command) => grant::run(common, command).await,
        Command::Grants(args) => grant::list(common, &args).await,
        Command::Revoke(args) => revoke::run(common, &args).await,
        Command::Sessions(args) => sessions::run(common, &args).await,
        Command::Recordings { command } => recordings::run(common, command.as_ref()).await,
        Command::Evidence(args) => evidence::run(common, &args).await,
        Command::Policy(command) => policy::run(common, &command).await,
        Command::Trust(command) => trust::run(common, &command).await,
        Command::Keys(command) => keys::run(common, &command).await,
        Command::Ledger(command) => ledger::run(common, &command).await,
        Command::Witness(args) => witness::run(common, &args).await,
        // Run without a server's runtime, see `run`.
        Command::Play(_) | Command::Verify(_) => Ok(Exit::Ok),
    }
}

/// Reads a small text file that was named on the command line.
fn read_text(path: &Path, bytes_max: u64) -> Result<String, CliError> {
    let fail = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let exit = if missing { Exit::NotFound } else { Exit::Failed };
        CliError::new(exit, format!("cannot read {}: {error}", path.display()))
    };
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() || meta.len() > bytes_max {
        return Err(CliError::failed(format!(
            "{} is not a text file of at most {bytes_max} bytes",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(fail)
}

#[cfg(test)]
mod tests;
