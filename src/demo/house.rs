//! The demo's state folder and inventory: what `init`, `target add`,
//! `identity add` and `grant issue` do, one after the other.

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, bail};
use nix::unistd::User;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey, PublicKey};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::Demo;
use crate::api::wire::{GrantView, IdentityAdded, IdentityRequest, IssueRequest, Issued, TargetAdded};
use crate::cli::init::{self, New};
use crate::cli::output::quoted;
use crate::clock::Clock;
use crate::config::Config;
use crate::durable;
use crate::entropy;
use crate::issue::keys::{self, KeyName};
use crate::issue::trust;
use crate::kernel::grant::Capability;
use crate::kernel::id::{Destination, IdentityName, Login};
use crate::kernel::inventory::{IdentityKind, Reach, Target};
use crate::layout::Layout;

/// The one target.
pub const TARGET: &str = "here";
/// The folder for temporary files where none is named. Not `/tmp`: the fence
/// around the state folder keeps a local target from making files beside it.
const TEMPORARY: &str = "/var/tmp";
/// Room kept for seals: a demo has a handful of sessions.
const RESERVE_BYTES: u64 = 4 << 20;
/// How long running sessions get when the server stops.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Keys of the demo's person; each has one certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    TenMinutes,
    FiveSeconds,
}

impl Key {
    const ALL: [Key; 2] = [Key::TenMinutes, Key::FiveSeconds];

    /// Name of its file, and of its host in the ssh configuration.
    pub fn host(self) -> &'static str {
        match self {
            Key::TenMinutes => "here",
            Key::FiveSeconds => "here-for-5-seconds",
        }
    }
}

/// The state folder.
pub struct House {
    layout: Layout,
    account: User,
    destination: Destination,
    identity: IdentityName,
}

impl House {
    /// Makes it, all of it new.
    pub async fn make(state: Option<&Path>, clock: &Clock) -> anyhow::Result<House> {
        let account = User::from_uid(nix::unistd::geteuid())?
            .context("this user has no entry in the account database, which ssh needs too")?;
        let root = match state {
            Some(state) => std::path::absolute(state)?,
            None => temporary_folder("portcullis-demo")?,
        };
        writable_in_ssh_config(&root)?;
        let layout = Layout::new(root);
        // Taken and given back: whoever takes it meanwhile makes the start fail, not the demo lie.
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let new = New {
            node: "demo".parse()?,
            listen,
            api_listen: None,
            host_names: vec![listen.ip().to_string()],
            store_url_file: None,
        };
        init::create(&layout, &new, clock)
            .await
            .map_err(|error| anyhow::anyhow!("{}", error.message))?;
        let login: Login = account.name.parse().or_else(|_| "me".parse())?;
        // Nobody issues a grant to himself, not even here.
        let identity = if account.name == "visitor" { "guest" } else { "visitor" };
        Ok(House {
            layout,
            destination: Destination {
                login,
                target: TARGET.parse()?,
            },
            identity: identity.parse()?,
            account,
        })
    }

    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn account(&self) -> &User {
        &self.account
    }

    /// Where the server's log goes: the terminal belongs to the person.
    pub fn log(&self) -> PathBuf {
        self.root().join("server.log")
    }

    /// Keys, certificates and configuration of the client.
    fn client(&self) -> PathBuf {
        self.root().join("client")
    }

    fn key(&self, key: Key) -> PathBuf {
        self.client().join(key.host())
    }

    fn certificate(&self, key: Key) -> PathBuf {
        self.client().join(format!("{}-cert.pub", key.host()))
    }

    pub fn ssh_config(&self) -> PathBuf {
        self.client().join("ssh_config")
    }

