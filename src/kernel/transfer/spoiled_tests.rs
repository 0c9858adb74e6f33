//! What a client does so that a wrong hash would be told of a file.

use super::model::{Packet, Talk};
use super::packet::{flag, kind};
use super::tests::{NEW, OVER, READ, body, hash, transfers};
use super::*;

/// A handle that no answer has given, as OpenSSH numbers its first.
const FIRST: [u8; 4] = [0, 0, 0, 0];

fn wholes(told: &[Told]) -> Vec<(What, Result<[u8; 32], Unknown>)> {
    let whole = |deed: &&Deed| (deed.what, deed.content.as_ref().unwrap().whole);
    transfers(told).iter().map(whole).collect()
}

/// The requests go in one flight with the OPEN, and its answer comes behind them.
fn in_one_flight(flags: u32, requests: &[fn(&mut Talk)]) -> Talk {
    let mut talk = Talk::new();
    talk.asks_to_open(b"/a", flags);
    for request in requests {
        request(&mut talk);
    }
    talk.answer_all();
    talk
}

#[test]
fn what_comes_before_the_handle_spoils_the_file_it_may_be() {
    let guesses: [fn(&mut Talk); 4] = [
        |talk| talk.write(&FIRST, 8, b"EVILTAIL"),
        |talk| talk.resize(&FIRST, 1000),
        |talk| {
            talk.ask(kind::SETSTAT, |packet| packet.string(b"/a").u32(1).u64(1000));
            talk.server.status(2, 0);
        },
        |talk| {
            talk.ask(kind::EXTENDED, |packet| {
                let from = packet.string(b"copy-data").string(&FIRST).u64(0).u64(0);
                from.string(&FIRST).u64(0)
            });
            talk.server.status(2, 0);
        },
    ];
    for (number, guess) in guesses.into_iter().enumerate() {
        let mut talk = in_one_flight(NEW, &[guess]);
        talk.write(&FIRST, 0, b"goodgood");
        talk.close(&FIRST);
        talk.answer_all();
        let told = talk.end();
        let [(What::Upload, Err(Unknown::Guessed | Unknown::ChangedMeanwhile))] = wholes(&told)[..] else {
            panic!("{number}: {told:?}");
        };
    }
}

#[test]
fn bytes_that_came_by_a_guessed_handle_are_no_file_of_nothing() {
    let mut talk = Talk::new();
    talk.server.files.insert(b"/a".to_vec(), body(100));
    talk.asks_to_open(b"/a", READ);
    talk.read(&FIRST, 0, 1000);
    talk.close(&FIRST);
    talk.answer_all();
    assert!(talk.seen.has_strays());
    assert_eq!(wholes(&talk.end()), [(What::Download, Err(Unknown::Guessed))]);
}

#[test]
fn an_open_that_empties_a_file_spoils_who_writes_it_and_is_told_as_an_upload() {
    let mut talk = Talk::new();
    let one = talk.open(b"/a", NEW).unwrap();
    talk.write(&one, 0, b"text");
    let two = talk.open(b"/a", READ | flag::TRUNCATE).unwrap();
    talk.close(&one);
    talk.close(&two);
    talk.answer_all();
    let told = wholes(&talk.end());
    assert_eq!(told.len(), 2);
    assert!(
        told.iter().all(|(what, whole)| *what == What::Upload && whole.is_err()),
        "{told:?}"
    );
}

#[test]
fn one_open_too_many_spoils_who_writes_its_file() {
    let mut talk = Talk::new();
    let one = talk.open(b"/a", NEW).unwrap();
    talk.write(&one, 0, b"text");
    for n in 0..600u32 {
        talk.open(format!("{n}").as_bytes(), READ | flag::CREATE).unwrap();
    }
    talk.open(b"/a", OVER).unwrap();
    talk.told.clear();
    talk.close(&one);
    talk.answer_all();
    assert_eq!(wholes(&talk.told), [(What::Upload, Err(Unknown::ChangedMeanwhile))]);
}

#[test]
fn a_resize_that_failed_may_have_been_done() {
    let mut talk = Talk::new();
    let one = talk.open(b"/a", NEW).unwrap();
    talk.write(&one, 0, b"text");
    // Longer, and a mode that may not be set.
    talk.other(kind::FSETSTAT, 3, |packet| {
        packet.string(&one).u32(1 | 4).u64(100).u32(0o4777)
    });
    talk.close(&one);
    talk.answer_all();
    let told = talk.end();
    assert_eq!(wholes(&told[1..]), [(What::Upload, Err(Unknown::ChangedMeanwhile))]);
    let Told::Deed(set) = &told[0] else { panic!() };
    assert_eq!((set.what, set.path.as_slice()), (What::SetAttributes, &b"/a"[..]));
    assert_eq!(set.other, b"size 100, mode 4777");
}

