//! What each channel of a session is, as far as its events have told.

use std::collections::BTreeMap;

use portcullis_recording::Fault;
use portcullis_recording::event::{Direction, Event, Timed};

use crate::plain;
use crate::source::Cursor;

/// Channels remembered; a session that opens more gets no more of them described.
const CHANNELS_MAX: usize = 4096;
/// Chunks looked through for the channel to show.
const LOOK_CHUNKS_MAX: usize = 16;
/// Characters of a command that are shown in a status line.
const NAME_CHARS_MAX: usize = 200;

/// What runs on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Runs {
    /// Not known yet.
    #[default]
    Unknown,
    /// A login shell.
    Shell,
    /// One command.
    Exec,
    /// A subsystem such as sftp, whose bytes are a protocol.
    Subsystem,
    /// A forward.
    Forward,
}

/// One channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What runs on it.
    pub runs: Runs,
    /// The command, subsystem or address, safe to show.
    pub name: String,
    /// Whether anything came out of it.
    pub output: bool,
    /// Bytes of which only digests were kept: from the client, and from the target.
    pub digested: Option<(u64, u64)>,
}

/// All channels seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channels(BTreeMap<u32, Channel>);

impl Channels {
    /// Learns from one event.
    pub fn note(&mut self, timed: &Timed<'_>) {
        if timed.channel == 0 || (self.0.len() >= CHANNELS_MAX && !self.0.contains_key(&timed.channel)) {
            return;
        }
        let channel = self.0.entry(timed.channel).or_default();
        match &timed.event {
            Event::Resize { .. } | Event::Keyframe { .. } => channel.terminal = true,
            Event::ChannelOpen { kind, detail } if kind != "session" => {
                channel.runs = Runs::Forward;
                channel.name = plain::bytes(detail.as_bytes(), NAME_CHARS_MAX);
            }
            // Whatever is asked on a forward, it stays one.
            Event::Request { .. } if channel.runs == Runs::Forward => {}
            Event::Request { kind, detail, .. } => {
                let runs = match kind.as_ref() {
                    "pty-req" | "pty" => {
                        channel.terminal = true;
                        return;
                    }
                    "shell" => Runs::Shell,
                    "exec" => Runs::Exec,
                    "subsystem" => Runs::Subsystem,
                    _ => return,
                };
                channel.runs = runs;
                channel.name = plain::bytes(detail, NAME_CHARS_MAX);
            }
            Event::Output(_) | Event::Stderr(_) => channel.output = true,
            Event::Digest { direction, bytes, .. } => {
                let (up, down) = channel.digested.get_or_insert_default();
                let sum = match direction {
                    Direction::ToTarget => up,
                    Direction::ToClient | Direction::ToClientErr => down,
                };
                *sum = sum.saturating_add(*bytes);
            }
            // The rest tells nothing about what a channel is.
            Event::ChannelOpen { .. }
            | Event::Input(_)
            | Event::SealedInput { .. }
            | Event::LineKey { .. }
            | Event::HiddenInput { .. }
            | Event::HiddenLine { .. }
            | Event::Decision { .. }
            | Event::Notice { .. }
            | Event::Withheld { .. }
            | Event::Undelivered { .. }
            | Event::Eof { .. }
            | Event::ExitStatus(_)
            | Event::ExitSignal { .. }
            | Event::ChannelClose { .. }
            | Event::ClockStep { .. }
            | Event::Marker { .. }
            | Event::Accounts(_)
            | Event::File(_)
            | Event::Command(_)
            | Event::End { .. } => {}
        }
    }

    /// One of them.
    pub fn get(&self, channel: u32) -> Option<&Channel> {
        self.0.get(&channel)
    }

    /// Their numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// Of channels whose bytes were not kept, how many these were, in words.
    pub fn digests(&self) -> Vec<(u32, String)> {
        let words = |(n, channel): (&u32, &Channel)| {
            let (up, down) = channel.digested?;
            Some((*n, not_kept(up, down)))
        };
        self.0.iter().filter_map(words).collect()
    }

    /// Those with a terminal.
    pub fn terminals(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().filter(|(_, c)| c.terminal).map(|(n, _)| *n)
    }

    /// The one to show if nobody chose: the first terminal, otherwise the first that said something, otherwise the first.
    pub fn first(&self) -> Option<u32> {
        let said = || self.0.iter().find(|(_, c)| c.output).map(|(n, _)| *n);
        self.terminals().next().or_else(said).or_else(|| self.numbers().next())
    }
}

/// What is said of bytes of which only digests were kept.
pub fn not_kept(up: u64, down: u64) -> String {
    format!("digest: {up} bytes up, {down} down, not kept")
}

/// Looks through the beginning of a recording, until the first terminal has said something, and goes back to its start.
pub fn survey(cursor: &mut Cursor) -> Result<Channels, Fault> {
    let mut channels = Channels::default();
    cursor.rewind_to(0);
    while cursor.chunk() < LOOK_CHUNKS_MAX {
        let Some(timed) = cursor.next_event()? else {
            break;
        };
        channels.note(&timed);
        let terminal = channels.get(timed.channel).is_some_and(|c| c.terminal);
        if terminal && matches!(timed.event, Event::Output(_)) {
            break;
        }
    }
    cursor.rewind_to(0);
    Ok(channels)
}
