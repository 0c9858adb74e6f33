//! D27: no byte of a recording reaches the viewer's terminal, nor its standard output as anything but text.

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

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use portcullis_player::channels::survey;
use portcullis_player::hunt::Way;
use portcullis_player::keys::{Act, Amount};
use portcullis_player::playback::Playback;
use portcullis_player::source::Cursor;
use portcullis_player::timeline::Timeline;
use portcullis_player::view;
use portcullis_player::viewer::{Viewer, Words};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use support::*;

fn viewer(here: &Desk, name: &str) -> Viewer {
    let mut cursor = Cursor::new(opened(&here.path(name)));
    let channels = survey(&mut cursor).unwrap();
    let channel = channels.first().unwrap();
    let playback = Playback::new(cursor, channels, channel, Timeline::new(100, Some(100)));
    let words = Words {
        badge: "SEALED | \u{1b}]0;SECRET\u{7}".to_owned(),
        about: vec!["\u{1b}]0;SECRET\u{7}".to_owned(); 30],
        opened_wall_ms: OPENED,
    };
    Viewer::new(playback, words)
}

/// The viewer's end of the line.
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

struct Window {
    terminal: Terminal<CrosstermBackend<Wire>>,
    wire: Wire,
}

fn window(cols: u16, rows: u16) -> Window {
    let viewport = Viewport::Fixed(Rect::new(0, 0, cols, rows));
    let wire = Wire::default();
    let terminal = Terminal::with_options(CrosstermBackend::new(wire.clone()), TerminalOptions { viewport }).unwrap();
    Window { terminal, wire }
}

/// The bytes that one picture sent to the viewer.
fn picture(window: &mut Window, viewer: &mut Viewer) -> Vec<u8> {
    window
        .terminal
        .draw(|frame| {
            let area = frame.area();
            viewer.draw(frame.buffer_mut(), area);
        })
        .unwrap();
    window.wire.0.take()
}

