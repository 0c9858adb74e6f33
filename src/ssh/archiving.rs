//! From a sealed file to the archive, in the order that makes every crash
//! end in exactly one entry.
//!
//! 1. The seal leaf, durable; asked again it is the same leaf.
//! 2. The file into the archive; there already counts as done.
//! 3. The proof beside it; replaced if it is there.
//! 4. The store's row; there already counts as done.
//! 5. The spool folder goes.
//!
//! A crash after any step leaves the spool folder (or, after 2, a folder
//! without a main file), and the next start runs the same steps again.

use std::path::Path;

use portcullis_recording::recover::RecoverError;
use portcullis_recording::spool::recording_file;
use portcullis_recording::{Sealed, recover};

use super::Gate;
use super::session::bounded;
use crate::archive::{ArchiveName, Sidecar};
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;
use crate::ledger::SealReceipt;
use crate::recorder::Finished;
use crate::store::{RecordingRow, StoreError};

/// Why a sealed recording is not where it belongs yet.
#[derive(Debug, thiserror::Error)]
pub enum ArchivingError {
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error(transparent)]
    Archive(#[from] crate::archive::ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the archived file is not a sealed recording")]
    NotSealed,
    #[error("the spool folder cannot be removed: {0}")]
    Spool(#[from] std::io::Error),
}

impl Gate {
    /// Takes a sealed file out of the spool into the archive.
    ///
    /// # Errors
    /// The step that failed; the spool folder is still there then.
    pub async fn archive_sealed(&self, finished: Finished, at_ms: WallMs) -> Result<(), ArchivingError> {
        let name: ArchiveName = recording_file(&finished.sealed.head().session_id).parse()?;
        let receipt = self.ledger.append_seal(&finished.sealed).await?;
        self.archive.put(&name, &finished.path).await?;
        self.file(&finished.sealed, &name, &receipt, &finished.folder, at_ms).await
    }

    /// Does what is left to do for a recording that reached the archive.
    ///
    /// # Errors
    /// The step that failed; the spool folder is still there then.
    pub async fn file_archived(&self, session: SessionId, folder: &Path, at_ms: WallMs) -> Result<(), ArchivingError> {
        let name: ArchiveName = recording_file(&session.0).parse()?;
        let file = self.archive.open(&name).await?;
        let Err(RecoverError::AlreadySealed(sealed)) = recover(file, Vec::new(), self.keeper.node_key(), "", "") else {
            return Err(ArchivingError::NotSealed);
        };
        let receipt = self.ledger.append_seal(&sealed).await?;
        self.file(&sealed, &name, &receipt, folder, at_ms).await
    }

    async fn file(
        &self,
        sealed: &Sealed,
        name: &ArchiveName,
        receipt: &SealReceipt,
        folder: &Path,
        at_ms: WallMs,
    ) -> Result<(), ArchivingError> {
        let session = SessionId(sealed.head().session_id);
        let proof = self.ledger.prove(receipt.entry().index).await?;
        self.archive.put_sidecar(name, Sidecar::Proof, proof.as_bytes()).await?;
        let seal = sealed.seal();
        let row = RecordingRow {
            session,
            file: name.to_string(),
            bytes: sealed.file_bytes(),
            kind: match seal.kind {
                portcullis_recording::SealKind::Sealed => "sealed".into(),
                portcullis_recording::SealKind::Recovered { .. } => "recovered".into(),
            },
            end_code: seal.code.clone(),
            sealed_ms: at_ms,
            leaf: receipt.entry().index,
        };
        match bounded(self.store.add_recording(&row)).await {
            Ok(()) | Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        std::fs::remove_dir_all(folder)?;
        self.metrics.recording_bytes.inc_by(sealed.file_bytes());
        Ok(())
    }
}
