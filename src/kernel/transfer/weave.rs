//! Answers of ours among those of a target: each goes between two whole packets.

use std::collections::VecDeque;

/// Answers that may wait for the end of a packet.
const WAITING_MAX: usize = 1024;
/// The length in front of a packet, in bytes (draft-ietf-secsh-filexfer-02 section 3).
const LENGTH_BYTES: usize = 4;

/// The target's side of one channel.
#[derive(Debug, Default)]
pub struct Weave {
    /// What there is of the next packet's length.
    length: Vec<u8>,
    /// Bytes that are left of the packet that began.
    left: u64,
    /// A packet has passed: before it only the target may speak.
    begun: bool,
    waiting: VecDeque<Vec<u8>>,
}

/// Too many answers wait: the target stopped within a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Overrun;

impl Weave {
    /// An answer of ours, to go at the next place.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn put(&mut self, answer: Vec<u8>) -> Result<(), Overrun> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Overrun);
        }
        self.waiting.push_back(answer);
        Ok(())
    }

    /// Answers that may go now.
    pub fn ready(&mut self) -> Vec<Vec<u8>> {
        match self.begun && self.left == 0 && self.length.is_empty() {
            true => self.waiting.drain(..).collect(),
            false => Vec::new(),
        }
    }

    /// How many of the target's bytes go before the next answer of ours.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if self.left == 0 {
                let missing = LENGTH_BYTES.saturating_sub(self.length.len());
                let some = rest.get(..missing).unwrap_or(rest);
                self.length.extend_from_slice(some);
                at = at.saturating_add(some.len());
                if let Some(length) = self.length.first_chunk::<LENGTH_BYTES>() {
                    self.left = u32::from_be_bytes(*length).into();
                    self.length.clear();
                }
            } else {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left = self.left.saturating_sub(take as u64);
                at = at.saturating_add(take);
            }
            if self.left == 0 && self.length.is_empty() {
                self.begun = true;
                if !self.waiting.is_empty() {
                    return at;
                }
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_between_whole_packets_however_they_are_cut() {
        let packet = |fill: u8, length: usize| [&(length as u32).to_be_bytes()[..], &vec![fill; length]].concat();
        let theirs = [packet(1, 5), packet(2, 0), packet(3, 300), packet(4, 1)];
        let stream = theirs.concat();
        for cut in [1, 2, 3, 5, 9, 100, stream.len()] {
            for put_at in 0..stream.len() {
                let (mut weave, mut out, mut seen) = (Weave::default(), Vec::new(), 0);
                let mut put = Some(packet(9, 7));
                for part in stream.chunks(cut) {
                    if seen >= put_at
                        && let Some(answer) = put.take()
                    {
                        weave.put(answer).unwrap();
                        out.extend(weave.ready().concat());
                    }
                    seen += part.len();
                    let mut part = part;
                    while !part.is_empty() {
                        let (now, rest) = part.split_at(weave.pass(part));
                        out.extend(now);
                        out.extend(weave.ready().concat());
                        part = rest;
                    }
                }
                if put.is_some() {
                    continue;
                }
                let woven = (1..=theirs.len()).any(|at| {
                    let mut all: Vec<&[u8]> = theirs.iter().map(Vec::as_slice).collect();
                    let ours = packet(9, 7);
                    all.insert(at, &ours);
                    all.concat() == out
                });
                assert!(woven, "cut {cut}, put at {put_at}: {out:?}");
            }
        }
    }

    #[test]
    fn answers_that_wait_are_bounded() {
        let mut weave = Weave::default();
        assert!((0..WAITING_MAX).all(|_| weave.put(vec![0]).is_ok()));
        assert_eq!(weave.put(vec![0]), Err(Overrun));
    }
}
