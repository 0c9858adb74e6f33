//! What the file says, key by key, and where it is not a file of ours.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, HookMay, Kex, LogFormat, nearest};
use crate::issue::places::Place;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Said {
    pub(super) node: Option<String>,
    pub(super) state: Option<PathBuf>,
    pub(super) store: SaidStore,
    pub(super) ssh: SaidSsh,
    pub(super) keys: SaidKeys,
    pub(super) session: SaidSession,
    pub(super) recording: SaidRecording,
    pub(super) retention: SaidRetention,
    pub(super) ledger: SaidLedger,
    pub(super) api: SaidApi,
    pub(super) policy: SaidPolicy,
    pub(super) break_glass: SaidBreakGlass,
    pub(super) zone: Option<Vec<SaidZone>>,
    pub(super) credential: Option<Vec<SaidCredential>>,
    pub(super) log: SaidLog,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidStore {
    pub(super) url_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidSsh {
    pub(super) listen: Option<String>,
    pub(super) host_names: Option<Vec<String>>,
    pub(super) banner: Option<String>,
    pub(super) login_grace_secs: Option<u64>,
    pub(super) source_burst: Option<u64>,
    pub(super) source_per_sec: Option<u64>,
    pub(super) exempt_networks: Option<Vec<String>>,
    pub(super) connections_max: Option<u64>,
    pub(super) auth_attempts_max: Option<u64>,
    pub(super) auth_probes_max: Option<u64>,
    pub(super) channels_max: Option<u64>,
    pub(super) sessions_per_identity: Option<u64>,
    pub(super) env_allow: Option<Vec<String>>,
    pub(super) spare: Option<bool>,
    pub(super) subsystems: Option<Vec<String>>,
    pub(super) keepalive_secs: Option<u64>,
    pub(super) keepalive_misses_max: Option<u64>,
    pub(super) kex: Option<Kex>,
    pub(super) target_connect_timeout_secs: Option<u64>,
    pub(super) target_source_address: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidKeys {
    pub(super) admission_ca: Option<Place>,
    pub(super) target_ca: Option<Place>,
    pub(super) host_ca: Option<Place>,
    pub(super) passphrase_file: Option<PathBuf>,
    pub(super) agent: Option<PathBuf>,
    pub(super) pkcs11: SaidPkcs11,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidPkcs11 {
    pub(super) module: Option<PathBuf>,
    pub(super) token: Option<String>,
    pub(super) pin_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidSession {
    pub(super) idle_timeout_mins: Option<u64>,
    pub(super) session_max_mins: Option<u64>,
    pub(super) grant_max_mins: Option<u64>,
    pub(super) warn_before_secs: Option<Vec<u64>>,
    pub(super) drain_secs: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidRecording {
    pub(super) durable: Option<bool>,
    pub(super) spool_reserve_mib: Option<u64>,
    pub(super) overflow_max_mib: Option<u64>,
    pub(super) recipients: Option<Vec<String>>,
    pub(super) hidden_recipients: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidRetention {
    pub(super) keep_days: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidLedger {
    pub(super) witnesses: Option<Vec<SaidWitness>>,
    pub(super) quorum: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaidWitness {
    pub(super) url: String,
    pub(super) key: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidApi {
    pub(super) listen: Option<String>,
    pub(super) url: Option<String>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) token_max_mins: Option<u64>,
    pub(super) notify_url: Option<String>,
    pub(super) notify_secret_file: Option<PathBuf>,
    pub(super) hooks: Option<Vec<SaidHook>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidPolicy {
    pub(super) dir: Option<PathBuf>,
    pub(super) time_zone: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidBreakGlass {
    pub(super) signers: Option<Vec<String>>,
    pub(super) threshold: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaidHook {
    pub(super) name: String,
    pub(super) secret_file: PathBuf,
    pub(super) may: Vec<HookMay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaidZone {
    pub(super) name: String,
    pub(super) networks: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SaidCredentialKind {
    File,
    Command,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaidCredential {
    pub(super) name: String,
    pub(super) kind: SaidCredentialKind,
    pub(super) folder: Option<PathBuf>,
    pub(super) command: Option<Vec<String>>,
    pub(super) timeout_secs: Option<u64>,
    pub(super) passphrase: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SaidLog {
    pub(super) format: Option<LogFormat>,
    pub(super) filter: Option<String>,
}

pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
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
