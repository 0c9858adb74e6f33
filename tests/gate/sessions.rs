//! What OpenSSH sends reaches a real sshd and comes back, without loss: commands and shells over pipes.

use portcullis_recording::Event;

use crate::support::bytes::Pattern;
use crate::support::{Bastion, Running, Setup, Sshd, Variant, World, finish, run, secs};

#[test]
fn exec_passes_status_and_keeps_the_streams_apart() {
    let world = World::new();
    let client = world.client();
    let done = run(&mut client.exec("echo out; echo err >&2; exit 42"), secs(20));
    assert_eq!(
        (done.code(), done.out(), done.err()),
        (42, "out\n".into(), "err\n".into())
    );
    let record = world.bastion.only_record();
    assert_eq!(record.code(), "exit");
    assert_eq!(record.output(1), b"out\n");
    assert_eq!(record.stderr(1), b"err\n");
    assert_eq!(record.exit_status(1), [42]);
    assert_eq!(
        record.requests(1)[1],
        ("exec".into(), b"echo out; echo err >&2; exit 42".to_vec())
    );
    world.bastion.assert_ledger_clean();
}

#[test]
fn the_recording_says_who_where_and_why() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").identity("bob").issue();
    run(&mut world.bastion.client(&pass).exec("true"), secs(20)).ok();
    let head = world.bastion.only_record().head;
    assert_eq!(
        (
            head.identity.as_str(),
            head.login.as_str(),
            head.target.as_str(),
            head.node.as_str()
        ),
        ("bob", "root", "db1", "gate1")
    );
    assert_eq!((head.grant_id, head.grant_until_wall_ms), (pass.grant, pass.until_ms));
    assert_eq!(head.source, "127.0.0.1");
    assert!(head.client_id.contains("OpenSSH"), "{}", head.client_id);
}

