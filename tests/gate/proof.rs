//! Commands that wait for a fresh proof of who gave them: alone by themselves
//! and in a terminal, and nothing but that proof lets them go on.

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Client, Enrolled, Person, Running, Setup, Sshd, Terminal, Variant, Wire, World, secs, wait_for, wait_until,
};

const RULES: &str = r#"
@id("prove") @step_up("5m")
permit (principal, action in [Action::"exec", Action::"command"], resource) when { context.command like "*proven*" };
@id("both") @step_up("5m") @approvals("1")
permit (principal, action in [Action::"exec", Action::"command"], resource) when { context.command like "*doubly*" };
@id("soon") @step_up("5m") @answer_within("2s")
permit (principal, action == Action::"exec", resource) when { context.command like "*soon*" };
"#;

const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

fn world() -> World {
    let mut bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").make();
    std::fs::write(bastion.state().join("policies/proof.cedar"), RULES).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn alice(world: &World) -> Person {
    Person::new("alice").enrol(&world.bastion, &[]).log_in(&world.bastion)
}

fn bob(world: &World) -> Person {
    Person::new("bob")
        .enrol(&world.bastion, &["--role", "approver", "--role", "admin"])
        .log_in(&world.bastion)
}

fn requests(world: &World) -> Vec<Value> {
    world.bastion.json(&["requests"])["requests"]
        .as_array()
        .unwrap()
        .clone()
}

/// The request of the command that waits.
#[track_caller]
fn pending(world: &World) -> Value {
    wait_for("a request of a command", secs(20), || {
        requests(world).into_iter().find(|row| row["state"] == "pending")
    })
}

fn id(request: &Value) -> &str {
    request["id"].as_str().unwrap()
}

/// The file that a command makes, and the command.
fn touches(world: &World, name: &str) -> (std::path::PathBuf, String) {
    let made = world.sshd.folder().join(name);
    let command = format!("touch {}", made.display());
    (made, command)
}

#[test]
fn a_command_waits_for_the_proof_of_who_gave_it() {
    let world = world();
    let (alice, bob) = (alice(&world), bob(&world));
    let (made, command) = touches(&world, "proven");
    let ssh = Running::start(&mut world.client().exec(&command));
    ssh.await_err("waiting for a fresh proof of yours", secs(20));
    let request = pending(&world);
    assert_eq!((&request["runs"], &request["missing"]), (&json!(command), &json!(0)));
    assert_eq!(request["unconfirmed"], true);
    let hint = format!("portcullis confirm {}", id(&request));
    assert!(ssh.err().contains(&hint), "{}", ssh.err());
    // Neither another's proof nor another's yes is hers.
    let theirs = bob.run(&["confirm", id(&request), "--yes"]);
    assert_eq!(theirs.code(), 3, "{}", theirs.err());
    let at_the_server = world.bastion.admin(&["confirm", id(&request), "--yes"]);
    assert_eq!(at_the_server.code(), 3, "{}", at_the_server.err());
    let own = alice.run(&["approve", id(&request), "--yes"]);
    assert_eq!(own.code(), 3, "{}", own.err());
    let yes = bob.run(&["approve", id(&request), "--yes"]).ok();
    assert!(
        yes.err().contains("Still missing: a fresh proof of alice."),
        "{}",
        yes.err()
    );
    assert!(!made.exists());
    let said = alice.run(&["confirm", id(&request), "--yes"]).ok();
    assert!(said.err().contains("A fresh proof is asked for"), "{}", said.err());
    assert!(said.out().contains("approved"), "{}", said.out());
    let done = ssh.finish(secs(20));
    assert_eq!(done.code(), 0, "{}", done.err());
    assert!(made.exists());
    let record = world.bastion.only_record();
    record.assert_sealed();
    let marked = record.markers();
    let told = "command approved by bob and confirmed by its user (ssh-key)";
    assert!(marked.iter().any(|text| text.contains(told)), "{marked:?}");
    // Once is once.
    let again = alice.run(&["confirm", id(&request), "--yes"]);
    assert_eq!(again.code(), 1, "{}", again.err());
    world.bastion.assert_ledger_clean();
}

#[test]
fn it_takes_both_where_a_rule_says_both() {
    let world = world();
    let (alice, bob) = (alice(&world), bob(&world));
    let (made, command) = touches(&world, "doubly");
    let ssh = Running::start(&mut world.client().exec(&command));
    ssh.await_err("approval by somebody else and for a fresh proof of yours", secs(20));
    let request = pending(&world);
    let first = alice.run(&["confirm", id(&request), "--yes"]).ok();
    assert!(first.err().contains("Still missing: 1 more yes."), "{}", first.err());
    assert!(!made.exists());
    bob.run(&["approve", id(&request), "--yes"]).ok();
    assert_eq!(ssh.finish(secs(20)).code(), 0);
    assert!(made.exists());
}

#[test]
fn a_line_of_a_terminal_waits_too() {
    let world = world();
    let alice = alice(&world);
    let (made, command) = touches(&world, "proven");
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 100, 30);
    terminal.line("printf 'here-%s\\n' 41");
    terminal.expect("here-41", secs(20));
    let (refused, not_now) = touches(&world, "unproven");
    terminal.line(&format!("{not_now} !!"));
    terminal.expect("waiting for a fresh proof of yours", secs(20));
    let request = pending(&world);
    assert_eq!(
        request["undecided"], true,
        "the shell puts another text there: {request}"
    );
    let shown = alice.run(&["requests", id(&request)]).ok();
    assert!(shown.out().contains("could not be read for certain"), "{}", shown.out());
    terminal.keys("\x03");
    terminal.expect("refused by rule prove: you took it back", secs(20));
    wait_until("it is withdrawn", secs(20), || {
        requests(&world)[0]["state"] == "withdrawn"
    });
    let late = alice.run(&["confirm", id(&request), "--yes"]);
    assert_eq!(late.code(), 1, "{}", late.err());
    terminal.line("printf 'and-%s\\n' 42");
    terminal.expect("and-42", secs(20));
    terminal.line(&command);
    let request = pending(&world);
    assert_eq!(
        (&request["runs"], &request["undecided"]),
        (&json!(command), &json!(false))
    );
    assert!(!made.exists());
    alice.run(&["confirm", id(&request), "--yes"]).ok();
    wait_until("the command has run", secs(20), || made.exists());
    assert!(!refused.exists());
    terminal.line("printf 'end-%s\\n' 43");
    terminal.expect("end-43", secs(20));
    terminal.line("exit");
    terminal.finish(secs(20));
    let record = world.bastion.only_record();
    record.assert_sealed();
    let marked = record.markers();
    assert!(
        marked
            .iter()
            .any(|text| text.contains("command confirmed by its user (ssh-key)")),
        "{marked:?}"
    );
}

