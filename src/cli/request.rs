//! `request` and `collect`: from a question to a key that opens, with no
//! private key on disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, PublicKey};
use serde::Serialize;

use super::duration::duration;
use super::exit::{CliError, Exit};
use super::grant::{beside, gate, replaceable, save, ssh_command};
use super::session::{Session, absolute};
use super::{Common, output, read_text};
use crate::api::client::ClientError;
use crate::api::problem::Code;
use crate::api::wire::access::{AccessRequestNew, ChallengeFor, CollectRequest, OneRequest, RequestView};
use crate::api::wire::{GrantView, Issued, SCHEMA};
use crate::client::agent::{Agent, AgentError, Life};
use crate::client::issued::InHand;
use crate::clock;
use crate::kernel::access::RequestState;
use crate::kernel::grant::{Capability, Cidr, hex32};
use crate::kernel::id::{Destination, IdentityName};

/// Largest public key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// First and longest pause between two looks at a request.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// `request`'s arguments.
#[derive(Args, Debug)]
pub struct RequestArgs {
    /// How long, such as 30m, 2h, 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Duration,
    /// Why; those who answer read it, and it stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The ticket that it belongs to
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// What it allows: shell, exec, sftp, forward, agent, x11
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "shell,exec,sftp")]
    allow: Vec<Capability>,
    /// Only from this address or network; may be given several times
    #[arg(long = "source", value_name = "CIDR", value_delimiter = ',')]
    sources: Vec<Cidr>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    begin: Option<jiff::Timestamp>,
    /// For somebody else, as their sponsor
    #[arg(long, value_name = "NAME")]
    identity: Option<IdentityName>,
    /// Certify this key, instead of a fresh one that lives in ssh-agent
    #[arg(long, value_name = "FILE.pub")]
    public_key: Option<PathBuf>,
    /// Where the certificate goes; default: beside the key, as ssh looks for it (FILE-cert.pub)
    #[arg(long, value_name = "FILE-cert.pub", requires = "public_key")]
    out: Option<PathBuf>,
    /// For one session only
    #[arg(long)]
    single_use: bool,
    /// The grant that this one prolongs
    #[arg(long, value_name = "GRANT")]
    extend: Option<String>,
    /// ssh-agent asks before each use of the key
    #[arg(long, conflicts_with = "public_key")]
    confirm: bool,
    /// Ask, and do not wait for the answer
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", conflicts_with = "no_wait")]
    timeout: Duration,
    /// What it leads to
    #[arg(value_name = "LOGIN@TARGET")]
    destination: Destination,
}

/// `collect`'s arguments.
#[derive(Args, Debug)]
pub struct CollectArgs {
    /// Certify this key, instead of a fresh one that lives in ssh-agent
    #[arg(long, value_name = "FILE.pub")]
    public_key: Option<PathBuf>,
    /// Where the certificate goes; default: beside the key, as ssh looks for it (FILE-cert.pub)
    #[arg(long, value_name = "FILE-cert.pub", requires = "public_key")]
    out: Option<PathBuf>,
    /// ssh-agent asks before each use of the key
    #[arg(long, conflicts_with = "public_key")]
    confirm: bool,
    /// The request
    #[arg(value_name = "ID")]
    id: String,
}

/// What was had in the end, or so far.
#[derive(Serialize)]
struct Had {
    schema: u32,
    request: RequestView,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<GrantView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_file: Option<String>,
    /// The command that uses it, one argument each.
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh: Option<Vec<String>>,
}

/// Where the key is that gets certified.
pub(super) enum KeyHome {
    /// A file of the holder's, and where its certificate goes.
    File { public_key: PathBuf, out: PathBuf },
    /// Made here, kept by the agent alone.
    Agent { agent: Agent, confirm: bool },
    /// With somebody else, who takes the certificate.
    Theirs,
}

