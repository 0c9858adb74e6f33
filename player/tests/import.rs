//! Other tools' files: shown, never verified.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::*;

const CAST: &str = "{\"version\":2,\"width\":30,\"height\":5,\"timestamp\":1790000000,\"title\":\"demo\"}\n\
                    [0.5,\"o\",\"$ \"]\n[1,\"i\",\"id\\r\"]\n[1.1,\"o\",\"id\\r\\nroot\\r\\n\"]\n[2,\"m\",\"here\"]\n";

fn desk() -> Desk {
    let here = Desk::new();
    here.put("a.cast", CAST.as_bytes());
    let frame =
        |secs: u32, data: &[u8]| [&secs.to_le_bytes(), &[0; 4], &(data.len() as u32).to_le_bytes(), data].concat();
    here.put("b.ttyrec", &[frame(100, b"$ "), frame(101, b"id\r\nroot\r\n")].concat());
    here
}

#[test]
fn nothing_verifies() {
    let here = desk();
    for file in ["a.cast", "b.ttyrec"] {
        for args in [
            &["verify", file][..],
            &["verify", file, "--trust", "trust.toml"],
            &["prove", file],
        ] {
            let ran = here.run(args);
            assert_eq!(ran.code, Some(12), "{args:?}: {}", ran.err);
            assert!(
                ran.out
                    .starts_with("UNVERIFIED: an asciicast v2, which nobody has signed")
                    || ran.out.starts_with("UNVERIFIED: a ttyrec, which nobody has signed"),
                "{}",
                ran.out
            );
        }
        // Who names trusted keys expects a verdict, and is not shown anything else.
        assert_eq!(here.run(&["text", file, "--trust", "trust.toml"]).code, Some(12));
    }
    // Nor does it under the name of a recording.
    here.put("c.pcr", CAST.as_bytes());
    let ran = here.run(&["text", "c.pcr"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(5), ""), "{}", ran.err);
}

#[test]
fn everything_shows_it_as_unverified() {
    let here = desk();
    for (file, at) in [("a.cast", "2026-09-21T14:13:2"), ("b.ttyrec", "1970-01-01T00:01:4")] {
        let ran = here.run(&["text", file]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.err.starts_with("UNVERIFIED"), "{}", ran.err);
        assert!(ran.out.starts_with("$ id\nroot\n"), "{}", ran.out);
        let ran = here.run(&["grep", "--json", "ro+t", file]);
        let row: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert!(row["verdict"].as_str().unwrap().starts_with("UNVERIFIED"), "{row}");
        assert!(row["at"].as_str().unwrap().starts_with(at), "{row}");
    }
}

#[test]
fn an_export_that_is_read_again_says_the_same() {
    let here = desk();
    for version in ["asciicast-v2", "asciicast-v3"] {
        let first = here.run(&["export", "--format", version, "--input", "a.cast"]).out;
        assert!(first.contains("UNVERIFIED"), "{first}");
        here.put("again.cast", first.as_bytes());
        let again = here.run(&["export", "--format", version, "--input", "again.cast"]).out;
        let events = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(events(&first).len(), 4, "{first}");
        // A marker says what it was an event of.
        assert_eq!(events(&first)[..3], events(&again)[..3]);
    }
}

#[test]
fn a_broken_one_is_told_with_its_line() {
    let here = Desk::new();
    here.put("x.cast", b"{\"version\":2}\nnonsense\n[1,\"o\",\"\"]\n");
    let ran = here.run(&["text", "x.cast"]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.err.contains("x.cast: line 2"), "{}", ran.err);
}
