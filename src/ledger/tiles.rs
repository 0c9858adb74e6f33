//! The log as files that anybody may be given (c2sp.org/tlog-tiles): where
//! each lies and what is in it.
//!
//! Pure. Trust: tiles are derived from the journal and checked against a
//! signed root whenever they are used; losing them costs a restart.

use portcullis_recording::merkle::{self, Hash, Range};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: usize = 256;
/// Levels of the Merkle tree in one level of tiles.
pub const TILE_HEIGHT: u32 = 8;
/// Name of the signed checkpoint within the ledger's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// Bytes of an entry: the salted hash of a body.
const ENTRY_BYTES: usize = 32;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Hashes of tile level `0..=7`.
    Hashes(u8),
    /// The log's entries themselves.
    Entries,
}

/// Which tile: `width` is [`TILE_WIDTH`] for a full one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TileId {
    pub kind: Kind,
    pub index: u64,
    pub width: usize,
}

impl TileId {
    /// Its path within the ledger's folder: `tile/0/x001/x234/067`,
    /// `tile/entries/000.p/17`.
    pub fn path(&self) -> String {
        let folder = self.folder();
        match self.width == TILE_WIDTH {
            true => folder,
            false => format!("{folder}.p/{}", self.width),
        }
    }

    /// The folder of this tile's partial versions.
    pub fn partials(&self) -> String {
        format!("{}.p", self.folder())
    }

    fn folder(&self) -> String {
        let level = match self.kind {
            Kind::Hashes(level) => level.to_string(),
            Kind::Entries => "entries".to_owned(),
        };
        // Groups of three digits, every one but the last behind an `x`, so
        // that no folder holds more than a thousand names.
        let mut path = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            path = format!("x{:03}/{path}", rest % 1000);
            rest /= 1000;
        }
        format!("tile/{level}/{path}")
    }
}

/// A tile with its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tile {
    pub id: TileId,
    pub bytes: Vec<u8>,
}

/// The right edge of the log: enough to append, to give the root, and to
/// write every tile that is not full yet.
#[derive(Clone, Default, Debug)]
pub struct Edge {
    range: Range,
    /// For each level of tiles, the hashes of its one unfinished tile.
    levels: Vec<Vec<Hash>>,
    /// The entries of the unfinished bundle.
    entries: Vec<Hash>,
}

impl Edge {
    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.range.size()
    }

    /// The root (RFC 6962 section 2.1).
    pub fn root(&self) -> Hash {
        self.range.root()
    }

    /// Appends one entry; `full` gets each tile that this fills.
    pub fn append(&mut self, entry: &Hash, mut full: impl FnMut(Tile)) {
        let size = self.range.size();
        self.entries.push(*entry);
        if self.entries.len() == TILE_WIDTH {
            full(Tile {
                id: TileId {
                    kind: Kind::Entries,
                    index: size >> TILE_HEIGHT,
                    width: TILE_WIDTH,
                },
                bytes: bundle(&self.entries),
            });
            self.entries.clear();
        }
        let levels = &mut self.levels;
        self.range.append(merkle::leaf_hash(entry), |level, index, hash| {
            if level % TILE_HEIGHT != 0 {
                return;
            }
            let level = usize::try_from(level / TILE_HEIGHT).unwrap_or(usize::MAX);
            if levels.len() == level {
                levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let Some(hashes) = levels.get_mut(level) else {
                return;
            };
            hashes.push(hash);
            if hashes.len() == TILE_WIDTH {
                full(Tile {
                    id: TileId {
                        kind: Kind::Hashes(u8::try_from(level).unwrap_or(u8::MAX)),
                        index: index >> TILE_HEIGHT,
                        width: TILE_WIDTH,
                    },
                    bytes: hashes.concat(),
                });
                hashes.clear();
            }
        });
    }

    /// The unfinished tiles as they stand.
    pub fn partials(&self) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let mut count = self.range.size();
        if !self.entries.is_empty() {
            tiles.push(Tile {
                id: TileId {
                    kind: Kind::Entries,
                    index: count >> TILE_HEIGHT,
                    width: self.entries.len(),
                },
                bytes: bundle(&self.entries),
            });
        }
        for (level, hashes) in (0u8..).zip(&self.levels) {
            if !hashes.is_empty() {
                tiles.push(Tile {
                    id: TileId {
                        kind: Kind::Hashes(level),
                        index: count >> TILE_HEIGHT,
                        width: hashes.len(),
                    },
                    bytes: hashes.concat(),
                });
            }
            count >>= TILE_HEIGHT;
        }
        tiles
    }

    /// The hash of the complete subtree `(level, index)`, out of an
    /// unfinished tile of this edge or a full one that `read` gives.
    ///
    /// # Errors
    /// What `read` says; nothing is checked here: verify the proof.
    pub fn subtree<E>(
        &self,
        level: u32,
        index: u64,
        mut read: impl FnMut(TileId) -> Result<Vec<Hash>, E>,
    ) -> Result<Hash, E> {
        let tile_level = level / TILE_HEIGHT;
        let within = level % TILE_HEIGHT;
        let first = index << within;
        let tile = first >> TILE_HEIGHT;
        let id = TileId {
            kind: Kind::Hashes(u8::try_from(tile_level).unwrap_or(u8::MAX)),
            index: tile,
            width: TILE_WIDTH,
        };
        let unfinished = self
            .size()
            .checked_shr(TILE_HEIGHT * (tile_level.saturating_add(1)))
            .unwrap_or(0)
            == tile;
        let held = usize::try_from(tile_level)
            .ok()
            .and_then(|level| self.levels.get(level));
        let from_disk;
        let hashes = match held {
            Some(hashes) if unfinished => hashes,
            Some(_) | None => {
                from_disk = read(id)?;
                &from_disk
            }
        };
        let start = usize::try_from(first % 256).unwrap_or(usize::MAX);
        let end = start.saturating_add(1 << within);
        Ok(fold(hashes.get(start..end).unwrap_or_default()))
    }
}

