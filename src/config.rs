//! Configuration: what the file said, then what it means.
//!
//! `Said` mirrors the file and refuses keys it does not know, with the line
//! and the nearest key. `Config` is what everybody else gets: every default
//! filled in, every value parsed and in range. [`KEYS`] lists each key once,
//! with its default and its doc line; the text that `init` writes comes from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::kernel::grant::Cidr;
use crate::kernel::id::NodeName;
use crate::layout::Layout;

mod keys;
mod nearest;

pub use keys::{KEYS, Key};
pub use nearest::nearest;

/// Largest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Most names of the host certificate.
pub const HOST_NAMES_MAX: usize = 32;

/// The ledger's name: `init` makes it under this one, `serve` opens it under this one.
pub fn ledger_origin(node: &NodeName) -> String {
    format!("portcullis/{node}")
}

/// Whether `name` may stand in a host certificate and in known_hosts.
pub fn host_name_ok(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let named =
        !name.is_empty() && name.len() <= 255 && name.bytes().all(plain) && !name.starts_with('-');
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
    pub node: NodeName,
    pub layout: Layout,
    pub ssh: Ssh,
    pub session: Session,
    pub recording: Recording,
    pub log: Log,
}

/// The SSH listener and its limits.
#[derive(Clone, PartialEq, Debug)]
pub struct Ssh {
    pub listen: SocketAddr,
    /// Names and addresses that clients type; the host certificate holds them.
    pub host_names: Vec<String>,
    /// From accept to the end of authentication; waiting for an approval is outside it.
    pub login_grace: Duration,
    /// Connections that one source may open at once before the rate applies.
    pub source_burst: u32,
    /// Connections per second and source after the burst.
    pub source_per_sec: u32,
    /// Sources without that limit.
    pub exempt_networks: Vec<Cidr>,
    /// Connections open at the same time, all sources together.
    pub connections_max: u32,
    /// Failed signatures before the connection ends.
    pub auth_attempts_max: u32,
    /// Keys and certificates that a client may offer before the connection ends.
    pub auth_probes_max: u32,
    /// Channels open at the same time on one connection.
    pub channels_max: u32,
    /// Names of environment variables that pass; a trailing `*` matches any rest.
    pub env_allow: Vec<String>,
    pub keepalive: Duration,
    /// Keepalives without an answer before the connection counts as dead.
    pub keepalive_misses_max: u32,
    pub kex: Kex,
    pub target_connect_timeout: Duration,
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
    /// Output that a slow client may leave unread, per session, on disk.
    pub overflow_bytes_max: u64,
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
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
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
            ConfigError::Read { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                Some("make a state folder with `portcullis init --state DIR`, then give --config DIR/config.toml".to_owned())
            }
            ConfigError::Read { .. } | ConfigError::TooLarge { .. } => None,
            ConfigError::Syntax { hint, .. } => hint.clone(),
            ConfigError::Value { key, .. } => KEYS
                .iter()
                .find(|known| known.name() == *key)
                .map(|known| format!("{}; the default is {}", known.doc, known.default)),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Said {
    node: Option<String>,
    state: Option<PathBuf>,
    ssh: SaidSsh,
    session: SaidSession,
    recording: SaidRecording,
    log: SaidLog,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SaidSsh {
    listen: Option<String>,
    host_names: Option<Vec<String>>,
    login_grace_secs: Option<u64>,
    source_burst: Option<u64>,
    source_per_sec: Option<u64>,
    exempt_networks: Option<Vec<String>>,
    connections_max: Option<u64>,
    auth_attempts_max: Option<u64>,
    auth_probes_max: Option<u64>,
    channels_max: Option<u64>,
    env_allow: Option<Vec<String>>,
    keepalive_secs: Option<u64>,
    keepalive_misses_max: Option<u64>,
    kex: Option<Kex>,
    target_connect_timeout_secs: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SaidSession {
    idle_timeout_mins: Option<u64>,
    session_max_mins: Option<u64>,
    grant_max_mins: Option<u64>,
    warn_before_secs: Option<Vec<u64>>,
    drain_secs: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SaidRecording {
    durable: Option<bool>,
    spool_reserve_mib: Option<u64>,
    overflow_max_mib: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SaidLog {
    format: Option<LogFormat>,
    filter: Option<String>,
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
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(unread)?;
        // Relative names in it mean "beside the file", not "where I was started".
        let whole = std::path::absolute(path).map_err(unread)?;
        Config::parse(&whole, &text)
    }

    /// Reads `text` as the file at the absolute `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let said: Said = toml::from_str(text).map_err(|error| syntax(path, text, &error))?;
        Meaning { path }.config(said)
    }

    /// The text that `init` writes: every key with its doc line; those in
    /// `set` (by [`Key::name`], with a TOML value) are given, the rest are
    /// comments that show the default.
    pub fn template(set: &[(&str, String)]) -> String {
        keys::template(set)
    }
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or("")
        .chars()
        .count()
        .saturating_add(1);
    let said = error.message();
    let unknown = said
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'));
    let (message, hint) = match unknown {
        Some((key, rest)) => {
            // The rest lists the keys that exist there, each in backticks.
            let known = || rest.split('`').skip(1).step_by(2);
            let hint = match nearest(key, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("keys here: {}", known().collect::<Vec<_>>().join(", ")),
            };
            (format!("there is no key `{key}`"), Some(hint))
        }
        None => (said.replace('\n', ", "), None),
    };
    ConfigError::Syntax {
        path: path.to_owned(),
        line,
        column,
        message,
        hint,
    }
}

/// Turns what was said into what is meant, with the file's path for errors.
struct Meaning<'a> {
    path: &'a Path,
}

impl Meaning<'_> {
    fn bad(&self, key: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key,
            message: message.into(),
        }
    }

