//! Other tools' recordings: asciicast v2 and v3, and ttyrec. Nobody has signed them, and whoever shows one says so.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use portcullis_recording::event::{Event, Timed};
use portcullis_recording::limits::{EVENT_PAYLOAD_BYTES_MAX, TIME_MS_MAX};
use serde_json::Value;

use crate::failure::{Exit, Failure};
use crate::grid::SIZE_DEFAULT;
use crate::plain;

/// Bytes of a file that is imported; it is held in memory.
const IMPORT_BYTES_MAX: u64 = 512 << 20;
/// Bytes of events that are handed on together.
const CHUNK_BYTES: usize = 256 << 10;
/// Characters of a title.
const TITLE_CHARS_MAX: usize = 200;
/// The channel everything is on.
const CHANNEL: u32 = 1;
/// Bytes before the data of a ttyrec frame: seconds, microseconds, length.
const TTYREC_HEADER_BYTES: usize = 12;
/// Bytes of the first frame in which a ttyrec tells its size.
const TTYREC_LOOK_BYTES: usize = 4096;

/// What a file of another tool was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// asciicast v2.
    AsciicastV2,
    /// asciicast v3.
    AsciicastV3,
    /// ttyrec.
    Ttyrec,
}

impl Format {
    /// With its article.
    pub fn name(self) -> &'static str {
        match self {
            Format::AsciicastV2 => "an asciicast v2",
            Format::AsciicastV3 => "an asciicast v3",
            Format::Ttyrec => "a ttyrec",
        }
    }
}

/// A file of another tool as events.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What it was.
    pub format: Format,
    /// What it calls itself, safe to show.
    pub title: String,
    /// When it says it began.
    pub opened_wall_ms: u64,
    /// Its events, some at a time.
    pub chunks: Vec<Vec<Timed<'static>>>,
}

/// Reads a file if it looks like one of those. What is named as a recording, or begins like one, is none.
pub fn read(path: &Path) -> Result<Option<Imported>, Failure> {
    let shown = path.display().to_string();
    let failed = |e: std::io::Error| Failure::io(&shown, &e);
    if path.extension().is_some_and(|e| e == "pcr") {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut begin = Vec::new();
    (&mut file)
        .take(TTYREC_HEADER_BYTES as u64)
        .read_to_end(&mut begin)
        .map_err(failed)?;
    if !is_cast(&begin) && ttyrec_header(&begin).is_none() {
        return Ok(None);
    }
    if fs::metadata(path).map_err(failed)?.len() > IMPORT_BYTES_MAX {
        let why = format!(
            "{shown}: files of other tools are read up to {} MiB",
            IMPORT_BYTES_MAX >> 20
        );
        return Err(Failure::new(Exit::Failed, why).hint("cut it into parts first"));
    }
    let mut bytes = begin;
    file.take(IMPORT_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes).map_err(|why| {
        Failure::new(Exit::Invalid, format!("{shown}: {why}"))
            .hint("asciicast v2 and v3 are read; convert others with the tool that made them")
    })
}

/// The same from bytes. `None` if they are of none of those formats; an error, with its line, if they begin like an
/// asciicast and are none.
pub fn parse(bytes: &[u8]) -> Result<Option<Imported>, String> {
    if is_cast(bytes) {
        return asciicast(bytes).map(Some);
    }
    Ok(ttyrec(bytes))
}

fn is_cast(begin: &[u8]) -> bool {
    begin.trim_ascii_start().first() == Some(&b'{')
}

/// Events put together, in order and with bounds.
struct Reel {
    last_ms: u64,
    bytes: usize,
    chunks: Vec<Vec<Timed<'static>>>,
    open: Vec<Timed<'static>>,
}

impl Reel {
    fn new(cols: u32, rows: u32) -> Reel {
        let mut reel = Reel {
            last_ms: 0,
            bytes: 0,
            chunks: Vec::new(),
            open: Vec::new(),
        };
        reel.push(0, size(cols, rows), 0);
        reel
    }

    fn push(&mut self, at_ms: u64, event: Event<'static>, bytes: usize) {
        self.last_ms = self.last_ms.max(at_ms.min(TIME_MS_MAX));
        self.bytes += bytes;
        self.open.push(Timed {
            at_ms: self.last_ms,
            channel: CHANNEL,
            event,
        });
        if self.bytes > CHUNK_BYTES {
            self.bytes = 0;
            self.chunks.push(std::mem::take(&mut self.open));
        }
    }

    fn output(&mut self, at_ms: u64, bytes: &[u8]) {
        for part in bytes.chunks(EVENT_PAYLOAD_BYTES_MAX) {
            self.push(at_ms, Event::Output(part.to_vec().into()), part.len());
        }
    }

    fn finish(mut self) -> Vec<Vec<Timed<'static>>> {
        if !self.open.is_empty() {
            self.chunks.push(self.open);
        }
        self.chunks
    }
}

