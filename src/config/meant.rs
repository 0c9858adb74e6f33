//! From what was said to what is meant: defaults filled in, ranges held to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_recording::note::{KeyKind, VerifierKey};
use sha2::{Digest, Sha256};

use super::said::{
    Said, SaidApi, SaidBreakGlass, SaidKeys, SaidLedger, SaidPolicy, SaidRecording, SaidRetention, SaidSession,
    SaidSsh, SaidWitness, SaidZone,
};
use super::{
    Api, BANNER_BYTES_MAX, Config, ConfigError, HOOKS_MAX, HOST_NAMES_MAX, HookSaid, Kex, Ledger, Log, LogFormat,
    NotifyTo, Policy, Recording, Retention, Session, Ssh, WITNESSES_MAX, Witness, ZONES_MAX, host_name_ok,
};
use crate::break_glass::Signers;
use crate::issue::ca::SOURCE_BLOCKS_MAX;
use crate::issue::places::{Pkcs11, Place, Places};
use crate::kernel::break_glass::SIGNERS_MAX;
use crate::kernel::grant::Cidr;
use crate::kernel::id::NodeName;
use crate::kernel::policy::place::Zone;
use crate::layout::Layout;
use crate::recorder::Recipients;
use crate::store;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 1024;

/// Turns what was said into what is meant, with the file's path for errors
/// and its text for the digest.
pub(super) struct Meaning<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Meaning<'_> {
    pub(super) fn bad(&self, key: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key,
            message: message.into(),
        }
    }

    /// A number within `[least, most]`.
    pub(super) fn number(
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
        let layout = Layout::new(root);
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
            credentials: self.credentials(said.credential, folder)?,
            keys: self.keys(said.keys, folder)?,
            node,
            store: match said.store.url_file.filter(|file| !file.as_os_str().is_empty()) {
                Some(file) => store::Place::UrlFile(folder.join(file)),
                None => store::Place::File(layout.store()),
            },
            policy: self.policy(said.policy, said.zone, layout.root())?,
            break_glass: self.break_glass(&said.break_glass)?,
            layout,
            session: self.session(said.session)?,
            recording: self.recording(&said.recording)?,
            retention: self.retention(&said.retention)?,
            ledger: self.ledger(said.ledger)?,
            api: self.api(said.api, folder)?,
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
        let sources = said.target_source_address.unwrap_or_default();
        if sources.len() > SOURCE_BLOCKS_MAX {
            return Err(self.bad("ssh.target_source_address", format!("more than {SOURCE_BLOCKS_MAX}")));
        }
        Ok(Ssh {
            listen: listen
                .parse()
                .map_err(|_| self.bad("ssh.listen", format!("`{listen}` is not an address with a port")))?,
            host_names: match host_names.is_empty() {
                true => vec![node.to_string()],
                false => host_names,
            },
            banner: self.banner(said.banner)?,
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
            sessions_per_identity: self.count(
                "ssh.sessions_per_identity",
                said.sessions_per_identity,
                200,
                (1, 1_000_000),
            )?,
            env_allow: self.env_allow(said.env_allow)?,
            spare: said.spare.unwrap_or(true),
            subsystems: self.subsystems(said.subsystems)?,
            keepalive: self.secs("ssh.keepalive_secs", said.keepalive_secs, 15, (1, 3600))?,
            keepalive_misses_max: self.count("ssh.keepalive_misses_max", said.keepalive_misses_max, 3, (1, 100))?,
            kex: said.kex.unwrap_or(Kex::Default),
            target_connect_timeout: self.secs(
                "ssh.target_connect_timeout_secs",
                said.target_connect_timeout_secs,
                10,
                (1, 300),
            )?,
            target_source_address: sources
                .iter()
                .map(|block| {
                    let block: Cidr = block.parse()?;
                    // Targets refuse a certificate with anything else.
                    match block.is_exact() {
                        true => Ok(block),
                        false => Err(format!("`{block}` has host bits set: say the network's own address")),
                    }
                })
                .collect::<Result<_, String>>()
                .map_err(|message| self.bad("ssh.target_source_address", message))?,
        })
    }

    /// Where keys are. Relative names count from the folder of the file.
    fn keys(&self, said: SaidKeys, folder: &Path) -> Result<Places, ConfigError> {
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        let beside = |path: Option<PathBuf>| given(path).map(|path| folder.join(path));
        let places = Places {
            admission_ca: said.admission_ca.unwrap_or_default(),
            target_ca: said.target_ca.unwrap_or_default(),
            host_ca: said.host_ca.unwrap_or_default(),
            passphrase_file: beside(said.passphrase_file),
            agent: beside(said.agent),
            pkcs11: match (
                beside(said.pkcs11.module),
                said.pkcs11.token.filter(|token| !token.is_empty()),
                beside(said.pkcs11.pin_file),
            ) {
                (None, None, None) => None,
                (Some(module), Some(token), Some(pin_file)) => Some(Pkcs11 {
                    module,
                    token,
                    pin_file,
                }),
                (_, _, _) => {
                    return Err(self.bad(
                        "keys.pkcs11.module",
                        "`module`, `token` and `pin_file` are given together or not at all",
                    ));
                }
            },
        };
        for (key, place) in [
            ("keys.admission_ca", places.admission_ca),
            ("keys.target_ca", places.target_ca),
            ("keys.host_ca", places.host_ca),
        ] {
            let missing = match place {
                Place::File => None,
                Place::Agent => places.agent.is_none().then_some("`keys.agent` names no socket"),
                Place::Pkcs11 if !cfg!(feature = "pkcs11") => {
                    Some("this program was built without the feature `pkcs11`")
                }
                Place::Pkcs11 => places.pkcs11.is_none().then_some("`[keys.pkcs11]` names no token"),
            };
            if let Some(missing) = missing {
                return Err(self.bad(key, format!("it is \"{}\", and {missing}", place.as_str())));
            }
        }
        Ok(places)
    }

    /// Plain text only: whoever shows it shows it on a terminal (RFC 4252 section 5.4).
    fn banner(&self, said: Option<String>) -> Result<Option<String>, ConfigError> {
        let Some(text) = said.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if text.len() > BANNER_BYTES_MAX {
            return Err(self.bad("ssh.banner", format!("it is longer than {BANNER_BYTES_MAX} bytes")));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(self.bad("ssh.banner", format!("it holds {bad:?}, which is not plain text")));
        }
        Ok(Some(text))
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

    fn subsystems(&self, said: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
        let said = said.unwrap_or_default();
        for name in &said {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@.-_".contains(&b));
            if !plain || !(1..=64).contains(&name.len()) {
                return Err(self.bad(
                    "ssh.subsystems",
                    format!("`{name}` is not the name of a subsystem: letters, digits and `@.-_`, at most 64"),
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
            hidden_recipients: Recipients::parse(said.hidden_recipients.as_deref().unwrap_or_default())
                .map_err(|why| self.bad("recording.hidden_recipients", why))?,
        })
    }

    fn api(&self, said: SaidApi, folder: &Path) -> Result<Api, ConfigError> {
        let text = |said: Option<String>| said.filter(|text| !text.is_empty());
        let file = |said: Option<PathBuf>| said.filter(|path| !path.as_os_str().is_empty());
        let listen = text(said.listen).map(|text| {
            text.parse()
                .map_err(|_| self.bad("api.listen", format!("`{text}` is not an address with a port")))
        });
        let url = |key, text: String| {
            let good = text.starts_with("https://") || text.starts_with("http://");
            let plain = text.len() <= URL_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
            match good && plain {
                true => Ok(text.trim_end_matches('/').to_owned()),
                false => Err(self.bad(key, "it does not begin with https:// or http://")),
            }
        };
        let (certificate, key, given) = match (file(said.certificate_file), file(said.key_file)) {
            (Some(certificate), Some(key)) => (folder.join(certificate), folder.join(key), true),
            (None, None) => (folder.join("keys/api.crt"), folder.join("keys/api.key"), false),
            (Some(_), None) => return Err(self.bad("api.key_file", "the certificate's key is not named")),
            (None, Some(_)) => return Err(self.bad("api.certificate_file", "the key's certificate is not named")),
        };
        let notify = match (text(said.notify_url), file(said.notify_secret_file)) {
            (None, None) => None,
            (Some(to), Some(secret)) => Some(NotifyTo {
                url: url("api.notify_url", to)?,
                secret_file: folder.join(secret),
            }),
            (Some(_), None) => return Err(self.bad("api.notify_secret_file", "messages are always signed")),
            (None, Some(_)) => return Err(self.bad("api.notify_url", "there is a secret, and nobody to tell")),
        };
        let said_hooks = said.hooks.unwrap_or_default();
        if said_hooks.len() > HOOKS_MAX {
            return Err(self.bad("api.hooks", format!("more than {HOOKS_MAX}")));
        }
        let mut hooks: Vec<HookSaid> = Vec::with_capacity(said_hooks.len());
        for hook in said_hooks {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if hook.name.is_empty() || hook.name.len() > 64 || !hook.name.bytes().all(plain) {
                return Err(self.bad(
                    "api.hooks",
                    format!("`{}` is not a name of letters, digits and -", hook.name),
                ));
            }
            if hooks.iter().any(|known| known.name == hook.name) {
                return Err(self.bad("api.hooks", format!("`{}` is there twice", hook.name)));
            }
            hooks.push(HookSaid {
                name: hook.name,
                secret_file: folder.join(hook.secret_file),
                may: hook.may,
            });
        }
        Ok(Api {
            listen: listen.transpose()?,
            url: text(said.url).map(|text| url("api.url", text)).transpose()?,
            certificate,
            key,
            given,
            token_max: self.mins("api.token_max_mins", said.token_max_mins, 480, (1, 24 * 60))?,
            notify,
            hooks,
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

    fn break_glass(&self, said: &SaidBreakGlass) -> Result<Option<Signers>, ConfigError> {
        let most = u64::try_from(SIGNERS_MAX).unwrap_or(u64::MAX);
        let threshold = self.number("break_glass.threshold", said.threshold, 2, (1, most))?;
        match said.signers.as_deref().unwrap_or_default() {
            [] => Ok(None),
            signers => Signers::parse(signers, threshold)
                .map(Some)
                .map_err(|why| self.bad("break_glass.signers", why)),
        }
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
