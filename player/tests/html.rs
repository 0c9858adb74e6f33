//! The exported page: one file, its policy, nothing hostile in it, and that a browser plays it if one is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::process::Command;

use base64::Engine;
use portcullis_recording::Event;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::*;

/// Seconds after which a browser that hangs is ended.
const BROWSER_SECS: &str = "60";

fn page(here: &Desk, file: &str, more: &[&str]) -> String {
    let args = [&["export", "--format", "html", file, "--trust", "trust.toml"], more].concat();
    let ran = here.run(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran.out
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end}")).0
}

fn data(page: &str) -> Value {
    serde_json::from_str(between(page, "id=\"data\">", "</script>")).unwrap()
}

/// The text on the screen that the last picture leaves, by the rules of the page.
fn last_screen(data: &Value) -> Vec<String> {
    let mut shown: Vec<i64> = Vec::new();
    for frame in data["frames"].as_array().unwrap() {
        if let Some(size) = frame["s"].as_array() {
            shown.resize(size[1].as_u64().unwrap() as usize, -1);
        }
        let up = frame["up"].as_u64().unwrap_or(0) as usize;
        let rows = shown.len();
        shown.drain(..up);
        shown.resize(rows, -1);
        for pair in frame["r"].as_array().unwrap().chunks(2) {
            shown[pair[0].as_u64().unwrap() as usize] = pair[1].as_i64().unwrap();
        }
    }
    let text = |row: i64| -> String {
        let runs = data["rows"][usize::try_from(row).unwrap()].as_array().unwrap();
        runs.iter().map(|run| run[1].as_str().unwrap()).collect()
    };
    shown.into_iter().map(text).collect()
}

#[test]
fn the_page_is_one_file_that_may_load_nothing() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let page = page(&here, "a.pcr", &[]);
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
    let script = hash(between(&page, "<script>", "</script>"));
    let style = hash(between(&page, "<style>", "</style>"));
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
        )
    );
    for way_out in ["http:", "https:", " src=", " href=", "@import", "url("] {
        assert!(!page.contains(way_out), "{way_out}");
    }
    let data = data(&page);
    assert_eq!(data["about"]["verdict"], "SEALED, in the ledger");
    assert!(data["about"]["lines"].to_string().contains("bastion-1"));
    let screen = last_screen(&data);
    assert_eq!(screen.len(), 30);
    assert_eq!(screen[..4], ["$ echo grüße", "grüße\u{FFFD}", "$ oops", "exit"]);
    let kinds: Vec<&str> = data["marks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["request", "notice", "exit", "end"]);
}

#[test]
fn a_part_begins_with_what_was_there() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let data = data(&page(&here, "a.pcr", &["--from", "30", "--until", "1:01.5"]));
    assert_eq!(
        (&data["about"]["from"], &data["length"]),
        (&30_000.into(), &31_000.into())
    );
    assert_eq!(data["frames"][0]["t"], 0);
    assert_eq!(last_screen(&data)[..3], ["$ echo grüße", "grüße\u{FFFD}", "$ oops"]);
    for (args, code) in [
        (["--from", "50", "--until", "40"], 2),
        (["--from", "x", "--until", "40"], 2),
    ] {
        let ran = here.run(
            &[
                &["export", "--format", "html", "a.pcr", "--trust", "trust.toml"],
                &args[..],
            ]
            .concat(),
        );
        assert_eq!(ran.code, Some(code), "{}", ran.err);
    }
}

#[test]
fn many_lines_are_few_bytes_and_end_right() {
    let here = Desk::new();
    let mut rows = vec![size(0, 80, 24)];
    rows.extend((0..5000).map(|n| out(n * 20, format!("\x1b[3{}mline {n}\x1b[0m\r\n", n % 8))));
    here.sealed("l.pcr", &[rows]);
    let page = page(&here, "l.pcr", &[]);
    let screen = last_screen(&data(&page));
    assert_eq!(
        (screen[0].as_str(), screen[22].as_str(), screen[23].as_str()),
        ("line 4977", "line 4999", "")
    );
    assert!(page.len() < 5000 * 120, "{}", page.len());
}

