//! A recording as entries: verified first, and never more of it than the
//! index keeps of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portcullis_player::entry::{Entries, Entry, Kind};
use portcullis_player::source::{Cursor, Source, weight};
use portcullis_player::verdict::{Ask, examine};
use portcullis_recording::Head;
use serde::Deserialize;

use super::{Recorded, Standing};
use crate::kernel::id::SessionId;
use crate::layout::Layout;

/// Entries that are kept of one recording.
pub const ENTRIES_MAX: usize = 100_000;
/// Of these, lines of screens and output.
pub const SCREEN_LINES_MAX: usize = 20_000;
/// Bytes of output of one recording that are drawn for their lines.
pub const SCREEN_BYTES_MAX: usize = 32 << 20;

/// Bytes of what was counted of an encrypted one.
const TALLY_BYTES_MAX: usize = 64 << 10;
/// Labels of one.
const LABELS_MAX: usize = 256;

/// Where recordings lie, and who is trusted to have made them.
#[derive(Clone, Debug)]
pub struct Places {
    pub archive: PathBuf,
    pub trust: PathBuf,
}

impl Places {
    /// Those of a server.
    pub fn of(layout: &Layout) -> Places {
        Places {
            archive: layout.archive(),
            trust: layout.trust(),
        }
    }
}

/// A recording that verifies, and can be gone through.
pub struct Opened {
    pub head: Head,
    pub cursor: Cursor,
}

/// Why a recording is not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unread {
    /// It is encrypted; its head is not.
    Locked(Box<Head>),
    /// It is not there, not readable, or does not verify.
    Bad(String),
}

/// Opens a recording by its name in the archive. Works on files: not within
/// the server's own tasks.
///
/// # Errors
/// Why it is not read.
pub fn open(file: &Path, trust: &Path) -> Result<Opened, Unread> {
    let examined = examine(&Ask {
        file: file.to_owned(),
        trust: Some(trust.to_owned()),
        ..Ask::default()
    })
    .map_err(|failure| Unread::Bad(failure.message))?;
    match (examined.head, examined.source) {
        (Some(head), Some(source @ Source::Verified(_))) if head.is_encrypted() => {
            drop(source);
            Err(Unread::Locked(Box::new(head)))
        }
        (Some(head), Some(source @ Source::Verified(_))) => Ok(Opened {
            head,
            cursor: Cursor::new(source),
        }),
        (_, _) => Err(Unread::Bad(examined.report.verdict)),
    }
}

/// What is known of a session beside its recording.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// Its reason, in words.
    pub words: String,
}

/// What the recorder counted of an encrypted recording, as it lies beside it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counted {
    commands: u64,
    labels: BTreeMap<String, u64>,
    hidden_commands: u64,
    hidden_lines: u64,
    changes: u64,
    denials: u64,
}

impl Counted {
    /// Of the recording in `file`; nothing where it is not there, or not to be read.
    fn beside(file: &Path) -> Counted {
        let mut name = file.as_os_str().to_owned();
        name.push(".tally");
        let bytes = portcullis_player::files::read_bounded(Path::new(&name), TALLY_BYTES_MAX);
        let bytes = bytes.unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn words(&self) -> String {
        format!(
            "{} commands, {} hidden, {} lines not shown, {} changes to files, {} refused",
            self.commands, self.hidden_commands, self.hidden_lines, self.changes, self.denials
        )
    }
}

/// All that the index keeps of one. What cannot be read is told in its
/// standing. Works on files, as [`open`] does.
pub fn read(session: SessionId, file: &Path, trust: &Path, known: &Known) -> (Recorded, Vec<Entry>) {
    match open(file, trust) {
        Ok(opened) => whole(session, opened, known),
        Err(Unread::Locked(head)) => {
            let mut entries = Vec::new();
            let counted = Counted::beside(file);
            let words = [known.words.clone(), counted.words()].join("; ");
            let labels: Vec<String> = counted.labels.into_keys().take(LABELS_MAX).collect();
            Entries::new(false).finish(&head, words.trim_start_matches("; "), &mut |entry| {
                entries.push(Entry {
                    labels: labels.clone(),
                    ..entry
                });
            });
            let closed_ms = head.opened_wall_ms;
            (
                recorded(session, &head, closed_ms, Standing::Locked, String::new()),
                entries,
            )
        }
        Err(Unread::Bad(why)) => {
            let nobody = Head::default();
            (recorded(session, &nobody, 0, Standing::Unread, why), Vec::new())
        }
    }
}

fn whole(session: SessionId, mut opened: Opened, known: &Known) -> (Recorded, Vec<Entry>) {
    let mut kept = Kept::default();
    let mut reading = Entries::new(true);
    let (mut drawn, mut last_ms, mut why) = (0usize, 0, String::new());
    loop {
        match opened.cursor.next_event() {
            Ok(Some(timed)) => {
                drawn = drawn.saturating_add(weight(&timed.event));
                last_ms = timed.at_ms;
                if drawn > SCREEN_BYTES_MAX || kept.lines >= SCREEN_LINES_MAX {
                    reading.without_screens();
                    kept.cut = true;
                }
                reading.take(&timed, &mut |entry| kept.push(entry));
            }
            Ok(None) => break,
            Err(fault) => {
                why = fault.to_string();
                break;
            }
        }
    }
    reading.finish(&opened.head, &known.words, &mut |entry| kept.push(entry));
    let standing = match (kept.cut, why.is_empty()) {
        (false, true) => Standing::Whole,
        (true, true) => {
            why = format!(
                "more than {ENTRIES_MAX} entries, {SCREEN_LINES_MAX} lines or {} MiB of output",
                SCREEN_BYTES_MAX >> 20
            );
            Standing::Part
        }
        (_, false) => Standing::Part,
    };
    let closed_ms = opened.head.opened_wall_ms.saturating_add(last_ms);
    (recorded(session, &opened.head, closed_ms, standing, why), kept.entries)
}

#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    lines: usize,
    cut: bool,
}

impl Kept {
    fn push(&mut self, entry: Entry) {
        let line = entry.kind == Kind::Screen;
        // The session's own entry always fits: it comes last.
        let full = self.entries.len() >= ENTRIES_MAX && entry.kind != Kind::Session;
        if full || line && self.lines >= SCREEN_LINES_MAX {
            self.cut = true;
            return;
        }
        self.lines = self.lines.saturating_add(usize::from(line));
        self.entries.push(entry);
    }
}

fn recorded(session: SessionId, head: &Head, closed_ms: u64, standing: Standing, why: String) -> Recorded {
    Recorded {
        session,
        identity: head.identity.clone(),
        login: head.login.clone(),
        target: head.target.clone(),
        opened_ms: head.opened_wall_ms,
        closed_ms,
        standing,
        why,
    }
}
