//! What a decision costs in a large house: 1,000 policies, 10,000 grants. Part of `tests/bench/run jit`; by itself:
//! `cargo bench -p portcullis --bench jit`. Prints rows of that table, and says which goal one misses.
//!
//! `cargo bench -p portcullis --bench jit -- --write-policies DIR` only writes the house's policies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench"
)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::anomaly;
use portcullis::kernel::admit::{self, AdmissionTrust, CertificateType, Presented};
use portcullis::kernel::grant::{Capability, Grant};
use portcullis::kernel::id::{GrantId, SessionId};
use portcullis::kernel::inventory::{Identity, IdentityKind, Reach, Target};
use portcullis::kernel::policy::engine::{DEFAULT, DEFAULT_FILE, Policies};
use portcullis::kernel::policy::facts::{Action, Facts, LocalTime, Proof, Whereto, Who};
use portcullis::kernel::policy::{self, Context};
use portcullis::kernel::request::Request;
use portcullis::store::sqlite::SqliteStore;
use portcullis::store::{SessionRow, Store, Use};

/// Teams of the house. Each has targets, people and policies of its own.
const TEAMS: usize = 125;
/// Policies of a team: see [`of_team`].
const OF_A_TEAM: usize = 8;
const GRANTS: usize = 10_000;
/// Decisions and connects that are measured.
const DECISIONS: usize = 20_000;
const CONNECTS: usize = 5_000;
const OPENINGS: usize = 500;
/// What each goal of the issue is.
const DECISION_GOAL: Duration = Duration::from_millis(1);

const NOW: u64 = 1_800_000_000_000;
const HOUR: u64 = 3_600_000;
const CA: &[u8] = b"the admission CA";

/// The policies of one team: who may ask, get, connect and do what at its
/// targets, which are labelled `team=NAME`.
fn of_team(team: usize) -> String {
    let name = format!("t{team:03}");
    let office = 6 * 60 + team % 120;
    format!(
        r#"
@id("{name}-ask") @note("people of {name} ask for their targets") @approvals("1") @max("4h")
permit (principal in Group::"{name}", action == Action::"request", resource in Label::"team={name}");
@id("{name}-ask-prod") @approvals("2") @max("1h") @review
permit (principal in Group::"{name}", action == Action::"request", resource in Label::"team={name}")
when {{ resource.hasTag("env") && resource.getTag("env") == "prod" }};
@id("{name}-issue") @max("4h")
permit (principal in Group::"{name}", action == Action::"issue", resource in Label::"team={name}")
when {{ context has requested_by && context.proof.strength >= 2 }};
@id("{name}-work")
permit (
  principal in Group::"{name}",
  action in [Action::"connect", Action::"shell", Action::"exec", Action::"subsystem"],
  resource in Label::"team={name}"
) when {{ context.risk < 80 && context.proof.strength >= 2 }};
@id("{name}-vendors-in-hours")
forbid (principal in Kind::"vendor", action == Action::"connect", resource in Label::"team={name}")
when {{ context.local.minute < {office} || context.local.minute > 1200 || context.local.weekday > 5 }};
@id("{name}-nothing-destructive") @note("ask the owner first")
forbid (principal, action in [Action::"exec", Action::"command"], resource in Label::"team={name}")
when {{ context.labels.contains("destructive") && !(principal in Role::"admin") }};
@id("{name}-approve")
permit (principal in Group::"{name}-leads", action == Action::"approve", resource in Label::"team={name}")
unless {{ context has requested_by && context.requested_by == principal.name }};
@id("{name}-end")
permit (principal in Group::"{name}-leads", action == Action::"revoke", resource in Label::"team={name}");
"#
    )
}

/// As files of a policy folder: the built-in ones, and a file for each team.
fn house() -> Vec<(String, String)> {
    let teams = (0..TEAMS).map(|team| (format!("t{team:03}.cedar"), of_team(team)));
    std::iter::once((DEFAULT_FILE.to_owned(), DEFAULT.to_owned()))
        .chain(teams)
        .collect()
}

fn identity(number: usize) -> Identity {
    let team = format!("t{:03}", number % TEAMS);
    Identity {
        name: format!("p{number}").parse().unwrap(),
        kind: if number.is_multiple_of(7) {
            IdentityKind::Vendor
        } else {
            IdentityKind::Person
        },
        owner: None,
        purpose: None,
        review_by_ms: None,
        keys: Vec::new(),
        roles: BTreeSet::new(),
        groups: [team.parse().unwrap(), "staff".parse().unwrap()].into(),
        disabled: false,
    }
}

