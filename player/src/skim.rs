//! Output that only scrolls, read without a terminal emulator: what most sessions print most of the time.
//!
//! As long as a program prints lines, colours them, and edits no line but the one it is at, what its terminal shows is
//! that line and the lines before it. [`Skim`] follows that, many times faster than an emulator, and stops at the first
//! byte that does anything else. Then the emulator catches up from the last lines, which are all it needs: what was on
//! its screen before has scrolled off. `tests/skim.rs` holds it against the emulator.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;

use crate::grid::Grid;

/// Bytes of one line; the emulator's reader breaks longer ones.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes that wait for the emulator before those of lines that have scrolled off are let go.
const PENDING_BYTES: usize = 32 << 10;
/// Lines kept beyond two screenfuls.
const LINES_SPARE: usize = 2;
/// Bytes of sequences that set a style.
const STYLE_BYTES_MAX: usize = 1024;
/// Bytes of one control sequence.
const SEQUENCE_BYTES_MAX: usize = 1024;
/// Cells from one tab stop to the next.
const TAB: usize = 8;
/// Modes that move and change no text: keys, blinking, visible cursor, mouse, focus, bracketed paste.
const HARMLESS_MODES: [&[u8]; 11] = [
    b"1", b"12", b"25", b"1000", b"1002", b"1003", b"1004", b"1005", b"1006", b"1015", b"2004",
];

/// Takes the lines, without the blanks at their ends.
pub trait Lines {
    /// A line has ended.
    fn ended(&mut self, line: &str);
}

/// The line at hand, and what the emulator has not seen yet.
pub struct Skim {
    cols: usize,
    rows: usize,
    /// Tab stops are where they are from the start.
    tabs: bool,
    line: String,
    /// Characters of it; each has one cell.
    chars: usize,
    /// The cursor, in characters from its start.
    col: usize,
    pending: Vec<u8>,
    /// Where lines begin in all bytes since the start, of which `gone` are no longer there.
    starts: VecDeque<usize>,
    gone: usize,
    /// The style that what is left is printed in: an emulator that wraps lines anew minds that of blanks.
    style: Vec<u8>,
}

impl Skim {
    /// From an emulator on whose screen nothing follows the cursor. `partial` is what has scrolled off of a line that
    /// begins above the screen.
    pub fn begin(grid: &Grid, partial: &str) -> Option<Skim> {
        if !grid.is_plain() {
            return None;
        }
        let terminal = grid.terminal();
        let (cols, rows) = terminal.size();
        let cursor = terminal.cursor();
        let lines: Vec<&avt::Line> = terminal.screen().visible_lines().collect();
        let (above, rest) = lines.split_at_checked(cursor.row)?;
        let (here, below) = rest.split_first()?;
        let blank = |cells: &[avt::Cell]| cells.iter().all(|cell| cell.char() == ' ');
        let nothing_follows = blank(here.cells().get(cursor.col.min(cols)..)?)
            && below.iter().all(|line| blank(line.cells()))
            && rest.iter().all(|line| !line.is_wrapped());
        if !nothing_follows {
            return None;
        }
        let wrapped = above.iter().rev().take_while(|line| line.is_wrapped()).count();
        let first = cursor.row - wrapped;
        if first == 0 && !partial.is_empty() {
            return None;
        }
        let mut text = String::new();
        let cells = above.iter().skip(first).flat_map(|line| line.cells());
        for cell in cells.chain(here.cells().iter().take(cursor.col)) {
            if cell.width() != 1 {
                return None;
            }
            text.push(cell.char());
        }
        let chars = text.chars().count();
        Some(Skim {
            cols,
            rows,
            tabs: grid.has_usual_tabs(),
            line: text,
            chars,
            col: chars,
            pending: Vec::new(),
            starts: VecDeque::new(),
            gone: 0,
            style: Vec::new(),
        })
    }

