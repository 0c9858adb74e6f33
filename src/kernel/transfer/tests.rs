use sha2::{Digest, Sha256};

use super::model::{Packet, Talk};
use super::packet::{flag, kind};
use super::*;

pub const NEW: u32 = flag::WRITE | flag::CREATE | flag::TRUNCATE;
pub const READ: u32 = flag::READ;
pub const OVER: u32 = flag::WRITE | flag::CREATE;

pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Deeds that end a transfer, not those that only tell a part of it.
pub fn transfers(told: &[Told]) -> Vec<&Deed> {
    told.iter()
        .map(|told| match told {
            Told::Deed(deed) => deed,
            Told::Lost(why) => panic!("lost: {why}"),
        })
        .filter(|deed| {
            deed.content
                .as_ref()
                .is_some_and(|content| content.whole != Err(Unknown::Continued))
        })
        .collect()
}

fn whole(told: &[Told]) -> Result<[u8; 32], Unknown> {
    let [deed] = transfers(told)[..] else {
        panic!("not one transfer: {told:?}");
    };
    deed.content.as_ref().unwrap().whole
}

fn upload(talk: &mut Talk, flags: u32, path: &[u8], bytes: &[u8], piece: usize) {
    let handle = talk.open(path, flags).unwrap();
    for (at, piece_of) in bytes.chunks(piece).enumerate() {
        talk.write(&handle, (at * piece) as u64, piece_of);
    }
    talk.close(&handle);
    talk.answer_all();
}

/// As OpenSSH's client reads: several pieces ahead, up to an EOF.
fn download(talk: &mut Talk, path: &[u8], length: usize, piece: u32) {
    let handle = talk.open(path, READ).unwrap();
    let mut at = 0;
    while at <= length as u64 {
        talk.read(&handle, at, piece);
        at += u64::from(piece);
    }
    talk.read(&handle, length as u64, piece);
    talk.answer_all();
    talk.close(&handle);
    talk.answer_all();
}

#[test]
fn a_file_that_is_written_from_the_start_is_whole() {
    for length in [0, 1, 32_767, 32_768, 32_769, 300_000] {
        let mut talk = Talk::new();
        let bytes = body(length);
        upload(&mut talk, NEW, b"/srv/x", &bytes, 32 * 1024);
        let told = talk.end();
        assert_eq!(whole(&told), Ok(hash(&bytes)), "{length}");
        let deed = transfers(&told)[0];
        assert_eq!(
            (deed.what, deed.path.as_slice(), &deed.outcome),
            (What::Upload, &b"/srv/x"[..], &Outcome::Done)
        );
        assert_eq!(deed.content.as_ref().unwrap().bytes, length as u64);
    }
}

#[test]
fn a_file_that_is_read_to_its_end_is_whole() {
    for length in [0, 1, 32_767, 32_768, 32_769, 300_000] {
        let mut talk = Talk::new();
        let bytes = body(length);
        talk.server.files.insert(b"x".to_vec(), bytes.clone());
        download(&mut talk, b"x", length, 32 * 1024);
        assert_eq!(whole(&talk.end()), Ok(hash(&bytes)), "{length}");
    }
}

