//! One channel: a lane in each direction and its byte accounts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use portcullis_recording::event::ChannelAccount;
use russh::{Pty, Sig};
use tokio::sync::Notify;

use super::answer::Answer;
use super::budget::Budget;
use super::consent::Consent;
use super::control::Control;
use super::gated::Kill;
use super::guard::Guard;
use super::hook::Hooked;
use super::lane::{Lane, LaneError, Stream};
use super::transfers::Transfers;
use crate::clock::tick;
use crate::kernel::hook::Nonce;
use crate::kernel::policy::Kept;
use crate::kernel::screen_state::ScreenState;
use crate::kernel::session::EndReason;

/// What a channel carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// A program at the target, with what can be asked around it.
    Program,
    /// Somebody's connection: bytes, and nothing of ours between them.
    Forward,
}

/// What starts a program on a channel. One per channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
}

/// A terminal as asked for (RFC 4254 section 6.2).
#[derive(Clone, Debug)]
pub struct Terminal {
    pub term: String,
    pub cols: u32,
    pub rows: u32,
    pub px_width: u32,
    pub px_height: u32,
    pub modes: Vec<(Pty, u32)>,
}

/// An X11 display as asked for (RFC 4254 section 6.3.1).
#[derive(Clone)]
pub struct Display {
    /// One connection only.
    pub single: bool,
    pub protocol: String,
    /// A secret of the client's: it is passed on and neither recorded nor logged.
    pub cookie: String,
    pub screen: u32,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display")
            .field("screen", &self.screen)
            .finish_non_exhaustive()
    }
}

