//! Taking the authorities' keys up, at a start and at a reload.

use std::sync::Arc;

use anyhow::Context as _;

use crate::config::Config;
use crate::issue::file_keeper::FileKeeper;
use crate::issue::signer::Authorities;
use crate::kernel::admit::AdmissionTrust;

/// The authorities' keys as they lie in the folder now, each known to be held
/// by whom the configuration says.
///
/// # Errors
/// When one cannot be read, or is not held there.
pub async fn read(keeper: &Arc<FileKeeper>, config: &Config) -> anyhow::Result<Arc<Authorities>> {
    let (keeper, dir, places) = (keeper.clone(), config.layout.keys(), config.keys.clone());
    // Passphrases cost time on purpose.
    let read = tokio::task::spawn_blocking(move || keeper.read(&dir, &places));
    let authorities = read.await.context("reading the keys")?.context("the keys")?;
    authorities.check().await.context("the keys")?;
    Ok(Arc::new(authorities))
}

/// Whose certificates admit: the admission CA's, and the one's before it until it is retired.
///
/// # Errors
/// When a key has no form in bytes.
pub fn trust(authorities: &Authorities, config: &Config) -> anyhow::Result<AdmissionTrust> {
    let keys = authorities.admission_cas();
    let blobs: Result<_, _> = keys.iter().map(|key| key.to_bytes()).collect();
    Ok(AdmissionTrust {
        ca_keys: blobs.context("the admission CA's key")?,
        lifetime_secs_max: config.session.grant_max.as_secs(),
    })
}
