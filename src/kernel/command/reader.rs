//! The prompt-anchored reader and the arbiter.

use std::collections::VecDeque;

use avt::{ScreenKind, Terminal};

use super::estimate::{ABREAST_MAX, Above, Found, Growing, Look, Sent, fold};
use super::flags::Hidden;
use super::grid::{self, Logical, Place};
use super::hook::Hook;
use super::keys::{Keys, Pressed, Typed};
use super::prompt::{self, Prompt, Prompts};
use super::text::{cut, fold_end, is_stars, join};
use super::watch::Watch;
use super::{Command, Confidence, Context, Finding, Source};
use crate::kernel::work::Work;

/// Lines sent and not yet seen on the screen; the oldest is given up past it.
const SENT_MAX: usize = 64;
/// How often a sent line is looked for before it is given up, in rows left by the cursor.
const LOOKS_MAX: u32 = 20_000;
/// Without output for so long, a prompt waits for a person, in ms. What was
/// typed ahead follows its prompt at once.
const REST_MS: u64 = 30;
/// Within so long a terminal far away shows what was typed, in ms.
const ECHO_MS: u64 = 300;
/// After so long, what looks like a prompt is one, even if it is not known, in ms.
const LONG_REST_MS: u64 = 500;
/// Rows that may follow before all of a line is drawn.
const GROWING_ROWS_MAX: u64 = 200;
/// What the terminal shows for ^C.
const GIVEN_UP: &str = "^C";
/// Findings that wait to be taken; more are dropped, and counted.
const FINDINGS_MAX: usize = 4096;

/// The line being typed.
#[derive(Debug)]
pub(super) struct Typing {
    /// What stood before the cursor at the first key; nothing if an earlier line was still on its way.
    pub(super) prompt: Option<Prompt>,
    typed: Typed,
    /// When its first key was typed, and its last, in session ms.
    began_ms: u64,
    at_ms: u64,
    /// Rows moved on by at its first key, and at its last.
    rows: u64,
    rows_seen: u64,
}

/// A command whose end has not been seen.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) command: Command,
    /// Number and text of its prompt.
    pub(super) prompt_id: u64,
    pub(super) prompt: String,
    /// What the keys alone make of it.
    typed: Option<String>,
    /// The last of its lines, as it stood on the screen.
    pub(super) line: String,
    /// Rows moved on by when it was sent.
    rows: u64,
    /// The hook told it.
    pub(super) hooked: bool,
    /// It was typed while the hooked shell ran another.
    pub(super) inside: bool,
}

/// Reads one terminal. The emulator is the caller's: what is shown must go
/// through [`Reader::shown`], which feeds it.
#[derive(Debug, Default)]
pub struct Reader {
    hook: Hook,
    pub(super) prompts: Prompts,
    pub(super) typing: Option<Typing>,
    pub(super) sent: VecDeque<Sent>,
    pub(super) open: Option<Open>,
    hidden: Hidden,
    /// The last line of the open command, if more of it may be drawn: until the next key at rest.
    growing: Option<Growing>,
    /// Rows that output moved the cursor on by, ever.
    rows: u64,
    /// Pieces of output, ever, and when the last one came, in session ms.
    shown: u64,
    shown_ms: u64,
    /// Somebody types while a control string is open: it will not be closed.
    unclosed: bool,
    alternate: bool,
    /// Where the cursor was before it went to the beginning of its row, if that was the last that happened.
    pub(super) returned: Option<Place>,
    pub(super) directory: Option<String>,
    /// Whether the hooked shell runs a command; not known before it said so.
    pub(super) running: Option<bool>,
    findings: Vec<Finding>,
    /// Findings for which there was no room.
    dropped: u64,
    pub(super) work: Work,
    /// What is left for lines that are read before they are sent.
    pub(super) live: Work,
}

impl Reader {
    /// A reader that believes the marks of a hook with this nonce.
    pub fn with_hook(nonce: String) -> Reader {
        Reader {
            hook: Hook::new(Some(nonce)),
            ..Reader::default()
        }
    }

