//! Revocations, and nothing left behind them.

use super::*;

pub(super) async fn revokes_what_is_named_and_nothing_else(bench: impl Bench) {
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
        store
            .open_session(rows.last().unwrap(), certificate(rows.last().unwrap()), NOW)
            .await
            .unwrap();
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
    let answer = store.open_session(&session(9, &grants[1]), [2; 32], NOW + 2).await;
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
pub(super) async fn never_leaves_a_session_behind_a_revocation(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    for round in 1..=20u8 {
        let live = grant(round, false);
        store.add_grant(&live).await.unwrap();
        let mut openings = tokio::task::JoinSet::new();
        for (number, store) in (0..10u16).zip(nodes(&bench)) {
            let row = session(u16::from(round) * 100 + number, &live);
            openings.spawn(async move { (row.id, store.open_session(&row, certificate(&row), NOW + 1).await) });
        }
        let scope = match round % 3 {
            0 => RevocationScope::Grant(live.id),
            1 => RevocationScope::Identity(live.identity.clone()),
            _ => RevocationScope::All,
        };
        let node = if round % 2 == 0 { bench.store() } else { bench.other() };
        let (_, hit) = node.revoke(&scope, "root", "race", NOW + 1).await.unwrap();
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

pub(super) async fn revokes_by_source_and_purpose(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let of = |number: u8, sources: &[&str], reason: &str, ticket: Option<&str>| Grant {
        sources: sources.iter().map(|block| block.parse().unwrap()).collect(),
        reason: reason.to_owned(),
        ticket: ticket.map(str::to_owned),
        ..grant(number, false)
    };
    let grants = [
        of(1, &["10.1.0.0/16", "10.2.0.0/16"], "disk full", Some("INC-1")),
        of(2, &["10.1.0.0/16", "192.0.2.0/24"], "disk full", None),
        of(3, &[], "INC-1", Some("INC-2")),
        of(4, &["2001:db8::/48"], "other", Some("INC-10")),
    ];
    let from = ["10.1.2.3", "192.0.2.7:22", "::ffff:10.1.9.9", "2001:db8::7"];
    let mut rows = Vec::new();
    for (number, grant) in (1..).zip(&grants) {
        store.add_grant(grant).await.unwrap();
        let row = SessionRow {
            source: from[usize::from(number) - 1].to_owned(),
            ..session(number, grant)
        };
        store.open_session(&row, certificate(&row), NOW).await.unwrap();
        rows.push(row);
    }
    let revoke = async |scope: RevocationScope| store.revoke(&scope, "root", "test", NOW + 1).await;
    let ids = |rows: &[SessionRow]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
    let live = async || {
        let rows = store.grants(Some(NOW)).await.unwrap();
        rows.iter().map(|row| row.certificate_serial).collect::<Vec<_>>()
    };
    let source = |block: &str| RevocationScope::Source(block.parse().unwrap());

    let (row, hit) = revoke(source("172.16.0.0/12")).await.unwrap();
    assert_eq!((row.seq, hit.len()), (1, 0), "nobody is there");
    let (_, hit) = revoke(source("10.0.0.0/8")).await.unwrap();
    assert_eq!(ids(&hit), [rows[2].id, rows[0].id]);
    assert_eq!(live().await, [4, 3, 2], "only what is good from nowhere else");
    let (_, hit) = revoke(source("::/0")).await.unwrap();
    assert_eq!((ids(&hit), live().await), (vec![rows[3].id], vec![3, 2]));

    let purpose = |text: &str| RevocationScope::Purpose(text.to_owned());
    let unknown = revoke(purpose("INC")).await;
    assert!(
        matches!(unknown, Err(StoreError::NotFound(_))),
        "exact, or nothing: {unknown:?}"
    );
    let (row, hit) = revoke(purpose("INC-1")).await.unwrap();
    assert_eq!(ids(&hit), [rows[2].id, rows[0].id], "as ticket and as reason");
    assert_eq!((row.seq, live().await), (4, vec![2]));
    let journal = store.revocations_after(0, 10).await.unwrap();
    assert_eq!(journal[1].scope, source("10.0.0.0/8"));
    assert_eq!(journal[3].scope, purpose("INC-1"));
}

/// A revocation closes what a certificate could still be collected from.
pub(super) async fn closes_requests(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let scopes = [
        RevocationScope::Identity("alice".parse().unwrap()),
        RevocationScope::Target("db1".parse().unwrap()),
        RevocationScope::Source("10.0.0.0/8".parse().unwrap()),
        RevocationScope::Purpose("disk full".to_owned()),
        RevocationScope::All,
    ];
    for (round, scope) in (0u8..).zip(scopes) {
        let number = |of: u8| round * 10 + of;
        let others = |row: RequestRow| {
            let mut row = row;
            row.request.identity = "bob".parse().unwrap();
            row.request.requested_by = "bob".to_owned();
            row.request.destination = "root@db2".parse().unwrap();
            row.request.sources = vec!["192.0.2.0/24".parse().unwrap()];
            row.request.reason = "other".to_owned();
            row
        };
        let (pending, approved, denied) = (request(number(1), 1), request(number(2), 0), request(number(3), 1));
        let other = others(request(number(4), 1));
        for row in [&pending, &approved, &denied, &other] {
            store.add_request(row).await.unwrap();
        }
        let no = says("bob", Verdict::Deny, &denied);
        store.answer_request(denied.request.id, &no).await.unwrap();
        let grant = collected(&approved, number(2));
        store.collect(approved.request.id, &grant, NOW + 2000).await.unwrap();
        store.revoke(&scope, "root", "test", NOW + 3000).await.unwrap();

        let state = async |row: &RequestRow| {
            let row = store.request(row.request.id).await.unwrap().unwrap();
            (row.state, row.closed_ms)
        };
        assert_eq!(
            state(&pending).await,
            (RequestState::Revoked, Some(NOW + 3000)),
            "{scope:?}"
        );
        assert_eq!(
            state(&approved).await,
            (RequestState::Revoked, approved.closed_ms),
            "{scope:?}"
        );
        assert_eq!(state(&denied).await.0, RequestState::Denied, "{scope:?}");
        let hit = scope == RevocationScope::All;
        let want = if hit {
            RequestState::Revoked
        } else {
            RequestState::Pending
        };
        assert_eq!(state(&other).await.0, want, "{scope:?}");
        let late = says("bob", Verdict::Approve, &pending);
        let late = store.answer_request(pending.request.id, &late).await;
        assert!(
            matches!(late, Err(StoreError::Answer(AnswerRefused::NotPending))),
            "{late:?}"
        );
        let again = store.collect(approved.request.id, &grant, NOW + 4000).await;
        assert!(matches!(again, Err(StoreError::NotOpen("revoked"))), "{again:?}");
    }
    // Of a grant: its own request, and no other.
    let (one, two) = (request(91, 0), request(92, 0));
    for row in [&one, &two] {
        store.add_request(row).await.unwrap();
        let grant = collected(row, row.request.id.0[0]);
        store.collect(row.request.id, &grant, NOW + 2000).await.unwrap();
    }
    let scope = RevocationScope::Grant(GrantId([91; 16]));
    store.revoke(&scope, "root", "test", NOW + 3000).await.unwrap();
    let states = [one, two].map(|row| row.request.id);
    let states = [store.request(states[0]).await, store.request(states[1]).await];
    let states = states.map(|row| row.unwrap().unwrap().state);
    assert_eq!(states, [RequestState::Revoked, RequestState::Approved]);
}

/// Readers go on from the last number they saw: a gap that was filled later
/// would be a revocation that nobody heard of.
pub(super) async fn numbers_revocations_without_a_gap(bench: impl Bench) {
    stocked(&bench.store()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, store) in (0..60).zip(nodes(&bench)) {
        tasks.spawn(async move {
            let scope = match number % 3 {
                0 => RevocationScope::Identity("nobody".parse().unwrap()),
                1 => RevocationScope::Identity("alice".parse().unwrap()),
                _ => RevocationScope::All,
            };
            let revoked = store.revoke(&scope, "root", "test", NOW).await;
            let seen = store.revocations_after(0, 100).await.unwrap();
            (revoked.ok().map(|(row, _)| row.seq), seen.len())
        });
    }
    let told = tasks.join_all().await;
    let mut seqs: Vec<u64> = told.iter().filter_map(|(seq, _)| *seq).collect();
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(1..=40), "{seqs:?}");
    for (seq, seen) in told {
        // Its own at least, and every one before that.
        assert!(seq.is_none_or(|seq| seen >= usize::try_from(seq).unwrap()));
    }
}
