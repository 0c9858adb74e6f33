//! The parts of the reader that need no signature: what they accept has one form only, and nothing makes them panic.

use crate::bytes::Cursor;
use crate::cbor;
use crate::chunk::ChunkLeaf;
use crate::columns::{Content, encode_columns};
use crate::event::Event;
use crate::fault::Why;
use crate::frame::{Source, ZSTD_MAGIC, decompress, torn_stored_content};
use crate::head::{Head, Version};
use crate::limits::{CHUNK_RAW_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX};
use crate::rows::{LAYOUT_ROWS, RawEvent, encode_rows};
use crate::seal::Seal;
use crate::tail;

/// CBOR items of every shape, one after the other: what is read is what would be written (FORMAT.md section 1.2).
pub(super) fn cbor(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let read = |shape: fn(&mut cbor::Reader<'_>, &mut cbor::Writer) -> Result<(), cbor::Malformed>| {
            let mut again = cbor::Writer::default();
            shape(&mut cbor::Reader::new(rest), &mut again)
                .ok()
                .map(|()| again.into_bytes())
        };
        let shapes = [
            read(|r, w| {
                r.uint().map(|n| {
                    w.uint(n);
                })
            }),
            read(|r, w| {
                r.bytes(EVENT_PAYLOAD_BYTES_MAX).map(|b| {
                    w.bytes(b);
                })
            }),
            read(|r, w| {
                r.text(EVENT_PAYLOAD_BYTES_MAX).map(|t| {
                    w.text(t);
                })
            }),
            read(|r, w| {
                r.array_up_to(usize::MAX).map(|n| {
                    w.array(n as u64);
                })
            }),
            read(|r, w| {
                r.bool().map(|b| {
                    w.bool(b);
                })
            }),
        ];
        let mut shapes = shapes.into_iter().flatten();
        let Some(again) = shapes.next() else { return };
        assert!(shapes.next().is_none(), "one item has two shapes");
        rest = rest.strip_prefix(again.as_slice()).expect("an item has two encodings");
    }
}

/// A chunk's content in rows or columns (FORMAT.md section 3.3) and every payload in it (section 5).
pub(super) fn content(bytes: &[u8]) {
    let Ok(content) = Content::new(bytes) else { return };
    let columns = bytes.first() != Some(&LAYOUT_ROWS);
    let mut events = Vec::new();
    for event in content {
        let Ok(event) = event else { return };
        payload(&event);
        events.push(event);
    }
    if events.is_empty() {
        return;
    }
    let again = if columns {
        encode_columns(&events)
    } else {
        encode_rows(&events)
    };
    assert_eq!(again, bytes, "a content has two forms");
}

fn payload(event: &RawEvent<'_>) {
    if let Ok(Some(decoded)) = Event::decode(Version::LATEST, event.kind, event.payload) {
        assert_eq!(decoded.kind(), event.kind);
        let again = decoded.payload().unwrap();
        assert_eq!(&*again, event.payload, "a payload has two forms");
    }
}

/// A chunk's zstd frame, walked and then decompressed (FORMAT.md section 3.2), and read as one that is torn.
pub(super) fn frame(bytes: &[u8]) {
    let framed = [ZSTD_MAGIC.to_le_bytes().as_slice(), bytes].concat();
    let mut source = Source::new(framed.as_slice());
    let walked = source.u32_le().and_then(|_| source.walk_chunk());
    if let Some((raw, stored)) = torn_stored_content(&framed, CHUNK_RAW_BYTES_MAX) {
        assert!(raw.len() <= CHUNK_RAW_BYTES_MAX && stored <= framed.len());
        if let Ok(walked) = &walked {
            assert_eq!(walked.stored_raw_len, Some(raw.len() as u64));
        }
    }
    let Ok(walked) = walked else { return };
    let stored = &framed[..walked.stored_len as usize];
    let raw_len = walked.content_size.or(walked.stored_raw_len).unwrap();
    match decompress(stored, raw_len as usize) {
        Ok(raw) => assert_eq!(raw.len() as u64, raw_len),
        Err(why) => assert!(walked.stored_raw_len.is_none(), "a sound stored chunk: {why}"),
    }
}

/// The statements of HEAD, LEAF, SEAL, TAIL-OPEN: what is read is what would be signed.
pub(super) fn statement(bytes: &[u8]) {
    let Some((kind, statement)) = bytes.split_first() else {
        return;
    };
    let again = match kind % 4 {
        0 => Head::decode(statement).map(|head| head.encode()),
        1 => ChunkLeaf::decode(statement).map(|leaf| leaf.encode()),
        2 => Seal::decode(statement).map(|seal| seal.encode()),
        _ => tail::TailOpen::decode(statement).map(|open| open.encode()),
    };
    if let Ok(again) = again {
        assert_eq!(again, statement, "a statement has two forms");
    }
    rows(statement);
}

/// A tail's rows without its opening being looked at by anybody.
fn rows(bytes: &[u8]) {
    match tail::rows(bytes) {
        Ok(rows) => assert!(rows.count() <= Cursor::new(bytes).remaining()),
        Err(Why::Io(why)) => panic!("nothing was read: {why}"),
        Err(_) => {}
    }
}
