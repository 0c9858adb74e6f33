//! `ssh -J bastion login@target`: the outer connection carries, the inner one
//! is the session, and nothing else is ever reached.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use portcullis_recording::head;

use crate::ledger::events;
use crate::support::bytes::Pattern;
use crate::support::process::descendants;
use crate::support::wait::let_pass;
use crate::support::{Client, Pass, Running, World, finish, run, secs, wait_until};

/// `ssh -W HOST:PORT outer` with `input` sent into the channel.
fn stdio(client: &Client, to: &str) -> Command {
    let mut ssh = client.ssh();
    ssh.args(["-W", to, "outer"]);
    ssh
}

fn revoke(world: &World, pass: &Pass) {
    let done = world
        .bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "over"]);
    done.ok();
}

/// How often the target was dialled.
fn dialled(world: &World) -> usize {
    world.sshd.log().matches("Connection from").count()
}

#[test]
fn a_command_through_a_jump_is_a_recorded_session() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let done = run(&mut client.exec("echo out; echo err >&2; exit 42"), secs(20));
    assert_eq!(
        (done.code(), done.out(), done.err()),
        (42, "out\n".into(), "err\n".into())
    );
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.code(), "exit");
    assert_eq!(record.head.form, head::Form::Jump);
    assert_eq!(
        (record.head.login.as_str(), record.head.target.as_str()),
        ("root", "db1")
    );
    assert_eq!(record.head.source, "127.0.0.1");
    assert!(record.head.client_id.contains("OpenSSH"));
    assert_eq!(record.output(1), b"out\n");
    assert_eq!(record.stderr(1), b"err\n");
    world.bastion.assert_ledger_clean();
}

#[test]
fn bytes_pass_a_jump_both_ways() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let bytes = Pattern::new(1).bytes(20_000_017);
    let done = finish(&mut client.exec("cat"), &bytes, secs(60)).ok();
    assert!(done.stdout == bytes, "what came back differs");
    let record = world.bastion.only_record();
    record.assert_balanced();
    assert!(record.input(1) == bytes && record.output(1) == bytes);
}

#[test]
fn names_are_looked_up_and_nothing_is_dialled() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let sshd = world.sshd.addr();
    // What exists and what does not sound the same.
    world.bastion.add_host("db2", &world.sshd);
    let (host, port) = (sshd.ip().to_string(), sshd.port());
    for to in [
        "db2:22".to_owned(),
        "nowhere:22".to_owned(),
        format!("{host}:{port}"),
        format!("{host}:22"),
        format!("[::ffff:{host}]:{port}"),
        format!("localhost:{port}"),
        "db1:23".to_owned(),
        "*:22".to_owned(),
    ] {
        let done = finish(&mut stdio(&client, &to), b"SSH-2.0-x\r\n", secs(20));
        assert_ne!(done.code(), 0, "{to}");
        assert!(done.stdout.is_empty(), "{to}: {}", done.out());
        let said = done.err();
        let why = match to.as_str() {
            "db1:23" => "not reached at port 23",
            _ => "you hold no live grant",
        };
        assert!(said.contains(why), "{to}: {said}");
    }
    assert_eq!(world.bastion.sessions().len(), 0);
    assert_eq!(dialled(&world), 0, "something was dialled");
}

#[test]
fn every_way_to_write_a_name_leads_to_the_one_target() {
    let world = World::new();
    for (host, port) in [
        ("db1", 22),
        ("DB1", 22),
        ("db1.", 22),
        ("db1", world.sshd.addr().port()),
    ] {
        let client = world.bastion.jumper(&world.pass());
        let mut ssh = client.ssh();
        ssh.args([
            "-J",
            "outer",
            "-p",
            &port.to_string(),
            &format!("root@{host}"),
            "echo in",
        ]);
        assert_eq!(run(&mut ssh, secs(20)).ok().out(), "in\n", "{host} {port}");
    }
    for record in world.bastion.records(4) {
        assert_eq!(record.head.target, "db1");
    }
}

