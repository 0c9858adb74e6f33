//! Policy on Enter in terminals: real shells at real terminals, and what was
//! refused has not happened.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portcullis_recording::Event;
use portcullis_recording::event::{Direction, NoticeHow};

use crate::support::wait::let_pass;
use crate::support::{Record, Setup, Sshd, Terminal, Variant, World, process, secs, wait_for};

const RULES: &str = r#"
@id("no-such-file") @note("nobody makes that here")
forbid (principal, action == Action::"command", resource) when { context.command like "*forbidden*" };
@id("out") @end @note("that was the last straw")
forbid (principal, action == Action::"command", resource) when { context.command like "*straw*" };
@id("watched") @notice("somebody looks at this")
permit (principal, action == Action::"command", resource) when { context.command like "*noticed*" };
@id("why") @reason("why that?")
permit (principal, action == Action::"command", resource) when { context.command like "*reasoned*" };
@id("two") @approvals("1")
permit (principal, action == Action::"command", resource) when { context.command like "*approved*" };
"#;

fn world_of(rules: &str, variant: Variant) -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/commands.cedar"), rules).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, variant);
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn world(shell: &str) -> World {
    world_of(RULES, Variant::default().account("root", shell))
}

/// Somebody at a shell whose prompt has come back once.
fn person(world: &World) -> Terminal {
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 100, 30);
    terminal.line("printf 'here-%s\\n' 41");
    terminal.expect("here-41", secs(20));
    terminal
}

/// Waits for the shell's next prompt and a moment more, as people do: with it
/// brackets around pastes are switched on, and off again by each Enter.
#[track_caller]
fn rest(terminal: &Terminal) {
    until(terminal, "a prompt", || {
        let shown = terminal.shown();
        shown.matches("\x1b[?2004h").count() > shown.matches("\x1b[?2004l").count()
    });
    let_pass(Duration::from_millis(50));
}

/// Gives the line up that is there; the next one runs.
#[track_caller]
fn goes_on(terminal: &mut Terminal) {
    terminal.keys("\x03");
    rest(terminal);
    terminal.line("echo more-$((40 + 2))");
    terminal.expect("more-42", secs(20));
}

/// Waits for something, and tells what was shown if it does not come.
#[track_caller]
fn until(terminal: &Terminal, what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(
            began.elapsed() < secs(20),
            "waited in vain for {what}: {:?}",
            terminal.shown()
        );
        let_pass(Duration::from_millis(5));
    }
}

/// A file that a command of this session would make.
fn file(world: &World, name: &str) -> PathBuf {
    world.sshd.folder().join(name)
}

#[track_caller]
fn leave(world: &World, mut terminal: Terminal) -> Record {
    rest(&terminal);
    terminal.line("exit 7");
    let (status, shown) = terminal.finish(secs(20));
    assert_eq!(status.exit_code(), 7, "{shown}");
    sound(world)
}

#[track_caller]
fn sound(world: &World) -> Record {
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    let withheld: u64 = record.events.iter().fold(0, |sum, timed| match &timed.event {
        Event::Withheld { direction, bytes, .. } => {
            assert_eq!(*direction, Direction::ToTarget);
            sum + bytes
        }
        _ => sum,
    });
    let accounts = record.accounts();
    assert_eq!(accounts[0].withheld, withheld);
    record
}

/// Lines that policy was asked about, with what it said.
fn asked(record: &Record) -> Vec<(String, bool, String)> {
    let mut asked = Vec::new();
    let mut line = String::new();
    for timed in &record.events {
        match &timed.event {
            Event::Request { kind, detail, .. } if kind == "command" => {
                line = String::from_utf8_lossy(detail).into_owned();
            }
            Event::Decision {
                action, allowed, rule, ..
            } if action == "command" => asked.push((line.clone(), *allowed, rule.to_string())),
            _ => {}
        }
    }
    asked
}

fn keys_of_ours(record: &Record) -> Vec<Vec<u8>> {
    let keys = record.events.iter().filter_map(|timed| match &timed.event {
        Event::Notice {
            bytes,
            how: NoticeHow::Keys,
        } => Some(bytes.to_vec()),
        _ => None,
    });
    keys.collect()
}

