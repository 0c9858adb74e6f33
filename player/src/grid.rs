//! From recorded bytes to cells: a terminal emulator that answers nobody, with bounds on size and work.

use avt::parser::{AnsiMode, DecMode, Function, State};
use avt::{Charset, Observer, Operation, Parser, ScreenKind, Terminal};

use crate::plain::Utf8;

/// Columns of the largest grid; the true size is told beside it (design section 7).
pub const COLS_MAX: u32 = 500;
/// Its rows.
pub const ROWS_MAX: u32 = 200;
/// Grids that are kept at a time; each takes up to 4 MB.
pub const GRIDS_MAX: usize = 32;
/// A terminal whose size nobody told.
pub const SIZE_DEFAULT: (u32, u32) = (80, 24);

/// Cells that control sequences may change before their bytes have earned it: 160 clears of the largest grid.
const WORK_CELLS_MAX: u64 = 16 << 20;
/// Cells that each byte earns. Programs that draw need far fewer; a sequence that repeats or clears on and on needs more.
const WORK_CELLS_PER_BYTE: u64 = 64;

/// Size of the grid for a terminal of some size.
pub fn clamp(cols: u32, rows: u32) -> (u32, u32) {
    (cols.clamp(1, COLS_MAX), rows.clamp(1, ROWS_MAX))
}

/// Two streams of a channel that end up in one terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// One terminal.
pub struct Grid {
    terminal: Terminal,
    parser: Parser,
    out: Utf8,
    err: Utf8,
    true_size: (u32, u32),
    work: Work,
    modes: Modes,
}

/// What makes text go elsewhere than where it is printed. Where it is not known for sure, it counts as so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Modes {
    margins: bool,
    insert: bool,
    new_line: bool,
    origin: bool,
    no_wrap: bool,
    /// Origin or no wrap may have been saved with a cursor.
    saved: bool,
    g0: bool,
    g1: bool,
    shifted: bool,
    tabs: bool,
}

/// A bound on work, which does not depend on the viewer's machine or clock, so that the same recording always draws alike.
#[derive(Debug)]
struct Work {
    cells: u64,
    refused: bool,
}

impl Grid {
    /// An empty screen.
    pub fn new(cols: u32, rows: u32) -> Grid {
        Grid {
            terminal: empty(clamp(cols, rows)),
            parser: Parser::new(),
            out: Utf8::default(),
            err: Utf8::default(),
            true_size: (cols, rows),
            work: Work {
                cells: WORK_CELLS_MAX,
                refused: false,
            },
            modes: Modes::default(),
        }
    }

    /// The screen a keyframe shows.
    pub fn from_keyframe(cols: u32, rows: u32, dump: &str) -> Grid {
        let mut grid = Grid::new(cols, rows);
        grid.feed(Stream::Out, dump.as_bytes());
        grid
    }

    /// Takes a stream's next bytes.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8]) {
        self.feed_with(stream, bytes, ());
    }

    /// The same, watched.
    pub fn feed_with<O: Observer>(&mut self, stream: Stream, bytes: &[u8], observer: O) -> O::Output {
        let text = match stream {
            Stream::Out => self.out.push(bytes),
            Stream::Err => self.err.push(bytes),
        };
        let earned = (bytes.len() as u64).saturating_mul(WORK_CELLS_PER_BYTE);
        self.work.cells = self.work.cells.saturating_add(earned).min(WORK_CELLS_MAX);
        let size = self.terminal.size();
        let (parser, work, modes) = (&mut self.parser, &mut self.work, &mut self.modes);
        let functions = text
            .chars()
            .filter_map(|c| parser.feed(c))
            .filter_map(|function| work.admit(function, size))
            .inspect(|function| modes.note(function, size.1));
        self.terminal.execute_with(functions, observer)
    }

    /// What a character makes the terminal do, if anything and if its work is paid for, for those who look on step by step.
    pub fn parse(&mut self, c: char) -> Option<Function> {
        let earned = (c.len_utf8() as u64).saturating_mul(WORK_CELLS_PER_BYTE);
        self.work.cells = self.work.cells.saturating_add(earned).min(WORK_CELLS_MAX);
        let size = self.terminal.size();
        let function = self.parser.feed(c).and_then(|f| self.work.admit(f, size))?;
        self.modes.note(&function, size.1);
        Some(function)
    }

    /// Where in a control sequence the next character will be.
    pub fn state(&self) -> State {
        self.parser.state
    }

    /// Does what [`Grid::parse`] gave.
    pub fn execute(&mut self, function: Function) {
        self.terminal.execute(function);
    }

    /// The terminal got another size.
    pub fn resize(&mut self, cols: u32, rows: u32) {
        self.resize_with(cols, rows, ());
    }

    /// The same, watched.
    pub fn resize_with<O: Observer>(&mut self, cols: u32, rows: u32, observer: O) -> O::Output {
        self.true_size = (cols, rows);
        let (cols, rows) = clamp(cols, rows);
        let before = self.terminal.size();
        if rows as usize != before.1 {
            self.modes.margins = false;
        }
        // Where the stops of new columns are is up to the emulator.
        self.modes.tabs |= cols as usize != before.0;
        let resize = Operation::Resize {
            cols: cols as usize,
            rows: rows as usize,
        };
        self.terminal.execute_with(resize, observer)
    }

    /// The emulator.
    pub fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// The emulator, to set anchors in.
    pub fn terminal_mut(&mut self) -> &mut Terminal {
        &mut self.terminal
    }

    /// Whether text that is printed now goes where the cursor is, from left to right, and lines scroll off at the top.
    pub fn is_plain(&self) -> bool {
        let Modes {
            saved: _,
            tabs: _,
            margins,
            insert,
            new_line,
            origin,
            no_wrap,
            g0,
            g1,
            shifted,
        } = self.modes;
        let drawing = if shifted { g1 } else { g0 };
        !(margins || insert || new_line || origin || no_wrap || drawing)
            && self.terminal.active_screen_kind() == ScreenKind::Primary
            && self.parser.state == State::Ground
            && self.out.is_whole()
            && self.err.is_whole()
    }

    /// Whether tab stops are where they are from the start.
    pub fn has_usual_tabs(&self) -> bool {
        !self.modes.tabs
    }

    /// Bytes of plain text that will never be fed, because what they showed has scrolled off.
    pub fn pass_over(&mut self, bytes: usize) {
        let earned = (bytes as u64).saturating_mul(WORK_CELLS_PER_BYTE);
        self.work.cells = self.work.cells.saturating_add(earned).min(WORK_CELLS_MAX);
    }

    /// The size that was recorded, which the grid may not have.
    pub fn true_size(&self) -> (u32, u32) {
        self.true_size
    }

    /// Whether control sequences were passed over because they would have changed too many cells for their length.
    pub fn is_abridged(&self) -> bool {
        self.work.refused
    }
}

