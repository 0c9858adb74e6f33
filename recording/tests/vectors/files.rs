//! Version 3: what is told of files, and what nobody can say of one.

use portcullis_recording::Version;

use crate::support::*;
use crate::{PLAIN, Vector};

const FILE: u8 = 0x36;
const NOTICE: u8 = 0x23;
const UPLOAD: u8 = 1;
const REMOVE: u8 = 4;
const SAID: &str =
    "INVALID content: event: malformed payload of kind 0x36: file of which is said what cannot be, or not what must";
const NOTHING: &str = "INVALID content: event: malformed payload of kind 0x36: number that names nothing";
const RANGE: &str =
    "INVALID content: event: malformed payload of kind 0x36: range of no bytes, or past the end of any file";

fn hash() -> Vec<u8> {
    [&[0x58, 32][..], &sha256(b"hello")].concat()
}

/// A payload: who says what, in CBOR. The path is `x`.
fn file(act: u8, outcome: u8, bytes: u8, whole: &[u8], unknown: &[u8], ranges: &[u8]) -> Vec<u8> {
    let head = [0x8A, act, 0x41, b'x', 0x40, outcome, 0x60, 0x01, bytes];
    [&head, whole, unknown, ranges].concat()
}

fn range(offset: &[u8], length: &[u8]) -> Vec<u8> {
    [&[0x83], offset, length, &hash()].concat()
}

fn ranges(all: &[Vec<u8>]) -> Vec<u8> {
    [&[0x80 | all.len() as u8][..], &all.concat()].concat()
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    const NONE: &[u8] = &[0x40];
    const SILENT: &[u8] = &[0x60];
    const CODE: &[u8] = b"\x64lost";
    const NO_RANGES: &[u8] = &[0x80];
    let mut all = Vec::new();
    let mut notice = |name, how, version, expect| {
        let file = Forger::in_version(version, 1).content(&rows(&[(NOTICE, &[0x82, 0x41, b'x', how])]), 1).build();
        all.push(Vector::file(name, file, PLAIN, None, expect));
    };
    const WAY: &str = "INVALID content: event: malformed payload of kind 0x23: unknown way of a notice";
    notice("notice_in_the_targets_place", 3, Version::Three, "SEALED");
    notice("notice_in_the_targets_place_in_version_1", 3, Version::One, WAY);
    notice("notice_of_keys", 4, Version::Three, "SEALED");
    notice("notice_of_keys_in_version_1", 4, Version::One, WAY);
    notice("notice_of_an_unknown_way", 5, Version::Three, WAY);
    let mut add = |name, version, payload: &[u8], expect| {
        let file = Forger::in_version(version, 1).content(&rows(&[(FILE, payload)]), 1).build();
        all.push(Vector::file(name, file, PLAIN, None, expect));
    };
    let sound = file(UPLOAD, 0, 5, &hash(), SILENT, NO_RANGES);
    let two = ranges(&[range(&[0], &[5]), range(&[9], &[1])]);
    add("file", Version::Three, &sound, "SEALED");
    add("file_in_ranges", Version::Three, &file(UPLOAD, 2, 6, NONE, CODE, &two), "SEALED");
    add("file_removed", Version::Three, &file(REMOVE, 3, 0, NONE, SILENT, NO_RANGES), "SEALED");
    add("file_in_version_1", Version::One, &sound, "INVALID content: event: unknown kind 0x36");
    add("file_of_an_unknown_act", Version::Three, &file(12, 0, 0, NONE, SILENT, NO_RANGES), NOTHING);
    add("file_of_an_unknown_outcome", Version::Three, &file(UPLOAD, 4, 5, &hash(), SILENT, NO_RANGES), NOTHING);
    add("file_with_hash_and_excuse", Version::Three, &file(UPLOAD, 0, 5, &hash(), CODE, NO_RANGES), SAID);
    add("file_without_hash_and_excuse", Version::Three, &file(UPLOAD, 0, 5, NONE, SILENT, NO_RANGES), SAID);
    add("file_removed_with_a_hash", Version::Three, &file(REMOVE, 0, 0, &hash(), SILENT, NO_RANGES), SAID);
    add("file_removed_with_bytes", Version::Three, &file(REMOVE, 0, 5, NONE, SILENT, NO_RANGES), SAID);
    add("file_with_half_a_hash", Version::Three, &file(UPLOAD, 0, 5, &[&[0x50][..], &[7; 16]].concat(), SILENT, NO_RANGES), "INVALID content: event: malformed payload of kind 0x36: byte string of another length");
    add("file_with_a_range_of_nothing", Version::Three, &file(UPLOAD, 0, 5, NONE, CODE, &ranges(&[range(&[0], &[0])])), RANGE);
    add("file_with_a_range_past_all_files", Version::Three, &file(UPLOAD, 0, 5, NONE, CODE, &ranges(&[range(&[0x1B, 0x7F, 255, 255, 255, 255, 255, 255, 255], &[1])])), RANGE);
    add("file_with_something_behind_it", Version::Three, &[&sound[..], &[0]].concat(), "INVALID content: event: malformed payload of kind 0x36: bytes after the last CBOR item");
    all
}
