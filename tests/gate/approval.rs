//! A rule over `connect` that wants somebody's yes: the client waits and is
//! told, and not a byte reaches the target before.

use serde_json::Value;

use crate::ledger::events;
use crate::support::{Bastion, Client, Pass, Running, Setup, Sshd, Variant, World, run, secs, wait_for, wait_until};

const RULE: &str = r#"
    @id("each-connection") @notify @approvals("1") @answer_within("2m")
    permit (principal, action == Action::"connect", resource in Label::"guard=on");
"#;

fn guarded() -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/guarded.cedar"), RULE).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    let (addr, pin) = (sshd.addr().to_string(), sshd.host_key_pub());
    let args = [
        "target",
        "add",
        "db1",
        "--addr",
        &addr,
        "--login",
        "root",
        "--label",
        "guard=on",
        "--host-key",
    ];
    let args: Vec<&str> = args.into_iter().chain([pin.to_str().unwrap()]).collect();
    bastion.admin(&args).ok();
    World { bastion, sshd }
}

/// The one request that waits.
fn pending(bastion: &Bastion) -> String {
    wait_for("a request of a connection", secs(20), || {
        let listed = bastion.json(&["requests"]);
        let found = listed["requests"]
            .as_array()?
            .iter()
            .find(|row| row["state"] == "pending")?;
        assert!(found["connects"].is_string(), "{found}");
        assert_eq!(found["sources"], serde_json::json!(["127.0.0.1/32"]), "{found}");
        Some(found["id"].as_str()?.to_owned())
    })
}

fn states(bastion: &Bastion) -> Vec<Value> {
    let listed = bastion.json(&["requests"]);
    let rows = listed["requests"].as_array().unwrap();
    rows.iter().map(|row| row["state"].clone()).collect()
}

/// A client with somebody in front of it.
fn attended(client: Client) -> Client {
    let text = std::fs::read_to_string(client.config()).unwrap();
    std::fs::write(client.config(), text.replace("BatchMode yes", "BatchMode no")).unwrap();
    client
}

fn untouched(world: &World) {
    assert!(!world.sshd.log().contains("Connection from"), "{}", world.sshd.log());
    assert!(world.bastion.sessions().is_empty());
}

#[test]
fn somebody_waits_in_words_and_goes_in_by_the_yes() {
    for jump in [false, true] {
        let world = guarded();
        let pass = world.pass();
        let client = match jump {
            false => world.bastion.client(&pass),
            true => world.bastion.jumper(&pass),
        };
        let ssh = Running::start(&mut attended(client).exec("echo in"));
        ssh.await_err("waiting for approval by somebody else", secs(20));
        let id = pending(&world.bastion);
        assert!(ssh.err().contains(&format!("portcullis approve {id}")), "{}", ssh.err());
        untouched(&world);
        world.bastion.admin(&["approve", &id, "--yes"]).ok();
        assert_eq!(ssh.finish(secs(20)).ok().out(), "in\n");
        let record = world.bastion.only_record();
        record.assert_sealed();
        let marked = record
            .markers()
            .iter()
            .any(|text| text.contains("connect approved by root"));
        assert!(marked, "{:?}", record.markers());
        // However often it was looked at.
        assert_eq!(events(&world.bastion, "alarm").len(), 1);
        // The yes was for that one connection, and gives no certificate.
        let collected = world.bastion.admin(&["fetch", &id]);
        assert_ne!(collected.code(), 0);
    }
}

#[test]
fn a_no_is_told_with_its_reason() {
    let world = guarded();
    let ssh = Running::start(&mut attended(world.client()).exec("echo in"));
    ssh.await_err("waiting for approval", secs(20));
    let id = pending(&world.bastion);
    world.bastion.admin(&["deny", &id, "--reason", "not on a Friday"]).ok();
    let done = ssh.finish(secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("denied by root: not on a Friday"), "{}", done.err());
    untouched(&world);
}

#[test]
fn who_leaves_takes_the_request_back() {
    let world = guarded();
    let ssh = Running::start(&mut attended(world.client()).exec("echo in"));
    ssh.await_err("waiting for approval", secs(20));
    pending(&world.bastion);
    ssh.signal(nix::sys::signal::Signal::SIGKILL);
    ssh.finish(secs(20));
    wait_until("the request is taken back", secs(20), || {
        states(&world.bastion) == ["withdrawn"]
    });
    untouched(&world);
}

#[test]
fn a_revoked_grant_is_not_revived_by_a_late_yes() {
    let world = guarded();
    let pass = world.pass();
    let ssh = Running::start(&mut attended(world.bastion.client(&pass)).exec("echo in"));
    ssh.await_err("waiting for approval", secs(20));
    let id = pending(&world.bastion);
    world
        .bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "over"])
        .ok();
    // Whether the yes still counts as an answer is not what matters.
    world.bastion.admin(&["approve", &id, "--yes"]);
    let done = ssh.finish(secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("revoked"), "{}", done.err());
    untouched(&world);
}

#[test]
fn a_script_waits_at_the_channel_once_it_is_known() {
    let world = guarded();
    let client = world.client();
    // It cannot be told apart before it was asked to take words.
    let done = run(&mut client.exec("echo in"), secs(20));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("keyboard-interactive"), "{}", done.err());
    assert!(states(&world.bastion).is_empty(), "nobody is asked for one who left");
    let ssh = Running::start(&mut client.exec("echo in"));
    let id = pending(&world.bastion);
    untouched(&world);
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    assert_eq!(ssh.finish(secs(20)).ok().out(), "in\n");
    let ssh = Running::start(&mut client.exec("echo in"));
    let id = pending(&world.bastion);
    world.bastion.admin(&["deny", &id, "--reason", "enough"]).ok();
    let done = ssh.finish(secs(20));
    assert!(done.err().contains("denied by root: enough"), "{}", done.err());
}

/// A machine's certificate.
fn machine(world: &World, allow: &str) -> Pass {
    world.bastion.admin(&["identity", "add", "bob"]).ok();
    let until = "2099-01-01";
    let add = [
        "identity",
        "add",
        "robot",
        "--kind",
        "machine",
        "--owner",
        "bob",
        "--purpose",
        "jobs",
    ];
    let add: Vec<&str> = add.into_iter().chain(["--review-by", until]).collect();
    world.bastion.admin(&add).ok();
    world.bastion.pass("root@db1").identity("robot").allow(allow).issue()
}

#[test]
fn a_machine_waits_at_the_channel_at_once() {
    let world = guarded();
    let pass = machine(&world, "exec");
    let ssh = Running::start(&mut world.bastion.client(&pass).exec("echo in"));
    let id = pending(&world.bastion);
    untouched(&world);
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    assert_eq!(ssh.finish(secs(20)).ok().out(), "in\n");
}

#[test]
fn who_waits_without_words_is_told_no_at_once_when_he_asks_to_be_connected_back() {
    let world = guarded();
    let pass = machine(&world, "exec,forward");
    let began = std::time::Instant::now();
    let mut ssh = world.bastion.client(&pass).ssh();
    ssh.args(["-R", "0:127.0.0.1:9", "gate", "echo in"]);
    let ssh = Running::start(&mut ssh);
    let id = pending(&world.bastion);
    ssh.await_err("remote port forwarding failed", secs(20));
    assert!(
        began.elapsed() < secs(8),
        "the connection stood still: {:?}",
        began.elapsed()
    );
    untouched(&world);
    world.bastion.admin(&["approve", &id, "--yes"]).ok();
    assert_eq!(ssh.finish(secs(20)).ok().out(), "in\n");
}
