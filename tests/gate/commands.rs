//! What a recording tells of commands, against what real shells were made to run.

use std::process::Command as Program;
use std::time::{Duration, Instant};

use portcullis_recording::Event;
use portcullis_recording::command::{Command, Confidence, Source};

use crate::support::bytes::find;
use crate::support::wait::let_pass;
use crate::support::{Record, Setup, Sshd, Terminal, Variant, World, finish, run, secs, wait_for};

/// Typed where nothing is echoed.
const PASSWORD: &str = "Correct-Horse-7431";
/// Between two keys of a person who types fast.
const KEY_PAUSE: Duration = Duration::from_millis(15);
/// Without output for so long, a shell waits for its user.
const REST: Duration = Duration::from_millis(250);
const NO_REBOOT: &str = r#"
    @id("no-reboot")
    forbid (principal, action == Action::"exec", resource) when { context.labels.contains("availability") };
"#;
const HOOK: &str = r#"
    @id("say-what-runs") @hook
    permit (principal, action == Action::"shell", resource == Target::"db1");
"#;

fn world(policy: &str, variant: Variant) -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/commands.cedar"), policy).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, variant);
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn commands(record: &Record) -> Vec<Command<'static>> {
    let commands = record.events.iter().filter_map(|timed| match &timed.event {
        Event::Command(command) => Some(command.as_ref().clone()),
        _ => None,
    });
    commands.collect()
}

/// Those that were typed.
fn typed(record: &Record) -> Vec<Command<'static>> {
    let mut commands = commands(record);
    commands.retain(|command| command.source != Source::Protocol);
    commands
}

fn texts(commands: &[Command<'_>]) -> Vec<String> {
    commands.iter().map(|command| command.text.to_string()).collect()
}

/// A person's keys: one at a time.
fn types(terminal: &mut Terminal, keys: &str) {
    for key in keys.chars() {
        terminal.keys(&key.to_string());
        let_pass(KEY_PAUSE);
    }
}

/// A line and its Enter; then this is shown.
fn says(terminal: &mut Terminal, line: &str, shows: &str) {
    types(terminal, line);
    terminal.keys("\r");
    terminal.expect(shows, secs(20));
    rests(terminal);
}

/// Waits, as a person does, until something is shown and nothing more comes: the prompt.
fn rests(terminal: &Terminal) {
    let mut seen = (0, Instant::now());
    wait_for("a rest", secs(20), || {
        let shown = terminal.shown_bytes().len();
        if shown != seen.0 {
            seen = (shown, Instant::now());
        }
        (shown > 0 && seen.1.elapsed() > REST).then_some(())
    });
}

/// What bash, zsh and fish do as they begin to read a line (bracketed paste).
const READS: &str = "\x1b[?2004h";

/// A shell of the target in a terminal, once it shows this.
fn shell(world: &World, command: Option<&str>, shows: &str) -> Terminal {
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]).args(command);
    let terminal = Terminal::start(&ssh, 100, 30);
    terminal.expect(shows, secs(20));
    rests(&terminal);
    terminal
}

fn nowhere(world: &World, record: &Record, secret: &str) {
    for timed in &record.events {
        let text = format!("{timed:?}");
        assert!(!text.contains(secret), "{text}");
    }
    let log = world.bastion.log();
    assert!(!log.contains(secret));
    let bytes = std::fs::read(&record.file).unwrap();
    assert!(find(&bytes, secret.as_bytes()).is_none());
}

