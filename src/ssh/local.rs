//! Local targets: a command on this machine, under its own account.
//!
//! The server never runs it itself. It starts `portcullis local-supervise`,
//! which reads what to run from an abstract socket, starts
//! `portcullis local-exec` (which drops everything and execs), watches over
//! the whole process tree and kills it when that socket closes. See
//! [`crate::local_helper`] for the other end.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::channel::{Channel, Down, Start, Terminal, Up};
use super::lane::{Entry, Stream};
use super::session::Live;
use super::target::signal_name;
use crate::kernel::session::EndReason;
use crate::local_helper::{Door, Exit, Order, SUPERVISE, Spec};

/// Bytes read from the command at once.
const READ_BYTES: usize = 32 * 1024;
/// Chunks that wait for a command that does not read its terminal.
const WRITES_QUEUED: usize = 16;
/// How long the supervisor may take to call back.
const CALL_BACK: Duration = Duration::from_secs(5);
/// How long the process tree may take to end after the last order.
const LEAVE_WAIT: Duration = Duration::from_secs(2);
/// Where OpenSSH's sftp-server lies on the usual systems.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

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
    master: Option<Master>,
    watch: tokio::task::JoinHandle<()>,
}

/// The terminal's other side; shared, since a resize comes from another task than its making.
type Master = Mutex<Box<dyn MasterPty + Send>>;

