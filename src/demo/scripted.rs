//! `--unattended`: four scripted sessions with the stock client, each held
//! against what it must have done.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::house::temporary_folder;
use super::{Checked, Demo, Key, Wait};
use crate::api::wire::SessionView;
use crate::clock::Clock;
use crate::entropy;
use crate::kernel::session::EndReason;
use crate::ssh::sftp_server;

/// How many sessions there are.
pub const SESSIONS: usize = 4;
/// Longest session.
const SESSION_WAIT: Duration = Duration::from_secs(60);
/// A shell that printed nothing by then has an empty prompt.
const PROMPT_WAIT: Duration = Duration::from_secs(3);
/// Silence after which a prompt is complete.
const QUIET: Duration = Duration::from_millis(150);
/// Bytes of the copied file.
const COPY_BYTES: usize = 1 << 20;
/// Output of ssh that is kept, in bytes.
const KEPT_BYTES_MAX: u64 = 1 << 20;
/// Length of the grant that is cut.
const CUT_SECS: u64 = 5;
/// What the target may still be heard of after the end of its grant, in ms.
const OVERRUN_MS_MAX: u64 = 100;
/// When ssh must have left after that end, in ms: the notice, its second, a busy machine.
const LEFT_MS_MAX: u64 = 3_000;

/// A session with its recording, and what was wrong with either.
pub struct Said {
    pub checked: Checked,
    pub wrong: Vec<String>,
}

/// What ssh did.
struct Ended {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// When it was gone, wall ms.
    at_wall_ms: u64,
}

impl Ended {
    fn text(&self) -> String {
        format!(
            "{}{}",
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        )
    }
}

/// Collects what does not hold.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

impl Demo {
    /// Runs the four, one after the other.
    pub(super) async fn script(&self) -> anyhow::Result<Vec<(&'static str, Said)>> {
        let grant = self.grant(&Key::TenMinutes, 600).await?;
        self.talk.line("grant", &format!("10 minutes, until {}", grant.until));
        self.talk.gap();
        let mut all = Vec::new();
        all.push(("1 shell", self.shell().await?));
        all.push(("2 command", self.command().await?));
        all.push(("3 copy", self.copy().await?));
        all.push(("4 cut", self.cut().await?));
        Ok(all)
    }

    async fn shell(&self) -> anyhow::Result<Said> {
        let wait = self.talk.wait("a shell session");
        let mut ssh = client("ssh");
        let child = ssh.args(["-tt"]).args(self.house.ssh_arguments(&Key::TenMinutes));
        let ended = self.ends(child, Some("expr 21 + 21\nexit 7\n"), &wait).await?;
        let checked = self.newest().await?;
        let mut wrong = Wrong::default();
        wrong.unless(ended.status == Some(7), || {
            format!("`exit 7` in the shell gave {:?}: {}", ended.status, ended.text())
        });
        wrong.unless(has(&ended.stdout, "42"), || {
            format!("the shell's answer is missing: {}", ended.text())
        });
        wrong.unless(has(&checked.output, "42"), || {
            "the shell's answer is not in the recording".to_owned()
        });
        wrong.unless(checked.code == "exit", || format!("the seal says `{}`", checked.code));
        drop(wait);
        self.told(
            "1 shell    a terminal: typed `expr 21 + 21`, then `exit 7`",
            checked,
            wrong,
        )
    }

    async fn command(&self) -> anyhow::Result<Said> {
        let wait = self.talk.wait("a command");
        let mut ssh = client("ssh");
        let child = ssh
            .args(self.house.ssh_arguments(&Key::TenMinutes))
            .arg("sh -c 'echo to-stdout; echo to-stderr >&2; exit 3'");
        let ended = self.ends(child, None, &wait).await?;
        let checked = self.newest().await?;
        let mut wrong = Wrong::default();
        wrong.unless(ended.status == Some(3), || {
            format!("`exit 3` gave {:?}: {}", ended.status, ended.text())
        });
        wrong.unless(ended.stdout == b"to-stdout\n", || {
            format!("standard output is off: {}", ended.text())
        });
        wrong.unless(ended.stderr == b"to-stderr\n", || {
            format!("standard error is off: {}", ended.text())
        });
        wrong.unless(
            has(&checked.output, "to-stdout") && has(&checked.output, "to-stderr"),
            || "the output is not in the recording".to_owned(),
        );
        drop(wait);
        self.told("2 command  its output, its errors, its exit status", checked, wrong)
    }

