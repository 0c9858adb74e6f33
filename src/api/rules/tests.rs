use super::*;
use crate::api::wire::IssueRequest;
use crate::kernel::credential::Credential;

const NOW: u64 = 1_800_000_000_500;
const MAX: u64 = 12 * 3_600_000;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1ezm4J6Pn6nYGvlXnYzdH0tQOyEP6yjJVNrCWfXkyf alice";

fn asks(kind: IdentityKind) -> IdentityRequest {
    IdentityRequest {
        name: "ci".parse().unwrap(),
        kind,
        owner: Some("alice".to_owned()),
        purpose: Some("deploys".to_owned()),
        review_by_ms: None,
        keys: vec![format!(" {KEY}\n")],
        roles: Default::default(),
        groups: Default::default(),
    }
}

#[test]
fn identities_are_accountable() {
    let machine = identity(asks(IdentityKind::Machine), NOW).unwrap();
    assert_eq!(machine.review_by_ms, Some(NOW + REVIEW_MS));
    assert_eq!(machine.keys, [KEY]);
    let person = identity(asks(IdentityKind::Person), NOW).unwrap();
    assert_eq!(person.review_by_ms, None);

    type Change = fn(&mut IdentityRequest);
    let refused: [(&str, Change); 9] = [
        ("owner and a purpose", |it| it.owner = None),
        ("owner and a purpose", |it| it.purpose = None),
        ("purpose is empty", |it| it.purpose = Some(" ".to_owned())),
        ("control characters", |it| it.purpose = Some("a\x1b[2J".to_owned())),
        ("owner:", |it| it.owner = Some("a b".to_owned())),
        ("answer for itself", |it| it.owner = Some("ci".to_owned())),
        ("passed already", |it| it.review_by_ms = Some(NOW)),
        ("not an OpenSSH public key", |it| {
            it.keys = vec!["ssh-ed25519 AAAA".to_owned()]
        }),
        ("more than 16 keys", |it| it.keys = vec![KEY.to_owned(); 17]),
    ];
    for (what, change) in refused {
        let mut request = asks(IdentityKind::Agent);
        change(&mut request);
        let problem = identity(request, NOW).unwrap_err();
        assert!(problem.detail.contains(what), "{what}: {problem:?}");
        assert_eq!(problem.code, Code::Invalid);
    }
}

#[test]
fn addresses_name_a_host_and_a_port() {
    for good in [
        "db1:22",
        "10.0.0.1:2222",
        "[2001:db8::1]:22",
        "db-1.example.org:65535",
        "a_b:1",
    ] {
        assert!(address(good).is_ok(), "{good}");
    }
    for bad in [
        "db1",
        "db1:",
        ":22",
        "db1:0",
        "db1:65536",
        "db1:+22",
        "db1:22 ",
        "2001:db8::1:22",
        "[x]:22",
        "-oProxyCommand=x:22",
        "a b:22",
        "a\n:22",
        "u@h:22",
        "",
    ] {
        assert!(address(bad).is_err(), "{bad:?}");
    }
}

fn ssh_target() -> Target {
    Target {
        name: "db1".parse().unwrap(),
        logins: vec!["root".parse().unwrap(), "postgres".parse().unwrap()],
        reach: Reach::Ssh {
            addr: "db1:22".to_owned(),
            proof: HostProof::HostKey(KEY.to_owned()),
            credential: Credential::Certificate,
            via: None,
        },
        labels: vec!["env=prod".to_owned()],
        disabled: false,
    }
}

fn local_target() -> Target {
    let reach = Reach::Local {
        command: vec!["psql".to_owned()],
        run_as: "nobody".to_owned(),
    };
    Target { reach, ..ssh_target() }
}

#[test]
fn targets_are_complete() {
    target(&ssh_target()).unwrap();
    target(&local_target()).unwrap();
    type Change = fn(&mut Target);
    let refused: [(&str, Change); 10] = [
        ("at least one login", |it| it.logins.clear()),
        ("more than 64", |it| it.labels = vec!["a=b".to_owned(); 65]),
        ("not KEY=VALUE", |it| it.labels = vec!["prod".to_owned()]),
        ("not KEY=VALUE", |it| it.labels = vec!["a=\x07".to_owned()]),
        ("not HOST:PORT", |it| {
            it.reach = Reach::Ssh {
                addr: "db1".to_owned(),
                proof: HostProof::HostKey(KEY.to_owned()),
                credential: Credential::Certificate,
                via: None,
            }
        }),
        ("not an OpenSSH public key", |it| {
            it.reach = Reach::Ssh {
                addr: "db1:22".to_owned(),
                proof: HostProof::HostCa("x".to_owned()),
                credential: Credential::Certificate,
                via: None,
            }
        }),
        ("not an account name", |it| {
            it.reach = Reach::Local {
                command: vec![],
                run_as: "a:b".to_owned(),
            }
        }),
        ("not an account name", |it| {
            it.reach = Reach::Local {
                command: vec![],
                run_as: String::new(),
            }
        }),
        ("without NUL", |it| {
            it.reach = Reach::Local {
                command: vec!["a\0".to_owned()],
                run_as: "nobody".to_owned(),
            }
        }),
        ("empty name", |it| {
            it.reach = Reach::Local {
                command: vec![String::new()],
                run_as: "nobody".to_owned(),
            }
        }),
    ];
    for (what, change) in refused {
        let mut it = ssh_target();
        change(&mut it);
        let problem = target(&it).unwrap_err();
        assert!(problem.detail.contains(what), "{what}: {problem:?}");
    }
}

