//! What the person in front of the demo sees: lines on standard output, and a
//! spinner on standard error during every wait.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::clean;

/// Width of a line's name.
const NAME_CHARS: usize = 8;
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Where the demo's words go. Nobody to read them is no reason to fail.
pub struct Talk;

impl Talk {
    pub fn new() -> Talk {
        Talk
    }

    pub fn say(&self, text: &str) {
        writeln!(std::io::stdout(), "{}", clean(text, usize::MAX)).ok();
    }

    pub fn line(&self, name: &str, text: &str) {
        self.say(&format!("  {name:<NAME_CHARS$} {text}"));
    }

    pub fn gap(&self) {
        self.say("");
    }

    /// Shows that it is at work until the wait is dropped.
    pub fn wait(&self, what: &str) -> Wait {
        // Hidden by itself where standard error is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TURN);
        Wait(bar)
    }

    /// The same around a piece of work.
    pub async fn during<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let _wait = self.wait(what);
        work.await
    }
}

/// A wait that is shown; gone from the screen when dropped.
pub struct Wait(ProgressBar);

impl Wait {
    /// Says something else from now on.
    pub fn now(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
