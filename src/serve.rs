//! Puts the house together and runs it: the order in which things start, and
//! the order in which they stop.
//!
//! Start: keys, store, ledger (held against the store's copy of its checkpoint
//! and shown to the witnesses), spool recovery (each left-over session is
//! sealed before anybody new comes in), lease, listeners, readiness. Stop: no
//! new sessions, time for the running ones, then the end for all of them,
//! each sealed; then the API and the ledger.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

use crate::api::{self, Api, Cutter, Door};
use crate::archive::files::Files;
use crate::archive::vault::Vault;
use crate::break_glass::BreakGlass;
use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::Sources;
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::{init, keys};
use crate::keeper::Keeper;
use crate::kernel::id::SessionId;
use crate::policies::{self, InForce};
use crate::recorder::{Kept, Recorders, recover_all};
use crate::registry::{LEASE_RENEW_MS, Registry};
use crate::retention::Retention;
use crate::search::{self, Index};
use crate::ssh::{ALARMS_MAX, Gate, InnerHosts, Settings, Wordless, break_glass, listen};
use crate::store::{self, Store};
use crate::telemetry::Metrics;

mod authorities;
mod evidence;
mod left_over;
mod outside;
mod process;
mod settings;

pub use evidence::STORE_SOURCE;
use left_over::{close_orphans, recovered, tell_unsealed};
use outside::{hooks, server_view, shown_at, teller, tls_door};
use settings::settings;

/// How long a lease renewal may take before the next one is tried.
const RENEW_WAIT: Duration = Duration::from_millis(LEASE_RENEW_MS);
/// At each so-manieth renewal a look is taken at the inventory: what it says of
/// those who are in.
const LOOK_EACH: u32 = 5;
/// Longest reason of a refused reload in the ledger, in characters.
const WHY_CHARS_MAX: usize = 512;
/// How often an unanswered renewal is tried again.
const RENEW_RETRY: Duration = Duration::from_millis(500);
/// How often a look is taken at what is left of the host certificate.
const HOST_CHECK: Duration = Duration::from_secs(24 * 60 * 60);
/// How long sealing may take once every session was told to end.
const SEAL_WAIT: Duration = Duration::from_secs(20);

/// What may differ from an ordinary server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Local targets may run as the server's own user: only in a demo.
    pub local_as_server: bool,
}

/// What the SSH listener shows.
struct HostKeys {
    key: russh::keys::PrivateKey,
    certificate: russh::keys::Certificate,
}

impl HostKeys {
    /// The key, with a certificate for the names of the configuration: the one
    /// that is there while it is good, else a new one.
    async fn of(key: russh::keys::PrivateKey, gate: &Gate, config: &Config) -> anyhow::Result<HostKeys> {
        let (dir, names) = (config.layout.keys(), config.ssh.host_names.clone());
        let certificate = init::host_certificate(&*gate.keeper, &dir, &config.node, names, &gate.clock)
            .await
            .context("the host certificate")?;
        Ok(HostKeys { key, certificate })
    }

    fn config(&self, settings: &Settings) -> listen::Served {
        listen::config(settings, vec![self.key.clone()], vec![self.certificate.clone()])
    }
}

