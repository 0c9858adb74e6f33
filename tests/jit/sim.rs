//! One seed: people, answers, certificates, sessions, revocations, faults and
//! clocks as it draws them, on a house and on the model beside it.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::clock::{Clock, Now};
use portcullis::kernel::access::{RequestState, Verdict};
use portcullis::kernel::admit::{AdmissionTrust, Admitted};
use portcullis::registry::LEASE_MS;
use portcullis::store::SessionRow;

use crate::draws::Draws;
use crate::house::House;
use crate::model::{Model, Parcel, Standing};
use crate::names;

/// Where the wall clock begins: not on a full second.
const START: Now = Now {
    wall_ms: 1_800_000_000_317,
    boot_ms: 77_000,
};
pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
/// Store calls that fail, in a hundred; half of them happened all the same.
pub const FAULTS: u64 = 6;

/// The clock that a seed begins with.
pub fn clock() -> Clock {
    Clock::manual(START)
}

/// How often each thing happened: a simulation in which nothing happens proves nothing.
#[derive(Default, Debug, Clone)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

/// How a call of the store went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Good,
    Failed,
    /// It happened, and nobody was told.
    Unheard,
}

/// Somebody admitted, not yet in.
pub struct AtDoor {
    pub parcel: usize,
    pub net: u8,
    pub admitted: Admitted,
}

pub struct Inside {
    pub number: u64,
    pub parcel: usize,
    pub admitted: Admitted,
    pub row: SessionRow,
    pub entered_wall: u64,
    /// It has its row in the store.
    pub open: bool,
}

pub struct Sim<H> {
    pub draws: Draws,
    pub clock: Clock,
    pub house: H,
    pub model: Model,
    pub trust: AdmissionTrust,
    /// What was certified, given or not: each certificate may be in somebody's hands.
    pub parcels: Vec<Parcel>,
    /// The number of each ask's grant, once it was given.
    pub grants: Vec<Option<u64>>,
    pub doors: Vec<AtDoor>,
    pub inside: Vec<Inside>,
    pub sessions: u64,
    pub talks: bool,
    pub tally: Tally,
}

pub type Step = Result<(), String>;

/// Both said the same.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, real: &T, model: &T) -> Step {
    match real == model {
        true => Ok(()),
        false => Err(format!("{what}: the product says {real:?}, the rules say {model:?}")),
    }
}

impl<H: House> Sim<H> {
    pub fn new(seed: u64, clock: Clock, house: H, talks: bool) -> Sim<H> {
        Sim {
            draws: Draws::new(seed),
            clock,
            house,
            model: Model::default(),
            trust: AdmissionTrust {
                ca_keys: vec![names::CA.to_vec()],
                lifetime_secs_max: 24 * 3600,
            },
            parcels: Vec::new(),
            grants: Vec::new(),
            doors: Vec::new(),
            inside: Vec::new(),
            sessions: 0,
            talks,
            tally: Tally::default(),
        }
    }

    /// Takes so many steps.
    ///
    /// # Errors
    /// What the product did against the rules, and at which step.
    pub fn run(&mut self, steps: usize) -> Step {
        self.hear();
        for step in 0..steps {
            self.step().and_then(|()| self.look()).map_err(|why| {
                let now = self.clock.now();
                format!("step {step}, wall {}, boot {}: {why}", now.wall_ms, now.boot_ms)
            })?;
        }
        (0..self.model.count()).try_for_each(|ask| self.check(ask))
    }

    fn step(&mut self) -> Step {
        let weights = [9, 26, 3, 12, 14, 18, 14, 14, 6, 4, 5, 8, 16, 3, 1];
        match self.draws.weighted(&weights) {
            0 => self.ask(),
            1 => self.answer(),
            2 => self.withdraw(),
            3 => self.certify(),
            4 => self.give(),
            5 => self.knock(),
            6 => self.enter(),
            7 => self.open(),
            8 => self.again(),
            9 => self.leave(),
            10 => self.revoke(),
            11 => {
                self.hear();
                Ok(())
            }
            12 => {
                self.advance();
                Ok(())
            }
            13 => {
                self.step_wall();
                Ok(())
            }
            _ => {
                self.restart();
                Ok(())
            }
        }
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.talks {
            let now = self.clock.now();
            println!("{:>14} {:>10}  {}", now.wall_ms, now.boot_ms, what());
        }
    }

    pub fn luck(&mut self) -> Luck {
        match (self.draws.percent(FAULTS), self.draws.percent(50)) {
            (false, _) => Luck::Good,
            (true, false) => Luck::Failed,
            (true, true) => Luck::Unheard,
        }
    }

