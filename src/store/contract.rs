//! What every store must do, whatever it is made of: one suite, run on each.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    AnchorRow, AnomalyRow, DecisionRow, HISTORY_ROWS_MAX, Mark, PAGE_ROWS_MAX, Page, RecordingRow, Remembered,
    RequestFilter, ReviewRow, RevocationScope, SessionRow, Store, StoreError, TokenRow, Use,
};
use crate::kernel::access::{AccessRequest, AnswerRefused, Approval, RequestRow, RequestState, Verdict};
use crate::kernel::grant::{Capability, Grant};
use crate::kernel::id::{GrantId, RequestId, ReviewId, SessionId};
use crate::kernel::inventory::{Identity, IdentityKind, Reach, Role, Target};
use crate::kernel::policy::facts::{Action, Facts, Whereto, Who};
use crate::kernel::policy::obligations::Obligations;

mod collecting;
mod faults;
mod grants;
mod inventory;
mod migrations;
mod nodes;
mod once;
mod recordings;
mod requests;
mod reviews;
mod revocations;
mod sessions;
mod tokens;
mod uses;

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;

/// One store and the harm that can be done to what lies under it.
trait Bench: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;
    /// As another node has it; the same, where there is one node only.
    fn other(&self) -> Arc<dyn Store>;
    /// The same state by other connections, whose commits fail as they are told.
    fn faulty(&self) -> impl Future<Output = (Arc<dyn Store>, faults::Faults)> + Send;
    /// Every row of every table.
    fn picture(&self) -> impl Future<Output = String> + Send;
    /// Puts another, valid store in the place of this one.
    fn replace(&self) -> impl Future<Output = ()> + Send;
    /// Takes the whole state away.
    fn remove(&self) -> impl Future<Output = ()> + Send;
    /// Holds the write lock from outside until the guard is dropped.
    fn lock(&self) -> impl Future<Output = Box<dyn std::any::Any + Send>> + Send;
    /// Longest that a locked store may take to say so.
    fn answer_max(&self) -> Duration;
}

fn identity(name: &str) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        kind: IdentityKind::Person,
        owner: None,
        purpose: None,
        review_by_ms: None,
        keys: vec!["ssh-ed25519 AAAA x".to_owned()],
        roles: [Role::Approver].into(),
        groups: ["ops".parse().unwrap()].into(),
        disabled: false,
    }
}

fn target(name: &str) -> Target {
    Target {
        name: name.parse().unwrap(),
        logins: vec!["root".parse().unwrap()],
        reach: Reach::Local {
            command: vec!["sh".to_owned()],
            run_as: "nobody".to_owned(),
        },
        labels: vec!["env=test".to_owned()],
        disabled: false,
    }
}

