//! What the SSH rim is told of the configuration.

use super::{Mode, ms};
use crate::config::{Config, Kex};
use crate::ssh::{KeyExchange, Settings};

/// Channels of one connection over its life: each has a line in the
/// recording's accounts, which hold 4096.
const OPENS_MAX: usize = 4000;

/// The rim's settings from the configuration's.
pub fn settings(config: &Config, mode: Mode) -> Settings {
    let ssh = &config.ssh;
    Settings {
        kex: match ssh.kex {
            Kex::Default => KeyExchange::Default,
            Kex::PqOnly => KeyExchange::PostQuantumOnly,
        },
        banner: ssh.banner.clone(),
        login_grace: ssh.login_grace,
        unauthenticated_max: ssh.connections_max as usize,
        connections_burst: ssh.source_burst,
        connections_per_second: ssh.source_per_sec,
        connections_exempt: ssh.exempt_networks.clone(),
        channels_max: ssh.channels_max as usize,
        sessions_per_identity: ssh.sessions_per_identity as usize,
        opens_max: OPENS_MAX,
        offers_max: ssh.auth_probes_max,
        rejections_max: ssh.auth_attempts_max as usize,
        keepalive: ssh.keepalive,
        keepalives_missed_max: ssh.keepalive_misses_max as usize,
        env_allow: ssh.env_allow.clone(),
        subsystems: ssh.subsystems.clone(),
        session_ms_max: ms(config.session.session_max),
        backlog_bytes_max: config.recording.overflow_bytes_max,
        target_timeout: ssh.target_connect_timeout,
        spare: ssh.spare,
        target_sources: ssh.target_source_address.clone(),
        durable: config.recording.durable,
        local_as_server: mode.local_as_server,
        jump_host: ssh.jump_host(),
        denied_to_local: vec![config.layout.root().to_owned()],
    }
}
