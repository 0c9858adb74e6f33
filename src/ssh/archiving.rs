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

use portcullis_recording::spool::recording_file;

use super::Gate;
use super::session::bounded;
use crate::archive::{ArchiveName, Sidecar};
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;
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
    #[error("the spool folder cannot be removed: {0}")]
    Spool(#[from] std::io::Error),
}

impl Gate {
    /// Takes a sealed file out of the spool into the archive.
    ///
    /// # Errors
    /// The step that failed; the spool folder is still there then.
    pub async fn archive_sealed(&self, finished: Finished, at_ms: WallMs) -> Result<(), ArchivingError> {
        let session = SessionId(finished.sealed.head().session_id);
        let receipt = self.ledger.append_seal(&finished.sealed).await?;
        let name: ArchiveName = recording_file(&session.0).parse()?;
        self.archive.put(&name, &finished.path).await?;
        let proof = self.ledger.prove(receipt.entry().index).await?;
        self.archive.put_sidecar(&name, Sidecar::Proof, proof.as_bytes()).await?;
        let seal = finished.sealed.seal();
        let row = RecordingRow {
            session,
            file: name.to_string(),
            bytes: finished.bytes,
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
        std::fs::remove_dir_all(&finished.folder)?;
        self.metrics.recording_bytes.inc_by(finished.bytes);
        Ok(())
    }
}
