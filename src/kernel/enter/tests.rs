use super::*;

pub(super) const PROMPT: &str = "root@db1:~# ";

/// Somebody at a shell, and what the gate makes of it.
pub(super) struct Desk {
    pub(super) holder: Holder,
    pub(super) at_ms: u64,
    /// Keys that have not gone on.
    pub(super) queue: Vec<u8>,
    gone: Vec<u8>,
}

impl Desk {
    pub(super) fn new() -> Desk {
        let mut holder = Holder::new(80, 24).unwrap();
        // A target next door.
        holder.round_trip(Some(0));
        Desk {
            holder,
            at_ms: 0,
            queue: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// At a prompt that came back once.
    pub(super) fn shell() -> Desk {
        let mut desk = Desk::new();
        desk.shows(PROMPT).waits(1000);
        assert_eq!(desk.runs("id"), ("id".to_owned(), false));
        desk.shows("\r\nuid=0\r\n").shows(PROMPT).waits(1000);
        desk
    }

    pub(super) fn shows(&mut self, output: &str) -> &mut Desk {
        self.at_ms += 1;
        self.holder.shown(self.at_ms, output.as_bytes());
        self
    }

    pub(super) fn waits(&mut self, ms: u64) -> &mut Desk {
        self.at_ms += ms;
        self
    }

    /// These keys come; what becomes of the first that does not go on.
    pub(super) fn keys(&mut self, keys: &str) -> Next {
        self.queue.extend_from_slice(keys.as_bytes());
        self.next()
    }

    pub(super) fn next(&mut self) -> Next {
        loop {
            if self.queue.is_empty() {
                return Next::Pass(0);
            }
            match self.holder.next(self.at_ms, &self.queue) {
                Next::Pass(keys) => self.gone.extend(self.queue.drain(..keys)),
                other @ (Next::Wait(_) | Next::Ask(_)) => return other,
            }
        }
    }

    /// Types a line key by key, each echoed, and Enter, which is let go on; what policy was asked.
    pub(super) fn runs(&mut self, line: &str) -> (String, bool) {
        for key in line.chars() {
            let key = key.to_string();
            assert_eq!(self.keys(&key), Next::Pass(0));
            self.shows(&key).waits(50);
        }
        let asked = self.asked("\r");
        self.goes();
        asked
    }

    /// What policy is asked about at once.
    #[track_caller]
    pub(super) fn asked(&mut self, keys: &str) -> (String, bool) {
        match self.keys(keys) {
            Next::Ask(line) => (line.text, line.undecided),
            other @ (Next::Pass(_) | Next::Wait(_)) => panic!("{other:?}"),
        }
    }

    pub(super) fn goes(&mut self) -> &mut Desk {
        let enter = self.queue.remove(0);
        self.holder.sent(self.at_ms, enter);
        self.gone.push(enter);
        self
    }

    pub(super) fn line(&mut self) -> Line {
        match self.next() {
            Next::Ask(line) => line,
            other @ (Next::Pass(_) | Next::Wait(_)) => panic!("{other:?}"),
        }
    }
}

pub(super) fn read(text: &str) -> (String, bool) {
    (text.to_owned(), false)
}

pub(super) fn unread(text: &str) -> (String, bool) {
    (text.to_owned(), true)
}

#[test]
fn a_line_that_is_shown_is_asked_about_at_once() {
    let mut desk = Desk::shell();
    assert_eq!(desk.runs("rm -rf /srv"), read("rm -rf /srv"));
    assert_eq!(desk.gone, b"id\rrm -rf /srv\r");
}

#[test]
fn an_enter_waits_for_the_echo_and_no_longer_than_it_may() {
    let mut desk = Desk::shell();
    let end = desk.at_ms + HOLD_MS;
    assert_eq!(desk.keys("reboot\r"), Next::Wait(end));
    desk.shows("reb");
    assert!(matches!(desk.next(), Next::Wait(_)));
    desk.shows("oot");
    assert_eq!(desk.asked(""), read("reboot"));
    assert!(!desk.gone.ends_with(b"\r"));

    let mut desk = Desk::shell();
    desk.keys("reboot\r");
    desk.shows("reb").waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread("reb"), "only what was shown");
}

#[test]
fn a_line_at_a_prompt_that_is_not_shown_is_no_password() {
    let mut desk = Desk::shell();
    desk.keys("reboot");
    desk.waits(1000);
    assert!(matches!(desk.keys("\r"), Next::Wait(_)));
    desk.waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(""));
    // So is one whose echo a control string swallows, wherever it stands.
    let mut desk = Desk::shell();
    desk.runs("printf '\\e]0;'");
    desk.shows("\r\n\x1b]0;root@db1:~# ").waits(10);
    desk.keys("reboot\r");
    desk.shows("reboot").waits(HOLD_MS);
    assert!(matches!(desk.next(), Next::Ask(line) if line.undecided || line.text == "reboot"));
}

