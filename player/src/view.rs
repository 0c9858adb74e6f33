//! What the viewer sees: the grid's cells, and a line below that says what they are worth.

use avt::{Cell, Color as Ink, Line, Pen};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthChar;

use crate::keys::HELP;
use crate::plain;
use crate::times;
use crate::viewer::{Overlay, Viewer};

/// Lines that are the player's own.
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);
/// What is searched for.
const MARK: Style = Style::new().fg(Color::Black).bg(Color::Yellow);

/// Draws everything.
pub fn draw(buffer: &mut Buffer, area: Rect, viewer: &Viewer) {
    let screen = Rect {
        height: area.height.saturating_sub(1),
        ..area
    };
    let shown = draw_rows(buffer, screen, viewer);
    match viewer.overlay() {
        None => {}
        Some(Overlay::Help) => {
            let keys: Vec<String> = HELP.iter().map(|(key, what)| format!("{key:<12} {what}")).collect();
            draw_box(buffer, screen, &keys);
        }
        Some(Overlay::About) => draw_box(buffer, screen, &viewer.words().about),
    }
    let above = Rect {
        y: screen.y + screen.height.saturating_sub(1),
        height: 1,
        ..area
    };
    let below = Rect {
        y: area.y + screen.height,
        height: area.height.min(1),
        ..area
    };
    if screen.height > 0 {
        if let Some(prompt) = viewer.prompt() {
            // The end of what was typed stays in sight.
            let line = format!("{}{}_", prompt.purpose.label(), plain::line(&prompt.text));
            let from = line.chars().count().saturating_sub(usize::from(area.width));
            draw_line(buffer, above, &line.chars().skip(from).collect::<String>(), BAR);
        } else if let Some(message) = viewer.message() {
            draw_line(buffer, above, message, BAR);
        }
    }
    draw_line(buffer, below, &status(viewer, shown), BAR);
}

/// The line below. The verdict stands first, so that a narrow terminal cuts anything but that.
pub fn status(viewer: &Viewer, shown: (u16, u16)) -> String {
    let playback = &viewer.playback;
    let line = &playback.timeline;
    let (back, _) = viewer.scrolled();
    let state = match playback.fault() {
        Some(fault) => format!("stopped: {fault}"),
        None if back > 0 => format!("scrolled back {back} rows,"),
        None if playback.is_at_end() => "end".to_owned(),
        None if line.is_paused() => "paused".to_owned(),
        None => "playing".to_owned(),
    };
    let speed = line.speed_percent();
    let (at, of) = (times::clock(line.position_ms()), times::clock(playback.length_ms()));
    let mut parts = vec![
        viewer.words().badge.clone(),
        format!("{state} {at}/{of} {}.{:02}x", speed / 100, speed % 100),
    ];
    match playback.terminals() {
        0 | 1 => parts.push(format!("ch {}", playback.channel())),
        n => parts.push(format!("ch {} of {n} terminals", playback.channel())),
    }
    if let Some(grid) = playback.grid() {
        let (cols, rows) = grid.true_size();
        let mut size = format!("{cols}x{rows}");
        let (grid_cols, grid_rows) = grid.terminal().size();
        if (cols as usize, rows as usize) != (grid_cols, grid_rows) {
            size += &format!(" drawn as {grid_cols}x{grid_rows}");
        }
        if back == 0 && (usize::from(shown.0) < grid_cols || usize::from(shown.1) < grid_rows) {
            size += &format!(", {}x{} of it fit here", shown.0, shown.1);
        }
        parts.push(size);
        if grid.is_abridged() {
            parts.push("abridged: runaway control sequences".to_owned());
        }
    }
    if playback.is_guessed() {
        parts.push("what was on screen before is not known".to_owned());
    }
    if let Some(ms) = line.idle_limit_ms() {
        parts.push(format!("pauses to {}.{} s", ms / 1000, ms % 1000 / 100));
    }
    parts.push("? keys".to_owned());
    parts.push(playback.title().to_owned());
    format!(" {} ", parts.join(" | "))
}

/// The rows that are shown on a screen of some height, from the top, and the row of the grid that is the first of
/// them: those around the cursor, or what was scrolled back to.
fn rows_shown(viewer: &Viewer, height: usize) -> (Vec<&Line>, isize) {
    let Some(grid) = viewer.playback.grid() else {
        return (Vec::new(), 0);
    };
    let terminal = grid.terminal();
    let screen = terminal.screen().visible_lines();
    let rows = screen.len();
    let (back, history) = viewer.scrolled();
    if back == 0 {
        let height = height.min(rows);
        let top = (terminal.cursor().row + 1).saturating_sub(height).min(rows - height);
        return (screen.skip(top).take(height).collect(), top as isize);
    }
    let total = history.len() + rows;
    let height = height.min(total);
    let top = (total - height).saturating_sub(back);
    let above = (top..history.len()).filter_map(|at| history.row(at));
    let lines = above.chain(screen.skip(top.saturating_sub(history.len()))).take(height);
    (lines.collect(), top as isize - history.len() as isize)
}

