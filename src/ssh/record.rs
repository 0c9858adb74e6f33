//! What a pump took out of a lane, on its way into the recording: one write a
//! batch, before any of it goes on (law 1).

use portcullis_recording::Event;
use portcullis_recording::event::{Direction, NoticeHow, Party};

use super::channel::{Channel, Down, Up};
use super::digests::Digests;
use super::lane::{Entry, Stream};
use super::session::Live;
use super::transfers::{As, Seen};
use crate::kernel::policy::Kept;
use crate::kernel::transfer::Way;

/// Records a batch of input in one write, and in durable mode waits for the
/// disk before an Enter goes on.
///
/// # Errors
/// Why the recorder takes nothing any more.
pub async fn record_input(live: &Live, channel: &Channel, batch: &[Entry<Up>]) -> Result<(), String> {
    let terminal = channel.is_terminal();
    let mut enter = false;
    let mut files = Seen::default();
    {
        let at_ms = live.recorder.at_ms();
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
                Entry::Data { bytes, .. } => {
                    match channel.transfers.saw(at_ms, Way::Up, bytes, &live.recorder, &mut files) {
                        As::Digest => digests.add(Direction::ToTarget, bytes, |event| take.event(event)),
                        full @ (As::Full | As::FullFromHere) => {
                            let before = digests.end().into_iter().chain(full.says());
                            before.for_each(|event| take.event(event));
                            take.input(bytes);
                        }
                    }
                }
                Entry::Control(Up::Start(start)) if !terminal => {
                    channel.transfers.begin(at_ms, start, &live.recorder).record(&mut take);
                }
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
                Entry::Control(Up::Keys(keys)) => take.event(Event::Notice {
                    bytes: (*keys).into(),
                    how: NoticeHow::Keys,
                }),
                Entry::Control(Up::Eof) => take.event(Event::Eof {
                    direction: Direction::ToTarget,
                }),
                Entry::Control(Up::Close) => take.event(Event::ChannelClose { by: Party::Client }),
                Entry::Control(
                    Up::Pty(..)
                    | Up::Agent(_)
                    | Up::X11(..)
                    | Up::Env { .. }
                    | Up::Start(_)
                    | Up::Consent(_)
                    | Up::Signal(_),
                ) => {}
            }
        }
        digests.end().into_iter().for_each(|event| take.event(event));
        files.record(&mut take);
        take.done().map_err(|error| error.to_string())?;
    }
    if enter && live.durable() {
        live.recorder.sync().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The same of output.
///
/// # Errors
/// As [`record_input`].
pub fn record_output(live: &Live, channel: &Channel, batch: &[Entry<Down>]) -> Result<(), String> {
    let terminal = channel.is_terminal();
    let mut files = Seen::default();
    let at_ms = live.recorder.at_ms();
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
            } => {
                match channel
                    .transfers
                    .saw(at_ms, Way::Down, bytes, &live.recorder, &mut files)
                {
                    As::Digest => digests.add(Direction::ToClient, bytes, |event| take.event(event)),
                    full @ (As::Full | As::FullFromHere) => {
                        let before = digests.end().into_iter().chain(full.says());
                        before.for_each(|event| take.event(event));
                        take.output(bytes, terminal);
                    }
                }
            }
            Entry::Data {
                stream: Stream::Stderr,
                bytes,
            } => {
                digests.end().into_iter().for_each(|event| take.event(event));
                take.stderr(bytes);
            }
            Entry::Control(Down::ExitStatus(status)) => {
                channel.transfers.exited(*status);
                take.event(Event::ExitStatus(*status));
            }
            Entry::Control(Down::ExitSignal { name, core, message }) => take.event(Event::ExitSignal {
                name: name.as_str().into(),
                core: *core,
                message: message.as_str().into(),
            }),
            Entry::Control(Down::Eof) => take.event(Event::Eof {
                direction: Direction::ToClient,
            }),
            Entry::Control(Down::Close) => take.event(Event::ChannelClose { by: Party::Target }),
            Entry::Control(Down::Lost(why)) => take.event(Event::Marker {
                text: why.as_str().into(),
            }),
            Entry::Control(Down::XonXoff(client_can_do)) => take.event(Event::Marker {
                text: format!("flow control by the client: {client_can_do}").into(),
            }),
            Entry::Control(
                Down::Reply(_) | Down::Banner(_) | Down::Notice(_) | Down::Told(_) | Down::Refused(_) | Down::Answer(_),
            ) => {}
        }
    }
    digests.end().into_iter().for_each(|event| take.event(event));
    files.record(&mut take);
    take.done().map_err(|error| error.to_string())
}
