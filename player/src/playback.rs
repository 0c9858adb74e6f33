//! A recording being played: events become screens as the timeline says.

use std::collections::BTreeMap;

use portcullis_recording::Fault;
use portcullis_recording::event::{Event, Timed};

use crate::channels::Channels;
use crate::grid::{GRIDS_MAX, Grid, SIZE_DEFAULT, Stream};
use crate::haste::Haste;
use crate::history::Until;
use crate::plain;
use crate::source::{Cursor, Source};
use crate::timeline::Timeline;

/// Bytes drawn before the keyboard is looked at again.
const BURST_BYTES_MAX: usize = 1 << 20;
/// Events taken before that.
const BURST_EVENTS_MAX: usize = 1 << 16;
/// How long a message stays, in recording time.
const MESSAGE_MS: u64 = 6000;
/// Characters of a message.
const MESSAGE_CHARS_MAX: usize = 200;

/// One terminal and whether its picture may lack what was drawn before.
struct Drawn {
    grid: Haste,
    guessed: bool,
}

/// Everything the view needs to know.
pub struct Playback {
    cursor: Cursor,
    /// When.
    pub timeline: Timeline,
    channels: Channels,
    grids: BTreeMap<u32, Drawn>,
    channel: u32,
    length_ms: u64,
    title: String,
    message: Option<(u64, String)>,
    fault: Option<Fault>,
    ended: bool,
    /// On the way to another time.
    hurried: bool,
}

impl Playback {
    /// At the start. `channel` is the one to look at.
    pub fn new(cursor: Cursor, channels: Channels, channel: u32, timeline: Timeline) -> Playback {
        let length_ms = cursor.source().last_ms();
        Playback {
            cursor,
            timeline,
            channels,
            grids: BTreeMap::new(),
            channel,
            length_ms,
            title: String::new(),
            message: None,
            fault: None,
            ended: false,
            hurried: false,
        }
    }

    /// Who was where, for the end of the status line. Made safe to show.
    pub fn titled(mut self, title: &str) -> Playback {
        self.title = plain::line(title);
        self
    }

    /// Who was where.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Shows what has come due at the viewer's time; whether the picture may have changed.
    pub fn advance(&mut self, now_us: u64) -> bool {
        let before = self.timeline.position_ms() / 100;
        self.timeline.tick(now_us);
        let (mut bytes, mut changed) = (0, false);
        for _ in 0..BURST_EVENTS_MAX {
            let due = self.next_ms().map(|at_ms| self.timeline.due(at_ms));
            match due {
                Some(true) => bytes += self.take(),
                Some(false) => break,
                None => {
                    self.timeline.rest();
                    break;
                }
            }
            changed = true;
            if bytes > BURST_BYTES_MAX {
                break;
            }
        }
        changed || before != self.timeline.position_ms() / 100
    }

    /// Goes to a time: from the screens before it, or on from here if that is nearer.
    pub fn seek(&mut self, to_ms: u64) {
        let to_ms = to_ms.min(self.length_ms);
        let chunk = self.cursor.source().start_before(to_ms);
        if to_ms < self.timeline.position_ms() || chunk > self.cursor.chunk() {
            self.cursor.rewind_to(chunk);
            self.grids.clear();
            self.message = None;
            self.fault = None;
        }
        self.ended = false;
        self.hurried = true;
        while self.next_ms().is_some_and(|at_ms| at_ms <= to_ms) {
            self.take();
        }
        self.hurried = false;
        for drawn in self.grids.values_mut() {
            drawn.grid.grid_mut();
        }
        self.timeline.seek(to_ms);
    }

    /// Stops, and shows the next thing this channel's terminal did.
    pub fn step(&mut self) {
        self.timeline.pause();
        while let Some(at_ms) = self.next_ms() {
            let drawn = self.cursor.peek().ok().flatten().is_some_and(|next| {
                next.channel == self.channel
                    && matches!(next.event, Event::Output(_) | Event::Stderr(_) | Event::Resize { .. })
            });
            self.take();
            self.timeline.seek(at_ms);
            if drawn {
                return;
            }
        }
    }

    /// Looks at the next terminal of the session.
    pub fn next_channel(&mut self) {
        let later = self.channels.terminals().find(|n| *n > self.channel);
        let next = later.or_else(|| self.channels.terminals().next());
        self.channel = next.unwrap_or(self.channel);
    }

    /// Looks at a channel.
    pub fn look_at(&mut self, channel: u32) {
        self.channel = channel;
    }

    /// Whether a channel has a terminal.
    pub fn is_terminal(&self, channel: u32) -> bool {
        self.channels.get(channel).is_some_and(|c| c.terminal)
    }

    /// What is known of the channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// What is played.
    pub fn source(&self) -> &Source {
        self.cursor.source()
    }

