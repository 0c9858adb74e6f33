//! Puts each file that a client asks for over SFTP before policy, once a rule
//! is about files: a request that is refused stays here, and the client gets
//! the answer that the target would have given.

use bytes::Bytes;
use portcullis_recording::Event;
use portcullis_recording::event::{Direction, NoticeHow};

use super::channel::{Channel, Down, Up, count};
use super::lane::Entry;
use super::session::Live;
use crate::kernel::policy::Denial;
use crate::kernel::request::{Request, Transfer};
use crate::kernel::session::EndReason;
use crate::kernel::transfer::Wish;
use crate::kernel::transfer::sieve::{Cut, Sieve, refusal};

/// What a pump holds back of one channel.
#[derive(Debug, Default)]
pub struct Sieving(Option<Sieve>);

impl Sieving {
    /// Bytes of a request that is not whole yet.
    pub fn held(&self) -> usize {
        self.0.as_ref().map_or(0, Sieve::held)
    }

    /// Leaves in `batch`, which is recorded, what goes on to the target.
    /// Whether anything may: what cannot be followed ends the session.
    pub fn sift(&mut self, live: &Live, channel: &Channel, batch: &mut Vec<Entry<Up>>) -> bool {
        let starts = |entry: &Entry<Up>| matches!(entry, Entry::Control(Up::Start(_)));
        if self.0.is_none() && !batch.iter().any(starts) {
            return true;
        }
        let mut entries = std::mem::take(batch).into_iter();
        while let Some(entry) = entries.next() {
            match (entry, &mut self.0) {
                (entry @ Entry::Control(Up::Start(_)), _) => {
                    let asks = live.gate.policies().ask_about_files() && channel.transfers.ask();
                    self.0 = asks.then(Sieve::default);
                    batch.push(entry);
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
                            self.0 = None;
                            count(&channel.account.undelivered_up, held);
                            batch.push(Entry::Data { stream, bytes });
                            batch.extend(entries);
                            let said = format!("a rule is about files, and this SFTP hides them: {why}");
                            live.control.end_now(EndReason::Protocol(said));
                            return false;
                        }
                    };
                    let passed = cuts.into_iter().filter_map(|cut| pass(live, channel, &bytes, cut));
                    batch.extend(passed.map(|bytes| Entry::Data { stream, bytes }));
                }
                (entry, _) => batch.push(entry),
            }
        }
        true
    }
}

/// What of a piece goes on.
fn pass(live: &Live, channel: &Channel, whole: &Bytes, cut: Cut<'_>) -> Option<Bytes> {
    match cut {
        Cut::Pass(std::borrow::Cow::Borrowed(part)) => Some(whole.slice_ref(part)),
        Cut::Pass(std::borrow::Cow::Owned(part)) => Some(part.into()),
        Cut::Ask { id, packet, wishes } => {
            let asked = wishes
                .iter()
                .try_for_each(|wish| ask(live, channel, wish, wish.is_plain()));
            match asked {
                Ok(()) => Some(packet.into()),
                Err(denial) => {
                    refuse(live, channel, id, packet.len(), &denial);
                    None
                }
            }
        }
    }
}

/// Asks policy about one thing to be done to a file. `plain`: its paths can be
/// held against a rule.
///
/// # Errors
/// The denial.
pub fn ask(live: &Live, channel: &Channel, wish: &Wish, plain: bool) -> Result<(), Denial> {
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
    live.decide(channel.number, request, &wish.path, &want).map(drop)
}

/// Keeps a request back and answers it.
fn refuse(live: &Live, channel: &Channel, id: u32, bytes: usize, denial: &Denial) {
    let answer = refusal(id, &format!("refused by rule {}: {}", denial.rule, denial.sentence));
    let mut take = live.recorder.take(channel.number);
    take.event(Event::Withheld {
        direction: Direction::ToTarget,
        bytes: bytes as u64,
        why: denial.rule.as_str().into(),
    });
    take.event(Event::Notice {
        bytes: answer.as_slice().into(),
        how: NoticeHow::Reply,
    });
    if let Some(event) = channel.transfers.refused(id, &denial.rule) {
        take.event(event);
    }
    if let Err(error) = take.done() {
        live.control.end_now(EndReason::RecorderFailed(error.to_string()));
        // Neither kept back nor passed on: it is in no account but this.
        count(&channel.account.undelivered_up, bytes);
        return;
    }
    count(&channel.account.withheld, bytes);
    count(&channel.account.injected, answer.len());
    if channel.down.control(Down::Answer(answer)).is_err() {
        channel.overran(&live.control);
    }
}
