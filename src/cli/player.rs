//! `play` and `verify`: the player's, under this roof too.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

/// Whatever the player takes.
#[derive(Args, Debug)]
pub struct PlayerArgs {
    /// As of portcullis-player
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Replays what these arguments name.
pub fn play(args: Vec<OsString>) -> ExitCode {
    run("play", &PlayerArgs { args })
}

/// Runs the player; terminal, output and exit code are its own.
pub fn run(verb: &str, args: &PlayerArgs) -> ExitCode {
    let name = ["portcullis-player", verb].map(OsString::from);
    portcullis_player::run(name.into_iter().chain(args.args.iter().cloned()))
}
