//! The one implementation of russh's server handler: every callback is
//! written out, decodes what came, asks the kernel, and decides nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_recording::Event;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel as RusshChannel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty, Sig};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::Gate;
use super::channel::{Channel, Start, Terminal, Up, count};
use super::gated::Kill;
use super::lane::HIGH_WATER_BYTES;
use super::pump::ClientEnd;
use super::session::{self, Live, NotOpened, bounded};
use super::target::signal_name;
use crate::kernel::admit::{self, Admitted, CertificateType, Presented, Refusal};
use crate::kernel::id::Destination;
use crate::kernel::request::{
    ENV_COUNT_MAX, ENV_VALUE_BYTES_MAX, EXEC_BYTES_MAX, Request, clamp_terminal,
};
use crate::kernel::session::EndReason;

/// Window that we give a client per channel, in bytes.
pub const WINDOW_BYTES: u32 = 1024 * 1024;
/// What we give instead while a channel's backlog is above the high water:
/// two bytes a round trip keep the callback coming until the lane has drained.
const TRICKLE_BYTES: u32 = 2;
/// What every channel gets while one is stalled and another sends: russh keeps
/// one window target for the whole connection and applies what was answered
/// for one channel to the next adjustment of any. With two bytes for the one
/// and everything for the other, the stalled one would get the sibling's
/// window and the sibling two bytes a round trip.
const SHARED_BYTES: u32 = 256 * 1024;
/// How long after its last packet a channel counts as sending.
const FLOWING: Duration = Duration::from_millis(50);
/// How long a trickled packet's callback waits, so that a stalled channel
/// does not spin, and its siblings hardly notice.
const TRICKLE_WAIT: Duration = Duration::from_millis(2);
/// How long a channel open waits for the session behind it.
const OPEN_WAIT: Duration = Duration::from_secs(30);
/// Longest modes list of a terminal request that is passed on.
const PTY_MODES_MAX: usize = 64;
/// Longest terminal name, in bytes.
const TERM_BYTES_MAX: usize = 128;

type Opening = watch::Receiver<Option<Result<Arc<Live>, NotOpened>>>;

/// One client connection.
pub struct Connection {
    gate: Arc<Gate>,
    peer: IpAddr,
    kill: Kill,
    offers: u32,
    /// The destination in the user name of the last request.
    wanted: Option<Destination>,
    admitted: Option<Admitted>,
    /// A reason that the holder of a certificate of ours may be shown.
    shown: Option<Refusal>,
    authenticated: watch::Sender<bool>,
    opening: Option<Opening>,
    channels: Channels,
    opens: usize,
    /// When a channel without a large backlog sent last.
    flowed: Option<tokio::time::Instant>,
}

