//! `break-glass`: grants made ready beforehand, signed by several people.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use russh::keys::ssh_key::HashAlg;
use serde::Serialize;

use super::duration::{duration, end, moment};
use super::exit::{CliError, Exit};
use super::grant::{replaceable, save};
use super::{Common, Session, output, read_text};
use crate::api::wire::break_glass::{BreakGlassGrants, BreakGlassView, Installed, MadeReady, PrepareRequest};
use crate::api::wire::{SCHEMA, rfc3339};
use crate::break_glass::{BreakGlassError, Prepared};
use crate::client::prover::{Prover, Which};
use crate::durable;
use crate::kernel::break_glass::{Condition, NAMESPACE, Statement, Unfit};
use crate::kernel::grant::{Capability, Cidr};
use crate::kernel::id::{Destination, IdentityName};

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// `break-glass …`
#[derive(Subcommand, Debug)]
pub enum BreakGlassCommand {
    /// Make one ready, for others to sign
    Prepare(Box<PrepareArgs>),
    /// Sign one, after reading what it says
    Sign(SignArgs),
    /// Whether enough people have signed one
    Verify(FileArgs),
    /// Put a signed one in force at the server
    Install(FileArgs),
    /// List those in force, and what was used
    List,
}

/// `break-glass prepare`'s arguments.
#[derive(Args, Debug)]
pub struct PrepareArgs {
    /// Who holds it
    #[arg(long, value_name = "NAME")]
    identity: IdentityName,
    /// The holder's public key
    #[arg(long, value_name = "FILE.pub")]
    public_key: PathBuf,
    /// From when on it may be used: 2027-01-31, or 2027-01-31T06:00:00Z; default: now
    #[arg(long, value_name = "DATE", value_parser = moment)]
    from: Option<u64>,
    /// The last day on which it may be used, or the time at which that ends
    #[arg(long, value_name = "DATE", value_parser = end)]
    until: u64,
    /// How long the session lasts once it is used, such as 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    session: Duration,
    /// When it may be used: store-down or always
    #[arg(long, value_name = "CONDITION", default_value_t = Condition::StoreDown)]
    condition: Condition,
    /// What for; stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What it allows: shell, exec, sftp
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "shell,exec,sftp")]
    allow: Vec<Capability>,
    /// Only from this address or network; may be given several times
    #[arg(long = "source", value_name = "CIDR", value_delimiter = ',')]
    sources: Vec<Cidr>,
    /// The file to write
    #[arg(short = 'o', long, value_name = "FILE")]
    out: PathBuf,
    /// What it leads to
    #[arg(value_name = "LOGIN@TARGET", required = true)]
    destinations: Vec<Destination>,
}

