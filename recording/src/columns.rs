//! Events column by column (FORMAT.md section 3.3): headers first, then payloads, which compresses better.

use crate::bytes::{Cursor, put_varint};
use crate::cbor::Malformed;
use crate::limits::{CHUNK_RAW_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX, TIME_MS_MAX};
use crate::rows::{FIRST_DT, LAYOUT_ROWS, RawEvent, add_ms, take_row};

/// First content byte of a chunk in columns.
pub(crate) const LAYOUT_COLUMNS: u8 = 1;

/// A whole chunk's content in columns.
pub(crate) fn encode_columns(events: &[RawEvent<'_>]) -> Vec<u8> {
    let first_ms = events.first().map_or(0, |e| e.at_ms);
    let (mut times, mut channels, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    let mut last_ms = first_ms;
    for e in events {
        put_varint(&mut times, e.at_ms - last_ms);
        put_varint(&mut channels, u64::from(e.channel));
        put_varint(&mut lengths, e.payload.len() as u64);
        last_ms = e.at_ms;
    }
    let mut out = vec![LAYOUT_COLUMNS];
    put_varint(&mut out, first_ms);
    put_varint(&mut out, events.len() as u64);
    for column in [&times, &channels, &lengths] {
        put_varint(&mut out, column.len() as u64);
    }
    out.extend_from_slice(&times);
    out.extend(events.iter().map(|e| e.kind));
    out.extend_from_slice(&channels);
    out.extend_from_slice(&lengths);
    for e in events {
        out.extend_from_slice(e.payload);
    }
    out
}

/// The events of a chunk's content, in either layout, one at a time. After the first error it gives no more.
#[derive(Debug, Clone)]
pub(crate) struct Content<'a> {
    layout: Layout<'a>,
    last_ms: u64,
    begun: bool,
    failed: bool,
}

#[derive(Debug, Clone)]
enum Layout<'a> {
    Rows(Cursor<'a>),
    Columns {
        times: Cursor<'a>,
        kinds: Cursor<'a>,
        channels: Cursor<'a>,
        lengths: Cursor<'a>,
        payloads: Cursor<'a>,
    },
}

impl<'a> Content<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Result<Content<'a>, Malformed> {
        let mut c = Cursor::new(content);
        let layout = c.u8()?;
        let first_ms = c.varint()?;
        if first_ms > TIME_MS_MAX {
            return Err(Malformed("time over its bound"));
        }
        let layout = match layout {
            LAYOUT_ROWS => Layout::Rows(c),
            LAYOUT_COLUMNS => {
                let n = c.length(CHUNK_RAW_BYTES_MAX)?;
                let [times, channels, lengths] = [
                    c.length(CHUNK_RAW_BYTES_MAX)?,
                    c.length(CHUNK_RAW_BYTES_MAX)?,
                    c.length(CHUNK_RAW_BYTES_MAX)?,
                ];
                Layout::Columns {
                    times: Cursor::new(c.take(times)?),
                    kinds: Cursor::new(c.take(n)?),
                    channels: Cursor::new(c.take(channels)?),
                    lengths: Cursor::new(c.take(lengths)?),
                    payloads: c,
                }
            }
            _ => return Err(Malformed("unknown layout")),
        };
        Ok(Content {
            layout,
            last_ms: first_ms,
            begun: false,
            failed: false,
        })
    }

    fn step(&mut self) -> Result<Option<RawEvent<'a>>, Malformed> {
        match &mut self.layout {
            Layout::Rows(c) => {
                if c.is_empty() {
                    return Ok(None);
                }
                take_row(c, self.last_ms).map(Some)
            }
            Layout::Columns {
                times,
                kinds,
                channels,
                lengths,
                payloads,
            } => {
                if kinds.is_empty() {
                    let done = times.is_empty() && channels.is_empty() && lengths.is_empty() && payloads.is_empty();
                    return if done {
                        Ok(None)
                    } else {
                        Err(Malformed("columns of different lengths"))
                    };
                }
                let at_ms = add_ms(self.last_ms, times.varint()?)?;
                let kind = kinds.u8()?;
                let channel = u32::try_from(channels.varint()?).map_err(|_| Malformed("channel over 32 bits"))?;
                let len = lengths.length(EVENT_PAYLOAD_BYTES_MAX)?;
                Ok(Some(RawEvent {
                    at_ms,
                    channel,
                    kind,
                    payload: payloads.take(len)?,
                }))
            }
        }
    }
}

impl<'a> Iterator for Content<'a> {
    type Item = Result<RawEvent<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut step = self.step();
        match &step {
            Ok(Some(e)) if !self.begun && e.at_ms != self.last_ms => step = Err(FIRST_DT),
            Ok(Some(e)) => (self.begun, self.last_ms) = (true, e.at_ms),
            Ok(None) | Err(_) => {}
        }
        self.failed = step.is_err();
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::encode_rows;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_and_columns_round_trip(
            list in proptest::collection::vec((0u64..100_000, 0u32..9, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..60),
        ) {
            let mut at_ms = 5;
            let events: Vec<RawEvent<'_>> = list.iter().map(|(dt, channel, kind, payload)| {
                at_ms += dt;
                RawEvent { at_ms, channel: *channel, kind: *kind, payload }
            }).collect();
            for content in [encode_rows(&events), encode_columns(&events)] {
                let back: Result<Vec<_>, _> = Content::new(&content).unwrap().collect();
                prop_assert_eq!(back.unwrap(), events.clone());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(content) = Content::new(&bytes) {
                for e in content { if e.is_err() { break } }
            }
        }
    }
}
