//! Channels that lead elsewhere: what is not carried is refused, in words,
//! recorded, and nothing is dialled.

use crate::hostile::{assert_unharmed, inside, record_after, still_inside};
use crate::raw::channels::{PACKET, WINDOW};
use crate::raw::wire::{Put, msg};
use crate::support::{Case, Record, World, secs};

/// Actions that were refused, of the session and of each channel.
fn denied(record: &Record) -> Vec<String> {
    std::iter::once(0)
        .chain(record.channels())
        .flat_map(|channel| record.decisions(channel))
        .filter(|(_, allowed, _)| !allowed)
        .map(|(action, ..)| action)
        .collect()
}

/// What the grant does not name is refused, in words, and recorded.
#[test]
fn d17_channels_and_forwards_that_are_not_carried() {
    let world = World::new();
    let pid = world.bastion.pid();
    let (mut peer, channel) = inside(&world);
    let dial = || Put::default().string("127.0.0.1").u32(22).string("127.0.0.1").u32(1);
    for (kind, extra) in [
        ("direct-tcpip", dial().done()),
        ("forwarded-tcpip", dial().done()),
        ("x11", Put::default().string("127.0.0.1").u32(1).done()),
        (
            "direct-streamlocal@openssh.com",
            Put::default().string("/tmp/x").string("").u32(0).done(),
        ),
        ("auth-agent@openssh.com", Vec::new()),
        ("tun@openssh.com", Put::default().u32(1).u32(0).done()),
        ("session\0", Vec::new()),
        ("nonsense@example.com", Vec::new()),
    ] {
        let _case = Case::new("D17", format_args!("channel {kind:?}"));
        peer.ask_channel(kind, WINDOW, PACKET, &extra).unwrap();
        let answer = peer
            .expect(&[msg::CHANNEL_OPEN_CONFIRMATION, msg::CHANNEL_OPEN_FAILURE])
            .unwrap();
        assert_eq!(answer[0], msg::CHANNEL_OPEN_FAILURE, "{kind} was opened");
        // russh refuses some kinds twice; what may not come is a confirmation.
        assert!(still_inside(&mut peer).unwrap());
    }
    for (kind, extra) in [
        ("auth-agent-req@openssh.com", Vec::new()),
        (
            "x11-req",
            Put::default()
                .bool(false)
                .string("MIT-MAGIC-COOKIE-1")
                .string("00")
                .u32(0)
                .done(),
        ),
        ("nonsense@example.com", Vec::new()),
    ] {
        let _case = Case::new("D17", format_args!("request {kind}"));
        peer.ask(&channel, kind, true, &extra).unwrap();
        assert!(!peer.replied().unwrap(), "{kind}");
    }
    for (kind, extra) in [
        ("tcpip-forward", Put::default().string("0.0.0.0").u32(0).done()),
        (
            "streamlocal-forward@openssh.com",
            Put::default().string("/tmp/pc-test").done(),
        ),
    ] {
        let _case = Case::new("D17", format_args!("global request {kind}"));
        peer.send(
            &Put::message(msg::GLOBAL_REQUEST)
                .string(kind)
                .bool(true)
                .raw(&extra)
                .done(),
        )
        .unwrap();
        assert_eq!(
            peer.expect(&[81, msg::REQUEST_FAILURE]).unwrap()[0],
            msg::REQUEST_FAILURE,
            "{kind}"
        );
    }
    peer.exec(&channel, "echo well").unwrap();
    assert_eq!(peer.outcome(&channel, secs(20)).unwrap().out, b"well\n");
    let record = record_after(&world, peer);
    let denied = denied(&record);
    for action in ["forward", "remote-forward", "agent", "x11"] {
        assert!(
            denied.iter().any(|denied| denied == action),
            "{action} is not in the recording: {denied:?}"
        );
    }
    assert_unharmed(&world, pid);
}

/// Addresses that mean this machine or its neighbourhood, however they are written.
#[test]
fn d15_nothing_of_this_machine_is_reached() {
    let world = World::new();
    let pid = world.bastion.pid();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = u32::from(listener.local_addr().unwrap().port());
    let (mut peer, _) = inside(&world);
    for host in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "0",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "localhost",
        "LOCALHOST.",
        "169.254.169.254",
        "[::1]",
        "127.0.0.1%lo",
        "gate1",
        "db1",
    ] {
        let _case = Case::new("D15", host);
        let dial = Put::default().string(host).u32(port).string("127.0.0.1").u32(1);
        peer.ask_channel("direct-tcpip", WINDOW, PACKET, &dial.done()).unwrap();
        let answer = peer
            .expect(&[msg::CHANNEL_OPEN_CONFIRMATION, msg::CHANNEL_OPEN_FAILURE])
            .unwrap();
        assert_eq!(answer[0], msg::CHANNEL_OPEN_FAILURE, "{host} was opened");
        assert!(still_inside(&mut peer).unwrap());
        assert!(listener.accept().is_err(), "{host} was dialled");
    }
    let record = record_after(&world, peer);
    let refused = denied(&record).len();
    assert!(refused >= 17, "{refused} refusals are recorded");
    assert_unharmed(&world, pid);
}

/// What is sent into a channel that was refused reaches nobody.
#[test]
fn d16_no_raw_bytes_in_a_forwarded_channel() {
    let _case = Case::new("D16", "HTTP in a forwarded channel");
    let world = World::new();
    let pid = world.bastion.pid();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = u32::from(listener.local_addr().unwrap().port());
    let (mut peer, _) = inside(&world);
    let dial = Put::default().string("127.0.0.1").u32(port).string("127.0.0.1").u32(1);
    // The bytes follow the request at once, before its answer.
    peer.ask_channel("direct-tcpip", WINDOW, PACKET, &dial.done()).unwrap();
    for channel in 0..4 {
        peer.data(channel, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    assert!(still_inside(&mut peer).is_ok());
    assert!(listener.accept().is_err(), "it was dialled");
    drop(peer);
    assert_unharmed(&world, pid);
}

/// Refusals are recorded and told to people: nobody may ask on and on.
#[test]
fn d20_refusals_without_end() {
    let world = World::new();
    let pid = world.bastion.pid();
    let dial = Put::default().string("127.0.0.1").u32(22).string("127.0.0.1").u32(1);
    let open = Put::message(msg::CHANNEL_OPEN)
        .string("direct-tcpip")
        .u32(9)
        .u32(1 << 20);
    // No answer wanted: the one that is read is that of `still_inside`.
    let forward = Put::message(msg::GLOBAL_REQUEST).string("tcpip-forward").bool(false);
    let floods = [
        ("direct-tcpip", open.u32(PACKET).raw(&dial.done()).done()),
        ("tcpip-forward", forward.string("0.0.0.0").u32(0).done()),
    ];
    for (at, (name, payload)) in floods.into_iter().enumerate() {
        let _case = Case::new("D20", format_args!("refusals without end: {name}"));
        let (mut peer, _) = inside(&world);
        let mut asked = 0;
        // Answers are read in between: what ends it is not a full socket.
        while asked < 20_000 && (0..100).all(|_| peer.send(&payload).is_ok()) {
            asked += 100;
            if !still_inside(&mut peer).unwrap_or(false) {
                break;
            }
        }
        assert!(asked < 20_000, "{name}: {asked} refusals and still there");
        drop(peer);
        let record = world.bastion.records(at + 1).pop().unwrap();
        assert_eq!(record.code(), "protocol", "{name}");
        assert!(denied(&record).len() < 1000, "{name}");
    }
    assert_unharmed(&world, pid);
}
