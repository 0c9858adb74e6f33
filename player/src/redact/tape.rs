//! Text as it came, one piece after the other: what is looked for may begin in one event and end in another.

use crate::redact::choice::{Choice, is_text, width};
use crate::redact::edits::{Edits, Origin};

/// Bytes of text before the last piece that a match may begin in.
const REACH_BYTES: usize = 4 << 10;
/// Bytes that are kept, so that they are not moved with every key press.
const KEPT_BYTES_MAX: usize = 2 * REACH_BYTES;

/// A character on the tape.
struct Glyph {
    at: usize,
    origin: Origin,
    /// Whether it can be taken away.
    text: bool,
}

/// One stream of one channel.
#[derive(Default)]
pub struct Tape {
    text: String,
    glyphs: Vec<Glyph>,
    searched: usize,
}

impl Tape {
    /// Adds a character; `text` says that it is no part of a control sequence.
    pub fn push(&mut self, c: char, origin: Origin, text: bool) {
        self.glyphs.push(Glyph {
            at: self.text.len(),
            origin,
            text: text && is_text(c),
        });
        self.text.push(c);
    }

    /// Takes the last character back, as a Backspace does.
    pub fn pop(&mut self) {
        self.text.pop();
        self.glyphs.pop();
        self.searched = self.searched.min(self.text.len());
    }

    /// Marks what must go of what has come since the last time, with what was before it.
    pub fn search(&mut self, choice: &Choice, edits: &mut Edits) {
        let mut from = self.searched.saturating_sub(REACH_BYTES);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        let window = self.text.get(from..).unwrap_or_default();
        for found in choice.found(window) {
            let first = self.glyphs.partition_point(|glyph| glyph.at < from + found.start);
            let glyphs = self.glyphs.iter().skip(first);
            for glyph in glyphs
                .take_while(|glyph| glyph.at < from + found.end)
                .filter(|glyph| glyph.text)
            {
                let c = self.text.get(glyph.at..).and_then(|text| text.chars().next());
                edits.cut(&glyph.origin, c.map_or(1, width));
            }
        }
        self.searched = self.text.len();
        if self.text.len() > KEPT_BYTES_MAX {
            let keep = self
                .glyphs
                .partition_point(|glyph| glyph.at < self.text.len() - REACH_BYTES);
            let gone = self.glyphs.get(keep).map_or(self.text.len(), |glyph| glyph.at);
            self.glyphs.drain(..keep);
            self.glyphs.iter_mut().for_each(|glyph| glyph.at -= gone);
            self.text.drain(..gone);
            self.searched -= gone;
        }
    }
}
