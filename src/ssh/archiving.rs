//! From a sealed file to the archive, in the order that makes every crash
//! end in exactly one entry.
//!
//! 1. The seal leaf, durable; asked again it is the same leaf.
//! 2. The SSHSIG into the archive: over the bytes that still lie here; and
//!    the envelope of an encrypted one, and what was counted of it.
//! 3. The file into the archive; there already counts as done.
//! 4. The proof beside it; replaced if it is there.
//! 5. The store's row; there already counts as done.
//! 6. The spool folder goes.
//!
//! A crash after any step leaves the spool folder (or, after 3, a folder
//! without a main file), and the next start runs the same steps again: from
//! the spool, or from what the archive holds.

use std::path::Path;
use std::time::Duration;

use portcullis_recording::limits::ENVELOPE_BYTES_MAX;
use portcullis_recording::recover::RecoverError;
use portcullis_recording::spool::{ENVELOPE_FILE, recording_file};
use portcullis_recording::{Sealed, recover, sshsig};

use super::Gate;
use super::opening::bounded;
use crate::archive::{ArchiveError, ArchiveName, Sidecar};
use crate::durable;
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;
use crate::ledger::{LedgerError, SealReceipt};
use crate::recorder::Finished;
use crate::store::{RecordingRow, StoreError};