/// A running server.
pub struct Running {
    pub ssh: SocketAddr,
    /// The API over TLS, if it is offered.
    pub https: Option<SocketAddr>,
    gate: Arc<Gate>,
    keeper: Arc<FileKeeper>,
    retention: Arc<Retention>,
    config: Config,
    mode: Mode,
    keys: HostKeys,
    russh: watch::Sender<listen::Served>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Puts the limits of a new configuration in force, for connections from
    /// now on. Validated first: nothing changes if anything in it is wrong.
    ///
    /// # Errors
    /// What only a restart can change, or what the file has wrong.
    pub async fn reload(&mut self) -> anyhow::Result<()> {
        let new = Config::load(&self.config.path)?;
        // Rules of its own do not turn into the default ones because a folder
        // is away for a moment.
        let own =
            policies::Policies::builtin().map_or(true, |builtin| builtin.digest() != self.gate.policies().digest());
        let policies = policies::load(&new.policy.dir, new.policy.dir_named || own)?;
        let old = &self.config;
        for (key, same) in [
            ("node", new.node == old.node),
            ("state", new.layout == old.layout),
            ("[store]", new.store == old.store),
            ("ssh.listen", new.ssh.listen == old.ssh.listen),
            (
                "ssh.connections_max",
                new.ssh.connections_max == old.ssh.connections_max,
            ),
            ("ssh.source_burst", new.ssh.source_burst == old.ssh.source_burst),
            ("ssh.source_per_sec", new.ssh.source_per_sec == old.ssh.source_per_sec),
            (
                "ssh.exempt_networks",
                new.ssh.exempt_networks == old.ssh.exempt_networks,
            ),
            ("session.drain_secs", new.session.drain == old.session.drain),
            ("[log]", new.log == old.log),
            (
                "session.idle_timeout_mins",
                new.session.idle_timeout == old.session.idle_timeout,
            ),
            (
                "session.warn_before_secs",
                new.session.warn_before == old.session.warn_before,
            ),
            ("session.grant_max_mins", new.session.grant_max == old.session.grant_max),
            (
                "recording.spool_reserve_mib",
                new.recording.spool_reserve_bytes == old.recording.spool_reserve_bytes,
            ),
            ("[retention]", new.retention == old.retention),
            ("[ledger]", new.ledger == old.ledger),
            ("[api]", new.api == old.api),
            ("keys.agent", new.keys.agent == old.keys.agent),
            ("[keys.pkcs11]", new.keys.pkcs11 == old.keys.pkcs11),
            ("policy.dir", new.policy.dir == old.policy.dir),
            (
                "turning [break_glass] on or off",
                new.break_glass.is_some() == old.break_glass.is_some(),
            ),
        ] {
            anyhow::ensure!(same, "{key} changes only with a restart");
        }
        let authorities = authorities::read(&self.keeper, &new).await?;
        let trust = authorities::trust(&authorities, &new)?;
        // Entry before effect, as for a grant.
        evidence::note_config(&self.gate.ledger, &new)
            .await
            .context("the ledger does not take the new configuration")?;
        evidence::note_policies(&self.gate.ledger, &policies)
            .await
            .context("the ledger does not take the new policies")?;
        evidence::note_keys(
            &self.gate.ledger,
            &authorities,
            &*self.keeper,
            self.keys.key.public_key(),
        )
        .await
        .context("the ledger does not take the keys in use")?;
        self.gate
            .break_glass
            .reload(new.break_glass.clone())
            .context("the break-glass grants")?;
        let before = self.keeper.put(authorities);
        let keys = match HostKeys::of(self.keys.key.clone(), &self.gate, &new).await {
            Ok(keys) => keys,
            Err(error) => {
                self.keeper.put(before);
                return Err(error);
            }
        };
        self.gate.set_trust(trust);
        self.gate.recorders.encrypt_to(new.recording.recipients.clone());
        self.gate
            .recorders
            .wrap_hidden_to(new.recording.hidden_recipients.clone());
        self.gate.credentials.put(&new.credentials);
        self.gate.set_settings(settings(&new, self.mode));
        self.gate.policies.put_place(place(&new));
        let ending = self.gate.set_policies(policies);
        if ending > 0 {
            tracing::info!(sessions = ending, "to end: the policies in force now do not allow them");
        }
        self.config = new;
        self.show(keys);
        Ok(())
    }

    /// Gives the host certificate a new term when little is left of the old one.
    ///
    /// # Errors
    /// When it cannot be signed or written; the old one stays.
    pub async fn renew_host_certificate(&mut self) -> anyhow::Result<()> {
        let keys = HostKeys::of(self.keys.key.clone(), &self.gate, &self.config).await?;
        if keys.certificate != self.keys.certificate {
            tracing::info!(serial = keys.certificate.serial(), "the host certificate was renewed");
            self.show(keys);
        }
        Ok(())
    }

