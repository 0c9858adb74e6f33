//! Recordings made with the format's own writer: deterministic keys, one node, one ledger, one witness.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

pub mod locked;
pub mod redaction;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::event::Event;
use portcullis_recording::note::{Checkpoint, KeyKind, VerifierKey};
use portcullis_recording::proof::Proof;
use portcullis_recording::trust::{LedgerKey, NodeKey};
use portcullis_recording::{Batch, Entropy, Head, Main, Sealed, Trust, Writer, merkle, recover};
use sha2::{Digest, Sha256};

pub const OPENED: u64 = 1_790_000_000_000;
pub const ORIGIN: &str = "bastion-1.example/ledger";

fn entropy(session: u8) -> Entropy {
    let mut n = 0u64;
    Box::new(move |out: &mut [u8; 32]| {
        *out = Sha256::digest([&[session], n.to_be_bytes().as_slice()].concat()).into();
        n += 1;
    })
}

fn node() -> SigningKey {
    SigningKey::from_bytes(&[0x11; 32])
}

fn log() -> SigningKey {
    SigningKey::from_bytes(&[0x22; 32])
}

fn witness() -> SigningKey {
    SigningKey::from_bytes(&[0x33; 32])
}

fn verifier(name: &str, kind: KeyKind, key: &SigningKey) -> VerifierKey {
    VerifierKey::new(name, kind, key.verifying_key().to_bytes()).unwrap()
}

pub fn trust() -> Trust {
    Trust {
        quorum: 1,
        nodes: vec![NodeKey {
            name: "bastion-1".into(),
            key: node().verifying_key().to_bytes(),
            from_wall_ms: OPENED - 1000,
            until_wall_ms: Some(OPENED + 100_000_000),
            revoked_wall_ms: None,
        }],
        ledgers: vec![LedgerKey {
            origin: ORIGIN.into(),
            key: verifier(ORIGIN, KeyKind::Note, &log()),
        }],
        witnesses: vec![verifier("witness.example/w1", KeyKind::Cosignature, &witness())],
        ..Trust::default()
    }
}

fn head(session: u8) -> Head {
    Head {
        session_id: [session; 16],
        node: "bastion-1".into(),
        opened_wall_ms: OPENED,
        target: "db1.prod.example".into(),
        login: "root".into(),
        // Recorded names are hostile as well.
        identity: "mia\u{1b}]0;owned\u{7}@example.com".into(),
        grant_id: "01JD8Q2Z7M4T9V3X5B6N8C0R1W".into(),
        grant_until_wall_ms: OPENED + 1_800_000,
        cert_sha256: [3; 32],
        cert_serial: 7,
        cert_key_id: "mia".into(),
        source: "203.0.113.17".into(),
        policy_digest: [4; 32],
        client_id: "SSH-2.0-OpenSSH_9.9p2".into(),
        ledger_origin: ORIGIN.into(),
        node_key: node().verifying_key().to_bytes(),
        ..Head::default()
    }
}

pub fn open(session: u8) -> (Writer, Main, Vec<u8>) {
    let unopened = Writer::prepare(head(session), entropy(session)).unwrap();
    let signature = node().sign(&unopened.statement()).to_bytes();
    unopened.open(&signature).unwrap()
}

