//! Reading fast and reading through the emulator come to the same: the same lines at the same time, the same screen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use portcullis_player::grid::{Grid, Stream};
use portcullis_player::haste::Haste;
use portcullis_player::watch::Watch;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Sessions drawn.
const CASES: u32 = 3000;

/// What scrolls and what edits a line, which is read fast.
const PLAIN: [&str; 27] = [
    "foo",
    "a",
    "some words ",
    "fo",
    "o",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r\n$ ",
    "\n",
    "\r",
    "\x08",
    "\x08\x1b[K",
    "\r\x1b[K",
    "\t",
    "\x1b[m",
    "\x1b[01;31m",
    "\x1b[48;5;7m",
    "\x1b[?2004h",
    "\x1b[?2004l\r",
    "\x1b]0;title foo\x07",
    "\x1b[3C",
    "\x1b[2D",
    "\x1b[J",
    "\x07",
    "é",
    "this is a line that is longer than the screen is wide, foo",
];

/// What only the emulator understands.
const OTHER: [&str; 36] = [
    "\x1b[A",
    "\x1b[H",
    "\x1b[2J",
    "\x1b[3;4Hfoo",
    "\x1b[1J",
    "\x1b[1K",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[?1049h\x1b[Hfoo\x1b[?1049l",
    "\x1b[2;4r",
    "\x1b[r",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[20h",
    "\x1b[20l",
    "\x1b[?7l",
    "\x1b[?7h",
    "\x1b[?6h",
    "\x1b[?6l",
    "\x1b(0",
    "\x1b(B",
    "\x0e",
    "\x0f",
    "\x1b)0",
    "\x1b7",
    "\x1b8",
    "\x1bH",
    "\x1b[3g",
    "\x1bc",
    "\x1b[L",
    "\x1b[M",
    "\x1b[3@",
    "\x1b[2P",
    "x\x1b[4b",
    "界",
    "\x1b[!p",
];

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Other(String),
    Bytes(Vec<u8>),
    Size(u32, u32),
}

/// A narrow terminal wraps most lines. There nothing is erased or shifted, and what is told twice is not counted: a wrapped
/// line of which a row was torn is several lines to the emulator, which tells them again.
fn parts(narrow: bool) -> impl Strategy<Value = Vec<Part>> {
    let tears = |text: &&str| text.ends_with(['K', 'J', 'P', '@', 'L', 'M', 'r']);
    let plain: Vec<&str> = PLAIN.into_iter().filter(|text| !(narrow && tears(text))).collect();
    let other: Vec<&str> = OTHER.into_iter().filter(|text| !(narrow && tears(text))).collect();
    let (cols_min, cols_max) = if narrow { (1u32, 30u32) } else { (200, 300) };
    let part = prop_oneof![
        60 => proptest::sample::select(plain).prop_map(|text| Part::Text(text.to_owned())),
        5 => proptest::sample::select(other).prop_map(|text| Part::Other(text.to_owned())),
        1 => proptest::collection::vec(any::<u8>(), 1..4).prop_map(Part::Bytes),
        1 => (cols_min..cols_max, 1u32..8).prop_map(|(cols, rows)| Part::Size(cols, rows)),
        // So much that lines are let go of.
        1 => (20usize..800).prop_map(|n| Part::Text((0..n).map(|i| format!("line {i} of many words foo{}\r\n", i % 9)).collect())),
    ];
    proptest::collection::vec(part, 1..60)
}

fn runner() -> TestRunner {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Feeds both, in events that end where `cut` says so. What the emulator tells the other tells, at the same time; and it
/// tells nothing that the emulator did not, then or earlier, unless `more` is fine. That a part of a line that was told is
/// told again, because the line was torn by erasing, or wiped and printed anew, is no difference.
fn run(narrow: bool, cut: fn(&Part, bool) -> bool, more: bool) {
    let wanted = |text: &str| text.contains("foo");
    let done = runner().run(&(parts(narrow), any::<u64>()), |(parts, cuts)| {
        let cols = if narrow { 20 } else { 200 };
        let (mut fast, mut slow) = (Watch::new(cols, 5), Watch::new(cols, 5).unhurried());
        let mut event: Vec<u8> = Vec::new();
        let (mut all_fast, mut all_slow) = (Vec::<String>::new(), Vec::<String>::new());
        for (i, part) in parts.iter().enumerate() {
            let ends = i + 1 == parts.len() || cut(&parts[i + 1], cuts >> (i % 64) & 1 == 1);
            match part {
                Part::Text(text) | Part::Other(text) => event.extend_from_slice(text.as_bytes()),
                Part::Bytes(bytes) => event.extend_from_slice(bytes),
                Part::Size(cols, rows) => {
                    all_fast.extend(fast.resize(*cols, *rows, &wanted));
                    all_slow.extend(slow.resize(*cols, *rows, &wanted));
                }
            }
            if ends || matches!(part, Part::Size(..)) {
                let event = std::mem::take(&mut event);
                let (told_fast, told_slow) = (
                    fast.feed(Stream::Out, &event, &wanted),
                    slow.feed(Stream::Out, &event, &wanted),
                );
                all_slow.extend(told_slow.clone());
                all_fast.extend(told_fast.clone());
                let part_of = |all: &[String], line: &String| all.iter().any(|told| told.contains(line.as_str()));
                let missed = told_slow.iter().any(|line| !part_of(&all_fast, line));
                let made_up = told_fast.iter().any(|line| !part_of(&all_slow, line));
                prop_assert!(
                    !missed && (more || !made_up),
                    "fast {:?} slow {:?} at {:?}",
                    told_fast,
                    told_slow,
                    String::from_utf8_lossy(&event)
                );
            }
        }
        prop_assert_eq!(fast.screen(&wanted), slow.screen(&wanted));
        Ok(())
    });
    done.unwrap();
}

#[test]
fn fast_and_slow_show_and_tell_the_same() {
    let alone = |next: &Part, drawn: bool| drawn || !matches!(next, Part::Text(_));
    run(true, alone, true);
    run(false, alone, false);
}

/// If an event goes on with what only the emulator understands, a line that ended before and is drawn over in the same
/// breath is told as well.
#[test]
fn within_an_event_nothing_is_missed() {
    let anywhere = |next: &Part, drawn: bool| drawn || matches!(next, Part::Size(..));
    run(false, anywhere, true);
}

/// Going somewhere in a hurry shows what playing shows: every cell, every colour, the cursor, the modes.
#[test]
fn in_a_hurry_the_same_is_drawn() {
    for narrow in [true, false] {
        let done = runner().run(&parts(narrow), |parts| {
            let cols = if narrow { 20 } else { 200 };
            let (mut fast, mut slow) = (Haste::new(Grid::new(cols, 5)), Grid::new(cols, 5));
            for part in parts {
                match part {
                    Part::Text(text) | Part::Other(text) => {
                        fast.wind(Stream::Out, text.as_bytes());
                        slow.feed(Stream::Out, text.as_bytes());
                    }
                    Part::Bytes(bytes) => {
                        fast.wind(Stream::Out, &bytes);
                        slow.feed(Stream::Out, &bytes);
                    }
                    Part::Size(cols, rows) => {
                        fast.grid_mut().resize(cols, rows);
                        slow.resize(cols, rows);
                    }
                }
            }
            prop_assert_eq!(fast.grid_mut().terminal().dump(), slow.terminal().dump());
            Ok(())
        });
        done.unwrap();
    }
}
