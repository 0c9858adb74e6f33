//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What the viewer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Leave.
    Quit,
    /// Play or pause.
    Pause,
    /// Next higher speed.
    Faster,
    /// Next lower speed.
    Slower,
    /// Some seconds back.
    Back,
    /// Some seconds on.
    Forward,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// One event on, and pause.
    Step,
    /// The next terminal of the session.
    Channel,
    /// Show or hide the keys.
    Help,
}

/// How far the arrows go.
pub const SEEK_MS: u64 = 5000;

/// The keys, in one line.
pub const HELP: &str = "space pause  . step  ←/→ 5 s  home/end  +/- or >/< speed  c channel  q quit  ? close this line";

/// What a key asks for.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other key does nothing")]
pub fn act(key: KeyEvent) -> Option<Act> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if ctrl => Some(Act::Quit),
        KeyCode::Char('q') => Some(Act::Quit),
        KeyCode::Char(' ') => Some(Act::Pause),
        KeyCode::Char('+' | '=' | '>') => Some(Act::Faster),
        KeyCode::Char('-' | '<') => Some(Act::Slower),
        KeyCode::Left => Some(Act::Back),
        KeyCode::Right => Some(Act::Forward),
        KeyCode::Home => Some(Act::Home),
        KeyCode::End => Some(Act::End),
        KeyCode::Char('.') => Some(Act::Step),
        KeyCode::Char('c') => Some(Act::Channel),
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
        assert_eq!(plain(KeyCode::Left), Some(Act::Back));
        assert_eq!(plain(KeyCode::Char('x')), None);
        let ctrl = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(act(ctrl), Some(Act::Quit));
    }
}
