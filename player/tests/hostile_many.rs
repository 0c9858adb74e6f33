//! Hostile streams by the hundred, from a table and drawn: nothing of them reaches the viewer's terminal, standard output
//! or standard input but cells and text, and time and memory stay within bounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

use portcullis_player::channels::{Channels, survey};
use portcullis_player::find::{Finder, Query, Reading, Wanted};
use portcullis_player::grid::{Grid, Stream};
use portcullis_player::hunt::Way;
use portcullis_player::keys::{Act, Amount};
use portcullis_player::playback::Playback;
use portcullis_player::source::Cursor;
use portcullis_player::timeline::Timeline;
use portcullis_player::viewer::{Viewer, Words};
use portcullis_recording::Event;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use support::*;

/// Sequences that make some terminal answer, or do what a viewer did not ask for. `S` marks what must not get through.
const SEEDS: [&str; 46] = [
    // Clipboard, titles, notifications, links, files, colours that are asked for.
    "\x1b]52;c;UzEyMzQ1\x07",
    "\x1b]52;c;?\x07",
    "\x1b]0;SECRET\x07",
    "\x1b]2;SECRET\x1b\\",
    "\x1b]9;SECRET\x07",
    "\x1b]777;notify;SECRET;SECRET\x07",
    "\x1b]8;;http://SECRET\x07x\x1b]8;;\x07",
    "\x1b]1337;File=inline=1:U0VD\x07",
    "\x1b]1337;RequestAttention=1\x07",
    "\x1b]4;1;?\x07",
    "\x1b]10;?\x07",
    "\x1b]11;?\x1b\\",
    "\x1b]50;SECRET\x07",
    "\x1b]7;file://SECRET\x07",
    "\x1b]133;A\x07",
    // What a terminal answers to: device status and attributes, sizes, modes, strings.
    "\x1b[5n",
    "\x1b[6n",
    "\x1b[?6n",
    "\x1b[c",
    "\x1b[>c",
    "\x1b[=c",
    "\x1bZ",
    "\x05",
    "\x1b[18t",
    "\x1b[21t",
    "\x1b[?2026$p",
    "\x1b[x",
    "\x1bP$qm\x1b\\",
    "\x1bP+q544e\x1b\\",
    // Device control, private and application strings.
    "\x1bPq#0;2;0;0;0SECRET\x1b\\",
    "\x1b_GSECRET\x1b\\",
    "\x1b^SECRET\x1b\\",
    "\x1bXSECRET\x1b\\",
    // C1 controls, as characters.
    "\u{9b}6n",
    "\u{9d}0;SECRET\u{9c}",
    "\u{90}q\u{9c}",
    "\u{9f}SECRET\u{9c}",
    // Modes of the mouse, of pasting, of keys; printing.
    "\x1b[?1000;1003;1006h",
    "\x1b[?2004h",
    "\x1b[>4;2m",
    "\x1b[5i",
    "\x1b[?5i",
    // Bombs: repetition, sizes, moves, clears.
    "x\x1b[65535b",
    "\x1b[8;65535;65535t",
    "\x1b[65535;65535H\x1b[65535@\x1b[65535P\x1b[65535L\x1b[65535M",
    "\x1b#8\x1bc",
];

/// Ways to wrap a sequence; with the seeds they make the table.
const FORMS: [fn(&str) -> Vec<u8>; 5] = [
    |seed| seed.as_bytes().to_vec(),
    |seed| seed.repeat(300).into_bytes(),
    // Never ended.
    |seed| {
        seed.trim_end_matches(['\x07', '\\', '\u{9c}', '\x1b'])
            .as_bytes()
            .to_vec()
    },
    // On the alternate screen, in a scroll region, wrapped in a passthrough.
    |seed| format!("\x1b[?1049h\x1b[2;3r\x1bPtmux;\x1b{seed}\x1b\\{seed}").into_bytes(),
    // C1 controls as bytes, which is no UTF-8.
    |seed| {
        seed.replace("\x1b[", "\u{9b}")
            .replace("\x1b]", "\u{9d}")
            .replace("\x1bP", "\u{90}")
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect()
    },
];

/// Cases drawn beside the table.
const DRAWN: u32 = 256;

