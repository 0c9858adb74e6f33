//! The way through a bastion in front of a target: a connection to it, and one
//! `direct-tcpip` channel (RFC 4254 section 7.2) as the stream of the next one.
//!
//! What the bastion sends waits in our own queue, bounded. Its connection's
//! loop never stops for a full one, it only goes slowly: the next connection's
//! writes pass through that loop, and the two would wait for each other.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use russh::client::{self, Handle, Msg};
use russh::keys::PublicKey;
use russh::{Channel, ChannelId, ChannelOpenFailure, Sig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::gated::{Kill, Transport};
use super::host_check::{HostCheck, Seen};

/// Above this the bastion's connection goes slowly, in bytes.
const HIGH_WATER_BYTES: usize = 256 * 1024;
/// What may wait at most, in bytes: a target that writes and never reads is cut.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long each packet waits for room. Short enough for window adjustments,
/// keepalives and rekeys to be served in between.
const BRAKE: Duration = Duration::from_millis(100);

/// What came through and was not read yet. Cheap to clone.
#[derive(Clone, Default)]
struct Inlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    drained: Notify,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    reader: Option<Waker>,
}

impl Inlet {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes; never waits. False if there is no room.
    fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if state.ended {
            return true;
        }
        if state.bytes.saturating_add(bytes.len()) > QUEUE_BYTES_MAX {
            return false;
        }
        state.bytes = state.bytes.saturating_add(bytes.len());
        state.pieces.push_back(Bytes::copy_from_slice(bytes));
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// No more comes; what waits is still read.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Waits a little while more is there than should be.
    async fn brake(&self, kill: &Kill) {
        let room = async {
            loop {
                let drained = self.0.drained.notified();
                if self.lock().bytes <= HIGH_WATER_BYTES {
                    return;
                }
                drained.await;
            }
        };
        kill.guard(tokio::time::timeout(BRAKE, room)).await;
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.pieces.is_empty() && !state.ended {
            match &mut state.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        while buffer.remaining() > 0
            && let Some(mut piece) = state.pieces.pop_front()
        {
            let now = piece.split_to(piece.len().min(buffer.remaining()));
            state.bytes = state.bytes.saturating_sub(now.len());
            buffer.put_slice(&now);
            if piece.has_remaining() {
                state.pieces.push_front(piece);
            }
        }
        drop(state);
        self.0.drained.notify_waiters();
        Poll::Ready(())
    }
}

/// The handler of a bastion's connection.
pub struct Hop {
    check: HostCheck,
    seen: Seen,
    inlet: Inlet,
    kill: Kill,
}

impl Hop {
    /// Of the connection that falls with `kill`, and everything behind it too.
    pub fn new(check: HostCheck, seen: Seen, kill: Kill) -> Hop {
        Hop {
            check,
            seen,
            inlet: Inlet::default(),
            kill,
        }
    }

    /// Where what comes through is put.
    pub fn opening(&self) -> Opening {
        Opening {
            inlet: self.inlet.clone(),
            kill: self.kill.clone(),
        }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // The bastion is gone: so is everything behind it, at once.
        self.inlet.end();
        self.kill.fire();
    }
}

/// A bastion that is being logged in to.
pub struct Opening {
    inlet: Inlet,
    kill: Kill,
}

impl Opening {
    /// Has the bastion connect to `host` and `port`.
    ///
    /// # Errors
    /// russh's, with the bastion's reason.
    pub async fn connect(self, handle: Handle<Hop>, host: &str, port: u16) -> Result<Tunnel, russh::Error> {
        // Where it comes from is nothing that the bastion is told.
        let opened = handle
            .channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0)
            .await;
        let channel = opened.inspect_err(|_| self.kill.fire())?;
        // Without its read half russh delivers to the handler alone.
        let (_, write) = channel.split();
        Ok(Tunnel {
            inlet: self.inlet,
            write: Box::pin(write.make_writer()),
            kill: self.kill,
            _handle: handle,
        })
    }
}

/// A stream to what is behind a bastion.
pub struct Tunnel {
    inlet: Inlet,
    write: Pin<Box<dyn AsyncWrite + Send>>,
    kill: Kill,
    /// The connection ends when nobody holds it.
    _handle: Handle<Hop>,
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inlet.poll_read(context, buffer).map(Ok)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.as_mut().poll_shutdown(context)
    }
}

impl Transport for Tunnel {
    // The socket belongs to the bastion's connection, which looks after it.
    fn after_read(&self, _: usize) {}
    fn abandon(&self) {}
}

impl Drop for Tunnel {
    fn drop(&mut self) {
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
        if !self.inlet.push(data) {
            tracing::warn!("what is behind a bastion sends more than anybody reads");
            self.kill.fire();
        }
        self.inlet.brake(&self.kill).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(inlet: &Inlet, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        std::future::poll_fn(|context| inlet.poll_read(context, &mut buffer)).await;
        let filled = buffer.filled().len();
        bytes.truncate(filled);
        bytes
    }

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let inlet = Inlet::default();
        assert!(inlet.push(b"abc") && inlet.push(b"def"));
        assert_eq!(read(&inlet, 2).await, b"ab");
        assert_eq!(read(&inlet, 9).await, b"cdef");
        let waiting = tokio::spawn({
            let inlet = inlet.clone();
            async move { read(&inlet, 9).await }
        });
        tokio::task::yield_now().await;
        assert!(inlet.push(b"late"));
        assert_eq!(waiting.await.unwrap(), b"late");
        inlet.end();
        assert_eq!(read(&inlet, 9).await, b"");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_and_a_full_queue_only_slows() {
        let (inlet, kill) = (Inlet::default(), Kill::new());
        let piece = vec![0; 32 * 1024];
        assert!(inlet.push(&piece));
        let began = crate::clock::tick();
        inlet.brake(&kill).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        while inlet.lock().bytes <= HIGH_WATER_BYTES {
            assert!(inlet.push(&piece));
        }
        inlet.brake(&kill).await;
        assert!(began.elapsed() >= BRAKE && began.elapsed() < BRAKE * 2);
        let room = QUEUE_BYTES_MAX / piece.len();
        assert!((0..room).any(|_| !inlet.push(&piece)));
        assert!(inlet.lock().bytes <= QUEUE_BYTES_MAX);
        kill.fire();
        inlet.brake(&kill).await;
        assert!(began.elapsed() < BRAKE * 2);
    }
}
