//! Floods of output: what only scrolls by is not drawn.
//!
//! Lines that are printed and coloured, and nothing else, leave no trace on a
//! screen that many more such lines have scrolled. An emulator that skips
//! them and goes on from the last ones shows the same.

use std::ops::Range;

/// Output of one terminal from which on some of it may be skipped, in bytes, all of it between two keys.
pub const FLOOD_BYTES_MIN: usize = 256 * 1024;
/// And that came faster than this, in bytes a second.
const FLOOD_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// What is drawn of a flood's beginning, in bytes: who typed the line above it is read off there.
const HEAD_BYTES: usize = 16 * 1024;
/// Rows that are drawn of its end, in screens.
const TAIL_SCREENS: usize = 2;
/// Sequences of style in what is skipped that are kept, in bytes.
const STYLE_BYTES_MAX: usize = 1024;

/// What is skipped of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its bytes.
    pub text: Range<usize>,
    /// Its rows.
    pub rows: u64,
    /// The sequences in it that say how what follows looks.
    pub style: String,
}

/// Whether so much output in so many ms is a flood.
pub fn is_flood(bytes: usize, ms: u64) -> bool {
    let rate = (bytes as u64).saturating_mul(1000) / ms.max(1);
    bytes >= FLOOD_BYTES_MIN && rate > FLOOD_BYTES_PER_SECOND
}

/// What an emulator with so many rows, that shows its first screen, need not draw of a text.
pub fn skip(text: &str, rows: usize) -> Option<Skipped> {
    let head = text.get(..text.floor_char_boundary(HEAD_BYTES))?;
    let from = head.rfind("\r\n")? + 2;
    let mut to = text.len();
    for _ in 0..=rows.checked_mul(TAIL_SCREENS)? {
        to = text.get(..to)?.rfind("\r\n")?;
    }
    to += 2;
    let middle = text.get(from..to)?;
    let style = style_of(middle)?;
    Some(Skipped {
        text: from..to,
        rows: middle.bytes().filter(|byte| *byte == b'\n').count() as u64,
        style,
    })
}

/// The style behind a text, if nothing in it does more than print, set styles and go to new lines.
fn style_of(text: &str) -> Option<String> {
    let mut style = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\t' | '\u{7}')) {
        rest = rest.get(at..)?;
        let len = sequence(rest)?;
        let one = rest.get(..len)?;
        match one {
            "\u{1b}[m" | "\u{1b}[0m" => style.clear(),
            "\u{1b}[K" | "\u{1b}[0K" => {}
            _ if style.ends_with(one) => {}
            _ => style.push_str(one),
        }
        if style.len() > STYLE_BYTES_MAX {
            return None;
        }
        rest = rest.get(len..)?;
    }
    Some(style)
}

/// Length of the sequence that a text begins with, if it is one of style or erases to the end of its line.
fn sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    let parameters = body.get(..end)?;
    match body.as_bytes().get(end)? {
        b'm' => {}
        b'K' if matches!(parameters, "" | "0") => {}
        _ => return None,
    }
    Some("\u{1b}[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use avt::Terminal;

    use super::*;

    fn lines(how: impl Fn(usize) -> String) -> String {
        (0..20_000).map(|at| format!("{}\r\n", how(at))).collect()
    }

    fn same(text: &str, before: &str) -> bool {
        let mut whole = Terminal::new(80, 24).unwrap();
        whole.feed(before);
        let mut skipping = Terminal::new(80, 24).unwrap();
        skipping.feed(before);
        let skipped = skip(text, 24).unwrap();
        assert!(skipped.text.len() > text.len() / 2);
        let seen = text[..skipped.text.end].matches('\n').count() - text[..skipped.text.start].matches('\n').count();
        assert_eq!(skipped.rows, seen as u64);
        whole.feed(text);
        skipping.feed(&text[..skipped.text.start]);
        skipping.feed(skipped.style.as_str());
        skipping.feed(&text[skipped.text.end..]);
        whole.dump() == skipping.dump()
    }

    #[test]
    fn what_is_skipped_is_not_missed() {
        assert!(same(&lines(|at| format!("line {at}")), "$ cat\r\n"));
        assert!(same(
            &lines(|at| format!("\x1b[1;3{}mé{at}\x1b[m\tx\x1b[K\x07", at % 8)),
            ""
        ));
        // Set far above, and never again.
        let mut blue = lines(|at| "b".repeat(at % 200));
        let at = blue.len() / 2 + 1 + blue[blue.len() / 2..].find('b').unwrap();
        blue.insert_str(at, "\x1b[34m\x1b[1m");
        assert!(same(&blue, "\x1b[31m"));
        assert!(same(&(lines(|at| at.to_string()) + "prompt$ "), "\x1b[5;20r"));
    }

    #[test]
    fn what_does_more_is_drawn() {
        for more in [
            "\x1b[2J",
            "\x1b[5;5H",
            "\x1b]633;E;ls;n\x07",
            "\x1b[?1049h",
            "\x0e",
            "\u{9b}1m",
            "\x1b[1K",
            "\x1b",
        ] {
            let mut text = lines(|at| at.to_string());
            text.insert_str(text.len() / 2, more);
            assert_eq!(skip(&text, 24), None, "{more:?}");
        }
        assert_eq!(skip(&"x".repeat(500_000), 24), None, "no lines");
        assert_eq!(
            skip(&lines(|_| String::new()).replace('\r', ""), 24),
            None,
            "no first columns"
        );
        let styles = lines(|at| format!("\x1b[38;5;{}m", at % 250));
        assert_eq!(skip(&styles, 24), None, "styles without end");
    }

    #[test]
    fn only_much_at_once_is_a_flood() {
        assert!(is_flood(FLOOD_BYTES_MIN, 0) && is_flood(4 << 20, 1000));
        assert!(!is_flood(FLOOD_BYTES_MIN - 1, 0) && !is_flood(2 << 20, 1001));
    }
}
