//! Requests and the answers to them.

use super::*;

pub(super) async fn keeps_requests(bench: impl Bench) {
    let store = bench.store();
    let first = request(1, 2);
    let early = store.add_request(&first).await;
    assert!(
        matches!(early, Err(StoreError::NotFound(_))),
        "no inventory yet: {early:?}"
    );
    stocked(&store).await;
    store.add_request(&first).await.unwrap();
    let again = store.add_request(&first).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    let found = store.request(first.request.id).await.unwrap().unwrap();
    assert_eq!(found, first);
    assert_eq!(
        found.request.sha256(),
        first.request.sha256(),
        "what an approval is bound to"
    );
    assert_eq!(store.request(RequestId([9; 16])).await.unwrap(), None);

    // By time, and by id where that is the same.
    let mut all = vec![first];
    for number in 2..=6 {
        let mut row = request(number, u32::from(number % 2));
        row.request.made_ms = NOW + u64::from(number / 2);
        if number == 4 {
            row.request.requested_by = "bob".to_owned();
        }
        store.add_request(&row).await.unwrap();
        all.push(row);
    }
    all.sort_by_key(|row| std::cmp::Reverse((row.request.made_ms, row.request.id)));
    let numbers = |rows: &[RequestRow]| rows.iter().map(|row| row.request.id.0[0]).collect::<Vec<_>>();
    let none = RequestFilter::default();
    let mut seen: Vec<RequestRow> = Vec::new();
    loop {
        let after = seen.last().map(|row| row.request.id.to_string());
        let rows = store.requests(&none, &page(after, 4)).await.unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(rows.len() <= 4);
        seen.extend(rows);
    }
    assert_eq!(seen, all);
    let whole = page(None, 100);
    let of = async |filter: RequestFilter| numbers(&store.requests(&filter, &whole).await.unwrap());
    let pending = RequestFilter {
        state: Some(RequestState::Pending),
        ..RequestFilter::default()
    };
    let of_bob = RequestFilter {
        requested_by: Some("bob".to_owned()),
        ..RequestFilter::default()
    };
    let for_bob = RequestFilter {
        identity: Some("bob".parse().unwrap()),
        ..RequestFilter::default()
    };
    let mut open = of(pending).await;
    open.sort_unstable();
    assert_eq!(open, [1, 3, 5]);
    assert_eq!((of(of_bob).await, of(for_bob).await), (vec![4], vec![]));
    let unknown = store.requests(&none, &page(Some("x".to_owned()), 2)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}

pub(super) async fn takes_answers(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let mut row = request(1, 2);
    store.add_request(&row).await.unwrap();
    let id = row.request.id;
    let refused = async |answer: Approval| match store.answer_request(id, &answer).await {
        Err(StoreError::Answer(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(says("alice", Verdict::Approve, &row)).await,
        AnswerRefused::OwnRequest
    );
    assert_eq!(
        refused(says("bob", Verdict::Approve, &request(2, 2))).await,
        AnswerRefused::OtherRequest
    );
    let late = Approval {
        at_ms: row.request.answer_by_ms,
        ..says("bob", Verdict::Approve, &row)
    };
    assert_eq!(refused(late).await, AnswerRefused::TooLate);
    assert_eq!(store.request(id).await.unwrap().unwrap(), row, "nothing of that stays");

    for (by, state) in [("bob", RequestState::Pending), ("carol", RequestState::Approved)] {
        let answer = says(by, Verdict::Approve, &row);
        row.answer(answer.clone()).unwrap();
        assert_eq!(store.answer_request(id, &answer).await.unwrap(), row);
        assert_eq!(store.request(id).await.unwrap().unwrap(), row);
        assert_eq!(row.state, state);
        let again = refused(says(by, Verdict::Approve, &row)).await;
        assert!(matches!(again, AnswerRefused::Again | AnswerRefused::NotPending));
    }
    assert_eq!(row.window.unwrap().0, NOW + 1000);
    let unknown = store
        .answer_request(RequestId([9; 16]), &says("bob", Verdict::Deny, &row))
        .await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));

    let no = request(3, 5);
    store.add_request(&no).await.unwrap();
    let denied = store
        .answer_request(no.request.id, &says("bob", Verdict::Deny, &no))
        .await
        .unwrap();
    assert_eq!((denied.state, denied.window), (RequestState::Denied, None));
}

/// One person is one voice, and the voice that makes the quorum is the last.
pub(super) async fn counts_answers_that_race(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let row = request(1, 3);
    store.add_request(&row).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (voice, store) in (0..40).zip(nodes(&bench)) {
        let id = row.request.id;
        let answer = says(["bob", "carol", "dave", "erin"][voice % 4], Verdict::Approve, &row);
        tasks.spawn(async move { store.answer_request(id, &answer).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    for answer in answers {
        let fine = matches!(
            answer,
            Ok(_) | Err(StoreError::Answer(AnswerRefused::Again | AnswerRefused::NotPending))
        );
        assert!(fine, "{answer:?}");
    }
    let after = store.request(row.request.id).await.unwrap().unwrap();
    assert_eq!((after.state, after.answers.len()), (RequestState::Approved, 3));
    let people: std::collections::BTreeSet<&str> = after.answers.iter().map(|answer| answer.by.as_str()).collect();
    assert_eq!(people.len(), 3);
}

pub(super) async fn takes_a_request_back(bench: impl Bench) {
    let store = bench.store();
    stocked(&store).await;
    let row = request(1, 1);
    store.add_request(&row).await.unwrap();
    let id = row.request.id;
    let gone = store.withdraw_request(id, NOW + 5).await.unwrap();
    assert_eq!((gone.state, gone.closed_ms), (RequestState::Withdrawn, Some(NOW + 5)));
    assert_eq!(store.request(id).await.unwrap().unwrap(), gone);
    let again = store.withdraw_request(id, NOW + 6).await;
    assert!(
        matches!(again, Err(StoreError::Answer(AnswerRefused::NotPending))),
        "{again:?}"
    );
    let late = store.answer_request(id, &says("bob", Verdict::Approve, &row)).await;
    assert!(
        matches!(late, Err(StoreError::Answer(AnswerRefused::NotPending))),
        "{late:?}"
    );
    let unknown = store.withdraw_request(RequestId([9; 16]), NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}