/// One event: time, channel, what.
pub type Row = (u64, u32, Event<'static>);

pub fn out(at_ms: u64, bytes: impl AsRef<[u8]>) -> Row {
    (at_ms, 1, Event::Output(bytes.as_ref().to_vec().into()))
}

pub fn size(at_ms: u64, cols: u32, rows: u32) -> Row {
    (
        at_ms,
        1,
        Event::Resize {
            cols,
            rows,
            px_width: 0,
            px_height: 0,
        },
    )
}

pub fn request(at_ms: u64, channel: u32, kind: &'static str, detail: &'static [u8]) -> Row {
    (
        at_ms,
        channel,
        Event::Request {
            kind: kind.into(),
            detail: detail.into(),
            want: kind.into(),
        },
    )
}

pub fn decision(at_ms: u64, channel: u32, action: &'static str, allowed: bool) -> Row {
    (
        at_ms,
        channel,
        Event::Decision {
            action: action.into(),
            allowed,
            rule: "grant".into(),
            code: "ok".into(),
        },
    )
}

/// A command as the screen told it; `times` are when it began and ended.
pub fn command(at_ms: u64, times: (u64, u64), text: &'static str) -> Row {
    let command = portcullis_recording::command::Command {
        source: portcullis_recording::command::Source::Screen,
        confidence: portcullis_recording::command::Confidence::High,
        began_ms: times.0,
        ended_ms: times.1,
        text: text.into(),
        other: "".into(),
        context: "shell".into(),
        directory: "".into(),
        status: None,
        labels: Vec::new(),
    };
    (at_ms, 1, Event::Command(Box::new(command)))
}

pub fn end(at_ms: u64) -> Row {
    (
        at_ms,
        0,
        Event::End {
            code: "exit".into(),
            text: "the program ended".into(),
        },
    )
}

/// A sealed recording of these chunks.
pub fn sealed(session: u8, chunks: &[Vec<Row>]) -> (Vec<u8>, Sealed) {
    let (mut w, mut main, mut file) = open(session);
    let mut last = 0;
    for rows in chunks {
        let mut batch = Batch::new();
        for (at_ms, channel, event) in rows {
            batch.push(*at_ms, *channel, event).unwrap();
            last = *at_ms;
        }
        file.extend(w.put_batch(batch, 3, &mut main).unwrap());
    }
    let (bytes, sealed) = w.finish(&mut main, last + 100, "exit", "the program ended").unwrap();
    file.extend(bytes);
    (file, sealed)
}

/// The spool of a crashed session: main file and its tail.
pub fn spooled(session: u8, rows: &[Row]) -> (Vec<u8>, Vec<u8>) {
    let (mut w, _main, file) = open(session);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    let mut last = 0;
    for (at_ms, channel, event) in rows {
        w.push(*at_ms, *channel, event, &mut tail).unwrap();
        last = *at_ms;
    }
    w.check(last, &mut tail).unwrap();
    (file, tail)
}

/// The recording that recovery makes of it.
pub fn recovered(session: u8, rows: &[Row]) -> Vec<u8> {
    let (main, tail) = spooled(session, rows);
    let unsigned = recover(
        std::io::Cursor::new(main.as_slice()),
        vec![(0, tail)],
        node().verifying_key().to_bytes(),
        "crash",
        "the server stopped",
    )
    .unwrap();
    let signature = node().sign(&unsigned.statement()).to_bytes();
    let done = unsigned.sign(&signature).unwrap();
    [&main[..done.keep_bytes as usize], &done.append].concat()
}

/// A proof that a seal is leaf 0 of 1.
pub fn proof(sealed: &Sealed) -> String {
    let leaf = merkle::leaf_hash(&sealed.entry());
    let mut note = Checkpoint {
        origin: ORIGIN.into(),
        size: 1,
        root: leaf,
    }
    .to_note()
    .unwrap();
    let signature = log().sign(note.text().as_bytes()).to_bytes();
    note.add_signature(&verifier(ORIGIN, KeyKind::Note, &log()), &signature);
    let secs = OPENED / 1000 + 60;
    let cosignature = witness().sign(&note.cosigned_message(secs)).to_bytes();
    note.add_cosignature(
        &verifier("witness.example/w1", KeyKind::Cosignature, &witness()),
        secs,
        &cosignature,
    );
    Proof {
        extra: None,
        index: 0,
        hashes: Vec::new(),
        checkpoint: note,
    }
    .to_string()
}

/// A shell session worth looking at.
pub fn shell() -> Vec<Vec<Row>> {
    vec![
        vec![
            (
                0,
                1,
                Event::ChannelOpen {
                    kind: "session".into(),
                    detail: "".into(),
                },
            ),
            size(1, 40, 10),
            request(2, 1, "shell", b""),
            out(10, "$ "),
            (500, 1, Event::Input(b"echo gr\xc3".to_vec().into())),
            (510, 1, Event::Input(b"\xbc\xc3\x9fe\r".to_vec().into())),
            // A character torn between two events, and bytes that are none.
            out(600, b"echo gr\xc3\xbc\xc3\x9fe\r\ngr\xc3"),
            out(700, b"\xbc\xc3\x9fe\xff\r\n$ "),
        ],
        vec![
            (
                60_000,
                1,
                Event::Notice {
                    bytes: b"\r\nportcullis: ends in 5 min\x07\r\n".to_vec().into(),
                    how: portcullis_recording::event::NoticeHow::Stderr,
                },
            ),
            (61_000, 1, Event::Stderr(b"oops\r\n".to_vec().into())),
            size(62_000, 100, 30),
            out(63_000, "exit\r\n"),
            (63_500, 1, Event::ExitStatus(3)),
            end(64_000),
        ],
    ]
}

/// What D27 lists and more; `SECRET` marks what must never be part of a control sequence on the viewer's side.
pub fn hostile() -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [
        &b"\x1b]52;c;U0VDUkVU\x07"[..],
        b"\x1b]0;SECRET\x07",
        b"\x1b]2;SECRET\x1b\\",
        b"\x1b[6n",
        b"\x1b[5n",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[=c",
        b"\x1bP$qm\x1b\\",
        b"\x1b[21t",
        b"\x1b[20t",
        b"\x1b[8;65535;65535t",
        b"\x1bPq#0SECRET\x1b\\",
        b"\x1b_GSECRET\x1b\\",
        b"\x1b^SECRET\x1b\\",
        b"\x1bXSECRET\x1b\\",
        b"\x9d0;SECRET\x9c",
        b"\x9b6n",
        b"\x90$qm\x9c",
        b"\x9fSECRET\x9c",
        b"\xc2\x9b21t",
        b"\xc2\x9d52;c;U0VDUkVU\xc2\x9c",
        b"\xc2\x90q\xc2\x9c",
        b"\x1b]8;;http://SECRET\x07x\x1b]8;;\x07",
        b"\x1b]1337;File=inline=1:SECRET\x07",
        b"\x1b[?1000h\x1b[?1006h\x1b[?2004h",
        b"\x1b[?1049h",
        b"\x1b[?1049l",
        b"\x1b(0lqk\x1b(B",
        b"x\x1b[65535b",
        b"\x1b[65535;65535H",
        b"\x1b#8",
        b"\x1bZ",
        b"\x05",
        b"\x07\x08\x0e\x0f\x7f",
        b"\x1bc",
        b"\x1b[!p",
        b"\x1b]",
        "\u{202e}evil\u{202c}\u{2066}\u{200b}\u{200d}\u{feff}e\u{301}\u{e0041}\u{ad}".as_bytes(),
        b"\x1b\\\x1b]10;?\x07",
        "\u{1f1e9}\u{1f1ea} 界\u{fe0f}".as_bytes(),
        b"\xf0\x9f",
        b"\x1b[",
        b"\x1b",
        b"\x9b",
    ] {
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"ok ");
    }
    bytes
}

