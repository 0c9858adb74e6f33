//! The gate drops on time: grants end while bytes fly in every way, and nothing moves after.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::channels::master;
use crate::support::bastion::wall_ms;
use crate::support::process::{unique, with_argument};
use crate::support::wait::let_pass;
use crate::support::{Bastion, Done, Pass, Running, Setup, Tap, Terminal, World, run, secs, wait_until};

/// Law 3: 1 s at the latest the socket is closed.
const CLOSED_MS: u64 = 1_000;
/// Issue 2, figures: payload may overrun the end by less than this.
const OVERRUN_MS: u64 = 100;
/// The last line and the disconnect, with what SSH wraps around them.
const NOTICE_BYTES_MAX: usize = 2_048;
const NOTICE: &str = "portcullis: your grant has ended; ask for a new one";

/// What every cut has in common: the client's exit status, the recording, the target.
#[track_caller]
fn assert_cut(world: &World, done: &Done, pass: &Pass, code: &str) {
    assert_eq!(done.code(), 255, "{}", done.err());
    wait_until("no process of the session left at the target", secs(5), || {
        world.sshd.sessions().is_empty()
    });
    let record = world.bastion.only_record();
    assert_eq!(record.code(), code);
    let last = record.last_payload_wall_ms();
    assert!(
        last <= pass.until_ms + OVERRUN_MS,
        "payload {} ms after the end",
        last - pass.until_ms
    );
    world.bastion.assert_ledger_clean();
}

/// What passed the wire: closed in time, and only the notice after the end.
#[track_caller]
fn assert_wire(tap: &Tap, end_ms: u64) {
    wait_until("the server's close", secs(5), || tap.closed().is_some());
    let closed = tap.closed().unwrap().wall_ms;
    assert!(
        closed <= end_ms + CLOSED_MS,
        "closed {} ms after the end",
        closed - end_ms
    );
    let late = tap.down_after(end_ms + OVERRUN_MS);
    assert!(
        late <= NOTICE_BYTES_MAX,
        "{late} bytes more than {OVERRUN_MS} ms after the end"
    );
}

#[test]
fn a_grant_ends_while_the_target_prints() {
    let world = World::new();
    let tap = Tap::to(world.bastion.addr());
    let pass = world.bastion.pass("root@db1").secs(4).issue();
    let word = unique("printing");
    let client = world.bastion.client_at(&pass, tap.addr());
    let command = format!("sh -c 'while :; do echo $0; sleep 0.01; done' {word}");
    let done = run(&mut client.exec(&command), secs(20));
    assert_wire(&tap, pass.until_ms);
    assert!(done.err().contains(NOTICE), "{}", done.err());
    assert!(
        !done.out().contains("portcullis"),
        "the notice is in the program's output"
    );
    wait_until("the program's end", secs(5), || with_argument(&word).is_empty());
    assert_cut(&world, &done, &pass, "grant_expired");
}

#[test]
fn a_grant_ends_while_the_target_floods() {
    let world = World::new();
    let tap = Tap::to(world.bastion.addr());
    let pass = world.bastion.pass("root@db1").secs(4).issue();
    let client = world.bastion.client_at(&pass, tap.addr());
    let mut flood = client.exec("cat /dev/zero");
    let done = run(&mut flood, secs(20));
    assert!(done.stdout.len() > 1_000_000, "it did not flood: {}", done.stdout.len());
    assert_wire(&tap, pass.until_ms);
    assert_cut(&world, &done, &pass, "grant_expired");
    let record = &world.bastion.records(1)[0];
    assert!(
        record.output(1).starts_with(&done.stdout),
        "the client has what the recording has not"
    );
}

#[test]
fn a_grant_ends_while_nothing_happens() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").secs(8).issue();
    let mut ssh = world.bastion.client(&pass).ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.line("echo up-$((40 + 2))");
    terminal.expect("up-42", secs(20));
    let (status, shown) = terminal.finish(secs(20));
    let late = wall_ms() as i64 - pass.until_ms as i64;
    assert!((0..=2_000).contains(&late), "{late} ms after the end");
    assert_eq!(status.exit_code(), 255);
    assert!(shown.contains(NOTICE), "{shown}");
    wait_until("no process of the session left at the target", secs(5), || {
        world.sshd.sessions().is_empty()
    });
    assert_eq!(world.bastion.only_record().code(), "grant_expired");
}

#[test]
fn a_grant_ends_while_the_client_uploads() {
    let world = World::new();
    let tap = Tap::to(world.bastion.addr());
    let pass = world.bastion.pass("root@db1").secs(4).issue();
    let client = world.bastion.client_at(&pass, tap.addr());
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let done = Running::start(client.exec("cat > /dev/null").stdin(Stdio::from(zero))).finish(secs(20));
    assert_wire(&tap, pass.until_ms);
    assert!(done.err().contains(NOTICE), "{}", done.err());
    assert_cut(&world, &done, &pass, "grant_expired");
    let up = world.bastion.records(1)[0].accounts()[0].to_target;
    assert!(up > 1_000_000, "it did not flood: {up}");
}

