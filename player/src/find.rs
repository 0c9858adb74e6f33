//! What is looked for in a recording, and where it was found: screens, input, events, or raw bytes.

use std::collections::BTreeMap;

use portcullis_recording::event::{Event, Timed};
use regex::{Regex, RegexBuilder, bytes};
use serde::Serialize;

use crate::channels::{Channels, Runs};
use crate::grid::{GRIDS_MAX, SIZE_DEFAULT, Stream};
use crate::lines::Lines;
use crate::plain::{self, Utf8};
use crate::text::{remark, said_of};
use crate::watch::Watch;

/// Characters of a line that are shown of a hit.
const EXCERPT_CHARS_MAX: usize = 400;
/// Characters before the match among them.
const EXCERPT_LEAD_CHARS: usize = 100;
/// Channels searched apart.
const CHANNELS_MAX: usize = 256;
/// Bytes of one line of input, or of a raw line.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 4 << 20;

/// Where a hit was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On a terminal's screen as it was drawn, or in a command's output.
    Output,
    /// Typed, and echoed.
    Input,
    /// A request, decision, notice, marker, exit or end.
    Event,
    /// The bytes that came out, escape sequences and all.
    Raw,
}

impl Place {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Place::Output => "output",
            Place::Input => "input",
            Place::Event => "event",
            Place::Raw => "raw",
        }
    }
}

/// One line that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// When it came up.
    pub at_ms: u64,
    /// On which channel; 0 is the connection.
    pub channel: u32,
    /// Where.
    pub place: Place,
    /// The line, or the part of a long one around the match. Safe to show.
    pub text: String,
}

/// How a pattern is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// It is the text itself, not a pattern.
    pub literal: bool,
}

/// Text that is looked for.
#[derive(Debug, Clone)]
pub struct Query {
    /// The pattern.
    pub pattern: Regex,
    /// The same over bytes, if raw output is searched instead of screens.
    pub raw: Option<bytes::Regex>,
    /// Look at screens and output.
    pub output: bool,
    /// Look at what was typed.
    pub input: bool,
    /// Look at what happened.
    pub events: bool,
    /// Only on this channel, and in what concerns the connection.
    pub channel: Option<u32>,
}

impl Query {
    /// Looks everywhere. The error says what is wrong with the pattern.
    pub fn new(pattern: &str, how: Reading) -> Result<Query, String> {
        Ok(Query {
            pattern: RegexBuilder::new(&source(pattern, how))
                .case_insensitive(how.ignore_case)
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .map_err(|e| e.to_string())?,
            raw: None,
            output: true,
            input: true,
            events: true,
            channel: None,
        })
    }

    /// Looks at raw output instead of screens.
    pub fn raw(mut self, pattern: &str, how: Reading) -> Result<Query, String> {
        let raw = bytes::RegexBuilder::new(&source(pattern, how))
            .case_insensitive(how.ignore_case)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|e| e.to_string())?;
        self.raw = Some(raw);
        Ok(self)
    }
}

