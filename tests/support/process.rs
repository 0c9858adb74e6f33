//! Child processes that cannot outlive their test or hang it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::wait_for;

/// What a program left behind.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl Done {
    /// Its exit code; a program that died of a signal fails the test.
    #[track_caller]
    pub fn code(&self) -> i32 {
        let signal = self.status.signal();
        self.status
            .code()
            .unwrap_or_else(|| panic!("died of signal {signal:?}; stderr: {}", self.err()))
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails the test unless it ended well.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(
            self.code(),
            0,
            "stderr: {}\nstdout: {}",
            self.err(),
            self.out().chars().take(2000).collect::<String>()
        );
        self
    }
}

/// Runs a program without input to its end, at most `limit` long.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Done {
    Running::start(command.stdin(Stdio::null())).finish(limit)
}

/// Runs a program with `input` on its standard input, at most `limit` long.
#[track_caller]
pub fn finish(command: &mut Command, input: &[u8], limit: Duration) -> Done {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that leaves early breaks the pipe: what counts is how it ended.
    std::thread::spawn(move || stdin.write_all(&input).ok());
    running.finish(limit)
}

/// A running program whose output is collected as it comes. Killed when dropped.
pub struct Running {
    child: Child,
    began: Instant,
    pub stdin: Option<ChildStdin>,
    stdout: Gathered,
    stderr: Gathered,
}

impl Running {
    /// Starts `command` and gathers its standard output and error.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Running {
            began: Instant::now(),
            stdin: child.stdin.take(),
            stdout: Gathered::from(child.stdout.take().unwrap()),
            stderr: Gathered::from(child.stderr.take().unwrap()),
            child,
        }
    }

    /// The same with a standard input that the test writes to.
    #[track_caller]
    pub fn with_input(command: &mut Command) -> Running {
        Running::start(command.stdin(Stdio::piped()))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What came so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.so_far()
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout()).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr()).into_owned()
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("started with input");
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Waits until its standard output holds `text`.
    #[track_caller]
    pub fn await_out(&self, text: &str, limit: Duration) {
        wait_for(&format!("`{text}` on standard output"), limit, || {
            let found = self.stdout.holds(text.as_bytes());
            assert!(
                found || !self.stdout.over() || self.stdout.holds(text.as_bytes()),
                "standard output ended without `{text}`: {:?}; stderr: {}",
                tail(&self.out()),
                self.err()
            );
            found.then_some(())
        });
    }

    /// Waits until its standard output has at least `bytes`.
    #[track_caller]
    pub fn await_bytes(&self, bytes: usize, limit: Duration) {
        wait_for(&format!("{bytes} bytes on standard output"), limit, || {
            (self.stdout.len() >= bytes).then_some(())
        });
    }

    /// Waits until its standard error holds `text`.
    #[track_caller]
    pub fn await_err(&self, text: &str, limit: Duration) {
        wait_for(&format!("`{text}` on standard error"), limit, || {
            self.stderr.holds(text.as_bytes()).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; the test fails, and it is killed, after `limit`.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Done {
        self.stdin.take();
        self.finish_open(limit)
    }

    /// The same with its standard input still open.
    #[track_caller]
    pub fn finish_open(mut self, limit: Duration) -> Done {
        let status = self.await_end(limit);
        let took = self.began.elapsed();
        Done {
            status,
            stdout: self.stdout.whole(limit),
            stderr: self.stderr.whole(limit),
            took,
        }
    }

    #[track_caller]
    fn await_end(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                began.elapsed() < limit,
                "still running after {limit:?}; stdout {} bytes, ends {:?}; stderr: {}",
                self.stdout.len(),
                tail(&self.out()),
                self.err()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_tree(self.child.id());
            self.child.wait().ok();
        }
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(300);
    text.char_indices()
        .find(|(at, _)| *at >= from)
        .map_or("", |(at, _)| &text[at..])
}

/// Bytes gathered by a thread from a pipe.
struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Gathered {
    fn from(mut pipe: impl Read + Send + 'static) -> Gathered {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(got @ 1..) = pipe.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..got]);
            }
        });
        Gathered {
            bytes,
            thread: Some(thread),
        }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.bytes.lock().unwrap().len()
    }

    fn holds(&self, text: &[u8]) -> bool {
        super::bytes::find(&self.bytes.lock().unwrap(), text).is_some()
    }

    fn over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Everything, once the pipe has ended. A grandchild may hold it open: bounded.
    fn whole(&mut self, limit: Duration) -> Vec<u8> {
        let began = Instant::now();
        while !self.over() && began.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.so_far()
    }
}

pub fn send(pid: u32, signal: Signal) {
    // Gone already is as good.
    kill(Pid::from_raw(pid as i32), signal).ok();
}

/// Kills `pid`, a child of ours, and everything that descends from it.
pub fn kill_tree(pid: u32) {
    // Stopped first, so that it cannot start more while its children are listed.
    send(pid, Signal::SIGSTOP);
    let below = descendants(pid);
    for pid in below {
        send(pid, Signal::SIGKILL);
    }
    send(pid, Signal::SIGKILL);
}

/// Every process below `pid`.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let all: Vec<(u32, u32)> = processes()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, brackets too; the state and the parent follow the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Processes, zombies apart, whose arguments hold `word`: a test puts a word
/// of its own into a command to find it again.
pub fn with_argument(word: &str) -> Vec<u32> {
    let holds = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| super::bytes::find(&line, word.as_bytes()).is_some())
    };
    let me = std::process::id();
    processes().into_iter().filter(|pid| *pid != me && holds(pid)).collect()
}

/// A line of `/proc/PID/status` in kB, such as `VmRSS` or `VmHWM`.
pub fn status_kb(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Begins a command that sees the account `name` with another login shell:
/// system accounts have none that works. In a mount namespace of its own; the
/// program and its arguments follow, and keep the process id.
pub fn with_account(name: &str, shell: &str, passwd: &std::path::Path) -> Command {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix(&format!("{name}:")) {
        Some(_) => format!("{}:{shell}", line.rsplit_once(':').unwrap().0),
        None => line.to_owned(),
    });
    std::fs::write(passwd, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    with_file(passwd, "/etc/passwd")
}

/// The same with a password, by its hash as crypt(5) has it.
pub fn with_password(name: &str, hash: &str, shadow: &std::path::Path) -> Command {
    std::fs::write(shadow, format!("{name}:{hash}:19000:0:99999:7:::\n")).unwrap();
    with_file(shadow, "/etc/shadow")
}

/// Begins a command that sees `file` in the place of another.
fn with_file(file: &std::path::Path, place: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command
        .arg(format!("mount --bind \"$0\" {place} && exec \"$@\""))
        .arg(file);
    command
}

/// A word that no other process on the machine has in its arguments.
pub fn unique(stem: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}-{}-{next}", std::process::id())
}
