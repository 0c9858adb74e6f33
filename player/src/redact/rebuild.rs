//! Makes the chunks anew from which something goes, and those whose first screens would still show it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use portcullis_recording::command::Command;
use portcullis_recording::event::{Event, Timed};
use portcullis_recording::limits::{
    COMMAND_CONTEXT_BYTES_MAX, COMMAND_DIRECTORY_BYTES_MAX, COMMAND_TEXT_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX,
    FILE_PATH_BYTES_MAX, FILE_WORDS_BYTES_MAX, KEYFRAME_DUMP_BYTES_MAX,
};
use portcullis_recording::moved::Moved;
use portcullis_recording::redaction::MARK;

use crate::channels::Channels;
use crate::grid::{GRIDS_MAX, Grid, SIZE_DEFAULT, Stream, clamp};
use crate::redact::choice::Choice;
use crate::redact::edits::{Edits, Spot};

/// A terminal as it was, and as the copy shows it.
struct Screens {
    real: Grid,
    redacted: Grid,
    /// Whether they may differ.
    apart: bool,
}

/// What becomes of one chunk.
pub struct Rebuilt {
    /// Its events in the copy.
    pub events: Vec<Timed<'static>>,
    /// How many places in it were changed.
    pub places: u64,
    /// How many screens at its beginning were drawn anew.
    pub screens: u64,
}

/// Goes through the chunks in order.
pub struct Rebuild<'c> {
    choice: &'c Choice,
    edits: &'c Edits,
    channels: Channels,
    screens: BTreeMap<u32, Screens>,
    /// Channels whose screen nobody knows and something went from.
    lost: BTreeSet<u32>,
    /// When the last command of a channel began: what is typed behind that may be of the next.
    since_ms: BTreeMap<u32, u64>,
}

