//! What waits behind a held Enter.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::channel::Up;
use super::lane::{Entry, Stream};
use crate::kernel::command::PasteEnd;
use crate::kernel::enter::{INTERRUPT, Pasted, START};

/// How long after the last of it the rest of what may be a paste comes, in ms.
const REST_OF_PASTE_MS: u64 = 1000;

/// The rest of a paste of which a line was refused: it goes nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Dropping {
    end: PasteEnd,
    /// It may be no paste.
    perhaps: bool,
    /// Until when more of it may come, in session ms.
    until_ms: u64,
}

impl Dropping {
    /// What follows a line that was refused.
    pub fn of(line: Pasted, at_ms: u64) -> Option<Dropping> {
        let perhaps = match line {
            Pasted::No => return None,
            Pasted::Part => false,
            Pasted::Perhaps => true,
        };
        Some(Dropping {
            end: PasteEnd::default(),
            perhaps,
            until_ms: at_ms.saturating_add(REST_OF_PASTE_MS),
        })
    }

    /// How many of these bytes belong to it, and whether it is over with them.
    pub fn within(&mut self, at_ms: u64, bytes: &[u8]) -> (usize, bool) {
        let rested = at_ms > self.until_ms;
        if rested && self.perhaps {
            return (0, true);
        }
        self.until_ms = at_ms.saturating_add(REST_OF_PASTE_MS);
        // Whoever waits for nothing more says so; within a paste it is text.
        let interrupt = match self.perhaps || rested {
            true => bytes.iter().position(|byte| *byte == INTERRUPT),
            false => None,
        };
        let first = interrupt.map_or(bytes, |at| bytes.get(..at).unwrap_or_default());
        match (self.end.within(first), interrupt) {
            ((dropped, true), _) => (dropped, true),
            (_, Some(at)) => (at.saturating_add(1), true),
            (still, None) => still,
        }
    }
}

/// Bytes that it would send.
pub fn data_bytes(entry: &Entry<Up>) -> usize {
    match entry {
        Entry::Data { bytes, .. } => bytes.len(),
        Entry::Control(_) => 0,
    }
}

/// Nothing comes behind it, and it goes nowhere before what does.
pub fn ends_input(entry: &Entry<Up>) -> bool {
    matches!(entry, Entry::Control(Up::Eof | Up::Close))
}

/// Takes requests out of a queue, and bytes up to a ^C; how many bytes those
/// are, if there is one. Nothing overtakes the end of input.
pub fn cancel(queue: &mut VecDeque<Entry<Up>>, requests: &mut Vec<Entry<Up>>) -> Option<usize> {
    let (mut kept, mut dropped, mut ended) = (VecDeque::new(), None, false);
    for mut entry in queue.drain(..) {
        ended |= ends_input(&entry);
        match &mut entry {
            Entry::Control(_) if !ended => {
                requests.push(entry);
                continue;
            }
            Entry::Data { bytes, .. } if !ended && dropped.is_none() => {
                if let Some(at) = bytes.iter().position(|byte| *byte == INTERRUPT) {
                    let before: usize = kept.drain(..).map(|entry| data_bytes(&entry)).sum();
                    bytes.advance(at + 1);
                    dropped = Some(before + at + 1);
                }
            }
            Entry::Data { .. } | Entry::Control(_) => {}
        }
        kept.push_back(entry);
    }
    *queue = kept;
    dropped
}

/// Takes ^Q and ^C off the front of a queue, up to the first other key or request.
pub fn signals(queue: &mut VecDeque<Entry<Up>>) -> Vec<(Stream, Bytes)> {
    let mut taken = Vec::new();
    while let Some(Entry::Data { stream, bytes }) = queue.front_mut() {
        let first = bytes.iter().take_while(|byte| matches!(**byte, START | INTERRUPT));
        let first = bytes.split_to(first.count());
        let rest = !bytes.is_empty();
        if !first.is_empty() {
            taken.push((*stream, first));
        }
        if rest {
            break;
        }
        queue.pop_front();
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &'static str) -> Entry<Up> {
        Entry::Data {
            stream: Stream::Main,
            bytes: Bytes::from_static(keys.as_bytes()),
        }
    }

    #[test]
    fn requests_do_not_wait_behind_what_is_typed() {
        let request = || Entry::Control(Up::Keys(b"x"));
        let mut queue = VecDeque::from([typed("ab"), request(), typed("c\x03d\x03"), request(), typed("e")]);
        let mut requests = Vec::new();
        assert_eq!(cancel(&mut queue, &mut requests), Some(4));
        assert_eq!(requests.len(), 2);
        assert_eq!(queue.iter().map(data_bytes).sum::<usize>(), 3, "d, ^C and e");
        // Without a ^C nothing is dropped.
        let mut queue = VecDeque::from([
            typed("ab"),
            request(),
            Entry::Control(Up::Eof),
            request(),
            typed("\x03"),
        ]);
        let mut requests = Vec::new();
        assert_eq!(cancel(&mut queue, &mut requests), None);
        assert_eq!((requests.len(), queue.len()), (1, 4));
    }

    #[test]
    fn the_rest_of_a_paste_goes_nowhere_and_what_may_be_none_only_for_a_while() {
        assert!(Dropping::of(Pasted::No, 0).is_none());
        let mut paste = Dropping::of(Pasted::Part, 0).unwrap();
        assert_eq!(paste.within(1000, b"a\x03\rb"), (4, false));
        assert_eq!({ paste }.within(1000, b"c\x1b[201~d"), (7, true));
        assert_eq!({ paste }.within(2001, b"\x03d"), (1, true));
        let perhaps = Dropping::of(Pasted::Perhaps, 0).unwrap();
        assert_eq!({ perhaps }.within(1000, b"c\x1b[201~d"), (7, true));
        assert_eq!({ perhaps }.within(1000, b"a\x03b"), (2, true));
        assert_eq!({ perhaps }.within(1001, b"a"), (0, true));
        let mut goes_on = perhaps;
        assert_eq!(goes_on.within(900, b"a"), (1, false));
        assert_eq!(goes_on.within(1900, b"a"), (1, false));
        assert_eq!(goes_on.within(2901, b"a"), (0, true));
    }

    #[test]
    fn signals_pass_up_to_the_first_other_key() {
        let mut queue = VecDeque::from([typed("\x11\x03"), typed(""), typed("\x03ls\x03"), typed("\x03")]);
        let taken: Vec<Bytes> = signals(&mut queue).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(taken, [&b"\x11\x03"[..], b"\x03"]);
        assert_eq!(queue.iter().map(data_bytes).sum::<usize>(), 4);
        assert!(signals(&mut queue).is_empty());
        let mut queue = VecDeque::from([Entry::Control(Up::Eof), typed("\x03")]);
        assert!(signals(&mut queue).is_empty());
    }
}
