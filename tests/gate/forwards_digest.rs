//! Forwards of which the recording keeps digests: nothing of their bytes, and
//! enough to know them again.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use portcullis_recording::Event;
use portcullis_recording::event::Direction;
use sha2::{Digest, Sha256};

use crate::support::bytes::{Pattern, find};
use crate::support::echo::{self, Served, echo, exchange, exchange_unix, free_port};
use crate::support::{Client, Record, Running, Setup, Sshd, Variant, World, run, secs};

/// Stands in everything that is sent, and may stand nowhere else.
const MARK: &[u8] = b"NOBODY-KEEPS-THIS-LINE";
const AS_DIGESTS: &str = "recorded as digests: how many bytes cross, and their SHA-256";

/// Forwards as digests, but those to this port.
fn world(kept: u16) -> World {
    let rules = format!(
        "@id(\"tunnels\") @record(\"digest\") permit (principal, action == Action::\"forward\", resource);\n\
         @id(\"one-in-full\") @record(\"full\") permit (principal, action == Action::\"forward\", resource)\n\
         when {{ context.forward.port == {kept} }};"
    );
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/tunnels.cedar"), rules).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

/// Some MiB that hold the mark in many places.
fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Pattern::new(seed).bytes(length);
    for place in bytes.chunks_mut(10_000).filter(|place| place.len() > MARK.len()) {
        place[..MARK.len()].copy_from_slice(MARK);
    }
    bytes
}

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// Whether any file below the folder holds the mark; how many there are.
fn holding_the_mark(folder: &Path) -> (usize, Vec<PathBuf>) {
    let all = files(folder);
    let held = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| find(&bytes, MARK).is_some());
    (all.len(), all.iter().filter(|path| held(path)).cloned().collect())
}

/// The digests of one way are exactly those of `sent`, in order.
#[track_caller]
fn assert_digests(record: &Record, channel: u32, way: Direction, sent: &[u8]) {
    let mut rest = sent;
    for timed in record.events.iter().filter(|timed| timed.channel == channel) {
        if let Event::Digest {
            direction,
            bytes,
            sha256,
        } = &timed.event
            && *direction == way
        {
            let (part, after) = rest.split_at(*bytes as usize);
            assert_eq!(<[u8; 32]>::from(Sha256::digest(part)), *sha256);
            rest = after;
        }
    }
    assert!(
        rest.is_empty(),
        "{way:?} of {channel}: {} bytes have no digest",
        rest.len()
    );
    assert!(record.input(channel).is_empty() && record.output(channel).is_empty());
}

struct Ends {
    far: Served,
    near: PathBuf,
    _sockets: Served,
    direct: u16,
    remote: u16,
}

/// `ssh -N` that forwards a port each way, and a socket.
fn forwarding(world: &World, client: &Client) -> (Running, Ends) {
    let (far, there) = (echo::tcp(echo), world.bastion.fresh("there", ".sock"));
    let ends = Ends {
        near: world.bastion.fresh("near", ".sock"),
        _sockets: echo::unix(&there, echo::echo_unix),
        direct: free_port(),
        remote: free_port(),
        far,
    };
    let mut ssh = client.ssh();
    ssh.args(["-v", "-N", "-o", "ExitOnForwardFailure=yes", "-L"])
        .arg(format!("{}:127.0.0.1:{}", ends.direct, ends.far.port()))
        .arg("-L")
        .arg(format!("{}:{}", ends.near.display(), there.display()))
        .arg("-R")
        .arg(format!("{}:127.0.0.1:{}", ends.remote, ends.far.port()))
        .arg("gate")
        .stdin(std::process::Stdio::null());
    let running = Running::start(&mut ssh);
    running.await_err("remote forward success for: listen", secs(30));
    (running, ends)
}

fn through(port: u16, bytes: &[u8]) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(exchange(stream, bytes) == bytes);
}

