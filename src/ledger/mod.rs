//! The transparency log of security events and of every recording's open and seal.
//!
//! In a folder: `journal` (the truth: bodies, salts, entries), and derived
//! from it, for anybody to fetch, `checkpoint` and `tile/…` (c2sp.org/tlog-tiles).
//! The log itself holds salted hashes, so that it may be public.
//!
//! **Order of durability**, and what a crash after each step leaves behind:
//!
//! 1. frames are appended to `journal`: nobody was told; the next start keeps
//!    the whole ones and cuts a torn one off (into `journal.torn-…`);
//! 2. `fdatasync`: the leaves count from here on, whoever was told or not;
//! 3. the tree in memory takes them in, and the callers are answered;
//! 4. the keeper signs the new root: nothing of it is on disk;
//! 5. tiles are written (staged, synced, renamed, folder synced): no
//!    checkpoint needs them yet; the next start writes them again if they differ;
//! 6. witnesses are asked, for a bounded time: they know a size that the next
//!    start reaches again;
//! 7. `checkpoint` is swapped, with their cosignatures: leaves up to here can
//!    never be taken back unnoticed by anybody who saw it.
//!
//! Steps 1 to 3 are the writer's thread, 4 to 7 the publisher's task: signing
//! never delays an append. After an error in 1 or 2 nothing is taken before a
//! restart.
//!
//! Trust: who can modify the folder can take back what was never shown to
//! anybody else. Proofs beside recordings, witnesses and the store's copy of
//! the checkpoint are what he would have to change as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::merkle::{self, Hash};
use portcullis_recording::note::Note;
use portcullis_recording::proof::Proof;
use portcullis_recording::seal::Sealed;
use portcullis_recording::statement;
use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::durable;
use crate::keeper::Keeper;
use crate::kernel::id::SessionId;

use self::body::{Body, KIND_BYTES_MAX};
use self::cosign::{Cosigned, Cosigners, Witnesses};
use self::publish::{Published, Publisher, Status};
use self::sessions::Live;
use self::standing::Checkpoints;
use self::state::Shared;
use self::writer::{Op, QUEUE_LEAVES_MAX, Writer};

pub mod body;
pub mod checkpoint;
mod compare;
pub mod cosign;
pub mod erasure;
mod error;
pub mod fsck;
pub mod journal;
mod prove;
mod publish;
pub mod refusals;
pub mod renew;
mod replay;
pub mod report;
mod sessions;
pub mod standing;
mod start;
mod state;
pub mod tiles;
mod writer;

pub use self::error::LedgerError;
pub use self::publish::PUBLISH_MS;
pub use self::state::{Hook, Step};
pub use self::writer::Entry;

/// Longest wait for a leaf to be durable, queueing included, in ms.
pub const APPEND_MS_MAX: u64 = 5_000;
/// Longest wait for a checkpoint that covers a leaf, in ms.
pub const CHECKPOINT_MS_MAX: u64 = 10_000;
/// Most events about one session that are told.
pub const EVENTS_ABOUT_MAX: usize = 1_000;
/// Most checkpoints known from elsewhere that a start compares with.
pub const ANCHORS_MAX: usize = 1_024;

/// A checkpoint that was kept elsewhere: in the store, at a witness, beside a
/// recording. A folder that is older than it was rolled back.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// Where it comes from, for messages.
    pub source: String,
    /// The signed note.
    pub note: String,
}

/// How to open a ledger.
#[derive(Clone, Default)]
pub struct Options {
    /// The name that the folder must have.
    pub origin: String,
    pub anchors: Vec<Anchor>,
    /// Who is asked to cosign each checkpoint.
    pub witnesses: Witnesses,
    /// For tests; see [`Step`].
    pub hook: Option<Hook>,
}

/// Proof that a session's open leaf is durable: what a dial asks for.
#[derive(Clone, Debug)]
pub struct OpenReceipt {
    session: SessionId,
    entry: Entry,
}

impl OpenReceipt {
    /// The session that may go on.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its leaf.
    pub fn entry(&self) -> Entry {
        self.entry
    }
}

/// Proof that a recording's seal leaf is durable: what the archive asks for.
#[derive(Clone, Debug)]
pub struct SealReceipt {
    session: SessionId,
    entry: Entry,
}

impl SealReceipt {
    /// The session that was sealed.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its leaf; `fresh` is false when an earlier try had come through.
    pub fn entry(&self) -> Entry {
        self.entry
    }
}

