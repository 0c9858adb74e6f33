//! Just-in-time access as people have it: two of them, their agents, their
//! stock ssh, a real sshd, and nothing on the way that is not theirs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use portcullis_recording::head;
use serde_json::Value;

use crate::support::{Bastion, Person, Postgres, Running, Setup, Sshd, Variant, run, secs, wait_for};

/// A server with its API over TLS, and a host behind it.
fn house(policies: &[(&str, &str)]) -> (Bastion, Sshd) {
    house_with(Setup::new(), policies)
}

fn house_with(setup: Setup, policies: &[(&str, &str)]) -> (Bastion, Sshd) {
    let mut bastion = setup.set("api.listen", "\"127.0.0.1:0\"").make();
    for (name, text) in policies {
        std::fs::write(bastion.state().join("policies").join(name), text).unwrap();
    }
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    (bastion, sshd)
}

fn alice(bastion: &Bastion) -> Person {
    Person::new("alice").enrol(bastion, &[]).log_in(bastion)
}

fn bob(bastion: &Bastion) -> Person {
    Person::new("bob")
        .enrol(bastion, &["--role", "approver"])
        .log_in(bastion)
}

/// As `--source`, so that nothing depends on where the test runs.
const HERE: &str = "127.0.0.1/32";

#[test]
fn asked_approved_and_plain_ssh() {
    let (bastion, _sshd) = house(&[]);
    asked_approved_and_in(&bastion);
}

#[test]
fn the_same_with_its_state_in_postgresql() {
    let postgres = Postgres::start();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("store.url");
    let mut open = std::fs::File::options();
    let mut url = open.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    writeln!(url, "{}", postgres.url()).unwrap();
    let setup = Setup::new().init("--store-url-file").init(file.to_str().unwrap());
    let (mut bastion, _sshd) = house_with(setup, &[]);
    assert!(!bastion.state().join("store.db").exists());
    asked_approved_and_in(&bastion);

    // A running session falls with a revocation; what was is there after a restart.
    let pass = bastion.pass("root@db1").identity("carol").issue();
    let mut long = bastion.client(&pass).exec("sleep 60");
    let running = Running::start(&mut long);
    wait_for("a live session", secs(20), || {
        (!bastion.live_sessions().is_empty()).then_some(())
    });
    bastion
        .admin(&["revoke", "--identity", "carol", "--reason", "test"])
        .ok();
    assert_eq!(running.finish(secs(20)).code(), 255);
    bastion.await_records(2, secs(30));
    assert_eq!(bastion.stop(secs(40)), Some(0));
    bastion.serve();
    assert_eq!(bastion.sessions().len(), 2);
    assert_eq!(bastion.admin(&["check"]).code(), 0);
    bastion.assert_ledger_clean();
}

fn asked_approved_and_in(bastion: &Bastion) {
    let (alice, bob) = (alice(bastion), bob(bastion));
    alice.run(&["ssh-config", "--install"]).ok();

    // Nobody has asked: refused in words, with what to do.
    let before = alice.ssh(&["db1", "true"]);
    assert_eq!(before.code(), 255, "{}", before.err());
    assert!(before.err().contains("portcullis request root@db1"), "{}", before.err());

    let id = alice.ask(&["root@db1", "--for", "30m", "--reason", "INC-42", "--source", HERE]);
    let own = alice.run(&["approve", &id, "--yes"]);
    assert_eq!(own.code(), 3, "no role, and her own: {}", own.err());
    let shown = bob.json(&["requests", &id]);
    assert_eq!(shown["request"]["reason"], "INC-42");
    bob.run(&["approve", &id, "--yes"]).ok();
    let twice = bob.run(&["approve", &id, "--yes"]);
    assert_ne!(twice.code(), 0, "{}", twice.out());

    let done = alice.ssh(&["db1", "echo in"]);
    assert_eq!((done.code(), done.out()), (0, "in\n".into()), "{}", done.err());
    let agent = alice.agent_lists();
    assert!(agent.contains("-CERT"), "the agent holds the certificate: {agent}");
    for entry in walk(alice.home()) {
        let text = std::fs::read(&entry).unwrap_or_default();
        let private = String::from_utf8_lossy(&text).contains("PRIVATE KEY");
        assert!(!private, "a private key on disk: {}", entry.display());
    }

    let record = bastion.only_record();
    assert_eq!(record.head.identity, "alice");
    let grants = alice.json(&["grants", "--live"]);
    let grant = &grants["grants"][0];
    assert_eq!(
        (&grant["issued_by"], &grant["reason"]),
        (&"bob".into(), &"INC-42".into())
    );
    bob.run(&["revoke", "--grant", grant["id"].as_str().unwrap(), "--reason", "done"])
        .ok();
    let after = alice.ssh(&["db1", "true"]);
    assert_eq!(after.code(), 255, "{}", after.out());
    bastion.assert_ledger_clean();
}

