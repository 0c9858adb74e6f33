//! Steps of those who ask, answer and collect.

use std::collections::BTreeSet;

use portcullis::kernel::access::{Approval, RequestRow, Verdict};
use portcullis::kernel::policy::facts::Action;

use crate::house::House;
use crate::model::{Ask, Parcel, groups_of};
use crate::names::{self, HOLDERS, PEOPLE, TARGETS, WORDS};
use crate::sim::{FAULTS, HOUR, Luck, MINUTE, Sim, Step, same};

impl<H: House> Sim<H> {
    pub fn ask(&mut self) -> Step {
        let now = self.clock.now().wall_ms;
        let holder = self.below(HOLDERS);
        let draws = &mut self.draws;
        let length = match draws.percent(95) {
            true => draws.between(1, 7200) * 1000,
            false => draws.between(1, 1000),
        };
        let ask = Ask {
            holder,
            asker: if draws.percent(70) {
                holder
            } else {
                u8::try_from(draws.below(HOLDERS.into())).unwrap()
            },
            target: u8::try_from(draws.below(TARGETS.into())).unwrap(),
            purpose: u8::try_from(draws.below(WORDS.into())).unwrap(),
            ticket: draws
                .percent(40)
                .then(|| u8::try_from(draws.below(WORDS.into())).unwrap()),
            nets: if draws.percent(40) {
                u8::try_from(draws.between(1, 16)).unwrap()
            } else {
                0
            },
            powers: u8::try_from(draws.between(1, 8)).unwrap(),
            begins: draws.percent(25).then(|| now + draws.below(2 * HOUR)),
            length,
            once: draws.percent(30),
            people: draws.weighted(&[15, 45, 30, 10]),
            groups: if draws.percent(20) {
                [u8::try_from(draws.below(3)).unwrap()].into()
            } else {
                BTreeSet::new()
            },
            made: now,
            answer_by: now + draws.between(1, 61) * MINUTE,
        };
        let luck = self.luck();
        if luck == Luck::Failed {
            return Ok(());
        }
        let number = self.model.asked(ask);
        let ask = self.model.ask(number);
        let row = RequestRow::new(names::request(number, ask), names::facts(ask, Action::Request, now));
        self.say(|| format!("ask {number}: {ask:?}"));
        self.house.add_request(&row)?;
        self.grants.push(None);
        self.tally.count("requests");
        self.check(number)
    }

    pub fn answer(&mut self) -> Step {
        let Some(ask) = self.late_ask() else { return Ok(()) };
        let now = self.clock.now().wall_ms;
        let by = self.below(PEOPLE);
        let approves = self.draws.percent(88);
        let seen = self.draws.percent(85);
        let mut saw = names::request(ask, self.model.ask(ask));
        if !seen {
            match self.draws.below(4) {
                0 => saw.for_ms += 1000,
                1 => saw.capabilities.clear(),
                2 => saw.id = names::request_id(ask + 1),
                _ => saw.destination = names::destination(TARGETS),
            }
        }
        let answer = Approval {
            by: names::person(by),
            groups: names::groups(&groups_of(by)),
            verdict: if approves { Verdict::Approve } else { Verdict::Deny },
            request_sha256: saw.sha256(),
            why: String::new(),
            method: "ssh-key".to_owned(),
            at_ms: now,
        };
        let luck = self.luck();
        if luck == Luck::Failed {
            return Ok(());
        }
        let may = self.model.may_answer(ask, by, approves, seen, now);
        let told = self.house.answer(names::request_id(ask), &answer);
        self.say(|| format!("answer to {ask} by {by}, yes {approves}, seen {seen}: {told:?}"));
        same("an answer counts", &told.is_ok(), &may)?;
        if may {
            self.model.answered(ask, by, approves, now);
            self.tally.count(if approves { "yes" } else { "no" });
        } else {
            self.tally.count("answers refused");
        }
        self.check(ask)
    }

    pub fn withdraw(&mut self) -> Step {
        let Some(ask) = self.late_ask() else { return Ok(()) };
        let now = self.clock.now().wall_ms;
        if self.luck() == Luck::Failed {
            return Ok(());
        }
        let may = self.model.may_withdraw(ask, now);
        let told = self.house.withdraw(names::request_id(ask), now);
        self.say(|| format!("withdraw {ask}: {told:?}"));
        same("it may be withdrawn", &told.is_ok(), &may)?;
        if may {
            self.model.withdrawn(ask);
            self.tally.count("withdrawn");
        }
        self.check(ask)
    }

    /// The issuer looks at a request and signs; what it signed is written later.
    pub fn certify(&mut self) -> Step {
        let Some(number) = self.late_ask() else { return Ok(()) };
        let now = self.clock.now().wall_ms;
        let row = self.house.request(names::request_id(number));
        let window = row.collectable(now);
        same("its window", &window, &self.model.collectable(number, now))?;
        // Who goes past the issuer makes up a window.
        let forged = self.draws.percent(20);
        let window = match (window, forged) {
            (Some(window), _) => window,
            (None, true) => (now, (now + HOUR) / 1000 * 1000),
            (None, false) => return Ok(()),
        };
        let serial = u64::try_from(self.parcels.len()).unwrap() + 1;
        let ask = self.model.ask(number);
        let mut parcel = Parcel {
            ask: number,
            grant: self.grants[number].unwrap_or(serial),
            serial,
            holder: ask.holder,
            target: ask.target,
            nets: ask.nets,
            powers: ask.powers,
            from: window.0,
            until: window.1,
            once: ask.once,
        };
        if self.draws.percent(12) {
            match self.draws.below(8) {
                0 => parcel.until += 1000,
                1 => parcel.from = parcel.from.saturating_sub(1),
                2 => parcel.powers |= 0b111,
                3 => parcel.nets = 0,
                4 if parcel.nets != 0 => parcel.nets |= 0b1000,
                4 | 5 => parcel.once = false,
                6 => parcel.target = (parcel.target + 1) % TARGETS,
                _ => parcel.holder = (parcel.holder + 1) % HOLDERS,
            }
            self.tally.count("grants for more");
        }
        self.say(|| format!("certify {parcel:?}"));
        self.parcels.push(parcel);
        Ok(())
    }

    pub fn give(&mut self) -> Step {
        let Some(at) = self.draws.late(self.parcels.len()) else {
            return Ok(());
        };
        let parcel = &self.parcels[at];
        let (number, ask) = (parcel.ask, self.model.ask(parcel.ask));
        let now = self.clock.now().wall_ms;
        let grant = names::grant(parcel, ask);
        if self.draws.percent(FAULTS / 2) {
            return Ok(());
        }
        let may = self.model.may_give(parcel, now);
        let told = self.house.collect(names::request_id(number), &grant, now);
        self.say(|| format!("give {} of ask {number}: {told:?}", parcel.serial));
        same("it may be collected", &told.is_ok(), &may)?;
        if may {
            if self.model.is_given(number) {
                self.tally.count("certificates replaced");
            }
            self.model.gave(parcel);
            self.grants[number] = Some(parcel.grant);
            self.tally.count("certificates");
        } else {
            self.tally.count("collecting refused");
        }
        self.check(number)
    }
}
