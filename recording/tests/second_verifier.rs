//! A reader in another language, written from FORMAT.md alone, comes to the
//! same verdicts: `tests/second-verifier/README.md`.

#![allow(clippy::expect_used, reason = "a check that cannot go on has failed")]

use std::env::var_os;
use std::path::PathBuf;
use std::process::Command;

/// Runs a tool of the second verifier; its last line.
fn last_line_of(tool: &str) -> String {
    // Asked at run time, for a cached build may come from another clone.
    let crate_root = PathBuf::from(var_os("CARGO_MANIFEST_DIR").expect("run by cargo"));
    let script = crate_root.join("../tests/second-verifier").join(tool);
    // The one that has the packages; `tests/run` installs them.
    let python = var_os("PORTCULLIS_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python).arg(&script).output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{tool}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().last().expect("a last line").to_owned()
}

#[test]
fn every_vector_has_the_same_verdict() {
    let line = last_line_of("vectors");
    let (vectors, agree) = line.split_once(" vectors, ").expect("N vectors, N agree");
    assert_eq!(agree, format!("{vectors} agree"));
}

#[test]
fn every_changed_byte_is_noticed() {
    assert_eq!(last_line_of("mutate"), "2000 mutations, 2000 INVALID");
}
