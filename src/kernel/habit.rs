//! What is unusual about somebody, held against what he did before: it raises
//! the risk that policy reads. A hint, never a proof, and never a refusal by
//! itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::grant::{Capability, WallMs};
use super::id::IdentityName;
use super::policy::facts::{Action, Facts};

/// Uses that somebody must have behind him before anything is a first: until
/// then everything is.
pub const HISTORY_MIN: u64 = 10;
/// A transfer this many times the greatest before is unusual,
const VOLUME_TIMES: u64 = 4;
/// if it is at least this large, in bytes.
const VOLUME_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// What an identity has done before, by facet: `source`, `target`, `hour`,
/// `label`, `capability`, `volume`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UseRow {
    pub identity: IdentityName,
    pub facet: String,
    pub value: String,
    pub first_ms: WallMs,
    pub last_ms: WallMs,
    pub count: u64,
    /// Sum and greatest of the amounts noted (bytes, for `volume`).
    pub sum: u64,
    pub most: u64,
}

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
pub fn network(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// The capability that an action uses, as the inventory counts it.
pub fn capability(facts: &Facts) -> Option<&'static str> {
    match facts.action {
        Action::Shell => Some("shell"),
        Action::Exec => Some("exec"),
        Action::Subsystem => Some("write"),
        Action::Forward => Some("forward"),
        Action::Request
        | Action::Issue
        | Action::Connect
        | Action::Transfer
        | Action::Command
        | Action::Replay
        | Action::Approve
        | Action::Revoke => None,
    }
}

impl History {
    /// Of one identity, as noted.
    pub fn new(uses: Vec<UseRow>) -> History {
        History { uses }
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
