//! A house of the kernel's own values: [`RequestRow`], [`Grant`] and [`Until`]
//! decide, rows lie in maps. Fast enough for a million seeds.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::clock::Clock;
use portcullis::kernel::access::{Approval, RequestRow, RequestState};
use portcullis::kernel::grant::{Grant, NotLive, WallMs};
use portcullis::kernel::id::{GrantId, RequestId, SessionId};
use portcullis::registry::LEASE_MS;
use portcullis::store::{RevocationScope, SessionRow};

use crate::house::{Guest, House};

pub struct Paper {
    clock: Clock,
    requests: BTreeMap<RequestId, RequestRow>,
    grants: BTreeMap<GrantId, Grant>,
    sessions: BTreeMap<SessionId, SessionRow>,
    journal: Vec<RevocationScope>,
    gate: BTreeMap<SessionId, Guest>,
    pulled: usize,
    word_until: u64,
}

impl Paper {
    pub fn new(clock: Clock) -> Paper {
        Paper {
            clock,
            requests: BTreeMap::new(),
            grants: BTreeMap::new(),
            sessions: BTreeMap::new(),
            journal: Vec::new(),
            gate: BTreeMap::new(),
            pulled: 0,
            word_until: 0,
        }
    }
}

fn named(scope: &RevocationScope, reason: &str, ticket: Option<&String>) -> bool {
    matches!(scope, RevocationScope::Purpose(text) if reason == text || ticket == Some(text))
}

fn hits_grant(scope: &RevocationScope, grant: &Grant) -> bool {
    match scope {
        RevocationScope::Grant(id) => grant.id == *id,
        RevocationScope::Session(_) => false,
        RevocationScope::Identity(name) => grant.identity == *name,
        RevocationScope::Target(name) => grant.destination.target == *name,
        RevocationScope::Source(block) => {
            !grant.sources.is_empty() && grant.sources.iter().all(|source| block.covers(source))
        }
        RevocationScope::Purpose(_) => named(scope, &grant.reason, grant.ticket.as_ref()),
        RevocationScope::All => true,
    }
}

fn hits_request(scope: &RevocationScope, row: &RequestRow) -> bool {
    let asked = &row.request;
    match scope {
        RevocationScope::Grant(id) => row.grant == Some(*id),
        RevocationScope::Session(_) => false,
        RevocationScope::Identity(name) => asked.identity == *name,
        RevocationScope::Target(name) => asked.destination.target == *name,
        RevocationScope::Source(block) => {
            !asked.sources.is_empty() && asked.sources.iter().all(|source| block.covers(source))
        }
        RevocationScope::Purpose(_) => named(scope, &asked.reason, asked.ticket.as_ref()),
        RevocationScope::All => true,
    }
}

fn hits_session(scope: &RevocationScope, row: &SessionRow, grant: &Grant) -> bool {
    match scope {
        RevocationScope::Session(id) => row.id == *id,
        RevocationScope::Source(block) => block.contains(row.source.parse().unwrap()),
        RevocationScope::Grant(_)
        | RevocationScope::Identity(_)
        | RevocationScope::Target(_)
        | RevocationScope::Purpose(_)
        | RevocationScope::All => hits_grant(scope, grant),
    }
}

/// No more than was approved.
fn fits(row: &RequestRow, grant: &Grant, (from, until): (WallMs, WallMs)) -> bool {
    let asked = &row.request;
    let within = |block| asked.sources.iter().any(|given| given.covers(block));
    let bound = asked.sources.is_empty() || (!grant.sources.is_empty() && grant.sources.iter().all(within));
    bound
        && grant.identity == asked.identity
        && grant.destination == asked.destination
        && grant.capabilities.is_subset(&asked.capabilities)
        && from <= grant.from_ms
        && grant.from_ms < grant.until_ms
        && grant.until_ms <= until
        && (grant.single_use || !asked.single_use)
}

impl House for Paper {
    fn add_request(&mut self, row: &RequestRow) -> Result<(), String> {
        self.requests.insert(row.request.id, row.clone());
        Ok(())
    }

    fn request(&mut self, id: RequestId) -> RequestRow {
        self.requests[&id].clone()
    }

    fn answer(&mut self, id: RequestId, answer: &Approval) -> Result<(), String> {
        let row = self.requests.get_mut(&id).unwrap();
        row.answer(answer.clone()).map_err(|why| why.to_string())
    }

    fn withdraw(&mut self, id: RequestId, now: WallMs) -> Result<(), String> {
        let row = self.requests.get_mut(&id).unwrap();
        row.withdraw(now).map_err(|why| why.to_string())
    }

