//! Configuration: what the file said, then what it means.
//!
//! `Said` mirrors the file and refuses keys it does not know, with the line
//! and the nearest key. `Config` is what everybody else gets: every default
//! filled in, every value parsed and in range. [`KEYS`] lists each key once,
//! with its default and its doc line; the text that `init` writes comes from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_recording::note::VerifierKey;
use serde::Deserialize;

use crate::break_glass::Signers;
use crate::credentials::Setting as CredentialSource;
use crate::issue::places::Places;
use crate::kernel::grant::Cidr;
use crate::kernel::id::NodeName;
use crate::kernel::policy::place::Zone;
use crate::layout::Layout;
use crate::recorder::Recipients;
use crate::store::Place;
use crate::witness::address::Address;

mod credential;
mod keys;
mod meant;
mod said;

pub use crate::kernel::nearest::nearest;
pub use keys::{KEYS, Key};
use meant::Meaning;
use said::Said;

/// Largest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Most witnesses of the ledger.
pub const WITNESSES_MAX: usize = 16;

/// Most zones for policies.
pub const ZONES_MAX: usize = 64;

/// Most names of the host certificate.
pub const HOST_NAMES_MAX: usize = 32;

/// The ledger's name: `init` makes it under this one, `serve` opens it under this one.
pub fn ledger_origin(node: &NodeName) -> String {
    format!("portcullis/{node}")
}

/// Longest banner, in bytes: it goes out in one packet (RFC 4252 section 5.4).
pub const BANNER_BYTES_MAX: usize = 128 * 1024;

/// Whether `name` may stand in a host certificate and in known_hosts.
pub fn host_name_ok(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let named = !name.is_empty() && name.len() <= 255 && name.bytes().all(plain) && !name.starts_with('-');
    named || name.parse::<std::net::IpAddr>().is_ok()
}

/// Key exchanges on offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kex {
    /// Post-quantum hybrids first, curve25519 for clients without them.
    Default,
    /// Post-quantum hybrids only.
    PqOnly,
}

/// Shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the server does, all of it decided.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    pub node: NodeName,
    pub layout: Layout,
    /// Where relational state is kept.
    pub store: Place,
    pub ssh: Ssh,
    /// Where secrets for targets come from that take no certificate.
    pub credentials: Vec<CredentialSource>,
    /// Where the authorities' keys are.
    pub keys: Places,
    pub session: Session,
    pub recording: Recording,
    pub retention: Retention,
    pub ledger: Ledger,
    pub api: Api,
    pub policy: Policy,
    /// Who signs break-glass grants; none: there are none.
    pub break_glass: Option<Signers>,
    pub log: Log,
}

impl Ssh {
    /// How a client names this bastion after `-J` (ssh(1)).
    pub fn jump_host(&self) -> String {
        let name = self.host_names.first().map_or("BASTION", String::as_str);
        match (self.listen.port(), name.contains(':')) {
            (0 | 22, false) => name.to_owned(),
            (0 | 22, true) => format!("[{name}]"),
            (port, false) => format!("{name}:{port}"),
            (port, true) => format!("[{name}]:{port}"),
        }
    }
}

/// The SSH listener and its limits.
#[derive(Clone, PartialEq, Debug)]
pub struct Ssh {
    pub listen: SocketAddr,
    /// Names and addresses that clients type; the host certificate holds them.
    pub host_names: Vec<String>,
    /// From accept to the end of authentication; waiting for an approval is outside it.
    /// What clients are shown before they log in.
    pub banner: Option<String>,
    pub login_grace: Duration,
    /// Connections that one source may open at once before the rate applies.
    pub source_burst: u32,
    /// Connections per second and source after the burst.
    pub source_per_sec: u32,
    /// Sources without that limit and without penalties.
    pub exempt_networks: Vec<Cidr>,
    /// Connections that have not logged in yet, all sources together.
    pub connections_max: u32,
    /// Failed signatures before the connection ends.
    pub auth_attempts_max: u32,
    /// Keys and certificates that a client may offer before the connection ends.
    pub auth_probes_max: u32,
    /// Channels open at the same time on one connection.
    pub channels_max: u32,
    /// Sessions of one identity at the same time on this node, without those
    /// under break-glass grants.
    pub sessions_per_identity: u32,
    /// Names of environment variables that pass; a trailing `*` matches any rest.
    pub env_allow: Vec<String>,
    /// A session with several channels keeps one target connection ready for the next.
    pub spare: bool,
    /// Subsystems beside sftp that may be started, by their exact names.
    pub subsystems: Vec<String>,
    pub keepalive: Duration,
    /// Keepalives without an answer before the connection counts as dead.
    pub keepalive_misses_max: u32,
    pub kex: Kex,
    pub target_connect_timeout: Duration,
    /// What targets see us come from; none: the address of each dialled socket.
    pub target_source_address: Vec<Cidr>,
}

