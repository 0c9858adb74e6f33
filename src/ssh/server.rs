//! The one implementation of russh's server handler: every callback is
//! written out, decodes what came, asks the kernel, and decides nothing.
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel as RusshChannel, ChannelId, ChannelOpenFailure, Pty, Sig};
use tokio::sync::{Semaphore, watch};

use super::Gate;
use super::authentication::{Authentication, Door, Entered};
use super::channel::{Channel, Display, Start, Up};
use super::channels::Channels;
use super::doors::Asked;
use super::forward::Direct;
use super::gated::Kill;
use super::jump::Outer;
use super::menu;
use super::opening::{self, Came, Opening};
use super::opens::{ClientSide, Wanted};
use super::penalties::Conduct;
use super::pump::ClientEnd;
use super::requests::{self, Size};
use super::session::Live;
use crate::kernel::request::Request;
use crate::kernel::session::EndReason;

/// How long a trickled packet's callback waits, so that a stalled channel
/// does not spin, and its siblings hardly notice.
const TRICKLE_WAIT: Duration = Duration::from_millis(2);

/// One client connection.
pub struct Connection {
    gate: Arc<Gate>,
    peer: IpAddr,
    door: Arc<Door>,
    kill: Kill,
    login: Authentication,
    opening: Option<Opening>,
    /// What it is instead of a session, if it is the outer one of a jump.
    outer: Option<Arc<Outer>>,
    channels: Channels,
    /// Channels that may be open at once; each takes one until its pumps end.
    places: Arc<Semaphore>,
    opens: usize,
}

impl Connection {
    /// A fresh connection; `authenticated` turns true once it is.
    pub fn new(
        gate: Arc<Gate>,
        peer: IpAddr,
        door: Door,
        kill: Kill,
        authenticated: watch::Sender<bool>,
        conduct: Arc<Conduct>,
    ) -> Connection {
        let places = Arc::new(Semaphore::new(gate.settings().channels_max));
        let (peer, door) = (peer.to_canonical(), Arc::new(door));
        Connection {
            login: Authentication::new(gate.clone(), peer, door.clone(), kill.clone(), conduct, authenticated),
            gate,
            peer,
            door,
            kill,
            opening: None,
            outer: None,
            channels: Channels::default(),
            places,
            opens: 0,
        }
    }

    fn live(&self) -> Option<Arc<Live>> {
        let opening = self.opening.as_ref()?;
        opening.borrow().live()
    }

    fn channel(&self, id: ChannelId) -> Option<(Arc<Live>, Arc<Channel>)> {
        let channel = self.channels.get(id)?;
        Some((self.live()?, channel))
    }

    /// A request on a channel that carries no decision of its own kind yet:
    /// refused, and recorded if there is a recording.
    fn refuse(&self, channel: u32, request: Request, detail: &str) {
        if let Some(live) = self.live() {
            live.decide(channel, request, detail.as_bytes(), "").ok();
        }
    }

    /// Starts a program on a channel; the target answers.
    async fn start(&mut self, id: ChannelId, start: Start, session: &mut Session) -> Result<(), russh::Error> {
        let answer = match (self.channel(id), &self.outer) {
            (Some((live, channel)), _) => requests::start(&live, &channel, start).await,
            (None, Some(outer)) => menu::start(outer, id, &start, session),
            (None, None) => Some(false),
        };
        match answer {
            Some(true) => session.channel_success(id),
            Some(false) => session.channel_failure(id),
            None => Ok(()),
        }
    }

    /// Books a channel open; whether there may be one more.
    fn opens_another(&mut self) -> bool {
        self.opens += 1;
        self.opens <= self.gate.settings().opens_max
    }

    async fn data(&mut self, id: ChannelId, bytes: &[u8]) -> Option<Arc<Channel>> {
        let channel = self.channels.find(id, &self.kill).await?;
        let live = self.live()?;
        if let Err(error) = channel.take_from_client(bytes) {
            tracing::warn!(session = %live.id, %error, "client overran");
            channel.overran(&live.control);
        }
        Some(channel)
    }

    /// This connection as channels are opened on it.
    fn side(&self, session: &Session) -> ClientSide {
        ClientSide {
            handle: session.handle(),
            channels: self.channels.clone(),
            places: self.places.clone(),
            kill: self.kill.clone(),
        }
    }

