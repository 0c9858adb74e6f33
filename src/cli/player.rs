//! `play` and `verify`: the player's, under this roof too.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;

use super::exit::{CliError, Exit};

/// Whatever the player takes.
#[derive(Args, Debug)]
pub struct PlayerArgs {
    /// As of portcullis-player
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<OsString>,
}

/// Becomes the player, so that terminal and exit code are its own.
pub fn run(verb: &str, args: &PlayerArgs) -> Result<Exit, CliError> {
    // PLACEHOLDER: to be replaced by a call into portcullis_player when its entry is there.
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name("portcullis-player"));
    let player = beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| "portcullis-player".into());
    let error = Command::new(&player).arg(verb).args(&args.args).exec();
    Err(CliError::new(
        Exit::NotFound,
        format!("cannot run {}: {error}", player.display()),
    )
    .hint("build it: cargo build --release -p portcullis-player"))
}
