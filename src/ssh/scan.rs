//! Looking at a host's key without trusting it: connects, notes the key,
//! hangs up before authenticating.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Handler};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use tokio::net::TcpStream;

use super::algorithms;

/// Why a host's key was not seen.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("cannot connect to {addr}: {error}")]
    Connect { addr: String, error: std::io::Error },
    #[error("{addr} did not show a host key within {secs} s")]
    Late { addr: String, secs: u64 },
    #[error("{addr} does not speak SSH as it should: {why}")]
    Protocol { addr: String, why: String },
}

/// Notes the key and refuses it, so that nothing else is ever sent.
struct Eye(Arc<Mutex<Option<PublicKey>>>);

impl Handler for Eye {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.public_key());
        Ok(false)
    }
}

/// The key that the SSH server at `addr` (`HOST:PORT`) shows.
///
/// # Errors
/// Nobody there, too slow, or not SSH.
pub async fn host_key(addr: &str, within: Duration) -> Result<PublicKey, ScanError> {
    let seen = Arc::new(Mutex::new(None));
    let looking = look(addr, Eye(seen.clone()));
    let ended = tokio::time::timeout(within, looking).await;
    // The refusal ends the connection with an error; the key was seen all the same.
    if let Some(key) = seen.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Ok(key);
    }
    match ended {
        Ok(Ok(())) => Err(ScanError::Protocol {
            addr: addr.to_owned(),
            why: "no host key".to_owned(),
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ScanError::Late {
            addr: addr.to_owned(),
            secs: within.as_secs(),
        }),
    }
}

async fn look(addr: &str, eye: Eye) -> Result<(), ScanError> {
    let stream = TcpStream::connect(addr).await.map_err(|error| ScanError::Connect {
        addr: addr.to_owned(),
        error,
    })?;
    let config = client::Config {
        preferred: algorithms::scan(),
        ..client::Config::default()
    };
    client::connect_stream(Arc::new(config), stream, eye)
        .await
        .map(drop)
        .map_err(|error| ScanError::Protocol {
            addr: addr.to_owned(),
            why: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::server;

    struct Host;

    impl server::Handler for Host {
        type Error = russh::Error;
    }

    #[tokio::test]
    async fn sees_the_key_that_is_shown() {
        let key = russh::keys::PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[4; 32]));
        let public = key.public_key().clone();
        let config = Arc::new(server::Config {
            keys: vec![key],
            ..Default::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let running = server::run_stream(config, stream, Host).await.unwrap();
            running.await.ok();
        });
        let seen = host_key(&addr, Duration::from_secs(10)).await.unwrap();
        assert_eq!(seen.key_data(), public.key_data());
    }

    #[tokio::test]
    async fn says_when_there_is_none() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let silent = host_key(&addr, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(ScanError::Late { .. })), "{silent:?}");
        drop(listener);
        let nobody = host_key(&addr, Duration::from_secs(5)).await;
        assert!(matches!(nobody, Err(ScanError::Connect { .. })), "{nobody:?}");
    }
}
