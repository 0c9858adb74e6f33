//! One direction of one channel: an own queue between the two legs.
//!
//! russh refills windows on receipt and parks its loop on a full channel
//! queue, so a callback must never wait for the other leg for long. What
//! arrives is copied in here and the callback returns. Up to
//! [`MEMORY_BYTES_MAX`] it stays in memory; past that it continues in an
//! unlinked file, encrypted under a key held only in memory, and is read back
//! as the other side drains. What is in a lane is not yet recorded and not yet
//! delivered; a crash loses it, and nobody has seen it.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::budget::Budget;
use super::gated::Kill;
use super::overflow::{Kept, Overflow};
use crate::clock::{Tick, tick};

/// Bytes of one lane kept in memory.
pub const MEMORY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Above this a leg that can be braked is braked, in bytes.
pub const HIGH_WATER_BYTES: usize = 1024 * 1024;
/// Past this backlog a stalled reader's sender is slowed to a walk, in bytes.
pub const SLOW_WALK_BYTES: u64 = 256 * 1024 * 1024;
/// How long a callback waits for a reader that makes progress.
const BRAKE: Duration = Duration::from_millis(100);
/// A reader that took nothing for this long has stalled; a slow one has not.
const STALL: Duration = Duration::from_secs(2);
/// How long a callback waits per packet in the slow walk: short enough for
/// keepalives, window adjustments and rekeys to be served in between.
const SLOW_WALK: Duration = Duration::from_millis(250);
/// The same on a leg that other channels share.
const SHARED_WALK: Duration = Duration::from_millis(25);
/// Past this backlog a forward's sender is slowed to that walk, in bytes.
const FORWARD_WALK_BYTES: u64 = 16 * 1024 * 1024;
/// How long the callback of a forward waits per packet for a reader that makes progress.
const FORWARD_BRAKE: Duration = Duration::from_millis(5);
/// Entries of one lane, whatever their size.
const ENTRIES_MAX: usize = 64 * 1024;
/// Packets smaller than this are joined to the one before, in bytes.
const JOIN_BYTES_MAX: usize = 4 * 1024;
/// Joined packets grow up to this size, in bytes.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Which of the target's two output streams, or the client's one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard input, or standard output.
    Main,
    /// Standard error (extended data 1).
    Stderr,
}

/// What comes out of a lane, in the order in which it went in.
#[derive(Debug)]
pub enum Entry<C> {
    Data { stream: Stream, bytes: Bytes },
    Control(C),
}

/// Why a lane cannot take more.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    #[error("more than {max} bytes wait for a reader that stopped")]
    Full { max: u64 },
    #[error("more than {ENTRIES_MAX} packets wait for a reader that stopped")]
    TooMany,
    #[error("the overflow file failed: {0}")]
    Overflow(#[from] io::Error),
    #[error("the overflow file does not hold what was written to it")]
    Tampered,
}

enum Slot<C> {
    Memory { stream: Stream, bytes: BytesMut },
    Spilled { stream: Stream, kept: Kept },
    Control(C),
}

struct State<C> {
    slots: VecDeque<Slot<C>>,
    /// Bytes waiting, in memory and spilled.
    backlog: u64,
    memory: usize,
    overflow: Option<Overflow>,
    /// When the reader last took something.
    popped: Tick,
    closed: bool,
}

/// One direction of one channel.
pub struct Lane<C> {
    state: Mutex<State<C>>,
    filled: Notify,
    drained: Notify,
    folder: PathBuf,
    budget: Budget,
}

