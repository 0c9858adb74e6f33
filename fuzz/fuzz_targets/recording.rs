//! One binary for all targets of the recording crate; `FUZZ_TARGET` says which.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> = LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET is not set"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_recording::fuzz::run(&TARGET, bytes));
