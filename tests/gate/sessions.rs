//! What OpenSSH sends reaches a real sshd and comes back, without loss.

use crate::support::{World, finish, run, secs};

#[test]
fn exec_passes_status_and_keeps_the_streams_apart() {
    let world = World::new();
    let client = world.client();
    let done = run(&mut client.exec("echo out; echo err >&2; exit 42"), secs(20));
    assert_eq!((done.code(), done.out(), done.err()), (42, "out\n".into(), "err\n".into()));
    let record = world.bastion.only_record();
    assert_eq!(record.code(), "exit");
    assert_eq!(record.output(1), b"out\n");
    assert_eq!(record.stderr(1), b"err\n");
    assert_eq!(record.exit_status(1), [42]);
    world.bastion.assert_ledger_clean();
}

#[test]
fn a_shell_over_pipes() {
    let world = World::new();
    let done = finish(&mut world.client().shell(), b"echo one; cat; exit 7\ntwo\n", secs(20));
    assert_eq!((done.code(), done.out()), (7, "one\ntwo\n".to_owned()));
    let record = world.bastion.only_record();
    assert_eq!(record.input(1), b"echo one; cat; exit 7\ntwo\n");
}
