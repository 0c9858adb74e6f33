//! Which lines of terminal input were echoed.
//!
//! Input goes into the recording under a fresh key per line. The key is
//! released once every letter of the line was shown; of any other line it is
//! wiped. No prompt is ever recognised: what decides is the echo alone.
//!
//! Shown is what *stands left of the cursor* when a run of output ends, behind
//! what was typed before it: in one piece, and beginning where the cursor stood
//! when the line was begun. So whatever is released could be read in the output
//! as it is, and output that goes on beside a password (a counter, another
//! pane) does not piece it together. A line wrongly held for hidden stays
//! unreadable; one wrongly held for shown would show a password.
//!
//! Where the cursor stood is not known while an answer is still under way: a
//! line typed then may begin anywhere, but not in the midst of a word. Behind a
//! key that moves or completes, it goes on anywhere.
//!
//! A finished line may be passed by without a new row (`read -s` prints none):
//! a later line that is shown whole says so.

mod keys;
mod letters;
mod line;
mod screen;

use std::collections::VecDeque;

use super::work::Work;
use keys::{Key, Keys, Other};
use line::{Line, Start};
use screen::{Drawn, Screen};

/// Lines that may wait for their echo at once; the oldest is hidden past it.
pub const LINES_UNDECIDED_MAX: usize = 64;
/// Bytes of one line; a longer one goes on as the next line.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long a finished line waits for its echo, in ms.
pub const ECHO_WAIT_MS: u64 = 10_000;
/// From a key to the next that may belong to another line, in ms: before, an echo may be under way.
const PART_AFTER_MS: u64 = 300;
const ESCAPE: u8 = 0x1b;
/// Longest prompt that is told, in characters.
const PROMPT_CHARS_MAX: usize = 60;
/// Looks at one piece of output, and lines that one looks for: what is hostile costs no more.
const LOOKS_MAX: usize = 1024;
const LOOKED_AT_MAX: usize = 8;

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every letter was shown: its key may be released.
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

/// Follows one terminal channel.
#[derive(Debug, Default)]
pub struct EchoGate {
    lines: VecDeque<Line>,
    next: u64,
    keys: Keys,
    screen: Screen,
    /// Feeds of the screen when the last line was ended: none since, and its answer is under way.
    ended_at: Option<u64>,
    /// Bytes of the screen when the last key that is no letter was typed, and feeds when the last letter was.
    moved_at: Option<u64>,
    letter_at: u64,
    /// When the last letter was typed, in session ms.
    letter_ms: u64,
    work: Work,
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

    /// The terminal's size, in columns and rows.
    pub fn sized(&mut self, columns: u32, rows: u32) {
        self.screen.sized(columns, rows);
    }

    /// What stands before the cursor now: before a line, its prompt.
    pub fn prompt(&self) -> String {
        self.screen.before(PROMPT_CHARS_MAX)
    }

