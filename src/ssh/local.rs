//! Local targets: a command on this machine, under its own account.
//!
//! The server never runs it itself. It starts `portcullis local-supervise`,
//! gives it the command's standard streams and what to run over an unnamed
//! socket, and trusts it with the whole process tree: all of it dies when told
//! or when that socket closes. See [`crate::local_helper`] for the other end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::termios::Winsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::channel::{Channel, Down, Start, Terminal, Up};
use super::lane::{Entry, Stream};
use super::leg::signal_name;
use super::session::Live;
use crate::kernel::session::EndReason;
use crate::local_helper::terminal::{self, Master};
use crate::local_helper::{Exit, Helper, KILL_WAIT, Last, Order, Spec};

/// Bytes read from the command at once.
const READ_BYTES: usize = 32 * 1024;
/// Orders that wait for the supervisor.
const ORDERS_QUEUED: usize = 16;
/// How long the supervisor may take to take over.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long the process tree may take to end after the last order: the
/// supervisor gives its word before.
const LEAVE_WAIT: Duration = Duration::from_secs(KILL_WAIT.as_secs() + 2);
/// How long output may still come once the supervisor is gone without saying that nobody is left.
const OUTPUT_WAIT: Duration = Duration::from_secs(1);
/// This very program, even if its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
/// Where OpenSSH's sftp-server lies on the usual systems.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

/// Shells of accounts that nobody logs in to.
const NO_SHELLS: [&str; 2] = ["/nologin", "/false"];

/// This machine's sftp-server, if it has one.
pub fn sftp_server() -> Option<&'static str> {
    SFTP_SERVERS
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
}

/// What a local target runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// Empty: the account's login shell.
    pub command: Vec<String>,
    pub run_as: String,
}

/// The target's side of one channel.
pub struct LocalEnd {
    program: Program,
    live: Arc<Live>,
    channel: Arc<Channel>,
    terminal: Option<Terminal>,
    env: Vec<(String, String)>,
    running: Option<Running>,
}

struct Running {
    input: Input,
    orders: mpsc::Sender<Order>,
    watch: JoinHandle<()>,
}

enum Input {
    Terminal(Arc<Master>),
    Pipe(Option<pipe::Sender>),
}

/// Where the command's output comes from.
enum Output {
    Terminal(Arc<Master>),
    Pipe(Stream, pipe::Receiver),
}

impl LocalEnd {
    pub fn new(program: Program, live: Arc<Live>, channel: Arc<Channel>) -> LocalEnd {
        LocalEnd {
            program,
            live,
            channel,
            terminal: None,
            env: Vec::new(),
            running: None,
        }
    }

    /// Takes what came from the client.
    ///
    /// # Errors
    /// When the command does not take input any more; its end is told by the other lane.
    pub async fn take(&mut self, entry: Entry<Up>) -> Result<(), russh::Error> {
        match entry {
            Entry::Data { bytes, .. } => self.type_in(&bytes).await,
            Entry::Control(Up::Pty(terminal, answer)) => {
                self.terminal = Some(terminal);
                answer.give(true);
                Ok(())
            }
            // A command of this machine has nothing of the client's to reach.
            Entry::Control(Up::Agent(answer) | Up::X11(_, answer)) => {
                answer.give(false);
                Ok(())
            }
            Entry::Control(Up::Env { name, value }) => {
                self.env.push((name, value));
                Ok(())
            }
            Entry::Control(Up::Start(start)) => {
                let started = self.start(start).await;
                let channel = &self.channel;
                match started {
                    Ok(()) if channel.answer.give(true) => {}
                    Ok(()) => {
                        channel.down.control(Down::Reply(true)).ok();
                    }
                    Err(why) => {
                        tracing::warn!(session = %self.live.id, why, "local target did not start");
                        channel.answer.in_words();
                        channel.down.control(Down::Refused(why)).ok();
                        channel.down.control(Down::Close).ok();
                    }
                }
                Ok(())
            }
            Entry::Control(Up::Consent(_)) => Err(russh::Error::RequestDenied),
            Entry::Control(Up::WindowChange {
                cols,
                rows,
                px_width,
                px_height,
            }) => {
                let size = size(cols, rows, px_width, px_height);
                if let Some(Input::Terminal(master)) = self.running.as_ref().map(|running| &running.input) {
                    master.resize(size).ok();
                }
                Ok(())
            }
            Entry::Control(Up::Signal(signal)) => {
                if let Some(running) = &self.running {
                    running.orders.send(Order::Signal(signal_name(&signal))).await.ok();
                }
                Ok(())
            }
            // They are in nobody's account.
            Entry::Control(Up::Keys(keys)) => self.write(keys, &mut 0).await,
            Entry::Control(Up::Eof) => {
                if let Some(Running {
                    input: Input::Pipe(pipe),
                    ..
                }) = &mut self.running
                {
                    pipe.take();
                }
                Ok(())
            }
            Entry::Control(Up::Close) => {
                if let Some(running) = &self.running {
                    running.orders.send(Order::End).await.ok();
                } else {
                    self.channel.down.control(Down::Close).ok();
                }
                Ok(())
            }
        }
    }