    fn collect(&mut self, id: RequestId, grant: &Grant, now: WallMs) -> Result<(), String> {
        let row = self.requests.get_mut(&id).unwrap();
        let window = row.collectable(now).ok_or("not open")?;
        if !fits(row, grant, window) {
            return Err("more than was approved".to_owned());
        }
        let linked = *row.grant.get_or_insert(grant.id);
        let Some(before) = self.grants.get(&linked) else {
            self.grants.insert(grant.id, grant.clone());
            return Ok(());
        };
        let over = matches!(
            before.live(now),
            Err(NotLive::Expired | NotLive::Revoked | NotLive::Used)
        );
        if linked != grant.id || over || grant.certificate_serial < before.certificate_serial {
            return Err("another, over, or an older certificate".to_owned());
        }
        let renewed = Grant {
            used_at_ms: before.used_at_ms,
            ..grant.clone()
        };
        self.grants.insert(linked, renewed);
        Ok(())
    }

    fn grant_by_certificate(&mut self, sha256: [u8; 32]) -> Option<Grant> {
        self.grants
            .values()
            .find(|grant| grant.certificate_sha256 == sha256)
            .cloned()
    }

    fn revoke(&mut self, scope: &RevocationScope, now: WallMs) -> Result<BTreeSet<SessionId>, String> {
        let live = self.sessions.values().filter(|row| row.ended_ms.is_none());
        let hit = live.filter(|row| hits_session(scope, row, &self.grants[&row.grant]));
        let hit = hit.map(|row| row.id).collect();
        for grant in self.grants.values_mut().filter(|grant| hits_grant(scope, grant)) {
            grant.revoked_at_ms.get_or_insert(now);
        }
        for row in self.requests.values_mut().filter(|row| hits_request(scope, row)) {
            if matches!(row.state, RequestState::Pending | RequestState::Approved) {
                row.state = RequestState::Revoked;
            }
        }
        self.journal.push(scope.clone());
        Ok(hit)
    }

    fn open_session(&mut self, row: &SessionRow, certificate: [u8; 32], now: WallMs) -> Result<(), String> {
        let grant = self.grants.get_mut(&row.grant).ok_or("no such grant")?;
        grant.live(now).map_err(|why| format!("{why:?}"))?;
        if grant.certificate_sha256 != certificate {
            return Err("replaced".to_owned());
        }
        if grant.single_use {
            grant.used_at_ms = Some(now);
        }
        self.sessions.insert(row.id, row.clone());
        Ok(())
    }

    fn close_session(&mut self, id: SessionId, now: WallMs) {
        if let Some(row) = self.sessions.get_mut(&id) {
            row.ended_ms.get_or_insert(now);
        }
    }

    fn enter(&mut self, guest: Guest) -> bool {
        let may = self.word_holds();
        if may {
            self.gate.insert(guest.row.id, guest);
        }
        may
    }

    fn leave(&mut self, id: SessionId) {
        self.gate.remove(&id);
    }

    fn pull(&mut self) {
        for scope in &self.journal[self.pulled..] {
            let grants = &self.grants;
            self.gate
                .retain(|_, guest| !hits_session(scope, &guest.row, &grants[&guest.row.grant]));
        }
        self.pulled = self.journal.len();
    }

    fn renew(&mut self) {
        self.pull();
        self.word_until = self.clock.now().boot_ms + LEASE_MS;
    }

    fn word_holds(&self) -> bool {
        self.clock.now().boot_ms < self.word_until
    }

    fn look(&mut self) {
        let now = self.clock.now();
        let holds = self.word_holds();
        self.gate
            .retain(|_, guest| holds && guest.until.left_ms(now.wall_ms, now.boot_ms) > 0);
    }

    fn inside(&self) -> BTreeSet<SessionId> {
        self.gate.keys().copied().collect()
    }

    fn restart(&mut self, now: WallMs) {
        // What a restart keeps is what can be written down.
        fn kept<T: serde::Serialize + serde::de::DeserializeOwned>(row: &mut T) {
            *row = serde_json::from_slice(&serde_json::to_vec(row).unwrap()).unwrap();
        }
        self.requests.values_mut().for_each(kept);
        self.grants.values_mut().for_each(kept);
        for row in self.sessions.values_mut() {
            row.ended_ms.get_or_insert(now);
        }
        self.gate.clear();
        self.pulled = 0;
        self.word_until = 0;
    }
}