impl KeyHome {
    /// Told before anything is asked for: an answer that cannot be used wastes
    /// the time of those who gave it.
    fn of(public_key: Option<&Path>, out: Option<&Path>, confirm: bool) -> Result<KeyHome, CliError> {
        let Some(public_key) = public_key else {
            return match Agent::from_env() {
                Ok(agent) => Ok(KeyHome::Agent { agent, confirm }),
                Err(error @ AgentError::None) => Err(CliError::failed(error.to_string())
                    .hint("without an agent: give a key of your own with --public-key FILE.pub")),
                Err(error) => Err(error.into()),
            };
        };
        let out = match out {
            Some(out) => out.to_owned(),
            None => beside(public_key)?,
        };
        replaceable(&out)?;
        Ok(KeyHome::File {
            public_key: absolute(public_key)?,
            out,
        })
    }
}

pub async fn run(common: &Common, args: RequestArgs) -> Result<Exit, CliError> {
    let session = Session::logged_in(common).await?;
    let home = match (&args.identity, &args.public_key) {
        (Some(_), None) => KeyHome::Theirs,
        (_, public_key) => KeyHome::of(public_key.as_deref(), args.out.as_deref(), args.confirm)?,
    };
    let public_key = match &home {
        KeyHome::File { public_key, .. } => Some(read_text(public_key, KEY_FILE_BYTES_MAX)?.trim().to_owned()),
        KeyHome::Agent { .. } | KeyHome::Theirs => None,
    };
    let begins_ms = args
        .begin
        .map(|begin| u64::try_from(begin.as_millisecond()).unwrap_or(0));
    let asked = AccessRequestNew {
        identity: args.identity,
        destination: args.destination,
        for_secs: args.length.as_secs(),
        reason: args.reason,
        ticket: args.ticket,
        allow: args.allow,
        sources: args.sources,
        begins_ms,
        public_key,
        single_use: args.single_use,
        extends: args.extend,
        device: None,
        location: None,
        proof: None,
    };
    let request = ask(&session, &asked).await?;
    let request = match (request.state, args.no_wait) {
        (RequestState::Pending, false) => answered(&session, request, args.timeout).await?,
        _ => request,
    };
    finish(&session, request, &home).await
}

pub async fn collect(common: &Common, args: &CollectArgs) -> Result<Exit, CliError> {
    let session = Session::logged_in(common).await?;
    let home = KeyHome::of(args.public_key.as_deref(), args.out.as_deref(), args.confirm)?;
    let one: OneRequest = session.client.get(&format!("/v1/requests/{}", args.id)).await?;
    finish(&session, one.request, &home).await
}

/// Makes a request.
pub(super) async fn ask(session: &Session, asked: &AccessRequestNew) -> Result<RequestView, CliError> {
    let purpose = ChallengeFor::Request(hex32::encode(&asked.sha256()));
    let one: OneRequest = session
        .proving(purpose, async |proof| {
            let asked = AccessRequestNew { proof, ..asked.clone() };
            session.client.post("/v1/requests", &asked).await
        })
        .await?;
    Ok(one.request)
}

/// Collects if it was approved; otherwise tells how it stands.
async fn finish(session: &Session, request: RequestView, home: &KeyHome) -> Result<Exit, CliError> {
    match request.state {
        RequestState::Approved => {}
        RequestState::Pending => return pending(session, request),
        RequestState::Denied | RequestState::Expired | RequestState::Withdrawn | RequestState::Revoked => {
            return Err(no(&request));
        }
    }
    let had = match home {
        KeyHome::File { public_key, out } => into_file(session, request, public_key, out).await?,
        KeyHome::Agent { agent, confirm } => into_agent(session, request, agent, *confirm).await?,
        KeyHome::Theirs => return theirs(session, request),
    };
    session.output.data(&had, || {
        let words = had.ssh.iter().flatten();
        let line: Vec<String> = words.map(|word| output::quoted(word)).collect();
        format!("{}\n", line.join(" "))
    })?;
    if let Some(grant) = &had.grant {
        session.output.say(format!(
            "Grant {} for {} to {} until {}; certificate in {}.",
            grant.id,
            grant.identity,
            grant.destination,
            session.output.time(&grant.until),
            had.certificate_file.as_deref().unwrap_or("?")
        ));
    }
    Ok(Exit::Ok)
}

