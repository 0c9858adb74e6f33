//! The command line: one file per noun. Parses, asks the server or the state
//! folder, prints. Data goes to standard output, talk to standard error.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only the two commands that run without a server runtime are named"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::clock::Clock;
use crate::config::Config;

pub mod evidence;
mod exit;
pub mod init;
pub mod output;

mod break_glass;
mod check;
mod demo;
mod duration;
mod explain;
mod fetch;
mod grant;
mod identity;
mod import;
mod inventory;
mod keys;
mod krl;
mod ledger;
mod login;
mod player;
mod policy;
mod recordings;
mod request;
mod requests;
mod review;
mod revoke;
mod search;
mod serve;
mod session;
mod sessions;
mod ssh_config;
mod summary;
mod target;
mod trust;
mod witness;

use exit::{CliError, Exit};
use output::Output;
use session::Session;

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
    /// The server, as https://HOST:PORT; default: that of the last `portcullis login`
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["state", "config"])]
    pub server: Option<String>,
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
    /// Prove who you are to a server, by an enrolled SSH key
    Login(login::LoginArgs),
    /// End the login
    Logout,
    /// Who you are to the server
    Whoami,
    /// Ask for access, wait for the answer, and put the key into ssh-agent
    Request(Box<request::RequestArgs>),
    /// Take the certificate of a request that was approved
    Collect(request::CollectArgs),
    /// List requests for access, newest first, or show one
    Requests(requests::RequestsArgs),
    /// Say yes to somebody's request
    Approve(requests::ApproveArgs),
    /// Say no to somebody's request
    Deny(requests::DenyArgs),
    /// Prove anew that it is you who runs a command that waits
    Confirm(requests::ConfirmArgs),
    /// Take a request of your own back
    Withdraw(requests::WithdrawArgs),
    /// Make plain `ssh TARGET` go through the gate
    SshConfig(ssh_config::SshConfigArgs),
    /// Have a certificate for a destination at hand, if one may be had without asking anybody
    #[command(hide = true)]
    Fetch(fetch::FetchArgs),
    /// Who may do what, and which rule says so, without doing it
    Explain(Box<explain::ExplainArgs>),
    /// Grants made ready for the day on which nothing else works
    #[command(subcommand)]
    BreakGlass(break_glass::BreakGlassCommand),
    /// Looks back at what was done
    #[command(subcommand)]
    Review(review::ReviewCommand),
    /// What was unusual in the last 30 days
    Anomalies,
    /// Each identity with what it may reach and what it used
    Inventory,
    /// Make the inventory say what a file says
    Apply(inventory::ApplyArgs),
    /// Make an inventory file of what is there already
    #[command(subcommand)]
    Import(inventory::ImportCommand),
    /// The API's description (OpenAPI 3.1)
    Openapi,
    /// End grants and their sessions, at once
    Revoke(revoke::RevokeArgs),
    /// List sessions, newest first, or show one
    Sessions(sessions::SessionsArgs),
    /// List recordings, or search, play, export, hold, shred or delete them
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
        if let Some(url) = &self.server {
            return Err(
                CliError::usage(format!("this is done with the server's own files, not at {url}"))
                    .hint("run it on the server's machine, with --state DIR"),
            );
        }
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
        Command::Recordings {
            command: Some(recordings::RecordingsCommand::Search(args)),
        } if args.plays() => return search::play(&cli.common, args),
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
        Command::Login(args) => login::run(common, &args).await,
        Command::Logout => login::logout(common).await,
        Command::Whoami => login::whoami(common).await,
        Command::Request(args) => request::run(common, *args).await,
        Command::Collect(args) => request::collect(common, &args).await,
        Command::Requests(args) => requests::run(common, &args).await,
        Command::Approve(args) => requests::approve(common, &args).await,
        Command::Deny(args) => requests::deny(common, &args).await,
        Command::Confirm(args) => requests::confirm(common, &args).await,
        Command::Withdraw(args) => requests::withdraw(common, &args).await,
        Command::SshConfig(args) => ssh_config::run(common, &args).await,
        Command::Fetch(args) => fetch::run(common, &args).await,
        Command::Explain(args) => explain::run(common, *args).await,
        Command::BreakGlass(command) => break_glass::run(common, command).await,
        Command::Review(command) => review::run(common, command).await,
        Command::Anomalies => review::anomalies(common).await,
        Command::Inventory => inventory::list(common).await,
        Command::Apply(args) => inventory::apply(common, &args).await,
        Command::Import(command) => inventory::import(common, &command),
        Command::Openapi => openapi(),
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

/// The description that the server serves at `/openapi.json`.
fn openapi() -> Result<Exit, CliError> {
    let document = crate::api::openapi::document(&crate::api::table());
    let text = serde_json::to_string_pretty(&document).map_err(|error| CliError::failed(error.to_string()))?;
    output::write(&format!("{text}\n"))?;
    Ok(Exit::Ok)
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