#[test]
fn a_program_killed_by_a_signal() {
    let world = World::new();
    let done = run(&mut world.client().exec("kill -SEGV $$"), secs(20));
    assert_eq!(done.code(), 255);
    let record = world.bastion.only_record();
    let signals: Vec<_> = record
        .events
        .iter()
        .filter_map(|timed| match &timed.event {
            Event::ExitSignal { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(signals, ["SEGV"]);
    assert!(record.exit_status(1).is_empty());
}

#[test]
fn every_exit_status_passes() {
    let world = World::new();
    let client = world.client();
    for status in [0, 1, 2, 127, 128, 254, 255] {
        let done = run(&mut client.exec(&format!("exit {status}")), secs(20));
        assert_eq!(done.code(), status);
    }
    let statuses: Vec<u32> = world
        .bastion
        .records(7)
        .iter()
        .flat_map(|record| record.exit_status(1))
        .collect();
    assert_eq!(statuses, [0, 1, 2, 127, 128, 254, 255]);
}

#[test]
fn a_shell_over_pipes() {
    let world = World::new();
    let done = finish(&mut world.client().shell(), b"echo one; cat; exit 7\ntwo\n", secs(20));
    assert_eq!((done.code(), done.out()), (7, "one\ntwo\n".to_owned()));
    let record = world.bastion.only_record();
    assert_eq!(record.input(1), b"echo one; cat; exit 7\ntwo\n");
}

#[test]
fn bytes_of_every_value_pass_both_ways() {
    let world = World::new();
    let bytes = Pattern::new(1).bytes(3_000_017);
    let done = finish(&mut world.client().exec("tee /dev/stderr"), &bytes, secs(60)).ok();
    assert!(done.stdout == bytes, "standard output differs");
    assert!(done.stderr == bytes, "standard error differs");
    let record = world.bastion.only_record();
    assert!(record.input(1) == bytes && record.output(1) == bytes && record.stderr(1) == bytes);
}

/// D19: what stands in a command reaches the target and the recording byte by
/// byte, the log escaped.
#[test]
fn d19_commands_of_any_bytes_and_of_100_kb() {
    let world = World::new();
    let client = world.client();
    let odd = "printf '%s' 'a\u{1b}[31mb\nc\u{9b}é'";
    assert_eq!(
        run(&mut client.exec(odd), secs(20)).ok().out(),
        "a\u{1b}[31mb\nc\u{9b}é"
    );
    let long = format!("echo {} | wc -c", "x".repeat(100_000));
    assert_eq!(run(&mut client.exec(&long), secs(20)).ok().out(), "100001\n");
    let records = world.bastion.records(2);
    for (record, command) in records.iter().zip([odd, &long]) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.requests(1)[1], ("exec".into(), command.as_bytes().to_vec()));
    }
    assert!(!world.bastion.log().contains('\u{1b}'));
}

#[test]
fn an_unknown_subsystem_is_refused_and_the_connection_lives() {
    let world = World::new();
    let client = world.client();
    let mut ssh = client.ssh();
    ssh.args(["-s", "gate", "nosuch"]);
    let done = run(&mut ssh, secs(20));
    assert_ne!(done.code(), 0);
    let record = world.bastion.only_record();
    assert_eq!(record.requests(1)[1].0, "subsystem");
    assert!(
        record
            .decisions(1)
            .iter()
            .any(|(action, allowed, _)| action == "subsystem" && !allowed)
    );
}

/// D18: only names on the allow-list reach the target.
#[test]
fn d18_env_by_allow_list() {
    let world = World::new();
    let client = world.client();
    let mut ssh = client.ssh();
    ssh.args([
        "-o",
        "SetEnv LC_TEST=yes LANG=C.UTF-8 SECRET_A=no LD_PRELOAD=no PATH=/no BASH_ENV=/no",
    ]);
    ssh.args(["-o", "SetEnv SSH_ORIGINAL_COMMAND=no", "gate", "env"]);
    let done = run(&mut ssh, secs(20)).ok();
    let env = done.out();
    assert!(env.contains("LC_TEST=yes\n") && env.contains("LANG=C.UTF-8\n"), "{env}");
    for absent in ["SECRET_A", "LD_PRELOAD", "BASH_ENV", "PATH=/no", "SSH_ORIGINAL_COMMAND"] {
        assert!(!env.contains(absent), "{absent} passed: {env}");
    }
    let record = world.bastion.only_record();
    let refused = record
        .decisions(1)
        .iter()
        .filter(|(action, allowed, _)| action == "env" && !allowed)
        .count();
    assert_eq!(refused, 4, "{:?}", record.decisions(1));
}

/// D18, the flood: as many variables as ssh can send do not matter to the session.
#[test]
fn d18_a_flood_of_env_is_bounded() {
    let world = World::new();
    let client = |count: usize| {
        let many: Vec<String> = (0..count).map(|number| format!("LC_N{number}=x")).collect();
        world
            .client()
            .option(&format!("SetEnv LC_BIG={} {}", "v".repeat(30_000), many.join(" ")))
    };
    let done = run(&mut client(200).exec("env | grep -c ^LC_"), secs(30)).ok();
    assert_eq!(done.out(), "63\n");
    // Beyond all measure is an attack, and said so.
    let done = run(&mut client(2000).exec("echo reached"), secs(30));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("too many variables"), "{}", done.err());
    let records = world.bastion.records(2);
    for (record, code) in records.iter().zip(["exit", "protocol"]) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.code(), code);
    }
}

/// The program ends its output first and still takes input, and the other way round.
#[test]
fn half_closed_streams() {
    let world = World::new();
    let client = world.client();
    let file = world.sshd.folder().join("late");
    let command = format!("echo first; exec >&- 2>&-; cat > {}; exit 3", file.display());
    let mut ssh = Running::with_input(&mut client.exec(&command));
    ssh.await_out("first", secs(20));
    ssh.say("after its output ended");
    let done = ssh.finish(secs(20));
    assert_eq!(done.code(), 3);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "after its output ended");

    // Input over at once, output much later than that.
    let done = run(&mut client.exec("cat; sleep 0.5; echo still here"), secs(20)).ok();
    assert_eq!(done.out(), "still here\n");
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.code(), "exit");
    }
}

/// A client that has nothing to send closes its side as soon as the program's
/// output ends; the exit status may come much later than that.
#[test]
fn an_exit_status_long_after_the_output() {
    let world = World::new();
    let client = world.client();
    let done = run(
        &mut client.exec("echo out; exec <&- >&- 2>&-; sleep 1; exit 3"),
        secs(20),
    );
    assert_eq!((done.code(), done.out().as_str()), (3, "out\n"));
    assert_eq!(world.bastion.only_record().exit_status(1), [3]);
}

