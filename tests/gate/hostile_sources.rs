//! Where connections come from: who misbehaves waits, who is many makes way,
//! and everybody else is served.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;

use crate::hostile::{assert_unharmed, certificate_of, signing_key, still_inside};
use crate::raw::auth::{Answer, ED25519, public_blob, signature_blob};
use crate::raw::wire::msg;
use crate::raw::{Fault, Hello, Peer};
use crate::support::process::status_kb;
use crate::support::{Case, Pass, Setup, Variant, World, run, secs, wait_until, whole};

fn from(source: &str) -> Hello {
    Hello {
        from: Some(source.parse::<IpAddr>().unwrap()),
        ..Hello::default()
    }
}

/// A connection from `source` that asks for authentication next, unless it is refused.
fn served(addr: SocketAddr, source: &str) -> Option<Peer> {
    let mut peer = Peer::keyed(addr, from(source)).ok()?;
    peer.service().ok()?;
    Some(peer)
}

fn is_refused(addr: SocketAddr, source: &str) -> bool {
    // Accepted by the system, and reset before a version line.
    let peer = Peer::dial(addr, from(source));
    peer.is_ok_and(|mut peer| peer.versions().is_err())
}

/// One connection that offers a key nobody knows, with a good signature.
fn tries_a_stranger(addr: SocketAddr, source: &str) {
    let key = SigningKey::from_bytes(&[3; 32]);
    let mut peer = served(addr, source).unwrap_or_else(|| panic!("{source} is refused already"));
    let answer = peer.prove("root@db1", ED25519, &public_blob(&key), |data| {
        signature_blob(&key, data)
    });
    assert!(matches!(answer.unwrap(), Answer::Failure { .. }));
}

fn tries(addr: SocketAddr, source: &str, pass: &Pass) -> (Peer, Answer) {
    let mut peer = served(addr, source).unwrap_or_else(|| panic!("{source} is refused already"));
    let answer = peer
        .certificate(&pass.destination, &certificate_of(pass), &signing_key(&pass.key))
        .unwrap();
    (peer, answer)
}

#[test]
fn d30_who_misbehaves_before_login_waits() {
    let setup = Setup::new()
        .set("ssh.exempt_networks", "[\"127.0.9.0/24\"]")
        .set("ssh.login_grace_secs", "2");
    let world = World::with(setup, Variant::default());
    let (pid, addr) = (world.bastion.pid(), world.bastion.addr());
    let pass = world.pass();
    let revoked = world.bastion.pass("root@db1").identity("carol").issue();
    world
        .bastion
        .admin(&["revoke", "--grant", &revoked.grant, "--reason", "test"])
        .ok();

    let case = Case::new("D30", "penalty: three refused logins");
    let (mut kept, answer) = tries(addr, "127.0.0.7", &pass);
    assert_eq!(answer, Answer::Success);
    for _ in 0..3 {
        tries_a_stranger(addr, "127.0.0.7");
    }
    wait_until("the refusal of a source", secs(5), || is_refused(addr, "127.0.0.7"));
    // Who is in stays in, and nobody else is refused for it.
    assert!(still_inside(&mut kept).unwrap());
    assert!(served(addr, "127.0.0.8").is_some());
    drop(case);

    let case = Case::new("D30", "penalty: one broken packet");
    let mut peer = served(addr, "127.0.0.10").unwrap();
    peer.send_spoilt(&[msg::IGNORE, 0, 0, 0, 0], |packet| *packet.last_mut().unwrap() ^= 1)
        .unwrap();
    wait_until("the refusal of a source", secs(5), || is_refused(addr, "127.0.0.10"));
    drop(case);

    let case = Case::new("D30", "penalty: two connections that outstay the login grace");
    let silent: Vec<Peer> = (0..2).map(|_| Peer::dial(addr, from("127.0.0.11")).unwrap()).collect();
    wait_until("the refusal of a source", secs(10), || is_refused(addr, "127.0.0.11"));
    drop(silent);
    drop(case);

    let case = Case::new(
        "D30",
        "penalty: a script with a certificate of ours is not locked out at once",
    );
    for _ in 0..8 {
        let (_, answer) = tries(addr, "127.0.0.12", &revoked);
        assert!(matches!(answer, Answer::Failure { .. }));
    }
    assert!(served(addr, "127.0.0.12").is_some());
    drop(case);

    let case = Case::new("D30", "penalty: an exempt network has none");
    for _ in 0..20 {
        tries_a_stranger(addr, "127.0.9.1");
    }
    assert!(served(addr, "127.0.9.1").is_some());
    drop(case);

    assert!(world.bastion.log().contains("source refused for a while"));
    drop(kept);
    assert_unharmed(&world, pid);
}

