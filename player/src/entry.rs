//! What a search can find in a recording: commands, files, lines of screens and output, and what the recording says of
//! itself. The server's index and the player make them of the same events.

use std::collections::BTreeSet;

use portcullis_recording::Head;
use portcullis_recording::command::{Command, Source};
use portcullis_recording::event::{Event, Timed};
use serde::Serialize;

use crate::asked::{REFUSED, Requests};
use crate::moved;
use crate::plain;
use crate::query::Whose;
use crate::screens::{self, Screens};

/// Bytes of one entry's text; the rest of a longer one is not found.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Bytes of a program's name that count.
const PROGRAM_BYTES_MAX: usize = 64;
/// Things that are named in a recording's own entry.
const NAMED_MAX: usize = 256;

/// The label of [`HIDDEN`].
pub const HIDDEN_LABEL: &str = "hidden_command";
/// What stands for a command that nobody saw.
pub const HIDDEN: &str = "(lines were run that the terminal did not show)";
/// Between the lines of one command.
pub const LINE_END: &str = " ⏎ ";
/// Between a command and what else was read of it.
pub const OR: &str = " ⏎ or: ";

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A command that was run.
    Command,
    /// Something done to a file.
    File,
    /// A line on a screen, or of a command's output.
    Screen,
    /// The session: who, where, from where, under what, and how it ended.
    Session,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Kind; 4] = [Kind::Command, Kind::File, Kind::Screen, Kind::Session];

    /// Its name in queries.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Command => "command",
            Kind::File => "file",
            Kind::Screen => "screen",
            Kind::Session => "session",
        }
    }
}

/// One thing that can be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// When it began, in ms since the session opened: where a player begins to show it.
    pub at_ms: u64,
    /// On which channel; 0 is the connection.
    pub channel: u32,
    /// In one line that is safe to show.
    pub text: String,
    /// A command's exit status, where it is known.
    pub status: Option<u32>,
    /// A command's labels.
    pub labels: Vec<String>,
}

impl Entry {
    /// With nothing known of it but this.
    pub fn new(kind: Kind, at_ms: u64, channel: u32, text: &str) -> Entry {
        let most = text.floor_char_boundary(TEXT_BYTES_MAX);
        Entry {
            kind,
            at_ms,
            channel,
            text: plain::line(text.get(..most).unwrap_or_default()),
            status: None,
            labels: Vec::new(),
        }
    }
}

impl<'h> Whose<'h> {
    /// As the recording's head says.
    pub fn of(head: &'h Head) -> Whose<'h> {
        Whose {
            user: &head.identity,
            target: &head.target,
            opened_wall_ms: head.opened_wall_ms,
        }
    }
}

/// Makes entries of events, in their order.
pub struct Entries {
    screens: Option<Screens>,
    requests: Requests,
    ran: BTreeSet<String>,
    labels: BTreeSet<String>,
    exits: BTreeSet<u32>,
    end: String,
}

impl Entries {
    /// At the first event; with `screens` also lines of screens and output, which takes an emulator.
    pub fn new(screens: bool) -> Entries {
        Entries {
            screens: screens.then(Screens::default),
            requests: Requests::default(),
            ran: BTreeSet::new(),
            labels: BTreeSet::new(),
            exits: BTreeSet::new(),
            end: String::new(),
        }
    }

    /// Stops looking at screens: there are more lines than somebody wants.
    pub fn without_screens(&mut self) {
        self.screens = None;
    }