impl<C> Lane<C> {
    /// A lane whose overflow file lies in `folder`; what waits in it is taken of `budget`.
    pub fn new(folder: PathBuf, budget: Budget) -> Lane<C> {
        Lane {
            state: Mutex::new(State {
                slots: VecDeque::new(),
                backlog: 0,
                memory: 0,
                overflow: None,
                popped: tick(),
                closed: false,
            }),
            filled: Notify::new(),
            drained: Notify::new(),
            folder,
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes and adds them to `taken`. Never waits. What comes after
    /// [`Lane::abandon`] is not part of the session any more: it goes nowhere
    /// and stands in no account. Both happen under the lane's lock, so that
    /// the accounts reconcile at every moment.
    ///
    /// # Errors
    /// When the bound is reached or the overflow file fails; the session ends
    /// then, and the bytes are in `taken` all the same.
    pub fn push(&self, stream: Stream, bytes: &[u8], taken: &AtomicU64) -> Result<(), LaneError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Ok(());
        }
        taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if !self.budget.take(bytes.len() as u64) {
            return Err(LaneError::Full { max: self.budget.max() });
        }
        if let Err(error) = state.store(stream, bytes, &self.folder) {
            self.budget.give(bytes.len() as u64);
            return Err(error);
        }
        // Last: what could not be stored is not waiting, and the caller books it.
        state.backlog += bytes.len() as u64;
        drop(guard);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes something that is not data, in order with the data around it.
    ///
    /// # Errors
    /// When too much waits already.
    pub fn control(&self, control: C) -> Result<(), LaneError> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        if state.slots.len() >= ENTRIES_MAX {
            return Err(LaneError::TooMany);
        }
        state.slots.push_back(Slot::Control(control));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for entries; answers with some, at most about `bytes_max` of
    /// data, or with nothing once the lane is closed. One reader only.
    ///
    /// # Errors
    /// When the overflow file cannot be read back.
    pub async fn pop(&self, bytes_max: usize, into: &mut Vec<Entry<C>>) -> Result<bool, LaneError> {
        loop {
            let notified = self.filled.notified();
            {
                let mut guard = self.lock();
                let state = &mut *guard;
                let mut bytes = 0;
                while bytes < bytes_max {
                    let Some(slot) = state.slots.pop_front() else {
                        break;
                    };
                    let entry = state.open(slot)?;
                    if let Entry::Data { bytes: data, .. } = &entry {
                        bytes += data.len();
                        state.backlog = state.backlog.saturating_sub(data.len() as u64);
                        self.budget.give(data.len() as u64);
                    }
                    into.push(entry);
                }
                if !into.is_empty() {
                    state.popped = tick();
                    drop(guard);
                    self.drained.notify_one();
                    return Ok(true);
                }
                if state.closed {
                    return Ok(false);
                }
            }
            notified.await;
        }
    }

    /// Waits until the next [`Lane::pop`] has an answer at once. For its one reader.
    pub async fn filled(&self) {
        loop {
            let notified = self.filled.notified();
            {
                let state = self.lock();
                if !state.slots.is_empty() || state.closed {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Bytes that wait.
    pub fn backlog(&self) -> u64 {
        self.lock().backlog
    }

    /// Lets the sender wait while the reader makes progress, briefly, or walk
    /// slowly behind a reader that has stalled far back. For callbacks of a
    /// leg that carries this channel alone.
    pub async fn brake(&self, kill: &Kill) {
        let (memory, backlog, popped) = {
            let state = self.lock();
            (state.memory, state.backlog, state.popped)
        };
        if memory <= HIGH_WATER_BYTES {
            return;
        }
        if tick().duration_since(popped) >= STALL {
            if backlog > SLOW_WALK_BYTES {
                kill.guard(tokio::time::timeout(SLOW_WALK, self.drained.notified()))
                    .await;
            }
            return;
        }
        let emptied = async {
            loop {
                let drained = self.drained.notified();
                if self.lock().memory <= HIGH_WATER_BYTES {
                    return;
                }
                drained.await;
            }
        };
        kill.guard(tokio::time::timeout(BRAKE, emptied)).await;
    }

    /// As [`Lane::brake`], for a target's leg that many forwards share: the
    /// sender is held back a little for a reader that is slow, and a little
    /// more for one that is far behind, never so long that siblings stand still.
    pub async fn forward_brake(&self, stop: &Kill) {
        let (memory, backlog, popped) = {
            let state = self.lock();
            (state.memory, state.backlog, state.popped)
        };
        let wait = match (backlog > FORWARD_WALK_BYTES, memory > HIGH_WATER_BYTES) {
            (true, _) => SHARED_WALK,
            (false, true) if tick().duration_since(popped) < STALL => FORWARD_BRAKE,
            (false, _) => return,
        };
        let drained = tokio::time::timeout(wait, self.drained.notified());
        stop.guard(drained).await;
    }

    /// Lets a leg that other channels share wait a little for a reader that is
    /// far behind: without it a sender that ignores windows, or a fast sibling,
    /// fills the overflow file and ends the session.
    pub async fn shared_brake(&self, stop: &Kill) {
        if self.backlog() > SLOW_WALK_BYTES {
            let drained = tokio::time::timeout(SHARED_WALK, self.drained.notified());
            stop.guard(drained).await;
        }
    }

    /// Waits until the lane has room in memory, for senders that may wait: a
    /// pipe or a terminal holds its writer back by itself.
    pub async fn room(&self, kill: &Kill) {
        let emptied = async {
            loop {
                let drained = self.drained.notified();
                {
                    let state = self.lock();
                    if state.memory <= HIGH_WATER_BYTES || state.closed {
                        return;
                    }
                }
                drained.await;
            }
        };
        kill.guard(emptied).await;
    }

    /// Drops everything that waits and closes. Answers with the number of
    /// data bytes that were dropped.
    pub fn abandon(&self) -> u64 {
        let mut state = self.lock();
        state.closed = true;
        state.slots.clear();
        state.overflow = None;
        state.memory = 0;
        let dropped = std::mem::take(&mut state.backlog);
        drop(state);
        self.budget.give(dropped);
        self.filled.notify_one();
        self.drained.notify_waiters();
        self.drained.notify_one();
        dropped
    }
}

impl<C> Drop for Lane<C> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<C> State<C> {
    /// Puts bytes behind what waits already: joined to the last packet, in memory, or in the file.
    fn store(&mut self, stream: Stream, bytes: &[u8], folder: &std::path::Path) -> Result<(), LaneError> {
        if self.slots.len() >= ENTRIES_MAX {
            return Err(LaneError::TooMany);
        }
        if let Some(Slot::Memory {
            stream: last,
            bytes: joined,
        }) = self.slots.back_mut()
            && *last == stream
            && bytes.len() < JOIN_BYTES_MAX
            && joined.len() + bytes.len() <= JOINED_BYTES_MAX
        {
            joined.extend_from_slice(bytes);
            self.memory += bytes.len();
        } else if self.room(bytes.len()) || (self.spill_last(folder)? && self.room(bytes.len())) {
            self.memory += bytes.len();
            self.slots.push_back(Slot::Memory {
                stream,
                bytes: BytesMut::from(bytes),
            });
        } else {
            let kept = self.overflow(folder)?.write(bytes)?;
            self.slots.push_back(Slot::Spilled { stream, kept });
        }
        Ok(())
    }

    /// Whether so much may be added to memory. Small packets may go a little
    /// past the bound: the newest slot is where they are joined, so that what
    /// waits in the file is a few large entries and not each key's echo.
    fn room(&self, bytes: usize) -> bool {
        let max = match bytes < JOIN_BYTES_MAX {
            true => MEMORY_BYTES_MAX + JOIN_BYTES_MAX,
            false => MEMORY_BYTES_MAX,
        };
        self.memory.saturating_add(bytes) <= max
    }

    fn overflow(&mut self, folder: &std::path::Path) -> Result<&mut Overflow, LaneError> {
        match &mut self.overflow {
            Some(overflow) => Ok(overflow),
            none => Ok(none.insert(Overflow::create(folder)?)),
        }
    }

    /// Moves the newest slot into the file, if it is in memory.
    fn spill_last(&mut self, folder: &std::path::Path) -> Result<bool, LaneError> {
        let (stream, bytes) = match self.slots.pop_back() {
            Some(Slot::Memory { stream, bytes }) => (stream, bytes),
            other => {
                self.slots.extend(other);
                return Ok(false);
            }
        };
        let stored = self.overflow(folder).and_then(|overflow| overflow.write(&bytes));
        match stored {
            Ok(kept) => {
                self.memory = self.memory.saturating_sub(bytes.len());
                self.slots.push_back(Slot::Spilled { stream, kept });
                Ok(true)
            }
            Err(error) => {
                // Still there, and still counted.
                self.slots.push_back(Slot::Memory { stream, bytes });
                Err(error)
            }
        }
    }

    fn open(&mut self, slot: Slot<C>) -> Result<Entry<C>, LaneError> {
        match slot {
            Slot::Memory { stream, bytes } => {
                self.memory = self.memory.saturating_sub(bytes.len());
                Ok(Entry::Data {
                    stream,
                    bytes: bytes.freeze(),
                })
            }
            Slot::Control(control) => Ok(Entry::Control(control)),
            Slot::Spilled { stream, kept } => {
                let overflow = self.overflow.as_mut().ok_or(LaneError::Tampered)?;
                let bytes = overflow.read(&kept)?;
                if overflow.is_empty() {
                    self.overflow = None;
                }
                Ok(Entry::Data { stream, bytes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TAKEN: AtomicU64 = AtomicU64::new(0);

    fn lane(max: u64) -> (tempfile::TempDir, Lane<u32>) {
        let folder = tempfile::tempdir().unwrap();
        let lane = Lane::new(folder.path().to_owned(), Budget::new(max));
        (folder, lane)
    }

    #[tokio::test]
    async fn what_spills_comes_back_in_order() {
        let (_folder, lane) = lane(64 << 20);
        let block: Vec<u8> = (0..32 * 1024u32).map(|n| n as u8).collect();
        for n in 0..300u32 {
            lane.push(Stream::Main, &block, &TAKEN).unwrap();
            lane.control(n).unwrap();
        }
        assert!(lane.lock().overflow.is_some(), "9.6 MB do not fit in memory");
        lane.lock().closed = true;
        let (mut bytes, mut controls) = (0, Vec::new());
        let mut batch = Vec::new();
        while lane.pop(256 * 1024, &mut batch).await.unwrap() {
            for entry in batch.drain(..) {
                match entry {
                    Entry::Data { bytes: data, .. } => {
                        assert_eq!(data, block);
                        bytes += data.len();
                    }
                    Entry::Control(n) => controls.push(n),
                }
            }
        }
        assert_eq!(bytes, 300 * block.len());
        assert_eq!(controls, (0..300).collect::<Vec<_>>());
        assert_eq!(lane.backlog(), 0);
        assert!(lane.lock().overflow.is_none(), "a drained file is given back");
    }

    #[tokio::test]
    async fn the_bound_is_kept() {
        let (_folder, lane) = lane(1 << 20);
        lane.push(Stream::Main, &vec![0; 1 << 20], &TAKEN).unwrap();
        assert!(matches!(
            lane.push(Stream::Main, b"x", &TAKEN),
            Err(LaneError::Full { .. })
        ));
        assert_eq!(lane.abandon(), 1 << 20);
        let late = AtomicU64::new(0);
        lane.push(Stream::Main, b"late", &late).unwrap();
        assert_eq!(late.into_inner(), 0, "booked after the end");
    }

    #[tokio::test]
    async fn small_packets_are_joined() {
        let (_folder, lane) = lane(1 << 20);
        for _ in 0..1000 {
            lane.push(Stream::Main, b"x", &TAKEN).unwrap();
        }
        assert_eq!(lane.lock().slots.len(), 1);
    }

    #[tokio::test]
    async fn small_packets_are_joined_in_the_file_too() {
        let (_folder, lane) = lane(64 << 20);
        // What a paused user's terminal is sent: far more packets than entries.
        let mut sent = Vec::new();
        for n in 0..200_000u32 {
            let packet = format!("line {n} of a program that goes on printing\n");
            lane.push(Stream::Main, packet.as_bytes(), &TAKEN).unwrap();
            sent.extend_from_slice(packet.as_bytes());
        }
        assert!(lane.lock().memory <= MEMORY_BYTES_MAX + JOIN_BYTES_MAX + JOINED_BYTES_MAX);
        assert!(lane.lock().slots.len() < 1000);
        lane.lock().closed = true;
        let (mut got, mut batch) = (Vec::new(), Vec::new());
        while lane.pop(256 * 1024, &mut batch).await.unwrap() {
            for entry in batch.drain(..) {
                if let Entry::Data { bytes, .. } = entry {
                    got.extend_from_slice(&bytes);
                }
            }
        }
        assert!(got == sent);
        assert_eq!(lane.lock().memory, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for_and_a_stalled_one_is_not() {
        let (_folder, lane) = lane(64 << 20);
        lane.push(Stream::Main, &vec![0; HIGH_WATER_BYTES + 1], &TAKEN).unwrap();
        let kill = Kill::new();
        let start = tick();
        lane.brake(&kill).await;
        assert_eq!(tick().duration_since(start), BRAKE);
        tokio::time::advance(STALL).await;
        let start = tick();
        lane.brake(&kill).await;
        assert_eq!(
            tick().duration_since(start),
            Duration::ZERO,
            "nothing is waited for behind a stalled reader"
        );
    }
}
