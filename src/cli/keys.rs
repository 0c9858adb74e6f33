//! `keys`: replacing one that is old, or that somebody else may have.

use clap::{Subcommand, ValueEnum};

use super::exit::{CliError, Exit};
use super::{Common, output};
use crate::api::wire::SCHEMA;
use crate::issue::keys::{self, KeyName};

/// `keys …`
#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Make a new one in the place of an old one; the server must not run
    Rotate {
        /// Which
        #[arg(value_enum)]
        key: Rotatable,
    },
}

/// Keys that can be replaced without telling anybody else first: the trust
/// file keeps the old one, for what it signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Rotatable {
    /// Signs recordings
    Node,
}

pub fn run(common: &Common, command: &KeysCommand) -> Result<Exit, CliError> {
    let KeysCommand::Rotate { key: Rotatable::Node } = command;
    let config = common.load()?;
    let socket = config.layout.api_socket();
    // A running server goes on with the key that it has read.
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(
            CliError::failed(format!("a server runs with this state folder ({})", socket.display()))
                .hint("stop it first; it takes the new key up when it starts"),
        );
    }
    let failed = |error: keys::KeysError| CliError::failed(error.to_string());
    let public = keys::rotate(&config.layout.keys(), KeyName::Node).map_err(failed)?;
    let print = public.fingerprint(russh::keys::HashAlg::Sha256).to_string();
    let answer = serde_json::json!({ "schema": SCHEMA, "key": "node", "fingerprint": print });
    let out = common.output();
    out.data(&answer, || format!("{}\n", output::clean(&print, 128)))?;
    out.say("Next: start the server, and give out `portcullis trust export` again. If somebody else may have the old key: `portcullis trust revoke --node-key KEY --since TIME`.");
    Ok(Exit::Ok)
}
