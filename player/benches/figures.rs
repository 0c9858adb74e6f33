//! What an investigator waits for: `cargo bench -p portcullis-player`. Prints figures; says which goal one misses.
//!
//! `cargo bench -p portcullis-player -- grep` takes only those whose name contains the word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_player::channels::survey;
use portcullis_player::find::{Query, Reading, Wanted};
use portcullis_player::grid::{Grid, Stream};
use portcullis_player::hunt::{Hunt, Step, Way};
use portcullis_player::playback::Playback;
use portcullis_player::source::{Cursor, Source};
use portcullis_player::timeline::Timeline;
use portcullis_recording::{Batch, Event};
use sha2::{Digest, Sha256};
use support::*;

/// Output of the large recording.
const LARGE_BYTES: u64 = 1 << 30;
/// Raw bytes of its chunks, as the server makes them.
const CHUNK_BYTES: usize = 1 << 20;
/// Recordings in the folder that is searched, and the output of each.
const MANY: usize = 1000;
const MANY_BYTES: usize = 150_000;
/// Stored bytes of the recording that does not shrink.
const DENSE_BYTES: u64 = 512 << 20;

const OPEN_GOAL: Duration = Duration::from_millis(1000);
const SEEK_GOAL: Duration = Duration::from_millis(50);
const SEARCH_GOAL: Duration = Duration::from_secs(10);
const GREP_GOAL: Duration = Duration::from_secs(1);
const VERIFY_GOAL_MB_S: f64 = 500.0;

/// Draws that are the same each time.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|word| name.contains(word.as_str()));
    let here = Desk::new();
    println!(
        "load {}",
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    );
    if wanted("large") || wanted("seek") {
        large(&here);
    }
    if wanted("grep") {
        grep(&here);
    }
    if wanted("verify") {
        verify(&here);
    }
}

fn told(name: &str, is: Duration, goal: Duration) {
    let word = if is < goal { "met" } else { "MISSED" };
    println!("  {name:<44} {is:>10.1?}  goal {goal:?}: {word}");
}

/// A line of output that scrolls.
fn line(draws: &mut Draws, n: u64) -> String {
    match draws.below(4) {
        0 => format!(
            "-rw-r--r-- 1 root root {:>8} Nov 21 10:{:02} \x1b[01;32mlibfile-{n}.so.{}\x1b[0m\r\n",
            draws.below(9_999_999),
            draws.below(60),
            draws.below(9)
        ),
        1 => format!(
            "\x1b[1m\x1b[32m   Compiling\x1b[0m package-{n} v0.{}.{}\r\n",
            draws.below(99),
            draws.below(99)
        ),
        2 => format!(
            "2026-11-21T10:{:02}:{:02}Z host-{} service[{n}]: request took {} ms\r\n",
            draws.below(60),
            draws.below(60),
            draws.below(40),
            draws.below(5000)
        ),
        _ => format!(
            "src/module_{}/file_{n}.rs:{}: let value = compute({});\r\n",
            draws.below(50),
            draws.below(2000),
            n
        ),
    }
}

fn write_large(path: &Path) {
    let (mut writer, mut main, head) = open(9);
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&head).unwrap();
    let (mut draws, mut at_ms, mut total, mut n) = (Draws(7), 0, 0u64, 0);
    let mut keyframe: Option<String> = None;
    while total < LARGE_BYTES {
        let mut batch = Batch::new();
        match keyframe.take() {
            None => batch.push(at_ms, 1, &size(0, 120, 40).2).unwrap(),
            Some(dump) => {
                let screen = Event::Keyframe {
                    cols: 120,
                    rows: 40,
                    dump: dump.into(),
                };
                batch.push(at_ms, 1, &screen).unwrap();
            }
        }
        let (mut chunk, mut last) = (0, Vec::new());
        while chunk < CHUNK_BYTES {
            let mut text = String::new();
            for _ in 0..20 {
                n += 1;
                text += &line(&mut draws, n);
            }
            at_ms += 3;
            chunk += text.len();
            last.push(text.clone());
            batch.push(at_ms, 1, &out(0, text).2).unwrap();
        }
        total += chunk as u64;
        // Nothing but scrolling lines: the last few hundred make the screen.
        let mut grid = Grid::new(120, 40);
        for text in last.iter().rev().take(10).rev() {
            grid.feed(Stream::Out, text.as_bytes());
        }
        keyframe = Some(grid.terminal().dump());
        file.write_all(&writer.put_batch(batch, 1, &mut main).unwrap()).unwrap();
    }
    let (bytes, seal) = writer
        .finish(&mut main, at_ms + 1, "exit", "the program ended")
        .unwrap();
    file.write_all(&bytes).unwrap();
    file.flush().unwrap();
    std::fs::write(path.with_extension("pcr.proof"), proof(&seal)).unwrap();
}