#[test]
fn a_hostile_recording_draws_cells_and_nothing_else() {
    let here = Desk::new();
    here.sealed("h.pcr", &hostile_session());
    for (cols, rows) in [(80, 24), (7, 2), (1, 1), (600, 220)] {
        let mut viewer = viewer(&here, "h.pcr");
        let mut window = window(cols, rows);
        let mut now_us = 0;
        // The first part event by event, the rest as it comes, with keys in between.
        for i in 0..900 {
            if i < 700 {
                viewer.obey(Act::Step);
            } else {
                now_us += 100_000;
                viewer.playback.timeline.play();
                viewer.advance(now_us);
            }
            if i % 14 == 0 {
                viewer.obey(if i % 28 == 0 { Act::Help } else { Act::About });
            }
            if i % 7 == 0 {
                assert_only_cells(&picture(&mut window, &mut viewer));
            }
        }
        for act in ACTS {
            viewer.obey(act);
            while viewer.is_busy() {
                viewer.advance(now_us);
            }
            assert_only_cells(&picture(&mut window, &mut viewer));
        }
        for key in "/ok.*[^x]\rnnN:50%\rrSECRET\r\u{1b}".chars() {
            let code = match key {
                '\r' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            assert_eq!(viewer.key(KeyEvent::new(code, KeyModifiers::NONE)), None);
            while viewer.is_busy() {
                viewer.advance(now_us);
            }
            assert_only_cells(&picture(&mut window, &mut viewer));
        }
        viewer.obey(Act::End);
        let playback = &mut viewer.playback;
        playback.advance(now_us);
        assert!(playback.is_at_end() && playback.fault().is_none());
        assert!(playback.grid().unwrap().terminal().screen().text()[0].starts_with("after"));
        assert_eq!(playback.grid().unwrap().terminal().size(), (500, 200));
        assert_eq!(playback.grid().unwrap().true_size(), (65_535, 65_535));
        let status = view::status(&viewer, (10, 10));
        assert!(
            status.contains("65535x65535 drawn as 500x200") && status.contains("abridged"),
            "{status}"
        );
    }
}

/// Everything a key can ask of a recording.
const ACTS: [Act; 22] = [
    Act::Home,
    Act::Seek(Way::On, 5000),
    Act::Seek(Way::On, 60_000),
    Act::Seek(Way::Back, 5000),
    Act::Marker(Way::Back),
    Act::Command(Way::Back),
    Act::Home,
    Act::Command(Way::On),
    Act::Marker(Way::On),
    Act::Marker(Way::On),
    Act::Hit(Way::On),
    Act::End,
    Act::Scroll(Way::Back, Amount::Screen),
    Act::Scroll(Way::Back, Amount::Half),
    Act::Scroll(Way::On, Amount::Row),
    Act::Tenth(5),
    Act::Channel,
    Act::Pause,
    Act::Idle,
    Act::Faster,
    Act::Slower,
    Act::Escape,
];

#[test]
fn every_verb_prints_text_only() {
    let here = Desk::new();
    here.sealed("h.pcr", &hostile_session());
    let exec = vec![vec![
        request(0, 1, "exec", b"cat \x1b]0;SECRET\x07 \xc2\x9b6n \xe2\x80\xae"),
        out(1, hostile()),
        (2, 1, portcullis_recording::Event::Stderr(hostile().into())),
        end(3),
    ]];
    here.sealed("e.pcr", &exec);
    let verbs: [&[&str]; 10] = [
        &["verify"],
        &["verify", "--json"],
        &["text", "--input"],
        &["text", "--json"],
        &["play"],
        &["commands"],
        &["commands", "--json"],
        &["prove"],
        &["export", "--format", "asciicast-v2", "--input"],
        &["export", "--format", "asciicast-v3"],
    ];
    for verb in verbs {
        for file in ["h.pcr", "e.pcr"] {
            let ran = here.run(&[verb, &[file, "--trust", "trust.toml"]].concat());
            assert_eq!(ran.code, Some(0), "{verb:?}: {}", ran.err);
            for c in (ran.out + &ran.err).chars() {
                assert!(
                    c == '\n' || portcullis_player::plain::is_shown(c),
                    "{verb:?} {file}: {c:?}"
                );
            }
        }
    }
    let ran = here.run(&["commands", "e.pcr", "--trust", "trust.toml"]);
    assert!(
        ran.out.contains("exec       cat \u{FFFD}]0;SECRET\u{FFFD}"),
        "{}",
        ran.out
    );
}

#[test]
fn titles_and_clipboards_are_not_text_either() {
    let here = Desk::new();
    let titles =
        b"a\x1b]0;SECRET\x07b\x1b]52;c;SECRET\x1b\\c\x1b_SECRET\x1b\\d\x1bPSECRET\x1b\\e\xc2\x9dSECRET\xc2\x9cf";
    here.sealed("t.pcr", &[vec![size(0, 80, 24), out(1, titles)]]);
    let ran = here.run(&["text", "t.pcr", "--trust", "trust.toml"]);
    assert_eq!(ran.out.trim_end(), "abcdef");
    here.sealed("e.pcr", &[vec![request(0, 1, "exec", b"x"), out(1, titles)]]);
    let ran = here.run(&["text", "e.pcr", "--trust", "trust.toml"]);
    assert!(ran.out.ends_with("\nabcdef\n"), "{}", ran.out);
}

/// Address space that a refusal may take, in KiB: the program itself, and far below 64 MiB of data.
const BOMB_LIMIT_KIB: u32 = 96 * 1024;

#[test]
fn d26_bombs_stop_at_the_declared_limits() {
    let vectors =
        std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../recording/testdata");
    let manifest = std::fs::read_to_string(vectors.join("MANIFEST")).unwrap();
    let sins = ["zstd_", "trailing_", "unknown_skippable_frame"];
    let named = manifest.lines().filter_map(|line| line.split_once('\t'));
    let bombs: Vec<&str> = named
        .map(|(name, _)| name)
        .filter(|name| sins.iter().any(|sin| name.starts_with(sin)))
        .collect();
    assert!(bombs.len() >= 14, "{bombs:?}");
    for name in bombs {
        let done = std::process::Command::new("sh")
            .args(["-c", &format!("ulimit -v {BOMB_LIMIT_KIB}; exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_portcullis-player"))
            .args(["verify", "--content"])
            .arg(vectors.join(name).with_extension("pcr"))
            .arg("--trust")
            .arg(vectors.join("trust.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert_eq!(
            done.status.code(),
            Some(5),
            "{name}: {said}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(said.contains("INVALID"), "{name}: {said}");
    }
}
