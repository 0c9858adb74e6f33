//! What a hooked shell prints, on its way to the client: its marks are taken
//! out, and a shell that starts nothing else by a command is asked for plainly.
//!
//! Until it is known what runs, what the target says waits here, neither
//! recorded nor delivered: what then turns out to be the failed start of a
//! shell never was a program of the channel's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_recording::Event;
use portcullis_recording::event::Direction;

use super::answer::Answer;
use super::channel::{Channel, Down, Start, Up, count};
use super::lane::{Entry, Stream};
use super::session::Live;
use super::target_end::TargetEnd;
use crate::clock::{Tick, tick};
use crate::kernel::hook::{Nonce, Strip};

/// How long the first mark is waited for once the target has said yes: the login shell has to start another.
const START_WAIT: Duration = Duration::from_secs(3);
/// How long that yes is waited for: who logs in is looked at first.
const YES_WAIT: Duration = Duration::from_secs(15);
/// What comes before the first mark waits up to this, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// And up to so many entries.
const HELD_ENTRIES_MAX: usize = 64;

/// One hooked terminal.
pub struct Hooked {
    strip: Strip,
    first: Vec<u8>,
    phase: Phase,
}

enum Phase {
    /// No mark has come yet.
    Starts {
        until: Tick,
        held: Vec<Entry<Down>>,
    },
    /// The shell is asked for once more, plainly. The client has a yes already.
    Again,
    Runs,
}

/// What is known of a hooked shell after a batch.
#[derive(Debug, Default)]
pub enum Known {
    /// Nothing new.
    #[default]
    Same,
    /// Something runs.
    Runs,
    /// Nothing does, and this is what came of it: the shell is to be asked for plainly.
    Failed(Vec<Entry<Down>>),
}

impl Hooked {
    /// From the moment the shell is asked for.
    pub fn new(nonce: Nonce, now: Tick) -> Hooked {
        Hooked {
            strip: Strip::new(nonce),
            first: Strip::first(nonce),
            phase: Phase::Starts {
                until: now + YES_WAIT,
                held: Vec::new(),
            },
        }
    }

    /// The target's answer. Behind a no there is nothing to wait for: it is the client's as well.
    pub fn answered(&mut self, yes: bool, now: Tick) {
        if let Phase::Starts { until, .. } = &mut self.phase {
            *until = match yes {
                true => now + START_WAIT,
                false => now,
            };
        }
    }

    /// Whether the shell is to be asked for plainly, once that is known.
    pub fn failed(&self) -> Option<bool> {
        match self.phase {
            Phase::Starts { .. } => None,
            Phase::Again => Some(true),
            Phase::Runs => Some(false),
        }
    }

    /// When it counts as running at the latest.
    pub fn due(&self) -> Option<Tick> {
        match &self.phase {
            Phase::Starts { until, .. } => Some(*until),
            Phase::Again | Phase::Runs => None,
        }
    }

    /// Leaves in `batch` what is recorded now, and keeps the rest until it is known what runs.
    pub fn hold(&mut self, batch: &mut Vec<Entry<Down>>, now: Tick) -> Known {
        self.settle_answer(batch, now);
        let Phase::Starts { until, held } = &mut self.phase else {
            return Known::Same;
        };
        let mut passing = Vec::new();
        for entry in batch.drain(..) {
            match is_programs(&entry) {
                true => held.push(entry),
                false => passing.push(entry),
            }
        }
        let closed = held.iter().any(|entry| matches!(entry, Entry::Control(Down::Close)));
        if closed && !started(held, &self.first) && failed(held) {
            let held = std::mem::take(held);
            *batch = passing;
            self.phase = Phase::Again;
            return Known::Failed(held);
        }
        let bytes: usize = held.iter().map(data_bytes).sum();
        let long = held.len() > HELD_ENTRIES_MAX || bytes > HELD_BYTES_MAX || now >= *until;
        let known = closed || long || started(held, &self.first);
        if known {
            passing.append(held);
            self.phase = Phase::Runs;
        }
        *batch = passing;
        match known {
            true => Known::Runs,
            false => Known::Same,
        }
    }