    /// The server's configuration, with less room set aside than a real one.
    pub fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::load(&self.layout.config())?;
        config.recording.spool_reserve_bytes = RESERVE_BYTES;
        config.session.drain = DRAIN;
        Ok(config)
    }

    /// Sends this process's log lines to a file.
    pub fn log_to_file(&self) -> anyhow::Result<()> {
        let config = Config::load(&self.layout.config())?;
        let path = self.log();
        durable::write_new(&path, b"", 0o600)?;
        let file = std::fs::File::options().append(true).open(&path)?;
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::try_new(&config.log.filter)?)
            .with_ansi(false)
            .with_writer(Mutex::new(file))
            .try_init()
            .map_err(|error| anyhow::anyhow!("the log: {error}"))
    }

    /// Arguments of the stock client, for a session at the target.
    pub fn ssh_arguments(&self, key: &Key) -> Vec<String> {
        let config = self.ssh_config().to_string_lossy().into_owned();
        vec!["-F".to_owned(), config, key.host().to_owned()]
    }

    /// The same as it can be typed.
    pub fn ssh_line(&self, key: &Key) -> String {
        let words: Vec<String> = self.ssh_arguments(key).iter().map(|word| quoted(word)).collect();
        format!("ssh {}", words.join(" "))
    }

    /// Fresh keys, known_hosts and configuration for the stock client.
    pub fn write_client(&self, server: SocketAddr) -> anyhow::Result<()> {
        durable::create_dir_all(&self.client(), 0o700)?;
        for key in Key::ALL {
            let mut seed = Zeroizing::new([0; 32]);
            entropy::fill(&mut *seed);
            let private = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
            let text = private.to_openssh(LineEnding::LF)?;
            durable::write_new(&self.key(key), text.as_bytes(), 0o600)?;
            let public = PublicKey::from(private.public_key().key_data().clone()).to_openssh()?;
            durable::write_new(
                &self.key(key).with_extension("pub"),
                format!("{public}\n").as_bytes(),
                0o644,
            )?;
        }
        let host_ca = keys::read_public(&self.layout.keys(), KeyName::HostCa)?;
        let pattern = format!("[{}]:{}", server.ip(), server.port());
        let known_hosts = format!("{}\n", trust::known_hosts_line(&pattern, &host_ca)?);
        let known_hosts_file = self.client().join("known_hosts");
        durable::write_new(&known_hosts_file, known_hosts.as_bytes(), 0o644)?;
        let mut config = String::from("# Made by `portcullis demo`: ssh with nothing of your own in it.\n");
        for key in Key::ALL {
            config.push_str(&format!(
                "Host {}\n    IdentityFile \"{}\"\n    CertificateFile \"{}\"\n",
                key.host(),
                self.key(key).display(),
                self.certificate(key).display(),
            ));
        }
        config.push_str(&format!(
            "Host *\n    HostName {}\n    Port {}\n    User {}\n    UserKnownHostsFile \"{}\"\n",
            server.ip(),
            server.port(),
            self.destination,
            known_hosts_file.display(),
        ));
        config.push_str(
            "    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    UpdateHostKeys no\n    \
             IdentitiesOnly yes\n    IdentityAgent none\n    PreferredAuthentications publickey\n    \
             ControlMaster no\n    ControlPath none\n    ForwardAgent no\n    ForwardX11 no\n    \
             SendEnv LANG LC_* COLORTERM\n",
        );
        durable::write_new(&self.ssh_config(), config.as_bytes(), 0o600)?;
        Ok(())
    }
}

impl Demo {
    /// Adds the target and the person.
    pub(super) async fn inventory(&self) -> anyhow::Result<()> {
        let house = &self.house;
        let target = Target {
            name: house.destination.target.clone(),
            logins: vec![house.destination.login.clone()],
            reach: Reach::Local {
                command: Vec::new(),
                run_as: house.account.name.clone(),
            },
            labels: vec!["env=demo".to_owned()],
            disabled: false,
        };
        let _: TargetAdded = self.api.post("/v1/targets", &target).await?;
        let person = IdentityRequest {
            name: house.identity.clone(),
            kind: IdentityKind::Person,
            owner: None,
            purpose: None,
            review_by_ms: None,
            keys: Vec::new(),
            roles: Default::default(),
            groups: Default::default(),
        };
        let _: IdentityAdded = self.api.post("/v1/identities", &person).await?;
        Ok(())
    }

    /// A grant for one key, its certificate beside the key.
    pub(super) async fn grant(&self, key: &Key, for_secs: u64) -> anyhow::Result<GrantView> {
        let public = self.house.key(*key).with_extension("pub");
        let request = IssueRequest {
            identity: self.house.identity.clone(),
            destination: self.house.destination.clone(),
            for_secs,
            reason: "portcullis demo".to_owned(),
            public_key: std::fs::read_to_string(&public)?.trim().to_owned(),
            allow: vec![Capability::Shell, Capability::Exec, Capability::Sftp],
            sources: Vec::new(),
            single_use: false,
        };
        let issued: Issued = self.api.post("/v1/grants", &request).await?;
        let line = format!("{}\n", issued.certificate.trim_end());
        durable::write_new(&self.house.certificate(*key), line.as_bytes(), 0o644)?;
        Ok(issued.grant)
    }
}

/// A new folder, for nobody else to look into.
pub fn temporary_folder(prefix: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    let parent = match named {
        Some(dir) => std::path::absolute(dir)?,
        None if Path::new(TEMPORARY).is_dir() => TEMPORARY.into(),
        None => std::env::temp_dir(),
    };
    let random: String = entropy::id().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = parent.join(format!("{prefix}-{random}"));
    // One that is there already is somebody else's.
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("no folder for temporary files in {}", parent.display()))?;
    Ok(folder)
}

/// ssh gives some characters in file names a meaning that no quoting takes away.
fn writable_in_ssh_config(path: &Path) -> anyhow::Result<()> {
    let text = path.to_str().unwrap_or("%");
    if text.chars().any(|c| c.is_control() || "%\"$\\".contains(c)) {
        bail!(
            "{} holds characters that ssh does not take in file names; choose another folder with --state DIR",
            path.display()
        );
    }
    Ok(())
}

/// The version line of the OpenSSH client.
pub async fn ssh_version() -> anyhow::Result<String> {
    let asked = tokio::process::Command::new("ssh").arg("-V").output().await;
    match asked {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(output) => bail!("`ssh -V` fails: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => bail!("the demo needs the OpenSSH client: `ssh` cannot be run: {error}"),
    }
}
