//! Tail files: the live, append-only part of one segment (FORMAT.md section 7).

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::bytes::{Cursor, put_varint};
use crate::cbor::{self, Malformed};
use crate::event::{Event, kind};
use crate::fault::Why;
use crate::frame::{SKIP_HEADER_BYTES, Skip};
use crate::head::Version;
use crate::keys::{Domain, EpochKey, SIGNATURE_BYTES, sha256, signed_by, split_signature};
use crate::limits::{CHUNKS_MAX, EVENT_PAYLOAD_BYTES_MAX, STATEMENT_BYTES_MAX, TAIL_BYTES_MAX};
use crate::ratchet::{ChunkKeys, TAG_BYTES};
use crate::rows::{RawEvent, put_row, take_row};

/// First content byte of a TAIL frame in a recovered file: a tail file follows.
pub(crate) const TAIL_FILE: u8 = 0;
/// First content byte of a TAIL frame in a recovered file: the whole blocks of a torn stored chunk follow.
pub(crate) const TORN_STORED: u8 = 1;
/// Most bytes of a channel's number.
const CHANNEL_BYTES_MAX: usize = 5;
/// Fewest bytes of a sealed row's payload: kind, channel and tag.
const SEALED_ROW_BYTES_MIN: usize = 1 + 1 + TAG_BYTES;

/// The first frame of a tail file (FORMAT.md section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TailOpen {
    pub(crate) index: u64,
    pub(crate) key: [u8; 32],
    pub(crate) previous: [u8; 32],
    pub(crate) base_ms: u64,
}

impl TailOpen {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = cbor::Writer::default();
        w.map(4);
        w.key(0).uint(self.index);
        w.key(1).bytes(&self.key);
        w.key(2).bytes(&self.previous);
        w.key(3).uint(self.base_ms);
        w.into_bytes()
    }

    pub(crate) fn decode(statement: &[u8]) -> Result<TailOpen, Malformed> {
        let mut r = cbor::Reader::new(statement);
        r.map(4)?;
        let open = TailOpen {
            index: r.key(0)?.uint()?,
            key: r.key(1)?.array_of()?,
            previous: r.key(2)?.array_of()?,
            base_ms: r.key(3)?.time()?,
        };
        r.end()?;
        if open.index >= CHUNKS_MAX {
            Err(Malformed("more chunks than the format holds"))
        } else {
            Ok(open)
        }
    }

    /// The frame, signed by the key before it.
    pub(crate) fn frame(&self, signer: &EpochKey) -> Vec<u8> {
        Skip::Tail.frame(&signer.signed(Domain::Tail, self.encode()))
    }
}

/// A CHECK record: how far the epoch's key vouches (FORMAT.md section 7.3).
struct Check {
    seq: u64,
    at_ms: u64,
    bytes: u64,
    sha256: [u8; 32],
}

impl Check {
    fn encode(&self) -> Vec<u8> {
        let mut w = cbor::Writer::default();
        w.map(4);
        w.key(0).uint(self.seq);
        w.key(1).uint(self.at_ms);
        w.key(2).uint(self.bytes);
        w.key(3).bytes(&self.sha256);
        w.into_bytes()
    }
}

/// A tail being written: everything about it but its bytes, which the caller keeps.
pub(crate) struct TailState {
    hash: Sha256,
    len: u64,
    checked_len: u64,
    checks: u64,
    pub(crate) events: u64,
}

