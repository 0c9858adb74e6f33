//! `serve`: the server.

use clap::Args;

use super::Common;
use super::exit::{CliError, Exit};
use super::output::color;
use crate::telemetry;

/// `serve`'s arguments: all of it is in the configuration.
#[derive(Args, Debug)]
pub struct ServeArgs {}

pub async fn run(common: &Common, _args: &ServeArgs) -> Result<Exit, CliError> {
    let config = common.load()?;
    telemetry::init(&config.log, color()).map_err(CliError::failed)?;
    crate::serve::run(config)
        .await
        .map_err(|error| CliError::failed(format!("{error:#}")))?;
    Ok(Exit::Ok)
}
