//! `search` and `summary`: what a search finds in files, also encrypted ones, and a session on one page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use portcullis_recording::Event;
use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::moved::{Act, Moved, Outcome};
use support::locked::{CONTENT_KEY, envelope};
use support::*;

const TRUST: [&str; 2] = ["--trust", "trust.toml"];

fn command(began_ms: u64, text: &'static str, status: Option<u32>, labels: &[&'static str]) -> Command<'static> {
    Command {
        source: Source::Screen,
        confidence: Confidence::High,
        began_ms,
        ended_ms: began_ms + 10,
        text: text.into(),
        other: "".into(),
        context: "shell".into(),
        directory: "/srv".into(),
        status,
        labels: labels.iter().map(|label| (*label).into()).collect(),
    }
}

/// A shell in which something was run, an exec that no event of its own tells, one that was refused, and files.
fn worked() -> Vec<Vec<Row>> {
    let mut chunks = shell();
    let run = |began, text, status, labels: &[&'static str]| {
        let event = Event::Command(Box::new(command(began, text, status, labels)));
        (1_000, 1, event)
    };
    let refused = |channel| {
        let event = Event::Decision {
            action: "exec".into(),
            allowed: false,
            rule: "no-exec".into(),
            code: "denied".into(),
        };
        (61_500, channel, event)
    };
    chunks[0].extend([
        run(
            500,
            "systemctl restart nginx\nsystemctl status nginx",
            Some(1),
            &["service"],
        ),
        run(
            800,
            "rm -rf /srv/old </td><script>\u{1b}]0;x\u{7}",
            None,
            &["destructive"],
        ),
    ]);
    chunks[0].push((
        1_001,
        1,
        Event::Command(Box::new(Command {
            source: Source::Hidden,
            text: "".into(),
            ..command(900, "", None, &[])
        })),
    ));
    chunks[0].push((
        1_002,
        1,
        Event::HiddenInput {
            line: 3,
            len_class: 4,
            blob: vec![0; 2 + 16 + 16].into(),
        },
    ));
    let exec = chunks[1].len() - 1;
    chunks[1].splice(
        exec..exec,
        [
            request(63_600, 2, "exec", b"cat /etc/shadow"),
            (63_601, 2, Event::ExitStatus(0)),
            request(63_602, 3, "exec", b"mkfs /dev/sda"),
        ],
    );
    let mut late = refused(3);
    late.0 = 63_603;
    let moved = Moved {
        outcome: Outcome::Done,
        bytes: 5,
        whole: Some([7; 32]),
        began_ms: 63_000,
        ..Moved::plain(Act::Upload, b"/tmp/tool".as_slice().into())
    };
    let other = Moved {
        outcome: Outcome::Refused,
        words: "no-changes".into(),
        ..Moved::plain(Act::Remove, b"/etc/passwd".as_slice().into())
    };
    let at = chunks[1].len() - 1;
    chunks[1].splice(
        at..at,
        [
            late,
            (63_700, 4, Event::File(Box::new(moved))),
            (63_800, 4, Event::File(Box::new(other))),
        ],
    );
    chunks
}

fn desk() -> Desk {
    let here = Desk::new();
    std::fs::create_dir(here.path("in")).unwrap();
    here.sealed("in/a.pcr", &worked());
    here.sealed(
        "in/b.pcr",
        &[vec![size(0, 40, 10), out(5, "restart nginx by hand\r\n")]],
    );
    let recipients = [here.identity("mia").to_public()];
    here.locked("in/c.pcr", &worked(), &envelope(&CONTENT_KEY, &recipients));
    here
}

/// File, moment, kind of each hit.
fn found(here: &Desk, args: &[&str]) -> Vec<String> {
    let ran = here.run(&[&["--json", "search"], args, &TRUST].concat());
    let rows = ran.out.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!(row["schema"], 1);
        format!(
            "{} {} {}",
            row["file"].as_str().unwrap(),
            row["at_ms"],
            row["kind"].as_str().unwrap()
        )
    });
    rows.collect()
}