enum Input {
    Terminal(mpsc::Sender<Bytes>),
    Pipe(Option<tokio::process::ChildStdin>),
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
            Entry::Data { bytes, .. } => match self.running.as_mut().map(|running| &mut running.input) {
                Some(Input::Terminal(queue)) => queue.send(bytes).await.map_err(|_| russh::Error::SendError),
                // A command that closed its input still runs; what it does not
                // read is dropped, as a pipe would.
                Some(Input::Pipe(Some(pipe))) => {
                    pipe.write_all(&bytes).await.ok();
                    Ok(())
                }
                Some(Input::Pipe(None)) | None => Ok(()),
            },
            Entry::Control(Up::Pty(terminal)) => {
                self.terminal = Some(terminal);
                Ok(())
            }
            Entry::Control(Up::Env { name, value }) => {
                self.env.push((name, value));
                Ok(())
            }
            Entry::Control(Up::Start(start)) => {
                let started = self.start(start).await;
                let yes = started.is_ok();
                if let Err(why) = started {
                    tracing::warn!(session = %self.live.id, why, "local target did not start");
                    let line = format!("portcullis: {why}\r\n");
                    self.channel.from_target(Stream::Stderr, line.as_bytes()).ok();
                }
                self.channel.down.control(Down::Reply(yes)).ok();
                if !yes {
                    self.channel.down.control(Down::Close).ok();
                }
                Ok(())
            }
            Entry::Control(Up::WindowChange { cols, rows, px_width, px_height }) => {
                if let Some(master) = self.running.as_ref().and_then(|running| running.master.as_ref()) {
                    let master = master.lock().unwrap_or_else(PoisonError::into_inner);
                    master.resize(size(cols, rows, px_width, px_height)).ok();
                }
                Ok(())
            }
            Entry::Control(Up::Signal(signal)) => {
                if let Some(running) = &self.running {
                    running.orders.send(Order::Signal(signal_name(&signal))).await.ok();
                }
                Ok(())
            }
            Entry::Control(Up::Eof) => {
                if let Some(Running {
                    input: Input::Pipe(pipe), ..
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

    /// Ends the whole process tree.
    pub async fn leave(mut self) {
        if let Some(running) = self.running.take() {
            running.orders.send(Order::End).await.ok();
            drop(running.orders);
            drop(running.input);
            drop(running.master);
            tokio::time::timeout(LEAVE_WAIT, running.watch).await.ok();
        }
    }

    async fn start(&mut self, start: Start) -> Result<(), String> {
        let account = nix::unistd::User::from_name(&self.program.run_as)
            .map_err(|error| format!("the account {} cannot be looked up: {error}", self.program.run_as))?
            .ok_or_else(|| format!("there is no account {} on this machine", self.program.run_as))?;
        let own = nix::unistd::geteuid() == account.uid;
        if own && !self.live.gate.settings.local_as_server {
            return Err("this local target would run as the server's own user".into());
        }
        let shell = account.shell.to_string_lossy().into_owned();
        let (command, login) = match (start, self.program.command.is_empty()) {
            (Start::Shell, true) => (vec![shell.clone()], true),
            (Start::Shell, false) => (self.program.command.clone(), false),
            (Start::Exec(command), true) => {
                let command = String::from_utf8(command).map_err(|_| "the command is not UTF-8".to_owned())?;
                (vec![shell.clone(), "-c".into(), command], false)
            }
            (Start::Subsystem(name), true) if name == "sftp" => {
                let server = SFTP_SERVERS
                    .iter()
                    .find(|path| std::path::Path::new(path).exists())
                    .ok_or("this machine has no sftp-server")?;
                (vec![(*server).to_owned()], false)
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
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned()),
        ];
        if let Some(terminal) = &self.terminal {
            env.push(("TERM".to_owned(), terminal.term.clone()));
        }
        env.append(&mut self.env);
        let spec = Spec {
            command,
            login,
            run_as: self.program.run_as.clone(),
            env,
            denied: self.live.gate.settings.denied_to_local.clone(),
        };
        let running = self.spawn(&spec).await?;
        self.running = Some(running);
        Ok(())
    }

    async fn spawn(&self, spec: &Spec) -> Result<Running, String> {
        let text = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let door = Door::open().map_err(|error| text("no socket for the supervisor", &error))?;
        let program = std::env::current_exe().map_err(|error| text("the program's own path is unknown", &error))?;
        let (input, master, outputs, child) = match &self.terminal {
            Some(terminal) => self.spawn_terminal(&program, door.name(), terminal)?,
            None => self.spawn_pipes(&program, door.name())?,
        };
        let mut control = door
            .wait(child.pid(), CALL_BACK)
            .await
            .map_err(|error| text("the supervisor did not call back", &error))?;
        spec.send(&mut control).await.map_err(|error| text("the supervisor is gone", &error))?;
        let (orders, queue) = mpsc::channel(WRITES_QUEUED);
        let watch = tokio::spawn(watch(
            self.live.clone(),
            self.channel.clone(),
            control,
            queue,
            outputs,
            child,
        ));
        Ok(Running {
            input,
            orders,
            master,
            watch,
        })
    }

    #[expect(clippy::type_complexity, reason = "one caller; a struct would repeat the names")]
    fn spawn_terminal(
        &self,
        program: &std::path::Path,
        door: &str,
        terminal: &Terminal,
    ) -> Result<(Input, Option<Master>, Vec<tokio::task::JoinHandle<()>>, Child), String> {
        let pair = native_pty_system()
            .openpty(size(terminal.cols, terminal.rows, terminal.px_width, terminal.px_height))
            .map_err(|error| format!("no terminal: {error}"))?;
        let mut command = CommandBuilder::new(program);
        command.args([SUPERVISE, door]);
        command.env_clear();
        let child = pair
            .slave
            .spawn_command(command)
            .map_err(|error| format!("the supervisor did not start: {error}"))?;
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().map_err(|error| format!("no terminal: {error}"))?;
        let mut writer = pair.master.take_writer().map_err(|error| format!("no terminal: {error}"))?;
        let (queue, mut writes) = mpsc::channel::<Bytes>(WRITES_QUEUED);
        // Both threads end when the terminal hangs up, which the supervisor's
        // end guarantees.
        std::thread::Builder::new()
            .name("pty-in".into())
            .spawn(move || {
                while let Some(bytes) = writes.blocking_recv() {
                    if writer.write_all(&bytes).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| format!("no thread: {error}"))?;
        let (live, channel) = (self.live.clone(), self.channel.clone());
        let runtime = tokio::runtime::Handle::current();
        let reading = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0u8; READ_BYTES];
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(n) => {
                        if !took(&live, &channel, Stream::Main, buffer.get(..n).unwrap_or_default()) {
                            return;
                        }
                        runtime.block_on(channel.down.room(&channel.stop));
                    }
                }
            }
        });
        Ok((Input::Terminal(queue), Some(Mutex::new(pair.master)), vec![reading], Child::Terminal(child)))
    }

