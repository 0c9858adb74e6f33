//! What comes from the target: the agent, X11, and channels that nobody asked for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use portcullis_recording::Event;

use crate::support::rogue::Rogue;
use crate::support::{Client, Record, Setup, Variant, World, run, secs};

fn client(world: &World, allow: &str) -> Client {
    world
        .bastion
        .client(&world.bastion.pass("root@db1").allow(allow).issue())
}

fn kinds(record: &Record) -> Vec<String> {
    let opened = record.events.iter().filter_map(|timed| match &timed.event {
        Event::ChannelOpen { kind, .. } => Some(kind.to_string()),
        _ => None,
    });
    opened.collect()
}

/// netconf and its kind, by name.
#[test]
fn other_subsystems_pass_where_the_server_names_them() {
    let setup = Setup::new().set("ssh.subsystems", "[\"greet\"]");
    let variant = Variant::default()
        .line("Subsystem greet /bin/echo hello from the subsystem")
        .line("Subsystem other /bin/echo never");
    let world = World::with(setup, variant);
    let start = |name: &str| {
        let mut ssh = world.client().ssh();
        ssh.args(["-s", "gate", name]);
        run(&mut ssh, secs(30))
    };
    assert_eq!(start("greet").ok().out(), "hello from the subsystem\n");
    let done = start("other");
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("ssh.subsystems"), "{}", done.err());
    let records = world.bastion.records(2);
    assert!(
        records[0]
            .decisions(1)
            .contains(&("subsystem".into(), true, "permitted".into()))
    );
    assert!(
        records[1]
            .decisions(1)
            .contains(&("subsystem".into(), false, "subsystem_not_allowed".into()))
    );
}

/// A real ssh-agent with one key; ended with its process.
struct Agent {
    child: std::process::Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(world: &World) -> Agent {
        let socket = world.bastion.fresh("agent", ".sock");
        let child = std::process::Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        crate::support::wait_until("the agent's socket", secs(20), || socket.exists());
        let agent = Agent { child, socket };
        let key = world.bastion.fresh("held", "");
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "a held key", "-f"])
            .arg(&key);
        run(&mut keygen, secs(20)).ok();
        let mut add = std::process::Command::new("ssh-add");
        run(add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &agent.socket), secs(20)).ok();
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_agent_is_forwarded_where_the_grant_names_it() {
    let world = World::new();
    let agent = Agent::start(&world);
    let ask = |allow: &str| {
        let client = client(&world, allow);
        let mut ssh = client.ssh();
        // Said before the configuration's `none`, which turns forwarding off.
        ssh.args(["-A", "-o"])
            .arg(format!("IdentityAgent={}", agent.socket.display()))
            .args([
                "gate",
                "ssh-add -l; ssh-add -l >/dev/null; echo socket=${SSH_AUTH_SOCK:-none}",
            ]);
        run(&mut ssh, secs(30)).ok().out()
    };
    let out = ask("exec");
    assert!(out.contains("socket=none"), "{out}");
    let out = ask("exec,agent");
    assert!(out.contains("a held key") && !out.contains("socket=none"), "{out}");
    let records = world.bastion.records(2);
    for record in &records {
        record.assert_sealed();
        record.assert_balanced();
    }
    assert!(
        records[0]
            .decisions(1)
            .contains(&("agent".into(), false, "capability_missing".into()))
    );
    assert_eq!(kinds(&records[0]), ["session"]);
    assert_eq!(
        kinds(&records[1]),
        ["session", "auth-agent@openssh.com", "auth-agent@openssh.com"]
    );
    // What was signed or listed is in it.
    assert!(crate::support::bytes::find(&records[1].input(2), b"a held key").is_some());
    assert!(!records[1].output(2).is_empty());
    assert!(
        records[1]
            .decisions(2)
            .contains(&("agent".into(), true, "permitted".into()))
    );
}

/// A display of our own that answers what it was sent.
fn display() -> (u16, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = (50..200u16)
        .find_map(|number| TcpListener::bind((Ipv4Addr::LOCALHOST, 6000 + number)).ok())
        .unwrap();
    let number = listener.local_addr().unwrap().port() - 6000;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = vec![0; 48];
            if stream.read_exact(&mut hello).is_ok() {
                stream.write_all(b"display says hello").ok();
                send.send(hello).ok();
            }
        }
    });
    (number, receive)
}

/// The first packet of an X11 client with a cookie of 16 bytes (X protocol, chapter 8).
fn x11_hello(cookie: &[u8]) -> Vec<u8> {
    let name = b"MIT-MAGIC-COOKIE-1";
    let mut hello = vec![b'l', 0, 11, 0, 0, 0, name.len() as u8, 0, cookie.len() as u8, 0, 0, 0];
    hello.extend_from_slice(name);
    hello.extend_from_slice(&[0, 0]);
    hello.extend_from_slice(cookie);
    hello
}

