//! What a leaf says: the body whose salted hash is all that the log itself holds.
//!
//! Bodies about a recording are `portcullis_recording`'s, so that a verifier
//! rebuilds them from the file alone (recording/FORMAT.md section 9.1). All
//! others are events: a CBOR map of `0: "event", 1: kind, 2: wall ms, 3: JSON`.
//! Both are deterministic (RFC 8949 section 4.2): one meaning, one encoding.

use minicbor::decode::Error as Malformed;
use minicbor::{Decoder, Encoder};
use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::limits;

use crate::kernel::grant::WallMs;

/// Longest body of a leaf, in bytes.
pub const BODY_BYTES_MAX: usize = limits::EVENT_BODY_BYTES_MAX;
/// Longest name of an event kind, in bytes.
pub const KIND_BYTES_MAX: usize = limits::EVENT_KIND_BYTES_MAX;

/// A body, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A recording was opened, checked or sealed.
    Recording(LedgerLeaf),
    /// Anything else that happened.
    Event {
        /// `grant`, `revoke`, `node-start` and the like.
        kind: String,
        at_ms: WallMs,
        /// A JSON object with sorted keys.
        json: String,
    },
}

impl Body {
    /// Its bytes.
    ///
    /// # Errors
    /// When it is longer than [`BODY_BYTES_MAX`]; gives its length.
    pub fn encode(&self) -> Result<Vec<u8>, usize> {
        let bytes = match self {
            Body::Recording(leaf) => leaf.body(),
            Body::Event { kind, at_ms, json } => event(kind, *at_ms, json),
        };
        match bytes.len() > BODY_BYTES_MAX {
            true => Err(bytes.len()),
            false => Ok(bytes),
        }
    }

    /// Reads what [`Body::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// In words, when these are not the bytes of a body.
    pub fn decode(bytes: &[u8]) -> Result<Body, String> {
        let body = read(bytes).map_err(|why| why.to_string())?;
        match body.encode() {
            Ok(again) if again == bytes => Ok(body),
            Ok(_) | Err(_) => Err("the body is not in its one encoding".to_owned()),
        }
    }
}

fn event(kind: &str, at_ms: WallMs, json: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut to = Encoder::new(&mut bytes);
    // A Vec takes everything.
    let written: Result<_, minicbor::encode::Error<std::convert::Infallible>> = (|| {
        to.map(4)?.u8(0)?.str("event")?.u8(1)?.str(kind)?;
        to.u8(2)?.u64(at_ms)?.u8(3)?.str(json)?;
        Ok(())
    })();
    debug_assert!(written.is_ok());
    bytes
}

fn read(bytes: &[u8]) -> Result<Body, Malformed> {
    let mut from = Decoder::new(bytes);
    from.map()?;
    let named = key(&mut from, 0)?.str()?;
    let kind = match named {
        "event" => {
            return Ok(Body::Event {
                kind: key(&mut from, 1)?.str()?.to_owned(),
                at_ms: key(&mut from, 2)?.u64()?,
                json: key(&mut from, 3)?.str()?.to_owned(),
            });
        }
        "open" => LeafKind::Open,
        "check" => LeafKind::Check,
        "seal" => LeafKind::Seal,
        _ => return Err(Malformed::message("a leaf of an unknown kind")),
    };
    Ok(Body::Recording(LedgerLeaf {
        kind,
        session_id: array(key(&mut from, 1)?)?,
        h0: array(key(&mut from, 2)?)?,
        root: array(key(&mut from, 3)?)?,
        size: key(&mut from, 4)?.u64()?,
        reason: key(&mut from, 5)?.str()?.to_owned(),
        at_wall_ms: key(&mut from, 6)?.u64()?,
    }))
}

fn key<'a, 'b>(from: &'a mut Decoder<'b>, expected: u64) -> Result<&'a mut Decoder<'b>, Malformed> {
    match from.u64()? == expected {
        true => Ok(from),
        false => Err(Malformed::message("a map with another key")),
    }
}

fn array<const N: usize>(from: &mut Decoder<'_>) -> Result<[u8; N], Malformed> {
    <[u8; N]>::try_from(from.bytes()?).map_err(|_| Malformed::message("another length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> [Body; 2] {
        [
            Body::Recording(LedgerLeaf {
                kind: LeafKind::Seal,
                session_id: [7; 16],
                h0: [1; 32],
                root: [2; 32],
                size: 70_000,
                reason: "expired".into(),
                at_wall_ms: 1_800_000_000_000,
            }),
            Body::Event {
                kind: "grant".into(),
                at_ms: 1_800_000_000_000,
                json: "{\"identity\":\"alice\"}".into(),
            },
        ]
    }

    #[test]
    fn bodies_come_back() {
        for body in bodies() {
            assert_eq!(Body::decode(&body.encode().unwrap()).unwrap(), body);
        }
    }

    #[test]
    fn nothing_else_is_a_body() {
        for body in bodies() {
            let bytes = body.encode().unwrap();
            for cut in 0..bytes.len() {
                assert!(Body::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Body::decode(&longer).is_err());
        }
        assert!(Body::decode(&[]).is_err());
        let huge = Body::Event {
            kind: "x".into(),
            at_ms: 0,
            json: "x".repeat(BODY_BYTES_MAX),
        };
        assert!(huge.encode().is_err());
    }
}
