//! The shell hook: a login shell that says what it runs.
//!
//! Where policy asks for it (`@hook` on a permit of `shell`), a shell is
//! started by an exec request whose command starts the user's own login shell
//! and, in bash (from 4.4), zsh and fish, has it tell each command line in an
//! escape sequence before it runs, and its status and folder after it. Nothing
//! is typed into the session and nothing is left on the target. The sequences
//! are recorded and kept from the user's terminal.
//!
//! The sequences are those of Visual Studio Code's shell integration, `OSC 633 ;
//! … BEL`, with a nonce at the end of each: `P;Shell=…`, `P;Cwd=…`, `E;text`,
//! `E;text;same` and `D;status`. Text is escaped: a backslash is doubled, and a
//! semicolon and each control character is `\xHH`; what is longer than 16,384 characters
//! is cut and says so: `E;text;cut`. The user owns the shell and can send what he likes
//! in it, so what it says is an index and never evidence.

use std::fmt;

/// Longest mark, in bytes; what is longer is shown.
pub const MARK_BYTES_MAX: usize = 64 * 1024;

/// What a mark begins with.
const BEGIN: &[u8] = b"\x1b]633;";
const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// Started by the login shell, whichever that is; knows the scripts as `$__portcullis_bash` and so on.
const LAUNCH: &str = include_str!("launch.sh");
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("hook.bash")),
    ("zsh", include_str!("hook.zsh")),
    ("fish", include_str!("hook.fish")),
];

/// What the marks of one terminal end with, so that a program's own are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Of 16 bytes that nobody can guess.
    pub fn new(random: [u8; 16]) -> Nonce {
        Nonce(random)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The command line that starts the user's login shell with the hook in it.
///
/// It is one line that sh, bash, zsh, fish and csh read alike: single quotes
/// around letters, digits and octal escapes.
pub fn launch(nonce: Nonce) -> Vec<u8> {
    let mut line = format!("exec /bin/sh -c '__portcullis_n={nonce};");
    for (name, script) in SCRIPTS {
        line.push_str(&format!("__portcullis_{name}=\"{}\";", escaped(script)));
    }
    line.push_str(&format!("eval \"$(printf %b \"{}\")\"'", escaped(LAUNCH)));
    line.into_bytes()
}

/// As an argument of `printf %b` that means nothing to any shell.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'_' | b'=' | b'.' | b'/' | b':' | b',' | b'-' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("\\0{byte:03o}")),
        }
    }
    escaped
}

/// Takes a terminal's marks out of what the user is shown.
pub struct Strip {
    /// `;` and the nonce, in hexadecimal.
    end: Vec<u8>,
    /// The beginning of what may be a mark, up to [`MARK_BYTES_MAX`]. A terminal
    /// that got it would show nothing of it yet either.
    held: Vec<u8>,
}

/// What became of some output.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Stripped {
    /// What is shown, where that is not all of it as it came.
    pub shown: Option<Vec<u8>>,
    /// Bytes of marks, which are not shown.
    pub withheld: usize,
}

impl Strip {
    /// For marks that end with this nonce.
    pub fn new(nonce: Nonce) -> Strip {
        Strip {
            end: format!(";{nonce}").into_bytes(),
            held: Vec::new(),
        }
    }

    /// The first mark, which the launcher makes before it does anything.
    pub fn first(nonce: Nonce) -> Vec<u8> {
        format!("\x1b]633;P;Launch;{nonce}\x07").into_bytes()
    }

