//! Texts of commands.

use super::COMMAND_BYTES_MAX;

/// Adds a line to those of a command, if there is room.
pub fn join(all: &mut String, line: &str) {
    if all.len() + line.len() < COMMAND_BYTES_MAX {
        all.push('\n');
        all.push_str(line);
    }
}

/// Cuts off what is too long.
pub fn cut(text: &mut String) {
    if text.len() > COMMAND_BYTES_MAX {
        text.truncate(text.floor_char_boundary(COMMAND_BYTES_MAX));
    }
}

/// Without the blanks at its end.
pub fn fold_end(text: &str) -> String {
    text.trim_end().to_owned()
}

/// One sign for each key, as some programs show for a password.
pub fn is_stars(text: &str) -> bool {
    let mut signs = text.chars();
    signs
        .next()
        .is_some_and(|first| (first == '*' || !first.is_ascii()) && signs.all(|sign| sign == first))
}