    /// Takes typed bytes. Answers with the lines they belong to, and with
    /// verdicts that this alone decides (a line without letters, or one that
    /// was already shown in full).
    pub fn typed(&mut self, at_ms: u64, input: &[u8]) -> (Vec<Piece>, Vec<Verdict>) {
        let mut pieces = Vec::new();
        let mut verdicts = Vec::new();
        let mut start = 0;
        self.screen.typed();
        for (at, &byte) in input.iter().enumerate() {
            let (given_up, key) = self.keys.take(byte);
            if [given_up, key]
                .iter()
                .flatten()
                .any(|key| matches!(key, Key::Letter(_)))
            {
                self.part_from_shown_nothing(at_ms, &mut verdicts);
                self.letter_ms = at_ms;
            }
            self.current().bytes += 1;
            let mut ends = false;
            for key in [given_up, key].into_iter().flatten() {
                ends |= self.press(key);
            }
            if ends || self.current().bytes >= LINE_BYTES_MAX {
                let feeds = self.screen.feeds();
                let line = self.current();
                pieces.push(Piece {
                    line: line.number,
                    bytes: at + 1 - start,
                    ends: true,
                });
                line.closed_at = Some(at_ms);
                self.ended_at = Some(feeds);
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
        while self.lines.len() > LINES_UNDECIDED_MAX {
            verdicts.extend(self.lines.pop_front().map(|line| Verdict::Hidden { line: line.number }));
        }
        self.settle(&mut verdicts);
        (pieces, verdicts)
    }

    /// Takes output that was delivered to the terminal.
    pub fn shown(&mut self, output: &[u8]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        self.work.earn(output.len());
        if !self.lines.iter().any(Line::waits) {
            self.settle(&mut verdicts);
            self.screen.skim(output);
            return verdicts;
        }
        let mut run = None;
        let mut looks = 0;
        for &byte in output {
            let ends = byte == ESCAPE || matches!(byte, b'\r' | b'\n') && self.screen.stands_behind_something();
            if let Some(next) = self.screen.run(byte)
                && run.replace(next).is_some_and(|before| before != next || ends)
                && looks < LOOKS_MAX
            {
                self.look(matches!(byte, b'\r' | b'\n'));
                looks += 1;
            }
            match self.screen.draw(byte) {
                Drawn::Nothing => {}
                Drawn::Letter => self.lines.iter_mut().for_each(Line::goes_on),
                Drawn::Wrapped => {
                    self.lines.iter_mut().for_each(Line::goes_on);
                    self.look(false);
                }
                Drawn::Return => self.confirm(&mut verdicts),
                Drawn::Feed => self.next_row(&mut verdicts),
                Drawn::LeftFullScreen => {
                    self.confirm(&mut verdicts);
                    self.part(&mut verdicts);
                }
            }
        }
        self.look(true);
        self.settle(&mut verdicts);
        verdicts
    }

    /// What stands left of the cursor now; `rests`: the output, or its row, ends here.
    fn look(&mut self, rests: bool) {
        for line in self
            .lines
            .iter_mut()
            .filter(|line| !line.all_shown() && !line.lost)
            .take(LOOKED_AT_MAX)
        {
            line.look(&self.screen, rests, &mut self.work);
        }
    }

    /// The cursor is elsewhere: what stood there is not gone on with.
    fn confirm(&mut self, verdicts: &mut Vec<Verdict>) {
        self.lines.iter_mut().for_each(Line::confirm);
        self.settle(verdicts);
    }

    /// The terminal went to the next row: a finished line that began at a known
    /// place and is not shown by now was not echoed.
    fn next_row(&mut self, verdicts: &mut Vec<Verdict>) {
        self.confirm(verdicts);
        if let Some(line) = self.lines.front()
            && line.closed_at.is_some()
            && line.begins_at_known_place()
        {
            verdicts.push(Verdict::Hidden { line: line.number });
            self.lines.pop_front();
        }
    }

    /// Keys that a program takes without showing any (a pager, `top`) are a line
    /// of their own once it has shown something else and a prompt stands there.
    fn part_from_shown_nothing(&mut self, at_ms: u64, verdicts: &mut Vec<Verdict>) {
        let silent = |line: &Line| line.closed_at.is_none() && line.shows_nothing();
        let since = at_ms.saturating_sub(self.letter_ms) >= PART_AFTER_MS && self.screen.feeds() > self.letter_at;
        if since && self.screen.column() > 0 && self.lines.back().is_some_and(silent) {
            self.part(verdicts);
        }
    }

    /// Ends the line that is being typed if not all of it was shown.
    fn part(&mut self, verdicts: &mut Vec<Verdict>) {
        if self
            .lines
            .back()
            .is_some_and(|line| line.closed_at.is_none() && !line.is_whole())
            && let Some(line) = self.lines.pop_back()
        {
            verdicts.push(Verdict::Hidden { line: line.number });
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
            verdicts.push(line.verdict());
            self.lines.pop_front();
        }
        verdicts
    }

    /// The line that is being typed.
    fn current(&mut self) -> &mut Line {
        if self.lines.back().is_none_or(|line| line.closed_at.is_some()) {
            self.lines.push_back(Line::new(self.next));
            self.next = self.next.wrapping_add(1);
        }
        let last = self.lines.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "an element was pushed just above")]
        &mut self.lines[last]
    }

    /// Books one key; true if it ends the line.
    fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Letter(letter) => {
                let start = self.start();
                let feeds = self.screen.feeds();
                self.letter_at = feeds;
                let before = self.screen.standing();
                self.current().letter(letter, start, (feeds, before));
            }
            Key::Erase => {
                if self.current().is_empty() {
                    self.moved_at = Some(self.screen.bytes());
                }
                let cursor = self.screen.standing();
                self.current().erase(cursor);
            }
            Key::EndOrErase if !self.current().is_edited() => return true,
            Key::EndOrErase => return self.press(Key::Other(Other::Moves)),
            Key::Other(other) => {
                // Where nothing was typed, nothing is killed.
                if other != Other::Kills || !self.current().is_untouched() {
                    self.moved_at = Some(self.screen.bytes());
                }
                let cursor = self.screen.standing();
                self.current().breaks(other, cursor);
            }
            Key::Lost => self.current().lost = true,
            Key::End { interrupts } => {
                self.current().interrupted = interrupts;
                return true;
            }
        }
        false
    }

    /// Where a letter that is typed now will be shown.
    fn start(&mut self) -> Start {
        let answered = self.ended_at.is_none_or(|feeds| self.screen.feeds() > feeds);
        let moved = self.moved_at.is_none_or(|bytes| self.screen.bytes() > bytes);
        match answered && moved && self.screen.column() > 0 {
            true => Start::At(self.screen.place()),
            false => Start::Perhaps(self.screen.place()),
        }
    }

    /// Releases finished lines that were shown in full. A later line that was
    /// shown passes by those before it that were not; one without letters says
    /// nothing of them.
    fn settle(&mut self, verdicts: &mut Vec<Verdict>) {
        let done = |line: &Line| line.closed_at.is_some() && line.is_whole() && !line.is_loose();
        let last = self.lines.iter().rposition(|line| done(line) && line.was_shown());
        let shown = last.map_or(0, |last| last + 1);
        let empty = self.lines.iter().skip(shown).take_while(|line| done(line)).count();
        verdicts.extend(self.lines.drain(..shown + empty).map(|line| line.verdict()));
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod ordinary_tests;

#[cfg(test)]
mod secret_tests;
