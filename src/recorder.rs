//! Spool writer and sealer: takes what crosses a session, before it moves on.
//!
//! *Taken* means appended to the spool with the write returned. A failure is
//! told to the session once and for all: there is no way to go on unrecorded.
//! `portcullis_recording` decides what the bytes are; this decides when they
//! are written, signed (at most 250 ms or 1 MiB later), synced (at most 1 s
//! later) and re-encoded.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_recording::event::ChannelAccount;
use portcullis_recording::{Event, Head, Sealed, WriteError, Writer};

use crate::clock::Clock;
use crate::keeper::{Keeper, KeeperError};
use crate::kernel::labels::Labels;

mod append;
mod blobs;
mod bulk;
mod commands;
mod dirty;
mod envelope;
mod job;
mod lines;
mod pace;
mod programs;
mod read_lines;
mod recovery;
mod reserve;
mod screens;
mod spool;
mod take;
mod tally;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_commands;
mod workers;

pub use envelope::{RECIPIENTS_MIN, Recipients};
pub use recovery::{LeftOver, Recovered, recover_all};
use reserve::Share;
pub use reserve::{Kept, Reserve};
use spool::{Hidden, Spool};
use take::Part;
pub use take::Take;
pub use tally::{Files, Tally};
use workers::Workers;

/// How long what was written may stay unsigned, in ms.
pub const UNSIGNED_MS_MAX: u64 = 250;
/// How often dirty spools are synced, in ms: half the bound of 1 s, so that a
/// slow sync still keeps it.
const SYNC_MS: u64 = 400;
/// How long a segment may stay open, in ms.
const SEGMENT_MS_MAX: u64 = 10 * 60 * 1000;
/// How long sealing may take once everything has been taken.
const SEAL_WAIT: Duration = Duration::from_secs(60);

