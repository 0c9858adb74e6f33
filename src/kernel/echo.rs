//! Which lines of terminal input were echoed.
//!
//! Input goes into the recording under a fresh key per line. The key is
//! released once the target's output has shown every printable byte of the
//! line, in order; a line that the output passes by keeps its key, which is
//! wiped. No prompt is ever recognised: what decides is the echo alone.
//!
//! The rule is strict on purpose. Output counts as echo only if a piece of it
//! *begins* (after escape sequences, controls, and what a line editor draws
//! again) with the next byte that is waited for, and runs on without a gap. A line that is wrongly held for
//! hidden stays unreadable; one wrongly held for echoed would show a password.
//!
//! A finished line may be passed by without a new row (`read -s` prints none):
//! a later line that is shown whole and in one go says so.

use std::collections::VecDeque;

use super::echo_row::{Drawn, Row};

/// Lines that may wait for their echo at once; the oldest is hidden past it.
pub const LINES_UNDECIDED_MAX: usize = 64;
/// Bytes of one line; a longer one goes on as the next line.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long a finished line waits for its echo, in ms.
pub const ECHO_WAIT_MS: u64 = 10_000;

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every printable byte was shown: its key may be released.
    Echoed { line: u64 },
    /// It was not shown: its key is to be wiped.
    Hidden { line: u64 },
}

/// A run of typed bytes that belongs to one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    pub line: u64,
    /// Bytes of the input that belong to it, from where the last piece ended.
    pub bytes: usize,
    /// An Enter (or ^C, ^D) ends the line with this piece.
    pub ends: bool,
}

#[derive(Debug)]
struct Line {
    number: u64,
    /// Printable bytes not shown yet.
    pending: VecDeque<u8>,
    /// Those that were shown while an earlier line still waits: none of them
    /// counts unless all come without a gap.
    ahead_shown: Vec<u8>,
    bytes: usize,
    /// When its Enter was typed, in session ms.
    closed_at: Option<u64>,
    /// It was ended while an earlier line still waited: its echo comes only
    /// when the program asks for it, after any number of other rows.
    ahead: bool,
}

