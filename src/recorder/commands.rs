//! Commands of one session, read off each segment when it becomes a chunk:
//! in the sealing worker, with the emulators that make its keyframes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::{Direction, NoticeHow};
use portcullis_recording::limits::{
    COMMAND_CONTEXT_BYTES_MAX, COMMAND_DIRECTORY_BYTES_MAX, COMMAND_LABEL_BYTES_MAX, COMMAND_LABELS_MAX,
    COMMAND_TEXT_BYTES_MAX,
};
use portcullis_recording::{Event, Timed};

use super::programs::Programs;
use super::read_lines::{ReadLines, Typed};
use super::screens::{Running, Screens};
use super::tally::Tally;
use crate::kernel::command::{self as kernel, Finding, Keys, Reader, Shown};
use crate::kernel::labels::Labels;
use crate::kernel::remark::Remark;

/// Commands that stand behind the events of one chunk, in bytes; the rest waits for the next one.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What a command needs beside its texts, in bytes.
const COMMAND_HEAD_BYTES: usize = 64;
/// Commands that may wait for a chunk; more are counted and not told.
const WAITING_MAX: usize = 16 * 1024;
/// The action by which policy is asked about a line of a terminal.
const LINE: &str = "command";
/// What is said where the reading of terminals ends.
const STOPPED: &str = "commands typed in terminals are not told from here on: what reads them failed";
/// What is said where a terminal is not read.
const UNREAD: &str =
    "more terminals are open in this session than are read: commands typed in those opened last are not told";

/// Reads the commands of one session.
pub struct Commands {
    labels: Arc<Labels>,
    programs: Programs,
    readers: BTreeMap<u32, Box<Reader>>,
    /// Of each terminal, the line that policy was asked about last.
    asked: BTreeMap<u32, String>,
    found: VecDeque<(u32, Command<'static>)>,
    /// Commands for which there was no room.
    dropped: u64,
    tally: Tally,
    /// Open terminals that are not read, because too many are open.
    unread: BTreeSet<u32>,
    stopped: bool,
    /// What is to be said of what is not read.
    remarks: BTreeSet<&'static str>,
}

impl Commands {
    /// Of a session whose commands get these labels.
    pub fn new(labels: Arc<Labels>) -> Commands {
        Commands {
            labels,
            programs: Programs::default(),
            readers: BTreeMap::new(),
            asked: BTreeMap::new(),
            found: VecDeque::new(),
            dropped: 0,
            tally: Tally::default(),
            unread: BTreeSet::new(),
            stopped: false,
            remarks: BTreeSet::new(),
        }
    }

