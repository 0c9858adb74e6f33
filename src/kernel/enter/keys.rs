//! Which of the typed bytes make somebody's line run.

use crate::kernel::coded::{self, CTRL, PARAMETERS_BYTES_MAX, Sequence};

/// Key codes of Enter, LF and the keypad's Enter (kitty, functional key definitions).
const ENTERS: &[u32] = &[13, 10, 57414];
/// Those of j, m, J and M, which are Enters with Ctrl.
const ENTERS_WITH_CTRL: &[u32] = &[106, 109, 74, 77];
/// ^O by itself.
const ENTERS_AND_NEXT: &[u32] = &[15];
/// Those of o and O.
const ENTERS_AND_NEXT_WITH_CTRL: &[u32] = &[111, 79];

/// What a byte does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// It is part of the line, or edits it.
    Other,
    /// It sends the line: CR or LF, by themselves or as a key of their own.
    Enter,
    /// It sends the line and brings another one: ^O of readline, ESC a of zsh.
    EnterAndNext,
    /// It changes the line before it sends it (ESC # and ^X^E of readline), or runs something by itself: what
    /// stands in the line (ESC ^E of readline, ^X* of zsh), or kept keys (^Xe).
    Changes,
    /// It puts the line aside, for a later one: ESC q and ^Q of zsh, and what runs something about it (ESC h, ESC ?).
    Stashes,
    /// It sends the line to a program that reads whole ones, and edits it elsewhere: ^D behind a text.
    Flush,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Plain,
    Escape,
    /// `ESC [` with its parameters.
    Control(Vec<u8>),
    /// `ESC O`.
    Single,
    /// ^X.
    Extended,
}

/// Follows the keys of one terminal.
///
/// An Enter is one wherever it stands, also behind ^V or ESC: whether a
/// program takes it as that is for the program to say. So is one with the
/// eighth bit, which is Meta or stripped off, unless it goes on with a
/// character of UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    state: State,
    /// Bytes that go on with a character.
    more: u8,
}