/// What a rule says to one line, in each shell.
fn each_line_is_decided(shell: &str) {
    let world = world(shell);
    let (made, refused) = (file(&world, "made"), file(&world, "forbidden"));
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!("touch {}", made.display()));
    until(&terminal, "a permitted command has run", || made.exists());
    let line = format!("touch {}", refused.display());
    terminal.line(&line);
    terminal.expect(
        "portcullis: refused by rule no-such-file: nobody makes that here",
        secs(20),
    );
    // The line is gone, and the shell takes the next.
    rest(&terminal);
    terminal.line("printf 'again-%s\\n' 42");
    terminal.expect("again-42", secs(20));
    assert!(!refused.exists());
    rest(&terminal);
    terminal.line("printf 'noticed-%s\\n' 43");
    terminal.expect("portcullis: somebody looks at this", secs(20));
    terminal.expect("noticed-43", secs(20));
    let record = leave(&world, terminal);
    let asked = asked(&record);
    let told = |line: &str| {
        let found = asked.iter().find(|(asked, ..)| asked == line);
        let (_, allowed, rule) = found.unwrap_or_else(|| panic!("{line:?} is not in {asked:?}"));
        (*allowed, rule.clone())
    };
    assert_eq!(told(&line), (false, "no-such-file".to_owned()));
    assert!(told("printf 'again-%s\\n' 42").0);
    assert!(
        asked
            .iter()
            .any(|(line, allowed, _)| line.starts_with("printf 'noticed") && *allowed)
    );
    assert_eq!(keys_of_ours(&record), [b"\x05\x15"]);
    assert_eq!(record.accounts()[0].withheld, 1);
    assert_eq!(world.bastion.only_record().exit_status(1), [7]);
}

#[test]
fn bash_runs_what_is_permitted() {
    each_line_is_decided("/bin/bash");
}

#[test]
fn zsh_runs_what_is_permitted() {
    each_line_is_decided("/usr/bin/zsh");
}

#[test]
fn fish_runs_what_is_permitted() {
    each_line_is_decided("/usr/bin/fish");
}

#[test]
fn a_reason_is_asked_for_and_kept() {
    let world = world("/bin/bash");
    let (given, refused) = (file(&world, "reasoned-1"), file(&world, "reasoned-2"));
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!("touch {}", given.display()));
    terminal.expect("portcullis: why that?", secs(20));
    assert!(!given.exists());
    terminal.line("ticket 4x\u{7f}2");
    until(&terminal, "the command has run", || given.exists());
    rest(&terminal);
    terminal.line(&format!("touch {}", refused.display()));
    until(&terminal, "the reason is asked for again", || {
        terminal.shown().matches("why that?").count() == 2
    });
    terminal.keys("because\x03");
    terminal.expect("refused by rule why: no reason was given", secs(20));
    rest(&terminal);
    terminal.line("printf 'again-%s\\n' 42");
    terminal.expect("again-42", secs(20));
    assert!(!refused.exists());
    let record = leave(&world, terminal);
    let kept = "reason for the command, asked for by rule why: ticket 42";
    assert!(
        record.markers().iter().any(|text| text == kept),
        "{:?}",
        record.markers()
    );
    let input = String::from_utf8_lossy(&record.input(1)).into_owned();
    assert!(!input.contains("ticket") && !input.contains("because"), "{input:?}");
}

#[test]
fn a_second_person_says_yes_or_no() {
    let world = world("/bin/bash");
    let pending = || {
        wait_for("a request of a command", secs(20), || {
            let listed = world.bastion.json(&["requests"]);
            let found = listed["requests"]
                .as_array()?
                .iter()
                .find(|row| row["state"] == "pending")?
                .clone();
            assert!(
                found["runs"].as_str().is_some_and(|runs| runs.starts_with("touch")),
                "{found}"
            );
            Some(found["id"].as_str()?.to_owned())
        })
    };
    let [yes, no, back] = ["approved-1", "approved-2", "approved-3"].map(|name| file(&world, name));
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!("touch {}", yes.display()));
    terminal.expect("waiting for approval by somebody else", secs(20));
    let id = pending();
    assert!(!yes.exists());
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    until(&terminal, "the command has run", || yes.exists());
    rest(&terminal);
    terminal.line(&format!("touch {}", no.display()));
    let id = pending();
    world.bastion.admin(&["deny", &id, "--reason", "not today"]).ok();
    terminal.expect("refused by rule two: it was denied by root: not today", secs(20));
    rest(&terminal);
    terminal.line(&format!("touch {}", back.display()));
    pending();
    terminal.keys("\x03");
    terminal.expect("refused by rule two: you took it back", secs(20));
    until(&terminal, "the request is taken back", || {
        let listed = world.bastion.json(&["requests"]);
        listed["requests"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["state"] == "withdrawn")
    });
    rest(&terminal);
    terminal.line("printf 'again-%s\\n' 42");
    terminal.expect("again-42", secs(20));
    assert!(!no.exists() && !back.exists());
    let record = leave(&world, terminal);
    assert!(
        record
            .markers()
            .iter()
            .any(|text| text.starts_with("command approved by root"))
    );
}

#[test]
fn a_rule_may_end_the_session() {
    let world = world("/bin/bash");
    let made = file(&world, "straw");
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!("touch {}", made.display()));
    let (_, shown) = terminal.finish(secs(20));
    assert!(
        shown.contains("refused by rule out: that was the last straw"),
        "{shown}"
    );
    let record = sound(&world);
    assert_eq!(record.end().0, "command_refused");
    assert!(!made.exists());
}

