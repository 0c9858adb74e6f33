//! Decides over the target's host key or certificate.

use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::PublicKey;
use russh::keys::ssh_key::certificate::CertType;

use super::target::DialError;
use crate::kernel::inventory::HostProof;

/// The fingerprint of a key that was not trusted, for the one who dialled.
/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Option<String>>>);

impl Seen {
    /// Whether `check` trusts what was shown; what it does not trust is kept.
    pub fn judge(&self, check: &HostCheck, shown: &russh::keys::PublicKeyOrCertificate) -> bool {
        let trusted = check.trusts(shown);
        if !trusted {
            let fingerprint = shown.public_key().fingerprint(russh::keys::HashAlg::Sha256);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint.to_string());
        }
        trusted
    }

    /// What was not trusted.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Decides over the target's host key or certificate.
pub struct HostCheck {
    proof: PublicKey,
    by_ca: bool,
    host: String,
    now_ms: u64,
}

impl HostCheck {
    pub fn new(proof: &HostProof, host: &str, now_ms: u64) -> Result<HostCheck, DialError> {
        let (line, by_ca) = match proof {
            HostProof::HostKey(line) => (line, false),
            HostProof::HostCa(line) => (line, true),
        };
        Ok(HostCheck {
            proof: PublicKey::from_openssh(line).map_err(|e| DialError::BadPin(e.to_string()))?,
            by_ca,
            host: host.to_owned(),
            now_ms,
        })
    }

    pub fn pinned_algorithm(&self) -> Option<russh::keys::Algorithm> {
        (!self.by_ca).then(|| self.proof.algorithm())
    }

    /// A pinned key must be that key; a certificate must be a host's, from the
    /// pinned CA, in its time, for the dialled name, demanding nothing.
    pub fn trusts(&self, shown: &russh::keys::PublicKeyOrCertificate) -> bool {
        match (self.by_ca, shown.certificate()) {
            (false, None) => shown.public_key().key_data() == self.proof.key_data(),
            (true, Some(certificate)) => {
                let now = self.now_ms / 1000;
                certificate.cert_type() == CertType::Host
                    && certificate.signature_key() == self.proof.key_data()
                    && certificate.verify_signature().is_ok()
                    && !matches!(
                        certificate.signature().algorithm(),
                        russh::keys::Algorithm::Rsa { hash: None } | russh::keys::Algorithm::Dsa
                    )
                    && (certificate.valid_after()..certificate.valid_before()).contains(&now)
                    && certificate
                        .valid_principals()
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(&self.host))
                    && certificate.critical_options().is_empty()
            }
            (false, Some(_)) | (true, None) => false,
        }
    }
}
