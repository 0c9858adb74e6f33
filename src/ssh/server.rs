//! The one implementation of russh's server handler: every callback is
//! written out, decodes what came, asks the kernel, and decides nothing.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "key kinds of a non-exhaustive enum: SHA-1 and DSA are named, the kernel decides over the rest"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_recording::Event;
use russh::keys::{Algorithm, Certificate};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel as RusshChannel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet, Pty, Sig};
use tokio::sync::{Semaphore, watch};

use super::Gate;
use super::admission;
use super::channel::{Channel, Down, Start, Terminal, Up};
use super::gated::Kill;
use super::lane::HIGH_WATER_BYTES;
use super::pump::ClientEnd;
use super::session::{self, Live, NotOpened};
use super::target::signal_name;
use crate::clock::{Tick, tick};
use crate::kernel::admit::{Admitted, Refusal};
use crate::kernel::id::Destination;
use crate::kernel::request::{
    ENV_COUNT_MAX, ENV_NAME_BYTES_MAX, ENV_VALUE_BYTES_MAX, EXEC_BYTES_MAX, Request, clamp_terminal,
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
/// Refused requests on one channel before it counts as an attack.
const DENIALS_MAX: u32 = 32;
/// Longest signal name, in bytes.
const SIGNAL_BYTES_MAX: usize = 32;
/// How long a closed channel may move nothing before it is ended.
const CLOSED_WAIT: Duration = Duration::from_secs(2);
/// How long a connection lives whose session did not open.
const UNOPENED_WAIT: Duration = Duration::from_secs(2);
/// How long a channel open waits for another to end.
const PLACE_WAIT: Duration = Duration::from_millis(750);
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
    /// Channels that may be open at once; each takes one until its pumps end.
    places: Arc<Semaphore>,
    opens: usize,
    /// When a channel that is not stalled sent last.
    flowed: Option<Tick>,
}

type Channels = Arc<Mutex<HashMap<ChannelId, (Arc<Channel>, ClientEnd)>>>;

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<ChannelId, (Arc<Channel>, ClientEnd)>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether its target takes less than the client sends.
fn stalled(channel: &Channel) -> bool {
    channel.up.backlog() > HIGH_WATER_BYTES as u64
}

impl Connection {
    /// A fresh connection; `authenticated` turns true once it is.
    pub fn new(gate: Arc<Gate>, peer: IpAddr, kill: Kill, authenticated: watch::Sender<bool>) -> Connection {
        let places = Arc::new(Semaphore::new(gate.settings().channels_max));
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
            places,
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

    /// Another user name starts over (GHSA-hpv4-5h6f-wqr3): what the holder of
    /// one certificate may be told is not told under another name.
    fn named(&mut self, user: &str) {
        let wanted = user.parse().ok();
        if wanted.is_none() || self.wanted != wanted {
            self.wanted = wanted;
            self.shown = None;
        }
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
            Start::Exec(command) => (
                Request::Exec {
                    command: command.clone(),
                },
                command.clone(),
            ),
            Start::Subsystem(name) => (Request::Subsystem { name: name.clone() }, name.clone().into_bytes()),
        };
        match live.decide(channel.number, request, &detail, "") {
            Ok(_permit) => {}
            Err(denial) => {
                let said = format!("refused by rule {}: {}", denial.rule, denial.sentence);
                refuse_in_words(&live, &channel, said);
                return Ok(());
            }
        }
        if channel.started.swap(true, Ordering::SeqCst) {
            // One program a channel (RFC 4254 section 6.5).
            refuse_in_words(&live, &channel, "this channel runs a program already".into());
            return Ok(());
        }
        let start = match live.admitted.force_command() {
            Some(command) => {
                let text = format!("the certificate's forced command runs instead: {command}");
                live.record(channel.number, Event::Marker { text: text.into() });
                Start::Exec(command.as_bytes().to_vec())
            }
            None => start,
        };
        enqueue(&live, &channel, Up::Start(start));
        Ok(())
    }

