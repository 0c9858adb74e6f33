//! What is read of a terminal whose lines a rule is about, while they are typed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_recording::Event;

use super::channel::{Channel, Down, Up};
use super::lane::{Entry, Stream};
use super::session::Live;
use crate::kernel::enter::Holder;
use crate::kernel::policy::Permit;
use crate::kernel::policy::obligations::OnHidden;
use crate::kernel::session::EndReason;

/// Holds the Enters of one terminal. The pump of either direction uses it.
pub struct Guard {
    holder: Mutex<Holder>,
    /// Policy is asked about each line.
    asks: bool,
    /// What comes of lines that the terminal did not show, and by which rule.
    hidden: Option<(OnHidden, String)>,
}

impl Guard {
    /// What is read of the terminal.
    pub fn holder(&self) -> MutexGuard<'_, Holder> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is read of the terminal has its new size, if this tells one.
    pub fn resize(&self, entry: &Entry<Up>) {
        if let Entry::Control(Up::WindowChange { cols, rows, .. }) = entry {
            self.holder().resize(*cols, *rows);
        }
    }

    /// Whether policy is asked about each line.
    pub fn asks(&self) -> bool {
        self.asks
    }
}

/// A program was permitted on a terminal: whether its Enters are held.
pub fn begin(live: &Live, channel: &Channel, permit: &Permit) {
    if !channel.is_terminal() {
        return;
    }
    let asks = live.asks_about_commands();
    let hidden = permit.obligations().hidden_command;
    if !asks && hidden.is_none() {
        return;
    }
    let (cols, rows) = *channel.size.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(holder) = Holder::new(cols, rows) else {
        let why = "its terminal cannot be read, and a rule is about what is typed there";
        return live.control.end_now(EndReason::Protocol(why.to_owned()));
    };
    channel.guard.get_or_init(|| Guard {
        holder: Mutex::new(holder),
        asks,
        hidden: hidden.map(|hidden| (hidden, permit.rule().to_owned())),
    });
}

/// Output of the target, which may be what an Enter waits for.
pub fn saw(live: &Live, channel: &Channel, batch: &[Entry<Down>]) {
    let Some(guard) = channel.guard.get() else { return };
    let at_ms = live.recorder.at_ms();
    let mut holder = guard.holder();
    for entry in batch {
        match entry {
            Entry::Data {
                stream: Stream::Main,
                bytes,
            } => holder.shown(at_ms, bytes),
            Entry::Data {
                stream: Stream::Stderr, ..
            } => {}
            // Its end, perhaps.
            Entry::Control(_) => holder.catch_up(),
        }
    }
    let ran_hidden = holder.ran_hidden();
    drop(holder);
    channel.guard_moved.notify_one();
    if let Some((comes, rule)) = guard.hidden.as_ref().filter(|_| ran_hidden) {
        ran(live, channel, *comes, rule);
    }
}

/// Lines were run that the terminal did not show.
fn ran(live: &Live, channel: &Channel, comes: OnHidden, rule: &str) {
    let text = format!("lines were run that the terminal did not show; rule {rule} is about that");
    live.record(channel.number, Event::Marker { text: text.into() });
    live.gate.notify(serde_json::json!({
        "session": live.id, "identity": live.admitted.identity(), "destination": live.admitted.destination(),
        "action": "hidden_command", "allowed": comes == OnHidden::Notice, "rule": rule,
    }));
    match comes {
        OnHidden::Notice => {
            let text = "commands that the terminal does not show are told to others".to_owned();
            tell(live, channel, Down::Notice(text));
        }
        OnHidden::End => live.control.end_now(EndReason::HiddenCommand(rule.to_owned())),
    }
}

/// Words of ours, in order with what the target says.
pub fn tell(live: &Live, channel: &Channel, said: Down) {
    if channel.down.control(said).is_err() {
        channel.overran(&live.control);
    }
}
