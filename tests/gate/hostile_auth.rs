//! Before and during authentication: nothing is served to who has not proved
//! himself, and nothing proved is carried over to another key or name.

use ed25519_dalek::SigningKey;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};

use crate::hostile::{assert_unharmed, certificate_of, login, present, served, signing_key, still_outside};
use crate::raw::auth::{Answer, ED25519, ED25519_CERT, public_blob, request, signature_blob};
use crate::raw::certs::blob_of;
use crate::raw::wire::{Put, msg};
use crate::raw::{Hello, Peer};
use crate::support::{Case, World, run, secs, wait_until};

/// A key that nobody knows.
fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn assert_refused(answer: &Answer) {
    assert!(matches!(answer, Answer::Failure { partial: false, .. }), "{answer:?}");
}

/// What must not be served before authentication.
fn forbidden() -> Vec<(&'static str, Vec<u8>)> {
    let open = |kind: &str| {
        Put::message(msg::CHANNEL_OPEN)
            .string(kind)
            .u32(0)
            .u32(1 << 20)
            .u32(32768)
    };
    let request = |kind: &str| Put::message(msg::CHANNEL_REQUEST).u32(0).string(kind).bool(true);
    let global = |kind: &str| Put::message(msg::GLOBAL_REQUEST).string(kind).bool(true);
    let dial = |put: Put| put.string("127.0.0.1").u32(22).string("127.0.0.1").u32(1);
    vec![
        ("session", open("session").done()),
        ("direct-tcpip", dial(open("direct-tcpip")).done()),
        (
            "streamlocal",
            open("direct-streamlocal@openssh.com")
                .string("/tmp/x")
                .string("")
                .u32(0)
                .done(),
        ),
        ("tcpip-forward", global("tcpip-forward").string("").u32(0).done()),
        ("keepalive", global("keepalive@openssh.com").done()),
        ("exec", request("exec").string("id").done()),
        ("shell", request("shell").done()),
        ("env", request("env").string("A").string("B").done()),
        ("data", Put::message(msg::CHANNEL_DATA).u32(0).string("x").done()),
        ("close", Put::message(msg::CHANNEL_CLOSE).u32(0).done()),
    ]
}

#[test]
fn d01_nothing_of_the_connection_protocol_before_authentication() {
    let world = World::new();
    let pid = world.bastion.pid();
    let key = stranger();
    for (name, payload) in forbidden() {
        let _case = Case::new("D01", name);
        // Right after the key exchange, where CVE-2025-32433 ran commands.
        let mut peer = Peer::keyed(world.bastion.addr(), Hello::default()).unwrap();
        peer.send(&payload).unwrap();
        if peer.service().is_ok() {
            still_outside(&mut peer, &key).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        }
        // And once authentication has begun.
        let mut peer = served(&world.bastion);
        peer.send(&payload).unwrap();
        still_outside(&mut peer, &key).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    }
    assert!(world.bastion.sessions().is_empty());
    assert!(!world.sshd.log().contains("Connection from"), "the target was dialled");
    assert_unharmed(&world, pid);
}

#[test]
fn d02_a_client_cannot_say_that_it_has_succeeded() {
    let world = World::new();
    let pid = world.bastion.pid();
    let key = stranger();
    for number in [msg::SERVICE_ACCEPT, 51, 52, 53].into_iter().chain(60..80) {
        let _case = Case::new("D02", format_args!("message {number} of a server"));
        for body in [
            Vec::new(),
            Put::default().u32(0).done(),
            Put::default().string(ED25519).string("x").done(),
        ] {
            let mut peer = served(&world.bastion);
            peer.send(&Put::message(number).raw(&body).done()).unwrap();
            for (_, payload) in forbidden().into_iter().take(1) {
                // Either side of the wire may be gone by now.
                peer.send(&payload).ok();
            }
            still_outside(&mut peer, &key).unwrap_or_else(|fault| panic!("message {number}: {fault:?}"));
        }
    }
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed(&world, pid);
}

