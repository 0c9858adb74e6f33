//! From a yes to a certificate that admits.

use super::*;

pub(super) async fn collects_what_was_approved(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let asked = request(1, 1);
    store.add_request(&asked).await.unwrap();
    let id = asked.request.id;
    let yes = says("bob", Verdict::Approve, &asked);
    let approved = store.answer_request(id, &yes).await.unwrap();
    let grant = collected(&approved, 7);
    assert_eq!(store.collect(id, &grant, NOW + 2000).await.unwrap(), grant);
    assert_eq!(store.grant(grant.id).await.unwrap(), Some(grant.clone()));
    assert_eq!(store.grant_by_certificate([7; 32]).await.unwrap(), Some(grant.clone()));
    assert_eq!(store.request(id).await.unwrap().unwrap().grant, Some(grant.id));
    // The answer was lost, so it is asked again.
    assert_eq!(store.collect(id, &grant, NOW + 2001).await.unwrap(), grant);
    assert_eq!(store.grants(None).await.unwrap(), std::slice::from_ref(&grant));
    let row = session(1, &grant);
    store.open_session(&row, [7; 32], NOW + 2002).await.unwrap();
}

pub(super) async fn collects_nothing_else(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let asked = request(1, 0);
    store.add_request(&asked).await.unwrap();
    let id = asked.request.id;
    let good = collected(&asked, 7);
    let (from, until) = asked.window.unwrap();
    type Spoil = fn(&mut Grant);
    let spoil: [(&str, Spoil); 14] = [
        ("identity", |grant| grant.identity = "bob".parse().unwrap()),
        ("login", |grant| grant.destination = "bob@db1".parse().unwrap()),
        ("target", |grant| grant.destination = "root@db2".parse().unwrap()),
        ("begin", |grant| grant.from_ms -= 1),
        ("end", |grant| grant.until_ms += 1),
        ("empty", |grant| grant.until_ms = grant.from_ms),
        ("capability", |grant| {
            grant.capabilities.insert(Capability::Agent);
        }),
        ("wider source", |grant| {
            grant.sources = vec!["0.0.0.0/0".parse().unwrap()]
        }),
        ("another source", |grant| {
            grant.sources.push("192.0.2.0/24".parse().unwrap())
        }),
        ("any source", |grant| grant.sources.clear()),
        ("reason", |grant| grant.reason.push('!')),
        ("ticket", |grant| grant.ticket = None),
        ("request", |grant| grant.request = Some(RequestId([2; 16]))),
        ("no request", |grant| grant.request = None),
    ];
    let before = bench.picture().await;
    for (what, spoil) in spoil {
        let mut bad = good.clone();
        spoil(&mut bad);
        let answer = store.collect(id, &bad, from).await;
        assert!(
            matches!(answer, Err(StoreError::GrantNotLive("other-purpose"))),
            "{what}: {answer:?}"
        );
    }
    let over = store.collect(id, &good, until).await;
    assert!(matches!(over, Err(StoreError::NotOpen("over"))), "half-open: {over:?}");
    let unknown = store.collect(RequestId([9; 16]), &good, from).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
    assert_eq!(bench.picture().await, before);

    // One for one session only yields no other.
    let mut once = request(3, 0);
    once.request.single_use = true;
    store.add_request(&once).await.unwrap();
    let many = Grant {
        single_use: false,
        ..collected(&once, 8)
    };
    let answer = store.collect(once.request.id, &many, from + 2).await;
    assert!(
        matches!(answer, Err(StoreError::GrantNotLive("other-purpose"))),
        "{answer:?}"
    );
    // Less than was approved may be collected.
    let less = Grant {
        sources: vec!["10.1.0.0/16".parse().unwrap()],
        capabilities: [Capability::Exec].into(),
        until_ms: until - 1000,
        ..good
    };
    assert_eq!(store.collect(id, &less, from).await.unwrap(), less);

    // What has no yes, or no longer one.
    for (number, state) in [(10, "pending"), (11, "denied"), (12, "withdrawn"), (13, "expired")] {
        let row = request(number, 1);
        store.add_request(&row).await.unwrap();
        let mut now = NOW + 2000;
        match state {
            "denied" => {
                let no = says("bob", Verdict::Deny, &row);
                store.answer_request(row.request.id, &no).await.unwrap();
            }
            "withdrawn" => {
                store.withdraw_request(row.request.id, now).await.unwrap();
            }
            "expired" => now = row.request.answer_by_ms,
            _ => {}
        }
        let mut yes = row.clone();
        yes.window = Some((NOW, NOW + HOUR));
        let answer = store.collect(row.request.id, &collected(&yes, number), now).await;
        assert!(
            matches!(answer, Err(StoreError::NotOpen(why)) if why == state),
            "{answer:?}"
        );
    }
}

