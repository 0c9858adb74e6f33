//! What a channel tells of the files that move on it: the observer of
//! `kernel/transfer`, and its deeds as events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_recording::Event;
use portcullis_recording::moved::{Act, Moved, Outcome, Range};

use super::channel::Start;
use crate::kernel::policy::Kept;
use crate::kernel::transfer::limit::{Limit, Over};
use crate::kernel::transfer::{self, Deed, Observer, Piece, Told, Way, What, exec};
use crate::recorder::{Recorder, Take};

/// What the recording of a program says first of which it keeps digests only.
const AS_DIGEST: &str =
    "recorded as digests while its files are followed: how many bytes cross, and their SHA-256; standard error in full";
/// The same, where their contents go into the vault.
const AS_VAULT: &str = "recorded as digests while its files are followed, whose contents are in the vault: how many bytes cross, and \
                        their SHA-256; standard error in full";
/// Runs of bytes of files that may begin in one piece of what crosses, to be kept in the vault; where more do, all is
/// recorded in full from there on.
const RUNS_AT_ONCE: u64 = 64;
/// What it says once that is over.
const IN_FULL: &str = "recorded in full from here on: not all of it is told in files any more";

/// Follows one channel, from the start of its program on.
#[derive(Debug, Default)]
pub struct Transfers {
    /// There is something to follow: most channels take no lock.
    follows: AtomicBool,
    /// A program was started before, which the target may have refused.
    begun: AtomicBool,
    /// Input crossed since.
    crossed: AtomicBool,
    observer: Mutex<Option<Observer>>,
    /// Policy is asked about each file.
    asks: AtomicBool,
    /// What policy lets be left out of the recording of a program, if that can be followed.
    permitted: Mutex<Kept>,
    /// Digests are recorded of it.
    digested: AtomicBool,
}

/// What bytes that cross tell.
#[derive(Default)]
pub struct Seen {
    pub events: Vec<Event<'static>>,
    /// What of them goes into the vault.
    pub pieces: Vec<Piece>,
}

/// How bytes that were seen are recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum As {
    Digest,
    Full,
    /// They, and all that follows; up to here there were digests.
    FullFromHere,
}

impl As {
    /// What the recording says before such bytes.
    pub fn says(self) -> Option<Event<'static>> {
        (self == As::FullFromHere).then(|| Event::Marker { text: IN_FULL.into() })
    }
}

impl Transfers {
    /// What is to be kept of the program that starts next.
    pub fn permit(&self, kept: Kept) {
        *self.permitted.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// A program starts: what is to be followed of it, and what is told of the
    /// one before, which the target refused.
    pub fn begin(&self, at_ms: u64, start: &Start, recorder: &Recorder) -> Seen {
        let mut seen = self.end(recorder);
        let mut observer = match start {
            Start::Shell => None,
            Start::Exec(command) => Observer::of_exec(at_ms, command),
            Start::Subsystem(name) => Observer::of_subsystem(name),
        };
        self.begun.store(true, Ordering::Release);
        if self.crossed.load(Ordering::Acquire)
            && let Some(observer) = &mut observer
        {
            // The target may give it to this program.
            let mut told = Vec::new();
            observer.lose("input crossed before the program was started", &mut told);
            seen.events.extend(told.into_iter().map(event));
        }
        self.follows.store(observer.is_some(), Ordering::Release);
        let says_all = match start {
            Start::Exec(command) => exec::runs_what_it_says(command),
            Start::Shell | Start::Subsystem(_) => true,
        };
        let permitted = *self.permitted.lock().unwrap_or_else(PoisonError::into_inner);
        let digested = permitted != Kept::Full && says_all && observer.as_ref().is_some_and(Observer::tells_all);
        self.digested.store(digested, Ordering::Release);
        if digested {
            seen.events.push(Event::Marker {
                text: match permitted {
                    Kept::Vault => AS_VAULT.into(),
                    Kept::Digest | Kept::Full => AS_DIGEST.into(),
                },
            });
        }
        if digested
            && permitted == Kept::Vault
            && let Some(pool) = observer.as_mut().and_then(Observer::pool)
        {
            pool.keep();
        }
        *self.lock() = observer;
        seen
    }

    /// Whether policy is asked about each file.
    pub fn asks(&self) -> bool {
        self.asks.load(Ordering::Acquire)
    }

    /// From here on policy is asked, if its requests can be told apart.
    pub fn ask(&self) -> bool {
        let asks = self.lock().as_ref().is_some_and(Observer::is_sftp);
        self.asks.store(asks, Ordering::Release);
        asks
    }

    /// Whether the protocol is not followed any more.
    pub fn is_lost(&self) -> bool {
        self.lock().as_ref().is_none_or(Observer::is_lost)
    }

    /// A request that did not go on: what it would have done.
    pub fn refused(&self, id: u32, rule: &str) -> Vec<Event<'static>> {
        let mut told = Vec::new();
        if let Some(observer) = &mut *self.lock() {
            observer.refused(id, rule, &mut told);
        }
        told.into_iter().map(event).collect()
    }

    /// Of the file that this request opens no more may cross than this.
    /// Whether that can be held.
    pub fn limit(&self, id: u32, limit: Limit) -> bool {
        self.lock().as_mut().is_some_and(|observer| observer.limit(id, limit))
    }

