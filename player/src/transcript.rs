//! What scrolled by on one terminal, as lines, with remarks where they belong between them.

use std::collections::VecDeque;

use avt::parser::{DecMode, Function};
use avt::{Anchor, Line, Observation, Observer, Operation, Position, ScreenKind, Terminal};

use crate::grid::{Grid, Stream};
use crate::plain;

/// Characters of one line; a program that never breaks its line gets it broken.
const LINE_CHARS_MAX: usize = 64 << 10;
/// Remarks that wait for their place; one more and the oldest stands where it is.
const REMARKS_WAITING_MAX: usize = 1024;
/// Cells of full-screen programs that are printed for each byte they drew: a picture costs at least what it is worth.
const SNAPSHOT_CELLS_PER_BYTE: u64 = 64;

/// A line, or something said between lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<R> {
    /// Text that scrolled by.
    Line(String),
    /// What a full-screen program showed when it left.
    Screen(Vec<String>),
    /// What was said here.
    Remark(R),
}

/// One terminal's text.
pub struct Transcript<R> {
    grid: Grid,
    waiting: VecDeque<(Anchor, R)>,
    partial: String,
    last_screen: Vec<String>,
    snapshot_cells: u64,
}

impl<R> Transcript<R> {
    /// Of an empty terminal.
    pub fn new(cols: u32, rows: u32) -> Transcript<R> {
        Transcript {
            grid: Grid::new(cols, rows),
            waiting: VecDeque::new(),
            partial: String::new(),
            last_screen: Vec::new(),
            snapshot_cells: 0,
        }
    }

    /// Takes the next bytes; gives the lines that are final now.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8]) -> Vec<Item<R>> {
        let earned = (bytes.len() as u64).saturating_mul(SNAPSHOT_CELLS_PER_BYTE);
        self.snapshot_cells = self.snapshot_cells.saturating_add(earned);
        let (grid, scribe) = self.parts();
        grid.feed_with(stream, bytes, scribe)
    }

    /// The terminal got another size.
    pub fn resize(&mut self, cols: u32, rows: u32) -> Vec<Item<R>> {
        let (grid, scribe) = self.parts();
        grid.resize_with(cols, rows, scribe)
    }

    /// Something is said where the cursor is. Gives what has waited too long.
    pub fn remark(&mut self, remark: R) -> Option<Item<R>> {
        let terminal = self.grid.terminal_mut();
        let here = match terminal.active_screen_kind() {
            ScreenKind::Primary => terminal.cursor_position(),
            // A full-screen program's cells go with it: say it at the end of what was there before.
            ScreenKind::Alternate => Position {
                screen: ScreenKind::Primary,
                col: 0,
                row: terminal.size().1 as isize - 1,
            },
        };
        match terminal.anchor_at(here) {
            Some(anchor) => self.waiting.push_back((anchor, remark)),
            None => return Some(Item::Remark(remark)),
        }
        if self.waiting.len() > REMARKS_WAITING_MAX {
            return self.waiting.pop_front().map(|(_, remark)| Item::Remark(remark));
        }
        None
    }

    /// What is left on the screen.
    pub fn finish(mut self) -> Vec<Item<R>> {
        let (grid, mut scribe) = self.parts();
        scribe.visible(grid.terminal());
        scribe.flush_all();
        scribe.ready
    }

    /// Whether control sequences were passed over.
    pub fn is_abridged(&self) -> bool {
        self.grid.is_abridged()
    }

    fn parts(&mut self) -> (&mut Grid, Scribe<'_, R>) {
        let scribe = Scribe {
            waiting: &mut self.waiting,
            partial: &mut self.partial,
            last_screen: &mut self.last_screen,
            snapshot_cells: &mut self.snapshot_cells,
            ready: Vec::new(),
        };
        (&mut self.grid, scribe)
    }
}

/// Watches the emulator.
struct Scribe<'t, R> {
    waiting: &'t mut VecDeque<(Anchor, R)>,
    partial: &'t mut String,
    last_screen: &'t mut Vec<String>,
    snapshot_cells: &'t mut u64,
    ready: Vec<Item<R>>,
}

