//! A session as plain text: what its terminals and commands printed, and what happened in between.

use std::cell::Cell;
use std::collections::BTreeMap;

use portcullis_recording::event::{Direction, Event, NoticeHow, Party, Timed};
use serde::Serialize;

use crate::channels::{Channels, Runs};
use crate::commands;
use crate::failure::Failure;
use crate::grid::{GRIDS_MAX, SIZE_DEFAULT, Stream};
use crate::lines::Lines;
use crate::moved;
use crate::plain::{self, Utf8};
use crate::source::Cursor;
use crate::transcript::{Item, Transcript};

/// Characters of one remark's text.
const REMARK_CHARS_MAX: usize = 4096;
/// What a remark about bytes that were not kept is called. There may be very many of them.
pub const DIGEST: &str = "digest";
/// What a remark about a file is called.
pub const FILE: &str = "file";
/// What a remark about a command is called.
pub const COMMAND: &str = "command";
/// Channels whose text is kept apart; the rest is only counted.
const CHANNELS_MAX: usize = 256;

/// What to leave out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice {
    /// Only this channel, and what concerns the whole connection.
    pub channel: Option<u32>,
    /// What was typed as well.
    pub input: bool,
    /// Only what was said at this time or later, in ms since the session opened. What a terminal showed then is said
    /// when it leaves the screen.
    pub from_ms: u64,
}

/// Something said about the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// When.
    pub at_ms: u64,
    /// What kind of event it was.
    pub kind: &'static str,
    /// Its words, safe to show.
    pub text: String,
}

/// One piece of text, safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Piece {
    /// A line of standard output or of a terminal.
    Line {
        /// Its channel.
        channel: u32,
        /// The line.
        text: String,
    },
    /// A line of standard error.
    ErrorLine {
        /// Its channel.
        channel: u32,
        /// The line.
        text: String,
    },
    /// What a full-screen program showed last.
    Screen {
        /// Its channel.
        channel: u32,
        /// Its rows.
        rows: Vec<String>,
    },
    /// What happened.
    Remark {
        /// Its channel, 0 for the connection.
        channel: u32,
        /// The event.
        #[serde(flatten)]
        remark: Remark,
    },
}

/// The text of one channel.
enum Voice {
    Terminal(Box<Transcript<(u32, Remark)>>),
    Plain(Box<[Lines; 2]>),
    /// A protocol, or a file: bytes are counted, not shown.
    Binary(u64),
}

/// Gives the pieces in order until `each` fails or nothing is left.
pub fn pieces(
    cursor: &mut Cursor,
    choice: Choice,
    each: &mut dyn FnMut(Piece) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let now_ms = Cell::new(0);
    let mut later = |piece| match now_ms.get() < choice.from_ms {
        true => Ok(()),
        false => each(piece),
    };
    let mut teller = Teller {
        choice,
        channels: Channels::default(),
        voices: BTreeMap::new(),
        typed: BTreeMap::new(),
        latest: 0,
        last_words: Vec::new(),
        each: &mut later,
    };
    while let Some(timed) = cursor.next_event()? {
        now_ms.set(timed.at_ms);
        teller.channels.note(&timed);
        let concerns = timed.channel == 0 || choice.channel.is_none_or(|c| c == timed.channel);
        if concerns {
            teller.event(&timed)?;
        }
    }
    now_ms.set(u64::MAX);
    teller.finish()
}

struct Teller<'e> {
    choice: Choice,
    channels: Channels,
    voices: BTreeMap<u32, Voice>,
    /// Input of a channel since its last Enter, and when it began.
    typed: BTreeMap<u32, (u64, Utf8, String)>,
    /// The channel that printed last: what concerns the connection is said there.
    latest: u32,
    /// Why the session ended, which is said when everything else was.
    last_words: Vec<Remark>,
    each: &'e mut dyn FnMut(Piece) -> Result<(), Failure>,
}

