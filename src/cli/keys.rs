//! `keys`: seeing them, replacing one that is old, or that somebody else may
//! have, and putting a passphrase on their files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, HashAlg, PublicKey};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::exit::{CliError, Exit};
use super::output::{clean, table};
use super::{Common, Session, read_text};
use crate::api::wire::{GrantState, GrantView, Grants, SCHEMA, rfc3339};
use crate::clock::Clock;
use crate::config::Config;
use crate::issue::generations::{self, Stage};
use crate::issue::keys::{self, KeyName, KeysError};
use crate::issue::places::Place;
use crate::issue::signer::{Authority, Holders};
use crate::kernel::grant::hex32;
use crate::ledger::body::Body;
use crate::ledger::journal::Reader;

/// Largest public key file, in bytes.
const PUBLIC_BYTES_MAX: u64 = 64 * 1024;
/// Most grants that are named one by one.
const NAMED_MAX: usize = 20;

/// `keys …`
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Every key, every generation of the authorities' among them
    List,
    /// Make a new key. An authority's comes beside the old one, which stays
    /// trusted until it is retired; the node's takes its place (the server must not run)
    Rotate(RotateArgs),
    /// Sign with the announced key from now on, once everybody who has to trusts it
    Activate {
        /// Which
        #[arg(value_enum)]
        key: Ca,
    },
    /// Trust the key before the last change no more
    Retire(RetireArgs),
    /// Put the configured passphrase on the authorities' key files
    Encrypt {
        /// Which; default: all three
        #[arg(value_enum)]
        keys: Vec<Ca>,
    },
}

/// `keys rotate`'s arguments.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Which
    #[arg(value_enum)]
    key: Rotatable,
    /// Public half of a new key that an agent or a token holds; default: make one, as a file
    #[arg(long, value_name = "FILE.pub")]
    public_key: Option<PathBuf>,
}

/// `keys retire`'s arguments.
#[derive(Args, Debug)]
pub struct RetireArgs {
    /// Which
    #[arg(value_enum)]
    key: Ca,
    /// Also while live grants hold certificates of it; says which stop admitting
    #[arg(long)]
    force: bool,
    /// Take back the announced key instead, before it was ever used
    #[arg(long, conflicts_with = "force")]
    announced: bool,
}

/// Keys that can be replaced. The ledger's cannot: it is the ledger's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Rotatable {
    /// Signs recordings
    Node,
    /// Signs users' certificates
    AdmissionCa,
    /// Signs certificates towards targets
    TargetCa,
    /// Signs this server's host certificate
    HostCa,
}

/// The three authorities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Ca {
    /// Signs users' certificates
    #[value(name = "admission-ca")]
    Admission,
    /// Signs certificates towards targets
    #[value(name = "target-ca")]
    Target,
    /// Signs this server's host certificate
    #[value(name = "host-ca")]
    Host,
}

impl Ca {
    fn name(self) -> KeyName {
        match self {
            Ca::Admission => KeyName::AdmissionCa,
            Ca::Target => KeyName::TargetCa,
            Ca::Host => KeyName::HostCa,
        }
    }

    /// As it is typed.
    fn typed(self) -> &'static str {
        match self {
            Ca::Admission => "admission-ca",
            Ca::Target => "target-ca",
            Ca::Host => "host-ca",
        }
    }
}

#[derive(Serialize)]
struct Listed {
    schema: u32,
    keys: Vec<Row>,
}

/// One key as shown.
#[derive(Serialize)]
struct Row {
    key: String,
    state: &'static str,
    /// Nothing of a private half is left of those that sign nothing any more.
    place: Option<&'static str>,
    fingerprint: String,
    since: Option<String>,
    public_key: String,
}

/// What a change came to.
#[derive(Serialize)]
struct Changed {
    schema: u32,
    key: String,
    state: &'static str,
    fingerprint: String,
}

fn failed(error: KeysError) -> CliError {
    CliError::failed(error.to_string())
}

pub async fn run(common: &Common, command: &KeysCommand) -> Result<Exit, CliError> {
    match command {
        KeysCommand::List => list(common),
        KeysCommand::Rotate(args) => match args.key {
            Rotatable::Node => rotate_node(common, args),
            Rotatable::AdmissionCa => rotate(common, Ca::Admission, args).await,
            Rotatable::TargetCa => rotate(common, Ca::Target, args).await,
            Rotatable::HostCa => rotate(common, Ca::Host, args).await,
        },
        KeysCommand::Activate { key } => activate(common, *key).await,
        KeysCommand::Retire(args) if args.announced => withdraw(common, args.key),
        KeysCommand::Retire(args) => retire(common, args).await,
        KeysCommand::Encrypt { keys } => encrypt(common, keys),
    }
}

