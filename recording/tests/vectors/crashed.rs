//! What crashes leave: spools as they lie there, and recovered files, sound ones and such whose node lies.

use std::io::Cursor;

use ed25519_dalek::Signer;
use portcullis_recording::{Around, recover};

use crate::finished::{flip, hello, replace};
use crate::support::tails::{Opening, Tail, kept};
use crate::support::*;
use crate::{PLAIN, Vector, What};

/// A crash with one finished chunk and a live tail, and the tail frame's content changed before the node signs.
pub fn recovered(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (mut w, mut state, mut main) = open(1);
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
    let mut file = [&main[..done.keep_bytes as usize], &done.append].concat();
    // The node signs what the change made of it: a node that lies, or a bug of ours.
    let all = frames(&file);
    let tail_frame = all.iter().find(|f| f.magic == 0x184D_2A52).unwrap().clone();
    let seal = all.iter().find(|f| f.magic == 0x184D_2A54).unwrap().clone();
    let old = file[tail_frame.start..tail_frame.end].to_vec();
    let mut content = old[8..].to_vec();
    change(&mut content);
    if content == old[8..] {
        return file;
    }
    let new = skip(0x184D_2A52, &content);
    let mut statement = file[seal.start + 8..seal.end - 64].to_vec();
    replace(&mut statement, &sha256(&old), &sha256(&new));
    let mut sizes: Vec<(usize, usize)> = Vec::new();
    for f in &all[..all.len() - 1] {
        let raw = if f.magic == 0xFD2F_B528 {
            zstd::stream::decode_all(&file[f.start..f.end]).unwrap().len()
        } else {
            0
        };
        sizes.push((
            if f.start == tail_frame.start {
                new.len()
            } else {
                f.end - f.start
            },
            raw,
        ));
    }
    let mut rebuilt = file[..tail_frame.start].to_vec();
    rebuilt.extend(new);
    rebuilt.extend_from_slice(&file[tail_frame.end..seal.start]);
    rebuilt.extend(skip(0x184D_2A54, &sign(&node(), "seal", &statement)));
    rebuilt.extend(seek_table(&sizes));
    file.clear();
    rebuilt
}

/// A main file with one chunk that ends at `PLAIN_MS`.
fn one_chunk() -> Forger {
    Forger::new(1).content(&hello(), 1)
}

/// The tail after that chunk: a check at 16 ms, an event at 20 ms.
fn tail_1() -> Tail {
    checked(one_chunk().main().previous).out(4, b"three")
}

fn checked(previous: [u8; 32]) -> Tail {
    Opening::new(1, 1, previous, PLAIN_MS).begin().out(10, b"two").check(1)
}

/// The tail after that: a check at 25 ms, an event at 30 ms.
fn tail_2(previous: [u8; 32]) -> Tail {
    Opening::new(1, 2, previous, 20)
        .begin()
        .out(5, b"four")
        .check(0)
        .out(5, b"five")
}

/// The blocks of a stored chunk that begins at 9 ms and ends at 11 ms.
fn torn() -> Vec<u8> {
    stored_frame(&[&TORN_FIRST, &TORN_SECOND])
}

const TORN_FIRST: [u8; 7] = [0, 9, 0, 1, 1, 1, b'a'];
const TORN_SECOND: [u8; 5] = [2, 1, 1, 1, b'b'];

/// A recovered file of one chunk with these TAIL frames, whose seal vouches for so many bytes and up to then.
fn recovery(tails: &[Vec<u8>], (vouched_bytes, vouched_ms): (usize, u64)) -> Forger {
    recovery_of(one_chunk(), tails, (vouched_bytes, vouched_ms))
}

fn recovery_of(mut main: Forger, tails: &[Vec<u8>], (vouched_bytes, vouched_ms): (usize, u64)) -> Forger {
    main.tails = tails.to_vec();
    main.recovery = Some(Recovery {
        vouched_bytes: vouched_bytes as u64,
        vouched_ms,
        key: node(),
    });
    main
}

/// As many tails as asked for, each with its opening only.
fn openings(count: u64) -> Vec<Vec<u8>> {
    let mut previous = one_chunk().main().previous;
    (1..=count)
        .map(|index| {
            let bytes = Opening::new(1, index, previous, PLAIN_MS).begin().bytes;
            previous = sha256(&bytes);
            kept(0, &bytes)
        })
        .collect()
}