/// What is on the screen, as text: rows that belong together are one line.
pub fn text(viewer: &Viewer, height: usize) -> String {
    let (lines, _) = rows_shown(viewer, height);
    let mut text = String::new();
    for line in lines {
        let row = line.text();
        if line.is_wrapped() {
            text += &plain::line(&row);
        } else {
            text += &plain::line(row.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Draws the rows of the terminal looked at; how much of them that was.
fn draw_rows(buffer: &mut Buffer, area: Rect, viewer: &Viewer) -> (u16, u16) {
    let Some(grid) = viewer.playback.grid() else {
        return (0, 0);
    };
    let (lines, top) = rows_shown(viewer, usize::from(area.height));
    let cursor = grid.terminal().cursor();
    let cols = grid.terminal().size().0;
    let width = usize::from(area.width).min(cols);
    let left = (cursor.col + 1).saturating_sub(width).min(cols - width);
    for (y, line) in lines.iter().enumerate() {
        let marked = marked_columns(viewer, line);
        let cells = line.cells().iter().enumerate().skip(left).take(width);
        for (col, cell) in cells {
            let x = col - left;
            let Some(target) = buffer.cell_mut((area.x + x as u16, area.y + y as u16)) else {
                continue;
            };
            // A wide character with only half of it in sight is not drawn, nor the right half of any.
            let cut = cell.width() == 2 && x + 1 == width;
            let symbol = if cell.width() == 0 || cut {
                ' '
            } else {
                plain::cell(cell.char(), cell.width())
            };
            target.set_char(symbol).set_style(style(cell));
            if marked.contains(&col) {
                target.set_style(MARK);
            }
            if cursor.visible && cursor.row as isize == top + y as isize && cursor.col == col {
                target.modifier.toggle(Modifier::REVERSED);
            }
        }
    }
    (width as u16, lines.len() as u16)
}

/// Columns of a row in which what is searched for is.
fn marked_columns(viewer: &Viewer, line: &Line) -> Vec<usize> {
    let Some(query) = viewer.query() else {
        return Vec::new();
    };
    let cells = || line.cells().iter().enumerate().filter(|(_, cell)| cell.width() > 0);
    let text: String = cells().map(|(_, cell)| cell.char()).collect();
    let mut marked = Vec::new();
    for found in query.pattern.find_iter(text.trim_end()) {
        let columns = cells().zip(text.char_indices());
        marked.extend(
            columns
                .filter(|(_, (at, _))| found.range().contains(at))
                .map(|((col, _), _)| col),
        );
    }
    marked
}

/// A list over the screen, as much of it as fits.
fn draw_box(buffer: &mut Buffer, area: Rect, lines: &[String]) {
    for (y, line) in lines.iter().enumerate().take(usize::from(area.height)) {
        let row = Rect {
            y: area.y + y as u16,
            height: 1,
            ..area
        };
        draw_line(buffer, row, &format!("  {line}"), BAR);
    }
}

fn style(cell: &Cell) -> Style {
    let pen: &Pen = cell.pen();
    let color = |ink: Option<Ink>| match ink {
        None => Color::Reset,
        Some(Ink::Indexed(n)) => Color::Indexed(n),
        Some(Ink::RGB(rgb)) => Color::Rgb(rgb.r, rgb.g, rgb.b),
    };
    let mut modifier = Modifier::empty();
    for (is, what) in [
        (pen.is_bold(), Modifier::BOLD),
        (pen.is_faint(), Modifier::DIM),
        (pen.is_italic(), Modifier::ITALIC),
        (pen.is_underline(), Modifier::UNDERLINED),
        (pen.is_strikethrough(), Modifier::CROSSED_OUT),
        (pen.is_blink(), Modifier::SLOW_BLINK),
        (pen.is_inverse(), Modifier::REVERSED),
    ] {
        if is {
            modifier |= what;
        }
    }
    Style::new()
        .fg(color(pen.foreground()))
        .bg(color(pen.background()))
        .add_modifier(modifier)
}

fn draw_line(buffer: &mut Buffer, area: Rect, text: &str, style: Style) {
    let mut x = 0;
    // Texts come in clean; this is the last place where it can be made sure of.
    for c in text.chars() {
        let width = c.width().unwrap_or(0) as u8;
        let c = plain::cell(c, width.max(1));
        let width = c.width().unwrap_or(1) as u16;
        if x + width > area.width {
            break;
        }
        if let Some(cell) = buffer.cell_mut((area.x + x, area.y)) {
            cell.reset();
            cell.set_char(c).set_style(style);
        }
        if width == 2
            && let Some(cell) = buffer.cell_mut((area.x + x + 1, area.y))
        {
            cell.reset();
            cell.set_style(style);
        }
        x += width;
    }
    for rest in x..area.width {
        if let Some(cell) = buffer.cell_mut((area.x + rest, area.y)) {
            cell.reset();
            cell.set_style(style);
        }
    }
}
