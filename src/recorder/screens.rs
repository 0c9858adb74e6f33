//! Terminals' screens at segment borders, for keyframes and for who reads
//! commands off them.
//!
//! No emulator lives between segments: only its dump does, a few kilobytes.
//! The emulator runs in the sealing worker, never in the session's path.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use avt::Terminal;
use portcullis_recording::Event;

/// Largest grid that is emulated; the true size is recorded beside it.
const COLS_MAX: u32 = 500;
const ROWS_MAX: u32 = 200;
/// Terminals of one session that are emulated.
const TERMINALS_MAX: usize = 16;

struct Saved {
    cols: u32,
    rows: u32,
    dump: String,
    /// Columns and rows that the dump was drawn at.
    drawn: (u32, u32),
    /// The first bytes of a character whose rest has not come yet.
    torn: Vec<u8>,
}

/// The saved screens of one session.
#[derive(Default)]
pub struct Screens {
    saved: BTreeMap<u32, Saved>,
    stopped: bool,
}

/// The emulators of one segment.
pub struct Running<'s> {
    saved: &'s mut BTreeMap<u32, Saved>,
    stopped: bool,
    terminals: BTreeMap<u32, Terminal>,
}

impl Screens {
    /// The screens as they are now.
    pub fn keyframes(&self) -> Vec<(u32, Event<'static>)> {
        self.saved
            .iter()
            .filter(|(_, saved)| !saved.dump.is_empty())
            .map(|(channel, saved)| {
                (
                    *channel,
                    Event::Keyframe {
                        cols: saved.cols,
                        rows: saved.rows,
                        dump: saved.dump.clone().into(),
                    },
                )
            })
            .collect()
    }

    /// No keyframes from here on.
    pub fn stop(&mut self) {
        self.saved.clear();
        self.stopped = true;
    }

    /// Forgets every screen but these terminals'.
    pub fn keep(&mut self, terminals: &[u32]) {
        self.saved.retain(|channel, _| terminals.contains(channel));
    }

    /// Begins a segment. What [`Running::save`] was not called on is lost.
    pub fn run(&mut self) -> Running<'_> {
        Running {
            saved: &mut self.saved,
            stopped: self.stopped,
            terminals: BTreeMap::new(),
        }
    }
}

impl Running<'_> {
    /// Whether this channel has a terminal that is emulated.
    pub fn has(&self, channel: u32) -> bool {
        self.saved.contains_key(&channel)
    }

    /// A new size, or a new terminal; whether it is emulated. Its screen gets
    /// the size with the next output: of many sizes only the last is drawn.
    pub fn resize(&mut self, channel: u32, cols: u32, rows: u32) -> bool {
        if self.stopped || !self.has(channel) && self.saved.len() >= TERMINALS_MAX {
            return false;
        }
        let (cols, rows) = (cols.clamp(1, COLS_MAX), rows.clamp(1, ROWS_MAX));
        self.saved.entry(channel).or_insert_with(|| Saved {
            cols,
            rows,
            dump: String::new(),
            drawn: (cols, rows),
            torn: Vec::new(),
        });
        // What was saved is drawn again before it is saved at another size.
        self.terminal(channel);
        if let Some(saved) = self.saved.get_mut(&channel) {
            (saved.cols, saved.rows) = (cols, rows);
        }
        true
    }

    /// A channel's emulator, at the size that the channel has by now.
    pub fn drawn(&mut self, channel: u32) -> Option<&mut Terminal> {
        let saved = self.saved.get(&channel)?;
        let (cols, rows) = (saved.cols as usize, saved.rows as usize);
        let terminal = self.terminal(channel)?;
        if terminal.size() != (cols, rows) {
            terminal.resize(cols, rows);
        }
        Some(terminal)
    }

    /// A channel's emulator, as it was drawn last.
    pub fn terminal(&mut self, channel: u32) -> Option<&mut Terminal> {
        let saved = self.saved.get(&channel)?;
        match self.terminals.entry(channel) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => {
                let (cols, rows) = saved.drawn;
                let mut terminal = Terminal::new(cols as usize, rows as usize).ok()?;
                terminal.feed(saved.dump.as_str());
                Some(entry.insert(terminal))
            }
        }
    }

    /// A channel's output as text, with replacement characters where it is none.
    pub fn decode(&mut self, channel: u32, bytes: &[u8]) -> String {
        match self.saved.get_mut(&channel) {
            Some(saved) => decode(&mut saved.torn, bytes),
            None => String::new(),
        }
    }

    /// A channel's terminal is gone.
    pub fn end(&mut self, channel: u32) {
        self.terminals.remove(&channel);
        self.saved.remove(&channel);
    }

    /// Keeps what the screens show now.
    pub fn save(mut self) {
        for channel in self.terminals.keys().copied().collect::<Vec<_>>() {
            let dump = self.drawn(channel).map(|terminal| terminal.dump());
            if let (Some(saved), Some(dump)) = (self.saved.get_mut(&channel), dump) {
                (saved.dump, saved.drawn) = (dump, (saved.cols, saved.rows));
            }
        }
    }
}

