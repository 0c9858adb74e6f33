//! The only reader of clocks.
//!
//! Wall time is what certificates speak; boot time (CLOCK_BOOTTIME) counts
//! suspended time and cannot be set, so it is what deadlines hold on to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};

use crate::kernel::policy::facts::LocalTime;

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// ms since the epoch, UTC.
    pub wall_ms: u64,
    /// ms since boot, suspended time included.
    pub boot_ms: u64,
}

/// Where time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual { wall: Arc<AtomicU64>, boot: Arc<AtomicU64> },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock in hand, for tests: stands still until it is moved.
    pub fn manual(now: Now) -> Clock {
        Clock(Source::Manual {
            wall: Arc::new(AtomicU64::new(now.wall_ms)),
            boot: Arc::new(AtomicU64::new(now.boot_ms)),
        })
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System => Now {
                wall_ms: read_ms(ClockId::Realtime),
                boot_ms: read_ms(ClockId::Boottime),
            },
            Source::Manual { wall, boot } => Now {
                wall_ms: wall.load(Ordering::SeqCst),
                boot_ms: boot.load(Ordering::SeqCst),
            },
        }
    }

    /// Moves a manual clock by `ms` on both hands; no effect on the system's.
    pub fn advance(&self, ms: u64) {
        if let Source::Manual { wall, boot } = &self.0 {
            wall.fetch_add(ms, Ordering::SeqCst);
            boot.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Sets the wall hand of a manual clock, as a step; no effect on the system's.
    pub fn step_wall(&self, wall_ms: u64) {
        if let Source::Manual { wall, .. } = &self.0 {
            wall.store(wall_ms, Ordering::SeqCst);
        }
    }
}

/// The time of day at `wall_ms` in this zone.
pub fn local(wall_ms: u64, zone: &TimeZone) -> LocalTime {
    let at = i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(at) = at else {
        // No weekday at all: no rule about hours holds then.
        return LocalTime::default();
    };
    let there = at.to_zoned(zone.clone());
    let minutes = i32::from(there.hour())
        .saturating_mul(60)
        .saturating_add(there.minute().into());
    LocalTime {
        weekday: u8::try_from(there.weekday().to_monday_one_offset()).unwrap_or(0),
        minute: u16::try_from(minutes).unwrap_or(0),
    }
}

/// A reading of the clock that waits go by; a paused one in tests.
pub type Tick = tokio::time::Instant;

/// Reads the clock that waits go by. Never for deadlines of grants: it does
/// not count suspended time.
pub fn tick() -> Tick {
    Tick::now()
}

fn read_ms(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_zone() {
        // 2026-11-20T23:30:00Z, a Friday.
        let at = 1_795_217_400_000;
        let told = |zone: &TimeZone| {
            let local = local(at, zone);
            (local.weekday, local.minute)
        };
        assert_eq!(told(&TimeZone::UTC), (5, 23 * 60 + 30));
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(told(&berlin), (6, 30));
        assert_eq!(local(u64::MAX, &TimeZone::UTC), LocalTime::default());
    }
}
