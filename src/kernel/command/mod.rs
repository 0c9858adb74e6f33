//! Commands typed in terminals: an index for whoever searches, not evidence.
//!
//! Three estimators read one terminal. The **screen reader** learns the prompt
//! from what stands before the cursor at the first key of a line, and reads
//! the whole logical line at the moment the cursor leaves it, so that history,
//! completion and editing are seen as the shell saw them. The **echoed
//! keystrokes** know the text where nothing was edited, and split pastes and
//! lines typed ahead. The **shell hook**, where the gate put one there, tells
//! text, exit status and directory by itself. The reader is their arbiter.
//!
//! What was not echoed is in none of them: the screen never showed it, and the
//! keys of a hidden line are not given to the reader.

mod estimate;
mod flags;
mod grid;
mod hook;
mod hooked;
mod keys;
mod live;
mod paste;
mod prompt;
mod reader;
mod refused;
mod scroll;
mod shown;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_evasion;
mod text;
mod watch;

pub use keys::{Keys, Pressed, Typed};
pub use live::Line;
pub use paste::PasteEnd;
pub use reader::Reader;
pub use scroll::is_flood;
pub use shown::Shown;

/// Longest text of one command, in bytes; the rest is cut off.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// Who told the text of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The SSH request itself.
    Protocol,
    /// The shell, through the hook of this session.
    Hook,
    /// The line as it stood on the screen.
    Screen,
    /// The keys, all of which were echoed.
    Keys,
}

impl Source {
    /// Its word in the recording and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Source::Protocol => "protocol",
            Source::Hook => "hook",
            Source::Screen => "screen",
            Source::Keys => "keys",
        }
    }
}

/// How far the text can be relied on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Confidence {
    /// One estimator, and one that guesses.
    Medium,
    /// The screen at a prompt that is known, or the hook alone.
    High,
    /// The protocol, or screen and hook agree.
    Exact,
}

impl Confidence {
    /// Its word in the recording and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Confidence::Medium => "medium",
            Confidence::High => "high",
            Confidence::Exact => "exact",
        }
    }
}

/// What read the line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Context {
    /// The shell that the session began with.
    Shell,
    /// Another shell, behind `ssh` or the like.
    Nested,
    /// Another shell, behind `sudo`, `su` or `doas`.
    Elevated,
    /// A program with a prompt of its own, which is named.
    Repl(String),
    /// A shell in a pane of tmux or screen.
    Pane,
    /// A program that reads lines without a prompt that comes back: an answer
    /// or data more likely than a command.
    Program,
}

impl Context {
    /// Its word in the recording and on the command line.
    pub fn word(&self) -> String {
        match self {
            Context::Shell => "shell".to_owned(),
            Context::Nested => "nested".to_owned(),
            Context::Elevated => "elevated".to_owned(),
            Context::Repl(prompt) => format!("repl:{prompt}"),
            Context::Pane => "pane".to_owned(),
            Context::Program => "program".to_owned(),
        }
    }
}

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// When its Enter was typed, in session ms.
    pub at_ms: u64,
    /// When the last output before the next prompt came, in session ms.
    pub end_ms: u64,
    /// Lines of one command are joined by `\n`.
    pub text: String,
    /// What another estimator read, where it differs.
    pub other: Option<String>,
    pub source: Source,
    pub confidence: Confidence,
    pub context: Context,
    /// Told by the hook.
    pub directory: Option<String>,
    /// Told by the hook.
    pub exit_status: Option<u8>,
}

/// What the reader has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    Command(Command),
    /// Lines were run that the terminal did not show: at a shell's prompt, or
    /// several in a row, asked for by nobody, that produced output.
    HiddenCommand {
        /// When its Enter was typed, in session ms.
        at_ms: u64,
    },
}
