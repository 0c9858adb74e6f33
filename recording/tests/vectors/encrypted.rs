//! Version 2: what is verified without a key, what only a reader with the key sees, and what nobody may slip in.

use std::io::Cursor;

use ed25519_dalek::Signer;
use portcullis_recording::{Around, recover};

use crate::finished::{flip, hello};
use crate::support::sealed::*;
use crate::support::tails::{Opening, Tail, kept};
use crate::support::*;
use crate::{PLAIN, Vector, What};

const CLOSED: &str = "INVALID content: the content key does not open it";
const OUT_OF_PLACE: &str = "INVALID: a frame where it may not be";
const TORN_RECORD: &str = "INVALID: malformed: a torn record in a recovered tail";

/// The frame of `hello` as a sound chunk has it.
fn plain(raw: &[u8]) -> Vec<u8> {
    zstd_frame(raw.len() as u32, &last_raw(raw))
}

/// A recording of one chunk around this frame, which was encrypted as it should be.
fn around(frame: &[u8]) -> Vec<u8> {
    Forger::encrypted(1).sealed(frame, hello().len() as u64, 1).build()
}

/// The same of three sound chunks, with a lie.
fn forged(change: impl Fn(&mut Forger)) -> Vec<u8> {
    let len = hello().len() as u64;
    let mut forger = (0..3).fold(Forger::encrypted(1), |f, _| f.sealed(&plain(&hello()), len, 1));
    change(&mut forger);
    forger.build()
}

/// The second of three chunks encrypted under something else.
fn ciphered(change: impl Fn(&mut Cipher)) -> Vec<u8> {
    let len = hello().len() as u64;
    let first = Forger::encrypted(1).sealed(&plain(&hello()), len, 1);
    let mut cipher = first.cipher();
    change(&mut cipher);
    first
        .chunk(cipher.chunk(&plain(&hello())), len, 1, 0)
        .sealed(&plain(&hello()), len, 1)
        .build()
}

fn one_chunk() -> Forger {
    Forger::encrypted(1).sealed(&plain(&hello()), hello().len() as u64, 1)
}

/// What seals the rows of the tail after that chunk.
fn tail_cipher() -> Cipher {
    one_chunk().cipher()
}

fn opening() -> Tail {
    Opening::new(1, 1, one_chunk().main().previous, PLAIN_MS).begin()
}

/// The tail after that chunk: a check at 16 ms, an event at 20 ms.
fn tail_1() -> Tail {
    checked().sealed(4, &tail_cipher().row(1, 0x01, b"three"))
}

fn checked() -> Tail {
    opening().sealed(10, &tail_cipher().row(0, 0x01, b"two")).check(1)
}

/// A recovered file of one chunk and this tail.
fn recovery(content: Vec<u8>, (vouched_bytes, vouched_ms): (usize, u64)) -> Vec<u8> {
    let mut main = one_chunk();
    main.tails = vec![content];
    main.recovery = Some(Recovery {
        vouched_bytes: vouched_bytes as u64,
        vouched_ms,
        key: node(),
    });
    main.build()
}

/// What the crate itself makes of an encrypted session that crashed.
fn recovered() -> Vec<u8> {
    let (mut w, mut state, mut main) = open_encrypted(1);
    let (mut first, mut tail) = (Vec::new(), Vec::new());
    w.open_tail(&mut first).unwrap();
    w.push(1, 1, &out(b"one"), &mut first).unwrap();
    main.extend(
        w.close_tail()
            .unwrap()
            .encode(&first, Around::default(), 3, &mut state)
            .unwrap(),
    );
    w.open_tail(&mut tail).unwrap();
    w.push(1200, 1, &out(b"two"), &mut tail).unwrap();
    w.check(1300, &mut tail).unwrap();
    w.push(1400, 1, &out(b"three"), &mut tail).unwrap();
    let key = node().verifying_key().to_bytes();
    let unsigned = recover(Cursor::new(&main), vec![(1, tail)], key, "crash_recovered", "").unwrap();
    let signature = node().sign(&unsigned.statement()).to_bytes();
    let done = unsigned.sign(&signature).unwrap();
    [&main[..done.keep_bytes as usize], &done.append].concat()
}