#[test]
fn what_is_not_ssh_closes_the_channel_at_once() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let started = std::time::Instant::now();
    let mut http = Running::with_input(&mut stdio(&client, "db1:22"));
    http.say("GET / HTTP/1.1\r\nHost: db1\r\n\r\n");
    // Its input stays open: who closes is the bastion.
    http.finish_open(secs(10));
    assert!(started.elapsed() < secs(5));
    assert_eq!(world.bastion.sessions().len(), 0);
    assert_eq!(dialled(&world), 0);
}

#[test]
fn a_jump_does_not_carry_somebody_else() {
    let world = World::new();
    let bob = world.bastion.pass("root@db1").identity("bob").issue();
    let alice = world.bastion.jumper(&world.pass());
    let inner = world.bastion.jumper(&bob);
    let mut ssh = inner.ssh();
    let proxy = format!("ProxyCommand=ssh -F {} -W %h:%p outer", alice.config().display());
    ssh.args([
        "-o",
        &proxy,
        "-o",
        "ProxyJump=none",
        "-o",
        "BatchMode=no",
        "gate",
        "true",
    ]);
    let done = run(&mut ssh, secs(20));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("jump_other_identity"), "{}", done.err());
    assert_eq!(world.bastion.sessions().len(), 0);
}

#[test]
fn a_user_inside_is_a_login_and_no_other_destination() {
    let world = World::new();
    world.bastion.add_host("db2", &world.sshd);
    let second = world.bastion.pass("root@db2").issue();
    let client = world.bastion.jumper(&world.pass());
    // db2's own certificate, inside a jump to db1, under every name that could mean db2.
    for user in ["root", "root@db2", "root+db2"] {
        let mut ssh = client.ssh();
        ssh.args(["-i", second.key.to_str().unwrap(), "-o"])
            .arg(format!("CertificateFile={}", second.certificate.display()))
            .args(["-J", "outer", "-l", user, "db1", "echo $SSH_CONNECTION"]);
        let done = run(&mut ssh, secs(20));
        if user == "root" {
            done.ok();
        } else {
            assert_eq!(done.code(), 255, "{user}");
        }
    }
    assert_eq!(world.bastion.only_record().head.target, "db1");
}

#[test]
fn revocation_cuts_the_session_and_what_carries_it() {
    let world = World::new();
    let pass = world.pass();
    let client = world.bastion.jumper(&pass);
    let running = Running::start(&mut client.exec("echo on; exec sleep 600"));
    running.await_out("on\n", secs(20));
    revoke(&world, &pass);
    let done = running.finish(secs(10));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("revoked"), "{}", done.err());
    assert_eq!(world.bastion.only_record().code(), "revoked");
}

#[test]
fn an_idle_outer_connection_falls_with_the_last_grant() {
    let world = World::new();
    let pass = world.pass();
    let client = world.bastion.jumper(&pass);
    let mut ssh = client.ssh();
    ssh.args(["-N", "-v", "outer"]);
    let running = Running::start(&mut ssh);
    running.await_err("Authenticated to", secs(20));
    revoke(&world, &pass);
    let done = running.finish(secs(10));
    assert!(done.err().contains("you hold no live grant any more"), "{}", done.err());
    assert_eq!(world.bastion.sessions().len(), 0);
}

#[test]
fn an_outer_connection_takes_what_a_session_would() {
    let world = World::new();
    let outer = |pass: &Pass| {
        let client = world.bastion.jumper(pass);
        let mut ssh = client.ssh();
        ssh.args(["-o", "BatchMode=no", "-T", "outer"]);
        run(&mut ssh, secs(20))
    };
    let pass = world.bastion.pass("root@db1").arg("--single-use").issue();
    outer(&pass).ok();
    run(&mut world.bastion.jumper(&pass).exec("true"), secs(20)).ok();
    let done = outer(&pass);
    assert!(done.err().contains("grant_used"), "{}", done.err());
    let pass = world.pass();
    revoke(&world, &pass);
    let done = outer(&pass);
    assert!(done.err().contains("grant_revoked"), "{}", done.err());
    // A key without a certificate is told what everybody is.
    let key = world.bastion.fresh("bare", "");
    std::fs::copy(&pass.key, &key).unwrap();
    let pass = Pass {
        certificate: key.clone(),
        key,
        ..pass
    };
    let bare = world.bastion.jumper(&pass);
    let mut ssh = bare.ssh();
    ssh.args(["-o", "BatchMode=no", "-T", "outer"]);
    let done = run(&mut ssh, secs(20));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("holders of certificates only"), "{}", done.err());
}

