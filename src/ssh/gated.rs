//! The kill switch: every stream of a connection sits in a wrapper that fails
//! once its token fires.
//!
//! russh offers no way to end a session whose peer does not read; an error
//! from the stream does. The wrapper also keeps the send queue of the socket
//! short and acknowledges at once, so that neither Nagle's algorithm nor a
//! delayed ACK waits for the other on either leg.

use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes the kernel may hold unsent for one socket before it stops being
/// writable. Bytes on their way are not counted, so long paths stay fast; the
/// send buffer is left to the kernel's own tuning for the same reason.
const NOTSENT_BYTES_MAX: u32 = 64 * 1024;
/// Reads of these sizes re-arm quick acknowledgement: keys and requests, not
/// bulk, and not a packet's length alone, whose rest is read right after it.
const QUICKACK_READ_BYTES: RangeInclusive<usize> = 5..=4096;

/// Ends everything that hangs on it, once.
#[derive(Clone, Default)]
pub struct Kill(Arc<Switch>);

#[derive(Default)]
struct Switch {
    fired: AtomicBool,
    wakers: Mutex<Wakers>,
    notify: Notify,
}

#[derive(Default)]
struct Wakers {
    slots: Vec<(u64, Option<Waker>)>,
    next: u64,
    children: Vec<Weak<Switch>>,
}

impl Kill {
    pub fn new() -> Kill {
        Kill::default()
    }

    /// A token that fires when this one does, not the other way round.
    pub fn child(&self) -> Kill {
        let child = Kill::new();
        let mut wakers = lock(&self.0.wakers);
        wakers.children.retain(|weak| weak.strong_count() > 0);
        wakers.children.push(Arc::downgrade(&child.0));
        drop(wakers);
        if self.fired() {
            child.fire();
        }
        child
    }

    /// Fires it. Streams fail from now on; waiting tasks wake.
    pub fn fire(&self) {
        fire(&self.0);
    }

    pub fn fired(&self) -> bool {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// Resolves once it has fired.
    pub async fn wait(&self) {
        loop {
            let notified = self.0.notify.notified();
            tokio::pin!(notified);
            // Registered before the flag is read, so that a firing in between is not missed.
            notified.as_mut().enable();
            if self.fired() {
                return;
            }
            notified.await;
        }
    }

    /// Runs `future` until the token fires; `None` if it fired first.
    pub async fn guard<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            output = future => Some(output),
        }
    }

    fn slot(&self) -> u64 {
        let mut wakers = lock(&self.0.wakers);
        wakers.next += 1;
        let id = wakers.next;
        wakers.slots.push((id, None));
        id
    }

    fn park(&self, id: u64, waker: &Waker) {
        let mut wakers = lock(&self.0.wakers);
        if let Some((_, slot)) = wakers.slots.iter_mut().find(|(slot, _)| *slot == id) {
            match slot {
                Some(old) => old.clone_from(waker),
                None => *slot = Some(waker.clone()),
            }
        }
    }

    fn leave(&self, id: u64) {
        lock(&self.0.wakers).slots.retain(|(slot, _)| *slot != id);
    }
}

fn fire(switch: &Arc<Switch>) {
    let mut stack = vec![switch.clone()];
    while let Some(switch) = stack.pop() {
        if switch.fired.swap(true, Ordering::SeqCst) {
            continue;
        }
        let (wake, children) = {
            let mut wakers = lock(&switch.wakers);
            let wake: Vec<Waker> = wakers.slots.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
            (wake, std::mem::take(&mut wakers.children))
        };
        wake.into_iter().for_each(Waker::wake);
        switch.notify.notify_waiters();
        stack.extend(children.iter().filter_map(Weak::upgrade));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the wrapper needs from a socket beside reading and writing.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Called after a successful read of `bytes`.
    fn after_read(&self, bytes: usize);
    /// Called when the switch has fired, right before the stream is dropped:
    /// what is still queued must not leave.
    fn abandon(&self);
}

impl Transport for TcpStream {
    fn after_read(&self, bytes: usize) {
        if QUICKACK_READ_BYTES.contains(&bytes) {
            // The kernel clears the flag by itself; failing to set it costs only time.
            rustix::net::sockopt::set_tcp_quickack(self, true).ok();
        }
    }

    fn abandon(&self) {
        // Payload that was encrypted but never left is discarded by a reset.
        // If nothing is queued an ordinary close lets the notice arrive.
        let socket = socket2::SockRef::from(self);
        let idle = socket.set_tcp_notsent_lowat(1).is_ok() && writable_now(self);
        if !idle {
            rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO)).ok();
        }
    }
}

/// With a low-water mark of 1 a socket polls writable only if no byte waits unsent.
fn writable_now(stream: &TcpStream) -> bool {
    let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::OUT)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&zero)) {
        Ok(1) => fds
            .iter()
            .all(|fd| fd.revents().contains(rustix::event::PollFlags::OUT)),
        Ok(_) | Err(_) => false,
    }
}

/// Sets a fresh socket up for either leg.
///
/// # Errors
/// The system's, if the socket is dead already.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_quickack(stream, true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_notsent_lowat(NOTSENT_BYTES_MAX)?;
    Ok(())
}

/// A stream that fails once its token has fired.
pub struct Gated<S: Transport> {
    stream: S,
    kill: Kill,
    read: u64,
    write: u64,
}

impl<S: Transport> Gated<S> {
    pub fn new(stream: S, kill: Kill) -> Gated<S> {
        let (read, write) = (kill.slot(), kill.slot());
        Gated {
            stream,
            kill,
            read,
            write,
        }
    }

    fn gate<T>(
        &mut self,
        context: &mut Context<'_>,
        slot: u64,
        poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.kill.fired() {
            return Poll::Ready(Err(cut()));
        }
        let answer = poll(&mut self.stream, context);
        if answer.is_pending() {
            self.kill.park(slot, context.waker());
            // A firing between the first look and the parking would be lost.
            if self.kill.fired() {
                return Poll::Ready(Err(cut()));
            }
        }
        answer
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the gate")
}

impl<S: Transport> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let slot = self.read;
        let before = buffer.filled().len();
        let answer = self.gate(context, slot, |stream, context| {
            Pin::new(stream).poll_read(context, buffer)
        });
        if let Poll::Ready(Ok(())) = answer {
            self.stream.after_read(buffer.filled().len().saturating_sub(before));
        }
        answer
    }
}

impl<S: Transport> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let slot = self.write;
        self.gate(context, slot, |stream, context| {
            Pin::new(stream).poll_write(context, bytes)
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let slot = self.write;
        self.gate(context, slot, |stream, context| Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let slot = self.write;
        self.gate(context, slot, |stream, context| Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slot = self.write;
        self.gate(context, slot, |stream, context| {
            Pin::new(stream).poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Transport> Drop for Gated<S> {
    fn drop(&mut self) {
        self.kill.leave(self.read);
        self.kill.leave(self.write);
        if self.kill.fired() {
            self.stream.abandon();
        }
    }
}
