//! The HTTP API: the control channel of the command line, on a Unix socket in
//! the state folder for the server's own people, over TLS for everybody else.
//!
//! It ends a session only by writing a revocation to the store; the registry
//! carries that to the session. Nothing here knows SSH connections.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::anomaly::Notes;
use crate::break_glass::BreakGlass;
use crate::clock::Clock;
use crate::credentials::Sources;
use crate::keeper::Keeper;
use crate::kernel::id::{NodeName, SessionId};
use crate::layout::{Layout, SOCKET_PATH_BYTES_MAX};
use crate::notify::Teller;
use crate::policies::InForce;
use crate::retention::Retention;
use crate::search::Keeper as SearchKeeper;
use crate::store::Store;
use crate::telemetry::Metrics;

mod access;
mod asking;
mod break_glass;
pub mod caller;
pub mod challenge;
pub mod client;
mod collect;
mod explain;
mod grants;
pub mod hooks;
mod idempotency;
mod inventory;
mod limits;
mod login;
pub mod openapi;
pub mod peer;
pub mod problem;
mod read;
mod recordings;
mod request;
mod reviews;
mod room;
pub mod routes;
pub mod rules;
mod search;
mod state;
mod table;
pub mod tls;
pub mod wire;

use caller::Remote;
pub use hooks::Hook;
pub use limits::Limits;
use problem::{Code, Problem};
use room::{Desk, Room};
pub use table::table;
use wire::access::ServerView;

/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Time for a request's head, and again for its body, in ms.
pub const REQUEST_MS_MAX: u64 = 10_000;
/// Time that a revocation waits for sessions to fall, in ms. Beyond it they
/// are named as bound by their node's lease (10 s).
pub const CUT_MS_MAX: u64 = 5_000;
/// Time that running requests get at shutdown, in ms.
pub const CLOSE_MS_MAX: u64 = 2_000;
/// Bounds of what hyper keeps of one request's head, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A boxed future, so that `dyn` works.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the ledger did not take a leaf.
#[derive(Debug, thiserror::Error)]
#[error("the ledger did not take the entry: {0}")]
pub struct JournalError(pub String);

/// Where security events are written before they take effect.
pub trait Journal: Send + Sync + 'static {
    /// Appends one event, durable when this returns, and tells its index.
    /// Kinds used here: `target`, `identity`, `grant`, `revocation`, `replay`, `search`, `export`.
    fn append<'a>(&'a self, kind: &'static str, body: serde_json::Value) -> Answer<'a, Result<u64, JournalError>>;
}

impl Journal for crate::ledger::Ledger {
    fn append<'a>(&'a self, kind: &'static str, body: serde_json::Value) -> Answer<'a, Result<u64, JournalError>> {
        Box::pin(async move {
            let entry = self.append_event(kind, body).await;
            entry
                .map(|entry| entry.index)
                .map_err(|error| JournalError(error.to_string()))
        })
    }
}

/// The one who knows when a session has fallen.
pub trait Cutter: Send + Sync + 'static {
    /// Called right after a revocation was committed to the store: has the
    /// registry read it now, waits until every one of `sessions` has fallen,
    /// for `within` at the longest, and tells those that have not (those of
    /// other nodes included, unless it knows better).
    fn wait_cut<'a>(&'a self, sessions: &'a [SessionId], within: Duration) -> Answer<'a, Vec<SessionId>>;
}

/// What the API works with. Cheap to clone behind its `Arc`s.
#[derive(Clone)]
pub struct Api {
    pub store: Arc<dyn Store>,
    pub keeper: Arc<dyn Keeper>,
    pub journal: Arc<dyn Journal>,
    pub cutter: Arc<dyn Cutter>,
    pub retention: Arc<Retention>,
    /// The index over recordings.
    pub search: SearchKeeper,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub layout: Layout,
    pub node: NodeName,
    /// The policies in force; grants carry their digest.
    pub policies: Arc<InForce>,
    /// Writes down who asks for what.
    pub notes: Notes,
    /// What challenges are made with: of this process, never stored.
    pub challenge_key: [u8; 32],
    /// The key that the API shows over TLS, as clients pin it; a dash without TLS.
    pub shown_at: String,
    /// Longest life of a token, in ms (`api.token_max_mins`).
    pub token_ms_max: u64,
    /// Where and by what keys clients reach the SSH listener.
    pub server: ServerView,
    pub limits: Arc<Limits>,
    /// Systems that may call by signed webhooks.
    pub hooks: Arc<[Hook]>,
    /// Tells somebody's chat that a request waits.
    pub teller: Teller,
    /// Grants made ready beforehand, and what was used of them.
    pub break_glass: Arc<BreakGlass>,
    /// Where secrets for targets come from; only their names are known here.
    pub credentials: Arc<Sources>,
    /// How others reach this API, for links in messages.
    pub url: Option<String>,
    /// Longest grant, in ms (`session.grant_max_mins`).
    pub grant_ms_max: u64,
    /// Whether local targets may run as the server's own user: only in a demo.
    pub local_as_self: bool,
}

