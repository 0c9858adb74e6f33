//! Local targets below SSH: real supervisors, real terminals, real shells.
//!
//! Runs as root under `nobody`; as anybody else under that account itself,
//! and then without a PID namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use portcullis::local_helper::terminal::{self, Master};
use portcullis::local_helper::{Exit, Helper, Last, NO_NAMESPACE, Order, Spec};
use russh::Pty;
use rustix::termios::Winsize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

const LIMIT: Duration = Duration::from_secs(30);

fn account() -> User {
    match Uid::effective().is_root() {
        true => User::from_name("nobody").unwrap().unwrap(),
        false => User::from_uid(Uid::effective()).unwrap().unwrap(),
    }
}

fn spec(command: &[&str], terminal: bool) -> Spec {
    Spec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        login: false,
        terminal,
        run_as: account().name,
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("TERM".into(), "dumb".into()),
            ("PS1".into(), "ready> ".into()),
        ],
        denied: Vec::new(),
        demo: true,
    }
}

/// A folder that the account can write to.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let path = folder.path().to_owned();
    nix::unistd::chown(&path, Some(account().uid), Some(account().gid)).unwrap();
    (folder, path)
}

async fn start(flags: &[&str], streams: [OwnedFd; 3], spec: &Spec) -> Helper {
    Helper::start(Path::new(env!("CARGO_BIN_EXE_portcullis")), flags, streams, spec)
        .await
        .unwrap()
}

async fn last(helper: &mut Helper) -> Last {
    tokio::time::timeout(LIMIT, helper.last()).await.unwrap().unwrap()
}

async fn end(helper: &mut Helper) -> Last {
    helper.order(&Order::End).await.unwrap();
    last(helper).await
}

struct Shell {
    helper: Helper,
    master: Master,
    seen: String,
}

impl Shell {
    async fn start(command: &[&str], modes: &[(Pty, u32)]) -> Shell {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (master, slave) = terminal::open(size, modes).unwrap();
        if Uid::effective().is_root() {
            terminal::give(&slave, account().uid, account().gid).unwrap();
        }
        let streams = [slave.try_clone().unwrap(), slave.try_clone().unwrap(), slave];
        let helper = start(&[], streams, &spec(command, true)).await;
        Shell {
            helper,
            master,
            seen: String::new(),
        }
    }

    async fn say(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = self.master.write(bytes, || true).await.unwrap();
            bytes = &bytes[n..];
        }
    }

    /// Reads until `text` stands there; forgets what came up to it.
    async fn see(&mut self, text: &str) {
        let limit = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = limit.saturating_duration_since(Instant::now());
            let n = tokio::time::timeout(left, self.master.read(&mut buffer)).await;
            let n = n.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen)).unwrap();
            assert!(n > 0, "the terminal ended before {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
}

fn bash() -> [&'static str; 3] {
    ["/bin/bash", "--norc", "-i"]
}