fn target(number: usize) -> Target {
    let env = ["prod", "stage", "test"][number % 3];
    Target {
        name: format!("h{number}").parse().unwrap(),
        logins: vec!["root".parse().unwrap()],
        reach: Reach::Local {
            command: Vec::new(),
            run_as: "nobody".to_owned(),
        },
        labels: vec![
            format!("team=t{:03}", number % TEAMS),
            format!("env={env}"),
            "site=fra".to_owned(),
        ],
        disabled: false,
    }
}

fn facts(action: Action, identity: &Identity, target: &Target) -> Facts {
    Facts {
        login: "root".to_owned(),
        local: LocalTime {
            weekday: 3,
            minute: 700,
        },
        source: Some(IpAddr::from([10, 1, 2, 3])),
        zones: ["office".to_owned()].into(),
        reason: "INC-42".to_owned(),
        proof: Proof {
            method: "certificate".to_owned(),
            strength: 2,
            age_ms: 60_000,
        },
        capabilities: [Capability::Shell, Capability::Exec].into(),
        for_ms: HOUR,
        requested_by: Some("somebody".to_owned()),
        command: matches!(action, Action::Exec).then(|| "systemctl restart nginx".to_owned()),
        ..Facts::new(action, Who::from(identity), Some(Whereto::from(target)), NOW)
    }
}

fn sha256(number: usize) -> [u8; 32] {
    let mut sha256 = [0; 32];
    // Spread over the index, as hashes are.
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    sha256[..8].copy_from_slice(&mixed.to_be_bytes());
    sha256
}

