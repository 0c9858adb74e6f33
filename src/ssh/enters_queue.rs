//! What waits behind a held Enter.

use std::collections::VecDeque;

use bytes::Buf;

use super::channel::Up;
use super::lane::Entry;

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
                if let Some(at) = bytes.iter().position(|byte| *byte == 0x03) {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ssh::lane::Stream;

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
}
