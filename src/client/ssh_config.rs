//! What makes plain `ssh db1` go through the gate: the text of our own ssh
//! configuration, and of our own known_hosts (ssh_config(5), sshd(8)).
//!
//! Each destination has two blocks. The first asks for a certificate (`Match
//! exec`) and names it if there is one; the second always leads to the gate, so
//! that a person without a certificate is refused there, and not let past it.
//!
//! Directly, the user name says where to (`root@db1@gate`): one connection. As
//! a jump the target keeps its own name, its own user name and a host
//! certificate of its own, at the price of a second connection around it. What
//! a person types is the same.

use std::path::Path;

use super::config::Places;
use crate::api::wire::access::ServerView;
use crate::kernel::id::{Destination, Login, TargetName};

/// Why there is no such text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SshConfigError {
    #[error(
        "ssh's configuration cannot name {0}: it holds a quote, a backslash, a dollar sign or a control character; move it"
    )]
    Path(String),
    #[error("the server told something that does not belong into ssh's configuration: {0:?}")]
    Server(String),
    #[error("the server told no name of its gate: set `ssh_hosts` in its configuration")]
    NoHost,
}

/// One target and the accounts there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reachable {
    pub target: TargetName,
    /// The first one is taken by `ssh TARGET` of somebody whose own account there is none.
    pub logins: Vec<Login>,
}

/// How `ssh TARGET` goes through the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The gate is the host, and the user name names the target.
    Direct,
    /// The target is the host, and the gate is jumped through (ssh_config(5), `ProxyJump`).
    Jump,
}

/// The user name of an outer connection: any without a target in it.
const OUTER_USER: &str = "jump";

/// Everything that the text is made of.
pub struct Parts<'a> {
    pub way: Way,
    pub gate: &'a ServerView,
    pub places: &'a Places,
    /// This program.
    pub program: &'a Path,
    /// The person's account on this machine, which ssh uses when told no other.
    pub account: &'a str,
    pub reachable: &'a [Reachable],
}

/// The text of `~/.ssh/portcullis.conf`.
///
/// # Errors
/// A path or a name that would not stand in it as it is.
pub fn text(parts: &Parts<'_>) -> Result<String, SshConfigError> {
    let gate = Gate::of(parts)?;
    let mut out = String::from("# Written by `portcullis ssh-config --install`; changes here are lost.\n");
    for reachable in parts.reachable {
        let target = reachable.target.as_str();
        for login in &reachable.logins {
            let destination = Destination {
                login: login.clone(),
                target: reachable.target.clone(),
            };
            let user = login.as_str();
            out.push_str(&gate.way(parts.way, &format!("originalhost {target} user {user}"), &destination)?);
            if parts.way == Way::Jump {
                out.push_str(&gate.outer(&destination)?);
            }
            let hosts = parts.gate.ssh_hosts.join(",");
            let typed = format!("originalhost {hosts} user {destination}");
            out.push_str(&gate.way(Way::Direct, &typed, &destination)?);
        }
        let own = reachable.logins.iter().any(|login| login.as_str() == parts.account);
        if let (false, Some(first), Ok(account)) = (own, reachable.logins.first(), parts.account.parse::<Login>()) {
            let destination = Destination {
                login: first.clone(),
                target: reachable.target.clone(),
            };
            let criteria = format!("originalhost {target} user {account}");
            out.push_str(&gate.way(parts.way, &criteria, &destination)?);
        }
    }
    Ok(out)
}

/// The text of our known_hosts: the gate's authorities. For any name, since the
/// server inside a jump shows a certificate for its target's; only what this
/// configuration leads through the gate reads the file, and a certificate
/// counts for the names in it alone.
///
/// # Errors
/// A line of the server that is none.
pub fn known_hosts(gate: &ServerView) -> Result<String, SshConfigError> {
    let mut out = String::new();
    for line in &gate.known_hosts {
        let mut words = line.split(' ');
        let key = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("@cert-authority"), Some(_), Some(kind), Some(key)) => format!("{kind} {key}"),
            _ => return Err(SshConfigError::Server(line.clone())),
        };
        // Read and written again: nothing but a key stands there.
        let key = russh::keys::ssh_key::PublicKey::from_openssh(&key)
            .and_then(|key| key.to_openssh())
            .map_err(|_| SshConfigError::Server(line.clone()))?;
        out.push_str(&format!("@cert-authority * {}\n", key.trim_end()));
    }
    Ok(out)
}

