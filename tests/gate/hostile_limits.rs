//! What strangers may cost: time, connections, memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::hostile::{assert_no_panic, assert_unharmed, login, served, still_inside};
use crate::raw::peer::PATIENCE;
use crate::raw::wire::{Put, msg};
use crate::raw::{Hello, Peer};
use crate::support::process::status_kb;
use crate::support::{Case, Setup, Variant, World, secs, wait_until};

const GRACE: Duration = secs(2);
/// What the server's own timers and a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);

fn graced() -> World {
    World::with(Setup::new().set("ssh.login_grace_secs", "2"), Variant::default())
}

/// Waits for the server's end of a connection; how long that took.
#[track_caller]
fn until_closed(stream: &mut TcpStream, began: Instant) -> Duration {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("still open after {:?}", began.elapsed());
            }
            Err(_) => return began.elapsed(),
        }
    }
}

#[test]
fn d30_login_grace_holds_in_every_state() {
    let world = graced();
    let pid = world.bastion.pid();
    let addr = world.bastion.addr();
    let pass = world.pass();
    let kept = login(&world.bastion, &pass);
    std::thread::scope(|scope| {
        let threads = [
            (
                "silent",
                scope.spawn(|| Peer::dial(addr, Hello::default()).unwrap().stream),
            ),
            (
                "version only",
                scope.spawn(|| {
                    let mut peer = Peer::dial(addr, Hello::default()).unwrap();
                    peer.versions().unwrap();
                    peer.stream
                }),
            ),
            (
                "key exchange never finished",
                scope.spawn(|| {
                    let mut peer = Peer::dial(addr, Hello::default()).unwrap();
                    peer.versions().unwrap();
                    let kexinit = peer.kexinit();
                    peer.send(&kexinit).unwrap();
                    peer.stream
                }),
            ),
            (
                "no service asked for",
                scope.spawn(|| Peer::keyed(addr, Hello::default()).unwrap().stream),
            ),
            ("no key offered", scope.spawn(|| served(&world.bastion).stream)),
        ];
        for (name, thread) in threads {
            let _case = Case::new("D30", format_args!("login grace: {name}"));
            let began = Instant::now();
            let mut stream = thread.join().unwrap();
            let took = until_closed(&mut stream, began);
            assert!(took < GRACE + SLACK, "{name}: {took:?}");
        }
    });
    // Who is in stays in.
    let mut kept = kept;
    assert!(still_inside(&mut kept).unwrap());
    assert_unharmed(&world, pid);
}

#[test]
fn d30_a_version_byte_by_byte() {
    let world = graced();
    let pid = world.bastion.pid();
    let mut stream = TcpStream::connect(world.bastion.addr()).unwrap();
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 256];
    let ended = loop {
        assert!(began.elapsed() < GRACE + SLACK, "still listening");
        if stream.write_all(b"S").is_err() {
            break began.elapsed();
        }
        match stream.read(&mut buffer) {
            Ok(0) => break began.elapsed(),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break began.elapsed(),
        }
    };
    assert!(ended < GRACE + SLACK);
    assert_unharmed(&world, pid);
}

#[test]
fn d30_a_gibibyte_before_the_version() {
    let world = World::new();
    let pid = world.bastion.pid();
    let before = status_kb(pid, "VmRSS");
    // One line without an end, and lines without a version.
    for chunk in [vec![b'x'; 64 * 1024], b"no version\r\n".repeat(5000)] {
        let mut stream = TcpStream::connect(world.bastion.addr()).unwrap();
        stream.set_write_timeout(Some(secs(25))).unwrap();
        let mut sent = 0u64;
        while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
            sent += chunk.len() as u64;
        }
        // What the sockets' buffers hold on both sides, no more.
        assert!(sent < 16 << 20, "{sent} bytes were taken");
    }
    assert!(status_kb(pid, "VmHWM").saturating_sub(before) < 16 * 1024);
    assert_unharmed(&world, pid);
}

