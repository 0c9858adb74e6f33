//! What typed bytes mean to the echo rule: letters that a terminal would show, and keys that it would not.

use zeroize::{Zeroize, Zeroizing};

use super::letters::Letters;
use crate::kernel::coded::{self, CTRL, CodedKey, OTHERS, PARAMETERS_BYTES_MAX, Sequence};

/// Longest answer of a terminal to a program's question, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// From a keypad's letter in application mode to what stands on its key.
const KEYPAD: u8 = 0x40;
/// Answers that are about colours (xterm, ctlseqs, OSC; 21 is kitty's).
const HARMLESS: [u32; 13] = [4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21];
/// Keys of kitty's that have no letter.
const FUNCTIONAL: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';

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
    /// Enter, of the keypad as well, ^O (readline, `operate-and-get-next`), or ^C, which `interrupts`.
    End { interrupts: bool },
    /// ^D: the end, or the letter at the cursor is erased.
    EndOrErase,
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
    /// After `ESC [ [`: the Linux console's F1 to F5, one byte more.
    Console,
    /// After `ESC [`, and then after an intermediate byte: no parameter follows that (ECMA-48 section 5.4).
    Sequence {
        intermediate: bool,
    },
    /// After `ESC O`: one byte more.
    Single,
    /// After `ESC ]` or `ESC P`: a terminal's answer goes on with certain bytes only.
    Begun {
        device: bool,
    },
    /// `number`: of an OSC; `numbered`: that is over, or there is none.
    Answer {
        bytes: usize,
        escape: bool,
        number: Option<u32>,
        numbered: bool,
    },
}

/// Puts typed bytes together to keys.
#[derive(Debug, Default)]
pub struct Keys {
    state: State,
    letters: Letters,
    /// Parameters of the sequence; they may be letters of a secret.
    parameters: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// Takes one byte: what it gives up, and what it is.
    pub fn take(&mut self, byte: u8) -> (Option<Key>, Option<Key>) {
        let state = std::mem::take(&mut self.state);
        let (next, key) = match (state, byte) {
            (State::Plain, _) => return self.plain(byte),
            (State::Escape, b'[') => {
                // Never larger: a copy would stay behind that nobody wipes.
                self.parameters.zeroize();
                self.parameters.reserve_exact(PARAMETERS_BYTES_MAX);
                (State::Sequence { intermediate: false }, None)
            }
            (State::Escape, b'O') => (State::Single, None),
            (State::Escape, b']' | b'P') => (State::Begun { device: byte == b'P' }, None),
            (State::Escape, 0x1b) => (State::Escape, None),
            (State::Escape, b'\r' | b'\n' | 0x03 | 0x04) => return self.plain(byte),
            // A keypad in application mode (xterm, ctlseqs): its Enter, its signs and its digits.
            (State::Single, b'M') => (State::Plain, Some(Key::End { interrupts: false })),
            (State::Single, b'X') => (State::Plain, Some(Key::Letter('='))),
            (State::Single, b'j'..=b'y') => (State::Plain, Some(Key::Letter(char::from(byte - KEYPAD)))),
            (State::Sequence { intermediate: false }, b'[') if self.parameters.is_empty() => (State::Console, None),
            (State::Sequence { .. }, 0x40..=0x7e) => (State::Plain, self.sequence(byte)),
            (State::Escape, _) | (State::Single | State::Console, 0x40..=0x7e) => {
                (State::Plain, Some(Key::Other(Other::Brings)))
            }
            (State::Sequence { .. }, 0x20..=0x2f) if self.goes_on(byte) => {
                (State::Sequence { intermediate: true }, None)
            }
            (State::Sequence { intermediate: false }, b'<'..=b'?') if self.parameters.is_empty() => {
                self.goes_on(byte);
                (state, None)
            }
            (State::Sequence { intermediate: false }, b'0'..=b';') if self.goes_on(byte) => (state, None),
            (State::Begun { .. }, b'0'..=b'9') | (State::Begun { device: true }, b'>' | b'!') => (
                State::Answer {
                    bytes: 1,
                    escape: false,
                    number: digit(0, byte).filter(|_| state == State::Begun { device: false }),
                    numbered: state == State::Begun { device: true },
                },
                None,
            ),
            // Alt with that letter.
            (State::Begun { .. }, _) => {
                let (torn, key) = self.plain(byte);
                return (torn.or(Some(Key::Other(Other::Brings))), key);
            }
            // It answers a program, and nobody typed it; but a clipboard may hold anything.
            (
                State::Answer {
                    number, numbered: true, ..
                },
                0x07,
            )
            | (
                State::Answer {
                    number, escape: true, ..
                },
                b'\\',
            ) => (
                State::Plain,
                number
                    .is_some_and(|number| !HARMLESS.contains(&number))
                    .then_some(Key::Lost),
            ),
            (
                State::Answer {
                    bytes,
                    escape: false,
                    number,
                    numbered,
                },
                0x1b | 0x20..=0xff,
            ) if bytes < ANSWER_BYTES_MAX && (numbered || matches!(byte, b'0'..=b'9' | b';')) => (
                State::Answer {
                    bytes: bytes + 1,
                    escape: byte == 0x1b,
                    number: match numbered || byte == b';' {
                        true => number,
                        false => number.and_then(|number| digit(number, byte)),
                    },
                    numbered: numbered || byte == b';',
                },
                None,
            ),
            (State::Sequence { .. } | State::Single | State::Console | State::Answer { .. }, _) => {
                let (_, key) = self.plain(byte);
                return (Some(Key::Lost), key);
            }
        };
        self.state = next;
        (None, key)
    }

