//! Targets without certificates: keys, passwords and prompts, from files and
//! commands. The secret reaches the target that has proved itself, and is in
//! no other place afterwards.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::raw::Target;
use crate::raw::wire::{Put, msg};
use crate::support::device::{Device, Round, Takes};
use crate::support::{Bastion, Running, Setup, Sshd, Variant, finish, run, secs, wait_until};

/// A password that is looked for everywhere afterwards.
const CANARY: &str = "canary-9d1c74e0";
/// The same as /etc/shadow has it (crypt(5), SHA-512).
const CANARY_HASH: &str =
    "$6$portcullis$9TPuEMJhrlNLABORHTLRZHNykj/9bxiAGE1afK1fECqN52matwibsQ6PcFZypaqmVJ14wDnNNANmezLgBtiNf0";

/// A bastion with a folder of secrets and a program that gives one.
struct House {
    bastion: Bastion,
    secrets: PathBuf,
    /// There once the program has been run.
    mark: PathBuf,
}

impl House {
    /// With `script` as the program's, which is told TARGET LOGIN.
    fn with(script: &str) -> House {
        House::set(script, Setup::new())
    }

    fn set(script: &str, setup: Setup) -> House {
        let outside = tempfile::Builder::new().prefix("pc-secrets.").tempdir().unwrap().keep();
        let program = outside.join("secret-of");
        let mark = outside.join("mark");
        let text = format!("#!/bin/sh\necho \"$1 $2\" >>{}\n{script}\n", mark.display());
        std::fs::write(&program, text).unwrap();
        mode(&program, 0o700);
        let secrets = outside.join("files");
        std::fs::create_dir(&secrets).unwrap();
        mode(&secrets, 0o700);
        let sources = format!(
            "[{{name=\"files\", kind=\"file\", folder=\"{}\", passphrase=\"program\"}}, \
             {{name=\"program\", kind=\"command\", command=[\"{}\"], timeout_secs=2}}]",
            secrets.display(),
            program.display()
        );
        House {
            bastion: setup.set("credential", &sources).start(),
            secrets,
            mark,
        }
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.secrets.join(name);
        std::fs::write(&path, text).unwrap();
        mode(&path, 0o600);
    }

    /// Adds a target that takes `credential`.
    fn add(&self, name: &str, addr: &str, host_key: &Path, credential: &str) {
        let key = host_key.to_str().unwrap();
        let done = self.bastion.admin(&[
            "target",
            "add",
            name,
            "--addr",
            addr,
            "--login",
            "root",
            "--host-key",
            key,
            "--credential",
            credential,
        ]);
        done.ok();
    }

    fn add_sshd(&self, name: &str, sshd: &Sshd, credential: &str) {
        self.add(name, &sshd.addr().to_string(), &sshd.host_key_pub(), credential);
    }

    fn add_device(&self, name: &str, device: &Device, credential: &str) {
        self.add(name, &device.addr().to_string(), &device.host_key_pub(), credential);
    }

    fn exec(&self, target: &str, command: &str) -> Command {
        let pass = self.bastion.pass(&format!("root@{target}")).issue();
        self.bastion.client(&pass).exec(command)
    }

    /// How often the program was run.
    fn asked(&self) -> usize {
        std::fs::read_to_string(&self.mark).unwrap_or_default().lines().count()
    }

