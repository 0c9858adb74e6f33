//! Everything that can be done to a recording's bytes from outside, counted: nothing of it may verify.

use std::io::Cursor;
use std::thread;

use ed25519_dalek::Signer;
use portcullis_recording::event::{Event, Timed};
use portcullis_recording::redaction::MARK;
use portcullis_recording::trust::NodeKey;
use portcullis_recording::{Batch, Redactor, Replacement, Trust, verify};

use super::redaction::redactor;
use super::sealed::{ENCRYPTED, open_encrypted};
use super::{Frame, OPENED, draw, frames, open, out, trust};

/// Magic of a chunk's frame.
const CHUNK_MAGIC: u32 = 0xFD2F_B528;
/// Chunks of the recording that is tampered with.
pub const CHUNKS: usize = 6;
/// Chunks that are replaced in the redacted copy: a batch and a flood.
const REDACTED: [usize; 2] = [2, 3];
/// A chunk and its leaf.
const FRAMES_EACH: usize = 2;

/// What was tried of one kind, and how much of it still verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    pub kind: &'static str,
    pub tried: usize,
    pub verified: usize,
}

/// A recording of about that many bytes that do not compress: batches and floods in turn, and batches only if encrypted.
pub fn recording(session: u8, bytes: usize, encrypted: bool) -> Vec<u8> {
    let (mut w, mut main, mut file) = if encrypted {
        open_encrypted(session)
    } else {
        open(session)
    };
    let mut at_ms = 0;
    for chunk in 0..CHUNKS {
        let draws = 1 + bytes / CHUNKS / 32;
        let data: Vec<u8> = (0..draws)
            .flat_map(|n| draw(session, (chunk << 32 | n) as u64 + 1000))
            .collect();
        let mut batch = Batch::new();
        let mut flood = Vec::new();
        for part in data.chunks(1500) {
            at_ms += 10;
            match chunk % 2 {
                _ if encrypted => batch.push(at_ms, 1, &out(part)).unwrap(),
                0 => batch.push(at_ms, 1, &out(part)).unwrap(),
                _ => flood.push((at_ms, part)),
            }
        }
        if !batch.is_empty() {
            file.extend(w.put_batch(batch, 3, &mut main).unwrap());
            continue;
        }
        let mut chunk = w.into_flood(&main).unwrap();
        for (at_ms, part) in flood {
            let event = out(part);
            let mut pieces = Vec::new();
            chunk.push(at_ms, 1, &event, &mut pieces).unwrap();
            for piece in &pieces {
                file.extend_from_slice(piece.lead());
                file.extend_from_slice(piece.payload());
            }
        }
        let (writer, end) = chunk.finish(&mut main).unwrap();
        w = writer;
        file.extend(end);
    }
    let (end, _) = w.finish(&mut main, at_ms, "exit", "").unwrap();
    file.extend(end);
    file
}

/// The copy of a recording in which some chunks hold nothing but a mark.
pub fn redacted(file: &[u8]) -> Vec<u8> {
    let key = redactor();
    let mut original = verify(Cursor::new(file), &redacting(), None).unwrap();
    let replacements = REDACTED.map(|i| {
        let info = &original.chunks()[i];
        let mark = Timed {
            at_ms: info.first_ms,
            channel: 0,
            event: Event::Marker {
                text: format!("{MARK}withheld").into(),
            },
        };
        Replacement::new(info, &[mark], &[i as u8; 16], 3).unwrap()
    });
    let by = Redactor {
        key: key.verifying_key().to_bytes(),
        name: "Privacy Office".into(),
        at_wall_ms: OPENED + 1,
        reason: "a test".into(),
    };
    let unsigned = original.redact(by, replacements.into()).unwrap();
    let signature = key.sign(&unsigned.statement()).to_bytes();
    let mut copy = Vec::new();
    unsigned.write(&signature, &mut copy).unwrap();
    copy
}

/// Trusts the redactor as well.
pub fn redacting() -> Trust {
    let mut trust = trust();
    trust.redactors.push(NodeKey {
        name: "privacy office".into(),
        key: redactor().verifying_key().to_bytes(),
        ..trust.nodes[0].clone()
    });
    trust
}

