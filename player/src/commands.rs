//! Commands that were read, in words that are safe to show.

use portcullis_recording::command::{Command, Source};
use serde::Serialize;

use crate::plain;

/// Stands between the lines of a command where it is shown in one.
const LINE_ENDS: &str = "␊";

/// One command. Its texts are safe to show, but for the line breaks between the lines of a command.
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
        let said = |text: &str| (!text.is_empty()).then(|| lines(text));
        Row {
            source: command.source.as_str(),
            confidence: command.confidence.as_str(),
            began_ms: command.began_ms,
            ended_ms: command.ended_ms,
            command: lines(&command.text),
            other: said(&command.other),
            context: plain::line(&command.context),
            directory: said(&command.directory),
            status: command.status,
            labels: command.labels.iter().map(|label| plain::line(label)).collect(),
        }
    }
}

fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(plain::line).collect();
    lines.join("\n")
}

/// A text of a [`Row`] in one line.
pub fn one_line(text: &str) -> String {
    text.replace('\n', LINE_ENDS)
}

/// The command in one line, or what there is to say in place of it.
pub fn text(command: &Command<'_>) -> String {
    match command.source {
        Source::Hidden => "(lines were run that the terminal did not show)".to_owned(),
        Source::Protocol | Source::Hook | Source::Screen | Source::Keys => one_line(&lines(&command.text)),
    }
}

/// What is known about it beside its text, in short words.
pub fn about(row: &Row) -> Vec<String> {
    let mut about = vec![row.context.clone(), format!("{} by {}", row.confidence, row.source)];
    about.retain(|word| !word.is_empty());
    about.extend(more(row));
    about
}

/// The same without what read it and how far that can be relied on.
pub fn more(row: &Row) -> Vec<String> {
    let mut about = Vec::new();
    if let Some(status) = row.status {
        about.push(format!("status {status}"));
    }
    if let Some(directory) = &row.directory {
        about.push(format!("in {}", one_line(directory)));
    }
    if !row.labels.is_empty() {
        about.push(row.labels.join(" "));
    }
    if let Some(other) = &row.other {
        about.push(format!("or: {}", one_line(other)));
    }
    about
}

/// All of it in one line: the command first.
pub fn words(command: &Command<'_>) -> String {
    let row = Row::from(command);
    format!("{}  ({})", text(command), about(&row).join(", "))
}

#[cfg(test)]
mod tests {
    use portcullis_recording::command::Confidence;

    use super::*;

    #[test]
    fn one_line_says_all_of_it_and_nothing_that_steers_a_terminal() {
        let command = Command {
            source: Source::Hook,
            confidence: Confidence::High,
            began_ms: 1,
            ended_ms: 2,
            text: "cat <<x\n\x1b]0;t\x07\nx".into(),
            other: "cat".into(),
            context: "shell".into(),
            directory: "/srv\x1b".into(),
            status: Some(1),
            labels: vec!["exfiltration".into()],
        };
        assert_eq!(
            words(&command),
            "cat <<x␊\u{fffd}]0;t\u{fffd}␊x  (shell, high by hook, status 1, in /srv\u{fffd}, exfiltration, or: cat)"
        );
        assert_eq!(Row::from(&command).command, "cat <<x\n\u{fffd}]0;t\u{fffd}\nx");
        let hidden = Command {
            source: Source::Hidden,
            confidence: Confidence::Medium,
            text: "".into(),
            other: "".into(),
            context: "".into(),
            directory: "".into(),
            status: None,
            labels: Vec::new(),
            ..command
        };
        assert_eq!(
            words(&hidden),
            "(lines were run that the terminal did not show)  (medium by hidden)"
        );
    }
}
