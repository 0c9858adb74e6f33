use avt::Terminal;

use super::*;

/// A terminal with somebody at it.
pub struct Person {
    terminal: Terminal,
    reader: Reader,
    at_ms: u64,
}

impl Person {
    pub fn new(cols: usize, rows: usize) -> Person {
        Person {
            terminal: Terminal::new(cols, rows).unwrap(),
            reader: Reader::default(),
            at_ms: 0,
        }
    }

    fn hooked(nonce: &str) -> Person {
        Person {
            reader: Reader::with_hook(nonce.to_owned()),
            ..Person::new(80, 24)
        }
    }

    pub fn shows(&mut self, output: &str) -> &mut Person {
        self.at_ms += 1;
        self.reader.shown(self.at_ms, output, &mut self.terminal);
        self
    }

    /// After a pause.
    pub fn presses(&mut self, keys: &str) -> &mut Person {
        self.at_ms += 100;
        self.presses_at_once(keys)
    }

    pub fn presses_at_once(&mut self, keys: &str) -> &mut Person {
        self.reader
            .typed(self.at_ms, Keys::Clear(keys.as_bytes()), &self.terminal);
        self
    }

    fn presses_hidden(&mut self, bytes: usize) -> &mut Person {
        self.at_ms += 100;
        self.reader
            .typed(self.at_ms, Keys::Hidden { bytes, ends: true }, &self.terminal);
        self
    }

    /// Types a line key by key, each echoed, and Enter; then comes this.
    pub fn runs(&mut self, line: &str, after: &str) -> &mut Person {
        for key in line.chars() {
            self.presses(key.encode_utf8(&mut [0; 4]));
            self.shows(key.encode_utf8(&mut [0; 4]));
        }
        self.presses("\r").shows("\r\n").shows(after)
    }

    fn resizes(&mut self, cols: usize, rows: usize) -> &mut Person {
        self.terminal.resize(cols, rows);
        self
    }

    pub fn is_spent(&self) -> bool {
        self.reader.work.is_spent()
    }

    pub fn dropped(&mut self) -> u64 {
        self.reader.take_dropped()
    }

    pub fn findings(&mut self) -> Vec<Finding> {
        self.reader.finish();
        self.reader.take()
    }

    pub fn commands(&mut self) -> Vec<Command> {
        let found = self.findings().into_iter();
        found
            .filter_map(|finding| match finding {
                Finding::Command(command) => Some(command),
                Finding::HiddenCommand { .. } => None,
            })
            .collect()
    }

    /// Text and context of each.
    pub fn told(&mut self) -> Vec<(String, String)> {
        let commands = self.commands().into_iter();
        commands.map(|command| (command.text, command.context.word())).collect()
    }

    pub fn texts(&mut self) -> Vec<String> {
        self.commands().into_iter().map(|command| command.text).collect()
    }
}

fn shell() -> Person {
    let mut person = Person::new(80, 24);
    person.shows("root@db1:~# ");
    person
}

#[test]
fn typed_and_recalled_and_completed() {
    let mut person = shell();
    person.runs("id", "uid=0\r\nroot@db1:~# ");
    person
        .presses("\x1b[A")
        .shows("id")
        .presses("\r")
        .shows("\r\nuid=0\r\nroot@db1:~# ");
    person
        .presses("cat /etc/host\t")
        .shows("cat /etc/hostname ")
        .presses("\r")
        .shows("\r\ndb1\r\nroot@db1:~# ");
    person
        .presses("lx\x7fs")
        .shows("lx\x08\x1b[Ks")
        .presses("\r")
        .shows("\r\nroot@db1:~# ");
    assert_eq!(person.texts(), ["id", "id", "cat /etc/hostname", "ls"]);
}