fn size(cols: u32, rows: u32) -> Event<'static> {
    Event::Resize {
        cols,
        rows,
        px_width: 0,
        px_height: 0,
    }
}

fn millis(secs: f64) -> Option<u64> {
    let ms = secs * 1000.0;
    (0.0..=TIME_MS_MAX as f64).contains(&ms).then_some(ms.round() as u64)
}

fn asciicast(bytes: &[u8]) -> Result<Imported, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().enumerate();
    let (_, first) = lines.next().unwrap_or_default();
    let header: Value = serde_json::from_str(first).map_err(|e| format!("line 1 is no asciicast header: {e}"))?;
    let at = |path: &str| header.pointer(path);
    let number = |path: &str| at(path).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let format = match at("/version").and_then(Value::as_u64) {
        Some(2) => Format::AsciicastV2,
        Some(3) => Format::AsciicastV3,
        _ => return Err("line 1 is no header of asciicast v2 or v3".to_owned()),
    };
    let (cols, rows) = match format {
        Format::AsciicastV3 => (number("/term/cols"), number("/term/rows")),
        Format::AsciicastV2 | Format::Ttyrec => (number("/width"), number("/height")),
    };
    let mut reel = Reel::new(cols.unwrap_or(SIZE_DEFAULT.0), rows.unwrap_or(SIZE_DEFAULT.1));
    let mut clock_ms = 0u64;
    let mut torn = None;
    for (number, line) in lines {
        if let Some(why) = torn {
            return Err(why);
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (secs, code, data) = match serde_json::from_str::<(f64, String, String)>(line) {
            Ok(event) => event,
            // A recorder that was killed leaves half a line behind, as the last one.
            Err(e) => {
                torn = Some(format!("line {} is no event: {e}", number + 1));
                continue;
            }
        };
        let ms = millis(secs).ok_or_else(|| format!("line {}: no time: {secs}", number + 1))?;
        clock_ms = match format {
            Format::AsciicastV3 => clock_ms.saturating_add(ms).min(TIME_MS_MAX),
            Format::AsciicastV2 | Format::Ttyrec => ms,
        };
        match code.as_str() {
            "o" => reel.output(clock_ms, data.as_bytes()),
            "i" => reel.push(clock_ms, Event::Input(data.as_bytes().to_vec().into()), data.len()),
            "m" => reel.push(clock_ms, Event::Marker { text: data.into() }, 0),
            "r" => {
                let size_of = data
                    .split_once('x')
                    .and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                if let Some((cols, rows)) = size_of {
                    reel.push(clock_ms, size(cols, rows), 0);
                }
            }
            "x" => {
                if let Ok(status) = data.parse() {
                    reel.push(clock_ms, Event::ExitStatus(status), 0);
                }
            }
            // The formats say that unknown ones are to be passed over.
            _ => {}
        }
    }
    let title = at("/title").and_then(Value::as_str).unwrap_or_default();
    Ok(Imported {
        format,
        title: plain::bytes(title.as_bytes(), TITLE_CHARS_MAX),
        opened_wall_ms: at("/timestamp")
            .and_then(Value::as_u64)
            .unwrap_or(0)
            .saturating_mul(1000),
        chunks: reel.finish(),
    })
}

/// Time in ms since 1970, and length of the data behind it.
fn ttyrec_header(bytes: &[u8]) -> Option<(u64, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (secs, micros, len) = (word(0)?, word(4)?, word(8)?);
    (micros < 1_000_000).then_some((u64::from(secs) * 1000 + u64::from(micros) / 1000, len as usize))
}