pub fn vectors() -> Vec<Vector> {
    [recovered_ones(), spools()].into_iter().flatten().collect()
}

#[rustfmt::skip]
fn recovered_ones() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, file: Vec<u8>, expect| all.push(Vector::file(name, file, PLAIN, None, expect));
    let torn_record = "INVALID: malformed: a torn record in a recovered tail";
    let counts = "INVALID: the seal counts vouched tail bytes differently";
    let order = "INVALID: the tail is not the next one";

    add("recovered", recovered(|_| {}), "RECOVERED up to 1.300 s");
    add("recovered_with_a_torn_record", recovered(|t| t.push(0)), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_a_check_altered", recovered(|t| { let n = t.len(); t[n - 20] ^= 1 }), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_an_event_altered", recovered(|t| replace(t, b"two", b"six")), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_a_tail_of_unknown_kind", recovered(|t| t[0] = 2), "INVALID: malformed: unknown kind of tail");
    add("recovered_tail_not_opened_by_the_session", recovered(|t| t[40] ^= 1), "INVALID: the tail is not opened by the key before it");
    add("recovered_that_overstates_the_vouching", recovered(|t| { let at = t.windows(3).position(|w| w == b"two").unwrap(); t.truncate(at + 3) }), "INVALID: the seal counts vouched tail bytes differently");

    // Several tails, and how far the session's keys vouch for them.
    let (one, checked_bytes) = (tail_1().bytes, checked(one_chunk().main().previous).bytes.len());
    let two = tail_2(sha256(&one)).bytes;
    let two_checked = two.len() - 8;
    let apart = tail_2([9; 32]).bytes;
    let unchecked = Opening::new(1, 1, one_chunk().main().previous, PLAIN_MS).begin().out(10, b"two").bytes;
    let opening = openings(1)[0].len() - 1;
    add("recovered_with_two_tails", recovery(&[kept(0, &one), kept(0, &two)], (one.len() + two_checked, 25)).build(), "RECOVERED up to 0.025 s");
    add("recovered_with_an_empty_last_tail", recovery(&[kept(0, &one), kept(0, &Opening::new(1, 2, sha256(&one), 20).begin().bytes)], (one.len(), 20)).build(), "RECOVERED up to 0.020 s");
    add("recovered_with_a_gap", recovery(&[kept(0, &one), kept(0, &apart)], (checked_bytes, 16)).build(), "RECOVERED up to 0.016 s");
    add("recovered_that_vouches_over_a_gap", recovery(&[kept(0, &one), kept(0, &apart)], (one.len() + two_checked, 25)).build(), counts);
    add("recovered_with_a_tail_without_a_check", recovery(&[kept(0, &unchecked)], (0, PLAIN_MS)).build(), "RECOVERED up to 0.005 s");
    add("recovered_with_an_opening_that_vouches_for_itself", recovery(&[kept(0, &unchecked)], (opening, PLAIN_MS)).build(), counts);
    add("recovered_that_understates_the_vouching", recovery(&[kept(0, &one)], (checked_bytes, 15)).build(), counts);
    add("recovered_with_a_missing_tail", recovery(&[kept(0, &one), kept(0, &Opening::new(1, 3, sha256(&one), 20).begin().bytes)], (one.len(), 20)).build(), "INVALID: the tail is not opened by the key before it");
    add("recovered_with_65_tails", recovery(&openings(65), (64 * opening, PLAIN_MS)).build(), "INVALID: a frame over its bound");
    add("recovered_that_closes_before_its_last_event", { let mut x = recovery(&[kept(0, &one)], (checked_bytes, 16)); x.closed_ms = 19; x.build() }, "INVALID: times run backwards");
    add("recovered_that_states_accounts", { let mut x = recovery(&[kept(0, &one)], (checked_bytes, 16)); x.accounts = [1; 32]; x.build() }, "INVALID: the seal counts accounts differently");
    add("sealed_with_a_tail", { let mut x = one_chunk(); x.tails = openings(1); x.build() }, "INVALID: a frame where it may not be");

    // Openings.
    let after = one_chunk().main().previous;
    let opened = |change: &dyn Fn(&mut Opening)| { let mut x = Opening::new(1, 1, after, PLAIN_MS); change(&mut x); recovery(&[kept(0, &x.begin().bytes)], (0, PLAIN_MS)).build() };
    add("tail_of_any_history", opened(&|x| x.previous = [9; 32]), "RECOVERED up to 0.005 s");
    add("tail_under_another_key_than_the_leaf_names", opened(&|x| x.key = epoch_key(1, 5)), order);
    add("tail_of_another_index", opened(&|x| x.index = 2), order);
    add("tail_that_begins_before_the_chunk_ends", opened(&|x| x.base_ms = PLAIN_MS - 1), "INVALID: times run backwards");
    add("tail_that_begins_before_the_tail_ends", recovery(&[kept(0, &one), kept(0, &Opening::new(1, 2, sha256(&one), 19).begin().bytes)], (one.len(), 20)).build(), "INVALID: times run backwards");
    let mut again = Opening::new(1, 2, sha256(&one), 20);
    again.key = epoch_key(1, 1);
    add("tail_under_the_key_that_opened_it", recovery(&[kept(0, &one), kept(0, &again.begin().bytes)], (one.len(), 20)).build(), "INVALID: the tail goes on with the key that opened it");
    let first = |previous| recovery_of(Forger::new(1), &[kept(0, &Opening::new(1, 0, previous, 0).begin().bytes)], (0, 0)).build();
    add("tail_0", first(Forger::new(1).main().h0), "RECOVERED up to 0.000 s");
    add("tail_0_of_another_head", first([9; 32]), order);
    add("tail_whose_opening_is_cut_off", recovery(&[kept(0, &one[..50])], (0, PLAIN_MS)).build(), "INVALID: the tail's opening is cut off");

    // Stored chunks whose leaf was never written.
    let chunk = |bytes: Vec<u8>| recovery(&[kept(1, &bytes)], (0, PLAIN_MS)).build();
    let sound = "RECOVERED up to 0.005 s";
    add("torn_chunk", chunk(torn()), sound);
    add("torn_chunk_with_its_last_block", chunk([torn(), STORED_END.to_vec()].concat()), sound);
    add("torn_chunk_whose_last_event_is_cut_off", chunk(stored_frame(&[&TORN_FIRST, &TORN_SECOND[..4]])), sound);
    add("torn_chunk_and_the_next_tail", recovery(&[kept(1, &torn()), kept(0, &tail_2([9; 32]).bytes)], (0, PLAIN_MS)).build(), sound);
    add("torn_chunk_that_vouches_for_the_next_tail", recovery(&[kept(1, &torn()), kept(0, &tail_2([9; 32]).bytes)], (two_checked, 25)).build(), counts);
    add("torn_chunk_behind_a_tail", recovery(&[kept(0, &one), kept(1, &torn())], (checked_bytes, 16)).build(), order);
    add("torn_chunk_in_columns", chunk(stored_frame(&[&[1, 9, 1, 1, 1, 1, 0, 1, 1, 0]])), "INVALID: malformed: a torn stored chunk of another layout");
    add("torn_chunk_without_a_first_time", chunk(stored_frame(&[&[0]])), "INVALID: malformed: ends too early");
    add("torn_chunk_before_the_chunk_ends", chunk(stored_frame(&[&[0, PLAIN_MS as u8 - 1, 0, 1, 1, 0]])), "INVALID: times run backwards");
    add("torn_chunk_whose_first_event_is_later", chunk(stored_frame(&[&TORN_FIRST[..2], &TORN_SECOND])), torn_record);
    add("torn_chunk_with_an_unknown_event", chunk(stored_frame(&[&TORN_FIRST, &[2, 0x42, 1, 0]])), torn_record);
    add("torn_chunk_with_a_torn_block", chunk({ let mut x = torn(); x.pop(); x }), torn_record);
    add("torn_chunk_with_an_empty_block", chunk(stored_frame(&[&TORN_FIRST, b"", &TORN_SECOND])), torn_record);
    add("torn_chunk_that_is_not_a_stored_one", chunk(zstd_frame(7, &last_raw(&TORN_FIRST))), "INVALID: malformed: not a torn stored chunk");
    all
}

