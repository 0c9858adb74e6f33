use super::*;
use crate::kernel::admit::tests::{admitted, break_glass};
use crate::kernel::habit::History;
use crate::kernel::inventory::IdentityKind;
use crate::kernel::policy::facts::{Whereto, Who};

const NOW: WallMs = 1_700_000_000_000;

fn facts() -> Facts {
    let who = Who {
        name: "alice".parse().unwrap(),
        kind: IdentityKind::Person,
        roles: [].into(),
        groups: [].into(),
        owner: None,
        purpose: None,
    };
    let target = Whereto {
        name: "db1".parse().unwrap(),
        labels: Vec::new(),
    };
    Facts {
        login: "root".into(),
        ..Facts::new(Action::Connect, who, Some(target), NOW)
    }
}

fn ask(admitted: &Admitted, policies: &str, request: Request) -> Result<Permit, Denial> {
    let policies = match policies {
        "" => Policies::builtin().unwrap(),
        text => Policies::load(&[("test.cedar".into(), text.into())]).unwrap(),
    };
    let context = Context {
        now: NOW,
        env_allowed: &["LANG".to_owned()],
        subsystems: &["netconf".to_owned()],
        store_alive: true,
        policies: &policies,
        facts: &facts(),
        history: &History::default(),
    };
    decide(admitted, request, &context)
}

fn exec(command: &str) -> Request {
    Request::Exec {
        command: command.into(),
    }
}