    /// Takes typed keys; `terminal` as it was when they were typed.
    pub fn typed(&mut self, at_ms: u64, keys: Keys<'_>, terminal: &Terminal) {
        self.look_at_screen(terminal);
        if at_ms.saturating_sub(self.shown_ms) >= REST_MS {
            self.growing = None;
            if self.hook.in_string() {
                self.hook.cancel();
                self.unclosed = true;
            }
        }
        match keys {
            Keys::Clear(bytes) => {
                for byte in bytes {
                    self.anchor(at_ms, terminal);
                    let Some(typing) = self.typing.as_mut() else { return };
                    typing.at_ms = at_ms;
                    match typing.typed.press(*byte) {
                        Pressed::More => {}
                        Pressed::Enter => self.enter(at_ms, terminal),
                        Pressed::Cancelled => {
                            self.typing = None;
                            // The terminal flushes what was typed ahead (tcsetattr, NOFLSH off).
                            self.sent.clear();
                        }
                        Pressed::End => self.typing = None,
                    }
                }
            }
            Keys::Hidden { bytes, ends } => {
                self.anchor(at_ms, terminal);
                let shown = bytes.saturating_sub(usize::from(ends));
                let Some(typing) = self.typing.as_mut() else { return };
                typing.typed.hide(shown);
                // A paste comes at once: what ends a line in it is no Enter.
                if typing.at_ms < at_ms {
                    typing.typed.end_paste();
                }
                typing.at_ms = at_ms;
                if ends && !typing.typed.is_pasting() {
                    self.enter(at_ms, terminal);
                }
            }
        }
    }

    /// Feeds output to the terminal and reads what it does there.
    pub fn shown(&mut self, at_ms: u64, output: &str, terminal: &mut Terminal) {
        let mut start = 0;
        self.work.earn(output.len());
        self.live.earn(output.len());
        self.shown = self.shown.saturating_add(1);
        if std::mem::take(&mut self.unclosed) {
            self.feed("\u{18}", terminal);
        }
        for (at, c) in output.char_indices() {
            if c == '\n' && self.hook.in_string() && !self.sent.is_empty() {
                // A string that is not closed would swallow every line from here on.
                self.feed(output.get(start..at).unwrap_or_default(), terminal);
                self.feed("\u{18}", terminal);
                self.hook.cancel();
                start = at;
            }
            if let Some(mark) = self.hook.advance(c) {
                let next = at + c.len_utf8();
                self.feed(output.get(start..next).unwrap_or_default(), terminal);
                start = next;
                self.marked(at_ms, mark);
            }
        }
        self.feed(output.get(start..).unwrap_or_default(), terminal);
        self.shown_ms = at_ms;
    }

    /// Output that only scrolled by, in so many rows: its end is shown next.
    pub fn passed_over(&mut self, at_ms: u64, rows: u64) {
        self.rows = self.rows.saturating_add(rows);
        self.shown = self.shown.saturating_add(1);
        self.shown_ms = at_ms;
    }

    /// What was typed of the line at the cursor is gone.
    pub fn forget_line(&mut self) {
        self.typing = None;
    }

    /// The terminal ends: what is left is told.
    pub fn finish(&mut self) {
        self.give_up_all();
        self.close();
        self.settle_hidden();
    }

    /// What was found since the last time, in the order of its ends.
    pub fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// How many more were found since the last time than may wait.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// A control string is open: what is shown is not drawn.
    pub fn in_string(&self) -> bool {
        self.hook.in_string()
    }

    fn feed(&mut self, output: &str, terminal: &mut Terminal) {
        if !self.waits() {
            // Nothing is waited for: the emulator alone, at its own speed.
            self.returned = None;
            let rows = output.bytes().filter(|byte| *byte == b'\n').count();
            self.rows = self.rows.saturating_add(rows as u64);
            terminal.feed(output);
        } else {
            terminal.feed_with(
                output,
                Watch {
                    reader: self,
                    left: None,
                    fed: None,
                },
            );
        }
    }

    /// What was typed on one screen means nothing on the other.
    pub(super) fn look_at_screen(&mut self, terminal: &Terminal) {
        let alternate = terminal.active_screen_kind() == ScreenKind::Alternate;
        if alternate != self.alternate {
            self.typing = None;
            self.give_up_all();
            self.alternate = alternate;
        }
    }

