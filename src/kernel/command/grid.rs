//! Logical lines on a terminal's grid.

use avt::{Cell, Color, Line, ScreenKind, Terminal};

/// Rows of one logical line that are read.
const LOGICAL_ROWS_MAX: usize = 200;
/// Blanks between a text at the right edge and the edge.
const RIGHT_BLANKS_MAX: usize = 3;
/// Blanks between a line and a text at the right edge.
const RIGHT_GAP_MIN: usize = 2;
/// Greys of the palette of 256 colours that are dim: fish offers in 240, zsh-autosuggestions in 8.
const DIM_GREYS: std::ops::RangeInclusive<u8> = 232..=246;
/// Bright black.
const DIM: u8 = 8;

/// A line as it was meant: rows that wrap into each other are one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logical {
    /// First and last row, from 0.
    pub top: usize,
    pub bottom: usize,
    /// Its text without the blanks at the end, and without what an editor
    /// offers behind the cursor, in a dim colour, and was not taken.
    pub text: String,
    /// With what is offered, where something is.
    pub whole: Option<String>,
    /// What stands before the cursor, blanks included. For a line without the
    /// cursor, the whole text.
    pub before_cursor: String,
    /// Text of the first row alone, without the blanks at the end.
    pub first_row: String,
    /// What stands at the right edge of the cursor's row, behind the cursor.
    pub right: Option<Right>,
    /// Its last row has no blank at its end: an editor that wraps by itself may go on below.
    pub full: bool,
}

/// Text at the right edge that is not part of the line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Right {
    pub text: String,
    /// Column of its first character, from 0.
    pub column: usize,
}

/// A place on the screen, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub row: usize,
    pub column: usize,
}

/// Columns `[from, to)` that belong to one pane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    from: usize,
    to: usize,
}

/// Where the cursor is.
pub fn cursor(terminal: &Terminal) -> Place {
    let cursor = terminal.cursor();
    Place {
        row: cursor.row,
        column: cursor.col,
    }
}

/// Cells of the logical line with the cursor: what it costs to read it.
pub fn cells_at_cursor(terminal: &Terminal) -> usize {
    let (top, bottom) = extent(terminal, terminal.cursor().row, pane(terminal));
    (bottom + 1).saturating_sub(top) * terminal.size().0
}

/// The last row of the logical line with the cursor.
pub fn last_row(terminal: &Terminal) -> usize {
    extent(terminal, terminal.cursor().row, pane(terminal)).1
}

/// The logical line with the cursor.
pub fn at_cursor(terminal: &Terminal) -> Logical {
    let cursor = cursor(terminal);
    at(terminal, cursor.row, cursor)
}

/// The logical line that a row is part of.
pub fn at_row(terminal: &Terminal, row: usize) -> Logical {
    at(terminal, row, cursor(terminal))
}

/// The logical line that a row is part of, as it was with the cursor there.
pub fn at(terminal: &Terminal, row: usize, cursor: Place) -> Logical {
    let span = pane(terminal);
    let (top, bottom) = extent(terminal, row, span);
    let mut logical = Logical {
        top,
        bottom,
        ..Logical::default()
    };
    let mut has_cursor = false;
    // Bytes of the text that are certain to be the line's: up to the cursor, or the last that is not dim.
    let mut own = 0;
    let mut edge = 0;
    // Of a prompt that is dim itself, nothing behind the cursor is an offer.
    let mut bright = false;
    for row in top..=bottom {
        let Some(line) = terminal.screen().line(row) else { break };
        let before = logical.text.len();
        let text = chars(line, span);
        logical.text.push_str(&text);
        edge = logical.text.len();
        own = own.max(before + inked(line, span));
        if row == cursor.row {
            let left = Span {
                from: span.from,
                to: cursor.column.clamp(span.from, span.to),
            };
            let shown = chars(line, left);
            bright = inked(line, left) == shown.trim_end().len();
            own = own.max(before + shown.len());
            logical.right = right_of(line, span, left.to);
            if let Some(right) = &logical.right {
                edge = before
                    + chars(
                        line,
                        Span {
                            to: right.column,
                            ..span
                        },
                    )
                    .len();
                own = before
                    + shown.len().max(inked(
                        line,
                        Span {
                            to: right.column,
                            ..span
                        },
                    ));
            }
            logical.before_cursor = logical.text.get(..before).unwrap_or_default().to_owned() + &shown;
            has_cursor = true;
        }
        logical.full = text.chars().next_back().is_some_and(|last| last != ' ');
        if row == top {
            logical.first_row = text.trim_end().to_owned();
        }
    }
    let offered = logical.text.get(own..edge).is_some_and(|text| !text.trim().is_empty());
    if has_cursor && bright && offered {
        logical.whole = Some(logical.text.trim_end().to_owned());
        let blanks = " ".repeat(edge - own);
        logical.text.replace_range(own..edge, &blanks);
    }
    logical.text.truncate(logical.text.trim_end().len());
    if !has_cursor {
        logical.before_cursor.clone_from(&logical.text);
    }
    logical
}