    pub fn late_ask(&mut self) -> Option<usize> {
        self.draws.late(self.model.count())
    }

    pub fn below(&mut self, n: u8) -> u8 {
        u8::try_from(self.draws.below(n.into())).unwrap()
    }

    /// The lease is renewed, if the store answers.
    pub fn hear(&mut self) {
        if self.draws.percent(FAULTS) {
            self.tally.count("renewals failed");
            return;
        }
        self.house.renew();
        self.model.heard(self.clock.now().boot_ms);
    }

    /// A moment at which something changes, give or take.
    fn moment(&mut self) -> Option<u64> {
        let ask = self.late_ask()?;
        let moments = self.model.moments(ask);
        let at = self.draws.late(moments.len())?;
        Some(moments[at] + self.draws.below(3) - 1)
    }

    fn advance(&mut self) {
        let now = self.clock.now();
        let by = match self.draws.below(6) {
            0 => self.draws.below(1000),
            1 => self.draws.between(1000, 9000),
            // Around the end of a lease.
            2 => LEASE_MS - 1 + self.draws.below(3),
            3 => self.draws.between(1, 30) * MINUTE,
            _ => self.moment().map_or(1, |at| at.saturating_sub(now.wall_ms)),
        };
        self.clock.advance(by);
        self.say(|| format!("{by} ms pass"));
        // The lease was renewed all along, unless the store was away.
        if by <= LEASE_MS + 1 && self.draws.percent(50) {
            return;
        }
        self.hear();
    }

    fn step_wall(&mut self) {
        let now = self.clock.now().wall_ms;
        let to = match self.draws.below(4) {
            0 => now - self.draws.below(2 * HOUR),
            1 => now + self.draws.below(2 * HOUR),
            2 => self.moment().unwrap_or(now),
            _ => now - self.draws.below(2000) + 1000,
        };
        self.clock.step_wall(to);
        self.say(|| format!("the wall clock steps from {now} to {to}"));
        self.tally.count(if to < now { "steps back" } else { "steps forward" });
    }

    fn restart(&mut self) {
        self.say(|| "restart".to_owned());
        self.house.restart(self.clock.now().wall_ms);
        self.model.restarted();
        self.doors.clear();
        self.inside.clear();
        self.tally.count("restarts");
        self.hear();
    }

    /// The gate looks at the clocks; then exactly those are in who may be.
    fn look(&mut self) -> Step {
        let now = self.clock.now();
        self.house.look();
        let before = self.model.inside().len();
        self.model.look(now.wall_ms, now.boot_ms);
        if self.model.inside().len() < before {
            self.tally.count("ended by a clock");
        }
        let real: BTreeSet<u64> = self.house.inside().into_iter().map(names::number_of).collect();
        let model = self.model.inside();
        same("who is in", &real, &model)?;
        let over: Vec<usize> = (0..self.inside.len())
            .rev()
            .filter(|at| !model.contains(&self.inside[*at].number))
            .collect();
        for at in over {
            let session = self.inside.swap_remove(at);
            self.gone(&session);
        }
        Ok(())
    }

    /// How a request stands, by its own row.
    pub fn check(&mut self, number: usize) -> Step {
        let now = self.clock.now().wall_ms;
        let row = self.house.request(names::request_id(number));
        let ask = self.model.ask(number);
        let standing = match row.state_at(now) {
            RequestState::Pending => Standing::Pending,
            RequestState::Approved => Standing::Approved,
            RequestState::Denied => Standing::Denied,
            RequestState::Expired => Standing::Expired,
            RequestState::Withdrawn => Standing::Withdrawn,
            RequestState::Revoked => Standing::Revoked,
        };
        same("how it stands", &standing, &self.model.standing(number, now))
            .map_err(|why| format!("request {number}: {why}"))?;
        let granted = row.grant.is_some();
        same("it has a grant", &granted, &self.model.is_given(number))?;
        if granted {
            // Said once more, without the model: other people, enough of them, of what was asked.
            let asked = row.request.sha256();
            let people: BTreeSet<&str> = row
                .answers
                .iter()
                .filter(|given| given.verdict == Verdict::Approve && given.request_sha256 == asked)
                .map(|given| given.by.as_str())
                .filter(|by| *by != row.request.requested_by && *by != row.request.identity.as_str())
                .collect();
            if people.len() < ask.people {
                return Err(format!("request {number} has a grant by {people:?} alone"));
            }
            if row.answers.iter().any(|given| given.verdict == Verdict::Deny) {
                return Err(format!("request {number} was denied and has a grant"));
            }
        }
        Ok(())
    }
}
