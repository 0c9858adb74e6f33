//! Several channels on one connection (ControlMaster).

use crate::support::{Running, World, finish, run, secs, wait_until};

/// A master connection that is up, and its socket.
pub fn master(world: &World, client: &crate::support::Client) -> (Running, std::path::PathBuf) {
    let socket = world.bastion.fresh("mux", "");
    let master = Running::start(client.master(&socket).stdin(std::process::Stdio::null()));
    wait_until("the master's socket", secs(20), || socket.exists());
    (master, socket)
}

#[test]
fn channels_of_one_connection_are_one_session() {
    let world = World::new();
    let client = world.client();
    let (mut open, socket) = master(&world, &client);
    let mut long = Running::with_input(client.through(&socket).arg("cat"));
    long.say("first\n");
    long.await_out("first", secs(20));
    for number in 0..5 {
        let text = format!("number {number}\n");
        let done = finish(client.through(&socket).arg("cat; exit 4"), text.as_bytes(), secs(20));
        assert_eq!((done.code(), done.out()), (4, text));
    }
    long.say("last\n");
    long.await_out("last", secs(20));
    assert_eq!(long.finish(secs(20)).ok().out(), "first\nlast\n");
    assert!(open.runs());
    assert_eq!(world.bastion.live_sessions().len(), 1);
    let mut exit = client.ssh();
    exit.arg("-S").arg(&socket).args(["-O", "exit", "gate"]);
    run(&mut exit, secs(20)).ok();
    open.finish(secs(20));
    let record = world.bastion.only_record();
    assert_eq!(record.channels(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(record.input(1), b"first\nlast\n");
    assert_eq!(record.output(4), b"number 2\n");
    assert_eq!(record.exit_status(6), [4]);
}

#[test]
fn a_hundred_channels_one_after_the_other() {
    // Without the one that is kept ready, so that none is left.
    let setup = crate::support::Setup::new().set("ssh.spare", "false");
    let world = World::with(setup, crate::support::Variant::default());
    let client = world.client();
    let (open, socket) = master(&world, &client);
    for number in 0..100 {
        let done = run(
            client.through(&socket).arg(format!("echo {number}; exit {number}")),
            secs(20),
        );
        assert_eq!((done.code(), done.out()), (number, format!("{number}\n")));
    }
    let memory = crate::support::process::status_kb(world.bastion.pid(), "VmRSS");
    assert!(memory < 100 * 1024, "{memory} kB");
    wait_until("no connection left at the target", secs(20), || {
        world.sshd.sessions().is_empty()
    });
    open.signal(nix::sys::signal::Signal::SIGTERM);
    open.finish(secs(20));
    let record = world.bastion.only_record();
    assert_eq!(record.channels().len(), 100);
}

/// More channels than allowed are refused one by one; those there are go on.
#[test]
fn channels_are_limited() {
    let setup = crate::support::Setup::new().set("ssh.channels_max", "4");
    let world = World::with(setup, crate::support::Variant::default());
    let client = world.client();
    let (_open, socket) = master(&world, &client);
    let mut running = Vec::new();
    for _ in 0..4 {
        let mut cat = Running::with_input(client.through(&socket).arg("cat"));
        cat.say("here\n");
        cat.await_out("here", secs(20));
        running.push(cat);
    }
    let done = run(client.through(&socket).arg("echo too many"), secs(20));
    assert_ne!(done.code(), 0);
    assert_eq!(done.out(), "");
    for cat in running {
        assert_eq!(cat.finish(secs(20)).ok().out(), "here\n");
    }
    assert_eq!(
        run(client.through(&socket).arg("echo again"), secs(20)).ok().out(),
        "again\n"
    );
}

/// From the second channel on one more target connection is ready, under a
/// permit of its own; the configuration can do without.
#[test]
fn a_further_channel_finds_a_connection_ready() {
    for spare in [true, false] {
        let setup = crate::support::Setup::new().set("ssh.spare", &spare.to_string());
        let world = World::with(setup, crate::support::Variant::default());
        let client = world.client();
        let (open, socket) = master(&world, &client);
        let logins = || world.sshd.log().matches("Accepted publickey").count();
        for number in 1..=4 {
            let done = run(client.through(&socket).arg(format!("echo {number}")), secs(20));
            assert_eq!(done.ok().out(), format!("{number}\n"));
            // The second channel dials for itself and for the next.
            let wanted = if spare && number > 1 { number + 1 } else { number };
            wait_until("the target's logins", secs(20), || logins() == wanted);
        }
        assert_eq!(world.bastion.live_sessions().len(), 1);
        open.signal(nix::sys::signal::Signal::SIGTERM);
        open.finish(secs(20));
        wait_until("no connection left at the target", secs(20), || {
            world.sshd.sessions().is_empty()
        });
        let record = world.bastion.only_record();
        record.assert_sealed();
        let connects = |channel: u32| {
            let decisions = record.decisions(channel);
            decisions
                .iter()
                .filter(|(action, allowed, _)| action == "connect" && *allowed)
                .count()
        };
        let seen: Vec<usize> = (0..=4).map(connects).collect();
        assert_eq!(seen, if spare { [4, 0, 1, 0, 0] } else { [1, 0, 1, 1, 1] });
    }
}