/// The client does not read and the target floods: nothing parks, all falls.
#[test]
fn a_grant_ends_while_the_client_is_stopped() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").secs(5).issue();
    let before = sockets(&world.bastion);
    let client = world.bastion.client(&pass);
    let ssh = Running::start(client.exec("cat /dev/zero").stdin(Stdio::null()));
    ssh.await_bytes(100_000, secs(20));
    ssh.signal(Signal::SIGSTOP);
    wait_until("the end of the grant", secs(10), || pass.left_ms() <= 0);
    wait_until("the server's sockets closed", Duration::from_millis(CLOSED_MS), || {
        sockets(&world.bastion) <= before
    });
    wait_until("no process of the session left at the target", secs(5), || {
        world.sshd.sessions().is_empty()
    });
    ssh.signal(Signal::SIGCONT);
    let done = ssh.finish(secs(20));
    assert_cut(&world, &done, &pass, "grant_expired");
    let record = &world.bastion.records(1)[0];
    assert!(
        record.output(1).starts_with(&done.stdout),
        "the client has what the recording has not"
    );
}

/// TCP connections that the server holds, its listener among them.
fn sockets(bastion: &Bastion) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", bastion.pid())).unwrap();
    let inodes: Vec<&str> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(9))
        .collect();
    let held = std::fs::read_dir(format!("/proc/{}/fd", bastion.pid())).unwrap();
    held.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .filter(|inode| inodes.contains(&inode.as_str()))
        .count()
}

#[test]
fn a_grant_ends_beside_a_stalled_sibling() {
    let world = World::new();
    let tap = Tap::to(world.bastion.addr());
    let pass = world.bastion.pass("root@db1").secs(6).issue();
    let client = world.bastion.client_at(&pass, tap.addr());
    let (open, socket) = master(&world, &client);
    // Nobody reads this pipe.
    let mut stalled = client.through(&socket);
    let mut stalled = stalled
        .arg("cat /dev/zero")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let busy = Running::start(
        client
            .through(&socket)
            .arg("while :; do echo x; sleep 0.01; done")
            .stdin(Stdio::null()),
    );
    busy.await_out("x\nx\n", secs(20));
    let done = open.finish(secs(20));
    assert_wire(&tap, pass.until_ms);
    assert_eq!(busy.finish(secs(20)).code(), 255);
    stalled.kill().unwrap();
    stalled.wait().unwrap();
    assert_cut(&world, &done, &pass, "grant_expired");
}

/// D13: a grant that ends between login and channel opens nothing.
#[test]
fn d13_a_grant_that_ends_before_the_first_channel() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").secs(3).issue();
    let client = world.bastion.client(&pass);
    let (_open, socket) = master(&world, &client);
    wait_until("the end of the grant", secs(10), || pass.left_ms() <= 0);
    let done = run(client.through(&socket).arg("echo reached"), secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(!world.sshd.log().contains("Starting session"));
}

#[test]
fn revocation_returns_after_the_cut() {
    let world = World::new();
    for what in ["--session", "--grant", "--identity", "--target", "--all"] {
        let tap = Tap::to(world.bastion.addr());
        let pass = world.bastion.pass("root@db1").identity("carol").issue();
        let word = unique("revoked");
        let command = format!("sh -c 'while :; do echo $0; done' {word}");
        let client = world.bastion.client_at(&pass, tap.addr());
        let ssh = Running::start(client.exec(&command).stdin(Stdio::null()));
        ssh.await_bytes(100_000, secs(20));
        let live = world.bastion.live_sessions();
        assert_eq!(live.len(), 1);
        let mut args = vec!["revoke", what];
        match what {
            "--session" => args.push(&live[0]),
            "--grant" => args.push(&pass.grant),
            "--identity" => args.push("carol"),
            "--target" => args.push("db1"),
            _ => {}
        }
        args.extend(["--reason", "incident 7"]);
        let revoked = world.bastion.json(&args);
        let returned = wall_ms();
        assert_eq!(revoked["cut"][0], live[0].as_str(), "{revoked}");
        assert_wire(&tap, returned);
        let done = ssh.finish(secs(20));
        assert_eq!(done.code(), 255);
        assert!(
            done.err().contains("portcullis: access was revoked: incident 7"),
            "{what}: {}",
            done.err()
        );
        wait_until("the program's end", secs(5), || with_argument(&word).is_empty());
        let again = run(&mut client.exec("echo again"), secs(20));
        let admitted = what == "--session";
        assert_eq!(again.out() == "again\n", admitted, "{what}: {}", again.err());
        if admitted {
            world
                .bastion
                .admin(&["revoke", "--grant", &pass.grant, "--reason", "done"])
                .ok();
        }
        wait_until("the sessions' seals", secs(20), || {
            world.bastion.live_sessions().is_empty()
        });
        let records = world.bastion.records(world.bastion.archived().len());
        let record = records
            .iter()
            .find(|record| record.head.grant_id == pass.grant && record.code() == "revoked");
        let record = record.unwrap();
        record.assert_sealed();
        record.assert_balanced();
        assert!(
            record.last_payload_wall_ms() <= returned,
            "{what}: payload after revoke returned"
        );
    }
    world.bastion.assert_ledger_clean();
}