/// Where no prompt stands nothing takes a line back.
#[test]
fn a_refused_line_that_no_prompt_asked_for_ends_the_session() {
    let world = world("/bin/bash");
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line("echo; read -p 'name: ' name; touch $name");
    terminal.expect("\nname: ", secs(20));
    terminal.line(file(&world, "forbidden").to_str().unwrap());
    let (_, shown) = terminal.finish(secs(20));
    assert!(shown.contains("no prompt is known there"), "{shown}");
    let record = sound(&world);
    assert_eq!(record.end().0, "command_refused");
    assert!(!file(&world, "forbidden").exists());
}

#[test]
fn pasted_and_typed_ahead_lines_are_each_decided() {
    for shell in ["/bin/bash", "/usr/bin/zsh"] {
        let world = world(shell);
        let [one, two, three] = ["one", "forbidden", "three"].map(|name| file(&world, name));
        let [first, second, third] = [&one, &two, &three].map(|path| format!("touch {}", path.display()));
        let mut terminal = person(&world);
        rest(&terminal);
        // All at once, as a terminal without brackets pastes.
        terminal.keys(&format!("{first}\r{second}\r{third}\r"));
        until(&terminal, "the last has run", || three.exists());
        assert!(one.exists() && !two.exists());
        // While another one runs.
        let ahead = file(&world, "ahead");
        rest(&terminal);
        terminal.line("sleep 1");
        terminal.line(&format!("touch {}", ahead.display()));
        until(&terminal, "it has run", || ahead.exists());
        // In brackets: nothing of a paste runs of which a line is refused.
        let pasted = file(&world, "pasted");
        rest(&terminal);
        terminal.line("echo there-$((40 + 2))");
        terminal.expect("there-42", secs(20));
        rest(&terminal);
        terminal.keys(&format!(
            "\x1b[200~touch {}\r{second}\rtrue\x1b[201~\r",
            pasted.display()
        ));
        until(&terminal, "it is refused", || {
            terminal.shown().matches("refused by rule no-such-file").count() >= 2
        });
        goes_on(&mut terminal);
        assert!(!two.exists() && !pasted.exists());
        // And one of which none is.
        rest(&terminal);
        terminal.keys(&format!("\x1b[200~touch {}\rtrue\x1b[201~\r", pasted.display()));
        until(&terminal, "the paste has run", || pasted.exists());
        leave(&world, terminal);
    }
}

#[test]
fn recalled_lines_and_further_lines_are_read() {
    let world = world("/bin/bash");
    let refused = file(&world, "forbidden");
    let mut terminal = person(&world);
    rest(&terminal);
    // The history holds it, and policy never saw its line.
    terminal.line(&format!(
        "history -s touch {}/for\"\"bidden",
        world.sshd.folder().display()
    ));
    rest(&terminal);
    terminal.line("printf 'again-%s\\n' 42");
    terminal.expect("again-42", secs(20));
    rest(&terminal);
    terminal.line(&format!(
        "history -s 'touch {}/forb''idden'",
        world.sshd.folder().display()
    ));
    terminal.keys("\x1b[A\r");
    terminal.expect("refused by rule no-such-file", secs(20));
    rest(&terminal);
    terminal.line("touch \\");
    terminal.expect("\x1b[?2004h> ", secs(20));
    terminal.line(refused.to_str().unwrap());
    until(&terminal, "the second line is refused", || {
        terminal.shown().matches("refused by rule no-such-file").count() == 2
    });
    goes_on(&mut terminal);
    assert!(!refused.exists());
    leave(&world, terminal);
}

#[test]
fn a_password_passes_and_is_given_to_nobody() {
    let world = world("/bin/bash");
    let made = file(&world, "read");
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!(
        "echo; read -s -p 'secret: ' s; [ ${{#s}} = 12 ] && touch {}",
        made.display()
    ));
    terminal.expect("\nsecret: ", secs(20));
    terminal.line("forbidden-42");
    until(&terminal, "it was read", || made.exists());
    let record = leave(&world, terminal);
    let asked = asked(&record);
    assert!(!asked.iter().any(|(line, ..)| line == "forbidden-42"), "{asked:?}");
    let all = std::fs::read(&record.file).unwrap();
    assert!(crate::support::bytes::find(&all, b"forbidden-43").is_none());
}

