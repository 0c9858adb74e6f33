//! What is written comes back, from every path into the file, and stock tools can read it.

mod support;

use std::borrow::Cow;
use std::io::{Cursor, Read, Write};
use std::process::{Command, Stdio};

use portcullis_recording::event::Event;
use portcullis_recording::{Around, ChunkKind, LineCipher, Unverified, Verdict, verify, verify_spool};
use support::{Forger, draw, one_of_each, open, out, rows, small, trust};

#[test]
fn a_session_over_all_three_paths_comes_back() {
    let written = small(1);
    let mut v = verify(Cursor::new(&written.file), &trust(), None).unwrap();
    assert!(
        matches!(v.verdict(), Verdict::Sealed { closed_ms: 600, .. }),
        "{}",
        v.verdict()
    );
    assert_eq!(v.sealed(), Some(&written.sealed));
    assert_eq!(v.head().target, "db1.prod.example");
    let kinds: Vec<_> = v.chunks().iter().map(|c| (c.kind, c.keyframe)).collect();
    use ChunkKind::{Compressed, Stored};
    assert_eq!(kinds, [(Compressed, true), (Stored, false), (Compressed, false)]);
    let events: Vec<_> = v.events().collect::<Result<_, _>>().unwrap();
    assert_eq!(v.check_content().unwrap().events, events.len() as u64);
    assert!(matches!(events[0].event, Event::Keyframe { .. }));
    for (got, wanted) in events[1..10].iter().zip(one_of_each()) {
        assert_eq!(got.event, wanted);
    }
    let input: Vec<u8> = events
        .iter()
        .filter_map(|t| {
            if let Event::Input(b) = &t.event {
                Some(b.to_vec())
            } else {
                None
            }
        })
        .flatten()
        .collect();
    assert_eq!(input, b"ls\rid\r");
    assert!(events.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
    let bulk: Vec<u8> = (0..40u64).flat_map(|n| draw(1, 1000 + n)).collect();
    let got: Vec<u8> = events[10..]
        .iter()
        .filter_map(|t| match &t.event {
            Event::Output(b) if t.at_ms >= 400 => Some(b.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(got, bulk);
    // The hidden line: no piece of it is left, only one blob of its class.
    assert!(
        !events
            .iter()
            .any(|t| matches!(t.event, Event::SealedInput { .. } | Event::LineKey { .. }))
    );
    let hidden: Vec<_> = events
        .iter()
        .filter(|t| matches!(t.event, Event::HiddenInput { len_class: 4, .. }))
        .collect();
    assert_eq!(hidden.len(), 1);
    assert_eq!(v.chunk_at(0), 0);
    assert_eq!(v.chunk_at(450), 1);
    assert_eq!(v.keyframe_at(450), 0);
    assert_eq!(v.chunk_at(9999), 2);
}

#[test]
fn stock_zstd_reads_the_events() {
    let file = small(1).file;
    let mut ours = Vec::new();
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let raw: u64 = v.chunks().iter().map(|c| c.raw_len).sum();
    v.check_content().unwrap();
    zstd::stream::read::Decoder::new(file.as_slice())
        .unwrap()
        .read_to_end(&mut ours)
        .unwrap();
    assert_eq!(ours.len() as u64, raw);
    let Ok(mut zstd) = Command::new("zstd")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    else {
        eprintln!("no zstd on this machine");
        return;
    };
    let mut stdin = zstd.stdin.take().unwrap();
    stdin.write_all(&file).unwrap();
    drop(stdin);
    let done = zstd.wait_with_output().unwrap();
    assert!(done.status.success());
    assert_eq!(done.stdout, ours);
}

#[test]
fn the_fixed_part_is_small() {
    let file = small(1).file;
    let fixed: usize = support::frames(&file)
        .iter()
        .filter(|f| matches!(f.magic, 0x184D_2A50 | 0x184D_2A53 | 0x184D_2A54 | 0x184D_2A5E))
        .map(|f| f.end - f.start)
        .sum();
    assert!(fixed <= 1200, "{fixed} bytes");
}

#[test]
fn a_key_in_a_later_chunk_resolves_an_earlier_line() {
    let (mut w, mut main, mut file) = open(2);
    let mut line = LineCipher::new(7, draw(2, 99));
    let mut tails = Vec::new();
    for part in 0..3 {
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        match part {
            0 => w.push(1, 1, &line.seal(b"who").unwrap(), &mut tail).unwrap(),
            1 => {
                w.push(2, 1, &line.seal(b"ami\r").unwrap(), &mut tail).unwrap();
                w.push(
                    3,
                    1,
                    &Event::LineKey {
                        line: 7,
                        key: draw(2, 99),
                    },
                    &mut tail,
                )
                .unwrap();
            }
            _ => w.push(4, 1, &out(b"root\r\n"), &mut tail).unwrap(),
        }
        // Several segments are outstanding while the writer goes on.
        tails.push((w.close_tail().unwrap(), tail));
    }
    for (segment, tail) in tails {
        file.extend(segment.encode(&tail, Around::default(), 3, &mut main).unwrap());
    }
    file.extend(w.finish(&mut main, 5, "exit", "").unwrap().0);
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let input: Vec<_> = v
        .events()
        .filter_map(|t| match t.unwrap() {
            t if matches!(t.event, Event::SealedInput { .. }) => panic!("unresolved"),
            t => {
                if let Event::Input(b) = t.event {
                    Some((t.at_ms, b.into_owned()))
                } else {
                    None
                }
            }
        })
        .collect();
    assert_eq!(input, [(1, b"who".to_vec()), (2, b"ami\r".to_vec())]);
    // Starting in the middle gives the same.
    assert!(
        v.events_from(1)
            .any(|t| t.unwrap().event == Event::Input(Cow::Borrowed(b"ami\r")))
    );
}

#[test]
fn a_large_flood_event_spans_blocks() {
    let (w, mut main, mut file) = open(3);
    let bulk: Vec<u8> = (0..20_000u64).flat_map(|n| draw(3, n)).collect();
    let mut flood = w.into_flood(&main).unwrap();
    let event = out(&bulk);
    let mut pieces = Vec::new();
    flood.push(10, 1, &event, &mut pieces).unwrap();
    assert_eq!(pieces.len(), 5);
    for piece in &pieces {
        file.extend_from_slice(piece.lead());
        file.extend_from_slice(piece.payload());
    }
    let (w, bytes) = flood.finish(&mut main).unwrap();
    file.extend(bytes);
    file.extend(w.finish(&mut main, 20, "exit", "").unwrap().0);
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let chunk = v.chunk(0).unwrap();
    let events: Vec<_> = chunk.events().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event, Event::Output(bulk.into()));
}

#[test]
fn an_ignorable_event_is_skipped_and_an_unknown_one_refused() {
    let greased = rows(&[(0x01, b"a"), (0x80, b"from the future"), (0xFF, b""), (0x01, b"b")]);
    let file = Forger::new(4).content(&greased, 4).build();
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    let events: Vec<_> = v.events().map(|t| t.unwrap().event).collect();
    assert_eq!(events, [Event::Output(b"a".into()), Event::Output(b"b".into())]);
    let unknown = rows(&[(0x01, b"a"), (0x42, b"")]);
    let file = Forger::new(4).content(&unknown, 2).build();
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    assert!(v.check_content().unwrap_err().to_string().contains("unknown kind 0x42"));
}

#[test]
fn a_session_without_events_can_be_sealed() {
    let (w, mut main, mut file) = open(5);
    file.extend(w.finish(&mut main, 0, "refused", "").unwrap().0);
    let mut v = verify(Cursor::new(&file), &trust(), None).unwrap();
    assert_eq!(v.verdict().word(), "SEALED");
    assert_eq!(v.check_content().unwrap().events, 0);
    assert_eq!(v.open_leaf().at_wall_ms, support::OPENED);
}

#[test]
fn a_live_spool_is_a_prefix_and_a_main_file_alone_is_not_a_recording() {
    let (mut w, mut main, mut file) = open(6);
    let mut first = Vec::new();
    w.open_tail(&mut first).unwrap();
    w.push(1, 1, &out(b"one"), &mut first).unwrap();
    file.extend(
        w.close_tail()
            .unwrap()
            .encode(&first, Around::default(), 3, &mut main)
            .unwrap(),
    );
    let mut second = Vec::new();
    w.open_tail(&mut second).unwrap();
    w.push(2, 1, &out(b"two"), &mut second).unwrap();
    w.check(3, &mut second).unwrap();
    w.push(9, 1, &out(b"three"), &mut second).unwrap();
    let torn = second.len() - 2;
    let tails = || vec![(0, first.clone()), (1, second[..torn].to_vec())];
    let mut v = verify_spool(Cursor::new(&file), tails(), &trust()).unwrap();
    assert!(
        matches!(
            v.verdict(),
            Verdict::Prefix {
                vouched_ms: 3,
                chunks: 1,
                ..
            }
        ),
        "{:?}",
        v.verdict()
    );
    let texts: Vec<_> = v.events().map(|t| t.unwrap().event).collect();
    assert_eq!(texts, [out(b"one"), out(b"two")]);
    assert_eq!(
        verify(Cursor::new(&file), &trust(), None).unwrap_err().to_string(),
        format!("INVALID at byte {}: there is no seal", file.len())
    );
    // The tail of another session is refused.
    let (mut other, _, _) = open(7);
    let mut foreign = Vec::new();
    other.open_tail(&mut foreign).unwrap();
    assert!(verify_spool(Cursor::new(&file), vec![(1, foreign)], &trust()).is_err());
}

#[test]
fn unverified_reading_says_so_and_shows_what_is_there() {
    let mut file = small(1).file;
    let frames = support::frames(&file);
    file[frames[3].start + 20] ^= 1;
    let mut u = Unverified::open(Cursor::new(&file)).unwrap();
    assert!(u.unverified_fault().is_some());
    assert_eq!(u.unverified_chunks().len(), 1);
    assert!(u.unverified_events().all(|t| t.is_ok()));
}

#[test]
fn a_file_that_changes_after_verification_is_noticed() {
    let mut file = small(1).file;
    let mut cursor = Cursor::new(file.as_mut_slice());
    let verified = verify(&mut cursor, &trust(), None).unwrap();
    let at = verified.chunks()[1].offset as usize + 40;
    drop(verified);
    // The same reading over other bytes.
    struct Switch {
        good: Vec<u8>,
        at: usize,
        pos: u64,
        reads: u64,
    }
    impl Read for Switch {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            if self.pos == self.good.len() as u64 {
                self.reads += 1;
            }
            if self.reads > 0 {
                self.good[self.at] = 0xEE;
            }
            let mut c = Cursor::new(&self.good);
            c.set_position(self.pos);
            let n = c.read(buf)?;
            self.pos += n as u64;
            Ok(n)
        }
    }
    impl std::io::Seek for Switch {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            let mut c = Cursor::new(&self.good);
            c.set_position(self.pos);
            self.pos = c.seek(to)?;
            Ok(self.pos)
        }
    }
    let mut v = verify(
        Switch {
            good: file,
            at,
            pos: 0,
            reads: 0,
        },
        &trust(),
        None,
    )
    .unwrap();
    assert!(
        v.check_content()
            .unwrap_err()
            .to_string()
            .contains("not those that were signed")
    );
}
