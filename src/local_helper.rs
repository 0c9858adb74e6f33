//! The processes between the server and a local target's command.
//!
//! `local-supervise` keeps the server's account and answers for the whole
//! process tree: it kills all of it when told or when the server's socket
//! closes, and says so only when the kernel has none left. Where it may, it
//! gives the tree a PID namespace of its own, whose first process is
//! `local-init`: when that ends, the kernel ends everything in it at once.
//! `local-exec` leaves the server's session, becomes the target's account for
//! good, denies itself the state folder (Landlock), and execs.
//!
//! Each gets what it needs over a socket that is its standard input: the
//! command's three streams and the [`Spec`]. The socket has no name, so nobody
//! else can talk on it, and nothing of the spec stands in any argument or
//! environment of a process that still has privileges.

mod exec;
mod parcel;
pub mod terminal;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use parcel::{STREAMS, parcel, reader, send, unpack};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Names of the hidden commands.
const SUPERVISE: &str = "local-supervise";
const INIT: &str = "local-init";
const EXEC: &str = "local-exec";
/// Lets the supervisor do without a PID namespace, as it must where it may not make one.
pub const NO_NAMESPACE: &str = "--no-namespace";
/// How long a process tree may take to end by itself before it is killed.
const TERM_WAIT: Duration = Duration::from_millis(150);
/// How long the first process of the namespace may take for its last word.
const INIT_WAIT: Duration = Duration::from_millis(500);
/// How long killed processes may take to be gone before they are reported.
pub const KILL_WAIT: Duration = Duration::from_secs(5);
/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub command: Vec<String>,
    /// Start it as a login shell (`-sh`).
    pub login: bool,
    /// Its standard streams are a terminal, which becomes its controlling one.
    pub terminal: bool,
    pub run_as: String,
    /// Its whole environment; nobody before it sees it as their own.
    pub env: Vec<(String, String)>,
    /// Folders that it must not reach; real paths, without symbolic links.
    pub denied: Vec<PathBuf>,
    /// A demo: it may run as the server's own user even where nothing fences it off.
    pub demo: bool,
}

/// What the server tells the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Signal(String),
    End,
}

/// How the command ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Exit {
    Status(u32),
    Signal { name: String, core: bool },
}

/// The supervisor's last word, given when no process is left.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Last {
    /// Nothing if the command had to be killed without its end being seen.
    pub exit: Option<Exit>,
    /// Processes that did not die within [`KILL_WAIT`]: an alarm.
    pub survivors: Vec<i32>,
}

/// The server's hold on one supervisor. Dropping it ends the whole tree.
pub struct Helper {
    child: tokio::process::Child,
    to: OwnedWriteHalf,
    words: mpsc::Receiver<Last>,
}

impl Helper {
    /// Starts a supervisor (this very program, unless `program` says another) for `spec`.
    ///
    /// # Errors
    /// The system's. Nothing runs then, nor if this future is dropped halfway.
    pub async fn start(program: &Path, flags: &[&str], streams: [OwnedFd; STREAMS], spec: &Spec) -> io::Result<Helper> {
        let (ours, theirs) = parcel(&streams)?;
        drop(streams);
        let mut command = tokio::process::Command::new(program);
        command.arg0("portcullis").arg(SUPERVISE).args(flags);
        command.env_clear().current_dir("/").stdin(theirs).stdout(Stdio::null());
        let mut child = Guard(Some(command.spawn()?));
        // It still holds the other end of the socket.
        drop(command);
        ours.set_nonblocking(true)?;
        let (from, mut to) = UnixStream::from_std(ours)?.into_split();
        send(&mut to, spec).await?;
        let child = child.0.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(Helper {
            child,
            to,
            words: reader(from),
        })
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Gives an order.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn order(&mut self, order: &Order) -> io::Result<()> {
        send(&mut self.to, order).await
    }

    /// Waits for the last word; nothing if the supervisor left without one. Can be dropped and called again.
    pub async fn last(&mut self) -> Option<Last> {
        self.words.recv().await
    }

    /// Waits for the supervisor's own end.
    pub async fn gone(mut self) {
        drop(self.to);
        self.child.wait().await.ok();
    }
}

/// Kills a supervisor that was not handed over.
struct Guard(Option<tokio::process::Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.start_kill().ok();
        }
    }
}

