//! Admission racing a revocation, on the real store and the real registry, on
//! real threads: whatever comes first, nobody is left inside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis::kernel::admit::{self, AdmissionTrust};
use portcullis::kernel::grant::Grant;
use portcullis::kernel::policy::facts::{Action, Facts, Who};
use portcullis::kernel::policy::obligations::Obligations;
use portcullis::kernel::session::Until;
use portcullis::registry::{Entry, Registry, Ticket};
use portcullis::store::sqlite::SqliteStore;
use portcullis::store::{RevocationScope, SessionRow, Store};
use tokio::sync::Barrier;

use crate::draws::Draws;
use crate::model::Parcel;
use crate::sqlite::{Seat, folder, host, person};
use crate::{names, sim};

const RACES: u64 = 10_000;
/// Races at once, each with a holder, a target, a network and words of its own.
const LANES: u8 = 4;
/// Most that one side is held back, in reads of the store: about what the other one takes.
const HEAD_START_MAX: u64 = 6;

/// How a race went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Went {
    RefusedAtTheDoor,
    RefusedAtOpening,
    OpenedAndCut,
    Survived,
}

struct Ring {
    store: SqliteStore,
    registry: Arc<Registry>,
    clock: portcullis::clock::Clock,
    trust: AdmissionTrust,
}

impl Ring {
    async fn hold_back(&self, reads: u64) {
        for _ in 0..reads {
            self.store.grant(names::grant_id(0)).await.unwrap();
        }
    }
}

/// The way of `ssh/admission.rs` and `ssh/opening.rs`, up to the session's row.
async fn comes_in(ring: &Ring, parcel: &Parcel, grant: &Grant, lane: u8) -> Result<(Ticket, Arc<Seat>), Went> {
    let (now, peer) = (ring.clock.now(), names::address(lane));
    let presented = names::presented(parcel);
    let row = ring.store.grant_by_certificate(presented.sha256).await.unwrap();
    let admitted = admit::admit(
        &presented,
        &ring.trust,
        &grant.destination,
        peer,
        now.wall_ms,
        row.as_ref(),
    );
    let admitted = admitted.map_err(|_| Went::RefusedAtTheDoor)?;
    let seat = Arc::new(Seat::default());
    let who = Who::from(&person(grant.identity.as_str()));
    let id = names::session_id(parcel.serial);
    let entry = Entry {
        leased: true,
        id,
        grant: admitted.grant(),
        identity: admitted.identity().clone(),
        destination: admitted.destination().clone(),
        hops: Vec::new(),
        until: Until::new(admitted.until_ms(), now.wall_ms, now.boot_ms),
        oldest_boot_ms: u64::MAX,
        facts: Facts {
            source: Some(peer),
            reason: grant.reason.clone(),
            ticket: grant.ticket.clone(),
            ..Facts::new(Action::Connect, who, None, now.wall_ms)
        },
        held_to: Obligations::default(),
        held: seat.clone(),
    };
    let ticket = ring
        .registry
        .enter(entry, usize::MAX)
        .unwrap_or_else(|closed| panic!("{closed:?}"));
    let session = SessionRow {
        id,
        node: "node1".parse().unwrap(),
        grant: admitted.grant(),
        identity: admitted.identity().clone(),
        destination: admitted.destination().clone(),
        source: peer.to_string(),
        started_ms: now.wall_ms,
        until_ms: admitted.until_ms(),
        ended_ms: None,
        end_code: None,
    };
    let opened = ring.store.open_session(&session, presented.sha256, now.wall_ms).await;
    opened.map_err(|_| Went::RefusedAtOpening)?;
    Ok((ticket, seat))
}

/// What one lane revokes, in turn: each names its own grants, and the last those of all lanes.
fn scope(number: u64, grant: &Grant, net: u8) -> RevocationScope {
    match number % 7 {
        0 => RevocationScope::Grant(grant.id),
        1 => RevocationScope::Identity(grant.identity.clone()),
        2 => RevocationScope::Target(grant.destination.target.clone()),
        3 => RevocationScope::Source(format!("10.0.{net}.0/24").parse().unwrap()),
        4 => RevocationScope::Purpose(grant.reason.clone()),
        5 => RevocationScope::Purpose(grant.ticket.clone().unwrap()),
        _ => RevocationScope::All,
    }
}

