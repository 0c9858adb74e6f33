//! Programs that move files, of which the recording keeps less than every byte: nothing of what is in the files, and
//! enough to know them again.

use std::path::{Path, PathBuf};

use portcullis_recording::Event;
use portcullis_recording::event::Direction;
use portcullis_recording::moved::{Act, Moved};
use sha2::{Digest, Sha256};

use crate::support::bytes::{Pattern, find};
use crate::support::{Client, Record, Setup, Sshd, Variant, World, finish, run, secs};

/// Stands in every file, and may stand nowhere else.
const MARK: &[u8] = b"NOBODY-KEEPS-THIS-LINE";
const AS_DIGESTS: &str =
    "recorded as digests while its files are followed: how many bytes cross, and their SHA-256; standard error in full";
const IN_FULL: &str = "recorded in full from here on: not all of it is told in files any more";

fn world(rules: &str) -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/kept.cedar"), rules).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn digested() -> World {
    world(
        "@id(\"digests\") @record(\"digest\") permit (principal, action in [Action::\"exec\", Action::\"subsystem\"], resource);",
    )
}

/// A file's worth that holds the mark in many places.
pub fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Pattern::new(seed).bytes(length);
    for place in bytes.chunks_mut(10_000).filter(|place| place.len() > MARK.len()) {
        place[..MARK.len()].copy_from_slice(MARK);
    }
    bytes
}

pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn moved(record: &Record) -> Vec<Moved<'static>> {
    let files = record.events.iter().filter_map(|timed| match &timed.event {
        Event::File(moved) => Some(moved.as_ref().clone()),
        _ => None,
    });
    files.collect()
}

/// Bytes of one way that have a digest.
pub fn of_digests(record: &Record, way: Direction) -> u64 {
    let all = record.events.iter().map(|timed| match &timed.event {
        Event::Digest { direction, bytes, .. } if *direction == way => *bytes,
        _ => 0,
    });
    all.sum()
}

/// Files below a folder that hold the mark; and how many there are.
pub fn holding_the_mark(folder: &Path) -> (usize, Vec<PathBuf>) {
    let (mut all, mut held) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (more, found) = holding_the_mark(&path);
            all += more;
            held.extend(found);
        } else {
            all += 1;
            held.extend(
                std::fs::read(&path)
                    .is_ok_and(|bytes| find(&bytes, MARK).is_some())
                    .then_some(path),
            );
        }
    }
    (all, held)
}

/// Moves a file there and back; their recordings in that order.
fn there_and_back(world: &World, client: &Client, protocol: &str, bytes: &[u8]) -> Vec<Record> {
    let (here, back) = (world.bastion.fresh("here", ""), world.bastion.fresh("back", ""));
    let there = world.sshd.folder().join("there");
    std::fs::write(&here, bytes).unwrap();
    let remote = format!("gate:{}", there.display());
    let (here, back) = (here.to_str().unwrap(), back.to_str().unwrap());
    for (from, to) in [(here, remote.as_str()), (remote.as_str(), back)] {
        run(client.scp().args([protocol, "-q", from, to]), secs(60)).ok();
    }
    assert!(std::fs::read(back).unwrap() == bytes);
    let mut records = world.bastion.records(2);
    records.sort_by_key(|record| record.head.opened_wall_ms);
    records
}

