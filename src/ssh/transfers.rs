//! What a channel tells of the files that move on it: the observer of
//! `kernel/transfer`, and its deeds as events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_recording::Event;
use portcullis_recording::moved::{Act, Moved, Outcome, Range};

use super::channel::Start;
use crate::kernel::transfer::limit::{Limit, Over};
use crate::kernel::transfer::{self, Deed, Observer, Told, Way, What};

/// Follows one channel, from the start of its program on.
#[derive(Debug, Default)]
pub struct Transfers {
    /// There is something to follow: most channels take no lock.
    follows: AtomicBool,
    observer: Mutex<Option<Observer>>,
    /// Policy is asked about each file.
    asks: AtomicBool,
}

impl Transfers {
    /// A program starts: what is to be followed of it, and what is told of the
    /// one before, which the target refused.
    pub fn begin(&self, at_ms: u64, start: &Start) -> Vec<Event<'static>> {
        let told = self.end();
        let observer = match start {
            Start::Shell => None,
            Start::Exec(command) => Observer::of_exec(at_ms, command),
            Start::Subsystem(name) => Observer::of_subsystem(name),
        };
        self.follows.store(observer.is_some(), Ordering::Release);
        *self.lock() = observer;
        told
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
    pub fn limit(&self, id: u32, limit: Limit) {
        if let Some(observer) = &mut *self.lock() {
            observer.limit(id, limit);
        }
    }

    /// Why a read or a write may not go on, if it may not.
    pub fn over(&self, id: u32) -> Option<Over> {
        self.lock().as_ref().and_then(|observer| observer.over(id))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Observer>> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are about to cross: what they tell.
    pub fn saw(&self, at_ms: u64, way: Way, bytes: &[u8], events: &mut Vec<Event<'static>>) {
        if !self.follows.load(Ordering::Acquire) {
            return;
        }
        let mut told = Vec::new();
        if let Some(observer) = &mut *self.lock() {
            observer.saw(at_ms, way, bytes, &mut told);
        }
        events.extend(told.into_iter().map(event));
    }

    /// The end of the channel: what was left open.
    pub fn end(&self) -> Vec<Event<'static>> {
        self.follows.store(false, Ordering::Release);
        let observer = self.lock().take();
        let mut told = Vec::new();
        if let Some(mut observer) = observer {
            observer.end(&mut told);
        }
        told.into_iter().map(event).collect()
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