type Channels = Arc<Mutex<HashMap<ChannelId, (Arc<Channel>, ClientEnd)>>>;

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<ChannelId, (Arc<Channel>, ClientEnd)>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// A fresh connection; `authenticated` turns true once it is.
    pub fn new(gate: Arc<Gate>, peer: IpAddr, kill: Kill, authenticated: watch::Sender<bool>) -> Connection {
        Connection {
            gate,
            peer: peer.to_canonical(),
            kill,
            offers: 0,
            wanted: None,
            admitted: None,
            shown: None,
            authenticated,
            opening: None,
            channels: Arc::default(),
            opens: 0,
            flowed: None,
        }
    }

    fn live(&self) -> Option<Arc<Live>> {
        let opening = self.opening.as_ref()?;
        opening.borrow().as_ref()?.as_ref().ok().cloned()
    }

    fn channel(&self, id: ChannelId) -> Option<(Arc<Live>, Arc<Channel>)> {
        let channel = lock(&self.channels).get(&id).map(|(channel, _)| channel.clone())?;
        Some((self.live()?, channel))
    }

    /// The one way in.
    async fn admit(&mut self, user: &str, certificate: &Certificate) -> Result<Admitted, Refusal> {
        let wanted: Destination = user.parse().map_err(|_| Refusal::WrongPrincipal)?;
        let presented = present(certificate).ok_or(Refusal::Oversized)?;
        let grant = bounded(self.gate.store.grant_by_certificate(presented.sha256)).await;
        let grant = match (grant, self.gate.registry.store_alive()) {
            (Ok(grant), true) => grant,
            (Ok(_) | Err(_), _) => return Err(Refusal::StoreUnavailable),
        };
        admit::admit(
            &presented,
            &self.gate.trust,
            &wanted,
            self.peer,
            self.gate.clock.now().wall_ms,
            grant.as_ref(),
        )
    }

    /// A request on a channel that carries no decision of its own kind yet:
    /// refused, and recorded if there is a recording.
    fn refuse(&self, channel: u32, request: Request, detail: &str) {
        if let Some(live) = self.live() {
            live.decide(channel, request, detail.as_bytes(), "").ok();
        }
    }

    /// Asks policy for a program and passes it on; the target answers.
    fn start(&mut self, id: ChannelId, start: Start, session: &mut Session) -> Result<(), russh::Error> {
        let Some((live, channel)) = self.channel(id) else {
            return session.channel_failure(id);
        };
        let (request, detail): (Request, Vec<u8>) = match &start {
            Start::Shell => (Request::Shell, Vec::new()),
            Start::Exec(command) => (Request::Exec { command: command.clone() }, command.clone()),
            Start::Subsystem(name) => (Request::Subsystem { name: name.clone() }, name.clone().into_bytes()),
        };
        let first = !channel.started.swap(true, Ordering::SeqCst);
        let permit = live.decide(channel.number, request, &detail, "");
        match permit {
            Ok(_) if first => {}
            Ok(_) => return session.channel_failure(id),
            Err(denial) => {
                tell(&live, &channel, id, session, &format!("portcullis: refused by rule {}: {}\r\n", denial.rule, denial.sentence))?;
                return session.channel_failure(id);
            }
        }
        let start = match live.admitted.force_command() {
            Some(command) => Start::Exec(command.as_bytes().to_vec()),
            None => start,
        };
        enqueue(&live, &channel, Up::Start(start));
        Ok(())
    }

    fn data(&mut self, id: ChannelId, bytes: &[u8]) -> Option<Arc<Channel>> {
        let (live, channel) = self.channel(id)?;
        if let Err(error) = channel.from_client(bytes) {
            tracing::warn!(session = %live.id, %error, "client overran");
            live.control.end_now(EndReason::Backlog);
        }
        Some(channel)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whatever way the connection ended, nothing of it lives on.
        if let Some(live) = self.live() {
            live.client_gone();
        }
        self.kill.fire();
    }
}

/// Waits for the session behind a channel.
async fn opened_session(opening: &mut Opening) -> Result<Arc<Live>, String> {
    let waited = tokio::time::timeout(OPEN_WAIT, opening.wait_for(Option::is_some)).await;
    let Ok(Ok(state)) = waited else {
        return Err("the session did not open in time".into());
    };
    match &*state {
        Some(Ok(live)) => Ok(live.clone()),
        Some(Err(refused)) => Err(refused.sentence.clone()),
        None => Err("the session did not open".into()),
    }
}

/// Sends a line of ours on the channel's standard error, recorded before.
fn tell(live: &Live, channel: &Channel, id: ChannelId, session: &mut Session, line: &str) -> Result<(), russh::Error> {
    let recorded = live.record(
        channel.number,
        Event::Notice {
            bytes: line.as_bytes().into(),
            how: portcullis_recording::event::NoticeHow::Stderr,
        },
    );
    if recorded {
        count(&channel.account.injected, line.len());
        session.extended_data(id, 1, line.as_bytes().to_vec())?;
    }
    Ok(())
}

fn enqueue(live: &Live, channel: &Channel, up: Up) {
    if channel.up.control(up).is_err() {
        live.control.end_now(EndReason::Backlog);
    }
}