/// What stands below a row and may be of the same line, its rows joined. On the alternate screen the last row is a status
/// line; below a border, and below a row with a background of its own, another pane begins.
pub fn below(terminal: &Terminal, row: usize) -> String {
    let (cols, rows) = terminal.size();
    let alternate = terminal.active_screen_kind() == ScreenKind::Alternate;
    let span = pane(terminal);
    let border = |sign: char| matches!(sign, '\u{2500}'..='\u{257f}');
    let mut all = String::new();
    for at in row + 1..rows {
        let Some(line) = terminal.screen().line(at) else { break };
        let text = chars(line, span);
        let text = text.trim();
        let painted = |cell: &Cell| cell.pen().is_inverse() || cell.pen().background().is_some();
        let frame = !text.is_empty() && text.chars().all(border);
        let bar = line.len() >= cols && line.cells().iter().all(painted);
        if alternate && (at + 1 >= rows || frame || bar) {
            break;
        }
        all.push_str(text);
    }
    all
}

/// First and last row of the logical line that a row is part of.
fn extent(terminal: &Terminal, row: usize, span: Span) -> (usize, usize) {
    let mut top = row;
    while top > 0 && row - top < LOGICAL_ROWS_MAX && goes_on(terminal, top - 1, span) {
        top -= 1;
    }
    let mut bottom = row;
    while bottom - row < LOGICAL_ROWS_MAX && goes_on(terminal, bottom, span) {
        bottom += 1;
    }
    (top, bottom)
}

/// Bytes of the text up to the last that is drawn and not dim.
fn inked(line: &Line, span: Span) -> usize {
    let cells = line.cells().get(span.from..span.to.min(line.len())).unwrap_or_default();
    let last = cells.iter().rposition(|cell| cell.char() != ' ' && !dim(cell));
    let to = last.map_or(span.from, |last| span.from + last + 1);
    chars(line, Span { to, ..span }).len()
}

fn dim(cell: &Cell) -> bool {
    let pen = cell.pen();
    let grey = match pen.foreground() {
        Some(Color::Indexed(index)) => index == DIM || DIM_GREYS.contains(&index),
        Some(Color::RGB(_)) | None => false,
    };
    grey || pen.is_faint()
}

fn chars(line: &Line, span: Span) -> String {
    let cells = line.cells().get(span.from..span.to.min(line.len())).unwrap_or_default();
    let shown = cells.iter().filter(|cell| cell.width() > 0);
    shown.map(avt::Cell::char).collect()
}

/// Whether a row runs on into the next. On the alternate screen programs place
/// the pieces themselves: a row that is full to its last column runs on.
fn goes_on(terminal: &Terminal, row: usize, span: Span) -> bool {
    let screen = terminal.screen();
    let (Some(line), Some(next)) = (screen.line(row), screen.line(row + 1)) else {
        return false;
    };
    if line.is_wrapped() && span.from == 0 && span.to >= line.len() {
        return true;
    }
    if terminal.active_screen_kind() == ScreenKind::Primary {
        return false;
    }
    let ink = |line: &Line, at: usize| {
        line.cells()
            .get(at)
            .is_some_and(|cell| cell.char() != ' ' || cell.width() == 0)
    };
    span.to > span.from && ink(line, span.to - 1) && ink(next, span.from)
}

/// Text behind the cursor that ends near the right edge, with blanks before it.
fn right_of(line: &Line, span: Span, cursor: usize) -> Option<Right> {
    let all = line.cells().get(cursor..span.to.min(line.len()))?;
    let blank = |cell: &Cell| cell.char() == ' ' && cell.width() == 1;
    let after = all.iter().rev().take_while(|cell| blank(cell)).count();
    let (shown, _) = all.split_at(all.len() - after);
    // One blank is enough right behind the cursor; within a text there may be one.
    let before = shown.iter().take_while(|cell| blank(cell)).count();
    let gap = shown.windows(RIGHT_GAP_MIN).rposition(|cells| cells.iter().all(blank));
    let from = gap.map_or(before, |gap| gap + RIGHT_GAP_MIN);
    if after > RIGHT_BLANKS_MAX || from == 0 || from >= shown.len() {
        return None;
    }
    Some(Right {
        text: chars(
            line,
            Span {
                from: cursor + from,
                to: cursor + shown.len(),
            },
        ),
        column: cursor + from,
    })
}

/// The columns of the pane with the cursor. Panes exist on the alternate
/// screen only; a border is a vertical line that goes on above or below.
fn pane(terminal: &Terminal) -> Span {
    let (cols, _) = terminal.size();
    let whole = Span { from: 0, to: cols };
    if terminal.active_screen_kind() == ScreenKind::Primary {
        return whole;
    }
    let cursor = terminal.cursor();
    let border = |col: usize| {
        let at = |row: Option<usize>| {
            let line = row.and_then(|row| terminal.screen().line(row))?;
            line.cells().get(col).map(avt::Cell::char)
        };
        let upright = |c: Option<char>| matches!(c, Some('│' | '┃' | '├' | '┤' | '┼' | '┬' | '┴' | '║'));
        let here = matches!(at(Some(cursor.row)), Some('│' | '┃' | '├' | '┤' | '║'));
        here && (upright(at(cursor.row.checked_sub(1))) || upright(at(Some(cursor.row + 1))))
    };
    let at = cursor.col.min(cols);
    Span {
        from: (0..at).rev().find(|col| border(*col)).map_or(0, |col| col + 1),
        to: (at..cols).find(|col| border(*col)).unwrap_or(cols),
    }
}
