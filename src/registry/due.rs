//! The next moment at which the gate's thread has to look at anybody.

use crate::clock::Now;

/// Before this moment of either clock nothing is due for anybody: the house
/// costs nothing while nothing happens in it.
#[derive(Clone, Copy)]
pub struct Due(Now);

impl Due {
    /// Everybody is looked at, whatever the clocks say.
    pub const NOW: Due = Due(Now { wall_ms: 0, boot_ms: 0 });

    /// So many ms from now, on the clock that gets there first.
    pub fn after(now: Now, ms: u64) -> Due {
        Due(Now {
            wall_ms: now.wall_ms.saturating_add(ms),
            boot_ms: now.boot_ms.saturating_add(ms),
        })
    }

    /// The ms until then, on the clock that gets there first.
    pub fn left_ms(self, now: Now) -> u64 {
        let Due(due) = self;
        let wall_left = due.wall_ms.saturating_sub(now.wall_ms);
        wall_left.min(due.boot_ms.saturating_sub(now.boot_ms))
    }
}