#[test]
fn a_length_from_before_makes_no_whole() {
    // By the path.
    let mut talk = Talk::new();
    talk.server.files.insert(b"/a".to_vec(), body(10));
    talk.stat(b"/a");
    talk.answer_all();
    talk.server.files.insert(b"/a".to_vec(), body(20));
    let read = talk.open(b"/a", READ).unwrap();
    talk.read(&read, 0, 10);
    talk.close(&read);
    talk.answer_all();
    assert_eq!(wholes(&talk.end()), [(What::Download, Err(Unknown::EndNotSeen))]);
    // By the handle, before another wrote.
    for writes in [false, true] {
        let mut talk = Talk::new();
        talk.server.files.insert(b"/a".to_vec(), body(10));
        let read = talk.open(b"/a", READ).unwrap();
        talk.fstat(&read);
        talk.answer_all();
        if writes {
            let write = talk.open(b"/link.to.a", OVER).unwrap();
            talk.write(&write, 10, b"more");
        }
        talk.read(&read, 0, 10);
        talk.close(&read);
        talk.answer_all();
        let expected = if writes {
            Err(Unknown::EndNotSeen)
        } else {
            Ok(hash(&body(10)))
        };
        assert_eq!(wholes(&talk.told), [(What::Download, expected)]);
    }
}

#[test]
fn another_version_is_not_followed_and_what_nobody_knows_spoils() {
    let mut talk = Talk::new();
    let one = talk.open(b"/a", NEW).unwrap();
    talk.other(kind::EXTENDED, 8, |packet| {
        packet.string(b"version-select").string(b"6")
    });
    assert!(!talk.seen.is_lost());
    talk.other(kind::EXTENDED, 8, |packet| packet.string(b"what@ever").string(b"/a"));
    talk.write(&one, 0, b"text");
    talk.close(&one);
    talk.answer_all();
    assert_eq!(wholes(&talk.told), [(What::Upload, Err(Unknown::ChangedMeanwhile))]);
    talk.other(kind::EXTENDED, 0, |packet| {
        packet.string(b"version-select").string(b"6")
    });
    assert!(talk.seen.is_lost());
}

#[test]
fn a_length_at_the_open_may_stretch_the_file() {
    for (size, whole) in [(4, Ok(hash(b"text"))), (5, Err(Unknown::OlderBytes))] {
        let mut talk = Talk::new();
        let id = talk.ask(kind::OPEN, |packet| packet.string(b"/a").u32(NEW).u32(1).u64(size));
        let one = talk.server.open(id, b"/a", NEW).unwrap();
        talk.answer_all();
        talk.write(&one, 0, b"text");
        talk.close(&one);
        talk.answer_all();
        assert_eq!(wholes(&talk.end()), [(What::Upload, whole)]);
    }
}

#[test]
fn changes_by_a_handle_are_asked_about_unless_they_end_an_upload() {
    let mut talk = Talk::new();
    talk.server.files.insert(b"/r".to_vec(), body(10));
    let (read, write) = (talk.open(b"/r", READ).unwrap(), talk.open(b"/w", NEW).unwrap());
    let mode = |handle: &[u8]| Packet::of(kind::FSETSTAT, 0).string(handle).u32(4).u32(0o4777);
    let size = |handle: &[u8]| Packet::of(kind::FSETSTAT, 0).string(handle).u32(1).u64(5);
    let cases = [
        (mode(&read), Some(("/r", "mode 4777"))),
        (mode(&write), Some(("/w", "mode 4777"))),
        (size(&read), Some(("/r", "size 5"))),
        (size(&write), None),
    ];
    for (number, (packet, asked)) in (100..).zip(cases) {
        let mut bytes = packet.bytes();
        bytes[5..9].copy_from_slice(&u32::to_be_bytes(number));
        talk.cross(Way::Up, &bytes);
        let expected = asked.map(|(path, other)| {
            limit::Over::Asks(Wish {
                what: What::SetAttributes,
                path: path.into(),
                other: other.into(),
            })
        });
        assert_eq!(talk.seen.over(number), expected, "{number}");
    }
    let copy = Packet::of(kind::EXTENDED, 150).string(b"copy-data");
    let copy = copy.string(&read).u64(0).u64(0).string(&write).u64(0);
    talk.cross(Way::Up, &copy.bytes());
    let copied = Wish {
        what: What::Copy,
        path: b"/r".to_vec(),
        other: b"/w".to_vec(),
    };
    assert_eq!(talk.seen.over(150), Some(limit::Over::Asks(copied)));
    let strange = Packet::of(kind::FSETSTAT, 200).string(b"?").u32(4).u32(0o4777);
    talk.cross(Way::Up, &strange.bytes());
    assert_eq!(talk.seen.over(200), Some(limit::Over::Stranger));
}

#[test]
fn what_is_appended_cannot_be_bounded() {
    let limit = limit::Limit {
        bytes: 100,
        rule: "small".to_owned(),
    };
    for (flags, can) in [(NEW, true), (OVER | flag::APPEND, false)] {
        let mut talk = Talk::new();
        let id = talk.asks_to_open(b"/a", flags);
        assert_eq!(talk.seen.limit(id, limit.clone()), can);
    }
}

#[test]
fn paths_that_may_be_one() {
    let may = |a: &str, b: &str| waiting::may_be_one(a.as_bytes(), b.as_bytes());
    for (a, b) in [
        ("/a/b", "/a//./b"),
        ("/a/b", "b"),
        ("/x/../b", "/b"),
        ("", "."),
        ("/b/", "/b"),
    ] {
        assert!(may(a, b) && may(b, a), "{a} {b}");
    }
    for (a, b) in [("/a/b", "/c/b"), ("/a/b", "/a/c"), ("b", "c"), ("/b", "")] {
        assert!(!may(a, b) && !may(b, a), "{a} {b}");
    }
}
