//! Lines that would run without being asked about, or as another than was read.

use super::tests::{Desk, PROMPT, read, unread};
use super::*;

/// Typed, and sent once it is asked about, for certain or not.
fn sends(desk: &mut Desk, line: &str) -> (String, bool) {
    desk.keys(line);
    rests(desk, line);
    let mut next = desk.keys("\r");
    if matches!(next, Next::Wait(_)) {
        desk.waits(HOLD_MS);
        next = desk.next();
    }
    let Next::Ask(asked) = next else {
        panic!("{line} is not asked about")
    };
    desk.goes();
    (asked.text, asked.undecided)
}

/// An Enter that is asked about only when it has waited in vain.
#[track_caller]
fn doubted(desk: &mut Desk, enter: &str) -> Line {
    assert!(matches!(desk.keys(enter), Next::Wait(_)), "it does not wait");
    desk.waits(HOLD_MS);
    match desk.next() {
        Next::Ask(line) if line.undecided => line,
        other @ (Next::Ask(_) | Next::Pass(_) | Next::Wait(_)) => panic!("no doubt: {other:?}"),
    }
}

/// Shown, and waited behind as a person does.
fn rests<'d>(desk: &'d mut Desk, output: &str) -> &'d mut Desk {
    desk.shows(output).waits(50)
}

#[test]
fn keys_that_run_what_stands_there_are_asked_about() {
    for key in ["\x1b\x05", "\x18e", "\x18*"] {
        let mut desk = Desk::shell();
        desk.keys(": $(reboot)");
        rests(&mut desk, ": $(reboot)").waits(HOLD_MS);
        let line = match desk.keys(key) {
            Next::Ask(line) => line,
            Next::Wait(_) => desk.waits(HOLD_MS).line(),
            Next::Pass(_) => panic!("{key:?} goes on"),
        };
        let asked = (line.text, line.undecided);
        assert_eq!(asked, unread(": $(reboot)"), "{key:?}");
    }
}

#[test]
fn a_line_that_was_put_aside_may_come_back_by_any_enter() {
    // zsh's push-line, and readline's operate-and-get-next.
    for aside in ["\x1bq", "\x11"] {
        let mut desk = Desk::shell();
        desk.keys("reboot");
        rests(&mut desk, "reboot");
        desk.keys(aside);
        rests(&mut desk, &format!("\r\x1b[K{PROMPT}"));
        desk.runs("sleep 1");
        rests(&mut desk, "\r\n");
        assert_eq!(doubted(&mut desk, "\r").text, "");
        desk.goes();
        // At the prompt its row tells.
        rests(&mut desk, PROMPT);
        assert_eq!(desk.runs("true"), read("true"));
    }
    let mut desk = Desk::shell();
    desk.keys("sleep 1");
    rests(&mut desk, "sleep 1");
    desk.asked("\x0f");
    desk.goes();
    rests(&mut desk, "\r\n");
    assert_eq!(doubted(&mut desk, "\r").text, "");
}

#[test]
fn a_line_put_aside_at_the_first_prompt_comes_back_too() {
    // The second of these is put aside five times, and four of those are empty lines.
    for (aside, between) in [("\x1bq", 0), ("\x1bh", 0), ("\x1b5\x1bq", 4)] {
        let mut desk = Desk::new();
        desk.shows(PROMPT).waits(1000);
        desk.keys("reboot");
        rests(&mut desk, "reboot");
        desk.keys(aside);
        rests(&mut desk, &format!("\r\x1b[K{PROMPT}"));
        for _ in 0..between {
            sends(&mut desk, "true");
            rests(&mut desk, &format!("\r\n{PROMPT}"));
        }
        sends(&mut desk, "sleep 1");
        rests(&mut desk, "\r\n");
        assert_eq!(doubted(&mut desk, "\r").text, "");
    }
}

#[test]
fn what_stood_there_on_the_way_is_not_the_line() {
    // dash takes DEL alone for a key that rubs out.
    let keys = format!(";reboot #{}\r", "\x08".repeat(9));
    let shown = format!(";reboot #{}", "^H".repeat(9));
    let mut desk = Desk::shell();
    desk.keys("ls");
    rests(&mut desk, "ls");
    assert!(matches!(desk.keys(&keys), Next::Wait(_)));
    desk.shows(&shown).waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(&format!("ls{shown}")));
    // An echo that was on its way says nothing of later keys.
    let mut desk = Desk::shell();
    desk.holder.round_trip(Some(100));
    desk.keys("ls");
    desk.waits(95);
    assert!(matches!(desk.keys(&keys), Next::Wait(_)));
    desk.shows("ls").waits(REST_MS);
    assert!(matches!(desk.next(), Next::Wait(_)));
    // Nor does one that is as long as it takes make anybody wait who has corrected a line.
    let mut desk = Desk::shell();
    desk.holder.round_trip(Some(100));
    desk.keys("lss");
    desk.waits(100).shows("lss").waits(200);
    desk.keys("\x7f");
    desk.waits(100).shows("\x08 \x08").waits(REST_MS);
    assert_eq!(desk.asked("\r"), read("ls"));
}

