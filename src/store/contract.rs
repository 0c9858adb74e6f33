//! What every store must do, whatever it is made of: one suite, run on each.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AnchorRow, Mark, RecordingRow, RevocationScope, SessionRow, Store, StoreError};
use crate::kernel::grant::{Capability, Grant};
use crate::kernel::id::{GrantId, SessionId};
use crate::kernel::inventory::{Identity, IdentityKind, Reach, Role, Target};

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

/// One store and the harm that can be done to what lies under it.
trait Bench: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;
    /// Puts another, valid store in the place of this one.
    fn replace(&self) -> impl Future<Output = ()> + Send;
    /// Takes the whole state away.
    fn remove(&self);
    /// Holds the write lock from outside until the guard is dropped.
    fn lock(&self) -> impl Future<Output = Box<dyn std::any::Any + Send>> + Send;
    /// Longest that a locked store may take to say so.
    fn answer_max(&self) -> Duration;
}

fn identity(name: &str) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        kind: IdentityKind::Person,
        owner: None,
        purpose: None,
        review_by_ms: None,
        keys: vec!["ssh-ed25519 AAAA x".to_owned()],
        roles: [Role::Approver].into(),
        groups: ["ops".parse().unwrap()].into(),
        disabled: false,
    }
}

fn target(name: &str) -> Target {
    Target {
        name: name.parse().unwrap(),
        logins: vec!["root".parse().unwrap()],
        reach: Reach::Local {
            command: vec!["sh".to_owned()],
            run_as: "nobody".to_owned(),
        },
        labels: vec!["env=test".to_owned()],
        disabled: false,
    }
}

fn grant(number: u8, single_use: bool) -> Grant {
    Grant {
        id: GrantId([number; 16]),
        identity: "alice".parse().unwrap(),
        destination: "root@db1".parse().unwrap(),
        from_ms: NOW,
        until_ms: NOW + HOUR,
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        capabilities: [Capability::Shell, Capability::Sftp].into(),
        reason: "it's \"broken\"; DROP TABLE".to_owned(),
        issued_by: "root".to_owned(),
        policy_digest: [1; 32],
        certificate_sha256: [number; 32],
        certificate_serial: u64::from(number),
        single_use,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

fn session(number: u16, of: &Grant) -> SessionRow {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    SessionRow {
        id: SessionId(id),
        node: "node1".parse().unwrap(),
        grant: of.id,
        identity: of.identity.clone(),
        destination: of.destination.clone(),
        source: "10.1.2.3:4444".to_owned(),
        started_ms: NOW + u64::from(number),
        until_ms: of.until_ms,
        ended_ms: None,
        end_code: None,
    }
}

async fn stocked(store: &Arc<dyn Store>) {
    for name in ["alice", "bob"] {
        store.add_identity(&identity(name)).await.unwrap();
    }
    for name in ["db1", "db2"] {
        store.add_target(&target(name)).await.unwrap();
    }
}

async fn keeps_the_inventory(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    assert_eq!(store.targets().await.unwrap(), [target("db1"), target("db2")]);
    assert_eq!(
        store.target(&"db2".parse().unwrap()).await.unwrap(),
        Some(target("db2"))
    );
    assert_eq!(store.target(&"db3".parse().unwrap()).await.unwrap(), None);
    assert_eq!(store.identities().await.unwrap(), [identity("alice"), identity("bob")]);
    assert_eq!(
        store.identity(&"bob".parse().unwrap()).await.unwrap(),
        Some(identity("bob"))
    );
    assert!(matches!(
        store.add_target(&target("db1")).await,
        Err(StoreError::Exists(_))
    ));
    assert!(matches!(
        store.add_identity(&identity("bob")).await,
        Err(StoreError::Exists(_))
    ));
}

async fn keeps_grants(bench: impl Bench) {
    let store = bench.store();
    let first = grant(1, false);
    assert!(
        matches!(store.add_grant(&first).await, Err(StoreError::NotFound(_))),
        "no inventory yet"
    );
    stocked(&store).await;
    store.add_grant(&first).await.unwrap();
    assert!(matches!(store.add_grant(&first).await, Err(StoreError::Exists(_))));
    let twin = Grant {
        certificate_sha256: [1; 32],
        ..grant(9, false)
    };
    assert!(
        matches!(store.add_grant(&twin).await, Err(StoreError::Exists(_))),
        "same certificate"
    );
    let late = Grant {
        from_ms: NOW + HOUR,
        until_ms: NOW + 2 * HOUR,
        ..grant(2, true)
    };
    store.add_grant(&late).await.unwrap();
    assert_eq!(store.grant(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.grant_by_certificate([2; 32]).await.unwrap(), Some(late.clone()));
    assert_eq!(store.grant_by_certificate([3; 32]).await.unwrap(), None);
    assert_eq!(store.grants(None).await.unwrap(), [late.clone(), first.clone()]);
    assert_eq!(store.grants(Some(NOW)).await.unwrap(), [first]);
    assert_eq!(store.grants(Some(NOW + HOUR)).await.unwrap(), [late], "half-open");
    assert_eq!(store.grants(Some(NOW + 2 * HOUR)).await.unwrap(), []);
}

async fn gives_each_serial_once(bench: impl Bench) {
    let store = bench.store();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.next_serial().await.unwrap() });
    }
    let mut serials = tasks.join_all().await;
    serials.sort_unstable();
    assert_eq!(serials, (1..=50).collect::<Vec<u64>>());
}

