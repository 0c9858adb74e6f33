//! Version 3: commands are read as they were written, and nothing is written that nobody could read.

mod support;

use std::io::Cursor;

use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::{Event, PayloadError, kind};
use portcullis_recording::limits::{
    CHUNK_RAW_BYTES_MAX, COMMAND_CONTEXT_BYTES_MAX, COMMAND_DIRECTORY_BYTES_MAX, COMMAND_LABEL_BYTES_MAX,
    COMMAND_LABELS_MAX, COMMAND_TEXT_BYTES_MAX, TIME_MS_MAX,
};
use portcullis_recording::{Around, Version, WriteError, verify};
use support::{open, open_in, trust, written_and_read};

fn restart() -> Command<'static> {
    Command {
        source: Source::Hook,
        confidence: Confidence::High,
        began_ms: 4,
        ended_ms: 9,
        text: "systemctl restart nginx".into(),
        other: "systemctl restart ngin".into(),
        context: "elevated".into(),
        directory: "/srv".into(),
        status: Some(0),
        labels: vec!["availability".into(), "privilege".into()],
    }
}

fn hidden() -> Command<'static> {
    Command {
        source: Source::Hidden,
        confidence: Confidence::Medium,
        text: "".into(),
        other: "".into(),
        status: None,
        labels: Vec::new(),
        ..restart()
    }
}

fn each() -> Vec<Event<'static>> {
    let mut all = vec![restart(), hidden()];
    for source in Source::ALL.into_iter().filter(|source| *source != Source::Hidden) {
        for confidence in Confidence::ALL {
            all.push(Command {
                source,
                confidence,
                ..restart()
            });
        }
    }
    all.push(Command {
        text: "x".repeat(COMMAND_TEXT_BYTES_MAX).into(),
        other: "y".repeat(COMMAND_TEXT_BYTES_MAX).into(),
        context: "c".repeat(COMMAND_CONTEXT_BYTES_MAX).into(),
        directory: "d".repeat(COMMAND_DIRECTORY_BYTES_MAX).into(),
        status: Some(u32::MAX),
        labels: vec!["l".repeat(COMMAND_LABEL_BYTES_MAX).into(); COMMAND_LABELS_MAX],
        began_ms: TIME_MS_MAX,
        ended_ms: TIME_MS_MAX,
        ..restart()
    });
    all.into_iter()
        .map(|command| Event::Command(Box::new(command)))
        .collect()
}

#[test]
fn it_is_read_as_it_was_written() {
    assert_eq!(written_and_read(&each()), each());
}

#[test]
fn what_is_put_behind_the_events_of_a_chunk() {
    let (mut w, mut main, mut file) = open_in(Version::LATEST, 1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for at_ms in [7, 9] {
        w.push(at_ms, 1, &Event::Output(b"x".into()), &mut tail).unwrap();
    }
    // More than there is room for.
    let large = Command {
        text: "x".repeat(COMMAND_TEXT_BYTES_MAX).into(),
        ..restart()
    };
    let many = CHUNK_RAW_BYTES_MAX / COMMAND_TEXT_BYTES_MAX;
    let behind: Vec<_> = [restart(), hidden()]
        .into_iter()
        .chain(vec![large; many])
        .map(|command| (1, Event::Command(Box::new(command))))
        .collect();
    let around = Around {
        keyframes: &[],
        behind: &behind,
    };
    file.extend(w.close_tail().unwrap().encode(&tail, around, 3, &mut main).unwrap());
    file.extend(w.finish(&mut main, 10, "exit", "").unwrap().0);
    let mut verified = verify(Cursor::new(&file), &trust(), None).unwrap();
    let read: Vec<_> = verified.events().map(|timed| timed.unwrap()).collect();
    assert!(matches!(read[1].event, Event::Output(_)));
    assert_eq!((read[2].at_ms, &read[2].event), (9, &behind[0].1));
    assert!(
        (many - 4..many).contains(&(read.len() - 4)),
        "{} of {many}",
        read.len() - 4
    );

    let (mut w, mut main, _) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    w.push(7, 1, &Event::Output(b"x".into()), &mut tail).unwrap();
    let told = w.close_tail().unwrap().encode(&tail, around, 3, &mut main);
    let unknown = PayloadError::UnknownKind(kind::COMMAND);
    assert_eq!(told, Err(WriteError::Event(unknown)), "in an older version");
}

#[test]
fn what_nobody_could_read_is_not_written() {
    let long = |bytes: usize| "x".repeat(bytes + 1);
    let wrong = [
        Command {
            text: long(COMMAND_TEXT_BYTES_MAX).into(),
            ..restart()
        },
        Command {
            other: long(COMMAND_TEXT_BYTES_MAX).into(),
            ..restart()
        },
        Command {
            context: long(COMMAND_CONTEXT_BYTES_MAX).into(),
            ..restart()
        },
        Command {
            directory: long(COMMAND_DIRECTORY_BYTES_MAX).into(),
            ..restart()
        },
        Command {
            labels: vec![long(COMMAND_LABEL_BYTES_MAX).into()],
            ..restart()
        },
        Command {
            labels: vec!["x".into(); COMMAND_LABELS_MAX + 1],
            ..restart()
        },
        Command {
            began_ms: 10,
            ..restart()
        },
        Command {
            text: "x".into(),
            ..hidden()
        },
        Command {
            other: "x".into(),
            ..hidden()
        },
    ];
    for command in wrong {
        let (mut w, ..) = open_in(Version::LATEST, 1);
        let mut tail = Vec::new();
        w.open_tail(&mut tail).unwrap();
        let before = tail.clone();
        w.push(9, 1, &Event::Command(Box::new(command)), &mut tail).unwrap_err();
        assert_eq!(tail, before);
    }
}

#[test]
fn older_versions_have_no_such_event() {
    let (mut w, ..) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    let told = w.push(9, 1, &each()[0], &mut tail);
    assert_eq!(told, Err(PayloadError::UnknownKind(kind::COMMAND).into()));
}
