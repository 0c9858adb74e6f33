//! Puts each line of a terminal before policy at its Enter, where a rule could
//! have something to say to it. Bytes behind a held Enter wait here, and then
//! in the lane, whose sender is held back: nothing is dropped.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};
use portcullis_recording::Event;
use portcullis_recording::event::Direction;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::approval::{Approved, Asked};
use super::channel::{Channel, Down, Up, count};
use super::consent;
use super::enters_queue::{Dropping, cancel, data_bytes, ends_input, signals};
use super::guard::{Guard, tell};
use super::lane::{Entry, Stream};
use super::opening::NotOpened;
use super::session::Live;
use crate::kernel::enter::{Answer, Line, Next, Pasted, Reason};
use crate::kernel::policy::obligations::Obligations;
use crate::kernel::policy::{DEMAND_NOT_MET, Denial};
use crate::kernel::request::{self, Request};
use crate::kernel::session::EndReason;

/// How long a refused line may take to come to a prompt, where it can be taken back, in ms.
const PROMPT_WAIT_MS: u64 = 5_000;
/// Bytes that wait here behind a held Enter; more wait in the lane.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Pieces of data and requests that wait here; more wait in the lane.
const HELD_ENTRIES_MAX: usize = 4096;
/// Enters that are looked at before others have their turn: the recorder, and other sessions.
const ENTERS_AT_ONCE: usize = 32;

/// An Enter that policy was asked about, and that has not gone on.
struct Held {
    key: u8,
    line: Line,
    rule: String,
    obligations: Obligations,
    /// Reasons that were asked for.
    reasons: BTreeSet<String>,
}

/// What the first waiting bytes wait for.
#[derive(Default)]
enum Phase {
    /// Their own Enter.
    #[default]
    Open,
    /// A refused line to come to a prompt, before it can be taken back; by then.
    Refused(String, u64),
    /// A refused line to go from the screen, before this is told.
    TakingBack(String),
    /// A reason, typed here.
    Asking(Held, Reason),
    /// Somebody's yes, or its user's proof.
    Waiting(Held, Wait),
}

/// Somebody is asked. Dropped, the request is taken back.
struct Wait {
    task: JoinHandle<()>,
    answer: oneshot::Receiver<Result<Approved, NotOpened>>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until when nothing goes on, unless something comes meanwhile.
#[derive(Clone, Copy)]
enum Until {
    /// In session ms.
    Ms(u64),
    Moved,
}

/// What a pump holds back of one channel.
#[derive(Default)]
pub struct Enters {
    queue: VecDeque<Entry<Up>>,
    bytes: usize,
    phase: Phase,
    /// The rest of a paste is dropped: so much of its end was seen.
    dropping: Option<Dropping>,
    until: Option<Until>,
}

impl Enters {
    /// Bytes that have not gone on.
    pub fn held(&self) -> usize {
        self.bytes
    }

    /// Whether more may be taken out of the lane.
    pub fn has_room(&self) -> bool {
        self.bytes < HELD_BYTES_MAX && self.queue.len() < HELD_ENTRIES_MAX
    }

    /// Resolves when what waits is to be looked at again; never while nothing does.
    pub async fn due(&self, live: &Live, channel: &Channel) {
        match self.until {
            None => std::future::pending().await,
            Some(Until::Moved) => channel.guard_moved.notified().await,
            Some(Until::Ms(until)) => {
                let left = Duration::from_millis(until.saturating_sub(live.recorder.at_ms()));
                // Whichever comes first.
                tokio::time::timeout(left, channel.guard_moved.notified()).await.ok();
            }
        }
    }

