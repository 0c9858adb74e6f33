//! `demo`: the whole loop on this machine, from the keys to the verdict.
//!
//! Everything is real: the server that `serve` runs, the API that the command
//! line uses, the stock OpenSSH client, the verifier. Only one thing is
//! allowed here that `serve` refuses: the local target runs as the server's
//! own user, since a demo has no other account at hand.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::client::ApiClient;
use crate::cli::output::{bytes, quoted};
use crate::clock::Clock;
use crate::serve::{self, Mode, Running};

mod house;
mod scripted;
mod talk;
mod verdict;

use house::{House, Key};
use talk::{Talk, Wait};
use verdict::Checked;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Scripted sessions in place of a person.
    pub unattended: bool,
    /// State folder; without one a fresh folder for temporary files.
    pub state: Option<PathBuf>,
}

/// A demo with its server running.
struct Demo {
    house: House,
    api: ApiClient,
    clock: Clock,
    talk: Talk,
}

/// Runs it; whether everything was as it should be.
///
/// # Errors
/// Why it could not run.
pub async fn run(options: Options) -> anyhow::Result<bool> {
    if !options.unattended && !std::io::stdin().is_terminal() {
        bail!("the demo puts you into a session, and there is no terminal here; add --unattended");
    }
    let (demo, running) = open(options.state.as_deref()).await?;
    let played = if options.unattended {
        demo.unattended(running).await
    } else {
        demo.attended(running).await
    };
    if let Err(error) = &played {
        demo.talk.say(&format!("The demo stopped: {error:#}"));
        demo.talk
            .say(&format!("The server's log: {}", demo.house.log().display()));
    }
    demo.talk.gap();
    demo.talk.say(&format!(
        "Everything lies in {0}; when you are done: rm -rf {0}",
        word(demo.house.root())
    ));
    let good = played?;
    if let Some(line) = good.last_line {
        demo.talk.say(&line);
    }
    Ok(good.good)
}

/// How a demo ended.
struct Played {
    good: bool,
    last_line: Option<String>,
}

/// Makes the state folder and starts the server in it.
async fn open(state: Option<&Path>) -> anyhow::Result<(Demo, Running)> {
    let talk = Talk::new();
    let clock = Clock::system();
    let ssh = talk
        .during("looking for the OpenSSH client", house::ssh_version())
        .await?;
    let house = talk
        .during(
            "making keys, certificate authorities and the store",
            House::make(state, &clock),
        )
        .await?;
    house.log_to_file()?;
    let mode = Mode { local_as_server: true };
    let running = talk
        .during("starting the server", serve::start(house.config()?, mode))
        .await?;
    house.write_client(running.ssh)?;
    let demo = Demo {
        api: ApiClient::new(house.layout().api_socket()),
        house,
        clock,
        talk,
    };
    let (talk, house) = (&demo.talk, &demo.house);
    talk.say("Portcullis demo: one gate, one target, one person, all on this machine.");
    talk.line("state", &house.root().display().to_string());
    talk.line("server", &format!("{} (ssh), {} (api)", running.ssh, demo.api.server()));
    talk.line("client", &ssh);
    talk.line(
        "target",
        &format!(
            "{}, a shell on this machine as you ({}): only a demo allows that",
            house::TARGET,
            house.account().name
        ),
    );
    demo.inventory().await?;
    Ok((demo, running))
}

impl Demo {
    async fn attended(&self, running: Running) -> anyhow::Result<Played> {
        let result = self.attended_session().await;
        let stopped = match &result {
            Ok(_) => {
                self.by_hand();
                wait_for_enter().await
            }
            Err(_) => Ok(()),
        };
        self.stop(running).await?;
        result?;
        stopped?;
        let all = self.recordings().await?;
        let sealed = all.iter().filter(|checked| checked.sealed()).count();
        Ok(Played {
            good: sealed == all.len(),
            last_line: Some(count(all.len(), sealed)),
        })
    }

    /// One session with a person in it.
    async fn attended_session(&self) -> anyhow::Result<()> {
        let grant = self.grant(&Key::TenMinutes, 600).await?;
        self.talk.line("grant", &format!("10 minutes, until {}", grant.until));
        self.talk.gap();
        self.talk.say(&format!("$ {}", self.house.ssh_line(&Key::TenMinutes)));
        self.talk
            .say("You are in a recorded session now. Leave it with `exit`.");
        self.talk.gap();
        let status = self.person().await?;
        self.talk.gap();
        let checked = self
            .talk
            .during("sealing and verifying", async {
                let sessions = self.ended().await?;
                let Some(first) = sessions.first() else {
                    bail!("ssh did not reach the target ({status})");
                };
                self.check(first).await
            })
            .await?;
        self.tell("your session", &checked);
        if !checked.sealed() {
            bail!("the recording is not what it should be");
        }
        Ok(())
    }

