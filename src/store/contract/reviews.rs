//! Reviews.

use super::*;

pub(super) async fn keeps_reviews(bench: impl Bench) {
    let store = bench.store();
    for number in [1, 2, 3] {
        store.open_review(&review(number)).await.unwrap();
    }
    let twice = store.open_review(&review(1)).await;
    assert!(matches!(twice, Err(StoreError::Exists(_))), "{twice:?}");
    assert_eq!(store.reviews(true).await.unwrap(), [review(3), review(2), review(1)]);
    let id = review(2).id;
    let own = store.close_review(id, "alice", "fine", NOW + 9).await;
    assert!(
        matches!(own, Err(StoreError::Answer(AnswerRefused::OwnRequest))),
        "{own:?}"
    );
    let closed = ReviewRow {
        closed_ms: Some(NOW + 9),
        closed_by: Some("bob".to_owned()),
        note: Some("fine".to_owned()),
        ..review(2)
    };
    assert_eq!(store.close_review(id, "bob", "fine", NOW + 9).await.unwrap(), closed);
    for by in ["bob", "carol", "alice"] {
        let again = store.close_review(id, by, "not fine", NOW + 10).await;
        assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    }
    assert_eq!(store.reviews(true).await.unwrap(), [review(3), review(1)]);
    assert_eq!(store.reviews(false).await.unwrap(), [review(3), closed, review(1)]);
    let unknown = store.close_review(ReviewId([9; 16]), "bob", "fine", NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}
