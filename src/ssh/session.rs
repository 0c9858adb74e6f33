//! A session on the rim: what it has open, and the one way in which it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_recording::Event;
use portcullis_recording::event::{Direction, NoticeHow};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::Gate;
use super::channel::{Channel, Down};
use super::control::{Control, Order};
use super::gated::Kill;
use super::local;
use super::pump::{self, ClientEnd};
use super::target::Dialled;
use crate::kernel::admit::Admitted;
use crate::kernel::grant::WallMs;
use crate::kernel::habit::History;
use crate::kernel::id::SessionId;
use crate::kernel::inventory::{Reach, Target};
use crate::kernel::policy::facts::Facts;
use crate::kernel::policy::obligations::{Obligations, RecordMode};
use crate::kernel::policy::{self, Context, Denial, Permit};
use crate::kernel::request::Request;
use crate::kernel::session::EndReason;
use crate::recorder::{Finished, Recorder, Recovered};
use crate::registry::Ticket;

/// How long the notice may take before the streams are cut, after an end order.
const NOTICE: Duration = Duration::from_millis(50);
/// OpenSSH drops channel output that it has not shown when it sees the disconnect.
const NOTICE_PAUSE: Duration = Duration::from_millis(30);
/// How long the disconnect message may take.
const GOODBYE: Duration = Duration::from_millis(15);
/// How long a client may take to read what is left at an ordinary end.
const LINGER: Duration = Duration::from_secs(10);

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
    pub target: Target,
    /// The bastions before it, in the order in which they are dialled.
    pub hops: Vec<Target>,
    /// What policy knows of the session, whatever is asked in it.
    facts: Facts,
    /// What the policies that let it in demand.
    held_to: Obligations,
    /// What its holder has done before.
    history: History,
    next_channel: AtomicU32,
    channels: Mutex<Channels>,
    /// Logged in already, for the first channel.
    spare: Mutex<Option<Dialled>>,
    pumps: AtomicU32,
    pumps_left: Notify,
}

/// Counts a running pump; the end waits for all of them.
pub struct PumpGuard(Arc<Live>);

/// `1 minute`, `5 minutes`, `90 seconds`.
fn in_words(ms: u64) -> String {
    match ms.div_ceil(1000) {
        60 => "1 minute".to_owned(),
        secs if secs % 60 == 0 => format!("{} minutes", secs / 60),
        secs => format!("{secs} seconds"),
    }
}

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
    pub held_to: Obligations,
    pub history: History,
}

impl Live {
    /// A session whose target is not dialled yet.
    pub fn new(opened: Opened, gate: Arc<Gate>, control: Arc<Control>, recorder: Recorder, kill: Kill) -> Arc<Live> {
        Arc::new(Live {
            id: opened.id,
            gate,
            admitted: opened.admitted,
            control,
            recorder,
            kill,
            target: opened.target,
            hops: opened.hops,
            facts: opened.facts,
            held_to: opened.held_to,
            history: opened.history,
            next_channel: AtomicU32::new(1),
            channels: Mutex::new(BTreeMap::new()),
            spare: Mutex::new(None),
            pumps: AtomicU32::new(0),
            pumps_left: Notify::new(),
        })
    }

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
        let now = self.gate.clock.now().wall_ms;
        let Some(facts) = self.gate.fresh(self.facts.clone()) else {
            // The registry is told to end it; nothing more goes through meanwhile.
            return Err(Denial {
                rule: "gate.inventory".to_owned(),
                code: "disabled",
                sentence: "who holds this grant, or where it leads, is disabled".into(),
                notify: false,
            });
        };
        let facts = Facts {
            terminal: self
                .channels()
                .get(&channel)
                .is_some_and(|(open, _)| open.is_terminal()),
            ..facts
        };
        let decision = policy::decide(
            &self.admitted,
            request,
            &Context {
                now,
                env_allowed: &settings.env_allow,
                store_alive: self.gate.registry.store_alive(),
                policies: &self.gate.policies(),
                facts: &facts,
                history: &self.history,
            },
        );
        if let Ok(permit) = &decision {
            self.note_use(permit);
        }
        let (allowed, rule, code, notify) = match &decision {
            Ok(permit) => (true, permit.rule(), "permitted", permit.obligations().notify),
            Err(denial) => (false, denial.rule.as_str(), denial.code, denial.notify),
        };
        self.gate.metrics.decision(action, allowed);
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
            });
        }
        decision
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
    /// the channel is doing.
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
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(dialled);
        }
        Ok(())
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
        let left = self.finish(&reason).await;
        // The session is over; only its file is not where it belongs.
        drop(ticket);
        if let Some((finished, ended)) = left {
            match self
                .gate
                .archive_again(&finished, ended, self.admitted.break_glass().is_some())
                .await
            {
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

    /// One line on every terminal.
    fn tell(&self, text: &str) {
        for (channel, _) in self.channels().values() {
            if channel.is_terminal() && !channel.stop.fired() {
                channel.down.control(Down::Notice(text.to_owned())).ok();
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

    /// Accounts, the end's reason, the seal, the archive, the store. Answers with
    /// what could not be archived yet.
    async fn finish(&self, reason: &EndReason) -> Option<(Finished, WallMs)> {
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
        let moved = channels.iter().fold(0u64, |sum, channel| {
            let account = channel.accounts(0);
            sum.saturating_add(account.to_target)
                .saturating_add(account.to_client_out)
        });
        self.note_volume(moved, self.gate.clock.now().wall_ms);
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
