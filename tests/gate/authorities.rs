//! Where the authorities' keys are (a file under a passphrase, an ssh-agent),
//! what becomes of their certificates elsewhere, and where ours may be shown.

use std::io::BufRead;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Bastion, Setup, Sshd, Variant, World, run, secs};

#[track_caller]
fn opens(bastion: &Bastion) {
    let client = bastion.client(&bastion.pass("root@db1").issue());
    let done = run(&mut client.exec("echo open"), secs(20));
    assert_eq!((done.code(), done.out()), (0, "open\n".into()), "{}", done.err());
}

fn private(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn encrypted_key_files_are_opened_by_a_file_or_a_credential() {
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("passphrase");
    private(&secret, "a long passphrase\n");
    let quoted = format!("{:?}", secret.to_str().unwrap());
    let mut bastion = Setup::new().set("keys.passphrase_file", &quoted).make();
    let encrypted = bastion.json(&["keys", "encrypt"]);
    assert_eq!(encrypted["encrypted"], 3);
    assert_eq!(bastion.json(&["keys", "encrypt"])["encrypted"], 0);
    let text = std::fs::read_to_string(bastion.state().join("keys/target_ca")).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-y", "-P", "", "-f"])
        .arg(bastion.state().join("keys/target_ca"));
    assert_ne!(run(&mut keygen, secs(20)).code(), 0, "{text}");

    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    opens(&bastion);
    // A new key comes under the same passphrase.
    bastion.json(&["keys", "rotate", "admission-ca"]);
    keygen = Command::new("ssh-keygen");
    keygen
        .args(["-y", "-P", "a long passphrase", "-f"])
        .arg(bastion.state().join("keys/admission_ca"));
    run(&mut keygen, secs(20)).ok();
    assert_eq!(bastion.admin(&["check"]).code(), 0);

    // Without it nothing starts, and what is missing is said.
    assert_eq!(bastion.stop(secs(40)), Some(0));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    assert!(bastion.log().contains("chmod 600"), "{}", bastion.log());
    private(&secret, "another one\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    let log = bastion.log();
    assert!(log.contains("the passphrase that was given does not open"), "{log}");
    assert!(!log.contains("another one"), "{log}");
}

#[test]
fn a_service_managers_credential_opens_them_too() {
    let place = tempfile::tempdir().unwrap();
    private(&place.path().join("passphrase"), "from the service manager");
    let folder = place.path().to_str().unwrap();
    let mut bastion = Setup::new().env("CREDENTIALS_DIRECTORY", folder).make();
    let mut encrypt = bastion.command(&["keys", "encrypt"]);
    run(encrypt.env("CREDENTIALS_DIRECTORY", folder), secs(20)).ok();
    let done = bastion.admin(&["check"]);
    assert!(done.code() == 1 && done.out().contains("passphrase"), "{}", done.out());
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    opens(&bastion);
}

/// A real ssh-agent; ended when dropped.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(socket: &Path) -> Agent {
        std::fs::remove_file(socket).ok();
        let mut agent = Command::new("ssh-agent");
        let mut child = agent
            .args(["-D", "-a"])
            .arg(socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints its environment once it listens.
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        Agent {
            child,
            socket: socket.to_owned(),
        }
    }

    fn add(&self, key: &Path) {
        let mut add = Command::new("ssh-add");
        run(add.env("SSH_AUTH_SOCK", &self.socket).arg(key), secs(20)).ok();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn an_agent_holds_the_authorities_and_may_come_back() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("agent");
    let quoted = format!("{:?}", socket.to_str().unwrap());
    let mut bastion = Setup::new()
        .set("keys.agent", &quoted)
        .set("keys.admission_ca", "\"agent\"")
        .set("keys.target_ca", "\"agent\"")
        .set("keys.host_ca", "\"agent\"")
        .make();
    let names = ["admission_ca", "target_ca", "host_ca"];
    let away = |name: &str| place.path().join(name);
    for name in names {
        std::fs::rename(bastion.state().join("keys").join(name), away(name)).unwrap();
    }
    let fill = |agent: &Agent, names: &[&str]| names.iter().for_each(|name| agent.add(&away(name)));
    let agent = Agent::start(&socket);
    fill(&agent, &names[..2]);
    // One that it does not hold is told before anybody is let in.
    let done = bastion.admin(&["check"]);
    assert!(
        done.out().contains("ssh-add") && done.out().contains("host_ca"),
        "{}",
        done.out()
    );
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    fill(&agent, &names);
    assert_eq!(bastion.admin(&["check"]).code(), 0);
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    opens(&bastion);

    let held = bastion.pass("root@db1").issue();
    drop(agent);
    let key = held.key.with_extension("pub");
    let issue = || {
        let key = key.to_str().unwrap();
        let args = [
            "grant",
            "issue",
            "--identity",
            "alice",
            "--for",
            "5m",
            "--reason",
            "x",
            "--public-key",
            key,
            "root@db1",
        ];
        bastion.admin(&args)
    };
    let done = issue();
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("ssh-agent at"), "{}", done.err());
    let agent = Agent::start(&socket);
    fill(&agent, &names);
    issue().ok();
    opens(&bastion);

    // A new key that the agent holds: announced, and used once it is there.
    let new = place.path().join("new");
    let mut keygen = Command::new("ssh-keygen");
    run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&new), secs(20)).ok();
    let public = new.with_extension("pub");
    let rotate = [
        "keys",
        "rotate",
        "admission-ca",
        "--public-key",
        public.to_str().unwrap(),
    ];
    let done = bastion.admin(&rotate);
    assert!(
        done.code() == 1 && done.err().contains("does not hold that key"),
        "{}",
        done.err()
    );
    agent.add(&new);
    bastion.admin(&rotate).ok();
    let done = bastion.admin(&["keys", "rotate", "target-ca"]);
    assert!(
        done.code() == 2 && done.err().contains("--public-key"),
        "{}",
        done.err()
    );
}

