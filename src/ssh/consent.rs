//! A command that was asked for by itself, and that a rule lets run only with
//! somebody else's yes, or with its user's fresh proof. It and all that follows it on its channel stay here,
//! and then in the lane, until the answer is there: nothing of it reaches the
//! target before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_recording::Event;

use super::approval::{Approved, Asked, Waiting, Wanted};
use super::channel::{Channel, Down, Start, Up};
use super::enters_queue::data_bytes;
use super::guard::{self, tell};
use super::lane::Entry;
use super::opening::NotOpened;
use super::session::Live;
use super::{reasons, requests};
use crate::kernel::policy::obligations::Obligations;
use crate::kernel::policy::{DEMAND_NOT_MET, Denial, Permit};
use crate::kernel::request::Request;
use crate::kernel::session::EndReason;

/// A command, and what it still needs.
#[derive(Clone, Debug)]
pub struct Consent {
    start: Start,
    request: Request,
    rule: String,
    obligations: Obligations,
    command: String,
}

impl Consent {
    /// A start as it goes to the target: at once, or when what its permit
    /// demands is there.
    pub fn before(start: Start, live: &Live, permit: &Permit) -> Up {
        if !permit.obligations().waits() {
            return Up::Start(start);
        }
        let policies = live.gate.policies();
        let rule = policies.demanding(permit.rules()).unwrap_or(permit.rule());
        Up::Consent(Box::new(Consent {
            start,
            request: permit.request().clone(),
            rule: rule.to_owned(),
            obligations: permit.obligations().clone(),
            command: match (live.admitted.force_command(), permit.request()) {
                (Some(forced), _) => forced.to_owned(),
                (None, Request::Exec { command }) => String::from_utf8_lossy(command).into_owned(),
                (None, other) => other.action().to_owned(),
            },
        }))
    }

    /// Waits for it; the start, if it was given and policy still says so. A
    /// client that gets none is told why.
    async fn given(self, live: &Arc<Live>, channel: &Channel) -> Option<Up> {
        let hint = "closing the connection takes the command back";
        let refused = |rule: &str, code: &str, sentence: &str| {
            let decision = Event::Decision {
                action: "exec".into(),
                allowed: false,
                rule: rule.to_owned().into(),
                code: code.to_owned().into(),
            };
            live.record(channel.number, decision);
            requests::take_back(live, channel, rule, sentence);
        };
        let command = Asked {
            text: self.command,
            undecided: false,
        };
        let approved = match ask(live, channel, &self.obligations, command, hint).await {
            Ok(approved) => approved,
            Err(why) => {
                refused(&self.rule, DEMAND_NOT_MET, &why.sentence);
                return None;
            }
        };
        let permitted = still(live, channel, self.request, &approved)
            .and_then(|permit| reasons::given(live, channel, &permit).map(|reason| (permit, reason)))
            .and_then(|permitted| requests::transfers_of(live, channel, &self.start).map(|()| permitted));
        match permitted {
            Ok((permit, reason)) => {
                let text = approved.sentence("command");
                live.record(channel.number, Event::Marker { text: text.into() });
                reason.note(live, channel);
                channel.transfers.permit(permit.kept());
                guard::begin(live, channel, &permit);
                Some(Up::Start(self.start))
            }
            Err(denial) => {
                refused(&denial.rule, denial.code, &denial.sentence);
                if denial.end {
                    live.control.end_now(EndReason::Command(denial.sentence));
                }
                None
            }
        }
    }
}

/// What policy says after a yes, which may have taken minutes.
///
/// # Errors
/// It says no by now, or wants more than was given.
pub fn still(live: &Live, channel: &Channel, request: Request, approved: &Approved) -> Result<Permit, Denial> {
    let action = request.action().to_owned();
    let permit = live.consider(channel.number, request).inspect_err(|denial| {
        if denial.notify {
            live.gate.notify(serde_json::json!({
                "session": live.id, "identity": live.admitted.identity(), "destination": live.admitted.destination(),
                "action": action, "allowed": false, "rule": denial.rule,
            }));
        }
    })?;
    match approved.covers(permit.obligations()) {
        true => Ok(permit),
        false => Err(Denial {
            rule: permit.rule().to_owned(),
            code: DEMAND_NOT_MET,
            sentence: "by now more is asked for than that yes: try again".to_owned(),
            notify: false,
            end: false,
        }),
    }
}