/// One node's ledger, open for appending.
pub struct Ledger {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Op>>>,
    status: watch::Receiver<Status>,
    clock: Clock,
    /// The last leaf of each kind of event that tells a state.
    latest: tokio::sync::Mutex<BTreeMap<String, u64>>,
    publisher: JoinHandle<()>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

impl Ledger {
    /// Makes an empty ledger in `dir`, which is made as well; `init` does
    /// this, a start never.
    ///
    /// # Errors
    /// When one is there already.
    pub fn create(dir: &Path, origin: &str) -> Result<(), LedgerError> {
        journal::check_origin(origin)?;
        durable::create_dir_all(dir, 0o755)?;
        journal::create(dir, origin)?;
        Ok(())
    }

    /// Replays the journal, holds it against the signed checkpoint and every
    /// anchor, makes derived files good that a crash left behind, shows it to
    /// the witnesses, and begins to take leaves. A witness that does not
    /// answer is no obstacle.
    ///
    /// # Errors
    /// When the folder is missing, in use, damaged, rolled back or forked:
    /// such a ledger is evidence and is not written to.
    pub async fn open(
        dir: &Path,
        options: Options,
        keeper: Arc<dyn Keeper>,
        clock: Clock,
    ) -> Result<Ledger, LedgerError> {
        let key = checkpoint::ledger_key(&options.origin, keeper.ledger_key())
            .map_err(|_| journal::JournalError::BadOrigin(options.origin.clone()))?;
        let (place, asked) = (dir.to_owned(), options.clone());
        let opened = tokio::task::spawn_blocking(move || start::prepare(&place, &asked, &key))
            .await
            .map_err(|why| LedgerError::Stopped(why.to_string()))??;
        let start::Prepared {
            replayed,
            appender,
            standing,
            partials,
            cut,
        } = opened;
        let cosigners = Cosigners::new(&options.witnesses, standing.note.as_ref(), clock.clone());
        let shared = Arc::new(Shared::new(dir.to_owned(), options.origin, replayed.log, options.hook));
        let (sender, status) = watch::channel(Status {
            now: Arc::new(standing),
            tries: 0,
            failed: None,
            cosigned: Cosigned::default(),
            short: 0,
        });
        let mut publisher = Publisher {
            shared: shared.clone(),
            keeper,
            status: sender,
            partials,
            cosigners,
        };
        publisher.begin().await?;
        let writer = Writer {
            shared: shared.clone(),
            to: appender,
            end: replayed.end,
            sessions: replayed.sessions,
        };
        let (queue, ops) = mpsc::channel(QUEUE_LEAVES_MAX);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || writer.run(ops))
            .map_err(|why| LedgerError::Stopped(why.to_string()))?;
        let ledger = Ledger {
            shared,
            queue: Mutex::new(Some(queue)),
            status,
            clock,
            latest: tokio::sync::Mutex::new(replayed.latest),
            publisher: tokio::spawn(publisher.run()),
            writer: Mutex::new(Some(thread)),
        };
        if let Some(cut) = cut {
            ledger.append_event("journal-cut", cut).await?;
        }
        Ok(ledger)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Leaves that are durable.
    pub fn size(&self) -> u64 {
        self.shared.log().edge.size()
    }

    /// Why the last checkpoint was not published, if it was not: an alarm.
    pub fn unpublished(&self) -> Option<String> {
        self.shared.log().unpublished.clone()
    }

    /// Logs the opening of a session; durable when it answers. Asked again
    /// with the same head it gives the same leaf.
    ///
    /// # Errors
    /// When it is not known to be durable: then do not dial.
    pub async fn append_open(&self, leaf: LedgerLeaf, salt: [u8; 32]) -> Result<OpenReceipt, LedgerError> {
        let session = SessionId(leaf.session_id);
        if leaf.kind != LeafKind::Open {
            return Err(LedgerError::Contradiction {
                session,
                why: "the leaf is not an opening",
            });
        }
        let entry = self.append_leaf(leaf, salt).await?;
        Ok(OpenReceipt { session, entry })
    }

    /// Logs how far a live session's recording is.
    ///
    /// # Errors
    /// When the session is not open, or the leaf is not known to be durable.
    pub async fn append_check(&self, leaf: LedgerLeaf, salt: [u8; 32]) -> Result<Entry, LedgerError> {
        let session = SessionId(leaf.session_id);
        match leaf.kind {
            LeafKind::Check => self.append_leaf(leaf, salt).await,
            LeafKind::Open | LeafKind::Seal => Err(LedgerError::Contradiction {
                session,
                why: "the leaf is not a check",
            }),
        }
    }

