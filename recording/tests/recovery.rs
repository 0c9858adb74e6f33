//! What a crash leaves is put together, sealed by the node, and says how far the session's keys vouch.

mod support;

use std::io::Cursor;

use ed25519_dalek::Signer;
use portcullis_recording::event::Event;
use portcullis_recording::{
    Around, ChunkKind, LineCipher, Verdict, Why, recover, recover::RecoverError, verify, verify_spool,
};
use support::{STEP, node, open, out, small, trust};

/// A spool: main file, tails.
struct Spool {
    main: Vec<u8>,
    tails: Vec<(u64, Vec<u8>)>,
}

/// One finished chunk, one closed tail that was not encoded yet, one live tail with a check at 20 and an event at 25.
fn crashed() -> Spool {
    let (mut w, mut main_state, mut main) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    w.push(1, 1, &out(b"one "), &mut tail).unwrap();
    main.extend(
        w.close_tail()
            .unwrap()
            .encode(&tail, Around::default(), 3, &mut main_state)
            .unwrap(),
    );
    let mut closed = Vec::new();
    w.open_tail(&mut closed).unwrap();
    let mut line = LineCipher::new(1, [8; 32]);
    w.push(10, 1, &line.seal(b"id\r").unwrap(), &mut closed).unwrap();
    w.push(11, 1, &out(b"two "), &mut closed).unwrap();
    drop(w.close_tail().unwrap());
    let mut live = Vec::new();
    w.open_tail(&mut live).unwrap();
    w.push(19, 1, &line.reveal(), &mut live).unwrap();
    w.push(20, 1, &out(b"three "), &mut live).unwrap();
    w.check(20, &mut live).unwrap();
    w.push(25, 1, &out(b"four"), &mut live).unwrap();
    Spool {
        main,
        tails: vec![(0, tail), (1, closed), (2, live)],
    }
}

/// The recovered file. The spool as it lies there holds the same, vouched for as far.
fn recovered(spool: &Spool) -> Vec<u8> {
    let file = recovered_alone(spool);
    let after = verify(Cursor::new(&file), &trust(), None).unwrap();
    let before = verify_spool(Cursor::new(&spool.main), spool.tails.clone(), &trust()).unwrap();
    match (before.verdict(), after.verdict()) {
        (
            Verdict::Prefix {
                vouched_ms,
                chunks,
                vouched_tail_bytes,
            },
            Verdict::Recovered {
                vouched_ms: ms,
                vouched_chunks,
                vouched_tail_bytes: bytes,
                ..
            },
        ) => assert_eq!((vouched_ms, chunks, vouched_tail_bytes), (ms, vouched_chunks, bytes)),
        other => panic!("{other:?}"),
    }
    let held = |chunks: &[portcullis_recording::ChunkInfo]| -> Vec<_> {
        chunks
            .iter()
            .map(|c| (c.kind, c.index, c.events, c.stored_len, c.vouched))
            .collect()
    };
    assert_eq!(held(before.chunks()), held(after.chunks()));
    file
}

fn recovered_alone(spool: &Spool) -> Vec<u8> {
    let key = node().verifying_key().to_bytes();
    let unsigned = recover(
        Cursor::new(&spool.main),
        spool.tails.clone(),
        key,
        "crash_recovered",
        "",
    )
    .unwrap();
    let signature = node().sign(&unsigned.statement()).to_bytes();
    let recovery = unsigned.sign(&signature).unwrap();
    let file = [&spool.main[..recovery.keep_bytes as usize], &recovery.append].concat();
    assert_eq!(file.len() as u64, recovery.sealed.file_bytes());
    file
}