/// Binds the API's socket at `path`, mode 0600 from its first moment.
///
/// # Errors
/// Another server listens there, the path is too long or not a socket.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let fail = |kind, why: String| Err(io::Error::new(kind, why));
    let bytes = path.as_os_str().len();
    // The staging name below is longer by its suffix.
    if bytes.saturating_add(STAGING_SUFFIX.len()) > SOCKET_PATH_BYTES_MAX {
        return fail(
            io::ErrorKind::InvalidInput,
            format!(
                "{} is too long for a Unix socket ({bytes} bytes, at most {}): choose a state folder with a shorter path",
                path.display(),
                SOCKET_PATH_BYTES_MAX.saturating_sub(STAGING_SUFFIX.len())
            ),
        );
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return fail(
                io::ErrorKind::AlreadyExists,
                format!("{} is there and is not a socket: move it away", path.display()),
            );
        }
        Ok(_) => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return fail(
                    io::ErrorKind::AddrInUse,
                    format!("another server already listens at {}", path.display()),
                );
            }
        }
    }
    // Bound under another name first, so that nobody can connect between
    // bind() and chmod(). The rename replaces a dead server's socket.
    let mut staging = path.as_os_str().to_owned();
    staging.push(STAGING_SUFFIX);
    match std::fs::remove_file(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let listener = UnixListener::bind(&staging)?;
    std::fs::set_permissions(&staging, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&staging, path)?;
    Ok(listener)
}

const STAGING_SUFFIX: &str = ".new";

/// Where callers come in.
pub enum Door {
    /// The server's own people.
    Socket(UnixListener),
    /// Everybody else, with a token.
    Tls(TcpListener, TlsAcceptor),
}

impl Api {
    /// Serves each of `doors` until `shutdown` resolves; running requests then
    /// get [`CLOSE_MS_MAX`].
    pub async fn serve(self, doors: Vec<Door>, shutdown: impl Future<Output = ()> + Send) {
        let router = routes::router(Arc::new(self), table());
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        for door in doors {
            serving.spawn(stand(door, router.clone(), stopped.clone()));
        }
        shutdown.await;
        stop.send_replace(true);
        while serving.join_next().await.is_some() {}
    }
}

/// Until it is told to stop; the sender gone means the same.
async fn told(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.ok();
}

/// One door: accepts until it is told to stop.
async fn stand(door: Door, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut room = Room::default();
    let mut connections = JoinSet::new();
    loop {
        let entered = tokio::select! {
            () = told(&mut stopped) => break,
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => {
                room.leave(ended.map_or_else(|error| error.id(), |(id, ())| id));
                continue;
            }
            () = room.freed(), if room.is_packed() => continue,
            entered = enter(&door), if !room.is_packed() => entered,
        };
        match entered {
            Ok(entered) if room.make_place(entered.network()) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                let (network, desk) = (entered.network(), room.desk());
                let abort = connections.spawn(entered.serve(router, desk.clone(), stopped));
                room.sit(network, desk, abort);
            }
            Ok(entered) => tracing::debug!(network = ?entered.network(), "a network has too many calls at once"),
            Err(error) => {
                // Out of descriptors, mostly: they come back as
                // connections end, so wait a little instead of spinning.
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(CLOSE_MS_MAX), rest)
        .await
        .is_err()
    {
        tracing::warn!("API requests were still running at shutdown and are dropped");
    }
}

/// A connection that came in, not served yet.
enum Entered {
    Socket(UnixStream),
    Tls(tokio::net::TcpStream, std::net::IpAddr, TlsAcceptor),
}

async fn enter(door: &Door) -> io::Result<Entered> {
    Ok(match door {
        Door::Socket(listener) => Entered::Socket(listener.accept().await?.0),
        Door::Tls(listener, acceptor) => {
            let (stream, from) = listener.accept().await?;
            Entered::Tls(stream, from.ip(), acceptor.clone())
        }
    })
}

impl Entered {
    /// Whose place it takes.
    fn network(&self) -> Option<std::net::IpAddr> {
        match self {
            Entered::Socket(_) => None,
            Entered::Tls(_, from, _) => Some(limits::network(*from)),
        }
    }

    /// First who it is, then what it asks.
    async fn serve(self, router: Router, desk: Desk, stopped: watch::Receiver<bool>) {
        match self {
            Entered::Socket(stream) => {
                let router = known(&stream, router).await;
                connection(stream, router, desk, stopped).await;
            }
            Entered::Tls(stream, from, acceptor) => {
                let shaking = acceptor.accept(stream);
                match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), shaking).await {
                    Ok(Ok(stream)) => {
                        let router = router.layer(axum::Extension(Remote(from)));
                        connection(stream, router, desk, stopped).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS handshake"),
                    Err(_) => tracing::debug!(%from, "the TLS handshake took too long"),
                }
            }
        }
    }
}

/// The router for the process at the other end of the socket.
async fn known(stream: &UnixStream, router: Router) -> Router {
    let credentials = stream.peer_cred().map(|ucred| peer::Credentials {
        uid: ucred.uid(),
        pid: ucred.pid().and_then(|pid| u32::try_from(pid).ok()),
    });
    // /proc and the account database may block.
    let admitted = tokio::task::spawn_blocking(move || peer::admit(credentials)).await;
    match admitted {
        Ok(Ok(peer)) => router.layer(axum::Extension(peer)),
        Ok(Err(why)) => {
            tracing::warn!(reason = %why, "a peer was refused at the API");
            refuse_all(why)
        }
        Err(_) => refuse_all(peer::Refused::Unknown),
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    desk: Desk,
    mut stopped: watch::Receiver<bool>,
) {
    let inner = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |request| {
        let working = desk.work();
        let answer = inner.call(request);
        async move {
            let answer = answer.await;
            drop(working);
            answer
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(REQUEST_MS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(true);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = told(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection ended early");
    }
}

/// Answers every request of a peer that may not ask with the reason.
fn refuse_all(why: peer::Refused) -> Router {
    Router::new().fallback(async move || Problem::new(Code::PeerRefused, why.to_string()))
}

#[cfg(test)]
mod tests;