/// The name of the gate that is used.
///
/// # Errors
/// None, or one that is no host's.
pub fn host(gate: &ServerView) -> Result<&str, SshConfigError> {
    for name in &gate.ssh_hosts {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(SshConfigError::Server(name.clone()));
        }
    }
    gate.ssh_hosts.first().map(String::as_str).ok_or(SshConfigError::NoHost)
}

struct Gate<'a> {
    places: &'a Places,
    host: &'a str,
    port: u16,
    program: String,
    known_hosts: String,
}

impl<'a> Gate<'a> {
    fn of(parts: &Parts<'a>) -> Result<Gate<'a>, SshConfigError> {
        let program = plain(parts.program)?;
        Ok(Gate {
            places: parts.places,
            host: host(parts.gate)?,
            port: parts.gate.ssh_port,
            program,
            known_hosts: plain(&parts.places.known_hosts())?,
        })
    }

    /// Both blocks of a destination.
    fn way(&self, way: Way, criteria: &str, destination: &Destination) -> Result<String, SshConfigError> {
        let program = &self.program;
        let proof = self.proof(destination)?;
        // By destination: ssh's own tokens would give two targets one socket.
        let control = plain(&self.places.control().join(destination.to_string()))?;
        let leads = match way {
            Way::Direct => self.listener(&destination.to_string()),
            Way::Jump => format!(
                "\x20 HostName {target}\n\
                 \x20 Port 22\n\
                 \x20 User {login}\n\
                 \x20 HostKeyAlias {target}\n\
                 \x20 ProxyJump {outer}\n",
                target = destination.target,
                login = destination.login,
                outer = outer_name(destination),
            ),
        };
        let strict = self.strict();
        Ok(format!(
            "\nMatch {criteria} exec \"'{program}' fetch {destination}\"\n\
             {proof}\
             Match {criteria}\n\
             {leads}\
             {strict}\
             \x20 ControlPath \"{control}\"\n"
        ))
    }

    /// The outer connection of a jump there. Under a name of its own, since the
    /// certificate that it shows is that destination's, and an agent may hold
    /// those of many.
    fn outer(&self, destination: &Destination) -> Result<String, SshConfigError> {
        let (name, proof) = (outer_name(destination), self.proof(destination)?);
        let (listener, strict) = (self.listener(OUTER_USER), self.strict());
        Ok(format!(
            "\nMatch originalhost {name}\n{listener}{proof}{strict}\x20 ControlPath none\n"
        ))
    }

    fn listener(&self, user: &str) -> String {
        let Gate { host, port, .. } = self;
        format!(
            "\x20 HostName {host}\n\
             \x20 Port {port}\n\
             \x20 User {user}\n\
             \x20 HostKeyAlias {host}\n"
        )
    }

    fn proof(&self, destination: &Destination) -> Result<String, SshConfigError> {
        let certificate = plain(&self.places.certificate(destination))?;
        let public_key = plain(&self.places.public_key(destination))?;
        Ok(format!(
            "\x20 CertificateFile \"{certificate}\"\n\
             \x20 IdentityFile \"{public_key}\"\n"
        ))
    }

    fn strict(&self) -> String {
        format!(
            "\x20 UserKnownHostsFile \"{}\"\n\
             \x20 StrictHostKeyChecking yes\n\
             \x20 IdentitiesOnly yes\n",
            self.known_hosts
        )
    }
}

/// How the configuration calls the outer connection of a jump there.
fn outer_name(destination: &Destination) -> String {
    format!("portcullis.{}.{}", destination.login, destination.target)
}

/// A path as it stands between double quotes, tokens and variables disarmed.
fn plain(path: &Path) -> Result<String, SshConfigError> {
    let refused = || SshConfigError::Path(path.display().to_string());
    let text = path.to_str().ok_or_else(refused)?;
    let odd = |c: char| c.is_control() || "\"'\\$`".contains(c);
    match text.chars().any(odd) {
        true => Err(refused()),
        false => Ok(text.replace('%', "%%")),
    }
}

#[cfg(test)]
#[path = "ssh_config_tests.rs"]
mod tests;
