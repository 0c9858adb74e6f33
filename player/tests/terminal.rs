//! In a real terminal: what it gets is cells, keys work, and it is given back however the player ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use portable_pty::{ChildKiller, CommandBuilder, PtySize, native_pty_system};
use portcullis_recording::Event;
use support::*;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// How long one of these may take before it counts as hung.
const HUNG_SECS: u64 = 60;

/// Kills a player that hangs; says so when joined.
fn watch(mut killer: Box<dyn ChildKiller + Send + Sync>) -> (Sender<()>, JoinHandle<bool>) {
    let (done, finished) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hung = finished.recv_timeout(Duration::from_secs(HUNG_SECS)).is_err();
        if hung {
            killer.kill().unwrap();
        }
        hung
    });
    (done, watchdog)
}

/// Plays a file in a terminal of its own.
fn play(here: &Desk, args: &[&str], steps: &[(&str, &str)]) -> (portable_pty::ExitStatus, String) {
    at_terminal(here, &[&["play", "--trust", "trust.toml"], args].concat(), steps)
}

/// Runs the player in a terminal of its own. Each step waits until its text is on the screen, and then types its keys.
fn at_terminal(here: &Desk, args: &[&str], steps: &[(&str, &str)]) -> (portable_pty::ExitStatus, String) {
    let size = PtySize {
        rows: 24,
        cols: 110,
        pixel_width: 0,
        pixel_height: 0,
    };
    let pty = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_portcullis-player"));
    command.args(args);
    command.cwd(here.dir.path());
    command.env("TERM", "xterm-256color");
    let mut child = pty.slave.spawn_command(command).unwrap();
    let pid = child.process_id().unwrap();
    let (done, watchdog) = watch(child.clone_killer());
    drop(pty.slave);
    let mut reader = pty.master.try_clone_reader().unwrap();
    let mut writer = pty.master.take_writer().unwrap();
    // The viewer's terminal, so that what counts is what is on its screen, however it was drawn.
    let mut viewer = portcullis_player::grid::Grid::new(110, 24);
    let (mut seen, mut buffer) = (Vec::new(), [0; 65536]);
    let mut steps = steps.iter().peekable();
    // Ends when the player has gone: then reading fails or gives nothing.
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..n]);
        viewer.feed(portcullis_player::grid::Stream::Out, &buffer[..n]);
        let screen = viewer.terminal().screen().text().join("\n");
        if let Some((_, keys)) = steps.next_if(|(wanted, _)| screen.contains(wanted)) {
            match keys.strip_prefix("kill ") {
                Some(signal) => {
                    let pid = pid.to_string();
                    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
                }
                None => writer.write_all(keys.as_bytes()).unwrap(),
            }
        }
    }
    let status = child.wait().unwrap();
    done.send(()).ok();
    assert!(
        !watchdog.join().unwrap(),
        "hung before {:?}: {}",
        steps.peek(),
        viewer.terminal().screen().text().join("\n")
    );
    assert_eq!(steps.next(), None, "{}", viewer.terminal().screen().text().join("\n"));
    (status, String::from_utf8(seen).unwrap())
}

/// Between taking over and giving back there are cells and nothing else.
fn assert_given_back(seen: &str) {
    let (_, rest) = seen.split_once(ENTER).expect("takes the alternate screen");
    let (drawn, after) = rest.split_once(LEAVE).expect("gives it back");
    assert_only_cells(drawn.as_bytes());
    assert!(rest.contains("\x1b[?25h"), "shows the cursor again");
    assert!(!after.contains("\x1b[?25l") && !after.contains(ENTER), "{after:?}");
}

#[test]
fn keys_work_and_q_leaves() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let steps = [
        (
            "SEALED by bastion-1, ledger leaf 0 of 1, 1 witness | playing 0:00/1:04 1.00x | ch 1 | 40x10",
            "?",
        ),
        ("home end", " "),
        ("paused 0:0", "?+"),
        ("1.50x", "\x1b[F"),
        ("| end 1:04/1:04 1.50x | ch 1 | 100x30, 100x", "\x1b[H"),
        ("paused 0:00/1:04", ".."),
        ("$", "."),
        ("echo grüße", "q"),
    ];
    let (status, seen) = play(&here, &["a.pcr"], &steps);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
}