    /// Sees to it that a line is being typed, and where it began.
    fn anchor(&mut self, at_ms: u64, terminal: &Terminal) {
        let (mut began, mut right) = (false, None);
        match &self.typing {
            Some(typing) if typing.rows_seen == self.rows || typing.typed.is_pasting() => return,
            Some(_) => {
                let before = self.at_cursor(terminal).map(|line| line.before_cursor);
                let Some(typing) = self.typing.as_mut() else { return };
                typing.rows_seen = self.rows;
                let Some(before) = before else {
                    return typing.typed.spoil();
                };
                let own = typing.prompt.as_ref().map_or("", |prompt| prompt.text.as_str());
                if !own.is_empty() && before.starts_with(own) && before != own {
                    return;
                }
                if !self.prompts.is_fresh(&before) {
                    if !typing.typed.was_pasted() {
                        typing.typed.spoil();
                    }
                    return;
                }
                // What it began with shows nothing at the prompt, as the key of a search does.
                began = !typing.typed.is_empty();
                right = typing.prompt.take().and_then(|prompt| prompt.right);
            }
            None => {}
        }
        self.settle_hidden();
        let mut typed = Typed::default();
        if began {
            typed.spoil();
        }
        let Some(line) = self.at_cursor(terminal) else {
            return self.begin_typing(at_ms, None, typed);
        };
        let nothing = line.before_cursor.is_empty() && !self.alternate && self.prompts.accept_nothing();
        let rested_ms = at_ms.saturating_sub(self.shown_ms);
        let new =
            prompt::looks_like_one(&line.before_cursor) && (self.prompts.accept_nothing() || rested_ms >= LONG_REST_MS);
        let fresh = nothing || new || self.prompts.is_fresh(&line.before_cursor);
        let answered = self.sent.back().is_some_and(|sent| sent.shown < self.shown);
        if answered && fresh && rested_ms >= REST_MS {
            self.give_up_all();
        }
        if fresh
            && let Some(open) = self.open.as_mut()
            && !open.hooked
        {
            open.command.end_ms = self.shown_ms;
        }
        let prompt = self.sent.is_empty().then_some(Prompt {
            text: line.before_cursor,
            right: line.right.or(right),
        });
        self.begin_typing(at_ms, prompt, typed);
    }

    fn begin_typing(&mut self, at_ms: u64, prompt: Option<Prompt>, typed: Typed) {
        self.typing = Some(Typing {
            prompt,
            typed,
            began_ms: at_ms,
            at_ms,
            rows: self.rows,
            rows_seen: self.rows,
        });
    }

    /// The line at the cursor; nothing where reading it would take too long.
    fn at_cursor(&mut self, terminal: &Terminal) -> Option<Logical> {
        let affords = self.work.spend(grid::cells_at_cursor(terminal));
        affords.then(|| grid::at_cursor(terminal))
    }

    fn enter(&mut self, at_ms: u64, terminal: &Terminal) {
        let Some(typing) = self.typing.take() else { return };
        let row = terminal.cursor().row;
        // An echo takes its time: a line that was just begun says nothing yet.
        let typed_ms = at_ms.saturating_sub(typing.began_ms);
        let due = typed_ms == 0 || typed_ms >= ECHO_MS;
        let prompt = typing.prompt.as_ref().filter(|_| due);
        let bare = prompt.is_some_and(|prompt| {
            let line = self.at_cursor(terminal);
            line.is_some_and(|line| line.before_cursor.trim_end() == prompt.text.trim_end())
        });
        self.sent.push_back(Sent {
            at_ms,
            prompt: typing.prompt,
            typed: typing.typed,
            rows: self.rows.saturating_sub(typing.rows),
            row,
            shown: self.shown,
            bare,
            echoed: false,
            inside: self.running == Some(true),
            looks: 0,
        });
        if self.sent.len() > SENT_MAX {
            self.give_up();
        }
    }

    /// Whether a line was sent and not seen yet, or not to its end.
    pub(super) fn waits(&self) -> bool {
        !self.sent.is_empty() || self.growing.is_some()
    }

