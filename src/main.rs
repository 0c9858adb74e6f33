//! Arguments in, exit code out.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use portcullis::cli::{self, Cli, output};
use portcullis::local_helper;

/// Gives memory back after sessions end; how soon stands in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // The two processes around a local target's command stay small and
    // single-threaded: they never see the command line proper.
    if let Some(exit) = local_helper::main(std::env::args_os().skip(1)) {
        return exit;
    }
    // Clap prints usage errors itself, with exit code 2.
    match cli::run(Cli::parse()) {
        Ok(exit) => exit,
        Err(error) => {
            let text = output::render(&error, output::color());
            // Nobody to tell is no reason for another exit code.
            std::io::stderr().write_all(text.as_bytes()).ok();
            ExitCode::from(error.exit.code())
        }
    }
}
