//! The person's ssh-agent (draft-ietf-sshm-ssh-agent): its keys prove who
//! calls, and it holds the keys that we make, until their grant ends.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey, Signature};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Longest wait for an answer that needs nobody, in ms.
pub const AGENT_MS_MAX: u64 = 5_000;
/// Longest wait for a signature, in ms: somebody may have to touch a key.
pub const SIGN_MS_MAX: u64 = 60_000;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u32 = 256 * 1024;
/// Room for one message with a key, in bytes, so that none is moved and left behind.
const MESSAGE_BYTES: usize = 16 * 1024;

const SUCCESS: u8 = 6;
const REMOVE_IDENTITY: u8 = 18;
const ADD_ID_CONSTRAINED: u8 = 25;
const CONSTRAIN_LIFETIME: u8 = 1;
const CONSTRAIN_CONFIRM: u8 = 2;

/// Why the agent did not do it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(
        "there is no ssh-agent (SSH_AUTH_SOCK is not set): start one with `eval $(ssh-agent)`, or name a key file with --key FILE"
    )]
    None,
    #[error("ssh-agent at {socket} does not answer: {why}; start one with `eval $(ssh-agent)`")]
    Unreachable { socket: String, why: String },
    #[error("ssh-agent at {0} shows no key: add yours with `ssh-add`, or unlock the agent with `ssh-add -X`")]
    Empty(String),
    #[error("ssh-agent does not hold the key {0}: add it with `ssh-add`")]
    NotThere(String),
    #[error(
        "ssh-agent would not sign by {0}: it is locked (`ssh-add -X`), its user said no, or the hardware key was not touched"
    )]
    WouldNotSign(String),
    #[error("ssh-agent would not take the key: it is locked (`ssh-add -X`), or it knows no lifetimes")]
    WouldNotTake,
}

/// What an added key is bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// Seconds until the agent forgets it.
    pub secs: u32,
    /// The agent asks before each use (`ssh-add -c`).
    pub confirm: bool,
    /// What `ssh-add -l` shows.
    pub comment: String,
}

