//! Flow control, the short rows of `russh-probe.md` 2.2: nothing hangs,
//! nothing is lost, memory stays bounded, whoever stops reading.

use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::channels::master;
use crate::support::bytes::Pattern;
use crate::support::process::{kill_tree, status_kb};
use crate::support::wait::let_pass;
use crate::support::{World, run, secs};

pub const MIB: u64 = 1 << 20;
/// Most that the server may ever have had in memory for a session with a
/// backlog; more goes to the overflow file.
pub const PEAK_KB_MAX: u64 = 128 * 1024;

/// What a transfer came to.
#[derive(Debug)]
pub struct Moved {
    /// Bytes that the program took.
    pub sent: u64,
    /// Bytes that came back, or where they were wrong.
    pub got: Result<u64, u64>,
    pub code: Option<i32>,
    #[expect(dead_code, reason = "told by failures, through Debug")]
    pub took: Duration,
}

/// Bytes to send: a pattern's seed and how many.
pub type Send = Option<(u64, u64)>;

/// Runs `command`, writes to it and reads from it at the same time; killed after `limit`.
#[track_caller]
pub fn transfer(
    command: &mut Command,
    send: Send,
    read: impl FnOnce(ChildStdout) -> Result<u64, u64> + std::marker::Send + 'static,
    limit: Duration,
) -> Moved {
    let began = Instant::now();
    let stdin = if send.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take();
    let writer = std::thread::spawn(move || match (stdin, send) {
        (Some(stdin), Some((seed, length))) => Pattern::new(seed).write_to(stdin, length),
        _ => 0,
    });
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || read(stdout));
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > limit {
            kill_tree(child.id());
            child.wait().unwrap();
            let got = reader.join().unwrap();
            panic!(
                "hung: {limit:?} are over; written {:?}, read {got:?}",
                writer.join().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Moved {
        sent: writer.join().unwrap(),
        got: reader.join().unwrap(),
        code: status.code(),
        took: began.elapsed(),
    }
}

/// Reads to the end and compares with a pattern.
pub fn check(seed: u64) -> impl FnOnce(ChildStdout) -> Result<u64, u64> + std::marker::Send + 'static {
    move |from| Pattern::new(seed).check(from)
}

/// Reads zeros to the end.
pub fn zeros(mut from: ChildStdout) -> Result<u64, u64> {
    use std::io::Read;
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        if buffer[..got].iter().any(|byte| *byte != 0) {
            return Err(total);
        }
        total += got as u64;
    }
    Ok(total)
}

/// The same, but does something once after the first MiB.
pub fn zeros_with_break(
    pause: impl FnOnce() + std::marker::Send + 'static,
) -> impl FnOnce(ChildStdout) -> Result<u64, u64> + std::marker::Send + 'static {
    move |mut from| {
        use std::io::Read;
        let mut first = vec![0; MIB as usize];
        from.read_exact(&mut first).map_err(|_| 0u64)?;
        pause();
        zeros(from).map(|rest| rest + MIB)
    }
}

/// The server never held more than this.
#[track_caller]
pub fn assert_peak(world: &World) {
    let peak = status_kb(world.bastion.pid(), "VmHWM");
    assert!(peak < PEAK_KB_MAX, "the server's memory peaked at {peak} kB");
}

/// Every recording sealed and balanced.
#[track_caller]
pub fn assert_records(world: &World, count: usize) {
    for record in world.bastion.skimmed(count) {
        record.assert_sealed();
        record.assert_balanced();
    }
}

/// Row 1: through `cat` and back. The probe's 256 MiB once, then its ten runs at a quarter of that.
#[test]
fn through_cat_and_back_eleven_times() {
    let world = World::new();
    let client = world.client();
    for round in 0..11 {
        let bytes = if round == 0 { 256 * MIB } else { 64 * MIB };
        let moved = transfer(&mut client.exec("cat"), Some((round, bytes)), check(round), secs(90));
        assert_eq!(
            (moved.got, moved.sent, moved.code),
            (Ok(bytes), bytes, Some(0)),
            "{moved:?}"
        );
    }
    assert_peak(&world);
    assert_records(&world, 11);
}

/// Row 2, first form: a program that never reads its input.
#[test]
fn ignored_input_and_much_output() {
    let world = World::new();
    let moved = transfer(
        &mut world.client().exec("head -c 300000000 /dev/zero"),
        Some((1, 100_000_000)),
        zeros,
        secs(60),
    );
    assert_eq!((moved.got, moved.code), (Ok(300_000_000), Some(0)), "{moved:?}");
    assert_peak(&world);
    assert_records(&world, 1);
}

/// Row 2, second form: a program that reads its input only when it has printed all.
#[test]
fn output_first_and_input_afterwards() {
    let world = World::new();
    let moved = transfer(
        &mut world.client().exec("head -c 300000000 /dev/zero; wc -c >&2"),
        Some((1, 100_000_000)),
        zeros,
        secs(60),
    );
    assert_eq!(
        (moved.got, moved.sent, moved.code),
        (Ok(300_000_000), 100_000_000, Some(0)),
        "{moved:?}"
    );
    assert_peak(&world);
    let record = &world.bastion.skimmed(1)[0];
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.accounts()[0].to_target, 100_000_000);
}

