//! README.md does what it says: every command in it is run, in order, as it
//! is written, against a real sshd.
//!
//! What a reader would put in place is put in place ([`Sandbox::here`]):
//! folders of the machine become folders of the sandbox, host names become
//! 127.0.0.1. What changes the machine itself (sudo, useradd, systemctl) is
//! stood in for by small scripts; systemctl's runs the unit's own command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portable_pty::CommandBuilder;

#[path = "demo/terminal.rs"]
mod terminal;

use terminal::Terminal;

/// The one command that is not run here: it runs this.
const NOT_RUN: &str = "tests/run";

/// Asked at run time: a cached build may come from another clone.
fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// Lines of the README's `sh` blocks. Other blocks are `text`: nothing that
/// looks like a command goes unrun.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut found = Vec::new();
    let mut kind = None;
    for line in readme.lines() {
        match (kind, line.strip_prefix("```")) {
            (None, Some(opened)) => {
                assert!(
                    ["sh", "text"].contains(&opened),
                    "a block of kind `{opened}`: sh is run, text is not"
                );
                kind = Some(opened == "sh");
            }
            (Some(_), Some(_)) => kind = None,
            (Some(true), None) if !line.trim().is_empty() => found.push(line.to_owned()),
            _ => {}
        }
    }
    assert!(kind.is_none(), "a block that does not end");
    found
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Where the commands run.
struct Sandbox {
    dir: tempfile::TempDir,
    login: String,
    gate_port: u16,
    api_port: u16,
    sshd_port: u16,
    sshd: Option<Child>,
}

impl Sandbox {
    fn new() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox {
            dir,
            login: whoami(),
            gate_port: free_port(),
            api_port: free_port(),
            sshd_port: free_port(),
            sshd: None,
        };
        for folder in ["bin", "units", "cwd", "sshd"] {
            std::fs::create_dir(sandbox.path(folder)).unwrap();
        }
        let state = sandbox.path("state").display().to_string();
        let at = sandbox.dir.path().display();
        // A reader's account, root's, and the service's are one here.
        sandbox.script("sudo", "if [ \"$1\" = -u ]; then shift 2; fi\nexec \"$@\"");
        sandbox.script(
            "useradd",
            &format!("case \"$*\" in *--create-home*{state}*) mkdir -m 700 {state} ;; *) exit 2 ;; esac"),
        );
        sandbox.script(
            "systemctl",
            &format!(
                "[ \"$*\" = 'enable --now portcullis' ] || exit 2\n\
                 run=$(sed -n 's/^ExecStart=//p' {at}/units/portcullis.service |\n\
                     sed 's|/usr/local/bin|{at}/bin|; s|/var/lib/portcullis|{state}|')\n\
                 setsid $run > {at}/served 2> {at}/log < /dev/null &\n\
                 echo $! > {at}/pid\n\
                 for i in $(seq 300); do grep -q '^ready ' {at}/served && exit 0; sleep 0.1; done\n\
                 cat {at}/log >&2; exit 1"
            ),
        );
        // The clone is where cargo runs; everything else happens in `cwd`.
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        sandbox.script("cargo", &format!("cd {} && exec {cargo} \"$@\"", root().display()));
        sandbox
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// The command with what is true here in place of what is true at the reader's.
    fn here(&self, command: &str) -> String {
        let state = self.path("state").display().to_string();
        let built = built().display().to_string();
        let pairs = [
            ("/usr/local/bin", self.path("bin").display().to_string()),
            ("/etc/systemd/system", self.path("units").display().to_string()),
            ("/var/lib/portcullis", state),
            ("target/release/", format!("{built}/")),
            ("dist/", format!("{}/dist/", root().display())),
            ("[::]:2222", format!("127.0.0.1:{}", self.gate_port)),
            ("2222", self.gate_port.to_string()),
            ("[::]:8443", format!("127.0.0.1:{}", self.api_port)),
            ("8443", self.api_port.to_string()),
            ("bastion.example.org", "127.0.0.1".to_owned()),
            ("db1.example.org:22", format!("127.0.0.1:{}", self.sshd_port)),
            ("--login root", format!("--login {}", self.login)),
            ("root@db1", format!("{}@db1", self.login)),
            ("FILE.pcr", self.newest_recording().display().to_string()),
            (" SESSION ", format!(" {} ", self.newest_session())),
            ("-I NODE", format!("-I {}", self.node())),
        ];
        pairs
            .iter()
            .fold(command.to_owned(), |command, (from, to)| command.replace(from, to))
    }