#[test]
fn what_is_not_the_whole_says_why() {
    type Case = (&'static str, fn(&mut Talk), Unknown);
    let cases: &[Case] = &[
        (
            "resumed upload",
            |talk| {
                talk.server.files.insert(b"x".to_vec(), body(1000));
                let handle = talk.open(b"x", OVER).unwrap();
                talk.write(&handle, 1000, b"more");
                talk.close(&handle);
            },
            Unknown::NotFromStart,
        ),
        (
            "over an older file",
            |talk| {
                talk.server.files.insert(b"x".to_vec(), body(1000));
                let handle = talk.open(b"x", OVER).unwrap();
                talk.write(&handle, 0, b"new");
                talk.close(&handle);
            },
            Unknown::OlderBytes,
        ),
        (
            "append",
            |talk| {
                let handle = talk.open(b"x", OVER | flag::APPEND).unwrap();
                talk.write(&handle, 0, b"new");
                talk.close(&handle);
            },
            Unknown::Appended,
        ),
        (
            "a hole",
            |talk| {
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"new");
                talk.write(&handle, 1000, b"far");
                talk.close(&handle);
            },
            Unknown::InPieces,
        ),
        (
            "written twice",
            |talk| {
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"newer");
                talk.write(&handle, 1, b"aaa");
                talk.close(&handle);
            },
            Unknown::InPieces,
        ),
        (
            "cut",
            |talk| {
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"newer");
                talk.resize(&handle, 3);
                talk.close(&handle);
            },
            Unknown::CutOff,
        ),
        (
            "stretched",
            |talk| {
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"newer");
                talk.resize(&handle, 30);
                talk.close(&handle);
            },
            Unknown::OlderBytes,
        ),
        (
            "a write that failed",
            |talk| {
                talk.server.fail_writes = Some(2);
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"newer");
                talk.write(&handle, 5, b"newer");
                talk.close(&handle);
            },
            Unknown::PartFailed,
        ),
        (
            "left open",
            |talk| {
                let handle = talk.open(b"x", NEW).unwrap();
                talk.write(&handle, 0, b"newer");
            },
            Unknown::LeftOpen,
        ),
        (
            "read in part",
            |talk| {
                talk.server.files.insert(b"x".to_vec(), body(100_000));
                let handle = talk.open(b"x", READ).unwrap();
                talk.read(&handle, 0, 1000);
                talk.close(&handle);
            },
            Unknown::EndNotSeen,
        ),
        (
            "resumed download",
            |talk| {
                talk.server.files.insert(b"x".to_vec(), body(100_000));
                let handle = talk.open(b"x", READ).unwrap();
                talk.read(&handle, 90_000, 32_768);
                talk.close(&handle);
            },
            Unknown::NotFromStart,
        ),
        (
            "nothing read",
            |talk| {
                talk.server.files.insert(b"x".to_vec(), Vec::new());
                talk.stat(b"x");
                talk.answer_all();
                let handle = talk.open(b"x", READ).unwrap();
                talk.close(&handle);
            },
            Unknown::NotMoved,
        ),
        (
            "copied within the target",
            |talk| {
                talk.server.files.insert(b"y".to_vec(), body(100));
                let from = talk.open(b"y", READ).unwrap();
                let handle = talk.open(b"x", NEW).unwrap();
                talk.other(kind::EXTENDED, 0, |packet| {
                    let named = packet.string(b"copy-data").string(&from).u64(0).u64(0);
                    named.string(&handle).u64(0)
                });
                talk.close(&handle);
                talk.answer_all();
                talk.told
                    .retain(|told| matches!(told, Told::Deed(deed) if deed.what == What::Upload));
                talk.close(&from);
                let before = talk.told.len();
                talk.answer_all();
                talk.told.truncate(before);
            },
            Unknown::CopiedInto,
        ),
    ];
    for (name, act, why) in cases {
        let mut talk = Talk::new();
        act(&mut talk);
        talk.answer_all();
        assert_eq!(whole(&talk.end()), Err(*why), "{name}");
    }
}

#[test]
fn an_old_file_whose_length_is_told_is_whole() {
    // scp over SFTP writes over the old file and cuts it at the end.
    let mut talk = Talk::new();
    talk.server.files.insert(b"x".to_vec(), body(9000));
    let handle = talk.open(b"x", OVER).unwrap();
    talk.write(&handle, 0, &body(5000));
    talk.resize(&handle, 5000);
    talk.close(&handle);
    talk.answer_all();
    assert_eq!(whole(&talk.end()), Ok(hash(&body(5000))));
    // Others ask how long it has become.
    let mut talk = Talk::new();
    talk.server.files.insert(b"x".to_vec(), body(90));
    let handle = talk.open(b"x", OVER).unwrap();
    talk.write(&handle, 0, &body(5000));
    talk.fstat(&handle);
    talk.close(&handle);
    talk.answer_all();
    assert_eq!(whole(&talk.end()), Ok(hash(&body(5000))));
}

#[test]
fn two_that_write_one_file_make_no_whole() {
    for other in [&b"/srv/x"[..], b"/srv/./x", b"x", b"/srv/../srv/x"] {
        let mut talk = Talk::new();
        let one = talk.open(b"/srv/x", NEW).unwrap();
        let two = talk.open(other, NEW).unwrap();
        for handle in [one, two] {
            talk.write(&handle, 0, b"text");
            talk.close(&handle);
        }
        talk.answer_all();
        let told = talk.end();
        for deed in transfers(&told) {
            assert_eq!(deed.content.as_ref().unwrap().whole, Err(Unknown::ChangedMeanwhile));
        }
        assert_eq!(transfers(&told).len(), 2);
    }
}

