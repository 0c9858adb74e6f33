//! Puts each file that a client asks for over SFTP before policy, once a rule
//! is about files: a request that is refused stays here, and the client gets
//! the answer that the target would have given.

use bytes::Bytes;
use portcullis_recording::Event;
use portcullis_recording::event::{Direction, NoticeHow};

use super::channel::{Carries, Channel, Down, Up, count};
use super::lane::Entry;
use super::session::Live;
use crate::kernel::policy::{Denial, Permit};
use crate::kernel::request::{Request, Transfer};
use crate::kernel::session::EndReason;
use crate::kernel::transfer::Wish;
use crate::kernel::transfer::limit::{Limit, Over};
use crate::kernel::transfer::sieve::{Cut, OP_UNSUPPORTED, PERMISSION_DENIED, Sieve, refusal};
use crate::recorder::Take;

/// The rule that refuses what cannot be put before a policy.
pub const GATE_RULE: &str = "gate.transfer";
/// The rule that keeps back what comes before a program is there to take it.
const EARLY_RULE: &str = "gate.early";
const EARLY: &str = "bytes came before a program was started: they stay here";

/// What a pump holds back of one channel.
#[derive(Debug, Default)]
pub struct Sieving {
    sieve: Option<Sieve>,
    /// Of the write whose bytes come now: the rule that refused it.
    refusing: Option<String>,
    /// A program was asked for.
    started: bool,
    /// Bytes came before it.
    early: bool,
}

impl Sieving {
    /// Bytes of a request that is not whole yet.
    pub fn held(&self) -> usize {
        self.sieve.as_ref().map_or(0, Sieve::held)
    }

    /// Leaves in `batch`, which is recorded, what goes on to the target.
    /// Whether anything may: what cannot be followed ends the session.
    pub fn sift(&mut self, live: &Live, channel: &Channel, batch: &mut Vec<Entry<Up>>) -> bool {
        let starts = |entry: &Entry<Up>| matches!(entry, Entry::Control(Up::Start(_)));
        let passes = self.started || channel.carries == Carries::Forward;
        if passes && self.sieve.is_none() && !batch.iter().any(starts) {
            return true;
        }
        let mut entries = std::mem::take(batch).into_iter();
        while let Some(entry) = entries.next() {
            match (entry, &mut self.sieve) {
                (entry @ Entry::Control(Up::Start(_)), _) => {
                    let asks = live.gate.policies().ask_about_files() && channel.transfers.ask();
                    self.sieve = asks.then(Sieve::default);
                    self.refusing = None;
                    self.started = true;
                    batch.push(entry);
                }
                // A target that keeps them for the program would give it what nobody followed.
                (Entry::Data { bytes, .. }, _) if !self.started && channel.carries != Carries::Forward => {
                    let says = !std::mem::replace(&mut self.early, true);
                    withhold(live, channel, bytes.len(), EARLY_RULE, |take| {
                        if says {
                            take.event(Event::Marker { text: EARLY.into() });
                        }
                    });
                }
                (Entry::Data { stream, bytes }, Some(sieve)) => {
                    let held = sieve.held();
                    let cuts = match channel.transfers.is_lost() {
                        true => Err("it is not followed any more"),
                        false => sieve.cut(&bytes),
                    };
                    let cuts = match cuts {
                        Ok(cuts) => cuts,
                        Err(why) => {
                            self.sieve = None;
                            count(&channel.account.undelivered_up, held);
                            batch.push(Entry::Data { stream, bytes });
                            batch.extend(entries);
                            let said = format!("a rule is about files, and this SFTP hides them: {why}");
                            live.control.end_now(EndReason::Protocol(said));
                            return false;
                        }
                    };
                    let mut passed = Passed::default();
                    for cut in cuts {
                        self.pass(live, channel, &bytes, cut, &mut passed);
                    }
                    let passed = passed.end().into_iter();
                    batch.extend(passed.map(|bytes| Entry::Data { stream, bytes }));
                }
                (entry, _) => batch.push(entry),
            }
        }
        true
    }

