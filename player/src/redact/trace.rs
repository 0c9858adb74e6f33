//! Text as it stood on a screen, and which bytes put it there.
//!
//! Beside the screen runs a second one that does the same, but prints in the place of each character one that stands for
//! the place it came from. What the emulator moves, wraps or repeats on one it does on the other.

use avt::Terminal;
use avt::parser::{Function, State};
use unicode_width::UnicodeWidthChar;

use crate::grid::{Grid, clamp};
use crate::redact::choice::{Choice, is_text, width};
use crate::redact::edits::{Edits, Origin};

/// Stand-ins one cell wide: the private use planes (Unicode section 23.5).
const NARROW: Range = Range {
    first: 0xF0000,
    count: 0xFFFE,
};
/// Stand-ins two cells wide: CJK Unified Ideographs Extension B.
const WIDE: Range = Range {
    first: 0x20000,
    count: 0xA6D0,
};

/// Stand-ins of one width, and what they stand for. When all are used the oldest stand for something new: what they stood
/// for is then hardly on the screen any more, and where it is the finished copy is not delivered.
struct Range {
    first: u32,
    count: usize,
}

#[derive(Default)]
struct Names {
    origins: Vec<Origin>,
    next: usize,
}

impl Names {
    fn give(&mut self, range: &Range, origin: Origin) -> Option<char> {
        let n = self.next % range.count;
        match self.origins.get_mut(n) {
            Some(old) => *old = origin,
            None => self.origins.push(origin),
        }
        self.next += 1;
        char::from_u32(range.first + n as u32)
    }

    fn origin(&self, range: &Range, c: char) -> Option<&Origin> {
        let n = u32::from(c).checked_sub(range.first)? as usize;
        self.origins.get(n).filter(|_| n < range.count)
    }
}

/// One terminal.
pub struct Trace {
    grid: Grid,
    shadow: Terminal,
    narrow: Names,
    wide: Names,
    dirty: bool,
}

impl Trace {
    /// An empty one.
    pub fn new(cols: u32, rows: u32) -> Option<Trace> {
        let (grid_cols, grid_rows) = clamp(cols, rows);
        Some(Trace {
            grid: Grid::new(cols, rows),
            shadow: Terminal::new(grid_cols as usize, grid_rows as usize).ok()?,
            narrow: Names::default(),
            wide: Names::default(),
            dirty: false,
        })
    }

    /// One that shows a keyframe, of which nobody knows where it came from.
    pub fn from_keyframe(cols: u32, rows: u32, dump: &str) -> Option<Trace> {
        let mut trace = Trace::new(cols, rows)?;
        for c in dump.chars() {
            if let Some(function) = trace.grid.parse(c) {
                let narrow = matches!(function, Function::Print(c) if c.width() == Some(1));
                trace
                    .shadow
                    .execute(if narrow { Function::Print(' ') } else { function.clone() });
                trace.grid.execute(function);
            }
        }
        Some(trace)
    }

    /// Another size.
    pub fn resize(&mut self, cols: u32, rows: u32) {
        self.grid.resize(cols, rows);
        let (cols, rows) = clamp(cols, rows);
        self.shadow.resize(cols as usize, rows as usize);
        self.dirty = true;
    }

    /// Takes a character; whether it is text, on the screen or in a title, and no part of a control sequence.
    pub fn push(&mut self, c: char, origin: &Origin, choice: &Choice, edits: &mut Edits) -> bool {
        let in_string = matches!(
            self.grid.state(),
            State::OscString | State::DcsPassthrough | State::DcsIgnore | State::SosPmApcString
        );
        match self.grid.parse(c) {
            Some(Function::Print(c)) => {
                let stand_in = match c.width() {
                    Some(1) => self.narrow.give(&NARROW, origin.clone()),
                    Some(2) => self.wide.give(&WIDE, origin.clone()),
                    _ => None,
                };
                self.grid.execute(Function::Print(c));
                self.shadow.execute(Function::Print(stand_in.unwrap_or(c)));
                self.dirty = true;
                true
            }
            Some(function) => {
                // What stands there now may be wiped or moved away.
                self.look(choice, edits);
                self.shadow.execute(function.clone());
                self.dirty |= !matches!(function, Function::Sgr(_));
                self.grid.execute(function);
                false
            }
            None => in_string,
        }
    }

    /// Marks what must go of the line that the cursor is in.
    pub fn look(&mut self, choice: &Choice, edits: &mut Edits) {
        if !std::mem::take(&mut self.dirty) || choice.patterns.is_empty() {
            return;
        }
        let terminal = self.grid.terminal();
        let row = terminal.cursor().row;
        let screen = terminal.screen();
        let is_wrapped = |row: usize| screen.line(row).is_some_and(avt::Line::is_wrapped);
        let mut first = row;
        while first > 0 && is_wrapped(first - 1) {
            first -= 1;
        }
        let mut last = row;
        while is_wrapped(last) {
            last += 1;
        }
        // The text, and of each character its first byte and its stand-in.
        let (mut text, mut cells) = (String::new(), Vec::new());
        let shadow = self.shadow.screen();
        for row in first..=last {
            let (Some(line), Some(names)) = (screen.line(row), shadow.line(row)) else {
                break;
            };
            for (cell, name) in line
                .cells()
                .iter()
                .zip(names.cells())
                .filter(|(cell, _)| cell.width() > 0)
            {
                cells.push((text.len(), cell.char(), name.char()));
                text.push(cell.char());
            }
        }
        let text = text.trim_end();
        for found in choice.found(text) {
            let begin = cells.partition_point(|(at, ..)| *at < found.start);
            for (_, c, name) in cells.iter().skip(begin).take_while(|(at, ..)| *at < found.end) {
                let origin = self.narrow.origin(&NARROW, *name).or(self.wide.origin(&WIDE, *name));
                if let Some(origin) = origin.filter(|_| is_text(*c)) {
                    edits.cut(origin, width(*c));
                }
            }
        }
    }
}
