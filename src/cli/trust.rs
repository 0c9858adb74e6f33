//! `trust`: what a verifier needs, public.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Subcommand;
use portcullis_recording::sshsig::allowed_signer;
use portcullis_recording::trust::Trust;
use serde::Serialize;

use super::exit::{CliError, Exit};
use super::init::pattern;
use super::keys::line as keys_line;
use super::{Common, krl, read_text};
use crate::api::wire::SCHEMA;
use crate::durable;
use crate::issue::generations;
use crate::issue::keys::{self, KeyName};
use crate::issue::trust;
use crate::layout::Layout;

/// Largest trust file, in bytes.
const TRUST_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Serialize)]
struct Exported<'a> {
    schema: u32,
    /// The text of the file.
    trust: &'a str,
}

/// `trust …`
#[derive(Subcommand, Debug)]
pub enum TrustCommand {
    /// Print the trust file, for `portcullis-player verify --trust`
    Export {
        /// Print the nodes' keys as an allowed signers file instead, for `ssh-keygen -Y verify` over FILE.sig
        #[arg(long)]
        allowed_signers: bool,
        /// Write it here instead; nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the target authority's keys, for TrustedUserCAKeys at targets: those announced and those retiring as well
    TargetCa,
    /// Print the host authority's keys as lines for clients' known_hosts
    KnownHosts,
    /// Write what is revoked as an OpenSSH key revocation list
    Krl(krl::KrlArgs),
    /// Say since when somebody else may have a node's key: what it signed
    /// counts only with a proof that witnesses cosigned before
    Revoke {
        /// The key, as the trust file writes it
        #[arg(long, value_name = "BASE64")]
        node_key: String,
        /// The first moment at which it may have been somebody else's (RFC 3339)
        #[arg(long, value_name = "TIME")]
        since: jiff::Timestamp,
    },
}

pub async fn run(common: &Common, command: &TrustCommand) -> Result<Exit, CliError> {
    let (allowed_signers, out) = match command {
        TrustCommand::Export { allowed_signers, out } => (allowed_signers, out),
        TrustCommand::Revoke { node_key, since } => return revoke(common, node_key, *since),
        TrustCommand::TargetCa => return lines(common, KeyName::TargetCa),
        TrustCommand::KnownHosts => return lines(common, KeyName::HostCa),
        TrustCommand::Krl(args) => return krl::run(common, args).await,
    };
    // From the file, not from the server: an investigator gets it from a
    // server that is down as well.
    let config = common.load()?;
    let text = read_text(&config.layout.trust(), TRUST_BYTES_MAX)?;
    let trust = Trust::parse(&text).map_err(|error| CliError::failed(error.to_string()))?;
    let text = match allowed_signers {
        true => signers(&trust),
        false => text,
    };
    match out {
        None => common.output().data(
            &Exported {
                schema: SCHEMA,
                trust: &text,
            },
            || text.clone(),
        )?,
        Some(path) => {
            durable::write_new(path, text.as_bytes(), 0o644).map_err(|error| CliError::failed(error.to_string()))?;
            common.output().say(format!("Wrote {}.", path.display()));
        }
    }
    Ok(Exit::Ok)
}

/// A line for each key of an authority that others are to trust now.
fn lines(common: &Common, name: KeyName) -> Result<Exit, CliError> {
    let config = common.load()?;
    let known = generations::of(&config.layout.keys(), name).map_err(|error| CliError::failed(error.to_string()))?;
    let hosts = pattern(&config.ssh.host_names, config.ssh.listen.port());
    let mut lines = Vec::new();
    for key in known.iter().filter(|key| key.stage.is_trusted()) {
        let line = match name {
            KeyName::HostCa => {
                trust::known_hosts_line(&hosts, &key.public).map_err(|error| CliError::failed(error.to_string()))?
            }
            KeyName::AdmissionCa | KeyName::TargetCa | KeyName::SshHost | KeyName::Node | KeyName::Ledger => {
                format!("{} portcullis {name} {}", keys_line(&key.public)?, key.stage.as_str())
            }
        };
        lines.push(line);
    }
    let answer = serde_json::json!({ "schema": SCHEMA, "lines": lines });
    common.output().data(&answer, || lines.join("\n") + "\n")?;
    Ok(Exit::Ok)
}

/// Marks every entry of a node's key. A time is only ever moved back: who can
/// run this cannot make a stolen key good again.
fn revoke(common: &Common, node_key: &str, since: jiff::Timestamp) -> Result<Exit, CliError> {
    let config = common.load()?;
    let path = config.layout.trust();
    let text = read_text(&path, TRUST_BYTES_MAX)?;
    let mut trust = Trust::parse(&text).map_err(|error| CliError::failed(error.to_string()))?;
    let since = u64::try_from(since.as_millisecond()).map_err(|_| CliError::usage("a time before 1970"))?;
    let mut found = 0;
    for node in &mut trust.nodes {
        if BASE64.encode(node.key) == node_key {
            node.revoked_wall_ms = Some(node.revoked_wall_ms.map_or(since, |earlier| earlier.min(since)));
            found += 1;
        }
    }
    if found == 0 {
        return Err(CliError::new(
            Exit::NotFound,
            format!("{} has no node key `{node_key}`", path.display()),
        )
        .hint("`portcullis trust export` shows them, as `key = \"...\"` under [[node]]"));
    }
    let text = trust.to_text().map_err(|error| CliError::failed(error.to_string()))?;
    durable::replace(&path, text.as_bytes(), 0o644, &path.with_extension("toml.revoke"))
        .map_err(|error| CliError::failed(error.to_string()))?;
    common
        .output()
        .say("Revoked. Give out `portcullis trust export` again: other copies do not know of it.");
    Ok(Exit::Ok)
}

/// Keys that nobody else had: ssh-keygen knows nothing of cosigned proofs,
/// which alone tell what a revoked key signed before.
fn signers(trust: &Trust) -> String {
    let sound = trust.nodes.iter().filter(|node| node.revoked_wall_ms.is_none());
    let lines = sound.filter_map(|node| allowed_signer(&node.name, &node.key));
    lines.map(|line| line + "\n").collect()
}

fn ed25519(layout: &Layout, name: KeyName) -> Result<[u8; 32], CliError> {
    let key = keys::read_public(&layout.keys(), name).map_err(|error| CliError::failed(error.to_string()))?;
    match key.key_data().ed25519() {
        Some(key) => Ok(key.0),
        None => Err(CliError::failed(format!("{name} is not an ed25519 key"))),
    }
}

/// Whether the trust file can be read and is about this state folder's keys.
pub fn check(layout: &Layout) -> Result<(), String> {
    let text = read_text(&layout.trust(), TRUST_BYTES_MAX).map_err(|error| error.message)?;
    let trust = Trust::parse(&text).map_err(|error| error.to_string())?;
    let node = ed25519(layout, KeyName::Node).map_err(|error| error.message)?;
    if !trust.nodes.iter().any(|known| known.key == node) {
        return Err("does not hold this node's key: recordings made now will not verify with it".to_owned());
    }
    let ledger = ed25519(layout, KeyName::Ledger).map_err(|error| error.message)?;
    if !trust.ledgers.iter().any(|known| *known.key.key() == ledger) {
        return Err("does not hold this ledger's key".to_owned());
    }
    Ok(())
}
