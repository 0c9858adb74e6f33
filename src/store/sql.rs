//! The store in SQL: one text of every statement for both databases, so that
//! there is one behaviour to prove. What differs stands behind [`Engine`]: how
//! to connect, who writes, and whether it is still the same database.
//!
//! One connection writes, so that writers queue in our process, where waiting
//! is bounded, and one transaction writes at a time in the whole database:
//! what a transaction has read cannot change before it commits.

use std::future::Future;
use std::time::Duration;

use super::{
    AnchorRow, AnomalyRow, Answer, Approval, DecisionRow, Grant, GrantId, Identity, IdentityName, Mark, NodeName, Page,
    RecordingRow, Remembered, RequestFilter, RequestId, RequestRow, ReviewId, ReviewRow, Revocation, RevocationScope,
    SessionId, SessionRow, Store, StoreError, Target, TargetName, TokenRow, Use, UseRow, Waits, WallMs,
};

mod decisions;
mod error;
mod grants;
mod habits;
mod inventory;
mod link;
mod nodes;
mod once;
mod recordings;
mod requests;
mod reviews;
mod revocations;
mod sessions;
mod tokens;

pub(super) use error::{failed, migration_failed};
pub use link::Link;

/// One kind of database.
pub trait Engine: Send + Sync + 'static {
    /// A connection to read with.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the database is not the one that was opened.
    fn reader(&self) -> impl Future<Output = Result<Link, StoreError>> + Send;

    /// A transaction, with the right to write from its first moment on. Dropped,
    /// it leaves nothing.
    ///
    /// # Errors
    /// As for [`Engine::reader`].
    fn writer(&self) -> impl Future<Output = Result<Link, StoreError>> + Send;

    /// Makes what a writer did last: once this has answered it is on the disk.
    ///
    /// # Errors
    /// The database's; whether it lasts is open then.
    fn commit(&self, writer: Link) -> impl Future<Output = Result<(), StoreError>> + Send {
        writer.commit()
    }

    /// Ends every connection.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// How long anybody may be kept waiting.
    fn waits(&self) -> Waits;
}

/// Relational state in an SQL database.
pub struct SqlStore<E> {
    engine: E,
}

impl<E: Engine> SqlStore<E> {
    pub(super) fn new(engine: E) -> SqlStore<E> {
        SqlStore { engine }
    }

    /// Ends every connection.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Boxes an answer and bounds it in time.
    fn bounded<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> Answer<'a, T> {
        let most = Duration::from_millis(self.engine.waits().answer_ms);
        Box::pin(async move {
            tokio::time::timeout(most, work).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!(
                    "no answer within {} ms",
                    most.as_millis()
                )))
            })
        })
    }
}

/// The answer of `$work`, which reads with `$link`.
macro_rules! reading {
    ($store:ident, $link:ident => $work:expr) => {
        $store.bounded(async move {
            let mut reader = $store.engine.reader().await?;
            let $link = &mut reader;
            $work.await
        })
    };
}

/// The answer of `$work`, which writes with `$link`; nothing happened if it fails.
macro_rules! writing {
    ($store:ident, $link:ident => $work:expr) => {
        $store.bounded(async move {
            let mut writer = $store.engine.writer().await?;
            let $link = &mut writer;
            let answer = $work.await?;
            $store.engine.commit(writer).await?;
            Ok(answer)
        })
    };
}

