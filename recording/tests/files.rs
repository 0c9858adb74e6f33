//! Version 3: what was done to files is read as it was written, and nothing is written that nobody could read.

mod support;

use portcullis_recording::Version;
use portcullis_recording::event::{Event, PayloadError, kind};
use portcullis_recording::limits::{FILE_BYTES_MAX, FILE_PATH_BYTES_MAX, FILE_RANGES_MAX};
use portcullis_recording::moved::{Act, Moved, Outcome, Range};
use support::{open, open_in, sha256, written_and_read};

fn upload() -> Moved<'static> {
    Moved {
        outcome: Outcome::Failed,
        words: "permission denied".into(),
        began_ms: 7,
        bytes: 9,
        unknown: "in_pieces".into(),
        ranges: vec![
            Range {
                offset: 0,
                length: 5,
                sha256: sha256(b"hello"),
            },
            Range {
                offset: FILE_BYTES_MAX - 4,
                length: 4,
                sha256: sha256(b"last"),
            },
        ],
        ..Moved::plain(Act::Upload, b"/srv/\xff".to_vec().into())
    }
}

fn each() -> Vec<Event<'static>> {
    let plain = Act::ALL.into_iter().filter(|act| !act.is_transfer());
    let mut all: Vec<Moved<'static>> = plain.map(|act| Moved::plain(act, b"/a".to_vec().into())).collect();
    all.push(upload());
    all.push(Moved {
        whole: Some(sha256(b"")),
        other: b"below".to_vec().into(),
        ..Moved::plain(Act::Download, b"x".to_vec().into())
    });
    all.push(Moved {
        outcome: Outcome::Refused,
        words: "no-secrets".into(),
        other: b"new".to_vec().into(),
        ..Moved::plain(Act::Rename, b"old".to_vec().into())
    });
    all.into_iter().map(|moved| Event::File(Box::new(moved))).collect()
}

#[test]
fn it_is_read_as_it_was_written() {
    assert_eq!(written_and_read(&each()), each());
}

#[test]
fn what_nobody_could_read_is_not_written() {
    let range = upload().ranges[0];
    let wrong = [
        Moved::plain(Act::Remove, vec![b'x'; FILE_PATH_BYTES_MAX + 1].into()),
        Moved::plain(Act::Upload, b"neither hash nor code".to_vec().into()),
        Moved {
            whole: Some([0; 32]),
            ..upload()
        },
        Moved {
            ranges: vec![range; FILE_RANGES_MAX + 1],
            ..upload()
        },
        Moved {
            ranges: vec![Range { length: 0, ..range }],
            ..upload()
        },
        Moved {
            bytes: 1,
            ..Moved::plain(Act::List, b"x".to_vec().into())
        },
    ];
    for moved in wrong {
        let (mut w, ..) = open_in(Version::LATEST, 1);
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        let before = tail.clone();
        w.push(1, 1, &Event::File(Box::new(moved)), &mut tail).unwrap_err();
        assert_eq!(tail, before);
    }
}

#[test]
fn older_versions_have_no_such_event() {
    let (mut w, ..) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    let told = w.push(1, 1, &each()[0], &mut tail);
    assert_eq!(told, Err(PayloadError::UnknownKind(kind::FILE).into()));
}