#[track_caller]
fn every_forward_is_digested(world: &World, client: &Client) {
    let (running, ends) = forwarding(world, client);
    let sent = [payload(1, 5 << 20), payload(2, 3 << 20), payload(3, 200_000)];
    through(ends.direct, &sent[0]);
    through(ends.remote, &sent[1]);
    assert!(exchange_unix(&ends.near, &sent[2]) == sent[2]);
    // While it runs the spool is in clear.
    let (spooled, held) = holding_the_mark(&world.bastion.spool());
    assert!(spooled > 0 && held.is_empty(), "{held:?} of {spooled}");
    running.signal(Signal::SIGTERM);
    running.finish(secs(20));

    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    let (archived, held) = holding_the_mark(&world.bastion.state().join("archive"));
    assert!(archived > 0 && held.is_empty(), "{held:?} of {archived}");
    assert!(record.bytes < 64 * 1024, "{} bytes", record.bytes);
    assert_eq!(record.channels(), [1, 2, 3]);
    for (channel, sent) in [1, 2, 3].into_iter().zip(&sent) {
        assert_digests(&record, channel, Direction::ToTarget, sent);
        assert_digests(&record, channel, Direction::ToClient, sent);
        let said = record.events.iter().find(|timed| {
            timed.channel == channel && matches!(&timed.event, Event::Marker { text } if text == AS_DIGESTS)
        });
        assert!(said.is_some(), "channel {channel} does not say it");
        let account = record.accounts()[channel as usize - 1];
        let all = sent.len() as u64;
        assert_eq!((account.to_target, account.to_client_out), (all, all));
    }
    assert_told(world, &record, sent[0].len());
}

/// The player says that it was not kept, and the second verifier knows the file.
#[track_caller]
fn assert_told(world: &World, record: &Record, sent: usize) {
    let player = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    let trusted = world.bastion.state().join("trust.toml");
    let said = |verb: &[&str]| {
        let mut command = std::process::Command::new(&player);
        command.args(verb).arg(&record.file).arg("--trust").arg(&trusted);
        run(&mut command, secs(30)).ok().out()
    };
    let sum = format!("digest: {sent} bytes up, {sent} down, not kept");
    for verb in [&["text"][..], &["verify", "--content"]] {
        assert!(said(verb).contains(&sum), "{}", said(verb));
    }
    assert!(
        !said(&["text"]).contains("SHA-256 "),
        "one line a batch is too much for all channels"
    );
    let each = said(&["text", "--channel", "1"]);
    let hash: [u8; 32] = record.events.iter().find_map(first_hash).unwrap();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(each.contains(&format!("not kept, SHA-256 {hash}")), "{each}");

    let second = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second-verifier/verify");
    let python = std::env::var_os("PORTCULLIS_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = std::process::Command::new(python);
    command.arg(second).arg(&record.file).arg("--trust").arg(&trusted);
    command
        .arg("--proof")
        .arg(crate::support::bastion::proof_of(&record.file));
    let done = run(&mut command, secs(60));
    assert!(done.out().starts_with("SEALED"), "{}{}", done.out(), done.err());
}

fn first_hash(timed: &portcullis_recording::Timed<'_>) -> Option<[u8; 32]> {
    match timed.event {
        Event::Digest { sha256, .. } => Some(sha256),
        _ => None,
    }
}

#[test]
fn every_forward_is_known_again_by_its_digests() {
    let world = world(1);
    let pass = world.bastion.pass("root@db1").allow("forward").issue();
    every_forward_is_digested(&world, &world.bastion.client(&pass));
}

#[test]
fn a_jump_makes_no_difference() {
    let world = world(1);
    let pass = world.bastion.pass("root@db1").allow("forward").issue();
    every_forward_is_digested(&world, &world.bastion.jumper(&pass));
}

/// A rule over forwards is about nothing else, and one that asks for all of it wins.
#[test]
fn what_no_such_rule_is_about_is_kept() {
    let kept = echo::tcp(echo);
    let world = world(kept.port());
    let pass = world.bastion.pass("root@db1").allow("exec,forward").issue();
    let client = world.bastion.client(&pass);
    let (digested, port, other) = (echo::tcp(echo), free_port(), free_port());
    let mut ssh = client.ssh();
    ssh.arg("-L")
        .arg(format!("{port}:127.0.0.1:{}", kept.port()))
        .arg("-L")
        .arg(format!("{other}:127.0.0.1:{}", digested.port()))
        .args(["gate", "echo of the program; cat >/dev/null"]);
    let running = Running::with_input(&mut ssh);
    running.await_out("of the program", secs(30));
    through(port, MARK);
    through(other, MARK);
    running.finish(secs(20));

    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.output(1), b"of the program\n");
    assert_eq!((record.input(2), record.output(2)), (MARK.to_vec(), MARK.to_vec()));
    assert_digests(&record, 3, Direction::ToTarget, MARK);
    assert_digests(&record, 3, Direction::ToClient, MARK);
    let digests = record.events.iter().filter(|timed| first_hash(timed).is_some());
    assert!(digests.map(|timed| timed.channel).all(|channel| channel == 3));
}