    /// What was counted: commands and nothing else.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes what the protocol says of a segment.
    pub fn note(&mut self, events: &[Timed<'_>]) {
        for timed in events {
            if let Some(command) = self.programs.take(timed) {
                self.tell(timed.channel, command);
            }
        }
    }

    /// Follows a segment's terminals, whose emulators it feeds.
    pub fn read(&mut self, events: &[Timed<'_>], entered: &BTreeSet<u64>, screens: &mut Screens) {
        if self.stopped {
            return;
        }
        let lines = ReadLines::of(events, entered);
        let mut terminals = screens.run();
        let mut shown: BTreeMap<u32, Shown> = BTreeMap::new();
        for (at, timed) in events.iter().enumerate() {
            self.event(at, timed, &lines, &mut terminals, &mut shown);
        }
        for (channel, output) in shown {
            self.show(channel, output, &mut terminals);
        }
        for channel in self.readers.keys().copied().collect::<Vec<_>>() {
            self.collect(channel);
        }
        terminals.save();
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are no terminal's, or of programs"
    )]
    fn event(
        &mut self,
        at: usize,
        timed: &Timed<'_>,
        lines: &ReadLines,
        terminals: &mut Running<'_>,
        shown: &mut BTreeMap<u32, Shown>,
    ) {
        let (channel, at_ms) = (timed.channel, timed.at_ms);
        if let Event::Output(bytes) = &timed.event {
            if terminals.has(channel) {
                let text = terminals.decode(channel, bytes);
                shown.entry(channel).or_default().push(at_ms, &text);
            }
            return;
        }
        let mut show = |commands: &mut Commands, terminals: &mut Running<'_>| {
            if let Some(output) = shown.remove(&channel) {
                commands.show(channel, output, terminals);
            }
        };
        match &timed.event {
            Event::Resize { cols, rows, .. } => {
                show(self, terminals);
                match terminals.resize(channel, *cols, *rows) {
                    true => {
                        self.readers.entry(channel).or_default();
                        self.unread.remove(&channel);
                    }
                    false => self.leave_unread(channel),
                }
            }
            Event::SealedInput {
                line,
                counter,
                ciphertext,
            } => {
                show(self, terminals);
                let typed = lines.piece(at, *line, *counter, ciphertext);
                let keys = match &typed {
                    Typed::Clear(bytes) => Keys::Clear(bytes),
                    Typed::Hidden { bytes, ends } => Keys::Hidden {
                        bytes: *bytes,
                        ends: *ends,
                    },
                };
                if let Some((reader, terminal)) = self.readers.get_mut(&channel).zip(terminals.terminal(channel)) {
                    reader.typed(at_ms, keys, terminal);
                }
            }
            // The gate's own keys take a line back.
            Event::Notice {
                bytes,
                how: NoticeHow::Keys,
            } => {
                show(self, terminals);
                if let Some((reader, terminal)) = self.readers.get_mut(&channel).zip(terminals.terminal(channel)) {
                    reader.typed(at_ms, Keys::Clear(bytes), terminal);
                    // They leave nothing of the line, and the next one begins with its own first key.
                    reader.forget_line();
                }
            }
            Event::Marker { text } => {
                if let Some(Remark::Hooked { nonce }) = Remark::read(text)
                    && let Some(reader) = self.readers.get_mut(&channel)
                {
                    **reader = Reader::with_hook(nonce.to_owned());
                }
            }
            Event::Request { kind, detail, .. } if kind == LINE && self.readers.contains_key(&channel) => {
                self.asked.insert(channel, String::from_utf8_lossy(detail).into_owned());
            }
            Event::Decision {
                action, allowed: false, ..
            } if action == LINE => {
                show(self, terminals);
                let text = self.asked.get(&channel).map_or("", String::as_str);
                if let Some(reader) = self.readers.get_mut(&channel) {
                    reader.refused(text);
                }
            }
            Event::Withheld {
                direction: Direction::ToTarget,
                ..
            } => {
                if let Some(reader) = self.readers.get_mut(&channel) {
                    reader.kept_back();
                }
            }
            Event::ChannelClose { .. } => {
                show(self, terminals);
                self.end(channel);
                self.unread.remove(&channel);
                terminals.end(channel);
            }
            _ => {}
        }
    }

    /// Feeds a terminal what was shown between two keys, and takes what was found.
    fn show(&mut self, channel: u32, output: Shown, terminals: &mut Running<'_>) {
        if let Some(terminal) = terminals.drawn(channel) {
            let flood = output.is_flood();
            output.draw(flood, self.readers.get_mut(&channel).map(Box::as_mut), terminal);
        }
        self.collect(channel);
    }

    /// There is no emulator left for a terminal.
    fn leave_unread(&mut self, channel: u32) {
        if self.unread.insert(channel) {
            self.tally.unread_terminal();
            self.remarks.insert(UNREAD);
        }
    }

    /// Terminals other than these are gone.
    pub fn keep(&mut self, terminals: &[u32]) {
        self.unread.retain(|channel| terminals.contains(channel));
        let gone = self.readers.keys().filter(|channel| !terminals.contains(channel));
        for channel in gone.copied().collect::<Vec<_>>() {
            self.end(channel);
        }
    }

    /// The session ends with what still runs.
    pub fn finish(&mut self, at_ms: u64) {
        self.keep(&[]);
        for (channel, command) in self.programs.finish(at_ms) {
            self.tell(channel, command);
        }
    }

