//! Certificates against ssh-key's reader and the real `ssh-keygen`.

use russh::keys::ssh_key::PrivateKey;

use super::*;

const FROM: WallMs = 1_800_000_000_300;
const UNTIL: WallMs = 1_800_000_600_999;

fn key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

fn admission() -> AdmissionCertificate {
    AdmissionCertificate {
        public_key: key().public_key().clone(),
        serial: 7,
        key_id: "alice grant=00ff".into(),
        principal: "root@db1".into(),
        valid_after_ms: FROM,
        valid_before_ms: UNTIL,
        source_address: Some("10.0.0.0/8,2001:db8::1/128,192.0.2.7".into()),
        extensions: vec!["permit-pty", "permit-port-forwarding"],
    }
}

fn target() -> TargetCertificate {
    TargetCertificate {
        public_key: key().public_key().clone(),
        key_id: "alice grant=00ff session=1".into(),
        principal: "root".into(),
        valid_after_ms: FROM,
        valid_before_ms: UNTIL,
        source_address: None,
        extensions: vec!["permit-pty"],
    }
}

fn host() -> HostCertificate {
    HostCertificate {
        public_key: key().public_key().clone(),
        key_id: "bastion".into(),
        principals: vec!["bastion.example".into(), "::1".into()],
        valid_after_ms: FROM,
        valid_before_ms: UNTIL,
    }
}

fn sign(ca: &PrivateKey, draft: &Draft) -> Certificate {
    let signature = ca.try_sign(&draft.to_be_signed().unwrap()).unwrap();
    draft.seal(signature).unwrap()
}

