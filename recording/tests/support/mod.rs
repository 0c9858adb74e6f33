//! A session in a box: deterministic keys, a realistic head, and a second writer that can lie.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::type_complexity, reason = "one closure per lie")]

pub mod redaction;
pub mod sealed;
pub mod tails;
pub mod tamper;

use std::borrow::Cow;

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::event::{ChannelAccount, Direction, Event};
use portcullis_recording::trust::{NodeKey, Trust};
use portcullis_recording::{Around, Batch, Entropy, Head, LineCipher, Main, Sealed, Version, Writer};
use sha2::{Digest, Sha256};

pub const OPENED: u64 = 1_790_000_000_000;

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The `n`th draw of session `session`'s entropy.
pub fn draw(session: u8, n: u64) -> [u8; 32] {
    sha256(&[&[session], n.to_be_bytes().as_slice()].concat())
}

pub fn entropy(session: u8) -> Entropy {
    let mut n = 0;
    Box::new(move |out: &mut [u8; 32]| {
        *out = draw(session, n);
        n += 1;
    })
}

/// Epoch key `i` of a session: draw 0 is k_0, draw 1 the salt.
pub fn epoch_key(session: u8, i: u64) -> SigningKey {
    SigningKey::from_bytes(&draw(session, if i == 0 { 0 } else { i + 1 }))
}

pub fn node() -> SigningKey {
    SigningKey::from_bytes(&[0x11; 32])
}

/// The head of a version 1 recording: most vectors are of that.
pub fn head(session: u8) -> Head {
    head_in(Version::One, session)
}

pub fn head_in(version: Version, session: u8) -> Head {
    Head {
        version,
        session_id: [session; 16],
        node: "bastion-1".into(),
        opened_wall_ms: OPENED,
        target: "db1.prod.example".into(),
        login: "root".into(),
        identity: "mia.weber@example.com".into(),
        grant_id: "01JD8Q2Z7M4T9V3X5B6N8C0R1W".into(),
        grant_until_wall_ms: OPENED + 1_800_000,
        cert_sha256: [3; 32],
        cert_serial: 0x1234_5678_9ABC_DEF0,
        cert_key_id: "mia.weber@example.com grant=01JD8Q2Z7M4T9V3X5B6N8C0R1W".into(),
        source: "203.0.113.17".into(),
        policy_digest: [4; 32],
        client_id: "SSH-2.0-OpenSSH_9.9p2 Debian-1".into(),
        ledger_origin: "bastion-1.example/ledger".into(),
        node_key: node().verifying_key().to_bytes(),
        ..Head::default()
    }
}

pub fn trust() -> Trust {
    Trust {
        nodes: vec![NodeKey {
            name: "bastion-1".into(),
            key: node().verifying_key().to_bytes(),
            from_wall_ms: OPENED - 1000,
            until_wall_ms: None,
            revoked_wall_ms: None,
        }],
        ..Trust::default()
    }
}

pub fn open(session: u8) -> (Writer, Main, Vec<u8>) {
    open_in(Version::One, session)
}

pub fn open_in(version: Version, session: u8) -> (Writer, Main, Vec<u8>) {
    let unopened = Writer::prepare(head_in(version, session), entropy(session)).unwrap();
    let signature = node().sign(&unopened.statement()).to_bytes();
    unopened.open(&signature).unwrap()
}

