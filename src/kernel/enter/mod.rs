//! An Enter in a terminal waits until its line can be read off the screen, and
//! policy has been asked about it.
//!
//! What policy is given stood on the screen, so that no secret gets there: the
//! keys only say when all of a line is shown. A line of which nothing is
//! echoed, where no prompt stands, is an answer that nobody is to read: it goes
//! on. What is not shown in time goes to policy as far as it is, as `undecided`.

mod flood;
mod keys;
mod reason;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_evasion;
#[cfg(test)]
mod tests_unasked;
mod text;
mod typing;
mod unshown;

use avt::Terminal;

pub use self::keys::{Key, Scanner};
pub use self::reason::{Answer, REASON_BYTES_MAX, Reason};
pub use self::typing::{INTERRUPT, START};
use super::command::{self, Finding, Keys, Pressed, Reader, Shown};
use super::screen_state::ScreenState;
use flood::Flood;
use text::{decode, is_shells, is_stars_for, names_another, place};
use typing::{LITERAL, PASTE_BEGINS, STOP, Typing};
use unshown::Unshown;

/// How long the keys of a line may take to be shown, in ms.
pub const HOLD_MS: u64 = 300;
/// After so long without output, what was drawn is drawn, in ms.
const REST_MS: u64 = 30;
/// Keys of one line that are kept until it is sent, in bytes.
const LINE_BYTES_MAX: usize = command::COMMAND_BYTES_MAX;
/// How long the way to the target and back is taken to be where it is not known, in ms.
const TRIP_MS: u64 = 200;
/// Largest grid that is emulated; a larger terminal is read as this one.
const COLS_MAX: u32 = 500;
const ROWS_MAX: u32 = 200;
/// Output of a flood that waits to be drawn, in bytes.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// A line that policy is to be asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// As it stood on the screen.
    pub text: String,
    /// A word such as `shell`.
    pub place: &'static str,
    /// It could not be read for certain.
    pub undecided: bool,
    /// It stands at a prompt, where ^E^U takes it back.
    pub at_prompt: bool,
    /// That prompt, as text.
    pub prompt: String,
    /// It is one of several that are run as one.
    pub several: bool,
    pub pasted: Pasted,
}

/// Whether a line is part of a paste that is not shown before its end: then its
/// text is for policy, and nobody writes it down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pasted {
    No,
    /// The whole of it is asked about at its own Enter.
    Part,
    /// Nobody can tell: programs were told of pastes since it began.
    Perhaps,
}

/// What becomes of typed bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// So many of them go on.
    Pass(usize),
    /// None, until something is shown or this time comes, in session ms.
    Wait(u64),
    /// The first of them sends this line. [`Holder::sent`] or [`Holder::kept`] says what became of it.
    Ask(Line),
}

/// Holds the Enters of one terminal.
pub struct Holder {
    terminal: Terminal,
    reader: Reader,
    screen: ScreenState,
    torn: Vec<u8>,
    flood: Flood,
    /// Output of a flood: it is drawn when somebody looks.
    waiting: Shown,
    scanner: Scanner,
    typing: Typing,
    /// Pieces of output, ever, and when the last one came, in session ms.
    shown: u64,
    shown_ms: u64,
    /// Since when an Enter waits, in session ms.
    held: Option<u64>,
    /// A line is being taken back: since when, and pieces of output before.
    taken_back: Option<(u64, u64)>,
    /// A line that was sent at a prompt and of which nothing was shown.
    unshown: Option<Unshown>,
    ran_hidden: bool,
    /// What programs had said of pastes when a line was sent last: until one says so anew, none is known to read.
    told_before: u64,
    /// A line was put aside, and may come back: so many lines that are sent at a prompt until it has.
    stashed: u8,
    /// The target was told to stop its output, and has shown nothing since: until when, in session ms.
    stopped: Option<u64>,
    /// Output has come that is not shown here yet.
    lags: bool,
    /// A key's echo takes so long at least, in ms.
    trip_ms: u64,
}

