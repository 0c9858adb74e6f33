//! Whether output comes as a flood, from one second to the next.

use crate::kernel::command::is_flood;

/// What is looked at together, in ms.
const WINDOW_MS: u64 = 1000;

/// How fast output comes.
#[derive(Debug, Default)]
pub struct Flood {
    began_ms: u64,
    bytes: usize,
    /// The window before was one.
    before: bool,
}

impl Flood {
    /// Takes so many bytes; whether they belong to a flood.
    pub fn goes_on(&mut self, at_ms: u64, bytes: usize) -> bool {
        let since = at_ms.saturating_sub(self.began_ms);
        if since >= WINDOW_MS {
            self.before = is_flood(self.bytes, since);
            (self.began_ms, self.bytes) = (at_ms, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.before || is_flood(self.bytes, at_ms.saturating_sub(self.began_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_flood_begins_fast_and_ends_with_the_second_after_it() {
        let mut flood = Flood::default();
        // Slowly, for a minute.
        assert!((0..600).all(|tenth| !flood.goes_on(tenth * 100, MIB / 10)));
        assert!((0..50).any(|piece| flood.goes_on(60_000 + piece, MIB)));
        assert!((1..10).all(|second| flood.goes_on(60_000 + second * 1000, 30 * MIB)));
        assert!(flood.goes_on(69_500, 1));
        assert!(flood.goes_on(70_000, 1), "the last second was one");
        assert!(!flood.goes_on(71_000, 1));
    }
}
