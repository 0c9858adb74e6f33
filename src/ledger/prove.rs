//! Inclusion paths out of tiles; none is given out that does not lead to the
//! signed root.

use std::path::Path;

use portcullis_recording::merkle::{self, Hash};

use crate::durable;

use super::publish::Published;
use super::state::Shared;
use super::{LedgerError, journal, replay, state, tiles};

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
    let read = |id: tiles::TileId| {
        let bytes = durable::read_bounded(&dir.join(id.path()), 256 * 32).map_err(|_| bad())?;
        tiles::parse_full(&bytes).ok_or_else(bad)
    };
    let path = merkle::inclusion_proof(index, published.size, |level, at| {
        published.edge.subtree(level, at, read)
    })?
    .ok_or(LedgerError::NoLeaf(index))?;
    let leaf = merkle::leaf_hash(entry);
    match merkle::verify_inclusion(&leaf, index, published.size, &published.root, &path) {
        true => Ok(path),
        false => Err(bad()),
    }
}
