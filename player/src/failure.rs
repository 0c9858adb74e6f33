//! How a run ends: the exit codes of the contract (design section 10), and errors that name one.

use std::fmt;
use std::process::ExitCode;

use portcullis_recording::{Fault, Why};

use crate::plain;

/// Exit codes a script can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `verify`: SEALED and proved in the ledger.
    Ok = 0,
    /// Failed for another reason, such as a disk error.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// INVALID: the recording is not what was signed.
    Invalid = 5,
    /// No such file.
    NotFound = 6,
    /// RECOVERED: sealed by the node after a crash.
    Recovered = 10,
    /// PREFIX: a spool.
    Prefix = 11,
    /// REDACTED: a copy that does not show everything.
    Redacted = 13,
    /// Not in the ledger, or nobody trusted has signed, or the key to encrypted content is missing.
    Unproved = 12,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error: cause and object in `message`, the next thing to try in `hint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code it gives.
    pub exit: Exit,
    /// What went wrong with what.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Failure {
    /// Without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
            hint: String::new(),
        }
    }

    /// What to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = hint.into();
        self
    }

    /// An input or output error about something, named.
    pub fn io(what: &str, error: &std::io::Error) -> Failure {
        let exit = if error.kind() == std::io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };
        Failure::new(exit, format!("{what}: {error}"))
    }
}

/// A read error says nothing about a recording; everything else that is found in one does.
impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        if let Why::Io(why) = &fault.why {
            return Failure::new(Exit::Failed, format!("cannot read the recording: {why}"))
                .hint("copy the file to a sound disk and try again");
        }
        if fault.why == Why::Locked {
            return Failure::new(Exit::Unproved, fault.to_string());
        }
        Failure::new(Exit::Invalid, fault.to_string())
    }
}

/// The reader of standard output has gone: nobody is left to tell.
pub(crate) fn write_failed(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Failure::new(Exit::Ok, "");
    }
    Failure::new(Exit::Failed, format!("cannot write the output: {error}"))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "portcullis-player: {}", plain::line(&self.message))?;
        if !self.hint.is_empty() {
            write!(f, "\n  {}", plain::line(&self.hint))?;
        }
        Ok(())
    }
}