    /// Leaves in `batch`, which is not recorded yet, what goes on now. Whether
    /// anything may go on at all.
    pub fn sift(&mut self, live: &Arc<Live>, channel: &Arc<Channel>, batch: &mut Vec<Entry<Up>>) -> bool {
        let Some(guard) = channel.guard.get() else {
            return true;
        };
        for entry in batch.drain(..) {
            self.bytes += data_bytes(&entry);
            self.queue.push_back(entry);
        }
        self.until = None;
        // Before each Enter go the keys of its line.
        let mut left = ENTERS_AT_ONCE.saturating_mul(2);
        while self.until.is_none() && !channel.stop.fired() {
            if left == 0 {
                self.until = Some(Until::Ms(live.recorder.at_ms()));
                break;
            }
            left = left.saturating_sub(1);
            let more = match std::mem::take(&mut self.phase) {
                Phase::Open => self.open(live, channel, guard, batch),
                Phase::Refused(said, until) => self.refused(live, guard, batch, (said, until)),
                Phase::TakingBack(said) => self.taking_back(live, channel, guard, said),
                Phase::Asking(held, reason) => self.asking(live, channel, guard, batch, (held, reason)),
                Phase::Waiting(held, wait) => self.waiting(live, channel, guard, batch, (held, wait)),
            };
            if !more {
                break;
            }
        }
        !live.control.stop.fired()
    }

    /// Passes the first entry on, or a part of it; whether there may be more to do.
    fn open(&mut self, live: &Arc<Live>, channel: &Arc<Channel>, guard: &Guard, batch: &mut Vec<Entry<Up>>) -> bool {
        let Some(first) = self.queue.front_mut() else {
            return false;
        };
        let Entry::Data { stream, bytes } = first else {
            if matches!(first, Entry::Control(Up::Start(_))) {
                guard.holder().begins();
            }
            guard.resize(first);
            batch.extend(self.queue.pop_front());
            return true;
        };
        if bytes.is_empty() {
            self.queue.pop_front();
            return true;
        }
        if let Some(mut rest) = self.dropping {
            let (dropped, over) = rest.within(live.recorder.at_ms(), bytes);
            self.dropping = (!over).then_some(rest);
            bytes.advance(dropped);
            self.withhold(live, channel, dropped, "the rest of a refused paste");
            return true;
        }
        let at_ms = live.recorder.at_ms();
        let next = {
            let mut holder = guard.holder();
            holder.lags(channel.down.backlog() > 0);
            holder.round_trip(channel.trip_ms());
            holder.next(at_ms, bytes)
        };
        match next {
            Next::Pass(keys) => {
                let (stream, bytes) = (*stream, bytes.split_to(keys.min(bytes.len())));
                self.bytes = self.bytes.saturating_sub(bytes.len());
                batch.push(Entry::Data { stream, bytes });
            }
            Next::Wait(until) => self.until = Some(Until::Ms(until)),
            Next::Ask(line) => {
                let key = bytes.get_u8();
                self.ask(live, channel, guard, batch, (line, key));
            }
        }
        true
    }

    fn ask(
        &mut self,
        live: &Arc<Live>,
        channel: &Arc<Channel>,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (line, key): (Line, u8),
    ) {
        let held = |rule: &str, obligations: &Obligations| Held {
            key,
            line: line.clone(),
            rule: rule.to_owned(),
            obligations: obligations.clone(),
            reasons: BTreeSet::new(),
        };
        if !guard.asks() {
            return self.goes_on(live, guard, batch, &held("", &Obligations::default()));
        }
        // What is not shown yet is not written down.
        let (detail, want) = match (line.pasted, line.undecided) {
            (Pasted::Part | Pasted::Perhaps, _) => ("", "a line of a paste"),
            (Pasted::No, true) => (line.text.as_str(), "undecided"),
            (Pasted::No, false) => (line.text.as_str(), line.place),
        };
        match live.decide(channel.number, asked(&line), detail.as_bytes(), want) {
            Err(denial) => self.refuse(
                live,
                channel,
                guard,
                batch,
                (&held(&denial.rule, &Obligations::default()), &denial),
            ),
            Ok(permit) => {
                let policies = live.gate.policies();
                let rule = policies.demanding(permit.rules()).unwrap_or(permit.rule());
                let held = held(rule, permit.obligations());
                let waits = held.obligations.waits() || !held.obligations.reason.is_empty();
                match line.pasted {
                    // What reads it may run each line by itself.
                    Pasted::Part | Pasted::Perhaps if waits => {
                        let why = "a line of a paste cannot wait for an answer: type it by itself";
                        return self.take_back(live, channel, guard, batch, (&held, why));
                    }
                    // The whole of it is asked about at its own Enter.
                    Pasted::Part => return self.goes_on(live, guard, batch, &held),
                    Pasted::Perhaps | Pasted::No => {}
                }
                for notice in &held.obligations.notice {
                    tell(live, channel, Down::Told(format!("\r\nportcullis: {notice}")));
                }
                self.demand(live, channel, guard, batch, held);
            }
        }
    }

