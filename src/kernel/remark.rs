//! Remarks that the gate makes in a recording and reads again in there: what
//! became of a request beyond its decision.

use std::fmt;

const HOOKED: &str = "the shell is started with the hook of nonce ";
const FORCED: &str = "the certificate's forced command runs instead: ";
const NOT_STARTED: &str = "it was not started: ";

/// One of them, about a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remark<'a> {
    /// The shell tells what it runs, in marks with this nonce.
    Hooked { nonce: &'a str },
    /// This runs, whatever was asked for.
    Forced { command: &'a str },
    /// What was permitted does not run after all.
    NotStarted { why: &'a str },
}

impl<'a> Remark<'a> {
    /// What a marker says, if it is one of these.
    pub fn read(text: &'a str) -> Option<Remark<'a>> {
        let hooked = text.strip_prefix(HOOKED).map(|nonce| Remark::Hooked { nonce });
        let forced = || text.strip_prefix(FORCED).map(|command| Remark::Forced { command });
        let not = || text.strip_prefix(NOT_STARTED).map(|why| Remark::NotStarted { why });
        hooked.or_else(forced).or_else(not)
    }
}

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, rest) = match self {
            Remark::Hooked { nonce } => (HOOKED, nonce),
            Remark::Forced { command } => (FORCED, command),
            Remark::NotStarted { why } => (NOT_STARTED, why),
        };
        write!(f, "{before}{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_were_made() {
        for remark in [
            Remark::Hooked { nonce: "00ff" },
            Remark::Forced { command: "uptime" },
            Remark::NotStarted { why: "it is refused" },
        ] {
            assert_eq!(Remark::read(&remark.to_string()), Some(remark));
        }
        assert_eq!(Remark::read("flow control by the client: true"), None);
    }
}
