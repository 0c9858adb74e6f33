//! Targets up to the login: they drip, flood, lie about their keys, and are
//! not the host they were.

use std::io::Write;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;

use crate::hostile_target::{Scene, assert_nothing_shown, assert_ok};
use crate::raw::peer::PATIENCE;
use crate::raw::wire::{Put, msg};
use crate::raw::{Fault, Peer, Target};
use crate::support::{Case, secs};

/// How long the server waits for a target here.
const CONNECT: Duration = secs(3);

/// A target that takes its time, or never comes to the point: the dial ends.
#[test]
fn d30_targets_that_drip() {
    type Script = fn(&mut Peer) -> Result<(), Fault>;
    /// A byte, and then a little time for the other side to lose patience.
    fn drips(peer: &mut Peer, bytes: &[u8]) -> Result<(), Fault> {
        for byte in bytes.iter().cycle().take(400) {
            peer.stream.write_all(&[*byte])?;
            if let Err(Fault::Closed) = peer.receive(Duration::from_millis(50)) {
                break;
            }
        }
        Ok(())
    }
    let cases: [(&str, Script); 8] = [
        ("silence", |peer| peer.drained(secs(20)).map(drop)),
        ("a version byte by byte", |peer| drips(peer, b"SSH")),
        ("lines before the version", |peer| drips(peer, b"hello\r\n")),
        ("an endless line before the version", |peer| {
            let chunk = vec![b'x'; 64 * 1024];
            for _ in 0..16 * 1024 {
                peer.send_bytes(&chunk)?;
            }
            Ok(())
        }),
        ("endless lines before the version", |peer| {
            let chunk = b"no version\r\n".repeat(5000);
            for _ in 0..16 * 1024 {
                peer.send_bytes(&chunk)?;
            }
            Ok(())
        }),
        ("a key exchange that is not finished", |peer| {
            peer.versions()?;
            let kexinit = peer.kexinit();
            peer.send(&kexinit)?;
            peer.drained(secs(20)).map(drop)
        }),
        ("no answer to the service request", |peer| {
            peer.greet()?;
            peer.drained(secs(20)).map(drop)
        }),
        ("no answer to the login", |peer| {
            peer.greet()?;
            peer.serve_auth()?;
            peer.drained(secs(20)).map(drop)
        }),
    ];
    for (name, script) in cases {
        let case = Case::new("D30", format_args!("target: {name}"));
        let scene = Scene::new(script);
        let began = Instant::now();
        assert_nothing_shown(&scene.visit());
        let took = began.elapsed();
        assert!(took < CONNECT + secs(4), "{name}: {took:?}");
        scene.assert_unharmed();
        drop(case);
    }
}

#[test]
fn d30_floods_of_a_target_before_the_login() {
    type Script = fn(&mut Peer) -> Result<(), Fault>;
    let cases: [(&str, Script); 7] = [
        ("banners", |peer| {
            peer.greet()?;
            peer.serve_auth()?;
            let banner = Put::message(53).string(vec![b'b'; 32 * 1024]).string("").done();
            for _ in 0..4096 {
                peer.send(&banner)?;
            }
            Ok(())
        }),
        ("EXT_INFO", |peer| {
            peer.greet()?;
            let entries = (0..500).fold(Put::message(msg::EXT_INFO).u32(500), |put, number| {
                put.string(format!("x{number}@example.com")).string([b'y'; 40])
            });
            let entries = entries.done();
            for _ in 0..4096 {
                peer.send(&entries)?;
            }
            Ok(())
        }),
        ("PING in the key exchange", |peer| {
            peer.versions()?;
            let kexinit = peer.kexinit();
            peer.send(&kexinit)?;
            let ping = Put::message(msg::PING).string([7; 256]).done();
            for _ in 0..100_000 {
                peer.send(&ping)?;
            }
            Ok(())
        }),
        ("IGNORE in the login", |peer| {
            peer.greet()?;
            peer.serve_auth()?;
            let ignore = Put::message(msg::IGNORE).string(vec![0; 32 * 1024]).done();
            for _ in 0..4096 {
                peer.send(&ignore)?;
            }
            Ok(())
        }),
        ("prompts", |peer| {
            peer.greet()?;
            peer.serve_auth()?;
            peer.login_asked()?;
            for _ in 0..4096 {
                let prompts = Put::message(60).string("n").string("i").string("").u32(0x1000_0000);
                peer.send(&prompts.done())?;
            }
            Ok(())
        }),
        ("failures", |peer| {
            peer.greet()?;
            peer.serve_auth()?;
            for partial in [true, false].iter().cycle().take(4096) {
                let again =
                    Put::message(msg::USERAUTH_FAILURE).string("publickey,password,keyboard-interactive,hostbased");
                peer.send(&again.bool(*partial).done())?;
            }
            Ok(())
        }),
        ("key exchanges", |peer| {
            peer.greet()?;
            let kexinit = peer.kexinit();
            for _ in 0..4096 {
                peer.send(&kexinit)?;
            }
            Ok(())
        }),
    ];
    for (name, script) in cases {
        let case = Case::new("D30", format_args!("target floods before the login: {name}"));
        let scene = Scene::new(script);
        assert_nothing_shown(&scene.visit());
        scene.assert_unharmed();
        drop(case);
    }
}

