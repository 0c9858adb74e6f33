use super::*;
use sha2::{Digest, Sha256};

/// What is told when these cross, towards the target and back in turn.
fn told(way: Way, talk: &[(Way, &[u8])]) -> Vec<Told> {
    let mut all = Vec::new();
    for cut in [1, 2, 3, 1000] {
        let (mut scp, mut told) = (Scp::new(way, b"/srv".to_vec()), Vec::new());
        for (way, bytes) in talk {
            for part in bytes.chunks(cut) {
                scp.saw(0, *way, part, &mut told);
            }
        }
        scp.end(&mut told);
        all.push(told);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    all.remove(0)
}

fn file(what: What, name: &str, outcome: Outcome, bytes: &[u8], whole: Result<&[u8], Unknown>) -> Told {
    let range = |bytes: &[u8]| super::super::Range {
        offset: 0,
        length: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
    };
    let known = whole.is_ok() || bytes.is_empty();
    Told::Deed(Deed {
        what,
        path: b"/srv".to_vec(),
        other: name.as_bytes().to_vec(),
        outcome,
        began_ms: 0,
        content: Some(Content {
            bytes: bytes.len() as u64,
            whole: whole.map(|bytes| Sha256::digest(bytes).into()),
            ranges: if known { Vec::new() } else { vec![range(bytes)] },
        }),
    })
}

fn folder(name: &str) -> Told {
    Told::Deed(Deed {
        what: What::MakeDir,
        path: b"/srv".to_vec(),
        other: name.as_bytes().to_vec(),
        outcome: Outcome::Done,
        began_ms: 0,
        content: None,
    })
}

const UP: Way = Way::Up;
const DOWN: Way = Way::Down;

#[test]
fn a_tree_goes_up() {
    let talk: &[(Way, &[u8])] = &[
        (DOWN, b"\0"),
        (UP, b"D0755 0 a b\n"),
        (DOWN, b"\0"),
        (UP, b"T1 0 2 0\n"),
        (DOWN, b"\0"),
        (UP, b"C0644 5 one two\n"),
        (DOWN, b"\0"),
        (UP, b"C064\n\0"),
        (DOWN, b"\0"),
        (UP, b"C0644 0 empty\n"),
        (DOWN, b"\0"),
        (UP, b"\0"),
        (DOWN, b"\0"),
        (UP, b"E\n"),
        (DOWN, b"\0"),
        (UP, b"C0600 1 last\n"),
        (DOWN, b"\0"),
        (UP, b"x\0"),
        (DOWN, b"\0"),
    ];
    let up = |name, bytes: &[u8]| file(What::Upload, name, Outcome::Done, bytes, Ok(bytes));
    let expected = [
        folder("a b"),
        up("a b/one two", b"C064\n"),
        up("a b/empty", b""),
        up("last", b"x"),
    ];
    assert_eq!(told(UP, talk), expected);
}

#[test]
fn what_goes_wrong_is_told() {
    type Case<'a> = (&'a str, Way, &'a [(Way, &'a [u8])], Vec<Told>);
    let failed = |words: &str| Outcome::Failed(words.to_owned());
    let cases: &[Case<'_>] = &[
        (
            "the target refuses it",
            UP,
            &[(DOWN, b"\0"), (UP, b"C0644 3 x\n"), (DOWN, b"\x01scp: x: no room\n")],
            vec![file(
                What::Upload,
                "x",
                failed("scp: x: no room"),
                b"",
                Err(Unknown::NotOpened),
            )],
        ),
        (
            "the target fails to write",
            UP,
            &[
                (DOWN, b"\0"),
                (UP, b"C0644 3 x\n"),
                (DOWN, b"\0"),
                (UP, b"abc\0"),
                (DOWN, b"\x01full\n"),
            ],
            vec![file(
                What::Upload,
                "x",
                failed("full"),
                b"abc",
                Err(Unknown::PartFailed),
            )],
        ),
        (
            "the sender cannot read on",
            DOWN,
            &[
                (UP, b"\0"),
                (DOWN, b"C0644 3 x\n"),
                (UP, b"\0"),
                (DOWN, b"a\0\0\x01scp: x: I/O error\n"),
                (UP, b"\0"),
            ],
            vec![file(
                What::Download,
                "x",
                failed("scp: x: I/O error"),
                b"a\0\0",
                Err(Unknown::PartFailed),
            )],
        ),
        (
            "the sender finds nothing",
            DOWN,
            &[(UP, b"\0"), (DOWN, b"\x01scp: x: No such file\n")],
            vec![file(
                What::Download,
                "",
                failed("scp: x: No such file"),
                b"",
                Err(Unknown::NotOpened),
            )],
        ),
        (
            "the session ends within it",
            DOWN,
            &[(UP, b"\0"), (DOWN, b"C0644 3 x\n"), (UP, b"\0"), (DOWN, b"ab")],
            vec![file(
                What::Download,
                "x",
                Outcome::Unfinished,
                b"ab",
                Err(Unknown::LeftOpen),
            )],
        ),
        (
            "a sender that does not wait",
            UP,
            &[(UP, b"C0644 3 x\nabc\0"), (DOWN, b"\0\0\0")],
            vec![file(What::Upload, "x", Outcome::Done, b"abc", Ok(b"abc"))],
        ),
        (
            "a sender that did not wait for a no",
            UP,
            &[(DOWN, b"\0"), (UP, b"C0644 3 x\nC06"), (DOWN, b"\x01no\n")],
            vec![
                file(What::Upload, "x", Outcome::Unfinished, b"C06", Err(Unknown::Lost)),
                Told::Lost("bytes of a file that was refused"),
            ],
        ),
        (
            "words of a login script",
            DOWN,
            &[(UP, b"\0"), (DOWN, b"Welcome\n")],
            vec![Told::Lost("a record of no known kind")],
        ),
        (
            "what is put where times are told",
            UP,
            &[(DOWN, b"\0"), (UP, b"Touch /tmp/x\n")],
            vec![Told::Lost("times that cannot be read")],
        ),
        (
            "what is put behind a folder's end",
            UP,
            &[(DOWN, b"\0"), (UP, b"E; id\n")],
            vec![Told::Lost("a record of no known kind")],
        ),
        (
            "a name that goes on behind its end",
            UP,
            &[(DOWN, b"\0"), (UP, b"C0644 3 x\0y\n")],
            vec![Told::Lost("a file's record that cannot be read")],
        ),
        (
            "a size that is none",
            UP,
            &[(DOWN, b"\0"), (UP, b"C0644 99999999999999999999 x\n")],
            vec![Told::Lost("a file's record that cannot be read")],
        ),
    ];
    for (name, way, talk, expected) in cases {
        assert_eq!(told(*way, talk), *expected, "{name}");
    }
}
