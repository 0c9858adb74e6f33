//! Feeds captured sessions to the reader of commands, and to the methods it is
//! held against. Started by `tests/bench/run commands`.
//!
//! Each line of standard input names a file of captured events, one JSON array
//! a line: `["o", ms, hex]` output, `["i", ms, hex]` input, `["r", ms, cols, rows]`
//! size, `["n", 0, hex]` the nonce of the shell's hook. Each gets one line of JSON with what every method read. With `--launch NONCE` it
//! prints the line that starts a hooked shell.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on has failed"
)]

use std::io::{BufRead, Write};

use avt::Terminal;
use portcullis::kernel::command::{Finding, Keys, Reader};
use portcullis::kernel::echo::{EchoGate, Verdict};
use portcullis::kernel::hook::{Nonce, launch};
use serde_json::{Value, json};

enum What {
    Out(String),
    In(Vec<u8>),
    Size(usize, usize),
}

struct Captured {
    at_ms: u64,
    what: What,
}

fn main() {
    let mut out = std::io::stdout().lock();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, nonce] = arguments.as_slice()
        && flag == "--launch"
    {
        let nonce = Nonce::new(unhex(nonce).try_into().unwrap());
        return out.write_all(&launch(nonce)).unwrap();
    }
    for path in std::io::stdin().lock().lines() {
        let path = path.unwrap();
        let (events, bytes, nonce) = read(&path);
        let (found, ms) = ours(&events, &bytes, nonce);
        let answer = json!({
            "file": path, "ours": found, "ms": ms,
            "keystrokes": keystrokes(&events), "row": row_at_enter(&events), "between": between(&events),
        });
        writeln!(out, "{answer}").unwrap();
    }
}

/// The events as text, the output's bytes for the echo gate, and the hook's nonce.
fn read(path: &str) -> (Vec<Captured>, Vec<Vec<u8>>, Option<String>) {
    let mut torn = Vec::new();
    let mut nonce = None;
    let (mut events, mut raw) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let at_ms = event[1].as_u64().unwrap();
        let number = |at: usize| usize::try_from(event[at].as_u64().unwrap()).unwrap();
        let bytes = || unhex(event[2].as_str().unwrap());
        let (what, shown) = match event[0].as_str().unwrap() {
            "o" => (What::Out(decode(&mut torn, &bytes())), bytes()),
            "i" => (What::In(bytes()), Vec::new()),
            "n" => {
                nonce = Some(event[2].as_str().unwrap().to_owned());
                continue;
            }
            _ => (What::Size(number(2), number(3)), Vec::new()),
        };
        events.push(Captured { at_ms, what });
        raw.push(shown);
    }
    (events, raw, nonce)
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn decode(torn: &mut Vec<u8>, bytes: &[u8]) -> String {
    torn.extend_from_slice(bytes);
    let whole = match std::str::from_utf8(torn) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => torn.len(),
    };
    let rest = torn.split_off(whole);
    let text = String::from_utf8_lossy(torn).into_owned();
    *torn = rest;
    text
}