    /// Leaves in `batch` what the client is sent; the number of bytes that it is not.
    pub fn strip(&mut self, batch: &mut Vec<Entry<Down>>) -> usize {
        let mut withheld = 0;
        let mut shown = Vec::with_capacity(batch.len() + 1);
        for mut entry in batch.drain(..) {
            match &mut entry {
                Entry::Data {
                    stream: Stream::Main,
                    bytes,
                } => {
                    let stripped = self.strip.take(bytes);
                    withheld += stripped.withheld;
                    if let Some(part) = stripped.shown {
                        *bytes = part.into();
                    }
                }
                // Nothing of the shell's comes behind these.
                Entry::Control(Down::Eof | Down::Close) => {
                    let bytes = Bytes::from(self.strip.finish());
                    let stream = Stream::Main;
                    shown.push(Entry::Data { stream, bytes });
                }
                Entry::Data { .. } | Entry::Control(_) => {}
            }
            shown.push(entry);
        }
        shown.retain(|entry| !matches!(entry, Entry::Data { bytes, .. } if bytes.is_empty()));
        *batch = shown;
        withheld
    }

    /// Bytes that were held back and go nowhere any more.
    pub fn left(&mut self) -> usize {
        let held = match std::mem::replace(&mut self.phase, Phase::Runs) {
            Phase::Starts { held, .. } => held.iter().map(data_bytes).sum(),
            Phase::Again | Phase::Runs => 0,
        };
        held + self.strip.finish().len()
    }

    /// Looks at late answers of the target, and lets the client have one only.
    fn settle_answer(&mut self, batch: &mut Vec<Entry<Down>>, now: Tick) {
        let Some(at) = batch
            .iter()
            .position(|entry| matches!(entry, Entry::Control(Down::Reply(_))))
        else {
            return;
        };
        let yes = matches!(batch.get(at), Some(Entry::Control(Down::Reply(true))));
        match self.phase {
            Phase::Starts { .. } => self.answered(yes, now),
            Phase::Again => {
                self.phase = Phase::Runs;
                batch.remove(at);
                if !yes {
                    let why = "the target gives no shell, with the hook or without it".to_owned();
                    batch.extend([Entry::Control(Down::Lost(why)), Entry::Control(Down::Close)]);
                }
            }
            Phase::Runs => {}
        }
    }
}

/// Whether it comes from what the target runs, and not from us.
fn is_programs(entry: &Entry<Down>) -> bool {
    match entry {
        Entry::Data { .. } => true,
        Entry::Control(control) => match control {
            Down::Eof
            | Down::ExitStatus(_)
            | Down::ExitSignal { .. }
            | Down::XonXoff(_)
            | Down::Lost(_)
            | Down::Close => true,
            Down::Reply(_) | Down::Banner(_) | Down::Notice(_) | Down::Told(_) | Down::Refused(_) | Down::Answer(_) => {
                false
            }
        },
    }
}

/// Whether the launcher's mark has come.
fn started(held: &[Entry<Down>], first: &[u8]) -> bool {
    let output: Vec<u8> = held.iter().filter_map(output_of).flatten().copied().collect();
    output.windows(first.len()).any(|part| part == first)
}

fn output_of(entry: &Entry<Down>) -> Option<&Bytes> {
    match entry {
        Entry::Data {
            stream: Stream::Main,
            bytes,
        } => Some(bytes),
        Entry::Data {
            stream: Stream::Stderr, ..
        }
        | Entry::Control(_) => None,
    }
}

/// Whether the program told that it did not succeed, or said nothing at all.
fn failed(held: &[Entry<Down>]) -> bool {
    let silent = held.iter().all(|entry| data_bytes(entry) == 0);
    held.iter().any(|entry| match entry {
        Entry::Control(Down::ExitStatus(status)) => *status != 0 || silent,
        Entry::Data { .. } | Entry::Control(_) => false,
    })
}

fn data_bytes(entry: &Entry<Down>) -> usize {
    match entry {
        Entry::Data { bytes, .. } => bytes.len(),
        Entry::Control(_) => 0,
    }
}

/// Keeps back what waits for the hook. Whether what a failed start said could be recorded.
pub fn hold(live: &Live, channel: &Channel, batch: &mut Vec<Entry<Down>>) -> bool {
    let Some(known) = channel.hooked().map(|mut hooked| hooked.hold(batch, tick())) else {
        return true;
    };
    let recorded = match known {
        Known::Same | Known::Runs => true,
        Known::Failed(held) => record_failed(live, channel, &held),
    };
    channel.hook_moved.notify_one();
    recorded
}