fn playback(source: Source) -> Playback {
    let mut cursor = Cursor::new(source);
    let channels = survey(&mut cursor).unwrap();
    Playback::new(cursor, channels, 1, Timeline::new(100, None))
}

fn large(here: &Desk) {
    let path = here.path("large.pcr");
    write_large(&path);
    let stored = std::fs::metadata(&path).unwrap().len();
    println!("1 GiB of output, {} MB stored", stored / 1_000_000);
    std::fs::read(&path).unwrap();
    let started = Instant::now();
    let mut p = playback(opened(&path));
    p.seek(0);
    told("open, verify, first picture", started.elapsed(), OPEN_GOAL);
    let length_ms = p.length_ms();
    let mut draws = Draws(3);
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let to_ms = draws.below(length_ms);
            let started = Instant::now();
            p.seek(to_ms);
            assert!(p.grid().is_some() && !p.is_guessed() && p.fault().is_none());
            started.elapsed()
        })
        .collect();
    times.sort();
    told("seek, median of 100", times[50], SEEK_GOAL);
    told("seek, slowest of 100", times[99], SEEK_GOAL);
    let query = Query::new("nowhere to be found", Reading::default()).unwrap();
    let cursor = Cursor::new(p.source().again().unwrap());
    let mut hunt = Hunt::new(cursor, p.channels().clone(), Wanted::Text(Box::new(query)));
    hunt.begin(None, Way::On);
    let (started, mut slowest) = (Instant::now(), Duration::ZERO);
    loop {
        let step = Instant::now();
        let found = hunt.step().unwrap();
        slowest = slowest.max(step.elapsed());
        match found {
            Step::Searching(_) => {}
            Step::Nothing => break,
            Step::Found(hit) => panic!("{hit:?}"),
        }
    }
    told("search all of it while playing", started.elapsed(), SEARCH_GOAL);
    told("keys wait for the search at most", slowest, SEEK_GOAL);
}

/// A shell session: prompts with line editing, output, now and then a full-screen program.
fn session(n: u64) -> Vec<Row> {
    let mut draws = Draws(n * 77 + 1);
    let mut rows = vec![size(0, 80, 24), request(1, 1, "shell", b"")];
    let (mut at_ms, mut total) = (10, 0);
    while total < MANY_BYTES {
        let mut put = |at_ms: &mut u64, text: String| {
            *at_ms += 40;
            total += text.len();
            rows.push(out(*at_ms, text));
        };
        put(
            &mut at_ms,
            "\x1b[?2004h\x1b]0;root@db1: ~\x07\x1b[01;32mroot@db1\x1b[00m:\x1b[01;34m~\x1b[00m# ".to_owned(),
        );
        for key in format!("ls -l /srv/{}", draws.below(99)).chars() {
            put(&mut at_ms, key.to_string());
        }
        put(&mut at_ms, "\x08\x1b[K7\r\n\x1b[?2004l\r".to_owned());
        if draws.below(20) == 0 {
            put(
                &mut at_ms,
                "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\x1b[H\x1b[2J".to_owned(),
            );
            for _ in 0..4 {
                let mut screen = "\x1b[H".to_owned();
                for row in 1..24 {
                    let (pid, share) = (draws.below(99_999), draws.below(100));
                    screen += &format!("\x1b[{row};1H{pid:>7} root  20   0 {share:>3}.0  process-{row}\x1b[K");
                }
                put(&mut at_ms, screen);
            }
            put(&mut at_ms, "\x1b[?1l\x1b>\x1b[24;1H\x1b[?1049l".to_owned());
        }
        for burst in 0..draws.below(12) {
            let text: String = (0..=draws.below(25))
                .map(|i| line(&mut draws, burst * 31 + i))
                .collect();
            put(&mut at_ms, text);
        }
    }
    rows.push(out(at_ms + 1, format!("this is the needle of {n:04}\r\n")));
    rows
}