impl Holder {
    /// For a terminal of this size; none: there is no such terminal.
    pub fn new(cols: u32, rows: u32) -> Option<Holder> {
        let (cols, rows) = clamp(cols, rows);
        Some(Holder {
            terminal: Terminal::new(cols, rows).ok()?,
            reader: Reader::default(),
            screen: ScreenState::default(),
            torn: Vec::new(),
            flood: Flood::default(),
            waiting: Shown::default(),
            scanner: Scanner::default(),
            typing: Typing::default(),
            shown: 0,
            shown_ms: 0,
            held: None,
            taken_back: None,
            unshown: None,
            ran_hidden: false,
            told_before: 0,
            stashed: 0,
            stopped: None,
            lags: false,
            trip_ms: TRIP_MS,
        })
    }

    /// The terminal has another size.
    pub fn resize(&mut self, cols: u32, rows: u32) {
        self.draw();
        let (cols, rows) = clamp(cols, rows);
        self.terminal.resize(cols, rows);
    }

    /// Takes output of the target.
    pub fn shown(&mut self, at_ms: u64, output: &[u8]) {
        self.shown = self.shown.saturating_add(1);
        self.shown_ms = at_ms;
        self.stopped = None;
        self.screen.advance(output);
        let text = decode(&mut self.torn, output);
        self.waiting.push(at_ms, &text);
        if !self.flood.goes_on(at_ms, text.len()) || self.waiting.bytes() >= WAITING_BYTES_MAX {
            self.draw();
        }
        let row = self.unshown.as_mut().and_then(|unshown| unshown.row(&text));
        if let Some(shows) = row {
            self.unshown = None;
            self.ran_hidden |= !shows;
        }
    }

    /// Draws what waits: of a flood its beginning and its end, if the rest leaves no trace.
    fn draw(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let flood = waiting.is_flood();
        waiting.draw(flood, Some(&mut self.reader), &mut self.terminal);
    }

    /// Nothing more may come: what waits is drawn.
    pub fn catch_up(&mut self) {
        self.draw();
    }

    /// Whether lines were run that the terminal did not show, since the last time.
    /// What a flood shows is looked at behind it.
    pub fn ran_hidden(&mut self) -> bool {
        let hidden = |finding: &Finding| matches!(finding, Finding::HiddenCommand { .. });
        let found = self.reader.take().iter().any(hidden);
        std::mem::take(&mut self.ran_hidden) || found
    }

    /// Whether output has come that was not given to [`Holder::shown`] yet.
    pub fn lags(&mut self, lags: bool) {
        self.lags = lags;
    }

    /// How long the target took to answer, in ms: no key's echo is here sooner. Where that is longer than an Enter
    /// waits, what was not typed in order is not known for certain.
    pub fn round_trip(&mut self, ms: Option<u64>) {
        self.trip_ms = ms.unwrap_or(TRIP_MS);
    }

    /// What becomes of these keys, the first that have not gone on yet.
    pub fn next(&mut self, at_ms: u64, keys: &[u8]) -> Next {
        self.draw();
        let mut scanner = self.scanner.clone();
        let empty = self.typing.keys.is_empty();
        let mut kinds = keys.iter().enumerate();
        let enter = kinds.find_map(|(at, byte)| match scanner.take(*byte, empty && at == 0) {
            Key::Other | Key::Stashes => None,
            key @ (Key::Enter | Key::EnterAndNext | Key::Changes | Key::Flush) => Some((at, key)),
        });
        match enter {
            None => {
                self.press(at_ms, keys);
                Next::Pass(keys.len())
            }
            Some((0, key)) => self.enter(at_ms, key, keys.first().copied().unwrap_or_default()),
            Some((at, _)) => {
                self.press(at_ms, keys.get(..at).unwrap_or_default());
                Next::Pass(at)
            }
        }
    }