fn empty((cols, rows): (u32, u32)) -> Terminal {
    // The size is at least one by one, which is all that `new` asks for.
    #[expect(clippy::unwrap_used, reason = "clamped to at least one column and row")]
    Terminal::new(cols as usize, rows as usize).unwrap()
}

impl Modes {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other functions change no mode")]
    fn note(&mut self, function: &Function, rows: usize) {
        match function {
            Function::Print(_) => {}
            Function::Ris => *self = Modes::default(),
            Function::Decstbm(top, bottom) => {
                let top = usize::from(*top).max(1);
                let bottom = if *bottom == 0 { rows } else { usize::from(*bottom) };
                // Others are passed over by the emulator.
                if top < bottom && bottom <= rows {
                    self.margins = (top, bottom) != (1, rows);
                }
            }
            Function::Sm(modes) => modes.as_slice().iter().for_each(|mode| match mode {
                AnsiMode::Insert => self.insert = true,
                AnsiMode::NewLine => self.new_line = true,
            }),
            Function::Rm(modes) => modes.as_slice().iter().for_each(|mode| match mode {
                AnsiMode::Insert => self.insert = false,
                AnsiMode::NewLine => self.new_line = false,
            }),
            Function::Decset(modes) => modes.as_slice().iter().for_each(|mode| match mode {
                DecMode::Origin => self.origin = true,
                DecMode::AutoWrap => self.no_wrap = false,
                DecMode::SaveCursor | DecMode::SaveCursorAltScreenBuffer => self.save(),
                DecMode::CursorKeys | DecMode::TextCursorEnable | DecMode::AltScreenBuffer => {}
            }),
            Function::Decrst(modes) => modes.as_slice().iter().for_each(|mode| match mode {
                DecMode::Origin => self.origin = false,
                DecMode::AutoWrap => self.no_wrap = true,
                DecMode::SaveCursor | DecMode::SaveCursorAltScreenBuffer => self.restore(),
                DecMode::CursorKeys | DecMode::TextCursorEnable | DecMode::AltScreenBuffer => {}
            }),
            Function::Decsc | Function::Scosc => self.save(),
            Function::Decrc | Function::Scorc => self.restore(),
            Function::Gzd4(charset) => self.g0 = *charset != Charset::Ascii,
            Function::G1d4(charset) => self.g1 = *charset != Charset::Ascii,
            Function::So => self.shifted = true,
            Function::Si => self.shifted = false,
            Function::Hts | Function::Tbc(_) | Function::Ctc(_) => self.tabs = true,
            _ => {}
        }
    }

    fn save(&mut self) {
        self.saved |= self.origin || self.no_wrap;
    }

    fn restore(&mut self) {
        self.origin = self.saved;
        self.no_wrap = self.saved;
    }
}