/// What a failed start said is evidence, and nothing that the user sees or that ends the channel.
fn record_failed(live: &Live, channel: &Channel, held: &[Entry<Down>]) -> bool {
    let mut status = None;
    for entry in held {
        match entry {
            Entry::Data { stream, bytes } => {
                let event = match stream {
                    Stream::Main => Event::Output(bytes.as_ref().into()),
                    Stream::Stderr => Event::Stderr(bytes.as_ref().into()),
                };
                if !live.record(channel.number, event) || !withhold(live, channel, *stream, bytes.len()) {
                    return false;
                }
            }
            Entry::Control(Down::ExitStatus(told)) => status = Some(*told),
            Entry::Control(_) => {}
        }
    }
    let status = status.map_or_else(String::new, |status| format!(" (exit status {status})"));
    let text = format!("the hook did not start{status}; the shell is asked for without it");
    live.record(channel.number, Event::Marker { text: text.into() })
}

/// Takes what a hooked shell says to us out of what its user is shown, and
/// records how much that was; whether it could.
pub fn unhook(live: &Live, channel: &Channel, batch: &mut Vec<Entry<Down>>) -> bool {
    let withheld = channel.hooked().map(|mut hooked| hooked.strip(batch));
    withhold(live, channel, Stream::Main, withheld.unwrap_or_default())
}

fn withhold(live: &Live, channel: &Channel, stream: Stream, bytes: usize) -> bool {
    count(&channel.account.withheld, bytes);
    let event = Event::Withheld {
        direction: match stream {
            Stream::Main => Direction::ToClient,
            Stream::Stderr => Direction::ToClientErr,
        },
        bytes: bytes as u64,
        why: "shell hook".into(),
    };
    bytes == 0 || live.record(channel.number, event)
}

/// Waits until a shell that was asked for with the hook is known to run, and
/// asks for it plainly if it does not. What is typed meanwhile waits.
///
/// # Errors
/// Why there is no shell; the client is told that the target is gone.
pub async fn settle(
    live: &Arc<Live>,
    channel: &Arc<Channel>,
    target: &mut TargetEnd,
    asked: Vec<Up>,
) -> Result<(), String> {
    if channel.hooked().is_none() || channel.stop.guard(channel.hook_failed()).await != Some(true) {
        return Ok(());
    }
    match plainly(live, channel, asked).await {
        Ok(plain) => {
            std::mem::replace(target, plain).leave(false).await;
            Ok(())
        }
        Err(why) => {
            let lost = Down::Lost(format!("no shell without the hook: {why}"));
            let told = channel.down.control(lost);
            told.and_then(|()| channel.down.control(Down::Close)).ok();
            Err(why)
        }
    }
}

/// A fresh channel at the target, with what was asked for on the first one and a plain shell.
async fn plainly(live: &Arc<Live>, channel: &Arc<Channel>, opening: Vec<Up>) -> Result<TargetEnd, String> {
    let opened = channel.stop.guard(live.again(channel)).await;
    let mut target = opened
        .ok_or("the session ended")?
        .map_err(|failure| failure.description().to_owned())?;
    // The client has its answers to these.
    let opening = opening.into_iter().map(|asked| match asked {
        Up::Pty(terminal, _) => Up::Pty(terminal, Arc::default()),
        Up::Agent(_) => Up::Agent(Arc::new(Answer::default())),
        Up::X11(display, _) => Up::X11(display, Arc::default()),
        other @ (Up::Env { .. }
        | Up::Start(_)
        | Up::Consent(_)
        | Up::WindowChange { .. }
        | Up::Signal(_)
        | Up::Keys(_)
        | Up::Eof
        | Up::Close) => other,
    });
    for asked in opening.chain([Up::Start(Start::Shell)]) {
        let taken = channel.stop.guard(target.take(Entry::Control(asked))).await;
        taken.ok_or("the session ended")?.map_err(|error| error.to_string())?;
    }
    Ok(target)
}

