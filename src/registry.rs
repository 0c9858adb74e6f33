//! Who is in now; carries end orders to sessions.
//!
//! One plain thread, the gate, watches every session's end on both clocks and
//! does not depend on the async runtime being free. Revocations come from the
//! store's journal, the one mechanism that ends sessions, also across nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use self::due::Due;
use crate::clock::{Clock, Now};
use crate::kernel::grant::WallMs;
use crate::kernel::id::{Destination, GrantId, IdentityName, NodeName, SessionId, TargetName};
use crate::kernel::policy::facts::Facts;
use crate::kernel::policy::obligations::Obligations;
use crate::kernel::policy::recheck::Ending;
use crate::kernel::session::{EndReason, Until, Warnings};
use crate::store::{Revocation, RevocationScope, Store, StoreError};

mod due;

/// How often the gate looks at the clocks while anybody is in, in ms: a step
/// of the wall clock is noticed within this.
const TICK_MS: u64 = 100;
/// A wall clock that moved this much against boot time was stepped, in ms.
const STEP_MS_MIN: u64 = 500;
/// How long a node may keep sessions alive without hearing from the store, in ms.
pub const LEASE_MS: u64 = 10_000;
/// How often the lease is renewed, in ms.
pub const LEASE_RENEW_MS: u64 = 3_000;
/// Revocations read from the journal at once.
const REVOCATIONS_PER_PULL: u32 = 256;

/// What the registry can do to a session.
pub trait Held: Send + Sync + 'static {
    /// Stops both pumps before it returns; the rest of the end follows by itself.
    fn end(&self, reason: EndReason);
    /// The grant ends in so many ms.
    fn warn(&self, ms: u64);
    /// The session ends in so many ms, because this rule of changed policies refuses it.
    fn policy_ends(&self, rule: &str, ms: u64);
    /// The wall clock was stepped from `before` to `after`.
    fn clock_stepped(&self, before: WallMs, after: WallMs);
    /// Boot time of the last byte in either direction.
    fn last_activity_boot_ms(&self) -> u64;
}

/// What is known of a session that is in.
pub struct Entry {
    pub id: SessionId,
    pub grant: GrantId,
    pub identity: IdentityName,
    pub destination: Destination,
    /// The bastions on the way there.
    pub hops: Vec<TargetName>,
    pub until: Until,
    /// Boot time at which it is older than any session may be.
    pub oldest_boot_ms: u64,
    /// What `connect` was decided on.
    pub facts: Facts,
    /// What the policies that let it in demand.
    pub held_to: Obligations,
    pub held: Arc<dyn Held>,
    /// Lives by the store's word. A break-glass session does not; whatever
    /// else ends a session ends it too.
    pub leased: bool,
}

/// Told of each revocation, also of those from before a start.
pub type Ear = Box<dyn Fn(&Revocation) + Send + Sync>;

struct Inside {
    entry: Arc<Entry>,
    warnings: Warnings,
    /// Boot time at which changed policies end it, and the rule.
    policy_end: Option<(u64, String)>,
    /// An end order was given.
    ordered: bool,
    /// Both pumps have stopped for good.
    cut: bool,
}

impl Inside {
    /// How long it may go on by everything but a further event, in ms; or why
    /// it ends now.
    fn left(&self, now: Now, idle_ms: Option<u64>, lease_lost: bool) -> Result<u64, EndReason> {
        let entry = &self.entry;
        let left = entry.until.left_ms(now.wall_ms, now.boot_ms);
        if left == 0 {
            return Err(EndReason::GrantExpired);
        }
        if lease_lost && entry.leased {
            return Err(EndReason::LeaseLost);
        }
        let policy_left = match &self.policy_end {
            Some((at, rule)) if *at <= now.boot_ms => return Err(EndReason::Policy(rule.clone())),
            Some((at, _)) => at.saturating_sub(now.boot_ms),
            None => u64::MAX,
        };
        let age_left = entry.oldest_boot_ms.saturating_sub(now.boot_ms);
        if age_left == 0 {
            return Err(EndReason::MaxDuration);
        }
        let idle_left = idle_ms.map_or(u64::MAX, |idle| {
            let active = entry.held.last_activity_boot_ms();
            active.saturating_add(idle).saturating_sub(now.boot_ms)
        });
        if idle_left == 0 {
            return Err(EndReason::Idle);
        }
        Ok(left.min(policy_left).min(age_left).min(idle_left))
    }
}

