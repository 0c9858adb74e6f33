//! Bytes read as decisions.

/// Decisions, one after the other. Past its end every one of them is zero, which is always the honest one.
pub(super) struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Tape<'a> {
        Tape(bytes)
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    /// At most that many bytes.
    pub(super) fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// As many bytes as the next two say.
    pub(super) fn blob(&mut self) -> &'a [u8] {
        let n = self.u16();
        self.bytes(usize::from(n))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A number that is `honest`, or one that is not.
    pub(super) fn about(&mut self, honest: u64, lie: bool) -> u64 {
        if !lie {
            return honest;
        }
        match self.u8() {
            by @ 0..=63 => honest.wrapping_add(u64::from(by) + 1),
            by @ 64..=127 => honest.wrapping_sub(u64::from(by) - 63),
            bit => honest ^ 1 << (bit & 63),
        }
    }
}
