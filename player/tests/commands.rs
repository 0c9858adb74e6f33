//! `commands` through the built program, and where else commands are shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::Event;
use serde_json::Value;
use support::*;

const TRUSTED: [&str; 3] = ["c.pcr", "--trust", "trust.toml"];

fn told(channel: u32, change: impl FnOnce(&mut Command<'static>)) -> Row {
    let (at_ms, _, event) = command(90, (10, 20), "id");
    let Event::Command(mut command) = event else { panic!() };
    change(&mut command);
    (at_ms, channel, Event::Command(command))
}

/// A terminal, an exec that ran, one that was refused and one that nobody decided.
fn desk() -> Desk {
    let here = Desk::new();
    here.sealed(
        "c.pcr",
        &[vec![
            size(0, 80, 24),
            request(1, 1, "shell", b""),
            request(2, 2, "exec", b"uptime"),
            decision(2, 2, "exec", true),
            request(3, 3, "exec", b"reboot"),
            decision(3, 3, "exec", false),
            request(4, 4, "subsystem", b"sftp"),
            out(12, "$ id"),
            told(1, |_| {}),
            told(1, |command| {
                command.began_ms = 30;
                command.ended_ms = 61_000;
                command.text = "cat <<x\n\x1b]0;t\x07\nx".into();
                command.other = "cat".into();
                command.source = Source::Hook;
                command.directory = "/srv".into();
                command.status = Some(1);
                command.labels = vec!["exfiltration".into(), "secrets".into()];
            }),
            told(1, |command| {
                command.source = Source::Hidden;
                command.confidence = Confidence::Medium;
                command.text = "".into();
                command.context = "".into();
            }),
            told(2, |command| {
                command.source = Source::Protocol;
                command.confidence = Confidence::Exact;
                command.text = "uptime".into();
                command.context = "exec".into();
                command.status = Some(0);
            }),
            end(90),
        ]],
    );
    here
}

#[test]
fn each_is_told_with_how_far_it_can_be_relied_on() {
    let here = desk();
    let ran = here.run(&[&["commands"], &TRUSTED[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().map(|line| line.split_once("Z  ").unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "[3]  exact   exec       reboot  (refused)",
            "[1]  high    shell      id",
            "[1]  high    shell      cat <<x␊\u{FFFD}]0;t\u{FFFD}␊x  (status 1, in /srv, exfiltration secrets, or: cat)",
            "[1]  medium             (lines were run that the terminal did not show)",
            "[2]  exact   exec       uptime  (status 0)",
            "[4]  exact   subsystem  sftp  (undecided)",
        ],
        "{}",
        ran.out
    );
    let ran = here.run(&[&["commands", "--json"], &TRUSTED[..]].concat());
    let rows: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let cat = &rows[2];
    assert_eq!(cat["command"], "cat <<x\n\u{FFFD}]0;t\u{FFFD}\nx");
    assert_eq!(
        (&cat["at_ms"], &cat["ended_ms"], &cat["status"]),
        (&30.into(), &61_000.into(), &1.into())
    );
    assert_eq!(
        (&cat["source"], &cat["confidence"], &cat["directory"]),
        (&"hook".into(), &"high".into(), &"/srv".into())
    );
    assert_eq!(cat["labels"], serde_json::json!(["exfiltration", "secrets"]));
    assert_eq!((&rows[4]["rule"], &rows[4]["allowed"]), (&"grant".into(), &true.into()));
    assert_eq!(
        (&rows[3]["source"], &rows[3]["command"]),
        (&"hidden".into(), &"".into())
    );
}

#[test]
fn text_and_search_tell_them_at_the_time_when_they_began() {
    let here = desk();
    let ran = here.run(&[&["text"], &TRUSTED[..]].concat());
    let said = "-- 0:00:00.010 [1] command: id  (shell, high by screen)";
    assert!(ran.out.lines().any(|line| line == said), "{}", ran.out);
    let ran = here.run(&["grep", "uptime", "c.pcr", "--trust", "trust.toml", "--events", "--json"]);
    let hits: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let times: Vec<_> = hits.iter().filter_map(|hit| hit["at_ms"].as_u64()).collect();
    assert_eq!(times, [2, 10], "{}", ran.out);
}

#[test]
fn without_any_it_says_where_to_look() {
    let here = Desk::new();
    here.sealed("c.pcr", &[vec![size(0, 80, 24), out(1, "$ "), end(2)]]);
    let ran = here.run(&[&["commands"], &TRUSTED[..]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert!(ran.err.contains("read them with `text`"), "{}", ran.err);
}