fn source(pattern: &str, how: Reading) -> String {
    if how.literal {
        regex::escape(pattern)
    } else {
        pattern.to_owned()
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Text.
    Text(Box<Query>),
    /// Markers.
    Markers,
    /// Requests for shells, commands and subsystems.
    Commands,
}

/// How one channel is searched.
enum Voice {
    Terminal(Box<Watch>),
    Plain(Box<[Lines; 2]>),
    Raw([Torn; 2]),
    /// A protocol or a file: nothing that is read as lines.
    Binary,
}

/// A raw line whose end has not come, and when its parts came.
#[derive(Default)]
struct Torn {
    bytes: Vec<u8>,
    parts: Vec<(usize, u64)>,
}

/// Goes through events and gives what is wanted among them.
pub struct Finder {
    wanted: Wanted,
    channels: Channels,
    voices: BTreeMap<u32, Voice>,
    /// Input of a channel since its last Enter, and when it began.
    typed: BTreeMap<u32, (u64, Utf8, String)>,
    last_ms: u64,
    found: u64,
}

impl Finder {
    /// At a place where drawing can start. `channels` is what is known of the channels there.
    pub fn new(wanted: Wanted, channels: Channels) -> Finder {
        Finder {
            wanted,
            channels,
            voices: BTreeMap::new(),
            typed: BTreeMap::new(),
            last_ms: 0,
            found: 0,
        }
    }

    /// How much was found so far.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// Takes the next event.
    pub fn take(&mut self, timed: &Timed<'_>, each: &mut dyn FnMut(Hit)) {
        self.last_ms = timed.at_ms;
        let found = &mut self.found;
        let each = &mut |hit: Hit| {
            *found += 1;
            each(hit);
        };
        let Wanted::Text(query) = &self.wanted else {
            if is_mark(&self.wanted, &timed.event)
                && let Some((kind, text)) = remark(&timed.event)
            {
                each(Hit {
                    at_ms: timed.at_ms,
                    channel: timed.channel,
                    place: Place::Event,
                    text: format!("{kind}: {text}"),
                });
            }
            return;
        };
        self.channels.note(timed);
        if timed.channel != 0 && query.channel.is_some_and(|only| only != timed.channel) {
            return;
        }
        let mut search = Search {
            query,
            at_ms: said_of(timed),
            channel: timed.channel,
            each,
        };
        search.event(timed, &self.channels, &mut self.voices, &mut self.typed);
    }

    /// Nothing follows: gives what was in unfinished lines.
    pub fn finish(mut self, each: &mut dyn FnMut(Hit)) {
        let Wanted::Text(query) = &self.wanted else {
            return;
        };
        for (channel, (at_ms, _, line)) in std::mem::take(&mut self.typed) {
            let mut search = Search {
                query,
                at_ms,
                channel,
                each,
            };
            search.text(Place::Input, &plain::pictured(&line));
        }
        for (channel, voice) in std::mem::take(&mut self.voices) {
            let mut search = Search {
                query,
                at_ms: self.last_ms,
                channel,
                each,
            };
            match voice {
                Voice::Plain(mut both) => both
                    .iter_mut()
                    .for_each(|lines| lines.finish(|text| search.text(Place::Output, &text))),
                Voice::Raw(both) => both.iter().for_each(|line| search.raw(line)),
                // A terminal's lines are found when they come up.
                Voice::Terminal(_) | Voice::Binary => {}
            }
        }
    }
}

fn is_mark(wanted: &Wanted, event: &Event<'_>) -> bool {
    match (wanted, event) {
        (Wanted::Markers, Event::Marker { .. }) => true,
        (Wanted::Commands, Event::Request { kind, .. }) => matches!(kind.as_ref(), "exec" | "shell" | "subsystem"),
        _ => false,
    }
}

/// The search in one event.
struct Search<'s> {
    query: &'s Query,
    at_ms: u64,
    channel: u32,
    each: &'s mut dyn FnMut(Hit),
}

