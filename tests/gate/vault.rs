//! The content vault: what was in the files that moved, once each, for who has the right to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_recording::Event;
use portcullis_recording::event::Direction;
use portcullis_recording::vault::blob_name;

use crate::evidence::{investigators, player};
use crate::files_kept::{hash, holding_the_mark, moved, of_digests, payload};
use crate::support::{Bastion, Done, Running, Setup, Sshd, Variant, World, finish, run, secs, wait_until};

const RULES: &str = "@id(\"vault\") @record(\"vault\") permit (principal, action in [Action::\"exec\", Action::\"subsystem\"], resource);
     @id(\"digests\") @record(\"digest\") permit (principal, action == Action::\"subsystem\", resource);";

fn world(setup: Setup) -> World {
    let mut bastion = setup.make();
    std::fs::write(bastion.state().join("policies/vault.cedar"), RULES).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn vault(bastion: &Bastion) -> PathBuf {
    bastion.archive().join("vault")
}

/// Every blob.
fn blobs(bastion: &Bastion) -> Vec<PathBuf> {
    let Ok(folders) = std::fs::read_dir(vault(bastion)) else {
        return Vec::new();
    };
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = folders.flat_map(|folder| files(folder.unwrap().path())).collect();
    all.sort();
    all
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes content out of the vault.
fn content(bastion: &Bastion, sha256: &str, out: &Path, identity: Option<&Path>) -> Done {
    let mut command = Command::new(player());
    command.args(["content", sha256, "--vault"]).arg(vault(bastion));
    command.arg("--out").arg(out);
    command.args(identity.iter().flat_map(|file| [Path::new("--identity"), file]));
    run(&mut command, secs(30))
}

#[test]
fn what_moves_four_times_is_in_the_vault_once() {
    let (world, bytes) = (world(Setup::new()), payload(11, 3_000_000));
    moved_four_times(&world, &bytes);
    for record in world.bastion.records(4) {
        record.assert_sealed();
        record.assert_balanced();
        let account = record.accounts()[0];
        assert_eq!(of_digests(&record, Direction::ToTarget), account.to_target);
        assert_eq!(of_digests(&record, Direction::ToClient), account.to_client_out);
        assert!(moved(&record).iter().any(|moved| moved.whole == Some(hash(&bytes))));
        assert!(record.bytes < 64 * 1024 && record.input(1).is_empty());
        let said = record.markers();
        assert!(
            said.iter().any(|text| text.contains("whose contents are in the vault")),
            "{said:?}"
        );
    }
    let blob = vault(&world.bastion).join(blob_name(&hash(&bytes), None));
    let only = std::slice::from_ref(&blob);
    assert_eq!(blobs(&world.bastion), only);
    assert_eq!(holding_the_mark(&world.bastion.state().join("archive")).1, only);
    assert_eq!(holding_the_mark(&world.bastion.spool()).1, Vec::<PathBuf>::new());

    let out = world.bastion.fresh("out", "");
    let sum = hex(&hash(&bytes));
    content(&world.bastion, &sum, &out, None).ok();
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert_eq!(
        content(&world.bastion, &sum, &out, None).code(),
        1,
        "nothing is overwritten"
    );
    let other = world.bastion.fresh("other", "");
    assert_eq!(content(&world.bastion, &hex(&[7; 32]), &other, None).code(), 6);
    // What is not that content is not written.
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, &bytes[..2_000_000]).unwrap();
    assert_eq!(content(&world.bastion, &sum, &other, None).code(), 5);
    assert!(!other.exists());
    world.bastion.assert_ledger_clean();
}

#[test]
fn a_whole_tree_is_in_the_vault() {
    let world = world(Setup::new());
    let (here, there) = (world.bastion.dir().join("tree"), world.sshd.folder().join("there"));
    std::fs::create_dir_all(here.join("a/b")).unwrap();
    std::fs::create_dir(&there).unwrap();
    let lengths = [0, 1, 32_768, 300_001];
    let contents: Vec<Vec<u8>> = (0..40)
        .map(|n| payload(n, lengths[n as usize % 4] + n as usize / 4))
        .collect();
    for (n, bytes) in contents.iter().enumerate() {
        std::fs::write(here.join(["", "a", "a/b"][n % 3]).join(n.to_string()), bytes).unwrap();
    }
    let batch = format!("put -r {here:?} {there:?}\n");
    finish(
        world.client().sftp().args(["-b", "-", "gate"]),
        batch.as_bytes(),
        secs(60),
    )
    .ok();
    let record = world.bastion.only_record();
    assert!(record.input(1).is_empty());
    for bytes in &contents {
        let out = world.bastion.fresh("out", "");
        content(&world.bastion, &hex(&hash(bytes)), &out, None).ok();
        assert!(std::fs::read(out).unwrap() == *bytes);
    }
    // Let go of, all is gone.
    let list = PathBuf::from(format!("{}.contents", record.file.display()));
    let named = std::fs::read_to_string(list).unwrap().lines().count();
    assert_eq!(named, blobs(&world.bastion).len());
}

#[test]
fn what_is_encrypted_opens_for_its_recipients_and_goes_with_the_key() {
    let (_dir, files, recipients) = investigators();
    let world = world(Setup::new().set("recording.recipients", &recipients));
    let bytes = payload(12, 3_000_000);
    moved_four_times(&world, &bytes);
    assert_eq!(blobs(&world.bastion).len(), 1);
    assert_eq!(
        holding_the_mark(&world.bastion.state().join("archive")).1,
        Vec::<PathBuf>::new()
    );
    let (out, sum) = (world.bastion.fresh("out", ""), hex(&hash(&bytes)));
    assert_eq!(content(&world.bastion, &sum, &out, None).code(), 12);
    let stranger = world.bastion.fresh("stranger", "");
    let identity = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    std::fs::write(&stranger, format!("{secret}\n")).unwrap();
    assert_eq!(content(&world.bastion, &sum, &out, Some(&stranger)).code(), 12);
    assert!(!out.exists());
    content(&world.bastion, &sum, &out, Some(&files[1])).ok();
    assert!(std::fs::read(&out).unwrap() == bytes);
    // What was cut off is not taken for it.
    let [blob] = &blobs(&world.bastion)[..] else {
        panic!("one blob")
    };
    let sealed = std::fs::read(blob).unwrap();
    std::fs::remove_file(blob).unwrap();
    std::fs::write(blob, &sealed[..sealed.len() - 21]).unwrap();
    let other = world.bastion.fresh("other", "");
    assert_eq!(content(&world.bastion, &sum, &other, Some(&files[1])).code(), 5);

    let shred = |file: &PathBuf| {
        let session = file.file_stem().unwrap().to_str().unwrap().to_owned();
        world
            .bastion
            .admin(&["recordings", "shred", &session, "--reason", "asked for"])
            .ok();
    };
    let archived = world.bastion.archived();
    let (last, first) = archived.split_last().unwrap();
    first.iter().for_each(shred);
    assert_eq!(blobs(&world.bastion).len(), 1, "another recording names it");
    shred(last);
    assert_eq!(blobs(&world.bastion), Vec::<PathBuf>::new());
}

/// Moves a file there and back by both protocols.
fn moved_four_times(world: &World, bytes: &[u8]) {
    let client = world.client();
    let here = world.bastion.fresh("here", "");
    std::fs::write(&here, bytes).unwrap();
    for (n, protocol) in ["-s", "-O"].into_iter().enumerate() {
        let there = format!("gate:{}/there-{n}", world.sshd.folder().display());
        let back = world.bastion.fresh("back", "");
        let (here, back) = (here.to_str().unwrap(), back.to_str().unwrap());
        for (from, to) in [(here, there.as_str()), (there.as_str(), back)] {
            run(client.scp().args([protocol, "-q", from, to]), secs(60)).ok();
        }
        assert!(std::fs::read(back).unwrap() == bytes);
    }
    world.bastion.await_records(4, secs(30));
}

/// What a session had taken when the server was killed, as the vault has it afterwards.
fn killed(setup: Setup, protocol: &str) -> (World, Vec<u8>, u64) {
    let mut world = world(setup);
    let bytes = payload(13, 20_000_000);
    let here = world.bastion.fresh("here", "");
    std::fs::write(&here, &bytes).unwrap();
    let there = world.sshd.folder().join("there");
    let remote = format!("gate:{}", there.display());
    let mut scp = world.client().scp();
    // 10 Mbit/s.
    scp.args([protocol, "-q", "-l", "10000", here.to_str().unwrap(), &remote]);
    let running = Running::start(&mut scp);
    let arrived = || std::fs::metadata(&there).map_or(0, |meta| meta.len());
    wait_until("a part of it is there", secs(30), || arrived() > 500_000);
    world.bastion.sigkill();
    running.finish(secs(30));
    let arrived = arrived();
    assert!(arrived < bytes.len() as u64);
    world.bastion.serve();
    world.bastion.await_records(1, secs(60));
    (world, bytes, arrived)
}

#[test]
fn a_crash_files_what_there_was_and_nothing_under_the_name_of_the_whole() {
    for protocol in ["-s", "-O"] {
        let (world, bytes, arrived) = killed(Setup::new(), protocol);
        let all = blobs(&world.bastion);
        let [blob] = &all[..] else { panic!("{all:?}") };
        let part = std::fs::read(blob).unwrap();
        // Law 1: what the target has was taken before.
        assert!(
            part.len() as u64 >= arrived && bytes.starts_with(&part),
            "{} of {arrived}",
            part.len()
        );
        assert!(blob.ends_with(blob_name(&hash(&part), None)));
        assert!(
            world
                .bastion
                .log()
                .contains("content that did not end is filed as far as it came")
        );
        assert_eq!(world.bastion.spooled(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_crash_of_an_encrypted_one_files_a_part_that_its_recipients_open() {
    let (_dir, files, recipients) = investigators();
    let (world, bytes, arrived) = killed(Setup::new().set("recording.recipients", &recipients), "-s");
    let all = blobs(&world.bastion);
    let [blob] = &all[..] else { panic!("{all:?}") };
    let sealed = hex(&hash(&std::fs::read(blob).unwrap()));
    assert_eq!(blob.file_name().unwrap().to_str().unwrap(), format!("{sealed}.part"));
    let out = world.bastion.fresh("out", "");
    let said = content(&world.bastion, &sealed, &out, Some(&files[0])).ok();
    assert!(said.err().contains("the beginning of a content"), "{}", said.err());
    let part = std::fs::read(&out).unwrap();
    assert!(
        part.len() as u64 >= arrived && bytes.starts_with(&part),
        "{} of {arrived}",
        part.len()
    );
}

/// What is resumed is no whole file: each range is there by its own hash.
#[test]
fn ranges_are_contents_of_their_own() {
    let (world, bytes) = (world(Setup::new()), payload(14, 200_000));
    let (here, there) = (world.bastion.fresh("here", ""), world.sshd.folder().join("there"));
    std::fs::write(&here, &bytes).unwrap();
    std::fs::write(&there, &bytes[..50_000]).unwrap();
    let batch = format!("reput {here:?} {there:?}\n");
    finish(
        world.client().sftp().args(["-b", "-", "gate"]),
        batch.as_bytes(),
        secs(60),
    )
    .ok();
    let record = world.bastion.only_record();
    let ranges = record.events.iter().filter_map(|timed| match &timed.event {
        Event::File(moved) if moved.whole.is_none() => moved.ranges.first().copied(),
        _ => None,
    });
    let ranges: Vec<_> = ranges.map(|range| (range.offset, range.sha256)).collect();
    assert_eq!(ranges, [(50_000, hash(&bytes[50_000..]))]);
    let out = world.bastion.fresh("out", "");
    content(&world.bastion, &hex(&ranges[0].1), &out, None).ok();
    assert!(std::fs::read(&out).unwrap() == bytes[50_000..]);
}
