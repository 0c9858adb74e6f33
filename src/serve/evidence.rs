//! What the server does so that its ledger can be believed: it is opened
//! against the checkpoint that the store keeps, each new checkpoint is kept
//! there, and what the server itself is (keys, configuration) becomes leaves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::ssh_key::{HashAlg, PublicKey};

use crate::clock::Clock;
use crate::config::{Config, ledger_origin};
use crate::issue::keys::KeyName;
use crate::keeper::Keeper;
use crate::kernel::grant::hex32;
use crate::ledger::standing::Checkpoints;
use crate::ledger::{Anchor, Entry, Ledger, LedgerError, Options};
use crate::store::{AnchorRow, Store};

/// Shortest time between two checkpoints that are kept in the store: it has
/// one writer, whom openings of sessions wait for as well.
const KEEP_EVERY: Duration = Duration::from_millis(250);

/// What the store's checkpoint is called in messages.
pub const STORE_SOURCE: &str = "the store's copy of its checkpoint";

/// Opens the ledger, held against what the store knows of it.
///
/// # Errors
/// When it is damaged, or was rolled back or forked since the store saw it.
pub async fn open(config: &Config, store: &dyn Store, keeper: Arc<dyn Keeper>, clock: Clock) -> anyhow::Result<Ledger> {
    let origin = ledger_origin(&config.node);
    let anchor = store
        .anchor(&origin)
        .await
        .context("the store's copy of the checkpoint")?;
    let anchors = anchor.map(|row| Anchor {
        source: STORE_SOURCE.to_owned(),
        note: row.note,
    });
    let options = Options {
        origin,
        anchors: anchors.into_iter().collect(),
        ..Options::default()
    };
    Ledger::open(&config.layout.ledger(), options, keeper, clock)
        .await
        .context("the ledger")
}

/// Keeps each checkpoint in the store, until the ledger is closed.
pub async fn keep(mut checkpoints: Checkpoints, origin: String, store: Arc<dyn Store>, clock: Clock) {
    while let Some(now) = checkpoints.next().await {
        let row = AnchorRow {
            origin: origin.clone(),
            size: now.size,
            root: now.root,
            note: now.note,
            kept_ms: clock.now().wall_ms,
        };
        if let Err(error) = store.keep_anchor(&row).await {
            tracing::error!(%error, size = now.size, "the store does not keep the ledger's checkpoint");
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

/// Logs the configuration in force, if it is another than was logged last.
///
/// # Errors
/// When the ledger does not take it.
pub async fn note_config(ledger: &Ledger, config: &Config) -> Result<Option<Entry>, LedgerError> {
    let body = serde_json::json!({ "sha256": hex32::encode(&config.sha256) });
    ledger.append_change("config", body).await
}

/// Logs the fingerprints of every key in use, if they are others than were
/// logged last.
///
/// # Errors
/// When the ledger does not take them.
pub async fn note_keys(
    ledger: &Ledger,
    keeper: &dyn Keeper,
    ssh_host: &PublicKey,
) -> Result<Option<Entry>, LedgerError> {
    let ed25519 = |key| PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(key)));
    let keys = [
        (KeyName::AdmissionCa, keeper.admission_ca()),
        (KeyName::TargetCa, keeper.target_ca()),
        (KeyName::HostCa, keeper.host_ca()),
        (KeyName::SshHost, ssh_host.clone()),
        (KeyName::Node, ed25519(keeper.node_key())),
        (KeyName::Ledger, ed25519(keeper.ledger_key())),
    ];
    let body: serde_json::Map<String, serde_json::Value> = keys
        .into_iter()
        .map(|(name, key)| (name.to_string(), key.fingerprint(HashAlg::Sha256).to_string().into()))
        .collect();
    ledger.append_change("keys", body.into()).await
}
