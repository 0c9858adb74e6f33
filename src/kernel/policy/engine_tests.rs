use cedar_policy::Schema;

use super::*;
use crate::kernel::grant::Capability;
use crate::kernel::inventory::{IdentityKind, Role};
use crate::kernel::policy::facts::{ForwardTo, LocalTime, Whereto, Who};
use crate::kernel::policy::load::SCHEMA;

fn load(text: &str) -> Result<Policies, Vec<PolicyError>> {
    Policies::load(&[("test.cedar".to_owned(), text.to_owned())])
}

fn who(name: &str, kind: IdentityKind, roles: &[Role]) -> Who {
    Who {
        name: name.parse().unwrap(),
        kind,
        roles: roles.iter().copied().collect(),
        groups: ["dba".parse().unwrap()].into(),
        owner: None,
        purpose: None,
    }
}

fn facts(action: Action) -> Facts {
    let target = Whereto {
        name: "db1".parse().unwrap(),
        labels: vec!["env=prod".into(), "team=billing".into()],
    };
    let alice = who("alice", IdentityKind::Person, &[Role::User]);
    let mut facts = Facts::new(action, alice, Some(target), 1_800_000_000_123);
    facts.login = "root".into();
    facts.source = Some("::ffff:10.1.2.3".parse().unwrap());
    facts.local = LocalTime {
        weekday: 5,
        minute: 600,
    };
    facts.capabilities = [Capability::Exec].into();
    facts
}

