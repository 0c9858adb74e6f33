//! Version 3: what is told of a line that was not echoed.

use portcullis_recording::Version;

use crate::support::*;
use crate::{PLAIN, Vector};

const HIDDEN_LINE: u8 = 0x38;
const LONG: &str = "INVALID content: event: malformed payload of kind 0x38: CBOR string over its bound";

/// A payload about line 7, with a prompt and an envelope of so many bytes.
fn hidden_line(prompt: u16, envelope: u16) -> Vec<u8> {
    let head = |kind: u8, bytes: u16| [&[kind | 0x19][..], &bytes.to_be_bytes()].concat();
    let short = |kind: u8, bytes: u16| match u8::try_from(bytes) {
        Ok(bytes) if bytes < 24 => vec![kind | bytes],
        Ok(bytes) => vec![kind | 0x18, bytes],
        Err(_) => head(kind, bytes),
    };
    [
        &[0x83, 7][..],
        &short(0x60, prompt),
        &vec![b'p'; usize::from(prompt)],
        &short(0x40, envelope),
        &vec![b'e'; usize::from(envelope)],
    ]
    .concat()
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, version, payload: &[u8], expect| {
        let file = Forger::in_version(version, 1).content(&rows(&[(HIDDEN_LINE, payload)]), 1).build();
        all.push(Vector::file(name, file, PLAIN, None, expect));
    };
    let sound = hidden_line(10, 300);
    add("hidden_line", Version::Three, &sound, "SEALED");
    add("hidden_line_wiped", Version::Three, &hidden_line(10, 0), "SEALED");
    add("hidden_line_as_long_as_there_may_be", Version::Three, &hidden_line(256, 8192), "SEALED");
    add("hidden_line_in_version_1", Version::One, &sound, "INVALID content: event: unknown kind 0x38");
    add("hidden_line_behind_a_long_prompt", Version::Three, &hidden_line(257, 0), LONG);
    add("hidden_line_in_a_long_envelope", Version::Three, &hidden_line(0, 8193), LONG);
    add("hidden_line_with_something_behind_it", Version::Three, &[&sound[..], &[0]].concat(), "INVALID content: event: malformed payload of kind 0x38: bytes after the last CBOR item");
    all
}