    /// The node's name, as the allowed signers file has it.
    fn node(&self) -> String {
        let signers = self.log("cwd/allowed_signers");
        signers.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Its recording is called after it.
    fn newest_session(&self) -> String {
        let recording = self.newest_recording();
        recording.file_stem().unwrap().to_str().unwrap().to_owned()
    }

    fn newest_recording(&self) -> PathBuf {
        let Ok(entries) = std::fs::read_dir(self.path("state").join("archive")) else {
            return "FILE.pcr".into();
        };
        let files = entries.flatten().map(|entry| entry.path());
        let recordings = files.filter(|path| path.extension().is_some_and(|kind| kind == "pcr"));
        recordings
            .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
            .unwrap_or_else(|| "FILE.pcr".into())
    }

    /// `db1`: a stock sshd that trusts the target authority.
    fn start_sshd(&mut self) {
        let folder = self.path("sshd");
        let key = folder.join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.unwrap().success());
        std::fs::copy(key.with_extension("pub"), self.path("cwd").join("db1.pub")).unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nTrustedUserCAKeys {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nAuthorizedKeysFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            self.sshd_port,
            key.display(),
            self.path("state").join("keys/target_ca.pub").display(),
        );
        std::fs::write(folder.join("config"), config).unwrap();
        // As root it wants this folder for its unprivileged half.
        std::fs::create_dir_all("/run/sshd").ok();
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("sshd: tests/run installs it");
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("config"))
            .stderr(log)
            .spawn()
            .unwrap();
        self.sshd = Some(child);
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.sshd_port)).is_err() {
            assert!(Instant::now() < end, "{}", self.log("sshd/log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn search_path(&self) -> String {
        let before = std::env::var("PATH").unwrap();
        format!("{}:{before}", self.path("bin").display())
    }

    /// Runs one command; what it printed.
    fn run(&self, command: &str) -> String {
        let command = self.here(command);
        println!("$ {command}");
        let output = Command::new("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", &command])
            .current_dir(self.path("cwd"))
            .env("PATH", self.search_path())
            .env("HOME", self.dir.path())
            .env("CARGO_HOME", cargo_home())
            .env("RUSTUP_HOME", rustup_home())
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(
            output.status.success(),
            "{command}\n{}\n{out}{err}\nserver: {}\nsshd: {}",
            output.status,
            self.log("log"),
            self.log("sshd/log")
        );
        format!("{out}{err}")
    }

    /// The same in a terminal.
    fn terminal(&self, command: &str) -> Terminal {
        let command = self.here(command);
        println!("$ {command}");
        let mut builder = CommandBuilder::new("bash");
        builder.args(["-e", "-u", "-c", &command]);
        builder.cwd(self.path("cwd"));
        builder.env("PATH", self.search_path());
        builder.env("TERM", "xterm-256color");
        Terminal::run(builder)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            sshd.kill().ok();
            sshd.wait().ok();
        }
        if let Ok(pid) = self.log("pid").trim().parse::<u32>() {
            Command::new("kill").arg(pid.to_string()).status().ok();
            let end = Instant::now() + Duration::from_secs(30);
            while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The folder with what cargo has built in this profile.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap()
}

fn cargo_home() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    std::env::var("CARGO_HOME").unwrap_or(format!("{home}/.cargo"))
}

fn rustup_home() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    std::env::var("RUSTUP_HOME").unwrap_or(format!("{home}/.rustup"))
}

/// What a command's output must show, for those where exit 0 is not enough.
fn shows(command: &str) -> &'static str {
    let table = [
        ("portcullis init", "@cert-authority"),
        ("grant issue", "Grant "),
        ("uname -a", "Linux"),
        (" sessions ", "alice"),
        (" grants ", "live"),
        (" recordings --state", ".pcr"),
        (" recordings hold", " held"),
        (" recordings release", " released"),
        ("whoami", "carol"),
        ("explain", "session-by-grant"),
        (" inventory ", "carol"),
        ("ledger fsck", "everything fits"),
        ("player verify", "SEALED"),
        ("player text", "Linux"),
    ];
    let found = table.iter().find(|(part, _)| command.contains(part));
    found.map_or("", |(_, text)| text)
}

#[test]
fn every_command_works_as_written() {
    let commands = commands();
    assert!(commands.len() > 20, "{commands:?}");
    assert!(commands.iter().any(|command| command == NOT_RUN));
    let mut sandbox = Sandbox::new();
    for command in &commands {
        if command == NOT_RUN {
            assert!(root().join(command).exists());
        } else if command.ends_with("-- demo") {
            let mut demo = sandbox.terminal(command);
            demo.see("Leave it with `exit`.");
            demo.quiet();
            demo.press("exit\r");
            demo.see("Press Enter here to stop it.");
            demo.press("\r");
            let (text, status) = demo.end();
            assert_eq!(status, 0, "{text}");
            assert!(text.contains("demo: 1 session, 1 SEALED"), "{text}");
            let made = text.lines().find_map(|line| line.trim().split("rm -rf ").nth(1));
            std::fs::remove_dir_all(made.unwrap()).unwrap();
        } else if command.contains("player play") {
            let mut player = sandbox.terminal(command);
            player.quiet();
            player.press("q");
            let (text, status) = player.end();
            assert_eq!(status, 0, "{text}");
        } else {
            if command.contains("target add") {
                sandbox.start_sshd();
            }
            // ssh is back a moment before the recording is sealed and filed.
            let end = Instant::now() + Duration::from_secs(20);
            let mut text = sandbox.run(command);
            while !text.contains(shows(command)) {
                assert!(Instant::now() < end, "{command}\n{text}");
                std::thread::sleep(Duration::from_millis(200));
                text = sandbox.run(command);
            }
        }
    }
}
