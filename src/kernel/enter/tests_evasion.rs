//! Lines that somebody hides from policy, and answers that are none of its business.

use super::tests::{Desk, PROMPT, read, unread};
use super::*;

/// `reboot` was typed and its cursor put before it; its Enter was refused.
fn refused_with_the_cursor_before_it() -> Desk {
    let mut desk = Desk::shell();
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    desk.keys("\x01");
    desk.shows("\x08\x08\x08\x08\x08\x08").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
    let line = desk.line();
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"\x05\x15");
    desk.queue.clear();
    desk
}

#[test]
fn what_stands_behind_the_cursor_is_part_of_the_line() {
    // The shell has taken nothing back: it rings.
    let mut desk = refused_with_the_cursor_before_it();
    desk.shows("\x07").waits(100);
    assert!(desk.holder.is_taken_back(desk.at_ms).is_err(), "it still stands there");
    desk.waits(HOLD_MS);
    assert_eq!(desk.holder.is_taken_back(desk.at_ms), Ok(()));
    assert_eq!(desk.asked("\r"), read("reboot"));
    // What is put before it is sent with it.
    let mut desk = refused_with_the_cursor_before_it();
    desk.shows("\x07").waits(HOLD_MS);
    desk.holder.is_taken_back(desk.at_ms).unwrap();
    for key in ["i", "d", ";"] {
        desk.keys(key);
        desk.shows(&format!("\x1b[@{key}")).waits(50);
    }
    assert_eq!(desk.asked("\r"), read("id;reboot"));
    // A shell that takes it back.
    let mut desk = refused_with_the_cursor_before_it();
    desk.shows("\x1b[K").waits(REST_MS);
    assert_eq!(desk.holder.is_taken_back(desk.at_ms), Ok(()));
    assert_eq!(desk.keys("\r"), Next::Pass(0));
}

#[test]
fn keys_that_should_give_a_line_up_are_not_believed() {
    // ^C is no key of this terminal, all at once and one by one.
    let mut desk = Desk::shell();
    assert!(matches!(desk.keys("reboot\x01\x03\r"), Next::Wait(_)));
    desk.shows("reboot\x08\x08\x08\x08\x08\x08").waits(REST_MS);
    assert_eq!(desk.asked(""), read("reboot"));
    // Nor where no prompt is known yet.
    let mut desk = Desk::new();
    desk.shows(PROMPT).waits(1000);
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    desk.keys("\x03");
    desk.shows("\x07").waits(50);
    desk.keys("\r");
    desk.waits(HOLD_MS);
    assert!(desk.line().undecided);
    // Where it is one, an empty line runs nothing.
    let mut desk = Desk::shell();
    desk.keys("reb");
    desk.shows("reb").waits(50);
    desk.keys("\x03");
    desk.shows("^C\r\n").shows(PROMPT).waits(50);
    assert_eq!(desk.keys("\r"), Next::Pass(0));
    // A line that the shell brings back with its cursor before it (zsh, push-line).
    desk.shows("\r\n")
        .shows(PROMPT)
        .shows("reboot\x08\x08\x08\x08\x08\x08")
        .waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
}

#[test]
fn only_its_end_ends_a_paste_and_keys_in_it_are_doubted() {
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    desk.keys("\x1b[200~\x1b\x1b[201~\x15rebX\x7foot");
    assert!(!desk.holder.typing.typed.is_pasting());
    desk.shows("reboot").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
    // ^C may have ended it for the shell.
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    assert_eq!(desk.asked("\x1b[200~\x03rebX\x7foot\r"), unread("\u{3}rebX\u{7f}oot"));
    desk.goes();
    assert!(desk.asked("\x1b[A\x0f").1, "^O is no text there");
    desk.goes();
    assert_eq!(desk.asked("true\r"), unread("\u{1b}[A\u{f}true"));
}

#[test]
fn a_key_that_changes_its_line_is_asked_about_with_doubt() {
    let mut desk = Desk::shell();
    desk.keys("#reboot");
    desk.shows("#reboot").waits(50);
    desk.keys("\x1b1\x1b#");
    desk.waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread("reboot"));
    let line = desk.line();
    // ESC has gone: what follows it must not be a key with it.
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"\x07\x05\x15");
    let mut desk = Desk::shell();
    assert!(matches!(desk.keys("\x18\x05"), Next::Wait(_) | Next::Ask(_)));
    desk.waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(""), "an editor may bring any line");
}

#[test]
fn stars_at_the_end_of_an_echoed_line_are_no_password() {
    let mut desk = Desk::shell();
    desk.runs("cat");
    desk.shows("\r\n").waits(500);
    for key in "reboot ***".chars() {
        desk.keys(&key.to_string());
        desk.shows(&key.to_string()).waits(50);
    }
    assert_eq!(desk.asked("\r").0, "reboot ***");
    // Nor are more or fewer than were typed.
    for stars in ["**", "****", "x**"] {
        let mut desk = Desk::shell();
        desk.runs("login");
        desk.shows("\r\nPassword: ").waits(500);
        desk.keys("abc");
        desk.shows(stars).waits(100);
        desk.keys("\r");
        desk.waits(HOLD_MS);
        assert_eq!(desk.asked(""), unread(stars));
    }
}

