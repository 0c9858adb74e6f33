//! What OpenSSH's regression tests ask of a server that checks certificates,
//! asked of the gate with the stock client: in our own words, since its scripts
//! drive an sshd. Those that go through the gate to an sshd are run by
//! `tests/regress/run`.
//!
//! Where the others are: principals, options and lifetimes by the byte in
//! `certificates_shape`; revoked certificates in `certificates_use` and
//! `authorities` (krl); idle sessions in `ends` (channel-timeout); login grace,
//! silent and dripping connections in `hostile_limits` (login-timeout);
//! subsystems in `hostile_channels` (match-subsystem).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use portcullis::kernel::grant::Grant;

use crate::certificates::{USER, Yard, blob};
use crate::hostile::{CUT, assert_unharmed, served, signing_key};
use crate::raw::auth::{Answer, ED25519};
use crate::raw::wire::Put;
use crate::support::process::Done;
use crate::support::{Bastion, Pass, Setup, Variant, World, run, secs};

/// Kinds of user key that the gate takes, for ssh-keygen.
const KINDS: &[&[&str]] = &[
    &["-t", "ed25519"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
    &["-t", "rsa", "-b", "3072"],
];
/// What `ssh` ends with when it was not let in.
const NOT_IN: i32 = 255;

fn made(bastion: &Bastion, kind: &[&str]) -> PathBuf {
    let key = bastion.fresh("id", "");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-N", "", "-C", "test"])
        .args(kind)
        .arg("-f")
        .arg(&key);
    run(&mut keygen, secs(60)).ok();
    key
}

/// The key's certificate, wherever the next one does not overwrite it.
fn signed(bastion: &Bastion, key: &Path, ca: &Path, arguments: &[&str]) -> Pass {
    let public = bastion.fresh("signed", ".pub");
    std::fs::copy(key.with_extension("pub"), &public).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.arg("-qs")
        .arg(ca)
        .args(["-I", "test"])
        .args(arguments)
        .arg(&public);
    run(&mut sign, secs(20)).ok();
    let stem = public.file_stem().unwrap().to_str().unwrap();
    Pass {
        key: key.to_owned(),
        certificate: public.with_file_name(format!("{stem}-cert.pub")),
        destination: USER.into(),
        grant: String::new(),
        until_ms: 0,
    }
}

/// `ssh gate COMMAND` with `options` before it.
fn ssh(bastion: &Bastion, pass: &Pass, options: &[&str], command: &str) -> Done {
    let mut ssh = bastion.client(pass).ssh();
    run(ssh.args(options).args(["gate", command]), secs(20))
}

/// cert-userkey: each row for each kind of key, signed by the CA that counts
/// and under a live grant for these very bytes, so that only the certificate
/// can be what is refused. The row's number is what `ssh gate true` ends with.
#[test]
fn user_certificates_row_by_row() {
    const LIFE: &str = "-V-1m:+10m";
    let rows: &[(&str, i32, &[&str])] = &[
        ("the right name", 0, &["-n", USER, LIFE]),
        ("a host certificate", NOT_IN, &["-n", USER, LIFE, "-h"]),
        ("another name", NOT_IN, &["-n", "foo", LIFE]),
        ("the login alone", NOT_IN, &["-n", "root", LIFE]),
        ("no name at all", NOT_IN, &[LIFE]),
        ("not valid yet", NOT_IN, &["-n", USER, "-V+1h:+2h"]),
        ("over", NOT_IN, &["-n", USER, "-V19800101:19900101"]),
        ("an interval around now", 0, &["-n", USER, "-V-1h:+2h"]),
        // An sshd takes it; here it is longer than any grant.
        ("weeks", NOT_IN, &["-n", USER, "-V-1w:+2w"]),
        (
            "another address",
            NOT_IN,
            &["-n", USER, LIFE, "-Osource-address=10.0.0.0/8"],
        ),
        ("this address", 0, &["-n", USER, LIFE, "-Osource-address=127.0.0.0/8"]),
        ("a command that fails", 1, &["-n", USER, LIFE, "-Oforce-command=false"]),
        ("a command that works", 0, &["-n", USER, LIFE, "-Oforce-command=true"]),
    ];
    let yard = Yard::new();
    let bastion = yard.bastion();
    let ca = yard.key_file("admission_ca");
    for kind in KINDS {
        let key = made(bastion, kind);
        for (name, ends_with, arguments) in rows {
            let pass = signed(bastion, &key, &ca, arguments);
            yard.grant(&blob(&pass), |_| {});
            let done = ssh(bastion, &pass, &[], "true");
            assert_eq!(done.code(), *ends_with, "{kind:?}, {name}: {}", done.err());
        }
        // Signed with itself; and a sound one once its grant is revoked.
        let own = signed(bastion, &key, &key, &["-n", USER, LIFE]);
        yard.grant(&blob(&own), |_| {});
        assert_eq!(ssh(bastion, &own, &[], "true").code(), NOT_IN, "{kind:?} by itself");
        let mut pass = signed(bastion, &key, &ca, &["-n", USER, LIFE]);
        pass.grant = yard.grant(&blob(&pass), |_| {}).to_string();
        assert_eq!(ssh(bastion, &pass, &[], "true").code(), 0, "{kind:?}");
        bastion
            .admin(&["revoke", "--grant", &pass.grant, "--reason", "over"])
            .ok();
        assert_eq!(ssh(bastion, &pass, &[], "true").code(), NOT_IN, "{kind:?} revoked");
    }
}

/// cert-userkey: the CA's own key is nobody's; nor is a plain key that a good
/// certificate exists for.
#[test]
fn a_key_without_its_certificate_is_nobody() {
    let world = World::new();
    let pass = world.pass();
    let nothing = world.bastion.fresh("no", "-cert.pub");
    for key in [world.bastion.state().join("keys/admission_ca"), pass.key.clone()] {
        let bare = Pass {
            // Beside the key lies its certificate, which ssh would find.
            key: alone(&world.bastion, &key),
            certificate: nothing.clone(),
            ..pass.clone()
        };
        let done = ssh(&world.bastion, &bare, &[], "true");
        assert_eq!(done.code(), NOT_IN, "{}", done.err());
    }
    assert_eq!(ssh(&world.bastion, &pass, &[], "true").code(), 0);
}

/// A copy of a key with nothing beside it.
fn alone(bastion: &Bastion, key: &Path) -> PathBuf {
    let copy = bastion.fresh("alone", "");
    // The mode goes with it: ssh takes no key that others may read.
    std::fs::copy(key, &copy).unwrap();
    copy
}

/// cert-file and multipubkey: whatever else a client offers, before or after,
/// the one good certificate lets it in; and without that nothing does.
#[test]
fn a_client_with_many_keys_gets_in_by_the_good_one() {
    let yard = Yard::new();
    let bastion = yard.bastion();
    let good = yard.granted("admission_ca", &["-n", USER, "-V-1m:+10m"]);
    let stranger_ca = made(bastion, KINDS[0]);
    let stranger = signed(bastion, &good.key, &stranger_ca, &["-n", USER, "-V-1m:+10m"]);
    let other = made(bastion, KINDS[0]);
    let certificate = |pass: &Pass| format!("CertificateFile={}", pass.certificate.display());
    let (trusted, untrusted) = (certificate(&good), certificate(&stranger));
    let (key, plain) = (alone(bastion, &good.key), other.display().to_string());
    let key = key.display().to_string();
    let rows: &[(&str, bool, &[&str])] = &[
        ("the certificate alone", true, &["-i", &key, "-o", &trusted]),
        (
            "an untrusted one first",
            true,
            &["-i", &key, "-o", &untrusted, "-o", &trusted],
        ),
        (
            "an untrusted one last",
            true,
            &["-i", &key, "-o", &trusted, "-o", &untrusted],
        ),
        ("plain keys first", true, &["-i", &plain, "-i", &key, "-o", &trusted]),
        ("plain keys only", false, &["-i", &plain, "-i", &key]),
        ("an untrusted one only", false, &["-i", &key, "-o", &untrusted]),
        // Both prove the same key: that is no certificate yet.
        ("the same key twice", false, &["-i", &key, "-i", &key]),
        (
            "a good certificate of another key",
            false,
            &["-i", &plain, "-o", &trusted],
        ),
    ];
    // Only what the command line names.
    let nothing = Pass {
        key: bastion.fresh("none", ""),
        certificate: bastion.fresh("none", "-cert.pub"),
        ..good.clone()
    };
    for (name, admits, options) in rows {
        let done = ssh(bastion, &nothing, options, "true");
        assert_eq!(done.code(), if *admits { 0 } else { NOT_IN }, "{name}: {}", done.err());
    }
}

/// limit-keytype: kinds of key that the gate does not take are neither
/// certified nor, with a certificate made past it, let in.
#[test]
fn kinds_of_key_that_are_too_weak_or_not_known() {
    let yard = Yard::new();
    let bastion = yard.bastion();
    for kind in [["-t", "rsa", "-b", "2048"], ["-t", "ecdsa", "-b", "521"]] {
        let key = made(bastion, &kind);
        let public = key.with_extension("pub");
        let done = bastion.admin(&[
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
            USER,
        ]);
        assert_ne!(done.code(), 0, "{kind:?}");
        assert!(done.err().contains("ed25519"), "{kind:?}: {}", done.err());
        let pass = signed(
            bastion,
            &key,
            &yard.key_file("admission_ca"),
            &["-n", USER, "-V-1m:+10m"],
        );
        yard.grant(&blob(&pass), |_: &mut Grant| {});
        assert_eq!(ssh(bastion, &pass, &[], "true").code(), NOT_IN, "{kind:?}");
    }
    assert_unharmed(&yard.world, bastion.pid());
}

/// brokenkeys: a key that is not one spoils neither the connection that offers
/// it nor the command that is given it.
#[test]
fn broken_keys_spoil_nothing() {
    let world = World::new();
    let (bastion, pid) = (&world.bastion, world.bastion.pid());
    let pass = world.pass();
    let broken: [(&str, Vec<u8>); 5] = [
        // An RSA key that ends within its modulus.
        (
            "ssh-rsa",
            Put::default()
                .string("ssh-rsa")
                .string([1, 0, 1])
                .u32(129)
                .raw(&[5, 51])
                .done(),
        ),
        ("ssh-rsa", Put::default().string("ssh-rsa").done()),
        (ED25519, Put::default().string(ED25519).string([7; 31]).done()),
        (ED25519, Vec::new()),
        ("ssh-nothing", Put::default().string("ssh-nothing").string("x").done()),
    ];
    for (algorithm, key) in &broken {
        let mut peer = served(bastion);
        let offered = peer.offer(USER, algorithm, key).unwrap();
        assert!(
            matches!(offered, Answer::Failure { partial: false, .. } | Answer::Closed),
            "{algorithm}: {offered:?}"
        );
        // Who is still there gets in with what is whole.
        if offered != Answer::Closed {
            let answer = peer.certificate(USER, &blob(&pass), &signing_key(&pass.key));
            assert_eq!(answer.unwrap(), Answer::Success, "after {algorithm}");
        }
    }
    let file = bastion.fresh("broken", ".pub");
    std::fs::write(&file, "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAIEABTM= bad key\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in [
        vec!["identity", "add", "bob", "--key", file],
        vec![
            "grant",
            "issue",
            "--identity",
            "alice",
            "--for",
            "10m",
            "--reason",
            "x",
            "--public-key",
            file,
            USER,
        ],
        vec![
            "target",
            "add",
            "db9",
            "--addr",
            "127.0.0.1:1",
            "--login",
            "root",
            "--host-key",
            file,
        ],
    ] {
        let done = bastion.admin(&arguments);
        assert_ne!(done.code(), 0, "{arguments:?}");
        assert!(done.err().contains("key"), "{arguments:?}: {}", done.err());
    }
    assert_unharmed(&world, pid);
}

/// The server's version line (RFC 4253 section 4.2).
fn version(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(secs(5))).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    String::from_utf8(line).unwrap()
}

