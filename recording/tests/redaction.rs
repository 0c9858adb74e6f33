//! Redacted copies made by the crate: what stays, what is said, and that the original's hash tells nothing.

mod support;

use std::io::Cursor;

use ed25519_dalek::Signer;
use portcullis_recording::event::{Event, Timed};
use portcullis_recording::redact::{RedactError, Redactor, Replacement};
use portcullis_recording::redaction::MARK;
use portcullis_recording::{Around, Batch, Fault, Main, Trust, Verdict, Verified, Why, Writer, verify};
use support::redaction::redactor;
use support::tamper::redacting;
use support::*;

fn at(at_ms: u64, event: Event<'static>) -> Timed<'static> {
    Timed {
        at_ms,
        channel: 1,
        event,
    }
}

fn mark(at_ms: u64) -> Timed<'static> {
    let text = format!("{MARK}text").into();
    at(at_ms, Event::Marker { text })
}

fn open_file(file: &[u8], trust: &Trust) -> Verified<Cursor<Vec<u8>>> {
    verify(Cursor::new(file.to_vec()), trust, None).unwrap()
}

fn by(reason: &str) -> Redactor {
    Redactor {
        key: redactor().verifying_key().to_bytes(),
        name: "Privacy Office".into(),
        at_wall_ms: OPENED + 1,
        reason: reason.into(),
    }
}