fn list(common: &Common) -> Result<Exit, CliError> {
    let config = common.load()?;
    let dir = config.layout.keys();
    let mut rows = Vec::new();
    for known in generations::all(&dir).map_err(failed)? {
        let signs = match known.stage {
            Stage::Announced | Stage::Active => Some(config.keys.of(known.name).as_str()),
            Stage::Retiring | Stage::Retired => None,
        };
        let since = known.since_ms.map(rfc3339);
        rows.push(row(known.name, known.stage.as_str(), signs, &known.public, since)?);
    }
    for name in [KeyName::SshHost, KeyName::Node, KeyName::Ledger] {
        let public = keys::read_public(&dir, name).map_err(failed)?;
        rows.push(row(name, Stage::Active.as_str(), Some("file"), &public, None)?);
    }
    let listed = Listed {
        schema: SCHEMA,
        keys: rows,
    };
    let output = common.output();
    output.data(&listed, || {
        let cells = listed.keys.iter().map(|row| {
            vec![
                row.key.clone(),
                row.state.to_owned(),
                row.place.unwrap_or("-").to_owned(),
                row.since.as_deref().map_or("-".to_owned(), |since| output.ago(since)),
                row.fingerprint.clone(),
            ]
        });
        table(
            &["KEY", "STATE", "PLACE", "SINCE", "FINGERPRINT"],
            &cells.collect::<Vec<_>>(),
        )
    })?;
    Ok(Exit::Ok)
}

fn row(
    name: KeyName,
    state: &'static str,
    place: Option<&'static str>,
    public: &PublicKey,
    since: Option<String>,
) -> Result<Row, CliError> {
    Ok(Row {
        key: name.to_string(),
        state,
        place,
        fingerprint: print(public),
        since,
        public_key: line(public)?,
    })
}

/// One key as a line, without its comment.
pub(super) fn line(key: &PublicKey) -> Result<String, CliError> {
    let bare = PublicKey::from(key.key_data().clone()).to_openssh();
    bare.map(|line| line.trim().to_owned())
        .map_err(|error| CliError::failed(error.to_string()))
}

fn print(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Prints what became of a key, and says what comes next.
fn changed(common: &Common, name: KeyName, state: &'static str, key: &PublicKey, next: &str) -> Result<Exit, CliError> {
    let answer = Changed {
        schema: SCHEMA,
        key: name.to_string(),
        state,
        fingerprint: print(key),
    };
    let output = common.output();
    output.data(&answer, || format!("{}\n", clean(&answer.fingerprint, 128)))?;
    output.say(format!("The key is {state}. Next: {next}"));
    Ok(Exit::Ok)
}

/// A running server goes on with the node key that it has read.
fn rotate_node(common: &Common, args: &RotateArgs) -> Result<Exit, CliError> {
    if args.public_key.is_some() {
        return Err(CliError::usage(
            "the node's key is always made here: it takes no --public-key",
        ));
    }
    let config = common.load()?;
    let socket = config.layout.api_socket();
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(
            CliError::failed(format!("a server runs with this state folder ({})", socket.display()))
                .hint("stop it first; it takes the new key up when it starts"),
        );
    }
    let public = keys::rotate(&config.layout.keys(), KeyName::Node).map_err(failed)?;
    let answer = Changed {
        schema: SCHEMA,
        key: "node".to_owned(),
        state: Stage::Active.as_str(),
        fingerprint: print(&public),
    };
    let out = common.output();
    out.data(&answer, || format!("{}\n", clean(&answer.fingerprint, 128)))?;
    out.say("Next: start the server, and give out `portcullis trust export` again. If somebody else may have the old key: `portcullis trust revoke --node-key KEY --since TIME`.");
    Ok(Exit::Ok)
}