#[test]
fn a_row_of_a_line_is_not_the_line() {
    let mut desk = Desk::shell();
    rests(&mut desk, "\x1b[?2004h");
    desk.queue.extend_from_slice(b"\x1b[200~true \\\nreboot\x1b[201~");
    while let Next::Ask(_) = desk.next() {
        desk.goes();
    }
    rests(&mut desk, "true \\\r\nreboot");
    desk.keys("\x01");
    rests(&mut desk, "\x1b[A\r\x1b[12C");
    doubted(&mut desk, "\r");
    // A list that is shown below is none of it.
    let mut desk = Desk::shell();
    desk.keys("cd /u\t");
    rests(&mut desk, "cd /u\r\n\x1b[Jusr/  users/\x1b[A\r\x1b[17C");
    desk.keys("sr");
    rests(&mut desk, "sr");
    assert_eq!(desk.asked("\r"), read("cd /usr"));
}

#[test]
fn no_row_of_what_an_editor_holds_is_left_out() {
    // A blank row between them; keys of the eighth bit, which valid UTF-8 may be as well.
    let cases: [(&[u8], &str, &[u8], &str); 3] = [
        (b"true\n\nreboot", "true\r\n\r\nreboot", b"\x01", "\x1b[2A\r\x1b[12C"),
        (b"true\nreboot", "true\r\nreboot", b"\xe2\xe2", "\x1b[A\r\x1b[12C"),
        (
            b"true\nreboot",
            "true\r\nreboot",
            "\u{2022}".as_bytes(),
            "\x1b[A\r\x1b[12C",
        ),
    ];
    for (pasted, shown, keys, moves) in cases {
        let mut desk = Desk::shell();
        rests(&mut desk, "\x1b[?2004h");
        desk.queue.extend([b"\x1b[200~", pasted, b"\x1b[201~"].concat());
        while let Next::Ask(_) = desk.next() {
            desk.goes();
        }
        rests(&mut desk, shown);
        desk.queue.extend_from_slice(keys);
        desk.next();
        rests(&mut desk, moves);
        doubted(&mut desk, "\r");
    }
    // A search of zsh says below what it looks for.
    let mut desk = Desk::shell();
    desk.keys("\x12ec");
    rests(&mut desk, "echo 1\r\nbck-i-search: ec_\x1b[A\r\x1b[12C");
    assert_eq!(desk.asked("\r"), read("echo 1"));
}

#[test]
fn what_is_typed_ahead_edits_what_stands_there_later() {
    // It puts a line aside at a prompt to come.
    let mut desk = Desk::shell();
    desk.runs("sleep 2");
    rests(&mut desk, "\r\n");
    desk.keys("reboot\x1bq");
    rests(&mut desk, &format!("reboot^[q\r\n{PROMPT}"));
    sends(&mut desk, "sleep 1");
    rests(&mut desk, "\r\n");
    assert_eq!(doubted(&mut desk, "\r").text, "");
    // It brings back what was killed.
    let mut desk = Desk::shell();
    desk.runs("sleep 1");
    rests(&mut desk, "\r\n");
    desk.keys("true;\x19");
    rests(&mut desk, "true;^Y");
    assert_eq!(doubted(&mut desk, "\r").text, "true;^Y");
}

#[test]
fn a_target_far_away_is_not_taken_for_one_that_has_answered() {
    let mut desk = Desk::shell();
    desk.holder.round_trip(Some(250));
    desk.keys("ls");
    desk.waits(245);
    assert!(matches!(
        desk.keys(&format!(";reboot #{}\r", "\x08".repeat(9))),
        Next::Wait(_)
    ));
    desk.shows("ls").waits(240);
    assert!(matches!(desk.next(), Next::Wait(_)));
    let shown = format!(";reboot #{}", "^H".repeat(9));
    desk.shows(&shown).waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(&format!("ls{shown}")));
}

