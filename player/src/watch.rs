//! A terminal watched for lines that match: each is told once, when it comes up on the screen or scrolls by.

use std::ops::Range;

use avt::parser::{DecMode, Function};
use avt::{Line, Observation, Observer, Operation, ScreenKind, Terminal};

use crate::grid::{Grid, Stream};

/// Bytes of one line; a program that never breaks its line gets it broken.
const LINE_BYTES_MAX: usize = 256 << 10;

/// Says whether a line is looked for.
pub type Wanted<'w> = &'w dyn Fn(&str) -> bool;

/// A line that matched and is on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Showing {
    row: usize,
    text: String,
}

/// What is known between two looks.
#[derive(Default)]
struct Seen {
    /// On the primary screen, also while another is shown: it comes back as it was.
    primary: Vec<Showing>,
    /// On the alternate screen, until it is left.
    alternate: Vec<Showing>,
    /// Rows that changed since.
    dirty: Vec<bool>,
    /// The rows of a wrapped line that have left the screen already.
    partial: String,
    /// Where the cursor was: what is typed there makes a line longer, not new.
    cursor_row: usize,
}

/// One watched terminal.
pub struct Watch {
    grid: Grid,
    seen: Seen,
}

impl Watch {
    /// An empty one.
    pub fn new(cols: u32, rows: u32) -> Watch {
        Watch {
            grid: Grid::new(cols, rows),
            seen: Seen::default(),
        }
    }

    /// One that shows a keyframe, whose lines are not new.
    pub fn from_keyframe(cols: u32, rows: u32, dump: &str, wanted: Wanted<'_>) -> Watch {
        let mut watch = Watch {
            grid: Grid::from_keyframe(cols, rows, dump),
            seen: Seen::default(),
        };
        watch
            .grid
            .feed_with(Stream::Out, b"", Eye::new(&mut watch.seen, wanted));
        watch
    }

    /// Takes the next bytes; gives the lines that match and were not there before.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], wanted: Wanted<'_>) -> Vec<String> {
        self.grid.feed_with(stream, bytes, Eye::new(&mut self.seen, wanted))
    }

    /// The terminal got another size. A line that is wrapped otherwise is not new.
    pub fn resize(&mut self, cols: u32, rows: u32, wanted: Wanted<'_>) -> Vec<String> {
        self.grid.resize_with(cols, rows, Eye::new(&mut self.seen, wanted))
    }
}

/// Looks at the emulator while it works.
struct Eye<'w> {
    seen: &'w mut Seen,
    wanted: Wanted<'w>,
    evicted_rows: usize,
    new: Vec<String>,
}

impl<'w> Eye<'w> {
    fn new(seen: &'w mut Seen, wanted: Wanted<'w>) -> Eye<'w> {
        Eye {
            seen,
            wanted,
            evicted_rows: 0,
            new: Vec::new(),
        }
    }

    fn old(&self, screen: ScreenKind) -> &[Showing] {
        match screen {
            ScreenKind::Primary => &self.seen.primary,
            ScreenKind::Alternate => &self.seen.alternate,
        }
    }

    fn tell(&mut self, screen: ScreenKind, text: &str) {
        if !self.old(screen).iter().any(|line| line.text == text) {
            self.new.push(text.to_owned());
        }
    }

    /// Looks at the rows that changed.
    fn look(&mut self, terminal: &Terminal) {
        let rows: Vec<&Line> = terminal.screen().visible_lines().collect();
        self.seen.dirty.resize(rows.len(), true);
        let screen = terminal.active_screen_kind();
        let mut start = 0;
        let mut showing = Vec::new();
        while start < rows.len() {
            let wrapped = rows.iter().skip(start).take_while(|line| line.is_wrapped()).count();
            let end = (start + wrapped + 1).min(rows.len());
            let changed = self.seen.dirty.get(start..end).is_some_and(|d| d.contains(&true));
            if changed {
                let mut text = if start == 0 && screen == ScreenKind::Primary {
                    self.seen.partial.clone()
                } else {
                    String::new()
                };
                rows.iter()
                    .skip(start)
                    .take(end - start)
                    .for_each(|line| text.extend(line.chars()));
                text.truncate(text.trim_end().len());
                if (self.wanted)(&text) {
                    if !self.is_typed(screen, start, &text) {
                        self.tell(screen, &text);
                    }
                    showing.push(Showing { row: start, text });
                }
            } else {
                let kept = self.old(screen).iter().filter(|line| line.row == start);
                showing.extend(kept.cloned());
            }
            start = end;
        }
        self.seen.dirty.fill(false);
        match screen {
            ScreenKind::Primary => {
                self.seen.primary = showing;
                self.seen.alternate.clear();
            }
            ScreenKind::Alternate => self.seen.alternate = showing,
        }
        self.seen.cursor_row = terminal.cursor().row;
        self.evicted_rows = 0;
    }

    /// Whether a line is one that matched already where the cursor was, with more or less typed at its end.
    fn is_typed(&self, screen: ScreenKind, row: usize, text: &str) -> bool {
        let row_before = row + self.evicted_rows;
        let old = self.old(screen).iter().find(|line| line.row == row_before);
        old.is_some_and(|old| {
            (row_before..=row_before + 1).contains(&self.seen.cursor_row)
                && (old.text.starts_with(text) || text.starts_with(&old.text))
        })
    }
}

