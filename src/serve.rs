//! PLACEHOLDER for the lead's server: only so that the command line compiles.

use crate::config::Config;

/// Runs the server until it is told to stop.
///
/// # Errors
/// Why it could not.
pub async fn run(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("serve is not here yet (node {})", config.node)
}