    /// The secret is in no file of the state folder and in no log.
    #[track_caller]
    fn assert_nowhere(&self, secret: &str) {
        let mut looked = 0;
        for path in below(self.bastion.dir()) {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            looked += 1;
            let found = crate::support::bytes::find(&bytes, secret.as_bytes());
            assert!(found.is_none(), "the secret is in {}", path.display());
        }
        assert!(looked > 10, "only {looked} files");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(outside) = self.secrets.parent() {
            std::fs::remove_dir_all(outside).ok();
        }
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// A key pair, and an sshd that takes it.
fn keyed(house: &House, kind: &[&str], passphrase: &str, line: &str) -> (Sshd, String) {
    let key = house.bastion.fresh("target_key", "");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-N", passphrase, "-C", "target"])
        .args(kind)
        .arg("-f")
        .arg(&key);
    run(&mut keygen, secs(60)).ok();
    let variant = Variant::default()
        .line(&format!("AuthorizedKeysFile {}", key.with_extension("pub").display()))
        .line(line);
    let sshd = Sshd::start(&house.bastion, variant);
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    (sshd, text)
}

#[test]
fn keys_of_every_kind_log_in() {
    let house = House::with(&format!("echo {CANARY}"));
    let cases: [(&str, &[&str], &str, &str); 4] = [
        ("plain", &["-t", "ed25519"], "", ""),
        ("locked", &["-t", "ed25519", "-a", "4"], CANARY, ""),
        ("ecdsa", &["-t", "ecdsa", "-b", "384"], "", ""),
        (
            "rsa",
            &["-t", "rsa", "-b", "3072"],
            "",
            "PubkeyAcceptedAlgorithms rsa-sha2-512,rsa-sha2-256",
        ),
    ];
    let mut secrets = vec![CANARY.to_owned()];
    for (name, kind, passphrase, line) in cases {
        let (sshd, text) = keyed(&house, kind, passphrase, line);
        house.put(&format!("root@{name}"), &text);
        house.add_sshd(name, &sshd, "files:key");
        let done = run(&mut house.exec(name, "echo in"), secs(20)).ok();
        assert_eq!(done.out(), "in\n", "{name}");
        secrets.push(text.lines().nth(3).unwrap().to_owned());
    }
    // Its passphrase was fetched for the locked one alone.
    assert_eq!(std::fs::read_to_string(&house.mark).unwrap(), "locked root\n");
    for record in house.bastion.records(4) {
        record.assert_sealed();
        record.assert_balanced();
    }
    house.bastion.assert_ledger_clean();
    for secret in secrets {
        house.assert_nowhere(&secret);
    }
}

#[test]
fn a_password_logs_in_and_is_nowhere_afterwards() {
    let house = House::with(&format!("echo {CANARY}; echo {CANARY} >&2"));
    let variant = Variant::password("root", CANARY_HASH).line("PubkeyAuthentication no");
    let sshd = Sshd::start(&house.bastion, variant);
    house.add_sshd("db1", &sshd, "program:password");
    let done = finish(&mut house.exec("db1", "cat; exit 3"), b"through\n", secs(20));
    assert_eq!((done.code(), done.out()), (3, "through\n".to_owned()));
    assert!(sshd.log().contains("Accepted password for root"));
    assert_eq!(std::fs::read_to_string(&house.mark).unwrap(), "db1 root\n");
    let record = house.bastion.only_record();
    assert_eq!(record.output(1), b"through\n");
    // Backed up with what a server writes at its end.
    let listed = house.bastion.admin(&["target", "list"]).ok().out();
    assert!(listed.contains("program:password"), "{listed}");
    house.bastion.assert_ledger_clean();
    house.assert_nowhere(CANARY);
}

/// A banner may come at any time before the login (RFC 4252 section 5.4): what
/// is said behind the password could be the password.
#[test]
fn a_banner_is_recorded_as_far_as_it_cannot_hold_the_secret() {
    let house = House::with(&format!("echo {CANARY}"));
    let target = Target::start(|peer| {
        let banner = |text: &str| Put::message(53).string(text).string("").done();
        let failure = Put::message(msg::USERAUTH_FAILURE)
            .string("password")
            .bool(false)
            .done();
        peer.greet()?;
        peer.serve_auth()?;
        peer.expect(&[msg::USERAUTH_REQUEST])?;
        peer.send(&banner("Property of the house\n"))?;
        peer.send(&failure)?;
        peer.expect(&[msg::USERAUTH_REQUEST])?;
        peer.send(&banner(&format!("you said {CANARY}\n")))?;
        peer.send(&failure)?;
        peer.drained(secs(20)).map(drop)
    });
    let key = house.bastion.fresh("host", ".pub");
    Target::write_host_key(&key);
    house.add("db1", &target.addr().to_string(), &key, "program:password");
    assert_eq!(finish(&mut house.exec("db1", "true"), b"", secs(20)).code(), 255);
    let said = house.bastion.only_record().markers();
    assert!(
        said.iter().any(|text| text.contains("Property of the house")),
        "{said:?}"
    );
    house.assert_nowhere(CANARY);
}

#[test]
fn prompts_are_answered_and_a_password_serves_for_them() {
    let house = House::with(&format!("printf '%s\\n%s\\n' {CANARY} 123456"));
    house.put("root@switch", CANARY);
    let device = Device::start(Takes::Prompts(vec![
        Round::default()
            .ask("User Name:", true, "root")
            .ask("Password:", false, CANARY),
        Round::default(),
    ]));
    house.add_device("switch", &device, "files:password");
    let done = run(&mut house.exec("switch", "show version"), secs(20)).ok();
    assert_eq!(done.out(), "you are root\n");
    assert_eq!(device.told(), ["root", CANARY]);
    let token = Device::start(Takes::Prompts(vec![
        Round::default().ask("Password: ", false, CANARY),
        Round::default().ask("Token: ", false, "123456"),
    ]));
    house.add_device("router", &token, "program:keyboard-interactive");
    run(&mut house.exec("router", "show version"), secs(20)).ok();
    assert_eq!(token.told(), [CANARY, "123456"]);
    let plain = Device::start(Takes::Password(CANARY.to_owned()));
    house.put("root@plain", CANARY);
    house.add_device("plain", &plain, "files:password");
    run(&mut house.exec("plain", "show version"), secs(20)).ok();
    assert_eq!(plain.told(), [CANARY]);
    house.bastion.records(3);
    house.assert_nowhere(CANARY);
}

/// The user of a session that did not come to be, and what was said.
fn refused(house: &House, target: &str) -> String {
    let done = run(&mut house.exec(target, "true"), secs(30));
    assert_ne!(done.code(), 0);
    done.err()
}

#[test]
fn a_prompt_that_is_not_known_is_not_answered() {
    let house = House::with(&format!("echo {CANARY}"));
    let cases = [
        (
            "expired",
            Round::default().ask("New password:", false, CANARY),
            "wants the password changed",
        ),
        (
            "changing",
            Round {
                instructions: "Your password has expired.".to_owned(),
                ..Round::default().ask("Password:", false, CANARY)
            },
            "wants the password changed",
        ),
        (
            "curious",
            Round::default().ask("Favourite colour?", true, "blue"),
            "we know no answer",
        ),
        (
            "twice",
            Round::default()
                .ask("Password:", false, CANARY)
                .ask("Token:", false, "1"),
            "more than there are secrets",
        ),
        (
            "echoing",
            Round::default().ask(&format!("Is {CANARY} right?"), true, "yes"),
            "a text with the secret in it",
        ),
    ];
    let count = cases.len();
    for (name, round, _) in &cases {
        let device = Device::start(Takes::Prompts(vec![round.clone()]));
        house.add_device(name, &device, "program:password");
        let said = refused(&house, name);
        let wanted = cases.iter().find(|case| case.0 == *name).unwrap().2;
        assert!(said.contains(wanted), "{name}: {said}");
        assert_eq!(device.told(), Vec::<String>::new(), "{name}");
    }
    for record in house.bastion.records(count) {
        assert_eq!(record.code(), "target_lost");
    }
    house.assert_nowhere(CANARY);
}

#[test]
fn a_wrong_secret_is_tried_once_and_told() {
    let house = House::with("echo wrong");
    let device = Device::start(Takes::Password(CANARY.to_owned()));
    house.add_device("db1", &device, "program:password");
    let said = refused(&house, "db1");
    assert!(said.contains("refused the password of root"), "{said}");
    assert_eq!(device.told(), ["wrong"]);
    // A key where only passwords are taken.
    let (_sshd, key) = keyed(&house, &["-t", "ed25519"], "", "");
    house.put("root@db2", &key);
    house.add_device("db2", &device, "files:key");
    let said = refused(&house, "db2");
    assert!(
        said.contains("does not take a key") && said.contains("password"),
        "{said}"
    );
    house.assert_nowhere(key.lines().nth(3).unwrap());
}

#[test]
fn a_source_that_misbehaves_is_told_and_ends_in_time() {
    let script = format!(
        "case $1 in hangs) sleep 600;; floods) cat /dev/zero;; fails) echo {CANARY}; exit 9;; \
         two) echo {CANARY}; echo more;; silent) ;; esac"
    );
    let house = House::with(&script);
    let device = Device::start(Takes::Password(CANARY.to_owned()));
    let cases = [
        ("hangs", "gave no answer within 2 s"),
        ("floods", "gives more than 16384 bytes"),
        ("fails", "exit code 9"),
        ("two", "gives 2 lines"),
        ("silent", "gives nothing"),
    ];
    for (name, wanted) in cases {
        house.add_device(name, &device, "program:password");
        let said = refused(&house, name);
        assert!(said.contains(wanted), "{name}: {said}");
        assert!(said.contains("credential source program"), "{name}: {said}");
        assert!(!said.contains(CANARY), "{name}: {said}");
    }
    assert_eq!(device.told(), Vec::<String>::new());
    // Nothing that it started is left.
    let left = || {
        let below = crate::support::process::descendants(house.bastion.pid());
        below.iter().any(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            line.starts_with(b"sleep") || line.starts_with(b"cat") || zombie.contains(") Z ")
        })
    };
    wait_until("no process of the program's", secs(10), || !left());
    house.assert_nowhere(CANARY);
}

/// Nobody's secret leaves its source before policy has said yes to `connect`
/// and the target has proved itself.
#[test]
fn a_secret_stays_where_it_is_without_a_permit() {
    let house = House::with(&format!("echo {CANARY}"));
    let device = Device::start(Takes::Password(CANARY.to_owned()));
    let other = Device::start(Takes::Password(CANARY.to_owned()));
    house.add_device("db1", &device, "program:password");
    // Another machine at the address.
    house.add(
        "db2",
        &other.addr().to_string(),
        &device.host_key_pub(),
        "program:password",
    );
    let said = refused(&house, "db2");
    assert!(said.contains("another host key"), "{said}");
    let expired = house.bastion.pass("root@db1").secs(1).issue();
    wait_until("the grant's end", secs(10), || expired.left_ms() < 0);
    assert_ne!(
        run(&mut house.bastion.client(&expired).exec("true"), secs(20)).code(),
        0
    );
    let revoked = house.bastion.pass("root@db1").issue();
    house
        .bastion
        .admin(&["revoke", "--grant", &revoked.grant, "--reason", "a test"])
        .ok();
    assert_ne!(
        run(&mut house.bastion.client(&revoked).exec("true"), secs(20)).code(),
        0
    );
    let held = house.bastion.pass("root@db1").issue();
    let forbid = "@id(\"not-now\")\nforbid (principal, action == Action::\"connect\", resource);\n";
    let folder = house.bastion.state().join("policies");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("not-now.cedar"), forbid).unwrap();
    house.bastion.signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the reload", secs(20), || house.bastion.log().contains("reloaded"));
    let done = run(&mut house.bastion.client(&held).exec("true"), secs(20));
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("not-now"), "{}", done.err());
    assert_eq!(house.asked(), 0);
    assert_eq!(device.told(), Vec::<String>::new());
    assert_eq!(other.told(), Vec::<String>::new());
}