    /// Logs the seal of a recording, exactly once: asked again for the same
    /// recording it gives the same leaf.
    ///
    /// # Errors
    /// When the session was never opened here or sealed as another recording,
    /// or the leaf is not known to be durable (then ask again).
    pub async fn append_seal(&self, sealed: &Sealed) -> Result<SealReceipt, LedgerError> {
        self.append_seal_leaf(sealed.leaf(), sealed.head().salt).await
    }

    async fn append_seal_leaf(&self, leaf: LedgerLeaf, salt: [u8; 32]) -> Result<SealReceipt, LedgerError> {
        let session = SessionId(leaf.session_id);
        let entry = self.append_leaf(leaf, salt).await?;
        Ok(SealReceipt { session, entry })
    }

    /// Logs anything else: a grant, a revocation, an inventory or key change,
    /// a start or stop. `body` is best a JSON object; its keys are sorted.
    ///
    /// # Errors
    /// When it is too long or not known to be durable.
    pub async fn append_event(&self, kind: &'static str, body: serde_json::Value) -> Result<Entry, LedgerError> {
        let event = Body::Event {
            kind: kind.chars().take(KIND_BYTES_MAX).collect(),
            at_ms: self.clock.now().wall_ms,
            json: sorted(body),
        };
        let body = event.encode().map_err(|bytes| LedgerError::TooLong { bytes })?;
        let salt = rand::rng().random();
        self.append(None, salt, body).await
    }

    /// Logs a state (which keys, which configuration) if the last leaf of its
    /// kind tells another one.
    ///
    /// # Errors
    /// As [`Ledger::append_event`], and when that last leaf cannot be read.
    pub async fn append_change(
        &self,
        kind: &'static str,
        body: serde_json::Value,
    ) -> Result<Option<Entry>, LedgerError> {
        // Held until it is logged: two changes at once are two leaves.
        let mut latest = self.latest.lock().await;
        if let Some(last) = latest.get(kind) {
            let (_, said) = self.leaf(*last).await?;
            let now = sorted(body.clone());
            if matches!(said, Body::Event { json, .. } if json == now) {
                return Ok(None);
            }
        }
        let entry = self.append_event(kind, body).await?;
        latest.insert(kind.to_owned(), entry.index);
        Ok(Some(entry))
    }

    async fn append_leaf(&self, leaf: LedgerLeaf, salt: [u8; 32]) -> Result<Entry, LedgerError> {
        let body = leaf.body();
        self.append(Some(leaf), salt, body).await
    }

    async fn append(&self, leaf: Option<LedgerLeaf>, salt: [u8; 32], body: Vec<u8>) -> Result<Entry, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let op = Op::Append {
            salt,
            body,
            leaf,
            reply,
        };
        self.ask(op, answer).await?
    }

