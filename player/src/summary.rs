//! One session on one page: who, where, under what, what was run by label, which files crossed, what was refused, and what
//! was not shown; made of the recording alone. What only a server knows is added to it as [`Known`].

use std::collections::BTreeMap;

use portcullis_recording::Fault;
use portcullis_recording::command::{Confidence, Source};
use portcullis_recording::event::{Event, Timed};
use portcullis_recording::moved::{Act, Moved, Outcome};
use serde::{Deserialize, Serialize};

use crate::asked::{Asked, Requests};
use crate::channels::{Channels, Runs};
use crate::commands;
use crate::entry::{LINE_END, TEXT_BYTES_MAX, program_of};
use crate::moved;
use crate::plain;
use crate::report::{Report, Session};
use crate::source::Cursor;
use crate::times;
use crate::verdict::SCHEMA;

/// Commands, files and refusals that are listed; of more the number is told.
pub const LISTED_MAX: usize = 1_000;
/// Labels that are counted.
const LABELS_MAX: usize = 256;

/// Why not all that was new is known.
const UNREAD: &str = "the server could not read all of this session";

/// A session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Shape of this object.
    pub schema: u32,
    /// What the recording is worth, in words.
    pub verdict: String,
    /// Who, where, when and why it ended, as the signer says.
    pub session: Option<Session>,
    /// What ran on which channel.
    pub channels: Vec<String>,
    /// What was run.
    pub commands: Ran,
    /// Which files crossed.
    pub files: Crossed,
    /// What policy refused.
    pub denials: Vec<Denial>,
    /// Refusals beyond those that are listed.
    pub denials_more: u64,
    /// What was typed and not shown.
    pub hidden: Hidden,
    /// What to look at first, in sentences.
    pub notable: Vec<String>,
    /// What the server knows beside.
    pub known: Option<Known>,
}

/// What was run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// How many.
    pub total: u64,
    /// Of these by how far their text can be relied on.
    pub exact: u64,
    /// The same.
    pub high: u64,
    /// The same.
    pub medium: u64,
    /// How many had another exit status than 0.
    pub failed: u64,
    /// How many have each label.
    pub labels: BTreeMap<String, u64>,
    /// The first of them, in order.
    pub list: Vec<Run>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// On which channel.
    pub channel: u32,
    /// Whether its identity never ran the program, or anything with its label, before; only a server knows.
    pub first: bool,
    /// What is known of it.
    #[serde(flatten)]
    pub row: commands::Row,
}

/// Which files crossed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Crossed {
    /// Files to the target, as far as they came.
    pub uploads: u64,
    /// Their bytes.
    pub upload_bytes: u64,
    /// Files from the target, as far as they came.
    pub downloads: u64,
    /// Their bytes.
    pub download_bytes: u64,
    /// Renamed, removed, linked, made or set.
    pub changes: u64,
    /// What the target said no to, or was not finished.
    pub failed: u64,
    /// What policy said no to.
    pub refused: u64,
    /// The first of them, in order.
    pub list: Vec<File>,
}

impl Crossed {
    /// How many there were.
    pub fn total(&self) -> u64 {
        [self.uploads, self.downloads, self.changes, self.failed, self.refused]
            .iter()
            .sum()
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// When it was asked for.
    pub at_ms: u64,
    /// On which channel.
    pub channel: u32,
    /// In one line.
    pub words: String,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// When.
    pub at_ms: u64,
    /// On which channel.
    pub channel: u32,
    /// What was asked for.
    pub action: String,
    /// The rule that said no.
    pub rule: String,
    /// Its code.
    pub code: String,
    /// The command that was not run, where it was one.
    pub command: Option<String>,
}

/// What was typed and not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hidden {
    /// Lines that were not echoed, such as passwords.
    pub lines: u64,
    /// Times when lines were run that the terminal did not show.
    pub commands: u64,
}