#[test]
fn keys_of_vi_and_reports_of_the_terminal_are_no_reason_to_doubt() {
    let mut desk = Desk::shell();
    for _ in 0..5 {
        desk.keys("echo\x1bhhx");
        rests(&mut desk, "echo\x08\x08\x08ho\x1b[K\x08\x08");
        assert_eq!(desk.asked("\r").0, "eho");
        desk.goes();
        rests(&mut desk, &format!("\r\n{PROMPT}"));
    }
    desk.runs("true");
    rests(&mut desk, "\r\nName: ").waits(1000);
    assert_eq!(desk.runs("vera"), read("vera"));
    // In an editor, before a question; and output that came behind a ^S.
    let mut desk = Desk::shell();
    desk.runs("vi x");
    rests(&mut desk, "\r\n\x1b[?1049h\x1b[H");
    desk.keys("itext\x1bh");
    rests(&mut desk, "text\x08");
    assert_eq!(desk.keys(":wq\r"), Next::Pass(0));
    rests(&mut desk, &format!("\x1b[?1049l\r\n{PROMPT}"));
    desk.runs("apt install x");
    rests(&mut desk, "\r\n1\r\n");
    desk.keys("\x13");
    rests(&mut desk, "2\r\n");
    desk.keys("\x11");
    rests(&mut desk, "Go on? [Y/n] ").waits(1000);
    assert!(!desk.runs("y").1);
    let mut desk = Desk::shell();
    desk.runs("python x.py");
    rests(&mut desk, "\r\n");
    desk.keys("\x03");
    rests(&mut desk, "^CReally quit? (y/n) ").waits(1000);
    assert!(!desk.runs("y").1);
    let mut desk = Desk::shell();
    desk.keys("ls");
    rests(&mut desk, "ls");
    desk.keys("\x1b[O\x1b[I");
    assert_eq!(desk.asked("\r"), read("ls"));
}

#[test]
fn a_line_of_many_rows_can_be_taken_back() {
    let mut desk = Desk::shell();
    desk.keys("\x1b[A");
    rests(&mut desk, "for i in 1 2\r\ndo reboot; done");
    let Next::Ask(line) = desk.keys("\r") else {
        panic!("not asked about")
    };
    assert_eq!(line.text, "for i in 1 2\ndo reboot; done");
    assert_eq!((line.place, line.at_prompt, line.several), ("shell", true, true));
    assert_eq!(line.prompt, PROMPT);
}

#[test]
fn what_is_too_long_to_keep_is_not_read_for_certain() {
    let mut desk = Desk::shell();
    for row in 0..17 {
        let (text, undecided) = sends(&mut desk, &format!("{} \\", "a".repeat(990)));
        assert_eq!(undecided, row == 16, "row {row}");
        assert_eq!(
            text.len() > 990 * (row + 1),
            row < 16,
            "row {row}: {} bytes",
            text.len()
        );
        rests(&mut desk, "\r\n> ");
    }
    assert!(sends(&mut desk, ";reboot").1);
}

#[test]
fn the_text_at_the_right_may_be_another_each_time() {
    let mut desk = Desk::shell();
    desk.runs("false");
    rests(&mut desk, &format!("\r\n{PROMPT}\x1b[77G? 1\x1b[13G")).waits(1000);
    assert_eq!(desk.runs("ls"), read("ls"));
}

#[test]
fn what_the_client_keeps_from_being_shown_is_no_secret() {
    // It takes no output, or has the target stop it.
    for stop in [false, true] {
        let mut desk = Desk::shell();
        desk.runs("sleep 1");
        rests(&mut desk, "\r\n");
        desk.holder.lags(!stop);
        if stop {
            desk.keys("\x13");
        }
        desk.keys("reboot");
        desk.waits(HOLD_MS);
        doubted(&mut desk, "\r");
    }
}

#[test]
fn a_stop_and_a_start_are_no_reason_to_doubt_for_ever() {
    let mut desk = Desk::shell();
    desk.runs("sudo id");
    rests(&mut desk, "\r\nPassword: ").waits(1000);
    desk.keys("\x13\x11");
    desk.waits(HOLD_MS);
    desk.keys("secret");
    desk.waits(HOLD_MS);
    assert_eq!(desk.keys("\r"), Next::Pass(0));
    // Right behind it what was kept back is not here yet.
    let mut desk = Desk::shell();
    desk.runs("sleep 1");
    rests(&mut desk, "\r\n");
    desk.keys("\x13reboot");
    desk.waits(HOLD_MS);
    desk.keys("\x11");
    assert!(matches!(desk.keys("\r"), Next::Wait(_)));
    // And ^Q where no prompt stands puts no line aside.
    let mut desk = Desk::shell();
    desk.runs("tail -f log");
    rests(&mut desk, "\r\nline\r\n");
    desk.keys("\x13\x11");
    rests(&mut desk, "line\r\n");
    assert_eq!(desk.asked("\r"), read(""));
}

