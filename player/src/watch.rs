//! A terminal watched for lines that match: each is told once, when it comes up on the screen or scrolls by.

use std::ops::Range;

use avt::parser::{DecMode, DecModes, Function};
use avt::{Line, Observation, Observer, Operation, ScreenKind, Terminal};

use crate::grid::{Grid, Stream};
use crate::skim::{Lines, Skim};

/// Bytes of one line; a program that never breaks its line gets it broken.
const LINE_BYTES_MAX: usize = 256 << 10;

/// Says whether a line is looked for.
pub type Wanted<'w> = &'w dyn Fn(&str) -> bool;

/// A line that matched and is on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Showing {
    row: usize,
    /// How many rows it takes.
    rows: usize,
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
    /// Where the line began that the cursor was in: what is typed there makes it longer, not new.
    cursor_line: usize,
}

impl Seen {
    fn on(&self, screen: ScreenKind) -> &Vec<Showing> {
        match screen {
            ScreenKind::Primary => &self.primary,
            ScreenKind::Alternate => &self.alternate,
        }
    }
}

/// One watched terminal.
pub struct Watch {
    grid: Grid,
    seen: Seen,
    /// While output only scrolls the grid is left behind.
    skim: Option<Skim>,
    /// The line at hand, as it was when it matched at the end of the bytes before.
    told: Option<String>,
    skims: bool,
}

impl Watch {
    /// An empty one.
    pub fn new(cols: u32, rows: u32) -> Watch {
        Watch::of(Grid::new(cols, rows))
    }

    /// One that shows a keyframe, whose lines are not new.
    pub fn from_keyframe(cols: u32, rows: u32, dump: &str, wanted: Wanted<'_>) -> Watch {
        let mut watch = Watch::of(Grid::from_keyframe(cols, rows, dump));
        watch.emulate(Stream::Out, b"", wanted);
        watch.begin_to_skim();
        watch
    }

    /// The same through the emulator alone: slower, and all that [`Skim`] is held against.
    pub fn unhurried(mut self) -> Watch {
        self.skims = false;
        self
    }

    fn of(grid: Grid) -> Watch {
        Watch {
            grid,
            seen: Seen::default(),
            skim: None,
            told: None,
            skims: true,
        }
    }

    /// Takes the next bytes; gives the lines that match and were not there before.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], wanted: Wanted<'_>) -> Vec<String> {
        let mut new = Vec::new();
        let mut rest = bytes;
        if let Some(mut skim) = self.skim.take() {
            if stream == Stream::Out {
                let mut teller = Teller {
                    wanted,
                    told: &mut self.told,
                    new: &mut new,
                };
                let taken = skim.take(bytes, &mut teller);
                rest = bytes.get(taken..).unwrap_or_default();
                if rest.is_empty() {
                    teller.at_hand(skim.line());
                    self.skim = Some(skim);
                    return new;
                }
            }
            self.catch_up(skim, wanted);
        }
        new.extend(self.emulate(stream, rest, wanted));
        self.begin_to_skim();
        new
    }

    /// The terminal got another size. A line that is wrapped otherwise is not new.
    pub fn resize(&mut self, cols: u32, rows: u32, wanted: Wanted<'_>) -> Vec<String> {
        if let Some(skim) = self.skim.take() {
            self.catch_up(skim, wanted);
        }
        let new = self.grid.resize_with(cols, rows, Eye::new(&mut self.seen, wanted));
        self.begin_to_skim();
        new
    }

    /// The screen as text.
    pub fn screen(&mut self, wanted: Wanted<'_>) -> Vec<String> {
        if let Some(skim) = self.skim.take() {
            self.catch_up(skim, wanted);
        }
        self.grid.terminal().screen().text()
    }

    fn emulate(&mut self, stream: Stream, bytes: &[u8], wanted: Wanted<'_>) -> Vec<String> {
        self.grid.feed_with(stream, bytes, Eye::new(&mut self.seen, wanted))
    }

    fn begin_to_skim(&mut self) {
        self.skim = if self.skims {
            Skim::begin(&self.grid, &self.seen.partial)
        } else {
            None
        };
        self.told = None;
        if self.skim.is_some() {
            let start = line_at_cursor(self.grid.terminal());
            let showing = self.seen.primary.iter().find(|line| line.row == start);
            self.told = showing.map(|line| line.text.clone());
        }
    }

    /// Brings the grid up to date. Nothing of it is new; but the line at hand is, unless it was told.
    fn catch_up(&mut self, skim: Skim, wanted: Wanted<'_>) {
        let (gone, bytes) = skim.catch_up();
        self.grid.pass_over(gone);
        self.emulate(Stream::Out, &bytes, wanted);
        let start = line_at_cursor(self.grid.terminal());
        self.seen.primary.retain(|line| line.row != start);
        // As no line has no rows, it is looked at anew in any case; and no line has a line break in it.
        self.seen.primary.push(Showing {
            row: start,
            rows: 0,
            text: self.told.take().unwrap_or("\n".to_owned()),
        });
    }
}

