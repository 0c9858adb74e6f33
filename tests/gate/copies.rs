//! File transfers and git over a session.

use std::path::Path;
use std::process::Command;

use crate::support::bytes::Pattern;
use crate::support::{Client, World, finish, run, secs};

const FILE_BYTES: usize = 5_000_003;

fn same(a: &Path, b: &Path) {
    let [a_bytes, b_bytes] = [a, b].map(|path| std::fs::read(path).unwrap());
    assert!(a_bytes == b_bytes, "{} and {} differ", a.display(), b.display());
}

#[test]
fn sftp_puts_and_gets() {
    let world = World::new();
    let here = world.bastion.fresh("here", "");
    let back = world.bastion.fresh("back", "");
    let there = world.sshd.folder().join("there");
    std::fs::write(&here, Pattern::new(2).bytes(FILE_BYTES)).unwrap();
    let batch = format!(
        "put {here} {there}\nget {there} {back}\nls -l {there}\nrename {there} {there}.2\n",
        here = here.display(),
        there = there.display(),
        back = back.display()
    );
    let mut sftp = world.client().sftp();
    sftp.args(["-b", "-", "gate"]);
    finish(&mut sftp, batch.as_bytes(), secs(60)).ok();
    same(&here, &back);
    same(&here, &there.with_extension("2"));
    let record = world.bastion.only_record();
    assert_eq!(record.requests(1)[1], ("subsystem".into(), b"sftp".to_vec()));
    let account = record.accounts()[0];
    assert!(account.to_target > FILE_BYTES as u64 && account.to_client_out > FILE_BYTES as u64);
}

fn scp_both_ways(protocol: &str) {
    let world = World::new();
    let here = world.bastion.fresh("here", "");
    let back = world.bastion.fresh("back", "");
    let there = world.sshd.folder().join("there");
    std::fs::write(&here, Pattern::new(3).bytes(FILE_BYTES)).unwrap();
    let remote = format!("gate:{}", there.display());
    let client: Client = world.client();
    let mut up = client.scp();
    up.args([protocol, "-p", "-q", here.to_str().unwrap(), &remote]);
    run(&mut up, secs(60)).ok();
    let mut down = client.scp();
    down.args([protocol, "-p", "-q", &remote, back.to_str().unwrap()]);
    run(&mut down, secs(60)).ok();
    same(&here, &there);
    same(&here, &back);
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.code(), "exit");
    }
}

#[test]
fn scp_over_sftp() {
    scp_both_ways("-s");
}

#[test]
fn scp_of_old() {
    scp_both_ways("-O");
}

/// A grant for sftp only copies files and runs nothing.
#[test]
fn what_the_grant_does_not_allow_is_refused() {
    let world = World::new();
    let pass = world.bastion.pass("root@db1").allow("sftp").issue();
    let client = world.bastion.client(&pass);
    let done = run(&mut client.exec("touch /tmp/never"), secs(20));
    assert_ne!(done.code(), 0);
    let mut sftp = client.sftp();
    sftp.args(["-b", "-", "gate"]);
    finish(&mut sftp, b"pwd\n", secs(20)).ok();
    let records = world.bastion.records(2);
    assert!(
        records[0]
            .decisions(1)
            .iter()
            .any(|(action, allowed, _)| action == "exec" && !allowed)
    );
    assert_eq!(records[0].output(1), b"");
    assert!(!world.sshd.log().contains("Starting session: command"));
}

#[test]
fn git_pushes_and_clones() {
    let world = World::new();
    let client = world.client();
    let ssh = format!("ssh -F {}", client.config().display());
    let folder = world.bastion.dir();
    let git = |at: &Path, args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(at)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(args);
        git.env("GIT_SSH_COMMAND", &ssh).env("GIT_CONFIG_GLOBAL", "/dev/null");
        run(&mut git, secs(60)).ok()
    };
    let bare = world.sshd.folder().join("bare.git");
    git(folder, &["init", "-q", "--bare", bare.to_str().unwrap()]);
    let work = folder.join("work");
    git(folder, &["init", "-q", work.to_str().unwrap()]);
    std::fs::write(work.join("data"), Pattern::new(4).bytes(1_000_000)).unwrap();
    git(&work, &["add", "data"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    let url = format!("gate:{}", bare.display());
    git(&work, &["push", "-q", &url, "HEAD:refs/heads/main"]);
    git(folder, &["clone", "-q", "-b", "main", &url, "clone"]);
    same(&work.join("data"), &folder.join("clone/data"));
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
}