#[test]
fn an_editor_that_has_read_a_line_is_at_a_new_one() {
    // ESC Enter in vi mode.
    let mut desk = Desk::shell();
    rests(&mut desk, "\x1b[?2004h");
    desk.keys("true");
    rests(&mut desk, "true");
    desk.keys("\x1b");
    desk.asked("\r");
    desk.goes();
    rests(&mut desk, &format!("\r\n\x1b[?2004l\r\x1b[?2004h{PROMPT}"));
    assert_eq!(desk.runs("id"), read("id"));
}

#[test]
fn what_is_shown_of_late_output_is_not_all_of_it() {
    let mut desk = Desk::shell();
    desk.keys("\x1b[A");
    rests(&mut desk, "true");
    desk.holder.lags(true);
    assert_eq!(doubted(&mut desk, "\r").text, "true");
}

#[test]
fn rows_of_one_line_are_not_read_as_the_last_of_them() {
    // ^V ^J of readline, ESC Enter of zsh and fish.
    for (before, enter) in [("\x16", "\n"), ("\x1b", "\r")] {
        let mut desk = Desk::shell();
        desk.keys("true");
        rests(&mut desk, "true");
        desk.keys(before);
        desk.asked(enter);
        desk.goes();
        rests(&mut desk, "\r\n");
        desk.keys("reboot");
        rests(&mut desk, "reboot");
        desk.keys("\x01");
        rests(&mut desk, "\x1b[A\r\x1b[12C");
        doubted(&mut desk, "\r");
    }
}

#[test]
fn rows_stay_rows_whatever_else_is_shown_or_typed() {
    // A job behind the shell tells of pastes; what gives a line up gives no row up.
    for (shown, typed) in [("\r\n\x1b[?2004h", ""), ("\r\n", "\x03")] {
        let mut desk = Desk::shell();
        desk.keys("true \\");
        rests(&mut desk, "true \\");
        desk.keys("\x16");
        desk.asked("\n");
        desk.goes();
        rests(&mut desk, shown);
        desk.keys(typed);
        rests(&mut desk, "\x1b[K");
        desk.keys("reboot");
        rests(&mut desk, "reboot");
        doubted(&mut desk, "\r");
    }
}

#[test]
fn a_line_that_begins_above_the_screen_is_not_read_for_certain() {
    let mut desk = Desk::shell();
    let long = format!("reboot; : {}", "a".repeat(2500));
    desk.keys(&long);
    rests(&mut desk, &long);
    desk.keys("\x05");
    rests(&mut desk, "\x07");
    doubted(&mut desk, "\r");
}

#[test]
fn what_only_looks_like_a_search_is_read_as_it_stands() {
    let mut desk = Desk::new();
    let prompt = "(venv) root@db1:~# ";
    rests(&mut desk, prompt).waits(1000);
    desk.runs("id");
    rests(&mut desk, &format!("\r\n{prompt}")).waits(1000);
    let line = "reboot #-search)`': ls";
    assert_eq!(desk.runs(line), read(line));
    let mut desk = Desk::shell();
    desk.keys("\x12");
    rests(&mut desk, "\r(reverse-i-search)`': ");
    desk.keys("re");
    rests(&mut desk, "\r(reverse-i-search)`re': reboot");
    assert_eq!(desk.asked("\r"), read("reboot"));
    let mut desk = Desk::shell();
    desk.keys("\x12");
    rests(&mut desk, "\r(reverse-i-search)`x': reboot #': ls");
    desk.waits(HOLD_MS);
    doubted(&mut desk, "\r");
}

#[test]
fn bytes_that_are_no_character_may_be_keys_within_a_paste() {
    let mut desk = Desk::shell();
    rests(&mut desk, "\x1b[?2004h");
    desk.queue.extend_from_slice(b"\xdb\x1b[200~;REBOOT\xe2\xec\r");
    let Next::Ask(line) = desk.next() else {
        panic!("not asked about")
    };
    assert!(line.undecided, "{line:?}");
}

#[test]
fn a_line_that_changes_while_it_waits_is_another() {
    let mut desk = Desk::shell();
    desk.keys("true");
    rests(&mut desk, "true");
    let Next::Ask(line) = desk.keys("\r") else {
        panic!("not asked about")
    };
    assert!(desk.holder.still_stands(&line));
    rests(&mut desk, "\x1b[4Dreboot");
    assert!(!desk.holder.still_stands(&line));
}
