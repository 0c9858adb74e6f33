//! A line that was sent and not shown; what comes behind it may show it yet.

use super::LINE_BYTES_MAX;

/// A line that was sent at a prompt and of which nothing was shown.
pub struct Unshown {
    typed: String,
    after: String,
}

impl Unshown {
    /// `typed`: what its keys alone make of it.
    pub fn new(typed: String) -> Unshown {
        let after = String::new();
        Unshown { typed, after }
    }

    /// Takes output; whether the first row of it shows the line, once that row is whole.
    pub fn row(&mut self, output: &str) -> Option<bool> {
        let room = LINE_BYTES_MAX.saturating_sub(self.after.len());
        self.after
            .push_str(output.get(..output.floor_char_boundary(room)).unwrap_or_default());
        let row = match self.after.split_once('\n') {
            Some((row, _)) => row,
            None if self.after.len().saturating_add(4) >= LINE_BYTES_MAX => self.after.as_str(),
            None => return None,
        };
        // Drawn with colours, or more than once, it is still all there in its order.
        let mut shown = row.chars();
        let signs = self.typed.chars().filter(char::is_ascii_graphic);
        Some(signs.into_iter().all(|sign| shown.any(|other| other == sign)))
    }
}