#[test]
fn a_password_goes_on_and_nobody_is_asked() {
    let mut desk = Desk::shell();
    desk.runs("sudo -i");
    desk.shows("\r\n[sudo] password for root: ").waits(500);
    for key in ["s", "3", "c"] {
        desk.keys(key);
        desk.waits(200);
    }
    assert_eq!(desk.keys("\r"), Next::Pass(0), "at once");
    // One that is pasted waits to see whether it is shown.
    let mut desk = Desk::shell();
    desk.runs("read -s x");
    desk.shows("\r\n").waits(500);
    assert_eq!(desk.keys("s3cret\r"), Next::Wait(desk.at_ms + HOLD_MS));
    desk.waits(HOLD_MS);
    assert_eq!(desk.next(), Next::Pass(0));
    // Stars are no echo.
    let mut desk = Desk::shell();
    desk.runs("sudo -i");
    desk.shows("\r\nPassword: ").waits(500);
    desk.keys("abc");
    desk.shows("***").waits(100);
    assert_eq!(desk.keys("\r"), Next::Pass(0));
}

#[test]
fn recalled_and_edited_lines_are_read_once_they_are_drawn() {
    let mut desk = Desk::shell();
    // All in one packet: nothing is known before the shell has drawn.
    assert!(matches!(desk.keys("\x1b[A\r"), Next::Wait(_)));
    desk.shows("reboot");
    assert_eq!(desk.next(), Next::Wait(desk.at_ms + REST_MS));
    desk.waits(REST_MS);
    assert_eq!(desk.asked(""), read("reboot"));
    desk.goes().shows("\r\n").shows(PROMPT).waits(500);
    // Never drawn.
    desk.keys("\x1b[A\r");
    desk.waits(HOLD_MS);
    assert_eq!(desk.asked(""), unread(""));
    // Found in the history.
    let mut desk = Desk::shell();
    desk.keys("\x12");
    desk.shows("\r(reverse-i-search)`': ").waits(50);
    desk.keys("reb");
    desk.shows("\r(reverse-i-search)`reb': reboot").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
}

#[test]
fn what_a_shell_brings_is_read_though_nobody_typed_it() {
    let mut desk = Desk::shell();
    desk.keys("id");
    desk.shows("id").waits(50);
    // ^O runs it and brings the next of the history; an Enter behind it in the same packet runs that.
    assert_eq!(desk.asked("\x0f\r"), read("id"));
    desk.goes();
    assert!(matches!(desk.next(), Next::Wait(_)));
    desk.shows("\r\nuid=0\r\nroot@db1:~# reboot").waits(REST_MS);
    assert_eq!(desk.asked(""), read("reboot"));
}

#[test]
fn lines_typed_ahead_and_pasted_are_each_read() {
    let mut desk = Desk::shell();
    assert!(matches!(desk.keys("sleep 1\rreboot\r"), Next::Wait(_)));
    desk.shows("sleep 1");
    assert_eq!(desk.asked(""), read("sleep 1"));
    desk.goes();
    assert!(matches!(desk.next(), Next::Wait(_)));
    // Echoed by the terminal, before the shell reads it.
    desk.shows("\r\n").shows("reboot");
    assert_eq!(desk.asked(""), read("reboot"));
    // Its shell asks for it at its prompt, and shows it again.
    let mut desk = Desk::shell();
    desk.keys("id\rreboot\r");
    desk.shows("id");
    desk.next();
    desk.goes();
    desk.next();
    desk.shows("\r\nuid=0\r\nroot@db1:~# reboot");
    let line = desk.line();
    assert_eq!(
        (line.text.as_str(), line.at_prompt, line.undecided),
        ("reboot", true, false)
    );
}

