//! The whole cross product of what a certificate and its grant can be, through
//! the one function that admits. The oracle is written by hand, per value of
//! each axis: either the value is sound, or it names the code that a refusal
//! for it carries. A combination admits if all its values are sound, and a
//! refusal may only name a value that is not.

use portcullis::kernel::admit::{AdmissionTrust, CERTIFICATE_BYTES_MAX, CertificateType, Presented, admit};
use portcullis::kernel::grant::{Capability, Grant};
use portcullis::kernel::id::GrantId;

const NOW_SECS: u64 = 1_800_000_000;
const NOW: u64 = NOW_SECS * 1000;
const LIFETIME_MAX: u64 = 3600;
const PEER: &str = "192.0.2.7";
const WANTED: &str = "root@db1";

/// One value of one axis: what it is called, what refuses it, what it sets.
type Value<T> = (&'static str, Option<&'static str>, fn(&mut T));

const KINDS: &[Value<Presented>] = &[
    ("user", None, |c| c.certificate_type = CertificateType::User),
    ("host", Some("cert_type"), |c| {
        c.certificate_type = CertificateType::Host
    }),
];

const KEYS: &[Value<Presented>] = &[
    ("ed25519", None, |c| c.key_algorithm = "ssh-ed25519".into()),
    ("p256", None, |c| c.key_algorithm = "ecdsa-sha2-nistp256".into()),
    ("rsa 3072", None, |c| {
        c.key_algorithm = "ssh-rsa".into();
        c.rsa_bits = Some(3072);
    }),
    ("rsa 2048", Some("cert_key_algorithm"), |c| {
        c.key_algorithm = "ssh-rsa".into();
        c.rsa_bits = Some(2048);
    }),
    ("rsa of unknown size", Some("cert_key_algorithm"), |c| {
        c.key_algorithm = "ssh-rsa".into()
    }),
    ("dsa", Some("cert_key_algorithm"), |c| {
        c.key_algorithm = "ssh-dss".into()
    }),
    ("p521", Some("cert_key_algorithm"), |c| {
        c.key_algorithm = "ecdsa-sha2-nistp521".into()
    }),
];

const AUTHORITIES: &[Value<Presented>] = &[
    ("admission CA", None, |c| c.ca_key = b"admission".to_vec()),
    ("the one rotated in", None, |c| c.ca_key = b"admission two".to_vec()),
    ("host CA", Some("cert_unknown_ca"), |c| c.ca_key = b"host".to_vec()),
    ("target CA", Some("cert_unknown_ca"), |c| c.ca_key = b"target".to_vec()),
    ("retired CA", Some("cert_unknown_ca"), |c| {
        c.ca_key = b"retired".to_vec()
    }),
    ("no key at all", Some("cert_unknown_ca"), |c| c.ca_key = Vec::new()),
    ("certificate as CA", Some("cert_nested"), |c| c.nested = true),
];

const SIGNATURES: &[Value<Presented>] = &[
    ("ed25519", None, |c| c.ca_signature_algorithm = "ssh-ed25519".into()),
    ("rsa-sha2-512, 3072", None, |c| {
        c.ca_signature_algorithm = "rsa-sha2-512".into();
        c.ca_rsa_bits = Some(3072);
    }),
    ("rsa-sha2-512, 2048", Some("cert_signature_algorithm"), |c| {
        c.ca_signature_algorithm = "rsa-sha2-512".into();
        c.ca_rsa_bits = Some(2048);
    }),
    ("SHA-1", Some("cert_signature_algorithm"), |c| {
        c.ca_signature_algorithm = "ssh-rsa".into();
        c.ca_rsa_bits = Some(4096);
    }),
];

const PRINCIPALS: &[Value<Presented>] = &[
    ("the one", None, |c| c.principals = vec![WANTED.into()]),
    ("second of two", None, |c| {
        c.principals = vec!["root@db2".into(), WANTED.into()]
    }),
    ("none", Some("cert_no_principals"), |c| c.principals = Vec::new()),
    ("star", Some("cert_bad_principal"), |c| c.principals = vec!["*".into()]),
    ("star beside it", Some("cert_bad_principal"), |c| {
        c.principals = vec![WANTED.into(), "*".into()]
    }),
    ("comma", Some("cert_bad_principal"), |c| {
        c.principals = vec!["alice,root@db1".into()]
    }),
    ("NUL", Some("cert_bad_principal"), |c| {
        c.principals = vec!["root@db1\0".into()]
    }),
    ("bare login", Some("cert_bad_principal"), |c| {
        c.principals = vec!["root".into()]
    }),
    ("case", Some("cert_wrong_principal"), |c| {
        c.principals = vec!["Root@db1".into()]
    }),
    ("other target", Some("cert_wrong_principal"), |c| {
        c.principals = vec!["root@db2".into()]
    }),
];