    /// Keys that go on at once.
    fn press(&mut self, at_ms: u64, keys: &[u8]) {
        // Sees to it that the reader knows where the line began.
        self.anchor(at_ms);
        let mut known = None;
        for byte in keys {
            let key = self.scanner.take(*byte, self.typing.keys.is_empty());
            if key == Key::Stashes && self.may_put_aside(*byte, &mut known) {
                self.stashed = self.typing.puts_aside(*byte, self.stashed);
            }
            self.stopped = match *byte {
                STOP => Some(u64::MAX),
                // What was shown meanwhile is on its way.
                START => self.stopped.map(|_| at_ms.saturating_add(HOLD_MS)),
                _ => self.stopped,
            };
            let pasted = self.typing.typed.is_pasting();
            let pressed = self.typing.typed.press(*byte);
            self.keep(*byte);
            if self.typing.typed.is_pasting() && !pasted {
                self.typing.paste = self.typing.keys.len();
                let told = self.screen.told_of_pastes();
                self.typing.paste_to = told.filter(|told| *told != self.told_before);
            }
            match pressed {
                Pressed::Cancelled => self.begin_again(at_ms),
                // What ends a line in a paste does not end this one.
                Pressed::More | Pressed::Enter | Pressed::End => {}
            }
        }
        self.typing.began.get_or_insert((at_ms, self.shown));
        (self.typing.last, self.typing.last_ms) = (self.shown, at_ms);
    }

    /// Whether a key may be one that puts a line aside. Typed ahead, it is read at a prompt that nobody has seen yet; to
    /// programs that have the whole screen it is another. A ^Q behind a ^S is for the terminal. `known`: whether a known
    /// prompt stands there, once that was looked at.
    fn may_put_aside(&mut self, key: u8, known: &mut Option<bool>) -> bool {
        if key == START && (self.stopped.is_some() || self.typing.is_stopped()) {
            return false;
        }
        let mut look = || self.reader.line(&self.terminal, None).known;
        !self.screen.is_alternate() || *known.get_or_insert_with(&mut look)
    }

    fn keep(&mut self, byte: u8) {
        if self.typing.keys.len() < LINE_BYTES_MAX {
            self.typing.keys.push(byte);
        } else {
            self.typing.too_long = true;
        }
        if byte > b' ' && byte != 0x7f {
            self.typing.signs = self.typing.signs.saturating_add(1);
        }
    }

    fn anchor(&mut self, at_ms: u64) {
        let nothing = Keys::Hidden { bytes: 0, ends: false };
        self.reader.typed(at_ms, nothing, &self.terminal);
    }

    /// ^C: the line is given up, unless that key means something else there.
    fn begin_again(&mut self, at_ms: u64) {
        let behind = Typing::behind_another(self.shown);
        let given_up = std::mem::replace(&mut self.typing, behind);
        // What stood there before that line stands there still.
        (self.typing.joined, self.typing.next) = (given_up.joined, given_up.next);
        self.reader.typed(at_ms, Keys::Clear(&given_up.keys), &self.terminal);
    }