/// How long to wait before each further try.
const RETRY_WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// How often the row of a break-glass session's recording is tried afterwards.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// Why a sealed recording is not where it belongs yet.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it is neither in its folder nor in the archive, and the ledger has its opening: it was lost, or moved")]
    Lost,
    #[error("what the archive holds under its name is not its sealed recording: {0}")]
    NotIt(String),
    #[error("it cannot be read back for its signature: {0}")]
    Unread(String),
    #[error(transparent)]
    Keeper(#[from] crate::keeper::KeeperError),
    #[error("the spool folder cannot be removed: {0}")]
    Spool(#[from] std::io::Error),
}

impl Gate {
    /// Takes a sealed file out of the spool into the archive.
    ///
    /// # Errors
    /// The step that failed; the spool folder is still there then.
    pub async fn archive_sealed(&self, finished: &Finished, at_ms: WallMs) -> Result<(), ArchivingError> {
        let session = SessionId(finished.sealed.head().session_id);
        let receipt = self.log_seal(&finished.sealed).await?;
        let name: ArchiveName = recording_file(&session.0).parse()?;
        self.sign(&name, &finished.path).await?;
        self.put_envelope(&name, finished).await?;
        self.put_tally(&name, finished).await;
        self.archive.put(&name, &finished.path).await?;
        self.file(&finished.sealed, &receipt, &name, at_ms).await?;
        std::fs::remove_dir_all(&finished.folder)?;
        self.metrics.recording_bytes.inc_by(finished.bytes);
        Ok(())
    }

    /// Step 1. A session that ended before its open leaf, or a crash there,
    /// leaves a recording that the ledger has never heard of: nothing was
    /// dialled in it. It is said so, the leaf is made good, and it is filed
    /// like any other.
    async fn log_seal(&self, sealed: &Sealed) -> Result<SealReceipt, ArchivingError> {
        let error = match self.ledger.append_seal(sealed).await {
            Err(error @ LedgerError::Contradiction { .. }) => error,
            other => return Ok(other?),
        };
        // Refused as well if it was opened or sealed as something else.
        match self.ledger.append_open(sealed.open_leaf(), sealed.head().salt).await {
            Ok(opened) if opened.entry().fresh => {}
            Ok(_) | Err(_) => return Err(error.into()),
        }
        let session = SessionId(sealed.head().session_id);
        self.ledger
            .append_event("unopened-spool", serde_json::json!({ "session": session.to_string() }))
            .await?;
        Ok(self.ledger.append_seal(sealed).await?)
    }

    /// Step 2: what is signed is what was sealed here, never what the archive
    /// gives back.
    async fn sign(&self, name: &ArchiveName, sealed: &Path) -> Result<(), ArchivingError> {
        let path = sealed.to_owned();
        let digest = tokio::task::spawn_blocking(move || sshsig::digest(std::fs::File::open(path)?)).await;
        let digest = digest.map_err(std::io::Error::other).flatten();
        let digest = digest.map_err(|error| ArchivingError::Unread(error.to_string()))?;
        let signature = self.keeper.sign_file(&digest).await?;
        let text = sshsig::armored(&self.keeper.node_key(), &signature);
        Ok(self
            .archive
            .put_sidecar(name, Sidecar::Signature, text.as_bytes())
            .await?)
    }

    /// Step 2, of an encrypted recording. Without its envelope nobody can read
    /// it, and it proves what it proves all the same.
    async fn put_envelope(&self, name: &ArchiveName, finished: &Finished) -> Result<(), ArchivingError> {
        let head = finished.sealed.head();
        if !head.is_encrypted() {
            return Ok(());
        }
        let path = finished.folder.join(ENVELOPE_FILE);
        let most = u64::try_from(ENVELOPE_BYTES_MAX).unwrap_or(u64::MAX);
        match tokio::task::spawn_blocking(move || durable::read_bounded(&path, most)).await {
            Ok(Ok(envelope)) if head.names_envelope(&envelope) => {
                Ok(self.archive.put_sidecar(name, Sidecar::Key, &envelope).await?)
            }
            Ok(Ok(_)) => {
                tracing::error!(%name, "the envelope in the spool is not the one that the head names: its content cannot be read");
                Ok(())
            }
            Ok(Err(why)) if !why.is_missing() => Err(ArchivingError::Unread(why.to_string())),
            Ok(Err(_)) if matches!(self.archive.sidecar(name, Sidecar::Key).await, Ok(Some(_))) => Ok(()),
            Ok(Err(why)) => {
                tracing::error!(%name, %why, "the envelope is gone: its content cannot be read");
                Ok(())
            }
            Err(why) => Err(ArchivingError::Unread(why.to_string())),
        }
    }

    /// Step 2, of an encrypted recording: what searches and summaries here
    /// may know of it. The recording does not wait for it.
    async fn put_tally(&self, name: &ArchiveName, finished: &Finished) {
        let Some(tally) = finished
            .tally
            .as_ref()
            .filter(|_| finished.sealed.head().is_encrypted())
        else {
            return;
        };
        let text = serde_json::to_vec(tally).unwrap_or_default();
        if let Err(error) = self.archive.put_sidecar(name, Sidecar::Tally, &text).await {
            tracing::warn!(%name, %error, "what was counted of a recording is not kept: no label finds it");
        }
    }

    /// Steps 4 and 5.
    async fn file(
        &self,
        sealed: &Sealed,
        receipt: &SealReceipt,
        name: &ArchiveName,
        at_ms: WallMs,
    ) -> Result<(), ArchivingError> {
        let proof = self.ledger.prove(receipt.entry().index).await?;
        self.archive.put_sidecar(name, Sidecar::Proof, proof.as_bytes()).await?;
        let seal = sealed.seal();
        let row = RecordingRow {
            session: SessionId(sealed.head().session_id),
            file: name.to_string(),
            bytes: sealed.file_bytes(),
            kind: match seal.kind {
                portcullis_recording::SealKind::Sealed => "sealed".into(),
                portcullis_recording::SealKind::Recovered { .. } => "recovered".into(),
            },
            end_code: seal.code.clone(),
            sealed_ms: at_ms,
            leaf: receipt.entry().index,
            hold: None,
            expired_ms: None,
            shredded_ms: None,
        };
        match bounded(self.store.add_recording(&row)).await {
            Ok(()) | Err(StoreError::Exists(_)) => {
                self.search.archived(row.session);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tries again for a while after a failure: a disk that is full for a moment
    /// or a store that is locked must not leave a recording in the spool until
    /// the next start. With `patience`, for as long as it is the store that
    /// does not take it: a break-glass session ends while that is down.
    ///
    /// # Errors
    /// The last try's; the next start tries again.
    pub async fn archive_again(
        &self,
        finished: &Finished,
        at_ms: WallMs,
        patience: bool,
    ) -> Result<(), ArchivingError> {
        let session = SessionId(finished.sealed.head().session_id);
        let mut last = None;
        let mut waits = RETRY_WAITS.into_iter();
        loop {
            let wait = match (waits.next(), &last) {
                (Some(wait), _) => wait,
                (None, Some(ArchivingError::Store(_))) if patience => STORE_WAIT,
                (None, _) => break,
            };
            tokio::time::sleep(wait).await;
            let done = match finished.path.exists() {
                true => self.archive_sealed(finished, at_ms).await,
                false => self.archive_moved(session, &finished.folder, at_ms).await,
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Completes what a crash interrupted after the file was moved: `folder`
    /// is what is left of the session's spool, without a recording in it.
    ///
    /// # Errors
    /// The step that failed; the folder is still there then.
    pub async fn archive_moved(&self, session: SessionId, folder: &Path, at_ms: WallMs) -> Result<(), ArchivingError> {
        let name: ArchiveName = recording_file(&session.0).parse()?;
        match self.archive.open(&name).await {
            Ok(file) => {
                let node_key = self.keeper.node_key();
                let found = tokio::task::spawn_blocking(move || recover(file, Vec::new(), node_key, "", "")).await;
                let sealed = match found.map_err(|error| ArchivingError::NotIt(error.to_string()))? {
                    Err(RecoverError::AlreadySealed(sealed)) if sealed.head().session_id == session.0 => sealed,
                    Err(RecoverError::AlreadySealed(_)) => {
                        return Err(ArchivingError::NotIt("another session's".into()));
                    }
                    Err(error) => return Err(ArchivingError::NotIt(error.to_string())),
                    Ok(_) => return Err(ArchivingError::NotIt("it has no seal".into())),
                };
                // The leaf was durable before the file was moved; anything
                // else in its place is refused here.
                let receipt = self.ledger.append_seal(&sealed).await?;
                self.file(&sealed, &receipt, &name, at_ms).await?;
            }
            Err(ArchiveError::NotFound(_)) => {
                if self.ledger.knows(&session).await? {
                    return Err(ArchivingError::Lost);
                }
                self.ledger
                    .append_event("unopened-spool", serde_json::json!({ "session": session.to_string() }))
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }
}
