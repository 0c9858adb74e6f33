//! The figures of searches: an index of many recordings, asked again and again.
//!
//! Usage: tests/bench/run search [--recordings N] [--commands N]
//!
//! Recordings are drawn, not recorded: their words follow a long tail, as
//! those of people do. What is timed is the answer of the index with up to 50
//! hits; holding hits against recordings comes on top, and is bounded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on has failed"
)]

use std::time::{Duration, Instant};

use portcullis::clock::Clock;
use portcullis::kernel::id::SessionId;
use portcullis::search::{Index, Query, Recorded, Standing};
use portcullis_player::entry::{Entry, Kind};

const GOAL: Duration = Duration::from_millis(100);
/// Lines of screens for each command, in tenths.
const SCREEN_TENTHS: u64 = 2;
const HITS: usize = 50;
const TIMES: u64 = 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const START_MS: u64 = 1_760_000_000_000;

const PROGRAMS: [&str; 20] = [
    "systemctl",
    "ls",
    "cat",
    "grep",
    "vim",
    "tail",
    "kubectl",
    "psql",
    "rm",
    "cp",
    "docker",
    "git",
    "ssh",
    "curl",
    "journalctl",
    "chmod",
    "find",
    "tar",
    "mysqldump",
    "useradd",
];
const VERBS: [&str; 10] = [
    "restart", "status", "-la", "--now", "get", "-f", "select", "describe", "stop", "apply",
];
const LABELS: [&str; 4] = ["service", "destructive", "privilege", "exfiltration"];

/// Draws without a library: the same each time.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Small ones often, large ones seldom.
    fn tail(&mut self, n: u64) -> u64 {
        let most = self.below(n) + 1;
        let less = self.below(most) + 1;
        self.below(less)
    }

    fn command(&mut self) -> String {
        let program = PROGRAMS[self.tail(20) as usize];
        let verb = VERBS[self.below(10) as usize];
        let (unit, file) = (self.tail(20_000), self.tail(50_000));
        match self.below(3) {
            0 => format!("{program} {verb} unit{unit}.service"),
            1 => format!("sudo {program} {verb} /srv/app{unit}/file{file}.log"),
            _ => format!("{program} {verb} host{unit} | grep -i word{file}"),
        }
    }
}

fn recorded(n: u64, draws: &mut Draws, commands: u64) -> (Recorded, Vec<Entry>) {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let opened_ms = START_MS + n * DAY_MS / 10;
    let recorded = Recorded {
        session: SessionId(id),
        identity: format!("user{}", draws.tail(200)),
        login: "root".to_owned(),
        target: format!("db{}", draws.tail(300)),
        opened_ms,
        closed_ms: opened_ms + commands * 5_000,
        standing: Standing::Whole,
        why: String::new(),
    };
    let mut entries = vec![Entry::new(
        Kind::Session,
        0,
        0,
        &format!("{} as root", recorded.identity),
    )];
    for n in 0..commands {
        let text = draws.command();
        entries.push(Entry {
            status: Some(u32::from(draws.below(20) == 0)),
            labels: (draws.below(10) == 0)
                .then(|| LABELS[draws.tail(4) as usize].to_owned())
                .into_iter()
                .collect(),
            ..Entry::new(Kind::Command, n * 5_000, 1, &text)
        });
        if draws.below(10) < SCREEN_TENTHS {
            entries.push(Entry::new(Kind::Screen, n * 5_000 + 100, 1, &format!("$ {text}")));
        }
    }
    (recorded, entries)
}

