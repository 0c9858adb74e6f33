//! A canary in everything a session may hold: at no moment is it in any file of an encrypted spool, nor in the recording.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use portcullis_recording::event::Event;
use portcullis_recording::spool::{ENVELOPE_FILE, MAIN_FILE, tail_file};
use portcullis_recording::{Around, Batch, LineCipher};
use support::locked::{CONTENT_KEY, envelope, open};
use support::*;

const CANARY: &str = "tinker tailor soldier sailor 4711";
/// What a thief may know of it.
const PART_BYTES: usize = 8;
const LINE_KEY: [u8; 32] = [0x1E; 32];
const SEGMENTS: u64 = 3;

/// Input, output, error output, exec command, environment, marker, screen: all with the canary.
fn events() -> Vec<Event<'static>> {
    let bytes = || CANARY.as_bytes().to_vec();
    let request = |kind: &'static str, detail: Vec<u8>| Event::Request {
        kind: kind.into(),
        detail: detail.into(),
        want: CANARY.into(),
    };
    vec![
        Event::Input(bytes().into()),
        Event::Output(bytes().into()),
        Event::Output(bytes().repeat(40).into()),
        Event::Stderr(bytes().into()),
        request("exec", bytes()),
        request("env", format!("SECRET={CANARY}").into_bytes()),
        Event::Marker { text: CANARY.into() },
        Event::Notice {
            bytes: bytes().into(),
            how: portcullis_recording::event::NoticeHow::Stderr,
        },
    ]
}

struct Spool {
    desk: Desk,
    scans: usize,
}

impl Spool {
    fn append(&mut self, name: &str, bytes: &mut Vec<u8>) {
        let path = self.desk.path(name);
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
        bytes.clear();
        self.scan();
    }

    /// Raw, and as stock `zstd -dc` decompresses it.
    fn scan(&mut self) {
        for entry in fs::read_dir(self.desk.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let raw = fs::read(&path).unwrap();
            let unpacked = Command::new("zstd").args(["-dc", "--"]).arg(&path).output().unwrap();
            if path.file_name().is_some_and(|name| name == MAIN_FILE) {
                assert!(
                    unpacked.status.success(),
                    "{}",
                    String::from_utf8_lossy(&unpacked.stderr)
                );
            }
            for bytes in [&raw, &unpacked.stdout] {
                for needle in CANARY
                    .as_bytes()
                    .windows(PART_BYTES)
                    .chain([&LINE_KEY[..], &CONTENT_KEY])
                {
                    let at = bytes.windows(needle.len()).position(|w| w == needle);
                    assert_eq!(at, None, "{}: {}", path.display(), String::from_utf8_lossy(needle));
                }
            }
            self.scans += 1;
        }
    }
}

#[test]
fn the_canary_is_in_no_file_at_any_time() {
    let desk = Desk::new();
    let identity = age::x25519::Identity::generate();
    fs::remove_file(desk.path("trust.toml")).unwrap();
    let sealed = envelope(&CONTENT_KEY, &[identity.to_public()]);
    desk.put(ENVELOPE_FILE, &sealed);
    let (mut w, mut main, mut head) = open(7, &sealed);
    let mut spool = Spool { desk, scans: 0 };
    spool.append(MAIN_FILE, &mut head);
    let mut at_ms = 0;
    for segment in 0..SEGMENTS {
        let (name, mut out, mut tail) = (tail_file(segment * 2), Vec::new(), Vec::new());
        w.open_tail(&mut out).unwrap();
        let mut line = LineCipher::new(segment, LINE_KEY);
        let mut all = events();
        all.push(line.seal(CANARY.as_bytes()).unwrap());
        all.push(line.reveal());
        for event in &all {
            at_ms += 1;
            w.push(at_ms, 1, event, &mut out).unwrap();
            tail.extend_from_slice(&out);
            spool.append(&name, &mut out);
        }
        w.check(at_ms, &mut out).unwrap();
        tail.extend_from_slice(&out);
        spool.append(&name, &mut out);
        let screen = Event::Keyframe {
            cols: 80,
            rows: 24,
            dump: CANARY.into(),
        };
        let around = Around {
            keyframes: &[(1, screen)],
            behind: &[],
        };
        // Level 1 leaves most of the text in literals.
        let mut chunk = w.close_tail().unwrap().encode(&tail, around, 1, &mut main).unwrap();
        spool.append(MAIN_FILE, &mut chunk);
        fs::remove_file(spool.desk.path(&name)).unwrap();
        let mut batch = Batch::new();
        events().iter().for_each(|event| batch.push(at_ms, 1, event).unwrap());
        spool.append(MAIN_FILE, &mut w.put_batch(batch, 1, &mut main).unwrap());
    }
    let (mut end, seal) = w.finish(&mut main, at_ms, "exit", "").unwrap();
    spool.append(MAIN_FILE, &mut end);
    assert!(spool.scans > 80, "{}", spool.scans);

    // It was all there.
    let here = spool.desk;
    assert_eq!(fs::metadata(here.path(MAIN_FILE)).unwrap().len(), seal.file_bytes());
    here.put("trust.toml", trust().to_text().unwrap().as_bytes());
    here.put(
        "id",
        age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).as_bytes(),
    );
    let ran = here.run(&[
        "text",
        MAIN_FILE,
        "--trust",
        "trust.toml",
        "--input",
        "--identity",
        "id",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.matches(CANARY).count() > 100, "{}", ran.out);
    let ran = here.run(&[
        "verify",
        MAIN_FILE,
        "--trust",
        "trust.toml",
        "--content",
        "--identity",
        "id",
    ]);
    assert!(ran.out.starts_with("SEALED"), "{}", ran.out);
}
