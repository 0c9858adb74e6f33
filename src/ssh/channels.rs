//! The open channels of one client connection, and the windows they are given.
//!
//! russh keeps one window target for a whole connection and applies what was
//! answered for one channel to the next adjustment of any. So the answer
//! depends on all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::ChannelId;

use super::channel::Channel;
use super::gated::Kill;
use super::lane::HIGH_WATER_BYTES;
use super::pump::ClientEnd;
use super::routes::{Opening, Routes};
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
pub struct Channels {
    open: Routes<(Arc<Channel>, ClientEnd)>,
    /// The number of the last channel that sent and was not stalled, and when.
    flowed: Arc<Mutex<Option<(u32, Tick)>>>,
}

/// Whether its target takes less than the client sends.
fn stalled(channel: &Channel) -> bool {
    channel.up.backlog() > HIGH_WATER_BYTES as u64
}

impl Channels {
    fn flowed(&self) -> MutexGuard<'_, Option<(u32, Tick)>> {
        self.flowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, id: ChannelId) -> Option<Arc<Channel>> {
        self.open.get(id).map(|(channel, _)| channel)
    }

    /// The same for what the client sends on it, which may come right behind
    /// its confirmation of an open of ours.
    pub async fn find(&self, id: ChannelId, kill: &Kill) -> Option<Arc<Channel>> {
        self.open.find(id, kill).await.map(|(channel, _)| channel)
    }

    pub fn insert(&self, id: ChannelId, channel: Arc<Channel>, end: ClientEnd) {
        // A client's connection that is over takes its sessions with it.
        self.open.insert(id, (channel, end)).ok();
    }

    /// Announces an open of ours.
    pub fn opening(&self) -> Opening<(Arc<Channel>, ClientEnd)> {
        self.open.opening()
    }

    pub fn remove(&self, id: ChannelId) -> Option<(Arc<Channel>, ClientEnd)> {
        self.open.remove(id)
    }

    /// Drops what has ended: a channel that the target closed is gone although
    /// the client's own CLOSE never reaches the handler.
    pub fn forget_ended(&self) {
        self.open.retain(|(channel, _)| !channel.stop.fired());
    }

    /// Books a packet of `length` bytes on `channel`; whether it is a trickle,
    /// behind which its callback may rest.
    pub fn trickles(&self, channel: &Channel, length: usize) -> bool {
        if stalled(channel) {
            return length <= TRICKLE_BYTES as usize;
        }
        *self.flowed() = Some((channel.number, tick()));
        false
    }

    /// The window target, asked when `id` has used up half of its own.
    pub fn window(&self, id: ChannelId) -> u32 {
        if !self.open.any(|(channel, _)| stalled(channel)) {
            return WINDOW_BYTES;
        }
        let Some(this) = self.get(id).filter(|channel| stalled(channel)) else {
            return SHARED_BYTES;
        };
        // A sibling: what it sent itself before it stalled is no reason to let
        // it send more than memory holds.
        let sibling = |(number, at): (u32, Tick)| number != this.number && tick().duration_since(at) < FLOWING;
        match self.flowed().is_some_and(sibling) {
            true => SHARED_BYTES,
            false => TRICKLE_BYTES,
        }
    }
}
