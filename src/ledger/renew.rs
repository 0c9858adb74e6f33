//! Proofs that were given out while witnesses were away: each is replaced by
//! one under the newest checkpoint, once enough have cosigned that. So a
//! quorum that is raised, or a witness that was down, leaves no recording
//! that stays unproven.

use portcullis_recording::note::VerifierKey;
use portcullis_recording::proof::Proof;
use portcullis_recording::spool;

use crate::archive::{Archive, ArchiveError, ArchiveName, Sidecar};

use super::{Ledger, LedgerError};

/// Why proofs were not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Renews every proof of `archive` that fewer than `quorum` of `witnesses`
/// have cosigned; how many those were. A sidecar that is missing or no proof
/// is left to `ledger fsck`.
///
/// # Errors
/// The first that cannot be read, made or put in place.
pub async fn renew(
    ledger: &Ledger,
    archive: &dyn Archive,
    witnesses: &[VerifierKey],
    quorum: u64,
) -> Result<u64, RenewError> {
    let extension = format!(".{}", spool::EXTENSION);
    let (mut renewed, mut after): (u64, Option<ArchiveName>) = (0, None);
    loop {
        let page = archive.list(after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(renewed) };
        after = Some(last.name.clone());
        for name in page.iter().map(|listed| &listed.name) {
            if !name.as_str().ends_with(&extension) {
                continue;
            }
            let Some(held) = archive.sidecar(name, Sidecar::Proof).await? else {
                continue;
            };
            let Ok(held) = Proof::parse(&String::from_utf8_lossy(&held)) else {
                continue;
            };
            if cosigned(&held, witnesses) >= quorum {
                continue;
            }
            let proof = ledger.prove(held.index).await?;
            archive.put_sidecar(name, Sidecar::Proof, proof.as_bytes()).await?;
            renewed = renewed.saturating_add(1);
        }
    }
}

fn cosigned(proof: &Proof, witnesses: &[VerifierKey]) -> u64 {
    let signed = |key: &&VerifierKey| matches!(proof.checkpoint.verify(key), Ok(Some(_)));
    u64::try_from(witnesses.iter().filter(signed).count()).unwrap_or(u64::MAX)
}
