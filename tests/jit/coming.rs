//! Steps of those who come in, work, leave, and are put out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use portcullis::kernel::admit::{self, Admitted, Refusal};
use portcullis::kernel::habit::History;
use portcullis::kernel::policy::engine::Policies;
use portcullis::kernel::policy::facts::Action;
use portcullis::kernel::policy::{self, Context};
use portcullis::kernel::request::Request;
use portcullis::kernel::session::Until;
use portcullis::store::SessionRow;

use crate::house::{Guest, House};
use crate::model::{Ask, Scope};
use crate::names::{self, HOLDERS, NETS, TARGETS};
use crate::sim::{AtDoor, FAULTS, Inside, Luck, Sim, Step, same};

static POLICIES: LazyLock<Policies> = LazyLock::new(|| Policies::builtin().unwrap());

impl<H: House> Sim<H> {
    /// What admission says to the certificate of a parcel.
    fn admission(&mut self, at: usize, peer: IpAddr, now: u64) -> Result<Admitted, Refusal> {
        let parcel = &self.parcels[at];
        let presented = names::presented(parcel);
        let wanted = names::destination(parcel.target);
        match admit::admit(&presented, &self.trust, &wanted, peer, now, None) {
            Err(Refusal::NoGrant) => {}
            other => return other,
        }
        let grant = self.house.grant_by_certificate(presented.sha256);
        admit::admit(&presented, &self.trust, &wanted, peer, now, grant.as_ref())
    }

    pub fn knock(&mut self) -> Step {
        let now = self.clock.now().wall_ms;
        let Some(at) = self.parcel_that(|model, parcel| model.admits(parcel.ask, parcel.serial, now)) else {
            return Ok(());
        };
        let bound = self.parcels[at].nets;
        let net = match bound != 0 && self.draws.percent(75) {
            true => u8::try_from(bound.trailing_zeros()).unwrap(),
            false => self.below(NETS),
        };
        let ask = self.parcels[at].ask;
        // Every certificate of the same request: at most one of them admits.
        let all: Vec<usize> = (0..self.parcels.len())
            .filter(|at| self.parcels[*at].ask == ask)
            .collect();
        let mut admitting = 0;
        for at in all {
            let answer = self.admission(at, names::address(net), now);
            admitting += usize::from(answer.is_ok());
            let serial = self.parcels[at].serial;
            if let Some(grant) = self.house.grant_by_certificate(names::sha256(serial)) {
                // The certificate ends with it and would hide a grant that does not.
                let live = self.model.admits(ask, serial, now);
                same("its grant is live", &grant.live(now).is_ok(), &live)?;
            }
            let may = self.model.admits_from(ask, serial, net, now);
            same("a certificate admits", &answer.is_ok(), &may).map_err(|why| format!("serial {serial}: {why}"))?;
        }
        if admitting > 1 {
            return Err(format!("{admitting} certificates of request {ask} admit"));
        }
        let answer = self.admission(at, names::address(net), now);
        self.say(|| format!("knock with {} from net {net}: {answer:?}", at + 1));
        match answer {
            Ok(admitted) => {
                self.tally.count("admitted");
                self.doors.push(AtDoor {
                    parcel: at,
                    net,
                    admitted,
                });
            }
            Err(refusal) => self.tally.count(refusal.code()),
        }
        Ok(())
    }

    fn asks_policy(&self, admitted: &Admitted, ask: &Ask, request: Request, now: u64) -> bool {
        let context = Context {
            now,
            env_allowed: &[],
            subsystems: &[],
            store_alive: self.house.word_holds(),
            policies: &POLICIES,
            facts: &names::facts(ask, Action::Connect, now),
            history: &History::default(),
        };
        policy::decide(admitted, request, &context).is_ok()
    }

    pub fn enter(&mut self) -> Step {
        let Some(at) = self.draws.late(self.doors.len()) else {
            return Ok(());
        };
        let AtDoor {
            parcel: at,
            net,
            admitted,
        } = self.doors.swap_remove(at);
        let now = self.clock.now();
        let parcel = &self.parcels[at];
        let (number, until) = (parcel.ask, parcel.until);
        let ask = self.model.ask(number);
        let holds = self.model.word_holds(now.boot_ms);
        let permitted = self.asks_policy(&admitted, ask, Request::Connect, now.wall_ms);
        same("connect is permitted", &permitted, &(holds && now.wall_ms < until))?;
        if !permitted {
            self.tally.count("connect refused");
            return Ok(());
        }
        self.sessions += 1;
        let session = self.sessions;
        let row = SessionRow {
            id: names::session_id(session),
            node: "node1".parse().unwrap(),
            grant: admitted.grant(),
            identity: admitted.identity().clone(),
            destination: admitted.destination().clone(),
            source: names::address(net).to_string(),
            started_ms: now.wall_ms,
            until_ms: admitted.until_ms(),
            ended_ms: None,
            end_code: None,
        };
        let entered = self.house.enter(Guest {
            row: row.clone(),
            until: Until::new(admitted.until_ms(), now.wall_ms, now.boot_ms),
            facts: names::facts(ask, Action::Connect, now.wall_ms).from(Some(names::address(net))),
        });
        same("the gate is open", &entered, &holds)?;
        self.say(|| format!("session {session} of ask {number} enters"));
        self.model.entered(session, parcel, net, now.wall_ms, now.boot_ms);
        self.inside.push(Inside {
            number: session,
            parcel: at,
            admitted,
            row,
            entered_wall: now.wall_ms,
            open: false,
        });
        Ok(())
    }