/// Waits until then, or for ever.
pub async fn at(due: Option<Tick>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tick;

    const NONCE: [u8; 16] = [7; 16];

    fn data(text: &str) -> Entry<Down> {
        Entry::Data {
            stream: Stream::Main,
            bytes: Bytes::from(text.to_owned()),
        }
    }

    const MARK: &str = "\x1b]633;P;Launch;07070707070707070707070707070707\x07";

    fn text(batch: &[Entry<Down>]) -> String {
        batch
            .iter()
            .map(|entry| match entry {
                Entry::Data { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
                Entry::Control(control) => format!("<{control:?}>"),
            })
            .collect()
    }

    fn hooked() -> (Hooked, Tick) {
        let now = tick();
        (Hooked::new(Nonce::new(NONCE), now), now)
    }

    fn hold(hooked: &mut Hooked, mut batch: Vec<Entry<Down>>, now: Tick) -> (String, Known) {
        let known = hooked.hold(&mut batch, now);
        hooked.strip(&mut batch);
        (text(&batch), known)
    }

    #[test]
    fn what_comes_before_the_first_mark_waits_for_it() {
        let (mut hooked, now) = hooked();
        let reply = vec![Entry::Control(Down::Reply(true)), data("welcome\n")];
        let (shown, known) = hold(&mut hooked, reply, now);
        assert!(matches!(known, Known::Same));
        assert_eq!(shown, "<Reply(true)>");
        assert_eq!(hooked.due(), Some(now + START_WAIT));
        let (one, two) = MARK.split_at(9);
        assert_eq!(hold(&mut hooked, vec![data(one)], now).0, "");
        let (shown, known) = hold(&mut hooked, vec![data(&format!("{two}$ "))], now);
        assert!(matches!(known, Known::Runs));
        assert_eq!(shown, "welcome\n$ ");
        assert!(hooked.failed() == Some(false) && hooked.due().is_none());
        let end = vec![Entry::Control(Down::ExitStatus(1)), Entry::Control(Down::Close)];
        assert_eq!(hold(&mut hooked, end, now).0, "<ExitStatus(1)><Close>");
    }

    #[test]
    fn a_start_that_fails_is_not_shown_and_asked_again() {
        for (said, status) in [("exec: restricted\n", 126), ("", 0)] {
            let (mut hooked, now) = hooked();
            hooked.answered(true, now);
            let batch = vec![data(said), Entry::Control(Down::ExitStatus(status))];
            assert_eq!(hold(&mut hooked, batch, now).0, "");
            assert_eq!(hooked.failed(), None);
            let end = vec![
                Entry::Control(Down::Notice("ends soon".into())),
                Entry::Control(Down::Close),
            ];
            let (shown, known) = hold(&mut hooked, end, now);
            let Known::Failed(held) = known else {
                panic!("{known:?}")
            };
            assert_eq!(shown, "<Notice(\"ends soon\")>", "what is ours is not thrown away");
            assert_eq!(text(&held), format!("{said}<ExitStatus({status})><Close>"));
            assert_eq!(hooked.failed(), Some(true));
            let reply = vec![Entry::Control(Down::Reply(true)), data("$ ")];
            assert_eq!(hold(&mut hooked, reply, now).0, "$ ", "the client has its answer");
        }
    }

    #[test]
    fn a_no_is_the_clients_and_what_came_before_it_is_not_lost() {
        let (mut hooked, now) = hooked();
        assert_eq!(hold(&mut hooked, vec![data("why not")], now).0, "");
        hooked.answered(false, now);
        assert_eq!(hold(&mut hooked, Vec::new(), now).0, "why not");
        assert_eq!(hooked.failed(), Some(false));
        let reply = vec![Entry::Control(Down::Reply(false))];
        assert_eq!(hold(&mut hooked, reply, now).0, "<Reply(false)>");

        let (mut hooked, now) = self::hooked();
        let reply = vec![Entry::Control(Down::Reply(false))];
        assert_eq!(hold(&mut hooked, reply, now).0, "<Reply(false)>", "a late one");
        assert_eq!(hooked.failed(), Some(false));

        let (mut hooked, now) = self::hooked();
        hold(
            &mut hooked,
            vec![Entry::Control(Down::ExitStatus(1)), Entry::Control(Down::Close)],
            now,
        );
        let (shown, _) = hold(&mut hooked, vec![Entry::Control(Down::Reply(false))], now);
        assert!(shown.starts_with("<Lost(") && shown.ends_with("<Close>"), "{shown}");
    }

    #[test]
    fn a_program_that_runs_instead_is_shown() {
        let (mut hooked, now) = hooked();
        let batch = vec![
            data("menu"),
            Entry::Control(Down::ExitStatus(0)),
            Entry::Control(Down::Close),
        ];
        assert_eq!(hold(&mut hooked, batch, now).0, "menu<ExitStatus(0)><Close>");

        let (mut hooked, now) = self::hooked();
        hooked.answered(true, now);
        assert_eq!(hold(&mut hooked, vec![data("menu")], now).0, "");
        assert_eq!(hold(&mut hooked, Vec::new(), now + START_WAIT).0, "menu");

        let (mut hooked, now) = self::hooked();
        let much = "x".repeat(HELD_BYTES_MAX + 1);
        assert_eq!(hold(&mut hooked, vec![data(&much)], now).0, much);
    }

    #[test]
    fn what_is_held_at_the_end_is_counted() {
        let (mut hooked, now) = hooked();
        hold(&mut hooked, vec![data("menu\x1b]63")], now);
        assert_eq!(hooked.left(), "menu\x1b]63".len());
        assert_eq!(hooked.left(), 0);
    }
}