impl Search<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are searched by their words, if they have any"
    )]
    fn event(
        &mut self,
        timed: &Timed<'_>,
        channels: &Channels,
        voices: &mut BTreeMap<u32, Voice>,
        typed: &mut BTreeMap<u32, (u64, Utf8, String)>,
    ) {
        let query = self.query;
        let wanted = |text: &str| query.pattern.is_match(text);
        match &timed.event {
            Event::Output(bytes) if self.query.output => self.output(Stream::Out, bytes, channels, voices),
            Event::Stderr(bytes) if self.query.output => self.output(Stream::Err, bytes, channels, voices),
            Event::Resize { cols, rows, .. } if self.query.output && self.query.raw.is_none() => {
                match voices.get_mut(&self.channel) {
                    Some(Voice::Terminal(watch)) => {
                        let lines = watch.resize(*cols, *rows, &wanted);
                        lines.iter().for_each(|line| self.found(Place::Output, line));
                    }
                    Some(_) => {}
                    None => add(
                        voices,
                        self.channel,
                        Voice::Terminal(Box::new(Watch::new(*cols, *rows))),
                    ),
                }
            }
            // Coming from the chunk before, its lines are known already.
            Event::Keyframe { .. } if voices.contains_key(&self.channel) => {}
            Event::Keyframe { cols, rows, dump } if self.query.output && self.query.raw.is_none() => {
                let watch = Watch::from_keyframe(*cols, *rows, dump, &wanted);
                add(voices, self.channel, Voice::Terminal(Box::new(watch)));
            }
            Event::Input(bytes) if self.query.input => {
                let terminal = channels.get(self.channel).is_some_and(|c| c.terminal);
                self.input(bytes, terminal, typed);
            }
            event if self.query.events => {
                if let Some((kind, text)) = remark(event) {
                    self.text(Place::Event, format!("{kind}: {text}").trim_end());
                }
            }
            _ => {}
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8], channels: &Channels, voices: &mut BTreeMap<u32, Voice>) {
        if !voices.contains_key(&self.channel) {
            let known = channels.get(self.channel);
            let voice = match known {
                _ if self.query.raw.is_some() => Voice::Raw(Default::default()),
                Some(c) if c.terminal => Voice::Terminal(Box::new(Watch::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1))),
                Some(c) if matches!(c.runs, Runs::Subsystem | Runs::Forward) => Voice::Binary,
                _ => Voice::Plain(Box::default()),
            };
            add(voices, self.channel, voice);
        }
        match voices.get_mut(&self.channel) {
            None | Some(Voice::Binary) => {}
            Some(Voice::Terminal(watch)) => {
                let lines = watch.feed(stream, bytes, &|text| self.query.pattern.is_match(text));
                lines.iter().for_each(|line| self.found(Place::Output, line));
            }
            Some(Voice::Plain(both)) => {
                let [out, err] = &mut **both;
                let lines = if stream == Stream::Out { out } else { err };
                lines.push(bytes, |text| self.text(Place::Output, &text));
            }
            Some(Voice::Raw([out, err])) => {
                let torn = if stream == Stream::Out { out } else { err };
                for part in bytes.split_inclusive(|b| *b == b'\n') {
                    torn.parts.push((torn.bytes.len(), self.at_ms));
                    torn.bytes.extend_from_slice(part);
                    if part.ends_with(b"\n") || torn.bytes.len() > LINE_BYTES_MAX {
                        self.raw(torn);
                        torn.bytes.clear();
                        torn.parts.clear();
                    }
                }
            }
        }
    }

    fn input(&mut self, bytes: &[u8], terminal: bool, typed: &mut BTreeMap<u32, (u64, Utf8, String)>) {
        if typed.len() >= CHANNELS_MAX && !typed.contains_key(&self.channel) {
            return;
        }
        let fresh = (self.at_ms, Utf8::default(), String::new());
        let (began_ms, utf8, line) = typed.entry(self.channel).or_insert(fresh);
        if line.is_empty() {
            *began_ms = self.at_ms;
        }
        line.push_str(&utf8.push(bytes));
        // What goes to a program that is no terminal has lines, too, but nobody presses Control-C in it.
        let ends: &[char] = if terminal {
            &['\r', '\n', '\u{3}', '\u{4}']
        } else {
            &['\n']
        };
        if line.len() < LINE_BYTES_MAX && !line.contains(ends) {
            return;
        }
        let (at_ms, text) = (*began_ms, std::mem::take(line));
        let now_ms = std::mem::replace(&mut self.at_ms, at_ms);
        for part in text.split_inclusive(ends) {
            self.text(Place::Input, &plain::pictured(part));
        }
        self.at_ms = now_ms;
    }

    fn text(&mut self, place: Place, text: &str) {
        if self.query.pattern.is_match(text) {
            self.found(place, text);
        }
    }

    fn raw(&mut self, torn: &Torn) {
        let line = &torn.bytes;
        let Some(found) = self.query.raw.as_ref().and_then(|raw| raw.find(line)) else {
            return;
        };
        let from = found.start().saturating_sub(EXCERPT_LEAD_CHARS);
        let text = plain::bytes(line.get(from..).unwrap_or_default().trim_ascii_end(), EXCERPT_CHARS_MAX);
        // It was there once its last byte had come.
        let last = torn.parts.iter().rfind(|(at, _)| *at < found.end().max(1));
        let now_ms = self.at_ms;
        self.at_ms = last.map_or(now_ms, |(_, at_ms)| *at_ms);
        self.hit(Place::Raw, text);
        self.at_ms = now_ms;
    }

    /// A line that matches; of a long one the part around the match is kept.
    fn found(&mut self, place: Place, text: &str) {
        let start = self.query.pattern.find(text).map_or(0, |found| found.start());
        let lead = text.get(..start).unwrap_or_default().chars().count();
        let skipped = lead.saturating_sub(EXCERPT_LEAD_CHARS);
        let mut rest = text.chars().skip(skipped);
        let mut shown: String = if skipped > 0 { "…".to_owned() } else { String::new() };
        shown.extend(rest.by_ref().take(EXCERPT_CHARS_MAX));
        if rest.next().is_some() {
            shown.push('…');
        }
        self.hit(place, plain::line(&shown));
    }

    fn hit(&mut self, place: Place, text: String) {
        (self.each)(Hit {
            at_ms: self.at_ms,
            channel: self.channel,
            place,
            text,
        });
    }
}

fn add(voices: &mut BTreeMap<u32, Voice>, channel: u32, voice: Voice) {
    if voices.len() >= CHANNELS_MAX {
        return;
    }
    let terminals = voices.values().filter(|v| matches!(v, Voice::Terminal(_))).count();
    let voice = match voice {
        // More of them are searched as lines.
        Voice::Terminal(_) if terminals >= GRIDS_MAX => Voice::Plain(Box::default()),
        voice @ (Voice::Terminal(_) | Voice::Plain(_) | Voice::Raw(_) | Voice::Binary) => voice,
    };
    voices.insert(channel, voice);
}
