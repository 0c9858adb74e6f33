//! Accepts connections: bounded, fair, and never stopped by one of them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use russh::keys::{Certificate, PrivateKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::algorithms;
use super::anteroom::{Anteroom, Place};
use super::authentication::Door;
use super::channels::WINDOW_BYTES;
use super::gated::{Gated, Kill, Transport, tune};
use super::penalties::{Conduct, Offence, Penalties, network};
use super::server::Connection;
use super::{Gate, Settings};

/// How long the accept loop rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Messages that may wait for russh's loop. It takes up to 64 of them at once,
/// of at most 256 KiB together per channel's batch: what it has encrypted and
/// not sent is dropped at a cut, by a reset.
const EVENTS_QUEUED: usize = 4;
/// Source addresses remembered before stale ones are dropped.
const SOURCES_SWEEP: usize = 4096;

/// What the SSH library serves connections with.
pub type Served = Arc<russh::server::Config>;

/// russh's server configuration from ours.
pub fn config(
    settings: &Settings,
    keys: Vec<PrivateKey>,
    certificates: Vec<Certificate>,
) -> Arc<russh::server::Config> {
    Arc::new(russh::server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-Portcullis".into()),
        methods: russh::MethodSet::from([russh::MethodKind::PublicKey].as_slice()),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        certificates,
        window_size: WINDOW_BYTES,
        channel_buffer_size: 1,
        event_buffer_size: EVENTS_QUEUED,
        preferred: algorithms::server(settings.kex),
        max_auth_attempts: settings.rejections_max,
        inactivity_timeout: None,
        keepalive_interval: Some(settings.keepalive),
        keepalive_max: settings.keepalives_missed_max,
        ..russh::server::Config::default()
    })
}

/// Accepts until `shutdown` turns true.
pub async fn accept(
    gate: Arc<Gate>,
    config: watch::Receiver<Served>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    let sources = Sources::new(&gate.settings());
    let anteroom = Anteroom::new(gate.settings().unauthenticated_max);
    let penalties = Arc::new(Mutex::new(Penalties::new(gate.settings().connections_exempt.clone())));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept; resting");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let source = peer.ip().to_canonical();
        if lock(&penalties).refuses(source, gate.clock.now().boot_ms) {
            gate.metrics.decision("accept-penalty", false);
            gate.refused(source, "penalty");
            refuse(&stream);
            continue;
        }
        if !sources.admits(source) {
            gate.metrics.decision("accept-rate", false);
            gate.refused(source, "rate");
            refuse(&stream);
            continue;
        }
        let kill = Kill::new();
        let (place, displaced) = anteroom.enter(source, kill.clone());
        if let Some(displaced) = displaced {
            gate.metrics.decision("accept-full", false);
            gate.refused(displaced, "full");
        }
        let (gate, config, penalties) = (gate.clone(), config.borrow().clone(), penalties.clone());
        tokio::spawn(async move {
            if let Err(error) = tune(&stream) {
                tracing::debug!(%source, %error, "socket died before it was served");
                return;
            }
            let door = Door::Gate(config.clone());
            let Some(offence) = serve(&gate, config, stream, source, door, Some(place), kill).await else {
                return;
            };
            let refused = lock(&penalties).note(source, offence, gate.clock.now().boot_ms);
            if let Some(ms) = refused {
                tracing::warn!(%source, secs = ms / 1000, offence = offence.code(), "source refused for a while");
            }
        });
    }
}

/// A reset costs less than a close, for both sides.
fn refuse(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).ok();
}

fn lock(penalties: &Mutex<Penalties>) -> std::sync::MutexGuard<'_, Penalties> {
    penalties.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection to its end, whatever carries it; what it did if it
/// never logged in. `place` is given back at its login.
pub async fn serve<S: Transport>(
    gate: &Arc<Gate>,
    config: Served,
    stream: S,
    peer: IpAddr,
    door: Door,
    place: Option<Place>,
    kill: Kill,
) -> Option<Offence> {
    let holds = |place: &Option<Place>| place.as_ref().is_none_or(Place::holds);
    let (authenticated, mut is_authenticated) = watch::channel(false);
    let conduct = Arc::new(Conduct::default());
    let connection = Connection::new(gate.clone(), peer, door, kill.clone(), authenticated, conduct.clone());
    let grace = tokio::time::sleep(gate.settings().login_grace);
    tokio::pin!(grace);
    let running = russh::server::run_stream(config, Gated::new(stream, kill.clone()), connection);
    let running = tokio::select! {
        started = running => match started {
            Ok(running) => running,
            Err(error) => {
                tracing::debug!(%peer, %error, "no SSH handshake");
                return holds(&place).then_some(Offence::NoProof);
            }
        },
        () = &mut grace => {
            tracing::debug!(%peer, "login grace over before a handshake");
            kill.fire();
            return Some(Offence::Grace);
        }
    };
    tokio::pin!(running);
    let ended = tokio::select! {
        // The connection's end also drops the sender of `is_authenticated`.
        biased;
        ended = &mut running => Some(ended),
        () = &mut grace => None,
        Ok(_) = is_authenticated.wait_for(|yes| *yes) => None,
    };
    let displaced = !holds(&place);
    drop(place);
    let (ended, outstayed) = match ended {
        Some(ended) => (ended, false),
        None => {
            let outstayed = !*is_authenticated.borrow();
            if outstayed {
                tracing::info!(%peer, "login grace over");
                kill.fire();
            }
            (running.await, outstayed)
        }
    };
    kill.fire();
    if let Err(error) = &ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
    let logged_in = *is_authenticated.borrow();
    match ended {
        // Who made way for others did nothing.
        _ if logged_in || displaced => None,
        _ if outstayed => Some(Offence::Grace),
        Err(error) if broke_protocol(&error) => Some(Offence::Protocol),
        Ok(()) | Err(_) => Some(conduct.at_leaving()),
    }
}

/// Whether a connection ended over something that only a broken or a hostile
/// client sends. Dead sockets, goodbyes and clients that find no algorithm
/// they know are not that.
fn broke_protocol(error: &russh::Error) -> bool {
    matches!(
        error,
        russh::Error::PacketAuth
            | russh::Error::DecryptionError
            | russh::Error::Inconsistent
            | russh::Error::IndexOutOfBounds
            | russh::Error::PacketSize(_)
            | russh::Error::WrongChannel
            | russh::Error::Pending
            | russh::Error::StrictKeyExchangeViolation { .. }
            | russh::Error::SshEncoding(_)
    )
}

/// Connections per source: a burst, then a steady rate. IPv6 counts by /64.
struct Sources {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    exempt: Vec<crate::kernel::grant::Cidr>,
}

impl Sources {
    fn new(settings: &super::Settings) -> Sources {
        let per_second = NonZeroU32::new(settings.connections_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(settings.connections_burst).unwrap_or(NonZeroU32::MIN);
        Sources {
            limiter: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)),
            exempt: settings.connections_exempt.clone(),
        }
    }

    fn admits(&self, source: IpAddr) -> bool {
        if self.exempt.iter().any(|block| block.contains(source)) {
            return true;
        }
        if self.limiter.len() > SOURCES_SWEEP {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&network(source)).is_ok()
    }
}
