//! Terminals' screens at segment borders, for keyframes.
//!
//! No emulator lives between segments: only its dump does, a few kilobytes.
//! The emulator runs in the sealing worker, never in the session's path.

use std::collections::BTreeMap;

use avt::Terminal;
use portcullis_recording::Event;
use portcullis_recording::segment::Screen;

/// Largest grid that is emulated; the true size is recorded beside it.
const COLS_MAX: u32 = 500;
const ROWS_MAX: u32 = 200;
/// Terminals of one session that get keyframes.
const TERMINALS_MAX: usize = 16;

#[derive(Default)]
struct Saved {
    cols: u32,
    rows: u32,
    dump: String,
    /// The first bytes of a character whose rest has not come yet.
    torn: Vec<u8>,
}

/// The saved screens of one session.
#[derive(Default)]
pub struct Screens {
    saved: BTreeMap<u32, Saved>,
    stopped: bool,
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

    /// Follows one segment's terminal output.
    pub fn follow<'t>(&mut self, outputs: impl Iterator<Item = (u64, u32, Screen<'t>)>, terminals: &[u32]) {
        if self.stopped {
            return;
        }
        let mut running: BTreeMap<u32, Terminal> = BTreeMap::new();
        for (_, channel, screen) in outputs {
            if !terminals.contains(&channel) {
                continue;
            }
            if !self.saved.contains_key(&channel) && self.saved.len() >= TERMINALS_MAX {
                continue;
            }
            let saved = self.saved.entry(channel).or_insert_with(|| Saved {
                cols: 80,
                rows: 24,
                ..Saved::default()
            });
            if let Screen::Size { cols, rows } = screen {
                saved.cols = cols.clamp(1, COLS_MAX);
                saved.rows = rows.clamp(1, ROWS_MAX);
            }
            let size = (saved.cols as usize, saved.rows as usize);
            let terminal = match running.entry(channel) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let Ok(mut terminal) = Terminal::new(size.0, size.1) else {
                        continue;
                    };
                    terminal.feed(saved.dump.as_str());
                    entry.insert(terminal)
                }
            };
            match screen {
                Screen::Size { .. } => terminal.resize(size.0, size.1),
                Screen::Bytes(bytes) => {
                    let text = decode(&mut saved.torn, bytes);
                    terminal.feed(text.as_str());
                }
            }
        }
        for (channel, terminal) in running {
            if let Some(saved) = self.saved.get_mut(&channel) {
                saved.dump = terminal.dump();
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
        let first: [(u64, u32, Screen); 2] = [
            (0, 1, Screen::Size { cols: 20, rows: 3 }),
            (1, 1, Screen::Bytes(b"hello \xe2\x82")),
        ];
        screens.follow(first.into_iter(), &[1]);
        let second: [(u64, u32, Screen); 1] = [(2, 1, Screen::Bytes(b"\xac!"))];
        screens.follow(second.into_iter(), &[1]);
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
    fn broken_characters_are_replaced() {
        let mut torn = Vec::new();
        assert_eq!(decode(&mut torn, b"a\xffb\xe2"), "a\u{fffd}b");
        assert_eq!(decode(&mut torn, b"x"), "\u{fffd}x");
    }
}
