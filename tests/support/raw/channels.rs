//! The connection protocol (RFC 4254), as far as attacks need it.

use std::time::{Duration, Instant};

use super::peer::{Fault, PATIENCE, Peer};
use super::wire::{Get, Put, msg};

/// Window and packet size that this peer gives.
pub const WINDOW: u32 = 1 << 30;
pub const PACKET: u32 = 32 * 1024;

/// An open channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    pub ours: u32,
    pub theirs: u32,
    /// What the server lets us send at first.
    pub window: u32,
}

/// What came on a channel until it closed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub status: Option<u32>,
    pub successes: usize,
    pub failures: usize,
    pub closed: bool,
}

impl Peer {
    /// Sends a channel open; the answer comes later.
    pub fn ask_channel(&mut self, kind: &str, window: u32, packet: u32, extra: &[u8]) -> Result<u32, Fault> {
        let ours = self.channels;
        self.channels += 1;
        let open = Put::message(msg::CHANNEL_OPEN)
            .string(kind)
            .u32(ours)
            .u32(window)
            .u32(packet)
            .raw(extra);
        self.send(&open.done())?;
        Ok(ours)
    }

    /// Opens a session channel; the refusal's text if it is refused.
    pub fn session(&mut self) -> Result<Result<Channel, String>, Fault> {
        self.session_with(WINDOW, PACKET)
    }

    pub fn session_with(&mut self, window: u32, packet: u32) -> Result<Result<Channel, String>, Fault> {
        let ours = self.ask_channel("session", window, packet, &[])?;
        let until = Instant::now() + PATIENCE * 2;
        loop {
            let packet = self.receive(until.saturating_duration_since(Instant::now()))?;
            match packet[0] {
                msg::DISCONNECT => return Err(Fault::Closed),
                // What other channels still say is passed over.
                msg::CHANNEL_OPEN_CONFIRMATION | msg::CHANNEL_OPEN_FAILURE
                    if packet[1..].starts_with(&ours.to_be_bytes()) =>
                {
                    return Ok(opened(&packet));
                }
                _ => {}
            }
        }
    }

    /// A channel request with its answer wanted or not.
    pub fn ask(&mut self, channel: &Channel, kind: impl AsRef<[u8]>, reply: bool, extra: &[u8]) -> Result<(), Fault> {
        let request = Put::message(msg::CHANNEL_REQUEST)
            .u32(channel.theirs)
            .string(kind)
            .bool(reply)
            .raw(extra);
        self.send(&request.done())
    }

    pub fn exec(&mut self, channel: &Channel, command: impl AsRef<[u8]>) -> Result<(), Fault> {
        self.ask(channel, "exec", true, &Put::default().string(command).done())
    }

    pub fn env(&mut self, channel: &Channel, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Fault> {
        self.ask(channel, "env", true, &Put::default().string(name).string(value).done())
    }

    pub fn subsystem(&mut self, channel: &Channel, name: impl AsRef<[u8]>) -> Result<(), Fault> {
        self.ask(channel, "subsystem", true, &Put::default().string(name).done())
    }

    pub fn pty(&mut self, channel: &Channel, cols: u32, rows: u32) -> Result<(), Fault> {
        let extra = Put::default()
            .string("xterm")
            .u32(cols)
            .u32(rows)
            .u32(0)
            .u32(0)
            .string([0]);
        self.ask(channel, "pty-req", true, &extra.done())
    }

    pub fn window_change(&mut self, channel: &Channel, cols: u32, rows: u32) -> Result<(), Fault> {
        let extra = Put::default().u32(cols).u32(rows).u32(0).u32(0);
        self.ask(channel, "window-change", false, &extra.done())
    }

    pub fn data(&mut self, channel: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.send(&Put::message(msg::CHANNEL_DATA).u32(channel).string(bytes).done())
    }

    pub fn eof(&mut self, channel: u32) -> Result<(), Fault> {
        self.send(&Put::message(msg::CHANNEL_EOF).u32(channel).done())
    }

    pub fn close(&mut self, channel: u32) -> Result<(), Fault> {
        self.send(&Put::message(msg::CHANNEL_CLOSE).u32(channel).done())
    }

    /// Whether the last request on the channel was answered with success.
    pub fn replied(&mut self) -> Result<bool, Fault> {
        // A refusal says why on the channel's standard error first.
        let answers = [msg::CHANNEL_SUCCESS, msg::CHANNEL_FAILURE, msg::CHANNEL_EXTENDED_DATA];
        loop {
            let packet = self.expect(&answers)?;
            if packet[0] != msg::CHANNEL_EXTENDED_DATA {
                return Ok(packet[0] == msg::CHANNEL_SUCCESS);
            }
        }
    }

    /// Everything on a channel until its close or the connection's end.
    pub fn outcome(&mut self, channel: &Channel, within: Duration) -> Result<Outcome, Fault> {
        let mut outcome = Outcome::default();
        let done = |outcome: &Outcome| outcome.closed;
        match self.collect(channel, &mut outcome, within, done) {
            Ok(()) | Err(Fault::Closed) => Ok(outcome),
            Err(fault) => Err(fault),
        }
    }

    /// Collects what comes on a channel until `done` says so.
    pub fn collect(
        &mut self,
        channel: &Channel,
        outcome: &mut Outcome,
        within: Duration,
        done: impl Fn(&Outcome) -> bool,
    ) -> Result<(), Fault> {
        let until = Instant::now() + within;
        while !done(outcome) {
            let packet = self.receive(until.saturating_duration_since(Instant::now()))?;
            let mut fields = Get(&packet[1..]);
            match packet[0] {
                msg::DISCONNECT => return Err(Fault::Closed),
                msg::CHANNEL_DATA
                | msg::CHANNEL_EXTENDED_DATA
                | msg::CHANNEL_CLOSE
                | msg::CHANNEL_REQUEST
                | msg::CHANNEL_SUCCESS
                | msg::CHANNEL_FAILURE => {}
                _ => continue,
            }
            if fields.u32() != Some(channel.ours) {
                continue;
            }
            let short = || Fault::Bad("short channel message".into());
            match packet[0] {
                msg::CHANNEL_DATA => outcome.out.extend_from_slice(fields.string().ok_or_else(short)?),
                msg::CHANNEL_EXTENDED_DATA => {
                    fields.u32();
                    outcome.err.extend_from_slice(fields.string().ok_or_else(short)?);
                }
                msg::CHANNEL_REQUEST => {
                    let kind = fields.text().ok_or_else(short)?;
                    fields.u8();
                    if kind == "exit-status" {
                        outcome.status = fields.u32();
                    }
                }
                msg::CHANNEL_SUCCESS => outcome.successes += 1,
                msg::CHANNEL_FAILURE => outcome.failures += 1,
                _ => outcome.closed = true,
            }
        }
        Ok(())
    }
}

/// A confirmation as a channel, a failure as its text.
pub fn opened(packet: &[u8]) -> Result<Channel, String> {
    let mut fields = Get(&packet[1..]);
    let ours = fields.u32().unwrap_or(u32::MAX);
    let next = fields.u32().unwrap_or(u32::MAX);
    match packet[0] {
        msg::CHANNEL_OPEN_CONFIRMATION => Ok(Channel {
            ours,
            theirs: next,
            window: fields.u32().unwrap_or(0),
        }),
        _ => Err(fields.text().unwrap_or_default()),
    }
}
