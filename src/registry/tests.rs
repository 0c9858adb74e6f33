use super::*;
use crate::kernel::inventory::IdentityKind;
use crate::kernel::policy::facts::{Action, Who};

#[derive(Default)]
struct Probe {
    ended: Mutex<Vec<&'static str>>,
    warned: Mutex<Vec<u64>>,
    told: Mutex<Vec<(String, u64)>>,
    stepped: AtomicBool,
    active: AtomicU64,
    looked_at: AtomicU64,
}

impl Held for Probe {
    fn end(&self, reason: EndReason) {
        self.ended.lock().unwrap().push(reason.code());
    }
    fn warn(&self, ms: u64) {
        self.warned.lock().unwrap().push(ms);
    }
    fn policy_ends(&self, rule: &str, ms: u64) {
        self.told.lock().unwrap().push((rule.to_owned(), ms));
    }
    fn clock_stepped(&self, _: WallMs, _: WallMs) {
        self.stepped.store(true, Ordering::SeqCst);
    }
    fn last_activity_boot_ms(&self) -> u64 {
        self.looked_at.fetch_add(1, Ordering::SeqCst);
        self.active.load(Ordering::SeqCst)
    }
}

const START: Now = Now {
    wall_ms: 1_000_000,
    boot_ms: 5_000,
};

/// The number of a session that does not live by the lease.
const UNLEASED: u8 = 9;

fn nobody() -> Who {
    Who {
        name: "alice".parse().unwrap(),
        kind: IdentityKind::Person,
        roles: [].into(),
        groups: [].into(),
        owner: None,
        purpose: None,
    }
}

fn inside(registry: &Arc<Registry>, minutes: u64, id: u8) -> (Arc<Probe>, Ticket) {
    let (probe, entered) = enters(registry, minutes, id, usize::MAX);
    (probe, entered.unwrap_or_else(|closed| panic!("{closed:?}")))
}

fn enters(registry: &Arc<Registry>, minutes: u64, id: u8, most: usize) -> (Arc<Probe>, Result<Ticket, Closed>) {
    registry.lease_until.store(u64::MAX, Ordering::SeqCst);
    let probe = Arc::new(Probe::default());
    probe.active.store(START.boot_ms, Ordering::SeqCst);
    let now = registry.clock.now();
    let entered = registry.enter(
        Entry {
            id: SessionId([id; 16]),
            grant: GrantId([id; 16]),
            identity: "alice".parse().unwrap(),
            destination: "root@db1".parse().unwrap(),
            hops: vec!["hop1".parse().unwrap()],
            until: Until::new(now.wall_ms + minutes * 60_000, now.wall_ms, now.boot_ms),
            oldest_boot_ms: u64::MAX,
            facts: Facts {
                source: Some("10.1.2.3".parse().unwrap()),
                reason: "disk full".to_owned(),
                ticket: Some("INC-42".to_owned()),
                ..Facts::new(Action::Connect, nobody(), None, now.wall_ms)
            },
            held_to: Obligations {
                warn_ms: [30_000].into(),
                ..Obligations::default()
            },
            held: probe.clone(),
            leased: id != UNLEASED,
        },
        most,
    );
    (probe, entered)
}

#[test]
fn a_session_is_warned_and_ends_on_its_very_ms() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), None, vec![300_000, 60_000]);
    let (probe, _ticket) = inside(&registry, 10, 1);
    clock.advance(5 * 60_000);
    registry.tick();
    clock.advance(4 * 60_000);
    registry.tick();
    assert_eq!(*probe.warned.lock().unwrap(), [300_000, 60_000]);
    clock.advance(59_999);
    assert_eq!(registry.tick(), 1);
    assert!(probe.ended.lock().unwrap().is_empty());
    clock.advance(1);
    registry.tick();
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"], "once");
}

#[test]
fn d14_a_wall_step_back_does_not_lengthen_and_is_told() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), None, vec![300_000, 60_000]);
    let (probe, _ticket) = inside(&registry, 10, 1);
    clock.step_wall(0);
    registry.tick();
    assert!(probe.stepped.load(Ordering::SeqCst));
    clock.advance(10 * 60_000);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);
}

#[test]
fn d14_a_wall_step_forward_ends_at_once() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), None, vec![300_000, 60_000]);
    let (probe, _ticket) = inside(&registry, 10, 1);
    clock.step_wall(START.wall_ms + 3_600_000);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);
}

/// A house in which everybody may be idle for an hour.
fn patient(clock: &Clock) -> Arc<Registry> {
    Registry::new(clock.clone(), Some(3_600_000), vec![60_000])
}