/// `break-glass sign`'s arguments.
#[derive(Args, Debug)]
pub struct SignArgs {
    /// The prepared grant; the signature is added to it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The key to sign with: a public one that ssh-agent holds, or a private one; default: the agent's first
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A prepared grant.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// The prepared grant
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl From<BreakGlassError> for CliError {
    fn from(error: BreakGlassError) -> CliError {
        let message = error.to_string();
        match error {
            BreakGlassError::Unfit(why) => why.into(),
            BreakGlassError::File(error) if error.is_missing() => CliError::new(Exit::NotFound, message),
            BreakGlassError::File(_)
            | BreakGlassError::NotOne { .. }
            | BreakGlassError::Journal { .. }
            | BreakGlassError::Broken
            | BreakGlassError::Used(_)
            | BreakGlassError::Installed(_)
            | BreakGlassError::TooMany
            | BreakGlassError::TooManyRevocations => CliError::failed(message),
        }
    }
}

impl From<Unfit> for CliError {
    fn from(why: Unfit) -> CliError {
        let error = CliError::new(Exit::Denied, why.to_string());
        match why {
            Unfit::NotEnough { .. } => error.hint("another signer signs it: portcullis break-glass sign FILE"),
            Unfit::NoSigners => error.hint("name them in the server's configuration: [break_glass] signers"),
            Unfit::TooLong
            | Unfit::Unreadable(_)
            | Unfit::Version(_)
            | Unfit::OtherNode(_)
            | Unfit::Window
            | Unfit::Session
            | Unfit::Doors
            | Unfit::Login(_)
            | Unfit::AllowsNothing
            | Unfit::Certificates(_)
            | Unfit::Route(_) => error,
        }
    }
}

#[derive(Serialize)]
struct MadeFile {
    schema: u32,
    file: String,
    /// Files with the certificates, one for each destination.
    certificates: Vec<String>,
    statement: Statement,
}

#[derive(Serialize)]
struct SignedFile {
    schema: u32,
    file: String,
    signatures: usize,
    key: String,
}

#[derive(Serialize)]
struct Verified {
    schema: u32,
    statement: Statement,
    signers: Vec<IdentityName>,
    threshold: usize,
    /// Keys that signed and are no signer's, or the holder's.
    others: Vec<String>,
}

pub async fn run(common: &Common, command: BreakGlassCommand) -> Result<Exit, CliError> {
    match command {
        BreakGlassCommand::Prepare(args) => prepare(common, *args).await,
        BreakGlassCommand::Sign(args) => sign(common, &args).await,
        BreakGlassCommand::Verify(args) => verify(common, &args),
        BreakGlassCommand::Install(args) => install(common, &args).await,
        BreakGlassCommand::List => list(common).await,
    }
}

/// What it says, for people, before they sign it and after.
fn in_words(statement: &Statement) -> String {
    let doors: Vec<String> = statement
        .doors
        .iter()
        .map(|door| door.destination().to_string())
        .collect();
    let allowed: Vec<String> = statement.capabilities.iter().map(Capability::to_string).collect();
    let sources: Vec<String> = statement.sources.iter().map(Cidr::to_string).collect();
    format!(
        "Grant {id} for {who} at {node}, made by {by}:\n  to {doors}, for {allowed}, from {sources}\n  once between {from} \
         and {until}, for {mins} min, condition {condition}\n  reason: {reason}",
        id = statement.id,
        who = statement.who.name,
        node = statement.node,
        by = statement.made_by,
        doors = doors.join(", "),
        allowed = allowed.join(", "),
        sources = if sources.is_empty() {
            "anywhere".to_owned()
        } else {
            sources.join(", ")
        },
        from = rfc3339(statement.from_ms),
        until = rfc3339(statement.until_ms),
        mins = statement.session_ms / 60_000,
        condition = statement.condition,
        reason = statement.reason,
    )
}

fn write(path: &Path, prepared: &Prepared) -> Result<(), CliError> {
    let mut staging = path.as_os_str().to_owned();
    staging.push(format!(".{}.new", std::process::id()));
    durable::replace(path, prepared.to_json().as_bytes(), 0o600, Path::new(&staging))
        .map_err(|error| CliError::failed(error.to_string()))
}

async fn prepare(common: &Common, args: PrepareArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    if args.out.symlink_metadata().is_ok() {
        return Err(CliError::failed(format!("{} is there already", args.out.display())).hint("name another file"));
    }
    let request = PrepareRequest {
        identity: args.identity,
        destinations: args.destinations,
        public_key: read_text(&args.public_key, KEY_FILE_BYTES_MAX)?.trim().to_owned(),
        from_ms: args.from,
        until_ms: args.until,
        session_secs: args.session.as_secs(),
        condition: args.condition,
        reason: args.reason,
        allow: args.allow,
        sources: args.sources,
    };
    let made: MadeReady = session.client.post("/v1/break-glass/prepare", &request).await?;
    write(&args.out, &made.prepared)?;
    let statement = Statement::read(&made.prepared.statement)?;
    let mut certificates = Vec::new();
    for (door, line) in statement.doors.iter().zip(&made.prepared.certificates) {
        let mut out = args.out.as_os_str().to_owned();
        out.push(format!(".{}-cert.pub", door.destination()));
        replaceable(Path::new(&out))?;
        save(Path::new(&out), line)?;
        certificates.push(out.to_string_lossy().into_owned());
    }
    let given = MadeFile {
        schema: SCHEMA,
        file: args.out.display().to_string(),
        certificates,
        statement,
    };
    session.output.data(&given, || format!("{}\n", given.file))?;
    session.output.say(format!(
        "{}\nIt admits nobody yet: others sign it (break-glass sign), then it is installed (break-glass install).\n\
         The holder keeps the certificates with the key: {}.",
        in_words(&given.statement),
        given.certificates.join(", ")
    ));
    Ok(Exit::Ok)
}

async fn sign(common: &Common, args: &SignArgs) -> Result<Exit, CliError> {
    let output = common.output();
    let mut prepared = Prepared::load(&args.file)?;
    let statement = Statement::read(&prepared.statement)?;
    output.say(in_words(&statement));
    let which = match &args.key {
        Some(path) => Which::File(path.clone()),
        None => Which::Any,
    };
    let prover = Prover::candidates(&which).await?.into_iter().next();
    let prover = prover.ok_or_else(|| CliError::failed("there is no key to sign with").hint("name one with --key"))?;
    let key = prover.name();
    if prover.needs_a_hand() {
        output.say(format!("Touch {key}."));
    }
    let signature = prover.sign_text(NAMESPACE, &prepared.statement).await?;
    let before = prepared.signed_by();
    prepared.signatures.push(signature);
    let now = prepared.signed_by();
    let again = now
        .last()
        .is_some_and(|key| before.iter().any(|had| had.key_data() == key.key_data()));
    if again {
        return Err(CliError::failed(format!("{key} has signed it already")));
    }
    write(&args.file, &prepared)?;
    let given = SignedFile {
        schema: SCHEMA,
        file: args.file.display().to_string(),
        signatures: now.len(),
        key,
    };
    output.data(&given, || format!("{}\n", given.signatures))?;
    output.say(format!("Signed by {}; {} signatures.", given.key, given.signatures));
    Ok(Exit::Ok)
}

fn verify(common: &Common, args: &FileArgs) -> Result<Exit, CliError> {
    let (config, output) = (common.load()?, common.output());
    let prepared = Prepared::load(&args.file)?;
    let signed = prepared.check(&config.node, config.break_glass.as_ref())?;
    let counted: Vec<IdentityName> = signed.signers().iter().cloned().collect();
    let signers = config.break_glass.as_ref();
    let others = prepared.signed_by().into_iter().filter(|key| {
        let name = signers.and_then(|signers| signers.name_of(key.key_data()));
        name.is_none_or(|name| !counted.contains(name))
    });
    let given = Verified {
        schema: SCHEMA,
        statement: signed.statement().clone(),
        signers: counted.clone(),
        threshold: signers.map_or(0, crate::break_glass::Signers::threshold),
        others: others.map(|key| key.fingerprint(HashAlg::Sha256).to_string()).collect(),
    };
    let names: Vec<&str> = counted.iter().map(IdentityName::as_str).collect();
    output.data(&given, || format!("signed by {}\n", names.join(", ")))?;
    output.say(in_words(&given.statement));
    for key in &given.others {
        output.say(format!("The signature by {key} does not count."));
    }
    Ok(Exit::Ok)
}

async fn install(common: &Common, args: &FileArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let prepared = Prepared::load(&args.file)?;
    let installed: Installed = session.client.post("/v1/break-glass", &prepared).await?;
    session
        .output
        .data(&installed, || format!("{}\n", installed.grant.id))?;
    let signers: Vec<&str> = installed.grant.signers.iter().map(IdentityName::as_str).collect();
    session.output.say(format!(
        "In force: {} may use it once until {}. Signed by {}.",
        installed.grant.identity,
        session.output.time(&installed.grant.until),
        signers.join(", "),
    ));
    Ok(Exit::Ok)
}

async fn list(common: &Common) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let answer: BreakGlassGrants = session.client.get("/v1/break-glass").await?;
    session.output.data(&answer, || {
        let row = |grant: &BreakGlassView| {
            let doors: Vec<String> = grant.destinations.iter().map(Destination::to_string).collect();
            let signers: Vec<&str> = grant.signers.iter().map(IdentityName::as_str).collect();
            let state = match &grant.used {
                Some(used) => format!("used {}", session.output.ago(&used.at)),
                None => grant.state.as_str().to_owned(),
            };
            vec![
                grant.id.to_string().chars().take(8).collect(),
                state,
                grant.identity.to_string(),
                doors.join(","),
                session.output.ago(&grant.until),
                grant.condition.to_string(),
                signers.join(","),
                grant.reason.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.grants.iter().map(row).collect();
        output::table(
            &[
                "GRANT",
                "STATE",
                "IDENTITY",
                "DESTINATIONS",
                "UNTIL",
                "CONDITION",
                "SIGNED BY",
                "REASON",
            ],
            &rows,
        )
    })?;
    for file in &answer.refused {
        session
            .output
            .say(format!("{} counts for nothing: {}", file.file, file.why));
    }
    if answer.grants.is_empty() {
        session.output.say("No break-glass grants are in force.");
    }
    Ok(Exit::Ok)
}
