//! What a person has in hand for one destination: a key that lives in the
//! agent alone, its public half and its certificate in files, for ssh.

use std::path::PathBuf;

use russh::keys::ssh_key::{Certificate, PublicKey};

use super::agent::{Agent, AgentError};
use super::config::{self, PersonError, Places};
use crate::durable;
use crate::kernel::grant::WallMs;
use crate::kernel::id::Destination;

/// Longest key or certificate file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Mode of public files.
const PUBLIC_MODE: u32 = 0o644;
/// A certificate that ends within this many ms is not worth a login.
const LEFT_MS_MIN: u64 = 5_000;

/// A public key and its certificate in the person's files.
pub struct InHand {
    pub public_key: PublicKey,
    pub certificate: Certificate,
}

impl InHand {
    /// What the files hold for `destination`; nothing if they hold no pair.
    pub fn load(places: &Places, destination: &Destination) -> Option<InHand> {
        let read = |path: PathBuf| {
            let bytes = durable::read_bounded(&path, FILE_BYTES_MAX).ok()?;
            String::from_utf8(bytes).ok()
        };
        let public_key = PublicKey::from_openssh(read(places.public_key(destination))?.trim()).ok()?;
        let certificate = Certificate::from_openssh(read(places.certificate(destination))?.trim()).ok()?;
        (certificate.public_key() == public_key.key_data()).then_some(InHand {
            public_key,
            certificate,
        })
    }

    /// Keeps both for ssh, the certificate first: a pair that is cut in two
    /// is none.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, places: &Places, destination: &Destination) -> Result<(), PersonError> {
        let line = |text: Result<String, _>| {
            text.map(|text| format!("{}\n", text.trim_end()))
                .map_err(|error: russh::keys::ssh_key::Error| PersonError::Unreadable {
                    path: places.certificate(destination),
                    why: error.to_string(),
                })
        };
        let certificate = line(self.certificate.to_openssh())?;
        let public_key = line(self.public_key.to_openssh())?;
        config::write(&places.certificate(destination), certificate.as_bytes(), PUBLIC_MODE)?;
        config::write(&places.public_key(destination), public_key.as_bytes(), PUBLIC_MODE)
    }

    /// Whether its window has begun and lasts a while yet at `now`.
    pub fn is_good(&self, now: WallMs) -> bool {
        let second = now / 1000;
        let left = self.certificate.valid_before().saturating_mul(1000).saturating_sub(now);
        self.certificate.valid_after() <= second && left >= LEFT_MS_MIN
    }

    /// Whether ssh can log in with it at `now`: it is good, and the agent
    /// holds its private half.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn is_usable(&self, agent: &Agent, now: WallMs) -> Result<bool, AgentError> {
        Ok(self.is_good(now) && agent.holds(&self.public_key).await?)
    }
}

#[cfg(test)]
mod tests {
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::ssh_key::{Algorithm, PrivateKey};

    use super::*;

    #[test]
    fn a_pair_is_kept_and_its_window_half_open() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let destination: Destination = "root@db1".parse().unwrap();
        assert!(InHand::load(&places, &destination).is_none());
        let key = || PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let (holder, ca) = (key(), key());
        let mut builder =
            Builder::new_with_random_nonce(&mut rand::rng(), holder.public_key().key_data().clone(), 100, 200).unwrap();
        builder.cert_type(CertType::User).unwrap();
        builder.valid_principal("root@db1").unwrap();
        let certificate = builder.sign(&ca).unwrap();
        let pair = InHand {
            public_key: holder.public_key().clone(),
            certificate,
        };
        pair.save(&places, &destination).unwrap();
        let back = InHand::load(&places, &destination).unwrap();
        for (now, good) in [
            (99_999, false),
            (100_000, true),
            (195_000, true),
            (195_001, false),
            (200_000, false),
        ] {
            assert_eq!(back.is_good(now), good, "{now}");
        }
        // Half of another pair.
        let other = key().public_key().to_openssh().unwrap();
        std::fs::write(places.public_key(&destination), other).unwrap();
        assert!(InHand::load(&places, &destination).is_none());
    }
}