/// Runs one of the helper processes if the arguments name one.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = arguments.next()?;
    let ended = match name.to_str()? {
        SUPERVISE => {
            let namespace = arguments.next().is_none_or(|flag| flag != NO_NAMESPACE);
            in_runtime(supervise(namespace))
        }
        INIT => in_runtime(init()),
        EXEC => return Some(exec::exec()),
        _ => return None,
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the server's.
            eprintln!("portcullis: {}: {error}", name.display());
            ExitCode::FAILURE
        }
    })
}

fn in_runtime(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    // One thread: a process with more cannot give its children a namespace.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// `portcullis local-supervise`: the whole of that process.
async fn supervise(namespace: bool) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    // Out of the server's session: its terminal is none of the command's business.
    rustix::process::setsid().ok();
    let events = Events::listen()?;
    let (socket, streams, spec) = unpack()?;
    socket.set_nonblocking(true)?;
    let (from, mut to) = UnixStream::from_std(socket)?.into_split();
    let orders = reader(from);
    let last = match namespace && unshare(CloneFlags::CLONE_NEWPID).is_ok() {
        true => relay(events, orders, streams, &spec).await?,
        false => {
            let (main, exit) = keep(events, orders, streams, &spec, Tree::Below).await?;
            kill_below(main, exit)
        }
    };
    send(&mut to, &last).await
}

/// What a supervising process listens for. Registered before any child is.
struct Events {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    children: tokio::signal::unix::Signal,
}

impl Events {
    fn listen() -> io::Result<Events> {
        Ok(Events {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            children: signal(SignalKind::child())?,
        })
    }
}

/// Starts the next process of the chain and hands it the streams and the spec.
async fn pass_on(name: &str, streams: [OwnedFd; STREAMS], spec: &Spec) -> io::Result<(Pid, UnixStream)> {
    let (ours, theirs) = parcel(&streams)?;
    drop(streams);
    let mut command = Command::new("/proc/self/exe");
    command.arg0("portcullis").arg(name);
    command.env_clear().current_dir("/").stdin(theirs).stdout(Stdio::null());
    let mut child = command.spawn()?;
    drop(command);
    ours.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(ours)?;
    if let Err(error) = send(&mut socket, spec).await {
        child.kill().ok();
        child.wait().ok();
        return Err(error);
    }
    let pid = i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((Pid::from_raw(pid), socket))
}

/// The supervisor over a PID namespace: passes orders in and the command's end out.
async fn relay(
    mut events: Events,
    mut orders: mpsc::Receiver<Order>,
    streams: [OwnedFd; STREAMS],
    spec: &Spec,
) -> io::Result<Last> {
    let (init, socket) = pass_on(INIT, streams, spec).await?;
    let (from, mut to) = socket.into_split();
    let mut words: mpsc::Receiver<Last> = reader(from);
    let mut last = loop {
        tokio::select! {
            biased;
            last = words.recv() => break last,
            _ = events.hangup.recv() => break None,
            _ = events.terminate.recv() => break None,
            order = orders.recv() => match order {
                Some(order @ Order::Signal(_)) => {
                    send(&mut to, &order).await.ok();
                }
                Some(Order::End) | None => break None,
            },
        }
    };
    if last.is_none() && send(&mut to, &Order::End).await.is_ok() {
        last = tokio::time::timeout(INIT_WAIT, words.recv()).await.ok().flatten();
    }
    // With it the kernel kills whatever else is in the namespace, and it
    // becomes reapable only after all of that is gone.
    kill(init, Signal::SIGKILL).ok();
    let mut last = last.unwrap_or_default();
    let limit = crate::clock::tick() + KILL_WAIT;
    while !reap(init).empty {
        if crate::clock::tick() > limit {
            last.survivors = descendants();
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(last)
}

/// `portcullis local-init`: process 1 of the namespace. Its end is the end of all the others.
async fn init() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let events = Events::listen()?;
    let (socket, streams, spec) = unpack()?;
    socket.set_nonblocking(true)?;
    let (from, mut to) = UnixStream::from_std(socket)?.into_split();
    own_proc();
    let (_, exit) = keep(events, reader(from), streams, &spec, Tree::Namespace).await?;
    let last = Last {
        exit,
        survivors: Vec::new(),
    };
    send(&mut to, &last).await
}

/// A /proc that shows the namespace's own numbers; without it `ps` and `kill` would disagree.
fn own_proc() {
    let below = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    if unshare(CloneFlags::CLONE_NEWNS).is_ok() && mount_change("/", below).is_ok() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", "/proc", "proc", flags, None).ok();
    }
}

