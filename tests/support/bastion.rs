//! A real `portcullis serve` with its own state folder.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::fault::Tmpfs;
use super::pass::{Pass, PassBuilder};
use super::process::{self, Done, kill_tree, run, with_account};
use super::recording::Record;
use super::sshd::Sshd;
use super::wait::{secs, wait_for};

/// How long the server may take until it admits.
const READY: Duration = secs(20);
/// How long a command of an administrator may take.
pub(super) const ADMIN: Duration = secs(30);

/// The program under test: the one just built, or the one `PORTCULLIS_BIN` names.
pub fn portcullis() -> PathBuf {
    let named = std::env::var_os("PORTCULLIS_BIN");
    named.map_or_else(|| env!("CARGO_BIN_EXE_portcullis").into(), PathBuf::from)
}

/// What a bastion is started with.
#[derive(Clone, Default)]
pub struct Setup {
    config: Vec<(String, String)>,
    env: Vec<(String, String)>,
    /// An account and its shell, as the server's own /etc/passwd has it.
    account: Option<(String, String)>,
    spool_bytes: Option<u64>,
    /// Further arguments of `init`.
    init: Vec<String>,
}

impl Setup {
    pub fn new() -> Setup {
        Setup::default()
            // Many tests are one source; the limit has a test of its own.
            .set("ssh.exempt_networks", "[\"127.0.0.0/8\"]")
            .set("recording.spool_reserve_mib", "16")
            .set("log.filter", "\"info,portcullis=debug\"")
    }

    /// A key such as `ssh.channels_max` with its value as TOML.
    pub fn set(mut self, key: &str, value: &str) -> Setup {
        self.config.retain(|(known, _)| known != key);
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A further argument of `init`.
    pub fn init(mut self, arg: &str) -> Setup {
        self.init.push(arg.to_owned());
        self
    }

    /// A variable in the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives `name` another login shell, in the server's eyes only: system
    /// accounts have none that works.
    pub fn account(mut self, name: &str, shell: &str) -> Setup {
        self.account = Some((name.to_owned(), shell.to_owned()));
        self
    }

    /// Puts the spool on a file system of its own, this large.
    pub fn small_spool(mut self, bytes: u64) -> Setup {
        self.spool_bytes = Some(bytes);
        self
    }

    /// Makes the state folder and starts the server in it.
    #[track_caller]
    pub fn start(self) -> Bastion {
        let mut bastion = self.make();
        bastion.serve();
        bastion
    }

    /// Makes the state folder only.
    #[track_caller]
    pub fn make(self) -> Bastion {
        let dir = tempfile::Builder::new().prefix("pc-gate.").tempdir().unwrap();
        let state = dir.path().join("state");
        let mut init = Command::new(portcullis());
        init.args(["init", "--node", "gate1", "--listen", "127.0.0.1:0"])
            .args(["--host-name", "127.0.0.1", "--host-name", "gate1", "--state"])
            .arg(&state)
            .args(&self.init);
        run(&mut init, ADMIN).ok();
        let path = state.join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, edited(&text, &self.config)).unwrap();
        let mounted = self.spool_bytes.map(|bytes| Tmpfs::mount(&state.join("spool"), bytes));
        let bastion = Bastion {
            spool_disk: mounted,
            dir,
            state,
            setup: self,
            server: None,
            addr: None,
            next: AtomicU32::new(0),
        };
        bastion.write_known_hosts();
        bastion
    }
}