    fn enter(&mut self, at_ms: u64, key: Key, byte: u8) -> Next {
        let since = *self.held.get_or_insert(at_ms);
        self.anchor(at_ms);
        let typing = &self.typing;
        let typed = typing.typed.text();
        let line = self.reader.line(&self.terminal, typed.as_deref());
        if self.screen.is_alternate() && !line.known && !line.unread {
            // A program that has the whole screen.
            return self.passed(at_ms, byte, false);
        }
        let late = at_ms.saturating_sub(since) >= HOLD_MS;
        let answered = self.shown > typing.last;
        // The echo of the last key is not here before the way there and back.
        let echoed_ms = typing.last_ms.saturating_add(self.trip_ms);
        let rest = self.shown_ms.max(echoed_ms).saturating_add(REST_MS);
        let end = since.saturating_add(HOLD_MS);
        let again = if answered && rest > at_ms { end.min(rest) } else { end };
        if let Some(sure) = self.pasting() {
            return match key {
                Key::Enter | Key::EnterAndNext | Key::Changes | Key::Flush if !sure => {
                    match late || answered && at_ms >= rest {
                        true => Next::Ask(self.perhaps_pasted(line)),
                        false => Next::Wait(again),
                    }
                }
                Key::Enter => Next::Ask(self.pasted(&line)),
                // Somebody may have ended the paste by a key.
                Key::EnterAndNext | Key::Changes | Key::Flush if typing.is_doubtful() => Next::Ask(self.pasted(&line)),
                // Text like any other.
                Key::Other | Key::Stashes | Key::EnterAndNext | Key::Changes | Key::Flush => {
                    self.press(at_ms, &[byte]);
                    self.held = None;
                    Next::Pass(1)
                }
            };
        }
        // What the client does not take, or has stopped, is not known to be nothing.
        let behind = self.lags || self.stopped.is_some_and(|until| at_ms < until);
        let rested = answered && at_ms >= rest && !behind;
        let silent = typing.began.is_some_and(|(_, shown)| shown == self.shown) && !behind;
        let swallowed = self.reader.in_string() || !self.screen.is_ground();
        if typing.signs > 0 && silent && !line.at_prompt && !line.unread && !swallowed {
            let began = typing.began.map_or(since, |(began, _)| began);
            return match at_ms.saturating_sub(began) >= HOLD_MS {
                true => self.passed(at_ms, byte, true),
                false => Next::Wait(began.saturating_add(HOLD_MS)),
            };
        }
        let stars = |typed: &str| is_stars_for(&line.text, typed);
        if typing.signs > 0 && !line.at_prompt && !line.as_typed && typed.as_deref().is_some_and(stars) {
            return self.passed(at_ms, byte, true);
        }
        let empty = typing.keys.is_empty() && line.text.trim().is_empty();
        // Behind a key that may not have done what it is for, the row tells it only at a prompt that is known.
        let clear = typed.is_some() || line.known || line.prompt.trim().is_empty();
        let nothing = empty && clear && !line.unread && key != Key::Changes;
        let brought = typing.next || self.stashed > 0;
        // An editor that has read a line tells of pastes anew, and stands at its prompt.
        let joined = typing.joined && !(line.known && self.screen.times_told() != self.told_before);
        let whole = typed.is_some() && !typing.typed.was_pasted();
        let above = !whole && typing.may_be_above() && self.reader.goes_below(&self.terminal, &line.text);
        // Keys that edit, typed ahead, edit what stands there later.
        let ahead = typed.is_none() && !line.at_prompt && typing.edits();
        let doubt = joined || above || ahead || brought && !line.known;
        let certain = match typed {
            _ if line.unread || doubt || empty && !clear => false,
            Some(_) if typing.keys.is_empty() => rested,
            Some(_) if !typing.typed.was_pasted() => line.as_typed && !silent && (typing.only_adds() || rested),
            Some(_) | None => rested,
        };
        match certain || late {
            true if nothing && (certain || !(typing.brought || brought)) => self.passed(at_ms, byte, false),
            true => Next::Ask(self.asked(line, key, !certain)),
            false => Next::Wait(again),
        }
    }

    /// Whether a paste is being typed, and whether it is sure that a program takes it for
    /// one: the one that wants to be told of pastes wanted it when this began.
    fn pasting(&self) -> Option<bool> {
        let (told, paste_to) = (self.screen.told_of_pastes(), self.typing.paste_to);
        let sure = told.is_some() && told == paste_to;
        self.typing.typed.is_pasting().then_some(sure)
    }

    /// A program begins: what came before it was for nobody.
    pub fn begins(&mut self) {
        self.typing = Typing::default();
        self.scanner = Scanner::default();
        self.held = None;
        self.stashed = 0;
    }