async fn race(ring: &Arc<Ring>, number: u64, lane: u8, draws: &mut Draws) -> Went {
    let now = ring.clock.now().wall_ms;
    let serial = number * u64::from(LANES) + u64::from(lane) + 1;
    let parcel = Parcel {
        ask: 0,
        grant: serial,
        serial,
        holder: lane,
        target: lane,
        nets: 0,
        powers: 0b111,
        from: now,
        until: (now / 1000 + 600) * 1000,
        once: number.is_multiple_of(2),
    };
    let grant = Grant {
        id: names::grant_id(serial),
        identity: names::identity(lane),
        destination: names::destination(lane),
        from_ms: parcel.from,
        until_ms: parcel.until,
        sources: vec![format!("10.0.{lane}.0/24").parse().unwrap()],
        capabilities: [].into(),
        reason: format!("reason {lane}"),
        ticket: Some(format!("TICKET-{lane}")),
        request: None,
        issued_by: "race".to_owned(),
        policy_digest: [0; 32],
        certificate_sha256: names::sha256(serial),
        certificate_serial: serial,
        single_use: parcel.once,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    };
    ring.store.add_grant(&grant).await.unwrap();
    let start = Arc::new(Barrier::new(2));
    let waits = match draws.percent(50) {
        true => (draws.below(HEAD_START_MAX), 0),
        false => (0, draws.below(HEAD_START_MAX)),
    };
    let scope = scope(number, &grant, lane);
    let (one, other) = (ring.clone(), ring.clone());
    let (first, second) = (start.clone(), start);
    let guest = tokio::spawn(async move {
        first.wait().await;
        one.hold_back(waits.0).await;
        comes_in(&one, &parcel, &grant, lane).await
    });
    let revoker = tokio::spawn(async move {
        second.wait().await;
        other.hold_back(waits.1).await;
        // As the API does: the store, then the journal is carried to the sessions.
        other.store.revoke(&scope, "race", "race", now).await.unwrap();
        other.registry.pull(&other.store).await.unwrap();
    });
    let (guest, revoked) = tokio::join!(guest, revoker);
    revoked.unwrap();
    match guest.unwrap() {
        Err(went) => went,
        Ok((ticket, seat)) => {
            let cut = seat.ended.load(Ordering::SeqCst);
            drop(ticket);
            let session = names::session_id(serial);
            ring.store.close_session(session, now, "race").await.unwrap();
            if cut { Went::OpenedAndCut } else { Went::Survived }
        }
    }
}

#[test]
fn nobody_survives_a_revocation_that_raced_the_admission() {
    let dir = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let went = runtime.block_on(async {
        let store = SqliteStore::create(&dir.path().join("store.db")).await.unwrap();
        let people: Vec<_> = (0..LANES).map(|lane| person(&names::person(lane))).collect();
        let targets: Vec<_> = (0..LANES).map(|lane| host(&names::target(lane))).collect();
        store.put_inventory(&targets, &people).await.unwrap();
        let clock = sim::clock();
        let registry = Registry::new(clock.clone(), None, Vec::new());
        registry.renew(&store, &"node1".parse().unwrap()).await.unwrap();
        let trust = AdmissionTrust {
            ca_keys: vec![names::CA.to_vec()],
            lifetime_secs_max: 24 * 3600,
        };
        let ring = Arc::new(Ring {
            store,
            registry,
            clock,
            trust,
        });
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let ring = ring.clone();
            lanes.spawn(async move {
                let mut draws = Draws::new(lane.into());
                let mut went = Vec::new();
                for number in 0..RACES / u64::from(LANES) {
                    went.push(race(&ring, number, lane, &mut draws).await);
                }
                went
            });
        }
        let went = lanes.join_all().await.concat();
        ring.store.close().await;
        went
    });
    let mut counted: BTreeMap<Went, usize> = BTreeMap::new();
    for each in &went {
        *counted.entry(*each).or_default() += 1;
    }
    println!("{} races: {counted:?}", went.len());
    assert_eq!(counted.get(&Went::Survived), None, "{counted:?}");
    assert_eq!(went.len() as u64, RACES);
    // Each order was met, often: else nothing raced.
    for order in [Went::RefusedAtTheDoor, Went::RefusedAtOpening, Went::OpenedAndCut] {
        let times = counted.get(&order).copied().unwrap_or(0);
        assert!(times >= went.len() / 200, "{order:?} only {times} times: {counted:?}");
    }
}