    /// Takes the next bytes of a terminal's output.
    pub fn take(&mut self, bytes: &[u8]) -> Stripped {
        if self.held.is_empty() && !bytes.contains(&ESC) {
            return Stripped::default();
        }
        let mut all = std::mem::take(&mut self.held);
        let carried = all.len();
        all.extend_from_slice(bytes);
        let mut shown = Vec::with_capacity(all.len());
        let mut withheld = 0;
        let mut rest = all.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == ESC) {
            let (plain, sequence) = rest.split_at(at);
            shown.extend_from_slice(plain);
            match self.read(sequence) {
                Read::Mark(length) => {
                    withheld += length;
                    rest = sequence.get(length..).unwrap_or_default();
                }
                Read::Other(length) => {
                    let (other, behind) = sequence.split_at_checked(length).unwrap_or((sequence, &[]));
                    shown.extend_from_slice(other);
                    rest = behind;
                }
                Read::Unfinished => {
                    self.held = sequence.to_vec();
                    rest = &[];
                    break;
                }
            }
        }
        shown.extend_from_slice(rest);
        match carried == 0 && withheld == 0 && self.held.is_empty() {
            true => Stripped::default(),
            false => Stripped {
                shown: Some(shown),
                withheld,
            },
        }
    }

    /// What was held back and is no mark: the output is over.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// What begins with an escape character.
    fn read(&self, sequence: &[u8]) -> Read {
        let common = BEGIN.iter().zip(sequence).take_while(|(a, b)| a == b).count();
        if common < BEGIN.len() {
            return match common == sequence.len() {
                true => Read::Unfinished,
                false => Read::Other(1),
            };
        }
        let body = sequence.get(BEGIN.len()..).unwrap_or_default();
        let ends = body.iter().position(|byte| matches!(*byte, BEL | ESC));
        match ends {
            // Another sequence cuts this one short, or ends it in another way than ours do.
            Some(at) if body.get(at) == Some(&ESC) => Read::Other(BEGIN.len() + at),
            Some(at) => match body.get(..at).unwrap_or_default().ends_with(&self.end) {
                true => Read::Mark(BEGIN.len() + at + 1),
                false => Read::Other(BEGIN.len() + at + 1),
            },
            None if sequence.len() >= MARK_BYTES_MAX => Read::Other(sequence.len()),
            None => Read::Unfinished,
        }
    }
}

/// What stands at an escape character, and its length in bytes.
enum Read {
    Mark(usize),
    Other(usize),
    Unfinished,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce([0xab; 16]);

    fn mark(text: &str) -> Vec<u8> {
        format!("\x1b]633;{text};{NONCE}\x07").into_bytes()
    }

    /// What is shown of pieces, and how many bytes are not.
    fn strip(pieces: &[&[u8]]) -> (Vec<u8>, usize) {
        let mut strip = Strip::new(NONCE);
        let (mut shown, mut withheld) = (Vec::new(), 0);
        for piece in pieces {
            let stripped = strip.take(piece);
            shown.extend(stripped.shown.unwrap_or_else(|| piece.to_vec()));
            withheld += stripped.withheld;
        }
        shown.extend(strip.finish());
        (shown, withheld)
    }

    #[test]
    fn a_launch_line_is_one_line_that_every_shell_reads_alike() {
        let line = String::from_utf8(launch(NONCE)).unwrap();
        assert!(line.len() < crate::kernel::request::EXEC_BYTES_MAX);
        let inside = line
            .strip_prefix("exec /bin/sh -c '")
            .unwrap()
            .strip_suffix('\'')
            .unwrap();
        assert!(!inside.contains(['\'', '\n', '!', '`']), "{inside}");
        assert!(!inside.contains("\\\\"), "fish takes two backslashes for one");
    }

    #[test]
    fn marks_are_not_shown_and_all_else_is() {
        let ours = mark("E;ls");
        let output = [b"before", ours.as_slice(), b"\x1b[1mafter\x1b[0m"].concat();
        assert_eq!(strip(&[&output]), (b"before\x1b[1mafter\x1b[0m".to_vec(), ours.len()));
        for other in [
            &b"\x1b]633;E;ls\x07"[..],
            b"\x1b]633;E;ls;abababababababababababababababab\x1b\\",
            b"\x1b]0;title\x07",
            b"\x1b]633;E;\x1b[31mred",
            b"\x1b",
            b"\x1b]63",
        ] {
            assert_eq!(strip(&[other]), (other.to_vec(), 0));
        }
    }

    #[test]
    fn what_never_ends_is_shown() {
        let mut strip = Strip::new(NONCE);
        let endless = [b"\x1b]633;E;".as_slice(), &vec![b'x'; MARK_BYTES_MAX]].concat();
        let (held, rest) = endless.split_at(MARK_BYTES_MAX - 1);
        assert_eq!(strip.take(held).shown, Some(Vec::new()));
        assert_eq!(strip.take(rest).shown, Some(endless));
        assert!(strip.finish().is_empty());
    }

    #[test]
    fn where_output_is_cut_changes_nothing() {
        let whole = [
            b"a\x1b]633;A\x07\x1b]6".as_slice(),
            &mark("D;0"),
            b"\x1b]633;E;cut\x1b[1mb",
            &mark("P;Cwd=/"),
        ]
        .concat();
        let expected = strip(&[&whole]);
        assert_eq!(expected.1, mark("D;0").len() + mark("P;Cwd=/").len());
        for (first, second) in (0..=whole.len()).flat_map(|a| (a..=whole.len()).map(move |b| (a, b))) {
            let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
            assert_eq!(strip(&pieces), expected, "cut at {first} and {second}");
        }
    }
}
