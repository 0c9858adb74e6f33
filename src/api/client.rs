//! The other end of the API: what the command line speaks through.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::problem::Problem;
use tls::Remote;

pub mod post;
pub mod tls;

/// Time to reach the server at its own socket, in ms.
pub const CONNECT_MS_MAX: u64 = 2_000;
/// Time to reach it over a network, names and TLS included, in ms.
pub const CONNECT_REMOTE_MS_MAX: u64 = 10_000;
/// Time for a whole answer, in ms: longer than a revocation waits for sessions.
pub const ANSWER_MS_MAX: u64 = 30_000;
/// Largest answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or somebody else than who is trusted.
    #[error("no server answers at {server}: {error}")]
    Unreachable { server: Server, error: io::Error },
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

/// What bytes of the API go over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type BoxedConnect<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Where an API is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Server {
    /// At its own Unix socket.
    Socket(PathBuf),
    /// Over TLS.
    Url(String),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Socket(path) => path.display().fmt(f),
            Server::Url(url) => f.write_str(url),
        }
    }
}

#[derive(Clone, Debug)]
enum Way {
    Socket(PathBuf),
    Tls(Box<Remote>),
}

/// One server's API. Each call is a connection of its own.
#[derive(Clone)]
pub struct ApiClient {
    way: Way,
    token: Option<Zeroizing<String>>,
}

impl fmt::Debug for ApiClient {
    /// Shows no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient")
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

impl ApiClient {
    /// The API at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> ApiClient {
        ApiClient {
            way: Way::Socket(socket.into()),
            token: None,
        }
    }

    /// The API over TLS; nothing is opened yet.
    pub fn remote(remote: Remote) -> ApiClient {
        ApiClient {
            way: Way::Tls(Box::new(remote)),
            token: None,
        }
    }

    /// The same with a bearer token (RFC 6750), which only TLS carries.
    #[must_use]
    pub fn with_token(self, token: Zeroizing<String>) -> ApiClient {
        ApiClient {
            token: Some(token),
            ..self
        }
    }

    /// Where it is.
    pub fn server(&self) -> Server {
        match &self.way {
            Way::Socket(path) => Server::Socket(path.clone()),
            Way::Tls(remote) => Server::Url(remote.url().to_string()),
        }
    }

    /// The socket's path, if it is one.
    pub fn socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Socket(path) => Some(path),
            Way::Tls(_) => None,
        }
    }

    /// What challenges of this server say about where it is: its key over TLS,
    /// a dash at its own socket.
    ///
    /// # Errors
    /// No answer, or a server that is not trusted.
    pub async fn shown_at(&self) -> Result<String, ClientError> {
        let Way::Tls(remote) = &self.way else {
            return Ok("-".to_owned());
        };
        let within = Duration::from_millis(CONNECT_REMOTE_MS_MAX);
        let key = match tokio::time::timeout(within, remote.key()).await {
            Ok(key) => key,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let key = key.map_err(|error| ClientError::Unreachable {
            server: self.server(),
            error,
        })?;
        Ok(key.map_or_else(|| "-".to_owned(), |pin| pin.to_string()))
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

    async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        let (within, connecting): (u64, BoxedConnect<'_>) = match &self.way {
            Way::Socket(path) => (
                CONNECT_MS_MAX,
                Box::pin(async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>) }),
            ),
            Way::Tls(remote) => (
                CONNECT_REMOTE_MS_MAX,
                Box::pin(async move { Ok(Box::new(remote.connect().await?) as Box<dyn Stream>) }),
            ),
        };
        let stream = match tokio::time::timeout(Duration::from_millis(within), connecting).await {
            Ok(stream) => stream,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        stream.map_err(|error| ClientError::Unreachable {
            server: self.server(),
            error,
        })
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, ClientError> {
        let unreadable = |error: String| ClientError::Unreadable(error);
        let host = match &self.way {
            Way::Socket(_) => "portcullis".to_owned(),
            Way::Tls(remote) => remote.url().authority(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json");
        if let (Way::Tls(_), Some(token)) = (&self.way, &self.token) {
            let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let mut value = HeaderValue::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreadable(error.to_string()))
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        let unreadable = |error: hyper::Error| ClientError::Unreadable(error.to_string());
        let request = self.request(method, path, body)?;
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(unreadable)?;
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