#[test]
fn the_same_words_over_many_files_opened_with_a_key() {
    let here = desk();
    for (query, hits) in [
        ("restart nginx", &["in/a.pcr 500 command", "in/b.pcr 5 screen"][..]),
        ("kind:command status:1", &["in/a.pcr 500 command"]),
        ("label:destructive kind:command", &["in/a.pcr 800 command"]),
        ("shadow", &["in/a.pcr 63600 command"]),
        // Refused, it was not run; somebody tried.
        ("mkfs", &["in/a.pcr 63602 command"]),
        ("mkfs label:refused", &["in/a.pcr 63602 command"]),
        ("kind:command label:refused", &["in/a.pcr 63602 command"]),
        ("kind:command label:hidden_command", &["in/a.pcr 900 command"]),
        ("/tmp/tool kind:file", &["in/a.pcr 63000 file"]),
        ("kind:session exec", &["in/a.pcr 0 session"]),
        (
            "kind:session 203.0.113.17 before:2026-10-01",
            &["in/a.pcr 0 session", "in/b.pcr 0 session"],
        ),
        ("nginx target:db2", &[]),
        ("nginx target:db1.prod.example kind:command", &["in/a.pcr 500 command"]),
        ("nginx after:2026-09-22", &[]),
    ] {
        assert_eq!(found(&here, &[query, "in"]), hits, "{query}");
    }
    let opened = found(&here, &["kind:command nginx", "in", "--identity", "mia"]);
    assert_eq!(opened, ["in/a.pcr 500 command", "in/c.pcr 500 command"]);
}

#[test]
fn without_a_terminal_a_hit_is_shown_from_its_moment_on() {
    let here = Desk::new();
    let out = |at_ms, text: &'static str| (at_ms, 2, Event::Output(text.as_bytes().into()));
    here.sealed(
        "a.pcr",
        &[vec![
            request(1, 2, "exec", b"backup"),
            out(10, "early\n"),
            out(3_000, "late\n"),
        ]],
    );
    let play = |args: &[&str]| here.run(&[&["play", "a.pcr", "--channel", "2"], args, &TRUST].concat());
    let all = play(&[]);
    assert!(all.out.contains("early") && all.out.contains("late"), "{}", all.out);
    let late = play(&["--at", "0:00:03.000"]);
    assert!(!late.out.contains("early") && late.out.contains("late"), "{}", late.out);
    assert_eq!(play(&["--at", "noon"]).code, Some(2));
}

#[test]
fn a_line_that_was_refused_at_its_enter_is_told_with_its_words() {
    let here = Desk::new();
    let decided = |at_ms, allowed| {
        let event = Event::Decision {
            action: "command".into(),
            allowed,
            rule: "no-reboot".into(),
            code: "denied".into(),
        };
        (at_ms, 1, event)
    };
    here.sealed(
        "a.pcr",
        &[vec![
            size(0, 80, 24),
            request(1, 1, "shell", b""),
            request(500, 1, "command", b"uptime"),
            decided(501, true),
            request(700, 1, "command", b"reboot\nnow"),
            decided(701, false),
            // Of a line of a paste nothing is written down.
            request(900, 1, "command", b""),
            decided(901, false),
        ]],
    );
    let run = |args: &[&str]| here.run(&[args, &["a.pcr"], &TRUST].concat()).out;
    let commands = run(&["commands"]);
    assert!(
        commands.contains("reboot") && commands.contains("  (refused)"),
        "{commands}"
    );
    assert!(!commands.contains("uptime"), "it was read, or it was not: {commands}");
    assert_eq!(found(&here, &["label:refused", "a.pcr"]), ["a.pcr 700 command"]);
    let summary = run(&["summary"]);
    assert!(
        summary.contains("command refused by no-reboot (denied): reboot") && summary.contains("denials       2"),
        "{summary}"
    );
}

