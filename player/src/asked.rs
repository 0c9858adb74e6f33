//! Commands that were asked for, and what became of those that no event of their own tells of.

use std::collections::BTreeMap;

use portcullis_recording::command::Source;
use portcullis_recording::event::{Event, Timed};

use crate::entry::TEXT_BYTES_MAX;

/// Channels whose requests are kept.
const CHANNELS_MAX: usize = 4096;

/// The label of commands that policy refused. No rule gives it: they were not run.
pub const REFUSED: &str = "refused";

/// A command as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When, in ms since the session opened.
    pub at_ms: u64,
    /// As it was sent, or stood on the screen; not safe to show yet.
    pub text: String,
    /// The exit status of its channel.
    pub status: Option<u32>,
}

/// The commands of a recording that no event of their own has told of yet.
#[derive(Debug, Default)]
pub struct Requests {
    /// Of exec requests, by channel.
    execs: BTreeMap<u32, Execs>,
    /// Lines of terminals that policy was asked about, by channel.
    lines: BTreeMap<u32, Asked>,
}

/// What was asked for on one channel. A second one is refused while the first runs.
#[derive(Debug, Default)]
struct Execs {
    /// It was permitted.
    runs: Option<Asked>,
    /// Nothing was decided about it yet.
    waits: Option<Asked>,
}

impl Execs {
    /// The one that a no is about: the one that waits for it, or a yes that was taken back.
    fn refused(&mut self) -> Option<Asked> {
        self.waits.take().or_else(|| self.runs.take())
    }

    fn permitted(&mut self) {
        if let Some(asked) = self.waits.take() {
            self.runs.get_or_insert(asked);
        }
    }

    /// The one that its status is of.
    fn first(&mut self) -> Option<&mut Asked> {
        self.runs.as_mut().or(self.waits.as_mut())
    }
}

impl Requests {
    /// Takes the next event; the command that it refuses, if it is about one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are about no command")]
    pub fn take(&mut self, timed: &Timed<'_>) -> Option<Asked> {
        let channel = timed.channel;
        match &timed.event {
            Event::Request { kind, detail, .. } => {
                let asked = Asked {
                    at_ms: timed.at_ms,
                    text: text(detail),
                    status: None,
                };
                match kind.as_ref() {
                    "exec" if self.execs.len() < CHANNELS_MAX || self.execs.contains_key(&channel) => {
                        self.execs.entry(channel).or_default().waits = Some(asked);
                    }
                    "command" if self.lines.len() < CHANNELS_MAX || self.lines.contains_key(&channel) => {
                        drop(self.lines.insert(channel, asked))
                    }
                    _ => {}
                }
                None
            }
            Event::Decision { action, allowed, .. } => match (action.as_ref(), allowed) {
                ("exec", true) => {
                    self.execs.entry(channel).and_modify(Execs::permitted);
                    None
                }
                ("exec", false) => self.execs.get_mut(&channel)?.refused(),
                // Of a line of a paste nothing is written down.
                ("command", false) => self.lines.remove(&channel).filter(|line| !line.text.is_empty()),
                _ => None,
            },
            Event::Command(command) if command.source == Source::Protocol => {
                self.execs.remove(&channel);
                None
            }
            Event::ExitStatus(status) => {
                self.execs.get_mut(&channel)?.first()?.status = Some(*status);
                None
            }
            Event::ChannelClose { .. } => {
                self.lines.remove(&channel);
                None
            }
            _ => None,
        }
    }

    /// Those of exec requests that nothing more was told of, with their channels.
    pub fn finish(self) -> impl Iterator<Item = (u32, Asked)> {
        let execs = self.execs.into_iter();
        execs.filter_map(|(channel, execs)| Some((channel, execs.runs.or(execs.waits)?)))
    }
}

fn text(detail: &[u8]) -> String {
    String::from_utf8_lossy(detail.get(..TEXT_BYTES_MAX).unwrap_or(detail)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(detail: &'static str) -> Event<'static> {
        Event::Request {
            kind: "exec".into(),
            detail: detail.as_bytes().into(),
            want: "".into(),
        }
    }

    fn decided(allowed: bool) -> Event<'static> {
        Event::Decision {
            action: "exec".into(),
            allowed,
            rule: "r".into(),
            code: "c".into(),
        }
    }

    /// What is refused, and what is left, with its status.
    fn told(events: Vec<Event<'static>>) -> (Vec<String>, Vec<(String, Option<u32>)>) {
        let mut requests = Requests::default();
        let refused = events.into_iter().zip(1..).filter_map(|(event, at_ms)| {
            let channel = 1;
            requests.take(&Timed { at_ms, channel, event })
        });
        let refused = refused.map(|asked| asked.text).collect();
        let left = requests.finish().map(|(_, asked)| (asked.text, asked.status));
        (refused, left.collect())
    }

    fn only(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn a_no_is_about_what_was_asked_last() {
        let one = told(vec![asked("reboot"), decided(false)]);
        assert_eq!(one, (only("reboot"), vec![]));
        // The first goes on.
        let second = vec![
            asked("id"),
            decided(true),
            asked("reboot"),
            decided(false),
            Event::ExitStatus(3),
        ];
        assert_eq!(told(second), (only("reboot"), vec![("id".to_owned(), Some(3))]));
        // It waited for somebody, who said no.
        let taken_back = vec![asked("reboot"), decided(true), decided(false)];
        assert_eq!(told(taken_back), (only("reboot"), vec![]));
        let again = vec![asked("reboot"), decided(false), asked("id"), decided(true)];
        assert_eq!(told(again), (only("reboot"), vec![("id".to_owned(), None)]));
        // Whoever wrote it decided nothing.
        assert_eq!(told(vec![asked("id")]), (vec![], vec![("id".to_owned(), None)]));
    }
}