/// Announces a new key. Nobody but us has to know the admission CA, so that
/// its new key is used at once.
async fn rotate(common: &Common, ca: Ca, args: &RotateArgs) -> Result<Exit, CliError> {
    let config = common.load()?;
    let (dir, name) = (config.layout.keys(), ca.name());
    let now = Clock::system().now().wall_ms;
    let at_once = ca == Ca::Admission;
    let retiring = generations::of(&dir, name).map_err(failed)?;
    if at_once && retiring.iter().any(|known| known.stage == Stage::Retiring) {
        return Err(failed(KeysError::Retiring(name)));
    }
    let key = match &args.public_key {
        Some(file) => {
            let text = read_text(file, PUBLIC_BYTES_MAX)?;
            let key = PublicKey::from_openssh(text.trim())
                .map_err(|error| CliError::failed(format!("{} is not a public key: {error}", file.display())))?;
            generations::announce_held(&dir, name, &key, now).map_err(failed)?;
            key
        }
        None => {
            let place = config.keys.of(name);
            if place != Place::File {
                return Err(CliError::usage(format!(
                    "{name} is in {}, where no key is made from here",
                    place.as_str()
                ))
                .hint("make the key there, and give its public half with --public-key FILE.pub"));
            }
            let passphrase = config.keys.passphrase().map_err(failed)?;
            generations::announce_new(&dir, name, passphrase.as_ref(), now).map_err(failed)?
        }
    };
    if at_once {
        if let Err(error) = there(&config, name).await {
            generations::withdraw(&dir, name).map_err(failed)?;
            return Err(error);
        }
        generations::activate(&dir, name, now).map_err(failed)?;
        let next = "reload the server (SIGHUP, `systemctl reload`). It then signs with the new key; the old one's certificates admit until `portcullis keys retire admission-ca`.";
        return changed(common, name, Stage::Active.as_str(), &key, next);
    }
    let next = match ca {
        Ca::Host => {
            "give every client both lines of `portcullis trust known-hosts`, then `portcullis keys activate host-ca`."
        }
        Ca::Admission | Ca::Target => {
            "give every target both lines of `portcullis trust target-ca`, then `portcullis keys activate target-ca`."
        }
    };
    changed(common, name, Stage::Announced.as_str(), &key, next)
}

/// Whether the announced key is where the configuration says.
async fn there(config: &Config, name: KeyName) -> Result<(), CliError> {
    let (dir, places) = (config.layout.keys(), &config.keys);
    let holders = Holders::of(places).map_err(failed)?;
    let passphrase = places.passphrase().map_err(failed)?;
    let authority = Authority::announced(&dir, name, (places, &holders, passphrase.as_ref())).map_err(failed)?;
    authority
        .check()
        .await
        .map_err(|error| CliError::failed(error.to_string()).hint("nothing was changed"))
}

async fn activate(common: &Common, ca: Ca) -> Result<Exit, CliError> {
    let config = common.load()?;
    let now = Clock::system().now().wall_ms;
    there(&config, ca.name()).await?;
    let key = generations::activate(&config.layout.keys(), ca.name(), now).map_err(failed)?;
    let next = format!(
        "reload the server (SIGHUP, `systemctl reload`); once nobody trusts the old key alone any more, `portcullis keys retire {}`.",
        ca.typed()
    );
    changed(common, ca.name(), Stage::Active.as_str(), &key, &next)
}

fn withdraw(common: &Common, ca: Ca) -> Result<Exit, CliError> {
    let config = common.load()?;
    let key = generations::withdraw(&config.layout.keys(), ca.name()).map_err(failed)?;
    let next = "reload the server (SIGHUP, `systemctl reload`), and take the key out again where it was trusted.";
    changed(common, ca.name(), "taken back", &key, next)
}

async fn retire(common: &Common, args: &RetireArgs) -> Result<Exit, CliError> {
    let config = common.load()?;
    let (dir, name) = (config.layout.keys(), args.key.name());
    let known = generations::of(&dir, name).map_err(failed)?;
    let Some(old) = known.iter().find(|it| it.stage == Stage::Retiring) else {
        return Err(failed(KeysError::NothingToRetire(name)));
    };
    if args.key == Ca::Admission {
        dying(common, &config, old.public.key_data(), args.force).await?;
    }
    let key = generations::retire(&dir, name, Clock::system().now().wall_ms).map_err(failed)?;
    let next = match args.key {
        Ca::Admission => "reload the server (SIGHUP, `systemctl reload`).",
        Ca::Target => {
            "reload the server, take the old line out at every target, and give them `portcullis trust krl --targets` as RevokedKeys."
        }
        Ca::Host => "reload the server, and take the old line out at every client.",
    };
    changed(common, name, Stage::Retired.as_str(), &key, next)
}