#[test]
fn each_line_of_a_bracketed_paste_is_asked_about_and_then_the_whole() {
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    let first = match desk.keys("\x1b[200~echo a\rreboot\x1b[201~") {
        Next::Ask(line) => line,
        other @ (Next::Pass(_) | Next::Wait(_)) => panic!("{other:?}"),
    };
    assert_eq!(
        (first.text.as_str(), first.undecided, first.pasted),
        ("echo a", false, Pasted::Part)
    );
    desk.goes();
    assert_eq!(desk.next(), Next::Pass(0));
    desk.shows("\x1b[7mecho a\r\n\rreboot\x1b[27m").waits(50);
    assert_eq!(desk.asked("\r"), read("echo a\nreboot"));
    // A shell that does not take pastes as such: brackets are keys, and each line is one.
    let mut desk = Desk::shell();
    assert!(matches!(desk.keys("\x1b[200~reboot\r"), Next::Wait(_)));
}

#[test]
fn what_has_several_lines_is_taken_back_as_a_whole() {
    let mut desk = Desk::shell();
    desk.shows("\x1b[?2004h").waits(50);
    desk.keys("\x1b[200~reboot\rtrue\x1b[201~");
    let line = desk.line();
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"\x1b[201~\x03");
    let mut desk = Desk::shell();
    desk.runs("rm -rf \\");
    desk.shows("\r\n> ").waits(50);
    desk.keys("/srv");
    desk.shows("/srv").waits(50);
    desk.keys("\r");
    let line = desk.line();
    assert_eq!(line.text, "rm -rf /srv");
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"\x03");
}

#[test]
fn a_command_of_many_lines_is_read_as_one() {
    let mut desk = Desk::shell();
    desk.runs("rm -rf \\");
    desk.shows("\r\n> ").waits(50);
    assert_eq!(desk.runs("/srv"), read("rm -rf /srv"));
    desk.shows("\r\n").shows(PROMPT).waits(50);
    desk.runs("cat <<E");
    desk.shows("\r\n> ").waits(50);
    assert_eq!(desk.runs("reboot"), read("cat <<E\nreboot"));
}

#[test]
fn a_program_with_the_whole_screen_has_its_enters() {
    let mut desk = Desk::shell();
    desk.runs("vim x");
    desk.shows("\x1b[?1049h\x1b[2J\x1b[H").waits(100);
    assert_eq!(desk.keys("ireboot\r"), Next::Pass(0));
    // A shell in a pane of it has not.
    desk.shows("\x1b[H\x1b[2Jroot@db1:~# ").waits(100);
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    assert_eq!(desk.asked("\r"), read("reboot"));
}

#[test]
fn history_expansion_is_told_apart() {
    for text in ["!!", "sudo !!", "!-2", "!rm", "echo $(!!)", "^a^b", "vi !$"] {
        assert!(names_another(text), "{text}");
    }
    for text in [
        "echo hi!",
        "[ ! -f x ]",
        "! true",
        "a != b",
        "echo '!!'",
        "kill $!",
        "${!x}",
        "echo \\!x",
        "echo \"hi!\"",
        "x!",
    ] {
        assert!(!names_another(text), "{text}");
    }
    let mut desk = Desk::shell();
    assert_eq!(desk.runs("sudo !!"), unread("sudo !!"));
}

#[test]
fn what_is_dim_behind_the_cursor_is_a_suggestion() {
    let mut desk = Desk::shell();
    desk.keys("re");
    desk.shows("re\x1b[90mboot -f\x1b[0m\x1b[7D").waits(50);
    assert_eq!(desk.asked("\r"), read("re"));
}

#[test]
fn a_refused_line_is_taken_back_at_a_prompt_only() {
    let mut desk = Desk::shell();
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    desk.keys("\r");
    let line = desk.line();
    assert_eq!(line.prompt, PROMPT);
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"\x05\x15");
    desk.queue.clear();
    assert!(desk.holder.is_taken_back(desk.at_ms).is_err());
    desk.shows("\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08\x08 \x08")
        .waits(REST_MS);
    assert_eq!(desk.holder.is_taken_back(desk.at_ms), Ok(()));
    assert_eq!(desk.runs("id"), read("id"));
    // Where no prompt stands nothing is.
    desk.shows("\r\nName: ").waits(50);
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    desk.keys("\r");
    let line = desk.line();
    assert_eq!(
        (line.text.as_str(), line.place, line.at_prompt),
        ("reboot", "program", false)
    );
    assert_eq!(desk.holder.kept(desk.at_ms, &line), b"");
}

