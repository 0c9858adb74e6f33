//! `grep`: every place text can be in, one file or a folder, exit codes, JSON, other tools' files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use portcullis_recording::Event;
use support::*;

/// A desk with one recording in a folder of its own, and a foreign one.
fn desk() -> Desk {
    let here = Desk::new();
    std::fs::create_dir(here.path("in")).unwrap();
    let mut chunks = shell();
    chunks.insert(
        1,
        vec![
            (
                30_000,
                1,
                Event::Marker {
                    text: "half time".into(),
                },
            ),
            out(31_000, "\x1b[?1049h\x1b[2;3Hhid\x1b[31mden words"),
            out(32_000, "\x1b[?1049l"),
            request(33_000, 2, "exec", b"cat /etc/shadow"),
            (33_500, 2, Event::Output(b"root:*:1\n".to_vec().into())),
        ],
    );
    here.sealed("in/a.pcr", &chunks);
    here.sealed("in/b.pcr", &[vec![size(0, 20, 5), out(5, "nothing here")]]);
    here.put("in/readme.txt", b"not a recording");
    here
}

#[test]
fn it_finds_what_was_seen_typed_and_done() {
    let here = desk();
    for (args, expected) in [
        (
            vec!["gr.ße"],
            "0:00:00.500 [1] input: echo grüße␍\n0:00:00.600 [1] $ echo grüße\n0:00:00.700 [1] grüße\u{FFFD}\n",
        ),
        (vec!["--input", "echo"], "0:00:00.500 [1] input: echo grüße␍\n"),
        (vec!["--output", "echo"], "0:00:00.600 [1] $ echo grüße\n"),
        // Across colours and cursor moves, on a screen that is gone at the end.
        (vec!["hidden words"], "0:00:31.000 [1]   hidden words\n"),
        (vec!["--raw", "hidden words"], ""),
        (
            vec!["--raw", r"\x1b\[31mden"],
            "0:00:31.000 [1] $ \u{FFFD}[?1049h\u{FFFD}[2;3Hhid\u{FFFD}[31mden words\u{FFFD}[?1049lexit\n",
        ),
        (vec!["-F", "(half"], ""),
        (vec!["-i", "HALF TIME"], "0:00:30.000 [1] event: marker: half time\n"),
        (
            vec!["--events", "shadow"],
            "0:00:33.000 [2] event: request: exec cat /etc/shadow\n",
        ),
        (vec!["root:"], "0:00:33.500 [2] root:*:1\n"),
        (vec!["--channel", "1", "root:"], ""),
        (vec!["-m", "1", "gr.ße"], "0:00:00.500 [1] input: echo grüße␍\n"),
    ] {
        let args = [&["grep"], args.as_slice(), &["in/a.pcr", "--trust", "trust.toml"]].concat();
        let ran = here.run(&args);
        assert_eq!(ran.out, expected, "{args:?} {}", ran.err);
        assert_eq!(ran.code, Some(i32::from(expected.is_empty())), "{args:?} {}", ran.err);
    }
}

#[test]
fn folders_are_searched_in_order() {
    let here = desk();
    for n in 0..40 {
        here.sealed(
            &format!("in/more/{n:02}.pcr"),
            &[vec![size(0, 20, 5), out(n, format!("needle {n}"))]],
        );
    }
    let ran = here.run(&["grep", "needle", "in", "--trust", "trust.toml"]);
    let expected: String = (0..40)
        .map(|n| format!("in/more/{n:02}.pcr:0:00:00.{n:03} [1] needle {n}\n"))
        .collect();
    assert_eq!((ran.out, ran.code), (expected, Some(0)), "{}", ran.err);
    let ran = here.run(&["grep", "-l", "needle 1?2$|nothing", "in", "--trust", "trust.toml"]);
    assert_eq!(ran.out, "in/b.pcr\nin/more/02.pcr\nin/more/12.pcr\n");
    let ran = here.run(&["grep", "--json", "needle 7", "in", "--trust", "trust.toml"]);
    let row: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(row["file"], "in/more/07.pcr");
    assert_eq!((&row["at_ms"], &row["channel"]), (&7.into(), &1.into()));
    assert_eq!((&row["place"], &row["text"]), (&"output".into(), &"needle 7".into()));
    assert_eq!(row["at"], "2026-09-21T14:13:20.007Z");
    assert_eq!(row["verdict"], "SEALED, in the ledger");
}

#[test]
fn what_cannot_be_searched_is_told_by_the_exit_code() {
    let here = desk();
    let whole = std::fs::read(here.path("in/a.pcr")).unwrap();
    let run = |args: &[&str]| here.run(&[&["grep", "echo"], args].concat());
    assert_eq!(run(&["in"]).code, Some(12));
    assert_eq!(run(&["in", "--unverified"]).code, Some(0));
    let mut broken = whole;
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    here.put("in/z.pcr", &broken);
    let ran = run(&["in", "--trust", "trust.toml"]);
    assert_eq!(ran.code, Some(5), "{}", ran.err);
    assert!(
        ran.out.starts_with("in/a.pcr:") && ran.err.contains("in/z.pcr: INVALID"),
        "{}",
        ran.err
    );
    assert_eq!(run(&["none"]).code, Some(6));
    let ran = here.run(&["grep", "(", "in"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("-F"), "{}", ran.err);
}

#[test]
fn other_tools_files_are_unverified() {
    let here = Desk::new();
    here.put(
        "c.cast",
        b"{\"version\":2,\"width\":80,\"height\":24}\n[1.5,\"o\",\"a \\u001b[1mneedle\"]\n",
    );
    let ran = here.run(&["grep", "a needle", "c.cast"]);
    assert_eq!(ran.out, "0:00:01.500 [1] a needle\n");
    assert!(ran.err.contains("UNVERIFIED"), "{}", ran.err);
    let ran = here.run(&["grep", "a needle", "c.cast", "--trust", "trust.toml"]);
    assert_eq!((ran.out.as_str(), ran.code), ("", Some(12)), "{}", ran.err);
}
