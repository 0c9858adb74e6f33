//! The policies in force, and where and when they are asked: one for the
//! gate and the API, swapped whole by a reload.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Clock;
use crate::kernel::policy::engine::Policies;
use crate::kernel::policy::facts::{Action, Facts, LocalTime, Who, Whereto};
use crate::kernel::policy::place::{Zone, zones_of};

/// Where and when the policies mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Named networks.
    pub zones: Vec<Zone>,
    /// IANA name of the time zone of office hours.
    pub time_zone: String,
}

/// What is in force.
#[derive(Clone)]
pub struct Rules {
    pub policies: Arc<Policies>,
    pub place: Arc<Place>,
}

/// The time of day in a time zone, by its IANA name; in UTC if there is none
/// of that name (the configuration refuses such names).
pub fn local_time(wall_ms: u64, time_zone: &str) -> LocalTime {
    let ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    let zone = jiff::tz::TimeZone::get(time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let local = time.to_zoned(zone);
    let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
    LocalTime {
        weekday: u8::try_from(local.weekday().to_monday_one_offset()).unwrap_or(0),
        minute: u16::try_from(minute).unwrap_or(0),
    }
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
            local: local_time(now, &place.time_zone),
            source,
            zones: source.map(|source| zones_of(source, &place.zones)).unwrap_or_default(),
            ..Facts::new(action, who, target, now)
        }
    }
}