    fn data(&mut self, id: ChannelId, bytes: &[u8]) -> Option<Arc<Channel>> {
        let (live, channel) = self.channel(id)?;
        if let Err(error) = channel.take_from_client(bytes) {
            tracing::warn!(session = %live.id, %error, "client overran");
            live.control.end_now(EndReason::Backlog);
        }
        Some(channel)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whatever way the connection ended, nothing of it lives on.
        // Fired first: a session that opens right now sees either this, or
        // is seen here.
        self.kill.fire();
        if let Some(live) = self.live() {
            live.client_gone();
        }
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

/// Refuses a request with words on the channel's standard error, through the
/// pump, so that the client's window counts. Who asks on and on is cut off.
fn refuse_in_words(live: &Live, channel: &Channel, said: String) {
    if channel.denials.fetch_add(1, Ordering::SeqCst) >= DENIALS_MAX {
        live.control
            .end_now(EndReason::Protocol("too many refused requests".into()));
        return;
    }
    if channel.down.control(Down::Refused(said)).is_err() {
        live.control.end_now(EndReason::Backlog);
    }
}

/// A closed channel whose target takes no more input must still end: it does
/// once nothing has moved for a while.
async fn end_closed(channel: Arc<Channel>) {
    loop {
        let before = channel.account.to_target.load(Ordering::Relaxed);
        if tokio::time::timeout(CLOSED_WAIT, channel.stop.wait()).await.is_ok() {
            return;
        }
        if channel.account.to_target.load(Ordering::Relaxed) == before {
            channel.stop.fire();
            return;
        }
    }
}

/// Whether a signal's name is one (RFC 4254 section 6.10, or `name@domain`).
fn is_signal_name(name: &str) -> bool {
    (1..=SIGNAL_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"@.-".contains(&byte))
}

fn enqueue(live: &Live, channel: &Channel, up: Up) {
    if channel.up.control(up).is_err() {
        live.control.end_now(EndReason::Backlog);
    }
}

#[deny(clippy::missing_trait_methods)]
impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.named(user);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // Nothing is proved yet, and a certificate cannot be told from its bare
        // key here: only count, and refuse SHA-1.
        self.offers += 1;
        if self.offers > self.gate.settings().offers_max {
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
        self.named(user);
        match admission::admit(&self.gate, self.peer, user, certificate).await {
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
                self.gate.refused(self.peer, refusal.code());
                if !refusal.may_be_shown() {
                    return Ok(Auth::reject());
                }
                // An agent's next certificate is tried first; then the words.
                // Not as partial success: OpenSSH would begin again with its
                // first key, and never come to the words.
                self.shown = Some(refusal);
                Ok(Auth::Reject {
                    proceed_with_methods: Some(MethodSet::from(
                        [MethodKind::PublicKey, MethodKind::KeyboardInteractive].as_slice(),
                    )),
                    partial_success: false,
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
        self.named(user);
        let refusal = match (&self.shown, response) {
            (Some(refusal), None) => refusal.clone(),
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
        let client_id: String = String::from_utf8_lossy(session.remote_sshid())
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        let client = session.handle();
        tokio::spawn(async move {
            let opened = session::open(gate, admitted, peer, client_id, client, kill.clone()).await;
            let live = opened.as_ref().ok().cloned();
            if let Err(refused) = &opened {
                tracing::info!(code = refused.code, sentence = refused.sentence, "session not opened");
            }
            let failed = opened.is_err();
            send.send_replace(Some(opened));
            if failed {
                // Time for a channel open to be answered in words; then a
                // connection without a session has no business here.
                kill.guard(tokio::time::sleep(UNOPENED_WAIT)).await;
                kill.fire();
            }
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
            tokio::spawn(end_closed(channel));
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
        let settings = self.gate.settings();
        self.opens += 1;
        // A channel that the target closed is gone although the client's own
        // CLOSE never reaches this handler.
        lock(&self.channels).retain(|_, (channel, _)| !channel.stop.fired());
        if self.opens > settings.opens_max {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let places = self.places.clone();
        let id = channel.id();
        // Without the read half russh delivers to this handler alone and never
        // parks on a full channel queue.
        let (_, write) = channel.split();
        let end = ClientEnd::new(write, session.handle());
        let (channels, kill) = (self.channels.clone(), self.kill.clone());
        tokio::spawn(async move {
            // One that was just closed may still be clearing up.
            let place = kill
                .guard(tokio::time::timeout(PLACE_WAIT, places.acquire_owned()))
                .await;
            let place = match place {
                Some(Ok(Ok(place))) => place,
                Some(Ok(Err(_)) | Err(_)) => {
                    reply.reject(ChannelOpenFailure::ResourceShortage).await;
                    return;
                }
                None => return,
            };
            let opened = kill.guard(async {
                let live = opened_session(&mut opening).await?;
                let channel = live.open_channel(end.clone(), place).await?;
                lock(&channels).insert(id, (channel, end));
                Ok(())
            });
            let opened = opened.await;
            match opened {
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
        if !stalled(&channel) {
            self.flowed = Some(tick());
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
        let channels = lock(&self.channels);
        if !channels.values().any(|(channel, _)| stalled(channel)) {
            return WINDOW_BYTES;
        }
        let this = channels.get(&id).is_some_and(|(channel, _)| stalled(channel));
        let flows = self.flowed.is_some_and(|at| tick().duration_since(at) < FLOWING);
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
        // Modes reach the target, so they are recorded: opcode=value, as sent.
        let asked: Vec<String> = modes
            .iter()
            .map(|(mode, value)| format!("{}={value}", *mode as u8))
            .collect();
        let want = asked.join(" ");
        if live
            .decide(channel.number, Request::Pty, term.as_bytes(), &want)
            .is_err()
            || again
        {
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
        // The recorder first: not one key may be taken for ordinary input.
        live.recorder.terminal(channel.number, cols, rows);
        channel.terminal.store(true, Ordering::Release);
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
        if name.len() > ENV_NAME_BYTES_MAX || value.len() > ENV_VALUE_BYTES_MAX || name.contains('=') {
            let kind = format!("env of {} bytes", name.len() + value.len());
            // Not passed on, so a part of it is enough.
            let detail: Vec<u8> = format!("{name}={value}").bytes().take(ENV_VALUE_BYTES_MAX).collect();
            let _denied = live.decide(channel.number, Request::Unknown { kind }, &detail, "");
            return session.channel_failure(id);
        }
        // The whole of it is recorded: what passes reaches the target.
        let detail = format!("{name}={value}").into_bytes();
        let request = Request::Env { name: name.to_owned() };
        let allowed = live.decide(channel.number, request, &detail, "").is_ok()
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
            if !is_signal_name(&name) {
                let kind = "a signal without a name".to_owned();
                let _denied = live.decide(channel.number, Request::Unknown { kind }, b"", "");
                return Ok(());
            }
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
