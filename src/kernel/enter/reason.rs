//! The answer to a rule that asks for a reason: typed at the gate, not at the
//! target.

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;

/// What came of some keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// More is to come.
    More,
    /// It was given.
    Given(String),
    /// ^C, or ^D.
    Refused,
}

/// A reason that is being typed.
#[derive(Debug, Default)]
pub struct Reason {
    text: String,
    /// The first bytes of a character.
    torn: Vec<u8>,
}

impl Reason {
    /// Takes keys. Answers with how many of them were taken, what the terminal
    /// is shown for them, and what came of it.
    pub fn typed(&mut self, keys: &[u8]) -> (usize, String, Answer) {
        let mut echo = String::new();
        for (at, byte) in keys.iter().enumerate() {
            match byte {
                0x03 | 0x04 => return (at.saturating_add(1), echo, Answer::Refused),
                b'\r' | b'\n' if !self.text.trim().is_empty() => {
                    let text = std::mem::take(&mut self.text).trim().to_owned();
                    return (at.saturating_add(1), echo, Answer::Given(text));
                }
                0x7f | 0x08 => {
                    self.torn.clear();
                    if self.text.pop().is_some() {
                        echo.push_str("\u{8} \u{8}");
                    }
                }
                0x00..=0x1f => self.torn.clear(),
                _ => self.push(*byte, &mut echo),
            }
        }
        (keys.len(), echo, Answer::More)
    }

    fn push(&mut self, byte: u8, echo: &mut String) {
        self.torn.push(byte);
        match std::str::from_utf8(&self.torn) {
            Ok(text) => {
                let plain = !text.chars().any(char::is_control);
                if plain && self.text.len().saturating_add(text.len()) <= REASON_BYTES_MAX {
                    self.text.push_str(text);
                    echo.push_str(text);
                }
                self.torn.clear();
            }
            Err(error) if error.error_len().is_some() => self.torn.clear(),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_shown_and_given() {
        let mut reason = Reason::default();
        assert_eq!(reason.typed("tickä".as_bytes()), (6, "tickä".to_owned(), Answer::More));
        assert_eq!(reason.typed(b"\x7fet").1, "\u{8} \u{8}et");
        let (taken, _, answer) = reason.typed(b" 7 \rls\r");
        assert_eq!((taken, answer), (4, Answer::Given("ticket 7".to_owned())));
    }

    #[test]
    fn nothing_is_no_reason_and_no_control_gets_in() {
        let mut reason = Reason::default();
        assert_eq!(reason.typed(b"\r \r\x1b\x00\xff\xc2\x9b").2, Answer::More);
        assert_eq!(reason.typed(b"[2Jx\r").2, Answer::Given("[2Jx".to_owned()));
        assert_eq!(reason.typed(b"x\x03y"), (2, "x".to_owned(), Answer::Refused));
    }

    #[test]
    fn it_is_bounded() {
        let mut reason = Reason::default();
        for _ in 0..100 {
            reason.typed("€€€€€€€€€€".as_bytes());
        }
        assert!(reason.text.len() <= REASON_BYTES_MAX);
    }
}
