//! Key exchange (RFC 4253, RFC 8731, ed25519 host keys) from either side, and
//! the cipher it leads to (RFC 5647).

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::auth::{public_blob, signature_blob};
use super::peer::{Fault, Peer};
use super::wire::{Get, Put, msg};

/// One direction's cipher.
pub(super) struct Cipher {
    pub(super) key: LessSafeKey,
    nonce: [u8; 12],
}

impl Cipher {
    pub(super) fn new(key: &[u8], iv: &[u8]) -> Cipher {
        Cipher {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes")),
            nonce: iv.try_into().expect("12 bytes"),
        }
    }

    pub(super) fn next(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let (_, counter) = self.nonce.split_at_mut(4);
        let next = u64::from_be_bytes((&*counter).try_into().expect("8 bytes")).wrapping_add(1);
        counter.copy_from_slice(&next.to_be_bytes());
        nonce
    }
}

/// What both sides come to: the shared secret, and the hash over all that was said.
struct Agreed {
    shared: Vec<u8>,
    hash: [u8; 32],
}

/// What was said in an exchange, in the order in which it is hashed.
struct Said<'a> {
    versions: [&'a [u8]; 2],
    kexinits: [&'a [u8]; 2],
    host_key: &'a [u8],
    publics: [&'a [u8]; 2],
}

impl Said<'_> {
    fn hash(&self, shared: &[u8]) -> [u8; 32] {
        let strings = [
            self.versions[0],
            self.versions[1],
            self.kexinits[0],
            self.kexinits[1],
            self.host_key,
            self.publics[0],
            self.publics[1],
        ];
        let put = strings.iter().fold(Put::default(), |put, bytes| put.string(bytes));
        Sha256::digest(put.mpint(shared).done()).into()
    }
}

fn bad(_: Unspecified) -> Fault {
    Fault::Bad("x25519".into())
}

fn short() -> Fault {
    Fault::Bad("short key exchange message".into())
}

fn fresh() -> Result<(EphemeralPrivateKey, Vec<u8>), Fault> {
    let secret = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(bad)?;
    let public = secret.compute_public_key().map_err(bad)?.as_ref().to_vec();
    Ok((secret, public))
}

fn shared(secret: EphemeralPrivateKey, public: &[u8]) -> Result<Vec<u8>, Fault> {
    let public = UnparsedPublicKey::new(&X25519, public);
    agree_ephemeral(secret, public, Unspecified, |shared| Ok(shared.to_vec())).map_err(bad)
}

impl Peer {
    /// A whole key exchange, the first or a later one.
    pub fn exchange(&mut self) -> Result<(), Fault> {
        let ours = self.kexinit();
        self.send(&ours)?;
        let theirs = self.expect(&[msg::KEXINIT])?;
        self.agree(&ours, &theirs)
    }

    /// The rest of one, once both have said what they know.
    pub fn agree(&mut self, ours: &[u8], theirs: &[u8]) -> Result<(), Fault> {
        let agreed = match self.host.clone() {
            None => self.agree_as_client(ours, theirs)?,
            Some(host) => self.agree_as_server(&host, ours, theirs)?,
        };
        if self.session_id.is_empty() {
            self.session_id = agreed.hash.to_vec();
        }
        let derive = |letter: u8| {
            let input = Put::default()
                .mpint(&agreed.shared)
                .raw(&agreed.hash)
                .u8(letter)
                .raw(&self.session_id);
            Sha256::digest(input.done()).to_vec()
        };
        let to_server = Cipher::new(&derive(b'C'), &derive(b'A')[..12]);
        let to_client = Cipher::new(&derive(b'D'), &derive(b'B')[..12]);
        let (seal, open) = match self.host {
            None => (to_server, to_client),
            Some(_) => (to_client, to_server),
        };
        self.send(&[msg::NEWKEYS])?;
        self.seal = Some(seal);
        self.expect(&[msg::NEWKEYS])?;
        self.open = Some(open);
        Ok(())
    }

    fn agree_as_client(&mut self, ours: &[u8], theirs: &[u8]) -> Result<Agreed, Fault> {
        let (secret, public) = fresh()?;
        self.send(&Put::message(msg::ECDH_INIT).string(&public).done())?;
        let reply = self.expect(&[msg::ECDH_REPLY])?;
        let mut fields = Get(&reply[1..]);
        let host_key = fields.string().ok_or_else(short)?.to_vec();
        let server_public = fields.string().ok_or_else(short)?.to_vec();
        let signature = fields.string().ok_or_else(short)?.to_vec();
        let shared = shared(secret, &server_public)?;
        let said = Said {
            versions: [self.hello.version.trim_ascii_end(), &self.their_version],
            kexinits: [ours, theirs],
            host_key: &host_key,
            publics: [&public, &server_public],
        };
        let hash = said.hash(&shared);
        check_host(&host_key, &hash, &signature)?;
        self.host_key = host_key;
        Ok(Agreed { shared, hash })
    }

    fn agree_as_server(&mut self, host: &SigningKey, ours: &[u8], theirs: &[u8]) -> Result<Agreed, Fault> {
        let init = self.expect(&[msg::ECDH_INIT])?;
        let client_public = Get(&init[1..]).string().ok_or_else(short)?.to_vec();
        let (secret, public) = fresh()?;
        let shared = shared(secret, &client_public)?;
        let host_key = public_blob(host);
        let said = Said {
            versions: [&self.their_version, self.hello.version.trim_ascii_end()],
            kexinits: [theirs, ours],
            host_key: &host_key,
            publics: [&client_public, &public],
        };
        let hash = said.hash(&shared);
        let reply = Put::message(msg::ECDH_REPLY)
            .string(&host_key)
            .string(&public)
            .string(signature_blob(host, &hash));
        self.send(&reply.done())?;
        Ok(Agreed { shared, hash })
    }

    /// What somebody is who took over the connection, and has no keys.
    pub fn forget_keys(&mut self) {
        (self.seal, self.open) = (None, None);
    }

    /// From the next exchange on, this side has another host key.
    pub fn change_host_key(&mut self, host: SigningKey) {
        self.host = Some(host);
    }
}

/// The host proved its key over this exchange.
fn check_host(blob: &[u8], hash: &[u8], signature: &[u8]) -> Result<(), Fault> {
    let bad = |what: &str| Fault::Bad(format!("host key: {what}"));
    let mut key = Get(blob);
    let mut proof = Get(signature);
    if key.string() != Some(b"ssh-ed25519") || proof.string() != Some(b"ssh-ed25519") {
        return Err(bad("not ssh-ed25519"));
    }
    let key = key
        .string()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| bad("length"))?;
    let proof = proof.string().ok_or_else(|| bad("no signature"))?;
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(hash, &Signature::from_slice(proof)?))
        .map_err(|_| bad("wrong signature"))
}
