//! Sources on real files and real programs.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::kernel::policy::MayConnect;
use crate::kernel::policy::testing::connect_permit;

const CANARY: &str = "canary-3f9a";

fn wanted() -> Wanted {
    Wanted {
        target: "db1".parse().unwrap(),
        login: "root".parse().unwrap(),
    }
}

fn source(name: &str) -> SourceName {
    name.parse().unwrap()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

async fn fetch(sources: &Sources, name: &str) -> Result<String, Why> {
    let permit = connect_permit();
    let permit: MayConnect<'_> = permit.to_connect().unwrap();
    let fetched = sources.fetch(permit, &source(name), &wanted()).await;
    fetched.map(|secret| secret.text().to_owned()).map_err(|no| no.why)
}

fn folder(path: &Path) -> Sources {
    Sources::new(&[Setting {
        name: source("files"),
        kind: Kind::File {
            folder: path.to_owned(),
        },
        passphrase: None,
    }])
}

fn shell(script: &str, timeout: Duration) -> Sources {
    let command = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    Sources::new(&[Setting {
        name: source("program"),
        kind: Kind::Command { command, timeout },
        passphrase: None,
    }])
}

#[test]
fn a_secret_is_bounded_text_and_is_not_shown() {
    let of = |text: &[u8]| Secret::new(Zeroizing::new(text.to_vec()));
    assert_eq!(of(b"hunter2\n").unwrap().line().unwrap(), "hunter2");
    assert_eq!(of(b"hunter2\r\n").unwrap().line().unwrap(), "hunter2");
    assert_eq!(of(b" kept ").unwrap().line().unwrap(), " kept ");
    assert_eq!(of(b"one\ntwo\n").unwrap().line().unwrap_err(), Why::NotOneLine(2));
    assert_eq!(of(b"one\ntwo\n").unwrap().lines().unwrap(), ["one", "two"]);
    assert_eq!(of(b"1\n2\n3\n4\n5").unwrap().lines().unwrap_err(), Why::TooManyLines(5));
    assert_eq!(of(b"").unwrap_err(), Why::Empty);
    assert_eq!(of(b"\n").unwrap_err(), Why::Empty);
    assert_eq!(of(b"\xff\xfe").unwrap_err(), Why::NotText);
    assert_eq!(of(b"a\0b").unwrap_err(), Why::NotText);
    assert!(of(&[b'x'; SECRET_BYTES_MAX]).is_ok());
    assert_eq!(of(&[b'x'; SECRET_BYTES_MAX + 1]).unwrap_err(), Why::TooLong);
    assert!(!format!("{:?}", of(b"hunter2").unwrap()).contains("hunter2"));
}

#[tokio::test]
async fn a_file_counts_only_if_nobody_else_could_have_read_or_put_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("secrets");
    let sources = folder(&files);
    assert_eq!(fetch(&sources, "files").await, Err(Why::Unsafe));
    assert!(sources.look(&source("files")).is_err());
    std::fs::create_dir(&files).unwrap();
    mode(&files, 0o700);
    assert_eq!(sources.look(&source("files")), Ok(()));
    assert_eq!(fetch(&sources, "files").await, Err(Why::NoFile));
    let path = files.join("root@db1");
    std::fs::write(&path, format!("{CANARY}\n")).unwrap();
    mode(&path, 0o600);
    assert_eq!(fetch(&sources, "files").await, Ok(CANARY.to_owned()));
    mode(&path, 0o640);
    assert_eq!(fetch(&sources, "files").await, Err(Why::Unsafe));
    mode(&path, 0o600);
    mode(&files, 0o770);
    assert_eq!(fetch(&sources, "files").await, Err(Why::Unsafe));
    assert!(sources.look(&source("files")).unwrap_err().contains("chmod 700"));
    mode(&files, 0o700);
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert_eq!(fetch(&sources, "files").await, Err(Why::Unsafe));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    mode(&path, 0o600);
    assert_eq!(fetch(&sources, "files").await, Err(Why::Empty));
    assert_eq!(fetch(&sources, "other").await, Err(Why::NotConfigured));
}

