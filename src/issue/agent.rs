//! Keys that somebody else holds: an ssh-agent behind a Unix socket.
//!
//! The server then never sees the authorities' private keys. Each signature
//! is a connection of its own, so that an agent that was restarted is simply
//! found again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::{PublicKey, Signature};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::keeper::KeeperError;

/// Longest wait for an answer of the agent, queueing included, in ms. An
/// agent that asks a person to confirm must be quicker than a login is patient.
pub const AGENT_MS_MAX: u64 = 5_000;
/// Most connections to the agent at one time.
pub const AGENT_CONNECTIONS_MAX: usize = 8;

/// One agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
    slots: Arc<Semaphore>,
}

impl Agent {
    /// The agent that listens at `socket`; nothing is connected yet.
    pub fn at(socket: &Path) -> Agent {
        Agent {
            socket: socket.to_owned(),
            slots: Arc::new(Semaphore::new(AGENT_CONNECTIONS_MAX)),
        }
    }

    /// Whether it holds the private half of `key`.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] when it does not, or does not answer.
    pub async fn holds(&self, name: &'static str, key: &PublicKey) -> Result<(), KeeperError> {
        let listed = self
            .within(name, async {
                let mut client = self.connect().await?;
                client.request_identities().await.map_err(said)
            })
            .await?;
        let same = |it: &AgentIdentity| match it {
            AgentIdentity::PublicKey { key: held, .. } => held.key_data() == key.key_data(),
            AgentIdentity::Certificate { .. } => false,
        };
        match listed.iter().any(same) {
            true => Ok(()),
            false => Err(self.lost(
                name,
                format!("it does not hold that key: `ssh-add` the private key of {name} there"),
            )),
        }
    }

    /// Lets the agent sign `bytes` by the private half of `key`.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] when it does not answer, is locked, does
    /// not hold the key, or its user says no: the agent does not tell which.
    pub async fn sign(&self, name: &'static str, key: &PublicKey, bytes: &[u8]) -> Result<Signature, KeeperError> {
        self.within(name, async {
            let mut client = self.connect().await?;
            client
                .sign_request_signature(key, None, bytes)
                .await
                .map_err(|_| "it refused: it is locked, does not hold the key, or was told no".to_owned())
        })
        .await
    }

    async fn connect(&self) -> Result<AgentClient<UnixStream>, String> {
        AgentClient::connect_uds(&self.socket).await.map_err(said)
    }

    async fn within<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, KeeperError> {
        let bounded = timeout(Duration::from_millis(AGENT_MS_MAX), async {
            let _slot = self.slots.acquire().await.map_err(|why| why.to_string())?;
            work.await
        });
        match bounded.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(why)) => Err(self.lost(name, why)),
            Err(_) => Err(self.lost(name, format!("no answer within {AGENT_MS_MAX} ms"))),
        }
    }

    fn lost(&self, key: &'static str, why: String) -> KeeperError {
        KeeperError::Unavailable {
            key,
            why: format!("ssh-agent at {}: {why}", self.socket.display()),
        }
    }
}

fn said(why: russh::keys::Error) -> String {
    why.to_string()
}
