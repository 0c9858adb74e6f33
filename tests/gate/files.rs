//! What the recording tells of files, against the files themselves: stock
//! programs move random trees both ways, and every hash is the one that
//! `sha256sum` would give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_recording::Event;
use portcullis_recording::moved::{Act, Moved, Outcome};
use sha2::{Digest, Sha256};

use crate::support::bytes::Pattern;
use crate::support::{Client, Record, World, finish, run, secs};

/// Lengths around those that clients cut files into.
const LENGTHS: [usize; 8] = [0, 1, 4096, 32_767, 32_768, 65_537, 300_000, 2_500_001];

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Files of these lengths in folders within folders; of each its own name, and its hash.
fn tree(folder: &Path, seed: u64) -> BTreeMap<String, [u8; 32]> {
    let mut hashes = BTreeMap::new();
    for (n, length) in LENGTHS.into_iter().enumerate() {
        let at = folder.join(["", "a", "a/b c", "ü"][n % 4]);
        std::fs::create_dir_all(&at).unwrap();
        let name = format!("file {n} of {seed}");
        let bytes = Pattern::new(seed + n as u64).bytes(length);
        std::fs::write(at.join(&name), &bytes).unwrap();
        hashes.insert(name, hash(&bytes));
    }
    hashes
}

fn moved(record: &Record) -> Vec<Moved<'static>> {
    let files = record.events.iter().filter_map(|timed| match &timed.event {
        Event::File(moved) => Some(moved.as_ref().clone()),
        _ => None,
    });
    files.collect()
}

/// The last part of what a path, or the name below it, says.
fn name(moved: &Moved<'_>) -> String {
    let said = if moved.other.is_empty() {
        &moved.path
    } else {
        &moved.other
    };
    let said = String::from_utf8(said.to_vec()).unwrap();
    said.rsplit('/').next().unwrap().to_owned()
}

/// No hash is wrong; those that are told.
#[track_caller]
fn right(records: &[Record], act: Act, truth: &BTreeMap<String, [u8; 32]>) -> BTreeMap<String, [u8; 32]> {
    let mut known = BTreeMap::new();
    for record in records {
        record.assert_sealed();
        for moved in moved(record).iter().filter(|moved| moved.act == act) {
            if let Some(whole) = moved.whole {
                assert_eq!(truth.get(&name(moved)), Some(&whole), "{moved:?}");
                known.insert(name(moved), whole);
            }
        }
    }
    known
}

/// Every file of the tree is told with its hash, and none with another.
#[track_caller]
fn all_right(records: &[Record], act: Act, truth: &BTreeMap<String, [u8; 32]>) {
    assert_eq!(
        right(records, act, truth),
        *truth,
        "{:?}",
        records.iter().map(moved).collect::<Vec<_>>()
    );
}

struct Trees {
    world: World,
    client: Client,
    /// On the client's side, and where its copy goes at the target.
    here: PathBuf,
    there: PathBuf,
    back: PathBuf,
    hashes: BTreeMap<String, [u8; 32]>,
}

fn trees(seed: u64) -> Trees {
    let world = World::new();
    let here = world.bastion.dir().join("tree");
    Trees {
        hashes: tree(&here, seed),
        there: world.sshd.folder().join("there"),
        back: world.bastion.dir().join("back"),
        client: world.client(),
        here,
        world,
    }
}

