//! Version 3: what crossed and was not kept, and what is no digest of anything.

use portcullis_recording::Version;

use crate::finished::hello;
use crate::support::tails::{Opening, kept};
use crate::support::*;
use crate::{PLAIN, Vector, What};

const DIGEST: u8 = 0x35;
const NO_BYTES: &str = "INVALID content: event: malformed payload of kind 0x35: digest of no bytes, or of too many";

/// The payload of a digest: the number of bytes and the hash as they stand in CBOR.
fn digest(direction: u8, bytes: &[u8], hash: &[u8]) -> Vec<u8> {
    [&[0x83, direction], bytes, hash].concat()
}

fn hash() -> Vec<u8> {
    [&[0x58, 32][..], &sha256(b"hello")].concat()
}

/// Of the bytes `hello`, from the client.
fn sound() -> Vec<u8> {
    digest(0, &[5], &hash())
}

fn holding(version: Version, payload: &[u8]) -> Forger {
    Forger::in_version(version, 1).content(&rows(&[(DIGEST, payload)]), 1)
}

/// A recovered file of one chunk and a tail in which a digest is checked.
fn recovered(version: Version) -> Vec<u8> {
    let mut main = Forger::in_version(version, 1).content(&hello(), 1);
    let tail = tail(&main);
    main.recovery = Some(Recovery {
        vouched_bytes: tail.len() as u64,
        vouched_ms: 16,
        key: node(),
    });
    main.tails = vec![kept(0, &tail)];
    main.build()
}

/// The tail after the first chunk of this file.
fn tail(main: &Forger) -> Vec<u8> {
    let opening = Opening::new(1, 1, main.main().previous, PLAIN_MS);
    opening.begin().event(10, DIGEST, &sound()).check(1).bytes
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, file: Vec<u8>, expect| all.push(Vector::file(name, file, PLAIN, None, expect));
    let three = |payload: &[u8]| holding(Version::Three, payload).build();
    add("version_3", Forger::in_version(Version::Three, 1).content(&hello(), 1).build(), "SEALED");
    add("digest", three(&sound()), "SEALED");
    add("digest_of_standard_error", three(&digest(2, &[5], &hash())), "SEALED");
    add("digest_of_as_many_bytes_as_there_may_be", three(&digest(1, &[0x1A, 0, 0x10, 0, 0], &hash())), "SEALED");
    add("digest_in_version_1", holding(Version::One, &sound()).build(), "INVALID content: event: unknown kind 0x35");
    add("digest_of_no_bytes", three(&digest(0, &[0], &hash())), NO_BYTES);
    add("digest_of_too_many_bytes", three(&digest(0, &[0x1A, 0, 0x10, 0, 1], &hash())), NO_BYTES);
    add("digest_of_an_unknown_direction", three(&digest(3, &[5], &hash())), "INVALID content: event: malformed payload of kind 0x35: unknown direction");
    add("digest_with_a_short_hash", three(&digest(0, &[5], &[&[0x58, 31][..], &[7; 31]].concat())), "INVALID content: event: malformed payload of kind 0x35: byte string of another length");
    add("digest_with_the_bytes_themselves", three(&[&[0x84][..], &sound()[1..], b"Ehello"].concat()), "INVALID content: event: malformed payload of kind 0x35: CBOR array of another size");
    add("digest_with_something_behind_it", three(&[sound(), vec![0]].concat()), "INVALID content: event: malformed payload of kind 0x35: bytes after the last CBOR item");
    add("digest_in_a_tail", recovered(Version::Three), "RECOVERED up to 0.016 s");
    add("digest_in_a_tail_of_version_1", recovered(Version::One), "INVALID: malformed: a torn record in a recovered tail");
    let raw = rows(&[(DIGEST, &sound())]);
    let frame = zstd_frame(raw.len() as u32, &last_raw(&raw));
    let locked = |version| Forger::encrypted_in(version, 1).sealed(&frame, raw.len() as u64, 1).build();
    let spool = |version| { let main = Forger::in_version(version, 1).content(&hello(), 1); What::Spool(main.main().file, vec![(1, tail(&main))]) };
    let mut more = |name, what, opened, expect| all.push(Vector { name, what, trust: PLAIN, proof: None, opened, expect });
    more("digest_in_an_encrypted_recording", What::File(locked(Version::Three)), true, "SEALED");
    more("digest_in_an_encrypted_recording_and_locked", What::File(locked(Version::Three)), false, "SEALED, locked");
    more("digest_in_version_2", What::File(locked(Version::Two)), true, "INVALID content: event: unknown kind 0x35");
    more("digest_in_a_spool", spool(Version::Three), false, "PREFIX up to 0.016 s");
    more("digest_in_a_spool_of_version_1", spool(Version::One), false, "PREFIX up to 0.005 s");
    all
}