impl Observer for Eye<'_> {
    type Output = Vec<String>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        // What is drawn and wiped within one event was on the screen all the same.
        let wipes = match operation {
            Operation::Function(Function::Ris) => true,
            Operation::Function(Function::Decrst(modes)) => {
                context.terminal().active_screen_kind() == ScreenKind::Alternate
                    && modes
                        .as_slice()
                        .iter()
                        .any(|mode| matches!(mode, DecMode::AltScreenBuffer | DecMode::SaveCursorAltScreenBuffer))
            }
            Operation::Function(_) | Operation::Resize { .. } => false,
        };
        if wipes {
            self.look(context.terminal());
            self.seen.partial.clear();
        }
    }

    fn dirty(&mut self, rows: Range<usize>) {
        if self.seen.dirty.len() < rows.end {
            self.seen.dirty.resize(rows.end, true);
        }
        for row in rows {
            if let Some(dirty) = self.seen.dirty.get_mut(row) {
                *dirty = true;
            }
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.evicted_rows += 1;
        self.seen.partial.extend(line.chars());
        if line.is_wrapped() && self.seen.partial.len() < LINE_BYTES_MAX {
            return;
        }
        let mut text = std::mem::take(&mut self.seen.partial);
        text.truncate(text.trim_end().len());
        if (self.wanted)(&text) {
            self.tell(ScreenKind::Primary, &text);
        }
        text.clear();
        self.seen.partial = text;
    }

    fn end(&mut self, context: &mut Observation<'_>) -> Vec<String> {
        self.look(context.terminal());
        std::mem::take(&mut self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines with `foo` that each feed brings up.
    fn told(cols: u32, rows: u32, feeds: &[&str]) -> Vec<Vec<String>> {
        let mut watch = Watch::new(cols, rows);
        let wanted = |text: &str| text.contains("foo");
        feeds
            .iter()
            .map(|bytes| watch.feed(Stream::Out, bytes.as_bytes(), &wanted))
            .collect()
    }

    #[test]
    fn a_line_is_told_once() {
        let table: &[(&[&str], &[&[&str]])] = &[
            // Typed key by key, then answered, then scrolled away.
            (
                &[
                    "$ ec",
                    "ho foo",
                    " bar",
                    "\r\n",
                    "foo bar\r\n$ ",
                    "\r\na\r\nb\r\nc\r\nd\r\n",
                ],
                &[&[], &["$ echo foo"], &[], &[], &["foo bar"], &[]],
            ),
            // More than a screen at once.
            (
                &["foo 1\r\nfoo 2\r\nx\r\nx\r\nx\r\nx\r\nfoo 3\r\n"],
                &[&["foo 1", "foo 2", "foo 3"]],
            ),
            // One line a time, each on the bottom row.
            (
                &["\n\n\n\n\r", "foo 1\r\n", "foo 2\r\n", "foo 3\r\n"],
                &[&[], &["foo 1"], &["foo 2"], &["foo 3"]],
            ),
            // Put together by cursor moves, colours in between.
            (&["o\x1b[1;1Hfo", "\x1b[1;3H\x1b[31mo"], &[&[], &["foo"]]),
            // A wrapped line.
            (&["123456789012345678fo", "o!"], &[&[], &["123456789012345678foo!"]]),
            // Drawn on the other screen and gone in the same breath.
            (&["\x1b[?1049h\x1b[Hfoo\x1b[?1049l"], &[&["foo"]]),
            // Covered by another screen for a while.
            (
                &["foo\r\n", "\x1b[?1049h\x1b[2Jx", "\x1b[?1049l"],
                &[&["foo"], &[], &[]],
            ),
            // The same picture drawn again.
            (&["\x1b[Hfoo", "\x1b[H\x1b[2Kfoo"], &[&["foo"], &[]]),
        ];
        for (feeds, expected) in table {
            assert_eq!(&told(20, 5, feeds), expected, "{feeds:?}");
        }
    }

    #[test]
    fn what_a_keyframe_shows_is_old() {
        let mut grid = Grid::new(20, 3);
        grid.feed(Stream::Out, b"foo 1\r\n");
        let wanted = |text: &str| text.contains("foo");
        let mut watch = Watch::from_keyframe(20, 3, &grid.terminal().dump(), &wanted);
        assert_eq!(watch.feed(Stream::Out, b"foo 2\r\n\r\n\r\n", &wanted), ["foo 2"]);
        assert_eq!(watch.resize(3, 3, &wanted), Vec::<String>::new());
    }
}