#[test]
fn source_confidence_and_times() {
    let mut person = shell();
    person.runs("id", "uid=0\r\nroot@db1:~# ").runs("pwd", "/root\r\n");
    let commands = person.commands();
    let [id, pwd] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(
        (id.source, id.confidence, &id.context),
        (Source::Screen, Confidence::High, &Context::Shell)
    );
    assert!(id.at_ms < id.end_ms && id.end_ms < pwd.at_ms, "{commands:?}");
    assert_eq!(id.other, None);
}

#[test]
fn a_prompt_that_is_printed_is_no_command() {
    let mut person = shell();
    person.runs("cat notes", "root@db1:~# rm -rf /\r\nroot@db1:~# ");
    person.runs("id", "uid=0\r\n");
    assert_eq!(person.texts(), ["cat notes", "id"]);
}

#[test]
fn lines_that_go_on_are_one_command() {
    let mut person = shell();
    person
        .runs("for i in 1 2; do", "> ")
        .runs("echo $i", "> ")
        .runs("done", "1\r\n2\r\nroot@db1:~# ");
    person.runs("echo 'a", "> ").runs("b'", "a\r\nb\r\nroot@db1:~# ");
    assert_eq!(person.texts(), ["for i in 1 2; do\necho $i\ndone", "echo 'a\nb'"]);
}

#[test]
fn a_wrapped_line_is_one() {
    let mut person = Person::new(20, 5);
    let line = "echo one two three four five six";
    person.shows("$ ").runs(line, "\r\n$ ").runs("id", "");
    assert_eq!(person.texts(), [line, "id"]);
}

#[test]
fn what_stands_at_the_right_edge_is_not_typed() {
    let mut person = Person::new(40, 5);
    person
        .shows("\x1b[36G~/x\x1b[1G% ")
        .runs("ls", "\x1b[36G~/x\x1b[1G% ")
        .runs("id", "");
    assert_eq!(person.texts(), ["ls", "id"]);
}

#[test]
fn the_prompt_changes_with_the_directory() {
    let mut person = shell();
    person.runs("cd /tmp", "root@db1:/tmp# ").runs("ls", "root@db1:/tmp# ");
    person.presses("true\rcd /\rid\r");
    person.shows("true\r\nroot@db1:/tmp# cd /\r\nroot@db1:/# id\r\nuid=0\r\nroot@db1:/# ");
    person.runs("pwd", "/\r\n");
    let told = person.told();
    assert_eq!(
        told.iter()
            .map(|(text, context)| (text.as_str(), context.as_str()))
            .collect::<Vec<_>>(),
        ["cd /tmp", "ls", "true", "cd /", "id", "pwd"].map(|text| (text, "shell"))
    );
}

#[test]
fn typed_ahead_is_read_where_the_shell_shows_it() {
    let mut person = shell();
    person.runs("sleep 1", "").presses("id\r").shows("id\r\n");
    person
        .shows("root@db1:~# id\r\nuid=0\r\nroot@db1:~# ")
        .runs("pwd", "/root\r\n");
    assert_eq!(person.texts(), ["sleep 1", "id", "pwd"]);
}

#[test]
fn typed_ahead_and_echoed_in_part_before_the_prompt() {
    let mut person = shell();
    person.runs("ls", "").presses("t").shows("t").shows("root@db1:~# ");
    person
        .presses_hidden(4)
        .shows("true\r\nroot@db1:~# ")
        .runs("pwd", "/root\r\n");
    assert_eq!(person.texts(), ["ls", "true", "pwd"]);
}

#[test]
fn typed_ahead_where_the_terminal_echoes_is_read_by_its_keys() {
    let mut person = Person::new(80, 24);
    person
        .shows("$ ")
        .runs("sleep 1", "")
        .presses("cd /\rid\r")
        .shows("cd /\r\nid\r\n");
    person.shows("$ $ uid=0\r\n$ ").runs("pwd", "/\r\n$ ");
    let commands = person.commands();
    let texts: Vec<_> = commands
        .iter()
        .map(|command| (command.text.as_str(), command.source))
        .collect();
    assert_eq!(
        texts,
        [
            ("sleep 1", Source::Screen),
            ("cd /", Source::Keys),
            ("id", Source::Keys),
            ("pwd", Source::Screen)
        ]
    );
}

