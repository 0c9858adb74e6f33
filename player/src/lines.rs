//! Lines of what is no terminal's output.

use crate::plain::{self, Utf8};

/// Characters of one line of a command's output.
const LINE_CHARS_MAX: usize = 64 << 10;

/// Lines of something that is no terminal; escape sequences are taken out.
#[derive(Default)]
pub struct Lines {
    utf8: Utf8,
    parser: avt::Parser,
    line: String,
    chars: usize,
}

impl Lines {
    /// Takes the next bytes; gives the lines that end in them, safe to show.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        use avt::parser::Function;
        for c in self.utf8.push(bytes).chars() {
            match self.parser.feed(c) {
                Some(Function::Print(c)) => {
                    self.line.push(if plain::is_shown(c) { c } else { plain::REPLACEMENT });
                    self.chars += 1;
                    if self.chars < LINE_CHARS_MAX {
                        continue;
                    }
                }
                Some(Function::Ht) => {
                    self.line.push_str("    ");
                    self.chars += 4;
                    continue;
                }
                Some(Function::Lf | Function::Nel) => {}
                _ => continue,
            }
            self.chars = 0;
            each(std::mem::take(&mut self.line));
        }
    }

    /// Gives the last one, if no line break ended it.
    pub fn finish(&mut self, mut each: impl FnMut(String)) {
        self.line.push_str(self.utf8.finish());
        if !self.line.is_empty() {
            each(std::mem::take(&mut self.line));
        }
    }
}
