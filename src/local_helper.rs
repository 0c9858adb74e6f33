//! The processes between the server and a local target's command.
//!
//! `local-supervise` keeps the server's account, owns the process tree (as its
//! subreaper) and kills all of it when told or when the server's socket
//! closes. `local-exec` closes descriptors, denies itself the state folder
//! (Landlock), becomes the target's account for good, and execs.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, User};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

/// Names of the two hidden commands.
pub const SUPERVISE: &str = "local-supervise";
const EXEC: &str = "local-exec";
/// Longest message between server and supervisor, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long a process tree may take to end by itself before it is killed.
const TERM_WAIT: Duration = Duration::from_millis(150);
/// Rounds of killing: each finds the processes forked since the one before.
const KILL_ROUNDS_MAX: usize = 200;
/// Deepest state folder that is fenced off.
const DEPTH_MAX: usize = 64;

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub command: Vec<String>,
    /// Start it as a login shell (`-sh`).
    pub login: bool,
    pub run_as: String,
    pub env: Vec<(String, String)>,
    /// Folders that it must not reach.
    pub denied: Vec<PathBuf>,
}

/// What the server tells the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    Signal(String),
    End,
}

/// The supervisor's last word.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Exit {
    Status(u32),
    Signal { name: String, core: bool },
}

impl Spec {
    /// Sends it.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn send(&self, to: &mut UnixStream) -> io::Result<()> {
        send(to, self).await
    }
}

impl Order {
    /// Sends it.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn send(&self, to: &mut UnixStream) -> io::Result<()> {
        send(to, self).await
    }
}

impl Exit {
    /// Waits for it.
    ///
    /// # Errors
    /// When the supervisor left without a word.
    pub async fn receive(from: &mut UnixStream) -> io::Result<Exit> {
        receive(from).await
    }
}

async fn send<T: Serialize>(to: &mut UnixStream, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_be_bytes()).await?;
    to.write_all(&bytes).await
}

async fn receive<T: DeserializeOwned>(from: &mut UnixStream) -> io::Result<T> {
    let length = from.read_u32().await? as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The abstract socket that one supervisor calls back on.
pub struct Door {
    listener: UnixListener,
    name: String,
}

impl Door {
    /// A fresh door with a name nobody can guess.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Door> {
        let name: String = crate::entropy::id().iter().map(|byte| format!("{byte:02x}")).collect();
        let listener = std::os::unix::net::UnixListener::bind_addr(&address(&name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Door {
            listener: UnixListener::from_std(listener)?,
            name,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the process `pid` to call; whoever else calls is hung up on.
    ///
    /// # Errors
    /// When it does not call in time.
    pub async fn wait(self, pid: Option<u32>, limit: Duration) -> io::Result<UnixStream> {
        let called = tokio::time::timeout(limit, async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                let caller = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
                if caller.is_some() && caller == pid {
                    return Ok(stream);
                }
            }
        });
        called.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn address(name: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    std::os::unix::net::SocketAddr::from_abstract_name(format!("portcullis-local-{name}"))
}

/// Runs one of the two helper processes if the arguments name one.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.map(|argument| argument.into_string().unwrap_or_default());
    match arguments.next()?.as_str() {
        SUPERVISE => Some(supervise(&arguments.next().unwrap_or_default())),
        EXEC => {
            let (mut run_as, mut login, mut denied) = (String::new(), false, Vec::new());
            while let Some(argument) = arguments.next() {
                match argument.as_str() {
                    "--run-as" => run_as = arguments.next().unwrap_or_default(),
                    "--login" => login = true,
                    "--deny" => denied.push(PathBuf::from(arguments.next().unwrap_or_default())),
                    "--" => break,
                    _ => return Some(complain(EXEC, &"unknown argument")),
                }
            }
            let command: Vec<String> = arguments.collect();
            Some(exec(&run_as, login, &denied, &command))
        }
        _ => None,
    }
}

/// `portcullis local-supervise DOOR`: the whole of that process.
fn supervise(door: &str) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain("no runtime", &error),
    };
    match runtime.block_on(supervise_async(door)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain("local-supervise", &error),
    }
}

fn complain(what: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("portcullis: {what}: {error}");
    ExitCode::FAILURE
}

async fn supervise_async(door: &str) -> io::Result<()> {
    // The terminal's keys are for the command, not for us: caught, not
    // ignored, since an ignored signal would stay ignored across exec.
    let mut caught = Vec::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::from_raw(nix::libc::SIGTSTP),
        SignalKind::from_raw(nix::libc::SIGTTIN),
        SignalKind::from_raw(nix::libc::SIGTTOU),
    ] {
        caught.push(signal(kind)?);
    }
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut children = signal(SignalKind::child())?;
    nix::sys::prctl::set_child_subreaper(true)?;

    let stream = std::os::unix::net::UnixStream::connect_addr(&address(door)?)?;
    stream.set_nonblocking(true)?;
    let mut control = UnixStream::from_std(stream)?;
    let spec: Spec = receive(&mut control).await?;
    let child = start(&spec)?;
    // Ours are closed, so that the command's closing its own is seen.
    for descriptor in [0, 1, 2] {
        nix::unistd::close(descriptor).ok();
    }
    let main = Pid::from_raw(i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData)?);
    let mut last = None;
    loop {
        tokio::select! {
            biased;
            _ = hangup.recv() => break,
            _ = terminate.recv() => break,
            order = receive::<Order>(&mut control) => match order {
                Ok(Order::Signal(name)) => {
                    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
                        kill(main, signal).ok();
                    }
                }
                Ok(Order::End) | Err(_) => break,
            },
            _ = children.recv() => {
                last = reap(main).or(last);
                if last.is_some() {
                    break;
                }
            }
        }
    }
    let last = end_tree(main, last).await;
    if let Some(last) = last {
        send(&mut control, &last).await.ok();
    }
    Ok(())
}