/// A certificate in plain fields; nothing if its blob cannot be made again.
fn present(certificate: &Certificate) -> Option<Presented> {
    let blob = certificate.to_bytes().ok()?;
    let rsa_bits = |key: &KeyData| match key {
        KeyData::Rsa(rsa) => rsa.n().as_positive_bytes().map(|n| u32::try_from(n.len() * 8).unwrap_or(u32::MAX)),
        _ => None,
    };
    let plain = |key: &KeyData| match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.as_str().to_owned(),
    };
    let ca = certificate.signature_key();
    Some(Presented {
        sha256: Sha256::digest(&blob).into(),
        blob_bytes: blob.len(),
        key_algorithm: plain(certificate.public_key()),
        rsa_bits: rsa_bits(certificate.public_key()),
        certificate_type: match certificate.cert_type() {
            CertType::User => CertificateType::User,
            CertType::Host => CertificateType::Host,
        },
        serial: certificate.serial(),
        key_id: certificate.key_id().chars().filter(|c| !c.is_control()).take(256).collect(),
        principals: certificate.valid_principals().to_vec(),
        valid_after: certificate.valid_after(),
        valid_before: certificate.valid_before(),
        critical_options: certificate
            .critical_options()
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        extensions: certificate.extensions().keys().cloned().collect(),
        ca_key: russh::keys::PublicKey::new(ca.clone(), "").to_bytes().ok()?,
        ca_signature_algorithm: certificate.signature().algorithm().as_str().to_owned(),
        ca_rsa_bits: rsa_bits(ca),
        nested: false,
    })
}