fn pending(session: &Session, request: RequestView) -> Result<Exit, CliError> {
    session.output.say(format!(
        "Waiting for {}. `portcullis collect {}` takes the certificate once it is approved; `portcullis withdraw {}` takes the request back.",
        missing(&request),
        request.id,
        request.id
    ));
    so_far(session, request)?;
    Ok(Exit::Pending)
}

fn theirs(session: &Session, request: RequestView) -> Result<Exit, CliError> {
    session.output.say(format!(
        "Approved. {} takes the certificate: portcullis collect {}",
        request.identity, request.id
    ));
    so_far(session, request)?;
    Ok(Exit::Ok)
}

/// A request without a certificate, for the pipe.
fn so_far(session: &Session, request: RequestView) -> Result<(), CliError> {
    let had = Had {
        schema: SCHEMA,
        request,
        grant: None,
        certificate_file: None,
        ssh: None,
    };
    session.output.data(&had, || format!("{}\n", had.request.id))
}

/// Who has to answer yet.
fn missing(request: &RequestView) -> String {
    let groups: Vec<&str> = request
        .obligations
        .approvers
        .iter()
        .map(|group| group.as_str())
        .collect();
    let people = match request.missing {
        1 => "one person's yes".to_owned(),
        more => format!("the yes of {more} people"),
    };
    match groups.is_empty() {
        true => people,
        false => format!("{people} ({})", groups.join(", ")),
    }
}

/// The end of a request that was not approved.
fn no(request: &RequestView) -> CliError {
    let said = request.answers.last();
    let why = match (request.state, said) {
        (RequestState::Denied, Some(answer)) if answer.reason.is_empty() => format!(" by {}", answer.by),
        (RequestState::Denied, Some(answer)) => format!(" by {}: {}", answer.by, answer.reason),
        (RequestState::Expired, _) => ": nobody answered in time".to_owned(),
        _ => String::new(),
    };
    let message = format!("request {} was {}{why}", request.id, request.state.as_str());
    CliError::new(Exit::Denied, message).hint("speak to who decides, then ask again")
}

/// Looks at a request until it is answered. Ending the wait leaves it.
async fn answered(session: &Session, mut request: RequestView, within: Duration) -> Result<RequestView, CliError> {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TURN);
    session.output.say(format!("Request {} is made.", request.id));
    let path = format!("/v1/requests/{}", request.id);
    let end = clock::tick() + within;
    let mut pause = PAUSE_FIRST;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    while request.state == RequestState::Pending {
        bar.set_message(format!("waiting for {}", missing(&request)));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tokio::time::sleep_until(end) => break,
            _ = &mut stop => break,
        }
        pause = pause.mul_f32(1.5).min(PAUSE_MAX);
        match session.client.get::<OneRequest>(&path).await {
            Ok(one) => request = one.request,
            Err(error) if passes(&error) => bar.set_message("the server does not answer; trying again"),
            Err(error) => {
                bar.finish_and_clear();
                return Err(error.into());
            }
        }
    }
    bar.finish_and_clear();
    Ok(request)
}

/// Whether waiting may help.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Late => true,
        ClientError::Refused(problem) => matches!(problem.code, Code::Unavailable | Code::RateLimited),
        ClientError::Unreadable(_) => false,
    }
}