/// What a reader makes of events that were written to one chunk: those of their kinds.
pub fn written_and_read(events: &[Event<'_>]) -> Vec<Event<'static>> {
    let (mut w, mut main, mut file) = open_in(Version::LATEST, 1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for event in events {
        w.push(9, 1, event, &mut tail).unwrap();
    }
    let segment = w.close_tail().unwrap();
    file.extend(segment.encode(&tail, Around::default(), 3, &mut main).unwrap());
    file.extend(w.finish(&mut main, 10, "exit", "").unwrap().0);
    let mut verified = portcullis_recording::verify(std::io::Cursor::new(&file), &trust(), None).unwrap();
    let read = verified.events().map(|timed| timed.unwrap().event.into_owned());
    read.filter(|read| events.iter().any(|event| event.kind() == read.kind()))
        .collect()
}

pub fn out(bytes: &[u8]) -> Event<'_> {
    Event::Output(Cow::Borrowed(bytes))
}

/// One event of each kind but keyframes and lines.
pub fn one_of_each() -> Vec<Event<'static>> {
    use portcullis_recording::event::{NoticeHow, Party};
    vec![
        Event::ChannelOpen {
            kind: "session".into(),
            detail: "".into(),
        },
        Event::Request {
            kind: "pty-req".into(),
            detail: b"xterm\0".to_vec().into(),
            want: "pty".into(),
        },
        Event::Decision {
            action: "shell".into(),
            allowed: true,
            rule: "ops-1".into(),
            code: "ok".into(),
        },
        Event::Resize {
            cols: 80,
            rows: 24,
            px_width: 0,
            px_height: 0,
        },
        Event::Output(b"$ ".to_vec().into()),
        Event::Input(b"ls\r".to_vec().into()),
        Event::Stderr(b"no\n".to_vec().into()),
        Event::Notice {
            bytes: b"ends in 5 min".to_vec().into(),
            how: NoticeHow::Stderr,
        },
        Event::Withheld {
            direction: Direction::ToTarget,
            bytes: 7,
            why: "rule no-rm".into(),
        },
        Event::Undelivered {
            direction: Direction::ToClient,
            bytes: 9,
        },
        Event::ClockStep {
            wall_before_ms: OPENED,
            wall_after_ms: OPENED + 60_000,
        },
        Event::Marker { text: "grüße".into() },
        Event::Eof {
            direction: Direction::ToClientErr,
        },
        Event::ExitStatus(255),
        Event::ExitSignal {
            name: "TERM".into(),
            core: false,
            message: "killed".into(),
        },
        Event::ChannelClose { by: Party::Target },
        Event::Accounts(vec![ChannelAccount {
            channel: 1,
            from_client: 3,
            to_target: 3,
            ..ChannelAccount::default()
        }]),
        Event::End {
            code: "exit".into(),
            text: "the program ended".into(),
        },
    ]
}

/// Byte loops look at every byte when optimised, as `tests/run` does; unoptimised signatures are a hundred times slower.
pub const STEP: usize = if cfg!(debug_assertions) { 97 } else { 1 };

/// What a session wrote: the file and what the writer says about it.
pub struct Written {
    pub file: Vec<u8>,
    pub sealed: Sealed,
}

/// A small session of three chunks: a re-encoded tail with lines, a flood, a batch with the end.
pub fn small(session: u8) -> Written {
    let (mut w, mut main, mut file) = open(session);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for (i, event) in one_of_each().iter().take(9).enumerate() {
        w.push(10 * i as u64, 1, event, &mut tail).unwrap();
    }
    let mut line = LineCipher::new(1, draw(session, 1 << 40));
    for key in [b"i", b"d", b"\r"] {
        w.push(200, 1, &line.seal(key).unwrap(), &mut tail).unwrap();
    }
    w.push(210, 1, &line.reveal(), &mut tail).unwrap();
    let mut secret = LineCipher::new(2, draw(session, 1 << 41));
    for key in b"hunter2" {
        w.push(300, 1, &secret.seal(&[*key]).unwrap(), &mut tail).unwrap();
    }
    w.push(310, 1, &secret.hide(), &mut tail).unwrap();
    w.check(320, &mut tail).unwrap();
    let keyframe = Event::Keyframe {
        cols: 80,
        rows: 24,
        dump: "\x1b[H$ ".into(),
    };
    let around = Around {
        keyframes: &[(1, keyframe)],
        behind: &[],
    };
    file.extend(w.close_tail().unwrap().encode(&tail, around, 9, &mut main).unwrap());
    assert_eq!(file.len() as u64, main.offset());

    let mut flood = w.into_flood(&main).unwrap();
    let bulk: Vec<u8> = (0..40u64).flat_map(|n| draw(session, 1000 + n)).collect();
    for (i, part) in bulk.chunks(500).enumerate() {
        let event = out(part);
        let mut pieces = Vec::new();
        flood.push(400 + i as u64, 1, &event, &mut pieces).unwrap();
        for piece in &pieces {
            file.extend_from_slice(piece.lead());
            file.extend_from_slice(piece.payload());
        }
    }
    let (mut w, bytes) = flood.finish(&mut main).unwrap();
    file.extend(bytes);
    assert_eq!(file.len() as u64, main.offset());

    let mut batch = Batch::new();
    for (i, event) in one_of_each().iter().skip(9).enumerate() {
        batch.push(500 + i as u64, 1, event).unwrap();
    }
    file.extend(w.put_batch(batch, 3, &mut main).unwrap());
    let (bytes, sealed) = w.finish(&mut main, 600, "exit", "the program ended").unwrap();
    file.extend(bytes);
    assert_eq!(file.len() as u64, sealed.file_bytes());
    Written { file, sealed }
}

/// One frame of a file.
#[derive(Debug, Clone)]
pub struct Frame {
    pub magic: u32,
    pub start: usize,
    pub end: usize,
}

/// Splits a sound file into its frames, without the crate's help.
pub fn frames(file: &[u8]) -> Vec<Frame> {
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut all, mut at) = (Vec::new(), 0);
    while at < file.len() {
        let (start, magic) = (at, u32_at(at));
        if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
            at += 8 + u32_at(at + 4) as usize;
        } else {
            let descriptor = file[at + 4];
            let single = descriptor & 0x20 != 0;
            at += 5 + usize::from(!single) + [usize::from(single), 2, 4, 8][usize::from(descriptor >> 6)];
            loop {
                let block = u32::from_le_bytes([file[at], file[at + 1], file[at + 2], 0]);
                at += 3 + if (block >> 1) & 3 == 1 {
                    1
                } else {
                    (block >> 3) as usize
                };
                if block & 1 == 1 {
                    break;
                }
            }
        }
        all.push(Frame { magic, start, end: at });
    }
    all
}

