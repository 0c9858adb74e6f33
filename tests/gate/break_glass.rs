//! Break-glass: prepared and signed by stock keys, used once with the store
//! away, recorded, looked back at.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::ledger::events;
use crate::support::bastion::{proof_of, wall_ms};
use crate::support::{Bastion, Client, Done, Pass, Record, Running, Setup, World, run, secs, wait_until};

const MIB: u64 = 1 << 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const USED: &str = "grant_used";

/// People who sign, each with a key of `ssh-keygen`.
struct Signers {
    dir: tempfile::TempDir,
    names: Vec<&'static str>,
}

impl Signers {
    fn new(names: &[&'static str]) -> Signers {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            keygen(&dir.path().join(name), name);
        }
        Signers {
            dir,
            names: names.to_vec(),
        }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A server at which two of them have to sign.
    fn setup(&self) -> Setup {
        let line = |name: &&str| std::fs::read_to_string(self.key(name).with_extension("pub")).unwrap();
        let lines: Vec<String> = self
            .names
            .iter()
            .map(|name| format!("\"{}\"", line(name).trim()))
            .collect();
        Setup::new().set("break_glass.signers", &format!("[{}]", lines.join(", ")))
    }

    #[track_caller]
    fn sign(&self, bastion: &Bastion, made: &Made, name: &str) -> Done {
        let key = self.key(name);
        bastion.admin(&["break-glass", "sign", made.path(), "--key", key.to_str().unwrap()])
    }

    /// A grant of alice for root@db1, signed by carol and dave, in force.
    #[track_caller]
    fn ready(&self, bastion: &Bastion, more: &[&str]) -> Made {
        let made = prepare(bastion, more);
        for name in ["carol", "dave"] {
            self.sign(bastion, &made, name).ok();
        }
        bastion.admin(&["break-glass", "install", made.path()]).ok();
        made
    }
}

fn keygen(at: &Path, comment: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(at);
    run(&mut keygen, secs(20)).ok();
}

/// A prepared grant and the key that it is for.
struct Made {
    file: PathBuf,
    pass: Pass,
}

impl Made {
    fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    fn client(&self, bastion: &Bastion) -> Client {
        bastion.client(&self.pass)
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed, "nothing was changed");
        std::fs::write(&self.file, changed).unwrap();
    }
}

fn time(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).unwrap().to_string()
}

/// Made ready for alice at root@db1, until tomorrow.
#[track_caller]
fn prepare(bastion: &Bastion, more: &[&str]) -> Made {
    // Known already is as good.
    bastion.admin(&["identity", "add", "alice"]);
    let (key, file) = (bastion.fresh("glass", ""), bastion.fresh("grant", ".json"));
    keygen(&key, "alice");
    let public = key.with_extension("pub");
    let until_ms = wall_ms() + DAY_MS;
    let until = time(until_ms);
    let mut args = vec![
        "break-glass",
        "prepare",
        "--identity",
        "alice",
        "--reason",
        "the store is gone",
    ];
    args.extend(["--public-key", public.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    args.extend(["--until", &until]);
    if !more.contains(&"--session") {
        args.extend(["--session", "10m"]);
    }
    args.extend(more);
    args.push("root@db1");
    let made = bastion.json(&args);
    Made {
        pass: Pass {
            key,
            certificate: made["certificates"][0].as_str().unwrap().into(),
            destination: "root@db1".to_owned(),
            grant: made["statement"]["id"].as_str().unwrap().to_owned(),
            until_ms,
        },
        file,
    }
}

/// The store's file is somewhere else.
struct Away<'a> {
    bastion: &'a Bastion,
}

impl Away<'_> {
    /// Moves it, and waits until the server has noticed.
    #[track_caller]
    fn take(bastion: &Bastion) -> Away<'_> {
        let noticed = || bastion.log().matches("the lease was not renewed").count();
        let before = noticed();
        std::fs::rename(bastion.state().join("store.db"), bastion.dir().join("store.away")).unwrap();
        wait_until("the server to miss its store", secs(15), || noticed() > before);
        Away { bastion }
    }

    fn back(self) {
        std::fs::rename(
            self.bastion.dir().join("store.away"),
            self.bastion.state().join("store.db"),
        )
        .unwrap();
    }
}

#[track_caller]
fn refused(bastion: &Bastion, client: &Client, code: &str) {
    let before = bastion.log().matches(code).count();
    let done = run(&mut client.exec("echo never"), secs(30));
    assert_eq!((done.code(), done.out().as_str()), (255, ""), "{code}");
    let log = bastion.log();
    assert!(log.matches(code).count() > before, "{code} is not in the log");
}

