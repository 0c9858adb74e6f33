//! The host keys of inner servers: the gate's own key, with a certificate for
//! the name that a client jumps to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Gate;
use super::listen::{self, Served};
use crate::keeper::{HostCertificate, KeeperError};
use crate::kernel::grant::WallMs;
use crate::kernel::jump::Asked;

/// How long such a certificate counts, in ms.
const CERTIFICATE_MS: u64 = 60 * 60 * 1000;
/// It is shown for the first half of that, in ms: a connection that begins
/// with it may rekey, and clients' clocks differ.
const SHOWN_MS: u64 = CERTIFICATE_MS / 2;
/// It begins before it is made, for clients whose clock is behind, in ms.
const BACKDATE_MS: u64 = 60 * 1000;
/// Names that are remembered.
const NAMES_MAX: usize = 1024;

#[derive(Default)]
struct Made {
    /// What the listener shows: another one there makes all of these stale.
    base: Option<Served>,
    /// By the names in the certificate: what serves them, and until when.
    hosts: HashMap<Vec<String>, (Served, WallMs)>,
}

/// What inner servers are served with.
#[derive(Default)]
pub struct InnerHosts(Mutex<Made>);

impl InnerHosts {
    fn held(&self, base: &Served, names: &[String], now: WallMs) -> Option<Served> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.base.as_ref().is_some_and(|held| Arc::ptr_eq(held, base)) {
            made.base = Some(base.clone());
            made.hosts.clear();
        }
        let (served, until) = made.hosts.get(names)?;
        // One from the future was made before the clock was set back.
        let good = now < *until && until.saturating_sub(now) <= SHOWN_MS;
        good.then(|| served.clone())
    }

    /// The host key and a certificate for the names that `asked` may be held
    /// against.
    ///
    /// # Errors
    /// The keeper's.
    pub async fn get(&self, gate: &Gate, base: &Served, asked: &Asked) -> Result<Served, KeeperError> {
        let now = gate.clock.now().wall_ms;
        let names = asked.verified();
        if let Some(served) = self.held(base, names, now) {
            return Ok(served);
        }
        let mut certificates = Vec::new();
        for key in &base.keys {
            let certificate = gate
                .keeper
                .issue_host(HostCertificate {
                    public_key: key.public_key().clone(),
                    key_id: format!("portcullis {} {}", gate.node, asked.target()),
                    principals: names.to_vec(),
                    valid_after_ms: now.saturating_sub(BACKDATE_MS),
                    valid_before_ms: now.saturating_add(CERTIFICATE_MS),
                })
                .await?;
            certificates.push(certificate);
        }
        let served = listen::config(&gate.settings(), base.keys.clone(), certificates);
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if made.hosts.len() >= NAMES_MAX {
            made.hosts.clear();
        }
        if made.base.as_ref().is_some_and(|held| Arc::ptr_eq(held, base)) {
            let until = now.saturating_add(SHOWN_MS);
            made.hosts.insert(names.to_vec(), (served.clone(), until));
        }
        Ok(served)
    }
}