#[test]
fn who_does_not_prove_it_in_time_does_not_run_it() {
    let world = world();
    let alice = alice(&world);
    let (made, command) = touches(&world, "soon");
    // The one connection of its grant is this one: that it was used ends nothing.
    let once = world.bastion.pass("root@db1").arg("--single-use").issue();
    let client = world.bastion.client(&once);
    let done = Running::start(&mut client.exec(&command)).finish(secs(30));
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("you did not confirm it in time"), "{}", done.err());
    assert!(!made.exists());
    let request = requests(&world).remove(0);
    assert_eq!(request["state"], "expired");
    let late = alice.run(&["confirm", id(&request), "--yes"]);
    assert_eq!(late.code(), 1, "{}", late.err());
}

/// Signatures by an enrolled key for anything but this one command.
struct Signer<'a> {
    wire: Wire,
    key: &'a Enrolled,
    token: String,
}

impl Signer<'_> {
    fn challenge(&self, of: &Value) -> String {
        let wanted = json!({ "identity": "alice", "for": of });
        let given = self.wire.call(HERE, "", "POST", "/v1/login/challenge", Some(&wanted));
        given.json()["challenge"].as_str().expect("a challenge").to_owned()
    }

    fn proof(&self, of: &Value) -> Value {
        let challenge = self.challenge(of);
        let signature = self.key.sign(&challenge);
        json!({ "challenge": challenge, "signature": signature })
    }

    /// What becomes of it: a status, and a code.
    fn confirm(&self, request: &Value, proof: &Value) -> (u16, String) {
        let body = json!({ "request_sha256": request["sha256"], "proof": proof });
        let path = format!("/v1/requests/{}/confirm", id(request));
        let answer = self.wire.call(HERE, &self.token, "POST", &path, Some(&body));
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        (answer.status, code)
    }
}

