//! Asks a witness. One connection a question, everything bounded.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;
use super::wire::{self, BODY_BYTES_MAX, Submission};

/// Time for a whole question, connecting included, in ms.
pub const ASK_MS_MAX: u64 = 3_000;

/// What a witness answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Signature lines, not yet looked at.
    Cosigned(String),
    /// It has cosigned a tree of this size last.
    Known(u64),
    /// The proof does not lead from what it cosigned last to this checkpoint.
    Inconsistent,
}

/// Why there is no answer of use.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("did not answer within {ASK_MS_MAX} ms")]
    Late,
    #[error("does not watch over this log: start it with --log and this log's key")]
    UnknownLog,
    #[error("knows this log by another key: start it with --log and the key that `trust export` shows")]
    OtherKey,
    #[error("broke off: {0}")]
    Broken(String),
    #[error("answered {0}, which c2sp.org/tlog-witness does not know here")]
    Odd(StatusCode),
}

/// Submits a checkpoint.
///
/// # Errors
/// When it cannot be reached, is late, or answers with anything but the
/// three [`Answer`]s.
pub async fn ask(at: &Address, submission: &Submission) -> Result<Answer, AskError> {
    let asking = async {
        match at {
            Address::Http { host, port, .. } => {
                let place = format!("{host}:{port}");
                let stream = TcpStream::connect(place).await.map_err(AskError::Unreachable)?;
                exchange(stream, at, submission).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(AskError::Unreachable)?;
                exchange(stream, at, submission).await
            }
        }
    };
    tokio::time::timeout(Duration::from_millis(ASK_MS_MAX), asking)
        .await
        .map_err(|_| AskError::Late)?
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    at: &Address,
    submission: &Submission,
) -> Result<Answer, AskError> {
    let broken = |error: hyper::Error| AskError::Broken(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(at.path())
        .header(header::HOST, at.host())
        .body(Full::new(Bytes::from(submission.to_string())))
        .map_err(|error| AskError::Broken(error.to_string()))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), BODY_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| AskError::Broken(error.to_string()))?
            .to_bytes();
        read(status, &bytes)
    };
    let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
    // The connection has to be driven for the exchange to go on; when it
    // ends first, the exchange knows the outcome.
    tokio::select! {
        biased;
        done = &mut exchange => done,
        _ = &mut connection => exchange.await,
    }
}

fn read(status: StatusCode, bytes: &[u8]) -> Result<Answer, AskError> {
    let text = std::str::from_utf8(bytes).map_err(|error| AskError::Broken(error.to_string()))?;
    match status {
        StatusCode::OK => Ok(Answer::Cosigned(text.to_owned())),
        StatusCode::CONFLICT => text
            .strip_suffix('\n')
            .and_then(wire::size)
            .map(Answer::Known)
            .ok_or(AskError::Odd(status)),
        StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Inconsistent),
        StatusCode::NOT_FOUND => Err(AskError::UnknownLog),
        StatusCode::FORBIDDEN => Err(AskError::OtherKey),
        _ => Err(AskError::Odd(status)),
    }
}