#[track_caller]
fn only_review(bastion: &Bastion) -> Value {
    wait_until("the review", secs(20), || {
        let open = bastion.json(&["review", "list"]);
        !open["reviews"].as_array().unwrap().is_empty()
    });
    let reviews = bastion.json(&["review", "list"])["reviews"].clone();
    assert_eq!(reviews.as_array().unwrap().len(), 1, "{reviews}");
    assert_eq!(
        (&reviews[0]["kind"], &reviews[0]["identity"]),
        (&"break-glass".into(), &"alice".into())
    );
    reviews[0].clone()
}

#[track_caller]
fn state_of(bastion: &Bastion, made: &Made) -> String {
    let listed = bastion.json(&["break-glass", "list"]);
    let rows = listed["grants"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == made.pass.grant.as_str()).unwrap();
    row["state"].as_str().unwrap().to_owned()
}

#[test]
fn with_the_store_away_it_admits_once_and_is_looked_back_at() {
    let signers = Signers::new(&["carol", "dave", "erin"]);
    let mut world = World::with(signers.setup(), Default::default());
    let ordinary = world.client();
    let made = signers.ready(&world.bastion, &[]);
    let glass = made.client(&world.bastion);
    assert_eq!(state_of(&world.bastion, &made), "ready");
    // Its condition does not hold, and looking at it does not use it up.
    refused(&world.bastion, &glass, "break_glass_not_now");

    let away = Away::take(&world.bastion);
    let done = run(&mut ordinary.exec("echo never"), secs(30));
    assert_eq!(
        (done.code(), done.out().as_str()),
        (255, ""),
        "an ordinary grant needs the store"
    );
    let mut ssh = Running::with_input(&mut glass.exec("echo in; cat"));
    ssh.await_out("in\n", secs(20));
    refused(&world.bastion, &glass, USED);
    ssh.say("on without a lease\n");
    ssh.await_out("on without a lease\n", secs(20));
    assert_eq!(ssh.finish(secs(20)).code(), 0);
    refused(&world.bastion, &glass, USED);
    assert!(world.bastion.log().contains("BREAK-GLASS"), "no alarm");
    let archived = || {
        let files = world.bastion.archived();
        files.into_iter().find(|file| proof_of(file).exists())
    };
    wait_until("the recording, with its proof", secs(30), || archived().is_some());
    let record = Record::load(&archived().unwrap(), world.bastion.state());
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.output(1), b"in\non without a lease\n");
    assert_eq!(record.head.grant_id, made.pass.grant);
    away.back();

    let review = only_review(&world.bastion);
    let session = review["session"].as_str().unwrap();
    wait_until("the rows of session and recording", secs(30), || {
        let shown = world.bastion.admin(&["sessions", session, "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["session"]["end_code"] == "exit" && shown["recording"]["kind"] == "sealed"
    });
    // It blocks alice's next one, until somebody else has closed it.
    let ask = |bastion: &Bastion| {
        let public = made.pass.key.with_extension("pub");
        let public = public.to_str().unwrap();
        let out = bastion.fresh("asked", "-cert.pub");
        let args = [
            "request",
            "root@db1",
            "--identity",
            "alice",
            "--for",
            "10m",
            "--reason",
            "again",
            "--no-wait",
        ];
        bastion.admin(&[&args[..], &["--public-key", public, "--out", out.to_str().unwrap()]].concat())
    };
    let blocked = ask(&world.bastion);
    assert_eq!(blocked.code(), 3, "{}", blocked.err());
    assert!(blocked.err().contains("review"), "{}", blocked.err());
    let id = review["id"].as_str().unwrap();
    world
        .bastion
        .admin(&["review", "close", id, "--note", "it was right"])
        .ok();
    let asked = ask(&world.bastion);
    assert!([0, 4].contains(&asked.code()), "{}", asked.err());

    // Used is used, whoever starts it again; nor is there a second review.
    world.bastion.stop(secs(30));
    world.bastion.serve();
    assert_eq!(state_of(&world.bastion, &made), "used");
    let away = Away::take(&world.bastion);
    refused(&world.bastion, &made.client(&world.bastion), USED);
    away.back();
    wait_until("the store again", secs(20), || {
        run(&mut world.bastion.client(&made.pass).exec("true"), secs(20));
        world.bastion.admin(&["sessions"]).code() == 0
    });
    let open = world.bastion.json(&["review", "list"]);
    assert!(open["reviews"].as_array().unwrap().is_empty(), "{open}");
    let states: Vec<Value> = events(&world.bastion, "break-glass")
        .into_iter()
        .map(|event| event["state"].clone())
        .collect();
    assert_eq!(states, ["prepared", "installed", "used"]);
    world.bastion.await_records(1, secs(40));
    world.bastion.assert_ledger_clean();
}

#[test]
fn its_own_deadline_ends_it_and_a_lost_lease_does_not() {
    let signers = Signers::new(&["carol", "dave"]);
    let world = World::with(signers.setup(), Default::default());
    let made = signers.ready(&world.bastion, &["--condition", "always", "--session", "20s"]);
    let ordinary = Running::with_input(&mut world.client().exec("echo in; cat"));
    ordinary.await_out("in\n", secs(20));
    let mut ssh = Running::with_input(&mut made.client(&world.bastion).exec("echo in; cat"));
    ssh.await_out("in\n", secs(20));
    let away = Away::take(&world.bastion);
    let done = ordinary.finish(secs(20));
    assert!(done.err().contains("cannot check grants any more"), "{}", done.err());
    ssh.say("still here\n");
    ssh.await_out("still here\n", secs(10));
    let done = ssh.finish_open(secs(40));
    assert_eq!(done.code(), 255);
    assert!(
        done.err().contains("portcullis: your grant has ended"),
        "{}",
        done.err()
    );
    away.back();
    let review = only_review(&world.bastion);
    let records = world.bastion.records_within(2, secs(60));
    let glass = records
        .iter()
        .find(|record| record.head.grant_id == made.pass.grant)
        .unwrap();
    glass.assert_sealed();
    assert_eq!(glass.code(), "grant_expired");
    let session = review["session"].as_str().unwrap();
    assert_eq!(
        world.bastion.json(&["sessions", session])["session"]["end_code"],
        "grant_expired"
    );
}

#[test]
fn a_revocation_ends_it_and_takes_back_what_was_not_used() {
    let signers = Signers::new(&["carol", "dave"]);
    let world = World::with(signers.setup(), Default::default());
    let made = signers.ready(&world.bastion, &["--condition", "always"]);
    let spare = signers.ready(&world.bastion, &["--condition", "always"]);
    let ssh = Running::with_input(&mut made.client(&world.bastion).exec("echo in; cat"));
    ssh.await_out("in\n", secs(20));
    // Its row is there as soon as the store has heard of it.
    wait_until("the session's row", secs(20), || {
        world.bastion.live_sessions().len() == 1
    });
    world
        .bastion
        .admin(&["revoke", "--identity", "alice", "--reason", "it was not alice"])
        .ok();
    let done = ssh.finish_open(secs(20));
    assert!(done.err().contains("access was revoked"), "{}", done.err());
    assert_eq!(state_of(&world.bastion, &spare), "revoked");
    refused(&world.bastion, &spare.client(&world.bastion), "grant_revoked");
    world.bastion.only_record();
}

#[test]
fn a_crash_right_behind_the_use_does_not_give_it_back() {
    let signers = Signers::new(&["carol", "dave"]);
    let mut world = World::with(signers.setup(), Default::default());
    let made = signers.ready(&world.bastion, &["--condition", "always"]);
    let ssh = Running::with_input(&mut made.client(&world.bastion).exec("echo in; cat"));
    ssh.await_out("in\n", secs(20));
    world.bastion.sigkill();
    drop(ssh);
    world.bastion.serve();
    refused(&world.bastion, &made.client(&world.bastion), USED);
    let review = only_review(&world.bastion);
    let session = review["session"].as_str().unwrap();
    assert_eq!(
        world.bastion.json(&["sessions", session])["session"]["end_code"],
        "crash_recovered"
    );
    assert_eq!(world.bastion.records(1)[0].output(1), b"in\n");
    world.bastion.assert_ledger_clean();
}

#[test]
fn what_was_not_signed_by_enough_people_counts_for_nothing() {
    let signers = Signers::new(&["alice", "carol", "dave"]);
    let world = World::with(signers.setup(), Default::default());
    let bastion = &world.bastion;
    let no = |made: &Made, why: &str| {
        let done = bastion.admin(&["break-glass", "install", made.path()]);
        assert_eq!(done.code(), 3, "{why}: {}", done.err());
        assert!(done.err().contains(why), "{}", done.err());
        assert_eq!(bastion.admin(&["break-glass", "verify", made.path()]).code(), 3);
    };
    let made = prepare(bastion, &["--condition", "always"]);
    no(&made, "0 of the 2");
    signers.sign(bastion, &made, "carol").ok();
    no(&made, "1 of the 2");
    assert_eq!(signers.sign(bastion, &made, "carol").code(), 1, "twice by one");
    signers.sign(bastion, &made, "alice").ok();
    no(&made, "the holder does not count");
    signers.sign(bastion, &made, "dave").ok();

    // Signed by two, and then another hour is asked for.
    let whole = std::fs::read_to_string(&made.file).unwrap();
    made.edit(|text| text.replace("\\\"session_ms\\\":600000", "\\\"session_ms\\\":4200000"));
    no(&made, "0 of the 2");
    // Another node's.
    std::fs::write(&made.file, &whole).unwrap();
    made.edit(|text| text.replace("\\\"node\\\":\\\"gate1\\\"", "\\\"node\\\":\\\"gate2\\\""));
    no(&made, "gate2");

    // Put there by hand it counts as little, and the certificate opens nothing.
    let folder = bastion.state().join("break-glass");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&made.file, folder.join("by-hand.json")).unwrap();
    let reloads = || bastion.log().matches("reloaded: in force").count();
    bastion.signal(Signal::SIGHUP);
    wait_until("the reload", secs(10), || reloads() == 1);
    let listed = bastion.json(&["break-glass", "list"]);
    assert_eq!(listed["refused"][0]["file"], "by-hand.json");
    assert!(listed["grants"].as_array().unwrap().is_empty());
    refused(bastion, &made.client(bastion), "cert_lifetime_too_long");

    // As it was signed it is right.
    std::fs::write(&made.file, &whole).unwrap();
    bastion.admin(&["break-glass", "install", made.path()]).ok();
    assert_eq!(
        run(&mut made.client(bastion).exec("echo in"), secs(20)).ok().out(),
        "in\n"
    );

    // Outside its window, and from elsewhere.
    let later = time(wall_ms() + DAY_MS / 2);
    let later = signers.ready(bastion, &["--condition", "always", "--from", &later]);
    assert_eq!(state_of(bastion, &later), "not-yet");
    refused(bastion, &later.client(bastion), "not_yet");
    let elsewhere = signers.ready(bastion, &["--condition", "always", "--source", "192.0.2.0/24"]);
    refused(bastion, &elsewhere.client(bastion), "source");
}

