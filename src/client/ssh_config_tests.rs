//! The text, and what the stock `ssh` makes of it.

use std::path::PathBuf;
use std::process::Command;

use super::*;

const CA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn gate() -> ServerView {
    ServerView {
        node: "gate1".parse().unwrap(),
        ssh_hosts: vec!["gate.example".into(), "192.0.2.1".into()],
        ssh_port: 2222,
        known_hosts: vec![format!("@cert-authority * {CA} a comment")],
    }
}

fn reachable() -> Vec<Reachable> {
    let of = |target: &str, logins: &[&str]| Reachable {
        target: target.parse().unwrap(),
        logins: logins.iter().map(|login| login.parse().unwrap()).collect(),
    };
    vec![of("db1", &["root", "postgres"]), of("web", &["alice"])]
}

/// What `ssh -G` makes of the text, with a program that finds a certificate or not.
fn ssh(found: bool, to: &str) -> Vec<String> {
    ssh_by(Way::Direct, found, to)
}

fn ssh_by(way: Way, found: bool, to: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let program = PathBuf::from(match found {
        true => "/bin/true",
        false => "/bin/false",
    });
    let parts = Parts {
        way,
        gate: &gate(),
        places: &Places::below("/home/a b"),
        program: &program,
        account: &account(),
        reachable: &reachable(),
    };
    let file = dir.path().join("conf");
    std::fs::write(&file, text(&parts).unwrap()).unwrap();
    let done = Command::new("ssh")
        .args(["-G", "-F"])
        .arg(&file)
        .arg(to)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn account() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|it| it == line)
}

#[test]
fn ssh_goes_through_the_gate_with_the_certificate_of_its_destination() {
    let postgres = ssh(true, "postgres@db1");
    for line in [
        "hostname gate.example",
        "port 2222",
        "hostkeyalias gate.example",
        "stricthostkeychecking true",
        "identitiesonly yes",
        "certificatefile \"/home/a b/.local/state/portcullis/certs/postgres@db1-cert.pub\"",
        "identityfile \"/home/a b/.local/state/portcullis/certs/postgres@db1.pub\"",
    ] {
        let bare = line.replace('"', "");
        assert!(has(&postgres, line) || has(&postgres, &bare), "{line}: {postgres:#?}");
    }
    let direct = ssh(true, "root@db1@gate.example");
    assert!(
        has(&direct, "user root@db1") && has(&direct, "port 2222"),
        "{direct:#?}"
    );
    assert!(direct.iter().any(|line| line.contains("certs/root@db1-cert.pub")));
    let untold = ssh(true, "db1");
    assert!(has(&untold, "user root@db1"), "{untold:#?}");
    assert!(has(&untold, "hostname gate.example"));
}

#[test]
fn a_jump_keeps_the_targets_own_name_and_shows_its_certificate_to_both() {
    let certificate = |lines: &[String], of: &str| {
        let ends = format!("certs/{of}-cert.pub");
        lines
            .iter()
            .any(|line| line.starts_with("certificatefile") && line.trim_end_matches('"').ends_with(&ends))
    };
    for (typed, login) in [("postgres@db1", "postgres"), ("root@db1", "root"), ("db1", "root")] {
        let inner = ssh_by(Way::Jump, true, typed);
        let (user, outer) = (format!("user {login}"), format!("portcullis.{login}.db1"));
        for line in [
            "hostname db1",
            "hostkeyalias db1",
            "port 22",
            &user,
            &format!("proxyjump {outer}"),
        ] {
            assert!(has(&inner, line), "{typed}: {line}: {inner:#?}");
        }
        let outer = ssh_by(Way::Jump, true, &outer);
        for line in [
            "hostname gate.example",
            "hostkeyalias gate.example",
            "port 2222",
            "user jump",
        ] {
            assert!(has(&outer, line), "{typed}: {line}: {outer:#?}");
        }
        for lines in [&inner, &outer] {
            assert!(has(lines, "identitiesonly yes") && has(lines, "stricthostkeychecking true"));
            assert!(certificate(lines, &format!("{login}@db1")), "{lines:#?}");
        }
    }
    // What names the gate goes there directly, as ever.
    assert!(has(&ssh_by(Way::Jump, true, "root@db1@gate.example"), "user root@db1"));
    let without = ssh_by(Way::Jump, false, "root@db1");
    assert!(has(&without, "proxyjump portcullis.root.db1"), "{without:#?}");
    assert!(!has(
        &ssh_by(Way::Jump, true, "nobody@db1"),
        "proxyjump portcullis.nobody.db1"
    ));
}

#[test]
fn nobody_without_a_certificate_is_let_past_the_gate() {
    for to in ["root@db1", "db1", "root@db1@192.0.2.1"] {
        let lines = ssh(false, to);
        assert!(has(&lines, "hostname gate.example"), "{to}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("-cert.pub")), "{to}: {lines:#?}");
    }
}

#[test]
fn other_hosts_are_left_alone() {
    for to in ["other.example", "root@db12", "nobody@db1"] {
        let lines = ssh(true, to);
        assert!(!has(&lines, "port 2222"), "{to}: {lines:#?}");
    }
}

#[test]
fn two_targets_never_share_a_connection() {
    let path = |to: &str| {
        let lines = ssh(true, to);
        lines.into_iter().find(|line| line.starts_with("controlpath ")).unwrap()
    };
    assert_ne!(path("root@db1"), path("postgres@db1"));
    assert_ne!(path("root@db1"), path("alice@web"));
}

#[test]
fn the_gate_is_believed_by_its_authority_alone() {
    assert_eq!(known_hosts(&gate()).unwrap(), format!("@cert-authority * {CA}\n"));
    for bad in [
        format!("gate.example {CA}"),
        "@cert-authority * ssh-ed25519 nonsense".to_owned(),
        format!("@cert-authority * {}", CA.replace("AAAAI", "AAAAJ")),
        String::new(),
    ] {
        let odd = ServerView {
            known_hosts: vec![bad],
            ..gate()
        };
        let refused = known_hosts(&odd);
        assert!(matches!(refused, Err(SshConfigError::Server(_))), "{refused:?}");
    }
}

#[test]
fn nothing_told_from_outside_makes_lines_of_its_own() {
    for host in [
        "",
        "a\nProxyCommand x",
        "a b",
        "-oProxyCommand=x",
        "*",
        "a,b",
        "$(x)",
        "%h",
    ] {
        let odd = ServerView {
            ssh_hosts: vec!["gate.example".into(), host.into()],
            ..gate()
        };
        let refused = super::host(&odd);
        assert!(matches!(refused, Err(SshConfigError::Server(_))), "{host:?}");
    }
    for program in ["/x'y", "/x\"y", "/x\ny", "/x$HOME", "/x\\y", "/x`y`"] {
        let parts = Parts {
            way: Way::Jump,
            gate: &gate(),
            places: &Places::below("/h"),
            program: Path::new(program),
            account: "a",
            reachable: &reachable(),
        };
        assert!(matches!(text(&parts), Err(SshConfigError::Path(_))), "{program:?}");
    }
}
