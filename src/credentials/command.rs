//! Secrets from a program: its standard output, for one login at one target.
//!
//! No shell, no standard input, nothing of our environment; what it says on
//! standard error is dropped, for it may hold the secret. It is ended with
//! everything that it started as soon as nobody waits for it any more.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zeroize::Zeroizing;

use super::{Answer, CredentialSource, SECRET_BYTES_MAX, Secret, Wanted, Why};
use crate::kernel::policy::MayConnect;

/// How many of one source's commands run at once; the others wait.
const RUNNING_MAX: usize = 16;
/// Where programs are looked for by a command that is a script.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often, and how far apart, a look is taken at what a killed command left.
const REAP_TRIES: u32 = 50;
const REAP_WAIT: Duration = Duration::from_millis(10);

/// A program that prints secrets.
pub struct Program {
    command: Vec<String>,
    timeout: Duration,
    places: Arc<Semaphore>,
}

impl Program {
    /// With its first arguments; nothing is run yet.
    pub fn new(command: Vec<String>, timeout: Duration) -> Program {
        Program {
            command,
            timeout,
            places: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }

    fn spawn(&self, wanted: &Wanted) -> Result<(Child, ChildStdout), Why> {
        let failed = |why: &str| Why::NotStarted(why.to_owned());
        let (program, first) = self.command.split_first().ok_or_else(|| failed("it is empty"))?;
        let started = Command::new(program)
            .args(first)
            .args([wanted.target.as_str(), wanted.login.as_str()])
            .env_clear()
            .envs([("PATH", PATH), ("LC_ALL", "C")])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(|error| failed(&error.kind().to_string()))?;
        match child.stdout.take() {
            Some(stdout) => Ok((child, stdout)),
            None => Err(failed("it has no output")),
        }
    }

    async fn ask(&self, wanted: &Wanted) -> Result<Secret, Why> {
        let late = Why::Timeout(self.timeout.as_secs());
        let booked = tokio::time::timeout(self.timeout, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = booked else {
            return Err(late);
        };
        let (child, stdout) = self.spawn(wanted)?;
        let (tell, told) = oneshot::channel();
        // A task of its own, so that it is ended in order also when nobody waits.
        tokio::spawn(attend(child, stdout, self.timeout, tell, place));
        told.await.unwrap_or(Err(late))
    }
}

impl CredentialSource for Program {
    fn fetch<'a>(&'a self, _permit: MayConnect<'a>, wanted: &'a Wanted) -> Answer<'a> {
        Box::pin(self.ask(wanted))
    }

    fn look(&self) -> Result<(), String> {
        let program = self.command.first().map_or("", String::as_str);
        let meta = Path::new(program)
            .metadata()
            .map_err(|error| format!("{program}: {error}"))?;
        match meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
            true => Ok(()),
            false => Err(format!(
                "{program} is not a program: run `chmod +x {program}` if it is one"
            )),
        }
    }
}

async fn attend(
    mut child: Child,
    mut stdout: ChildStdout,
    timeout: Duration,
    mut tell: oneshot::Sender<Result<Secret, Why>>,
    place: OwnedSemaphorePermit,
) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let finished = async {
        let bytes = read(&mut stdout).await?;
        let status = child.wait().await.map_err(|error| Why::Failed(error.to_string()))?;
        match status.success() {
            true => Secret::new(bytes),
            false => Err(Why::Failed(in_words(status))),
        }
    };
    let answer = tokio::select! {
        () = tell.closed() => None,
        done = tokio::time::timeout(timeout, finished) => Some(done.unwrap_or(Err(Why::Timeout(timeout.as_secs())))),
    };
    let running = !matches!(child.try_wait(), Ok(Some(_)));
    if let Some(answer) = answer {
        // Nobody there any more: it is wiped.
        tell.send(answer).ok();
    }
    if let Some(group) = group.filter(|_| running) {
        end(&mut child, group).await;
    }
    drop(place);
}

/// Ends the program and what it started, and leaves no dead process behind.
async fn end(child: &mut Child, group: Pid) {
    if let Err(error) = killpg(group, Signal::SIGKILL) {
        tracing::debug!(%error, "a credential command is gone already");
    }
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a credential command does not end");
    }
    // What it started comes to us, if we are a subreaper, and only to be buried.
    let below = Pid::from_raw(group.as_raw().saturating_neg());
    for _ in 0..REAP_TRIES {
        match waitpid(below, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => tokio::time::sleep(REAP_WAIT).await,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// All of its output.
async fn read(stdout: &mut ChildStdout) -> Result<Zeroizing<Vec<u8>>, Why> {
    // Room for all of it at once: a buffer that grew would leave pieces of the
    // secret behind in freed memory.
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES_MAX.saturating_add(1)]);
    let mut filled = 0usize;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match stdout.read(room).await {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            Ok(got) => filled = filled.saturating_add(got),
            Err(error) => return Err(Why::Failed(error.kind().to_string())),
        }
    }
    Err(Why::TooLong)
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => "a signal".to_owned(),
    }
}