/// Two grants in one agent, and the login typed as ever: each connection shows
/// the certificate of where it leads, to the gate and to the server inside.
#[test]
fn plain_ssh_as_a_jump_with_several_grants_in_the_agent() {
    let (bastion, sshd) = house(&[]);
    bastion.add_host("web", &sshd);
    let (alice, bob) = (alice(&bastion), bob(&bastion));
    alice.run(&["ssh-config", "--install", "--jump"]).ok();
    let before = alice.ssh(&["root@db1", "true"]);
    assert_eq!(before.code(), 255, "{}", before.out());
    for destination in ["root@db1", "root@web"] {
        let id = alice.ask(&[destination, "--for", "30m", "--reason", "INC-42"]);
        bob.run(&["approve", &id, "--yes"]).ok();
    }
    for (number, typed) in ["root@web", "root@db1", "web"].into_iter().enumerate() {
        let done = alice.ssh(&[typed, "echo in"]);
        assert_eq!((done.code(), done.out()), (0, "in\n".into()), "{typed}: {}", done.err());
        let records = bastion.records(number + 1);
        assert!(records.iter().all(|record| record.head.form == head::Form::Jump));
    }
    let targets: Vec<String> = bastion
        .records(3)
        .into_iter()
        .map(|record| record.head.target)
        .collect();
    assert_eq!(targets, ["web", "db1", "web"]);
    bastion.assert_ledger_clean();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() && !path.is_symlink() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.retain(|path| path.is_file());
    found
}

#[test]
fn waiting_ends_with_the_answer() {
    let (bastion, _sshd) = house(&[]);
    let (alice, bob) = (alice(&bastion), bob(&bastion));
    let waiting = Running::start(&mut alice.command(&[
        "request",
        "root@db1",
        "--for",
        "10m",
        "--reason",
        "patch day",
        "--timeout",
        "40s",
    ]));
    let id = wait_for("a pending request", secs(20), || {
        let listed = bob.json(&["requests", "--only", "pending"]);
        let first: &Value = listed["requests"].get(0)?;
        first["id"].as_str().map(str::to_owned)
    });
    bob.run(&["approve", &id, "--yes"]).ok();
    let done = waiting.finish(secs(40));
    assert_eq!(done.code(), 0, "{}", done.err());
    assert!(alice.agent_lists().contains("-CERT"));

    // A no is an end as well, and says so.
    let id = alice.ask(&["root@db1", "--for", "10m", "--reason", "again"]);
    bob.run(&["deny", &id, "--reason", "not today"]).ok();
    let collected = alice.run(&["collect", &id]);
    assert_eq!(collected.code(), 3, "{}", collected.err());
}

