//! Inclusion paths out of tiles; none is given out that does not lead to the
//! signed root.

use std::path::Path;

use portcullis_recording::merkle::{self, Hash};

use crate::durable::{self, DurableError};

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

/// The hashes of a full tile on the disk; nothing is checked but its length.
pub(super) fn full_tile(dir: &Path, id: tiles::TileId) -> Result<Vec<Hash>, DurableError> {
    let path = dir.join(id.path());
    let bytes = durable::read_bounded(&path, 256 * 32)?;
    let short = || DurableError::at("read", &path)(std::io::Error::other("it is not a full tile"));
    tiles::parse_full(&bytes).ok_or_else(short)
}
