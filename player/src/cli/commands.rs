//! `commands`: what was run, as far as the protocol, a shell or the screen told it.

use clap::Args;
use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::Event;
use portcullis_recording::limits::COMMAND_TEXT_BYTES_MAX;
use serde::Serialize;

use super::{Shown, finish, put, put_json, say, stdout};
use crate::asked::Requests;
use crate::channels::Channels;
use crate::commands::{Row, more, text};
use crate::failure::{Exit, Failure};
use crate::plain;
use crate::times;

/// Requests that may wait for what became of them.
const ASKED_MAX: usize = 4096;

/// `commands FILE`.
#[derive(Args, Debug)]
pub struct Commands {
    #[command(flatten)]
    shown: Shown,
}

/// One command, or a request for one.
#[derive(Debug, Serialize)]
struct Line {
    at_ms: u64,
    at: String,
    channel: u32,
    /// Whether policy let it run; missing if that was never decided.
    allowed: Option<bool>,
    /// The rule that decided, where that was about this very command.
    rule: Option<String>,
    #[serde(flatten)]
    row: Row,
}

/// A request that nothing was told of yet.
struct Asked {
    channel: u32,
    command: Command<'static>,
    allowed: Option<bool>,
    rule: Option<String>,
}

/// Where lines go.
struct Printer<W> {
    out: W,
    json: bool,
    opened_wall_ms: u64,
}

impl Commands {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are neither commands nor requests"
    )]
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let mut printer = Printer {
            out: stdout(),
            json,
            opened_wall_ms: opened.opened_wall_ms,
        };
        let mut channels = Channels::default();
        // Requests of different channels come between each other, and what ran is told when it has ended.
        let mut asked: Vec<Asked> = Vec::new();
        let mut requests = Requests::default();
        let mut told = false;
        while let Some(timed) = opened.cursor.next_event()? {
            channels.note(&timed);
            let channel = timed.channel;
            let refused = requests.take(&timed);
            match &timed.event {
                Event::Decision { action, rule, .. } if action == "command" => {
                    let line = refused.map(|line| Command {
                        source: Source::Screen,
                        confidence: Confidence::High,
                        ..request(line.at_ms, action, line.text.as_bytes())
                    });
                    if let Some(line) = line {
                        printer.line(channel, &line, Some(false), Some(plain::line(rule)))?;
                    }
                }
                Event::Command(command) => {
                    told = true;
                    let request = (command.source == Source::Protocol)
                        .then(|| asked.iter().position(|asked| asked.channel == channel))
                        .flatten()
                        .map(|at| asked.remove(at));
                    let rule = request.and_then(|asked| asked.rule);
                    printer.line(channel, command, Some(true), rule)?;
                }
                Event::Request { kind, detail, .. } if matches!(kind.as_ref(), "exec" | "subsystem") => {
                    if asked.len() >= ASKED_MAX {
                        let first = asked.remove(0);
                        printer.asked(&first)?;
                    }
                    asked.push(Asked {
                        channel,
                        command: request(timed.at_ms, kind, detail),
                        allowed: None,
                        rule: None,
                    });
                }
                Event::Decision {
                    action, allowed, rule, ..
                } => {
                    let at = asked.iter().position(|asked| {
                        asked.channel == channel && asked.allowed.is_none() && asked.command.context == *action
                    });
                    let Some(one) = at.and_then(|at| asked.get_mut(at)) else {
                        continue;
                    };
                    (one.allowed, one.rule) = (Some(*allowed), Some(plain::line(rule)));
                    if !allowed && let Some(at) = at {
                        printer.asked(&asked.remove(at))?;
                    }
                }
                _ => {}
            }
        }
        asked.iter().try_for_each(|asked| printer.asked(asked))?;
        finish(printer.out)?;
        if !told && channels.terminals().next().is_some() {
            say("nothing is told of what was typed in terminals: read them with `text`");
        }
        Ok(Exit::Ok)
    }
}

impl<W: std::io::Write> Printer<W> {
    fn line(
        &mut self,
        channel: u32,
        command: &Command<'_>,
        allowed: Option<bool>,
        rule: Option<String>,
    ) -> Result<(), Failure> {
        let row = Row::from(command);
        let at = times::utc(self.opened_wall_ms.saturating_add(command.began_ms));
        if self.json {
            let line = Line {
                at_ms: command.began_ms,
                at,
                channel,
                allowed,
                rule,
                row,
            };
            return put_json(&mut self.out, &line);
        }
        let word = match allowed {
            Some(true) => "",
            Some(false) => "  (refused)",
            None => "  (undecided)",
        };
        let known = match more(&row) {
            known if known.is_empty() => String::new(),
            known => format!("  ({})", known.join(", ")),
        };
        let (confidence, context) = (row.confidence, &row.context);
        let text = text(command);
        let line = format!("{at}  [{channel}]  {confidence:<6}  {context:<9}  {text}{word}{known}");
        put(&mut self.out, &line)
    }

    /// A request of which no more is known.
    fn asked(&mut self, asked: &Asked) -> Result<(), Failure> {
        self.line(asked.channel, &asked.command, asked.allowed, asked.rule.clone())
    }
}

fn request(at_ms: u64, kind: &str, detail: &[u8]) -> Command<'static> {
    let head = detail.get(..COMMAND_TEXT_BYTES_MAX).unwrap_or(detail);
    Command {
        source: Source::Protocol,
        confidence: Confidence::Exact,
        began_ms: at_ms,
        ended_ms: at_ms,
        text: String::from_utf8_lossy(head).into_owned().into(),
        other: "".into(),
        context: kind.to_owned().into(),
        directory: "".into(),
        status: None,
        labels: Vec::new(),
    }
}