    /// A number within `[least, most]`.
    fn number(
        &self,
        key: &'static str,
        said: Option<u64>,
        default: u64,
        (least, most): (u64, u64),
    ) -> Result<u64, ConfigError> {
        let value = said.unwrap_or(default);
        if value < least || value > most {
            return Err(self.bad(key, format!("{value} is not between {least} and {most}")));
        }
        Ok(value)
    }

    fn count(
        &self,
        key: &'static str,
        said: Option<u64>,
        default: u64,
        range: (u64, u64),
    ) -> Result<u32, ConfigError> {
        let value = self.number(key, said, default, range)?;
        u32::try_from(value).map_err(|_| self.bad(key, format!("{value} is too large")))
    }

    fn secs(
        &self,
        key: &'static str,
        said: Option<u64>,
        default: u64,
        range: (u64, u64),
    ) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(self.number(key, said, default, range)?))
    }

    fn mins(
        &self,
        key: &'static str,
        said: Option<u64>,
        default: u64,
        range: (u64, u64),
    ) -> Result<Duration, ConfigError> {
        let minutes = self.number(key, said, default, range)?;
        Ok(Duration::from_secs(minutes.saturating_mul(60)))
    }

    fn config(&self, said: Said) -> Result<Config, ConfigError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let root = match said.state {
            Some(state) => folder.join(state),
            None => folder.to_owned(),
        };
        let node: NodeName = said
            .node
            .as_deref()
            .unwrap_or("portcullis")
            .parse()
            .map_err(|error| self.bad("node", format!("{error}")))?;
        Ok(Config {
            path: self.path.to_owned(),
            ssh: self.ssh(said.ssh, &node)?,
            node,
            layout: Layout::new(root),
            session: self.session(said.session)?,
            recording: self.recording(&said.recording)?,
            log: Log {
                format: said.log.format.unwrap_or(LogFormat::Text),
                filter: said.log.filter.unwrap_or_else(|| "info".to_owned()),
            },
        })
    }

    fn ssh(&self, said: SaidSsh, node: &NodeName) -> Result<Ssh, ConfigError> {
        let host_names = said.host_names.unwrap_or_default();
        if let Some(bad) = host_names.iter().find(|name| !host_name_ok(name)) {
            return Err(self.bad(
                "ssh.host_names",
                format!("`{bad}` is not a host name or an address"),
            ));
        }
        if host_names.len() > HOST_NAMES_MAX {
            return Err(self.bad("ssh.host_names", format!("more than {HOST_NAMES_MAX}")));
        }
        let listen = said.listen.unwrap_or_else(|| "[::]:2222".to_owned());
        let networks = said.exempt_networks.unwrap_or_default();
        Ok(Ssh {
            listen: listen.parse().map_err(|_| {
                self.bad(
                    "ssh.listen",
                    format!("`{listen}` is not an address with a port"),
                )
            })?,
            host_names: match host_names.is_empty() {
                true => vec![node.to_string()],
                false => host_names,
            },
            login_grace: self.secs("ssh.login_grace_secs", said.login_grace_secs, 20, (1, 600))?,
            source_burst: self.count("ssh.source_burst", said.source_burst, 60, (1, 100_000))?,
            source_per_sec: self.count(
                "ssh.source_per_sec",
                said.source_per_sec,
                20,
                (1, 100_000),
            )?,
            exempt_networks: networks
                .iter()
                .map(|block| block.parse())
                .collect::<Result<_, String>>()
                .map_err(|message| self.bad("ssh.exempt_networks", message))?,
            connections_max: self.count(
                "ssh.connections_max",
                said.connections_max,
                4096,
                (1, 1_000_000),
            )?,
            auth_attempts_max: self.count(
                "ssh.auth_attempts_max",
                said.auth_attempts_max,
                6,
                (1, 100),
            )?,
            auth_probes_max: self.count(
                "ssh.auth_probes_max",
                said.auth_probes_max,
                24,
                (1, 1000),
            )?,
            channels_max: self.count("ssh.channels_max", said.channels_max, 64, (1, 1024))?,
            env_allow: self.env_allow(said.env_allow)?,
            keepalive: self.secs("ssh.keepalive_secs", said.keepalive_secs, 15, (1, 3600))?,
            keepalive_misses_max: self.count(
                "ssh.keepalive_misses_max",
                said.keepalive_misses_max,
                3,
                (1, 100),
            )?,
            kex: said.kex.unwrap_or(Kex::Default),
            target_connect_timeout: self.secs(
                "ssh.target_connect_timeout_secs",
                said.target_connect_timeout_secs,
                10,
                (1, 300),
            )?,
        })
    }

    fn env_allow(&self, said: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
        let Some(said) = said else {
            return Ok(["LANG", "LC_*", "TERM", "COLORTERM"]
                .map(str::to_owned)
                .to_vec());
        };
        for name in &said {
            let stem = name.strip_suffix('*').unwrap_or(name);
            // A bare `*` would let LD_PRELOAD and its kin through.
            if stem.is_empty() || !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(self.bad(
                    "ssh.env_allow",
                    format!(
                        "`{name}` is not the name of a variable, with or without one `*` at its end"
                    ),
                ));
            }
        }
        Ok(said)
    }

    fn session(&self, said: SaidSession) -> Result<Session, ConfigError> {
        const WEEK_MINS: u64 = 7 * 24 * 60;
        let idle = match said.idle_timeout_mins {
            None | Some(0) => None,
            given => Some(self.mins("session.idle_timeout_mins", given, 0, (1, WEEK_MINS))?),
        };
        let mut warn_before = said.warn_before_secs.unwrap_or_else(|| vec![300, 60]);
        if warn_before.len() > 8 || warn_before.iter().any(|secs| *secs == 0 || *secs > 86_400) {
            return Err(self.bad(
                "session.warn_before_secs",
                "at most 8 times, each from 1 to 86400",
            ));
        }
        warn_before.sort_unstable_by(|one, other| other.cmp(one));
        warn_before.dedup();
        Ok(Session {
            idle_timeout: idle,
            session_max: self.mins(
                "session.session_max_mins",
                said.session_max_mins,
                720,
                (1, WEEK_MINS),
            )?,
            grant_max: self.mins(
                "session.grant_max_mins",
                said.grant_max_mins,
                720,
                (1, WEEK_MINS),
            )?,
            warn_before: warn_before.into_iter().map(Duration::from_secs).collect(),
            drain: self.secs("session.drain_secs", said.drain_secs, 30, (0, 3600))?,
        })
    }

    fn recording(&self, said: &SaidRecording) -> Result<Recording, ConfigError> {
        const MIB: u64 = 1024 * 1024;
        let mib = |key, said, default, least| {
            Ok(self
                .number(key, said, default, (least, 1 << 20))?
                .saturating_mul(MIB))
        };
        Ok(Recording {
            durable: said.durable.unwrap_or(false),
            spool_reserve_bytes: mib(
                "recording.spool_reserve_mib",
                said.spool_reserve_mib,
                512,
                16,
            )?,
            overflow_bytes_max: mib("recording.overflow_max_mib", said.overflow_max_mib, 1024, 1)?,
        })
    }
}

#[cfg(test)]
mod tests;
