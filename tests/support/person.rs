//! A person at a machine of their own: a home, a key, a real ssh-agent, and
//! the command line as it speaks to a server over TLS.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::bastion::{Bastion, portcullis};
use super::process::{Done, run};
use super::wait::{secs, wait_for};

/// How long one of their commands may take.
const COMMAND: Duration = secs(60);

pub struct Person {
    pub name: String,
    home: TempDir,
    agent: Child,
    socket: PathBuf,
}

impl Person {
    /// Somebody with a fresh key in an agent, not known to anybody yet.
    #[track_caller]
    pub fn new(name: &str) -> Person {
        let home = tempfile::Builder::new().prefix("pc-home.").tempdir().unwrap();
        let socket = home.path().join("agent.sock");
        let mut agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(agent.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let person = Person {
            name: name.to_owned(),
            home,
            agent,
            socket,
        };
        let key = person.key();
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&key);
        run(&mut keygen, COMMAND).ok();
        let mut add = Command::new("ssh-add");
        run(add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &person.socket), COMMAND).ok();
        // From here on the agent alone has it.
        std::fs::remove_file(&key).unwrap();
        person
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn key(&self) -> PathBuf {
        self.home().join("id_enrolled")
    }

    /// The public half of the key that proves who this is.
    pub fn public_key(&self) -> PathBuf {
        self.home().join("id_enrolled.pub")
    }

    /// In the inventory, with this key; `more` are further arguments.
    #[track_caller]
    pub fn enrol(self, bastion: &Bastion, more: &[&str]) -> Person {
        let key = self.public_key();
        let mut args = vec!["identity", "add", &self.name, "--key", key.to_str().unwrap()];
        args.extend(more);
        bastion.admin(&args).ok();
        self
    }

    /// Logged in over TLS, the server's key pinned.
    #[track_caller]
    pub fn log_in(self, bastion: &Bastion) -> Person {
        let (url, pin) = (bastion.https(), bastion.pin());
        self.run(&["login", "--server", &url, "--identity", &self.name, "--pin", &pin])
            .ok();
        self
    }

    /// One of their commands, in their home.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(portcullis());
        command.args(args).env("NO_COLOR", "1");
        self.surround(&mut command);
        command
    }

    /// Any program, in their home.
    pub fn surround(&self, command: &mut Command) {
        command
            .env("HOME", self.home())
            .env("SSH_AUTH_SOCK", &self.socket)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("PORTCULLIS_STATE")
            .env_remove("PORTCULLIS_CONFIG");
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Done {
        run(&mut self.command(args), COMMAND)
    }

    /// One that must succeed; its JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let done = run(self.command(args).arg("--json"), COMMAND).ok();
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.out()))
    }

    /// Asks and does not wait; the request's id.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let mut all = vec!["request", "--no-wait", "--json"];
        all.extend(args);
        let done = self.run(&all);
        assert_eq!(done.code(), 4, "{}{}", done.out(), done.err());
        let told: Value = serde_json::from_slice(&done.stdout).unwrap();
        told["request"]["id"].as_str().unwrap().to_owned()
    }

    /// The stock ssh with the configuration that `ssh-config --install` wrote.
    #[track_caller]
    pub fn ssh(&self, args: &[&str]) -> Done {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.home().join(".ssh/portcullis.conf"));
        ssh.args(["-o", "BatchMode=yes"]).args(args);
        self.surround(&mut ssh);
        run(&mut ssh, COMMAND)
    }

    /// What the agent holds, one line each.
    #[track_caller]
    pub fn agent_lists(&self) -> String {
        let mut list = Command::new("ssh-add");
        self.surround(list.arg("-l"));
        run(&mut list, COMMAND).out()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.agent.kill().ok();
        self.agent.wait().ok();
    }
}

impl Bastion {
    /// Where the API is over TLS.
    #[track_caller]
    pub fn https(&self) -> String {
        let line = wait_for("the ready line", secs(20), || {
            let out = self.ready_line()?;
            out.split_once(" https=").map(|(_, addr)| addr.trim().to_owned())
        });
        format!("https://{line}")
    }

    /// The fingerprint that clients pin, as the server tells it.
    #[track_caller]
    pub fn pin(&self) -> String {
        let log = self.log();
        let at = log.rfind("sha256:").expect("the server tells its pin");
        log[at..at + "sha256:".len() + 64].to_owned()
    }
}
