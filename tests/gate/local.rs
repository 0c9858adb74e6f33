//! Local targets: they work like hosts, as another account, behind a fence.

use std::process::Stdio;

use crate::support::process::{unique, with_argument};
use crate::support::wait::let_pass;
use crate::support::{Bastion, Client, Running, Setup, Terminal, finish, run, secs, wait_until};

/// A bastion with the local target `here`: the shell of `nobody`.
fn here() -> (Bastion, Client) {
    let bastion = Setup::new().account("nobody", "/bin/sh").start();
    bastion.add_local("here", &[]);
    let pass = bastion.pass("op@here").issue();
    let client = bastion.client(&pass);
    (bastion, client)
}

#[test]
fn commands_run_as_the_account_with_their_streams_and_status() {
    let (bastion, client) = here();
    let done = run(&mut client.exec("id -un; echo err >&2; exit 6"), secs(20));
    assert_eq!(
        (done.code(), done.out(), done.err()),
        (6, "nobody\n".into(), "err\n".into())
    );
    let done = finish(&mut client.exec("read line; echo $line"), b"over pipes\n", secs(20)).ok();
    assert_eq!(done.out(), "over pipes\n");
    let done = run(&mut client.exec("kill -TERM $$"), secs(20));
    assert_eq!(done.code(), 255);
    let records = bastion.records(3);
    for record in &records {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.code(), "exit");
    }
    assert_eq!(records[0].exit_status(1), [6]);
}

#[test]
fn a_local_terminal_has_size_and_resize() {
    let (bastion, client) = here();
    let mut ssh = client.ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 90, 33);
    terminal.line("stty size; tty; echo I am $(id -un)");
    terminal.expect("33 90", secs(20));
    terminal.expect("I am nobody", secs(20));
    terminal.resize(100, 40);
    // The new size and the keys after it travel apart.
    wait_until("the new size", secs(20), || {
        terminal.line("stty size");
        let_pass(std::time::Duration::from_millis(100));
        terminal.shown().contains("40 100\r\n")
    });
    terminal.line("exit 5");
    let (status, _) = terminal.finish(secs(20));
    assert_eq!(status.exit_code(), 5);
    assert_eq!(bastion.only_record().exit_status(1), [5]);
}

#[test]
fn local_sftp() {
    let (bastion, client) = here();
    let mut sftp = client.sftp();
    sftp.args(["-b", "-", "gate"]);
    let back = bastion.fresh("hosts", "");
    finish(
        &mut sftp,
        format!("get /etc/hosts {}\n", back.display()).as_bytes(),
        secs(20),
    )
    .ok();
    assert_eq!(std::fs::read(back).unwrap(), std::fs::read("/etc/hosts").unwrap());
    bastion.only_record();
}

/// A target with a command runs that and nothing else.
#[test]
fn a_local_command_is_the_only_one() {
    let bastion = Setup::new().start();
    bastion.add_local("only", &["/bin/echo", "the command"]);
    let pass = bastion.pass("op@only").issue();
    let client = bastion.client(&pass);
    assert_eq!(run(&mut client.shell(), secs(20)).ok().out(), "the command\n");
    let done = run(&mut client.exec("id"), secs(20));
    assert_ne!(done.code(), 0);
    assert_eq!(done.out(), "");
    for record in bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
}

/// At the cut the whole tree dies, whatever it did to get away.
#[test]
fn the_whole_process_tree_dies_at_the_cut() {
    let (bastion, client) = here();
    let word = unique("escapes");
    let command = format!(
        "(setsid nohup sh -c 'trap \"\" HUP TERM INT; while :; do sleep 1; done' {word} >/dev/null 2>&1 &); \
         nohup sh -c 'while :; do sleep 1; done' {word} >/dev/null 2>&1 & echo started; sleep 300"
    );
    let ssh = Running::start(client.exec(&command).stdin(Stdio::null()));
    ssh.await_out("started", secs(20));
    wait_until("both runaways", secs(10), || with_argument(&word).len() >= 2);
    bastion.admin(&["revoke", "--all", "--reason", "over"]).ok();
    wait_until("the end of the whole tree", secs(5), || with_argument(&word).is_empty());
    assert_eq!(ssh.finish(secs(20)).code(), 255);
    assert_eq!(bastion.only_record().code(), "revoked");
}

/// The server dies: what it ran locally dies with it.
#[test]
fn the_process_tree_dies_with_the_server() {
    let (mut bastion, client) = here();
    let word = unique("orphan");
    let command = format!("sh -c 'while :; do sleep 1; done' {word}");
    let ssh = Running::start(client.exec(&command).stdin(Stdio::null()));
    wait_until("the program", secs(20), || !with_argument(&word).is_empty());
    bastion.sigkill();
    wait_until("the end of the whole tree", secs(5), || with_argument(&word).is_empty());
    assert_eq!(ssh.finish(secs(20)).code(), 255);
}

const ATTACH: &str = "perl -e 'exit(syscall(101, 16, $ARGV[0], 0, 0) == 0 ? 0 : 1)'";
const CONNECT: &str =
    "perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); exit(connect(S, sockaddr_un($ARGV[0])) ? 0 : 1)'";

/// Issue 2, item 5: a local shell against the server it runs on.
#[test]
fn a_local_shell_reaches_nothing_of_the_server() {
    let (bastion, client) = here();
    let state = bastion.state().display();
    let pid = bastion.pid();
    for attempt in [
        format!("cat {state}/keys/*"),
        format!("ls {state}/keys"),
        format!("ls {state}"),
        format!("cat {state}/store.db"),
        format!("cat {state}/config.toml"),
        format!("ls {state}/spool"),
        format!("touch {state}/spool/x"),
        format!("kill -0 {pid}"),
        format!("kill -KILL {pid}"),
        format!("cat /proc/{pid}/environ"),
        format!("head -c 1 /proc/{pid}/mem"),
        format!("ls /proc/{pid}/fd"),
        format!("{ATTACH} {pid}"),
        format!("{CONNECT} {state}/api.sock"),
        "su -c true".to_owned(),
        "sudo -n true".to_owned(),
        "ls /proc/self/fd | grep -qvE '^[0123]$'".to_owned(),
        "env | grep -i portcullis".to_owned(),
    ] {
        let done = run(&mut client.exec(&format!("({attempt}) </dev/null")), secs(20));
        assert_ne!(done.code(), 0, "`{attempt}` worked: {}", done.out());
        assert_ne!(done.code(), 255, "`{attempt}`: {}", done.err());
    }
    // The checks themselves work where they may.
    let own = "perl -e 'if (!($p = fork)) { sleep 300 } exit(syscall(101, 16, $p, 0, 0) == 0 ? 0 : 1)'";
    run(&mut client.exec(own), secs(20)).ok();
    assert_eq!(bastion.json(&["sessions"])["schema"], 1);
}

#[test]
fn serve_refuses_a_local_target_of_its_own_account() {
    let bastion = Setup::new().start();
    let add = ["target", "add", "self", "--local", "--login", "op", "--run-as", "root"];
    let done = bastion.admin(&add);
    if done.code() == 0 {
        let pass = bastion.pass("op@self").issue();
        let done = run(&mut bastion.client(&pass).exec("id"), secs(20));
        assert_ne!(done.code(), 0);
        assert_eq!(done.out(), "");
    } else {
        assert!(done.err().contains("own"), "{}", done.err());
    }
}
