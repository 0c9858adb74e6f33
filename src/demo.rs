//! PLACEHOLDER for the lead's demo: only so that the command line compiles.

use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub unattended: bool,
    pub state: Option<PathBuf>,
}

/// Runs it; whether everything verified.
///
/// # Errors
/// Why it could not run.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    anyhow::bail!("demo is not here yet ({options:?})")
}
