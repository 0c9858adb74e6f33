//! `trust`: what a verifier needs, public.

use std::path::PathBuf;

use clap::Subcommand;
use portcullis_recording::sshsig::allowed_signer;
use portcullis_recording::trust::Trust;
use serde::Serialize;

use super::exit::{CliError, Exit};
use super::{Common, read_text};
use crate::api::wire::SCHEMA;
use crate::durable;
use crate::issue::keys::{self, KeyName};
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
}

pub fn run(common: &Common, command: &TrustCommand) -> Result<Exit, CliError> {
    let TrustCommand::Export { allowed_signers, out } = command;
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