    /// Takes bytes as far as they are of that kind; how many that was.
    pub fn take(&mut self, bytes: &[u8], lines: &mut dyn Lines) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(n) = self.step(rest, lines) else {
                break;
            };
            at += n;
            if rest.first() == Some(&b'\n') {
                self.starts.push_back(self.gone + self.pending.len() + at);
            }
        }
        self.pending.extend_from_slice(bytes.get(..at).unwrap_or_default());
        self.let_go(PENDING_BYTES);
        at
    }

    /// The line at hand, without the blanks at its end.
    pub fn line(&self) -> &str {
        self.line.trim_end()
    }

    /// What the emulator needs to show what is to be seen now: how many bytes it will never see, and those that it has to.
    pub fn catch_up(mut self) -> (usize, Vec<u8>) {
        self.let_go(0);
        if self.gone == 0 {
            return (0, self.pending);
        }
        // What is kept are whole lines; what the emulator has is one that goes on.
        (self.gone, [self.style.as_slice(), b"\r\n", &self.pending].concat())
    }

    /// One step: how many bytes it took, or nothing if they are for the emulator.
    fn step(&mut self, rest: &[u8], lines: &mut dyn Lines) -> Option<usize> {
        match rest.first()? {
            b' '..=b'~' => {
                let n = rest
                    .iter()
                    .position(|b| !(b' '..=b'~').contains(b))
                    .unwrap_or(rest.len());
                let text = std::str::from_utf8(rest.get(..n)?).ok()?;
                self.print(text, n)?;
                Some(n)
            }
            b'\r' => {
                self.col = 0;
                Some(1)
            }
            // Below another column than the first is not at the start of a line.
            b'\n' if self.col == 0 => {
                lines.ended(self.line.trim_end());
                self.line.clear();
                self.chars = 0;
                Some(1)
            }
            0x08 if self.is_short() => {
                self.col = self.col.saturating_sub(1);
                Some(1)
            }
            b'\t' if self.tabs && self.is_short() => {
                self.forward((self.col / TAB + 1) * TAB);
                Some(1)
            }
            0x07 | 0x00 => Some(1),
            0x1B => self.sequence(rest.get(..SEQUENCE_BYTES_MAX).unwrap_or(rest)),
            0x80.. => {
                let head = rest.get(..4).unwrap_or(rest);
                let text = head.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
                let c = text.chars().next().filter(|c| *c >= '\u{A0}' && c.width() != Some(2))?;
                let n = c.len_utf8();
                self.print(text.get(..n)?, 1)?;
                Some(n)
            }
            _ => None,
        }
    }

    /// Whether the line at hand is on one row, and not up to its end.
    fn is_short(&self) -> bool {
        self.chars < self.cols
    }

    fn print(&mut self, text: &str, chars: usize) -> Option<()> {
        if self.col == self.chars {
            if self.line.len() > LINE_BYTES_MAX {
                return None;
            }
            self.line.push_str(text);
            self.chars += chars;
            self.col = self.chars;
            return Some(());
        }
        // Over what is there.
        if !self.is_short() || !self.line.is_ascii() {
            return None;
        }
        let end = (self.col + chars).min(self.line.len());
        self.line.replace_range(self.col..end, text);
        self.col += chars;
        self.chars = self.line.chars().count();
        Some(())
    }

    /// Moves the cursor on, over blanks if nothing is there.
    fn forward(&mut self, to: usize) {
        self.col = to.min(self.cols - 1);
        while self.chars < self.col {
            self.line.push(' ');
            self.chars += 1;
        }
    }

    /// A control sequence that is whole and does nothing but what is known here.
    fn sequence(&mut self, rest: &[u8]) -> Option<usize> {
        match rest.get(1)? {
            b'=' | b'>' => Some(2),
            b'(' => (rest.get(2)? == &b'B').then_some(3),
            b']' => {
                let n = rest.iter().skip(2).position(|b| !(b' '..=b'~').contains(b))? + 2;
                match (rest.get(n)?, rest.get(n + 1)) {
                    (0x07, _) => Some(n + 1),
                    (0x1B, Some(b'\\')) => Some(n + 2),
                    _ => None,
                }
            }
            b'[' => {
                let n = rest.iter().skip(2).position(|b| !(b'0'..=b'?').contains(b))? + 2;
                self.control(rest.get(2..n)?, *rest.get(n)?)?;
                Some(n + 1)
            }
            _ => None,
        }
    }

    fn control(&mut self, parameters: &[u8], last: u8) -> Option<()> {
        let plain = parameters
            .iter()
            .all(|b| b.is_ascii_digit() || *b == b';' || *b == b':');
        let count = || match parameters {
            b"" | b"0" => Some(1),
            digits => std::str::from_utf8(digits).ok()?.parse::<u16>().ok().map(usize::from),
        };
        match last {
            b'm' if plain => {}
            b'h' | b'l' => {
                let modes = parameters.strip_prefix(b"?")?;
                if !modes.split(|b| *b == b';').all(|mode| HARMLESS_MODES.contains(&mode)) {
                    return None;
                }
            }
            // Nothing is below; so what is below goes without a trace.
            b'K' | b'J' if matches!(parameters, b"" | b"0") && self.is_short() => {
                if self.col < self.chars {
                    if !self.line.is_ascii() {
                        return None;
                    }
                    self.line.truncate(self.col);
                    self.chars = self.col;
                }
            }
            b'C' if self.is_short() => {
                let to = self.col.saturating_add(count()?);
                self.forward(to);
            }
            b'D' if self.is_short() => self.col = self.col.saturating_sub(count()?),
            _ => return None,
        }
        Some(())
    }

    /// Lets go of lines that have scrolled off, if so many bytes wait.
    fn let_go(&mut self, bytes_min: usize) {
        // The cursor goes down one screenful, and another one scrolls: then every row is one of theirs.
        let kept = self.rows * 2 + LINES_SPARE;
        if self.pending.len() < bytes_min || self.starts.len() <= kept {
            return;
        }
        let first = self.starts.len() - kept;
        self.starts.drain(..first);
        let Some(start) = self.starts.front() else {
            return;
        };
        let n = start.saturating_sub(self.gone).min(self.pending.len());
        let dropped: Vec<u8> = self.pending.drain(..n).collect();
        self.gone += n;
        self.style = style_after(&self.style, &dropped);
    }
}

