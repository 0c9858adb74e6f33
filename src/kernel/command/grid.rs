//! Logical lines on a terminal's grid.

use avt::{Line, ScreenKind, Terminal};

/// Rows of one logical line that are read.
const LOGICAL_ROWS_MAX: usize = 200;
/// Blanks between a text at the right edge and the edge.
const RIGHT_BLANKS_MAX: usize = 3;

/// A line as it was meant: rows that wrap into each other are one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logical {
    /// First and last row, from 0.
    pub top: usize,
    pub bottom: usize,
    /// Its text without the blanks at the end.
    pub text: String,
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

/// Columns `[from, to)` that belong to one pane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    from: usize,
    to: usize,
}

/// The logical line with the cursor.
pub fn at_cursor(terminal: &Terminal) -> Logical {
    at_row(terminal, terminal.cursor().row)
}

/// The logical line that a row is part of.
pub fn at_row(terminal: &Terminal, row: usize) -> Logical {
    let cursor = terminal.cursor();
    let span = pane(terminal);
    let mut top = row;
    while top > 0 && row - top < LOGICAL_ROWS_MAX && goes_on(terminal, top - 1, span) {
        top -= 1;
    }
    let mut bottom = row;
    while bottom - row < LOGICAL_ROWS_MAX && goes_on(terminal, bottom, span) {
        bottom += 1;
    }
    let mut logical = Logical {
        top,
        bottom,
        ..Logical::default()
    };
    let mut has_cursor = false;
    for row in top..=bottom {
        let Some(line) = terminal.screen().line(row) else { break };
        if row == cursor.row {
            let left = Span {
                from: span.from,
                to: cursor.col.clamp(span.from, span.to),
            };
            logical.before_cursor = format!("{}{}", logical.text, chars(line, left));
            logical.right = right_of(line, span, left.to);
            has_cursor = true;
        }
        let text = chars(line, span);
        logical.full = text.chars().next_back().is_some_and(|last| last != ' ');
        if row == top {
            logical.first_row = text.trim_end().to_owned();
        }
        logical.text.push_str(&text);
    }
    logical.text.truncate(logical.text.trim_end().len());
    if !has_cursor {
        logical.before_cursor.clone_from(&logical.text);
    }
    logical
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
    let blank = |cell: &avt::Cell| cell.char() == ' ' && cell.width() == 1;
    let after = all.iter().rev().take_while(|cell| blank(cell)).count();
    let before = all.iter().take_while(|cell| blank(cell)).count();
    if after > RIGHT_BLANKS_MAX || before == 0 || before + after >= all.len() {
        return None;
    }
    let shown = all.get(before..all.len() - after)?;
    Some(Right {
        text: shown
            .iter()
            .filter(|cell| cell.width() > 0)
            .map(avt::Cell::char)
            .collect(),
        column: cursor + before,
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
