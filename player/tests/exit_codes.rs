//! Every verdict through the built program: first word, exit code, what is missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use portcullis_recording::event::{ChannelAccount, Event};
use support::*;

#[test]
fn sealed_and_in_the_ledger_is_zero() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let ran = here.run(&["verify", "a.pcr", "--trust", "trust.toml"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for part in [
        "SEALED, in the ledger",
        "bastion-1",
        "until 2026-",
        "leaf 0 of 1",
        "cosigned by witness.example/w1",
        "exit: the program ended",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!ran.out.contains(['\x1b', '\x07']));
    let json: serde_json::Value =
        serde_json::from_str(&here.run(&["verify", "a.pcr", "--trust", "trust.toml", "--json"]).out).unwrap();
    assert_eq!(json["word"], "SEALED");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["exit"], 0);
    assert_eq!(json["session"]["login"], "root");
    assert_eq!(json["ledger"]["tree_size"], 1);
    assert_eq!(
        here.run(&["verify", "a.pcr", "--trust", "trust.toml", "--content"])
            .code,
        Some(0)
    );
}

#[test]
fn the_last_accounts_are_told_with_the_content() {
    let here = Desk::new();
    let mut chunks = shell();
    let account = |to_target| ChannelAccount {
        channel: 1,
        from_client: to_target,
        to_target,
        from_target_out: 32,
        to_client_out: 32,
        from_target_err: 6,
        to_client_err: 6,
        ..ChannelAccount::default()
    };
    chunks[0].push((700, 0, Event::Accounts(vec![account(3)])));
    let end = chunks[1].pop().unwrap();
    chunks[1].push((63_900, 0, Event::Accounts(vec![account(11)])));
    chunks[1].push(end);
    here.sealed("a.pcr", &chunks);
    let ran = here.run(&["verify", "a.pcr", "--trust", "trust.toml", "--content", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(json["accounts"][0]["to_target"], 11);
    assert_eq!(json["accounts"][0]["to_client_err"], 6);
    let ran = here.run(&["verify", "a.pcr", "--trust", "trust.toml", "--content"]);
    let told = "channel 1: 11 bytes to the target, 32 and 6 (stderr) to the client";
    assert!(ran.out.contains(told), "{}", ran.out);
    let ran = here.run(&["verify", "a.pcr", "--trust", "trust.toml"]);
    assert!(!ran.out.contains("channel 1"), "{}", ran.out);
}

#[test]
fn nothing_else_is_zero() {
    let here = Desk::new();
    let path = here.sealed("a.pcr", &shell());
    let good = std::fs::read(&path).unwrap();
    let proof = std::fs::read_to_string(here.path("a.pcr.proof")).unwrap();
    here.put("bare.pcr", &good);
    here.put("flipped.pcr", &{
        let mut bytes = good.clone();
        bytes[good.len() / 2] ^= 1;
        bytes
    });
    here.put("cut.pcr", &good[..good.len() - 1]);
    here.put("junk.pcr", b"\x1b]0;SECRET\x07 not a recording");
    here.put("empty.pcr", b"");
    here.put("torn.proof", &proof.as_bytes()[..proof.len() / 2]);
    here.put("forged.proof", proof.replace("index 0", "index 1").as_bytes());
    here.put("binary.proof", &[0xFF; 100]);
    here.put("nobody.toml", b"quorum = 0\n");
    here.put("bad.toml", b"colour = 1\n");
    here.put("recovered.pcr", &recovered(8, &shell().concat()));
    let (main, tail) = spooled(9, &shell().concat());
    here.put("spool/main.pcr", &main);
    here.put("spool/tail-000000", &tail);
    let t = ["--trust", "trust.toml"];
    let table: &[(&[&str], i32, &str)] = &[
        (&["a.pcr"], 12, "UNVERIFIED"),
        (&["a.pcr", "--trust", "nobody.toml"], 12, "UNVERIFIED"),
        (&["bare.pcr", t[0], t[1]], 12, "SEALED, not proved"),
        (
            &["bare.pcr", t[0], t[1], "--proof", "a.pcr.proof"],
            0,
            "SEALED, in the ledger",
        ),
        (
            &["a.pcr", t[0], t[1], "--proof", "torn.proof"],
            12,
            "SEALED, not proved",
        ),
        (
            &["a.pcr", t[0], t[1], "--proof", "forged.proof"],
            12,
            "SEALED, not proved",
        ),
        (
            &["a.pcr", t[0], t[1], "--proof", "binary.proof"],
            12,
            "SEALED, not proved",
        ),
        (&["flipped.pcr", t[0], t[1]], 5, "INVALID at byte"),
        (&["flipped.pcr"], 5, "INVALID at byte"),
        (&["cut.pcr", t[0], t[1]], 5, "INVALID"),
        (&["junk.pcr", t[0], t[1]], 5, "INVALID"),
        (&["empty.pcr"], 5, "INVALID"),
        (&["recovered.pcr", t[0], t[1]], 10, "RECOVERED up to 64.000 s"),
        (&["spool", t[0], t[1]], 11, "PREFIX up to 64.000 s"),
        (&["spool"], 12, "UNVERIFIED"),
        (&["spool/main.pcr", t[0], t[1]], 5, "INVALID"),
        (&["none.pcr"], 6, ""),
        (&["a.pcr", "--trust", "none.toml"], 6, ""),
        (&["a.pcr", t[0], t[1], "--proof", "none.proof"], 6, ""),
        (&["a.pcr", "--trust", "bad.toml"], 1, ""),
        (&["/dev/null"], 2, ""),
        (&["a.pcr", "--colour"], 2, ""),
        (&[], 2, ""),
    ];
    for (args, code, word) in table {
        let ran = here.run(&[&["verify"], *args].concat());
        assert_eq!(ran.code, Some(*code), "{args:?}: {}{}", ran.out, ran.err);
        assert!(ran.out.starts_with(word), "{args:?}: {}", ran.out);
        assert!(!word.is_empty() || ran.out.is_empty(), "{args:?}: {}", ran.out);
        assert!(!(ran.out.clone() + &ran.err).contains(['\x1b', '\x07']), "{args:?}");
    }
    let ran = here.run(&["verify", "a.pcr"]);
    assert!(ran.out.contains("--trust FILE"), "{}", ran.out);
    let ran = here.run(&["verify", "spool/main.pcr", "--trust", "trust.toml"]);
    assert!(ran.out.contains("give its folder"), "{}", ran.out);
}

#[test]
fn a_flipped_byte_anywhere_is_never_zero() {
    let (file, seal) = sealed(7, &shell());
    let here = Desk::new();
    here.put("a.pcr.proof", proof(&seal).as_bytes());
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 0x10;
        let path = here.put("a.pcr", &bytes);
        let ask = portcullis_player::verdict::Ask {
            file: path,
            trust: Some(here.path("trust.toml")),
            ..Default::default()
        };
        let report = portcullis_player::verdict::examine(&ask).unwrap().report;
        assert_eq!(
            (report.exit, report.word),
            (5, "INVALID"),
            "byte {at}: {}",
            report.verdict
        );
    }
}

#[test]
fn what_is_not_verified_is_not_shown_unless_asked() {
    let here = Desk::new();
    let path = here.sealed("a.pcr", &shell());
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    here.put("bad.pcr", &bytes);
    for verb in [
        &["text"][..],
        &["play"],
        &["commands"],
        &["export", "--format", "asciicast-v2"],
    ] {
        for (file, code) in [("a.pcr", 12), ("bad.pcr", 5)] {
            let ran = here.run(&[verb, &[file]].concat());
            assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{verb:?} {file}");
            assert!(ran.err.contains("--unverified"), "{}", ran.err);
            let ran = here.run(&[verb, &[file, "--unverified"]].concat());
            assert_eq!(ran.code, Some(0), "{verb:?} {file}: {}", ran.err);
            assert!(ran.err.starts_with("UNVERIFIED"), "{}", ran.err);
        }
    }
}

#[test]
fn proofs_are_shown_with_what_they_prove() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let ran = here.run(&["prove", "a.pcr", "--trust", "trust.toml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(
        ran.out.contains("holds, as leaf 0 of 1") && ran.out.contains("c2sp.org/tlog-proof@v1"),
        "{}",
        ran.out
    );
    let ran = here.run(&["prove", "a.pcr", "--json"]);
    assert_eq!(ran.code, Some(12));
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["proved"], false);
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let here = Desk::new();
    let rows = vec![vec![size(0, 80, 24), out(1, "line\r\n".repeat(100_000))]];
    here.sealed("a.pcr", &rows);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis-player"))
        .args(["text", "a.pcr", "--trust", "trust.toml"])
        .current_dir(here.dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
