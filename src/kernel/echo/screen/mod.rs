//! What stands left of the cursor, as far as the echo rule needs it.
//!
//! No emulator: the rows that the cursor was in last, and nothing of how they
//! look. Where this is mistaken about a terminal, a line is held for hidden
//! that was shown; nothing is held for shown that does not stand there.

mod left;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use unicode_width::UnicodeWidthChar;

use super::letters::Letters;

/// Rows that are remembered.
const ROWS_KEPT: usize = 8;
/// Largest terminal that is followed, in columns and rows.
const SIZE_MAX: usize = 500;
/// Largest parameter of a control sequence.
const NUMBER_MAX: usize = 9999;
/// Output of one piece that is read whole though nobody waits for an echo, in bytes.
const SKIMMED_FROM_BYTES: usize = 1024;
/// Letters that one sequence repeats.
const REPEATED_MAX: usize = 100;
/// The second cell of a wide letter.
const FILLER: char = '\0';
/// From a tab to the next.
const TAB_COLUMNS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// A charset follows.
    Charset,
    Control,
    /// OSC, DCS and their kin, until they end, or a row or a key comes.
    Text,
}

/// What a byte of output did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drawn {
    /// Nothing that matters here.
    Nothing,
    /// A letter stands left of the cursor.
    Letter,
    /// The same, and the row was full before it.
    Wrapped,
    /// The cursor went to the first column, or to a place that was named.
    Return,
    /// The cursor went to the next row.
    Feed,
    /// A full-screen program gave the screen back.
    LeftFullScreen,
}

/// Bytes of output that go on with each other: the cursor rests between runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    Letters,
    /// Backspaces.
    Back,
    Other,
}

/// A place on the terminal, as long as its row is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    row: u64,
    column: usize,
}

/// Where the cursor is, and what stands left of it in its row: the same for as
/// long as nothing else was shown there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    pub place: Place,
    /// How often the cursor had left its row.
    moves: u64,
    /// A hash of it. Who shows something else that has the same one knows the secret anyway: it is typed to him.
    left: u64,
}

#[derive(Debug)]
struct Row {
    id: u64,
    number: usize,
    /// It goes on with the row above, which is full.
    continued: bool,
    cells: Vec<char>,
}

/// One terminal.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    rows: usize,
    row: usize,
    /// One past the last column: the next letter goes to the next row.
    column: usize,
    saved: (usize, usize),
    /// The cursor outside of full-screen programs.
    outside: (usize, usize),
    /// The rows that scroll.
    top: usize,
    bottom: usize,
    /// Rows are numbered as the terminal numbers them; before, from where it was met.
    numbered: bool,
    /// The cursor's own is the last one, if it is kept.
    kept: VecDeque<Row>,
    ids: u64,
    state: State,
    numbers: [Option<usize>; 2],
    number: usize,
    prefix: u8,
    letters: Letters,
    last: char,
    feeds: u64,
    /// How often the cursor left its row, in whatever way.
    moves: u64,
    bytes: u64,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen {
            columns: 80,
            rows: 24,
            row: 0,
            column: 0,
            saved: (0, 0),
            outside: (0, 0),
            top: 0,
            bottom: 23,
            numbered: false,
            kept: VecDeque::new(),
            ids: 0,
            state: State::Ground,
            numbers: [None; 2],
            number: 0,
            prefix: 0,
            letters: Letters::default(),
            last: ' ',
            feeds: 0,
            moves: 0,
            bytes: 0,
        }
    }
}

impl Screen {
    /// The terminal's size; 0 where it says none.
    pub fn sized(&mut self, columns: u32, rows: u32) {
        let of = |said: u32, usual: usize| match usize::try_from(said) {
            Ok(0) | Err(_) => usual,
            Ok(said) => said.min(SIZE_MAX),
        };
        (self.columns, self.rows) = (of(columns, 80), of(rows, 24));
        (self.top, self.bottom) = (0, self.rows.saturating_sub(1));
        self.row = self.row.min(self.bottom);
        self.column = self.column.min(self.columns);
    }

    /// How often the cursor went to another row, or to one that was named.
    pub fn feeds(&self) -> u64 {
        self.feeds
    }