#[test]
fn a_sponsor_brings_a_vendor_and_can_end_it() {
    let (bastion, _sshd) = house(&[]);
    let sam = Person::new("sam")
        .enrol(&bastion, &["--role", "sponsor"])
        .log_in(&bastion);
    let bob = bob(&bastion);
    let vendor = Person::new("acme").enrol(&bastion, &["--kind", "vendor"]);
    let key = vendor.public_key();
    let out = vendor.home().join("acme-cert.pub");
    let id = sam.ask(&[
        "root@db1",
        "--identity",
        "acme",
        "--for",
        "1h",
        "--reason",
        "pump firmware",
        "--ticket",
        "CHG-7",
        "--source",
        HERE,
        "--public-key",
        key.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    let own = sam.run(&["approve", &id, "--yes"]);
    assert_eq!(own.code(), 3, "who asked does not answer: {}", own.err());
    bob.run(&["approve", &id, "--yes"]).ok();
    let had = sam.json(&[
        "collect",
        &id,
        "--public-key",
        key.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(had["ssh"].as_array().is_some_and(|words| words.len() > 3), "{had}");

    // The vendor has nothing but stock ssh, the certificate and the line.
    let port = bastion.addr().port().to_string();
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-F", "none", "-p", &port, "-o", "BatchMode=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", bastion.known_hosts().display()))
        .arg("-o")
        .arg(format!("CertificateFile={}", out.display()))
        .arg("-i")
        .arg(&key)
        .args(["-o", "IdentitiesOnly=yes", "root@db1@127.0.0.1", "echo vendor"]);
    vendor.surround(&mut ssh);
    let done = run(&mut ssh, secs(30));
    assert_eq!((done.code(), done.out()), (0, "vendor\n".into()), "{}", done.err());
    let seen = sam.json(&["sessions"]);
    assert_eq!(
        seen["sessions"][0]["identity"], "acme",
        "the sponsor sees the vendor come and go"
    );
    let grant = seen["sessions"][0]["grant"].as_str().unwrap();
    sam.run(&["revoke", "--grant", grant, "--reason", "work is done"]).ok();
    assert_eq!(run(&mut ssh, secs(30)).code(), 255);
    // By ticket, by an admin.
    bastion
        .admin(&["revoke", "--purpose", "CHG-7", "--reason", "audit"])
        .ok();
}

const STEP_UP: &str = r#"
@id("prod-ask") @approvals("0") @step_up("5m") @max("20m") @review
permit (principal in Kind::"person", action in [Action::"request", Action::"connect"], resource in Label::"env=prod");
"#;

#[test]
fn a_fresh_proof_a_length_and_a_review_where_rules_say_so() {
    let (bastion, sshd) = house(&[("prod.cedar", STEP_UP)]);
    std::fs::write(
        bastion.state().join("policies/default.cedar"),
        std::fs::read_to_string(bastion.state().join("policies/default.cedar"))
            .unwrap()
            .replace("@approvals(\"1\")\n@max(\"8h\")", "@max(\"8h\")"),
    )
    .unwrap();
    bastion.signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the reload", secs(20), || {
        bastion.log().contains("reloaded").then_some(())
    });
    let (addr, key) = (sshd.addr().to_string(), sshd.host_key_pub());
    let add = [
        "target",
        "add",
        "prod1",
        "--addr",
        &addr,
        "--login",
        "root",
        "--host-key",
        key.to_str().unwrap(),
        "--label",
        "env=prod",
    ];
    bastion.admin(&add).ok();
    let (alice, bob) = (alice(&bastion), bob(&bastion));

    let long = alice.run(&["request", "root@prod1", "--for", "2h", "--reason", "x", "--no-wait"]);
    assert_eq!(long.code(), 3, "{}", long.err());
    assert!(long.err().contains("20 min"), "{}", long.err());
    // The agent signs a challenge that names the action, by itself.
    alice
        .run(&["request", "root@prod1", "--for", "10m", "--reason", "x"])
        .ok();
    alice.run(&["ssh-config", "--install"]).ok();
    let done = alice.ssh(&["prod1", "echo prod"]);
    assert_eq!((done.code(), done.out()), (0, "prod\n".into()), "{}", done.err());

    // Somebody else looks at it before she may ask again.
    let blocked = alice.run(&["request", "root@prod1", "--for", "10m", "--reason", "more", "--no-wait"]);
    assert_eq!(blocked.code(), 3, "{}", blocked.err());
    assert!(blocked.err().contains("review"), "{}", blocked.err());
    let reviews = bob.json(&["review", "list"]);
    let id = reviews["reviews"][0]["id"].as_str().unwrap();
    let own = alice.run(&["review", "close", id, "--note", "fine"]);
    assert_eq!(own.code(), 3, "{}", own.err());
    bob.run(&["review", "close", id, "--note", "looked at it"]).ok();
    alice
        .run(&["request", "root@prod1", "--for", "10m", "--reason", "more"])
        .ok();
}

#[test]
fn explained_declared_and_seen() {
    let (bastion, _sshd) = house(&[]);
    let alice = alice(&bastion);
    let yes = alice.run(&["explain", "--identity", "alice", "--request", "exec", "--target", "db1"]);
    assert_eq!(yes.code(), 0, "{}{}", yes.out(), yes.err());
    assert!(
        yes.out().starts_with("yes") && yes.out().contains("session-by-grant"),
        "{}",
        yes.out()
    );
    let no = alice.run(&[
        "explain",
        "--identity",
        "alice",
        "--request",
        "replay",
        "--target",
        "db1",
    ]);
    assert_eq!(no.code(), 3, "{}", no.out());
    let other = alice.run(&["explain", "--identity", "root", "--target", "db1"]);
    assert_eq!(other.code(), 3, "nobody asks about others: {}", other.out());

    let file = bastion.dir().join("house.toml");
    let declared = "[[identity]]\nname = \"carol\"\nroles = [\"auditor\"]\n\n[[identity]]\nname = \"job\"\nkind = \"machine\"\nowner = \"carol\"\npurpose = \"backups\"\n";
    std::fs::write(&file, declared).unwrap();
    let file = file.to_str().unwrap();
    let dry = bastion.json(&["apply", "-f", file, "--dry-run"]);
    assert_eq!(
        (dry["changes"].as_array().unwrap().len(), dry["dry_run"].clone()),
        (2, true.into())
    );
    assert_eq!(
        bastion.json(&["apply", "-f", file])["changes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        bastion.json(&["apply", "-f", file])["changes"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    std::fs::write(
        file,
        declared.replace("purpose = \"backups\"", "purpose = \"backups\"\ndisabled = true"),
    )
    .unwrap();
    bastion.admin(&["apply", "-f", file]).ok();
    let listed = bastion.json(&["inventory"]);
    let first = &listed["identities"][0];
    assert_eq!(
        first["identity"]["name"], "job",
        "what needs attention comes first: {listed}"
    );
    assert!(first["attention"][0].as_str().unwrap().contains("disabled"));
}
