//! `demo`: the whole loop on this machine.

use clap::Args;

use super::Common;
use super::exit::{CliError, Exit};

/// `demo`'s arguments.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Run scripted sessions and exit 0 only if every recording verifies
    #[arg(long)]
    unattended: bool,
}

pub async fn run(common: &Common, args: &DemoArgs) -> Result<Exit, CliError> {
    let options = crate::demo::Options {
        unattended: args.unattended,
        state: common.state.clone(),
    };
    let good = crate::demo::run(options)
        .await
        .map_err(|error| CliError::failed(format!("{error:#}")))?;
    Ok(if good { Exit::Ok } else { Exit::Failed })
}