impl Line {
    /// What was shown of it ahead of its turn does not count.
    fn take_back(&mut self) {
        while let Some(byte) = self.ahead_shown.pop() {
            self.pending.push_front(byte);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Key {
    #[default]
    Plain,
    Escape,
    Sequence,
}

/// Follows one terminal channel.
#[derive(Debug, Default)]
pub struct EchoGate {
    lines: VecDeque<Line>,
    next: u64,
    key: Key,
    row: Row,
    /// Place of the cursor in its row at the last key.
    typed_at: usize,
}

impl EchoGate {
    /// A gate whose line numbers start at `first`, so that several terminals
    /// of one recording do not share numbers.
    pub fn starting_at(first: u64) -> EchoGate {
        EchoGate {
            next: first,
            ..EchoGate::default()
        }
    }

    /// Takes typed bytes. Answers with the lines they belong to, and with
    /// verdicts that this alone decides (a line without printable bytes, or
    /// one that was already shown in full).
    pub fn typed(&mut self, at_ms: u64, input: &[u8]) -> (Vec<Piece>, Vec<Verdict>) {
        let mut pieces = Vec::new();
        let mut start = 0;
        self.row.typed();
        self.typed_at = self.row.at();
        for (at, &byte) in input.iter().enumerate() {
            let ends = self.key_press(byte);
            let full = self.current().bytes >= LINE_BYTES_MAX;
            if ends || full {
                let ahead = self.lines.len() > 1;
                let line = self.current();
                pieces.push(Piece {
                    line: line.number,
                    bytes: at + 1 - start,
                    ends: true,
                });
                line.closed_at = Some(at_ms);
                line.ahead = ahead;
                start = at + 1;
            }
        }
        if start < input.len() {
            let line = self.current();
            pieces.push(Piece {
                line: line.number,
                bytes: input.len() - start,
                ends: false,
            });
        }
        let mut verdicts = Vec::new();
        while self.lines.len() > LINES_UNDECIDED_MAX {
            if let Some(line) = self.lines.pop_front() {
                verdicts.push(Verdict::Hidden { line: line.number });
            }
        }
        self.settle(&mut verdicts);
        (pieces, verdicts)
    }

    /// Takes output that was delivered to the terminal.
    pub fn shown(&mut self, output: &[u8]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if self
            .lines
            .iter()
            .all(|line| line.pending.is_empty() && line.ahead_shown.is_empty())
        {
            self.settle(&mut verdicts);
            self.follow(output);
            return verdicts;
        }
        // Set once a row shows something else than what is waited for: the rest
        // of that row is not an echo.
        let mut passed = false;
        for &byte in output {
            match self.row.draw(byte) {
                Drawn::Nothing => {}
                Drawn::Return => passed = false,
                Drawn::Feed => {
                    passed = false;
                    self.typed_at = 0;
                    self.next_row(&mut verdicts);
                }
                Drawn::Byte { byte, at, again } => {
                    // What stood there already says something only where typing goes on.
                    if again && at < self.typed_at {
                        continue;
                    }
                    let front = self.lines.iter_mut().find(|line| !line.pending.is_empty());
                    match front {
                        Some(line) if !passed && line.pending.front() == Some(&byte) => {
                            line.pending.pop_front();
                        }
                        Some(_) if again => {}
                        Some(_) => passed = passed || !self.shown_ahead(byte, &mut verdicts),
                        None => {}
                    }
                    if passed {
                        self.lines.iter_mut().for_each(Line::take_back);
                    }
                }
            }
        }
        self.settle(&mut verdicts);
        verdicts
    }

    /// Nothing is waited for: what stands in the last row is all that matters.
    fn follow(&mut self, output: &[u8]) {
        let last = output.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        for byte in output.get(last..).unwrap_or_default() {
            self.row.draw(*byte);
        }
    }

    /// The terminal goes to the next row.
    fn next_row(&mut self, verdicts: &mut Vec<Verdict>) {
        let whole = |line: &Line| line.closed_at.is_some() && line.pending.is_empty();
        let ahead = |line: &Line| !line.ahead_shown.is_empty();
        if let Some(at) = self.lines.iter().position(|line| ahead(line) && whole(line)) {
            self.pass_by(at, verdicts);
        }
        self.lines.iter_mut().for_each(Line::take_back);
        // A finished line whose echo has not come by now was not echoed.
        let Some(line) = self.lines.front().filter(|line| line.closed_at.is_some()) else {
            return;
        };
        if line.pending.is_empty() {
            self.settle(verdicts);
        } else if !line.ahead
            && let Some(line) = self.lines.pop_front()
        {
            verdicts.push(Verdict::Hidden { line: line.number });
        }
    }

    /// Whether the byte goes on with a line behind a finished one. Once such a
    /// line is shown whole, those before it were passed by.
    fn shown_ahead(&mut self, byte: u8, verdicts: &mut Vec<Verdict>) -> bool {
        if self.lines.front().is_none_or(|line| line.closed_at.is_none()) {
            return false;
        }
        // One that has begun goes on; only if none has may one begin.
        let begun = self.lines.iter().skip(1).position(|line| !line.ahead_shown.is_empty());
        let begins = |line: &Line| line.pending.front() == Some(&byte);
        let at = match begun.or_else(|| self.lines.iter().skip(1).position(begins)) {
            Some(behind) => behind + 1,
            None => return false,
        };
        let Some(line) = self.lines.get_mut(at) else {
            return false;
        };
        if line.pending.front() != Some(&byte) {
            return false;
        }
        line.pending.pop_front();
        line.ahead_shown.push(byte);
        // A line that is still typed may grow: it says nothing yet.
        if line.pending.is_empty() && line.closed_at.is_some() {
            self.pass_by(at, verdicts);
        }
        true
    }

    /// Hides the lines before this place that were not shown.
    fn pass_by(&mut self, at: usize, verdicts: &mut Vec<Verdict>) {
        for line in self.lines.drain(..at) {
            verdicts.push(match line.pending.is_empty() {
                true => Verdict::Echoed { line: line.number },
                false => Verdict::Hidden { line: line.number },
            });
        }
        if let Some(line) = self.lines.front_mut() {
            line.ahead_shown.clear();
        }
    }

    /// Hides finished lines whose echo did not come in time, or, at the end of
    /// the channel, every line that is left.
    pub fn expire(&mut self, at_ms: u64, all: bool) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while let Some(line) = self.lines.front() {
            let over = line
                .closed_at
                .is_some_and(|closed| at_ms.saturating_sub(closed) >= ECHO_WAIT_MS);
            if !(over || all) {
                break;
            }
            // A last line that was shown in full but never ended with Enter
            // hides nothing.
            let shown = line.pending.is_empty();
            let number = line.number;
            self.lines.pop_front();
            verdicts.push(match shown {
                true => Verdict::Echoed { line: number },
                false => Verdict::Hidden { line: number },
            });
        }
        verdicts
    }

    /// The line that is being typed.
    fn current(&mut self) -> &mut Line {
        let open = self.lines.back().is_some_and(|line| line.closed_at.is_none());
        if !open {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            self.lines.push_back(Line {
                number,
                pending: VecDeque::new(),
                ahead_shown: Vec::new(),
                bytes: 0,
                closed_at: None,
                ahead: false,
            });
        }
        let last = self.lines.len().saturating_sub(1);
        // The push above guarantees a last element; an empty queue would be a bug,
        // and inserting again is the harmless way out of it.
        if self.lines.get(last).is_none() {
            self.lines.push_back(Line {
                number: 0,
                pending: VecDeque::new(),
                ahead_shown: Vec::new(),
                bytes: 0,
                closed_at: None,
                ahead: false,
            });
        }
        #[expect(clippy::indexing_slicing, reason = "an element was pushed just above")]
        &mut self.lines[last]
    }

    /// Books one typed byte; true if it ends the line.
    fn key_press(&mut self, byte: u8) -> bool {
        self.current().bytes += 1;
        match (self.key, byte) {
            (Key::Plain, 0x1b) => self.key = Key::Escape,
            (Key::Escape, b'[' | b'O') => self.key = Key::Sequence,
            (Key::Escape, _) => self.key = Key::Plain,
            (Key::Sequence, 0x40..=0x7e) => self.key = Key::Plain,
            (Key::Sequence, _) => {}
            (Key::Plain, b'\r' | b'\n' | 0x03 | 0x04) => return true,
            // An erased byte need not be shown any more; one that was shown
            // already stays shown.
            (Key::Plain, 0x7f | 0x08) => {
                self.current().pending.pop_back();
            }
            (Key::Plain, 0x00..=0x1f) => {}
            (Key::Plain, byte) => self.current().pending.push_back(byte),
        }
        false
    }

    /// Releases finished lines at the front that were shown in full.
    fn settle(&mut self, verdicts: &mut Vec<Verdict>) {
        while let Some(line) = self.lines.front() {
            if line.closed_at.is_none() || !line.pending.is_empty() {
                return;
            }
            verdicts.push(Verdict::Echoed { line: line.number });
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Step {
        Typed(&'static [u8]),
        Shown(&'static [u8]),
    }
    use Step::{Shown, Typed};

    fn run(steps: &[Step]) -> Vec<Verdict> {
        let mut gate = EchoGate::default();
        let mut all = Vec::new();
        for step in steps {
            match step {
                Typed(bytes) => all.extend(gate.typed(0, bytes).1),
                Shown(bytes) => all.extend(gate.shown(bytes)),
            }
        }
        all.extend(gate.expire(0, true));
        all
    }

    const ECHOED: &[Verdict] = &[Verdict::Echoed { line: 0 }];
    const HIDDEN: &[Verdict] = &[Verdict::Hidden { line: 0 }];

    #[test]
    fn what_is_shown_is_released_and_nothing_else() {
        let cases: &[(&str, &[Step], &[Verdict])] = &[
            (
                "key by key",
                &[
                    Typed(b"l"),
                    Shown(b"l"),
                    Typed(b"s"),
                    Shown(b"s"),
                    Typed(b"\r"),
                    Shown(b"\r\n"),
                ],
                ECHOED,
            ),
            ("line at once", &[Typed(b"ls\r"), Shown(b"ls\r\nfile\r\n")], ECHOED),
            (
                "late echo of the last key",
                &[Typed(b"ls"), Shown(b"l"), Typed(b"\r"), Shown(b"s\r\n")],
                ECHOED,
            ),
            ("password", &[Typed(b"s3cret\r"), Shown(b"\r\n")], HIDDEN),
            (
                "password, then output that holds it",
                &[Typed(b"root\r"), Shown(b"\r\nroot@host:~# ")],
                HIDDEN,
            ),
            (
                "password with stars",
                &[
                    Typed(b"a"),
                    Shown(b"*"),
                    Typed(b"b"),
                    Shown(b"*"),
                    Typed(b"\r"),
                    Shown(b"\r\n"),
                ],
                HIDDEN,
            ),
            ("partly shown", &[Typed(b"abc\r"), Shown(b"ab\r\n")], HIDDEN),
            ("never answered", &[Typed(b"abc\r")], HIDDEN),
            ("empty line", &[Typed(b"\r"), Shown(b"\r\n")], ECHOED),
            (
                "arrow key",
                &[Typed(b"\x1b[A"), Shown(b"ls -la"), Typed(b"\r"), Shown(b"\r\n")],
                ECHOED,
            ),
            (
                "erased key",
                &[Typed(b"lx\x7fs\r"), Shown(b"l"), Shown(b"s\r\n")],
                ECHOED,
            ),
            (
                "coloured echo",
                &[Typed(b"ls\r"), Shown(b"\x1b[32ml\x1b[0ms\r\n")],
                ECHOED,
            ),
            (
                "a step back and the last key again",
                &[
                    Shown(b"% "),
                    Typed(b"l"),
                    Shown(b"l"),
                    Typed(b"s"),
                    Shown(b"\x08ls"),
                    Typed(b"\r"),
                    Shown(b"\r\r\n"),
                ],
                ECHOED,
            ),
            (
                "the row from its beginning, with a suggestion",
                &[
                    Shown(b"sub> "),
                    Typed(b"s"),
                    Shown(b"\r\x1b[Ksub> s\x1b[2met x\x1b[m\r\x1b[6C"),
                    Typed(b"et"),
                    Shown(b"\r\x1b[Ksub> set\x1b[2m x\x1b[m\r\x1b[8C"),
                    Typed(b"\r"),
                    Shown(b"\r\n"),
                ],
                ECHOED,
            ),
            (
                "a prompt drawn again over a password",
                &[
                    Shown(b"pass: "),
                    Typed(b"pa"),
                    Shown(b"\r\x1b[Kpass: "),
                    Typed(b"\r"),
                    Shown(b"\r\n"),
                ],
                HIDDEN,
            ),
            (
                "redraw before the echo",
                &[Typed(b"a"), Shown(b"\r\x1b[Ka"), Typed(b"\r"), Shown(b"\r\n")],
                ECHOED,
            ),
        ];
        for (name, steps, expected) in cases {
            assert_eq!(run(steps), *expected, "{name}");
        }
    }

    #[test]
    fn type_ahead_is_matched_line_by_line() {
        let all = run(&[Typed(b"ls\rpwd\r"), Shown(b"ls\r\nfile\r\n"), Shown(b"pwd\r\n/\r\n")]);
        assert_eq!(all, [Verdict::Echoed { line: 0 }, Verdict::Echoed { line: 1 }]);
    }

    #[test]
    fn a_line_shown_whole_passes_by_one_that_prints_no_row() {
        let secret = [
            Typed(b"read -s x\r"),
            Shown(b"read -s x\r\n"),
            Typed(b"s3cret\r"),
            Shown(b"root@db1:~# "),
        ];
        let keys = [
            Typed(b"r"),
            Shown(b"r"),
            Typed(b"m x"),
            Shown(b"m x"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ];
        let more = [Typed(b"ls\r"), Shown(b"root@db1:~# "), Shown(b"ls\r\n")];
        let all = run(&[secret.as_slice(), &keys, &more].concat());
        assert_eq!(
            all,
            [
                Verdict::Echoed { line: 0 },
                Verdict::Hidden { line: 1 },
                Verdict::Echoed { line: 2 },
                Verdict::Echoed { line: 3 },
            ]
        );
    }

    #[test]
    fn a_second_secret_is_not_pieced_together_from_rows() {
        let all = run(&[
            Typed(b"s3cret\r"),
            Typed(b"pw\r"),
            Shown(b"password\r\nwrong\r\n"),
            Typed(b"ab"),
            Shown(b"a\r\n"),
            Shown(b"b\r\n"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ]);
        assert!(
            !all.iter().any(|verdict| matches!(verdict, Verdict::Echoed { .. })),
            "{all:?}"
        );
    }

    #[test]
    fn pieces_cover_the_input() {
        let mut gate = EchoGate::default();
        let (pieces, _) = gate.typed(0, b"ab\rcd");
        assert_eq!(
            pieces,
            [
                Piece {
                    line: 0,
                    bytes: 3,
                    ends: true
                },
                Piece {
                    line: 1,
                    bytes: 2,
                    ends: false
                },
            ]
        );
    }

    #[test]
    fn undecided_lines_are_bounded() {
        let mut gate = EchoGate::default();
        let mut hidden = 0;
        for _ in 0..LINES_UNDECIDED_MAX + 10 {
            hidden += gate.typed(0, b"x\r").1.len();
        }
        assert_eq!(hidden, 10);
    }
}