#[test]
fn nobody_is_looked_at_while_nothing_is_due() {
    let clock = Clock::manual(START);
    let registry = patient(&clock);
    let (probe, _ticket) = inside(&registry, 30, 1);
    registry.tick();
    let before = probe.looked_at.load(Ordering::SeqCst);
    for _ in 0..(29 * 60_000 / TICK_MS - 1) {
        clock.advance(TICK_MS);
        registry.tick();
    }
    assert_eq!(probe.looked_at.load(Ordering::SeqCst), before);
    clock.advance(TICK_MS);
    registry.tick();
    assert_eq!(*probe.warned.lock().unwrap(), [60_000], "on the very ms");
    clock.advance(59_999);
    assert_eq!(registry.tick(), 1);
    clock.advance(1);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);
}

#[test]
fn a_wall_clock_that_gains_a_little_at_a_time_ends_on_its_very_ms() {
    let clock = Clock::manual(START);
    let registry = patient(&clock);
    let (probe, _ticket) = inside(&registry, 2, 1);
    let until = START.wall_ms + 2 * 60_000;
    // Never a step: the clock is slewed by a third.
    while clock.now().wall_ms < until - 1 {
        clock.advance(TICK_MS);
        clock.step_wall((clock.now().wall_ms + TICK_MS / 3).min(until - 1));
        registry.tick();
    }
    assert!(!probe.stepped.load(Ordering::SeqCst) && probe.ended.lock().unwrap().is_empty());
    clock.step_wall(until);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);
}

#[test]
fn a_wall_clock_set_to_the_very_end_is_noticed_at_the_next_tick_and_one_set_back_lengthens_nothing() {
    let clock = Clock::manual(START);
    let registry = patient(&clock);
    let (probe, _ticket) = inside(&registry, 10, 1);
    registry.tick();
    clock.step_wall(START.wall_ms + 10 * 60_000 - 1);
    assert_eq!(registry.tick(), 1);
    assert!(probe.ended.lock().unwrap().is_empty() && probe.stepped.load(Ordering::SeqCst));
    clock.step_wall(0);
    registry.tick();
    clock.advance(10 * 60_000 - 1);
    registry.tick();
    assert!(probe.ended.lock().unwrap().is_empty());
    clock.advance(1);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);
}

#[test]
fn who_enters_behind_a_look_is_looked_at_and_so_is_everybody_when_the_lease_goes() {
    let clock = Clock::manual(START);
    let registry = patient(&clock);
    let (long, _one) = inside(&registry, 30, 1);
    registry.tick();
    let (short, _two) = inside(&registry, 2, 2);
    clock.advance(2 * 60_000);
    registry.tick();
    assert_eq!(*short.ended.lock().unwrap(), ["grant_expired"]);
    registry.lease_held.store(true, Ordering::SeqCst);
    registry.lease_until.store(0, Ordering::SeqCst);
    registry.tick();
    assert_eq!(*long.ended.lock().unwrap(), ["lease_lost"]);
}

#[test]
fn idle_and_lease_loss_end() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), Some(60_000), Vec::new());
    let (probe, _one) = inside(&registry, 10, 1);
    clock.advance(60_000);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["idle"]);

    let registry = Registry::new(clock.clone(), None, vec![300_000, 60_000]);
    let (probe, _two) = inside(&registry, 10, 2);
    registry.lease_held.store(true, Ordering::SeqCst);
    registry
        .lease_until
        .store(clock.now().boot_ms + LEASE_MS, Ordering::SeqCst);
    clock.advance(LEASE_MS - 1);
    registry.tick();
    assert!(probe.ended.lock().unwrap().is_empty());
    clock.advance(1);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["lease_lost"]);
}

#[test]
fn changed_policies_end_at_once_or_after_a_grace_that_never_grows() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), None, Vec::new());
    let (hit, _one) = inside(&registry, 10, 1);
    let (graced, _two) = inside(&registry, 10, 2);
    let (spared, _three) = inside(&registry, 10, 3);
    let ending = |grace_ms| {
        Some(Ending {
            rule: "no-more".into(),
            grace_ms,
        })
    };
    let ask = |grace_ms| {
        move |entry: &Entry| match entry.id.0[0] {
            1 => ending(0),
            2 => ending(grace_ms),
            _ => None,
        }
    };
    assert_eq!(registry.recheck(ask(60_000)), 2);
    assert_eq!(*hit.ended.lock().unwrap(), ["policy_changed"]);
    assert!(hit.told.lock().unwrap().is_empty());
    assert_eq!(*graced.told.lock().unwrap(), [("no-more".to_owned(), 60_000)]);
    clock.advance(50_000);
    assert_eq!(
        registry.recheck(ask(60_000)),
        1,
        "who is ordered out is not asked again"
    );
    clock.advance(9_999);
    assert_eq!(registry.tick(), 1);
    assert!(graced.ended.lock().unwrap().is_empty());
    clock.advance(1);
    registry.tick();
    assert_eq!(*graced.ended.lock().unwrap(), ["policy_changed"]);
    assert!(spared.ended.lock().unwrap().is_empty());

    // Allowed again in time: it goes on.
    let (again, _four) = inside(&registry, 10, 2);
    registry.recheck(ask(60_000));
    registry.recheck(|_| None);
    clock.advance(120_000);
    registry.tick();
    assert!(again.ended.lock().unwrap().is_empty());
}

