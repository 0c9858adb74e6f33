use proptest::prelude::*;

use super::model::Talk;
use super::packet::flag;
use super::tests::{NEW, OVER, READ, body, hash, transfers};
use super::*;

/// Of each property.
const CASES: u32 = 500;

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
