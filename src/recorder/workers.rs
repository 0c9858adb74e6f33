//! Three plain threads for all sessions: the clerk signs, the syncer syncs,
//! the sealer re-encodes. None of them runs while nobody does anything.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::Duration;

use super::append::encode;
use super::dirty::Dirty;
use super::job::Job;
use super::{Inner, RecorderError, SYNC_MS, UNSIGNED_MS_MAX};
use crate::clock::Clock;

/// Segments that may wait for the sealer, over all sessions; each session's
/// own bound is far below.
const JOBS_MAX: usize = 4096;
/// Niceness of the sealer: re-encoding never competes with a session.
const SEALER_NICE: i32 = 10;
/// How much earlier than the bound the clerk signs, in ms.
const SIGN_EARLY_MS: u64 = 50;

#[derive(Clone)]
pub struct Workers(Arc<Shared>);

struct Shared {
    clock: Clock,
    due: Mutex<Due>,
    wake: Condvar,
    sync: Mutex<SyncList>,
    sync_wake: Condvar,
    jobs: mpsc::SyncSender<(Arc<Inner>, Job)>,
    /// Segments handed to the sealer that it has not done.
    waiting: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Due {
    /// Boot ms at which to look at a spool, and a number to tell equals apart.
    at: BTreeMap<(u64, u64), Weak<Inner>>,
    next: u64,
    stopping: bool,
}

#[derive(Default)]
struct SyncList {
    dirty: Vec<Weak<Inner>>,
    stopping: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    pub fn start(clock: Clock) -> std::io::Result<Workers> {
        let (jobs, queue) = mpsc::sync_channel(JOBS_MAX);
        let workers = Workers(Arc::new(Shared {
            clock,
            due: Mutex::default(),
            wake: Condvar::new(),
            sync: Mutex::default(),
            sync_wake: Condvar::new(),
            jobs,
            waiting: Arc::default(),
        }));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
        };
        let shared = workers.0.clone();
        spawn("clerk", Box::new(move || clerk(&shared)))?;
        let shared = workers.0.clone();
        spawn("syncer", Box::new(move || syncer(&shared)))?;
        let waiting = workers.0.waiting.clone();
        spawn("sealer", Box::new(move || sealer(&queue, &waiting)))?;
        Ok(workers)
    }

    pub fn stop(&self) {
        lock(&self.0.due).stopping = true;
        self.0.wake.notify_all();
        lock(&self.0.sync).stopping = true;
        self.0.sync_wake.notify_all();
    }

    /// Sees to it that a dirty spool is signed and synced in time.
    pub fn watch(&self, inner: &Arc<Inner>, dirty: &Dirty) {
        if dirty.sign {
            let at = self
                .0
                .clock
                .now()
                .boot_ms
                .saturating_add(UNSIGNED_MS_MAX - SIGN_EARLY_MS);
            self.tick_at(inner, at);
        }
        if let Some(at_ms) = dirty.echo_at {
            self.tick_at(inner, inner.opened_boot_ms.saturating_add(at_ms));
        }
        if dirty.sync {
            let mut sync = lock(&self.0.sync);
            let was_empty = sync.dirty.is_empty();
            sync.dirty.push(Arc::downgrade(inner));
            drop(sync);
            if was_empty {
                self.0.sync_wake.notify_one();
            }
        }
    }

    fn tick_at(&self, inner: &Arc<Inner>, boot_ms: u64) {
        let mut due = lock(&self.0.due);
        due.next += 1;
        let key = (boot_ms, due.next);
        let first = due.at.first_key_value().is_none_or(|(first, _)| key < *first);
        due.at.insert(key, Arc::downgrade(inner));
        drop(due);
        if first {
            self.0.wake.notify_one();
        }
    }

    /// Segments of all sessions that wait for the sealer, or are with it.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Hands a closed segment to the sealer, without waiting.
    ///
    /// # Errors
    /// When its queue is full.
    pub fn seal(&self, inner: Arc<Inner>, job: Job) -> Result<(), RecorderError> {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.jobs.try_send((inner, job)).map_err(|error| {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            RecorderError::Failed(format!("the sealer cannot take a segment: {error}"))
        })
    }
}

