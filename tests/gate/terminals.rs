//! Sessions at a terminal: modes, sizes, keys, and what of the keys stays readable.

use portcullis_recording::Event;

use crate::support::bytes::find;
use crate::support::{Record, Setup, Terminal, Variant, World, run, secs};

/// Tells each size until a line is typed. At its prompt bash notices a signal that comes right before it waits for keys
/// only at the next of them.
const TELLS_SIZES: &str = "trap 'echo now $(stty size)' WINCH; echo trap-$((40 + 2)); until read -t 0.1; do :; done";

fn sizes(record: &Record) -> Vec<(u32, u32)> {
    let sizes = record.events.iter().filter_map(|timed| match &timed.event {
        Event::Resize { cols, rows, .. } => Some((*cols, *rows)),
        _ => None,
    });
    sizes.collect()
}

#[test]
fn a_terminal_has_its_size_its_modes_and_its_resizes() {
    let world = World::new();
    let client = world.client();
    // The terminal's own setting of ssh's side travels as a mode.
    let mut ssh = std::process::Command::new("sh");
    ssh.args(["-c", "stty erase ^H -ixon; exec ssh -F \"$0\" -tt gate"])
        .arg(client.config());
    let mut terminal = Terminal::start(&ssh, 101, 31);
    terminal.line("stty size; stty -a; echo sized");
    terminal.expect("31 101", secs(20));
    terminal.expect("erase = ^H", secs(20));
    terminal.expect("-ixon", secs(20));
    terminal.line("echo TERM is $TERM");
    terminal.expect("TERM is xterm-256color", secs(20));
    terminal.line(TELLS_SIZES);
    terminal.expect("trap-42", secs(20));
    terminal.resize(132, 43);
    terminal.expect("now 43 132", secs(20));
    terminal.line("");
    terminal.line("exit 9");
    let (status, _) = terminal.finish(secs(20));
    assert_eq!(status.exit_code(), 9);
    let record = world.bastion.only_record();
    assert_eq!(sizes(&record), [(101, 31), (132, 43)]);
    assert_eq!(record.exit_status(1), [9]);
}

/// D21, as far as the stock client goes: sizes of 0 and of the largest are clamped.
#[test]
fn d21_odd_sizes_are_clamped() {
    let world = World::new();
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.line("echo up $((40 + 2))");
    terminal.expect("up 42", secs(20));
    terminal.line(TELLS_SIZES);
    terminal.expect("trap-42", secs(20));
    for (asked, given) in [((u16::MAX, u16::MAX), "4096 4096"), ((1, 1), "1 1"), ((0, 0), "24 80")] {
        terminal.resize(asked.0, asked.1);
        terminal.expect(&format!("now {given}"), secs(20));
    }
    terminal.line("");
    terminal.line("exit 0");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    assert_eq!(sizes(&record), [(80, 24), (4096, 4096), (1, 1), (80, 24)]);
}

#[test]
fn what_is_shown_is_what_is_recorded() {
    let world = World::new();
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate", "seq 1 2000; printf '\\033[2J\\033[1;31mred\\033[0m\\n'"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.finish(secs(30));
    let record = world.bastion.only_record();
    let shown = terminal.shown_bytes();
    let output = record.output(1);
    // ssh itself adds its last line on a terminal.
    assert!(
        shown.starts_with(&output),
        "{} recorded, {} shown",
        output.len(),
        shown.len()
    );
    assert!(find(&output, b"\x1b[1;31mred").is_some());
}

/// Keys that the terminal interprets reach the program, not us.
#[test]
fn interrupt_and_end_of_file_keys() {
    let world = World::new();
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    // A trap that comes between a shell and its first `sleep` waits for the end of that.
    terminal.line("sh -c 'trap \"echo got-\\$((1 + 2)); exit\" INT; echo ready-$((1 + 1)); while :; do sleep 1; done'");
    terminal.expect("ready-2", secs(20));
    terminal.keys("\x03");
    terminal.expect("got-3", secs(20));
    terminal.line("echo cat-$((2 + 3)); cat; echo over-$((2 + 2))");
    terminal.expect("cat-5", secs(20));
    terminal.line("line");
    terminal.expect("line\r\nline", secs(20));
    terminal.keys("\x04");
    terminal.expect("over-4", secs(20));
    terminal.line("exit 0");
    let (status, _) = terminal.finish(secs(20));
    assert!(status.success());
    world.bastion.only_record();
}

