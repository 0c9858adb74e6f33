//! The handler of a target connection: it moves what arrives into the lanes,
//! and lets nothing in that nobody asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, Msg};
use russh::keys::PublicKey;
use russh::{ChannelId, ChannelOpenFailure, Sig};
use tokio::sync::Notify;

use super::answer::Answer;
use super::banner::Banner;
use super::broken::Broken;
use super::channel::{Channel, Down};
use super::control::Control;
use super::doors::{Asked, Came, Doors};
use super::forward::Arrival;
use super::gated::Kill;
use super::host_check::{HostCheck, Seen};
use super::lane::Stream;
use super::routes::Routes;
use crate::kernel::request::Request;

/// Longest text of a target's that is shown or recorded, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// Refusal texts that wait for whoever asked.
const REFUSALS_MAX: usize = 64;
/// How long who asked waits for the words of a refusal: they are right behind it.
const WORDS_WAIT: Duration = Duration::from_millis(100);

/// Which of our requests the target answers next.
#[derive(Clone, Debug)]
pub enum Expected {
    Pty(Arc<Answer>),
    Start,
    Agent(Arc<Answer>),
    /// With whether one connection only was asked for.
    X11(Arc<Answer>, bool),
}

/// Whether a channel has the connection for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Legged {
    Alone,
    Shared,
}

/// Where what arrives on a channel goes.
#[derive(Clone)]
pub struct Link {
    pub channel: Arc<Channel>,
    pub control: Arc<Control>,
    pub expected: Arc<Mutex<VecDeque<Expected>>>,
    pub legged: Legged,
}

impl Link {
    pub fn new(channel: Arc<Channel>, control: Arc<Control>, legged: Legged) -> Link {
        Link {
            channel,
            control,
            expected: Arc::default(),
            legged,
        }
    }

    fn take(&self, stream: Stream, bytes: &[u8]) {
        if let Err(error) = self.channel.take_from_target(stream, bytes) {
            tracing::warn!(%error, "target leg overran");
            self.channel.overran(&self.control);
        }
    }

    pub fn tell(&self, down: Down) {
        if self.channel.down.control(down).is_err() {
            self.channel.overran(&self.control);
        }
    }

    async fn brake(&self, kill: &Kill) {
        match self.legged {
            Legged::Alone => self.channel.down.brake(kill).await,
            Legged::Shared => self.channel.down.forward_brake(&self.channel.stop).await,
        }
    }
}

/// Why the target refused to open channels, in its own words. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Words>);

#[derive(Default)]
struct Words {
    said: Mutex<VecDeque<Option<String>>>,
    fresh: Notify,
}

impl Refusals {
    fn note(&self, words: Option<String>) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < REFUSALS_MAX {
            said.push_back(words);
        }
        drop(said);
        self.0.fresh.notify_one();
    }

    /// `reason` with the words that came with it, if it is certain which those are.
    pub async fn in_words(&self, reason: ChannelOpenFailure) -> ChannelOpenFailure {
        let words = async {
            loop {
                let fresh = self.0.fresh.notified();
                if let Some(words) = self.0.said.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
                    return words;
                }
                fresh.await;
            }
        };
        match tokio::time::timeout(WORDS_WAIT, words).await {
            Ok(Some(words)) if !words.is_empty() => ChannelOpenFailure::Other {
                code: reason.code(),
                reason: words,
            },
            Ok(_) | Err(_) => reason,
        }
    }
}

/// The handler of a target connection: it moves what arrives into the lanes.
pub struct Leg {
    check: HostCheck,
    seen: Seen,
    links: Routes<Link>,
    doors: Doors,
    refusals: Refusals,
    banner: Banner,
    broken: Broken,
    kill: Kill,
}

impl Leg {
    /// `seen` takes the fingerprint of a host key that is not the pinned one.
    pub fn new(
        check: HostCheck,
        seen: Seen,
        links: Routes<Link>,
        doors: Doors,
        refusals: Refusals,
        (banner, broken): (Banner, Broken),
        kill: Kill,
    ) -> Leg {
        Leg {
            check,
            seen,
            links,
            doors,
            refusals,
            banner,
            broken,
            kill,
        }
    }

    async fn link(&self, id: ChannelId) -> Option<Link> {
        self.links.find(id, &self.kill).await
    }

    async fn tell(&self, id: ChannelId, down: Down) {
        if let Some(link) = self.link(id).await {
            link.tell(down);
        }
    }

    async fn take(&self, id: ChannelId, stream: Stream, bytes: &[u8]) {
        if let Some(link) = self.link(id).await {
            link.take(stream, bytes);
            link.brake(&self.kill).await;
        }
    }

    async fn answered(&self, id: ChannelId, yes: bool) {
        let Some(link) = self.link(id).await else { return };
        let first = link.expected.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match first {
            Some(Expected::Start) if !link.channel.answer.give(yes) => link.tell(Down::Reply(yes)),
            Some(Expected::Pty(answer)) => {
                answer.give(yes);
            }
            Some(Expected::Agent(answer)) => {
                // A yes that came too late is one that the client was not told.
                if answer.give(yes) && yes {
                    self.doors.open(Asked::Agent);
                }
            }
            Some(Expected::X11(answer, single)) => {
                if answer.give(yes) && yes {
                    self.doors.open(Asked::X11 { single });
                }
            }
            Some(Expected::Start) | None => {}
        }
    }

