//! Identities whole and in shares, through the built program and through stock `age`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use support::locked::{CONTENT_KEY, envelope};
use support::*;

const TEXT: [&str; 4] = ["text", "a.pcr", "--trust", "trust.toml"];

/// A stock tool, run in the folder; its standard output.
fn stock(here: &Desk, program: &str, args: &[&str]) -> Vec<u8> {
    let Output { status, stdout, stderr } = Command::new(program)
        .args(args)
        .current_dir(here.dir.path())
        .output()
        .unwrap();
    assert!(
        status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    stdout
}

fn stock_text(here: &Desk, program: &str, args: &[&str]) -> String {
    String::from_utf8(stock(here, program, args))
        .unwrap()
        .trim_end()
        .to_owned()
}

/// The recipient that `key` prints.
fn key(here: &Desk, args: &[&str]) -> String {
    let ran = here.run(&[&["key"], args].concat());
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    let recipient = ran.out.trim_end().to_owned();
    assert!(
        recipient.starts_with("age1") && !recipient.contains('\n'),
        "{recipient}"
    );
    recipient
}

fn locked_to(here: &Desk, recipients: &[&str]) {
    let recipients: Vec<_> = recipients.iter().map(|r| r.parse().unwrap()).collect();
    here.locked("a.pcr", &shell(), &envelope(&CONTENT_KEY, &recipients));
}

fn refused(here: &Desk, args: &[&str], code: i32, part: &str) {
    let ran = here.run(args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{args:?}: {}", ran.err);
    assert!(ran.err.contains(part), "{part}: {}", ran.err);
}

#[test]
fn identities_are_those_of_stock_age() {
    let here = Desk::new();
    let ours = key(&here, &["new", "-o", "ours"]);
    assert_eq!(stock_text(&here, "age-keygen", &["-y", "ours"]), ours);
    stock(&here, "age-keygen", &["-o", "theirs"]);
    let theirs = stock_text(&here, "age-keygen", &["-y", "theirs"]);
    // Our envelope, their tool: what it prints is the content key and nothing else.
    locked_to(&here, &[&ours, &theirs]);
    for identity in ["ours", "theirs"] {
        assert_eq!(stock(&here, "age", &["-d", "-i", identity, "a.pcr.age"]), CONTENT_KEY);
        let ran = here.run(&[&TEXT[..], &["--identity", identity]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    // Their envelope, our tool, in both of its forms.
    here.put("content.key", &CONTENT_KEY);
    for form in [&["-r"][..], &["-a", "-r"]] {
        stock(
            &here,
            "age",
            &[&["-o", "made.age"], form, &[&theirs, "-r", &ours, "content.key"]].concat(),
        );
        here.locked("a.pcr", &shell(), &fs::read(here.path("made.age")).unwrap());
        fs::remove_file(here.path("made.age")).unwrap();
        let ran = here.run(&[&TEXT[..], &["--identity", "ours"]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let ran = here.run(&["verify", "a.pcr", "--trust", "trust.toml"]);
        assert!(ran.out.contains("encrypted to 2 recipients, locked"), "{}", ran.out);
    }
    let mode = fs::metadata(here.path("ours")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    refused(&here, &["key", "new", "-o", "ours"], 1, "choose another name");
    let json: serde_json::Value =
        serde_json::from_str(&here.run(&["key", "new", "-o", "third", "--json"]).out).unwrap();
    assert_eq!((&json["schema"], &json["files"][0]), (&1.into(), &"third".into()));
}

#[test]
fn enough_shares_open_and_fewer_do_not() {
    let here = Desk::new();
    let quorum = key(&here, &["new", "-o", "quorum", "--shares", "5", "--threshold", "3"]);
    let other = key(&here, &["new", "-o", "other", "--shares", "3", "--threshold", "2"]);
    // Nobody holds it alone.
    assert!(
        !here.path("quorum").exists() && here.path("quorum.share5").exists() && !here.path("quorum.share6").exists()
    );
    let mode = fs::metadata(here.path("quorum.share1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    locked_to(&here, &[&quorum, &other]);
    let with = |shares: &[&str]| {
        let shares: Vec<&str> = shares.iter().flat_map(|share| ["--share", share]).collect();
        [&TEXT[..], &shares]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let run = |shares: &[&str]| {
        let args = with(shares);
        here.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for shares in [
        &["quorum.share1", "quorum.share2", "quorum.share3"][..],
        &["quorum.share5", "quorum.share3", "quorum.share1"],
        &[
            "quorum.share1",
            "quorum.share2",
            "quorum.share3",
            "quorum.share4",
            "quorum.share5",
        ],
        &["other.share3", "other.share1"],
    ] {
        let ran = run(shares);
        assert_eq!(ran.code, Some(0), "{shares:?}: {}", ran.err);
        assert!(ran.out.contains("echo grüße"), "{}", ran.out);
    }
    let sound = fs::read_to_string(here.path("quorum.share3")).unwrap();
    let value = sound.lines().find(|line| line.starts_with("share = ")).unwrap();
    let wrong: String = value.chars().rev().collect();
    here.put("mistyped", sound.replace("index = 3", "index = 4").as_bytes());
    here.put(
        "reversed",
        sound
            .replace(value, &format!("share = {}", &wrong[..wrong.len() - 8]))
            .as_bytes(),
    );
    here.put("cut", sound.split("checksum").next().unwrap().as_bytes());
    for (shares, part) in [
        (
            &["quorum.share1", "quorum.share2"][..],
            "2 shares, and 3 are needed to open",
        ),
        (&["quorum.share1"], "1 shares, and 3 are needed to open"),
        (
            &["quorum.share1", "quorum.share2", "quorum.share1"],
            "share 1 was given twice",
        ),
        (
            &["quorum.share1", "quorum.share2", "other.share3"],
            "do not go together",
        ),
        (
            &["quorum.share1", "quorum.share2", "mistyped"],
            "its checksum does not match",
        ),
        (&["quorum.share1", "quorum.share2", "reversed"], "share reversed: "),
        (&["quorum.share1", "quorum.share2", "cut"], "a line is missing"),
        (&["trust.toml"], "no share of an identity"),
    ] {
        let ran = run(shares);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{shares:?}: {}", ran.err);
        assert!(ran.err.contains(part), "{shares:?}: {}", ran.err);
        assert!(!ran.err.contains(&value[8..]), "a share is a secret: {}", ran.err);
    }
    // Enough, and of somebody else.
    let stranger = key(&here, &["new", "-o", "stranger", "--shares", "2", "--threshold", "2"]);
    assert_ne!(stranger, quorum);
    let ran = run(&["stranger.share1", "stranger.share2"]);
    assert_eq!(ran.code, Some(12), "{}", ran.err);
    assert!(ran.err.contains("encrypted to others"), "{}", ran.err);
}

#[test]
fn an_identity_is_split_and_joined() {
    let here = Desk::new();
    let recipient = key(&here, &["new", "-o", "whole"]);
    assert_eq!(
        key(&here, &["split", "whole", "--shares", "4", "--threshold", "2"]),
        recipient
    );
    assert_eq!(
        key(
            &here,
            &["split", "whole", "--shares", "3", "--threshold", "3", "-o", "again"]
        ),
        recipient
    );
    locked_to(&here, &[&recipient]);
    let two = ["--share", "whole.share4", "--share", "whole.share2"];
    assert_eq!(key(&here, &[&["join", "-o", "joined"], &two[..]].concat()), recipient);
    assert_eq!(stock(&here, "age", &["-d", "-i", "joined", "a.pcr.age"]), CONTENT_KEY);
    assert_eq!(
        fs::read_to_string(here.path("joined")).unwrap(),
        fs::read_to_string(here.path("whole")).unwrap()
    );
    // Of one identity, and of two splittings.
    let mixed = [
        "--share",
        "whole.share1",
        "--share",
        "again.share2",
        "--share",
        "again.share3",
    ];
    refused(
        &here,
        &[&["key", "join", "-o", "never"], &mixed[..]].concat(),
        1,
        "not of one splitting",
    );
    assert!(!here.path("never").exists());
    for (args, part) in [
        (&["key", "new", "-o", "x", "--shares", "3"][..], "--threshold"),
        (&["key", "new", "-o", "x", "--threshold", "3"], "--shares"),
        (
            &["key", "new", "-o", "x", "--shares", "3", "--threshold", "4"],
            "no more than there are",
        ),
        (
            &["key", "new", "-o", "x", "--shares", "3", "--threshold", "1"],
            "at least 2",
        ),
        (&["key", "new", "-o", "x", "--shares", "300", "--threshold", "2"], "300"),
        (&["key", "join", "-o", "x"], "--share"),
        (&["key"], "key"),
    ] {
        refused(&here, args, 2, part);
    }
    assert!(!here.path("x").exists() && !here.path("x.share1").exists());
    // All of them or none: nothing is overwritten, and nothing is left behind.
    here.put("half.share3", b"somebody's");
    refused(
        &here,
        &["key", "new", "-o", "half", "--shares", "3", "--threshold", "2"],
        1,
        "half.share3",
    );
    assert!(!here.path("half.share1").exists() && !here.path("half.share2").exists());
    assert_eq!(fs::read(here.path("half.share3")).unwrap(), b"somebody's");
    // A file of several is nobody's to be split.
    let two = [
        fs::read(here.path("whole")).unwrap(),
        fs::read(here.path("joined")).unwrap(),
    ]
    .concat();
    here.put("two", &two);
    refused(
        &here,
        &["key", "split", "two", "--shares", "2", "--threshold", "2"],
        2,
        "more than one identity",
    );
}