    fn line(&self, line: command::Line, undecided: bool) -> Line {
        let place = place(&line.place);
        let whole = line.text.trim_end();
        let text = whole.replace("\\\n", "");
        let reads_its_own = place == "repl" && !is_shells(&line.prompt);
        Line {
            several: whole.contains('\n'),
            undecided: undecided || self.typing.too_long || (!reads_its_own && names_another(&text)),
            text,
            place,
            at_prompt: line.at_prompt,
            prompt: line.prompt,
            pasted: Pasted::No,
        }
    }

    fn asked(&self, mut line: command::Line, key: Key, undecided: bool) -> Line {
        let changes = key == Key::Changes;
        // ESC # makes a comment of it, or none.
        if changes && let Some(within) = line.text.strip_prefix('#') {
            line.text = within.to_owned();
        }
        self.line(line, undecided || changes)
    }

    /// The last line of a paste so far. An editor shows none of it before its
    /// end; should none read it, each line of it is run.
    fn pasted(&self, line: &command::Line) -> Line {
        let pasted = self.typing.keys.get(self.typing.paste..).unwrap_or_default();
        let last = pasted.rsplit(|byte| matches!(byte, b'\r' | b'\n')).next();
        Line {
            text: String::from_utf8_lossy(last.unwrap_or_default()).trim_end().to_owned(),
            place: place(&line.place),
            undecided: self.typing.is_doubtful(),
            several: true,
            at_prompt: line.at_prompt,
            prompt: line.prompt.clone(),
            pasted: Pasted::Part,
        }
    }

    /// What stands there, and what the paste has if it is one.
    fn perhaps_pasted(&self, line: command::Line) -> Line {
        let pasted = self.pasted(&line);
        let shown = self.line(line, true);
        Line {
            text: [shown.text, pasted.text].join("\n").trim().to_owned(),
            several: true,
            pasted: Pasted::Perhaps,
            ..shown
        }
    }

    /// The Enter that was asked about goes on. `enter` is it.
    pub fn sent(&mut self, at_ms: u64, enter: u8) {
        self.draw();
        let pasting = self.pasting();
        if pasting.is_some() || enter == 0x04 {
            self.held = None;
            // A paste is read in silence: what is answered may be lines that were run.
            let answered = self.typing.entered.is_some_and(|before| self.shown > before);
            if pasting == Some(false) && answered {
                self.sent_though_pasting(at_ms, enter);
            } else {
                self.press(at_ms, &[enter]);
            }
            self.typing.entered = pasting.map(|_| self.shown);
            return;
        }
        let quoted = |key: &u8| matches!(*key, LITERAL | START);
        let joined = self.scanner.is_escaped() || self.typing.keys.last().is_some_and(quoted);
        self.send(at_ms, enter, false);
        self.typing.joined = joined;
    }

    /// Whether a line that was asked about is still what stands there.
    pub fn still_stands(&mut self, line: &Line) -> bool {
        self.draw();
        let typed = self.typing.typed.text();
        let now = self.reader.line(&self.terminal, typed.as_deref());
        let now = self.line(now, false).text;
        now == line.text || now.strip_prefix('#').is_some_and(|now| now == line.text)
    }

    /// One that nobody is asked about.
    fn passed(&mut self, at_ms: u64, enter: u8, hidden: bool) -> Next {
        self.send(at_ms, enter, hidden);
        Next::Pass(1)
    }

    /// A line is sent, and what comes behind it may still be of a paste.
    fn sent_though_pasting(&mut self, at_ms: u64, enter: u8) {
        let paste_to = self.typing.paste_to;
        self.send(at_ms, enter, false);
        for byte in PASTE_BEGINS {
            self.typing.typed.press(*byte);
        }
        self.typing.paste_to = paste_to;
    }