/// The campaign, or every `step`th part of it. `other` is a recording of another session.
pub fn campaign(trust: &Trust, file: &[u8], other: &[u8], step: usize) -> Vec<Count> {
    let all = frames(file);
    let tries = Tries { trust, file, step };
    // The HEAD, and the REDACTION of a copy.
    let before = all
        .iter()
        .position(|f| [CHUNK_MAGIC, ENCRYPTED].contains(&f.magic))
        .unwrap();
    let chunk = |i: usize| {
        let first = before + FRAMES_EACH * i;
        &file[all[first].start..all[first + 1].end]
    };
    let chunks_at = all[before].start..all[before + FRAMES_EACH * CHUNKS].start;
    let with_chunks = |order: &[usize]| {
        let mut bytes = file[..chunks_at.start].to_vec();
        order.iter().for_each(|i| bytes.extend_from_slice(chunk(*i)));
        bytes.extend_from_slice(&file[chunks_at.end..]);
        bytes
    };
    let whole: Vec<usize> = (0..CHUNKS).collect();
    // Every set of chunks but none and all of them.
    let drops: Vec<Vec<usize>> = (0..(1 << CHUNKS) - 1)
        .map(|kept: usize| whole.iter().copied().filter(|i| kept >> i & 1 == 1).collect())
        .collect();
    let mut doubles = Vec::new();
    for i in 0..CHUNKS {
        for at in 0..=CHUNKS {
            let mut order = whole.clone();
            order.insert(at, i);
            doubles.push(order);
        }
    }
    let orders = permutations(&whole);
    let splices = splices(file, &all, other);
    vec![
        tries.run("bytes, 3 values each", file.len() * 3, |n, bytes| {
            bytes.extend_from_slice(file);
            bytes[n / 3] ^= [0x01, 0x80, 0xFF][n % 3];
        }),
        tries.run("truncations", file.len(), |n, bytes| {
            bytes.extend_from_slice(&file[..n])
        }),
        tries.run("drops", drops.len(), |n, bytes| *bytes = with_chunks(&drops[n])),
        tries.run("duplicates", doubles.len(), |n, bytes| {
            *bytes = with_chunks(&doubles[n])
        }),
        tries.run("permutations", orders.len(), |n, bytes| {
            *bytes = with_chunks(&orders[n])
        }),
        tries.run("splices", splices.len(), |n, bytes| {
            bytes.extend_from_slice(&splices[n])
        }),
    ]
}

/// Every run of frames of another session in place of ours, and every beginning of ours before every end of theirs.
fn splices(file: &[u8], all: &[Frame], other: &[u8]) -> Vec<Vec<u8>> {
    let theirs = frames(other);
    let mut splices = Vec::new();
    for i in 0..all.len() {
        for j in i..all.len() {
            let run = &other[theirs[i].start..theirs[j].end];
            splices.push([&file[..all[i].start], run, &file[all[j].end..]].concat());
        }
        for end in &theirs {
            splices.push([&file[..all[i].end], &other[end.start..]].concat());
        }
    }
    // The whole of theirs is theirs, and sound.
    splices.retain(|bytes| bytes != other);
    splices
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    let [first, rest @ ..] = items else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in permutations(rest) {
        for at in 0..=order.len() {
            let mut order = order.clone();
            order.insert(at, *first);
            all.push(order);
        }
    }
    all
}

struct Tries<'a> {
    trust: &'a Trust,
    file: &'a [u8],
    step: usize,
}

impl Tries<'_> {
    /// Makes and verifies them on all cores. What `make` left as it was is not counted.
    fn run(&self, kind: &'static str, count: usize, make: impl Fn(usize, &mut Vec<u8>) + Sync) -> Count {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let work = |first: usize| {
            let (mut tried, mut verified, mut bytes) = (0, 0, Vec::new());
            for n in (first * self.step..count).step_by(threads * self.step) {
                bytes.clear();
                make(n, &mut bytes);
                if bytes != self.file {
                    tried += 1;
                    verified += usize::from(verify(Cursor::new(&bytes), self.trust, None).is_ok());
                }
            }
            (tried, verified)
        };
        let counts: Vec<(usize, usize)> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (tried, verified) = counts.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Count { kind, tried, verified }
    }
}
