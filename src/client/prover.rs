//! A key that can prove who calls: one that the agent holds, or a file for
//! machines without an agent.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use russh::keys::signature::Signer;
use russh::keys::ssh_key::{Algorithm, Fingerprint, HashAlg, PrivateKey, PublicKey};

use super::agent::{Agent, AgentError};
use crate::api::wire::access::{CHALLENGE_NAMESPACE, SignedChallenge};
use crate::durable;
use crate::issue::sshsig::{self, SshSigError};

/// Longest key file that is read, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most keys of an agent that are tried: each is a call to the server.
pub const KEYS_TRIED_MAX: usize = 6;
/// The bits of a mode that let group or world in.
const OTHERS: u32 = 0o077;

/// Why nothing can be proved, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("cannot use the key {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("the key {} may be read by others (mode {mode:04o}): `chmod 600` it, and replace it if others had access", path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "the agent does not hold {0}, the key of your last login: `ssh-add` it, or log in with another one: portcullis login --key FILE"
    )]
    Gone(String),
    #[error("the key did not make a signature that counts: {0}")]
    Signature(#[from] SshSigError),
}

/// One key that signs challenges.
pub enum Prover {
    /// By an agent; hardware keys too.
    Agent(Agent, PublicKey),
    /// By ourselves.
    File(PathBuf, Box<PrivateKey>),
}

/// Which key is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// Any that the agent holds.
    Any,
    /// This one of the agent.
    Held(Fingerprint),
    /// The one in this file: a private key, or a public one that the agent holds.
    File(PathBuf),
}

impl Prover {
    /// The keys that may be meant, most likely ones first: those in software
    /// sign without a person's hand.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn candidates(which: &Which) -> Result<Vec<Prover>, ProverError> {
        match which {
            Which::Any => {
                let agent = Agent::from_env()?;
                let mut keys = agent.keys().await?;
                keys.sort_by_key(hardware);
                keys.truncate(KEYS_TRIED_MAX);
                Ok(keys.into_iter().map(|key| Prover::Agent(agent.clone(), key)).collect())
            }
            Which::Held(fingerprint) => {
                let agent = Agent::from_env()?;
                let mut keys = agent.keys().await?.into_iter();
                match keys.find(|key| key.fingerprint(fingerprint.algorithm()) == *fingerprint) {
                    Some(key) => Ok(vec![Prover::Agent(agent, key)]),
                    None => Err(ProverError::Gone(fingerprint.to_string())),
                }
            }
            Which::File(path) => Ok(vec![from_file(path).await?]),
        }
    }

    /// How to find it again.
    pub fn which(&self) -> Which {
        match self {
            Prover::Agent(_, key) => Which::Held(key.fingerprint(HashAlg::Sha256)),
            Prover::File(path, _) => Which::File(path.clone()),
        }
    }

    /// Whether somebody has to touch something for each signature.
    pub fn needs_a_hand(&self) -> bool {
        match self {
            Prover::Agent(_, key) => hardware(key),
            Prover::File(..) => false,
        }
    }

    /// For messages: the key's fingerprint, and where it is.
    pub fn name(&self) -> String {
        match self {
            Prover::Agent(_, key) => format!("{} {}", key.fingerprint(HashAlg::Sha256), key.comment()),
            Prover::File(path, _) => path.display().to_string(),
        }
    }

    /// Signs what the server gave.
    ///
    /// # Errors
    /// When the key or its agent does not.
    pub async fn sign(&self, challenge: String) -> Result<SignedChallenge, ProverError> {
        let signature = self.sign_text(CHALLENGE_NAMESPACE, &challenge).await?;
        Ok(SignedChallenge { challenge, signature })
    }

    /// Signs a text under a namespace of its own (PROTOCOL.sshsig); armored.
    ///
    /// # Errors
    /// When the key or its agent does not.
    pub async fn sign_text(&self, namespace: &str, text: &str) -> Result<String, ProverError> {
        let bytes = sshsig::to_be_signed(namespace, text.as_bytes())?;
        let (key, signature) = match self {
            Prover::Agent(agent, key) => (key, agent.sign(key, &bytes).await?),
            Prover::File(path, key) => {
                let signature = key.try_sign(&bytes).map_err(|error| at(path, error))?;
                (key.public_key(), signature)
            }
        };
        let signature = sshsig::armored(key, namespace, signature)?;
        // What the server would refuse is told here, where it can be mended.
        sshsig::verify(&signature, namespace, text.as_bytes())?;
        Ok(signature)
    }
}

fn hardware(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256)
}

fn at(path: &Path, why: impl ToString) -> ProverError {
    ProverError::File {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

async fn from_file(path: &Path) -> Result<Prover, ProverError> {
    // A key file may be a link to where it is kept; what it leads to is checked.
    let kept = std::fs::canonicalize(path).map_err(|error| at(path, error))?;
    let bytes = durable::read_bounded(&kept, KEY_FILE_BYTES_MAX).map_err(|error| at(path, error))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    let public = match PrivateKey::from_openssh(&*bytes) {
        Ok(key) if !key.is_encrypted() => {
            closed(path).map_err(|error| at(path, error))??;
            return Ok(Prover::File(path.to_owned(), Box::new(key)));
        }
        // Its passphrase was typed into the agent, if it was.
        Ok(key) => key.public_key().clone(),
        Err(_) => {
            let text = std::str::from_utf8(&bytes).map_err(|_| at(path, "it is no OpenSSH key"))?;
            PublicKey::from_openssh(text.trim())
                .map_err(|_| at(path, "it is neither an OpenSSH private key nor a public one"))?
        }
    };
    let agent = Agent::from_env()?;
    match agent.holds(&public).await? {
        true => Ok(Prover::Agent(agent, public)),
        false => Err(AgentError::NotThere(path.display().to_string()).into()),
    }
}

/// Whether only its owner can read it.
fn closed(path: &Path) -> io::Result<Result<(), ProverError>> {
    let mode = std::fs::metadata(path)?.mode();
    Ok(match mode & OTHERS {
        0 => Ok(()),
        _ => Err(ProverError::OpenToOthers {
            path: path.to_owned(),
            mode: mode & 0o7777,
        }),
    })
}