    /// Deletes recordings whose time is over, in the background.
    fn expire_recordings(&self) {
        let retention = self.retention.clone();
        tokio::spawn(async move {
            match retention.round().await {
                Ok(round) if round.deleted.is_empty() => {}
                Ok(round) => tracing::info!(recordings = round.deleted.len(), "deleted: their time was over"),
                Err(error) => tracing::error!(%error, "recordings whose time is over are not deleted"),
            }
        });
    }

    /// To connections from now on.
    fn show(&mut self, keys: HostKeys) {
        self.russh.send_replace(keys.config(&self.gate.settings()));
        self.keys = keys;
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// What went wrong while it ran or stopped.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        self.task.await.context("the server's task")?
    }
}

/// Runs the server until it is told to stop (SIGTERM, SIGINT).
///
/// # Errors
/// Why it could not start, or what ended it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let api = config.layout.api_socket();
    let mut running = start(config, Mode::default()).await?;
    match running.https {
        Some(https) => println!("ready ssh={} api={} https={https}", running.ssh, api.display()),
        None => println!("ready ssh={} api={}", running.ssh, api.display()),
    }
    notify(&[sd_notify::NotifyState::Ready]);
    let mut daily = tokio::time::interval(HOST_CHECK);
    daily.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = daily.tick() => {
                running.expire_recordings();
                if let Err(error) = running.renew_host_certificate().await {
                    tracing::error!(error = %format!("{error:#}"), "the host certificate was not renewed");
                }
            }
            _ = interrupt.recv() => break,
            _ = reload.recv() => match running.reload().await {
                Ok(()) => tracing::info!("reloaded: in force for new connections"),
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::error!(error = why, "the new configuration is refused; nothing changed");
                    // Leaves before it may tell of what then did not come in force.
                    let body = serde_json::json!({ "refused": why.chars().take(WHY_CHARS_MAX).collect::<String>() });
                    if let Err(error) = running.gate.ledger.append_event("reload", body).await {
                        tracing::error!(%error, "the ledger does not take that the reload was refused");
                    }
                }
            },
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    running.stop().await
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "no service manager to notify");
    }
}

