//! `portcullis demo`, as a person meets it and as a script does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use portable_pty::CommandBuilder;

#[path = "demo/terminal.rs"]
mod terminal;

use terminal::Terminal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");

fn attended(state: &Path) -> Terminal {
    let mut command = CommandBuilder::new(PROGRAM);
    command.args(["demo".as_ref(), "--state".as_ref(), state.as_os_str()]);
    Terminal::run(command)
}

/// Types `exit` into the session and waits until the demo waits.
fn one_session(demo: &mut Terminal) {
    demo.see("Leave it with `exit`.");
    demo.quiet();
    demo.press("expr 21 + 21\r");
    demo.see("42");
    demo.press("exit\r");
    demo.see("Press Enter here to stop it.");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn four_scripted_sessions_all_hold() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let output = Command::new(PROGRAM)
        .args(["demo", "--unattended", "--state"])
        .arg(&state)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (text, talk) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(text.lines().last(), Some("demo: 4 sessions, 4 SEALED"), "{text}{talk}");
    assert!(output.status.success(), "{text}{talk}");
    assert_eq!(talk, "", "no spinner where there is no terminal");
    assert!(text.contains("4 recordings verified: everything fits"));
    assert!(text.contains("ended by `grant_expired`"));
    // Keys are for their owner alone.
    for key in ["client/here", "client/here-for-5-seconds", "keys/node_key"] {
        assert_eq!(mode(&state.join(key)), 0o600, "{key}");
    }
    assert_eq!(mode(&state), 0o700);
}

#[test]
fn a_person_is_led_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut demo = attended(&state);
    one_session(&mut demo);
    let text = demo.text();
    assert!(text.contains("your session: SEALED"), "{text}");

    // What it says to do from a second terminal works.
    let ssh = text
        .lines()
        .map(str::trim)
        .rfind(|line| line.starts_with("ssh -F"))
        .unwrap();
    let by_hand = Command::new("sh")
        .args(["-c", &format!("{ssh} 'echo by hand; exit 5' < /dev/null")])
        .output()
        .unwrap();
    assert_eq!(by_hand.status.code(), Some(5), "{by_hand:?}");
    assert_eq!(by_hand.stdout, b"by hand\n");
    let after = text.rsplit("From a second terminal:").next().unwrap();
    let commands = after.lines().map(str::trim).filter(|line| line.contains("--state"));
    for command in commands {
        let ran = Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(ran.status.success(), "{command}: {ran:?}");
    }

    demo.press("\r");
    let (text, status) = demo.end();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("demo: 2 sessions, 2 SEALED"), "{text}");
    assert!(!left_behind(&state), "a process of the demo is still there");
}

#[test]
fn ctrl_c_stops_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut demo = attended(&state);
    one_session(&mut demo);
    demo.press("\x03");
    let (text, status) = demo.end();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("demo: 1 session, 1 SEALED"), "{text}");
    assert!(!left_behind(&state), "a process of the demo is still there");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = Command::new(PROGRAM).arg("demo").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--unattended"));
}

#[test]
fn a_state_that_is_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "node = \"other\"\n").unwrap();
    let output = Command::new(PROGRAM)
        .args(["demo", "--unattended", "--state"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is there already"));
    let config = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert_eq!(config, "node = \"other\"\n");
}

/// Whether any process has the state folder in its command line.
fn left_behind(state: &Path) -> bool {
    let state = state.to_string_lossy().into_owned();
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&state))
    })
}
