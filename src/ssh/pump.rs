//! Moves bytes: one task a direction and channel, through the recorder.
//!
//! The order in each round is law 1: take a batch out of the lane, record all
//! of it in one write, and only then forward it. Once the stop token has
//! fired nothing more is forwarded; what was taken out counts as undelivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use portcullis_recording::Event;
use portcullis_recording::event::NoticeHow;
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::OwnedSemaphorePermit;

use super::channel::{Carries, Channel, Down, Up, count};
use super::consent::Consents;
use super::enters::Enters;
use super::guard;
use super::hook::{self, at, unhook};
use super::lane::{Entry, Stream};
use super::record::{record_input, record_output};
use super::requests;
use super::resize::Resizes;
use super::session::Live;
use super::sieving::Sieving;
use super::target_end::TargetEnd;
use crate::kernel::session::EndReason;
use crate::kernel::transfer::weave::Weave;

/// Bytes taken out of a lane and recorded at once.
const BATCH_BYTES: usize = 256 * 1024;
/// What a shell is asked for with, in requests, that is asked for again with it.
const OPENING_MAX: usize = 128;
/// How long a target may take to close its side once the client has closed.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long an EOF of the target waits for the exit status behind it, while
/// the client may still send.
const EOF_WAIT: Duration = Duration::from_millis(200);
/// How long a client may take for a forward's goodbye.
const LEAVE_WAIT: Duration = Duration::from_millis(200);
/// OpenSSH gives up at the refusal of its program, and shows what it has by then.
const REFUSED_PAUSE: Duration = Duration::from_millis(30);
/// SSH_EXTENDED_DATA_STDERR (RFC 4254 section 5.2).
const STDERR: u32 = 1;

