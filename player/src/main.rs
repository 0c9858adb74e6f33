//! The `portcullis-player` program: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis_player::run(std::env::args_os())
}
