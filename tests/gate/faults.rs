//! Faults of the disk and of the store: sessions end or are refused with a
//! reason, and nothing delivered is missing.

use std::process::Stdio;
use std::time::Instant;

use sqlx::{Connection, Executor};

use crate::support::fault::{inject, inject_at};
use crate::support::process::Done;
use crate::support::wait::let_pass;
use crate::support::{Running, Setup, World, run, secs, wait_until};

const MIB: u64 = 1 << 20;

/// The session ended because its recorder failed, was told so, and got
/// nothing that its recording has not.
#[track_caller]
fn ended_unrecordable(world: &World, done: &Done) {
    let said = done.err();
    assert_eq!(done.code(), 255, "{said}");
    assert!(said.contains("the session cannot be recorded any more"), "{said}");
    let record = &world.bastion.records(1)[0];
    assert_eq!(record.code(), "recorder_failed");
    assert!(
        record.output(1).starts_with(&done.stdout),
        "the client has what the recording has not"
    );
}

/// D22: the spool's disk is full.
#[test]
fn d22_a_full_spool_ends_the_session_and_seals_it() {
    let setup = Setup::new().small_spool(48 * MIB);
    let world = World::with(setup, Default::default());
    let client = world.client();
    // Does not compress: the 32 MiB beside the reserve are full soon, whatever is archived meanwhile.
    let mut flood = client.exec("cat /dev/urandom");
    let done = run(&mut flood, secs(60));
    assert_eq!(done.code(), 255);
    assert!(
        done.err().contains("the session cannot be recorded any more"),
        "{}",
        done.err()
    );
    let record = &world.bastion.records(1)[0];
    assert_eq!(record.code(), "recorder_failed");
    assert!(
        done.stdout.len() > MIB as usize,
        "ended too early: {}",
        done.stdout.len()
    );
    assert!(
        record.output(1).starts_with(&done.stdout),
        "the client has what the recording has not"
    );
    wait_until("no process of the session left at the target", secs(5), || {
        world.sshd.sessions().is_empty()
    });
    // The recording left the spool: there is room again.
    assert_eq!(run(&mut client.exec("echo on"), secs(20)).ok().out(), "on\n");
    world.bastion.await_records(2, secs(20));
    world.bastion.assert_ledger_clean();
}

/// The spool's file system turns read-only under a running session.
#[test]
fn a_spool_that_turns_read_only_ends_the_session() {
    let world = World::new();
    let client = world.client();
    let ssh = Running::start(client.exec("while :; do echo x; sleep 0.02; done").stdin(Stdio::null()));
    ssh.await_out("x\nx\n", secs(20));
    let folder = world.bastion.spooled().remove(0);
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let log = world.bastion.fresh("strace", "");
    let strace = inject_at(
        world.bastion.pid(),
        "write,writev,pwrite64,pwritev:error=EROFS",
        &files,
        &log,
    );
    let done = ssh.finish(secs(20));
    strace.signal(nix::sys::signal::Signal::SIGINT);
    strace.finish(secs(20));
    assert!(
        std::fs::read_to_string(&log).unwrap().contains("EROFS"),
        "nothing was injected"
    );
    ended_unrecordable(&world, &done);
    assert_eq!(run(&mut client.exec("echo on"), secs(20)).ok().out(), "on\n");
}

/// A spool that is read-only, full or gone before the session: refused with a reason.
#[test]
fn no_spool_no_session() {
    let world = World::with(Setup::new().small_spool(64 * MIB), Default::default());
    let client = world.client();
    let disk = world.bastion.spool_disk.as_ref().unwrap();
    let refused = |what: &str| {
        let done = run(&mut client.exec("echo never"), secs(20));
        assert_eq!((done.code(), done.out().as_str()), (255, ""), "{what}");
        assert!(done.err().contains("cannot be recorded"), "{what}: {}", done.err());
        assert!(!world.sshd.log().contains("Accepted"), "{what}: the target was dialled");
    };
    disk.remount("ro");
    refused("read-only");
    disk.remount("rw");
    let filler = world.bastion.spool().join("filler");
    let filled = std::fs::write(&filler, vec![1; 64 << 20]);
    assert!(filled.is_err());
    refused("full");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(run(&mut client.exec("echo on"), secs(20)).ok().out(), "on\n");
}

