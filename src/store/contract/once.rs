//! What may happen once.

use super::*;

pub(super) async fn gives_a_claim_to_one(bench: impl Bench) {
    let store = bench.store();
    let mut tasks = tokio::task::JoinSet::new();
    for store in nodes(&bench).take(100) {
        tasks.spawn(async move { store.claim("challenge", "x", NOW, NOW + 10).await.unwrap() });
    }
    let taken = tasks.join_all().await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);

    let claim = async |kind: &str, id: &str, now, until| store.claim(kind, id, now, until).await.unwrap();
    assert!(claim("hook", "x", NOW, NOW + 10).await, "another kind");
    assert!(claim("challenge", "y", NOW, NOW + 10).await, "another id");
    assert!(!claim("challenge", "x", NOW + 9, NOW + 99).await);
    assert!(claim("challenge", "x", NOW + 10, NOW + 99).await, "forgotten");
    assert!(claim("break-glass", "x", NOW, u64::MAX).await);
    let end_of_time = u64::try_from(i64::MAX).unwrap();
    assert!(!claim("break-glass", "x", end_of_time, u64::MAX).await, "for good");
}

pub(super) async fn remembers_a_call(bench: impl Bench) {
    let store = bench.store();
    let (key, call, until) = ([1; 32], [2; 32], NOW + HOUR);
    let ask = async |call, now| store.remember(key, call, now, until).await.unwrap();
    assert_eq!(ask(call, NOW).await, Remembered::New);
    assert_eq!(ask(call, NOW).await, Remembered::Running);
    assert_eq!(ask([3; 32], NOW).await, Remembered::Other);
    // It failed, and may be made again.
    store.keep_answer(key, None).await.unwrap();
    store.keep_answer(key, None).await.unwrap();
    assert_eq!(ask(call, NOW).await, Remembered::New);
    store.keep_answer(key, Some((201, b"\0made\xff"))).await.unwrap();
    // The answer stands, whatever comes later.
    store.keep_answer(key, Some((500, b""))).await.unwrap();
    store.keep_answer(key, None).await.unwrap();
    assert_eq!(ask(call, NOW).await, Remembered::Answered(201, b"\0made\xff".to_vec()));
    assert_eq!(ask([3; 32], NOW).await, Remembered::Other);
    assert_eq!(
        ask(call, until - 1).await,
        Remembered::Answered(201, b"\0made\xff".to_vec())
    );
    assert_eq!(
        store.remember(key, call, until, until + HOUR).await.unwrap(),
        Remembered::New
    );
    let unknown = store.keep_answer([9; 32], Some((200, b"x"))).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");

    let mut tasks = tokio::task::JoinSet::new();
    for store in nodes(&bench).take(50) {
        tasks.spawn(async move { store.remember([7; 32], [7; 32], NOW, NOW + HOUR).await.unwrap() });
    }
    let told = tasks.join_all().await;
    assert_eq!(told.iter().filter(|told| **told == Remembered::New).count(), 1);
    assert!(
        told.iter()
            .all(|told| matches!(told, Remembered::New | Remembered::Running))
    );
}