fn scp(protocol: &str) {
    let trees = trees(100);
    let remote = format!("gate:{}", trees.there.display());
    for (from, to) in [
        (trees.here.to_str().unwrap(), remote.as_str()),
        (remote.as_str(), trees.back.to_str().unwrap()),
    ] {
        let mut scp = trees.client.scp();
        run(scp.args([protocol, "-r", "-p", "-q", from, to]), secs(60)).ok();
    }
    let mut records = trees.world.bastion.records(2);
    records.sort_by_key(|record| record.head.opened_wall_ms);
    all_right(&records[..1], Act::Upload, &trees.hashes);
    all_right(&records[1..], Act::Download, &trees.hashes);
    let folders = moved(&records[0])
        .iter()
        .filter(|moved| moved.act == Act::MakeDir)
        .count();
    assert!(folders >= 4, "{:?}", moved(&records[0]));
    let file = &records[0].file;
    let player = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    let trust = trees.world.bastion.state().join("trust.toml");
    let mut list = Command::new(player);
    let listed = run(list.arg("files").arg(file).arg("--trust").arg(trust), secs(30))
        .ok()
        .out();
    for (name, hash) in &trees.hashes {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = listed
            .lines()
            .find(|line| line.contains(&hex) && line.contains("upload"));
        assert!(line.is_some(), "{name} {hex} is not in\n{listed}");
    }
}

#[test]
fn files_of_scp_over_sftp() {
    scp("-s");
}

#[test]
fn files_of_scp_of_old() {
    scp("-O");
}

#[test]
fn files_of_sftp_and_what_was_done_to_them() {
    let trees = trees(200);
    let (here, there, back) = (&trees.here, &trees.there, &trees.back);
    std::fs::create_dir(there).unwrap();
    let batch = format!(
        "put -r {here:?} {there:?}\nget -r {there:?} {back:?}\ncd {there:?}\nmkdir new\nrename new newer\nrmdir newer\n\
         ln -s /etc/passwd link\nln \"tree/file 0 of 200\" hard\nchmod 600 hard\nrm hard\n-rm none\n-get nothing\n",
    );
    let mut sftp = trees.client.sftp();
    finish(sftp.args(["-b", "-", "gate"]), batch.as_bytes(), secs(60)).ok();
    let records = trees.world.bastion.records(1);
    all_right(&records, Act::Upload, &trees.hashes);
    all_right(&records, Act::Download, &trees.hashes);
    let deeds = moved(&records[0]);
    let done = |act: Act, path: &str, other: &str, outcome: Outcome| {
        let ends = |bytes: &[u8], end: &str| String::from_utf8_lossy(bytes).ends_with(end);
        let found = deeds.iter().any(|moved| {
            moved.act == act && ends(&moved.path, path) && ends(&moved.other, other) && moved.outcome == outcome
        });
        assert!(found, "{act:?} {path} {other} {outcome:?} is not among {deeds:#?}");
    };
    done(Act::MakeDir, "/there/new", "", Outcome::Done);
    done(Act::Rename, "/there/new", "/there/newer", Outcome::Done);
    done(Act::RemoveDir, "/there/newer", "", Outcome::Done);
    done(Act::Symlink, "/there/link", "/etc/passwd", Outcome::Done);
    done(Act::Hardlink, "file 0 of 200", "/there/hard", Outcome::Done);
    done(Act::SetAttributes, "/there/hard", "mode 0600", Outcome::Done);
    done(Act::Remove, "/there/hard", "", Outcome::Done);
    done(Act::Remove, "/there/none", "", Outcome::Failed);
    done(Act::List, "/there/tree", "", Outcome::Done);
}

#[test]
fn what_is_resumed_is_told_in_ranges() {
    let world = World::new();
    let bytes = Pattern::new(7).bytes(200_000);
    let (here, back) = (world.bastion.dir().join("here"), world.bastion.dir().join("back"));
    let there = world.sshd.folder().join("there");
    std::fs::write(&here, &bytes).unwrap();
    std::fs::write(&there, &bytes[..50_000]).unwrap();
    std::fs::write(&back, &bytes[..150_000]).unwrap();
    let batch = format!("reput {here:?} {there:?}\nreget {there:?} {back:?}\n");
    finish(
        world.client().sftp().args(["-b", "-", "gate"]),
        batch.as_bytes(),
        secs(60),
    )
    .ok();
    assert!(std::fs::read(&there).unwrap() == bytes && std::fs::read(&back).unwrap() == bytes);
    let deeds = moved(&world.bastion.only_record());
    // OpenSSH opens a file that it goes on with for appending.
    for (act, from, why) in [
        (Act::Upload, 50_000, "appended"),
        (Act::Download, 150_000, "not_from_start"),
    ] {
        let moved = deeds.iter().find(|moved| moved.act == act).unwrap();
        assert_eq!((moved.whole, moved.unknown.as_ref()), (None, why), "{moved:?}");
        let ranges: Vec<_> = moved.ranges.iter().map(|range| (range.offset, range.sha256)).collect();
        assert_eq!(ranges, [(from as u64, hash(&bytes[from..]))]);
    }
}

