//! What identities did, what was unusual, what was decided.

use super::*;
use crate::kernel::id::IdentityName;
use crate::store::{Use, UseRow};

pub(super) async fn counts_uses(bench: impl Bench) {
    let store = bench.store();
    let (alice, bob): (IdentityName, IdentityName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let of = |identity: &IdentityName, facet, value: &str, amount, at_ms| Use {
        identity: identity.clone(),
        facet,
        value: value.to_owned(),
        amount,
        at_ms,
    };
    let first = [of(&alice, "volume", "db1", 10, NOW + 5)];
    store.note_uses(&first).await.unwrap();
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
    assert_eq!(store.uses(Some(&alice)).await.unwrap(), [row.clone()]);
    store.note_uses(&[]).await.unwrap();
    // A clock that went back takes nothing back; a sum that is full stays full.
    let more = [(30, NOW + 7), (u64::MAX, NOW)].map(|(amount, at)| of(&alice, "volume", "db1", amount, at));
    store.note_uses(&more).await.unwrap();
    let full = u64::try_from(i64::MAX).unwrap();
    row.last_ms = NOW + 7;
    (row.count, row.sum, row.most) = (3, full, full);
    assert_eq!(store.uses(Some(&alice)).await.unwrap(), [row.clone()]);
    for (who, facet, value, at) in [
        (&bob, "source", "10.1.2.3", NOW + 9),
        (&bob, "target", "db1", NOW + 7),
        (&alice, "source", "10.1.2.3", NOW + 8),
    ] {
        store.note_uses(&[of(who, facet, value, 0, at)]).await.unwrap();
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
        let one = [of(&bob, "hour", "7", 1, NOW)];
        tasks.spawn(async move { store.note_uses(&one).await.unwrap() });
    }
    tasks.join_all().await;
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
        store.anomalies(0, None, u32::MAX).await.unwrap(),
        [twin.clone(), three.clone(), two.clone(), one]
    );
    let since = store.anomalies(NOW + 2, None, 10).await.unwrap();
    assert_eq!(since, [twin.clone(), three, two.clone()]);
    assert_eq!(store.anomalies(NOW, None, 1).await.unwrap(), [twin]);
    let of = two.session;
    assert!(of.is_some());
    assert_eq!(store.anomalies(two.at_ms + 1, of, 10).await.unwrap(), []);
    assert_eq!(store.anomalies(0, of, 10).await.unwrap(), [two]);
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
