//! What each channel number of russh's stands for, on one connection.
//!
//! A channel that we open has a number only once the other side has confirmed
//! it, and its first packet may be right behind: whoever looks a number up
//! while such an open is under way waits for it to be named.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::ChannelId;
use tokio::sync::Notify;

use super::gated::Kill;

/// How long a callback waits for a confirmed channel to be named: one turn of
/// the task that opened it.
const NAMED_WAIT: Duration = Duration::from_secs(1);

/// What the numbers stand for. Cheap to clone.
pub struct Routes<T>(Arc<Inner<T>>);

struct Inner<T> {
    state: Mutex<State<T>>,
    named: Notify,
    /// What came for a channel that was not named in time.
    dropped: AtomicU64,
}

struct State<T> {
    known: HashMap<ChannelId, T>,
    opening: usize,
    /// The connection is over: nobody would tell what is named now of its end.
    over: bool,
}

/// An open of ours that is not named yet.
pub struct Opening<T>(Routes<T>);

impl<T> Clone for Routes<T> {
    fn clone(&self) -> Routes<T> {
        Routes(self.0.clone())
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Routes<T> {
        Routes(Arc::new(Inner {
            state: Mutex::new(State {
                known: HashMap::new(),
                opening: 0,
                over: false,
            }),
            named: Notify::new(),
            dropped: AtomicU64::new(0),
        }))
    }
}

impl<T> Routes<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names a channel that the other side opened, before it is accepted.
    ///
    /// # Errors
    /// The connection has ended meanwhile: what was to be named.
    pub fn insert(&self, id: ChannelId, what: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.over {
            return Err(what);
        }
        state.known.insert(id, what);
        drop(state);
        self.0.named.notify_waiters();
        Ok(())
    }

    /// Announces an open of ours.
    pub fn opening(&self) -> Opening<T> {
        self.lock().opening += 1;
        Opening(self.clone())
    }

    /// Opens of ours that are not named yet.
    pub fn under_way(&self) -> usize {
        self.lock().opening
    }

    pub fn remove(&self, id: ChannelId) -> Option<T> {
        self.lock().known.remove(&id)
    }

    /// Drops those that `keep` does not want any more.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        self.lock().known.retain(|_, what| keep(what));
    }

    pub fn any(&self, test: impl Fn(&T) -> bool) -> bool {
        self.lock().known.values().any(test)
    }

    /// The connection is over: takes no more, forgets all of them and answers
    /// with them.
    pub fn end(&self) -> Vec<T> {
        let mut state = self.lock();
        state.over = true;
        state.known.drain().map(|(_, what)| what).collect()
    }
}

impl<T: Clone> Routes<T> {
    pub fn get(&self, id: ChannelId) -> Option<T> {
        self.lock().known.get(&id).cloned()
    }

    /// The same, for callbacks: waits if `id` may be about to be named. What
    /// came for one that is not is dropped by the caller, and told in the log here.
    pub async fn find(&self, id: ChannelId, kill: &Kill) -> Option<T> {
        let named = async {
            loop {
                let named = self.0.named.notified();
                tokio::pin!(named);
                // Registered before the look, so that a naming in between is not missed.
                named.as_mut().enable();
                {
                    let state = self.lock();
                    if let Some(what) = state.known.get(&id) {
                        return Some(what.clone());
                    }
                    if state.opening == 0 {
                        return None;
                    }
                }
                named.await;
            }
        };
        match kill.guard(tokio::time::timeout(NAMED_WAIT, named)).await? {
            Ok(found) => found,
            Err(_) => {
                let count = self.0.dropped.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                tracing::warn!(channel = %id, count, wait = ?NAMED_WAIT, why = "no open under way has named it in time",
                    "what came on a channel is dropped");
                None
            }
        }
    }
}

impl<T> Opening<T> {
    /// The other side has confirmed it.
    ///
    /// # Errors
    /// As [`Routes::insert`].
    pub fn named(self, id: ChannelId, what: T) -> Result<(), T> {
        self.0.insert(id, what)
    }
}

impl<T> Drop for Opening<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.opening = state.opening.saturating_sub(1);
        drop(state);
        self.0.0.named.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_looks_while_an_open_is_under_way_waits_for_its_name() {
        let (routes, kill) = (Routes::<u32>::default(), Kill::new());
        let id = russh_id(7);
        assert_eq!(routes.find(id, &kill).await, None, "nothing is under way");

        let opening = routes.opening();
        let (found, ()) = tokio::join!(routes.find(id, &kill), async {
            tokio::task::yield_now().await;
            opening.named(id, 1).unwrap();
        });
        assert_eq!((found, routes.under_way()), (Some(1), 0));

        let opening = routes.opening();
        let other = russh_id(8);
        let (found, ()) = tokio::join!(routes.find(other, &kill), async {
            tokio::task::yield_now().await;
            drop(opening);
        });
        assert_eq!(found, None, "the open failed");

        let _never = routes.opening();
        assert_eq!(
            routes.0.dropped.load(Ordering::Relaxed),
            0,
            "nothing that could be anybody's"
        );
        assert_eq!(routes.find(other, &kill).await, None, "not for ever");
        assert_eq!(routes.0.dropped.load(Ordering::Relaxed), 1, "and not in silence");
        kill.fire();
        assert_eq!(routes.find(id, &kill).await, None, "nothing parks behind the switch");
    }

    #[test]
    fn what_is_named_behind_the_end_is_given_back() {
        let routes = Routes::<u32>::default();
        let opening = routes.opening();
        routes.insert(russh_id(1), 1).unwrap();
        assert_eq!(routes.end(), [1]);
        assert_eq!(opening.named(russh_id(2), 2), Err(2));
        assert_eq!((routes.insert(russh_id(3), 3), routes.under_way()), (Err(3), 0));
        assert!(routes.end().is_empty());
    }

    fn russh_id(number: u32) -> ChannelId {
        // russh makes them from numbers of its own only; on the wire it is four bytes.
        use russh::keys::ssh_key::encoding::Decode;
        ChannelId::decode(&mut number.to_be_bytes().as_slice()).unwrap()
    }
}
