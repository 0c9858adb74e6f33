//! Past decisions under other policies: what would have come out otherwise.

use serde::{Deserialize, Serialize};

use super::engine::{Policies, Verdict};
use super::facts::Facts;

/// A decision as it was made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Past {
    /// RFC 3339.
    pub at: String,
    pub facts: Facts,
    pub allowed: bool,
    pub rules: Vec<String>,
    pub policy_digest: String,
}

/// In which way an answer is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// From yes to no.
    Refused,
    /// From no to yes.
    Allowed,
    /// Yes both times, bound to something else.
    Bound,
}

/// One decision that would come out otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Index of the decision.
    pub index: usize,
    pub change: Change,
    /// By the old policies.
    pub before: Verdict,
    pub after: Verdict,
    /// The new answer in one sentence.
    pub sentence: String,
}

/// Asks both about each decision's facts. The old policies are asked again, so
/// that what differs is theirs and not the time's: what was decided then may
/// have been decided by others still.
pub fn backtest(old: &Policies, new: &Policies, decisions: &[Past]) -> Vec<Difference> {
    let differs = |(index, past): (usize, &Past)| {
        let before = old.decide(&past.facts);
        let after = new.decide(&past.facts);
        let change = match (before.allowed, after.allowed) {
            (true, false) => Change::Refused,
            (false, true) => Change::Allowed,
            (true, true) if before.obligations != after.obligations => Change::Bound,
            (true, true) | (false, false) => return None,
        };
        Some(Difference {
            index,
            change,
            before,
            after,
            sentence: new.explain(&past.facts).sentence,
        })
    };
    decisions.iter().enumerate().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::inventory::IdentityKind;
    use crate::kernel::policy::facts::{Action, Who};

    #[test]
    fn only_what_comes_out_otherwise_is_told() {
        let load = |text: &str| Policies::load(&[("a.cedar".into(), text.into())]).unwrap();
        let old = load(
            "@id(\"ask\") @approvals(\"1\") permit (principal, action == Action::\"request\", resource);
             @id(\"in\") permit (principal, action in [Action::\"connect\", Action::\"shell\"], resource);",
        );
        let new = load(
            "@id(\"ask\") @approvals(\"2\") permit (principal, action == Action::\"request\", resource);
             @id(\"enter\") permit (principal, action in [Action::\"connect\", Action::\"exec\"], resource);",
        );
        let past = |action| Past {
            at: "2026-11-20T10:00:00Z".into(),
            facts: Facts::new(
                action,
                Who {
                    name: "alice".parse().unwrap(),
                    kind: IdentityKind::Person,
                    roles: [].into(),
                    groups: [].into(),
                    owner: None,
                    purpose: None,
                },
                None,
                1_800_000_000_000,
            ),
            allowed: true,
            rules: Vec::new(),
            policy_digest: String::new(),
        };
        let decisions = [
            Action::Request,
            Action::Connect,
            Action::Shell,
            Action::Exec,
            Action::Replay,
        ]
        .map(past);
        let told: Vec<(usize, Change)> = backtest(&old, &new, &decisions)
            .into_iter()
            .map(|difference| (difference.index, difference.change))
            .collect();
        // Another rule that says the same is no difference, nor is a no that stays one.
        assert_eq!(told, [(0, Change::Bound), (2, Change::Refused), (3, Change::Allowed)]);
        assert!(backtest(&old, &old, &decisions).is_empty());
    }
}
