//! The row that the cursor is in, as far as the echo rule needs it.
//!
//! Line editors draw again what is there already: a step back and the last
//! letter once more, or the whole row from its beginning. That is no news, and
//! must neither count as an echo nor as something else.

/// Bytes of a row that are followed; what is behind them is always news.
const ROW_BYTES_MAX: usize = 2048;
/// Largest parameter of a control sequence.
const NUMBER_MAX: usize = 9999;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// A charset follows.
    Charset,
    Control,
    /// OSC, DCS and their kin, until they end or the row does.
    Text,
}

/// What a byte of output did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drawn {
    /// Nothing that shows.
    Nothing,
    /// The cursor went to the beginning of this row, or elsewhere.
    Return,
    /// The cursor went to the next row.
    Feed,
    /// This byte, at this place; `again` if it was there before.
    Byte { byte: u8, at: usize, again: bool },
}

/// One row. Places are in bytes: exact for ASCII, and where others stand in
/// the row a redraw is taken for news, which errs on the side of hiding.
#[derive(Debug, Default)]
pub struct Row {
    bytes: Vec<u8>,
    at: usize,
    saved: usize,
    state: State,
    number: Option<usize>,
}

impl Row {
    /// Where the cursor is.
    pub fn at(&self) -> usize {
        self.at
    }

    /// A key was typed: a control string that is still open will not be closed.
    pub fn typed(&mut self) {
        if self.state == State::Text {
            self.state = State::Ground;
        }
    }

    /// Takes one byte of output.
    pub fn draw(&mut self, byte: u8) -> Drawn {
        match (self.state, byte) {
            (_, 0x1b) => self.state = State::Escape,
            (_, b'\n') => {
                self.state = State::Ground;
                self.bytes.clear();
                self.at = 0;
                return Drawn::Feed;
            }
            (State::Escape, b'[') => {
                self.number = None;
                self.state = State::Control;
            }
            (State::Escape, b']' | b'P' | b'_' | b'^' | b'X') => self.state = State::Text,
            (State::Escape, b'(' | b')' | b'*' | b'+' | b'#' | b'%' | b' ') => self.state = State::Charset,
            (State::Escape, b'7') => self.end(|row| row.saved = row.at),
            (State::Escape, b'8') => self.end(|row| row.go(row.saved)),
            (State::Escape | State::Charset, _) => self.state = State::Ground,
            (State::Text, 0x07 | 0x18 | 0x1a) => self.state = State::Ground,
            (State::Text, _) => {}
            (State::Control, b'0'..=b'9') => {
                let digit = usize::from(byte - b'0');
                let number = self.number.unwrap_or(0).saturating_mul(10).saturating_add(digit);
                self.number = Some(number.min(NUMBER_MAX));
            }
            (State::Control, 0x40..=0x7e) => return self.control(byte),
            (State::Control, _) => {}
            (State::Ground, b'\r') => {
                self.at = 0;
                return Drawn::Return;
            }
            (State::Ground, 0x08) => self.at = self.at.saturating_sub(1),
            (State::Ground, 0x00..=0x1f | 0x7f) => {}
            (State::Ground, _) => return self.put(byte),
        }
        Drawn::Nothing
    }

    fn end(&mut self, how: impl FnOnce(&mut Row)) {
        self.state = State::Ground;
        how(self);
    }

    fn go(&mut self, at: usize) {
        self.at = at.min(ROW_BYTES_MAX);
        if self.bytes.len() < self.at {
            self.bytes.resize(self.at, b' ');
        }
    }

    fn put(&mut self, byte: u8) -> Drawn {
        let at = self.at;
        let again = match self.bytes.get_mut(at) {
            Some(there) => std::mem::replace(there, byte) == byte,
            None => {
                if at < ROW_BYTES_MAX {
                    self.bytes.push(byte);
                }
                false
            }
        };
        self.at = at.saturating_add(1).min(ROW_BYTES_MAX);
        Drawn::Byte { byte, at, again }
    }

    /// ECMA-48: CUF, CUB, CHA, EL, ED, DCH, ICH. Whatever else moves the cursor
    /// goes to a row that is not known.
    fn control(&mut self, last: u8) -> Drawn {
        self.state = State::Ground;
        let number = self.number;
        let count = number.unwrap_or(1).max(1);
        match last {
            b'C' => self.go(self.at.saturating_add(count)),
            b'D' => self.at = self.at.saturating_sub(count),
            b'G' => self.go(count - 1),
            // Erased to the end: drawn again, it is still no news.
            b'K' | b'J' if number.unwrap_or(0) == 0 => {}
            b'P' => {
                let from = self.at.min(self.bytes.len());
                let to = from.saturating_add(count).min(self.bytes.len());
                self.bytes.drain(from..to);
            }
            b'@' => {
                let from = self.at.min(self.bytes.len());
                let count = count.min(ROW_BYTES_MAX.saturating_sub(self.bytes.len()));
                self.bytes.splice(from..from, std::iter::repeat_n(b' ', count));
            }
            b'A' | b'B' | b'E' | b'F' | b'H' | b'J' | b'K' | b'L' | b'M' | b'S' | b'T' | b'd' | b'f' => {
                self.bytes.clear();
                self.at = 0;
                return Drawn::Return;
            }
            _ => {}
        }
        Drawn::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that are news.
    fn news(output: &[u8]) -> String {
        let mut row = Row::default();
        let drawn = output.iter().map(|byte| row.draw(*byte));
        drawn
            .filter_map(|drawn| match drawn {
                Drawn::Byte { byte, again: false, .. } => Some(char::from(byte)),
                Drawn::Byte { again: true, .. } | Drawn::Nothing | Drawn::Return | Drawn::Feed => None,
            })
            .collect()
    }

    #[test]
    fn what_is_drawn_again_is_no_news() {
        for (output, expected) in [
            ("ab\x08bc", "abc"),
            ("\x1b[32m% \x1b[0ml\r\x1b[0K% ls\r\x1b[4C", "% ls"),
            ("% l\r% ls", "% ls"),
            ("% echo\x08\x08\x08\x08\x1b[34mecho\x1b[0m x", "% echo x"),
            ("\x1b]0;title\x07a\x1b]2;x\x1b\\b", "ab"),
            ("\x1b7\x1b[70C[ok]\x1b8% ", "[ok]%"),
            ("abd\x08\x1b[1@c", "abdc"),
            ("ab\r\nab", "abab"),
        ] {
            let got = news(output.as_bytes());
            assert_eq!(got, expected, "{output:?}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut row = Row::default();
        for byte in b"\x1b[9999C".iter().chain(std::iter::repeat_n(&b'x', 10_000)) {
            row.draw(*byte);
        }
        assert!(row.bytes.len() <= ROW_BYTES_MAX && row.at() <= ROW_BYTES_MAX);
    }
}
