//! Just-in-time access as a whole, by itself: a simulation of seeds in virtual
//! time with the rules written beside it, and real races of admission against
//! revocation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

mod asking;
mod coming;
mod draws;
mod house;
mod model;
mod names;
mod paper;
mod races;
mod sim;
mod sqlite;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use paper::Paper;
use sim::{Sim, Tally};
use sqlite::{Sqlite, Template};

/// Seeds of a run of the tests.
const SEEDS: u64 = 10_000;
/// One seed in so many runs on the real store and the real registry.
const ON_SQLITE_EVERY: u64 = 25;
/// Steps of a seed.
const STEPS: usize = 120;
/// How often a campaign says how far it is, in seeds.
const SAY_EVERY: u64 = 100_000;

fn template() -> Template {
    let people: Vec<String> = (0..names::PEOPLE).map(names::person).collect();
    let targets: Vec<String> = (0..names::TARGETS).map(names::target).collect();
    Template::new(&people, &targets)
}

/// Runs one seed.
///
/// # Errors
/// What broke.
fn seed(seed: u64, template: &Template, talks: bool) -> Result<Tally, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let clock = sim::clock();
        match seed % ON_SQLITE_EVERY {
            0 => {
                let mut sim = Sim::new(seed, clock.clone(), Sqlite::new(clock, template), talks);
                sim.run(STEPS).map(|()| sim.tally)
            }
            _ => {
                let mut sim = Sim::new(seed, clock.clone(), Paper::new(clock), talks);
                sim.run(STEPS).map(|()| sim.tally)
            }
        }
    }));
    ran.unwrap_or_else(|_| Err("it panicked, see above".to_owned()))
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs these seeds on every core; stops at the first that breaks.
fn seeds(first: u64, count: u64) -> Tally {
    let template = template();
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (total, broken) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number - first >= count {
                        break;
                    }
                    if number > first && (number - first).is_multiple_of(SAY_EVERY) {
                        println!("{} seeds", number - first);
                    }
                    match seed(number, &template, false) {
                        Ok(seen) => tally.add(&seen),
                        Err(why) => {
                            broken.lock().unwrap().push((number, why));
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
                total.lock().unwrap().add(&tally);
            });
        }
    });
    let mut broken = broken.into_inner().unwrap();
    broken.sort();
    if let Some((number, why)) = broken.first() {
        println!("seed {number}, from the beginning:");
        seed(*number, &template, true).err();
        panic!(
            "seed {number}: {why}\nagain: JIT_SEED={number} cargo test --release --test jit the_rules_hold -- --nocapture"
        );
    }
    total.into_inner().unwrap()
}

/// What a run of seeds has to have met, or it has proved nothing.
const MET: &[&str] = &[
    "requests",
    "yes",
    "no",
    "answers refused",
    "withdrawn",
    "certificates",
    "certificates replaced",
    "collecting refused",
    "grants for more",
    "admitted",
    "no_grant",
    "grant_revoked",
    "grant_used",
    "grant_not_yet",
    "cert_expired",
    "cert_source_address",
    "connect refused",
    "sessions",
    "opening refused",
    "opening unheard",
    "permits",
    "denials",
    "revocations",
    "cut by revocation",
    "ended by a clock",
    "renewals failed",
    "steps back",
    "steps forward",
    "restarts",
];

/// Ten thousand seeds; `JIT_SEED=n` plays one aloud, `JIT_SEEDS=count` and
/// `JIT_FIRST=n` are a campaign (`tests/campaigns/jit`).
#[test]
fn the_rules_hold_whatever_a_seed_draws() {
    if let Some(one) = variable("JIT_SEED") {
        let ran = seed(one, &template(), true);
        ran.unwrap_or_else(|why| panic!("seed {one}: {why}"));
        return;
    }
    let count = variable("JIT_SEEDS").unwrap_or(SEEDS);
    let first = variable("JIT_FIRST").unwrap_or(0);
    let tally = seeds(first, count);
    println!("{count} seeds from {first}: {:?}", tally.0);
    let missing: Vec<&&str> = MET.iter().filter(|what| !tally.0.contains_key(**what)).collect();
    assert!(missing.is_empty() || count < SEEDS, "never met: {missing:?}");
}
