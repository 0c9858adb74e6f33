use super::*;
use crate::kernel::grant::Capability;
use crate::kernel::inventory::{HostProof, IdentityKind, Reach};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn statement() -> Statement {
    let door = |name: &str, at: u8| Door {
        login: "root".parse().unwrap(),
        target: Target {
            name: name.parse().unwrap(),
            logins: vec!["root".parse().unwrap()],
            reach: Reach::Ssh {
                addr: "db.example.org:22".to_owned(),
                proof: HostProof::HostKey("ssh-ed25519 AAAA".to_owned()),
                credential: Default::default(),
                via: None,
            },
            labels: vec!["env=production".to_owned()],
            disabled: false,
        },
        hops: Vec::new(),
        certificate_sha256: [at; 32],
        certificate_serial: u64::from(at),
    };
    Statement {
        version: VERSION,
        id: GrantId([7; 16]),
        node: "gate1".parse().unwrap(),
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
        doors: vec![door("db1", 1), door("db2", 2)],
        capabilities: [Capability::Exec].into(),
        sources: Vec::new(),
        from_ms: DAY_MS,
        until_ms: 30 * DAY_MS,
        session_ms: 3_600_000,
        condition: Condition::StoreDown,
        reason: "the store is gone".to_owned(),
        policy_digest: [9; 32],
    }
}

fn names(all: &[&str]) -> BTreeSet<IdentityName> {
    all.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn a_statement_reads_back_and_nothing_else_does() {
    let text = serde_json::to_string(&statement()).unwrap();
    assert_eq!(Statement::read(&text).unwrap(), statement());
    let code = |text: &str| Statement::read(text).unwrap_err().code();
    assert_eq!(code(""), "statement_unreadable");
    assert_eq!(
        code(&text.replace("\"session_ms\"", "\"session_ns\"")),
        "statement_unreadable"
    );
    let twice = text.replacen('{', "{\"session_ms\":1,", 1);
    assert_eq!(code(&twice), "statement_unreadable", "one key twice");
    let more = text.replacen('{', "{\"also\":1,", 1);
    assert_eq!(code(&more), "statement_unreadable", "a key that nobody knows");
    let cut = &text[..text.len() - 1];
    assert_eq!(code(cut), "statement_unreadable");
    assert_eq!(code(&format!("{text}{text}")), "statement_unreadable");
    assert_eq!(code(&" ".repeat(STATEMENT_BYTES_MAX + 1)), "statement_too_long");
}

/// Has a door lead over the bastion of this name.
fn via(door: &mut Door, hop: &str) {
    if let Reach::Ssh { via, .. } = &mut door.target.reach {
        *via = Some(hop.parse().unwrap());
    }
}

#[test]
fn every_part_that_does_not_fit_has_its_row() {
    type Change = fn(&mut Statement);
    let rows: &[(&str, Change)] = &[
        ("statement_version", |s| s.version = 2),
        ("statement_window", |s| s.until_ms = s.from_ms),
        ("statement_window", |s| s.until_ms = s.from_ms - 1),
        ("statement_window", |s| s.until_ms = s.from_ms + WINDOW_MS_MAX + 1),
        ("statement_session", |s| s.session_ms = 0),
        ("statement_session", |s| s.session_ms = SESSION_MS_MAX + 1),
        ("statement_destinations", |s| s.doors.clear()),
        ("statement_destinations", |s| s.doors[1] = s.doors[0].clone()),
        ("statement_destinations", |s| {
            s.doors[1].certificate_sha256 = s.doors[0].certificate_sha256;
        }),
        ("statement_login", |s| s.doors[1].login = "oracle".parse().unwrap()),
        ("statement_route", |s| via(&mut s.doors[1], "nobody")),
        ("statement_route", |s| {
            via(&mut s.doors[1], "hop");
            let mut hop = s.doors[1].clone();
            hop.target.name = "hop".parse().unwrap();
            s.doors[1].hops = vec![hop.target];
        }),
        ("statement_allows_nothing", |s| s.capabilities.clear()),
    ];
    for (number, (code, change)) in rows.iter().enumerate() {
        let mut changed = statement();
        change(&mut changed);
        assert_eq!(changed.check().unwrap_err().code(), *code, "row {number}");
        let signed = Signed::new(changed, &"gate1".parse().unwrap(), names(&["bob", "carol"]), 2);
        assert_eq!(signed.unwrap_err().code(), *code, "row {number}");
    }
    statement().check().unwrap();
}

#[test]
fn a_quorum_counts_people_who_do_not_hold_it() {
    let here: NodeName = "gate1".parse().unwrap();
    let signed = |by: &[&str], need| Signed::new(statement(), &here, names(by), need);
    assert_eq!(
        *signed(&["bob", "carol"], 2).unwrap().signers(),
        names(&["bob", "carol"])
    );
    for (by, need, have) in [
        (&[][..], 2, 0),
        (&["bob"], 2, 1),
        (&["alice", "bob"], 2, 1),
        (&["alice"], 1, 0),
        (&[], 0, 0),
    ] {
        let need_at_least_one = need.max(1);
        assert_eq!(
            signed(by, need).unwrap_err(),
            Unfit::NotEnough {
                have,
                need: need_at_least_one
            },
            "{by:?}"
        );
    }
    let elsewhere = Signed::new(statement(), &"gate2".parse().unwrap(), names(&["bob", "carol"]), 2);
    assert_eq!(elsewhere.unwrap_err().code(), "statement_other_node");
}

#[test]
fn a_session_ends_by_its_length_and_with_the_window() {
    let statement = statement();
    let end = statement.until_ms;
    assert_eq!(statement.session_until(DAY_MS), DAY_MS + 3_600_000);
    assert_eq!(statement.session_until(end - 10), end);
    assert_eq!(statement.session_until(u64::MAX), end);
}