impl Teller<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events become remarks or nothing, by `remark`"
    )]
    fn event(&mut self, timed: &Timed<'_>) -> Result<(), Failure> {
        let (channel, at_ms) = (timed.channel, timed.at_ms);
        match &timed.event {
            Event::Output(bytes) => self.output(channel, Stream::Out, bytes),
            Event::Stderr(bytes) => self.output(channel, Stream::Err, bytes),
            Event::Resize { cols, rows, .. } => match self.voices.get_mut(&channel) {
                Some(Voice::Terminal(transcript)) => {
                    let items = transcript.resize(*cols, *rows);
                    self.items(channel, items)
                }
                Some(_) => Ok(()),
                None => {
                    self.add(channel, Voice::Terminal(Box::new(Transcript::new(*cols, *rows))));
                    Ok(())
                }
            },
            Event::Input(bytes) if self.choice.input => self.input(channel, at_ms, bytes),
            Event::End { .. } => {
                let words = remark(&timed.event).map(|(kind, text)| Remark { at_ms, kind, text });
                // The format has one such event; a hostile file may have a million.
                if self.last_words.is_empty() {
                    self.last_words.extend(words);
                }
                Ok(())
            }
            // One a batch: each is told to who looks at this channel alone, and their sum to all.
            Event::Digest { .. } if self.choice.channel.is_none() => Ok(()),
            event => match remark(event) {
                Some((kind, text)) if self.choice.input || kind != "hidden input" => {
                    let at_ms = said_of(timed);
                    self.remark(channel, Remark { at_ms, kind, text })
                }
                _ => Ok(()),
            },
        }
    }

    fn add(&mut self, channel: u32, voice: Voice) {
        if self.voices.len() >= CHANNELS_MAX {
            return;
        }
        let terminals = self.voices.values().filter(|v| matches!(v, Voice::Terminal(_))).count();
        let voice = match voice {
            // More of them are read as lines.
            Voice::Terminal(_) if terminals >= GRIDS_MAX => Voice::Plain(Box::default()),
            voice @ (Voice::Terminal(_) | Voice::Plain(_) | Voice::Binary(_)) => voice,
        };
        self.voices.insert(channel, voice);
    }

    fn output(&mut self, channel: u32, stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
        if !self.voices.contains_key(&channel) {
            let known = self.channels.get(channel);
            let voice = match known {
                Some(c) if c.terminal => Voice::Terminal(Box::new(Transcript::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1))),
                Some(c) if matches!(c.runs, Runs::Subsystem | Runs::Forward) => Voice::Binary(0),
                _ => Voice::Plain(Box::default()),
            };
            self.add(channel, voice);
        }
        self.latest = channel;
        let (mut items, mut lines) = (Vec::new(), Vec::new());
        match self.voices.get_mut(&channel) {
            None => {}
            Some(Voice::Terminal(transcript)) => items = transcript.feed(stream, bytes),
            Some(Voice::Binary(n)) => *n += bytes.len() as u64,
            // No text has a NUL in it.
            Some(voice) if bytes.contains(&0) => *voice = Voice::Binary(bytes.len() as u64),
            Some(Voice::Plain(streams)) => {
                let [out, err] = &mut **streams;
                match stream {
                    Stream::Out => out.push(bytes, |text| lines.push(Piece::Line { channel, text })),
                    Stream::Err => err.push(bytes, |text| lines.push(Piece::ErrorLine { channel, text })),
                }
            }
        }
        self.items(channel, items)?;
        lines.into_iter().try_for_each(&mut *self.each)
    }

    fn input(&mut self, channel: u32, at_ms: u64, bytes: &[u8]) -> Result<(), Failure> {
        let terminal = self.channels.get(channel).is_some_and(|c| c.terminal);
        if !terminal {
            let text = format!("{} bytes: {}", bytes.len(), plain::bytes(bytes, 80));
            return self.remark(
                channel,
                Remark {
                    at_ms,
                    kind: "input",
                    text,
                },
            );
        }
        let (began_ms, utf8, line) = self
            .typed
            .entry(channel)
            .or_insert((at_ms, Utf8::default(), String::new()));
        if line.is_empty() {
            *began_ms = at_ms;
        }
        line.push_str(&utf8.push(bytes));
        if line.len() < REMARK_CHARS_MAX && !line.contains(['\r', '\n', '\u{3}', '\u{4}']) {
            return Ok(());
        }
        let (at_ms, text) = (*began_ms, plain::pictured(&std::mem::take(line)));
        self.remark(
            channel,
            Remark {
                at_ms,
                kind: "input",
                text,
            },
        )
    }

    fn remark(&mut self, channel: u32, remark: Remark) -> Result<(), Failure> {
        let place = if channel == 0 { self.latest } else { channel };
        if let Some(Voice::Terminal(transcript)) = self.voices.get_mut(&place) {
            let ready = transcript.remark((channel, remark));
            return self.items(place, ready.into_iter().collect());
        }
        (self.each)(Piece::Remark { channel, remark })
    }

    fn items(&mut self, channel: u32, items: Vec<Item<(u32, Remark)>>) -> Result<(), Failure> {
        items.into_iter().try_for_each(|item| {
            (self.each)(match item {
                Item::Line(text) => Piece::Line { channel, text },
                Item::Screen(rows) => Piece::Screen { channel, rows },
                Item::Remark((channel, remark)) => Piece::Remark { channel, remark },
            })
        })
    }

    fn finish(mut self) -> Result<(), Failure> {
        for (channel, (at_ms, _, line)) in std::mem::take(&mut self.typed) {
            if !line.is_empty() {
                let text = plain::pictured(&line);
                self.remark(
                    channel,
                    Remark {
                        at_ms,
                        kind: "input",
                        text,
                    },
                )?;
            }
        }
        for (channel, voice) in std::mem::take(&mut self.voices) {
            match voice {
                Voice::Terminal(transcript) => {
                    let abridged = transcript.is_abridged();
                    self.items(channel, transcript.finish())?;
                    if abridged {
                        self.note(
                            channel,
                            "abridged: runaway control sequences were passed over".to_owned(),
                        )?;
                    }
                }
                Voice::Plain(mut streams) => {
                    let [out, err] = &mut *streams;
                    let mut lines = Vec::new();
                    out.finish(|text| lines.push(Piece::Line { channel, text }));
                    err.finish(|text| lines.push(Piece::ErrorLine { channel, text }));
                    lines.into_iter().try_for_each(&mut *self.each)?;
                }
                Voice::Binary(n) => self.note(channel, format!("{n} bytes that are no text are not shown"))?,
            }
        }
        for (channel, text) in self.channels.digests() {
            if self.choice.channel.is_none_or(|only| only == channel) {
                self.note(channel, text)?;
            }
        }
        for remark in std::mem::take(&mut self.last_words) {
            (self.each)(Piece::Remark { channel: 0, remark })?;
        }
        Ok(())
    }

    fn note(&mut self, channel: u32, text: String) -> Result<(), Failure> {
        let remark = Remark {
            at_ms: 0,
            kind: "player",
            text,
        };
        (self.each)(Piece::Remark { channel, remark })
    }
}

