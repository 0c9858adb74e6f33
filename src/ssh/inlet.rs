//! What has come through a channel that carries a whole connection, and was
//! not read yet: our own queue, in bytes.
//!
//! russh's own `Channel::into_stream` parks the loop of the carrying connection
//! when its queue is full, and then nothing of that connection is served any more.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::gated::{Kill, Transport};

/// An empty queue gives back what it has taken beyond this, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// More came than there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The queue. Cheap to clone.
#[derive(Clone)]
pub struct Inlet(Arc<Shared>);

struct Shared {
    high_bytes: usize,
    bytes_max: usize,
    state: Mutex<State>,
    drained: Notify,
}

#[derive(Default)]
struct State {
    waiting: BytesMut,
    /// Who sends has said that no more comes.
    ended: bool,
    /// Nobody reads any more.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Inlet {
    /// A queue for at most `bytes_max`. Above `high_bytes` whoever sends should be slowed.
    pub fn new(high_bytes: usize, bytes_max: usize) -> Inlet {
        Inlet(Arc::new(Shared {
            high_bytes,
            bytes_max,
            state: Mutex::default(),
            drained: Notify::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes; never waits. Behind the end they go nowhere.
    ///
    /// # Errors
    /// [`Full`]; none of them were taken.
    pub fn push(&self, bytes: &[u8]) -> Result<(), Full> {
        let mut state = self.lock();
        if state.ended || state.closed || bytes.is_empty() {
            return Ok(());
        }
        if state.waiting.len().saturating_add(bytes.len()) > self.0.bytes_max {
            return Err(Full);
        }
        state.waiting.extend_from_slice(bytes);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// No more comes; what waits is still read, and a write that would wait fails.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Nobody reads any more.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting = BytesMut::new();
        drop(state);
        self.0.drained.notify_waiters();
    }

    /// Whether more waits than should.
    pub fn is_high(&self) -> bool {
        self.lock().waiting.len() > self.0.high_bytes
    }

    /// Waits a little while more is there than should be.
    pub async fn brake(&self, wait: Duration, kill: &Kill) {
        let room = async {
            loop {
                let drained = self.0.drained.notified();
                if !self.is_high() {
                    return;
                }
                drained.await;
            }
        };
        kill.guard(tokio::time::timeout(wait, room)).await;
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.ended {
            match &mut state.reader {
                Some(reader) => reader.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        let now = state.waiting.len().min(buffer.remaining());
        buffer.put_slice(state.waiting.get(..now).unwrap_or_default());
        state.waiting.advance(now);
        if state.waiting.is_empty() && state.waiting.capacity() > KEPT_BYTES {
            state.waiting = BytesMut::new();
        }
        drop(state);
        self.0.drained.notify_waiters();
        Poll::Ready(())
    }

    /// What became of a write, if it need not wait. An SSH peer that sends no
    /// more is gone: it makes no room either, and nobody may wait for that.
    fn unless_over<T>(&self, context: &Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let mut state = self.lock();
        if state.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match &mut state.writer {
            Some(writer) => writer.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Its other end: reads what was pushed, writes to `write`. `held` lives as
    /// long as the stream.
    pub fn stream<G>(&self, write: impl AsyncWrite + Send + 'static, held: G) -> Carried<G> {
        Carried {
            inlet: self.clone(),
            write: Box::pin(write),
            _held: held,
        }
    }
}

/// The stream of a connection that a channel of another one carries.
pub struct Carried<G> {
    inlet: Inlet,
    write: Pin<Box<dyn AsyncWrite + Send>>,
    _held: G,
}

impl<G: Unpin> AsyncRead for Carried<G> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inlet.poll_read(context, buffer).map(Ok)
    }
}

impl<G: Unpin> AsyncWrite for Carried<G> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.write.as_mut().poll_write(context, bytes);
        self.inlet.unless_over(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.write.as_mut().poll_flush(context);
        self.inlet.unless_over(context, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.write.as_mut().poll_shutdown(context);
        self.inlet.unless_over(context, written)
    }
}

impl<G: Unpin + Send + 'static> Transport for Carried<G> {
    // The socket belongs to the connection that carries it, which looks after it.
    fn after_read(&self, _: usize) {}
    fn abandon(&self) {}
}

impl<G> Drop for Carried<G> {
    fn drop(&mut self) {
        self.inlet.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HIGH: usize = 256 * 1024;
    const MAX: usize = 4 * HIGH;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let inlet = Inlet::new(HIGH, MAX);
        let mut stream = inlet.stream(tokio::io::sink(), ());
        inlet.push(b"abc").unwrap();
        inlet.push(b"def").unwrap();
        let mut first = [0u8; 2];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"ab");
        inlet.push(b"rest").unwrap();
        inlet.end();
        inlet.push(b"too late").unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"cdefrest");
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let inlet = Inlet::new(HIGH, MAX);
        let mut stream = inlet.stream(tokio::io::sink(), ());
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        });
        tokio::task::yield_now().await;
        inlet.push(b"late").unwrap();
        tokio::task::yield_now().await;
        inlet.end();
        assert_eq!(reading.await.unwrap(), b"late");
    }

    #[test]
    fn what_waits_is_bounded_whatever_its_pieces() {
        for piece in [vec![0u8; 64 * 1024], vec![0u8; 3]] {
            let inlet = Inlet::new(HIGH, MAX);
            while inlet.lock().waiting.len() + piece.len() <= MAX {
                inlet.push(&piece).unwrap();
            }
            assert!(inlet.is_high());
            let before = inlet.lock().waiting.len();
            assert_eq!(inlet.push(&piece), Err(Full));
            assert_eq!(inlet.lock().waiting.len(), before);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_only_slows() {
        const WAIT: Duration = Duration::from_millis(100);
        let (inlet, kill) = (Inlet::new(HIGH, MAX), Kill::new());
        inlet.push(&[0; 1024]).unwrap();
        let began = crate::clock::tick();
        inlet.brake(WAIT, &kill).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        inlet.push(&vec![0; HIGH]).unwrap();
        inlet.brake(WAIT, &kill).await;
        assert!(began.elapsed() >= WAIT && began.elapsed() < WAIT * 2);
        kill.fire();
        inlet.brake(WAIT, &kill).await;
        assert!(began.elapsed() < WAIT * 2);
    }

    #[tokio::test]
    async fn an_empty_queue_gives_its_memory_back() {
        let inlet = Inlet::new(HIGH, MAX);
        let mut stream = inlet.stream(tokio::io::sink(), ());
        let bytes = vec![7u8; HIGH];
        inlet.push(&bytes).unwrap();
        let mut got = vec![0u8; bytes.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == bytes && inlet.lock().waiting.capacity() <= KEPT_BYTES);
    }

    #[tokio::test]
    async fn a_write_does_not_wait_for_a_peer_that_has_ended() {
        // Room for one byte, and nobody reads.
        let (narrow, _unread) = tokio::io::duplex(1);
        let inlet = Inlet::new(HIGH, MAX);
        let mut stream = inlet.stream(narrow, ());
        let writing = tokio::spawn(async move {
            let error = stream.write_all(b"xy").await.unwrap_err();
            // What had come before is read all the same.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            (error.kind(), rest)
        });
        tokio::task::yield_now().await;
        inlet.push(b"bye").unwrap();
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        inlet.end();
        assert_eq!(writing.await.unwrap(), (io::ErrorKind::BrokenPipe, b"bye".to_vec()));
    }

    #[test]
    fn an_end_that_is_gone_takes_nothing_more() {
        let inlet = Inlet::new(HIGH, MAX);
        inlet.push(b"x").unwrap();
        drop(inlet.stream(tokio::io::sink(), ()));
        inlet.push(b"y").unwrap();
        assert!(inlet.lock().waiting.is_empty());
    }
}