#[test]
fn d30_packets_that_lie_about_themselves() {
    let world = World::new();
    let pid = world.bastion.pid();
    let addr = world.bastion.addr();
    let before = status_kb(pid, "VmRSS");
    let lengths = [0u32, 1, 4, 15, 17, 256 * 1024 + 64, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    for length in lengths {
        let _case = Case::new("D30", format_args!("a packet that says {length} bytes"));
        // In the clear.
        let mut peer = Peer::dial(addr, Hello::default()).unwrap();
        peer.versions().unwrap();
        peer.send_bytes(&length.to_be_bytes()).unwrap();
        peer.send_bytes(&[9; 64]).ok();
        closes(&mut peer, &format!("length {length} in the clear"));
        // Encrypted, before and after login.
        let mut peer = served(&world.bastion);
        peer.send_spoilt(&[msg::IGNORE, 0, 0, 0, 0], |packet| {
            packet[..4].copy_from_slice(&length.to_be_bytes())
        })
        .unwrap();
        closes(&mut peer, &format!("length {length}"));
    }
    // A wrong tag, a flipped bit, half a packet.
    let pass = world.pass();
    for inside in [false, true] {
        let fresh = || {
            if inside {
                login(&world.bastion, &pass)
            } else {
                served(&world.bastion)
            }
        };
        for at in [0usize, 4, 5, 12] {
            let mut peer = fresh();
            peer.send_spoilt(&[msg::IGNORE, 0, 0, 0, 0], |packet| {
                let at = if at == 0 { packet.len() - 1 } else { at };
                packet[at] ^= 1;
            })
            .unwrap();
            closes(&mut peer, "a wrong tag");
        }
        let mut peer = fresh();
        peer.send_spoilt(&[msg::IGNORE, 0, 0, 0, 0], |packet| packet.truncate(packet.len() / 2))
            .unwrap();
        drop(peer);
    }
    assert!(status_kb(pid, "VmHWM").saturating_sub(before) < 32 * 1024);
    assert_unharmed(&world, pid);
}

/// The server ends the connection, or the lie is only half a packet so far.
#[track_caller]
fn closes(peer: &mut Peer, what: &str) {
    // Bytes that complete any packet that is still being waited for.
    let filler = vec![0x55; 300 * 1024];
    peer.send_bytes(&filler).ok();
    if let Err(fault) = peer.drained(secs(5)) {
        panic!("{what}: {fault:?}");
    }
}

#[test]
fn d30_floods_inside_a_connection() {
    let world = World::new();
    let pid = world.bastion.pid();
    let before = status_kb(pid, "VmRSS");
    let mut peer = login(&world.bastion, &world.pass());
    let channel = peer.session().unwrap().unwrap();
    for (name, payload) in [
        ("ping", Put::message(msg::PING).string([7; 64]).done()),
        ("ignore", Put::message(msg::IGNORE).string([7; 1024]).done()),
        (
            "debug",
            Put::message(msg::DEBUG).bool(true).string("x").string("").done(),
        ),
        ("unimplemented", Put::message(msg::UNIMPLEMENTED).u32(1).done()),
        ("unknown", Put::message(255).raw(&[0; 64]).done()),
    ] {
        let _case = Case::new("D30", format_args!("flood inside: {name}"));
        for _ in 0..20_000 {
            peer.send(&payload).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        }
    }
    assert!(still_inside(&mut peer).unwrap());
    // Answers are wanted faster than they are read.
    let keepalive = Put::message(msg::GLOBAL_REQUEST)
        .string("keepalive@openssh.com")
        .bool(true)
        .done();
    peer.stream.set_write_timeout(Some(secs(2))).unwrap();
    for _ in 0..200_000 {
        if peer.send(&keepalive).is_err() {
            break;
        }
    }
    assert_unharmed(&world, pid);
    drop(peer);
    assert!(channel.window > 0);

    // One key exchange after the other.
    let mut peer = login(&world.bastion, &world.pass());
    for _ in 0..200 {
        peer.exchange().unwrap();
    }
    assert!(still_inside(&mut peer).unwrap());
    // KEXINIT, and never the rest of it.
    let kexinit = peer.kexinit();
    for _ in 0..1000 {
        if peer.send(&kexinit).is_err() {
            break;
        }
    }
    peer.drained(secs(5)).unwrap();
    let grown = status_kb(pid, "VmHWM").saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} kB more");
    wait_until("the end of every session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
}

/// A connection from `from`: whether it was served a version line.
fn greeted(addr: SocketAddr, from: &str) -> Option<Peer> {
    let from: IpAddr = from.parse().unwrap();
    let hello = Hello {
        from: Some(from),
        ..Hello::default()
    };
    let mut peer = Peer::dial(addr, hello).ok()?;
    peer.versions().ok()?;
    Some(peer)
}

#[test]
fn d30_connections_per_source_are_limited() {
    let setup = Setup::new().set("ssh.exempt_networks", "[\"127.0.9.0/24\"]");
    let world = World::with(setup, Variant::default());
    let addr = world.bastion.addr();
    let began = Instant::now();
    let served: Vec<Peer> = (0..200).filter_map(|_| greeted(addr, "127.0.0.2")).collect();
    let most = 60 + (20.0 * began.elapsed().as_secs_f64()).ceil() as usize;
    assert!(
        (60..=most).contains(&served.len()),
        "{} of 200 in {:?}",
        served.len(),
        began.elapsed()
    );
    // Another source is not affected, an exempt one has no limit.
    assert!(greeted(addr, "127.0.0.3").is_some());
    let exempt: Vec<Peer> = (0..200).filter_map(|_| greeted(addr, "127.0.9.1")).collect();
    assert_eq!(exempt.len(), 200);
    // After the burst, the rate: a new connection within a tenth of a second.
    wait_until("the rate's next connection", secs(2), || {
        greeted(addr, "127.0.0.2").is_some()
    });
    assert_no_panic(&world.bastion);
}

/// GHSA-35g8-35p8-c8fw: a rekey that the client never finishes, and requests behind it.
#[test]
fn d30_floods_in_a_rekey_that_stalls() {
    let world = World::new();
    let pid = world.bastion.pid();
    let pass = world.pass();
    let open = Put::message(msg::CHANNEL_OPEN)
        .string("session")
        .u32(1)
        .u32(1 << 20)
        .u32(1 << 15);
    let global = Put::message(msg::GLOBAL_REQUEST)
        .string("keepalive@openssh.com")
        .bool(true);
    let floods = [
        ("channel opens", open.done()),
        ("global requests", global.done()),
        ("pings", Put::message(msg::PING).string([7; 64]).done()),
        (
            "data",
            Put::message(msg::CHANNEL_DATA).u32(0).string([b'x'; 30_000]).done(),
        ),
    ];
    for (name, payload) in floods {
        let _case = Case::new("D30", format_args!("flood in a rekey that stalls: {name}"));
        let mut peer = login(&world.bastion, &pass);
        let channel = peer.session().unwrap().unwrap();
        peer.exec(&channel, "cat").unwrap();
        assert!(peer.replied().unwrap());
        let before = status_kb(pid, "VmRSS");
        let kexinit = peer.kexinit();
        peer.send(&kexinit).unwrap();
        peer.stream.set_write_timeout(Some(secs(2))).unwrap();
        let sent = (0..100_000).take_while(|_| peer.send(&payload).is_ok()).count();
        assert_unharmed(&world, pid);
        let grown = status_kb(pid, "VmRSS").saturating_sub(before);
        assert!(grown < 8 * 1024, "{name}: {grown} kB more after {sent}");
    }
    wait_until("the end of every session", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
}
