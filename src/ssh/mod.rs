//! The SSH rim: russh lives only here. It decodes, asks the kernel, and moves
//! bytes through the recorder; it decides nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::anomaly::Notes;
use crate::archive::Archive;
use crate::archive::vault::Vault;
use crate::break_glass::BreakGlass;
use crate::clock::Clock;
use crate::credentials::Sources;
use crate::keeper::Keeper;
use crate::kernel::admit::AdmissionTrust;
use crate::kernel::grant::Cidr;
use crate::kernel::id::NodeName;
use crate::kernel::policy::engine::Policies;
use crate::ledger::Ledger;
use crate::ledger::refusals::{self, Refusals};
use crate::notify::Teller;
use crate::policies::InForce;
use crate::recorder::Recorders;
use crate::registry::Registry;
use crate::search;
use crate::store::Store;
use crate::telemetry::Metrics;

mod admission;
pub mod algorithms;
mod answer;
mod anteroom;
mod approval;
mod archiving;
mod authentication;
mod banner;
pub mod break_glass;
mod broken;
mod budget;
mod channel;
mod channels;
mod checks;
mod consent;
mod consider;
mod control;
mod dialling;
mod digests;
mod doors;
mod enters;
mod enters_queue;
mod forward;
mod gated;
mod goodbye;
mod guard;
mod hook;
mod host_check;
mod inlet;
mod inner_hosts;
mod jump;
mod lane;
mod leg;
pub mod listen;
mod local;
mod login;
mod menu;
mod opening;
mod opens;
mod overflow;
mod patience;
mod penalties;
mod pipe;
mod present;
mod pump;
mod reasons;
mod record;
mod requests;
mod resize;
mod routes;
pub mod scan;
mod server;
mod session;
mod sieving;
mod spare;
mod target;
mod target_channel;
mod target_end;
mod transfers;
mod tunnel;

pub use algorithms::KeyExchange;
pub use approval::Wordless;
pub use inner_hosts::InnerHosts;
pub use local::sftp_server;
pub use present::Present;

/// Alarms that may be on their way into the ledger at once.
pub const ALARMS_MAX: usize = 64;

/// What of the configuration the rim needs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kex: KeyExchange,
    /// What clients are shown before they log in.
    pub banner: Option<String>,
    pub login_grace: Duration,
    /// Connections that have not logged in yet; past it the oldest of the
    /// busiest source makes way.
    pub unauthenticated_max: usize,
    pub connections_burst: u32,
    pub connections_per_second: u32,
    pub connections_exempt: Vec<Cidr>,
    /// Channels open at once on one connection.
    pub channels_max: usize,
    /// Sessions of one identity at once, without those under break-glass grants.
    pub sessions_per_identity: usize,
    /// Channels ever opened on one connection.
    pub opens_max: usize,
    /// Key offers on one connection, with or without a signature.
    pub offers_max: u32,
    /// Rejected signatures on one connection.
    pub rejections_max: usize,
    pub keepalive: Duration,
    pub keepalives_missed_max: usize,
    pub env_allow: Vec<String>,
    /// Subsystems beside sftp that are carried.
    pub subsystems: Vec<String>,
    pub session_ms_max: u64,
    /// Bytes that may wait in one direction of one channel.
    pub backlog_bytes_max: u64,
    pub target_timeout: Duration,
    /// A session with several channels keeps one target connection ready.
    pub spare: bool,
    /// What targets see us come from; none: the address of each dialled socket.
    pub target_sources: Vec<Cidr>,
    /// An Enter waits for the disk.
    pub durable: bool,
    /// Local targets may run as the server's own user: the demo only.
    pub local_as_server: bool,
    /// How a client names this bastion after `-J`.
    pub jump_host: String,
    /// Folders that local targets must not reach.
    pub denied_to_local: Vec<PathBuf>,
}

/// Everything a session needs of the house.
pub struct Gate {
    pub node: NodeName,
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub keeper: Arc<dyn Keeper>,
    /// Where secrets for targets come from that take no certificate.
    pub credentials: Arc<Sources>,
    pub registry: Arc<Registry>,
    pub recorders: Arc<Recorders>,
    pub ledger: Arc<Ledger>,
    pub archive: Arc<dyn Archive>,
    pub vault: Arc<Vault>,
    /// Told of each recording in the archive.
    pub search: search::Keeper,
    /// Swapped whole when an authority's key is.
    pub trust: RwLock<Arc<AdmissionTrust>>,
    /// Swapped whole by a reload; what is running keeps what it began with.
    pub settings: RwLock<Arc<Settings>>,
    /// Swapped whole; what is running is asked by those in force then.
    pub policies: Arc<InForce>,
    /// Grants made ready beforehand, and what was used of them.
    pub break_glass: Arc<BreakGlass>,
    /// Tells somebody's chat of an alarm.
    pub teller: Teller,
    /// Writes down who does what.
    pub notes: Notes,
    /// What the inventory says now of those who are in.
    pub present: RwLock<Present>,
    /// Clients that cannot be told to wait in words.
    pub wordless: Wordless,
    /// The host certificates of inner servers.
    pub inner_hosts: InnerHosts,
    /// Alarms that are being written into the ledger.
    pub alarms: Arc<Semaphore>,
    pub refusals: Mutex<Refusals>,
    pub metrics: Arc<Metrics>,
}

impl Gate {
    /// The settings in force now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other settings in force, for connections from now on.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Which authorities' certificates are looked at now.
    pub fn trust(&self) -> Arc<AdmissionTrust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Trusts other authorities, for logins from now on.
    pub fn set_trust(&self, trust: AdmissionTrust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }

    /// The policies in force now.
    pub fn policies(&self) -> Arc<Policies> {
        self.policies.now()
    }

    /// Puts other policies in force and asks about every session that is in.
    /// Answers with how many of them are to end.
    pub fn set_policies(&self, policies: Policies) -> usize {
        self.policies.put(policies);
        self.ask_again()
    }

    /// Says out loud what a rule with `@notify` decided: log and ledger.
    pub fn notify(self: &Arc<Self>, body: serde_json::Value) {
        tracing::warn!(%body, "a rule with @notify has decided");
        self.metrics.policy_alarms.inc();
        // Who asks on and on fills the log's lines, not the server's memory.
        let Ok(place) = self.alarms.clone().try_acquire_owned() else {
            return;
        };
        let gate = self.clone();
        tokio::spawn(async move {
            if let Err(error) = gate.ledger.append_event("alarm", body).await {
                tracing::error!(%error, "an alarm is not in the ledger");
            }
            drop(place);
        });
    }

    /// Counts a refusal before login; each minute's counts become ledger leaves.
    pub fn refused(self: &Arc<Self>, source: IpAddr, code: &'static str) {
        let now = self.clock.now().wall_ms;
        let done = self
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(source, code, now);
        self.log_refusals(done);
    }

    /// Logs the counts of a minute that is over.
    pub fn flush_refusals(self: &Arc<Self>) {
        let now = self.clock.now().wall_ms;
        let done = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).due(now);
        self.log_refusals(done);
    }

    fn log_refusals(self: &Arc<Self>, bodies: Vec<serde_json::Value>) {
        if bodies.is_empty() {
            return;
        }
        let gate = self.clone();
        tokio::spawn(async move {
            for body in bodies {
                if let Err(error) = gate.ledger.append_event(refusals::EVENT_KIND, body).await {
                    tracing::error!(%error, "refusals are not in the ledger");
                }
            }
        });
    }
}
