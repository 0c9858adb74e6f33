//! Keeps the index up to date behind the sessions: each recording once it is
//! archived, and whatever is missing after a start. A failure is said, and
//! costs no recording.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_recording::spool::recording_file;
use tokio::sync::mpsc;

use super::read::{Known, Places, read};
use super::{Counts, Index, SearchError};
use crate::kernel::id::SessionId;
use crate::store::{Page, RecordingRow, Store, StoreError};

/// Recordings that wait to be read; beyond that all are looked through for
/// those that are missing.
const QUEUED: usize = 1_024;
/// What waits before the first recording is read: the store's row of a session
/// that just ended, and whoever logs in at that moment.
const GATHER: Duration = Duration::from_millis(100);
/// Niceness of the thread that reads.
const NICE: i32 = 10;

/// What there is to do.
enum Work {
    One(SessionId),
    /// Whatever is not in it.
    Missing,
    /// All of it anew.
    Rebuild,
}

/// Why a recording is not in the index.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("reading it broke off: {0}")]
    Broke(String),
}

/// The index and what keeps it. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    index: Arc<Index>,
    places: Places,
    queue: mpsc::Sender<Work>,
    /// Recordings that are known to wait.
    waiting: Arc<AtomicU64>,
}

impl Keeper {
    /// Starts to read what is missing from `places`; ends with its last handle.
    pub fn start(index: Arc<Index>, store: Arc<dyn Store>, places: Places) -> Keeper {
        let (queue, work) = mpsc::channel(QUEUED);
        let waiting = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            index: index.clone(),
            store,
            places: places.clone(),
            waiting: waiting.clone(),
        };
        tokio::spawn(reader.run(work));
        let keeper = Keeper {
            index,
            places,
            queue,
            waiting,
        };
        keeper.put(Work::Missing);
        keeper
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where recordings lie.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// A recording is in the archive: it is read soon.
    pub fn archived(&self, session: SessionId) {
        self.put(Work::One(session));
    }

    /// Everything is read anew, in the background.
    pub fn rebuild(&self) {
        self.put(Work::Rebuild);
    }

    /// Takes a recording out for good.
    ///
    /// # Errors
    /// The file's: then it may still be found.
    pub async fn forget(&self, session: SessionId) -> Result<(), SearchError> {
        self.index.forget(session).await
    }

    /// How many recordings stand how, and how many wait to be read.
    ///
    /// # Errors
    /// The file's.
    pub async fn counts(&self) -> Result<(Counts, u64), SearchError> {
        Ok((self.index.counts().await?, self.waiting.load(Ordering::SeqCst)))
    }

    fn put(&self, work: Work) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.queue.try_send(work) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%error, "too much waits for the search index: the next start, or a rebuild, finds it");
        }
    }
}

struct Reader {
    index: Arc<Index>,
    store: Arc<dyn Store>,
    places: Places,
    waiting: Arc<AtomicU64>,
}

impl Reader {
    async fn run(self, mut work: mpsc::Receiver<Work>) {
        while let Some(next) = work.recv().await {
            tokio::time::sleep(GATHER).await;
            match next {
                Work::One(session) => self.one(session).await,
                Work::Missing => self.missing().await,
                Work::Rebuild => match self.index.clear().await {
                    Ok(()) => self.missing().await,
                    Err(error) => tracing::error!(%error, "the search index is not made anew"),
                },
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    async fn missing(&self) {
        let missing = match self.all_missing().await {
            Ok(missing) => missing,
            Err(error) => {
                tracing::error!(%error, "what is missing from the search index is not known; `portcullis recordings index --rebuild` tries again");
                return;
            }
        };
        let count = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        self.waiting.fetch_add(count, Ordering::SeqCst);
        for session in missing {
            self.one(session).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Oldest first: ids of entries follow the time.
    async fn all_missing(&self) -> Result<Vec<SessionId>, KeepError> {
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        let mut page = Page::first();
        loop {
            let rows = self.store.recordings_page(&page).await?;
            let Some(last) = rows.last() else { break };
            page.after = Some(last.session.to_string());
            for row in &rows {
                if is_there(row) && seen.insert(row.session) && !self.index.knows(row.session).await? {
                    missing.push(row.session);
                }
            }
        }
        missing.reverse();
        Ok(missing)
    }

    async fn one(&self, session: SessionId) {
        if let Err(error) = self.try_one(session).await {
            tracing::error!(%session, %error, "a recording is not in the search index; it is in the archive");
        }
    }

    async fn try_one(&self, session: SessionId) -> Result<(), KeepError> {
        let row = self.store.recording(session).await?;
        if !row.as_ref().is_some_and(is_there) {
            return Ok(());
        }
        let known = self.known(session).await?;
        let places = self.places.clone();
        let reading = move || {
            // Best effort: sessions come first.
            rustix::process::setpriority_process(None, NICE).ok();
            let file = places.archive.join(recording_file(&session.0));
            read(session, &file, &places.trust, &known)
        };
        // A thread of its own: niceness cannot be given back.
        let (done, read) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("search".to_owned())
            .spawn(move || done.send(reading()).ok())
            .map_err(|error| KeepError::Broke(error.to_string()))?;
        let (recorded, entries) = read
            .await
            .map_err(|_| KeepError::Broke("its reader ended early".to_owned()))?;
        if !recorded.why.is_empty() {
            tracing::warn!(%session, standing = recorded.standing.as_str(), why = recorded.why, "not all of a recording is in the search index");
        }
        Ok(self.index.put(&recorded, entries).await?)
    }

    /// What the store knows of why it was.
    async fn known(&self, session: SessionId) -> Result<Known, KeepError> {
        let Some(row) = self.store.session(session).await? else {
            return Ok(Known::default());
        };
        let grant = self.store.grant(row.grant).await?;
        let words = grant.map(|grant| format!("reason: {}", grant.reason));
        Ok(Known {
            words: words.unwrap_or_default(),
        })
    }
}

/// Whether a recording can be read at all.
fn is_there(row: &RecordingRow) -> bool {
    row.expired_ms.is_none() && row.shredded_ms.is_none()
}
