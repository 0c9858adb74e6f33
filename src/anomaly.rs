//! What is unusual about somebody, held against what he did before: it raises
//! the risk that policy reads. A hint, never a proof, and never a refusal by
//! itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::kernel::grant::{Capability, WallMs};
use crate::kernel::id::{IdentityName, SessionId};
use crate::kernel::policy::facts::{Action, Facts};
use crate::store::{AnomalyRow, Store, StoreError, UseRow};

/// Uses that somebody must have behind him before anything is a first: until
/// then everything is.
pub const HISTORY_MIN: u64 = 10;
/// A transfer this many times the greatest before is unusual,
const VOLUME_TIMES: u64 = 4;
/// if it is at least this large, in bytes.
const VOLUME_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Notes that may wait for the store; more are dropped, and that is told.
const NOTES_QUEUED: usize = 1024;

/// One thing that is unusual.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Stable, such as `first-source`.
    pub kind: &'static str,
    pub detail: String,
    /// What it adds to the risk.
    pub risk: u8,
}

/// Everything unusual about one decision.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unusual(Vec<Found>);

impl Unusual {
    /// 0 to 100.
    pub fn risk(&self) -> u8 {
        self.0
            .iter()
            .fold(0u8, |sum, found| sum.saturating_add(found.risk))
            .min(100)
    }

    /// Kinds, for policy.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().map(|found| found.kind.to_owned()).collect()
    }

    pub fn found(&self) -> &[Found] {
        &self.0
    }
}

/// What somebody has done before.
#[derive(Clone, Debug, Default)]
pub struct History {
    uses: Vec<UseRow>,
}

/// The network that an address counts as: /24 and /48.
fn network(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// The capability that an action uses, as the inventory counts it.
fn capability(facts: &Facts) -> Option<&'static str> {
    match facts.action {
        Action::Shell => Some("shell"),
        Action::Exec => Some("exec"),
        Action::Subsystem => Some("write"),
        Action::Forward => Some("forward"),
        Action::Request
        | Action::Issue
        | Action::Connect
        | Action::Command
        | Action::Replay
        | Action::Approve
        | Action::Revoke => None,
    }
}

impl History {
    /// Of one identity.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(store: &dyn Store, identity: &IdentityName) -> Result<History, StoreError> {
        Ok(History {
            uses: store.uses(Some(identity)).await?,
        })
    }

    fn knows(&self, facet: &str, value: &str) -> bool {
        self.uses.iter().any(|row| row.facet == facet && row.value == value)
    }

    fn count(&self, facet: &str) -> u64 {
        self.uses
            .iter()
            .filter(|row| row.facet == facet)
            .fold(0, |sum, row| sum.saturating_add(row.count))
    }

    /// What is unusual about a decision that is about to be made.
    pub fn judge(&self, facts: &Facts) -> Unusual {
        let mut found = Vec::new();
        let mut first = |kind, detail: String, risk| found.push(Found { kind, detail, risk });
        let name = &facts.who.name;
        if self.count("target") >= HISTORY_MIN {
            if let Some(source) = facts.source
                && !self.knows("source", &network(source))
            {
                first(
                    "first-source",
                    format!("{name} never came from {}", network(source)),
                    25,
                );
            }
            if let Some(target) = &facts.target
                && !self.knows("target", target.name.as_str())
            {
                first("first-target", format!("{name} was never at {}", target.name), 15);
            }
            let hour = facts.local.minute / 60;
            let near = [hour, (hour + 1) % 24, (hour + 23) % 24];
            if !near.iter().any(|hour| self.knows("hour", &hour.to_string())) {
                first("first-hour", format!("{name} never worked at {hour} h"), 10);
            }
        }
        if self.count("label") >= HISTORY_MIN {
            for label in facts.labels.iter().filter(|label| !self.knows("label", label)) {
                first("first-label", format!("{name} never ran what is {label}"), 20);
            }
        }
        let person_like = facts.terminal
            || facts.action == Action::Shell
            || (facts.action == Action::Request && facts.capabilities.contains(&Capability::Shell));
        if facts.who.kind.is_accountable() && person_like {
            first(
                "like-a-person",
                format!("{name} is a {} and asks for a terminal", facts.who.kind.as_str()),
                40,
            );
        }
        Unusual(found)
    }

    /// What is unusual about a session's bytes, once it is over.
    pub fn judge_volume(&self, name: &IdentityName, target: &str, bytes: u64) -> Unusual {
        let before = self.uses.iter().filter(|row| row.facet == "volume");
        let (count, most) = before.fold((0u64, 0u64), |(count, most), row| {
            (count.saturating_add(row.count), most.max(row.most))
        });
        let much = count >= HISTORY_MIN && bytes >= VOLUME_BYTES_MIN && bytes / VOLUME_TIMES >= most;
        Unusual(match much {
            false => Vec::new(),
            true => vec![Found {
                kind: "volume",
                detail: format!("{name} moved {bytes} bytes at {target}, never more than {most} before"),
                risk: 30,
            }],
        })
    }
}

