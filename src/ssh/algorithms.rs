//! Which algorithms we offer, on both legs.
//!
//! Strict key exchange always; hybrid post-quantum first; AEAD ciphers only,
//! so that no MAC is negotiated; no compression; no SHA-1 anywhere.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

/// Which key exchanges we offer, to clients and to targets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyExchange {
    /// ML-KEM first; X25519 for who is without it.
    #[default]
    Default,
    /// ML-KEM only.
    PostQuantumOnly,
}

// Leaving the pseudo names out of a custom list would silently disable
// strict key exchange (CVE-2023-48795) and extension negotiation.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const KEX_PQ: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];
/// Of host keys that an authority vouches for: no NIST curves. Where one is
/// pinned, somebody chose it.
const CERTIFIED: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];
const COMPRESSION: &[compression::Name] = &[compression::NONE];

impl KeyExchange {
    fn names(self) -> Cow<'static, [kex::Name]> {
        Cow::Borrowed(match self {
            KeyExchange::Default => KEX,
            KeyExchange::PostQuantumOnly => KEX_PQ,
        })
    }
}

/// What our server offers to clients.
pub fn server(kex: KeyExchange) -> Preferred {
    Preferred {
        kex: kex.names(),
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_GCM]),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
    }
}

/// What we offer to targets: AES-128-GCM first, the cheapest on this leg.
/// `key` is the pinned key's algorithm, so that the target proves that one;
/// with a host CA it is the kinds of certificate we accept.
pub fn client(kex: KeyExchange, pinned: Option<Algorithm>) -> Preferred {
    let (keys, certificates) = match pinned {
        Some(Algorithm::Rsa { .. }) => (
            vec![
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha512),
                },
                Algorithm::Rsa {
                    hash: Some(HashAlg::Sha256),
                },
            ],
            Vec::new(),
        ),
        Some(algorithm) => (vec![algorithm], Vec::new()),
        None => (CERTIFIED.to_vec(), CERTIFIED.to_vec()),
    };
    Preferred {
        kex: kex.names(),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates),
        cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305]),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(COMPRESSION),
    }
}

/// What we offer to a host whose key we only look at: any kind, never a
/// certificate in its place.
pub fn scan() -> Preferred {
    Preferred {
        key: Cow::Borrowed(KEYS),
        host_key_certificates: Cow::Borrowed(&[]),
        ..client(KeyExchange::Default, None)
    }
}
