//! Arguments in, exit code out.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use portcullis::cli::{self, Cli, output};

fn main() -> ExitCode {
    // Clap prints usage errors itself, with exit code 2.
    let exit = match cli::run(Cli::parse()) {
        Ok(exit) => exit,
        Err(error) => {
            let text = output::render(&error, output::color());
            // Nobody to tell is no reason for another exit code.
            std::io::stderr().write_all(text.as_bytes()).ok();
            error.exit
        }
    };
    ExitCode::from(exit.code())
}