#[test]
fn hostile_text_stays_text() {
    let here = Desk::new();
    let tags = "</script><script>alert(1)</script><!--<script><img src=x onerror=alert(1)>&lt;";
    let mut chunks = hostile_session();
    chunks[1].insert(0, out(10_000, tags));
    chunks[1].insert(1, (10_000, 1, Event::Marker { text: tags.into() }));
    here.sealed("h.pcr", &chunks);
    let page = page(&here, "h.pcr", &[]);
    assert!(page.chars().all(|c| c == '\n' || portcullis_player::plain::is_shown(c)));
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img") && !page.contains("<!--"));
    let data = data(&page);
    assert!(data["marks"].to_string().contains("onerror"));
    assert!(data["abridged"].as_bool().unwrap());
}

#[test]
fn what_is_too_much_for_a_page_is_refused_with_a_way_out() {
    let here = Desk::new();
    let full = |n: usize| -> String {
        (0..200)
            .map(|row| format!("\x1b[{};1H{}", row + 1, format!("{n:05}-{row:03} ").repeat(50)))
            .collect()
    };
    let chunk = |from: usize| {
        (from..from + 12)
            .map(|n| out(n as u64 * 100, full(n)))
            .collect::<Vec<_>>()
    };
    let mut chunks = vec![vec![size(0, 500, 200)]];
    chunks.extend((0..120).map(|n| chunk(n * 12)));
    here.sealed("f.pcr", &chunks);
    let ran = here.run(&["export", "--format", "html", "f.pcr", "--trust", "trust.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("--from TIME --until TIME"), "{}", ran.err);
    let args = [
        "export",
        "--format",
        "html",
        "f.pcr",
        "--trust",
        "trust.toml",
        "-o",
        "f.html",
    ];
    assert_eq!(here.run(&args).code, Some(1));
    assert!(!here.path("f.html").exists());
    assert_eq!(
        here.run(&[&args[..], &["--from", "10", "--until", "12"]].concat()).code,
        Some(0)
    );
    assert_eq!(
        here.run(&[&args[..], &["--from", "10", "--until", "12"]].concat()).code,
        Some(1),
        "overwritten"
    );
}

/// What a browser makes of a page at a moment: its document after it has played for a while.
fn browse(here: &Desk, file: &str, fragment: &str) -> Option<(String, String)> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())?;
    let ran = Command::new("timeout")
        .args([BROWSER_SECS, browser, "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=30000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", here.path("browser").display()))
        .arg(format!("file://{}#{fragment}", here.path(file).display()))
        .output()
        .unwrap();
    let (dom, log) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8_lossy(&ran.stderr).into_owned(),
    );
    assert!(ran.status.success(), "{log}");
    assert!(
        !log.contains("Refused to") && !log.contains("Uncaught") && !log.contains("violates"),
        "{log}"
    );
    Some((dom, log))
}

/// The rows of the screen in a document.
fn screen_of(dom: &str) -> Vec<String> {
    let screen = between(dom, "<div id=\"screen\"", "<aside>");
    screen
        .split("<div>")
        .skip(1)
        .map(|row| {
            let mut text = String::new();
            for part in row.split('<') {
                text += part.split_once('>').map_or(part, |(_, text)| text);
            }
            text.trim_end().to_owned()
        })
        .collect()
}

#[test]
fn a_browser_plays_it() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    here.put("a.html", page(&here, "a.pcr", &[]).as_bytes());
    let Some((dom, _)) = browse(&here, "a.html", "t=0.65") else {
        println!("no browser here: the page was tested by its structure only");
        return;
    };
    assert_eq!(screen_of(&dom)[..2], ["$ echo grüße", "gr"]);
    assert_eq!(between(&dom, "<span id=\"time\">", "</span>"), "0:00:00 / 0:01:04");
    let (dom, _) = browse(&here, "a.html", "t=50&play").unwrap();
    assert_eq!(
        screen_of(&dom)[..4],
        ["$ echo grüße", "grüße\u{FFFD}", "$ oops", "exit"]
    );
    assert_eq!(between(&dom, "<span id=\"time\">", "</span>"), "0:01:04 / 0:01:04");
    let (dom, _) = browse(&here, "a.html", "find=OOPS").unwrap();
    assert_eq!(between(&dom, "<span id=\"said\">", "</span>"), "hit at 0:01:01");
    assert!(dom.contains("<span class=\"found\">oops</span>"), "{dom}");
    here.sealed("h.pcr", &hostile_session());
    here.put("h.html", page(&here, "h.pcr", &[]).as_bytes());
    let (dom, _) = browse(&here, "h.html", "t=3600").unwrap();
    assert_eq!(screen_of(&dom)[0], "after");
}