fn grant(number: u8, single_use: bool) -> Grant {
    Grant {
        id: GrantId([number; 16]),
        identity: "alice".parse().unwrap(),
        destination: "root@db1".parse().unwrap(),
        from_ms: NOW,
        until_ms: NOW + HOUR,
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        capabilities: [Capability::Shell, Capability::Sftp].into(),
        reason: "it's \"broken\"; DROP TABLE".to_owned(),
        ticket: None,
        request: None,
        issued_by: "root".to_owned(),
        policy_digest: [1; 32],
        certificate_sha256: [number; 32],
        certificate_serial: u64::from(number),
        single_use,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

/// The certificate of the grant of a session, as [`grant`] makes it.
fn certificate(of: &SessionRow) -> [u8; 32] {
    [of.grant.0[0]; 32]
}

fn session(number: u16, of: &Grant) -> SessionRow {
    let mut id = [7; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    SessionRow {
        id: SessionId(id),
        node: "node1".parse().unwrap(),
        grant: of.id,
        identity: of.identity.clone(),
        destination: of.destination.clone(),
        source: "10.1.2.3:4444".to_owned(),
        started_ms: NOW + u64::from(number),
        until_ms: of.until_ms,
        ended_ms: None,
        end_code: None,
    }
}

fn recording(number: u8) -> RecordingRow {
    RecordingRow {
        session: SessionId([number; 16]),
        file: format!("{number}.pcr"),
        bytes: 1234,
        kind: "sealed".to_owned(),
        end_code: "closed".to_owned(),
        sealed_ms: NOW + u64::from(number),
        leaf: u64::from(number),
        hold: None,
        expired_ms: None,
        shredded_ms: None,
    }
}

fn facts(action: Action) -> Facts {
    let mut facts = Facts::new(
        action,
        Who::from(&identity("alice")),
        Some(Whereto::from(&target("db1"))),
        NOW,
    );
    facts.source = Some("10.1.2.3".parse().unwrap());
    facts.reason = "disk \u{1F4BE} full\0".to_owned();
    facts.for_ms = HOUR;
    facts
}

/// A request of alice's for an hour on db1 that wants so many approvals.
fn request(number: u8, approvals: u32) -> RequestRow {
    let asked = AccessRequest {
        id: RequestId([number; 16]),
        identity: "alice".parse().unwrap(),
        requested_by: "alice".to_owned(),
        destination: "root@db1".parse().unwrap(),
        capabilities: [Capability::Shell, Capability::Exec].into(),
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        begins_ms: None,
        for_ms: HOUR,
        reason: "disk full".to_owned(),
        ticket: Some(format!("INC-{number}")),
        public_key: None,
        single_use: false,
        extends: None,
        connects: None,
        runs: None,
        undecided: false,
        made_ms: NOW + u64::from(number),
        answer_by_ms: NOW + HOUR,
        policy_digest: [4; 32],
        obligations: Obligations {
            approvals,
            approvers: (approvals > 0).then(|| "dba".parse().unwrap()).into_iter().collect(),
            max_ms: Some(HOUR),
            ..Obligations::default()
        },
    };
    RequestRow::new(asked, facts(Action::Request))
}

fn says(by: &str, verdict: Verdict, to: &RequestRow) -> Approval {
    Approval {
        by: by.to_owned(),
        groups: ["dba".parse().unwrap()].into(),
        verdict,
        request_sha256: to.request.sha256(),
        why: "looks right".to_owned(),
        method: "ssh-key".to_owned(),
        at_ms: NOW + 1000,
    }
}

/// What is collected from an approved request: its grant with certificate `number`.
fn collected(from: &RequestRow, number: u8) -> Grant {
    let (from_ms, until_ms) = from.window.unwrap();
    Grant {
        from_ms,
        until_ms,
        capabilities: from.request.capabilities.clone(),
        reason: from.request.reason.clone(),
        ticket: from.request.ticket.clone(),
        request: Some(from.request.id),
        single_use: from.request.single_use,
        ..grant(number, false)
    }
}

fn token(number: u8, of: &str) -> TokenRow {
    TokenRow {
        sha256: [number; 32],
        identity: of.parse().unwrap(),
        roles: vec![Role::User, Role::Approver],
        method: "ssh-key".to_owned(),
        strength: 2,
        made_ms: NOW + u64::from(number),
        expires_ms: NOW + HOUR + u64::from(number),
    }
}

fn review(number: u8) -> ReviewRow {
    ReviewRow {
        id: ReviewId([number; 16]),
        session: number.is_multiple_of(2).then_some(SessionId([number; 16])),
        identity: "alice".parse().unwrap(),
        destination: "root@db1".parse().unwrap(),
        kind: "policy".to_owned(),
        why: "every session on db1 is looked at".to_owned(),
        opened_ms: NOW + u64::from(number),
        closed_ms: None,
        closed_by: None,
        note: None,
    }
}

fn anomaly(number: u8) -> AnomalyRow {
    AnomalyRow {
        at_ms: NOW + u64::from(number),
        identity: "alice".parse().unwrap(),
        session: number.is_multiple_of(2).then_some(SessionId([number; 16])),
        kind: "first-source".to_owned(),
        detail: "never seen from 192.0.2.7 before".to_owned(),
        risk: 30 + number,
    }
}

fn hour() -> Use {
    Use {
        identity: "alice".parse().unwrap(),
        facet: "hour",
        value: "7".to_owned(),
        amount: 1,
        at_ms: NOW,
    }
}

fn decision(number: u8) -> DecisionRow {
    DecisionRow {
        at_ms: NOW + u64::from(number),
        facts: facts(Action::Connect),
        allowed: number.is_multiple_of(2),
        rules: vec!["production.approved".to_owned(), "hours".to_owned()],
        policy_digest: "ab".repeat(32),
    }
}

fn anchor(origin: &str, size: u64, root: u8) -> AnchorRow {
    AnchorRow {
        origin: origin.to_owned(),
        size,
        root: [root; 32],
        note: format!("note {size}\n\n\u{2014} key AAAA\n"),
        kept_ms: NOW + size,
    }
}

/// Those who race: every second one is at the other node.
fn nodes(bench: &impl Bench) -> impl Iterator<Item = Arc<dyn Store>> {
    [bench.store(), bench.other()].into_iter().cycle()
}

fn page(after: Option<String>, limit: u32) -> Page {
    Page { after, limit }
}

async fn stocked(store: &Arc<dyn Store>) {
    for name in ["alice", "bob"] {
        store.add_identity(&identity(name)).await.unwrap();
    }
    for name in ["db1", "db2"] {
        store.add_target(&target(name)).await.unwrap();
    }
}

/// Every part of the contract as a test of one bench.
macro_rules! contract {
    ($bench:ident) => {
        contract! { $bench:
            inventory::keeps_the_inventory
            inventory::puts_the_inventory_at_once
            grants::keeps_grants
            grants::pages_through_grants
            grants::gives_each_serial_once
            grants::consumes_a_single_use_grant_once
            requests::keeps_requests
            requests::takes_answers
            requests::counts_answers_that_race
            requests::takes_a_request_back
            collecting::collects_what_was_approved
            collecting::collects_nothing_else
            collecting::replaces_the_certificate_before
            collecting::collects_once_however_many_ask
            collecting::collects_nothing_behind_a_revocation
            sessions::opens_only_under_a_live_grant
            sessions::opens_only_with_the_newest_certificate
            sessions::closes_once
            sessions::pages_through_sessions
            revocations::revokes_what_is_named_and_nothing_else
            revocations::revokes_by_source_and_purpose
            revocations::closes_requests
            revocations::never_leaves_a_session_behind_a_revocation
            revocations::numbers_revocations_without_a_gap
            recordings::keeps_recordings_and_what_became_of_them
            recordings::pages_through_recordings
            tokens::keeps_tokens
            once::gives_a_claim_to_one
            once::remembers_a_call
            reviews::keeps_reviews
            uses::counts_uses
            uses::keeps_anomalies
            uses::keeps_decisions
            nodes::keeps_the_newest_checkpoint_of_each_ledger
            nodes::refuses_what_it_cannot_keep
            nodes::notices_a_replaced_store
            nodes::notices_a_removed_store
            nodes::says_so_when_it_is_locked
            faults::leaves_nothing_of_what_failed_and_one_of_what_happened
        }
    };
    ($bench:ident: $($noun:ident::$name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$noun::$name($bench::new().await).await;
            }
        )*
    };
}

mod postgres;
mod sqlite;
