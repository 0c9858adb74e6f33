//! ssh-audit, as anybody would run it against the gate: no failure, and no
//! warning but the one for curve25519, which older clients need.

use std::process::Command;

use crate::support::{Bastion, Setup, run, secs};

const INSTALL: &str = "ssh-audit is missing; install it with: pip install ssh-audit==3.9.0";

/// Lines of its report that fail and that warn.
fn audit(bastion: &Bastion) -> (Vec<String>, Vec<String>) {
    let version = Command::new("ssh-audit").arg("--help").output();
    assert!(version.is_ok_and(|output| output.status.success()), "{INSTALL}");
    let mut audit = Command::new("ssh-audit");
    audit.args(["-n", "-p", &bastion.addr().port().to_string(), "127.0.0.1"]);
    let done = run(&mut audit, secs(120));
    let report = done.out();
    assert!(
        report.contains("(kex)") && report.contains("(key)") && report.contains("(enc)"),
        "{report}{}",
        done.err()
    );
    let marked = |mark: &str| {
        // A finding stands on its algorithm's line or, as a further one, below it.
        let mut subject = "";
        let mut found = Vec::new();
        for line in report.lines() {
            if line.starts_with('(') {
                subject = line.split("--").next().unwrap_or(line).trim();
            }
            if line.contains(mark) {
                found.push(format!("{subject} {}", line.split("--").last().unwrap_or(line).trim()));
            }
        }
        found
    };
    println!("{report}");
    (marked("[fail]"), marked("[warn]"))
}

#[test]
fn ssh_audit_finds_nothing_but_curve25519() {
    // As a stranger: no exempt network.
    let bastion = Setup::new().set("ssh.exempt_networks", "[]").start();
    let (fails, warnings) = audit(&bastion);
    assert!(fails.is_empty(), "{fails:#?}");
    // The one that is allowed is there: the report is read rightly.
    assert!(!warnings.is_empty());
    let others: Vec<&String> = warnings
        .iter()
        .filter(|line| !line.starts_with("(kex) curve25519-sha256"))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn ssh_audit_finds_nothing_with_post_quantum_only() {
    let setup = Setup::new()
        .set("ssh.exempt_networks", "[]")
        .set("ssh.kex", "\"pq-only\"");
    let bastion = setup.start();
    let (fails, warnings) = audit(&bastion);
    assert!(fails.is_empty() && warnings.is_empty(), "{fails:#?} {warnings:#?}");
}