fn start(spec: &Spec) -> io::Result<std::process::Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(EXEC).args(["--run-as", &spec.run_as]);
    if spec.login {
        command.arg("--login");
    }
    for denied in &spec.denied {
        command.arg("--deny").arg(denied);
    }
    command.arg("--").args(&spec.command);
    command.env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.spawn()
}

/// Collects every process that has ended; answers with the main one's end.
fn reap(main: Pid) -> Option<Exit> {
    let mut last = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::Exited(pid, status)) if pid == main => {
                last = Some(Exit::Status(u32::try_from(status).unwrap_or(255)));
            }
            Ok(nix::sys::wait::WaitStatus::Signaled(pid, signal, core)) if pid == main => {
                let name = signal.as_str().trim_start_matches("SIG").to_owned();
                last = Some(Exit::Signal { name, core });
            }
            Ok(nix::sys::wait::WaitStatus::StillAlive) | Err(_) => return last,
            Ok(_) => {}
        }
    }
}

/// Asks every descendant to end, then kills until none is left.
async fn end_tree(main: Pid, mut last: Option<Exit>) -> Option<Exit> {
    let left = descendants();
    for pid in &left {
        kill(*pid, Signal::SIGHUP).ok();
        kill(*pid, Signal::SIGTERM).ok();
        kill(*pid, Signal::SIGCONT).ok();
    }
    if !left.is_empty() {
        tokio::time::sleep(TERM_WAIT).await;
    }
    for _ in 0..KILL_ROUNDS_MAX {
        last = reap(main).or(last);
        let left = descendants();
        if left.is_empty() {
            break;
        }
        for pid in left {
            kill(pid, Signal::SIGKILL).ok();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reap(main).or(last)
}

/// Every living process below this one. A subreaper keeps the orphans, so
/// nothing that daemonises gets out of the tree.
fn descendants() -> Vec<Pid> {
    let mut parents: HashMap<i32, i32> = HashMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name may hold anything, so fields are counted after its last bracket.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next();
        let parent = fields.next().and_then(|field| field.parse::<i32>().ok());
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            parents.insert(pid, parent);
        }
    }
    let own = std::process::id() as i32;
    let below = |pid: i32| {
        let mut at = pid;
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some(parent) if *parent == own => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let mut pids: Vec<i32> = parents.keys().copied().filter(|pid| *pid != own && below(*pid)).collect();
    pids.sort_unstable();
    pids.into_iter().map(Pid::from_raw).collect()
}

/// `portcullis local-exec`: drops everything, then execs. Comes back only on failure.
fn exec(run_as: &str, login: bool, denied: &[PathBuf], command: &[String]) -> ExitCode {
    match try_exec(run_as, login, denied, command) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("portcullis: {error}");
            ExitCode::from(126)
        }
    }
}