/// What goes from the client to the target beside data, in order with it.
#[derive(Clone, Debug)]
pub enum Up {
    Pty(Terminal, Arc<Answer>),
    /// The agent's channels may be opened back.
    Agent(Arc<Answer>),
    /// Windows of X11 may be opened back.
    X11(Display, Arc<Answer>),
    Env {
        name: String,
        value: String,
    },
    Start(Start),
    /// The same, once somebody said yes to it.
    Consent(Box<Consent>),
    WindowChange {
        cols: u32,
        rows: u32,
        px_width: u32,
        px_height: u32,
    },
    Signal(Sig),
    /// Keys of our own.
    Keys(&'static [u8]),
    Eof,
    Close,
}

/// What goes from the target to the client beside data, in order with it.
#[derive(Clone, Debug)]
pub enum Down {
    /// The target's own answer to [`Up::Start`], if it comes late.
    Reply(bool),
    Eof,
    ExitStatus(u32),
    ExitSignal {
        name: String,
        core: bool,
        message: String,
    },
    /// Whether the client handles ^S and ^Q itself (RFC 4254 section 6.8).
    XonXoff(bool),
    /// What the target said before it let us in, as lines for the terminal.
    Banner(String),
    /// A line of ours for the terminal, when it can take one.
    Notice(String),
    /// Words of ours for the terminal, at once and as they are.
    Told(String),
    /// A refusal in words, at once, and then the answer to the request.
    Refused(String),
    /// An answer in the target's place, between two of its packets.
    Answer(Vec<u8>),
    /// The connection to the target broke before it closed the channel, in words.
    Lost(String),
    Close,
}

/// Counters of law 5.
#[derive(Default, Debug)]
pub struct Account {
    pub from_client: AtomicU64,
    pub to_target: AtomicU64,
    pub from_target_out: AtomicU64,
    pub to_client_out: AtomicU64,
    pub from_target_err: AtomicU64,
    pub to_client_err: AtomicU64,
    pub injected: AtomicU64,
    pub withheld: AtomicU64,
    pub undelivered_up: AtomicU64,
    pub undelivered_down: AtomicU64,
}

/// Adds to a counter.
pub fn count(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// One channel.
pub struct Channel {
    /// Its number in the recording, from 1.
    pub number: u32,
    pub carries: Carries,
    /// What is recorded of its bytes.
    pub kept: Kept,
    pub up: Lane<Up>,
    pub down: Lane<Down>,
    /// Ends both pumps of this channel.
    pub stop: Kill,
    pub account: Account,
    /// A terminal was permitted on it.
    pub terminal: AtomicBool,
    /// A program was asked for.
    pub started: AtomicBool,
    /// The target's answer to what starts it.
    pub answer: Answer,
    /// How long the target took to answer about it, at least, in ms.
    pub trip_ms: AtomicU64,
    /// Requests so far, and which of them was the last to start a program.
    pub asked: AtomicU32,
    pub start_asked: AtomicU32,
    /// A command of its waits for somebody's yes.
    pub asks: AtomicBool,
    /// The client closed it.
    pub client_closed: AtomicBool,
    pub env_count: AtomicU32,
    /// Why its command is run, as its client told it before.
    pub reason: Mutex<Option<String>>,
    /// Requests that policy refused.
    pub denials: AtomicU32,
    /// The client has sent its EOF.
    pub client_eof: AtomicBool,
    screen: Mutex<ScreenState>,
    /// What is told of files that move on it.
    pub transfers: Transfers,
    /// Takes out what a hooked shell says to us.
    hook: OnceLock<Mutex<Hooked>>,
    /// It may be known by now whether the hook runs.
    pub hook_moved: Notify,
    /// The shell is asked for with the hook.
    pub hook_set: Notify,
    /// Columns and rows of its terminal, as last asked for.
    pub size: Mutex<(u32, u32)>,
    /// Holds the Enters of its terminal, where policy has something to say to them.
    pub guard: OnceLock<Guard>,
    /// What a held Enter waits for may have come.
    pub guard_moved: Notify,
}

impl Channel {
    pub fn new(number: u32, (carries, kept): (Carries, Kept), folder: PathBuf, budget: Budget, stop: Kill) -> Channel {
        Channel {
            number,
            carries,
            kept,
            up: Lane::new(folder.clone(), budget.clone()),
            down: Lane::new(folder, budget),
            stop,
            account: Account::default(),
            terminal: AtomicBool::new(false),
            started: AtomicBool::new(false),
            answer: Answer::default(),
            trip_ms: AtomicU64::new(u64::MAX),
            asked: AtomicU32::new(0),
            start_asked: AtomicU32::new(0),
            asks: AtomicBool::new(false),
            client_closed: AtomicBool::new(false),
            env_count: AtomicU32::new(0),
            reason: Mutex::new(None),
            denials: AtomicU32::new(0),
            client_eof: AtomicBool::new(false),
            screen: Mutex::new(ScreenState::default()),
            transfers: Transfers::default(),
            hook: OnceLock::new(),
            hook_moved: Notify::new(),
            hook_set: Notify::new(),
            size: Mutex::new((80, 24)),
            guard: OnceLock::new(),
            guard_moved: Notify::new(),
        }
    }

    /// How long the target took to answer about it, at least, in ms; none: it has not yet.
    pub fn trip_ms(&self) -> Option<u64> {
        Some(self.trip_ms.load(Ordering::SeqCst)).filter(|ms| *ms < u64::MAX)
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal.load(Ordering::Acquire)
    }

    /// Books a request; its number.
    pub fn ask(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    /// Whether russh has forgotten that the start wants an answer: it keeps one
    /// flag a channel, and another request came behind it.
    pub fn reply_lost(&self) -> bool {
        self.asked.load(Ordering::SeqCst) != self.start_asked.load(Ordering::SeqCst)
    }

    /// Its terminal has this size now.
    pub fn resize(&self, cols: u32, rows: u32) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = (cols, rows);
    }

    /// What the terminal shows, as far as it matters for writing into it.
    pub fn screen(&self) -> MutexGuard<'_, ScreenState> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the marks of this nonce are kept from the client.
    pub fn hook(&self, nonce: Nonce) {
        self.hook.get_or_init(|| Mutex::new(Hooked::new(nonce, tick())));
        // The pump towards the client waits without a bound until now.
        self.hook_set.notify_one();
    }

    /// What keeps marks from the client, if its shell is hooked.
    pub fn hooked(&self) -> Option<MutexGuard<'_, Hooked>> {
        let hooked = self.hook.get()?;
        Some(hooked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it is known whether the hook of its shell runs; whether the
    /// shell is to be asked for plainly.
    pub async fn hook_failed(&self) -> bool {
        loop {
            let moved = self.hook_moved.notified();
            let failed = self.hooked().map_or(Some(false), |hooked| hooked.failed());
            match failed {
                Some(failed) => return failed,
                None => moved.await,
            }
        }
    }

    /// Takes bytes of the client.
    ///
    /// # Errors
    /// As [`Lane::push`]; the bytes are booked as undelivered then.
    pub fn take_from_client(&self, bytes: &[u8]) -> Result<(), LaneError> {
        let pushed = self.up.push(Stream::Main, bytes, &self.account.from_client);
        pushed.inspect_err(|_| count(&self.account.undelivered_up, bytes.len()))
    }

    /// Takes bytes of the target.
    ///
    /// # Errors
    /// As [`Lane::push`]; the bytes are booked as undelivered then.
    pub fn take_from_target(&self, stream: Stream, bytes: &[u8]) -> Result<(), LaneError> {
        let taken = match stream {
            Stream::Main => &self.account.from_target_out,
            Stream::Stderr => &self.account.from_target_err,
        };
        let pushed = self.down.push(stream, bytes, taken);
        pushed.inspect_err(|_| count(&self.account.undelivered_down, bytes.len()))
    }

    /// More waits than is kept: the session ends with a program of its own, a
    /// forward alone.
    pub fn overran(&self, control: &Control) {
        match self.carries {
            Carries::Program => control.end_now(EndReason::Backlog),
            Carries::Forward => self.stop.fire(),
        }
    }

    /// Drops what still waits in both directions and books it as undelivered.
    pub fn abandon(&self) {
        count(
            &self.account.undelivered_up,
            usize::try_from(self.up.abandon()).unwrap_or(usize::MAX),
        );
        count(
            &self.account.undelivered_down,
            usize::try_from(self.down.abandon()).unwrap_or(usize::MAX),
        );
    }

    /// The account so far, unechoed input in it.
    pub fn account(&self) -> ChannelAccount {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let account = &self.account;
        ChannelAccount {
            channel: self.number,
            from_client: read(&account.from_client),
            to_target: read(&account.to_target),
            from_target_out: read(&account.from_target_out),
            to_client_out: read(&account.to_client_out),
            from_target_err: read(&account.from_target_err),
            to_client_err: read(&account.to_client_err),
            injected: read(&account.injected),
            withheld: read(&account.withheld),
            undelivered_up: read(&account.undelivered_up),
            undelivered_down: read(&account.undelivered_down),
        }
    }
}
