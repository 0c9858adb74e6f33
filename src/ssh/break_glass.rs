//! A break-glass grant is used: written down here, told to everybody, and to
//! the store once it answers again.

use std::sync::Arc;

use super::Gate;
use super::opening::{NotOpened, bounded};
use crate::break_glass::{BreakGlassError, Ended, Installed, Use};
use crate::kernel::admit::Admitted;
use crate::kernel::break_glass::{Standing, Statement};
use crate::kernel::grant::WallMs;
use crate::kernel::id::{ReviewId, SessionId};
use crate::store::{ReviewRow, Revocation, RevocationScope, SessionRow, StoreError};

/// Kind of the reviews that uses open.
pub const REVIEW_KIND: &str = "break-glass";
/// Kind of the leaves and messages about them.
pub const EVENT_KIND: &str = "break-glass";

/// Whether a revocation takes a prepared grant back. One from before the grant
/// was made does not.
pub fn takes_back(row: &Revocation, statement: &Statement) -> bool {
    row.at_ms >= statement.made_ms
        && match &row.scope {
            RevocationScope::Grant(id) => *id == statement.id,
            RevocationScope::Session(_) => false,
            RevocationScope::Identity(name) => *name == statement.who.name,
            RevocationScope::Target(name) => statement
                .doors
                .iter()
                .any(|door| door.target.name == *name || door.hops.iter().any(|hop| hop.name == *name)),
            RevocationScope::Source(block) => {
                !statement.sources.is_empty() && statement.sources.iter().all(|source| block.covers(source))
            }
            RevocationScope::Purpose(text) => statement.reason == *text,
            RevocationScope::All => true,
        }
}

impl Gate {
    /// How an installed grant stands right now. Asks nobody.
    pub fn standing(&self, installed: &Installed) -> Standing {
        Standing {
            used: installed.used.is_some(),
            revoked: installed.revoked,
            store_alive: self.registry.store_alive(),
        }
    }

    /// Writes the use down and says it out loud: journal, ledger, alarm. The
    /// target is dialled after this, or not at all.
    ///
    /// # Errors
    /// It was used before, or journal or ledger do not take it.
    pub async fn break_glass(&self, session: &SessionRow, admitted: &Admitted) -> Result<(), NotOpened> {
        let refused = |code, sentence: String| NotOpened { code, sentence };
        let signed = admitted
            .break_glass()
            .ok_or_else(|| refused("no_grant", "this is no break-glass grant".into()))?;
        let door = signed.statement().door(admitted.certificate_sha256());
        let door = door.ok_or_else(|| refused("no_grant", "the grant does not name this certificate".into()))?;
        let used = Use {
            session: session.id,
            grant: signed.grant(door),
            source: session.source.clone(),
            at_ms: session.started_ms,
            until_ms: session.until_ms,
        };
        let told = serde_json::json!({
            "state": "used", "grant": used.grant.id, "session": session.id, "node": session.node,
            "identity": session.identity, "destination": session.destination, "source": session.source,
            "until_ms": session.until_ms, "reason": used.grant.reason, "signers": signed.signers(),
            "condition": signed.statement().condition,
        });
        let (glass, spent) = (self.break_glass.clone(), used.clone());
        let written = tokio::task::spawn_blocking(move || glass.journal().spend(spent)).await;
        match written.map_err(|error| error.to_string()) {
            Ok(Ok(())) => {}
            Ok(Err(BreakGlassError::Used(_))) => {
                let sentence = "the grant was for one connection and has been used";
                return Err(refused("grant_used", sentence.into()));
            }
            Ok(Err(error)) => {
                let sentence = format!("the use cannot be written down: {error}");
                return Err(refused("break_glass_not_noted", sentence));
            }
            Err(error) => return Err(refused("break_glass_not_noted", error)),
        }
        if let Err(error) = self.ledger.append_event(EVENT_KIND, told.clone()).await {
            self.break_glass_ended(session.id, self.clock.now().wall_ms, "ledger_failed")
                .await;
            let sentence = format!("the ledger does not take the use: {error}");
            return Err(refused("break_glass_not_noted", sentence));
        }
        tracing::error!(grant = %used.grant.id, session = %session.id, identity = %session.identity,
            destination = %session.destination, source = session.source, reason = used.grant.reason,
            "BREAK-GLASS: a grant made ready beforehand is used, past the store");
        self.metrics.break_glass.inc();
        self.teller.tell("break-glass.used", &told);
        Ok(())
    }

