//! Inside an authenticated connection: what a holder of a good certificate
//! may ask for and must not get, byte for byte in the recording.

use portcullis_recording::{Event, Timed};

use crate::hostile::{assert_unharmed, inside, login, record_after, still_inside};
use crate::raw::channels::{Channel, Outcome, PACKET, WINDOW, opened};
use crate::raw::wire::{Put, msg};
use crate::raw::{Fault, Peer};
use crate::support::process::status_kb;
use crate::support::{Case, Record, Setup, Variant, World, secs, wait_until};

#[track_caller]
fn exec(peer: &mut Peer, channel: &Channel, command: &str) -> Outcome {
    peer.exec(channel, command).unwrap();
    peer.outcome(channel, secs(20)).unwrap()
}

fn details(record: &Record, kind: &str) -> Vec<Vec<u8>> {
    let requests = record.requests(1).into_iter();
    requests
        .filter(|(name, _)| name == kind)
        .map(|(_, detail)| detail)
        .collect()
}

#[test]
fn d18_only_listed_variables_pass_and_all_are_recorded() {
    let world = World::with(Setup::new(), Variant::default().line("AcceptEnv *"));
    let (mut peer, channel) = inside(&world);
    let bad = [
        ("LD_PRELOAD", "/tmp/x.so"),
        ("PATH", "/tmp"),
        ("SSH_ORIGINAL_COMMAND", "id"),
        ("BASH_ENV", "/tmp/x"),
        ("lang", "C"),
        ("LANGUAGE", "C"),
        ("LC", "C"),
        ("", "empty"),
        ("LANG=X\nPATH", "/tmp"),
        ("A\0LANG", "C"),
    ];
    for (name, value) in bad {
        let _case = Case::new("D18", format_args!("env {name:?}"));
        peer.env(&channel, name, value).unwrap();
        assert!(!peer.replied().unwrap(), "{name:?} passed");
    }
    for (name, value) in [("LANG", "C.UTF-8"), ("LC_PORTCULLIS", "two words\n")] {
        peer.env(&channel, name, value).unwrap();
        assert!(peer.replied().unwrap(), "{name} refused");
    }
    // A value beyond what anything needs.
    peer.env(&channel, "LC_BIG", "x".repeat(200 * 1024)).unwrap();
    assert!(!peer.replied().unwrap());
    let outcome = exec(&mut peer, &channel, "env");
    let out = String::from_utf8_lossy(&outcome.out).into_owned();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(
        out.contains("LANG=C.UTF-8\n") && out.contains("LC_PORTCULLIS=two words\n\n"),
        "{out}"
    );
    for word in [
        "LD_PRELOAD",
        "BASH_ENV",
        "SSH_ORIGINAL_COMMAND",
        "PATH=/tmp",
        "LC_BIG",
        "LANGUAGE",
    ] {
        assert!(!out.contains(word), "{word} reached the target:\n{out}");
    }
    let record = record_after(&world, peer);
    let seen = details(&record, "env");
    for (name, value) in bad {
        assert!(
            seen.contains(&format!("{name}={value}").into_bytes()),
            "{name:?} is not recorded"
        );
    }
    assert_eq!(seen.len(), bad.len() + 3);
}

#[test]
fn d18_ten_thousand_variables_and_a_value_of_a_mebibyte() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    let mut sent = 0;
    while sent < 10_000 && peer.env(&channel, format!("LC_{sent}"), "x").is_ok() {
        sent += 1;
    }
    // More than anybody has: the session ends, and says so in its seal.
    peer.drained(secs(10)).unwrap();
    let record = record_after(&world, peer);
    assert_eq!(record.code(), "protocol");
    let passed = record
        .decisions(1)
        .iter()
        .filter(|(action, allowed, _)| action == "env" && *allowed)
        .count();
    assert!(details(&record, "env").len() < 1000 && passed < 1000);

    // No packet is that long.
    let (mut peer, channel) = inside(&world);
    peer.env(&channel, "LC_BIG", "x".repeat(1024 * 1024)).ok();
    peer.drained(secs(10)).unwrap();
    assert_unharmed(&world, pid);
}