#[test]
fn a_shell_on_the_outer_connection_shows_the_way() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let mut ssh = client.ssh();
    ssh.args(["-T", "outer"]);
    let done = run(&mut ssh, secs(20)).ok();
    assert!(done.out().contains("ssh -J 127.0.0.1 root@db1"), "{}", done.out());
    let mut ssh = client.ssh();
    ssh.args(["outer", "id"]);
    let done = run(&mut ssh, secs(20));
    assert_ne!(done.code(), 0);
    assert!(
        done.err().contains("nothing runs on the bastion itself"),
        "{}",
        done.err()
    );
    for forward in [["-L", "0:127.0.0.1:1"], ["-R", "0:127.0.0.1:1"]] {
        let mut ssh = client.ssh();
        ssh.args(["-o", "ExitOnForwardFailure=yes", "-T"])
            .args(forward)
            .arg("outer");
        run(&mut ssh, secs(20));
    }
    assert_eq!(world.bastion.sessions().len(), 0);
    let leaves = events(&world.bastion, "jump");
    assert!(leaves.iter().any(|leaf| leaf["identity"] == "alice"), "{leaves:?}");
}

#[test]
fn files_go_through_a_jump() {
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let dir = world.bastion.dir().join("files");
    std::fs::create_dir(&dir).unwrap();
    let bytes = Pattern::new(3).bytes(3_000_000);
    std::fs::write(dir.join("a"), &bytes).unwrap();
    let remote = dir.join("b");
    let mut scp = client.scp();
    scp.arg(dir.join("a")).arg(format!("gate:{}", remote.display()));
    run(&mut scp, secs(30)).ok();
    assert!(std::fs::read(&remote).unwrap() == bytes);
    let mut scp = client.scp();
    scp.args(["-O"])
        .arg(format!("gate:{}", remote.display()))
        .arg(dir.join("c"));
    run(&mut scp, secs(30)).ok();
    assert!(std::fs::read(dir.join("c")).unwrap() == bytes);
    let mut sftp = client.sftp();
    sftp.args(["-b", "-", "gate"]);
    let batch = format!("get {} {}\n", remote.display(), dir.join("d").display());
    finish(&mut sftp, batch.as_bytes(), secs(30)).ok();
    assert!(std::fs::read(dir.join("d")).unwrap() == bytes);
    for record in world.bastion.records(3) {
        record.assert_sealed();
        record.assert_balanced();
    }
}

/// The client that carries a jump does not always close its channel when the
/// one that it carries for is killed (OpenSSH 9.2): it ends its input, reads no
/// more and stays.
#[test]
fn a_killed_client_that_had_stopped_reading_ends_its_session() {
    // Many windows.
    const FLOOD_BYTES: u64 = 32 << 20;
    let world = World::new();
    let client = world.bastion.jumper(&world.pass());
    let socket = world.bastion.dir().join("master");
    let master = Running::start(&mut client.master(&socket));
    wait_until("the master", secs(20), || socket.exists());
    let carriers = descendants(master.pid());
    // Two windows inside are more than the one that carries them.
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let mut flood = client.through(&socket);
            flood.arg("cat /dev/zero").stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    wait_until("the flood", secs(20), || {
        carriers.iter().any(|pid| bytes_read(*pid) > FLOOD_BYTES)
    });
    master.signal(Signal::SIGSTOP);
    let_pass(secs(1));
    assert_eq!(world.bastion.live_sessions().len(), 1);
    master.signal(Signal::SIGKILL);
    wait_until("the end of the session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    wait_until("the end of what carried it", secs(20), || {
        !carriers.iter().any(|pid| still_runs(*pid))
    });
    for mut flood in floods {
        flood.wait().unwrap();
    }
    world.bastion.only_record().assert_sealed();
}

/// By this process, from sockets and pipes as well (proc(5)).
fn bytes_read(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .unwrap()
        .parse()
        .unwrap()
}

/// Also not as a process that nobody has waited for.
fn still_runs(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}
