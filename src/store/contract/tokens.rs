//! Tokens.

use super::*;

pub(super) async fn keeps_tokens(bench: impl Bench) {
    let store = bench.store();
    let early = store.add_token(&token(1, "alice")).await;
    assert!(
        matches!(early, Err(StoreError::NotFound(_))),
        "nobody is called so: {early:?}"
    );
    stocked(&store).await;
    for row in [token(1, "alice"), token(2, "alice"), token(3, "bob"), token(4, "bob")] {
        store.add_token(&row).await.unwrap();
    }
    let twice = store.add_token(&token(1, "bob")).await;
    assert!(matches!(twice, Err(StoreError::Exists(_))), "{twice:?}");
    assert_eq!(store.token([1; 32]).await.unwrap(), Some(token(1, "alice")));
    assert_eq!(store.token([9; 32]).await.unwrap(), None);
    for _ in 0..2 {
        store.drop_token([3; 32]).await.unwrap();
        assert_eq!(store.token([3; 32]).await.unwrap(), None);
    }
    let alice = "alice".parse().unwrap();
    assert_eq!(store.drop_tokens_of(&alice).await.unwrap(), 2);
    assert_eq!(store.drop_tokens_of(&alice).await.unwrap(), 0);
    assert_eq!(store.token([2; 32]).await.unwrap(), None);
    assert_eq!(store.token([4; 32]).await.unwrap(), Some(token(4, "bob")));

    // Those that have ended are forgotten when somebody logs in.
    let ends = token(4, "bob").expires_ms;
    for (made_ms, stays) in [(ends - 1, true), (ends, false)] {
        let mut next = token(if stays { 5 } else { 6 }, "bob");
        next.made_ms = made_ms;
        next.expires_ms = made_ms + HOUR;
        store.add_token(&next).await.unwrap();
        assert_eq!(store.token([4; 32]).await.unwrap().is_some(), stays);
    }
}