/// Has a certificate made for `public_key`, or for the key that the request names.
async fn certified(
    session: &Session,
    request: &RequestView,
    public_key: Option<String>,
) -> Result<(GrantView, Certificate), CliError> {
    let path = format!("/v1/requests/{}/collect", request.id);
    let issued: Issued = session
        .proving(ChallengeFor::Collect(request.id), async |proof| {
            let wanted = CollectRequest {
                public_key: public_key.clone(),
                proof,
            };
            session.client.post(&path, &wanted).await
        })
        .await?;
    let certificate = Certificate::from_openssh(&issued.certificate)
        .map_err(|error| CliError::failed(format!("the server's certificate cannot be read: {error}")))?;
    Ok((issued.grant, certificate))
}

async fn into_file(session: &Session, request: RequestView, public_key: &Path, out: &Path) -> Result<Had, CliError> {
    let named = match &request.public_key {
        Some(_) => None,
        None => Some(read_text(public_key, KEY_FILE_BYTES_MAX)?.trim().to_owned()),
    };
    let (grant, certificate) = certified(session, &request, named).await?;
    let line = certificate
        .to_openssh()
        .map_err(|error| CliError::failed(error.to_string()))?;
    save(out, &line)?;
    let (host, port) = gate(session).await?;
    Ok(Had {
        schema: SCHEMA,
        ssh: Some(ssh_command(&request.destination, public_key, out, &host, port)),
        certificate_file: Some(out.display().to_string()),
        grant: Some(grant),
        request,
    })
}

/// A fresh key, certified, in the agent for as long as its certificate is
/// good; public halves in files, for ssh.
async fn into_agent(session: &Session, request: RequestView, agent: &Agent, confirm: bool) -> Result<Had, CliError> {
    if request.public_key.is_some() {
        return Err(
            CliError::usage(format!("request {} names the key that is certified", request.id))
                .hint(format!("portcullis collect {} --public-key FILE.pub", request.id)),
        );
    }
    let (grant, places) = (take(session, &request, agent, confirm).await?, session.places()?);
    let destination = &request.destination;
    let (public_key, certificate) = (places.public_key(destination), places.certificate(destination));
    let (host, port) = gate(session).await?;
    let mut ssh = ssh_command(destination, &public_key, &certificate, &host, port);
    // The file is a public key: ssh finds its private half in the agent.
    for word in ssh
        .iter_mut()
        .filter(|word| **word == public_key.with_extension("").display().to_string())
    {
        *word = public_key.display().to_string();
    }
    Ok(Had {
        schema: SCHEMA,
        ssh: Some(ssh),
        certificate_file: Some(certificate.display().to_string()),
        grant: Some(grant),
        request,
    })
}

/// Makes a key, has it certified, and hands both to the agent and ssh.
pub(super) async fn take(
    session: &Session,
    request: &RequestView,
    agent: &Agent,
    confirm: bool,
) -> Result<GrantView, CliError> {
    let broken = |error: russh::keys::ssh_key::Error| CliError::failed(error.to_string());
    let places = session.places()?;
    let key = Ed25519Keypair::random(&mut rand::rng());
    let public_key = PublicKey::new(KeyData::Ed25519(key.public), "");
    let line = public_key.to_openssh().map_err(broken)?;
    let (grant, certificate) = certified(session, request, Some(line)).await?;
    if certificate.public_key() != public_key.key_data() {
        return Err(CliError::failed("the server certified another key than was asked for"));
    }
    let left = certificate
        .valid_before()
        .saturating_sub(clock::Clock::system().now().wall_ms / 1000);
    let life = Life {
        secs: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        confirm,
        comment: format!("portcullis {}", request.destination),
    };
    let before = InHand::load(&places, &request.destination);
    agent.add(&key, &certificate, &life).await?;
    let now = InHand {
        public_key,
        certificate,
    };
    now.save(&places, &request.destination)?;
    if let Some(before) = before {
        // Its certificate admits nobody any more.
        agent.remove(&before.public_key, Some(&before.certificate)).await?;
    }
    Ok(grant)
}