/// When that was which an event tells, in ms: commands are told behind what they showed.
pub fn said_of(timed: &Timed<'_>) -> u64 {
    if let Event::Command(command) = &timed.event {
        return command.began_ms;
    }
    timed.at_ms
}

/// What an event says, in words: its kind and a text that is safe to show. Output, input and sizes say nothing.
pub fn remark(event: &Event<'_>) -> Option<(&'static str, String)> {
    let shown = |bytes: &[u8]| plain::bytes(bytes.trim_ascii(), REMARK_CHARS_MAX);
    Some(match event {
        Event::HiddenInput { len_class, .. } => (
            "hidden input",
            format!(
                "a line of at most {} bytes that was not echoed",
                1u64 << (*len_class).min(63)
            ),
        ),
        Event::HiddenLine { prompt, .. } if prompt.is_empty() => return None,
        Event::HiddenLine { prompt, .. } => ("hidden input", format!("typed behind `{}`", shown(prompt.as_bytes()))),
        Event::ChannelOpen { kind, detail } => ("channel", shown(format!("{kind} {detail}").as_bytes())),
        Event::Request { kind, detail, .. } => {
            let kind = plain::bytes(kind.as_bytes(), 64);
            ("request", format!("{kind} {}", shown(detail)).trim_end().to_owned())
        }
        Event::Decision {
            action,
            allowed,
            rule,
            code,
        } => {
            let word = if *allowed { "permitted" } else { "refused" };
            (
                "decision",
                shown(format!("{action} {word} by {rule} ({code})").as_bytes()),
            )
        }
        Event::Notice { bytes, how } => {
            let how = match how {
                NoticeHow::Stderr => "",
                NoticeHow::Title => "as a title: ",
                NoticeHow::Disconnect => "when disconnecting: ",
                NoticeHow::Reply => "in the target's place: ",
                NoticeHow::Keys => "typed at the target: ",
            };
            ("notice", format!("{how}{}", shown(bytes)))
        }
        Event::Withheld { direction, bytes, why } => (
            "withheld",
            shown(format!("{bytes} bytes {}: {why}", way(*direction)).as_bytes()),
        ),
        Event::Undelivered { direction, bytes } => ("undelivered", format!("{bytes} bytes {}", way(*direction))),
        Event::ExitStatus(status) => ("exit", format!("status {status}")),
        Event::ExitSignal { name, core, message } => {
            let core = if *core { ", core dumped" } else { "" };
            ("exit", shown(format!("signal {name}{core} {message}").as_bytes()))
        }
        Event::ChannelClose { by } => {
            let by = match by {
                Party::Client => "the client",
                Party::Target => "the target",
                Party::Gate => "Portcullis",
            };
            ("closed", format!("by {by}"))
        }
        Event::ClockStep {
            wall_before_ms,
            wall_after_ms,
        } => {
            let utc = crate::times::utc;
            (
                "clock",
                format!(
                    "the wall clock was stepped from {} to {}",
                    utc(*wall_before_ms),
                    utc(*wall_after_ms)
                ),
            )
        }
        Event::Marker { text } => ("marker", shown(text.as_bytes())),
        Event::Digest {
            direction,
            bytes,
            sha256,
        } => {
            let hash = plain::hex(sha256);
            let way = way(*direction);
            (DIGEST, format!("{bytes} bytes {way}, not kept, SHA-256 {hash}"))
        }
        Event::File(moved) => (FILE, shown(moved::words(moved).as_bytes())),
        Event::Command(command) => (COMMAND, shown(commands::words(command).as_bytes())),
        Event::End { code, text } => ("end", shown(format!("{code}: {text}").as_bytes())),
        Event::Output(_)
        | Event::Input(_)
        | Event::Stderr(_)
        | Event::Resize { .. }
        | Event::SealedInput { .. }
        | Event::LineKey { .. }
        | Event::Eof { .. }
        | Event::Keyframe { .. }
        | Event::Accounts(_) => return None,
    })
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::ToTarget => "to the target",
        Direction::ToClient => "to the client",
        Direction::ToClientErr => "to the client's standard error",
    }
}
