//! ssh-audit, as anybody would run it against the gate, against the inner
//! server of a jump and as a target: no failure, and no warning but the one
//! for curve25519, which older clients and targets need.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::support::russh_client::{jump_port, opens_a_channel};
use crate::support::{Bastion, Running, Setup, Variant, World, run, secs, wait_until};

const INSTALL: &str = "ssh-audit is missing; install it with: pip install ssh-audit==3.9.0";

/// Lines of its report that fail and that warn.
struct Report {
    fails: Vec<String>,
    warnings: Vec<String>,
}

impl Report {
    #[track_caller]
    fn read(text: &str, err: &str) -> Report {
        println!("{text}");
        assert!(
            text.contains("(kex)") && text.contains("(key)") && text.contains("(enc)"),
            "{text}{err}"
        );
        let marked = |mark: &str| {
            // A finding stands on its algorithm's line or, as a further one, below it.
            let mut subject = "";
            let mut found = Vec::new();
            for line in text.lines() {
                if line.starts_with('(') {
                    subject = line.split("--").next().unwrap_or(line).trim();
                }
                if line.contains(mark) {
                    found.push(format!("{subject} {}", line.split("--").last().unwrap_or(line).trim()));
                }
            }
            found
        };
        Report {
            fails: marked("[fail]"),
            warnings: marked("[warn]"),
        }
    }

    #[track_caller]
    fn assert_curve25519_only(&self) {
        assert!(self.fails.is_empty(), "{:#?}", self.fails);
        // The one that is allowed is there: the report is read rightly.
        assert!(!self.warnings.is_empty());
        let others: Vec<&String> = self
            .warnings
            .iter()
            .filter(|line| !line.starts_with("(kex) curve25519-sha256"))
            .collect();
        assert!(others.is_empty(), "{others:#?}");
    }

    #[track_caller]
    fn assert_nothing(&self) {
        let Report { fails, warnings } = self;
        assert!(fails.is_empty() && warnings.is_empty(), "{fails:#?} {warnings:#?}");
    }
}

fn ssh_audit(port: u16) -> Command {
    let version = Command::new("ssh-audit").arg("--help").output();
    assert!(version.is_ok_and(|output| output.status.success()), "{INSTALL}");
    let mut audit = Command::new("ssh-audit");
    audit.args(["-n", "-p", &port.to_string()]);
    audit
}

/// What it says of the server at this address.
#[track_caller]
fn audit(addr: SocketAddr) -> Report {
    let done = run(ssh_audit(addr.port()).arg(addr.ip().to_string()), secs(120));
    Report::read(&done.out(), &done.err())
}

/// As a stranger meets it: no exempt network.
fn strange() -> Setup {
    Setup::new().set("ssh.exempt_networks", "[]")
}

fn post_quantum(setup: Setup) -> Setup {
    setup.set("ssh.kex", "\"pq-only\"")
}

#[test]
fn ssh_audit_finds_nothing_but_curve25519() {
    audit(strange().start().addr()).assert_curve25519_only();
}

#[test]
fn ssh_audit_finds_nothing_with_post_quantum_only() {
    audit(post_quantum(strange()).start().addr()).assert_nothing();
}

#[test]
fn ssh_audit_of_the_inner_server_of_a_jump() {
    let world = World::with(strange(), Variant::default());
    audit(jump_port(&world.bastion, &world.pass(), "db1")).assert_curve25519_only();
}

#[test]
fn ssh_audit_of_the_inner_server_with_post_quantum_only() {
    let world = World::with(post_quantum(strange()), Variant::default());
    audit(jump_port(&world.bastion, &world.pass(), "db1")).assert_nothing();
}

/// Logs in through a gate whose target is ssh-audit, which waits for us as a server.
#[track_caller]
fn audit_of_the_client_side(bastion: &Bastion, proof: &str) -> Report {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let key = bastion.state().join("keys/ssh_host_ed25519_key.pub");
    bastion.add_target("auditor", addr, "root", proof, &key);
    let pass = bastion.pass("root@auditor").issue();
    let mut waiting = Running::start(ssh_audit(addr.port()).arg("-c").stdin(Stdio::null()));
    // It does not say when it listens; it ends with the first one that comes.
    wait_until("ssh-audit to have met the gate", secs(60), || {
        !opens_a_channel(bastion, &pass, secs(20)) && !waiting.runs()
    });
    let done = waiting.finish(secs(20));
    Report::read(&done.out(), &done.err())
}

#[test]
fn ssh_audit_of_the_client_side() {
    audit_of_the_client_side(&Setup::new().start(), "--host-key").assert_curve25519_only();
}

#[test]
fn ssh_audit_of_the_client_side_towards_certified_hosts() {
    audit_of_the_client_side(&Setup::new().start(), "--host-ca").assert_curve25519_only();
}

#[test]
fn ssh_audit_of_the_client_side_with_post_quantum_only() {
    audit_of_the_client_side(&post_quantum(Setup::new()).start(), "--host-key").assert_nothing();
}
