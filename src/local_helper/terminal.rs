//! The pseudo-terminal of a local target, from the server's side.
//!
//! Nothing is ever written to it on closing: a half-typed line dies with the
//! processes that might have read it.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "opcodes of RFC 4254 section 8 that this system has no bit for"
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::{Gid, Group, Uid};
use russh::Pty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, SpecialCodes, Termios,
    Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A control character of this value is switched off (RFC 4254 section 8).
const OFF: u32 = 255;

/// The side that the server reads and writes.
pub struct Master(AsyncFd<OwnedFd>);

/// Opens a terminal with the client's modes on it; the second part is the command's side.
///
/// # Errors
/// The system's.
pub fn open(size: Winsize, modes: &[(Pty, u32)]) -> io::Result<(Master, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // By descriptor, not by name: /dev/pts may be another one here.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    tcsetwinsize(&slave, size)?;
    let mut termios = tcgetattr(&slave)?;
    for (mode, value) in modes {
        apply(&mut termios, *mode, *value);
    }
    tcsetattr(&slave, OptionalActions::Now, &termios)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps the I/O safety that the unsafe replacement asks for"
    )]
    let master = AsyncFd::with_interest(master, Interest::READABLE | Interest::WRITABLE)?;
    Ok((Master(master), slave))
}

/// Gives the command's side to its account, as sshd does, so that /dev/pts/N can be opened by name.
///
/// # Errors
/// The system's.
pub fn give(slave: &OwnedFd, uid: Uid, gid: Gid) -> io::Result<()> {
    let tty = Group::from_name("tty").ok().flatten();
    let (group, mode) = match tty {
        Some(tty) => (tty.gid, 0o620),
        None => (gid, 0o600),
    };
    nix::unistd::fchown(slave, Some(uid), Some(group))?;
    rustix::fs::fchmod(slave, rustix::fs::Mode::from_raw_mode(mode))?;
    Ok(())
}

impl Master {
    /// Reads what the terminal shows; 0 once nobody has the other side open.
    ///
    /// # Errors
    /// The system's.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = self
            .0
            .async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd.as_fd(), &mut *into)?))
            .await;
        match read {
            // How Linux says that the other side is closed.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Ok(0),
            read => read,
        }
    }

    /// Types some of `bytes`; says how many were taken. `go` is asked right before each write.
    ///
    /// # Errors
    /// The system's; `ConnectionAborted` when `go` says no.
    pub async fn write(&self, bytes: &[u8], go: impl Fn() -> bool) -> io::Result<usize> {
        self.0
            .async_io(Interest::WRITABLE, |fd| match go() {
                false => Err(io::ErrorKind::ConnectionAborted.into()),
                true => Ok(rustix::io::write(fd.as_fd(), bytes)?),
            })
            .await
    }

    /// Tells the foreground programs a new size.
    ///
    /// # Errors
    /// The system's.
    pub fn resize(&self, size: Winsize) -> io::Result<()> {
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }
}

fn apply(termios: &mut Termios, mode: Pty, value: u32) {
    if let Some(index) = special(mode) {
        let code = if value == OFF {
            0
        } else {
            u8::try_from(value).unwrap_or(0)
        };
        set_special(&mut termios.special_codes, index, code);
        return;
    }
    let on = value != 0;
    if let Some(flag) = input(mode) {
        termios.input_modes.set(flag, on);
    } else if let Some(flag) = local(mode) {
        termios.local_modes.set(flag, on);
    } else if let Some(flag) = output(mode) {
        termios.output_modes.set(flag, on);
    } else {
        match mode {
            Pty::PARENB => termios.control_modes.set(ControlModes::PARENB, on),
            Pty::PARODD => termios.control_modes.set(ControlModes::PARODD, on),
            Pty::CS7 if on => set_bits(termios, ControlModes::CS7),
            Pty::CS8 if on => set_bits(termios, ControlModes::CS8),
            // Speeds mean nothing on a pseudo-terminal; the rest Linux does not have.
            _ => {}
        }
    }
}

fn set_bits(termios: &mut Termios, bits: ControlModes) {
    termios.control_modes.remove(ControlModes::CSIZE);
    termios.control_modes.insert(bits);
}

fn set_special(codes: &mut SpecialCodes, index: SpecialCodeIndex, code: u8) {
    codes[index] = code;
}

fn special(mode: Pty) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IUCLC => InputModes::IUCLC,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::XCASE => LocalModes::XCASE,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        Pty::PENDIN => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::OLCUC => OutputModes::OLCUC,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}