/// UTF-8 with replacement characters, across pieces: a character torn between
/// two pieces is put together again.
fn decode(torn: &mut Vec<u8>, bytes: &[u8]) -> String {
    let mut all = std::mem::take(torn);
    all.extend_from_slice(bytes);
    let mut text = String::with_capacity(all.len());
    let mut rest = all.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => {
                let (valid, after) = rest.split_at_checked(error.valid_up_to()).unwrap_or((rest, &[]));
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    None => {
                        torn.extend_from_slice(after);
                        return text;
                    }
                    Some(bad) => {
                        text.push('\u{fffd}');
                        rest = after.get(bad..).unwrap_or_default();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_survives_the_border() {
        let mut screens = Screens::default();
        let mut show = |bytes: &[u8], size: Option<(u32, u32)>| {
            let mut running = screens.run();
            if let Some((cols, rows)) = size {
                assert!(running.resize(1, cols, rows));
            }
            let text = running.decode(1, bytes);
            running.drawn(1).unwrap().feed(text.as_str());
            running.save();
        };
        show(b"hello \xe2\x82", Some((20, 3)));
        show(b"\xac!", None);
        let frames = screens.keyframes();
        let [
            (
                1,
                Event::Keyframe {
                    cols: 20,
                    rows: 3,
                    dump,
                },
            ),
        ] = frames.as_slice()
        else {
            panic!("{frames:?}");
        };
        let mut terminal = Terminal::new(20, 3).unwrap();
        terminal.feed(dump.as_ref());
        assert_eq!(terminal.screen().line(0).unwrap().text().trim_end(), "hello \u{20ac}!");
    }

    #[test]
    fn of_many_sizes_the_last_is_drawn() {
        let mut screens = Screens::default();
        let mut running = screens.run();
        running.resize(1, 80, 24);
        running.terminal(1).unwrap().feed("hello");
        running.save();
        let mut running = screens.run();
        for cols in 20..60 {
            running.resize(1, cols, 10);
            assert_eq!(running.terminal(1).unwrap().size(), (80, 24));
        }
        running.save();
        let frames = screens.keyframes();
        assert!(matches!(
            frames.as_slice(),
            [(1, Event::Keyframe { cols: 59, rows: 10, .. })]
        ));
        assert_eq!(screens.run().terminal(1).unwrap().size(), (59, 10));
        assert_eq!(screens.run().drawn(1).unwrap().size(), (59, 10));
    }

    #[test]
    fn terminals_are_bounded() {
        let mut screens = Screens::default();
        let mut running = screens.run();
        let given = (0..40).filter(|channel| running.resize(*channel, 80, 24)).count();
        assert_eq!(given, TERMINALS_MAX);
        running.end(0);
        assert!(running.resize(99, 80, 24) && !running.has(0));
        assert!(running.terminal(0).is_none());
    }

    #[test]
    fn broken_characters_are_replaced() {
        let mut torn = Vec::new();
        assert_eq!(decode(&mut torn, b"a\xffb\xe2"), "a\u{fffd}b");
        assert_eq!(decode(&mut torn, b"x"), "\u{fffd}x");
    }
}