    /// Gives this terminal to ssh until it ends.
    async fn person(&self) -> anyhow::Result<std::process::ExitStatus> {
        // Ctrl-C is for the session, or for ssh while it connects; ours it is not.
        let _interrupts = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = tokio::process::Command::new("ssh")
            .args(self.house.ssh_arguments(&Key::TenMinutes))
            .kill_on_drop(true)
            .spawn()
            .context("cannot start ssh")?;
        tokio::select! {
            ended = child.wait() => ended.context("ssh"),
            _ = terminate.recv() => bail!("told to stop"),
        }
    }

    async fn unattended(&self, running: Running) -> anyhow::Result<Played> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let played = tokio::select! {
            played = self.script() => played,
            () = either(&mut interrupt, &mut terminate) => Err(anyhow::anyhow!("told to stop")),
        };
        self.stop(running).await?;
        let played = played?;
        self.talk.gap();
        let mut good = true;
        for (name, said) in &played {
            self.tell(name, &said.checked);
            for wrong in &said.wrong {
                good = false;
                self.talk.say(&format!("  WRONG: {wrong}"));
            }
        }
        let ledger = self
            .talk
            .during("holding ledger and archive against each other", self.fsck())
            .await?;
        self.talk.line("ledger", &ledger.text);
        let sealed = played.iter().filter(|(_, said)| said.checked.sealed()).count();
        Ok(Played {
            good: good && ledger.good && sealed == scripted::SESSIONS && played.len() == scripted::SESSIONS,
            last_line: Some(count(played.len(), sealed)),
        })
    }

    async fn stop(&self, running: Running) -> anyhow::Result<()> {
        self.talk.during("stopping the server", running.stop()).await
    }

    /// What a verifier found, and how to look at it oneself.
    fn tell(&self, name: &str, checked: &Checked) {
        self.talk.say(&format!("{name}: {}", checked.line));
        self.talk.line("size", &bytes(checked.bytes));
        self.talk.line("file", &checked.file.display().to_string());
        self.talk.line("replay", &self.own("play", &checked.file));
    }

    /// The command of this very program on a recording.
    fn own(&self, verb: &str, file: &Path) -> String {
        format!(
            "{} {verb} {} --trust {}",
            own_program(),
            word(file),
            word(&self.house.layout().trust())
        )
    }

    /// How to go on from a second terminal.
    fn by_hand(&self) {
        let program = own_program();
        let state = word(self.house.root());
        self.talk.gap();
        self.talk.say("The server still runs. From a second terminal:");
        for command in [
            self.house.ssh_line(&Key::TenMinutes),
            format!("{program} sessions --state {state}"),
            format!("{program} recordings --state {state}"),
            format!("{program} revoke --all --reason 'seen enough' --state {state}"),
            format!("{program} ledger fsck --state {state}"),
        ] {
            self.talk.say(&format!("  {command}"));
        }
        self.talk.say("Press Enter here to stop it.");
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Until Enter, the end of input, ctrl-c or SIGTERM.
async fn wait_for_enter() -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (pressed, enter) = tokio::sync::oneshot::channel();
    // A thread of its own: one that belongs to the runtime would keep it from
    // ending until somebody presses Enter after all.
    std::thread::Builder::new().name("enter".into()).spawn(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok();
        pressed.send(()).ok();
    })?;
    tokio::select! {
        _ = enter => {}
        () = either(&mut interrupt, &mut terminate) => {}
    }
    Ok(())
}

/// This program as it can be typed, anywhere on this machine.
fn own_program() -> String {
    match std::env::current_exe() {
        Ok(program) => word(&program),
        Err(_) => "portcullis".to_owned(),
    }
}

/// `demo: 4 sessions, 4 SEALED`.
fn count(sessions: usize, sealed: usize) -> String {
    let plural = if sessions == 1 { "" } else { "s" };
    format!("demo: {sessions} session{plural}, {sealed} SEALED")
}

fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
