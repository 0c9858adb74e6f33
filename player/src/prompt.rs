//! One line that the viewer types.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Characters of it.
const CHARS_MAX: usize = 500;

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A pattern to look for, later.
    SearchOn,
    /// The same, earlier.
    SearchBack,
    /// A time to go to.
    Time,
    /// A name for a file to write the screen to.
    Write,
}

impl Purpose {
    /// What stands before the text.
    pub fn label(self) -> &'static str {
        match self {
            Purpose::SearchOn => "/",
            Purpose::SearchBack => "search back: ",
            Purpose::Time => "go to: ",
            Purpose::Write => "write this screen as text to: ",
        }
    }
}

/// A line being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// What it is for.
    pub purpose: Purpose,
    /// What was typed so far.
    pub text: String,
}

/// What a key made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// It is still being typed.
    More,
    /// It is ready.
    Done,
    /// It was given up.
    Cancelled,
}

impl Prompt {
    /// An empty line.
    pub fn new(purpose: Purpose) -> Prompt {
        Prompt {
            purpose,
            text: String::new(),
        }
    }

    /// Takes a key.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other key does nothing")]
    pub fn key(&mut self, key: KeyEvent) -> Typed {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return Typed::Cancelled,
            KeyCode::Char('c' | 'g') if ctrl => return Typed::Cancelled,
            KeyCode::Char('u') if ctrl => self.text.clear(),
            KeyCode::Enter => return Typed::Done,
            // As in less: rubbing out more than there is leaves.
            KeyCode::Backspace if self.text.pop().is_none() => return Typed::Cancelled,
            KeyCode::Char(c) if !ctrl && self.text.chars().count() < CHARS_MAX => self.text.push(c),
            _ => {}
        }
        Typed::More
    }
}
