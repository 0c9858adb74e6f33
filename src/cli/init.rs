//! `init`: makes a state folder, all of it new.

use std::fs::{DirBuilder, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use clap::Args;
use russh::keys::ssh_key::PublicKey;
use serde::Serialize;

use super::Common;
use super::exit::{CliError, Exit};
use crate::api::wire::SCHEMA;
use crate::clock::Clock;
use crate::config::Config;
use crate::durable;
use crate::issue::keys::{self, CaHome, KeyName};
use crate::kernel::grant::WallMs;
use crate::kernel::id::NodeName;
use crate::layout::Layout;
use crate::store::sqlite::SqliteStore;

/// `init`'s arguments.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// This server's name; default: the machine's
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Address and port of the SSH listener; default: port 2222 on every address
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
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
}

pub async fn run(common: &Common, args: &InitArgs) -> Result<Exit, CliError> {
    let Some(state) = common.state() else {
        return Err(CliError::usage("where to was not said").hint("portcullis init --state DIR"));
    };
    let state = std::path::absolute(&state)
        .map_err(|error| CliError::failed(format!("{}: {error}", state.display())))?;
    let node = match &args.node {
        Some(node) => node.clone(),
        None => node_name(&rustix::system::uname().nodename().to_string_lossy())
            .parse()
            .map_err(|error| CliError::failed(format!("{error}")).hint("name it with --node"))?,
    };
    let listen = args.listen.unwrap_or_else(listen_default);
    let layout = Layout::new(&state);
    create(&layout, &node, listen, Clock::system().now().wall_ms).await?;

    let public = |name| -> Result<String, CliError> {
        line(
            &keys::read_public(&layout.keys(), name)
                .map_err(|error| CliError::failed(error.to_string()))?,
        )
    };
    let made = Made {
        schema: SCHEMA,
        node,
        state: state.display().to_string(),
        config: layout.config().display().to_string(),
        trust: layout.trust().display().to_string(),
        admission_ca: public(KeyName::AdmissionCa)?,
        target_ca: public(KeyName::TargetCa)?,
        host_ca: public(KeyName::HostCa)?,
    };
    let output = common.output();
    output.data(&made, || format!("{}\n", made.config))?;
    output.say(format!(
        "Made the state folder {} for node {}.\n\
         Targets trust this authority (TrustedUserCAKeys in their sshd_config):\n  {}\n\
         Clients trust this one (known_hosts):\n  @cert-authority * {}\n\
         Next: portcullis serve --config {}",
        made.state, made.node, made.target_ca, made.host_ca, made.config
    ));
    Ok(Exit::Ok)
}

/// Makes everything. The configuration comes last: a folder without one is an
/// `init` that did not finish.
pub async fn create(
    layout: &Layout,
    node: &NodeName,
    listen: SocketAddr,
    now: WallMs,
) -> Result<(), CliError> {
    empty(layout)?;
    let failed = |error: &dyn std::fmt::Display| CliError::failed(error.to_string());
    for folder in layout.folders() {
        // The keys folder is made whole, or not at all, by its own module.
        if folder != layout.keys() {
            make_folder(&folder)?;
        }
    }
    keys::create(&layout.keys(), CaHome::Files).map_err(|error| failed(&error))?;
    SqliteStore::create(&layout.store()).await?.close().await;
    super::trust::create_ledger(layout, node)?;
    let trust = super::trust::text(layout, node, now)?;
    durable::write_new(&layout.trust(), trust.as_bytes(), 0o644).map_err(|error| failed(&error))?;
    let text = Config::template(&[
        ("node", format!("\"{node}\"")),
        ("ssh.listen", format!("\"{listen}\"")),
    ]);
    durable::write_new(&layout.config(), text.as_bytes(), 0o600).map_err(|error| failed(&error))
}

/// Refuses a folder that holds any part of a state already.
fn empty(layout: &Layout) -> Result<(), CliError> {
    let parts = [
        layout.config(),
        layout.keys(),
        layout.store(),
        layout.trust(),
    ];
    let there = |part: &&std::path::PathBuf| part.symlink_metadata().is_ok();
    let Some(part) = parts.iter().find(there) else {
        return Ok(());
    };
    let error = CliError::failed(format!(
        "{} is there already: nothing was changed",
        part.display()
    ));
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
    let fail = |error: std::io::Error| {
        CliError::failed(format!("cannot make {}: {error}", path.display()))
    };
    if path.is_dir() {
        // An empty folder that an administrator or a package made for us.
        return std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(fail);
    }
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(fail)
}

/// The machine's name as a node's: its first label, without what a name may not hold.
fn node_name(host: &str) -> String {
    let label = host.split('.').next().unwrap_or("");
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let name: String = label
        .chars()
        .filter(plain)
        .skip_while(|c| *c == '-')
        .take(64)
        .collect();
    if name.is_empty() {
        "portcullis".to_owned()
    } else {
        name
    }
}

/// Port 2222 everywhere, by IPv6 where the machine has it (which takes IPv4 too).
fn listen_default() -> SocketAddr {
    let any: SocketAddr = ([0u16; 8], 0).into();
    match TcpListener::bind(any) {
        Ok(_) => ([0u16; 8], 2222).into(),
        Err(_) => ([0u8; 4], 2222).into(),
    }
}

/// One key as a line, without its comment.
fn line(key: &PublicKey) -> Result<String, CliError> {
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .map(|line| line.trim_end().to_owned())
        .map_err(|error| CliError::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let node: NodeName = "gate1".parse().unwrap();
        let listen = "127.0.0.1:2222".parse().unwrap();
        create(&layout, &node, listen, 1).await.unwrap();
        let config = Config::load(&layout.config()).unwrap();
        assert_eq!((config.node, config.ssh.listen), (node.clone(), listen));
        assert_eq!(config.layout, layout);
        for folder in layout.folders() {
            let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
        let again = create(&layout, &node, listen, 1).await.unwrap_err();
        assert!(
            again.hint.unwrap().contains("serve --config"),
            "{}",
            again.message
        );
        std::fs::remove_file(layout.config()).unwrap();
        let half = create(&layout, &node, listen, 1).await.unwrap_err();
        assert!(half.hint.unwrap().contains("did not finish"));
    }
}
