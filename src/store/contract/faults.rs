//! Faults of two kinds, for every method that writes: the commit failed, or it
//! happened and nobody was told.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::store::Waits;
use crate::store::sql::{Engine, Link};

/// What the next commit does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fault {
    #[default]
    None,
    /// It fails: everything of the transaction is undone.
    Failed,
    /// It happens, and its answer is lost.
    FailedButHappened,
}

/// Tells a [`Faulty`] what to do.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<Fault>>);

impl Faults {
    fn next(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn take(&self) -> Fault {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A database whose commits fail as they are told.
pub(super) struct Faulty<E> {
    pub(super) engine: E,
    pub(super) faults: Faults,
}

impl<E: Engine> Engine for Faulty<E> {
    async fn reader(&self) -> Result<Link, StoreError> {
        self.engine.reader().await
    }

    async fn writer(&self) -> Result<Link, StoreError> {
        self.engine.writer().await
    }

    async fn commit(&self, writer: Link) -> Result<(), StoreError> {
        let lost = || StoreError::Unavailable("the connection is gone".to_owned());
        match self.faults.take() {
            Fault::None => self.engine.commit(writer).await,
            Fault::Failed => {
                drop(writer);
                Err(lost())
            }
            Fault::FailedButHappened => {
                self.engine.commit(writer).await?;
                Err(lost())
            }
        }
    }

    async fn close(&self) {
        self.engine.close().await;
    }

    fn waits(&self) -> Waits {
        self.engine.waits()
    }
}

/// What a caller finds who asks again after an answer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Again {
    /// The same answer; nothing more happens.
    Same,
    /// Another answer, which begins so; nothing more happens.
    Says(&'static str),
    /// It happens a second time, as the method says.
    Twice,
}

type Made = Pin<Box<dyn Future<Output = Result<String, StoreError>> + Send>>;

struct Case {
    name: &'static str,
    call: Box<dyn Fn(Arc<dyn Store>) -> Made + Send + Sync>,
    again: Again,
}

macro_rules! case {
    ($name:ident, $again:expr, $store:ident => $call:expr) => {
        Case {
            name: stringify!($name),
            call: Box::new(|$store: Arc<dyn Store>| {
                Box::pin(async move { $call.await.map(|answer| format!("{answer:?}")) })
            }),
            again: $again,
        }
    };
}

fn node() -> crate::kernel::id::NodeName {
    "node1".parse().unwrap()
}

/// Every method that writes, in an order in which each has what it needs.
fn cases() -> Vec<Case> {
    use Again::{Same, Says, Twice};
    let exists = Says("Err(Exists(");
    let refused = Says("Err(Answer(");
    vec![
        case!(add_target, exists, store => store.add_target(&target("db9"))),
        case!(add_identity, exists, store => store.add_identity(&identity("zoe"))),
        case!(put_inventory, Same, store => store.put_inventory(&[target("db8")], &[identity("yann")])),
        case!(next_serial, Twice, store => store.next_serial()),
        case!(add_grant, exists, store => store.add_grant(&grant(1, true))),
        case!(add_request, exists, store => store.add_request(&request(1, 1))),
        case!(answer_request, refused, store => {
            let answer = says("bob", Verdict::Approve, &request(1, 1));
            let id = RequestId([1; 16]);
            async move { store.answer_request(id, &answer).await }
        }),
        case!(collect, Same, store => async move {
            let asked = store.request(RequestId([1; 16])).await?.unwrap();
            store.collect(asked.request.id, &collected(&asked, 2), NOW + 2000).await
        }),
        case!(withdraw_request, refused, store => async move {
            store.withdraw_request(RequestId([50; 16]), NOW + 2000).await
        }),
        // The session is there, or the grant is used by nobody.
        case!(open_session, Says("Err(GrantNotLive(\"used\"))"), store => async move {
            store.open_session(&session(1, &grant(1, true)), [1; 32], NOW + 1).await
        }),
        case!(close_session, Same, store => async move {
            store.close_session(session(1, &grant(1, true)).id, NOW + 9, "closed").await
        }),
        case!(add_recording, exists, store => store.add_recording(&recording(1))),
        case!(mark_recording, Same, store => async move {
            let hold = Mark::Hold(Some("case 7".to_owned()));
            store.mark_recording(recording(1).session, &hold).await
        }),
        case!(revoke, Twice, store => async move {
            store.revoke(&RevocationScope::All, "root", "test", NOW + 10).await
        }),
        case!(renew_lease, Same, store => async move { store.renew_lease(&node(), NOW, NOW + 10_000).await }),
        case!(keep_anchor, Same, store => async move { store.keep_anchor(&anchor("a/log", 7, 1)).await }),
        case!(add_token, exists, store => async move { store.add_token(&token(1, "alice")).await }),
        case!(drop_token, Same, store => store.drop_token([1; 32])),
        case!(drop_tokens_of, Says("Ok(\"0\")"), store => async move {
            store.drop_tokens_of(&"bob".parse().unwrap()).await
        }),
        case!(claim, Says("Ok(\"false\")"), store => store.claim("challenge", "x", NOW, u64::MAX)),
        case!(remember, Says("Ok(\"Running\")"), store => store.remember([1; 32], [2; 32], NOW, NOW + HOUR)),
        case!(keep_answer, Same, store => store.keep_answer([1; 32], Some((200, b"{}")))),
        case!(open_review, exists, store => async move { store.open_review(&review(1)).await }),
        case!(close_review, exists, store => store.close_review(ReviewId([1; 16]), "bob", "fine", NOW + 9)),
        case!(note_uses, Twice, store => async move { store.note_uses(&[hour()]).await }),
        case!(add_anomaly, Twice, store => async move { store.add_anomaly(&anomaly(1)).await }),
        case!(note_decision, Twice, store => async move { store.note_decision(&decision(1)).await }),
    ]
}

pub(super) async fn leaves_nothing_of_what_failed_and_one_of_what_happened(bench: impl Bench) {
    let cases = cases();
    // A method that is new in `impl Store` needs its case here.
    let writing = include_str!("../sql.rs").matches("writing!(self, ").count();
    assert_eq!(cases.len(), writing);

    let (store, faults) = bench.faulty().await;
    stocked(&store).await;
    store.add_request(&request(50, 1)).await.unwrap();
    store.add_token(&token(7, "bob")).await.unwrap();
    for Case { name, call, again } in cases {
        let before = bench.picture().await;
        faults.next(Fault::Failed);
        let failed = call(store.clone()).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{name}: {failed:?}");
        assert_eq!(bench.picture().await, before, "{name}: something of it stayed");

        faults.next(Fault::FailedButHappened);
        let lost = call(store.clone()).await;
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{name}: {lost:?}");
        let happened = bench.picture().await;
        assert_ne!(happened, before, "{name}: it did not happen");

        let told = call(store.clone()).await;
        let after = bench.picture().await;
        match again {
            Again::Same => assert!(told.is_ok(), "{name}: {told:?}"),
            Again::Twice => assert!(told.is_ok(), "{name}: {told:?}"),
            Again::Says(text) => {
                let told = format!("{told:?}");
                assert!(told.starts_with(text), "{name}: {told}");
            }
        }
        assert_eq!(after != happened, again == Again::Twice, "{name}: asked again");
    }
}