    /// Writes down how a session under one ended.
    async fn break_glass_ended(&self, session: SessionId, at_ms: WallMs, code: &str) {
        let ended = Ended {
            session,
            at_ms,
            code: code.to_owned(),
        };
        let glass = self.break_glass.clone();
        let written = tokio::task::spawn_blocking(move || glass.journal().ended(ended)).await;
        match written.map_err(|error| error.to_string()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%session, %error, "the end of a break-glass session is not written down"),
            Err(error) => tracing::error!(%session, error, "the end of a break-glass session is not written down"),
        }
    }

    /// Tells whoever keeps it that a session has ended: the store, or the
    /// journal until the store answers.
    pub async fn session_ended(&self, admitted: &Admitted, session: SessionId, at_ms: WallMs, code: &str) {
        if admitted.break_glass().is_some() {
            return self.break_glass_ended(session, at_ms, code).await;
        }
        if let Err(error) = bounded(self.store.close_session(session, at_ms, code)).await {
            tracing::error!(%session, %error, "the store did not take the session's end");
        }
    }

    /// Brings the store up to date with what was used while it did not answer,
    /// and opens the reviews. Again changes nothing.
    pub async fn settle_break_glass(self: &Arc<Self>) {
        let Ok(_one) = self.break_glass.settling.try_lock() else {
            return;
        };
        for (used, ended) in self.break_glass.journal().unsettled() {
            match self.settle(&used, ended.as_ref()).await {
                Ok(()) => self.break_glass.journal().settled(&used, ended.as_ref()),
                Err(error) => {
                    tracing::error!(session = %used.session, %error, "the store does not know of a break-glass session yet");
                    if let StoreError::Unavailable(_) | StoreError::Corrupt(_) = error {
                        return;
                    }
                }
            }
        }
    }

    async fn settle(&self, used: &Use, ended: Option<&Ended>) -> Result<(), StoreError> {
        // What blocks the next grant comes first.
        let review = ReviewRow {
            // One for each session, however often it is written.
            id: ReviewId(used.session.0),
            session: Some(used.session),
            identity: used.grant.identity.clone(),
            destination: used.grant.destination.clone(),
            kind: REVIEW_KIND.to_owned(),
            why: used.grant.reason.clone(),
            opened_ms: used.at_ms,
            closed_ms: None,
            closed_by: None,
            note: None,
        };
        match bounded(self.store.open_review(&review)).await {
            Ok(()) => {
                tracing::warn!(review = %review.id, identity = %review.identity, "a break-glass session has to be looked back at");
            }
            Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
        match self.enter(used).await {
            Ok(()) => {}
            // An inventory without its identity or target has no place for it;
            // journal, ledger and review have it.
            Err(StoreError::NotFound(what)) => {
                tracing::error!(session = %used.session, what, "a break-glass session has no row: the store lacks what it was about");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        match ended {
            Some(ended) => match bounded(self.store.close_session(used.session, ended.at_ms, &ended.code)).await {
                // Its row was not entered: the grant's was revoked before it.
                Err(StoreError::NotFound(_)) => Ok(()),
                closed => closed,
            },
            None => Ok(()),
        }
    }

    /// The rows of the grant and of the session.
    async fn enter(&self, used: &Use) -> Result<(), StoreError> {
        match bounded(self.store.add_grant(&used.grant)).await {
            Ok(()) | Err(StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
        }
        let row = SessionRow {
            id: used.session,
            node: self.node.clone(),
            grant: used.grant.id,
            identity: used.grant.identity.clone(),
            destination: used.grant.destination.clone(),
            source: used.source.clone(),
            started_ms: used.at_ms,
            until_ms: used.until_ms,
            ended_ms: None,
            end_code: None,
        };
        let certificate = used.grant.certificate_sha256;
        match bounded(self.store.open_session(&row, certificate, used.at_ms)).await {
            // Consumed by the transaction that wrote this very row.
            Ok(()) | Err(StoreError::Exists(_) | StoreError::GrantNotLive(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
