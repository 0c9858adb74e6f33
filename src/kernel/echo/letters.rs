//! UTF-8 as it comes, byte by byte: the same for what is typed and for what is shown.

/// A byte that is no UTF-8 stands for itself, in a plane that nobody's letters are in.
const NO_LETTER: u32 = 0xf_0000;

/// The letter that is being put together.
#[derive(Debug, Default)]
pub struct Letters {
    bytes: [u8; 4],
    have: usize,
    want: usize,
}

impl Letters {
    /// Takes a byte that is no control. The first letter is one that was given up, the second one that is whole.
    pub fn take(&mut self, byte: u8) -> (Option<char>, Option<char>) {
        let goes_on = (0x80..=0xbf).contains(&byte) && self.want > 0;
        let torn = match goes_on {
            true => None,
            false => self.give_up(),
        };
        if !goes_on {
            self.want = match byte {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                0x00..=0x7f => return (torn, Some(char::from(byte))),
                0x80..=0xc1 | 0xf5..=0xff => return (torn, Some(itself(byte))),
            };
        }
        if let Some(place) = self.bytes.get_mut(self.have) {
            *place = byte;
            self.have += 1;
        }
        if self.have < self.want {
            return (torn, None);
        }
        let whole = self.bytes.get(..self.have).unwrap_or_default();
        let letter = std::str::from_utf8(whole).ok().and_then(|text| text.chars().next());
        (self.have, self.want) = (0, 0);
        (torn, Some(letter.unwrap_or(itself(byte))))
    }

    /// No byte of this letter comes any more.
    pub fn give_up(&mut self) -> Option<char> {
        let begun = self.have > 0;
        (self.have, self.want) = (0, 0);
        begun.then(|| itself(self.bytes[0]))
    }
}

fn itself(byte: u8) -> char {
    char::from_u32(NO_LETTER + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_whole_however_they_are_split() {
        let of = |bytes: &[u8]| {
            let mut letters = Letters::default();
            let mut all = String::new();
            for byte in bytes {
                let (torn, whole) = letters.take(*byte);
                all.extend(torn);
                all.extend(whole);
            }
            all.extend(letters.give_up());
            all
        };
        assert_eq!(of("aé€😀".as_bytes()), "aé€😀");
        assert_eq!(of(b"a\xe2\x82b"), "a\u{f00e2}b");
        assert_eq!(of(b"\xff\xe9"), "\u{f00ff}\u{f00e9}");
        assert_eq!(of(b"\xe2"), "\u{f00e2}");
    }
}