struct Case {
    request: IssueRequest,
    identity: Option<Identity>,
    target: Option<Target>,
}

fn case() -> Case {
    let mut identity = identity(asks(IdentityKind::Machine), NOW).unwrap();
    identity.name = "alice".parse().unwrap();
    Case {
        request: IssueRequest {
            identity: "alice".parse().unwrap(),
            destination: "root@db1".parse().unwrap(),
            for_secs: 1800,
            reason: "ticket 7".to_owned(),
            public_key: KEY.to_owned(),
            allow: vec![Capability::Shell],
            sources: Vec::new(),
            single_use: false,
        },
        identity: Some(identity),
        target: Some(ssh_target()),
    }
}

fn issued(case: &Case) -> Result<(WallMs, WallMs), Problem> {
    issue(&Issuing {
        request: &case.request,
        identity: case.identity.as_ref(),
        target: case.target.as_ref(),
        now: NOW,
        grant_ms_max: MAX,
    })
}

#[test]
fn grants_follow_the_inventory_and_the_limits() {
    issued(&case()).unwrap();
    type Change = fn(&mut Case);
    let refused: [(Code, &str, Change); 14] = [
        (Code::NotFound, "no identity", |it| it.identity = None),
        (Code::NotFound, "no target", |it| it.target = None),
        (Code::Denied, "not a login of db1: it has root, postgres", |it| {
            it.request.destination = "admin@db1".parse().unwrap()
        }),
        (Code::Denied, "disabled", |it| {
            it.target.as_mut().unwrap().disabled = true
        }),
        (Code::Denied, "overdue", |it| {
            it.identity.as_mut().unwrap().review_by_ms = Some(NOW)
        }),
        (Code::Denied, "no owner", |it| {
            it.identity.as_mut().unwrap().owner = None
        }),
        (Code::Denied, "no owner", |it| {
            it.identity.as_mut().unwrap().review_by_ms = None
        }),
        (Code::Denied, "a grant lasts", |it| it.request.for_secs = 0),
        (Code::Denied, "a grant lasts", |it| it.request.for_secs = 12 * 3600 + 1),
        (Code::Denied, "a grant lasts", |it| it.request.for_secs = u64::MAX),
        (Code::Invalid, "reason is empty", |it| {
            it.request.reason = "\t".to_owned()
        }),
        (Code::Invalid, "control characters", |it| {
            it.request.reason = "a\nb".to_owned()
        }),
        (Code::Invalid, "allows nothing", |it| it.request.allow.clear()),
        (Code::Invalid, "more than 64 sources", |it| {
            it.request.sources = vec!["::1".parse().unwrap(); 65]
        }),
    ];
    for (code, what, change) in refused {
        let mut it = case();
        change(&mut it);
        let problem = issued(&it).unwrap_err();
        assert!(
            problem.code == code && problem.detail.contains(what),
            "{what}: {problem:?}"
        );
    }
}

#[test]
fn grants_end_on_a_second_and_never_past_the_maximum() {
    let cases = [
        (5, NOW, NOW + 5_500),
        (1, NOW + 500, NOW + 1_500),
        (MAX / 1000, NOW, NOW - 500 + MAX),
    ];
    for (for_secs, now, until) in cases {
        assert_eq!(window(for_secs, now, MAX).unwrap(), (now, until), "{for_secs} {now}");
    }
}

#[test]
fn extensions_are_only_those_needed() {
    use Capability::*;
    let cases: [(&[Capability], &[&str]); 4] = [
        (&[Shell], &["permit-pty"]),
        (&[Exec, Sftp], &[]),
        (&[Forward, Shell], &["permit-port-forwarding", "permit-pty"]),
        (
            &[Agent, X11, Forward, Shell],
            &[
                "permit-X11-forwarding",
                "permit-agent-forwarding",
                "permit-port-forwarding",
                "permit-pty",
            ],
        ),
    ];
    for (allow, want) in cases {
        assert_eq!(extensions(allow), want);
    }
}

#[test]
fn prefixes_find_one_or_say_why() {
    use crate::kernel::id::SessionId;
    let ids = [SessionId([0xaa; 16]), SessionId([0xab; 16]), SessionId([0xac; 16])];
    let mut twin = [0xab; 16];
    twin[15] = 0;
    let find = |prefix: &str| {
        by_prefix("session", prefix, ids.iter().copied().chain([SessionId(twin)])).map_err(|problem| problem.code)
    };
    assert_eq!(find("aaaa"), Ok(ids[0]));
    assert_eq!(find(&"ab".repeat(16)), Ok(ids[1]));
    assert_eq!(find("abab"), Err(Code::Ambiguous));
    assert_eq!(find("bbbb"), Err(Code::NotFound));
    for bad in ["aaa", "", "AAAA", "zzzz", "../.."] {
        assert_eq!(find(bad), Err(Code::Invalid), "{bad}");
    }
}