    /// Bytes of output so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Column of the cursor.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Whether there is anything left of the cursor, or in the row that its row goes on with.
    pub fn stands_behind_something(&self) -> bool {
        self.column > 0 || self.here().is_some_and(|row| row.continued)
    }

    /// Place of the cursor.
    pub fn place(&mut self) -> Place {
        let column = self.column;
        Place {
            row: self.current().id,
            column,
        }
    }

    /// The same, and what stands left of it.
    pub fn standing(&mut self) -> Standing {
        let place = self.place();
        let moves = self.moves;
        self.stands().unwrap_or(Standing { place, moves, left: 0 })
    }

    /// The same, if the cursor's row is remembered.
    pub fn stands(&self) -> Option<Standing> {
        let (row, column) = (self.here()?, self.column);
        let mut hasher = DefaultHasher::new();
        row.cells.get(..column).unwrap_or(&row.cells).hash(&mut hasher);
        let place = Place { row: row.id, column };
        let left = hasher.finish();
        let moves = self.moves;
        Some(Standing { place, moves, left })
    }

    /// A key was typed: a control string that is still open will not be closed.
    pub fn typed(&mut self) {
        if self.state == State::Text {
            self.state = State::Ground;
        }
    }

    /// What this byte goes on with; none inside of a sequence.
    pub fn run(&self, byte: u8) -> Option<Run> {
        match (self.state, byte) {
            (State::Ground, 0x08) => Some(Run::Back),
            (State::Ground, 0x00..=0x1f | 0x7f) => Some(Run::Other),
            (State::Ground, _) => Some(Run::Letters),
            (State::Escape | State::Charset | State::Control | State::Text, _) => None,
        }
    }

    /// Nobody waits for an echo: of much output only the last row is read.
    pub fn skim(&mut self, output: &[u8]) {
        let last = output.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let skipped = match output.len() > SKIMMED_FROM_BYTES {
            true => last,
            false => 0,
        };
        if skipped > 0 {
            self.kept.clear();
            self.numbered = false;
            self.state = State::Ground;
            self.letters = Letters::default();
            self.bytes += skipped as u64;
        }
        for byte in output.get(skipped..).unwrap_or_default() {
            self.draw(*byte);
        }
    }

    /// Takes one byte of output.
    pub fn draw(&mut self, byte: u8) -> Drawn {
        self.bytes += 1;
        let (row, feeds) = (self.row, self.feeds);
        let drawn = self.take(byte);
        if (row, feeds) != (self.row, self.feeds) {
            self.moves += 1;
        }
        drawn
    }

    fn take(&mut self, byte: u8) -> Drawn {
        match (self.state, byte) {
            (_, 0x1b) => self.state = State::Escape,
            (_, b'\n') => {
                self.state = State::Ground;
                return self.feed();
            }
            (State::Escape, _) => return self.escape(byte),
            (State::Charset, _) | (State::Text | State::Control, 0x18 | 0x1a) | (State::Text, 0x07) => {
                self.state = State::Ground;
            }
            (State::Control, b'0'..=b'9') => {
                if let Some(number) = self.numbers.get_mut(self.number) {
                    let so_far = number.unwrap_or(0).saturating_mul(10);
                    *number = Some(so_far.saturating_add(usize::from(byte - b'0')).min(NUMBER_MAX));
                }
            }
            (State::Control, b';' | b':') => self.number = self.number.saturating_add(1),
            (State::Control, 0x20..=0x2f | b'<'..=b'?') => self.prefix = byte,
            (State::Control, 0x40..=0x7e) => return self.control(byte),
            (State::Text | State::Control, _) => {}
            (State::Ground, b'\r') => return self.to(self.row, 0),
            (State::Ground, 0x08) => self.column = self.column.min(self.columns.saturating_sub(1)).saturating_sub(1),
            (State::Ground, b'\t') => self.right((self.column / TAB_COLUMNS + 1) * TAB_COLUMNS - self.column),
            (State::Ground, 0x00..=0x1f | 0x7f) => {}
            (State::Ground, _) => {
                let (torn, whole) = self.letters.take(byte);
                let torn = torn.map(|letter| self.put(letter));
                return whole.map(|letter| self.put(letter)).or(torn).unwrap_or(Drawn::Nothing);
            }
        }
        Drawn::Nothing
    }