#[test]
fn data_and_answers_are_no_commands_of_the_shell() {
    let mut person = shell();
    person
        .runs("cat > notes", "")
        .runs("hello", "")
        .presses("\x04")
        .shows("root@db1:~# ");
    person
        .runs("./ask", "Name: ")
        .runs("Kim", "root@db1:~# ")
        .runs("id", "");
    let told = person.told();
    let told: Vec<_> = told
        .iter()
        .map(|(text, context)| (text.as_str(), context.as_str()))
        .collect();
    for expected in [
        ("cat > notes", "shell"),
        ("./ask", "shell"),
        ("Kim", "program"),
        ("id", "shell"),
        ("hello", "program"),
    ] {
        assert!(told.contains(&expected), "{expected:?}: {told:?}");
    }
    assert_eq!(told.len(), 5);
}

#[test]
fn programs_with_prompts_of_their_own() {
    let mut person = shell();
    person
        .runs("python3", "Python 3.11\r\n>>> ")
        .runs("def f():", "... ")
        .runs("    pass", "... ")
        .runs("", ">>> ");
    person
        .runs("exit()", "root@db1:~# ")
        .runs("sudo -i", "root@db1:/# ")
        .runs("id", "");
    assert_eq!(
        person.told(),
        [
            ("python3", "shell"),
            ("def f():\n    pass\n", "repl:>>>"),
            ("exit()", "repl:>>>"),
            ("sudo -i", "shell"),
            ("id", "shell")
        ]
        .map(|(text, context)| (text.to_owned(), context.to_owned()))
    );
}

#[test]
fn nested_shells_are_named() {
    let mut person = Person::new(80, 24);
    person
        .shows("kim@db1:~$ ")
        .runs("sudo -i", "root@db1:~# ")
        .runs("ssh db2", "root@db2:~# ")
        .runs("id", "");
    assert_eq!(
        person.told(),
        [("sudo -i", "shell"), ("ssh db2", "elevated"), ("id", "nested")]
            .map(|(text, context)| (text.to_owned(), context.to_owned()))
    );
}

#[test]
fn a_full_screen_program_has_no_commands_but_a_shell_in_it_has() {
    let mut person = shell();
    person.runs("vi notes", "\x1b[?1049h\x1b[2J\x1b[H");
    person.runs("hello there", "").runs("$ rm -rf /", "");
    person.presses(":q!\r").shows("\x1b[24;1H:q!\r\x1b[?1049lroot@db1:~# ");
    person.runs("tmux", "\x1b[?1049h\x1b[2J\x1b[24;1H[0] 0:bash\x1b[Hroot@db1:~# ");
    person
        .runs("id", "uid=0\r\nroot@db1:~# ")
        .runs("pwd", "/root\r\nroot@db1:~# ");
    assert_eq!(person.texts(), ["vi notes", "tmux", "id", "pwd"]);
}

#[test]
fn panes_side_by_side_are_told_apart() {
    let mut person = Person::new(41, 4);
    let border = "\x1b[1;21H│\x1b[2;21H│\x1b[3;21H│\x1b[4;21H│\x1b[1;30Hnoise";
    person
        .shows("db1$ ")
        .runs("tmux", &format!("\x1b[?1049h\x1b[2J{border}\x1b[1;1Hdb1$ "));
    person.runs("id", "uid=0\x1b[3;1Hdb1$ ").runs("pwd", "");
    assert_eq!(person.texts(), ["tmux", "id", "pwd"]);
}

#[test]
fn a_pasted_command_of_many_lines() {
    let mut person = shell();
    person
        .shows("\x1b[?2004h")
        .presses("\x1b[200~echo a\recho b\x1b[201~")
        .shows("echo a\r\necho b");
    person.presses("\r").shows("\r\na\r\nb\r\nroot@db1:~# ").runs("id", "");
    assert_eq!(person.texts(), ["echo a\necho b", "id"]);
}