/// Refuses while grants that admit, or will, hold certificates that `old`
/// signed; with `force` it only says which.
async fn dying(common: &Common, config: &Config, old: &KeyData, force: bool) -> Result<(), CliError> {
    let output = common.output();
    let session = Session::new(common)?;
    let found = match open_grants(&session).await {
        Ok(grants) => signed_by(&config.layout.ledger(), old).map(|signed| {
            let held = |grant: &GrantView| signed.contains(&grant.certificate_sha256);
            grants.into_iter().filter(held).collect::<Vec<_>>()
        }),
        Err(error) => Err(error),
    };
    let grants = match found {
        Ok(grants) => grants,
        Err(error) if force => {
            output.say(format!("Which grants stop admitting is not known: {}", error.message));
            return Ok(());
        }
        Err(error) => {
            return Err(CliError {
                message: format!(
                    "which grants hold certificates of that key is not known: {}",
                    error.message
                ),
                hint: Some("start the server, which tells; or --force".to_owned()),
                ..error
            });
        }
    };
    if grants.is_empty() {
        return Ok(());
    }
    let name = |grant: &GrantView| {
        format!(
            "  {} {} {} until {}",
            grant.id, grant.identity, grant.destination, grant.until
        )
    };
    let mut lines: Vec<String> = grants.iter().take(NAMED_MAX).map(name).collect();
    if grants.len() > NAMED_MAX {
        lines.push(format!("  and {} more", grants.len() - NAMED_MAX));
    }
    let lines = lines.join("\n");
    if force {
        output.say(format!(
            "These grants' certificates admit nobody once the server is reloaded; what runs under them runs on (`portcullis revoke` ends it):\n{lines}"
        ));
        return Ok(());
    }
    Err(CliError::failed(format!(
        "grants that are not over hold certificates of that key:\n{lines}"
    ))
    .hint("wait for their end, revoke them, or --force"))
}

/// Grants that admit, or will.
async fn open_grants(session: &Session) -> Result<Vec<GrantView>, CliError> {
    let all: Grants = session.client.get("/v1/grants").await?;
    let open = |grant: &GrantView| match grant.state {
        GrantState::Live | GrantState::NotYet => true,
        GrantState::Expired | GrantState::Revoked | GrantState::Used => false,
    };
    Ok(all.grants.into_iter().filter(open).collect())
}

/// SHA-256, in hexadecimal, of every certificate in the ledger that `ca` signed.
fn signed_by(ledger: &Path, ca: &KeyData) -> Result<BTreeSet<String>, CliError> {
    let fail = |error: &dyn std::fmt::Display| CliError::failed(format!("the ledger cannot be read: {error}"));
    let mut from = Reader::open(ledger).map_err(|error| fail(&error))?;
    let mut found = BTreeSet::new();
    // A running server may be writing the last one.
    while let Ok(Some(frame)) = from.frame().map_err(|error| fail(&error))? {
        let Ok(Body::Event { json, .. }) = Body::decode(&frame.body) else {
            continue;
        };
        let said: serde_json::Value = serde_json::from_str(&json).map_err(|error| fail(&error))?;
        let Some(line) = said.get("certificate").and_then(|line| line.as_str()) else {
            continue;
        };
        let Ok(certificate) = Certificate::from_openssh(line.trim()) else {
            continue;
        };
        if certificate.signature_key() == ca {
            let blob = certificate.to_bytes().map_err(|error| fail(&error))?;
            found.insert(hex32::encode(&Sha256::digest(&blob).into()));
        }
    }
    Ok(found)
}

fn encrypt(common: &Common, chosen: &[Ca]) -> Result<Exit, CliError> {
    let config = common.load()?;
    let passphrase = config.keys.passphrase().map_err(failed)?.ok_or_else(|| {
        CliError::usage("no passphrase was given")
            .hint("write it into a file (mode 0600) and name that in the configuration: [keys] passphrase_file")
    })?;
    let all = [Ca::Admission, Ca::Target, Ca::Host];
    let chosen = if chosen.is_empty() { &all[..] } else { chosen };
    let mut done = 0;
    for ca in chosen {
        done += generations::encrypt(&config.layout.keys(), ca.name(), &passphrase).map_err(failed)?;
    }
    let output = common.output();
    output.data(&serde_json::json!({ "schema": SCHEMA, "encrypted": done }), || {
        format!("{done} files encrypted\n")
    })?;
    output.say(
        "What the files held before may still be found on the disk, and in backups: rotate the keys if that matters.",
    );
    Ok(Exit::Ok)
}
