//! The one thread that appends to the journal: many waiting leaves, one sync.

use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_recording::leaf::LedgerLeaf;
use portcullis_recording::merkle::{self, Hash};
use tokio::sync::{mpsc, oneshot};

use crate::durable::DurableError;
use crate::kernel::id::SessionId;

use super::error::LedgerError;
use super::journal::{Appender, Frame, JOURNAL_FILE};
use super::sessions::{Judgement, Live, Sessions};
use super::state::{Shared, Step};

/// Most leaves that wait for the writer.
pub const QUEUE_LEAVES_MAX: usize = 256;
/// Most bytes of bodies in one batch, besides its last leaf.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most full tiles that wait to be published: 8,192 leaves.
const PENDING_TILES_MAX: usize = 64;

/// A durable leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the log, from 0.
    pub index: u64,
    /// The salted hash that the log holds.
    pub entry: Hash,
    /// The Merkle leaf hash of that.
    pub leaf_hash: Hash,
    /// False when the leaf was there already.
    pub fresh: bool,
}

impl Entry {
    fn new(index: u64, entry: Hash, fresh: bool) -> Entry {
        Entry {
            index,
            entry,
            leaf_hash: merkle::leaf_hash(&entry),
            fresh,
        }
    }
}

pub(super) enum Op {
    Append {
        salt: [u8; 32],
        body: Vec<u8>,
        /// The same body as a value, when it is about a recording.
        leaf: Option<LedgerLeaf>,
        reply: oneshot::Sender<Result<Entry, LedgerError>>,
    },
    /// Which sessions are open.
    Live(oneshot::Sender<Vec<([u8; 16], Live)>>),
    Knows([u8; 16], oneshot::Sender<bool>),
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Append { body, .. } => body.len(),
            Op::Live(_) | Op::Knows(..) => 0,
        }
    }
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub to: Appender,
    /// Length of the journal.
    pub end: u64,
    pub sessions: Sessions,
}

type Answer = (oneshot::Sender<Result<Entry, LedgerError>>, Result<Entry, LedgerError>);

impl Writer {
    pub fn run(mut self, mut queue: mpsc::Receiver<Op>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while batch.len() < QUEUE_LEAVES_MAX && bytes < BATCH_BYTES_MAX {
                let Ok(more) = queue.try_recv() else { break };
                bytes = bytes.saturating_add(more.bytes());
                batch.push(more);
            }
            self.commit(batch);
        }
    }

    /// One batch. A crash before the sync leaves frames that nobody was told
    /// of: the next start keeps those that are whole and cuts the rest. After
    /// the sync every one of them counts.
    fn commit(&mut self, batch: Vec<Op>) {
        let (mut next, refuse) = {
            let log = self.shared.log();
            let behind = log.pending.len() >= PENDING_TILES_MAX;
            let refuse = match (&log.stopped, behind) {
                (Some(why), _) => Some((true, why.clone())),
                (None, true) => Some((false, log.unpublished.clone().unwrap_or_default())),
                (None, false) => None,
            };
            (log.edge.size(), refuse)
        };
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        let mut fresh: Vec<(Frame, u64)> = Vec::with_capacity(batch.len());
        let mut bytes = Vec::new();
        for op in batch {
            let (salt, body, leaf, reply) = match op {
                Op::Append {
                    salt,
                    body,
                    leaf,
                    reply,
                } => (salt, body, leaf, reply),
                Op::Live(reply) => {
                    // Who asked may have gone.
                    drop(reply.send(self.sessions.live()));
                    continue;
                }
                Op::Knows(session, reply) => {
                    // Who asked may have gone.
                    reply.send(self.sessions.knows(&session)).ok();
                    continue;
                }
            };
            if let Some((stopped, why)) = &refuse {
                let why = match stopped {
                    true => LedgerError::Stopped(why.clone()),
                    false => LedgerError::Behind(why.clone()),
                };
                answers.push((reply, Err(why)));
                continue;
            }
            let frame = Frame::new(next, salt, body);
            let answer = self.judge(leaf.as_ref(), &frame);
            if let Ok(Entry { fresh: true, .. }) = &answer {
                if let Some(leaf) = &leaf {
                    self.sessions.note(leaf, frame.index, &frame.entry);
                }
                let at = self.end.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                frame.write(&mut bytes);
                fresh.push((frame, at));
                next = next.saturating_add(1);
            }
            answers.push((reply, answer));
        }
        if !fresh.is_empty() {
            match self.append(&bytes) {
                Ok(()) => self.take_in(&fresh, bytes.len()),
                Err(why) => {
                    // Whether the bytes are there is not known, and a second
                    // sync would not tell: only a restart, which reads them.
                    let why = why.to_string();
                    self.shared.log().stopped = Some(why.clone());
                    for (_, answer) in &mut answers {
                        *answer = Err(LedgerError::Stopped(why.clone()));
                    }
                }
            }
        }
        for (reply, answer) in answers {
            // Who waited may have given up.
            drop(reply.send(answer));
        }
    }

    fn judge(&self, leaf: Option<&LedgerLeaf>, frame: &Frame) -> Result<Entry, LedgerError> {
        let Some(leaf) = leaf else {
            return Ok(Entry::new(frame.index, frame.entry, true));
        };
        match self.sessions.judge(leaf, &frame.entry) {
            Judgement::New => Ok(Entry::new(frame.index, frame.entry, true)),
            Judgement::Already(index) => Ok(Entry::new(index, frame.entry, false)),
            Judgement::Refused(why) => Err(LedgerError::Contradiction {
                session: SessionId(leaf.session_id),
                why,
            }),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DurableError> {
        let hooked = |shared: &Shared, step| shared.at(step).map_err(|why: io::Error| at_journal(&shared.dir, why));
        hooked(&self.shared, Step::Append)?;
        self.to.write(bytes)?;
        hooked(&self.shared, Step::Appended)?;
        self.to.sync()?;
        hooked(&self.shared, Step::Synced)
    }

    fn take_in(&mut self, fresh: &[(Frame, u64)], bytes: usize) {
        self.end = self.end.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let mut log = self.shared.log();
        let mut full = Vec::new();
        for (frame, at) in fresh {
            log.push(&frame.entry, *at, |tile| full.push(tile));
        }
        log.pending.append(&mut full);
        drop(log);
        self.shared.dirty.notify_one();
    }
}

fn at_journal(dir: &Path, why: io::Error) -> DurableError {
    DurableError {
        doing: "append to",
        path: dir.join(JOURNAL_FILE),
        why,
    }
}
