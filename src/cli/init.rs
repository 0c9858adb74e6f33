//! `init`: makes a state folder, all of it new.

use std::fs::{DirBuilder, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::Common;
use super::exit::{CliError, Exit};
use super::keys::line;
use crate::api::wire::SCHEMA;
use crate::clock::Clock;
use crate::config::{self, Config, ledger_origin};
use crate::durable;
use crate::issue::init::make_identity;
use crate::issue::keys::{self, KeyName};
use crate::issue::trust;
use crate::kernel::id::NodeName;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::policies;
use crate::store::{self, Place};

/// `init`'s arguments.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// This server's name; default: the machine's
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Address and port of the SSH listener; default: port 2222 on every address
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Address and port of the API over TLS, for everybody who is not on this machine;
    /// default: none, this machine's own socket only
    #[arg(long, value_name = "ADDR:PORT")]
    api_listen: Option<SocketAddr>,
    /// A name or address that clients type for this server; may be given several times.
    /// Default: the node's name, the machine's and the listener's address
    #[arg(long = "host-name", value_name = "NAME")]
    host_names: Vec<String>,
    /// Keep the state in PostgreSQL: a file, mode 600, with a postgres:// URL
    #[arg(long, value_name = "FILE")]
    store_url_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    schema: u32,
    node: NodeName,
    state: String,
    config: String,
    trust: String,
    admission_ca: String,
    target_ca: String,
    host_ca: String,
    /// The line for a client's known_hosts.
    known_hosts: String,
}

pub async fn run(common: &Common, args: &InitArgs) -> Result<Exit, CliError> {
    let Some(state) = common.state() else {
        return Err(CliError::usage("where to was not said").hint("portcullis init --state DIR"));
    };
    let state =
        std::path::absolute(&state).map_err(|error| CliError::failed(format!("{}: {error}", state.display())))?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let node: NodeName = match &args.node {
        Some(node) => node.clone(),
        None => node_name(&machine)
            .parse()
            .map_err(|error| CliError::failed(format!("{error}")).hint("name it with --node"))?,
    };
    let listen = args.listen.unwrap_or_else(listen_default);
    let host_names = match args.host_names.is_empty() {
        true => host_names(&node, &machine, listen),
        false => args.host_names.clone(),
    };
    if let Some(bad) = host_names.iter().find(|name| !config::host_name_ok(name)) {
        return Err(CliError::usage(format!("`{bad}` is not a host name or an address")));
    }
    let store_url_file = args.store_url_file.as_deref().map(std::path::absolute).transpose();
    let store_url_file = store_url_file.map_err(|error| CliError::failed(error.to_string()))?;
    let layout = Layout::new(&state);
    let new = New {
        node,
        listen,
        api_listen: args.api_listen,
        host_names,
        store_url_file,
    };
    create(&layout, &new, &Clock::system()).await?;

    let public = |name| keys::read_public(&layout.keys(), name).map_err(|error| CliError::failed(error.to_string()));
    let host_ca = public(KeyName::HostCa)?;
    let known_hosts = trust::known_hosts_line(&pattern(&new.host_names, listen.port()), &host_ca)
        .map_err(|error| CliError::failed(error.to_string()))?;
    let made = Made {
        schema: SCHEMA,
        node: new.node,
        state: state.display().to_string(),
        config: layout.config().display().to_string(),
        trust: layout.trust().display().to_string(),
        admission_ca: line(&public(KeyName::AdmissionCa)?)?,
        target_ca: line(&public(KeyName::TargetCa)?)?,
        host_ca: line(&host_ca)?,
        known_hosts,
    };
    let output = common.output();
    output.data(&made, || format!("{}\n", made.config))?;
    output.say(format!(
        "Made the state folder {} for node {}.\n\
         Targets trust this authority (TrustedUserCAKeys in their sshd_config):\n  {}\n\
         Clients trust this one (known_hosts):\n  {}\n\
         Next: portcullis serve --config {}",
        made.state, made.node, made.target_ca, made.known_hosts, made.config
    ));
    Ok(Exit::Ok)
}

/// What a new state folder is for.
pub struct New {
    pub node: NodeName,
    pub listen: SocketAddr,
    /// Where the API is over TLS, if it is.
    pub api_listen: Option<SocketAddr>,
    /// Names that clients reach it by: what its host certificate is good for.
    pub host_names: Vec<String>,
    /// Names the PostgreSQL database to use; none: the one of the environment,
    /// or an SQLite file.
    pub store_url_file: Option<PathBuf>,
}

/// Makes everything. The configuration comes last: a folder without one is an
/// `init` that did not finish.
///
/// # Errors
/// Something is there already, or cannot be made.
pub async fn create(layout: &Layout, new: &New, clock: &Clock) -> Result<(), CliError> {
    empty(layout)?;
    let place = match &new.store_url_file {
        Some(file) => Place::UrlFile(file.clone()),
        None => Place::of_environment().unwrap_or_else(|| Place::File(layout.store())),
    };
    place.check()?;
    let failed = |error: &dyn std::fmt::Display| CliError::failed(error.to_string());
    for folder in layout.folders() {
        // The keys folder is made whole, or not at all, by its own module.
        if folder != layout.keys() {
            make_folder(&folder)?;
        }
    }
    let origin = ledger_origin(&new.node);
    make_identity(layout.root(), &new.node, &origin, new.host_names.clone(), clock)
        .await
        .map_err(|error| failed(&error))?;
    Ledger::create(&layout.ledger(), &origin).map_err(|error| failed(&error))?;
    store::create(&place).await?;
    make_folder(&layout.policies())?;
    for (name, text) in policies::default_files() {
        let file = layout.policies().join(name);
        durable::write_new(&file, text.as_bytes(), 0o600).map_err(|error| failed(&error))?;
    }
    let names: Vec<String> = new.host_names.iter().map(|name| format!("\"{name}\"")).collect();
    let mut set = vec![
        ("node", format!("\"{}\"", new.node)),
        ("ssh.listen", format!("\"{}\"", new.listen)),
        ("ssh.host_names", format!("[{}]", names.join(", "))),
    ];
    if let Some(at) = new.api_listen {
        set.push(("api.listen", format!("\"{at}\"")));
    }
    if let Some(file) = &new.store_url_file {
        let file = toml::Value::String(file.display().to_string());
        set.push(("store.url_file", file.to_string()));
    }
    let text = Config::template(&set);
    durable::write_new(&layout.config(), text.as_bytes(), 0o600).map_err(|error| failed(&error))
}

