//! Witnesses as processes of their own: what they cosign is in the proofs, and
//! what they saw cannot be taken back.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use portcullis::api::client::ApiClient;

use crate::support::bastion::portcullis;
use crate::support::{Bastion, Done, Running, Setup, Sshd, Variant, World, recording, run, secs, wait_for, wait_until};

/// A `portcullis witness` of its own.
struct Witness {
    process: Option<Running>,
    dir: PathBuf,
    addr: String,
    key: String,
}

impl Witness {
    /// Starts one that watches over `bastion`'s ledger.
    #[track_caller]
    fn start(bastion: &Bastion, name: &str) -> Witness {
        let mut witness = Witness {
            process: None,
            dir: bastion.dir().join(name),
            addr: "127.0.0.1:0".to_owned(),
            key: String::new(),
        };
        witness.serve(bastion, name);
        witness
    }

    /// Starts it, at the address that it had.
    #[track_caller]
    fn serve(&mut self, bastion: &Bastion, name: &str) {
        let ledger = &recording::trust(bastion.state()).ledgers[0];
        let mut command = Command::new(portcullis());
        command
            .args(["witness", "--listen", &self.addr, "--name", name, "--log"])
            .arg(format!("{}={}", ledger.origin, ledger.key))
            .arg("--state")
            .arg(&self.dir)
            .stdin(Stdio::null());
        let process = Running::start(&mut command);
        let ready = wait_for("the witness's ready line", secs(20), || {
            let out = String::from_utf8_lossy(&process.stdout()).into_owned();
            out.ends_with('\n').then_some(out)
        });
        let rest = ready.trim().strip_prefix("ready witness=").unwrap().to_owned();
        let (addr, key) = rest.split_once(" key=").unwrap();
        (self.addr, self.key) = (addr.to_owned(), key.to_owned());
        self.process = Some(process);
    }

    /// SIGKILL: what it answered is on its disk.
    #[track_caller]
    fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal(Signal::SIGKILL);
        process.finish(secs(20));
    }
}

/// Writes witnesses and quorum into the configuration.
fn configure(bastion: &Bastion, witnesses: &[&Witness], quorum: usize) {
    let path = bastion.state().join("config.toml");
    let list: Vec<String> = witnesses
        .iter()
        .map(|it| format!("{{ url = \"http://{}\", key = \"{}\" }}", it.addr, it.key))
        .collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text
        .lines()
        .map(|line| match line.trim_start_matches('#').split(" = ").next() {
            Some("witnesses") => format!("witnesses = [{}]", list.join(", ")),
            Some("quorum") => format!("quorum = {quorum}"),
            _ => line.to_owned(),
        });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    std::fs::write(&path, text).unwrap();
}

/// A server with an sshd behind it, its ledger cosigned by `quorum` of `witnesses`.
fn world(mut bastion: Bastion, witnesses: &[&Witness], quorum: usize) -> World {
    configure(&bastion, witnesses, quorum);
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

/// The player's verdict, with what `trust export` gives.
fn verdict(bastion: &Bastion, file: &Path) -> Done {
    let trust = bastion.fresh("trust", ".toml");
    bastion
        .admin(&["trust", "export", "--out", trust.to_str().unwrap()])
        .ok();
    let mut verify = Command::new(portcullis());
    run(verify.arg("verify").arg(file).arg("--trust").arg(trust), secs(20))
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), secs(20)).ok();
}

