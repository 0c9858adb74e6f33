//! The witness on a listener: HTTP/1, one route, everything bounded.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Witness;
use super::book::Unsigned;
use super::judge::Refusal;
use super::wire::{self, BODY_BYTES_MAX, SIZE_TYPE};

/// Connections served at the same time; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Time for a request's head, and again for its body, in ms.
const REQUEST_MS_MAX: u64 = 10_000;
/// Time that requests get at shutdown, in ms.
const CLOSE_MS_MAX: u64 = 2_000;
/// Wait before the next try when no connection can be accepted, in ms.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Bounds of what hyper keeps of one request's head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves until `shutdown` resolves.
pub async fn serve(witness: Arc<Witness>, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
    let router = router(witness);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((listener.accept().await?, place))
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = next => accepted,
        };
        match accepted {
            Ok(((stream, peer), place)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection(stream, peer, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    // What has been written down is answered, if the asker is quick.
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(CLOSE_MS_MAX), rest)
        .await
        .is_err()
    {
        tracing::debug!("connections were still open at shutdown");
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send, peer: SocketAddr, router: Router) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(REQUEST_MS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        // One question a connection: nobody holds a place by being silent.
        .keep_alive(false);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = serving.await {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route(wire::PATH, post(add_checkpoint))
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Body) -> Response {
    let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
    let text = match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), reading).await {
        Ok(Ok(bytes)) => String::from_utf8(bytes.into()),
        Ok(Err(_)) => return said(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB"),
        Err(_) => return said(StatusCode::REQUEST_TIMEOUT, "the body took longer than 10 s"),
    };
    let Ok(text) = text else {
        return refused(Refusal::Malformed("the body is not text"));
    };
    // It waits for the disk.
    match tokio::task::spawn_blocking(move || witness.add_checkpoint(&text)).await {
        Ok(Ok(lines)) => lines.into_response(),
        Ok(Err(Unsigned::Refused(refusal))) => refused(refusal),
        Ok(Err(why @ Unsigned::Broken(_))) => said(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
        Err(why) => said(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn said(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

fn refused(refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    match refusal {
        Refusal::Conflict(size) | Refusal::Forked(size) => {
            let kind = [(header::CONTENT_TYPE, SIZE_TYPE)];
            (status, kind, format!("{size}\n")).into_response()
        }
        Refusal::Malformed(why) => said(status, why),
        Refusal::UnknownLog => said(status, "no log of that name is watched over here"),
        Refusal::NotSigned => said(status, "none of the log's keys has signed that"),
        Refusal::Inconsistent => said(status, "it does not continue what was cosigned last"),
    }
}