#[test]
fn x11_is_forwarded_where_the_grant_names_it() {
    // The target's xauth, told only to say what it was given.
    let folder = tempfile::tempdir().unwrap();
    let (script, given) = (folder.path().join("xauth"), folder.path().join("given"));
    std::fs::write(&script, format!("#!/bin/sh\ncat >> {}\n", given.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let variant = Variant::default()
        .line("X11Forwarding yes")
        .line("X11UseLocalhost yes")
        .line(&format!("XAuthLocation {}", script.display()));
    let world = World::with(Setup::new(), variant);
    let (number, seen) = display();
    let ask = |allow: &str, command: &str| {
        let client = client(&world, allow);
        let mut ssh = client.ssh();
        ssh.env("DISPLAY", format!("127.0.0.1:{number}"))
            .args(["-Y", "-o", "XAuthLocation=/nonexistent"])
            .args(["gate", command]);
        ssh
    };
    let done = run(&mut ask("exec", "echo display=${DISPLAY:-none}"), secs(30)).ok();
    assert!(done.out().contains("display=none"), "{}", done.out());
    let mut running = crate::support::Running::with_input(&mut ask("exec,x11", "echo display=$DISPLAY.; cat"));
    running.await_out(".\n", secs(30));
    let out = running.out();
    let at = out.split("localhost:").nth(1).unwrap_or_else(|| panic!("{out}"));
    let at: u16 = at.split('.').next().unwrap().parse().unwrap();
    let cookie = std::fs::read_to_string(&given).unwrap();
    let cookie = cookie
        .split_whitespace()
        .rfind(|word| word.len() == 32)
        .unwrap()
        .to_owned();
    let bytes: Vec<u8> = (0..16)
        .map(|byte| u8::from_str_radix(&cookie[2 * byte..2 * byte + 2], 16).unwrap())
        .collect();
    let mut window = TcpStream::connect((Ipv4Addr::LOCALHOST, 6000 + at)).unwrap();
    window.set_read_timeout(Some(secs(20))).unwrap();
    window.write_all(&x11_hello(&bytes)).unwrap();
    let mut said = [0; 18];
    window.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"display says hello");
    assert_eq!(seen.recv_timeout(secs(20)).unwrap().len(), 48);
    drop(window);
    running.say("over");
    running.finish(secs(20)).ok();
    let records = world.bastion.records(2);
    assert!(
        records[0]
            .decisions(1)
            .contains(&("x11".into(), false, "capability_missing".into()))
    );
    let record = &records[1];
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(kinds(record), ["session", "x11"]);
    assert_eq!(record.input(2), b"display says hello");
    assert!(record.output(2).ends_with(&bytes));
    // The cookie crosses in the channel; the request for it does not name it.
    for (_, detail) in record.requests(1) {
        assert!(crate::support::bytes::find(&detail, cookie.as_bytes()).is_none());
    }
}

/// Where no place is left a target's channels are refused, each is written down,
/// and who goes on all the same is cut off before that fills the recording.
#[test]
fn a_target_that_opens_on_and_on_beyond_the_places_is_cut_off() {
    let bastion = Setup::new().set("ssh.channels_max", "1").start();
    let rogue = Rogue::start(bastion.dir());
    bastion.add_target("db1", rogue.addr(), "root", "--host-key", &rogue.host_key_pub());
    let client = bastion.client(&bastion.pass("root@db1").allow("exec,forward").issue());
    let done = run(&mut client.exec("tcpip 200"), secs(30)).ok();
    assert_eq!(done.out(), "refused\n".repeat(200));
    let done = run(&mut client.exec("tcpip 2000"), secs(30));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("too many refused requests"), "{}", done.err());
    let records = bastion.records(2);
    assert_eq!(
        (records[0].code().as_str(), records[1].code().as_str()),
        ("exit", "protocol")
    );
}

/// A target opens nothing that was not asked for.
#[test]
fn a_target_opens_nothing_unasked() {
    let bastion = Setup::new().start();
    let rogue = Rogue::start(bastion.dir());
    bastion.add_target("db1", rogue.addr(), "root", "--host-key", &rogue.host_key_pub());
    // What the grant allows does not matter: the client did not ask.
    let pass = bastion
        .pass("root@db1")
        .allow("shell,exec,sftp,forward,agent,x11")
        .issue();
    let client = bastion.client(&pass);
    let kinds = ["agent", "x11", "tcpip", "streamlocal", "session", "direct"];
    for kind in kinds {
        let mut ssh = client.ssh();
        ssh.args(["-a", "-x", "gate", kind]);
        assert_eq!(run(&mut ssh, secs(30)).ok().out(), "refused\n", "{kind}");
    }
    let records = bastion.records(kinds.len());
    let actions = ["agent", "x11", "remote-forward", "remote-forward", "unknown", "unknown"];
    for (record, action) in records.iter().zip(actions) {
        record.assert_balanced();
        assert_eq!(record.channels(), [1]);
        assert!(
            record
                .decisions(0)
                .contains(&(action.into(), false, "out_of_place".into())),
            "{action}: {:?}",
            record.decisions(0)
        );
    }
    // Who goes on trying is an attacker.
    let mut ssh = client.ssh();
    ssh.args(["-a", "-x", "gate", "agent 100"]);
    let done = run(&mut ssh, secs(30));
    assert_eq!(done.code(), 255);
    assert!(done.err().contains("nobody asked for"), "{}", done.err());
    assert_eq!(bastion.records(kinds.len() + 1)[kinds.len()].code(), "protocol");
}