pub(super) async fn replaces_the_certificate_before(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let mut asked = request(1, 0);
    asked.request.single_use = true;
    store.add_request(&asked).await.unwrap();
    let id = asked.request.id;
    let first = collected(&asked, 7);
    store.collect(id, &first, NOW + 2000).await.unwrap();
    let second = Grant {
        id: first.id,
        from_ms: NOW + 3000,
        ..collected(&asked, 9)
    };
    assert_eq!(store.collect(id, &second, NOW + 3000).await.unwrap(), second);
    assert_eq!(store.grant_by_certificate([7; 32]).await.unwrap(), None);
    assert_eq!(store.grant_by_certificate([9; 32]).await.unwrap(), Some(second.clone()));
    assert_eq!(store.grants(None).await.unwrap(), std::slice::from_ref(&second));

    // A call that was on its way for long brings nothing back.
    let old = store.collect(id, &first, NOW + 3001).await;
    assert!(matches!(old, Err(StoreError::Exists(_))), "{old:?}");
    // Nor does a certificate that another grant has.
    let taken = grant(11, false);
    store.add_grant(&taken).await.unwrap();
    let twin = Grant {
        certificate_sha256: taken.certificate_sha256,
        certificate_serial: 12,
        ..second.clone()
    };
    let twin = store.collect(id, &twin, NOW + 3001).await;
    assert!(matches!(twin, Err(StoreError::Exists(_))), "{twin:?}");
    // Nor is there a second grant of one request.
    let other = collected(&asked, 13);
    let other = store.collect(id, &other, NOW + 3001).await;
    assert!(matches!(other, Err(StoreError::Exists(_))), "{other:?}");

    store
        .open_session(&session(1, &second), [9; 32], NOW + 4000)
        .await
        .unwrap();
    let third = Grant {
        id: first.id,
        ..collected(&asked, 14)
    };
    let used = store.collect(id, &third, NOW + 4001).await;
    assert!(matches!(used, Err(StoreError::GrantNotLive("used"))), "{used:?}");
}