    pub fn open(&mut self) -> Step {
        let waiting: Vec<usize> = (0..self.inside.len()).filter(|at| !self.inside[*at].open).collect();
        let Some(at) = self.draws.late(waiting.len()) else {
            return Ok(());
        };
        let at = waiting[at];
        let luck = self.luck();
        let parcel = &self.parcels[self.inside[at].parcel];
        let (ask, serial) = (parcel.ask, parcel.serial);
        let session = &mut self.inside[at];
        // The moment at which it entered, as the gate does.
        let may = self.model.admits(ask, serial, session.entered_wall);
        let told = match luck {
            Luck::Failed => Err("the store failed".to_owned()),
            Luck::Good | Luck::Unheard => {
                let told = self
                    .house
                    .open_session(&session.row, names::sha256(serial), session.entered_wall);
                same("a session opens", &told.is_ok(), &may)?;
                if may {
                    self.model.opened(ask);
                }
                told
            }
        };
        let number = session.number;
        self.say(|| format!("session {number} opens: {told:?}"));
        if self.model.ask(ask).once && self.model.opened_times(ask) > 1 {
            return Err(format!("single use, and opened twice: request {ask}"));
        }
        match told {
            Ok(()) if luck == Luck::Good => {
                self.inside[at].open = true;
                self.tally.count("sessions");
            }
            Ok(()) | Err(_) => {
                // Whoever hears no yes does not stay.
                self.tally.count(if luck == Luck::Good {
                    "opening refused"
                } else {
                    "opening unheard"
                });
                let session = self.inside.swap_remove(at);
                self.house.leave(session.row.id);
                self.model.left(session.number);
            }
        }
        Ok(())
    }

    /// A request inside a session is asked about again.
    pub fn again(&mut self) -> Step {
        let Some(at) = self.draws.late(self.inside.len()) else {
            return Ok(());
        };
        let session = &self.inside[at];
        let parcel = &self.parcels[session.parcel];
        let now = self.clock.now();
        let ask = self.model.ask(parcel.ask);
        let (request, bit) = match self.draws.below(3) {
            0 => (Request::Shell, 0b001),
            1 => (
                Request::Exec {
                    command: b"true".to_vec(),
                },
                0b010,
            ),
            _ => (
                Request::Subsystem {
                    name: "sftp".to_owned(),
                },
                0b100,
            ),
        };
        let permitted = self.asks_policy(&session.admitted, ask, request, now.wall_ms);
        let may = self.model.word_holds(now.boot_ms) && now.wall_ms < parcel.until && ask.powers & bit != 0;
        same("a request inside is permitted", &permitted, &may)?;
        self.tally.count(if may { "permits" } else { "denials" });
        Ok(())
    }

    pub fn leave(&mut self) -> Step {
        let Some(at) = self.draws.late(self.inside.len()) else {
            return Ok(());
        };
        let session = self.inside.swap_remove(at);
        self.gone(&session);
        Ok(())
    }

    pub fn gone(&mut self, session: &Inside) {
        self.say(|| format!("session {} is gone", session.number));
        self.house.leave(session.row.id);
        self.model.left(session.number);
        if session.open {
            self.house.close_session(session.row.id, self.clock.now().wall_ms);
        }
    }

    pub fn revoke(&mut self) -> Step {
        let ask = self.late_ask();
        let given = ask.filter(|ask| self.grants[*ask].is_some());
        let open = self
            .inside
            .iter()
            .rev()
            .find(|session| session.open)
            .map(|session| session.number);
        let scope = match self.draws.below(7) {
            0 => given.map(Scope::Grant),
            1 => open.map(Scope::Session),
            2 => Some(Scope::Holder(self.below(HOLDERS))),
            3 => Some(Scope::Target(self.below(TARGETS))),
            4 => Some(Scope::Nets(
                [0b0001, 0b0010, 0b0100, 0b1000, 0b0011, 0b1111][self.draws.weighted(&[1; 6])],
            )),
            5 => ask.map(|ask| Scope::Purpose(self.model.ask(ask).purpose)),
            _ => self.draws.percent(40).then_some(Scope::All),
        };
        let Some(scope) = scope else { return Ok(()) };
        let grant = match scope {
            Scope::Grant(ask) => self.grants[ask],
            _ => None,
        };
        let luck = self.luck();
        if luck == Luck::Failed {
            return Ok(());
        }
        let now = self.clock.now().wall_ms;
        let should: BTreeSet<u64> = self.model.hit_by(scope);
        let hit = self.house.revoke(&names::scope(scope, grant), now)?;
        self.model.revoke(scope);
        self.say(|| format!("revoke {scope:?}, heard {}", luck == Luck::Good));
        self.tally.count("revocations");
        // Who revokes is told of every open session that this ends.
        let hit: BTreeSet<u64> = hit.into_iter().map(names::number_of).collect();
        let open = self
            .inside
            .iter()
            .filter(|session| session.open && should.contains(&session.number));
        if let Some(missed) = open.map(|session| session.number).find(|number| !hit.contains(number)) {
            return Err(format!("{scope:?} should end session {missed}, but names {hit:?}"));
        }
        if luck == Luck::Good && !self.draws.percent(FAULTS) {
            self.house.pull();
            let before = self.model.inside().len();
            self.model.carried();
            if self.model.inside().len() < before {
                self.tally.count("cut by revocation");
            }
        }
        (0..self.model.count()).try_for_each(|ask| self.check(ask))
    }
}
