//! A table of forgeries, with real keys and real certificates.

use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::kernel::break_glass::{Condition, Door, VERSION};
use crate::kernel::grant::Capability;
use crate::kernel::inventory::{IdentityKind, Reach, Target};
use crate::kernel::policy::facts::Who;

const ALICE: u8 = 1;
const HOLDER: u8 = 2;
const BOB: u8 = 3;
const CAROL: u8 = 4;
const NOBODY: u8 = 5;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn line(seed: u8, name: &str) -> String {
    format!("{} {name}", key(seed).public_key().to_openssh().unwrap())
}

fn signers(lines: &[String], threshold: u64) -> Signers {
    Signers::parse(lines, threshold).unwrap()
}

fn three() -> Signers {
    signers(&[line(ALICE, "alice"), line(BOB, "bob"), line(CAROL, "carol")], 2)
}

fn here() -> NodeName {
    "gate1".parse().unwrap()
}

fn certificate(subject: u8, principal: &str) -> String {
    let public = key(subject).public_key().key_data().clone();
    let mut builder = Builder::new([7; 32], public, 1000, 2000).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.valid_principal(principal).unwrap();
    builder.key_id("alice").unwrap();
    builder.sign(&key(99)).unwrap().to_openssh().unwrap()
}

fn sha256(line: &str) -> [u8; 32] {
    Sha256::digest(Certificate::from_openssh(line).unwrap().to_bytes().unwrap()).into()
}

fn statement(certificates: &[String]) -> Statement {
    let door = |(number, line): (usize, &String)| Door {
        login: "root".parse().unwrap(),
        target: Target {
            name: format!("db{}", number + 1).parse().unwrap(),
            logins: vec!["root".parse().unwrap()],
            reach: Reach::Local {
                command: Vec::new(),
                run_as: "nobody".to_owned(),
            },
            labels: Vec::new(),
            disabled: false,
        },
        hops: Vec::new(),
        certificate_sha256: sha256(line),
        certificate_serial: number as u64,
    };
    Statement {
        version: VERSION,
        id: GrantId([7; 16]),
        node: here(),
        made_ms: 1000,
        made_by: "root".to_owned(),
        who: Who {
            name: "alice".parse().unwrap(),
            kind: IdentityKind::Person,
            roles: BTreeSet::new(),
            groups: BTreeSet::new(),
            owner: None,
            purpose: None,
        },
        doors: certificates.iter().enumerate().map(door).collect(),
        capabilities: [Capability::Exec].into(),
        sources: Vec::new(),
        from_ms: 1_000_000,
        until_ms: 2_000_000,
        session_ms: 60_000,
        condition: Condition::StoreDown,
        reason: "the store is gone".to_owned(),
        policy_digest: [0; 32],
    }
}

fn signature(seed: u8, namespace: &str, text: &str) -> String {
    let key = key(seed);
    let bytes = sshsig::to_be_signed(namespace, text.as_bytes()).unwrap();
    sshsig::armored(key.public_key(), namespace, key.try_sign(&bytes).unwrap()).unwrap()
}

fn prepared(by: &[u8]) -> Prepared {
    let certificates = vec![certificate(HOLDER, "root@db1"), certificate(HOLDER, "root@db2")];
    let text = serde_json::to_string(&statement(&certificates)).unwrap();
    Prepared {
        signatures: by.iter().map(|seed| signature(*seed, NAMESPACE, &text)).collect(),
        statement: text,
        certificates,
    }
}

#[test]
fn two_who_do_not_hold_it_are_enough() {
    let signed = prepared(&[BOB, CAROL]).check(&here(), Some(&three())).unwrap();
    let names: Vec<&str> = signed.signers().iter().map(IdentityName::as_str).collect();
    assert_eq!(names, ["bob", "carol"]);
    // A further signature that counts for nothing takes nothing away.
    prepared(&[NOBODY, BOB, ALICE, CAROL])
        .check(&here(), Some(&three()))
        .unwrap();
}

#[test]
fn every_forgery_has_its_row() {
    type Forge = fn(&mut Prepared);
    let rows: &[(&str, &str, Forge)] = &[
        ("nobody signed", "statement_not_signed", |p| p.signatures.clear()),
        ("one signed", "statement_not_signed", |p| drop(p.signatures.pop())),
        ("one signed twice", "statement_not_signed", |p| {
            p.signatures[1] = p.signatures[0].clone();
        }),
        ("a stranger signed", "statement_not_signed", |p| {
            p.signatures[1] = signature(NOBODY, NAMESPACE, &p.statement);
        }),
        ("the holder signed", "statement_not_signed", |p| {
            p.signatures[1] = signature(ALICE, NAMESPACE, &p.statement);
        }),
        ("the certified key signed", "statement_not_signed", |p| {
            p.signatures[1] = signature(HOLDER, NAMESPACE, &p.statement);
        }),
        ("signed for something else", "statement_not_signed", |p| {
            p.signatures[1] = signature(CAROL, "challenge@portcullis", &p.statement);
        }),
        ("signed as a file", "statement_not_signed", |p| {
            p.signatures[1] = signature(CAROL, "file", &p.statement);
        }),
        ("another statement was signed", "statement_not_signed", |p| {
            p.signatures[1] = signature(CAROL, NAMESPACE, &p.statement.replace("60000", "90000"));
        }),
        ("the statement was changed", "statement_not_signed", |p| {
            p.statement = p.statement.replace("\"session_ms\":60000", "\"session_ms\":90000");
        }),
        ("a blank was added", "statement_not_signed", |p| p.statement.push(' ')),
        ("a signature was cut", "statement_not_signed", |p| {
            let half = p.signatures[1].len() / 2;
            p.signatures[1].truncate(half);
        }),
        ("a signature is no signature", "statement_not_signed", |p| {
            p.signatures[1] = "yes".to_owned();
        }),
        ("it comes behind more than are read", "statement_not_signed", |p| {
            let good = p.signatures.clone();
            p.signatures = vec!["no".to_owned(); SIGNATURES_MAX];
            p.signatures.extend(good);
        }),
        ("a certificate less", "statement_certificates", |p| {
            drop(p.certificates.pop())
        }),
        ("a certificate more", "statement_certificates", |p| {
            p.certificates.push(certificate(HOLDER, "root@db3"));
        }),
        ("in another order", "statement_certificates", |p| {
            p.certificates.swap(0, 1)
        }),
        ("another key's certificate", "statement_certificates", |p| {
            p.certificates[1] = certificate(NOBODY, "root@db2");
        }),
        ("no certificate at all", "statement_certificates", |p| {
            p.certificates[1] = "ssh-ed25519-cert-v01@openssh.com !".to_owned();
        }),
        ("no statement", "statement_unreadable", |p| {
            p.statement = "{}".to_owned()
        }),
    ];
    for (what, code, forge) in rows {
        let mut forged = prepared(&[BOB, CAROL]);
        forge(&mut forged);
        let why = forged.check(&here(), Some(&three())).unwrap_err();
        assert_eq!(why.code(), *code, "{what}: {why}");
    }
}