    async fn copy(&self) -> anyhow::Result<Said> {
        // Outside the state folder, which the target is fenced off from.
        let files = temporary_folder("portcullis-demo-files")?;
        let result = self.copy_in(&files).await;
        std::fs::remove_dir_all(&files).with_context(|| format!("{} stays behind", files.display()))?;
        result
    }

    async fn copy_in(&self, files: &Path) -> anyhow::Result<Said> {
        let (sent, arrived, back) = (files.join("sent"), files.join("arrived"), files.join("back"));
        let mut content = vec![0; COPY_BYTES];
        entropy::fill(&mut content);
        std::fs::write(&sent, &content)?;
        let wait = self.talk.wait("a file copy");
        let config = self.house.ssh_config();
        let host = Key::TenMinutes.host();
        let with_sftp = sftp_server().is_some();
        let ended = if with_sftp {
            let script = format!(
                "put \"{}\" \"{}\"\nget \"{}\" \"{}\"\n",
                sent.display(),
                arrived.display(),
                arrived.display(),
                back.display()
            );
            let batch = files.join("batch");
            std::fs::write(&batch, script)?;
            let mut sftp = client("sftp");
            sftp.arg("-q").arg("-F").arg(&config).arg("-b").arg(&batch).arg(host);
            self.ends(&mut sftp, None, &wait).await?
        } else {
            let mut scp = client("scp");
            // Older clients know no other way, and no option for it.
            let old = Command::new("scp").arg("-O").output().await?;
            if !has(&old.stderr, "unknown option") && !has(&old.stderr, "illegal option") {
                scp.arg("-O");
            }
            scp.arg("-q")
                .arg("-F")
                .arg(&config)
                .arg(&sent)
                .arg(format!("{host}:{}", arrived.display()));
            self.ends(&mut scp, None, &wait).await?
        };
        let checked = self.newest().await?;
        let mut wrong = Wrong::default();
        wrong.unless(ended.status == Some(0), || {
            format!("the copy gave {:?}: {}", ended.status, ended.text())
        });
        let same = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes == content);
        wrong.unless(same(&arrived), || "the file did not arrive as it was sent".to_owned());
        wrong.unless(!with_sftp || same(&back), || {
            "the file did not come back as it was sent".to_owned()
        });
        wrong.unless(checked.bytes > COPY_BYTES as u64, || {
            "the recording is smaller than the file".to_owned()
        });
        drop(wait);
        let name = if with_sftp {
            "3 copy     1 MiB there and back with sftp"
        } else {
            "3 copy     1 MiB with scp -O (no sftp-server on this machine)"
        };
        self.told(name, checked, wrong)
    }

    async fn cut(&self) -> anyhow::Result<Said> {
        let grant = self.grant(&Key::FiveSeconds, CUT_SECS).await?;
        let until: jiff::Timestamp = grant.until.parse().context("the grant's end")?;
        let until = u64::try_from(until.as_millisecond())?;
        let wait = self.talk.wait("printing until the grant ends");
        let mut ssh = client("ssh");
        let child = ssh
            .arg("-tt")
            .args(self.house.ssh_arguments(&Key::FiveSeconds))
            .arg("sh -c 'while :; do date; sleep 0.05; done'");
        let ended = self.ends(child, None, &wait).await?;
        let checked = self.newest().await?;
        let mut wrong = Wrong::default();
        wrong.unless(ended.status.is_none_or(|status| status != 0), || {
            "the cut session ended with status 0".to_owned()
        });
        wrong.unless(
            has(ended.text().as_bytes(), &EndReason::GrantExpired.sentence()),
            || format!("the last line does not say why: {}", tail(&ended.text())),
        );
        wrong.unless(checked.code == EndReason::GrantExpired.code(), || {
            format!("the seal says `{}`", checked.code)
        });
        let last = checked.last_output_wall_ms;
        wrong.unless(last <= until.saturating_add(OVERRUN_MS_MAX), || {
            format!("output {} ms after the end of the grant", last.saturating_sub(until))
        });
        wrong.unless(last.saturating_add(1_000) >= until, || {
            format!(
                "the output stopped {} ms before the end of the grant",
                until.saturating_sub(last)
            )
        });
        wrong.unless(ended.at_wall_ms <= until.saturating_add(LEFT_MS_MAX), || {
            format!(
                "ssh left {} ms after the end of the grant",
                ended.at_wall_ms.saturating_sub(until)
            )
        });
        drop(wait);
        self.told("4 cut      a grant of 5 seconds, cut while it printed", checked, wrong)
    }

    fn told(&self, name: &str, checked: Checked, wrong: Wrong) -> anyhow::Result<Said> {
        self.talk.say(&format!(
            "  {name}: {}",
            if wrong.0.is_empty() { "ok" } else { "WRONG" }
        ));
        Ok(Said {
            checked,
            wrong: wrong.0,
        })
    }

    /// Runs it to its end, typing `script` once the other side has greeted.
    async fn ends(&self, command: &mut Command, script: Option<&str>, wait: &Wait) -> anyhow::Result<Ended> {
        if script.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().context("cannot start the OpenSSH client")?;
        let running = drive(&mut child, script, &self.clock);
        match tokio::time::timeout(SESSION_WAIT, running).await {
            Ok(ended) => {
                wait.now("sealing".to_owned());
                ended
            }
            Err(_) => bail!("a session did not end within {} s", SESSION_WAIT.as_secs()),
        }
    }

    /// The newest session's recording, verified.
    async fn newest(&self) -> anyhow::Result<Checked> {
        let sessions: Vec<SessionView> = self.ended().await?;
        let newest = sessions.first().context("ssh did not reach the target")?;
        self.check(newest).await
    }
}

