//! Reading the journal through at start: the whole tree is made again and
//! held against every checkpoint that is known.

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_recording::merkle::Hash;

use crate::durable::{self, DurableError};

use super::body::Body;
use super::error::LedgerError;
use super::journal::{Broken, Reader};
use super::sessions::Sessions;
use super::state::Log;
use super::tiles::{Edge, Tile};

/// Staging name for tiles and the checkpoint; one writer, so one name.
pub(super) const STAGING_FILE: &str = ".staging";
/// Mode of what anybody may be given.
const PUBLIC_MODE: u32 = 0o644;
/// Mode of folders of tiles.
const FOLDER_MODE: u32 = 0o755;
/// Bytes of the largest tile file: a full bundle of entries.
const TILE_BYTES_MAX: u64 = 256 * 34;

/// A size and root that somebody vouches for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub size: u64,
    pub root: Hash,
    /// Who says so, for messages.
    pub source: String,
}

/// What the journal gave.
pub(super) struct Replayed {
    pub log: Log,
    pub sessions: Sessions,
    /// The last leaf of each kind of event.
    pub latest: BTreeMap<String, u64>,
    /// Where the last whole frame ends.
    pub end: u64,
    pub torn: Option<Broken>,
    /// Whether a full tile is missing on disk or differs.
    pub stale_tiles: bool,
}

/// Replays the journal in `dir` and checks it against `known`.
pub(super) fn replay(dir: &Path, mut known: Vec<Known>) -> Result<Replayed, LedgerError> {
    known.sort_by_key(|it| it.size);
    let largest = known.last().map_or(0, |it| it.size);
    let mut known = known.into_iter().peekable();
    let mut from = Reader::open(dir)?;
    let mut done = Replayed {
        log: Log::new(),
        sessions: Sessions::default(),
        latest: BTreeMap::new(),
        end: from.offset(),
        torn: None,
        stale_tiles: false,
    };
    loop {
        let size = done.log.edge.size();
        while let Some(said) = known.next_if(|it| it.size == size) {
            if done.log.edge.root() != said.root {
                return Err(LedgerError::Forked {
                    size,
                    source_name: said.source,
                });
            }
        }
        let offset = from.offset();
        let frame = match from.frame()? {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(broken) => {
                if broken.index < largest {
                    return Err(damaged(&broken, largest));
                }
                done.torn = Some(broken);
                break;
            }
        };
        // The hash of the frame matched, so an unreadable body was written so.
        match Body::decode(&frame.body) {
            Ok(Body::Recording(leaf)) => done.sessions.note(&leaf, frame.index, &frame.entry),
            Ok(Body::Event { kind, .. }) => drop(done.latest.insert(kind, frame.index)),
            Err(_) => {}
        }
        let stale = &mut done.stale_tiles;
        done.log.push(&frame.entry, offset, |tile| {
            *stale = *stale || !is_on_disk(dir, &tile);
        });
        done.end = from.offset();
    }
    match known.next() {
        None => Ok(done),
        Some(ahead) => Err(LedgerError::RolledBack {
            found: done.log.edge.size(),
            known: ahead.size,
            source_name: ahead.source,
        }),
    }
}

fn damaged(broken: &Broken, covered: u64) -> LedgerError {
    LedgerError::Damaged {
        index: broken.index,
        offset: broken.offset,
        why: broken.why,
        covered,
    }
}

/// Makes every full tile again that is missing or differs, out of the first
/// `size` frames of a journal whose root is known to be right.
pub(super) fn repair_tiles(dir: &Path, size: u64) -> Result<u64, LedgerError> {
    let mut from = Reader::open(dir)?;
    let mut edge = Edge::default();
    let mut repaired: u64 = 0;
    while edge.size() < size {
        let Ok(Some(frame)) = from.frame()? else {
            break;
        };
        let mut full = Vec::new();
        edge.append(&frame.entry, |tile| full.push(tile));
        for tile in full.iter().filter(|tile| !is_on_disk(dir, tile)) {
            store_tile(dir, tile)?;
            repaired = repaired.saturating_add(1);
        }
    }
    Ok(repaired)
}

/// Whether the tile's file holds exactly its bytes.
pub(super) fn is_on_disk(dir: &Path, tile: &Tile) -> bool {
    durable::read_bounded(&dir.join(tile.id.path()), TILE_BYTES_MAX).is_ok_and(|bytes| bytes == tile.bytes)
}

/// Writes a tile, whole and durable.
pub(super) fn store_tile(dir: &Path, tile: &Tile) -> Result<(), DurableError> {
    let path = dir.join(tile.id.path());
    durable::create_dir_all(durable::parent(&path), FOLDER_MODE)?;
    durable::replace(&path, &tile.bytes, PUBLIC_MODE, &dir.join(STAGING_FILE))
}

/// Writes a partial tile, whole for whoever reads it. A power cut may take it
/// away: the next start makes those of the standing checkpoint again.
pub(super) fn show_tile(dir: &Path, tile: &Tile) -> Result<(), DurableError> {
    let path = dir.join(tile.id.path());
    durable::create_dir_all(durable::parent(&path), FOLDER_MODE)?;
    durable::show(&path, &tile.bytes, PUBLIC_MODE, &dir.join(STAGING_FILE))
}

/// Puts the new checkpoint in the place of the old one.
pub(super) fn swap_checkpoint(dir: &Path, note: &str) -> Result<(), DurableError> {
    let path = dir.join(super::tiles::CHECKPOINT_FILE);
    durable::replace(&path, note.as_bytes(), PUBLIC_MODE, &dir.join(STAGING_FILE))
}

/// One leaf's frame, found from the nearest known offset.
pub(super) fn read_frame(
    dir: &Path,
    index: u64,
    offset: u64,
    first: u64,
) -> Result<super::journal::Frame, LedgerError> {
    let mut from = Reader::open(dir)?;
    from.seek(offset, first)?;
    loop {
        match from.frame()? {
            Ok(Some(frame)) if frame.index == index => return Ok(frame),
            Ok(Some(_)) => {}
            Ok(None) => return Err(LedgerError::NoLeaf(index)),
            Err(broken) => return Err(damaged(&broken, index.saturating_add(1))),
        }
    }
}
