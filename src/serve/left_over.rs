//! What the last run left over: sessions that recovery has sealed, openings
//! that were never sealed, rows that still call a session live.

use std::sync::Arc;

use crate::kernel::id::SessionId;
use crate::recorder::{LeftOver, Recovered};
use crate::ssh::Gate;

/// Most sessions without a seal that a start names one by one.
const UNSEALED_TOLD_MAX: usize = 100;

/// Files what recovery has sealed.
pub async fn recovered(gate: &Arc<Gate>, left_over: Vec<LeftOver>) {
    for found in left_over {
        match found {
            LeftOver::Recovered(Recovered::Finished(finished)) => {
                let session = SessionId(finished.sealed.head().session_id);
                let code = finished.sealed.seal().code.clone();
                let now = gate.clock.now().wall_ms;
                match gate.archive_sealed(&finished, now).await {
                    Ok(()) => {
                        tracing::warn!(%session, code, "a session left over by the last run was sealed")
                    }
                    Err(error) => {
                        tracing::error!(%session, %error, "a left-over session is sealed but not archived")
                    }
                }
            }
            LeftOver::Moved { session, folder } => {
                let session = SessionId(session);
                let now = gate.clock.now().wall_ms;
                match gate.archive_moved(session, &folder, now).await {
                    Ok(()) => {
                        tracing::warn!(%session, "an empty spool folder left over by the last run was seen to")
                    }
                    Err(error) => {
                        tracing::error!(%session, %error, folder = %folder.display(), "an empty spool folder cannot be explained; it stays where it is");
                    }
                }
            }
            LeftOver::Recovered(Recovered::Unreadable { folder, why }) => {
                tracing::error!(folder = %folder.display(), why, "a left-over spool cannot be recovered; it stays where it is");
            }
        }
    }
}

/// An opening without a seal, once recovery is through, is a recording that
/// was taken away.
pub async fn tell_unsealed(gate: &Gate) {
    let unsealed = match gate.ledger.unsealed().await {
        Ok(unsealed) => unsealed,
        Err(error) => {
            tracing::error!(%error, "the ledger does not tell which sessions have no seal");
            return;
        }
    };
    let count = i64::try_from(unsealed.len()).unwrap_or(i64::MAX);
    gate.metrics.sessions_unsealed.set(count);
    for session in unsealed.iter().take(UNSEALED_TOLD_MAX) {
        tracing::error!(%session, "it was opened and never sealed, and its recording is not in the spool: see `portcullis ledger fsck`");
    }
}

/// Sessions of this node that the store still calls live ended with the last run.
pub async fn close_orphans(gate: &Arc<Gate>) {
    let live = match gate.store.sessions(true).await {
        Ok(live) => live,
        Err(error) => {
            tracing::error!(%error, "the store does not tell its live sessions");
            return;
        }
    };
    let now = gate.clock.now().wall_ms;
    for row in live.iter().filter(|row| row.node == gate.node) {
        if let Err(error) = gate.store.close_session(row.id, now, "crash_recovered").await {
            tracing::error!(session = %row.id, %error, "the store did not take the end of a left-over session");
        }
    }
}