pub fn vectors() -> Vec<Vector> {
    [finished(), crashed()].into_iter().flatten().collect()
}

#[rustfmt::skip]
fn finished() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, file: Vec<u8>, opened, expect| all.push(Vector { opened, ..Vector::file(name, file, PLAIN, None, expect) });
    let (open, locked) = (true, false);
    let good = small_encrypted(1).file;
    let f = frames(&good);
    let (raw, len) = (hello(), hello().len() as u64);

    add("encrypted", good.clone(), open, "SEALED");
    add("encrypted_and_locked", good.clone(), locked, "SEALED, locked");
    add("encrypted_by_the_second_writer", forged(|_| {}), open, "SEALED");
    add("encrypted_without_events", Forger::encrypted(1).build(), locked, "SEALED");
    let mut other = Forger::new(1);
    other.head_frame = open_under(1, b"an age file that somebody shredded").2;
    add("encrypted_under_another_envelope", other.sealed(&plain(&raw), len, 1).build(), open, "SEALED, locked: another envelope");

    // Nobody needs a key to see these.
    add("encrypted_tag_flipped", flip(&good, f[1].end - 1), locked, "INVALID: the chunk's bytes are not those that were signed");
    add("encrypted_chunk_dropped", [&good[..f[1].start], &good[f[3].start..]].concat(), locked, "INVALID: the leaf has index 1, not 0");
    add("encrypted_head_of_another_session", [&small_encrypted(2).file[..f[0].end], &good[f[0].end..]].concat(), locked, "INVALID: the leaf does not follow the one before it");
    add("clear_chunk_in_an_encrypted_recording", Forger::encrypted(1).content(&raw, 1).build(), locked, OUT_OF_PLACE);
    add("encrypted_chunk_in_a_clear_recording", Forger::new(1).sealed(&plain(&raw), len, 1).build(), open, OUT_OF_PLACE);
    add("encrypted_chunk_that_is_stored", forged(|x| x.leaf = Box::new(|l| l.flags = 2)), locked, "INVALID: malformed: a stored chunk in an encrypted recording");
    add("encrypted_chunk_over_its_bound", [&good[..f[1].start], &ENCRYPTED.to_le_bytes(), &(7u32 << 20).to_le_bytes(), &[0; 64]].concat(), locked, "INVALID: a frame over its bound");
    add("encrypted_seek_table_states_a_length", flip(&good, f[f.len() - 1].start + 8 + 8 + 4), locked, "INVALID: the seek table is not the one the frames give");
    add("encrypted_leaf_signed_by_the_next_key", forged(|x| x.leaf_key = Box::new(|i| if i == 1 { 2 } else { i })), locked, "INVALID: the leaf is not signed by the key of its epoch");

    // Signed, and not what the key opens.
    let mut broken = tail_cipher(); broken.index = 0; broken.key_of = 0;
    let mut flipped = broken.chunk(&plain(&raw)); *flipped.last_mut().unwrap() ^= 1;
    let flipped = Forger::encrypted(1).chunk(flipped, len, 1, 0).build();
    add("encrypted_tag_flipped_and_signed", flipped.clone(), open, CLOSED);
    add("encrypted_tag_flipped_and_signed_and_locked", flipped, locked, "SEALED, locked");
    add("encrypted_chunk_of_no_bytes", Forger::encrypted(1).chunk(skip(ENCRYPTED, b""), len, 1, 0).build(), open, CLOSED);
    add("encrypted_under_the_key_of_another_chunk", ciphered(|c| c.key_of = 0), open, CLOSED);
    add("encrypted_for_another_place", ciphered(|c| c.index = 2), open, CLOSED);
    add("encrypted_for_another_session", ciphered(|c| c.h0[0] ^= 1), open, CLOSED);
    add("encrypted_under_another_content_key", ciphered(|c| c.content_key[0] ^= 1), open, CLOSED);

    // Opened, and not what may be in it.
    add("encrypted_leaf_counts_more_events", forged(|x| x.leaf = Box::new(|l| l.events = 2)), open, "INVALID content: the chunk's content is not what its leaf states: another number of events");
    add("encrypted_leaf_states_another_length", forged(|x| x.leaf = Box::new(|l| l.raw_len += 1)), open, "INVALID content: zstd frame refused: the content is not as long as its leaf says");
    add("encrypted_stored_chunk", around(&[stored_frame(&[&raw]), STORED_END.to_vec()].concat()), open, "INVALID content: zstd frame refused: the content is not as long as its leaf says");
    add("encrypted_rows_without_a_frame", around(&raw), open, "INVALID content: zstd frame refused: not a zstd frame");
    add("encrypted_two_frames_in_one_chunk", around(&[plain(&raw), plain(&raw)].concat()), open, "INVALID content: zstd frame refused: bytes after the frame");
    add("encrypted_zstd_checksum", around(&{ let mut x = plain(&raw); x[4] = 0xA4; x.extend([0; 4]); x }), open, "INVALID content: zstd frame refused: checksum");
    add("encrypted_frame_cut_off", around(&plain(&raw)[..12]), open, "INVALID content: zstd frame refused: it is cut off");
    let unknown = rows(&[(0x42, b"")]);
    add("encrypted_unknown_event_kind", Forger::encrypted(1).sealed(&plain(&unknown), unknown.len() as u64, 1).build(), open, "INVALID content: event: unknown kind 0x42");
    let accounts = rows(&[(0x33, &[0x80])]);
    let of_accounts = || Forger::encrypted(1).sealed(&plain(&accounts), accounts.len() as u64, 1);
    add("encrypted_accounts", { let mut x = of_accounts(); x.accounts = sha256(&[0x80]); x.build() }, open, "SEALED");
    add("encrypted_seal_of_other_accounts", of_accounts().build(), open, "INVALID content: the chunk's content is not what its leaf states: the accounts are not those that were sealed");
    add("encrypted_seal_of_other_accounts_and_locked", of_accounts().build(), locked, "SEALED, locked");
    all.push(Vector { opened: true, ..Vector::file("encrypted_by_an_unknown_node", good, "trust_nobody.toml", None, "UNVERIFIED") });
    all
}

