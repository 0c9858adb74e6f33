//! What a changed policy does to a session that runs.

use super::NOTHING_PERMITS;
use super::engine::Policies;
use super::facts::{Action, Facts};
use super::obligations::Obligations;

/// A session is to end because policy changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// The rule that refuses now.
    pub rule: String,
    /// What it still has, in ms; 0: nothing.
    pub grace_ms: u64,
}

/// Asks `connect` again. A no ends the session if the permits that let it in
/// (`held_to` is what they demanded) or the rule that refuses now say so;
/// else it bites at the next request only.
pub fn recheck(policies: &Policies, facts: &Facts, held_to: &Obligations) -> Option<Ending> {
    let asked = Facts {
        action: Action::Connect,
        ..facts.clone()
    };
    let verdict = policies.decide(&asked);
    let both = held_to.meet(&verdict.obligations);
    if verdict.allowed || !both.end_on_change {
        return None;
    }
    Some(Ending {
        rule: verdict
            .rules
            .into_iter()
            .next()
            .unwrap_or_else(|| NOTHING_PERMITS.to_owned()),
        grace_ms: both.grace_ms.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::inventory::IdentityKind;
    use crate::kernel::policy::facts::Who;

    fn policies(text: &str) -> Policies {
        Policies::load(&[("test.cedar".into(), text.into())]).unwrap()
    }

    fn facts() -> Facts {
        let who = Who {
            name: "alice".parse().unwrap(),
            kind: IdentityKind::Person,
            roles: [].into(),
            groups: [].into(),
            owner: None,
            purpose: None,
        };
        // Whatever was asked last, `connect` is asked again.
        Facts::new(Action::Exec, who, None, 1_800_000_000_000)
    }

    #[test]
    fn a_change_ends_only_what_said_so_and_only_what_it_refuses() {
        let lets_in = "@id(\"in\") permit (principal, action == Action::\"connect\", resource);";
        let forbid = |annotations: &str| {
            policies(&format!(
                "{lets_in} @id(\"out\") {annotations} forbid (principal, action == Action::\"connect\", resource);"
            ))
        };
        let plain = Obligations::default();
        let ends = Obligations {
            end_on_change: true,
            grace_ms: Some(120_000),
            ..Obligations::default()
        };
        let ending = |rule: &str, grace_ms| {
            Some(Ending {
                rule: rule.into(),
                grace_ms,
            })
        };
        // Still a yes.
        assert_eq!(recheck(&policies(lets_in), &facts(), &ends), None);
        // A no that bites at the next request.
        assert_eq!(recheck(&forbid(""), &facts(), &plain), None);
        assert_eq!(recheck(&policies(""), &facts(), &plain), None);
        // The permit that let it in said so.
        assert_eq!(
            recheck(&policies(""), &facts(), &ends),
            ending(NOTHING_PERMITS, 120_000)
        );
        assert_eq!(recheck(&forbid(""), &facts(), &ends), ending("out", 120_000));
        // The forbid says so; the shorter grace counts.
        assert_eq!(recheck(&forbid("@end_on_change"), &facts(), &plain), ending("out", 0));
        assert_eq!(
            recheck(&forbid("@end_on_change @grace(\"1m\")"), &facts(), &ends),
            ending("out", 60_000)
        );
    }
}