/// D24: fdatasync fails once and works again: the session ends all the same.
#[test]
fn d24_a_failed_sync_is_never_forgiven() {
    let world = World::new();
    let client = world.client();
    let ssh = Running::start(client.exec("while :; do echo x; sleep 0.02; done").stdin(Stdio::null()));
    ssh.await_out("x\nx\n", secs(20));
    let log = world.bastion.fresh("strace", "");
    let strace = inject(world.bastion.pid(), "fdatasync:error=EIO:when=1", &log);
    let done = ssh.finish(secs(30));
    strace.signal(nix::sys::signal::Signal::SIGINT);
    strace.finish(secs(20));
    assert!(
        std::fs::read_to_string(&log).unwrap().contains("EIO"),
        "nothing was injected"
    );
    ended_unrecordable(&world, &done);
}

/// The head is on the disk, its name in the spool included, before the ledger
/// keeps the opening and the target is dialled: after a power cut no session is
/// left that nothing can answer for.
#[test]
fn nothing_is_dialled_whose_head_is_not_on_the_disk() {
    let mut world = World::new();
    let client = world.client();
    let log = world.bastion.fresh("strace", "");
    let strace = inject_at(world.bastion.pid(), "fsync:error=EIO", &[world.bastion.spool()], &log);
    let done = run(&mut client.exec("echo never"), secs(30));
    strace.signal(nix::sys::signal::Signal::SIGINT);
    strace.finish(secs(20));
    assert!(
        std::fs::read_to_string(&log).unwrap().contains("EIO"),
        "nothing was injected"
    );
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("cannot be recorded"), "{}", done.err());
    assert!(!world.sshd.log().contains("Accepted"), "the target was dialled");
    world.bastion.sigkill();
    world.bastion.serve();
    world.bastion.records(1);
    world.bastion.assert_ledger_clean();
}

/// A store that is another file than before: sessions end at the next lease renewal.
#[test]
fn a_replaced_store_ends_sessions_and_admits_nobody() {
    for remove in [true, false] {
        let world = World::new();
        let client = world.client();
        let ssh = Running::start(client.exec("while :; do echo x; sleep 0.05; done").stdin(Stdio::null()));
        ssh.await_out("x\n", secs(20));
        let store = world.bastion.state().join("store.db");
        if remove {
            std::fs::remove_file(&store).unwrap();
        } else {
            let copy = world.bastion.dir().join("copy.db");
            std::fs::copy(&store, &copy).unwrap();
            std::fs::rename(&copy, &store).unwrap();
        }
        let began = Instant::now();
        let done = ssh.finish(secs(20));
        assert_eq!(done.code(), 255, "removed: {remove}");
        assert!(
            done.err().contains("portcullis: the gate cannot check grants any more"),
            "{}",
            done.err()
        );
        assert!(began.elapsed() < secs(14), "{:?}", began.elapsed());
        let refused = run(&mut client.exec("echo never"), secs(30));
        assert_eq!((refused.code(), refused.out().as_str()), (255, ""));
        wait_until("the recording in the archive or in the spool", secs(20), || {
            !world.bastion.archived().is_empty() || !world.bastion.spooled().is_empty()
        });
        assert!(std::path::Path::new(&format!("/proc/{}", world.bastion.pid())).exists());
    }
}

