//! Proofs that were given out while witnesses were away: each is replaced by
//! one under the newest checkpoint, once enough have cosigned that. So a
//! quorum that is raised, or a witness that was down, leaves no recording
//! that stays unproven.
//!
//! A proof that holds something against this ledger (another history, a larger
//! tree) is evidence and stays as it is.

use portcullis_recording::leaf::LeafKind;
use portcullis_recording::note::{Checkpoint, VerifierKey};
use portcullis_recording::proof::Proof;
use portcullis_recording::{merkle, spool};

use crate::archive::{Archive, ArchiveError, ArchiveName, Sidecar};

use super::body::Body;
use super::{Ledger, LedgerError};

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Renewed {
    /// Proofs that were replaced.
    pub renewed: u64,
    /// Those that were not, each of which was told of.
    pub failed: u64,
}

/// Why one proof was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("it contradicts this ledger ({0}) and stays as it is: look at it with `portcullis ledger fsck`")]
    Contradicts(&'static str),
}

/// Renews every proof of `archive` that fewer than `quorum` of `witnesses`
/// have cosigned. A sidecar that is missing or no proof is left to `ledger
/// fsck`; one that fails is told of, and the others go on.
///
/// # Errors
/// When the archive cannot be listed.
pub async fn renew(
    ledger: &Ledger,
    archive: &dyn Archive,
    witnesses: &[VerifierKey],
    quorum: u64,
) -> Result<Renewed, ArchiveError> {
    let extension = format!(".{}", spool::EXTENSION);
    let (mut done, mut after): (Renewed, Option<ArchiveName>) = (Renewed::default(), None);
    loop {
        let page = archive.list(after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = Some(last.name.clone());
        for name in page.iter().map(|listed| &listed.name) {
            if !name.as_str().ends_with(&extension) {
                continue;
            }
            match one(ledger, archive, name, witnesses, quorum).await {
                Ok(renewed) => done.renewed = done.renewed.saturating_add(u64::from(renewed)),
                Err(error) => {
                    done.failed = done.failed.saturating_add(1);
                    tracing::error!(%name, %error, "a proof was not renewed");
                }
            }
        }
    }
}

/// Whether it was renewed.
async fn one(
    ledger: &Ledger,
    archive: &dyn Archive,
    name: &ArchiveName,
    witnesses: &[VerifierKey],
    quorum: u64,
) -> Result<bool, RenewError> {
    let Some(held) = archive.sidecar(name, Sidecar::Proof).await? else {
        return Ok(false);
    };
    let Ok(held) = Proof::parse(&String::from_utf8_lossy(&held)) else {
        return Ok(false);
    };
    if cosigned(&held, witnesses) >= quorum {
        return Ok(false);
    }
    agrees(ledger, name, &held).await?;
    let proof = ledger.prove(held.index).await?;
    archive.put_sidecar(name, Sidecar::Proof, proof.as_bytes()).await?;
    Ok(true)
}

/// Whether what a proof says is what this ledger says: only then nothing is
/// lost with it.
async fn agrees(ledger: &Ledger, name: &ArchiveName, held: &Proof) -> Result<(), RenewError> {
    let said = Checkpoint::of(&held.checkpoint).map_err(|_| RenewError::Contradicts("no checkpoint"))?;
    if said.origin != ledger.origin() {
        return Err(RenewError::Contradicts("another ledger's"));
    }
    if said.size > ledger.size() {
        return Err(RenewError::Contradicts("a larger tree"));
    }
    if ledger.root_at(said.size).await? != said.root {
        return Err(RenewError::Contradicts("another root"));
    }
    let (salt, leaf) = ledger.leaf(held.index).await?;
    let Body::Recording(seal) = &leaf else {
        return Err(RenewError::Contradicts("a leaf that is no seal"));
    };
    let file = spool::recording_file(&seal.session_id);
    if seal.kind != LeafKind::Seal || !name.as_str().ends_with(&file) {
        return Err(RenewError::Contradicts("another recording's leaf"));
    }
    match merkle::verify_inclusion(&seal.leaf_hash(&salt), held.index, said.size, &said.root, &held.hashes) {
        true => Ok(()),
        false => Err(RenewError::Contradicts("a path that leads elsewhere")),
    }
}

fn cosigned(proof: &Proof, witnesses: &[VerifierKey]) -> u64 {
    let signed = |key: &&VerifierKey| matches!(proof.checkpoint.verify(key), Ok(Some(_)));
    u64::try_from(witnesses.iter().filter(signed).count()).unwrap_or(u64::MAX)
}