#[test]
fn no_other_proof_is_taken() {
    let world = world();
    let key = Enrolled::new();
    let public = key.public();
    let add = ["identity", "add", "alice", "--key", public.to_str().unwrap()];
    world.bastion.admin(&add).ok();
    let wire = Wire::of(&world.bastion);
    let token = wire.login(HERE, "alice", &key, &[], 600);
    let signer = Signer { wire, key: &key, token };
    let client: Client = world.client();
    let (made, command) = touches(&world, "proven");
    let ssh = Running::start(&mut client.exec(&command));
    ssh.await_err("waiting for a fresh proof", secs(20));
    let request = pending(&world);
    let other = format!("{:032x}", 7);
    for purpose in [
        json!({ "action": "login" }),
        json!({ "action": "answer", "about": id(&request) }),
        json!({ "action": "collect", "about": id(&request) }),
        json!({ "action": "confirm", "about": other }),
    ] {
        let refused = signer.confirm(&request, &signer.proof(&purpose));
        assert_eq!(refused, (401, "unauthenticated".to_owned()), "{purpose}");
    }
    let purpose = json!({ "action": "confirm", "about": id(&request) });
    assert_eq!(signer.confirm(&request, &Value::Null), (403, "step-up".to_owned()));
    // By a key of nobody.
    let stranger = Enrolled::new();
    let challenge = signer.challenge(&purpose);
    let forged = json!({ "challenge": challenge, "signature": stranger.sign(&challenge) });
    assert_eq!(signer.confirm(&request, &forged), (401, "unauthenticated".to_owned()));
    // Of another text than the one that waits.
    let mut changed = request.clone();
    changed["sha256"] = json!("0".repeat(64));
    let good = signer.proof(&purpose);
    assert_eq!(signer.confirm(&changed, &good), (409, "conflict".to_owned()));
    // It is used up by that.
    assert_eq!(signer.confirm(&request, &good), (401, "unauthenticated".to_owned()));
    assert!(!made.exists() && pending(&world)["unconfirmed"] == true);
    let (status, code) = signer.confirm(&request, &signer.proof(&purpose));
    assert_eq!(status, 200, "{code}");
    assert_eq!(ssh.finish(secs(20)).code(), 0);
    assert!(made.exists());
    // What takes a yes alone takes no proof.
    std::fs::write(
        world.bastion.state().join("policies/proof.cedar"),
        RULES.replace("@step_up(\"5m\") @approvals", "@approvals"),
    )
    .unwrap();
    world.bastion.signal(Signal::SIGHUP);
    wait_until("the reload", secs(20), || world.bastion.log().contains("reloaded"));
    let (made, command) = touches(&world, "doubly");
    let ssh = Running::start(&mut client.exec(&command));
    ssh.await_err("waiting for approval by somebody else,", secs(20));
    let request = pending(&world);
    let purpose = json!({ "action": "confirm", "about": id(&request) });
    let needless = signer.confirm(&request, &signer.proof(&purpose));
    assert_eq!(needless, (409, "conflict".to_owned()));
    assert!(!made.exists());
    ssh.signal(Signal::SIGKILL);
    ssh.finish(secs(20));
}
