//! The target's side of one channel, over SSH or on this machine.

use std::time::Duration;

use bytes::Bytes;

use super::channel::Up;
use super::lane::Entry;
use super::leg::signal_name;
use super::local::LocalEnd;
use super::target_channel::TargetChannel;

/// How long a target connection may take for its goodbye.
const LEAVE_WAIT: Duration = Duration::from_millis(200);

/// One of them.
pub enum TargetEnd {
    Ssh(TargetChannel),
    Local(LocalEnd),
}

impl TargetEnd {
    /// Passes one thing on.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn take(&mut self, entry: Entry<Up>) -> Result<(), russh::Error> {
        match self {
            TargetEnd::Local(local) => local.take(entry).await,
            TargetEnd::Ssh(target) => match entry {
                Entry::Data { bytes, .. } => target.data(bytes).await,
                Entry::Control(Up::Pty(terminal, answer)) => target.pty(&terminal, answer).await,
                Entry::Control(Up::Agent(answer)) => target.agent(answer).await,
                Entry::Control(Up::X11(display, answer)) => target.x11(display, answer).await,
                Entry::Control(Up::Env { name, value }) => target.env(&name, &value).await,
                Entry::Control(Up::Start(start)) => target.start(start).await,
                Entry::Control(Up::Consent(_)) => Err(russh::Error::RequestDenied),
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
                Entry::Control(Up::Keys(keys)) => target.data(Bytes::from_static(keys)).await,
                Entry::Control(Up::Eof) => target.eof().await,
                Entry::Control(Up::Close) => target.close().await,
            },
        }
    }

    /// Ends the target's side. `cut`: the gate ends it, so commands without a
    /// terminal are told to terminate first.
    pub async fn leave(self, cut: bool) {
        match self {
            TargetEnd::Local(local) => local.leave().await,
            TargetEnd::Ssh(target) => target.leave(cut, LEAVE_WAIT).await,
        }
    }
}