    /// Terminals are not read from here on.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.remarks.insert(STOPPED);
        }
        self.stopped = true;
        self.readers.clear();
        self.asked.clear();
    }

    /// What goes behind the next chunk's events. Behind the last there is no other.
    pub fn take(&mut self, last: bool) -> Vec<(u32, Event<'static>)> {
        // They were found in the order of their ends.
        self.found
            .make_contiguous()
            .sort_by_key(|(_, command)| command.began_ms);
        let mut behind = Vec::new();
        let mut room = CHUNK_BYTES_MAX;
        while let Some(left) = self
            .found
            .front()
            .and_then(|(_, command)| room.checked_sub(weight(command)))
        {
            room = left;
            let found = self.found.pop_front();
            behind.extend(found.map(|(channel, command)| (channel, Event::Command(Box::new(command)))));
        }
        let mut remark = |text: String| behind.push((0, Event::Marker { text: text.into() }));
        for said in std::mem::take(&mut self.remarks) {
            remark(said.to_owned());
        }
        if last {
            let lost = self.dropped.saturating_add(self.found.len() as u64);
            self.found.clear();
            if lost > 0 {
                remark(format!("{lost} more commands were read than there is room for"));
            }
        }
        behind
    }

    fn end(&mut self, channel: u32) {
        if let Some(reader) = self.readers.get_mut(&channel) {
            reader.finish();
        }
        self.collect(channel);
        self.readers.remove(&channel);
        self.asked.remove(&channel);
    }

    fn collect(&mut self, channel: u32) {
        let Some(reader) = self.readers.get_mut(&channel) else {
            return;
        };
        self.dropped = self.dropped.saturating_add(reader.take_dropped());
        for finding in reader.take() {
            self.tell(channel, command(finding));
        }
    }

    fn tell(&mut self, channel: u32, mut command: Command<'static>) {
        match command.source {
            Source::Hidden => self.tally.hidden_command(),
            Source::Protocol | Source::Hook | Source::Screen | Source::Keys => {
                let labels = self.labels.of(&command.text).into_iter();
                let fit = labels.filter(|label| label.len() <= COMMAND_LABEL_BYTES_MAX);
                command.labels = fit.take(COMMAND_LABELS_MAX).map(Into::into).collect();
                self.tally.command(command.labels.iter().map(AsRef::as_ref));
            }
        }
        match self.found.len() < WAITING_MAX {
            true => self.found.push_back((channel, command)),
            false => self.dropped = self.dropped.saturating_add(1),
        }
    }
}

/// Bytes that a command takes in a chunk, at most.
fn weight(command: &Command<'_>) -> usize {
    let texts = [&command.text, &command.other, &command.context, &command.directory];
    let texts = texts.into_iter().chain(&command.labels);
    COMMAND_HEAD_BYTES + texts.map(|text| text.len() + 3).sum::<usize>()
}

/// A finding as the recording tells it, without its labels.
fn command(finding: Finding) -> Command<'static> {
    fn fit(mut text: String, most: usize) -> String {
        text.truncate(text.floor_char_boundary(most));
        text
    }
    match finding {
        Finding::Command(found) => Command {
            source: match found.source {
                kernel::Source::Protocol => Source::Protocol,
                kernel::Source::Hook => Source::Hook,
                kernel::Source::Screen => Source::Screen,
                kernel::Source::Keys => Source::Keys,
            },
            confidence: match found.confidence {
                kernel::Confidence::Medium => Confidence::Medium,
                kernel::Confidence::High => Confidence::High,
                kernel::Confidence::Exact => Confidence::Exact,
            },
            began_ms: found.at_ms,
            ended_ms: found.end_ms.max(found.at_ms),
            text: fit(found.text, COMMAND_TEXT_BYTES_MAX).into(),
            other: fit(found.other.unwrap_or_default(), COMMAND_TEXT_BYTES_MAX).into(),
            context: fit(found.context.word(), COMMAND_CONTEXT_BYTES_MAX).into(),
            directory: fit(found.directory.unwrap_or_default(), COMMAND_DIRECTORY_BYTES_MAX).into(),
            status: found.exit_status.map(u32::from),
            labels: Vec::new(),
        },
        Finding::HiddenCommand { at_ms } => Command {
            source: Source::Hidden,
            confidence: Confidence::Medium,
            began_ms: at_ms,
            ended_ms: at_ms,
            text: "".into(),
            other: "".into(),
            context: "".into(),
            directory: "".into(),
            status: None,
            labels: Vec::new(),
        },
    }
}
