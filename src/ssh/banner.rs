//! What a target says before it lets us in (RFC 4252 section 5.4): words for
//! people, and hostile bytes until they are made harmless.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a banner that are kept, once harmless.
const BANNER_BYTES_MAX: usize = 8 * 1024;

/// The banner of a session's target. Cheap to clone.
///
/// The connections of one session say the same: what the first of them said is
/// recorded once, shown once, and then forgotten.
#[derive(Clone, Default, Debug)]
pub struct Banner(Arc<Mutex<Heard>>);

#[derive(Default, Debug)]
struct Heard {
    text: String,
    /// Nothing is kept any more.
    deaf: bool,
    noted: bool,
}

impl Banner {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target said this. A target may say several before it lets in.
    pub fn hear(&self, said: &str) {
        let mut heard = self.lock();
        if heard.deaf {
            return;
        }
        let left = BANNER_BYTES_MAX.saturating_sub(heard.text.len());
        add_harmless(&mut heard.text, said, left);
    }

    /// The target is being shown a secret: it could say it from now on, and
    /// nothing of that is kept.
    pub fn close(&self) {
        self.lock().deaf = true;
    }

    /// What was said, once, for the recording. What is said later is not kept.
    pub fn note(&self) -> Option<String> {
        let mut heard = self.lock();
        heard.deaf = true;
        let first = !std::mem::replace(&mut heard.noted, true);
        (first && !heard.text.is_empty()).then(|| heard.text.clone())
    }

    /// What was said, once, as lines for a terminal in raw mode.
    pub fn show(&self) -> Option<String> {
        let text = std::mem::take(&mut self.lock().text);
        let lines = text.trim_end_matches('\n');
        (!lines.is_empty()).then(|| format!("{}\r\n", lines.replace('\n', "\r\n")))
    }
}

/// Adds at most so many bytes of `said`, as OpenSSH shows a server's words: line
/// breaks, tabs and what can be printed as they are, other bytes in octal.
fn add_harmless(text: &mut String, said: &str, mut left: usize) {
    let mut piece = String::new();
    let mut chars = said.chars().peekable();
    while let Some(c) = chars.next() {
        piece.clear();
        match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\n' | '\t' => piece.push(c),
            c if c.is_control() || turns(c) => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    // Into a string it never fails.
                    write!(piece, "\\{byte:03o}").ok();
                }
            }
            c => piece.push(c),
        }
        let Some(rest) = left.checked_sub(piece.len()) else {
            return;
        };
        left = rest;
        text.push_str(&piece);
    }
}

/// Changes the direction or the line of what is around it, so that it reads as
/// something else.
fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmless(said: &str) -> String {
        let mut text = String::new();
        add_harmless(&mut text, said, BANNER_BYTES_MAX);
        text
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_in_octal() {
        assert_eq!(harmless("\x1b]0;x\x07\x1b[2J"), "\\033]0;x\\007\\033[2J");
        assert_eq!(harmless("a\u{9b}31m\u{7f}\0"), "a\\302\\23331m\\177\\000");
        assert_eq!(harmless("one\r\ntwo\rthree\tä€"), "one\ntwo\\015three\tä€");
        assert_eq!(harmless("\u{202e}evil"), "\\342\\200\\256evil");
    }

    #[test]
    fn it_is_noted_once_and_shown_once_as_lines() {
        let banner = Banner::default();
        banner.hear("property of\n");
        banner.hear("the house\n\n");
        assert_eq!(banner.note().unwrap(), "property of\nthe house\n\n");
        banner.hear("said by a further connection");
        assert_eq!(banner.note(), None);
        assert_eq!(banner.show().unwrap(), "property of\r\nthe house\r\n");
        assert_eq!(banner.show(), None);
        assert_eq!(Banner::default().note(), None);
        let told = Banner::default();
        told.hear("welcome");
        told.close();
        told.hear(", and so is your hunter2");
        assert_eq!(told.note().unwrap(), "welcome");
    }

    #[test]
    fn it_is_bounded_and_no_piece_of_it_is_torn() {
        let banner = Banner::default();
        (0..100).for_each(|_| banner.hear(&"\x1bx".repeat(100)));
        let text = banner.note().unwrap();
        assert!(
            (BANNER_BYTES_MAX - 4..=BANNER_BYTES_MAX).contains(&text.len()),
            "{}",
            text.len()
        );
        assert!(text.ends_with("\\033x") || text.ends_with("\\033"));
    }
}
