//! Looks at what somebody did before, and writes down what he does, beside
//! the sessions and never in their way. `kernel/habit.rs` says what is unusual.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::kernel::grant::WallMs;
use crate::kernel::habit::{History, Unusual, capability, network};
use crate::kernel::id::{IdentityName, SessionId};
use crate::kernel::policy::facts::{Action, Facts};
use crate::store::{AnomalyRow, DecisionRow, Store, StoreError};

/// Notes that may wait for the store; more are dropped, and that is told.
const NOTES_QUEUED: usize = 1024;

/// What an identity has done before.
///
/// # Errors
/// The store's.
pub async fn history(store: &dyn Store, identity: &IdentityName) -> Result<History, StoreError> {
    Ok(History::new(store.uses(Some(identity)).await?))
}

/// What is unusual about something outside sessions; changes nothing.
///
/// # Errors
/// The store's.
pub async fn look(store: &dyn Store, facts: &Facts) -> Result<Unusual, StoreError> {
    Ok(history(store, &facts.who.name).await?.judge(facts))
}

/// One thing to write down.
enum Note {
    Use {
        identity: IdentityName,
        facet: &'static str,
        value: String,
        amount: u64,
        at_ms: WallMs,
    },
    Anomaly(AnomalyRow),
    Decision(Box<DecisionRow>),
}

/// Writes uses and anomalies down beside the sessions, never in their way.
#[derive(Clone)]
pub struct Notes {
    queue: mpsc::Sender<Note>,
}

impl Notes {
    /// Starts writing into `store`; ends when the last handle is dropped.
    pub fn start(store: Arc<dyn Store>) -> Notes {
        let (queue, mut notes) = mpsc::channel(NOTES_QUEUED);
        tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                let written = match &note {
                    Note::Use {
                        identity,
                        facet,
                        value,
                        amount,
                        at_ms,
                    } => store.note_use(identity, facet, value, *amount, *at_ms).await.map(drop),
                    Note::Anomaly(row) => store.add_anomaly(row).await,
                    Note::Decision(row) => store.note_decision(row).await,
                };
                if let Err(error) = written {
                    tracing::warn!(%error, "a use or a decision is not noted");
                }
            }
        });
        Notes { queue }
    }

    fn put(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            tracing::warn!("too much waits to be noted: a use or a decision is not");
        }
    }

    /// What a permitted decision used.
    pub fn used(&self, facts: &Facts) {
        let put = |facet, value: String| {
            self.put(Note::Use {
                identity: facts.who.name.clone(),
                facet,
                value,
                amount: 0,
                at_ms: facts.now_ms,
            });
        };
        if facts.action == Action::Connect {
            if let Some(source) = facts.source {
                put("source", network(source));
            }
            if let Some(target) = &facts.target {
                put("target", target.name.to_string());
            }
            put("hour", (facts.local.minute / 60).to_string());
        }
        if let Some(capability) = capability(facts) {
            put("capability", capability.to_owned());
        }
        for label in &facts.labels {
            put("label", label.clone());
        }
    }

    /// A decision, for `policy backtest`: nobody waits for the disk.
    pub fn decided(&self, row: DecisionRow) {
        self.put(Note::Decision(Box::new(row)));
    }

    /// Bytes that a session moved.
    pub fn moved(&self, identity: &IdentityName, target: &str, bytes: u64, at_ms: WallMs) {
        self.put(Note::Use {
            identity: identity.clone(),
            facet: "volume",
            value: target.to_owned(),
            amount: bytes,
            at_ms,
        });
    }

    /// What was unusual, told to the log as well.
    pub fn unusual(&self, identity: &IdentityName, session: Option<SessionId>, unusual: &Unusual, at_ms: WallMs) {
        for found in unusual.found() {
            tracing::warn!(%identity, kind = found.kind, detail = found.detail, "unusual");
            self.put(Note::Anomaly(AnomalyRow {
                at_ms,
                identity: identity.clone(),
                session,
                kind: found.kind.to_owned(),
                detail: found.detail.clone(),
                risk: found.risk,
            }));
        }
    }
}
