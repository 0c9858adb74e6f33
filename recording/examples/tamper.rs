//! The tamper campaign: everything that can be done to the bytes of a recording, clear and encrypted, counted by kind.
//!
//! `cargo run --release -p portcullis-recording --example tamper [KIB]` (default: 256 KiB, some minutes).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a campaign that cannot go on has failed"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use portcullis_recording::{Trust, verify};
use support::tamper::{campaign, recording, redacted, redacting};

const KIB_DEFAULT: usize = 256;

fn main() -> ExitCode {
    let kib = match std::env::args().nth(1).map(|n| n.parse()) {
        None => KIB_DEFAULT,
        Some(Ok(kib)) => kib,
        Some(Err(_)) => {
            eprintln!("usage: tamper [KIB]");
            return ExitCode::from(2);
        }
    };
    let mut sound = true;
    for encrypted in [false, true] {
        let [file, other] = [1, 2].map(|session| recording(session, kib << 10, encrypted));
        let what = if encrypted { "encrypted" } else { "clear" };
        sound &= run(what, &support::trust(), &file, &other);
        if !encrypted {
            sound &= run("redacted copy", &redacting(), &redacted(&file), &redacted(&other));
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the file verifies, and nothing that was done to it.
fn run(what: &str, trust: &Trust, file: &[u8], other: &[u8]) -> bool {
    let sound = verify(std::io::Cursor::new(file), trust, None).is_ok();
    println!("{what}: {} bytes, sound: {sound}", file.len());
    let (mut tried, mut verified) = (0, 0);
    let began = Instant::now();
    for count in campaign(trust, file, other, 1) {
        println!("{}: {} tried, {} verified", count.kind, count.tried, count.verified);
        tried += count.tried;
        verified += count.verified;
    }
    println!("{tried} tried, {verified} verified, {} s", began.elapsed().as_secs());
    sound && verified == 0
}
