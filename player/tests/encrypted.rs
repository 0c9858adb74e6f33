//! Encrypted recordings through the built program: verified by everybody, read by recipients, whole or in shares.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use std::fs;
use std::io::Cursor;

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::recover;
use support::locked::{CONTENT_KEY, envelope, sealed};
use support::*;

const TRUST: [&str; 2] = ["--trust", "trust.toml"];
const VERBS: [&[&str]; 5] = [
    &["text"],
    &["play"],
    &["commands"],
    &["grep", "echo"],
    &["export", "--format", "asciicast-v3"],
];

/// A desk with `a.pcr`, encrypted to `mia` and `tom`, and the same in clear as `clear.pcr`.
fn desk() -> Desk {
    let here = Desk::new();
    let recipients = [here.identity("mia"), here.identity("tom")].map(|i| i.to_public());
    here.locked("a.pcr", &shell(), &envelope(&CONTENT_KEY, &recipients));
    here.sealed("clear.pcr", &shell());
    here
}

#[test]
fn everybody_verifies_and_is_told_that_it_is_encrypted() {
    let here = desk();
    let ran = here.run(&["verify", "a.pcr", TRUST[0], TRUST[1]]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    for part in [
        "SEALED, in the ledger",
        "encrypted to 2 recipients, locked",
        "--identity FILE",
        "2 chunks, ",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    for (args, code, part) in [
        (&["--identity", "tom"][..], 0, "encrypted to 2 recipients, opened"),
        (
            &["--identity", "mia", "--content"],
            0,
            "encrypted to 2 recipients, opened",
        ),
        // Whoever wants content looked at is not told that all is well.
        (&["--content"], 12, "the content, which was to be read: give --identity"),
    ] {
        let ran = here.run(&[&["verify", "a.pcr", TRUST[0], TRUST[1]], args].concat());
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.out, ran.err);
        assert!(
            ran.out.starts_with("SEALED") && ran.out.contains(part),
            "{args:?}: {}",
            ran.out
        );
    }
    here.identity("eve");
    let ran = here.run(&["verify", "a.pcr", TRUST[0], TRUST[1], "--identity", "eve"]);
    assert_eq!(ran.code, Some(12), "{}", ran.out);
    assert!(
        ran.out.contains("encrypted to others than the identities given"),
        "{}",
        ran.out
    );
    // One of several is enough.
    let both = [
        "verify",
        "a.pcr",
        TRUST[0],
        TRUST[1],
        "--identity",
        "eve",
        "--identity",
        "tom",
    ];
    assert_eq!(here.run(&both).code, Some(0));

    let json: serde_json::Value =
        serde_json::from_str(&here.run(&["verify", "a.pcr", TRUST[0], TRUST[1], "--json"]).out).unwrap();
    assert_eq!(json["encryption"]["recipients"], 2);
    assert_eq!(json["encryption"]["opened"], false);
    let json: serde_json::Value =
        serde_json::from_str(&here.run(&["verify", "clear.pcr", TRUST[0], TRUST[1], "--json"]).out).unwrap();
    assert!(json["encryption"].is_null());
}

#[test]
fn only_recipients_read() {
    let here = desk();
    here.identity("eve");
    for verb in VERBS {
        for keys in [&[][..], &["--identity", "eve"]] {
            let ran = here.run(&[verb, &["a.pcr", TRUST[0], TRUST[1]], keys].concat());
            assert_eq!(
                (ran.code, ran.out.as_str()),
                (Some(12), ""),
                "{verb:?} {keys:?}: {}",
                ran.err
            );
            let what = if keys.is_empty() {
                "--identity FILE"
            } else {
                "encrypted to others"
            };
            assert!(
                ran.err.contains("locked") && ran.err.contains(what),
                "{verb:?}: {}",
                ran.err
            );
            assert!(!ran.err.contains("INVALID"), "{}", ran.err);
        }
        let clear = here.run(&[verb, &["clear.pcr", TRUST[0], TRUST[1]]].concat());
        let opened = here.run(&[verb, &["a.pcr", TRUST[0], TRUST[1], "--identity", "tom"]].concat());
        assert_eq!(opened.code, Some(0), "{verb:?}: {}", opened.err);
        assert_eq!(opened.out, clear.out, "{verb:?}");
        assert!(!opened.out.is_empty() || *verb == ["commands"]);
    }
    // An unverified one needs the key no less.
    let ran = here.run(&["text", "a.pcr", "--unverified"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(12), ""), "{}", ran.err);
    let ran = here.run(&["text", "a.pcr", "--unverified", "--identity", "mia"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.starts_with("UNVERIFIED"), "{}", ran.err);
}

#[test]
fn the_status_line_says_it() {
    let here = desk();
    let keyring = portcullis_player::keyring::Keyring::read(&[here.path("mia")], &[]).unwrap();
    let ask = portcullis_player::verdict::Ask {
        file: here.path("a.pcr"),
        trust: Some(here.path("trust.toml")),
        keyring: keyring.into(),
        ..Default::default()
    };
    let examined = portcullis_player::verdict::examine(&ask).unwrap();
    assert_eq!(
        examined.report.badge(),
        "SEALED by bastion-1, ledger leaf 0 of 1, 1 witness, encrypted to 2 recipients, opened"
    );
    // Searching in a player reads at two places at once.
    let source = examined.source.unwrap();
    let mut again = portcullis_player::source::Cursor::new(source.again().unwrap());
    assert!(again.next_event().unwrap().is_some());
}

#[test]
fn an_envelope_that_is_missing_or_another_one_is_named() {
    let here = desk();
    let sound = fs::read(here.path("a.pcr.age")).unwrap();
    let mia: age::x25519::Identity = fs::read_to_string(here.path("mia"))
        .unwrap()
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let read = |part: &str| {
        let ran = here.run(&["text", "a.pcr", TRUST[0], TRUST[1], "--identity", "mia"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(12), ""), "{}", ran.err);
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
        // Whatever became of the envelope, the recording is what it was.
        assert_eq!(here.run(&["verify", "a.pcr", TRUST[0], TRUST[1]]).code, Some(0));
    };
    fs::remove_file(here.path("a.pcr.age")).unwrap();
    read("a.pcr.age is missing");
    // One for the same people, of another recording.
    here.put("a.pcr.age", &envelope(&CONTENT_KEY, &[mia.to_public()]));
    read("not the envelope this recording was signed with");
    here.put("a.pcr.age", &sound[..sound.len() - 1]);
    read("not the envelope this recording was signed with");
    here.put("a.pcr.age", &vec![b'x'; 1 << 20]);
    read("not the envelope this recording was signed with");
    // Signed, and useless.
    for (bytes, part) in [
        (
            envelope(b"31 bytes are no content key ...", &[mia.to_public()]),
            "holds no content key",
        ),
        (envelope(&[7; 33], &[mia.to_public()]), "holds no content key"),
        (b"not an age file".to_vec(), "does not open"),
        (sound[..sound.len() / 2].to_vec(), "does not open"),
        (
            b"age-encryption.org/v1\n-> X25519 \x1b]0;SECRET\x07\n\n--- \n".to_vec(),
            "does not open",
        ),
    ] {
        here.locked("a.pcr", &shell(), &bytes);
        read(part);
    }
    // Another key than it was written under: the content is not what was signed.
    here.locked("a.pcr", &shell(), &envelope(&[9; 32], &[mia.to_public()]));
    let ran = here.run(&["text", "a.pcr", TRUST[0], TRUST[1], "--identity", "mia"]);
    assert_eq!(ran.code, Some(5), "{}", ran.err);
    assert!(ran.err.contains("the content key does not open it"), "{}", ran.err);
}

#[test]
fn a_search_names_what_it_did_not_search() {
    let here = desk();
    fs::create_dir(here.path("all")).unwrap();
    for name in ["a.pcr", "a.pcr.age", "a.pcr.proof", "clear.pcr", "clear.pcr.proof"] {
        fs::copy(here.path(name), here.path("all").join(name)).unwrap();
    }
    let ran = here.run(&["grep", "echo", "all", TRUST[0], TRUST[1]]);
    assert_eq!(ran.code, Some(12), "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("clear.pcr:") && !ran.out.contains("a.pcr:"),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("all/a.pcr: SEALED") && ran.err.contains("not read: its content is encrypted"),
        "{}",
        ran.err
    );
    let ran = here.run(&["grep", "echo", "all", TRUST[0], TRUST[1], "--identity", "tom"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("all/clear.pcr:") && ran.out.contains("all/a.pcr:"),
        "{}",
        ran.out
    );
}

#[test]
fn running_and_crashed_sessions_open_as_well() {
    let here = Desk::new();
    let mia = here.identity("mia").to_public();
    let bytes = envelope(&CONTENT_KEY, &[mia]);
    let (mut w, _, main) = locked::open(8, &bytes);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for (at_ms, channel, event) in shell().concat() {
        w.push(at_ms, channel, &event, &mut tail).unwrap();
    }
    w.check(64_000, &mut tail).unwrap();
    here.put("spool/main.pcr", &main);
    here.put("spool/main.pcr.age", &bytes);
    here.put("spool/tail-000000", &tail);
    let node = SigningKey::from_bytes(&[0x11; 32]);
    let key = node.verifying_key().to_bytes();
    let unsigned = recover(Cursor::new(main.as_slice()), vec![(0, tail)], key, "crash", "").unwrap();
    let signature = node.sign(&unsigned.statement()).to_bytes();
    let done = unsigned.sign(&signature).unwrap();
    here.put("r.pcr", &[&main[..done.keep_bytes as usize], &done.append].concat());
    here.put("r.pcr.age", &bytes);
    for (file, code, word) in [
        ("spool", 11, "PREFIX up to 64.000 s"),
        ("r.pcr", 10, "RECOVERED up to 64.000 s"),
    ] {
        let ran = here.run(&["verify", file, TRUST[0], TRUST[1]]);
        assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
        assert!(
            ran.out.starts_with(word) && ran.out.contains("to 1 recipient, locked"),
            "{}",
            ran.out
        );
        let ran = here.run(&["text", file, TRUST[0], TRUST[1], "--identity", "mia"]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.out.contains("echo grüße"), "{}", ran.out);
    }
}

#[test]
fn identity_files_that_are_none_are_refused_without_repeating_them() {
    let here = desk();
    let sound = fs::read_to_string(here.path("tom")).unwrap();
    here.put("broken", sound.replace("KEY-1", "KEY-1Q").as_bytes());
    here.put("plugin", b"AGE-PLUGIN-YUBIKEY-1QQQQ\n");
    here.put("sealed", b"age-encryption.org/v1\n-> scrypt abc 18\n");
    here.put("nothing", b"# nothing\n");
    here.put("large", &vec![b'#'; 1 << 20]);
    for (file, part) in [
        ("broken", "line 2 is no X25519 identity"),
        ("plugin", "line 1 is no X25519 identity"),
        ("sealed", "itself encrypted"),
        ("nothing", "no identity in it"),
        ("large", "too long"),
    ] {
        let ran = here.run(&["text", "a.pcr", TRUST[0], TRUST[1], "--identity", file]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{file}: {}", ran.err);
        assert!(
            ran.err.contains(part) && !ran.err.contains("QQQQ"),
            "{file}: {}",
            ran.err
        );
    }
    let ran = here.run(&["text", "a.pcr", TRUST[0], TRUST[1], "--identity", "nowhere"]);
    assert_eq!(ran.code, Some(6), "{}", ran.err);
}

#[test]
fn without_the_key_nothing_of_the_content_is_in_the_file() {
    let here = desk();
    let file = fs::read(here.path("a.pcr")).unwrap();
    let clear = fs::read(here.path("clear.pcr")).unwrap();
    let (again, _) = sealed(7, &shell(), b"another envelope");
    for needle in [&b"ends in 5 min"[..], b"session", b"oops"] {
        let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        assert!(!holds(&file) && !holds(&again));
        // Compression may hide one of them in the clear one, not all.
        assert!(holds(&zstd_of(&here, "clear.pcr")) || holds(&clear));
    }
    assert_eq!(zstd_of(&here, "a.pcr"), b"");
}

/// What stock `zstd -dc` makes of a file.
fn zstd_of(here: &Desk, name: &str) -> Vec<u8> {
    let output = std::process::Command::new("zstd")
        .args(["-dc", "--"])
        .arg(here.path(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
