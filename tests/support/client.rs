//! The stock OpenSSH client programs with a pass.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pass::Pass;

/// How the configuration calls the bastion.
pub const GATE: &str = "gate";

/// ssh, sftp and scp under one configuration file; `gate` is the bastion.
#[derive(Clone, Debug)]
pub struct Client {
    config: PathBuf,
}

impl Client {
    pub fn write(config: PathBuf, pass: &Pass, addr: SocketAddr, known_hosts: &Path) -> Client {
        let text = format!(
            "Host {GATE}\n HostName {}\n Port {}\n User {}\n IdentityFile {}\n CertificateFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n \
             StrictHostKeyChecking yes\n BatchMode yes\n ConnectTimeout 20\n ServerAliveInterval 0\n",
            addr.ip(),
            addr.port(),
            pass.destination,
            pass.key.display(),
            pass.certificate.display(),
            known_hosts.display(),
        );
        std::fs::write(&config, text).unwrap();
        Client { config }
    }

    /// The same programs through `-J`: `gate` is the target, and the bastion is
    /// `outer`, under a user name that says nothing.
    pub fn write_jump(config: PathBuf, pass: &Pass, addr: SocketAddr, known_hosts: &Path) -> Client {
        let (login, target) = pass.destination.split_once('@').expect("login@target");
        let text = format!(
            "Host outer\n HostName {}\n Port {}\n User somebody\n\
             Host {GATE}\n HostName {target}\n User {login}\n ProxyJump outer\n\
             Host *\n IdentityFile {}\n CertificateFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n \
             StrictHostKeyChecking yes\n BatchMode yes\n ConnectTimeout 20\n ServerAliveInterval 0\n",
            addr.ip(),
            addr.port(),
            pass.key.display(),
            pass.certificate.display(),
            known_hosts.display(),
        );
        std::fs::write(&config, text).unwrap();
        Client { config }
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Appends a line to the configuration.
    pub fn option(self, line: &str) -> Client {
        let mut text = std::fs::read_to_string(&self.config).unwrap();
        text.push_str(&format!(" {line}\n"));
        std::fs::write(&self.config, text).unwrap();
        self
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-F").arg(&self.config);
        command.env_remove("SSH_AUTH_SOCK").env_remove("DISPLAY");
        command
    }

    /// `ssh` up to its options; add more, then `gate` and a command.
    pub fn ssh(&self) -> Command {
        self.program("ssh")
    }

    /// `ssh gate COMMAND`.
    pub fn exec(&self, command: &str) -> Command {
        let mut ssh = self.ssh();
        ssh.args([GATE, command]);
        ssh
    }

    /// `ssh -T gate`: a shell over pipes.
    pub fn shell(&self) -> Command {
        let mut ssh = self.ssh();
        ssh.args(["-T", GATE]);
        ssh
    }

    pub fn sftp(&self) -> Command {
        self.program("sftp")
    }

    pub fn scp(&self) -> Command {
        self.program("scp")
    }

    /// Opens a ControlMaster at `socket`; the further programs of the answered
    /// client go through it. Keep the command running.
    pub fn master(&self, socket: &Path) -> Command {
        let mut ssh = self.ssh();
        ssh.args(["-M", "-N", "-S"]).arg(socket).arg(GATE);
        ssh
    }

    /// `ssh` through a master, and no other way if that refuses.
    pub fn through(&self, socket: &Path) -> Command {
        let mut ssh = self.ssh();
        ssh.args(["-o", "ProxyCommand=false", "-S"]).arg(socket).arg(GATE);
        ssh
    }
}