impl<'c> Rebuild<'c> {
    /// At the beginning.
    pub fn new(choice: &'c Choice, edits: &'c Edits) -> Rebuild<'c> {
        Rebuild {
            choice,
            edits,
            channels: Channels::default(),
            screens: BTreeMap::new(),
            lost: BTreeSet::new(),
            since_ms: BTreeMap::new(),
        }
    }

    /// Takes the next chunk; `None` if it can stay as it is.
    pub fn chunk(&mut self, chunk: usize, events: Vec<Timed<'static>>) -> Option<Rebuilt> {
        let mut making = Making::default();
        let mut first = true;
        for (event, timed) in events.into_iter().enumerate() {
            let spot = Spot { chunk, event };
            first &= matches!(timed.event, Event::Keyframe { .. });
            self.channels.note(&timed);
            if let Event::Keyframe { cols, rows, dump } = &timed.event {
                let keyframe = self.keyframe(timed.channel, (*cols, *rows), dump, first);
                making.keyframe(timed, keyframe);
                continue;
            }
            if first_after(&making) {
                making.mark_screens();
            }
            let changed = self.changed(spot, &timed);
            self.draw(&timed, changed.as_ref());
            if let Event::Command(command) = &timed.event {
                self.since_ms.insert(timed.channel, command.began_ms);
            }
            making.event(timed, changed);
        }
        making.finish()
    }

    /// What an event becomes: nothing, or others; `None` if it stays.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are looked at by `words`"
    )]
    fn changed(&self, spot: Spot, timed: &Timed<'_>) -> Option<Vec<Event<'static>>> {
        if let Event::Command(command) = &timed.event {
            let since_ms = self.since_ms.get(&timed.channel).copied().unwrap_or(0);
            let typed_ms = since_ms.min(command.began_ms);
            if self.choice.concerns(timed.channel, typed_ms, command.ended_ms) {
                return Some(Vec::new());
            }
        }
        if self.choice.takes(timed) {
            return Some(match &timed.event {
                Event::Request { kind, .. } => vec![Event::Request {
                    kind: kind.clone().into_owned().into(),
                    detail: Cow::Borrowed(b""),
                    want: "".into(),
                }],
                _ => Vec::new(),
            });
        }
        let applied = |bytes: &[u8], make: fn(Vec<u8>) -> Event<'static>| {
            let bytes = self.edits.applied(spot, bytes)?;
            // Blocks are longer than what they stand for.
            Some(
                bytes
                    .chunks(EVENT_PAYLOAD_BYTES_MAX)
                    .map(|part| make(part.to_vec()))
                    .collect(),
            )
        };
        match &timed.event {
            Event::Output(bytes) => applied(bytes, |b| Event::Output(b.into())),
            Event::Stderr(bytes) => applied(bytes, |b| Event::Stderr(b.into())),
            Event::Input(bytes) => applied(bytes, |b| Event::Input(b.into())),
            event => self.words(event).map(|event| vec![event]),
        }
    }

    /// An event without words that must go.
    fn words(&self, event: &Event<'_>) -> Option<Event<'static>> {
        let mut changed = false;
        let mut text = |t: &str| match self.choice.without(t) {
            Some(new) => {
                changed = true;
                Cow::Owned(new)
            }
            None => Cow::Owned(t.to_owned()),
        };
        let new = match event {
            Event::ChannelOpen { kind, detail } => Event::ChannelOpen {
                kind: text(kind),
                detail: text(detail),
            },
            Event::Request { kind, detail, want } => Event::Request {
                kind: text(kind),
                detail: bytes(detail, &mut text),
                want: text(want),
            },
            Event::Decision {
                action,
                allowed,
                rule,
                code,
            } => Event::Decision {
                action: text(action),
                allowed: *allowed,
                rule: text(rule),
                code: text(code),
            },
            Event::Notice { bytes: b, how } => Event::Notice {
                bytes: bytes(b, &mut text),
                how: *how,
            },
            Event::Withheld { direction, bytes, why } => Event::Withheld {
                direction: *direction,
                bytes: *bytes,
                why: text(why),
            },
            Event::ExitSignal { name, core, message } => Event::ExitSignal {
                name: text(name),
                core: *core,
                message: text(message),
            },
            // What an earlier redactor left says that something is gone.
            Event::Marker { text: t } if !t.starts_with(MARK) => Event::Marker { text: text(t) },
            Event::End { code, text: t } => Event::End {
                code: text(code),
                text: text(t),
            },
            Event::File(moved) => Event::File(Box::new(Moved {
                path: cut(bytes(&moved.path, &mut text)),
                other: cut(bytes(&moved.other, &mut text)),
                words: fit(text(&moved.words), FILE_WORDS_BYTES_MAX),
                ..moved.as_ref().clone().into_owned()
            })),
            Event::Command(command) => Event::Command(Box::new(Command {
                text: fit(text(&command.text), COMMAND_TEXT_BYTES_MAX),
                other: fit(text(&command.other), COMMAND_TEXT_BYTES_MAX),
                context: fit(text(&command.context), COMMAND_CONTEXT_BYTES_MAX),
                directory: fit(text(&command.directory), COMMAND_DIRECTORY_BYTES_MAX),
                ..command.as_ref().clone().into_owned()
            })),
            Event::Output(_)
            | Event::Input(_)
            | Event::Stderr(_)
            | Event::Resize { .. }
            | Event::SealedInput { .. }
            | Event::LineKey { .. }
            | Event::HiddenInput { .. }
            | Event::HiddenLine { .. }
            | Event::Undelivered { .. }
            | Event::Eof { .. }
            | Event::ExitStatus(_)
            | Event::ChannelClose { .. }
            | Event::Keyframe { .. }
            | Event::ClockStep { .. }
            | Event::Marker { .. }
            | Event::Accounts(_)
            | Event::Digest { .. } => return None,
        };
        changed.then_some(new)
    }

    /// What a keyframe becomes: itself, another, or nothing if nobody knows what it would have to show. `first` are those
    /// that stand before everything else.
    fn keyframe(&mut self, channel: u32, (cols, rows): (u32, u32), dump: &str, first: bool) -> Keyframe {
        if !self.screens.contains_key(&channel) {
            if self.lost.contains(&channel) {
                return Keyframe::Gone;
            }
            let without = self.choice.without(dump);
            if self.screens.len() < GRIDS_MAX {
                let shown = without.as_deref().unwrap_or(dump);
                let screens = Screens {
                    real: Grid::from_keyframe(cols, rows, dump),
                    redacted: Grid::from_keyframe(cols, rows, shown),
                    apart: without.is_some(),
                };
                self.screens.insert(channel, screens);
            }
            return match without {
                Some(dump) if dump.len() <= KEYFRAME_DUMP_BYTES_MAX => Keyframe::Anew(cols, rows, dump),
                Some(_) => Keyframe::Gone,
                None => Keyframe::Stays,
            };
        }
        // What the recorder's emulator drew may hold it where ours does not.
        let holds = || {
            let screen = Grid::from_keyframe(cols, rows, dump).terminal().screen().text();
            self.choice.without(dump).is_some() || screen.iter().any(|line| self.choice.without(line).is_some())
        };
        let Some(screens) = self.screens.get_mut(&channel) else {
            return Keyframe::Stays;
        };
        if !screens.apart && !holds() {
            return Keyframe::Stays;
        }
        let dump = screens.redacted.terminal().dump();
        if screens.real.terminal().dump() == dump && !holds() {
            screens.apart = false;
            return Keyframe::Stays;
        }
        if !first || dump.len() > KEYFRAME_DUMP_BYTES_MAX {
            return Keyframe::Gone;
        }
        let (cols, rows) = screens.redacted.true_size();
        let (cols, rows) = clamp(cols, rows);
        Keyframe::Anew(cols, rows, dump)
    }

    /// Shows the event on both screens.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other events draw nothing")]
    fn draw(&mut self, timed: &Timed<'_>, changed: Option<&Vec<Event<'static>>>) {
        let channel = timed.channel;
        let terminal = self.channels.get(channel).is_some_and(|c| c.terminal);
        let room = self.screens.len() < GRIDS_MAX;
        match &timed.event {
            Event::Resize { cols, rows, .. } => match self.screens.get_mut(&channel) {
                Some(screens) => {
                    screens.real.resize(*cols, *rows);
                    screens.redacted.resize(*cols, *rows);
                }
                None if room => drop(self.screens.insert(channel, Screens::new(*cols, *rows))),
                None => {}
            },
            Event::Output(_) | Event::Stderr(_) if terminal => {
                if room && !self.screens.contains_key(&channel) {
                    let screens = Screens::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1);
                    self.screens.insert(channel, screens);
                }
                let Some(screens) = self.screens.get_mut(&channel) else {
                    self.lost.extend(changed.map(|_| channel));
                    return;
                };
                feed(&mut screens.real, &timed.event);
                match changed {
                    None => feed(&mut screens.redacted, &timed.event),
                    Some(events) => {
                        screens.apart = true;
                        events.iter().for_each(|event| feed(&mut screens.redacted, event));
                    }
                }
            }
            Event::ChannelClose { .. } => {
                self.screens.remove(&channel);
            }
            _ => {}
        }
    }
}

