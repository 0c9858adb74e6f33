//! Leases, checkpoints, and the store that is no longer what it was.

use super::*;

pub(super) async fn keeps_the_newest_checkpoint_of_each_ledger(bench: impl Bench) {
    let store = bench.store();
    let row = anchor;
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

pub(super) async fn refuses_what_it_cannot_keep(bench: impl Bench) {
    let store = bench.store();
    assert!(store.recordings_before(u64::MAX).await.is_err());
    assert!(store.grants(Some(u64::MAX)).await.is_err());
    stocked(&store).await;
    let nul = Grant {
        reason: "a\0b".to_owned(),
        ..grant(1, false)
    };
    assert!(matches!(store.add_grant(&nul).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.grants(None).await.unwrap(), []);
}

pub(super) async fn notices_a_replaced_store(bench: impl Bench) {
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

pub(super) async fn notices_a_removed_store(bench: impl Bench) {
    let store = bench.store();
    let node = "node1".parse().unwrap();
    store.renew_lease(&node, NOW, NOW + 10_000).await.unwrap();
    bench.remove().await;
    let answer = store.renew_lease(&node, NOW, NOW + 10_000).await;
    assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
}

pub(super) async fn says_so_when_it_is_locked(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let live = grant(1, false);
    store.add_grant(&live).await.unwrap();
    let guard = bench.lock().await;
    let began = Instant::now();
    let row = session(1, &live);
    let node = "node1".parse().unwrap();
    let (opened, renewed, read) = tokio::join!(
        store.open_session(&row, certificate(&row), NOW),
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
