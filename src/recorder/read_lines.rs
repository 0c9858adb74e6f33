//! Typed lines of one segment, as far as they may be read: those that were
//! echoed. Of the others only that they were typed.

use std::collections::{BTreeSet, HashMap, HashSet};

use portcullis_recording::{Event, LineCipher, Timed};

/// What became of the lines of one segment, wherever in it that is said.
#[derive(Debug, Default)]
pub struct ReadLines {
    keys: HashMap<u64, [u8; 32]>,
    /// Lines that end in this segment.
    ended: HashSet<u64>,
    /// Of each line, the number of its last piece among the events.
    last: HashMap<u64, usize>,
}

/// One piece of typed input.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// These keys, which were echoed.
    Clear(Vec<u8>),
    /// Keys that were not, or of which that is not decided yet; an Enter (or ^C, ^D) is the last of them.
    Hidden { bytes: usize, ends: bool },
}

impl ReadLines {
    /// Looks ahead over a segment. `entered` are lines that are ended and undecided at its end.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are no input")]
    pub fn of(events: &[Timed<'_>], entered: &BTreeSet<u64>) -> ReadLines {
        let mut lines = ReadLines {
            ended: entered.iter().copied().collect(),
            ..ReadLines::default()
        };
        for (at, timed) in events.iter().enumerate() {
            match &timed.event {
                Event::LineKey { line, key } => drop(lines.keys.insert(*line, *key)),
                Event::HiddenInput { line, .. } => drop(lines.ended.insert(*line)),
                Event::SealedInput { line, .. } => drop(lines.last.insert(*line, at)),
                _ => {}
            }
        }
        lines
    }

    /// The piece that is this event of the segment.
    pub fn piece(&self, at: usize, line: u64, counter: u32, ciphertext: &[u8]) -> Typed {
        let key = self.keys.get(&line);
        if let Some(clear) = key.and_then(|key| LineCipher::open(key, line, counter, ciphertext)) {
            return Typed::Clear(clear);
        }
        let ends = self.last.get(&line) == Some(&at) && self.ended.contains(&line);
        // How many there are nobody knows; a line that waits for its echo has one at least beside its Enter.
        let bytes = match (counter, ends) {
            (0, true) => 2,
            (_, _) => 1,
        };
        Typed::Hidden { bytes, ends }
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "tests look at the event they mean")]
mod tests {
    use super::*;

    /// Two pieces of a line and what becomes of it.
    fn line(number: u64, verdict: fn(LineCipher) -> Option<Event<'static>>) -> Vec<Event<'static>> {
        let mut line = LineCipher::new(number, [number as u8; 32]);
        let pieces = [line.seal(b"secre").unwrap(), line.seal(b"t\r").unwrap()];
        pieces.into_iter().chain(verdict(line)).collect()
    }

    fn read(events: Vec<Event<'static>>, entered: &[u64]) -> Vec<Typed> {
        let timed = |event| Timed {
            at_ms: 1,
            channel: 1,
            event,
        };
        let events: Vec<_> = events.into_iter().map(timed).collect();
        let lines = ReadLines::of(&events, &entered.iter().copied().collect());
        let pieces = events.iter().enumerate().filter_map(|(at, timed)| match &timed.event {
            Event::SealedInput {
                line,
                counter,
                ciphertext,
            } => Some(lines.piece(at, *line, *counter, ciphertext)),
            _ => None,
        });
        pieces.collect()
    }

    fn hidden(ends: bool) -> Typed {
        Typed::Hidden { bytes: 1, ends }
    }

    #[test]
    fn only_what_was_echoed_is_read() {
        let clear = |bytes: &[u8]| Typed::Clear(bytes.to_vec());
        let echoed = line(1, |line| Some(line.reveal()));
        assert_eq!(read(echoed, &[]), [clear(b"secre"), clear(b"t\r")]);
        let not = line(2, |line| Some(line.hide()));
        assert_eq!(read(not, &[]), [hidden(false), hidden(true)]);
        assert_eq!(read(line(3, |_| None), &[]), [hidden(false), hidden(false)]);
        assert_eq!(read(line(3, |_| None), &[3]), [hidden(false), hidden(true)]);
        let at_once = line(4, |line| Some(line.hide())).split_off(1);
        assert_eq!(read(at_once, &[]), [hidden(true)]);
    }

    #[test]
    fn a_line_in_one_piece_is_more_than_its_enter() {
        let mut line = LineCipher::new(1, [1; 32]);
        let events = vec![line.seal(b"secret\r").unwrap(), line.hide()];
        assert_eq!(read(events, &[]), [Typed::Hidden { bytes: 2, ends: true }]);
    }

    #[test]
    fn a_key_of_another_line_opens_nothing() {
        let mut forged = line(1, |_| None);
        forged.push(Event::LineKey { line: 1, key: [9; 32] });
        assert_eq!(read(forged, &[]), [hidden(false), hidden(false)]);
    }
}
