//! The way through a bastion in front of a target: a connection to it, and one
//! `direct-tcpip` channel (RFC 4254 section 7.2) as the stream of the next one.
//!
//! What the bastion sends waits in our own queue, bounded. Its connection's
//! loop never stops for a full one, it only goes slowly: the next connection's
//! writes pass through that loop, and the two would wait for each other.

use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::PublicKey;
use russh::{Channel, ChannelId, ChannelOpenFailure, Sig};

use super::broken::Broken;
use super::gated::Kill;
use super::host_check::{HostCheck, Seen};
use super::inlet::{Carried, Inlet};
use crate::kernel::id::TargetName;

/// Above this a bastion's packets wait for room, in bytes.
const HIGH_WATER_BYTES: usize = 256 * 1024;
/// What may wait at most, in bytes: a target that writes and never reads is cut.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long each packet waits for room. Short enough for window adjustments,
/// keepalives and rekeys to be served in between.
const BRAKE: Duration = Duration::from_millis(100);

/// The handler of a bastion's connection.
pub struct Hop {
    name: TargetName,
    broken: Broken,
    check: HostCheck,
    seen: Seen,
    inlet: Inlet,
    kill: Kill,
}

impl Hop {
    /// Of the connection that falls with `kill`, and everything behind it too.
    /// What breaks it first is told in `broken`.
    pub fn new(name: TargetName, broken: Broken, check: HostCheck, seen: Seen, kill: Kill) -> Hop {
        Hop {
            name,
            broken,
            check,
            seen,
            inlet: Inlet::new(HIGH_WATER_BYTES, QUEUE_BYTES_MAX),
            kill,
        }
    }

    /// Where what comes through is put.
    pub fn opening(&self) -> Opening {
        Opening {
            inlet: self.inlet.clone(),
            broken: self.broken.clone(),
            kill: self.kill.clone(),
        }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // One that falls with what carries it, or that nobody wants any more, broke nothing.
        if !self.kill.fired() {
            self.broken.by_bastion(&self.name);
        }
        // The bastion is gone: so is everything behind it, at once.
        self.inlet.end();
        self.kill.fire();
    }
}

/// A bastion that is being logged in to.
pub struct Opening {
    inlet: Inlet,
    broken: Broken,
    kill: Kill,
}

impl Opening {
    /// Has the bastion connect to `host` and `port`, which is a bastion's too
    /// if `next` names one.
    ///
    /// # Errors
    /// russh's, with the bastion's reason.
    pub async fn connect(
        self,
        handle: Handle<Hop>,
        next: Option<TargetName>,
        (host, port): (&str, u16),
    ) -> Result<Tunnel, russh::Error> {
        // Where it comes from is nothing that the bastion is told.
        let opened = handle
            .channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0)
            .await;
        let channel = opened.inspect_err(|_| self.kill.fire())?;
        // Without its read half russh delivers to the handler alone.
        let (_, write) = channel.split();
        let way = Way {
            next,
            broken: self.broken,
            kill: self.kill,
            _handle: handle,
        };
        Ok(self.inlet.stream(write.make_writer(), way))
    }
}

/// A stream to what is behind a bastion.
pub type Tunnel = Carried<Way>;

/// The way there, for as long as somebody uses it.
pub struct Way {
    /// The bastion behind it; none: the target.
    next: Option<TargetName>,
    broken: Broken,
    kill: Kill,
    /// The connection ends when nobody holds it.
    _handle: Handle<Hop>,
}

impl Drop for Way {
    fn drop(&mut self) {
        // While it stands itself, what went is the connection that used it.
        match &self.next {
            _ if self.kill.fired() => {}
            Some(bastion) => self.broken.by_bastion(bastion),
            None => self.broken.by_target(),
        }
        self.kill.fire();
    }
}

#[deny(clippy::missing_trait_methods)]
impl client::Handler for Hop {
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
        Ok(())
    }

    async fn channel_failure(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.inlet.end();
        Ok(())
    }

    async fn channel_eof(&mut self, _: ChannelId, _: &mut client::Session) -> Result<(), Self::Error> {
        self.inlet.end();
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

    // A bastion opens no channel towards us: dropping the handle refuses it.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
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
        _: Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
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
        _: Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
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
        _: Channel<Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut client::Session) -> Result<(), Self::Error> {
        if self.inlet.push(data).is_err() {
            tracing::warn!("what is behind a bastion sends more than anybody reads");
            self.kill.fire();
        }
        self.inlet.brake(BRAKE, &self.kill).await;
        Ok(())
    }

    async fn extended_data(
        &mut self,
        _: ChannelId,
        _: u32,
        _: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn xon_xoff(&mut self, _: ChannelId, _: bool, _: &mut client::Session) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn exit_status(&mut self, _: ChannelId, _: u32, _: &mut client::Session) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        _: ChannelId,
        _: Sig,
        _: bool,
        _: &str,
        _: &str,
        _: &mut client::Session,
    ) -> Result<(), Self::Error> {
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