#[test]
fn files_of_lftp() {
    let trees = trees(300);
    // Its `bye` cuts the connection once it has every byte, and the last file is open then. A question behind it is
    // answered after that file's end.
    let script = format!(
        "set sftp:connect-program \"ssh -a -x -F {}\"; set net:max-retries 1; set cmd:fail-exit true; open sftp://gate; \
         mirror -R {:?} {:?}; mirror {:?} {:?}; mkdir {:?}; bye",
        trees.client.config().display(),
        trees.here,
        trees.there,
        trees.there,
        trees.back,
        trees.there.join("last")
    );
    run(Command::new("lftp").args(["--norc", "-c", &script]), secs(90)).ok();
    let records = trees.world.bastion.records(1);
    all_right(&records, Act::Upload, &trees.hashes);
    all_right(&records, Act::Download, &trees.hashes);
}

#[test]
fn files_of_sshfs() {
    let trees = trees(400);
    std::fs::create_dir(&trees.there).unwrap();
    let mount = trees.world.bastion.dir().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let ssh = format!("ssh_command=ssh -F {}", trees.client.config().display());
    let remote = format!("gate:{}", trees.there.display());
    let mut sshfs = Command::new("sshfs");
    run(sshfs.args(["-o", &ssh, &remote]).arg(&mount), secs(30)).ok();
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-r").args([from, to]), secs(60));
    let (up, down) = (
        copy(&trees.here, &mount.join("up")),
        copy(&mount.join("up"), &trees.back),
    );
    run(Command::new("fusermount3").arg("-u").arg(&mount), secs(30)).ok();
    up.ok();
    down.ok();
    let records = trees.world.bastion.records(1);
    // What the kernel has cached does not cross again: of a download nothing is asked.
    all_right(&records, Act::Upload, &trees.hashes);
    right(&records, Act::Download, &trees.hashes);
}

#[test]
fn what_is_no_sftp_is_recorded_and_sealed() {
    let world = World::new();
    let mut ssh = world.client().ssh();
    finish(ssh.args(["-s", "gate", "sftp"]), b"this is no packet at all", secs(20));
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.input(1), b"this is no packet at all");
    let lost: Vec<Moved> = moved(&record);
    assert_eq!(
        lost.iter().map(|moved| moved.act).collect::<Vec<_>>(),
        [Act::Lost],
        "{lost:?}"
    );
}

#[test]
fn streams_that_are_not_parsed_say_which_way_they_went() {
    let trees = trees(500);
    let ssh = format!("ssh -F {}", trees.client.config().display());
    let remote = format!("gate:{}/", trees.there.display());
    let here = format!("{}/", trees.here.display());
    for (from, to) in [
        (here.as_str(), remote.as_str()),
        (remote.as_str(), trees.back.to_str().unwrap()),
    ] {
        run(Command::new("rsync").args(["-a", "-e", &ssh, from, to]), secs(60)).ok();
    }
    let records = trees.world.bastion.records(2);
    let mut acts = Vec::new();
    for record in &records {
        let deeds = moved(record);
        let [moved] = &deeds[..] else { panic!("{deeds:?}") };
        assert_eq!(
            (moved.path.ends_with(b"/there/"), moved.unknown.as_ref()),
            (true, "not_parsed")
        );
        assert!(moved.bytes > 2_500_000, "{moved:?}");
        acts.push(moved.act);
    }
    acts.sort();
    assert_eq!(acts, [Act::Download, Act::Upload]);
}
