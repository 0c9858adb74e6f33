//! The viewer's side of a playing recording: keys, searches, scrolling back, and what is said about it. Pure: it is told
//! keys and the time, and gives cells; only writing a screen to a file is handed to somebody else.

use crossterm::event::KeyEvent;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::find::{Query, Reading, Wanted};
use crate::history::History;
use crate::hunt::{Hunt, Step, Way};
use crate::keys::{Act, Amount, act};
use crate::moment;
use crate::plain;
use crate::playback::Playback;
use crate::prompt::{Prompt, Purpose, Typed};
use crate::source::Cursor;
use crate::times;
use crate::view;

/// What `s` shortens pauses to.
const IDLE_LIMIT_MS: u64 = 2000;
/// Characters of a hit in the line below.
const HIT_CHARS_MAX: usize = 160;

/// What is known of the recording, in words that are safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Verdict, signer, place in the ledger, in one line.
    pub badge: String,
    /// The same at length.
    pub about: Vec<String>,
    /// When the session opened.
    pub opened_wall_ms: u64,
}

/// What lies over the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// The keys.
    Help,
    /// What is known of the recording.
    About,
}

/// What the one who owns the terminal has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Leave.
    Quit,
    /// Write text to a new file, and say with [`Viewer::say`] how it went.
    Write {
        /// The name that was typed.
        name: String,
        /// What to write.
        text: String,
    },
}

/// Which search is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prey {
    Text,
    Marker,
    Command,
}

/// A recording and its viewer.
pub struct Viewer {
    /// What is played.
    pub playback: Playback,
    words: Words,
    overlay: Option<Overlay>,
    prompt: Option<Prompt>,
    /// What was said last, until the next key.
    said: Option<String>,
    text: Option<Hunt>,
    /// Which way `/` or `r` went.
    way: Way,
    markers: Option<Hunt>,
    commands: Option<Hunt>,
    hunting: Option<(Prey, u64)>,
    history: History,
    /// Rows scrolled back.
    back: usize,
    /// Rows of the screen at the last picture.
    rows: usize,
}

impl Viewer {
    /// At the start.
    pub fn new(playback: Playback, words: Words) -> Viewer {
        Viewer {
            playback,
            words,
            overlay: None,
            prompt: None,
            said: None,
            text: None,
            way: Way::On,
            markers: None,
            commands: None,
            hunting: None,
            history: History::default(),
            back: 0,
            rows: 1,
        }
    }

    /// What is known of the recording.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// What lies over the screen.
    pub fn overlay(&self) -> Option<Overlay> {
        self.overlay
    }

    /// The line being typed.
    pub fn prompt(&self) -> Option<&Prompt> {
        self.prompt.as_ref()
    }

    /// What is to be said: by the player, or by the recording.
    pub fn message(&self) -> Option<&str> {
        self.said.as_deref().or_else(|| self.playback.message())
    }

    /// Says something until the next key. Made safe to show.
    pub fn say(&mut self, text: &str) {
        self.said = Some(plain::line(text));
    }

    /// Rows scrolled back, and what they come from.
    pub fn scrolled(&self) -> (usize, &History) {
        (self.back, &self.history)
    }

    /// What is searched for, to show where it is on the screen.
    pub fn query(&self) -> Option<&Query> {
        match self.text.as_ref().map(Hunt::wanted) {
            Some(Wanted::Text(query)) => Some(query),
            Some(Wanted::Markers | Wanted::Commands) | None => None,
        }
    }

    /// Whether nothing changes until a key comes.
    pub fn is_resting(&self) -> bool {
        let p = &self.playback;
        self.hunting.is_none() && (p.timeline.is_paused() || p.is_at_end() || p.fault().is_some())
    }

    /// Whether a search is at work, so that waiting for keys would only delay it.
    pub fn is_busy(&self) -> bool {
        self.hunting.is_some()
    }