    /// Why a read or a write may not go on, if it may not.
    pub fn over(&self, id: u32) -> Option<Over> {
        self.lock().as_ref().and_then(|observer| observer.over(id))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Observer>> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are about to cross: what they tell, and how they are recorded.
    pub fn saw(&self, at_ms: u64, way: Way, bytes: &[u8], recorder: &Recorder, seen: &mut Seen) -> As {
        if way == Way::Up && self.begun.load(Ordering::Acquire) {
            self.crossed.store(true, Ordering::Release);
        }
        if !self.follows.load(Ordering::Acquire) {
            return As::Full;
        }
        let mut told = Vec::new();
        let mut held = self.lock();
        let Some(observer) = &mut *held else {
            return As::Full;
        };
        let waits = lending(observer, recorder, seen, |observer| {
            observer.saw(at_ms, way, bytes, &mut told)
        });
        seen.events.extend(told.into_iter().map(event));
        match (self.digested.load(Ordering::Acquire), observer.tells_all()) {
            (false, _) => As::Full,
            // What waits for bytes before it is not in the vault yet: it is in the recording.
            (true, true) if waits => As::Full,
            (true, true) => As::Digest,
            (true, false) => {
                self.digested.store(false, Ordering::Release);
                if let Some(pool) = observer.pool() {
                    pool.stop();
                }
                As::FullFromHere
            }
        }
    }

    /// The program ended with this status.
    pub fn exited(&self, status: u32) {
        if let Some(observer) = &mut *self.lock() {
            observer.exited(status);
        }
    }

    /// The end of the channel: what was left open.
    pub fn end(&self, recorder: &Recorder) -> Seen {
        self.follows.store(false, Ordering::Release);
        self.digested.store(false, Ordering::Release);
        let observer = self.lock().take();
        let (mut told, mut seen) = (Vec::new(), Seen::default());
        if let Some(mut observer) = observer {
            lending(&mut observer, recorder, &mut seen, |observer| observer.end(&mut told));
        }
        seen.events.extend(told.into_iter().map(event));
        seen
    }
}

/// Lets an observer look, with the right to begin some runs for the vault; whether bytes were put aside by it that
/// are to go there.
fn lending(observer: &mut Observer, recorder: &Recorder, seen: &mut Seen, look: impl FnOnce(&mut Observer)) -> bool {
    let lent = match observer.pool() {
        Some(pool) if pool.keeps() => {
            let lent = recorder.lend_blobs(RUNS_AT_ONCE);
            pool.allow(lent);
            true
        }
        Some(_) | None => false,
    };
    look(observer);
    let Some(pool) = observer.pool().filter(|_| lent) else {
        return false;
    };
    recorder.take_back_blobs(pool.left());
    seen.add(pool.pieces());
    pool.waited()
}

impl Seen {
    /// Adds pieces; those of one run become one.
    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match (self.pieces.last_mut(), piece) {
                (Some(Piece::Bytes { run, bytes }), Piece::Bytes { run: of, bytes: more }) if *run == of => {
                    bytes.extend(more);
                }
                (_, piece) => self.pieces.push(piece),
            }
        }
    }

    /// Hands all of it to what is taken.
    pub fn record(self, take: &mut Take<'_, '_>) {
        self.pieces.into_iter().for_each(|piece| take.content(piece));
        self.events.into_iter().for_each(|event| take.event(event));
    }
}

fn event(told: Told) -> Event<'static> {
    Event::File(Box::new(match told {
        Told::Deed(deed) => moved(deed),
        Told::Lost(why) => Moved {
            words: why.into(),
            ..Moved::plain(Act::Lost, Vec::new().into())
        },
    }))
}

fn moved(deed: Deed) -> Moved<'static> {
    let (outcome, words) = match deed.outcome {
        transfer::Outcome::Done => (Outcome::Done, String::new()),
        transfer::Outcome::Failed(words) => (Outcome::Failed, words),
        transfer::Outcome::Unfinished => (Outcome::Unfinished, String::new()),
        transfer::Outcome::Refused(rule) => (Outcome::Refused, rule),
    };
    let plain = Moved {
        other: deed.other.into(),
        outcome,
        words: words.into(),
        began_ms: deed.began_ms,
        ..Moved::plain(act(deed.what), deed.path.into())
    };
    let Some(content) = deed.content else {
        return plain;
    };
    let range = |range: &transfer::Range| Range {
        offset: range.offset,
        length: range.length,
        sha256: range.sha256,
    };
    Moved {
        bytes: content.bytes,
        whole: content.whole.ok(),
        unknown: content.whole.err().map_or("", transfer::Unknown::as_str).into(),
        ranges: content.ranges.iter().map(range).collect(),
        ..plain
    }
}

fn act(what: What) -> Act {
    match what {
        What::Download => Act::Download,
        What::Upload => Act::Upload,
        What::List => Act::List,
        What::Rename => Act::Rename,
        What::Remove => Act::Remove,
        What::MakeDir => Act::MakeDir,
        What::RemoveDir => Act::RemoveDir,
        What::Symlink => Act::Symlink,
        What::Hardlink => Act::Hardlink,
        What::SetAttributes => Act::SetAttributes,
        What::Copy => Act::Copy,
    }
}
