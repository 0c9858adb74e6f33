//! What a hooked shell prints, on its way to the client: its marks are taken
//! out, and a shell that starts nothing else by a command is noticed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_recording::Event;
use portcullis_recording::event::Direction;

use super::channel::{Channel, Down, Start, Up, count};
use super::lane::{Entry, Stream};
use super::pump::TargetEnd;
use super::session::Live;
use crate::clock::{Tick, tick};
use crate::kernel::hook::{Nonce, Strip};

/// How long the first mark is waited for: the login shell has to start another.
const START_WAIT: Duration = Duration::from_secs(3);
/// What comes before the first mark waits up to this, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// And up to so many entries.
const HELD_ENTRIES_MAX: usize = 64;

/// One hooked terminal.
pub struct Hooked {
    strip: Strip,
    phase: Phase,
}

enum Phase {
    /// No mark has come yet. What else came is not shown until it is known what runs.
    Starts {
        since: Tick,
        held: Vec<Entry<Down>>,
    },
    /// The shell was asked for once more, plainly. Its answer is one that the client has.
    Again,
    Runs,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// Bytes that the client is not sent.
    pub withheld: usize,
    /// The program ended before its first mark and without success: the shell is to be asked for plainly.
    pub again: bool,
}

impl Hooked {
    /// From the moment the shell is asked for.
    pub fn new(nonce: Nonce, now: Tick) -> Hooked {
        Hooked {
            strip: Strip::new(nonce),
            phase: Phase::Starts {
                since: now,
                held: Vec::new(),
            },
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

    /// When it counts as running at the latest, and what is held is shown.
    pub fn due(&self) -> Option<Tick> {
        match &self.phase {
            Phase::Starts { since, .. } => since.checked_add(START_WAIT),
            Phase::Again | Phase::Runs => None,
        }
    }

    /// Leaves in `batch` what the client is sent.
    pub fn take(&mut self, batch: &mut Vec<Entry<Down>>, now: Tick) -> Taken {
        let mut taken = Taken::default();
        let mut shown = Vec::with_capacity(batch.len() + 1);
        for mut entry in batch.drain(..) {
            let mut mark = false;
            match &mut entry {
                Entry::Data {
                    stream: Stream::Main,
                    bytes,
                } => {
                    let stripped = self.strip.take(bytes);
                    mark = stripped.withheld > 0;
                    taken.withheld += stripped.withheld;
                    if let Some(part) = stripped.shown {
                        *bytes = part.into();
                    }
                }
                Entry::Control(Down::Reply(_)) if matches!(self.phase, Phase::Again) => {
                    self.phase = Phase::Runs;
                    continue;
                }
                // Nothing of the shell's comes behind these.
                Entry::Control(Down::Eof | Down::Close) => {
                    let bytes = Bytes::from(self.strip.finish());
                    let stream = Stream::Main;
                    self.put(&mut shown, Entry::Data { stream, bytes });
                }
                Entry::Data { .. } | Entry::Control(_) => {}
            }
            if mark {
                self.run(&mut shown);
            }
            let closes = matches!(entry, Entry::Control(Down::Close));
            match &mut self.phase {
                Phase::Starts { held, .. } if closes && failed(held) => {
                    taken.withheld += held.iter().map(data_bytes).sum::<usize>();
                    taken.again = true;
                    self.phase = Phase::Again;
                }
                Phase::Starts { .. } if closes => {
                    self.run(&mut shown);
                    shown.push(entry);
                }
                Phase::Starts { .. } | Phase::Again | Phase::Runs => self.put(&mut shown, entry),
            }
        }
        if self.is_long(now) {
            self.run(&mut shown);
        }
        *batch = shown;
        taken
    }

    /// Bytes that were held back and go nowhere any more.
    pub fn left(&mut self) -> usize {
        let held = match std::mem::replace(&mut self.phase, Phase::Runs) {
            Phase::Starts { held, .. } => held.iter().map(data_bytes).sum(),
            Phase::Again | Phase::Runs => 0,
        };
        held + self.strip.finish().len()
    }

    /// Puts something where it waits or is shown.
    fn put(&mut self, shown: &mut Vec<Entry<Down>>, entry: Entry<Down>) {
        if matches!(&entry, Entry::Data { bytes, .. } if bytes.is_empty()) {
            return;
        }
        match &mut self.phase {
            // The answer to the request is awaited by the client, and what was said before it is no shell's.
            Phase::Starts { held, .. } if !matches!(entry, Entry::Control(Down::Reply(_) | Down::Banner(_))) => {
                held.push(entry);
            }
            Phase::Starts { .. } | Phase::Again | Phase::Runs => shown.push(entry),
        }
    }

    /// Shows what was held: something runs.
    fn run(&mut self, shown: &mut Vec<Entry<Down>>) {
        if let Phase::Starts { held, .. } = std::mem::replace(&mut self.phase, Phase::Runs) {
            shown.extend(held);
        }
    }

    /// Whether something runs that says much, or for long, and no mark.
    fn is_long(&self, now: Tick) -> bool {
        match &self.phase {
            Phase::Starts { since, held } => {
                held.len() > HELD_ENTRIES_MAX
                    || held.iter().map(data_bytes).sum::<usize>() > HELD_BYTES_MAX
                    || now.duration_since(*since) >= START_WAIT
            }
            Phase::Again | Phase::Runs => false,
        }
    }
}

/// Whether the program told that it did not succeed.
fn failed(held: &[Entry<Down>]) -> bool {
    let status = held.iter().find_map(|entry| match entry {
        Entry::Control(Down::ExitStatus(status)) => Some(*status),
        Entry::Data { .. } | Entry::Control(_) => None,
    });
    status.is_some_and(|status| status != 0)
}

fn data_bytes(entry: &Entry<Down>) -> usize {
    match entry {
        Entry::Data { bytes, .. } => bytes.len(),
        Entry::Control(_) => 0,
    }
}

/// Takes what a hooked shell says to us out of what its user is shown, and
/// records how much that was; whether it could.
pub fn unhook(live: &Live, channel: &Channel, batch: &mut Vec<Entry<Down>>) -> bool {
    let Some(taken) = channel.hooked().map(|mut hooked| hooked.take(batch, tick())) else {
        return true;
    };
    count(&channel.account.withheld, taken.withheld);
    let withheld = Event::Withheld {
        direction: Direction::ToClient,
        bytes: taken.withheld as u64,
        why: "shell hook".into(),
    };
    if taken.withheld > 0 && !live.record(channel.number, withheld) {
        return false;
    }
    let text = "the hook did not start; the shell is asked for without it";
    if taken.again && !live.record(channel.number, Event::Marker { text: text.into() }) {
        return false;
    }
    channel.hook_moved.notify_one();
    true
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
            let told = channel
                .down
                .control(Down::Lost(format!("no shell without the hook: {why}")));
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
    for asked in opening.into_iter().chain([Up::Start(Start::Shell)]) {
        let taken = target.take(Entry::Control(asked)).await;
        taken.map_err(|error| error.to_string())?;
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

    fn mark() -> String {
        format!("\x1b]633;P;Shell=bash;{}\x07", Nonce::new(NONCE))
    }

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

    #[test]
    fn what_comes_before_the_first_mark_waits_for_it() {
        let (mut hooked, now) = hooked();
        let mut batch = vec![Entry::Control(Down::Reply(true)), data("welcome\n")];
        assert_eq!(hooked.take(&mut batch, now), Taken::default());
        assert_eq!(text(&batch), "<Reply(true)>");
        assert_eq!(hooked.due(), Some(now + START_WAIT));
        let mut batch = vec![data(&format!("{}$ ", mark()))];
        let taken = hooked.take(&mut batch, now);
        assert_eq!(taken.withheld, mark().len());
        assert_eq!(text(&batch), "welcome\n$ ");
        assert!(hooked.failed() == Some(false) && hooked.due().is_none());
        let mut batch = vec![Entry::Control(Down::ExitStatus(1)), Entry::Control(Down::Close)];
        assert_eq!(hooked.take(&mut batch, now), Taken::default());
        assert_eq!(text(&batch), "<ExitStatus(1)><Close>");
    }

    #[test]
    fn a_start_that_fails_is_not_shown_and_asked_again() {
        let (mut hooked, now) = hooked();
        let mut batch = vec![data("exec: restricted\n"), Entry::Control(Down::ExitStatus(126))];
        assert_eq!(hooked.take(&mut batch, now), Taken::default());
        let mut batch = vec![Entry::Control(Down::Eof), Entry::Control(Down::Close)];
        let taken = hooked.take(&mut batch, now);
        assert!(taken.again && batch.is_empty());
        assert_eq!(taken.withheld, "exec: restricted\n".len());
        let mut batch = vec![Entry::Control(Down::Reply(true)), data("$ ")];
        assert_eq!(hooked.take(&mut batch, now), Taken::default());
        assert_eq!(text(&batch), "$ ", "the client has its answer");
    }

    #[test]
    fn a_program_that_runs_instead_is_shown() {
        let (mut hooked, now) = hooked();
        let mut batch = vec![
            data("menu"),
            Entry::Control(Down::ExitStatus(0)),
            Entry::Control(Down::Close),
        ];
        assert_eq!(hooked.take(&mut batch, now), Taken::default());
        assert_eq!(text(&batch), "menu<ExitStatus(0)><Close>");

        let (mut hooked, now) = self::hooked();
        let mut batch = vec![data("menu")];
        hooked.take(&mut batch, now);
        assert_eq!(text(&batch), "");
        hooked.take(&mut batch, now + START_WAIT);
        assert_eq!(text(&batch), "menu");

        let (mut hooked, now) = self::hooked();
        let mut batch = vec![data(&"x".repeat(HELD_BYTES_MAX + 1))];
        hooked.take(&mut batch, now);
        assert_eq!(text(&batch).len(), HELD_BYTES_MAX + 1);
    }

    #[test]
    fn what_is_held_at_the_end_is_counted() {
        let (mut hooked, now) = hooked();
        hooked.take(&mut vec![data("menu\x1b]63")], now);
        assert_eq!(hooked.left(), "menu\x1b]63".len());
        assert_eq!(hooked.left(), 0);
    }
}
