//! The other end of the API: what the command line speaks through.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::problem::Problem;

/// Time to reach the server, in ms.
pub const CONNECT_MS_MAX: u64 = 2_000;
/// Time for a whole answer, in ms: longer than a revocation waits for sessions.
pub const ANSWER_MS_MAX: u64 = 30_000;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("no server answers at {socket}: {error}", socket = socket.display())]
    Unreachable { socket: PathBuf, error: io::Error },
    /// The server took longer than it may.
    #[error("the server did not answer within {ANSWER_MS_MAX} ms")]
    Late,
    /// The server refused, and said why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// What came back is not an answer of this version.
    #[error("the server's answer cannot be read: {0}")]
    Unreadable(String),
}

/// One server's API, by its socket. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct ApiClient {
    socket: PathBuf,
}

impl ApiClient {
    /// The API at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> ApiClient {
        ApiClient { socket: socket.into() }
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        let bytes = self.bounded(Method::GET, path, Vec::new()).await?;
        read(&bytes)
    }

    /// Reads `path` as text.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.bounded(Method::GET, path, Vec::new()).await?;
        String::from_utf8(bytes.into()).map_err(|error| ClientError::Unreadable(error.to_string()))
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn post<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Unreadable(error.to_string()))?;
        let bytes = self.bounded(Method::POST, path, body).await?;
        read(&bytes)
    }

    async fn bounded(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        let call = self.call(method, path, body);
        tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), call)
            .await
            .map_err(|_| ClientError::Late)?
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let connecting = UnixStream::connect(&self.socket);
        let within = Duration::from_millis(CONNECT_MS_MAX);
        let stream = match tokio::time::timeout(within, connecting).await {
            Ok(stream) => stream,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        stream.map_err(|error| ClientError::Unreachable {
            socket: self.socket.clone(),
            error,
        })
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        let unreadable = |error: hyper::Error| ClientError::Unreadable(error.to_string());
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(unreadable)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "portcullis")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Unreadable(error.to_string()))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(unreadable)?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| ClientError::Unreadable(error.to_string()))?
                .to_bytes();
            Ok((status, bytes))
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        // The connection has to be driven for the exchange to go on; when it
        // ends first, the exchange knows the outcome.
        let (status, bytes) = tokio::select! {
            biased;
            done = &mut exchange => done,
            _ = &mut connection => exchange.await,
        }?;
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::Unreadable(format!("status {status}"))),
        }
    }
}

fn read<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Unreadable(error.to_string()))
}
