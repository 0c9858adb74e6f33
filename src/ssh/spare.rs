//! One target connection more than a session uses: a client that opens one
//! channel after the other finds the next one logged in already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::session::Live;
use super::target_channel::Dialled;
use crate::kernel::request::Request;

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(60);
/// From this channel of a session on: one alone needs no second connection.
const FROM_CHANNEL: u32 = 2;

/// The connection that is ready, if there is one.
#[derive(Default)]
pub struct Spare(Mutex<State>);

#[derive(Default)]
struct State {
    ready: Option<Dialled>,
    /// Counts those that were ready, so that only the one that was waited for is dropped.
    count: u64,
    dialling: bool,
}

impl Spare {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it, if it stands.
    pub fn take(&self) -> Option<Dialled> {
        self.lock().ready.take().filter(Dialled::alive)
    }

    /// Keeps one for the next channel. Answers with its number.
    pub fn put(&self, dialled: Dialled) -> u64 {
        let mut state = self.lock();
        state.ready = Some(dialled);
        state.dialling = false;
        state.count += 1;
        state.count
    }

    /// Whether one is to be dialled; who asks does it.
    fn claim(&self) -> bool {
        let mut state = self.lock();
        let wanted = state.ready.is_none() && !state.dialling;
        state.dialling |= wanted;
        wanted
    }

    fn failed(&self) {
        self.lock().dialling = false;
    }

    fn drop_if(&self, count: u64) {
        let mut state = self.lock();
        if state.count == count
            && let Some(idle) = state.ready.take()
        {
            idle.kill().fire();
        }
    }
}

impl Live {
    /// After `channel` has taken a connection: dials the next one, under a
    /// permit of its own, and lets it go when nobody wants it.
    pub fn refill(self: &Arc<Self>, channel: u32) {
        let wanted = channel >= FROM_CHANNEL && self.gate.settings().spare;
        if !wanted || self.is_local() || !self.spare.claim() {
            return;
        }
        let live = self.clone();
        tokio::spawn(async move {
            let stop = live.control.stop.clone();
            let permit = live.decide(0, Request::Connect, b"", "a spare connection");
            let dialled = match permit {
                Ok(permit) => stop.guard(live.dial(&permit)).await,
                Err(_) => None,
            };
            let Some(Ok(Some(dialled))) = dialled else {
                return live.spare.failed();
            };
            let count = live.spare.put(dialled);
            stop.guard(tokio::time::sleep(IDLE)).await;
            live.spare.drop_if(count);
        });
    }
}
