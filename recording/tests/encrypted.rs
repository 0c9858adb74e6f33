//! An encrypted recording: nothing of it in clear anywhere, everything of it back with the key, and verified without.

mod support;

use std::io::{Cursor, Read};

use ed25519_dalek::Signer;
use portcullis_recording::event::Event;
use portcullis_recording::limits::ENVELOPE_BYTES_MAX;
use portcullis_recording::{
    Around, Batch, ChunkKind, ContentKey, Fault, LineCipher, Timed, Verdict, Verified, Version, Why, WriteError,
    Writer, recover, verify, verify_spool,
};
use support::sealed::{ENVELOPE, content_key, open_encrypted, small_encrypted};
use support::{STEP, entropy, head_in, node, out, small, trust};

const CANARY: &str = "correct horse battery staple";

fn verified(file: &[u8]) -> Verified<Cursor<&[u8]>> {
    verify(Cursor::new(file), &trust(), None).unwrap()
}

fn unlocked(file: &[u8]) -> Verified<Cursor<&[u8]>> {
    let mut v = verified(file);
    v.unlock(content_key());
    v
}

/// Input and output as one text, up to the first fault.
fn text(events: impl Iterator<Item = Result<Timed<'static>, Fault>>) -> (String, Option<Why>) {
    let mut shown = Vec::new();
    for timed in events {
        match timed {
            Ok(timed) => {
                if let Event::Output(b) | Event::Input(b) = timed.event {
                    shown.extend_from_slice(&b);
                }
            }
            Err(fault) => return (String::from_utf8(shown).unwrap(), Some(fault.why)),
        }
    }
    (String::from_utf8(shown).unwrap(), None)
}

