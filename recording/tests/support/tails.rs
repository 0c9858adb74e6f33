//! Tail files by hand, from FORMAT.md section 7 alone, for sessions that crash and for those who lie about it.

use ed25519_dalek::SigningKey;

use super::sealed::SEALED_ROW;
use super::{epoch_key, sha256, sign, skip, varint};

/// A tail file on its way.
pub struct Tail {
    pub bytes: Vec<u8>,
    pub key: SigningKey,
    at_ms: u64,
    checks: u64,
}

/// A TAIL-OPEN's fields, to be lied in, and who signs it.
pub struct Opening {
    pub index: u64,
    pub key: SigningKey,
    pub previous: [u8; 32],
    pub base_ms: u64,
    pub signer: SigningKey,
}

impl Opening {
    /// Of tail `index`, which counts from `base_ms`.
    pub fn new(session: u8, index: u64, previous: [u8; 32], base_ms: u64) -> Opening {
        Opening {
            index,
            key: epoch_key(session, index),
            previous,
            base_ms,
            signer: epoch_key(session, index.saturating_sub(1)),
        }
    }

    pub fn begin(self) -> Tail {
        let mut e = minicbor::Encoder::new(Vec::new());
        e.map(4).unwrap().u8(0).unwrap().u64(self.index).unwrap();
        e.u8(1).unwrap().bytes(self.key.verifying_key().as_bytes()).unwrap();
        e.u8(2).unwrap().bytes(&self.previous).unwrap();
        e.u8(3).unwrap().u64(self.base_ms).unwrap();
        Tail {
            bytes: skip(0x184D_2A52, &sign(&self.signer, "tail", &e.into_writer())),
            key: self.key,
            at_ms: self.base_ms,
            checks: 0,
        }
    }
}

impl Tail {
    /// An event on channel 1.
    pub fn event(mut self, dt_ms: u64, kind: u8, payload: &[u8]) -> Tail {
        self.row(dt_ms, kind, 1, payload);
        self
    }

    /// An event in an encrypted tail, whose payload is sealed already.
    pub fn sealed(mut self, dt_ms: u64, payload: &[u8]) -> Tail {
        self.row(dt_ms, SEALED_ROW, 0, payload);
        self
    }

    /// Output.
    pub fn out(self, dt_ms: u64, payload: &[u8]) -> Tail {
        self.event(dt_ms, 0x01, payload)
    }

    pub fn check(mut self, dt_ms: u64) -> Tail {
        let mut e = minicbor::Encoder::new(Vec::new());
        e.map(4).unwrap().u8(0).unwrap().u64(self.checks).unwrap();
        e.u8(1).unwrap().u64(self.at_ms + dt_ms).unwrap();
        e.u8(2).unwrap().u64(self.bytes.len() as u64).unwrap();
        e.u8(3).unwrap().bytes(&sha256(&self.bytes)).unwrap();
        let payload = sign(&self.key, "check", &e.into_writer());
        self.row(dt_ms, 0x7F, 0, &payload);
        self.checks += 1;
        self
    }

    fn row(&mut self, dt_ms: u64, kind: u8, channel: u64, payload: &[u8]) {
        varint(&mut self.bytes, dt_ms);
        self.bytes.push(kind);
        varint(&mut self.bytes, channel);
        varint(&mut self.bytes, payload.len() as u64);
        self.bytes.extend_from_slice(payload);
        self.at_ms += dt_ms;
    }
}

/// The content of a TAIL frame in a recovered file.
pub fn kept(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}
