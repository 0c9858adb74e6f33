//! Goes through a recording and finds which bytes must go.

use std::collections::BTreeMap;

use portcullis_recording::event::{Event, Timed};

use crate::channels::Channels;
use crate::grid::{GRIDS_MAX, SIZE_DEFAULT};
use crate::redact::choice::Choice;
use crate::redact::edits::{Decoder, Edits, Spot};
use crate::redact::tape::Tape;
use crate::redact::trace::Trace;

/// Channels that are looked through apart from each other.
const CHANNELS_MAX: usize = 256;

/// What one channel has said so far.
#[derive(Default)]
struct Voice {
    output: (Decoder, Tape),
    errors: (Decoder, Tape),
    input: (Decoder, Tape),
    /// Input as it was meant: without what was taken back.
    meant: Tape,
    screen: Option<Trace>,
}

/// The search.
pub struct Search<'c> {
    choice: &'c Choice,
    channels: Channels,
    voices: BTreeMap<u32, Voice>,
    edits: Edits,
    /// Channels or terminals that were too many to be looked through.
    left_out: bool,
}

impl<'c> Search<'c> {
    /// At the beginning.
    pub fn new(choice: &'c Choice) -> Search<'c> {
        Search {
            choice,
            channels: Channels::default(),
            voices: BTreeMap::new(),
            edits: Edits::default(),
            left_out: false,
        }
    }

    /// Takes the next event.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "words of other events are looked at when they are written"
    )]
    pub fn take(&mut self, spot: Spot, timed: &Timed<'_>) {
        self.channels.note(timed);
        if self.choice.patterns.is_empty() || self.choice.takes(timed) {
            return;
        }
        if !self.voices.contains_key(&timed.channel) && self.voices.len() >= CHANNELS_MAX {
            self.left_out = true;
            return;
        }
        let terminal = self.channels.get(timed.channel).is_some_and(|c| c.terminal);
        let screens = self.voices.values().filter(|voice| voice.screen.is_some()).count();
        let (choice, edits) = (self.choice, &mut self.edits);
        let voice = self.voices.entry(timed.channel).or_default();
        let full = voice.screen.is_none() && screens >= GRIDS_MAX;
        match &timed.event {
            Event::Resize { cols, rows, .. } => match &mut voice.screen {
                Some(screen) => screen.resize(*cols, *rows),
                None if full => self.left_out = true,
                None => voice.screen = Trace::new(*cols, *rows),
            },
            Event::Keyframe { cols, rows, dump } if voice.screen.is_none() && !full => {
                voice.screen = Trace::from_keyframe(*cols, *rows, dump);
            }
            Event::Output(bytes) | Event::Stderr(bytes) => {
                if terminal && voice.screen.is_none() && !full {
                    voice.screen = Trace::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1);
                }
                let (decoder, tape) = match timed.event {
                    Event::Output(_) => &mut voice.output,
                    _ => &mut voice.errors,
                };
                let mut screen = voice.screen.as_mut().filter(|_| terminal);
                decoder.push(spot, bytes, &mut |c, origin| {
                    let text = screen
                        .as_mut()
                        .is_none_or(|screen| screen.push(c, &origin, choice, edits));
                    tape.push(c, origin, text);
                });
                if let Some(screen) = screen {
                    screen.look(choice, edits);
                }
                tape.search(choice, edits);
            }
            Event::Input(bytes) => {
                let ((decoder, tape), meant) = (&mut voice.input, &mut voice.meant);
                decoder.push(spot, bytes, &mut |c, origin| {
                    match c {
                        '\u{8}' | '\u{7f}' => meant.pop(),
                        _ => meant.push(c, origin.clone(), true),
                    }
                    tape.push(c, origin, true);
                });
                tape.search(choice, edits);
                meant.search(choice, edits);
            }
            Event::ChannelClose { .. } => {
                self.voices.remove(&timed.channel);
            }
            _ => {}
        }
    }

    /// What was found, and whether there were channels that nobody looked through.
    pub fn finish(self) -> (Edits, bool) {
        (self.edits, self.left_out)
    }
}