    /// Time has passed; whether the picture may have changed.
    pub fn advance(&mut self, now_us: u64) -> bool {
        let hunted = self.hunt();
        self.playback.advance(now_us) || hunted
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Option<Ask> {
        if let Some(prompt) = &mut self.prompt {
            match prompt.key(key) {
                Typed::More => {}
                Typed::Cancelled => self.prompt = None,
                Typed::Done => {
                    if let Some(prompt) = self.prompt.take() {
                        return self.typed(prompt);
                    }
                }
            }
            return None;
        }
        self.said = None;
        let act = act(key)?;
        if act == Act::Quit {
            return Some(Ask::Quit);
        }
        self.obey(act);
        None
    }

    /// Does what a key asked for.
    pub fn obey(&mut self, act: Act) {
        let p = &mut self.playback;
        let now_ms = p.timeline.position_ms();
        match act {
            Act::Help => self.toggle(Overlay::Help),
            Act::About => self.toggle(Overlay::About),
            Act::Ask(purpose) => self.prompt = Some(Prompt::new(purpose)),
            Act::Scroll(way, amount) => self.scroll(way, amount),
            Act::Marker(way) => self.begin(Prey::Marker, way, false),
            Act::Command(way) => self.begin(Prey::Command, way, false),
            Act::Hit(way) => {
                let way = match (self.way, way) {
                    (Way::On, way) => way,
                    (Way::Back, Way::On) => Way::Back,
                    (Way::Back, Way::Back) => Way::On,
                };
                self.begin(Prey::Text, way, false);
            }
            Act::Escape => {
                self.overlay = None;
                self.hunting = None;
                self.down();
            }
            Act::Pause if p.is_at_end() => {
                self.go(0);
                self.playback.timeline.play();
            }
            Act::Pause => {
                p.timeline.toggle();
                self.down();
            }
            Act::Faster => p.timeline.faster(),
            Act::Slower => p.timeline.slower(),
            Act::Idle => {
                let limit = match p.timeline.idle_limit_ms() {
                    Some(_) => None,
                    None => Some(IDLE_LIMIT_MS),
                };
                p.timeline.limit_idle(limit);
                match limit {
                    Some(ms) => self.say(&format!("pauses are shortened to {} s", ms / 1000)),
                    None => self.say("pauses last as long as they did"),
                }
            }
            Act::Seek(Way::Back, ms) => self.go(now_ms.saturating_sub(ms)),
            Act::Seek(Way::On, ms) => self.go(now_ms.saturating_add(ms)),
            Act::Home => self.go(0),
            Act::End => self.go(u64::MAX),
            Act::Tenth(n) => {
                let ms = u128::from(p.length_ms()) * u128::from(n.min(10)) / 10;
                self.go(ms as u64);
            }
            Act::Step => {
                self.down();
                self.playback.step();
            }
            Act::Channel => {
                self.down();
                self.playback.next_channel();
            }
            Act::Quit => {}
        }
    }

    /// Draws everything.
    pub fn draw(&mut self, buffer: &mut Buffer, area: Rect) {
        self.rows = usize::from(area.height.saturating_sub(1)).max(1);
        view::draw(buffer, area, self);
    }

    fn toggle(&mut self, overlay: Overlay) {
        self.overlay = if self.overlay == Some(overlay) {
            None
        } else {
            Some(overlay)
        };
    }

    fn go(&mut self, to_ms: u64) {
        self.down();
        self.playback.seek(to_ms);
    }

    /// Back to the screen; what scrolled off is looked for anew next time.
    fn down(&mut self) {
        self.back = 0;
        self.history = History::default();
    }

    fn scroll(&mut self, way: Way, amount: Amount) {
        let rows = match amount {
            Amount::Row => 1,
            Amount::Half => (self.rows / 2).max(1),
            Amount::Screen => self.rows,
        };
        self.playback.timeline.pause();
        if way == Way::On {
            self.back = self.back.saturating_sub(rows);
            return;
        }
        let wanted = self.back.saturating_add(rows);
        let hidden = self.hidden_rows();
        let p = &mut self.playback;
        let until = p.until();
        let reached = self
            .history
            .reach(p.source(), p.channel(), until, wanted.saturating_sub(hidden));
        if let Err(failure) = reached {
            self.say(&failure.message);
        }
        self.back = wanted.min(self.history.len() + hidden);
        if self.back < wanted {
            self.say("this is the first that can be shown here: go back in time for more");
        }
    }

    /// Rows of the grid that do not fit on the screen.
    fn hidden_rows(&self) -> usize {
        let grid_rows = self.playback.grid().map_or(0, |grid| grid.terminal().size().1);
        grid_rows.saturating_sub(self.rows)
    }

    fn typed(&mut self, prompt: Prompt) -> Option<Ask> {
        let Prompt { purpose, text } = prompt;
        match purpose {
            Purpose::SearchOn => self.search(&text, Way::On),
            Purpose::SearchBack => self.search(&text, Way::Back),
            Purpose::Time if text.trim().is_empty() => self.go(0),
            Purpose::Time => {
                let p = &self.playback;
                let now_ms = p.timeline.position_ms();
                match moment::parse(&text, now_ms, p.length_ms(), self.words.opened_wall_ms) {
                    Ok(to_ms) => self.go(to_ms),
                    Err(why) => self.say(&why),
                }
            }
            Purpose::Write if text.trim().is_empty() => {}
            Purpose::Write => {
                let text_of = view::text(self, self.rows);
                return Some(Ask::Write {
                    name: text.trim().to_owned(),
                    text: text_of,
                });
            }
        }
        None
    }

    /// An empty pattern is the one before. Capitals matter if there are any, as in less -i.
    fn search(&mut self, pattern: &str, way: Way) {
        self.way = way;
        if !pattern.is_empty() {
            let how = Reading {
                ignore_case: !pattern.contains(char::is_uppercase),
                literal: false,
            };
            match Query::new(pattern, how) {
                Ok(query) => self.text = self.hunter(Wanted::Text(Box::new(query))),
                Err(why) => {
                    self.say(&why);
                    return;
                }
            }
        }
        self.begin(Prey::Text, way, true);
    }

    fn hunter(&mut self, wanted: Wanted) -> Option<Hunt> {
        match self.playback.source().again() {
            Ok(source) => Some(Hunt::new(Cursor::new(source), self.playback.channels().clone(), wanted)),
            Err(failure) => {
                self.say(&failure.message);
                None
            }
        }
    }

    /// Looks for the next one from here on; for something new also at the very start, if that is here.
    fn begin(&mut self, prey: Prey, way: Way, new: bool) {
        if prey == Prey::Marker && self.markers.is_none() {
            self.markers = self.hunter(Wanted::Markers);
        }
        if prey == Prey::Command && self.commands.is_none() {
            self.commands = self.hunter(Wanted::Commands);
        }
        let from_ms = self.playback.timeline.position_ms();
        self.hunting = match self.hunt_of(prey) {
            Some(hunt) => {
                hunt.begin(Some(from_ms).filter(|ms| *ms > 0 || !new), way);
                Some((prey, from_ms))
            }
            None => {
                if prey == Prey::Text {
                    self.say("nothing is searched for: / begins a search");
                }
                None
            }
        };
    }

    fn hunt_of(&mut self, prey: Prey) -> Option<&mut Hunt> {
        match prey {
            Prey::Text => self.text.as_mut(),
            Prey::Marker => self.markers.as_mut(),
            Prey::Command => self.commands.as_mut(),
        }
    }

    /// Searches on for a short while; whether the picture may have changed.
    fn hunt(&mut self) -> bool {
        let Some((prey, from_ms)) = self.hunting else {
            return false;
        };
        let Some(step) = self.hunt_of(prey).map(Hunt::step) else {
            return false;
        };
        match step {
            Ok(Step::Searching(at_ms)) => {
                self.said = Some(format!("searching at {}; esc stops", times::clock(at_ms)));
            }
            Ok(Step::Found(hit)) => {
                self.hunting = None;
                self.playback.timeline.pause();
                self.go(hit.at_ms);
                if self.playback.is_terminal(hit.channel) {
                    self.playback.look_at(hit.channel);
                }
                let text: String = hit.text.trim().chars().take(HIT_CHARS_MAX).collect();
                self.say(&format!(
                    "{} [{}] {}: {text}",
                    times::exact(hit.at_ms),
                    hit.channel,
                    hit.place.word()
                ));
            }
            Ok(Step::Nothing) => {
                self.hunting = None;
                let what = match prey {
                    Prey::Text => "hit",
                    Prey::Marker => "marker",
                    Prey::Command => "command",
                };
                self.say(&format!("no {what} that way from {}", times::clock(from_ms)));
            }
            Err(fault) => {
                self.hunting = None;
                self.say(&format!("the search stopped: {fault}"));
            }
        }
        true
    }
}
