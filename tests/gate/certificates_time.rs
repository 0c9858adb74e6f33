//! D13: the grant ends between two steps of one connection.

use std::time::Duration;

use crate::certificates::blob;
use crate::hostile::{assert_unharmed, login, served, signing_key};
use crate::raw::auth::{Answer, ED25519_CERT};
use crate::raw::wire::msg;
use crate::raw::{Fault, Peer};
use crate::support::bastion::wall_ms;
use crate::support::wait::let_pass;
use crate::support::{Pass, World, secs, wait_until};

/// How far past the grant's end the last thing may come.
const OVERRUN_MS: u64 = 100;
/// What a busy test machine may add to it before this test sees it.
const SEEN_MS: u64 = 400;

/// A pass of three seconds, or a little more: issued ends are whole seconds.
fn short(world: &World) -> Pass {
    world.bastion.pass("root@db1").secs(3).issue()
}

/// Waits for the server to end the connection; when it did.
#[track_caller]
fn cut_at(peer: &mut Peer, pass: &Pass) -> u64 {
    let left = Duration::from_millis(pass.left_ms().max(0) as u64);
    match peer.drained(left + secs(3)) {
        Ok(packets) => assert!(packets.iter().all(|packet| packet[0] != msg::CHANNEL_OPEN_CONFIRMATION)),
        Err(fault) => panic!("{} ms past its end: {fault:?}", -pass.left_ms()),
    }
    wall_ms()
}

#[track_caller]
fn assert_on_time(world: &World, pass: &Pass, cut: u64) {
    assert!(cut + 50 >= pass.until_ms, "{} ms early", pass.until_ms - cut);
    assert!(
        cut <= pass.until_ms + OVERRUN_MS + SEEN_MS,
        "{} ms late",
        cut - pass.until_ms
    );
    wait_until("the session's end", secs(20), || {
        world.bastion.live_sessions().is_empty()
    });
    let records = world.bastion.records(1);
    assert_eq!(records[0].code(), "grant_expired");
    assert!(records[0].last_payload_wall_ms() <= pass.until_ms + OVERRUN_MS);
}

#[test]
fn d13_the_end_comes_between_login_and_channel() {
    let world = World::new();
    let pass = short(&world);
    let mut peer = login(&world.bastion, &pass);
    let cut = cut_at(&mut peer, &pass);
    assert_on_time(&world, &pass, cut);
    // The channel that would have been next.
    let opened = peer.session();
    assert!(!matches!(opened, Ok(Ok(_))), "{opened:?}");
    assert_unharmed_later(&world);
}

#[test]
fn d13_the_end_comes_between_channel_and_exec() {
    let world = World::new();
    let pass = short(&world);
    let mark = world.sshd.folder().join("ran");
    let mut peer = login(&world.bastion, &pass);
    let channel = peer.session().unwrap().unwrap();
    let cut = cut_at(&mut peer, &pass);
    peer.exec(&channel, format!("touch {}", mark.display())).ok();
    assert!(
        matches!(peer.replied(), Err(Fault::Closed)),
        "a request was answered after the end"
    );
    assert_on_time(&world, &pass, cut);
    assert!(!mark.exists(), "a program ran after the end");
    assert_unharmed_later(&world);
}

#[test]
fn d13_requests_right_around_the_end() {
    let world = World::new();
    let pass = short(&world);
    let mut peer = login(&world.bastion, &pass);
    // One channel after the other, as fast as they open, past the end.
    let mut last = 0;
    loop {
        match peer.session() {
            Ok(Ok(channel)) => {
                last = wall_ms();
                peer.exec(&channel, "true").ok();
                peer.close(channel.theirs).ok();
            }
            Ok(Err(_)) | Err(Fault::Closed) => break,
            Err(fault) => panic!("{fault:?}"),
        }
        assert!(wall_ms() < pass.until_ms + 2000, "channels open after the end");
    }
    let cut = cut_at(&mut peer, &pass);
    assert!(
        last <= pass.until_ms + OVERRUN_MS,
        "a channel {} ms after the end",
        last - pass.until_ms
    );
    assert!(cut <= pass.until_ms + OVERRUN_MS + SEEN_MS);
}

#[test]
fn d13_the_end_comes_between_offer_and_proof() {
    let world = World::new();
    let pass = short(&world);
    let (blob, key) = (blob(&pass), signing_key(&pass.key));
    let mut peer = served(&world.bastion);
    assert_eq!(peer.offer("root@db1", ED25519_CERT, &blob).unwrap(), Answer::KeyOk);
    let_pass(Duration::from_millis(pass.left_ms().max(0) as u64 + 1));
    let answer = peer.certificate("root@db1", &blob, &key).unwrap();
    assert!(matches!(answer, Answer::Failure { .. }), "{answer:?}");
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed_later(&world);
}

fn assert_unharmed_later(world: &World) {
    assert_unharmed(world, world.bastion.pid());
}