/// One agent. Each call is a connection of its own. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent that listens at `socket`; nothing is connected yet.
    pub fn at(socket: impl Into<PathBuf>) -> Agent {
        Agent { socket: socket.into() }
    }

    /// The one that SSH_AUTH_SOCK names.
    ///
    /// # Errors
    /// [`AgentError::None`].
    pub fn from_env() -> Result<Agent, AgentError> {
        match std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
            Some(path) => Ok(Agent::at(path)),
            None => Err(AgentError::None),
        }
    }

    fn name(&self) -> String {
        self.socket.display().to_string()
    }

    fn unreachable(&self, why: impl ToString) -> AgentError {
        AgentError::Unreachable {
            socket: self.name(),
            why: why.to_string(),
        }
    }

    /// Its keys, without certificates, in its order.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`]; [`AgentError::Empty`] when it shows none.
    pub async fn keys(&self) -> Result<Vec<PublicKey>, AgentError> {
        let listing = async {
            let mut client = AgentClient::connect_uds(&self.socket).await?;
            client.request_identities().await
        };
        let listed = timeout(Duration::from_millis(AGENT_MS_MAX), listing)
            .await
            .map_err(|_| self.unreachable(format!("nothing within {AGENT_MS_MAX} ms")))?
            .map_err(|error| self.unreachable(error))?;
        let keys: Vec<PublicKey> = listed
            .into_iter()
            .filter_map(|held| match held {
                AgentIdentity::PublicKey { mut key, comment } => {
                    key.set_comment(comment);
                    Some(key)
                }
                AgentIdentity::Certificate { .. } => None,
            })
            .collect();
        match keys.is_empty() {
            true => Err(AgentError::Empty(self.name())),
            false => Ok(keys),
        }
    }

    /// Whether it holds the private half of `key` by itself.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`].
    pub async fn holds(&self, key: &PublicKey) -> Result<bool, AgentError> {
        match self.keys().await {
            Ok(keys) => Ok(keys.iter().any(|held| held.key_data() == key.key_data())),
            Err(AgentError::Empty(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A signature by the private half of `key`, RSA with SHA-512.
    ///
    /// # Errors
    /// [`AgentError::WouldNotSign`]: an agent does not tell why.
    pub async fn sign(&self, key: &PublicKey, bytes: &[u8]) -> Result<Signature, AgentError> {
        let refused = || AgentError::WouldNotSign(key.fingerprint(HashAlg::Sha256).to_string());
        let signing = async {
            let mut client = AgentClient::connect_uds(&self.socket)
                .await
                .map_err(|error| self.unreachable(error))?;
            client
                .sign_request_signature(key, Some(HashAlg::Sha512), bytes)
                .await
                .map_err(|_| refused())
        };
        timeout(Duration::from_millis(SIGN_MS_MAX), signing)
            .await
            .map_err(|_| refused())?
    }

    /// Gives it a key and the certificate for it, both for `life`.
    ///
    /// # Errors
    /// [`AgentError::WouldNotTake`]; it may hold the key without its
    /// certificate then, which opens nothing, and forgets it in time.
    pub async fn add(&self, key: &Ed25519Keypair, certificate: &Certificate, life: &Life) -> Result<(), AgentError> {
        let broken = |error: &dyn std::fmt::Display| self.unreachable(error);
        let alone = key_message(key, None, life).map_err(|error| broken(&error))?;
        let blob = certificate.to_bytes().map_err(|error| broken(&error))?;
        let certified = key_message(key, Some(&blob), life).map_err(|error| broken(&error))?;
        for message in [alone, certified] {
            if !self.succeeds(&message).await? {
                return Err(AgentError::WouldNotTake);
            }
        }
        Ok(())
    }

    /// Makes it forget a key and the certificate for it. What it does not
    /// hold is no error.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`].
    pub async fn remove(&self, key: &PublicKey, certificate: Option<&Certificate>) -> Result<(), AgentError> {
        let mut blobs = vec![key.to_bytes().map_err(|error| self.unreachable(error))?];
        if let Some(certificate) = certificate {
            blobs.push(certificate.to_bytes().map_err(|error| self.unreachable(error))?);
        }
        for blob in blobs {
            let mut message = vec![REMOVE_IDENTITY];
            blob.encode(&mut message).map_err(|error| self.unreachable(error))?;
            // A failure says that it was not there.
            self.succeeds(&message).await?;
        }
        Ok(())
    }

    /// Sends one message; whether the answer is success.
    async fn succeeds(&self, message: &[u8]) -> Result<bool, AgentError> {
        let exchange = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            let length = u32::try_from(message.len()).map_err(|_| io::Error::other("the message is too long"))?;
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(message).await?;
            match stream.read_u32().await? {
                1..=ANSWER_BYTES_MAX => stream.read_u8().await,
                _ => Err(io::Error::other("its answer has no sensible length")),
            }
        };
        timeout(Duration::from_millis(AGENT_MS_MAX), exchange)
            .await
            .map_err(|_| self.unreachable(format!("nothing within {AGENT_MS_MAX} ms")))?
            .map(|answer| answer == SUCCESS)
            .map_err(|error| self.unreachable(error))
    }
}

/// `SSH_AGENTC_ADD_ID_CONSTRAINED` for a key alone, or with its certificate,
/// which then stands before the key's own fields.
fn key_message(
    key: &Ed25519Keypair,
    certificate: Option<&[u8]>,
    life: &Life,
) -> Result<Zeroizing<Vec<u8>>, russh::keys::ssh_encoding::Error> {
    let mut message = Zeroizing::new(Vec::with_capacity(MESSAGE_BYTES));
    message.push(ADD_ID_CONSTRAINED);
    match certificate {
        None => Algorithm::Ed25519.as_str().encode(&mut *message)?,
        Some(certificate) => {
            Algorithm::Ed25519.to_certificate_type().encode(&mut *message)?;
            certificate.encode(&mut *message)?;
        }
    }
    key.encode(&mut *message)?;
    life.comment.encode(&mut *message)?;
    message.push(CONSTRAIN_LIFETIME);
    life.secs.encode(&mut *message)?;
    if life.confirm {
        message.push(CONSTRAIN_CONFIRM);
    }
    Ok(message)
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