const TIMES: &[Value<Presented>] = &[
    ("now", None, |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS - 10, NOW_SECS + 10)
    }),
    ("first second", None, |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS, NOW_SECS + 1)
    }),
    ("longest", None, |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS, NOW_SECS + LIFETIME_MAX)
    }),
    ("just over", Some("cert_expired"), |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS - 10, NOW_SECS)
    }),
    ("not yet", Some("cert_not_yet_valid"), |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS + 1, NOW_SECS + 9)
    }),
    ("too long", Some("cert_lifetime_too_long"), |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS - 60, NOW_SECS + LIFETIME_MAX + 1);
    }),
    ("for ever", Some("cert_bad_validity"), |c| {
        (c.valid_after, c.valid_before) = (0, u64::MAX)
    }),
    ("nearly for ever", Some("cert_bad_validity"), |c| {
        (c.valid_after, c.valid_before) = (u64::MAX - 10, u64::MAX - 1);
    }),
    ("backwards", Some("cert_bad_validity"), |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS + 5, NOW_SECS - 5)
    }),
    ("empty", Some("cert_bad_validity"), |c| {
        (c.valid_after, c.valid_before) = (NOW_SECS, NOW_SECS)
    }),
];

fn option(certificate: &mut Presented, name: &str, value: &str) {
    certificate.critical_options.push((name.into(), value.into()));
}

const OPTIONS: &[Value<Presented>] = &[
    ("none", None, |_| {}),
    ("force-command", None, |c| option(c, "force-command", "/bin/true")),
    ("our address", None, |c| {
        option(c, "source-address", "10.0.0.0/8,192.0.2.0/24")
    }),
    ("both", None, |c| {
        option(c, "force-command", "/bin/true");
        option(c, "source-address", PEER);
    }),
    ("other address", Some("cert_source_address"), |c| {
        option(c, "source-address", "198.51.100.0/24")
    }),
    ("mapped address", Some("cert_source_address"), |c| {
        option(c, "source-address", "::ffff:192.0.2.0/120")
    }),
    ("no address", Some("cert_bad_source_address"), |c| {
        option(c, "source-address", "192.0.2.0/33")
    }),
    ("half an address", Some("cert_bad_source_address"), |c| {
        option(c, "source-address", "192.0.2.7,")
    }),
    ("verify-required", Some("cert_critical_option"), |c| {
        option(c, "verify-required", "")
    }),
    ("unknown", Some("cert_critical_option"), |c| {
        option(c, "only-on-sundays@example.com", "yes")
    }),
];

const SHAPES: &[Value<Presented>] = &[
    ("plain", None, |_| {}),
    ("as large as may be", None, |c| c.blob_bytes = CERTIFICATE_BYTES_MAX),
    ("too large", Some("cert_oversized"), |c| {
        c.blob_bytes = CERTIFICATE_BYTES_MAX + 1
    }),
    ("NUL in the key id", Some("cert_malformed"), |c| {
        c.key_id = "alice\0".into()
    }),
    ("a flag with data", Some("cert_malformed"), |c| {
        c.extensions[0].1 = "x".into()
    }),
];

const GRANTS: &[Value<Option<Grant>>] = &[
    ("live", None, |_| {}),
    ("from now", None, |g| with(g, |g| g.from_ms = NOW)),
    ("for us", None, |g| {
        with(g, |g| g.sources = vec!["192.0.2.0/24".parse().expect("a block")])
    }),
    ("for one use", None, |g| with(g, |g| g.single_use = true)),
    ("none", Some("no_grant"), |g| *g = None),
    ("for another certificate", Some("no_grant"), |g| {
        with(g, |g| g.certificate_sha256 = [9; 32])
    }),
    ("other target", Some("grant_other_destination"), |g| {
        with(g, |g| g.destination = "root@db2".parse().expect("a destination"));
    }),
    ("other login", Some("grant_other_destination"), |g| {
        with(g, |g| g.destination = "admin@db1".parse().expect("a destination"));
    }),
    ("revoked", Some("grant_revoked"), |g| {
        with(g, |g| g.revoked_at_ms = Some(NOW - 1))
    }),
    ("used", Some("grant_used"), |g| {
        with(g, |g| {
            g.single_use = true;
            g.used_at_ms = Some(NOW - 1);
        });
    }),
    ("not yet", Some("grant_not_yet"), |g| with(g, |g| g.from_ms = NOW + 1)),
    ("over", Some("grant_expired"), |g| with(g, |g| g.until_ms = NOW)),
    ("from elsewhere", Some("grant_source"), |g| {
        with(g, |g| g.sources = vec!["198.51.100.7".parse().expect("a block")])
    }),
];