/// The configuration `text` with each of `set` in its section.
fn edited(text: &str, set: &[(String, String)]) -> String {
    let mut section = String::new();
    let mut lines = Vec::new();
    let mut done = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let key = line.trim_start_matches('#').split(" = ").next().unwrap_or("");
        let full = format!("{section}{key}");
        match set.iter().find(|(name, _)| *name == full) {
            Some((name, value)) if line.contains(" = ") => {
                done.push(name);
                lines.push(format!("{key} = {value}"));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    for (name, _) in set {
        assert!(done.contains(&name), "the configuration has no key {name}");
    }
    lines.join("\n") + "\n"
}

/// A state folder and, mostly, the server that runs in it.
pub struct Bastion {
    /// Unmounted before the folder is removed.
    pub spool_disk: Option<Tmpfs>,
    dir: TempDir,
    state: PathBuf,
    setup: Setup,
    server: Option<Server>,
    addr: Option<SocketAddr>,
    next: AtomicU32,
}

struct Server {
    child: Child,
    out: Arc<Mutex<String>>,
}

impl Bastion {
    /// Folder of this test, above the state folder; gone with the bastion.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn spool(&self) -> PathBuf {
        self.state.join("spool")
    }

    pub fn archive(&self) -> PathBuf {
        self.state.join("archive")
    }

    /// Where it listens for SSH.
    pub fn addr(&self) -> SocketAddr {
        self.addr.expect("it has been started")
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").child.id()
    }

    /// What the server has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("serve.err")).unwrap_or_default()
    }

    /// Starts the server and waits until it admits.
    #[track_caller]
    pub fn serve(&mut self) {
        self.launch();
        self.await_ready();
    }

    /// Starts the server and waits for nothing.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir().join("serve.err"))
            .unwrap();
        let mut child = self
            .server_command()
            .arg("serve")
            .arg("--config")
            .arg(self.state.join("config.toml"))
            .env_remove("NOTIFY_SOCKET")
            .envs(self.setup.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = Arc::new(Mutex::new(String::new()));
        let into = out.clone();
        let mut pipe = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(got @ 1..) = pipe.read(&mut buffer) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..got]));
            }
        });
        self.server = Some(Server { child, out });
    }

    /// The program, in a mount namespace of its own if it is to see other accounts.
    fn server_command(&self) -> Command {
        let Some((name, shell)) = &self.setup.account else {
            return Command::new(portcullis());
        };
        let mut command = with_account(name, shell, &self.dir().join("passwd"));
        command.arg(portcullis());
        command
    }

    #[track_caller]
    pub fn await_ready(&mut self) {
        let log = self.dir().join("serve.err");
        let server = self.server.as_mut().expect("it was launched");
        let addr = wait_for("the server's ready line", READY, || {
            if let Some(status) = server.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("the server ended with {status} instead of getting ready:\n{log}");
            }
            let out = server.out.lock().unwrap();
            let line = out.lines().find(|line| line.starts_with("ready ssh="))?;
            line.strip_prefix("ready ssh=")?.split_once(" api=")?.0.parse().ok()
        });
        self.addr = Some(addr);
    }

    /// What it printed once it admitted.
    pub fn ready_line(&self) -> Option<String> {
        let out = self.server.as_ref()?.out.lock().unwrap();
        out.lines()
            .find(|line| line.starts_with("ready ssh="))
            .map(str::to_owned)
    }

    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is gone; what it started is left to itself.
    pub fn sigkill(&mut self) {
        if let Some(mut server) = self.server.take() {
            process::send(server.child.id(), Signal::SIGKILL);
            server.child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for its end; its exit code.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.await_exit(limit)
    }

    /// Waits until the server has ended by itself; its exit code.
    #[track_caller]
    pub fn await_exit(&mut self, limit: Duration) -> Option<i32> {
        let mut server = self.server.take().expect("it runs");
        let status = wait_for("the server's end", limit, || server.child.try_wait().unwrap());
        status.code()
    }

    /// An administrator's command, in this state folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(portcullis());
        command.arg("--state").arg(&self.state).args(args);
        command.env("NO_COLOR", "1");
        command
    }

    /// Runs one, whatever its exit code.
    #[track_caller]
    pub fn admin(&self, args: &[&str]) -> Done {
        run(&mut self.command(args), ADMIN)
    }

    /// Runs one that must succeed; its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let done = run(self.command(args).arg("--json"), ADMIN).ok();
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.out()))
    }

    /// Adds `sshd` under a name, its host key pinned, login `root`.
    #[track_caller]
    pub fn add_host(&self, name: &str, sshd: &Sshd) {
        self.add_host_login(name, sshd, "root");
    }

    /// The same with another login.
    #[track_caller]
    pub fn add_host_login(&self, name: &str, sshd: &Sshd, login: &str) {
        self.add_target(name, sshd.addr(), login, "--host-key", &sshd.host_key_pub());
    }

    /// Adds an SSH target at `addr` whose proof is what `flag` says `proof` is.
    #[track_caller]
    pub fn add_target(&self, name: &str, addr: SocketAddr, login: &str, flag: &str, proof: &Path) {
        let (addr, proof) = (addr.to_string(), proof.to_str().unwrap());
        self.admin(&["target", "add", name, "--addr", &addr, "--login", login, flag, proof])
            .ok();
    }

    /// Adds a local target that runs as `nobody`, login `op`; no command: its shell, `sh`.
    #[track_caller]
    pub fn add_local(&self, name: &str, command: &[&str]) {
        let mut args = vec!["target", "add", name, "--local", "--login", "op", "--run-as", "nobody"];
        if !command.is_empty() {
            args.push("--");
            args.extend(command);
        }
        self.admin(&args).ok();
    }

    /// A pass in the making, for `login@target`.
    pub fn pass(&self, destination: &str) -> PassBuilder<'_> {
        PassBuilder::new(self, destination)
    }

    /// A stock client that comes with `pass`.
    pub fn client(&self, pass: &Pass) -> Client {
        self.client_at(pass, self.addr())
    }

    /// The same through another address, such as a tap's.
    pub fn client_at(&self, pass: &Pass, addr: SocketAddr) -> Client {
        let config = self.fresh("ssh", ".cfg");
        Client::write(config, pass, addr, &self.known_hosts())
    }

    /// A stock client that comes with `pass` through `-J`.
    pub fn jumper(&self, pass: &Pass) -> Client {
        let config = self.fresh("jump", ".cfg");
        Client::write_jump(config, pass, self.addr(), &self.known_hosts())
    }

    /// known_hosts with our host CA.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir().join("known_hosts")
    }

    fn write_known_hosts(&self) {
        let ca = std::fs::read_to_string(self.state.join("keys/host_ca.pub")).unwrap();
        std::fs::write(self.known_hosts(), format!("@cert-authority * {}\n", ca.trim())).unwrap();
    }

    /// A file name nobody else has.
    pub fn fresh(&self, stem: &str, extension: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir().join(format!("{stem}{number}{extension}"))
    }

    /// Sessions as the store has them, newest first.
    #[track_caller]
    pub fn sessions(&self) -> Vec<Value> {
        self.json(&["sessions"])["sessions"].as_array().unwrap().clone()
    }

    /// Sessions that are running.
    #[track_caller]
    pub fn live_sessions(&self) -> Vec<String> {
        let live = |session: &&Value| session["live"] == true;
        self.sessions()
            .iter()
            .filter(live)
            .map(|session| session["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until exactly `count` recordings lie in the archive, proofs beside
    /// them and no spool left, and verifies them all; oldest first.
    #[track_caller]
    pub fn records(&self, count: usize) -> Vec<Record> {
        self.records_within(count, secs(30))
    }

    /// The same without their payload, for large ones.
    #[track_caller]
    pub fn skimmed(&self, count: usize) -> Vec<Record> {
        self.await_records(count, secs(60));
        self.archived()
            .iter()
            .map(|file| Record::skim(file, &self.state))
            .collect()
    }

    #[track_caller]
    pub fn records_within(&self, count: usize, limit: Duration) -> Vec<Record> {
        self.await_records(count, limit);
        let files = self.archived();
        let mut records: Vec<Record> = files.iter().map(|file| Record::load(file, &self.state)).collect();
        records.sort_by_key(|record| record.head.opened_wall_ms);
        records
    }

    #[track_caller]
    pub fn await_records(&self, count: usize, limit: Duration) {
        wait_for(&format!("{count} recordings in the archive"), limit, || {
            let files = self.archived();
            let whole = files.iter().all(|file| proof_of(file).exists());
            (files.len() >= count && whole && self.spooled().is_empty()).then_some(())
        });
        assert_eq!(self.archived().len(), count, "recordings in the archive");
    }

    /// The one recording there is, which must be sealed and balanced.
    #[track_caller]
    pub fn only_record(&self) -> Record {
        let record = self.records(1).remove(0);
        record.assert_sealed();
        record.assert_balanced();
        record
    }

    /// Recordings in the archive.
    pub fn archived(&self) -> Vec<PathBuf> {
        let mut files = listed(&self.archive());
        files.retain(|file| file.extension().is_some_and(|extension| extension == "pcr"));
        files
    }

    /// Spool folders of sessions.
    pub fn spooled(&self) -> Vec<PathBuf> {
        let mut files = listed(&self.spool());
        files.retain(|file| file.is_dir());
        files
    }

    /// `ledger fsck` must be satisfied.
    #[track_caller]
    pub fn assert_ledger_clean(&self) {
        let done = self.admin(&["ledger", "fsck"]);
        assert_eq!(done.code(), 0, "{}{}", done.out(), done.err());
    }
}

/// Name of a recording's proof.
pub fn proof_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".proof");
    name.into()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

impl Drop for Bastion {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_tree(server.child.id());
            server.child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(60);
            eprintln!("--- the server's log, last lines ---\n{}", lines[tail..].join("\n"));
        }
    }
}

/// The wall clock.
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}