/// First row of the line that the cursor is in.
fn line_at_cursor(terminal: &Terminal) -> usize {
    let row = terminal.cursor().row;
    let above: Vec<bool> = terminal
        .screen()
        .visible_lines()
        .take(row)
        .map(Line::is_wrapped)
        .collect();
    row - above.iter().rev().take_while(|wrapped| **wrapped).count()
}

/// Tells the lines that are skimmed.
struct Teller<'t> {
    wanted: Wanted<'t>,
    told: &'t mut Option<String>,
    new: &'t mut Vec<String>,
}

impl Teller<'_> {
    /// The line at hand when the bytes end: it is on the screen then.
    fn at_hand(&mut self, line: &str) {
        if self.told.as_deref() == Some(line) {
            return;
        }
        let told = self.told.take();
        if (self.wanted)(line) {
            if !told.is_some_and(|old| is_edit(&old, line)) {
                self.new.push(line.to_owned());
            }
            *self.told = Some(line.to_owned());
        }
    }
}

impl Lines for Teller<'_> {
    fn ended(&mut self, line: &str) {
        self.at_hand(line);
        *self.told = None;
    }
}

/// Whether a line is another with more or less typed at its end.
fn is_edit(old: &str, new: &str) -> bool {
    old.starts_with(new) || new.starts_with(old)
}

/// Looks at the emulator while it works.
struct Eye<'w> {
    seen: &'w mut Seen,
    wanted: Wanted<'w>,
    evicted_rows: usize,
    /// Row on which the line began that is being evicted.
    evicting: usize,
    /// Lines that matched and have scrolled off since the last look, and where they began then.
    gone: Vec<Showing>,
    new: Vec<String>,
}