#[test]
fn what_signers_signed_must_fit_as_well() {
    let again = |certificates: Vec<String>, change: fn(&mut Statement)| {
        let mut statement = statement(&certificates);
        change(&mut statement);
        let text = serde_json::to_string(&statement).unwrap();
        Prepared {
            signatures: [BOB, CAROL].iter().map(|by| signature(*by, NAMESPACE, &text)).collect(),
            statement: text,
            certificates,
        }
    };
    let code = |prepared: Prepared| prepared.check(&here(), Some(&three())).unwrap_err().code();
    let good = || vec![certificate(HOLDER, "root@db1")];
    again(good(), |_| {}).check(&here(), Some(&three())).unwrap();
    assert_eq!(
        code(again(good(), |s| s.node = "gate2".parse().unwrap())),
        "statement_other_node"
    );
    assert_eq!(
        code(again(vec![certificate(HOLDER, "root@db9")], |_| {})),
        "statement_certificates"
    );
    let two_keys = vec![certificate(HOLDER, "root@db1"), certificate(NOBODY, "root@db2")];
    assert_eq!(code(again(two_keys, |_| {})), "statement_certificates");
    // A signer who holds it, under whatever name: the certified key is his.
    let own = vec![certificate(CAROL, "root@db1")];
    assert_eq!(code(again(own, |_| {})), "statement_not_signed");
    let none = again(good(), |_| {}).check(&here(), None);
    assert_eq!(none.unwrap_err().code(), "break_glass_not_set_up");
}

#[test]
fn signers_are_people_each_with_one_key() {
    let bad = |lines: &[String], threshold| Signers::parse(lines, threshold).unwrap_err();
    let two = [line(BOB, "bob"), line(CAROL, "carol")];
    assert_eq!(signers(&two, 2).threshold(), 2);
    assert!(bad(&two, 3).contains("never"));
    assert!(bad(&two, 0).contains("never"));
    assert!(bad(&[line(BOB, "bob"), line(CAROL, "bob")], 2).contains("twice"));
    assert!(bad(&[line(BOB, "bob"), line(BOB, "carol")], 2).contains("another"));
    assert!(bad(&[line(BOB, ""), line(CAROL, "carol")], 2).contains("name"));
    assert!(bad(&["bob".to_owned()], 1).contains("public key"));
}

#[test]
fn the_folder_is_read_installed_into_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("break-glass");
    let open = || BreakGlass::open(&folder, here(), Some(three())).unwrap();
    let glass = open();
    let good = prepared(&[BOB, CAROL]);
    assert!(matches!(
        glass.install(&prepared(&[BOB])),
        Err(BreakGlassError::Unfit(_))
    ));
    assert!(!folder.exists(), "nothing was written");
    glass.install(&good).unwrap();
    assert!(matches!(glass.install(&good), Err(BreakGlassError::Installed(_))));

    let certificate = sha256(&good.certificates[1]);
    let found = open().of_certificate(certificate).unwrap();
    assert_eq!((found.used, found.revoked), (None, false));
    assert!(open().of_certificate([0; 32]).is_none());

    let glass = open();
    glass.revoke(|statement| statement.reason == "something else");
    assert!(!glass.of_certificate(certificate).unwrap().revoked);
    glass.revoke(|statement| statement.who.name.as_str() == "alice");
    assert!(glass.of_certificate(certificate).unwrap().revoked);
    glass.reload(Some(three())).unwrap();
    assert!(
        glass.of_certificate(certificate).unwrap().revoked,
        "a reload gives nothing back"
    );

    // Signers who are none any more: what they signed counts for nothing.
    let others = signers(&[line(ALICE, "alice"), line(NOBODY, "nobody")], 1);
    glass.reload(Some(others)).unwrap();
    assert!(glass.of_certificate(certificate).is_none());
    assert_eq!(glass.list().1.len(), 1);
    std::fs::write(folder.join("x.json"), "{").unwrap();
    assert_eq!(
        open().list().1.len(),
        1,
        "one bad file does not take the good ones away"
    );
    assert_eq!(open().list().0.len(), 1);
}