async fn consumes_a_single_use_grant_once(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let once = grant(1, true);
    store.add_grant(&once).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (store, row) = (store.clone(), session(number, &once));
        tasks.spawn(async move { store.open_session(&row, NOW + 5).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers {
        assert!(
            matches!(answer, Ok(()) | Err(StoreError::GrantNotLive("used"))),
            "{answer:?}"
        );
    }
    assert_eq!(store.sessions(true).await.unwrap().len(), 1);
    assert_eq!(store.grant(once.id).await.unwrap().unwrap().used_at_ms, Some(NOW + 5));
    assert_eq!(store.grants(Some(NOW + 5)).await.unwrap(), []);
}

async fn opens_only_under_a_live_grant(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let row = session(1, &live);
    let cases = [(NOW - 1, "not-yet"), (NOW + HOUR, "expired")];
    for (now, code) in cases {
        let answer = store.open_session(&row, now).await;
        assert!(
            matches!(answer, Err(StoreError::GrantNotLive(why)) if why == code),
            "{answer:?}"
        );
    }
    let other = SessionRow {
        destination: "root@db2".parse().unwrap(),
        ..row.clone()
    };
    let answer = store.open_session(&other, NOW).await;
    assert!(
        matches!(answer, Err(StoreError::GrantNotLive("other-purpose"))),
        "{answer:?}"
    );
    let unknown = SessionRow {
        grant: GrantId([9; 16]),
        ..row.clone()
    };
    assert!(matches!(
        store.open_session(&unknown, NOW).await,
        Err(StoreError::NotFound(_))
    ));
    store.open_session(&row, NOW).await.unwrap();
    assert!(matches!(
        store.open_session(&row, NOW).await,
        Err(StoreError::Exists(_))
    ));
    assert_eq!(store.session(row.id).await.unwrap(), Some(row));
}

async fn closes_once(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let (first, second) = (session(1, &live), session(2, &live));
    store.open_session(&first, NOW).await.unwrap();
    store.open_session(&second, NOW).await.unwrap();
    store.close_session(first.id, NOW + 9, "expired").await.unwrap();
    store.close_session(first.id, NOW + 99, "recovered").await.unwrap();
    let closed = store.session(first.id).await.unwrap().unwrap();
    assert_eq!(
        (closed.ended_ms, closed.end_code.as_deref()),
        (Some(NOW + 9), Some("expired"))
    );
    assert_eq!(store.sessions(true).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(store.sessions(false).await.unwrap(), [second, closed], "newest first");
    let unknown = store.close_session(SessionId([0; 16]), NOW, "x").await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}

async fn revokes_what_is_named_and_nothing_else(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let of = |number: u8, who: &str, destination: &str| Grant {
        identity: who.parse().unwrap(),
        destination: destination.parse().unwrap(),
        ..grant(number, false)
    };
    let grants = [
        of(1, "alice", "root@db1"),
        of(2, "alice", "root@db2"),
        of(3, "bob", "root@db1"),
        of(4, "bob", "root@db2"),
    ];
    let mut rows = Vec::new();
    for (number, grant) in (1..).zip(&grants) {
        store.add_grant(grant).await.unwrap();
        rows.push(session(number, grant));
        store.open_session(rows.last().unwrap(), NOW).await.unwrap();
    }
    let revoke = |scope: RevocationScope| {
        let store = store.clone();
        async move { store.revoke(&scope, "root", "test", NOW + 1).await }
    };
    let ids = |rows: &[SessionRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();

    let (row, hit) = revoke(RevocationScope::Session(rows[3].id)).await.unwrap();
    assert_eq!((row.seq, ids(&hit)), (1, vec![rows[3].id]));
    assert_eq!(
        store.grants(Some(NOW)).await.unwrap().len(),
        4,
        "a session's end leaves its grant"
    );

    let (row, hit) = revoke(RevocationScope::Grant(grants[1].id)).await.unwrap();
    assert_eq!((row.seq, ids(&hit)), (2, vec![rows[1].id]));
    let marked = store.grant(grants[1].id).await.unwrap().unwrap();
    assert_eq!(
        (marked.revoked_at_ms, marked.revoked_why.as_deref()),
        (Some(NOW + 1), Some("test"))
    );
    let answer = store.open_session(&session(9, &grants[1]), NOW + 2).await;
    assert!(matches!(answer, Err(StoreError::GrantNotLive("revoked"))));

    let (_, hit) = revoke(RevocationScope::Identity("bob".parse().unwrap())).await.unwrap();
    assert_eq!(ids(&hit), [rows[3].id, rows[2].id], "newest first");
    let (_, hit) = revoke(RevocationScope::Target("db1".parse().unwrap())).await.unwrap();
    assert_eq!(ids(&hit), [rows[2].id, rows[0].id]);
    let (row, hit) = revoke(RevocationScope::All).await.unwrap();
    assert_eq!((row.seq, hit.len()), (5, 4));
    assert_eq!(store.grants(Some(NOW + 2)).await.unwrap(), []);

    for scope in [
        RevocationScope::Session(SessionId([0; 16])),
        RevocationScope::Grant(GrantId([0; 16])),
        RevocationScope::Identity("nobody".parse().unwrap()),
        RevocationScope::Target("nowhere".parse().unwrap()),
    ] {
        assert!(matches!(revoke(scope).await, Err(StoreError::NotFound(_))));
    }
    let journal = store.revocations_after(0, 100).await.unwrap();
    assert_eq!(
        journal.iter().map(|row| row.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5],
        "refused ones leave no gap"
    );
    assert_eq!(journal[4].scope, RevocationScope::All);
    assert_eq!(store.revocations_after(2, 1).await.unwrap()[0].seq, 3);
}

/// However an opening and a revocation interleave: the session is in the
/// revocation's answer, or it was never opened.
async fn never_leaves_a_session_behind_a_revocation(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    for round in 1..=20u8 {
        let live = grant(round, false);
        store.add_grant(&live).await.unwrap();
        let mut openings = tokio::task::JoinSet::new();
        for number in 0..10u16 {
            let row = session(u16::from(round) * 100 + number, &live);
            let store = store.clone();
            openings.spawn(async move { (row.id, store.open_session(&row, NOW + 1).await) });
        }
        let scope = match round % 3 {
            0 => RevocationScope::Grant(live.id),
            1 => RevocationScope::Identity(live.identity.clone()),
            _ => RevocationScope::All,
        };
        let (_, hit) = store.revoke(&scope, "root", "race", NOW + 1).await.unwrap();
        for (id, answer) in openings.join_all().await {
            let named = hit.iter().any(|row| row.id == id);
            match answer {
                Ok(()) => assert!(named, "opened, but the revocation did not name it"),
                Err(StoreError::GrantNotLive("revoked")) => assert!(!named),
                Err(error) => panic!("{error}"),
            }
        }
    }
    let journal = store.revocations_after(0, 100).await.unwrap();
    assert!(journal.iter().map(|row| row.seq).eq(1..=20));
}

async fn keeps_recordings_and_what_became_of_them(bench: impl Bench) {
    let store = bench.store();
    let row = |number: u8| RecordingRow {
        session: SessionId([number; 16]),
        file: format!("{number}.pcr"),
        bytes: 1234,
        kind: "sealed".to_owned(),
        end_code: "closed".to_owned(),
        sealed_ms: NOW + u64::from(number),
        leaf: u64::from(number),
        hold: None,
        expired_ms: None,
        shredded_ms: None,
    };
    store.add_recording(&row(1)).await.unwrap();
    store.add_recording(&row(2)).await.unwrap();
    assert!(matches!(store.add_recording(&row(2)).await, Err(StoreError::Exists(_))));
    assert_eq!(store.recordings().await.unwrap(), [row(2), row(1)]);
    assert_eq!(store.recording(SessionId([1; 16])).await.unwrap(), Some(row(1)));
    assert_eq!(store.recording(SessionId([3; 16])).await.unwrap(), None);

    let ids = |rows: Vec<RecordingRow>| rows.iter().map(|row| row.session.0[0]).collect::<Vec<u8>>();
    let [one, two] = [1, 2].map(|number| SessionId([number; 16]));
    assert_eq!(ids(store.recordings_before(NOW + 3).await.unwrap()), [1, 2]);
    assert_eq!(ids(store.recordings_before(NOW + 2).await.unwrap()), [1]);
    let held = Mark::Hold(Some("case 7".to_owned()));
    store.mark_recording(one, &held).await.unwrap();
    for mark in [Mark::Expired(NOW), Mark::Shredded(NOW)] {
        let marked = store.mark_recording(one, &mark).await;
        assert!(
            matches!(marked, Err(StoreError::Held(ref why)) if why == "case 7"),
            "{marked:?}"
        );
    }
    store.mark_recording(two, &Mark::Shredded(NOW + 8)).await.unwrap();
    assert_eq!(ids(store.recordings_before(NOW + 3).await.unwrap()), [2]);
    store.mark_recording(two, &Mark::Expired(NOW + 9)).await.unwrap();
    assert_eq!(store.recordings_before(NOW + 3).await.unwrap(), []);
    store.mark_recording(one, &Mark::Hold(None)).await.unwrap();
    assert_eq!(store.recording(one).await.unwrap(), Some(row(1)));
    let kept = store.recording(two).await.unwrap().unwrap();
    assert_eq!((kept.shredded_ms, kept.expired_ms), (Some(NOW + 8), Some(NOW + 9)));
    let nobody = store.mark_recording(SessionId([3; 16]), &held).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))));
}

