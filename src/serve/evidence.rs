//! What the server does so that its ledger can be believed: it is opened
//! against the checkpoint that the store keeps and shown to the witnesses,
//! each new checkpoint is kept, proofs get the cosignatures that they lack,
//! and what the server itself is (keys, configuration) becomes leaves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_recording::Trust;
use portcullis_recording::note::VerifierKey;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::ssh_key::{HashAlg, PublicKey};

use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::config::{Config, ledger_origin};
use crate::issue::generations::Stage;
use crate::issue::keys::KeyName;
use crate::issue::signer::Authorities;
use crate::issue::trust::{self, Signers};
use crate::keeper::Keeper;
use crate::kernel::grant::hex32;
use crate::kernel::policy::engine::Policies;
use crate::ledger::cosign::{WitnessAt, Witnesses};
use crate::ledger::renew::{Renewed, renew};
use crate::ledger::standing::Standing;
use crate::ledger::tiles::CHECKPOINT_FILE;
use crate::ledger::{Anchor, Entry, Ledger, LedgerError, Options};
use crate::ssh::Gate;
use crate::store::{AnchorRow, Store};

/// Shortest time between two checkpoints that are kept in the store: it has
/// one writer, whom openings of sessions wait for as well.
const KEEP_EVERY: Duration = Duration::from_millis(250);

/// When proofs that could not be renewed are tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(10 * 60);

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
    if anchor.is_none() && config.layout.ledger().join(CHECKPOINT_FILE).exists() {
        // Not the first start: the store was made anew, and has nothing to hold against the folder.
        tracing::warn!(
            origin,
            "the store keeps no checkpoint of the ledger: a roll-back before this start would not be noticed by it"
        );
    }
    let anchors = anchor.map(|row| Anchor {
        source: STORE_SOURCE.to_owned(),
        note: row.note,
    });
    let witnesses = config.ledger.witnesses.iter().map(|witness| WitnessAt {
        address: witness.address.clone(),
        key: witness.key.clone(),
    });
    let options = Options {
        origin,
        anchors: anchors.into_iter().collect(),
        witnesses: Witnesses {
            all: witnesses.collect(),
            quorum: usize::try_from(config.ledger.quorum).unwrap_or(usize::MAX),
        },
        ..Options::default()
    };
    Ledger::open(&config.layout.ledger(), options, keeper, clock)
        .await
        .context("the ledger")
}

/// Brings the trust file up to date: this node's keys, its witnesses, and how
/// many of them verifiers demand.
///
/// # Errors
/// When it cannot be read or written.
pub fn update_trust(config: &Config, keeper: &dyn Keeper, clock: &Clock) -> anyhow::Result<Trust> {
    let signers = Signers::of(&config.node, &ledger_origin(&config.node), keeper);
    let witnesses = witness_keys(config);
    let path = config.layout.trust();
    let trusted = trust::update(&path, &signers, (&witnesses, config.ledger.quorum), clock.now().wall_ms)
        .context("the trust file")?;
    if config.ledger.quorum < trusted.quorum {
        // Not lowered by itself: who can write the configuration would do so unseen.
        tracing::warn!(
            demanded = trusted.quorum,
            configured = config.ledger.quorum,
            file = %path.display(),
            "the trust file demands more cosignatures than `ledger.quorum`: it stays so; to lower it edit the file and give it out again"
        );
    }
    Ok(trusted)
}

/// Logs what verifiers are told to trust, if it is another than was logged last.
///
/// # Errors
/// When the ledger does not take it, or the trust file cannot be written as text.
pub async fn note_trust(ledger: &Ledger, trusted: &Trust) -> anyhow::Result<()> {
    let text = trusted.to_text().context("the trust file")?;
    let sha256: [u8; 32] = Sha256::digest(text).into();
    let body = serde_json::json!({ "sha256": hex32::encode(&sha256), "quorum": trusted.quorum });
    ledger.append_change("trust", body).await?;
    Ok(())
}

fn witness_keys(config: &Config) -> Vec<VerifierKey> {
    config.ledger.witnesses.iter().map(|it| it.key.clone()).collect()
}

/// Looks on as checkpoints are published: keeps each in the store, counts
/// cosignatures, and has proofs renewed that lack them.
pub struct Watcher {
    gate: Arc<Gate>,
    witnesses: Vec<VerifierKey>,
    quorum: u64,
}

impl Watcher {
    /// One for this house.
    pub fn new(gate: &Arc<Gate>, config: &Config) -> Watcher {
        Watcher {
            gate: gate.clone(),
            witnesses: witness_keys(config),
            quorum: config.ledger.quorum,
        }
    }

    /// Until the ledger is closed and its last checkpoint is kept.
    pub async fn run(self) {
        tokio::select! {
            () = self.keep_each() => {}
            // Cut short by the end: the next start begins it anew.
            () = self.renew_when_enough(), if self.quorum > 0 => {}
        }
    }