    /// The target opens a channel. Without an answer it is refused.
    async fn came(&self, came: Came, channel: russh::Channel<Msg>, reply: client::ChannelOpenHandle) {
        let Some(live) = self.doors.live() else { return };
        let (_, write) = channel.split();
        let arrival = Arrival {
            came,
            write,
            links: self.links.clone(),
            doors: self.doors.clone(),
            kill: self.kill.clone(),
        };
        live.come_in(arrival, reply).await;
    }

    /// The target opens what no target opens towards a client.
    fn absurd(&self, kind: &str) {
        if let Some(live) = self.doors.live() {
            let kind = clean(kind);
            live.unasked(&self.doors, &Request::Unknown { kind: kind.clone() }, &kind);
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        // The connection ended: the client gets the end of what the target had
        // not closed itself, and is told so.
        self.broken.by_target();
        let links = self.links.end();
        if let (Some(bastion), Some(live), false) = (self.broken.bastion(), self.doors.live(), links.is_empty()) {
            live.bastion_broke(bastion, "the connection broke");
        }
        for link in links {
            link.tell(Down::Lost(self.broken.sentence()));
            link.tell(Down::Close);
        }
        self.kill.fire();
    }
}

#[deny(clippy::missing_trait_methods)]
impl client::Handler for Leg {
    type Error = russh::Error;

    async fn auth_banner(&mut self, said: &str, _: &mut client::Session) -> Result<(), Self::Error> {
        self.banner.hear(said);
        Ok(())
    }

    async fn check_server_key(&mut self, shown: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(self.seen.judge(&self.check, shown))
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &russh::Names,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        _: ChannelId,
        _: u32,
        _: u32,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn channel_success(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.answered(id, true).await;
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.answered(id, false).await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.tell(id, Down::Close).await;
        self.links.remove(id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.tell(id, Down::Eof).await;
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        _: ChannelOpenFailure,
        words: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        // russh tells the number to nobody who asked: with several under way
        // the words could be another's.
        let alone = self.links.under_way() == 1;
        self.refusals.note(alone.then(|| clean(words)));
        Ok(())
    }

    // Dropping the handle refuses a channel.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: russh::Channel<Msg>,
        host: &str,
        port: u32,
        from: &str,
        from_port: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let came = Came::Tcp {
            host: host.to_owned(),
            port,
            origin: (from.to_owned(), from_port),
        };
        self.came(came, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: russh::Channel<Msg>,
        path: &str,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let path = path.to_owned();
        self.came(Came::Unix { path }, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: russh::Channel<Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.came(Came::Agent, channel, reply).await;
        Ok(())
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, kind: &str) -> bool {
        self.absurd(kind);
        false
    }

    async fn server_channel_open_unknown(
        &mut self,
        _: russh::Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: russh::Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.absurd("session");
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.absurd("direct-tcpip");
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.absurd("direct-streamlocal");
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: russh::Channel<Msg>,
        from: &str,
        from_port: u32,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let origin = (from.to_owned(), from_port);
        self.came(Came::X11 { origin }, channel, reply).await;
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut client::Session) -> Result<(), Self::Error> {
        self.take(id, Stream::Main, data).await;
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _code: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.take(id, Stream::Stderr, data).await;
        Ok(())
    }

    async fn xon_xoff(
        &mut self,
        id: ChannelId,
        client_can_do: bool,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.tell(id, Down::XonXoff(client_can_do)).await;
        Ok(())
    }

    async fn exit_status(&mut self, id: ChannelId, status: u32, _: &mut client::Session) -> Result<(), Self::Error> {
        self.tell(id, Down::ExitStatus(status)).await;
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        core: bool,
        message: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let down = Down::ExitSignal {
            name: signal_name(&signal),
            core,
            message: clean(message),
        };
        self.tell(id, down).await;
        Ok(())
    }

    async fn window_adjusted(&mut self, _: ChannelId, _: u32, _: &mut client::Session) -> Result<(), Self::Error> {
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, window: u32) -> u32 {
        window
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        _: Vec<PublicKey>,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: client::DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            client::DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            client::DisconnectReason::Error(error) => Err(error),
        }
    }
}

/// Makes a target's text fit for a log line and a terminal.
pub fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// The name of a signal without `SIG` (RFC 4254 section 6.10).
pub fn signal_name(signal: &Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT".into(),
        Sig::ALRM => "ALRM".into(),
        Sig::FPE => "FPE".into(),
        Sig::HUP => "HUP".into(),
        Sig::ILL => "ILL".into(),
        Sig::INT => "INT".into(),
        Sig::KILL => "KILL".into(),
        Sig::PIPE => "PIPE".into(),
        Sig::QUIT => "QUIT".into(),
        Sig::SEGV => "SEGV".into(),
        Sig::TERM => "TERM".into(),
        Sig::USR1 => "USR1".into(),
        Sig::Custom(name) => clean(name),
    }
}
