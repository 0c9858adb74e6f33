//! What a shell with the session's hook tells by itself.
//!
//! VS Code's OSC 633, as `kernel::hook` has shells say it: `E` = command line,
//! `D` = done with exit status, `P` = property. A mark without the session's
//! nonce is output like any other: everybody can print one. It is the shell's
//! own user that could still forge one, so a hook is never the only estimator.

/// Longest control string that is looked into, in bytes of its text: a whole
/// command of which every character is escaped.
const STRING_BYTES_MAX: usize = 4 * super::COMMAND_BYTES_MAX + 256;

/// What the shell says of a line's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// This is it.
    Whole(String),
    /// It begins so; the rest was too long.
    Cut(String),
    /// The shell's history did not grow, and this is the last entry of it: the
    /// line again, or another that the history leaves out.
    Same(String),
}

/// What the shell says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It is about to run this.
    Command(Line),
    /// It has run it.
    Done { exit_status: Option<u8> },
    /// It is in this directory.
    Directory(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// OSC: its text is kept.
    System,
    /// DCS, APC, PM, SOS: passed over.
    Other,
    /// ESC within a string: `\` ends it.
    StringEscape,
}

/// Follows the control strings of one terminal's output.
#[derive(Debug, Default)]
pub struct Hook {
    nonce: Option<String>,
    state: State,
    text: String,
}

impl Hook {
    /// Listens to marks with this nonce; without one, to none.
    pub fn new(nonce: Option<String>) -> Hook {
        Hook {
            nonce,
            ..Hook::default()
        }
    }

    /// A control string is open: what comes is not drawn.
    pub fn in_string(&self) -> bool {
        match self.state {
            State::System | State::Other | State::StringEscape => true,
            State::Ground | State::Escape => false,
        }
    }

    /// Forgets an open string.
    pub fn cancel(&mut self) {
        self.state = State::Ground;
        self.text.clear();
    }

    /// Takes one character of output.
    pub fn advance(&mut self, c: char) -> Option<Mark> {
        match (self.state, c) {
            (State::Ground, '\u{1b}') => self.state = State::Escape,
            (State::Ground, '\u{9d}') => self.begin(State::System),
            (State::Ground, '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}') => self.begin(State::Other),
            (State::Ground, _) => {}
            (State::Escape | State::StringEscape, ']') => self.begin(State::System),
            (State::Escape | State::StringEscape, 'P' | '_' | '^' | 'X') => self.begin(State::Other),
            (State::Escape, '\u{1b}') => {}
            (State::Escape, _) => self.state = State::Ground,
            (State::System | State::Other, '\u{18}' | '\u{1a}') => self.cancel(),
            (State::System, '\u{07}' | '\u{9c}') | (State::StringEscape, '\\') => return self.end(),
            (State::Other, '\u{9c}') => self.cancel(),
            (State::System | State::Other, '\u{1b}') => self.state = State::StringEscape,
            // Any other escape sequence ends the string as well.
            (State::StringEscape, _) => self.cancel(),
            (State::System, c) => {
                if self.text.len() < STRING_BYTES_MAX {
                    self.text.push(c);
                }
            }
            (State::Other, _) => {}
        }
        None
    }

    fn begin(&mut self, state: State) {
        self.text.clear();
        self.state = state;
    }

    fn end(&mut self) -> Option<Mark> {
        self.state = State::Ground;
        let text = std::mem::take(&mut self.text);
        mark(&text, self.nonce.as_deref()?)
    }
}

fn mark(text: &str, nonce: &str) -> Option<Mark> {
    if text.len() >= STRING_BYTES_MAX {
        return None;
    }
    let fields: Vec<&str> = text.split(';').collect();
    let (number, rest) = fields.split_first()?;
    let (last, fields) = rest.split_last()?;
    if *number != "633" || *last != nonce {
        return None;
    }
    Some(match fields {
        ["E", line] => Mark::Command(Line::Whole(unescaped(line))),
        ["E", line, "cut"] => Mark::Command(Line::Cut(unescaped(line))),
        ["E", line, "same"] | ["E", line, "cut", "same"] => Mark::Command(Line::Same(unescaped(line))),
        // Which shell it is, and that the launcher runs, tells nothing of commands.
        ["P", property] => match property.split_once('=')? {
            ("Cwd", directory) => Mark::Directory(unescaped(directory)),
            _ => return None,
        },
        ["D"] => Mark::Done { exit_status: None },
        ["D", status] => Mark::Done {
            exit_status: status.parse().ok(),
        },
        _ => return None,
    })
}

/// Undoes VS Code's escapes: `\\`, and `\xAB` for a semicolon or a control.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let hex = after.strip_prefix('x').and_then(|hex| hex.get(..2));
        match (
            hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            after.strip_prefix('\\'),
        ) {
            (Some(byte), _) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            (_, Some(after)) => {
                out.push('\\');
                rest = after;
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(output: &str) -> Vec<Mark> {
        let mut hook = Hook::new(Some("n0".to_owned()));
        output.chars().filter_map(|c| hook.advance(c)).collect()
    }

    #[test]
    fn marks_with_the_nonce_are_read_and_no_others() {
        assert_eq!(
            marks("\x1b]633;E;echo a\\x3b echo \\\\b;n0\x07out\x1b]633;D;3;n0\x1b\\\x1b]633;P;Cwd=/tmp;n0\x07"),
            [
                Mark::Command(Line::Whole("echo a; echo \\b".to_owned())),
                Mark::Done { exit_status: Some(3) },
                Mark::Directory("/tmp".to_owned()),
            ]
        );
        assert_eq!(
            marks(
                "\x1b]633;E;ls;same;n0\x07\x1b]633;E;ls;cut;n0\x07\x1b]633;E;ls;cut;same;n0\x07\x1b]633;D;n0\x07\x1b]633;P;Cwd=/a=b\\x3b;n0\x07"
            ),
            [
                Mark::Command(Line::Same("ls".to_owned())),
                Mark::Command(Line::Cut("ls".to_owned())),
                Mark::Command(Line::Same("ls".to_owned())),
                Mark::Done { exit_status: None },
                Mark::Directory("/a=b;".to_owned()),
            ]
        );
        for forged in [
            "\x1b]633;P;Launch;n0\x07",
            "\x1b]633;P;Shell=bash;n0\x07",
            "\x1b]633;E;ls;more;n0\x07",
            "\x1b]133;D;0;aid=n0\x07",
            "\x1b]633;E;rm -rf /\x07",
            "\x1b]633;E;rm -rf /;n1\x07",
            "\x1b]633;E;n0\x07",
            "\x1b]133;D;0\x07",
            "\x1b]0;E;rm;n0\x07",
            "\x1bP633;E;rm;n0\x1b\\",
        ] {
            assert_eq!(marks(forged), [], "{forged:?}");
        }
    }

    #[test]
    fn a_string_that_never_ends_costs_no_memory() {
        let mut hook = Hook::new(Some("n0".to_owned()));
        for c in "\x1b]633;E;"
            .chars()
            .chain(std::iter::repeat_n('x', 4 * STRING_BYTES_MAX))
        {
            assert_eq!(hook.advance(c), None);
        }
        assert!(hook.in_string());
        assert!(hook.text.len() <= STRING_BYTES_MAX);
        assert_eq!(hook.advance('\u{7}'), None);
        assert!(!hook.in_string());
    }
}
