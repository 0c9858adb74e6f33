//! Inclusion paths out of tiles; none is given out that does not lead to the
//! signed root.

use std::path::Path;

use portcullis_recording::merkle::{self, Hash, Range};
use serde_json::Value;

use crate::durable::{self, DurableError};

use super::body::Body;
use super::publish::Published;
use super::state::Shared;
use super::{EVENTS_ABOUT_MAX, LedgerError, journal, replay, state, tiles};

/// The frame of leaf `index`.
pub(super) fn find_frame(shared: &Shared, index: u64) -> Result<journal::Frame, LedgerError> {
    let slot = index / state::OFFSET_EVERY;
    let offset = {
        let log = shared.log();
        usize::try_from(slot)
            .ok()
            .and_then(|slot| log.offsets.get(slot).copied())
    };
    let offset = offset.ok_or(LedgerError::NoLeaf(index))?;
    replay::read_frame(&shared.dir, index, offset, slot.saturating_mul(state::OFFSET_EVERY))
}

/// The inclusion path of an entry under what is published, checked.
pub(super) fn path(dir: &Path, published: &Published, index: u64, entry: &Hash) -> Result<Vec<Hash>, LedgerError> {
    let bad = || LedgerError::BadTiles { index };
    let path = merkle::inclusion_proof(index, published.size, |level, at| {
        published.edge.subtree(level, at, |id| full_tile(dir, id))
    })
    .map_err(|_| bad())?
    .ok_or(LedgerError::NoLeaf(index))?;
    let leaf = merkle::leaf_hash(entry);
    match merkle::verify_inclusion(&leaf, index, published.size, &published.root, &path) {
        true => Ok(path),
        false => Err(bad()),
    }
}

/// Indices of the events, among the first `size` leaves, whose body names one of `ids`.
pub(super) fn events_about(dir: &Path, size: u64, ids: &[String]) -> Result<Vec<u64>, LedgerError> {
    let (mut found, mut from) = (Vec::new(), journal::Reader::open(dir)?);
    loop {
        let frame = match from.frame()? {
            Ok(Some(frame)) if frame.index < size => frame,
            Ok(Some(_) | None) => return Ok(found),
            Err(broken) if broken.index >= size => return Ok(found),
            Err(broken) => return Err(LedgerError::Unreadable(broken.index)),
        };
        if let Ok(Body::Event { json, .. }) = Body::decode(&frame.body)
            && names(&json, ids)
        {
            if found.len() >= EVENTS_ABOUT_MAX {
                return Err(LedgerError::TooMany(EVENTS_ABOUT_MAX));
            }
            found.push(frame.index);
        }
    }
}

/// Whether one of the values of a body, or of a list in it, is one of `ids`:
/// not whether somebody's words contain it.
fn names(json: &str, ids: &[String]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_str(json) else {
        return false;
    };
    let is_one = |text: &str| ids.iter().any(|id| *id == text);
    let any = |value: &Value| value.as_str().is_some_and(is_one);
    body.iter().any(|(key, value)| match value {
        Value::Array(all) => all.iter().any(any),
        Value::Object(inner) => inner.values().any(any),
        Value::String(text) => key != "reason" && is_one(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    })
}

/// The root of the first `size` leaves of what is published.
pub(super) fn root_at(dir: &Path, published: &Published, size: u64) -> Result<Hash, LedgerError> {
    let hash = |level, index| published.edge.subtree(level, index, |id| full_tile(dir, id));
    let range = Range::resume(size, hash).map_err(|_| LedgerError::BadTiles { index: size })?;
    Ok(range.root())
}

/// The hashes of a full tile on the disk; nothing is checked but its length.
pub(super) fn full_tile(dir: &Path, id: tiles::TileId) -> Result<Vec<Hash>, DurableError> {
    let path = dir.join(id.path());
    let bytes = durable::read_bounded(&path, 256 * 32)?;
    let short = || DurableError::at("read", &path)(std::io::Error::other("it is not a full tile"));
    tiles::parse_full(&bytes).ok_or_else(short)
}
