//! Ordinary typing, as shells and their editors show it.

use super::Verdict;
use super::tests::Step::{Shown, Typed};
use super::tests::{Step, run};

#[test]
fn ordinary_typing_is_released() {
    let prompt: &[Step] = &[Shown(b"$ ")];
    let cases: &[(&str, &[Step])] = &[
        (
            "before the prompt, and shown again behind it",
            &[
                Typed(b"\r"),
                Typed(b"l"),
                Shown(b"\r\nout"),
                Shown(b"lput\r\n$ l"),
                Typed(b"s"),
                Shown(b"s"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "completed",
            &[
                Typed(b"ls /e"),
                Shown(b"ls /e"),
                Typed(b"\tpas"),
                Shown(b"tc/pas"),
                Typed(b"\t\r"),
                Shown(b"swd \r\n"),
            ],
        ),
        (
            "a list of what there is",
            &[
                Typed(b"ls p"),
                Shown(b"ls p"),
                Typed(b"\t\t"),
                Shown(b"\r\npa  pb\r\n$ ls p"),
                Typed(b"a\r"),
                Shown(b"a\r\n"),
            ],
        ),
        (
            "inserted, and shown when the cursor is at the end again",
            &[
                Typed(b"eho all"),
                Shown(b"eho all"),
                Typed(b"\x01\x1b[Cc\x05"),
                Shown(b"\r$ echo all\x1b[K"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "inserted before the last letters were shown, and drawn as one",
            &[
                Typed(b"eho ho"),
                Shown(b"eho ho"),
                Typed(b"tel\x01\x1b[Cc\x05"),
                Shown(b"\r$ echo hotel"),
                Typed(b"\r"),
                Shown(b"\r\x1b[12C\r\n"),
            ],
        ),
        (
            "the cursor is at the end with the Enter only",
            &[
                Typed(b"eho"),
                Shown(b"eho"),
                Typed(b"\x01\x1b[C"),
                Typed(b"c"),
                Shown(b"\r$ echo\x1b[4D"),
                Typed(b"\r"),
                Shown(b"\x1b[4C\r\n"),
            ],
        ),
        (
            "inserted",
            &[
                Typed(b"eho"),
                Shown(b"eho"),
                Typed(b"\x1b[D\x1b[D"),
                Shown(b"\x08\x08"),
                Typed(b"c"),
                Shown(b"cho\x08\x08"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "searched",
            &[
                Typed(b"\x12"),
                Shown(b"\r(reverse-i-search)`': "),
                Typed(b"e"),
                Shown(b"\x08\x08\x08e': echo x\x08\x08\x08\x08\x08\x08"),
                Typed(b"c"),
                Shown(b"\x08\x08\x08c': echo x\x08\x08\x08\x08\x08\x08"),
                Typed(b"\r"),
                Shown(b"\r\x1b[K$ echo x\r\n"),
            ],
        ),
        (
            "killed before it was shown, and another one",
            &[
                Typed(b"cd\x15"),
                Typed(b"s"),
                Shown(b"s"),
                Typed(b"eq 1 5"),
                Shown(b"eq 1 5"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "completed with its last letter",
            &[
                Typed(b"cat /etc/host"),
                Shown(b"cat /etc/host"),
                Typed(b"n"),
                Typed(b"\t"),
                Shown(b"name "),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "erased at the cursor",
            &[
                Typed(b"echo kilo"),
                Shown(b"echo kilo"),
                Typed(b"\x1b[D\x1b[D\x04"),
                Shown(b"\x08\x08\x1b[P"),
                Typed(b"x"),
                Shown(b"x\x1b[Ko\x08"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "an accent by itself",
            &[
                Typed("echo e\u{301}".as_bytes()),
                Shown("echo e\u{301}".as_bytes()),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "keys that are sequences",
            &[
                Typed(b"\x1b[105u\x1b[105;1:3u\x1b[100u"),
                Shown(b"id"),
                Typed(b"\x1b[13u"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "an abbreviation",
            &[
                Typed(b"gco1"),
                Shown(b"gco1"),
                Typed(b" "),
                Shown(b"\r$ git checkout "),
                Typed(b"x\r"),
                Shown(b"x\r\n"),
            ],
        ),
        (
            "a job in the midst of it",
            &[
                Typed(b"echo"),
                Shown(b"echo"),
                Shown(b"\r\njob is done\r\n"),
                Typed(b" x\r"),
                Shown(b" x\r\n"),
            ],
        ),
        (
            "a terminal's answers beside it",
            &[
                Typed(b"\x1b[?62;c\x1b]11;rgb:0/0/0\x07"),
                Shown(b"\x1b[6n"),
                Typed(b"\x1b[1;3Rls\r"),
                Shown(b"ls\r\n"),
            ],
        ),
        (
            "pasted",
            &[
                Typed(b"\x1b[200~ls x\x1b[201~"),
                Shown(b"\x1b[7mls x\x1b[27m"),
                Typed(b"\r"),
                Shown(b"\r$ ls x\r\n"),
            ],
        ),
        (
            "an earlier line and more, while its echo is late",
            &[Typed(b"\x1b[A"), Typed(b" x\r"), Shown(b"echo y"), Shown(b" x\r\n")],
        ),
        (
            "completed as it was entered",
            &[
                Typed(b"cat ho"),
                Shown(b"cat h"),
                Typed(b"\t\r"),
                Shown(b"o"),
                Shown(b"stname \r\n"),
            ],
        ),
        (
            "killed before it was shown",
            &[
                Typed(b"echo ab"),
                Shown(b"echo a"),
                Typed(b"\x17"),
                Shown(b"\x08\x1b[K"),
                Typed(b"c\r"),
                Shown(b"c\r\n"),
            ],
        ),
        (
            "inserted, and to the end in one go",
            &[
                Typed(b"eho x"),
                Shown(b"eho x"),
                Typed(b"\x01\x1b[Cc\x05y"),
                Shown(b"\x1b[5D\x1b[Ccho x\x1b[4D\x1b[4Cy"),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
        (
            "interrupted",
            &[
                Typed(b"ec"),
                Shown(b"ec"),
                Typed(b"ho\x03"),
                Shown(b"ho"),
                Shown(b"^C\r\n"),
            ],
        ),
        (
            "wide",
            &[
                Typed("echo 漢字".as_bytes()),
                Shown("echo 漢字".as_bytes()),
                Typed(b"\r"),
                Shown(b"\r\n"),
            ],
        ),
    ];
    for (name, steps) in cases {
        let all = run(&[prompt, steps].concat());
        assert!(
            !all.iter().any(|verdict| matches!(verdict, Verdict::Hidden { .. })),
            "{name}: {all:?}"
        );
    }
}

#[test]
fn lines_before_an_empty_one_are_released() {
    let released = |steps: &[Step]| {
        let all = run(steps);
        let echoed = |verdict: &Verdict| matches!(verdict, Verdict::Echoed { .. });
        assert!(all.iter().all(echoed), "{all:?}");
    };
    released(&[Shown(b"$ "), Typed(b"ls\r\r"), Shown(b"ls\r\nx\r\n$ \r\n$ ")]);
    released(&[
        Shown(b"$ cat > f\r\n"),
        Typed(b"a\rb\r\rc\r"),
        Shown(b"a\r\nb\r\n\r\nc\r\n"),
    ]);
    released(&[
        Shown(b"$ "),
        Typed(b"ls"),
        Typed(b"\r"),
        Typed(b"\x1b[A\r"),
        Shown(b"ls\r\nx\r\n$ ls\r\nx\r\n$ "),
    ]);
}

#[test]
fn function_keys_of_a_console_are_no_letters() {
    let all = run(&[
        Shown(b"$ "),
        Typed(b"\x1b[[Als"),
        Shown(b"ls"),
        Typed(b"\r"),
        Shown(b"\r\n"),
    ]);
    assert_eq!(all, [Verdict::Echoed { line: 0 }]);
}