#[test]
fn exit_codes_and_words_that_are_safe_to_show() {
    let here = desk();
    let ran = here.run(&["search", "rm", "in/a.pcr", TRUST[0], TRUST[1]]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("in/a.pcr:0:00:00.800 2026-"), "{}", ran.out);
    assert!(
        !ran.out.contains('\u{1b}') && ran.out.contains("rm -rf /srv/old"),
        "{:?}",
        ran.out
    );
    assert_eq!(
        here.run(&["search", "nowhere", "in/a.pcr", TRUST[0], TRUST[1]]).code,
        Some(1)
    );
    // One that is locked is told, and does not hide the others.
    let ran = here.run(&["search", "rm", "in", TRUST[0], TRUST[1]]);
    assert_eq!(ran.code, Some(12), "{}", ran.err);
    assert!(
        ran.err.contains("encrypted") && ran.out.contains("in/a.pcr"),
        "{}",
        ran.err
    );
    let ran = here.run(&["search", "kind:nothing", "in/a.pcr"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    // Nobody vouches for it.
    assert_eq!(here.run(&["search", "rm", "in/a.pcr"]).code, Some(12));
}

#[test]
fn a_session_on_one_page() {
    let here = desk();
    let ran = here.run(&["summary", "in/a.pcr", TRUST[0], TRUST[1]]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for part in [
        "verdict       SEALED",
        "where         root@db1.prod.example by node bastion-1",
        "commands      3: 1 exact, 2 high, 0 medium; 1 failed",
        "labels        destructive 1, service 1",
        "files         1 up (5 bytes), 0 down (0 bytes), 0 changed, 0 failed, 1 refused",
        "denials       1",
        "hidden input  1 lines not shown, 1 times run unseen",
        "1: shell, with a terminal",
        "1 command is labelled destructive",
        "  0:01:03.600  [2]  cat /etc/shadow  (exec, exact by protocol, status 0)",
        "exec refused by no-exec (denied): mkfs /dev/sda",
        "upload /tmp/tool, 5 bytes, SHA-256 0707",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!ran.out.contains(['\u{1b}', '\u{7}']), "{:?}", ran.out);
    let ran = here.run(&["--json", "summary", "in/c.pcr", "--identity", "mia", TRUST[0], TRUST[1]]);
    let summary: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        (&summary["schema"], &summary["commands"]["total"]),
        (&1.into(), &3.into())
    );
    assert_eq!(summary["commands"]["list"][0]["status"], 1);
    assert_eq!(summary["known"], serde_json::Value::Null);
    // Locked, or nobody's word: nothing of it.
    assert_eq!(here.run(&["summary", "in/c.pcr", TRUST[0], TRUST[1]]).code, Some(12));
    assert_eq!(here.run(&["summary", "in/a.pcr"]).code, Some(12));
}

#[test]
fn a_visit_on_one_page_where_the_keys_are() {
    let here = desk();
    let report = |args: &[&str]| here.run(&[&["report", "in"], args, &TRUST].concat());
    let whole = report(&["--identity", "mia"]);
    assert_eq!(whole.code, Some(0), "{}", whole.err);
    for part in [
        "sessions      3, of 3",
        "commands      6",
        "labels        destructive 2, service 2",
        "denials       2",
    ] {
        assert!(whole.out.contains(part), "{part}: {}", whole.out);
    }
    // One that is locked is named, and does not hide the others.
    let some = report(&[]);
    assert_eq!(some.code, Some(12), "{}", some.err);
    assert!(
        some.out.contains("sessions      2, of 3") && some.out.contains("not here      in/c.pcr"),
        "{}",
        some.out
    );
    let id = "00".repeat(16);
    let said = format!("{{\"schema\":1,\"sessions\":{{\"{id}\":{{\"facts\":[[\"why\",\"a\\u001b[8mb\"]]}}}}}}");
    for (name, text, code) in [
        ("none.json", said.as_str(), 0),
        ("bad.json", "{}", 1),
        ("not.json", "x", 1),
    ] {
        std::fs::write(here.path(name), text).unwrap();
        let ran = report(&["--identity", "mia", "--background", name]);
        assert_eq!(ran.code, Some(code), "{name}: {}", ran.err);
        assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
    }
    let summary: serde_json::Value =
        serde_json::from_str(&here.run(&["--json", "summary", "in/a.pcr", TRUST[0], TRUST[1]]).out).unwrap();
    let id = summary["session"]["id"].as_str().unwrap();
    let said = format!("{{\"schema\":1,\"sessions\":{{\"{id}\":{{\"facts\":[[\"why\",\"INC-4711\"]],\"risk\":7}}}}}}");
    std::fs::write(here.path("background.json"), said).unwrap();
    let args = [
        "summary",
        "in/a.pcr",
        "--background",
        "background.json",
        TRUST[0],
        TRUST[1],
    ];
    let page = here.run(&args);
    assert!(
        page.out.contains("INC-4711") && page.out.contains("risk          7"),
        "{}",
        page.out
    );
}

#[test]
fn a_page_without_a_script_in_which_nothing_of_the_recording_is_markup() {
    let here = desk();
    let args = ["summary", "in/a.pcr", "--html", "page.html", TRUST[0], TRUST[1]];
    assert_eq!(here.run(&args).code, Some(0));
    let page = std::fs::read_to_string(here.path("page.html")).unwrap();
    assert!(
        page.contains("default-src 'none'") && !page.to_lowercase().contains("<script"),
        "{page}"
    );
    assert!(page.contains("&lt;/td&gt;&lt;script&gt;"), "{page}");
    assert!(!page.contains(['\u{1b}', '\u{7}']));
    // It is not written over.
    assert_eq!(here.run(&args).code, Some(1));
}