#[test]
fn warnings_are_shown_in_terminals_only() {
    let setup = Setup::new().set("session.warn_before_secs", "[4, 2]");
    let world = World::with(setup, Default::default());
    let pass = world.bastion.pass("root@db1").secs(7).issue();
    let client = world.bastion.client(&pass);
    let exec = Running::start(client.exec("while :; do echo x; sleep 0.05; done").stdin(Stdio::null()));
    let mut ssh = client.ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    let (_, shown) = terminal.finish(secs(20));
    for text in [
        "portcullis: this grant ends in 4 seconds",
        "portcullis: this grant ends in 2 seconds",
        NOTICE,
    ] {
        assert_eq!(shown.matches(text).count(), 1, "{text}: {shown}");
    }
    let done = exec.finish(secs(20));
    assert!(!done.err().contains("ends in"), "{}", done.err());
    assert!(done.err().contains(NOTICE), "{}", done.err());
    assert_eq!(done.out().replace("x\n", ""), "");
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
        let warned = record.notices().iter().filter(|text| text.contains("ends in")).count();
        let terminal = record.requests(1).iter().any(|(kind, _)| kind == "pty");
        assert_eq!(warned, if terminal { 2 } else { 0 }, "{:?}", record.notices());
    }
}

/// Idle and longest time are given in minutes: this takes one.
#[test]
fn idle_and_old_sessions_end() {
    let idle = World::with(Setup::new().set("session.idle_timeout_mins", "1"), Default::default());
    let old = World::with(Setup::new().set("session.session_max_mins", "1"), Default::default());
    let shell = |world: &World, command: &str| {
        let mut ssh = world.client().ssh();
        ssh.args(["-tt", "gate", command]);
        let terminal = Terminal::start(&ssh, 80, 24);
        terminal.expect("up", secs(20));
        terminal
    };
    // The one is silent; the other never is.
    let mut silent = shell(&idle, "echo up; cat");
    let mut busy = shell(&idle, "while :; do echo up; sleep 5; done");
    let mut aging = shell(&old, "while :; do echo up; sleep 5; done");
    let began = std::time::Instant::now();
    let (status, shown) = silent.finish(secs(75));
    assert!(began.elapsed() > secs(50));
    assert!(
        shown.contains("portcullis: the session was idle for too long"),
        "{shown}"
    );
    assert_eq!(status.exit_code(), 255);
    let (status, shown) = aging.finish(secs(15));
    assert!(
        shown.contains("portcullis: the session reached the longest time allowed"),
        "{shown}"
    );
    assert_eq!(status.exit_code(), 255);
    assert_eq!(idle.bastion.live_sessions().len(), 1);
    busy.keys("\x03");
    busy.finish(secs(20));
    assert_eq!(old.bastion.only_record().code(), "max_duration");
    let mut codes: Vec<String> = idle.bastion.records(2).iter().map(|record| record.code()).collect();
    codes.sort();
    assert_eq!(codes, ["exit", "idle"]);
}

#[test]
fn sigterm_drains() {
    let setup = Setup::new().set("session.drain_secs", "3");
    let mut world = World::with(setup, Default::default());
    let client = world.client();
    let short = Running::start(client.exec("echo up; sleep 1.5; echo done").stdin(Stdio::null()));
    let long = Running::start(client.exec("echo up; sleep 300").stdin(Stdio::null()));
    short.await_out("up", secs(20));
    long.await_out("up", secs(20));
    world.bastion.signal(Signal::SIGTERM);
    let_pass(Duration::from_millis(300));
    let refused = run(&mut client.exec("echo new"), secs(20));
    assert_eq!((refused.code(), refused.out().as_str()), (255, ""));
    assert_eq!(short.finish(secs(20)).ok().out(), "up\ndone\n");
    let done = long.finish(secs(20));
    assert_eq!(done.code(), 255);
    assert!(
        done.err().contains("portcullis: the gate is being stopped"),
        "{}",
        done.err()
    );
    assert_eq!(world.bastion.await_exit(secs(20)), Some(0));
    let records = world.bastion.records(2);
    let codes: Vec<String> = records.iter().map(|record| record.code()).collect();
    assert!(
        codes.contains(&"exit".into()) && codes.contains(&"drain".into()),
        "{codes:?}"
    );
    for record in records {
        record.assert_sealed();
        record.assert_balanced();
    }
}