impl TailState {
    /// Opens with the frame that was signed when the chunk before was closed.
    pub(crate) fn open(frame: &[u8], out: &mut Vec<u8>) -> TailState {
        out.extend_from_slice(frame);
        let len = frame.len() as u64;
        TailState {
            hash: Sha256::new_with_prefix(frame),
            len,
            checked_len: len,
            checks: 0,
            events: 0,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn dirty(&self) -> u64 {
        self.len - self.checked_len
    }

    /// Appends an event's row, sealed if there are `keys`; `false` if the tail cannot hold it.
    pub(crate) fn push(
        &mut self,
        dt_ms: u64,
        event: (u8, u32, &[u8]),
        keys: Option<&ChunkKeys>,
        out: &mut Vec<u8>,
    ) -> bool {
        let (kind, channel, payload) = event;
        // Room for the row's header and for the checks that follow is kept back.
        if self.len as usize + payload.len() + STATEMENT_BYTES_MAX > TAIL_BYTES_MAX {
            return false;
        }
        let start = out.len();
        match keys {
            None => put_row(out, dt_ms, kind, channel, payload),
            Some(keys) => {
                let Some(sealed) = keys.seal_row(self.events, &sealed_row(kind, channel, payload)) else {
                    return false;
                };
                put_row(out, dt_ms, kind::SEALED_ROW, 0, &sealed);
            }
        }
        self.took(out.get(start..).unwrap_or_default());
        self.events += 1;
        true
    }

    /// Appends a CHECK.
    pub(crate) fn check(&mut self, dt_ms: u64, at_ms: u64, key: &EpochKey, out: &mut Vec<u8>) {
        let hash = self.hash.clone().finalize().into();
        let check = Check {
            seq: self.checks,
            at_ms,
            bytes: self.len,
            sha256: hash,
        };
        let start = out.len();
        put_row(out, dt_ms, kind::CHECK, 0, &key.signed(Domain::Check, check.encode()));
        self.took(out.get(start..).unwrap_or_default());
        self.checks += 1;
        self.checked_len = self.len;
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> ([u8; 32], u64) {
        (self.hash.finalize().into(), self.len)
    }
}

/// What a sealed row holds of an event; its time is the row's own (FORMAT.md section 10.3).
fn sealed_row(kind: u8, channel: u32, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut row = Zeroizing::new(Vec::with_capacity(1 + CHANNEL_BYTES_MAX + payload.len()));
    row.push(kind);
    put_varint(&mut row, u64::from(channel));
    row.extend_from_slice(payload);
    row
}

fn open_sealed_row(row: &[u8]) -> Result<(u8, u32, &[u8]), Malformed> {
    let mut c = Cursor::new(row);
    let kind = c.u8()?;
    if kind == kind::CHECK {
        return Err(Malformed("a check in a sealed row"));
    }
    let channel = u32::try_from(c.varint()?).map_err(|_| Malformed("channel over 32 bits"))?;
    let len = c.remaining();
    if len > EVENT_PAYLOAD_BYTES_MAX {
        return Err(Malformed("length over its bound"));
    }
    Ok((kind, channel, c.take(len)?))
}

/// Whether a row may be in a tail, as far as can be told without a key. In an encrypted recording every event is sealed:
/// whoever has no key cannot add one.
fn may_be_in_tail(row: &RawEvent<'_>, (version, encrypted): (Version, bool)) -> bool {
    if encrypted {
        row.kind == kind::SEALED_ROW && row.channel == 0 && row.payload.len() >= SEALED_ROW_BYTES_MIN
    } else {
        Event::decode(version, row.kind, row.payload).is_ok()
    }
}

/// The bytes of an encrypted tail as a clear one has them, CHECKs left out. They end before the first row that is not
/// what its writer sealed; the second value says why.
pub(crate) fn in_clear(bytes: &[u8], keys: &ChunkKeys) -> Result<(Vec<u8>, Option<Why>), Why> {
    let Opening { open, end: start, .. } = split_open(bytes)?;
    let (front, rows) = bytes.split_at_checked(start).ok_or(Why::TailUnopened)?;
    let mut clear = front.to_vec();
    let mut c = Cursor::new(rows);
    let (mut last_ms, mut cleared_ms, mut number) = (open.base_ms, open.base_ms, 0);
    while !c.is_empty() {
        let row = match take_row(&mut c, last_ms) {
            Ok(row) => row,
            Err(e) => return Ok((clear, Some(e.into()))),
        };
        last_ms = row.at_ms;
        if row.kind == kind::CHECK {
            continue;
        }
        let Some(opened) = keys.open_row(number, row.payload).map(Zeroizing::new) else {
            return Ok((clear, Some(Why::DoesNotOpen)));
        };
        number += 1;
        match open_sealed_row(&opened) {
            Ok((kind, channel, payload)) => put_row(&mut clear, row.at_ms - cleared_ms, kind, channel, payload),
            Err(e) => return Ok((clear, Some(e.into()))),
        }
        cleared_ms = row.at_ms;
    }
    Ok((clear, None))
}

/// A tail file's opening frame, taken apart.
pub(crate) struct Opening<'a> {
    open: TailOpen,
    statement: &'a [u8],
    signature: &'a [u8; SIGNATURE_BYTES],
    /// Where the rows begin.
    end: usize,
}

fn split_open(bytes: &[u8]) -> Result<Opening<'_>, Why> {
    let mut c = Cursor::new(bytes);
    let unopened = |_| Why::TailUnopened;
    if c.u32_le().map_err(unopened)? != Skip::Tail.magic() {
        return Err(Why::FrameOutOfPlace);
    }
    let len = c.u32_le().map_err(unopened)? as usize;
    if len > STATEMENT_BYTES_MAX {
        return Err(Why::FrameTooLarge);
    }
    let content = c.take(len).map_err(unopened)?;
    let (statement, signature) = split_signature(content).ok_or(Why::Malformed("no room for a signature"))?;
    Ok(Opening {
        open: TailOpen::decode(statement)?,
        statement,
        signature,
        end: SKIP_HEADER_BYTES + len,
    })
}

/// The rows of a tail, checks left out. Ends at the first row that does not parse.
pub(crate) fn rows(bytes: &[u8]) -> Result<impl Iterator<Item = Result<RawEvent<'_>, Malformed>>, Why> {
    let Opening { open, end: start, .. } = split_open(bytes)?;
    let mut c = Cursor::new(bytes.get(start..).unwrap_or_default());
    let mut last_ms = open.base_ms;
    let mut failed = false;
    let all = std::iter::from_fn(move || {
        if failed || c.is_empty() {
            return None;
        }
        let row = take_row(&mut c, last_ms);
        match &row {
            Ok(row) => last_ms = row.at_ms,
            Err(_) => failed = true,
        }
        Some(row)
    });
    Ok(all.filter(|row| !matches!(row, Ok(RawEvent { kind: kind::CHECK, .. }))))
}

