//! What typed bytes mean to the echo rule: letters that a terminal would show, and keys that it would not.

use super::letters::Letters;

/// Longest answer of a terminal to a program's question, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// One key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// An echo shows it.
    Letter(char),
    /// Backspace.
    Erase,
    /// What follows may stand elsewhere.
    Other(Other),
    /// Bytes that began as the sequence of a key and did not end as one: they may have been letters.
    Lost,
    /// Enter, of the keypad as well, ^O (readline, `operate-and-get-next`) or ^D, or ^C, which `interrupts`.
    End { interrupts: bool },
}

/// A key that no terminal shows, by what comes of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Other {
    /// It moves.
    Moves,
    /// It erases more than one letter.
    Kills,
    /// It may bring text that was not typed: completion, an earlier line.
    Brings,
    /// It looks for what follows, which then stands in the midst of a row.
    Searches,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Plain,
    Escape,
    /// After `ESC [`.
    Sequence,
    /// After `ESC O`: one byte more.
    Single,
    /// After `ESC ]` or `ESC P`: a terminal's answer goes on with certain bytes only.
    Begun {
        device: bool,
    },
    Answer {
        bytes: usize,
        escape: bool,
    },
}

/// Puts typed bytes together to keys.
#[derive(Debug, Default)]
pub struct Keys {
    state: State,
    letters: Letters,
}

impl Keys {
    /// Takes one byte: what it gives up, and what it is.
    pub fn take(&mut self, byte: u8) -> (Option<Key>, Option<Key>) {
        let state = std::mem::take(&mut self.state);
        let (next, key) = match (state, byte) {
            (State::Plain, _) => return self.plain(byte),
            (State::Escape, b'[') => (State::Sequence, None),
            (State::Escape, b'O') => (State::Single, None),
            (State::Escape, b']' | b'P') => (State::Begun { device: byte == b'P' }, None),
            (State::Escape, 0x1b) => (State::Escape, None),
            (State::Escape, b'\r' | b'\n' | 0x03 | 0x04) => (
                State::Plain,
                Some(Key::End {
                    interrupts: byte == 0x03,
                }),
            ),
            // The Enter of a keypad in application mode (xterm, ctlseqs: `SS3 M`).
            (State::Single, b'M') => (State::Plain, Some(Key::End { interrupts: false })),
            (State::Escape, _) | (State::Sequence | State::Single, 0x40..=0x7e) => {
                (State::Plain, Some(Key::Other(Other::Brings)))
            }
            (State::Sequence, 0x20..=0x3f) => (State::Sequence, None),
            (State::Begun { .. }, b'0'..=b'9') | (State::Begun { device: true }, b'>' | b'!') => (
                State::Answer {
                    bytes: 1,
                    escape: false,
                },
                None,
            ),
            // Alt with that letter.
            (State::Begun { .. }, _) => {
                let (torn, key) = self.plain(byte);
                return (torn.or(Some(Key::Other(Other::Brings))), key);
            }
            (State::Answer { .. }, 0x07) | (State::Answer { escape: true, .. }, b'\\') => {
                (State::Plain, Some(Key::Other(Other::Brings)))
            }
            (State::Answer { bytes, escape: false }, 0x1b | 0x20..=0xff) if bytes < ANSWER_BYTES_MAX => (
                State::Answer {
                    bytes: bytes + 1,
                    escape: byte == 0x1b,
                },
                None,
            ),
            (State::Sequence | State::Single | State::Answer { .. }, _) => {
                let (_, key) = self.plain(byte);
                return (Some(Key::Lost), key);
            }
        };
        self.state = next;
        (None, key)
    }

    fn plain(&mut self, byte: u8) -> (Option<Key>, Option<Key>) {
        let key = match byte {
            0x20..=0x7e | 0x80..=0xff => {
                let (torn, whole) = self.letters.take(byte);
                return (torn.map(Key::Letter), whole.map(Key::Letter));
            }
            0x1b => {
                self.state = State::Escape;
                None
            }
            b'\r' | b'\n' | 0x03 | 0x04 | 0x0f => Some(Key::End {
                interrupts: byte == 0x03,
            }),
            0x7f | 0x08 => Some(Key::Erase),
            // ^R and ^S.
            0x12 | 0x13 => Some(Key::Other(Other::Searches)),
            // Tab, ^N, ^P and ^Y.
            0x09 | 0x0e | 0x10 | 0x19 => Some(Key::Other(Other::Brings)),
            // ^U and ^W.
            0x15 | 0x17 => Some(Key::Other(Other::Kills)),
            0x00..=0x1f => Some(Key::Other(Other::Moves)),
        };
        (self.letters.give_up().map(Key::Letter), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut all = Vec::new();
        for byte in bytes {
            let (first, second) = keys.take(*byte);
            all.extend(first);
            all.extend(second);
        }
        all
    }

    const END: Key = Key::End { interrupts: false };
    const OTHER: Key = Key::Other(Other::Brings);

    #[test]
    fn keys_are_told_from_letters() {
        let cases: &[(&[u8], &[Key])] = &[
            (b"a\r", &[Key::Letter('a'), END]),
            ("é\x7f".as_bytes(), &[Key::Letter('é'), Key::Erase]),
            (b"\x1b[Aa", &[OTHER, Key::Letter('a')]),
            (
                b"\x1b[200~a\x1bOHa",
                &[OTHER, Key::Letter('a'), OTHER, Key::Letter('a')],
            ),
            (b"\x03", &[Key::End { interrupts: true }]),
            (b"\x12", &[Key::Other(Other::Searches)]),
            (b"\x1b\r", &[END]),
            (b"a\x0f", &[Key::Letter('a'), END]),
            (b"a\x1bOM", &[Key::Letter('a'), END]),
            (b"\x1bb", &[OTHER]),
            // Answers of a terminal.
            (b"\x1b[?62;c\x1b]11;rgb:0/0/0\x07a", &[OTHER, OTHER, Key::Letter('a')]),
            (b"\x1bP1+r5463\x1b\\\x1b]10;x\x1b\\", &[OTHER, OTHER]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn letters_behind_a_key_that_begins_a_sequence_are_not_forgotten() {
        // Alt-[ and a PIN; Alt-] or Alt-P and a password; Alt-O and Enter.
        assert_eq!(keys(b"\x1b[1234\r"), [Key::Lost, END]);
        assert_eq!(keys(b"\x1b]1secret\r"), [Key::Lost, END]);
        assert_eq!(keys(b"\x1bO\r"), [Key::Lost, END]);
        let typed = keys(b"\x1bPse\r");
        assert_eq!(typed, [OTHER, Key::Letter('s'), Key::Letter('e'), END]);
        let long = [b"\x1b]1".as_slice(), &[b'x'; ANSWER_BYTES_MAX]].concat();
        assert_eq!(keys(&long).first(), Some(&Key::Lost));
    }
}
