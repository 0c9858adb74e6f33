//! Rules about commands that are asked for by themselves: what one demands is
//! met before a byte of it reaches the target.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::channels::master;
use crate::support::{Running, Setup, Sshd, Variant, World, run, secs, wait_for, wait_until};

const RULES: &str = r#"
@id("two") @approvals("1")
permit (principal, action == Action::"exec", resource) when { context.command like "*approved*" };
@id("watched") @notice("somebody looks at this")
permit (principal, action == Action::"exec", resource) when { context.command like "*noticed*" };
@id("out") @end @note("that was the last straw")
forbid (principal, action == Action::"exec", resource) when { context.command like "*straw*" };
@id("why") @reason("why that?")
permit (principal, action == Action::"exec", resource) when { context.command like "*reasoned*" };
"#;

fn world() -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/consent.cedar"), RULES).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn states(world: &World) -> Vec<Value> {
    let listed = world.bastion.json(&["requests"]);
    let rows = listed["requests"].as_array().unwrap();
    rows.iter().map(|row| row["state"].clone()).collect()
}

/// The request of the command that waits.
fn pending(world: &World, command: &str) -> String {
    wait_for("a request of a command", secs(20), || {
        let listed = world.bastion.json(&["requests"]);
        let rows = listed["requests"].as_array()?;
        let found = rows.iter().find(|row| row["state"] == "pending")?;
        assert_eq!(found["runs"], command, "{found}");
        Some(found["id"].as_str()?.to_owned())
    })
}

#[test]
fn a_command_waits_for_a_yes_with_all_that_follows_it() {
    let world = world();
    let made = world.sshd.folder().join("approved");
    let command = format!("touch {}; cat; exit 3", made.display());
    let mut ssh = Running::with_input(&mut world.client().exec(&command));
    ssh.say("early\n");
    ssh.await_err("waiting for approval by somebody else", secs(20));
    let id = pending(&world, &command);
    assert!(ssh.err().contains(&format!("portcullis approve {id}")), "{}", ssh.err());
    assert!(!made.exists() && ssh.out().is_empty());
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    ssh.await_out("early", secs(20));
    let done = ssh.finish(secs(20));
    assert_eq!((done.code(), done.out().as_str()), (3, "early\n"), "{}", done.err());
    assert!(made.exists());
    let record = world.bastion.only_record();
    record.assert_sealed();
    let marked = record.markers();
    assert!(
        marked.iter().any(|text| text.contains("command approved by root")),
        "{marked:?}"
    );
    assert_eq!(record.input(1), b"early\n");
}

#[test]
fn a_no_is_told_and_nothing_of_it_came_to_the_target() {
    let world = world();
    let made = world.sshd.folder().join("approved");
    let command = format!("touch {}", made.display());
    let mut ssh = Running::with_input(&mut world.client().exec(&command));
    ssh.say("early\n");
    ssh.await_err("waiting for approval", secs(20));
    let id = pending(&world, &command);
    world.bastion.admin(&["deny", &id, "--reason", "not on a Friday"]).ok();
    let done = ssh.finish(secs(20));
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("refused by rule two: "), "{}", done.err());
    assert!(done.err().contains("denied by root: not on a Friday"), "{}", done.err());
    assert!(!made.exists());
    let record = world.bastion.only_record();
    record.assert_sealed();
    let decided = record.decisions(1);
    let of = |allowed, code: &str| ("exec".to_owned(), allowed, code.to_owned());
    assert!(decided.contains(&of(false, "demand_not_met")), "{decided:?}");
    assert!(record.exit_status(1).is_empty());
}

