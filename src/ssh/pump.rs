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
use portcullis_recording::event::{Direction, NoticeHow, Party};
use russh::server::{Handle, Msg};
use russh::{ChannelWriteHalf, Sig};
use tokio::sync::OwnedSemaphorePermit;

use super::channel::{Carries, Channel, Down, Up, count};
use super::digests::Digests;
use super::lane::{Entry, Stream};
use super::leg::signal_name;
use super::local::LocalEnd;
use super::resize::Resizes;
use super::session::Live;
use super::target_channel::TargetChannel;
use crate::kernel::policy::Kept;
use crate::kernel::session::EndReason;

/// Bytes taken out of a lane and recorded at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How long a target may take to close its side once the client has closed.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long an EOF of the target waits for the exit status behind it, while
/// the client may still send.
const EOF_WAIT: Duration = Duration::from_millis(200);
/// How long a target connection may take for its goodbye.
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

/// The target's side of one channel.
pub enum TargetEnd {
    Ssh(TargetChannel),
    Local(LocalEnd),
}

/// Starts both pumps of a channel.
pub fn start(
    live: Arc<Live>,
    channel: Arc<Channel>,
    client: ClientEnd,
    target: TargetEnd,
    place: OwnedSemaphorePermit,
) {
    let guard = live.pump();
    tokio::spawn({
        let (live, channel) = (live.clone(), channel.clone());
        async move {
            down(&live, &channel, &client).await;
            drop(guard);
        }
    });
    let guard = live.pump();
    tokio::spawn(async move {
        up(&live, &channel, target).await;
        drop(place);
        drop(guard);
    });
}

