//! The rules of just-in-time access, written a second time: from the words of
//! the design (sections 5 and 6, laws 3, 6 and 7), in plain numbers, without a
//! name of the product. It keeps no state of any request or grant, only what
//! happened, and answers each question by looking back over it.

use std::collections::BTreeSet;

/// How long a node's word holds without hearing from the store, in ms.
const LEASE: u64 = 10_000;

/// Groups that a person is in.
pub fn groups_of(person: u8) -> BTreeSet<u8> {
    [person % 3].into()
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub holder: u8,
    pub asker: u8,
    pub target: u8,
    pub purpose: u8,
    pub ticket: Option<u8>,
    /// Networks that it is bound to, a bit each; 0 is any.
    pub nets: u8,
    /// What it may do, a bit each.
    pub powers: u8,
    pub begins: Option<u64>,
    pub length: u64,
    pub once: bool,
    /// How many other people must say yes, and of which groups one.
    pub people: usize,
    pub groups: BTreeSet<u8>,
    pub made: u64,
    pub answer_by: u64,
}

/// What a grant would be, as somebody wants to write it.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub ask: usize,
    /// The grant's number.
    pub grant: u64,
    /// Of its certificate.
    pub serial: u64,
    pub holder: u8,
    pub target: u8,
    pub nets: u8,
    pub powers: u8,
    pub from: u64,
    pub until: u64,
    pub once: bool,
}

/// What a revocation names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The grant of this ask.
    Grant(usize),
    Session(u64),
    Holder(u8),
    Target(u8),
    /// Networks, a bit each.
    Nets(u8),
    Purpose(u8),
    All,
}

/// What happened.
#[derive(Clone, Debug)]
enum Fact {
    Asked(usize),
    Yes { ask: usize, by: u8, at: u64 },
    No { ask: usize, by: u8 },
    Withdrawn(usize),
    Given(Parcel),
    Opened { ask: usize },
    Revoked(Scope),
}

/// Somebody inside.
#[derive(Clone, Debug)]
struct Guest {
    session: u64,
    ask: usize,
    net: u8,
    /// Ends of both clocks.
    wall_end: u64,
    boot_end: u64,
}

/// How a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Pending,
    Approved,
    Denied,
    Expired,
    Withdrawn,
    Revoked,
}

/// Everything that happened, and who is in.
#[derive(Default)]
pub struct Model {
    asks: Vec<Ask>,
    facts: Vec<Fact>,
    inside: Vec<Guest>,
    /// Facts whose revocations have reached the gate.
    carried: usize,
    /// Boot time until which the store's word holds.
    word_until: u64,
}

impl Model {
    pub fn ask(&self, ask: usize) -> &Ask {
        &self.asks[ask]
    }

    pub fn asked(&mut self, ask: Ask) -> usize {
        self.asks.push(ask);
        self.facts.push(Fact::Asked(self.asks.len() - 1));
        self.asks.len() - 1
    }

    /// Who said yes, and when, in order.
    fn yes(&self, ask: usize) -> impl Iterator<Item = (u8, u64)> {
        self.facts.iter().filter_map(move |fact| match fact {
            Fact::Yes { ask: of, by, at } if *of == ask => Some((*by, *at)),
            _ => None,
        })
    }

    /// When the last yes that was needed came.
    fn approved_at(&self, ask: usize) -> Option<u64> {
        let of = &self.asks[ask];
        let enough = |people: &BTreeSet<u8>| {
            let groups: BTreeSet<u8> = people.iter().flat_map(|person| groups_of(*person)).collect();
            people.len() >= of.people && of.groups.is_subset(&groups)
        };
        let mut people = BTreeSet::new();
        if enough(&people) {
            return Some(of.made);
        }
        self.yes(ask).find_map(|(by, at)| {
            people.insert(by);
            enough(&people).then_some(at)
        })
    }

    /// The window if the last yes comes at `at`; certificates end on a full second.
    fn window_from(of: &Ask, at: u64) -> (u64, u64) {
        let start = of.begins.unwrap_or(at);
        (start.max(at), (start + of.length) / 1000 * 1000)
    }

    pub fn window(&self, ask: usize) -> Option<(u64, u64)> {
        self.approved_at(ask).map(|at| Model::window_from(&self.asks[ask], at))
    }

