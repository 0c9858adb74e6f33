//! One scripted attack by name: printed with its outcome, so that
//! `tests/hostile/run` can count what was tried and not only functions.

use std::fmt::Display;

/// Whether the whole of a matrix or a flood is wanted, not only what fits
/// into every run of the tests.
pub fn whole() -> bool {
    std::env::var_os("PORTCULLIS_HOSTILE").is_some_and(|value| value == "whole")
}

/// An attack in progress. It has failed if the test panics before it ends.
pub struct Case(String);

impl Case {
    /// `id`: its row in `tests/hostile/cases`, such as `D18`.
    pub fn new(id: &str, name: impl Display) -> Case {
        Case(format!("case {id} {name}"))
    }

    /// A field of the message-order matrix.
    pub fn cell(role: &str, state: &str, number: u8) -> Case {
        Case(format!("cell {role} {state} {number}"))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { "FAILED" } else { "ok" };
        println!("{}: {outcome}", self.0.escape_debug());
    }
}
