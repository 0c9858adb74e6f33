//! An authority's key is replaced while people work: stock ssh and sshd at
//! every step of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::ledger::events;
use crate::support::{Bastion, Client, Pass, Running, Setup, Sshd, Variant, World, run, secs, wait_until};

/// Has the server take the keys up as they lie in the folder now.
#[track_caller]
fn reload(bastion: &Bastion) {
    let reloads = || bastion.log().matches("reloaded: in force").count();
    let before = reloads();
    bastion.signal(Signal::SIGHUP);
    wait_until("the reload", secs(10), || reloads() > before);
}

#[track_caller]
fn opens(client: &Client) {
    let done = run(&mut client.exec("echo open"), secs(20));
    assert_eq!((done.code(), done.out()), (0, "open\n".into()), "{}", done.err());
}

#[track_caller]
fn shut(client: &Client, why: &str) {
    let done = run(&mut client.exec("echo open"), secs(20));
    assert_ne!(done.code(), 0, "{}", done.out());
    assert!(done.err().contains(why), "{}", done.err());
}

/// Fingerprints of one authority's keys with their stages.
fn stages(bastion: &Bastion, key: &str) -> Vec<(String, String)> {
    let listed = bastion.json(&["keys", "list"]);
    let rows = listed["keys"].as_array().unwrap().iter();
    rows.filter(|row| row["key"] == key)
        .map(|row| {
            (
                row["state"].as_str().unwrap().to_owned(),
                row["fingerprint"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

/// Who signed a certificate, as stock OpenSSH tells it.
fn signer(pass: &Pass) -> String {
    let mut keygen = Command::new("ssh-keygen");
    let done = run(keygen.args(["-L", "-f"]).arg(&pass.certificate), secs(20)).ok();
    let text = done.out();
    let line = text.lines().find(|line| line.contains("Signing CA:")).unwrap();
    line.split_whitespace()
        .find(|word| word.starts_with("SHA256:"))
        .unwrap()
        .to_owned()
}

#[test]
fn two_admission_cas_admit_until_the_old_one_is_retired() {
    let world = World::new();
    let bastion = &world.bastion;
    let old_pass = world.pass();
    let old = bastion.client(&old_pass);
    opens(&old);
    let mut running = Running::with_input(&mut old.exec("cat"));
    running.say("before\n");
    running.await_out("before", secs(20));

    let rotated = bastion.json(&["keys", "rotate", "admission-ca"]);
    reload(bastion);
    let known = stages(bastion, "admission_ca");
    assert_eq!(
        known[0],
        ("active".into(), rotated["fingerprint"].as_str().unwrap().into())
    );
    assert_eq!(known[1], ("retiring".into(), signer(&old_pass)));
    let new_pass = world.pass();
    assert_eq!(signer(&new_pass), known[0].1);
    let new = bastion.client(&new_pass);
    opens(&new);
    opens(&old);
    let leaf = events(bastion, "keys").pop().unwrap();
    assert_eq!(leaf["admission_ca"], known[0].1.as_str());
    assert_eq!(leaf["admission_ca retiring"], known[1].1.as_str());

    // A second one has to wait, and the first cannot go while it is held.
    let done = bastion.admin(&["keys", "rotate", "admission-ca"]);
    assert!(done.code() == 1 && done.err().contains("keys retire"), "{}", done.err());
    let done = bastion.admin(&["keys", "retire", "admission-ca"]);
    assert_eq!(done.code(), 1, "{}", done.err());
    assert!(done.err().contains(&old_pass.grant), "{}", done.err());
    assert!(!done.err().contains(&new_pass.grant), "{}", done.err());
    opens(&old);
    let done = bastion.admin(&["keys", "retire", "admission-ca", "--force"]).ok();
    assert!(done.err().contains(&old_pass.grant), "{}", done.err());
    reload(bastion);
    shut(&old, "Permission denied");
    opens(&new);
    running.say("after\n");
    running.await_out("after", secs(20));
    let done = running.finish(secs(20));
    assert_eq!(
        (done.code(), done.out()),
        (0, "before\nafter\n".into()),
        "{}",
        done.err()
    );

    // Nothing holds the second any more: it goes without force, and a start
    // admits by the third alone.
    bastion.json(&["keys", "rotate", "admission-ca"]);
    reload(bastion);
    bastion
        .admin(&["revoke", "--grant", &new_pass.grant, "--reason", "done"])
        .ok();
    bastion.admin(&["keys", "retire", "admission-ca"]).ok();
    reload(bastion);
    let states: Vec<String> = stages(bastion, "admission_ca").into_iter().map(|it| it.0).collect();
    assert_eq!(states, ["active", "retired", "retired"]);
    let mut world = world;
    assert_eq!(world.bastion.stop(secs(40)), Some(0));
    world.bastion.serve();
    shut(&world.bastion.client(&old_pass), "Permission denied");
    opens(&world.client());
}

/// What `trust …` prints, in a file.
fn trusted(bastion: &Bastion, what: &str, file: &Path) -> String {
    let done = bastion.admin(&["trust", what]).ok();
    let port = bastion.addr().port();
    let text = done.out().replace("]:0", &format!("]:{port}"));
    std::fs::write(file, &text).unwrap();
    text
}

#[test]
fn targets_learn_a_new_ca_before_it_signs() {
    let bastion = Setup::new().start();
    let (slow, ready) = (bastion.dir().join("slow"), bastion.dir().join("ready"));
    let list = bastion.dir().join("revoked");
    let krl = |bastion: &Bastion| {
        bastion
            .admin(&["trust", "krl", "--targets", "-o", list.to_str().unwrap()])
            .ok();
    };
    krl(&bastion);
    let first = trusted(&bastion, "target-ca", &slow);
    trusted(&bastion, "target-ca", &ready);
    let hosts: Vec<Sshd> = [&slow, &ready]
        .iter()
        .map(|file| {
            let variant = Variant::default().line(&format!("RevokedKeys {}", list.display()));
            Sshd::trusting(file, variant)
        })
        .collect();
    bastion.add_host("slow", &hosts[0]);
    bastion.add_host("ready", &hosts[1]);
    let client = |target: &str| bastion.client(&bastion.pass(&format!("root@{target}")).issue());
    let (slow_client, ready_client) = (client("slow"), client("ready"));
    let both_open = || {
        opens(&slow_client);
        opens(&ready_client);
    };
    both_open();

    // Announced: trusted by who was told, signs nothing.
    bastion.json(&["keys", "rotate", "target-ca"]);
    reload(&bastion);
    let text = trusted(&bastion, "target-ca", &ready);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains(first.split(' ').nth(1).unwrap()), "{text}");
    both_open();
    let known = stages(&bastion, "target_ca");
    assert_eq!((known[0].0.as_str(), known[1].0.as_str()), ("announced", "active"));
    assert!(!hosts[1].log().contains(&known[0].1));

    // Active: who was told lets us in, who was not does not.
    bastion.json(&["keys", "activate", "target-ca"]);
    reload(&bastion);
    opens(&ready_client);
    assert!(hosts[1].log().contains(&known[0].1), "{}", hosts[1].log());
    let done = run(&mut slow_client.exec("echo open"), secs(20));
    assert_ne!(done.code(), 0, "{}", done.out());
    trusted(&bastion, "target-ca", &slow);
    both_open();

    // Retired: named as revoked, so that a forgotten line does no harm.
    bastion.json(&["keys", "retire", "target-ca"]);
    reload(&bastion);
    krl(&bastion);
    let old = bastion.dir().join("old.pub");
    std::fs::write(&old, &first).unwrap();
    let asked = |key: &Path| {
        run(
            Command::new("ssh-keygen").arg("-Q").arg("-f").arg(&list).arg(key),
            secs(20),
        )
    };
    assert!(asked(&old).out().contains("REVOKED"));
    assert!(
        asked(&bastion.state().join("keys/target_ca.pub"))
            .out()
            .contains(": ok")
    );
    both_open();
    let text = trusted(&bastion, "target-ca", &ready);
    assert_eq!(text.lines().count(), 1, "{text}");
    opens(&ready_client);
}

#[test]
fn clients_learn_a_new_host_ca_before_it_signs() {
    let mut world = World::new();
    let pass = world.pass();
    let file = |name: &str| -> PathBuf { world.bastion.dir().join(name) };
    let (slow, ready) = (file("slow_hosts"), file("ready_hosts"));
    let client =
        |bastion: &Bastion, hosts: &Path| Client::write(bastion.fresh("ssh", ".cfg"), &pass, bastion.addr(), hosts);
    let bastion = &world.bastion;
    trusted(bastion, "known-hosts", &slow);
    let one = trusted(bastion, "known-hosts", &ready);
    assert_eq!(one.lines().count(), 1, "{one}");
    opens(&client(bastion, &ready));

    bastion.json(&["keys", "rotate", "host-ca"]);
    reload(bastion);
    let two = trusted(bastion, "known-hosts", &ready);
    assert_eq!(two.lines().count(), 2, "{two}");
    opens(&client(bastion, &slow));
    opens(&client(bastion, &ready));

    bastion.json(&["keys", "activate", "host-ca"]);
    reload(bastion);
    opens(&client(bastion, &ready));
    shut(&client(bastion, &slow), "Host key verification failed");

    bastion.json(&["keys", "retire", "host-ca"]);
    reload(bastion);
    let new = trusted(bastion, "known-hosts", &ready);
    assert!(new.lines().count() == 1 && new != one, "{new}");
    opens(&client(bastion, &ready));
    // An announcement can be taken back.
    bastion.json(&["keys", "rotate", "host-ca"]);
    bastion.json(&["keys", "retire", "host-ca", "--announced"]);
    assert_eq!(trusted(bastion, "known-hosts", &ready), new);
    assert_eq!(world.bastion.stop(secs(40)), Some(0));
    world.bastion.serve();
    trusted(&world.bastion, "known-hosts", &ready);
    opens(&client(&world.bastion, &ready));
}