impl<E: Engine> Store for SqlStore<E> {
    fn add_target<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        writing!(self, link => inventory::add_target(link, target))
    }
    fn targets(&self) -> Answer<'_, Vec<Target>> {
        reading!(self, link => inventory::targets(link))
    }
    fn target<'a>(&'a self, name: &'a TargetName) -> Answer<'a, Option<Target>> {
        reading!(self, link => inventory::target(link, name))
    }
    fn add_identity<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        writing!(self, link => inventory::add_identity(link, identity))
    }
    fn identities(&self) -> Answer<'_, Vec<Identity>> {
        reading!(self, link => inventory::identities(link))
    }
    fn identity<'a>(&'a self, name: &'a IdentityName) -> Answer<'a, Option<Identity>> {
        reading!(self, link => inventory::identity(link, name))
    }
    fn put_inventory<'a>(&'a self, targets: &'a [Target], identities: &'a [Identity]) -> Answer<'a, ()> {
        writing!(self, link => inventory::put(link, targets, identities))
    }

    fn next_serial(&self) -> Answer<'_, u64> {
        // Committed before it is told: a crash loses a number, never gives it twice.
        writing!(self, link => grants::next_serial(link))
    }
    fn add_grant<'a>(&'a self, grant: &'a Grant) -> Answer<'a, ()> {
        writing!(self, link => grants::add(link, grant))
    }
    fn grant(&self, id: GrantId) -> Answer<'_, Option<Grant>> {
        reading!(self, link => grants::find(link, id))
    }
    fn grant_by_certificate(&self, sha256: [u8; 32]) -> Answer<'_, Option<Grant>> {
        reading!(self, link => grants::by_certificate(link, sha256))
    }
    fn grants(&self, live_at: Option<WallMs>) -> Answer<'_, Vec<Grant>> {
        reading!(self, link => grants::all(link, live_at))
    }
    fn grants_page<'a>(&'a self, live_at: Option<WallMs>, page: &'a Page) -> Answer<'a, Vec<Grant>> {
        reading!(self, link => grants::page(link, live_at, page))
    }
    fn grants_of<'a>(&'a self, identity: &'a IdentityName, since: WallMs) -> Answer<'a, Vec<Grant>> {
        reading!(self, link => grants::of(link, identity, since))
    }

    fn add_request<'a>(&'a self, request: &'a RequestRow) -> Answer<'a, ()> {
        writing!(self, link => requests::add(link, request))
    }
    fn request(&self, id: RequestId) -> Answer<'_, Option<RequestRow>> {
        reading!(self, link => requests::find(link, id))
    }
    fn requests<'a>(&'a self, filter: &'a RequestFilter, page: &'a Page) -> Answer<'a, Vec<RequestRow>> {
        reading!(self, link => requests::page(link, filter, page))
    }
    fn answer_request<'a>(&'a self, id: RequestId, answer: &'a Approval) -> Answer<'a, RequestRow> {
        writing!(self, link => requests::answer(link, id, answer))
    }
    fn withdraw_request(&self, id: RequestId, now: WallMs) -> Answer<'_, RequestRow> {
        writing!(self, link => requests::withdraw(link, id, now))
    }
    fn collect<'a>(&'a self, id: RequestId, grant: &'a Grant, now: WallMs) -> Answer<'a, Grant> {
        writing!(self, link => requests::collect(link, id, grant, now))
    }

    fn open_session<'a>(&'a self, session: &'a SessionRow, certificate: [u8; 32], now: WallMs) -> Answer<'a, ()> {
        writing!(self, link => sessions::open(link, session, certificate, now))
    }
    fn close_session<'a>(&'a self, id: SessionId, ended: WallMs, end_code: &'a str) -> Answer<'a, ()> {
        writing!(self, link => sessions::close(link, id, ended, end_code))
    }
    fn sessions(&self, live_only: bool) -> Answer<'_, Vec<SessionRow>> {
        reading!(self, link => sessions::all(link, live_only))
    }
    fn sessions_page<'a>(&'a self, live_only: bool, page: &'a Page) -> Answer<'a, Vec<SessionRow>> {
        reading!(self, link => sessions::page(link, live_only, page))
    }
    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRow>> {
        reading!(self, link => sessions::find(link, id))
    }

    fn add_recording<'a>(&'a self, recording: &'a RecordingRow) -> Answer<'a, ()> {
        writing!(self, link => recordings::add(link, recording))
    }
    fn recordings(&self) -> Answer<'_, Vec<RecordingRow>> {
        reading!(self, link => recordings::all(link))
    }
    fn recordings_page<'a>(&'a self, page: &'a Page) -> Answer<'a, Vec<RecordingRow>> {
        reading!(self, link => recordings::page(link, page))
    }
    fn recording(&self, session: SessionId) -> Answer<'_, Option<RecordingRow>> {
        reading!(self, link => recordings::find(link, session))
    }
    fn recordings_before(&self, sealed_ms: WallMs) -> Answer<'_, Vec<RecordingRow>> {
        reading!(self, link => recordings::before(link, sealed_ms))
    }
    fn mark_recording<'a>(&'a self, session: SessionId, mark: &'a Mark) -> Answer<'a, ()> {
        writing!(self, link => recordings::mark(link, session, mark))
    }

    fn revoke<'a>(
        &'a self,
        scope: &'a RevocationScope,
        by: &'a str,
        why: &'a str,
        now: WallMs,
    ) -> Answer<'a, (Revocation, Vec<SessionRow>)> {
        writing!(self, link => revocations::revoke(link, scope, by, why, now))
    }
    fn revocations_after(&self, seq: u64, limit: u32) -> Answer<'_, Vec<Revocation>> {
        reading!(self, link => revocations::after(link, seq, limit))
    }

    fn renew_lease<'a>(&'a self, node: &'a NodeName, now: WallMs, until: WallMs) -> Answer<'a, ()> {
        let renewed = writing!(self, link => nodes::renew_lease(link, node, now, until));
        // Again after the commit: what we just wrote must be where others look.
        self.bounded(async move {
            renewed.await?;
            self.engine.reader().await.map(drop)
        })
    }

    fn keep_anchor<'a>(&'a self, anchor: &'a AnchorRow) -> Answer<'a, ()> {
        writing!(self, link => nodes::keep_anchor(link, anchor))
    }
    fn anchor<'a>(&'a self, origin: &'a str) -> Answer<'a, Option<AnchorRow>> {
        reading!(self, link => nodes::anchor(link, origin))
    }

    fn add_token<'a>(&'a self, token: &'a TokenRow) -> Answer<'a, ()> {
        writing!(self, link => tokens::add(link, token))
    }
    fn token(&self, sha256: [u8; 32]) -> Answer<'_, Option<TokenRow>> {
        reading!(self, link => tokens::find(link, sha256))
    }
    fn drop_token(&self, sha256: [u8; 32]) -> Answer<'_, ()> {
        writing!(self, link => tokens::forget(link, sha256))
    }
    fn drop_tokens_of<'a>(&'a self, identity: &'a IdentityName) -> Answer<'a, u64> {
        writing!(self, link => tokens::forget_of(link, identity))
    }

    fn claim<'a>(&'a self, kind: &'a str, id: &'a str, now: WallMs, until: WallMs) -> Answer<'a, bool> {
        writing!(self, link => once::claim(link, kind, id, now, until))
    }
    fn remember(&self, key: [u8; 32], call: [u8; 32], now: WallMs, until: WallMs) -> Answer<'_, Remembered> {
        writing!(self, link => once::remember(link, key, call, now, until))
    }
    fn keep_answer<'a>(&'a self, key: [u8; 32], answer: Option<(u16, &'a [u8])>) -> Answer<'a, ()> {
        writing!(self, link => once::keep_answer(link, key, answer))
    }

    fn open_review<'a>(&'a self, review: &'a ReviewRow) -> Answer<'a, ()> {
        writing!(self, link => reviews::open(link, review))
    }
    fn reviews(&self, open_only: bool) -> Answer<'_, Vec<ReviewRow>> {
        reading!(self, link => reviews::all(link, open_only))
    }
    fn close_review<'a>(&'a self, id: ReviewId, by: &'a str, note: &'a str, now: WallMs) -> Answer<'a, ReviewRow> {
        writing!(self, link => reviews::close(link, id, by, note, now))
    }

    fn note_uses<'a>(&'a self, uses: &'a [Use]) -> Answer<'a, ()> {
        writing!(self, link => habits::note(link, uses))
    }
    fn uses<'a>(&'a self, identity: Option<&'a IdentityName>) -> Answer<'a, Vec<UseRow>> {
        reading!(self, link => habits::all(link, identity))
    }
    fn add_anomaly<'a>(&'a self, anomaly: &'a AnomalyRow) -> Answer<'a, ()> {
        writing!(self, link => habits::add_anomaly(link, anomaly))
    }
    fn anomalies(&self, since: WallMs, session: Option<SessionId>, limit: u32) -> Answer<'_, Vec<AnomalyRow>> {
        reading!(self, link => habits::anomalies(link, since, session, limit))
    }

    fn note_decision<'a>(&'a self, decision: &'a DecisionRow) -> Answer<'a, ()> {
        writing!(self, link => decisions::note(link, decision))
    }
    fn decisions(&self, since: WallMs, limit: u32) -> Answer<'_, Vec<DecisionRow>> {
        reading!(self, link => decisions::all(link, since, limit))
    }
}
