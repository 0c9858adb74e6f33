//! A session on the rim: what it has open, and the one way in which it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use portcullis_recording::Event;
use portcullis_recording::event::{ChannelAccount, Direction};
use tokio::sync::Notify;

use super::Gate;
use super::banner::Banner;
use super::budget::Budget;
use super::channel::Channel;
use super::control::{Control, Order};
use super::forward::Forwards;
use super::gated::Kill;
use super::goodbye::in_words;
use super::opens::ClientSide;
use super::patience::Patience;
use super::pump::ClientEnd;
use super::spare::Spare;
use crate::kernel::admit::Admitted;
use crate::kernel::grant::{Capability, WallMs};
use crate::kernel::habit::History;
use crate::kernel::id::SessionId;
use crate::kernel::inventory::Target;
use crate::kernel::policy::facts::Facts;
use crate::kernel::policy::obligations::{Obligations, RecordMode};
use crate::kernel::policy::{self, Context, Denial, Permit};
use crate::kernel::request::Request;
use crate::kernel::session::EndReason;
use crate::recorder::{Finished, Recorder, Recovered};
use crate::registry::Ticket;

/// How long a client may take to read what is left at an ordinary end.
const LINGER: Duration = Duration::from_secs(10);

/// One part in so many of what may wait is the forwards': one that stalls ends
/// alone, and leaves the programs beside it theirs.
const FORWARDS_SHARE: u64 = 4;

/// The channels by their numbers until they are over, with the client's side
/// of each once it is open.
pub(super) type Channels = BTreeMap<u32, (Arc<Channel>, Option<ClientEnd>)>;

/// A session that is being recorded.
pub struct Live {
    pub id: SessionId,
    pub gate: Arc<Gate>,
    pub admitted: Admitted,
    pub control: Arc<Control>,
    pub recorder: Recorder,
    /// Cuts the client's stream and, as its children, the targets'.
    pub kill: Kill,
    pub target: Target,
    /// The bastions before it, in the order in which they are dialled.
    pub hops: Vec<Target>,
    /// What the target says before it lets us in.
    pub(super) banner: Banner,
    /// A bastion that failed on the way is in the ledger.
    pub(super) bastion_noted: AtomicBool,
    /// Its target connection for forwards, and what the client listens to there.
    pub(super) forwards: Forwards,
    /// Where channels towards the client are opened.
    pub(super) client: OnceLock<ClientSide>,
    /// What policy knows of the session, whatever is asked in it.
    facts: Facts,
    /// Who asked for its grant, if somebody did.
    pub(super) sponsor: Option<String>,
    /// What the policies that let it in demand.
    held_to: Obligations,
    patience: Patience,
    /// What its holder has done before.
    history: History,
    pub(super) next_channel: AtomicU32,
    channels: Mutex<Channels>,
    /// The accounts of those that are over.
    over: Mutex<Vec<ChannelAccount>>,
    /// Bytes that may wait in all its lanes, and the forwards' part of them.
    pub(super) waiting: Budget,
    pub(super) waiting_forwards: Budget,
    /// Logged in already, for the next channel.
    pub(super) spare: Spare,
    pumps: AtomicU32,
    pumps_left: Notify,
}

/// What stands in the open part of a recording: input that was not echoed is
/// in neither leg of it.
fn without_hidden(mut account: ChannelAccount, recorder: &Recorder) -> ChannelAccount {
    let hidden = recorder.hidden_bytes(account.channel);
    account.from_client = account.from_client.saturating_sub(hidden);
    account.to_target = account.to_target.saturating_sub(hidden);
    account
}

/// Counts a running pump; the end waits for all of them.
pub struct PumpGuard(Arc<Live>);

impl Drop for PumpGuard {
    fn drop(&mut self) {
        self.0.pumps.fetch_sub(1, Ordering::SeqCst);
        self.0.pumps_left.notify_waiters();
    }
}

