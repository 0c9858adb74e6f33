//! What redacted copies are made of and looked through for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_player::grid::{Grid, Stream};
use portcullis_recording::event::{Event, NoticeHow};
use portcullis_recording::trust::NodeKey;

use super::*;

pub const SECRET: &str = "hunter2";

/// A folder with a redactor's key made by ssh-keygen, trusted as "privacy office", and two more that nobody knows.
pub fn desk() -> Desk {
    let here = Desk::new();
    for name in ["redactor", "other", "stranger"] {
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(here.path(name))
            .status()
            .unwrap();
        assert!(made.success());
    }
    let mut trust = trust();
    for (file, name) in [("redactor", "privacy office"), ("other", "second office")] {
        let line = std::fs::read_to_string(here.path(&format!("{file}.pub"))).unwrap();
        let blob = BASE64.decode(line.split(' ').nth(1).unwrap().trim()).unwrap();
        trust.redactors.push(NodeKey {
            name: name.into(),
            key: blob[blob.len() - 32..].try_into().unwrap(),
            from_wall_ms: 0,
            until_wall_ms: None,
            revoked_wall_ms: None,
        });
    }
    here.put("trust.toml", trust.to_text().unwrap().as_bytes());
    here
}

pub fn redact(here: &Desk, more: &[&str]) -> Ran {
    redact_to(here, "a.pcr", "b.pcr", more)
}

pub fn redact_to(here: &Desk, from: &str, to: &str, more: &[&str]) -> Ran {
    let fixed = ["redact", from, "-o", to, "--trust", "trust.toml", "--key", "redactor"];
    let reason = ["--reason", "a court order"];
    here.run(&[&fixed[..], &reason, more].concat())
}

pub fn keyframe(grid: &Grid) -> Event<'static> {
    Event::Keyframe {
        cols: 40,
        rows: 6,
        dump: grid.terminal().dump().into(),
    }
}

pub fn typed(at_ms: u64, bytes: &str) -> Row {
    (at_ms, 1, Event::Input(bytes.as_bytes().to_vec().into()))
}

/// A shell in which the secret is typed, echoed key by key in colour, drawn again, titled, and scrolled away.
pub fn session() -> Vec<Vec<Row>> {
    let mut grid = Grid::new(40, 6);
    let mut chunks = Vec::new();
    let mut first = vec![
        size(0, 40, 6),
        request(1, 1, "shell", b""),
        out(2, "$ "),
        (
            3,
            1,
            Event::Notice {
                bytes: b"welcome".to_vec().into(),
                how: NoticeHow::Stderr,
            },
        ),
    ];
    for (n, key) in "login hunter2".chars().enumerate() {
        let at_ms = 100 + 10 * n as u64;
        first.push(typed(at_ms, &key.to_string()));
        first.push(out(at_ms + 5, format!("\x1b[3{}m{key}\x1b[0m", n % 8)));
    }
    first.push(typed(500, "X\u{7f}\r"));
    first.push(out(501, "\r\nok\r\n$ "));
    let draw = |grid: &mut Grid, rows: &[Row]| {
        for (_, _, event) in rows {
            if let Event::Output(bytes) = event {
                grid.feed(Stream::Out, bytes);
            }
        }
    };
    draw(&mut grid, &first);
    chunks.push(first);

    // Nothing is said anew, but the keyframe shows it.
    let second = vec![(1000, 1, keyframe(&grid)), out(1000, "ls\r\n"), out(1100, "a b\r\n$ ")];
    draw(&mut grid, &second);
    chunks.push(second);

    // Drawn anew from its middle, in two pieces and backwards, and as a title.
    let third = vec![
        (2000, 1, keyframe(&grid)),
        out(2000, "\x1b]0;my hunter2 title\x07"),
        out(2100, "\x1b[H\x1b[2J\x1b[1;5Hter2\x1b[1;1H\x1b[1mhun"),
        out(
            2150,
            "\x1b[2;1Hhun\x1b[s界\x1b[u\x1b[1@t\x1b[2;5H\x1b[K\x1b[2;1Hhunter2",
        ),
        (2200, 1, Event::Stderr(b"hunter2 is wrong\r\n".to_vec().into())),
    ];
    draw(&mut grid, &third);
    grid.feed(Stream::Err, b"hunter2 is wrong\r\n");
    chunks.push(third);

    // Gone from the screen in this chunk.
    let fourth = vec![(3000, 1, keyframe(&grid)), out(3000, "\x1b[H\x1b[2J$ ")];
    draw(&mut grid, &fourth);
    chunks.push(fourth);

    // And this one has nothing of it.
    let fifth = vec![
        (4000, 1, keyframe(&grid)),
        out(4000, "exit\r\n"),
        (4100, 1, Event::ExitStatus(0)),
        end(4200),
    ];
    chunks.push(fifth);

    // Words of events.
    chunks.insert(
        0,
        vec![
            request(0, 2, "exec", b"mysql -phunter2"),
            (
                0,
                2,
                Event::Marker {
                    text: "uses hunter2".into(),
                },
            ),
            (0, 2, Event::Output(b"plain hun".to_vec().into())),
            (0, 2, Event::Output(b"ter2\n".to_vec().into())),
        ],
    );
    chunks
}

/// Every frame of a file as it stands there, and chunks unpacked.
pub fn frames(file: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut raw, mut unpacked, mut rest) = (Vec::new(), Vec::new(), file);
    while !rest.is_empty() {
        let size = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
        let (frame, after) = rest.split_at(size);
        if frame.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            raw.push(frame.to_vec());
            unpacked.push(zstd::decode_all(frame).unwrap());
        }
        rest = after;
    }
    (raw, unpacked)
}

pub fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The file, and that the secret is in no byte of it.
pub fn assert_clean(here: &Desk, name: &str, secret: &str) -> Vec<u8> {
    let file = std::fs::read(here.path(name)).unwrap();
    assert!(!holds(&file, secret));
    let (_, unpacked) = frames(&file);
    for (n, content) in unpacked.iter().enumerate() {
        assert!(!holds(content, secret), "chunk {n}");
    }
    file
}
