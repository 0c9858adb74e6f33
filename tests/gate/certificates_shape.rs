//! Certificates of every shape, each under a live grant for its very blob, so
//! that only the certificate can be what is refused; a real sshd judges too.

use ed25519_dalek::SigningKey;

use crate::certificates::{USER, Yard, blob, fresh_key};
use crate::hostile::{assert_unharmed, signing_key};
use crate::raw::auth::{Answer, public_blob};
use crate::raw::certs::Cert;
use crate::raw::wire::Put;
use crate::support::bastion::wall_ms;

type Row = (&'static str, bool, fn(&mut Cert));

#[track_caller]
fn check_rows(yard: &Yard, rows: &[Row]) {
    let ca = yard.key("admission_ca");
    let pid = yard.bastion().pid();
    for (name, admits, change) in rows {
        let key = fresh_key();
        let mut cert = yard.cert(&key);
        change(&mut cert);
        yard.check(name, *admits, &cert.sign(&ca), &key);
    }
    assert_unharmed(&yard.world, pid);
}

fn names(list: &[&[u8]]) -> Vec<Vec<u8>> {
    list.iter().map(|name| name.to_vec()).collect()
}

fn text(value: &str) -> Vec<u8> {
    Put::default().string(value).done()
}

fn option(cert: &mut Cert, name: &str, data: Vec<u8>) {
    cert.critical.push((name.into(), data));
}

#[test]
fn d05_a_host_certificate_is_no_users() {
    let yard = Yard::new();
    check_rows(
        &yard,
        &[
            ("sound", true, |_| {}),
            ("host", false, |c| c.kind = 2),
            ("no type", false, |c| c.kind = 0),
            ("type 3", false, |c| c.kind = 3),
            ("type of all ones", false, |c| c.kind = u32::MAX),
            ("another algorithm's name", false, |c| {
                c.algorithm = "ssh-rsa-cert-v01@openssh.com".into()
            }),
            ("no algorithm", false, |c| c.algorithm = String::new()),
            ("short key", false, |c| c.public.truncate(31)),
            ("empty key", false, |c| c.public.clear()),
            ("long nonce", true, |c| c.nonce = vec![1; 4096]),
            ("no nonce", true, |c| c.nonce.clear()),
            ("something reserved", true, |c| c.reserved = vec![1; 32]),
            ("NUL in the key id", false, |c| c.key_id = b"alice\0".to_vec()),
            ("key id not UTF-8", false, |c| c.key_id = vec![0xff]),
        ],
    );
    // Made by ssh-keygen, with our CA and with the host CA.
    for ca in ["admission_ca", "host_ca"] {
        let pass = yard.keygen(ca, &["-h", "-n", USER, "-V", "-1m:+10m"]);
        yard.check("ssh-keygen -h", false, &blob(&pass), &signing_key(&pass.key));
    }
}

#[test]
fn d06_principals_are_exact() {
    let yard = Yard::new();
    check_rows(
        &yard,
        &[
            ("two, one of them ours", true, |c| {
                c.principals = names(&[b"root@db2", b"root@db1"])
            }),
            ("none", false, |c| c.principals.clear()),
            ("star", false, |c| c.principals = names(&[b"*"])),
            ("star beside it", false, |c| c.principals = names(&[b"root@db1", b"*"])),
            ("comma", false, |c| c.principals = names(&[b"alice,root@db1"])),
            ("comma before", false, |c| c.principals = names(&[b",root@db1"])),
            ("trailing NUL", false, |c| c.principals = names(&[b"root@db1\0"])),
            ("NUL and more", false, |c| c.principals = names(&[b"root@db1\0@x"])),
            ("wrong case", false, |c| c.principals = names(&[b"Root@db1"])),
            ("wrong case of the target", false, |c| {
                c.principals = names(&[b"root@DB1"])
            }),
            ("space", false, |c| c.principals = names(&[b"root@db1 "])),
            ("newline", false, |c| c.principals = names(&[b"root@db1\n"])),
            ("empty name", false, |c| c.principals = names(&[b""])),
            ("empty name beside it", false, |c| {
                c.principals = names(&[b"root@db1", b""])
            }),
            ("login only", false, |c| c.principals = names(&[b"root"])),
            ("target only", false, |c| c.principals = names(&[b"@db1"])),
            ("plus form", false, |c| c.principals = names(&[b"root+db1"])),
            ("not UTF-8", false, |c| {
                c.principals = names(&[b"root@db1", b"\xff\xfe"])
            }),
            ("a thousand", false, |c| c.principals = vec![b"root@db1".to_vec(); 1000]),
        ],
    );
}

#[test]
fn d07_critical_options_are_known_and_well_formed() {
    let yard = Yard::new();
    check_rows(
        &yard,
        &[
            ("force-command", true, |c| option(c, "force-command", text("true"))),
            ("source-address", true, |c| {
                option(c, "source-address", text("127.0.0.0/8"))
            }),
            ("both in order", true, |c| {
                option(c, "force-command", text("true"));
                option(c, "source-address", text("127.0.0.1"));
            }),
            ("unknown", false, |c| {
                option(c, "only-on-sundays@example.com", text("yes"))
            }),
            ("unknown and empty", false, |c| option(c, "x", Vec::new())),
            ("no name", false, |c| option(c, "", text("x"))),
            ("wrong case", false, |c| option(c, "Source-Address", text("127.0.0.1"))),
            ("name with NUL", false, |c| option(c, "force-command\0", text("true"))),
            ("verify-required", false, |c| option(c, "verify-required", Vec::new())),
            ("data not a string", false, |c| {
                option(c, "force-command", b"true".to_vec())
            }),
            ("data longer than said", false, |c| {
                option(c, "force-command", [text("true"), b"x".to_vec()].concat())
            }),
            ("two strings", false, |c| {
                option(c, "force-command", [text("true"), text("id")].concat())
            }),
            ("address not a string", false, |c| {
                option(c, "source-address", b"127.0.0.1".to_vec())
            }),
            ("address without data", false, |c| {
                option(c, "source-address", Vec::new())
            }),
            ("empty address", false, |c| option(c, "source-address", text(""))),
            ("address with a bad part", false, |c| {
                option(c, "source-address", text("127.0.0.1,x"))
            }),
            ("prefix too long", false, |c| {
                option(c, "source-address", text("127.0.0.1/33"))
            }),
            ("host bits set", false, |c| {
                option(c, "source-address", text("127.0.0.1/8"))
            }),
            ("negated", false, |c| {
                option(c, "source-address", text("!10.0.0.0/8,127.0.0.1"))
            }),
            ("spaces", false, |c| {
                option(c, "source-address", text("127.0.0.1, 10.0.0.0/8"))
            }),
            ("NUL in the command", false, |c| {
                option(c, "force-command", text("true\0id"))
            }),
            ("duplicated", false, |c| {
                option(c, "force-command", text("true"));
                option(c, "force-command", text("id"));
            }),
            ("out of order", false, |c| {
                option(c, "source-address", text("127.0.0.1"));
                option(c, "force-command", text("true"));
            }),
            ("not UTF-8", false, |c| c.critical.push((vec![0xff], Vec::new()))),
        ],
    );
}

#[test]
fn d07_extensions_and_what_follows() {
    let yard = Yard::new();
    check_rows(
        &yard,
        &[
            ("none", true, |c| c.extensions.clear()),
            ("an unknown one", true, |c| {
                c.extensions = vec![(b"grant@example.com".to_vec(), text("x"))]
            }),
            ("a flag with data", false, |c| {
                c.extensions = vec![(b"permit-pty".to_vec(), text("x"))]
            }),
            ("duplicated", false, |c| {
                c.extensions = vec![
                    (b"permit-pty".to_vec(), Vec::new()),
                    (b"permit-pty".to_vec(), Vec::new()),
                ];
            }),
        ],
    );
    // Options cut short, in the middle of a length.
    let (key, ca) = (fresh_key(), yard.key("admission_ca"));
    let sound = yard.cert(&key).option("force-command", "true").sign(&ca);
    for cut in [1, 40, 64, 80, 100, sound.len() / 2, sound.len() - 100, sound.len() - 20] {
        let cut = &sound[..sound.len() - cut];
        yard.check("cut short", false, cut, &key);
    }
    for at in (0..sound.len()).step_by(7) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x40;
        assert_ne!(yard.ours(USER, &flipped, &key), Answer::Success, "byte {at} flipped");
    }
}