#[test]
fn d30_a_full_anteroom_lets_the_busiest_go() {
    let _case = Case::new("D30", "anteroom: one source fills it");
    let setup = Setup::new().set("ssh.connections_max", "16");
    let world = World::with(setup, Variant::default());
    let (pid, addr) = (world.bastion.pid(), world.bastion.addr());
    let mut quiet = Peer::dial(addr, from("127.0.0.3")).unwrap();
    quiet.versions().unwrap();
    let mut busy: Vec<Peer> = (0..64)
        .filter_map(|_| {
            let mut peer = Peer::dial(addr, from("127.0.0.2")).ok()?;
            peer.versions().ok()?;
            Some(peer)
        })
        .collect();
    // A login goes through while it is full, more than once.
    for _ in 0..3 {
        assert_unharmed(&world, pid);
    }
    let open = |peer: &mut Peer| {
        let until = Instant::now() + secs(2);
        loop {
            match peer.receive(
                until
                    .saturating_duration_since(Instant::now())
                    .min(Duration::from_millis(100)),
            ) {
                Ok(_) => {}
                Err(Fault::Silent) => return true,
                Err(_) => return false,
            }
        }
    };
    assert!(open(&mut quiet), "one connection of a source with one had to make way");
    let left = busy.iter_mut().map(open).filter(|open| *open).count();
    assert!((1..16).contains(&left), "{left} of 64 are left");
    drop(_case);

    let _case = Case::new("D30", "anteroom: two hundred sources fill it");
    let crowd: Vec<Peer> = (0..200u8)
        .filter_map(|last| Peer::dial(addr, from(&format!("127.0.5.{last}"))).ok())
        .collect();
    assert_unharmed(&world, pid);
    drop(crowd);
    assert_unharmed(&world, pid);
}

/// The figure of issue 5: a login among so many silent connections, all held.
#[test]
fn d30_a_real_login_among_ten_thousand_silent_ones() {
    let (count, logins) = if whole() { (10_000, 100) } else { (500, 3) };
    let _case = Case::new("D30", format_args!("{count} silent connections"));
    let setup = Setup::new()
        .set("ssh.connections_max", "16384")
        .set("ssh.login_grace_secs", "300");
    let world = World::with(setup, Variant::default());
    let (pid, addr) = (world.bastion.pid(), world.bastion.addr());
    let client = world.client();
    let before = status_kb(pid, "VmRSS");
    let silent: Vec<Peer> = (0..count)
        .map(|number| {
            let source = format!("127.2.{}.{}", number / 250, number % 250 + 1);
            Peer::dial(addr, from(&source)).unwrap()
        })
        .collect();
    let mut took: Vec<Duration> = (0..logins)
        .map(|_| {
            let done = run(&mut client.exec("echo in"), secs(20));
            assert_eq!((done.code(), done.out()), (0, "in\n".into()), "{}", done.err());
            done.took
        })
        .collect();
    took.sort();
    let (middle, last) = (took[took.len() / 2], took[(took.len() * 99).div_ceil(100) - 1]);
    let resident = status_kb(pid, "VmRSS");
    let each = resident.saturating_sub(before) / count;
    println!(
        "figure: {count} silent connections: login p50 {} ms, p99 {} ms; resident {} MiB, {each} KiB each",
        middle.as_millis(),
        last.as_millis(),
        resident / 1024
    );
    assert!(last < secs(1), "{last:?}");
    assert!(resident < 512 * 1024, "{resident} kB");
    assert!(each < 64, "{each} kB for each silent connection");
    drop(silent);
    assert_unharmed(&world, pid);
}
