//! OpenSSH certificates (PROTOCOL.certkeys), field by field, sound or not.

use ed25519_dalek::SigningKey;

use super::auth::{ED25519_CERT, public_blob, signature_blob};
use super::wire::Put;

/// A user certificate, of an ed25519 key if nothing else is said; every field may be set to nonsense.
#[derive(Clone, Debug)]
pub struct Cert {
    pub algorithm: String,
    pub nonce: Vec<u8>,
    pub public: Vec<u8>,
    /// Instead of `public`: the fields of another kind of key, as they stand.
    pub fields: Option<Vec<u8>>,
    pub serial: u64,
    pub kind: u32,
    pub key_id: Vec<u8>,
    pub principals: Vec<Vec<u8>>,
    pub after: u64,
    pub before: u64,
    /// Name and the content of the data string.
    pub critical: Vec<(Vec<u8>, Vec<u8>)>,
    pub extensions: Vec<(Vec<u8>, Vec<u8>)>,
    pub reserved: Vec<u8>,
    /// Instead of the signing CA's public key.
    pub ca: Option<Vec<u8>>,
    /// After the signature.
    pub trailing: Vec<u8>,
}

impl Cert {
    /// A sound one.
    pub fn new(key: &SigningKey, principal: &str, serial: u64, after: u64, before: u64) -> Cert {
        Cert {
            algorithm: ED25519_CERT.into(),
            nonce: vec![7; 32],
            public: key.verifying_key().as_bytes().to_vec(),
            fields: None,
            serial,
            kind: 1,
            key_id: b"raw".to_vec(),
            principals: vec![principal.as_bytes().to_vec()],
            after,
            before,
            critical: Vec::new(),
            extensions: vec![(b"permit-pty".to_vec(), Vec::new())],
            reserved: Vec::new(),
            ca: None,
            trailing: Vec::new(),
        }
    }

    /// What the CA signs.
    fn body(&self, ca: &[u8]) -> Vec<u8> {
        let principals = self
            .principals
            .iter()
            .fold(Put::default(), |put, name| put.string(name));
        let options = |list: &[(Vec<u8>, Vec<u8>)]| {
            list.iter()
                .fold(Put::default(), |put, (name, data)| put.string(name).string(data))
                .done()
        };
        let ed25519 = || Put::default().string(&self.public).done();
        let subject = self.fields.clone().unwrap_or_else(ed25519);
        Put::default()
            .string(&self.algorithm)
            .string(&self.nonce)
            .raw(&subject)
            .u64(self.serial)
            .u32(self.kind)
            .string(&self.key_id)
            .string(principals.done())
            .u64(self.after)
            .u64(self.before)
            .string(options(&self.critical))
            .string(options(&self.extensions))
            .string(&self.reserved)
            .string(ca)
            .done()
    }

    /// The blob, signed by `ca`.
    pub fn sign(&self, ca: &SigningKey) -> Vec<u8> {
        let ca_blob = self.ca.clone().unwrap_or_else(|| public_blob(ca));
        let body = self.body(&ca_blob);
        let signature = signature_blob(ca, &body);
        Put(body).string(signature).raw(&self.trailing).done()
    }

    /// With a critical option that carries one string.
    pub fn option(mut self, name: &str, value: &str) -> Cert {
        self.critical.push((name.into(), Put::default().string(value).done()));
        self
    }
}

/// A certificate file's line for OpenSSH's own programs.
pub fn line(algorithm: &str, blob: &[u8]) -> String {
    format!("{algorithm} {} raw\n", base64(blob))
}

/// Base 64 with padding (RFC 4648 section 4).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[(word >> (18 - 6 * digit)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

/// The blob of the second word of a key or certificate file's line.
pub fn blob_of(line: &str) -> Option<Vec<u8>> {
    let text = line.split_ascii_whitespace().nth(1)?;
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0u32, 0);
    for digit in text.bytes().take_while(|digit| *digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
        }
    }
    Some(bytes)
}
