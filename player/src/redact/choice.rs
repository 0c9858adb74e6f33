//! What is to go from a copy.

use portcullis_recording::event::{Event, Timed};
use regex::{Regex, RegexBuilder};
use unicode_width::UnicodeWidthChar;

/// Stands where a character was, as often as that was wide.
pub const BLOCK: char = '█';
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 4 << 20;

/// Texts that go wherever they are found, and a region from which everything goes.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Any of these.
    pub patterns: Vec<Regex>,
    /// Texts that must not be in the copy byte for byte.
    pub literals: Vec<String>,
    /// All of these narrow the same region.
    pub region: Option<Region>,
}

/// Everything that was typed and printed here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Region {
    /// From this time on, in ms.
    pub from_ms: Option<u64>,
    /// Before this time, in ms.
    pub to_ms: Option<u64>,
    /// On this channel.
    pub channel: Option<u32>,
    /// Only what was typed.
    pub input: bool,
}

impl Choice {
    /// Adds a text.
    pub fn text(&mut self, text: &str) -> Result<(), String> {
        self.pattern(&regex::escape(text))?;
        self.literals.push(text.to_owned());
        Ok(())
    }

    /// Adds a pattern. The error says what is wrong with it.
    pub fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        let regex = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
        let regex = regex.map_err(|e| e.to_string())?;
        if regex.is_match("") {
            return Err(format!("{pattern:?} matches where nothing is"));
        }
        self.patterns.push(regex);
        Ok(())
    }

    /// Where in a text something is that must go, as byte ranges.
    pub fn found<'t>(&'t self, text: &'t str) -> impl Iterator<Item = std::ops::Range<usize>> + 't {
        self.patterns
            .iter()
            .flat_map(move |pattern| pattern.find_iter(text).map(|m| m.range()))
    }

    /// Whether everything that an event carries goes, whatever it is.
    pub fn takes(&self, timed: &Timed<'_>) -> bool {
        let Some(region) = self.region else { return false };
        if let Event::Command(command) = &timed.event {
            return self.concerns(timed.channel, command.began_ms, command.ended_ms);
        }
        self.concerns(timed.channel, timed.at_ms, timed.at_ms)
            && match timed.event {
                Event::Input(_) | Event::SealedInput { .. } | Event::HiddenInput { .. } | Event::HiddenLine { .. } => {
                    true
                }
                Event::Output(_) | Event::Stderr(_) | Event::Request { .. } | Event::File(_) => !region.input,
                Event::Resize { .. }
                | Event::LineKey { .. }
                | Event::ChannelOpen { .. }
                | Event::Decision { .. }
                | Event::Notice { .. }
                | Event::Withheld { .. }
                | Event::Undelivered { .. }
                | Event::Eof { .. }
                | Event::ExitStatus(_)
                | Event::ExitSignal { .. }
                | Event::ChannelClose { .. }
                | Event::Keyframe { .. }
                | Event::ClockStep { .. }
                | Event::Marker { .. }
                | Event::Accounts(_)
                | Event::Digest { .. }
                | Event::Command(_)
                | Event::End { .. } => false,
            }
    }

    /// Whether some of the region lies in `[from_ms, to_ms]` of a channel.
    pub fn concerns(&self, channel: u32, from_ms: u64, to_ms: u64) -> bool {
        self.region.is_some_and(|region| {
            region.from_ms.is_none_or(|from| from <= to_ms)
                && region.to_ms.is_none_or(|to| from_ms < to)
                && region.channel.is_none_or(|only| only == channel)
        })
    }

    /// A text without what must go from it; `None` if there is nothing.
    pub fn without(&self, text: &str) -> Option<String> {
        let mut gone = vec![false; text.len()];
        for range in self.found(text) {
            gone.get_mut(range)?.fill(true);
        }
        let mut changed = false;
        let mut out = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            if gone.get(at) == Some(&true) && is_text(c) {
                changed = true;
                out.extend(std::iter::repeat_n(BLOCK, width(c).into()));
            } else {
                out.push(c);
            }
        }
        changed.then_some(out)
    }
}

/// Whether a character can be taken away without leaving a control sequence torn, and is there at all.
pub fn is_text(c: char) -> bool {
    c != BLOCK && !c.is_control()
}

/// How many blocks stand for a character.
pub fn width(c: char) -> u8 {
    c.width().unwrap_or(1).clamp(1, 2) as u8
}
