//! A session on the rim: opened step by step, ended in one way.
//!
//! The order of opening is the order of law 8: permit, registry, store row,
//! recording, ledger leaf (durable), and only then the target is dialled. A
//! crash after any step leaves a row without a seal, a spool that recovery
//! seals, or an open leaf that `ledger fsck` names; never a silent session.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "store errors other than a dead grant all mean that the store does not answer"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use portcullis_recording::event::{Direction, NoticeHow};
use portcullis_recording::{Event, Head, head};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::Gate;
use super::channel::{Channel, Down};
use super::gated::Kill;
use super::local;
use super::pump::{self, ClientEnd};
use super::target::{self, Dial, Dialled};
use crate::clock::{Clock, Now};
use crate::kernel::admit::Admitted;
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;
use crate::kernel::inventory::{Reach, Target};
use crate::kernel::policy::{self, Context, Denial, Permit};
use crate::kernel::request::Request;
use crate::kernel::session::{EndReason, Until};
use crate::recorder::{Recorder, RecorderError, Recovered};
use crate::registry::{Closed, Entry, Held, Ticket};
use crate::store::{SessionRow, StoreError};

/// How long the notice may take before the streams are cut, after an end order.
const NOTICE: Duration = Duration::from_millis(50);
/// OpenSSH drops channel output that it has not shown when it sees the disconnect.
const NOTICE_PAUSE: Duration = Duration::from_millis(30);
/// How long the disconnect message may take.
const GOODBYE: Duration = Duration::from_millis(15);
/// How long a client may take to read what is left at an ordinary end.
const LINGER: Duration = Duration::from_secs(10);
/// How long the store may take in the path of an opening or an end.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// What can be done to a session from outside, at any time and from any thread.
pub struct Control {
    clock: Clock,
    /// Ends both pumps of every channel.
    pub stop: Kill,
    reason: OnceLock<EndReason>,
    activity: AtomicU64,
    orders: Mutex<Vec<Order>>,
    ordered: Notify,
}

/// What the session's task is asked to do.
#[derive(Debug)]
enum Order {
    Warn(u64),
    ClockStep(WallMs, WallMs),
}

impl Control {
    fn new(clock: Clock) -> Arc<Control> {
        let activity = AtomicU64::new(clock.now().boot_ms);
        Arc::new(Control {
            clock,
            stop: Kill::new(),
            reason: OnceLock::new(),
            activity,
            orders: Mutex::new(Vec::new()),
            ordered: Notify::new(),
        })
    }

    /// Ends the session; the first reason counts.
    pub fn end_now(&self, reason: EndReason) {
        self.reason.get_or_init(|| reason);
        self.stop.fire();
        self.ordered.notify_one();
    }