async fn keeps_the_newest_checkpoint_of_each_ledger(bench: impl Bench) {
    let store = bench.store();
    let row = |origin: &str, size: u64, root: u8| AnchorRow {
        origin: origin.to_owned(),
        size,
        root: [root; 32],
        note: format!("note {size}\n\n\u{2014} key AAAA\n"),
        kept_ms: NOW + size,
    };
    assert_eq!(store.anchor("a/log").await.unwrap(), None);
    store.keep_anchor(&row("a/log", 7, 1)).await.unwrap();
    store.keep_anchor(&row("b/log", 3, 2)).await.unwrap();
    store.keep_anchor(&row("a/log", 9, 3)).await.unwrap();
    // The same tree again, with more signatures perhaps.
    let cosigned = AnchorRow {
        note: "cosigned".to_owned(),
        ..row("a/log", 9, 3)
    };
    store.keep_anchor(&cosigned).await.unwrap();
    for back in [row("a/log", 8, 3), row("a/log", 9, 4), row("a/log", 0, 0)] {
        let answer = store.keep_anchor(&back).await;
        assert!(matches!(answer, Err(StoreError::Exists(_))), "{answer:?}");
    }
    assert_eq!(store.anchor("a/log").await.unwrap(), Some(cosigned));
    assert_eq!(store.anchor("b/log").await.unwrap(), Some(row("b/log", 3, 2)));
}