    /// What a yes still demands, one thing after the other.
    fn demand(
        &mut self,
        live: &Arc<Live>,
        channel: &Arc<Channel>,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        mut held: Held,
    ) {
        if let Some(asked) = held.obligations.reason.pop_first() {
            let text = format!("\r\nportcullis: {asked} (Enter sends it, ^C takes the command back)\r\nreason: ");
            tell(live, channel, Down::Told(text));
            held.reasons.insert(asked);
            self.phase = Phase::Asking(held, Reason::default());
        } else if held.obligations.waits() {
            let wait = wait_for(live, channel, &held);
            self.wait(channel, held, wait);
        } else {
            self.goes_on_if_there(live, channel, guard, batch, &held);
        }
    }

    /// An Enter that has waited, if it is still for the line that was asked about.
    fn goes_on_if_there(
        &mut self,
        live: &Live,
        channel: &Channel,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        held: &Held,
    ) {
        let waited = held.obligations.waits() || !held.reasons.is_empty();
        match waited && held.line.at_prompt && !guard.holder().still_stands(&held.line) {
            true => self.take_back(live, channel, guard, batch, (held, "another line stands there by now")),
            false => self.goes_on(live, guard, batch, held),
        }
    }

    /// The channel is over: a line that still waits was not sent.
    pub fn end(&self, live: &Live, channel: &Channel) {
        if let Phase::Asking(held, _) | Phase::Waiting(held, _) = &self.phase {
            let decision = Event::Decision {
                action: "command".into(),
                allowed: false,
                rule: held.rule.as_str().into(),
                code: DEMAND_NOT_MET.into(),
            };
            live.record(channel.number, decision);
        }
    }

    /// Waits for a yes. Who closes the channel meanwhile does not want it any more.
    fn wait(&mut self, channel: &Channel, held: Held, wait: Wait) {
        self.phase = Phase::Waiting(held, wait);
        channel.asks.store(true, Ordering::SeqCst);
        // Whichever of the two comes first, one of them sees the other.
        if channel.client_closed.load(Ordering::SeqCst) {
            channel.stop.fire();
        }
    }

    fn goes_on(&mut self, live: &Live, guard: &Guard, batch: &mut Vec<Entry<Up>>, held: &Held) {
        guard.holder().sent(live.recorder.at_ms(), held.key);
        self.bytes = self.bytes.saturating_sub(1);
        batch.push(Entry::Data {
            stream: Stream::Main,
            bytes: Bytes::copy_from_slice(&[held.key]),
        });
    }

    /// Keeps the Enter back. Its line is taken back at a prompt; where that
    /// would not be understood, or a rule says so, the session ends.
    fn refuse(
        &mut self,
        live: &Live,
        channel: &Channel,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (held, denial): (&Held, &Denial),
    ) {
        let said = format!("refused by rule {}: {}", denial.rule, denial.sentence);
        self.withhold(live, channel, 1, &denial.rule);
        if denial.end {
            return live.control.end_now(EndReason::Command(said));
        }
        let wait_ms = if held.line.at_prompt { 0 } else { PROMPT_WAIT_MS };
        self.dropping = Dropping::of(held.line.pasted, live.recorder.at_ms().saturating_add(wait_ms));
        if held.line.at_prompt {
            return self.clear(live, guard, batch, (&held.line, &said));
        }
        let until = live.recorder.at_ms().saturating_add(PROMPT_WAIT_MS);
        self.phase = Phase::Refused(said, until);
    }

