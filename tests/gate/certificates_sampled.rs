//! A sample of the cross product in `certificates_table`, as real bytes: each
//! certificate is made, granted, and shown to our server and to a real sshd
//! that trusts the same CA. Ours lets in exactly those of which every part is
//! sound, and none that the sshd refuses.

use std::process::Command;

use ed25519_dalek::SigningKey;
use portcullis::kernel::grant::Grant;
use russh::keys::PrivateKey;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::Signature;

use crate::certificates::{USER, Yard, fresh_key};
use crate::hostile::{assert_unharmed, served};
use crate::raw::auth::{Answer, public_blob};
use crate::raw::certs::{Cert, blob_of};
use crate::raw::wire::Put;
use crate::raw::{Hello, Peer};
use crate::support::bastion::wall_ms;
use crate::support::{run, secs};

/// Combinations of each kind.
const SOUND: usize = 240;
const ONE_FAULT_EACH: usize = 20;
const ANY: usize = 900;
/// Where the sample begins; another one is another sample.
const SEED: u64 = 0x5eed_0001;

/// What a value is called, whether it is sound, what it does.
type Value<T> = (&'static str, bool, fn(&mut T));

/// A certificate in the making: the bytes after signing may be spoilt as well.
struct Making {
    cert: Cert,
    /// Which of the keys in [`Keys`] it is for, and which signs it.
    subject: &'static str,
    authority: &'static str,
    /// It says that the admission CA signed, whoever did.
    lying: bool,
    spoil: fn(&mut Vec<u8>),
}

const KINDS: &[Value<Making>] = &[
    ("user", true, |m| m.cert.kind = 1),
    ("host", false, |m| m.cert.kind = 2),
    ("no kind", false, |m| m.cert.kind = 0),
];

const SUBJECTS: &[Value<Making>] = &[
    ("ed25519", true, |m| m.subject = "ed25519"),
    ("p256", true, |m| m.subject = "p256"),
    ("p384", true, |m| m.subject = "p384"),
    ("rsa 3072", true, |m| m.subject = "rsa3072"),
    ("p521", false, |m| m.subject = "p521"),
    ("rsa 2048", false, |m| m.subject = "rsa2048"),
];

const AUTHORITIES: &[Value<Making>] = &[
    ("admission CA", true, |m| m.authority = "admission_ca"),
    ("host CA", false, |m| m.authority = "host_ca"),
    ("target CA", false, |m| m.authority = "target_ca"),
    ("node key", false, |m| m.authority = "node_key"),
    ("target CA, lying", false, |m| {
        m.authority = "target_ca";
        m.lying = true;
    }),
];

fn names(m: &mut Making, list: &[&[u8]]) {
    m.cert.principals = list.iter().map(|name| name.to_vec()).collect();
}

const PRINCIPALS: &[Value<Making>] = &[
    ("the one", true, |_| {}),
    ("second of two", true, |m| names(m, &[b"root@db2", b"root@db1"])),
    ("none", false, |m| names(m, &[])),
    ("star", false, |m| names(m, &[b"*"])),
    ("star beside it", false, |m| names(m, &[b"root@db1", b"*"])),
    ("comma", false, |m| names(m, &[b"alice,root@db1"])),
    ("other target", false, |m| names(m, &[b"root@db2"])),
    ("NUL", false, |m| names(m, &[b"root@db1\0"])),
];

const TIMES: &[Value<Making>] = &[
    ("ten minutes", true, |_| {}),
    ("longest", true, |m| m.cert.before = m.cert.after + 720 * 60),
    ("over", false, |m| m.cert.before = m.cert.after + 1),
    ("not yet", false, |m| m.cert.after += 300),
    ("for ever", false, |m| (m.cert.after, m.cert.before) = (0, u64::MAX)),
    ("backwards", false, |m| {
        std::mem::swap(&mut m.cert.after, &mut m.cert.before)
    }),
    ("too long", false, |m| m.cert.before = m.cert.after + 721 * 60 + 1),
];

fn option(m: &mut Making, name: &str, data: Vec<u8>) {
    m.cert.critical.push((name.into(), data));
}

fn text(value: &str) -> Vec<u8> {
    Put::default().string(value).done()
}

const OPTIONS: &[Value<Making>] = &[
    ("none", true, |_| {}),
    ("force-command", true, |m| option(m, "force-command", text("true"))),
    ("our address", true, |m| {
        option(m, "source-address", text("10.0.0.0/8,127.0.0.0/8"))
    }),
    ("both", true, |m| {
        option(m, "force-command", text("true"));
        option(m, "source-address", text("127.0.0.1"));
    }),
    ("other address", false, |m| {
        option(m, "source-address", text("192.0.2.0/24"))
    }),
    ("no address", false, |m| {
        option(m, "source-address", text("127.0.0.1/33"))
    }),
    ("verify-required", false, |m| option(m, "verify-required", Vec::new())),
    ("unknown", false, |m| {
        option(m, "only-on-sundays@example.com", text("yes"))
    }),
    ("no string", false, |m| option(m, "force-command", b"true".to_vec())),
];

fn extensions(m: &mut Making, list: &[(&str, Vec<u8>)]) {
    m.cert.extensions = list
        .iter()
        .map(|(name, data)| (name.as_bytes().to_vec(), data.clone()))
        .collect();
}

const SHAPES: &[Value<Making>] = &[
    ("plain", true, |_| {}),
    ("no extension", true, |m| extensions(m, &[])),
    ("an unknown extension", true, |m| {
        extensions(m, &[("grant@example.com", text("x"))])
    }),
    ("long nonce", true, |m| m.cert.nonce = vec![1; 1024]),
    ("flag with data", false, |m| extensions(m, &[("permit-pty", text("x"))])),
    ("extension twice", false, |m| {
        extensions(m, &[("permit-pty", Vec::new()), ("permit-pty", Vec::new())])
    }),
    ("NUL in the key id", false, |m| m.cert.key_id = b"alice\0".to_vec()),
    ("cut short", false, |m| m.spoil = |blob| blob.truncate(blob.len() - 20)),
    ("signature changed", false, |m| {
        m.spoil = |blob| {
            if let Some(last) = blob.last_mut() {
                *last ^= 1;
            }
        }
    }),
    ("nonce changed", false, |m| {
        m.spoil = |blob| {
            let at = 4 + u32::from_be_bytes(blob[..4].try_into().unwrap()) as usize + 4;
            blob[at] ^= 1;
        }
    }),
    ("more behind it", false, |m| m.cert.trailing = b"more".to_vec()),
    ("too large", false, |m| m.cert.nonce = vec![1; 20_000]),
];

const GRANTS: &[Value<Option<Grant>>] = &[
    ("live", true, |_| {}),
    ("for us", true, |g| {
        with(g, |g| g.sources = vec!["127.0.0.0/8".parse().unwrap()])
    }),
    ("for one use", true, |g| with(g, |g| g.single_use = true)),
    ("none", false, |g| *g = None),
    ("for another certificate", false, |g| {
        with(g, |g| g.certificate_sha256 = rand::random())
    }),
    ("other target", false, |g| {
        with(g, |g| g.destination = "root@db2".parse().unwrap())
    }),
    ("revoked", false, |g| with(g, |g| g.revoked_at_ms = Some(g.from_ms))),
    ("used", false, |g| {
        with(g, |g| {
            g.single_use = true;
            g.used_at_ms = Some(g.from_ms);
        })
    }),
    ("not yet", false, |g| with(g, |g| g.from_ms += 300_000)),
    ("over", false, |g| with(g, |g| g.until_ms = g.from_ms + 1)),
    ("from elsewhere", false, |g| {
        with(g, |g| g.sources = vec!["192.0.2.7".parse().unwrap()])
    }),
];

fn with(grant: &mut Option<Grant>, change: impl FnOnce(&mut Grant)) {
    if let Some(grant) = grant {
        change(grant);
    }
}

const AXES: [&[Value<Making>]; 7] = [KINDS, SUBJECTS, AUTHORITIES, PRINCIPALS, TIMES, OPTIONS, SHAPES];

/// Numbers that look random and are the same each time (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    /// The place of one value that is sound, or not.
    fn one<T>(&mut self, axis: &[Value<T>], sound: bool) -> usize {
        let fitting: Vec<usize> = (0..axis.len()).filter(|at| axis[*at].1 == sound).collect();
        fitting[self.below(fitting.len())]
    }
}

