//! SIGKILL at any moment loses nothing that anybody saw.

use std::process::Stdio;
use std::time::Duration;

use portcullis_recording::Verdict;

use crate::support::bytes::find;
use crate::support::wait::let_pass;
use crate::support::{Record, Running, Terminal, World, finish, run, secs, wait_until};

const SESSIONS: usize = 20;

/// Twenty sessions that print at different speeds, the server killed at a
/// random moment, started again: five times.
#[test]
fn d23_sigkill_under_twenty_sessions() {
    let mut world = World::new();
    let pass = world.bastion.pass("root@db1").issue();
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos();
    println!("seed {seed}");
    let mut random = seed | 1;
    let mut expected = 0;
    for round in 0..5u32 {
        let client = world.bastion.client(&pass);
        let running: Vec<(String, Running)> = (0..SESSIONS)
            .map(|number| {
                let word = format!("round-{round}-number-{number}");
                let program = match number % 4 {
                    0 => format!("echo {word}; i=0; while :; do i=$((i+1)); echo line $i; done"),
                    1 => format!("echo {word}; while date +%N; do sleep 0.02; done"),
                    2 => format!("echo {word}; head -c 30000000 /dev/urandom; sleep 300"),
                    _ => format!("echo {word}; cat"),
                };
                let mut ssh = Running::with_input(&mut client.exec(&program));
                if number % 4 == 3 {
                    ssh.say("typed before the crash\n");
                }
                (word, ssh)
            })
            .collect();
        for (word, ssh) in &running {
            ssh.await_out(word, secs(60));
        }
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let_pass(Duration::from_millis(u64::from(random >> 22)));
        world.bastion.sigkill();
        let seen: Vec<(String, Vec<u8>)> = running
            .into_iter()
            .map(|(word, ssh)| {
                let done = ssh.finish(secs(20));
                assert_eq!(done.code(), 255);
                (word, done.stdout)
            })
            .collect();
        world.bastion.serve();
        expected += SESSIONS;
        world.bastion.await_records(expected, secs(60));
        let records: Vec<Record> = world
            .bastion
            .archived()
            .iter()
            .map(|file| Record::load(file, world.bastion.state()))
            .filter(|record| find(&record.requests(1)[1].1, format!("round-{round}-").as_bytes()).is_some())
            .collect();
        for (word, bytes) in seen {
            let of = |record: &&Record| find(&record.requests(1)[1].1, format!("{word};").as_bytes()).is_some();
            let record = records
                .iter()
                .find(of)
                .unwrap_or_else(|| panic!("no recording of {word}"));
            assert!(
                matches!(record.verdict, Verdict::Recovered { .. }),
                "{:?}",
                record.verdict
            );
            let output = record.output(1);
            assert!(
                output.starts_with(&bytes),
                "{word}: the client has {} bytes, the recording {} and not the same",
                bytes.len(),
                output.len()
            );
        }
        wait_until("no process of a session left at the target", secs(10), || {
            world.sshd.sessions().is_empty()
        });
    }
    world.bastion.assert_ledger_clean();
    // One recording, one end in the store each, and a new session works.
    assert!(world.bastion.live_sessions().is_empty());
    let client = world.bastion.client(&pass);
    assert_eq!(run(&mut client.exec("echo on"), secs(20)).ok().out(), "on\n");
}

/// What a terminal showed and what was typed before the crash is in the recovered recording.
#[test]
fn a_terminal_before_a_crash() {
    let mut world = World::new();
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    // Typed before the prompt, ssh's own terminal would echo it too.
    terminal.expect("# ", secs(20));
    terminal.line("echo before-$((40 + 2))");
    terminal.expect("before-42", secs(20));
    world.bastion.sigkill();
    let (_, shown) = terminal.finish(secs(20));
    world.bastion.serve();
    let record = world.bastion.records(1).remove(0);
    assert!(
        matches!(record.verdict, Verdict::Recovered { .. }),
        "{:?}",
        record.verdict
    );
    let output = record.output(1);
    let shown = shown
        .split("client_loop")
        .next()
        .unwrap()
        .split("Connection to")
        .next()
        .unwrap();
    assert!(String::from_utf8_lossy(&output).contains("before-42"));
    let shown = shown.trim_end().as_bytes();
    assert!(
        output.starts_with(shown),
        "{:?} is shown",
        String::from_utf8_lossy(shown)
    );
    assert!(find(&record.input(1), b"echo before-$((40 + 2))\r").is_some());
    world.bastion.assert_ledger_clean();
}

/// A crash while the recovery of a crash runs: the next start finishes it.
#[test]
fn a_crash_during_recovery() {
    let mut world = World::new();
    let pass = world.bastion.pass("root@db1").issue();
    let client = world.bastion.client(&pass);
    let running: Vec<Running> = (0..5)
        .map(|_| {
            Running::start(
                client
                    .exec("head -c 40000000 /dev/urandom; sleep 300")
                    .stdin(Stdio::null()),
            )
        })
        .collect();
    for ssh in &running {
        ssh.await_bytes(40_000_000, secs(60));
    }
    world.bastion.sigkill();
    let seen: Vec<Vec<u8>> = running.into_iter().map(|ssh| ssh.finish(secs(20)).stdout).collect();
    for wait in [5, 30, 80, 150, 250] {
        world.bastion.launch();
        let_pass(Duration::from_millis(wait));
        world.bastion.sigkill();
    }
    world.bastion.serve();
    let records = world.bastion.records(5);
    for bytes in seen {
        assert!(
            records.iter().any(|record| record.output(1).starts_with(&bytes)),
            "no recording holds it"
        );
    }
    world.bastion.assert_ledger_clean();
}

/// The server ends while nobody is in: nothing to recover, the state is whole.
#[test]
fn a_crash_at_rest() {
    let mut world = World::new();
    let pass = world.bastion.pass("root@db1").issue();
    finish(&mut world.bastion.client(&pass).exec("cat"), b"x", secs(20)).ok();
    world.bastion.records(1);
    world.bastion.sigkill();
    world.bastion.serve();
    assert_eq!(
        run(&mut world.bastion.client(&pass).exec("echo on"), secs(20))
            .ok()
            .out(),
        "on\n"
    );
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
    world.bastion.assert_ledger_clean();
}