/// Row 8: writes everything first and reads afterwards, at both ends at once.
#[test]
fn writes_first_and_reads_afterwards() {
    let world = World::new();
    let client = world.client();
    let file = world.sshd.folder().join("all");
    // The client reads nothing before it has written everything.
    let command = format!("cat > {0}; cat {0}", file.display());
    let mut child = client
        .exec(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let stdout = child.stdout.take().unwrap();
    let both = std::thread::spawn(move || {
        let sent = Pattern::new(5).write_to(stdin, 100_000_000);
        (sent, Pattern::new(5).check(stdout))
    });
    let began = Instant::now();
    while !both.is_finished() {
        if began.elapsed() > secs(60) {
            kill_tree(child.id());
            panic!("hung: {:?}", both.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(both.join().unwrap(), (100_000_000, Ok(100_000_000)));
    assert!(child.wait().unwrap().success());
    // The program writes everything before it reads.
    let moved = transfer(
        &mut client.exec("head -c 100000000 /dev/zero; cat > /dev/null"),
        Some((6, 100_000_000)),
        zeros,
        secs(60),
    );
    assert_eq!(
        (moved.got, moved.sent, moved.code),
        (Ok(100_000_000), 100_000_000, Some(0)),
        "{moved:?}"
    );
    assert_peak(&world);
    assert_records(&world, 2);
}

/// Rows 6 and 7: a stalled sibling on the same connection stops neither the
/// others nor a new channel.
fn beside(stall: &str, stdin: Stdio, stdout: Stdio) {
    let world = World::new();
    let client = world.client();
    let (_open, socket) = master(&world, &client);
    let mut stalled = client.through(&socket);
    let mut stalled = stalled
        .arg(stall)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Long enough that every window on its way is used up.
    let_pass(secs(3));
    for round in 0..3 {
        let moved = transfer(
            client.through(&socket).arg("cat > /dev/null"),
            Some((round, 32 * MIB)),
            zeros,
            secs(30),
        );
        assert_eq!((moved.sent, moved.code), (32 * MIB, Some(0)), "up: {moved:?}");
        let down = format!("head -c {} /dev/zero", 32 * MIB);
        let moved = transfer(client.through(&socket).arg(down), None, zeros, secs(30));
        assert_eq!((moved.got, moved.code), (Ok(32 * MIB), Some(0)), "down: {moved:?}");
        let opened = run(client.through(&socket).arg("echo a new one"), secs(10)).ok();
        assert_eq!(opened.out(), "a new one\n");
        assert!(opened.took < secs(5), "{:?}", opened.took);
    }
    assert!(stalled.try_wait().unwrap().is_none(), "the stalled one ended");
    assert_peak(&world);
    stalled.kill().unwrap();
    stalled.wait().unwrap();
    run(
        client.ssh().arg("-S").arg(&socket).args(["-O", "exit", "gate"]),
        secs(20),
    )
    .ok();
    assert_records(&world, 1);
}

#[test]
fn beside_a_stalled_download() {
    beside("cat /dev/zero", Stdio::null(), Stdio::piped());
}

#[test]
fn beside_a_stalled_upload() {
    let zero = std::fs::File::open("/dev/zero").unwrap();
    beside("sleep 300", Stdio::from(zero), Stdio::null());
}

/// Overflow files that the server has open (open(2), `O_TMPFILE`).
fn overflow_files(world: &World) -> usize {
    let spool = world.bastion.spool();
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.bastion.pid())).unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.parent() == Some(&spool))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"#"))
        })
        .count()
}

/// A client is slowed by its window alone to what the target takes: what it
/// sends stays in memory.
#[test]
fn an_upload_to_a_slow_target_stays_in_memory() {
    let world = World::new();
    let took = "for n in $(seq 96); do head -c 524288 >/dev/null; sleep 0.02; done; wc -c";
    let mut upload = world.client().exec(took);
    let (over, spilled) = (
        std::sync::atomic::AtomicBool::new(false),
        std::sync::atomic::AtomicUsize::new(0),
    );
    let moved = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                spilled.fetch_max(overflow_files(&world), std::sync::atomic::Ordering::SeqCst);
                let_pass(Duration::from_millis(2));
            }
        });
        let moved = transfer(&mut upload, Some((9, 48 * MIB)), drained, secs(90));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        moved
    });
    assert_eq!((moved.sent, moved.code), (48 * MIB, Some(0)), "{moved:?}");
    assert_eq!(spilled.into_inner(), 0, "files");
    assert_records(&world, 1);
}

fn drained(mut from: ChildStdout) -> Result<u64, u64> {
    std::io::copy(&mut from, &mut std::io::sink()).map_err(|_| 0)
}
