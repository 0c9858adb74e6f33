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

use portcullis_recording::verify;
use support::tamper::{campaign, recording};

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
    let began = Instant::now();
    let (mut sound, mut tried, mut verified) = (true, 0, 0);
    for encrypted in [false, true] {
        let [file, other] = [1, 2].map(|session| recording(session, kib << 10, encrypted));
        sound &= verify(std::io::Cursor::new(&file), &support::trust(), None).is_ok();
        println!("{} bytes, encrypted: {encrypted}, sound: {sound}", file.len());
        for count in campaign(&support::trust(), &file, &other, 1) {
            println!("{}: {} tried, {} verified", count.kind, count.tried, count.verified);
            tried += count.tried;
            verified += count.verified;
        }
    }
    println!("{tried} tried, {verified} verified, {} s", began.elapsed().as_secs());
    if sound && verified == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