/// A place on each axis of the certificate, then on the grant's.
type Combination = [usize; 8];

fn sample() -> Vec<Combination> {
    let mut numbers = Numbers(SEED);
    let sound = |numbers: &mut Numbers| -> Combination {
        std::array::from_fn(|at| match AXES.get(at) {
            Some(axis) => numbers.one(axis, true),
            None => numbers.one(GRANTS, true),
        })
    };
    let mut found: Vec<Combination> = (0..SOUND).map(|_| sound(&mut numbers)).collect();
    for axis in 0..8 {
        let values: Vec<bool> = match AXES.get(axis) {
            Some(values) => values.iter().map(|value| value.1).collect(),
            None => GRANTS.iter().map(|value| value.1).collect(),
        };
        for (at, is_sound) in values.into_iter().enumerate() {
            for _ in 0..if is_sound { 0 } else { ONE_FAULT_EACH } {
                let mut combination = sound(&mut numbers);
                combination[axis] = at;
                found.push(combination);
            }
        }
    }
    for _ in 0..ANY {
        found.push(std::array::from_fn(|at| match AXES.get(at) {
            Some(axis) => numbers.below(axis.len()),
            None => numbers.below(GRANTS.len()),
        }));
    }
    found
}

/// A key that certificates are made for.
struct Subject {
    name: &'static str,
    key: PrivateKey,
    /// Of the certificate, and of the request that shows it.
    cert_algorithm: &'static str,
    request_algorithm: &'static str,
    fields: Vec<u8>,
}

