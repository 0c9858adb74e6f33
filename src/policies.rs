//! The policies in force, and where and when they are asked: one for the
//! gate and the API, swapped whole by a reload.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Clock;
use crate::kernel::policy::engine::Policies;
use crate::kernel::policy::facts::{Action, Facts, Who, Whereto};
use crate::kernel::policy::place::Place;

/// What is in force.
#[derive(Clone)]
pub struct Rules {
    pub policies: Arc<Policies>,
    /// Named networks and the time zone that the policies mean.
    pub place: Arc<Place>,
}

/// The rules in force now.
pub struct InForce {
    clock: Clock,
    rules: RwLock<Rules>,
}

impl InForce {
    /// Begins with `rules`.
    pub fn new(clock: Clock, rules: Rules) -> InForce {
        InForce {
            clock,
            rules: RwLock::new(rules),
        }
    }

    /// Those in force at this moment.
    pub fn now(&self) -> Rules {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn set(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// What is known wherever a decision is asked for: who, where to, from
    /// where, and the time.
    pub fn facts(&self, action: Action, who: Who, target: Option<Whereto>, source: Option<IpAddr>) -> Facts {
        let place = self.now().place;
        let now = self.clock.now().wall_ms;
        Facts {
            local: crate::clock::local_time(now, &place.time_zone),
            source,
            zones: source.map(|source| place.zones_of(source)).unwrap_or_default(),
            ..Facts::new(action, who, target, now)
        }
    }
}
