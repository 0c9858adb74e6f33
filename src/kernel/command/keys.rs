//! One line as it was typed.

use super::paste::PasteEnd;

/// What is known of typed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys<'a> {
    /// They belong to a line that was echoed.
    Clear(&'a [u8]),
    /// They belong to a line that was not, or is not decided yet.
    Hidden {
        /// How many there are.
        bytes: usize,
        /// An Enter (or ^C, ^D) is the last of them.
        ends: bool,
    },
}

/// Bytes of a line's text that are kept.
const TEXT_BYTES_MAX: usize = super::COMMAND_BYTES_MAX;
/// Texts that are kept of a line that was corrected.
const PASSED_MAX: usize = 8;
/// Parameters of a control sequence that are looked at, in bytes.
const SEQUENCE_BYTES_MAX: usize = 8;

/// What a byte did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressed {
    /// The line goes on.
    More,
    /// It was sent.
    Enter,
    /// It was given up (^C).
    Cancelled,
    /// ^D: the end of input, where the line is empty.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Plain,
    Escape,
    /// `ESC [`: what came of it is in `sequence`.
    Control,
    /// `ESC O`: one byte follows.
    Single,
    /// ^V: the next byte is itself.
    Quoted,
}

/// The text of a line, as long as nothing but text and rubbing out was typed.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    text: Vec<u8>,
    /// What it was each time that something was rubbed out.
    passed: Vec<Vec<u8>>,
    rubbing: bool,
    edited: bool,
    hidden: usize,
    /// A paste goes on.
    paste: Option<PasteEnd>,
    pasted: bool,
    state: State,
    sequence: Vec<u8>,
}

impl Typed {
    /// A line inside a paste that goes on (bracketed paste).
    pub fn is_pasting(&self) -> bool {
        self.paste.is_some()
    }

    /// The paste is over, though its end was not seen.
    pub fn end_paste(&mut self) {
        self.paste = None;
    }

    /// Something was pasted into it as a whole (bracketed paste).
    pub fn was_pasted(&self) -> bool {
        self.pasted
    }

    /// Bytes that were not echoed, or are not decided.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// The text, where the keys alone tell it.
    pub fn text(&self) -> Option<String> {
        let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t');
        if self.edited || self.hidden > 0 || self.text.len() >= TEXT_BYTES_MAX || self.text.iter().any(control) {
            return None;
        }
        String::from_utf8(self.text.clone()).ok()
    }

    /// Whether this is what the line was on its way, or a part of that: its
    /// editor has not read all keys yet.
    pub fn has_passed(&self, text: &str) -> bool {
        let rest = |whole: &str| super::estimate::fold(whole).starts_with(text);
        let texts = self.passed.iter().filter_map(|passed| std::str::from_utf8(passed).ok());
        texts.into_iter().any(rest)
    }

    /// Nothing was typed but controls.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.edited && self.hidden == 0
    }

    /// The keys do not tell the text.
    pub fn spoil(&mut self) {
        self.edited = true;
    }

    /// Bytes that nobody may see.
    pub fn hide(&mut self, bytes: usize) {
        self.hidden = self.hidden.saturating_add(bytes);
    }

    /// Takes one byte.
    pub fn press(&mut self, byte: u8) -> Pressed {
        if let Some(end) = self.paste.take() {
            self.paste = self.pasted(end, byte);
            return Pressed::More;
        }
        let rubs = matches!((self.state, byte), (State::Plain, 0x7f | 0x08 | 0x15));
        if rubs && !std::mem::replace(&mut self.rubbing, rubs) && self.passed.len() < PASSED_MAX {
            self.passed.push(self.text.clone());
        }
        self.rubbing = rubs;
        match (self.state, byte) {
            (State::Plain, 0x1b) => self.state = State::Escape,
            (State::Escape, b'[') => {
                self.sequence.clear();
                self.state = State::Control;
            }
            (State::Escape, b'O') => self.state = State::Single,
            (State::Escape | State::Single | State::Quoted, _) => {
                self.state = State::Plain;
                self.edited = true;
            }
            (State::Control, 0x40..=0x7e) => {
                self.state = State::Plain;
                match (self.sequence.as_slice(), byte) {
                    (b"200", b'~') => (self.paste, self.pasted) = (Some(PasteEnd::default()), true),
                    // The terminal's own reports: focus, cursor, attributes.
                    (_, b'I' | b'O' | b'R' | b'c') => {}
                    (_, _) => self.edited = true,
                }
            }
            (State::Control, _) => {
                if self.sequence.len() < SEQUENCE_BYTES_MAX {
                    self.sequence.push(byte);
                }
            }
            (State::Plain, b'\r' | b'\n') => return Pressed::Enter,
            (State::Plain, 0x03) => return Pressed::Cancelled,
            (State::Plain, 0x04) if self.is_empty() => return Pressed::End,
            (State::Plain, 0x7f | 0x08) => self.rub_out(),
            // ^U and ^L: the line goes, or is drawn again.
            (State::Plain, 0x15) => self.text.clear(),
            (State::Plain, 0x0c) => {}
            (State::Plain, 0x16) => self.state = State::Quoted,
            (State::Plain, 0x00..=0x1f) => self.edited = true,
            (State::Plain, _) => self.push(byte),
        }
        Pressed::More
    }

    /// A byte of a paste, which is text whatever it is; what is left of the paste.
    fn pasted(&mut self, mut end: PasteEnd, byte: u8) -> Option<PasteEnd> {
        if !end.take(byte) {
            self.push(if byte == b'\r' { b'\n' } else { byte });
            return Some(end);
        }
        self.edited |= self.text.len() >= TEXT_BYTES_MAX;
        let own = self.text.len().saturating_sub(PasteEnd::BYTES.saturating_sub(1));
        self.text.truncate(own);
        None
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < TEXT_BYTES_MAX {
            self.text.push(byte);
        }
    }

    /// One character back.
    fn rub_out(&mut self) {
        while let Some(byte) = self.text.pop() {
            if byte & 0xc0 != 0x80 {
                break;
            }
        }
    }
}