/// The disk that holds the spool is full: nobody else gets in, and when what was
/// kept for it is spent, the session ends and is sealed.
#[test]
fn on_a_full_disk_it_lives_in_what_was_kept_for_it() {
    let signers = Signers::new(&["carol", "dave"]);
    // 8 MiB are kept for seals, 8 MiB for break-glass.
    let world = World::with(signers.setup().small_spool(48 * MIB), Default::default());
    let made = signers.ready(&world.bastion, &["--condition", "always"]);
    let ordinary = world.client();
    let filler = world.bastion.spool().join("filler");
    assert!(std::fs::write(&filler, vec![1; 64 << 20]).is_err());
    let done = run(&mut ordinary.exec("echo never"), secs(20));
    assert_eq!((done.code(), done.out().as_str()), (255, ""));
    assert!(done.err().contains("cannot be recorded"), "{}", done.err());

    let mut ssh = Running::with_input(
        &mut made
            .client(&world.bastion)
            .exec("echo in; read go; exec cat /dev/urandom"),
    );
    ssh.await_out("in\n", secs(20));
    let done = run(&mut ordinary.exec("echo never"), secs(20));
    assert_eq!(
        (done.code(), done.out().as_str()),
        (255, ""),
        "what is kept for one is not another's"
    );
    ssh.say("go\n");
    let done = ssh.finish_open(secs(60));
    assert_eq!(done.code(), 255);
    assert!(
        done.err()
            .contains("portcullis: the session cannot be recorded any more"),
        "{}",
        done.err()
    );
    assert!(
        done.stdout.len() as u64 > 4 * MIB,
        "ended too early: {}",
        done.stdout.len()
    );
    let record = &world.bastion.records_within(1, secs(60))[0];
    assert_eq!(record.code(), "recorder_failed");
    assert!(
        record.output(1).starts_with(&done.stdout),
        "the client has what the recording has not"
    );
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(run(&mut ordinary.exec("echo on"), secs(20)).ok().out(), "on\n");
}