/// Output that comes in the last moment, with the exit status right behind it, is complete.
#[test]
fn the_last_bytes_before_the_exit_are_not_lost() {
    let world = World::new();
    let client = world.client();
    for _ in 0..10 {
        let done = run(
            &mut client.exec("head -c 1000000 /dev/zero; head -c 70000 /dev/zero >&2; exit 5"),
            secs(20),
        );
        assert_eq!(
            (done.code(), done.stdout.len(), done.stderr.len()),
            (5, 1_000_000, 70_000)
        );
    }
    for record in world.bastion.records(10) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.undelivered(), []);
    }
}

#[test]
fn a_host_key_that_is_not_the_pinned_one_is_refused() {
    let world = World::new();
    let other = Sshd::start(&world.bastion, Variant::default());
    let key = other.host_key_pub();
    world
        .bastion
        .add_target("db2", world.sshd.addr(), "root", "--host-key", &key);
    let pass = world.bastion.pass("root@db2").issue();
    let done = run(&mut world.bastion.client(&pass).exec("echo reached"), secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("host key"), "{}", done.err());
    assert!(!world.sshd.log().contains("Accepted"), "{}", world.sshd.log());
    let record = world.bastion.only_record();
    assert_eq!(record.code(), "target_lost");
    world.bastion.assert_ledger_clean();
}

#[test]
fn a_host_certificate_of_the_pinned_ca_is_taken_and_no_other() {
    let bastion = crate::support::Setup::new().start();
    let sshd = Sshd::start(&bastion, Variant::host_certificate());
    let other = Sshd::start(&bastion, Variant::host_certificate());
    for (name, ca) in [("good", sshd.host_ca_pub()), ("bad", other.host_ca_pub())] {
        bastion.add_target(name, sshd.addr(), "root", "--host-ca", &ca);
    }
    let exec = |bastion: &Bastion, destination: &str| {
        let pass = bastion.pass(destination).issue();
        run(&mut bastion.client(&pass).exec("echo reached"), secs(20))
    };
    assert_eq!(exec(&bastion, "root@good").ok().out(), "reached\n");
    let done = exec(&bastion, "root@bad");
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    let codes: Vec<String> = bastion.records(2).iter().map(|record| record.code()).collect();
    assert_eq!(codes, ["exit", "target_lost"]);
}

#[test]
fn a_target_that_is_not_there_is_told_in_words() {
    let world = World::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let key = world.sshd.host_key_pub();
    world.bastion.add_target("gone", addr, "root", "--host-key", &key);
    let pass = world.bastion.pass("root@gone").issue();
    let done = run(&mut world.bastion.client(&pass).exec("true"), secs(20));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("the target is gone"), "{}", done.err());
    assert_eq!(world.bastion.only_record().code(), "target_lost");
}

/// Machines too: a loop that connects on and on takes nobody else's place.
#[test]
fn nobody_is_in_more_sessions_at_once_than_the_configuration_says() {
    let setup = Setup::new().set("ssh.sessions_per_identity", "2");
    let world = World::with(setup, Variant::default());
    let client = world.client();
    let mut inside: Vec<Running> = (0..2).map(|_| Running::with_input(&mut client.exec("cat"))).collect();
    for cat in &mut inside {
        cat.say("here\n");
        cat.await_out("here", secs(20));
    }
    let done = run(&mut client.exec("echo in"), secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("you are in 2 sessions"), "{}", done.err());
    assert!(
        world.bastion.log().contains("sessions_too_many"),
        "{}",
        world.bastion.log()
    );
    let other = world.bastion.pass("root@db1").identity("bob").issue();
    assert_eq!(
        run(&mut world.bastion.client(&other).exec("echo in"), secs(20))
            .ok()
            .out(),
        "in\n"
    );
    for cat in inside {
        assert_eq!(cat.finish(secs(20)).ok().out(), "here\n");
    }
    assert_eq!(run(&mut client.exec("echo in"), secs(20)).ok().out(), "in\n");
}