/// What only a server knows of a session. Every text is safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Under what: reason, ticket, who approved and so on; name and value.
    pub facts: Vec<(String, String)>,
    /// 0 to 100.
    pub risk: u64,
    /// What was unusual, in sentences.
    pub unusual: Vec<String>,
    /// How many earlier recordings of the identity are known.
    pub earlier: u64,
    /// Of these, those that the server could not read as a whole, such as encrypted ones: what was done in them may
    /// seem new.
    pub earlier_unread: u64,
    /// Whether the server could look through all of this session for what was new.
    pub firsts_complete: bool,
    /// Labels that were new to it.
    pub first_labels: Vec<String>,
    /// Programs that were new to it.
    pub first_programs: Vec<String>,
}

impl Summary {
    /// Of a recording that may be shown, from its start. `standing` is its verdict in words.
    pub fn read(report: &Report, standing: &str, cursor: &mut Cursor) -> Result<Summary, Fault> {
        let mut summary = Summary {
            schema: SCHEMA,
            verdict: plain::line(standing),
            session: report.session.clone(),
            ..Summary::default()
        };
        let mut channels = Channels::default();
        let mut requests = Requests::default();
        while let Some(timed) = cursor.next_event()? {
            channels.note(&timed);
            let refused = requests.take(&timed);
            summary.take(&timed, refused);
        }
        for (channel, exec) in requests.finish() {
            summary.ran(channel, row(&exec));
        }
        summary.commands.list.sort_by_key(|run| run.row.began_ms);
        summary.channels = channels
            .numbers()
            .filter_map(|number| channel(&channels, number))
            .collect();
        summary.notable = summary.notable(report);
        Ok(summary)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are not counted")]
    fn take(&mut self, timed: &Timed<'_>, refused: Option<Asked>) {
        let (at_ms, channel) = (timed.at_ms, timed.channel);
        match &timed.event {
            Event::Command(command) => self.ran(channel, commands::Row::from(&**command)),
            Event::Decision {
                action,
                allowed: false,
                rule,
                code,
            } => {
                if self.denials.len() < LISTED_MAX {
                    self.denials.push(Denial {
                        at_ms,
                        channel,
                        action: plain::line(action),
                        rule: plain::line(rule),
                        code: plain::line(code),
                        command: refused.map(|asked| plain::line(&asked.text.replace('\n', LINE_END))),
                    });
                } else {
                    self.denials_more += 1;
                }
            }
            Event::HiddenInput { .. } => self.hidden.lines += 1,
            Event::File(moved) => self.files.take(channel, moved),
            _ => {}
        }
    }

    fn ran(&mut self, channel: u32, row: commands::Row) {
        if row.source == Source::Hidden.as_str() {
            self.hidden.commands += 1;
        } else {
            let ran = &mut self.commands;
            ran.total += 1;
            let sure = [
                (Confidence::Exact, &mut ran.exact),
                (Confidence::High, &mut ran.high),
                (Confidence::Medium, &mut ran.medium),
            ];
            for (confidence, count) in sure {
                *count += u64::from(row.confidence == confidence.as_str());
            }
            ran.failed += u64::from(row.status.is_some_and(|status| status != 0));
            for label in &row.labels {
                if ran.labels.len() < LABELS_MAX || ran.labels.contains_key(label) {
                    *ran.labels.entry(label.clone()).or_default() += 1;
                }
            }
        }
        if self.commands.list.len() < LISTED_MAX {
            self.commands.list.push(Run {
                channel,
                first: false,
                row,
            });
        }
    }

    fn notable(&self, report: &Report) -> Vec<String> {
        let mut notable = Vec::new();
        if !matches!(report.word, "SEALED") {
            notable.push(format!("the recording is {}", report.word));
        }
        let count = |n: u64, one: &str, many: &str| match n {
            1 => format!("1 {one}"),
            n => format!("{n} {many}"),
        };
        if self.hidden.commands > 0 {
            let times = count(self.hidden.commands, "time", "times");
            notable.push(format!("{times} lines were run that the terminal did not show"));
        }
        for (label, n) in &self.commands.labels {
            notable.push(format!("{} labelled {label}", count(*n, "command is", "commands are")));
        }
        let denials = self.denials.len() as u64 + self.denials_more;
        if denials > 0 {
            notable.push(format!("policy refused {}", count(denials, "request", "requests")));
        }
        if self.files.refused > 0 {
            let n = count(self.files.refused, "thing", "things");
            notable.push(format!("policy refused {n} to be done to files"));
        }
        notable
    }

    /// Who was where, in a few words.
    pub fn title(&self) -> String {
        match &self.session {
            Some(session) => format!("{} at {}@{}", session.identity, session.login, session.target),
            None => "a session".to_owned(),
        }
    }

    /// Adds what a server knows, and marks what was done for the first time.
    pub fn with(mut self, known: Known) -> Summary {
        for run in &mut self.commands.list {
            let new_program = program_of(&run.row.command).is_some_and(|p| known.first_programs.iter().any(|f| f == p));
            run.first = new_program || run.row.labels.iter().any(|label| known.first_labels.contains(label));
        }
        self.known = Some(known);
        self
    }
}

impl Crossed {
    fn take(&mut self, channel: u32, moved: &Moved<'_>) {
        let count = match (moved.outcome, moved.act) {
            (_, Act::List | Act::Lost) => return,
            (Outcome::Refused, _) => &mut self.refused,
            (Outcome::Done | Outcome::Unfinished, Act::Upload) => {
                self.upload_bytes = self.upload_bytes.saturating_add(moved.bytes);
                &mut self.uploads
            }
            (Outcome::Done | Outcome::Unfinished, Act::Download) => {
                self.download_bytes = self.download_bytes.saturating_add(moved.bytes);
                &mut self.downloads
            }
            (Outcome::Failed | Outcome::Unfinished, _) => &mut self.failed,
            (Outcome::Done, _) => &mut self.changes,
        };
        *count += 1;
        if self.list.len() < LISTED_MAX {
            self.list.push(File {
                at_ms: moved.began_ms,
                channel,
                words: moved::words(moved),
            });
        }
    }
}

/// An exec request that no event of its own told of.
fn row(asked: &Asked) -> commands::Row {
    commands::Row {
        source: Source::Protocol.as_str(),
        confidence: Confidence::Exact.as_str(),
        began_ms: asked.at_ms,
        ended_ms: asked.at_ms,
        command: plain::bytes(asked.text.as_bytes(), TEXT_BYTES_MAX),
        other: None,
        context: "exec".to_owned(),
        directory: None,
        status: asked.status,
        labels: Vec::new(),
    }
}

/// A channel in words.
fn channel(channels: &Channels, number: u32) -> Option<String> {
    let channel = channels.get(number)?;
    let runs = match channel.runs {
        Runs::Unknown => "nothing ran",
        Runs::Shell => "shell",
        Runs::Exec => "exec",
        Runs::Subsystem => "subsystem",
        Runs::Forward => "forward",
    };
    let terminal = if channel.terminal { ", with a terminal" } else { "" };
    let name = match (channel.runs, channel.name.is_empty()) {
        // A command is in the list.
        (Runs::Exec, _) | (_, true) => String::new(),
        (_, false) => format!(" {}", channel.name),
    };
    Some(format!("{number}: {runs}{name}{terminal}"))
}

/// The facts of a summary, name and value, in the order in which they are read.
pub fn facts(summary: &Summary) -> Vec<(String, String)> {
    let mut facts = vec![("verdict".to_owned(), summary.verdict.clone())];
    let mut say = |name: &str, value: String| facts.push((name.to_owned(), value));
    if let Some(session) = &summary.session {
        say("session", session.id.clone());
        say(
            "who",
            format!("{}, certificate {}", session.identity, session.certificate),
        );
        say(
            "where",
            format!("{}@{} by node {}", session.login, session.target, session.node),
        );
        say("from", session.source.clone());
        let length = times::clock(session.length_ms);
        say("when", format!("{} to {}, {length}", session.opened, session.closed));
        say("grant", format!("{} until {}", session.grant, session.grant_until));
    }
    for (name, value) in summary.known.iter().flat_map(|known| &known.facts) {
        say(name, value.clone());
    }
    if let Some((code, why)) = summary
        .session
        .as_ref()
        .and_then(|s| s.reason_code.as_ref().zip(s.reason.as_ref()))
    {
        say("end", format!("{code}: {why}"));
    }
    say("channels", or_none(&summary.channels));
    let ran = &summary.commands;
    let sure = format!("{} exact, {} high, {} medium", ran.exact, ran.high, ran.medium);
    say(
        "commands",
        match ran.total {
            0 => "none".to_owned(),
            n => format!("{n}: {sure}; {} failed", ran.failed),
        },
    );
    let labels: Vec<String> = ran.labels.iter().map(|(label, n)| format!("{label} {n}")).collect();
    say("labels", or_none(&labels));
    let files = &summary.files;
    say(
        "files",
        match files.total() {
            0 => "none".to_owned(),
            _ => format!(
                "{} up ({} bytes), {} down ({} bytes), {} changed, {} failed, {} refused",
                files.uploads,
                files.upload_bytes,
                files.downloads,
                files.download_bytes,
                files.changes,
                files.failed,
                files.refused
            ),
        },
    );
    say(
        "denials",
        (summary.denials.len() as u64 + summary.denials_more).to_string(),
    );
    let hidden = summary.hidden;
    say(
        "hidden input",
        format!("{} lines not shown, {} times run unseen", hidden.lines, hidden.commands),
    );
    if let Some(known) = &summary.known {
        let unusual = or_none(&known.unusual);
        say("risk", format!("{}: {unusual}", known.risk));
        let new: Vec<String> = known
            .first_labels
            .iter()
            .chain(&known.first_programs)
            .cloned()
            .collect();
        let new = match (known.firsts_complete, new.is_empty()) {
            (true, _) => or_none(&new),
            (false, true) => format!("not known: {UNREAD}"),
            (false, false) => format!("{}, perhaps more: {UNREAD}", or_none(&new)),
        };
        let unread = match known.earlier_unread {
            0 => String::new(),
            n => format!(", {n} of them not read by the server: what was done there may seem new"),
        };
        say(
            "first time",
            format!("{new} (of {} earlier sessions{unread})", known.earlier),
        );
    }
    say("look at", or_none(&summary.notable));
    facts
}

fn or_none(all: &[String]) -> String {
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}

/// Lines of what was run, of files and of refusals, under their headings; empty ones are left out.
pub fn lists(summary: &Summary) -> Vec<(String, Vec<[String; 3]>)> {
    let moment = |at_ms: u64, channel: u32| (times::exact(at_ms), format!("[{channel}]"));
    let ran = summary.commands.list.iter().map(|run| {
        let (at, channel) = moment(run.row.began_ms, run.channel);
        let said = match run.row.source == Source::Hidden.as_str() {
            true => crate::entry::HIDDEN.to_owned(),
            false => commands::one_line(&run.row.command),
        };
        let first = if run.first { "  FIRST TIME" } else { "" };
        [
            at,
            channel,
            format!("{said}  ({}){first}", commands::about(&run.row).join(", ")),
        ]
    });
    let files = summary.files.list.iter().map(|file| {
        let (at, channel) = moment(file.at_ms, file.channel);
        [at, channel, file.words.clone()]
    });
    let denials = summary.denials.iter().map(|denial| {
        let (at, channel) = moment(denial.at_ms, denial.channel);
        let command = denial.command.as_ref().map(|text| format!(": {text}"));
        let said = format!("{} refused by {} ({})", denial.action, denial.rule, denial.code);
        [at, channel, said + command.as_deref().unwrap_or_default()]
    });
    let more = |listed: usize, all: u64| match all.saturating_sub(listed as u64) {
        0 => String::new(),
        more => format!(", {more} more not listed"),
    };
    let total = summary.commands.total + summary.hidden.commands;
    let all = [
        (
            format!("Commands{}", more(summary.commands.list.len(), total)),
            ran.collect(),
        ),
        (
            format!("Files{}", more(summary.files.list.len(), summary.files.total())),
            files.collect(),
        ),
        (
            format!("Refused{}", more(0, summary.denials_more)),
            denials.collect::<Vec<_>>(),
        ),
    ];
    all.into_iter()
        .filter(|(_, lines): &(String, Vec<_>)| !lines.is_empty())
        .collect()
}

/// As plain text.
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    for (name, value) in facts(summary) {
        text += &format!("{name:<13} {}\n", plain::line(&value));
    }
    for (heading, lines) in lists(summary) {
        text += &format!("\n{heading}\n");
        for [at, channel, words] in lines {
            text += &format!("  {at}  {channel:<4} {}\n", plain::line(&words));
        }
    }
    text
}