    /// One more parameter, if there is room for it.
    fn goes_on(&mut self, byte: u8) -> bool {
        let room = self.parameters.len() < PARAMETERS_BYTES_MAX;
        if room {
            self.parameters.push(byte);
        }
        room
    }

    /// A control sequence that ends with this byte.
    fn sequence(&mut self, last: u8) -> Option<Key> {
        let key = match coded::read(&self.parameters, last) {
            Sequence::Key(key) => self.coded(key),
            Sequence::Unreadable => Some(Key::Lost),
            Sequence::Other if is_report(&self.parameters, last) => None,
            Sequence::Other => Some(Key::Other(Other::Brings)),
        };
        self.parameters.zeroize();
        key
    }

    fn coded(&mut self, key: CodedKey) -> Option<Key> {
        if key.is_idle {
            return None;
        }
        if key.modifiers & OTHERS > 0 {
            return Some(Key::Other(Other::Brings));
        }
        let [code, ..] = key.codes;
        let code = char::from_u32(code);
        match key.letter.or(code) {
            Some(letter) if letter.is_control() => match u8::try_from(letter) {
                Ok(0x1b) => Some(Key::Other(Other::Brings)),
                Ok(byte @ (0x01..=0x1f | 0x7f)) => self.plain(byte).1,
                // Arrows and their kin, as Windows' terminals write them.
                Ok(_) | Err(_) => Some(Key::Other(Other::Brings)),
            },
            Some(letter) if key.modifiers & CTRL > 0 => match u8::try_from(letter) {
                Ok(byte @ (b'@'..=b'_' | b'a'..=b'z')) => self.plain(byte & 0x1f).1,
                Ok(_) | Err(_) => Some(Key::Other(Other::Moves)),
            },
            Some(_) => match key.letter {
                Some(letter) => Some(Key::Letter(letter)),
                None if code.is_some_and(|code| FUNCTIONAL.contains(&code)) => Some(Key::Other(Other::Brings)),
                None => Some(Key::Lost),
            },
            None => Some(Key::Lost),
        }
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
            b'\r' | b'\n' | 0x03 | 0x0f => Some(Key::End {
                interrupts: byte == 0x03,
            }),
            0x04 => Some(Key::EndOrErase),
            0x7f | 0x08 => Some(Key::Erase),
            // ^R. ^S is more often flow control.
            0x12 => Some(Key::Other(Other::Searches)),
            // Tab, ^N, ^P and ^Y.
            0x09 | 0x0e | 0x10 | 0x19 => Some(Key::Other(Other::Brings)),
            // ^U and ^W.
            0x15 | 0x17 => Some(Key::Other(Other::Kills)),
            0x00..=0x1f => Some(Key::Other(Other::Moves)),
        };
        (self.letters.give_up().map(Key::Letter), key)
    }
}