fn grep(here: &Desk) {
    std::fs::create_dir(here.path("many")).unwrap();
    let mut output = 0;
    for n in 0..MANY {
        let rows = session(n as u64);
        output += rows
            .iter()
            .map(|(_, _, event)| portcullis_player::source::weight(event))
            .sum::<usize>();
        here.sealed(&format!("many/{n:04}.pcr"), &[rows]);
    }
    println!("{MANY} recordings with {} MB of output", output / 1_000_000);
    let run = |name: &str, args: &[&str], hits: usize| {
        let go = || {
            let args = [&["grep", "--trust", "trust.toml"], args, &["many"]].concat();
            let started = Instant::now();
            let ran = here.run(&args);
            (started.elapsed(), ran)
        };
        // Once to warm the cache, then the best of three.
        let (_, ran) = go();
        assert_eq!(ran.out.lines().count(), hits, "{name}: {}", ran.err);
        let best = (0..3).map(|_| go().0).min().unwrap();
        told(name, best, GREP_GOAL);
    };
    run("grep, one hit in all", &["needle of 0500"], 1);
    run("grep, one hit in each", &["needle of"], MANY);
    run(
        "grep -i, a pattern, nothing",
        &["-i", "no(thing|where) [0-9]+ to be found"],
        0,
    );
    run("grep --raw, one hit in all", &["--raw", "needle of 0500"], 1);
    run("grep --input, nothing", &["--input", "needle"], 0);
}

fn verify(here: &Desk) {
    let path = here.path("dense.pcr");
    let (mut writer, mut main, head) = open(9);
    let mut file = BufWriter::new(File::create(&path).unwrap());
    file.write_all(&head).unwrap();
    let (mut at_ms, mut stored) = (0, 0);
    let mut noise = Vec::new();
    for i in 0..(CHUNK_BYTES / 32) as u64 {
        noise.extend_from_slice(&Sha256::digest(i.to_le_bytes()));
    }
    while stored < DENSE_BYTES {
        let mut batch = Batch::new();
        at_ms += 1000;
        batch.push(at_ms, 1, &out(0, &noise[..CHUNK_BYTES - 1000]).2).unwrap();
        let bytes = writer.put_batch(batch, 1, &mut main).unwrap();
        stored += bytes.len() as u64;
        file.write_all(&bytes).unwrap();
    }
    let (bytes, seal) = writer
        .finish(&mut main, at_ms + 1, "exit", "the program ended")
        .unwrap();
    file.write_all(&bytes).unwrap();
    file.flush().unwrap();
    here.put("dense.pcr.proof", proof(&seal).as_bytes());
    std::fs::read(&path).unwrap();
    let go = || {
        let started = Instant::now();
        let done = Command::new(env!("CARGO_BIN_EXE_portcullis-player"))
            .args(["verify", "dense.pcr", "--trust", "trust.toml"])
            .current_dir(here.dir.path())
            .output()
            .unwrap();
        assert!(done.status.success());
        started.elapsed()
    };
    let best = (0..3).map(|_| go()).min().unwrap();
    let rate = stored as f64 / 1e6 / best.as_secs_f64();
    let word = if rate >= VERIFY_GOAL_MB_S { "met" } else { "MISSED" };
    println!("{} MB stored", stored / 1_000_000);
    println!(
        "  {:<44} {rate:>6.0} MB/s  goal {VERIFY_GOAL_MB_S} MB/s: {word}",
        "verify"
    );
}