    /// A channel that the client opens, answered by a task of its own.
    async fn open(
        &mut self,
        channel: RusshChannel<Msg>,
        wanted: Wanted,
        reply: ChannelOpenHandle,
        side: ClientSide,
    ) -> Result<(), russh::Error> {
        let Some(opening) = self.opening.clone() else {
            return Ok(()); // dropping the handle refuses
        };
        self.channels.forget_ended();
        if !self.opens_another() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // Without the read half russh delivers to this handler alone and never
        // parks on a full channel queue.
        let (_, write) = channel.split();
        let end = ClientEnd::new(write, side.handle.clone());
        tokio::spawn(side.answer(opening, wanted, id, end, reply));
        Ok(())
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
            if let (Door::Jump(through), true) = (&*self.door, live.reason().is_cut()) {
                through.cut();
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        self.login.named(user);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, Self::Error> {
        Ok(self.login.reject())
    }

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        self.login.offered(offer.algorithm)
    }

    async fn auth_publickey(&mut self, user: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.login.plain_key(user))
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Self::Error> {
        Ok(self.login.certificate(user, certificate).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.login.words(user).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let (gate, peer, kill) = (self.gate.clone(), self.peer, self.kill.clone());
        match (self.login.take(), &*self.door) {
            (Some(Entered::Session(admitted, approved)), door) => {
                let came = Came::new(peer, session.remote_sshid(), door);
                self.opening = Some(opening::begin(
                    gate,
                    (*admitted, approved),
                    came,
                    session.handle(),
                    kill,
                ));
            }
            (Some(Entered::Outer(passage)), Door::Gate(served)) => {
                self.outer = Some(Outer::open(gate, peer, kill, served.clone(), passage, session.handle()));
            }
            (Some(Entered::Outer(_)), Door::Jump(_)) | (None, _) => return Err(russh::Error::Disconnect),
        }
        Ok(())
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        // In a jump the outer connection has shown it.
        Ok(match *self.door {
            Door::Gate(_) => self.gate.settings().banner.clone(),
            Door::Jump(_) => None,
        })
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(outer) = &self.outer {
            outer.close(id);
        }
        self.channels.find(id, &self.kill).await;
        let live = self.live();
        let removed = self.channels.remove(id);
        if let (Some(live), Some((channel, end))) = (live, removed) {
            end.set_closed();
            requests::close(&live, channel);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(outer) = &self.outer {
            outer.end(id);
        }
        if let (Some(channel), Some(live)) = (self.channels.find(id, &self.kill).await, self.live()) {
            channel.client_eof.store(true, Ordering::SeqCst);
            requests::enqueue(&live, &channel, Up::Eof);
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: RusshChannel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.outer.is_some() {
            // What it is for is told when something is started on it.
            match self.opens_another() {
                true => reply.accept().await,
                false => reply.reject(ChannelOpenFailure::ResourceShortage).await,
            }
            return Ok(());
        }
        let side = self.side(session);
        self.open(channel, Wanted::Program, reply, side).await
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
        channel: RusshChannel<Msg>,
        host: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if let Some(outer) = self.outer.clone() {
            match self.opens_another() {
                true => outer.jump(channel, (host.to_owned(), port), self.places.clone(), reply),
                false => reply.reject(ChannelOpenFailure::ResourceShortage).await,
            }
            return Ok(());
        }
        let direct = Direct::Tcp {
            host: host.to_owned(),
            port,
            origin: (from.to_owned(), from_port),
        };
        let side = self.side(session);
        self.open(channel, Wanted::Direct(direct), reply, side).await
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
        channel: RusshChannel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let path = path.to_owned();
        let side = self.side(session);
        self.open(channel, Wanted::Direct(Direct::Unix { path }), reply, side)
            .await
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
        if let Some(outer) = &self.outer {
            outer.data(id, data);
            if outer.trickles(id, data.len()) {
                self.kill.guard(tokio::time::sleep(TRICKLE_WAIT)).await;
            }
            return Ok(());
        }
        let Some(channel) = Connection::data(self, id, data).await else {
            return Ok(());
        };
        channel.up.shared_brake(&channel.stop).await;
        if self.channels.trickles(&channel, data.len()) {
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
        match &self.outer {
            Some(outer) => outer.window(id),
            None => self.channels.window(id),
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
        let size = Size {
            cols,
            rows,
            px_width,
            px_height,
        };
        match self.channel(id) {
            Some((live, channel)) if requests::pty(&live, &channel, term, size, modes).await => {
                session.channel_success(id)
            }
            None if self.outer.is_some() => session.channel_success(id),
            Some(_) | None => session.channel_failure(id),
        }
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        single: bool,
        protocol: &str,
        cookie: &str,
        screen: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let display = Display {
            single,
            protocol: protocol.to_owned(),
            cookie: cookie.to_owned(),
            screen,
        };
        match self.channel(id) {
            Some((live, channel)) if requests::x11(&live, &channel, display).await => session.channel_success(id),
            Some(_) | None => session.channel_failure(id),
        }
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.channel(id) {
            Some((live, channel)) if requests::env(&live, &channel, name, value) => session.channel_success(id),
            Some(_) | None => session.channel_failure(id),
        }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Start::Shell, session).await
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Start::Exec(command.to_vec()), session).await
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Start::Subsystem(name.to_owned()), session).await
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
        let size = Size {
            cols,
            rows,
            px_width,
            px_height,
        };
        if let Some((live, channel)) = self.channel(id) {
            requests::window_change(&live, &channel, size);
        }
        Ok(())
    }

    async fn agent_request(&mut self, id: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        match self.channel(id) {
            Some((live, channel)) => Ok(requests::agent(&live, &channel).await),
            None => Ok(false),
        }
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        if let Some((live, channel)) = self.channel(id) {
            requests::signal(&live, &channel, signal);
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, host: &str, port: &mut u32, session: &mut Session) -> Result<bool, Self::Error> {
        let asked = Asked::tcp(host, *port);
        let given = self.side(session).listen(self.opening.clone(), asked).await;
        *port = given.unwrap_or(*port);
        Ok(given.is_some())
    }

    async fn cancel_tcpip_forward(
        &mut self,
        host: &str,
        port: u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        let asked = Asked::tcp(host, port);
        Ok(self.side(session).stop_listening(self.opening.clone(), asked).await)
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Self::Error> {
        let given = self.side(session).listen(self.opening.clone(), Asked::unix(path)).await;
        Ok(given.is_some())
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Self::Error> {
        let asked = Asked::unix(path);
        Ok(self.side(session).stop_listening(self.opening.clone(), asked).await)
    }

    async fn lookup_dh_gex_group(
        &mut self,
        _: &russh::client::GexParams,
    ) -> Result<Option<russh::kex::dh::groups::DhGroup>, Self::Error> {
        // Group exchange is not offered.
        Ok(None)
    }
}