pub fn skip(magic: u32, content: &[u8]) -> Vec<u8> {
    [
        &magic.to_le_bytes(),
        (content.len() as u32).to_le_bytes().as_slice(),
        content,
    ]
    .concat()
}

pub fn sign(key: &SigningKey, domain: &str, statement: &[u8]) -> Vec<u8> {
    let message = [format!("portcullis-recording/v1 {domain}\0").as_bytes(), statement].concat();
    [statement, &key.sign(&message).to_bytes()].concat()
}

/// A LEAF's fields, to be lied in.
#[derive(Debug, Clone, Default)]
pub struct Leaf {
    pub index: u64,
    pub first_ms: u64,
    pub last_ms: u64,
    pub raw_len: u64,
    pub stored_len: u64,
    pub events: u64,
    pub flags: u64,
    pub sha256: [u8; 32],
    pub previous: [u8; 32],
    pub next: [u8; 32],
}

impl Leaf {
    pub fn encode(&self) -> Vec<u8> {
        let mut e = minicbor::Encoder::new(Vec::new());
        e.map(10).unwrap();
        let numbers = [
            self.index,
            self.first_ms,
            self.last_ms,
            self.raw_len,
            self.stored_len,
            self.events,
            self.flags,
        ];
        for (k, n) in numbers.into_iter().enumerate() {
            e.u8(k as u8).unwrap().u64(n).unwrap();
        }
        for (k, b) in [self.sha256, self.previous, self.next].iter().enumerate() {
            e.u8(7 + k as u8).unwrap().bytes(b).unwrap();
        }
        e.into_writer()
    }
}

/// A second writer, from FORMAT.md alone. Every closure may change what is about to be signed or written.
pub struct Forger {
    pub session: u8,
    pub head_frame: Vec<u8>,
    /// Frame bytes, raw length, first ms, last ms, events, flags.
    pub chunks: Vec<(Vec<u8>, u64, u64, u64, u64, u64)>,
    pub leaf: Box<dyn Fn(&mut Leaf)>,
    /// A leaf's bytes before they are signed.
    pub leaf_statement: Box<dyn Fn(&mut Vec<u8>)>,
    pub leaf_domain: &'static str,
    pub index: Box<dyn Fn(&mut Vec<u8>)>,
    pub root: Box<dyn Fn(&mut [u8; 32])>,
    /// Which epoch key signs leaf `i`.
    pub leaf_key: Box<dyn Fn(u64) -> u64>,
    pub seal_domain: &'static str,
    pub seal_key: Option<SigningKey>,
    pub closed_ms: u64,
    /// SHA-256 of the last Accounts payload, as the seal states it.
    pub accounts: [u8; 32],
    /// Contents of TAIL frames.
    pub tails: Vec<Vec<u8>>,
    /// Makes it a recovered one.
    pub recovery: Option<Recovery>,
}

