//! What the server may know of a recording that it cannot read: numbers, and
//! the labels of its own policies.

use std::collections::BTreeMap;

use portcullis_recording::Event;
use portcullis_recording::moved::{Act, Outcome};
use serde::{Deserialize, Serialize};

/// Counters of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Commands that were told, those of the protocol among them.
    pub commands: u64,
    /// How many of them have each label.
    pub labels: BTreeMap<String, u64>,
    /// Findings of lines that were run and not shown.
    pub hidden_commands: u64,
    /// Terminals whose commands were not read, because too many were open.
    #[serde(default)]
    pub unread_terminals: u64,
    /// Lines of input that were not echoed.
    pub hidden_lines: u64,
    /// Files from the target.
    pub downloads: Files,
    /// Files to the target.
    pub uploads: Files,
    /// Files renamed, removed or changed.
    pub changes: u64,
    /// Requests that policy refused.
    pub denials: u64,
}

/// Files that moved one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// How many.
    pub files: u64,
    /// Their bytes, as far as they crossed.
    pub bytes: u64,
}

impl Tally {
    /// Counts an event.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events are not counted")]
    pub fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::HiddenInput { .. } => add(&mut self.hidden_lines, 1),
            Event::Decision { allowed: false, .. } => add(&mut self.denials, 1),
            Event::File(moved) if moved.outcome != Outcome::Refused => match moved.act {
                Act::Download => self.downloads.add(moved.bytes),
                Act::Upload => self.uploads.add(moved.bytes),
                Act::Rename
                | Act::Remove
                | Act::MakeDir
                | Act::RemoveDir
                | Act::Symlink
                | Act::Hardlink
                | Act::SetAttributes
                | Act::Copy => add(&mut self.changes, 1),
                Act::List | Act::Lost => {}
            },
            _ => {}
        }
    }

    /// Counts a command.
    pub fn command<'l>(&mut self, labels: impl Iterator<Item = &'l str>) {
        add(&mut self.commands, 1);
        for label in labels {
            add(self.labels.entry(label.to_owned()).or_default(), 1);
        }
    }

    /// Counts those that were counted elsewhere.
    pub fn add_commands(&mut self, other: &Tally) {
        add(&mut self.commands, other.commands);
        add(&mut self.hidden_commands, other.hidden_commands);
        add(&mut self.unread_terminals, other.unread_terminals);
        for (label, count) in &other.labels {
            add(self.labels.entry(label.clone()).or_default(), *count);
        }
    }

    /// Counts lines that were run and not shown.
    pub fn hidden_command(&mut self) {
        add(&mut self.hidden_commands, 1);
    }

    /// Counts a terminal whose commands are not read.
    pub fn unread_terminal(&mut self) {
        add(&mut self.unread_terminals, 1);
    }
}

impl Files {
    fn add(&mut self, bytes: u64) {
        add(&mut self.files, 1);
        add(&mut self.bytes, bytes);
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}