    async fn keep_each(&self) {
        let mut checkpoints = self.gate.ledger.checkpoints();
        while let Some(now) = checkpoints.next().await {
            self.keep(&now).await;
            self.count(&now);
            tokio::time::sleep(KEEP_EVERY).await;
        }
    }

    async fn renew_when_enough(&self) {
        let mut checkpoints = self.gate.ledger.checkpoints();
        // At the first chance: the last run may have lacked some.
        let mut renewed_at = None;
        while let Some(now) = checkpoints.next().await {
            if now.cosigned.enough && renewed_at != Some(now.short) {
                renewed_at = self.renew().await.then_some(now.short);
                if renewed_at.is_none() {
                    // A look at the whole archive: not at every checkpoint.
                    tokio::time::sleep(RENEW_AGAIN).await;
                }
            }
        }
        // The last checkpoint has still to be kept.
        std::future::pending().await
    }

    async fn keep(&self, now: &Standing) {
        let row = AnchorRow {
            origin: self.gate.ledger.origin().to_owned(),
            size: now.size,
            root: now.root,
            note: now.note.clone(),
            kept_ms: self.gate.clock.now().wall_ms,
        };
        if let Err(error) = self.gate.store.keep_anchor(&row).await {
            tracing::error!(%error, size = now.size, "the store does not keep the ledger's checkpoint");
        }
    }

    fn count(&self, now: &Standing) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.gate
            .metrics
            .ledger_leaves
            .set(i64::try_from(now.size).unwrap_or(i64::MAX));
        self.gate.metrics.ledger_cosignatures.set(number(now.cosigned.count));
        self.gate.metrics.ledger_uncosigned.set(i64::from(now.cosigned.alarm));
        self.gate.metrics.ledger_disputed.set(number(now.cosigned.disputed));
    }

    async fn renew(&self) -> bool {
        match renew(&self.gate.ledger, &*self.gate.archive, &self.witnesses, self.quorum).await {
            Ok(Renewed { renewed, failed }) => {
                if renewed > 0 {
                    tracing::info!(renewed, "proofs that lacked cosignatures were renewed");
                }
                failed == 0
            }
            Err(error) => {
                tracing::error!(%error, "proofs that lack cosignatures were not renewed");
                false
            }
        }
    }
}

/// Logs the configuration in force, if it is another than was logged last.
///
/// # Errors
/// When the ledger does not take it.
pub async fn note_config(ledger: &Ledger, config: &Config) -> Result<Option<Entry>, LedgerError> {
    // Who can read is in no recording: age does not name its recipients.
    let body = serde_json::json!({
        "sha256": hex32::encode(&config.sha256),
        "recipients": config.recording.recipients.names(),
        "hidden_recipients": config.recording.hidden_recipients.names(),
    });
    ledger.append_change("config", body).await
}

/// Logs the policies in force, if they are others than were logged last.
///
/// # Errors
/// When the ledger does not take it.
pub async fn note_policies(ledger: &Ledger, policies: &Policies) -> Result<Option<Entry>, LedgerError> {
    let body = serde_json::json!({ "sha256": hex32::encode(&policies.digest()), "policies": policies.count() });
    ledger.append_change("policy", body).await
}

/// Logs the fingerprints of every key in use and of those that are trusted
/// beside them, if they are others than were logged last.
///
/// # Errors
/// When the ledger does not take them.
pub async fn note_keys(
    ledger: &Ledger,
    authorities: &Authorities,
    keeper: &dyn Keeper,
    ssh_host: &PublicKey,
) -> Result<Option<Entry>, LedgerError> {
    let ed25519 = |key| PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(key)));
    let print = |key: &PublicKey| key.fingerprint(HashAlg::Sha256).to_string();
    let keys = [
        (KeyName::AdmissionCa, authorities.admission_ca.public.clone()),
        (KeyName::TargetCa, authorities.target_ca.public.clone()),
        (KeyName::HostCa, authorities.host_ca.public.clone()),
        (KeyName::SshHost, ssh_host.clone()),
        (KeyName::Node, ed25519(keeper.node_key())),
        (KeyName::Ledger, ed25519(keeper.ledger_key())),
    ];
    let mut body: serde_json::Map<String, serde_json::Value> = keys
        .into_iter()
        .map(|(name, key)| (name.to_string(), print(&key).into()))
        .collect();
    for known in authorities.generations() {
        match known.stage {
            Stage::Announced | Stage::Retiring => {
                let name = format!("{} {}", known.name, known.stage.as_str());
                body.insert(name, print(&known.public).into());
            }
            Stage::Active | Stage::Retired => {}
        }
    }
    ledger.append_change("keys", body.into()).await
}