impl Scanner {
    /// Takes one byte. `empty`: nothing stands on the line before it.
    pub fn take(&mut self, byte: u8, empty: bool) -> Key {
        let goes_on = self.more > 0 && matches!(byte, 0x80..=0xbf);
        self.more = match byte {
            _ if goes_on => self.more.saturating_sub(1),
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
        let (state, key) = match (std::mem::take(&mut self.state), byte) {
            (_, b'\r' | b'\n') => (State::Plain, Key::Enter),
            (_, 0x8d | 0x8a) if !goes_on => (State::Plain, Key::Enter),
            (_, 0x0f) => (State::Plain, Key::EnterAndNext),
            (_, 0x8f) if !goes_on => (State::Plain, Key::EnterAndNext),
            (_, 0x04) if !empty => (State::Plain, Key::Flush),
            (_, 0x1b) => (State::Escape, Key::Other),
            (_, 0x18) => (State::Extended, Key::Other),
            (State::Extended, 0x05 | b'e' | b'E' | b'*' | b'g') => (State::Plain, Key::Changes),
            (State::Escape, b'#' | 0x05) => (State::Plain, Key::Changes),
            // ESC # and ESC ^E where the eighth bit is Meta.
            (_, 0xa3 | 0x85) if !goes_on => (State::Plain, Key::Changes),
            (State::Escape, b'q' | b'Q' | b'h' | b'H' | b'?') | (State::Plain, 0x11) => (State::Plain, Key::Stashes),
            (State::Escape, b'[') => (State::Control(Vec::new()), Key::Other),
            (State::Escape, b'O') => (State::Single, Key::Other),
            (State::Escape, b'a' | b'A') => (State::Plain, Key::EnterAndNext),
            // The Enter of the keypad (DECKPAM).
            (State::Single, b'M') => (State::Plain, Key::Enter),
            (State::Control(parameters), 0x40..=0x7e) => (State::Plain, control(&parameters, byte)),
            (State::Control(mut parameters), _) => {
                if parameters.len() < PARAMETERS_BYTES_MAX {
                    parameters.push(byte);
                }
                (State::Control(parameters), Key::Other)
            }
            (State::Plain | State::Escape | State::Single | State::Extended, _) => (State::Plain, Key::Other),
        };
        self.state = state;
        key
    }

    /// An Enter that comes now is one of several keys: some editors begin a further row by that, and send nothing.
    pub fn is_escaped(&self) -> bool {
        self.state == State::Escape
    }

    /// A key of more bytes has begun.
    pub fn is_within(&self) -> bool {
        self.state != State::Plain
    }
}

/// Enter as a sequence of its own: `13u`, `13;5u`, `57414u`, `106;5u`, `27;5;13~`. What cannot be read may be one.
fn control(parameters: &[u8], last: u8) -> Key {
    let key = match coded::read(parameters, last) {
        Sequence::Key(key) => key,
        Sequence::Unreadable => return Key::Enter,
        Sequence::Other => return Key::Other,
    };
    // The same key under another layout is one of its codes.
    let letter = key.letter.map(u32::from);
    let any = |keys: &[u32]| key.codes.iter().chain(&letter).any(|code| keys.contains(code));
    match key.modifiers & CTRL == CTRL {
        _ if any(ENTERS) => Key::Enter,
        _ if any(ENTERS_AND_NEXT) => Key::EnterAndNext,
        true if any(ENTERS_WITH_CTRL) => Key::Enter,
        true if any(ENTERS_AND_NEXT_WITH_CTRL) => Key::EnterAndNext,
        true | false => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_sends_a_line_is_an_enter() {
        let last = |keys: &str, empty: bool| {
            let mut scanner = Scanner::default();
            keys.bytes().map(|byte| scanner.take(byte, empty)).last()
        };
        for keys in [
            "\r",
            "\n",
            "\x1b\r",
            "\x16\r",
            "\x1b[\r",
            "\x1bOM",
            "\x1b[13u",
            "\x1b[13;5u",
            "\x1b[57414u",
            "\x1b[27;5;13~",
            "\x1b[013u",
            "\x1b[13:13;5:1u",
            "\x1b[27;5;13;1~",
            "\x1b[27;5;0106~",
            "\x1b[27;5;109~",
            "\x1b[106;5u",
            "\x1b[109;7u",
            "\x1b[74;6u",
            "\x1b[1084::109;5u",
            "\x1b[00000000000000000000000000000000000000013u",
            "\x1b[1\x003u",
            "\x1b[13;28;13;1;0;1_",
            "\x1b[74;36;10;1;8;1_",
            "\x1b[97;;13u",
        ] {
            assert_eq!(last(keys, false), Some(Key::Enter), "{keys:?}");
        }
        for keys in ["\x0f", "\x1ba", "\x1bA", "\x1b[111;5u"] {
            assert_eq!(last(keys, false), Some(Key::EnterAndNext), "{keys:?}");
        }
        for keys in [
            "\x1b#",
            "\x1b\x1b#",
            "\x18\x05",
            "\x18\x18\x05",
            "\x1b\x05",
            "\x18e",
            "\x18*",
        ] {
            assert_eq!(last(keys, true), Some(Key::Changes), "{keys:?}");
        }
        for keys in ["\x1bq", "\x1bQ", "\x11", "\x1bh", "\x1b?"] {
            assert_eq!(last(keys, false), Some(Key::Stashes), "{keys:?}");
        }
        assert_eq!(last("\x04", false), Some(Key::Flush));
        for (keys, empty) in [
            ("\x04", true),
            ("a", false),
            ("\x1b[A", false),
            ("\x1b[113u", false),
            ("\x1b[27;5;9~", false),
            ("\x1b[106u", false),
            ("\x1b[109;3u", false),
            ("\x1b[?13u", false),
            ("\x1b[13;28;13;0;0;1_", false),
            ("\x1b[0;0;55357;1;0;1_", false),
            ("\x1b[200~", false),
            ("\x05", false),
            ("#", false),
            ("č", false),
            ("£", false),
            ("\u{134d}", false),
        ] {
            assert_eq!(last(keys, empty), Some(Key::Other), "{keys:?}");
        }
    }

    #[test]
    fn the_eighth_bit_hides_no_enter() {
        let last = |keys: &[u8]| {
            let mut scanner = Scanner::default();
            keys.iter().map(|byte| scanner.take(*byte, false)).last()
        };
        for keys in [&b"\x8d"[..], b"a\x8a", b"\xc4\x8d\x8d", b"\xc3a\x8d", b"\xc1\x8d"] {
            assert_eq!(last(keys), Some(Key::Enter), "{keys:?}");
        }
        assert_eq!(last(b"\x8f"), Some(Key::EnterAndNext));
        for keys in [&b"\xa3"[..], b"\x85", b"\xc3\x85\x85"] {
            assert_eq!(last(keys), Some(Key::Changes), "{keys:?}");
        }
        assert_eq!(last("\u{c5}\u{2026}".as_bytes()), Some(Key::Other));
    }

    #[test]
    fn a_sequence_that_never_ends_costs_no_memory() {
        let mut scanner = Scanner::default();
        for byte in b"\x1b[".iter().chain(std::iter::repeat_n(&b'1', 10_000)) {
            scanner.take(*byte, false);
        }
        assert!(matches!(&scanner.state, State::Control(parameters) if parameters.len() == PARAMETERS_BYTES_MAX));
    }
}
