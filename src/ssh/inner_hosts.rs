//! The host keys of inner servers: the gate's own key, with a certificate for
//! the name that a client jumps to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Gate;
use super::listen::{self, Served};
use crate::keeper::{HostCertificate, KeeperError};
use crate::kernel::grant::WallMs;
use crate::kernel::id::TargetName;
use crate::kernel::jump::Asked;

/// How long such a certificate counts, in ms.
const CERTIFICATE_MS: u64 = 60 * 60 * 1000;
/// It is shown for the first half of that, in ms: a connection that begins
/// with it may rekey, and clients' clocks differ.
const SHOWN_MS: u64 = CERTIFICATE_MS / 2;
/// It begins before it is made, for clients whose clock is behind, in ms.
const BACKDATE_MS: u64 = 60 * 1000;
/// Targets that are remembered.
const TARGETS_MAX: usize = 1024;
/// Spellings of each.
const SPELLINGS_MAX: usize = 8;

/// What serves under a certificate, and until when.
struct Shown {
    names: Vec<String>,
    served: Served,
    until: WallMs,
}

#[derive(Default)]
struct Made {
    /// What the listener shows: another one there makes all of these stale.
    base: Option<Served>,
    /// Each target's, by the names in the certificate.
    hosts: HashMap<TargetName, Vec<Shown>>,
}

/// What inner servers are served with.
#[derive(Default)]
pub struct InnerHosts(Mutex<Made>);

impl InnerHosts {
    fn held(&self, base: &Served, asked: &Asked, now: WallMs) -> Option<Served> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.base.as_ref().is_some_and(|held| Arc::ptr_eq(held, base)) {
            made.base = Some(base.clone());
            made.hosts.clear();
        }
        let shown = made.hosts.get(asked.target())?;
        let shown = shown.iter().find(|shown| shown.names == asked.verified())?;
        // One from the future was made before the clock was set back.
        let good = now < shown.until && shown.until.saturating_sub(now) <= SHOWN_MS;
        good.then(|| shown.served.clone())
    }

    /// The host key and a certificate for the names that `asked` may be held
    /// against.
    ///
    /// # Errors
    /// The keeper's.
    pub async fn get(&self, gate: &Gate, base: &Served, asked: &Asked) -> Result<Served, KeeperError> {
        let now = gate.clock.now().wall_ms;
        let names = asked.verified();
        if let Some(served) = self.held(base, asked, now) {
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
        if !made.base.as_ref().is_some_and(|held| Arc::ptr_eq(held, base)) {
            return Ok(served);
        }
        if made.hosts.len() >= TARGETS_MAX && !made.hosts.contains_key(asked.target()) {
            made.hosts.clear();
        }
        let spelled = made.hosts.entry(asked.target().clone()).or_default();
        spelled.retain(|shown| shown.names != names);
        if spelled.len() >= SPELLINGS_MAX {
            spelled.remove(0);
        }
        spelled.push(Shown {
            names: names.to_vec(),
            served: served.clone(),
            until: now.saturating_add(SHOWN_MS),
        });
        Ok(served)
    }
}
