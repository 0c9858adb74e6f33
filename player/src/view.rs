//! What the viewer sees: the grid's cells, and a line below that says what they are worth.

use avt::{Cell, Color as Ink, Pen};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthChar;

use crate::grid::Grid;
use crate::keys::HELP;
use crate::plain;
use crate::playback::Playback;
use crate::times;

/// Draws everything. `standing` is the verdict in a few words, which comes first; `help` shows the keys.
pub fn draw(buffer: &mut Buffer, area: Rect, playback: &Playback, standing: &str, help: bool) {
    let screen = Rect {
        height: area.height.saturating_sub(1),
        ..area
    };
    let mut shown = (0, 0);
    if let Some(grid) = playback.grid() {
        shown = draw_grid(buffer, screen, grid);
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
    let style = Style::new().add_modifier(Modifier::REVERSED);
    if screen.height > 0 {
        if help {
            draw_line(buffer, above, HELP, style);
        } else if let Some(message) = playback.message() {
            draw_line(buffer, above, message, style);
        }
    }
    draw_line(buffer, below, &status(playback, standing, shown), style);
}

/// The line below. The verdict stands first, so that a narrow terminal cuts anything but that.
pub fn status(playback: &Playback, standing: &str, shown: (u16, u16)) -> String {
    let line = &playback.timeline;
    let state = match playback.fault() {
        Some(fault) => format!("stopped: {fault}"),
        None if playback.is_at_end() => "end".to_owned(),
        None if line.is_paused() => "paused".to_owned(),
        None => "playing".to_owned(),
    };
    let speed = line.speed_percent();
    let (at, of) = (times::clock(line.position_ms()), times::clock(playback.length_ms()));
    let mut parts = vec![
        standing.to_owned(),
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
        if usize::from(shown.0) < grid_cols || usize::from(shown.1) < grid_rows {
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
    parts.push("? keys".to_owned());
    parts.push(playback.title().to_owned());
    format!(" {} ", parts.join(" | "))
}

/// Draws the part of the grid that fits and holds the cursor; how much that was.
fn draw_grid(buffer: &mut Buffer, area: Rect, grid: &Grid) -> (u16, u16) {
    let terminal = grid.terminal();
    let (cols, rows) = terminal.size();
    let (width, height) = (usize::from(area.width).min(cols), usize::from(area.height).min(rows));
    let cursor = terminal.cursor();
    let top = (cursor.row + 1).saturating_sub(height).min(rows - height);
    let left = (cursor.col + 1).saturating_sub(width).min(cols - width);
    for (y, line) in terminal.screen().visible_lines().skip(top).take(height).enumerate() {
        let cells = line.cells().iter().skip(left).take(width);
        for (x, cell) in cells.enumerate() {
            let here = (area.x + x as u16, area.y + y as u16);
            let Some(target) = buffer.cell_mut(here) else {
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
            if cursor.visible && cursor.row == top + y && cursor.col == left + x {
                target.modifier.toggle(Modifier::REVERSED);
            }
        }
    }
    (width as u16, height as u16)
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