    /// Takes the next event.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are screens and output, or nothing to look for"
    )]
    pub fn take(&mut self, timed: &Timed<'_>, each: &mut dyn FnMut(Entry)) {
        if let Some(screens) = &mut self.screens {
            screens.take(timed, &mut |at_ms, channel, line| screen(at_ms, channel, line, each));
        }
        let channel = timed.channel;
        if let Some(refused) = self.requests.take(timed) {
            each(Entry {
                labels: vec![REFUSED.to_owned()],
                ..Entry::new(
                    Kind::Command,
                    refused.at_ms,
                    channel,
                    &refused.text.replace('\n', LINE_END),
                )
            });
        }
        match &timed.event {
            Event::File(moved) => {
                let text = moved::words(moved);
                each(Entry::new(Kind::File, moved.began_ms, channel, &text));
            }
            Event::Command(command) => {
                let ran = ran(channel, command);
                for label in &ran.labels {
                    if self.labels.len() < NAMED_MAX {
                        self.labels.insert(label.clone());
                    }
                }
                each(ran);
            }
            Event::ChannelOpen { kind, detail } if kind != "session" => self.name(&format!("{kind} {detail}")),
            Event::Request { kind, detail, .. } => match kind.as_ref() {
                "exec" | "shell" => self.name(kind),
                "subsystem" => self.name(&format!("subsystem {}", String::from_utf8_lossy(detail))),
                _ => {}
            },
            Event::Decision { action, allowed, .. } if !allowed => self.name(&format!("{action} refused")),
            Event::ExitStatus(status) if self.exits.len() < NAMED_MAX => drop(self.exits.insert(*status)),
            Event::End { code, text } => self.end = format!("{code}: {text}"),
            _ => {}
        }
    }

    fn name(&mut self, what: &str) {
        if self.ran.len() < NAMED_MAX {
            self.ran.insert(what.to_owned());
        }
    }

    /// Nothing follows. `known` is what others know of the session, such as its reason.
    pub fn finish(self, head: &Head, known: &str, each: &mut dyn FnMut(Entry)) {
        if let Some(screens) = self.screens {
            screens.finish(&mut |at_ms, channel, line| screen(at_ms, channel, line, each));
        }
        for (channel, exec) in self.requests.finish() {
            each(Entry {
                status: exec.status,
                ..Entry::new(Kind::Command, exec.at_ms, channel, &exec.text)
            });
        }
        let mut text = about(head);
        for part in [known, &join(&self.ran), &self.end] {
            if !part.is_empty() {
                text += "; ";
                text += part;
            }
        }
        if !self.exits.is_empty() {
            text += &format!("; exit {}", join(&self.exits));
        }
        each(Entry {
            labels: self.labels.into_iter().collect(),
            status: match self.exits.len() {
                1 => self.exits.first().copied(),
                _ => None,
            },
            ..Entry::new(Kind::Session, 0, 0, &text)
        });
    }
}

/// What a head says, in one line.
pub fn about(head: &Head) -> String {
    format!(
        "{} as {}@{} from {}, {}, {}, node {}, grant {}, certificate {}, client {}",
        head.identity,
        head.login,
        head.target,
        head.source,
        head.form.as_str(),
        head.kind.as_str(),
        head.node,
        head.grant_id,
        head.cert_key_id,
        head.client_id
    )
}

/// A command as an entry; its lines are joined, and what else was read of it stands behind it.
fn ran(channel: u32, command: &Command<'_>) -> Entry {
    let mut text = match command.source {
        Source::Hidden => HIDDEN.to_owned(),
        Source::Protocol | Source::Hook | Source::Screen | Source::Keys => command.text.replace('\n', LINE_END),
    };
    if !command.other.is_empty() {
        text += OR;
        text += &command.other.replace('\n', LINE_END);
    }
    let labels = command.labels.iter().map(|label| plain::line(label));
    let hidden = (command.source == Source::Hidden).then(|| HIDDEN_LABEL.to_owned());
    Entry {
        status: command.status,
        labels: labels.chain(hidden).collect(),
        ..Entry::new(Kind::Command, command.began_ms, channel, &text)
    }
}

fn join<T: ToString>(all: &BTreeSet<T>) -> String {
    let all: Vec<String> = all.iter().map(T::to_string).collect();
    all.join(", ")
}

fn screen(at_ms: u64, channel: u32, line: &str, each: &mut dyn FnMut(Entry)) {
    if !screens::is_blank(line) {
        each(Entry::new(Kind::Screen, at_ms, channel, line));
    }
}

/// The program of a command: its first word that is no assignment and runs no
/// other, without its path.
pub fn program_of(text: &str) -> Option<&str> {
    let runs_another = ["sudo", "doas", "env", "nohup", "time", "exec", "command"];
    // Options of those whose value is the next word.
    let with_value = ["-u", "-g", "-C", "-D", "-R", "-T", "-U", "-r", "-t"];
    let mut words = text.split_whitespace();
    let mut found = None;
    while let Some(word) = words.next() {
        let name = word.rsplit('/').next().unwrap_or(word);
        if with_value.contains(&word) {
            words.next();
        } else if !word.contains('=') && !word.starts_with('-') && !runs_another.contains(&name) {
            found = Some(name);
            break;
        }
    }
    let found = found.or_else(|| text.split_whitespace().next())?;
    found
        .get(..found.floor_char_boundary(PROGRAM_BYTES_MAX))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_commands() {
        for (text, program) in [
            ("systemctl restart nginx", Some("systemctl")),
            ("sudo -u root /usr/bin/rm -rf /", Some("rm")),
            ("sudo -S id", Some("id")),
            ("env -u HOME A=1 make", Some("make")),
            ("A=1 B=2 make -j4", Some("make")),
            ("/bin/ls", Some("ls")),
            ("sudo", Some("sudo")),
            ("   ", None),
        ] {
            assert_eq!(program_of(text), program, "{text}");
        }
    }
}