impl<R> Scribe<'_, R> {
    fn line(&mut self, line: &Line) {
        self.partial.extend(line.chars());
        if !line.is_wrapped() || self.partial.len() > LINE_CHARS_MAX {
            self.ready.push(Item::Line(plain::line(self.partial.trim_end())));
            self.partial.clear();
        }
    }

    /// Remarks whose place is gone, or at or above a row that is about to be printed.
    fn flush(&mut self, row_of: impl Fn(&Anchor) -> Option<Position>, up_to_row: isize) {
        while let Some((anchor, _)) = self.waiting.front() {
            if row_of(anchor).is_some_and(|at| at.screen == ScreenKind::Primary && at.row > up_to_row) {
                return;
            }
            if let Some((_, remark)) = self.waiting.pop_front() {
                self.ready.push(Item::Remark(remark));
            }
        }
    }

    fn flush_all(&mut self) {
        let rest = self.waiting.drain(..);
        self.ready.extend(rest.map(|(_, remark)| Item::Remark(remark)));
    }

    /// Everything on the primary screen, without the empty rows below it.
    fn visible(&mut self, terminal: &Terminal) {
        let lines: Vec<&Line> = terminal.primary_screen().visible_lines().collect();
        let used = lines
            .iter()
            .rposition(|l| !l.text().trim().is_empty())
            .map_or(0, |i| i + 1);
        for (row, line) in lines.into_iter().take(used).enumerate() {
            self.flush(|anchor| terminal.resolve(anchor), row as isize);
            self.line(line);
        }
        if !self.partial.is_empty() {
            let line = std::mem::take(self.partial);
            self.ready.push(Item::Line(plain::line(line.trim_end())));
        }
    }

    fn snapshot(&mut self, terminal: &Terminal) {
        let (cols, rows) = terminal.size();
        let cells = (cols * rows) as u64;
        if *self.snapshot_cells < cells {
            return;
        }
        let mut screen: Vec<String> = terminal
            .screen()
            .visible_lines()
            .map(|line| plain::line(line.text().trim_end()))
            .collect();
        while screen.last().is_some_and(String::is_empty) {
            screen.pop();
        }
        if !screen.is_empty() && screen != *self.last_screen {
            *self.snapshot_cells -= cells;
            self.last_screen.clone_from(&screen);
            self.ready.push(Item::Screen(screen));
        }
    }
}

impl<R> Observer for Scribe<'_, R> {
    type Output = Vec<Item<R>>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        match operation {
            // A hard reset clears the screen without a trace.
            Operation::Function(Function::Ris) => {
                self.visible(context.terminal());
                self.flush_all();
            }
            Operation::Function(Function::Decrst(modes))
                if context.terminal().active_screen_kind() == ScreenKind::Alternate
                    && modes
                        .as_slice()
                        .iter()
                        .any(|mode| matches!(mode, DecMode::AltScreenBuffer | DecMode::SaveCursorAltScreenBuffer)) =>
            {
                self.snapshot(context.terminal());
            }
            Operation::Function(_) | Operation::Resize { .. } => {}
        }
    }

    fn evicted(&mut self, context: &mut Observation<'_>, line: &Line) {
        // Rows above the screen are gone; what is anchored in it waits.
        self.flush(|anchor| context.resolve(anchor), -1);
        self.line(line);
    }

    fn end(&mut self, _: &mut Observation<'_>) -> Self::Output {
        std::mem::take(&mut self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(items: Vec<Item<&str>>) -> Vec<String> {
        let show = |item| match item {
            Item::Line(line) => line,
            Item::Screen(screen) => format!("[{}]", screen.join("/")),
            Item::Remark(remark) => format!("<{remark}>"),
        };
        items.into_iter().map(show).collect()
    }

    #[test]
    fn remarks_stand_where_they_were_made() {
        let mut t = Transcript::new(20, 3);
        let mut all = Vec::new();
        all.extend(t.remark("shell"));
        all.extend(t.feed(Stream::Out, b"$ ls\r\na\r\nb\r\n$ "));
        all.extend(t.remark("notice"));
        all.extend(t.feed(Stream::Out, b"id\r\nroot\r\n$ exit\r\n"));
        all.extend(t.remark("end"));
        all.extend(t.finish());
        assert_eq!(
            lines(all),
            [
                "<shell>", "$ ls", "a", "b", "<notice>", "$ id", "root", "$ exit", "<end>"
            ]
        );
    }

    #[test]
    fn full_screen_programs_leave_their_last_picture_once() {
        let mut t = Transcript::new(10, 2);
        let mut all = t.feed(Stream::Out, b"$ vi\r\n\x1b[?1049h\x1b[Htext\x1b[31m!");
        all.extend(t.remark("notice"));
        all.extend(t.feed(Stream::Out, b"\x1b[?1049l$ "));
        all.extend(t.feed(Stream::Out, &b"\x1b[?1049h\x1b[Htext!\x1b[?1049l".repeat(100)));
        all.extend(t.finish());
        assert_eq!(lines(all), ["[text!]", "$ vi", "<notice>", "$"]);
    }

    #[test]
    fn a_reset_and_wrapped_lines_lose_nothing() {
        let mut t: Transcript<&str> = Transcript::new(5, 2);
        let mut all = t.feed(Stream::Out, b"hello world\r\nx\x1bcnew\x9b\x1b]0;title\x07");
        all.extend(t.resize(0, 0));
        all.extend(t.finish());
        let text = lines(all).join("|");
        assert!(text.starts_with("hello world|x|"), "{text}");
        assert!(
            text.contains('n') && !text.contains('\x1b') && !text.contains("title"),
            "{text}"
        );
    }
}
