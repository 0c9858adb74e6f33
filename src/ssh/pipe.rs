//! What a client sends to a connection inside another one: SSH from its first
//! byte on, or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWrite;

use super::channels;
use super::inlet::{Carried, Full, Inlet};

/// Above this the client is given no more window, in bytes: more than the one
/// stream that most connections inside carry can have under way.
const HIGH_WATER_BYTES: usize = 5 * 256 * 1024;
/// Window that a client is given for a connection inside, in bytes.
///
/// A program that carries another one's connection through pipes (PuTTY's
/// `plink -nc`) reads nothing of ours while that one does not read of it, not
/// even window adjustments; and that one does not read while it is not rid of
/// what it writes. So what is left of this at any time, a half of it, takes
/// all that the connection inside may still send by its own window, and by the
/// half of one that it may be told of meanwhile. That one's window is what
/// holds it back, never this.
pub const WINDOW_BYTES: u32 = 3 * channels::WINDOW_BYTES;
/// A client that has sent more than it was given room for, in bytes: the high
/// water, half a window, and the whole one that is given before it is asked
/// for again.
pub const PIPE_BYTES_MAX: usize = 6 * 1024 * 1024;
const _: () = assert!(PIPE_BYTES_MAX > HIGH_WATER_BYTES + (WINDOW_BYTES + WINDOW_BYTES / 2) as usize);
const _: () = assert!(WINDOW_BYTES >= 3 * channels::WINDOW_BYTES);
const _: () = assert!(HIGH_WATER_BYTES > channels::WINDOW_BYTES as usize);
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

impl From<Full> for PipeError {
    fn from(_: Full) -> PipeError {
        PipeError::Overrun
    }
}

/// The client's side of it. Cheap to clone.
#[derive(Clone)]
pub struct Pipe {
    inlet: Inlet,
    /// How much of [`SSH_ID`] has come.
    greeted: Arc<AtomicUsize>,
}

impl Default for Pipe {
    fn default() -> Pipe {
        Pipe {
            inlet: Inlet::new(HIGH_WATER_BYTES, PIPE_BYTES_MAX),
            greeted: Arc::default(),
        }
    }
}

impl Pipe {
    /// Takes bytes of the client. Never waits.
    ///
    /// # Errors
    /// [`PipeError`]; the stream should be ended then.
    pub fn push(&self, bytes: &[u8]) -> Result<(), PipeError> {
        let greeted = self.greeted.load(Ordering::Relaxed);
        if bytes
            .iter()
            .zip(SSH_ID.iter().skip(greeted))
            .any(|(said, due)| said != due)
        {
            return Err(PipeError::NotSsh);
        }
        let greeted = greeted.saturating_add(bytes.len()).min(SSH_ID.len());
        self.greeted.store(greeted, Ordering::Relaxed);
        Ok(self.inlet.push(bytes)?)
    }

    /// The client sends no more; what waits is still read.
    pub fn end(&self) {
        self.inlet.end();
    }

    /// Whether more waits than should: the client is given no more window.
    pub fn stalled(&self) -> bool {
        self.inlet.is_high()
    }

    /// Its other end: reads what was pushed, writes to `write`.
    pub fn stream(&self, write: impl AsyncWrite + Send + 'static) -> Carried<()> {
        self.inlet.stream(write, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for piece in [vec![0u8; 64 * 1024], vec![0u8; 7]] {
            let pipe = Pipe::default();
            pipe.push(SSH_ID).unwrap();
            let most = PIPE_BYTES_MAX / piece.len();
            let overran = (0..=most).find_map(|_| pipe.push(&piece).err());
            assert_eq!(overran, Some(PipeError::Overrun));
            assert!(pipe.stalled());
        }
    }
}