    /// Books a byte moving in either direction.
    pub fn active(&self) {
        self.activity.store(self.clock.now().boot_ms, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.ordered.notify_one();
    }
}

impl Held for Control {
    fn end(&self, reason: EndReason) {
        self.end_now(reason);
    }
    fn warn(&self, ms: u64) {
        self.order(Order::Warn(ms));
    }
    fn clock_stepped(&self, before: WallMs, after: WallMs) {
        self.order(Order::ClockStep(before, after));
    }
    fn last_activity_boot_ms(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }
}

/// Why a session did not open. The text is for the user.
#[derive(Debug, Clone)]
pub struct NotOpened {
    pub code: &'static str,
    pub sentence: String,
}

/// Every channel by its number, with the client's side once it is open.
type Channels = BTreeMap<u32, (Arc<Channel>, Option<ClientEnd>)>;

/// A session that is being recorded.
pub struct Live {
    pub id: SessionId,
    pub gate: Arc<Gate>,
    pub admitted: Admitted,
    pub control: Arc<Control>,
    pub recorder: Recorder,
    /// Cuts the client's stream and, as its children, the targets'.
    pub kill: Kill,
    target: Target,
    next_channel: AtomicU32,
    channels: Mutex<Channels>,
    /// Logged in already, for the first channel.
    spare: Mutex<Option<Dialled>>,
    pumps: AtomicU32,
    pumps_left: Notify,
}

/// Opens a session for an admitted client.
///
/// # Errors
/// [`NotOpened`]; whatever was begun is ended and sealed.
pub async fn open(
    gate: Arc<Gate>,
    admitted: Admitted,
    peer: IpAddr,
    client_id: String,
    client: russh::server::Handle,
    kill: Kill,
) -> Result<Arc<Live>, NotOpened> {
    let refused = |code, sentence: String| NotOpened { code, sentence };
    let now = gate.clock.now();
    let settings = gate.settings();
    let permit = policy::decide(
        &admitted,
        Request::Connect,
        &Context {
            now: now.wall_ms,
            env_allowed: &settings.env_allow,
            store_alive: gate.registry.store_alive(),
        },
    )
    .map_err(|denial| refused(denial.code, denial.sentence))?;
    let target = bounded(gate.store.target(&admitted.destination().target))
        .await
        .map_err(|e| refused("store_unavailable", e.to_string()))?
        .ok_or_else(|| refused("target_unknown", "the target is not in the inventory any more".into()))?;
    if !target.logins.contains(&admitted.destination().login) {
        return Err(refused(
            "login_unknown",
            "the login is not one of the target's any more".into(),
        ));
    }

    let id = SessionId(crate::entropy::id());
    let control = Control::new(gate.clock.clone());
    let ticket = gate
        .registry
        .enter(Entry {
            id,
            grant: admitted.grant(),
            identity: admitted.identity().clone(),
            destination: admitted.destination().clone(),
            until: Until::new(admitted.until_ms(), now.wall_ms, now.boot_ms),
            oldest_boot_ms: now.boot_ms.saturating_add(gate.settings().session_ms_max),
            held: control.clone(),
        })
        .map_err(|closed| match closed {
            Closed::Draining => refused("drain", EndReason::Drain.sentence()),
            Closed::LeaseLost => refused("store_unavailable", EndReason::LeaseLost.sentence()),
        })?;

    let row = SessionRow {
        id,
        node: gate.node.clone(),
        grant: admitted.grant(),
        identity: admitted.identity().clone(),
        destination: admitted.destination().clone(),
        source: peer.to_string(),
        started_ms: now.wall_ms,
        until_ms: admitted.until_ms(),
        ended_ms: None,
        end_code: None,
    };
    bounded(gate.store.open_session(&row, now.wall_ms))
        .await
        .map_err(|error| match error {
            StoreError::GrantNotLive(why) => refused(why, format!("the grant is not live any more ({why})")),
            other => refused("store_unavailable", other.to_string()),
        })?;

    let recorder = match record(&gate, &admitted, &target, id, peer, client_id, now, &control).await {
        Ok(recorder) => recorder,
        Err(error) => {
            let code = "recorder_failed";
            bounded(gate.store.close_session(id, gate.clock.now().wall_ms, code))
                .await
                .ok();
            return Err(refused(code, format!("the session cannot be recorded: {error}")));
        }
    };

    let live = Arc::new(Live {
        id,
        gate,
        admitted,
        control,
        recorder,
        kill,
        target,
        next_channel: AtomicU32::new(1),
        channels: Mutex::new(BTreeMap::new()),
        spare: Mutex::new(None),
        pumps: AtomicU32::new(0),
        pumps_left: Notify::new(),
    });
    tracing::info!(session = %live.id, identity = %live.admitted.identity(),
        destination = %live.admitted.destination(), source = %peer, "session opened");
    live.gate.metrics.sessions.inc();
    live.gate.metrics.sessions_active.inc();
    // Its own task first: an end order that comes while the target is being
    // dialled is served at once.
    tokio::spawn(live.clone().run(ticket, client));
    let begun = match live.control.stop.guard(live.begin(&permit)).await {
        Some(begun) => begun,
        None => Err(live.reason()),
    };
    match begun {
        Ok(()) => Ok(live),
        Err(reason) => {
            let sentence = reason.sentence();
            let code = reason.code();
            live.control.end_now(reason);
            Err(refused(code, sentence))
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one recording's head needs them all, once")]
async fn record(
    gate: &Arc<Gate>,
    admitted: &Admitted,
    target: &Target,
    id: SessionId,
    peer: IpAddr,
    client_id: String,
    now: Now,
    control: &Arc<Control>,
) -> Result<Recorder, RecorderError> {
    let head = Head {
        session_id: id.0,
        node: gate.node.to_string(),
        opened_wall_ms: now.wall_ms,
        target: target.name.to_string(),
        login: admitted.destination().login.to_string(),
        identity: admitted.identity().to_string(),
        grant_id: admitted.grant().to_string(),
        grant_until_wall_ms: admitted.until_ms(),
        cert_sha256: admitted.certificate_sha256(),
        cert_serial: admitted.certificate_serial(),
        cert_key_id: admitted.certificate_key_id().to_owned(),
        source: peer.to_string(),
        policy_digest: admitted.policy_digest(),
        client_id,
        form: head::Form::Direct,
        kind: match target.reach {
            Reach::Ssh { .. } => head::TargetKind::Ssh,
            Reach::Local { .. } => head::TargetKind::Local,
        },
        // A proof counts only for the ledger that the recording names.
        ledger_origin: gate.ledger.origin().to_owned(),
        ..Head::default()
    };
    let failed = control.clone();
    gate.recorders
        .open(
            head,
            Box::new(move |why| failed.end_now(EndReason::RecorderFailed(why))),
        )
        .await
}

/// A store call that does not hang an opening.
pub(super) async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STORE_WAIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {} s",
            STORE_WAIT.as_secs()
        ))),
    }
}