#[test]
fn a_prompt_behind_output_is_known_on_the_other_screen_too() {
    let mut desk = Desk::shell();
    desk.runs("tput smcup; printf x");
    desk.shows("\r\n\x1b[?1049h\x1b[H\x1b[2Jxroot@db1:~# ").waits(500);
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
    let mut desk = Desk::shell();
    desk.runs("tput smcup; printf x");
    desk.shows("\r\n\x1b[?1049h\x1b[H\x1b[2Jxroot@db1:~# ").waits(500);
    desk.keys("\x1b[A");
    desk.shows("reboot").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
}

#[test]
fn a_password_of_other_letters_is_told_to_nobody() {
    for asks in ["", "Kennwort: "] {
        for typed in ["пароль", "\x1b[200~пароль\x1b[201~"] {
            let mut desk = Desk::shell();
            desk.runs("login");
            desk.shows("\r\n").shows(asks).waits(500);
            desk.keys(typed);
            // Something comes, and it is no echo.
            desk.shows(".").waits(100);
            desk.keys("\r");
            desk.waits(HOLD_MS);
            assert_eq!(desk.asked("").0, ".", "{asks:?} {typed:?}");
        }
    }
    // Several lines of which only the last is shown.
    let mut desk = Desk::shell();
    desk.runs("login");
    desk.shows("\r\n\x1b[?2004h").waits(500);
    desk.asked("\x1b[200~s3cret\r");
    desk.goes();
    desk.keys("x\x1b[201~");
    desk.shows("x").waits(100);
    desk.keys("\r");
    desk.waits(HOLD_MS);
    assert!(!desk.line().text.contains("s3cret"));
}

#[test]
fn looks_without_end_are_not_paid_for_with_the_time_of_others() {
    let mut desk = Desk::shell();
    desk.holder.resize(500, 24);
    let mut asked = 0;
    while asked < 1_000_000 && !desk.holder.reader.line(&desk.holder.terminal, None).unread {
        asked += 1;
    }
    assert!(asked > 1000 && asked < 1_000_000, "{asked}");
    // What cannot be read is not let pass.
    assert!(matches!(desk.keys("reboot\r"), Next::Wait(_)));
    desk.waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(""));
}

#[test]
fn a_paste_that_began_for_another_program_is_doubted() {
    // A pager that is not told of pastes takes what begins one for a key of its own; a shell that is
    // told of them does not go on with one that the shell before it was told of.
    for (before, after) in [("\r\n:", "\x1b[?2004h"), ("\x1b[?2004h", "\x1b[?2004l\r\n\x1b[?2004h")] {
        for key in ["\r", "\x0f"] {
            let mut desk = Desk::shell();
            desk.shows(before).waits(50);
            desk.keys("\x1b[200~");
            desk.shows(after).shows(PROMPT).waits(50);
            desk.keys("reboot");
            desk.shows("reboot").waits(50);
            let asked = match desk.keys(key) {
                Next::Ask(line) => (line.text, line.undecided, line.pasted),
                other @ (Next::Pass(_) | Next::Wait(_)) => panic!("{other:?}"),
            };
            assert_eq!(asked, ("reboot\nreboot".to_owned(), true, Pasted::Perhaps));
        }
    }
}

#[test]
fn a_paste_that_is_still_read_is_asked_about_though_something_else_wants_pastes() {
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    desk.keys("\x1b[200~reboot");
    for told in ["\x1b[?2004h", "\x1b[?2004l"] {
        // A program in the background writes that; the shell shows nothing of a paste.
        desk.shows(told).waits(50);
        let first = match desk.keys("\r") {
            Next::Ask(line) => line,
            other @ (Next::Pass(_) | Next::Wait(_)) => panic!("{other:?}"),
        };
        assert!(first.text.contains("reboot") && first.undecided, "{first:?}");
        desk.goes();
        desk.keys("true; reboot");
    }
}

#[test]
fn what_came_before_a_program_is_none_of_its_keys() {
    let mut desk = Desk::new();
    desk.keys("\x1b[200~x");
    desk.holder.begins();
    desk.shows("\x1b[?2004h").shows(PROMPT).waits(1000);
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    assert_eq!(desk.asked("\x0f"), ("reboot".to_owned(), false));
}

#[test]
fn what_may_be_a_paste_is_asked_about_once_its_echo_is_there() {
    let mut desk = Desk::shell();
    desk.shows("\r\n").waits(50);
    desk.keys("\x1b[200~");
    desk.shows("\x1b[?2004h").shows(PROMPT).waits(1000);
    // All in one packet: the keys alone say something else.
    assert!(matches!(desk.keys("rebX\x7foot\r"), Next::Wait(_)));
    desk.shows("rebX\x08 \x08oot").waits(50);
    assert!(desk.line().text.starts_with("reboot\n"));
}

#[test]
fn a_paste_right_behind_an_enter_is_doubted_until_its_program_has_said_that_it_reads() {
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    assert_eq!(desk.runs("sh"), ("sh".to_owned(), false));
    desk.keys("\x1b[200~x\rreboot\x1b[201~");
    desk.shows("\r\n\x1b[?2004l\r").waits(HOLD_MS);
    let line = desk.line();
    assert!(line.pasted != Pasted::Part && line.undecided, "{line:?}");
}
