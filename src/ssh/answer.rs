//! The target's answer to the request that starts a program.
//!
//! russh keeps one `wants_reply` flag a channel and overwrites it with each
//! request, so an answer that comes after the next request is lost. The
//! callback of the start therefore waits for the target, for a while, and
//! replies itself; only an answer that is later than that goes through the lane.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::gated::Kill;

/// How long a callback waits for the target. Siblings on the same connection
/// wait with it.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    #[default]
    Awaited,
    Given(bool),
    /// Nobody waits any more.
    Late,
}

/// One answer.
#[derive(Default, Debug)]
pub struct Answer {
    state: Mutex<State>,
    given: Notify,
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer; whether somebody takes it. If not it goes through the
    /// lane.
    pub fn give(&self, yes: bool) -> bool {
        let mut state = self.lock();
        if *state != State::Awaited {
            return false;
        }
        *state = State::Given(yes);
        self.given.notify_one();
        true
    }

    /// The answer comes through the lane, behind words.
    pub fn in_words(&self) {
        let mut state = self.lock();
        if *state == State::Awaited {
            *state = State::Late;
            self.given.notify_one();
        }
    }

    /// Waits for the answer; nothing if it comes later or not at all.
    pub async fn wait(&self, stop: &Kill) -> Option<bool> {
        stop.guard(tokio::time::timeout(WAIT, self.given.notified())).await;
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Late) {
            State::Given(yes) => Some(yes),
            State::Awaited | State::Late => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_taken_once_and_a_late_one_by_nobody() {
        let stop = Kill::new();
        let answer = Answer::default();
        assert!(answer.give(true));
        assert_eq!(answer.wait(&stop).await, Some(true));
        assert!(!answer.give(true));

        let answer = Answer::default();
        assert_eq!(answer.wait(&stop).await, None);
        assert!(!answer.give(false), "nobody waits any more");

        let answer = Answer::default();
        answer.in_words();
        assert_eq!(answer.wait(&stop).await, None);

        let answer = Answer::default();
        stop.fire();
        assert_eq!(answer.wait(&stop).await, None);
    }
}