#[rustfmt::skip]
fn crashed() -> Vec<Vector> {
    let mut all = Vec::new();
    let (open, locked) = (true, false);
    let cipher = tail_cipher();
    let whole = tail_1().bytes;
    let checked_bytes = checked().bytes.len();
    let mut add = |name, what, opened, expect| all.push(Vector { name, what, trust: PLAIN, proof: None, opened, expect });

    add("encrypted_recovered", What::File(recovered()), open, "RECOVERED up to 1.300 s");
    add("encrypted_recovered_and_locked", What::File(recovered()), locked, "RECOVERED up to 1.300 s, locked");
    // A tail is sound up to its check; what follows it is the matter.
    let mut tail = |name, tail: Tail, opened, expect| add(name, What::File(recovery(kept(0, &tail.bytes), (checked_bytes, 16))), opened, expect);
    let sound = "RECOVERED up to 0.016 s";
    tail("encrypted_tail", tail_1(), open, sound);
    tail("encrypted_tail_with_a_clear_row", checked().out(4, b"three"), locked, TORN_RECORD);
    tail("encrypted_tail_with_a_clear_ignorable_row", checked().event(4, 0x80, b""), locked, TORN_RECORD);
    tail("encrypted_tail_with_a_sealed_row_on_a_channel", checked().event(4, SEALED_ROW, &cipher.row(1, 0x01, b"three")), locked, TORN_RECORD);
    tail("encrypted_tail_with_a_sealed_row_too_short", checked().sealed(4, &[0; 17]), locked, TORN_RECORD);
    tail("encrypted_tail_with_the_shortest_sealed_row", checked().sealed(4, &cipher.row(1, 0x01, b"")), open, sound);
    tail("encrypted_tail_with_a_row_of_noise", checked().sealed(4, &[0; 30]), open, CLOSED);
    tail("encrypted_tail_with_a_row_of_noise_and_locked", checked().sealed(4, &[0; 30]), locked, "RECOVERED up to 0.016 s, locked");
    tail("encrypted_tail_with_a_row_twice", checked().sealed(4, &cipher.row(0, 0x01, b"two")), open, CLOSED);
    tail("encrypted_tail_with_the_row_of_a_chunk", checked().sealed(4, &Cipher { key_of: 0, ..cipher }.row(1, 0x01, b"three")), open, CLOSED);
    tail("encrypted_tail_with_the_row_of_another_tail", checked().sealed(4, &Cipher { index: 2, ..cipher }.row(1, 0x01, b"three")), open, CLOSED);
    tail("encrypted_tail_with_an_unknown_event", checked().sealed(4, &cipher.row(1, 0x42, b"")), open, "INVALID content: event: unknown kind 0x42");
    tail("encrypted_tail_with_a_check_in_a_sealed_row", checked().sealed(4, &cipher.row(1, 0x7F, b"")), open, "INVALID content: malformed: a check in a sealed row");
    tail("encrypted_tail_with_a_sealed_row_in_a_sealed_row", checked().sealed(4, &cipher.row(1, SEALED_ROW, b"")), open, "INVALID content: event: unknown kind 0x7e");
    add("encrypted_tail_that_is_a_stored_chunk", What::File(recovery(kept(1, &stored_frame(&[&[0, 9, 0, 1, 1, 0]])), (0, PLAIN_MS))), locked, "INVALID: malformed: a stored chunk in an encrypted recording");
    let mut clear = Forger::new(1).content(&hello(), 1);
    clear.tails = vec![kept(0, &Opening::new(1, 1, clear.main().previous, PLAIN_MS).begin().sealed(4, &[0; 30]).bytes)];
    clear.recovery = Some(Recovery { vouched_bytes: 0, vouched_ms: PLAIN_MS, key: node() });
    add("sealed_row_in_a_clear_recording", What::File(clear.build()), locked, TORN_RECORD);

    // Spools.
    let main = one_chunk().main().file;
    let head_bytes = Forger::encrypted(1).head_frame.len();
    let spool = |main: &[u8], tail: &[u8]| What::Spool(main.to_vec(), vec![(1, tail.to_vec())]);
    add("encrypted_spool", spool(&main, &whole), open, "PREFIX up to 0.016 s");
    add("encrypted_spool_and_locked", spool(&main, &whole), locked, "PREFIX up to 0.016 s, locked");
    add("encrypted_spool_with_a_torn_record", spool(&main, &whole[..whole.len() - 2]), open, "PREFIX up to 0.016 s");
    add("encrypted_spool_with_a_clear_row", spool(&main, &tail_1().out(1, b"slipped in").bytes), open, "PREFIX up to 0.016 s");
    add("encrypted_spool_with_a_row_altered", spool(&main, &flip(&whole, whole.len() - 1)), open, CLOSED);
    add("encrypted_spool_with_its_main_file_torn", spool(&[&main[..], &main[head_bytes..main.len() - 9]].concat(), &whole), open, "PREFIX up to 0.016 s");
    add("encrypted_spool_with_a_torn_stored_chunk", What::Spool([&main[..], &stored_frame(&[&[0, 9, 0, 1, 1, 0]])].concat(), Vec::new()), locked, OUT_OF_PLACE);
    all
}