impl Subject {
    fn make(
        yard: &Yard,
        name: &'static str,
        kind: &str,
        bits: &str,
        plain: &str,
        algorithms: [&'static str; 2],
    ) -> Subject {
        let file = yard.bastion().fresh(name, "");
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-N", "", "-C", "test", "-t", kind, "-b", bits, "-f"])
            .arg(&file);
        run(&mut keygen, secs(60)).ok();
        let line = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        // Behind the name of the algorithm.
        let fields = blob_of(&line).unwrap()[4 + plain.len()..].to_vec();
        Subject {
            name,
            key: PrivateKey::read_openssh_file(&file).unwrap(),
            cert_algorithm: algorithms[0],
            request_algorithm: algorithms[1],
            fields,
        }
    }

    fn all(yard: &Yard) -> Vec<Subject> {
        let same = |algorithm| [algorithm; 2];
        let p = |name, bits, plain, cert| Subject::make(yard, name, "ecdsa", bits, plain, same(cert));
        let rsa = ["ssh-rsa-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com"];
        let ed25519 = "ssh-ed25519-cert-v01@openssh.com";
        vec![
            Subject::make(yard, "ed25519", "ed25519", "256", "ssh-ed25519", same(ed25519)),
            p(
                "p256",
                "256",
                "ecdsa-sha2-nistp256",
                "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            ),
            p(
                "p384",
                "384",
                "ecdsa-sha2-nistp384",
                "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            ),
            p(
                "p521",
                "521",
                "ecdsa-sha2-nistp521",
                "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            ),
            Subject::make(yard, "rsa3072", "rsa", "3072", "ssh-rsa", rsa),
            Subject::make(yard, "rsa2048", "rsa", "2048", "ssh-rsa", rsa),
        ]
    }

    /// Shows the certificate and proves the key.
    fn show(&self, peer: &mut Peer, user: &str, blob: &[u8]) -> Answer {
        let sign = |data: &[u8]| {
            let signature: Signature = self.key.try_sign(data).unwrap();
            Vec::try_from(signature).unwrap()
        };
        peer.prove(user, self.request_algorithm, blob, sign)
            .unwrap_or(Answer::Closed)
    }
}

#[test]
fn d05_to_d12_a_sample_of_combinations_beside_a_real_sshd() {
    let yard = Yard::new();
    // What some of the grants are for.
    yard.bastion().add_host("db2", &yard.world.sshd);
    let pid = yard.bastion().pid();
    let subjects = Subject::all(&yard);
    let signers: Vec<(&str, SigningKey)> = ["admission_ca", "host_ca", "target_ca", "node_key"]
        .map(|name| (name, yard.key(name)))
        .into();
    let signer = |name: &str| &signers.iter().find(|it| it.0 == name).unwrap().1;
    let combinations = sample();
    let (mut admitted, mut refused) = (0, 0);
    for (serial, combination) in combinations.iter().enumerate() {
        let now = wall_ms() / 1000;
        let mut making = Making {
            cert: Cert::new(&fresh_key(), USER, serial as u64 + 1, now - 30, now + 570),
            subject: "ed25519",
            authority: "admission_ca",
            lying: false,
            spoil: |_| {},
        };
        let mut said = Vec::new();
        let mut sound = true;
        for (axis, at) in AXES.iter().zip(combination) {
            let (name, is_sound, set) = axis[*at];
            set(&mut making);
            said.push(name);
            sound &= is_sound;
        }
        let (name, is_sound, set) = GRANTS[combination[7]];
        said.push(name);
        sound &= is_sound;

        let subject = subjects.iter().find(|it| it.name == making.subject).unwrap();
        making.cert.algorithm = subject.cert_algorithm.into();
        making.cert.fields = Some(subject.fields.clone());
        if making.lying {
            making.cert.ca = Some(public_blob(signer("admission_ca")));
        }
        let mut blob = making.cert.sign(signer(making.authority));
        (making.spoil)(&mut blob);
        let granted = yard.grant_if(&blob, set);
        assert_eq!(granted, name != "none");

        let ours = subject.show(&mut served(yard.bastion()), USER, &blob);
        assert_eq!(ours == Answer::Success, sound, "{said:?}: {ours:?}");
        if sound {
            let mut judge = Peer::keyed(yard.judge.addr(), Hello::default()).unwrap();
            judge.service().unwrap();
            let judged = subject.show(&mut judge, "root", &blob);
            assert_eq!(judged, Answer::Success, "{said:?}: sshd refuses what is let in here");
            admitted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(admitted >= SOUND && refused > 1500, "{admitted} {refused}");
    assert_unharmed(&yard.world, pid);
}
