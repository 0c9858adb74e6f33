//! Bytes to send and to compare: a stream that is its own check.

use std::io::{Read, Write};

/// Where `needle` begins in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    let first = needle[0];
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if hay[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// An endless stream that does not compress and is the same for the same seed.
#[derive(Clone)]
pub struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    pub fn new(seed: u64) -> Pattern {
        Pattern {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            word: [0; 8],
            used: 8,
        }
    }

    pub fn fill(&mut self, into: &mut [u8]) {
        for byte in into {
            if self.used == 8 {
                // xorshift64*
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                self.word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
    }

    pub fn bytes(mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    /// Writes `length` bytes of it; how many were taken before an error.
    pub fn write_to(mut self, mut to: impl Write, length: u64) -> u64 {
        let mut buffer = vec![0; 64 * 1024];
        let mut written = 0;
        while written < length {
            let part = usize::try_from(length - written)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.fill(&mut buffer[..part]);
            if to.write_all(&buffer[..part]).is_err() {
                break;
            }
            written += part as u64;
        }
        written
    }

    /// Reads to the end and compares; how many bytes there were, if all are right.
    ///
    /// # Errors
    /// Where the first wrong byte is.
    pub fn check(mut self, mut from: impl Read) -> Result<u64, u64> {
        let mut got = vec![0; 256 * 1024];
        let mut want = vec![0; 256 * 1024];
        let mut read = 0;
        loop {
            match from.read(&mut got) {
                Ok(0) | Err(_) => return Ok(read),
                Ok(length) => {
                    self.fill(&mut want[..length]);
                    if got[..length] != want[..length] {
                        let same = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
                        return Err(read + same as u64);
                    }
                    read += length as u64;
                }
            }
        }
    }
}

#[test]
fn patterns_check_themselves() {
    let bytes = Pattern::new(7).bytes(300_001);
    assert_eq!(Pattern::new(7).check(&bytes[..]), Ok(300_001));
    let mut wrong = bytes.clone();
    wrong[299_999] ^= 1;
    assert_eq!(Pattern::new(7).check(&wrong[..]), Err(299_999));
    assert_eq!(find(&bytes, &bytes[1000..1040]), Some(1000));
    assert_eq!(find(b"aab", b"ab"), Some(1));
    assert_eq!(find(b"aab", b"abc"), None);
}