/// The client's side of one channel. Cheap to clone.
#[derive(Clone)]
pub struct ClientEnd {
    write: Arc<ChannelWriteHalf<Msg>>,
    handle: Handle,
    closed: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl ClientEnd {
    pub fn new(write: ChannelWriteHalf<Msg>, handle: Handle) -> ClientEnd {
        ClientEnd {
            write: Arc::new(write),
            handle,
            closed: Arc::new(AtomicBool::new(false)),
            ended: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Whether the channel was closed by either side.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether the target ended it: a client that closes on its own leaves a
    /// program running, and that is no ordinary exit.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Either side closed it.
    pub fn set_closed(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Closes the client's side.
    pub async fn close(&self) {
        self.set_closed();
        self.write.close().await.ok();
    }

    /// Sends a notice; best effort, bounded by the caller.
    pub async fn stderr(&self, bytes: Bytes) {
        self.write.extended_data_bytes(STDERR, bytes).await.ok();
    }

    async fn data(&self, stream: Stream, bytes: Bytes) -> Result<(), russh::Error> {
        match stream {
            Stream::Main => self.write.data_bytes(bytes).await,
            Stream::Stderr => self.write.extended_data_bytes(STDERR, bytes).await,
        }
    }
}

/// Starts both pumps of a channel.
pub fn start(
    live: Arc<Live>,
    channel: Arc<Channel>,
    client: ClientEnd,
    target: TargetEnd,
    place: OwnedSemaphorePermit,
) {
    let both = Arc::new(Both(live.clone(), channel.clone()));
    let guard = live.pump();
    tokio::spawn({
        let (live, channel, both) = (live.clone(), channel.clone(), both.clone());
        async move {
            down(&live, &channel, &client).await;
            drop(both);
            drop(guard);
        }
    });
    let guard = live.pump();
    tokio::spawn(async move {
        up(&live, &channel, target).await;
        drop(both);
        drop(place);
        drop(guard);
    });
}

/// Both pumps of a channel: when the second one ends, the channel is over.
struct Both(Arc<Live>, Arc<Channel>);

impl Drop for Both {
    fn drop(&mut self) {
        // Files that nobody closed, before the channel is forgotten.
        let mut take = self.0.recorder.take(self.1.number);
        self.1.transfers.end(&self.0.recorder).record(&mut take);
        if let Err(error) = take.done() {
            self.0.control.end_now(EndReason::RecorderFailed(error.to_string()));
        }
        self.0.retire(&self.1);
    }
}

/// Client to target.
async fn up(live: &Arc<Live>, channel: &Arc<Channel>, mut target: TargetEnd) {
    let mut batch = Vec::new();
    let mut resizes = Resizes::default();
    let mut sieving = Sieving::default();
    let mut consents = Consents::default();
    let mut enters = Enters::default();
    // What a shell is asked for with, in case it is asked for again.
    let mut opening = Vec::new();
    'pumping: loop {
        let popped = channel.stop.guard(async {
            if consents.waits() {
                consents.answered(live, channel, &mut batch).await;
                return Ok(true);
            }
            tokio::select! {
                biased;
                popped = channel.up.pop(BATCH_BYTES, &mut batch), if enters.has_room() && resizes.has_room() => popped,
                () = resizes.due() => Ok(true),
                () = enters.due(live, channel) => Ok(true),
            }
        });
        match popped.await {
            Some(Ok(true)) => {}
            Some(Ok(false)) | None => break,
            Some(Err(error)) => {
                live.control.end_now(EndReason::RecorderFailed(error.to_string()));
                break;
            }
        }
        consents.sift(&mut batch);
        resizes.thin(&mut batch);
        if !enters.sift(live, channel, &mut batch) {
            undelivered_up(channel, batch.drain(..));
            break;
        }
        if batch.is_empty() {
            continue;
        }
        live.control.active();
        channel.stop.guard(live.recorder.room()).await;
        if let Err(error) = record_input(live, channel, &batch).await {
            undelivered_up(channel, batch.drain(..));
            live.control.end_now(EndReason::RecorderFailed(error));
            break;
        }
        if !sieving.sift(live, channel, &mut batch) {
            undelivered_up(channel, batch.drain(..));
            break;
        }
        let mut entries = batch.drain(..);
        while let Some(entry) = entries.next() {
            if channel.stop.fired() {
                undelivered_up(channel, std::iter::once(entry).chain(entries));
                break 'pumping;
            }
            let closing = matches!(entry, Entry::Control(Up::Close));
            let length = data_length(&entry);
            if let Entry::Control(
                asked @ (Up::Pty(..) | Up::Env { .. } | Up::Agent(_) | Up::X11(..) | Up::WindowChange { .. }),
            ) = &entry
                && opening.len() < OPENING_MAX
            {
                opening.push(asked.clone());
            }
            let starts = matches!(entry, Entry::Control(Up::Start(_)));
            match channel.stop.guard(target.take(entry)).await {
                Some(Ok(())) => count(&channel.account.to_target, length),
                Some(Err(_)) | None => {
                    count(&channel.account.undelivered_up, length);
                    undelivered_up(channel, entries);
                    break 'pumping;
                }
            }
            if starts {
                let asked = std::mem::take(&mut opening);
                if let Err(why) = hook::settle(live, channel, &mut target, asked).await {
                    tracing::warn!(session = %live.id, why, "a shell was not asked for again");
                    undelivered_up(channel, entries);
                    break 'pumping;
                }
            }
            if closing && channel.carries == Carries::Forward {
                // Nothing follows that the client would still take.
                channel.stop.fire();
                break 'pumping;
            }
            if closing {
                // The target's own CLOSE comes through the other lane and stops us.
                tokio::time::timeout(CLOSE_WAIT, channel.stop.wait()).await.ok();
                channel.stop.fire();
                break 'pumping;
            }
        }
    }
    // What was not a whole request yet, or waited for its Enter, for somebody's yes, or behind a window change.
    count(&channel.account.undelivered_up, resizes.held());
    count(&channel.account.undelivered_up, consents.held());
    consents.end(live, channel);
    count(&channel.account.undelivered_up, sieving.held());
    count(&channel.account.undelivered_up, enters.held());
    enters.end(live, channel);
    // Boxed: a pump's memory is not sized by its last step.
    Box::pin(target.leave(live.control.stop.fired())).await;
}

/// Target to client.
async fn down(live: &Arc<Live>, channel: &Arc<Channel>, client: &ClientEnd) {
    let mut batch = Vec::new();
    let mut waiting_notice = None;
    let mut weave = Weave::default();
    // An EOF of the target that waits for its exit status. A client that has
    // sent its own EOF answers with CLOSE, russh answers that with CLOSE by
    // itself, and an exit status behind it would be lost.
    let mut held_eof = false;
    'pumping: loop {
        if held_eof && !channel.client_eof.load(Ordering::SeqCst) {
            let filled = channel
                .stop
                .guard(tokio::time::timeout(EOF_WAIT, channel.down.filled()));
            if let Some(Err(_)) = filled.await {
                // A true half-close: the program goes on.
                held_eof = false;
                channel.stop.guard(pass_control(client, Down::Eof)).await;
            }
        }
        let due = channel.hooked().and_then(|hooked| hooked.due());
        let popped = channel.stop.guard(async {
            tokio::select! {
                biased;
                popped = channel.down.pop(BATCH_BYTES, &mut batch) => popped,
                () = at(due) => Ok(true),
                () = channel.hook_set.notified() => Ok(true),
            }
        });
        match popped.await {
            Some(Ok(true)) => {}
            Some(Ok(false)) | None => break,
            Some(Err(error)) => {
                live.control.end_now(EndReason::RecorderFailed(error.to_string()));
                break;
            }
        }
        if !hook::hold(live, channel, &mut batch) {
            undelivered_down(channel, batch.drain(..));
            break;
        }
        if batch.is_empty() {
            continue;
        }
        live.control.active();
        channel.stop.guard(live.recorder.room()).await;
        if let Err(error) = record_output(live, channel, &batch) {
            undelivered_down(channel, batch.drain(..));
            live.control.end_now(EndReason::RecorderFailed(error));
            break;
        }
        guard::saw(live, channel, &batch);
        if !unhook(live, channel, &mut batch) {
            undelivered_down(channel, batch.drain(..));
            break;
        }
        let mut entries = batch.drain(..);
        while let Some(entry) = entries.next() {
            if channel.stop.fired() {
                undelivered_down(channel, std::iter::once(entry).chain(entries));
                break 'pumping;
            }
            match entry {
                Entry::Data { stream, mut bytes } => {
                    while !bytes.is_empty() {
                        let whole = stream != Stream::Main || !channel.transfers.asks();
                        let now = if whole { bytes.len() } else { weave.pass(&bytes) };
                        let delivered = deliver(channel, client, stream, bytes.split_to(now)).await
                            && answer(channel, client, &mut weave).await;
                        if !delivered {
                            count(&channel.account.undelivered_down, bytes.len());
                            undelivered_down(channel, entries);
                            break 'pumping;
                        }
                    }
                }
                Entry::Control(Down::Answer(bytes)) => {
                    if weave.put(bytes).is_err() {
                        live.control.end_now(EndReason::Backlog);
                        undelivered_down(channel, entries);
                        break 'pumping;
                    }
                    if !answer(channel, client, &mut weave).await {
                        undelivered_down(channel, entries);
                        break 'pumping;
                    }
                }
                // No exit status comes behind a forward's.
                Entry::Control(Down::Eof) if channel.carries == Carries::Forward => {
                    channel.stop.guard(pass_control(client, Down::Eof)).await;
                }
                Entry::Control(Down::Eof) => held_eof = true,
                Entry::Control(Down::Close) => {
                    if std::mem::take(&mut held_eof) {
                        channel.stop.guard(pass_control(client, Down::Eof)).await;
                    }
                    client.ended.store(true, Ordering::SeqCst);
                    client.set_closed();
                    channel.stop.guard(client.write.close()).await;
                    channel.stop.fire();
                    break 'pumping;
                }
                Entry::Control(Down::Banner(lines) | Down::Told(lines)) => say(live, channel, client, lines).await,
                Entry::Control(Down::Notice(text)) => waiting_notice = Some(text),
                Entry::Control(Down::Refused(text)) => {
                    say(live, channel, client, format!("portcullis: {text}\r\n")).await;
                    channel.stop.guard(tokio::time::sleep(REFUSED_PAUSE)).await;
                    // A second start that was refused leaves the first one running.
                    let runs = channel.started.load(Ordering::SeqCst);
                    channel.stop.guard(refuse_start(channel, client, runs)).await;
                }
                Entry::Control(Down::Reply(false)) => {
                    requests::not_started(live, channel, "the target said no");
                    channel.stop.guard(refuse_start(channel, client, false)).await;
                }
                Entry::Control(Down::Lost(_)) if channel.carries == Carries::Forward => {}
                Entry::Control(Down::Lost(why)) => {
                    say(live, channel, client, format!("portcullis: {why}\r\n")).await;
                }
                Entry::Control(control) => {
                    let ended = matches!(control, Down::ExitStatus(_) | Down::ExitSignal { .. });
                    if channel.stop.guard(pass_control(client, control)).await.is_none() {
                        undelivered_down(channel, entries);
                        break 'pumping;
                    }
                    if ended && std::mem::take(&mut held_eof) {
                        channel.stop.guard(pass_control(client, Down::Eof)).await;
                    }
                }
            }
        }
        drop(entries);
        if let Some(text) = waiting_notice.take() {
            waiting_notice = give_notice(live, channel, client, text).await;
        }
    }
    if let Some(mut hooked) = channel.hooked() {
        count(&channel.account.undelivered_down, hooked.left());
    }
    channel.abandon();
    if channel.carries == Carries::Forward && !client.closed() && !live.control.stop.fired() {
        tokio::time::timeout(LEAVE_WAIT, client.close()).await.ok();
    }
}

/// Passes bytes of the target on; whether the client took them.
async fn deliver(channel: &Channel, client: &ClientEnd, stream: Stream, bytes: Bytes) -> bool {
    let length = bytes.len();
    let terminal = channel.is_terminal().then(|| bytes.clone());
    if !matches!(channel.stop.guard(client.data(stream, bytes)).await, Some(Ok(()))) {
        count(&channel.account.undelivered_down, length);
        return false;
    }
    count(
        match stream {
            Stream::Main => &channel.account.to_client_out,
            Stream::Stderr => &channel.account.to_client_err,
        },
        length,
    );
    if let Some(bytes) = terminal {
        channel.screen().advance(&bytes);
    }
    true
}

/// Sends those answers of ours that fit here; they are recorded and counted
/// already. Whether the client took them.
async fn answer(channel: &Channel, client: &ClientEnd, weave: &mut Weave) -> bool {
    for answer in weave.ready() {
        let sent = channel.stop.guard(client.data(Stream::Main, answer.into())).await;
        if !matches!(sent, Some(Ok(()))) {
            return false;
        }
    }
    true
}

/// A line of ours, recorded before it goes.
async fn say(live: &Live, channel: &Channel, client: &ClientEnd, line: String) {
    let event = Event::Notice {
        bytes: line.as_bytes().into(),
        how: NoticeHow::Stderr,
    };
    if live.record(channel.number, event) {
        count(&channel.account.injected, line.len());
        channel.stop.guard(client.stderr(line.into_bytes().into())).await;
    }
}

/// Tells the terminal something if it can take it now; gives the text back if not.
async fn give_notice(live: &Live, channel: &Channel, client: &ClientEnd, text: String) -> Option<String> {
    let (bytes, how) = {
        let screen = channel.screen();
        if !screen.is_ground() {
            return Some(text);
        }
        match screen.is_alternate() {
            true => (format!("\x1b]2;portcullis: {text}\x07"), NoticeHow::Title),
            false => (format!("\r\nportcullis: {text}\r\n"), NoticeHow::Stderr),
        }
    };
    let recorded = live.record(
        channel.number,
        Event::Notice {
            bytes: bytes.as_bytes().into(),
            how,
        },
    );
    if recorded {
        count(&channel.account.injected, bytes.len());
        channel.stop.guard(client.stderr(bytes.into_bytes().into())).await;
    }
    None
}

/// Answers a start with no. Where russh would drop that answer the channel is
/// closed instead: what did not start ends, and nobody waits for ever.
async fn refuse_start(channel: &Channel, client: &ClientEnd, runs: bool) {
    if runs || !channel.reply_lost() {
        return pass_control(client, Down::Reply(false)).await;
    }
    client.ended.store(true, Ordering::SeqCst);
    client.close().await;
    channel.stop.fire();
}

async fn pass_control(client: &ClientEnd, control: Down) {
    let id = client.write.id();
    match control {
        Down::Reply(true) => {
            client.handle.channel_success(id).await.ok();
        }
        Down::Reply(false) => {
            client.handle.channel_failure(id).await.ok();
        }
        Down::Eof => {
            client.write.eof().await.ok();
        }
        Down::ExitStatus(status) => {
            client.write.exit_status(status).await.ok();
        }
        Down::ExitSignal { name, core, message } => {
            let signal = Sig::Custom(name);
            client
                .handle
                .exit_signal_request(id, signal, core, message, String::new())
                .await
                .ok();
        }
        Down::XonXoff(client_can_do) => {
            client.handle.xon_xoff_request(id, client_can_do).await.ok();
        }
        Down::Banner(_)
        | Down::Notice(_)
        | Down::Told(_)
        | Down::Refused(_)
        | Down::Answer(_)
        | Down::Lost(_)
        | Down::Close => {}
    }
}

fn data_length<C>(entry: &Entry<C>) -> usize {
    match entry {
        Entry::Data { bytes, .. } => bytes.len(),
        Entry::Control(_) => 0,
    }
}

fn undelivered_up(channel: &Channel, entries: impl Iterator<Item = Entry<Up>>) {
    entries.for_each(|entry| count(&channel.account.undelivered_up, data_length(&entry)));
}

fn undelivered_down(channel: &Channel, entries: impl Iterator<Item = Entry<Down>>) {
    entries.for_each(|entry| count(&channel.account.undelivered_down, data_length(&entry)));
}