    fn hits_ask(&self, scope: Scope, ask: usize) -> bool {
        let of = &self.asks[ask];
        match scope {
            Scope::Grant(other) => other == ask,
            Scope::Session(_) => false,
            Scope::Holder(person) => of.holder == person,
            Scope::Target(target) => of.target == target,
            // What is good from nowhere else.
            Scope::Nets(nets) => of.nets != 0 && of.nets & !nets == 0,
            Scope::Purpose(word) => of.purpose == word || of.ticket == Some(word),
            Scope::All => true,
        }
    }

    fn hits_guest(&self, scope: Scope, guest: &Guest) -> bool {
        match scope {
            Scope::Session(session) => guest.session == session,
            Scope::Nets(nets) => nets & (1 << guest.net) != 0,
            Scope::Grant(_) | Scope::Holder(_) | Scope::Target(_) | Scope::Purpose(_) | Scope::All => {
                self.hits_ask(scope, guest.ask)
            }
        }
    }

    /// Revoked after it was asked and while it could still be something.
    fn revoked(&self, ask: usize) -> bool {
        let mut since = self
            .facts
            .iter()
            .skip_while(|fact| !matches!(fact, Fact::Asked(of) if *of == ask));
        since.any(|fact| matches!(fact, Fact::Revoked(scope) if self.hits_ask(*scope, ask)))
    }

    pub fn standing(&self, ask: usize, now: u64) -> Standing {
        let denied = |fact: &Fact| matches!(fact, Fact::No { ask: of, .. } if *of == ask);
        let withdrawn = |fact: &Fact| matches!(fact, Fact::Withdrawn(of) if *of == ask);
        if self.facts.iter().any(denied) {
            Standing::Denied
        } else if self.facts.iter().any(withdrawn) {
            Standing::Withdrawn
        } else if self.revoked(ask) {
            Standing::Revoked
        } else if self.approved_at(ask).is_some() {
            Standing::Approved
        } else if now >= self.asks[ask].answer_by {
            Standing::Expired
        } else {
            Standing::Pending
        }
    }

    /// Whether somebody's answer counts. `seen`: it names what was asked.
    pub fn may_answer(&self, ask: usize, by: u8, approves: bool, seen: bool, now: u64) -> bool {
        let of = &self.asks[ask];
        let before = |fact: &Fact| match fact {
            Fact::Yes { ask: of, by: who, .. } | Fact::No { ask: of, by: who } => *of == ask && *who == by,
            _ => false,
        };
        let (from, until) = Model::window_from(of, now);
        self.standing(ask, now) == Standing::Pending
            && by != of.asker
            && by != of.holder
            && seen
            && !self.facts.iter().any(before)
            && (!approves || from < until)
    }

    pub fn answered(&mut self, ask: usize, by: u8, approves: bool, at: u64) {
        self.facts.push(match approves {
            true => Fact::Yes { ask, by, at },
            false => Fact::No { ask, by },
        });
    }

    pub fn may_withdraw(&self, ask: usize, now: u64) -> bool {
        self.standing(ask, now) == Standing::Pending
    }

    pub fn withdrawn(&mut self, ask: usize) {
        self.facts.push(Fact::Withdrawn(ask));
    }

    /// The window that a certificate may be made for now.
    pub fn collectable(&self, ask: usize, now: u64) -> Option<(u64, u64)> {
        let (from, until) = self.window(ask)?;
        (self.standing(ask, now) == Standing::Approved && now < until).then_some((from, until))
    }

    /// The certificates that were given, in order.
    fn given(&self, ask: usize) -> impl Iterator<Item = &Parcel> {
        self.facts.iter().filter_map(move |fact| match fact {
            Fact::Given(parcel) if parcel.ask == ask => Some(parcel),
            _ => None,
        })
    }

    pub fn is_given(&self, ask: usize) -> bool {
        self.given(ask).next().is_some()
    }

    /// How often a session was opened under it.
    pub fn opened_times(&self, ask: usize) -> usize {
        let opened = |fact: &&Fact| matches!(fact, Fact::Opened { ask: of } if *of == ask);
        self.facts.iter().filter(opened).count()
    }

