//! The first messages of a connection, each of them wrong in its own way:
//! version lines, key exchanges, what comes before a login.

use std::io::{Read, Write};
use std::net::TcpStream;

use ed25519_dalek::SigningKey;

use crate::hostile::{assert_unharmed, is_before_login, login, served, still_inside, still_outside};
use crate::raw::channels::PACKET;
use crate::raw::wire::{Get, Put, msg};
use crate::raw::{Fault, Hello, Peer};
use crate::support::process::status_kb;
use crate::support::{Case, World, secs};

/// How far the memory may grow over one flood, in kB.
const GROWTH_KB: u64 = 8 * 1024;

fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// A connection whose versions are exchanged.
fn greeted(world: &World) -> Peer {
    let mut peer = Peer::dial(world.bastion.addr(), Hello::default()).unwrap();
    peer.versions().unwrap();
    peer
}

/// The connection ends, and before that nothing comes that is for people who are in.
#[track_caller]
fn ends(peer: &mut Peer, what: &str) {
    match peer.drained(secs(5)) {
        Ok(packets) => {
            assert!(
                packets.iter().all(|packet| is_before_login(packet)
                    || [msg::KEXINIT, msg::ECDH_REPLY, msg::NEWKEYS].contains(&packet[0])),
                "{what}"
            )
        }
        Err(fault) => panic!("{what}: {fault:?}"),
    }
}