/// The one place where we differ from OpenSSH: russh decodes a certificate and
/// drops what follows it in the blob, so that nobody can refuse it for that.
/// It stays the same certificate: only its own hash finds a grant.
#[test]
fn d07_bytes_behind_the_signature_change_nothing() {
    let yard = Yard::new();
    let (key, ca) = (fresh_key(), yard.key("admission_ca"));
    let mut cert = yard.cert(&key);
    cert.trailing = b"more".to_vec();
    let long = cert.sign(&ca);
    let sound = &long[..long.len() - 4];
    yard.grant(&long, |_| {});
    assert_ne!(
        yard.ours(USER, &long, &key),
        Answer::Success,
        "a grant was found by the longer blob"
    );
    yard.check("the certificate itself", true, sound, &key);
    assert!(!yard.judged(&long, &key));
}

#[test]
fn d10_only_the_admission_ca_counts() {
    let yard = Yard::new();
    let key = fresh_key();
    let stranger = fresh_key();
    let other = |name: &str| yard.key(name);
    let rows: [(&str, SigningKey); 7] = [
        ("self-signed", key.clone()),
        ("a stranger's", stranger.clone()),
        ("host CA", other("host_ca")),
        ("target CA", other("target_ca")),
        ("our host key", other("ssh_host_ed25519_key")),
        ("node key", other("node_key")),
        ("ledger key", other("ledger_key")),
    ];
    for (name, ca) in &rows {
        yard.check(name, false, &yard.cert(&key).sign(ca), &key);
        // The same, saying that it is from the right one.
        let mut liar = yard.cert(&key);
        liar.ca = Some(public_blob(&yard.key("admission_ca")));
        yard.check(&format!("{name}, lying"), false, &liar.sign(ca), &key);
    }
    yard.check(
        "admission CA",
        true,
        &yard.cert(&key).sign(&yard.key("admission_ca")),
        &key,
    );
    assert_unharmed(&yard.world, yard.bastion().pid());
}