#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Vec<u8>>>);

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Plays a session with all that keys can do, and holds every byte that the viewer's terminal would get against what
/// cells are made of.
fn watch(here: &Desk, name: &str) {
    let wire = Wire::default();
    let viewport = Viewport::Fixed(Rect::new(0, 0, 70, 20));
    let mut terminal =
        Terminal::with_options(CrosstermBackend::new(wire.clone()), TerminalOptions { viewport }).unwrap();
    let mut cursor = Cursor::new(opened(&here.path(name)));
    let channels = survey(&mut cursor).unwrap();
    let playback = Playback::new(cursor, channels, 1, Timeline::new(100, Some(100)));
    let mut viewer = Viewer::new(playback, Words::default());
    let acts = [
        Act::Step,
        Act::Step,
        Act::End,
        Act::Scroll(Way::Back, Amount::Screen),
        Act::Marker(Way::Back),
        Act::Help,
        Act::Tenth(5),
    ];
    for act in acts {
        viewer.obey(act);
        while viewer.is_busy() {
            viewer.advance(0);
        }
        terminal
            .draw(|frame| {
                let area = frame.area();
                viewer.draw(frame.buffer_mut(), area);
            })
            .unwrap();
        assert_only_cells(&wire.0.take());
    }
    assert!(viewer.playback.fault().is_none());
}

/// A session that has this as output, typed, in a notice, a marker, a request and the end, cut at every so many bytes.
fn session(bytes: &[u8], cut: usize, size_of: (u32, u32)) -> Vec<Vec<Row>> {
    let text: String = String::from_utf8_lossy(bytes).chars().take(2000).collect();
    let mut rows = vec![size(0, size_of.0, size_of.1), request(1, 1, "shell", b"")];
    rows.extend(bytes.chunks(cut).enumerate().map(|(i, part)| out(2 + i as u64, part)));
    let at_ms = rows.last().map_or(0, |row| row.0) + 1;
    rows.push((at_ms, 1, Event::Input(bytes[..bytes.len().min(4096)].to_vec().into())));
    rows.push(size(at_ms, 65_535, 65_535));
    rows.push(out(at_ms, bytes));
    rows.push((
        at_ms,
        1,
        Event::Marker {
            text: text.clone().into(),
        },
    ));
    rows.push((
        at_ms,
        0,
        Event::End {
            code: text.clone().into(),
            text: text.into(),
        },
    ));
    vec![rows]
}

#[test]
fn every_seed_in_every_form_draws_cells_only() {
    let here = Desk::new();
    let mut cases = 0;
    for seed in SEEDS {
        for form in FORMS {
            let bytes = form(seed);
            here.sealed("h.pcr", &session(&bytes, 7.max(bytes.len() / 50), (80, 24)));
            watch(&here, "h.pcr");
            cases += 1;
        }
    }
    assert_eq!(cases, SEEDS.len() * FORMS.len());
    assert!(cases >= 200, "{cases}");
}

#[test]
fn what_is_drawn_at_random_draws_cells_only() {
    let here = Desk::new();
    let part = prop_oneof![
        4 => proptest::sample::select(SEEDS.to_vec()).prop_map(|seed| seed.as_bytes().to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 0..40),
        2 => "\\PC{0,20}".prop_map(String::into_bytes),
        2 => (any::<u16>(), any::<u16>(), 0x40u8..0x7F).prop_map(|(a, b, end)| format!("\x1b[{a};{b}{}", char::from(end)).into_bytes()),
        1 => (any::<u16>(), 0x40u8..0x7F).prop_map(|(a, end)| format!("\x1b[?{a}{}", char::from(end)).into_bytes()),
    ];
    let stream = (
        proptest::collection::vec(part, 1..20),
        1usize..64,
        any::<u32>(),
        0u32..300,
    );
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: DRAWN,
            failure_persistence: None,
            ..Config::default()
        },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let cases = RefCell::new(0);
    let done = runner.run(&stream, |(parts, cut, cols, rows)| {
        here.sealed("h.pcr", &session(&parts.concat(), cut, (cols, rows)));
        watch(&here, "h.pcr");
        *cases.borrow_mut() += 1;
        Ok(())
    });
    done.unwrap();
    assert!(*cases.borrow() >= DRAWN);
}