    #[expect(clippy::type_complexity, reason = "one caller; a struct would repeat the names")]
    fn spawn_pipes(
        &self,
        program: &std::path::Path,
        door: &str,
    ) -> Result<(Input, Option<Master>, Vec<tokio::task::JoinHandle<()>>, Child), String> {
        let mut child = tokio::process::Command::new(program)
            .args([SUPERVISE, door])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| format!("the supervisor did not start: {error}"))?;
        let input = child.stdin.take();
        let mut outputs = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            outputs.push(tokio::spawn(read_pipe(self.live.clone(), self.channel.clone(), Stream::Main, stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            outputs.push(tokio::spawn(read_pipe(self.live.clone(), self.channel.clone(), Stream::Stderr, stderr)));
        }
        Ok((Input::Pipe(input), None, outputs, Child::Pipes(child)))
    }
}

enum Child {
    Terminal(Box<dyn portable_pty::Child + Send + Sync>),
    Pipes(tokio::process::Child),
}

impl Child {
    fn pid(&self) -> Option<u32> {
        match self {
            Child::Terminal(child) => child.process_id(),
            Child::Pipes(child) => child.id(),
        }
    }

    async fn reap(self) {
        match self {
            Child::Terminal(mut child) => {
                tokio::task::spawn_blocking(move || child.wait().ok()).await.ok();
            }
            Child::Pipes(mut child) => {
                child.wait().await.ok();
            }
        }
    }
}

fn size(cols: u32, rows: u32, px_width: u32, px_height: u32) -> PtySize {
    let cells = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    PtySize {
        rows: cells(rows),
        cols: cells(cols),
        pixel_width: cells(px_width),
        pixel_height: cells(px_height),
    }
}

/// Puts output into the lane; false once the session ends.
fn took(live: &Live, channel: &Channel, stream: Stream, bytes: &[u8]) -> bool {
    match channel.from_target(stream, bytes) {
        Ok(()) => !channel.stop.fired(),
        Err(error) => {
            tracing::warn!(session = %live.id, %error, "local output overran");
            live.control.end_now(EndReason::Backlog);
            false
        }
    }
}

async fn read_pipe(
    live: Arc<Live>,
    channel: Arc<Channel>,
    stream: Stream,
    mut pipe: impl tokio::io::AsyncRead + Unpin,
) {
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        let read = channel.stop.guard(pipe.read(&mut buffer)).await;
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
    mut control: UnixStream,
    mut orders: mpsc::Receiver<Order>,
    outputs: Vec<tokio::task::JoinHandle<()>>,
    child: Child,
) {
    let exit = loop {
        tokio::select! {
            exit = Exit::receive(&mut control) => break exit.ok(),
            order = orders.recv() => match order {
                Some(order) => {
                    if order.send(&mut control).await.is_err() {
                        break None;
                    }
                    if matches!(order, Order::End) {
                        break tokio::time::timeout(LEAVE_WAIT, Exit::receive(&mut control)).await.ok().and_then(Result::ok);
                    }
                }
                None => break None,
            },
        }
    };
    // Closing the socket is the last order: the supervisor kills what is left.
    drop(control);
    for output in outputs {
        output.await.ok();
    }
    child.reap().await;
    let down = &channel.down;
    down.control(Down::Eof).ok();
    match exit {
        Some(Exit::Status(status)) => {
            down.control(Down::ExitStatus(status)).ok();
        }
        Some(Exit::Signal { name, core }) => {
            let message = String::new();
            down.control(Down::ExitSignal { name, core, message }).ok();
        }
        None => tracing::debug!(session = %live.id, "the supervisor left without a word"),
    }
    down.control(Down::Close).ok();
}
