//! Signals of the client reach the program, at a host and at a local target.

use russh::Sig;

use crate::support::russh_client::exec_and_signal;
use crate::support::{Setup, Variant, World, secs};

const TRAP: &str = "trap 'echo got USR1; exit 11' USR1; echo ready; while :; do sleep 0.05; done";

#[test]
fn a_signal_reaches_a_host() {
    // OpenSSH's sshd does not signal programs of root.
    let world = World::with(Setup::new(), Variant::default().account("nobody", "/bin/sh"));
    world.bastion.add_host_login("db2", &world.sshd, "nobody");
    let pass = world.bastion.pass("nobody@db2").issue();
    let (out, status, _) = exec_and_signal(&world.bastion, &pass, TRAP, "ready", Sig::USR1, secs(20));
    assert_eq!((out.as_str(), status), ("ready\ngot USR1\n", Some(11)));
    let record = world.bastion.only_record();
    assert!(
        record.requests(1).iter().any(|(kind, _)| kind == "signal"),
        "{:?}",
        record.requests(1)
    );
}

#[test]
fn a_signal_reaches_a_local_program() {
    let bastion = Setup::new().account("nobody", "/bin/sh").start();
    bastion.add_local("here", &[]);
    let pass = bastion.pass("op@here").issue();
    let (out, status, _) = exec_and_signal(&bastion, &pass, TRAP, "ready", Sig::USR1, secs(20));
    assert_eq!((out.as_str(), status), ("ready\ngot USR1\n", Some(11)));
    let (_, status, by) = exec_and_signal(
        &bastion,
        &pass,
        "echo ready; exec sleep 300",
        "ready",
        Sig::TERM,
        secs(20),
    );
    assert_eq!((status, by.as_deref()), (None, Some("TERM")));
    for record in bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
}