#[test]
fn what_is_typed_at_a_shell_is_read_off_its_screen() {
    let world = World::new();
    let mut terminal = shell(&world, Some("bash --norc --noprofile -i"), READS);
    says(&mut terminal, "cd /usr; echo one-$((40 + 2))", "one-42");
    types(&mut terminal, "echo tow-$((40 + 3))");
    // Edited: back to where two letters change places.
    types(&mut terminal, &"\x1b[D".repeat("-$((40 + 3))".len()));
    types(&mut terminal, "\x7f\x7fwo");
    terminal.keys("\r");
    terminal.expect("two-43", secs(20));
    rests(&terminal);
    says(&mut terminal, "rm -rf /nowhere/at/all", "all");
    says(
        &mut terminal,
        "read -r -s -p 'Password: ' PW; echo; echo length ${#PW}",
        "Password: ",
    );
    types(&mut terminal, PASSWORD);
    terminal.keys("\r");
    terminal.expect(&format!("length {}", PASSWORD.len()), secs(20));
    rests(&terminal);
    // The line before it again, by the arrow.
    says(&mut terminal, "echo three-$((40 + 4))", "three-44");
    says(&mut terminal, "\x1b[A", "three-44\r\n");
    says(&mut terminal, "exit 3", "exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    let typed = typed(&record);
    assert_eq!(
        texts(&typed),
        [
            "cd /usr; echo one-$((40 + 2))",
            "echo two-$((40 + 3))",
            "rm -rf /nowhere/at/all",
            "read -r -s -p 'Password: ' PW; echo; echo length ${#PW}",
            "echo three-$((40 + 4))",
            "echo three-$((40 + 4))",
            "exit 3",
        ]
    );
    for command in &typed {
        assert_eq!(
            (command.source, command.confidence),
            (Source::Screen, Confidence::High),
            "{command:?}"
        );
        assert!(command.context == "shell" && command.ended_ms >= command.began_ms);
    }
    assert_eq!(typed[2].labels, ["destructive"]);
    nowhere(&world, &record, PASSWORD);
    let told = commands(&record);
    let bash = told.iter().find(|command| command.source == Source::Protocol).unwrap();
    assert_eq!(
        (bash.text.as_ref(), bash.status),
        ("bash --norc --noprofile -i", Some(3))
    );
    assert!(bash.began_ms <= typed[0].began_ms && bash.ended_ms >= typed[6].began_ms);
}

fn hooked(shell_path: &str) {
    let world = world(HOOK, Variant::default().account("root", shell_path));
    let mut terminal = shell(&world, None, READS);
    says(&mut terminal, "cd /usr; printf 'one-%s\\n' two", "one-two");
    says(&mut terminal, "echo 'a;b' | grep -c nothing", "0\r\n");
    says(&mut terminal, "exit 7", "exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    let typed = typed(&record);
    assert_eq!(
        texts(&typed),
        [
            "cd /usr; printf 'one-%s\\n' two",
            "echo 'a;b' | grep -c nothing",
            "exit 7"
        ]
    );
    for command in &typed {
        assert_eq!(
            (command.source, command.confidence),
            (Source::Hook, Confidence::Exact),
            "{command:?}"
        );
    }
    assert_eq!((typed[0].status, typed[1].status), (Some(0), Some(1)));
    assert_eq!(
        (typed[1].directory.as_ref(), typed[2].directory.as_ref()),
        ("/usr", "/usr")
    );
    // fish says where it is once it has run something.
    assert!(typed[0].directory != "/usr", "{:?}", typed[0]);
}

#[test]
fn a_hooked_bash_tells_text_status_and_folder() {
    hooked("/bin/bash");
}

#[test]
fn a_hooked_zsh_tells_text_status_and_folder() {
    hooked("/usr/bin/zsh");
}

#[test]
fn a_hooked_fish_tells_text_status_and_folder() {
    hooked("/usr/bin/fish");
}

#[test]
fn what_the_protocol_says_is_exact_and_what_did_not_run_is_no_command() {
    let world = world(NO_REBOOT, Variant::default());
    let client = world.client();
    let done = finish(&mut client.exec("echo 'a  b'; exit 3"), b"", secs(20));
    assert_eq!(done.code(), 3);
    let refused = finish(&mut client.exec("reboot --help"), b"", secs(20));
    assert_ne!(refused.code(), 0);
    let mut batch = client.sftp();
    batch.args(["-b", "-", "gate"]);
    finish(&mut batch, b"pwd\n", secs(20)).ok();
    let mut none = client.ssh();
    none.args(["-s", "gate", "no-such-subsystem"]);
    finish(&mut none, b"", secs(20));
    let records = world.bastion.records(4);
    let mut told: Vec<_> = records.iter().flat_map(commands).collect();
    told.sort_by(|one, other| one.text.cmp(&other.text));
    let [exec, sftp] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        (exec.text.as_ref(), exec.context.as_ref(), exec.status),
        ("echo 'a  b'; exit 3", "exec", Some(3))
    );
    assert_eq!((sftp.text.as_ref(), sftp.context.as_ref()), ("sftp", "subsystem"));
    for command in &told {
        assert_eq!(
            (command.source, command.confidence),
            (Source::Protocol, Confidence::Exact)
        );
    }
}

/// Lines that are run where the terminal shows none are a finding, and what is typed then stays hidden.
#[test]
fn a_shell_that_is_made_silent_is_a_finding() {
    let world = World::new();
    let mut terminal = shell(&world, Some("env PS1='silent$ ' dash -i"), "silent$ ");
    says(&mut terminal, "echo seen-$((40 + 2))", "seen-42");
    says(&mut terminal, "stty -echo", "stty -echo");
    says(&mut terminal, "echo unseen-$((40 + 3))", "unseen-43");
    says(&mut terminal, "echo unseen-$((40 + 4))", "unseen-44");
    says(&mut terminal, "stty echo", "silent$ ");
    says(&mut terminal, "echo again-$((40 + 5))", "again-45");
    types(&mut terminal, "exit\r");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    let typed = typed(&record);
    let hidden = |command: &&Command<'_>| command.source == Source::Hidden;
    assert!(typed.iter().filter(hidden).count() >= 2, "{typed:?}");
    let mut shown = texts(&typed);
    shown.retain(|text| !text.is_empty());
    assert_eq!(
        shown,
        ["echo seen-$((40 + 2))", "stty -echo", "echo again-$((40 + 5))", "exit"]
    );
    nowhere(&world, &record, "unseen-$((40");
}

/// What blinds a terminal, or whoever looks at it, blinds the reader for a line
/// at most, and takes no byte out of the evidence.
#[test]
fn what_is_printed_to_blind_the_reader_does_not() {
    let cases: &[(&str, &str, &[u8])] = &[
        ("concealed", r"\033[8m", b"\x1b[8m"),
        ("an OSC without its end", r"\033]112;", b"\x1b]112;"),
        ("a DCS without its end", r"\033P+q", b"\x1bP+q"),
        ("8-bit controls", r"\2338m\235112;", b"\x9b8m\x9d112;"),
        ("right to left", r"\342\200\256", b"\xe2\x80\xae"),
        ("no width", r"\342\200\213\342\200\215", b"\xe2\x80\x8b\xe2\x80\x8d"),
        ("a torn character", r"\342\202", b"\xe2\x82"),
        ("overtyped", r"harm\rless", b"harm\rless"),
        ("the alternate screen", r"\033[?1049h", b"\x1b[?1049h"),
    ];
    let world = World::new();
    let mut terminal = shell(&world, Some("bash --norc --noprofile -i"), READS);
    for (at, (_, printf, _)) in cases.iter().enumerate() {
        says(&mut terminal, &format!("printf '{printf}'"), "printf");
        says(
            &mut terminal,
            &format!("echo one-$(({at} + 40))"),
            &format!("one-{}", at + 40),
        );
        says(
            &mut terminal,
            &format!("echo two-$(({at} + 40))"),
            &format!("two-{}", at + 40),
        );
        let back = format!(r"printf '\033\\\030\033[0m\033[?1049lback-%s\n' {at}");
        says(&mut terminal, &back, &format!("back-{at}"));
    }
    // A line with a return in it that is none (^V^M).
    types(&mut terminal, "echo lite\x16\rral-$((40 + 2))\r");
    terminal.expect("ral-42", secs(20));
    rests(&terminal);
    says(&mut terminal, "echo over-$((40 + 3))", "over-43");
    says(&mut terminal, "exit", "exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    let output = record.output(1);
    let typed = typed(&record);
    let told = texts(&typed);
    for (at, (name, _, bytes)) in cases.iter().enumerate() {
        assert!(find(&output, bytes).is_some(), "{name}: not in the evidence");
        let line = format!("echo two-$(({at} + 40))");
        assert!(told.contains(&line), "{name}: {told:?}");
    }
    assert!(told.contains(&"echo one-$((0 + 40))".to_owned()), "{told:?}");
    assert!(told.contains(&"echo over-$((40 + 3))".to_owned()), "{told:?}");
}

/// Commands of a session of several segments, a flood among them, and the player's list of them.
#[test]
fn commands_around_a_flood_are_told_and_listed() {
    let world = World::new();
    let mut terminal = shell(&world, Some("bash --norc --noprofile -i"), READS);
    says(&mut terminal, "echo before-$((40 + 2))", "before-42");
    says(&mut terminal, "seq 1 600000; echo over-$((40 + 3))", "over-43");
    says(&mut terminal, "echo after-$((40 + 4))", "after-44");
    says(&mut terminal, "exit", "exit");
    terminal.finish(secs(60));
    let record = world.bastion.only_record();
    let told = texts(&typed(&record));
    let lines = [
        "echo before-$((40 + 2))",
        "seq 1 600000; echo over-$((40 + 3))",
        "echo after-$((40 + 4))",
        "exit",
    ];
    assert_eq!(told, lines);
    let player = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    let listed = run(
        Program::new(player)
            .arg("commands")
            .arg(&record.file)
            .arg("--trust")
            .arg(world.bastion.state().join("trust.toml")),
        secs(20),
    );
    let listed = listed.ok().out();
    for line in lines {
        assert!(listed.contains(&format!("  high    shell      {line}\n")), "{listed}");
    }
}