#[test]
fn d19_subsystems_by_their_exact_name_only() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, _) = inside(&world);
    for name in [
        "sftp\0x",
        "sftp\0",
        "../sftp",
        "SFTP",
        "sftp ",
        " sftp",
        "",
        "netconf",
        "/usr/lib/openssh/sftp-server",
    ] {
        let _case = Case::new("D19", format_args!("subsystem {name:?}"));
        let channel = peer.session().unwrap().unwrap();
        peer.subsystem(&channel, name).unwrap();
        let mut outcome = Outcome::default();
        peer.collect(&channel, &mut outcome, secs(10), |outcome| {
            outcome.failures + outcome.successes > 0
        })
        .unwrap();
        assert_eq!((outcome.failures, outcome.successes), (1, 0), "{name:?}");
        peer.close(channel.theirs).unwrap();
    }
    assert!(still_inside(&mut peer).unwrap());
    let record = record_after(&world, peer);
    let asked: Vec<Vec<u8>> = record
        .channels()
        .iter()
        .flat_map(|channel| record.requests(*channel))
        .map(|(_, detail)| detail)
        .collect();
    for name in ["sftp\0x", "../sftp"] {
        assert!(asked.contains(&name.as_bytes().to_vec()), "{name:?} is not recorded");
    }
    assert_unharmed(&world, pid);
}

#[test]
fn d19_commands_long_and_odd() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    // Longer than any command that is carried: refused, the channel lives.
    peer.exec(&channel, "x".repeat(200 * 1024)).unwrap();
    assert!(!peer.replied().unwrap());
    let odd = "printf 'a\\nb'\n# \x1b]0;title\x07 \x1b[2J \u{9b}31m \r\n";
    let outcome = exec(&mut peer, &channel, odd);
    assert_eq!(
        (outcome.out.as_slice(), outcome.status),
        (b"a\nb".as_slice(), Some(0)),
        "{outcome:?}"
    );
    // A second program on the same channel: refused.
    let channel = peer.session().unwrap().unwrap();
    peer.exec(&channel, "cat").unwrap();
    assert!(peer.replied().unwrap());
    peer.exec(&channel, "id").unwrap();
    assert!(!peer.replied().unwrap());
    peer.ask(&channel, "shell", true, &[]).unwrap();
    assert!(!peer.replied().unwrap());
    let record = record_after(&world, peer);
    assert!(
        details(&record, "exec").contains(&odd.as_bytes().to_vec()),
        "not byte for byte"
    );

    let (mut peer, channel) = inside(&world);
    peer.exec(&channel, "x".repeat(1024 * 1024)).ok();
    peer.drained(secs(10)).unwrap();

    let log = world.bastion.log();
    assert!(
        !log.bytes().any(|byte| byte == 0x1b || byte == 7),
        "a control byte in the log"
    );
    assert_unharmed(&world, pid);
}

#[test]
fn d20_a_thousand_channels_at_once() {
    let world = World::new();
    let pid = world.bastion.pid();
    let mut peer = login(&world.bastion, &world.pass());
    for _ in 0..1000 {
        peer.ask_channel("session", WINDOW, PACKET, &[]).unwrap();
    }
    let (mut accepted, mut refused) = (Vec::new(), 0);
    while accepted.len() + refused < 1000 {
        let answer = peer
            .expect_within(&[msg::CHANNEL_OPEN_CONFIRMATION, msg::CHANNEL_OPEN_FAILURE], secs(60))
            .unwrap();
        match opened(&answer) {
            Ok(channel) => accepted.push(channel),
            Err(_) => refused += 1,
        }
    }
    assert!(
        !accepted.is_empty() && accepted.len() <= 64,
        "{} channels",
        accepted.len()
    );
    // Closing makes room again.
    for channel in &accepted {
        peer.close(channel.theirs).unwrap();
    }
    let mut closed = 0;
    while closed < accepted.len() {
        peer.expect(&[msg::CHANNEL_CLOSE]).unwrap();
        closed += 1;
    }
    let channel = peer.session().unwrap().unwrap();
    assert_eq!(exec(&mut peer, &channel, "echo room").out, b"room\n");
    drop(peer);
    wait_until("the end of its session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
}

#[test]
fn d20_data_where_none_belongs() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    peer.exec(&channel, "cat").unwrap();
    assert!(peer.replied().unwrap());
    for unknown in [channel.theirs + 1, 77, u32::MAX, u32::MAX - 1] {
        peer.data(unknown, b"to nobody").unwrap();
        peer.eof(unknown).unwrap();
        peer.close(unknown).unwrap();
        peer.send(
            &Put::message(msg::CHANNEL_WINDOW_ADJUST)
                .u32(unknown)
                .u32(u32::MAX)
                .done(),
        )
        .unwrap();
        let stray = Channel {
            ours: 9,
            theirs: unknown,
            window: 0,
        };
        peer.exec(&stray, "id").unwrap();
    }
    assert!(still_inside(&mut peer).unwrap());
    peer.data(channel.theirs, b"before").unwrap();
    peer.eof(channel.theirs).unwrap();
    peer.data(channel.theirs, b"after eof").unwrap();
    peer.eof(channel.theirs).unwrap();
    let outcome = peer.outcome(&channel, secs(10)).unwrap();
    assert!(outcome.out.starts_with(b"before"), "{outcome:?}");
    peer.close(channel.theirs).ok();
    peer.data(channel.theirs, b"after close").ok();
    peer.close(channel.theirs).ok();
    let record = record_after(&world, peer);
    assert!(record.input(1).starts_with(b"before"));
    assert_unharmed(&world, pid);
}