/// Whatever a byte asks for, it is paid for at the same low rate: a megabyte of the worst takes no longer than some
/// megabytes of text, and the grid stays as large as its bound.
#[test]
fn work_is_bounded_for_every_seed() {
    let pattern = Query::new("nowhere to be found", Reading::default()).unwrap();
    for seed in SEEDS {
        let flood = seed.repeat((256 << 10) / seed.len());
        let mut grid = Grid::new(u32::MAX, u32::MAX);
        grid.feed(Stream::Out, flood.as_bytes());
        assert_eq!(grid.terminal().size(), (500, 200));
        assert!(grid.terminal().dump().len() < 1 << 20, "{seed:?}");
        let mut finder = Finder::new(Wanted::Text(Box::new(pattern.clone())), Channels::default());
        for (at_ms, channel, event) in [size(0, u32::MAX, u32::MAX), out(1, flood)] {
            let timed = portcullis_recording::Timed { at_ms, channel, event };
            finder.take(&timed, &mut |hit| panic!("{hit:?}"));
        }
    }
}

#[test]
fn what_is_printed_is_text_only() {
    let here = Desk::new();
    let all: Vec<u8> = SEEDS
        .iter()
        .flat_map(|seed| FORMS.map(|form| form(seed)).concat())
        .collect();
    here.sealed("h.pcr", &session(&all, 501, (80, 24)));
    let cast: String = SEEDS
        .iter()
        .flat_map(|seed| ["o", "i", "m"].map(|code| serde_json::json!([1.0, code, seed]).to_string() + "\n"))
        .collect();
    let title = serde_json::json!({"version": 2, "width": 80, "height": 24, "title": SEEDS.concat()});
    here.put("h.cast", format!("{title}\n{cast}").as_bytes());
    let ttyrec: Vec<u8> = SEEDS
        .iter()
        .flat_map(|seed| {
            [
                &[0, 0, 0, 0, 0, 0, 0, 0],
                &(seed.len() as u32).to_le_bytes()[..],
                seed.as_bytes(),
            ]
            .concat()
        })
        .collect();
    here.put("h.ttyrec", &ttyrec);
    let verbs: [&[&str]; 8] = [
        &["grep", "."],
        &["grep", "--raw", "."],
        &["grep", "--json", "."],
        &["text", "--input"],
        &["text", "--json"],
        &["play"],
        &["export", "--format", "asciicast-v2", "--input"],
        &["export", "--format", "asciicast-v3"],
    ];
    for verb in verbs {
        for file in ["h.pcr", "h.cast", "h.ttyrec"] {
            let ran = here.run(&[verb, &[file, "--unverified"]].concat());
            assert_eq!(ran.code, Some(0), "{verb:?} {file}: {}", ran.err);
            assert!(!ran.out.is_empty(), "{verb:?} {file}");
            for c in (ran.out + &ran.err).chars() {
                assert!(
                    c == '\n' || portcullis_player::plain::is_shown(c),
                    "{verb:?} {file}: {c:?}"
                );
            }
        }
    }
}

/// Address space in KiB and processor seconds that any of this may take.
const LIMITS: &str = "ulimit -v 400000; ulimit -t 20";

/// Three hundred terminals of the largest size, each full, and a bomb on each.
fn many_terminals() -> Vec<Vec<Row>> {
    let mut rows = Vec::new();
    for channel in 1..=300 {
        let on = |(at_ms, _, event): Row| (at_ms, channel, event);
        rows.push(on(size(0, u32::MAX, u32::MAX)));
        rows.push(on(out(1, "x".repeat(2000) + "\x1b#8x\x1b[65535b\x1b[?1049h\x1b#8")));
    }
    rows.push(end(2));
    vec![rows]
}

#[test]
fn every_verb_stays_within_its_limits() {
    let here = Desk::new();
    here.sealed("many.pcr", &many_terminals());
    here.sealed("hostile.pcr", &hostile_session());
    let verbs = [
        "verify --content",
        "text --input",
        "grep nowhere",
        "grep --raw nowhere",
        "commands",
        "export --format asciicast-v2",
        "export --format html",
        "export --format text",
    ];
    for verb in verbs {
        for file in ["many.pcr", "hostile.pcr"] {
            let player = env!("CARGO_BIN_EXE_portcullis-player");
            let ran = std::process::Command::new("sh")
                .args([
                    "-c",
                    &format!("{LIMITS}; exec {player} {verb} {file} --trust trust.toml"),
                ])
                .current_dir(here.dir.path())
                .output()
                .unwrap();
            let code = if verb.starts_with("grep") { 1 } else { 0 };
            let err = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(code), "{verb} {file}: {err}");
        }
    }
}