/// What `ssh-keygen -L` says, one trimmed line each.
fn keygen(certificate: &Certificate) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it-cert.pub");
    std::fs::write(&path, certificate.to_openssh().unwrap()).unwrap();
    let said = std::process::Command::new("ssh-keygen")
        .env("TZ", "UTC")
        .args(["-L", "-f"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[track_caller]
fn assert_says(lines: &[String], expected: &[&str]) {
    for wanted in expected {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
    }
}

#[test]
fn an_admission_certificate_is_what_ssh_keygen_reads() {
    let ca = key();
    let draft = Draft::admission(ca.public_key(), [1; 32], admission()).unwrap();
    let made = sign(&ca, &draft);
    let lines = keygen(&made);
    assert_says(
        &lines,
        &[
            "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
            "Key ID: \"alice grant=00ff\"",
            "Serial: 7",
            "Valid: from 2027-01-15T08:00:00 to 2027-01-15T08:10:00",
            "root@db1",
            "source-address 10.0.0.0/8,2001:db8::1/128,192.0.2.7",
            "permit-pty",
            "permit-port-forwarding",
        ],
    );
    assert!(!lines.iter().any(|line| line.contains("UNKNOWN OPTION")));
    assert!(!lines.iter().any(|line| line.contains("permit-agent-forwarding")));
}

#[test]
fn target_and_host_certificates_are_what_ssh_keygen_reads() {
    let ca = key();
    let made = sign(&ca, &Draft::target(ca.public_key(), [2; 32], 9, target()).unwrap());
    assert_says(
        &keygen(&made),
        &["Serial: 9", "root", "Critical Options: (none)", "permit-pty"],
    );
    let made = sign(&ca, &Draft::host(ca.public_key(), [3; 32], 1, host()).unwrap());
    assert_says(
        &keygen(&made),
        &[
            "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
            "bastion.example",
            "::1",
            "Extensions: (none)",
        ],
    );
}

#[test]
fn the_end_never_outlives_the_grant() {
    let ca = key();
    let made = sign(&ca, &Draft::admission(ca.public_key(), [1; 32], admission()).unwrap());
    assert!(made.valid_before() * 1000 <= UNTIL);
    assert!(made.valid_after() * 1000 <= FROM, "usable from its first ms");
    assert!(FROM - made.valid_after() * 1000 < 1000);
    let print = [ca.public_key().fingerprint(HashAlg::Sha256)];
    made.validate_at(FROM / 1000, &print).unwrap();
    made.validate_at(UNTIL / 1000 - 1, &print).unwrap();
    assert!(
        made.validate_at(UNTIL / 1000, &print).is_err(),
        "half-open: the last second of the grant is cut off"
    );
    let other = [key().public_key().fingerprint(HashAlg::Sha256)];
    assert!(made.validate_at(FROM / 1000, &other).is_err());
}

#[test]
fn time_that_touches_no_full_second_gets_no_certificate() {
    let ca = key();
    for (from, until) in [(5_100, 5_900), (9_000, 9_000), (9_000, 8_000), (0, 999)] {
        let asked = AdmissionCertificate {
            valid_after_ms: from,
            valid_before_ms: until,
            ..admission()
        };
        assert_eq!(
            Draft::admission(ca.public_key(), [1; 32], asked).err(),
            Some(CaError::NoTime {
                after_ms: from,
                before_ms: until
            })
        );
    }
    assert_eq!(seconds(0, u64::MAX), Ok((0, u64::MAX / 1000)));
}

#[test]
fn principals_are_one_and_exact() {
    let ca = key();
    let refused = |principal: &str| {
        let asked = AdmissionCertificate {
            principal: principal.into(),
            ..admission()
        };
        Draft::admission(ca.public_key(), [1; 32], asked).err()
    };
    assert_eq!(refused(""), Some(CaError::NoPrincipal));
    for bad in ["root", "root+db1", "root@db1,admin@db2", "*@db1", "root@"] {
        assert!(matches!(refused(bad), Some(CaError::BadPrincipal { .. })), "{bad}");
    }
    let asked = TargetCertificate {
        principal: "root@db1".into(),
        ..target()
    };
    assert!(Draft::target(ca.public_key(), [1; 32], 0, asked).is_err());
    for names in [
        vec![],
        vec![String::new()],
        vec!["*.example".into()],
        vec!["a b".into()],
        vec!["a,b".into()],
        vec!["x".repeat(256)],
        vec!["n".into(); 33],
    ] {
        let asked = HostCertificate {
            principals: names.clone(),
            ..host()
        };
        assert!(Draft::host(ca.public_key(), [1; 32], 0, asked).is_err(), "{names:?}");
    }
}

#[test]
fn options_and_ids_of_bad_form_are_refused() {
    let ca = key();
    let with = |change: &dyn Fn(&mut AdmissionCertificate)| {
        let mut asked = admission();
        change(&mut asked);
        Draft::admission(ca.public_key(), [1; 32], asked).err()
    };
    for bad in [
        "",
        "10.0.0.0/8,",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "2001:db8::1/32",
        "host",
        "10.0.0.0/+8",
        " 10.0.0.0/8",
    ] {
        assert!(
            matches!(
                with(&|it| it.source_address = Some(bad.into())),
                Some(CaError::BadSource { .. })
            ),
            "{bad:?}"
        );
    }
    assert!(with(&|it| it.source_address = Some("0.0.0.0/0,::/0".into())).is_none());
    let many = vec!["10.0.0.0/8"; 65].join(",");
    assert!(with(&|it| it.source_address = Some(many.clone())).is_some());
    assert!(with(&|it| it.extensions = vec!["force-command"]).is_some());
    assert!(with(&|it| it.extensions = vec!["permit-pty", "permit-pty"]).is_some());
    for bad in ["", "two\nlines", "esc\u{1b}[0m", &"x".repeat(513)] {
        assert!(with(&|it| it.key_id = bad.into()).is_some(), "{bad:?}");
    }
}

#[test]
fn weak_and_foreign_keys_are_not_certified() {
    let ca = key();
    let dir = tempfile::tempdir().unwrap();
    let made = |kind: &str, bits: &str| {
        let path = dir.path().join(format!("{kind}{bits}"));
        let done = std::process::Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind, "-b", bits, "-f"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        PublicKey::from_openssh(text.trim()).unwrap()
    };
    let ask = |public_key: &PublicKey| {
        let asked = AdmissionCertificate {
            public_key: public_key.clone(),
            ..admission()
        };
        Draft::admission(ca.public_key(), [1; 32], asked)
    };
    assert!(ask(&made("rsa", "2048")).is_err());
    let strong = made("rsa", "3072");
    let certified = sign(&ca, &ask(&strong).unwrap());
    assert_says(
        &keygen(&certified),
        &["Type: ssh-rsa-cert-v01@openssh.com user certificate"],
    );
    assert!(ask(&made("ecdsa", "256")).is_ok());
    assert!(ask(&made("ecdsa", "521")).is_err());
    let asked = TargetCertificate {
        public_key: strong,
        ..target()
    };
    assert!(Draft::target(ca.public_key(), [1; 32], 0, asked).is_err());
}

#[test]
fn a_wrong_signature_makes_no_certificate() {
    let (ca, other) = (key(), key());
    let draft = Draft::admission(ca.public_key(), [1; 32], admission()).unwrap();
    let bytes = draft.to_be_signed().unwrap();
    let foreign = other.try_sign(&bytes).unwrap();
    assert!(matches!(draft.seal(foreign), Err(CaError::NotSigned(_))));
    let elsewhere = ca.try_sign(b"something else").unwrap();
    assert!(matches!(draft.seal(elsewhere), Err(CaError::NotSigned(_))));
    let right = ca.try_sign(&bytes).unwrap();
    draft.seal(right).unwrap();
}