#[test]
fn it_verifies_locked_and_reads_unlocked() {
    let file = small_encrypted(1).file;
    let mut v = verified(&file);
    assert_eq!(v.verdict().word(), "SEALED");
    assert!(v.is_locked() && v.head().names_envelope(ENVELOPE) && !v.head().names_envelope(b"another"));
    assert!(v.chunks().iter().all(|c| c.kind == ChunkKind::Encrypted && c.vouched));
    let fault = v.chunk(0).err().unwrap();
    assert_eq!(fault.why, Why::Locked);
    assert!(
        fault.to_string().starts_with("LOCKED: ") && fault.to_string().contains("FILE.age"),
        "{fault}"
    );
    assert_eq!(v.check_content().unwrap_err().why, Why::Locked);

    v.unlock(content_key());
    assert!(!v.is_locked());
    assert!(v.check_content().unwrap().events > 20);
    let encrypted: Vec<_> = v.events().map(Result::unwrap).collect();
    let clear: Vec<_> = verified(&small(1).file).events().map(Result::unwrap).collect();
    let of = |events: &[Timed<'static>], kind| {
        events
            .iter()
            .filter(|t| t.event.kind() == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    // Everything but the lines, which differ in the two, and the keyframe of the clear one.
    for kind in [0x01, 0x03, 0x10, 0x21, 0x22, 0x23, 0x32, 0x33, 0x34] {
        assert_eq!(of(&encrypted, kind), of(&clear, kind), "{kind:#x}");
    }
    let typed: Vec<u8> = encrypted
        .iter()
        .filter_map(|t| match &t.event {
            Event::Input(b) => Some(b.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(typed, b"ls\rid\r");
}

#[test]
fn another_key_opens_nothing_and_says_so() {
    let file = small_encrypted(1).file;
    let mut v = verified(&file);
    v.unlock(ContentKey::new([1; 32]));
    assert_eq!(v.chunk(0).err().unwrap().why, Why::DoesNotOpen);
    // The right one is not too late.
    v.unlock(content_key());
    v.check_content().unwrap();
}

#[test]
fn chunks_open_in_any_order_and_through_any_reader() {
    let file = small_encrypted(1).file;
    let mut v = unlocked(&file);
    let in_order: Vec<u64> = (0..3)
        .map(|at| v.chunk(at).unwrap().events().unwrap().count() as u64)
        .collect();
    let mut other = v.with_reader(Cursor::new(&file));
    for at in [2, 0, 1, 1, 0, 2] {
        assert_eq!(other.chunk(at).unwrap().events().unwrap().count() as u64, in_order[at]);
        assert_eq!(v.chunk(at).unwrap().events().unwrap().count() as u64, in_order[at]);
    }
}

#[test]
fn a_key_does_nothing_to_a_clear_recording() {
    let file = small(1).file;
    let mut v = verified(&file);
    assert!(!v.is_locked() && !v.head().is_encrypted() && !v.head().names_envelope(ENVELOPE));
    v.unlock(content_key());
    v.check_content().unwrap();
}

#[test]
fn every_byte_and_every_end_counts_without_a_key() {
    let file = small_encrypted(1).file;
    let mut bad = file.clone();
    for at in (0..file.len()).step_by(STEP) {
        for change in [0x01, 0x80, 0xFF] {
            bad[at] = file[at] ^ change;
            assert!(
                verify(Cursor::new(&bad), &trust(), None).is_err(),
                "byte {at} ^ {change:#x}"
            );
        }
        bad[at] = file[at];
        assert!(verify(Cursor::new(&file[..at]), &trust(), None).is_err(), "cut at {at}");
    }
}

#[test]
fn a_head_and_its_key_belong_together() {
    let key = content_key;
    let refused =
        |envelope: &[u8]| Writer::prepare_encrypted(head_in(Version::Two, 1), entropy(1), key(), envelope).err();
    assert_eq!(refused(b""), Some(WriteError::Envelope));
    assert_eq!(refused(&vec![0; ENVELOPE_BYTES_MAX + 1]), Some(WriteError::Envelope));
    assert_eq!(refused(&vec![0; ENVELOPE_BYTES_MAX]), None);
    // Whoever copies an encrypted recording's head does not get a recording that nobody can open.
    let copied = open_encrypted(1).0.head().clone();
    assert_eq!(Writer::prepare(copied, entropy(1)).err(), Some(WriteError::Head));
}

#[test]
fn bulk_has_no_way_around_encryption() {
    let (w, main, _) = open_encrypted(1);
    assert!(w.is_encrypted() && main.is_encrypted());
    assert_eq!(w.into_flood(&main).err(), Some(WriteError::Encrypted));
    assert!(!support::open(1).0.is_encrypted());
}

#[test]
fn what_is_read_off_a_tail_comes_from_what_was_read_back() {
    let (mut w, ..) = open_encrypted(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    w.push(1, 1, &out(b"shown"), &mut tail).unwrap();
    w.check(2, &mut tail).unwrap();
    w.push(3, 2, &out(b"too"), &mut tail).unwrap();
    let segment = w.close_tail().unwrap();
    assert_eq!(segment.read(&tail[1..]).err(), Some(WriteError::TailDiffers));
    let text = segment.read(&tail).unwrap();
    let events: Vec<_> = text.events().unwrap().collect();
    let said = |at_ms, channel, bytes| Timed {
        at_ms,
        channel,
        event: out(bytes),
    };
    assert_eq!(events, [said(1, 1, b"shown"), said(3, 2, b"too")]);
}

/// What terminal data, commands, environment and notes a session may hold, all with the canary in it.
fn canaries() -> Vec<Event<'static>> {
    let bytes = || CANARY.as_bytes().to_vec();
    let request = |kind: &'static str| Event::Request {
        kind: kind.into(),
        detail: bytes().into(),
        want: CANARY.into(),
    };
    vec![
        Event::Output(bytes().into()),
        Event::Input(bytes().into()),
        Event::Stderr(bytes().into()),
        request("exec"),
        request("env"),
        Event::Marker { text: CANARY.into() },
        Event::Keyframe {
            cols: 80,
            rows: 24,
            dump: CANARY.into(),
        },
        Event::ChannelOpen {
            kind: "direct-tcpip".into(),
            detail: CANARY.into(),
        },
    ]
}

#[test]
fn no_byte_that_is_written_is_in_clear() {
    let (mut w, mut main, mut file) = open_encrypted(1);
    let mut written = file.clone();
    for round in 0..3u64 {
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        let mut line = LineCipher::new(round, [9; 32]);
        for event in canaries() {
            w.push(10 * round, 1, &event, &mut tail).unwrap();
        }
        w.push(10 * round, 1, &line.seal(CANARY.as_bytes()).unwrap(), &mut tail)
            .unwrap();
        w.push(10 * round, 1, &line.reveal(), &mut tail).unwrap();
        w.check(10 * round, &mut tail).unwrap();
        written.extend_from_slice(&tail);
        let screen = Event::Keyframe {
            cols: 80,
            rows: 24,
            dump: CANARY.into(),
        };
        let around = Around {
            keyframes: &[(1, screen)],
            behind: &[],
        };
        file.extend(w.close_tail().unwrap().encode(&tail, around, 1, &mut main).unwrap());
        let mut batch = Batch::new();
        for event in canaries() {
            batch.push(10 * round + 1, 1, &event).unwrap();
        }
        file.extend(w.put_batch(batch, 1, &mut main).unwrap());
    }
    file.extend(w.finish(&mut main, 99, "exit", "").unwrap().0);
    written.extend_from_slice(&file);
    // The key of the line is as bad as the line.
    for needle in [
        CANARY.as_bytes(),
        &CANARY.as_bytes()[..8],
        &[9; 32],
        content_key_bytes(),
    ] {
        assert!(!written.windows(needle.len()).any(|w| w == needle));
    }
    let mut decompressed = Vec::new();
    zstd::stream::read::Decoder::new(file.as_slice())
        .unwrap()
        .read_to_end(&mut decompressed)
        .unwrap();
    assert_eq!(decompressed, b"");
    let mut v = unlocked(&file);
    assert!(v.check_content().unwrap().events > 0);
    let seen = v
        .events()
        .filter(|t| format!("{t:?}").contains(CANARY) || shows(t.as_ref().unwrap()));
    assert_eq!(seen.count(), 3 * (2 * canaries().len() + 2));
}

fn shows(timed: &Timed<'_>) -> bool {
    match &timed.event {
        Event::Output(b) | Event::Input(b) | Event::Stderr(b) => b.as_ref() == CANARY.as_bytes(),
        Event::Request { detail, .. } => detail.as_ref() == CANARY.as_bytes(),
        _ => false,
    }
}

fn content_key_bytes() -> &'static [u8] {
    support::sealed::CONTENT_KEY
}

/// One finished chunk, one closed tail, one live tail with a check at 20 and an event at 25.
fn crashed() -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let (mut w, mut state, mut main) = open_encrypted(1);
    let (mut tail, mut closed, mut live) = (Vec::new(), Vec::new(), Vec::new());
    w.open_tail(&mut tail).unwrap();
    w.push(1, 1, &out(b"one "), &mut tail).unwrap();
    main.extend(
        w.close_tail()
            .unwrap()
            .encode(&tail, Around::default(), 3, &mut state)
            .unwrap(),
    );
    w.open_tail(&mut closed).unwrap();
    let mut line = LineCipher::new(1, [8; 32]);
    w.push(10, 1, &line.seal(b"id\r").unwrap(), &mut closed).unwrap();
    w.push(11, 1, &out(b"two "), &mut closed).unwrap();
    drop(w.close_tail().unwrap());
    w.open_tail(&mut live).unwrap();
    w.push(19, 1, &line.reveal(), &mut live).unwrap();
    w.push(20, 1, &out(b"three "), &mut live).unwrap();
    w.check(20, &mut live).unwrap();
    w.push(25, 1, &out(b"four"), &mut live).unwrap();
    (main, vec![(0, tail), (1, closed), (2, live)])
}

fn recovered(main: &[u8], tails: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let key = node().verifying_key().to_bytes();
    let unsigned = recover(Cursor::new(main), tails.to_vec(), key, "crash_recovered", "").unwrap();
    let signature = node().sign(&unsigned.statement()).to_bytes();
    let recovery = unsigned.sign(&signature).unwrap();
    [&main[..recovery.keep_bytes as usize], &recovery.append].concat()
}

#[test]
fn recovery_needs_no_key_and_loses_nothing() {
    let (main, tails) = crashed();
    let file = recovered(&main, &tails);
    let mut v = verified(&file);
    let Verdict::Recovered {
        vouched_ms, closed_ms, ..
    } = *v.verdict()
    else {
        panic!("{}", v.verdict())
    };
    assert_eq!((vouched_ms, closed_ms), (20, 25));
    let held: Vec<_> = v
        .chunks()
        .iter()
        .map(|c| (c.kind, c.first_ms, c.last_ms, c.events))
        .collect();
    use ChunkKind::{Encrypted, Tail};
    // A chunk ends with its salt, a tail does not.
    assert_eq!(held, [(Encrypted, 1, 1, 2), (Tail, 10, 11, 2), (Tail, 19, 25, 3)]);
    assert_eq!(text(v.events()), (String::new(), Some(Why::Locked)));
    v.unlock(content_key());
    assert_eq!(text(v.events()), ("one id\rtwo three four".into(), None));
    assert!(v.chunk(0).unwrap().is_salted());

    let mut spool = verify_spool(Cursor::new(&main), tails, &trust()).unwrap();
    assert!(spool.is_locked());
    spool.unlock(content_key());
    assert_eq!(text(spool.events()), ("one id\rtwo three four".into(), None));
}

#[test]
fn every_torn_end_of_an_encrypted_tail_recovers() {
    let (main, tails) = crashed();
    let whole = &tails[2].1;
    for end in (0..whole.len()).step_by(STEP) {
        let file = recovered(&main, &[tails[1].clone(), (2, whole[..end].to_vec())]);
        let (shown, fault) = text(unlocked(&file).events());
        assert_eq!(fault, None, "cut at {end}");
        assert!(
            ["one two ", "one id\rtwo ", "one id\rtwo three "].contains(&shown.as_str()),
            "cut at {end}: {shown:?}"
        );
    }
}

#[test]
fn what_a_thief_appends_hides_nothing_before_it() {
    let (main, mut tails) = crashed();
    // Well-formed, and nobody without the key can tell: dt 0, kind 7E, channel 0, 20 bytes.
    tails[2].1.extend([&[0, 0x7E, 0, 20][..], &[7; 20]].concat());
    let file = recovered(&main, &tails);
    let mut v = unlocked(&file);
    assert_eq!(v.verdict().to_string(), "RECOVERED up to 0.020 s");
    assert_eq!(
        text(v.events()),
        ("one id\rtwo three four".into(), Some(Why::DoesNotOpen))
    );
}