fn metric(bastion: &Bastion, line: &str) -> bool {
    let client = ApiClient::new(bastion.state().join("api.sock"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let text = runtime.block_on(client.text("/metrics")).unwrap();
    text.lines().any(|found| found == line)
}

#[test]
fn two_of_three_witnesses_are_a_quorum() {
    let bastion = Setup::new().make();
    let (one, two) = (
        Witness::start(&bastion, "w1.example"),
        Witness::start(&bastion, "w2.example"),
    );
    let mut down = Witness::start(&bastion, "w3.example");
    down.kill();
    let world = world(bastion, &[&one, &two, &down], 2);
    let done = run(&mut world.client().exec("echo evidence"), secs(20)).ok();
    assert_eq!(done.out(), "evidence\n");
    let record = world.bastion.only_record();

    let trust = recording::trust(world.bastion.state());
    assert_eq!((trust.quorum, trust.witnesses.len()), (2, 3));
    let verdict = verdict(&world.bastion, &record.file).ok();
    for name in ["w1.example", "w2.example"] {
        assert!(
            verdict.out().contains(&format!("cosigned by {name}")),
            "{}",
            verdict.out()
        );
    }
    assert!(!verdict.out().contains("w3.example"), "{}", verdict.out());
    world.bastion.assert_ledger_clean();
    wait_until("both cosignatures in the metrics", secs(5), || {
        metric(&world.bastion, "portcullis_ledger_cosignatures 2")
    });
    assert!(metric(&world.bastion, "portcullis_ledger_uncosigned 0"));
    // Who has another quorum in mind is not satisfied.
    let stricter = world.bastion.fresh("trust", ".toml");
    let text = std::fs::read_to_string(world.bastion.state().join("trust.toml")).unwrap();
    std::fs::write(&stricter, text.replace("quorum = 2", "quorum = 3")).unwrap();
    let mut verify = Command::new(portcullis());
    let done = run(
        verify.arg("verify").arg(&record.file).arg("--trust").arg(&stricter),
        secs(20),
    );
    assert_eq!(done.code(), 12, "{}", done.out());
}

#[test]
fn a_proof_gets_the_cosignature_of_a_witness_that_was_down() {
    let bastion = Setup::new().make();
    let (one, mut two) = (
        Witness::start(&bastion, "w1.example"),
        Witness::start(&bastion, "w2.example"),
    );
    let world = world(bastion, &[&one, &two], 2);
    two.kill();
    run(&mut world.client().exec("echo evidence"), secs(20)).ok();
    world.bastion.await_records(1, secs(30));
    let file = world.bastion.archived().remove(0);
    assert_eq!(verdict(&world.bastion, &file).code(), 12);
    two.serve(&world.bastion, "w2.example");
    wait_until("the renewed proof", secs(40), || {
        verdict(&world.bastion, &file).code() == 0
    });
    world.bastion.assert_ledger_clean();
}

#[test]
fn what_a_witness_saw_cannot_be_taken_back() {
    let bastion = Setup::new().make();
    let witness = Witness::start(&bastion, "w1.example");
    let mut world = world(bastion, &[&witness], 1);
    let bastion = &mut world.bastion;
    assert_eq!(bastion.stop(secs(20)), Some(0));
    // All of the state, so that nothing in it remembers.
    let (older, newest) = (bastion.dir().join("older"), bastion.dir().join("newest"));
    copy(bastion.state(), &older);
    bastion.serve();
    bastion.add_local("one", &[]);
    assert_eq!(bastion.stop(secs(20)), Some(0));
    copy(bastion.state(), &newest);

    std::fs::remove_dir_all(bastion.state()).unwrap();
    copy(&older, bastion.state());
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    let log = bastion.log();
    assert!(log.contains("the ledger was rolled back: its journal holds"), "{log}");
    assert!(log.contains("the witness w1.example (http://127.0.0.1:"), "{log}");

    // Grown again, unwatched, to more leaves than the witness knows of.
    configure(bastion, &[], 0);
    bastion.serve();
    for name in ["two", "three", "four"] {
        bastion.add_local(name, &[]);
    }
    assert_eq!(bastion.stop(secs(20)), Some(0));
    configure(bastion, &[&witness], 1);
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    let log = bastion.log();
    assert!(
        log.contains("the ledger holds another history than the witness w1.example"),
        "{log}"
    );

    // The right one goes on as if nothing had been.
    std::fs::remove_dir_all(bastion.state()).unwrap();
    copy(&newest, bastion.state());
    bastion.serve();
    bastion.assert_ledger_clean();
}
