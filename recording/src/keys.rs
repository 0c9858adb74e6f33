//! Keys of one session and what they may sign (FORMAT.md section 4).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::limits::SALT_BYTES;

/// Fills 32 bytes from a cryptographic random generator. This crate has none of its own.
pub type Entropy = Box<dyn FnMut(&mut [u8; 32]) + Send>;

/// In front of what the salt of a chunk is drawn from; never signed.
const SALT_PREFIX: &[u8] = b"portcullis-recording/v1 salt\0";

/// Bytes of an Ed25519 signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// What a signature is about: the string in front of the signed bytes (FORMAT.md section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    Head,
    Leaf,
    Tail,
    Check,
    Seal,
    Redaction,
}

impl Domain {
    fn prefix(self) -> &'static [u8] {
        match self {
            Domain::Head => b"portcullis-recording/v1 head\0",
            Domain::Leaf => b"portcullis-recording/v1 leaf\0",
            Domain::Tail => b"portcullis-recording/v1 tail\0",
            Domain::Check => b"portcullis-recording/v1 check\0",
            Domain::Seal => b"portcullis-recording/v1 seal\0",
            Domain::Redaction => b"portcullis-recording/v1 redaction\0",
        }
    }

    /// The bytes that are signed.
    pub(crate) fn message(self, statement: &[u8]) -> Vec<u8> {
        [self.prefix(), statement].concat()
    }
}

/// Whether `signature` is the strict Ed25519 signature (FORMAT.md section 4.2) of a statement by `key`.
pub(crate) fn signed_by(key: &[u8; 32], domain: Domain, statement: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    verify_strict(key, &domain.message(statement), signature)
}

/// Strict verification: canonical encodings only, no key or commitment of small order.
pub(crate) fn verify_strict(key: &[u8; 32], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// Splits a signed frame's content into statement and signature.
pub(crate) fn split_signature(content: &[u8]) -> Option<(&[u8], &[u8; SIGNATURE_BYTES])> {
    content.split_last_chunk::<SIGNATURE_BYTES>()
}

/// The private key of one chunk. Wiped when dropped: that is the forward security of FORMAT.md section 4.3.
pub(crate) struct EpochKey(SigningKey);

impl EpochKey {
    pub(crate) fn generate(entropy: &mut Entropy) -> EpochKey {
        let mut seed = Zeroizing::new([0u8; 32]);
        entropy(&mut seed);
        EpochKey(SigningKey::from_bytes(&seed))
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, domain: Domain, statement: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&domain.message(statement)).to_bytes()
    }

    /// The salt of this epoch's chunk (FORMAT.md section 5.4): nobody can guess it who did not have the key, and that is
    /// wiped with the leaf.
    pub(crate) fn salt(&self) -> [u8; SALT_BYTES] {
        let mut hash = Sha256::new_with_prefix(SALT_PREFIX);
        hash.update(Zeroizing::new(self.0.to_bytes()));
        let digest: [u8; 32] = hash.finalize().into();
        let mut salt = [0; SALT_BYTES];
        for (to, from) in salt.iter_mut().zip(digest) {
            *to = from;
        }
        salt
    }

    /// The statement with its signature behind it, as frames carry it.
    pub(crate) fn signed(&self, domain: Domain, statement: Vec<u8>) -> Vec<u8> {
        let signature = self.sign(domain, &statement);
        let mut content = statement;
        content.extend_from_slice(&signature);
        content
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_order_keys_and_foreign_domains_are_refused() {
        let key = EpochKey::generate(&mut (Box::new(|b: &mut [u8; 32]| *b = [7; 32]) as Entropy));
        let signature = key.sign(Domain::Leaf, b"x");
        assert!(signed_by(&key.public(), Domain::Leaf, b"x", &signature));
        assert!(!signed_by(&key.public(), Domain::Seal, b"x", &signature));
        // The neutral element as key and commitment with S = 0 verifies loosely for every message.
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        let mut forged = [0u8; 64];
        forged[0] = 1;
        assert!(!signed_by(&neutral, Domain::Leaf, b"anything", &forged));
        // S + L is not canonical.
        let order: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut malleable = signature;
        let mut carry = 0u16;
        for (s, l) in malleable[32..].iter_mut().zip(order) {
            carry += u16::from(*s) + u16::from(l);
            *s = carry as u8;
            carry >>= 8;
        }
        assert!(!signed_by(&key.public(), Domain::Leaf, b"x", &malleable));
    }
}