#[tokio::test]
async fn a_program_is_told_target_and_login_and_nothing_of_our_environment() {
    let limit = Duration::from_secs(10);
    // Cargo sets this one for every test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let script = "echo \"$1 $2 $# ${CARGO_MANIFEST_DIR-none} ${HOME-none} $(pwd)\"; echo noise >&2";
    let said = fetch(&shell(script, limit), "program").await.unwrap();
    assert_eq!(said, "db1 root 2 none none /");
    assert_eq!(fetch(&shell("exit 0", limit), "program").await, Err(Why::Empty));
    let failed = fetch(&shell(&format!("echo {CANARY}; exit 3"), limit), "program").await;
    assert_eq!(failed, Err(Why::Failed("exit code 3".to_owned())));
    let floods = fetch(&shell("cat /dev/zero", limit), "program").await;
    assert_eq!(floods, Err(Why::TooLong));
    let sources = Sources::new(&[Setting {
        name: source("program"),
        kind: Kind::Command {
            command: vec!["/nonexistent/program".to_owned()],
            timeout: limit,
        },
        passphrase: None,
    }]);
    assert!(matches!(fetch(&sources, "program").await, Err(Why::NotStarted(_))));
    assert!(sources.look(&source("program")).unwrap_err().contains("/nonexistent"));
}

/// Whether nothing holds the lock of `path` any more, within a bounded time.
async fn let_go(path: &Path) -> bool {
    for _ in 0..500 {
        let file = std::fs::File::open(path).unwrap();
        if file.try_lock().is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// A program that hangs with a child of its own, both holding `lock`.
fn hanging(lock: &Path, timeout: Duration) -> Sources {
    let lock = lock.display();
    shell(
        &format!("exec 9<{lock}; flock 9; echo up >{lock}.up; sleep 600 & sleep 600; echo {CANARY}"),
        timeout,
    )
}

#[tokio::test]
async fn a_program_that_hangs_ends_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    std::fs::write(&lock, "").unwrap();
    let sources = hanging(&lock, Duration::from_secs(1));
    assert_eq!(fetch(&sources, "program").await, Err(Why::Timeout(1)));
    assert!(let_go(&lock).await);
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_any_more_ends() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    std::fs::write(&lock, "").unwrap();
    let sources = hanging(&lock, Duration::from_secs(600));
    let up = dir.path().join("lock.up");
    let until_up = async {
        while !up.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = fetch(&sources, "program") => panic!("it hangs"),
        () = until_up => {}
    }
    assert!(let_go(&lock).await);
}

#[tokio::test]
async fn a_reload_puts_other_sources_in_force() {
    let sources = shell("echo one", Duration::from_secs(10));
    assert_eq!(fetch(&sources, "program").await, Ok("one".to_owned()));
    sources.put(&[]);
    assert!(!sources.has(&source("program")));
    assert_eq!(fetch(&sources, "program").await, Err(Why::NotConfigured));
}

#[tokio::test]
async fn a_passphrase_comes_from_the_source_that_is_named_for_it() {
    let command = |text: &str| Kind::Command {
        command: ["/bin/echo", text].map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(10),
    };
    let sources = Sources::new(&[
        Setting {
            name: source("keys"),
            kind: command("key"),
            passphrase: Some(source("phrases")),
        },
        Setting {
            name: source("phrases"),
            kind: command("phrase"),
            passphrase: None,
        },
    ]);
    let permit = connect_permit();
    let permit = permit.to_connect().unwrap();
    let of = async |name: &str| sources.passphrase(permit, &source(name), &wanted()).await;
    assert_eq!(of("keys").await.unwrap().text(), "phrase db1 root");
    assert_eq!(of("phrases").await.unwrap_err().why, Why::NoPassphrase);
}