    fn send(&mut self, at_ms: u64, enter: u8, hidden: bool) {
        self.held = None;
        self.told_before = self.screen.times_told();
        let next = self.scanner.take(enter, false) == Key::EnterAndNext;
        self.scanner = Scanner::default();
        let at_prompt = self.reader.line(&self.terminal, None).known;
        self.stashed = self.stashed.saturating_sub(u8::from(at_prompt));
        let mut typing = std::mem::take(&mut self.typing);
        let nothing_shown = typing.signs > 0 && typing.began.is_some_and(|(_, shown)| shown == self.shown);
        self.unshown = None;
        match hidden || nothing_shown {
            // What runs at a prompt is looked for in what comes of it.
            true if at_prompt && typing.typed.text().is_some() => {
                let typed = typing.typed.text().unwrap_or_default();
                self.unshown = Some(Unshown::new(typed));
            }
            true => {
                let bytes = typing.keys.len().saturating_add(1);
                self.reader
                    .typed(at_ms, Keys::Hidden { bytes, ends: true }, &self.terminal);
            }
            false => {
                typing.keys.push(b'\r');
                self.reader.typed(at_ms, Keys::Clear(&typing.keys), &self.terminal);
            }
        }
        (self.typing.last, self.typing.last_ms) = (self.shown, at_ms);
        self.typing.next = next;
        self.typing.brought = !matches!(enter, b'\r' | b'\n');
    }

    /// The Enter that was asked about is kept back, and its line taken back by
    /// the keys that this answers with (^E^U, or ^C behind several lines): none
    /// where that would not be understood.
    pub fn kept(&mut self, at_ms: u64, line: &Line) -> &'static [u8] {
        self.draw();
        self.held = None;
        if !line.at_prompt {
            return b"";
        }
        let pasting = self.typing.typed.is_pasting();
        let within = self.scanner.is_within();
        let mut keys = std::mem::replace(&mut self.typing, Typing::behind_another(self.shown)).keys;
        // ^E^U takes back one line; what has several is given up as a whole. A
        // key that has begun would make another one of ours: ^G ends it.
        let sent: &'static [u8] = match (pasting, line.several, within) {
            (true, _, _) => b"\x1b[201~\x03",
            (false, true, _) => b"\x03",
            (false, false, true) => b"\x07\x05\x15",
            (false, false, false) => b"\x05\x15",
        };
        keys.extend(sent);
        self.reader.typed(at_ms, Keys::Clear(&keys), &self.terminal);
        self.scanner = Scanner::default();
        self.taken_back = Some((at_ms, self.shown));
        sent
    }

    /// The line of an Enter that was kept back, once it stands at a prompt.
    pub fn came_to_prompt(&mut self, at_ms: u64) -> Option<Line> {
        if at_ms.saturating_sub(self.shown_ms) < REST_MS {
            return None;
        }
        self.draw();
        self.anchor(at_ms);
        let typed = self.typing.typed.text();
        let line = self.reader.line(&self.terminal, typed.as_deref());
        (line.at_prompt && !self.screen.is_alternate()).then(|| self.line(line, false))
    }

    /// When that is to be looked at again, in session ms.
    pub fn rests_at(&self) -> u64 {
        self.shown_ms.saturating_add(REST_MS)
    }

    /// Whether a line that was taken back is gone from the screen, as far as
    /// it ever will be; if not, when to ask again, in session ms.
    ///
    /// # Errors
    /// That time.
    pub fn is_taken_back(&mut self, at_ms: u64) -> Result<(), u64> {
        let Some((since, shown)) = self.taken_back else {
            return Ok(());
        };
        self.draw();
        let end = since.saturating_add(HOLD_MS);
        let rest = self.shown_ms.saturating_add(REST_MS);
        let answered = self.shown > shown;
        let line = self.reader.line(&self.terminal, None);
        let gone = !line.unread && line.text.trim().is_empty();
        if at_ms >= end || answered && gone && at_ms >= rest {
            self.taken_back = None;
            return Ok(());
        }
        Err(if answered && rest > at_ms { end.min(rest) } else { end })
    }
}

fn clamp(cols: u32, rows: u32) -> (usize, usize) {
    (cols.clamp(1, COLS_MAX) as usize, rows.clamp(1, ROWS_MAX) as usize)
}
