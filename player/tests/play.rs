//! Playing: where things are on the screen at which time, going back and forth, and the fallbacks without a terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use portcullis_player::channels::survey;
use portcullis_player::playback::Playback;
use portcullis_player::source::Cursor;
use portcullis_player::timeline::Timeline;
use portcullis_recording::Event;
use support::*;

fn playback(here: &Desk, name: &str) -> Playback {
    let mut cursor = Cursor::new(opened(&here.path(name)));
    let channels = survey(&mut cursor).unwrap();
    let channel = channels.first().unwrap();
    Playback::new(cursor, channels, channel, Timeline::new(100, None))
}

fn screen(playback: &Playback) -> String {
    let text = playback
        .grid()
        .map(|g| g.terminal().screen().text())
        .unwrap_or_default();
    text.iter()
        .map(|l| l.trim_end())
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join("|")
}

#[test]
fn time_passes_and_seeks_agree_with_it() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let mut p = playback(&here, "a.pcr");
    p.advance(0);
    assert_eq!(screen(&p), "");
    for ms in (0..=650).step_by(10) {
        p.advance(ms * 1000);
    }
    assert_eq!(screen(&p), "$ echo grüße|gr");
    p.seek(61_500);
    assert_eq!(screen(&p), "$ echo grüße|grüße\u{FFFD}|$ oops");
    assert_eq!(p.message(), Some("notice: portcullis: ends in 5 min\u{FFFD}"));
    p.seek(0);
    assert_eq!(screen(&p), "");
    p.seek(u64::MAX);
    assert!(p.is_at_end());
    assert_eq!(p.grid().unwrap().true_size(), (100, 30));
    p.seek(20);
    assert_eq!((screen(&p).as_str(), p.grid().unwrap().true_size()), ("$", (40, 10)));
    p.step();
    assert_eq!(screen(&p), "$ echo grüße|gr");
    assert!(p.timeline.is_paused());
}

/// Chunks that begin with the screens: going anywhere starts at the nearest, and shows what playing shows.
#[test]
fn keyframes_and_playing_through_show_the_same() {
    let here = Desk::new();
    let mut grid = portcullis_player::grid::Grid::new(60, 8);
    let mut chunks = Vec::new();
    let mut at_ms = 0;
    for chunk in 0..6 {
        let mut rows = match chunk {
            0 => vec![size(0, 60, 8)],
            _ => vec![(
                at_ms,
                1,
                Event::Keyframe {
                    cols: 60,
                    rows: 8,
                    dump: grid.terminal().dump().into(),
                },
            )],
        };
        for n in 0..20 {
            at_ms += 50;
            let text = format!("\x1b[3{}mline {chunk}.{n}\r\n", n % 8);
            grid.feed(portcullis_player::grid::Stream::Out, text.as_bytes());
            rows.push(out(at_ms, &text));
        }
        chunks.push(rows);
    }
    here.sealed("k.pcr", &chunks);
    let mut through = playback(&here, "k.pcr");
    let mut jumping = playback(&here, "k.pcr");
    for to_ms in (0..=at_ms).step_by(175) {
        through.seek(to_ms);
        jumping.seek(at_ms);
        jumping.seek(to_ms);
        assert_eq!(screen(&through), screen(&jumping), "{to_ms} ms");
        assert!(!jumping.is_guessed());
    }
}

#[test]
fn several_terminals_are_drawn_at_once() {
    let here = Desk::new();
    let on = |channel, (at_ms, _, event): Row| (at_ms, channel, event);
    here.sealed(
        "two.pcr",
        &[vec![
            size(0, 20, 4),
            on(2, size(1, 30, 5)),
            out(2, "one"),
            on(2, out(3, "two")),
            end(9),
        ]],
    );
    let mut p = playback(&here, "two.pcr");
    p.seek(5);
    assert_eq!((p.channel(), screen(&p).as_str()), (1, "one"));
    p.next_channel();
    assert_eq!((p.channel(), screen(&p).as_str()), (2, "two"));
    p.next_channel();
    assert_eq!(p.channel(), 1);
}

#[test]
fn without_a_terminal_it_is_text() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let ran = here.run(&[
        "play",
        "a.pcr",
        "--trust",
        "trust.toml",
        "--speed",
        "2",
        "--idle-limit",
        "1",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("no terminal"), "{}", ran.err);
    assert!(ran.out.contains("$ echo grüße\ngrüße\u{FFFD}\n"), "{}", ran.out);
}

#[test]
fn text_has_what_happened_in_its_place() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let ran = here.run(&["text", "a.pcr", "--trust", "trust.toml", "--input"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(
        lines,
        [
            "-- 0:00:00.000 [1] channel: session",
            "-- 0:00:00.002 [1] request: shell",
            "-- 0:00:00.500 [1] input: echo grüße␍",
            "$ echo grüße",
            "grüße\u{FFFD}",
            "-- 0:01:00.000 [1] notice: portcullis: ends in 5 min\u{FFFD}",
            "$ oops",
            "exit",
            "-- 0:01:03.500 [1] exit: status 3",
            "-- 0:01:04.000 end: exit: the program ended",
        ],
        "{}",
        ran.out
    );
}

#[test]
fn execs_and_transfers_are_told_apart() {
    let here = Desk::new();
    here.sealed(
        "e.pcr",
        &[vec![
            request(0, 1, "exec", b"uname -a"),
            decision(1, 1, "exec", true),
            out(2, "Linux \x1b[1mdb1\x1b[0m\nsecond"),
            (3, 1, Event::Stderr(b"warn\n".to_vec().into())),
            request(4, 2, "subsystem", b"sftp"),
            decision(5, 2, "subsystem", false),
            (6, 2, Event::Output(vec![0; 500].into())),
            end(9),
        ]],
    );
    let ran = here.run(&["text", "e.pcr", "--trust", "trust.toml"]);
    for part in ["Linux db1\n", "2> warn\n", "second\n", "500 bytes that are no text"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let ran = here.run(&["commands", "e.pcr", "--trust", "trust.toml", "--json"]);
    let rows: Vec<serde_json::Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (&row["command"], &row["allowed"], &row["rule"]))
        .collect();
    let rule = serde_json::Value::from("grant");
    assert_eq!(
        told,
        [
            (&"sftp".into(), &false.into(), &rule),
            (&"uname -a".into(), &true.into(), &rule)
        ],
        "nothing was told of what became of it"
    );
}
