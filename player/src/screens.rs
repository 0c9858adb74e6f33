//! Lines that terminals showed and commands printed, each told once and as it was in the end, with the time at which a
//! player shows it.

use std::collections::BTreeMap;

use portcullis_recording::event::{Event, Timed};

use crate::channels::{Channels, Runs};
use crate::grid::{GRIDS_MAX, SIZE_DEFAULT, Stream};
use crate::lines::Lines;
use crate::plain;
use crate::transcript::{Item, Transcript};

/// Channels looked at.
const CHANNELS_MAX: usize = 256;
/// How exact the time of a line on a screen is, in ms.
const EXACT_MS: u64 = 250;

/// Takes a line: when, on which channel, and what.
pub type Each<'e> = dyn FnMut(u64, u32, &str) + 'e;

/// How one channel is looked at.
enum Voice {
    Terminal(Box<Shown>),
    Plain(Box<[Lines; 2]>),
    /// A protocol: nothing that is read as lines.
    Binary,
}

/// A terminal. Times stand in its transcript as remarks, where the cursor was then.
struct Shown {
    transcript: Transcript<u64>,
    /// The last time that was put there.
    placed_ms: Option<u64>,
    /// When something was drawn last.
    drawn_ms: u64,
    /// Of the lines that are told next.
    line_ms: u64,
}

impl Shown {
    fn new(cols: u32, rows: u32) -> Shown {
        Shown {
            transcript: Transcript::new(cols, rows),
            placed_ms: None,
            drawn_ms: 0,
            line_ms: 0,
        }
    }

    fn feed(&mut self, at_ms: u64, stream: Stream, bytes: &[u8], each: &mut dyn FnMut(u64, &str)) {
        if self
            .placed_ms
            .is_none_or(|placed| at_ms >= placed.saturating_add(EXACT_MS))
        {
            self.placed_ms = Some(at_ms);
            if let Some(Item::Remark(ms)) = self.transcript.remark(at_ms) {
                self.line_ms = ms;
            }
        }
        let items = self.transcript.feed(stream, bytes);
        self.tell(items, each);
        self.drawn_ms = at_ms;
    }

    fn tell(&mut self, items: Vec<Item<u64>>, each: &mut dyn FnMut(u64, &str)) {
        for item in items {
            match item {
                Item::Remark(ms) => self.line_ms = ms,
                Item::Line(line) => each(self.line_ms, &line),
                // It is gone when this is told: a player shows it just before.
                Item::Screen(lines) => lines.iter().for_each(|line| each(self.drawn_ms, line)),
            }
        }
    }
}

/// Goes through events.
#[derive(Default)]
pub struct Screens {
    channels: Channels,
    voices: BTreeMap<u32, Voice>,
    last_ms: u64,
}

impl Screens {
    /// Takes the next event, from the first on.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events draw nothing")]
    pub fn take(&mut self, timed: &Timed<'_>, each: &mut Each<'_>) {
        self.channels.note(timed);
        self.last_ms = timed.at_ms;
        let channel = timed.channel;
        let each = &mut |at_ms: u64, line: &str| each(at_ms, channel, line);
        match &timed.event {
            Event::Output(bytes) => self.output(timed, Stream::Out, bytes, each),
            Event::Stderr(bytes) => self.output(timed, Stream::Err, bytes, each),
            Event::Resize { cols, rows, .. } => match self.voices.get_mut(&channel) {
                Some(Voice::Terminal(shown)) => {
                    let items = shown.transcript.resize(*cols, *rows);
                    shown.tell(items, each);
                }
                Some(_) => {}
                None => self.add(channel, Voice::Terminal(Box::new(Shown::new(*cols, *rows)))),
            },
            _ => {}
        }
    }

    fn output(&mut self, timed: &Timed<'_>, stream: Stream, bytes: &[u8], each: &mut dyn FnMut(u64, &str)) {
        let channel = timed.channel;
        if !self.voices.contains_key(&channel) {
            let voice = match self.channels.get(channel) {
                Some(c) if c.terminal => Voice::Terminal(Box::new(Shown::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1))),
                Some(c) if matches!(c.runs, Runs::Subsystem | Runs::Forward) => Voice::Binary,
                _ => Voice::Plain(Box::default()),
            };
            self.add(channel, voice);
        }
        match self.voices.get_mut(&channel) {
            None | Some(Voice::Binary) => {}
            Some(Voice::Terminal(shown)) => shown.feed(timed.at_ms, stream, bytes, each),
            Some(Voice::Plain(both)) => {
                let [out, err] = &mut **both;
                let lines = if stream == Stream::Out { out } else { err };
                lines.push(bytes, |line| each(timed.at_ms, &line));
            }
        }
    }

    /// Nothing follows: tells what is left on screens and of unfinished lines.
    pub fn finish(self, each: &mut Each<'_>) {
        for (channel, voice) in self.voices {
            let each = &mut |at_ms: u64, line: &str| each(at_ms, channel, line);
            match voice {
                Voice::Binary => {}
                Voice::Plain(mut both) => both
                    .iter_mut()
                    .for_each(|lines| lines.finish(|line| each(self.last_ms, &line))),
                Voice::Terminal(shown) => {
                    let Shown {
                        transcript,
                        placed_ms,
                        drawn_ms,
                        line_ms,
                    } = *shown;
                    let mut rest = Shown {
                        transcript: Transcript::new(1, 1),
                        placed_ms,
                        drawn_ms,
                        line_ms,
                    };
                    rest.tell(transcript.finish(), each);
                }
            }
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
            voice @ (Voice::Terminal(_) | Voice::Plain(_) | Voice::Binary) => voice,
        };
        self.voices.insert(channel, voice);
    }
}

/// Whether there is anything in a line to look for.
pub fn is_blank(line: &str) -> bool {
    line.chars().all(|c| c.is_whitespace() || c == plain::REPLACEMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_as_they_were_in_the_end_with_their_time() {
        let mut screens = Screens::default();
        let mut told = Vec::new();
        let mut each = |at_ms: u64, channel: u32, line: &str| told.push((at_ms, channel, line.to_owned()));
        let size = Event::Resize {
            cols: 20,
            rows: 4,
            px_width: 0,
            px_height: 0,
        };
        let out = |text: &'static str| Event::Output(text.as_bytes().into());
        let events = [
            (0, 1, size),
            (1_000, 1, out("$ ")),
            (2_000, 1, out("e")),
            (2_300, 1, out("cho hi")),
            (3_000, 1, out("\r\nhi\r\n$ ")),
            (9_000, 1, out("\x1b[?1049h\x1b[Hpicture")),
            (9_900, 1, out("\x1b[?1049l")),
            (12_000, 2, out("plain\nrest")),
        ];
        for (at_ms, channel, event) in events {
            screens.take(&Timed { at_ms, channel, event }, &mut each);
        }
        screens.finish(&mut each);
        let told: Vec<_> = told
            .iter()
            .map(|(at, channel, line)| (*at, *channel, line.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (9_000, 1, "picture"),
                (12_000, 2, "plain"),
                (3_000, 1, "$ echo hi"),
                (3_000, 1, "hi"),
                (9_000, 1, "$"),
                (12_000, 2, "rest"),
            ]
        );
    }
}
