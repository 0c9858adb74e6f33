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
use super::cosign::{Cosigned, Cosigners, Tree};
use super::error::LedgerError;
use super::replay::{is_on_disk, show_tile, store_tile, swap_checkpoint};
use super::state::{Shared, Step};
use super::tiles::{Edge, Tile, TileId};

/// How long a leaf waits for others before the checkpoint that covers it, if
/// nobody asks for one, in ms.
pub const PUBLISH_MS: u64 = 250;
/// Wait after a publication that failed, unless somebody asks, in ms.
const RETRY_MS: u64 = 1_000;

/// A checkpoint that stands, with the tree it speaks of.
#[derive(Debug)]
pub(super) struct Published {
    pub size: u64,
    pub root: Hash,
    /// The note with the ledger's signature alone; none before the first
    /// publication of a new ledger.
    pub signed: Option<Note>,
    /// The same with the witnesses'.
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
    pub cosigned: Cosigned,
    /// Counts publications that too few witnesses had cosigned.
    pub short: u64,
}

pub(super) struct Publisher {
    pub shared: Arc<Shared>,
    pub keeper: Arc<dyn Keeper>,
    pub status: watch::Sender<Status>,
    /// Partial tiles that are known to be on disk.
    pub partials: Vec<TileId>,
    pub cosigners: Cosigners,
}

impl Publisher {
    /// What a start publishes, or has cosigned again: nothing may have been
    /// taken back that a witness saw.
    pub async fn begin(&mut self) -> Result<(), LedgerError> {
        match self.publish(true).await? {
            true => Ok(()),
            false => self.cosign_again(true).await,
        }
    }

    pub async fn run(mut self) {
        loop {
            let cosigned = self.status.borrow().cosigned;
            let again = self.cosigners.again(cosigned);
            tokio::select! {
                () = self.shared.dirty.notified() => {
                    tokio::select! {
                        () = sleep(Duration::from_millis(PUBLISH_MS)) => {}
                        () = self.shared.demand.notified() => {}
                    }
                }
                () = self.shared.demand.notified() => {}
                () = sleep(again.unwrap_or_default()), if again.is_some() => {
                    if let Err(why) = self.cosign_again(false).await {
                        tracing::error!(%why, "the cosigned checkpoint was not published");
                    }
                    continue;
                }
            }
            loop {
                let outcome = self.publish(false).await;
                let failed = outcome.err().map(|why| why.to_string());
                if let Some(why) = &failed {
                    tracing::error!(%why, "the ledger's checkpoint was not published");
                }
                self.shared.log().unpublished.clone_from(&failed);
                self.status.send_modify(|status| {
                    status.tries = status.tries.saturating_add(1);
                    status.failed.clone_from(&failed);
                });
                if failed.is_none() {
                    break;
                }
                tokio::select! {
                    () = sleep(Duration::from_millis(RETRY_MS)) => {}
                    () = self.shared.demand.notified() => {}
                }
            }
        }
    }

    /// Signs what is durable now and publishes it: tiles first, then, once
    /// the witnesses were asked, the checkpoint that needs them. A crash in
    /// between leaves tiles that no checkpoint needs yet, which the next start
    /// completes. False when everything was published already.
    async fn publish(&mut self, starting: bool) -> Result<bool, LedgerError> {
        let (edge, pending) = {
            let log = self.shared.log();
            (log.edge.clone(), log.pending.clone())
        };
        let standing = self.status.borrow().now.clone();
        if edge.size() == standing.size && standing.note.is_some() {
            return Ok(false);
        }
        let signed = self.sign(&edge).await?;
        let partials = edge.partials();
        let known = std::mem::take(&mut self.partials);
        let fresh: Vec<Tile> = partials
            .iter()
            .filter(|tile| !known.contains(&tile.id))
            .cloned()
            .collect();
        let (shared, count) = (self.shared.clone(), pending.len());
        blocking(move || put_tiles(&shared, &pending, &fresh)).await?;
        self.put_checkpoint(signed, edge, starting).await?;
        let full: Vec<Tile> = self.shared.log().pending.drain(..count).collect();
        let dir = self.shared.dir.clone();
        blocking(move || {
            drop_partials(&dir, &full);
            Ok(())
        })
        .await?;
        self.partials = partials.iter().map(|tile| tile.id).collect();
        Ok(true)
    }

    async fn sign(&self, edge: &Edge) -> Result<Note, LedgerError> {
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
        checkpoint::signed(body, &key, &signature).map_err(unsigned)
    }

    /// Has the checkpoint that stands cosigned anew.
    async fn cosign_again(&mut self, starting: bool) -> Result<(), LedgerError> {
        let standing = self.status.borrow().now.clone();
        match &standing.signed {
            Some(signed) => {
                self.put_checkpoint(signed.clone(), standing.edge.clone(), starting)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Asks the witnesses and puts the checkpoint in place, with what they
    /// gave. A dispute keeps a start from going on, unless enough others have
    /// cosigned this very tree; otherwise, and later, it is an alarm.
    async fn put_checkpoint(&mut self, signed: Note, edge: Edge, starting: bool) -> Result<(), LedgerError> {
        let tree = Tree {
            dir: self.shared.dir.clone(),
            edge: edge.clone(),
        };
        let asked = self.cosigners.ask(&signed, tree).await;
        if starting {
            asked?;
        }
        let (note, cosigned) = self.cosigners.cosigned(&signed);
        let (shared, text) = (self.shared.clone(), note.to_string());
        let stands = self.status.borrow().now.note.as_ref() == Some(&note);
        if !stands {
            blocking(move || put_note(&shared, &text)).await?;
        }
        let now = Arc::new(Published {
            size: edge.size(),
            root: edge.root(),
            signed: Some(signed),
            note: Some(note),
            edge,
        });
        self.status.send_modify(|status| {
            status.now = now;
            status.cosigned = cosigned;
            status.short = status.short.saturating_add(u64::from(!cosigned.enough));
        });
        Ok(())
    }
}

/// Files are written on a thread that may wait for them.
async fn blocking(work: impl FnOnce() -> Result<(), DurableError> + Send + 'static) -> Result<(), LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(why) => Err(LedgerError::Stopped(why.to_string())),
    }
}

fn put_tiles(shared: &Shared, full: &[Tile], partial: &[Tile]) -> Result<(), DurableError> {
    let at = |step| shared.at(step).map_err(DurableError::at("publish in", &shared.dir));
    at(Step::Signed)?;
    for tile in full {
        store_tile(&shared.dir, tile)?;
        at(Step::Tile)?;
    }
    for tile in partial {
        show_tile(&shared.dir, tile)?;
        at(Step::Tile)?;
    }
    at(Step::Tiles)
}

fn put_note(shared: &Shared, note: &str) -> Result<(), DurableError> {
    swap_checkpoint(&shared.dir, note)?;
    shared
        .at(Step::Swapped)
        .map_err(DurableError::at("publish in", &shared.dir))
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
