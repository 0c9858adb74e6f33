//! A redactor's private key: an Ed25519 key as `ssh-keygen -t ed25519` makes it, without a passphrase.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::files::read_bounded;

/// Bytes of a key file.
const KEY_BYTES_MAX: usize = 16 << 10;
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// What the blob begins with (OpenSSH PROTOCOL.key).
const MAGIC: &[u8] = b"openssh-key-v1\0";
const TYPE: &[u8] = b"ssh-ed25519";

/// The key.
pub struct RedactorKey(SigningKey);

impl RedactorKey {
    /// Reads it.
    pub fn read(path: &Path) -> Result<RedactorKey, Failure> {
        let shown = path.display().to_string();
        let bytes = read_bounded(path, KEY_BYTES_MAX).map_err(|e| Failure::io(&format!("key {shown}"), &e))?;
        let bytes = Zeroizing::new(bytes);
        parse(&bytes).map_err(|why| {
            Failure::new(Exit::Failed, format!("key {shown}: {why}")).hint(
                "make one with `ssh-keygen -t ed25519 -N '' -f FILE`, and keep it where only the redactor can read it",
            )
        })
    }

    /// Its public part.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs.
    pub fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.0.sign(statement).to_bytes()
    }
}

fn parse(file: &[u8]) -> Result<RedactorKey, &'static str> {
    let no_key = "not an OpenSSH private key";
    let text = std::str::from_utf8(file).map_err(|_| no_key)?.trim();
    let body = text
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or(no_key)?;
    let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let blob = Zeroizing::new(BASE64.decode(body.as_bytes()).map_err(|_| no_key)?);
    let mut blob = Wire(blob.strip_prefix(MAGIC).ok_or(no_key)?);
    let (cipher, kdf, _) = (blob.string(), blob.string(), blob.string());
    if (cipher, kdf) != (Some(b"none"), Some(b"none")) {
        return Err("it has a passphrase, which is not asked for; `ssh-keygen -p` takes it off a copy");
    }
    if blob.number() != Some(1) {
        return Err("not one key");
    }
    let (_public, private) = (blob.string(), blob.string());
    let mut private = Wire(private.ok_or(no_key)?);
    if private.number().is_none_or(|check| private.number() != Some(check)) {
        return Err(no_key);
    }
    if private.string() != Some(TYPE) {
        return Err("not an Ed25519 key");
    }
    let (public, pair) = (private.string(), private.string());
    // The seed, and the public key once more.
    let (seed, again) = pair.and_then(|pair| pair.split_first_chunk::<32>()).ok_or(no_key)?;
    let key = SigningKey::from_bytes(seed);
    if public != Some(key.verifying_key().as_bytes()) || again != key.verifying_key().as_bytes() {
        return Err("its two halves are not of one key");
    }
    Ok(RedactorKey(key))
}

/// The wire's numbers and strings (RFC 4251 section 5).
struct Wire<'w>(&'w [u8]);

impl<'w> Wire<'w> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'w [u8]> {
        let len = self.number()? as usize;
        let (string, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ssh-keygen -t ed25519 -N ''` writes it.
    fn openssh(seed: [u8; 32], cipher: &[u8]) -> String {
        fn string(out: &mut Vec<u8>, bytes: &[u8]) {
            out.extend((bytes.len() as u32).to_be_bytes());
            out.extend(bytes);
        }
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let (mut blob, mut private) = (MAGIC.to_vec(), vec![0, 0, 0, 7, 0, 0, 0, 7]);
        for part in [TYPE, &public, &[seed, public].concat(), b"comment"] {
            string(&mut private, part);
        }
        for part in [cipher, b"none", b""] {
            string(&mut blob, part);
        }
        blob.extend(1u32.to_be_bytes());
        string(&mut blob, b"");
        string(&mut blob, &private);
        format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(blob))
    }

    #[test]
    fn keys_of_openssh_are_read_and_others_refused() {
        let key = parse(openssh([5; 32], b"none").as_bytes()).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(
            key.public(),
            SigningKey::from_bytes(&[5; 32]).verifying_key().to_bytes()
        );
        let why = |file: &str| parse(file.as_bytes()).err();
        assert!(why(&openssh([5; 32], b"aes256-ctr")).is_some_and(|why| why.contains("passphrase")));
        assert_eq!(why("AAAA"), Some("not an OpenSSH private key"));
        let text = openssh([5; 32], b"none");
        for cut in 0..text.find("\n-----END").unwrap_or(0) {
            assert!(why(&format!("{}\n{END}", &text[..cut])).is_some(), "{cut}");
        }
    }
}