/// A session with markers, commands, two terminals and more lines than the screen has.
fn long_session() -> Vec<Vec<Row>> {
    let mut chunks = shell();
    let marker = |at_ms, text: &'static str| (at_ms, 1, Event::Marker { text: text.into() });
    let on = |channel, (at_ms, _, event): Row| (at_ms, channel, event);
    let mut rows = vec![marker(20_000, "first mark"), request(21_000, 2, "exec", b"uptime")];
    rows.extend((0..60).map(|n| out(22_000 + n * 100, format!("row number {n}\r\n"))));
    rows.push(marker(30_000, "second mark"));
    rows.push(on(3, size(40_000, 60, 12)));
    rows.push(on(3, out(41_000, "another terminal")));
    chunks.insert(1, rows);
    chunks
}

#[test]
fn markers_commands_times_and_hits_are_gone_to() {
    let here = Desk::new();
    here.sealed("a.pcr", &long_session());
    let steps = [
        ("playing 0:0", " "),
        ("paused 0:0", "]"),
        ("0:00:20.000 [1] event: marker: first mark", "]"),
        ("0:00:30.000 [1] event: marker: second mark", "]"),
        ("no marker that way from 0:30", "["),
        ("0:00:20.000 [1] event: marker: first mark", "}"),
        ("0:00:21.000 [2] event: request: exec uptime", "{"),
        ("0:00:00.002 [1] event: request: shell", ":25.05\r"),
        ("paused 0:25/1:04", "g50%\r"),
        ("paused 0:32/1:04", "g1:00:00\r"),
        ("end 1:04/1:04", "gnonsense\r"),
        ("no time: \"nonsense\"", "g\r"),
        ("paused 0:00/1:04", "/ROW NUMBER 7\u{7f}"),
        ("/ROW NUMBER _", "\x15number [45]7\r"),
        ("0:00:26.700 [1] output: row number 47", "n"),
        ("0:00:27.700 [1] output: row number 57", "n"),
        ("no hit that way from 0:27", "N"),
        ("0:00:26.700 [1] output: row number 47", "r(\r"),
        ("regex parse error", "r^row\r"),
        ("0:00:26.600 [1] output: row number 46", "n"),
        ("0:00:26.500 [1] output: row number 45", "N"),
        ("0:00:26.600 [1] output: row number 46", "/another\r"),
        ("0:00:41.000 [3] output: another terminal", "5"),
        ("paused 0:32/1:04", "s"),
        ("pauses are shortened to 2 s", "v"),
        ("signed by  bastion-1", "v"),
        ("ch 3 of 2 terminals", "c"),
        ("ch 1 of 2 terminals", "q"),
    ];
    let (status, seen) = play(&here, &["a.pcr"], &steps);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
}

#[test]
fn what_scrolled_by_can_be_scrolled_back_to_and_written() {
    let here = Desk::new();
    here.sealed("a.pcr", &long_session());
    here.put("there.txt", b"mine");
    let steps = [
        ("playing 0:2", "\x1b[5~"),
        ("scrolled back 23 rows", "\x1b[5~\x1b[5~k"),
        ("grüße", "wscreen.txt\r"),
        ("written to screen.txt", "wthere.txt\r"),
        ("cannot write there.txt", "jjj"),
        ("row number 1", "d\x1b"),
        ("paused 0:2", "q"),
    ];
    let (status, seen) = play(&here, &["a.pcr", "--at", "28"], &steps);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
    let text = std::fs::read_to_string(here.path("screen.txt")).unwrap();
    assert!(
        text.starts_with("$ echo grüße\ngrüße\u{FFFD}\n$ row number 0\nrow number 1\n"),
        "{text}"
    );
    assert_eq!(std::fs::read(here.path("there.txt")).unwrap(), b"mine");
}

#[test]
fn a_hit_of_a_search_is_played_where_it_is() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let search = |number| ["search", "grüße", "a.pcr", "--trust", "trust.toml", "--play", number];
    let (status, seen) = at_terminal(&here, &search("1"), &[("grüße", "q")]);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
    assert!(seen.contains("playing 0:0"), "{seen}");
    let ran = here.run(&search("9999"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.contains("there is no hit 9999"), "{}", ran.err);
}