fn text(file: &[u8]) -> String {
    let mut v = verify(Cursor::new(file), &trust(), None).unwrap();
    let bytes: Vec<u8> = v
        .events()
        .filter_map(|t| match t.unwrap().event {
            Event::Output(b) | Event::Input(b) => Some(b.into_owned()),
            _ => None,
        })
        .flatten()
        .collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn everything_taken_before_a_crash_is_there() {
    let file = recovered(&crashed());
    let v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let Verdict::Recovered {
        vouched_ms,
        closed_ms,
        vouched_chunks,
        ..
    } = v.verdict()
    else {
        panic!("{}", v.verdict())
    };
    assert_eq!((*vouched_ms, *closed_ms, *vouched_chunks), (20, 25, 1));
    assert_eq!(v.verdict().to_string(), "RECOVERED up to 0.020 s");
    let kinds: Vec<_> = v
        .chunks()
        .iter()
        .map(|c| (c.kind, c.index, c.events, c.vouched))
        .collect();
    use ChunkKind::{Compressed, Tail};
    assert_eq!(
        kinds,
        [(Compressed, 0, 2, true), (Tail, 1, 2, false), (Tail, 2, 3, false)]
    );
    assert_eq!(text(&file), "one id\rtwo three four");
}

#[test]
fn every_torn_end_of_the_live_tail_recovers() {
    let spool = crashed();
    let whole = &spool.tails[2].1;
    for end in (0..whole.len()).step_by(STEP) {
        let torn = Spool {
            main: spool.main.clone(),
            tails: vec![spool.tails[1].clone(), (2, whole[..end].to_vec())],
        };
        let file = recovered(&torn);
        let shown = text(&file);
        // The key of the line is in the first record of the live tail.
        assert!(
            ["one two ", "one id\rtwo ", "one id\rtwo three "].contains(&shown.as_str()),
            "cut at {end}: {shown:?}"
        );
    }
}

#[test]
fn every_torn_end_of_the_main_file_recovers_and_nothing_is_lost() {
    let spool = crashed();
    let head_len = support::frames(&spool.main)[0].end;
    for end in (head_len..spool.main.len()).step_by(STEP) {
        let torn = Spool {
            main: spool.main[..end].to_vec(),
            tails: spool.tails.clone(),
        };
        assert_eq!(text(&recovered(&torn)), "one id\rtwo three four", "cut at {end}");
    }
    for end in (0..head_len).step_by(STEP) {
        let key = node().verifying_key().to_bytes();
        let cut = recover(Cursor::new(&spool.main[..end]), vec![], key, "x", "");
        assert!(matches!(cut, Err(RecoverError::Fault(_))), "cut at {end}");
    }
}

#[test]
fn a_torn_flood_keeps_its_whole_blocks() {
    let (w, main_state, mut main) = open(1);
    let head_len = main.len();
    let mut flood = w.into_flood(&main_state).unwrap();
    let mut ends = vec![];
    for n in 0..4u8 {
        let payload = vec![b'a' + n; 300];
        let event = out(&payload);
        let mut pieces = Vec::new();
        flood.push(u64::from(n), 1, &event, &mut pieces).unwrap();
        for p in &pieces {
            main.extend_from_slice(p.lead());
            main.extend_from_slice(p.payload());
        }
        ends.push(main.len());
    }
    for end in (head_len..=main.len()).step_by(STEP) {
        let file = recovered(&Spool {
            main: main[..end].to_vec(),
            tails: vec![],
        });
        let whole = ends.iter().filter(|e| **e <= end).count();
        assert_eq!(text(&file).len(), whole * 300, "cut at {end}");
        let v = verify(Cursor::new(&file), &trust(), None).unwrap();
        assert!(matches!(
            v.verdict(),
            Verdict::Recovered {
                vouched_ms: 0,
                vouched_tail_bytes: 0,
                ..
            }
        ));
    }
}

/// A stored chunk whose leaf was signed and never reached the disk, and the tail that follows it.
fn flooded() -> Spool {
    let (w, mut main_state, mut main) = open(1);
    let mut flood = w.into_flood(&main_state).unwrap();
    for (ms, payload) in [b"one ", b"two "].iter().enumerate() {
        let event = out(*payload);
        let mut pieces = Vec::new();
        flood.push(ms as u64, 1, &event, &mut pieces).unwrap();
        for p in &pieces {
            main.extend_from_slice(p.lead());
            main.extend_from_slice(p.payload());
        }
    }
    let (mut w, _lost) = flood.finish(&mut main_state).unwrap();
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    w.push(9, 1, &out(b"three"), &mut tail).unwrap();
    w.check(9, &mut tail).unwrap();
    Spool {
        main,
        tails: vec![(1, tail)],
    }
}

#[test]
fn what_is_missing_ends_it_and_nothing_before_is_lost() {
    let (mut w, _, main) = open(1);
    let mut tails = Vec::new();
    for n in 0..4 {
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        w.push(n, 1, &out(b"x"), &mut tail).unwrap();
        w.check(n, &mut tail).unwrap();
        drop(w.close_tail().unwrap());
        tails.push((n, tail));
    }
    for missing in 0..4 {
        let spool = Spool {
            main: main.clone(),
            tails: tails.iter().filter(|(n, _)| *n != missing).cloned().collect(),
        };
        assert_eq!(text(&recovered(&spool)).len() as u64, missing, "without tail {missing}");
    }
}

#[test]
fn a_torn_stored_chunk_and_the_tail_behind_it_recover() {
    let spool = flooded();
    let head_len = support::frames(&small(1).file)[0].end;
    let file = recovered(&spool);
    assert_eq!(text(&file), "one two three");
    let v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let kinds: Vec<_> = v.chunks().iter().map(|c| (c.kind, c.index, c.vouched)).collect();
    use ChunkKind::{Tail, TornStored};
    assert_eq!(kinds, [(TornStored, 0, false), (Tail, 1, false)]);
    // Without one whole block of the chunk its index is missing, and the tail behind it is left out.
    let shown = ["", "one three", "one two three"];
    for end in (head_len..spool.main.len()).step_by(STEP) {
        let torn = |rest: &[u8]| Spool {
            main: [&spool.main[..end], rest].concat(),
            tails: spool.tails.clone(),
        };
        let file = recovered_alone(&torn(b""));
        let kept = text(&file);
        assert!(shown.contains(&kept.as_str()), "cut at {end}: {kept:?}");
        // What a crash may leave behind the cut never makes it unreadable, nor takes what was whole before it.
        for rest in [&[0; 5000][..], b"~~~", &[8, 0, 0, 0x42]] {
            let kept_as_well = text(&recovered_alone(&torn(rest)));
            let whole = kept.trim_end_matches("three");
            assert!(kept_as_well.starts_with(whole), "cut at {end}: {kept_as_well:?}");
        }
    }
}

#[test]
fn every_byte_of_a_recovered_file_counts() {
    let file = recovered(&crashed());
    for at in (0..file.len()).step_by(STEP) {
        for change in [0x01, 0x80, 0xFF] {
            let mut bad = file.clone();
            bad[at] ^= change;
            assert!(
                verify(Cursor::new(&bad), &trust(), None).is_err(),
                "byte {at} ^ {change:#x}"
            );
        }
    }
    for end in (0..file.len()).step_by(STEP) {
        assert!(
            verify(Cursor::new(&file[..end]), &trust(), None).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn tails_of_others_are_left_out_and_said_so() {
    let spool = crashed();
    let (mut other, _, _) = open(2);
    let mut foreign = Vec::new();
    other.open_tail(&mut foreign).unwrap();
    other.push(30, 1, &out(b"forged"), &mut foreign).unwrap();
    let key = node().verifying_key().to_bytes();
    for index in [1, 3] {
        let mut tails: Vec<_> = spool.tails.iter().filter(|(i, _)| *i != index).cloned().collect();
        tails.push((index, foreign.clone()));
        let unsigned = recover(Cursor::new(&spool.main), tails, key, "crash_recovered", "").unwrap();
        assert!(
            unsigned
                .left_out()
                .iter()
                .any(|l| l.tail == Some(index) && l.bytes == foreign.len() as u64)
        );
        let signature = node().sign(&unsigned.statement()).to_bytes();
        let done = unsigned.sign(&signature).unwrap();
        let file = [&spool.main[..done.keep_bytes as usize], &done.append].concat();
        assert!(!text(&file).contains("forged"));
    }
}

#[test]
fn a_lost_end_of_a_closed_tail_ends_the_vouching() {
    let mut spool = crashed();
    let closed = &mut spool.tails[1].1;
    closed.truncate(closed.len() - 3);
    let file = recovered(&spool);
    let v = verify(Cursor::new(&file), &trust(), None).unwrap();
    assert!(
        matches!(
            v.verdict(),
            Verdict::Recovered {
                vouched_ms: 1,
                vouched_tail_bytes: 0,
                ..
            }
        ),
        "{:?}",
        v.verdict()
    );
    assert_eq!(text(&file), "one id\rthree four");
}

#[test]
fn a_sealed_file_is_not_recovered_and_a_wrong_node_key_does_not_pass() {
    let key = node().verifying_key().to_bytes();
    let sealed = small(1);
    match recover(Cursor::new(&sealed.file), vec![], key, "x", "") {
        Err(RecoverError::AlreadySealed(s)) => assert_eq!(*s, sealed.sealed),
        other => panic!("{other:?}"),
    }
    // A torn seal leaves the chunks.
    let spool = Spool {
        main: sealed.file[..sealed.file.len() - 150].to_vec(),
        tails: vec![],
    };
    let file = recovered(&spool);
    assert_eq!(verify(Cursor::new(&file), &trust(), None).unwrap().chunks().len(), 3);

    let spool = crashed();
    let stranger = support::epoch_key(9, 9);
    let unsigned = recover(
        Cursor::new(&spool.main),
        spool.tails.clone(),
        stranger.verifying_key().to_bytes(),
        "x",
        "",
    )
    .unwrap();
    let signature = stranger.sign(&unsigned.statement()).to_bytes();
    let done = unsigned.sign(&signature).unwrap();
    let file = [&spool.main[..done.keep_bytes as usize], &done.append].concat();
    assert_eq!(
        verify(Cursor::new(&file), &trust(), None).unwrap_err().why,
        Why::UnknownNodeKey
    );
    let unsigned = recover(Cursor::new(&spool.main), spool.tails, key, "x", "").unwrap();
    assert!(matches!(unsigned.sign(&signature), Err(RecoverError::NodeSignature)));
}