/// Somebody holds the store's lock for 6 s: sessions live on, new ones wait or are told.
#[test]
fn a_locked_store_delays_and_then_refuses() {
    let mut world = World::new();
    let client = world.client();
    let ssh = Running::start(client.exec("while :; do echo x; sleep 0.05; done").stdin(Stdio::null()));
    ssh.await_out("x\n", secs(20));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let url = format!("sqlite://{}", world.bastion.state().join("store.db").display());
    runtime.block_on(async {
        let mut holder = sqlx::SqliteConnection::connect(&url).await.unwrap();
        holder.execute("BEGIN IMMEDIATE").await.unwrap();
        let_pass(secs(6));
        holder.execute("ROLLBACK").await.unwrap();
    });
    let before = ssh.stdout().len();
    wait_until("the session to print on", secs(5), || ssh.stdout().len() > before);
    assert_eq!(run(&mut client.exec("echo new"), secs(20)).ok().out(), "new\n");
    // Longer than the lease: everybody out, with a reason.
    let began = Instant::now();
    let (done, refused) = runtime.block_on(async {
        let mut holder = sqlx::SqliteConnection::connect(&url).await.unwrap();
        holder.execute("BEGIN IMMEDIATE").await.unwrap();
        let done = ssh.finish(secs(20));
        let refused = run(&mut client.exec("echo never"), secs(30));
        holder.execute("ROLLBACK").await.unwrap();
        (done, refused)
    });
    assert!(began.elapsed() < secs(40), "{:?}", began.elapsed());
    assert_eq!(done.code(), 255);
    assert!(
        done.err().contains("portcullis: the gate cannot check grants any more"),
        "{}",
        done.err()
    );
    assert_eq!((refused.code(), refused.out().as_str()), (255, ""));
    wait_until("the gate to admit again", secs(20), || {
        run(&mut client.exec("echo on"), secs(20)).out() == "on\n"
    });
    // What could not be filed while the store was locked is filed at the next start.
    world.bastion.stop(secs(30));
    world.bastion.serve();
    for record in world.bastion.records(3) {
        record.assert_sealed();
        record.assert_balanced();
    }
    world.bastion.assert_ledger_clean();
}

/// Sealing meets a full disk: the reserve is there for it, and the archive's
/// own failure keeps the spool for the next start.
#[test]
fn an_archive_without_room_keeps_the_spool() {
    let mut world = World::new();
    let pass = world.pass();
    let archive = world.bastion.archive();
    let small = crate::support::fault::Tmpfs::mount(&archive, 64 * 1024);
    let client = world.bastion.client(&pass);
    let done = run(&mut client.exec("head -c 3000000 /dev/urandom"), secs(20)).ok();
    wait_until("the session's end", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_eq!(world.bastion.spooled().len(), 1, "the spool was given up");
    assert!(world.bastion.log().contains("archived"), "{}", world.bastion.log());
    small.remount("size=64m");
    world.bastion.stop(secs(30));
    world.bastion.serve();
    let record = world.bastion.only_record();
    assert!(record.output(1) == done.stdout);
    world.bastion.assert_ledger_clean();
    world.bastion.stop(secs(30));
    drop(small);
}

/// A recording does not wait in the spool for the next start when the archive comes back.
#[test]
fn an_archive_that_comes_back_gets_its_recording() {
    let world = World::new();
    let archive = world.bastion.state().join("archive");
    let away = world.bastion.state().join("archive.away");
    let client = world.client();
    let mut ssh = Running::with_input(&mut client.exec("echo up; cat"));
    ssh.await_out("up", secs(20));
    std::fs::rename(&archive, &away).unwrap();
    std::fs::write(&archive, "in the way").unwrap();
    ssh.say("bye\n");
    assert_eq!(ssh.finish(secs(20)).code(), 0);
    wait_until("a failed try", secs(20), || {
        world.bastion.log().contains("trying again")
    });
    std::fs::remove_file(&archive).unwrap();
    std::fs::rename(&away, &archive).unwrap();
    world.bastion.await_records(1, secs(40));
    world.bastion.only_record().assert_sealed();
    world.bastion.assert_ledger_clean();
}

/// A disk that is slow when the session's head is synced, and a grant that ends
/// meanwhile: the ledger has no opening, and nothing was dialled.
#[test]
fn a_session_that_ends_before_the_ledger_has_it_is_filed_all_the_same() {
    let world = World::new();
    let client = world.bastion.client(&world.bastion.pass("root@db1").secs(6).issue());
    let log = world.bastion.fresh("strace", "");
    let strace = inject(world.bastion.pid(), "fdatasync:delay_enter=20000000", &log);
    let ssh = Running::start(client.exec("echo in").stdin(Stdio::null()));
    wait_until("the session's folder", secs(6), || !world.bastion.spooled().is_empty());
    let done = ssh.finish(secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    // The disk is quick again.
    drop(strace);
    let record = world.bastion.only_record();
    record.assert_sealed();
    assert_eq!(record.code(), "grant_expired");
    assert!(!world.sshd.log().contains("Connection from"), "the target was dialled");
    world.bastion.assert_ledger_clean();
    assert!(world.bastion.spooled().is_empty());
}
