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

use portcullis_player::channels::survey;
use portcullis_player::keys::Act;
use portcullis_player::playback::Playback;
use portcullis_player::screen::obey;
use portcullis_player::source::Cursor;
use portcullis_player::timeline::Timeline;
use portcullis_player::view;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use support::*;

fn playback(here: &Desk, name: &str) -> Playback {
    let mut cursor = Cursor::new(opened(&here.path(name)));
    let channels = survey(&mut cursor).unwrap();
    let channel = channels.first().unwrap();
    Playback::new(cursor, channels, channel, Timeline::new(100, Some(100)))
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

struct Viewer {
    terminal: Terminal<CrosstermBackend<Wire>>,
    wire: Wire,
}

fn viewer(cols: u16, rows: u16) -> Viewer {
    let viewport = Viewport::Fixed(Rect::new(0, 0, cols, rows));
    let wire = Wire::default();
    let terminal = Terminal::with_options(CrosstermBackend::new(wire.clone()), TerminalOptions { viewport }).unwrap();
    Viewer { terminal, wire }
}

/// The bytes that one picture sent to the viewer.
fn picture(viewer: &mut Viewer, playback: &Playback, help: bool) -> Vec<u8> {
    viewer
        .terminal
        .draw(|frame| {
            let area = frame.area();
            view::draw(
                frame.buffer_mut(),
                area,
                playback,
                "SEALED | \u{1b}]0;SECRET\u{7}",
                help,
            );
        })
        .unwrap();
    viewer.wire.0.take()
}

#[test]
fn a_hostile_recording_draws_cells_and_nothing_else() {
    let here = Desk::new();
    here.sealed("h.pcr", &hostile_session());
    for (cols, rows) in [(80, 24), (7, 2), (1, 1), (600, 220)] {
        let mut playback = playback(&here, "h.pcr");
        let mut viewer = viewer(cols, rows);
        let mut now_us = 0;
        // The first part event by event, the rest as it comes, with keys in between.
        for i in 0..900 {
            if i < 700 {
                playback.step();
            } else {
                now_us += 100_000;
                if playback.timeline.is_paused() {
                    playback.timeline.toggle();
                }
                playback.advance(now_us);
            }
            if i % 7 == 0 {
                assert_only_cells(&picture(&mut viewer, &playback, i % 2 == 0));
            }
        }
        for act in [
            Act::Home,
            Act::Forward,
            Act::Forward,
            Act::Back,
            Act::End,
            Act::Channel,
            Act::Pause,
            Act::Faster,
            Act::Slower,
        ] {
            obey(&mut playback, act);
            assert_only_cells(&picture(&mut viewer, &playback, false));
        }
        obey(&mut playback, Act::End);
        assert!(playback.is_at_end() && playback.fault().is_none());
        assert!(playback.grid().unwrap().terminal().screen().text()[0].starts_with("after"));
        assert_eq!(playback.grid().unwrap().terminal().size(), (500, 200));
        assert_eq!(playback.grid().unwrap().true_size(), (65_535, 65_535));
        let status = view::status(&playback, "SEALED", (10, 10));
        assert!(
            status.contains("65535x65535 drawn as 500x200") && status.contains("abridged"),
            "{status}"
        );
    }
}

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