/// A number with one digit more; what is too large is none that is known.
fn digit(number: u32, byte: u8) -> Option<u32> {
    let digit = char::from(byte).to_digit(10).unwrap_or(0);
    Some(number.saturating_mul(10).saturating_add(digit))
}

/// What a terminal says by itself: where the cursor or the mouse is, what it can do, that it has the focus. A key that is
/// written as one of them (Shift with F3) moves nothing either.
fn is_report(parameters: &[u8], last: u8) -> bool {
    match (parameters.first(), last) {
        (Some(b'0'..=b'9'), b'R' | b'n' | b't') | (None, b'I' | b'O') => true,
        (Some(b'?' | b'>' | b'='), b'c' | b'y' | b'u' | b'R' | b'n') | (Some(b'<'), b'M' | b'm') => true,
        (_, _) => false,
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
            (b"\x1b[?62;c\x1b]11;rgb:0/0/0\x07a", &[Key::Letter('a')]),
            (b"\x1bP1+r5463\x1b\\\x1b]10;x\x1b\\", &[]),
            (b"\x1b[3;12R\x1b[I\x1b[O\x1b[<0;3;4M\x1b[?2026;2$y", &[]),
            // A keypad, and keys that are written as sequences.
            (
                b"\x1bOq\x1bOr\x1bOX",
                &[Key::Letter('1'), Key::Letter('2'), Key::Letter('=')],
            ),
            (b"\x1b[0;0;55357;1;0;1_", &[Key::Lost]),
            (b"\x1b[83;31;115;1;0;2_", &[Key::Lost]),
            (b"\x1b[113;3;64u", &[Key::Letter('@')]),
            (
                b"\x1b[115u\x1b[115;2u\x1b[13u",
                &[Key::Letter('s'), Key::Letter('S'), END],
            ),
            (b"\x1b[27;2;83~\x1b[27;5;13~", &[Key::Letter('S'), END]),
            (b"\x1b[83;31;115;1;0;1_\x1b[83;31;115;0;0;1_", &[Key::Letter('s')]),
            (b"\x1b[99;5u", &[Key::End { interrupts: true }]),
            (b"\x1b[117;5u", &[Key::Other(Other::Kills)]),
            (b"\x1b[114;5u", &[Key::Other(Other::Searches)]),
            (b"\x1b[127u\x1b[9u\x1b[27u", &[Key::Erase, OTHER, OTHER]),
            (b"\x1b[115;3u\x1b[57352u", &[OTHER, OTHER]),
            (b"\x1b[37;75;0;1;256;1_", &[OTHER]),
            (b"\x1b[51;2u", &[Key::Lost]),
            (b"\x1b[A\x1b[1;5C\x1b[3~", &[OTHER, OTHER, OTHER]),
            (b"\x04", &[Key::EndOrErase]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(keys(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn letters_behind_a_key_that_begins_a_sequence_are_not_forgotten() {
        // Alt-[ and a PIN; Alt-] or Alt-P and a password; Alt-O and Enter.
        assert_eq!(keys(b"\x1b[1234\r"), [Key::Lost, END]);
        assert_eq!(keys(b"\x1b]1secret\r").first(), Some(&Key::Lost));
        assert_eq!(keys(b"\x1b[1!2#34^\r").first(), Some(&Key::Lost));
        assert_eq!(keys(b"\x1b[12<").first(), Some(&Key::Lost));
        assert_eq!(keys(b"\x1bO\r"), [Key::Lost, END]);
        let typed = keys(b"\x1bPse\r");
        assert_eq!(typed, [OTHER, Key::Letter('s'), Key::Letter('e'), END]);
        let long = [b"\x1b]1;".as_slice(), &[b'x'; ANSWER_BYTES_MAX]].concat();
        assert_eq!(keys(&long).first(), Some(&Key::Lost));
        let long = [b"\x1b[".as_slice(), &[b'1'; PARAMETERS_BYTES_MAX + 1]].concat();
        assert_eq!(keys(&long).first(), Some(&Key::Lost));
    }
}