#[test]
fn gate_and_policies_must_both_say_yes() {
    let holder = admitted(|_, _| {});
    let permit = ask(&holder, "", exec("uptime")).unwrap();
    assert_eq!(
        (permit.rule(), permit.rules()),
        ("session-by-grant", &["session-by-grant".to_owned()][..])
    );

    // What the grant lacks no policy gives, and none is asked.
    let no_sftp = Request::Subsystem { name: "sftp".into() };
    let denial = ask(&holder, "@id(\"all\") permit (principal, action, resource);", no_sftp).unwrap_err();
    assert_eq!(
        (denial.rule.as_str(), denial.code),
        ("grant.capabilities", "capability_missing")
    );

    // What the policies forbid no grant gives.
    let forbid = "@id(\"all\") permit (principal, action, resource);
        @id(\"no-dumps\") @note(\"no dumps from here\") @notify
        forbid (principal, action == Action::\"exec\", resource) when { context.labels.contains(\"exfiltration\") };";
    let denial = ask(&holder, forbid, exec("pg_dump orders")).unwrap_err();
    let wanted = Denial {
        rule: "no-dumps".into(),
        code: "policy_denied",
        sentence: "no dumps from here".into(),
        notify: true,
        end: false,
    };
    assert_eq!(denial, wanted);
    assert!(ask(&holder, forbid, exec("uptime")).is_ok());

    // Nothing permits: the sentence says what to do.
    let shell = "@id(\"shell\") permit (principal, action == Action::\"shell\", resource);";
    let denial = ask(&holder, shell, exec("uptime")).unwrap_err();
    assert_eq!(denial.rule, NOTHING_PERMITS);
    assert!(
        denial.sentence.contains("portcullis request root@db1"),
        "{}",
        denial.sentence
    );
}

#[test]
fn what_belongs_to_what_was_permitted_is_the_gates_alone() {
    let holder = admitted(|_, _| {});
    let nothing = "// nothing is permitted";
    for request in [
        Request::Channel,
        Request::Pty,
        Request::WindowChange,
        Request::Signal { name: "INT".into() },
        Request::Env {
            name: "LANG".into(),
            value_bytes: 5,
        },
    ] {
        let permit = ask(&holder, nothing, request.clone()).unwrap_or_else(|denial| panic!("{request:?}: {denial:?}"));
        assert!(permit.rules().is_empty() && permit.rule().contains('.'), "{request:?}");
    }
    for request in [Request::Connect, Request::Shell, exec("id")] {
        assert_eq!(ask(&holder, nothing, request).unwrap_err().rule, NOTHING_PERMITS);
    }
}

#[test]
fn subsystems_pass_by_name_capability_and_policy() {
    let holder = admitted(|_, _| {});
    let subsystem = |name: &str| Request::Subsystem { name: name.into() };
    assert!(ask(&holder, "", subsystem("netconf")).is_ok());
    for name in ["NETCONF", "netconf ", "netcon", "", "scp"] {
        let denial = ask(&holder, "", subsystem(name)).unwrap_err();
        assert_eq!(denial.code, "subsystem_not_allowed", "{name}");
    }
    let forbid = "@id(\"all\") permit (principal, action, resource);
        @id(\"no-netconf\") forbid (principal, action == Action::\"subsystem\", resource) when { context.subsystem == \"netconf\" };";
    assert_eq!(
        ask(&holder, forbid, subsystem("netconf")).unwrap_err().rule,
        "no-netconf"
    );
    let no_exec = admitted(|_, grant| {
        grant.capabilities.remove(&Capability::Exec);
    });
    assert_eq!(
        ask(&no_exec, "", subsystem("netconf")).unwrap_err().code,
        "capability_missing"
    );
}

#[test]
fn forwards_pass_by_capability_form_and_policy() {
    let without = admitted(|_, grant| grant.capabilities = [Capability::Shell, Capability::Exec].into());
    let with = admitted(|presented, grant| {
        for extension in [
            "permit-port-forwarding",
            "permit-agent-forwarding",
            "permit-X11-forwarding",
        ] {
            presented.extensions.push((extension.into(), String::new()));
        }
        grant
            .capabilities
            .extend([Capability::Forward, Capability::Agent, Capability::X11]);
    });
    let tcp = |host: &str, port| Request::DirectTcpip {
        host: host.into(),
        port,
    };
    let unix = |path: &str| Request::DirectStreamlocal { path: path.into() };
    let all = [
        tcp("localhost", 5432),
        unix("/run/db.sock"),
        Request::TcpipForward {
            host: String::new(),
            port: 0,
        },
        Request::StreamlocalForward { path: "/tmp/s".into() },
        Request::Agent,
        Request::X11,
    ];
    for request in all {
        assert_eq!(
            ask(&without, "", request.clone()).unwrap_err().code,
            "capability_missing"
        );
        assert!(ask(&with, "", request.clone()).is_ok(), "{request:?}");
        let denial = ask(&with, "// nothing is permitted", request).unwrap_err();
        assert_eq!(denial.rule, NOTHING_PERMITS);
    }
    for request in [
        tcp("a b", 80),
        tcp("a\nb", 80),
        tcp("a", 65_536),
        unix(""),
        unix("/a\0b"),
    ] {
        assert_eq!(
            ask(&with, "", request.clone()).unwrap_err().code,
            "forward_malformed",
            "{request:?}"
        );
    }
    let literal = "@id(\"one\") permit (principal, action == Action::\"forward\", resource)
        when { context.forward.direction == \"local\" && context.forward.host == \"localhost\" && context.forward.port == 5432 };";
    assert!(ask(&with, literal, tcp("localhost", 5432)).is_ok());
    for request in [
        tcp("localhost", 5433),
        tcp("127.0.0.1", 5432),
        unix("localhost"),
        Request::Agent,
    ] {
        assert!(ask(&with, literal, request.clone()).is_err(), "{request:?}");
    }
}

#[test]
fn a_forced_command_is_what_policies_are_asked_about() {
    let forced = admitted(|presented, _| {
        presented.critical_options = vec![("force-command".into(), "pg_dump orders".into())];
    });
    let only = |command: &str| {
        format!(
            "@id(\"one\") permit (principal, action == Action::\"exec\", resource) when {{ context.command == \"{command}\" }};"
        )
    };
    for request in [
        Request::Shell,
        exec("uptime"),
        Request::Subsystem { name: "sftp".into() },
    ] {
        assert!(ask(&forced, &only("pg_dump orders"), request.clone()).is_ok());
        assert!(ask(&forced, &only("uptime"), request).is_err());
    }
}

#[test]
fn obligations_reach_the_permit() {
    let holder = admitted(|_, _| {});
    let policies =
        "@id(\"in\") @record(\"durable\") @warn(\"10m\") permit (principal, action == Action::\"connect\", resource);";
    let permit = ask(&holder, policies, Request::Connect).unwrap();
    assert_eq!(permit.obligations().record, obligations::RecordMode::Durable);
    assert_eq!(permit.obligations().warn_ms, [600_000].into());
}

/// What is kept of what a request lets through, by these rules.
fn kept(holder: &Admitted, rules: &str, request: Request) -> Kept {
    ask(holder, rules, request).unwrap().kept()
}

#[test]
fn a_digest_is_kept_of_connections_to_somewhere_else_only() {
    let rules = "@id(\"d\") @record(\"digest\") permit (principal, action, resource);";
    let holder = admitted(|presented, grant| {
        let more = ["permit-agent-forwarding", "permit-X11-forwarding"];
        presented
            .extensions
            .extend(more.map(|name| (name.into(), String::new())));
        grant
            .capabilities
            .extend([Capability::Sftp, Capability::Agent, Capability::X11]);
    });
    let forwards = [
        Request::DirectTcpip {
            host: "db".into(),
            port: 5432,
        },
        Request::TcpipForward {
            host: "localhost".into(),
            port: 0,
        },
        Request::DirectStreamlocal { path: "/run/db".into() },
        Request::StreamlocalForward { path: "/run/me".into() },
    ];
    for request in &forwards {
        assert_eq!(kept(&holder, rules, request.clone()), Kept::Digest, "{request:?}");
        assert_eq!(
            kept(&holder, "", request.clone()),
            Kept::Full,
            "nothing said: {request:?}"
        );
    }
    let others = [
        Request::Agent,
        Request::X11,
        Request::Connect,
        Request::Channel,
        Request::Shell,
        exec("uptime"),
        Request::Subsystem { name: "sftp".into() },
    ];
    for request in others {
        assert_eq!(kept(&holder, rules, request.clone()), Kept::Full, "{request:?}");
    }
    let [local, ..] = forwards;
    assert_eq!(kept(&break_glass::admitted(), rules, local), Kept::Full);
}

#[test]
fn who_asks_for_all_of_it_wins_over_who_asks_for_less() {
    let holder = admitted(|_, _| {});
    let rules = |more: &str| {
        format!(
            "@id(\"a\") @record(\"digest\") permit (principal, action == Action::\"forward\", resource);
             @id(\"b\") {more} permit (principal, action in [Action::\"connect\", Action::\"forward\"], resource);"
        )
    };
    for (more, wanted) in [
        // Who demands nothing loosens and tightens nothing.
        ("", Kept::Digest),
        ("@record(\"digest\")", Kept::Digest),
        ("@record(\"full\")", Kept::Full),
        ("@record(\"durable\")", Kept::Full),
        ("@record(\"encrypted\")", Kept::Full),
    ] {
        let request = Request::DirectTcpip {
            host: "db".into(),
            port: 5432,
        };
        assert_eq!(kept(&holder, &rules(more), request), wanted, "{more}");
    }
}

#[test]
fn what_nobody_said_is_written_as_it_always_was() {
    let written = serde_json::to_value(Obligations::default()).unwrap();
    assert_eq!((&written["record"], written.get("forward")), (&"full".into(), None));
    let read: Obligations = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
}