    /// Sessions that were opened and not sealed: after a start, those to recover.
    ///
    /// # Errors
    /// When the ledger has stopped.
    pub async fn unsealed(&self) -> Result<Vec<SessionId>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let live: Vec<([u8; 16], Live)> = self.ask(Op::Live(reply), answer).await?;
        Ok(live.into_iter().map(|(id, _)| SessionId(id)).collect())
    }

    /// Whether the ledger has a session's opening, sealed since or not.
    ///
    /// # Errors
    /// When the ledger has stopped.
    pub async fn knows(&self, session: &SessionId) -> Result<bool, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Op::Knows(session.0, reply), answer).await
    }

    async fn ask<T>(&self, op: Op, answer: oneshot::Receiver<T>) -> Result<T, LedgerError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stopped = || LedgerError::Stopped("it was closed".to_owned());
        let queue = queue.ok_or_else(stopped)?;
        let asked = timeout(Duration::from_millis(APPEND_MS_MAX), async {
            queue.send(op).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())
        });
        asked.await.map_err(|_| LedgerError::Slow { ms: APPEND_MS_MAX })?
    }

    /// The checkpoint that stands, as a signed note.
    pub fn checkpoint(&self) -> String {
        let now = self.status.borrow().now.clone();
        now.note.as_ref().map(Note::to_string).unwrap_or_default()
    }

    /// Looks on as checkpoints are published; the one that stands is the first.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.status.clone())
    }

    /// A checkpoint that covers leaf `index`, signed now if need be.
    #[cfg(test)]
    pub async fn checkpoint_covering(&self, index: u64) -> Result<String, LedgerError> {
        let now = self.covering(index).await?;
        Ok(now.note.as_ref().map(Note::to_string).unwrap_or_default())
    }

    async fn covering(&self, index: u64) -> Result<Arc<Published>, LedgerError> {
        if index >= self.size() {
            return Err(LedgerError::NoLeaf(index));
        }
        let mut status = self.status.clone();
        let start = status.borrow().tries;
        let waited = timeout(Duration::from_millis(CHECKPOINT_MS_MAX), async {
            loop {
                {
                    let seen = status.borrow_and_update();
                    if seen.now.size > index {
                        return Ok(seen.now.clone());
                    }
                    if let Some(why) = seen.failed.as_ref().filter(|_| seen.tries > start) {
                        return Err(LedgerError::Behind(why.clone()));
                    }
                }
                self.shared.demand.notify_one();
                if status.changed().await.is_err() {
                    return Err(LedgerError::Stopped("it was closed".to_owned()));
                }
            }
        });
        waited.await.map_err(|_| LedgerError::Slow { ms: CHECKPOINT_MS_MAX })?
    }

    /// The offline proof that leaf `index` is in the log
    /// (c2sp.org/tlog-proof@v1), checked before it is given out.
    ///
    /// # Errors
    /// When there is no such leaf, no checkpoint over it, or a tile is damaged.
    pub async fn prove(&self, index: u64) -> Result<String, LedgerError> {
        self.proof(index, false).await
    }

    /// The same with the leaf itself in it, for leaves that no recording tells
    /// (recording/FORMAT.md section 9.6).
    ///
    /// # Errors
    /// As [`Ledger::prove`].
    pub async fn state(&self, index: u64) -> Result<String, LedgerError> {
        self.proof(index, true).await
    }

    /// Indices of the events whose body holds one of `ids`, oldest first, at
    /// most [`EVENTS_ABOUT_MAX`]. Reads the whole journal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn events_about(&self, ids: Vec<String>) -> Result<Vec<u64>, LedgerError> {
        let (shared, size) = (self.shared.clone(), self.size());
        tokio::task::spawn_blocking(move || prove::events_about(&shared.dir, size, &ids))
            .await
            .map_err(|why| LedgerError::Stopped(why.to_string()))?
    }

    async fn proof(&self, index: u64, with_leaf: bool) -> Result<String, LedgerError> {
        let published = self.covering(index).await?;
        let shared = self.shared.clone();
        let work = move || {
            let frame = prove::find_frame(&shared, index)?;
            let path = prove::path(&shared.dir, &published, index, &frame.entry)?;
            let checkpoint = published.note.clone().ok_or(LedgerError::NoLeaf(index))?;
            let proof = Proof {
                extra: with_leaf.then(|| statement::extra(&frame.salt, &frame.body)),
                index,
                hashes: path,
                checkpoint,
            };
            Ok(proof.to_string())
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|why| LedgerError::Stopped(why.to_string()))?
    }

    /// The root of the log's first `size` leaves.
    ///
    /// # Errors
    /// When it has fewer, no checkpoint covers them, or a tile is damaged.
    pub async fn root_at(&self, size: u64) -> Result<Hash, LedgerError> {
        let Some(last) = size.checked_sub(1) else {
            return Ok(merkle::empty_root());
        };
        let published = self.covering(last).await?;
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || prove::root_at(&shared.dir, &published, size))
            .await
            .map_err(|why| LedgerError::Stopped(why.to_string()))?
    }

    /// Salt and body of leaf `index`.
    ///
    /// # Errors
    /// When there is none, or the journal was damaged since the start.
    pub async fn leaf(&self, index: u64) -> Result<([u8; 32], Body), LedgerError> {
        let shared = self.shared.clone();
        let work = move || {
            let frame = prove::find_frame(&shared, index)?;
            let body = Body::decode(&frame.body).map_err(|_| LedgerError::NoLeaf(index))?;
            Ok((frame.salt, body))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|why| LedgerError::Stopped(why.to_string()))?
    }

    /// Takes nothing more, writes what was taken, publishes the last
    /// checkpoint and lets the folder go.
    ///
    /// # Errors
    /// When the last checkpoint cannot be published: the next start does it.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(queue);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            tokio::task::spawn_blocking(move || writer.join())
                .await
                .map_err(|why| LedgerError::Stopped(why.to_string()))?
                .map_err(|_| LedgerError::Stopped("its writer panicked".to_owned()))?;
        }
        let last = self.size().checked_sub(1);
        let published = match last {
            Some(last) => self.covering(last).await.map(drop),
            None => Ok(()),
        };
        self.publisher.abort();
        published
    }
}

#[cfg(test)]
pub(crate) mod testing;
/// One text for each meaning: keys in order, whatever order they came in.
fn sorted(mut body: serde_json::Value) -> String {
    body.sort_all_objects();
    body.to_string()
}

#[cfg(test)]
mod tests;