/// Bytes that are text are looked at as such; others stay, and the copy is searched for them once more.
/// A path that is no longer than one may be: blocks are longer than what they stand for.
fn cut(path: Cow<'static, [u8]>) -> Cow<'static, [u8]> {
    let most = path.len().min(FILE_PATH_BYTES_MAX);
    path.get(..most).unwrap_or_default().to_vec().into()
}

/// A text that is no longer than one may be.
fn fit(text: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    let most = text.floor_char_boundary(most);
    text.get(..most).unwrap_or_default().to_owned().into()
}

fn bytes(b: &[u8], text: &mut impl FnMut(&str) -> Cow<'static, str>) -> Cow<'static, [u8]> {
    match std::str::from_utf8(b) {
        Ok(t) => text(t).into_owned().into_bytes().into(),
        Err(_) => b.to_vec().into(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other events draw nothing")]
fn feed(grid: &mut Grid, event: &Event<'_>) {
    match event {
        Event::Output(bytes) => grid.feed(Stream::Out, bytes),
        Event::Stderr(bytes) => grid.feed(Stream::Err, bytes),
        _ => {}
    }
}

impl Screens {
    fn new(cols: u32, rows: u32) -> Screens {
        Screens {
            real: Grid::new(cols, rows),
            redacted: Grid::new(cols, rows),
            apart: false,
        }
    }
}

enum Keyframe {
    Stays,
    Anew(u32, u32, String),
    Gone,
}

/// The chunk's events in the copy, as far as they are made.
#[derive(Default)]
struct Making {
    events: Vec<Timed<'static>>,
    places: u64,
    screens: u64,
    marked_screens: bool,
    /// When the first screen was that is not as it was.
    first_ms: Option<u64>,
    /// Channels on which the last thing that came was changed, and is marked already.
    marked: BTreeSet<u32>,
}

/// Whether the screens are all there and not marked yet.
fn first_after(making: &Making) -> bool {
    making.screens > 0 && !making.marked_screens
}

impl Making {
    fn keyframe(&mut self, timed: Timed<'static>, keyframe: Keyframe) {
        if matches!(keyframe, Keyframe::Stays) {
            self.events.push(timed);
            return;
        }
        self.first_ms.get_or_insert(timed.at_ms);
        self.screens += 1;
        match keyframe {
            Keyframe::Anew(cols, rows, dump) => {
                let event = Event::Keyframe {
                    cols,
                    rows,
                    dump: dump.into(),
                };
                self.events.push(Timed { event, ..timed });
            }
            Keyframe::Stays | Keyframe::Gone => {}
        }
    }

    fn mark_screens(&mut self) {
        self.marked_screens = true;
        if let Some(at_ms) = self.first_ms {
            self.events.push(mark(at_ms, 0, "a screen at this time"));
        }
    }

    fn event(&mut self, timed: Timed<'static>, changed: Option<Vec<Event<'static>>>) {
        let (at_ms, channel) = (timed.at_ms, timed.channel);
        let Some(events) = changed else {
            self.marked.remove(&channel);
            self.events.push(timed);
            return;
        };
        self.places += 1;
        if self.marked.insert(channel) {
            let what = if events.is_empty() { "withheld" } else { "text" };
            self.events.push(mark(at_ms, channel, what));
        }
        let events = events.into_iter().map(|event| Timed { at_ms, channel, event });
        self.events.extend(events);
    }

    fn finish(mut self) -> Option<Rebuilt> {
        if first_after(&self) {
            self.mark_screens();
        }
        (self.places + self.screens > 0).then_some(Rebuilt {
            events: self.events,
            places: self.places,
            screens: self.screens,
        })
    }
}

fn mark(at_ms: u64, channel: u32, what: &str) -> Timed<'static> {
    let text = format!("{MARK}{what}").into();
    let event = Event::Marker { text };
    Timed { at_ms, channel, event }
}
