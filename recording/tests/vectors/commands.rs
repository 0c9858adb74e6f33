//! Version 3: what is told of commands, and what nobody can say of one.

use portcullis_recording::Version;

use crate::support::*;
use crate::{PLAIN, Vector};

const COMMAND: u8 = 0x37;
const HOOK: u8 = 1;
const HIDDEN: u8 = 4;
const SAID: &str =
    "INVALID content: event: malformed payload of kind 0x37: command that ends before it begins, or is hidden and told";
const NOTHING: &str = "INVALID content: event: malformed payload of kind 0x37: number that names nothing";

/// A payload: who says what, in CBOR. It began at 1 ms, in a shell.
fn command(source: u8, confidence: u8, ended: u8, text: &[u8], other: &[u8], rest: &[u8]) -> Vec<u8> {
    let head = [0x8A, source, confidence, 1, ended];
    [&head, text, other, b"\x65shell", rest].concat()
}

/// The head of a text of so many bytes, and these.
fn text(bytes: u16) -> Vec<u8> {
    [&[0x79][..], &bytes.to_be_bytes(), &vec![b'x'; usize::from(bytes)]].concat()
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    const LS: &[u8] = b"\x62ls";
    const SILENT: &[u8] = &[0x60];
    /// No directory, no status, no labels.
    const BARE: &[u8] = &[0x60, 0x80, 0x80];
    let mut all = Vec::new();
    let mut add = |name, version, payload: &[u8], expect| {
        let file = Forger::in_version(version, 1).content(&rows(&[(COMMAND, payload)]), 1).build();
        all.push(Vector::file(name, file, PLAIN, None, expect));
    };
    let sound = command(HOOK, 2, 3, LS, SILENT, b"\x64/srv\x81\x18\x7F\x82\x61a\x61b");
    add("command", Version::Three, &sound, "SEALED");
    add("command_hidden", Version::Three, &command(HIDDEN, 0, 1, SILENT, SILENT, BARE), "SEALED");
    add("command_read_twice", Version::Three, &command(2, 1, 3, LS, b"\x62lx", BARE), "SEALED");
    add("command_as_long_as_there_may_be", Version::Three, &command(2, 1, 3, &text(1 << 14), &text(1 << 14), BARE), "SEALED");
    add("command_in_version_1", Version::One, &sound, "INVALID content: event: unknown kind 0x37");
    add("command_of_an_unknown_source", Version::Three, &command(5, 2, 3, LS, SILENT, BARE), NOTHING);
    add("command_of_an_unknown_confidence", Version::Three, &command(HOOK, 3, 3, LS, SILENT, BARE), NOTHING);
    add("command_that_ends_before_it_begins", Version::Three, &command(HOOK, 2, 0, LS, SILENT, BARE), SAID);
    add("command_hidden_with_a_text", Version::Three, &command(HIDDEN, 0, 1, LS, SILENT, BARE), SAID);
    add("command_hidden_with_another_text", Version::Three, &command(HIDDEN, 0, 1, SILENT, LS, BARE), SAID);
    add("command_too_long", Version::Three, &command(2, 1, 3, &text((1 << 14) + 1), SILENT, BARE), "INVALID content: event: malformed payload of kind 0x37: CBOR string over its bound");
    add("command_with_two_statuses", Version::Three, &command(HOOK, 2, 3, LS, SILENT, &[0x60, 0x82, 0, 0, 0x80]), "INVALID content: event: malformed payload of kind 0x37: CBOR array over its bound");
    add("command_with_too_many_labels", Version::Three, &command(HOOK, 2, 3, LS, SILENT, &[&[0x60, 0x80, 0x98, 33][..], &b"\x61a".repeat(33)].concat()), "INVALID content: event: malformed payload of kind 0x37: CBOR array over its bound");
    add("command_with_something_behind_it", Version::Three, &[&sound[..], &[0]].concat(), "INVALID content: event: malformed payload of kind 0x37: bytes after the last CBOR item");
    all
}