#[test]
fn every_action_asks_in_the_words_of_the_schema() {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
    let names = Names::new().unwrap();
    let labels = Labels::load(labels::BUILTIN).unwrap();
    for action in Action::ALL {
        for full in [false, true] {
            let mut facts = facts(action);
            if full {
                facts.who.owner = Some("bob".into());
                facts.who.purpose = Some("backup".into());
                facts.device = Some("laptop".into());
                facts.location = Some("office".into());
                facts.ticket = Some("INC-1".into());
                facts.requested_by = Some("bob".into());
                facts.holder = Some("carol".into());
                facts.command = Some("ls".into());
                facts.labels = ["destructive".into()].into();
                facts.subsystem = Some("sftp".into());
                facts.zones = ["office".into()].into();
                facts.anomalies = ["first-source".into()].into();
                facts.forward = Some(ForwardTo {
                    direction: "local".into(),
                    host: "localhost".into(),
                    port: 5432,
                });
            }
            let question = names.question(&facts, &labels).unwrap();
            let request = &question.request;
            let checked = cedar_policy::Request::new(
                request.principal().unwrap().clone(),
                request.action().unwrap().clone(),
                request.resource().unwrap().clone(),
                request.context().unwrap().clone(),
                Some(&schema),
            );
            checked.unwrap_or_else(|error| panic!("{action:?}: {error}"));
            let entities: Vec<_> = question.entities.iter().cloned().collect();
            cedar_policy::Entities::from_entities(entities, Some(&schema)).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn errors_tell_their_place_and_what_was_meant() {
    let cases = [
        // Without a name.
        ("\n\npermit (principal, action, resource);", 3, 1, "@id"),
        // A slip in an annotation.
        (
            "@id(\"a\")\n@aprovals(\"1\")\npermit (principal, action, resource);",
            1,
            1,
            "@approvals",
        ),
        // A value that is none.
        (
            "@id(\"a\") @max(\"soon\") permit (principal, action, resource);",
            1,
            1,
            "not a duration",
        ),
        (
            "@id(\"a\") @review(\"no\") permit (principal, action, resource);",
            1,
            1,
            "takes no value",
        ),
        (
            "@id(\"a b\") permit (principal, action, resource);",
            1,
            1,
            "letters, digits",
        ),
        // An annotation that would do nothing.
        (
            "@id(\"a\") @max(\"1h\") forbid (principal, action, resource);",
            1,
            1,
            "on a forbid",
        ),
        (
            "@id(\"a\") @approvals(\"1\") permit (principal, action == Action::\"shell\", resource);",
            1,
            1,
            "only for request",
        ),
        (
            "@id(\"a\") @end permit (principal, action == Action::\"command\", resource);",
            1,
            1,
            "on a permit",
        ),
        (
            "@id(\"a\") @reason(\"x\") permit (principal, action == Action::\"shell\", resource);",
            1,
            1,
            "only for exec, command",
        ),
        (
            "@id(\"a\") @notice permit (principal, action == Action::\"command\", resource);",
            1,
            1,
            "it says nothing",
        ),
        (
            "@id(\"a\") @step_up(\"1m\") permit (principal, action == Action::\"shell\", resource);",
            1,
            1,
            "it does nothing for these actions",
        ),
        (
            "@id(\"a\") @hidden_command(\"later\") permit (principal, action == Action::\"shell\", resource);",
            1,
            1,
            "notice or end",
        ),
        (
            "@id(\"a\") @record(\"digest\") permit (principal, action in [Action::\"connect\", Action::\"shell\"], resource);",
            1,
            1,
            "`digest` does nothing for these actions, only for forward, exec, subsystem",
        ),
        (
            "@id(\"a\") @record(\"durable\") permit (principal, action == Action::\"forward\", resource);",
            1,
            1,
            "`durable` does nothing for these actions, only for request, connect",
        ),
        (
            "@id(\"a\") @record(\"full\") permit (principal, action == Action::\"shell\", resource);",
            1,
            1,
            "only for request, connect, forward",
        ),
        (
            "@id(\"a\") @record(\"digest\") forbid (principal, action == Action::\"forward\", resource);",
            1,
            1,
            "on a forbid",
        ),
        (
            "@id(\"a\") @grace(\"1m\") permit (principal, action, resource);",
            1,
            1,
            "@end_on_change",
        ),
        // What the schema does not know.
        (
            "@id(\"a\")\npermit (principal, action == Action::\"exec\", resource)\nwhen { context.comand like \"ls*\" };",
            3,
            8,
            "comand",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"exce\", resource);",
            1,
            1,
            "exce",
        ),
        (
            "@id(\"a\") permit (principal in Grup::\"dba\", action, resource);",
            1,
            1,
            "Grup",
        ),
        // Never true.
        (
            "@id(\"a\") permit (principal, action, resource) when { 1 == 2 };",
            1,
            1,
            "false",
        ),
        // Not Cedar.
        (
            "@id(\"a\")\npermit (principal, action resource);",
            2,
            27,
            "unexpected token",
        ),
        (
            "@id(\"a\") permit (principal == ?principal, action, resource);",
            1,
            1,
            "template",
        ),
        // A name twice.
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            2,
            1,
            "another policy",
        ),
    ];
    for (text, line, column, said) in cases {
        let errors = load(text).expect_err(text);
        let first = &errors[0];
        assert!(first.to_string().contains(said), "{text}\n{first}");
        assert_eq!(first.line, line, "{text}\n{first}");
        // Where a place within a line is told, it is a place in that line.
        assert!(first.column >= column, "{text}\n{first}");
        assert!(first.to_string().starts_with("test.cedar:"), "{first}");
    }
}

#[test]
fn bounds_refuse() {
    let many: Vec<(String, String)> = (0..=load::FILES_MAX).map(|n| (n.to_string(), String::new())).collect();
    assert!(Policies::load(&many).is_err());
    let large = "/".repeat(load::FILE_BYTES_MAX + 1);
    assert!(load(&large).is_err());
    assert!(load("").is_ok(), "no policies: nothing is permitted");
}

#[test]
fn what_would_be_too_deep_for_the_stack_is_refused_before_it_is_read() {
    let when = |condition: &str| format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};");
    let many = |piece: &str, count: usize| piece.repeat(count);
    for bomb in [
        many("(", 100_000) + "true" + &many(")", 100_000),
        many("[", 100_000) + &many("]", 100_000) + " == []",
        many("{a: ", 10_000) + "1" + &many("}", 10_000) + " == 1",
        many("if true then true else ", 10_000) + "true",
        many("true && ", 100_000) + "true",
        many("1 + ", 100_000) + "1 == 1",
        many("!", 100_000) + "true",
        "context".to_owned() + &many(".a", 100_000),
    ] {
        let errors = load(&when(&bomb)).unwrap_err();
        let said = errors[0].to_string();
        assert!(
            said.contains("nested deeper") || said.contains("operators"),
            "{}\n{said}",
            &bomb[..40]
        );
    }
    // Many policies, brackets in text and in comments are not deep.
    let text = format!("// {}\n@note(\"{}\\\"\")\n", many("(", 100), many("[", 100));
    let text: String = (0..200)
        .map(|n| format!("{text}@id(\"r{n}\") permit (principal, action, resource);\n"))
        .collect();
    assert_eq!(load(&text).unwrap_or_else(|errors| panic!("{errors:#?}")).count(), 200);
    // And what is just allowed is read.
    let deep = when(&(many("(", 60) + "context.risk > 1" + &many(")", 60)));
    assert_eq!(load(&deep).unwrap().count(), 1);
    let long = when(&(many("context.risk > 1 && ", 100) + "context.risk > 1"));
    assert!(load(&long).unwrap().decide(&facts(Action::Exec)).errors.is_empty());
}

#[test]
fn a_forbid_beats_and_one_that_cannot_be_evaluated_refuses() {
    let permit = "@id(\"yes\") permit (principal, action == Action::\"exec\", resource);";
    assert!(load(permit).unwrap().decide(&facts(Action::Exec)).allowed);

    let forbid = format!("{permit} @id(\"no\") forbid (principal in Group::\"dba\", action, resource);");
    let verdict = load(&forbid).unwrap().decide(&facts(Action::Exec));
    assert_eq!((verdict.allowed, verdict.rules), (false, vec!["no".to_owned()]));

    // Overflow is the one error that a validated policy can meet.
    let overflow = "context.risk + 9223372036854775807 > 3";
    let broken = format!("{permit} @id(\"no\") forbid (principal, action, resource) when {{ {overflow} }};");
    let mut risky = facts(Action::Exec);
    risky.risk = 1;
    let verdict = load(&broken).unwrap().decide(&risky);
    assert_eq!((verdict.allowed, verdict.rules), (false, vec!["no".to_owned()]));
    assert!(verdict.errors[0].contains("overflow"), "{:?}", verdict.errors);

    // A broken permit is none.
    let broken = format!("{permit} @id(\"maybe\") permit (principal, action, resource) when {{ {overflow} }};");
    let verdict = load(&broken).unwrap().decide(&risky);
    assert_eq!((verdict.allowed, verdict.rules), (true, vec!["yes".to_owned()]));
    assert_eq!(verdict.errors.len(), 1);
}

#[test]
fn nothing_that_permits_refuses_and_says_how_to_ask() {
    let policies = load(
        "@id(\"a-other\") permit (principal, action == Action::\"exec\", resource == Target::\"db2\");
         @id(\"b-near\") @note(\"in office hours\") permit (principal, action == Action::\"exec\", resource) when { context.local.minute < 60 };
         @id(\"c-else\") permit (principal, action == Action::\"shell\", resource);",
    )
    .unwrap();
    let told = policies.explain(&facts(Action::Exec));
    assert!(!told.verdict.allowed && told.verdict.rules.is_empty());
    let near: Vec<&str> = told.nearest.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(near, ["b-near", "a-other"]);
    assert_eq!(
        told.sentence,
        "no: no rule lets alice exec at root@db1; ask for access: portcullis request root@db1 --for 30m --reason TEXT"
    );
    let told = policies.explain(&facts(Action::Shell));
    assert_eq!(told.sentence, "yes: alice may shell at root@db1, says rule c-else");
    assert!(told.nearest.is_empty());
}

#[test]
fn obligations_of_all_that_said_yes_meet() {
    let policies = load(
        "@id(\"a\") @approvals(\"1\") @max(\"8h\") permit (principal, action == Action::\"request\", resource);
         @id(\"b\") @approvals(\"2\") @max(\"12h\") @review @step_up(\"5m\") @approvers(\"dba, ops\")
         permit (principal, action == Action::\"request\", resource in Label::\"env=prod\");
         @id(\"c\") @approvals(\"9\") permit (principal, action == Action::\"request\", resource in Label::\"env=test\");",
    )
    .unwrap();
    let verdict = policies.decide(&facts(Action::Request));
    assert_eq!(verdict.rules, ["a", "b"]);
    let wanted = Obligations {
        approvals: 2,
        approvers: ["dba".parse().unwrap(), "ops".parse().unwrap()].into(),
        max_ms: Some(8 * 3_600_000),
        step_up_ms: Some(300_000),
        review: true,
        ..Obligations::default()
    };
    assert_eq!(verdict.obligations, wanted);
}

#[test]
fn sorting_leaves_out_nothing_that_would_have_matched() {
    let scopes = [
        "principal",
        "principal == Identity::\"alice\"",
        "principal in Group::\"dba\"",
        "principal in Kind::\"vendor\"",
        "principal is Identity in Role::\"user\"",
    ];
    let places = [
        "resource",
        "resource == Target::\"db1\"",
        "resource in Label::\"env=prod\"",
        "resource is Target in Label::\"team=billing\"",
        "resource in Target::\"db1\"",
        "resource == Target::\"db9\"",
    ];
    let mut text = String::new();
    for (p, principal) in scopes.iter().enumerate() {
        for (r, resource) in places.iter().enumerate() {
            text.push_str(&format!(
                "@id(\"{p}-{r}\") permit ({principal}, action in [Action::\"exec\", Action::\"shell\"], {resource});\n"
            ));
        }
    }
    let verdict = load(&text).unwrap().decide(&facts(Action::Exec));
    let mut wanted: Vec<String> = Vec::new();
    for p in [0, 1, 2, 4] {
        for r in [0, 1, 2, 3, 4] {
            wanted.push(format!("{p}-{r}"));
        }
    }
    assert_eq!(verdict.rules, wanted);
    assert!(verdict.errors.is_empty());
}

#[test]
fn the_digest_knows_names_and_texts_and_no_order() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let digest = |files: &[(String, String)]| Policies::load(files).unwrap().digest();
    let one = file("a.cedar", "// a");
    let two = file("b.cedar", "// b");
    assert_eq!(digest(&[one.clone(), two.clone()]), digest(&[two.clone(), one.clone()]));
    assert_ne!(digest(std::slice::from_ref(&one)), digest(&[file("c.cedar", "// a")]));
    assert_ne!(digest(&[one.clone(), two]), digest(&[one, file("b.cedar", "// c")]));
}

#[test]
fn a_time_that_no_calendar_holds_refuses() {
    let mut late = facts(Action::Exec);
    late.now_ms = u64::MAX;
    let verdict = Policies::builtin().unwrap().decide(&late);
    assert!(!verdict.allowed);
    assert_eq!(verdict.errors.len(), 1);
}

#[test]
fn the_default_policies() {
    let policies = Policies::builtin().unwrap_or_else(|errors| panic!("{errors:#?}"));
    let with = |action, kind, roles: &[Role], change: &dyn Fn(&mut Facts)| {
        let mut facts = facts(action);
        facts.who = who("alice", kind, roles);
        change(&mut facts);
        policies.decide(&facts)
    };
    let nothing = |_: &mut Facts| {};
    let labelled = |facts: &mut Facts| facts.target.as_mut().unwrap().labels.push("allow=machines".into());
    let holder = |name: &'static str| move |facts: &mut Facts| facts.holder = Some(name.into());
    let requester = |name: &'static str| move |facts: &mut Facts| facts.requested_by = Some(name.into());
    use Action::*;
    use IdentityKind::*;

    for action in [Connect, Shell, Exec, Subsystem, Forward, Command] {
        let verdict = with(action, Person, &[Role::User], &nothing);
        assert!(verdict.allowed, "{action:?}");
        assert_eq!(verdict.obligations.end_on_change, action == Connect, "{action:?}");
    }

    let ask = with(Request, Person, &[Role::User], &nothing);
    assert_eq!(
        (ask.allowed, ask.obligations.approvals, ask.obligations.max_ms),
        (true, 1, Some(8 * 3_600_000))
    );
    assert_eq!(with(Request, Vendor, &[Role::User], &nothing).obligations.approvals, 1);
    assert!(!with(Request, Machine, &[Role::Machine], &nothing).allowed);
    let machine = with(Request, Machine, &[Role::Machine], &labelled);
    assert_eq!((machine.allowed, machine.obligations.approvals), (true, 0));
    let agent = with(Request, Agent, &[Role::Machine], &labelled);
    assert_eq!((agent.allowed, agent.obligations.approvals), (true, 1));
    let shell = |facts: &mut Facts| {
        labelled(facts);
        facts.capabilities.insert(Capability::Shell);
    };
    assert_eq!(
        with(Request, Agent, &[Role::Machine], &shell).rules,
        ["agents-exec-only"]
    );

    assert!(
        with(Issue, Person, &[Role::User], &requester("alice")).allowed,
        "collects what was approved"
    );
    assert!(!with(Issue, Person, &[Role::User], &holder("bob")).allowed);
    assert!(with(Issue, Person, &[Role::Admin], &holder("bob")).allowed);
    assert!(
        !with(Issue, Person, &[Role::Admin], &holder("alice")).allowed,
        "not to oneself"
    );
    assert!(!with(Issue, Person, &[Role::Admin], &nothing).allowed, "nor unsaid");

    for role in [Role::Approver, Role::Admin] {
        assert!(with(Approve, Person, &[role], &requester("bob")).allowed);
        assert!(with(Revoke, Person, &[role], &holder("bob")).allowed);
        assert_eq!(
            with(Approve, Person, &[role], &requester("alice")).rules,
            ["never-ones-own-request"]
        );
        assert!(!with(Approve, Person, &[role], &holder("alice")).allowed);
    }
    for role in [Role::User, Role::Auditor, Role::Investigator, Role::Sponsor] {
        assert!(!with(Approve, Person, &[role], &requester("bob")).allowed);
        assert!(!with(Revoke, Person, &[role], &holder("bob")).allowed);
        assert!(with(Revoke, Person, &[role], &holder("alice")).allowed);
        assert!(
            with(Revoke, Person, &[role], &requester("alice")).allowed,
            "a sponsor ends it"
        );
        assert_eq!(
            with(Replay, Person, &[role], &holder("bob")).allowed,
            role == Role::Investigator
        );
    }
    assert!(!with(Replay, Person, &[Role::Admin], &holder("bob")).allowed);
}

#[test]
fn lines_are_asked_about_where_a_rule_could_say_more_than_yes() {
    let plain = "@id(\"yes\") permit (principal, action in [Action::\"shell\", Action::\"command\"], resource);";
    let rule = |effect: &str, scope: &str| format!("{plain} @id(\"r\") {effect} ({scope});");
    let about = "principal, action == Action::\"command\", resource";
    for (text, asks) in [
        (plain.to_owned(), false),
        (rule("forbid", about), true),
        (
            rule(
                "forbid",
                "principal, action == Action::\"command\", resource in Label::\"env=test\"",
            ),
            false,
        ),
        (
            rule(
                "forbid",
                "principal in Kind::\"vendor\", action == Action::\"command\", resource",
            ),
            false,
        ),
        // Over every action: it does not name this one.
        (rule("forbid", "principal, action, resource"), false),
        (rule("permit", about), false),
        (rule("@notice(\"look\") permit", about), true),
        (rule("@approvals(\"1\") permit", about), true),
        // Nothing permits for certain.
        (
            "@id(\"r\") permit (principal, action == Action::\"command\", resource) when { context.undecided };"
                .to_owned(),
            true,
        ),
        (
            "@id(\"r\") permit (principal, action == Action::\"command\", resource in Label::\"env=test\");".to_owned(),
            true,
        ),
        // Nothing is about it at all.
        (
            "@id(\"r\") permit (principal, action == Action::\"shell\", resource);".to_owned(),
            false,
        ),
    ] {
        let policies = load(&text).unwrap();
        // Whatever was asked last.
        assert_eq!(policies.ask_about_commands(&facts(Action::Shell)), asks, "{text}");
    }
}

#[test]
fn what_demands_something_at_an_enter_is_named() {
    let text = "@id(\"a\") permit (principal, action == Action::\"command\", resource);
        @id(\"b\") @reason(\"why?\") permit (principal, action == Action::\"command\", resource);";
    let policies = load(text).unwrap();
    let verdict = policies.decide(&facts(Action::Command));
    assert_eq!(
        (verdict.allowed, verdict.rules.as_slice()),
        (true, ["a".to_owned(), "b".to_owned()].as_slice())
    );
    assert_eq!(policies.demanding(&verdict.rules), Some("b"));
    assert_eq!(policies.demanding(&["a".to_owned()]), None);
}
