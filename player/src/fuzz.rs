//! What the fuzz targets run over foreign files: any bytes go in, and it panics if the player does what it must not.
//!
//! Built only for tests and under `--cfg fuzzing`, as in the recording crate.

use std::sync::{Arc, OnceLock};

use portcullis_recording::event::Event;

use crate::asciicast::{Export, Version, write};
use crate::envelope::{content_key, recipients};
use crate::grid::{Grid, Stream};
use crate::import::{Format, Imported, parse};
use crate::keyring::Keyring;
use crate::plain;
use crate::source::{Cursor, Source};

/// A target: its name, which is also the folder of its corpus, and what runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("age", age), ("import", import), ("screen", screen)];

/// Runs one target.
///
/// # Panics
///
/// If the bytes make the player break a promise, or if there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no fuzz target is called {name}"));
    target(bytes);
}

/// An envelope: what opens has recipients, and holds a content key or is said to hold none.
fn age(bytes: &[u8]) {
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    let keyring = KEYRING.get_or_init(|| {
        let identity = concat!(env!("CARGO_MANIFEST_DIR"), "/../recording/testdata/envelope.identity");
        Keyring::read(&[identity.into()], &[]).expect("the published identity")
    });
    let recipients = recipients(bytes);
    if content_key(bytes, keyring).is_ok() {
        assert!(recipients.is_some_and(|count| count > 0), "it opened to nobody");
    }
}

/// A file of another tool: times run forward, the title may be shown, and an asciicast of it says the same.
fn import(bytes: &[u8]) {
    let Ok(Some(imported)) = parse(bytes) else { return };
    assert!(imported.title.chars().all(|c| plain::is_shown(c) || c == '…'));
    let mut last_ms = 0;
    for timed in imported.chunks.iter().flatten() {
        assert!(timed.at_ms >= last_ms, "time runs backwards");
        last_ms = timed.at_ms;
    }
    let shown = outputs(&imported);
    let exported = cast(&imported);
    let again = parse(&exported)
        .expect("what was written reads")
        .expect("it is an asciicast");
    assert_eq!(again.format, Format::AsciicastV3);
    assert_eq!(
        String::from_utf8_lossy(&outputs(&again)),
        String::from_utf8_lossy(&shown)
    );
}

fn outputs(imported: &Imported) -> Vec<u8> {
    let outputs = imported.chunks.iter().flatten().filter_map(|timed| match &timed.event {
        Event::Output(bytes) => Some(bytes.as_ref()),
        _ => None,
    });
    outputs.collect::<Vec<_>>().concat()
}

fn cast(imported: &Imported) -> Vec<u8> {
    let mut cursor = Cursor::new(Source::UnverifiedImport(Arc::new(imported.clone())));
    let export = Export {
        version: Version::V3,
        channel: 1,
        input: true,
        verdict: "UNVERIFIED".to_owned(),
        session: String::new(),
        title: imported.title.clone(),
        opened_secs: imported.opened_wall_ms / 1000,
    };
    let mut out = Vec::new();
    write(&mut cursor, &export, &mut out).expect("an import can be exported");
    out
}

/// Terminal output of a small screen, before and after a new size: where it was cut into pieces does not matter.
fn screen(bytes: &[u8]) {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let (mut whole, mut pieces) = (Grid::new(40, 10), Grid::new(40, 10));
    for half in [first, second] {
        whole.feed(Stream::Out, half);
        half.iter().for_each(|byte| pieces.feed(Stream::Out, &[*byte]));
        assert_eq!(whole.terminal().dump(), pieces.terminal().dump());
        for grid in [&mut whole, &mut pieces] {
            grid.resize(bytes.len() as u32 & 0xFF, 7);
        }
    }
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