fn grant(number: usize, identity: &Identity, target: &Target) -> Grant {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    Grant {
        id: GrantId(id),
        identity: identity.name.clone(),
        destination: format!("root@{}", target.name).parse().unwrap(),
        from_ms: NOW - HOUR,
        until_ms: NOW + HOUR,
        sources: vec!["10.0.0.0/8".parse().unwrap()],
        capabilities: [Capability::Shell, Capability::Exec].into(),
        reason: "INC-42".to_owned(),
        ticket: None,
        request: None,
        issued_by: "somebody".to_owned(),
        policy_digest: [0; 32],
        certificate_sha256: sha256(number),
        certificate_serial: number as u64 + 1,
        single_use: false,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

fn presented(grant: &Grant) -> Presented {
    Presented {
        sha256: grant.certificate_sha256,
        blob_bytes: 600,
        key_algorithm: "ssh-ed25519".to_owned(),
        rsa_bits: None,
        certificate_type: CertificateType::User,
        serial: grant.certificate_serial,
        key_id: grant.identity.to_string(),
        principals: vec![grant.destination.to_string()],
        valid_after: grant.from_ms / 1000 - 60,
        valid_before: grant.until_ms / 1000,
        critical_options: vec![("source-address".to_owned(), "10.0.0.0/8".to_owned())],
        extensions: vec![("permit-pty".to_owned(), String::new())],
        ca_key: CA.to_vec(),
        ca_signature_algorithm: "ssh-ed25519".to_owned(),
        ca_rsa_bits: None,
        nested: false,
    }
}

/// One row of the table: p50 and p99, and whether the goal holds.
fn row(what: &str, mut took: Vec<Duration>, goal: Option<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
    let said = match goal {
        Some(goal) if at(99) < goal => format!("p99 under {goal:?}: held"),
        Some(goal) => format!("p99 under {goal:?}: MISSED"),
        None => String::new(),
    };
    let n = format!("{what}, {} times", took.len());
    println!("| {n:<70} | {:<12} | {:<12} | {said:<28} |", ms(at(50)), ms(at(99)));
}

fn decisions(policies: &Policies, people: &[Identity], targets: &[Target]) {
    for action in [Action::Request, Action::Issue, Action::Connect, Action::Exec] {
        let mut allowed = 0;
        let took = (0..DECISIONS)
            .map(|number| {
                // One in ten asks for what is another team's.
                let person = number * 31 % people.len();
                let away = usize::from(number.is_multiple_of(10));
                let facts = facts(action, &people[person], &targets[(person + away) % targets.len()]);
                let began = Instant::now();
                let verdict = policies.decide(&facts);
                let took = began.elapsed();
                allowed += usize::from(verdict.allowed);
                took
            })
            .collect();
        assert!(allowed > DECISIONS / 2, "{action:?}: {allowed}");
        let name = format!("{}, {} policies", action.as_str(), policies.count());
        row(&format!("decision: {name}"), took, Some(DECISION_GOAL));
    }
}

/// A store with the inventory and every grant. Filled in memory where there is
/// such a place: ten thousand commits on a disk take minutes.
async fn filled(dir: &Path, people: &[Identity], targets: &[Target]) -> SqliteStore {
    let quick = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let at = quick.path().join("store.db");
    let store = SqliteStore::create(&at).await.unwrap();
    store.put_inventory(targets, people).await.unwrap();
    for number in 0..GRANTS {
        let person = number * 31 % people.len();
        let one = grant(number, &people[person], &targets[person]);
        store.add_grant(&one).await.unwrap();
    }
    for person in people {
        let uses = [
            ("source", "10.1.2.0/24"),
            ("target", "h1"),
            ("hour", "11"),
            ("capability", "shell"),
        ];
        let uses = uses.map(|(facet, value)| Use {
            identity: person.name.clone(),
            facet,
            value: value.to_owned(),
            amount: 1,
            at_ms: NOW - HOUR,
        });
        store.note_uses(&uses).await.unwrap();
    }
    store.close().await;
    let path = dir.join("store.db");
    std::fs::copy(at, &path).unwrap();
    SqliteStore::open(&path).await.unwrap()
}

/// The way of a login up to the dial: the certificate by itself, its grant by
/// the hash, the inventory, the policies; then the transaction.
async fn connects(policies: &Policies, people: &[Identity], targets: &[Target]) {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path(), people, targets).await;
    let trust = AdmissionTrust {
        ca_keys: vec![CA.to_vec()],
        lifetime_secs_max: 24 * 3600,
    };
    let peer = IpAddr::from([10, 1, 2, 3]);
    let (mut decided, mut read, mut whole, mut opened) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..CONNECTS {
        let number = number * 7919 % GRANTS;
        let person = number * 31 % people.len();
        let shown = presented(&grant(number, &people[person], &targets[person]));
        let wanted = format!("root@{}", targets[person].name).parse().unwrap();
        let began = Instant::now();
        let row = store.grant_by_certificate(shown.sha256).await.unwrap();
        let admitted = admit::admit(&shown, &trust, &wanted, peer, NOW, row.as_ref()).unwrap();
        let found = began.elapsed();
        let (target, identity, _, history) = tokio::join!(
            store.target(&admitted.destination().target),
            store.identity(admitted.identity()),
            store.grant(admitted.grant()),
            anomaly::history(&store, admitted.identity()),
        );
        let asked = Instant::now();
        let facts = facts(Action::Connect, &identity.unwrap().unwrap(), &target.unwrap().unwrap());
        let context = Context {
            now: NOW,
            env_allowed: &[],
            subsystems: &[],
            store_alive: true,
            policies,
            facts: &facts,
            history: &history.unwrap(),
        };
        let permit = policy::decide(&admitted, Request::Connect, &context).unwrap();
        let all = began.elapsed();
        let deciding = asked.elapsed();
        decided.push(found + deciding);
        read.push(all - found - deciding);
        whole.push(all);
        assert!(!permit.rules().is_empty());
        if opened.len() < OPENINGS {
            let session = SessionRow {
                id: SessionId(sha256(number)[..16].try_into().unwrap()),
                node: "node1".parse().unwrap(),
                grant: admitted.grant(),
                identity: admitted.identity().clone(),
                destination: admitted.destination().clone(),
                source: peer.to_string(),
                started_ms: NOW,
                until_ms: admitted.until_ms(),
                ended_ms: None,
                end_code: None,
            };
            let began = Instant::now();
            store.open_session(&session, shown.sha256, NOW).await.unwrap();
            opened.push(began.elapsed());
        }
    }
    let name = format!("{GRANTS} grants, {} policies", policies.count());
    row(
        &format!("connect: grant and decision, {name}"),
        decided,
        Some(DECISION_GOAL),
    );
    row("connect: inventory and history read for it", read, None);
    row("connect: all of this", whole, None);
    row("connect: its transaction, on the disk", opened, None);
    store.close().await;
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let files = house();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--write-policies", dir] => {
            for (name, text) in files {
                std::fs::write(Path::new(dir).join(name), text).unwrap();
            }
            return;
        }
        _ => panic!("usage: [--write-policies DIR]"),
    }
    let began = Instant::now();
    let policies = Policies::load(&files).unwrap_or_else(|why| panic!("{why:?}"));
    row("all policies read, checked and sorted", vec![began.elapsed()], None);
    assert!(policies.count() > TEAMS * OF_A_TEAM);
    let people: Vec<Identity> = (0..TEAMS * 8).map(identity).collect();
    let targets: Vec<Target> = (0..TEAMS * 8).map(target).collect();
    decisions(&policies, &people, &targets);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(connects(&policies, &people, &targets));
}
