//! Data on standard output, talk on standard error.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::exit::CliError;
use crate::kernel::grant::WallMs;

/// Longest cell of a table that is shown, in characters.
const CELL_CHARS_MAX: usize = 80;

/// How this run prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    /// The wall clock, for relative times.
    pub now: WallMs,
}

impl Output {
    /// Prints `data` as JSON if that was asked for, otherwise what `text` makes of it.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn data<T: Serialize>(&self, data: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        let text = if self.json {
            let mut line = serde_json::to_string(data).map_err(|error| CliError::failed(error.to_string()))?;
            line.push('\n');
            line
        } else {
            text()
        };
        write(&text)
    }

    /// Says something to the person, not to the pipe.
    pub fn say(&self, text: impl AsRef<str>) {
        // Nobody to talk to is no reason to fail.
        writeln!(std::io::stderr(), "{}", clean(text.as_ref(), usize::MAX)).ok();
    }

    /// A time as it is read here: `2026-01-02T03:04:05Z (in 29 min)`.
    pub fn time(&self, rfc3339: &str) -> String {
        match rfc3339.parse::<Timestamp>() {
            Ok(time) => format!("{time:.0} ({})", relative(time.as_millisecond(), self.now)),
            Err(_) => rfc3339.to_owned(),
        }
    }

    /// The relative half alone, for tables.
    pub fn ago(&self, rfc3339: &str) -> String {
        match rfc3339.parse::<Timestamp>() {
            Ok(time) => relative(time.as_millisecond(), self.now),
            Err(_) => rfc3339.to_owned(),
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// When it is gone. A reader that has seen enough (`| head`) is no error.
pub fn write(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether standard error is a terminal that wants colour (NO_COLOR,
/// CLICOLOR_FORCE, TERM=dumb).
pub fn color() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    wants_color(
        std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        set("CLICOLOR_FORCE"),
        dumb,
        std::io::stderr().is_terminal(),
    )
}

fn wants_color(never: bool, force: bool, dumb: bool, terminal: bool) -> bool {
    !never && (force || (terminal && !dumb))
}

/// `error:` and `hint:` lines.
pub fn render(error: &CliError, color: bool) -> String {
    let (red, cyan, plain) = if color {
        ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = format!("{red}error:{plain} {}\n", clean(&error.message, usize::MAX));
    if let Some(hint) = &error.hint {
        text.push_str(&format!("{cyan}hint:{plain} {}\n", clean(hint, usize::MAX)));
    }
    text
}

/// Text from elsewhere, made harmless for a terminal: no control characters,
/// nothing that changes the direction of what follows.
pub fn clean(text: &str, chars_max: usize) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' if chars_max == usize::MAX => c,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut out: String = text.chars().take(chars_max).map(shown).collect();
    if text.chars().nth(chars_max).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// Columns under their heads, two spaces apart; nothing for no rows.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&heads)
        .chain(rows)
        .map(|row| row.iter().map(|cell| clean(cell, CELL_CHARS_MAX)).collect())
        .collect();
    let mut widths = vec![0usize; heads.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How far `at` is from `now`: `in 29 min`, `3 h ago`, `now`.
pub fn relative(at_ms: i64, now: WallMs) -> String {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let gap = at_ms.saturating_sub(now);
    let secs = gap.unsigned_abs() / 1000;
    let size = match secs {
        0 => return "now".to_owned(),
        1..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    };
    if gap > 0 {
        format!("in {size}")
    } else {
        format!("{size} ago")
    }
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, name) in UNITS {
        if count >= size {
            let tenths = count / (size / 10).max(1);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}

/// One word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_[]~".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_read_well() {
        let now = 1_000_000_000;
        let cases = [
            (0, "now"),
            (900, "now"),
            (5_000, "in 5 s"),
            (-90_000, "90 s ago"),
            (1_740_000, "in 29 min"),
            (-7_200_000, "2 h ago"),
            (-200_000_000, "2 d ago"),
        ];
        for (offset, want) in cases {
            assert_eq!(relative(1_000_000_000 + offset, now), want);
        }
    }

    #[test]
    fn tables_align_and_disarm() {
        let rows = [
            vec!["db1".to_owned(), "a\x1b[2Jb\u{202e}".to_owned()],
            vec!["x".repeat(200), String::new()],
        ];
        let text = table(&["NAME", "NOTE"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text:?}");
        assert!(lines[2].ends_with('…') && lines[2].chars().count() == CELL_CHARS_MAX);
        assert_eq!(lines[0].find("NOTE"), Some(CELL_CHARS_MAX + 2));
        assert_eq!(table(&["A"], &[]), "");
    }

    #[test]
    fn errors_have_two_lines_and_colour_only_where_wanted() {
        let error = CliError::failed("it broke\x07").hint("mend it");
        assert_eq!(render(&error, false), "error: it broke\u{fffd}\nhint: mend it\n");
        assert!(render(&error, true).starts_with("\x1b[1;31merror:"));
        let cases = [
            (false, false, false, true, true),
            (false, false, true, true, false),
            (true, true, false, true, false),
            (false, true, true, false, true),
            (false, false, false, false, false),
        ];
        for (never, force, dumb, terminal, want) in cases {
            assert_eq!(wants_color(never, force, dumb, terminal), want);
        }
    }

    #[test]
    fn sizes_read_well() {
        for (count, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, want) in [
            ("a/b-c.pub", "a/b-c.pub"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$x", "'$x'"),
            ("~a", "'~a'"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }
}