/// Starts everything; answers once it admits.
///
/// # Errors
/// Why it could not start.
pub async fn start(config: Config, mode: Mode) -> anyhow::Result<Running> {
    process::prepare();
    let clock = Clock::system();
    let layout = config.layout.clone();
    let rules = Rules {
        // A certificate begins a little before its grant.
        grant_ms_max: ms(config.session.grant_max).saturating_add(api::rules::BACKDATE_MS),
    };
    let held = FileKeeper::load_from(&layout.keys(), &config.keys, rules, clock.clone()).context("the keys")?;
    let held = Arc::new(held);
    let authorities = held.authorities();
    authorities.check().await.context("the keys")?;
    let keeper: Arc<dyn Keeper> = held.clone();
    let store: Arc<dyn Store> = store::open(&config.store).await.context("the store")?;
    let in_force = InForce::new(
        policies::load(&config.policy.dir, config.policy.dir_named)?,
        place(&config),
        clock.clone(),
    );
    let trusted = evidence::update_trust(&config, &*keeper, &clock)?;
    let ledger = Arc::new(evidence::open(&config, &*store, keeper.clone(), clock.clone()).await?);
    let archive = Arc::new(Files::open(&layout.archive()).context("the archive")?);
    let vault = Arc::new(Vault::new(archive.clone()));
    let index = Arc::new(Index::open(&layout.search(), clock.clone()).await?);
    let left_over = recover_all(&layout.spool(), &*keeper).await.context("the spool")?;
    let recorders = Recorders::start(
        &layout.spool(),
        keeper.clone(),
        clock.clone(),
        Kept::of(config.recording.spool_reserve_bytes, config.break_glass.is_some()),
    )?;
    recorders.encrypt_to(config.recording.recipients.clone());
    recorders.wrap_hidden_to(config.recording.hidden_recipients.clone());
    let retention = Arc::new(Retention::new(
        store.clone(),
        ledger.clone(),
        vault.clone(),
        index.clone(),
        clock.clone(),
        config.retention.keep,
    ));
    let registry = Registry::new(
        clock.clone(),
        config.session.idle_timeout.map(ms),
        config.session.warn_before.iter().copied().map(ms).collect(),
    );
    let metrics = Arc::new(Metrics::new());
    let teller = teller(&config.api, &clock)?;
    let glass = BreakGlass::open(&layout.break_glass(), config.node.clone(), config.break_glass.clone());
    let glass = Arc::new(glass.context("break-glass")?);
    let hears = glass.clone();
    registry.tell_of_revocations(Box::new(move |row| {
        let row = row.clone();
        hears.revoke(move |statement| break_glass::takes_back(&row, statement));
    }));
    let notes = crate::anomaly::Notes::start(store.clone());
    let credentials = Arc::new(Sources::new(&config.credentials));
    let places = search::Places::of(&layout);
    let search = search::Keeper::start(index, store.clone(), places);
    let gate = Arc::new(Gate {
        node: config.node.clone(),
        clock: clock.clone(),
        store: store.clone(),
        keeper: keeper.clone(),
        credentials: credentials.clone(),
        registry: registry.clone(),
        recorders,
        ledger: ledger.clone(),
        archive,
        vault,
        search: search.clone(),
        trust: RwLock::new(Arc::new(authorities::trust(&authorities, &config)?)),
        settings: RwLock::new(Arc::new(settings(&config, mode))),
        policies: in_force.clone(),
        break_glass: glass.clone(),
        teller: teller.clone(),
        notes: notes.clone(),
        present: RwLock::default(),
        wordless: Wordless::default(),
        inner_hosts: InnerHosts::default(),
        alarms: Arc::new(Semaphore::new(ALARMS_MAX)),
        refusals: Mutex::default(),
        metrics: metrics.clone(),
    });
    gate.ledger
        .append_event(
            "start",
            serde_json::json!({ "node": config.node, "version": env!("CARGO_PKG_VERSION") }),
        )
        .await
        .context("the ledger does not take the start")?;
    let host_key = keys::load_ssh_host(&layout.keys()).context("the SSH host key")?;
    evidence::note_keys(&ledger, &authorities, &*keeper, host_key.public_key())
        .await
        .context("the ledger does not take the keys in use")?;
    evidence::note_trust(&ledger, &trusted)
        .await
        .context("the ledger does not take what verifiers are told to trust")?;
    evidence::note_config(&ledger, &config)
        .await
        .context("the ledger does not take the configuration in force")?;
    evidence::note_policies(&ledger, &gate.policies())
        .await
        .context("the ledger does not take the policies in force")?;
    let watcher = evidence::Watcher::new(&gate, &config);
    let watching = tokio::spawn(async move { watcher.run().await });
    recovered(&gate, left_over).await;
    tell_unsealed(&gate).await;
    // Before what the last run left open is closed.
    gate.settle_break_glass().await;
    close_orphans(&gate).await;

    registry.renew(&*store, &config.node).await.context("the first lease")?;
    registry.watch().context("the gate's thread")?;
    let (stop, stopping) = watch::channel(false);
    let lease = tokio::spawn(lease(gate.clone()));

    let listener = TcpListener::bind(config.ssh.listen)
        .await
        .with_context(|| format!("cannot listen at {}", config.ssh.listen))?;
    let ssh = listener.local_addr()?;
    let keys = HostKeys::of(host_key, &gate, &config).await?;
    let (russh, russh_now) = watch::channel(keys.config(&gate.settings()));
    let accepting = tokio::spawn(listen::accept(gate.clone(), russh_now, listener, stopping.clone()));

    let socket = api::bind(&layout.api_socket()).context("the API's socket")?;
    let api = Api {
        store: store.clone(),
        keeper: keeper.clone(),
        journal: ledger.clone(),
        cutter: Arc::new(Cut { gate: gate.clone() }),
        retention: retention.clone(),
        search,
        clock: clock.clone(),
        metrics,
        layout,
        node: config.node.clone(),
        policies: in_force,
        notes,
        challenge_key: rand::random(),
        shown_at: shown_at(&config, &clock)?,
        token_ms_max: ms(config.api.token_max),
        server: server_view(&config, ssh.port(), &*keeper)?,
        limits: Arc::default(),
        hooks: hooks(&config.api.hooks)?.into(),
        teller,
        break_glass: glass,
        credentials,
        url: config.api.url.clone(),
        grant_ms_max: ms(config.session.grant_max),
        local_as_self: mode.local_as_server,
    };
    let mut doors = vec![Door::Socket(socket)];
    let mut https = None;
    if let Some(at) = config.api.listen {
        let (door, bound) = tls_door(&config, at).await?;
        doors.push(door);
        https = Some(bound);
    }
    let (api_stop, mut api_stopping) = watch::channel(false);
    let serving = tokio::spawn(api.serve(doors, async move {
        // The sender gone means the same as told.
        api_stopping.wait_for(|stop| *stop).await.ok();
    }));

    let drain = config.session.drain;
    let mut stopped = stopping;
    let task = tokio::spawn(async move {
        stopped.wait_for(|stop| *stop).await.ok();
        accepting.await.ok();
        registry.drain(false);
        if tokio::time::timeout(drain, registry.wait_empty()).await.is_err() {
            registry.drain(true);
            if tokio::time::timeout(SEAL_WAIT, registry.wait_empty()).await.is_err() {
                tracing::error!(
                    left = registry.count(),
                    "sessions were not sealed in time; the next start recovers them"
                );
            }
        }
        api_stop.send_replace(true);
        serving.await.ok();
        lease.abort();
        registry.stop();
        ledger
            .append_event("stop", serde_json::json!({}))
            .await
            .context("the ledger does not take the stop")?;
        let closed = ledger.close().await.context("closing the ledger");
        watching.await.ok();
        closed
    });
    Ok(Running {
        ssh,
        https,
        gate,
        keeper: held,
        retention,
        config,
        mode,
        keys,
        russh,
        stop,
        task,
    })
}

