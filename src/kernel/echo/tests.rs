use super::*;

#[derive(Clone, Copy)]
pub(super) enum Step {
    Typed(&'static [u8]),
    Shown(&'static [u8]),
    /// A second goes by.
    Later,
}
use Step::{Later, Shown, Typed};

pub(super) fn run(steps: &[Step]) -> Vec<Verdict> {
    let mut gate = EchoGate::default();
    let mut all = Vec::new();
    let mut at_ms = 0;
    for step in steps {
        match step {
            Typed(bytes) => all.extend(gate.typed(at_ms, bytes).1),
            Shown(bytes) => all.extend(gate.shown(bytes)),
            Later => at_ms += 1000,
        }
    }
    all.extend(gate.expire(at_ms, true));
    all
}

const ECHOED: &[Verdict] = &[Verdict::Echoed { line: 0 }];
const HIDDEN: &[Verdict] = &[Verdict::Hidden { line: 0 }];

#[test]
fn what_is_shown_is_released_and_nothing_else() {
    let cases: &[(&str, &[Step], &[Verdict])] = &[
        (
            "key by key",
            &[
                Typed(b"l"),
                Shown(b"l"),
                Typed(b"s"),
                Shown(b"s"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
            ECHOED,
        ),
        ("line at once", &[Typed(b"ls\r"), Shown(b"ls\r\nfile\r\n")], ECHOED),
        (
            "late echo of the last key",
            &[Typed(b"ls"), Shown(b"l"), Typed(b"\r"), Shown(b"s\r\n")],
            ECHOED,
        ),
        ("password", &[Typed(b"s3cret\r"), Shown(b"\r\n")], HIDDEN),
        (
            "password, then output that holds it",
            &[Typed(b"root\r"), Shown(b"\r\nroot@host:~# ")],
            HIDDEN,
        ),
        (
            "password with stars",
            &[
                Typed(b"a"),
                Shown(b"*"),
                Typed(b"b"),
                Shown(b"*"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
            HIDDEN,
        ),
        ("partly shown", &[Typed(b"abc\r"), Shown(b"ab\r\n")], HIDDEN),
        ("never answered", &[Typed(b"abc\r")], HIDDEN),
        ("empty line", &[Typed(b"\r"), Shown(b"\r\n")], ECHOED),
        (
            "arrow key",
            &[Typed(b"\x1b[A"), Shown(b"ls -la"), Typed(b"\r"), Shown(b"\r\n")],
            ECHOED,
        ),
        (
            "erased key",
            &[Typed(b"lx\x7fs\r"), Shown(b"l"), Shown(b"s\r\n")],
            ECHOED,
        ),
        (
            "coloured echo",
            &[Typed(b"ls\r"), Shown(b"\x1b[32ml\x1b[0ms\r\n")],
            ECHOED,
        ),
        (
            "a step back and the last key again",
            &[
                Shown(b"% "),
                Typed(b"l"),
                Shown(b"l"),
                Typed(b"s"),
                Shown(b"\x08ls"),
                Typed(b"\r"),
                Shown(b"\r\r\n"),
            ],
            ECHOED,
        ),
        (
            "the row from its beginning, with a suggestion",
            &[
                Shown(b"sub> "),
                Typed(b"s"),
                Shown(b"\r\x1b[Ksub> s\x1b[2met x\x1b[m\r\x1b[6C"),
                Typed(b"et"),
                Shown(b"\r\x1b[Ksub> set\x1b[2m x\x1b[m\r\x1b[8C"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
            ECHOED,
        ),
        (
            "a prompt drawn again over a password",
            &[
                Shown(b"pass: "),
                Typed(b"pa"),
                Shown(b"\r\x1b[Kpass: "),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
            HIDDEN,
        ),
        (
            "redraw before the echo",
            &[Typed(b"a"), Shown(b"\r\x1b[Ka"), Typed(b"\r"), Shown(b"\r\n")],
            ECHOED,
        ),
    ];
    for (name, steps, expected) in cases {
        assert_eq!(run(steps), *expected, "{name}");
    }
}

#[test]
fn type_ahead_is_matched_line_by_line() {
    let all = run(&[Typed(b"ls\rpwd\r"), Shown(b"ls\r\nfile\r\n"), Shown(b"pwd\r\n/\r\n")]);
    assert_eq!(all, [Verdict::Echoed { line: 0 }, Verdict::Echoed { line: 1 }]);
}

#[test]
fn a_line_shown_whole_passes_by_one_that_prints_no_row() {
    let secret = [
        Typed(b"read -s x\r"),
        Shown(b"read -s x\r\n"),
        Typed(b"s3cret\r"),
        Shown(b"root@db1:~# "),
    ];
    let keys = [
        Typed(b"r"),
        Shown(b"r"),
        Typed(b"m x"),
        Shown(b"m x"),
        Typed(b"\r"),
        Shown(b"\r\n"),
    ];
    let more = [Typed(b"ls\r"), Shown(b"root@db1:~# "), Shown(b"ls\r\n")];
    let all = run(&[secret.as_slice(), &keys, &more].concat());
    assert_eq!(
        all,
        [
            Verdict::Echoed { line: 0 },
            Verdict::Hidden { line: 1 },
            Verdict::Echoed { line: 2 },
            Verdict::Echoed { line: 3 },
        ]
    );
}

#[test]
fn a_second_secret_is_not_pieced_together_from_rows() {
    let all = run(&[
        Typed(b"s3cret\r"),
        Typed(b"pw\r"),
        Shown(b"password\r\nwrong\r\n"),
        Typed(b"ab"),
        Shown(b"a\r\n"),
        Shown(b"b\r\n"),
        Typed(b"\r"),
        Shown(b"\r\n"),
    ]);
    assert!(
        !all.iter().any(|verdict| matches!(verdict, Verdict::Echoed { .. })),
        "{all:?}"
    );
}

#[test]
fn pieces_cover_the_input() {
    let mut gate = EchoGate::default();
    let (pieces, _) = gate.typed(0, b"ab\rcd");
    assert_eq!(
        pieces,
        [
            Piece {
                line: 0,
                bytes: 3,
                ends: true
            },
            Piece {
                line: 1,
                bytes: 2,
                ends: false
            },
        ]
    );
}

#[test]
fn undecided_lines_are_bounded() {
    let mut gate = EchoGate::default();
    let mut hidden = 0;
    for _ in 0..LINES_UNDECIDED_MAX + 10 {
        hidden += gate.typed(0, b"x\r").1.len();
    }
    assert_eq!(hidden, 10);
}

/// Letter by letter, with what the terminal shows after each.
fn keys_with(text: &'static str, shown: &'static [&'static [u8]]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (at, letter) in text.as_bytes().chunks(1).enumerate() {
        steps.push(Typed(letter));
        steps.extend(shown.get(at).map(|bytes| Shown(bytes)));
    }
    steps
}

#[test]
fn nothing_else_than_an_echo_releases_a_secret() {
    let password: &[Step] = &[Shown(b"Password: ")];
    let enter: &[Step] = &[Typed(b"\r"), Shown(b"\r\n")];
    let cases: &[(&str, Vec<Step>)] = &[
        (
            "rows of a job that begin with its letters",
            keys_with("abc", &[b"apple\r\n", b"banana\r\n", b"cherry\r\n"]),
        ),
        (
            "rows of single digits",
            keys_with("1234", &[b"\r\n1\r\n", b"2\r\n", b"3\r\n", b"4\r\n"]),
        ),
        (
            "a counter in place",
            keys_with("1234", &[b"\r1719", b"\r1234/9", b"\r2034", b"\r2134/9"]),
        ),
        (
            "another pane",
            keys_with(
                "1234",
                &[
                    b"\x1b[3;5H1\x1b[9;11H",
                    b"\x1b[3;5H2\x1b[9;11H",
                    b"\x1b[3;5H3\x1b[9;11H",
                    b"\x1b[3;5H4\x1b[9;11H",
                ],
            ),
        ),
        ("stars", keys_with("a*b", &[b"*", b"*", b"*"])),
        ("a star that is one", keys_with("*ab", &[b"*", b"*", b"*"])),
        (
            "letters that are masked after a moment",
            keys_with("abc", &[b"a", b"\x08*b", b"\x08*c\x08*"]),
        ),
        (
            "the prompt drawn again",
            keys_with("Pas", &[b"\r\x1b[KPassword: ", b"\r\x1b[KPassword: ", b""]),
        ),
        (
            "the letter before the cursor was there before",
            vec![
                Shown(b"\x1b[1;1HPassword: (\x1b[D"),
                Typed(b" ("),
                Shown(b"\x1b[2;1H\x1b[1;11H"),
            ],
        ),
        ("erased to the last", vec![Typed(b"s3c"), Typed(b"\x7f\x7f\x7f")]),
        ("mistyped", vec![Typed(b"s3x"), Typed(b"\x7fc")]),
        ("killed and typed again", vec![Typed(b"wrong\x15"), Typed(b"right")]),
        ("words erased", vec![Typed(b"s3c\x17\x17")]),
        ("behind Alt-[", vec![Typed(b"\x1b[1234")]),
        ("behind Alt-]", vec![Typed(b"\x1b]1secret")]),
        ("behind an escape", vec![Typed(b"\x1bsecret")]),
        ("the half of it", keys_with("secret", &[b"s", b"e", b"c"])),
        ("no UTF-8", vec![Typed(b"\xe9\xff")]),
        ("half a letter", vec![Typed(b"\xe2\x82")]),
        ("in a title", keys_with("ab", &[b"\x1b]0;a\x07", b"\x1b]0;ab\x07"])),
    ];
    for (name, steps) in cases {
        let all = run(&[password, steps, enter].concat());
        assert!(
            !all.iter().any(|verdict| matches!(verdict, Verdict::Echoed { .. })),
            "{name}: {all:?}"
        );
    }
}

#[test]
fn what_comes_behind_a_secret_does_not_release_it() {
    let cases: &[(&str, &[Step])] = &[
        (
            "a prompt that begins with it, without a new row",
            &[Shown(b"key: "), Typed(b"root\r"), Shown(b"root@db1:~# ")],
        ),
        (
            "the same in two pieces",
            &[Shown(b"key: "), Typed(b"root\r"), Shown(b"root"), Shown(b"@db1:~# ")],
        ),
        (
            "the same in colours",
            &[Shown(b"key: "), Typed(b"root\r"), Shown(b"\x1b[32mroot\x1b[0m@db1:~# ")],
        ),
        (
            "a greeting",
            &[Shown(b"key: "), Typed(b"root\r"), Shown(b"\r\nroot\r\n")],
        ),
        (
            "wrong, and once more",
            &[
                Shown(b"key: "),
                Typed(b"root\r"),
                Shown(b"\r\nSorry, root\r\nkey: "),
                Typed(b"root\r"),
                Shown(b"\r\nroot\r\n"),
            ],
        ),
        (
            "typed before its prompt came",
            &[
                Typed(b"root\r"),
                Shown(b"key for root@db1: "),
                Shown(b"\r\nroot@db1:~# "),
            ],
        ),
        (
            "two that print no row",
            &[
                Shown(b"a: "),
                Typed(b"s3cret\r"),
                Typed(b"root\r"),
                Shown(b"root@db1:~# "),
                Typed(b"ls\r"),
                Shown(b"\r\n"),
            ],
        ),
    ];
    for (name, steps) in cases {
        let all = run(steps);
        assert!(
            !all.iter().any(|verdict| matches!(verdict, Verdict::Echoed { .. })),
            "{name}: {all:?}"
        );
    }
}

#[test]
fn what_a_pager_took_is_a_line_of_its_own() {
    for leave in [b"\x1b[?1049l$ ".as_slice(), b"\x1b[24;1H\r\n$ "] {
        let all = run(&[
            Shown(b"$ \x1b[?1049h\x1b[H\x1b[2Jpage\r\n:"),
            Typed(b"q"),
            Shown(leave),
            Later,
            Typed(b"l"),
            Shown(b"l"),
            Typed(b"s\r"),
            Shown(b"s\r\n"),
        ]);
        assert_eq!(all, [Verdict::Hidden { line: 0 }, Verdict::Echoed { line: 1 }]);
    }
}

#[test]
fn a_secret_of_which_a_part_was_split_off_stays_hidden() {
    let all = run(&[
        Shown(b"key: "),
        Typed(b"se"),
        Shown(b"\r\njob\r\nrest"),
        Later,
        Typed(b"cret"),
        Shown(b"\r\njob"),
        Later,
        Typed(b"s\r"),
        Shown(b"\r\n"),
    ]);
    assert_eq!(all, [0, 1, 2].map(|line| Verdict::Hidden { line }));
}

#[test]
fn work_is_bounded_whatever_comes() {
    let mut gate = EchoGate::default();
    gate.typed(0, &b"ab".repeat(LINE_BYTES_MAX / 4));
    gate.typed(0, b"\x12ab");
    for _ in 0..200 {
        gate.shown(&b"a\x08b\x08\x1b[9999@".repeat(10));
    }
    assert!(gate.lines.len() <= LINES_UNDECIDED_MAX);
}