/// A kind of query, and one of it.
const SHAPES: [(&str, fn(&mut Draws) -> String); 12] = [
    ("one common word", |_| "systemctl".to_owned()),
    ("two words", |d| {
        format!("{} {}", PROGRAMS[d.tail(20) as usize], VERBS[d.below(10) as usize])
    }),
    ("a rare word", |d| format!("unit{}", d.below(20_000))),
    ("a common and a rare one", |d| {
        format!("systemctl unit{}", d.tail(20_000))
    }),
    ("a phrase", |d| {
        format!("\"systemctl {} unit{}\"", VERBS[d.below(10) as usize], d.tail(2_000))
    }),
    ("a path", |d| format!("/srv/app{}/file{}.log", d.tail(200), d.tail(500))),
    ("longer forms of a word", |d| {
        format!("kind:command unit{}*", d.tail(100) + 100)
    }),
    ("a word of somebody", |d| format!("user:user{} systemctl", d.below(200))),
    ("a label at a target", |d| {
        format!(
            "target:db{} label:{} kind:command",
            d.tail(300),
            LABELS[d.below(4) as usize]
        )
    }),
    ("what failed of somebody", |d| {
        format!("user:user{} status:failed", d.tail(200))
    }),
    ("a word within a week", |d| {
        let day = d.below(90);
        let time = |day: u64| jiff::Timestamp::from_millisecond((START_MS + day * DAY_MS) as i64).unwrap();
        format!("restart after:{} before:{}", time(day), time(day + 7))
    }),
    ("a pattern behind a rare word", |d| {
        format!("unit{} /re(start|load)/", d.tail(20_000))
    }),
];

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

async fn asked(index: &Index, text: &str) -> (Duration, usize) {
    let query = Query::parse(text, START_MS).unwrap();
    let began = Instant::now();
    let page = index.page(&query, None, HITS, index.until()).await.unwrap();
    (began.elapsed(), page.hits.len())
}

fn argument(name: &str, otherwise: u64) -> u64 {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == name);
    at.map_or(otherwise, |at| args[at + 1].parse().expect("a number"))
}

#[tokio::main]
async fn main() {
    let recordings = argument("--recordings", 1_000);
    let commands = argument("--commands", 1_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.db");
    let index = Index::open(&path, Clock::system()).await.unwrap();
    let mut draws = Draws(6);
    let (began, mut entries) = (Instant::now(), 0);
    for n in 0..recordings {
        let (recorded, some) = recorded(n, &mut draws, commands);
        entries += some.len();
        index.put(&recorded, some).await.unwrap();
    }
    let took = began.elapsed();
    let each = took / u32::try_from(recordings).unwrap();
    let size = std::fs::metadata(&path).unwrap().len() >> 20;
    println!(
        "{recordings} recordings, {} commands, {entries} entries: put in in {:.1} s, {} each; {size} MiB",
        recordings * commands,
        took.as_secs_f64(),
        ms(each)
    );
    println!(
        "| {:<32} | {:<9} | {:<9} | {:<9} | hits |",
        "query", "p50", "p95", "worst"
    );
    let mut all = Vec::new();
    for (name, make) in SHAPES {
        let (mut took, mut hits) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let (one, found) = asked(&index, &make(&mut draws)).await;
            took.push(one);
            hits += found;
        }
        took.sort();
        let (p50, p95) = (percentile(&took, 50), percentile(&took, 95));
        let worst = *took.last().unwrap();
        println!(
            "| {name:<32} | {:<9} | {:<9} | {:<9} | {hits:>4} |",
            ms(p50),
            ms(p95),
            ms(worst)
        );
        all.extend(took);
    }
    all.sort();
    let p95 = percentile(&all, 95);
    let held = if p95 < GOAL { "held" } else { "MISSED" };
    println!(
        "indexed queries: p50 {}, p95 {}: goal under 100 ms: {held}",
        ms(percentile(&all, 50)),
        ms(p95)
    );
    let (alone, found) = asked(&index, "/nothing.*like-this/").await;
    println!(
        "a pattern alone, which nothing is indexed for: {}, {found} hits",
        ms(alone)
    );
    let session = SessionId([0; 16]);
    let began = Instant::now();
    index.forget(session).await.unwrap();
    println!("one recording taken out for good: {}", ms(began.elapsed()));
}
