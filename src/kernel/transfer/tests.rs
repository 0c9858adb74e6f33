use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::model::{Packet, Talk};
use super::packet::{flag, kind};
use super::*;

const NEW: u32 = flag::WRITE | flag::CREATE | flag::TRUNCATE;
/// SSH_FXF_READ.
const READ: u32 = 1;
const OVER: u32 = flag::WRITE | flag::CREATE;

/// Of each property.
const CASES: u32 = 500;

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Deeds that end a transfer, not those that only tell a part of it.
fn transfers(told: &[Told]) -> Vec<&Deed> {
    told.iter()
        .filter_map(|told| match told {
            Told::Deed(deed) => Some(deed),
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

/// One step of somebody with two files.
#[derive(Clone, Debug)]
enum Act {
    Open {
        file: usize,
        flags: u32,
    },
    Read {
        file: usize,
        offset: u64,
        length: u32,
    },
    Write {
        file: usize,
        offset: u64,
        length: usize,
        fill: u8,
    },
    Next {
        file: usize,
        length: usize,
    },
    Resize {
        file: usize,
        length: u64,
    },
    Stat {
        file: usize,
    },
    FStat {
        file: usize,
    },
    Close {
        file: usize,
    },
    Answer {
        place: usize,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let file = 0..2usize;
    let act = prop_oneof![
        (
            file.clone(),
            prop::sample::select(vec![
                NEW,
                OVER,
                READ,
                READ | OVER,
                OVER | flag::EXCLUSIVE,
                OVER | flag::APPEND
            ])
        )
            .prop_map(|(file, flags)| Act::Open { file, flags }),
        (file.clone(), 0..40u64, 1..20u32).prop_map(|(file, offset, length)| Act::Read { file, offset, length }),
        (file.clone(), 0..40u64, 1..20usize, any::<u8>()).prop_map(|(file, offset, length, fill)| Act::Write {
            file,
            offset,
            length,
            fill
        }),
        (file.clone(), 1..20usize).prop_map(|(file, length)| Act::Next { file, length }),
        (file.clone(), 1..20usize).prop_map(|(file, length)| Act::Next { file, length }),
        (file.clone(), 0..60u64).prop_map(|(file, length)| Act::Resize { file, length }),
        file.clone().prop_map(|file| Act::Stat { file }),
        file.clone().prop_map(|file| Act::FStat { file }),
        file.prop_map(|file| Act::Close { file }),
        any::<usize>().prop_map(|place| Act::Answer { place }),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked and however it is cut and answered: a hash that is
    /// told is that of the file as it stood when it was closed.
    #[test]
    fn no_hash_is_ever_wrong(acts in acts(), cuts in prop::collection::vec(1..40usize, 1..8), old in 0..50usize) {
        let mut talk = Talk::new();
        talk.cuts = cuts.into();
        let paths = [&b"/a"[..], b"/b"];
        talk.server.files.insert(paths[0].to_vec(), body(old));
        let mut open: [Option<(Vec<u8>, u64)>; 2] = [None, None];
        // Of each path what it was when a handle to it was closed.
        let mut truths: Vec<Vec<u8>> = Vec::new();
        for act in acts {
            match act {
                Act::Open { file, flags } => {
                    if open[file].is_none() {
                        open[file] = talk.open(paths[file], flags).map(|handle| (handle, 0));
                    }
                }
                Act::Read { file, offset, length } => {
                    if let Some((handle, _)) = &open[file] {
                        talk.read(handle, offset, length);
                    }
                }
                Act::Write { file, offset, length, fill } => {
                    if let Some((handle, _)) = &open[file] {
                        talk.write(handle, offset, &vec![fill; length]);
                    }
                }
                Act::Next { file, length } => {
                    if let Some((handle, at)) = &mut open[file] {
                        talk.write(handle, *at, &body(length));
                        talk.read(handle, *at, length as u32);
                        *at += length as u64;
                    }
                }
                Act::Resize { file, length } => {
                    if let Some((handle, _)) = &open[file] {
                        talk.resize(handle, length);
                    }
                }
                Act::Stat { file } => talk.stat(paths[file]),
                Act::FStat { file } => {
                    if let Some((handle, _)) = &open[file] {
                        talk.fstat(handle);
                    }
                }
                Act::Close { file } => {
                    if let Some((handle, _)) = open[file].take() {
                        truths.push(talk.server.files[paths[file]].clone());
                        talk.close(&handle);
                    }
                }
                Act::Answer { place } => talk.answer(place),
            }
        }
        talk.answer_all();
        truths.extend(talk.server.files.values().cloned());
        for deed in transfers(&talk.end()) {
            if let Ok(whole) = deed.content.as_ref().unwrap().whole {
                let truth = truths.iter().any(|truth| hash(truth) == whole);
                prop_assert!(truth, "{deed:?}");
            }
        }
    }

    /// However a plain transfer is cut, and its answers come in any order, it is whole.
    #[test]
    fn pipelined_transfers_are_whole(
        length in 0..200_000usize,
        piece in 1000..40_000u32,
        cuts in prop::collection::vec(1..70_000usize, 1..8),
        order in prop::collection::vec(any::<usize>(), 0..200),
    ) {
        let mut talk = Talk::new();
        talk.cuts = cuts.into();
        let bytes = body(length);
        talk.server.files.insert(b"old".to_vec(), bytes.clone());
        let (from, to) = (talk.open(b"old", READ).unwrap(), talk.open(b"new", NEW).unwrap());
        let mut order = order.into_iter();
        for at in (0..=length as u64).step_by(piece as usize) {
            talk.read(&from, at, piece.min(32_768));
            if piece > 32_768 {
                talk.read(&from, at + 32_768, piece - 32_768);
            }
            let end = (at as usize + piece as usize).min(length);
            talk.write(&to, at, &bytes[at as usize..end]);
            if let Some(place) = order.next() {
                talk.answer(place);
            }
        }
        talk.read(&from, length as u64, piece);
        while !talk.server.replies.is_empty() {
            talk.answer(order.next().unwrap_or(0));
        }
        talk.close(&from);
        talk.close(&to);
        talk.answer_all();
        let told = talk.end();
        let deeds = transfers(&told);
        prop_assert_eq!(deeds.len(), 2);
        for deed in deeds {
            prop_assert_eq!(deed.content.as_ref().unwrap().whole, Ok(hash(&bytes)), "{:?}", deed.what);
        }
    }

    /// Anything at all: no panic, and what is told stays small.
    #[test]
    fn any_bytes_are_survived(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..40)) {
        let observers = [
            Observer::of_subsystem("sftp"),
            Observer::of_exec(0, b"scp -t x"),
            Observer::of_exec(0, b"scp -f x"),
            Observer::of_exec(0, b"git-upload-pack x"),
        ];
        for mut observer in observers.into_iter().flatten() {
            let mut told = Vec::new();
            for (up, bytes) in &pieces {
                observer.saw(0, if *up { Way::Up } else { Way::Down }, bytes, &mut told);
            }
            observer.end(&mut told);
            prop_assert!(told.len() <= pieces.len() * 60 + 2);
        }
    }
}