/// What a session opens with, beside its recording.
pub struct Opened {
    pub id: SessionId,
    pub admitted: Admitted,
    pub target: Target,
    pub hops: Vec<Target>,
    pub facts: Facts,
    pub sponsor: Option<String>,
    pub held_to: Obligations,
    pub history: History,
}

impl Live {
    /// A session whose target is not dialled yet.
    pub fn new(opened: Opened, gate: Arc<Gate>, control: Arc<Control>, recorder: Recorder, kill: Kill) -> Arc<Live> {
        let waiting = Budget::new(gate.settings().backlog_bytes_max);
        Arc::new(Live {
            waiting_forwards: waiting.part(waiting.max() / FORWARDS_SHARE),
            waiting,
            banner: Banner::default(),
            bastion_noted: AtomicBool::new(false),
            forwards: Forwards::default(),
            client: OnceLock::new(),
            id: opened.id,
            gate,
            admitted: opened.admitted,
            control,
            recorder,
            kill,
            target: opened.target,
            hops: opened.hops,
            facts: opened.facts,
            sponsor: opened.sponsor,
            held_to: opened.held_to,
            patience: Patience::default(),
            history: opened.history,
            next_channel: AtomicU32::new(1),
            channels: Mutex::new(BTreeMap::new()),
            over: Mutex::default(),
            spare: Spare::default(),
            pumps: AtomicU32::new(0),
            pumps_left: Notify::new(),
        })
    }

    /// Books a pump.
    pub fn pump(self: &Arc<Self>) -> PumpGuard {
        self.pumps.fetch_add(1, Ordering::SeqCst);
        PumpGuard(self.clone())
    }

    pub(super) fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> MutexGuard<'_, Vec<ChannelAccount>> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel on which nothing moves any more: only its account is kept. At
    /// the session's end they stay, for their last line.
    pub(super) fn retire(&self, channel: &Channel) {
        let mut channels = self.channels();
        if self.control.stop.fired() || channels.remove(&channel.number).is_none() {
            return;
        }
        let account = self.settle(channel);
        self.over().push(account);
    }

