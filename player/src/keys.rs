//! What each key does: as in less and asciinema where those have a key for it.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::hunt::Way;
use crate::prompt::Purpose;

/// What the viewer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Leave.
    Quit,
    /// Close what is open: help, a search, a scroll back.
    Escape,
    /// Play or pause.
    Pause,
    /// Next higher speed.
    Faster,
    /// Next lower speed.
    Slower,
    /// Shorten pauses or do not.
    Idle,
    /// So many milliseconds on or back.
    Seek(Way, u64),
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// To this tenth of the recording.
    Tenth(u8),
    /// One event on, and pause.
    Step,
    /// The next terminal of the session.
    Channel,
    /// To a marker.
    Marker(Way),
    /// To a command.
    Command(Way),
    /// To the next hit of the search, in its own direction or the other.
    Hit(Way),
    /// Begin to type a line.
    Ask(Purpose),
    /// Rows up (back) or down.
    Scroll(Way, Amount),
    /// Show or hide the keys.
    Help,
    /// Show or hide what is known of the recording.
    About,
}

/// How far to scroll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// One row.
    Row,
    /// Half the screen.
    Half,
    /// All of it.
    Screen,
}

/// How far the arrows go.
pub const SEEK_MS: u64 = 5000;
/// How far they go with Shift or Control.
pub const SEEK_FAR_MS: u64 = 60_000;

/// The keys, and what they do.
pub const HELP: [(&str, &str); 17] = [
    ("space", "play or pause; at the end, from the start"),
    (".", "next event, and pause"),
    ("+ > / - <", "faster / slower"),
    ("s", "shorten pauses to 2 s, or not"),
    ("left right", "5 s back / on; a minute with Shift or Control"),
    ("home end", "to the start / the end; also G for the end"),
    ("0 to 9", "to that tenth of the recording"),
    ("g :", "go to a time: 90, 1:30, 50%, +30, -10, 14:05:00Z"),
    ("[ ]", "marker before / next"),
    ("{ }", "command before / next"),
    ("/", "search screens, input and events, later; a pattern as in grep -E"),
    ("r", "search back"),
    ("n N", "next hit / the one in the other direction"),
    ("up down", "scroll back and forth; also k j, page up and down, u d"),
    ("c tab", "next terminal of the session"),
    ("v / w", "verdict, signer, ledger / write this screen to a file"),
    ("esc / q / ?", "close, stop searching, scroll down / leave / this list"),
];

/// What a key asks for.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other key does nothing")]
pub fn act(key: KeyEvent) -> Option<Act> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    let far = ctrl || key.modifiers.contains(KeyModifiers::SHIFT);
    let seek_ms = if far { SEEK_FAR_MS } else { SEEK_MS };
    match key.code {
        KeyCode::Char('c') if ctrl => Some(Act::Quit),
        KeyCode::Char('b') if ctrl => Some(Act::Scroll(Way::Back, Amount::Screen)),
        KeyCode::Char('f') if ctrl => Some(Act::Scroll(Way::On, Amount::Screen)),
        KeyCode::Char('u') => Some(Act::Scroll(Way::Back, Amount::Half)),
        KeyCode::Char('d') => Some(Act::Scroll(Way::On, Amount::Half)),
        KeyCode::Char(_) if ctrl => None,
        KeyCode::Char('q') => Some(Act::Quit),
        KeyCode::Esc => Some(Act::Escape),
        KeyCode::Char(' ') => Some(Act::Pause),
        KeyCode::Char('+' | '=' | '>') => Some(Act::Faster),
        KeyCode::Char('-' | '<') => Some(Act::Slower),
        KeyCode::Char('s') => Some(Act::Idle),
        KeyCode::Left => Some(Act::Seek(Way::Back, seek_ms)),
        KeyCode::Right => Some(Act::Seek(Way::On, seek_ms)),
        KeyCode::Home => Some(Act::Home),
        KeyCode::End | KeyCode::Char('G') => Some(Act::End),
        KeyCode::Char(digit @ '0'..='9') => Some(Act::Tenth(digit as u8 - b'0')),
        KeyCode::Char('.') => Some(Act::Step),
        KeyCode::Char('c') | KeyCode::Tab => Some(Act::Channel),
        KeyCode::Char('[') => Some(Act::Marker(Way::Back)),
        KeyCode::Char(']') => Some(Act::Marker(Way::On)),
        KeyCode::Char('{') => Some(Act::Command(Way::Back)),
        KeyCode::Char('}') => Some(Act::Command(Way::On)),
        KeyCode::Char('n') => Some(Act::Hit(Way::On)),
        KeyCode::Char('N') => Some(Act::Hit(Way::Back)),
        KeyCode::Char('/') => Some(Act::Ask(Purpose::SearchOn)),
        KeyCode::Char('r') => Some(Act::Ask(Purpose::SearchBack)),
        KeyCode::Char('g' | ':') => Some(Act::Ask(Purpose::Time)),
        KeyCode::Char('w') => Some(Act::Ask(Purpose::Write)),
        KeyCode::Up | KeyCode::Char('k') => Some(Act::Scroll(Way::Back, Amount::Row)),
        KeyCode::Down | KeyCode::Char('j') => Some(Act::Scroll(Way::On, Amount::Row)),
        KeyCode::PageUp => Some(Act::Scroll(Way::Back, Amount::Screen)),
        KeyCode::PageDown => Some(Act::Scroll(Way::On, Amount::Screen)),
        KeyCode::Char('v') => Some(Act::About),
        KeyCode::Char('?') => Some(Act::Help),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let plain = |code| act(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Char('q')), Some(Act::Quit));
        assert_eq!(plain(KeyCode::Char('c')), Some(Act::Channel));
        assert_eq!(plain(KeyCode::Char('>')), Some(Act::Faster));
        assert_eq!(plain(KeyCode::Left), Some(Act::Seek(Way::Back, SEEK_MS)));
        assert_eq!(plain(KeyCode::Char('7')), Some(Act::Tenth(7)));
        assert_eq!(plain(KeyCode::Char('x')), None);
        let ctrl = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(act(ctrl), Some(Act::Quit));
        let shift = KeyEvent::new(KeyCode::Right, KeyModifiers::SHIFT);
        assert_eq!(act(shift), Some(Act::Seek(Way::On, SEEK_FAR_MS)));
    }
}
