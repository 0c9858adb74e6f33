//! Looks through a finished copy for what must not be in it, by other ways than it was taken out.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use portcullis_recording::event::{Event, Timed};
use portcullis_recording::redact::is_mark;
use regex::Regex;

use crate::channels::Channels;
use crate::find::{Finder, Place, Query, Reading, Wanted};
use crate::grid::Grid;
use crate::redact::choice::{BLOCK, Choice};
use crate::redact::edits::Spot;
use crate::redact::search::Search;

/// Bytes of a file read at a time.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a text that is in a terabyte of noise once in a hundred times at most.
const LITERAL_BYTES_MIN: usize = 6;

/// Where something was found that must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// When, in ms; the beginning if it is in no event.
    pub at_ms: u64,
    /// Where.
    pub place: &'static str,
}

/// The search through a copy, event by event.
pub struct Check<'c> {
    choice: &'c Choice,
    search: Search<'c>,
    finders: Vec<(Regex, Finder)>,
    left: Option<Left>,
    now_ms: u64,
}

impl<'c> Check<'c> {
    /// At the beginning.
    pub fn new(choice: &'c Choice) -> Result<Check<'c>, String> {
        let mut finders = Vec::new();
        for pattern in &choice.patterns {
            let query = Query::new(pattern.as_str(), Reading::default())?;
            let raw = query.clone().raw(pattern.as_str(), Reading::default())?;
            for query in [query, raw] {
                let finder = Finder::new(Wanted::Text(Box::new(query)), Channels::default());
                finders.push((pattern.clone(), finder));
            }
        }
        Ok(Check {
            choice,
            search: Search::new(choice),
            finders,
            left: None,
            now_ms: 0,
        })
    }

    /// Takes the next event of the copy.
    pub fn take(&mut self, spot: Spot, timed: &Timed<'_>) {
        self.now_ms = timed.at_ms;
        // A mark says what it says whatever was looked for.
        if is_mark(&timed.event) {
            return;
        }
        let region = self.choice.takes(timed)
            && !matches!(&timed.event, Event::Request { detail, want, .. } if detail.is_empty() && want.is_empty());
        if region {
            self.found("an event of the region");
        }
        if let Event::Keyframe { cols, rows, dump } = &timed.event {
            let screen = Grid::from_keyframe(*cols, *rows, dump)
                .terminal()
                .screen()
                .text()
                .join("\n");
            if [dump.as_ref(), &screen]
                .iter()
                .any(|text| self.choice.without(text).is_some())
            {
                self.found("a keyframe");
            }
        }
        self.search.take(spot, timed);
        let (left, at_ms) = (&mut self.left, timed.at_ms);
        for (pattern, finder) in &mut self.finders {
            finder.take(timed, &mut |hit| note(left, pattern, at_ms, hit.place, &hit.text));
        }
    }

    fn found(&mut self, place: &'static str) {
        let at_ms = self.now_ms;
        self.left.get_or_insert(Left { at_ms, place });
    }

    /// What was found first.
    pub fn finish(mut self) -> Option<Left> {
        let at_ms = self.now_ms;
        for (pattern, finder) in self.finders {
            let left = &mut self.left;
            finder.finish(&mut |hit| note(left, &pattern, at_ms, hit.place, &hit.text));
        }
        let (edits, _) = self.search.finish();
        if let Some((at_ms, _)) = edits.first().map(|_| (at_ms, ())) {
            self.left.get_or_insert(Left {
                at_ms,
                place: "the text of a channel",
            });
        }
        self.left
    }
}

/// A hit that is nothing but blocks is what a pattern finds in what was put there.
fn note(left: &mut Option<Left>, pattern: &Regex, at_ms: u64, place: Place, text: &str) {
    let blocks = |found: &str| found.chars().all(|c| c == BLOCK || !c.is_alphanumeric());
    let mut found = pattern.find_iter(text).peekable();
    if found.peek().is_some() && found.all(|m| blocks(m.as_str()) && m.as_str().contains(BLOCK)) {
        return;
    }
    let place = match place {
        Place::Output => "a screen or output",
        Place::Input => "input",
        Place::Event => "the words of an event",
        Place::Raw => "raw output",
    };
    left.get_or_insert(Left { at_ms, place });
}

/// Whether a file holds any of these texts, byte for byte. Short ones are in compressed bytes by chance, and are not asked
/// about.
pub fn holds(path: &Path, texts: &[String]) -> std::io::Result<bool> {
    let texts: Vec<&String> = texts.iter().filter(|text| text.len() >= LITERAL_BYTES_MIN).collect();
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut reader = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let mut window = Vec::new();
    loop {
        let kept = window.len().min(longest);
        window.drain(..window.len() - kept);
        let read = (&mut reader).take(READ_BYTES as u64).read_to_end(&mut window)?;
        if read == 0 {
            return Ok(false);
        }
        if texts.iter().any(|text| contains(&window, text.as_bytes())) {
            return Ok(true);
        }
    }
}

/// Whether some bytes hold others.
pub fn contains(bytes: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text)
}
