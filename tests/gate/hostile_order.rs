//! The message-order matrix: every message number, in every state of a
//! connection. The server lives, others are served, and before login nothing
//! but refusals ever comes back.

use ed25519_dalek::SigningKey;

use crate::hostile::{
    CUT, assert_unharmed, certificate_of, is_before_login, login, served, signing_key, still_inside, still_outside,
};
use crate::raw::auth::{ED25519_CERT, request, signature_blob};
use crate::raw::channels::Channel;
use crate::raw::wire::{Put, msg};
use crate::raw::{Fault, Hello, Peer};
use crate::support::{Case, Pass, World, secs, wait_until};

/// Bodies that parse as something for many messages, and as nothing for others.
fn bodies(channel: u32) -> [Vec<u8>; 2] {
    let rich = Put::default()
        .u32(channel)
        .string("exec")
        .bool(true)
        .string("id")
        .u32(1)
        .u32(32768);
    [Vec::new(), rich.done()]
}

fn cell(state: &str, number: u8) -> Case {
    Case::cell("towards-us", state, number)
}

fn message(number: u8, body: &[u8]) -> Vec<u8> {
    Put::message(number).raw(body).done()
}

#[test]
fn s2_before_the_key_exchange() {
    let world = World::new();
    let pid = world.bastion.pid();
    for number in 1..=255u8 {
        let _case = cell("before-kex", number);
        for body in bodies(0) {
            let mut peer = Peer::dial(world.bastion.addr(), Hello::default()).unwrap();
            peer.versions().unwrap();
            peer.send(&message(number, &body)).unwrap();
            // Strict key exchange: KEXINIT is first or there is none.
            let keyed = peer.exchange();
            assert!(keyed.is_err(), "a key exchange after message {number}");
            match peer.drained(CUT) {
                Ok(packets) => {
                    assert!(
                        packets
                            .iter()
                            .all(|packet| is_before_login(packet) || packet[0] == msg::KEXINIT)
                    );
                }
                Err(fault) => panic!("open after message {number}: {fault:?}"),
            }
        }
    }
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed(&world, pid);
}

#[test]
fn s2_after_the_keys_before_login() {
    let world = World::new();
    let pid = world.bastion.pid();
    let key = SigningKey::from_bytes(&[5; 32]);
    let fresh = |with_service: bool| {
        let mut peer = Peer::keyed(world.bastion.addr(), Hello::default()).unwrap();
        if with_service {
            peer.service().unwrap();
        }
        peer
    };
    // With the service asked for, many probes fit on one connection.
    let mut peer = fresh(true);
    let mut left = 16;
    for number in 1..=255u8 {
        let _case = cell("in-auth", number);
        for body in bodies(0) {
            let lives = match peer.send(&message(number, &body)) {
                Ok(()) => probe(&mut peer, number, &key),
                Err(_) => false,
            };
            left -= 1;
            // Offers are counted: a fresh connection before they run out.
            if !lives || left == 0 {
                peer = fresh(true);
                left = 16;
            }
        }
    }
    // Without it, one each: the service request is the probe's end.
    for number in 1..=255u8 {
        let _case = cell("after-newkeys", number);
        let mut peer = fresh(false);
        let [_, body] = bodies(0);
        peer.send(&message(number, &body)).unwrap();
        match peer.service() {
            Ok(()) => {
                probe(&mut peer, number, &key);
            }
            Err(Fault::Closed) => {}
            Err(fault) => panic!("message {number}: {fault:?}"),
        }
    }
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed(&world, pid);
}

#[track_caller]
fn probe(peer: &mut Peer, number: u8, key: &SigningKey) -> bool {
    still_outside(peer, key).unwrap_or_else(|fault| panic!("message {number}: {fault:?}"))
}

/// A logged-in peer, with a program on a channel if wanted.
fn inside(world: &World, pass: &Pass, with_channel: bool) -> (Peer, u32) {
    let mut peer = login(&world.bastion, pass);
    if !with_channel {
        return (peer, 0);
    }
    let channel: Channel = peer.session().unwrap().unwrap();
    peer.exec(&channel, "cat").unwrap();
    assert!(peer.replied().unwrap());
    (peer, channel.theirs)
}