#[test]
fn ctrl_c_and_signals_give_the_terminal_back() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    for (keys, success) in [
        ("\x03", true),
        ("kill -TERM", false),
        ("kill -HUP", false),
        ("kill -INT", false),
    ] {
        let (status, seen) = play(&here, &["a.pcr"], &[("0:00/1:04", keys)]);
        assert_eq!(status.success(), success, "{keys:?}: {status:?}");
        assert_given_back(&seen);
    }
}

#[test]
fn a_hostile_recording_gets_nothing_through() {
    let here = Desk::new();
    here.sealed("h.pcr", &hostile_session());
    let steps = [("end: x", "\x1b[H "), ("paused 0:0", "\x1b[F"), ("| end 0:1", "q")];
    let (status, seen) = play(&here, &["h.pcr", "--speed", "20", "--idle-limit", "0.2"], &steps);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
}

#[test]
fn a_terminal_that_goes_away_ends_the_player() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let pty = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_portcullis-player"));
    command.args(["play", "--trust", "trust.toml", "a.pcr"]);
    command.cwd(here.dir.path());
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let mut seen = [0; 64];
    let mut reader = pty.master.try_clone_reader().unwrap();
    assert!(reader.read(&mut seen).unwrap() > 0);
    drop((reader, pty.master));
    let (done, watchdog) = watch(child.clone_killer());
    assert!(!child.wait().unwrap().success());
    done.send(()).ok();
    assert!(!watchdog.join().unwrap(), "hung");
}

#[test]
fn what_is_not_verified_says_so_all_the_time() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    here.put("trust.toml", b"quorum = 0\n");
    let steps = [("UNVERIFIED", " "), ("paused", "q")];
    let (status, seen) = play(&here, &["a.pcr", "--unverified"], &steps);
    assert!(status.success(), "{status:?}");
    let (_, drawn) = seen.split_once(ENTER).unwrap();
    assert!(drawn.contains("UNVERIFIED"), "{seen}");
    let (status, seen) = play(&here, &["a.pcr"], &[]);
    assert_eq!(status.exit_code(), 12);
    assert!(!seen.contains(ENTER), "{seen}");
}

#[test]
fn another_tools_file_is_played_as_unverified() {
    let here = Desk::new();
    let cast = "{\"version\":3,\"term\":{\"cols\":40,\"rows\":9},\"title\":\"demo\"}\n[0,\"o\",\"zero \"]\n\
                [0.1,\"o\",\"one\"]\n[60,\"m\",\"here\"]\n[1,\"o\",\" two\"]\n";
    here.put("a.cast", cast.as_bytes());
    let steps = [
        ("UNVERIFIED | playing 0:00/1:01", "0 /ZERO|zero\r"),
        ("output: zero", "]"),
        ("0:01:00.100 [1] event: marker: here", "."),
        ("zero one two", "0"),
        ("paused 0:00/1:01", "q"),
    ];
    let (status, seen) = play(&here, &["a.cast", "--unverified"], &steps);
    assert!(status.success(), "{status:?}");
    assert_given_back(&seen);
}

/// Shortened pauses change how long one waits, not when things were: a marker is where it was.
#[test]
fn shortened_pauses_leave_markers_where_they_were() {
    let here = Desk::new();
    let mut rows = vec![size(0, 40, 9), out(1, "begin")];
    rows.push((
        600_000,
        1,
        Event::Marker {
            text: "ten minutes".into(),
        },
    ));
    rows.push(out(600_000, " middle"));
    rows.push(out(1_200_000, " finish"));
    here.sealed("i.pcr", &[rows]);
    let steps = [
        ("begin middle finish", "["),
        (
            "0:10:00.000 [1] event: marker: ten minutes\n SEALED by bastion-1, ledger leaf 0 of 1, 1 witness | paused 10:00/20:00",
            "q",
        ),
    ];
    let (status, _) = play(&here, &["i.pcr", "--idle-limit", "0.2"], &steps);
    assert!(status.success(), "{status:?}");
}

#[test]
fn a_command_without_a_terminal_is_printed() {
    let here = Desk::new();
    let rows = vec![request(0, 1, "exec", b"id"), out(1, "uid=0(root)\n")];
    here.sealed("e.pcr", &[rows]);
    let (status, seen) = play(&here, &["e.pcr"], &[]);
    assert!(status.success(), "{seen}");
    assert!(seen.contains("no terminal") && seen.contains("uid=0(root)"), "{seen}");
    assert!(!seen.contains('\x1b'), "{seen}");
}