/// The sequences that set a style, from the last on that set it back.
fn style_after(before: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut style = before.to_vec();
    for part in bytes.split(|b| *b == 0x1B).skip(1) {
        let Some(end) = part.iter().position(|b| *b == b'm') else {
            continue;
        };
        let (sequence, _) = part.split_at(end + 1);
        if !sequence.starts_with(b"[") || !sequence.iter().skip(1).take(end - 1).all(|b| (b'0'..=b';').contains(b)) {
            continue;
        }
        if matches!(sequence, b"[m" | b"[0m") {
            style.clear();
        } else if style.len() > STYLE_BYTES_MAX {
            // Nobody sets it back; of so many the last ones count.
            style.clear();
        }
        style.push(0x1B);
        style.extend_from_slice(sequence);
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_is_what_was_set_last() {
        for (bytes, style) in [
            ("a\x1b[1mb\x1b[31mc\x1b[Kd", "\x1b[1m\x1b[31m"),
            ("\x1b[1m\x1b[0mx\x1b[4m", "\x1b[0m\x1b[4m"),
            ("\x1b]0;m\x07\x1b[?25hm", "\x1b[7m"),
        ] {
            let before = if style == "\x1b[7m" { "\x1b[7m" } else { "" };
            assert_eq!(
                style_after(before.as_bytes(), bytes.as_bytes()),
                style.as_bytes(),
                "{bytes:?}"
            );
        }
    }
}
