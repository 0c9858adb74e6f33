//! `ledger`: the transparency log.

use clap::Subcommand;

use super::Common;
use super::exit::{CliError, Exit};

/// `ledger …`
#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Check the whole log against itself and its signed checkpoint; changes nothing
    Fsck,
}

pub fn run(common: &Common, command: &LedgerCommand) -> Result<Exit, CliError> {
    let LedgerCommand::Fsck = command;
    let config = common.load()?;
    // PLACEHOLDER: to be replaced by ledger::fsck when it is there.
    Err(CliError::failed(format!(
        "cannot check {} yet",
        config.layout.ledger().display()
    )))
}