/// Nothing of the file, all of its accounts, and its hash.
#[track_caller]
fn assert_digested(world: &World, records: &[Record], bytes: &[u8]) {
    let acts = [(Act::Upload, Direction::ToTarget), (Act::Download, Direction::ToClient)];
    for (record, (act, way)) in records.iter().zip(acts) {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.markers().iter().filter(|text| *text == AS_DIGESTS).count(), 1);
        assert!(record.input(1).is_empty() && record.output(1).is_empty());
        let account = record.accounts()[0];
        assert_eq!(of_digests(record, Direction::ToTarget), account.to_target);
        assert_eq!(of_digests(record, Direction::ToClient), account.to_client_out);
        assert!(of_digests(record, way) > bytes.len() as u64);
        assert!(record.bytes < 64 * 1024, "{} bytes", record.bytes);
        let files = moved(record);
        let whole = files.iter().filter(|moved| moved.act == act).map(|moved| moved.whole);
        assert_eq!(whole.collect::<Vec<_>>(), [Some(hash(bytes))], "{files:?}");
    }
    for folder in [world.bastion.state().join("archive"), world.bastion.spool()] {
        assert_eq!(holding_the_mark(&folder).1, Vec::<PathBuf>::new());
    }
}

#[test]
fn of_sftp_digests_are_kept_and_its_files_are_told() {
    let (world, bytes) = (digested(), payload(1, 3_000_000));
    let records = there_and_back(&world, &world.client(), "-s", &bytes);
    assert_digested(&world, &records, &bytes);
}

#[test]
fn of_the_old_scp_digests_are_kept_and_its_files_are_told() {
    let (world, bytes) = (digested(), payload(2, 3_000_000));
    let records = there_and_back(&world, &world.client(), "-O", &bytes);
    assert_digested(&world, &records, &bytes);
}

/// A rule about programs is about no others than those that are followed, and one that asks for all of it wins.
#[test]
fn what_is_not_followed_is_kept_in_full() {
    let world = digested();
    let client = world.client();
    let commands = [
        "cat; echo of the program >&2",
        "scp -t \"$(cat >&2)\" 2>&1",
        "rsync --server . nothing",
    ];
    for command in commands {
        finish(client.ssh().args(["gate", command]), MARK, secs(30));
    }
    let records = world.bastion.records(commands.len());
    for record in &records {
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(record.input(1), MARK);
        assert!(
            record.markers().iter().all(|text| text != AS_DIGESTS),
            "{:?}",
            record.markers()
        );
    }

    let rules = "@id(\"digests\") @record(\"digest\") permit (principal, action == Action::\"subsystem\", resource);
                 @id(\"all\") @record(\"full\") permit (principal, action == Action::\"subsystem\", resource);";
    let (world, bytes) = (self::world(rules), payload(3, 50_000));
    let records = there_and_back(&world, &world.client(), "-s", &bytes);
    assert!(find(&records[0].input(1), &bytes[..20_000]).is_some() && records[0].markers().is_empty());
}

/// What cannot be followed, or belongs to no file, is not dark: from the bytes on that show it, all is there.
#[test]
fn what_is_not_followed_any_more_is_in_full_from_there_on() {
    // INIT of version 3.
    const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];
    let mut no_packet = vec![0xff; 64];
    no_packet.extend_from_slice(MARK);
    // WRITE 7, of a file that nobody opened.
    let mut of_no_file = vec![
        6,
        0,
        0,
        0,
        7,
        0,
        0,
        0,
        1,
        b'x',
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        MARK.len() as u8,
    ];
    of_no_file.extend_from_slice(MARK);
    of_no_file.splice(0..0, (of_no_file.len() as u32).to_be_bytes());
    for (rest, lost) in [(no_packet, true), (of_no_file, false)] {
        let world = digested();
        let input = [INIT, &rest].concat();
        finish(world.client().ssh().args(["-s", "gate", "sftp"]), &input, secs(20));
        let record = world.bastion.only_record();
        record.assert_sealed();
        record.assert_balanced();
        assert!(find(&record.input(1), MARK).is_some());
        let digests = of_digests(&record, Direction::ToTarget) as usize;
        assert_eq!(digests + record.input(1).len(), input.len());
        let said = record.markers();
        let place = |text| said.iter().position(|said| said == text);
        assert!(place(AS_DIGESTS).unwrap() < place(IN_FULL).unwrap(), "{said:?}");
        assert_eq!(moved(&record).iter().any(|moved| moved.act == Act::Lost), lost);
    }
}
