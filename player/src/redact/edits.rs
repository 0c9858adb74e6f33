//! Which bytes of which events go.

use std::collections::BTreeMap;

use crate::redact::choice::BLOCK;

/// An event: position of its chunk, and its number among the chunk's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Position of the chunk.
    pub chunk: usize,
    /// Number in it, from 0.
    pub event: usize,
}

/// Some bytes of one event: those of a character, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The event.
    pub spot: Spot,
    /// Where they begin in its payload.
    pub at: usize,
    /// How many.
    pub len: usize,
}

/// Where a character came from: one event, or several that each brought some of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// One.
    Whole(Part),
    /// Several, in order.
    Torn(Box<[Part]>),
}

/// What one character becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    len: usize,
    blocks: u8,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Edits(BTreeMap<Spot, BTreeMap<usize, Cut>>);

impl Edits {
    /// Takes a character away and puts blocks in its place.
    pub fn cut(&mut self, origin: &Origin, blocks: u8) {
        let parts = match origin {
            Origin::Whole(part) => std::slice::from_ref(part),
            Origin::Torn(parts) => parts,
        };
        for (n, part) in parts.iter().enumerate() {
            let cut = Cut {
                len: part.len,
                blocks: if n == 0 { blocks } else { 0 },
            };
            self.0.entry(part.spot).or_default().insert(part.at, cut);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the first one is.
    pub fn first(&self) -> Option<Spot> {
        self.0.keys().next().copied()
    }

    /// An event's payload without what goes; `None` if nothing does.
    pub fn applied(&self, spot: Spot, payload: &[u8]) -> Option<Vec<u8>> {
        let cuts = self.0.get(&spot)?;
        let mut out = Vec::with_capacity(payload.len());
        let mut done = 0;
        for (at, cut) in cuts {
            out.extend_from_slice(payload.get(done..*at).unwrap_or_default());
            for _ in 0..cut.blocks {
                out.extend_from_slice(BLOCK.encode_utf8(&mut [0; 4]).as_bytes());
            }
            done = done.max(at + cut.len);
        }
        out.extend_from_slice(payload.get(done..).unwrap_or_default());
        Some(out)
    }
}

/// Turns bytes that come in pieces into characters that know where they came from.
#[derive(Debug, Default)]
pub struct Decoder {
    torn: Vec<u8>,
    torn_parts: Vec<Part>,
}

impl Decoder {
    /// Gives the characters of the next piece, in order. What is no text gives replacement characters.
    pub fn push(&mut self, spot: Spot, bytes: &[u8], each: &mut dyn FnMut(char, Origin)) {
        let before = self.torn.len();
        let mut all = std::mem::take(&mut self.torn);
        let parts = std::mem::take(&mut self.torn_parts);
        all.extend_from_slice(bytes);
        // Where bytes from..to of `all` came from.
        let origin = |from: usize, to: usize| -> Origin {
            let here = Part {
                spot,
                at: from.max(before) - before,
                len: to.saturating_sub(from.max(before)),
            };
            if from >= before {
                return Origin::Whole(here);
            }
            let mut torn = parts.clone();
            if here.len > 0 {
                torn.push(here);
            }
            Origin::Torn(torn.into())
        };
        let mut at = 0;
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for c in chunk.valid().chars() {
                each(c, origin(at, at + c.len_utf8()));
                at += c.len_utf8();
            }
            let rest = chunk.invalid();
            if rest.is_empty() {
                continue;
            }
            let unfinished = std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none());
            if unfinished && chunks.peek().is_none() {
                self.torn = rest.to_vec();
                self.torn_parts = match origin(at, at + rest.len()) {
                    Origin::Whole(part) => vec![part],
                    Origin::Torn(parts) => parts.into(),
                };
            } else {
                each(char::REPLACEMENT_CHARACTER, origin(at, at + rest.len()));
            }
            at += rest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_character_goes_from_every_event_that_has_some_of_it() {
        let text = "a界b";
        for cut in 0..=text.len() {
            for again in cut..=text.len() {
                let (front, rest) = text.as_bytes().split_at(cut);
                let (middle, back) = rest.split_at(again - cut);
                let (mut decoder, mut edits, mut seen) = (Decoder::default(), Edits::default(), String::new());
                let pieces = [front, middle, back];
                for (event, piece) in pieces.iter().enumerate() {
                    let spot = Spot { chunk: 0, event };
                    decoder.push(spot, piece, &mut |c, origin| {
                        seen.push(c);
                        if c == '界' {
                            edits.cut(&origin, 2);
                        }
                    });
                }
                assert_eq!(seen, text);
                let out: Vec<u8> = (pieces.iter().enumerate())
                    .flat_map(|(event, piece)| edits.applied(Spot { chunk: 0, event }, piece).unwrap_or(piece.to_vec()))
                    .collect();
                assert_eq!(String::from_utf8(out).unwrap(), "a██b", "{cut} {again}");
            }
        }
    }
}