#[rustfmt::skip]
fn spools() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, main: &[u8], tails: &[(u64, &[u8])], expect| {
        let tails = tails.iter().map(|(index, bytes)| (*index, bytes.to_vec())).collect();
        all.push(Vector { name, what: What::Spool(main.to_vec(), tails), trust: PLAIN, proof: None, opened: false, expect });
    };
    let (head, main) = (Forger::new(1).main(), one_chunk().main().file);
    let one = tail_1().bytes;
    let two = tail_2(sha256(&one)).bytes;
    let three = Opening::new(1, 3, sha256(&two), 30).begin().out(1, b"six").check(0).bytes;
    let zero = |previous| Opening::new(1, 0, previous, 0).begin().out(3, b"one").check(1).bytes;
    let half_recovered = recovery(&[kept(0, &one)], (0, 0)).build();
    let (only_main, to_16, to_25) = ("PREFIX up to 0.005 s", "PREFIX up to 0.016 s", "PREFIX up to 0.025 s");

    add("spool_of_a_head", &head.file, &[], "PREFIX up to 0.000 s");
    add("spool_of_a_first_tail", &head.file, &[(0, &zero(head.h0))], "PREFIX up to 0.004 s");
    add("spool_of_chunks", &main, &[], only_main);
    add("spool", &main, &[(1, &one)], to_16);
    add("spool_with_two_tails", &main, &[(1, &one), (2, &two)], to_25);
    add("spool_with_the_tail_of_a_finished_chunk", &main, &[(0, &zero(head.h0)), (1, &one)], to_16);
    add("spool_that_is_finished", &one_chunk().build(), &[], "SEALED");
    add("spool_that_is_recovered", &recovered(|_| {}), &[(1, &one)], "RECOVERED up to 1.300 s");

    // What a crash tears off.
    add("spool_with_a_torn_record", &main, &[(1, &one[..one.len() - 2])], to_16);
    add("spool_with_a_broken_record", &main, &[(1, &[&one[..], &[0, 0x42, 1, 0]].concat())], to_16);
    add("spool_with_an_opening_cut_off", &main, &[(1, &one), (2, &two[..20])], to_16);
    add("spool_with_a_tail_of_no_bytes", &main, &[(1, &one), (2, b"")], to_16);
    add("spool_with_a_lost_end_of_a_closed_tail", &main, &[(1, &one[..one.len() - 2]), (2, &two)], to_16);
    add("spool_with_its_main_file_torn", &[&main[..], &main[head.file.len()..main.len() - 9]].concat(), &[(1, &one)], to_16);
    add("spool_with_a_recovery_cut_off", &half_recovered[..half_recovered.len() - 400], &[(1, &one)], to_16);

    // What is missing ends it.
    add("spool_without_its_first_tail", &main, &[(2, &two)], only_main);
    add("spool_without_its_second_tail", &main, &[(1, &one), (3, &three)], to_16);
    add("spool_with_a_torn_chunk", &[&main[..], &torn(), &[9]].concat(), &[], only_main);
    add("spool_with_a_torn_chunk_and_the_next_tail", &[&main[..], &torn()].concat(), &[(2, &two)], only_main);
    add("spool_with_a_torn_chunk_that_has_a_tail", &[&main[..], &torn()].concat(), &[(1, &one)], to_16);
    add("spool_with_a_torn_chunk_of_nothing_sound", &[&main[..], &stored_frame(&[&[7, 7]])].concat(), &[(2, &two)], only_main);

    // What is wrong is INVALID in a spool as well.
    add("spool_with_a_head_cut_off", &head.file[..100], &[], "INVALID: the file ends within a frame");
    add("spool_with_a_leaf_altered", &flip(&main, main.len() - 70), &[], "INVALID: the leaf is not signed by the key of its epoch");
    add("spool_with_a_frame_out_of_place", &[&main[..], &skip(0x184D_2A51, b"hi")].concat(), &[], "INVALID: a frame where it may not be");
    add("spool_with_the_tail_of_another_session", &main, &[(1, &Opening::new(2, 1, [9; 32], PLAIN_MS).begin().bytes)], "INVALID: the tail is not opened by the key before it");
    add("spool_with_a_first_tail_of_another_head", &head.file, &[(0, &zero([9; 32]))], "INVALID: the tail is not the next one");
    add("spool_with_a_tail_that_is_none", &main, &[(1, &[0; 300])], "INVALID: a frame where it may not be");
    all
}
