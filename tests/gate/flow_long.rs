//! Flow control, the rows of `russh-probe.md` 2.2 that need time. Sizes are
//! below the probe's where only speed would differ; the shapes are its own.

use std::process::ChildStdout;
use std::time::{Duration, Instant};

use crate::channels::master;
use crate::flow::{MIB, assert_peak, assert_records, check, transfer, zeros_with_break};
use crate::support::process::status_kb;
use crate::support::wait::let_pass;
use crate::support::{Setup, Variant, World, secs, wait_until};

/// Reads zeros at `per_sec` bytes a second.
fn slowly(per_sec: u64) -> impl FnOnce(ChildStdout) -> Result<u64, u64> + Send + 'static {
    move |mut from| {
        use std::io::Read;
        let began = Instant::now();
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        while let Ok(got @ 1..) = from.read(&mut buffer) {
            total += got as u64;
            let due = Duration::from_millis(total * 1000 / per_sec);
            let_pass(due.saturating_sub(began.elapsed()));
        }
        Ok(total)
    }
}

/// Row 3: the probe's 1 GiB at 110 MB/s, here 192 MiB at 16 MB/s: the same
/// relation between a target that floods and a reader that does not keep up.
#[test]
fn a_slow_reader_gets_everything() {
    let world = World::new();
    let command = format!("head -c {} /dev/zero", 192 * MIB);
    let moved = transfer(&mut world.client().exec(&command), None, slowly(16_000_000), secs(90));
    assert_eq!((moved.got, moved.code), (Ok(192 * MIB), Some(0)), "{moved:?}");
    assert_peak(&world);
    assert_records(&world, 1);
}

/// Row 4: the reader stops for 10 s in the middle of 256 MiB.
#[test]
fn a_reader_that_stops_for_ten_seconds() {
    let world = World::new();
    let command = format!("head -c {} /dev/zero", 256 * MIB);
    let stop = zeros_with_break(|| let_pass(secs(10)));
    let moved = transfer(&mut world.client().exec(&command), None, stop, secs(90));
    assert_eq!((moved.got, moved.code), (Ok(256 * MIB), Some(0)), "{moved:?}");
    assert_peak(&world);
    assert_records(&world, 1);
}

/// Row 9: the user pauses (Ctrl-S) for 30 s at a target that hangs up on
/// peers silent for 6 s.
#[test]
fn a_paused_user_outlives_the_targets_client_alive() {
    let world = World::with(Setup::new(), Variant::client_alive());
    let command = format!("head -c {} /dev/zero", 256 * MIB);
    let pause = zeros_with_break(|| let_pass(secs(30)));
    let moved = transfer(&mut world.client().exec(&command), None, pause, secs(120));
    assert_eq!((moved.got, moved.code), (Ok(256 * MIB), Some(0)), "{moved:?}");
    assert!(!world.sshd.log().contains("Timeout"), "{}", world.sshd.log());
    assert_peak(&world);
    assert_records(&world, 1);
}

/// Row 10: many channels at once through `cat`, the probe's 32 MiB cut to what two cores do in time.
fn at_once(channels: u64, bytes: u64) {
    let world = World::new();
    let client = world.client();
    let (_open, socket) = master(&world, &client);
    let threads: Vec<_> = (0..channels)
        .map(|seed| {
            let mut command = client.through(&socket);
            command.arg("cat");
            std::thread::spawn(move || transfer(&mut command, Some((seed, bytes)), check(seed), secs(120)))
        })
        .collect();
    for thread in threads {
        let moved = thread.join().unwrap();
        assert_eq!(
            (moved.got, moved.sent, moved.code),
            (Ok(bytes), bytes, Some(0)),
            "{moved:?}"
        );
    }
    let peak = status_kb(world.bastion.pid(), "VmHWM");
    assert!(peak < (64 + 6 * channels) * 1024, "{peak} kB for {channels} channels");
    crate::support::run(
        client.ssh().arg("-S").arg(&socket).args(["-O", "exit", "gate"]),
        secs(20),
    )
    .ok();
    assert_records(&world, 1);
    wait_until("no connection left at the target", secs(20), || {
        world.sshd.sessions().is_empty()
    });
}

#[test]
fn ten_channels_at_once() {
    at_once(10, 16 * MIB);
}

#[test]
fn thirty_channels_at_once() {
    at_once(30, 4 * MIB);
}

/// Hard cap: what a reader who never comes back leaves unread is bounded, and the end has a reason.
#[test]
fn the_backlog_is_bounded() {
    let world = World::with(Setup::new().set("recording.overflow_max_mib", "16"), Variant::default());
    let mut child = world
        .client()
        .exec("cat /dev/zero")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the session", secs(20), || !world.bastion.live_sessions().is_empty());
    // Nobody reads: bounded in memory and on disk, alive or ended with a reason.
    let began = Instant::now();
    wait_until("the overflow full, or the target braked", secs(30), || {
        began.elapsed() > secs(8) || world.bastion.live_sessions().is_empty()
    });
    assert_peak(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    let record = &world.bastion.skimmed(1)[0];
    record.assert_sealed();
    record.assert_balanced();
    let account = record.accounts()[0];
    assert!(account.undelivered_down < 20 * MIB, "{account:?}");
    assert!(
        ["backlog", "client_lost"].contains(&record.code().as_str()),
        "{}",
        record.code()
    );
}
