//! A recording as pictures: rows of styled text, each once, and which of them is where at which time. For places that
//! have no terminal emulator, such as a page.

use std::collections::HashMap;

use avt::observer::DirtyRows;
use avt::{Cell, Color as Ink, Line};
use portcullis_recording::event::Event;
use serde::Serialize;

use crate::channels::Channels;
use crate::failure::{Exit, Failure};
use crate::grid::{Grid, SIZE_DEFAULT, Stream};
use crate::plain;
use crate::source::Cursor;
use crate::text::{DIGEST, remark};

/// What happens within this time is one picture.
const FRAME_MS: u64 = 33;
/// Bytes of rows, pictures and marks, about.
const BYTES_MAX: usize = 96 << 20;
/// Bytes that an entry weighs beside its text, about.
const ENTRY_BYTES: usize = 16;
/// Bytes of one mark's text.
const MARK_CHARS_MAX: usize = 400;
/// Remarks that become no mark.
const QUIET: [&str; 4] = ["channel", "decision", "closed", DIGEST];

/// Foreground, background, and what of `BOLD` and so on it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Style(Option<String>, Option<String>, u8);

/// Bits of a style.
const BOLD: u8 = 1;
const FAINT: u8 = 2;
const ITALIC: u8 = 4;
const UNDERLINE: u8 = 8;
const STRIKE: u8 = 16;
/// Inverse, with colours that are not told: the page swaps its own.
const INVERSE: u8 = 32;
/// Each character takes two cells.
const WIDE: u8 = 64;

/// Text in one style.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Run(u32, String);

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// When.
    t: u64,
    /// Rows that all moved up by so many.
    #[serde(skip_serializing_if = "is_zero")]
    up: usize,
    /// Row on the screen, number of the row's text, and so on in turn.
    r: Vec<u32>,
    /// Column and row of the cursor; none if it is hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<(usize, usize)>,
    /// A new size.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<(usize, usize)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// A marker, a command, a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    t: u64,
    kind: &'static str,
    text: String,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Frames {
    styles: Vec<Style>,
    rows: Vec<Vec<Run>>,
    frames: Vec<Frame>,
    marks: Vec<Mark>,
    /// Whether the emulator passed over runaway control sequences.
    abridged: bool,
    length: u64,
}

/// Which part of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The channel.
    pub channel: u32,
    /// First ms; pictures begin with what was on the screen then.
    pub from_ms: u64,
    /// Last ms.
    pub until_ms: u64,
}

/// Draws a part of a recording.
pub fn draw(cursor: &mut Cursor, part: Part) -> Result<Frames, Failure> {
    let mut camera = Camera::new(part);
    cursor.rewind_to(cursor.source().start_before(part.from_ms));
    while let Some(timed) = cursor.next_event()? {
        if timed.at_ms > part.until_ms {
            break;
        }
        camera.advance(timed.at_ms)?;
        camera.channels.note(&timed);
        if timed.channel == 0 || timed.channel == part.channel {
            let terminal = camera.channels.get(timed.channel).is_some_and(|c| c.terminal);
            camera.event(&timed.event, terminal);
        }
        // What was asked for elsewhere is worth a mark, too.
        camera.mark(&timed.event, timed.at_ms)?;
    }
    camera.picture()?;
    camera.frames.length = camera.now_ms.saturating_sub(part.from_ms);
    camera.frames.abridged = camera.grid.is_abridged();
    Ok(camera.frames)
}

struct Camera {
    part: Part,
    grid: Grid,
    started: bool,
    channels: Channels,
    dirty: DirtyRows,
    changed: Vec<bool>,
    /// Since when the last picture is no longer right.
    stale_ms: Option<u64>,
    now_ms: u64,
    size: (usize, usize),
    /// Numbers of the rows of the last picture.
    shown: Vec<u32>,
    styles: HashMap<Style, u32>,
    rows: HashMap<Vec<Run>, u32>,
    bytes: usize,
    frames: Frames,
}