    /// Whether a line that is left may be held against those that were sent;
    /// they are given up if not.
    pub(super) fn affords(&mut self, line: &Logical, terminal: &Terminal) -> bool {
        let cells = (line.bottom + 1).saturating_sub(line.top) * terminal.size().0;
        let looks = self.sent.len().min(ABREAST_MAX) + 1;
        let affords = self.work.spend(cells.saturating_mul(looks));
        if !affords {
            self.growing = None;
            self.give_up_all();
        }
        affords
    }

    /// Output moved the cursor to the next row.
    pub(super) fn fed(&mut self) {
        self.rows = self.rows.saturating_add(1);
        let grown = self
            .open
            .as_ref()
            .is_none_or(|open| self.rows > open.rows.saturating_add(GROWING_ROWS_MAX));
        if grown {
            self.growing = None;
        }
    }

    /// The cursor leaves this line.
    pub(super) fn left(&mut self, line: &Logical, terminal: &Terminal) {
        let look = Look {
            prompts: &self.prompts,
            open: self.open.as_ref().map(|open| Above {
                prompt: &open.prompt,
                line: &open.line,
            }),
            line,
            terminal,
            alternate: self.alternate,
        };
        if let Some(found) = look.find(&self.sent) {
            return self.accept(found);
        }
        if let Some(growing) = self.growing.as_mut()
            && let Some(text) = look.grown(growing)
        {
            if text.ends_with(GIVEN_UP) {
                self.open = None;
            }
            if let Some(open) = self.open.as_mut() {
                open.command.text.truncate(growing.from);
                open.command.text.push_str(&text);
                open.line.clone_from(&line.text);
                cut(&mut open.command.text);
            }
            (growing.text, growing.top) = (text, line.top);
            return;
        }
        // Where whole screens are drawn, earlier prompts pass by.
        if !self.alternate {
            self.consumed(line);
        }
        for sent in self.sent.iter_mut().take(ABREAST_MAX) {
            sent.looks = sent.looks.saturating_add(1);
        }
        if self.sent.front().is_some_and(|front| front.looks > LOOKS_MAX) {
            return self.give_up();
        }
        for sent in self.sent.iter_mut().take(ABREAST_MAX) {
            let typed = sent.typed.text().unwrap_or_default();
            if !sent.echoed && !typed.trim().is_empty() && line.text.ends_with(typed.trim_end()) {
                sent.echoed = true;
                break;
            }
        }
    }

    /// A shell that leaves the echo to the terminal shows no line typed ahead
    /// again: its prompt, with output behind it, is all that tells it was read.
    fn consumed(&mut self, line: &Logical) {
        let mut rest = line.text.as_str();
        while let Some((len, prompt)) = self.prompts.at_start(rest) {
            let prompt = prompt.clone();
            rest = rest.get(len..).unwrap_or_default();
            if self.sent.front().is_none_or(|front| !front.echoed) || len == 0 {
                return;
            }
            let Some(sent) = self.sent.pop_front() else { return };
            if let Some(typed) = sent.typed.text() {
                self.begin(&sent, &prompt, typed, String::new(), Source::Keys);
            }
        }
    }

    fn accept(&mut self, found: Found) {
        for _ in 0..found.at {
            self.give_up();
        }
        let Some(sent) = self.sent.pop_front() else { return };
        let text = fold_end(&found.text);
        let hidden = sent.typed.hidden() > 0;
        let established = self.prompts.is_established(&found.prompt.text);
        let stars = is_stars(&text);
        // Who asks for a password may show stars; at a shell's prompt they are printed.
        if hidden && stars && !established && !prompt::looks_like_one(&found.prompt.text) {
            return;
        }
        // A shell whose terminal does not echo prints behind its prompt what the line gave.
        let nothing = text.is_empty() || stars || sent.bare && established;
        if hidden && nothing {
            if established && !found.prompt.text.trim().is_empty() {
                self.found(Finding::HiddenCommand { at_ms: sent.at_ms });
            } else if found.prompt.text.trim().is_empty() {
                self.hidden.sent(sent.at_ms, self.rows);
            }
            return;
        }
        if sent.typed.text().is_none() && text.ends_with(GIVEN_UP) {
            return;
        }
        self.hidden.shown();
        if found.goes_on
            && let Some(open) = self.open.as_mut()
        {
            let from = open.command.text.len() + 1;
            self.growing = Growing::of(&sent, &found.prompt, &text, from, found.top);
            join(&mut open.command.text, &text);
            open.typed = match (open.typed.take(), sent.typed.text()) {
                (Some(mut all), Some(typed)) => {
                    join(&mut all, &typed);
                    Some(all)
                }
                (_, _) => None,
            };
            open.line = found.line;
            return;
        }
        if text.is_empty() {
            self.prompts.note(&found.prompt, None, self.alternate);
            self.close();
            return;
        }
        let growing = Growing::of(&sent, &found.prompt, &text, 0, found.top);
        self.begin(&sent, &found.prompt, text, found.line, Source::Screen);
        self.growing = growing;
    }

