//! The open channels of one client connection, and the windows they are given.
//!
//! russh keeps one window target for a whole connection and applies what was
//! answered for one channel to the next adjustment of any. So the answer
//! depends on all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::ChannelId;

use super::channel::Channel;
use super::lane::HIGH_WATER_BYTES;
use super::pump::ClientEnd;
use crate::clock::{Tick, tick};

/// Window that we give a client per channel, in bytes.
pub const WINDOW_BYTES: u32 = 1024 * 1024;
/// What we give instead while a channel's backlog is above the high water:
/// two bytes a round trip keep the callback coming until the lane has drained.
pub const TRICKLE_BYTES: u32 = 2;
/// What every channel gets while one is stalled and another sends. With two
/// bytes for the one and everything for the other, the stalled one would get
/// the sibling's window and the sibling two bytes a round trip.
pub const SHARED_BYTES: u32 = 256 * 1024;
/// How long after its last packet a channel counts as sending.
const FLOWING: Duration = Duration::from_millis(50);

/// The open channels by russh's number. Cheap to clone.
#[derive(Clone, Default)]
pub struct Channels(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: HashMap<ChannelId, (Arc<Channel>, ClientEnd)>,
    /// When a channel that is not stalled sent last.
    flowed: Option<Tick>,
}

/// Whether its target takes less than the client sends.
fn stalled(channel: &Channel) -> bool {
    channel.up.backlog() > HIGH_WATER_BYTES as u64
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.lock().open.get(&id).map(|(channel, _)| channel.clone())
    }

    pub fn insert(&self, id: ChannelId, channel: Arc<Channel>, end: ClientEnd) {
        self.lock().open.insert(id, (channel, end));
    }

    pub fn remove(&self, id: ChannelId) -> Option<(Arc<Channel>, ClientEnd)> {
        self.lock().open.remove(&id)
    }

    /// Drops what has ended: a channel that the target closed is gone although
    /// the client's own CLOSE never reaches the handler.
    pub fn forget_ended(&self) {
        self.lock().open.retain(|_, (channel, _)| !channel.stop.fired());
    }

    /// Books a packet of `length` bytes on `channel`; whether it is a trickle,
    /// behind which its callback may rest.
    pub fn trickles(&self, channel: &Channel, length: usize) -> bool {
        if stalled(channel) {
            return length <= TRICKLE_BYTES as usize;
        }
        self.lock().flowed = Some(tick());
        false
    }

    /// The window target, asked when `id` has used up half of its own.
    pub fn window(&self, id: ChannelId) -> u32 {
        let state = self.lock();
        if !state.open.values().any(|(channel, _)| stalled(channel)) {
            return WINDOW_BYTES;
        }
        let this = state.open.get(&id).is_some_and(|(channel, _)| stalled(channel));
        let flows = state.flowed.is_some_and(|at| tick().duration_since(at) < FLOWING);
        match this && !flows {
            true => TRICKLE_BYTES,
            false => SHARED_BYTES,
        }
    }
}
