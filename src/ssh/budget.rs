//! How many bytes may wait in all lanes of one session together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound shared by many lanes, and perhaps part of a larger one. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    max: u64,
    used: AtomicU64,
    of: Option<Budget>,
}

impl Budget {
    /// `max` in bytes.
    pub fn new(max: u64) -> Budget {
        Budget(Arc::new(Inner {
            max,
            used: AtomicU64::new(0),
            of: None,
        }))
    }

    /// At most `max` bytes of this one: what is taken of the part is taken of the whole.
    pub fn part(&self, max: u64) -> Budget {
        Budget(Arc::new(Inner {
            max,
            used: AtomicU64::new(0),
            of: Some(self.clone()),
        }))
    }

    /// The most that it holds by itself, in bytes.
    pub fn max(&self) -> u64 {
        self.0.max
    }

    /// Takes so many bytes, all or none; whether they were there.
    pub fn take(&self, bytes: u64) -> bool {
        let used = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = used.saturating_add(bytes) <= self.0.max;
        if fits && self.0.of.as_ref().is_none_or(|of| of.take(bytes)) {
            return true;
        }
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(of) = &self.0.of {
            of.give(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_of_the_whole_and_never_more_than_either() {
        let whole = Budget::new(100);
        let (one, other) = (whole.part(60), whole.part(60));
        assert!(one.take(60));
        assert!(!one.take(1), "the part is used up");
        assert!(!other.take(50), "the whole is");
        assert!(other.take(40));
        assert!(!whole.take(1));
        one.give(60);
        assert!(whole.take(60));
        assert!(!other.take(1));
        other.give(40);
        assert!(other.take(40));
    }
}
