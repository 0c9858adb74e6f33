//! What the fuzz targets run: each takes any bytes, and panics if the crate does what it must not.
//!
//! Built only for tests and under `--cfg fuzzing`. `fuzz/` at the root of the repository drives these functions with
//! libFuzzer; the test below replays the corpora it has found.
//!
//! Signatures would stop every change that a fuzzer makes. So there are two sorts of targets: those that are given a
//! file as it lies there, and those that read the bytes as a list of decisions (a [`tape::Tape`]) of somebody who has
//! all keys and signs what he likes.

mod draft;
mod pieces;
mod proofs;
mod tape;
mod whole;

/// A target: its name, which is also the folder of its corpus, and what runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("cbor", pieces::cbor),
    ("content", pieces::content),
    ("frame", pieces::frame),
    ("statement", pieces::statement),
    ("file", whole::file),
    ("ending", whole::ending),
    ("sealed", whole::sealed),
    ("recovered", whole::recovered),
    ("spool", whole::spool),
    ("note", proofs::note),
    ("proof", proofs::proof),
    ("tree", proofs::tree),
    ("trust", proofs::trust),
];

/// Runs one target.
///
/// # Panics
///
/// If the bytes make the crate break a promise, or if there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    target(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_the_fuzzers_have_found_is_harmless() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in std::fs::read_dir(corpora.join(name)).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
    }
}