/// The reader, with what the recorder knows: each line's keys only if it was echoed.
fn ours(events: &[Captured], raw: &[Vec<u8>], nonce: Option<String>) -> (Vec<Value>, f64) {
    let mut gate = EchoGate::default();
    let (mut pieces, mut shown_lines) = (Vec::new(), std::collections::HashSet::new());
    let mut verdicts = Vec::new();
    for (event, shown) in events.iter().zip(raw) {
        let mut of_this = Vec::new();
        match &event.what {
            What::In(bytes) => {
                let (found, decided) = gate.typed(event.at_ms, bytes);
                of_this = found;
                verdicts.extend(decided);
            }
            What::Out(_) => verdicts.extend(gate.shown(shown)),
            What::Size(cols, rows) => gate.sized(*cols as u32, *rows as u32),
        }
        pieces.push(of_this);
    }
    verdicts.extend(gate.expire(u64::MAX, true));
    for verdict in verdicts {
        if let Verdict::Echoed { line } = verdict {
            shown_lines.insert(line);
        }
    }
    let mut terminal = Terminal::new(80, 24).unwrap();
    let mut reader = nonce.map_or_else(Reader::default, Reader::with_hook);
    let began = std::time::Instant::now();
    for (event, pieces) in events.iter().zip(pieces) {
        match &event.what {
            What::Out(text) => reader.shown(event.at_ms, text, &mut terminal),
            What::Size(cols, rows) => terminal.resize(*cols, *rows),
            What::In(bytes) => {
                let mut rest = bytes.as_slice();
                for piece in pieces {
                    let (own, after) = rest.split_at(piece.bytes);
                    rest = after;
                    let keys = match shown_lines.contains(&piece.line) {
                        true => Keys::Clear(own),
                        false => Keys::Hidden {
                            bytes: own.len(),
                            ends: piece.ends,
                        },
                    };
                    reader.typed(event.at_ms, keys, &terminal);
                }
            }
        }
    }
    reader.finish();
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let found = reader.take().into_iter().map(|finding| match finding {
        Finding::Command(command) => json!({
            "at": command.at_ms, "text": command.text, "other": command.other, "source": command.source.word(),
            "confidence": command.confidence.word(), "context": command.context.word(),
        }),
        Finding::HiddenCommand { at_ms } => json!({ "at": at_ms, "hidden": true }),
    });
    (found.collect(), ms)
}

/// Whatever was typed, with rubbing out.
fn keystrokes(events: &[Captured]) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    for event in events {
        if let What::In(bytes) = &event.what {
            for byte in bytes {
                match byte {
                    b'\r' => lines.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned()),
                    0x7f => drop(line.pop()),
                    0x03 | 0x15 => line.clear(),
                    0x20.. => line.push(*byte),
                    _ => {}
                }
            }
        }
    }
    lines
}

/// The emulator as it is at each input.
fn at_each_input(events: &[Captured], mut each: impl FnMut(&Terminal, &[u8])) {
    let mut terminal = Terminal::new(80, 24).unwrap();
    for event in events {
        match &event.what {
            What::Out(text) => terminal.feed(text.as_str()),
            What::Size(cols, rows) => terminal.resize(*cols, *rows),
            What::In(bytes) => each(&terminal, bytes),
        }
    }
}

fn row(terminal: &Terminal) -> (usize, String, String) {
    let cursor = terminal.cursor();
    let text = terminal
        .screen()
        .line(cursor.row)
        .map(avt::Line::text)
        .unwrap_or_default();
    let left = text.chars().take(cursor.col).collect();
    (cursor.row, text.trim_end().to_owned(), left)
}

/// The cursor's row at Enter, less what it was at the line's first key.
fn row_at_enter(events: &[Captured]) -> Vec<String> {
    let (mut lines, mut prompt) = (Vec::new(), None::<String>);
    at_each_input(events, |terminal, bytes| {
        let (_, whole, left) = row(terminal);
        let prompt_now = prompt.get_or_insert(left);
        if bytes.contains(&b'\r') {
            lines.push(whole.strip_prefix(prompt_now.as_str()).unwrap_or(&whole).to_owned());
            prompt = None;
        }
    });
    lines
}

/// The text between where the cursor was at the line's first key and where it is at Enter.
fn between(events: &[Captured]) -> Vec<String> {
    let (mut lines, mut from) = (Vec::new(), None::<(usize, usize)>);
    at_each_input(events, |terminal, bytes| {
        let cursor = terminal.cursor();
        let (row, col) = *from.get_or_insert((cursor.row, cursor.col));
        if bytes.contains(&b'\r') {
            let mut text = String::new();
            for at in row..=cursor.row {
                let line = terminal.screen().line(at).map(avt::Line::text).unwrap_or_default();
                let from = if at == row { col } else { 0 };
                let to = if at == cursor.row { cursor.col } else { usize::MAX };
                text.extend(line.chars().take(to).skip(from));
            }
            lines.push(text);
            from = None;
        }
    });
    lines
}
