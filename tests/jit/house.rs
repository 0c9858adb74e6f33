//! What is simulated: the product's decisions over somewhere that keeps rows,
//! and a gate that knows who is in.

use std::collections::BTreeSet;

use portcullis::kernel::access::{Approval, RequestRow};
use portcullis::kernel::grant::{Grant, WallMs};
use portcullis::kernel::id::{RequestId, SessionId};
use portcullis::kernel::policy::facts::Facts;
use portcullis::kernel::session::Until;
use portcullis::store::{RevocationScope, SessionRow};

/// Who wants to be let in.
pub struct Guest {
    /// As it will stand in the store.
    pub row: SessionRow,
    pub until: Until,
    pub facts: Facts,
}

/// Rows and a gate. What is refused comes with the reason.
pub trait House {
    fn add_request(&mut self, row: &RequestRow) -> Result<(), String>;
    fn request(&mut self, id: RequestId) -> RequestRow;
    fn answer(&mut self, id: RequestId, answer: &Approval) -> Result<(), String>;
    fn withdraw(&mut self, id: RequestId, now: WallMs) -> Result<(), String>;
    fn collect(&mut self, id: RequestId, grant: &Grant, now: WallMs) -> Result<(), String>;
    fn grant_by_certificate(&mut self, sha256: [u8; 32]) -> Option<Grant>;
    /// Answers with the sessions in the store that it ends.
    fn revoke(&mut self, scope: &RevocationScope, now: WallMs) -> Result<BTreeSet<SessionId>, String>;
    fn open_session(&mut self, row: &SessionRow, certificate: [u8; 32], now: WallMs) -> Result<(), String>;
    fn close_session(&mut self, id: SessionId, now: WallMs);

    /// Lets somebody in, if the store was heard lately.
    fn enter(&mut self, guest: Guest) -> bool;
    /// Whoever it was is gone.
    fn leave(&mut self, id: SessionId);
    /// The journal of revocations is read.
    fn pull(&mut self);
    /// The lease is renewed, and the journal read.
    fn renew(&mut self);
    fn word_holds(&self) -> bool;
    /// The gate looks at both clocks.
    fn look(&mut self);
    /// Who is in and was not ordered out.
    fn inside(&self) -> BTreeSet<SessionId>;
    /// The server is started again: what is kept is kept.
    fn restart(&mut self, now: WallMs);
}