#[test]
fn a_paste_of_which_a_part_was_held_for_hidden() {
    let mut person = shell();
    person.presses("\x1b[200~echo a\r");
    let hidden = Keys::Hidden { bytes: 7, ends: true };
    person.reader.typed(person.at_ms, hidden, &person.terminal);
    person
        .shows("echo a\r\necho b")
        .presses_hidden(6)
        .shows("\r\na\r\nb\r\nroot@db1:~# ");
    person.runs("id", "");
    assert_eq!(person.texts(), ["echo a\necho b", "id"]);
}

#[test]
fn resized_in_mid_line() {
    let mut person = shell();
    person.presses("echo be").shows("echo be").resizes(60, 20);
    person
        .shows("\r\x1b[Kroot@db1:~# echo be")
        .presses("fore")
        .shows("fore")
        .presses("\r")
        .shows("\r\nbefore\r\n");
    assert_eq!(person.texts(), ["echo before"]);
}

#[test]
fn given_up_lines_are_not_commands() {
    let mut person = shell();
    person
        .presses("rm -rf /")
        .shows("rm -rf /")
        .presses("\x03")
        .shows("^C\r\nroot@db1:~# ");
    person.presses("\r").shows("\r\nroot@db1:~# ").runs("id", "");
    assert_eq!(person.texts(), ["id"]);
}

#[test]
fn what_is_hidden_is_in_no_text() {
    let mut person = shell();
    person.runs("sudo id", "[sudo] password for kim: ");
    person.presses_hidden(9).shows("\r\nuid=0\r\nroot@db1:~# ");
    person
        .runs("su", "Password: ")
        .presses_hidden(7)
        .shows("*******\r\nroot@db1:~# ");
    person.runs("pwd", "/root\r\nroot@db1:~# ");
    let findings = person.findings();
    let texts: Vec<_> = findings
        .iter()
        .map(|finding| match finding {
            Finding::Command(command) => command.text.as_str(),
            Finding::HiddenCommand { .. } => "hidden",
        })
        .collect();
    assert_eq!(texts, ["sudo id", "su", "pwd"]);
}

#[test]
fn hidden_commands_are_flagged() {
    let flagged = |person: &mut Person| {
        let found = person.findings();
        found
            .iter()
            .filter(|finding| matches!(finding, Finding::HiddenCommand { .. }))
            .count()
    };
    // At a shell's prompt.
    let mut person = shell();
    person
        .runs("stty -echo", "root@db1:~# ")
        .presses_hidden(8)
        .shows("\r\nroot@db1:~# ");
    assert_eq!(flagged(&mut person), 1);
    // A star of its own making is none that a program asks for a password with.
    let mut person = shell();
    person
        .runs("stty -echo; PS0=$'*\\n'", "root@db1:~# ")
        .presses_hidden(8)
        .shows("*\r\nroot@db1:~# ");
    assert_eq!(flagged(&mut person), 1);
    // What it gave stands where the line would.
    let mut person = shell();
    person
        .runs("stty -echo", "root@db1:~# ")
        .presses_hidden(8)
        .shows("uid=0\r\nroot@db1:~# ");
    person.presses("\r").shows("\r\nroot@db1:~# ");
    assert_eq!(flagged(&mut person), 1);
    // In a row, asked for by nobody, with output.
    let mut person = shell();
    person
        .runs("stty -echo; sh -s", "")
        .presses_hidden(3)
        .shows("\r\nuid=0\r\n");
    person
        .presses_hidden(3)
        .shows("\r\n/root\r\n")
        .presses_hidden(5)
        .shows("\r\n");
    assert_eq!(flagged(&mut person), 1);
    // A password that is asked for twice.
    let mut person = shell();
    person
        .runs("passwd", "New password: ")
        .presses_hidden(9)
        .shows("\r\nRetype new password: ");
    person.presses_hidden(9).shows("\r\nupdated\r\nroot@db1:~# ");
    assert_eq!(flagged(&mut person), 0);
}