/// What only the seal of a recovered file states.
pub struct Recovery {
    pub vouched_bytes: u64,
    pub vouched_ms: u64,
    pub key: SigningKey,
}

/// A main file on its way.
#[derive(Default)]
pub struct Built {
    pub file: Vec<u8>,
    pub h0: [u8; 32],
    /// Leaf hash of the last leaf, or H0.
    pub previous: [u8; 32],
    sizes: Vec<(usize, usize)>,
    leaves: Vec<[u8; 32]>,
    index: Vec<u8>,
    raw_total: u64,
    events_total: u64,
}

pub const PLAIN_MS: u64 = 5;

/// The content of a chunk in rows that holds these (kind, payload) at `PLAIN_MS` on channel 1.
pub fn rows(events: &[(u8, &[u8])]) -> Vec<u8> {
    let mut raw = vec![0, PLAIN_MS as u8];
    for (kind, payload) in events {
        raw.extend_from_slice(&[0, *kind, 1]);
        let mut n = payload.len();
        while n >= 0x80 {
            raw.push(n as u8 | 0x80);
            n >>= 7;
        }
        raw.push(n as u8);
        raw.extend_from_slice(payload);
    }
    raw
}

/// A zstd frame of one segment with a 4-byte size, around ready blocks.
pub fn zstd_frame(size: u32, blocks: &[u8]) -> Vec<u8> {
    [&[0x28, 0xB5, 0x2F, 0xFD, 0xA0], size.to_le_bytes().as_slice(), blocks].concat()
}

/// The frame of a stored chunk around ready blocks, without the empty one that ends it.
pub fn stored_frame(blocks: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38];
    for raw in blocks {
        frame.extend_from_slice(&((raw.len() as u32) << 3).to_le_bytes()[..3]);
        frame.extend_from_slice(raw);
    }
    frame
}

/// What ends a stored chunk.
pub const STORED_END: [u8; 3] = [1, 0, 0];

/// A raw last block.
pub fn last_raw(raw: &[u8]) -> Vec<u8> {
    let head = ((raw.len() as u32) << 3 | 1).to_le_bytes();
    [&head[..3], raw].concat()
}

impl Forger {
    pub fn new(session: u8) -> Forger {
        Forger::in_version(Version::One, session)
    }

    pub fn in_version(version: Version, session: u8) -> Forger {
        let (_, _, head_frame) = open_in(version, session);
        Forger {
            session,
            head_frame,
            chunks: Vec::new(),
            leaf: Box::new(|_| {}),
            leaf_statement: Box::new(|_| {}),
            leaf_domain: "leaf",
            index: Box::new(|_| {}),
            root: Box::new(|_| {}),
            leaf_key: Box::new(|i| i),
            seal_domain: "seal",
            seal_key: None,
            closed_ms: 1000,
            accounts: [0; 32],
            tails: Vec::new(),
            recovery: None,
        }
    }

    pub fn chunk(mut self, frame: Vec<u8>, raw_len: u64, events: u64, flags: u64) -> Forger {
        self.chunks.push((frame, raw_len, PLAIN_MS, PLAIN_MS, events, flags));
        self
    }

    /// A chunk with this content, plainly framed.
    pub fn content(self, raw: &[u8], events: u64) -> Forger {
        self.chunk(
            zstd_frame(raw.len() as u32, &last_raw(raw)),
            raw.len() as u64,
            events,
            0,
        )
    }

    /// HEAD, chunks and leaves: what a main file holds before its end.
    pub fn main(&self) -> Built {
        let mut file = self.head_frame.clone();
        let h0 = sha256(&file);
        let mut built = Built {
            h0,
            previous: h0,
            sizes: vec![(file.len(), 0)],
            ..Built::default()
        };
        let (mut at, mut ms) = (0, 0);
        for (i, (frame, raw_len, first_ms, last_ms, events, flags)) in self.chunks.iter().enumerate() {
            let mut leaf = Leaf {
                index: i as u64,
                first_ms: *first_ms,
                last_ms: *last_ms,
                raw_len: *raw_len,
                stored_len: frame.len() as u64,
                events: *events,
                flags: *flags,
                sha256: sha256(frame),
                previous: built.previous,
                next: epoch_key(self.session, i as u64 + 1).verifying_key().to_bytes(),
            };
            (self.leaf)(&mut leaf);
            varint(&mut built.index, file.len() as u64 - at);
            varint(&mut built.index, leaf.first_ms.wrapping_sub(ms));
            built.index.push(leaf.flags as u8);
            (at, ms) = (file.len() as u64, leaf.first_ms);
            let mut statement = leaf.encode();
            (self.leaf_statement)(&mut statement);
            built.previous = sha256(&[&[0], statement.as_slice()].concat());
            built.leaves.push(built.previous);
            let key = epoch_key(self.session, (self.leaf_key)(i as u64));
            let leaf_frame = skip(0x184D_2A51, &sign(&key, self.leaf_domain, &statement));
            let raw_len = if frame.starts_with(&sealed::ENCRYPTED.to_le_bytes()) {
                0
            } else {
                *raw_len as usize
            };
            built.sizes.extend([(frame.len(), raw_len), (leaf_frame.len(), 0)]);
            file.extend_from_slice(frame);
            file.extend(leaf_frame);
            built.raw_total += leaf.raw_len;
            built.events_total += leaf.events;
        }
        built.file = file;
        built
    }