#[test]
fn a_program_with_the_whole_screen_is_left_alone() {
    let world = world("/bin/bash");
    let written = file(&world, "written");
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line(&format!("vim -u NONE -N --cmd 'set t_BE= t_BD=' {}", written.display()));
    terminal.expect("\x1b[?1049h", secs(20));
    terminal.keys("iforbidden\rstraw\r\x1b:wq\r");
    until(&terminal, "the file is written", || written.exists());
    terminal.expect("\x1b[?1049l", secs(20));
    rest(&terminal);
    terminal.line("printf 'again-%s\\n' 42");
    terminal.expect("again-42", secs(20));
    let record = leave(&world, terminal);
    assert!(!asked(&record).iter().any(|(line, ..)| line.contains("forbidden")));
}

/// A rule that speaks to nobody here costs nothing: no Enter is asked about.
#[test]
fn where_no_rule_could_say_more_than_yes_nobody_is_asked() {
    let elsewhere =
        r#"@id("elsewhere") forbid (principal, action == Action::"command", resource in Label::"env=prod");"#;
    let world = world_of(elsewhere, Variant::default());
    let terminal = person(&world);
    let record = leave(&world, terminal);
    assert!(asked(&record).is_empty());
}

#[test]
fn lines_that_the_terminal_does_not_show_end_the_session_where_a_rule_says_so() {
    for (action, command) in [("shell", None), ("exec", Some("exec dash"))] {
        let world = hiding("end", action);
        let (_, shown) = hides(&world, command).finish(secs(20));
        assert!(
            shown.contains("rule no-hiding ends the session then"),
            "{action}: {shown}"
        );
        assert_eq!(sound(&world).end().0, "hidden_command");
    }
}

#[test]
fn lines_that_the_terminal_does_not_show_are_told_to_others_where_a_rule_says_so() {
    let world = hiding("notice", "shell");
    let mut terminal = hides(&world, None);
    terminal.expect("commands that the terminal does not show are told to others", secs(20));
    terminal.keys("exit\r");
    terminal.finish(secs(20));
    let said = world.bastion.log();
    assert!(said.contains("hidden_command"), "{said}");
    let marked = |timed: &portcullis_recording::Timed<'_>| matches!(&timed.event, Event::Marker { text } if text.contains("rule no-hiding is about that"));
    assert!(sound(&world).events.iter().any(marked));
}

/// A rule about lines that are not shown.
fn hiding(comes: &str, action: &str) -> World {
    let rule = format!(
        r#"@id("no-hiding") @hidden_command("{comes}") permit (principal, action == Action::"{action}", resource);"#
    );
    world_of(&rule, Variant::default().account("root", "/bin/dash"))
}

/// Somebody who switches the echo off and goes on.
fn hides(world: &World, command: Option<&str>) -> Terminal {
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]).args(command);
    let mut terminal = Terminal::start(&ssh, 100, 30);
    terminal.line("printf 'here-%s\\n' 41");
    terminal.expect("here-41", secs(20));
    let_pass(Duration::from_millis(300));
    terminal.line("stty -echo");
    for _ in 0..3 {
        let_pass(Duration::from_millis(400));
        terminal.keys("echo hidden-$((40 + 2))\r");
    }
    terminal
}

#[test]
fn who_leaves_while_a_command_waits_takes_its_request_back() {
    let world = world("/bin/bash");
    let mut terminal = person(&world);
    rest(&terminal);
    terminal.line("echo approved");
    terminal.expect("waiting for approval", secs(20));
    process::send(terminal.pid(), Signal::SIGKILL);
    terminal.finish(secs(20));
    until(&terminal, "the request is taken back", || {
        let listed = world.bastion.json(&["requests"]);
        listed["requests"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["state"] == "withdrawn")
    });
    sound(&world);
}

/// A program of its own at a terminal is a shell like any other, hooked ones are as well.
#[test]
fn a_shell_by_exec_and_a_hooked_one_are_held_too() {
    let hooked = format!("{RULES}\n@id(\"say\") @hook permit (principal, action == Action::\"shell\", resource);");
    for (exec, rules) in [(true, RULES), (false, hooked.as_str())] {
        let world = world_of(rules, Variant::default().account("root", "/bin/bash"));
        let refused = file(&world, "forbidden");
        let mut ssh = world.client().ssh();
        ssh.args(["-tt", "gate"]).args(exec.then_some("bash"));
        let mut terminal = Terminal::start(&ssh, 100, 30);
        rest(&terminal);
        terminal.line("printf 'here-%s\\n' 41");
        terminal.expect("here-41", secs(20));
        rest(&terminal);
        terminal.line(&format!("touch {}", refused.display()));
        terminal.expect("refused by rule no-such-file", secs(20));
        rest(&terminal);
        terminal.line("exit 7");
        let (status, _) = terminal.finish(secs(20));
        assert_eq!(status.exit_code(), 7);
        assert!(!refused.exists());
        let record = world.bastion.only_record();
        record.assert_sealed();
        assert!(
            asked(&record)
                .iter()
                .any(|(_, allowed, rule)| !allowed && rule == "no-such-file")
        );
    }
}