/// Law 10: a password typed at a prompt that does not echo is nowhere
/// readable, while the session runs and after; echoed lines are.
#[test]
fn a_password_is_nowhere_and_a_command_is_readable() {
    const PASSWORD: &str = "correct-horse-7431";
    let world = World::new();
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate", "bash --norc --noprofile -i"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.expect("# ", secs(20));
    terminal.line("read -r -s -p 'Password: ' PW; echo; echo length ${#PW}");
    terminal.expect("Password: ", secs(20));
    // Key by key, as a person types.
    for key in PASSWORD.chars() {
        terminal.keys(&key.to_string());
        crate::support::wait::let_pass(std::time::Duration::from_millis(20));
    }
    nowhere(&world, PASSWORD);
    terminal.keys("\r");
    terminal.expect(&format!("length {}", PASSWORD.len()), secs(20));
    terminal.line("echo the-echoed-command");
    terminal.expect("\rthe-echoed-command", secs(20));
    terminal.line("exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    nowhere(&world, PASSWORD);
    for text in [
        "echo the-echoed-command\r",
        "read -r -s -p 'Password: ' PW; echo; echo length ${#PW}\r",
    ] {
        let input = record.input(1);
        assert!(
            find(&input, text.as_bytes()).is_some(),
            "{text} is not readable in {:?}",
            String::from_utf8_lossy(&input)
        );
    }
    let hidden = record
        .events
        .iter()
        .filter(|timed| matches!(timed.event, Event::HiddenInput { .. }))
        .count();
    assert!(hidden >= 1, "the password is not there as hidden input either");
    for timed in &record.events {
        let text = format!("{timed:?}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let readable: Vec<u8> = [record.input(1), record.output(1), record.stderr(1)].concat();
    assert!(find(&readable, PASSWORD.as_bytes()).is_none());
    // Not in pieces either: one event a key, one after the other.
    let letters: Vec<u8> = record
        .input(1)
        .into_iter()
        .filter(|byte| PASSWORD.as_bytes().contains(byte))
        .collect();
    assert!(find(&letters, PASSWORD.as_bytes()).is_none());
}

/// What was not echoed opens to those who were named for it, and to nobody else.
#[test]
fn a_hidden_line_opens_to_whom_its_key_was_wrapped() {
    const PASSWORD: &str = "staple-battery-9053";
    let (_dir, files, recipients) = crate::evidence::investigators();
    let world = World::with(
        Setup::new().set("recording.hidden_recipients", &recipients),
        Variant::default(),
    );
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate", "bash --norc --noprofile -i"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.expect("# ", secs(20));
    terminal.line("read -r -s -p 'Password: ' PW; echo; echo length ${#PW}");
    terminal.expect("Password: ", secs(20));
    terminal.line(PASSWORD);
    terminal.expect(&format!("length {}", PASSWORD.len()), secs(20));
    terminal.line("exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    record.assert_sealed();
    nowhere(&world, PASSWORD);
    let file = world.bastion.archived().remove(0);
    let trust = world.bastion.state().join("trust.toml");
    let hidden = |identity: Option<&std::path::Path>| {
        let mut player = std::process::Command::new(crate::evidence::player());
        player.args(["hidden", "--trust"]).arg(&trust).arg(&file);
        identity.into_iter().for_each(|identity| {
            player.arg("--identity").arg(identity);
        });
        crate::support::run(&mut player, secs(30)).ok().out().to_owned()
    };
    let locked = hidden(None);
    assert!(
        locked.contains("behind `Password:`") && locked.contains("locked"),
        "{locked}"
    );
    for identity in &files {
        let read = hidden(Some(identity));
        assert!(read.contains(&format!("`{PASSWORD}`")), "{read}");
    }
    let (_other_dir, others, _) = crate::evidence::investigators();
    assert!(!hidden(Some(&others[0])).contains(PASSWORD));
}

/// No file of the state folder holds the word.
#[track_caller]
fn nowhere(world: &World, word: &str) {
    let mut folders = vec![world.bastion.state().to_owned()];
    let mut looked = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                looked += 1;
                assert!(find(&bytes, word.as_bytes()).is_none(), "{} holds it", path.display());
            }
        }
    }
    assert!(looked > 5);
    assert!(!world.bastion.log().contains(word));
}

/// RFC 4252 section 5.4, as sshd's own client shows it.
#[test]
fn a_targets_banner_is_recorded_and_shown_where_a_shell_opens_and_obeyed_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let banner = folder.path().join("banner");
    std::fs::write(&banner, "Property of the house\n\x1b[31m\x1b]0;owned\x07red\n").unwrap();
    let variant = Variant::default().line(&format!("Banner {}", banner.display()));
    let world = World::with(Setup::new(), variant);
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.expect("Property of the house", secs(20));
    terminal.expect("\\033[31m\\033]0;owned\\007red", secs(20));
    terminal.line("exit 3");
    let (status, _) = terminal.finish(secs(20));
    assert_eq!(status.exit_code(), 3);
    let shown = terminal.shown_bytes();
    assert!(find(&shown, b"\x1b[31m").is_none() && find(&shown, b"\x1b]0;owned").is_none());

    // A program's output is its own: nothing is added to it.
    let done = run(&mut world.client().exec("echo in"), secs(20)).ok();
    assert_eq!(done.out(), "in\n");
    assert!(!done.err().contains("Property"), "{}", done.err());
    for record in world.bastion.records(2) {
        record.assert_sealed();
        let said = record.markers();
        let noted = said
            .iter()
            .filter(|text| text.contains("Property of the house\n\\033[31m"));
        assert_eq!(noted.count(), 1, "{said:?}");
    }
}
