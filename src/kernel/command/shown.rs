//! Output of one terminal that is drawn later, in one go.

use avt::{ScreenKind, Terminal};

use super::Reader;
use super::scroll::{is_flood, skip};

/// What was shown and is not drawn yet.
#[derive(Default)]
pub struct Shown {
    text: String,
    /// When each piece of it came, in session ms, and where it ends.
    pieces: Vec<(u64, usize)>,
}

impl Shown {
    /// Takes a piece of output.
    pub fn push(&mut self, at_ms: u64, text: &str) {
        self.text.push_str(text);
        self.pieces.push((at_ms, self.text.len()));
    }

    /// Bytes of text that wait.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Whether it came as a flood does: all of it between two keys.
    pub fn is_flood(&self) -> bool {
        is_flood(self.text.len(), self.ended_ms().saturating_sub(self.began_ms()))
    }

    /// Draws it, by way of the reader if there is one; of a flood only its beginning and its end, if the rest leaves no trace.
    pub fn draw(self, flood: bool, mut reader: Option<&mut Reader>, terminal: &mut Terminal) {
        let mut feed = |at_ms: u64, text: &str, terminal: &mut Terminal| match &mut reader {
            Some(reader) => reader.shown(at_ms, text, terminal),
            None => terminal.feed(text),
        };
        let skipped = match flood && terminal.active_screen_kind() == ScreenKind::Primary {
            true => skip(&self.text, terminal.size().1),
            false => None,
        };
        let Some(skipped) = skipped else {
            for (at_ms, text) in self.pieces() {
                feed(at_ms, text, terminal);
            }
            return;
        };
        let part = |range| self.text.get(range).unwrap_or_default();
        feed(self.began_ms(), part(0..skipped.text.start), terminal);
        if let Some(reader) = &mut reader {
            reader.passed_over(self.ended_ms(), skipped.rows);
        }
        terminal.feed(skipped.style.as_str());
        let rest = part(skipped.text.end..self.text.len());
        match reader {
            Some(reader) => reader.shown(self.ended_ms(), rest, terminal),
            None => terminal.feed(rest),
        }
    }

    fn began_ms(&self) -> u64 {
        self.pieces.first().map_or(0, |(at_ms, _)| *at_ms)
    }

    fn ended_ms(&self) -> u64 {
        self.pieces.last().map_or(0, |(at_ms, _)| *at_ms)
    }

    fn pieces(&self) -> impl Iterator<Item = (u64, &str)> {
        let starts = std::iter::once(0).chain(self.pieces.iter().map(|(_, end)| *end));
        let pieces = starts.zip(&self.pieces);
        pieces.filter_map(|(start, (at_ms, end))| Some((*at_ms, self.text.get(start..*end)?)))
    }
}
