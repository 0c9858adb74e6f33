//! States of earlier versions, as they were dumped, brought forward.

use super::*;

/// The dump of a state that [`made_at`] had made with the tables of `number`.
pub(super) fn dump(database: &str, number: u32) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/testdata");
    std::fs::read_to_string(format!("{folder}/{database}-{number}.sql")).unwrap()
}

/// Rows of every kind that SQLite's migration `number` had a table for.
pub(super) async fn made_at(number: u32, store: &Arc<dyn Store>) {
    stocked(store).await;
    assert_eq!(store.next_serial().await.unwrap(), 1);
    let (first, second) = (grant(1, false), grant(2, true));
    for row in [&first, &second, &grant(3, false)] {
        store.add_grant(row).await.unwrap();
    }
    for row in [session(1, &first), session(2, &second)] {
        store.open_session(&row, certificate(&row), NOW + 1).await.unwrap();
    }
    let ended = session(1, &first).id;
    store.close_session(ended, NOW + 9, "closed").await.unwrap();
    store.add_recording(&recording(1)).await.unwrap();
    store.add_recording(&recording(2)).await.unwrap();
    for scope in [
        RevocationScope::Grant(first.id),
        RevocationScope::Session(ended),
        RevocationScope::Identity("bob".parse().unwrap()),
    ] {
        store.revoke(&scope, "root", "it's over", NOW + 10).await.unwrap();
    }
    let node = "node1".parse().unwrap();
    store.renew_lease(&node, NOW, NOW + 10_000).await.unwrap();
    if number >= 2 {
        store.keep_anchor(&anchor("a/log", 7, 1)).await.unwrap();
    }
    if number >= 3 {
        let hold = Mark::Hold(Some("case 7".to_owned()));
        store.mark_recording(recording(1).session, &hold).await.unwrap();
        let expired = Mark::Expired(NOW + 11);
        store.mark_recording(recording(2).session, &expired).await.unwrap();
    }
    if number >= 4 {
        let (asked, open) = (request(1, 1), request(2, 2));
        for row in [&asked, &open] {
            store.add_request(row).await.unwrap();
            let yes = says("bob", Verdict::Approve, row);
            store.answer_request(row.request.id, &yes).await.unwrap();
        }
        let asked = store.request(asked.request.id).await.unwrap().unwrap();
        let grant = collected(&asked, 7);
        store.collect(asked.request.id, &grant, NOW + 2000).await.unwrap();
        store.add_token(&token(1, "alice")).await.unwrap();
        store.claim("challenge", "x", NOW, u64::MAX).await.unwrap();
        store.remember([1; 32], [2; 32], NOW, NOW + HOUR).await.unwrap();
        store.keep_answer([1; 32], Some((200, b"{}"))).await.unwrap();
        for number in [1, 2] {
            store.open_review(&review(number)).await.unwrap();
        }
        store.close_review(review(1).id, "bob", "fine", NOW + 9).await.unwrap();
        store.note_uses(&[hour()]).await.unwrap();
        store.add_anomaly(&anomaly(1)).await.unwrap();
        store.note_decision(&decision(1)).await.unwrap();
    }
}

/// `old` was brought forward from a dump, `new` was made by this version: they
/// hold the same, and one goes on as the other does.
pub(super) async fn is_as_if_made_now(old: &impl Bench, new: &impl Bench, number: u32) {
    made_at(number, &new.store()).await;
    let pictures = [old.picture().await, new.picture().await];
    let [was, is] = pictures.each_ref().map(|picture| picture.lines().collect::<Vec<_>>());
    for (was, is) in was.iter().zip(&is) {
        assert_eq!(was, is, "number {number}");
    }
    assert_eq!(was.len(), is.len(), "number {number}");
    let store = old.store();
    assert_eq!(store.next_serial().await.unwrap(), 2);
    let live = session(9, &grant(3, false));
    store.open_session(&live, certificate(&live), NOW + 1).await.unwrap();
    if number >= 4 {
        // What an approval was given to is what is stored: its hash holds.
        let open = store.request(RequestId([2; 16])).await.unwrap().unwrap();
        let given = open.answers.first().unwrap().request_sha256;
        assert_eq!(given, open.request.sha256());
        let yes = says("carol", Verdict::Approve, &open);
        let approved = store.answer_request(open.request.id, &yes).await.unwrap();
        assert_eq!(approved.state, RequestState::Approved);
    }
    store.add_anomaly(&anomaly(2)).await.unwrap();
    store.note_decision(&decision(2)).await.unwrap();
}
