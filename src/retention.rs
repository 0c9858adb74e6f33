//! What becomes of recordings later: held, deleted once their time is over,
//! made unreadable by destroying the key to their content.
//!
//! Each is a leaf of the ledger before it happens, and leaves a tombstone (that
//! leaf with its proof) in the recording's place. A hold wins over everything
//! else. A crash in between leaves a leaf and a file: the next round goes on
//! where it stopped.

use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::leaf::LeafKind;
use portcullis_recording::proof::Proof;
use portcullis_recording::spool::recording_file;
use tokio::sync::Mutex;

use crate::archive::{Archive, ArchiveError, ArchiveName, Sidecar};
use crate::clock::Clock;
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;
use crate::ledger::body::Body;
use crate::ledger::erasure::{Erasure, ErasureKind};
use crate::ledger::{Ledger, LedgerError};
use crate::search::{Index, SearchError};
use crate::store::{Mark, RecordingRow, Store, StoreError};

/// Who deletes when nobody asked, in leaves.
const RULE: &str = "retention.keep_days";

/// Why a recording is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("there is no recording of session {0}")]
    NotFound(SessionId),
    #[error("the recording of session {0} is not encrypted: there is no key to destroy")]
    NotEncrypted(SessionId),
    #[error("the recording of session {0} was deleted already")]
    Gone(SessionId),
    #[error("the recording of session {0} is not held")]
    NotHeld(SessionId),
    #[error("the recording of session {0} was not sealed long enough ago, says the ledger; the store says otherwise")]
    NotDue(SessionId),
}

/// What one round did.
#[derive(Default, Debug)]
pub struct Round {
    pub deleted: Vec<SessionId>,
    /// Those that stay for now, and why.
    pub failed: Vec<(SessionId, String)>,
}

/// Holds, deletes and shreds.
pub struct Retention {
    pub store: Arc<dyn Store>,
    pub ledger: Arc<Ledger>,
    pub archive: Arc<dyn Archive>,
    /// What is deleted is found no more.
    pub index: Arc<Index>,
    pub clock: Clock,
    /// How long recordings are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// One at a time: a hold and a deletion are in the ledger in the order in
    /// which they happened.
    turn: Mutex<()>,
}

impl Retention {
    /// With nothing done yet.
    pub fn new(
        store: Arc<dyn Store>,
        ledger: Arc<Ledger>,
        archive: Arc<dyn Archive>,
        index: Arc<Index>,
        clock: Clock,
        keep: Option<Duration>,
    ) -> Retention {
        Retention {
            store,
            ledger,
            archive,
            index,
            clock,
            keep,
            turn: Mutex::default(),
        }
    }

    /// Holds a recording: nothing deletes it before it is released. Held
    /// again, it has the newer reason.
    ///
    /// # Errors
    /// When it is not there, or the ledger or store does not take it.
    pub async fn hold(&self, session: SessionId, by: &str, reason: &str) -> Result<(), RetentionError> {
        let _turn = self.turn.lock().await;
        self.there(session).await?;
        // The mark first: a crash in between holds too much, never too little.
        let mark = Mark::Hold(Some(reason.to_owned()));
        self.store.mark_recording(session, &mark).await?;
        self.note(ErasureKind::Hold, session, by, reason).await?;
        Ok(())
    }

    /// Releases a hold.
    ///
    /// # Errors
    /// When there is none, or the ledger or store does not take it.
    pub async fn release(&self, session: SessionId, by: &str, reason: &str) -> Result<(), RetentionError> {
        let _turn = self.turn.lock().await;
        if self.there(session).await?.hold.is_none() {
            return Err(RetentionError::NotHeld(session));
        }
        // The mark goes last: until the release is in the ledger it is held.
        self.note(ErasureKind::Release, session, by, reason).await?;
        Ok(self.store.mark_recording(session, &Mark::Hold(None)).await?)
    }

    /// Destroys the key to a recording's content. The recording stays, and
    /// verifies as before.
    ///
    /// # Errors
    /// When it is held, not encrypted, or a step failed: then ask again.
    pub async fn shred(&self, session: SessionId, by: &str, reason: &str) -> Result<(), RetentionError> {
        let _turn = self.turn.lock().await;
        let row = self.there(session).await?;
        if let Some(why) = row.hold {
            return Err(StoreError::Held(why).into());
        }
        let name = name_of(session)?;
        if self.archive.sidecar(&name, Sidecar::Key).await?.is_none() && row.shredded_ms.is_none() {
            return Err(RetentionError::NotEncrypted(session));
        }
        if row.shredded_ms.is_none() {
            let leaf = self.note(ErasureKind::Shredded, session, by, reason).await?;
            let mark = Mark::Shredded(self.clock.now().wall_ms);
            self.store.mark_recording(session, &mark).await?;
            self.tombstone(&name, leaf).await?;
        }
        self.index.forget(session).await?;
        self.archive.remove_sidecar(&name, Sidecar::Tally).await?;
        Ok(self.archive.remove_sidecar(&name, Sidecar::Key).await?)
    }