#[test]
fn who_leaves_takes_the_command_back() {
    let world = world();
    let made = world.sshd.folder().join("approved");
    let ssh = Running::start(&mut world.client().exec(&format!("touch {}", made.display())));
    ssh.await_err("waiting for approval", secs(20));
    ssh.signal(Signal::SIGKILL);
    ssh.finish(secs(20));
    wait_until("the request is taken back", secs(20), || {
        states(&world) == ["withdrawn"]
    });
    assert!(!made.exists());
    let record = world.bastion.only_record();
    record.assert_sealed();
    let marked = record.markers();
    assert!(
        marked.iter().any(|text| text.contains("the answer was not there")),
        "{marked:?}"
    );
}

#[test]
fn others_on_the_connection_go_on_while_one_waits() {
    let world = world();
    let client = world.client();
    let (master, socket) = master(&world, &client);
    let mut waits = client.through(&socket);
    let waits = Running::start(waits.arg("echo approved-$((40 + 2))"));
    waits.await_err("waiting for approval", secs(20));
    assert_eq!(run(client.through(&socket).arg("echo on"), secs(20)).ok().out(), "on\n");
    let id = pending(&world, "echo approved-$((40 + 2))");
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    assert_eq!(waits.finish(secs(20)).ok().out(), "approved-42\n");
    master.signal(Signal::SIGTERM);
    master.finish(secs(20));
}

#[test]
fn notices_come_first_and_a_rule_may_end_the_session() {
    let world = world();
    let done = run(&mut world.client().exec("echo noticed"), secs(20)).ok();
    assert_eq!(done.out(), "noticed\n");
    assert!(
        done.err().contains("portcullis: somebody looks at this"),
        "{}",
        done.err()
    );
    let done = run(&mut world.client().exec("echo straw"), secs(20));
    assert_ne!((done.code(), done.out().as_str()), (0, "straw\n"));
    assert!(done.err().contains("that was the last straw"), "{}", done.err());
}

#[test]
fn a_yes_counts_only_as_long_as_policy_does() {
    let world = world();
    let made = world.sshd.folder().join("approved");
    let command = format!("touch {}", made.display());
    let ssh = Running::start(&mut world.client().exec(&command));
    ssh.await_err("waiting for approval", secs(20));
    let id = pending(&world, &command);
    let policies = world.bastion.state().join("policies/later.cedar");
    let rule = r#"@id("later") @note("not any more")
        forbid (principal, action == Action::"exec", resource) when { context.command like "*approved*" };"#;
    std::fs::write(policies, rule).unwrap();
    world.bastion.signal(Signal::SIGHUP);
    wait_until("the reload", secs(10), || {
        world.bastion.log().contains("reloaded: in force")
    });
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    let done = ssh.finish(secs(20));
    assert!(done.err().contains("refused by rule later: "), "{}", done.err());
    assert!(!made.exists());
}

#[test]
fn a_reason_is_told_before_a_command_and_goes_no_further() {
    let world = world();
    let command = "echo reasoned; env | grep -c REASON";
    let mut plain = world.client().exec(command);
    let done = run(&mut plain, secs(20));
    assert_ne!(done.code(), 0);
    assert!(done.out().is_empty());
    assert!(
        done.err()
            .contains("refused by rule why: it asks: why that? Say it with PORTCULLIS_REASON="),
        "{}",
        done.err()
    );
    let with = |reason: &str| {
        let mut ssh = world.client().ssh();
        ssh.env("PORTCULLIS_REASON", reason);
        ssh.args(["-o", "SendEnv=PORTCULLIS_REASON", "gate", command]);
        run(&mut ssh, secs(20))
    };
    // What says nothing, or more than a line, is none.
    for reason in ["  ", "two\nlines"] {
        assert!(with(reason).err().contains("refused by rule why"), "{reason:?}");
    }
    let done = with("ticket 42");
    assert_eq!(done.out(), "reasoned\n0\n", "{}", done.err());
    let records = world.bastion.records(4);
    let given = "reason for the command, asked for by rule why: ticket 42".to_owned();
    let told = records.iter().filter(|record| record.markers().contains(&given));
    assert_eq!(told.count(), 1);
}
