use super::*;
use crate::kernel::grant::Grant;
use crate::kernel::id::GrantId;

const NOW: WallMs = 1_700_000_000_000;
const PEER: &str = "192.0.2.7";

fn trust() -> AdmissionTrust {
    AdmissionTrust {
        ca_keys: vec![b"ca".to_vec()],
        lifetime_secs_max: 3600,
    }
}

fn presented() -> Presented {
    Presented {
        sha256: [7; 32],
        blob_bytes: 500,
        key_algorithm: "ssh-ed25519".into(),
        rsa_bits: None,
        certificate_type: CertificateType::User,
        serial: 1,
        key_id: "alice".into(),
        principals: vec!["root@db1".into()],
        valid_after: NOW / 1000 - 60,
        valid_before: NOW / 1000 + 1800,
        critical_options: Vec::new(),
        extensions: vec![
            ("permit-pty".into(), String::new()),
            ("permit-port-forwarding".into(), String::new()),
        ],
        ca_key: b"ca".to_vec(),
        ca_signature_algorithm: "ssh-ed25519".into(),
        ca_rsa_bits: None,
        nested: false,
    }
}

fn grant() -> Grant {
    Grant {
        id: GrantId([1; 16]),
        identity: "alice".parse().unwrap(),
        destination: "root@db1".parse().unwrap(),
        from_ms: NOW - 1000,
        until_ms: NOW + 1_800_000,
        sources: Vec::new(),
        capabilities: [Capability::Shell, Capability::Exec, Capability::Forward].into(),
        reason: "test".into(),
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

fn decide(presented: &Presented, grant: Option<&Grant>, now: WallMs) -> Result<Admitted, Refusal> {
    let wanted = "root@db1".parse().unwrap();
    admit(presented, &trust(), &wanted, PEER.parse().unwrap(), now, grant)
}

/// Admitted with what the change makes of an ordinary certificate and grant.
pub fn admitted(change: impl FnOnce(&mut Presented, &mut Grant)) -> Admitted {
    let (mut presented, mut grant) = (presented(), grant());
    change(&mut presented, &mut grant);
    decide(&presented, Some(&grant), NOW).unwrap()
}

#[test]
fn a_live_matching_grant_admits() {
    let admitted = decide(&presented(), Some(&grant()), NOW).unwrap();
    assert_eq!(admitted.until_ms(), NOW + 1_800_000);
    assert!(admitted.permits_pty());
    assert!(admitted.capabilities().contains(&Capability::Forward));
}

#[test]
fn every_refusal_has_its_row() {
    type Change = fn(&mut Presented);
    let rows: &[(&str, Change)] = &[
        ("cert_oversized", |c| c.blob_bytes = CERTIFICATE_BYTES_MAX + 1),
        ("cert_nested", |c| c.nested = true),
        ("cert_unknown_ca", |c| c.ca_key = b"other".to_vec()),
        ("cert_malformed", |c| c.key_id = "alice\0".into()),
        ("cert_malformed", |c| {
            c.extensions = vec![("permit-pty".into(), "x".into())]
        }),
        ("cert_critical_option", |c| {
            c.critical_options = vec![("force-command".into(), "a\0b".into())]
        }),
        ("cert_bad_source_address", |c| {
            c.critical_options = vec![("source-address".into(), "192.0.2.7/24".into())]
        }),
        ("cert_type", |c| c.certificate_type = CertificateType::Host),
        ("cert_signature_algorithm", |c| {
            c.ca_signature_algorithm = "ssh-rsa".into()
        }),
        ("cert_signature_algorithm", |c| {
            c.ca_signature_algorithm = "rsa-sha2-512".into();
            c.ca_rsa_bits = Some(2048);
        }),
        ("cert_signature_algorithm", |c| {
            c.ca_signature_algorithm = "ecdsa-sha2-nistp521".into()
        }),
        ("cert_key_algorithm", |c| c.key_algorithm = "ssh-dss".into()),
        ("cert_key_algorithm", |c| c.key_algorithm = "ecdsa-sha2-nistp521".into()),
        ("cert_key_algorithm", |c| {
            c.key_algorithm = "ssh-rsa".into();
            c.rsa_bits = Some(3071);
        }),
        ("cert_no_principals", |c| c.principals.clear()),
        ("cert_bad_principal", |c| c.principals = vec!["*".into()]),
        ("cert_bad_principal", |c| c.principals = vec!["alice,root@db1".into()]),
        ("cert_bad_principal", |c| c.principals = vec!["root@db1\0".into()]),
        ("cert_bad_principal", |c| {
            c.principals = vec!["root@db1".into(), "".into()]
        }),
        ("cert_bad_principal", |c| c.principals = vec!["root+db1".into()]),
        ("cert_bad_principal", |c| {
            c.principals = vec!["root@db1".into(); PRINCIPALS_MAX + 1]
        }),
        ("cert_wrong_principal", |c| c.principals = vec!["Root@db1".into()]),
        ("cert_wrong_principal", |c| c.principals = vec!["root@db2".into()]),
        ("cert_bad_validity", |c| c.valid_before = u64::MAX),
        ("cert_bad_validity", |c| c.valid_before = c.valid_after),
        ("cert_bad_validity", |c| c.valid_before = c.valid_after - 1),
        ("cert_lifetime_too_long", |c| {
            c.valid_before = c.valid_after + 3600 + BACKDATE_SECS_MAX + 1
        }),
        ("cert_not_yet_valid", |c| c.valid_after = NOW / 1000 + 1),
        ("cert_expired", |c| c.valid_before = NOW / 1000),
        ("cert_critical_option", |c| {
            c.critical_options = vec![("verify-required".into(), "".into())]
        }),
        ("cert_critical_option", |c| {
            c.critical_options = vec![("x@y".into(), "".into())]
        }),
        ("cert_source_address", |c| {
            c.critical_options = vec![("source-address".into(), "10.0.0.0/8".into())]
        }),
        ("cert_bad_source_address", |c| {
            c.critical_options = vec![("source-address".into(), "10.0.0.0/8, x".into())]
        }),
        ("cert_bad_source_address", |c| {
            c.critical_options = vec![("source-address".into(), "".into())]
        }),
        ("no_grant", |c| c.sha256 = [8; 32]),
    ];
    for (code, change) in rows {
        let mut certificate = presented();
        change(&mut certificate);
        let refusal = decide(&certificate, Some(&grant()), NOW).expect_err(code);
        assert_eq!(refusal.code(), *code, "{certificate:?}");
        assert!(!refusal.sentence().is_empty());
    }
}

#[test]
fn only_a_live_grant_of_this_certificate_admits() {
    type Change = fn(&mut Grant);
    let rows: &[(&str, Change)] = &[
        ("grant_other_destination", |g| {
            g.destination = "root@db2".parse().unwrap()
        }),
        ("grant_not_yet", |g| g.from_ms = NOW + 1),
        ("grant_expired", |g| g.until_ms = NOW),
        ("grant_revoked", |g| g.revoked_at_ms = Some(NOW - 1)),
        ("grant_used", |g| {
            g.single_use = true;
            g.used_at_ms = Some(NOW - 1);
        }),
        ("grant_source", |g| g.sources = vec!["10.0.0.0/8".parse().unwrap()]),
    ];
    for (code, change) in rows {
        let mut grant = grant();
        change(&mut grant);
        assert_eq!(decide(&presented(), Some(&grant), NOW).expect_err(code).code(), *code);
    }
    assert_eq!(decide(&presented(), None, NOW).unwrap_err().code(), "no_grant");
}

#[test]
fn validity_is_half_open() {
    let mut certificate = presented();
    certificate.valid_before = NOW / 1000 + 10;
    assert!(decide(&certificate, Some(&grant()), NOW + 9_999).is_ok());
    assert_eq!(
        decide(&certificate, Some(&grant()), NOW + 10_000).unwrap_err().code(),
        "cert_expired"
    );
    let mut certificate = presented();
    certificate.valid_after = NOW / 1000;
    assert!(decide(&certificate, Some(&grant()), NOW).is_ok());
}

#[test]
fn limits_are_the_meet_of_certificate_and_grant() {
    let mut certificate = presented();
    certificate.extensions.clear();
    certificate.valid_before = NOW / 1000 + 100;
    certificate.critical_options = vec![
        ("force-command".into(), "uptime".into()),
        ("source-address".into(), "192.0.2.0/24,::1/128".into()),
    ];
    let admitted = decide(&certificate, Some(&grant()), NOW).unwrap();
    assert!(!admitted.permits_pty());
    assert!(!admitted.capabilities().contains(&Capability::Forward));
    assert_eq!(admitted.force_command(), Some("uptime"));
    assert_eq!(admitted.until_ms(), certificate.valid_before * 1000);
}

#[test]
fn a_mapped_address_counts_as_the_one_in_it() {
    let mut certificate = presented();
    certificate.critical_options = vec![("source-address".into(), "192.0.2.0/24".into())];
    let wanted = "root@db1".parse().unwrap();
    let peer = "::ffff:192.0.2.7".parse().unwrap();
    assert!(admit(&certificate, &trust(), &wanted, peer, NOW, Some(&grant())).is_ok());
}

#[test]
fn reasons_are_shown_only_after_proof_of_our_ca_and_destination() {
    for refusal in [
        Refusal::UnknownCa,
        Refusal::WrongType,
        Refusal::WrongPrincipal,
        Refusal::NoPrincipals,
    ] {
        assert!(!refusal.may_be_shown(), "{refusal:?}");
    }
    for refusal in [Refusal::GrantRevoked, Refusal::GrantExpired, Refusal::StoreUnavailable] {
        assert!(refusal.may_be_shown(), "{refusal:?}");
    }
}

pub mod break_glass {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kernel::break_glass::{Condition, Door, Signed, Standing, Statement, VERSION, WINDOW_MS_MAX};
    use crate::kernel::id::IdentityName;
    use crate::kernel::inventory::{IdentityKind, Reach, Target};
    use crate::kernel::policy::facts::Who;

    const AWAY: Standing = Standing {
        used: false,
        revoked: false,
        store_alive: false,
    };

    fn statement() -> Statement {
        Statement {
            version: VERSION,
            id: GrantId([2; 16]),
            node: "gate1".parse().unwrap(),
            made_ms: NOW - 5000,
            made_by: "root".to_owned(),
            who: Who {
                name: "alice".parse().unwrap(),
                kind: IdentityKind::Person,
                roles: BTreeSet::new(),
                groups: BTreeSet::new(),
                owner: None,
                purpose: None,
            },
            doors: vec![Door {
                login: "root".parse().unwrap(),
                target: Target {
                    name: "db1".parse().unwrap(),
                    logins: vec!["root".parse().unwrap()],
                    reach: Reach::Local {
                        command: Vec::new(),
                        run_as: "nobody".to_owned(),
                    },
                    labels: Vec::new(),
                    disabled: false,
                },
                hops: Vec::new(),
                certificate_sha256: [7; 32],
                certificate_serial: 1,
            }],
            capabilities: [Capability::Exec, Capability::Forward].into(),
            sources: vec!["192.0.2.0/24".parse().unwrap()],
            from_ms: NOW,
            until_ms: NOW + WINDOW_MS_MAX,
            session_ms: 600_000,
            condition: Condition::StoreDown,
            reason: "the store is gone".to_owned(),
            policy_digest: [0; 32],
        }
    }

    /// A certificate that lives as long as the window.
    fn long() -> Presented {
        Presented {
            valid_before: (NOW + WINDOW_MS_MAX) / 1000,
            ..presented()
        }
    }

    fn decide(
        presented: &Presented,
        statement: Statement,
        wanted: &str,
        peer: &str,
        now: WallMs,
        standing: Standing,
    ) -> Result<Admitted, Refusal> {
        let by: BTreeSet<IdentityName> = ["bob", "carol"].iter().map(|name| name.parse().unwrap()).collect();
        let signed = Arc::new(Signed::new(statement, &"gate1".parse().unwrap(), by, 2).unwrap());
        let here = (peer.parse().unwrap(), now);
        admit_break_glass(presented, &trust(), &wanted.parse().unwrap(), here, &signed, standing)
    }

    /// Somebody who broke the glass, and may forward.
    pub fn admitted() -> Admitted {
        decide(&long(), statement(), "root@db1", PEER, NOW, AWAY).unwrap()
    }

    #[test]
    fn what_was_signed_admits_without_a_row_and_for_its_session_only() {
        let admitted = decide(&long(), statement(), "root@db1", PEER, NOW, AWAY).unwrap();
        assert_eq!(admitted.until_ms(), NOW + 600_000);
        assert_eq!(admitted.grant(), GrantId([2; 16]));
        assert!(admitted.break_glass().is_some());
        assert_eq!(admitted.capabilities().len(), 2);
        // The same certificate is nothing by the ordinary way, whatever the row says.
        let row = Grant {
            until_ms: NOW + WINDOW_MS_MAX,
            ..grant()
        };
        assert_eq!(
            super::decide(&long(), Some(&row), NOW).unwrap_err(),
            Refusal::LifetimeTooLong
        );
        assert!(
            super::decide(&presented(), Some(&grant()), NOW)
                .unwrap()
                .break_glass()
                .is_none()
        );
    }

    #[test]
    fn every_refusal_of_break_glass_has_its_row() {
        let end = NOW + WINDOW_MS_MAX;
        let always = Statement {
            condition: Condition::Always,
            ..statement()
        };
        let up = Standing {
            store_alive: true,
            ..AWAY
        };
        decide(&long(), always.clone(), "root@db1", PEER, NOW, up).unwrap();
        let other = Presented {
            sha256: [8; 32],
            ..long()
        };
        let two = Presented {
            principals: vec!["root@db1".into(), "root@db2".into()],
            ..long()
        };
        let longer = Presented {
            valid_before: (end + 3_600_000) / 1000,
            ..long()
        };
        let unknown = Presented {
            ca_key: b"other".to_vec(),
            ..long()
        };
        let used = Standing { used: true, ..AWAY };
        let revoked = Standing { revoked: true, ..AWAY };
        let short = Statement {
            until_ms: NOW + 1000,
            ..statement()
        };
        let later = Statement {
            from_ms: NOW + 1,
            ..statement()
        };
        let rows = [
            ("break_glass_not_now", &long(), statement(), "root@db1", PEER, NOW, up),
            ("no_grant", &other, statement(), "root@db1", PEER, NOW, AWAY),
            (
                "grant_other_destination",
                &two,
                statement(),
                "root@db2",
                PEER,
                NOW,
                AWAY,
            ),
            (
                "cert_wrong_principal",
                &long(),
                statement(),
                "root@db2",
                PEER,
                NOW,
                AWAY,
            ),
            (
                "cert_lifetime_too_long",
                &longer,
                statement(),
                "root@db1",
                PEER,
                NOW,
                AWAY,
            ),
            ("cert_unknown_ca", &unknown, statement(), "root@db1", PEER, NOW, AWAY),
            ("grant_used", &long(), statement(), "root@db1", PEER, NOW, used),
            ("grant_revoked", &long(), statement(), "root@db1", PEER, NOW, revoked),
            (
                "grant_source",
                &long(),
                statement(),
                "root@db1",
                "198.51.100.1",
                NOW,
                AWAY,
            ),
            ("grant_not_yet", &long(), later, "root@db1", PEER, NOW, AWAY),
            ("grant_expired", &long(), short, "root@db1", PEER, NOW + 1000, AWAY),
            ("cert_expired", &long(), statement(), "root@db1", PEER, end, AWAY),
        ];
        for (code, presented, statement, wanted, peer, now, standing) in rows {
            let refusal = decide(presented, statement, wanted, peer, now, standing).unwrap_err();
            assert_eq!(refusal.code(), code);
        }
    }
}
