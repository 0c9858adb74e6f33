//! Whole files and spool folders.

use std::io::Cursor;

use ed25519_dalek::Signer;

use super::draft::{Draft, cast};
use super::tape::Tape;
use crate::batch::Batch;
use crate::event::Timed;
use crate::fault::{Fault, Why};
use crate::frame::Skip;
use crate::keys::{Domain, sha256};
use crate::reader::ChunkInfo;
use crate::recover::{RecoverError, recover};
use crate::seal::SealKind;
use crate::trust::Trust;
use crate::verified::{Unverified, Verified};
use crate::verify::{Verdict, verify, verify_spool};
use crate::writer::Writer;

/// Two honest files, which nobody else has the keys of.
const HONEST: [&[u8]; 2] = [
    include_bytes!("../../testdata/sealed.pcr"),
    include_bytes!("../../testdata/recovered.pcr"),
];
/// The trust they verify under.
const TRUST: &str = include_str!("../../testdata/trust.toml");

/// A file as it lies there. What verifies with the seal of an honest file is that file.
pub(super) fn file(bytes: &[u8]) {
    let trust = Trust::parse(TRUST).unwrap();
    if agree(bytes, &trust).is_ok() {
        for honest in HONEST
            .iter()
            .filter(|honest| seal_signature(honest) == seal_signature(bytes))
        {
            assert!(*honest == bytes, "a changed file verifies");
        }
    }
}

/// What stands right before the seek table of a sound file.
fn seal_signature(file: &[u8]) -> &[u8] {
    let (_, [a, b, c, d, ..]) = file.split_last_chunk::<9>().unwrap();
    let frames = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let end = file.len() - (8 + 8 * frames + 9);
    &file[end - 64..end]
}

/// INDEX, SEAL and seek table of somebody's choice behind honest chunks, the SEAL signed with the session's own key.
pub(super) fn ending(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut draft = Draft::new();
    draft.chunks(&mut Tape::new(
        b"\x01\0\0\x07\0\0\x05\0\x01\x01\x01x\x01\0\0\x07\0\0\x06\0\x01\x01\x01y\0",
    ));
    assert!(draft.honest && draft.state.chunks() == 2);
    let mut state = draft.state.clone();
    let honest = state.seal(9, ("exit", ""), [0; 32], SealKind::Sealed).encode();
    let index = changed(&mut tape, draft.state.index_content());
    let statement = changed(&mut tape, &honest);
    state.index_frame();
    let signed = draft.next_key().signed(Domain::Seal, statement.clone());
    let end = state.end_frames(&signed);
    let table = changed(&mut tape, &end[8 + signed.len() + 8..]);
    let mut file = draft.main.clone();
    file.extend(Skip::Index.frame(&index));
    file.extend(Skip::Seal.frame(&signed));
    file.extend(Skip::SeekTable.frame(&table));
    file.extend_from_slice(tape.rest());
    if let Ok(read) = agree(&file, &cast().trust) {
        let Verdict::Sealed { closed_ms, code, text } = read.verdict else {
            panic!("a file without tails or a node's word is {}", read.verdict);
        };
        // Only what a seal may say freely can differ.
        let mut state = draft.state.clone();
        let accounts = crate::seal::Seal::decode(&statement).unwrap().accounts_sha256;
        let seal = state.seal(closed_ms, (&code, &text), accounts, SealKind::Sealed);
        let mut again = draft.main.clone();
        again.extend(state.index_frame());
        again.extend(state.end_frames(&draft.next_key().signed(Domain::Seal, seal.encode())));
        assert!(file == again, "an end has two forms");
    }
}

/// Some bytes with some of them replaced by others.
fn changed(tape: &mut Tape<'_>, honest: &[u8]) -> Vec<u8> {
    let how = tape.u8();
    if how & 1 == 0 {
        return honest.to_vec();
    }
    let (at, gone) = (usize::from(tape.u8()), usize::from(tape.u8()));
    let at = at.min(honest.len());
    let gone = gone.min(honest.len() - at);
    let n = usize::from(tape.u8());
    [&honest[..at], tape.bytes(n), &honest[at + gone..]].concat()
}

