//! Certificates as values: what is to be signed, and what a signature makes of it.
//!
//! Pure: no key, clock or randomness in here. A [`Draft`] checks the form of
//! one statement, gives out the bytes to sign, and takes the signature back,
//! so that a key in a file, in an agent or in a token all go the same way.
//!
//! **Time.** Certificates speak whole seconds, grants ms. The end rounds
//! down, so that a certificate never outlives its grant; what is left of the
//! last second is lost. The start rounds down too: rounded up, a certificate
//! made now would be refused until the next full second, by us and by the
//! target. It may thus be up to 999 ms older than its grant, which admits
//! nobody: towards us the grant's own ms decide as well, and towards a
//! target we show it only inside a session. A grant that touches no full
//! second gets no certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;

use russh::keys::signature::{self, Signer};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey, Signature};

use crate::keeper::{AdmissionCertificate, HostCertificate, TargetCertificate};
use crate::kernel::grant::WallMs;
use crate::kernel::id::{Destination, Login};

/// Longest key id, in bytes. OpenSSH takes more; log lines do not.
pub const KEY_ID_BYTES_MAX: usize = 512;
/// Most names in a host certificate.
pub const HOST_NAMES_MAX: usize = 32;
/// Longest name in a host certificate, in bytes (RFC 1035 section 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 255;
/// Most blocks in `source-address`.
pub const SOURCE_BLOCKS_MAX: usize = 64;
/// Smallest RSA key that is certified, in bits.
pub const RSA_BITS_MIN: u32 = 3072;
/// Length of a certificate's nonce, in bytes.
pub const NONCE_BYTES: usize = 32;

