//! Texts of commands.

use super::COMMAND_BYTES_MAX;

/// Adds a line to those of a command, as far as there is room.
pub fn join(all: &mut String, line: &str) {
    let room = COMMAND_BYTES_MAX.saturating_sub(all.len());
    if room > 0 {
        let most = line.floor_char_boundary(room - 1);
        all.push('\n');
        all.push_str(line.get(..most).unwrap_or_default());
    }
}

/// Whether a text takes all the room that there is: it may be the beginning of a longer one.
pub fn is_full(text: &str) -> bool {
    // A character that did not fit is left out whole.
    text.len() + char::MAX.len_utf8() >= COMMAND_BYTES_MAX
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
