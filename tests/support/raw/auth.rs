//! User authentication (RFC 4252), one request at a time.

use ed25519_dalek::{Signer, SigningKey};

use super::peer::{Fault, Peer};
use super::wire::{Get, Put, msg};

/// What a server answered to an authentication request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Success,
    Failure {
        methods: String,
        partial: bool,
    },
    /// The key would do, if signed with.
    KeyOk,
    /// The connection ended instead.
    Closed,
}

/// The public key blob of an ed25519 key.
pub fn public_blob(key: &SigningKey) -> Vec<u8> {
    Put::default()
        .string("ssh-ed25519")
        .string(key.verifying_key().as_bytes())
        .done()
}

/// An ed25519 signature blob.
pub fn signature_blob(key: &SigningKey, data: &[u8]) -> Vec<u8> {
    Put::default()
        .string("ssh-ed25519")
        .string(key.sign(data).to_bytes())
        .done()
}

pub const ED25519: &str = "ssh-ed25519";
pub const ED25519_CERT: &str = "ssh-ed25519-cert-v01@openssh.com";

/// A publickey request up to, not including, the signature.
pub fn request(user: &str, signed: bool, algorithm: &str, blob: &[u8]) -> Put {
    Put::message(msg::USERAUTH_REQUEST)
        .string(user)
        .string("ssh-connection")
        .string("publickey")
        .bool(signed)
        .string(algorithm)
        .string(blob)
}

impl Peer {
    /// Asks for the user authentication service.
    pub fn service(&mut self) -> Result<(), Fault> {
        self.send(&Put::message(msg::SERVICE_REQUEST).string("ssh-userauth").done())?;
        self.expect(&[msg::SERVICE_ACCEPT]).map(drop)
    }

    pub fn answer(&mut self) -> Result<Answer, Fault> {
        let packet = match self.expect(&[msg::USERAUTH_SUCCESS, msg::USERAUTH_FAILURE, msg::USERAUTH_PK_OK]) {
            Ok(packet) => packet,
            Err(Fault::Closed) => return Ok(Answer::Closed),
            Err(fault) => return Err(fault),
        };
        let mut fields = Get(&packet[1..]);
        Ok(match packet[0] {
            msg::USERAUTH_SUCCESS => Answer::Success,
            msg::USERAUTH_PK_OK => Answer::KeyOk,
            _ => Answer::Failure {
                methods: fields.text().unwrap_or_default(),
                partial: fields.u8().unwrap_or(0) != 0,
            },
        })
    }

    /// Whether a key or certificate would do.
    pub fn offer(&mut self, user: &str, algorithm: &str, blob: &[u8]) -> Result<Answer, Fault> {
        self.send(&request(user, false, algorithm, blob).done())?;
        self.answer()
    }

    /// A signed request; `signer` makes the signature blob over the data.
    pub fn prove(
        &mut self,
        user: &str,
        algorithm: &str,
        blob: &[u8],
        signer: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> Result<Answer, Fault> {
        let body = request(user, true, algorithm, blob).done();
        let data = Put::default().string(&self.session_id).raw(&body).done();
        let signature = signer(&data);
        self.send(&Put(body).string(signature).done())?;
        self.answer()
    }

    /// Logs in with an ed25519 certificate.
    pub fn certificate(&mut self, user: &str, blob: &[u8], key: &SigningKey) -> Result<Answer, Fault> {
        self.prove(user, ED25519_CERT, blob, |data| signature_blob(key, data))
    }
}
