//! Exports, parsed back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod support;

use serde_json::Value;
use support::*;

fn export(here: &Desk, args: &[&str]) -> (Value, Vec<(String, f64, String)>) {
    let ran = here.run(&[&["export", "--trust", "trust.toml"], args].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    parse(&ran.out)
}

/// Header, and code, time and data of every event.
fn parse(text: &str) -> (Value, Vec<(String, f64, String)>) {
    let mut lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let header = lines.next().unwrap();
    let events = lines.map(|event| {
        let [time, code, data] = event.as_array().unwrap().as_slice() else {
            panic!("three parts")
        };
        (
            code.as_str().unwrap().to_owned(),
            time.as_f64().unwrap(),
            data.as_str().unwrap().to_owned(),
        )
    });
    (header, events.collect())
}

fn of(events: &[(String, f64, String)], code: &str) -> Vec<(f64, String)> {
    events
        .iter()
        .filter(|e| e.0 == code)
        .map(|e| (e.1, e.2.clone()))
        .collect()
}

#[test]
fn version_2() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let (header, events) = export(&here, &["a.pcr", "--format", "asciicast-v2", "--input"]);
    assert_eq!(
        (&header["version"], &header["width"], &header["height"]),
        (&2.into(), &40.into(), &10.into())
    );
    assert_eq!(header["timestamp"], OPENED / 1000);
    assert_eq!(header["env"]["PORTCULLIS_VERDICT"], "SEALED, in the ledger");
    let output: String = of(&events, "o").into_iter().map(|e| e.1).collect();
    assert_eq!(output, "$ echo grüße\r\ngrüße\u{FFFD}\r\n$ oops\r\nexit\r\n");
    assert_eq!(of(&events, "i"), [(0.5, "echo gr".into()), (0.51, "üße\r".into())]);
    assert_eq!(of(&events, "r"), [(62.0, "100x30".into())]);
    let markers: Vec<String> = of(&events, "m").into_iter().map(|e| e.1).collect();
    assert!(
        markers
            .iter()
            .any(|m| m.starts_with("notice: portcullis: ends in 5 min")),
        "{markers:?}"
    );
    assert!(
        markers.iter().any(|m| m.contains("standard error")) && markers.iter().any(|m| m.starts_with("end: exit")),
        "{markers:?}"
    );
    assert!(of(&events, "x").is_empty());
    assert!(events.windows(2).all(|w| w[0].1 <= w[1].1), "times only grow");
}

#[test]
fn version_3_has_the_same_times_and_the_exit() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let (header, v3) = export(&here, &["a.pcr", "--format", "asciicast-v3"]);
    let (_, v2) = export(&here, &["a.pcr", "--format", "asciicast-v2"]);
    assert_eq!(
        (&header["version"], &header["term"]["cols"], &header["term"]["rows"]),
        (&3.into(), &40.into(), &10.into())
    );
    assert_eq!(header["tags"][1], "verdict:SEALED");
    let mut sum = 0.0;
    let absolute: Vec<(String, f64, String)> = v3
        .iter()
        .map(|(code, interval, data)| {
            sum += interval;
            (code.clone(), (sum * 1000.0).round() / 1000.0, data.clone())
        })
        .collect();
    let (x, rest) = absolute.split_last().unwrap();
    assert_eq!((x.0.as_str(), x.2.as_str()), ("x", "3"));
    assert_eq!(rest, v2);
    assert!(of(&v2, "i").is_empty(), "input only when asked for");
}

#[test]
fn hostile_streams_come_back_exactly_and_sizes_are_sane() {
    let here = Desk::new();
    here.sealed("h.pcr", &hostile_session());
    let (header, events) = export(&here, &["h.pcr", "--format", "asciicast-v2"]);
    assert_eq!(header["width"], 80);
    let expected: Vec<u8> = hostile_session()
        .concat()
        .iter()
        .filter_map(|(_, _, e)| match e {
            portcullis_recording::Event::Output(bytes) => Some(bytes.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    let output: String = of(&events, "o").into_iter().map(|e| e.1).collect();
    assert_eq!(output, String::from_utf8_lossy(&expected));
    assert_eq!(
        of(&events, "r").into_iter().map(|e| e.1).collect::<Vec<_>>(),
        ["1x1", "500x200"]
    );
}

#[test]
fn a_file_is_written_once() {
    let here = Desk::new();
    here.sealed("a.pcr", &shell());
    let args = [
        "export",
        "a.pcr",
        "--trust",
        "trust.toml",
        "--format",
        "asciicast-v3",
        "-o",
        "a.cast",
    ];
    assert_eq!(here.run(&args).code, Some(0));
    let written = std::fs::read_to_string(here.path("a.cast")).unwrap();
    assert_eq!(parse(&written).0["version"], 3);
    let again = here.run(&args);
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert_eq!(std::fs::read_to_string(here.path("a.cast")).unwrap(), written);
}