/// Root of a complete subtree over `hashes`, a power of two of them.
fn fold(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => merkle::empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            merkle::node_hash(&fold(left), &fold(right))
        }
    }
}

/// An entry bundle: each entry behind its length as a big-endian u16.
fn bundle(entries: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len().saturating_mul(ENTRY_BYTES + 2));
    for entry in entries {
        bytes.extend_from_slice(&[0, 32]);
        bytes.extend_from_slice(entry);
    }
    bytes
}

/// Reads a tile of hashes; `None` unless it is exactly a full one.
pub fn parse_full(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    (rest.is_empty() && hashes.len() == TILE_WIDTH).then(|| hashes.to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;

    fn entry(number: u64) -> Hash {
        let mut entry = [0; 32];
        entry[..8].copy_from_slice(&number.to_be_bytes());
        entry
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |kind, index, width| TileId { kind, index, width }.path();
        assert_eq!(path(Kind::Hashes(0), 0, 256), "tile/0/000");
        assert_eq!(path(Kind::Hashes(1), 1_234_067, 256), "tile/1/x001/x234/067");
        assert_eq!(path(Kind::Entries, 273, 112), "tile/entries/273.p/112");
        assert_eq!(path(Kind::Entries, 1000, 256), "tile/entries/x001/000");
    }

    #[test]
    fn every_proof_comes_out_of_tiles_across_three_levels() {
        // 65,536 leaves fill one tile of level 1, and begin level 2.
        let size = 65_536 + 2 * 256 + 3;
        let mut edge = Edge::default();
        let mut disk = HashMap::new();
        for number in 0..size {
            edge.append(&entry(number), |tile| {
                assert!(disk.insert(tile.id, tile.bytes).is_none());
            });
        }
        assert_eq!(disk.len(), 2 * 258 + 1);
        let partial: Vec<String> = edge.partials().iter().map(|it| it.id.path()).collect();
        assert_eq!(
            partial,
            [
                "tile/entries/258.p/3",
                "tile/0/258.p/3",
                "tile/1/001.p/2",
                "tile/2/000.p/1"
            ]
        );
        let read = |id| Ok::<_, Infallible>(parse_full(&disk[&id]).unwrap());
        for index in [0, 1, 255, 256, 65_535, 65_536, 66_047, size - 1] {
            let proof = merkle::inclusion_proof(index, size, |level, at| edge.subtree(level, at, read))
                .unwrap()
                .unwrap();
            let leaf = merkle::leaf_hash(&entry(index));
            assert!(
                merkle::verify_inclusion(&leaf, index, size, &edge.root(), &proof),
                "{index}"
            );
        }
    }

    #[test]
    fn a_full_edge_has_no_partials_of_its_level() {
        let mut edge = Edge::default();
        let mut full = Vec::new();
        for number in 0..256 {
            edge.append(&entry(number), |tile| full.push(tile.id.path()));
        }
        assert_eq!(full, ["tile/entries/000", "tile/0/000"]);
        let partial: Vec<String> = edge.partials().iter().map(|it| it.id.path()).collect();
        assert_eq!(partial, ["tile/1/000.p/1"]);
    }
}