fn after_login(with_channel: bool) {
    let world = World::new();
    let pid = world.bastion.pid();
    let pass = world.pass();
    let (mut peer, mut channel) = inside(&world, &pass, with_channel);
    for number in 1..=255u8 {
        let _case = cell(if with_channel { "channel-open" } else { "authenticated" }, number);
        for body in 0..2 {
            let payload = message(number, &bodies(channel)[body]);
            let lives = match peer.send(&payload) {
                Ok(()) => still_inside(&mut peer).unwrap_or_else(|fault| panic!("message {number}: {fault:?}")),
                Err(_) => false,
            };
            // What ended the channel or the connection: begin again.
            let spent = with_channel && (msg::CHANNEL_OPEN..=msg::CHANNEL_FAILURE).contains(&number);
            if !lives || spent {
                (peer, channel) = inside(&world, &pass, with_channel);
            }
        }
    }
    drop(peer);
    wait_until("the end of every session", secs(30), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
}

#[test]
fn s2_after_login() {
    after_login(false);
}

#[test]
fn s2_with_a_channel_open() {
    after_login(true);
}

/// In a key exchange: between our KEXINIT and NEWKEYS only its messages may come.
#[test]
fn s2_in_a_key_exchange() {
    let world = World::new();
    let pid = world.bastion.pid();
    for number in 1..=255u8 {
        let _case = cell("in-kex", number);
        let mut peer = Peer::dial(world.bastion.addr(), Hello::default()).unwrap();
        peer.versions().unwrap();
        let kexinit = peer.kexinit();
        peer.send(&kexinit).unwrap();
        // Message 30 is the one that belongs here; its public key is nonsense.
        peer.send(&message(number, &bodies(0)[1])).unwrap();
        match peer.drained(CUT) {
            Ok(packets) => assert!(
                packets
                    .iter()
                    .all(|packet| is_before_login(packet) || packet[0] == msg::KEXINIT)
            ),
            Err(fault) => panic!("open after message {number}: {fault:?}"),
        }
    }
    assert_unharmed(&world, pid);
}

/// While the store is asked about a certificate: what came meanwhile is read
/// afterwards, by a server that has not let anybody in. The message is in the
/// same segment as the proof.
#[test]
fn s2_while_a_decision_is_pending() {
    let world = World::new();
    let pid = world.bastion.pid();
    let pass = world.pass();
    world
        .bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "test"])
        .ok();
    let (blob, key) = (certificate_of(&pass), signing_key(&pass.key));
    for number in 1..=255u8 {
        let _case = cell("decision-pending", number);
        for body in bodies(0) {
            let mut peer = served(&world.bastion);
            let asked = request(&pass.destination, true, ED25519_CERT, &blob).done();
            let data = Put::default().string(&peer.session_id).raw(&asked).done();
            let proof = Put(asked).string(signature_blob(&key, &data)).done();
            let both = [peer.packet(&proof), peer.packet(&message(number, &body))].concat();
            peer.send_bytes(&both).unwrap();
            probe(&mut peer, number, &key);
        }
    }
    assert!(world.bastion.sessions().is_empty());
    assert!(!world.sshd.log().contains("Connection from"), "the target was dialled");
    assert_unharmed(&world, pid);
}

/// In a rekey: between the two KEXINITs and NEWKEYS nothing else is served.
#[test]
fn s2_in_rekey() {
    let world = World::new();
    let pid = world.bastion.pid();
    let pass = world.pass();
    for number in 1..=255u8 {
        let _case = cell("rekey", number);
        for body in bodies(0) {
            let mut peer = login(&world.bastion, &pass);
            let ours = peer.kexinit();
            peer.send(&ours).unwrap();
            let theirs = peer.expect(&[msg::KEXINIT]).unwrap();
            peer.send(&message(number, &body)).unwrap();
            // An exchange that goes on, or an end. `agree` takes nothing but its own messages.
            match peer.agree(&ours, &theirs) {
                Ok(()) => assert!(still_inside(&mut peer).is_ok(), "silent after message {number}"),
                Err(Fault::Closed) => {}
                Err(fault) => panic!("message {number}: {fault:?}"),
            }
        }
    }
    wait_until("the end of every session", secs(30), || {
        world.bastion.live_sessions().is_empty()
    });
    assert_unharmed(&world, pid);
}