/// Names that a client may type for this server: the node's, the machine's
/// and, if it listens at one address only, that one.
fn host_names(node: &NodeName, machine: &str, listen: SocketAddr) -> Vec<String> {
    let mut names = vec![node.to_string()];
    if config::host_name_ok(machine) {
        names.push(machine.to_owned());
    }
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_canonical().to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The names as known_hosts has them for this port.
pub(super) fn pattern(names: &[String], port: u16) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| {
            if port == 22 {
                name.clone()
            } else {
                format!("[{name}]:{port}")
            }
        })
        .collect();
    names.join(",")
}

/// Refuses a folder that holds any part of a state already.
fn empty(layout: &Layout) -> Result<(), CliError> {
    let parts = [layout.config(), layout.keys(), layout.store(), layout.trust()];
    let there = |part: &&std::path::PathBuf| part.symlink_metadata().is_ok();
    let Some(part) = parts.iter().find(there) else {
        return Ok(());
    };
    let error = CliError::failed(format!("{} is there already: nothing was changed", part.display()));
    Err(if layout.config().exists() {
        error.hint(format!(
            "it can be run as it is: portcullis serve --config {}",
            layout.config().display()
        ))
    } else {
        error.hint(format!(
            "an earlier init did not finish: remove {} and run init again",
            layout.root().display()
        ))
    })
}

fn make_folder(path: &Path) -> Result<(), CliError> {
    let fail = |error: std::io::Error| CliError::failed(format!("cannot make {}: {error}", path.display()));
    if path.is_dir() {
        // An empty folder that an administrator or a package made for us.
        return std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(fail);
    }
    DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(fail)
}

/// The machine's name as a node's: its first label, without what a name may not hold.
fn node_name(host: &str) -> String {
    let label = host.split('.').next().unwrap_or("");
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = label.chars().filter(plain).skip_while(|c| *c == '-').take(64).collect();
    if name.is_empty() { "portcullis".to_owned() } else { name }
}

/// Port 2222 everywhere, by IPv6 where the machine has it (which takes IPv4 too).
fn listen_default() -> SocketAddr {
    let any: SocketAddr = ([0u16; 8], 0).into();
    match TcpListener::bind(any) {
        Ok(_) => ([0u16; 8], 2222).into(),
        Err(_) => ([0u8; 4], 2222).into(),
    }
}

#[cfg(test)]
pub fn new_for_tests() -> New {
    New {
        node: "gate1".parse().unwrap(),
        listen: "127.0.0.1:2222".parse().unwrap(),
        api_listen: None,
        host_names: vec!["gate1".to_owned(), "127.0.0.1".to_owned()],
        store_url_file: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_what_clients_type() {
        let names = |machine, listen: &str| host_names(&"gate1".parse().unwrap(), machine, listen.parse().unwrap());
        assert_eq!(names("gate1.example.org", "[::]:22"), ["gate1", "gate1.example.org"]);
        assert_eq!(names("gate1", "127.0.0.1:22"), ["gate1", "127.0.0.1"]);
        assert_eq!(names("a b", "[::1]:22"), ["gate1", "::1"]);
        let names = ["a".to_owned(), "::1".to_owned()];
        assert_eq!(pattern(&names, 22), "a,::1");
        assert_eq!(pattern(&names, 2222), "[a]:2222,[::1]:2222");
    }

    #[test]
    fn machines_names_become_nodes() {
        for (host, node) in [
            ("gate1.example.org", "gate1"),
            ("_x", "x"),
            ("", "portcullis"),
            ("-", "portcullis"),
            ("--a b", "ab"),
        ] {
            assert_eq!(node_name(host), node, "{host}");
            assert!(node.parse::<NodeName>().is_ok());
        }
    }

    #[tokio::test]
    async fn makes_a_whole_state_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"));
        let new = new_for_tests();
        let clock = Clock::system();
        let create = || create(&layout, &new, &clock);
        create().await.unwrap();
        let config = Config::load(&layout.config()).unwrap();
        assert_eq!((config.node, config.ssh.listen), (new.node.clone(), new.listen));
        assert_eq!(config.ssh.host_names, new.host_names);
        assert_eq!(config.layout, layout);
        for folder in layout.folders() {
            let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
        let written = policies::load(&layout.policies(), true).unwrap().digest();
        let builtin = policies::load(&dir.path().join("none"), false).unwrap().digest();
        assert_eq!(written, builtin, "a folder without policies and a new one decide alike");
        let again = create().await.unwrap_err();
        assert!(again.hint.unwrap().contains("serve --config"), "{}", again.message);
        std::fs::remove_file(layout.config()).unwrap();
        let half = create().await.unwrap_err();
        assert!(half.hint.unwrap().contains("did not finish"));
    }
}
