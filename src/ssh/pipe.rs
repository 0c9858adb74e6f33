//! The stream of a connection inside another one: what the client sends waits
//! in our own queue, what we answer goes into the outer connection's channel.
//!
//! russh's own `Channel::into_stream` parks the outer connection's loop when
//! its queue is full, and then nothing of that connection is served any more.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gated::Transport;

/// Above this the client is given no more window, in bytes.
pub const HIGH_WATER_BYTES: usize = 256 * 1024;
/// A client that has sent more than it was given room for, in bytes: the high
/// water, a window, and what is already on its way.
pub const PIPE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pieces that may wait, whatever their size.
const PIECES_MAX: usize = 16 * 1024;
/// What an SSH client says first (RFC 4253 section 4.2).
const SSH_ID: &[u8] = b"SSH-2.0-";

/// Why a pipe takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PipeError {
    #[error("what came first is not SSH")]
    NotSsh,
    #[error("more was sent than there was window for")]
    Overrun,
}

impl PipeError {
    /// Stable, for the counts of refusals.
    pub fn code(self) -> &'static str {
        match self {
            PipeError::NotSsh => "jump_not_ssh",
            PipeError::Overrun => "jump_overrun",
        }
    }
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// How much of [`SSH_ID`] has come.
    greeted: usize,
    ended: bool,
    reader: Option<Waker>,
}

/// The client's side of it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Mutex<State>>);

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes of the client. Never waits.
    ///
    /// # Errors
    /// [`PipeError`]; the stream should be ended then.
    pub fn push(&self, bytes: &[u8]) -> Result<(), PipeError> {
        let mut state = self.lock();
        if state.ended || bytes.is_empty() {
            return Ok(());
        }
        for (said, due) in bytes.iter().zip(SSH_ID.iter().skip(state.greeted)) {
            if said != due {
                return Err(PipeError::NotSsh);
            }
        }
        state.greeted = state.greeted.saturating_add(bytes.len()).min(SSH_ID.len());
        if state.bytes.saturating_add(bytes.len()) > PIPE_BYTES_MAX || state.pieces.len() >= PIECES_MAX {
            return Err(PipeError::Overrun);
        }
        state.bytes += bytes.len();
        state.pieces.push_back(Bytes::copy_from_slice(bytes));
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The client sends no more; what waits is still read.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Whether more waits than should.
    pub fn stalled(&self) -> bool {
        self.lock().bytes > HIGH_WATER_BYTES
    }

    /// Its other end: reads what was pushed, writes to `write`.
    pub fn stream(&self, write: impl AsyncWrite + Send + 'static) -> InnerStream {
        InnerStream {
            pipe: self.clone(),
            write: Box::pin(write),
        }
    }
}

/// What the inner SSH server reads and writes.
pub struct InnerStream {
    pipe: Pipe,
    write: Pin<Box<dyn AsyncWrite + Send>>,
}

impl AsyncRead for InnerStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pipe.lock();
        if state.pieces.is_empty() {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
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
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InnerStream {
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

impl Drop for InnerStream {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        state.ended = true;
        state.pieces.clear();
        state.bytes = 0;
    }
}

impl Transport for InnerStream {
    // The socket belongs to the outer connection, which looks after it.
    fn after_read(&self, _: usize) {}
    fn abandon(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let pipe = Pipe::default();
        let mut stream = pipe.stream(tokio::io::sink());
        pipe.push(b"SSH-2.0").unwrap();
        pipe.push(b"-x\r\n").unwrap();
        let mut first = [0u8; 4];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"SSH-");
        pipe.push(b"rest").unwrap();
        pipe.end();
        pipe.push(b"too late").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"2.0-x\r\nrest");
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let pipe = Pipe::default();
        let mut stream = pipe.stream(tokio::io::sink());
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        });
        tokio::task::yield_now().await;
        pipe.push(b"SSH-2.0-x").unwrap();
        tokio::task::yield_now().await;
        pipe.end();
        assert_eq!(reading.await.unwrap(), b"SSH-2.0-x");
    }

    #[test]
    fn what_is_not_ssh_is_known_by_its_first_wrong_byte() {
        for wrong in [
            &b"GET / HTTP/1.1"[..],
            b"\0",
            b"SSH-1.5-x",
            b"ssh-2.0-",
            b"\r\nSSH-2.0-x",
        ] {
            assert_eq!(Pipe::default().push(wrong), Err(PipeError::NotSsh), "{wrong:?}");
        }
        let drip = Pipe::default();
        for byte in b"SSH-2" {
            drip.push(&[*byte]).unwrap();
        }
        assert_eq!(drip.push(b"x"), Err(PipeError::NotSsh));
    }

    #[test]
    fn what_waits_is_bounded() {
        let pipe = Pipe::default();
        pipe.push(SSH_ID).unwrap();
        let piece = vec![0u8; 64 * 1024];
        while pipe.lock().bytes + piece.len() <= PIPE_BYTES_MAX {
            pipe.push(&piece).unwrap();
        }
        assert!(pipe.stalled());
        assert_eq!(pipe.push(&piece), Err(PipeError::Overrun));
        let many = Pipe::default();
        many.push(SSH_ID).unwrap();
        let overran = (0..PIECES_MAX).find_map(|_| many.push(b"x").err());
        assert_eq!(overran, Some(PipeError::Overrun));
    }

    #[test]
    fn an_end_that_is_gone_takes_nothing_more() {
        let pipe = Pipe::default();
        drop(pipe.stream(tokio::io::sink()));
        pipe.push(b"SSH-2.0-x").unwrap();
        assert_eq!(pipe.lock().bytes, 0);
    }
}