#[test]
fn d03_the_key_that_signs_is_the_one_that_counts() {
    let world = World::new();
    let alice = world.bastion.pass("root@db1").identity("alice").issue();
    let bob = world.bastion.pass("root@db1").identity("bob").issue();
    let (alice_blob, bob_blob) = (certificate_of(&alice), certificate_of(&bob));
    let (alice_key, bob_key) = (signing_key(&alice.key), signing_key(&bob.key));

    // Alice's certificate with Bob's signature, offered before or not.
    for offered in [false, true] {
        let mut peer = served(&world.bastion);
        if offered {
            assert_eq!(
                peer.offer("root@db1", ED25519_CERT, &alice_blob).unwrap(),
                Answer::KeyOk
            );
        }
        assert_refused(&peer.certificate("root@db1", &alice_blob, &bob_key).unwrap());
    }
    // A signature over other data: another session, another name, no flag.
    let spoils: [fn(&mut Vec<u8>); 3] = [
        |data| data[4] ^= 1,
        |data| {
            let at = data.windows(8).position(|window| window == b"root@db1").unwrap();
            data[at] = b'R';
        },
        |data| data.push(0),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let _case = Case::new("D03", format_args!("a signature over other data, {number}"));
        let mut peer = served(&world.bastion);
        let answer = peer.prove("root@db1", ED25519_CERT, &alice_blob, |data| {
            let mut data = data.to_vec();
            spoil(&mut data);
            signature_blob(&alice_key, &data)
        });
        assert_refused(&answer.unwrap());
    }
    assert!(world.bastion.sessions().is_empty());

    // Alice's offered, Bob's proved: the session is Bob's.
    let mut peer = served(&world.bastion);
    assert_eq!(
        peer.offer("root@db1", ED25519_CERT, &alice_blob).unwrap(),
        Answer::KeyOk
    );
    assert_eq!(
        peer.certificate("root@db1", &bob_blob, &bob_key).unwrap(),
        Answer::Success
    );
    peer.session().unwrap().unwrap();
    let sessions = world.bastion.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["identity"], "bob", "{sessions:?}");
}

#[test]
fn d04_another_user_name_starts_from_nothing() {
    let world = World::new();
    world.bastion.add_host("db2", &world.sshd);
    let pid = world.bastion.pid();
    let alice = world.bastion.pass("root@db1").identity("alice").issue();
    let revoked = world.bastion.pass("root@db1").identity("carol").issue();
    world
        .bastion
        .admin(&["revoke", "--grant", &revoked.grant, "--reason", "test"])
        .ok();
    let blob = certificate_of(&alice);
    let key = signing_key(&alice.key);
    let none = |user: &str| {
        Put::message(msg::USERAUTH_REQUEST)
            .string(user)
            .string("ssh-connection")
            .string("none")
            .done()
    };
    let interactive = |user: &str| {
        Put::message(msg::USERAUTH_REQUEST)
            .string(user)
            .string("ssh-connection")
            .string("keyboard-interactive")
            .string("")
            .string("")
            .done()
    };

    // Half-way as one, then the rest as another, with every way of asking.
    for user in ["root@db2", "root", "", "root@db1 "] {
        let _case = Case::new("D04", format_args!("half-way, then as {user:?}"));
        let mut peer = served(&world.bastion);
        let half = present(&mut peer, &revoked);
        assert!(
            matches!(&half, Answer::Failure { methods, .. } if methods.contains("interactive")),
            "{half:?}"
        );
        for payload in [none(user), interactive(user), interactive("root@db1")] {
            peer.send(&payload).unwrap();
            // Back at the first name the half-way state is gone as well.
            assert_refused(&peer.answer().unwrap());
        }
        let mut peer = served(&world.bastion);
        present(&mut peer, &revoked);
        peer.send(&interactive(user)).unwrap();
        assert_refused(&peer.answer().unwrap());
    }
    // Under its own name the holder is told why.
    let mut peer = served(&world.bastion);
    present(&mut peer, &revoked);
    peer.send(&interactive("root@db1")).unwrap();
    let told = peer.expect(&[msg::USERAUTH_PK_OK]).unwrap();
    assert!(String::from_utf8_lossy(&told).contains("grant_revoked"), "{told:?}");

    // A key accepted for one name proves nothing for another.
    let mut peer = served(&world.bastion);
    assert_eq!(peer.offer("root@db1", ED25519_CERT, &blob).unwrap(), Answer::KeyOk);
    assert_refused(&peer.certificate("root@db2", &blob, &key).unwrap());
    // The proof for one name, sent again under another.
    let body = request("root@db1", true, ED25519_CERT, &blob).done();
    let signature = signature_blob(&key, &Put::default().string(&peer.session_id).raw(&body).done());
    let stolen = request("root@db2", true, ED25519_CERT, &blob).string(&signature).done();
    peer.send(&stolen).unwrap();
    assert_refused(&peer.answer().unwrap());
    assert!(world.bastion.sessions().is_empty());
    assert_unharmed(&world, pid);
}