struct State {
    inside: BTreeMap<SessionId, Inside>,
    last: Now,
    due: Due,
    /// The lease was lost when everybody was last looked at.
    lease_lost: bool,
    revocation_seq: u64,
    draining: bool,
    stopping: bool,
}

/// Without the gate's thread no session would end on time: a server that
/// lost it must not go on.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Why nobody is let in right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    Draining,
    LeaseLost,
    /// Who comes has that many sessions already.
    Full(usize),
}

/// Who is in now.
pub struct Registry {
    clock: Clock,
    idle_ms: Option<u64>,
    /// How long before the end terminals are warned, in ms.
    warn_ms: Vec<u64>,
    state: Mutex<State>,
    wake: Condvar,
    /// Boot time until which the store's word holds.
    lease_until: AtomicU64,
    lease_held: AtomicBool,
    left: Notify,
    /// Counts what may have ended somebody's grants.
    changes: watch::Sender<u64>,
    pulling: tokio::sync::Mutex<()>,
    ear: OnceLock<Ear>,
}

impl Registry {
    /// An empty registry without a lease: nobody is let in before the first renewal.
    pub fn new(clock: Clock, idle_ms: Option<u64>, warn_ms: Vec<u64>) -> Arc<Registry> {
        let last = clock.now();
        Arc::new(Registry {
            clock,
            idle_ms,
            warn_ms,
            state: Mutex::new(State {
                inside: BTreeMap::new(),
                last,
                due: Due::NOW,
                lease_lost: false,
                revocation_seq: 0,
                draining: false,
                stopping: false,
            }),
            wake: Condvar::new(),
            lease_until: AtomicU64::new(0),
            lease_held: AtomicBool::new(false),
            left: Notify::new(),
            changes: watch::Sender::new(0),
            pulling: tokio::sync::Mutex::new(()),
            ear: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the gate's thread. It ends when [`Registry::stop`] is called.
    ///
    /// # Errors
    /// The system's, if it gives no thread.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<std::thread::JoinHandle<()>> {
        let registry = self.clone();
        std::thread::Builder::new().name("gate".into()).spawn(move || {
            let _fatal = AbortOnPanic;
            loop {
                let wait = registry.tick();
                let state = registry.lock();
                if state.stopping {
                    return;
                }
                let wait = match state.inside.is_empty() {
                    true => Duration::from_millis(LEASE_RENEW_MS),
                    false => Duration::from_millis(wait.clamp(1, TICK_MS)),
                };
                drop(
                    registry
                        .wake
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
        })
    }

    /// Looks at both clocks once and gives the orders that are due. Answers
    /// with the ms until the next one. Sessions are looked at only if something
    /// is due for one of them.
    pub fn tick(&self) -> u64 {
        let mut orders: Vec<(Arc<dyn Held>, EndReason)> = Vec::new();
        let mut warnings = Vec::new();
        let mut steps = Vec::new();
        let (now, next) = {
            let mut guard = self.lock();
            let state = &mut *guard;
            // Both under the lock: who enters later sees no earlier moment.
            let now = self.clock.now();
            let lease_lost = self.lease_held.load(Ordering::SeqCst) && !self.store_alive();
            let expected = state
                .last
                .wall_ms
                .saturating_add(now.boot_ms.saturating_sub(state.last.boot_ms));
            let stepped = expected.abs_diff(now.wall_ms) >= STEP_MS_MIN;
            state.last = now;
            if !stepped && lease_lost == state.lease_lost && state.due.left_ms(now) > 0 {
                return state.due.left_ms(now);
            }
            let mut next = u64::MAX;
            for inside in state.inside.values_mut().filter(|inside| !inside.ordered) {
                let held = &inside.entry.held;
                if stepped {
                    steps.push((held.clone(), expected));
                }
                match inside.left(now, self.idle_ms, lease_lost) {
                    Ok(ms) => {
                        let left = inside.entry.until.left_ms(now.wall_ms, now.boot_ms);
                        if let Some(before) = inside.warnings.due(left) {
                            warnings.push((held.clone(), before));
                        }
                        let warned = inside.warnings.next_in_ms(left).unwrap_or(u64::MAX);
                        next = next.min(ms).min(warned);
                    }
                    Err(reason) => {
                        inside.ordered = true;
                        orders.push((held.clone(), reason));
                    }
                }
            }
            state.lease_lost = lease_lost;
            state.due = Due::after(now, next);
            (now, next)
        };
        for (held, reason) in orders {
            held.end(reason);
        }
        for (held, before) in steps {
            held.clock_stepped(before, now.wall_ms);
        }
        for (held, before) in warnings {
            held.warn(before);
        }
        next
    }

    /// Lets a session in, if its identity has fewer than `most` that live by
    /// the store's word; one that does not is let in whatever there is. The
    /// ticket takes it out again when dropped.
    ///
    /// # Errors
    /// [`Closed`], if nobody is let in, or nobody more of this identity.
    pub fn enter(self: &Arc<Self>, entry: Entry, most: usize) -> Result<Ticket, Closed> {
        let mut state = self.lock();
        let now = self.clock.now();
        if entry.leased && !self.store_alive() {
            return Err(Closed::LeaseLost);
        }
        if state.draining {
            return Err(Closed::Draining);
        }
        let counts = |inside: &&Inside| inside.entry.leased && !inside.cut && inside.entry.identity == entry.identity;
        if entry.leased && state.inside.values().filter(counts).count() >= most {
            return Err(Closed::Full(most));
        }
        let id = entry.id;
        if state.inside.is_empty() {
            // Nobody watched the clock while nobody was in.
            state.last = now;
        }
        let left = entry.until.left_ms(now.wall_ms, now.boot_ms);
        let warn_ms: Vec<u64> = self.warn_ms.iter().chain(&entry.held_to.warn_ms).copied().collect();
        state.inside.insert(
            id,
            Inside {
                entry: Arc::new(entry),
                warnings: Warnings::new(&warn_ms, left),
                policy_end: None,
                ordered: false,
                cut: false,
            },
        );
        state.due = Due::NOW;
        drop(state);
        self.wake.notify_all();
        Ok(Ticket {
            registry: self.clone(),
            id,
        })
    }

    /// Whether the store's word still holds.
    pub fn store_alive(&self) -> bool {
        self.clock.now().boot_ms < self.lease_until.load(Ordering::SeqCst)
    }

    /// Whether new sessions are refused because the server stops.
    pub fn draining(&self) -> bool {
        self.lock().draining
    }

    /// Sessions that are in.
    pub fn count(&self) -> usize {
        self.lock().inside.len()
    }

    /// Renews the lease and reads the revocation journal once. `asked` is the
    /// time before the store was asked, so that the lease never outlives it.
    ///
    /// # Errors
    /// The store's; a [`StoreError::Corrupt`] drops the lease at once.
    pub async fn renew(&self, store: &dyn Store, node: &NodeName) -> Result<(), StoreError> {
        let asked = self.clock.now();
        let until = asked.wall_ms.saturating_add(LEASE_MS);
        let heard = match store.renew_lease(node, asked.wall_ms, until).await {
            Ok(()) => self.pull(store).await,
            Err(error) => Err(error),
        };
        match &heard {
            // Hearing from the store means both: it took our row and told its
            // revocations. Either alone does not keep a session alive.
            Ok(()) => {
                self.lease_until
                    .store(asked.boot_ms.saturating_add(LEASE_MS), Ordering::SeqCst);
                self.lease_held.store(true, Ordering::SeqCst);
            }
            Err(StoreError::Corrupt(_)) => {
                self.lease_until.store(0, Ordering::SeqCst);
                self.wake.notify_all();
            }
            Err(_) => {}
        }
        heard
    }

    /// Has `ear` told of every revocation. The first one that is given stays.
    pub fn tell_of_revocations(&self, ear: Ear) {
        self.ear.get_or_init(|| ear);
    }

    /// Reads new revocations and gives their end orders.
    ///
    /// # Errors
    /// The store's.
    pub async fn pull(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _one = self.pulling.lock().await;
        loop {
            let after = self.lock().revocation_seq;
            let rows = store.revocations_after(after, REVOCATIONS_PER_PULL).await?;
            let full = rows.len() >= REVOCATIONS_PER_PULL as usize;
            for row in &rows {
                self.apply(row);
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn apply(&self, row: &Revocation) {
        // Before the sessions: nobody comes back in behind the one that is ended.
        if let Some(ear) = self.ear.get() {
            ear(row);
        }
        let hit: Vec<Arc<dyn Held>> = {
            let mut state = self.lock();
            state.revocation_seq = state.revocation_seq.max(row.seq);
            state
                .inside
                .values_mut()
                .filter(|inside| matches(&row.scope, &inside.entry) && !inside.ordered)
                .map(|inside| {
                    inside.ordered = true;
                    inside.entry.held.clone()
                })
                .collect()
        };
        for held in hit {
            held.end(EndReason::Revoked(row.why.clone()));
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes when a revocation was read: whoever stands on a grant without a
    /// session looks again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Who is in and where, of the sessions that live by the store's word.
    pub fn leased(&self) -> Vec<(IdentityName, TargetName)> {
        let state = self.lock();
        let leased = state.inside.values().filter(|inside| inside.entry.leased);
        leased
            .map(|inside| (inside.entry.identity.clone(), inside.entry.destination.target.clone()))
            .collect()
    }

    /// Asks about every session that is in, after the policies changed: at
    /// once, or told now and ended after its grace. What is allowed again goes
    /// on. Answers with how many are to end.
    pub fn recheck(&self, ask: impl Fn(&Entry) -> Option<Ending>) -> usize {
        // Policies are asked without the lock: the gate's thread needs it.
        let inside: Vec<Arc<Entry>> = self.lock().inside.values().map(|inside| inside.entry.clone()).collect();
        let answers: Vec<(Arc<Entry>, Option<Ending>)> = inside
            .into_iter()
            .map(|entry| {
                let answer = ask(&entry);
                (entry, answer)
            })
            .collect();
        let now = self.clock.now();
        let mut told = Vec::new();
        {
            let mut state = self.lock();
            for (entry, answer) in answers {
                let Some(inside) = state.inside.get_mut(&entry.id).filter(|inside| !inside.ordered) else {
                    continue;
                };
                inside.policy_end = answer.map(|ending| {
                    let at = now.boot_ms.saturating_add(ending.grace_ms);
                    // A further change does not lengthen what was told.
                    let at = inside.policy_end.as_ref().map_or(at, |(earlier, _)| at.min(*earlier));
                    told.push((entry.held.clone(), ending.rule.clone(), at.saturating_sub(now.boot_ms)));
                    (at, ending.rule)
                });
            }
            state.due = Due::NOW;
        }
        let count = told.len();
        for (held, rule, ms) in told.into_iter().filter(|(_, _, ms)| *ms > 0) {
            held.policy_ends(&rule, ms);
        }
        self.tick();
        self.wake.notify_all();
        count
    }

    /// Refuses new sessions and ends those that are in.
    pub fn drain(&self, end_running: bool) {
        let held: Vec<Arc<dyn Held>> = {
            let mut state = self.lock();
            state.draining = true;
            match end_running {
                false => Vec::new(),
                true => state
                    .inside
                    .values_mut()
                    .filter(|inside| !inside.ordered)
                    .map(|inside| {
                        inside.ordered = true;
                        inside.entry.held.clone()
                    })
                    .collect(),
            }
        };
        for held in held {
            held.end(EndReason::Drain);
        }
    }

    /// Ends the gate's thread.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Waits until every named session is cut or gone; answers with those
    /// that were not by `limit`.
    pub async fn wait_cut(&self, sessions: &[SessionId], limit: Duration) -> Vec<SessionId> {
        let alive = || {
            let state = self.lock();
            sessions
                .iter()
                .filter(|id| state.inside.get(id).is_some_and(|inside| !inside.cut))
                .copied()
                .collect::<Vec<_>>()
        };
        let all = async {
            loop {
                let left = self.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                if alive().is_empty() {
                    return;
                }
                left.await;
            }
        };
        match tokio::time::timeout(limit, all).await {
            Ok(()) => Vec::new(),
            Err(_) => alive(),
        }
    }

    /// Waits until nobody is in.
    pub async fn wait_empty(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

fn matches(scope: &RevocationScope, entry: &Entry) -> bool {
    match scope {
        RevocationScope::Grant(id) => entry.grant == *id,
        RevocationScope::Session(id) => entry.id == *id,
        RevocationScope::Identity(name) => entry.identity == *name,
        RevocationScope::Target(name) => entry.destination.target == *name || entry.hops.contains(name),
        // Where nobody knows it comes from could be there.
        RevocationScope::Source(block) => entry.facts.source.is_none_or(|source| block.contains(source)),
        RevocationScope::Purpose(text) => entry.facts.reason == *text || entry.facts.ticket.as_ref() == Some(text),
        RevocationScope::All => true,
    }
}

/// Proof that a session is in; takes it out when dropped.
pub struct Ticket {
    registry: Arc<Registry>,
    id: SessionId,
}

impl Ticket {
    /// Says that no byte moves any more, though the recording is not sealed yet.
    pub fn cut(&self) {
        if let Some(inside) = self.registry.lock().inside.get_mut(&self.id) {
            inside.ordered = true;
            inside.cut = true;
        }
        self.registry.left.notify_waiters();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.lock().inside.remove(&self.id);
        self.registry.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