/// Why the recorder cannot take anything any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecorderError {
    /// Appending, syncing or making a file failed.
    #[error("the spool {what}: {why}")]
    Spool { what: &'static str, why: String },
    /// The same, because the disk or the quota is full.
    #[error("the spool {what}: {why}")]
    Full { what: &'static str, why: String },
    /// Accounts and end are in: too late for anything else. No failure.
    #[error("the recording has ended")]
    Ended,
    /// Not enough room is left to promise a seal.
    #[error("the spool has {free} MiB left and keeps {floor} MiB in reserve; free some space")]
    NoRoom { free: u64, floor: u64 },
    #[error("the format refused: {0}")]
    Format(#[from] WriteError),
    #[error("the node's key did not sign: {0}")]
    Key(String),
    /// It failed before; the first reason counts.
    #[error("{0}")]
    Failed(String),
    #[error("sealing took longer than {} s", SEAL_WAIT.as_secs())]
    SealTimeout,
}

impl RecorderError {
    fn io(what: &'static str, error: &std::io::Error) -> RecorderError {
        let why = error.to_string();
        match reserve::is_full(error) {
            true => RecorderError::Full { what, why },
            false => RecorderError::Spool { what, why },
        }
    }
}

impl RecorderError {
    /// What was written may be on the disk or not.
    fn unsynced(error: &std::io::Error) -> RecorderError {
        RecorderError::io("cannot be synced; its durability is unknown", error)
    }
}

impl From<KeeperError> for RecorderError {
    fn from(error: KeeperError) -> Self {
        RecorderError::Key(error.to_string())
    }
}

/// Told once when a recorder fails.
pub type OnFailure = Box<dyn Fn(String) + Send + Sync>;

/// A finished recording that still lies in the spool.
pub struct Finished {
    /// The sealed file.
    pub path: PathBuf,
    /// Its spool folder, to be removed once the file is in the archive.
    pub folder: PathBuf,
    pub sealed: Sealed,
    pub bytes: u64,
    /// What the server may keep of it even if it is encrypted; of a session
    /// whose recorder failed nobody has it.
    pub tally: Option<Tally>,
}

/// Makes recorders; owns the spool folder and the workers.
pub struct Recorders {
    folder: PathBuf,
    keeper: Arc<dyn Keeper>,
    clock: Clock,
    reserve: Arc<Reserve>,
    workers: Workers,
    /// Whom recordings from now on are encrypted to.
    recipients: Mutex<Recipients>,
    /// To whom keys of hidden lines are wrapped from now on.
    wrap_to: Mutex<Arc<Recipients>>,
}

impl Recorders {
    /// Takes over the spool folder and starts the workers.
    ///
    /// # Errors
    /// When the folder cannot be used or the system gives no threads.
    pub fn start(
        folder: &Path,
        keeper: Arc<dyn Keeper>,
        clock: Clock,
        kept: Kept,
    ) -> Result<Arc<Recorders>, RecorderError> {
        let spool = |what| {
            move |error: std::io::Error| RecorderError::Spool {
                what,
                why: error.to_string(),
            }
        };
        std::fs::create_dir_all(folder).map_err(spool("cannot be made"))?;
        let reserve = Arc::new(Reserve::hold(folder, kept));
        Ok(Arc::new(Recorders {
            folder: folder.to_owned(),
            keeper,
            workers: Workers::start(clock.clone()).map_err(spool("has no threads"))?,
            clock,
            reserve,
            recipients: Mutex::default(),
            wrap_to: Mutex::default(),
        }))
    }

    /// Encrypts recordings from now on to these; to nobody: in clear.
    pub fn encrypt_to(&self, recipients: Recipients) {
        *self.recipients.lock().unwrap_or_else(PoisonError::into_inner) = recipients;
    }

    /// Wraps the keys of hidden lines from now on to these before they are wiped; to nobody: they are wiped.
    pub fn wrap_hidden_to(&self, recipients: Recipients) {
        *self.wrap_to.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(recipients);
    }

    /// Whether recordings are encrypted, from now on.
    pub fn encrypts(&self) -> bool {
        !self
            .recipients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Where spools and overflow files lie.
    pub fn spool_folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Opens the recording of one session: its folder, its head, signed by the
    /// node. Its commands get these labels.
    ///
    /// # Errors
    /// [`RecorderError`]; there is no session then.
    pub async fn open(
        &self,
        head: Head,
        labels: Arc<Labels>,
        on_failure: OnFailure,
    ) -> Result<Recorder, RecorderError> {
        self.reserve.check()?;
        let share = Share::new(self.reserve.clone(), false);
        self.begin(head, labels, on_failure, share).await
    }

    /// Opens that of a break-glass session: on a full disk it lives in the room
    /// that is kept for such sessions.
    ///
    /// # Errors
    /// As [`Recorders::open`].
    pub async fn open_break_glass(
        &self,
        head: Head,
        labels: Arc<Labels>,
        on_failure: OnFailure,
    ) -> Result<Recorder, RecorderError> {
        let share = Share::new(self.reserve.clone(), true);
        self.make_way();
        self.begin(head, labels, on_failure, share).await
    }

    /// Before a break-glass session: on a full disk its room is given to it.
    pub fn make_way(&self) {
        self.reserve.make_way();
    }

    async fn begin(
        &self,
        mut head: Head,
        labels: Arc<Labels>,
        on_failure: OnFailure,
        share: Arc<Share>,
    ) -> Result<Recorder, RecorderError> {
        head.node_key = self.keeper.node_key();
        head.clamp();
        let recipients = self.recipients.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entropy = Box::new(|bytes: &mut [u8; 32]| crate::entropy::fill(bytes));
        let wrap_to = self.wrap_to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (unopened, envelope) = match recipients.is_empty() {
            true => (Writer::prepare(head, entropy)?, None),
            false => {
                let (key, envelope) = recipients.seal()?;
                (
                    Writer::prepare_encrypted(head, entropy, key, &envelope)?,
                    Some(envelope),
                )
            }
        };
        let signature = self.keeper.sign_recording(&unopened.statement()).await?;
        let (writer, main, frame) = unopened.open(&signature)?;
        let opened_boot_ms = self.clock.now().boot_ms;
        let head = writer.head().clone();
        let open_leaf = writer.open_leaf().clone();
        let mut spool = Spool::create(
            &self.folder,
            writer,
            main,
            &frame,
            envelope.as_deref(),
            share.clone(),
            labels,
        )?;
        spool.wrap_hidden_to(wrap_to);
        spool.blobs.seal_to(recipients);
        Ok(Recorder(Arc::new(Inner {
            hidden: spool.hidden(),
            blobs_left: AtomicU64::new(blobs::BLOBS_MAX),
            syncing: Mutex::new(()),
            clock: self.clock.clone(),
            opened_boot_ms,
            head,
            open_leaf,
            workers: self.workers.clone(),
            share,
            spool: Mutex::new(spool),
            segments_done: tokio::sync::Notify::new(),
            failed: Mutex::new(None),
            on_failure,
        })))
    }
}

impl Drop for Recorders {
    fn drop(&mut self) {
        self.workers.stop();
    }
}

/// One session's recorder. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

pub(crate) struct Inner {
    clock: Clock,
    opened_boot_ms: u64,
    head: Head,
    open_leaf: portcullis_recording::LedgerLeaf,
    workers: Workers,
    share: Arc<Share>,
    spool: Mutex<Spool>,
    hidden: Hidden,
    /// Runs that may still be kept in the vault.
    blobs_left: AtomicU64,
    /// Held from taking the unsynced files until they are synced.
    syncing: Mutex<()>,
    segments_done: tokio::sync::Notify,
    failed: Mutex<Option<RecorderError>>,
    on_failure: OnFailure,
}

impl Inner {
    fn at_ms(&self) -> u64 {
        self.clock.now().boot_ms.saturating_sub(self.opened_boot_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the first failure; whether this was it. The spool is locked.
    fn mark(&self, spool: &mut Spool, error: RecorderError) -> (RecorderError, bool) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failed.is_none();
        let error = failed.get_or_insert(error).clone();
        drop(failed);
        spool.poison();
        (error, first)
    }

    /// Ends the recorder for good and tells the session. Not under the spool's lock.
    fn fail(&self, error: RecorderError) -> RecorderError {
        let mut spool = self.lock();
        let (error, first) = self.mark(&mut spool, error);
        drop(spool);
        self.tell(&error, first);
        error
    }

    fn tell(&self, error: &RecorderError, first: bool) {
        if first {
            self.segments_done.notify_waiters();
            (self.on_failure)(error.to_string());
        }
    }

    fn intact(&self) -> Result<(), RecorderError> {
        match &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(RecorderError::Failed(error.to_string())),
            None => Ok(()),
        }
    }

    /// Gives the sealer what was closed.
    fn hand_over(self: &Arc<Self>, spool: &mut Spool) -> Result<(), RecorderError> {
        while let Some(segment) = spool.take_segment() {
            if let Err(error) = self.workers.seal(self.clone(), segment) {
                // It is a tail again, and nobody waits for it.
                spool.segment_done();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Does something to the spool; whatever fails there ends the recorder.
    fn with<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Spool, u64) -> Result<T, RecorderError>,
    ) -> Result<T, RecorderError> {
        let mut spool = self.lock();
        // Under the lock: nothing is appended behind a record that was torn.
        self.intact()?;
        let at_ms = self.at_ms();
        let done = match work(&mut spool, at_ms) {
            Err(RecorderError::Ended) => return Err(RecorderError::Ended),
            Err(error) => Err(self.mark(&mut spool, error)),
            Ok(done) => Ok(done),
        };
        // Under the lock as well: the sealer gets a recording's segments in their order.
        let done = done.and_then(|done| match self.hand_over(&mut spool) {
            Ok(()) => Ok(done),
            Err(error) => Err(self.mark(&mut spool, error)),
        });
        let dirty = spool.take_dirty();
        drop(spool);
        self.workers.watch(self, &dirty);
        done.map_err(|(error, first)| {
            self.tell(&error, first);
            error
        })
    }
}

impl Recorder {
    /// The head of the recording.
    pub fn head(&self) -> &Head {
        &self.0.head
    }

    /// The leaf that the ledger takes before the target is dialled.
    pub fn open_leaf(&self) -> &portcullis_recording::LedgerLeaf {
        &self.0.open_leaf
    }

    /// The leaf that says how far the finished chunks are; they are on the
    /// disk when it answers. Waits for one that is being written.
    ///
    /// # Errors
    /// The disk's; the recorder has failed then: the file tells of a failed
    /// sync once, and nobody else would hear of it.
    pub fn check_leaf(&self) -> Result<portcullis_recording::LedgerLeaf, RecorderError> {
        self.check_leaf_by(std::fs::File::sync_data)
    }

    fn check_leaf_by(
        &self,
        sync: impl FnOnce(&std::fs::File) -> std::io::Result<()>,
    ) -> Result<portcullis_recording::LedgerLeaf, RecorderError> {
        let main = self.0.lock().main();
        let (leaf, file) = {
            let main = job::lock(&main);
            (main.main.check_leaf(), main.file.clone())
        };
        // Not under the lock: the next chunk does not wait for it.
        match sync(&file) {
            Ok(()) => Ok(leaf),
            Err(error) => Err(self.0.fail(RecorderError::unsynced(&error))),
        }
    }

    /// Milliseconds since the session opened.
    pub fn at_ms(&self) -> u64 {
        self.0.at_ms()
    }

    /// Begins taking for one channel.
    pub fn take<'e>(&self, channel: u32) -> Take<'_, 'e> {
        Take::new(self, channel)
    }

    /// Takes one event.
    ///
    /// # Errors
    /// When it could not be appended.
    pub fn event(&self, channel: u32, event: Event<'_>) -> Result<(), RecorderError> {
        let mut take = self.take(channel);
        take.event(event);
        take.done()
    }

    /// From now on the channel's input is a terminal's.
    pub fn terminal(&self, channel: u32, cols: u32, rows: u32) {
        self.0.lock().terminal(channel, cols, rows);
    }

    /// Waits while too many closed segments wait for their re-encoding: the
    /// bound on deferred work is what slows a flooding terminal down.
    pub async fn room(&self) {
        loop {
            let done = self.0.segments_done.notified();
            let waiting = self.0.lock().segments_waiting();
            if pace::has_room(waiting, self.0.workers.waiting()) || self.0.intact().is_err() {
                return;
            }
            done.await;
        }
    }

    /// Waits until everything taken so far is on the disk.
    ///
    /// # Errors
    /// The disk's; the recorder has failed then.
    pub async fn sync(&self) -> Result<(), RecorderError> {
        let inner = self.0.clone();
        let synced = tokio::task::spawn_blocking(move || workers::sync(&inner)).await;
        synced.map_err(|error| RecorderError::Failed(error.to_string()))?
    }

    /// Bytes of unechoed input on a channel, to be left out of the accounts.
    pub fn hidden_bytes(&self, channel: u32) -> u64 {
        let hidden = self.0.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.get(&channel).copied().unwrap_or(0)
    }

    /// Ends the recording: the last lines' verdicts, the accounts, the reason,
    /// the last chunk, the seal; everything synced.
    ///
    /// # Errors
    /// [`RecorderError`]: then the spool stays as it is, for recovery.
    pub async fn finish(
        &self,
        accounts: impl FnOnce(&Recorder) -> Vec<ChannelAccount>,
        code: &str,
        text: &str,
    ) -> Result<Finished, RecorderError> {
        self.end(accounts, code, text)?;
        self.seal(code, text).await
    }

    /// `accounts` is asked under the spool's lock, once the last lines are
    /// decided: it may ask for the hidden bytes and for nothing else here.
    fn end(
        &self,
        accounts: impl FnOnce(&Recorder) -> Vec<ChannelAccount>,
        code: &str,
        text: &str,
    ) -> Result<(), RecorderError> {
        self.0
            .with(|spool, at_ms| spool.end(at_ms, || accounts(self), code, text))
    }

    async fn seal(&self, code: &str, text: &str) -> Result<Finished, RecorderError> {
        let waited = tokio::time::timeout(SEAL_WAIT, async {
            loop {
                let done = self.0.segments_done.notified();
                if self.0.lock().segments_waiting() == 0 || self.0.intact().is_err() {
                    return;
                }
                done.await;
            }
        });
        waited.await.map_err(|_| RecorderError::SealTimeout)?;
        self.0.intact()?;
        let inner = self.0.clone();
        let (code, text) = (code.to_owned(), text.to_owned());
        let finished = tokio::task::spawn_blocking(move || {
            let mut spool = inner.lock();
            inner.intact()?;
            let at_ms = inner.at_ms();
            spool.finish(at_ms, &code, &text)
        });
        finished
            .await
            .map_err(|error| RecorderError::Failed(error.to_string()))?
            .map_err(|error| self.0.fail(error))
    }

    /// Seals by the node's key what a failed recorder has taken.
    pub async fn salvage(&self, keeper: &dyn Keeper, code: &str) -> Recovered {
        let folder = self.0.lock().folder().to_owned();
        // A segment still with the sealer may be appending to the main file.
        let idle = async {
            loop {
                let done = self.0.segments_done.notified();
                if self.0.lock().segments_waiting() == 0 {
                    return;
                }
                done.await;
            }
        };
        match tokio::time::timeout(SEAL_WAIT, idle).await {
            Ok(()) => {
                let failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(RecorderError::Full { .. } | RecorderError::NoRoom { .. }) = failed {
                    self.0.share.reserve().release();
                }
                let text = match failed {
                    Some(error) => format!("the recorder failed: {error}"),
                    None => recovery::NOT_ENDED.to_owned(),
                };
                recovery::recover_one(&folder, keeper, code, &text, self.0.share.reserve()).await
            }
            Err(_) => Recovered::Unreadable {
                folder,
                why: RecorderError::SealTimeout.to_string(),
            },
        }
    }
}
