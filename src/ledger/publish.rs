//! The task that signs checkpoints and puts tiles and checkpoint in place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::merkle::Hash;
use portcullis_recording::note::{Checkpoint, Note, NoteError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::durable::DurableError;
use crate::keeper::Keeper;

use super::checkpoint;
use super::error::LedgerError;
use super::replay::{is_on_disk, store_tile, swap_checkpoint};
use super::state::{Shared, Step};
use super::tiles::{Edge, Tile, TileId};

/// Shortest time between two checkpoints that nobody asked for, in ms.
pub const PUBLISH_MS_MIN: u64 = 50;
/// Wait after a publication that failed, unless somebody asks, in ms.
const RETRY_MS: u64 = 1_000;

/// A checkpoint that stands, with the tree it speaks of.
#[derive(Debug)]
pub(super) struct Published {
    pub size: u64,
    pub root: Hash,
    /// The signed note; none before the first publication of a new ledger.
    pub note: Option<Note>,
    pub edge: Edge,
}

/// What waiters see.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub now: Arc<Published>,
    /// Counts publications, failed ones too.
    pub tries: u64,
    pub failed: Option<String>,
}

pub(super) struct Publisher {
    pub shared: Arc<Shared>,
    pub keeper: Arc<dyn Keeper>,
    pub status: watch::Sender<Status>,
    /// Partial tiles that are known to be on disk.
    pub partials: Vec<TileId>,
}

impl Publisher {
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.shared.dirty.notified() => {}
                () = self.shared.demand.notified() => {}
            }
            loop {
                let outcome = self.publish().await;
                let pause = match &outcome {
                    Ok(()) => PUBLISH_MS_MIN,
                    Err(_) => RETRY_MS,
                };
                let failed = outcome.err().map(|why| why.to_string());
                if let Some(why) = &failed {
                    tracing::error!(%why, "the ledger's checkpoint was not published");
                }
                self.shared.log().unpublished.clone_from(&failed);
                self.status.send_modify(|status| {
                    status.tries = status.tries.saturating_add(1);
                    status.failed.clone_from(&failed);
                });
                tokio::select! {
                    () = sleep(Duration::from_millis(pause)) => {
                        if failed.is_none() { break }
                    }
                    () = self.shared.demand.notified() => {}
                }
            }
        }
    }

    /// Signs what is durable now and publishes it: tiles first, then the
    /// checkpoint that needs them. A crash in between leaves tiles that no
    /// checkpoint needs yet, which the next start completes.
    pub async fn publish(&mut self) -> Result<(), LedgerError> {
        let (edge, pending) = {
            let log = self.shared.log();
            (log.edge.clone(), log.pending.clone())
        };
        let standing = self.status.borrow().now.clone();
        if edge.size() == standing.size && standing.note.is_some() {
            return Ok(());
        }
        let checkpoint = Checkpoint {
            origin: self.shared.origin.clone(),
            size: edge.size(),
            root: edge.root(),
        };
        let unsigned = |why: NoteError| LedgerError::BadCheckpoint {
            source_name: "what the keeper signed".to_owned(),
            why,
        };
        let body = checkpoint.to_note().map_err(unsigned)?;
        let signature = self.keeper.sign_checkpoint(body.text().as_bytes()).await?;
        let key = checkpoint::ledger_key(&self.shared.origin, self.keeper.ledger_key()).map_err(unsigned)?;
        let text = checkpoint::signed(body, &key, &signature).map_err(unsigned)?;
        let note = Note::parse(&text).map_err(unsigned)?;
        let partials = edge.partials();
        let known = std::mem::take(&mut self.partials);
        let shared = self.shared.clone();
        let count = pending.len();
        let published = text.clone();
        let fresh: Vec<Tile> = partials
            .iter()
            .filter(|tile| !known.contains(&tile.id))
            .cloned()
            .collect();
        let written = tokio::task::spawn_blocking(move || -> Result<(), LedgerError> {
            put(&shared, &pending, &fresh, &published)?;
            drop_partials(&shared.dir, &pending);
            Ok(())
        })
        .await;
        match written {
            Ok(done) => done?,
            Err(why) => return Err(LedgerError::Stopped(why.to_string())),
        }
        self.shared.log().pending.drain(..count);
        self.partials = partials.iter().map(|tile| tile.id).collect();
        let now = Arc::new(Published {
            size: checkpoint.size,
            root: checkpoint.root,
            note: Some(note),
            edge,
        });
        self.status.send_modify(|status| status.now = now);
        Ok(())
    }
}

fn put(shared: &Shared, full: &[Tile], partial: &[Tile], note: &str) -> Result<(), DurableError> {
    let at = |step| shared.at(step).map_err(DurableError::at("publish in", &shared.dir));
    at(Step::Signed)?;
    for tile in full.iter().chain(partial) {
        store_tile(&shared.dir, tile)?;
        at(Step::Tile)?;
    }
    at(Step::Tiles)?;
    swap_checkpoint(&shared.dir, note)?;
    at(Step::Swapped)
}

/// Partial tiles of a tile that is full now are of no use to anybody who has
/// the new checkpoint (c2sp.org/tlog-tiles).
fn drop_partials(dir: &Path, full: &[Tile]) {
    for tile in full {
        let partials = dir.join(tile.id.partials());
        if let Err(why) = std::fs::remove_dir_all(&partials)
            && why.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %partials.display(), %why, "old partial tiles stay");
        }
    }
}

/// Writes the partial tiles of a standing checkpoint that a crash or a hand
/// took away.
pub(super) fn repair_partials(dir: &Path, edge: &Edge) -> Result<Vec<TileId>, LedgerError> {
    let partials = edge.partials();
    for tile in partials.iter().filter(|tile| !is_on_disk(dir, tile)) {
        store_tile(dir, tile)?;
    }
    Ok(partials.iter().map(|tile| tile.id).collect())
}
