//! `commands`: what was asked to be run, exactly as it was asked.

use clap::Args;
use portcullis_recording::event::Event;
use serde::Serialize;

use super::{Shown, finish, put, put_json, say, stdout};
use crate::channels::Channels;
use crate::failure::{Exit, Failure};
use crate::plain;
use crate::times;

/// Characters of a command that are printed.
const COMMAND_CHARS_MAX: usize = 64 << 10;

/// `commands FILE`.
#[derive(Args, Debug)]
pub struct Commands {
    #[command(flatten)]
    shown: Shown,
}

/// One request.
#[derive(Debug, Serialize)]
struct Row {
    at_ms: u64,
    at: String,
    channel: u32,
    kind: &'static str,
    command: String,
    /// What policy said; missing if the recording ends before it.
    allowed: Option<bool>,
    rule: Option<String>,
}

impl Commands {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are no requests")]
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let opened_wall_ms = opened.opened_wall_ms;
        let mut out = stdout();
        let mut channels = Channels::default();
        // A decision follows its request; requests of different channels may come between.
        let mut asked: Vec<Row> = Vec::new();
        let print = |out: &mut dyn std::io::Write, row: &Row| {
            if json {
                return put_json(out, row);
            }
            let word = match row.allowed {
                Some(true) => "",
                Some(false) => "  (refused)",
                None => "  (undecided)",
            };
            put(
                out,
                &format!("{}  [{}]  {:<9}  {}{word}", row.at, row.channel, row.kind, row.command),
            )
        };
        while let Some(timed) = opened.cursor.next_event()? {
            channels.note(&timed);
            match &timed.event {
                Event::Request { kind, detail, .. } => {
                    let kind = match kind.as_ref() {
                        "exec" => "exec",
                        "subsystem" => "subsystem",
                        _ => continue,
                    };
                    asked.push(Row {
                        at_ms: timed.at_ms,
                        at: times::utc(opened_wall_ms.saturating_add(timed.at_ms)),
                        channel: timed.channel,
                        kind,
                        command: plain::bytes(detail, COMMAND_CHARS_MAX),
                        allowed: None,
                        rule: None,
                    });
                }
                Event::Decision {
                    action, allowed, rule, ..
                } => {
                    let at = asked
                        .iter()
                        .position(|row| row.channel == timed.channel && row.kind == action.as_ref());
                    if let Some(at) = at {
                        let mut row = asked.remove(at);
                        row.allowed = Some(*allowed);
                        row.rule = Some(plain::line(rule));
                        print(&mut out, &row)?;
                    }
                }
                _ => {}
            }
        }
        asked.iter().try_for_each(|row| print(&mut out, row))?;
        finish(out)?;
        if channels.terminals().next().is_some() {
            say("commands typed in a terminal are not listed yet: read them with `text`");
        }
        Ok(Exit::Ok)
    }
}