/// A recording of the hostile stream, split at every byte, with sizes nobody has.
pub fn hostile_session() -> Vec<Vec<Row>> {
    let mut first = vec![size(0, 80, 24), request(1, 1, "shell", b"")];
    for (i, byte) in hostile().iter().enumerate() {
        first.push(out(10 + i as u64, [*byte]));
    }
    let mut second = vec![
        size(10_000, 0, 0),
        out(10_001, hostile()),
        size(10_002, 65_535, 65_535),
        out(10_003, hostile()),
    ];
    second.push(out(10_004, b"\x1b[2Jx\x1b[65535b".repeat(20_000)));
    second.push((
        10_005,
        1,
        Event::Notice {
            bytes: hostile().into(),
            how: portcullis_recording::event::NoticeHow::Title,
        },
    ));
    second.push((
        10_006,
        1,
        Event::Marker {
            text: "\u{1b}]0;SECRET\u{7}\u{9b}6n\u{202e}".into(),
        },
    ));
    second.push(out(10_007, "\x1b[H\x1b[Kafter"));
    second.push((
        10_008,
        0,
        Event::End {
            code: "x\u{1b}[6n".into(),
            text: "\u{9d}0;SECRET\u{9c}".into(),
        },
    ));
    vec![first, second]
}

/// Whether a captured stream has nothing in it that came from a recording but cells: only cursor moves, styles and text.
pub fn assert_only_cells(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("the player writes UTF-8");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            assert_eq!(chars.next(), Some('['), "an escape that is no CSI");
            let mut parameters = String::new();
            let last = loop {
                match chars.next().expect("a whole sequence") {
                    c @ ('0'..='9' | ';' | '?') => parameters.push(c),
                    c => break c,
                }
            };
            let fine = match last {
                'H' | 'm' => !parameters.contains('?'),
                'J' => true,
                'h' | 'l' => parameters == "?25",
                _ => false,
            };
            assert!(fine, "CSI {parameters} {last}");
        } else {
            assert!(portcullis_player::plain::is_shown(c), "{c:?} reached the terminal");
        }
    }
}

/// A folder with files in it, and the built binary.
pub struct Desk {
    pub dir: tempfile::TempDir,
}

pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Desk {
    pub fn new() -> Desk {
        let here = Desk {
            dir: tempfile::tempdir().unwrap(),
        };
        here.put("trust.toml", trust().to_text().unwrap().as_bytes());
        here
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A sealed recording with its proof.
    pub fn sealed(&self, name: &str, chunks: &[Vec<Row>]) -> PathBuf {
        let (file, seal) = sealed(7, chunks);
        self.put(&format!("{name}.proof"), proof(&seal).as_bytes());
        self.put(name, &file)
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_portcullis-player"))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        Ran {
            code: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

pub fn opened(path: &Path) -> portcullis_player::source::Source {
    let ask = portcullis_player::verdict::Ask {
        file: path.into(),
        trust: Some(path.with_file_name("trust.toml")),
        ..Default::default()
    };
    portcullis_player::verdict::examine(&ask).unwrap().source.unwrap()
}
