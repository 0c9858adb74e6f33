//! How many refusals a session is given before it counts as an attack.
//!
//! Each refused request is recorded, counted and perhaps told to people. Who
//! asks on and on would fill the disk and drown those people; a browser behind
//! a dynamic forward, whose every third host is refused, would not. Pure: told
//! the time.

use std::sync::{Mutex, PoisonError};

/// Refusals that a session may be given at once.
const BURST: u64 = 256;
/// After those, how long it takes to be given one more, in ms.
const REFILL_MS: u64 = 250;

/// What is left of it.
#[derive(Default, Debug)]
pub struct Patience {
    /// When all of it is there again, ms since boot.
    whole_ms: Mutex<u64>,
}

impl Patience {
    /// Takes one refusal at `now_ms` since boot; whether it was one too many.
    pub fn lost(&self, now_ms: u64) -> bool {
        let mut whole = self.whole_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *whole = (*whole).max(now_ms).saturating_add(REFILL_MS);
        (*whole).saturating_sub(now_ms) > BURST * REFILL_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_borne_and_one_more_is_not() {
        let patience = Patience::default();
        assert!((0..BURST).all(|_| !patience.lost(1_000)));
        assert!(patience.lost(1_000));
    }

    #[test]
    fn a_few_a_second_go_on_for_ever() {
        let patience = Patience::default();
        assert!((0..100_000).all(|number| !patience.lost(number * REFILL_MS)));
        // Somebody who was quiet for long has the whole of it, no more.
        let later = 1_000_000_000;
        assert!((0..BURST).all(|_| !patience.lost(later)));
        assert!(patience.lost(later));
    }
}