#[tokio::test]
async fn a_half_typed_line_is_not_executed_at_the_cut() {
    let (_keep, at) = folder();
    for command in [
        &bash()[..],
        &["/bin/sh", "-i"],
        &[
            "/bin/sh",
            "-c",
            "trap '' HUP TERM; while read -r line; do eval \"$line\"; done",
        ],
    ] {
        let marker = at.join("executed");
        let mut shell = Shell::start(command, &[]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        shell.say(format!("touch {}", marker.display()).as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(end(&mut shell.helper).await.survivors.is_empty());
        drop(shell);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!marker.exists(), "{command:?} ran a line nobody entered");
    }
}

#[tokio::test]
async fn every_process_is_gone_after_the_cut() {
    for flags in [&[][..], &[NO_NAMESPACE]] {
        let (_keep, at) = folder();
        // Six links that each fork their successor, note the time and exit; three daemons.
        let link = at.join("link.sh");
        std::fs::write(
            &link,
            format!("sh {0} $1 &\necho x > {1}/$1\nexit 0\n", link.display(), at.display()),
        )
        .unwrap();
        let script = format!(
            "for n in 1 2 3 4 5 6; do sh {} chain$n & done; for n in 1 2 3; do (setsid sh -c 'trap \"\" HUP TERM; while :; do echo x > {}/daemon'$n'; sleep 0.05; done' &) ; done; sleep 1000",
            link.display(),
            at.display()
        );
        let (stdin, streams) = pipes();
        let mut helper = start(flags, streams, &spec(&["/bin/sh", "-c", &script], false)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(at.join("chain1").exists() && at.join("daemon1").exists());
        let last = end(&mut helper).await;
        assert!(last.survivors.is_empty(), "{flags:?}: {:?}", last.survivors);
        // Nobody writes any more.
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            if entry.path() != link {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            std::fs::read_dir(&at).unwrap().count(),
            1,
            "{flags:?}: somebody still writes"
        );
        drop(stdin);
    }
}

#[tokio::test]
async fn job_control_works() {
    let mut shell = Shell::start(&bash(), &[]).await;
    shell.see("ready> ").await;
    shell.say(b"sleep 1000\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    shell.say(b"\x1a").await;
    shell.see("Stopped").await;
    shell.say(b"bg; jobs\n").await;
    shell.see("Running").await;
    shell.say(b"fg\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    shell.say(b"\x03").await;
    shell.say(b"echo status=$?\n").await;
    shell.see("status=130").await;
    shell.say(b"exit 7\n").await;
    assert_eq!(last(&mut shell.helper).await.exit, Some(Exit::Status(7)));
}

#[tokio::test]
async fn the_window_and_the_modes_are_the_clients() {
    let mut shell = Shell::start(
        &bash(),
        &[(Pty::VINTR, 7), (Pty::ECHO, 0), (Pty::IXON, 0), (Pty::VQUIT, 255)],
    )
    .await;
    shell.see("ready> ").await;
    let size = Winsize {
        ws_row: 50,
        ws_col: 132,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    shell.master.resize(size).unwrap();
    shell
        .say(b"stty size; stty -a; (echo opened > /dev/tty); (echo by-name > $(tty))\n")
        .await;
    shell.see("50 132").await;
    shell.see("intr = ^G").await;
    shell.see("quit = <undef>").await;
    shell.see("-ixon").await;
    shell.see("opened").await;
    shell.see("by-name").await;
    assert!(end(&mut shell.helper).await.survivors.is_empty());
}

fn pipes() -> (pipe::Sender, [OwnedFd; 3]) {
    let (stdin, theirs) = pipe::pipe().unwrap();
    let null = || OwnedFd::from(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap());
    (stdin, [theirs.into_blocking_fd().unwrap(), null(), null()])
}

#[tokio::test]
async fn statuses_signals_and_the_end_of_input() {
    let (stdin, streams) = pipes();
    let mut helper = start(&[], streams, &spec(&["/bin/sh", "-c", "cat; exit 42"], false)).await;
    drop(stdin);
    assert_eq!(last(&mut helper).await.exit, Some(Exit::Status(42)));

    let (_stdin, streams) = pipes();
    let mut helper = start(&[], streams, &spec(&["/bin/sleep", "1000"], false)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    helper.order(&Order::Signal("USR1".into())).await.unwrap();
    let name = "USR1".to_owned();
    assert_eq!(last(&mut helper).await.exit, Some(Exit::Signal { name, core: false }));
}

#[tokio::test]
async fn without_a_terminal_there_is_no_controlling_one() {
    let (_stdin, streams) = pipes();
    let command = [
        "/bin/sh",
        "-c",
        "if (: > /dev/tty) 2>/dev/null; then exit 1; else exit 9; fi",
    ];
    let mut helper = start(&[], streams, &spec(&command, false)).await;
    assert_eq!(last(&mut helper).await.exit, Some(Exit::Status(9)));
}

#[tokio::test]
async fn a_megabyte_through_a_terminal_both_ways() {
    const BYTES: usize = 1 << 20;
    let command = ["/bin/sh", "-c", "stty raw -echo; echo go; head -c 1048576"];
    let Shell { mut helper, master, .. } = {
        let mut shell = Shell::start(&command, &[]).await;
        shell.see("go\n").await;
        shell
    };
    let sent: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
    let typing = async {
        let mut left = &sent[..];
        while !left.is_empty() {
            left = &left[master.write(left, || true).await.unwrap()..];
        }
    };
    let reading = async {
        let mut got = Vec::new();
        let mut buffer = vec![0; 65536];
        while got.len() < BYTES {
            let n = master.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            got.extend_from_slice(&buffer[..n]);
        }
        got
    };
    let ((), got) = tokio::time::timeout(LIMIT, async { tokio::join!(typing, reading) })
        .await
        .unwrap();
    assert!(got == sent);
    assert_eq!(last(&mut helper).await.exit, Some(Exit::Status(0)));
}

#[tokio::test]
async fn nothing_is_written_once_the_switch_is_off() {
    let (master, slave) = terminal::open(
        Winsize {
            ws_row: 1,
            ws_col: 1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
        &[(Pty::ICANON, 0), (Pty::ECHO, 0)],
    )
    .unwrap();
    assert!(master.write(b"x", || false).await.is_err());
    drop(master);
    let mut buffer = [0; 8];
    assert_eq!(rustix::io::read(&slave, &mut buffer).unwrap_or(0), 0);
}

#[tokio::test]
async fn a_link_beside_does_not_open_the_denied_folder() {
    let (_keep, at) = folder();
    let state = at.join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(&state, at.join("link")).unwrap();
    let (_stdin, streams) = pipes();
    let command = format!(
        "cat {0}/state/secret || cat {0}/link/secret || {{ echo ok > {0}/free && exit 5; }}",
        at.display()
    );
    let mut spec = spec(&["/bin/sh", "-c", &command], false);
    spec.denied = vec![state];
    std::fs::create_dir(at.join("beside")).unwrap();
    let mut helper = start(&[], streams, &spec).await;
    // A new file in the parent itself is outside what Landlock allows here, so the last part may fail too.
    let exit = last(&mut helper).await.exit;
    assert!(matches!(exit, Some(Exit::Status(status)) if status != 0), "{exit:?}");
}

/// In a demo the command has the server's own account: the fence alone holds then.
#[tokio::test]
async fn the_fence_holds_for_the_same_account_too() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir_all(state.join("keys")).unwrap();
    for file in ["keys/user_ca", "store.db", "config.toml"] {
        std::fs::write(state.join(file), "secret").unwrap();
    }
    let own = User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let fenced = async |script: &str| {
        let (_stdin, streams) = pipes();
        let mut spec = spec(&["/bin/sh", "-c", script], false);
        spec.run_as = own.name.clone();
        spec.denied = vec![state.clone()];
        last(&mut start(&[], streams, &spec).await).await.exit
    };
    let status = fenced(
        "id -u; ls / /tmp; cat /etc/hosts; echo x > /dev/null; cd /var/tmp; grep -q 'NoNewPrivs:.1' /proc/self/status",
    )
    .await;
    assert!(matches!(status, Some(Exit::Status(0))), "{status:?}");
    let state = state.display();
    for attempt in [
        format!("cat {state}/keys/*"),
        format!("head -c 1 {state}/store.db"),
        format!("cat {state}/config.toml"),
        format!("echo x > {state}/x"),
        format!("cd {state} && cat store.db"),
        format!("mv {state} {state}.2"),
        format!("ln {state}/store.db /var/tmp/pc-link.$$"),
        format!("rm {state}/store.db"),
    ] {
        let status = fenced(&attempt).await;
        assert!(
            matches!(status, Some(Exit::Status(status)) if status != 0),
            "`{attempt}`: {status:?}"
        );
    }
}

#[tokio::test]
async fn output_comes_back_over_pipes() {
    let (mut stdin, theirs) = pipe::pipe().unwrap();
    let (out, mut output) = pipe::pipe().unwrap();
    let null = OwnedFd::from(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap());
    let streams = [
        theirs.into_blocking_fd().unwrap(),
        out.into_blocking_fd().unwrap(),
        null,
    ];
    let mut helper = start(&[], streams, &spec(&["/bin/cat"], false)).await;
    stdin.write_all(b"there and back").await.unwrap();
    drop(stdin);
    let mut got = String::new();
    tokio::time::timeout(LIMIT, output.read_to_string(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, "there and back");
    assert_eq!(last(&mut helper).await.exit, Some(Exit::Status(0)));
}