impl Camera {
    fn new(part: Part) -> Camera {
        Camera {
            part,
            grid: Grid::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1),
            started: false,
            channels: Channels::default(),
            dirty: DirtyRows::new(),
            changed: Vec::new(),
            stale_ms: Some(part.from_ms),
            now_ms: part.from_ms,
            size: (0, 0),
            shown: Vec::new(),
            styles: HashMap::new(),
            rows: HashMap::new(),
            bytes: 0,
            frames: Frames::default(),
        }
    }

    /// Time goes on: what is to be seen until then is a picture.
    fn advance(&mut self, at_ms: u64) -> Result<(), Failure> {
        if at_ms > self.part.from_ms && self.stale_ms.is_some_and(|since| at_ms - since.min(at_ms) >= FRAME_MS) {
            self.picture()?;
        }
        self.now_ms = at_ms.max(self.part.from_ms);
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events draw nothing")]
    fn event(&mut self, event: &Event<'_>, terminal: bool) {
        let rows = match event {
            Event::Output(bytes) => self.feed(Stream::Out, bytes, terminal),
            Event::Stderr(bytes) => self.feed(Stream::Err, bytes, terminal),
            Event::Resize { cols, rows, .. } if self.started => {
                self.grid.resize_with(*cols, *rows, &mut self.dirty);
                self.changed.fill(true);
                Vec::new()
            }
            Event::Resize { cols, rows, .. } => {
                self.restart(Grid::new(*cols, *rows));
                Vec::new()
            }
            Event::Keyframe { cols, rows, dump } if !self.started => {
                self.restart(Grid::from_keyframe(*cols, *rows, dump));
                Vec::new()
            }
            _ => return,
        };
        self.started = true;
        self.stale_ms.get_or_insert(self.now_ms);
        self.changed.resize(self.grid.terminal().size().1, true);
        for row in rows {
            if let Some(changed) = self.changed.get_mut(row) {
                *changed = true;
            }
        }
    }

    /// Where there is no terminal nobody has put a carriage return before the line feeds.
    fn feed(&mut self, stream: Stream, bytes: &[u8], terminal: bool) -> Vec<usize> {
        if terminal || !bytes.contains(&b'\n') {
            return self.grid.feed_with(stream, bytes, &mut self.dirty);
        }
        let bytes = bytes.split(|b| *b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
        self.grid.feed_with(stream, &bytes, &mut self.dirty)
    }

    fn restart(&mut self, grid: Grid) {
        self.grid = grid;
        self.dirty = DirtyRows::new();
        self.changed.clear();
    }

    fn mark(&mut self, event: &Event<'_>, at_ms: u64) -> Result<(), Failure> {
        if at_ms < self.part.from_ms {
            return Ok(());
        }
        if let Some((kind, text)) = remark(event).filter(|(kind, _)| !QUIET.contains(kind)) {
            let text: String = text.chars().take(MARK_CHARS_MAX).collect();
            self.weigh(text.len())?;
            self.frames.marks.push(Mark {
                t: at_ms - self.part.from_ms,
                kind,
                text,
            });
        }
        Ok(())
    }

    fn weigh(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes + ENTRY_BYTES;
        if self.bytes > BYTES_MAX {
            let why = format!("this takes more than {} MiB as pictures", BYTES_MAX >> 20);
            return Err(Failure::new(Exit::Failed, why).hint("export a part of it: --from TIME --until TIME"));
        }
        Ok(())
    }

    fn picture(&mut self) -> Result<(), Failure> {
        self.stale_ms = None;
        let terminal = self.grid.terminal();
        let (size, cursor) = (terminal.size(), terminal.cursor());
        let resized = size != self.size;
        self.size = size;
        self.changed.resize(size.1, true);
        self.shown.resize(size.1, u32::MAX);
        let lines: Vec<Option<Vec<(Style, String)>>> = terminal
            .screen()
            .visible_lines()
            .zip(&self.changed)
            .map(|(line, changed)| changed.then(|| runs(line)))
            .collect();
        let mut now = self.shown.clone();
        for (number, line) in now.iter_mut().zip(lines) {
            if let Some(line) = line {
                *number = self.intern(line)?;
            }
        }
        self.changed.fill(false);
        let up = scrolled(&self.shown, &now);
        let mut before = self.shown.split_off(up.min(self.shown.len()));
        before.resize(now.len(), u32::MAX);
        let moved = now
            .iter()
            .zip(before)
            .enumerate()
            .filter(|(_, (now, before))| **now != *before);
        let r: Vec<u32> = moved.flat_map(|(y, (number, _))| [y as u32, *number]).collect();
        self.shown = now;
        self.weigh(r.len() * 6)?;
        self.frames.frames.push(Frame {
            t: self.now_ms - self.part.from_ms,
            up,
            r,
            c: cursor.position(),
            s: resized.then_some(size),
        });
        Ok(())
    }

    fn intern(&mut self, line: Vec<(Style, String)>) -> Result<u32, Failure> {
        let mut row = Vec::with_capacity(line.len());
        for (style, text) in line {
            let next = self.styles.len() as u32;
            let number = *self.styles.entry(style.clone()).or_insert(next);
            if number == next {
                self.weigh(ENTRY_BYTES)?;
                self.frames.styles.push(style);
            }
            row.push(Run(number, text));
        }
        if let Some(number) = self.rows.get(&row) {
            return Ok(*number);
        }
        let number = self.rows.len() as u32;
        self.weigh(row.iter().map(|run| run.1.len() + ENTRY_BYTES).sum())?;
        self.frames.rows.push(row.clone());
        self.rows.insert(row, number);
        Ok(number)
    }
}

/// By how many rows the picture moved up, so that few of them have to be told.
fn scrolled(before: &[u32], now: &[u32]) -> usize {
    let same = |up: usize| before.iter().skip(up).zip(now).filter(|(b, n)| b == n).count();
    let still = same(0);
    if still * 2 > now.len() {
        return 0;
    }
    let best = (1..now.len()).max_by_key(|up| (same(*up), std::cmp::Reverse(*up)));
    best.filter(|up| same(*up) > still).unwrap_or(0)
}

/// A row in runs of one style, without the blanks at its end.
fn runs(line: &Line) -> Vec<(Style, String)> {
    let mut runs: Vec<(Style, String)> = Vec::new();
    for cell in line.cells().iter().filter(|cell| cell.width() > 0) {
        let style = style(cell);
        let c = plain::cell(cell.char(), cell.width());
        match runs.last_mut() {
            Some((last, text)) if *last == style => text.push(c),
            _ => runs.push((style, c.to_string())),
        }
    }
    if let Some((Style(_, None, flags), text)) = runs.last_mut()
        && *flags & (UNDERLINE | STRIKE | INVERSE) == 0
    {
        text.truncate(text.trim_end().len());
        if text.is_empty() {
            runs.pop();
        }
    }
    runs
}

fn style(cell: &Cell) -> Style {
    let pen = cell.pen();
    let (mut fg, mut bg) = (pen.foreground().map(color), pen.background().map(color));
    let mut flags = 0;
    for (is, bit) in [
        (pen.is_bold(), BOLD),
        (pen.is_faint(), FAINT),
        (pen.is_italic(), ITALIC),
        (pen.is_underline(), UNDERLINE),
        (pen.is_strikethrough(), STRIKE),
        (pen.is_inverse(), INVERSE),
        (cell.width() == 2, WIDE),
    ] {
        if is {
            flags |= bit;
        }
    }
    if pen.is_inverse() && fg.is_some() && bg.is_some() {
        std::mem::swap(&mut fg, &mut bg);
        flags &= !INVERSE;
    }
    Style(fg, bg, flags)
}

/// As `#rrggbb`, with the colours that xterm has.
fn color(ink: Ink) -> String {
    const BASE: [u32; 16] = [
        0x00_00_00, 0xcd_31_31, 0x0d_bc_79, 0xe5_e5_10, 0x24_72_c8, 0xbc_3f_bc, 0x11_a8_cd, 0xe5_e5_e5, 0x66_66_66,
        0xf1_4c_4c, 0x23_d1_8b, 0xf5_f5_43, 0x3b_8e_ea, 0xd6_70_d6, 0x29_b8_db, 0xff_ff_ff,
    ];
    let rgb = match ink {
        Ink::RGB(rgb) => return format!("#{:02x}{:02x}{:02x}", rgb.r, rgb.g, rgb.b),
        Ink::Indexed(n @ 232..) => u32::from(n - 232) * 0x0a_0a_0a + 0x08_08_08,
        Ink::Indexed(n @ 16..) => {
            let level = |step: u8| if step == 0 { 0 } else { u32::from(step) * 40 + 55 };
            let n = n - 16;
            level(n / 36) << 16 | level(n / 6 % 6) << 8 | level(n % 6)
        }
        Ink::Indexed(n) => BASE.get(usize::from(n)).copied().unwrap_or_default(),
    };
    format!("#{rgb:06x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_a_terminal() {
        for (n, hex) in [
            (1, "#cd3131"),
            (16, "#000000"),
            (21, "#0000ff"),
            (231, "#ffffff"),
            (232, "#080808"),
            (255, "#eeeeee"),
        ] {
            assert_eq!(color(Ink::Indexed(n)), hex);
        }
    }

    #[test]
    fn a_scroll_is_told_as_one() {
        assert_eq!(scrolled(&[1, 2, 3, 4], &[2, 3, 4, 5]), 1);
        assert_eq!(scrolled(&[1, 2, 3, 4], &[3, 4, 5, 6]), 2);
        assert_eq!(scrolled(&[1, 2, 3, 4], &[1, 2, 3, 9]), 0);
        assert_eq!(scrolled(&[1, 2], &[7, 8]), 0);
        assert_eq!(scrolled(&[], &[]), 0);
    }
}
