//! Sessions.

use super::*;

pub(super) async fn opens_only_under_a_live_grant(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let row = session(1, &live);
    let cases = [(NOW - 1, "not-yet"), (NOW + HOUR, "expired")];
    for (now, code) in cases {
        let answer = store.open_session(&row, certificate(&row), now).await;
        assert!(
            matches!(answer, Err(StoreError::GrantNotLive(why)) if why == code),
            "{answer:?}"
        );
    }
    let other = SessionRow {
        destination: "root@db2".parse().unwrap(),
        ..row.clone()
    };
    let answer = store.open_session(&other, certificate(&other), NOW).await;
    assert!(
        matches!(answer, Err(StoreError::GrantNotLive("other-purpose"))),
        "{answer:?}"
    );
    let unknown = SessionRow {
        grant: GrantId([9; 16]),
        ..row.clone()
    };
    assert!(matches!(
        store.open_session(&unknown, certificate(&unknown), NOW).await,
        Err(StoreError::NotFound(_))
    ));
    store.open_session(&row, certificate(&row), NOW).await.unwrap();
    assert!(matches!(
        store.open_session(&row, certificate(&row), NOW).await,
        Err(StoreError::Exists(_))
    ));
    assert_eq!(store.session(row.id).await.unwrap(), Some(row));
}

pub(super) async fn closes_once(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let (first, second) = (session(1, &live), session(2, &live));
    store.open_session(&first, certificate(&first), NOW).await.unwrap();
    store.open_session(&second, certificate(&second), NOW).await.unwrap();
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

pub(super) async fn opens_only_with_the_newest_certificate(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let asked = request(1, 0);
    store.add_request(&asked).await.unwrap();
    let (first, second) = (collected(&asked, 1), collected(&asked, 2));
    let second = Grant { id: first.id, ..second };
    store.collect(asked.request.id, &first, NOW + 1).await.unwrap();
    // Admitted with the first certificate, and replaced before the door.
    store.collect(asked.request.id, &second, NOW + 1).await.unwrap();
    let row = session(1, &first);
    let late = store.open_session(&row, first.certificate_sha256, NOW + 2).await;
    assert!(matches!(late, Err(StoreError::GrantNotLive("replaced"))), "{late:?}");
    store
        .open_session(&row, second.certificate_sha256, NOW + 2)
        .await
        .unwrap();
}

pub(super) async fn pages_through_sessions(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    for number in 1..=6 {
        let row = SessionRow {
            started_ms: NOW + u64::from(number / 2),
            ..session(number, &live)
        };
        store.open_session(&row, certificate(&row), NOW).await.unwrap();
        if number % 3 == 0 {
            store.close_session(row.id, NOW + 9, "closed").await.unwrap();
        }
    }
    for live_only in [false, true] {
        let whole = store.sessions(live_only).await.unwrap();
        assert_eq!(whole.len(), if live_only { 4 } else { 6 });
        let mut seen = Vec::new();
        loop {
            let after = seen.last().map(|row: &SessionRow| row.id.to_string());
            let rows = store.sessions_page(live_only, &page(after, 2)).await.unwrap();
            if rows.is_empty() {
                break;
            }
            assert!(rows.len() <= 2);
            seen.extend(rows);
        }
        assert_eq!(seen, whole);
    }
    let unknown = store.sessions_page(true, &page(Some("x".to_owned()), 2)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}