    /// A line that was typed ahead comes to the prompt of who would have run
    /// it; one that nobody takes back ends the session.
    fn refused(
        &mut self,
        live: &Live,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (said, until): (String, u64),
    ) -> bool {
        let at_ms = live.recorder.at_ms();
        let (came, rests_at) = {
            let mut holder = guard.holder();
            (holder.came_to_prompt(at_ms), holder.rests_at())
        };
        if let Some(came) = came {
            self.clear(live, guard, batch, (&came, &said));
        } else if at_ms >= until {
            let why = format!("{said}; no prompt is known there, where the line could be taken back");
            live.control.end_now(EndReason::Command(why));
        } else {
            self.pass_signals(guard, batch, at_ms);
            self.until = Some(Until::Ms(if rests_at > at_ms { rests_at.min(until) } else { until }));
            self.phase = Phase::Refused(said, until);
        }
        true
    }

    /// Passes keys on that a prompt may wait for: the end of a stop, and what ends the program that runs.
    fn pass_signals(&mut self, guard: &Guard, batch: &mut Vec<Entry<Up>>, at_ms: u64) {
        for (stream, bytes) in signals(&mut self.queue) {
            guard.holder().next(at_ms, &bytes);
            self.bytes = self.bytes.saturating_sub(bytes.len());
            batch.push(Entry::Data { stream, bytes });
        }
    }

    /// Takes a line back at its prompt.
    fn clear(&mut self, live: &Live, guard: &Guard, batch: &mut Vec<Entry<Up>>, (line, said): (&Line, &str)) {
        let keys = guard.holder().kept(live.recorder.at_ms(), line);
        batch.push(Entry::Control(Up::Keys(keys)));
        let prompt = &line.prompt;
        self.phase = Phase::TakingBack(format!("\r\nportcullis: {said}\r\n{prompt}"));
    }

    fn taking_back(&mut self, live: &Live, channel: &Channel, guard: &Guard, said: String) -> bool {
        match guard.holder().is_taken_back(live.recorder.at_ms()) {
            Ok(()) => tell(live, channel, Down::Told(said)),
            Err(until) => {
                self.until = Some(Until::Ms(until));
                self.phase = Phase::TakingBack(said);
            }
        }
        true
    }

    /// Keys typed here are the reason's.
    fn asking(
        &mut self,
        live: &Arc<Live>,
        channel: &Arc<Channel>,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (held, mut reason): (Held, Reason),
    ) -> bool {
        let Some(Entry::Data { bytes, .. }) = self.queue.front_mut() else {
            let passes = self.pass_control(guard, batch);
            self.phase = Phase::Asking(held, reason);
            return passes;
        };
        let (taken, echo, answer) = reason.typed(bytes);
        bytes.advance(taken.min(bytes.len()));
        if bytes.is_empty() {
            self.queue.pop_front();
        }
        self.withhold(live, channel, taken, "a reason, typed at the gate");
        if !echo.is_empty() {
            tell(live, channel, Down::Told(echo));
        }
        match answer {
            Answer::More => self.phase = Phase::Asking(held, reason),
            Answer::Given(text) => {
                let text = format!("reason for the command, asked for by rule {}: {text}", held.rule);
                live.record(channel.number, Event::Marker { text: text.into() });
                self.demand(live, channel, guard, batch, held);
            }
            Answer::Refused => self.take_back(live, channel, guard, batch, (&held, "no reason was given")),
        }
        true
    }

    /// Whether the answer is there; ^C takes the question back.
    fn waiting(
        &mut self,
        live: &Arc<Live>,
        channel: &Arc<Channel>,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (held, mut wait): (Held, Wait),
    ) -> bool {
        channel.asks.store(false, Ordering::SeqCst);
        if self.drop_to_cancel(live, channel, guard, batch) {
            self.take_back(live, channel, guard, batch, (&held, "you took it back"));
            return true;
        }
        match wait.answer.try_recv() {
            Ok(Ok(approved)) => match consent::still(live, channel, asked(&held.line), &approved) {
                Ok(permit) if permit.obligations().reason.is_subset(&held.reasons) => {
                    let text = approved.sentence("command");
                    live.record(channel.number, Event::Marker { text: text.into() });
                    self.goes_on_if_there(live, channel, guard, batch, &held);
                }
                Ok(_) => self.take_back(
                    live,
                    channel,
                    guard,
                    batch,
                    (&held, "by now a reason is asked for: try again"),
                ),
                Err(denial) => self.denied(live, channel, guard, batch, (&held, &denial)),
            },
            Ok(Err(why)) => self.take_back(live, channel, guard, batch, (&held, &why.sentence)),
            Err(oneshot::error::TryRecvError::Closed) => {
                self.take_back(live, channel, guard, batch, (&held, "nobody could be asked"));
            }
            Err(oneshot::error::TryRecvError::Empty) => {
                self.until = Some(Until::Moved);
                self.wait(channel, held, wait);
            }
        }
        true
    }