/// Whether stock OpenSSH finds a certificate in a revocation list.
#[track_caller]
fn revoked(list: &Path, certificate: &Path) -> bool {
    let mut keygen = Command::new("ssh-keygen");
    let done = run(keygen.args(["-Q", "-f"]).arg(list).arg(certificate), secs(20));
    match done.code() {
        0 => false,
        1 if done.out().contains("REVOKED") => true,
        other => panic!("{other}: {}{}", done.out(), done.err()),
    }
}

#[test]
fn a_revocation_list_names_certificates_that_were_revoked_before_their_end() {
    let world = World::new();
    let bastion = &world.bastion;
    let (gone, kept) = (world.pass(), world.pass());
    let list = bastion.dir().join("list");
    let write = || bastion.json(&["trust", "krl", "-o", list.to_str().unwrap()]);
    assert_eq!(write()["certificates"], 0);
    assert!(!revoked(&list, &gone.certificate));
    bastion
        .admin(&["revoke", "--grant", &gone.grant, "--reason", "lost"])
        .ok();
    assert_eq!(write()["certificates"], 1);
    assert!(revoked(&list, &gone.certificate));
    assert!(!revoked(&list, &kept.certificate));
    // Also under the key that signs from now on: it may be shown either.
    bastion.json(&["keys", "rotate", "admission-ca"]);
    write();
    assert!(revoked(&list, &gone.certificate));
    // Retired: all that it signed.
    bastion.json(&["keys", "retire", "admission-ca", "--force"]);
    assert_eq!(write()["keys"], 1);
    assert!(revoked(&list, &kept.certificate));
    // A list that is not written leaves the one before.
    let before = std::fs::read(&list).unwrap();
    let mut world = world;
    let path = list.to_str().unwrap().to_owned();
    world.bastion.stop(secs(40));
    assert_eq!(world.bastion.admin(&["trust", "krl", "-o", &path]).code(), 7);
    assert_eq!(std::fs::read(&list).unwrap(), before);
}

/// A bastion that tells targets to expect it from `sources`; none: the default.
fn coming_from(sources: Option<&str>) -> World {
    let setup = Setup::new();
    let setup = match sources {
        Some(sources) => setup.set("ssh.target_source_address", sources),
        None => setup,
    };
    // The session finds there what it was let in by.
    World::with(setup, Variant::default().line("ExposeAuthInfo yes"))
}

#[test]
fn a_target_takes_our_certificate_from_our_address_alone() {
    let world = coming_from(None);
    let done = run(&mut world.client().exec("cat \"$SSH_USER_AUTH\""), secs(20)).ok();
    let shown = done.out();
    let mut words = shown.split_whitespace().skip(1);
    let certificate = world.bastion.dir().join("shown-cert.pub");
    let line = format!("{} {}\n", words.next().unwrap(), words.next().unwrap());
    std::fs::write(&certificate, line).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    let said = run(keygen.args(["-L", "-f"]).arg(&certificate), secs(20)).ok().out();
    assert!(said.contains("source-address 127.0.0.1\n"), "{said}");
    assert!(said.contains("Key ID: \"alice grant="), "{said}");
    assert!(
        said.contains("Extensions: \n                permit-pty\n") || said.contains("permit-pty"),
        "{said}"
    );
    for more in [
        "permit-port-forwarding",
        "permit-agent-forwarding",
        "permit-X11-forwarding",
        "permit-user-rc",
    ] {
        assert!(!said.contains(more), "{said}");
    }

    // Seen from elsewhere, as by NAT that nobody told of, it is worth nothing.
    let elsewhere = coming_from(Some("[\"127.0.0.2\"]"));
    let done = run(&mut elsewhere.client().exec("true"), secs(20));
    assert_ne!(done.code(), 0, "{}", done.out());
    let log = elsewhere.sshd.log();
    assert!(log.contains("not from a permitted source address"), "{log}");

    let told = coming_from(Some("[\"192.0.2.0/24\", \"127.0.0.0/8\"]"));
    run(&mut told.client().exec("true"), secs(20)).ok();
}

#[test]
fn an_admission_certificate_says_little_and_begins_a_minute_early() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").allow("exec").issue();
    let mut keygen = Command::new("ssh-keygen");
    let done = run(
        keygen.env("TZ", "UTC").args(["-L", "-f"]).arg(&pass.certificate),
        secs(20),
    )
    .ok();
    let said = done.out();
    assert!(
        said.contains(&format!("Key ID: \"alice grant={}", pass.grant)),
        "{said}"
    );
    assert!(said.contains("Extensions: (none)"), "{said}");
    let text = std::fs::read_to_string(&pass.certificate).unwrap();
    let held = russh::keys::Certificate::from_openssh(text.trim()).unwrap();
    let issued = pass.until_ms / 1000 - 600;
    let early = issued.saturating_sub(held.valid_after());
    assert!((59..=62).contains(&early), "{early} s");
}