/// Asks for what a command waits for, tells its user, and waits for the
/// answer. Dropped, the request is taken back.
///
/// # Errors
/// Why it is not given.
pub async fn ask(
    live: &Arc<Live>,
    channel: &Channel,
    obligations: &Obligations,
    command: Asked,
    hint: &str,
) -> Result<Approved, NotOpened> {
    let policies = live.gate.policies();
    let wanted = Wanted {
        facts: live.facts(),
        sponsor: live.sponsor.as_deref(),
        policies: &policies,
        obligations,
        command: Some(command),
    };
    let waiting = Waiting::ask(&live.gate, &live.admitted, wanted).await?;
    let before = if channel.is_terminal() { "\r\n" } else { "" };
    let after = if channel.is_terminal() { "" } else { "\r\n" };
    let text = format!("{before}portcullis: {} ({hint}){after}", waiting.sentence());
    tell(live, channel, Down::Told(text));
    waiting.wait().await
}

/// What a pump holds back of one channel behind a command that waits.
#[derive(Default)]
pub struct Consents {
    wanted: Option<Consent>,
    /// Somebody was asked, and has not answered.
    asked: bool,
    behind: Vec<Entry<Up>>,
}

impl Consents {
    /// Whether a command waits: nothing more is taken out of the lane then.
    pub fn waits(&self) -> bool {
        self.wanted.is_some()
    }

    /// Bytes that have not gone on.
    pub fn held(&self) -> usize {
        self.behind.iter().map(data_bytes).sum()
    }

    /// The channel is over: a command that still waits did not run.
    pub fn end(&self, live: &Live, channel: &Channel) {
        if self.asked || self.waits() {
            requests::not_started(live, channel, "the answer was not there when the channel ended");
        }
    }

    /// Leaves in `batch`, which is not recorded yet, what comes before the command.
    pub fn sift(&mut self, batch: &mut Vec<Entry<Up>>) {
        let at = batch
            .iter()
            .position(|entry| matches!(entry, Entry::Control(Up::Consent(_))));
        let mut behind = at.map(|at| batch.drain(at..).collect::<Vec<_>>()).into_iter().flatten();
        if let Some(Entry::Control(Up::Consent(wanted))) = behind.next() {
            self.wanted = Some(*wanted);
            self.behind = behind.collect();
        }
    }

    /// Waits for the answer; leaves in `batch` what goes on then: with a no,
    /// all but the command itself.
    pub async fn answered(&mut self, live: &Arc<Live>, channel: &Channel, batch: &mut Vec<Entry<Up>>) {
        let Some(wanted) = self.wanted.take() else { return };
        self.asked = true;
        channel.asks.store(true, Ordering::SeqCst);
        // Whichever of the two comes first, one of them sees the other.
        if channel.client_closed.load(Ordering::SeqCst) {
            return channel.stop.fire();
        }
        let start = wanted.given(live, channel).await.map(Entry::Control);
        channel.asks.store(false, Ordering::SeqCst);
        self.asked = false;
        batch.extend(start.into_iter().chain(std::mem::take(&mut self.behind)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::channel::Start;
    use crate::ssh::lane::Stream;

    #[test]
    fn what_follows_a_command_waits_with_it() {
        let data = |bytes: &'static [u8]| Entry::Data {
            stream: Stream::Main,
            bytes: bytes.into(),
        };
        let consent = Consent {
            start: Start::Exec(b"true".to_vec()),
            request: Request::Exec {
                command: b"true".to_vec(),
            },
            rule: "asked".into(),
            obligations: Obligations::default(),
            command: "true".into(),
        };
        let mut batch = vec![
            Entry::Control(Up::Keys(b"x")),
            Entry::Control(Up::Consent(Box::new(consent))),
            data(b"input"),
        ];
        let mut consents = Consents::default();
        consents.sift(&mut batch);
        assert!(matches!(batch.as_slice(), [Entry::Control(Up::Keys(b"x"))]));
        assert_eq!((consents.waits(), consents.held()), (true, 5));
        batch = vec![data(b"x")];
        let mut none = Consents::default();
        none.sift(&mut batch);
        assert_eq!((none.waits(), batch.len()), (false, 1));
    }
}