async fn refuses_numbers_it_cannot_keep(bench: impl Bench) {
    let store = bench.store();
    assert!(store.recordings_before(u64::MAX).await.is_err());
    assert!(store.grants(Some(u64::MAX)).await.is_err());
}

async fn notices_a_replaced_store(bench: impl Bench) {
    let store = bench.store();
    let node = "node1".parse().unwrap();
    stocked(&store).await;
    store.renew_lease(&node, NOW, NOW + 10_000).await.unwrap();
    store.renew_lease(&node, NOW + 3_000, NOW + 13_000).await.unwrap();
    bench.replace().await;
    let answer = store.renew_lease(&node, NOW + 6_000, NOW + 16_000).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
    assert!(matches!(
        store.grant_by_certificate([1; 32]).await,
        Err(StoreError::Corrupt(_))
    ));
    assert!(matches!(
        store.add_grant(&grant(1, false)).await,
        Err(StoreError::Corrupt(_))
    ));
}

async fn notices_a_removed_store(bench: impl Bench) {
    let store = bench.store();
    let node = "node1".parse().unwrap();
    store.renew_lease(&node, NOW, NOW + 10_000).await.unwrap();
    bench.remove();
    let answer = store.renew_lease(&node, NOW, NOW + 10_000).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
}

async fn says_so_when_it_is_locked(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let guard = bench.lock().await;
    let began = Instant::now();
    let row = session(1, &live);
    let node = "node1".parse().unwrap();
    let (opened, renewed, read) = tokio::join!(
        store.open_session(&row, NOW),
        store.renew_lease(&node, NOW, NOW + 10_000),
        store.grant_by_certificate([1; 32]),
    );
    assert!(began.elapsed() < bench.answer_max() + Duration::from_secs(1));
    assert!(matches!(opened, Err(StoreError::Unavailable(_))), "{opened:?}");
    assert!(matches!(renewed, Err(StoreError::Unavailable(_))), "{renewed:?}");
    assert!(read.unwrap().is_some(), "reads go on");
    drop(guard);
    assert_eq!(
        store.sessions(true).await.unwrap(),
        [],
        "a refused opening left nothing"
    );
}

/// Every part of the contract as a test of one bench.
macro_rules! contract {
    ($bench:ident) => {
        contract! { $bench: keeps_the_inventory keeps_grants gives_each_serial_once consumes_a_single_use_grant_once opens_only_under_a_live_grant closes_once revokes_what_is_named_and_nothing_else never_leaves_a_session_behind_a_revocation keeps_recordings_and_what_became_of_them keeps_the_newest_checkpoint_of_each_ledger refuses_numbers_it_cannot_keep notices_a_replaced_store notices_a_removed_store says_so_when_it_is_locked }
    };
    ($bench:ident: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($bench::new().await).await;
            }
        )*
    };
}

mod sqlite;