#[test]
fn d30_version_lines() {
    let world = World::new();
    let pid = world.bastion.pid();
    let long = format!("SSH-2.0-{}\r\n", "x".repeat(300));
    let refused: &[(&str, &[u8])] = &[
        ("SSH 1.5", b"SSH-1.5-OpenSSH_1\r\n"),
        ("SSH 3", b"SSH-3.0-x\r\n"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
        ("too long", long.as_bytes()),
        ("another line first", b"hello\r\nSSH-2.0-x\r\n"),
        ("nothing", b"\r\n"),
        ("lower case", b"ssh-2.0-x\r\n"),
        ("no software", b"SSH-2.0\r\n"),
        ("proxy protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nSSH-2.0-x\r\n"),
    ];
    for (name, line) in refused {
        let _case = Case::new("D30", format_args!("version line: {name}"));
        let mut stream = TcpStream::connect(world.bastion.addr()).unwrap();
        stream.set_read_timeout(Some(secs(5))).unwrap();
        stream.write_all(line).unwrap();
        // Whoever is taken for a client of SSH gets a KEXINIT; these are hung up on.
        let mut came = Vec::new();
        let ended = stream.read_to_end(&mut came);
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(ended.as_ref().map_or_else(reset, |_| true), "{name}: {ended:?}");
        let after = came.iter().position(|byte| *byte == b'\n').map(|at| &came[at + 1..]);
        // Our own KEXINIT may have been sent before their line was read; no more than that.
        assert!(after.is_none_or(|rest| rest.len() < 4096), "{name}");
    }
    for line in [
        &b"SSH-2.0-x\n"[..],
        b"SSH-2.0-x\0y\r\n",
        b"SSH-2.0-x y z\r\n",
        b"SSH-2.0-\xc3\xa4\r\n",
    ] {
        let _case = Case::new("D30", "version line: odd and allowed, or hung up on");
        let hello = Hello {
            version: line.to_vec(),
            ..Hello::default()
        };
        match Peer::keyed(world.bastion.addr(), hello) {
            Ok(_) | Err(Fault::Closed) => {}
            Err(fault) => panic!("{fault:?}"),
        }
    }
    assert_unharmed(&world, pid);
}

#[test]
fn d30_offers_that_agree_on_nothing_or_on_less() {
    let world = World::new();
    let pid = world.bastion.pid();
    let offer = |change: fn(&mut Hello)| {
        let mut hello = Hello::default();
        change(&mut hello);
        hello
    };
    let cases: Vec<(&str, Hello)> = vec![
        ("no key exchange", offer(|hello| hello.kex.clear())),
        (
            "group 1 with SHA-1",
            offer(|hello| hello.kex = "diffie-hellman-group1-sha1".into()),
        ),
        (
            "group 14 with SHA-1",
            offer(|hello| hello.kex = "diffie-hellman-group14-sha1".into()),
        ),
        (
            "group exchange",
            offer(|hello| hello.kex = "diffie-hellman-group-exchange-sha256".into()),
        ),
        (
            "group 18",
            offer(|hello| hello.kex = "diffie-hellman-group18-sha512".into()),
        ),
        ("no key exchange of that name", offer(|hello| hello.kex = "none".into())),
        (
            "only pseudo names",
            offer(|hello| hello.kex = "ext-info-c,kex-strict-c-v00@openssh.com".into()),
        ),
        (
            "the server's pseudo name alone",
            offer(|hello| hello.kex = "kex-strict-s-v00@openssh.com".into()),
        ),
        ("no cipher", offer(|hello| hello.cipher = "none".into())),
        ("CBC", offer(|hello| hello.cipher = "aes256-cbc,3des-cbc".into())),
        ("CTR", offer(|hello| hello.cipher = "aes256-ctr".into())),
        ("RC4", offer(|hello| hello.cipher = "arcfour128,arcfour".into())),
        ("no ciphers at all", offer(|hello| hello.cipher.clear())),
        (
            "SHA-1 host keys",
            offer(|hello| hello.host_key = "ssh-rsa,ssh-dss".into()),
        ),
        ("no host keys", offer(|hello| hello.host_key.clear())),
        ("zlib alone", offer(|hello| hello.compression = "zlib".into())),
        (
            "delayed zlib alone",
            offer(|hello| hello.compression = "zlib@openssh.com".into()),
        ),
        ("no compression names", offer(|hello| hello.compression.clear())),
        ("a comma", offer(|hello| hello.kex = ",".into())),
        (
            "a hundred thousand names",
            offer(|hello| hello.kex = "x,".repeat(100_000)),
        ),
        (
            "a name with a zero byte",
            offer(|hello| hello.kex = "curve25519-sha256\0".into()),
        ),
    ];
    for (name, hello) in cases {
        let _case = Case::new("D30", format_args!("offer: {name}"));
        match Peer::keyed(world.bastion.addr(), hello) {
            Ok(_) => panic!("{name}: agreed"),
            Err(Fault::Silent) => panic!("{name}: silent"),
            Err(Fault::Closed | Fault::Bad(_)) => {}
        }
    }
    // A MAC is not used with these ciphers, whatever is offered.
    for mac in ["none", "hmac-md5", ""] {
        let _case = Case::new("D30", format_args!("offer: MAC {mac:?}"));
        let hello = Hello {
            mac: mac.into(),
            ..Hello::default()
        };
        match Peer::keyed(world.bastion.addr(), hello) {
            Ok(mut peer) => {
                // Sealed all the same: a wrong tag ends it.
                peer.send_spoilt(&[msg::IGNORE, 0, 0, 0, 0], |packet| *packet.last_mut().unwrap() ^= 1)
                    .unwrap();
                ends(&mut peer, "a wrong tag");
            }
            Err(Fault::Closed) => {}
            Err(fault) => panic!("{mac}: {fault:?}"),
        }
    }
    // Compression is never agreed on, also where it comes first.
    let _case = Case::new("D30", "offer: zlib first, none last");
    let hello = Hello {
        compression: "zlib,zlib@openssh.com,none".into(),
        ..Hello::default()
    };
    let mut peer = Peer::keyed(world.bastion.addr(), hello).unwrap();
    peer.service().unwrap();
    assert!(still_outside(&mut peer, &stranger()).unwrap());
    assert_unharmed(&world, pid);
}

#[test]
fn d30_public_keys_of_an_exchange() {
    let world = World::new();
    let pid = world.bastion.pid();
    let mut one = [0u8; 32];
    one[0] = 1;
    // Of order 8, and p itself (RFC 7748 section 6.1): the shared secret is zero.
    let order8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    // The hybrid's own key is sound here, its X25519 half is not (GHSA-w3jg-pjxf-73p4).
    let hybrid = [vec![0; 1184], vec![0; 32]].concat();
    let keys: [(&str, Vec<u8>); 10] = [
        ("zero", vec![0; 32]),
        ("one", one.to_vec()),
        ("order 8", order8.to_vec()),
        ("p", p.to_vec()),
        ("empty", Vec::new()),
        ("31 bytes", vec![9; 31]),
        ("33 bytes", vec![9; 33]),
        ("64 KiB", vec![9; 64 * 1024]),
        ("of ML-KEM's length", vec![9; 1216]),
        ("of ML-KEM's length, X25519 zero", hybrid),
    ];
    for kex in ["curve25519-sha256", "mlkem768x25519-sha256"] {
        for (name, key) in &keys {
            let _case = Case::new("D30", format_args!("{kex} with the public key {name}"));
            let hello = Hello {
                kex: format!("{kex},kex-strict-c-v00@openssh.com"),
                ..Hello::default()
            };
            let mut peer = Peer::dial(world.bastion.addr(), hello).unwrap();
            peer.versions().unwrap();
            let kexinit = peer.kexinit();
            peer.send(&kexinit).unwrap();
            peer.expect(&[msg::KEXINIT]).unwrap();
            peer.send(&Put::message(msg::ECDH_INIT).string(key).done()).unwrap();
            match peer.drained(secs(5)) {
                // No answer to a key that makes the secret known.
                Ok(packets) => assert!(packets.iter().all(|packet| packet[0] != msg::ECDH_REPLY), "{name}"),
                Err(fault) => {
                    // Any bytes of the right length may be a fair key of ML-KEM's hybrid.
                    let fair = kex.starts_with("mlkem") && *name == "of ML-KEM's length";
                    assert!(fair, "{kex} {name}: {fault:?}");
                }
            }
        }
    }
    assert_unharmed(&world, pid);
}

#[test]
fn d30_key_exchanges_out_of_step() {
    let world = World::new();
    let pid = world.bastion.pid();
    let pings = |peer: &mut Peer, many: usize| {
        let ping = Put::message(msg::PING).string([7; 256]).done();
        (0..many).take_while(|_| peer.send(&ping).is_ok()).count()
    };

    let case = Case::new("D30", "PING flood in the key exchange");
    let before = status_kb(pid, "VmRSS");
    let mut peer = greeted(&world);
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    pings(&mut peer, 100_000);
    ends(&mut peer, "pings in the key exchange");
    assert!(status_kb(pid, "VmHWM").saturating_sub(before) < GROWTH_KB);
    drop(case);

    let case = Case::new("D30", "PING flood in a rekey");
    let pass = world.pass();
    let mut peer = login(&world.bastion, &pass);
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    peer.stream.set_write_timeout(Some(secs(2))).unwrap();
    pings(&mut peer, 100_000);
    drop(peer);
    drop(case);

    let _case = Case::new("D30", "NEWKEYS without an exchange");
    let mut peer = greeted(&world);
    peer.send(&[msg::NEWKEYS]).unwrap();
    ends(&mut peer, "NEWKEYS first");
    drop(_case);

    let _case = Case::new("D30", "NEWKEYS before the public key");
    let mut peer = greeted(&world);
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    peer.send(&[msg::NEWKEYS]).unwrap();
    ends(&mut peer, "NEWKEYS early");
    drop(_case);

    let _case = Case::new("D30", "two KEXINIT");
    let mut peer = greeted(&world);
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    peer.send(&kexinit).unwrap();
    ends(&mut peer, "two KEXINIT");
    drop(_case);

    // Messages of a server, or of an exchange that was not agreed on (CVE-2026-84897).
    for number in [31u8, 32, 33, 34] {
        let _case = Case::new("D30", format_args!("message {number} instead of 30"));
        let mut peer = greeted(&world);
        let kexinit = peer.kexinit();
        peer.send(&kexinit).unwrap();
        let body = Put::message(number).string([9; 32]).string([9; 32]).string([9; 32]);
        peer.send(&body.done()).unwrap();
        ends(&mut peer, "another exchange's message");
    }

    let _case = Case::new("D30", "a second public key after the answer");
    let mut peer = greeted(&world);
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    peer.expect(&[msg::KEXINIT]).unwrap();
    for _ in 0..2 {
        peer.send(&Put::message(msg::ECDH_INIT).string([9; 32]).done()).unwrap();
    }
    ends(&mut peer, "two public keys");
    drop(_case);

    let _case = Case::new("D30", "a wrong guess that is really sent");
    let hello = Hello {
        kex: "ecdh-sha2-nistp256,curve25519-sha256,kex-strict-c-v00@openssh.com".into(),
        first_follows: true,
        ..Hello::default()
    };
    let mut peer = Peer::dial(world.bastion.addr(), hello).unwrap();
    peer.versions().unwrap();
    let kexinit = peer.kexinit();
    peer.send(&kexinit).unwrap();
    peer.send(&Put::message(msg::ECDH_INIT).string([4; 65]).done()).unwrap();
    let theirs = peer.expect(&[msg::KEXINIT]).unwrap();
    // The guess is passed over, or it was one too many.
    match peer.agree(&kexinit, &theirs) {
        Ok(()) | Err(Fault::Closed) => {}
        Err(fault) => panic!("{fault:?}"),
    }
    drop(_case);
    assert_unharmed(&world, pid);
}

#[test]
fn d30_floods_before_login() {
    let world = World::new();
    let pid = world.bastion.pid();
    let extension = Put::message(msg::EXT_INFO)
        .u32(1)
        .string("server-sig-algs")
        .string([b'x'; 30_000]);
    let many_extensions = (0..2000).fold(Put::message(msg::EXT_INFO).u32(u32::MAX), |put, number| {
        put.string(format!("x{number}@example.com")).string("y")
    });
    let service = Put::message(msg::SERVICE_REQUEST);
    let ask = |user: &[u8], method: &str| {
        Put::message(msg::USERAUTH_REQUEST)
            .string(user)
            .string("ssh-connection")
            .string(method)
            .done()
    };
    let floods: [(&str, bool, Vec<u8>); 12] = [
        ("EXT_INFO", false, extension.done()),
        ("EXT_INFO that says more than it has", false, many_extensions.done()),
        ("services", false, service.clone().string("ssh-userauth").done()),
        (
            "unknown services",
            false,
            service.clone().string("ssh-connection").done(),
        ),
        (
            "services with a long name",
            false,
            service.string([b'x'; 60_000]).done(),
        ),
        ("IGNORE", true, Put::message(msg::IGNORE).string([0; 30_000]).done()),
        (
            "DEBUG",
            true,
            Put::message(msg::DEBUG).bool(true).string("\x1b[2J").string("").done(),
        ),
        ("PING", true, Put::message(msg::PING).string([1; 30_000]).done()),
        ("user names", true, ask(&[b'u'; 60_000], "none")),
        ("user names that are not text", true, ask(&[0xff; 600], "none")),
        ("methods", true, ask(b"root@db1", &"m".repeat(60_000))),
        ("answers to prompts", true, Put::message(61).u32(0x1000_0000).done()),
    ];
    for (name, with_service, payload) in floods {
        let _case = Case::new("D30", format_args!("flood before login: {name}"));
        let before = status_kb(pid, "VmRSS");
        let mut peer = match with_service {
            true => served(&world.bastion),
            false => Peer::keyed(world.bastion.addr(), Hello::default()).unwrap(),
        };
        peer.stream.set_write_timeout(Some(secs(2))).unwrap();
        for _ in 0..2000 {
            if peer.send(&payload).is_err() {
                break;
            }
        }
        let grown = status_kb(pid, "VmRSS").saturating_sub(before);
        assert!(grown < GROWTH_KB, "{name}: {grown} kB more");
        // Alive or not, it is not in.
        match still_outside(&mut peer, &stranger()) {
            Ok(_) | Err(Fault::Silent | Fault::Closed) => {}
            Err(fault) => panic!("{name}: {fault:?}"),
        }
    }
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed(&world, pid);
}

/// One lie in the lengths of a message's own fields, at every place.
#[test]
fn d30_fields_that_lie_about_their_length() {
    let world = World::new();
    let pid = world.bastion.pid();
    let request = Put::message(msg::USERAUTH_REQUEST)
        .string("root@db1")
        .string("ssh-connection")
        .string("publickey")
        .bool(false)
        .string("ssh-ed25519")
        .string(crate::raw::auth::public_blob(&stranger()))
        .done();
    for (place, length) in lengths(&request) {
        for lie in [length + 1, u32::MAX, 0x7fff_ffff, 0] {
            let _case = Case::new("D30", format_args!("a login request with {lie} at {place}"));
            let mut payload = request.clone();
            payload[place..place + 4].copy_from_slice(&lie.to_be_bytes());
            let mut peer = served(&world.bastion);
            peer.send(&payload).unwrap();
            still_outside(&mut peer, &stranger()).unwrap_or_else(|fault| panic!("{lie} at {place}: {fault:?}"));
        }
    }
    let pass = world.pass();
    let opening = Put::message(msg::CHANNEL_OPEN)
        .string("direct-tcpip")
        .u32(0)
        .u32(1 << 20)
        .u32(PACKET)
        .string("127.0.0.1")
        .u32(22)
        .string("127.0.0.1")
        .u32(1)
        .done();
    for place in [1usize, 29] {
        for lie in [u32::MAX, 0x7fff_ffff, 100_000] {
            let _case = Case::new("D30", format_args!("a channel open with {lie} at {place}"));
            let mut payload = opening.clone();
            payload[place..place + 4].copy_from_slice(&lie.to_be_bytes());
            let mut peer = login(&world.bastion, &pass);
            peer.send(&payload).unwrap();
            still_inside(&mut peer).unwrap_or_else(|fault| panic!("{lie} at {place}: {fault:?}"));
        }
    }
    assert_unharmed(&world, pid);
}

/// Where the strings of a public key request say how long they are.
fn lengths(payload: &[u8]) -> Vec<(usize, u32)> {
    let mut rest = Get(&payload[1..]);
    let mut places = Vec::new();
    for string in 0..5 {
        if string == 3 {
            rest.u8();
        }
        let place = payload.len() - rest.0.len();
        let length = rest.string().map(<[u8]>::len).unwrap();
        places.push((place, u32::try_from(length).unwrap()));
    }
    places
}
