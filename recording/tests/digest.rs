//! Version 3: what crossed and was not kept stands in the recording as its length and hash, whichever way it was written.

mod support;

use std::io::Cursor;

use ed25519_dalek::Signer;
use portcullis_recording::event::{Direction, Event, PayloadError, kind};
use portcullis_recording::limits::DIGEST_BYTES_MAX;
use portcullis_recording::{Around, Batch, Redactor, Replacement, Timed, Version, Writer, recover, verify};
use support::sealed::{ENVELOPE, content_key, open_encrypted_in};
use support::{entropy, head_in, node, open, open_in, out, sha256, trust};

fn of(direction: Direction, bytes: &[u8]) -> Event<'static> {
    Event::Digest {
        direction,
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    }
}

fn three() -> [Event<'static>; 3] {
    [
        of(Direction::ToTarget, b"a question"),
        of(Direction::ToClient, b"its answer"),
        of(Direction::ToClientErr, &vec![7; DIGEST_BYTES_MAX as usize]),
    ]
}

fn digests(events: impl Iterator<Item = Event<'static>>) -> Vec<Event<'static>> {
    events.filter(|event| event.kind() == kind::DIGEST).collect()
}

#[test]
fn it_is_read_as_it_was_written_by_tail_flood_and_batch() {
    let (mut w, mut main, mut file) = open_in(Version::LATEST, 1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    w.push(1, 1, &three()[0], &mut tail).unwrap();
    file.extend(
        w.close_tail()
            .unwrap()
            .encode(&tail, Around::default(), 3, &mut main)
            .unwrap(),
    );
    let mut flood = w.into_flood(&main).unwrap();
    let (event, mut pieces) = (three()[1].clone(), Vec::new());
    flood.push(2, 1, &event, &mut pieces).unwrap();
    for piece in &pieces {
        file.extend_from_slice(piece.lead());
        file.extend_from_slice(piece.payload());
    }
    let (mut w, end) = flood.finish(&mut main).unwrap();
    file.extend(end);
    let mut batch = Batch::new();
    batch.push(3, 1, &three()[2]).unwrap();
    file.extend(w.put_batch(batch, 3, &mut main).unwrap());
    file.extend(w.finish(&mut main, 4, "exit", "").unwrap().0);

    let mut verified = verify(Cursor::new(&file), &trust(), None).unwrap();
    assert_eq!(verified.head().version, Version::Three);
    let read = digests(verified.events().map(|timed| timed.unwrap().event));
    assert_eq!(read, three());
    let checked = verified.check_content().unwrap();
    assert_eq!(
        checked.digested.into_iter().collect::<Vec<_>>(),
        [(1, [10, 10 + DIGEST_BYTES_MAX])]
    );
}

#[test]
fn a_crash_and_an_encryption_keep_it() {
    for encrypted in [false, true] {
        let (mut w, _, main) = match encrypted {
            true => open_encrypted_in(Version::LATEST, 1, ENVELOPE),
            false => open_in(Version::LATEST, 1),
        };
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        for event in three() {
            w.push(1, 1, &event, &mut tail).unwrap();
        }
        let key = node().verifying_key().to_bytes();
        let unsigned = recover(Cursor::new(&main), vec![(0, tail)], key, "crash_recovered", "").unwrap();
        let signature = node().sign(&unsigned.statement()).to_bytes();
        let done = unsigned.sign(&signature).unwrap();
        let file = [&main[..done.keep_bytes as usize], &done.append].concat();
        let mut verified = verify(Cursor::new(&file), &trust(), None).unwrap();
        if encrypted {
            verified.unlock(content_key());
        }
        let read = digests(verified.events().map(|timed| timed.unwrap().event));
        assert_eq!(read, three(), "encrypted: {encrypted}");
    }
}

#[test]
fn older_versions_have_no_such_event() {
    let unknown = PayloadError::UnknownKind(kind::DIGEST);
    let [event, ..] = three();
    let (mut w, mut main, _) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    assert_eq!(w.push(1, 1, &event, &mut tail), Err(unknown.into()));
    let (mut w, _, _) = open(1);
    let mut batch = Batch::new();
    batch.push(1, 1, &event).unwrap();
    assert_eq!(w.put_batch(batch, 3, &mut main), Err(unknown.into()));
    let (w, main, _) = open(1);
    let mut flood = w.into_flood(&main).unwrap();
    assert_eq!(flood.push(1, 1, &event, &mut Vec::new()), Err(unknown.into()));
}

#[test]
fn a_digest_of_nothing_or_of_too_much_is_not_written() {
    for bytes in [0, DIGEST_BYTES_MAX + 1] {
        let (mut w, ..) = open_in(Version::LATEST, 1);
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        let event = Event::Digest {
            direction: Direction::ToTarget,
            bytes,
            sha256: [0; 32],
        };
        let before = tail.clone();
        w.push(1, 1, &event, &mut tail).unwrap_err();
        assert_eq!(tail, before);
    }
}

#[test]
fn a_version_has_its_own_head() {
    // Nothing but the envelope says whether version 3 is encrypted; 1 and 2 say it themselves.
    for (version, clear, encrypted) in [
        (Version::One, true, false),
        (Version::Two, false, true),
        (Version::Three, true, true),
    ] {
        let head = || head_in(version, 1);
        assert_eq!(Writer::prepare(head(), entropy(1)).is_ok(), clear, "{version:?}");
        let sealed = Writer::prepare_encrypted(head(), entropy(1), content_key(), ENVELOPE);
        assert_eq!(sealed.is_ok(), encrypted, "{version:?}");
    }
}

#[test]
fn a_redacted_copy_keeps_it_where_the_original_may_have_it() {
    for (version, kept) in [(Version::One, false), (Version::Three, true)] {
        let (mut w, mut main, mut file) = open_in(version, 1);
        let mut batch = Batch::new();
        batch.push(1, 1, &out(b"secret")).unwrap();
        file.extend(w.put_batch(batch, 3, &mut main).unwrap());
        file.extend(w.finish(&mut main, 4, "exit", "").unwrap().0);
        let mut verified = verify(Cursor::new(&file), &trust(), None).unwrap();
        let [mark, digest] = [
            Event::Marker {
                text: "redacted: 1".into(),
            },
            three()[0].clone(),
        ]
        .map(|event| Timed {
            at_ms: 1,
            channel: 1,
            event,
        });
        let replacement = Replacement::new(&verified.chunks()[0].clone(), &[mark, digest], &[7; 16], 3).unwrap();
        let by = Redactor {
            key: [1; 32],
            name: "privacy office".into(),
            at_wall_ms: 1,
            reason: "a secret".into(),
        };
        assert_eq!(verified.redact(by, vec![replacement]).is_ok(), kept, "{version:?}");
    }
}
