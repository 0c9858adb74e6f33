//! asciicast v2 and v3: newline-delimited JSON that other players and tools read.

use std::io::Write;

use portcullis_recording::event::Event;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, write_failed};
use crate::grid::{SIZE_DEFAULT, clamp};
use crate::plain::{self, Utf8};
use crate::source::Cursor;
use crate::text;

/// Chunks looked through for the terminal's first size.
const LOOK_CHUNKS_MAX: usize = 16;

/// Remarks that become no marker.
const QUIET: [&str; 6] = ["channel", "decision", "closed", text::DIGEST, text::FILE, text::COMMAND];

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Times from the start.
    V2,
    /// Times from the event before, and exit events.
    V3,
}

/// What to export, and what the header says about it.
#[derive(Debug, Clone)]
pub struct Export {
    /// Format.
    pub version: Version,
    /// The channel.
    pub channel: u32,
    /// What was typed as well.
    pub input: bool,
    /// The verdict on the recording this came from, in words: an asciicast proves nothing by itself.
    pub verdict: String,
    /// The session in hexadecimal.
    pub session: String,
    /// A title.
    pub title: String,
    /// When the session opened, seconds since 1970.
    pub opened_secs: u64,
}

/// What the export left out or changed; for the person who asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Lines after the header.
    pub events: u64,
    /// Standard error is among the output.
    pub stderr_merged: bool,
    /// A size was not one that players take.
    pub size_clamped: bool,
}

/// Writes a recording as asciicast. The cursor must be at the start.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other events become markers or nothing, by `text::remark`"
)]
pub fn write(cursor: &mut Cursor, export: &Export, out: &mut dyn Write) -> Result<Told, Failure> {
    let size = first_size(cursor, export.channel)?;
    let mut sheet = Sheet {
        out,
        version: export.version,
        before_ms: 0,
        told: Told::default(),
    };
    sheet.header(export, size)?;
    let (mut outs, mut errs, mut ins) = (Utf8::default(), Utf8::default(), Utf8::default());
    let (mut sized, mut exit, mut last_ms) = (size, None, 0);
    while let Some(timed) = cursor.next_event()? {
        last_ms = timed.at_ms;
        if timed.channel != 0 && timed.channel != export.channel {
            continue;
        }
        match &timed.event {
            Event::Output(bytes) => sheet.line(last_ms, "o", &outs.push(bytes))?,
            Event::Stderr(bytes) => {
                if !std::mem::replace(&mut sheet.told.stderr_merged, true) {
                    sheet.line(last_ms, "m", "standard error from here on is among the output")?;
                }
                sheet.line(last_ms, "o", &errs.push(bytes))?;
            }
            Event::Input(bytes) if export.input => sheet.line(last_ms, "i", &ins.push(bytes))?,
            Event::HiddenInput { .. } | Event::HiddenLine { .. } if !export.input => {}
            Event::Resize { cols, rows, .. } => {
                let now = sheet.clamp(*cols, *rows);
                if now != sized {
                    sized = now;
                    sheet.line(last_ms, "r", &format!("{}x{}", now.0, now.1))?;
                }
            }
            event => {
                if let Event::ExitStatus(status) = event {
                    exit = Some(*status);
                }
                // Players stop at markers: what belongs to the machinery is left to `text`.
                if let Some((kind, words)) = text::remark(event).filter(|(kind, _)| !QUIET.contains(kind)) {
                    sheet.line(last_ms, "m", &format!("{kind}: {words}"))?;
                }
            }
        }
    }
    for rest in [outs.finish(), errs.finish()] {
        sheet.line(last_ms, "o", rest)?;
    }
    if let (Version::V3, Some(status)) = (export.version, exit) {
        sheet.line(last_ms, "x", &status.to_string())?;
    }
    Ok(sheet.told)
}

/// The size the terminal has before it shows anything.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other events have no size")]
fn first_size(cursor: &mut Cursor, channel: u32) -> Result<(u32, u32), Failure> {
    let mut size = SIZE_DEFAULT;
    while cursor.chunk() < LOOK_CHUNKS_MAX {
        let Some(timed) = cursor.next_event()? else {
            break;
        };
        if timed.channel != channel {
            continue;
        }
        match timed.event {
            Event::Resize { cols, rows, .. } | Event::Keyframe { cols, rows, .. } => {
                size = (cols, rows);
                break;
            }
            Event::Output(_) => break,
            _ => {}
        }
    }
    cursor.rewind_to(0);
    Ok(clamp(size.0, size.1))
}

struct Sheet<'o> {
    out: &'o mut dyn Write,
    version: Version,
    before_ms: u64,
    told: Told,
}

impl Sheet<'_> {
    fn header(&mut self, export: &Export, (cols, rows): (u32, u32)) -> Result<(), Failure> {
        let mut header = Map::new();
        let mut put = |key: &str, value: Value| header.insert(key.to_owned(), value);
        match self.version {
            Version::V2 => {
                put("version", json!(2));
                put("width", json!(cols));
                put("height", json!(rows));
            }
            Version::V3 => {
                put("version", json!(3));
                put("term", json!({ "cols": cols, "rows": rows }));
                let word = export.verdict.split([' ', ',']).next().unwrap_or_default();
                put("tags", json!(["portcullis", format!("verdict:{word}")]));
            }
        }
        put("timestamp", json!(export.opened_secs));
        put("title", json!(export.title));
        put(
            "env",
            json!({ "PORTCULLIS_VERDICT": export.verdict, "PORTCULLIS_SESSION": export.session }),
        );
        self.json(&Value::Object(header).to_string())
    }

    fn clamp(&mut self, cols: u32, rows: u32) -> (u32, u32) {
        let now = clamp(cols, rows);
        self.told.size_clamped |= now != (cols, rows);
        now
    }

    /// One event; an empty one says nothing.
    fn line(&mut self, at_ms: u64, code: &str, data: &str) -> Result<(), Failure> {
        if data.is_empty() {
            return Ok(());
        }
        let ms = match self.version {
            Version::V2 => at_ms,
            Version::V3 => at_ms.saturating_sub(self.before_ms),
        };
        self.before_ms = at_ms;
        self.told.events += 1;
        let data = Value::from(data);
        self.json(&format!("[{}.{:03}, \"{code}\", {data}]", ms / 1000, ms % 1000))
    }

    fn json(&mut self, json: &str) -> Result<(), Failure> {
        writeln!(self.out, "{}", plain::json(json)).map_err(write_failed)
    }
}