#[deny(clippy::missing_trait_methods)]
impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.wanted = user.parse().ok();
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // Nothing is proved yet, and a certificate cannot be told from its bare
        // key here: only count, and refuse SHA-1.
        self.offers += 1;
        if self.offers > self.gate.settings.offers_max {
            return Err(russh::Error::Disconnect);
        }
        match offer.algorithm {
            Algorithm::Rsa { hash: None } | Algorithm::Dsa => Ok(Auth::reject()),
            _ => Ok(Auth::Accept),
        }
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::reject())
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        self.admitted = None;
        let wanted = user.parse().ok();
        if self.wanted != wanted {
            // Another user name starts over (GHSA-hpv4-5h6f-wqr3).
            self.wanted = wanted;
            self.shown = None;
        }
        match self.admit(user, certificate).await {
            Ok(admitted) => {
                tracing::info!(peer = %self.peer, identity = %admitted.identity(), destination = %admitted.destination(),
                    grant = %admitted.grant(), serial = admitted.certificate_serial(), "admitted");
                self.gate.metrics.decision("admit", true);
                self.admitted = Some(admitted);
                Ok(Auth::Accept)
            }
            Err(refusal) => {
                let user: String = user.chars().filter(|c| !c.is_control()).take(128).collect();
                tracing::info!(peer = %self.peer, user, code = refusal.code(), "refused");
                self.gate.metrics.decision("admit", false);
                if !refusal.may_be_shown() {
                    return Ok(Auth::reject());
                }
                // An agent's next certificate is tried first; then the words.
                self.shown = Some(refusal);
                Ok(Auth::Reject {
                    proceed_with_methods: Some(MethodSet::from(
                        [MethodKind::PublicKey, MethodKind::KeyboardInteractive].as_slice(),
                    )),
                    partial_success: true,
                })
            }
        }
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let refusal = match (&self.shown, response) {
            (Some(refusal), None) if user.parse().ok() == self.wanted => refusal.clone(),
            _ => {
                self.shown = None;
                return Ok(Auth::Reject {
                    proceed_with_methods: Some(MethodSet::from([MethodKind::PublicKey].as_slice())),
                    partial_success: false,
                });
            }
        };
        let text = format!("portcullis: refused ({}): {}", refusal.code(), refusal.sentence());
        Ok(Auth::Partial {
            name: "".into(),
            instructions: text.into(),
            prompts: Vec::new().into(),
        })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let Some(admitted) = self.admitted.take() else {
            return Err(russh::Error::Disconnect);
        };
        self.authenticated.send_replace(true);
        let (send, receive) = watch::channel(None);
        self.opening = Some(receive);
        let (gate, peer, kill) = (self.gate.clone(), self.peer, self.kill.clone());
        let client_id: String = String::from_utf8_lossy(session.remote_sshid()).chars().filter(|c| !c.is_control()).collect();
        let client = session.handle();
        tokio::spawn(async move {
            let opened = session::open(gate, admitted, peer, client_id, client, kill.clone()).await;
            let live = opened.as_ref().ok().cloned();
            if let Err(refused) = &opened {
                tracing::info!(code = refused.code, sentence = refused.sentence, "session not opened");
            }
            send.send_replace(Some(opened));
            // The client may have left before the session was there to be told.
            if kill.fired()
                && let Some(live) = live
            {
                live.client_gone();
            }
        });
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(None)
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        let live = self.live();
        let removed = lock(&self.channels).remove(&id);
        if let (Some(live), Some((channel, end))) = (live, removed) {
            end.set_closed();
            enqueue(&live, &channel, Up::Close);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some((live, channel)) = self.channel(id) {
            channel.client_eof.store(true, Ordering::SeqCst);
            enqueue(&live, &channel, Up::Eof);
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: RusshChannel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(mut opening) = self.opening.clone() else {
            return Ok(()); // dropping the handle refuses
        };
        self.opens += 1;
        // russh does not tell of a client's CLOSE that answers ours.
        lock(&self.channels).retain(|_, (channel, _)| !channel.stop.fired());
        if lock(&self.channels).len() >= self.gate.settings.channels_max || self.opens > self.gate.settings.opens_max {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // Without the read half russh delivers to this handler alone and never
        // parks on a full channel queue.
        let (_, write) = channel.split();
        let end = ClientEnd::new(write, session.handle());
        let (channels, kill) = (self.channels.clone(), self.kill.clone());
        tokio::spawn(async move {
            let opened = kill.guard(async {
                let live = opened_session(&mut opening).await?;
                let channel = live.open_channel(end.clone()).await?;
                lock(&channels).insert(id, (channel, end));
                Ok(())
            });
            match opened.await {
                Some(Ok(())) => reply.accept().await,
                Some(Err(sentence)) => {
                    reply
                        .reject(ChannelOpenFailure::Other {
                            code: 2,
                            reason: sentence,
                        })
                        .await;
                }
                None => {}
            }
        });
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: RusshChannel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(0, Request::X11, "channel");
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: RusshChannel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let request = Request::DirectTcpip {
            host: host.to_owned(),
            port,
        };
        self.refuse(0, request, &format!("{host}:{port}"));
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: RusshChannel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let kind = "forwarded-tcpip".to_owned();
        self.refuse(0, Request::Unknown { kind }, "channel from a client");
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: RusshChannel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let request = Request::DirectStreamlocal { path: path.to_owned() };
        self.refuse(0, request, path);
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        _: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        let Some(channel) = Connection::data(self, id, data) else {
            return Ok(());
        };
        if channel.up.backlog() <= HIGH_WATER_BYTES as u64 {
            self.flowed = Some(tokio::time::Instant::now());
        } else if data.len() <= TRICKLE_BYTES as usize {
            self.kill.guard(tokio::time::sleep(TRICKLE_WAIT)).await;
        }
        Ok(())
    }

    async fn extended_data(&mut self, id: ChannelId, code: u32, _: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        // No client sends extended data to a server (RFC 4254 section 5.2 names
        // none); passing it on as input would be a lie, dropping it a loss.
        if let Some((live, _)) = self.channel(id) {
            live.control
                .end_now(EndReason::Protocol(format!("extended data {code} from a client")));
        }
        Ok(())
    }

    async fn window_adjusted(&mut self, _: ChannelId, _: u32, _: &mut Session) -> Result<(), Self::Error> {
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, _: u32) -> u32 {
        let stalled = |channel: &Channel| channel.up.backlog() > HIGH_WATER_BYTES as u64;
        let channels = lock(&self.channels);
        if !channels.values().any(|(channel, _)| stalled(channel)) {
            return WINDOW_BYTES;
        }
        let this = channels.get(&id).is_some_and(|(channel, _)| stalled(channel));
        let flows = self.flowed.is_some_and(|at| at.elapsed() < FLOWING);
        match this && !flows {
            true => TRICKLE_BYTES,
            false => SHARED_BYTES,
        }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        px_width: u32,
        px_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((live, channel)) = self.channel(id) else {
            return session.channel_failure(id);
        };
        let (cols, rows) = clamp_terminal(cols, rows);
        let term: String = term.chars().filter(|c| !c.is_control()).take(TERM_BYTES_MAX).collect();
        let again = channel.is_terminal() || channel.started.load(Ordering::SeqCst);
        if live.decide(channel.number, Request::Pty, term.as_bytes(), "").is_err() || again {
            return session.channel_failure(id);
        }
        live.record(
            channel.number,
            Event::Resize {
                cols,
                rows,
                px_width,
                px_height,
            },
        );
        channel.terminal.store(true, Ordering::Release);
        live.recorder.terminal(channel.number, cols, rows);
        // russh leaves a hole for each mode it does not know; encoded again,
        // TTY_OP_END would end the list there.
        let modes = modes
            .iter()
            .filter(|(mode, _)| *mode != Pty::TTY_OP_END)
            .take(PTY_MODES_MAX)
            .copied()
            .collect();
        enqueue(
            &live,
            &channel,
            Up::Pty(Terminal {
                term,
                cols,
                rows,
                px_width,
                px_height,
                modes,
            }),
        );
        session.channel_success(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some((live, channel)) = self.channel(id) {
            live.decide(channel.number, Request::X11, b"", "").ok();
        }
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((live, channel)) = self.channel(id) else {
            return session.channel_failure(id);
        };
        let count = channel.env_count.fetch_add(1, Ordering::SeqCst) as usize;
        if count >= ENV_COUNT_MAX * 4 {
            live.control.end_now(EndReason::Protocol("too many variables".into()));
            return session.channel_failure(id);
        }
        let detail: Vec<u8> = format!("{name}={value}").bytes().take(ENV_VALUE_BYTES_MAX).collect();
        let request = Request::Env { name: name.to_owned() };
        let allowed = live.decide(channel.number, request, &detail, "").is_ok()
            && value.len() <= ENV_VALUE_BYTES_MAX
            && count < ENV_COUNT_MAX
            && !channel.started.load(Ordering::SeqCst);
        if !allowed {
            return session.channel_failure(id);
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        enqueue(&live, &channel, Up::Env { name, value });
        session.channel_success(id)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Start::Shell, session)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if command.len() > EXEC_BYTES_MAX {
            if let Some((live, channel)) = self.channel(id) {
                let kind = format!("exec of {} bytes", command.len());
                live.decide(channel.number, Request::Unknown { kind }, b"", "").ok();
            }
            return session.channel_failure(id);
        }
        self.start(id, Start::Exec(command.to_vec()), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Start::Subsystem(name.to_owned()), session)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        cols: u32,
        rows: u32,
        px_width: u32,
        px_height: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some((live, channel)) = self.channel(id)
            && channel.is_terminal()
        {
            let (cols, rows) = clamp_terminal(cols, rows);
            enqueue(
                &live,
                &channel,
                Up::WindowChange {
                    cols,
                    rows,
                    px_width,
                    px_height,
                },
            );
        }
        Ok(())
    }

    async fn agent_request(&mut self, id: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        if let Some((live, channel)) = self.channel(id) {
            live.decide(channel.number, Request::Agent, b"", "").ok();
        }
        Ok(false)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let Some((live, channel)) = self.channel(id) {
            let name = signal_name(&signal);
            let request = Request::Signal { name: name.clone() };
            if live.decide(channel.number, request, name.as_bytes(), "").is_ok() {
                enqueue(&live, &channel, Up::Signal(signal));
            }
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, _: &mut Session) -> Result<bool, Self::Error> {
        let request = Request::TcpipForward {
            host: host.to_owned(),
            port: *port,
        };
        self.refuse(0, request, &format!("{host}:{port}"));
        Ok(false)
    }

    async fn cancel_tcpip_forward(&mut self, _: &str, _: u32, _: &mut Session) -> Result<bool, Self::Error> {
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        let request = Request::StreamlocalForward { path: path.to_owned() };
        self.refuse(0, request, path);
        Ok(false)
    }

    async fn cancel_streamlocal_forward(&mut self, _: &str, _: &mut Session) -> Result<bool, Self::Error> {
        Ok(false)
    }

    async fn lookup_dh_gex_group(
        &mut self,
        _: &russh::client::GexParams,
    ) -> Result<Option<russh::kex::dh::groups::DhGroup>, Self::Error> {
        // Group exchange is not offered.
        Ok(None)
    }
}
