//! Grants, their serials and their one use.

use super::*;

pub(super) async fn keeps_grants(bench: impl Bench) {
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

pub(super) async fn gives_each_serial_once(bench: impl Bench) {
    let mut tasks = tokio::task::JoinSet::new();
    for store in nodes(&bench).take(50) {
        tasks.spawn(async move { store.next_serial().await.unwrap() });
    }
    let mut serials = tasks.join_all().await;
    serials.sort_unstable();
    assert_eq!(serials, (1..=50).collect::<Vec<u64>>());
}

pub(super) async fn consumes_a_single_use_grant_once(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let once = grant(1, true);
    store.add_grant(&once).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, store) in (0..200).zip(nodes(&bench)) {
        let row = session(number, &once);
        tasks.spawn(async move { store.open_session(&row, certificate(&row), NOW + 5).await });
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

pub(super) async fn pages_through_grants(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    for number in 1..=7 {
        let from_ms = if number == 4 { NOW + 2 } else { NOW };
        let row = Grant {
            from_ms,
            identity: if number == 5 { "bob" } else { "alice" }.parse().unwrap(),
            ticket: Some(format!("INC-{number}")),
            ..grant(number, number == 6)
        };
        store.add_grant(&row).await.unwrap();
    }
    let used = session(1, &grant(6, true));
    store.open_session(&used, certificate(&used), NOW).await.unwrap();
    for live_at in [None, Some(NOW)] {
        let whole = store.grants(live_at).await.unwrap();
        assert_eq!(whole.len(), if live_at.is_some() { 5 } else { 7 });
        let mut seen = Vec::new();
        loop {
            let after = seen.last().map(|row: &Grant| row.id.to_string());
            let rows = store.grants_page(live_at, &page(after, 3)).await.unwrap();
            if rows.is_empty() {
                break;
            }
            assert!(rows.len() <= 3);
            seen.extend(rows);
        }
        assert_eq!(seen, whole);
    }
    let unknown = store.grants_page(None, &page(Some("x".to_owned()), 2)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
    let most = page(None, u32::MAX);
    assert!(store.grants_page(None, &most).await.unwrap().len() <= PAGE_ROWS_MAX as usize);

    let of = async |name: &str, since| {
        let rows = store.grants_of(&name.parse().unwrap(), since).await.unwrap();
        rows.iter().map(|row| row.certificate_serial).collect::<Vec<_>>()
    };
    assert_eq!(of("alice", NOW).await, [7, 6, 4, 3, 2, 1]);
    assert_eq!(of("bob", NOW).await, [5]);
    assert!(of("bob", NOW + HOUR).await.is_empty());
    assert!(of("nobody", 0).await.is_empty());
}
