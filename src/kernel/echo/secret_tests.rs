//! Secrets beside lines that are shown: in a form, in another pane, erased and
//! something else typed in their place.

use super::tests::Step::{Later, Shown, Typed};
use super::tests::{Step, run};
use super::*;

/// Letters that a screen may hold anyhow.
const FULL: &[u8] = b"\x1b[H\x1b[2Jabcdefghijklm\r\nnopqrstuvwxyz\r\n0123456789\r\nUser: ";

/// Each key, and a star for it.
fn with_stars(text: &'static str) -> Vec<Step> {
    let keys = text.as_bytes().chunks(1);
    keys.flat_map(|key| [Typed(key), Shown(b"*")]).collect()
}

fn is_hidden(name: &str, steps: &[Step]) {
    let all = run(steps);
    assert!(
        !all.iter().any(|verdict| matches!(verdict, Verdict::Echoed { .. })),
        "{name}: {all:?}"
    );
}

#[test]
fn a_secret_in_the_next_field_of_a_form_is_hidden() {
    let user = [Shown(FULL), Typed(b"admin"), Shown(b"admin")];
    let enter = [Typed(b"\r"), Shown(b"\r\n")];
    for (name, key) in [
        ("Tab", b"\t".as_slice()),
        ("down", b"\x1b[B"),
        ("the other pane of tmux", b"\x02\x1b[B"),
        ("the window got the focus", b"\x1b[I"),
    ] {
        let next = [Typed(key), Shown(b"\x1b[5;11H")];
        let all = [user.as_slice(), &next, &with_stars("s3cret"), &enter].concat();
        is_hidden(name, &all);
    }
}

#[test]
fn a_secret_is_not_inserted_where_something_else_stands() {
    let cases: &[(&str, &[u8])] = &[
        ("stars", b"admin***"),
        ("nothing", b"admin"),
        ("one of its letters", b"admincxx"),
        ("its letters, and others", b"admincatx"),
        ("its letters, torn", b"acdmaint"),
    ];
    for (name, shown) in cases {
        let line = [
            Typed(b"admin"),
            Shown(b"admin"),
            Typed(b"\x01cat\x05"),
            Shown(b"\rUser: "),
        ];
        let all = [
            [Shown(b"User: ")].as_slice(),
            &line,
            &[Shown(shown), Typed(b"\r"), Shown(b"\r\n")],
        ]
        .concat();
        is_hidden(name, &all);
    }
}

#[test]
fn a_secret_behind_an_enter_of_another_kind_is_hidden() {
    for key in [b"\x0f".as_slice(), b"\x1bOM"] {
        let command = [
            Shown(b"$ "),
            Typed(b"sudo id"),
            Shown(b"sudo id"),
            Typed(key),
            Shown(b"\r\nPassword: "),
            Later,
        ];
        let all = run(&[command.as_slice(), &with_stars("dosi"), &[Typed(b"\r"), Shown(b"\r\n")]].concat());
        assert_eq!(
            all,
            [Verdict::Echoed { line: 0 }, Verdict::Hidden { line: 1 }],
            "{}",
            key.escape_ascii()
        );
    }
}

