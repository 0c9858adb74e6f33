//! The authorities in a PKCS#11 token: SoftHSM in the place of a card, the
//! stock OpenSSH programs on both sides of the gate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on has failed"
)]

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "support/mod.rs"]
mod support;

use support::{Bastion, Setup, Sshd, Variant, run, secs};

/// Where packages put SoftHSM's library.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
const PIN: &str = "4711";
const LABEL: &str = "gate";
const AUTHORITIES: [&str; 3] = ["admission_ca", "target_ca", "host_ca"];

/// A token of SoftHSM's with a P-256 key for each authority.
struct Token {
    place: tempfile::TempDir,
    module: &'static str,
}

impl Token {
    #[track_caller]
    fn new() -> Token {
        let found = MODULES.into_iter().find(|path| Path::new(path).exists());
        let module = found.expect("no SoftHSM: install the package softhsm2");
        let place = tempfile::Builder::new().prefix("pc-token.").tempdir().unwrap();
        let token = Token { place, module };
        std::fs::create_dir(token.folder()).unwrap();
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.folder().display()
        );
        std::fs::write(token.config(), text).unwrap();
        token.pin(PIN);
        let mut init = token.program("softhsm2-util");
        init.args([
            "--init-token",
            "--free",
            "--label",
            LABEL,
            "--so-pin",
            "0000",
            "--pin",
            PIN,
        ]);
        run(&mut init, secs(20)).ok();
        for (id, name) in AUTHORITIES.iter().enumerate() {
            token.generate(name, &format!("{:02}", id + 1));
        }
        token
    }

    #[track_caller]
    fn generate(&self, name: &str, id: &str) {
        let mut generate = self.program("pkcs11-tool");
        generate.args(["--module", self.module, "--token-label", LABEL, "--login", "--pin", PIN]);
        generate.args([
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--id",
            id,
            "--label",
            name,
        ]);
        run(&mut generate, secs(20)).ok();
    }

    fn folder(&self) -> PathBuf {
        self.place.path().join("tokens")
    }

    fn config(&self) -> PathBuf {
        self.place.path().join("softhsm2.conf")
    }

    fn pin_file(&self) -> PathBuf {
        self.place.path().join("pin")
    }

    fn pin(&self, text: &str) {
        use std::io::Write;
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(self.pin_file()).unwrap();
        writeln!(file, "{text}").unwrap();
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("SOFTHSM2_CONF", self.config());
        command
    }

    /// The public half of the key `name`, in a file, as OpenSSH tells it.
    #[track_caller]
    fn public(&self, name: &str) -> PathBuf {
        let done = run(self.program("ssh-keygen").args(["-D", self.module]), secs(20)).ok();
        let text = done.out();
        let line = text.lines().find(|line| line.ends_with(&format!(" {name}")));
        let file = self.place.path().join(format!("{name}.pub"));
        std::fs::write(&file, format!("{}\n", line.unwrap_or_else(|| panic!("{text}")))).unwrap();
        file
    }

    fn setup(&self) -> Setup {
        let quoted = |path: &Path| format!("{:?}", path.to_str().unwrap());
        Setup::new()
            .set("keys.admission_ca", "\"pkcs11\"")
            .set("keys.target_ca", "\"pkcs11\"")
            .set("keys.host_ca", "\"pkcs11\"")
            .set("keys.pkcs11.module", &quoted(Path::new(self.module)))
            .set("keys.pkcs11.token", &format!("{LABEL:?}"))
            .set("keys.pkcs11.pin_file", &quoted(&self.pin_file()))
            .env("SOFTHSM2_CONF", self.config().to_str().unwrap())
    }

    /// A command of an administrator's, who has the token's configuration as well.
    #[track_caller]
    fn admin(&self, bastion: &Bastion, args: &[&str]) -> support::Done {
        run(bastion.command(args).env("SOFTHSM2_CONF", self.config()), secs(30))
    }

    /// A bastion whose authorities were moved into the token; not started.
    #[track_caller]
    fn bastion(&self) -> Bastion {
        let bastion = self.setup().make();
        for (name, typed) in AUTHORITIES.iter().zip(["admission-ca", "target-ca", "host-ca"]) {
            let public = self.public(name);
            let rotate = ["keys", "rotate", typed, "--public-key", public.to_str().unwrap()];
            self.admin(&bastion, &rotate).ok();
            if *name != "admission_ca" {
                self.admin(&bastion, &["keys", "activate", typed]).ok();
            }
            assert!(!bastion.state().join("keys").join(name).exists(), "{name} in a file");
        }
        let ca = std::fs::read_to_string(bastion.state().join("keys/host_ca.pub")).unwrap();
        std::fs::write(bastion.known_hosts(), format!("@cert-authority * {}\n", ca.trim())).unwrap();
        bastion
    }
}

