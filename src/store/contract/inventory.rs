//! Targets and identities.

use super::*;

pub(super) async fn keeps_the_inventory(bench: impl Bench) {
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

pub(super) async fn puts_the_inventory_at_once(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let mut bob = identity("bob");
    bob.disabled = true;
    let mut db2 = target("db2");
    db2.labels = vec!["env=prod".to_owned()];
    let (targets, identities) = ([target("db3"), db2.clone()], [bob.clone(), identity("carol")]);
    for _ in 0..2 {
        store.put_inventory(&targets, &identities).await.unwrap();
        let [db1, db3] = ["db1", "db3"].map(target);
        assert_eq!(store.targets().await.unwrap(), [db1, db2.clone(), db3]);
        let [alice, carol] = ["alice", "carol"].map(identity);
        assert_eq!(store.identities().await.unwrap(), [alice, bob.clone(), carol]);
    }
    store.put_inventory(&[], &[]).await.unwrap();
    // Names are ordered byte by byte on every database.
    for name in ["a-b", "aB", "ab", "a_c"] {
        store.add_target(&target(name)).await.unwrap();
    }
    let names = store.targets().await.unwrap();
    let names: Vec<&str> = names.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["a-b", "aB", "a_c", "ab", "db1", "db2", "db3"]);
}