    /// A yes whose demand was not met.
    fn take_back(
        &mut self,
        live: &Live,
        channel: &Channel,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (held, why): (&Held, &str),
    ) {
        let denial = Denial {
            rule: held.rule.clone(),
            code: DEMAND_NOT_MET,
            sentence: why.to_owned(),
            notify: false,
            end: false,
        };
        self.denied(live, channel, guard, batch, (held, &denial));
    }

    /// A yes that became a no.
    fn denied(
        &mut self,
        live: &Live,
        channel: &Channel,
        guard: &Guard,
        batch: &mut Vec<Entry<Up>>,
        (held, denial): (&Held, &Denial),
    ) {
        let decision = Event::Decision {
            action: "command".into(),
            allowed: false,
            rule: denial.rule.as_str().into(),
            code: denial.code.into(),
        };
        live.record(channel.number, decision);
        self.refuse(live, channel, guard, batch, (held, denial));
    }

    /// Passes the first entry on, if it is a request that need not wait for
    /// anything; whether there may be more to do.
    fn pass_control(&mut self, guard: &Guard, batch: &mut Vec<Entry<Up>>) -> bool {
        match self.queue.front() {
            Some(first) if !ends_input(first) => {
                batch.extend(self.queue.pop_front().inspect(|entry| guard.resize(entry)))
            }
            Some(_) | None => self.until = Some(Until::Moved),
        }
        true
    }

    /// What was typed before a ^C and the ^C itself go nowhere; whether there
    /// is one. Requests go on: they wait for nobody's yes.
    fn drop_to_cancel(&mut self, live: &Live, channel: &Channel, guard: &Guard, batch: &mut Vec<Entry<Up>>) -> bool {
        let from = batch.len();
        let dropped = cancel(&mut self.queue, batch);
        for entry in batch.iter().skip(from) {
            guard.resize(entry);
        }
        self.withhold(
            live,
            channel,
            dropped.unwrap_or_default(),
            "typed before a command was taken back",
        );
        dropped.is_some()
    }

    /// Books bytes that stay here.
    fn withhold(&mut self, live: &Live, channel: &Channel, bytes: usize, why: &str) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if bytes == 0 {
            return;
        }
        let event = Event::Withheld {
            direction: Direction::ToTarget,
            bytes: bytes as u64,
            why: why.into(),
        };
        let counter = match live.record(channel.number, event) {
            true => &channel.account.withheld,
            false => &channel.account.undelivered_up,
        };
        count(counter, bytes);
    }
}

/// What policy is asked about a line.
fn asked(line: &Line) -> Request {
    Request::Command(request::Line {
        text: line.text.clone(),
        place: line.place,
        undecided: line.undecided,
    })
}

/// Asks for what a command waits for, in a task of its own.
fn wait_for(live: &Arc<Live>, channel: &Arc<Channel>, held: &Held) -> Wait {
    let (give, answer) = oneshot::channel();
    let (live, channel) = (live.clone(), channel.clone());
    let obligations = held.obligations.clone();
    let command = Asked {
        text: held.line.text.clone(),
        undecided: held.line.undecided,
    };
    let task = tokio::spawn(async move {
        let answered = consent::ask(&live, &channel, &obligations, command, "^C takes the command back").await;
        give.send(answered).ok();
        channel.guard_moved.notify_one();
    });
    Wait { task, answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_take_room_too() {
        let mut enters = Enters::default();
        assert!(enters.has_room());
        let requests = std::iter::repeat_with(|| Entry::Control(Up::Keys(b"")));
        enters.queue.extend(requests.take(HELD_ENTRIES_MAX));
        assert!(!enters.has_room());
    }
}
