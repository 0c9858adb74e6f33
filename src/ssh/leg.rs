//! The handler of a target connection: it moves what arrives into the lane.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use russh::client::{self, Msg};
use russh::keys::PublicKey;
use russh::{ChannelId, ChannelOpenFailure, Sig};

use super::channel::{Channel, Down};
use super::control::Control;
use super::gated::Kill;
use super::host_check::{HostCheck, Seen};
use super::lane::Stream;
use crate::kernel::session::EndReason;

/// Longest text of a target's that is shown or recorded, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// Which of our requests the target answers next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    Pty,
    Start,
}

#[derive(Clone)]
pub struct Link {
    pub channel: Arc<Channel>,
    pub control: Arc<Control>,
    pub expected: Arc<Mutex<VecDeque<Expected>>>,
}

/// The handler of a target connection: it moves what arrives into the lane.
pub struct Leg {
    pub check: HostCheck,
    pub seen: Seen,
    pub link: Arc<OnceLock<Link>>,
    pub kill: Kill,
    /// The target closed the channel itself.
    pub closed: bool,
}

impl Leg {
    fn take(&self, stream: Stream, bytes: &[u8]) {
        let Some(link) = self.link.get() else { return };
        if let Err(error) = link.channel.take_from_target(stream, bytes) {
            tracing::warn!(%error, "target leg overran");
            link.control.end_now(EndReason::Backlog);
        }
    }

    fn tell(&self, down: Down) {
        let Some(link) = self.link.get() else { return };
        if link.channel.down.control(down).is_err() {
            link.control.end_now(EndReason::Backlog);
        }
    }

    fn answered(&self, yes: bool) {
        let Some(link) = self.link.get() else { return };
        let first = link.expected.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match first {
            Some(Expected::Start) if !link.channel.answer.give(yes) => self.tell(Down::Reply(yes)),
            Some(Expected::Pty) if !yes => {
                tracing::info!("the target gave no terminal");
            }
            Some(Expected::Start | Expected::Pty) | None => {}
        }
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        // The connection ended: the client gets the end, and if the target did
        // not close the channel before, it is told so.
        if !self.closed {
            self.tell(Down::Lost);
        }
        self.tell(Down::Close);
        self.kill.fire();
    }
}

#[deny(clippy::missing_trait_methods)]
impl client::Handler for Leg {
    type Error = russh::Error;

    async fn auth_banner(&mut self, _: &str, _: &mut client::Session) -> Result<(), Self::Error> {
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

    async fn channel_success(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.answered(true);
        Ok(())
    }

    async fn channel_failure(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.answered(false);
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.closed = true;
        self.tell(Down::Close);
        Ok(())
    }

    async fn channel_eof(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.tell(Down::Eof);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        _: ChannelOpenFailure,
        _: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    // A target opens no channel towards us: dropping the handle refuses it.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: russh::Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
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
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: russh::Channel<Msg>,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut client::Session) -> Result<(), Self::Error> {
        self.take(Stream::Main, data);
        if let Some(link) = self.link.get() {
            link.channel.down.brake(&self.kill).await;
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        _: ChannelId,
        _code: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.take(Stream::Stderr, data);
        if let Some(link) = self.link.get() {
            link.channel.down.brake(&self.kill).await;
        }
        Ok(())
    }

    async fn xon_xoff(&mut self, _: ChannelId, _: bool, _: &mut client::Session) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn exit_status(&mut self, _: ChannelId, status: u32, _: &mut client::Session) -> Result<(), Self::Error> {
        self.tell(Down::ExitStatus(status));
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        _: ChannelId,
        signal: Sig,
        core: bool,
        message: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        self.tell(Down::ExitSignal {
            name: signal_name(&signal),
            core,
            message: clean(message),
        });
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
