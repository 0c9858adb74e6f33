//! What the tests with hostile peers share: logging in by hand, and the proof
//! afterwards that the server took no harm.

use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use russh::keys::ssh_key::private::KeypairData;

use crate::raw::auth::Answer;
use crate::raw::certs::blob_of;
use crate::raw::channels::Channel;
use crate::raw::wire::{Put, msg};
use crate::raw::{Fault, Hello, Peer};
use crate::support::bastion::{Bastion, proof_of};
use crate::support::{Pass, Record, World, run, secs, wait_until};

/// How long a refused connection may stay open before authentication.
pub const CUT: Duration = Duration::from_secs(1);

/// An ed25519 key of OpenSSH's as the raw peer's.
pub fn signing_key(path: &Path) -> SigningKey {
    let key = russh::keys::PrivateKey::read_openssh_file(path).unwrap();
    match key.key_data() {
        KeypairData::Ed25519(pair) => SigningKey::from_bytes(&pair.private.to_bytes()),
        other => panic!("{} is not ed25519: {other:?}", path.display()),
    }
}

/// The certificate's blob, as it goes over the wire.
pub fn certificate_of(pass: &Pass) -> Vec<u8> {
    blob_of(&std::fs::read_to_string(&pass.certificate).unwrap()).unwrap()
}

/// A connection that asks for authentication next.
pub fn served(bastion: &Bastion) -> Peer {
    let mut peer = Peer::keyed(bastion.addr(), Hello::default()).unwrap();
    peer.service().unwrap();
    peer
}

/// Presents a pass; whatever the answer.
pub fn present(peer: &mut Peer, pass: &Pass) -> Answer {
    let blob = certificate_of(pass);
    peer.certificate(&pass.destination, &blob, &signing_key(&pass.key))
        .unwrap()
}

/// A connection that is in.
#[track_caller]
pub fn login(bastion: &Bastion, pass: &Pass) -> Peer {
    let mut peer = served(bastion);
    assert_eq!(present(&mut peer, pass), Answer::Success);
    peer
}

/// A logged-in peer with one session channel.
#[track_caller]
pub fn inside(world: &World) -> (Peer, Channel) {
    let mut peer = login(&world.bastion, &world.pass());
    let channel = peer.session().unwrap().unwrap();
    (peer, channel)
}

/// The recording once the peer has gone.
#[track_caller]
pub fn record_after(world: &World, peer: Peer) -> Record {
    drop(peer);
    world.bastion.only_record()
}

/// The server is the same process, has not panicked, and serves others.
#[track_caller]
pub fn assert_unharmed(world: &World, pid: u32) {
    assert_eq!(world.bastion.pid(), pid);
    assert_no_panic(&world.bastion);
    let done = run(&mut world.client().exec("echo alive"), secs(15));
    assert_eq!(
        (done.code(), done.out()),
        (0, "alive\n".into()),
        "a bystander: {}",
        done.err()
    );
}

/// Every session that has ended is sealed and filed, and the ledger agrees.
#[track_caller]
pub fn assert_all_filed(world: &World) {
    // Proofs are written a little behind the seal.
    wait_until("an empty spool", secs(30), || world.bastion.spooled().is_empty());
    wait_until("every proof", secs(30), || {
        let files = world.bastion.archived();
        files.iter().all(|file| proof_of(file).exists())
    });
    world.bastion.assert_ledger_clean();
}

#[track_caller]
pub fn assert_no_panic(bastion: &Bastion) {
    let log = bastion.log();
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
}

/// What a server that has not let this peer in may still send.
pub fn is_before_login(packet: &[u8]) -> bool {
    matches!(
        packet[0],
        msg::DISCONNECT
            | msg::IGNORE
            | msg::UNIMPLEMENTED
            | msg::DEBUG
            | msg::SERVICE_ACCEPT
            | msg::EXT_INFO
            | msg::USERAUTH_FAILURE
            | msg::USERAUTH_PK_OK
    )
}

/// Asks whether a key would do, and reads until the answer: everything sent
/// before has then been dealt with. `Ok(true)` if the connection lives.
pub fn still_outside(peer: &mut Peer, key: &SigningKey) -> Result<bool, Fault> {
    let blob = crate::raw::auth::public_blob(key);
    let offer = crate::raw::auth::request("root@db1", false, crate::raw::auth::ED25519, &blob);
    if peer.send(&offer.done()).is_err() {
        return Ok(false);
    }
    loop {
        match peer.receive(secs(5)) {
            Ok(packet) if packet[0] == msg::USERAUTH_PK_OK => return Ok(true),
            Ok(packet) if packet[0] == msg::DISCONNECT => return Ok(false),
            Ok(packet) => assert!(is_before_login(&packet), "message {} before login", packet[0]),
            Err(Fault::Closed) => return Ok(false),
            Err(fault) => return Err(fault),
        }
    }
}

/// After login: a global request that nobody knows, answered once everything
/// before it is done. `Ok(false)` if the connection has ended.
pub fn still_inside(peer: &mut Peer) -> Result<bool, Fault> {
    let request = Put::message(msg::GLOBAL_REQUEST)
        .string("are-you-there@example.com")
        .bool(true);
    if peer.send(&request.done()).is_err() {
        return Ok(false);
    }
    loop {
        match peer.receive(secs(10)) {
            Ok(packet) if packet[0] == msg::REQUEST_FAILURE => return Ok(true),
            Ok(packet) if packet[0] == msg::DISCONNECT => return Ok(false),
            Ok(packet) => assert_ne!(packet[0], msg::CHANNEL_OPEN_CONFIRMATION, "a channel was opened"),
            Err(Fault::Closed) => return Ok(false),
            Err(fault) => return Err(fault),
        }
    }
}
