//! A real OpenSSH server as target: it trusts the bastion's target CA.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bastion::Bastion;
use super::process::{kill_tree, run, with_account, with_password};
use super::wait::secs;

const READY: Duration = secs(15);
/// Ports are picked free, but somebody else may be quicker.
const PORT_TRIES: usize = 10;

/// What is special about a target.
#[derive(Clone, Default)]
pub struct Variant {
    lines: Vec<String>,
    host_certificate: bool,
    account: Option<(String, String)>,
    password: Option<(String, String)>,
}

impl Variant {
    /// Lets `name` log in with this shell.
    pub fn account(mut self, name: &str, shell: &str) -> Variant {
        self.account = Some((name.to_owned(), shell.to_owned()));
        self
    }

    /// Lets `name` log in with a password, whose hash is as crypt(5) has it.
    pub fn password(name: &str, hash: &str) -> Variant {
        Variant {
            password: Some((name.to_owned(), hash.to_owned())),
            ..Variant::default()
        }
        .line("PasswordAuthentication yes")
    }

    /// Asks the client every 2 s whether it lives and hangs up after 3 misses.
    pub fn client_alive() -> Variant {
        Variant::default()
            .line("ClientAliveInterval 2")
            .line("ClientAliveCountMax 3")
    }

    /// Its host key has a certificate of a host CA of its own ([`Sshd::host_ca_pub`]).
    pub fn host_certificate() -> Variant {
        Variant {
            host_certificate: true,
            ..Variant::default()
        }
    }

    /// A further line of its configuration.
    pub fn line(mut self, line: &str) -> Variant {
        self.lines.push(line.to_owned());
        self
    }
}

/// A running sshd. It and all it started are killed when it is dropped.
pub struct Sshd {
    dir: TempDir,
    child: Child,
    addr: SocketAddr,
}

impl Sshd {
    #[track_caller]
    pub fn start(bastion: &Bastion, variant: Variant) -> Sshd {
        Sshd::trusting(&bastion.state().join("keys/target_ca.pub"), variant)
    }

    /// The same with any user CA.
    #[track_caller]
    pub fn trusting(ca: &Path, variant: Variant) -> Sshd {
        std::fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::Builder::new().prefix("pc-sshd.").tempdir().unwrap();
        keygen(&dir.path().join("host_key"));
        if variant.host_certificate {
            keygen(&dir.path().join("host_ca"));
            let mut sign = Command::new("ssh-keygen");
            sign.args(["-q", "-s"])
                .arg(dir.path().join("host_ca"))
                .args(["-I", "target", "-h", "-n", "127.0.0.1,localhost", "-V", "-5m:+1h"])
                .arg(dir.path().join("host_key.pub"));
            run(&mut sign, secs(20)).ok();
        }
        for _ in 0..PORT_TRIES {
            if let Some((child, addr)) = listen(dir.path(), ca, &variant) {
                return Sshd { dir, child, addr };
            }
        }
        panic!("no port for sshd:\n{}", log(dir.path()));
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn host_key_pub(&self) -> PathBuf {
        self.dir.path().join("host_key.pub")
    }

    pub fn host_ca_pub(&self) -> PathBuf {
        self.dir.path().join("host_ca.pub")
    }

    pub fn log(&self) -> String {
        log(self.dir.path())
    }

    /// A folder for files that sessions make at the target.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Processes of sessions at this target.
    pub fn sessions(&self) -> Vec<u32> {
        super::process::descendants(self.pid())
    }
}

fn keygen(path: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "host", "-f"])
        .arg(path);
    run(&mut keygen, secs(20)).ok();
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("sshd.log")).unwrap_or_default()
}

fn listen(dir: &Path, ca: &Path, variant: &Variant) -> Option<(Child, SocketAddr)> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let mut config = format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nTrustedUserCAKeys {}\n",
        addr.port(),
        dir.join("host_key").display(),
        ca.display()
    );
    if variant.host_certificate {
        config.push_str(&format!(
            "HostCertificate {}\n",
            dir.join("host_key-cert.pub").display()
        ));
    }
    // The first value of a keyword counts.
    for line in &variant.lines {
        config.push_str(&format!("{line}\n"));
    }
    config.push_str(
        "AuthorizedKeysFile none\nPermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nPidFile none\nMaxStartups 1000\n\
         MaxSessions 1000\nPermitUserEnvironment no\nAcceptEnv LANG LC_* SECRET_* TERM COLORTERM\nStrictModes no\n\
         PrintMotd no\nPrintLastLog no\nLogLevel VERBOSE\n",
    );
    let path = dir.join("sshd_config");
    std::fs::write(&path, config).unwrap();
    let logged = dir.join("sshd.log");
    std::fs::remove_file(&logged).ok();
    let mut command = match (&variant.account, &variant.password) {
        (Some((name, shell)), _) => {
            let mut command = with_account(name, shell, &dir.join("passwd"));
            command.arg("/usr/sbin/sshd");
            command
        }
        (None, Some((name, hash))) => {
            let mut command = with_password(name, hash, &dir.join("shadow"));
            command.arg("/usr/sbin/sshd");
            command
        }
        (None, None) => Command::new("/usr/sbin/sshd"),
    };
    let mut child = command
        .arg("-D")
        .arg("-f")
        .arg(&path)
        .arg("-E")
        .arg(&logged)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if log(dir).contains("Server listening on 127.0.0.1") {
            return Some((child, addr));
        }
        assert!(began.elapsed() < READY, "sshd does not listen:\n{}", log(dir));
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        kill_tree(self.child.id());
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(20);
            eprintln!("--- the target's log, last lines ---\n{}", lines[tail..].join("\n"));
        }
    }
}