/// The extensions that OpenSSH defines for users, all without a value.
pub const USER_EXTENSIONS: [&str; 5] = [
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

/// Why a certificate is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    #[error("a certificate needs a principal: without one it would be good for any")]
    NoPrincipal,
    #[error("`{name}` cannot be a principal: {why}")]
    BadPrincipal { name: String, why: String },
    #[error("{count} names where a host certificate takes at most {HOST_NAMES_MAX}")]
    TooManyNames { count: usize },
    #[error("the time from {after_ms} to {before_ms} ms touches no full second: ask for a longer one")]
    NoTime { after_ms: WallMs, before_ms: WallMs },
    #[error("the end at {before_ms} ms lies beyond what a certificate can say")]
    TooFar { before_ms: WallMs },
    #[error("the key id is {why}")]
    BadKeyId { why: &'static str },
    #[error("`{name}` is not an extension that is ever granted")]
    BadExtension { name: String },
    #[error("`{block}` cannot stand in source-address: {why}")]
    BadSource { block: String, why: &'static str },
    #[error("a key of the kind {kind} is not certified: {why}")]
    BadKey { kind: String, why: &'static str },
    #[error("the certificate cannot be written: {0}")]
    Form(String),
    #[error("the signature is not this authority's: {0}")]
    NotSigned(String),
}

/// One certificate before its signature.
pub struct Draft {
    authority: KeyData,
    nonce: [u8; NONCE_BYTES],
    subject: KeyData,
    serial: u64,
    kind: CertType,
    key_id: String,
    principals: Vec<String>,
    after_secs: u64,
    before_secs: u64,
    source_address: Option<String>,
    extensions: Vec<&'static str>,
}

impl Draft {
    /// A user's certificate towards us.
    ///
    /// # Errors
    /// When its form breaks a rule: see [`CaError`].
    pub fn admission(
        authority: &PublicKey,
        nonce: [u8; NONCE_BYTES],
        asked: AdmissionCertificate,
    ) -> Result<Draft, CaError> {
        asked
            .principal
            .parse::<Destination>()
            .map_err(|why| bad_principal(&asked.principal, why))
            // `login+target` is a way to type it; a certificate says `@`.
            .and_then(|it| match it.to_string() == asked.principal {
                true => Ok(()),
                false => Err(bad_principal(&asked.principal, "say login@target")),
            })?;
        let (after_secs, before_secs) = seconds(asked.valid_after_ms, asked.valid_before_ms)?;
        Ok(Draft {
            authority: authority.key_data().clone(),
            nonce,
            subject: user_key(&asked.public_key)?,
            serial: asked.serial,
            kind: CertType::User,
            key_id: key_id(asked.key_id)?,
            principals: vec![asked.principal],
            after_secs,
            before_secs,
            source_address: source_address(asked.source_address)?,
            extensions: extensions(asked.extensions)?,
        })
    }

    /// Our certificate towards a target; `serial` is for the target's logs.
    ///
    /// # Errors
    /// When its form breaks a rule: see [`CaError`].
    pub fn target(
        authority: &PublicKey,
        nonce: [u8; NONCE_BYTES],
        serial: u64,
        asked: TargetCertificate,
    ) -> Result<Draft, CaError> {
        asked
            .principal
            .parse::<Login>()
            .map_err(|why| bad_principal(&asked.principal, why))?;
        let (after_secs, before_secs) = seconds(asked.valid_after_ms, asked.valid_before_ms)?;
        Ok(Draft {
            authority: authority.key_data().clone(),
            nonce,
            subject: own_key(&asked.public_key)?,
            serial,
            kind: CertType::User,
            key_id: key_id(asked.key_id)?,
            principals: vec![asked.principal],
            after_secs,
            before_secs,
            source_address: source_address(asked.source_address)?,
            extensions: extensions(asked.extensions)?,
        })
    }

    /// One of our own host certificates.
    ///
    /// # Errors
    /// When its form breaks a rule: see [`CaError`].
    pub fn host(
        authority: &PublicKey,
        nonce: [u8; NONCE_BYTES],
        serial: u64,
        asked: HostCertificate,
    ) -> Result<Draft, CaError> {
        let (after_secs, before_secs) = seconds(asked.valid_after_ms, asked.valid_before_ms)?;
        Ok(Draft {
            authority: authority.key_data().clone(),
            nonce,
            subject: own_key(&asked.public_key)?,
            serial,
            kind: CertType::Host,
            key_id: key_id(asked.key_id)?,
            principals: host_names(asked.principals)?,
            after_secs,
            before_secs,
            source_address: None,
            extensions: Vec::new(),
        })
    }

    /// The bytes that the authority signs (PROTOCOL.certkeys: everything up
    /// to and including the signature key).
    ///
    /// # Errors
    /// When the certificate cannot be encoded.
    pub fn to_be_signed(&self) -> Result<Vec<u8>, CaError> {
        // The builder signs while it builds. A signer that only listens gets
        // the bytes; what the builder makes of its empty signature is dropped.
        let listener = Listener {
            authority: self.authority.clone(),
            heard: std::cell::RefCell::new(None),
        };
        let built = self.builder()?.sign(&listener);
        match (listener.heard.into_inner(), built) {
            (Some(bytes), _) => Ok(bytes),
            (None, Err(why)) => Err(CaError::Form(why.to_string())),
            (None, Ok(_)) => Err(CaError::Form("nothing was signed".to_owned())),
        }
    }

    /// The certificate, once its signature is known to be the authority's.
    ///
    /// # Errors
    /// [`CaError::NotSigned`] when the signature does not verify.
    pub fn seal(&self, signature: Signature) -> Result<Certificate, CaError> {
        if signature.algorithm() != self.authority.algorithm() {
            return Err(CaError::NotSigned(format!(
                "it is {}, the key {}",
                signature.algorithm().as_str(),
                self.authority.algorithm().as_str()
            )));
        }
        let speaker = Speaker {
            authority: self.authority.clone(),
            signature,
        };
        let certificate = self
            .builder()?
            .sign(&speaker)
            .map_err(|why| CaError::NotSigned(why.to_string()))?;
        certificate
            .validate_at(self.after_secs, &[self.authority.fingerprint(HashAlg::Sha256)])
            .map_err(|why| CaError::NotSigned(why.to_string()))?;
        Ok(certificate)
    }

    fn builder(&self) -> Result<Builder, CaError> {
        let form = |why: russh::keys::ssh_key::Error| CaError::Form(why.to_string());
        if self.principals.is_empty() {
            return Err(CaError::NoPrincipal);
        }
        let mut builder =
            Builder::new(self.nonce, self.subject.clone(), self.after_secs, self.before_secs).map_err(form)?;
        builder.serial(self.serial).map_err(form)?;
        builder.cert_type(self.kind).map_err(form)?;
        builder.key_id(self.key_id.as_str()).map_err(form)?;
        for principal in &self.principals {
            builder.valid_principal(principal.as_str()).map_err(form)?;
        }
        if let Some(blocks) = &self.source_address {
            builder
                .critical_option("source-address", blocks.as_str())
                .map_err(form)?;
        }
        for extension in &self.extensions {
            builder.extension(*extension, "").map_err(form)?;
        }
        Ok(builder)
    }
}

struct Listener {
    authority: KeyData,
    heard: std::cell::RefCell<Option<Vec<u8>>>,
}

impl Signer<Signature> for Listener {
    fn try_sign(&self, bytes: &[u8]) -> Result<Signature, signature::Error> {
        self.heard.replace(Some(bytes.to_vec()));
        Err(signature::Error::new())
    }
}

impl From<&Listener> for KeyData {
    fn from(listener: &Listener) -> KeyData {
        listener.authority.clone()
    }
}

struct Speaker {
    authority: KeyData,
    signature: Signature,
}

impl Signer<Signature> for Speaker {
    fn try_sign(&self, _: &[u8]) -> Result<Signature, signature::Error> {
        Ok(self.signature.clone())
    }
}

impl From<&Speaker> for KeyData {
    fn from(speaker: &Speaker) -> KeyData {
        speaker.authority.clone()
    }
}

/// Whole seconds of `[after, before)`: both rounded down, see the module.
fn seconds(after_ms: WallMs, before_ms: WallMs) -> Result<(u64, u64), CaError> {
    let (after, before) = (after_ms / 1000, before_ms / 1000);
    if before <= after {
        return Err(CaError::NoTime { after_ms, before_ms });
    }
    // OpenSSH reads these as signed, and all ones as "forever".
    match i64::try_from(before) {
        Ok(_) => Ok((after, before)),
        Err(_) => Err(CaError::TooFar { before_ms }),
    }
}

fn bad_principal(name: &str, why: impl ToString) -> CaError {
    if name.is_empty() {
        return CaError::NoPrincipal;
    }
    CaError::BadPrincipal {
        name: name.chars().take(64).collect(),
        why: why.to_string(),
    }
}

fn host_names(names: Vec<String>) -> Result<Vec<String>, CaError> {
    if names.is_empty() {
        return Err(CaError::NoPrincipal);
    }
    if names.len() > HOST_NAMES_MAX {
        return Err(CaError::TooManyNames { count: names.len() });
    }
    for name in &names {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        if name.is_empty() {
            return Err(CaError::NoPrincipal);
        }
        if name.len() > HOST_NAME_BYTES_MAX {
            return Err(bad_principal(name, "longer than a host name"));
        }
        if !name.bytes().all(plain) {
            let why = "host names and addresses only; a certificate takes no patterns";
            return Err(bad_principal(name, why));
        }
    }
    Ok(names)
}

fn key_id(text: String) -> Result<String, CaError> {
    if text.is_empty() {
        return Err(CaError::BadKeyId { why: "empty" });
    }
    if text.len() > KEY_ID_BYTES_MAX {
        return Err(CaError::BadKeyId {
            why: "longer than 512 bytes",
        });
    }
    // It stands in the target's auth log, where a line break would forge one.
    if text.chars().any(char::is_control) {
        return Err(CaError::BadKeyId {
            why: "not one line of plain text",
        });
    }
    Ok(text)
}

fn extensions(names: Vec<&'static str>) -> Result<Vec<&'static str>, CaError> {
    let known: BTreeSet<&str> = USER_EXTENSIONS.into_iter().collect();
    let mut seen = BTreeSet::new();
    for name in &names {
        if !known.contains(name) || !seen.insert(*name) {
            return Err(CaError::BadExtension {
                name: (*name).to_owned(),
            });
        }
    }
    Ok(names)
}

/// The critical option as OpenSSH reads it: one block that it cannot parse
/// makes it refuse the whole certificate, at the target, hours later.
fn source_address(blocks: Option<String>) -> Result<Option<String>, CaError> {
    let Some(blocks) = blocks else {
        return Ok(None);
    };
    if blocks.split(',').count() > SOURCE_BLOCKS_MAX {
        return Err(CaError::BadSource {
            block: blocks.chars().take(64).collect(),
            why: "more than 64 blocks",
        });
    }
    for block in blocks.split(',') {
        check_block(block).map_err(|why| CaError::BadSource {
            block: block.chars().take(64).collect(),
            why,
        })?;
    }
    Ok(Some(blocks))
}

fn check_block(block: &str) -> Result<(), &'static str> {
    let (addr, prefix) = match block.split_once('/') {
        Some((addr, prefix)) => (addr, Some(prefix)),
        None => (block, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| "it is not ADDR or ADDR/PREFIX")?;
    let bits: u32 = if addr.is_ipv4() { 32 } else { 128 };
    let prefix: u32 = match prefix {
        None => bits,
        Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| "its prefix is no number")?
        }
        Some(_) => return Err("its prefix is no number"),
    };
    let host_bits = bits
        .checked_sub(prefix)
        .ok_or("its prefix is longer than the address")?;
    let host_part = match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = 1u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |top| top.wrapping_sub(1));
    match host_part & mask {
        0 => Ok(()),
        _ => Err("it has host bits set, so OpenSSH would refuse it: say the network's own address"),
    }
}

/// A user's own key: any kind that OpenSSH offers and that is strong enough.
fn user_key(key: &PublicKey) -> Result<KeyData, CaError> {
    let refuse = |why| {
        Err(CaError::BadKey {
            kind: key.algorithm().to_string(),
            why,
        })
    };
    match key.key_data() {
        KeyData::Rsa(rsa) if rsa.key_size() < RSA_BITS_MIN => refuse("RSA needs at least 3072 bits; ed25519 is better"),
        // The gate would not take its certificate (kernel/admit.rs).
        KeyData::Ecdsa(EcdsaPublicKey::NistP521(_)) => refuse("of ECDSA, P-256 and P-384 only; ed25519 is better"),
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::Rsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(key.key_data().clone()),
        KeyData::Certificate(_) => refuse("it is itself a certificate"),
        KeyData::Dsa(_) | KeyData::Other(_) | _ => refuse("use ed25519"),
    }
}

/// A key of ours: always ed25519.
fn own_key(key: &PublicKey) -> Result<KeyData, CaError> {
    match key.algorithm() == Algorithm::Ed25519 {
        true => Ok(key.key_data().clone()),
        false => Err(CaError::BadKey {
            kind: key.algorithm().to_string(),
            why: "our own keys are ed25519",
        }),
    }
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