#[test]
fn hook_and_screen_together() {
    let mut person = Person::hooked("n0");
    person.shows("\x1b]633;P;Cwd=/root;n0\x07root@db1:~# ");
    person.runs("id", "\x1b]633;E;id;n0\x07uid=0\r\n\x1b]633;D;0;n0\x07root@db1:~# ");
    person.runs("alias", "\x1b]633;E;rm -rf /;n0\x07\x1b]633;D;1;n0\x07root@db1:~# ");
    person.runs("pwd", "\x1b]633;E;pwd;n1\x07");
    let commands = person.commands();
    let [id, alias, pwd] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(
        (id.confidence, id.source, id.exit_status),
        (Confidence::Exact, Source::Hook, Some(0))
    );
    assert_eq!(id.directory.as_deref(), Some("/root"));
    assert_eq!(
        (alias.text.as_str(), alias.other.as_deref()),
        ("rm -rf /", Some("alias"))
    );
    assert_eq!((alias.confidence, alias.exit_status), (Confidence::High, Some(1)));
    // Not our nonce: the screen alone.
    assert_eq!((pwd.confidence, pwd.source), (Confidence::High, Source::Screen));
}

#[test]
fn a_line_that_the_history_did_not_take() {
    let mut person = Person::hooked("n0");
    person.shows("\x1b]633;P;Launch;n0\x07\x1b]633;P;Shell=bash;n0\x07root@db1:~# ");
    person.runs("id", "\x1b]633;E;id;n0\x07\x1b]633;D;0;n0\x07root@db1:~# ");
    // Ignored as it stands there already; left out as it begins with a blank.
    person.runs("id", "\x1b]633;E;id;same;n0\x07\x1b]633;D;3;n0\x07root@db1:~# ");
    person.runs(" false", "\x1b]633;E;id;same;n0\x07\x1b]633;D;1;n0\x07root@db1:~# ");
    let told: Vec<_> = (person.commands().into_iter())
        .map(|command| {
            let text = command.text.trim().to_owned();
            (
                text,
                command.other,
                command.source,
                command.confidence,
                command.exit_status,
            )
        })
        .collect();
    let line = |text: &str, source, confidence, status| (text.to_owned(), None, source, confidence, Some(status));
    assert_eq!(
        told,
        [
            line("id", Source::Hook, Confidence::Exact, 0),
            line("id", Source::Hook, Confidence::Exact, 3),
            line("false", Source::Screen, Confidence::High, 1),
        ]
    );
}

#[test]
fn output_that_makes_looks_long_costs_its_own_lines() {
    let mut person = Person::new(500, 200);
    person.shows("root@db1:~# ").runs("id", "root@db1:~# ");
    // One line over the whole screen, in which the cursor goes down and up.
    for at in 0..64 {
        person.presses_at_once(&format!("cmd {at}\r"));
    }
    person.shows(&"x".repeat(500 * 199));
    assert!(person.reader.waits());
    let moves = "\x1b[H\x1b[B".repeat(500);
    person.shows(&moves);
    assert!(!person.reader.waits());
    // What is usual goes on behind it.
    person
        .shows("\x1b[2J\x1b[Hroot@db1:~# ")
        .runs("pwd", "/root\r\nroot@db1:~# ");
    let texts = person.texts();
    assert_eq!(
        (texts.first().unwrap().as_str(), texts.last().unwrap().as_str()),
        ("id", "pwd")
    );
}

#[test]
fn nothing_grows_without_end() {
    let mut person = shell();
    for _ in 0..10_000 {
        person.presses_at_once("x\r");
    }
    for at in 0..10_000 {
        person.shows(&format!("prompt{at}> ")).presses("y").shows("y\r\n");
    }
    person
        .presses(&"z".repeat(100_000))
        .presses("\r")
        .shows(&"z".repeat(100_000))
        .shows("\r\n");
    assert!(person.findings().len() <= 4096);
}
