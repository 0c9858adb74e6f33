//! Events one after the other (FORMAT.md section 3.3): the layout of tails and stored chunks.

use crate::bytes::{Cursor, put_varint};
use crate::cbor::Malformed;
use crate::event::kind;
use crate::limits::{EVENT_PAYLOAD_BYTES_MAX, SALT_BYTES, SEALED_ROW_BYTES_MAX, TIME_MS_MAX};

/// First content byte of a chunk in rows.
pub(crate) const LAYOUT_ROWS: u8 = 0;

/// Why content is refused whose first event is later than its first time, which would then have two forms.
pub(crate) const FIRST_DT: Malformed = Malformed("the first event is not at the first time");

/// An event with its payload still in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawEvent<'a> {
    pub(crate) at_ms: u64,
    pub(crate) channel: u32,
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> RawEvent<'a> {
    /// What ends a chunk (FORMAT.md section 5.4).
    pub(crate) fn salt(last_ms: u64, salt: &'a [u8; SALT_BYTES]) -> RawEvent<'a> {
        RawEvent {
            at_ms: last_ms,
            channel: 0,
            kind: kind::SALT,
            payload: salt,
        }
    }

    pub(crate) fn is_salt(&self) -> bool {
        self.kind == kind::SALT && self.payload.len() == SALT_BYTES
    }
}

/// Appends everything of a row but its payload.
pub(crate) fn put_row_header(out: &mut Vec<u8>, dt_ms: u64, kind: u8, channel: u32, len: usize) {
    put_varint(out, dt_ms);
    out.push(kind);
    put_varint(out, u64::from(channel));
    put_varint(out, len as u64);
}

pub(crate) fn put_row(out: &mut Vec<u8>, dt_ms: u64, kind: u8, channel: u32, payload: &[u8]) {
    put_row_header(out, dt_ms, kind, channel, payload.len());
    out.extend_from_slice(payload);
}

/// Reads one row; `last_ms` is the time its dt counts from.
pub(crate) fn take_row<'a>(cursor: &mut Cursor<'a>, last_ms: u64) -> Result<RawEvent<'a>, Malformed> {
    let at_ms = add_ms(last_ms, cursor.varint()?)?;
    let kind = cursor.u8()?;
    let channel = u32::try_from(cursor.varint()?).map_err(|_| Malformed("channel over 32 bits"))?;
    let len = cursor.length(match kind {
        kind::SEALED_ROW => SEALED_ROW_BYTES_MAX,
        _ => EVENT_PAYLOAD_BYTES_MAX,
    })?;
    Ok(RawEvent {
        at_ms,
        channel,
        kind,
        payload: cursor.take(len)?,
    })
}

pub(crate) fn add_ms(last_ms: u64, dt_ms: u64) -> Result<u64, Malformed> {
    match last_ms.checked_add(dt_ms) {
        Some(at_ms) if at_ms <= TIME_MS_MAX => Ok(at_ms),
        _ => Err(Malformed("time over its bound")),
    }
}

/// A whole chunk's content in rows.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode_rows(events: &[RawEvent<'_>]) -> Vec<u8> {
    let mut out = vec![LAYOUT_ROWS];
    let mut last_ms = events.first().map_or(0, |e| e.at_ms);
    put_varint(&mut out, last_ms);
    for e in events {
        put_row(&mut out, e.at_ms - last_ms, e.kind, e.channel, e.payload);
        last_ms = e.at_ms;
    }
    out
}
