//! The gate between recorded characters and anything a person's terminal shows.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// Stands for a character that is not shown.
pub const REPLACEMENT: char = '\u{FFFD}';

/// Whether a character may be shown in running text: it is no control, changes no writing direction and is not invisible.
pub fn is_shown(c: char) -> bool {
    !matches!(c,
        // Format characters, fillers and variation selectors whose width differs between tables, or that no terminal shows.
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{FFFE}' | '\u{FFFF}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
        && c.width().is_some_and(|w| w > 0)
}

/// What to draw in a cell that the emulator gives `width` cells to. A cell stands alone: what would join with its
/// neighbour, or take another width on the viewer's terminal, is replaced, so that nothing moves.
pub fn cell(c: char, width: u8) -> char {
    // Regional indicators and skin tones join with the cell before them.
    let joins = matches!(c, '\u{1F1E6}'..='\u{1F1FF}' | '\u{1F3FB}'..='\u{1F3FF}');
    if is_shown(c) && !joins && c.width() == Some(usize::from(width)) {
        c
    } else {
        REPLACEMENT
    }
}

/// One line of text: every character that is not shown is replaced, tabs and line breaks included.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if is_shown(c) { c } else { REPLACEMENT })
        .collect()
}

/// The same for bytes that may not be text, and at most `chars_max` characters.
pub fn bytes(bytes: &[u8], chars_max: usize) -> String {
    // A character has at most 4 bytes: no need to decode the rest of a megabyte.
    let head = bytes.get(..chars_max.saturating_mul(4)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    let mut shown: String = line(&text).chars().take(chars_max).collect();
    if head.len() < bytes.len() || text.chars().count() > chars_max {
        shown.push('…');
    }
    shown
}

/// Key presses as text: controls as their pictures, so that an Enter is seen.
pub fn pictured(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\0'..='\u{1F}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(REPLACEMENT),
            '\u{7F}' => '␡',
            c if is_shown(c) => c,
            _ => REPLACEMENT,
        })
        .collect()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON text in which everything that is not shown is an escape: a terminal can print it.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | ' '..='~') || (!c.is_ascii() && is_shown(c)) {
            out.push(c);
            continue;
        }
        // Outside of strings JSON is ASCII, so an escape is right wherever such a character is found.
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            write!(out, "\\u{unit:04x}").ok();
        }
    }
    out
}

/// UTF-8 that comes in pieces: a character torn between two of them is put together, what is none is replaced.
#[derive(Debug, Default, Clone)]
pub struct Utf8 {
    torn: Vec<u8>,
}

impl Utf8 {
    /// The text of the next piece.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.torn);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            if rest.is_empty() {
                continue;
            }
            let unfinished = std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none());
            if unfinished && chunks.peek().is_none() {
                self.torn = rest.to_vec();
            } else {
                text.push(REPLACEMENT);
            }
        }
        text
    }

    /// Whether no character waits for its end.
    pub fn is_whole(&self) -> bool {
        self.torn.is_empty()
    }

    /// What is left of a character whose end never came.
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.torn).is_empty() {
            ""
        } else {
            "\u{FFFD}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_or_hides_is_shown() {
        for c in (0..0x20).chain(0x7F..0xA0).filter_map(char::from_u32) {
            assert!(!is_shown(c), "{c:?}");
        }
        for c in "\u{202E}\u{2066}\u{200B}\u{200D}\u{FEFF}\u{AD}\u{301}\u{E0041}\u{2028}\u{61C}".chars() {
            assert!(!is_shown(c), "{c:?}");
            assert_eq!(cell(c, 1), REPLACEMENT);
        }
        assert!("aé界 \u{E0B0}א…".chars().all(is_shown));
    }

    #[test]
    fn cells_keep_their_width() {
        assert_eq!(cell('界', 2), '界');
        assert_eq!(cell('界', 1), REPLACEMENT);
        assert_eq!(cell('\u{1F1E9}', 1), REPLACEMENT);
    }

    #[test]
    fn torn_characters_are_put_together() {
        let text = "grüße 界🚀";
        for cut in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(a) + &utf8.push(b) + utf8.finish(), text);
        }
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\x9b31mb\xe7"), "a\u{FFFD}31mb");
        assert_eq!(utf8.finish(), "\u{FFFD}");
        assert_eq!(utf8.push(b"\xe7\x95") + &utf8.push(b"x"), "\u{FFFD}x");
    }

    #[test]
    fn json_escapes_what_serde_leaves() {
        let json = json(&serde_json::to_string("\u{1b}[0m\u{9b}\u{7f}\u{202e}ü\u{E0041}").unwrap());
        assert_eq!(json, r#""\u001b[0m\u009b\u007f\u202eü\udb40\udc41""#);
        assert_eq!(
            serde_json::from_str::<String>(&json).unwrap(),
            "\u{1b}[0m\u{9b}\u{7f}\u{202e}ü\u{E0041}"
        );
    }

    #[test]
    fn long_bytes_are_cut() {
        assert_eq!(bytes(b"abc\x1b", 10), "abc\u{FFFD}");
        assert_eq!(bytes(&[b'x'; 100], 5), "xxxxx…");
        assert_eq!(pictured("ls\r\u{3}"), "ls␍␃");
    }
}