/// Client to target.
async fn up(live: &Arc<Live>, channel: &Arc<Channel>, mut target: TargetEnd) {
    let mut batch = Vec::new();
    let mut resizes = Resizes::default();
    'pumping: loop {
        let popped = channel.stop.guard(async {
            tokio::select! {
                biased;
                popped = channel.up.pop(BATCH_BYTES, &mut batch) => popped,
                () = resizes.due() => Ok(true),
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
        resizes.thin(&mut batch);
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
        let mut entries = batch.drain(..);
        while let Some(entry) = entries.next() {
            if channel.stop.fired() {
                undelivered_up(channel, std::iter::once(entry).chain(entries));
                break 'pumping;
            }
            let closing = matches!(entry, Entry::Control(Up::Close));
            let length = data_length(&entry);
            match channel.stop.guard(target.take(entry)).await {
                Some(Ok(())) => count(&channel.account.to_target, length),
                Some(Err(_)) | None => {
                    count(&channel.account.undelivered_up, length);
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
    // Boxed: a pump's memory is not sized by its last step.
    Box::pin(target.leave(live.control.stop.fired())).await;
}

/// Target to client.
async fn down(live: &Arc<Live>, channel: &Arc<Channel>, client: &ClientEnd) {
    let mut batch = Vec::new();
    let mut waiting_notice = None;
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
        let popped = channel.stop.guard(channel.down.pop(BATCH_BYTES, &mut batch)).await;
        match popped {
            Some(Ok(true)) => {}
            Some(Ok(false)) | None => break,
            Some(Err(error)) => {
                live.control.end_now(EndReason::RecorderFailed(error.to_string()));
                break;
            }
        }
        live.control.active();
        channel.stop.guard(live.recorder.room()).await;
        if let Err(error) = record_output(live, channel, &batch) {
            undelivered_down(channel, batch.drain(..));
            live.control.end_now(EndReason::RecorderFailed(error));
            break;
        }
        let mut entries = batch.drain(..);
        while let Some(entry) = entries.next() {
            if channel.stop.fired() {
                undelivered_down(channel, std::iter::once(entry).chain(entries));
                break 'pumping;
            }
            match entry {
                Entry::Data { stream, bytes } => {
                    let length = bytes.len();
                    let terminal = channel.is_terminal().then(|| bytes.clone());
                    match channel.stop.guard(client.data(stream, bytes)).await {
                        Some(Ok(())) => {
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
                        }
                        Some(Err(_)) | None => {
                            count(&channel.account.undelivered_down, length);
                            undelivered_down(channel, entries);
                            break 'pumping;
                        }
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
                Entry::Control(Down::Notice(text)) => waiting_notice = Some(text),
                Entry::Control(Down::Refused(text)) => {
                    say(live, channel, client, format!("portcullis: {text}\r\n")).await;
                    channel.stop.guard(tokio::time::sleep(REFUSED_PAUSE)).await;
                    // A second start that was refused leaves the first one running.
                    let runs = channel.started.load(Ordering::SeqCst);
                    channel.stop.guard(refuse_start(channel, client, runs)).await;
                }
                Entry::Control(Down::Reply(false)) => {
                    channel.stop.guard(refuse_start(channel, client, false)).await;
                }
                Entry::Control(Down::Lost) if channel.carries == Carries::Forward => {}
                Entry::Control(Down::Lost) => {
                    say(
                        live,
                        channel,
                        client,
                        "portcullis: the connection to the target broke\r\n".into(),
                    )
                    .await;
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
    channel.abandon();
    if channel.carries == Carries::Forward && !client.closed() && !live.control.stop.fired() {
        tokio::time::timeout(LEAVE_WAIT, client.close()).await.ok();
    }
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
        Down::Notice(_) | Down::Refused(_) | Down::Lost | Down::Close => {}
    }
}

/// Records a batch of input in one write, and in durable mode waits for the
/// disk before an Enter goes on.
async fn record_input(live: &Live, channel: &Channel, batch: &[Entry<Up>]) -> Result<(), String> {
    let terminal = channel.is_terminal();
    let mut enter = false;
    {
        let mut take = live.recorder.take(channel.number);
        let mut digests = Digests::default();
        for entry in batch {
            if let Entry::Control(_) = entry {
                digests.end().into_iter().for_each(|event| take.event(event));
            }
            match entry {
                Entry::Data { bytes, .. } if channel.kept == Kept::Digest => {
                    digests.add(Direction::ToTarget, bytes, |event| take.event(event));
                }
                Entry::Data { bytes, .. } if terminal => {
                    enter |= bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
                    take.typed(bytes);
                }
                Entry::Data { bytes, .. } => take.input(bytes),
                Entry::Control(Up::WindowChange {
                    cols,
                    rows,
                    px_width,
                    px_height,
                }) => take.event(Event::Resize {
                    cols: *cols,
                    rows: *rows,
                    px_width: *px_width,
                    px_height: *px_height,
                }),
                Entry::Control(Up::Eof) => take.event(Event::Eof {
                    direction: Direction::ToTarget,
                }),
                Entry::Control(Up::Close) => take.event(Event::ChannelClose { by: Party::Client }),
                Entry::Control(
                    Up::Pty(..) | Up::Agent(_) | Up::X11(..) | Up::Env { .. } | Up::Start(_) | Up::Signal(_),
                ) => {}
            }
        }
        digests.end().into_iter().for_each(|event| take.event(event));
        take.done().map_err(|error| error.to_string())?;
    }
    if enter && live.durable() {
        live.recorder.sync().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn record_output(live: &Live, channel: &Channel, batch: &[Entry<Down>]) -> Result<(), String> {
    let terminal = channel.is_terminal();
    let mut take = live.recorder.take(channel.number);
    let mut digests = Digests::default();
    for entry in batch {
        if let Entry::Control(_) = entry {
            digests.end().into_iter().for_each(|event| take.event(event));
        }
        match entry {
            Entry::Data { stream, bytes } if channel.kept == Kept::Digest => {
                let direction = match stream {
                    Stream::Main => Direction::ToClient,
                    Stream::Stderr => Direction::ToClientErr,
                };
                digests.add(direction, bytes, |event| take.event(event));
            }
            Entry::Data {
                stream: Stream::Main,
                bytes,
            } => take.output(bytes, terminal),
            Entry::Data {
                stream: Stream::Stderr,
                bytes,
            } => take.stderr(bytes),
            Entry::Control(Down::ExitStatus(status)) => take.event(Event::ExitStatus(*status)),
            Entry::Control(Down::ExitSignal { name, core, message }) => take.event(Event::ExitSignal {
                name: name.as_str().into(),
                core: *core,
                message: message.as_str().into(),
            }),
            Entry::Control(Down::Eof) => take.event(Event::Eof {
                direction: Direction::ToClient,
            }),
            Entry::Control(Down::Close) => take.event(Event::ChannelClose { by: Party::Target }),
            Entry::Control(Down::Lost) => take.event(Event::Marker {
                text: "the connection to the target broke".into(),
            }),
            Entry::Control(Down::XonXoff(client_can_do)) => take.event(Event::Marker {
                text: format!("flow control by the client: {client_can_do}").into(),
            }),
            Entry::Control(Down::Reply(_) | Down::Notice(_) | Down::Refused(_)) => {}
        }
    }
    digests.end().into_iter().for_each(|event| take.event(event));
    take.done().map_err(|error| error.to_string())
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

impl TargetEnd {
    async fn take(&mut self, entry: Entry<Up>) -> Result<(), russh::Error> {
        match self {
            TargetEnd::Local(local) => local.take(entry).await,
            TargetEnd::Ssh(target) => match entry {
                Entry::Data { bytes, .. } => target.data(bytes).await,
                Entry::Control(Up::Pty(terminal, answer)) => target.pty(&terminal, answer).await,
                Entry::Control(Up::Agent(answer)) => target.agent(answer).await,
                Entry::Control(Up::X11(display, answer)) => target.x11(display, answer).await,
                Entry::Control(Up::Env { name, value }) => target.env(&name, &value).await,
                Entry::Control(Up::Start(start)) => target.start(start).await,
                Entry::Control(Up::WindowChange {
                    cols,
                    rows,
                    px_width,
                    px_height,
                }) => target.window_change(cols, rows, px_width, px_height).await,
                Entry::Control(Up::Signal(signal)) => {
                    tracing::debug!(signal = %signal_name(&signal), "passing a signal on");
                    target.signal(signal).await
                }
                Entry::Control(Up::Eof) => target.eof().await,
                Entry::Control(Up::Close) => target.close().await,
            },
        }
    }

    /// Ends the target's side. `cut`: the gate ends it, so commands without a
    /// terminal are told to terminate first.
    async fn leave(self, cut: bool) {
        match self {
            TargetEnd::Local(local) => local.leave().await,
            TargetEnd::Ssh(target) => target.leave(cut, LEAVE_WAIT).await,
        }
    }
}