    /// The moment shown, to the event.
    pub fn until(&self) -> Until {
        Until {
            at_ms: self.timeline.position_ms(),
            next: self.cursor.place(),
        }
    }

    /// The channel looked at.
    pub fn channel(&self) -> u32 {
        self.channel
    }

    /// Terminals seen so far.
    pub fn terminals(&self) -> usize {
        self.channels.terminals().count()
    }

    /// Its terminal, if it has drawn anything yet.
    pub fn grid(&self) -> Option<&Grid> {
        self.grids.get(&self.channel).map(|drawn| drawn.grid.grid())
    }

    /// Whether what was on that screen before the place that was gone to is not known.
    pub fn is_guessed(&self) -> bool {
        self.grids.get(&self.channel).is_some_and(|drawn| drawn.guessed)
    }

    /// Length of the recording.
    pub fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// Whether everything was shown.
    pub fn is_at_end(&self) -> bool {
        self.ended
    }

    /// What is wrong with the content, if reading has come upon it.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What was said lately: a notice, a marker, the end. Safe to show.
    pub fn message(&self) -> Option<&str> {
        let (until_ms, text) = self.message.as_ref()?;
        (self.ended || self.timeline.position_ms() <= *until_ms).then_some(text.as_str())
    }

    fn next_ms(&mut self) -> Option<u64> {
        if self.fault.is_some() {
            return None;
        }
        match self.cursor.peek() {
            Ok(Some(timed)) => Some(timed.at_ms),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    /// Takes one event; how many bytes it drew.
    fn take(&mut self) -> usize {
        let Ok(Some(timed)) = self.cursor.next_event() else {
            return 0;
        };
        self.channels.note(&timed);
        self.apply(&timed)
    }

    fn apply(&mut self, timed: &Timed<'_>) -> usize {
        match &timed.event {
            Event::Output(bytes) => self.draw(timed.channel, Stream::Out, bytes),
            Event::Stderr(bytes) => self.draw(timed.channel, Stream::Err, bytes),
            Event::Resize { cols, rows, .. } => {
                // Its first size is what makes a terminal, so nothing was drawn on it before.
                match self.grids.get_mut(&timed.channel) {
                    Some(drawn) => drawn.grid.grid_mut().resize(*cols, *rows),
                    None => self.put(timed.channel, Grid::new(*cols, *rows), self.cursor.chunk() > 0),
                }
                0
            }
            // Playing on from the chunk before, the screen is known better than the keyframe tells it.
            Event::Keyframe { .. } if self.grids.contains_key(&timed.channel) => 0,
            Event::Keyframe { cols, rows, dump } => {
                self.put(timed.channel, Grid::from_keyframe(*cols, *rows, dump), false);
                dump.len()
            }
            Event::Notice { bytes, .. } => self.say(timed.at_ms, "notice: ", bytes),
            Event::Marker { text } => self.say(timed.at_ms, "marker: ", text.as_bytes()),
            Event::End { code, text } => self.say(timed.at_ms, "end: ", format!("{code}: {text}").as_bytes()),
            Event::Input(_)
            | Event::SealedInput { .. }
            | Event::LineKey { .. }
            | Event::HiddenInput { .. }
            | Event::HiddenLine { .. }
            | Event::ChannelOpen { .. }
            | Event::Request { .. }
            | Event::Decision { .. }
            | Event::Withheld { .. }
            | Event::Undelivered { .. }
            | Event::Eof { .. }
            | Event::ExitStatus(_)
            | Event::ExitSignal { .. }
            | Event::ChannelClose { .. }
            | Event::ClockStep { .. }
            | Event::Accounts(_)
            | Event::Digest { .. }
            | Event::File(_)
            | Event::Command(_) => 0,
        }
    }

    fn draw(&mut self, channel: u32, stream: Stream, bytes: &[u8]) -> usize {
        if !self.channels.get(channel).is_some_and(|c| c.terminal) {
            return 0;
        }
        if !self.grids.contains_key(&channel) {
            self.put(channel, Grid::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1), true);
        }
        match self.grids.get_mut(&channel) {
            Some(drawn) if self.hurried => drawn.grid.wind(stream, bytes),
            Some(drawn) => drawn.grid.grid_mut().feed(stream, bytes),
            None => {}
        }
        bytes.len()
    }

    fn put(&mut self, channel: u32, grid: Grid, guessed: bool) {
        if self.grids.len() < GRIDS_MAX || channel == self.channel {
            let grid = Haste::new(grid);
            self.grids.insert(channel, Drawn { grid, guessed });
        }
    }

    fn say(&mut self, at_ms: u64, what: &str, bytes: &[u8]) -> usize {
        let trimmed = bytes.trim_ascii();
        let text = format!("{what}{}", plain::bytes(trimmed, MESSAGE_CHARS_MAX));
        self.message = Some((at_ms.saturating_add(MESSAGE_MS), text));
        0
    }
}