/// A session that is ended while its secret is being fetched takes the program with it.
#[test]
fn a_revocation_ends_the_fetching() {
    let setup = Setup::new();
    let house = House::set("sleep 600", setup);
    let device = Device::start(Takes::Password(CANARY.to_owned()));
    house.add_device("db1", &device, "program:password");
    let pass = house.bastion.pass("root@db1").issue();
    let client = Running::start(&mut house.bastion.client(&pass).exec("true"));
    wait_until("the program", secs(20), || house.asked() == 1);
    house
        .bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "a test"])
        .ok();
    client.finish(secs(20));
    assert_eq!(house.bastion.records(1).remove(0).code(), "revoked");
    assert_eq!(device.told(), Vec::<String>::new());
}

#[test]
fn sources_are_the_servers_and_are_looked_at() {
    let house = House::with(&format!("echo {CANARY}"));
    let device = Device::start(Takes::Password(CANARY.to_owned()));
    let (addr, key) = (device.addr().to_string(), device.host_key_pub());
    let key = key.to_str().unwrap();
    let add = |credential: &str| {
        house.bastion.admin(&[
            "target",
            "add",
            "db1",
            "--addr",
            &addr,
            "--login",
            "root",
            "--host-key",
            key,
            "--credential",
            credential,
        ])
    };
    for bad in ["vault:password", "/bin/sh:password", "files:otp", "password"] {
        let done = add(bad);
        assert_ne!(done.code(), 0, "{bad}");
        assert!(!done.err().is_empty());
    }
    add("files:password").ok();
    let shown = house.bastion.json(&["target", "list"]);
    let reach = &shown["targets"][0]["reach"];
    assert_eq!(reach["credential"]["kind"], "password");
    assert_eq!(reach["credential"]["source"], "files");
    house.bastion.admin(&["check"]).ok();
    house.bastion.admin(&["identity", "add", "alice"]);
    let explain = [
        "explain",
        "--identity",
        "alice",
        "--target",
        "root@db1",
        "--reason",
        "a look",
    ];
    let told = house.bastion.json(&explain);
    assert_eq!(told["warnings"], serde_json::json!([]));
    // Open to others: `check` and `explain` say so before anybody is refused.
    mode(&house.secrets, 0o777);
    let checked = house.bastion.admin(&["check"]);
    assert_eq!(checked.code(), 1);
    assert!(checked.out().contains("credential source files"), "{}", checked.out());
    let told = house.bastion.json(&explain);
    assert!(told["warnings"][0].as_str().unwrap().contains("files"), "{told}");
    mode(&house.secrets, 0o700);
    let said = refused(&house, "db1");
    assert!(said.contains("it has no file for that"), "{said}");
}