/// Public keys of an exchange that no honest target sends.
#[test]
fn d30_public_keys_of_a_target() {
    let keys: [(&str, usize, u8); 6] = [
        ("zero", 32, 0),
        ("empty", 0, 0),
        ("31 bytes", 31, 9),
        ("33 bytes", 33, 9),
        ("64 KiB", 64 * 1024, 9),
        ("all ones", 32, 0xff),
    ];
    for (name, length, byte) in keys {
        let case = Case::new("D30", format_args!("target's public key: {name}"));
        let scene = Scene::new(move |peer| {
            peer.versions()?;
            let kexinit = peer.kexinit();
            peer.send(&kexinit)?;
            peer.expect(&[msg::KEXINIT])?;
            peer.expect(&[msg::ECDH_INIT])?;
            let host = crate::raw::auth::public_blob(&Target::host_key());
            let reply = Put::message(msg::ECDH_REPLY)
                .string(host)
                .string(vec![byte; length])
                .string(crate::raw::auth::signature_blob(&Target::host_key(), b"x"));
            peer.send(&reply.done())?;
            peer.drained(PATIENCE).map(drop)
        });
        assert_nothing_shown(&scene.visit());
        scene.assert_unharmed();
        drop(case);
    }
}

/// A host that cannot prove its key, and one that shows another.
#[test]
fn d30_a_host_that_is_not_the_pinned_one() {
    type Script = fn(&mut Peer) -> Result<(), Fault>;
    let cases: [(&str, Script); 2] = [
        ("another key", |peer| {
            peer.change_host_key(SigningKey::from_bytes(&[12; 32]));
            peer.program().map(drop)
        }),
        ("the pinned key, unproved", |peer| {
            peer.versions()?;
            let kexinit = peer.kexinit();
            peer.send(&kexinit)?;
            peer.expect(&[msg::KEXINIT])?;
            peer.expect(&[msg::ECDH_INIT])?;
            let other = SigningKey::from_bytes(&[12; 32]);
            let reply = Put::message(msg::ECDH_REPLY)
                .string(crate::raw::auth::public_blob(&Target::host_key()))
                .string([9; 32])
                .string(crate::raw::auth::signature_blob(&other, b"x"));
            peer.send(&reply.done())?;
            peer.drained(PATIENCE).map(drop)
        }),
    ];
    for (name, script) in cases {
        let case = Case::new("D30", format_args!("target: {name}"));
        let scene = Scene::new(script);
        assert_nothing_shown(&scene.visit());
        scene.assert_unharmed();
        drop(case);
    }
}

/// A rekey is between those two who hold the keys: whoever does not cannot
/// begin one. Who does may prove another host key, which the library does not
/// show us; it is still the host that proved the pinned one.
#[test]
fn d30_rekeys_stay_between_the_same_two() {
    let case = Case::new("D30", "target: a rekey by somebody without the keys");
    let scene = Scene::new(|peer| {
        let channel = peer.program()?;
        peer.forget_keys();
        peer.exchange()?;
        peer.ends_well(&channel, b"somebody else\n")?;
        peer.drained(PATIENCE).map(drop)
    });
    assert_nothing_shown(&scene.visit());
    scene.assert_unharmed();
    drop(case);

    for (name, seed) in [("the same host key", 11), ("another host key", 12)] {
        let case = Case::new("D30", format_args!("target: rekeys with {name}"));
        let scene = Scene::new(move |peer| {
            let channel = peer.program()?;
            peer.change_host_key(SigningKey::from_bytes(&[seed; 32]));
            peer.exchange()?;
            peer.exchange()?;
            peer.ends_well(&channel, b"ok\n")?;
            peer.drained(PATIENCE).map(drop)
        });
        assert_ok(&scene.visit());
        scene.assert_unharmed();
        drop(case);
    }
}