fn place(config: &Config) -> policies::Place {
    policies::Place {
        zones: config.policy.zones.clone(),
        time_zone: config.policy.time_zone.clone(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Renews the lease for as long as it runs.
async fn lease(gate: Arc<Gate>) {
    let mut looks = 0u32;
    loop {
        gate.flush_refusals();
        let renewing = gate.registry.renew(&*gate.store, &gate.node);
        let renewed = tokio::time::timeout(RENEW_WAIT, renewing).await;
        let wait = match renewed {
            Ok(Ok(())) => {
                let (gate, look) = (gate.clone(), looks.is_multiple_of(LOOK_EACH));
                looks = looks.wrapping_add(1);
                tokio::spawn(async move {
                    gate.settle_break_glass().await;
                    if look {
                        gate.look_at_inventory().await;
                    }
                });
                RENEW_WAIT
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the lease was not renewed");
                RENEW_RETRY
            }
            Err(_) => {
                tracing::error!("the store did not answer in time; the lease was not renewed");
                RENEW_RETRY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Carries a revocation from the API's store write to the sessions.
struct Cut {
    gate: Arc<Gate>,
}

impl Cutter for Cut {
    fn wait_cut<'a>(&'a self, sessions: &'a [SessionId], within: Duration) -> api::Answer<'a, Vec<SessionId>> {
        Box::pin(async move {
            if let Err(error) = self.gate.registry.pull(&*self.gate.store).await {
                tracing::error!(%error, "the revocation journal cannot be read");
            }
            self.gate.registry.wait_cut(sessions, within).await
        })
    }
}