#[test]
fn d20_sixteen_mebibytes_past_the_window() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    // Reads nothing; the window opens no further.
    peer.exec(&channel, "exec sleep 60").unwrap();
    assert!(peer.replied().unwrap());
    let before = status_kb(pid, "VmRSS");
    let chunk = vec![b'x'; 32 * 1024 - 64];
    let mut past = 0usize;
    peer.stream.set_write_timeout(Some(secs(5))).unwrap();
    while past < channel.window as usize + 16 * 1024 * 1024 {
        // A server that ends it, or takes no more, is right too.
        if peer.data(channel.theirs, &chunk).is_err() {
            break;
        }
        past += chunk.len();
    }
    // Others are served meanwhile, and the memory is bounded.
    assert_unharmed(&world, pid);
    let grown = status_kb(pid, "VmHWM").saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} kB more");
    drop(peer);
    wait_until("the end of every session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
}

#[test]
fn d20_a_largest_packet_of_nothing() {
    let world = World::new();
    let pid = world.bastion.pid();
    for (window, packet) in [(WINDOW, 0), (0, PACKET), (0, 0), (1, 1), (u32::MAX, u32::MAX)] {
        let _case = Case::new("D20", format_args!("window {window}, packets of {packet}"));
        let mut peer = login(&world.bastion, &world.pass());
        // Refusing such a channel, or the connection, is right too.
        let Ok(Ok(channel)) = peer.session_with(window, packet) else {
            continue;
        };
        peer.exec(&channel, "head -c 100000 /dev/zero").unwrap();
        if packet != 0 {
            // A window of one byte: the output comes byte by byte, or not at all.
            assert!(still_inside(&mut peer).unwrap(), "window {window}, packet {packet}");
        }
        for _ in 0..64 {
            let more = Put::message(msg::CHANNEL_WINDOW_ADJUST)
                .u32(channel.theirs)
                .u32(u32::MAX);
            peer.send(&more.done()).ok();
        }
        assert_unharmed(&world, pid);
    }
    wait_until("the end of every session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    // Nothing spins behind a closed door.
    let spent = || cpu_ticks(pid);
    let start = spent();
    crate::support::wait::let_pass(secs(1));
    assert!(spent() - start < 30, "the server is busy with nothing");
}

/// Processor time of a process, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn d21_windows_of_any_size_and_many_of_them() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    peer.pty(&channel, 0, 0).unwrap();
    assert!(peer.replied().unwrap());
    peer.exec(&channel, "stty -echo; echo ready; read line; stty size")
        .unwrap();
    let mut outcome = Outcome::default();
    let says =
        |text: &'static [u8]| move |outcome: &Outcome| outcome.out.windows(text.len()).any(|window| window == text);
    peer.collect(&channel, &mut outcome, secs(10), says(b"ready")).unwrap();
    let before = status_kb(pid, "VmRSS");
    for size in [(0, 0), (u32::MAX, u32::MAX), (1, 1), (0, u32::MAX), (500, 200)] {
        peer.window_change(&channel, size.0, size.1).unwrap();
    }
    for number in 0..100_000u32 {
        peer.window_change(&channel, 20 + number % 200, 10 + number % 50)
            .unwrap();
    }
    peer.window_change(&channel, 123, 45).unwrap();
    assert!(still_inside(&mut peer).unwrap(), "the flood ended the connection");
    peer.data(channel.theirs, b"\n").unwrap();
    let rest = peer.outcome(&channel, secs(30)).unwrap();
    let out = String::from_utf8_lossy(&rest.out).into_owned();
    assert!(out.contains("45 123"), "the last size did not arrive: {out:?}");
    assert!(status_kb(pid, "VmHWM").saturating_sub(before) < 48 * 1024);
    let record = record_after(&world, peer);
    let sizes: Vec<(u32, u32)> = record
        .events
        .iter()
        .filter_map(|timed| match timed.event {
            portcullis_recording::Event::Resize { cols, rows, .. } => Some((cols, rows)),
            _ => None,
        })
        .collect();
    assert!(
        sizes
            .iter()
            .all(|(cols, rows)| (1..=4096).contains(cols) && (1..=4096).contains(rows))
    );
    assert!(
        sizes.len() < 10_000,
        "{} sizes are recorded: nothing limits their rate",
        sizes.len()
    );
    assert_unharmed(&world, pid);
}

