//! Looks at what somebody did before, and writes down what he does, beside
//! the sessions and never in their way. `kernel/habit.rs` says what is unusual.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::kernel::grant::WallMs;
use crate::kernel::habit::{History, Unusual, capability, network};
use crate::kernel::id::{IdentityName, SessionId};
use crate::kernel::policy::facts::{Action, Facts};
use crate::store::{AnomalyRow, DecisionRow, Store, StoreError, Use};

/// Notes that may wait for the store; more are dropped, and that is told.
const NOTES_QUEUED: usize = 1024;
/// Notes taken out at once.
const NOTES_AT_ONCE: usize = 256;
/// How long the first of them waits for others: a connection makes five of
/// them, and each write is a turn of the disk.
const GATHER: Duration = Duration::from_millis(50);

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
    Use(Use),
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
            while let Some(first) = notes.recv().await {
                tokio::time::sleep(GATHER).await;
                let mut batch = vec![first];
                while batch.len() < NOTES_AT_ONCE
                    && let Ok(more) = notes.try_recv()
                {
                    batch.push(more);
                }
                write(&*store, batch).await;
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
            self.put(Note::Use(Use {
                identity: facts.who.name.clone(),
                facet,
                value,
                amount: 0,
                at_ms: facts.now_ms,
            }));
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
        self.put(Note::Use(Use {
            identity: identity.clone(),
            facet: "volume",
            value: target.to_owned(),
            amount: bytes,
            at_ms,
        }));
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

/// Uses in one write; the rest, which is rare, one by one.
async fn write(store: &dyn Store, batch: Vec<Note>) {
    let told = |written: Result<(), StoreError>| {
        if let Err(error) = written {
            tracing::warn!(%error, "a use or a decision is not noted");
        }
    };
    let mut uses = Vec::with_capacity(batch.len());
    for note in batch {
        match note {
            Note::Use(one) => uses.push(one),
            Note::Anomaly(row) => told(store.add_anomaly(&row).await),
            Note::Decision(row) => told(store.note_decision(&row).await),
        }
    }
    if !uses.is_empty() {
        told(store.note_uses(&uses).await);
    }
}
