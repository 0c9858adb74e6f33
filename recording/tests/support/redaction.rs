//! Redacted copies by hand, from FORMAT.md section 3.8 alone, for redactors and for those who lie as one.

use ed25519_dalek::SigningKey;

use super::sealed::ENCRYPTED;
use super::{OPENED, frames, last_raw, seek_table, sha256, sign, skip, varint, zstd_frame};

pub const MAGIC: u32 = 0x184D_2A55;
const LEAF: u32 = 0x184D_2A51;
const SEAL: u32 = 0x184D_2A54;
const SEEK_TABLE: u32 = 0x184D_2A5E;

pub fn redactor() -> SigningKey {
    SigningKey::from_bytes(&[0x44; 32])
}

/// One chunk of a copy, to be lied in.
#[derive(Clone)]
pub struct Replaced {
    pub index: u64,
    pub frame: Vec<u8>,
    pub sha256: [u8; 32],
    pub raw_len: u64,
    pub stored_len: u64,
    pub events: u64,
    pub flags: u64,
    pub marks: u64,
}

impl Replaced {
    /// A chunk of these events (time, kind, payload) on channel 1.
    pub fn new(index: u64, events: &[(u64, u8, &[u8])]) -> Replaced {
        let first_ms = events[0].0;
        let mut raw = vec![0];
        varint(&mut raw, first_ms);
        let mut last_ms = first_ms;
        for (at_ms, kind, payload) in events {
            varint(&mut raw, at_ms - last_ms);
            raw.extend_from_slice(&[*kind, 1]);
            varint(&mut raw, payload.len() as u64);
            raw.extend_from_slice(payload);
            last_ms = *at_ms;
        }
        let frame = zstd_frame(raw.len() as u32, &last_raw(&raw));
        Replaced {
            index,
            sha256: sha256(&frame),
            raw_len: raw.len() as u64,
            stored_len: frame.len() as u64,
            events: events.len() as u64,
            flags: 0,
            marks: 1,
            frame,
        }
    }

    /// Nothing but a mark, from the first to the last time of the chunk.
    pub fn withheld(index: u64, first_ms: u64, last_ms: u64) -> Replaced {
        Replaced::new(index, &[(first_ms, 0x32, &mark()), (last_ms, 0x80, &[7; 16])])
    }
}

/// The payload of a marker that says that something is gone.
pub fn mark() -> Vec<u8> {
    let mut e = minicbor::Encoder::new(Vec::new());
    e.array(1).unwrap().str("redacted: withheld").unwrap();
    e.into_writer()
}

/// A REDACTION's fields, to be lied in, and who signs it.
pub struct Censor {
    pub h0: [u8; 32],
    pub seal_sha256: [u8; 32],
    pub key: [u8; 32],
    pub at_wall_ms: u64,
    pub replaced: Vec<Replaced>,
    pub signer: SigningKey,
    pub domain: &'static str,
    /// Frames before it.
    pub place: usize,
    /// How often it is there.
    pub times: usize,
    /// Chunks that stand in the copy; those that are listed if none.
    pub put: Option<Vec<Replaced>>,
    /// Which frames stand there, of the original.
    pub keep: Box<dyn Fn(&mut Vec<Vec<u8>>)>,
    pub seek: Box<dyn Fn(&mut Vec<(usize, usize)>)>,
}

impl Censor {
    pub fn of(file: &[u8], replaced: Vec<Replaced>) -> Censor {
        let all = frames(file);
        let seal = all.iter().find(|f| f.magic == SEAL).unwrap();
        Censor {
            h0: sha256(&file[..all[0].end]),
            seal_sha256: sha256(&file[seal.start..seal.end]),
            key: redactor().verifying_key().to_bytes(),
            at_wall_ms: OPENED + 5_000_000,
            replaced,
            signer: redactor(),
            domain: "redaction",
            place: 1,
            times: 1,
            put: None,
            keep: Box::new(|_| {}),
            seek: Box::new(|_| {}),
        }
    }

    fn statement(&self) -> Vec<u8> {
        let mut e = minicbor::Encoder::new(Vec::new());
        e.map(8).unwrap().u8(0).unwrap().u8(1).unwrap();
        for (k, hash) in [&self.h0, &self.seal_sha256, &self.key].into_iter().enumerate() {
            e.u8(1 + k as u8).unwrap().bytes(hash).unwrap();
        }
        e.u8(4).unwrap().str("Privacy Office").unwrap();
        e.u8(5).unwrap().u64(self.at_wall_ms).unwrap();
        e.u8(6).unwrap().str("court order 7").unwrap();
        e.u8(7).unwrap().array(self.replaced.len() as u64).unwrap();
        for r in &self.replaced {
            e.array(7).unwrap().u64(r.index).unwrap().bytes(&r.sha256).unwrap();
            for n in [r.raw_len, r.stored_len, r.events, r.flags, r.marks] {
                e.u64(n).unwrap();
            }
        }
        e.into_writer()
    }

    pub fn frame(&self) -> Vec<u8> {
        skip(MAGIC, &sign(&self.signer, self.domain, &self.statement()))
    }

    /// The copy of `file`.
    pub fn build(&self, file: &[u8]) -> Vec<u8> {
        let put = self.put.as_ref().unwrap_or(&self.replaced);
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut chunk = 0;
        for f in frames(file).iter().filter(|f| f.magic != SEEK_TABLE) {
            let mut bytes = file[f.start..f.end].to_vec();
            if f.magic == 0xFD2F_B528 || f.magic == ENCRYPTED {
                if let Some(replaced) = put.iter().find(|r| r.index == chunk) {
                    bytes = replaced.frame.clone();
                }
            } else if f.magic == LEAF {
                chunk += 1;
            }
            parts.push(bytes);
        }
        (self.keep)(&mut parts);
        for _ in 0..self.times {
            parts.insert(self.place, self.frame());
        }
        let mut sizes: Vec<(usize, usize)> = parts
            .iter()
            .map(|bytes| {
                let raw = match bytes.as_slice() {
                    [0x28, 0xB5, 0x2F, 0xFD, ..] => {
                        zstd::stream::decode_all(bytes.as_slice()).map_or(0, |raw| raw.len())
                    }
                    _ => 0,
                };
                (bytes.len(), raw)
            })
            .collect();
        (self.seek)(&mut sizes);
        [parts.concat(), seek_table(&sizes)].concat()
    }
}