/// One of the stock client's programs, with nothing typed.
fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty()) {
        command.env("TERM", "xterm");
    }
    command
}

async fn drive(child: &mut Child, script: Option<&str>, clock: &Clock) -> anyhow::Result<Ended> {
    let stdout = child.stdout.take().context("no standard output")?;
    let stderr = child.stderr.take().context("no standard error")?;
    let stdin = child.stdin.take();
    let (seen, mut greeted) = watch::channel(0usize);
    let quiet = watch::channel(0usize).0;
    let typing = async {
        let (Some(mut stdin), Some(script)) = (stdin, script) else {
            return;
        };
        tokio::time::timeout(PROMPT_WAIT, greeted.changed()).await.ok();
        while tokio::time::timeout(QUIET, greeted.changed())
            .await
            .is_ok_and(|more| more.is_ok())
        {}
        stdin.write_all(script.as_bytes()).await.ok();
        stdin.shutdown().await.ok();
        drop(stdin);
    };
    let (stdout, stderr, (), status) =
        tokio::join!(collect(stdout, seen), collect(stderr, quiet), typing, child.wait());
    Ok(Ended {
        status: status?.code(),
        stdout: stdout?,
        stderr: stderr?,
        at_wall_ms: clock.now().wall_ms,
    })
}

async fn collect(from: impl AsyncRead + Unpin, seen: watch::Sender<usize>) -> anyhow::Result<Vec<u8>> {
    let mut from = from.take(KEPT_BYTES_MAX);
    let mut all = Vec::new();
    while from.read_buf(&mut all).await? > 0 {
        seen.send_replace(all.len());
    }
    // What is past the limit is read and forgotten, so that nobody waits.
    tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await?;
    Ok(all)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

fn tail(text: &str) -> String {
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    last.into_iter().rev().collect::<Vec<_>>().join(" / ")
}
