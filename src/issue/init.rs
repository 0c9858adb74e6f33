//! Making a node's identity at `init`, and renewing what runs out.

use std::path::Path;

use russh::keys::ssh_key::Certificate;

use crate::clock::Clock;
use crate::keeper::{HostCertificate, Keeper, KeeperError};
use crate::kernel::id::NodeName;

use super::file_keeper::{FileKeeper, Rules};
use super::keys::{self, CaHome, KeyName, KeysError};
use super::trust::{self, Signers, TRUST_FILE, TrustFileError};

/// Name of the keys folder within the state folder.
pub const KEYS_FOLDER: &str = "keys";
/// Life of the bastion's own host certificate, in ms (90 days).
pub const HOST_CERTIFICATE_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// It is renewed at a start once less than this is left of it, in ms (60 days).
pub const HOST_RENEW_MS: u64 = 60 * 24 * 60 * 60 * 1000;

/// Why a node's identity could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Trust(#[from] TrustFileError),
}

/// Makes `keys/`, the host certificate and `trust.toml` in a state folder.
///
/// # Errors
/// When keys are there already: nothing was changed then.
pub async fn make_identity(
    state: &Path,
    node: &NodeName,
    origin: &str,
    host_names: Vec<String>,
    clock: &Clock,
) -> Result<FileKeeper, InitError> {
    let dir = state.join(KEYS_FOLDER);
    keys::create(&dir, CaHome::Files)?;
    let keeper = FileKeeper::load(&dir, Rules::default(), clock.clone())?;
    host_certificate(&keeper, &dir, node, host_names, clock).await?;
    let signers = Signers::of(node, origin, &keeper);
    trust::update(&state.join(TRUST_FILE), &signers, (&[], 0), clock.now().wall_ms)?;
    Ok(keeper)
}

/// The bastion's host certificate: the one in the folder while it is good for
/// these names and long enough, else a new one in its place. A start calls
/// this, and a long-running server now and then.
///
/// # Errors
/// When a new one is needed and cannot be signed or written.
pub async fn host_certificate(
    keeper: &dyn Keeper,
    dir: &Path,
    node: &NodeName,
    names: Vec<String>,
    clock: &Clock,
) -> Result<Certificate, InitError> {
    let now = clock.now().wall_ms;
    let public_key = keys::read_public(dir, KeyName::SshHost)?;
    // One that cannot be read is no reason to stop: it is made again.
    if let Ok(Some(held)) = keys::load_host_certificate(dir) {
        let left = held.valid_before().saturating_mul(1000).checked_sub(now);
        let good = held.signature_key() == keeper.host_ca().key_data()
            && held.public_key() == public_key.key_data()
            && held.valid_principals() == names
            && held.valid_after().saturating_mul(1000) <= now
            && left.is_some_and(|left| left > HOST_RENEW_MS);
        if good {
            return Ok(held);
        }
    }
    let certificate = keeper
        .issue_host(HostCertificate {
            public_key,
            key_id: format!("portcullis {node}"),
            principals: names,
            valid_after_ms: now,
            valid_before_ms: now.saturating_add(HOST_CERTIFICATE_MS),
        })
        .await?;
    keys::store_host_certificate(dir, &certificate)?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[tokio::test]
    async fn an_identity_is_made_once_and_its_host_certificate_renewed() {
        let state = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Now {
            wall_ms: 1_800_000_000_000,
            boot_ms: 1,
        });
        let node: NodeName = "bastion-1".parse().unwrap();
        let names = vec!["bastion.example".to_owned(), "127.0.0.1".to_owned()];
        let make = || make_identity(state.path(), &node, "b.example/log", names.clone(), &clock);
        let keeper = make().await.unwrap();
        assert!(matches!(make().await, Err(InitError::Keys(KeysError::Exists(_)))));

        let dir = state.path().join(KEYS_FOLDER);
        let first = keys::load_host_certificate(&dir).unwrap().unwrap();
        let again = |names: Vec<String>| host_certificate(&keeper, &dir, &node, names, &clock);
        assert_eq!(again(names.clone()).await.unwrap(), first);
        let other = again(vec!["new.example".into()]).await.unwrap();
        assert_ne!(other, first, "another name, another certificate");
        clock.advance(HOST_CERTIFICATE_MS - HOST_RENEW_MS);
        let renewed = again(vec!["new.example".into()]).await.unwrap();
        assert!(renewed.valid_before() > other.valid_before());
        std::fs::write(dir.join("ssh_host_ed25519_key-cert.pub"), "torn").unwrap();
        again(names).await.unwrap();
    }

    #[tokio::test]
    async fn a_stock_client_takes_the_line_for_known_hosts() {
        let state = tempfile::tempdir().unwrap();
        let node: NodeName = "bastion-1".parse().unwrap();
        let names = vec!["bastion.example".to_owned()];
        let keeper = make_identity(state.path(), &node, "b/log", names, &Clock::system())
            .await
            .unwrap();
        let line = trust::known_hosts_line("bastion.example", &keeper.host_ca()).unwrap();
        let path = state.path().join("known_hosts");
        std::fs::write(&path, format!("{line}\n")).unwrap();
        let found = std::process::Command::new("ssh-keygen")
            .args(["-F", "bastion.example", "-f"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8(found.stdout).unwrap();
        assert!(found.status.success(), "{said}");
        assert!(said.contains("@cert-authority"), "{said}");
    }
}
