//! Which of the typed bytes make somebody's line run.

/// Longest parameters of a control sequence that are looked at, in bytes.
const PARAMETERS_BYTES_MAX: usize = 16;

/// What a byte does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// It is part of the line, or edits it.
    Other,
    /// It sends the line: CR or LF, by themselves or as a key of their own.
    Enter,
    /// It sends the line and brings another one: ^O of readline, ESC a of zsh.
    EnterAndNext,
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
}

/// Follows the keys of one terminal.
///
/// An Enter is one wherever it stands, also behind ^V or ESC: whether a
/// program takes it as that is for the program to say.
#[derive(Clone, Debug, Default)]
pub struct Scanner(State);

impl Scanner {
    /// Takes one byte. `empty`: nothing stands on the line before it.
    pub fn take(&mut self, byte: u8, empty: bool) -> Key {
        let (state, key) = match (std::mem::take(&mut self.0), byte) {
            (_, b'\r' | b'\n') => (State::Plain, Key::Enter),
            (_, 0x0f) => (State::Plain, Key::EnterAndNext),
            (_, 0x04) if !empty => (State::Plain, Key::Flush),
            (_, 0x1b) => (State::Escape, Key::Other),
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
            (State::Plain | State::Escape | State::Single, _) => (State::Plain, Key::Other),
        };
        self.0 = state;
        key
    }
}

/// Enter as xterm's modifyOtherKeys and the keyboard protocol of kitty write it: `13u`, `13;5u`, `57414u`, `27;5;13~`.
fn control(parameters: &[u8], last: u8) -> Key {
    let mut numbers = parameters.split(|byte| *byte == b';' || *byte == b':');
    let enter = match last {
        b'u' => matches!(numbers.next(), Some(b"13" | b"10" | b"57414")),
        b'~' => numbers.next() == Some(b"27") && matches!(numbers.next_back(), Some(b"13" | b"10")),
        _ => false,
    };
    match enter {
        true => Key::Enter,
        false => Key::Other,
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
        ] {
            assert_eq!(last(keys, false), Some(Key::Enter), "{keys:?}");
        }
        for keys in ["\x0f", "\x1ba", "\x1bA"] {
            assert_eq!(last(keys, false), Some(Key::EnterAndNext), "{keys:?}");
        }
        assert_eq!(last("\x04", false), Some(Key::Flush));
        for (keys, empty) in [
            ("\x04", true),
            ("a", false),
            ("\x1b[A", false),
            ("\x1b[113u", false),
            ("\x1b[27;5;9~", false),
        ] {
            assert_eq!(last(keys, empty), Some(Key::Other), "{keys:?}");
        }
    }

    #[test]
    fn a_sequence_that_never_ends_costs_no_memory() {
        let mut scanner = Scanner::default();
        for byte in b"\x1b[".iter().chain(std::iter::repeat_n(&b'1', 10_000)) {
            scanner.take(*byte, false);
        }
        assert!(matches!(&scanner.0, State::Control(parameters) if parameters.len() == PARAMETERS_BYTES_MAX));
    }
}
