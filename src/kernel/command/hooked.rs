//! What the hook says of a shell, beside what was read.

use super::estimate::{Sent, fold};
use super::hook::{Line, Mark};
use super::keys::Typed;
use super::reader::Reader;
use super::text::cut;
use super::{Confidence, Source};

/// What a shell has for a status once a line was given up: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

impl Reader {
    /// Takes a mark of the hook.
    pub(super) fn marked(&mut self, at_ms: u64, mark: Mark) {
        match mark {
            Mark::Command(line) => {
                self.running = Some(true);
                match line {
                    Line::Same(text) => self.said_again(&text),
                    Line::Whole(text) | Line::Cut(text) => self.said(at_ms, text),
                }
            }
            Mark::Done { exit_status } => {
                self.running = Some(false);
                match self.open.as_mut() {
                    Some(open) if open.hooked => {
                        open.command.exit_status = exit_status;
                        open.command.end_ms = at_ms;
                    }
                    // It was typed and given up: zsh shows no `^C`.
                    Some(open) if exit_status == Some(INTERRUPTED) => open.inside = true,
                    Some(_) | None => {}
                }
            }
            Mark::Directory(directory) => self.directory = Some(directory),
        }
    }

    /// The shell is about to run this.
    fn said(&mut self, at_ms: u64, mut text: String) {
        cut(&mut text);
        if !self.is_read(&text) {
            self.begin_said(at_ms, &text);
        }
        let Some(open) = self.open.as_mut() else { return };
        let agreed = open.command.source != Source::Hook && fold(&open.command.text) == fold(&text);
        if open.command.source != Source::Hook && !agreed {
            open.command.other = Some(std::mem::take(&mut open.command.text));
        }
        open.command.confidence = match agreed {
            true => Confidence::Exact,
            false => Confidence::High,
        };
        open.command.text = text;
        open.command.source = Source::Hook;
        open.hooked = true;
    }

    /// Whether the open command is the line that the shell means. One that was
    /// typed to a program may still be open.
    fn is_read(&self, text: &str) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !open.hooked && (!open.inside || fold(&open.command.text) == fold(text)))
    }

    /// The screen did not tell it: of the lines that were sent, as many are its own as it has.
    fn begin_said(&mut self, at_ms: u64, text: &str) {
        let first = self.sent.pop_front();
        for _ in text.lines().skip(1) {
            self.sent.pop_front();
        }
        let sent = first.unwrap_or(Sent {
            at_ms,
            prompt: None,
            typed: Typed::default(),
            rows: 0,
            row: 0,
            shown: 0,
            bare: false,
            echoed: false,
            inside: false,
            looks: 0,
        });
        let prompt = sent.prompt.clone().unwrap_or_default();
        self.begin(&sent, &prompt, text.to_owned(), String::new(), Source::Hook);
    }

    /// The shell runs a line that its history did not take. `last` is the line
    /// before it in there: what the screen or the keys tell is it, or it is not.
    fn said_again(&mut self, last: &str) {
        if self.open.as_ref().is_none_or(|open| open.hooked) {
            self.give_up();
        }
        let Some(open) = self.open.as_mut().filter(|open| !open.hooked) else {
            return;
        };
        open.hooked = true;
        open.command.confidence = Confidence::High;
        if fold(&open.command.text) == fold(last) {
            open.command.confidence = Confidence::Exact;
            open.command.source = Source::Hook;
        }
    }
}