/// GHSA-cqjc-rmpq-xprq: more terminal modes than there are numbers for.
#[test]
fn d21_terminal_modes_by_the_hundred() {
    let world = World::new();
    let pid = world.bastion.pid();
    let mode = |code: u8, value: u32| Put::default().u8(code).u32(value).done();
    let many = |count: usize| {
        (0..count)
            .flat_map(|at| mode((at % 159) as u8 + 1, 1))
            .collect::<Vec<u8>>()
    };
    let lists: [(&str, Vec<u8>); 8] = [
        ("none, and no end", Vec::new()),
        ("130", many(130)),
        ("131", many(131)),
        ("5000", many(5000)),
        ("unknown ones", (0..100).flat_map(|_| mode(200, 7)).chain([0]).collect()),
        ("half a mode", vec![53, 0, 0]),
        ("the end first", [vec![0], many(10)].concat()),
        (
            "values of all ones",
            [mode(53, u32::MAX), mode(128, u32::MAX), vec![0]].concat(),
        ),
    ];
    for (name, modes) in lists {
        let _case = Case::new("D21", format_args!("terminal modes: {name}"));
        let (mut peer, channel) = inside(&world);
        let extra = Put::default()
            .string("xterm")
            .u32(80)
            .u32(24)
            .u32(0)
            .u32(0)
            .string(&modes);
        peer.ask(&channel, "pty-req", true, &extra.done()).unwrap();
        // Taken, refused, or the end of the connection; no silence.
        match peer.replied() {
            Ok(_) | Err(Fault::Closed) => {}
            Err(fault) => panic!("{name}: {fault:?}"),
        }
        drop(peer);
        assert_unharmed(&world, pid);
    }
}

/// A client that asks for something more behind a program that is refused is
/// not left waiting: it gets the refusal, or the channel's end.
#[test]
fn a_refused_start_is_answered_whatever_follows_it() {
    let world = World::new();
    let pid = world.bastion.pid();
    let pass = world.bastion.pass("root@db1").allow("shell").issue();
    let mut peer = login(&world.bastion, &pass);
    for _ in 0..3 {
        let channel = peer.session().unwrap().unwrap();
        peer.exec(&channel, "id").unwrap();
        peer.window_change(&channel, 80, 24).unwrap();
        let mut outcome = Outcome::default();
        peer.collect(&channel, &mut outcome, secs(20), |outcome| {
            outcome.failures > 0 || outcome.closed
        })
        .unwrap();
        assert_eq!((outcome.successes, outcome.out.len()), (0, 0));
        let said = String::from_utf8_lossy(&outcome.err).into_owned();
        assert!(said.contains("--allow exec"), "{said}");
    }
    let record = record_after(&world, peer);
    record.assert_balanced();
    assert_eq!(record.channels(), [1, 2, 3]);
    assert_unharmed(&world, pid);
}

#[test]
fn bytes_before_a_program_stay_here() {
    let world = World::new();
    let (mut peer, channel) = inside(&world);
    peer.data(channel.theirs, b"ear").unwrap();
    peer.data(channel.theirs, b"ly").unwrap();
    peer.exec(&channel, "cat").unwrap();
    peer.data(channel.theirs, b"late").unwrap();
    peer.eof(channel.theirs).unwrap();
    let outcome = peer.outcome(&channel, secs(10)).unwrap();
    assert_eq!(outcome.out, b"late", "{outcome:?}");
    let record = record_after(&world, peer);
    record.assert_balanced();
    let account = record.accounts()[0];
    assert_eq!((account.withheld, account.to_target), (5, 4));
    assert_eq!(record.input(1), b"earlylate");
    let said = |timed: &&Timed| matches!(&timed.event, Event::Marker { text } if text.contains("before a program"));
    assert_eq!(record.events.iter().filter(said).count(), 1);
}
