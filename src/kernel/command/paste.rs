//! Where a bracketed paste ends.

/// How much was seen of the end of a paste. Nothing else ends one: whoever reads
/// it takes every other byte for text, controls too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PasteEnd(usize);

impl PasteEnd {
    /// What ends a paste (xterm, bracketed paste).
    pub const ENDS: &[u8] = b"\x1b[201~";
    /// Bytes of the end.
    pub const BYTES: usize = Self::ENDS.len();

    /// Takes one byte; whether the paste is over with it.
    pub fn take(&mut self, byte: u8) -> bool {
        self.0 = match Self::ENDS.get(self.0) == Some(&byte) {
            true => self.0.saturating_add(1),
            false => usize::from(Self::ENDS.first() == Some(&byte)),
        };
        self.0 == Self::ENDS.len()
    }

    /// How many of these bytes belong to the paste, and whether it is over with them.
    pub fn within(&mut self, bytes: &[u8]) -> (usize, bool) {
        match bytes.iter().position(|byte| self.take(*byte)) {
            Some(at) => (at.saturating_add(1), true),
            None => (bytes.len(), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_paste_is_found_wherever_it_is_torn() {
        assert_eq!(PasteEnd::default().within(b"a\x1b[201~b"), (7, true));
        let mut end = PasteEnd::default();
        assert_eq!(end.within(b"a\x1b[2"), (4, false));
        assert_eq!(end.within(b"01~b"), (3, true));
        assert_eq!(PasteEnd::default().within(b"\x1b\x1b[201~"), (7, true));
        let mut end = PasteEnd::default();
        end.within(b"\x1b[2");
        assert_eq!(end.within(b"x"), (1, false));
        assert_eq!(end, PasteEnd::default());
    }
}