impl<'w> Eye<'w> {
    fn new(seen: &'w mut Seen, wanted: Wanted<'w>) -> Eye<'w> {
        Eye {
            seen,
            wanted,
            evicted_rows: 0,
            evicting: 0,
            gone: Vec::new(),
            new: Vec::new(),
        }
    }

    /// Looks at the rows that changed.
    fn look(&mut self, terminal: &Terminal) {
        let rows: Vec<&Line> = terminal.screen().visible_lines().collect();
        self.seen.dirty.resize(rows.len(), true);
        let screen = terminal.active_screen_kind();
        let mut old = self.seen.on(screen).clone();
        let (mut showing, mut came) = (Vec::new(), std::mem::take(&mut self.gone));
        if screen == ScreenKind::Alternate {
            // Another size has moved them out from under it: they were looked at before it came.
            came.clear();
            self.evicted_rows = 0;
        }
        let mut start = 0;
        while start < rows.len() {
            let wrapped = rows.iter().skip(start).take_while(|line| line.is_wrapped()).count();
            let end = (start + wrapped + 1).min(rows.len());
            let dirty = self.seen.dirty.get(start..end).is_some_and(|d| d.contains(&true));
            let before = old.iter().position(|line| line.row == start);
            // Wrapped otherwise it is another line, though none of its cells changed.
            let kept = before.filter(|at| old.get(*at).is_some_and(|line| line.rows == end - start));
            if dirty || kept.is_none() && before.is_some() {
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
                    let row = if start == 0 && self.evicted_rows > 0 {
                        self.evicting
                    } else {
                        start + self.evicted_rows
                    };
                    let line = Showing {
                        row: start,
                        rows: end - start,
                        text,
                    };
                    came.push(Showing { row, ..line.clone() });
                    showing.push(line);
                }
            } else if let Some(at) = kept {
                showing.push(old.swap_remove(at));
            }
            start = end;
        }
        self.tell(came, old);
        self.seen.dirty.fill(false);
        match screen {
            ScreenKind::Primary => {
                self.seen.primary = showing;
                self.seen.alternate.clear();
            }
            ScreenKind::Alternate => self.seen.alternate = showing,
        }
        self.seen.cursor_line = line_at_cursor(terminal);
        self.evicted_rows = 0;
        self.evicting = 0;
    }

    /// Of the lines that are there now those are new that were not there before: as often as they were. Where a line
    /// moved to does not matter.
    fn tell(&mut self, came: Vec<Showing>, mut old: Vec<Showing>) {
        let at_cursor = self.seen.cursor_line;
        let typed =
            |o: &Showing, line: &Showing| o.row == at_cursor && line.row == at_cursor && is_edit(&o.text, &line.text);
        let mut left = came;
        left.retain(|line| match old.iter().position(|o| typed(o, line)) {
            Some(at) => {
                old.swap_remove(at);
                false
            }
            None => true,
        });
        for line in left {
            match old.iter().position(|o| o.text == line.text) {
                Some(at) => drop(old.swap_remove(at)),
                None => self.new.push(line.text),
            }
        }
    }
}

/// Whether one of the modes is another screen.
fn switches(modes: &DecModes) -> bool {
    let other = |mode: &DecMode| matches!(mode, DecMode::AltScreenBuffer | DecMode::SaveCursorAltScreenBuffer);
    modes.as_slice().iter().any(other)
}

impl Observer for Eye<'_> {
    type Output = Vec<String>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        // What is drawn and covered or wiped within one event was on the screen all the same.
        let screen = context.terminal().active_screen_kind();
        let wipes = match operation {
            Operation::Function(Function::Ris) => true,
            Operation::Function(Function::Decset(modes)) => screen == ScreenKind::Primary && switches(modes),
            Operation::Function(Function::Decrst(modes)) => screen == ScreenKind::Alternate && switches(modes),
            Operation::Function(_) | Operation::Resize { .. } => false,
        };
        if wipes {
            self.look(context.terminal());
        }
        if matches!(operation, Operation::Function(Function::Ris)) {
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
            self.gone.push(Showing {
                row: self.evicting,
                rows: 0,
                text,
            });
        } else {
            // Its room is of use for the next.
            text.clear();
            self.seen.partial = text;
        }
        self.evicting = self.evicted_rows;
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
    fn told(mut watch: Watch, feeds: &[&str]) -> Vec<Vec<String>> {
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
            // Printed again while it is still there.
            (
                &["foo\r\n", "foo\r\n", "foo\r\nx\r\nx\r\nx\r\nfoo\r\n"],
                &[&["foo"], &["foo"], &["foo", "foo"]],
            ),
            // The same picture drawn again.
            (&["\x1b[Hfoo", "\x1b[H\x1b[2Kfoo"], &[&["foo"], &[]]),
        ];
        for (feeds, expected) in table {
            assert_eq!(&told(Watch::new(20, 5), feeds), expected, "{feeds:?}");
            assert_eq!(&told(Watch::new(20, 5).unhurried(), feeds), expected, "{feeds:?}");
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
