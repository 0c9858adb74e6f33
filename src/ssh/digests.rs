//! What is recorded of bytes that are not kept: how many, and their hash.

use portcullis_recording::Event;
use portcullis_recording::event::Direction;
use portcullis_recording::limits::DIGEST_BYTES_MAX;
use sha2::{Digest, Sha256};

/// Hashes bytes as long as they go one way; for one batch, so that its digest is recorded before any of it goes on.
#[derive(Default)]
pub struct Digests(Option<Running>);

struct Running {
    direction: Direction,
    bytes: u64,
    hash: Sha256,
}

impl Digests {
    /// Takes more. Gives what has become whole by it to `put`: what went another way before, and what is as long as one
    /// digest may be.
    pub fn add(&mut self, direction: Direction, mut bytes: &[u8], mut put: impl FnMut(Event<'static>)) {
        while !bytes.is_empty() {
            let mut running = match self.0.take() {
                Some(same) if same.direction == direction && same.bytes < DIGEST_BYTES_MAX => same,
                other => {
                    other.map(Running::event).into_iter().for_each(&mut put);
                    Running {
                        direction,
                        bytes: 0,
                        hash: Sha256::new(),
                    }
                }
            };
            let room = usize::try_from(DIGEST_BYTES_MAX - running.bytes).unwrap_or(usize::MAX);
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            running.hash.update(part);
            running.bytes += part.len() as u64;
            self.0 = Some(running);
            bytes = rest;
        }
    }

    /// The digest of what came last; what follows begins another.
    pub fn end(&mut self) -> Option<Event<'static>> {
        self.0.take().map(Running::event)
    }
}

impl Running {
    fn event(self) -> Event<'static> {
        Event::Digest {
            direction: self.direction,
            bytes: self.bytes,
            sha256: self.hash.finalize().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(direction: Direction, bytes: &[u8]) -> Event<'static> {
        Event::Digest {
            direction,
            bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        }
    }

    #[test]
    fn one_way_is_one_digest_up_to_its_bound() {
        let (mut digests, mut events) = (Digests::default(), Vec::new());
        let long = vec![7; DIGEST_BYTES_MAX as usize];
        assert_eq!(digests.end(), None);
        for (direction, bytes) in [
            (Direction::ToClient, &b"one "[..]),
            (Direction::ToClient, b""),
            (Direction::ToClient, b"answer"),
            (Direction::ToClientErr, b"no"),
            (Direction::ToClient, &long[1..]),
            (Direction::ToClient, &long[..3]),
        ] {
            digests.add(direction, bytes, |event| events.push(event));
        }
        events.extend(digests.end());
        assert_eq!(digests.end(), None);
        assert_eq!(
            events,
            [
                of(Direction::ToClient, b"one answer"),
                of(Direction::ToClientErr, b"no"),
                of(Direction::ToClient, &long),
                of(Direction::ToClient, &long[..2]),
            ]
        );
    }
}