    pub fn build(&self) -> Vec<u8> {
        let mut b = self.main();
        let mut tails = Vec::new();
        for content in &self.tails {
            let frame = skip(0x184D_2A52, content);
            b.sizes.push((frame.len(), 0));
            tails.extend(frame);
        }
        b.file.extend_from_slice(&tails);
        (self.index)(&mut b.index);
        let index_frame = skip(0x184D_2A53, &b.index);
        b.sizes.push((index_frame.len(), 0));
        b.file.extend(index_frame);
        let mut root = root(&b.leaves);
        (self.root)(&mut root);
        let statement = self.seal(&b, &root, sha256(&tails));
        let key = match (&self.seal_key, &self.recovery) {
            (Some(key), _) => key.clone(),
            (None, Some(recovery)) => recovery.key.clone(),
            (None, None) => epoch_key(self.session, self.chunks.len() as u64),
        };
        let seal = skip(0x184D_2A54, &sign(&key, self.seal_domain, &statement));
        b.sizes.push((seal.len(), 0));
        b.file.extend(seal);
        b.file.extend(seek_table(&b.sizes));
        b.file
    }

    fn seal(&self, b: &Built, root: &[u8], tails_sha256: [u8; 32]) -> Vec<u8> {
        let mut e = minicbor::Encoder::new(Vec::new());
        let recovered = self.recovery.is_some();
        e.map(if recovered { 16 } else { 11 }).unwrap();
        e.u8(0).unwrap().u8(u8::from(recovered)).unwrap();
        e.u8(1).unwrap().bytes(&b.h0).unwrap();
        let chunks = self.chunks.len() as u64;
        for (k, n) in [(2, chunks), (3, b.raw_total), (4, b.events_total)] {
            e.u8(k).unwrap().u64(n).unwrap();
        }
        e.u8(5).unwrap().bytes(root).unwrap();
        e.u8(6).unwrap().u64(self.closed_ms).unwrap();
        e.u8(7).unwrap().str("exit").unwrap().u8(8).unwrap().str("").unwrap();
        e.u8(9).unwrap().bytes(&sha256(&b.index)).unwrap();
        e.u8(10).unwrap().bytes(&self.accounts).unwrap();
        if let Some(recovery) = &self.recovery {
            for (k, n) in [(11, chunks), (12, recovery.vouched_bytes), (13, recovery.vouched_ms)] {
                e.u8(k).unwrap().u64(n).unwrap();
            }
            e.u8(14).unwrap().bytes(&tails_sha256).unwrap();
            e.u8(15)
                .unwrap()
                .bytes(recovery.key.verifying_key().as_bytes())
                .unwrap();
        }
        e.into_writer()
    }
}

pub fn seek_table(sizes: &[(usize, usize)]) -> Vec<u8> {
    let mut table = Vec::new();
    for (stored, raw) in sizes {
        table.extend_from_slice(&(*stored as u32).to_le_bytes());
        table.extend_from_slice(&(*raw as u32).to_le_bytes());
    }
    table.extend_from_slice(&(sizes.len() as u32).to_le_bytes());
    table.push(0);
    table.extend_from_slice(&0x8F92_EAB1u32.to_le_bytes());
    skip(0x184D_2A5E, &table)
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(1 << (leaves.len() - 1).ilog2());
            sha256(&[&[1], root(left).as_slice(), &root(right)].concat())
        }
    }
}