/// CVE-2025-49825: a certificate in the place of the CA's key.
#[test]
fn d10_a_certificate_is_no_authority() {
    let yard = Yard::new();
    let ca = yard.key("admission_ca");
    let (key, middle) = (fresh_key(), fresh_key());
    // Two levels: the CA certifies `middle`, which certifies `key`.
    let inner = yard.cert(&middle).sign(&ca);
    let mut outer = yard.cert(&key);
    outer.ca = Some(inner);
    for signer in [&middle, &ca, &key] {
        yard.check("two levels", false, &outer.sign(signer), &key);
    }
    // Nine, which ends the decoder's patience, and ninety.
    for levels in [9, 90] {
        let mut nested = yard.cert(&middle).sign(&ca);
        for _ in 0..levels {
            let mut next = yard.cert(&middle);
            next.ca = Some(nested);
            nested = next.sign(&middle);
        }
        yard.check("many levels", false, &nested, &middle);
    }
    assert_unharmed(&yard.world, yard.bastion().pid());
}

#[test]
fn d10_a_retired_ca_admits_nobody() {
    let mut yard = Yard::new();
    let pass = yard.granted("admission_ca", &["-n", USER, "-V", "-1m:+10m"]);
    yard.check(
        "before",
        true,
        &{
            let key = signing_key(&pass.key);
            yard.cert(&key).sign(&yard.key("admission_ca"))
        },
        &signing_key(&pass.key),
    );
    let old = yard.key_file("admission_ca");
    std::fs::remove_file(&old).unwrap();
    std::fs::remove_file(old.with_extension("pub")).unwrap();
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "new", "-f"])
        .arg(&old);
    crate::support::run(&mut keygen, crate::support::secs(20)).ok();
    yard.world.bastion.stop(crate::support::secs(40));
    yard.world.bastion.serve();
    let answer = yard.ours(USER, &blob(&pass), &signing_key(&pass.key));
    assert!(matches!(answer, Answer::Failure { partial: false, .. }), "{answer:?}");
}

#[test]
fn d11_lifetimes() {
    let yard = Yard::new();
    let now = wall_ms() / 1000;
    let max = 720 * 60;
    let ca = yard.key("admission_ca");
    let rows = [
        ("longest", true, now, now + max),
        ("longer than policy", false, now - 60, now + max + 1),
        ("a year", false, now - 60, now + 365 * 86_400),
        ("forever", false, 0, u64::MAX),
        ("forever from now", false, now - 60, u64::MAX),
        ("almost forever", false, now - 60, u64::MAX - 1),
        ("signed negative", false, now - 60, 1 << 63),
        ("not yet valid", false, now + 60, now + 120),
        ("over", false, now - 120, now - 1),
        ("over to the second", false, now - 120, now),
        ("backwards", false, now + 60, now - 60),
        ("empty", false, now, now),
        ("from the beginning of time", false, 0, now + 60),
        ("no time at all", false, 0, 0),
    ];
    for (name, admits, after, before) in rows {
        let key = fresh_key();
        let mut cert = yard.cert(&key);
        (cert.after, cert.before) = (after, before);
        yard.check(name, admits, &cert.sign(&ca), &key);
    }
}
