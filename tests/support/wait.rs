//! Waiting for conditions: polled, bounded, never for a time that merely seems long enough.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Waits until `is` holds; the test fails with `what` after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut is: impl FnMut() -> bool) {
    wait_for(what, limit, || is().then_some(()));
}

/// Waits for a value; the test fails with `what` after `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut get: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

/// Lets time pass because the passing itself is under test: a pause of the
/// user, a stalled reader. Anything else is awaited by its condition.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