    /// Whether this grant and certificate may be written: no more than was
    /// approved; the same grant as before, which is not over; nothing that was
    /// replaced.
    pub fn may_give(&self, parcel: &Parcel, now: u64) -> bool {
        let Some((from, until)) = self.collectable(parcel.ask, now) else {
            return false;
        };
        let of = &self.asks[parcel.ask];
        let bound = of.nets == 0 || (parcel.nets != 0 && parcel.nets & !of.nets == 0);
        let no_more = parcel.holder == of.holder
            && parcel.target == of.target
            && bound
            && parcel.powers & !of.powers == 0
            && from <= parcel.from
            && parcel.from < parcel.until
            && parcel.until <= until
            && (parcel.once || !of.once);
        let follows = self
            .given(parcel.ask)
            .all(|before| before.grant == parcel.grant && before.serial <= parcel.serial);
        let over = self.given(parcel.ask).last().is_some_and(|last| last.until <= now);
        no_more && follows && !over && !(of.once && self.opened_times(parcel.ask) > 0)
    }

    pub fn gave(&mut self, parcel: &Parcel) {
        self.facts.push(Fact::Given(parcel.clone()));
    }

    /// Whether this certificate is the one that stands for a live grant.
    pub fn admits(&self, ask: usize, serial: u64, now: u64) -> bool {
        let last = self.given(ask).last();
        last.is_some_and(|last| last.serial == serial && (last.from..last.until).contains(&now))
            && self.standing(ask, now) == Standing::Approved
            && !(self.asks[ask].once && self.opened_times(ask) > 0)
    }

    /// The same for somebody at the door, from a network.
    pub fn admits_from(&self, ask: usize, serial: u64, net: u8, now: u64) -> bool {
        let nets = self.asks[ask].nets;
        self.admits(ask, serial, now) && (nets == 0 || nets & (1 << net) != 0)
    }

    /// Whether the store was heard lately enough to rely on.
    pub fn word_holds(&self, boot: u64) -> bool {
        boot < self.word_until
    }

    /// Somebody with the certificate of this parcel is in.
    pub fn entered(&mut self, session: u64, parcel: &Parcel, net: u8, wall: u64, boot: u64) {
        self.inside.push(Guest {
            session,
            ask: parcel.ask,
            net,
            wall_end: parcel.until,
            boot_end: boot + parcel.until.saturating_sub(wall),
        });
    }

    pub fn opened(&mut self, ask: usize) {
        self.facts.push(Fact::Opened { ask });
    }

    pub fn left(&mut self, session: u64) {
        self.inside.retain(|guest| guest.session != session);
    }

    pub fn revoke(&mut self, scope: Scope) {
        self.facts.push(Fact::Revoked(scope));
    }

    /// Sessions inside that this would end.
    pub fn hit_by(&self, scope: Scope) -> BTreeSet<u64> {
        let hit = self.inside.iter().filter(|guest| self.hits_guest(scope, guest));
        hit.map(|guest| guest.session).collect()
    }

    /// Every revocation reaches the gate: whoever is in then and hit by it is out.
    pub fn carried(&mut self) {
        let scopes: Vec<Scope> = self.facts[self.carried..]
            .iter()
            .filter_map(|fact| match fact {
                Fact::Revoked(scope) => Some(*scope),
                _ => None,
            })
            .collect();
        for scope in scopes {
            let hit = self.hit_by(scope);
            self.inside.retain(|guest| !hit.contains(&guest.session));
        }
        self.carried = self.facts.len();
    }

    /// The store was heard at this boot time.
    pub fn heard(&mut self, boot: u64) {
        self.carried();
        self.word_until = boot + LEASE;
    }

    /// The gate looks at both clocks: nobody stays past the earlier of them.
    pub fn look(&mut self, wall: u64, boot: u64) {
        let word_holds = self.word_holds(boot);
        self.inside
            .retain(|guest| word_holds && wall < guest.wall_end && boot < guest.boot_end);
    }

    pub fn restarted(&mut self) {
        self.inside.clear();
        self.word_until = 0;
        self.carried = 0;
    }

    pub fn inside(&self) -> BTreeSet<u64> {
        self.inside.iter().map(|guest| guest.session).collect()
    }

    /// Moments at which something changes.
    pub fn moments(&self, ask: usize) -> Vec<u64> {
        let of = &self.asks[ask];
        let mut moments = vec![of.answer_by];
        moments.extend(of.begins);
        moments.extend(self.window(ask).into_iter().flat_map(|(from, until)| [from, until]));
        moments
    }

    /// How many were asked for.
    pub fn count(&self) -> usize {
        self.asks.len()
    }
}