#[test]
fn a_revocation_ends_whom_it_names_and_nobody_else() {
    use RevocationScope::{All, Grant, Identity, Purpose, Session, Source, Target};
    let scopes = [
        (Grant(GrantId([1; 16])), true),
        (Grant(GrantId([2; 16])), false),
        (Session(SessionId([1; 16])), true),
        (Session(SessionId([2; 16])), false),
        (Identity("alice".parse().unwrap()), true),
        (Identity("bob".parse().unwrap()), false),
        (Target("db1".parse().unwrap()), true),
        (Target("db2".parse().unwrap()), false),
        (Target("hop1".parse().unwrap()), true),
        (Source("10.0.0.0/8".parse().unwrap()), true),
        (Source("10.2.0.0/16".parse().unwrap()), false),
        (Purpose("INC-42".to_owned()), true),
        (Purpose("disk full".to_owned()), true),
        (Purpose("INC-4".to_owned()), false),
        (All, true),
    ];
    for (scope, hit) in scopes {
        let registry = Registry::new(Clock::manual(START), None, Vec::new());
        let (probe, _ticket) = inside(&registry, 10, 1);
        registry.apply(&Revocation {
            seq: 1,
            scope: scope.clone(),
            by: "root".to_owned(),
            why: "test".to_owned(),
            at_ms: START.wall_ms,
        });
        assert_eq!(
            *probe.ended.lock().unwrap(),
            vec!["revoked"; usize::from(hit)],
            "{scope:?}"
        );
    }
}

#[test]
fn without_the_lease_only_break_glass_lives_on_and_everything_else_still_ends_it() {
    let lost = || {
        let clock = Clock::manual(START);
        let registry = Registry::new(clock.clone(), None, Vec::new());
        let (leased, first) = inside(&registry, 10, 1);
        let (probe, ticket) = inside(&registry, 10, UNLEASED);
        registry.lease_until.store(START.boot_ms + LEASE_MS, Ordering::SeqCst);
        registry.lease_held.store(true, Ordering::SeqCst);
        clock.advance(LEASE_MS);
        registry.tick();
        assert_eq!(*leased.ended.lock().unwrap(), ["lease_lost"]);
        assert!(probe.ended.lock().unwrap().is_empty());
        drop(first);
        (clock, registry, probe, ticket)
    };
    let (clock, registry, probe, _ticket) = lost();
    clock.advance(10 * 60_000 - LEASE_MS - 1);
    registry.tick();
    assert!(probe.ended.lock().unwrap().is_empty());
    clock.advance(1);
    registry.tick();
    assert_eq!(*probe.ended.lock().unwrap(), ["grant_expired"]);

    let heard = Arc::new(Mutex::new(Vec::new()));
    let (_clock, registry, probe, _ticket) = lost();
    let ear = heard.clone();
    registry.tell_of_revocations(Box::new(move |row| ear.lock().unwrap().push(row.seq)));
    registry.apply(&Revocation {
        seq: 1,
        scope: RevocationScope::Identity("alice".parse().unwrap()),
        by: "root".to_owned(),
        why: "test".to_owned(),
        at_ms: START.wall_ms,
    });
    assert_eq!(*probe.ended.lock().unwrap(), ["revoked"]);
    assert_eq!(*heard.lock().unwrap(), [1]);

    let (_clock, registry, probe, _ticket) = lost();
    registry.drain(true);
    assert_eq!(*probe.ended.lock().unwrap(), ["drain"]);
}

#[test]
fn nobody_enters_without_a_lease_or_while_draining() {
    let clock = Clock::manual(START);
    let registry = Registry::new(clock.clone(), None, vec![300_000, 60_000]);
    let (_probe, ticket) = inside(&registry, 10, 1);
    drop(ticket);
    assert_eq!(registry.count(), 0);
    registry.drain(true);
    assert!(registry.draining());
}

#[test]
fn nobody_is_in_more_sessions_than_he_may_and_break_glass_is_not_counted() {
    let registry = Registry::new(Clock::manual(START), None, Vec::new());
    let (_one, first) = enters(&registry, 10, 1, 2);
    let (_glass, unleased) = enters(&registry, 10, UNLEASED, 2);
    let (_two, second) = enters(&registry, 10, 2, 2);
    assert!(first.is_ok() && unleased.is_ok());
    let second = second.unwrap_or_else(|closed| panic!("{closed:?}"));
    assert_eq!(enters(&registry, 10, 3, 2).1.err(), Some(Closed::Full(2)));
    // One whose bytes have stopped for good makes room before it is sealed.
    second.cut();
    assert!(enters(&registry, 10, 3, 2).1.is_ok());
}