/// How long things last.
#[derive(Clone, PartialEq, Debug)]
pub struct Session {
    /// None: an idle session lives as long as its grant.
    pub idle_timeout: Option<Duration>,
    /// Longest session, whatever its grant says.
    pub session_max: Duration,
    /// Longest grant that is issued.
    pub grant_max: Duration,
    /// Warnings before the end, longest first.
    pub warn_before: Vec<Duration>,
    /// Time that running sessions get after SIGTERM.
    pub drain: Duration,
}

/// How sessions are recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Recording {
    /// `fdatasync` before an Enter is forwarded.
    pub durable: bool,
    /// Space kept free for seals and a break-glass session.
    pub spool_reserve_bytes: u64,
    /// What a slow reader may leave unread, per channel and direction, on disk.
    pub overflow_bytes_max: u64,
    /// Whom recordings are encrypted to; to nobody: in clear.
    pub recipients: Recipients,
    /// To whom the keys of lines that are not echoed are wrapped; to nobody: they are wiped.
    pub hidden_recipients: Recipients,
}

/// What becomes of recordings later.
#[derive(Clone, PartialEq, Debug)]
pub struct Retention {
    /// How long they are kept; `None`: for ever.
    pub keep: Option<Duration>,
}

/// Who else vouches for the ledger.
#[derive(Clone, PartialEq, Debug)]
pub struct Ledger {
    pub witnesses: Vec<Witness>,
    /// How many of them verifiers demand.
    pub quorum: u64,
}

/// Somebody else's machine that cosigns our checkpoints.
#[derive(Clone, PartialEq, Debug)]
pub struct Witness {
    pub address: Address,
    pub key: VerifierKey,
}

/// The API for callers that are not at the server's own socket.
#[derive(Clone, PartialEq, Debug)]
pub struct Api {
    /// None: the socket alone.
    pub listen: Option<SocketAddr>,
    /// How others reach it, for links in messages.
    pub url: Option<String>,
    /// Certificate chain and key in PEM; made at the first start unless given.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whether they were given, and are not ours to make.
    pub given: bool,
    pub token_max: Duration,
    pub notify: Option<NotifyTo>,
    pub hooks: Vec<HookSaid>,
}

/// Whom to tell about requests: a URL, and the file with the secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotifyTo {
    pub url: String,
    pub secret_file: PathBuf,
}

/// A system that may call by signed webhooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookSaid {
    pub name: String,
    pub secret_file: PathBuf,
    pub may: Vec<HookMay>,
}

/// What a webhook may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookMay {
    /// End access.
    Revoke,
    /// Carry answers to requests.
    Answer,
}

/// Most systems that may call by webhook.
pub const HOOKS_MAX: usize = 32;

/// What the policies go by.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Folder of the policies.
    pub dir: PathBuf,
    /// Whether it is another than the usual one: then it has to be there.
    pub dir_named: bool,
    /// Where the policies' time of day is told.
    pub time_zone: jiff::tz::TimeZone,
    pub zones: Vec<Zone>,
}

/// How the server talks to its operator.
#[derive(Clone, PartialEq, Debug)]
pub struct Log {
    pub format: LogFormat,
    /// `tracing_subscriber::EnvFilter` syntax.
    pub filter: String,
}

/// Why a configuration was refused: the file, where in it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path} is larger than {CONFIG_BYTES_MAX} bytes", path = path.display())]
    TooLarge { path: PathBuf },
    #[error("{path}:{line}:{column}: {message}", path = path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
        hint: Option<String>,
    },
    #[error("{path}: {key}: {message}", path = path.display())]
    Value {
        path: PathBuf,
        key: &'static str,
        message: String,
    },
}

impl ConfigError {
    /// The next thing to do, if there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Read { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Some(
                "make a state folder with `portcullis init --state DIR`, then give --config DIR/config.toml".to_owned(),
            ),
            ConfigError::Read { .. } | ConfigError::TooLarge { .. } => None,
            ConfigError::Syntax { hint, .. } => hint.clone(),
            ConfigError::Value { key, .. } => KEYS
                .iter()
                .find(|known| known.name() == *key)
                .map(|known| format!("{}; the default is {}", known.doc, known.default)),
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The first thing in it that is not right.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unread = |error| ConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let size = std::fs::metadata(path).map_err(unread)?.len();
        if size > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(unread)?;
        // Relative names in it mean "beside the file", not "where I was started".
        let whole = std::path::absolute(path).map_err(unread)?;
        let mut config = Config::parse(&whole, &text)?;
        if let Ok(filter) = std::env::var("PORTCULLIS_LOG") {
            config.log.filter = filter;
        }
        if let Some(place) = Place::of_environment() {
            config.store = place;
        }
        Ok(config)
    }

    /// Reads `text` as the file at the absolute `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let said: Said = toml::from_str(text).map_err(|error| said::syntax(path, text, &error))?;
        Meaning { path, text }.config(said)
    }

    /// The text that `init` writes: every key with its doc line; those in
    /// `set` (by [`Key::name`], with a TOML value) are given, the rest are
    /// comments that show the default.
    pub fn template(set: &[(&str, String)]) -> String {
        keys::template(set)
    }
}

#[cfg(test)]
mod tests;