    /// What of a piece goes on.
    fn pass(&mut self, live: &Live, channel: &Channel, whole: &Bytes, cut: Cut<'_>, passed: &mut Passed) {
        match cut {
            Cut::Pass(packets) => passed.small(&packets),
            Cut::Ask { id, packet, wishes } => match permit(live, channel, &wishes) {
                Ok(None) => passed.small(&packet),
                Ok(Some(limit)) if channel.transfers.limit(id, limit.clone()) => passed.small(&packet),
                Ok(Some(limit)) => {
                    let said = format!(
                        "no more than {} bytes of a file may cross, and of one that is appended to nobody here knows \
                         how long it becomes",
                        limit.bytes
                    );
                    refuse(live, channel, (id, packet.len()), &limit.rule, PERMISSION_DENIED, &said);
                }
                Err(denial) => refuse(
                    live,
                    channel,
                    (id, packet.len()),
                    &denial.rule,
                    PERMISSION_DENIED,
                    &denial.sentence,
                ),
            },
            Cut::Use { id, head } => {
                self.refusing = None;
                let (rule, sentence) = match channel.transfers.over(id) {
                    None => return passed.small(&head),
                    Some(Over::Limit(limit)) => {
                        let said = format!("no more than {} bytes of a file may cross", limit.bytes);
                        (limit.rule, said)
                    }
                    Some(Over::Asks(wish)) => match ask(live, channel, &wish, wish.is_plain()) {
                        Ok(_) => return passed.small(&head),
                        Err(denial) => (denial.rule, denial.sentence),
                    },
                    Some(Over::Stranger) => (GATE_RULE.to_owned(), "no such open file is known here".to_owned()),
                };
                refuse(live, channel, (id, head.len()), &rule, PERMISSION_DENIED, &sentence);
                self.refusing = Some(rule);
            }
            Cut::Unknown { id, packet } => {
                let sentence = "nobody here knows what this request does to files";
                refuse(live, channel, (id, packet.len()), GATE_RULE, OP_UNSUPPORTED, sentence);
            }
            Cut::Body(bytes) => match &self.refusing {
                None => passed.large(whole.slice_ref(bytes)),
                Some(rule) => {
                    withhold(live, channel, bytes.len(), rule, |_| {});
                }
            },
        }
    }
}

/// What goes on of a batch: small packets together, the bytes of files as they came.
#[derive(Default)]
struct Passed {
    done: Vec<Bytes>,
    small: Vec<u8>,
}

impl Passed {
    fn small(&mut self, packet: &[u8]) {
        self.small.extend_from_slice(packet);
    }

    fn large(&mut self, bytes: Bytes) {
        self.cut();
        self.done.push(bytes);
    }

    fn cut(&mut self) {
        if !self.small.is_empty() {
            self.done.push(std::mem::take(&mut self.small).into());
        }
    }

    fn end(mut self) -> Vec<Bytes> {
        self.cut();
        self.done
    }
}

/// Asks about all that a request would do. How much of its file may cross, if that is bounded.
fn permit(live: &Live, channel: &Channel, wishes: &[Wish]) -> Result<Option<Limit>, Denial> {
    let mut least: Option<Limit> = None;
    for wish in wishes {
        let permit = ask(live, channel, wish, wish.is_plain())?;
        let limit = limit_of(&permit);
        least = match (least, limit) {
            (Some(one), Some(other)) => Some(if other.bytes < one.bytes { other } else { one }),
            (one, other) => one.or(other),
        };
    }
    Ok(least)
}

/// How much of one file may cross by this permit, if that is bounded.
pub fn limit_of(permit: &Permit) -> Option<Limit> {
    let bytes = permit.obligations().max_file_bytes?;
    Some(Limit {
        bytes,
        rule: permit.rule().to_owned(),
    })
}

/// Asks policy about one thing to be done to a file. `plain`: its paths can be
/// held against a rule.
///
/// # Errors
/// The denial.
pub fn ask(live: &Live, channel: &Channel, wish: &Wish, plain: bool) -> Result<Permit, Denial> {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let request = Request::Transfer(Transfer {
        direction: wish.what.direction(),
        what: wish.what.as_str(),
        path: text(&wish.path),
        other: text(&wish.other),
        plain,
    });
    let want = match wish.other.is_empty() {
        true => wish.what.as_str().to_owned(),
        false => format!("{} {}", wish.what.as_str(), text(&wish.other)),
    };
    live.decide(channel.number, request, &wish.path, &want)
}

/// Keeps a request of so many bytes back and answers it.
fn refuse(live: &Live, channel: &Channel, (id, bytes): (u32, usize), rule: &str, code: u32, sentence: &str) {
    let answer = refusal(id, code, &format!("refused by rule {rule}: {sentence}"));
    let told = channel.transfers.refused(id, rule);
    let kept = withhold(live, channel, bytes, rule, |take| {
        take.event(Event::Notice {
            bytes: answer.clone().into(),
            how: NoticeHow::Reply,
        });
        told.into_iter().for_each(|event| take.event(event));
    });
    if !kept {
        return;
    }
    count(&channel.account.injected, answer.len());
    if channel.down.control(Down::Answer(answer)).is_err() {
        channel.overran(&live.control);
    }
}

/// Keeps bytes back, with what else is to be recorded of it; whether they were.
fn withhold(live: &Live, channel: &Channel, bytes: usize, rule: &str, more: impl FnOnce(&mut Take<'_, '_>)) -> bool {
    let mut take = live.recorder.take(channel.number);
    take.event(Event::Withheld {
        direction: Direction::ToTarget,
        bytes: bytes as u64,
        why: rule.to_owned().into(),
    });
    more(&mut take);
    if let Err(error) = take.done() {
        live.control.end_now(EndReason::RecorderFailed(error.to_string()));
        // Neither kept back nor passed on: it is in no account but this.
        count(&channel.account.undelivered_up, bytes);
        return false;
    }
    count(&channel.account.withheld, bytes);
    true
}