/// Which processes belong to the command.
#[derive(Clone, Copy)]
enum Tree {
    /// All but ourselves, process 1.
    Namespace,
    /// Those below us.
    Below,
}

impl Tree {
    fn ask_to_end(self) {
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGCONT] {
            match self {
                Tree::Namespace => {
                    kill(Pid::from_raw(-1), signal).ok();
                }
                Tree::Below => {
                    for pid in descendants() {
                        kill(Pid::from_raw(pid), signal).ok();
                    }
                }
            }
        }
    }
}

/// Runs the command until it ends or is to end, then asks what is left to end.
async fn keep(
    mut events: Events,
    mut orders: mpsc::Receiver<Order>,
    streams: [OwnedFd; STREAMS],
    spec: &Spec,
    tree: Tree,
) -> io::Result<(Pid, Option<Exit>)> {
    let (main, socket) = pass_on(EXEC, streams, spec).await?;
    drop(socket);
    let mut exit = None;
    while exit.is_none() {
        tokio::select! {
            biased;
            _ = events.hangup.recv() => break,
            _ = events.terminate.recv() => break,
            order = orders.recv() => match order {
                Some(Order::Signal(name)) => {
                    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
                        // It leads its own group, from its very first steps on.
                        killpg(main, signal).or_else(|_| kill(main, signal)).ok();
                    }
                }
                Some(Order::End) | None => break,
            },
            _ = events.children.recv() => exit = reap(main).exit,
        }
    }
    let mut reaped = reap(main);
    exit = exit.or(reaped.exit.take());
    if !reaped.empty {
        tree.ask_to_end();
        let limit = crate::clock::tick() + TERM_WAIT;
        while !reaped.empty && crate::clock::tick() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
            reaped = reap(main);
            exit = exit.or(reaped.exit.take());
        }
    }
    Ok((main, exit))
}

/// What a round of collecting ended children found.
struct Reaped {
    exit: Option<Exit>,
    /// No child is left, so nothing below us lives: we inherit every orphan.
    empty: bool,
}

/// Collects every process that has ended.
fn reap(main: Pid) -> Reaped {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == main => {
                exit = Some(Exit::Status(u32::try_from(status).unwrap_or(255)));
            }
            Ok(WaitStatus::Signaled(pid, signal, core)) if pid == main => {
                let name = signal.as_str().trim_start_matches("SIG").to_owned();
                exit = Some(Exit::Signal { name, core });
            }
            Ok(WaitStatus::StillAlive) => return Reaped { exit, empty: false },
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Reaped { exit, empty: true },
            Ok(_) => {}
        }
    }
}

/// Kills below us, without a pause, until nobody is left. The command's end may be seen only here.
fn kill_below(main: Pid, mut exit: Option<Exit>) -> Last {
    let limit = crate::clock::tick() + KILL_WAIT;
    loop {
        let reaped = reap(main);
        exit = exit.or(reaped.exit);
        let survivors = descendants();
        if reaped.empty || crate::clock::tick() > limit {
            let survivors = if reaped.empty { Vec::new() } else { survivors };
            return Last { exit, survivors };
        }
        for pid in survivors {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        std::thread::yield_now();
    }
}

/// Every process below this one. A subreaper keeps the orphans, so nothing
/// that daemonises gets out of the tree; what forks meanwhile is found by the next round.
fn descendants() -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    let mut parents = vec![std::process::id().cast_signed()];
    while let Some(parent) = parents.pop() {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                if !found.contains(&child) {
                    found.push(child);
                    parents.push(child);
                }
            }
        }
    }
    found
}