    fn escape(&mut self, byte: u8) -> Drawn {
        self.state = State::Ground;
        match byte {
            b'[' => {
                (self.numbers, self.number, self.prefix) = ([None; 2], 0, 0);
                self.state = State::Control;
            }
            b']' | b'P' | b'_' | b'^' | b'X' => self.state = State::Text,
            b'(' | b')' | b'*' | b'+' | b'#' | b'%' | b' ' => self.state = State::Charset,
            b'7' => self.saved = (self.row, self.column),
            b'8' => return self.to(self.saved.0, self.saved.1),
            b'D' => return self.feed(),
            b'E' => {
                self.column = 0;
                return self.feed();
            }
            b'M' if self.row == self.top => self.scroll(false, 1),
            b'M' => self.row = self.row.saturating_sub(1),
            b'c' => {
                self.kept.clear();
                return self.named(0, 0);
            }
            _ => {}
        }
        Drawn::Nothing
    }

    /// ECMA-48, and DEC's private modes for the alternate screen.
    fn control(&mut self, last: u8) -> Drawn {
        self.state = State::Ground;
        let [first, second] = self.numbers;
        let count = first.unwrap_or(1).max(1);
        match (self.prefix, last) {
            (b'?', b'h' | b'l') if matches!(first, Some(47 | 1047 | 1049)) => return self.full_screen(last == b'h'),
            (b'?', b'J' | b'K') | (0, _) => {}
            (_, _) => return Drawn::Nothing,
        }
        let below = self.row.saturating_add(count).min(self.rows.saturating_sub(1));
        let above = self.row.saturating_sub(count);
        match last {
            b'A' => self.row = above,
            b'B' => self.row = below,
            b'C' => self.right(count),
            b'D' => self.column = self.column.min(self.columns.saturating_sub(1)).saturating_sub(count),
            b'E' => return self.to(below, 0),
            b'F' => return self.to(above, 0),
            b'G' | b'`' => self.column = (count - 1).min(self.columns.saturating_sub(1)),
            b'H' | b'f' => return self.named(count - 1, second.unwrap_or(1).max(1) - 1),
            b'd' => return self.named(count - 1, self.column),
            b'K' => self.erase(first.unwrap_or(0)),
            b'J' => self.erase_rows(first.unwrap_or(0)),
            b'P' => self.cells(|cells, at| {
                let to = at.saturating_add(count).min(cells.len());
                cells.drain(at..to);
            }),
            b'@' => {
                let columns = self.columns;
                self.cells(|cells, at| {
                    cells.splice(at..at, std::iter::repeat_n(' ', count.min(columns)));
                    cells.truncate(columns);
                });
            }
            b'X' => self.cells(|cells, at| cells.iter_mut().skip(at).take(count).for_each(|cell| *cell = ' ')),
            b'b' => {
                // Up to the end of the row: nobody repeats a letter beyond it.
                let room = self.columns.saturating_sub(self.column);
                let mut drawn = Drawn::Nothing;
                for _ in 0..count.min(room).min(REPEATED_MAX) {
                    drawn = self.put(self.last);
                }
                return drawn;
            }
            b'L' | b'M' => {
                let top = std::mem::replace(&mut self.top, self.row);
                self.scroll(last == b'M', count);
                self.top = top;
            }
            b'S' => self.scroll(true, count),
            b'T' => self.scroll(false, count),
            b'r' => {
                let last_row = self.rows.saturating_sub(1);
                self.top = (count - 1).min(last_row);
                self.bottom = second.map_or(last_row, |row| row.max(1) - 1).clamp(self.top, last_row);
                return self.named(0, 0);
            }
            b's' => self.saved = (self.row, self.column),
            b'u' => return self.to(self.saved.0, self.saved.1),
            _ => {}
        }
        Drawn::Nothing
    }

    fn full_screen(&mut self, begins: bool) -> Drawn {
        self.kept.clear();
        if begins {
            self.outside = (self.row, self.column);
            return self.named(0, 0);
        }
        self.feeds += 1;
        (self.row, self.column) = self.outside;
        Drawn::LeftFullScreen
    }

    fn right(&mut self, count: usize) {
        self.column = self.column.saturating_add(count).min(self.columns.saturating_sub(1));
    }

