//! What identities did, what was unusual, what was decided.

use super::*;
use crate::store::UseRow;

pub(super) async fn counts_uses(bench: impl Bench) {
    let store = bench.store();
    let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let first = store.note_use(&alice, "volume", "db1", 10, NOW + 5).await.unwrap();
    assert_eq!(first, None);
    let second = store.note_use(&alice, "volume", "db1", 30, NOW + 7).await.unwrap();
    let mut row = UseRow {
        identity: "alice".parse().unwrap(),
        facet: "volume".to_owned(),
        value: "db1".to_owned(),
        first_ms: NOW + 5,
        last_ms: NOW + 5,
        count: 1,
        sum: 10,
        most: 10,
    };
    assert_eq!(second, Some(row.clone()));
    // A clock that went back takes nothing back; a sum that is full stays full.
    store.note_use(&alice, "volume", "db1", u64::MAX, NOW).await.unwrap();
    let full = u64::try_from(i64::MAX).unwrap();
    row.last_ms = NOW + 7;
    (row.count, row.sum, row.most) = (3, full, full);
    assert_eq!(store.uses(Some(&alice)).await.unwrap(), [row.clone()]);
    for (who, facet, value, at) in [
        (&bob, "source", "10.1.2.3", NOW + 9),
        (&bob, "target", "db1", NOW + 7),
        (&alice, "source", "10.1.2.3", NOW + 8),
    ] {
        assert_eq!(store.note_use(who, facet, value, 0, at).await.unwrap(), None);
    }
    let facets = |rows: Vec<UseRow>| {
        rows.into_iter()
            .map(|row| format!("{} {}", row.identity, row.facet))
            .collect()
    };
    let all: Vec<String> = facets(store.uses(None).await.unwrap());
    assert_eq!(all, ["bob source", "alice source", "alice volume", "bob target"]);
    let of_bob: Vec<String> = facets(store.uses(Some(&bob)).await.unwrap());
    assert_eq!(of_bob, ["bob source", "bob target"]);

    let mut tasks = tokio::task::JoinSet::new();
    for store in nodes(&bench).take(40) {
        tasks.spawn(async move {
            store
                .note_use(&"bob".parse().unwrap(), "hour", "7", 1, NOW)
                .await
                .unwrap()
        });
    }
    let before = tasks.join_all().await;
    assert_eq!(
        before.iter().filter(|row| row.is_none()).count(),
        1,
        "one was the first"
    );
    let hour = store.uses(Some(&bob)).await.unwrap();
    let hour = hour.iter().find(|row| row.facet == "hour").unwrap();
    assert_eq!((hour.count, hour.sum), (40, 40));
}

pub(super) async fn keeps_anomalies(bench: impl Bench) {
    let store = bench.store();
    for number in [1, 3, 2] {
        store.add_anomaly(&anomaly(number)).await.unwrap();
    }
    let twin = AnomalyRow {
        kind: "first-hour".to_owned(),
        ..anomaly(3)
    };
    store.add_anomaly(&twin).await.unwrap();
    let [one, two, three] = [1, 2, 3].map(anomaly);
    assert_eq!(
        store.anomalies(0, u32::MAX).await.unwrap(),
        [twin.clone(), three.clone(), two.clone(), one]
    );
    assert_eq!(store.anomalies(NOW + 2, 10).await.unwrap(), [twin.clone(), three, two]);
    assert_eq!(store.anomalies(NOW, 1).await.unwrap(), [twin]);
    let impossible = AnomalyRow {
        risk: 101,
        ..anomaly(1)
    };
    assert!(store.add_anomaly(&impossible).await.is_err());
}

pub(super) async fn keeps_decisions(bench: impl Bench) {
    let store = bench.store();
    for number in [1, 3, 2] {
        store.note_decision(&decision(number)).await.unwrap();
    }
    let [one, two, three] = [1, 2, 3].map(decision);
    let all = store.decisions(0, HISTORY_ROWS_MAX).await.unwrap();
    assert_eq!(all, [three.clone(), two.clone(), one]);
    assert_eq!(store.decisions(NOW + 2, 10).await.unwrap(), [three.clone(), two]);
    assert_eq!(store.decisions(NOW, 1).await.unwrap(), [three]);
    assert_eq!(store.decisions(NOW + 4, 1).await.unwrap(), []);
}