#[test]
fn one_that_was_not_taken_back_is_read_again() {
    let mut desk = Desk::shell();
    desk.keys("reboot");
    desk.shows("reboot").waits(50);
    desk.keys("\r");
    let line = desk.line();
    desk.holder.kept(desk.at_ms, &line);
    desk.queue.clear();
    desk.waits(HOLD_MS);
    assert_eq!(desk.holder.is_taken_back(desk.at_ms), Ok(()));
    desk.keys("\r");
    desk.waits(HOLD_MS);
    assert_eq!(desk.line().text, "reboot");
}

#[test]
fn an_empty_line_runs_nothing() {
    let mut desk = Desk::shell();
    assert_eq!(desk.keys("\r"), Next::Pass(0));
    desk.shows("\r\n").shows(PROMPT).waits(50);
    assert_eq!(desk.keys("\r"), Next::Pass(0));
}

#[test]
fn lines_behind_an_echo_that_was_switched_off_are_found() {
    let mut desk = Desk::shell();
    desk.runs("stty -echo");
    for _ in 0..2 {
        desk.shows("\r\n").shows(PROMPT).waits(500);
        assert!(!desk.holder.ran_hidden());
        desk.keys("reboot");
        desk.waits(500);
        desk.keys("\r");
        desk.waits(HOLD_MS);
        assert_eq!(desk.asked(""), unread(""));
        desk.goes();
        desk.shows("\r\ngoing down\r\n");
        assert!(desk.holder.ran_hidden());
    }
}

#[test]
fn what_is_kept_of_a_line_is_bounded() {
    let mut desk = Desk::shell();
    let long = "x".repeat(1000);
    for _ in 0..100 {
        desk.keys(&long);
        desk.shows(&long);
    }
    assert!(desk.holder.typing.keys.len() <= LINE_BYTES_MAX);
    desk.waits(50);
    desk.keys("\r");
    desk.waits(HOLD_MS);
    assert!(desk.line().undecided);
}

#[test]
fn a_refused_line_that_was_typed_ahead_comes_to_its_prompt() {
    // Before any prompt was known, and behind one that is.
    for mut desk in [Desk::new(), Desk::shell()] {
        desk.keys("true\r");
        desk.shows("true");
        desk.next();
        desk.goes().shows("\r\n");
        desk.keys("reboot\r");
        desk.shows("reboot");
        let line = desk.line();
        assert_eq!((line.text.as_str(), line.at_prompt), ("reboot", false));
        assert_eq!(desk.holder.came_to_prompt(desk.at_ms), None);
        // The shell's prompt comes behind what the terminal has echoed.
        desk.shows("root@db1:~# reboot");
        assert_eq!(desk.holder.came_to_prompt(desk.at_ms), None, "it may not be all of it");
        desk.waits(REST_MS);
        let came = desk.holder.came_to_prompt(desk.at_ms).unwrap();
        assert_eq!(desk.holder.kept(desk.at_ms, &came), b"\x05\x15");
    }
}

#[test]
fn whoever_prints_a_longer_prompt_hides_nothing_of_a_line() {
    let mut desk = Desk::shell();
    // A program that asks at something that looks like the shell's line, more than once.
    for _ in 0..3 {
        desk.runs("ask");
        desk.shows("\r\nroot@db1:~# reboot; ").waits(500);
        desk.keys("x");
        desk.shows("x").waits(50);
        desk.keys("\r");
        desk.waits(HOLD_MS);
        assert_eq!(desk.asked(""), unread("reboot; x"));
        desk.goes().shows("\r\n").shows(PROMPT).waits(500);
    }
    assert_eq!(desk.runs("reboot; ls"), read("reboot; ls"));
}

#[test]
fn behind_a_flood_a_line_is_read_as_ever() {
    let line = "a line that scrolls by, with \x1b[32mcolours\x1b[m\r\n";
    let mut desk = Desk::shell();
    assert_eq!(desk.runs("cat log"), ("cat log".to_owned(), false));
    desk.shows("\r\n");
    let piece = line.repeat(640);
    for _ in 0..500 {
        desk.shows(&piece);
    }
    assert!(desk.holder.waiting.bytes() < WAITING_BYTES_MAX);
    desk.shows(PROMPT);
    assert!(desk.holder.waiting.bytes() > 0, "nobody has looked yet");
    desk.waits(50);
    assert_eq!(desk.runs("reboot"), ("reboot".to_owned(), false));
    // A second later nothing is put off any more.
    desk.waits(1000).shows("\r\n").waits(1000).shows(PROMPT);
    assert_eq!(desk.holder.waiting.bytes(), 0);
}