/// `None` if it is none. A torn last frame is left out.
fn ttyrec(bytes: &[u8]) -> Option<Imported> {
    let (opened_wall_ms, len) = ttyrec_header(bytes)?;
    let first = bytes.get(TTYREC_HEADER_BYTES..TTYREC_HEADER_BYTES.checked_add(len)?)?;
    let (cols, rows) = ttyrec_size(first).unwrap_or(SIZE_DEFAULT);
    let mut reel = Reel::new(cols, rows);
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((at_ms, len)) = ttyrec_header(rest) else {
            if rest.len() < TTYREC_HEADER_BYTES {
                break;
            }
            return None;
        };
        let Some(data) = rest.get(TTYREC_HEADER_BYTES..TTYREC_HEADER_BYTES.checked_add(len)?) else {
            break;
        };
        reel.output(at_ms.saturating_sub(opened_wall_ms), data);
        rest = rest.get(TTYREC_HEADER_BYTES + len..).unwrap_or_default();
    }
    Some(Imported {
        format: Format::Ttyrec,
        title: String::new(),
        opened_wall_ms,
        chunks: reel.finish(),
    })
}

/// Recorders that want their size known begin with the request for it, `CSI 8 ; rows ; cols t`.
fn ttyrec_size(first: &[u8]) -> Option<(u32, u32)> {
    let text = String::from_utf8_lossy(first.get(..TTYREC_LOOK_BYTES).unwrap_or(first)).into_owned();
    let (_, rest) = text.split_once("\u{1b}[8;")?;
    let (numbers, _) = rest.split_once('t')?;
    let (rows, cols) = numbers.split_once(';')?;
    Some((cols.parse().ok()?, rows.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(imported: &Imported) -> Vec<(u64, Event<'static>)> {
        imported
            .chunks
            .iter()
            .flatten()
            .map(|t| (t.at_ms, t.event.clone()))
            .collect()
    }

    #[test]
    fn asciicasts_of_both_versions_say_the_same() {
        let v2 = "{\"version\":2,\"width\":40,\"height\":10,\"timestamp\":7,\"title\":\"t\\u001b\"}\n\
                  [0.5,\"o\",\"a\\u001b[1m\"]\n[1.25,\"i\",\"x\"]\n[1.25,\"m\",\"here\"]\n[2,\"r\",\"50x20\"]\n[3,\"?\",\"\"]\n[4,\"o\",\"cut";
        let v3 = "{\"version\":3,\"term\":{\"cols\":40,\"rows\":10},\"timestamp\":7,\"title\":\"t\\u001b\"}\n# said\n\
                  [0.5,\"o\",\"a\\u001b[1m\"]\n[0.75,\"i\",\"x\"]\n[0,\"m\",\"here\"]\n[0.75,\"r\",\"50x20\"]\n";
        let (v2, v3) = (asciicast(v2.as_bytes()).unwrap(), asciicast(v3.as_bytes()).unwrap());
        assert_eq!(all(&v2), all(&v3));
        assert_eq!(all(&v2).len(), 5);
        assert_eq!(all(&v2)[4], (2000, size(50, 20)));
        assert_eq!((v2.title.as_str(), v2.opened_wall_ms), ("t\u{FFFD}", 7000));
    }

    #[test]
    fn what_is_no_asciicast_is_refused_with_its_line() {
        for (text, why) in [
            ("{\"version\":1}", "line 1"),
            ("{", "line 1"),
            ("{\"version\":2}\n[-1,\"o\",\"\"]", "line 2"),
            ("{\"version\":2}\n[1e300,\"o\",\"\"]", "line 2"),
            ("{\"version\":2}\nx\n[1,\"o\",\"\"]", "line 2"),
            ("{\"version\":3}\n7\n[1,\"o\",\"\"]", "line 2"),
        ] {
            let error = asciicast(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn ttyrecs_are_read_up_to_the_torn_end() {
        let frame = |secs: u32, micros: u32, data: &[u8]| {
            let head = [secs, micros, data.len() as u32].map(u32::to_le_bytes).concat();
            [&head, data].concat()
        };
        let whole = [frame(100, 500_000, b"\x1b[8;30;100tab"), frame(101, 0, b"c")].concat();
        for bytes in [
            whole.clone(),
            [whole.clone(), vec![1; 7]].concat(),
            [&whole, &frame(102, 0, b"dd")[..13]].concat(),
        ] {
            let imported = ttyrec(&bytes).unwrap();
            assert_eq!(imported.opened_wall_ms, 100_500);
            let events = all(&imported);
            assert_eq!(events[0], (0, size(100, 30)));
            assert_eq!(events[2], (500, Event::Output(b"c".to_vec().into())));
            assert_eq!(events.len(), 3);
        }
        assert_eq!(ttyrec(&[&whole[..], &[0xFF; 20]].concat()), None);
        assert_eq!(ttyrec(b"short"), None);
    }
}