fn clerk(shared: &Shared) {
    loop {
        let mut ready = Vec::new();
        {
            let mut due = lock(&shared.due);
            loop {
                if due.stopping {
                    return;
                }
                let now = shared.clock.now().boot_ms;
                while let Some(entry) = due.at.first_entry() {
                    if entry.key().0 > now {
                        break;
                    }
                    ready.push(entry.remove());
                }
                if !ready.is_empty() {
                    break;
                }
                let wait = due.at.first_key_value().map(|((at, _), _)| at.saturating_sub(now));
                due = match wait {
                    Some(ms) => {
                        let wait = Duration::from_millis(ms.max(1));
                        shared
                            .wake
                            .wait_timeout(due, wait)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                    None => shared.wake.wait(due).unwrap_or_else(PoisonError::into_inner),
                };
            }
        }
        for inner in ready.iter().filter_map(Weak::upgrade) {
            // The failure is told to the session; there is nobody else to tell.
            guarded(&inner, "the clerk failed", || {
                inner.with(|spool, at_ms| spool.tick(at_ms))
            })
            .ok();
        }
    }
}

fn syncer(shared: &Shared) {
    loop {
        let dirty = {
            let mut sync = lock(&shared.sync);
            while sync.dirty.is_empty() {
                if sync.stopping {
                    return;
                }
                sync = shared.sync_wake.wait(sync).unwrap_or_else(PoisonError::into_inner);
            }
            drop(sync);
            std::thread::sleep(Duration::from_millis(SYNC_MS));
            std::mem::take(&mut lock(&shared.sync).dirty)
        };
        for inner in dirty.iter().filter_map(Weak::upgrade) {
            guarded(&inner, "the syncer failed", || self::sync(&inner)).ok();
        }
    }
}

/// A panic over one session's data ends that session and no other.
fn guarded<T>(
    inner: &Arc<Inner>,
    what: &str,
    work: impl FnOnce() -> Result<T, RecorderError>,
) -> Result<T, RecorderError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(_) => Err(inner.fail(RecorderError::Failed(what.into()))),
    }
}

/// Syncs one spool. A sync that failed is never trusted again, and one that
/// another thread has begun is waited for.
pub fn sync(inner: &Arc<Inner>) -> Result<(), RecorderError> {
    let one = lock(&inner.syncing);
    inner.intact()?;
    let unsynced = inner.lock().take_unsynced();
    let synced = unsynced
        .files
        .iter()
        .try_for_each(|file| file.sync_data())
        .and_then(|()| {
            let system = unsynced.system.iter();
            system
                .map(std::fs::File::open)
                .try_for_each(|folder| Ok(rustix::fs::syncfs(folder?)?))
        })
        .and_then(|()| {
            unsynced
                .folders
                .iter()
                .try_for_each(|folder| std::fs::File::open(folder)?.sync_all())
        })
        .and_then(|()| unsynced.tails.iter().try_for_each(std::fs::remove_file));
    drop(one);
    synced.map_err(|error| inner.fail(RecorderError::unsynced(&error)))?;
    inner.intact()
}

fn sealer(queue: &mpsc::Receiver<(Arc<Inner>, Job)>, waiting: &AtomicUsize) {
    // Best effort: on Linux this sets the calling thread's niceness alone.
    rustix::process::setpriority_process(None, SEALER_NICE).ok();
    while let Ok((inner, job)) = queue.recv() {
        // After a failure nothing goes behind what failed: the tail stays.
        let sealed = guarded(&inner, "the sealer failed", || {
            inner.intact()?;
            encode(job, inner.share.sealing())
        });
        if let Err(error) = sealed {
            inner.fail(error);
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
        inner.lock().segment_done();
        inner.segments_done.notify_waiters();
    }
}
