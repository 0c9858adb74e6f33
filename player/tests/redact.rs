//! Redacted copies through the built program: the secret is in no byte of them, and everybody is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use portcullis_player::grid::{Grid, Stream};
use support::locked::{CONTENT_KEY, envelope};
use support::redaction::*;
use support::*;

#[test]
fn a_text_is_gone_from_every_byte_and_everybody_is_told() {
    let here = desk();
    here.sealed("a.pcr", &session());
    let original = std::fs::read(here.path("a.pcr")).unwrap();
    let ran = redact(&here, &["--text", SECRET]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(
        ran.out.starts_with("REDACTED by privacy office, chunks 0-4\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("chunk 2 (0:00:01.000 to 0:00:01.100): 0 events changed, 1 screens"),
        "{}",
        ran.out
    );
    assert_eq!(ran.err, "");
    assert_eq!(std::fs::read(here.path("a.pcr")).unwrap(), original);
    assert!(!here.path("b.pcr.part").exists());

    let copy = assert_clean(&here, "b.pcr", SECRET);
    let (was, _) = frames(&original);
    let (is, unpacked) = frames(&copy);
    // Without the salt nobody can make the chunk whose hash the leaf has, whatever they guess.
    for content in frames(&original).1.iter().take(5) {
        let (_, salt) = content.split_last_chunk::<16>().unwrap();
        assert!(unpacked.iter().all(|chunk| !chunk.ends_with(salt)));
    }
    assert_eq!(was.len(), is.len());
    let same: Vec<bool> = was.iter().zip(&is).map(|(was, is)| was == is).collect();
    assert_eq!(same, [false, false, false, false, false, true]);

    // Everybody is told: exit code, first word, who and why, the original's place in the ledger.
    let said = here.run(&["verify", "b.pcr", "--trust", "trust.toml", "--content"]);
    assert_eq!(said.code, Some(13), "{}{}", said.out, said.err);
    for part in [
        "REDACTED by privacy office, chunks 0-4, the original in the ledger",
        "a court order",
        "privacy office (the redaction)",
        "bastion-1 (the opening)",
        "leaf 0 of 1",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let json = here.run(&["verify", "b.pcr", "--trust", "trust.toml", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["word"], &json["exit"]), (&"REDACTED".into(), &13.into()));
    assert_eq!(json["redaction"]["chunks"], serde_json::json!([0, 1, 2, 3, 4]));
    let proved = here.run(&["prove", "b.pcr", "--trust", "trust.toml"]);
    assert!(
        proved.out.contains("was sealed as the original of this redacted copy"),
        "{}",
        proved.out
    );

    let ask = portcullis_player::verdict::Ask {
        file: here.path("b.pcr"),
        trust: Some(here.path("trust.toml")),
        ..Default::default()
    };
    assert_eq!(
        portcullis_player::verdict::examine(&ask).unwrap().report.badge(),
        "REDACTED by privacy office, chunks 0-4, recorded by bastion-1, ledger leaf 0 of 1, 1 witness"
    );

    // And shown: the rest, blocks, and marks where something was.
    let text = here.run(&["text", "b.pcr", "--trust", "trust.toml", "--input"]);
    assert_eq!(text.code, Some(0), "{}", text.err);
    assert!(text.err.starts_with("REDACTED by privacy office"), "{}", text.err);
    for part in [
        "$ login ███████",
        "a b",
        "redacted: text",
        "login ███████␡␍",
        "exec mysql -p███████",
        "plain ███████",
    ] {
        // What was taken back again is still there.
        let part = part.replace("███████␡", "███████X␡");
        assert!(text.out.contains(&part), "{part}: {}", text.out);
    }
    let found = here.run(&["grep", "hunter|unter2", "b.pcr", "--trust", "trust.toml"]);
    assert_eq!((found.code, found.out.as_str()), (Some(1), ""));
    let marks = here.run(&["grep", "redacted: ", "b.pcr", "--trust", "trust.toml", "--events"]);
    assert_eq!(marks.code, Some(0), "{}", marks.err);
    for (format, word) in [
        ("html", "REDACTED by privacy office"),
        ("text", "REDACTED by privacy office"),
    ] {
        let exported = here.run(&["export", "b.pcr", "--trust", "trust.toml", "--format", format]);
        assert!(exported.out.contains(word), "{format}");
        assert!(!exported.out.contains(SECRET), "{format}");
    }
}

#[test]
fn patterns_go_and_what_looks_like_them_stays() {
    let here = desk();
    here.sealed("a.pcr", &session());
    let ran = redact(&here, &["--regex", "hunter[0-9]", "--regex", "w[e]lcome"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_clean(&here, "b.pcr", SECRET);
    assert_clean(&here, "b.pcr", "welcome");
    let kept = here.run(&["grep", "-c", "login|a b|wrong", "b.pcr", "--trust", "trust.toml"]);
    assert_ne!(kept.code, Some(0), "grep has no -c");
    let kept = here.run(&["grep", "login|a b|wrong", "b.pcr", "--trust", "trust.toml"]);
    assert_eq!(kept.code, Some(0));
    assert!(
        kept.out.contains("a b") && kept.out.contains("wrong") && kept.out.contains("login"),
        "{}",
        kept.out
    );
}

#[test]
fn wide_and_torn_characters_go_whole() {
    let here = desk();
    let mut rows = vec![size(0, 20, 4), request(1, 1, "shell", b"")];
    for (n, byte) in "a界b é\r\n".as_bytes().iter().enumerate() {
        rows.push(out(10 + n as u64, [*byte]));
    }
    here.sealed("a.pcr", &[rows]);
    let ran = redact(&here, &["--text", "界b é"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_clean(&here, "b.pcr", "界");
    assert_clean(&here, "b.pcr", "\u{8c}b");
    let text = here.run(&["text", "b.pcr", "--trust", "trust.toml"]);
    assert!(text.out.contains("a█████"), "{}", text.out);
}

#[test]
fn a_region_is_withheld_whatever_is_in_it() {
    let here = desk();
    here.sealed("a.pcr", &session());
    // Half-open: what is said at 0:01.100 goes, what is at 0:02.000 stays.
    let ran = redact(&here, &["--from", "1.1", "--to", "2"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let copy = std::fs::read(here.path("b.pcr")).unwrap();
    let (_, unpacked) = frames(&copy);
    assert!(!unpacked.iter().any(|content| holds(content, "a b\r\n")));
    assert!(unpacked.iter().any(|content| holds(content, "ls\r\n")));
    // The next keyframe showed it.
    assert!(ran.out.contains("chunks 2-3\n"), "{}", ran.out);
    assert!(unpacked.iter().any(|content| holds(content, "redacted: withheld")));

    let ran = redact_to(&here, "a.pcr", "c.pcr", &["--input"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let text = here.run(&["text", "c.pcr", "--trust", "trust.toml", "--input"]);
    assert!(
        !text.out.contains('␍') && text.out.contains("redacted: withheld"),
        "{}",
        text.out
    );
    assert!(
        text.out.contains("login hunter2"),
        "what was printed stays: {}",
        text.out
    );

    let ran = redact_to(&here, "a.pcr", "d.pcr", &["--channel", "2"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("chunk 0\n"), "{}", ran.out);
    let file = std::fs::read(here.path("d.pcr")).unwrap();
    let (_, unpacked) = frames(&file);
    assert!(!holds(&unpacked[0], "mysql") && !holds(&unpacked[0], "plain"));
}

/// Three commands and what they printed, told in a chunk behind.
fn with_commands() -> Vec<Vec<Row>> {
    let shown = vec![
        size(0, 40, 6),
        request(1, 1, "shell", b""),
        out(100, "$ first\r\n"),
        out(200, "$ second hunter2\r\n"),
        out(300, "$ third\r\n"),
        out(400, "$ fourth\r\n"),
    ];
    let told = vec![
        out(500, "$ "),
        command(500, (100, 150), "first"),
        command(500, (200, 250), "second hunter2"),
        command(500, (300, 350), "third"),
        command(500, (400, 450), "fourth"),
        end(500),
    ];
    vec![shown, told]
}

#[test]
fn commands_tell_nothing_that_was_taken_away() {
    let here = desk();
    here.sealed("a.pcr", &with_commands());
    let listed = |file: &str| here.run(&["commands", file, "--trust", "trust.toml"]).out;
    let ran = redact(&here, &["--text", SECRET]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_clean(&here, "b.pcr", SECRET);
    let told = listed("b.pcr");
    assert!(told.contains("second ███████\n") && told.contains("third"), "{told}");

    // What ran at the time goes, and what may have been typed then: that behind it.
    for more in [
        &["--from", "0.2", "--to", "0.21"][..],
        &["--from", "0.24", "--to", "0.26", "--input"],
    ] {
        std::fs::remove_file(here.path("b.pcr")).unwrap();
        let ran = redact(&here, more);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let told = listed("b.pcr");
        let names = |name: &str| told.contains(name);
        assert!(names("first") && names("fourth"), "{told}");
        assert!(!names("second") && !names("third"), "{told}");
    }
}

#[test]
fn a_copy_of_a_copy_marks_both() {
    let here = desk();
    here.sealed("a.pcr", &session());
    assert_eq!(redact(&here, &["--text", "mysql"]).code, Some(0));
    let first = here.run(&["verify", "b.pcr", "--trust", "trust.toml"]);
    assert!(
        first.out.starts_with("REDACTED by privacy office, chunk 0, "),
        "{}",
        first.out
    );
    let again = here.run(&[
        "redact",
        "b.pcr",
        "-o",
        "c.pcr",
        "--trust",
        "trust.toml",
        "--key",
        "other",
        "--reason",
        "tidy",
        "--text",
        "wrong",
    ]);
    assert_eq!(again.code, Some(0), "{}{}", again.out, again.err);
    let said = here.run(&["verify", "c.pcr", "--trust", "trust.toml", "--content"]);
    assert_eq!(said.code, Some(13));
    assert!(
        said.out
            .starts_with("REDACTED by second office, chunks 0, 3-4, the original in the ledger"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("tidy; before that by privacy office: a court order"),
        "{}",
        said.out
    );
    assert_clean(&here, "c.pcr", "mysql");
    assert_clean(&here, "c.pcr", "wrong");
}

#[test]
fn a_redactor_that_nobody_knows_is_told_what_to_say_and_proves_nothing() {
    let here = desk();
    here.sealed("a.pcr", &session());
    let args = [
        "redact",
        "a.pcr",
        "-o",
        "b.pcr",
        "--trust",
        "trust.toml",
        "--key",
        "stranger",
        "--reason",
        "x",
        "--text",
        SECRET,
    ];
    let nameless = here.run(&args);
    assert_eq!(nameless.code, Some(2), "{}", nameless.err);
    let ran = here.run(&[&args[..], &["--name", "somebody"]].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("[[redactor]] name = \"somebody\""), "{}", ran.err);
    let said = here.run(&["verify", "b.pcr", "--trust", "trust.toml"]);
    assert_eq!(said.code, Some(12), "{}", said.out);
    assert!(
        said.out.starts_with("UNVERIFIED") && said.out.contains("[[redactor]]"),
        "{}",
        said.out
    );
    assert_eq!(here.run(&["text", "b.pcr", "--trust", "trust.toml"]).code, Some(12));
    assert_clean(&here, "b.pcr", SECRET);
}

#[test]
fn what_cannot_be_kept_back_is_refused_and_leaves_nothing() {
    let here = desk();
    here.sealed("a.pcr", &session());
    here.put("taken.pcr", b"mine");
    let (main, tail) = spooled(3, &[out(5, "hunter2")]);
    here.put("spool/main.pcr", &main);
    here.put("spool/tail-000000", &tail);
    here.put("crash.pcr", &recovered(4, &[out(5, "hunter2")]));
    here.put("flipped.pcr", &{
        let mut bytes = std::fs::read(here.path("a.pcr")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    // As base64 it is not found, and the redactor is told in the help; here it is in the words of the HEAD.
    let refused = |file: &str, out: &str, more: &[&str], code: i32, why: &str| {
        let ran = redact_to(&here, file, out, more);
        assert_eq!(ran.code, Some(code), "{more:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(why), "{why}: {}", ran.err);
        assert!(
            !here.path("x.pcr").exists() && !here.path("x.pcr.part").exists(),
            "{why}"
        );
    };
    refused("a.pcr", "taken.pcr", &["--text", SECRET], 1, "exists");
    refused("a.pcr", "x.pcr", &[], 2, "nothing to redact was named");
    refused(
        "a.pcr",
        "x.pcr",
        &["--text", "not there"],
        1,
        "nothing of that is in the recording",
    );
    refused("a.pcr", "x.pcr", &["--regex", "("], 2, "unclosed group");
    refused("a.pcr", "x.pcr", &["--regex", "x*"], 2, "matches where nothing is");
    refused("a.pcr", "x.pcr", &["--text", "db1.prod"], 1, "the HEAD");
    refused("a.pcr", "x.pcr", &["--text", "the program ended"], 1, "the SEAL");
    refused("a.pcr", "x.pcr", &["--text", "court"], 2, "the reason");
    refused("flipped.pcr", "x.pcr", &["--text", SECRET], 5, "INVALID");
    refused("spool", "x.pcr", &["--text", SECRET], 11, "wait for its seal");
    refused(
        "crash.pcr",
        "x.pcr",
        &["--text", SECRET],
        1,
        "torn end of a recovered recording",
    );
    assert_eq!(std::fs::read(here.path("taken.pcr")).unwrap(), b"mine");
    // A control sequence is kept whole, so that text which is one cannot go.
    refused("a.pcr", "x.pcr", &["--text", "[2J"], 1, "no copy was made");
}

#[test]
fn what_a_pattern_leaves_behind_elsewhere_is_not_delivered() {
    let here = desk();
    // The sequence is text for the search of bytes and none for the terminal.
    let rows = vec![size(0, 20, 4), out(1, "2J\x1b[2J2J"), end(5)];
    here.sealed("a.pcr", &[rows]);
    let ran = redact(&here, &["--text", "2J"]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("the copy would still hold it"), "{}", ran.err);
    assert!(!here.path("b.pcr").exists() && !here.path("b.pcr.part").exists());
}

#[test]
fn old_recordings_without_salt_are_redacted_with_a_warning() {
    let here = desk();
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recording/testdata");
    for (name, guessable) in [("sealed", true), ("salted", false)] {
        let file = std::fs::read(testdata.join(format!("{name}.pcr"))).unwrap();
        here.put(&format!("{name}.pcr"), &file);
        let ran = redact_to(
            &here,
            &format!("{name}.pcr"),
            &format!("{name}-copy.pcr"),
            &["--text", "ls"],
        );
        assert_eq!(ran.code, Some(0), "{name}: {}{}", ran.out, ran.err);
        assert_eq!(
            ran.err.contains("recorded without a salt: chunk 0."),
            guessable,
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_recovered_recording_is_redacted_in_its_chunks_and_says_so() {
    let here = desk();
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recording/testdata");
    here.put("a.pcr", &std::fs::read(testdata.join("recovered.pcr")).unwrap());
    let ran = redact(&here, &["--text", "one"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let said = here.run(&["verify", "b.pcr", "--trust", "trust.toml"]);
    assert_eq!(said.code, Some(13));
    assert!(
        said.out
            .contains("REDACTED by privacy office, chunk 0, the original RECOVERED up to 1.300 s"),
        "{}",
        said.out
    );
    assert_clean(&here, "b.pcr", "one");
}

#[test]
fn a_keyframe_in_the_middle_of_a_chunk_goes_as_well() {
    let here = desk();
    let mut grid = Grid::new(40, 6);
    grid.feed(Stream::Out, b"$ ");
    let before = keyframe(&grid);
    grid.feed(Stream::Out, b"hunter2");
    let after = keyframe(&grid);
    here.sealed(
        "a.pcr",
        &[
            vec![size(0, 40, 6), out(1, "$ ")],
            vec![(10, 1, before), out(20, "hunter2"), (30, 1, after), out(40, "x")],
        ],
    );
    let ran = redact(&here, &["--text", SECRET]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("chunk 1\n"), "{}", ran.out);
    assert_clean(&here, "b.pcr", SECRET);
    let text = here.run(&["text", "b.pcr", "--trust", "trust.toml"]);
    assert!(text.out.contains("$ ███████x"), "{}", text.out);
}

#[test]
fn an_encrypted_recording_is_not_redacted() {
    let here = desk();
    let recipients = [here.identity("mia").to_public()];
    here.locked("a.pcr", &session(), &envelope(&CONTENT_KEY, &recipients));
    let ran = redact(&here, &["--text", SECRET]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
    assert!(
        ran.err.contains("an encrypted recording cannot be redacted"),
        "{}",
        ran.err
    );
    assert!(!here.path("b.pcr").exists());
}