fn with(grant: &mut Option<Grant>, change: impl FnOnce(&mut Grant)) {
    if let Some(grant) = grant {
        change(grant);
    }
}

fn certificate() -> Presented {
    Presented {
        sha256: [7; 32],
        blob_bytes: 500,
        key_algorithm: String::new(),
        rsa_bits: None,
        certificate_type: CertificateType::User,
        serial: 1,
        key_id: "alice".into(),
        principals: Vec::new(),
        valid_after: 0,
        valid_before: 0,
        critical_options: Vec::new(),
        extensions: vec![("permit-pty".into(), String::new())],
        ca_key: Vec::new(),
        ca_signature_algorithm: String::new(),
        ca_rsa_bits: None,
        nested: false,
    }
}

fn grant() -> Grant {
    Grant {
        id: GrantId([1; 16]),
        identity: "alice".parse().expect("a name"),
        destination: WANTED.parse().expect("a destination"),
        from_ms: NOW - 1000,
        until_ms: NOW + 5_000,
        sources: Vec::new(),
        capabilities: [Capability::Shell, Capability::Forward].into(),
        reason: "table".into(),
        ticket: None,
        request: None,
        issued_by: "bob".into(),
        policy_digest: [0; 32],
        certificate_sha256: [7; 32],
        certificate_serial: 1,
        single_use: false,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

/// Each axis of the certificate, in no order that matters.
const AXES: [&[Value<Presented>]; 8] = [KINDS, KEYS, AUTHORITIES, SIGNATURES, PRINCIPALS, TIMES, OPTIONS, SHAPES];

#[test]
fn d05_to_d12_every_combination_of_certificate_and_grant() {
    let trust = AdmissionTrust {
        ca_keys: vec![b"admission".to_vec(), b"admission two".to_vec()],
        lifetime_secs_max: LIFETIME_MAX,
    };
    let wanted = WANTED.parse().expect("a destination");
    let peer = PEER.parse().expect("an address");
    let certificates: usize = AXES.iter().map(|axis| axis.len()).product();
    let (mut admitted, mut refused) = (0u32, 0u32);
    for number in 0..certificates {
        let mut presented = certificate();
        let mut names = Vec::with_capacity(8);
        let mut wrong = Vec::with_capacity(8);
        let mut rest = number;
        for axis in AXES {
            let (name, code, set) = axis[rest % axis.len()];
            rest /= axis.len();
            set(&mut presented);
            names.push(name);
            wrong.extend(code);
        }
        // With three faults in the certificate alone the grant cannot matter:
        // that leaves the product within a second or two.
        let grants = if wrong.len() > 2 { &GRANTS[..1] } else { GRANTS };
        for (name, code, set) in grants {
            let mut row = Some(grant());
            set(&mut row);
            let answer = admit(&presented, &trust, &wanted, peer, NOW, row.as_ref());
            match (&answer, wrong.is_empty() && code.is_none()) {
                (Ok(admission), true) => {
                    admitted += 1;
                    assert_eq!(
                        admission.until_ms(),
                        (NOW + 5_000).min(presented.valid_before * 1000),
                        "{names:?}"
                    );
                    let forced = presented
                        .critical_options
                        .iter()
                        .any(|(name, _)| name == "force-command");
                    assert_eq!(admission.force_command().is_some(), forced, "{names:?}");
                    // The certificate carries no permit-port-forwarding.
                    assert!(!admission.capabilities().contains(&Capability::Forward), "{names:?}");
                }
                (Err(refusal), false) => {
                    refused += 1;
                    assert!(
                        wrong.contains(&refusal.code()) || *code == Some(refusal.code()),
                        "{names:?} with grant {name}: refused as {}",
                        refusal.code(),
                    );
                }
                (answer, _) => panic!("{names:?} with grant {name}: {answer:?}"),
            }
        }
    }
    // 1 kind x 3 keys x 2 CAs x 2 signatures x 2 principals x 3 times x 4 options x 2 shapes x 4 grants.
    assert_eq!(admitted, 3 * 2 * 2 * 2 * 3 * 4 * 2 * 4);
    assert!(refused > 500_000, "{refused}");
}