#[test]
fn a_secret_that_was_erased_is_hidden_whatever_is_typed_then() {
    let cases: &[(&str, &[Step])] = &[
        (
            "killed, and its program stopped",
            &[
                Shown(b"[sudo] password for me: "),
                Typed(b"s3cret\x15"),
                Typed(b"\x1a"),
                Shown(b"\r\n[1]+  Stopped\r\n$ "),
                Later,
                Typed(b"fg; systemctl status"),
                Shown(b"fg; systemctl status"),
            ],
        ),
        (
            "erased, and its program gave up",
            &[
                Shown(b"[sudo] password for me: "),
                Typed(b"s3cret\x7f\x7f\x7f\x7f\x7f\x7f\x7f"),
                Shown(b"\r\nsudo: timed out\r\n$ "),
                Later,
                Typed(b"systemctl status"),
                Shown(b"systemctl status"),
            ],
        ),
        (
            "killed, and its program gave up in its row",
            &[
                Shown(b"Password: "),
                Typed(b"s3cret\x15"),
                Shown(b"$ "),
                Later,
                Typed(b"systemctl status"),
                Shown(b"systemctl status"),
            ],
        ),
        (
            "killed, and another window painted with its cursor there",
            &[
                Shown(b"\x1b[5;1HPassword: "),
                Typed(b"s3cret\x15\x1b2"),
                Shown(b"\x1b[H\x1b[2J\x1b[5;1Hme@host:~$"),
                Shown(b"\x1b[5;11H"),
                Typed(b"systemctl status"),
                Shown(b"systemctl status"),
            ],
        ),
        (
            "erased in the field of a form",
            &[
                Shown(b"User: "),
                Typed(b"admin"),
                Shown(b"admin"),
                Typed(b"\t"),
                Shown(b"\r\nPassword: "),
                Typed(b"pass\x7f\x7f\x7f\x7f"),
                Typed(b"\t"),
            ],
        ),
    ];
    for (name, steps) in cases {
        is_hidden(name, &[steps, [Typed(b"\r"), Shown(b"\r\n")].as_slice()].concat());
    }
}

#[test]
fn a_secret_of_keys_that_are_sequences_is_hidden() {
    for (name, keys, enter) in [
        ("kitty", b"\x1b[115u\x1b[51u\x1b[99u".as_slice(), b"\x1b[13u".as_slice()),
        ("xterm", b"\x1b[27;2;83~\x1b[27;1;51~", b"\r"),
        (
            "Windows",
            b"\x1b[83;31;115;1;0;1_\x1b[83;31;115;0;0;1_",
            b"\x1b[13;28;13;1;0;1_",
        ),
        ("a keypad", b"\x1bOq\x1bOr\x1bOs", b"\x1bOM"),
        ("signs behind Alt-[", b"\x1b[1!2#34^", b"\r"),
        ("behind Alt-]", b"\x1b]1secret\x07", b"\r"),
    ] {
        let steps = [Shown(b"Password: "), Typed(keys), Typed(enter), Shown(b"\r\n$ ")];
        let next = [Later, Typed(b"ls"), Shown(b"ls"), Typed(b"\r"), Shown(b"\r\n")];
        let all = run(&[steps.as_slice(), &next].concat());
        assert_eq!(
            all,
            [Verdict::Hidden { line: 0 }, Verdict::Echoed { line: 1 }],
            "{name}"
        );
    }
}

#[test]
fn a_secret_is_not_gathered_from_a_screen_letter_by_letter() {
    // The form goes on to its next field by itself, and paints the screen anew.
    let painted = b"\x1b[1;1H\x1b[30m status\x1b[2;1H\x1b[31m v3\x1b[3;1Hsync\x1b[30m\x1b[4;1Huser\x1b[31m\
        \x1b[5;1Hdone\x1b[30m\x1b[6;1Hhost\x1b[3;17H";
    let by_itself = [
        Shown(b"\x1b[2;1HUser: "),
        Typed(b"root"),
        Shown(b"root"),
        Shown(b"\x1b[3;1HPassword: "),
        Typed(b"s3cret"),
        Shown(painted),
        Typed(b"\r"),
        Shown(b"\r\n"),
    ];
    is_hidden("painted anew", &by_itself);
    // The terminal answers where its cursor is, after each key.
    let mut answered = vec![Shown(b"User: "), Typed(b"ab"), Shown(b"ab"), Typed(b"\t")];
    for (key, shown) in [
        (b"s".as_slice(), b"\x1b[1;1Hstatus\x1b[3;2H*\x1b[6n".as_slice()),
        (b"3", b"\x1b[1;1Hstatu3\x1b[3;3H*\x1b[6n"),
        (b"c", b"\x1b[1;1Hstatuc\x1b[3;4H*\x1b[6n"),
    ] {
        answered.extend([Typed(key), Typed(b"\x1b[3;12R"), Shown(shown)]);
    }
    answered.extend([Typed(b"\r"), Shown(b"\r\n")]);
    is_hidden("answered", &answered);
}