#[test]
fn d09_plain_keys_and_sha1_are_refused() {
    let world = World::new();
    let pass = world.pass();
    let key = signing_key(&pass.key);
    // The very key of a good certificate, without it.
    let mut peer = served(&world.bastion);
    let answer = peer.prove("root@db1", ED25519, &public_blob(&key), |data| {
        signature_blob(&key, data)
    });
    assert_refused(&answer.unwrap());
    // The CAs' own keys.
    for ca in [
        "admission_ca",
        "target_ca",
        "host_ca",
        "ssh_host_ed25519_key",
        "node_key",
        "ledger_key",
    ] {
        let _case = Case::new("D09", format_args!("the key {ca}"));
        let key = signing_key(&world.bastion.state().join("keys").join(ca));
        let mut peer = served(&world.bastion);
        let answer = peer.prove("root@db1", ED25519, &public_blob(&key), |data| {
            signature_blob(&key, data)
        });
        assert_refused(&answer.unwrap());
    }

    // An RSA certificate that would do, signed with SHA-1, with each name.
    let file = world.bastion.fresh("rsa", "");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "rsa", "-b", "3072", "-N", "", "-f"])
        .arg(&file);
    run(&mut keygen, secs(60)).ok();
    let public = file.with_extension("pub");
    let issued = world.bastion.json(&[
        "grant",
        "issue",
        "--identity",
        "alice",
        "--for",
        "10m",
        "--reason",
        "test",
        "--public-key",
        public.to_str().unwrap(),
        "root@db1",
    ]);
    let blob = blob_of(issued["certificate"].as_str().unwrap()).unwrap();
    let rsa = PrivateKey::read_openssh_file(&file).unwrap();
    let sign = |data: &[u8], hash: Option<HashAlg>| -> Vec<u8> {
        let KeypairData::Rsa(pair) = rsa.key_data() else {
            unreachable!("made as RSA")
        };
        let signature = (pair, hash).try_sign(data).unwrap();
        Put::default()
            .string(signature.algorithm().as_str())
            .string(signature.as_bytes())
            .done()
    };
    let rsa_sha1 = "ssh-rsa-cert-v01@openssh.com";
    let rsa_sha2 = "rsa-sha2-512-cert-v01@openssh.com";
    for (name, hash) in [(rsa_sha1, None), (rsa_sha2, None), (rsa_sha1, Some(HashAlg::Sha512))] {
        let _case = Case::new("D09", format_args!("{name} signed with {hash:?}"));
        let mut peer = served(&world.bastion);
        let answer = peer.prove("root@db1", name, &blob, |data| sign(data, hash)).unwrap();
        assert!(
            matches!(answer, Answer::Failure { partial: false, .. } | Answer::Closed),
            "{name}: {answer:?}"
        );
    }
    // With SHA-2 it is let in: nothing else was wrong with it.
    let mut peer = served(&world.bastion);
    let answer = peer
        .prove("root@db1", rsa_sha2, &blob, |data| sign(data, Some(HashAlg::Sha512)))
        .unwrap();
    assert_eq!(answer, Answer::Success);
}

#[test]
fn d09_other_methods_do_not_exist() {
    let world = World::new();
    let pid = world.bastion.pid();
    let request = |method: &str| {
        Put::message(msg::USERAUTH_REQUEST)
            .string("root@db1")
            .string("ssh-connection")
            .string(method)
    };
    let mut peer = served(&world.bastion);
    for payload in [
        request("none").done(),
        request("password").bool(false).string("secret").done(),
        request("keyboard-interactive").string("").string("").done(),
        request("hostbased")
            .string(ED25519)
            .string("x")
            .string("h")
            .string("u")
            .string("s")
            .done(),
    ] {
        peer.send(&payload).unwrap();
        match peer.answer().unwrap() {
            Answer::Failure {
                methods,
                partial: false,
            } => assert_eq!(methods, "publickey"),
            other => panic!("{other:?}"),
        }
    }
    // Attempts are counted and end.
    let mut refused = 0;
    for _ in 0..50 {
        if peer.send(&request("none").done()).is_err() || peer.answer().unwrap() == Answer::Closed {
            break;
        }
        refused += 1;
    }
    assert!(refused <= 24, "{refused} more attempts");
    // So are offers.
    let mut peer = served(&world.bastion);
    let blob = public_blob(&stranger());
    let answers = (0..100).take_while(|_| matches!(peer.offer("root@db1", ED25519, &blob), Ok(Answer::KeyOk)));
    assert!(answers.count() <= 24);
    assert_unharmed(&world, pid);
}

/// Who has no certificate of ours learns nothing: one refusal for all, with one
/// sentence behind it.
#[test]
fn a_stranger_learns_no_reason() {
    let world = World::new();
    let key = stranger();
    for user in ["root@db1", "root@nowhere", "somebody"] {
        let mut peer = served(&world.bastion);
        let answer = peer
            .prove(user, ED25519, &public_blob(&key), |data| signature_blob(&key, data))
            .unwrap();
        assert_eq!(
            answer,
            Answer::Failure {
                methods: "publickey,keyboard-interactive".into(),
                partial: false
            },
            "{user}"
        );
    }
    let pass = world.pass();
    let mut peer = login(&world.bastion, &pass);
    assert!(peer.session().unwrap().is_ok());
    drop(peer);
    wait_until("the session's end", secs(10), || {
        world.bastion.live_sessions().is_empty()
    });
}