/// A session of any chunks that ended as it should. Honest ones verify, and what verifies could have been written.
pub(super) fn sealed(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut draft = Draft::new();
    draft.chunks(&mut tape);
    let mut state = draft.state.clone();
    let closed_ms = state.last_ms();
    let seal = state.seal(closed_ms, ("exit", ""), draft.accounts, SealKind::Sealed);
    let mut file = draft.main.clone();
    file.extend(state.index_frame());
    file.extend(state.end_frames(&draft.next_key().signed(Domain::Seal, seal.encode())));
    match agree(&file, &cast().trust) {
        Ok(read) => {
            if let Ok(events) = read.events {
                rewritten(&read.chunks, &events);
            } else {
                assert!(!draft.honest, "honest content is refused: {:?}", read.events);
            }
        }
        Err(fault) => assert!(!draft.honest, "an honest file is refused: {fault}"),
    }
}

/// Writes the events again, chunk by chunk, and reads them back.
fn rewritten(chunks: &[ChunkInfo], events: &[Timed<'static>]) {
    let mut drawn = 0u8;
    let entropy = move |out: &mut [u8; 32]| {
        drawn += 1;
        *out = [drawn; 32];
    };
    let unopened = Writer::prepare(cast().head.clone(), Box::new(entropy)).unwrap();
    let signature = cast().node.sign(&unopened.statement()).to_bytes();
    let (mut writer, mut main, mut file) = unopened.open(&signature).unwrap();
    let mut batch = Batch::new();
    for event in events {
        batch.push(event.at_ms, event.channel, &event.event).unwrap();
    }
    if !batch.is_empty() {
        file.extend(writer.put_batch(batch, 1, &mut main).unwrap());
    }
    let last_ms = chunks.last().map_or(0, |chunk| chunk.last_ms);
    let (end, _) = writer.finish(&mut main, last_ms, "exit", "").unwrap();
    file.extend(end);
    let again = agree(&file, &cast().trust).expect("what a writer wrote verifies");
    assert_eq!(
        again.events.as_deref(),
        Ok(events),
        "what was read reads otherwise once written"
    );
}

/// A crashed session's recording, whose node may say anything about how far the session's keys vouch.
pub(super) fn recovered(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut draft = Draft::new();
    draft.chunks(&mut tape);
    draft.tails(&mut tape);
    let lie = tape.u8();
    let mut state = draft.state.clone();
    let mut file = draft.main.clone();
    let mut frames = Vec::new();
    for (_, tail) in &draft.tails {
        let frame = Skip::Tail.frame(&[&[tape.u8() >> 7], tail.as_slice()].concat());
        state.took_frame(frame.len() as u64, 0);
        frames.extend(frame);
    }
    let spool = verify_spool(Cursor::new(&draft.main), draft.tails.clone(), &cast().trust);
    let (vouched_ms, vouched_bytes) = match spool.as_ref().map(Verified::verdict) {
        Ok(Verdict::Prefix {
            vouched_ms,
            vouched_tail_bytes,
            ..
        }) => (*vouched_ms, *vouched_tail_bytes),
        _ => (tape.u8().into(), tape.u16().into()),
    };
    let kind = SealKind::Recovered {
        vouched_chunks: tape.about(state.chunks(), lie == 1),
        vouched_tail_bytes: tape.about(vouched_bytes, lie == 2),
        vouched_ms: tape.about(vouched_ms, lie == 3),
        tails_sha256: sha256(&frames),
        node_key: cast().head.node_key,
    };
    let last_ms = spool.as_ref().map_or(vouched_ms, Verified::last_ms);
    let seal = state.seal(tape.about(last_ms, lie == 4), ("crash", ""), [0; 32], kind.clone());
    let statement = seal.encode();
    let signature = cast().node.sign(&Domain::Seal.message(&statement)).to_bytes();
    file.extend(frames);
    file.extend(state.index_frame());
    file.extend(state.end_frames(&[statement.as_slice(), &signature].concat()));
    if agree(&file, &cast().trust).is_ok() {
        assert!(!(1..=3).contains(&lie), "a node overstates or understates: {kind:?}");
        let spool = spool.expect("what verifies when recovered verifies as a spool");
        assert_eq!(
            spool.chunks().len() as u64,
            draft.state.chunks() + draft.tails.len() as u64
        );
    }
}

/// What a crash leaves. All of it is recovered, and reads the same before and after.
pub(super) fn spool(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut draft = Draft::new();
    draft.chunks(&mut tape);
    draft.torn(&mut tape);
    draft.tails(&mut tape);
    draft.main.extend_from_slice(tape.rest());
    let (cast, main) = (cast(), || Cursor::new(&draft.main));
    let unsigned = match recover(main(), draft.tails.clone(), cast.head.node_key, "crash", "") {
        Ok(unsigned) => unsigned,
        Err(RecoverError::AlreadySealed(_)) => panic!("it has no seal"),
        Err(why) => panic!("a spool with a head is lost: {why}"),
    };
    let signature = cast.node.sign(&unsigned.statement()).to_bytes();
    let recovery = unsigned.sign(&signature).unwrap();
    let mut file = draft.main[..recovery.keep_bytes as usize].to_vec();
    file.extend_from_slice(&recovery.append);
    let read = agree(&file, &cast.trust).expect("what was recovered verifies");
    let Verdict::Recovered {
        vouched_ms,
        vouched_tail_bytes,
        vouched_chunks,
        ..
    } = read.verdict
    else {
        panic!("what was recovered is {}", read.verdict);
    };
    // A spool that holds what no writer and no crash leaves is refused as one; what can be saved of it is.
    let Ok(mut spool) = verify_spool(main(), draft.tails.clone(), &cast.trust) else {
        return;
    };
    let prefix = Verdict::Prefix {
        vouched_ms,
        chunks: vouched_chunks,
        vouched_tail_bytes,
    };
    assert_eq!(*spool.verdict(), prefix);
    assert_eq!(known(spool.chunks()), known(&read.chunks));
    let events: Result<Vec<_>, Fault> = spool.events().collect();
    assert_eq!(
        events.ok(),
        read.events.ok(),
        "a spool reads otherwise once it is recovered"
    );
}

/// What is known of chunks wherever they lie.
fn known(chunks: &[ChunkInfo]) -> Vec<ChunkInfo> {
    let place = |info: &ChunkInfo| {
        let mut info = info.clone().at_offset(0);
        info.place = crate::reader::Place::File;
        info
    };
    chunks.iter().map(place).collect()
}

/// What all ways to read a finished file have found.
struct Read {
    verdict: Verdict,
    chunks: Vec<ChunkInfo>,
    events: Result<Vec<Timed<'static>>, Fault>,
}

/// Reads a file in every way there is, and holds them against each other.
fn agree(bytes: &[u8], trust: &Trust) -> Result<Read, Fault> {
    let verified = verify(Cursor::new(bytes), trust, None);
    let unverified = Unverified::open(Cursor::new(bytes));
    let spool = verify_spool(Cursor::new(bytes), Vec::new(), trust);
    let mut verified = match verified {
        Ok(verified) => verified,
        Err(fault) => {
            // Whoever looks at it all the same sees where it goes wrong, unless it is merely not trusted.
            if let Ok(mut unverified) = unverified {
                let distrust = matches!(
                    fault.why,
                    Why::UnknownNodeKey
                        | Why::NodeKeyNotValidThen
                        | Why::NodeKeyRevoked
                        | Why::UnknownRedactor
                        | Why::RedactorNotValidThen
                );
                assert!(distrust || unverified.unverified_fault() == Some(&fault), "{fault}");
                unverified.unverified_events().for_each(drop);
            }
            return Err(fault);
        }
    };
    let spool = spool.expect("a finished file is a spool too");
    assert_eq!(spool.verdict(), verified.verdict());
    let mut unverified = unverified.expect("what verifies can be read");
    assert_eq!(unverified.unverified_fault(), None);
    assert_eq!(unverified.unverified_chunks(), verified.chunks());
    let events: Result<Vec<_>, Fault> = verified.events().collect();
    let checked = verified.check_content();
    match (&events, &checked) {
        (Ok(events), Ok(checked)) => assert_eq!(events.len() as u64, checked.events),
        (Err(fault), Err(other)) => assert_eq!(fault, other),
        (Ok(_), Err(other)) => assert!(matches!(other.why, Why::Content(_)), "{other}"),
        (Err(fault), Ok(_)) => panic!("content is sound and cannot be read: {fault}"),
    }
    let again: Result<Vec<_>, Fault> = unverified.unverified_events().collect();
    assert_eq!(again, events);
    Ok(Read {
        verdict: verified.verdict().clone(),
        chunks: verified.chunks().to_vec(),
        events: checked.and(events),
    })
}