#[test]
fn a_secret_is_not_gathered_from_its_own_row() {
    is_hidden(
        "a countdown",
        &[
            Shown(b"Id: "),
            Typed(b"1234"),
            Shown(b"1234"),
            Shown(b" Key (left): 10"),
            Typed(b"8642"),
            Shown(b"\rId: 1234 Key (left): 9 "),
            Shown(b"\rId: 1234 Key (left): 8"),
            Shown(b"\rId: 1234 Key (left): 7"),
            Shown(b"\rId: 1234 Key (left): 6"),
            Shown(b"\rId: 1234 Key (left): 5"),
            Shown(b"\rId: 1234 Key (left): 4"),
            Shown(b"\rId: 1234 Key (left): 3"),
            Shown(b"\rId: 1234 Key (left): 2"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ],
    );
}

#[test]
fn a_secret_that_is_erased_behind_a_line_is_hidden() {
    for (name, asks, erases) in [
        (
            "in its row",
            b" Password: ".as_slice(),
            b"hunt\x7f\x7f\x7f\x7f".as_slice(),
        ),
        ("killed", b" Password: ", b"hunt\x15"),
        ("in its place", b"\r\x1b[KPassword: ", b"hunt\x7f\x7f\x7f\x7f"),
        ("as wide as it", b"\r\x1b[KPasswd: ", b"hunt\x7f\x7f\x7f\x7f"),
        ("as wide as it, and killed", b"\r\x1b[KPasswd: ", b"hunt\x15"),
    ] {
        let steps = [
            Shown(b"Id: "),
            Typed(b"1234"),
            Shown(b"1234"),
            Shown(asks),
            Typed(erases),
        ];
        is_hidden(name, &[steps.as_slice(), &[Typed(b"\r"), Shown(b"\r\n")]].concat());
    }
}

#[test]
fn a_secret_that_was_erased_is_hidden_if_another_prompt_is_as_wide() {
    let cases: &[(&str, &[Step])] = &[
        (
            "in its row",
            &[Shown(b"Password: "), Typed(b"s3cret\x15"), Shown(b"\r\x1b[KUsername: ")],
        ),
        (
            "behind an arrow",
            &[
                Shown(b"? Password: "),
                Typed(b"s3cret\x15"),
                Typed(b"\x1b[A"),
                Shown(b"\x1b[2K\x1b[G? Username: "),
            ],
        ),
        (
            "rubbed out, and a row that is named",
            &[
                Shown(b"\x1b[5;1HPassword: "),
                Typed(b"s3cret\x7f\x7f\x7f\x7f\x7f\x7f"),
                Shown(b"\x1b[1;1H12:01\x1b[5;1HUsername: "),
            ],
        ),
        (
            "a mouse led there",
            &[
                Shown(b"\x1b[5;1HPassword: "),
                Typed(b"s3cret\x7f\x7f\x7f\x7f\x7f\x7f"),
                Typed(b"\x1b[<0;3;4M\x1b[<0;3;4m"),
                Shown(b"\x1b[5;1HUsername: \x1b[K"),
            ],
        ),
        (
            "written above, and the cursor put back",
            &[
                Shown(b"Password:\r\n> "),
                Typed(b"s3cret\x15"),
                Shown(b"\x1b7\x1b[A\rUsername:\x1b8"),
            ],
        ),
        (
            "a key that switched its echo on",
            &[Shown(b"Password: "), Typed(b"s3cret\x15"), Typed(b"\t")],
        ),
    ];
    let name_and_enter = [
        Typed(b"administrator"),
        Shown(b"administrator"),
        Typed(b"\r"),
        Shown(b"\r\n"),
    ];
    for (name, steps) in cases {
        for later in [&[][..], &[Later]] {
            is_hidden(name, &[steps, later, name_and_enter.as_slice()].concat());
        }
    }
}

#[test]
fn a_secret_that_is_erased_below_a_line_is_hidden() {
    is_hidden(
        "read -n4, and what follows",
        &[
            Shown(b"Number: "),
            Typed(b"1234"),
            Shown(b"1234"),
            Shown(b"\r\nPassword: "),
            Typed(b"hunt\x7f\x7f\x7f\x7f"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ],
    );
}

#[test]
fn a_secret_that_is_erased_behind_a_line_is_hidden_wherever_its_prompt_is() {
    is_hidden(
        "a field that goes on, and words below",
        &[
            Shown(b"\x1b[5;1HId: "),
            Typed(b"1234"),
            Shown(b"1234"),
            Shown(b"\x1b7\x1b[24;1HPIN (not shown):\x1b8"),
            Typed(b"8642\x7f\x7f\x7f\x7f"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ],
    );
}

#[test]
fn an_enter_by_itself_says_nothing_of_the_line_before() {
    // Output stops in the midst of a word that the secret begins.
    let all = run(&[
        Shown(b"key: "),
        Typed(b"root\r"),
        Shown(b"root"),
        Typed(b"\r"),
        Shown(b"@db1:~# "),
    ]);
    assert!(all.contains(&Verdict::Hidden { line: 0 }), "{all:?}");
    // And so where nothing goes on.
    let all = run(&[Shown(b"key: "), Typed(b"root\r"), Shown(b"root")]);
    assert_eq!(all, [Verdict::Hidden { line: 0 }]);
}

#[test]
fn what_a_terminal_says_of_its_clipboard_is_hidden() {
    is_hidden(
        "a clipboard",
        &[
            Shown(b"Password: "),
            Typed(b"\x16\x1b]52;c;aHVudGVyMg==\x07"),
            Shown(b"*******"),
            Typed(b"\r"),
            Shown(b"\r\n"),
        ],
    );
}

#[test]
fn a_secret_behind_a_first_kill_is_not_released_by_a_word() {
    is_hidden(
        "the name of who is asked",
        &[
            Shown(b"Password: "),
            Typed(b"\x15"),
            Typed(b"root\r"),
            Shown(b"\r\n"),
            Shown(b"root\r\n"),
        ],
    );
}

#[test]
fn what_a_user_name_in_a_prompt_completes_is_no_echo() {
    is_hidden(
        "the secret is the name",
        &[
            Shown(b"key: "),
            Typed(b"root\t\r"),
            Shown(b"\x1b[32mroot\x1b[0m@db1:~# "),
        ],
    );
}

#[test]
fn a_line_that_takes_too_long_to_look_for_is_hidden() {
    let mut gate = EchoGate::default();
    gate.shown(b"$ ");
    for _ in 0..8 {
        gate.typed(0, &b"a".repeat(600));
        gate.typed(0, b"\r");
    }
    // None of them can begin behind the letter, and each of them might by its last ones.
    gate.shown(b"\x1b[5;1Hb");
    gate.shown(&b"a".repeat(1000));
    gate.shown(&b"a\x08".repeat(LOOKS_MAX));
    assert!(gate.lines.iter().all(|line| line.lost));
    // It costs nothing of what comes later.
    gate.expire(ECHO_WAIT_MS, true);
    gate.shown(&[b"x".repeat(80 << 10).as_slice(), b"\r\n$ "].concat());
    gate.typed(ECHO_WAIT_MS, b"ls");
    gate.shown(b"ls");
    let (_, verdicts) = gate.typed(ECHO_WAIT_MS, b"\r");
    assert!(matches!(verdicts.as_slice(), [Verdict::Echoed { .. }]), "{verdicts:?}");
}
