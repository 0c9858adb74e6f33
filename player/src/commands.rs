//! Commands that were read, in words that are safe to show.

use portcullis_recording::command::{Command, Source};
use serde::Serialize;

use crate::plain;

/// Characters of a text that are shown.
const TEXT_CHARS_MAX: usize = 16 << 10;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Who told the text: `protocol`, `hook`, `screen`, `keys`; `hidden` if nobody could.
    pub source: &'static str,
    /// How far it can be relied on: `exact`, `high` or `medium`.
    pub confidence: &'static str,
    /// When it began, in ms since the session opened.
    pub began_ms: u64,
    /// When the last of its output came, in ms since the session opened.
    pub ended_ms: u64,
    /// The command.
    pub command: String,
    /// What else was read, where that differs.
    pub other: Option<String>,
    /// What read it.
    pub context: String,
    /// Working directory, where it is known.
    pub directory: Option<String>,
    /// Exit status, where it is known.
    pub status: Option<u32>,
    /// What it is about.
    pub labels: Vec<String>,
}

impl From<&Command<'_>> for Row {
    fn from(command: &Command<'_>) -> Row {
        let said = |text: &str| (!text.is_empty()).then(|| shown(text));
        Row {
            source: command.source.as_str(),
            confidence: command.confidence.as_str(),
            began_ms: command.began_ms,
            ended_ms: command.ended_ms,
            command: shown(&command.text),
            other: said(&command.other),
            context: shown(&command.context),
            directory: said(&command.directory),
            status: command.status,
            labels: command.labels.iter().map(|label| shown(label)).collect(),
        }
    }
}

fn shown(text: &str) -> String {
    plain::bytes(text.as_bytes(), TEXT_CHARS_MAX)
}

/// The same in one line: the command first.
pub fn words(command: &Command<'_>) -> String {
    let row = Row::from(command);
    let mut said = match command.source {
        Source::Hidden => "lines were run that the terminal did not show".to_owned(),
        Source::Protocol | Source::Hook | Source::Screen | Source::Keys => row.command.clone(),
    };
    said += &format!("  ({})", about(&row).join(", "));
    said
}

/// What is known about a command, in short words.
pub fn about(row: &Row) -> Vec<String> {
    let mut about = vec![row.context.clone(), row.confidence.to_owned(), row.source.to_owned()];
    about.retain(|word| !word.is_empty());
    if let Some(directory) = &row.directory {
        about.push(format!("in {directory}"));
    }
    if let Some(status) = row.status {
        about.push(format!("status {status}"));
    }
    if !row.labels.is_empty() {
        about.push(row.labels.join(" "));
    }
    if let Some(other) = &row.other {
        about.push(format!("or: {other}"));
    }
    about
}
