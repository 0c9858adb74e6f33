//! Holds private keys behind an async, fallible trait that signs typed
//! statements; no key crosses it.
//!
//! Three certificate authorities, never mixed: admission (users towards us),
//! target (us towards targets), host (our own host certificates). Beside them
//! the node's identity key (recordings) and the ledger's key (checkpoints).

use std::future::Future;
use std::pin::Pin;

use russh::keys::ssh_key::{Certificate, PublicKey};

use crate::kernel::grant::WallMs;

/// What a keeper answers with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeeperError>> + Send + 'a>>;

/// Why a statement was not signed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The holder of the key (file, agent, token) does not answer.
    #[error("the {key} key is out of reach: {why}")]
    Unavailable { key: &'static str, why: String },
    /// The statement breaks a rule that the keeper holds to.
    #[error("the {key} key does not sign that: {why}")]
    Refused { key: &'static str, why: String },
}

/// A user certificate towards us, signed by the admission CA.
#[derive(Debug, Clone)]
pub struct AdmissionCertificate {
    pub public_key: PublicKey,
    pub serial: u64,
    /// Readable in `ssh-keygen -L`: `alice grant=…`.
    pub key_id: String,
    /// `login@target`, exactly one.
    pub principal: String,
    pub valid_after_ms: WallMs,
    pub valid_before_ms: WallMs,
    /// `source-address`, comma separated blocks, if the grant is bound to some.
    pub source_address: Option<String>,
    /// `permit-pty` and the like, without values.
    pub extensions: Vec<&'static str>,
}

/// A user certificate towards a target, signed by the target CA.
#[derive(Debug, Clone)]
pub struct TargetCertificate {
    pub public_key: PublicKey,
    /// Names person, grant and session.
    pub key_id: String,
    /// The login at the target.
    pub principal: String,
    pub valid_after_ms: WallMs,
    pub valid_before_ms: WallMs,
    /// Our own address as the target sees it, if known.
    pub source_address: Option<String>,
    pub extensions: Vec<&'static str>,
}

/// A host certificate of ours, signed by the host CA.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    pub public_key: PublicKey,
    pub key_id: String,
    /// Names that clients verify.
    pub principals: Vec<String>,
    pub valid_after_ms: WallMs,
    pub valid_before_ms: WallMs,
}

/// The one who signs.
pub trait Keeper: Send + Sync + 'static {
    /// Public half of the node's identity key.
    fn node_key(&self) -> [u8; 32];
    /// Public half of the ledger's key.
    fn ledger_key(&self) -> [u8; 32];
    fn admission_ca(&self) -> PublicKey;
    fn target_ca(&self) -> PublicKey;
    fn host_ca(&self) -> PublicKey;

    /// Signs the head of a session's recording, or the seal of a recovered
    /// one, by the node's identity key. `statement` carries its own domain.
    fn sign_recording<'a>(&'a self, statement: &'a [u8]) -> Answer<'a, [u8; 64]>;
    /// Signs a whole sealed file by the node's identity key, by its SHA-256
    /// (recording/FORMAT.md section 9.5).
    fn sign_file<'a>(&'a self, sha256: &'a [u8; 32]) -> Answer<'a, [u8; 64]>;
    /// Signs a checkpoint body by the ledger's key (C2SP signed-note).
    fn sign_checkpoint<'a>(&'a self, body: &'a [u8]) -> Answer<'a, [u8; 64]>;
    fn issue_admission(&self, certificate: AdmissionCertificate) -> Answer<'_, Certificate>;
    /// The same under a break-glass grant: it may begin later and live longer
    /// than an ordinary grant, by `kernel::break_glass::WINDOW_MS_MAX`. Alone it
    /// admits nobody: several people have to sign for it first.
    fn issue_break_glass(&self, certificate: AdmissionCertificate) -> Answer<'_, Certificate>;
    fn issue_target(&self, certificate: TargetCertificate) -> Answer<'_, Certificate>;
    fn issue_host(&self, certificate: HostCertificate) -> Answer<'_, Certificate>;
}