/// What is unusual about something outside sessions; changes nothing.
///
/// # Errors
/// The store's.
pub async fn look(store: &dyn Store, facts: &Facts) -> Result<Unusual, StoreError> {
    Ok(History::of(store, &facts.who.name).await?.judge(facts))
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
                };
                if let Err(error) = written {
                    tracing::warn!(%error, "a use is not noted");
                }
            }
        });
        Notes { queue }
    }

    fn put(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            tracing::warn!("too much waits to be noted: a use is not");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::inventory::IdentityKind;
    use crate::kernel::policy::facts::{LocalTime, Whereto, Who};

    fn facts(kind: IdentityKind, source: &str, target: &str, hour: u16) -> Facts {
        let who = Who {
            name: "alice".parse().unwrap(),
            kind,
            roles: BTreeSet::new(),
            groups: BTreeSet::new(),
            owner: None,
            purpose: None,
        };
        let target = Whereto {
            name: target.parse().unwrap(),
            labels: Vec::new(),
        };
        Facts {
            source: Some(source.parse().unwrap()),
            local: LocalTime {
                weekday: 1,
                minute: hour * 60 + 59,
            },
            ..Facts::new(Action::Connect, who, Some(target), 0)
        }
    }

    fn history(count: u64) -> History {
        let row = |facet: &str, value: &str| UseRow {
            identity: "alice".parse().unwrap(),
            facet: facet.to_owned(),
            value: value.to_owned(),
            first_ms: 0,
            last_ms: 0,
            count,
            sum: 0,
            most: 1_000_000,
        };
        History {
            uses: vec![
                row("source", "10.1.2.0/24"),
                row("target", "db1"),
                row("hour", "9"),
                row("label", "privilege"),
                row("volume", "db1"),
            ],
        }
    }

    #[test]
    fn firsts_count_once_there_is_a_history() {
        let person = IdentityKind::Person;
        let cases = [
            ("10.1.2.200", "db1", 10, &[][..]),
            ("10.1.3.1", "db1", 8, &["first-source"]),
            ("10.1.2.3", "db2", 9, &["first-target"]),
            ("10.1.2.3", "db1", 3, &["first-hour"]),
            (
                "2001:db8::1",
                "db2",
                23,
                &["first-hour", "first-source", "first-target"],
            ),
        ];
        for (source, target, hour, kinds) in cases {
            let unusual = history(HISTORY_MIN).judge(&facts(person, source, target, hour));
            assert!(
                unusual.names().iter().map(String::as_str).eq(kinds.iter().copied()),
                "{unusual:?}"
            );
            let fresh = history(HISTORY_MIN - 1).judge(&facts(person, source, target, hour));
            assert_eq!(fresh, Unusual::default(), "too little to tell");
        }
    }

    #[test]
    fn a_machine_that_wants_a_terminal_is_told_from_the_first() {
        let machine = facts(IdentityKind::Machine, "10.1.2.3", "db1", 9);
        assert_eq!(History::default().judge(&machine), Unusual::default());
        let shell = Facts {
            action: Action::Shell,
            ..machine
        };
        assert_eq!(History::default().judge(&shell).risk(), 40);
        let person = facts(IdentityKind::Person, "10.1.2.3", "db1", 9);
        let shell = Facts {
            action: Action::Shell,
            ..person
        };
        assert_eq!(History::default().judge(&shell).risk(), 0);
    }

    #[test]
    fn labels_and_volume_are_held_against_before() {
        let mut run = facts(IdentityKind::Person, "10.1.2.3", "db1", 9);
        run.labels = ["privilege".to_owned(), "destructive".to_owned()].into();
        let unusual = history(HISTORY_MIN).judge(&run);
        assert_eq!(unusual.names(), ["first-label".to_owned()].into());
        let name = "alice".parse().unwrap();
        let volume = |bytes| history(HISTORY_MIN).judge_volume(&name, "db1", bytes).risk();
        assert_eq!((volume(5_000_000), volume(1 << 30)), (0, 30));
    }

    #[test]
    fn networks_of_both_kinds() {
        assert_eq!(network("::ffff:192.0.2.77".parse().unwrap()), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2::3".parse().unwrap()), "2001:db8:1::/48");
    }
}
