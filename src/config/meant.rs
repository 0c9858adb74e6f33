//! From what was said to what is meant: defaults filled in, ranges held to.

use std::path::Path;
use std::time::Duration;

use portcullis_recording::note::{KeyKind, VerifierKey};
use sha2::{Digest, Sha256};

use super::said::{
    Said, SaidLedger, SaidPolicy, SaidRecording, SaidRetention, SaidSession, SaidSsh, SaidWitness, SaidZone,
};
use super::{
    Config, ConfigError, HOST_NAMES_MAX, Kex, Ledger, Log, LogFormat, Policy, Recording, Retention, Session, Ssh,
    WITNESSES_MAX, Witness, ZONES_MAX, host_name_ok,
};
use crate::kernel::id::NodeName;
use crate::kernel::policy::place::Zone;
use crate::layout::Layout;
use crate::recorder::Recipients;

/// Turns what was said into what is meant, with the file's path for errors
/// and its text for the digest.
pub(super) struct Meaning<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
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

    fn count(&self, key: &'static str, said: Option<u64>, default: u64, range: (u64, u64)) -> Result<u32, ConfigError> {
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

    pub(super) fn config(&self, said: Said) -> Result<Config, ConfigError> {
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
            sha256: Sha256::digest(self.text).into(),
            ssh: self.ssh(said.ssh, &node)?,
            node,
            policy: self.policy(said.policy, said.zone, &root)?,
            layout: Layout::new(root),
            session: self.session(said.session)?,
            recording: self.recording(&said.recording)?,
            retention: self.retention(&said.retention)?,
            ledger: self.ledger(said.ledger)?,
            log: Log {
                format: said.log.format.unwrap_or(LogFormat::Text),
                filter: said.log.filter.unwrap_or_else(|| "info".to_owned()),
            },
        })
    }

    fn ssh(&self, said: SaidSsh, node: &NodeName) -> Result<Ssh, ConfigError> {
        let host_names = said.host_names.unwrap_or_default();
        if let Some(bad) = host_names.iter().find(|name| !host_name_ok(name)) {
            return Err(self.bad("ssh.host_names", format!("`{bad}` is not a host name or an address")));
        }
        if host_names.len() > HOST_NAMES_MAX {
            return Err(self.bad("ssh.host_names", format!("more than {HOST_NAMES_MAX}")));
        }
        let listen = said.listen.unwrap_or_else(|| "[::]:2222".to_owned());
        let networks = said.exempt_networks.unwrap_or_default();
        Ok(Ssh {
            listen: listen
                .parse()
                .map_err(|_| self.bad("ssh.listen", format!("`{listen}` is not an address with a port")))?,
            host_names: match host_names.is_empty() {
                true => vec![node.to_string()],
                false => host_names,
            },
            login_grace: self.secs("ssh.login_grace_secs", said.login_grace_secs, 20, (1, 600))?,
            source_burst: self.count("ssh.source_burst", said.source_burst, 60, (1, 100_000))?,
            source_per_sec: self.count("ssh.source_per_sec", said.source_per_sec, 20, (1, 100_000))?,
            exempt_networks: networks
                .iter()
                .map(|block| block.parse())
                .collect::<Result<_, String>>()
                .map_err(|message| self.bad("ssh.exempt_networks", message))?,
            connections_max: self.count("ssh.connections_max", said.connections_max, 4096, (1, 1_000_000))?,
            auth_attempts_max: self.count("ssh.auth_attempts_max", said.auth_attempts_max, 24, (1, 100))?,
            auth_probes_max: self.count("ssh.auth_probes_max", said.auth_probes_max, 24, (1, 1000))?,
            channels_max: self.count("ssh.channels_max", said.channels_max, 64, (1, 1024))?,
            env_allow: self.env_allow(said.env_allow)?,
            keepalive: self.secs("ssh.keepalive_secs", said.keepalive_secs, 15, (1, 3600))?,
            keepalive_misses_max: self.count("ssh.keepalive_misses_max", said.keepalive_misses_max, 3, (1, 100))?,
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
            return Ok(["LANG", "LC_*", "TERM", "COLORTERM"].map(str::to_owned).to_vec());
        };
        for name in &said {
            let stem = name.strip_suffix('*').unwrap_or(name);
            // A bare `*` would let LD_PRELOAD and its kin through.
            if stem.is_empty() || !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(self.bad(
                    "ssh.env_allow",
                    format!("`{name}` is not the name of a variable, with or without one `*` at its end"),
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
            return Err(self.bad("session.warn_before_secs", "at most 8 times, each from 1 to 86400"));
        }
        warn_before.sort_unstable_by(|one, other| other.cmp(one));
        warn_before.dedup();
        Ok(Session {
            idle_timeout: idle,
            session_max: self.mins("session.session_max_mins", said.session_max_mins, 720, (1, WEEK_MINS))?,
            grant_max: self.mins("session.grant_max_mins", said.grant_max_mins, 720, (1, WEEK_MINS))?,
            warn_before: warn_before.into_iter().map(Duration::from_secs).collect(),
            drain: self.secs("session.drain_secs", said.drain_secs, 30, (0, 3600))?,
        })
    }

    fn recording(&self, said: &SaidRecording) -> Result<Recording, ConfigError> {
        const MIB: u64 = 1024 * 1024;
        let mib =
            |key, said, default, least| Ok(self.number(key, said, default, (least, 1 << 20))?.saturating_mul(MIB));
        Ok(Recording {
            durable: said.durable.unwrap_or(false),
            spool_reserve_bytes: mib("recording.spool_reserve_mib", said.spool_reserve_mib, 512, 16)?,
            overflow_bytes_max: mib("recording.overflow_max_mib", said.overflow_max_mib, 1024, 1)?,
            recipients: Recipients::parse(said.recipients.as_deref().unwrap_or_default())
                .map_err(|why| self.bad("recording.recipients", why))?,
        })
    }

    fn retention(&self, said: &SaidRetention) -> Result<Retention, ConfigError> {
        const DAYS_MAX: u64 = 100 * 366;
        let days = self.number("retention.keep_days", said.keep_days, 0, (0, DAYS_MAX))?;
        Ok(Retention {
            keep: (days > 0).then(|| Duration::from_secs(days.saturating_mul(86_400))),
        })
    }

    fn policy(&self, said: SaidPolicy, zones: Option<Vec<SaidZone>>, root: &Path) -> Result<Policy, ConfigError> {
        const ZONE: &str = "zone";
        let name = said.time_zone.as_deref().unwrap_or("UTC");
        let usual = Layout::new(root).policies();
        let dir = said.dir.map_or_else(|| usual.clone(), |dir| root.join(dir));
        let said_zones = zones.unwrap_or_default();
        if said_zones.len() > ZONES_MAX {
            return Err(self.bad(ZONE, format!("more than {ZONES_MAX}")));
        }
        let mut zones: Vec<Zone> = Vec::with_capacity(said_zones.len());
        for SaidZone { name, networks } in said_zones {
            if name.is_empty() || zones.iter().any(|known| known.name == name) {
                return Err(self.bad(ZONE, format!("`{name}` is no name, or stands there twice")));
            }
            let networks = networks
                .iter()
                .map(|block| block.parse())
                .collect::<Result<_, String>>();
            let networks = networks.map_err(|why| self.bad(ZONE, format!("{name}: {why}")))?;
            zones.push(Zone { name, networks });
        }
        Ok(Policy {
            dir_named: dir != usual,
            dir,
            time_zone: jiff::tz::TimeZone::get(name)
                .map_err(|error| self.bad("policy.time_zone", error.to_string()))?,
            zones,
        })
    }

    fn ledger(&self, said: SaidLedger) -> Result<Ledger, ConfigError> {
        const KEY: &str = "ledger.witnesses";
        let said_witnesses = said.witnesses.unwrap_or_default();
        if said_witnesses.len() > WITNESSES_MAX {
            return Err(self.bad(KEY, format!("more than {WITNESSES_MAX}")));
        }
        let mut witnesses: Vec<Witness> = Vec::with_capacity(said_witnesses.len());
        for SaidWitness { url, key } in said_witnesses {
            let bad = |why: String| self.bad(KEY, why);
            let address = url.parse().map_err(bad)?;
            let key = VerifierKey::parse(&key).map_err(|error| self.bad(KEY, format!("the key of {url}: {error}")))?;
            if key.kind() != KeyKind::Cosignature {
                return Err(bad(format!("the key of {url} is a ledger's, not a witness's")));
            }
            // One key under two names is one witness, and its word counts once.
            if witnesses.iter().any(|known| known.key.key() == key.key()) {
                return Err(bad(format!("the key of {url} is another witness's too")));
            }
            witnesses.push(Witness { address, key });
        }
        let most = u64::try_from(witnesses.len()).unwrap_or(u64::MAX);
        Ok(Ledger {
            witnesses,
            quorum: self.number("ledger.quorum", said.quorum, 0, (0, most))?,
        })
    }
}