    /// Rows moved up by so many.
    pub(super) fn scrolled(&mut self, rows: usize) {
        self.growing = self.growing.take().and_then(|growing| growing.scrolled(rows));
    }

    /// A new command.
    pub(super) fn begin(&mut self, sent: &Sent, prompt: &Prompt, text: String, line: String, source: Source) {
        let after = self.open.as_ref().map(|open| open.command.text.clone());
        let prompt_id = self.prompts.note(prompt, after.as_deref(), self.alternate);
        self.close();
        let mut text = text;
        cut(&mut text);
        self.open = Some(Open {
            command: Command {
                at_ms: sent.at_ms,
                end_ms: sent.at_ms.max(self.shown_ms),
                text,
                other: None,
                source,
                confidence: Confidence::Medium,
                context: Context::Program,
                directory: self.directory.clone(),
                exit_status: None,
            },
            prompt_id,
            prompt: prompt.text.clone(),
            typed: sent.typed.text(),
            line,
            rows: self.rows,
            hooked: false,
            inside: sent.inside,
        });
    }

    /// The command is over: what is known by now is what is told.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut command = open.command;
        command.context = match (open.hooked, self.prompts.context(open.prompt_id)) {
            (true, _) => Context::Shell,
            // The shell would have said that it runs it.
            (false, Context::Shell) if open.inside => Context::Program,
            (false, context) => context,
        };
        if !open.hooked {
            command.other = open.typed.filter(|typed| fold(typed) != fold(&command.text));
            command.confidence = match (command.source, &command.context) {
                (Source::Keys, _) | (_, Context::Program) => Confidence::Medium,
                (Source::Screen | Source::Hook | Source::Protocol, _) => Confidence::High,
            };
            if open.prompt.is_empty() {
                command.confidence = Confidence::Medium;
            }
        }
        command.end_ms = command.end_ms.max(command.at_ms);
        self.found(Finding::Command(command));
    }

    /// Gives up the oldest line that was sent. Where its keys tell it, and it
    /// was typed at a prompt or echoed, that is what is told.
    pub(super) fn give_up(&mut self) {
        let Some(sent) = self.sent.pop_front() else { return };
        let Some(typed) = sent.typed.text().filter(|typed| !typed.trim().is_empty()) else {
            return;
        };
        let at_prompt = sent
            .prompt
            .clone()
            .filter(|prompt| self.prompts.is_established(&prompt.text));
        if at_prompt.is_none() && self.alternate {
            return;
        }
        if let Some(prompt) = at_prompt {
            return self.begin(&sent, &prompt, typed, String::new(), Source::Keys);
        }
        let mut text = typed;
        cut(&mut text);
        self.found(Finding::Command(Command {
            at_ms: sent.at_ms,
            end_ms: sent.at_ms,
            text,
            other: None,
            source: Source::Keys,
            confidence: Confidence::Medium,
            context: Context::Program,
            directory: None,
            exit_status: None,
        }));
    }

    fn give_up_all(&mut self) {
        while !self.sent.is_empty() {
            self.give_up();
        }
    }

    fn settle_hidden(&mut self) {
        if let Some(at_ms) = self.hidden.settle(self.rows) {
            self.found(Finding::HiddenCommand { at_ms });
        }
    }

    fn found(&mut self, finding: Finding) {
        match self.findings.len() < FINDINGS_MAX {
            true => self.findings.push(finding),
            false => self.dropped = self.dropped.saturating_add(1),
        }
    }
}