#[test]
fn changes_are_told_with_their_status() {
    type Fill = fn(Packet) -> Packet;
    let cases: &[(u8, Fill, What, &str, &str)] = &[
        (kind::REMOVE, |p| p.string(b"a"), What::Remove, "a", ""),
        (kind::MKDIR, |p| p.string(b"a").u32(0), What::MakeDir, "a", ""),
        (kind::RMDIR, |p| p.string(b"a"), What::RemoveDir, "a", ""),
        (kind::RENAME, |p| p.string(b"a").string(b"b"), What::Rename, "a", "b"),
        // OpenSSH's order: what it says, then its name.
        (kind::SYMLINK, |p| p.string(b"b").string(b"a"), What::Symlink, "a", "b"),
        (
            kind::SETSTAT,
            |p| p.string(b"a").u32(4 | 8).u32(0o100_600).u32(5).u32(6),
            What::SetAttributes,
            "a",
            "mode 0600, times 5 6",
        ),
        (
            kind::EXTENDED,
            |p| p.string(b"posix-rename@openssh.com").string(b"a").string(b"b"),
            What::Rename,
            "a",
            "b",
        ),
        (
            kind::EXTENDED,
            |p| p.string(b"hardlink@openssh.com").string(b"a").string(b"b"),
            What::Hardlink,
            "a",
            "b",
        ),
        (
            kind::EXTENDED,
            |p| p.string(b"lsetstat@openssh.com").string(b"a").u32(2).u32(1).u32(2),
            What::SetAttributes,
            "a",
            "owner 1:2",
        ),
    ];
    for (kind, fill, what, path, other) in cases {
        for (code, outcome) in [(0, Outcome::Done), (3, Outcome::Failed("permission denied".into()))] {
            let mut talk = Talk::new();
            talk.other(*kind, code, fill);
            let expected = Deed {
                what: *what,
                path: path.as_bytes().to_vec(),
                other: other.as_bytes().to_vec(),
                outcome,
                began_ms: 0,
                content: None,
            };
            assert_eq!(talk.end(), [Told::Deed(expected)]);
        }
    }
}

#[test]
fn questions_are_not_told() {
    let mut talk = Talk::new();
    for name in [
        &b"limits@openssh.com"[..],
        b"statvfs@openssh.com",
        b"fsync@openssh.com",
        b"what@ever",
    ] {
        talk.other(kind::EXTENDED, 8, |packet| packet.string(name));
    }
    // READLINK, REALPATH and one that nobody knows.
    for kind in [19, 16, 99] {
        talk.other(kind, 2, |packet| packet.string(b"x"));
    }
    assert_eq!(talk.end(), []);
}