#[track_caller]
fn opens(bastion: &Bastion) {
    let client = bastion.client(&bastion.pass("root@db1").issue());
    let done = run(&mut client.exec("echo open"), secs(20));
    assert_eq!((done.code(), done.out()), (0, "open\n".into()), "{}", done.err());
}

#[test]
fn a_token_signs_all_three_kinds_of_certificates() {
    let token = Token::new();
    let mut bastion = token.bastion();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    let pass = bastion.pass("root@db1").issue();
    let done = run(&mut bastion.client(&pass).exec("echo open"), secs(20));
    assert_eq!((done.code(), done.out()), (0, "open\n".into()), "{}", done.err());
    let mut keygen = Command::new("ssh-keygen");
    let said = run(keygen.args(["-L", "-f"]).arg(&pass.certificate), secs(20))
        .ok()
        .out();
    assert!(said.contains("Signing CA: ECDSA SHA256:"), "{said}");
    assert!(sshd.log().contains("signed by ECDSA CA SHA256:"), "{}", sshd.log());
    let listed = bastion.json(&["keys", "list"]);
    let places = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["place"] == "pkcs11");
    assert_eq!(places.count(), 3);

    // Several at one time: one thread speaks to the token.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| opens(&bastion));
        }
    });
    assert_eq!(token.admin(&bastion, &["check"]).code(), 0);
    assert_eq!(bastion.stop(secs(40)), Some(0));
}

#[test]
fn a_token_that_was_taken_out_is_found_again() {
    let token = Token::new();
    let mut bastion = token.bastion();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    opens(&bastion);
    let pass = bastion.pass("root@db1").issue();

    let away = token.place.path().join("away");
    std::fs::rename(token.folder(), &away).unwrap();
    std::fs::create_dir(token.folder()).unwrap();
    let key = pass.key.with_extension("pub");
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
    ];
    let args = [&args[..], &[key.to_str().unwrap(), "root@db1"]].concat();
    let done = bastion.admin(&args);
    assert_ne!(done.code(), 0, "{}", done.out());
    assert!(done.err().contains("PKCS#11 token `gate`"), "{}", done.err());
    // Nobody gets to a target either, and is told.
    let done = run(&mut bastion.client(&pass).exec("echo open"), secs(20));
    assert_ne!(done.code(), 0, "{}", done.out());

    std::fs::remove_dir_all(token.folder()).unwrap();
    std::fs::rename(&away, token.folder()).unwrap();
    bastion.admin(&args).ok();
    opens(&bastion);
}

#[test]
fn keys_that_it_does_not_hold_and_pins_that_it_refuses_are_told() {
    let token = Token::new();
    let mut bastion = token.bastion();
    token.admin(&bastion, &["keys", "retire", "target-ca"]).ok();
    // An ed25519 key is in no token, and a stranger's P-256 key not in this one.
    for (kind, why) in [
        ("ed25519", "use ecdsa-sha2-nistp256"),
        ("ecdsa", "does not hold that key"),
    ] {
        let key = bastion.fresh("stranger", "");
        let mut keygen = Command::new("ssh-keygen");
        run(keygen.args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key), secs(20)).ok();
        let public = key.with_extension("pub");
        let rotate = ["keys", "rotate", "target-ca", "--public-key", public.to_str().unwrap()];
        token.admin(&bastion, &rotate).ok();
        let done = token.admin(&bastion, &["keys", "activate", "target-ca"]);
        assert!(done.code() == 1 && done.err().contains(why), "{}", done.err());
        token
            .admin(&bastion, &["keys", "retire", "target-ca", "--announced"])
            .ok();
    }
    assert_eq!(token.admin(&bastion, &["check"]).code(), 0);

    token.pin("0815");
    bastion.launch();
    assert_eq!(bastion.await_exit(secs(20)), Some(1));
    let log = bastion.log();
    assert!(log.contains("it refused the PIN") && !log.contains("0815"), "{log}");
}

#[test]
fn a_library_that_never_answers_is_not_waited_for() {
    let token = Token::new();
    let bastion = token.bastion();
    // It reads its configuration when it starts: from a pipe that nobody writes to.
    let pipe = token.place.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut check = bastion.command(&["check"]);
    let done = run(check.env("SOFTHSM2_CONF", &pipe), secs(20));
    assert_eq!(done.code(), 1, "{}", done.out());
    assert!(done.out().contains("no answer within 5000 ms"), "{}", done.out());
}
