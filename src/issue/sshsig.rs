//! Signatures by SSH keys over texts that are no SSH login (OpenSSH's
//! PROTOCOL.sshsig): how an enrolled key proves who calls.
//!
//! Both ends: what a key has to sign, the armored form of a signature, and
//! the check of one. `ssh-keygen -Y sign` and `-Y verify` speak the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_encoding::Decode;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey, Signature, SshSig};

use super::ca::RSA_BITS_MIN;

/// Longest armored signature that is read, in bytes: one by RSA of 4096 bits
/// takes 1.8 KiB.
pub const ARMORED_BYTES_MAX: usize = 8 * 1024;
/// Longest RSA key that can be checked, in bits.
pub const RSA_BITS_MAX: u32 = 4096;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// In the name of every certificate type.
const CERTIFICATE_MARK: &[u8] = b"-cert-v01@";
/// Flags, then a counter of four bytes, at the end of a hardware key's
/// signature (PROTOCOL.u2f).
const HARDWARE_TRAILER_BYTES: usize = 5;
/// Somebody touched the key.
const USER_PRESENT: u8 = 0x01;
/// The key checked a PIN or a finger.
const USER_VERIFIED: u8 = 0x04;

/// What a signature says of the person behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Presence {
    /// A key in software: whoever holds it.
    Unknown,
    /// A hardware key that was touched.
    Touched,
    /// A hardware key that was touched and checked a PIN or a finger.
    Verified,
}

/// Who signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signer {
    /// The key, without a comment. Whether it is enrolled is the caller's to ask.
    pub key: PublicKey,
    pub presence: Presence,
}

/// Why a signature counts for nothing. Codes are stable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SshSigError {
    #[error("the signature is not one that `ssh-keygen -Y sign` writes: {0}")]
    Unreadable(&'static str),
    #[error("the signature is for `{found}`, not for `{wanted}`")]
    OtherNamespace { found: String, wanted: String },
    #[error("{kind} keys do not count: {why}")]
    WeakKey { kind: String, why: &'static str },
    #[error("the signature does not fit the text and the key")]
    Wrong,
    #[error("the hardware key signed without being touched: enroll one that asks (no `no-touch-required`)")]
    NotTouched,
}

impl SshSigError {
    /// Stable, for logs and answers.
    pub fn code(&self) -> &'static str {
        match self {
            SshSigError::Unreadable(_) => "signature_unreadable",
            SshSigError::OtherNamespace { .. } => "signature_namespace",
            SshSigError::WeakKey { .. } => "signature_key_weak",
            SshSigError::Wrong => "signature_wrong",
            SshSigError::NotTouched => "signature_not_touched",
        }
    }
}

/// What the key itself has to sign for `message`: SHA-512 inside.
///
/// # Errors
/// [`SshSigError::Unreadable`]: the namespace is empty.
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Result<Vec<u8>, SshSigError> {
    SshSig::signed_data(namespace, HashAlg::Sha512, message)
        .map_err(|_| SshSigError::Unreadable("its namespace is empty"))
}

/// The armored form of `signature`, which `key` made over [`to_be_signed`].
///
/// # Errors
/// [`SshSigError::Unreadable`]: the namespace is empty.
pub fn armored(key: &PublicKey, namespace: &str, signature: Signature) -> Result<String, SshSigError> {
    SshSig::new(key.key_data().clone(), namespace, HashAlg::Sha512, signature)
        .and_then(|signed| signed.to_pem(LineEnding::LF))
        .map_err(|_| SshSigError::Unreadable("its parts do not fit together"))
}

/// Checks an armored signature over `message` and says whose it is.
///
/// # Errors
/// Why it counts for nothing.
pub fn verify(armored: &str, namespace: &str, message: &[u8]) -> Result<Signer, SshSigError> {
    let signed = read(armored)?;
    if signed.namespace() != namespace {
        return Err(SshSigError::OtherNamespace {
            found: signed.namespace().chars().take(64).collect(),
            wanted: namespace.to_owned(),
        });
    }
    strong(signed.public_key(), &signed.signature().algorithm())?;
    let key = PublicKey::new(signed.public_key().clone(), "");
    key.verify(namespace, message, &signed)
        .map_err(|_| SshSigError::Wrong)?;
    let presence = presence(signed.signature())?;
    Ok(Signer { key, presence })
}

fn read(armored: &str) -> Result<SshSig, SshSigError> {
    if armored.len() > ARMORED_BYTES_MAX {
        return Err(SshSigError::Unreadable("it is too long"));
    }
    let body = armored
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or(SshSigError::Unreadable("it lacks its first or last line"))?;
    let body: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD
        .decode(body)
        .map_err(|_| SshSigError::Unreadable("it is not base64"))?;
    // The reader of certificates calls itself for the key that signed one,
    // without a bound. A certificate proves nothing here, so none is read.
    if bytes.windows(CERTIFICATE_MARK.len()).any(|at| at == CERTIFICATE_MARK) {
        return Err(SshSigError::Unreadable("it names a certificate, not a key"));
    }
    let mut rest = bytes.as_slice();
    let signed = SshSig::decode(&mut rest).map_err(|_| SshSigError::Unreadable("its fields are broken"))?;
    match (
        signed.version() == SshSig::VERSION,
        rest.is_empty() && signed.reserved().is_empty(),
    ) {
        (true, true) => Ok(signed),
        (false, _) => Err(SshSigError::Unreadable("its version is not 1")),
        (true, false) => Err(SshSigError::Unreadable("it holds more than a signature")),
    }
}

/// Only keys and hashes that a login may use too.
fn strong(key: &KeyData, by: &Algorithm) -> Result<(), SshSigError> {
    let weak = |why| {
        Err(SshSigError::WeakKey {
            kind: key.algorithm().to_string(),
            why,
        })
    };
    let fits = match key {
        KeyData::Rsa(rsa) if rsa.key_size() < RSA_BITS_MIN => {
            return weak("RSA needs at least 3072 bits; ed25519 is better");
        }
        KeyData::Rsa(rsa) if rsa.key_size() > RSA_BITS_MAX => {
            return weak("RSA has at most 4096 bits; ed25519 is better");
        }
        KeyData::Rsa(_) => matches!(by, Algorithm::Rsa { hash: Some(_) }),
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            *by == key.algorithm()
        }
        KeyData::Dsa(_) | KeyData::Certificate(_) | KeyData::Other(_) | _ => return weak("use ed25519"),
    };
    match fits {
        true => Ok(()),
        false => weak("its signature is of another kind, or made with SHA-1"),
    }
}

fn presence(signature: &Signature) -> Result<Presence, SshSigError> {
    if !matches!(
        signature.algorithm(),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256
    ) {
        return Ok(Presence::Unknown);
    }
    let flags = signature.as_bytes().iter().rev().nth(HARDWARE_TRAILER_BYTES - 1);
    match flags.copied().unwrap_or(0) {
        flags if flags & USER_PRESENT == 0 => Err(SshSigError::NotTouched),
        flags if flags & USER_VERIFIED != 0 => Ok(Presence::Verified),
        _ => Ok(Presence::Touched),
    }
}

#[cfg(test)]
#[path = "sshsig_tests.rs"]
mod tests;