fn try_exec(
    run_as: &str,
    login: bool,
    denied: &[PathBuf],
    command: &[String],
) -> Result<std::convert::Infallible, String> {
    let account = User::from_name(run_as)
        .map_err(|error| format!("the account {run_as} cannot be looked up: {error}"))?
        .ok_or_else(|| format!("there is no account {run_as} on this machine"))?;
    close_descriptors();
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    let groups = nix::unistd::getgrouplist(&std::ffi::CString::new(run_as).map_err(|error| error.to_string())?, account.gid)
        .map_err(|error| format!("the groups of {run_as}: {error}"))?;
    if nix::unistd::geteuid() != account.uid {
        nix::unistd::setgroups(&groups).map_err(|error| format!("cannot become {run_as}: {error}"))?;
        nix::unistd::setresgid(account.gid, account.gid, account.gid)
            .map_err(|error| format!("cannot become {run_as}: {error}"))?;
        nix::unistd::setresuid(account.uid, account.uid, account.uid)
            .map_err(|error| format!("cannot become {run_as}: {error}"))?;
        if nix::unistd::setuid(nix::unistd::ROOT).is_ok() && !account.uid.is_root() {
            return Err(format!("{run_as} could become root again"));
        }
    }
    fence(denied)?;
    std::env::set_current_dir(&account.dir).or_else(|_| std::env::set_current_dir("/")).ok();
    let (program, arguments) = command.split_first().ok_or("nothing to run")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if login {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        command.arg0(format!("-{name}"));
    }
    Err(format!("{program} cannot be run: {}", command.exec()))
}

fn close_descriptors() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        nix::unistd::close(descriptor).ok();
    }
}

/// Landlock knows only what is allowed, so everything beside the way down to
/// a denied folder is allowed, level by level. Folders on that way can only be
/// listed, or not even `ls /` would work; names in the denied folder are left
/// to its mode, since a rule holds for all that lies below. Signals and abstract sockets
/// outside the fence are denied as well where the kernel can.
fn fence(denied: &[PathBuf]) -> Result<(), String> {
    if denied.is_empty() {
        return Ok(());
    }
    let text = |error: &dyn std::fmt::Display| format!("the state folder cannot be fenced off: {error}");
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|error| text(&error))?
        .scope(Scope::from_all(abi))
        .map_err(|error| text(&error))?
        .create()
        .map_err(|error| text(&error))?;
    let denied: Vec<PathBuf> = denied.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let root = PathFd::new("/").map_err(|error| text(&error))?;
    ruleset = ruleset
        .add_rule(PathBeneath::new(root, AccessFs::ReadDir))
        .map_err(|error| text(&error))?;
    for path in allowed_beside(Path::new("/"), &denied, 0) {
        // What cannot be opened cannot be reached anyway.
        let Ok(descriptor) = PathFd::new(&path) else { continue };
        let access = match path.is_dir() {
            true => AccessFs::from_all(abi),
            false => AccessFs::from_file(abi),
        };
        ruleset = ruleset
            .add_rule(PathBeneath::new(descriptor, access))
            .map_err(|error| text(&error))?;
    }
    let status = ruleset.restrict_self().map_err(|error| text(&error))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        eprintln!("portcullis: this kernel has no Landlock; only file modes protect the state folder");
    }
    Ok(())
}

/// Everything in `at` that is neither denied nor on the way to something denied.
fn allowed_beside(at: &Path, denied: &[PathBuf], depth: usize) -> Vec<PathBuf> {
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(at) else {
        return Vec::new();
    };
    let mut allowed = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if denied.contains(&path) {
            continue;
        }
        if denied.iter().any(|denied| denied.starts_with(&path)) {
            allowed.extend(allowed_beside(&path, denied, depth + 1));
        } else {
            allowed.push(path);
        }
    }
    allowed
}
