//! What the inventory says now of those who are in, and of where they are:
//! a session is asked with that, not with what was true when it began.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::Gate;
use super::opening::bounded;
use crate::kernel::id::{IdentityName, TargetName};
use crate::kernel::policy::facts::{Facts, Whereto, Who};
use crate::kernel::policy::recheck::{Ending, recheck};

/// Rule of an end that no policy made: who is in, or where, is disabled or gone.
const RULE: &str = "gate.inventory";

/// The last look. Nothing behind a name: it may hold nothing, or be reached by
/// nobody, any more.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Present {
    who: BTreeMap<IdentityName, Option<Who>>,
    targets: BTreeMap<TargetName, Option<Whereto>>,
}

impl Present {
    /// The same facts with what is true now; nothing if nothing is permitted.
    fn fresh(&self, facts: Facts) -> Option<Facts> {
        let who = match self.who.get(&facts.who.name) {
            Some(now) => now.clone()?,
            None => facts.who,
        };
        let target = match facts.target {
            Some(target) => match self.targets.get(&target.name) {
                Some(now) => Some(now.clone()?),
                None => Some(target),
            },
            None => None,
        };
        Some(Facts { who, target, ..facts })
    }
}

impl Gate {
    /// The facts of a session as they are now; nothing if who is in, or where,
    /// was disabled.
    pub fn fresh(&self, facts: Facts) -> Option<Facts> {
        let now = self.clock.now().wall_ms;
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.fresh(self.policies.at(now, facts))
    }

    /// Looks at everybody who is in; if something is different asks about
    /// every session again. A store that does not answer changes nothing: the
    /// lease sees to that.
    pub async fn look_at_inventory(&self) {
        let inside = self.registry.leased();
        let names: BTreeSet<&IdentityName> = inside.iter().map(|(name, _)| name).collect();
        let places: BTreeSet<&TargetName> = inside.iter().map(|(_, target)| target).collect();
        let now = self.clock.now().wall_ms;
        let mut present = Present::default();
        for name in names {
            let Ok(identity) = bounded(self.store.identity(name)).await else {
                return;
            };
            let who = identity.filter(|identity| identity.may_hold(now).is_ok());
            present.who.insert(name.clone(), who.as_ref().map(Who::from));
        }
        for name in places {
            let Ok(target) = bounded(self.store.target(name)).await else {
                return;
            };
            let target = target.filter(|target| !target.disabled);
            present.targets.insert(name.clone(), target.as_ref().map(Whereto::from));
        }
        let before = std::mem::replace(
            &mut *self.present.write().unwrap_or_else(PoisonError::into_inner),
            present.clone(),
        );
        if before != present {
            let ending = self.ask_again();
            if ending > 0 {
                tracing::info!(sessions = ending, "to end: the inventory is another now");
            }
        }
    }

    /// Asks about every session that is in. Answers with how many are to end.
    pub fn ask_again(&self) -> usize {
        let policies = self.policies();
        self.registry.recheck(|entry| match self.fresh(entry.facts.clone()) {
            Some(facts) => recheck(&policies, &facts, &entry.held_to),
            // What was signed beforehand stands by itself.
            None if !entry.leased => None,
            None => Some(Ending {
                rule: RULE.to_owned(),
                grace_ms: 0,
            }),
        })
    }
}