    /// What waits in it goes nowhere any more; its account, unechoed input in it.
    fn settle(&self, channel: &Channel) -> ChannelAccount {
        channel.abandon();
        let account = channel.account();
        for (direction, bytes) in [
            (Direction::ToTarget, account.undelivered_up),
            (Direction::ToClient, account.undelivered_down),
        ] {
            if bytes > 0 {
                self.record(channel.number, Event::Undelivered { direction, bytes });
            }
        }
        account
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
        if self.control.stop.fired() {
            // The session is over; who floods it to the last moment fills nothing.
            return Err(Denial {
                rule: "gate.session".to_owned(),
                code: "session_over",
                sentence: self.reason().sentence(),
                notify: false,
                end: false,
            });
        }
        self.record(
            channel,
            Event::Request {
                kind: action.into(),
                detail: detail.into(),
                want: want.into(),
            },
        );
        let decision = self.consider(channel, request);
        // What moves files or reads lines was noted when it started; each of them says no more of habits.
        if let Ok(permit) = &decision
            && !matches!(permit.request(), Request::Transfer(_) | Request::Command(_))
        {
            self.note_use(permit);
        }
        let (allowed, rule, code, notify) = match &decision {
            Ok(permit) => (true, permit.rule(), "permitted", permit.obligations().notify),
            Err(denial) => (false, denial.rule.as_str(), denial.code, denial.notify),
        };
        self.gate.metrics.decision(action, allowed);
        if !allowed {
            self.lose_patience();
        }
        if notify {
            self.gate.notify(serde_json::json!({
                "session": self.id, "identity": self.admitted.identity(), "destination": self.admitted.destination(),
                "action": action, "allowed": allowed, "rule": rule,
            }));
        }
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
                rule: "gate.recorder".to_owned(),
                code: "recorder_failed",
                sentence: "the session cannot be recorded any more".into(),
                notify: false,
                end: false,
            });
        }
        decision
    }

    /// What policy says to one request now; nothing is recorded.
    ///
    /// # Errors
    /// The denial.
    pub fn consider(&self, channel: u32, request: Request) -> Result<Permit, Denial> {
        let settings = self.gate.settings();
        let now = self.gate.clock.now().wall_ms;
        let Some(facts) = self.gate.fresh(self.facts.clone()) else {
            // The registry is told to end it; nothing more goes through meanwhile.
            return Err(Denial {
                rule: "gate.inventory".to_owned(),
                code: "disabled",
                sentence: "who holds this grant, or where it leads, is disabled".into(),
                notify: false,
                end: false,
            });
        };
        let facts = Facts {
            terminal: self
                .channels()
                .get(&channel)
                .is_some_and(|(open, _)| open.is_terminal()),
            ..facts
        };
        policy::decide(
            &self.admitted,
            request,
            &Context {
                now,
                env_allowed: &settings.env_allow,
                subsystems: &settings.subsystems,
                store_alive: self.gate.registry.store_alive(),
                policies: &self.gate.policies(),
                facts: &facts,
                history: &self.history,
            },
        )
    }

    /// What policy knows of it, whatever is asked in it.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether policy has anything to say to the lines of its terminals.
    pub(super) fn asks_about_commands(&self) -> bool {
        let facts = self.gate.fresh(self.facts.clone());
        facts.is_none_or(|facts| self.gate.policies().ask_about_commands(&facts))
    }

    /// Writes down what a permitted request used, and what was unusual about it.
    pub fn note_use(&self, permit: &Permit) {
        let Some((facts, unusual)) = permit.used() else {
            return;
        };
        self.gate.notes.used(facts);
        self.gate
            .notes
            .unusual(self.admitted.identity(), Some(self.id), unusual, facts.now_ms);
    }

    /// Writes down how many bytes it moved.
    fn note_volume(&self, bytes: u64, at_ms: WallMs) {
        let target = self.target.name.as_str();
        let unusual = self.history.judge_volume(self.admitted.identity(), target, bytes);
        let notes = &self.gate.notes;
        notes.moved(self.admitted.identity(), target, bytes, at_ms);
        notes.unusual(self.admitted.identity(), Some(self.id), &unusual, at_ms);
    }

    /// Whether an Enter waits for the disk.
    pub fn durable(&self) -> bool {
        self.held_to.record >= RecordMode::Durable || self.gate.settings().durable
    }

    /// Records a request that is not even put before policy, because of what
    /// the channel is doing. It counts as any other refusal.
    pub fn refuse(&self, channel: u32, request: &Request, detail: &[u8], want: &str) {
        let action = request.action();
        self.record(
            channel,
            Event::Request {
                kind: action.into(),
                detail: detail.into(),
                want: want.into(),
            },
        );
        self.gate.metrics.decision(action, false);
        self.record(
            channel,
            Event::Decision {
                action: action.into(),
                allowed: false,
                rule: "gate.channel".into(),
                code: "out_of_place".into(),
            },
        );
        self.lose_patience();
    }

    /// Counts a refusal; the session ends at one too many.
    fn lose_patience(&self) {
        if self.patience.lost(self.gate.clock.now().boot_ms) {
            let why = "too many refused requests";
            self.control.end_now(EndReason::Protocol(why.into()));
        }
    }

    /// Opens the ledger and dials the target.
    pub async fn begin(&self, permit: &Permit) -> Result<(), EndReason> {
        // The head first: an opening that the ledger keeps is never one that no spool can answer for.
        let synced = self.recorder.sync().await;
        synced.map_err(|error| EndReason::RecorderFailed(error.to_string()))?;
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
            self.spare.put(dialled);
        }
        Ok(())
    }

    /// What a certificate towards the target carries: what the holder may ask for.
    pub(super) fn extensions(&self) -> Vec<&'static str> {
        let may = |capability| self.admitted.capabilities().contains(&capability);
        [
            ("permit-pty", self.admitted.permits_pty()),
            ("permit-port-forwarding", may(Capability::Forward)),
            ("permit-agent-forwarding", may(Capability::Agent)),
            ("permit-X11-forwarding", may(Capability::X11)),
        ]
        .into_iter()
        .filter_map(|(extension, permitted)| permitted.then_some(extension))
        .collect()
    }

    pub fn reason(&self) -> EndReason {
        self.control.reason.get().cloned().unwrap_or(EndReason::ClientLost)
    }

    /// The client's connection is gone.
    pub fn client_gone(&self) {
        // A quick client is gone before the pump that sent CLOSE has stopped.
        let over = |(channel, end): &(Arc<Channel>, Option<ClientEnd>)| {
            channel.stop.fired() || end.as_ref().is_some_and(ClientEnd::ended)
        };
        let clean = self.channels().values().all(over);
        self.control.end_now(match clean {
            true => EndReason::Exit,
            false => EndReason::ClientLost,
        });
    }

    /// The session's own task: orders until the end, then the end.
    pub async fn run(self: Arc<Self>, ticket: Ticket, client: russh::server::Handle) {
        while !self.control.stop.fired() {
            self.control.ordered.notified().await;
            let orders = self.control.take_orders();
            for order in orders {
                match order {
                    Order::Warn(left_ms) => self.tell(&format!("this grant ends in {}", in_words(left_ms))),
                    Order::PolicyEnds(rule, left_ms) => self.tell(&format!(
                        "the policies changed: by rule {rule} this session ends in {}",
                        in_words(left_ms)
                    )),
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
        // Boxed, as all that comes once: an idle session's memory is not sized by its end.
        let left = Box::pin(self.finish(&reason)).await;
        // The session is over; only its file is not where it belongs.
        drop(ticket);
        if let Some((finished, ended)) = left {
            let broken_glass = self.admitted.break_glass().is_some();
            match Box::pin(self.gate.archive_again(&finished, ended, broken_glass)).await {
                Ok(()) => tracing::info!(session = %self.id, "archived after all"),
                Err(error) => {
                    tracing::error!(session = %self.id, %error, "sealed but not archived; the next start completes it");
                }
            }
        }
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

    /// Accounts, the end's reason, the seal, the archive, the store. Answers with
    /// what could not be archived yet.
    async fn finish(&self, reason: &EndReason) -> Option<(Finished, WallMs)> {
        let channels: Vec<Arc<Channel>> = self.channels().values().map(|(channel, _)| channel.clone()).collect();
        let mut settled = std::mem::take(&mut *self.over());
        settled.extend(channels.iter().map(|channel| self.settle(channel)));
        settled.sort_unstable_by_key(|account| account.channel);
        let moved = settled.iter().fold(0u64, |sum, account| {
            sum.saturating_add(account.to_target)
                .saturating_add(account.to_client_out)
        });
        self.note_volume(moved, self.gate.clock.now().wall_ms);
        let accounts = |recorder: &Recorder| {
            let open = |account| without_hidden(account, recorder);
            settled.into_iter().map(open).collect()
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
        let mut left = None;
        if let Some(finished) = sealed {
            match self.gate.archive_sealed(&finished, ended).await {
                Ok(()) => {
                    tracing::info!(session = %self.id, reason = reason.code(), bytes = finished.bytes, "session sealed");
                }
                Err(error) => {
                    tracing::error!(session = %self.id, %error, "sealed but not archived yet; trying again");
                    left = Some((finished, ended));
                }
            }
        }
        self.gate
            .session_ended(&self.admitted, self.id, ended, reason.code())
            .await;
        self.gate.metrics.sessions_active.dec();
        left
    }
}