    /// Writes input. The pump books all of it by the answer alone, so what
    /// the command did not get, or got before a failure, is corrected here.
    async fn type_in(&mut self, bytes: &[u8]) -> Result<(), russh::Error> {
        let channel = self.channel.clone();
        let mut tally = Tally::new(&channel, bytes.len());
        self.write(bytes, &mut tally.written).await?;
        tally.told = true;
        Ok(())
    }

    /// Writes bytes and counts them, for as long as somebody takes them.
    async fn write(&mut self, bytes: &[u8], written: &mut usize) -> Result<(), russh::Error> {
        let stop = self.channel.stop.clone();
        match self.running.as_mut().map(|running| &mut running.input) {
            Some(Input::Terminal(master)) => {
                while let Some(left) = bytes.get(*written..).filter(|left| !left.is_empty()) {
                    match master.write(left, || !stop.fired()).await {
                        Ok(n) => *written += n,
                        Err(_) if stop.fired() => return Err(russh::Error::SendError),
                        // Nobody has the terminal open any more; the command may still run.
                        Err(_) => break,
                    }
                }
            }
            Some(Input::Pipe(pipe)) => {
                while let Some(left) = bytes.get(*written..).filter(|left| !left.is_empty())
                    && let Some(open) = pipe
                {
                    match open.write(left).await {
                        Ok(n) => *written += n,
                        // A command that closed its input still runs.
                        Err(_) => *pipe = None,
                    }
                    if stop.fired() {
                        return Err(russh::Error::SendError);
                    }
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Ends the whole process tree. Its input stays open until nobody is left
    /// to read it: an end of input can make a shell run a half-typed line.
    pub async fn leave(mut self) {
        if let Some(running) = self.running.take() {
            running.orders.send(Order::End).await.ok();
            drop(running.orders);
            if tokio::time::timeout(LEAVE_WAIT, running.watch).await.is_err() {
                tracing::error!(session = %self.live.id, "the supervisor of a local target does not end");
            }
            drop(running.input);
        }
    }

    async fn start(&mut self, start: Start) -> Result<(), String> {
        let account = nix::unistd::User::from_name(&self.program.run_as)
            .map_err(|error| format!("the account {} cannot be looked up: {error}", self.program.run_as))?
            .ok_or_else(|| format!("there is no account {} on this machine", self.program.run_as))?;
        let own = nix::unistd::geteuid() == account.uid;
        if own && !self.live.gate.settings().local_as_server {
            return Err("this local target would run as the server's own user".into());
        }
        let mut shell = account.shell.to_string_lossy().into_owned();
        if own && NO_SHELLS.iter().any(|no| shell.ends_with(no)) {
            // Only a demo comes here: an account of a service can be shown one as well.
            shell = "/bin/sh".to_owned();
        }
        let (command, login) = match (start, self.program.command.is_empty()) {
            (Start::Shell, true) => (vec![shell.clone()], true),
            (Start::Shell, false) => (self.program.command.clone(), false),
            (Start::Exec(command), true) => {
                let command = String::from_utf8(command).map_err(|_| "the command is not UTF-8".to_owned())?;
                (vec![shell.clone(), "-c".into(), command], false)
            }
            (Start::Subsystem(name), true) if name == "sftp" => {
                let server = sftp_server().ok_or("this machine has no sftp-server")?;
                (vec![server.to_owned()], false)
            }
            (Start::Exec(_) | Start::Subsystem(_), _) => {
                return Err("this local target runs one command only; ask for a shell".into());
            }
        };
        let mut env = vec![
            ("HOME".to_owned(), account.dir.to_string_lossy().into_owned()),
            ("USER".to_owned(), account.name.clone()),
            ("LOGNAME".to_owned(), account.name.clone()),
            ("SHELL".to_owned(), shell),
            (
                "PATH".to_owned(),
                "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned(),
            ),
        ];
        if let Some(terminal) = &self.terminal {
            env.push(("TERM".to_owned(), terminal.term.clone()));
        }
        env.append(&mut self.env);
        env.retain(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        let spec = Spec {
            command,
            login,
            terminal: self.terminal.is_some(),
            run_as: self.program.run_as.clone(),
            env,
            denied: self
                .live
                .gate
                .settings()
                .denied_to_local
                .iter()
                .map(|path| real(path))
                .collect(),
            demo: self.live.gate.settings().local_as_server,
        };
        let running = self
            .spawn(&spec, &account)
            .await
            .map_err(|error| format!("it did not start: {error}"))?;
        self.running = Some(running);
        Ok(())
    }

    async fn spawn(&self, spec: &Spec, account: &nix::unistd::User) -> io::Result<Running> {
        let (input, outputs, streams) = match &self.terminal {
            Some(terminal) => {
                let size = size(terminal.cols, terminal.rows, terminal.px_width, terminal.px_height);
                let (master, slave) = terminal::open(size, &terminal.modes)?;
                if nix::unistd::geteuid() != account.uid {
                    terminal::give(&slave, account.uid, account.gid)?;
                }
                let master = Arc::new(master);
                let streams = [slave.try_clone()?, slave.try_clone()?, slave];
                (Input::Terminal(master.clone()), vec![Output::Terminal(master)], streams)
            }
            None => {
                let (input, stdin) = pipe::pipe()?;
                let (stdout, output) = pipe::pipe()?;
                let (stderr, error) = pipe::pipe()?;
                let outputs = vec![Output::Pipe(Stream::Main, output), Output::Pipe(Stream::Stderr, error)];
                let streams = [
                    stdin.into_blocking_fd()?,
                    stdout.into_blocking_fd()?,
                    stderr.into_blocking_fd()?,
                ];
                (Input::Pipe(Some(input)), outputs, streams)
            }
        };
        let helper = tokio::time::timeout(HAND_OVER, Helper::start(Path::new(PROGRAM), &[], streams, spec)).await??;
        let outputs = outputs
            .into_iter()
            .map(|output| tokio::spawn(read(self.live.clone(), self.channel.clone(), output)))
            .collect();
        let (orders, queue) = mpsc::channel(ORDERS_QUEUED);
        let watch = tokio::spawn(watch(self.live.clone(), self.channel.clone(), helper, queue, outputs));
        Ok(Running { input, orders, watch })
    }
}

/// Corrects the pump's booking of one piece of input: it counts the whole as
/// delivered after an `Ok`, as undelivered after an error or when dropped. The
/// counters wrap, so it does not matter which of the two books comes first.
struct Tally<'a> {
    to_target: &'a AtomicU64,
    undelivered: &'a AtomicU64,
    length: usize,
    written: usize,
    told: bool,
}

impl<'a> Tally<'a> {
    fn new(channel: &'a Channel, length: usize) -> Tally<'a> {
        Tally {
            to_target: &channel.account.to_target,
            undelivered: &channel.account.undelivered_up,
            length,
            written: 0,
            told: false,
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let (from, to, bytes) = match self.told {
            true => (self.to_target, self.undelivered, self.length - self.written),
            false => (self.undelivered, self.to_target, self.written),
        };
        from.fetch_sub(bytes as u64, Ordering::Relaxed);
        to.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

fn size(cols: u32, rows: u32, px_width: u32, px_height: u32) -> Winsize {
    let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Winsize {
        ws_row: cells(rows),
        ws_col: cells(cols),
        ws_xpixel: cells(px_width),
        ws_ypixel: cells(px_height),
    }
}

/// Puts output into the lane; false once the session ends.
fn took(live: &Live, channel: &Channel, stream: Stream, bytes: &[u8]) -> bool {
    match channel.take_from_target(stream, bytes) {
        Ok(()) => !channel.stop.fired(),
        Err(error) => {
            tracing::warn!(session = %live.id, %error, "local output overran");
            live.control.end_now(EndReason::Backlog);
            false
        }
    }
}

async fn read(live: Arc<Live>, channel: Arc<Channel>, mut output: Output) {
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        let (stream, read) = match &mut output {
            Output::Terminal(master) => (Stream::Main, channel.stop.guard(master.read(&mut buffer)).await),
            Output::Pipe(stream, pipe) => (*stream, channel.stop.guard(pipe.read(&mut buffer)).await),
        };
        match read {
            Some(Ok(n)) if n > 0 => {
                if !took(&live, &channel, stream, buffer.get(..n).unwrap_or_default()) {
                    return;
                }
                channel.down.room(&channel.stop).await;
            }
            Some(Ok(_) | Err(_)) | None => return,
        }
    }
}

/// Passes orders to the supervisor and its last word to the client.
async fn watch(
    live: Arc<Live>,
    channel: Arc<Channel>,
    mut helper: Helper,
    mut orders: mpsc::Receiver<Order>,
    mut outputs: Vec<JoinHandle<()>>,
) {
    let last = loop {
        tokio::select! {
            last = helper.last() => break last,
            order = orders.recv() => match order {
                Some(order @ Order::Signal(_)) => {
                    // If it is gone its last word, or the lack of one, comes next.
                    helper.order(&order).await.ok();
                }
                Some(Order::End) | None => {
                    helper.order(&Order::End).await.ok();
                    break tokio::time::timeout(LEAVE_WAIT, helper.last()).await.ok().flatten();
                }
            },
        }
    };
    match &last {
        Some(Last { survivors, .. }) if survivors.is_empty() => {}
        Some(Last { survivors, .. }) => {
            tracing::error!(session = %live.id, pids = ?survivors, "PROCESSES OF A LOCAL TARGET SURVIVED THE CUT");
        }
        None => {
            tracing::error!(session = %live.id, supervisor = ?helper.pid(), "the supervisor left without a word; processes may live on")
        }
    }
    if last.as_ref().is_none_or(|last| !last.survivors.is_empty()) {
        tokio::time::sleep(OUTPUT_WAIT).await;
        outputs.iter().for_each(JoinHandle::abort);
    }
    for output in outputs.drain(..) {
        output.await.ok();
    }
    if tokio::time::timeout(OUTPUT_WAIT, helper.gone()).await.is_err() {
        tracing::error!(session = %live.id, "the supervisor of a local target does not end");
    }
    let down = &channel.down;
    down.control(Down::Eof).ok();
    match last.and_then(|last| last.exit) {
        Some(Exit::Status(status)) => {
            down.control(Down::ExitStatus(status)).ok();
        }
        Some(Exit::Signal { name, core }) => {
            let message = String::new();
            down.control(Down::ExitSignal { name, core, message }).ok();
        }
        None => {}
    }
    down.control(Down::Close).ok();
}