impl Work {
    /// Lets a function through if its work is paid for.
    fn admit(&mut self, function: Function, (cols, rows): (usize, usize)) -> Option<Function> {
        let (cols, screen) = (cols as u64, (cols * rows) as u64);
        let (cost, function) = match function {
            // More than the screen holds only scrolls the same character on.
            Function::Rep(n) => {
                let n = u64::from(n).clamp(1, screen);
                (n, Function::Rep(u16::try_from(n).unwrap_or(u16::MAX)))
            }
            Function::Decaln | Function::Ed(_) | Function::Ris | Function::Decset(_) | Function::Decrst(_) => {
                (screen, function)
            }
            Function::Il(n) | Function::Dl(n) | Function::Su(n) | Function::Sd(n) => {
                (cols * u64::from(n).clamp(1, u64::from(ROWS_MAX)), function)
            }
            Function::Dch(_) | Function::Ech(_) | Function::El(_) | Function::Ich(_) | Function::Ri => (cols, function),
            // Plain text and line feeds are the recording's own size, and the rest moves the cursor or sets a mode.
            Function::Bs
            | Function::Cbt(_)
            | Function::Cha(_)
            | Function::Cht(_)
            | Function::Cnl(_)
            | Function::Cpl(_)
            | Function::Cr
            | Function::Ctc(_)
            | Function::Cub(_)
            | Function::Cud(_)
            | Function::Cuf(_)
            | Function::Cup(..)
            | Function::Cuu(_)
            | Function::Decrc
            | Function::Decsc
            | Function::Decstbm(..)
            | Function::Decstr
            | Function::G1d4(_)
            | Function::Gzd4(_)
            | Function::Ht
            | Function::Hts
            | Function::Lf
            | Function::Nel
            | Function::Osc(_)
            | Function::Print(_)
            | Function::Rm(_)
            | Function::Scorc
            | Function::Scosc
            | Function::Sgr(_)
            | Function::Si
            | Function::Sm(_)
            | Function::So
            | Function::Tbc(_)
            | Function::Vpa(_)
            | Function::Vpr(_)
            | Function::Xtwinops(_) => return Some(function),
        };
        if cost > self.cells {
            self.refused = true;
            return None;
        }
        self.cells -= cost;
        Some(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(grid: &Grid) -> Vec<String> {
        grid.terminal()
            .screen()
            .text()
            .iter()
            .map(|l| l.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn sizes_are_clamped_and_the_true_one_is_kept() {
        for (cols, rows, grid_size) in [(0, 0, (1, 1)), (65_535, 65_535, (500, 200)), (u32::MAX, 3, (500, 3))] {
            let mut grid = Grid::new(80, 24);
            grid.resize(cols, rows);
            assert_eq!(grid.terminal().size(), grid_size);
            assert_eq!(grid.true_size(), (cols, rows));
            grid.feed(Stream::Out, "x界\r\n\tx".as_bytes());
        }
    }

    #[test]
    fn a_resize_that_the_program_asks_for_changes_nothing() {
        let mut grid = Grid::new(10, 2);
        grid.feed(Stream::Out, b"\x1b[8;60000;60000t\x1b[21t\x1b[6nab");
        assert_eq!(grid.terminal().size(), (10, 2));
        assert_eq!(screen(&grid), ["ab", ""]);
    }

    #[test]
    fn work_is_bounded_and_the_end_is_still_drawn() {
        for bomb in [
            "x\x1b[65535b",
            "\x1b#8",
            "\x1b[2J",
            "\x1b[?1049h\x1b[?1049l",
            "\x1b[200L",
            "\x1b[200S",
            "\x1bc",
        ] {
            let mut grid = Grid::new(500, 200);
            let flood = bomb.repeat((1 << 19) / bomb.len());
            grid.feed(Stream::Out, flood.as_bytes());
            grid.feed(Stream::Out, b"\x1b[H\x1b[KEND");
            assert!(grid.is_abridged(), "{bomb:?}");
            assert!(screen(&grid)[0].starts_with("END"), "{bomb:?}");
        }
    }

    #[test]
    fn programs_that_draw_are_not_abridged() {
        let mut grid = Grid::new(500, 200);
        for _ in 0..100 {
            grid.feed(Stream::Out, b"\x1b[H\x1b[2J");
            for row in 1..=50 {
                grid.feed(
                    Stream::Out,
                    format!("\x1b[{row};1H\x1b[Ksome line of a monitor {row}").as_bytes(),
                );
            }
        }
        assert!(!grid.is_abridged());
    }

    #[test]
    fn a_keyframe_draws_what_it_was_made_of() {
        let mut one = Grid::new(20, 4);
        one.feed(Stream::Out, "a\x1b[31mb\r\nwide 界\x1b[2;5H".as_bytes());
        let two = Grid::from_keyframe(20, 4, &one.terminal().dump());
        assert_eq!(screen(&one), screen(&two));
        assert_eq!(one.terminal().cursor(), two.terminal().cursor());
    }

    #[test]
    fn streams_do_not_tear_each_other() {
        let mut grid = Grid::new(10, 1);
        grid.feed(Stream::Out, b"\xe7\x95");
        grid.feed(Stream::Err, b"!");
        grid.feed(Stream::Out, b"\x8c");
        assert_eq!(screen(&grid), ["!界"]);
    }
}