/// However many collect a single-use request at once: there is one grant, one
/// certificate admits, and it opens one session.
pub(super) async fn collects_once_however_many_ask(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    for same_grant in [true, false] {
        let number = if same_grant { 1 } else { 2 };
        let mut asked = request(number, 0);
        asked.request.single_use = true;
        store.add_request(&asked).await.unwrap();
        let id = asked.request.id;
        let mut tasks = tokio::task::JoinSet::new();
        for node in nodes(&bench).take(200) {
            let serial = store.next_serial().await.unwrap();
            let mut sha256 = [number; 32];
            sha256[..8].copy_from_slice(&serial.to_be_bytes());
            let grant = Grant {
                id: GrantId(match same_grant {
                    true => [number; 16],
                    false => sha256[..16].try_into().unwrap(),
                }),
                certificate_sha256: sha256,
                certificate_serial: serial,
                ..collected(&asked, number)
            };
            tasks.spawn(async move { (grant.clone(), node.collect(id, &grant, NOW + 2000).await) });
        }
        let asked_for = tasks.join_all().await;
        let mut given = Vec::new();
        for (grant, answer) in &asked_for {
            match answer {
                Ok(row) => given.push(row.clone()),
                Err(StoreError::Exists(_)) => {}
                Err(error) => panic!("{error} for {}", grant.certificate_serial),
            }
        }
        let newest = given.iter().max_by_key(|row| row.certificate_serial).unwrap().clone();
        if !same_grant {
            assert_eq!(given.len(), 1);
        }
        assert_eq!(store.request(id).await.unwrap().unwrap().grant, Some(newest.id));
        assert_eq!(store.grant(newest.id).await.unwrap(), Some(newest.clone()));
        let mut admitted = 0;
        let mut tasks = tokio::task::JoinSet::new();
        for ((place, (grant, _)), node) in (0u16..).zip(&asked_for).zip(nodes(&bench)) {
            let found = store.grant_by_certificate(grant.certificate_sha256).await.unwrap();
            admitted += usize::from(found.is_some());
            let row = session(
                u16::from(number) * 1000 + place,
                &Grant {
                    id: newest.id,
                    ..grant.clone()
                },
            );
            let certificate = grant.certificate_sha256;
            tasks.spawn(async move { node.open_session(&row, certificate, NOW + 2001).await });
        }
        assert_eq!(admitted, 1, "one certificate admits");
        let opened = tasks.join_all().await;
        assert_eq!(opened.iter().filter(|answer| answer.is_ok()).count(), 1);
        for answer in opened {
            let fine = matches!(answer, Ok(()) | Err(StoreError::GrantNotLive("used" | "replaced")));
            assert!(fine, "{answer:?}");
        }
    }
}

/// However collecting, opening and a revocation interleave: nothing that
/// admits is left, and no session that the revocation did not name.
pub(super) async fn collects_nothing_behind_a_revocation(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    for round in 1..=20u8 {
        let asked = request(round, 0);
        store.add_request(&asked).await.unwrap();
        let id = asked.request.id;
        let mut tasks = tokio::task::JoinSet::new();
        for (again, store) in (0..4u8).zip(nodes(&bench)) {
            let number = 20 + round * 8 + again;
            let grant = Grant {
                id: GrantId([round; 16]),
                certificate_serial: u64::from(round) * 100 + u64::from(again),
                certificate_sha256: [round, again].repeat(16).try_into().unwrap(),
                ..collected(&asked, number)
            };
            tasks.spawn(async move {
                let row = session(u16::from(round) * 10 + u16::from(again), &grant);
                let got = store.collect(id, &grant, NOW + 2000).await;
                let opened = match &got {
                    Ok(_) => store.open_session(&row, grant.certificate_sha256, NOW + 2000).await,
                    Err(_) => Err(StoreError::NotOpen("no certificate")),
                };
                (row.id, got, opened)
            });
        }
        let scope = match round % 4 {
            0 => RevocationScope::Identity("alice".parse().unwrap()),
            1 => RevocationScope::Target("db1".parse().unwrap()),
            2 => RevocationScope::Purpose(asked.request.ticket.clone().unwrap()),
            _ => RevocationScope::All,
        };
        let node = if round % 3 == 0 { bench.store() } else { bench.other() };
        let (_, hit) = node.revoke(&scope, "root", "race", NOW + 2000).await.unwrap();
        for (session, got, opened) in tasks.join_all().await {
            match got {
                Ok(_) | Err(StoreError::NotOpen("revoked") | StoreError::Exists(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let named = hit.iter().any(|row| row.id == session);
            assert_eq!(opened.is_ok(), named, "opened if and only if it was named: {opened:?}");
        }
        assert_eq!(store.grants(Some(NOW + 2001)).await.unwrap(), []);
        assert_eq!(store.request(id).await.unwrap().unwrap().state, RequestState::Revoked);
    }
}