/// What a look at a left-over tail found.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) open: TailOpen,
    /// Bytes up to the end of the last good record.
    pub(crate) kept: usize,
    /// SHA-256 of those bytes.
    pub(crate) sha256: [u8; 32],
    /// Bytes the last good CHECK covers, itself included; 0 if there is none.
    pub(crate) vouched: usize,
    /// Time of that check.
    pub(crate) vouched_ms: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) events: u64,
}

/// Reads a tail that `signer` must have opened, of a recording of this version, encrypted or not. A torn or broken record ends it; a broken opening is a fault.
/// So does the bound of a tail file: no writer goes beyond it.
pub(crate) fn inspect(bytes: &[u8], signer: &[u8; 32], form: (Version, bool)) -> Result<Inspected, Why> {
    let bytes = bytes.get(..TAIL_BYTES_MAX).unwrap_or(bytes);
    let Opening {
        open,
        statement,
        signature,
        end: start,
    } = split_open(bytes)?;
    if !signed_by(signer, Domain::Tail, statement, signature) {
        return Err(Why::TailSignature);
    }
    let mut seen = Inspected {
        kept: start,
        sha256: [0; 32],
        vouched: 0,
        vouched_ms: open.base_ms,
        first_ms: open.base_ms,
        last_ms: open.base_ms,
        events: 0,
        open,
    };
    let mut hash = Sha256::new();
    let mut hashed = 0;
    let mut checks = 0;
    let mut c = Cursor::new(bytes.get(start..).unwrap_or_default());
    while !c.is_empty() {
        let Ok(row) = take_row(&mut c, seen.last_ms) else {
            break;
        };
        let end = bytes.len() - c.remaining();
        if row.kind == kind::CHECK {
            hash.update(bytes.get(hashed..seen.kept).unwrap_or_default());
            hashed = seen.kept;
            let check = Check {
                seq: checks,
                at_ms: row.at_ms,
                bytes: hashed as u64,
                sha256: hash.clone().finalize().into(),
            };
            let good = row.channel == 0
                && split_signature(row.payload).is_some_and(|(statement, signature)| {
                    statement == check.encode() && signed_by(&seen.open.key, Domain::Check, statement, signature)
                });
            if !good {
                break;
            }
            checks += 1;
            (seen.vouched, seen.vouched_ms) = (end, row.at_ms);
        } else {
            if !may_be_in_tail(&row, form) {
                break;
            }
            if seen.events == 0 {
                seen.first_ms = row.at_ms;
            }
            seen.events += 1;
        }
        seen.last_ms = row.at_ms;
        seen.kept = end;
    }
    seen.sha256 = sha256(bytes.get(..seen.kept).unwrap_or_default());
    Ok(seen)
}