    /// Recordings whose time is over.
    ///
    /// # Errors
    /// The store's.
    pub async fn due(&self) -> Result<Vec<RecordingRow>, RetentionError> {
        let Some(before) = before(self.keep, self.clock.now().wall_ms) else {
            return Ok(Vec::new());
        };
        Ok(self.store.recordings_before(before).await?)
    }

    /// Deletes every recording whose time is over. One that cannot be deleted
    /// is told of and keeps none of the others.
    ///
    /// # Errors
    /// When the store does not tell which those are.
    pub async fn round(&self) -> Result<Round, RetentionError> {
        let mut round = Round::default();
        for row in self.due().await? {
            let session = row.session;
            match self.expire(&row).await {
                Ok(()) => round.deleted.push(session),
                Err(error) => {
                    tracing::error!(%session, %error, "a recording whose time is over is not deleted");
                    round.failed.push((session, error.to_string()));
                }
            }
        }
        Ok(round)
    }

    async fn expire(&self, row: &RecordingRow) -> Result<(), RetentionError> {
        let _turn = self.turn.lock().await;
        // It may have been held meanwhile.
        if let Some(why) = self.there(row.session).await?.hold {
            return Err(StoreError::Held(why).into());
        }
        // The store says which may be due; the ledger's seal says whether one is.
        let (_, leaf) = self.ledger.leaf(row.leaf).await?;
        let before = before(self.keep, self.clock.now().wall_ms).unwrap_or(0);
        match leaf {
            Body::Recording(seal)
                if seal.kind == LeafKind::Seal && seal.session_id == row.session.0 && seal.at_wall_ms < before => {}
            Body::Recording(_) | Body::Event { .. } => return Err(RetentionError::NotDue(row.session)),
        }
        let name = name_of(row.session)?;
        if !self.is_told(&name, row.session).await? {
            let days = self.keep.unwrap_or_default().as_secs() / 86_400;
            let reason = format!("older than {days} days");
            let leaf = self.note(ErasureKind::Expired, row.session, RULE, &reason).await?;
            self.tombstone(&name, leaf).await?;
        }
        // Before the mark: after a crash in between the next round comes back.
        self.archive.remove(&name).await?;
        self.index.forget(row.session).await?;
        let mark = Mark::Expired(self.clock.now().wall_ms);
        Ok(self.store.mark_recording(row.session, &mark).await?)
    }

    /// Whether the tombstone there is of an earlier try that stopped in between:
    /// the ledger's own leaf, not what somebody put into the archive.
    async fn is_told(&self, name: &ArchiveName, session: SessionId) -> Result<bool, RetentionError> {
        let Some(held) = self.archive.sidecar(name, Sidecar::Tombstone).await? else {
            return Ok(false);
        };
        let Ok(stated) = Proof::parse(&String::from_utf8_lossy(&held)) else {
            return Ok(false);
        };
        Ok(match self.ledger.leaf(stated.index).await {
            Ok((_, Body::Event { kind, json, .. })) if kind == ErasureKind::Expired.as_str() => {
                Erasure::parse(&json).is_some_and(|told| told.session == session)
            }
            Ok(_) | Err(_) => false,
        })
    }

    async fn there(&self, session: SessionId) -> Result<RecordingRow, RetentionError> {
        let row = self.store.recording(session).await?;
        let row = row.ok_or(RetentionError::NotFound(session))?;
        match row.expired_ms {
            Some(_) => Err(RetentionError::Gone(session)),
            None => Ok(row),
        }
    }

    async fn note(&self, kind: ErasureKind, session: SessionId, by: &str, reason: &str) -> Result<u64, RetentionError> {
        let body = Erasure {
            session,
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        let body = serde_json::to_value(body).unwrap_or_default();
        Ok(self.ledger.append_event(kind.as_str(), body).await?.index)
    }

    async fn tombstone(&self, name: &ArchiveName, leaf: u64) -> Result<(), RetentionError> {
        let stated = self.ledger.state(leaf).await?;
        Ok(self
            .archive
            .put_sidecar(name, Sidecar::Tombstone, stated.as_bytes())
            .await?)
    }
}

/// A recording is called after its session, whatever the store says.
fn name_of(session: SessionId) -> Result<ArchiveName, ArchiveError> {
    recording_file(&session.0).parse()
}

/// What was sealed before this is deleted.
fn before(keep: Option<Duration>, now: WallMs) -> Option<WallMs> {
    let keep = u64::try_from(keep?.as_millis()).unwrap_or(u64::MAX);
    Some(now.saturating_sub(keep))
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