/// Counts a running pump; the end waits for all of them.
pub struct PumpGuard(Arc<Live>);

impl Drop for PumpGuard {
    fn drop(&mut self) {
        self.0.pumps.fetch_sub(1, Ordering::SeqCst);
        self.0.pumps_left.notify_waiters();
    }
}

impl Live {
    /// Books a pump.
    pub fn pump(self: &Arc<Self>) -> PumpGuard {
        self.pumps.fetch_add(1, Ordering::SeqCst);
        PumpGuard(self.clone())
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records one event; a recorder that cannot ends the session.
    pub fn record(&self, channel: u32, event: Event<'_>) -> bool {
        match self.recorder.event(channel, event) {
            Ok(()) => true,
            Err(error) => {
                self.control.end_now(EndReason::RecorderFailed(error.to_string()));
                false
            }
        }
    }

    /// Asks policy about one request and records both the request and the decision.
    ///
    /// # Errors
    /// The denial.
    pub fn decide(&self, channel: u32, request: Request, detail: &[u8], want: &str) -> Result<Permit, Denial> {
        let action = request.action();
        self.record(
            channel,
            Event::Request {
                kind: action.into(),
                detail: detail.into(),
                want: want.into(),
            },
        );
        let settings = self.gate.settings();
        let decision = policy::decide(
            &self.admitted,
            request,
            &Context {
                now: self.gate.clock.now().wall_ms,
                env_allowed: &settings.env_allow,
                store_alive: self.gate.registry.store_alive(),
            },
        );
        let (allowed, rule, code) = match &decision {
            Ok(permit) => (true, permit.rule(), "permitted"),
            Err(denial) => (false, denial.rule, denial.code),
        };
        self.gate.metrics.decision(action, allowed);
        let recorded = self.record(
            channel,
            Event::Decision {
                action: action.into(),
                allowed,
                rule: rule.into(),
                code: code.into(),
            },
        );
        if !recorded {
            return Err(Denial {
                rule: "gate.recorder",
                code: "recorder_failed",
                sentence: "the session cannot be recorded any more".into(),
            });
        }
        decision
    }

    /// Opens the ledger and dials the target.
    async fn begin(&self, permit: &Permit) -> Result<(), EndReason> {
        let opened = self
            .gate
            .ledger
            .append_open(self.recorder.open_leaf().clone(), self.recorder.head().salt)
            .await;
        opened.map_err(|error| EndReason::RecorderFailed(format!("the ledger does not answer: {error}")))?;
        self.record(
            0,
            Event::Decision {
                action: "connect".into(),
                allowed: true,
                rule: permit.rule().into(),
                code: "permitted".into(),
            },
        );
        if let Some(dialled) = self.dial(permit).await? {
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(dialled);
        }
        Ok(())
    }

    /// A logged-in target connection, or nothing for a local target.
    async fn dial(&self, permit: &Permit) -> Result<Option<Dialled>, EndReason> {
        match &self.target.reach {
            Reach::Local { .. } => Ok(None),
            Reach::Ssh { addr, proof } => {
                let dial = Dial {
                    addr: addr.clone(),
                    proof: proof.clone(),
                    login: self.admitted.destination().login.to_string(),
                    key_id: format!(
                        "{} grant={} session={}",
                        self.admitted.identity(),
                        self.admitted.grant(),
                        self.id
                    ),
                    permits_pty: self.admitted.permits_pty(),
                    until_ms: self.admitted.until_ms(),
                    timeout: self.gate.settings().target_timeout,
                };
                let now = self.gate.clock.now().wall_ms;
                target::dial(permit, &dial, &*self.gate.keeper, now, &self.kill)
                    .await
                    .map(Some)
                    .map_err(|error| EndReason::TargetLost(error.to_string()))
            }
        }
    }

    /// Opens one session channel: policy, the target's side, the pumps.
    ///
    /// # Errors
    /// A sentence for the channel-open failure.
    pub async fn open_channel(
        self: &Arc<Self>,
        client: ClientEnd,
        place: OwnedSemaphorePermit,
    ) -> Result<Arc<Channel>, String> {
        if self.control.stop.fired() {
            return Err(self.reason().sentence());
        }
        let number = self.next_channel.fetch_add(1, Ordering::SeqCst);
        self.record(
            number,
            Event::ChannelOpen {
                kind: "session".into(),
                detail: "".into(),
            },
        );
        let _permit = self
            .decide(number, Request::Channel, b"", "")
            .map_err(|denial| denial.sentence)?;
        let stop = self.control.stop.child();
        let channel = Arc::new(Channel::new(
            number,
            self.gate.recorders.spool_folder(),
            self.gate.settings().backlog_bytes_max,
            stop,
        ));
        self.channels().insert(number, (channel.clone(), None));
        let end = match &self.target.reach {
            Reach::Local { command, run_as } => pump::TargetEnd::Local(local::LocalEnd::new(
                local::Program {
                    command: command.clone(),
                    run_as: run_as.clone(),
                },
                self.clone(),
                channel.clone(),
            )),
            Reach::Ssh { .. } => {
                let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
                let dialled = match spare.filter(Dialled::alive) {
                    Some(spare) => spare,
                    None => {
                        let permit = self
                            .decide(number, Request::Connect, b"", "a further channel")
                            .map_err(|denial| denial.sentence)?;
                        self.dial(&permit)
                            .await
                            .map_err(|reason| reason.sentence())?
                            .ok_or_else(|| "the target cannot be dialled".to_owned())?
                    }
                };
                let opened = dialled.open(channel.clone(), self.control.clone()).await;
                pump::TargetEnd::Ssh(opened.map_err(|error| error.to_string())?)
            }
        };
        if self.control.stop.fired() {
            return Err(self.reason().sentence());
        }
        self.channels().insert(number, (channel.clone(), Some(client.clone())));
        pump::start(self.clone(), channel.clone(), client, end, place);
        Ok(channel)
    }

    fn reason(&self) -> EndReason {
        self.control.reason.get().cloned().unwrap_or(EndReason::ClientLost)
    }

    /// The client's connection is gone.
    pub fn client_gone(&self) {
        // A quick client is gone before the pump that sent CLOSE has stopped.
        let over = |(channel, end): &(Arc<Channel>, Option<ClientEnd>)| {
            channel.stop.fired() || end.as_ref().is_some_and(ClientEnd::closed)
        };
        let clean = self.channels().values().all(over);
        self.control.end_now(match clean {
            true => EndReason::Exit,
            false => EndReason::ClientLost,
        });
    }

    /// The session's own task: orders until the end, then the end.
    async fn run(self: Arc<Self>, ticket: Ticket, client: russh::server::Handle) {
        while !self.control.stop.fired() {
            self.control.ordered.notified().await;
            let orders = std::mem::take(&mut *self.control.orders.lock().unwrap_or_else(PoisonError::into_inner));
            for order in orders {
                match order {
                    Order::Warn(left_ms) => self.warn(left_ms),
                    Order::ClockStep(before, after) => {
                        self.record(
                            0,
                            Event::ClockStep {
                                wall_before_ms: before,
                                wall_after_ms: after,
                            },
                        );
                    }
                }
            }
        }
        let reason = self.reason();
        if reason.is_cut() {
            self.say_goodbye(&reason, &client).await;
        } else if let EndReason::TargetLost(_) = reason {
            // The client gets what was delivered before, then the reason.
            tokio::time::timeout(LINGER, self.say_goodbye(&reason, &client))
                .await
                .ok();
        }
        self.kill.fire();
        self.wait_pumps().await;
        ticket.cut();
        self.finish(&reason).await;
        drop(ticket);
    }

    async fn wait_pumps(&self) {
        loop {
            let left = self.pumps_left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.pumps.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }

    fn warn(&self, left_ms: u64) {
        let text = match left_ms.div_ceil(1000) {
            60 => "this grant ends in 1 minute".to_owned(),
            secs if secs % 60 == 0 => format!("this grant ends in {} minutes", secs / 60),
            secs => format!("this grant ends in {secs} seconds"),
        };
        for (channel, _) in self.channels().values() {
            if channel.is_terminal() && !channel.stop.fired() {
                channel.down.control(Down::Notice(text.clone())).ok();
            }
        }
    }

    /// The last line, a pause for the client to show it, the disconnect.
    async fn say_goodbye(&self, reason: &EndReason, client: &russh::server::Handle) {
        let sentence = reason.sentence();
        let ends: Vec<(Arc<Channel>, ClientEnd)> = self
            .channels()
            .values()
            .filter_map(|(channel, end)| end.clone().map(|end| (channel.clone(), end)))
            .filter(|(_, end)| !end.closed())
            .collect();
        let lines = async {
            for (channel, end) in &ends {
                let terminal = channel.is_terminal();
                let line = match terminal {
                    true => {
                        let screen = channel.screen();
                        // An open sequence is cancelled, the alternate screen left.
                        let cancel = if screen.is_ground() { "" } else { "\x18" };
                        let leave = if screen.is_alternate() {
                            "\x1b[?1049l\x1b[0m\x1b[?25h"
                        } else {
                            "\x1b[0m"
                        };
                        format!("{cancel}{leave}\r\nportcullis: {sentence}\r\n")
                    }
                    false => format!("portcullis: {sentence}\n"),
                };
                if !self.record_notice(channel.number, line.as_bytes(), NoticeHow::Stderr) {
                    // Nothing may reach the client unrecorded; the disconnect
                    // message below carries no payload.
                    continue;
                }
                super::channel::count(&channel.account.injected, line.len());
                end.stderr(line.into_bytes().into()).await;
            }
        };
        let told = tokio::time::timeout(NOTICE, lines).await.is_ok();
        if told && !ends.is_empty() {
            tokio::time::sleep(NOTICE_PAUSE).await;
        }
        let message = client.disconnect(russh::Disconnect::ByApplication, sentence, String::new());
        tokio::time::timeout(GOODBYE, message).await.ok();
        tokio::time::sleep(GOODBYE).await;
    }

    fn record_notice(&self, channel: u32, bytes: &[u8], how: NoticeHow) -> bool {
        self.recorder
            .event(
                channel,
                Event::Notice {
                    bytes: bytes.into(),
                    how,
                },
            )
            .is_ok()
    }

    /// Accounts, the end's reason, the seal, the ledger's seal leaf, the store.
    async fn finish(&self, reason: &EndReason) {
        let channels: Vec<Arc<Channel>> = self.channels().values().map(|(channel, _)| channel.clone()).collect();
        for channel in &channels {
            channel.abandon();
            let account = channel.accounts(0);
            for (direction, bytes) in [
                (Direction::ToTarget, account.undelivered_up),
                (Direction::ToClient, account.undelivered_down),
            ] {
                if bytes > 0 {
                    self.record(channel.number, Event::Undelivered { direction, bytes });
                }
            }
        }
        let accounts = |recorder: &Recorder| {
            channels
                .iter()
                .map(|channel| channel.accounts(recorder.hidden_bytes(channel.number)))
                .collect()
        };
        let sentence = reason.sentence();
        let sealed = self.recorder.finish(accounts, reason.code(), &sentence).await;
        let ended = self.gate.clock.now().wall_ms;
        let sealed = match sealed {
            Ok(finished) => Some(finished),
            Err(error) => {
                tracing::error!(session = %self.id, %error, "the session could not seal itself; the node seals what was taken");
                match self.recorder.salvage(&*self.gate.keeper, reason.code()).await {
                    Recovered::Finished(finished) => Some(finished),
                    Recovered::Unreadable { folder, why } => {
                        tracing::error!(session = %self.id, folder = %folder.display(), why, "not sealed; the next start tries again");
                        None
                    }
                }
            }
        };
        if let Some(finished) = sealed {
            let bytes = finished.bytes;
            match self.gate.archive_sealed(finished, ended).await {
                Ok(()) => {
                    tracing::info!(session = %self.id, reason = reason.code(), bytes, "session sealed");
                }
                Err(error) => {
                    tracing::error!(session = %self.id, %error, "sealed but not archived yet; the next start completes it");
                }
            }
        }
        if let Err(error) = bounded(self.gate.store.close_session(self.id, ended, reason.code())).await {
            tracing::error!(session = %self.id, %error, "the store did not take the session's end");
        }
        self.gate.metrics.sessions_active.dec();
    }
}