#[test]
fn what_is_no_sftp_is_lost_and_said() {
    let cases: &[(&str, Way, &[u8])] = &[
        ("words of a login script", Way::Down, b"Welcome to db1!\n"),
        ("no kind", Way::Up, &[0, 0, 0, 0]),
        ("a second INIT", Way::Up, &[0, 0, 0, 5, 1, 0, 0, 0, 3]),
        (
            "an answer from the client",
            Way::Up,
            &[0, 0, 0, 9, 101, 0, 0, 0, 1, 0, 0, 0, 0],
        ),
        (
            "a string past its packet",
            Way::Up,
            &[0, 0, 0, 9, 13, 0, 0, 0, 1, 0, 0, 0, 9],
        ),
        (
            "a write past its packet",
            Way::Up,
            &[0, 0, 0, 10, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        ),
        (
            "an answer to nothing",
            Way::Down,
            &[0, 0, 0, 9, 101, 0, 0, 0, 1, 0, 0, 0, 0],
        ),
        (
            "a request from the target",
            Way::Down,
            &[0, 0, 0, 9, 13, 0, 0, 0, 1, 0, 0, 0, 0],
        ),
    ];
    for (name, way, bytes) in cases {
        for cut in [1, 3, 100] {
            let mut talk = Talk::new();
            talk.cuts.push_back(cut);
            let handle = talk.open(b"x", NEW).unwrap();
            talk.write(&handle, 0, b"abc");
            talk.cross(*way, bytes);
            talk.cross(*way, bytes);
            let told = talk.end();
            let [Told::Deed(deed), Told::Lost(_)] = &told[..] else {
                panic!("{name}: {told:?}");
            };
            assert_eq!(deed.content.as_ref().unwrap().whole, Err(Unknown::Lost), "{name}");
        }
    }
}

#[test]
fn newer_versions_are_not_followed() {
    let mut seen = sftp::Sftp::default();
    let mut told = Vec::new();
    seen.saw(0, Way::Up, &[0, 0, 0, 5, 1, 0, 0, 0, 6], &mut told);
    seen.saw(0, Way::Down, &[0, 0, 0, 5, 2, 0, 0, 0, 6], &mut told);
    assert!(matches!(told[..], [Told::Lost(_)]));
}

#[test]
fn more_than_is_followed_says_so() {
    // Files open at once.
    let mut talk = Talk::new();
    for n in 0..600u32 {
        talk.open(format!("{n}").as_bytes(), NEW).unwrap();
    }
    let many = talk.told.iter().filter(
        |told| matches!(told, Told::Deed(deed) if deed.content.as_ref().unwrap().whole == Err(Unknown::TooManyOpen)),
    );
    assert_eq!(many.count(), 88);
    // Requests at once.
    let mut talk = Talk::new();
    let handle = talk.open(b"x", NEW).unwrap();
    for _ in 0..5000 {
        talk.read(&handle, 0, 1);
    }
    assert!(matches!(talk.told.last(), Some(Told::Lost(_))));
}

#[test]
fn what_waits_is_bounded_and_ranges_are_told_in_parts() {
    let mut talk = Talk::new();
    let handle = talk.open(b"x", NEW).unwrap();
    // Nothing ever comes at the beginning; every second byte is missing.
    for at in 0..80_000u64 {
        talk.write(&handle, 1 + at * 2, b"x");
        talk.answer_all();
    }
    talk.close(&handle);
    talk.answer_all();
    let told = talk.end();
    let mut covered = 0;
    for told in &told {
        let Told::Deed(deed) = told else { panic!() };
        let content = deed.content.as_ref().unwrap();
        assert!(content.ranges.len() <= RANGES_MAX);
        covered += content.ranges.iter().map(|range| range.length).sum::<u64>();
    }
    assert_eq!(covered, 80_000);
    assert_eq!(transfers(&told).len(), 1);
}

#[test]
fn reads_and_writes_past_a_bound_and_of_unknown_handles_may_not_go_on() {
    let limit = || limit::Limit {
        bytes: 100,
        rule: "small".to_owned(),
    };
    let over = |id| Some(limit::Over::Limit(limit())).filter(|_: &limit::Over| id);
    let mut told = Vec::new();
    let mut sftp = sftp::Sftp::default();
    let answer = |kind_of: u8, id: u32| Packet::of(kind_of, id);
    sftp.saw(0, Way::Up, &[0, 0, 0, 5, kind::INIT, 0, 0, 0, 3], &mut told);
    // Asked before anybody knows its handle.
    let guessed = Packet::of(kind::WRITE, 9).string(b"h").u64(0).string(b"x").bytes();
    sftp.saw(0, Way::Up, &guessed, &mut told);
    assert_eq!(sftp.over(9), Some(limit::Over::Stranger));
    sftp.refused(9, "gate.transfer", &mut told);
    sftp.saw(0, Way::Down, &[0, 0, 0, 5, kind::VERSION, 0, 0, 0, 3], &mut told);
    let open = Packet::of(kind::OPEN, 1).string(b"/x").u32(NEW | READ).u32(0).bytes();
    sftp.saw(0, Way::Up, &open, &mut told);
    sftp.limit(1, limit());
    sftp.saw(0, Way::Down, &answer(kind::HANDLE, 1).string(b"h").bytes(), &mut told);
    let write = |id, offset, length: usize| {
        Packet::of(kind::WRITE, id)
            .string(b"h")
            .u64(offset)
            .string(&vec![7; length])
            .bytes()
    };
    for (id, offset, length, is_over) in [(2, 0, 60, false), (3, 60, 41, true)] {
        sftp.saw(0, Way::Up, &write(id, offset, length), &mut told);
        assert_eq!(sftp.over(id), over(is_over), "{id}");
    }
    sftp.refused(3, "small", &mut told);
    sftp.saw(
        0,
        Way::Down,
        &answer(kind::STATUS, 2).u32(0).string(b"").string(b"").bytes(),
        &mut told,
    );
    sftp.saw(0, Way::Up, &Packet::of(kind::CLOSE, 4).string(b"h").bytes(), &mut told);
    sftp.saw(
        0,
        Way::Down,
        &answer(kind::STATUS, 4).u32(0).string(b"").string(b"").bytes(),
        &mut told,
    );
    let [deed] = transfers(&told)[..] else {
        panic!("{told:?}");
    };
    assert_eq!(deed.outcome, Outcome::Refused("small".to_owned()));
    assert_eq!(deed.content.as_ref().unwrap().whole, Err(Unknown::PartFailed));
}