/// proto-version: version 2.0, in one short line, first thing.
#[test]
fn the_server_speaks_version_two() {
    let world = World::new();
    let line = version(&mut TcpStream::connect(world.bastion.addr()).unwrap());
    assert!(line.starts_with("SSH-2.0-") && line.ends_with("\r\n"), "{line:?}");
    assert!(line.len() <= 255);
    // Nothing of what it is made of or how old it is.
    assert!(!line.contains(env!("CARGO_PKG_VERSION")), "{line:?}");
}

/// proto-mismatch: who speaks another protocol is hung up on.
#[test]
fn other_protocols_are_hung_up_on() {
    let world = World::new();
    let pid = world.bastion.pid();
    for said in [
        "SSH-1.5-HALLO\r\n",
        "SSH-1.3-x\r\n",
        "SSH-3.0-x\r\n",
        "HALLO\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.bastion.addr()).unwrap();
        version(&mut stream);
        let began = Instant::now();
        stream.write_all(said.as_bytes()).unwrap();
        let mut rest = Vec::new();
        // Reset or closed: either is an end.
        let ended = stream.read_to_end(&mut rest);
        assert!(began.elapsed() < CUT, "{said:?}: {ended:?} after {:?}", began.elapsed());
    }
    assert_eq!(world.bastion.sessions().len(), 0);
    assert_unharmed(&world, pid);
}

/// banner: the gate's own, before the login, to the byte; not with -q; and
/// to strangers too.
#[test]
fn a_banner_is_shown_before_the_login() {
    let world = World::with(
        Setup::new().set("ssh.banner", "\"Recorded.\\nLeave if you must.\\n\""),
        Variant::default(),
    );
    let (bastion, pass) = (&world.bastion, world.pass());
    let shown = |pass: &Pass, options: &[&str]| {
        let done = ssh(bastion, pass, options, "echo out");
        (done.out(), done.err())
    };
    assert_eq!(
        shown(&pass, &[]),
        ("out\n".into(), "Recorded.\nLeave if you must.\n".into())
    );
    assert_eq!(shown(&pass, &["-q"]), ("out\n".into(), String::new()));
    // Who is let in nowhere has seen it as well.
    let stranger = Pass {
        key: made(bastion, KINDS[0]),
        certificate: bastion.fresh("none", "-cert.pub"),
        ..pass
    };
    assert!(shown(&stranger, &[]).1.starts_with("Recorded.\n"));
}
