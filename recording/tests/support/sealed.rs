//! Encryption by hand, from FORMAT.md section 10 alone, and sessions that are written encrypted.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use ed25519_dalek::Signer;
use hkdf::Hkdf;
use portcullis_recording::{Around, Batch, ContentKey, LineCipher, Main, Version, Writer};
use sha2::Sha256;

use super::{Forger, Written, draw, entropy, head_in, node, one_of_each, out, sha256, skip};

/// The published envelope of every encrypted vector, an age file for `testdata/envelope.identity`, ...
pub const ENVELOPE: &[u8] = include_bytes!("../../testdata/envelope.age");
/// ... and what `age -d` makes of it.
pub const CONTENT_KEY: &[u8; 32] = include_bytes!("../../testdata/content.key");
/// The frame of an encrypted chunk.
pub const ENCRYPTED: u32 = 0x184D_2A5F;
/// The row of an event in an encrypted tail.
pub const SEALED_ROW: u8 = 0x7E;

pub fn content_key() -> ContentKey {
    ContentKey::new(*CONTENT_KEY)
}

pub fn open_encrypted(session: u8) -> (Writer, Main, Vec<u8>) {
    open_under(session, ENVELOPE)
}

pub fn open_under(session: u8, envelope: &[u8]) -> (Writer, Main, Vec<u8>) {
    open_encrypted_in(Version::Two, session, envelope)
}

pub fn open_encrypted_in(version: Version, session: u8, envelope: &[u8]) -> (Writer, Main, Vec<u8>) {
    let head = head_in(version, session);
    let unopened = Writer::prepare_encrypted(head, entropy(session), content_key(), envelope).unwrap();
    let signature = node().sign(&unopened.statement()).to_bytes();
    unopened.open(&signature).unwrap()
}

fn expand(key: [u8; 32], what: &str) -> [u8; 32] {
    let info = format!("portcullis-recording/v2 {what}");
    let mut out = [0; 32];
    Hkdf::<Sha256>::from_prk(&key)
        .unwrap()
        .expand(info.as_bytes(), &mut out)
        .unwrap();
    out
}

/// What is encrypted under, and for which place; each field may lie.
#[derive(Clone, Copy)]
pub struct Cipher {
    pub content_key: [u8; 32],
    /// The chunk whose key it is.
    pub key_of: u64,
    pub h0: [u8; 32],
    pub index: u64,
}

impl Cipher {
    pub fn new(h0: [u8; 32], index: u64) -> Cipher {
        Cipher {
            content_key: *CONTENT_KEY,
            key_of: index,
            h0,
            index,
        }
    }

    fn seal(&self, what: &str, number: u64, plain: &[u8]) -> Vec<u8> {
        let c_i = (0..self.key_of).fold(self.content_key, |c, _| expand(c, "next"));
        let mut nonce = Nonce::default();
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let aad = [self.h0.as_slice(), &self.index.to_be_bytes()].concat();
        let payload = Payload { msg: plain, aad: &aad };
        ChaCha20Poly1305::new(&Key::from(expand(c_i, what)))
            .encrypt(&nonce, payload)
            .unwrap()
    }

    /// The frame of an encrypted chunk around a zstd frame.
    pub fn chunk(&self, frame: &[u8]) -> Vec<u8> {
        skip(ENCRYPTED, &self.seal("chunk", 0, frame))
    }

    /// The payload of sealed row `number` around an event on channel 1.
    pub fn row(&self, number: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
        self.seal("tail", number, &[&[kind, 1], payload].concat())
    }
}

impl Forger {
    /// One that writes version 2.
    pub fn encrypted(session: u8) -> Forger {
        Forger::encrypted_in(Version::Two, session)
    }

    pub fn encrypted_in(version: Version, session: u8) -> Forger {
        Forger {
            head_frame: open_encrypted_in(version, session, ENVELOPE).2,
            ..Forger::new(session)
        }
    }

    /// What the next chunk is encrypted under.
    pub fn cipher(&self) -> Cipher {
        Cipher::new(sha256(&self.head_frame), self.chunks.len() as u64)
    }

    /// The next chunk, encrypted as it should be around this frame.
    pub fn sealed(self, frame: &[u8], raw_len: u64, events: u64) -> Forger {
        let frame = self.cipher().chunk(frame);
        self.chunk(frame, raw_len, events, 0)
    }
}

/// A small encrypted session of three chunks: a re-encoded tail with lines, and two batches, the last one with the end.
pub fn small_encrypted(session: u8) -> Written {
    let (mut w, mut main, mut file) = open_encrypted(session);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for (i, event) in one_of_each().iter().take(9).enumerate() {
        w.push(10 * i as u64, 1, event, &mut tail).unwrap();
    }
    let mut line = LineCipher::new(1, draw(session, 1 << 40));
    w.push(200, 1, &line.seal(b"id\r").unwrap(), &mut tail).unwrap();
    w.push(210, 1, &line.reveal(), &mut tail).unwrap();
    w.check(320, &mut tail).unwrap();
    file.extend(
        w.close_tail()
            .unwrap()
            .encode(&tail, Around::default(), 9, &mut main)
            .unwrap(),
    );
    assert_eq!(file.len() as u64, main.offset());

    let mut bulk = Batch::new();
    let draws: Vec<u8> = (0..40u64).flat_map(|n| draw(session, 1000 + n)).collect();
    for (i, part) in draws.chunks(500).enumerate() {
        bulk.push(400 + i as u64, 1, &out(part)).unwrap();
    }
    file.extend(w.put_batch(bulk, 3, &mut main).unwrap());

    let mut end = Batch::new();
    for (i, event) in one_of_each().iter().skip(9).enumerate() {
        end.push(500 + i as u64, 1, event).unwrap();
    }
    file.extend(w.put_batch(end, 3, &mut main).unwrap());
    let (bytes, sealed) = w.finish(&mut main, 600, "exit", "the program ended").unwrap();
    file.extend(bytes);
    assert_eq!(file.len() as u64, sealed.file_bytes());
    Written { file, sealed }
}