/// A copy in which this chunk holds these events.
fn copy(file: &[u8], chunk: usize, events: &[Timed<'static>]) -> Vec<u8> {
    let mut original = open_file(file, &redacting());
    let replacement = Replacement::new(&original.chunks()[chunk].clone(), events, &[9; 16], 3).unwrap();
    let unsigned = original.redact(by("a test"), vec![replacement]).unwrap();
    let signature = redactor().sign(&unsigned.statement()).to_bytes();
    let mut out = Vec::new();
    unsigned.write(&signature, &mut out).unwrap();
    out
}

#[test]
fn a_copy_of_a_copy_marks_what_both_have_replaced() {
    let original = small(1);
    let once = copy(&original.file, 1, &[mark(400)]);
    let twice = copy(&once, 0, &[mark(0), at(5, out(b"kept"))]);
    let mut copy = open_file(&twice, &redacting());
    assert_eq!(copy.verdict().to_string(), "REDACTED by privacy office, chunks 0-1");
    assert_eq!(copy.check_content().unwrap().events, 2 + 1 + 9);
    let marks: Vec<u64> = copy.chunks().iter().map(|info| info.marks).collect();
    assert_eq!(marks, [1, 1, 0]);
    let vouched: Vec<bool> = copy.chunks().iter().map(|info| info.vouched).collect();
    assert_eq!(vouched, [false, false, true]);
    // What the ledger knows is the original.
    assert_eq!(copy.sealed(), Some(&original.sealed));
    let Verdict::Redacted {
        by,
        reason,
        at_wall_ms,
        chunks,
        original,
    } = copy.verdict()
    else {
        panic!("{}", copy.verdict());
    };
    assert_eq!(
        (by.as_str(), reason.as_str(), *at_wall_ms),
        ("privacy office", "a test", OPENED + 1)
    );
    assert_eq!(chunks, &[0, 1]);
    assert!(matches!(**original, Verdict::Sealed { closed_ms: 600, .. }));
}

#[test]
fn redacting_all_again_gives_back_no_original() {
    let file = small(1).file;
    let once = copy(&file, 1, &[mark(400)]);
    let again = copy(&once, 1, &[mark(400), at(401, out(b"other"))]);
    let copy = open_file(&again, &redacting());
    assert_eq!(copy.verdict().to_string(), "REDACTED by privacy office, chunk 1");
    // The session's own chunk is not there any more, and nothing passes for it.
    let f = frames(&file);
    let chunk = &file[f[3].start..f[3].end];
    assert!(!again.windows(64).any(|window| window == &chunk[8..72]));
}

#[test]
fn what_cannot_be_a_copy_is_none() {
    let file = small(1).file;
    let info = open_file(&file, &trust()).chunks()[1].clone();
    let new = |events: &[Timed<'static>]| Replacement::new(&info, events, &[9; 16], 3).map(|_| ());
    let times = RedactError::Times {
        first_ms: 400,
        last_ms: 402,
    };
    assert_eq!(new(&[]), Err(times.clone()));
    assert_eq!(new(&[mark(401)]), Err(times.clone()));
    assert_eq!(new(&[mark(400), at(403, out(b"x"))]), Err(times.clone()));
    assert_eq!(new(&[mark(402), mark(400)]), Err(times));
    assert_eq!(new(&[at(400, out(b"x"))]), Err(RedactError::Unmarked));

    let mut original = open_file(&file, &trust());
    assert_eq!(original.redact(by(""), Vec::new()).err(), Some(RedactError::Nothing));
    let replacement = |index| {
        let mut other = info.clone();
        other.index = index;
        Replacement::new(&other, &[mark(400)], &[9; 16], 3).unwrap()
    };
    let absent = original.redact(by(""), vec![replacement(3)]).err();
    assert_eq!(absent, Some(RedactError::NotAChunk(3)));
    let long = original.redact(by(&"x".repeat(1025)), vec![replacement(1)]).err();
    assert_eq!(long, Some(RedactError::Words));
    let unsigned = original.redact(by(""), vec![replacement(1)]).unwrap();
    let wrong = node().sign(&unsigned.statement()).to_bytes();
    assert_eq!(unsigned.write(&wrong, &mut Vec::new()), Err(RedactError::Signature));
}

#[test]
fn a_redactor_that_nobody_trusts_is_no_redactor() {
    let copy = copy(&small(1).file, 1, &[mark(400)]);
    let why = |trust: &Trust| {
        verify(Cursor::new(&copy), trust, None)
            .map(|_| ())
            .map_err(|Fault { why, .. }| why)
    };
    assert_eq!(why(&redacting()), Ok(()));
    assert_eq!(why(&trust()), Err(Why::UnknownRedactor));
    let mut as_node = trust();
    as_node.nodes.push(redacting().redactors[0].clone());
    assert_eq!(why(&as_node), Err(Why::UnknownRedactor));
    let mut as_redactor = redacting();
    as_redactor.redactors.append(&mut as_redactor.nodes);
    assert_eq!(why(&as_redactor), Err(Why::UnknownNodeKey));
}

/// The chunk frames that a writer makes of the same two events: a tail's, a batch's and a flood's.
fn same_events(entropy_of: u8) -> Vec<Vec<u8>> {
    let unopened = Writer::prepare(head(1), entropy(entropy_of)).unwrap();
    let signature = node().sign(&unopened.statement()).to_bytes();
    let (mut w, mut main, mut file): (Writer, Main, Vec<u8>) = unopened.open(&signature).unwrap();
    let events = [out(b"password: "), out(b"hunter2")];
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    events.iter().for_each(|event| w.push(1, 1, event, &mut tail).unwrap());
    file.extend(
        w.close_tail()
            .unwrap()
            .encode(&tail, Around::default(), 3, &mut main)
            .unwrap(),
    );
    let mut batch = Batch::new();
    events.iter().for_each(|event| batch.push(2, 1, event).unwrap());
    file.extend(w.put_batch(batch, 3, &mut main).unwrap());
    let mut flood = w.into_flood(&main).unwrap();
    for event in &events {
        let mut pieces = Vec::new();
        flood.push(3, 1, event, &mut pieces).unwrap();
        pieces
            .iter()
            .for_each(|piece| file.extend([piece.lead(), piece.payload()].concat()));
    }
    let (w, end) = flood.finish(&mut main).unwrap();
    file.extend(end);
    file.extend(w.finish(&mut main, 4, "exit", "").unwrap().0);
    let mut verified = open_file(&file, &trust());
    (0..3).for_each(|at| assert!(verified.chunk(at).unwrap().is_salted()));
    let chunks = frames(&file).into_iter().filter(|f| f.magic == 0xFD2F_B528);
    chunks.map(|f| file[f.start..f.end].to_vec()).collect()
}

#[test]
fn who_guesses_every_event_still_does_not_have_the_chunk() {
    // The guesser knows all but the session's keys, and has the same writer.
    let (recorded, again, guessed) = (same_events(1), same_events(1), same_events(2));
    assert_eq!(recorded.len(), 3);
    assert_eq!(recorded, again);
    for (recorded, guessed) in recorded.iter().zip(&guessed) {
        assert_ne!(sha256(recorded), sha256(guessed));
        assert_eq!(recorded.len(), guessed.len());
    }
}
