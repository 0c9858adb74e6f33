//! Commands that were asked for: what became of them says another event, or none.

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
    execs: BTreeMap<u32, Asked>,
    /// Lines of terminals that policy was asked about, by channel.
    lines: BTreeMap<u32, Asked>,
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
                    "exec" if self.execs.len() < CHANNELS_MAX => drop(self.execs.entry(channel).or_insert(asked)),
                    "command" if self.lines.len() < CHANNELS_MAX || self.lines.contains_key(&channel) => {
                        drop(self.lines.insert(channel, asked))
                    }
                    _ => {}
                }
                None
            }
            Event::Decision {
                action, allowed: false, ..
            } => match action.as_ref() {
                "exec" => self.execs.remove(&channel),
                // Of a line of a paste nothing is written down.
                "command" => self.lines.remove(&channel).filter(|line| !line.text.is_empty()),
                _ => None,
            },
            Event::Command(command) if command.source == Source::Protocol => {
                self.execs.remove(&channel);
                None
            }
            Event::ExitStatus(status) => {
                if let Some(exec) = self.execs.get_mut(&channel) {
                    exec.status = Some(*status);
                }
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
        self.execs.into_iter()
    }
}

fn text(detail: &[u8]) -> String {
    String::from_utf8_lossy(detail.get(..TEXT_BYTES_MAX).unwrap_or(detail)).into_owned()
}