    fn to(&mut self, row: usize, column: usize) -> Drawn {
        (self.row, self.column) = (row.min(self.rows.saturating_sub(1)), column.min(self.columns));
        Drawn::Return
    }

    /// A place in the terminal's own numbers: rows that had other ones are forgotten.
    fn named(&mut self, row: usize, column: usize) -> Drawn {
        if !std::mem::replace(&mut self.numbered, true) {
            self.kept.clear();
        }
        self.feeds += 1;
        self.to(row, column.min(self.columns.saturating_sub(1)))
    }

    fn feed(&mut self) -> Drawn {
        self.feeds += 1;
        let full = self.here().is_some_and(|row| row.cells.len() >= self.columns);
        self.next(full);
        Drawn::Feed
    }

    fn next(&mut self, continued: bool) {
        match self.row == self.bottom {
            true => self.scroll(true, 1),
            false => self.row = (self.row + 1).min(self.rows.saturating_sub(1)),
        }
        if continued {
            self.current().continued = true;
        }
    }

    /// Moves the rows that scroll.
    fn scroll(&mut self, up: bool, count: usize) {
        let (top, bottom) = (self.top, self.bottom);
        self.kept.retain_mut(|row| {
            if !(top..=bottom).contains(&row.number) {
                return true;
            }
            let moved = match up {
                true => row.number.checked_sub(count),
                false => row.number.checked_add(count),
            };
            match moved.filter(|number| (top..=bottom).contains(number)) {
                Some(number) => {
                    row.number = number;
                    true
                }
                None => false,
            }
        });
    }

    fn put(&mut self, letter: char) -> Drawn {
        let width = match letter.is_ascii() {
            true => 1,
            false => letter.width().unwrap_or(0),
        };
        if width == 0 {
            return Drawn::Nothing;
        }
        let wraps = self.column + width > self.columns;
        if wraps {
            let columns = self.columns;
            self.cells(|cells, _| cells.resize(columns, FILLER));
            self.column = 0;
            self.next(true);
        }
        self.cells(|cells, at| {
            if cells.len() < at + width {
                cells.resize(at + width, ' ');
            }
            for (cell, what) in cells.iter_mut().skip(at).zip([letter, FILLER]).take(width) {
                *cell = what;
            }
        });
        self.last = letter;
        self.column += width;
        match wraps {
            true => Drawn::Wrapped,
            false => Drawn::Letter,
        }
    }

    fn erase(&mut self, how: usize) {
        self.cells(|cells, at| match how {
            0 => cells.truncate(at),
            1 => cells.iter_mut().take(at + 1).for_each(|cell| *cell = ' '),
            _ => cells.clear(),
        });
    }

    fn erase_rows(&mut self, how: usize) {
        let row = self.row;
        match how {
            0 => self.kept.retain(|kept| kept.number <= row),
            1 => self.kept.retain(|kept| kept.number >= row),
            _ => {
                self.kept.clear();
                self.feeds += 1;
                return;
            }
        }
        self.erase(how);
    }

    /// The cells of the cursor's row, at the cursor.
    fn cells(&mut self, how: impl FnOnce(&mut Vec<char>, usize)) {
        let at = self.column;
        let row = self.current();
        let at = match row.cells.len() < at {
            true => {
                row.cells.resize(at, ' ');
                at
            }
            false => at,
        };
        how(&mut row.cells, at);
    }

    fn here(&self) -> Option<&Row> {
        self.kept.iter().find(|row| row.number == self.row)
    }

    /// The cursor's row, which becomes the last of those kept.
    fn current(&mut self) -> &mut Row {
        let number = self.row;
        if self.kept.back().is_none_or(|row| row.number != number) {
            let found = self.kept.iter().position(|row| row.number == number);
            let row = match found.and_then(|at| self.kept.remove(at)) {
                Some(row) => row,
                None => {
                    self.ids += 1;
                    Row {
                        id: self.ids,
                        number,
                        continued: false,
                        cells: Vec::new(),
                    }
                }
            };
            if self.kept.len() >= ROWS_KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(row);
        }
        let last = self.kept.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "an element was pushed just above")]
        &mut self.kept[last]
    }
}

#[cfg(test)]
mod tests;
